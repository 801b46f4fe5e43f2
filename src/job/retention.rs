//! Which archives are kept, and why: the rules of a policy, and the floors that no rule undercuts. No store is asked here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use jiff::Timestamp;
use jiff::civil::DateTime;

use crate::archive::Id;
use crate::store::set::SetRef;
use policy::{Count, Period, Policy, Span};

#[cfg(test)]
mod decade;
pub mod policy;
#[cfg(test)]
mod tests;

/// One archive of a job.
#[derive(Debug, Clone)]
pub struct Archive {
    /// Its id.
    pub id: Id,
    /// When it was begun, as its manifest says.
    pub started: Timestamp,
    /// The older archives that it needs; none where its manifest cannot be read.
    pub needs: Option<Vec<Id>>,
    /// The run of a set that it belongs to.
    pub set: Option<SetRef>,
    /// It is known to be damaged, and not to have been in order since.
    pub is_damaged: bool,
    /// A part of a run that was not over: no restore point.
    pub is_partial: bool,
    /// It is pinned.
    pub is_pinned: bool,
    /// Until then the store deletes nothing of it.
    pub locked_until: Option<Timestamp>,
}

/// The archives of a job, and what is to be kept of them.
#[derive(Debug, Clone)]
pub struct JobArchives {
    /// Its name.
    pub job: String,
    /// Its rules; without them all is kept.
    pub policy: Option<Policy>,
    /// What the store has of it, in any order.
    pub archives: Vec<Archive>,
}

/// Why an archive is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// No rule says anything of its job.
    NoRule,
    /// A rule counts it.
    Rule(Period),
    /// A rule has some left to count, and it is the oldest.
    Oldest(Period),
    /// It is new enough, and the newest of its period.
    Within(Period, String),
    /// It is damaged, but nothing else is there of its period.
    OnlyDamaged(Period),
    /// It is the newest of its job.
    Newest,
    /// It is one of the newest.
    MinKeep,
    /// It is pinned.
    Pinned,
    /// The store deletes nothing of it before that time.
    Locked(Timestamp),
    /// It lies in the future.
    Future,
    /// It is a part of a run that may still go on.
    Unfinished,
    /// A kept one needs it: the newest of them, and how many others do.
    NeededBy(Id, usize),
    /// This kept one may need it: its manifest cannot be read.
    MayBeNeededBy(Id),
    /// Its run is the newest complete one of its set.
    NewestRun(SetRef),
    /// Another one of its run of a set is kept.
    SetOf(SetRef),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NoRule => f.write_str("no rule"),
            Reason::Rule(period) => period.fmt(f),
            Reason::Oldest(period) => write!(f, "oldest {period}"),
            Reason::Within(Period::Each, span) => write!(f, "within {span}"),
            Reason::Within(period, span) => write!(f, "{period} within {span}"),
            Reason::OnlyDamaged(period) => write!(f, "{period} (damaged)"),
            Reason::Newest => f.write_str("newest"),
            Reason::MinKeep => f.write_str("min-keep"),
            Reason::Pinned => f.write_str("pinned"),
            Reason::Locked(until) => write!(f, "locked until {}", until.strftime("%Y-%m-%d %H:%M:%SZ")),
            Reason::Future => f.write_str("newer than the clock"),
            Reason::Unfinished => f.write_str("part of an unfinished run"),
            Reason::NeededBy(id, 0) => write!(f, "needed by {id}"),
            Reason::NeededBy(id, others) => write!(f, "needed by {id} and {others} more"),
            Reason::MayBeNeededBy(id) => {
                write!(f, "may be needed by {id}, whose manifest is damaged or missing")
            }
            Reason::NewestRun(set) => write!(f, "newest complete {set}"),
            Reason::SetOf(set) => write!(f, "with {set}"),
        }
    }
}

/// Why each archive of a job is kept, in the order in which they were given; those without a reason are dropped.
pub type Reasons = Vec<BTreeSet<Reason>>;

/// Says of every archive whether it is kept, and why. `complete` has the runs of sets of which nothing is missing.
pub fn decide(jobs: &[JobArchives], complete: &BTreeSet<SetRef>, now: Timestamp) -> Vec<Reasons> {
    let mut kept: Vec<Reasons> = jobs.iter().map(|job| of_one_job(job, complete, now)).collect();
    let newest = newest_runs(complete, now);
    for (job, reasons) in jobs.iter().zip(&mut kept) {
        for (archive, reasons) in job.archives.iter().zip(reasons) {
            let run = archive.set.as_ref().filter(|set| newest.contains(set));
            reasons.extend(run.cloned().map(Reason::NewestRun));
        }
    }
    Closure::new(jobs, &mut kept).close();
    kept
}

/// The newest complete run of each set that does not lie in the future.
fn newest_runs(complete: &BTreeSet<SetRef>, now: Timestamp) -> BTreeSet<&SetRef> {
    let mut newest: BTreeMap<&str, &SetRef> = BTreeMap::new();
    for run in complete.iter().filter(|run| run.id.time().is_some_and(|begun| begun <= now)) {
        newest.insert(&run.name, run);
    }
    newest.into_values().collect()
}

/// What is kept for its own sake, or its job's.
fn of_one_job(job: &JobArchives, complete: &BTreeSet<SetRef>, now: Timestamp) -> Reasons {
    let Some(policy) = &job.policy else {
        return vec![BTreeSet::from([Reason::NoRule]); job.archives.len()];
    };
    let mut kept: Reasons = vec![BTreeSet::new(); job.archives.len()];
    let archives = &job.archives;
    // Newest first. What lies in the future or is a part of something is kept, or not, for other reasons.
    let is_counted = |&i: &usize| !archives[i].is_partial && archives[i].started <= now;
    let mut counted: Vec<usize> = (0..archives.len()).filter(is_counted).collect();
    counted.sort_by_key(|&i| std::cmp::Reverse((archives[i].started, &archives[i].id)));
    let civil = |archive: &Archive| archive.started.to_zoned(policy.zone.clone()).datetime();
    let times: Vec<_> = archives.iter().map(civil).collect();
    let rules = Rules { archives, complete, policy, counted: &counted, times: &times };
    rules.floors(&mut kept);
    rules.apply(&mut kept);
    let newest_id = archives.iter().filter(|archive| !archive.is_partial).map(|archive| &archive.id).max();
    for (archive, reasons) in archives.iter().zip(&mut kept) {
        let is_open = archive.is_partial && newest_id.is_none_or(|newest| archive.id > *newest);
        reasons.extend(archive.is_pinned.then_some(Reason::Pinned));
        reasons.extend(archive.locked_until.filter(|until| *until > now).map(Reason::Locked));
        reasons.extend((archive.started > now).then_some(Reason::Future));
        reasons.extend(is_open.then_some(Reason::Unfinished));
        // Made last, whatever clocks said.
        reasons.extend((newest_id == Some(&archive.id)).then_some(Reason::Newest));
    }
    kept
}

/// The rules of one job, on the archives that count.
struct Rules<'a> {
    archives: &'a [Archive],
    complete: &'a BTreeSet<SetRef>,
    policy: &'a Policy,
    /// Places of those that count, the newest first.
    counted: &'a [usize],
    /// When each was begun, by the clocks of the policy's zone.
    times: &'a [DateTime],
}

impl Rules<'_> {
    /// Those that are not damaged, the newest first.
    fn sound(&self) -> impl DoubleEndedIterator<Item = usize> {
        self.counted.iter().copied().filter(|&i| !self.archives[i].is_damaged)
    }

    /// The newest that are whole.
    fn floors(&self, kept: &mut Reasons) {
        for (nth, i) in self.sound().take(self.policy.min_keep.max(1) as usize).enumerate() {
            kept[i].insert(if nth == 0 { Reason::Newest } else { Reason::MinKeep });
        }
    }

    fn apply(&self, kept: &mut Reasons) {
        for (period, count) in self.policy.counted() {
            self.count(period, count, kept);
        }
        // As for all rules, what is damaged is no reason to let go what is not.
        let newest = self.sound().next().or(self.counted.first().copied()).map(|i| self.archives[i].started);
        for (period, span) in self.policy.timed() {
            let since = newest.map(|newest| span.before(newest, &self.policy.zone));
            since.into_iter().for_each(|since| self.keep_within(period, span, since, kept));
        }
    }

    /// One archive of each of the last so many periods that have one. Damaged ones are never counted: they are kept beside
    /// what is counted where they are all that is there of a period.
    fn count(&self, period: Period, count: Count, kept: &mut Reasons) {
        let (chosen, mut left) = (self.of_each(period), count);
        for &i in &chosen {
            if !left.is_left() {
                return;
            }
            match self.archives[i].is_damaged {
                true => {
                    kept[i].insert(Reason::OnlyDamaged(period));
                }
                false => {
                    kept[i].insert(Reason::Rule(period));
                    left = left.less();
                }
            }
        }
        // As long as there are too few periods, the history is as long as can be.
        let oldest = self.sound().next_back();
        if let Some(i) = oldest.filter(|i| left.is_left() && !chosen.contains(i)) {
            kept[i].insert(Reason::Oldest(period));
        }
    }

    /// One archive of each period, or all, of those that are newer than that time.
    fn keep_within(&self, period: Period, span: Span, since: Timestamp, kept: &mut Reasons) {
        // If all are new enough, the oldest of all is kept, too.
        let oldest = self.sound().next_back();
        for i in self.of_each(period).into_iter().chain(oldest) {
            if self.archives[i].started > since {
                kept[i].insert(Reason::Within(period, span.to_string()));
            }
        }
    }

    /// The one of each period that is kept of it, the newest period first: the newest that is whole, if there is one; and of
    /// those, the newest whose set is.
    fn of_each(&self, period: Period) -> Vec<usize> {
        let mut chosen: Vec<((i64, i64), usize)> = Vec::new();
        let mut places: HashMap<(i64, i64), usize> = HashMap::new();
        for (nth, &i) in self.counted.iter().enumerate() {
            let key = period.of(self.times[i], nth);
            match places.get(&key) {
                None => {
                    places.insert(key, chosen.len());
                    chosen.push((key, i));
                }
                Some(&place) if self.rank(i) > self.rank(chosen[place].1) => chosen[place].1 = i,
                Some(_) => {}
            }
        }
        chosen.into_iter().map(|(_, i)| i).collect()
    }

    /// How much an archive is worth as the only one of its period.
    fn rank(&self, i: usize) -> (bool, bool) {
        let archive = &self.archives[i];
        (!archive.is_damaged, archive.set.as_ref().is_none_or(|set| self.complete.contains(set)))
    }
}

/// What is kept for others: what a kept one needs, and the rest of its run of a set.
struct Closure<'a> {
    jobs: &'a [JobArchives],
    kept: &'a mut [Reasons],
    /// Where an archive of a job is.
    places: Vec<HashMap<&'a Id, usize>>,
    /// The archives of each run of a set: job and place.
    runs: BTreeMap<&'a SetRef, Vec<(usize, usize)>>,
    /// What is kept, and what of that is still to be followed.
    done: BTreeSet<(usize, usize)>,
    next: Vec<(usize, usize)>,
    /// The newest that needs an archive, and how many others do.
    needed: BTreeMap<(usize, usize), (&'a Id, usize)>,
}

impl<'a> Closure<'a> {
    fn new(jobs: &'a [JobArchives], kept: &'a mut [Reasons]) -> Self {
        let (mut places, mut runs) = (Vec::new(), BTreeMap::<_, Vec<_>>::new());
        for (j, job) in jobs.iter().enumerate() {
            places.push(job.archives.iter().enumerate().map(|(i, archive)| (&archive.id, i)).collect());
            for (i, archive) in job.archives.iter().enumerate() {
                archive.set.iter().for_each(|set| runs.entry(set).or_default().push((j, i)));
            }
        }
        let (done, next, needed) = (BTreeSet::new(), Vec::new(), BTreeMap::new());
        Closure { jobs, kept, places, runs, done, next, needed }
    }

    fn close(mut self) {
        for (j, reasons) in self.kept.iter().enumerate() {
            let own = reasons.iter().enumerate().filter(|(_, reasons)| !reasons.is_empty());
            self.next.extend(own.map(|(i, _)| (j, i)));
        }
        self.done.extend(&self.next);
        while let Some((j, i)) = self.next.pop() {
            self.keep_needs(j, i);
            self.keep_run(j, i);
        }
        for ((j, i), (id, others)) in self.needed {
            self.kept[j][i].insert(Reason::NeededBy(id.clone(), others));
        }
    }

    fn follow(&mut self, place: (usize, usize)) {
        if self.done.insert(place) {
            self.next.push(place);
        }
    }

    fn keep_needs(&mut self, j: usize, i: usize) {
        let archives = &self.jobs[j].archives;
        let own = &archives[i].id;
        let Some(needs) = &archives[i].needs else { return self.keep_older(j, i) };
        let places: Vec<_> = needs.iter().filter_map(|id| self.places[j].get(id).copied()).collect();
        for place in places {
            let (newest, others) = self.needed.entry((j, place)).or_insert((own, 0));
            if *newest != own {
                (*newest, *others) = (own.max(newest), *others + 1);
            }
            self.follow((j, place));
        }
    }

    /// Where nobody knows what an archive needs, it may be all that is older.
    fn keep_older(&mut self, j: usize, i: usize) {
        let archives = &self.jobs[j].archives;
        let own = &archives[i].id;
        for place in (0..archives.len()).filter(|&place| archives[place].id < *own) {
            let reasons = &mut self.kept[j][place];
            if !reasons.iter().any(|reason| matches!(reason, Reason::MayBeNeededBy(_))) {
                reasons.insert(Reason::MayBeNeededBy(own.clone()));
            }
            self.follow((j, place));
        }
    }

    fn keep_run(&mut self, j: usize, i: usize) {
        let Some(set) = &self.jobs[j].archives[i].set else { return };
        for other in self.runs.get(set).cloned().unwrap_or_default() {
            if other != (j, i) {
                self.kept[other.0][other.1].insert(Reason::SetOf(set.clone()));
                self.follow(other);
            }
        }
    }
}
