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

mod command;
mod content;
mod engine;
mod gnutar;
mod named;
mod roots;
mod said;
mod scan;
mod volume;
mod words;

pub use content::ContentReader;
pub use engine::StopEngine;
pub use named::{NameSender, NamedFiles, Prepared};
pub use roots::{FileFilter, StoreFolder, Walk};
pub use scan::{Ahead, Scan, Scanned};
pub use words::{besides, in_words};

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
    /// The stdout of a command of this host, with its arguments.
    Command(Vec<String>),
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
            Source::Run(_) | Source::Exec { .. } | Source::Command(_) | Source::Stdin => None,
        }
    }

    /// Whether GNU tar writes it for us, and fills its last record up with zeros.
    pub fn is_padded(&self) -> bool {
        matches!(self, Source::Volume(_) | Source::Path(_) | Source::Folder { .. })
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
        !matches!(self, Source::Command(_) | Source::Path(_) | Source::Folder { .. } | Source::Stdin)
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
            Source::Command(words) => {
                let name = words.first().and_then(|program| std::path::Path::new(program).file_name());
                name.map(|name| name.to_string_lossy().into_owned())
            }
            Source::Volume(names) => one(names),
            Source::Image(names) => one(names).map(|name| tagged_name(&name)),
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

    /// What tells it from other sources: a digest of its kind, its host and its place there, of which nothing is told.
    /// None for what has no place (standard input) or is found by a preset.
    ///
    /// A version is not part of a container's image here: the next one backs the same thing up.
    pub fn identity(&self, host: Option<&str>) -> Option<String> {
        let sorted = |mut parts: Vec<Vec<u8>>| {
            parts.sort();
            parts.dedup();
            parts
        };
        let bytes = |texts: &[String]| texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>();
        let (kind, host, parts) = match self {
            Source::Run(spec) => {
                let name = spec.name.clone().unwrap_or_default();
                let own = [vec![name, repository(&spec.image).into()], spec.command.clone()].concat();
                ("run", host, bytes(&own))
            }
            Source::Exec { container, command } => {
                ("exec", host, bytes(&[vec![container.clone()], command.clone()].concat()))
            }
            Source::Command(words) => ("command", host, bytes(words)),
            Source::Volume(names) => ("volume", host, sorted(bytes(names))),
            // An image is the same one on every host.
            Source::Image(names) => {
                let names: Vec<_> = names.iter().map(|name| with_tag(name)).collect();
                ("image", None, sorted(bytes(&names)))
            }
            Source::Path(dirs) => ("path", host, sorted(dirs.iter().map(|dir| real_path(dir)).collect())),
            Source::Folder { .. } | Source::UnlockKey | Source::Stdin => return None,
        };
        let mut digest = blake3::Hasher::new();
        for part in [kind.as_bytes(), host.unwrap_or_default().as_bytes()]
            .into_iter()
            .chain(parts.iter().map(Vec::as_slice))
        {
            digest.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        Some(digest.finalize().to_hex().to_string())
    }

    /// What the catalog says of it: enough to do it again, and no secret.
    pub fn describe(&self) -> serde_json::Value {
        use serde_json::json;
        match self {
            Source::Run(spec) => spec.describe(),
            Source::Exec { container, command } => {
                json!({"exec": {"container": container, "command": command}})
            }
            Source::Command(words) => json!({"command": words}),
            Source::Volume(names) => json!({"volume": names}),
            Source::Image(names) => json!({"image": names}),
            Source::Path(dirs) => json!({"path": dirs}),
            Source::Folder { below, name, .. } => json!({"folder": {"below": below, "name": name}}),
            Source::UnlockKey => json!({"unlock_key": {}}),
            Source::Stdin => json!({"stdin": {}}),
        }
    }

    /// Whether its files may be looked at one by one before they are read; for volumes, only [`Source::scan`] knows.
    pub fn can_be_scanned(&self) -> bool {
        matches!(self, Source::Path(_) | Source::Volume(_))
    }

    /// Prepares a scan of its files, from which it is then chosen what is read; none, and a detail that says why, where
    /// they cannot be scanned: then [`Source::open`] is the only way.
    ///
    /// # Errors
    /// As [`Source::open`].
    pub async fn scan(
        &self,
        engine: Option<&Engine>,
        walk: &Walk,
        ui: &Reporter,
    ) -> Result<Option<Prepared>> {
        match self {
            Source::Path(dirs) => named::prepare(None, dirs, walk, ui).await,
            Source::Volume(names) => {
                let engine = engine.ok_or_else(|| Error::failed("this source needs the Docker Engine"))?;
                match volume::folder(engine, names).await? {
                    Some((folder, members)) => named::prepare(Some(&folder), &members, walk, ui).await,
                    None => {
                        ui.detail("the volume's folder cannot be read here: its files cannot be scanned");
                        Ok(None)
                    }
                }
            }
            _ => {
                ui.detail("this source is a stream: it has no files that could be scanned");
                Ok(None)
            }
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
            Source::Command(words) => command::open(&words, ui, stop),
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

/// The one true path of a folder, as far as it is there.
fn real_path(dir: &str) -> Vec<u8> {
    let path = std::fs::canonicalize(dir).or_else(|_| std::path::absolute(dir));
    path.map_or_else(|_| dir.into(), |path| path.into_os_string().into_encoded_bytes())
}

/// An image's reference without tag and digest.
fn repository(reference: &str) -> &str {
    let name = reference.split('@').next().unwrap_or_default();
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    name[last..].find(':').map_or(name, |colon| &name[..last + colon])
}

/// An image's reference with the tag that is meant where none is written.
fn with_tag(reference: &str) -> String {
    match repository(reference) == reference {
        true => format!("{reference}:latest"),
        false => reference.into(),
    }
}

/// `registry:5000/docker/dtr:2.7` → `docker/dtr-2.7`: another tag is another image.
fn tagged_name(reference: &str) -> String {
    let tag = reference.split('@').next().unwrap_or_default().strip_prefix(repository(reference));
    let tag = tag.and_then(|tag| tag.strip_prefix(':')).filter(|tag| *tag != "latest");
    let name = image_name(reference);
    tag.map_or(name.clone(), |tag| format!("{name}-{tag}"))
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
        assert_eq!(job(Source::Image(vec!["docker/dtr:2.7".into()])).as_deref(), Some("docker/dtr-2.7"));
        assert_eq!(job(Source::Image(vec!["docker/dtr:latest".into()])).as_deref(), Some("docker/dtr"));
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
    fn sources_of_one_name_are_told_apart() {
        let text = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
        let exec = |command: &[&str]| Source::Exec { container: "db".into(), command: text(command) };
        let run = |image: &str| Source::Run(Box::new(RunSpec { image: image.into(), ..RunSpec::default() }));
        let all = [
            Source::Volume(text(&["Data"])),
            Source::Volume(text(&["data"])),
            Source::Volume(text(&["a", "b"])),
            Source::Volume(text(&["ab"])),
            Source::Image(text(&["docker/dtr:2.7"])),
            Source::Image(text(&["docker/dtr:2.8"])),
            Source::Image(text(&["r.example:5000/docker/dtr:2.8"])),
            Source::Image(text(&["bb"])),
            run("bb"),
            Source::Path(text(&["/a/data"])),
            Source::Path(text(&["/b/data"])),
            exec(&["pg_dump", "a"]),
            exec(&["pg_dump", "b"]),
        ];
        let ids: Vec<_> = all.iter().map(|source| source.identity(Some("h")).unwrap()).collect();
        for (i, id) in ids.iter().enumerate() {
            assert_eq!(ids.iter().position(|other| other == id), Some(i), "{:?}", all[i]);
        }
        let of = |source: &Source, host: &str| source.identity(Some(host));
        assert_ne!(of(&all[0], "h"), of(&all[0], "other"));
        assert_eq!(of(&all[4], "h"), of(&all[4], "other"), "an image is the same one everywhere");
        for stdin in [Source::Stdin, Source::UnlockKey] {
            assert_eq!(of(&stdin, "h"), None);
        }
    }

    #[test]
    fn one_source_written_in_two_ways_stays_one() {
        let id = |source: Source| source.identity(Some("h"));
        let path = |dirs: &[&str]| id(Source::Path(dirs.iter().map(|dir| dir.to_string()).collect()));
        assert_eq!(path(&["/usr/"]), path(&["/usr/bin/.."]));
        assert_eq!(path(&["/usr", "/etc"]), path(&["/etc", "/usr"]));
        let image = |name: &str| id(Source::Image(vec![name.into()]));
        assert_eq!(image("bb"), image("bb:latest"));
        let run =
            |image: &str| id(Source::Run(Box::new(RunSpec { image: image.into(), ..RunSpec::default() })));
        assert_eq!(run("postgres:16"), run("postgres:17"));
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
    async fn folders_can_be_scanned_and_streams_cannot() {
        let (walk, ui) = (Walk::default(), Reporter::silent());
        let dir = tempfile::tempdir().unwrap();
        let path = Source::Path(vec![dir.path().display().to_string()]);
        let prepared = path.scan(None, &walk, &ui).await.unwrap().unwrap();
        assert!(path.can_be_scanned() && prepared.scan.count() == 1);
        assert!(
            !Source::Stdin.can_be_scanned() && Source::Stdin.scan(None, &walk, &ui).await.unwrap().is_none()
        );
        let volume = Source::Volume(vec!["v".into()]);
        assert!(volume.can_be_scanned() && volume.scan(None, &walk, &ui).await.is_err());
    }

    #[tokio::test]
    async fn an_engines_source_without_an_engine_is_refused() {
        let (ui, stop) = (Reporter::silent(), CancellationToken::new());
        let error = Source::UnlockKey.open(None, &Walk::default(), &ui, &stop).await.err().unwrap();
        assert_eq!(error.to_string(), "this source needs the Docker Engine");
    }
}
