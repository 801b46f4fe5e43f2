//! `ls`: the members of an archive, from its catalog alone.

use super::increment::runs::Members;
use super::open_archive::OpenArchive;
use super::stored::{ArchiveRef, OpenRequest, StoredArchive};
use crate::archive::catalog::paged::{Near, PagedCatalog};
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

/// Who is shown members, and whether what is shown is confirmed already.
pub type EachMember<'a> = &'a mut dyn FnMut(&Entry, bool) -> Result<()>;

/// Shows each member that matches to `each`, and returns how many there were. Where the catalog is read by its pages, each
/// is confirmed when it is shown, and they come in path order if the catalog has that; otherwise all of them are confirmed
/// when this returns without an error.
///
/// # Errors
/// There is no such archive, it cannot be opened, or no member matches; whatever `each` fails with.
pub async fn ls(request: &LsRequest, ui: &Reporter, each: EachMember<'_>) -> Result<u64> {
    let patterns = Patterns::new(&request.patterns, &[])?;
    let near = patterns.beginnings().map(|below| Near { below, exact: Vec::new() });
    let found = StoredArchive::find(&request.open.store, &request.archive, ui).await?;
    let passphrase = found.passphrase(&request.open)?;
    let mut shown = Shown { patterns, each, count: 0, failed: Ok(()) };
    let nothing = |_: &PagedCatalog| Some(Near::default());
    let stream = |entry: &Entry| shown.show(entry, false);
    let archive = OpenArchive::look(&found, passphrase.as_ref(), nothing, stream).await?;
    match archive.pages().map(|pages| Members::near(pages, near.clone())) {
        Some(Some(mut members)) => {
            while shown.failed.is_ok()
                && let Some(entry) = members.next().await?
            {
                shown.show(&entry, true);
            }
        }
        Some(None) => archive.look_again(|_| near, |entry| shown.show(entry, true)).await?,
        None => {}
    }
    let Shown { count, failed, .. } = shown;
    failed?;
    match count == 0 && !request.patterns.is_empty() {
        true => {
            Err(Error::new(Kind::NotFound, "no member matches").hint("`*` matches slashes too: '*.conf'"))
        }
        false => Ok(count),
    }
}

/// What was shown so far.
struct Shown<'a> {
    patterns: Patterns,
    each: EachMember<'a>,
    count: u64,
    failed: Result<()>,
}

impl Shown<'_> {
    fn show(&mut self, entry: &Entry, is_confirmed: bool) {
        if self.failed.is_ok() && self.patterns.take(&entry.name()) {
            self.count += 1;
            self.failed = (self.each)(entry, is_confirmed);
        }
    }
}
