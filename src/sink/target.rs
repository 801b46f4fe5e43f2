//! Where restored bytes are put, and what they are not put into.

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::landing::{Landing, TargetIds};
use crate::docker::run::RunSpec;
use crate::docker::{Engine, Volume};
use crate::error::{Error, Kind, Result};
use crate::report::{Reporter, printable};
use crate::stream::sink::Sink;
use crate::tar::gnu;

use super::EarlyEnd;

/// Where restored bytes go.
#[derive(Debug, Clone)]
pub enum RestoreTarget {
    /// Our own standard output.
    Stdout,
    /// A folder of this host, into which a tar is unpacked.
    Path(PathBuf),
    /// A volume, which is made when it is not there.
    Volume(String),
    /// Each volume of an archive, under its own name.
    Volumes,
    /// The stdin of a new container.
    Run(Box<RunSpec>),
    /// The stdin of a command in a running container: the container, the command.
    Exec(String, Vec<String>),
    /// The engine's images.
    Image,
}

impl std::fmt::Display for RestoreTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RestoreTarget::Stdout => f.write_str("stdout"),
            RestoreTarget::Path(dir) => write!(f, "{}", printable(&dir.display().to_string())),
            RestoreTarget::Volume(volume) => write!(f, "volume {volume}"),
            RestoreTarget::Volumes => f.write_str("its volumes"),
            RestoreTarget::Run(spec) => write!(f, "a container of {}", spec.image),
            RestoreTarget::Exec(container, _) => write!(f, "container {container}"),
            RestoreTarget::Image => f.write_str("the engine's images"),
        }
    }
}

impl RestoreTarget {
    /// Whether members are unpacked there, so that their names matter.
    pub fn unpacks(&self) -> bool {
        matches!(self, RestoreTarget::Path(_) | RestoreTarget::Volume(_) | RestoreTarget::Volumes)
    }

    /// Whether it takes nothing but a tar.
    pub fn needs_tar(&self) -> bool {
        self.unpacks() || matches!(self, RestoreTarget::Image)
    }
}

/// What a restore would meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It would be made.
    Missing,
    /// There is nothing in it.
    Empty,
    /// There is something in it.
    Filled,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            State::Missing => "missing",
            State::Empty => "empty",
            State::Filled => "not empty",
        })
    }
}

/// Looks at a folder or volume without changing anything; none where it is something else, or cannot be looked into from here.
///
/// # Errors
/// It could not be restored to: a folder's parent is missing, the engine does not answer.
pub async fn look(to: &RestoreTarget) -> Result<Option<State>> {
    let folder = match to {
        RestoreTarget::Path(dir) => {
            gnu::require().await?;
            if !dir.exists() && !parent(dir).is_dir() {
                return Err(cannot_make(dir));
            }
            dir.clone()
        }
        RestoreTarget::Volume(name) => {
            let engine = Engine::connect().await?;
            match engine.volume_if_any(name).await? {
                None => return Ok(Some(State::Missing)),
                Some(volume) if is_here(&engine, &volume) => volume.mountpoint,
                Some(_) => return Ok(None),
            }
        }
        _ => return Ok(None),
    };
    Ok(Some(match folder.exists() {
        false => State::Missing,
        true if is_empty(&folder)? => State::Empty,
        true => State::Filled,
    }))
}

/// Has `write` fill the sink, and waits for its own end: an exit code.
///
/// # Errors
/// The sink was broken off, and has cleaned up. Of all failures the cause is returned.
pub async fn fill(
    mut sink: Sink,
    cancel: &CancellationToken,
    write: impl AsyncFnOnce(&Sink) -> Result<()>,
) -> Result<i64> {
    let work = async {
        match write(&sink).await {
            Ok(()) => sink.finish().await,
            // The sink has ended before its time and knows why.
            Err(echo) if echo.kind() == Kind::Disconnected => sink.finish().await.and_then(early),
            Err(error) => Err(error),
        }
    };
    let ended = tokio::select! {
        ended = work => ended,
        () = cancel.cancelled() => Err(Error::interrupted()),
    };
    match ended {
        Ok(code) => Ok(code),
        Err(error) => Err(sink.fail(error).await),
    }
}

/// A process that read no further, and says that all is well or not.
fn early(code: i64) -> Result<i64> {
    match code {
        0 => Err(Error::failed("the process ended before it had read everything")),
        code => Ok(code),
    }
}

/// Opens a sink, and what watches over the folder that members are unpacked into, if it is one. `original` says, of the
/// volume to restore to, below which name its files lie in the archive.
///
/// # Errors
/// The target is not there, cannot be written to, or is not empty and not to be overwritten.
pub async fn open(
    to: RestoreTarget,
    original: impl Fn(&str) -> Result<String>,
    overwrite: bool,
    ui: &Reporter,
) -> Result<(Sink, Option<Landing>)> {
    let sink = match to {
        RestoreTarget::Stdout => super::stdout(EarlyEnd::Incomplete),
        RestoreTarget::Path(dir) => {
            gnu::require().await?;
            make_folder(&dir)?;
            if !overwrite && !is_empty(&dir)? {
                return Err(not_empty(&RestoreTarget::Path(dir)));
            }
            let landing = Landing::new("").with_contents(dir.clone());
            return super::folder(&dir, ui).map(|sink| (sink, Some(landing)));
        }
        RestoreTarget::Volume(volume) => {
            let opened = open_volume(&volume, &original(&volume)?, overwrite, ui).await;
            return opened.map(|(sink, landing)| (sink, Some(landing)));
        }
        RestoreTarget::Volumes => {
            return Err(Error::usage("only an archive's catalog says which volumes it holds")
                .hint("restore them one at a time: --to-volume VOLUME"));
        }
        RestoreTarget::Run(spec) => Engine::connect().await?.feed_run(*spec, ui).await,
        RestoreTarget::Exec(container, command) => {
            Engine::connect().await?.feed_exec(&container, command, ui).await
        }
        RestoreTarget::Image => Ok(Engine::connect().await?.feed_image(ui)),
    };
    sink.map(|sink| (sink, None))
}

fn make_folder(dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    std::fs::create_dir(dir).map_err(|e| cannot_make(dir).because(e))
}

fn cannot_make(dir: &Path) -> Error {
    Error::failed(format!("cannot make folder {}", dir.display())).hint("does its parent exist?")
}

/// The folder that a path lies in.
fn parent(dir: &Path) -> &Path {
    dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn is_empty(dir: &Path) -> Result<bool> {
    let mut inside = std::fs::read_dir(dir).map_err(|e| {
        Error::failed(format!("cannot read {}", dir.display())).because(e).hint("is it a folder?")
    })?;
    Ok(inside.next().is_none())
}

/// The refusal to restore to a folder or volume that holds something.
pub fn not_empty(target: &RestoreTarget) -> Error {
    Error::failed(format!("{target} is not empty"))
        .hint("choose another, or say --overwrite: files in the way are replaced")
}

/// A volume by its folder where that can be written here, else through the engine.
async fn open_volume(name: &str, original: &str, overwrite: bool, ui: &Reporter) -> Result<(Sink, Landing)> {
    if !super::is_volume_path(original) {
        let original = printable(original);
        return Err(Error::usage(format!("{original} is no name of a volume"))
            .hint("restore --to-path and look at what the archive holds"));
    }
    let engine = Engine::connect().await?;
    let volume = engine.make_volume(name).await?;
    let is_here = is_here(&engine, &volume);
    if !overwrite && !is_empty_volume(&engine, &volume, ui).await? {
        return Err(not_empty(&RestoreTarget::Volume(name.into())));
    }
    let ids = TargetIds { map: engine.id_map().await?, engine_maps: !is_here };
    let landing = Landing::new(&format!("{original}/_data")).with_ids(ids);
    match is_here {
        true => {
            gnu::require().await?;
            let sink = super::volume(&volume.mountpoint, original, ui)?;
            Ok((sink, landing.with_contents(volume.mountpoint)))
        }
        false => Ok((engine.feed_volume(name, original, ui).await?, landing)),
    }
}

/// Whether a volume's folder can be written here.
fn is_here(engine: &Engine, volume: &Volume) -> bool {
    engine.is_local() && volume.folder().is_some()
}

async fn is_empty_volume(engine: &Engine, volume: &Volume, ui: &Reporter) -> Result<bool> {
    match is_here(engine, volume) {
        true => is_empty(&volume.mountpoint),
        false => engine.volume_is_empty(&volume.name, ui).await,
    }
}

/// Demands that there is nothing in any of these volumes, which need not be there; makes none.
///
/// # Errors
/// One is not empty; the engine does not answer.
pub async fn are_empty(volumes: &[String], ui: &Reporter) -> Result<()> {
    let engine = Engine::connect().await?;
    for name in volumes {
        if let Some(volume) = engine.volume_if_any(name).await?
            && !is_empty_volume(&engine, &volume, ui).await?
        {
            return Err(not_empty(&RestoreTarget::Volume(name.clone())));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reporter() -> Reporter {
        Reporter::silent()
    }

    async fn open_path(dir: &Path, overwrite: bool) -> Result<Sink> {
        let opened =
            open(RestoreTarget::Path(dir.into()), |_| Ok(String::new()), overwrite, &reporter()).await;
        opened.map(|(sink, _)| sink)
    }

    #[test]
    fn only_folders_and_volumes_are_unpacked_into() {
        let run = || RestoreTarget::Run(Box::default());
        let exec = || RestoreTarget::Exec("db".into(), vec!["psql".into()]);
        for target in [RestoreTarget::Path("x".into()), RestoreTarget::Volume("x".into())] {
            assert!(target.unpacks() && target.needs_tar(), "{target:?}");
        }
        for target in [RestoreTarget::Stdout, run(), exec()] {
            assert!(!target.unpacks() && !target.needs_tar(), "{target:?}");
        }
        assert!(RestoreTarget::Image.needs_tar() && !RestoreTarget::Image.unpacks());
    }

    #[test]
    fn a_process_that_reads_no_further_and_says_all_is_well_has_failed() {
        assert_eq!(early(0).unwrap_err().kind().exit_code(), 1);
        assert_eq!(early(7).unwrap(), 7);
    }

    #[tokio::test]
    async fn a_folder_is_made_when_only_its_last_part_is_missing() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("new");
        let sink = open_path(&dir, false).await.unwrap();
        assert!(dir.is_dir());
        sink.fail(Error::interrupted()).await;
        let error = open_path(&parent.path().join("not/there"), false).await.err().unwrap();
        assert!(error.to_string().contains("cannot make folder"), "{error}");
    }

    #[tokio::test]
    async fn a_folder_with_something_in_it_is_left_alone_unless_overwriting() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("x")).unwrap();
        let error = open_path(dir.path(), false).await.err().unwrap();
        assert!(error.to_string().contains("is not empty"), "{error}");
        let sink = open_path(dir.path(), true).await.unwrap();
        sink.fail(Error::interrupted()).await;
    }

    #[tokio::test]
    async fn a_look_at_a_folder_tells_what_is_there_and_makes_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let look = |name: &str| {
            let target = RestoreTarget::Path(parent.path().join(name));
            async move { look(&target).await }
        };
        assert_eq!(look("new").await.unwrap(), Some(State::Missing));
        assert!(!parent.path().join("new").exists());
        let error = look("not/there").await.unwrap_err();
        assert!(error.to_string().contains("cannot make folder"), "{error}");
        std::fs::create_dir(parent.path().join("old")).unwrap();
        assert_eq!(look("old").await.unwrap(), Some(State::Empty));
        std::fs::create_dir(parent.path().join("old/x")).unwrap();
        assert_eq!(look("old").await.unwrap(), Some(State::Filled));
        assert_eq!(super::look(&RestoreTarget::Stdout).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_volume_whose_name_in_the_archive_is_none_is_refused_before_the_engine_is_asked() {
        for original in ["a,b", "", "x;y"] {
            let target = RestoreTarget::Volume("v".into());
            let opened = open(target, |_| Ok(original.into()), false, &reporter()).await;
            assert_eq!(opened.err().unwrap().kind().exit_code(), 2, "{original}");
        }
    }

    /// A sink that takes everything and ends with `code`.
    fn swallows(code: i64) -> Sink {
        Sink::new(move |mut from, _| async move {
            while from.recv().await?.is_some() {}
            Ok(code)
        })
    }

    #[tokio::test]
    async fn a_sink_that_had_all_bytes_ends_with_its_own_code() {
        let write = async |sink: &Sink| sink.write(bytes::Bytes::from_static(b"x")).await;
        let cancel = CancellationToken::new();
        assert_eq!(fill(swallows(0), &cancel, write).await.unwrap(), 0);
        assert_eq!(fill(swallows(7), &cancel, write).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn the_first_cause_is_what_filling_returns() {
        let cancel = CancellationToken::new();
        let failed = fill(swallows(0), &cancel, async |_: &Sink| Err(Error::damaged("cause"))).await;
        assert_eq!(failed.unwrap_err().to_string(), "cause");
    }

    #[tokio::test]
    async fn a_signal_breaks_the_filling_off() {
        let cancel = CancellationToken::new();
        cancel.cancel();
        let never = async |_: &Sink| std::future::pending().await;
        assert_eq!(fill(swallows(0), &cancel, never).await.unwrap_err().kind(), Kind::Interrupted);
    }
}
