//! `clean`: what runs that failed or were killed have left in a store, and at the engine, is listed, and taken back where
//! that is asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;

use super::lease::is_gone;
use crate::archive::name::JobName;
use crate::docker::Engine;
use crate::docker::left::LeftContainer;
use crate::docker::quiesce::LeftHeld;
use crate::error::{Error, Result};
use crate::report::Reporter;
use crate::store::StoreUrl;
use crate::store::leftover::{Judge, Leftover, Taken};
use crate::store::removal::Needs;

/// What to clean.
#[derive(Debug, Clone)]
pub struct CleanRequest {
    /// Where.
    pub store: StoreUrl,
    /// These jobs; otherwise all.
    pub jobs: Vec<JobName>,
    /// What was written to later is left alone.
    pub older_than: Duration,
    /// Take it back; otherwise it is listed.
    pub confirm: bool,
    /// Containers of backups, too.
    pub docker: bool,
}

/// Something that was left, and what became of it.
#[derive(Debug)]
pub struct Cleaned<T> {
    /// What it is.
    pub left: T,
    /// None where nothing was to be done.
    pub taken: Option<Result<Taken>>,
}

/// What was found.
#[derive(Debug)]
pub struct Cleaning {
    /// The store's name.
    pub store: String,
    /// What was left there.
    pub left: Vec<Cleaned<Leftover>>,
    /// Why uploads under way could not be seen.
    pub hidden: Option<Error>,
    /// Containers that were left at the engine.
    pub containers: Vec<Cleaned<LeftContainer>>,
    /// What killed runs hold still there; it is put right at once.
    pub held: Vec<LeftHeld>,
    /// What could not be put right.
    pub not_put_back: Vec<Error>,
}

impl Cleaning {
    /// Failures to see something, or to take it back.
    pub fn failures(&self) -> impl Iterator<Item = &Error> {
        let left = self.left.iter().map(|cleaned| &cleaned.taken);
        let all = left.chain(self.containers.iter().map(|cleaned| &cleaned.taken));
        self.hidden
            .iter()
            .chain(&self.not_put_back)
            .chain(all.filter_map(|taken| taken.as_ref()?.as_ref().err()))
    }
}

/// Finds what was left, and takes it back where that is asked for.
///
/// # Errors
/// The store or the engine does not answer. What cannot be taken back is told of each.
pub async fn clean(request: &CleanRequest, ui: &Reporter) -> Result<Cleaning> {
    let CleanRequest { jobs, older_than, confirm, docker, .. } = request;
    let store = request.store.open(ui)?;
    let mut found = Vec::new();
    // A dry run writes nothing, and trusts this host's clock.
    let ahead = if *confirm { store.clock_ahead().await? } else { SignedDuration::ZERO };
    let by = Judge { older_than: *older_than, is_gone: &is_gone, ahead };
    let all = if jobs.is_empty() { vec![None] } else { jobs.iter().map(|job| Some(job.as_str())).collect() };
    let mut hidden = None;
    for job in all {
        let (here, unseen) = store.leftovers(job, &by).await?;
        found.extend(here);
        hidden = hidden.or(unseen);
    }
    let (mut left, mut known) = (Vec::new(), BTreeMap::<String, Needs>::new());
    for leftover in found {
        let taken = match *confirm {
            true => {
                let known = known.entry(leftover.job.clone()).or_default();
                Some(store.take_back(&leftover, &by, known).await)
            }
            false => None,
        };
        left.push(Cleaned { left: leftover, taken });
    }
    let (mut cleaned, mut held, mut not_put_back) = (Vec::new(), Vec::new(), Vec::new());
    if *docker {
        let engine = Engine::connect().await?;
        // However young: whoever held it is gone.
        held = engine.left_held().await?;
        if *confirm {
            not_put_back = engine.put_right(ui).await;
        }
        cleaned = containers(&engine, *older_than, *confirm).await?;
    }
    Ok(Cleaning { store: store.name.clone(), left, hidden, containers: cleaned, held, not_put_back })
}

async fn containers(
    engine: &Engine,
    older_than: Duration,
    confirm: bool,
) -> Result<Vec<Cleaned<LeftContainer>>> {
    let mut containers = Vec::new();
    for left in engine.left_containers().await?.into_iter().filter(|left| left.age >= older_than) {
        let taken = match confirm {
            true => Some(engine.remove_left(&left).await.map(|()| Taken::Back)),
            false => None,
        };
        containers.push(Cleaned { left, taken });
    }
    Ok(containers)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod young;
