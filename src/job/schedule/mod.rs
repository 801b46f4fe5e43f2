//! What is due: a state machine that is told the time and what has ended, and says what begins and what does not.
//!
//! It has no clock and asks nobody, so that a year of nights is a test of a moment. Its law: every due time of a schedule is
//! either begun, once, or said to be missed with its reason. After a kill, the settings and the newest run are all that is
//! known: what waited by times that were changed since is forgotten.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use xxhash_rust::xxh64::xxh64;

mod when;
#[cfg(test)]
mod year;

pub use when::{Expression, When};

/// Due times that are remembered of each schedule, for a clock that goes backward.
const REMEMBERED: usize = 4096;

/// A thing to be done again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Its name, which no other has.
    pub name: String,
    /// When it is due.
    pub when: When,
    /// It begins up to this much later, so that not all hosts begin at once.
    pub jitter: Duration,
}

/// Why a due time passed without a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The run before it still went on.
    Running,
    /// The one before it had not begun yet.
    Waiting,
    /// It was over before it was seen: the host slept or its clock was put forward. A later one is run in its place.
    Passed,
    /// Sealift did not run, and neither did this.
    Down,
    /// It was taken out of the settings before it began.
    Removed,
    /// Sealift was stopped before it began.
    Stopped,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Running => "the run before it still goes on",
            Why::Waiting => "the one before it has not begun yet",
            Why::Passed => "the host slept, or its clock was put forward",
            Why::Down => "sealift did not run",
            Why::Removed => "it was taken out of the settings",
            Why::Stopped => "sealift was stopped",
        })
    }
}

/// What is to be done, or to be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// A run begins.
    Start {
        /// The schedule.
        name: String,
        /// When it was due.
        due: Timestamp,
    },
    /// Nothing is run for these due times.
    Missed {
        /// The schedule.
        name: String,
        /// The first of them.
        from: Timestamp,
        /// The last of them.
        to: Timestamp,
        /// Why.
        why: Why,
    },
}

/// A due time whose run has not begun.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pending {
    due: Timestamp,
    /// When it may begin: with the jitter.
    at: Timestamp,
}

#[derive(Debug)]
struct Entry {
    schedule: Schedule,
    /// What was due up to here is dealt with.
    seen: Timestamp,
    pending: Option<Pending>,
    /// When it is due next, so that it is not searched for at every look.
    next: Option<Timestamp>,
}

/// All schedules, and how far each is.
#[derive(Debug)]
pub struct Planner {
    entries: BTreeMap<String, Entry>,
    /// Due times that were run, or will be: also of schedules that were taken out since.
    begun: BTreeMap<String, VecDeque<Timestamp>>,
    queue: VecDeque<(String, Timestamp)>,
    running: BTreeSet<String>,
    parallel: usize,
    /// What the jitter is made of: another one on every host.
    seed: u64,
    now: Timestamp,
}

impl Planner {
    /// Nothing is due yet but what comes after `now`. At most `parallel` runs go on at once.
    pub fn new(schedules: Vec<Schedule>, parallel: usize, seed: u64, now: Timestamp) -> Self {
        let mut planner = Planner {
            entries: BTreeMap::new(),
            begun: BTreeMap::new(),
            queue: VecDeque::new(),
            running: BTreeSet::new(),
            parallel: parallel.max(1),
            seed,
            now,
        };
        planner.replace(schedules);
        planner
    }

    /// What happens now.
    pub fn tick(&mut self, now: Timestamp) -> Vec<Act> {
        let mut acts = Vec::new();
        self.look(now, &mut acts);
        self.enqueue(&mut acts);
        while self.running.len() < self.parallel
            && let Some(place) = self.queue.iter().position(|(name, _)| !self.running.contains(name))
            && let Some((name, due)) = self.queue.remove(place)
        {
            self.running.insert(name.clone());
            acts.push(Act::Start { name, due });
        }
        acts
    }

    /// A run has ended.
    pub fn ended(&mut self, name: &str) {
        self.running.remove(name);
    }

    /// What was due before the start and has no run to show, since `newest` began, the newest run that there is: the last of
    /// it is run now, unless another run comes anyway.
    pub fn catch_up(&mut self, name: &str, newest: Option<Timestamp>, start: Timestamp) -> Vec<Act> {
        let mut acts = Vec::new();
        let waits = self.waits(name);
        let comes = waits || self.running.contains(name);
        let Some(entry) = self.entries.get(name) else { return acts };
        let (when, after) = (&entry.schedule.when, newest.unwrap_or(Timestamp::MIN));
        // It is not run again where the clock is put back behind it.
        let shown = newest.and_then(|newest| when.newest(Timestamp::MIN, newest.min(start)));
        self.begun.entry(name.into()).or_default().extend(shown);
        let Some(due) = when.newest(after, start) else { return acts };
        // Of what never ran nobody knows since when it should have.
        let first = newest.and_then(|newest| when.next(newest)).unwrap_or(due);
        let to = if comes { Some(due) } else { when.before(first, due) };
        if let Some(to) = to {
            acts.push(Act::Missed { name: name.into(), from: first, to, why: Why::Down });
        }
        let at = self.jittered(name, due, self.now);
        if let Some(entry) = self.entries.get_mut(name).filter(|_| !comes) {
            entry.pending = Some(Pending { due, at });
        }
        acts
    }

    /// The settings are others now. Runs that have begun go on.
    pub fn reload(&mut self, schedules: Vec<Schedule>, now: Timestamp) -> Vec<Act> {
        let mut acts = Vec::new();
        // What was due by the old settings is due.
        self.look(now, &mut acts);
        let stays = |name: &str| schedules.iter().any(|schedule| schedule.name == name);
        let gone: Vec<_> = self.entries.keys().filter(|name| !stays(name)).cloned().collect();
        for name in gone {
            self.drop_waiting(&name, Why::Removed, &mut acts);
            self.entries.remove(&name);
        }
        self.replace(schedules);
        acts
    }

    /// Nothing begins any more.
    pub fn stop(&mut self, now: Timestamp) -> Vec<Act> {
        let mut acts = Vec::new();
        self.look(now, &mut acts);
        let names: Vec<_> = self.entries.keys().cloned().collect();
        names.iter().for_each(|name| self.drop_waiting(name, Why::Stopped, &mut acts));
        self.entries.clear();
        acts
    }

    /// How many runs may go on at once.
    pub fn set_parallel(&mut self, parallel: usize) {
        self.parallel = parallel.max(1);
    }

    /// When something may happen next.
    pub fn next(&self) -> Option<Timestamp> {
        let next = |entry: &Entry| [entry.next, entry.pending.as_ref().map(|pending| pending.at)];
        self.entries.values().flat_map(next).flatten().min()
    }

    /// Each schedule and when its next run begins; nothing where it is never due again.
    pub fn upcoming(&self) -> Vec<(String, Option<Timestamp>)> {
        let at = |(name, entry): (&String, &Entry)| {
            let waiting = self.queue.iter().any(|(queued, _)| queued == name).then_some(self.now);
            let pending = entry.pending.as_ref().map(|pending| pending.at);
            let next = entry.next.map(|due| self.jittered(name, due, due));
            (name.clone(), waiting.or(pending).or(next))
        };
        self.entries.iter().map(at).collect()
    }

    fn replace(&mut self, schedules: Vec<Schedule>) {
        for schedule in schedules {
            let known = self.entries.remove(&schedule.name);
            // Other times count from now on.
            let seen = known.as_ref().filter(|known| known.schedule.when == schedule.when);
            let seen = seen.map_or(self.now, |known| known.seen);
            let next = self.next_of(&schedule, seen);
            let entry = Entry { seen, next, pending: known.and_then(|known| known.pending), schedule };
            self.entries.insert(entry.schedule.name.clone(), entry);
        }
    }

    /// The next due time that was not run before the clock went backward.
    fn next_of(&self, schedule: &Schedule, after: Timestamp) -> Option<Timestamp> {
        let begun = self.begun.get(&schedule.name);
        let is_new = |due: &Timestamp| begun.is_none_or(|begun| !begun.contains(due));
        let mut due = schedule.when.next(after)?;
        while !is_new(&due) {
            due = schedule.when.next(due)?;
        }
        Some(due)
    }

    /// Sees what has become due.
    fn look(&mut self, now: Timestamp, acts: &mut Vec<Act>) {
        if now < self.now {
            self.turn_back(now);
        }
        self.now = now;
        let names: Vec<_> = self.entries.keys().cloned().collect();
        for name in names {
            self.look_at(&name, now, acts);
        }
    }

    fn look_at(&mut self, name: &str, now: Timestamp, acts: &mut Vec<Act>) {
        let Some(entry) = self.entries.get(name) else { return };
        let Some(first) = entry.next.filter(|next| *next <= now) else { return };
        let when = &entry.schedule.when;
        let begun = self.begun.get(name);
        let is_new = |due: &Timestamp| begun.is_none_or(|begun| !begun.contains(due));
        // One that was run already, before the clock went backward, is not run in place of those before it.
        let mut newest = when.newest(entry.seen, now).filter(|newest| *newest >= first).unwrap_or(first);
        while newest > first && !is_new(&newest) {
            newest = when.before(first, newest).unwrap_or(first);
        }
        if let Some(to) = when.before(first, newest) {
            acts.push(Act::Missed { name: name.into(), from: first, to, why: Why::Passed });
        }
        let waits = self.waits(name);
        let next = self.next_of(&entry.schedule, now);
        let at = self.jittered(name, newest, newest);
        let Some(entry) = self.entries.get_mut(name) else { return };
        (entry.seen, entry.next) = (now, next);
        match waits {
            true => {
                let (from, to) = (newest, newest);
                acts.push(Act::Missed { name: name.into(), from, to, why: Why::Waiting });
            }
            false => entry.pending = Some(Pending { due: newest, at }),
        }
    }

    /// The clock went backward: what comes again and was not run, is due again.
    fn turn_back(&mut self, now: Timestamp) {
        let (stays, comes_again): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.queue).into_iter().partition(|(_, due)| *due <= now);
        self.queue = stays;
        for (name, due) in comes_again {
            self.begun.entry(name).and_modify(|begun| begun.retain(|known| *known != due));
        }
        for (name, entry) in &mut self.entries {
            let begun = self.begun.get(name);
            // What is not remembered any more is not run twice either.
            let full = begun.filter(|begun| begun.len() >= REMEMBERED).and_then(|begun| begun.front());
            entry.seen = full.copied().map_or(now, |oldest| oldest.max(now)).min(entry.seen);
            // It will be due again by itself; one that is caught up will not.
            entry.pending.take_if(|pending| pending.due > entry.seen);
            if let Some(pending) = &mut entry.pending {
                let latest = now.checked_add(entry.schedule.jitter).unwrap_or(now);
                pending.at = pending.at.min(latest);
            }
        }
        let nexts: Vec<_> =
            self.entries.iter().map(|(name, e)| (name.clone(), self.next_of(&e.schedule, e.seen))).collect();
        for (name, next) in nexts {
            self.entries.entry(name).and_modify(|entry| entry.next = next);
        }
    }

    /// Whether a run of it has not begun yet.
    fn waits(&self, name: &str) -> bool {
        let entry = self.entries.get(name);
        entry.is_some_and(|entry| entry.pending.is_some())
            || self.queue.iter().any(|(queued, _)| queued == name)
    }

    /// What has waited for its jitter goes to the queue, in the order in which it was due.
    fn enqueue(&mut self, acts: &mut Vec<Act>) {
        let now = self.now;
        let mut ready: Vec<_> = self
            .entries
            .iter_mut()
            .filter_map(|(name, entry)| {
                Some((entry.pending.take_if(|pending| pending.at <= now)?.due, name.clone()))
            })
            .collect();
        ready.sort();
        for (due, name) in ready {
            if self.running.contains(&name) {
                acts.push(Act::Missed { name, from: due, to: due, why: Why::Running });
                continue;
            }
            let begun = self.begun.entry(name.clone()).or_default();
            begun.push_back(due);
            if begun.len() > REMEMBERED {
                begun.pop_front();
            }
            self.queue.push_back((name, due));
        }
    }

    /// What has not begun yet of a schedule is missed.
    fn drop_waiting(&mut self, name: &str, why: Why, acts: &mut Vec<Act>) {
        let pending = self.entries.get_mut(name).and_then(|entry| entry.pending.take());
        let queued = self.queue.iter().filter(|(queued, _)| queued == name).map(|(_, due)| *due);
        let dropped: Vec<_> = queued.chain(pending.map(|pending| pending.due)).collect();
        self.queue.retain(|(queued, _)| queued != name);
        for due in dropped {
            acts.push(Act::Missed { name: name.into(), from: due, to: due, why });
        }
    }

    /// When a run may begin that could at `from`: always the same moment for a due time on a host.
    fn jittered(&self, name: &str, due: Timestamp, from: Timestamp) -> Timestamp {
        let jitter = self.entries.get(name).map_or(Duration::ZERO, |entry| entry.schedule.jitter);
        let number = xxh64(format!("{name} {}", due.as_second()).as_bytes(), self.seed);
        let millis = u64::try_from(jitter.as_millis()).unwrap_or(u64::MAX);
        let later = if millis == 0 { 0 } else { number % millis };
        from.checked_add(Duration::from_millis(later)).unwrap_or(from)
    }
}
