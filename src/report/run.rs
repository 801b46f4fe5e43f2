//! A run of a job, a set or a schedule as others are told of it: hooks, pings, webhooks, mail, metrics and the page.

use jiff::Timestamp;
use serde::Serialize;

use super::event::Sealed;

/// How far a run has come, or how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// It has begun.
    Started,
    /// Everything exists, nothing to look at.
    Succeeded,
    /// Committed, but with something to look at: exit code 3.
    Warned,
    /// Nothing, or not everything, was committed.
    Failed,
}

/// A run. As JSON it is what a hook reads from its standard input and what a webhook is sent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// The job, the set or the schedule, as the settings name it.
    pub name: String,
    /// What is done: `backup`, `verify`, `prune`, `drill` or another verb.
    pub verb: String,
    /// The host on which it runs.
    pub host: String,
    /// How far it is.
    pub state: RunState,
    /// When it began.
    pub started: Timestamp,
    /// When it ended; nothing as long as it goes on.
    pub ended: Option<Timestamp>,
    /// The exit code; nothing as long as it goes on.
    pub code: Option<u8>,
    /// Why it failed, with the causes.
    pub error: Option<String>,
    /// What to do about that.
    pub hint: Option<String>,
    /// What needs a look.
    pub warnings: Vec<String>,
    /// The archives that were made, in order.
    pub archives: Vec<Sealed>,
}

impl Run {
    /// A run that begins now.
    pub fn new(name: &str, verb: &str, host: &str) -> Self {
        Run {
            name: name.into(),
            verb: verb.into(),
            host: host.into(),
            state: RunState::Started,
            started: Timestamp::now(),
            ended: None,
            code: None,
            error: None,
            hint: None,
            warnings: Vec::new(),
            archives: Vec::new(),
        }
    }

    /// How long it took, or takes up to now.
    pub fn seconds(&self) -> f64 {
        let end = self.ended.unwrap_or_else(Timestamp::now);
        end.duration_since(self.started).as_secs_f64()
    }
}
