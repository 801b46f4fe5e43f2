//! What people and programs are told while it runs. The work emits events; views show them.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use indicatif::HumanBytes;

use crate::error::{Error, Kind, Result};
use crate::stream::counters::Counters;

mod drawing;
pub mod event;
mod finding;
mod lines;
mod near;
mod progress;
mod recording;
pub mod run;
mod short;
mod table;
mod view;

pub use event::Event;
pub use finding::{Finding, Verdict};
pub use lines::{Lines, said_by_tar};
pub use near::{names_hint, nearest};
pub use recording::Recording;
pub use short::{counted, short_bytes, short_time, shortened};
pub use table::{Column, Row, table, wrapped};
pub use view::{Mode, View};

/// Somebody who is told what happens.
pub trait Observer: fmt::Debug + Send + Sync {
    /// Whether details are wanted.
    fn is_verbose(&self) -> bool;

    /// Takes in an event. Must not block for long: it is called from the work itself.
    fn event(&self, event: Event);

    /// Follows `counters` until the guard is dropped. `verb` says in the past tense what is done to the bytes.
    fn track(&self, verb: &'static str, counters: Arc<Counters>) -> Tracking;

    /// A store is being tried again, for `elapsed` of `limit`; whether that is shown, so that nobody else need say so.
    fn retrying(&self, _store: &str, _elapsed: Duration, _limit: Duration, _why: &str) -> bool {
        false
    }

    /// A store that was tried again has answered.
    fn answered(&self, _store: &str) {}

    /// Takes away what is only shown for a while.
    fn clear(&self) {}
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

impl Reporter {
    /// As [`Observer::retrying`].
    pub fn retrying(&self, store: &str, elapsed: Duration, limit: Duration, why: &str) -> bool {
        self.0.retrying(store, elapsed, limit, why)
    }

    /// As [`Observer::answered`].
    pub fn answered(&self, store: &str) {
        self.0.answered(store);
    }

    /// Takes away what is only shown for a while: the process is about to end.
    pub fn clear(&self) {
        self.0.clear();
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

/// Prints a line of a result on stdout.
///
/// # Errors
/// [`Kind::ClosedPipe`] when nobody reads it any more; it cannot be written.
pub fn print(line: &str) -> Result<()> {
    print_to(&mut std::io::stdout().lock(), &[line.as_bytes(), b"\n"])
}

/// Prints a result on stdout as it is.
///
/// # Errors
/// As [`print()`].
pub fn print_text(text: &[u8]) -> Result<()> {
    print_to(&mut std::io::stdout().lock(), &[text])
}

/// Prints lines whose last word is said by the exit code, too: that nobody reads them to their end changes nothing.
///
/// # Errors
/// They cannot be written.
pub fn print_while_read(lines: impl IntoIterator<Item = String>) -> Result<()> {
    match lines.into_iter().try_for_each(|line| print(&line)) {
        Err(error) if error.kind() == Kind::ClosedPipe => Ok(()),
        printed => printed,
    }
}

fn print_to(out: &mut impl Write, parts: &[&[u8]]) -> Result<()> {
    let written = parts.iter().try_for_each(|part| out.write_all(part)).and_then(|()| out.flush());
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => Error::closed_pipe(),
        _ => Error::failed("cannot write to stdout").because(error),
    })
}

/// How many characters a line of stdout's terminal has; none where stdout is no terminal: nothing is to be shortened there.
pub fn stdout_width() -> Option<usize> {
    width_of(std::io::stdout())
}

/// The same of any terminal. One that does not say its width has 80.
fn width_of(terminal: impl IsTerminal + std::os::fd::AsFd) -> Option<usize> {
    let columns = || rustix::termios::tcgetwinsize(&terminal).map_or(0, |size| size.ws_col);
    terminal.is_terminal().then(|| match columns() {
        0 => 80,
        columns => columns.into(),
    })
}

/// Whether what is written to stdout, or else to stderr, may have colours: in a terminal, unless `NO_COLOR` is set.
pub fn has_colours(stdout: bool) -> bool {
    let is_seen = if stdout { std::io::stdout().is_terminal() } else { std::io::stderr().is_terminal() };
    is_seen && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty())
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

/// A time as a clock shows it: `0:12`, `1:02:03`.
pub fn clock(time: std::time::Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// Bytes in lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Text with its control characters escaped, so that nobody else's bytes steer a terminal.
pub fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// A word as a shell reads it; without control characters, which no shell should be given.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    let word = printable(word);
    match !word.is_empty() && word.chars().all(plain) {
        true => word,
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
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
    fn times_are_shown_as_a_clock_shows_them() {
        let shown = [12, 300, 3723].map(|seconds| clock(std::time::Duration::from_secs(seconds)));
        assert_eq!(shown, ["0:12", "5:00", "1:02:03"]);
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(printable("a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(printable("grün"), "grün");
    }

    #[test]
    fn what_a_shell_would_take_for_more_than_a_word_is_quoted() {
        assert_eq!(quoted("docker/dtr:2.7.5"), "docker/dtr:2.7.5");
        assert_eq!(quoted("x; rm -rf /"), "'x; rm -rf /'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted("$(id)"), "'$(id)'");
        assert_eq!(quoted(""), "''");
        assert!(!quoted("a\nb\x1b[2J").contains(['\n', '\x1b']));
    }

    #[test]
    fn a_closed_pipe_is_told_from_a_full_disk() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::Error::from_raw_os_error(28))
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let (reader, mut writer) = std::io::pipe().unwrap();
        print_to(&mut writer, &[b"line", b"\n"]).unwrap();
        drop(reader);
        let closed = print_to(&mut writer, &[b"line"]).unwrap_err();
        assert_eq!((closed.kind(), closed.kind().exit_code()), (Kind::ClosedPipe, 0));
        let full = print_to(&mut Full, &[b"line"]).unwrap_err();
        assert_eq!(full.kind(), Kind::Failed, "{full}");
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
