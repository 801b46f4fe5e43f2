//! `list`: what a store holds.

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
    /// Archives of this job only.
    pub job: Option<String>,
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
    /// How much lies there that is not ours.
    pub passed_over: u64,
    /// Folders that could not be read; archives may lie there.
    pub unreadable: Vec<String>,
}

impl<T> Listing<T> {
    fn new(store: &Store, items: Vec<T>) -> Self {
        let (passed_over, unreadable) = (store.passed_over(), store.unreadable());
        Listing { store: store.name.clone(), items, passed_over, unreadable }
    }
}

/// The archives, oldest first within a job.
///
/// # Errors
/// The store does not answer.
pub async fn archives(request: &ListRequest, ui: &Reporter) -> Result<Listing<Listed>> {
    let store = request.store.open(ui)?;
    let mut items = store.archives(request.job.as_deref()).await?;
    items.retain(|listed| request.partial || !listed.is_partial());
    Ok(Listing::new(&store, items))
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
