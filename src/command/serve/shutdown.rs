//! The end of `serve`: what runs may come to its end, is stopped, is killed; and that is said.

use std::time::Duration;

use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use super::Supervisor;
use crate::error::{Context, Result};
use crate::job::Outcome;

/// How long runs may take to abort what they have begun.
const ABORTING: Duration = Duration::from_secs(30);

/// The signals that mean something to it.
pub struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

/// How long those may take who are told.
const TELLING: Duration = Duration::from_secs(20);

impl Signals {
    /// From now on they do not end this process.
    ///
    /// # Errors
    /// The system does not let us wait for them.
    pub fn new() -> Result<Self> {
        let wait = |kind| signal(kind).context(|| "cannot wait for signals".into());
        Ok(Signals {
            hangup: wait(SignalKind::hangup())?,
            terminate: wait(SignalKind::terminate())?,
            interrupt: wait(SignalKind::interrupt())?,
        })
    }

    /// Whether the settings are to be read again; otherwise it is to end.
    pub async fn is_reload(&mut self) -> bool {
        tokio::select! {
            _ = self.hangup.recv() => true,
            _ = self.terminate.recv() => false,
            _ = self.interrupt.recv() => false,
        }
    }
}

/// How runs are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// They may come to their end.
    Waiting,
    /// They were asked to stop.
    Stopping,
    /// They were killed.
    Killed,
}

impl Supervisor {
    /// Nothing begins any more. Each further signal hastens the end.
    pub(super) async fn end(&mut self, signals: &mut Signals) -> Result<Outcome> {
        self.notify.say("STOPPING=1");
        let acts = self.planner.stop(Timestamp::now());
        self.act(acts);
        let (mut stage, mut until) = (Stage::Waiting, Instant::now() + self.options.grace);
        if !self.processes.is_empty() {
            let grace = self.options.grace;
            self.ui.note(&format!("{} may go on for {grace:?}; a signal stops them now", self.names()));
        }
        while !self.processes.is_empty() {
            let pulse = Instant::now() + self.notify.watchdog().unwrap_or(ABORTING) / 2;
            let is_next = tokio::select! {
                Some(told) = self.told.recv() => { self.take(told); false }
                reload = signals.is_reload() => !reload,
                () = sleep_until(until.min(pulse)) => Instant::now() >= until,
            };
            self.notify.say("WATCHDOG=1");
            if is_next && !self.processes.is_empty() {
                stage = self.hasten(stage);
                until = Instant::now() + ABORTING;
            }
        }
        // Who is told of the last runs is no reason to stay for long.
        let _ = tokio::time::timeout(TELLING, std::mem::take(&mut self.telling).join_all()).await;
        self.page.end().await;
        self.ui.note("stopped: nothing runs any more");
        Ok(Outcome::Done)
    }

    fn hasten(&self, stage: Stage) -> Stage {
        match stage {
            Stage::Waiting => {
                self.ui.warn(&format!("{} did not end in time, and is stopped", self.names()));
                self.processes.values().for_each(super::Process::stop);
                Stage::Stopping
            }
            Stage::Stopping | Stage::Killed => {
                let hint = "`sealift clean` shows what is left in a store";
                self.ui.warn(&format!("{} did not stop in time, and is killed: {hint}", self.names()));
                self.processes.values().for_each(super::Process::kill);
                Stage::Killed
            }
        }
    }

    fn names(&self) -> String {
        self.processes.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}
