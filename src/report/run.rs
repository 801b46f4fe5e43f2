//! A run of a job, a set or a schedule as others are told of it: hooks, pings, webhooks, mail, metrics and the page.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Event;
use super::event::Sealed;

/// Warnings that are kept of a run: thousands of files may each have one.
const WARNINGS: usize = 100;

/// How far a run has come, or how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

    /// Takes over what an event says of it.
    pub fn take(&mut self, event: &Event) {
        match event {
            Event::Sealed(sealed) => self.archives.push(sealed.clone()),
            Event::Warning { message } if self.warnings.len() < WARNINGS => {
                self.warnings.push(message.clone());
            }
            Event::Error { message, hint, .. } => {
                (self.error, self.hint) = (Some(message.clone()), hint.clone());
            }
            _ => {}
        }
    }

    /// It has ended now, with this exit code.
    pub fn end(&mut self, code: u8) {
        self.ended = Some(Timestamp::now());
        self.code = Some(code);
        self.state = match code {
            0 => RunState::Succeeded,
            3 => RunState::Warned,
            _ => RunState::Failed,
        };
    }

    /// How long it took, or takes up to now.
    pub fn seconds(&self) -> f64 {
        let end = self.ended.unwrap_or_else(Timestamp::now);
        end.duration_since(self.started).as_secs_f64()
    }
}

impl RunState {
    /// As it is said: `succeeded`.
    pub fn word(self) -> &'static str {
        match self {
            RunState::Started => "started",
            RunState::Succeeded => "succeeded",
            RunState::Warned => "warned",
            RunState::Failed => "failed",
        }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, verb) = (&self.name, &self.verb);
        match self.state {
            RunState::Started => write!(f, "run {name}: {verb} has begun"),
            RunState::Succeeded => write!(f, "run {name}: {verb} succeeded, {:.1} s", self.seconds()),
            RunState::Warned => {
                write!(f, "run {name}: {verb} ended with something to look at, {:.1} s", self.seconds())
            }
            RunState::Failed => {
                let code = self.code.unwrap_or(1);
                write!(f, "run {name}: {verb} FAILED with exit code {code}, {:.1} s", self.seconds())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_what_its_events_say_of_it() {
        let mut run = Run::new("db", "backup", "host");
        run.take(&Event::Warning { message: "one file changed".into() });
        run.take(&Event::Sealed(Sealed::new("db", "ID", 2, 1, 0.5)));
        run.take(&Event::Error { message: "why".into(), hint: Some("do".into()), code: 13 });
        run.take(&Event::Note { message: "nothing".into() });
        assert_eq!((run.state, run.ended), (RunState::Started, None));
        run.end(13);
        assert_eq!((run.state, run.code), (RunState::Failed, Some(13)));
        assert_eq!((run.error.as_deref(), run.hint.as_deref()), (Some("why"), Some("do")));
        assert_eq!((run.warnings.len(), run.archives[0].id.as_str()), (1, "ID"));
        (0..1000).for_each(|_| run.take(&Event::Warning { message: "again".into() }));
        assert_eq!(run.warnings.len(), WARNINGS);
        let text = Event::Run(run.clone()).to_json();
        assert_eq!(serde_json::from_str::<Run>(&text).unwrap(), run);
        for (code, state) in [(0, RunState::Succeeded), (3, RunState::Warned), (130, RunState::Failed)] {
            run.end(code);
            assert_eq!(run.state, state);
        }
    }
}
