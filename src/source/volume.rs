//! Volumes: by GNU tar where their folder can be read here, else through the engine.

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use super::gnutar;
use crate::docker::{Engine, Volume};
use crate::error::Result;
use crate::report::Reporter;
use crate::stream::source::Running;

/// Members are `VOLUME/_data/…` either way, so that `tar -x -C /var/lib/docker/volumes` restores them.
pub async fn open(
    engine: &Engine,
    names: &[String],
    ui: &Reporter,
    stop: &CancellationToken,
) -> Result<Running> {
    let mut volumes = Vec::new();
    for name in names {
        volumes.push(engine.volume(name).await?);
    }
    match common_folder(engine, &volumes) {
        Some(folder) => {
            let members: Vec<_> = volumes.iter().map(|volume| format!("{}/_data", volume.name)).collect();
            gnutar::members(&folder, &members, ui, stop)
        }
        None => {
            ui.note(
                "the volume's folder cannot be read here: it comes through the engine, without xattrs, ACLs, \
                 holes and fractions of a second",
            );
            engine.archive_volumes(names, ui, stop).await
        }
    }
}

/// The folder below which every volume lies as `VOLUME/_data`, when all can be read here.
fn common_folder(engine: &Engine, volumes: &[Volume]) -> Option<PathBuf> {
    let first = volumes.first()?.folder().filter(|_| engine.is_local())?;
    volumes.iter().all(|volume| volume.folder().as_ref() == Some(&first)).then_some(first)
}
