//! `doctor`: a line for each check.

use std::path::Path;

use serde_json::json;

use crate::cli::{Doctor, ExplicitArg};
use crate::config::{self, Config};
use crate::error::{Error, Result};
use crate::job::backup::BackupRequest;
use crate::job::doctor::{DoctorRequest, Need};
use crate::job::{Outcome, Subject, doctor as job};
use crate::report::{Finding, Mode, Reporter, Verdict, print_while_read, printable};
use crate::source::Source;

/// Looks at everything, and prints what was found. What is wrong is no error, but said by the exit code.
///
/// # Errors
/// There is no such job; nothing can be printed.
pub async fn doctor(
    options: Doctor,
    explicit: &[ExplicitArg],
    (named, config): (Option<&Path>, Option<&Config>),
    mode: Mode,
    ui: &Reporter,
) -> Result<Outcome> {
    let mut worst = Verdict::Ok;
    let mut each = |finding: Finding| {
        worst = worst.max(finding.verdict);
        match (mode, finding.verdict) {
            (Mode::Quiet, Verdict::Ok) => Ok(()),
            _ => print_while_read([line(&finding, mode)]),
        }
    };
    let request = with_jobs(options, explicit, config)?;
    for finding in settings(named) {
        each(finding)?;
    }
    job::doctor(&request, ui, &mut each).await?;
    Ok(match worst {
        Verdict::Ok => Outcome::Done,
        Verdict::Warn => Outcome::Warned,
        Verdict::Fail => Outcome::Exited(1),
    })
}

fn line(finding: &Finding, mode: Mode) -> String {
    match mode {
        Mode::Json => json!({
            "check": finding.check, "verdict": finding.verdict.to_string(), "found": finding.found,
            "change": finding.change,
        })
        .to_string(),
        // A store's answers are in it.
        _ => printable(&finding.to_string()),
    }
}

/// Whether the settings file is there and all of it understood: a line for each problem.
fn settings(named: Option<&Path>) -> Vec<Finding> {
    let check = "settings";
    let failed = |error: &Error| {
        Finding::fail(check, error.to_string(), error.hint_text().unwrap_or("see `sealift config --help`"))
    };
    let path = match config::find(named) {
        Ok(Some(path)) => path,
        Ok(None) => {
            return vec![Finding::ok(check, "no settings file: every run says by options what it needs")];
        }
        Err(error) => return vec![failed(&error)],
    };
    match super::config::problems(path) {
        Err(error) => vec![failed(&error)],
        Ok((config, problems)) if problems.is_empty() => {
            let (jobs, file) = (config.jobs().len(), config.path().display());
            vec![Finding::ok(check, format!("{file}: {jobs} job{}", if jobs == 1 { "" } else { "s" }))]
        }
        Ok((config, problems)) => {
            let failed = problems.iter().map(|problem| failed(&problem.error(config.path())));
            failed.collect()
        }
    }
}

/// What the line says, with what the jobs of the settings need.
fn with_jobs(options: Doctor, explicit: &[ExplicitArg], config: Option<&Config>) -> Result<DoctorRequest> {
    let mut request = options.request()?;
    let given = |id: &str| explicit.iter().any(|arg| arg.id == id);
    let jobs: Vec<_> = match (&options.job_of_settings, config) {
        (Some(name), Some(config)) => vec![config.job(name, &[])?],
        (Some(name), None) => return Err(config::no_file(&format!("no job {name}"))),
        // One that is not right is told by the check of the settings.
        (None, Some(config)) => {
            config.jobs().iter().filter_map(|job| config.job(&job.name, &[]).ok()).collect()
        }
        (None, None) => Vec::new(),
    };
    if !jobs.is_empty() {
        (request.engine, request.tar) = (Need::Never, Need::Never);
    }
    for (subject, own) in &jobs {
        let (engine, tar) = needs(subject);
        (request.engine, request.tar) = (request.engine.max(engine), request.tar.max(tar));
        request.builds_on |= own.increments.is_some();
        for store in own.stores.iter().filter(|_| !given("to")) {
            if request.stores.iter().all(|known| known.url != store.url) {
                request.stores.push(store.clone());
            }
        }
    }
    if let (Some(_), [(_, own)]) = (&options.job_of_settings, &jobs[..]) {
        of_one(&mut request, own, &given);
    }
    Ok(request)
}

/// What one job says itself, where the line says nothing.
fn of_one(request: &mut DoctorRequest, own: &BackupRequest, given: &impl Fn(&str) -> bool) {
    let memory = if given("memory") { request.budget.memory } else { own.budget.memory };
    request.budget = own.budget;
    request.budget.memory = memory;
    if !["no_encrypt", "passphrase_file", "passphrase_command"].into_iter().any(given) {
        request.encryption = own.encryption.as_ref().map(|own| (own.cipher, own.passphrase.clone()));
    }
    if !given("to") {
        request.stores.clone_from(&own.stores);
    }
}

/// What a job's source asks of the engine and of GNU tar.
fn needs(subject: &Subject) -> (Need, Need) {
    match subject {
        Subject::Discover(_) => (Need::Always, Need::Always),
        Subject::Preset(preset) if !preset.is_docker_ee() => (Need::Always, Need::Never),
        Subject::Preset(_) => (Need::Always, Need::Always),
        Subject::Source(source) => match source {
            Source::Run(_) | Source::Exec { .. } | Source::Image(_) | Source::UnlockKey => {
                (Need::Always, Need::Never)
            }
            Source::Volume(_) | Source::Folder { .. } => (Need::Always, Need::Always),
            Source::Path(_) => (Need::Never, Need::Always),
            Source::Command(_) | Source::Stdin => (Need::Never, Need::Never),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_ask_for_what_they_read_by() {
        let needs = |source| needs(&Subject::Source(source));
        for source in [Source::Stdin, Source::Command(vec!["pg_dump".into()])] {
            assert_eq!(needs(source), (Need::Never, Need::Never));
        }
        assert_eq!(needs(Source::Path(vec!["/etc".into()])), (Need::Never, Need::Always));
        assert_eq!(needs(Source::Volume(vec!["v".into()])), (Need::Always, Need::Always));
        assert_eq!(needs(Source::Image(vec!["i".into()])), (Need::Always, Need::Never));
    }

    #[test]
    fn a_line_has_no_control_characters_and_json_all_fields() {
        let finding = Finding::warn("store", "odd\x1b[2J", "change it");
        assert_eq!(line(&finding, Mode::Human), "warn  store: odd\\u{1b}[2J; change it");
        let parsed: serde_json::Value = serde_json::from_str(&line(&finding, Mode::Json)).unwrap();
        let expected =
            json!({"check": "store", "verdict": "warn", "found": "odd\x1b[2J", "change": "change it"});
        assert_eq!(parsed, expected);
    }
}
