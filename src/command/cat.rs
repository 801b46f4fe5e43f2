//! `cat`: one file of an archive.

use crate::cli::Cat;
use crate::error::Result;
use crate::job;
use crate::report::Reporter;

/// Writes one file to stdout.
///
/// # Errors
/// As [`job::cat::cat`].
pub async fn cat(options: Cat, ui: &Reporter) -> Result<()> {
    job::cat::cat(&options.request()?, ui).await
}
