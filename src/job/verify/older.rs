//! What an increment needs of older archives: that it is there, and what it was.

use secrecy::SecretString;

use crate::archive::catalog::RefRecord;
use crate::archive::read_at::once_more_if_damaged;
use crate::error::{Error, Kind, Result};
use crate::job::heads;
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

/// Opens all that are needed by the passphrase itself. What an increment needs is read by keys that its own catalog has; plain
/// tools have the passphrase alone.
///
/// # Errors
/// One does not open.
pub(super) async fn open_by_passphrase(
    archive: &OpenArchive,
    found: &StoredArchive,
    passphrase: Option<&SecretString>,
    records: Option<&Reporter>,
) -> Result<()> {
    let Some(passphrase) = passphrase else { return Ok(()) };
    for id in archive.refs().map(|record| &record.id) {
        let older = found.sibling(id).await?;
        let opened = once_more_if_damaged(|| opens(&older, passphrase)).await;
        lost::record_if_damaged(opened, &older, records).await?;
    }
    Ok(())
}

/// Demands that a passphrase which opened what needs an archive opens that, too.
async fn opens(older: &StoredArchive, passphrase: &SecretString) -> Result<()> {
    let object = older.archive_object().await?;
    match older.head(heads::Part::Archive, &object, passphrase).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == Kind::WrongPassphrase => {
            let damaged =
                format!("{} does not open by the passphrase: its first bytes are damaged", older.name());
            Err(Error::damaged(damaged).hint(
                "sealift restores what newer archives need of it, plain tools do not; the next `backup --incremental` reads \
                 that again",
            ))
        }
        Err(error) => Err(error),
    }
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
