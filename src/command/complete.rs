//! What a shell asks when a word is to be completed: names of the settings, and of what lies in the store.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::parse;
use crate::cli::complete::{self, Known, Name, Names};
use crate::config::{self, Config};
use crate::error::Result;
use crate::report::{Reporter, human_bytes, short_time};
use crate::store::StoreUrl;
use crate::store::list::Listed;

/// How long a store may take. Whoever has pressed a key waits.
const PATIENCE: Duration = Duration::from_secs(3);

/// Answers the shell where one asks; says whether it did.
///
/// # Errors
/// It is a shell that is not known.
pub fn complete() -> Option<Result<()>> {
    complete::is_asked_for().then(|| {
        let words: Vec<OsString> = std::env::args_os().collect();
        let typed = complete::typed(&words).to_vec();
        let known: Known = Arc::new(move |names, word| names_of(names, word, &typed));
        complete::complete(&words, &known)
    })
}

/// The names that a word may be; none where the settings or the store cannot be read, for nothing may stand between.
fn names_of(names: Names, word: &str, typed: &[OsString]) -> Vec<Name> {
    let config = parse::settings_of(typed);
    let plain = |name: &str| Name { name: name.into(), about: None };
    let Some(own) = &config else { return stored(names, word, None, typed) };
    match names {
        Names::Stores => own.stores().iter().map(|(name, _)| plain(name)).collect(),
        Names::OwnJobs => own.jobs().iter().map(|job| plain(&job.name)).collect(),
        Names::Sets => own.sets().iter().map(|(name, _)| plain(name)).collect(),
        Names::Runs => {
            let jobs = own.jobs().iter().map(|job| &job.name);
            let sets = own.sets().iter().map(|(name, _)| name);
            let schedules = own.schedules().iter().map(|(name, _)| name);
            jobs.chain(sets).chain(schedules).map(|name| plain(name)).collect()
        }
        Names::Jobs | Names::Archives => {
            let mut found = stored(names, word, config.as_ref(), typed);
            let new = own.jobs().iter().filter(|job| found.iter().all(|found| found.name != job.name));
            let new: Vec<_> = new.filter(|_| names == Names::Jobs).map(|job| plain(&job.name)).collect();
            found.extend(new);
            found
        }
    }
}

/// The names of what lies in the store that the line means.
fn stored(names: Names, word: &str, config: Option<&Config>, typed: &[OsString]) -> Vec<Name> {
    if !matches!(names, Names::Jobs | Names::Archives) {
        return Vec::new();
    }
    let Some(store) = config::store_of(config, typed) else { return Vec::new() };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    let job = word.split_once('@').map(|(job, _)| job);
    let listed = runtime.block_on(async { tokio::time::timeout(PATIENCE, listed(&store, job)).await });
    // A request that nobody waits for any more must not keep the shell waiting either.
    runtime.shutdown_background();
    let Ok(Ok(archives)) = listed else { return Vec::new() };
    match job {
        Some(_) => archives.iter().rev().filter(|listed| !listed.is_partial()).map(archive).collect(),
        None => {
            let jobs: BTreeSet<_> = archives.into_iter().map(|listed| listed.job).collect();
            jobs.into_iter().map(|name| Name { name, about: None }).collect()
        }
    }
}

async fn listed(store: &StoreUrl, job: Option<&str>) -> Result<Vec<Listed>> {
    store.open(&Reporter::silent())?.archives(job).await
}

fn archive(listed: &Listed) -> Name {
    let about = listed.manifest.as_ref().ok().map(|manifest| {
        let age = Timestamp::now().duration_since(manifest.started).unsigned_abs();
        format!("{} ago, {}", short_time(age), human_bytes(manifest.bytes))
    });
    Name { name: format!("{}@{}", listed.job, listed.id), about }
}
