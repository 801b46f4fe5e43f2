//! Telling others of a run: pings, webhooks and mail, and metrics in a file. Whoever cannot be told is a warning: no backup
//! waits for that for long, or fails by it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::report::run::{Run, RunState};

mod http;
mod mail;
pub mod metrics;
mod patience;
mod ping;
mod secret;
#[cfg(test)]
mod servers;
mod template;
mod text;
mod webhook;

pub use http::Address;
pub use mail::{Mail, Server};
use metrics::textfile::Textfile;
use patience::{Failed, Patience};
pub use ping::{Ping, Style, WarnedAs};
pub use secret::Secret;
pub use template::Template;
pub use webhook::{Webhook, headers};

/// What somebody may want to be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// A run begins.
    Start,
    /// It succeeded.
    Success,
    /// It ended with warnings.
    Warning,
    /// It failed.
    Failure,
    /// Nothing happened: somebody tries out whether they are told.
    Test,
}

impl Occasion {
    /// Those of a run, as the settings name them.
    pub const OF_RUNS: [(&'static str, Occasion); 4] = [
        ("start", Occasion::Start),
        ("success", Occasion::Success),
        ("warning", Occasion::Warning),
        ("failure", Occasion::Failure),
    ];

    fn of(state: RunState) -> Self {
        match state {
            RunState::Started => Occasion::Start,
            RunState::Succeeded => Occasion::Success,
            RunState::Warned => Occasion::Warning,
            RunState::Failed => Occasion::Failure,
        }
    }
}

/// What is told: a run, and why now.
#[derive(Debug, Clone, Copy)]
struct Message<'a> {
    run: &'a Run,
    occasion: Occasion,
}

/// Somebody who is told.
#[derive(Debug)]
pub struct Target {
    /// `ping.NAME`, `webhook.NAME`, `mail.NAME`.
    pub name: String,
    /// The jobs and sets whose runs are told; all, where none is named.
    pub jobs: Vec<String>,
    /// What is told of them.
    pub on: Vec<Occasion>,
    /// How.
    pub way: Way,
}

/// How somebody is told.
#[derive(Debug)]
pub enum Way {
    /// A monitor that misses what does not come.
    Ping(Ping),
    /// An HTTP request with a body that can be chosen.
    Webhook(Webhook),
    /// A letter.
    Mail(Mail),
}

impl Target {
    fn wants(&self, message: &Message<'_>) -> bool {
        let is_of_ours = self.jobs.is_empty() || self.jobs.contains(&message.run.name);
        is_of_ours && self.on.contains(&message.occasion)
    }

    /// Tells it, again and again while that can help; why it was not told.
    async fn tell(&self, message: &Message<'_>, patience: &Patience) -> Option<String> {
        let once = || async {
            match &self.way {
                Way::Ping(ping) => ping.send(message).await,
                Way::Webhook(webhook) => webhook.send(message).await,
                Way::Mail(mail) => mail.send(message).await,
            }
        };
        let error = patience.tried(once).await.err()?;
        let hint = error.hint_text().map(|hint| format!("; {hint}")).unwrap_or_default();
        Some(format!("{} was not told: {error}{hint}", self.name))
    }
}

/// Everybody who is told, as the settings say.
#[derive(Debug, Default)]
pub struct Tell {
    targets: Vec<Target>,
    metrics: Option<Textfile>,
    /// How often a verb of a job is expected, by verb and name.
    expected: BTreeMap<(String, String), Duration>,
    patience: Patience,
}

impl Tell {
    /// Tells these.
    pub fn new(targets: Vec<Target>, metrics: Option<Textfile>) -> Self {
        Tell { targets, metrics, ..Tell::default() }
    }

    /// A run of `verb` of this job or set is expected once in `interval`: alerts are made from that.
    pub fn expect(&mut self, verb: &str, name: &str, interval: Duration) {
        self.expected.insert((verb.into(), name.into()), interval);
    }

    /// Whether there is nobody to tell.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.metrics.is_none()
    }

    /// Tells of a run that begins; what could not be told is returned, for warnings. A backup does not wait for it: see
    /// [`Telling`].
    pub async fn started(&self, run: &Run) -> Vec<String> {
        self.tell(&Message { run, occasion: Occasion::Start }).await
    }

    /// Tells how a run ended, everybody at once, and writes the metrics. What could not be told is returned, for warnings.
    /// It takes a minute at most.
    pub async fn ended(&self, run: &Run) -> Vec<String> {
        let message = Message { run, occasion: Occasion::of(run.state) };
        let (told, written) = tokio::join!(self.tell(&message), self.write_metrics(run));
        told.into_iter().chain(written).collect()
    }

    /// Sends a message by hand to everybody, or to those who are named (`mail.ops`): each, and why it was not told.
    pub async fn test(&self, host: &str, names: &[String]) -> Vec<(&str, Option<String>)> {
        let run = Run::new("test", "test", host);
        let message = Message { run: &run, occasion: Occasion::Test };
        let chosen = self.targets.iter().filter(|target| names.is_empty() || names.contains(&target.name));
        let tests =
            chosen.map(async |target| (target.name.as_str(), target.tell(&message, &self.patience).await));
        join_all(tests).await
    }

    /// What those who are told are called.
    pub fn names(&self) -> Vec<&str> {
        self.targets.iter().map(|target| target.name.as_str()).collect()
    }

    async fn tell(&self, message: &Message<'_>) -> Vec<String> {
        let targets = self.targets.iter().filter(|target| target.wants(message));
        join_all(targets.map(|target| target.tell(message, &self.patience)))
            .await
            .into_iter()
            .flatten()
            .collect()
    }

    async fn write_metrics(&self, run: &Run) -> Option<String> {
        let file = self.metrics.clone()?;
        let (run, expected) = (run.clone(), self.expected.clone());
        // A folder that hangs must not hold up the run.
        let written = tokio::task::spawn_blocking(move || {
            file.update(|metrics| {
                metrics.record(&run);
                let of_this = expected.iter().filter(|((_, name), _)| *name == run.name);
                of_this.for_each(|((verb, name), interval)| metrics.expect(verb, name, &run.host, *interval));
            })
        });
        let error = match timeout(self.patience.each, written).await {
            Ok(Ok(written)) => written.err()?.to_string(),
            Ok(Err(panic)) => panic.to_string(),
            Err(_) => format!("nothing for {} s", self.patience.each.as_secs()),
        };
        Some(format!("the metrics were not written: {error}"))
    }
}

/// A run whose begin is being told while it already works.
#[derive(Debug)]
pub struct Telling {
    tell: Arc<Tell>,
    start: JoinHandle<Vec<String>>,
}

impl Telling {
    /// Begins to tell of a run, and returns at once.
    pub fn of(tell: &Arc<Tell>, run: &Run) -> Telling {
        let (of_task, run) = (Arc::clone(tell), run.clone());
        let start = tokio::spawn(async move { of_task.started(&run).await });
        Telling { tell: Arc::clone(tell), start }
    }

    /// Tells how the run ended, as [`Tell::ended`]; first its begin, so that no monitor hears of both in the wrong order and
    /// waits for an end that was told already.
    pub async fn end(mut self, run: &Run) -> Vec<String> {
        let told = match timeout(self.tell.patience.each, &mut self.start).await {
            Ok(told) => told.unwrap_or_default(),
            Err(_) => {
                self.start.abort();
                Vec::new()
            }
        };
        told.into_iter().chain(self.tell.ended(run).await).collect()
    }
}

#[cfg(test)]
mod tests;
