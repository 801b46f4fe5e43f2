//! A plan's steps, done one after the other: shells run its commands, the archives are restored by this process.

use std::process::Stdio;

use rustix::process::{Signal, kill_process_group};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::ask::{self, Answer};
use super::told;
use crate::cli::{Doing, RestoreArchive, RestoreSet};
use crate::error::{Context, Error, Kind, Result};
use crate::host::process;
use crate::job::restore::restore;
use crate::job::restore_set::{Position, RestorePlan};
use crate::job::{Outcome, until};
use crate::preset::{Action, RestoreTo, Step};
use crate::report::event::StepState;
use crate::report::{Reporter, counted, print, printable, relay_stderr};

/// A plan that is being carried out.
pub(super) struct Run<'a> {
    pub(super) options: &'a RestoreSet,
    pub(super) plan: &'a RestorePlan,
    /// The store's URL.
    pub(super) from: &'a str,
    pub(super) doing: Doing,
    pub(super) ui: &'a Reporter,
    pub(super) cancel: &'a CancellationToken,
}

/// Whether it goes on.
enum Flow {
    GoOn(Outcome),
    /// Not beyond this place.
    Stop(Position),
}

impl Run<'_> {
    /// Does the steps, from the one that was named.
    ///
    /// # Errors
    /// One failed, was interrupted, or is to be done by hand first: the hint says how to go on.
    pub(super) async fn run(&self) -> Result<Outcome> {
        let begin = self.options.steps.first().unwrap_or(Position::FIRST);
        self.plan.has(begin)?;
        // What is missing is not back, however well the rest goes.
        let mut outcome = if self.plan.incomplete.is_some() { Outcome::Warned } else { Outcome::Done };
        let (mut done, mut skipped) = (0, Vec::new());
        for (number, step) in (1..).zip(&self.plan.steps).skip(begin.step - 1) {
            let first = if number == begin.step { begin.action } else { 1 };
            let at = Position { step: number, action: first };
            let rest = &step.actions[first - 1..];
            match self.doing {
                Doing::Ask => {
                    relay_stderr(self.shown(at, step).as_bytes());
                    match self.ask(at, step, rest).await? {
                        Answer::Skip => {
                            skipped.push(number.to_string());
                            continue;
                        }
                        Answer::Quit => return Ok(self.stop(at)),
                        _ => {}
                    }
                }
                _ => self.may_begin(at, step)?,
            }
            for (action, m) in rest.iter().zip(first..) {
                let at = Position { step: number, action: m };
                match self.act(at, action).await? {
                    Flow::GoOn(Outcome::Done) => {}
                    Flow::GoOn(warned) => outcome = warned,
                    Flow::Stop(at) => return Ok(self.stop(at)),
                }
            }
            done += 1;
        }
        let skipped = match skipped.is_empty() {
            true => String::new(),
            false => format!(", skipped: {}", skipped.join(", ")),
        };
        self.ui.note(&format!("set {}: {} done{skipped}", self.plan.set, counted(done, "step")));
        Ok(outcome)
    }

    /// The line that goes on from a place.
    fn go_on(&self, at: Position) -> String {
        format!("go on with: {}", self.options.again(&self.plan.set, self.from, at))
    }

    fn stop(&self, at: Position) -> Outcome {
        self.ui.warn(&format!("stopped before step {at}; {}", self.go_on(at)));
        Outcome::Warned
    }

    /// A step with its commands, as it is asked for.
    fn shown(&self, at: Position, step: &Step) -> String {
        let mut text = format!("\n{}. {}\n", at.step, printable(&step.title));
        for (action, m) in step.actions.iter().zip(1..).skip(at.action - 1) {
            let by_hand = if action.is_by_hand() { "by hand: " } else { "" };
            text.push_str(&format!("  {}.{m}  {by_hand}{}\n", at.step, action.line(self.from)));
        }
        text
    }

    async fn ask(&self, at: Position, step: &Step, rest: &[Action]) -> Result<Answer> {
        loop {
            let answer = ask::about(at.step, step, rest, self.cancel).await;
            match answer.map_err(|error| error.and_hint(format!("before step {at}; {}", self.go_on(at))))? {
                Answer::Print => rest.iter().try_for_each(|action| print(&action.line(self.from)))?,
                answer => return Ok(answer),
            }
        }
    }

    /// Demands that somebody has seen to what must be so before a step, by naming it.
    fn may_begin(&self, at: Position, step: &Step) -> Result<()> {
        if step.on_condition && self.options.steps.first().map(|named| named.step) != Some(at.step) {
            let title = printable(&step.title);
            return Err(Error::failed(format!("step {at} has a condition: {title}"))
                .hint(format!("see that it is so, then {}", self.go_on(at))));
        }
        Ok(())
    }

    async fn act(&self, at: Position, action: &Action) -> Result<Flow> {
        if self.cancel.is_cancelled() {
            return Err(Error::interrupted().hint(format!("before step {at}; {}", self.go_on(at))));
        }
        if action.is_by_hand() {
            return self.by_hand(at, action).await;
        }
        if let Action::Note(line) = action {
            if self.doing == Doing::Yes {
                self.ui.note(line.trim_start_matches("# "));
            }
            return Ok(Flow::GoOn(Outcome::Done));
        }
        self.tell(at, action, StepState::Begun);
        let ended = match action {
            Action::Restore { archive, is_clear, to: RestoreTo::Words(words) } => {
                self.restore(archive, *is_clear, words).await
            }
            _ => self.shell(&action.line(self.from)).await.map(|()| Outcome::Done),
        };
        let outcome = ended.map_err(|error| self.failed(error, at, action))?;
        self.tell(at, action, StepState::Done);
        Ok(Flow::GoOn(outcome))
    }

    fn tell(&self, at: Position, action: &Action, state: StepState) {
        self.ui.emit(told(self.plan, at, action, self.from, state));
    }

    fn failed(&self, error: Error, at: Position, action: &Action) -> Error {
        let line = action.line(self.from);
        let go_on = self.go_on(at);
        match error.kind() {
            Kind::Interrupted => error.and_hint(format!("step {at} was under way: {line}; {go_on}")),
            _ => {
                // The line to be copied stands last.
                let before = match error.hint_text() {
                    // A set has no --overwrite: what is there may be somebody's.
                    Some(hint) if hint.contains("--overwrite") => "empty it first, then ".into(),
                    Some(hint) => format!("{hint}; then "),
                    None => String::new(),
                };
                error.context(format!("step {at} failed: {line}")).hint(format!("{before}{go_on}"))
            }
        }
    }

    /// What a person does, who is waited for.
    async fn by_hand(&self, at: Position, action: &Action) -> Result<Flow> {
        self.tell(at, action, StepState::ByHand);
        if self.doing == Doing::Ask {
            let is_done = ask::is_done(self.cancel).await;
            let is_done = is_done.map_err(|error| self.failed(error, at, action))?;
            return Ok(if is_done { Flow::GoOn(Outcome::Done) } else { Flow::Stop(at) });
        }
        let mut rest = self.plan.actions_from(at).skip(1);
        if rest.all(|(_, action)| action.is_by_hand() || matches!(action, Action::Note(_))) {
            // Nothing waits for it.
            self.ui.warn(&format!("left to be done by hand: {}", action.line(self.from)));
            return Ok(Flow::GoOn(Outcome::Warned));
        }
        let next = self.plan.actions_from(at).nth(1).map_or(at, |(next, _)| next);
        let condition = match self.plan.steps.get(next.step - 1) {
            Some(step) if next.step > at.step && step.on_condition => {
                format!("see that this is so: {}; then ", printable(&step.title))
            }
            _ => String::new(),
        };
        Err(Error::failed(format!("step {at} is to be done by hand: {}", action.line(self.from)))
            .hint(format!("do it, then {condition}{}", self.go_on(next))))
    }

    async fn restore(&self, archive: &str, is_clear: bool, words: &[String]) -> Result<Outcome> {
        let mut open = self.plan.open.clone();
        open.no_encrypt |= is_clear;
        let request = RestoreArchive::request_of_words(archive, words, open)?;
        match restore(request, self.ui, self.cancel).await? {
            Outcome::Exited(code) => Err(Error::failed(format!("the process ended with exit code {code}"))),
            outcome => Ok(outcome),
        }
    }

    /// Runs a line, and waits for it to end, whatever comes.
    async fn shell(&self, line: &str) -> Result<()> {
        let mut shell = Command::from(process::shell(line));
        // In a group of its own: what is meant for us is handed on below, to all of its processes.
        shell.process_group(0).stdin(Stdio::null());
        let mut child = shell.spawn().context(|| "cannot run sh".into())?;
        let group = process::pid(&child);
        let waited = until(self.cancel, async { child.wait().await.context(|| "cannot wait for sh".into()) });
        let status = match waited.await {
            Err(error) if error.kind() == Kind::Interrupted => {
                let _ = group.map(|group| kill_process_group(group, Signal::TERM));
                let _ = child.wait().await;
                return Err(error);
            }
            status => status?,
        };
        match status.success() {
            true => Ok(()),
            false => Err(Error::failed(status.to_string())),
        }
    }
}
