//! Years of nights, and a thousand months: whatever happens to a host and its clock, every due time is a run, once, or is said
//! to be missed.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::*;

const ZONES: [&str; 4] = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"];
/// Those that fall into the gaps and the repeated hours of these zones among them.
const EXPRESSIONS: [&str; 10] = [
    "30 2 * * *",
    "0 3 * * *",
    "15 1 * * *",
    "45 1 * * SUN",
    "30 1,2 * * SAT,SUN",
    "0 0 * * *",
    "10 2 1 * *",
    "0 22 * * MON-FRI",
    "*/30 2 * * SUN",
    "0 */6 * * *",
];
const HOUR: i64 = 3600;

/// Numbers that look like chance, always the same for a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: i64) -> i64 {
        self.0 = xxh64(&self.0.to_le_bytes(), 1);
        (self.0 >> 8) as i64 % limit
    }

    fn one_in(&mut self, count: i64) -> bool {
        self.below(count) == 0
    }
}

fn later(time: Timestamp, seconds: i64) -> Timestamp {
    Timestamp::from_second(time.as_second() + seconds).unwrap()
}

struct Running {
    due: Timestamp,
    begun: Timestamp,
    end: Timestamp,
}

/// A host that runs `serve`, and what a bystander has written down of it.
struct Host {
    chance: Chance,
    zone: TimeZone,
    now: Timestamp,
    /// When this life began.
    born: Timestamp,
    /// The latest that the clock had shown when it was put back: up to here, times come twice.
    furthest: Timestamp,
    schedules: Vec<Schedule>,
    planner: Planner,
    /// The runs under way, by name.
    running: BTreeMap<String, Running>,
    /// When the newest run of each began: what the store shows.
    newest: BTreeMap<String, Timestamp>,
    /// What is due next by the calendar, of each schedule.
    next: BTreeMap<String, Timestamp>,
    /// What was due by the calendar.
    owed: BTreeSet<(String, Timestamp)>,
    /// What has begun in this life, what in those before it and is not to begin again, and what began ever.
    started: BTreeSet<(String, Timestamp)>,
    earlier: BTreeSet<(String, Timestamp)>,
    ever: BTreeSet<(String, Timestamp)>,
    missed: Vec<(String, Timestamp, Timestamp)>,
    /// How many runs there were in place of others that a stretch of downtime took.
    caught_up: usize,
    /// How many due times a kill took that are none by the settings of the next life.
    forgotten: usize,
}

impl Host {
    fn new(seed: u64) -> Host {
        let mut chance = Chance(seed);
        let zone = TimeZone::get(ZONES[chance.below(4) as usize]).unwrap();
        let now =
            "2026-01-01T00:00:00".parse::<DateTime>().unwrap().to_zoned(zone.clone()).unwrap().timestamp();
        let now = later(now, chance.below(300 * 24 * HOUR));
        let mut host = Host {
            planner: Planner::new(Vec::new(), 1 + chance.below(2) as usize, seed, now),
            chance,
            zone,
            now,
            born: now,
            furthest: Timestamp::MIN,
            schedules: Vec::new(),
            running: BTreeMap::new(),
            newest: BTreeMap::new(),
            next: BTreeMap::new(),
            owed: BTreeSet::new(),
            started: BTreeSet::new(),
            earlier: BTreeSet::new(),
            ever: BTreeSet::new(),
            missed: Vec::new(),
            caught_up: 0,
            forgotten: 0,
        };
        host.reload();
        host
    }

    /// Writes down what the calendar says between two readings of the clock.
    fn owe(&mut self, until: Timestamp) {
        for Schedule { name, when, .. } in &self.schedules {
            let next = self.next.entry(name.clone()).or_insert_with(|| when.next(self.now).unwrap());
            while *next <= until {
                self.owed.insert((name.clone(), *next));
                *next = when.next(*next).unwrap();
            }
        }
        self.now = until;
    }

    fn note(&mut self, acts: Vec<Act>) {
        for act in acts {
            match act {
                Act::Missed { name, from, to, .. } => self.missed.push((name, from, to)),
                Act::Start { name, due } => {
                    let run = (name.clone(), due);
                    let is_first = self.started.insert(run.clone()) && !self.earlier.contains(&run);
                    assert!(is_first, "{name} ran twice for {due}");
                    self.ever.insert(run);
                    assert!(due <= self.now, "{name} ran before it was due");
                    let minutes = match self.chance.below(20) {
                        0 => 60 * 30,
                        1 => 60 * 7,
                        _ => self.chance.below(50),
                    };
                    let run = Running { due, begun: self.now, end: later(self.now, 1 + minutes * 60) };
                    assert!(self.running.insert(name.clone(), run).is_none(), "two runs of {name} at once");
                }
            }
        }
    }

    /// A run is over, and the store shows it.
    fn end(&mut self, name: String, run: &Running) {
        let newest = self.newest.entry(name).or_insert(run.begun);
        *newest = (*newest).max(run.begun);
    }

    /// Lets time pass to the next moment at which anything happens.
    fn step(&mut self) {
        let wake = self.planner.next().unwrap_or(Timestamp::MAX).min(later(self.now, 24 * HOUR));
        let end = self.running.values().map(|run| run.end).min();
        let to = end.unwrap_or(wake).min(wake).max(self.now);
        self.owe(to);
        let (ended, running): (BTreeMap<_, _>, _) =
            std::mem::take(&mut self.running).into_iter().partition(|(_, run)| run.end <= to);
        self.running = running;
        for (name, run) in ended {
            self.planner.ended(&name);
            self.end(name, &run);
        }
        let acts = self.planner.tick(to);
        self.note(acts);
    }

    /// The clock is put forward, or the host has slept.
    fn forward(&mut self) {
        let to = later(self.now, self.chance.below(80 * HOUR));
        self.owe(to);
        let acts = self.planner.tick(to);
        self.note(acts);
    }

    /// The clock is put back; what runs takes as long as it takes.
    fn backward(&mut self) {
        let by = self.chance.below(50 * HOUR);
        self.furthest = self.furthest.max(self.now);
        self.now = later(self.now, -by);
        // What is yet to come is owed when it comes, and what was said of it does not count.
        self.next.clear();
        self.owed.retain(|(_, due)| *due <= self.now);
        self.missed.retain(|(_, from, _)| *from <= self.now);
        self.missed.iter_mut().for_each(|(_, _, to)| *to = (*to).min(self.now));
        // What ran in a life before is known to nobody but the store.
        if self.now < self.born {
            self.earlier.retain(|(_, due)| *due <= self.now);
        }
        self.running.values_mut().for_each(|run| run.end = later(run.end, -by));
        let acts = self.planner.tick(self.now);
        self.note(acts);
    }

    /// Killed, or stopped in order; and some time later there again.
    fn down(&mut self, seed: u64) {
        let is_killed = self.chance.one_in(2);
        if !is_killed {
            let acts = self.planner.stop(self.now);
            self.note(acts);
        }
        // Where the host itself went down, nothing shows that they began.
        let is_lost = is_killed && self.chance.one_in(2);
        for (name, run) in std::mem::take(&mut self.running) {
            if is_lost {
                let run = (name, run.due);
                self.started.remove(&run);
                // What was taken out of the settings while it ran is owed to nobody.
                if self.schedules.iter().any(|schedule| schedule.name == run.0) {
                    self.ever.remove(&run);
                }
            } else {
                self.end(name, &run);
            }
        }
        if is_killed {
            self.forget();
        }
        let to = later(self.now, self.chance.below(100 * HOUR));
        self.owe(to);
        self.up(seed);
    }

    /// A kill takes what had no run yet by a schedule that was changed since: the settings of the next life do not tell of it,
    /// and the store shows runs alone.
    fn forget(&mut self) {
        let when = |name: &str| self.schedules.iter().find(|it| it.name == name).map(|it| &it.when);
        let is_due = |name: &str, due: Timestamp| {
            when(name).is_none_or(|when| when.next(later(due, -1)).is_some_and(|next| next == due))
        };
        let lost: Vec<_> = self.unaccounted().filter(|(name, due)| !is_due(name, *due)).cloned().collect();
        self.forgotten += lost.len();
        self.owed.retain(|owed| !lost.contains(owed));
    }

    /// Another life begins.
    fn up(&mut self, seed: u64) {
        let now = self.now;
        self.born = now;
        self.planner = Planner::new(self.schedules.clone(), 1, seed, now);
        for Schedule { name, when, .. } in self.schedules.clone() {
            let newest = self.newest.get(&name).copied();
            if let Some(newest) = newest {
                // The clock was ahead when that run began, and nobody can tell what it stands for.
                let unclear = newest.min(self.furthest);
                self.owed.retain(|(owed, due)| *owed != name || *due > unclear);
                // It stands for the last due time before it, also where the clock is put back behind that.
                let shown = when.newest(Timestamp::MIN, newest.min(now));
                self.ever.extend(shown.map(|due| (name.clone(), due)));
            } else {
                // Since when there should be one is not known; the first is due now.
                self.owed.retain(|(owed, _)| *owed != name);
                self.owed.extend(when.newest(Timestamp::MIN, now).map(|due| (name.clone(), due)));
            }
            let acts = self.planner.catch_up(&name, newest, now);
            self.caught_up += usize::from(self.planner.waits(&name));
            self.note(acts);
        }
        self.earlier.append(&mut self.started);
        // A clock that went backward before lets another life begin before the end of this one.
        self.earlier.retain(|(_, due)| *due <= now);
    }

    /// Schedules are added, changed and taken out.
    fn reload(&mut self) {
        let mut schedules = Vec::new();
        for n in 0..3 {
            let name = format!("job{n}");
            let known = self.schedules.iter().find(|schedule| schedule.name == name);
            if let Some(known) = known.filter(|_| !self.chance.one_in(3)) {
                schedules.push(known.clone());
            } else if !self.chance.one_in(4) {
                let expression = Expression::new(EXPRESSIONS[self.chance.below(10) as usize]).unwrap();
                let when = When { expression, zone: self.zone.clone() };
                let jitter = Duration::from_secs(self.chance.below(1800) as u64);
                schedules.push(Schedule { name, when, jitter });
            }
        }
        let acts = self.planner.reload(schedules.clone(), self.now);
        self.schedules = schedules;
        self.next.clear();
        self.note(acts);
    }

    /// What was due, and neither began nor is said to be missed.
    fn unaccounted(&self) -> impl Iterator<Item = &(String, Timestamp)> {
        let is_said = |name: &str, due: Timestamp| {
            self.missed.iter().any(|(missed, from, to)| missed == name && *from <= due && due <= *to)
        };
        self.owed.iter().filter(move |owed| !self.ever.contains(owed) && !is_said(&owed.0, owed.1))
    }
}

#[test]
fn a_thousand_histories_of_nights_are_accounted_for() {
    let (mut runs, mut missed, mut caught_up, mut forgotten) = (0, 0, 0, 0);
    for seed in 0..1_020 {
        let mut host = Host::new(seed);
        // Some go on for a year; a month has every kind of thing in it.
        let days = if seed < 20 { 365 } else { 30 };
        let end = later(host.now, days * 24 * HOUR);
        while host.now < end {
            match host.chance.below(120) {
                0 => host.forward(),
                1 => host.backward(),
                2 => host.down(seed),
                3 => host.reload(),
                _ => host.step(),
            }
        }
        let acts = host.planner.stop(host.now);
        host.note(acts);
        if let Some((name, due)) = host.unaccounted().next() {
            panic!("seed {seed}: {name} was due at {due}, and nobody knows what became of it");
        }
        runs += host.ever.len();
        missed += host.missed.len();
        caught_up += host.caught_up;
        forgotten += host.forgotten;
    }
    assert!(runs > 10_000 && missed > 1_000 && caught_up > 100, "{runs} {missed} {caught_up}");
    // What is excused is rare.
    assert!(forgotten * 1_000 < runs, "{forgotten} of {runs}");
}

/// A planner of one schedule in Berlin, at noon of a day.
fn one(expression: &str, parallel: usize) -> (Planner, Timestamp) {
    let when = When {
        expression: Expression::new(expression).unwrap(),
        zone: TimeZone::get("Europe/Berlin").unwrap(),
    };
    let noon = "2026-05-05T10:00Z".parse().unwrap();
    let schedule = Schedule { name: "a".into(), when, jitter: Duration::ZERO };
    (Planner::new(vec![schedule], parallel, 0, noon), noon)
}

fn at(text: &str) -> Timestamp {
    format!("2026-05-{text}Z").parse().unwrap()
}

fn start(due: &str) -> Act {
    Act::Start { name: "a".into(), due: at(due) }
}

fn missed(from: &str, to: &str, why: Why) -> Act {
    Act::Missed { name: "a".into(), from: at(from), to: at(to), why }
}

#[test]
fn a_clock_that_is_put_forward_over_nights_runs_one_and_names_the_others() {
    let (mut planner, _) = one("0 2 * * *", 1);
    let acts = planner.tick(at("09T08:00"));
    assert_eq!(acts, [missed("06T00:00", "08T00:00", Why::Passed), start("09T00:00")]);
}

#[test]
fn a_clock_that_is_put_back_runs_nothing_twice_and_what_was_not_run_again() {
    let (mut planner, _) = one("0 2 * * *", 1);
    assert_eq!(planner.tick(at("09T08:00")).len(), 2);
    planner.ended("a");
    assert_eq!(planner.tick(at("07T12:00")), []);
    assert_eq!(planner.tick(at("08T00:00")), [start("08T00:00")]);
    planner.ended("a");
    // It was run before the clock went backward.
    assert_eq!(planner.tick(at("09T00:00")), []);
    assert_eq!(planner.tick(at("10T00:00")), [start("10T00:00")]);
}

#[test]
fn a_clock_that_was_years_ahead_stops_nothing() {
    let (mut planner, noon) = one("0 2 * * *", 1);
    let acts = planner.tick("2031-01-01T12:00Z".parse().unwrap());
    assert_eq!(acts.len(), 2);
    planner.ended("a");
    assert_eq!(planner.tick(noon), []);
    assert_eq!(planner.next(), Some(at("06T00:00")));
    assert_eq!(planner.tick(at("06T00:00")), [start("06T00:00")]);
}

#[test]
fn one_that_still_runs_is_not_begun_again_and_one_that_waits_is_not_lost() {
    let (mut planner, _) = one("0 2 * * *", 1);
    assert_eq!(planner.tick(at("06T00:00")), [start("06T00:00")]);
    assert_eq!(planner.tick(at("07T00:00")), [missed("07T00:00", "07T00:00", Why::Running)]);
    planner.ended("a");
    assert_eq!(planner.tick(at("08T00:00")), [start("08T00:00")]);
    // Two of other names wait for their turn.
    let (mut planner, noon) = one("0 2 * * *", 1);
    let schedule = planner.entries["a"].schedule.clone();
    let b = Schedule { name: "b".into(), ..schedule.clone() };
    assert_eq!(planner.reload(vec![schedule, b], noon), []);
    assert_eq!(planner.tick(at("06T00:00")), [start("06T00:00")]);
    planner.ended("a");
    let acts = planner.tick(at("06T05:00"));
    assert_eq!(acts, [Act::Start { name: "b".into(), due: at("06T00:00") }]);
}

#[test]
fn what_the_store_shows_is_not_caught_up_and_what_it_lacks_is_once() {
    let (mut planner, noon) = one("0 2 * * *", 1);
    assert_eq!(planner.catch_up("a", Some(at("05T00:00")), noon), []);
    assert_eq!(planner.tick(noon), []);
    // The clock of the host was ahead when it was started.
    assert_eq!(planner.tick(at("04T20:00")), []);
    assert_eq!(planner.tick(noon), []);
    let acts = planner.catch_up("a", Some(at("02T00:01")), noon);
    assert_eq!(acts, [missed("03T00:00", "04T00:00", Why::Down)]);
    assert_eq!(planner.tick(noon), [start("05T00:00")]);
    // It runs already.
    assert_eq!(planner.catch_up("a", None, noon), [missed("05T00:00", "05T00:00", Why::Down)]);
}

#[test]
fn what_waits_when_its_times_change_is_run_and_a_kill_before_that_forgets_it() {
    let (mut planner, noon) = one("0 2 * * *", 1);
    let nightly = Schedule { jitter: Duration::from_secs(1800), ..planner.entries["a"].schedule.clone() };
    let when = When { expression: Expression::new("0 2 1 * *").unwrap(), zone: nightly.when.zone.clone() };
    let monthly = Schedule { when, ..nightly.clone() };
    assert_eq!(planner.reload(vec![nightly], noon), []);
    assert_eq!(planner.tick(at("06T00:00")), []);
    assert_eq!(planner.reload(vec![monthly.clone()], at("06T00:00")), []);
    assert_eq!(planner.tick(at("06T00:30")), [start("06T00:00")]);
    // Had it been killed before: the store shows the night before, and by the settings nothing was due since.
    let mut next_life = Planner::new(vec![monthly], 1, 0, at("06T10:00"));
    assert_eq!(next_life.catch_up("a", Some(at("05T00:00")), at("06T10:00")), []);
    assert_eq!(next_life.tick(at("06T11:00")), []);
}
