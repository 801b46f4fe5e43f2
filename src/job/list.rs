//! `list`: what a store holds.

use super::stored::no_archive;
use crate::error::Result;
use crate::report::Reporter;
use crate::store::list::Listed;
use crate::store::set::{SetRef, SetRun};
use crate::store::{Store, StoreUrl};

/// What to list.
#[derive(Debug, Clone)]
pub struct ListRequest {
    /// The store.
    pub store: StoreUrl,
    /// Archives of these jobs only; of all, where none is named.
    pub jobs: Vec<String>,
    /// Partial archives, too.
    pub partial: bool,
}

/// What a store holds.
#[derive(Debug)]
pub struct Listing<T> {
    /// The store's name.
    pub store: String,
    /// What was asked for.
    pub items: Vec<T>,
    /// Of how many runs objects lie there that no manifest names.
    pub uncommitted: usize,
    /// How much lies there that is not ours.
    pub passed_over: u64,
    /// Folders that could not be read; archives may lie there.
    pub unreadable: Vec<String>,
}

impl<T> Listing<T> {
    fn new(store: &Store, items: Vec<T>) -> Self {
        let (passed_over, unreadable) = (store.passed_over(), store.unreadable());
        Listing { store: store.name.clone(), items, uncommitted: 0, passed_over, unreadable }
    }
}

/// The archives, oldest first within a job.
///
/// # Errors
/// The store does not answer; nothing lies there of a job that was named.
pub async fn archives(request: &ListRequest, ui: &Reporter) -> Result<Listing<Listed>> {
    let store = request.store.open(ui)?;
    let (mut items, mut uncommitted) = (Vec::new(), 0);
    match &request.jobs[..] {
        [] => (items, uncommitted) = store.archives_and_rest(None).await?,
        jobs => {
            for job in jobs {
                let (archives, rest) = store.archives_and_rest(Some(job)).await?;
                if archives.is_empty() && rest == 0 {
                    return Err(no_archive(job, &store).await);
                }
                items.extend(archives);
                uncommitted += rest;
            }
        }
    }
    items.retain(|listed| request.partial || !listed.is_partial());
    Ok(Listing { uncommitted, ..Listing::new(&store, items) })
}

/// The sets' runs.
///
/// # Errors
/// The store does not answer.
pub async fn sets(request: &ListRequest, ui: &Reporter) -> Result<Listing<(SetRef, SetRun)>> {
    let store = request.store.open(ui)?;
    let items = store.set_runs().await?.into_iter().collect();
    Ok(Listing::new(&store, items))
}
