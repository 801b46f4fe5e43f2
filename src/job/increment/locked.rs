//! What an increment needs is locked for at least as long as the increment. Where the key may not lock what is there already
//! for longer, what lies in archives whose lock ends soon is read again: it gets a new one.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;

use crate::archive::catalog::RefRecord;
use crate::error::Result;
use crate::store::Store;

/// Of the archives that are needed, those that are not to be needed any more: less than half of their lock's time is left,
/// and the key may not make it longer.
///
/// # Errors
/// The store does not answer.
pub(super) async fn ending_soon<'a>(
    store: &Arc<Store>,
    job: &str,
    needed: impl Iterator<Item = &'a RefRecord>,
    gone: &HashSet<u32>,
) -> Result<Vec<&'a RefRecord>> {
    let Some(lock) = store.lock() else { return Ok(Vec::new()) };
    let now = Timestamp::now();
    let needed: Vec<_> = needed.filter(|record| !gone.contains(&record.n)).collect();
    let Some(newest) = needed.iter().max_by_key(|record| &record.id) else { return Ok(Vec::new()) };
    // What one may do to one, one may do to all: the others are locked when it is known which are needed.
    let retention = lock.from(now)?;
    let newest = std::slice::from_ref(&newest.id);
    let refused = store.lock_archives(job, newest, retention, retention.until).await?;
    if refused.is_none() {
        return Ok(Vec::new());
    }
    let mut soon = Vec::new();
    for record in needed {
        // A key that may not see it either knows what it was to be.
        let until = match store.locked_until(job, &record.id, &record.suffix).await {
            Ok(known) => known.map(|(first, _)| first),
            Err(_) => record.id.time().and_then(|made| lock.from(made).ok()).map(|lock| lock.until),
        };
        let left = until.map_or(0.0, |until| until.duration_since(now).as_secs_f64());
        if left < lock.time.as_secs_f64() / 2.0 {
            soon.push(record);
        }
    }
    Ok(soon)
}
