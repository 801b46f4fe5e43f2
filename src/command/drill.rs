//! `drill`: restores for real into a scratch place, and tries what is there.

use tokio_util::sync::CancellationToken;

use crate::cli::Drill;
use crate::error::Result;
use crate::job::{self, Outcome};
use crate::report::Reporter;

/// Tries archives.
///
/// # Errors
/// As [`job::drill::drill`].
pub async fn drill(options: Drill, ui: &Reporter, cancel: &CancellationToken) -> Result<Outcome> {
    job::drill::drill(&options.request()?, ui, cancel).await
}
