//! `list`: what a store holds.

use crate::error::Result;
use crate::store::StoreUrl;
use crate::store::list::Listed;
use crate::store::set::{SetRef, SetRun};

/// What to list.
#[derive(Debug, Clone)]
pub struct ListRequest {
    /// The store.
    pub store: StoreUrl,
    /// Archives of this job only.
    pub job: Option<String>,
}

/// What a store holds.
#[derive(Debug)]
pub struct Listing<T> {
    /// The store's name.
    pub store: String,
    /// What was asked for.
    pub items: Vec<T>,
}

/// The archives, oldest first within a job.
///
/// # Errors
/// The store does not answer.
pub async fn archives(request: &ListRequest) -> Result<Listing<Listed>> {
    let store = request.store.open()?;
    let items = store.archives(request.job.as_deref()).await?;
    Ok(Listing { store: store.name.clone(), items })
}

/// The sets' runs.
///
/// # Errors
/// The store does not answer.
pub async fn sets(request: &ListRequest) -> Result<Listing<(SetRef, SetRun)>> {
    let store = request.store.open()?;
    let items = store.set_runs().await?.into_iter().collect();
    Ok(Listing { store: store.name.clone(), items })
}
