//! What is wrong with the drills of a job, by their keys alone.

use std::time::Duration;

use jiff::Timestamp;

use super::judge::{TOLERANCE, since, time};
use super::{Drilled, Known, Problem, State};
use crate::archive::Id;
use crate::report::short_time;
use crate::store::record::drill::DrillOutcome;

/// The drills, the latest last. One of a time that is yet to come does not count.
pub(super) fn known(known: &Known, now: Timestamp) -> Vec<Drilled> {
    let drills = known.folder.drills().filter_map(|(archive, key)| {
        let at = key.at.time().filter(|at| at.duration_until(now) > -TOLERANCE)?;
        Some(Drilled { archive, key, at })
    });
    let mut drills: Vec<_> = drills.collect();
    drills.sort_by(|a, b| (a.at, &a.archive, &a.key.at).cmp(&(b.at, &b.archive, &b.key.at)));
    drills
}

/// The latest failed, whatever limits there are; or none passed within the time.
pub(super) fn problem(
    drills: &[Drilled],
    oldest: Option<&Id>,
    within: Option<Duration>,
    now: Timestamp,
) -> Option<Problem> {
    let problem = |text| Some(Problem { state: State::Undrilled, text });
    if let Some(last) = drills.last().filter(|last| last.key.outcome == DrillOutcome::Failed) {
        return problem(format!("the drill of {} of {} failed", last.archive, time(last.at)));
    }
    let (allowed, last) = (within?, drills.last());
    // What is new had no time to be drilled yet.
    let age = since(last.map_or_else(|| oldest?.time(), |last| Some(last.at))?, now);
    let within = short_time(allowed);
    match last {
        _ if age <= allowed => None,
        Some(_) => {
            problem(format!("it was drilled {} ago, and --drilled-within is {within}", short_time(age)))
        }
        None => {
            problem(format!("it was never drilled in {}, and --drilled-within is {within}", short_time(age)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::jobs::JobFolder;

    const HOUR: Duration = Duration::from_secs(3600);
    const ID: &str = "20261101T020000Z-1f2e3d4c";

    /// Records by their outcome and day.
    fn said(records: &[(&str, u8)], within: Option<Duration>) -> String {
        let names: Vec<_> = records
            .iter()
            .map(|(outcome, day)| {
                format!("{ID}.drilled-{outcome}-restored-202611{day:02}T020000Z-00112233.json")
            })
            .collect();
        let folder: JobFolder = names.iter().map(|name| (name.as_str(), 1)).collect();
        let (now, id) = ("2026-11-10T02:00:00Z".parse().unwrap(), ID.parse().unwrap());
        let drills = known(&Known { folder, ..Known::default() }, now);
        problem(&drills, Some(&id), within, now).map(|problem| problem.text).unwrap_or_default()
    }

    #[test]
    fn a_drill_that_failed_is_a_problem_until_one_passes() {
        let failed = "the drill of 20261101T020000Z-1f2e3d4c of 2026-11-05 02:00Z failed";
        assert_eq!(said(&[("passed", 4), ("failed", 5)], None), failed);
        assert_eq!(said(&[("failed", 5), ("passed", 6)], None), "");
        // A clock was ahead.
        assert_eq!(said(&[("failed", 5), ("passed", 20)], None), failed);
    }

    #[test]
    fn a_job_is_to_be_drilled_within_a_time() {
        assert_eq!(said(&[("passed", 9)], Some(24 * HOUR)), "");
        assert_eq!(
            said(&[("passed", 8)], Some(24 * HOUR)),
            "it was drilled 2d ago, and --drilled-within is 24h"
        );
        assert_eq!(said(&[], Some(24 * HOUR)), "it was never drilled in 9d, and --drilled-within is 24h");
        assert_eq!(said(&[], Some(240 * HOUR)) + &said(&[], None), "");
    }
}
