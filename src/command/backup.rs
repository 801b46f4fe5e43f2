//! `backup`: one archive, or several.

use tokio_util::sync::CancellationToken;

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
            return match dry_run {
                true => until(cancel, plan::print(&set, &[], mode, ui)).await,
                false => set::set(set, ui, cancel).await,
            };
        }
        Err(what) => *what,
    };
    match what.request()? {
        (subject, request) if request.dry_run => until(cancel, dry_run(subject, request, mode, ui)).await,
        (Subject::Source(source), request) => {
            Ok(job::backup(job::Task::new(source, request), ui, cancel).await?.outcome)
        }
        (Subject::Preset(preset), request) => set::preset(preset, request, ui, cancel).await,
    }
}

/// Tells what would be backed up.
async fn dry_run(subject: Subject, request: BackupRequest, mode: Mode, ui: &Reporter) -> Result<Outcome> {
    let source = match subject {
        Subject::Source(source) => source,
        Subject::Preset(preset) => {
            let name = request.job.clone().unwrap_or_else(|| preset.job().into());
            let set = SetRequest { name, jobs: vec![(Subject::Preset(preset), request)], keep_going: false };
            return plan::print(&set, &[], mode, ui).await;
        }
    };
    job::dry_run(job::Task::new(source, request), ui).await
}
