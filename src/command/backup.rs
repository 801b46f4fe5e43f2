//! `backup`: one archive, or several.

use tokio_util::sync::CancellationToken;

use super::discover::{self, Found};
use super::plan;
use crate::cli::Backup;
use crate::config::{self, Config, ExplicitArg};
use crate::error::Result;
use crate::job::backup::BackupRequest;
use crate::job::set::{self, SetRequest};
use crate::job::{Outcome, Subject, backup as job, until};
use crate::report::{Mode, Reporter};

/// Backs up what the command line and the settings say. `explicit` are the options that the command line gives.
///
/// # Errors
/// There is no such job or set, or an option of it is wrong; nothing, or of a set not everything, was committed.
pub async fn backup(
    what: Backup,
    explicit: Vec<ExplicitArg>,
    config: Option<&Config>,
    mode: Mode,
    ui: &Reporter,
    cancel: &CancellationToken,
) -> Result<Outcome> {
    let what = match what.into_set() {
        Ok(options) => {
            let dry_run = options.options.dry_run;
            let set = config::set_request(options, explicit, config)?;
            return whole_set(set, dry_run, config, mode, ui, cancel).await;
        }
        Err(what) => *what,
    };
    match what.request()? {
        (subject, request) if request.dry_run => {
            until(cancel, dry_run(subject, request, config, mode, ui)).await
        }
        (Subject::Source(source), request) => {
            Ok(job::backup(job::Task::new(source, request), ui, cancel).await?.outcome)
        }
        (Subject::Preset(preset), request) => set::preset(preset, request, ui, cancel).await,
        (subject @ Subject::Discover(_), request) => {
            let set = as_set(subject, request);
            whole_set(set, false, config, mode, ui, cancel).await
        }
    }
}

/// Backs up a set, some jobs of which only labels may name; or tells what that would be.
async fn whole_set(
    set: SetRequest,
    dry_run: bool,
    config: Option<&Config>,
    mode: Mode,
    ui: &Reporter,
    cancel: &CancellationToken,
) -> Result<Outcome> {
    if dry_run {
        return until(cancel, plan::print(set, config, &[], mode, ui)).await;
    }
    let Found { set, is_warned } = until(cancel, discover::find(set, config, ui)).await?;
    Ok(Found::outcome(is_warned, set::set(set, ui, cancel).await?))
}

/// A subject that may be several archives, as the set of its own job.
fn as_set(subject: Subject, request: BackupRequest) -> SetRequest {
    let name = request.job.clone().or_else(|| subject.default_job()).unwrap_or_default();
    SetRequest { name, jobs: vec![(subject, request)], keep_going: false }
}

/// Tells what would be backed up.
async fn dry_run(
    subject: Subject,
    request: BackupRequest,
    config: Option<&Config>,
    mode: Mode,
    ui: &Reporter,
) -> Result<Outcome> {
    match subject {
        Subject::Source(source) => job::dry_run(job::Task::new(source, request), ui).await,
        other => plan::print(as_set(other, request), config, &[], mode, ui).await,
    }
}
