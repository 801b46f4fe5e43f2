//! The work: backup, restore, set, verify, diff and the like, each from a plain request.

use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};

pub mod backup;
pub mod cat;
pub mod copy;
pub mod diff;
pub mod list;
pub mod ls;
pub mod plan;
pub mod restore;
pub mod restore_set;
mod sequential;
pub mod set;
pub mod show;
pub mod stored;
pub mod verify;

/// Work that can be left at any point.
///
/// # Errors
/// A signal came first; the work's own.
pub async fn until<T>(cancel: &CancellationToken, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Error::interrupted()),
        done = work => done,
    }
}
