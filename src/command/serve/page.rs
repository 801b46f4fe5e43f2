//! The page of `serve`: what the supervisor knows, as the page shows it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Running;
use crate::config::{Config, Entry};
use crate::error::Result;
use crate::job::list::{ListRequest, archives};
use crate::page::board::{Board, Ended, Night, Progress, Schedule};
use crate::page::{Listen, Page};
use crate::report::run::Run;
use crate::report::{Reporter, counted};
use crate::store::list::Listed;
use crate::tell::metrics::Metrics;

/// How many runs of one name are shown.
const NIGHTS: usize = 30;

/// What the page and `/metrics` show.
pub struct Shown {
    host: String,
    /// How long it takes at most from one run to the next, by name.
    intervals: BTreeMap<String, Duration>,
    sender: watch::Sender<Arc<Board>>,
    nights: BTreeMap<String, VecDeque<Night>>,
    metrics: Metrics,
    serving: Option<(JoinHandle<Result<()>>, CancellationToken)>,
}

impl Shown {
    /// Nothing yet, and nobody looks.
    pub fn new(host: &str, entries: &BTreeMap<String, Entry>) -> Self {
        let mut shown = Shown {
            host: host.into(),
            intervals: BTreeMap::new(),
            sender: watch::Sender::new(Arc::default()),
            nights: BTreeMap::new(),
            metrics: Metrics::default(),
            serving: None,
        };
        shown.expect(entries);
        shown
    }

    /// These are what has a schedule from now on.
    pub fn expect(&mut self, entries: &BTreeMap<String, Entry>) {
        let interval = |(name, entry): (&String, &Entry)| Some((name.clone(), entry.interval()?));
        self.intervals = entries.iter().filter_map(interval).collect();
    }

    /// Lets others look.
    ///
    /// # Errors
    /// As [`Page::bind`].
    pub async fn listen(&mut self, at: &Listen, token: Option<SecretString>, ui: &Reporter) -> Result<()> {
        let page = Page::bind(at, token).await?;
        match (page.address(), at) {
            (Some(address), _) => ui.note(&format!("the page is at http://{address}/")),
            (None, Listen::Unix(path)) => ui.note(&format!("the page is at {}", path.display())),
            (None, Listen::Tcp(_)) => {}
        }
        let cancel = CancellationToken::new();
        let serving = tokio::spawn(page.serve(self.sender.subscribe(), cancel.clone()));
        self.serving = Some((serving, cancel));
        Ok(())
    }

    /// Whether somebody may look.
    pub fn is_seen(&self) -> bool {
        self.serving.is_some()
    }

    /// A run has ended.
    pub fn ran(&mut self, run: &Run) {
        self.metrics.record(run);
        self.add(&run.name, Night::from(run));
    }

    /// A run was due, and there was none.
    pub fn missed(&mut self, name: &str, due: Timestamp, why: &str) {
        self.add(name, Night { at: due, ended: Ended::Missed, seconds: 0.0, bytes: 0, text: why.into() });
    }

    /// What the store shows of the time before this process.
    pub fn before(&mut self, name: &str, mut nights: Vec<Night>) {
        nights.extend(self.nights.remove(name).into_iter().flatten());
        nights.into_iter().for_each(|night| self.add(name, night));
    }

    fn add(&mut self, name: &str, night: Night) {
        let nights = self.nights.entry(name.into()).or_default();
        nights.push_back(night);
        if nights.len() > NIGHTS {
            nights.pop_front();
        }
    }

    /// Shows everything as it is now.
    pub fn show(
        &self,
        entries: &BTreeMap<String, Entry>,
        running: &BTreeMap<String, Running>,
        upcoming: &[(String, Option<Timestamp>)],
        broken: Option<&str>,
    ) {
        if !self.is_seen() {
            return;
        }
        let mut metrics = self.metrics.clone();
        let mut schedules = Vec::new();
        for (name, entry) in entries {
            let interval = self.intervals.get(name).copied();
            if let Some(interval) = interval {
                metrics.expect(entry.verb(), name, &self.host, interval);
            }
            let running = running.get(name).map(|running| Progress {
                since: running.run.started,
                bytes: running.moved.as_ref().map_or(0, |moved| moved.bytes),
                total: running.moved.as_ref().and_then(|moved| moved.total),
            });
            schedules.push(Schedule {
                name: name.clone(),
                verb: entry.verb().into(),
                next: upcoming.iter().find(|(known, _)| known == name).and_then(|(_, next)| *next),
                interval,
                nights: self.nights.get(name).into_iter().flatten().cloned().collect(),
                running,
            });
        }
        let alarms = broken.into_iter().map(|error| format!("older settings hold: {error}")).collect();
        let board = Board { host: self.host.clone(), schedules, alarms, metrics };
        self.sender.send_replace(Arc::new(board));
    }

    /// Nobody may look any more.
    pub async fn end(&mut self) {
        if let Some((serving, cancel)) = self.serving.take() {
            cancel.cancel();
            let _ = serving.await;
        }
    }
}

/// The nights of a job that its first store shows; none where it is no job, or the store does not answer.
pub async fn nights_of(entry: &Entry, config: &Config) -> Vec<Night> {
    let expected = config.expected_of(&entry.name).filter(|_| entry.kind == "job");
    let Some(Ok(job)) = expected else { return Vec::new() };
    let names = job.archives.into_iter().map(|archive| archive.job).take(1).collect();
    let Some(store) = job.stores.into_iter().next() else { return Vec::new() };
    let request = ListRequest { store, jobs: names, partial: false };
    let listed = archives(&request, &Reporter::silent()).await;
    let listed = listed.map(|listing| listing.items).unwrap_or_default();
    let newest = listed.len().saturating_sub(NIGHTS);
    listed[newest..].iter().filter_map(night).collect()
}

fn night(listed: &Listed) -> Option<Night> {
    let manifest = listed.manifest.as_ref().ok()?;
    let warnings = manifest.warnings;
    Some(Night {
        at: manifest.finished,
        ended: if warnings == 0 { Ended::Well } else { Ended::Warned },
        seconds: manifest.finished.duration_since(manifest.started).as_secs_f64().max(0.0),
        bytes: manifest.bytes,
        text: if warnings == 0 { String::new() } else { counted(warnings, "warning") },
    })
}
