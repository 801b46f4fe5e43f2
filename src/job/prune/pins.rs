//! `pin` and `unpin`: an archive that is kept whatever the rules say.

use super::super::stored::{ArchiveRef, StoredArchive};
use crate::archive::Id;
use crate::error::{Error, Result};
use crate::report::Reporter;
use crate::store::StoreUrl;

/// What to pin.
#[derive(Debug, Clone)]
pub struct PinRequest {
    /// The store.
    pub store: StoreUrl,
    /// The archive.
    pub archive: ArchiveRef,
    /// Why; for people.
    pub note: Option<String>,
}

/// Pins an archive; returns its id.
///
/// # Errors
/// There is no such archive; the pin was not written.
pub async fn pin(request: &PinRequest, ui: &Reporter) -> Result<Id> {
    let found = StoredArchive::find(&request.store, &request.archive, ui).await?;
    found.store.put_pin(&found.job, &found.id, request.note.as_deref()).await?;
    Ok(found.id)
}

/// Takes an archive's pins away; returns its id.
///
/// # Errors
/// There is no such archive, or it is not pinned; a pin could not be deleted.
pub async fn unpin(request: &PinRequest, ui: &Reporter) -> Result<Id> {
    let found = StoredArchive::find(&request.store, &request.archive, ui).await?;
    match found.store.delete_pins(&found.job, &found.id).await? {
        0 => Err(Error::failed(format!("{} is not pinned", found.name()))
            .hint("see `sealift prune`, without --confirm: it says why each archive is kept")),
        _ => Ok(found.id),
    }
}
