//! What people and programs see while it runs. The work only counts; this draws.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use crate::error::{Context, Error, Result};
use crate::stream::counters::Counters;

mod lines;

pub use lines::Lines;

/// How a run shows itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Bars on a terminal's stderr, a line every 30 s elsewhere.
    Human,
    /// Events as JSON lines on stdout.
    Json,
    /// Warnings and errors only.
    Quiet,
}

/// Where messages and progress go.
#[derive(Debug, Clone)]
pub struct Reporter {
    mode: Mode,
    verbose: bool,
    bar: Option<ProgressBar>,
    /// Where events go: stdout, unless that is for data.
    stdout_is_data: bool,
}

impl Reporter {
    /// A view in `mode`.
    pub fn new(mode: Mode, verbose: bool) -> Self {
        let bar =
            (mode == Mode::Human).then(|| ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()));
        Reporter { mode, verbose, bar: bar.filter(|bar| !bar.is_hidden()), stdout_is_data: false }
    }

    /// The same, with stdout left to the data.
    pub fn leaving_stdout(&self) -> Self {
        Reporter { stdout_is_data: true, ..self.clone() }
    }

    /// Whether details are wanted.
    pub fn verbose(&self) -> bool {
        self.verbose && self.mode != Mode::Quiet
    }

    fn line(&self, text: &str) {
        // A closed stderr is no reason to stop a backup.
        let write = || drop(writeln!(std::io::stderr(), "{text}"));
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    fn event(&self, value: serde_json::Value) {
        match self.stdout_is_data {
            true => self.line(&value.to_string()),
            false => drop(writeln!(std::io::stdout(), "{value}")),
        }
    }

    /// Something worth knowing.
    pub fn note(&self, text: &str) {
        match self.mode {
            Mode::Human => self.line(&format!("note: {text}")),
            Mode::Json => self.event(json!({"event": "note", "message": text})),
            Mode::Quiet => {}
        }
    }

    /// A detail, for `--verbose`.
    pub fn detail(&self, text: &str) {
        if self.verbose() {
            self.note(text);
        }
    }

    /// Something that needs a look.
    pub fn warn(&self, text: &str) {
        match self.mode {
            Mode::Json => self.event(json!({"event": "warning", "message": text})),
            _ => self.line(&format!("warning: {text}")),
        }
    }

    /// A line that the source's own process wrote to its stderr.
    pub fn source_line(&self, text: &str) {
        match self.mode {
            Mode::Human => self.line(&format!("source: {}", printable(text))),
            Mode::Json => self.event(json!({"event": "source", "message": text})),
            Mode::Quiet => {}
        }
    }

    /// The failure that ends the run, cause first, then what to do.
    pub fn error(&self, error: &Error) {
        if self.mode == Mode::Json {
            let (message, hint) = (error.to_string(), error.hint_text());
            let code = error.kind().exit_code();
            self.event(json!({"event": "error", "message": message, "hint": hint, "code": code}));
        }
        self.line(&format!("error: {error}"));
        if let Some(hint) = error.hint_text() {
            self.line(&format!("hint: {hint}"));
        }
    }

    /// The result of a run: a text for people, the same as an event for programs.
    pub fn summary(&self, text: &str, event: serde_json::Value) {
        match self.mode {
            Mode::Human => self.line(text),
            Mode::Json => self.event(event),
            Mode::Quiet => {}
        }
    }

    /// Shows progress until the returned guard is dropped.
    pub fn track(&self, verb: &'static str, counters: Arc<Counters>) -> Tracking {
        let ui = self.clone();
        // An earlier guard has finished it.
        ui.bar.iter().for_each(ProgressBar::reset);
        let task = tokio::spawn(async move {
            let began = Instant::now();
            let every = match (&ui.bar, ui.mode) {
                (Some(_), _) => Duration::from_millis(200),
                (None, Mode::Json) => Duration::from_secs(1),
                _ => Duration::from_secs(30),
            };
            let mut ticks = tokio::time::interval(every);
            ticks.tick().await;
            loop {
                ticks.tick().await;
                ui.progress(verb, &counters, began.elapsed());
            }
        });
        Tracking { task, bar: self.bar.clone() }
    }

    fn progress(&self, verb: &str, counters: &Counters, elapsed: Duration) {
        let text = format!("{verb} {}", describe(counters, elapsed));
        match (&self.bar, self.mode) {
            (Some(bar), _) => {
                bar.set_style(ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
                bar.set_message(text);
                bar.tick();
            }
            (None, Mode::Json) => self.event(json!({
                "event": "progress", "seconds": elapsed.as_secs(), "bytes": counters.source.get(),
                "stored": counters.stored.get(),
                "stores": counters.stores.iter().map(|(name, c)| json!({"store": name, "bytes": c.get()})).collect::<Vec<_>>(),
            })),
            (None, Mode::Human) => self.line(&text),
            (None, Mode::Quiet) => {}
        }
    }
}

/// `1.2 GiB in, 402 MiB/s · ratio 2.1 · 600 MiB stored · 3 s · s3://b 580 MiB`
fn describe(counters: &Counters, elapsed: Duration) -> String {
    let (source, stored) = (counters.source.get(), counters.stored.get());
    let rate = source as f64 / elapsed.as_secs_f64().max(0.001);
    let ratio = source as f64 / stored.max(1) as f64;
    let mut text = format!(
        "{}, {}/s · ratio {ratio:.2} · {} stored · {}",
        HumanBytes(source),
        HumanBytes(rate as u64),
        HumanBytes(stored),
        HumanDuration(elapsed),
    );
    for (name, counter) in &counters.stores {
        text += &format!(" · {name} {}", HumanBytes(counter.get()));
    }
    text
}

/// Prints a result on stdout.
///
/// # Errors
/// Nobody reads it.
pub fn print(line: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{line}").context(|| "cannot write to stdout".into())
}

/// Bytes in gibi-, mebi- or kibibytes.
pub fn human_bytes(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

/// Text with its control characters escaped, so that nobody else's bytes steer a terminal.
pub fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// Progress is shown while this lives.
#[derive(Debug)]
pub struct Tracking {
    task: tokio::task::JoinHandle<()>,
    bar: Option<ProgressBar>,
}

impl Drop for Tracking {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
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
}
