//! `ls`: the members of an archive, from its catalog alone.

use super::stored::{ArchiveRef, OpenRequest, StoredArchive};
use crate::error::{Error, Kind, Result};
use crate::report::Reporter;
use crate::tar::Entry;
use crate::tar::select::Patterns;

/// Which members to list.
#[derive(Debug, Clone)]
pub struct LsRequest {
    /// Where the archive is, and what opens it.
    pub open: OpenRequest,
    /// The archive.
    pub archive: ArchiveRef,
    /// The members, and what is below them; all where there is none.
    pub patterns: Vec<String>,
}

/// Shows each member that matches to `each`, and returns how many there were. What was shown is confirmed by the
/// catalog's end: only when this returns without an error.
///
/// # Errors
/// There is no such archive, it cannot be opened, or no member matches.
pub async fn ls(request: &LsRequest, ui: &Reporter, mut each: impl FnMut(&Entry)) -> Result<u64> {
    let patterns = Patterns::new(&request.patterns, &[])?;
    let found = StoredArchive::find(&request.open.store, &request.archive, ui).await?;
    let passphrase = found.passphrase(&request.open)?;
    let mut count = 0;
    found
        .open_with(passphrase, |entry| {
            if patterns.take(&entry.name()) {
                count += 1;
                each(entry);
            }
        })
        .await?;
    match count == 0 && !request.patterns.is_empty() {
        true => {
            Err(Error::new(Kind::NotFound, "no member matches").hint("`*` matches slashes too: '*.conf'"))
        }
        false => Ok(count),
    }
}
