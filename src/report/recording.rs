//! An observer that writes down what becomes of a run, and passes everything on.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::run::Run;
use super::{Event, Observer, Reporter, Tracking};
use crate::stream::counters::Counters;

/// A run that is filled from what its work tells. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Recording {
    run: Arc<Mutex<Run>>,
    to: Reporter,
}

impl Recording {
    /// Fills `run`, and passes everything on `to` somebody.
    pub fn new(run: Run, to: Reporter) -> Self {
        Recording { run: Arc::new(Mutex::new(run)), to }
    }

    /// The run as it is now.
    pub fn run(&self) -> Run {
        self.with(|run| run.clone())
    }

    /// Looks at the run, or changes it.
    pub fn with<T>(&self, work: impl FnOnce(&mut Run) -> T) -> T {
        work(&mut self.run.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Observer for Recording {
    fn is_verbose(&self) -> bool {
        self.to.0.is_verbose()
    }

    fn event(&self, event: Event) {
        self.with(|run| run.take(&event));
        self.to.emit(event);
    }

    fn track(&self, verb: &'static str, counters: Arc<Counters>) -> Tracking {
        self.to.track(verb, counters)
    }

    fn retrying(&self, store: &str, elapsed: Duration, limit: Duration, why: &str) -> bool {
        self.to.retrying(store, elapsed, limit, why)
    }

    fn answered(&self, store: &str) {
        self.to.answered(store);
    }

    fn clear(&self) {
        self.to.clear();
    }
}
