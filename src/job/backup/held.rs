//! What is held still while a source is read.

use tokio_util::sync::CancellationToken;

use super::super::quiet::Quiet;
use super::BackupRun;
use crate::docker::Engine;
use crate::error::{Error, Result};
use crate::report::Reporter;
use crate::source::Source;

impl BackupRun {
    /// The engine, where there is something to do for it. What killed runs have left stopped there is put right first.
    pub(super) async fn engine(&self, source: &Source, ui: &Reporter) -> Result<Option<Engine>> {
        if !source.needs_engine() && self.request.quiesce.is_none() {
            return Ok(None);
        }
        let engine = Engine::connect().await?;
        if !self.request.dry_run {
            engine.put_right(ui).await.iter().for_each(|error| ui.error(error));
        }
        Ok(Some(engine))
    }

    /// Holds still what is to be.
    ///
    /// # Errors
    /// As [`Quiet::begin`].
    pub(super) async fn hold_still(
        &mut self,
        engine: Option<&Engine>,
        ui: &Reporter,
        cancel: &CancellationToken,
    ) -> Result<()> {
        let Some((request, engine)) = self.request.quiesce.as_ref().zip(engine) else { return Ok(()) };
        let named = (self.record.job.as_str(), self.record.id.as_str());
        self.quiet = Quiet::begin(engine, request, named, self.request.strict, ui, cancel).await?;
        Ok(())
    }

    /// Lets it go, if that is not done already. What does not run again is a failure of its own, and a warning of the
    /// backup that exists all the same.
    pub(super) async fn let_go(&mut self, ui: &Reporter) {
        let Some(quiet) = self.quiet.take() else { return };
        let errors = quiet.end().await;
        errors.iter().for_each(|error| ui.error(error));
        self.warnings.extend(errors.iter().map(Error::to_string));
    }
}
