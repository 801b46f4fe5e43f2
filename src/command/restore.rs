//! `restore`: an archive's bytes back to where they are wanted; `restore set`: the steps for a whole set.

use tokio_util::sync::CancellationToken;

use super::restore_set::restore_set;
use crate::cli::Restore;
use crate::error::Result;
use crate::job;
use crate::job::backup::Outcome;
use crate::report::Reporter;

/// Restores an archive, or prints the steps that restore a set.
///
/// # Errors
/// As [`job::restore::restore`].
pub async fn restore(options: Restore, ui: &Reporter, cancel: &CancellationToken) -> Result<Outcome> {
    match options {
        // It clears away what it began.
        Restore::Archive(options) => job::restore::restore(options.request()?, ui, cancel).await,
        Restore::Set(options) => job::until(cancel, restore_set(*options, ui)).await.map(|()| Outcome::Done),
    }
}
