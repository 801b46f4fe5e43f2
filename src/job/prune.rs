//! `prune` and `delete`: what no rule keeps is deleted, in two steps, and never what a floor keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::retention::policy::Policy;
use super::retention::{Reason, Reasons};
use crate::archive::Id;
use crate::error::{Error, Result};
use crate::report::Reporter;
use crate::store::removal::{Kept, Needs, Removal, Removed};
use crate::store::set::SetRef;
use crate::store::{Store, StoreUrl};
use view::View;

pub mod delete;
pub mod pins;
#[cfg(test)]
mod races;
#[cfg(test)]
mod tests;
mod verify;
mod view;

/// The rules for each job.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Those of the command line: they hold for every job.
    pub given: Option<Policy>,
    /// Those of the settings, by job.
    pub jobs: BTreeMap<String, Policy>,
    /// Those for jobs that have none of their own.
    pub usual: Option<Policy>,
}

impl Rules {
    fn of(&self, job: &str) -> Option<&Policy> {
        self.given.as_ref().or_else(|| self.jobs.get(job)).or(self.usual.as_ref())
    }

    /// Those of a job that was not asked for: what was given is not meant for it where the settings say something.
    fn of_another(&self, job: &str) -> Option<&Policy> {
        self.jobs.get(job).or(self.usual.as_ref()).or(self.given.as_ref())
    }
}

/// What to prune.
#[derive(Debug, Clone)]
pub struct PruneRequest {
    /// The store.
    pub store: StoreUrl,
    /// These jobs, and those that make sets with them; otherwise all.
    pub jobs: Vec<String>,
    /// What is kept.
    pub rules: Rules,
    /// Delete; otherwise only say what would be deleted.
    pub confirm: bool,
    /// Before anything of a job is deleted, read the stored bytes of the newest archive that is kept.
    pub verify_before: bool,
    /// What is older was left by a run that was killed.
    pub stale: Duration,
}

/// What becomes of an archive.
#[derive(Debug)]
pub enum Fate {
    /// It is kept, for its reasons.
    Kept,
    /// No rule keeps it: it would be deleted.
    Dropped,
    /// It is deleted, and so many bytes are freed.
    Gone(u64),
    /// It was to be deleted, and stays: something needs it now, or the store refuses.
    Stays(Kept),
    /// It was to be deleted; nobody knows what is left of it.
    Failed(Error),
}

/// An archive, and what becomes of it.
#[derive(Debug)]
pub struct Line {
    /// Its id.
    pub id: Id,
    /// When it was begun; none of what is no archive any more.
    pub started: Option<Timestamp>,
    /// Bytes of all that lies there of it.
    pub bytes: u64,
    /// Why it is kept.
    pub reasons: BTreeSet<Reason>,
    /// What becomes of it.
    pub fate: Fate,
}

/// A job, and what becomes of its archives, the oldest first.
#[derive(Debug)]
pub struct PrunedJob {
    /// Its name.
    pub job: String,
    /// Its archives.
    pub lines: Vec<Line>,
}

/// What came of it.
#[derive(Debug)]
pub struct Pruned {
    /// The store's name.
    pub store: String,
    /// The jobs.
    pub jobs: Vec<PrunedJob>,
    /// Why jobs, or what is left of sets, were not pruned.
    pub failed: Vec<(String, Error)>,
    /// It was interrupted: what is told was done until then.
    pub interrupted: Option<Error>,
}

impl Pruned {
    /// Nothing of a job could be deleted.
    fn fail(&mut self, place: usize, error: Error) {
        let PrunedJob { job, lines } = &mut self.jobs[place];
        for line in lines.iter_mut().filter(|line| matches!(line.fate, Fate::Dropped)) {
            line.fate = Fate::Failed(Error::failed(error.to_string()));
        }
        self.failed.push((job.clone(), error));
    }
}

/// Says what no rule keeps, and deletes it where that was confirmed.
///
/// # Errors
/// No rule was given; there is no such job; the store does not answer. What concerns one archive or job is no error, but
/// said of it.
pub async fn prune(request: &PruneRequest, ui: &Reporter, cancel: &CancellationToken) -> Result<Pruned> {
    let store = Arc::new(request.store.open(ui)?);
    let mut view = View::take(&store, &request.jobs, &request.rules).await?;
    has_rules(&view, request)?;
    view.also(&request.jobs)
        .for_each(|job| ui.note(&format!("{job} makes sets with them: it is pruned, too")));
    let reasons = view.decide(Timestamp::now());
    view.add_locks(&store, &reasons).await;
    let reasons = view.decide(Timestamp::now());
    tell_of_versions(&store, &reasons, ui).await;
    let mut pruned = Pruned {
        store: store.name.clone(),
        jobs: view.lines(&reasons),
        failed: Vec::new(),
        interrupted: None,
    };
    if !request.confirm {
        return Ok(pruned);
    }
    if request.verify_before {
        verify::newest(request, &mut pruned, ui).await;
    }
    Acting { store: &store, request, ui, cancel }.act(&view, &mut pruned).await?;
    Ok(pruned)
}

/// Says that a bucket keeps what is deleted.
async fn tell_of_versions(store: &Store, reasons: &[Reasons], ui: &Reporter) {
    let deletes = reasons.iter().flatten().any(BTreeSet::is_empty);
    if deletes && store.keeps_versions().await {
        ui.warn(&format!(
            "{} keeps older versions of what is deleted, and these cost as much as before: --versions removes them, too, \
             where the key may (s3:DeleteObjectVersion), and otherwise a lifecycle rule for noncurrent versions",
            store.name
        ));
    }
}

/// Without a rule nothing is to be deleted; whoever asks for that has forgotten something.
fn has_rules(view: &View, request: &PruneRequest) -> Result<()> {
    let lacks = |job: &&String| request.rules.of(job).is_none_or(Policy::is_empty);
    let without: Vec<_> = request.jobs.iter().filter(lacks).cloned().collect();
    let any = view.jobs.iter().any(|job| !lacks(&&job.job));
    let what = match without.as_slice() {
        [] if any || view.jobs.is_empty() => return Ok(()),
        [] => "no rule says what is kept: nothing is deleted".into(),
        jobs => format!("no rule says what is kept of {}: nothing is deleted", jobs.join(", ")),
    };
    Err(Error::usage(what).hint(
        "give --keep-daily 7 --keep-weekly 5 --keep-monthly 12, or write `keep = { daily = 7, weekly = 5, monthly = 12 }` \
         below [jobs.NAME] of the settings file",
    ))
}

/// What is deleted, and where.
struct Acting<'a> {
    store: &'a Arc<Store>,
    request: &'a PruneRequest,
    ui: &'a Reporter,
    cancel: &'a CancellationToken,
}

impl Acting<'_> {
    /// Puts the tombstones, looks again, and deletes what still nothing keeps.
    async fn act(&self, view: &View, pruned: &mut Pruned) -> Result<()> {
        let (mut removals, mut failed) = (Vec::new(), Vec::new());
        for (place, job) in pruned.jobs.iter().enumerate() {
            let marked: Vec<_> = job.lines.iter().filter(|line| matches!(line.fate, Fate::Dropped)).collect();
            let left = view.with_tombstone(&job.job);
            let ids: BTreeSet<_> = marked.iter().map(|line| &line.id).chain(left).collect();
            if ids.is_empty() {
                continue;
            }
            let begun = Removal::begin(self.store, &job.job, ids, "no rule keeps it", self.request.stale);
            match begun.await {
                Ok(removal) => removals.push((place, removal)),
                Err(error) => failed.push((place, error)),
            }
        }
        for (place, error) in failed {
            pruned.fail(place, error);
        }
        match self.look_again(view, pruned, &mut removals).await {
            Ok(again) => self.delete_all(&again, removals, pruned).await,
            Err(error) => return Err(give_up(removals, error).await),
        }
        if pruned.interrupted.is_none() {
            self.delete_sets(view, pruned).await;
        }
        Ok(())
    }

    /// What is kept now: for each job, by id.
    async fn look_again(
        &self,
        view: &View,
        pruned: &Pruned,
        removals: &mut [(usize, Removal<'_>)],
    ) -> Result<Again> {
        let mut uncommitted = BTreeMap::new();
        for (place, removal) in removals.iter_mut() {
            let job = &view.jobs[*place];
            let known = job.archives.iter().filter(|archive| archive.needs.is_some());
            let known: Needs = known.map(|archive| (archive.id.clone(), archive.needs.clone())).collect();
            removal.look_again(&known).await?;
            uncommitted.insert(job.job.clone(), removal.uncommitted());
        }
        // Of some, another run may have deleted all that there was.
        let mut now = View::take_what_is_there(self.store, &self.request.jobs, &self.request.rules).await?;
        now.add_uncommitted(&uncommitted);
        let stays = |line: &Line| matches!(line.fate, Fate::Failed(_));
        let of_job = |job: &PrunedJob| {
            let ids = job.lines.iter().filter(|line| stays(line)).map(|line| line.id.clone());
            ids.map(|id| (job.job.clone(), id)).collect::<Vec<_>>()
        };
        now.keep(&pruned.jobs.iter().flat_map(of_job).collect());
        let reasons = now.decide(Timestamp::now());
        Ok(Again::new(&now, reasons))
    }

    async fn delete_all(&self, again: &Again, removals: Vec<(usize, Removal<'_>)>, pruned: &mut Pruned) {
        for (place, mut removal) in removals {
            let job = &mut pruned.jobs[place];
            // What needs others is deleted before them.
            let mut lines: Vec<_> = job.lines.iter_mut().collect();
            lines.sort_by(|a, b| b.id.cmp(&a.id));
            for line in lines {
                if self.cancel.is_cancelled() {
                    break;
                }
                if let Err(error) = self.one(again, &job.job, &mut removal, line).await {
                    self.ui.detail(&format!("{}@{}: {error}", job.job, line.id));
                    line.fate = Fate::Failed(error);
                }
            }
            if self.cancel.is_cancelled() {
                let cause = pruned.interrupted.take().unwrap_or_else(Error::interrupted);
                pruned.interrupted = Some(removal.give_up(cause).await);
            }
        }
    }

    /// One archive: deleted, or its tombstones are taken back.
    async fn one(&self, again: &Again, job: &str, removal: &mut Removal<'_>, line: &mut Line) -> Result<()> {
        let kept = again.reasons(job, &line.id);
        match (&line.fate, kept) {
            (Fate::Dropped, Some(reasons)) if !reasons.is_empty() => {
                removal.keep(&line.id).await?;
                (line.reasons, line.fate) = (reasons.clone(), Fate::Kept);
            }
            (Fate::Dropped, _) => {
                line.fate = match removal.delete(&line.id).await? {
                    Removed::Gone(bytes) => Fate::Gone(bytes),
                    Removed::Kept(kept) => Fate::Stays(kept),
                };
            }
            _ => {
                removal.take_back_stale(&line.id).await?;
                removal.keep(&line.id).await?;
            }
        }
        Ok(())
    }

    /// What says how runs of sets ended of which nothing is left.
    async fn delete_sets(&self, view: &View, pruned: &mut Pruned) {
        let was_deleted = |(job, id): &(String, Id)| {
            let job = pruned.jobs.iter().find(|pruned| pruned.job == *job);
            let line = job.and_then(|job| job.lines.iter().find(|line| line.id == *id));
            line.is_some_and(|line| matches!(line.fate, Fate::Gone(_)))
        };
        let over: Vec<&SetRef> = view.ended_runs(was_deleted).collect();
        for set in over {
            if let Err(error) = self.store.delete_set(set).await {
                pruned.failed.push((set.to_string(), error));
            }
        }
    }
}

/// Takes all tombstones back. `cause` stays the cause.
async fn give_up(removals: Vec<(usize, Removal<'_>)>, mut cause: Error) -> Error {
    for (_, removal) in removals {
        cause = removal.give_up(cause).await;
    }
    cause
}

/// What the second look said.
struct Again(BTreeMap<(String, Id), BTreeSet<Reason>>);

impl Again {
    fn new(view: &View, reasons: Vec<Reasons>) -> Again {
        let jobs = view.jobs.iter().zip(reasons);
        let all = jobs.flat_map(|(job, reasons)| {
            let ids = job.archives.iter().map(|archive| (job.job.clone(), archive.id.clone()));
            ids.zip(reasons).collect::<Vec<_>>()
        });
        Again(all.collect())
    }

    /// Why an archive is kept; nothing where it is no archive any more.
    fn reasons(&self, job: &str, id: &Id) -> Option<&BTreeSet<Reason>> {
        self.0.get(&(job.to_string(), id.clone()))
    }
}
