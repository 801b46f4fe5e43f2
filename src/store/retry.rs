//! One policy for every request to a store: what is no definite refusal is asked again, each time with a new signature,
//! for as long as `--retry-for` says.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use object_store::Error;
use tokio::time::Instant;

use super::Kind;
use super::failure::{Verdict, find, in_short, verdict, was_sent};
use crate::report::{Reporter, clock};

/// How often it is told that a store is asked again.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// The longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(8);
/// Attempts where the answer is one that no store gives.
const ODD_ATTEMPTS: u32 = 3;

/// How long a store is asked again, and who is told.
#[derive(Debug)]
pub(super) struct Patience {
    store: String,
    kind: Kind,
    /// For how long one operation is tried.
    pub(super) limit: Duration,
    /// Whether a request was ever answered: credentials are there then.
    answered: AtomicBool,
    /// Whether it was told that the store is tried again.
    is_tried_again: AtomicBool,
    ui: OnceLock<Reporter>,
    told: Mutex<Option<Instant>>,
}

impl Patience {
    pub(super) fn new(store: &str, kind: Kind, limit: Duration) -> Self {
        Patience {
            store: store.into(),
            kind,
            limit,
            answered: AtomicBool::new(false),
            is_tried_again: AtomicBool::new(false),
            ui: OnceLock::new(),
            told: Mutex::new(None),
        }
    }

    /// Who is told that a store is asked again; the first one that is named.
    pub(super) fn report_to(&self, ui: &Reporter) {
        let _ = self.ui.set(ui.clone());
    }

    /// An operation that begins now.
    pub(super) fn effort(&self) -> Effort<'_> {
        Effort { patience: self, started: Instant::now(), attempts: 0, unclear: false }
    }

    /// Reads: the last answer counts.
    pub(super) async fn read<T, F>(&self, attempt: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let (effort, done) = self.repeat(attempt).await;
        match done {
            Err(error) if effort.refused(&error) => Err(error),
            Err(error) => Err(effort.tried(error)),
            Ok(done) => Ok(done),
        }
    }

    /// Writes: a refusal after an attempt whose outcome nobody knows is none.
    pub(super) async fn write<T, F>(&self, attempt: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let (effort, done) = self.repeat(attempt).await;
        done.map_err(|error| effort.tried(error))
    }

    /// Attempts it until it is done, or is not worth another attempt.
    async fn repeat<T, F>(&self, mut attempt: impl FnMut() -> F) -> (Effort<'_>, Result<T, Error>)
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut effort = self.effort();
        loop {
            match attempt().await {
                Ok(done) => {
                    let done = effort.done(done);
                    return (effort, Ok(done));
                }
                Err(error) if effort.again(&error).await => {}
                Err(error) => return (effort, Err(error)),
            }
        }
    }

    /// Says something about the store, for `--verbose`.
    pub(super) fn detail(&self, text: &str) {
        if let Some(ui) = self.ui.get() {
            ui.detail(&format!("{}: {text}", self.store));
        }
    }

    fn tell(&self, elapsed: Duration, error: &Error) {
        let Some(ui) = self.ui.get() else { return };
        self.is_tried_again.store(true, Ordering::Relaxed);
        let is_shown = ui.retrying(&self.store, elapsed, self.limit, &in_short(error));
        if is_shown || elapsed < TOLD_EVERY {
            return;
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
            *told = Some(Instant::now());
            let (elapsed, limit) = (clock(elapsed), clock(self.limit));
            ui.note(&format!("{}: retrying {elapsed} of {limit}: {}", self.store, in_short(error)));
        }
    }
}

/// One operation, with all its attempts.
pub(super) struct Effort<'a> {
    patience: &'a Patience,
    started: Instant,
    attempts: u32,
    /// An attempt may have been done without an answer.
    pub(super) unclear: bool,
}

impl Effort<'_> {
    fn done<T>(&self, done: T) -> T {
        self.patience.answered.store(true, Ordering::Relaxed);
        if self.patience.is_tried_again.swap(false, Ordering::Relaxed) {
            self.patience.ui.get().into_iter().for_each(|ui| ui.answered(&self.patience.store));
        }
        done
    }

    /// Since it began.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether an error is a definite no.
    pub(super) fn refused(&self, error: &Error) -> bool {
        matches!(verdict(error, self.patience.kind), Verdict::Refused | Verdict::RefusedNow)
    }

    /// Waits until the next attempt; false where there is to be none.
    pub(super) async fn again(&mut self, error: &Error) -> bool {
        self.failed(error) && self.pause(error).await
    }

    /// Takes note of an attempt's failure; whether it is worth another.
    pub(super) fn failed(&mut self, error: &Error) -> bool {
        self.attempts += 1;
        let verdict = verdict(error, self.patience.kind);
        self.unclear |= verdict == Verdict::Odd || verdict == Verdict::Unclear && was_sent(error);
        let answered = self.patience.answered.load(Ordering::Relaxed);
        match verdict {
            Verdict::Refused => false,
            // A clock or a token may be right the next time.
            Verdict::RefusedNow => self.attempts == 1,
            Verdict::NotSetUp if answered => true,
            Verdict::Odd | Verdict::NotSetUp => self.attempts < ODD_ATTEMPTS,
            Verdict::Unclear => true,
        }
    }

    /// Waits a while, longer each time; false where `--retry-for` does not last so long.
    pub(super) async fn pause(&mut self, error: &Error) -> bool {
        let wait = Duration::from_millis(500 << self.attempts.saturating_sub(1).min(6)).min(LONGEST_WAIT);
        if self.elapsed() + wait > self.patience.limit {
            return false;
        }
        self.patience.tell(self.elapsed(), error);
        tokio::time::sleep(wait).await;
        true
    }

    /// The error that ends it: with how long it was tried, and whether it may have been done all the same.
    pub(super) fn tried(&self, error: Error) -> Error {
        let definite = !self.unclear && self.refused(&error);
        if definite || find::<Tried>(&error).is_some() { error } else { Tried::error(self.elapsed(), error) }
    }
}

/// An operation of which nobody knows whether it was done.
#[derive(Debug)]
pub(super) struct Tried {
    /// For how long it was tried.
    pub(super) elapsed: Duration,
    /// The last failure.
    pub(super) error: Error,
}

impl Tried {
    /// The failure of what was tried for so long.
    pub(super) fn error(elapsed: Duration, error: Error) -> Error {
        Error::Generic { store: "store", source: Box::new(Tried { elapsed, error }) }
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (tried for {})", self.error, clock(self.elapsed))
    }
}

impl std::error::Error for Tried {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}
