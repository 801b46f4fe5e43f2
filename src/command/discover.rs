//! `backup discover`: what labels name takes the place of the job that asks for it.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::job::discover::{Discover, Discovered, discover};
use crate::job::set::SetRequest;
use crate::job::{Outcome, Subject};
use crate::report::Reporter;
use crate::source::Source;

/// A set whose jobs are known.
pub(super) struct Found {
    pub set: SetRequest,
    /// Something that was found needs a look.
    pub is_warned: bool,
}

impl Found {
    /// How a run ended that found this.
    pub fn outcome(is_warned: bool, outcome: Outcome) -> Outcome {
        if is_warned && outcome == Outcome::Done { Outcome::Warned } else { outcome }
    }
}

/// Finds the jobs of a set that only labels at the engine name.
///
/// # Errors
/// The engine does not answer; nothing has a label.
pub(super) async fn find(set: SetRequest, config: Option<&Config>, ui: &Reporter) -> Result<Found> {
    let SetRequest { name, jobs, mut keep_going } = set;
    let (mut all, mut is_warned) = (Vec::new(), false);
    for (subject, request) in jobs {
        let Subject::Discover(options) = subject else {
            all.push((subject, request));
            continue;
        };
        let options = Discover { elsewhere: volumes(config), ..options };
        let found = discover(&options, &request).await?;
        is_warned |= tell(&found, &options, ui);
        keep_going = true;
        all.extend(found.jobs);
    }
    if all.is_empty() {
        return Err(Error::failed("nothing at this engine is labelled to be backed up")
            .hint("sealift.backup=true on a volume or container: see `sealift backup discover --help`"));
    }
    Ok(Found { set: SetRequest { name, jobs: all, keep_going }, is_warned })
}

/// Says what cannot be followed, and what nobody covers; whether that needs a look.
fn tell(found: &Discovered, options: &Discover, ui: &Reporter) -> bool {
    for problem in &found.problems {
        let hint = problem.hint_text().map(|hint| format!(" ({hint})")).unwrap_or_default();
        ui.warn(&format!("{problem}{hint}"));
    }
    match found.said() {
        Some(text) if options.require_all => ui.warn(&text),
        Some(text) => ui.note(&text),
        None => {}
    }
    !found.problems.is_empty() || options.require_all && !found.uncovered.is_empty()
}

/// The volumes that jobs of the settings back up.
fn volumes(config: Option<&Config>) -> Vec<String> {
    let jobs = config.into_iter().flat_map(|config| config.jobs().iter().map(move |job| (config, job)));
    let volumes = jobs.filter(|(_, job)| job.source == "volume");
    let of = |(config, job): (&Config, &crate::config::Job)| match config.job(&job.name, &[]).ok()?.0 {
        Subject::Source(Source::Volume(names)) => Some(names),
        _ => None,
    };
    volumes.filter_map(of).flatten().collect()
}
