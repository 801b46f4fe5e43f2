//! Docker Trusted Registry: its metadata by `docker/dtr backup`, its images from their volume, both of one replica.

use std::path::PathBuf;

use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use super::metadata::Metadata;
use super::registry::RegistryLayout;
use super::{Component, DataLocation, Preview, sibling};
use crate::archive::Format;
use crate::archive::check::Check;
use crate::docker::Engine;
use crate::docker::inspect::ContainerInfo;
use crate::docker::run::RunSpec;
use crate::error::{Context, Error, Result};
use crate::host::passphrase::{SecretName, Sources};
use crate::report::Reporter;
use crate::source::Source;

mod restore;

pub(super) use restore::restore_steps;
pub use restore::{DtrMetadata, Storage, UcpTls};

/// What the name of a replica's registry container begins with; the replica's id follows.
const REGISTRY: &str = "dtr-registry-";
/// Where the registry sees the volume that holds the images, if one does.
const STORAGE: &str = "/storage";

/// The password of a UCP user, which DTR wants for its backup.
pub const UCP_PASSWORD: SecretName = SecretName {
    name: "UCP password",
    option: "--ucp-password",
    variables: ["UCP_PASSWORD", "UCP_PASSWORD_FILE", "UCP_PASSWORD_COMMAND"],
};

/// Half of Docker Trusted Registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DtrPart {
    /// Repositories, tags, permissions, certificates: what `docker/dtr backup` writes.
    Metadata,
    /// The volume that holds the images.
    Images,
}

/// How DTR is backed up.
#[derive(Debug, Clone, Default)]
pub struct DtrOptions {
    /// One half only.
    pub only: Option<DtrPart>,
    /// The replica, where more than one runs here.
    pub replica: Option<String>,
    /// The image to back up with; otherwise that of the running replica's version.
    pub dtr_image: Option<String>,
    /// UCP's address.
    pub ucp_url: Option<String>,
    /// A UCP administrator.
    pub ucp_username: Option<String>,
    /// Where the administrator's password comes from, see [`UCP_PASSWORD`].
    pub ucp_password: Sources,
    /// The file with UCP's CA certificate, PEM.
    pub ucp_ca: Option<PathBuf>,
    /// Do not check UCP's certificate.
    pub ucp_insecure_tls: bool,
    /// Stop the replica's database during the backup.
    pub offline_backup: bool,
}

/// A replica that runs on this node.
pub(super) struct Replica {
    pub id: String,
    pub version: String,
    pub image: String,
    /// The volume with the images; none where they are in an object store.
    pub volume: Option<String>,
    /// The NFS share that this volume is.
    nfs_url: Option<String>,
}

pub(super) async fn components(
    options: &DtrOptions,
    engine: &Engine,
    ui: &Reporter,
) -> Result<Vec<Component>> {
    let replica = Replica::find(options, engine).await?;
    ui.note(&format!("DTR {}, replica {}", replica.version, replica.id));
    let mut components = Vec::new();
    if options.only != Some(DtrPart::Images) {
        if options.offline_backup {
            ui.warn("--offline-backup: this replica's database stops during the backup; take it out of the load balancer");
        }
        components.push(replica.metadata(options)?);
    }
    if options.only != Some(DtrPart::Metadata) {
        match (replica.images(), components.first_mut()) {
            (Some(images), _) => components.push(images),
            (None, Some(metadata)) => metadata.warnings.push(
                "the images lie in no volume of this replica but in an object store: they are not in this backup \
                 (--only metadata says that this is known)"
                    .into(),
            ),
            (None, None) => {
                return Err(Error::failed(format!("replica {} keeps its images in no volume", replica.id))
                    .hint("images in an object store are backed up there: copy the bucket"));
            }
        }
    }
    Ok(components)
}

pub(super) async fn preview(options: &DtrOptions, engine: &Engine) -> Result<Preview> {
    let replica = Replica::find(options, engine).await?;
    let Replica { id, version, image, .. } = &replica;
    let mut archives = Vec::new();
    let mut not_in_it = vec![
        "users, organisations and teams: they are in UCP's backup".to_string(),
        "the vulnerability database: it is downloaded again after a restore".into(),
        "certificates of others, as in /etc/docker/certs.d or at a load balancer: `sealift backup path`"
            .into(),
    ];
    match options.only {
        Some(DtrPart::Images) => not_in_it.push("the metadata: --only images".into()),
        _ => {
            let words = format!(
                "what {image} backup writes: repositories, tags, permissions, DTR's own certificates"
            );
            archives.push((
                Some("metadata"),
                words,
                DataLocation::Volumes(vec![format!("dtr-rethink-{id}")]),
            ));
        }
    }
    match (options.only, &replica.volume) {
        (Some(DtrPart::Metadata), _) => not_in_it.push("the images: --only metadata".into()),
        (_, Some(volume)) => {
            let share = replica.nfs_url.iter().map(|url| format!(" on {url}")).collect::<String>();
            let words = format!("the images: volume {volume}{share}");
            archives.push((Some("images"), words, DataLocation::Volumes(vec![volume.clone()])));
        }
        (_, None) => not_in_it.push(
            "the images: they lie in an object store; back that up there, by copying the bucket".into(),
        ),
    }
    Ok(Preview { what: format!("DTR {version}, replica {id}"), archives, not_in_it })
}

/// Asks for the password, and looks whether the rest was said.
pub(super) fn resolve_secrets(options: &mut DtrOptions) -> Result<()> {
    if options.only == Some(DtrPart::Images) {
        return Ok(());
    }
    ucp(options)?;
    options.ucp_ca.as_deref().map(certificate).transpose()?;
    options.ucp_password.known = Some(options.ucp_password.read()?);
    Ok(())
}

/// UCP's address, and who asks.
fn ucp(options: &DtrOptions) -> Result<(&str, &str)> {
    let missing = |what: &str, option: &str| {
        Error::usage(format!("DTR's backup needs {what}"))
            .hint(format!("give {option}; or put it into sealift.toml, [jobs.dtr]"))
    };
    if options.ucp_ca.is_none() && !options.ucp_insecure_tls {
        return Err(missing(
            "UCP's certificate",
            "--ucp-ca FILE (from https://UCP/ca) or --ucp-insecure-tls",
        ));
    }
    let url = options.ucp_url.as_deref().ok_or_else(|| missing("UCP's address", "--ucp-url"))?;
    let user = options.ucp_username.as_deref();
    Ok((url, user.ok_or_else(|| missing("a UCP administrator", "--ucp-username"))?))
}

fn certificate(file: &std::path::Path) -> Result<String> {
    std::fs::read_to_string(file).context(|| format!("cannot read UCP's certificate {}", file.display()))
}

impl Replica {
    pub(super) async fn find(options: &DtrOptions, engine: &Engine) -> Result<Replica> {
        let mut running = engine.containers(REGISTRY).await?;
        let id_of = |seen: &ContainerInfo| seen.name.trim_start_matches(REGISTRY).to_string();
        // Whatever else has such a name is no replica, and its image is not run.
        running.retain(|seen| is_replica(&id_of(seen)));
        let ids: Vec<_> = running.iter().map(id_of).collect();
        let found = match (&options.replica, &running[..]) {
            (Some(id), _) => running.iter().find(|seen| id_of(seen) == *id),
            (None, [only]) => Some(only),
            (None, []) => None,
            (None, _) => {
                return Err(Error::usage(format!("more than one replica runs here: {}", ids.join(", ")))
                    .hint("name one, always the same: --replica ID"));
            }
        };
        let Some(seen) = found else {
            let which = options.replica.as_ref().map_or("replica".into(), |id| format!("replica {id}"));
            let running =
                if ids.is_empty() { "none runs".into() } else { format!("{} runs", ids.join(", ")) };
            return Err(Error::failed(format!("no DTR {which} on this node: {running}"))
                .hint("run this on the node that holds the replica: `docker ps -f name=dtr-registry`"));
        };
        let version = seen.env.get("DTR_VERSION").map(String::as_str).or(seen.tag()).ok_or_else(|| {
            Error::failed(format!("{} does not say its version", seen.name))
                .hint("name it: --dtr-image docker/dtr:VERSION")
        })?;
        Ok(Replica {
            id: id_of(seen),
            image: options.dtr_image.clone().unwrap_or_else(|| sibling(&seen.image, "-registry", version)),
            version: version.into(),
            nfs_url: match seen.volumes.get(STORAGE) {
                Some(volume) => engine.nfs_url(volume).await?,
                None => None,
            },
            volume: seen.volumes.get(STORAGE).cloned(),
        })
    }

    /// What a restore must know, whichever half it is of.
    fn restore_metadata(&self, part: DtrPart) -> DtrMetadata {
        let storage = match self.volume.as_deref() {
            None => Storage::Elsewhere,
            Some(_) if self.nfs_url.is_some() => Storage::Nfs,
            Some(name) if name == format!("{REGISTRY}{}", self.id) => Storage::Default,
            Some(_) => Storage::Volume,
        };
        DtrMetadata {
            part: Some(part),
            version: self.version.clone(),
            replica: self.id.clone(),
            image: self.image.clone(),
            storage,
            volume: self.volume.clone(),
            nfs_url: self.nfs_url.clone(),
            ..DtrMetadata::default()
        }
    }

    /// The documented command line, with the password in the environment.
    fn metadata(&self, options: &DtrOptions) -> Result<Component> {
        let (url, user) = ucp(options)?;
        let words = ["backup", "--existing-replica-id", &self.id, "--ucp-url", url, "--ucp-username", user];
        let mut command: Vec<_> = words.map(String::from).into();
        let mut env = vec![format!("UCP_PASSWORD={}", options.ucp_password.read()?.expose_secret())];
        match &options.ucp_ca {
            Some(file) => env.push(format!("UCP_CA={}", certificate(file)?)),
            None => command.push("--ucp-insecure-tls".into()),
        }
        if options.offline_backup {
            command.push("--offline-backup".into());
        }
        let metadata = DtrMetadata {
            ucp_url: Some(url.into()),
            ucp_username: Some(user.into()),
            ucp_tls: Some(if options.ucp_ca.is_some() { UcpTls::Ca } else { UcpTls::Insecure }),
            ..self.restore_metadata(DtrPart::Metadata)
        };
        let spec = RunSpec { image: self.image.clone(), command, env, ..RunSpec::default() };
        Ok(Component {
            name: Some("metadata"),
            check: layout(&self.version)?,
            ..Component::new(Source::Run(Box::new(spec)), Format::Tar, Metadata::Dtr(metadata))
        })
    }

    /// The volume with the images, where they are in one.
    fn images(&self) -> Option<Component> {
        let source = Source::Volume(vec![self.volume.clone()?]);
        Some(Component {
            name: Some("images"),
            check: Check::of(RegistryLayout::default()),
            ..Component::new(source, Format::Tar, Metadata::Dtr(self.restore_metadata(DtrPart::Images)))
        })
    }
}

/// What the archive of a DTR's metadata has.
pub(super) fn layout(version: &str) -> Result<Check> {
    Check::new(&[format!("dtr-backup-v{version}/rethink/*")], 0)
}

/// Twelve hexadecimal digits.
fn is_replica(id: &str) -> bool {
    id.len() == 12 && id.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::restore::{ELSEWHERE, IMAGES, METADATA};
    use super::*;
    use crate::stream::warning::WarningKind;

    fn replica(volume: Option<&str>, nfs_url: Option<&str>) -> Replica {
        Replica {
            id: "0123456789ab".into(),
            version: "2.7.5".into(),
            image: "docker/dtr:2.7.5".into(),
            volume: volume.map(String::from),
            nfs_url: nfs_url.map(String::from),
        }
    }

    fn options() -> DtrOptions {
        DtrOptions {
            ucp_url: Some("ucp.example.com".into()),
            ucp_username: Some("admin".into()),
            ucp_password: Sources { known: Some("hidden".into()), ..Sources::of(UCP_PASSWORD) },
            ucp_insecure_tls: true,
            ..DtrOptions::default()
        }
    }

    #[test]
    fn metadata_is_written_as_it_always_was() {
        let own = replica(Some("dtr-registry-0123456789ab"), None);
        let metadata = DtrMetadata {
            ucp_url: Some("ucp.example.com".into()),
            ucp_username: Some("admin".into()),
            ucp_tls: Some(UcpTls::Ca),
            ..own.restore_metadata(DtrPart::Metadata)
        };
        assert_eq!(Metadata::Dtr(metadata).to_json().to_string(), METADATA);
        let nfs = replica(Some("dtr-registry-nfs-0123456789ab"), Some("nfs://nas/images"));
        assert_eq!(nfs.images().unwrap().metadata.to_json().to_string(), IMAGES);
        let elsewhere = replica(None, None).restore_metadata(DtrPart::Metadata);
        assert_eq!(Metadata::Dtr(elsewhere).to_json().to_string(), ELSEWHERE);
    }

    #[test]
    fn where_the_images_lie_is_told_by_their_volume() {
        let storage = |volume, nfs_url| replica(volume, nfs_url).restore_metadata(DtrPart::Images).storage;
        assert_eq!(storage(Some("dtr-registry-0123456789ab"), None), Storage::Default);
        assert_eq!(storage(Some("my-images"), None), Storage::Volume);
        assert_eq!(storage(Some("dtr-registry-0123456789ab"), Some("nfs://nas/x")), Storage::Nfs);
        assert_eq!(storage(None, None), Storage::Elsewhere);
    }

    #[test]
    fn the_password_is_in_the_environment_and_in_nothing_that_is_kept() {
        let component = replica(None, None).metadata(&options()).unwrap();
        let Source::Run(spec) = &component.source else { panic!("no container") };
        assert_eq!(spec.env, ["UCP_PASSWORD=hidden"]);
        assert_eq!(
            spec.command.join(" "),
            "backup --existing-replica-id 0123456789ab --ucp-url ucp.example.com --ucp-username admin --ucp-insecure-tls"
        );
        for kept in [component.source.describe().to_string(), component.metadata.to_json().to_string()] {
            assert!(!kept.contains("hidden"), "{kept}");
        }
        assert_eq!(component.metadata.to_json()["dtr"]["ucp_tls"], "insecure");
    }

    #[test]
    fn metadata_is_expected_to_be_of_the_replicas_version() {
        let component = replica(None, None).metadata(&options()).unwrap();
        let unmet = component.check.unmet();
        assert_eq!(unmet[0].text, "no member matches 'dtr-backup-v2.7.5/rethink/*'");
        assert_eq!((unmet.len(), unmet[0].kind), (1, WarningKind::UnmetExpectation));
    }

    #[test]
    fn images_are_expected_to_be_a_registrys() {
        let component = replica(Some("v"), None).images().unwrap();
        assert!(component.check.unmet()[0].text.starts_with("no registry's files"));
        assert!(replica(None, None).images().is_none());
    }

    #[test]
    fn what_was_not_given_is_named_with_its_option() {
        let missing = |options: DtrOptions| {
            let error = resolve_secrets(&mut options.clone()).unwrap_err();
            (error.to_string(), error.hint_text().unwrap_or_default().to_string())
        };
        let (text, hint) = missing(DtrOptions { ucp_insecure_tls: false, ..options() });
        assert_eq!(text, "DTR's backup needs UCP's certificate");
        assert!(hint.contains("--ucp-ca FILE"), "{hint}");
        let (text, hint) = missing(DtrOptions { ucp_url: None, ..options() });
        assert_eq!(text, "DTR's backup needs UCP's address");
        assert_eq!(hint, "give --ucp-url; or put it into sealift.toml, [jobs.dtr]");
        let (text, _) = missing(DtrOptions { ucp_username: None, ..options() });
        assert_eq!(text, "DTR's backup needs a UCP administrator");
    }

    #[test]
    fn images_alone_need_no_ucp() {
        let only = Some(DtrPart::Images);
        assert!(resolve_secrets(&mut DtrOptions { only, ..DtrOptions::default() }).is_ok());
        assert!(resolve_secrets(&mut options()).is_ok());
    }

    #[test]
    fn replicas_have_twelve_hexadecimal_digits() {
        assert!(is_replica("0123456789ab"));
        for other in ["", "0123456789a", "0123456789abc", "0123456789AB", "0123456789ag"] {
            assert!(!is_replica(other), "{other}");
        }
    }
}
