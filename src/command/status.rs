//! `status`: a line for each job, and under it what is wrong.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cli::{ExplicitArg, Status};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::job::Outcome;
use crate::job::status::{self as job, JobStatus, State, StatusRequest, StoreStatus};
use crate::report::{
    self, Column, Mode, Reporter, Row, print_while_read, printable, short_bytes, short_time, stdout_width,
};
use crate::store::record::{Level, WHOLE};

/// The fewest characters that a shortened name has.
const NARROWEST: usize = 6;

/// Prints the status of every job. What is wrong with one is no error, but said by the exit code.
///
/// # Errors
/// No store is known; the only one does not answer.
pub async fn status(
    options: Status,
    explicit: &[ExplicitArg],
    config: Option<&Config>,
    mode: Mode,
    ui: &Reporter,
) -> Result<Outcome> {
    let (request, mut is_well) = request(&options, explicit, config, ui)?;
    let mut stores = job::status(&request, ui).await;
    if let [StoreStatus { error, .. }] = &mut stores[..]
        && let Some(error) = error.take()
    {
        return Err(error);
    }
    for store in &stores {
        for folder in &store.unreadable {
            ui.warn(&format!("{} cannot be read: archives in it are not seen", printable(folder)));
        }
        store.error.iter().for_each(|error| ui.error(error));
        is_well &= store.error.is_none() && store.unreadable.is_empty();
    }
    let now = request.now;
    let jobs = || stores.iter().flat_map(|store| &store.jobs);
    match mode {
        Mode::Json => {
            let lines = stores.iter().flat_map(|store| store.jobs.iter().map(|job| json_line(store, job)));
            print_while_read(lines)?;
        }
        Mode::Human => print_while_read(stores.iter().flat_map(|store| lines(store, stores.len() > 1, now)))?,
        Mode::Quiet => print_while_read(jobs().flat_map(problem_lines))?,
    }
    if jobs().next().is_none() && stores.iter().all(|store| store.error.is_none()) {
        let names: Vec<_> = stores.iter().map(|store| store.store.as_str()).collect();
        ui.warn(&format!("there is no job at {}", names.join(", ")));
        is_well = false;
    }
    is_well &= jobs().all(|job| job.problems.is_empty());
    Ok(if is_well { Outcome::Done } else { Outcome::Exited(1) })
}

/// What is to be looked at: what the line says, and what the settings file does. Whether all of the file was understood.
fn request(
    options: &Status,
    explicit: &[ExplicitArg],
    config: Option<&Config>,
    ui: &Reporter,
) -> Result<(StatusRequest, bool)> {
    let (limits, line) = options.limits(explicit);
    let mut stores = options.stores()?;
    let only_these = explicit.iter().any(|arg| arg.id == "from");
    let (mut jobs, mut expected, mut is_well) = (options.jobs.clone(), Vec::new(), true);
    for (name, job) in config.map(Config::expected).unwrap_or_default() {
        let wanted = |job: &str| options.jobs.is_empty() || options.jobs.iter().any(|known| known == job);
        let job = match job {
            Ok(job) => job,
            Err(error) => {
                if wanted(&name) {
                    ui.warn(&format!("nothing is known of job {name}: {error}"));
                    is_well = false;
                }
                continue;
            }
        };
        // A job of the file may have its archives under another name, or be more than one.
        if options.jobs.contains(&name) && job.archives.iter().all(|archive| archive.job != name) {
            jobs.retain(|known| *known != name);
            jobs.extend(job.archives.iter().map(|archive| archive.job.clone()));
        }
        for store in job.stores.into_iter().filter(|_| !only_these) {
            if stores.iter().all(|known| known.url != store.url) {
                stores.push(store);
            }
        }
        expected.extend(job.archives.into_iter().map(|mut archive| {
            archive.limits = line.or(archive.limits).or(limits);
            archive
        }));
    }
    if stores.is_empty() {
        return Err(Error::usage("no store is named").hint(
            "say --from STORE, set SEALIFT_STORE, or have jobs in a settings file: `sealift config --help`",
        ));
    }
    Ok((StatusRequest { stores, jobs, expected, limits, now: Timestamp::now() }, is_well))
}

/// What people see of a store.
fn lines(store: &StoreStatus, is_one_of_many: bool, now: Timestamp) -> Vec<String> {
    let mut lines = Vec::new();
    if is_one_of_many {
        lines.push(printable(&store.store));
    }
    if !store.jobs.is_empty() {
        lines.extend(table(&store.jobs, now, stdout_width()));
        lines.extend(store.jobs.iter().flat_map(problem_lines));
    }
    if is_one_of_many {
        lines.push(String::new());
    }
    lines
}

fn problem_lines(job: &JobStatus) -> Vec<String> {
    // Whoever can write to the store can have written a part of it.
    job.problems
        .iter()
        .map(|problem| printable(&format!("{} {}: {}", problem.state, job.job, problem.text)))
        .collect()
}

const COLUMNS: [Column; 9] = [
    Column::left("JOB").shrinks(NARROWEST),
    Column::left("STATE"),
    Column::left("LAST (UTC)").left_out(2),
    Column::right("AGE"),
    Column::right("SIZE"),
    Column::right("TREND").left_out(4),
    Column::left("VERIFIED").left_out(1),
    Column::right("NEXT").left_out(3),
    Column::left("KEEP").shrinks(NARROWEST).left_out(5),
];

/// A table of at most `width` characters a line; in a pipe nothing is left out.
fn table(jobs: &[JobStatus], now: Timestamp, width: Option<usize>) -> Vec<String> {
    let row = |job: &JobStatus| Row { cells: row(job, now).into(), remarks: String::new() };
    report::table(&COLUMNS, &jobs.iter().map(row).collect::<Vec<_>>(), width)
}

fn row(job: &JobStatus, now: Timestamp) -> [String; COLUMNS.len()] {
    let none = || "-".to_string();
    let last = job.last.as_ref();
    let verified = job.verified.as_ref().map(|verified| {
        let level = verified.mark.level.to_string();
        let age = verified.at.duration_until(now).try_into().unwrap_or_default();
        format!("{level} {}", short_time(age))
    });
    let next = job.next.map(|next| {
        let until = short_time(now.duration_until(next).unsigned_abs());
        if next < now && until != "0m" { format!("-{until}") } else { until }
    });
    [
        job.job.clone(),
        state(job.state()).into(),
        last.map_or_else(none, |last| last.at.strftime("%m-%d %H:%M").to_string()),
        last.map_or_else(none, |last| short_time(last.age)),
        last.map_or_else(none, |last| short_bytes(last.bytes)),
        job.trend.map_or_else(none, percent),
        verified.unwrap_or_else(none),
        next.unwrap_or_else(none),
        job.keep.as_deref().map_or_else(none, printable),
    ]
}

/// A state as a column shows it.
fn state(state: State) -> &'static str {
    match state {
        State::Unverified => "unverif.",
        state => state.word(),
    }
}

/// `+12%`, `-50%`, `>999%`
fn percent(trend: f64) -> String {
    let percent = (trend * 100.0).round();
    if percent > 999.0 {
        ">999%".into()
    } else if percent == 0.0 {
        "0%".into()
    } else {
        format!("{percent:+}%")
    }
}

fn json_line(store: &StoreStatus, job: &JobStatus) -> String {
    let last = job.last.as_ref().map(|last| {
        json!({
            "id": last.id, "at": last.at, "age_seconds": last.age.as_secs(), "bytes": last.bytes,
            "stored": last.stored,
        })
    });
    let verified = job.verified.as_ref().map(|verified| {
        let mark = &verified.mark;
        let share = (mark.level == Level::Sample).then(|| f64::from(mark.share) / f64::from(WHOLE));
        json!({"id": verified.archive, "at": verified.at, "level": mark.level, "share": share})
    });
    let drilled = job.drilled.as_ref().map(|drilled| {
        let key = &drilled.key;
        json!({"id": drilled.archive, "at": drilled.at, "outcome": key.outcome, "level": key.level})
    });
    let failed = job
        .failed
        .as_ref()
        .map(|failed| json!({"id": failed.id, "at": failed.at, "code": failed.code, "cause": failed.cause}));
    let problem = |problem: &job::Problem| json!({"state": problem.state.word(), "message": problem.text});
    let problems: Vec<Value> = job.problems.iter().map(problem).collect();
    json!({
        "job": job.job, "store": store.store, "state": job.state().word(), "in_settings": job.expected,
        "archives": job.archives, "last_success": last, "trend": job.trend, "verified": verified, "drilled": drilled,
        "interval_seconds": job.interval.map(|interval| interval.as_secs()), "next_due": job.next,
        "keep": job.keep, "failed": failed, "problems": problems,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::job::status::{FailedRun, Problem, Success, Verified};
    use crate::store::record::VerificationKey;

    const WIDTH: usize = 80;

    const NOW: &str = "2026-11-26T12:00:00Z";

    fn now() -> Timestamp {
        NOW.parse().unwrap()
    }

    fn nothing(job: &str) -> JobStatus {
        JobStatus {
            job: job.into(),
            expected: true,
            keep: None,
            archives: 0,
            last: None,
            trend: None,
            verified: None,
            drilled: None,
            interval: None,
            next: None,
            failed: None,
            problems: Vec::new(),
        }
    }

    fn full(job: &str) -> JobStatus {
        let id: crate::archive::Id = "20261126T020000Z-1f2e3d4c".parse().unwrap();
        let mark = VerificationKey { level: Level::Whole, share: WHOLE, at: id.clone() };
        JobStatus {
            archives: 30,
            last: Some(Success {
                id: id.clone(),
                at: id.time().unwrap(),
                age: Duration::from_secs(36_000),
                bytes: 10 << 30,
                stored: 4 << 30,
            }),
            trend: Some(-0.25),
            verified: Some(Verified { archive: id.clone(), at: id.time().unwrap(), mark }),
            interval: Some(Duration::from_secs(86_400)),
            next: Some("2026-11-27T02:00:00Z".parse().unwrap()),
            ..nothing(job)
        }
    }

    /// Everything as wide as it can be.
    fn widest(job: &str) -> JobStatus {
        let mut widest = full(job);
        let at: crate::archive::Id = "20240301T020000Z-1f2e3d4c".parse().unwrap();
        let mark = VerificationKey { level: Level::Manifest, share: WHOLE, at: at.clone() };
        widest.verified = Some(Verified { archive: at.clone(), at: at.time().unwrap(), mark });
        widest.keep = Some("last 3, hourly 24, daily 7, weekly 5, monthly 12, yearly 10".into());
        (widest.trend, widest.next) = (Some(99.0), Some("2024-03-02T02:00:00Z".parse().unwrap()));
        let last = widest.last.as_mut().unwrap();
        (last.bytes, last.age) = (1023, Duration::from_secs(999 * 86_400));
        widest.problems = vec![Problem { state: State::Unverified, text: "why".into() }];
        widest
    }

    #[test]
    fn a_line_says_all_of_a_job_that_is_known() {
        let lines = table(&[full("db"), nothing("host")], now(), Some(WIDTH));
        assert_eq!(
            lines,
            [
                "JOB   STATE  LAST (UTC)   AGE  SIZE  TREND  VERIFIED   NEXT  KEEP",
                "db    ok     11-26 02:00  10h   10G   -25%  whole 10h   14h  -",
                "host  ok     -              -     -      -  -             -  -",
            ]
        );
    }

    #[test]
    fn no_line_is_wider_than_a_terminal_and_long_names_are_shortened_in_their_middle() {
        let long = "team/application/dtr-registry-0123456789ab";
        let lines = table(&[full("db"), full(long)], now(), Some(WIDTH));
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH), "{lines:#?}");
        assert!(lines[2].starts_with("team/") && lines[2].contains("ab  ok"), "{lines:#?}");
        for width in 30..WIDTH {
            let lines = table(&[widest("registry"), nothing("host")], now(), Some(width));
            assert!(lines.iter().all(|line| line.chars().count() <= width), "{lines:#?}");
            assert!(lines[1].contains("unverif."), "{lines:#?}");
        }
        for job in ["a", "registry", &"x".repeat(200)] {
            let lines = table(&[widest(job), nothing("host")], now(), Some(WIDTH));
            assert!(lines.iter().all(|line| line.chars().count() <= WIDTH), "{lines:#?}");
            assert!(
                lines[1].contains("last…") || lines[1].contains("la") && lines[1].contains('…'),
                "{lines:#?}"
            );
        }
    }

    #[test]
    fn a_trend_has_a_sign_and_five_characters_at_most() {
        let shown = [-1.0, -0.5, -0.001, 0.0, 0.004, 0.12, 9.99, 10.5, 1e9].map(percent);
        assert_eq!(shown, ["-100%", "-50%", "0%", "0%", "0%", "+12%", "+999%", ">999%", ">999%"]);
    }

    #[test]
    fn what_is_wrong_stands_below_with_the_jobs_whole_name_and_steers_no_terminal() {
        let long = "x".repeat(100);
        let problem = Problem { state: State::Failed, text: "a \x1b[2Jcause".into() };
        let job = JobStatus { problems: vec![problem], ..nothing(&long) };
        let store =
            StoreStatus { store: "memory://x".into(), jobs: vec![job], unreadable: vec![], error: None };
        let printed = lines(&store, false, now());
        assert_eq!(printed.len(), 3);
        assert_eq!(printed[2], format!("failed {long}: a \\u{{1b}}[2Jcause"));
        let printed = lines(&store, true, now());
        assert_eq!((printed[0].as_str(), printed.last().map(String::as_str)), ("memory://x", Some("")));
    }

    #[test]
    fn programs_get_every_field_of_every_job() {
        let store = StoreStatus { store: "memory://x".into(), jobs: vec![], unreadable: vec![], error: None };
        let line: Value = serde_json::from_str(&json_line(&store, &full("db"))).unwrap();
        assert_eq!(
            (&line["job"], &line["state"], &line["store"]),
            (&json!("db"), &json!("ok"), &json!("memory://x"))
        );
        assert_eq!(
            (&line["last_success"]["age_seconds"], &line["interval_seconds"]),
            (&json!(36_000), &json!(86_400))
        );
        assert_eq!((&line["verified"]["level"], &line["trend"]), (&json!("whole"), &json!(-0.25)));
        assert_eq!((&line["failed"], &line["problems"]), (&Value::Null, &json!([])));
        let mut failed = nothing("db");
        let id: crate::archive::Id = "20261126T020000Z-1f2e3d4c".parse().unwrap();
        failed.failed = Some(FailedRun { at: id.time().unwrap(), id, code: Some(1), cause: "why".into() });
        failed.problems = vec![Problem { state: State::Failed, text: "failed: why".into() }];
        let line: Value = serde_json::from_str(&json_line(&store, &failed)).unwrap();
        assert_eq!((&line["state"], &line["failed"]["cause"]), (&json!("failed"), &json!("why")));
        assert_eq!(line["problems"], json!([{"state": "failed", "message": "failed: why"}]));
        assert_eq!(line["last_success"], Value::Null);
    }
}
