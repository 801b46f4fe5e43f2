//! `restore`: an archive's bytes back to where they are wanted; `restore set`: a whole set, step by step.

use tokio_util::sync::CancellationToken;

use super::restore_set::restore_set;
use crate::cli::Restore;
use crate::error::Result;
use crate::job;
use crate::job::backup::Outcome;
use crate::report::{Mode, Reporter};

/// Restores an archive, or a set.
///
/// # Errors
/// As [`job::restore::restore`] and [`restore_set`].
pub async fn restore(
    options: Restore,
    mode: Mode,
    ui: &Reporter,
    cancel: &CancellationToken,
) -> Result<Outcome> {
    match options {
        // It clears away what it began.
        Restore::Archive(options) => job::restore::restore(options.request()?, ui, cancel).await,
        Restore::Set(options) => restore_set(&options, mode, ui, cancel).await,
    }
}
