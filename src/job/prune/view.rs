//! What a store holds, as far as it matters to what is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::StreamExt;
use jiff::Timestamp;

use super::super::retention::{Archive, JobArchives, Reasons, decide};
use super::super::stored::no_archive;
use super::{Fate, Line, PrunedJob, Rules};
use crate::archive::Id;
use crate::error::Result;
use crate::store::Store;
use crate::store::list::Listed;
use crate::store::removal::Beside;
use crate::store::set::{SetManifest, SetRef, SetRun};

/// Archives whose locks are asked for at once.
const AT_ONCE: usize = 8;

/// What a store holds of some jobs.
#[derive(Debug, Default)]
pub(super) struct View {
    /// The jobs, with their rules.
    pub(super) jobs: Vec<JobArchives>,
    /// Every archive that was listed, those of jobs that are not looked at among them.
    listed: BTreeSet<(String, Id)>,
    /// The runs of sets.
    runs: BTreeMap<SetRef, SetRun>,
    /// What lies there of each archive, and of what is none any more.
    beside: BTreeMap<(String, Id), Beside>,
    /// What the names of their objects end with, where a manifest says it.
    suffixes: BTreeMap<(String, Id), String>,
}

impl View {
    /// Looks at some jobs, and those that make sets with them; or at all.
    ///
    /// # Errors
    /// There is nothing of one that was asked for; the store does not answer.
    pub(super) async fn take(store: &Arc<Store>, asked: &[String], rules: &Rules) -> Result<View> {
        for job in asked {
            if store.ids(job).await?.is_empty() && store.beside(Some(job)).await?.is_empty() {
                return Err(no_archive(job, store).await);
            }
        }
        View::take_what_is_there(store, asked, rules).await
    }

    /// [`View::take`], where there may be nothing left.
    pub(super) async fn take_what_is_there(
        store: &Arc<Store>,
        asked: &[String],
        rules: &Rules,
    ) -> Result<View> {
        // Before the archives: what a set names was committed before it ended, so it is listed unless it is gone.
        let ended = store.sets().await?;
        let listed = list(store, asked).await?;
        let mut runs: BTreeMap<SetRef, SetRun> = BTreeMap::new();
        // Else the archives of other jobs were not listed.
        if listed.iter().any(|listed| set_of(listed).is_some()) {
            for (set, ended) in ended {
                runs.entry(set).or_default().ended = Some(ended);
            }
        }
        for listed in &listed {
            if let Some(set) = set_of(listed) {
                runs.entry(set).or_default().archives.push((listed.job.clone(), listed.id.clone()));
            }
        }
        let every = listed.iter().map(|listed| (listed.job.clone(), listed.id.clone())).collect();
        let names = connected(asked, &listed);
        let (mut jobs, mut suffixes) = (BTreeMap::<String, Vec<Archive>>::new(), BTreeMap::new());
        for listed in listed.into_iter().filter(|listed| names.contains(&listed.job)) {
            jobs.entry(listed.job.clone()).or_default().push(archive(&listed));
            if let Ok(manifest) = listed.manifest {
                suffixes.insert((listed.job, listed.id), manifest.suffix);
            }
        }
        let beside = match asked {
            [job] if names.len() == 1 => store.beside(Some(job)).await?,
            _ => store.beside(None).await?,
        };
        for job in beside.iter().filter(|(_, found)| found.is_broken_off()).map(|((job, _), _)| job) {
            if asked.is_empty() || names.contains(job) {
                jobs.entry(job.clone()).or_default();
            }
        }
        let jobs = jobs.into_iter().map(|(job, archives)| {
            let of_job = if asked.is_empty() || asked.contains(&job) {
                rules.of(&job)
            } else {
                rules.of_another(&job)
            };
            let policy = of_job.filter(|policy| !policy.is_empty()).cloned();
            JobArchives { job, policy, archives }
        });
        Ok(View { jobs: jobs.collect(), listed: every, runs, beside, suffixes })
    }

    /// Asks of what would be deleted, for no reason keeps it, until when the store keeps it locked.
    pub(super) async fn add_locks(&mut self, store: &Store, reasons: &[Reasons]) {
        if !store.may_lock().await {
            return;
        }
        let suffixes = &self.suffixes;
        let dropped = self.jobs.iter_mut().zip(reasons).flat_map(|(job, reasons)| {
            let all = job.archives.iter_mut().zip(reasons).filter(|(_, reasons)| reasons.is_empty());
            all.map(|(archive, _)| (&job.job, archive))
        });
        let asked =
            futures_util::stream::iter(dropped).for_each_concurrent(AT_ONCE, |(job, archive)| async move {
                let Some(suffix) = suffixes.get(&(job.clone(), archive.id.clone())) else { return };
                // A key that may not ask is told by the store when it deletes.
                if let Ok(Some((_, last))) = store.locked_until(job, &archive.id, suffix).await {
                    archive.locked_until = Some(last);
                }
            });
        asked.await;
    }

    /// Jobs that were not asked for.
    pub(super) fn also<'a>(&'a self, asked: &'a [String]) -> impl Iterator<Item = &'a String> {
        let jobs = self.jobs.iter().map(|job| &job.job);
        jobs.filter(|job| !asked.is_empty() && !asked.contains(job))
    }

    pub(super) fn decide(&self, now: Timestamp) -> Vec<Reasons> {
        let complete = self.runs.iter().filter(|(_, run)| run.is_complete()).map(|(set, _)| set.clone());
        decide(&self.jobs, &complete.collect(), now)
    }

    /// What is to become of each archive, and of what removals have left that were broken off.
    pub(super) fn lines(&self, reasons: &[Reasons]) -> Vec<PrunedJob> {
        let of_job = |(job, reasons): (&JobArchives, &Reasons)| {
            let bytes =
                |id: &Id| self.beside.get(&(job.job.clone(), id.clone())).map_or(0, |beside| beside.bytes);
            let archives = job.archives.iter().zip(reasons).map(|(archive, reasons)| Line {
                id: archive.id.clone(),
                started: Some(archive.started),
                bytes: bytes(&archive.id),
                reasons: reasons.clone(),
                fate: if reasons.is_empty() { Fate::Dropped } else { Fate::Kept },
            });
            let left =
                self.beside.iter().filter(|((of, _), beside)| *of == job.job && beside.is_broken_off());
            let left = left.map(|((_, id), beside)| Line {
                id: id.clone(),
                started: None,
                bytes: beside.bytes,
                reasons: BTreeSet::new(),
                fate: Fate::Dropped,
            });
            let mut lines: Vec<_> = archives.chain(left).collect();
            lines.sort_by(|a, b| a.id.cmp(&b.id));
            PrunedJob { job: job.job.clone(), lines }
        };
        self.jobs.iter().zip(reasons).map(of_job).collect()
    }

    /// The archives of a job that have tombstones.
    pub(super) fn with_tombstone<'a>(&'a self, job: &'a str) -> impl Iterator<Item = &'a Id> {
        let marked = self.beside.iter().filter(move |((of, _), beside)| of == job && beside.has_tombstone);
        marked.map(|((_, id), _)| id)
    }

    /// Adds archives that have no manifest yet: nobody knows what they need.
    pub(super) fn add_uncommitted(&mut self, found: &BTreeMap<String, Vec<Id>>) {
        for job in &mut self.jobs {
            for id in found.get(&job.job).into_iter().flatten() {
                if !job.archives.iter().any(|archive| archive.id == *id) {
                    job.archives.push(Archive {
                        id: id.clone(),
                        started: id.time().unwrap_or_default(),
                        needs: None,
                        set: None,
                        is_damaged: false,
                        is_partial: true,
                        is_pinned: true,
                        locked_until: None,
                    });
                }
            }
        }
    }

    /// Keeps archives that are not deleted, whatever the rules say: what their sets, or they, need stays, too.
    pub(super) fn keep(&mut self, ids: &BTreeSet<(String, Id)>) {
        for JobArchives { job, archives, .. } in &mut self.jobs {
            for archive in archives {
                archive.is_pinned |= ids.contains(&(job.clone(), archive.id.clone()));
            }
        }
    }

    /// Whether an archive is known to be damaged.
    pub(super) fn is_damaged(&self, job: &str, id: &Id) -> bool {
        self.archives(job).any(|archive| archive.id == *id && archive.is_damaged)
    }

    /// Whether a job has another archive that is not.
    pub(super) fn has_whole(&self, job: &str, but: &Id) -> bool {
        self.archives(job).any(|archive| archive.id != *but && !archive.is_damaged && !archive.is_partial)
    }

    fn archives<'a>(&'a self, job: &'a str) -> impl Iterator<Item = &'a Archive> {
        self.jobs.iter().filter(move |found| found.job == job).flat_map(|found| &found.archives)
    }

    /// Whether it is the newest complete run of its set.
    pub(super) fn is_newest_run(&self, set: &SetRef, now: Timestamp) -> bool {
        let complete = self.runs.iter().filter(|(other, run)| other.name == set.name && run.is_complete());
        let past = complete.filter(|(other, _)| other.id.time().is_some_and(|begun| begun <= now));
        past.map(|(other, _)| other).max() == Some(set)
    }

    /// The runs of sets that have ended, and of which nothing is left: what was listed `was_deleted`.
    pub(super) fn ended_runs(
        &self,
        was_deleted: impl Fn(&(String, Id)) -> bool,
    ) -> impl Iterator<Item = &SetRef> {
        let is_gone = move |archive: &(String, Id)| !self.listed.contains(archive) || was_deleted(archive);
        let members = |manifest: &SetManifest| -> Vec<(String, Id)> {
            let members = manifest.members.iter();
            members.filter_map(|member| Some((member.job.clone(), member.id.clone()?))).collect()
        };
        let is_over = move |run: &SetRun| match &run.ended {
            Some(Ok(manifest)) => {
                let all = members(manifest);
                !all.is_empty() && all.iter().chain(&run.archives).all(&is_gone)
            }
            _ => false,
        };
        self.runs.iter().filter(move |(_, run)| is_over(run)).map(|(set, _)| set)
    }
}

fn set_of(listed: &Listed) -> Option<SetRef> {
    listed.manifest.as_ref().ok().filter(|manifest| !manifest.partial)?.set.as_ref()?.parse().ok()
}

fn archive(listed: &Listed) -> Archive {
    let begun = listed.manifest.as_ref().ok().map(|manifest| manifest.started);
    Archive {
        id: listed.id.clone(),
        started: begun.or_else(|| listed.id.time()).unwrap_or_default(),
        needs: listed.needs.clone(),
        set: set_of(listed),
        is_damaged: !listed.is_whole(),
        is_partial: listed.is_partial(),
        is_pinned: !listed.marks.pins.is_empty(),
        locked_until: None,
    }
}

/// The archives of these jobs; where they belong to sets, or none is named, those of all.
async fn list(store: &Arc<Store>, asked: &[String]) -> Result<Vec<Listed>> {
    if asked.is_empty() {
        return store.archives(None).await;
    }
    let mut all = Vec::new();
    for job in asked {
        all.extend(store.archives(Some(job)).await?);
    }
    match all.iter().any(|listed| set_of(listed).is_some()) {
        true => store.archives(None).await,
        false => Ok(all),
    }
}

/// The jobs that are asked for, and those that make sets with them.
fn connected(asked: &[String], listed: &[Listed]) -> BTreeSet<String> {
    if asked.is_empty() {
        return listed.iter().map(|listed| listed.job.clone()).collect();
    }
    let mut names: BTreeSet<String> = asked.iter().cloned().collect();
    loop {
        let of_names = listed.iter().filter(|listed| names.contains(&listed.job));
        let sets: BTreeSet<_> = of_names.filter_map(set_of).collect();
        let with_them = listed.iter().filter(|listed| set_of(listed).is_some_and(|set| sets.contains(&set)));
        let before = names.len();
        names.extend(with_them.map(|listed| listed.job.clone()).collect::<Vec<_>>());
        if names.len() == before {
            return names;
        }
    }
}
