//! Ten years of nights at random: failures, gaps, clocks that jump, summer time, sets, pins, damage, increments, removals that
//! are killed. What is kept is what the rules say, counted anew and in another way here, and nothing falls under the floors.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span as JiffSpan, ToSpan};

use super::tests::policy;
use super::*;
use crate::archive::testing::Random;

const DAY: SignedDuration = SignedDuration::from_hours(24);
const SET: &str = "ee";
const JOBS: [&str; 3] = ["ee/a", "ee/b", "alone"];

/// Times in the words of [`Span`], and of the library that the other count uses.
const SPANS: [(&str, i64, i64); 4] = [("3d", 3, 0), ("30d12h", 30, 12), ("400d", 400, 0), ("5h", 0, 5)];

/// What happened in decades.
#[derive(Default)]
struct Told {
    nights: AtomicU64,
    prunes: AtomicU64,
    dropped: AtomicU64,
    needed: AtomicU64,
    whole_runs: AtomicU64,
    only_damaged: AtomicU64,
    future: AtomicU64,
    killed: AtomicU64,
}

struct Decade {
    seed: u64,
    random: Random,
    zone: TimeZone,
    jobs: Vec<JobArchives>,
    /// The newest archive of each.
    newest: [Option<Id>; 3],
    complete: BTreeSet<SetRef>,
    /// What the host's clock says beside what is right.
    skew: SignedDuration,
    /// Nights that still fail.
    failing: usize,
}

impl Decade {
    fn new(seed: u64) -> Decade {
        let mut random = Random::new(seed);
        let zones = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"];
        let zone = TimeZone::get(random.choose(&zones)).unwrap();
        let mut decade = Decade {
            seed,
            zone,
            jobs: Vec::new(),
            newest: Default::default(),
            complete: BTreeSet::new(),
            skew: SignedDuration::ZERO,
            failing: 0,
            random,
        };
        for job in JOBS.iter().skip(if decade.random.one_in(2) { 2 } else { 0 }) {
            let policy = decade.policy();
            decade.jobs.push(JobArchives { job: (*job).into(), policy, archives: Vec::new() });
        }
        decade
    }

    fn policy(&mut self) -> Option<Policy> {
        if self.random.one_in(40) {
            return None;
        }
        let mut words = format!("min={}", self.random.below(5));
        for (_, word) in policy::PERIODS {
            match self.random.below(10) {
                0..3 => words += &format!(" {word}={}", 1 + self.random.below(12)),
                3 if matches!(word, "monthly" | "yearly") && self.random.one_in(2) => {
                    words += &format!(" {word}=unlimited");
                }
                4 if self.random.one_in(3) => {
                    let name = if word == "last" { "within".into() } else { format!("within-{word}") };
                    words += &format!(" {name}={}", self.random.choose(&SPANS).0);
                }
                _ => {}
            }
        }
        Some(Policy { zone: self.zone.clone(), ..policy(&words) })
    }

    /// Goes through ten years; the clocks that nights go by are those of the zone.
    fn live(&mut self, told: &Told) {
        let first = if self.random.one_in(2) { "2009-01-01" } else { "2024-02-27" };
        let mut date: jiff::civil::Date = first.parse().unwrap();
        let end = date.saturating_add(10.years());
        let every = self.random.choose(&[1, 7, 7, 7, 7, 7]);
        let mut next_prune = 1 + self.random.below(200);
        while date < end {
            let hour = self.random.choose(&[1, 2, 2, 3, 23]);
            let minute = self.random.below(60) as i8;
            let at = date.at(hour, minute, 0, 0).to_zoned(self.zone.clone()).unwrap().timestamp();
            self.night(at);
            told.nights.fetch_add(1, Ordering::Relaxed);
            next_prune -= 1;
            if next_prune == 0 {
                self.mishaps();
                self.prune(at.saturating_add(SignedDuration::from_hours(1)).unwrap(), told);
                let most = if self.random.one_in(4) { 3 } else { 100 };
                next_prune = 1 + self.random.below(most);
            }
            date = date.saturating_add(JiffSpan::new().days(every));
        }
    }

    /// One run of each job, unless it fails.
    fn night(&mut self, at: Timestamp) {
        if self.random.one_in(60) {
            self.failing = 1 + self.random.below(70);
        }
        if self.random.one_in(300) {
            self.skew = match self.random.below(4) {
                0 => DAY * (self.random.below(2_000) as i32),
                1 => DAY * -(self.random.below(700) as i32),
                _ => SignedDuration::ZERO,
            };
        }
        if self.failing > 0 {
            self.failing -= 1;
            return;
        }
        let runs = if self.random.one_in(40) { 1 + self.random.below(4) } else { 1 };
        for run in 0..runs {
            let started = at + self.skew + SignedDuration::from_mins(run as i64 * 25);
            let set = SetRef { name: SET.into(), id: self.id(started, None) };
            let members: Vec<_> = (0..self.jobs.len()).filter(|_| !self.random.one_in(15)).collect();
            for &j in &members {
                self.back_up(j, started, &set);
            }
            if members.iter().filter(|&&j| j + 1 < self.jobs.len()).count() == 2 {
                self.complete.insert(set);
            }
        }
    }

    /// An id of that time, or after the newest one.
    fn id(&mut self, at: Timestamp, newest: Option<&Id>) -> Id {
        let newest = newest.and_then(Id::time).filter(|newest| *newest >= at);
        let at = newest.map_or(at, |newest| newest + SignedDuration::from_secs(1));
        let civil = TimeZone::UTC.to_datetime(at);
        let (date, n) = (civil.date(), self.random.below(1 << 32));
        let text = format!(
            "{:04}{:02}{:02}T{:02}{:02}{:02}Z-{n:08x}",
            date.year(),
            date.month(),
            date.day(),
            civil.hour(),
            civil.minute(),
            civil.second()
        );
        text.parse().unwrap()
    }

    fn back_up(&mut self, j: usize, started: Timestamp, set: &SetRef) {
        let newest = self.newest[j].take();
        let id = self.id(started, newest.as_ref());
        self.newest[j] = Some(id.clone());
        let is_full = self.random.one_in(8);
        let base = self.jobs[j].archives.iter().rev().find(|archive| !archive.is_damaged && !is_full);
        let mut needs = Vec::new();
        if let Some(base) = base {
            // What the backup before kept in older ones, but for what nothing is live of any more; and itself.
            needs.extend(base.needs.iter().flatten().cloned());
            needs.push(base.id.clone());
            needs.retain(|_| self.random.below(3) > 0);
        }
        let is_partial = self.random.one_in(30);
        let set = (j + 1 < self.jobs.len() && !is_partial).then(|| set.clone());
        self.jobs[j].archives.push(Archive {
            id,
            started,
            needs: Some(needs),
            set,
            is_damaged: false,
            is_partial,
            is_pinned: false,
            locked_until: None,
        });
    }

    /// Damage is found, or healed; pins come and go; rules change.
    fn mishaps(&mut self) {
        for j in 0..self.jobs.len() {
            for _ in 0..self.random.below(4) {
                let len = self.jobs[j].archives.len();
                if len == 0 {
                    continue;
                }
                let (i, what) = (self.random.below(len), self.random.below(12));
                let archive = &mut self.jobs[j].archives[i];
                match what {
                    0..5 => archive.is_damaged = !archive.is_damaged,
                    5..9 => archive.is_pinned = !archive.is_pinned,
                    9 => (archive.needs, archive.is_damaged) = (None, true),
                    _ => {}
                }
            }
            if self.random.one_in(10) {
                self.jobs[j].policy = self.policy();
            }
        }
    }

    fn prune(&mut self, right: Timestamp, told: &Told) {
        // The order in which a store lists is none that matters.
        if self.random.one_in(3) {
            self.jobs.iter_mut().for_each(|job| job.archives.sort_by(|a, b| a.id.cmp(&b.id)));
        }
        let now = right + self.skew;
        // A run that lost a member is not complete.
        let mut members: BTreeMap<&SetRef, usize> = BTreeMap::new();
        for set in self.jobs.iter().flat_map(|job| &job.archives).filter_map(|a| a.set.as_ref()) {
            *members.entry(set).or_default() += 1;
        }
        self.complete.retain(|set| members.get(set) == Some(&2));
        let complete = self.complete.clone();
        let found = decide(&self.jobs, &complete, now);
        let kept: Vec<Vec<bool>> =
            found.iter().map(|job| job.iter().map(|reasons| !reasons.is_empty()).collect()).collect();
        let counted = count_again(&self.jobs, &complete, now);
        assert_eq!(kept, counted, "decade {} at {now}: {:#?}", self.seed, self.jobs);
        self.holds(&kept, &complete, now);
        self.tell(&found, told);
        // A removal goes from the newest to the oldest, and may be killed.
        for (job, kept) in self.jobs.iter_mut().zip(&kept) {
            let mut dropped: Vec<_> = job
                .archives
                .iter()
                .zip(kept)
                .filter(|(_, kept)| !**kept)
                .map(|(a, _)| a.id.clone())
                .collect();
            dropped.sort_by(|a, b| b.cmp(a));
            if self.random.one_in(5) {
                dropped.truncate(self.random.below(dropped.len() + 1));
                told.killed.fetch_add(1, Ordering::Relaxed);
            }
            let dropped: BTreeSet<_> = dropped.into_iter().collect();
            job.archives.retain(|archive| !dropped.contains(&archive.id));
            let there: BTreeSet<_> = job.archives.iter().map(|archive| &archive.id).collect();
            let lost = job.archives.iter().find(|a| a.needs.iter().flatten().any(|id| !there.contains(id)));
            assert!(lost.is_none(), "decade {} at {now}: {lost:?} lost what it needs", self.seed);
        }
    }

    /// The floors, each by itself.
    fn holds(&self, kept: &[Vec<bool>], complete: &BTreeSet<SetRef>, now: Timestamp) {
        let whole_run = complete.iter().filter(|run| run.id.time().unwrap() <= now).max();
        for (job, kept) in self.jobs.iter().zip(kept) {
            let all = || job.archives.iter().zip(kept.iter().copied());
            let is_past = |archive: &Archive| archive.started <= now && !archive.is_partial;
            let whole = all().filter(|(archive, _)| is_past(archive) && !archive.is_damaged);
            let mut whole: Vec<_> = whole.collect();
            whole.sort_by_key(|(archive, _)| (archive.started, archive.id.clone()));
            let least = job.policy.as_ref().map_or(usize::MAX, |policy| policy.min_keep.max(1) as usize);
            assert!(whole.iter().rev().take(least).all(|(_, kept)| *kept), "decade {}: newest", self.seed);
            let last =
                all().filter(|(archive, _)| !archive.is_partial).max_by_key(|(archive, _)| &archive.id);
            assert!(last.is_none_or(|(_, kept)| kept), "decade {}: last", self.seed);
            for (archive, kept) in all() {
                let must = archive.is_pinned
                    || archive.started > now
                    || archive.set.as_ref().is_some_and(|set| Some(set) == whole_run);
                assert!(kept || !must, "decade {}: {archive:?}", self.seed);
            }
        }
        // A run is whole, or gone.
        let mut runs: BTreeMap<&SetRef, BTreeSet<bool>> = BTreeMap::new();
        for (job, kept) in self.jobs.iter().zip(kept) {
            for (archive, kept) in job.archives.iter().zip(kept) {
                archive.set.iter().for_each(|set| runs.entry(set).or_default().extend([*kept]));
            }
        }
        assert!(runs.values().all(|kept| kept.len() == 1), "decade {}: {runs:?}", self.seed);
    }

    fn tell(&self, found: &[Reasons], told: &Told) {
        told.prunes.fetch_add(1, Ordering::Relaxed);
        let count = |counter: &AtomicU64, is: fn(&BTreeSet<Reason>) -> bool| {
            let n = found.iter().flatten().filter(|reasons| is(reasons)).count();
            counter.fetch_add(n as u64, Ordering::Relaxed);
        };
        count(&told.dropped, |reasons| reasons.is_empty());
        count(&told.needed, |why| why.len() == 1 && why.iter().any(|r| matches!(r, Reason::NeededBy(..))));
        count(&told.whole_runs, |why| why.len() == 1 && why.iter().any(|r| matches!(r, Reason::SetOf(_))));
        count(&told.only_damaged, |why| why.iter().any(|r| matches!(r, Reason::OnlyDamaged(_))));
        count(&told.future, |why| why.contains(&Reason::Future));
    }
}

/// What is kept, from the definitions: no loop that goes along a list and counts down.
fn count_again(jobs: &[JobArchives], complete: &BTreeSet<SetRef>, now: Timestamp) -> Vec<Vec<bool>> {
    let mut kept: BTreeSet<(usize, &Id)> = BTreeSet::new();
    let newest_run = complete.iter().filter(|run| run.id.time().unwrap() <= now).max();
    for (j, job) in jobs.iter().enumerate() {
        let all = &job.archives;
        let Some(policy) = &job.policy else {
            kept.extend(all.iter().map(|archive| (j, &archive.id)));
            continue;
        };
        let newest_id = all.iter().filter(|a| !a.is_partial).map(|a| &a.id).max();
        let is_kept = |a: &&Archive| {
            a.is_pinned
                || a.started > now
                || Some(&a.id) == newest_id
                || a.is_partial && newest_id.is_none_or(|newest| a.id > *newest)
        };
        kept.extend(all.iter().filter(is_kept).map(|a| (j, &a.id)));
        kept.extend(by_rules(all, policy, complete, now).map(|id| (j, id)));
    }
    for (j, job) in jobs.iter().enumerate() {
        let of_run = job.archives.iter().filter(|a| newest_run.is_some() && a.set.as_ref() == newest_run);
        kept.extend(of_run.map(|a| (j, &a.id)));
    }
    // What those need, and the rest of their runs, until nothing is added any more.
    let mut next: VecDeque<_> = kept.iter().copied().collect();
    let all = jobs.iter().map(|job| job.archives.iter().map(|a| (&a.id, a)).collect::<BTreeMap<_, _>>());
    let all: Vec<_> = all.collect();
    while let Some((j, id)) = next.pop_front() {
        let Some(archive) = all[j].get(id) else { continue };
        let mut also: Vec<(usize, &Id)> = Vec::new();
        match &archive.needs {
            Some(needs) => also.extend(needs.iter().map(|need| (j, need))),
            None => also.extend(jobs[j].archives.iter().filter(|a| a.id < *id).map(|a| (j, &a.id))),
        }
        if archive.set.is_some() {
            for (k, job) in jobs.iter().enumerate() {
                also.extend(job.archives.iter().filter(|a| a.set == archive.set).map(|a| (k, &a.id)));
            }
        }
        next.extend(also.into_iter().filter(|place| kept.insert(*place)));
    }
    let of_job = |(j, job): (usize, &JobArchives)| {
        job.archives.iter().map(|archive| kept.contains(&(j, &archive.id))).collect()
    };
    jobs.iter().enumerate().map(of_job).collect()
}

/// The archive of each period that stands for it, the oldest period first.
fn best_of_each<'a>(
    word: &str,
    past: &[&'a Archive],
    locals: &[DateTime],
    complete: &BTreeSet<SetRef>,
) -> Vec<&'a Archive> {
    let rank = |a: &&'a Archive| {
        (!a.is_damaged, a.set.as_ref().is_none_or(|set| complete.contains(set)), a.started, &a.id)
    };
    // Each period's name; they are sorted as they follow each other.
    let mut periods: BTreeMap<[i64; 4], Vec<&Archive>> = BTreeMap::new();
    for (nth, (archive, local)) in past.iter().zip(locals).enumerate() {
        let [year, month, day] = [local.year().into(), local.month().into(), local.day().into()];
        let week = local.date().iso_week_date();
        let name = match word {
            "last" => [nth as i64, 0, 0, 0],
            "hourly" => [year, month, day, local.hour().into()],
            "daily" => [year, month, day, 0],
            "weekly" => [week.year().into(), week.week().into(), 0, 0],
            "monthly" => [year, month, 0, 0],
            _ => [year, 0, 0, 0],
        };
        periods.entry(name).or_default().push(archive);
    }
    periods.values().filter_map(|of| of.iter().copied().max_by_key(rank)).collect()
}

fn by_rules<'a>(
    all: &'a [Archive],
    policy: &Policy,
    complete: &BTreeSet<SetRef>,
    now: Timestamp,
) -> impl Iterator<Item = &'a Id> {
    let mut past: Vec<&Archive> = all.iter().filter(|a| !a.is_partial && a.started <= now).collect();
    past.sort_by_key(|a| (a.started, a.id.clone()));
    let sound: Vec<&Archive> = past.iter().copied().filter(|a| !a.is_damaged).collect();
    let mut kept: Vec<&Id> =
        sound.iter().rev().take(policy.min_keep.max(1) as usize).map(|a| &a.id).collect();
    let locals: Vec<_> = past.iter().map(|a| a.started.to_zoned(policy.zone.clone()).datetime()).collect();
    for (word, count, span) in policy::PERIODS
        .iter()
        .zip(policy.counts)
        .zip(policy.within)
        .map(|(((_, word), count), span)| (*word, count, span.to_string()))
    {
        if count == Count::Of(0) && span.is_empty() {
            continue;
        }
        let best = best_of_each(word, &past, &locals, complete);
        // So many periods have whole ones that are newer than each period.
        let whole: Vec<_> =
            best.iter().enumerate().filter(|(_, a)| !a.is_damaged).map(|(at, _)| at).collect();
        for (at, archive) in best.iter().enumerate() {
            let newer = whole.len() - whole.partition_point(|whole| *whole <= at);
            let is_counted = match count {
                Count::Of(n) => newer < n as usize,
                Count::Unlimited => true,
            };
            kept.extend(is_counted.then_some(&archive.id));
        }
        let has_left = match count {
            Count::Of(n) => whole.len() < n as usize,
            Count::Unlimited => true,
        };
        kept.extend(sound.first().filter(|_| has_left).map(|a| &a.id));
        let newest = sound.last().or(past.last());
        let span = SPANS.iter().find(|(text, ..)| *text == span);
        if let (Some(newest), Some((_, days, hours))) = (newest, span) {
            let local = newest.started.to_zoned(policy.zone.clone());
            let day = local.date().saturating_sub(JiffSpan::new().days(*days));
            let since = day.to_datetime(local.time()).to_zoned(policy.zone.clone()).unwrap().timestamp()
                - SignedDuration::from_hours(*hours);
            let new = best.iter().chain(sound.first()).filter(|a| a.started > since);
            kept.extend(new.map(|a| &a.id));
        }
    }
    kept.into_iter()
}

/// As many decades as are asked for by the environment, or two thousand.
fn count() -> u64 {
    std::env::var("SEALIFT_TEST_DECADES").ok().map_or(2_000, |text| text.parse().unwrap())
}

#[test]
fn in_ten_years_of_nights_all_is_kept_that_should_be_and_nothing_else() {
    let (told, next, all) = (Told::default(), AtomicU64::new(0), count());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= all {
                        return;
                    }
                    Decade::new(seed).live(&told);
                }
            });
        }
    });
    // Each kind of thing did happen, and often.
    let Told { nights, prunes, dropped, needed, whole_runs, only_damaged, future, killed } = told;
    let counted = [nights, prunes, dropped, needed, whole_runs, only_damaged, future, killed];
    let counted = counted.map(AtomicU64::into_inner);
    let least = [500, 5, 200, 5, 5, 1, 5, 1].map(|each| each * all);
    assert!(counted.iter().zip(least).all(|(counted, least)| *counted >= least), "{counted:?} in {all}");
}
