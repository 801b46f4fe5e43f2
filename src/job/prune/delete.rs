//! `delete`: one archive, by the floors that hold for `prune`, too.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::super::retention::policy::Policy;
use super::super::retention::{JobArchives, Reason};
use super::super::stored::{ArchiveRef, StoredArchive};
use super::Rules;
use super::view::View;
use crate::archive::Id;
use crate::error::{Error, Kind, Result};
use crate::report::Reporter;
use crate::store::removal::{Kept, Removal, Removed};
use crate::store::set::SetRef;
use crate::store::{Store, StoreUrl};

/// What to delete.
#[derive(Debug, Clone)]
pub struct DeleteRequest {
    /// The store.
    pub store: StoreUrl,
    /// The archive.
    pub archive: ArchiveRef,
    /// Delete it; otherwise only say what would be deleted.
    pub confirm: bool,
    /// What is older was left by a run that was killed.
    pub stale: Duration,
}

/// An archive that may be deleted, or is.
#[derive(Debug, PartialEq, Eq)]
pub struct Deleted {
    /// The store's name.
    pub store: String,
    /// Its job.
    pub job: String,
    /// Its id.
    pub id: Id,
    /// Bytes that it takes, or took.
    pub bytes: u64,
    /// The run of a set that is not whole without it.
    pub set: Option<SetRef>,
}

/// Deletes one archive, or says what that would free.
///
/// # Errors
/// There is no such archive; a floor keeps it: it is the newest, pinned, or needed by others; the store refuses.
pub async fn delete(request: &DeleteRequest, ui: &Reporter) -> Result<Deleted> {
    let (store, job, id) = find(request, ui).await?;
    let name = format!("{job}@{id}");
    let mut deleted = may_go(&store, &job, &id, request.stale).await?;
    if !request.confirm {
        return Ok(deleted);
    }
    let mut removal = Removal::begin(&store, &job, [&id], "asked for", request.stale).await?;
    let again = async {
        removal.look_again(&Default::default()).await?;
        may_go(&store, &job, &id, request.stale).await
    };
    if let Err(error) = again.await {
        return Err(removal.give_up(error).await);
    }
    match removal.delete(&id).await? {
        Removed::Gone(bytes) => deleted.bytes = bytes,
        Removed::Kept(Kept::Refused(error)) => return Err(error.context(format!("{name} is not deleted"))),
        Removed::Kept(why) => return Err(Error::failed(format!("{name} is not deleted: {why}")).hint(HINT)),
    }
    Ok(deleted)
}

/// The archive that is meant. One whose manifest is damaged is named by its id.
async fn find(request: &DeleteRequest, ui: &Reporter) -> Result<(Arc<Store>, String, Id)> {
    use super::super::version::Version;
    match StoredArchive::find(&request.store, &request.archive, ui).await {
        Ok(found) => Ok((found.store, found.job, found.id)),
        Err(error) => match (&request.archive.version, error.kind()) {
            (Version::Id(id), Kind::Damaged) => {
                Ok((Arc::new(request.store.open(ui)?), request.archive.job.clone(), id.clone()))
            }
            _ => Err(error),
        },
    }
}

/// Whether no floor keeps an archive.
async fn may_go(store: &Arc<Store>, job: &str, id: &Id, stale: Duration) -> Result<Deleted> {
    let rules = Rules { given: Some(Policy::default()), ..Rules::default() };
    let mut view = View::take(store, &[job.to_string()], &rules, stale).await?;
    let mut set = None;
    for JobArchives { job: name, policy, archives } in &mut view.jobs {
        *policy = (name == job).then(Policy::default);
        for archive in archives.iter_mut().filter(|_| name == job) {
            // All others stay.
            match archive.id == *id {
                true => set = archive.set.take(),
                false => archive.is_pinned = true,
            }
        }
    }
    let reasons = view.decide(Timestamp::now());
    view.add_locks(store, &reasons).await;
    let reasons = view.decide(Timestamp::now());
    let lines = view.lines(&reasons).into_iter().find(|pruned| pruned.job == job).map(|pruned| pruned.lines);
    let line = lines.into_iter().flatten().find(|line| line.id == *id);
    let line = line.ok_or_else(|| Error::new(Kind::NotFound, format!("{job}@{id} is not there any more")))?;
    let is_damaged = view.is_damaged(job, id);
    let has_others = view.has_whole(job, id);
    let floor = |reason: &&Reason| match reason {
        // What is damaged may go where something whole is left.
        Reason::Newest => !(is_damaged && has_others),
        Reason::Future => false,
        _ => true,
    };
    let mut floors: BTreeSet<String> = line.reasons.iter().filter(floor).map(ToString::to_string).collect();
    let newest_run = set.as_ref().filter(|set| view.is_newest_run(set, Timestamp::now()));
    floors.extend(newest_run.map(|set| Reason::NewestRun(set.clone()).to_string()));
    if !floors.is_empty() {
        let why = floors.into_iter().collect::<Vec<_>>().join(", ");
        return Err(Error::failed(format!("{job}@{id} is not deleted: {why}")).hint(HINT));
    }
    Ok(Deleted { store: store.name.clone(), job: job.into(), id: id.clone(), bytes: line.bytes, set })
}

const HINT: &str = "the newest whole archive of a job or set stays, and so does what is pinned (`sealift unpin`) or what others \
                    need: delete those first; what is locked goes when its lock has ended, and parts of a run with `sealift clean`";
