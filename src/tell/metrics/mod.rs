//! Metrics of runs, as Prometheus reads them: for `/metrics`, and for the text file of a node exporter.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::report::run::{Run, RunState};

mod line;
pub mod textfile;

use line::Line;

/// What every family's name begins with.
const PREFIX: &str = "sealift_";

/// How often a run is expected.
pub const INTERVAL: &str = "sealift_schedule_expected_interval_seconds";

/// What wrote them.
pub const BUILD: &str = "sealift_build_info";

/// What is said of the runs of each verb: the end of the name, and its meaning.
pub const OF_RUNS: [(&str, &str); 7] = [
    ("last_run_timestamp_seconds", "When the last run ended, Unix time."),
    ("last_status", "How the last run ended: 1 it succeeded, maybe with warnings, 0 it failed."),
    ("last_success_timestamp_seconds", "When the last run that succeeded ended, Unix time."),
    ("duration_seconds", "How long the last run took."),
    ("warnings", "Warnings of the last run."),
    ("size_bytes", "Bytes of source in the archives of the last run that succeeded."),
    ("added_bytes", "Bytes stored by the last run that succeeded."),
];

/// A series' labels, in the order in which they are written.
type Labels = Vec<(String, String)>;

/// The value of every series, by family and labels.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metrics(BTreeMap<String, BTreeMap<Labels, f64>>);

/// The metrics of runs that ended, oldest first.
pub fn exposition<'a>(runs: impl IntoIterator<Item = &'a Run>) -> Metrics {
    let mut metrics = Metrics::default();
    runs.into_iter().for_each(|run| metrics.record(run));
    metrics
}

impl Metrics {
    /// What HTTP calls their format.
    pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

    /// Reads what was written.
    ///
    /// # Errors
    /// A line is no metric of ours: somebody else's file.
    pub fn read(text: &str) -> Result<Metrics> {
        let mut metrics = Metrics::default();
        for (i, text) in text.lines().enumerate() {
            let line =
                Line::read(text).filter(|line| line.family().is_none_or(|name| name.starts_with(PREFIX)));
            match line {
                None => return Err(Error::failed(format!("line {} is no metric of sealift", i + 1))),
                Some(Line::Sample(name, labels, value)) => metrics.set(&name, labels, value),
                Some(Line::Empty | Line::Comment(_)) => {}
            }
        }
        Ok(metrics)
    }

    fn set(&mut self, family: &str, labels: Labels, value: f64) {
        self.0.entry(family.into()).or_default().insert(labels, value);
    }

    /// Takes in a run that ended, in place of the one of its verb, job and host that was there.
    pub fn record(&mut self, run: &Run) {
        let Some(ended) = run.ended else { return };
        let ended = ended.as_millisecond() as f64 / 1000.0;
        let of_run = labels(&[("job", &run.name), ("host", &run.host)]);
        let is_good = matches!(run.state, RunState::Succeeded | RunState::Warned);
        let name = |end: &str| format!("{PREFIX}{}_{end}", verb(&run.verb));
        self.set(BUILD, labels(&[("host", &run.host), ("version", env!("CARGO_PKG_VERSION"))]), 1.0);
        self.set(&name("last_run_timestamp_seconds"), of_run.clone(), ended);
        self.set(&name("last_status"), of_run.clone(), f64::from(u8::from(is_good)));
        // The clock may have been set back.
        self.set(&name("duration_seconds"), of_run.clone(), run.seconds().max(0.0));
        self.set(&name("warnings"), of_run.clone(), run.warnings.len() as f64);
        let success = name("last_success_timestamp_seconds");
        if is_good {
            self.succeeded(run, &of_run, ended);
        } else if let Some(series) = self.0.get_mut(&success) {
            // A time to come, from before the clock was set back, would keep an alarm waiting for it.
            let ours = series.iter_mut().filter(|(labels, _)| labels.starts_with(&of_run));
            ours.for_each(|(_, at)| *at = at.min(ended));
        }
    }

    /// A run has succeeded in the stores that have all of its archives. Of others it is still known when it last did;
    /// those that it has nothing to do with any more are forgotten.
    fn succeeded(&mut self, run: &Run, of_run: &Labels, ended: f64) {
        let name = |end: &str| format!("{PREFIX}{}_{end}", verb(&run.verb));
        let failed: BTreeSet<&str> = run
            .archives
            .iter()
            .flat_map(|sealed| &sealed.failed)
            .map(|failed| failed.store.as_str())
            .collect();
        let stores: BTreeSet<&str> =
            run.archives.iter().flat_map(|sealed| &sealed.stores).map(String::as_str).collect();
        let of_store = |store: &str| [&of_run[..], &labels(&[("store", store)])].concat();
        for end in ["last_success_timestamp_seconds", "size_bytes", "added_bytes"] {
            let known: BTreeSet<_> = stores.union(&failed).map(|store| of_store(store)).collect();
            if let Some(series) = self.0.get_mut(&name(end)) {
                series.retain(|labels, _| !labels.starts_with(of_run) || known.contains(labels));
            }
        }
        if run.archives.is_empty() {
            self.set(&name("last_success_timestamp_seconds"), of_run.clone(), ended);
        }
        for store in stores.difference(&failed) {
            let there =
                || run.archives.iter().filter(|sealed| sealed.stores.iter().any(|name| name == store));
            self.set(&name("last_success_timestamp_seconds"), of_store(store), ended);
            self.set(
                &name("size_bytes"),
                of_store(store),
                there().map(|sealed| sealed.bytes).sum::<u64>() as f64,
            );
            self.set(
                &name("added_bytes"),
                of_store(store),
                there().map(|sealed| sealed.stored).sum::<u64>() as f64,
            );
        }
    }

    /// Says how often a verb of a job is expected.
    pub fn expect(&mut self, verb: &str, job: &str, host: &str, interval: Duration) {
        self.set(INTERVAL, labels(&[("job", job), ("host", host), ("verb", verb)]), interval.as_secs_f64());
    }
}

/// As Prometheus takes them: families with their meaning and type, each series on a line.
impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (family, series) in self.0.iter().filter(|(_, series)| !series.is_empty()) {
            if let Some(meaning) = meaning(family) {
                writeln!(f, "# HELP {family} {meaning}\n# TYPE {family} gauge")?;
            }
            series.iter().try_for_each(|(labels, value)| line::sample(f, family, labels, *value))?;
        }
        Ok(())
    }
}

/// What a family says; nothing of those that another version wrote.
fn meaning(family: &str) -> Option<&'static str> {
    match family {
        BUILD => Some("The version of sealift that wrote these."),
        INTERVAL => Some("How often a run is expected at least."),
        _ => {
            OF_RUNS.iter().find(|(end, _)| family.ends_with(&format!("_{end}"))).map(|(_, meaning)| *meaning)
        }
    }
}

/// A verb as a part of a family's name.
fn verb(verb: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    verb.chars().map(plain).collect()
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

#[cfg(test)]
mod tests;
