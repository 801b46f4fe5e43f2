//! What the page shows, as plain data: whoever runs the schedules keeps it.

use std::time::Duration;

use jiff::Timestamp;

use crate::report::run::{Run, RunState};
use crate::tell::metrics::Metrics;

/// All of it at one moment.
#[derive(Debug, Clone, Default)]
pub struct Board {
    /// The host whose runs they are.
    pub host: String,
    /// Everything that runs by itself, in the order of the settings; each verb of a job for itself.
    pub schedules: Vec<Schedule>,
    /// What needs a look beside the runs: settings that were not taken over, somebody who could not be told.
    pub alarms: Vec<String>,
    /// What `/metrics` says.
    pub metrics: Metrics,
}

/// What runs by itself.
#[derive(Debug, Clone, Default)]
pub struct Schedule {
    /// The job or the set.
    pub name: String,
    /// `backup`, `verify`, `drill` or another.
    pub verb: String,
    /// When it runs next.
    pub next: Option<Timestamp>,
    /// How often it is expected at least.
    pub interval: Option<Duration>,
    /// The last runs, oldest first.
    pub nights: Vec<Night>,
    /// The one that is under way.
    pub running: Option<Progress>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Everything exists.
    Well,
    /// It exists, and something needs a look.
    Warned,
    /// It does not exist.
    Failed,
    /// It was due, and nothing ran.
    Missed,
}

/// A run that ended, or that should have been.
#[derive(Debug, Clone)]
pub struct Night {
    /// When it ended, or was due.
    pub at: Timestamp,
    /// How.
    pub ended: Ended,
    /// How long it took.
    pub seconds: f64,
    /// Bytes of source in its archives.
    pub bytes: u64,
    /// Why it failed, or what it warns of.
    pub text: String,
}

impl From<&Run> for Night {
    fn from(run: &Run) -> Self {
        let ended = match run.state {
            RunState::Started | RunState::Succeeded => Ended::Well,
            RunState::Warned => Ended::Warned,
            RunState::Failed => Ended::Failed,
        };
        Night {
            at: run.ended.unwrap_or(run.started),
            ended,
            seconds: run.seconds().max(0.0),
            bytes: run.archives.iter().map(|sealed| sealed.bytes).sum(),
            text: run.error.clone().unwrap_or_else(|| run.warnings.join("; ")),
        }
    }
}

/// A run that is under way.
#[derive(Debug, Clone)]
pub struct Progress {
    /// Since when.
    pub since: Timestamp,
    /// Bytes of source so far.
    pub bytes: u64,
    /// Bytes that there will be, where that is known.
    pub total: Option<u64>,
}

impl Schedule {
    /// The last run that did what it should.
    pub fn last_good(&self) -> Option<&Night> {
        self.nights.iter().rev().find(|night| matches!(night.ended, Ended::Well | Ended::Warned))
    }

    /// Whether it has been too long since then: by the rule of the alerts.
    pub fn is_late(&self, now: Timestamp) -> bool {
        let (Some(interval), Some(good)) = (self.interval, self.last_good()) else { return false };
        now.duration_since(good.at).as_secs_f64() > 1.5 * interval.as_secs_f64()
    }
}
