//! Where `restore` puts the bytes, and what it does not put them into.

use std::path::Path;

use tokio_util::sync::CancellationToken;

use crate::cli::RestoreTarget;
use crate::docker::Engine;
use crate::error::{Error, Kind, Result};
use crate::report::{Reporter, printable};
use crate::sink;
use crate::stream::sink::Sink;

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

/// Of a volume's archive, a member that belongs to something else.
pub fn outside(own: &str, other: &str) -> Error {
    Error::damaged(format!("the archive has members outside of {own}: {}", printable(other)))
        .hint("leave them out with --exclude, or restore --to-path and look")
}

/// Opens a sink. `original` says, of the volume to restore to, below which name its files lie in the archive.
pub async fn open(
    to: RestoreTarget,
    original: impl Fn(&str) -> Result<String>,
    overwrite: bool,
    ui: &Reporter,
) -> Result<Sink> {
    match to {
        RestoreTarget::Stdout => Ok(sink::stdout()),
        RestoreTarget::Path(dir) => {
            make_folder(&dir)?;
            if !overwrite && !is_empty(&dir)? {
                return Err(not_empty(&dir.display().to_string()));
            }
            sink::folder(&dir, ui)
        }
        RestoreTarget::Volume(volume) => open_volume(&volume, &original(&volume)?, overwrite, ui).await,
        RestoreTarget::Run(spec) => Engine::connect().await?.feed_run(*spec, ui).await,
        RestoreTarget::Exec(container, command) => {
            Engine::connect().await?.feed_exec(&container, command, ui).await
        }
        RestoreTarget::Image => Ok(Engine::connect().await?.feed_image(ui)),
    }
}

fn make_folder(dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    std::fs::create_dir(dir).map_err(|e| {
        Error::failed(format!("cannot make folder {}", dir.display()))
            .because(e)
            .hint("does its parent exist?")
    })
}

fn is_empty(dir: &Path) -> Result<bool> {
    let mut inside = std::fs::read_dir(dir).map_err(|e| {
        Error::failed(format!("cannot read {}", dir.display())).because(e).hint("is it a folder?")
    })?;
    Ok(inside.next().is_none())
}

fn not_empty(target: &str) -> Error {
    Error::failed(format!("{target} is not empty"))
        .hint("choose another, or say --overwrite: files in the way are replaced")
}

/// A volume by its folder where that can be written here, else through the engine.
async fn open_volume(name: &str, original: &str, overwrite: bool, ui: &Reporter) -> Result<Sink> {
    if !sink::is_volume_path(original) {
        let original = printable(original);
        return Err(Error::usage(format!("{original} is no name of a volume"))
            .hint("restore --to-path and look at what the archive holds"));
    }
    let engine = Engine::connect().await?;
    let volume = engine.make_volume(name).await?;
    let is_here = engine.is_local() && volume.folder().is_some();
    if !overwrite {
        let empty = match is_here {
            true => is_empty(&volume.mountpoint)?,
            false => engine.volume_is_empty(name, ui).await?,
        };
        if !empty {
            return Err(not_empty(&format!("volume {name}")));
        }
    }
    match is_here {
        true => sink::volume(&volume.mountpoint, original, ui),
        false => engine.feed_volume(name, original, ui).await,
    }
}
