//! How a run shows itself: bars on a terminal, lines in a log, JSON for programs.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::drawing::Drawing;
use super::event::{Event, StoreBytes};
use super::progress::{Moment, Rate, Retry};
use super::{Observer, Tracking, printable};
use crate::stream::counters::{Counters, Total};

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
    /// Whether bars are drawn.
    is_drawn: bool,
    /// What is drawn now.
    shown: Arc<Mutex<Shown>>,
    /// Where JSON goes: stdout, unless that is for data.
    stdout_is_data: bool,
}

/// What a terminal shows of the run.
#[derive(Debug, Default)]
struct Shown {
    drawing: Drawing,
    /// Whether somebody counts.
    is_tracked: bool,
    /// The stores that are being tried again.
    retries: Vec<Retry>,
}

/// Characters at the end of a line that are left free: a terminal writes `^C` there.
const MARGIN: usize = 3;

impl View {
    /// A view in `mode`; `verbose` shows details too.
    pub fn new(mode: Mode, verbose: bool) -> Self {
        let can_draw = || std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
        let is_drawn = mode == Mode::Human && std::io::stderr().is_terminal() && can_draw();
        View { mode, verbose, is_drawn, shown: Arc::default(), stdout_is_data: false }
    }

    /// The same, with stdout left to the data.
    pub fn leaving_stdout(self) -> Self {
        View { stdout_is_data: true, ..self }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Shown) -> T) -> T {
        work(&mut self.shown.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn line(&self, text: &str) {
        self.with(|shown| shown.drawing.line(text, &mut std::io::stderr()));
    }

    fn json(&self, event: &Event) {
        match self.stdout_is_data {
            true => self.line(&event.to_json()),
            false => drop(writeln!(std::io::stdout(), "{}", event.to_json())),
        }
    }

    fn progress(&self, verb: &str, counters: &Counters, elapsed: Duration, rate: &mut Rate) {
        let rate = rate.at(elapsed, counters.done());
        let moment = Moment { verb, counters, elapsed, rate, retries: &[] };
        match self.mode {
            Mode::Human if self.is_drawn => self.with(|shown| {
                shown.retries.retain(|retry| !retry.is_over());
                let moment = Moment { retries: &shown.retries, ..moment };
                if !moment.is_empty() && shown.is_tracked {
                    let width = super::width_of(std::io::stderr()).unwrap_or(80).saturating_sub(MARGIN);
                    let lines = moment.lines(width);
                    shown.drawing.draw(lines, &mut std::io::stderr());
                }
            }),
            Mode::Human => self.line(&moment.log_line()),
            Mode::Json => self.json(&progress_event(verb, counters, elapsed)),
            Mode::Quiet => {}
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

    fn retrying(&self, store: &str, elapsed: Duration, limit: Duration, why: &str) -> bool {
        if !self.is_drawn {
            return false;
        }
        let now = Instant::now();
        let since = now.checked_sub(elapsed).unwrap_or(now);
        self.with(|shown| {
            let retry = Retry { store: store.into(), since, limit, why: why.into(), told: now };
            match shown.retries.iter_mut().find(|known| known.store == store) {
                // The one that was tried longest.
                Some(known) => *known = Retry { since: known.since.min(since), ..retry },
                None => shown.retries.push(retry),
            }
            shown.is_tracked
        })
    }

    fn answered(&self, store: &str) {
        if self.is_drawn {
            self.with(|shown| shown.retries.retain(|retry| retry.store != store));
        }
    }

    fn clear(&self) {
        self.with(|shown| {
            shown.is_tracked = false;
            shown.drawing.clear(&mut std::io::stderr());
        });
    }

    fn track(&self, verb: &'static str, counters: Arc<Counters>) -> Tracking {
        let view = self.clone();
        view.with(|shown| shown.is_tracked = true);
        let task = tokio::spawn(async move {
            let began = Instant::now();
            let every = match (view.is_drawn, view.mode) {
                (true, _) => Duration::from_millis(200),
                (false, Mode::Json) => Duration::from_secs(1),
                _ => Duration::from_secs(30),
            };
            let (mut ticks, mut rate) = (tokio::time::interval(every), Rate::default());
            ticks.tick().await;
            loop {
                ticks.tick().await;
                view.progress(verb, &counters, began.elapsed(), &mut rate);
            }
        });
        let view = self.clone();
        Tracking::new(move || {
            task.abort();
            view.clear();
        })
    }
}

fn progress_event(verb: &str, counters: &Counters, elapsed: Duration) -> Event {
    let stores = counters.stores.iter();
    Event::Progress {
        job: counters.job.clone(),
        verb: verb.into(),
        seconds: elapsed.as_secs(),
        bytes: counters.source.get(),
        stored: counters.stored.get(),
        total: counters.total().map(Total::bytes),
        stores: stores.map(|(store, c)| StoreBytes { store: store.clone(), bytes: c.get() }).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::counters::Counter;

    fn counters() -> Counters {
        let store = Arc::new(Counter::default());
        store.add(512);
        let counters = Counters::default().with_stores(vec![("s3://b".into(), store)]);
        counters.source.add(2048);
        counters.stored.add(1024);
        counters
    }

    #[test]
    fn progress_for_programs_names_every_store() {
        assert_eq!(
            progress_event("read", &counters(), Duration::from_secs(2)).to_json(),
            r#"{"bytes":2048,"event":"progress","job":"","seconds":2,"stored":1024,"stores":[{"bytes":512,"store":"s3://b"}],"total":null,"verb":"read"}"#
        );
    }

    #[test]
    fn a_quiet_view_is_never_verbose() {
        assert!(View::new(Mode::Human, true).is_verbose());
        assert!(View::new(Mode::Json, true).is_verbose());
        assert!(!View::new(Mode::Quiet, true).is_verbose());
    }
}
