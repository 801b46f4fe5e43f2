//! Several archives that are verified in one run: those that are named, the newest of every job, or those of a set.

use super::Run;
use crate::error::{Error, Kind, Result};
use crate::job::Outcome;
use crate::job::restore_set;
use crate::job::stored::ArchiveRef;
use crate::job::version::Version;
use crate::report::{Reporter, counted};
use crate::store::{Store, StoreUrl};

/// Which archives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// Those that are named.
    These(Vec<ArchiveRef>),
    /// The newest of every job that the store has.
    All,
    /// Those of a run of a set: `NAME`, the newest one, or `NAME@ID`.
    Set(String),
}

impl From<ArchiveRef> for Which {
    fn from(archive: ArchiveRef) -> Self {
        Which::These(vec![archive])
    }
}

impl Which {
    /// The archives, each named.
    ///
    /// # Errors
    /// The store does not answer; there is none.
    pub(in crate::job) async fn archives(&self, from: &StoreUrl, ui: &Reporter) -> Result<Vec<ArchiveRef>> {
        match self {
            Which::These(archives) => Ok(archives.clone()),
            Which::All => newest(&from.open(ui)?).await,
            Which::Set(name) => {
                let (_, run) = restore_set::which(&from.open(ui)?, name).await?;
                let named = restore_set::in_order(&run).into_iter();
                let archive = |(job, id): &(String, _)| ArchiveRef {
                    job: job.clone(),
                    version: Version::Id(crate::archive::Id::clone(id)),
                };
                Ok(named.map(archive).collect())
            }
        }
    }
}

/// The newest archive of every job.
async fn newest(store: &Store) -> Result<Vec<ArchiveRef>> {
    let folders = store.job_folders(&[]).await?;
    let jobs = folders.into_iter().filter(|(_, folder)| !folder.archives().is_empty());
    let found: Vec<_> = jobs.map(|(job, _)| ArchiveRef { job, version: Version::Latest }).collect();
    match found.is_empty() {
        true => Err(Error::new(Kind::NotFound, format!("there is no archive at {}", store.name))
            .hint("see `sealift list --partial`, and `sealift clean` for what failed runs have left")),
        false => Ok(found),
    }
}

impl Run<'_> {
    /// Verifies one after the other; what is wrong with one keeps no other from being looked at.
    ///
    /// # Errors
    /// The worst of what is wrong, with the names of all that are not in order.
    pub(super) async fn several(mut self, archives: &[ArchiveRef]) -> Result<Outcome> {
        let (mut verified, mut left, mut failed) = (0, Vec::new(), Vec::new());
        let mut cause: Option<Error> = None;
        for archive in archives {
            if self.deadline.is_over() {
                left.push(archive.to_string());
                continue;
            }
            let ended = match self.request.since_last {
                true => self.since_last(&archive.job).await,
                false => self.one(archive).await,
            };
            match ended {
                Ok(Outcome::Done) => verified += 1,
                Ok(_) => left.push(archive.to_string()),
                Err(error) if matches!(error.kind(), Kind::Usage | Kind::Interrupted) => return Err(error),
                Err(error) => {
                    self.ui.warn(&format!("{archive}: {error}"));
                    failed.push(archive.to_string());
                    let is_worse = error.kind() == Kind::Damaged;
                    cause = cause.filter(|cause| !is_worse || cause.kind() == Kind::Damaged).or(Some(error));
                }
            }
        }
        let of = if self.request.since_last { "job" } else { "archive" };
        let all = counted(archives.len() as u64, of);
        self.ui.note(&format!("{verified} of {all} verified"));
        if !left.is_empty() {
            self.ui.warn(&format!("the time is over: not verified: {}", left.join(", ")));
        }
        match cause {
            Some(cause) => Err(cause.context(format!("not verified: {}", failed.join(", ")))),
            None if left.is_empty() => Ok(Outcome::Done),
            None => Ok(Outcome::Warned),
        }
    }
}
