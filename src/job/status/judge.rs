//! What is wrong with a job, by what is known of it. Pure: the time is given.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Expected, FailedRun, JobStatus, Known, Limits, Success, Verified, drills};
use crate::archive::Id;
use crate::report::{short_bytes, short_time};
use crate::store::manifest::Manifest;
use crate::store::record::Level;

/// How far clocks may be apart before a time is one that is yet to come.
pub(super) const TOLERANCE: SignedDuration = SignedDuration::from_hours(1);
/// Archives by whose times the usual interval is told.
const INTERVALS: usize = 15;

/// What a job is like; of several problems the first of these is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// There is no archive of it, and no run that failed.
    Never,
    /// Its latest run failed.
    Failed,
    /// An archive is damaged, or needs one that is gone or damaged.
    Damaged,
    /// Its newest archive is too old.
    Late,
    /// An archive says that it was made at a time that is yet to come.
    Clock,
    /// Its newest archive is much smaller than those before it.
    Shrunk,
    /// It was not verified for too long.
    Unverified,
    /// Its latest drill failed, or none passed for too long.
    Undrilled,
    /// Nothing is wrong.
    Ok,
}

impl State {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            State::Never => "never",
            State::Failed => "failed",
            State::Damaged => "damaged",
            State::Late => "late",
            State::Clock => "clock",
            State::Shrunk => "shrunk",
            State::Unverified => "unverified",
            State::Undrilled => "undrilled",
            State::Ok => "ok",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// Something that is wrong with a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What kind of problem it is.
    pub state: State,
    /// What is wrong.
    pub text: String,
}

impl JobStatus {
    /// The worst that is wrong.
    pub fn state(&self) -> State {
        self.problems.iter().map(|problem| problem.state).min().unwrap_or(State::Ok)
    }
}

/// What is to be said of a job.
pub(super) fn judge(known: &Known, settings: &Expected, expected: bool, now: Timestamp) -> JobStatus {
    let partial = known.manifests.iter().filter(|(_, manifest)| manifest.as_ref().is_ok_and(|it| it.partial));
    let partial: BTreeSet<_> = partial.map(|(id, _)| id).collect();
    let mut ids = known.folder.archives();
    ids.retain(|id| !partial.contains(id));
    let damaged = known.folder.damaged();
    let mut problems = Vec::new();
    let whole = whole(known, &damaged, &mut problems);
    needs(known, &whole, &damaged, &mut problems);
    let is_past = |manifest: &&Manifest| manifest.finished.duration_until(now) > -TOLERANCE;
    if let Some(newest) = whole.first().filter(|newest| !is_past(newest)) {
        let text =
            format!("{} is of {}, which is yet to come: is a clock wrong?", newest.id, time(newest.finished));
        problems.push(Problem { state: State::Clock, text });
    }
    let past: Vec<_> = whole.into_iter().filter(is_past).collect();
    let last = past.first().map(|newest| success(newest, now));
    let failed = failed_run(known, last.as_ref());
    match (&failed, &last) {
        (Some(failed), _) => problems.push(failure(failed, last.is_none())),
        (None, None) if ids.is_empty() => {
            problems.push(Problem { state: State::Never, text: "there is no archive of it".into() });
        }
        // What is wrong with those that there are was said.
        (None, _) => {}
    }
    let trend = trend(&past);
    let verified = verified(known, now);
    problems.extend(last.as_ref().and_then(|last| late(last, &settings.limits)));
    problems.extend(last.as_ref().zip(trend).and_then(|(last, trend)| shrunk(last, trend, &settings.limits)));
    problems.extend(unverified(verified.as_ref(), ids.first(), &settings.limits, now));
    let drills = drills::known(known, now);
    problems.extend(drills::problem(&drills, ids.first(), settings.limits.drilled_within, now));
    problems.sort_by_key(|problem| problem.state);
    let interval = usual_interval(&ids);
    let begun = last.as_ref().and_then(|last| last.id.time());
    let next = begun.zip(interval).and_then(|(begun, interval)| begun.checked_add(interval).ok());
    JobStatus {
        job: settings.job.clone(),
        expected,
        keep: settings.keep.clone(),
        archives: ids.len(),
        last,
        trend,
        verified,
        drilled: drills.into_iter().next_back(),
        interval,
        next,
        failed,
        problems,
    }
}

/// The archives that are whole, the newest first; what is wrong with the others is added to `problems`.
fn whole<'a>(known: &'a Known, damaged: &BTreeSet<Id>, problems: &mut Vec<Problem>) -> Vec<&'a Manifest> {
    let mut damage = |text: String| problems.push(Problem { state: State::Damaged, text });
    let mut whole = Vec::new();
    for (id, manifest) in &known.manifests {
        match manifest {
            Err(error) => damage(format!("{id}: {error}")),
            Ok(manifest) => match known.folder.lacks(manifest) {
                Some(text) => damage(text),
                None if damaged.contains(id) || manifest.partial => {}
                None => whole.push(manifest),
            },
        }
    }
    for id in damaged {
        damage(format!("{id} was found to be damaged"));
    }
    whole
}

/// What is gone or damaged of what archives need: told once, of the newest archive that needs it.
fn needs(known: &Known, whole: &[&Manifest], damaged: &BTreeSet<Id>, problems: &mut Vec<Problem>) {
    let mut told = BTreeSet::new();
    for manifest in whole {
        for need in &manifest.needs {
            let what = match (known.folder.has(need), damaged.contains(need)) {
                (false, _) => "is gone",
                (true, true) => "is damaged",
                (true, false) => continue,
            };
            if told.insert(need) {
                let text = format!("{} needs {need}, which {what}", manifest.id);
                problems.push(Problem { state: State::Damaged, text });
            }
        }
    }
}

fn success(manifest: &Manifest, now: Timestamp) -> Success {
    Success {
        id: manifest.id.clone(),
        at: manifest.finished,
        age: since(manifest.finished, now),
        bytes: size(manifest),
        stored: manifest.archive.size.saturating_add(manifest.catalog.size),
    }
}

/// Bytes that are restored from it, wherever they lie.
fn size(manifest: &Manifest) -> u64 {
    manifest.bytes.saturating_add(manifest.kept.bytes)
}

/// The latest run that failed, where nothing was made after it: by their ids, which are in order, or by their times. One
/// whose archive was adopted since has not failed.
fn failed_run(known: &Known, last: Option<&Success>) -> Option<FailedRun> {
    let (id, record) = known.failed.as_ref()?;
    let is_its = |manifest: &Manifest| manifest.id == *id && !manifest.partial;
    if known.manifests.iter().any(|(_, manifest)| manifest.as_ref().is_ok_and(is_its)) {
        return None;
    }
    let at = match record {
        Ok(Some(record)) => record.at,
        _ => id.time()?,
    };
    let is_latest = last.is_none_or(|last| *id > last.id || at > last.at);
    let (code, cause) = match record {
        Ok(Some(record)) => (record.code, record.cause.clone().unwrap_or_default()),
        Ok(None) => (None, String::new()),
        Err(error) => (None, format!("its record cannot be read: {error}")),
    };
    is_latest.then(|| FailedRun {
        id: id.clone(),
        at,
        code,
        cause: cause.split_whitespace().collect::<Vec<_>>().join(" "),
    })
}

fn failure(failed: &FailedRun, is_first: bool) -> Problem {
    let never = if is_first { ", and none before succeeded" } else { "" };
    let code = failed.code.map(|code| format!(" with exit code {code}")).unwrap_or_default();
    let cause = if failed.cause.is_empty() { String::new() } else { format!(": {}", failed.cause) };
    let text = format!("the run of {} failed{code}{never}{cause}", time(failed.at));
    Problem { state: State::Failed, text }
}

fn late(last: &Success, limits: &Limits) -> Option<Problem> {
    let allowed = limits.max_age.filter(|allowed| last.age > *allowed)?;
    let (age, allowed) = (short_time(last.age), short_time(allowed));
    let text = format!("its last archive is {age} old, and --max-age is {allowed}");
    Some(Problem { state: State::Late, text })
}

/// The newest archive's size against the median of those before it.
fn trend(newest_first: &[&Manifest]) -> Option<f64> {
    let (last, before) = newest_first.split_first()?;
    let usual = median(before.iter().map(|manifest| size(manifest)).collect())?;
    (usual > 0).then(|| size(last) as f64 / usual as f64 - 1.0)
}

fn shrunk(last: &Success, trend: f64, limits: &Limits) -> Option<Problem> {
    let allowed = limits.shrink.filter(|allowed| trend < 0.0 && -trend >= *allowed)?;
    let (bytes, less) = (short_bytes(last.bytes), (-trend * 100.0).round());
    let text = format!(
        "its last archive has {bytes}, {less}% less than those before it, and --shrink is {}%",
        (allowed * 100.0).round()
    );
    Some(Problem { state: State::Shrunk, text })
}

/// The latest verification that looked at stored bytes; otherwise the latest of all. One of a time that is yet to come
/// does not count.
fn verified(known: &Known, now: Timestamp) -> Option<Verified> {
    let marks = known.folder.verifications().filter_map(|(archive, mark)| {
        let at = mark.at.time().filter(|at| at.duration_until(now) > -TOLERANCE)?;
        Some(Verified { archive, at, mark })
    });
    marks.max_by_key(|verified| (counts(verified), verified.at, verified.mark.level))
}

/// Whether a verification looked at what is stored, and not only at names and sizes.
fn counts(verified: &Verified) -> bool {
    verified.mark.level >= Level::Stored
}

fn unverified(
    verified: Option<&Verified>,
    oldest: Option<&Id>,
    limits: &Limits,
    now: Timestamp,
) -> Option<Problem> {
    let allowed = limits.verified_within?;
    let within = short_time(allowed);
    let text = match verified.filter(|verified| counts(verified)) {
        Some(verified) => {
            let age = since(verified.at, now);
            (age > allowed).then(|| {
                format!("it was verified {} ago, and --verified-within is {within}", short_time(age))
            })
        }
        // What is new had no time to be verified yet.
        None => {
            let age = since(oldest?.time()?, now);
            let age = (age > allowed).then(|| short_time(age))?;
            Some(format!("it was never verified in {age}, and --verified-within is {within}"))
        }
    };
    text.map(|text| Problem { state: State::Unverified, text })
}

/// The median of the times between the newest archives; none of fewer than three.
fn usual_interval(oldest_first: &[Id]) -> Option<Duration> {
    let newest = &oldest_first[oldest_first.len().saturating_sub(INTERVALS)..];
    let times: Vec<_> = newest.iter().filter_map(Id::time).collect();
    let gaps: Vec<_> = times.windows(2).map(|pair| since(pair[0], pair[1]).as_secs()).collect();
    (gaps.len() > 1).then(|| median(gaps)).flatten().map(Duration::from_secs)
}

fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some(values[middle - 1].midpoint(values[middle])),
    }
}

/// How long ago a time was; nothing where it is yet to come.
pub(super) fn since(time: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(time.duration_until(now)).unwrap_or_default()
}

pub(super) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%MZ").to_string()
}
