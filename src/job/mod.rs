//! The work: backup, restore, set, verify, diff and the like, each from a plain request.

use tokio_util::sync::CancellationToken;

use discover::Discover;

use crate::error::{Error, Result};
use crate::preset::Preset;
use crate::source::Source;

pub mod adopt;
pub mod backup;
pub mod cat;
pub mod clean;
pub mod copy;
mod deliver;
pub mod diff;
pub mod discover;
pub mod doctor;
pub mod drill;
mod failing;
mod heads;
#[cfg(test)]
mod histories;
pub mod increment;
mod instead;
pub mod inventory;
pub mod lease;
pub mod list;
mod lost;
pub mod ls;
mod open_archive;
pub mod origin;
pub mod plan;
pub mod prune;
pub mod put_right;
mod quiet;
mod random;
pub mod rekey;
mod request;
pub mod restore;
pub mod restore_set;
pub mod retention;
pub mod schedule;
mod secrets;
mod sequential;
pub mod set;
pub mod show;
mod shrink;
pub mod status;
pub mod stored;
pub mod verify;
pub mod version;

/// How work that did not fail ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// In every store, nothing to look at.
    Done,
    /// Committed, but with warnings or not to every store; not verified to the end: exit 3.
    Warned,
    /// The process that was given the bytes ended with this code, and had them all; 1 where `diff` found differences.
    Exited(i64),
}

/// What a backup is of.
#[derive(Debug, Clone)]
pub enum Subject {
    /// One source.
    Source(Source),
    /// A product's component, of one archive or several.
    Preset(Preset),
    /// Whatever labels at the engine name, each with a job of its own.
    Discover(Discover),
}

impl Subject {
    /// The job under which its archives lie, unless another is asked for.
    pub fn default_job(&self) -> Option<String> {
        match self {
            Subject::Source(source) => source.default_job(),
            Subject::Preset(preset) => Some(preset.job().into()),
            Subject::Discover(_) => Some("discover".into()),
        }
    }
}

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
