//! What keeps a night accounted for: one run of a job at a time, a source that has shrunk is told, a failure is noted.

use std::sync::Arc;

use super::super::failing::Failing;
use super::super::lease::{self, OneAtATime, RunLease};
use super::super::shrink;
use super::{BackupRun, Made};
use crate::archive::Id;
use crate::archive::seal::Sealed;
use crate::error::{Error, Kind, Result};
use crate::report::Reporter;
use crate::store::Store;
use crate::store::fan::{Failed, FanOut};

impl BackupRun {
    /// Whether the source has as much as it should have, after what the newest archive has; otherwise that is a warning.
    pub(super) fn not_shrunk(&mut self, sealed: Sealed, ui: &Reporter) -> Result<Sealed> {
        if sealed.end.partial {
            return Ok(sealed);
        }
        let bytes = sealed.end.bytes + sealed.end.kept.bytes;
        let alarm = self
            .request
            .shrink_alarm
            .and_then(|share| shrink::alarm(&self.record.job, share, self.before.as_ref(), bytes));
        match alarm {
            None => {}
            Some(text) if self.request.strict => {
                return Err(
                    Error::failed(text).hint("where that is right, run it once without --shrink-alarm")
                );
            }
            Some(text) => {
                ui.warn(&text);
                self.warnings.push(text);
            }
        }
        Ok(sealed)
    }

    /// Ends the lease, and notes a failure in `stores`.
    pub(super) async fn end(
        mut self,
        made: Result<Made>,
        failing: Option<Failing>,
        stores: &[Arc<Store>],
        ui: &Reporter,
    ) -> Result<Made> {
        let ended = match self.lease.take() {
            Some(lease) => lease.end(ui).await,
            None => true,
        };
        let Some(mut failing) = failing else { return made };
        failing.hide(self.passphrase.as_ref());
        let id = &self.record.id;
        match made {
            // The run that holds the job accounts for this one; where the lease stays, something has to mark its end.
            Err(error) if error.kind() == Kind::Locked && ended => Err(error),
            Err(error) => Err(failing.note(stores, id, error, ui).await),
            Ok(made) => {
                for Failed { store, error } in self.failed {
                    let there: Vec<_> = stores.iter().filter(|other| other.name == store).cloned().collect();
                    failing.note(&there, id, error, ui).await;
                }
                Ok(made)
            }
        }
    }

    /// Draws the id, and takes the lease under it: nobody else makes an archive of this job meanwhile. Returns the stores
    /// that answer, each with its newest archive.
    pub(super) async fn reserve(
        &mut self,
        fan: &mut FanOut,
        ui: &Reporter,
    ) -> Result<Vec<(Arc<Store>, Option<Id>)>> {
        let OneAtATime { off, wait } = self.request.one_at_a_time;
        let began = tokio::time::Instant::now();
        loop {
            let (mut listed, mut seen) = (Vec::new(), Vec::new());
            for store in std::mem::take(&mut self.stores) {
                let reached = async {
                    store.check_lock().await?;
                    store.runs(&self.record.job).await
                };
                match reached.await {
                    Ok(runs) => {
                        seen.extend(runs.newest.iter().chain(runs.with_lease()).cloned());
                        listed.push((store, runs.newest));
                    }
                    Err(error) => fan.give_up(&store.name, error),
                }
            }
            self.stores = listed.iter().map(|(store, _)| Arc::clone(store)).collect();
            fan.any_left(self.stores.len())?;
            // "Newest" is what was made last, whatever the clocks say.
            self.record.id = Id::after(self.record.started, &seen)?;
            if off || self.request.dry_run {
                return Ok(listed);
            }
            let lease = RunLease::new(&self.record.job, &self.record.id, self.record.started);
            let error = match self.lease.insert(lease).take(&self.stores, ui).await {
                Ok(()) => return Ok(listed),
                Err(error) => error,
            };
            let left = wait.saturating_sub(began.elapsed());
            if error.kind() != Kind::Locked || left.is_zero() {
                return Err(error.or_hint(lease::HINT));
            }
            if let Some(lease) = self.lease.take() {
                lease.end(ui).await;
            }
            lease::wait_for_others(&error, left, ui).await;
        }
    }
}
