//! Volumes: by GNU tar where their folder can be read here, else through the engine.

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use super::{Walk, gnutar};
use crate::docker::{Engine, Volume};
use crate::error::{Error, Result};
use crate::report::Reporter;
use crate::stream::source::Running;

/// What the engine's way does not do as GNU tar does.
const THROUGH_THE_ENGINE: &str = "the volume's folder cannot be read here: it comes through the engine, without xattrs, \
                                  ACLs, holes, fractions of a second and sockets; a file that changes while it is read is \
                                  not noticed there, but one that shrinks ends the backup";

/// Members are `VOLUME/_data/…` either way, so that `tar -x -C /var/lib/docker/volumes` restores them.
pub async fn open(
    engine: &Engine,
    names: &[String],
    walk: &Walk,
    ui: &Reporter,
    stop: &CancellationToken,
) -> Result<Running> {
    match folder(engine, names).await? {
        Some((folder, members)) => gnutar::members(&folder, &members, walk, ui, stop).await,
        None if !walk.filter.takes_all() => Err(Error::usage(
            "the volume's folder cannot be read here, and the engine leaves no file of it out",
        )
        .hint(
            "run as root on the engine's host, or without --exclude, --exclude-caches and --one-file-system",
        )),
        None => {
            ui.note(THROUGH_THE_ENGINE);
            engine.archive_volumes(names, ui, stop).await
        }
    }
}

/// The folder of this host in which the volumes lie, and their paths there; none where one of them cannot be read here.
pub async fn folder(engine: &Engine, names: &[String]) -> Result<Option<(PathBuf, Vec<String>)>> {
    let mut volumes = Vec::new();
    for name in names {
        volumes.push(engine.volume(name).await?);
    }
    let folder = common_folder(engine, &volumes);
    Ok(folder.map(|folder| (folder, volumes.iter().map(|volume| format!("{}/_data", volume.name)).collect())))
}

/// The folder below which every volume lies as `VOLUME/_data`, when all can be read here.
fn common_folder(engine: &Engine, volumes: &[Volume]) -> Option<PathBuf> {
    let first = volumes.first()?.folder().filter(|_| engine.is_local())?;
    volumes.iter().all(|volume| volume.folder().as_ref() == Some(&first)).then_some(first)
}
