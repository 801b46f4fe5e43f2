//! What an archive of DTR says of its replica, and how the replica is brought back by it.

use serde::{Deserialize, Serialize};

use super::DtrPart;
use crate::preset::metadata::lenient;
use crate::preset::steps::{Action, SealedArchive, Step, quoted};

/// What a restore must know of a replica.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DtrMetadata {
    /// Which half this archive is.
    #[serde(deserialize_with = "lenient")]
    pub part: Option<DtrPart>,
    /// DTR's version.
    #[serde(deserialize_with = "lenient")]
    pub version: String,
    /// The replica's id.
    #[serde(deserialize_with = "lenient")]
    pub replica: String,
    /// What it was backed up with, and is restored by.
    #[serde(deserialize_with = "lenient")]
    pub image: String,
    /// Where its images lie.
    #[serde(deserialize_with = "lenient")]
    pub storage: Storage,
    /// The volume with the images, if they are in one.
    #[serde(deserialize_with = "lenient")]
    pub volume: Option<String>,
    /// The NFS share that this volume is.
    #[serde(deserialize_with = "lenient")]
    pub nfs_url: Option<String>,
    /// UCP's address, as the backup asked it.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub ucp_url: Option<String>,
    /// The UCP administrator who asked.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub ucp_username: Option<String>,
    /// How UCP's certificate was checked.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub ucp_tls: Option<UcpTls>,
}

/// Where a replica keeps its images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// In the volume that DTR makes itself.
    #[default]
    Default,
    /// In a volume that was named to it.
    Volume,
    /// On an NFS share.
    Nfs,
    /// In no volume: in an object store.
    Elsewhere,
}

/// How UCP's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UcpTls {
    /// Against its CA's certificate.
    Ca,
    /// Not at all.
    Insecure,
}

impl DtrMetadata {
    /// What of it anybody may read: not who asks UCP, nor where.
    pub(in crate::preset) fn public(self) -> Self {
        DtrMetadata { ucp_url: None, ucp_username: None, ucp_tls: None, ..self }
    }
}

/// A replica is restored by its own image, of the same version, once UCP is there: first its images, then its metadata.
pub(in crate::preset) fn restore_steps(archives: &[(&SealedArchive, &DtrMetadata)]) -> Option<Step> {
    let part = |part| archives.iter().filter(move |(_, metadata)| metadata.part == Some(part));
    let (_, any) = part(DtrPart::Metadata).next().or(archives.first())?;
    let (image, replica, ucp) = (quoted(&any.image), quoted(&any.replica), any.ucp_words());
    let title = format!(
        "DTR {}, replica {}: after UCP, the same version; all replicas removed first",
        any.version, any.replica
    );
    let mut actions =
        vec![Action::ByHand(format!("docker run --rm -it {image} destroy{ucp}   # if it is installed"))];
    for (archive, metadata) in part(DtrPart::Images) {
        actions.extend(metadata.nfs_volume().map(Action::Shell));
        let volume = archive.record().volume.into_iter().next().unwrap_or_default();
        actions.push(archive.restore(&["--to-volume", &volume]));
    }
    for (archive, metadata) in part(DtrPart::Metadata) {
        // Both in one shell, which has the password.
        let ask = "read -rsp 'UCP password: ' UCP_PASSWORD; export UCP_PASSWORD";
        actions.push(Action::ByHand(ask.into()));
        let words = format!("restore --replica-id {replica}{ucp} {}", metadata.storage_words());
        actions.push(archive.restore_by_hand(format!("--to-run -e UCP_PASSWORD {image} {words}")));
        if metadata.storage == Storage::Elsewhere {
            let name_it = "# its images are in an object store: name that store again in DTR's settings";
            actions.push(Action::ByHand(name_it.into()));
        }
        let join = format!("docker run --rm -it {image} join{ucp}   # for each further replica");
        let download = "# then download the vulnerability database again, in DTR's settings";
        actions.extend([join, download.into()].map(Action::ByHand));
    }
    Some(Step { title, on_condition: true, actions })
}

impl DtrMetadata {
    /// How DTR's commands reach UCP, as far as the backup knew it.
    fn ucp_words(&self) -> String {
        let option = |option: &str, value: &Option<String>| match value.as_deref() {
            None | Some("") => String::new(),
            Some(value) => format!(" {option} {}", quoted(value)),
        };
        let tls = match self.ucp_tls {
            // Of the day of the restore: https://UCP/ca, held against what is known of it.
            Some(UcpTls::Ca) => " --ucp-ca \"$(cat ucp-ca.pem)\"",
            Some(UcpTls::Insecure) => " --ucp-insecure-tls",
            None => "",
        };
        [option("--ucp-url", &self.ucp_url), option("--ucp-username", &self.ucp_username), tls.into()]
            .concat()
    }

    /// Where DTR is to look for its images: the documents want one of three options, the one that fits.
    fn storage_words(&self) -> String {
        let word = |value: &Option<String>| quoted(value.as_deref().unwrap_or_default());
        match self.storage {
            Storage::Volume => format!("--dtr-storage-volume {}", word(&self.volume)),
            Storage::Nfs => format!("--nfs-storage-url {}", word(&self.nfs_url)),
            Storage::Default | Storage::Elsewhere => "--dtr-use-default-storage".into(),
        }
    }

    /// The volume must be the share again, or the images would fill this host's disk.
    fn nfs_volume(&self) -> Option<String> {
        let (server, path) = self.nfs_url.as_deref()?.strip_prefix("nfs://")?.split_once('/')?;
        let volume = quoted(self.volume.as_deref().unwrap_or_default());
        let (address, device) = (quoted(&format!("o=addr={server},rw")), quoted(&format!("device=:/{path}")));
        Some(format!("docker volume create --opt type=nfs --opt {address} --opt {device} {volume}"))
    }
}

/// As format 1 writes them.
#[cfg(test)]
pub(in crate::preset) const METADATA: &str = r#"{"dtr":{"image":"docker/dtr:2.7.5","nfs_url":null,"part":"metadata","replica":"0123456789ab","storage":"default","ucp_tls":"ca","ucp_url":"ucp.example.com","ucp_username":"admin","version":"2.7.5","volume":"dtr-registry-0123456789ab"}}"#;
#[cfg(test)]
pub(in crate::preset) const IMAGES: &str = r#"{"dtr":{"image":"docker/dtr:2.7.5","nfs_url":"nfs://nas/images","part":"images","replica":"0123456789ab","storage":"nfs","version":"2.7.5","volume":"dtr-registry-nfs-0123456789ab"}}"#;
#[cfg(test)]
pub(in crate::preset) const ELSEWHERE: &str = r#"{"dtr":{"image":"docker/dtr:2.7.5","nfs_url":null,"part":"metadata","replica":"0123456789ab","storage":"elsewhere","version":"2.7.5","volume":null}}"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset::Metadata;
    use crate::preset::steps::lines;
    use serde_json::json;

    fn read(text: &str) -> DtrMetadata {
        match Metadata::of(&serde_json::from_str(text).unwrap()) {
            Some(Metadata::Dtr(dtr)) => dtr,
            other => panic!("{other:?}"),
        }
    }

    fn archive(name: &str, volume: Option<&str>, is_clear: bool) -> SealedArchive {
        let source = volume.map_or(json!({"run": {}}), |volume| json!({"volume": [volume]}));
        SealedArchive { name: name.into(), job: "dtr".into(), source, is_clear }
    }

    #[test]
    fn what_was_written_is_read() {
        for written in [METADATA, IMAGES, ELSEWHERE] {
            assert_eq!(Metadata::Dtr(read(written)).to_json().to_string(), written);
        }
        let metadata = read(METADATA);
        assert_eq!((metadata.part, metadata.storage), (Some(DtrPart::Metadata), Storage::Default));
        assert_eq!((metadata.ucp_tls, metadata.nfs_url), (Some(UcpTls::Ca), None));
    }

    #[test]
    fn what_is_missing_or_of_another_kind_is_as_good_as_not_said() {
        let other =
            r#"{"dtr": {"version": "3", "part": "chunks", "storage": "tape", "ucp_tls": 1, "new": {}}}"#;
        assert_eq!(read(other), DtrMetadata { version: "3".into(), ..DtrMetadata::default() });
    }

    #[test]
    fn images_come_back_before_the_metadata() {
        let (metadata, images) =
            (archive("m@id", None, false), archive("i@id", Some("dtr-registry-nfs-x"), true));
        let step = restore_steps(&[(&metadata, &read(METADATA)), (&images, &read(IMAGES))]).unwrap();
        assert_eq!(
            step.title,
            "DTR 2.7.5, replica 0123456789ab: after UCP, the same version; all replicas removed first"
        );
        let ucp = "--ucp-url ucp.example.com --ucp-username admin --ucp-ca \"$(cat ucp-ca.pem)\"";
        assert_eq!(
            lines(&step),
            [
                format!("docker run --rm -it docker/dtr:2.7.5 destroy {ucp}   # if it is installed"),
                "docker volume create --opt type=nfs --opt o=addr=nas,rw --opt device=:/images dtr-registry-nfs-0123456789ab".into(),
                "RESTORE i@id --no-encrypt --to-volume dtr-registry-nfs-x".into(),
                "read -rsp 'UCP password: ' UCP_PASSWORD; export UCP_PASSWORD".into(),
                format!("RESTORE m@id --to-run -e UCP_PASSWORD docker/dtr:2.7.5 restore --replica-id 0123456789ab {ucp} --dtr-use-default-storage"),
                format!("docker run --rm -it docker/dtr:2.7.5 join {ucp}   # for each further replica"),
                "# then download the vulnerability database again, in DTR's settings".into(),
            ]
        );
        assert!(step.actions.contains(&images.restore(&["--to-volume", "dtr-registry-nfs-x"])));
    }

    #[test]
    fn without_the_metadata_what_ucp_is_asked_is_not_known() {
        let images = archive("i@id", Some("v"), false);
        let lines = lines(&restore_steps(&[(&images, &read(IMAGES))]).unwrap());
        assert_eq!(lines[0], "docker run --rm -it docker/dtr:2.7.5 destroy   # if it is installed");
        assert_eq!(lines.len(), 3);
        assert_eq!(restore_steps(&[]), None);
    }

    #[test]
    fn images_in_an_object_store_are_named_again_by_hand() {
        let metadata = archive("m@id", None, false);
        let lines = lines(&restore_steps(&[(&metadata, &read(ELSEWHERE))]).unwrap());
        assert!(lines[2].ends_with("--replica-id 0123456789ab --dtr-use-default-storage"), "{lines:?}");
        assert_eq!(lines[3], "# its images are in an object store: name that store again in DTR's settings");
    }

    #[test]
    fn dtr_finds_its_images_where_they_were() {
        let words = |storage, volume: &str, nfs_url: &str| {
            let (volume, nfs_url) = (Some(volume.into()), Some(nfs_url.into()));
            DtrMetadata { storage, volume, nfs_url, ..DtrMetadata::default() }.storage_words()
        };
        assert_eq!(words(Storage::Volume, "my images", ""), "--dtr-storage-volume 'my images'");
        assert_eq!(words(Storage::Nfs, "v", "nfs://nas/images"), "--nfs-storage-url nfs://nas/images");
        assert_eq!(words(Storage::Default, "v", ""), "--dtr-use-default-storage");
    }

    #[test]
    fn ucp_is_reached_as_the_backup_reached_it() {
        let metadata = DtrMetadata {
            ucp_url: Some("ucp example".into()),
            ucp_username: Some(String::new()),
            ucp_tls: Some(UcpTls::Insecure),
            ..DtrMetadata::default()
        };
        assert_eq!(metadata.ucp_words(), " --ucp-url 'ucp example' --ucp-insecure-tls");
        assert_eq!(metadata.public().ucp_words(), "");
        assert_eq!(read(METADATA).public().volume.as_deref(), Some("dtr-registry-0123456789ab"));
    }

    #[test]
    fn a_share_that_is_not_understood_makes_no_volume() {
        let volume =
            |url: &str| DtrMetadata { nfs_url: Some(url.into()), ..DtrMetadata::default() }.nfs_volume();
        assert_eq!(volume("nfs://nas"), None);
        assert_eq!(volume("smb://nas/x"), None);
        assert!(volume("nfs://nas/x;y").unwrap().contains("'device=:/x;y'"));
        assert_eq!(DtrMetadata::default().nfs_volume(), None);
    }
}
