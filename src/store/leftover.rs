//! What runs that failed or were killed leave in a store, and what outlived its archive: found by name and age, told with
//! the reason, and taken back by `clean`.
//!
//! Only what our names name is ever found, and what lies beside something unknown is not taken back without a manifest: it may
//! be an archive of a newer version. Nothing is found that is younger than asked for, nor what a run under way may still
//! need: it has a lease ([`super::lease`]). What has data is taken back under a tombstone ([`super::removal`]): a commit
//! that comes in between is seen, or sees.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use object_store::ObjectMeta;
use object_store::path::Path;

use super::lease::{Lease, Runs};
use super::manifest::SUFFIX;
use super::names::{Part, part_of, unknown_beside};
use super::removal::{Needs, Removal, Removed};
use super::{Store, lease};
use crate::archive::Id;
use crate::error::{Error, Result};

/// A failure that nothing has come after is remembered for so long.
const REMEMBERED: Duration = Duration::from_secs(90 * 24 * 3600);

/// What something that was left is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Archive, catalog or both, without a manifest.
    Uncommitted,
    /// What a removal that was broken off has left of an archive.
    HalfRemoved,
    /// A tombstone beside an archive: it was to be removed, and the run that would have was killed before it began.
    Tombstone,
    /// Leases of a run that has ended.
    Lease,
    /// A failure record that says nothing new.
    Failure,
    /// Records of an archive that is gone.
    Records,
    /// A file that an upload was written into.
    Staged,
    /// An upload that was neither completed nor aborted, by the store's own name of it.
    Upload(String),
    /// A part of a run that was not completed, and that no archive needs.
    Part,
    /// What `doctor` or `clean` itself tried a store out with.
    Probe,
}

impl What {
    /// Its name in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            What::Uncommitted => "uncommitted",
            What::HalfRemoved => "half-removed",
            What::Tombstone => "tombstone",
            What::Lease => "lease",
            What::Failure => "failure",
            What::Records => "records",
            What::Staged => "staged",
            What::Upload(_) => "upload",
            What::Part => "part",
            What::Probe => "probe",
        }
    }

    /// What it is, and why it is taken back.
    pub fn why(&self) -> &'static str {
        match self {
            What::Uncommitted => {
                "archive or catalog without a manifest: the run was killed, or could not take it back"
            }
            What::HalfRemoved => "the rest of an archive whose removal was broken off",
            What::Tombstone => "a removal that was broken off before it began: the archive stays",
            What::Lease => "lease of a run that has ended",
            What::Failure => "failure record that a later archive has outdated, or older than 90 days",
            What::Records => "records of an archive that is gone",
            What::Staged => "file of an upload that was broken off",
            What::Probe => "object by which `doctor` or `clean` tried the store out",
            What::Part => {
                "part of a run that was not completed, and that nothing builds on: a newer archive is whole"
            }
            What::Upload(_) => {
                "parts of an upload that was broken off: no list shows them, and they are paid for"
            }
        }
    }
}

/// Something that was left in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The job that it lies under.
    pub job: String,
    /// The run or the archive that it is of.
    pub id: Id,
    /// What it is.
    pub what: What,
    /// Its names in the job's folder.
    pub names: Vec<String>,
    /// Bytes of it, where that is known.
    pub bytes: u64,
    /// For how long nothing of it was written.
    pub age: Duration,
}

/// What became of it.
#[derive(Debug)]
pub enum Taken {
    /// It is gone.
    Back,
    /// It stays, for this reason.
    Kept(String),
}

/// Which parts belong to something.
type Which = fn(&Part) -> bool;

/// What lies there of one id.
#[derive(Default)]
struct Group<'a> {
    parts: Vec<(Part, &'a ObjectMeta)>,
    /// Beside them lies something that is not known here.
    has_unknown: bool,
}

impl Group<'_> {
    fn has(&self, part: impl Fn(&Part) -> bool) -> bool {
        self.parts.iter().any(|(other, _)| part(other))
    }

    /// What is left of it, as one thing or several, each with the parts that it has.
    fn leftovers(&self, outdated: bool) -> Vec<(What, Which)> {
        let (is_tombstone, is_data) =
            (|part: &Part| matches!(part, Part::Tombstone(_)), |part: &Part| *part == Part::Data);
        let mut found: Vec<(What, Which)> = Vec::new();
        if !self.has(|part| *part == Part::Manifest) {
            if self.has(is_tombstone) {
                return vec![(What::HalfRemoved, |part| *part != Part::Failure)];
            }
            if self.has(is_data) {
                return vec![(What::Uncommitted, |part| *part != Part::Failure)];
            }
            if !self.has_unknown {
                found.push((What::Records, |part| *part == Part::Record));
            }
        } else {
            found.push((What::Tombstone, is_tombstone));
        }
        found.push((What::Probe, |part| *part == Part::Probe));
        found.push((What::Lease, |part| *part == Part::Lease));
        if outdated {
            found.push((What::Failure, |part| *part == Part::Failure));
        }
        found
    }
}

/// What of the objects in a job's folder is left over, whatever its age.
fn left_in(job: &str, metas: &[&ObjectMeta], now: Timestamp) -> Vec<Leftover> {
    let mut groups: BTreeMap<Id, Group<'_>> = BTreeMap::new();
    for meta in metas {
        let name = meta.location.filename().unwrap_or_default();
        if let Some((id, part)) = part_of(name) {
            groups.entry(id).or_default().parts.push((part, meta));
        } else if let Some(id) = unknown_beside(name) {
            groups.entry(id).or_default().has_unknown = true;
        }
    }
    let newest = groups.iter().rev().find(|(_, group)| group.has(|part| *part == Part::Manifest));
    let newest = newest.map(|(id, _)| id.clone());
    let mut found = Vec::new();
    for (id, group) in groups {
        let failed = group.parts.iter().filter(|(part, _)| *part == Part::Failure);
        let is_forgotten = failed.map(|(_, meta)| age_of(meta, now)).any(|age| age >= REMEMBERED);
        let outdated = is_forgotten || newest.as_ref().is_some_and(|newest| *newest >= id);
        for (what, has) in group.leftovers(outdated) {
            let metas: Vec<_> =
                group.parts.iter().filter(|(part, _)| has(part)).map(|(_, meta)| *meta).collect();
            let Some(age) = metas.iter().map(|meta| age_of(meta, now)).min() else { continue };
            let names = metas.iter().filter_map(|meta| meta.location.filename()).map(String::from);
            let (names, bytes) = (names.collect(), metas.iter().map(|meta| meta.size).sum());
            found.push(Leftover { job: job.into(), id: id.clone(), what, names, bytes, age });
        }
    }
    found
}

fn age_of(meta: &ObjectMeta, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(lease::time_of(meta))).unwrap_or_default()
}

/// By what it is judged whether something was left.
#[derive(Clone, Copy)]
pub struct Judge<'a> {
    /// What was written to later is left alone.
    pub older_than: Duration,
    /// Who of the runs that have a lease is known to be no more.
    pub is_gone: &'a (dyn Fn(&Id, &Lease) -> bool + Sync),
    /// By how much this host's clock is ahead of the store's.
    pub ahead: SignedDuration,
}

impl Judge<'_> {
    /// What time it is at the store.
    pub(super) fn now(&self) -> Timestamp {
        Timestamp::now().saturating_sub(self.ahead).unwrap_or(Timestamp::MIN)
    }

    /// How long ago that was, by the store's clock.
    pub(super) fn age(&self, at: Timestamp) -> Duration {
        Duration::try_from(self.now().duration_since(at)).unwrap_or_default()
    }
}

impl Store {
    /// What was left, of one job or of all; nothing is asked of the store but lists, and leases to read. What cannot be seen
    /// is told beside that: a key may not list uploads.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn leftovers(
        &self,
        job: Option<&str>,
        by: &Judge<'_>,
    ) -> Result<(Vec<Leftover>, Option<Error>)> {
        let (explain, now) = (|e| self.explain("listing", e), by.now());
        // Before the leases: a run writes its lease before it begins an upload.
        let (unseen, hidden) = self.unseen(job, by).await;
        let metas: Vec<_> = match job {
            Some(job) => {
                self.down.list_with_delimiter(Some(&self.below(job))).await.map_err(explain)?.objects
            }
            None => self.down.list(Some(&self.prefix)).try_collect().await.map_err(explain)?,
        };
        let mut jobs: BTreeMap<String, Vec<&ObjectMeta>> = BTreeMap::new();
        for meta in &metas {
            if let Some((job, _)) = self.below_job(&meta.location) {
                jobs.entry(job.into()).or_default().push(meta);
            }
        }
        let (mut found, mut live) = (unseen, BTreeSet::new());
        for (job, metas) in &jobs {
            let runs = Runs::of(metas.iter().copied());
            live.extend(self.live(job, &runs, now, by).await?.into_iter().map(|id| (job.clone(), id)));
            found.extend(left_in(job, metas, now));
        }
        // A run under way may build on parts of its job.
        let is_idle = |part: &Leftover| !live.iter().any(|(job, _)| *job == part.job);
        found.extend(self.left_parts(job, now).await?.into_iter().filter(is_idle));
        found
            .retain(|left| left.age >= by.older_than && !live.contains(&(left.job.clone(), left.id.clone())));
        // The newest first: what needs something is taken back before that.
        found.sort_by(|a, b| (&a.job, &b.id, &a.names).cmp(&(&b.job, &a.id, &b.names)));
        Ok((found, hidden))
    }

    pub(super) async fn live(
        &self,
        job: &str,
        runs: &Runs,
        now: Timestamp,
        by: &Judge<'_>,
    ) -> Result<BTreeSet<Id>> {
        Ok(self.holders(job, runs, now, by.is_gone).await?.into_iter().map(|holder| holder.id).collect())
    }

    /// What no list of objects shows: files of uploads in a folder, uploads under way in a bucket.
    async fn unseen(&self, job: Option<&str>, by: &Judge<'_>) -> (Vec<Leftover>, Option<Error>) {
        let mut found = self.staged_files(job, by.now());
        let Some(uploads) = &self.open_uploads else { return (found, None) };
        let prefix = job.map_or_else(|| self.prefix.clone(), |job| self.below(job));
        let open = match uploads.open(&prefix).await {
            Ok(open) => open,
            Err(error) => return (found, Some(self.explain("listing uploads under way", error))),
        };
        for upload in open {
            let Some((in_job, name)) = self.below_job(&upload.key) else { continue };
            let in_job = String::from(in_job);
            if job.is_some_and(|job| job != in_job) {
                continue;
            }
            let Some((id, Part::Data | Part::Probe)) = part_of(name) else { continue };
            let begun = by.age(upload.begun);
            let idle = match begun >= by.older_than {
                // Where it cannot be told, it is asked again before it is aborted, and told then.
                true => self.idle(&upload.key, &upload.id, by).await.ok().flatten(),
                false => None,
            };
            let age = idle.unwrap_or(begun).min(begun);
            let what = What::Upload(upload.id);
            found.push(Leftover { job: in_job, id, what, names: vec![name.into()], bytes: 0, age });
        }
        (found, None)
    }

    /// Takes something back that was found. It is looked at once more: what is in use by now stays. What manifests of its job
    /// say is `known`, and more is known afterwards: each is read once, however much is taken back.
    ///
    /// # Errors
    /// The store does not answer, or refuses.
    pub async fn take_back(&self, left: &Leftover, by: &Judge<'_>, known: &mut Needs) -> Result<Taken> {
        match &left.what {
            What::Part => return self.remove_part(left, by, known).await,
            What::Uncommitted | What::HalfRemoved => return self.remove_left(left, by, known).await,
            _ => {}
        }
        // Its lease may have been renewed since it was looked for.
        let runs = self.runs(&left.job).await?;
        if self.live(&left.job, &runs, by.now(), by).await?.contains(&left.id) {
            return Ok(Taken::Kept("its run is under way".into()));
        }
        match &left.what {
            What::Upload(upload) => self.abort_left(left, upload, by).await,
            What::Staged => self.drop_staged_files(left, by),
            _ => {
                for name in &left.names {
                    self.delete_object(&self.key_of(left, name)).await?;
                }
                Ok(Taken::Back)
            }
        }
    }

    fn key_of(&self, left: &Leftover, name: &str) -> Path {
        self.below(&format!("{}/{name}", left.job))
    }

    /// How long ago the latest part of an upload came; none where none did, and where any age is old enough.
    async fn idle(&self, key: &Path, upload: &str, by: &Judge<'_>) -> Result<Option<Duration>> {
        let (Some(uploads), false) = (&self.open_uploads, by.older_than.is_zero()) else { return Ok(None) };
        let last = uploads.last_part(key, upload).await;
        let last = last.map_err(|e| self.explain("listing the parts of an upload", e))?;
        Ok(last.map(|last| by.age(last)))
    }

    /// Aborts an upload, unless parts of it have come since: whoever sends them may have no lease.
    async fn abort_left(&self, left: &Leftover, upload: &str, by: &Judge<'_>) -> Result<Taken> {
        let Some(uploads) = &self.open_uploads else {
            return Ok(Taken::Kept("this store does not show uploads".into()));
        };
        for name in &left.names {
            let key = self.key_of(left, name);
            if self.idle(&key, upload, by).await?.is_some_and(|idle| idle < by.older_than) {
                return Ok(Taken::Kept("it is written to".into()));
            }
            uploads.abort(&key, upload).await.map_err(|e| self.explain("aborting an upload", e))?;
        }
        Ok(Taken::Back)
    }

    /// Removes what has no manifest, under a tombstone.
    async fn remove_left(&self, left: &Leftover, by: &Judge<'_>, known: &mut Needs) -> Result<Taken> {
        let (job, id) = (&left.job, &left.id);
        let mut removal = Removal::begin(self, job, [id], "left without a manifest", by.older_than).await?;
        let kept = match self.is_in_use(&mut removal, left, by, known).await {
            Ok(kept) => kept,
            Err(error) => return Err(removal.give_up(error).await),
        };
        if let Some(why) = kept {
            removal.keep(id).await?;
            return Ok(Taken::Kept(why));
        }
        match removal.delete(id).await? {
            // One that was put at the very last is of nothing now.
            Removed::Gone(_) => self.delete_object(&self.key(job, id, SUFFIX)).await.map(|()| Taken::Back),
            Removed::Kept(why) => Ok(Taken::Kept(why.to_string())),
        }
    }

    /// Why something is not to be taken back after all, now that whoever would commit it sees the tombstone.
    async fn is_in_use(
        &self,
        removal: &mut Removal<'_>,
        left: &Leftover,
        by: &Judge<'_>,
        known: &mut Needs,
    ) -> Result<Option<String>> {
        let listed = removal.look_again(known).await?;
        *known = removal.known();
        if listed.contains(&left.id) {
            return Ok(Some("it has been committed".into()));
        }
        if left.what == What::Uncommitted && removal.idle(&left.id).is_some_and(|idle| idle < by.older_than) {
            return Ok(Some("it is written to".into()));
        }
        let runs = self.runs(&left.job).await?;
        let live = self.live(&left.job, &runs, removal.now(), by).await?;
        Ok(live.contains(&left.id).then(|| "its run is under way".to_string()))
    }
}

/// An upload that is under way, or was broken off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OpenUpload {
    /// Where its object would lie.
    pub(super) key: Path,
    /// What the store calls it.
    pub(super) id: String,
    /// When it was begun.
    pub(super) begun: Timestamp,
}

/// A store that shows uploads under way.
#[async_trait::async_trait]
pub(super) trait OpenUploads: std::fmt::Debug + Send + Sync {
    /// Those whose keys begin so.
    async fn open(&self, prefix: &Path) -> object_store::Result<Vec<OpenUpload>>;

    /// When the latest of its parts was sent; none where there is none, or no such upload.
    async fn last_part(&self, key: &Path, id: &str) -> object_store::Result<Option<Timestamp>>;

    /// Ends one without an object; one that is not there is no failure.
    async fn abort(&self, key: &Path, id: &str) -> object_store::Result<()>;
}
