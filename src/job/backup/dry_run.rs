//! What a backup would do: all that is done before a source is started, without a trace.

use super::super::plan::{held, location, measure};
use super::{BackupRun, Task};
use crate::error::Result;
use crate::job::Outcome;
use crate::report::{Event, Reporter, event};
use crate::source::in_words;
use crate::store::fan::FanOut;

/// Tells what would be backed up; nothing is started, and nothing is written to a store.
///
/// # Errors
/// The backup would not begin: no store answers, the engine does not, the job is another source's.
pub async fn dry_run(task: Task, ui: &Reporter) -> Result<Outcome> {
    let (mut run, source) = BackupRun::prepare(task, ui)?;
    run.request.dry_run = true;
    let mut fan = FanOut::new(run.plan.parts.clone(), run.chunks.clone(), ui);
    let engine = run.ready(&source, &mut fan, ui).await?;
    for failed in fan.given_up() {
        ui.warn(&format!("{} would not have it: {}", failed.store, failed.error));
    }
    let quiesce = held(run.request.quiesce.as_ref(), engine.as_ref(), &run.record.job).await?;
    let is_warned = !fan.given_up().is_empty() || !run.warnings.is_empty();
    let job = run.record.job;
    ui.emit(Event::PlannedBackup(event::PlannedBackup {
        source: in_words(&run.record.source),
        bytes: measure(location(&source), engine.as_ref()).await,
        stores: run.stores.iter().map(|store| store.name.clone()).collect(),
        last: run.before.map(|before| format!("{job}@{}", before.id)),
        base: run.base.map(|base| base.name()),
        quiesce,
        job,
    }));
    Ok(if is_warned { Outcome::Warned } else { Outcome::Done })
}
