//! Where bytes come from. A source ends with a proof or with a failure; EOF alone is neither.

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::archive::Format;
use crate::archive::check::Check;
use crate::archive::name::JobName;
use crate::docker::Engine;
use crate::docker::run::RunSpec;
use crate::docker::saved::SavedImages;
use crate::error::{Error, Result};
use crate::report::Reporter;
use crate::stream::source::{ByteStream, Proof, Running};

mod engine;
mod gnutar;
mod roots;
mod said;
mod volume;

pub use engine::StopEngine;
pub use roots::{FileFilter, StoreFolder, Walk};

/// Where a backup's bytes come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// The stdout of a new container.
    Run(Box<RunSpec>),
    /// The stdout of a command in a running container.
    Exec {
        /// The container.
        container: String,
        /// The command and its arguments.
        command: Vec<String>,
    },
    /// The files of volumes.
    Volume(Vec<String>),
    /// Images, as the engine exports them.
    Image(Vec<String>),
    /// Folders of this host.
    Path(Vec<String>),
    /// A folder of the engine's own, its members beginning with the folder's name.
    Folder {
        /// Where the folder lies.
        below: std::path::PathBuf,
        /// Its name.
        name: String,
        /// Read it while the engine is stopped.
        stop: Option<StopEngine>,
    },
    /// The key that unlocks the swarm.
    UnlockKey,
    /// Our own standard input.
    Stdin,
}

impl Source {
    /// Its format, where that is known before the first byte.
    pub fn format(&self) -> Option<Format> {
        match self {
            Source::Volume(_) | Source::Image(_) | Source::Path(_) | Source::Folder { .. } => {
                Some(Format::Tar)
            }
            Source::UnlockKey => Some(Format::Raw),
            Source::Run(_) | Source::Exec { .. } | Source::Stdin => None,
        }
    }

    /// What its members must be by nature.
    pub fn check(&self) -> Check {
        match self {
            Source::Image(_) => Check::of(SavedImages::default()),
            _ => Check::default(),
        }
    }

    /// Whether it needs the Docker Engine.
    pub fn needs_engine(&self) -> bool {
        !matches!(self, Source::Path(_) | Source::Folder { .. } | Source::Stdin)
    }

    /// The job name used when none is given.
    pub fn default_job(&self) -> Option<String> {
        let one = |names: &[String]| match names {
            [name] => Some(name.clone()),
            _ => None,
        };
        let name = match self {
            Source::Run(spec) => Some(spec.name.clone().unwrap_or_else(|| image_name(&spec.image))),
            Source::Exec { container, .. } => Some(container.clone()),
            Source::Volume(names) => one(names),
            Source::Image(names) => one(names).map(|name| image_name(&name)),
            Source::Path(dirs) => one(dirs).and_then(|dir| {
                let dir = std::path::absolute(dir).ok()?;
                Some(dir.file_name()?.to_string_lossy().into_owned())
            }),
            Source::Folder { name, .. } => Some(name.clone()),
            Source::UnlockKey => Some("unlock-key".into()),
            Source::Stdin => None,
        };
        JobName::from_source(&name?).map(String::from)
    }

    /// What the catalog says of it: enough to do it again, and no secret.
    pub fn describe(&self) -> serde_json::Value {
        use serde_json::json;
        match self {
            Source::Run(spec) => spec.describe(),
            Source::Exec { container, command } => {
                json!({"exec": {"container": container, "command": command}})
            }
            Source::Volume(names) => json!({"volume": names}),
            Source::Image(names) => json!({"image": names}),
            Source::Path(dirs) => json!({"path": dirs}),
            Source::Folder { below, name, .. } => json!({"folder": {"below": below, "name": name}}),
            Source::UnlockKey => json!({"unlock_key": {}}),
            Source::Stdin => json!({"stdin": {}}),
        }
    }

    /// Starts it. Its bytes must be read; `stop` ends it early and leaves nothing behind. `walk` says which files of
    /// folders and volumes are taken.
    ///
    /// # Errors
    /// What is missing: the volume, the image, the container, GNU tar.
    pub async fn open(
        self,
        engine: Option<&Engine>,
        walk: &Walk,
        ui: &Reporter,
        stop: &CancellationToken,
    ) -> Result<Running> {
        let engine = || engine.ok_or_else(|| Error::failed("this source needs the Docker Engine"));
        match self {
            Source::Run(spec) => engine()?.run(*spec, ui, stop).await,
            Source::Exec { container, command } => engine()?.exec(&container, command, ui, stop).await,
            Source::Volume(names) => volume::open(engine()?, &names, walk, ui, stop).await,
            Source::Image(names) => engine()?.export(&names, stop).await,
            Source::Path(dirs) => gnutar::folders(&dirs, walk, ui, stop).await,
            Source::Folder { below, name, stop: engine } => {
                engine::folder(&below, &name, engine, walk, ui, stop).await
            }
            Source::UnlockKey => Ok(engine()?.send_unlock_key()),
            Source::Stdin => Ok(stdin()),
        }
    }
}

/// `registry:5000/docker/dtr:2.7` → `docker/dtr`
fn image_name(reference: &str) -> String {
    let name = reference.split('@').next().unwrap_or_default();
    let (folder, last) = name.rsplit_once('/').map_or(("", name), |(folder, last)| (folder, last));
    let last = last.split(':').next().unwrap_or_default();
    let folder = match folder.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) => rest,
        None if folder.contains(['.', ':']) => "",
        _ => folder,
    };
    if folder.is_empty() { last.into() } else { format!("{folder}/{last}") }
}

fn stdin() -> Running {
    let (prove, proof) = oneshot::channel();
    let note = "the end of standard input cannot be proved unless it is a tar".to_string();
    let _ = prove.send(Ok(Proof { unproved: vec![note], ..Proof::default() }));
    let stream = ByteStream::from_reader(std::io::stdin(), proof);
    Running { stream, cleanup: tokio::spawn(async {}) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_named_after_their_source() {
        let job = |source: Source| source.default_job();
        assert_eq!(job(Source::Volume(vec!["DB_Data".into()])).as_deref(), Some("db_data"));
        assert_eq!(job(Source::Image(vec!["docker/dtr:2.7".into()])).as_deref(), Some("docker/dtr"));
        assert_eq!(
            job(Source::Image(vec!["127.0.0.1:5000/team/app@sha256:00".into()])).as_deref(),
            Some("team/app")
        );
        assert_eq!(job(Source::Path(vec!["/srv/data/".into()])).as_deref(), Some("data"));
        assert_eq!(job(Source::Path(vec!["/".into()])), None);
        assert_eq!(job(Source::Volume(vec!["a".into(), "b".into()])), None);
    }

    #[test]
    fn an_images_name_loses_registry_tag_and_digest() {
        for (reference, name) in [
            ("busybox", "busybox"),
            ("busybox:1", "busybox"),
            ("docker/dtr:2.7", "docker/dtr"),
            ("registry:5000/app", "app"),
            ("registry.example/team/app:v1", "team/app"),
            ("localhost/app", "localhost/app"),
            ("team/app@sha256:00", "team/app"),
            ("", ""),
        ] {
            assert_eq!(image_name(reference), name, "{reference}");
        }
    }

    #[test]
    fn only_what_is_surely_a_tar_is_called_one() {
        let volume = Source::Volume(vec!["v".into()]);
        assert_eq!((volume.format(), volume.needs_engine()), (Some(Format::Tar), true));
        let path = Source::Path(vec!["/x".into()]);
        assert_eq!((path.format(), path.needs_engine()), (Some(Format::Tar), false));
        assert_eq!((Source::Stdin.format(), Source::Stdin.needs_engine()), (None, false));
        assert_eq!(Source::UnlockKey.format(), Some(Format::Raw));
    }

    #[tokio::test]
    async fn an_engines_source_without_an_engine_is_refused() {
        let (ui, stop) = (Reporter::silent(), CancellationToken::new());
        let error = Source::UnlockKey.open(None, &Walk::default(), &ui, &stop).await.err().unwrap();
        assert_eq!(error.to_string(), "this source needs the Docker Engine");
    }
}
