//! What the stores show of the latest run of a job or a set: that is what `serve` remembers its last life by.

use std::time::Duration;

use jiff::Timestamp;

use crate::config::{Config, Entry};
use crate::error::{Context, Error, Result};
use crate::job::status::{Limits, StatusRequest, status};
use crate::report::Reporter;
use crate::store::StoreUrl;

/// How long the stores may take to answer: a run too many is better than a night without one.
const ASKED: Duration = Duration::from_secs(120);

/// What stores are asked.
#[derive(Debug)]
pub struct Question {
    /// The names under which archives lie; of a set none.
    jobs: Vec<String>,
    set: Option<String>,
    stores: Vec<StoreUrl>,
}

impl Question {
    /// What to ask of a job or a set; nothing of what leaves no trace in a store.
    ///
    /// # Errors
    /// The job could not be backed up as it stands in the settings.
    pub fn of(entry: &Entry, config: &Config) -> Result<Option<Question>> {
        let jobs = match (entry.kind, config.set(&entry.name)) {
            ("job", _) => vec![entry.name.clone()],
            ("set", Some(set)) => set.jobs.clone(),
            _ => return Ok(None),
        };
        let set = (entry.kind == "set").then(|| entry.name.clone());
        let mut question = Question { jobs: Vec::new(), set, stores: Vec::new() };
        for job in jobs.iter().filter_map(|name| config.expected_of(name)) {
            let job = job?;
            if question.set.is_none() {
                question.jobs.extend(job.archives.into_iter().map(|archive| archive.job));
            }
            let new = |store: &StoreUrl| question.stores.iter().all(|known| known.url != store.url);
            let stores: Vec<_> = job.stores.into_iter().filter(new).collect();
            question.stores.extend(stores);
        }
        Ok(Some(question))
    }

    /// When the newest run began that made something, or failed; nothing where there never was one.
    ///
    /// # Errors
    /// No store answers in time.
    pub async fn newest(self) -> Result<Option<Timestamp>> {
        let asked = async {
            match &self.set {
                Some(set) => self.newest_of_set(set).await,
                None => self.newest_of_job().await,
            }
        };
        tokio::time::timeout(ASKED, asked).await.context(|| format!("no answer within {ASKED:?}"))?
    }

    async fn newest_of_job(&self) -> Result<Option<Timestamp>> {
        let (stores, jobs) = (self.stores.clone(), self.jobs.clone());
        let (expected, limits) = (Vec::new(), Limits::default());
        let request = StatusRequest { stores, jobs, expected, limits, now: Timestamp::now() };
        let (mut newest, mut error, mut answered) = (None, None, false);
        for store in status(&request, &Reporter::silent()).await {
            answered |= store.error.is_none();
            error = error.or(store.error);
            let ids = store.jobs.iter().flat_map(|job| {
                [job.last.as_ref().map(|last| &last.id), job.failed.as_ref().map(|failed| &failed.id)]
            });
            newest = newest.max(ids.flatten().filter_map(|id| id.time()).max());
        }
        known(newest, error, answered)
    }

    async fn newest_of_set(&self, set: &str) -> Result<Option<Timestamp>> {
        let (mut newest, mut error, mut answered) = (None, None, false);
        for url in &self.stores {
            let ids = async {
                let store = url.open(&Reporter::silent())?;
                store.set_ids_since(set, &[], Timestamp::UNIX_EPOCH).await
            };
            match ids.await {
                Ok(ids) => {
                    answered = true;
                    newest = newest.max(ids.iter().filter_map(|id| id.time()).max());
                }
                Err(one) => error = error.or(Some(one)),
            }
        }
        known(newest, error, answered)
    }
}

/// A store that answers is enough: a run is noted at each.
fn known(newest: Option<Timestamp>, error: Option<Error>, answered: bool) -> Result<Option<Timestamp>> {
    match error {
        Some(error) if !answered => Err(error),
        _ => Ok(newest),
    }
}
