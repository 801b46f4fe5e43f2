//! What people and programs are told while it runs. The work emits events; views show them.

use std::fmt;
use std::io::Write;
use std::sync::Arc;

use indicatif::HumanBytes;

use crate::error::{Context, Error, Result};
use crate::stream::counters::Counters;

pub mod event;
mod lines;
mod view;

pub use event::Event;
pub use lines::Lines;
pub use view::{Mode, View};

/// Somebody who is told what happens.
pub trait Observer: fmt::Debug + Send + Sync {
    /// Whether details are wanted.
    fn is_verbose(&self) -> bool;

    /// Takes in an event. Must not block for long: it is called from the work itself.
    fn event(&self, event: Event);

    /// Follows `counters` until the guard is dropped. `verb` says in the past tense what is done to the bytes.
    fn track(&self, verb: &'static str, counters: Arc<Counters>) -> Tracking;
}

/// The way from the work to its observer. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reporter(Arc<dyn Observer>);

impl Reporter {
    /// Tells `observer`.
    pub fn new(observer: impl Observer + 'static) -> Self {
        Reporter(Arc::new(observer))
    }

    /// Tells nobody.
    pub fn silent() -> Self {
        Self::new(Silent)
    }

    /// Emits an event.
    pub fn emit(&self, event: Event) {
        self.0.event(event);
    }

    /// Something worth knowing.
    pub fn note(&self, text: &str) {
        self.emit(Event::Note { message: text.into() });
    }

    /// A detail, for `--verbose`.
    pub fn detail(&self, text: &str) {
        if self.0.is_verbose() {
            self.note(text);
        }
    }

    /// Something that needs a look.
    pub fn warn(&self, text: &str) {
        self.emit(Event::Warning { message: text.into() });
    }

    /// A line that the source's own process wrote to its stderr.
    pub fn source_line(&self, text: &str) {
        self.emit(Event::Source { message: text.into() });
    }

    /// A failure, cause first, then what to do.
    pub fn error(&self, error: &Error) {
        let hint = error.hint_text().map(String::from);
        self.emit(Event::Error { message: error.to_string(), hint, code: error.kind().exit_code() });
    }

    /// Shows progress until the returned guard is dropped.
    pub fn track(&self, verb: &'static str, counters: Arc<Counters>) -> Tracking {
        self.0.track(verb, counters)
    }
}

/// Progress is shown while this lives.
pub struct Tracking(Option<Box<dyn FnOnce() + Send>>);

impl Tracking {
    /// Runs `end` when it is dropped.
    pub fn new(end: impl FnOnce() + Send + 'static) -> Self {
        Tracking(Some(Box::new(end)))
    }
}

impl Drop for Tracking {
    fn drop(&mut self) {
        if let Some(end) = self.0.take() {
            end();
        }
    }
}

#[derive(Debug)]
struct Silent;

impl Observer for Silent {
    fn is_verbose(&self) -> bool {
        false
    }

    fn event(&self, _: Event) {}

    fn track(&self, _: &'static str, _: Arc<Counters>) -> Tracking {
        Tracking(None)
    }
}

/// Prints a result on stdout.
///
/// # Errors
/// Nobody reads it.
pub fn print(line: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{line}").context(|| "cannot write to stdout".into())
}

/// Passes on what a process wrote to its stdout. Nobody has to read it.
pub fn relay_stdout(bytes: &[u8]) {
    let mut stdout = std::io::stdout();
    drop(stdout.write_all(bytes).and_then(|()| stdout.flush()));
}

/// Passes on what a process wrote to its stderr. Nobody has to read it.
pub fn relay_stderr(bytes: &[u8]) {
    drop(std::io::stderr().write_all(bytes));
}

/// Bytes in gibi-, mebi- or kibibytes.
pub fn human_bytes(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

/// Bytes in lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Text with its control characters escaped, so that nobody else's bytes steer a terminal.
pub fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// An observer for tests: keeps what it was told.
#[cfg(test)]
#[derive(Debug, Clone, Default)]
pub(crate) struct Recorder(Arc<std::sync::Mutex<Vec<Event>>>);

#[cfg(test)]
impl Recorder {
    /// The texts of all events so far, in order.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().map(Event::to_string).collect()
    }
}

#[cfg(test)]
impl Observer for Recorder {
    fn is_verbose(&self) -> bool {
        true
    }

    fn event(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }

    fn track(&self, _: &'static str, _: Arc<Counters>) -> Tracking {
        Tracking(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(printable("a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(printable("grün"), "grün");
    }

    #[test]
    fn an_observer_hears_all_in_order() {
        let recorder = Recorder::default();
        let reporter = Reporter::new(recorder.clone());
        reporter.note("one");
        reporter.clone().warn("two");
        reporter.detail("three");
        reporter.error(&Error::usage("four").hint("five"));
        let texts = recorder.texts();
        assert_eq!(texts, ["note: one", "warning: two", "note: three", "error: four\nhint: five"]);
    }

    #[test]
    fn a_guard_ends_its_progress_once() {
        let (sender, receiver) = std::sync::mpsc::channel();
        drop(Tracking::new(move || sender.send(()).unwrap()));
        assert_eq!(receiver.iter().count(), 1);
    }

    #[test]
    fn nobody_is_told_what_a_silent_reporter_hears() {
        let reporter = Reporter::silent();
        reporter.warn("nothing");
        drop(reporter.track("read", Arc::default()));
    }
}
