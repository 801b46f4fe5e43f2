//! `backup`: one archive, or several.

use tokio_util::sync::CancellationToken;

use crate::cli::Backup;
use crate::config::{self, Config, ExplicitArg};
use crate::error::Result;
use crate::job::{Outcome, Subject, backup as job, set};
use crate::report::Reporter;

/// Backs up what the command line and the settings say. `explicit` are the options that the command line gives.
///
/// # Errors
/// There is no such job or set, or an option of it is wrong; nothing, or of a set not everything, was committed.
pub async fn backup(
    what: Backup,
    explicit: Vec<ExplicitArg>,
    config: Option<&Config>,
    ui: &Reporter,
    cancel: &CancellationToken,
) -> Result<Outcome> {
    let what = match what.into_set() {
        Ok(options) => return set::set(config::set_request(options, explicit, config)?, ui, cancel).await,
        Err(what) => *what,
    };
    match what.request()? {
        (Subject::Source(source), request) => {
            Ok(job::backup(job::Task::new(source, request), ui, cancel).await?.outcome)
        }
        (Subject::Preset(preset), request) => set::preset(preset, request, ui, cancel).await,
    }
}
