//! What an increment needs of older archives: that it is there, and what it was.

use crate::archive::catalog::RefRecord;
use crate::error::{Error, Result};
use crate::job::lost;
use crate::job::open_archive::OpenArchive;
use crate::job::stored::StoredArchive;
use crate::report::{Reporter, counted, human_bytes};
use crate::store::needs::Needs;
use crate::tar::select::Part;

/// The archives that a manifest says are needed have manifests of their own, and objects as large as those say.
pub(super) async fn objects(found: &StoredArchive) -> Result<()> {
    let (store, job, ids) = (&found.store, &found.job, &found.manifest.needs);
    let lost = || Error::damaged(format!("{} needs an archive that is gone or damaged", found.name()));
    let needs = Needs::of(store, job, ids).await.map_err(|error| match error.is_of_one_archive() {
        true => lost().because(error),
        false => error,
    })?;
    match needs.missing(store, job).await? {
        None => Ok(()),
        Some(id) => Err(lost().because(format!("{job}@{id} is not at {} as it was", store.name))),
    }
}

/// Opens all that are needed: their objects are there, and begin as they did.
///
/// # Errors
/// Some are not; the members that lie there are named.
pub(super) async fn heads(
    archive: &mut OpenArchive,
    found: &StoredArchive,
    records: Option<&Reporter>,
) -> Result<()> {
    let all = |record: &RefRecord| Part { reference: record.n, ..Part::whole(u64::MAX) };
    let all: Vec<_> = archive.refs().map(all).collect();
    let lost = lost::unopened(archive, &all).await?;
    if lost.is_nothing() { Ok(()) } else { Err(lost.recorded(archive, found, records).await?) }
}

/// How much of it older archives hold, in words.
pub(super) fn text(archive: &OpenArchive) -> String {
    let kept = archive.end().kept;
    match archive.refs().count() {
        0 => String::new(),
        older => {
            let (members, older) = (counted(kept.entries, "member"), counted(older as u64, "older archive"));
            format!("; {members}, {}, in {older}", human_bytes(kept.bytes))
        }
    }
}
