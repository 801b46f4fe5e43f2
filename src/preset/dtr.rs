//! Docker Trusted Registry: its metadata by `docker/dtr backup`, its images from their volume, both of one replica.

use secrecy::ExposeSecret;
use serde_json::json;

use super::{DataLocation, Part, Preview, sibling};
use crate::archive::Format;
use crate::archive::check::Check;
use crate::cli::{DtrOptions, DtrPart};
use crate::docker::Engine;
use crate::docker::inspect::ContainerInfo;
use crate::docker::run::RunSpec;
use crate::error::{Context, Error, Result};
use crate::report::Reporter;
use crate::source::Source;

/// What the name of a replica's registry container begins with; the replica's id follows.
const REGISTRY: &str = "dtr-registry-";
/// Where the registry sees the volume that holds the images, if one does.
const STORAGE: &str = "/storage";

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

pub(super) async fn parts(options: &DtrOptions, engine: &Engine, ui: &Reporter) -> Result<Vec<Part>> {
    let replica = Replica::find(options, engine).await?;
    ui.note(&format!("DTR {}, replica {}", replica.version, replica.id));
    let mut parts = Vec::new();
    if options.only != Some(DtrPart::Images) {
        if options.offline_backup {
            ui.warn("--offline-backup: this replica's database stops during the backup; take it out of the load balancer");
        }
        parts.push(replica.metadata(options)?);
    }
    if options.only != Some(DtrPart::Metadata) {
        match (replica.images(), parts.first_mut()) {
            (Some(part), _) => parts.push(part),
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
    Ok(parts)
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
pub(super) fn settle(options: &mut DtrOptions) -> Result<()> {
    if options.only == Some(DtrPart::Images) {
        return Ok(());
    }
    ucp(options)?;
    options.ucp_ca.as_deref().map(certificate).transpose()?;
    options.known_password = Some(options.password().read()?);
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

    fn facts(&self, part: &str) -> serde_json::Value {
        let storage = match self.volume.as_deref() {
            None => "elsewhere",
            Some(_) if self.nfs_url.is_some() => "nfs",
            Some(name) if name == format!("{REGISTRY}{}", self.id) => "default",
            Some(_) => "volume",
        };
        json!({"dtr": {
            "part": part, "version": self.version, "replica": self.id, "image": self.image,
            "storage": storage, "volume": self.volume, "nfs_url": self.nfs_url,
        }})
    }

    /// The documented command line, with the password in the environment.
    fn metadata(&self, options: &DtrOptions) -> Result<Part> {
        let (url, user) = ucp(options)?;
        let words = ["backup", "--existing-replica-id", &self.id, "--ucp-url", url, "--ucp-username", user];
        let mut command: Vec<_> = words.map(String::from).into();
        let mut env = vec![format!("UCP_PASSWORD={}", options.password().read()?.expose_secret())];
        match &options.ucp_ca {
            Some(file) => env.push(format!("UCP_CA={}", certificate(file)?)),
            None => command.push("--ucp-insecure-tls".into()),
        }
        if options.offline_backup {
            command.push("--offline-backup".into());
        }
        let mut facts = self.facts("metadata");
        facts["dtr"]["ucp_url"] = url.into();
        facts["dtr"]["ucp_username"] = user.into();
        facts["dtr"]["ucp_tls"] = if options.ucp_ca.is_some() { "ca" } else { "insecure" }.into();
        let spec = RunSpec { image: self.image.clone(), command, env, ..RunSpec::default() };
        Ok(Part {
            name: Some("metadata"),
            check: Check::new(&[format!("dtr-backup-v{}/rethink/*", self.version)], 0)?,
            ..Part::new(Source::Run(Box::new(spec)), Format::Tar, facts)
        })
    }

    /// The volume with the images, where they are in one.
    fn images(&self) -> Option<Part> {
        let source = Source::Volume(vec![self.volume.clone()?]);
        Some(Part {
            name: Some("images"),
            check: Check::registry(),
            ..Part::new(source, Format::Tar, self.facts("images"))
        })
    }
}

/// Twelve hexadecimal digits.
fn is_replica(id: &str) -> bool {
    id.len() == 12 && id.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}
