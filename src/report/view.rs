//! How a run shows itself: bars on a terminal, lines in a log, JSON for programs.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::event::{Event, StoreBytes};
use super::{Observer, Tracking, printable};
use crate::stream::counters::Counters;

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

/// Shows events to whoever started the program.
#[derive(Debug, Clone)]
pub struct View {
    mode: Mode,
    verbose: bool,
    bar: Option<ProgressBar>,
    /// Where JSON goes: stdout, unless that is for data.
    stdout_is_data: bool,
}

impl View {
    /// A view in `mode`; `verbose` shows details too.
    pub fn new(mode: Mode, verbose: bool) -> Self {
        let bar =
            (mode == Mode::Human).then(|| ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()));
        View { mode, verbose, bar: bar.filter(|bar| !bar.is_hidden()), stdout_is_data: false }
    }

    /// The same, with stdout left to the data.
    pub fn leaving_stdout(self) -> Self {
        View { stdout_is_data: true, ..self }
    }

    fn line(&self, text: &str) {
        // A closed stderr is no reason to stop a backup.
        let write = || drop(writeln!(std::io::stderr(), "{text}"));
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    fn json(&self, event: &Event) {
        match self.stdout_is_data {
            true => self.line(&event.to_json()),
            false => drop(writeln!(std::io::stdout(), "{}", event.to_json())),
        }
    }

    fn progress(&self, verb: &str, counters: &Counters, elapsed: Duration) {
        match (&self.bar, self.mode) {
            (Some(bar), _) => {
                let style = ProgressStyle::with_template("{spinner} {msg}");
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
                bar.set_message(format!("{verb} {}", describe(counters, elapsed)));
                bar.tick();
            }
            (None, Mode::Json) => self.json(&progress_event(counters, elapsed)),
            (None, Mode::Human) => self.line(&format!("{verb} {}", describe(counters, elapsed))),
            (None, Mode::Quiet) => {}
        }
    }
}

impl Observer for View {
    fn is_verbose(&self) -> bool {
        self.verbose && self.mode != Mode::Quiet
    }

    fn event(&self, event: Event) {
        match (self.mode, &event) {
            (Mode::Json, Event::Error { .. }) => {
                self.json(&event);
                self.line(&event.to_string());
            }
            (Mode::Json, _) => self.json(&event),
            (Mode::Human, Event::Source { message }) => self.line(&format!("source: {}", printable(message))),
            (Mode::Human, _) | (Mode::Quiet, Event::Warning { .. } | Event::Error { .. }) => {
                self.line(&event.to_string());
            }
            (Mode::Quiet, _) => {}
        }
    }

    fn track(&self, verb: &'static str, counters: Arc<Counters>) -> Tracking {
        let view = self.clone();
        // An earlier guard has finished it.
        view.bar.iter().for_each(ProgressBar::reset);
        let task = tokio::spawn(async move {
            let began = Instant::now();
            let every = match (&view.bar, view.mode) {
                (Some(_), _) => Duration::from_millis(200),
                (None, Mode::Json) => Duration::from_secs(1),
                _ => Duration::from_secs(30),
            };
            let mut ticks = tokio::time::interval(every);
            ticks.tick().await;
            loop {
                ticks.tick().await;
                view.progress(verb, &counters, began.elapsed());
            }
        });
        let bar = self.bar.clone();
        Tracking::new(move || {
            task.abort();
            bar.iter().for_each(ProgressBar::finish_and_clear);
        })
    }
}

fn progress_event(counters: &Counters, elapsed: Duration) -> Event {
    let stores = counters.stores.iter();
    Event::Progress {
        seconds: elapsed.as_secs(),
        bytes: counters.source.get(),
        stored: counters.stored.get(),
        stores: stores.map(|(store, c)| StoreBytes { store: store.clone(), bytes: c.get() }).collect(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::counters::Counter;

    fn counters() -> Counters {
        let store = Arc::new(Counter::default());
        store.add(512);
        let counters = Counters { stores: vec![("s3://b".into(), store)], ..Counters::default() };
        counters.source.add(2048);
        counters.stored.add(1024);
        counters
    }

    #[test]
    fn progress_is_described_in_one_line() {
        let text = describe(&counters(), Duration::from_secs(2));
        assert_eq!(text, "2.00 KiB, 1.00 KiB/s · ratio 2.00 · 1.00 KiB stored · 2 seconds · s3://b 512 B");
    }

    #[test]
    fn progress_for_programs_names_every_store() {
        assert_eq!(
            progress_event(&counters(), Duration::from_secs(2)).to_json(),
            r#"{"bytes":2048,"event":"progress","seconds":2,"stored":1024,"stores":[{"bytes":512,"store":"s3://b"}]}"#
        );
    }

    #[test]
    fn a_quiet_view_is_never_verbose() {
        assert!(View::new(Mode::Human, true).is_verbose());
        assert!(View::new(Mode::Json, true).is_verbose());
        assert!(!View::new(Mode::Quiet, true).is_verbose());
    }
}
