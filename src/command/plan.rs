//! `plan`: prints what a set would back up on this node, and what it would not.

use serde_json::{Value, json};

use super::discover::{self, Found};
use crate::cli::PlanOptions;
use crate::config::{self, Config, ExplicitArg};
use crate::error::Result;
use crate::job::discover::Discover;
use crate::job::plan::{PlannedArchive, PlannedJob};
use crate::job::set::SetRequest;
use crate::job::{Outcome, Subject, plan as job};
use crate::preset::UPGRADE_ORDER;
use crate::report::{Mode, Reporter, human_bytes, print_while_read, printable};

/// Prints the plan. A job that cannot be backed up here is told, and is a warning.
///
/// # Errors
/// There is no such set; the engine does not answer.
pub async fn plan(
    options: PlanOptions,
    explicit: Vec<ExplicitArg>,
    config: Option<&Config>,
    mode: Mode,
    ui: &Reporter,
) -> Result<Outcome> {
    let set = match discovered(&options, config)? {
        Some(set) => set,
        None => config::set_request(options.into(), explicit, config)?,
    };
    let is_ee = set
        .jobs
        .iter()
        .any(|(subject, _)| matches!(subject, Subject::Preset(preset) if preset.is_docker_ee()));
    print(set, config, if is_ee { &UPGRADE_ORDER } else { &[] }, mode, ui).await
}

/// `plan discover`, unless the settings have a set or a job of that name.
fn discovered(options: &PlanOptions, config: Option<&Config>) -> Result<Option<SetRequest>> {
    let name = options.set_name.clone();
    if name != DISCOVER || config.is_some_and(|config| config.set(&name).is_some()) {
        return Ok(None);
    }
    if let Some(config) = config.filter(|config| config.source_of(&name).is_some()) {
        return Ok(Some(SetRequest { jobs: vec![config.job(&name, &[])?], name, keep_going: true }));
    }
    let request = options.options.clone().request()?;
    Ok(Some(SetRequest {
        name,
        jobs: vec![(Subject::Discover(Discover::default()), request)],
        keep_going: true,
    }))
}

/// The set of all that has labels.
const DISCOVER: &str = "discover";

/// Prints what a set would back up, and what is to be said `below` that.
///
/// # Errors
/// As [`plan`].
pub(super) async fn print(
    set: SetRequest,
    config: Option<&Config>,
    below: &[&str],
    mode: Mode,
    ui: &Reporter,
) -> Result<Outcome> {
    let Found { set, is_warned } = discover::find(set, config, ui).await?;
    let jobs = job::plan(&set).await?;
    match mode {
        Mode::Json => print_while_read(jobs.iter().map(|job| json_line(job).to_string()))?,
        _ => {
            let head = format!("Set {}, on this node. Nothing was backed up.", set.name);
            let below = below.iter().map(ToString::to_string);
            print_while_read([head].into_iter().chain(jobs.iter().flat_map(lines)).chain(below))?;
        }
    }
    let problems = jobs.iter().filter_map(|job| Some((&job.job, job.problem.as_ref()?)));
    let told: Vec<_> = problems.map(|(job, error)| ui.warn(&format!("{job}: {error}"))).collect();
    Ok(Found::outcome(is_warned, if told.is_empty() { Outcome::Done } else { Outcome::Warned }))
}

fn lines(planned: &PlannedJob) -> Vec<String> {
    let mut lines = vec![String::new(), printable(&format!("{}: {}", planned.job, planned.what))];
    for PlannedArchive { job, words, size: bytes } in &planned.archives {
        let size = bytes.map_or("size unknown".into(), |bytes| {
            format!("about {} before compression", human_bytes(bytes))
        });
        lines.push(printable(&format!("  + {job}: {words} ({size})")));
        if bytes.zip(planned.largest).is_some_and(|(size, largest)| size > largest) {
            lines.push(
                "    larger than its stores and --memory allow, unless it shrinks: give more --memory".into(),
            );
        }
    }
    if !planned.quiesce.is_empty() {
        lines.push(printable(&format!("  meanwhile: {}", planned.quiesce.join(", "))));
    }
    lines.extend(planned.not_in_it.iter().map(|text| printable(&format!("  - not in it: {text}"))));
    lines.extend(planned.problem.iter().map(|error| printable(&format!("  ! {error}"))));
    lines.extend(planned.largest.map(|bytes| {
        format!("  the largest archive that its stores and --memory allow: {}", human_bytes(bytes))
    }));
    lines
}

fn json_line(planned: &PlannedJob) -> Value {
    let archives = planned
        .archives
        .iter()
        .map(|archive| json!({"job": archive.job, "what": archive.words, "bytes": archive.size}));
    json!({
        "event": "planned", "job": planned.job, "what": planned.what, "archives": archives.collect::<Vec<_>>(),
        "not_in_it": planned.not_in_it, "largest_archive": planned.largest,
        "quiesce": planned.quiesce,
        "problem": planned.problem.as_ref().map(ToString::to_string),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn planned(size: Option<u64>, largest: Option<u64>, problem: Option<Error>) -> PlannedJob {
        let archive = PlannedArchive { job: "db".into(), words: "a \x1bvolume".into(), size };
        PlannedJob {
            job: "db".into(),
            what: "a job".into(),
            archives: vec![archive],
            not_in_it: vec!["the rest".into()],
            largest,
            quiesce: vec!["stop web".into()],
            problem,
        }
    }

    #[test]
    fn a_plan_says_what_is_in_it_and_what_is_not() {
        let lines = lines(&planned(Some(2048), None, None));
        assert_eq!(
            lines,
            [
                "",
                "db: a job",
                "  + db: a \\u{1b}volume (about 2.00 KiB before compression)",
                "  meanwhile: stop web",
                "  - not in it: the rest",
            ]
        );
    }

    #[test]
    fn an_archive_that_may_not_fit_is_told() {
        let told = |size, largest| lines(&planned(size, largest, None)).join("\n").contains("larger than");
        assert!(told(Some(2), Some(1)));
        assert!(!told(Some(1), Some(1)) && !told(None, Some(1)) && !told(Some(2), None));
        assert!(lines(&planned(None, Some(1024), None)).join("\n").contains("size unknown"));
    }

    #[test]
    fn a_problem_is_a_line_and_a_field() {
        let planned = planned(None, None, Some(Error::failed("not here")));
        assert!(lines(&planned).contains(&"  ! not here".into()));
        assert_eq!(
            json_line(&planned),
            json!({
                "event": "planned", "job": "db", "what": "a job",
                "archives": [{"job": "db", "what": "a \x1bvolume", "bytes": null}],
                "not_in_it": ["the rest"], "largest_archive": null, "quiesce": ["stop web"], "problem": "not here",
            })
        );
    }
}
