//! What `serve` knows at a moment, for whoever shows it: the page, metrics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::Serialize;

use super::event::StoreBytes;
use super::run::Run;

/// The state of the supervisor, shared between it and those who show it. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Mutex<State>>);

/// What stands on the board.
#[derive(Debug, Clone, Default, Serialize)]
pub struct State {
    /// What has a schedule, by name.
    pub schedules: BTreeMap<String, Upcoming>,
    /// What runs now, by name.
    pub running: BTreeMap<String, Running>,
    /// The latest run that ended, by name.
    pub last: BTreeMap<String, Run>,
    /// Due times that passed without a run, by name, since `serve` was started.
    pub missed: BTreeMap<String, Missed>,
    /// What is wrong in the settings file, so that older settings hold.
    pub settings: Option<String>,
}

/// A schedule.
#[derive(Debug, Clone, Serialize)]
pub struct Upcoming {
    /// What is done: `backup`, `verify`, `prune` or another verb.
    pub verb: String,
    /// When the next run begins.
    pub next: Option<Timestamp>,
}

/// A run under way.
#[derive(Debug, Clone, Serialize)]
pub struct Running {
    /// What is known of it.
    pub run: Run,
    /// What it has moved so far.
    pub progress: Option<Moved>,
}

/// What a run has moved, as it told last: see [`super::Event::Progress`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Moved {
    /// The job, or what else it is of.
    pub job: String,
    /// Since it began.
    pub seconds: u64,
    /// Bytes of source.
    pub bytes: u64,
    /// Bytes as they are stored.
    pub stored: u64,
    /// How many bytes there will be, as far as that is known.
    pub total: Option<u64>,
    /// What each store has taken.
    pub stores: Vec<StoreBytes>,
}

/// Due times that passed without a run.
#[derive(Debug, Clone, Serialize)]
pub struct Missed {
    /// How often; a stretch of them that passed at once is one.
    pub count: u64,
    /// When the last of them was due.
    pub due: Timestamp,
    /// Why.
    pub why: String,
}

impl Board {
    /// Everything, as it is now.
    pub fn state(&self) -> State {
        self.with(|state| state.clone())
    }

    /// Looks at it, or changes it.
    pub fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
