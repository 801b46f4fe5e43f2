//! `serve`: what has a schedule is run when it is due, each run a process of its own.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use xxhash_rust::xxh64::xxh64;

use super::tell;
use crate::cli::Serve;
use crate::config::{self, Config, Entry};
use crate::error::{Error, Result};
use crate::host::name::host_name;
use crate::host::notify::Notify;
use crate::job::Outcome;
use crate::job::put_right::put_right;
use crate::job::schedule::{Act, Planner, Schedule};
use crate::page::board::Night;
use crate::report::run::{Run, RunState};
use crate::report::{Event, Reporter, counted, printable};
use crate::tell::Secret;

mod catch_up;
mod child;
mod page;
mod settings;
mod shutdown;

use catch_up::Question;
use child::{Ended, Line, Moved, Process};
use page::Shown;
use settings::SettingsFile;
use shutdown::Signals;

/// The longest sleep: the clock may be put forward meanwhile, or the settings changed.
const STEP: Duration = Duration::from_secs(2);
/// A run that begins so much later than its time is said to be late.
const LATE: SignedDuration = SignedDuration::from_mins(5);
/// What is told and not read yet.
const TOLD: usize = 256;

/// What those tell that the supervisor has begun.
#[derive(Debug)]
pub enum Told {
    /// A line of a run's stdout.
    Line(String, String),
    /// A run's process has ended.
    Ended(String, Ended),
}

/// Runs what is due until it is told to stop.
///
/// # Errors
/// There is no settings file.
pub async fn serve(options: Serve, config: Option<Config>, ui: &Reporter) -> Result<Outcome> {
    let config = config.ok_or_else(|| config::no_file("nothing is due"))?;
    let mut signals = Signals::new()?;
    put_right(ui).await;
    let mut supervisor = Supervisor::new(options, config, ui);
    supervisor.listen().await?;
    supervisor.begin();
    supervisor.run(&mut signals).await;
    supervisor.end(&mut signals).await
}

/// A run under way.
struct Running {
    run: Run,
    /// What it has moved so far.
    moved: Option<Moved>,
}

struct Supervisor {
    options: Serve,
    ui: Reporter,
    host: String,
    config: Arc<Config>,
    file: SettingsFile,
    entries: BTreeMap<String, Entry>,
    planner: Planner,
    processes: BTreeMap<String, Process>,
    running: BTreeMap<String, Running>,
    /// What is wrong in the settings file, so that older settings hold.
    broken: Option<String>,
    page: Shown,
    notify: Notify,
    /// What systemd was told last.
    status: String,
    tell: Sender<Told>,
    told: Receiver<Told>,
    /// Who is told of a run right now.
    telling: JoinSet<()>,
    started: Timestamp,
}

/// A job or a set, and when its newest run began.
type Asked = Pin<Box<dyn Future<Output = (String, Result<Option<Timestamp>>)>>>;

/// A job, and what its store shows of its nights.
type Nights = Pin<Box<dyn Future<Output = (String, Vec<Night>)>>>;

/// What has a schedule.
fn entries(config: &Config) -> BTreeMap<String, Entry> {
    let due = config.entries().into_iter().filter(|entry| entry.when.is_some());
    due.map(|entry| (entry.name.clone(), entry)).collect()
}

fn schedules(entries: &BTreeMap<String, Entry>) -> Vec<Schedule> {
    let schedule = |entry: &Entry| {
        let when = entry.when.clone()?;
        Some(Schedule { name: entry.name.clone(), when, jitter: entry.jitter })
    };
    entries.values().filter_map(schedule).collect()
}

impl Supervisor {
    fn new(options: Serve, config: Config, ui: &Reporter) -> Self {
        let (tell, told) = channel(TOLD);
        let (host, started) = (host_name().unwrap_or_default(), Timestamp::now());
        let entries = entries(&config);
        let seed = xxh64(host.as_bytes(), 0);
        let page = Shown::new(&host, &entries);
        let planner = Planner::new(schedules(&entries), options.parallel_runs.into(), seed, started);
        Supervisor {
            options,
            ui: ui.clone(),
            host,
            file: SettingsFile::new(&config),
            config: Arc::new(config),
            entries,
            planner,
            processes: BTreeMap::new(),
            running: BTreeMap::new(),
            broken: None,
            page,
            notify: Notify::of_environment(),
            status: String::new(),
            tell,
            told,
            telling: JoinSet::new(),
            started,
        }
    }

    /// Shows a page where one is asked for.
    async fn listen(&mut self) -> Result<()> {
        let Some(at) = &self.options.listen else { return Ok(()) };
        let token = match &self.options.token_file {
            Some(file) => Some(Secret::File(file.clone()).read().await?),
            None => None,
        };
        self.page.listen(at, token, &self.ui).await
    }

    /// Asks the stores for the nights before, where somebody may look at them.
    fn nights_before(&self) -> FuturesUnordered<Nights> {
        let seen = self.entries.values().filter(|_| self.page.is_seen()).cloned();
        seen.map(|entry| -> Nights {
            let config = Arc::clone(&self.config);
            Box::pin(async move {
                let nights = page::nights_of(&entry, &config).await;
                (entry.name, nights)
            })
        })
        .collect()
    }

    /// Says that it is there.
    fn begin(&mut self) {
        let count = self.entries.len();
        let path = self.config.path().display();
        match count {
            0 => self.ui.warn(&format!("nothing in {path} has a schedule: nothing will be run")),
            _ => self.ui.note(&format!("{} from {path}", counted(count as u64, "schedule"))),
        }
        self.show();
        self.notify.say("READY=1");
    }

    /// Asks the stores what ran last.
    fn questions(&self) -> FuturesUnordered<Asked> {
        let question = |entry: &Entry| -> Option<Asked> {
            let question = Question::of(entry, &self.config).transpose()?;
            let name = entry.name.clone();
            Some(Box::pin(async move {
                match question {
                    Ok(question) => (name, question.newest().await),
                    Err(error) => (name, Err(error)),
                }
            }))
        };
        self.entries.values().filter_map(question).collect()
    }

    /// Goes on until a signal says to stop.
    async fn run(&mut self, signals: &mut Signals) {
        let (mut alive, mut asked, mut before) = (Instant::now(), self.questions(), self.nights_before());
        loop {
            let acts = self.planner.tick(Timestamp::now());
            self.act(acts);
            self.show();
            if self.notify.watchdog().is_some_and(|often| alive.elapsed() * 2 >= often) {
                self.notify.say("WATCHDOG=1");
                alive = Instant::now();
            }
            tokio::select! {
                () = tokio::time::sleep(self.pause()) => {}
                Some(told) = self.told.recv() => self.take(told),
                Some((name, newest)) = asked.next(), if !asked.is_empty() => self.catch_up(&name, newest),
                Some((name, nights)) = before.next(), if !before.is_empty() => self.page.before(&name, nights),
                reload = signals.is_reload() => match reload {
                    true => self.reload("on SIGHUP"),
                    false => return,
                },
            }
            if self.file.has_changed() {
                self.reload("because it has changed");
            }
            if self.file.is_to_be_said_again() {
                let error = self.broken.clone().unwrap_or_default();
                self.alarm(&Error::usage(error).hint("`sealift config check`"));
            }
        }
    }

    /// How long nothing is due for sure.
    fn pause(&self) -> Duration {
        let until = self.planner.next().map(|next| Timestamp::now().duration_until(next));
        let until = until.and_then(|until| Duration::try_from(until).ok()).unwrap_or_default();
        let watchdog = self.notify.watchdog().map_or(STEP, |often| often / 2);
        let due = if self.planner.next().is_some() { until } else { STEP };
        due.min(STEP).min(watchdog).max(Duration::from_millis(1))
    }

    fn act(&mut self, acts: Vec<Act>) {
        for act in acts {
            match act {
                Act::Start { name, due } => self.start(&name, due),
                Act::Missed { name, from, to, why } => {
                    let time = |due: Timestamp| self.shown(&name, due);
                    let due = match from == to {
                        true => format!("at {}", time(from)),
                        false => format!("from {} to {}", time(from), time(to)),
                    };
                    self.ui.warn(&format!("{name} was due {due} and is not run: {why}"));
                    self.page.missed(&name, to, &why.to_string());
                }
            }
        }
    }

    /// A time as the settings mean it.
    fn shown(&self, name: &str, due: Timestamp) -> String {
        let zone = self.entries.get(name).and_then(|entry| entry.when.as_ref()).map(|when| when.zone.clone());
        match zone {
            Some(zone) => due.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S %Z").to_string(),
            None => due.to_string(),
        }
    }

    fn start(&mut self, name: &str, due: Timestamp) {
        let verb = self.entries.get(name).map_or("", Entry::verb);
        let run = Run::new(name, verb, &self.host);
        if due.duration_until(run.started) > LATE {
            self.ui.note(&format!("{name} was due at {} and is run now", self.shown(name, due)));
        }
        self.ui.emit(Event::Run(run.clone()));
        self.running.insert(name.into(), Running { run, moved: None });
        match Process::start(name, self.config.text(), self.tell.clone()) {
            Ok(process) => drop(self.processes.insert(name.into(), process)),
            Err(error) => {
                self.with_run(name, |run| run.error = Some(error.to_string()));
                self.close(name, 1);
            }
        }
    }

    fn with_run(&mut self, name: &str, change: impl FnOnce(&mut Run)) {
        if let Some(running) = self.running.get_mut(name) {
            change(&mut running.run);
        }
    }

    fn take(&mut self, told: Told) {
        match told {
            Told::Line(name, line) => self.line(&name, &line),
            Told::Ended(name, ended) => self.ended(&name, &ended),
        }
    }

    /// What was due before the start, and has no run to show, is run.
    fn catch_up(&mut self, name: &str, newest: Result<Option<Timestamp>>) {
        let newest = newest.unwrap_or_else(|error| {
            self.ui.warn(&format!("it is not known when {name} last ran, so it is run now: {error}"));
            None
        });
        // A run of a host whose clock was wrong stands for no night of ours.
        let ahead = newest.filter(|newest| Timestamp::now().duration_until(*newest) > LATE);
        if let Some(ahead) = ahead {
            self.ui.warn(&format!(
                "the newest run of {name} is dated {ahead}, ahead of the clock: it is run now"
            ));
        }
        let newest = newest.filter(|_| ahead.is_none());
        match newest {
            Some(newest) => self.ui.detail(&format!("the newest run of {name} began at {newest}")),
            None => self.ui.detail(&format!("no run of {name} is known")),
        }
        let acts = self.planner.catch_up(name, newest, self.started);
        self.act(acts);
    }

    /// Shows what a run says, under its name.
    fn line(&mut self, name: &str, line: &str) {
        let ui = self.ui.clone();
        match serde_json::from_str(line) {
            Ok(Line::Note { message }) => ui.note(&format!("{name}: {message}")),
            Ok(Line::Source { message }) => ui.source_line(&format!("{name}: {message}")),
            Ok(Line::Warning { message }) => {
                ui.warn(&format!("{name}: {message}"));
                self.with_run(name, |run| run.take(&Event::Warning { message }));
            }
            Ok(Line::Error { message, hint, code }) => {
                let shown = format!("{name}: {message}");
                ui.emit(Event::Error { message: shown, hint: hint.clone(), code });
                self.with_run(name, |run| {
                    if run.state == RunState::Started {
                        run.take(&Event::Error { message, hint, code });
                    }
                });
            }
            Ok(Line::Progress(moved)) => {
                if let Some(running) = self.running.get_mut(name) {
                    running.moved = Some(moved);
                }
            }
            Ok(Line::Sealed(sealed)) => {
                let event = Event::Sealed(*sealed);
                ui.note(&format!("{name}: {event}"));
                self.with_run(name, |run| run.take(&event));
            }
            Ok(Line::Run(told)) => self.with_run(name, |run| *run = *told),
            Ok(Line::Other) | Err(_) => ui.note(&format!("{name}: {}", printable(line))),
        }
    }

    fn ended(&mut self, name: &str, ended: &Ended) {
        self.processes.remove(name);
        let (code, why) = ended.code();
        let mut why = why;
        self.with_run(name, |run| {
            if run.state == RunState::Started && run.error.is_none() && code != 0 {
                let said = ended.said.join(" / ");
                let text = why.take().unwrap_or_else(|| "its process ended without a word".into());
                run.error =
                    Some(if said.is_empty() { text } else { format!("{text}: {}", printable(&said)) });
            }
        });
        self.close(name, code);
    }

    /// A run is over; where it did not tell so itself, that is told for it.
    fn close(&mut self, name: &str, code: u8) {
        self.planner.ended(name);
        let Some(Running { mut run, .. }) = self.running.remove(name) else { return };
        if run.state == RunState::Started {
            run.end(code);
            if let Some(error) = &run.error {
                self.ui.emit(Event::Error { message: format!("{name}: {error}"), hint: None, code });
            }
            self.tell_of(run.clone());
        }
        self.ui.emit(Event::Run(run.clone()));
        self.page.ran(&run);
    }

    /// Nothing here waits for it.
    fn tell_of(&mut self, run: Run) {
        let (config, ui) = (Arc::clone(&self.config), self.ui.clone());
        while self.telling.try_join_next().is_some() {}
        self.telling.spawn(async move { tell::ended(&run, &config, &ui).await });
    }

    fn reload(&mut self, why: &str) {
        self.notify.say(&format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic_micros()));
        let path = self.config.path().display().to_string();
        match self.file.read() {
            (Ok(config), was_broken) => {
                self.entries = entries(&config);
                self.config = Arc::new(config);
                let acts = self.planner.reload(schedules(&self.entries), Timestamp::now());
                self.act(acts);
                let again = if was_broken { ": it is right again" } else { "" };
                let count = counted(self.entries.len() as u64, "schedule");
                self.ui.note(&format!("{path} was read {why}{again}; {count}"));
                self.broken = None;
                self.page.expect(&self.entries);
                if was_broken {
                    let mut run = Run::new("settings", "reload", &self.host);
                    run.end(0);
                    self.tell_of(run);
                }
            }
            (Err(error), _) => {
                self.broken = Some(error.to_string());
                self.alarm(&error);
            }
        }
        self.notify.say("READY=1");
    }

    /// Something is wrong in the settings file: everybody is told who is told of a run that failed.
    fn alarm(&mut self, error: &Error) {
        let hint = error.hint_text().unwrap_or_default();
        self.ui.warn(&format!("the settings from before hold: {error} (hint: {hint})"));
        let mut run = Run::new("settings", "reload", &self.host);
        (run.error, run.hint) = (Some(error.to_string()), Some(hint.into()));
        run.end(error.kind().exit_code());
        self.tell_of(run);
    }

    /// Shows what runs and what comes next, and tells systemd.
    fn show(&mut self) {
        let upcoming = self.planner.upcoming();
        let next = upcoming.iter().filter_map(|(name, next)| Some(((*next)?, name))).min();
        let next = next.map(|(at, name)| format!("next: {name} at {}", self.shown(name, at)));
        let running: Vec<_> = self.processes.keys().map(String::as_str).collect();
        let running = (!running.is_empty()).then(|| format!("running: {}", running.join(", ")));
        let broken = self.broken.as_ref().map(|_| "SETTINGS BROKEN, older ones hold".to_string());
        let status = [broken, running, next].into_iter().flatten().collect::<Vec<_>>().join("; ");
        if status != self.status {
            self.notify.status(&status);
            self.status = status;
        }
        self.page.show(&self.entries, &self.running, &upcoming, self.broken.as_deref());
    }
}

/// The clock by which systemd knows that a reload began after it was asked for.
fn monotonic_micros() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1000
}
