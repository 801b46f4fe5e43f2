//! `status`: whether every job has an archive that is new, whole and verified.
//!
//! It needs no passphrase, and a key that may list and read manifests. Of each job one list of names and the newest few
//! manifests are read, however many archives there are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;

use crate::archive::Id;
use crate::error::{Error, Kind, Result};
use crate::report::Reporter;
use crate::store::failed::Failure;
use crate::store::jobs::JobFolder;
use crate::store::manifest::Manifest;
use crate::store::record::VerificationKey;
use crate::store::record::drill::DrillKey;
use crate::store::{Store, StoreUrl};

mod drills;
mod judge;

pub use judge::{Problem, State};

/// Jobs whose manifests are read at once; each reads [`NEWEST`] at once.
const PARALLEL: usize = 4;
/// Manifests that are read of a job: its newest, and those it is compared with.
const NEWEST: usize = 8;

/// What is wanted to be known.
#[derive(Debug, Clone)]
pub struct StatusRequest {
    /// The stores.
    pub stores: Vec<StoreUrl>,
    /// These jobs only; all where none is named.
    pub jobs: Vec<String>,
    /// The jobs that there should be.
    pub expected: Vec<Expected>,
    /// What holds for jobs that nothing is known of.
    pub limits: Limits,
    /// When it is asked.
    pub now: Timestamp,
}

/// A job that there should be.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// Its name, under which its archives lie.
    pub job: String,
    /// The URLs of the stores that it goes to.
    pub stores: Vec<String>,
    /// From when on it is a problem.
    pub limits: Limits,
    /// How its archives are kept, as the settings say it.
    pub keep: Option<String>,
    /// Whether it may be that there is none of it, and nothing is wrong.
    pub optional: bool,
}

/// From when on a job is a problem.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// The greatest age of its newest archive.
    pub max_age: Option<Duration>,
    /// The greatest time since it was verified.
    pub verified_within: Option<Duration>,
    /// The greatest time since a drill of it passed.
    pub drilled_within: Option<Duration>,
    /// How much smaller than usual its newest archive may be: 0 to 1.
    pub shrink: Option<f64>,
}

impl Limits {
    /// These, and where one is missing, the `other`'s.
    pub fn or(self, other: Limits) -> Limits {
        Limits {
            max_age: self.max_age.or(other.max_age),
            verified_within: self.verified_within.or(other.verified_within),
            drilled_within: self.drilled_within.or(other.drilled_within),
            shrink: self.shrink.or(other.shrink),
        }
    }
}

/// What was found at a store.
#[derive(Debug)]
pub struct StoreStatus {
    /// Its name.
    pub store: String,
    /// Its jobs, by name.
    pub jobs: Vec<JobStatus>,
    /// Folders that could not be read; archives may lie there.
    pub unreadable: Vec<String>,
    /// Why nothing is known of it.
    pub error: Option<Error>,
}

/// What was found of a job at a store.
#[derive(Debug, Clone, PartialEq)]
pub struct JobStatus {
    /// The job.
    pub job: String,
    /// Whether it is one that there should be.
    pub expected: bool,
    /// How its archives are kept, as the settings say it.
    pub keep: Option<String>,
    /// How many archives there are.
    pub archives: usize,
    /// The newest archive that is whole.
    pub last: Option<Success>,
    /// How much larger it is than the median of those before it; 0.5 is half as large again.
    pub trend: Option<f64>,
    /// The latest verification of any of its archives.
    pub verified: Option<Verified>,
    /// The latest drill of any of its archives.
    pub drilled: Option<Drilled>,
    /// The usual time from one archive to the next.
    pub interval: Option<Duration>,
    /// When the next archive is due, by that.
    pub next: Option<Timestamp>,
    /// The latest run, where it failed.
    pub failed: Option<FailedRun>,
    /// What is wrong, the worst first.
    pub problems: Vec<Problem>,
}

/// An archive that was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Success {
    /// Its id.
    pub id: Id,
    /// When it was complete.
    pub at: Timestamp,
    /// Its age.
    pub age: Duration,
    /// Bytes that are restored from it.
    pub bytes: u64,
    /// Bytes that it takes in the store.
    pub stored: u64,
}

/// A verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The archive.
    pub archive: Id,
    /// How deep, and how much.
    pub mark: VerificationKey,
    /// When.
    pub at: Timestamp,
}

/// A drill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drilled {
    /// The archive.
    pub archive: Id,
    /// How it ended, and how it was tried.
    pub key: DrillKey,
    /// When.
    pub at: Timestamp,
}

/// A run that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedRun {
    /// Its id.
    pub id: Id,
    /// When.
    pub at: Timestamp,
    /// Its exit code.
    pub code: Option<u8>,
    /// Why.
    pub cause: String,
}

/// What is known of a job, before it is judged.
#[derive(Debug, Default)]
struct Known {
    folder: JobFolder,
    /// The newest manifests, the newest first.
    manifests: Vec<(Id, Result<Manifest>)>,
    /// The latest run that failed.
    failed: Option<(Id, Result<Option<Failure>>)>,
}

/// Looks at every store. One that does not answer says nothing of the others.
pub async fn status(request: &StatusRequest, ui: &Reporter) -> Vec<StoreStatus> {
    let looked = request.stores.iter().map(|url| async move {
        let (mut store, mut unreadable) = (url.url.clone(), Vec::new());
        let looked = async {
            let opened = url.open(ui)?;
            store.clone_from(&opened.name);
            let jobs = jobs_of(&opened, &url.url, request).await;
            unreadable = opened.unreadable();
            jobs
        };
        let (jobs, error) = match looked.await {
            Ok(jobs) => (jobs, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        StoreStatus { store, jobs, unreadable, error }
    });
    // One store after the other: what is read at once is bounded by one store's jobs.
    futures_util::stream::iter(looked).buffered(1).collect().await
}

async fn jobs_of(store: &Store, url: &str, request: &StatusRequest) -> Result<Vec<JobStatus>> {
    let mut folders = store.job_folders(&request.jobs).await?;
    // A folder of sets, or with what failed runs left, is no job's.
    folders.retain(|_, folder| !folder.archives().is_empty() || !folder.failed().is_empty());
    let here = request.expected.iter().filter(|expected| goes_to(expected, url));
    let here = here.filter(|expected| request.jobs.is_empty() || request.jobs.contains(&expected.job));
    let expected: BTreeMap<&str, &Expected> =
        here.map(|expected| (expected.job.as_str(), expected)).collect();
    let mut names: BTreeSet<&str> = folders.keys().map(String::as_str).collect();
    names.extend(expected.values().filter(|job| !job.optional).map(|job| job.job.as_str()));
    // What was asked for by name and is nowhere is told, and not left out.
    let elsewhere = |job: &&String| {
        let known = request.expected.iter().filter(|expected| expected.job == **job);
        known.into_iter().any(|expected| request.stores.iter().any(|store| goes_to(expected, &store.url)))
    };
    names.extend(request.jobs.iter().filter(|job| !elsewhere(job)).map(String::as_str));
    let names: Vec<_> = names.into_iter().map(String::from).collect();
    let known = futures_util::stream::iter(names).map(|job| {
        let folder = folders.remove(&job).unwrap_or_default();
        async move { read(store, &job, folder).await.map(|known| (job, known)) }
    });
    let judged = known.buffered(PARALLEL).map_ok(|(job, known)| {
        let settings = expected.get(job.as_str()).map(|expected| Expected::clone(expected));
        let unknown = || Expected { job: job.clone(), limits: request.limits, ..Expected::default() };
        let (is_expected, settings) = (settings.is_some(), settings.unwrap_or_else(unknown));
        judge::judge(&known, &settings, is_expected, request.now)
    });
    judged.try_collect().await
}

/// Whether a job is one of those that go to a store.
fn goes_to(expected: &Expected, url: &str) -> bool {
    let plain = |url: &str| url.trim_end_matches('/').to_string();
    expected.stores.iter().any(|known| plain(known) == plain(url))
}

/// Reads the newest manifests, and goes on until there is one that is whole, and enough to compare it with: the parts of a
/// long run are none.
async fn read(store: &Store, job: &str, folder: JobFolder) -> Result<Known> {
    let mut ids = folder.archives();
    ids.reverse();
    let mut manifests = Vec::new();
    for some in ids.chunks(NEWEST) {
        let read = futures_util::stream::iter(some).map(|id| async move {
            match store.manifest(job, id).await {
                // Deleted since it was listed.
                Err(error) if error.kind() == Kind::NotFound => Ok(None),
                Err(error) if error.kind() != Kind::Damaged => Err(error),
                manifest => Ok(Some((id.clone(), manifest))),
            }
        });
        let read: Vec<_> = read.buffered(NEWEST).try_collect().await?;
        manifests.extend(read.into_iter().flatten());
        let is_whole = |manifest: &Result<Manifest>| {
            manifest.as_ref().is_ok_and(|manifest| !manifest.partial && folder.lacks(manifest).is_none())
        };
        let is_part = |manifest: &Result<Manifest>| manifest.as_ref().is_ok_and(|manifest| manifest.partial);
        let count = manifests.iter().filter(|(_, manifest)| !is_part(manifest)).count();
        if count >= NEWEST && manifests.iter().any(|(_, manifest)| is_whole(manifest)) {
            break;
        }
    }
    let failed = match folder.failed().pop() {
        Some(id) => {
            let record = store.failure(job, &id).await;
            Some((id, record))
        }
        None => None,
    };
    Ok(Known { folder, manifests, failed })
}

#[cfg(test)]
mod tests;
