//! What can be found out without the passphrase: objects that are there, their sizes, their stored bytes.

use futures_util::StreamExt;

use super::{Confirmed, Deadline, older};
use crate::archive::digest::Digest;
use crate::archive::read_at::once_more_if_damaged;
use crate::error::{Error, Result};
use crate::job::lost;
use crate::job::open_archive::OpenArchive;
use crate::job::stored::StoredArchive;
use crate::report::{Reporter, human_bytes};
use crate::store::download::Object;
use crate::store::manifest;
use crate::stream::counters::Counters;

/// Both objects are there and as large as the manifest says.
pub(super) async fn sizes(found: &StoredArchive, records: Option<&Reporter>) -> Result<Confirmed> {
    let archive = once_more_if_damaged(async || {
        let archive = found.archive_object().await?;
        as_large(&archive, &found.manifest.archive).map(|()| archive)
    });
    let archive = lost::record_if_damaged(archive.await, found, records).await?;
    let catalog = found.catalog_object().await?;
    let is_as_large = as_large(&catalog, &found.manifest.catalog);
    lost::record_if_damaged(is_as_large, found, records).await?;
    older::objects(found).await?;
    let text = format!(
        "its objects are there, {}; their bytes were not read",
        human_bytes(archive.size + catalog.size)
    );
    Ok(Confirmed { bytes: 0, of: 0, text, cut: false, unmet: Vec::new() })
}

fn as_large(object: &Object, expected: &manifest::Object) -> Result<()> {
    let (key, size, expected) = (object.key(), object.size, expected.size);
    match size == expected {
        true => Ok(()),
        false => Err(Error::damaged(format!("{key} has {size} bytes where {expected} were stored"))),
    }
}

/// The stored bytes against the manifest's digests.
pub(super) async fn bytes_of(
    found: &StoredArchive,
    records: Option<&Reporter>,
    deadline: &Deadline,
    counters: &Counters,
) -> Result<Confirmed> {
    let (archive, catalog) = (found.archive_object().await?, found.catalog_object().await?);
    older::objects(found).await?;
    let of = archive.size + catalog.size;
    let checked = check(&catalog, &found.manifest.catalog, deadline, counters).await;
    let whole = lost::record_if_damaged(checked, found, records).await? && {
        let checked = check(&archive, &found.manifest.archive, deadline, counters).await;
        lost::record_if_damaged(checked, found, records).await?
    };
    let text = format!("{} stored are what the manifest says", human_bytes(of));
    let bytes = counters.stored.get().min(of);
    Ok(Confirmed { bytes, of, text, cut: !whole, unmet: Vec::new() })
}

/// The catalog, however long it takes: nothing can be said of the archive without it.
pub(super) async fn catalog(
    found: &StoredArchive,
    records: Option<&Reporter>,
    counters: &Counters,
) -> Result<()> {
    let object = found.catalog_object().await?;
    let checked = check(&object, &found.manifest.catalog, &Deadline(None), counters).await.map(drop);
    lost::record_if_damaged(checked, found, records).await
}

/// Hashes an object to its end, and once more where it is another then; false when time is over before.
async fn check(
    object: &Object,
    expected: &manifest::Object,
    deadline: &Deadline,
    counters: &Counters,
) -> Result<bool> {
    once_more_if_damaged(|| try_check(object, expected, deadline, counters)).await
}

async fn try_check(
    object: &Object,
    expected: &manifest::Object,
    deadline: &Deadline,
    counters: &Counters,
) -> Result<bool> {
    let mut digest = Digest::new();
    let mut bytes = object.stream();
    while !deadline.is_over() {
        let Some(piece) = bytes.next().await else {
            return digest
                .finish()
                .verify(object.key().as_ref(), &expected.blake3, expected.size)
                .map(|()| true);
        };
        let piece = piece?;
        counters.stored.add(piece.len() as u64);
        let hash = tokio::task::spawn_blocking(move || {
            digest.update(&piece);
            digest
        });
        digest = hash.await.map_err(|e| Error::failed("a worker died").because(e))?;
    }
    Ok(false)
}

/// What the manifest says is not authenticated; it must not disagree with what is sealed.
pub(super) fn agree(found: &StoredArchive, archive: &OpenArchive) -> Result<()> {
    let (manifest, end) = (&found.manifest, archive.end());
    let object = (&manifest.archive.blake3, manifest.archive.size, manifest.bytes);
    match object == (&end.blake3, end.stored_bytes, end.bytes)
        && manifest.kept == end.kept
        && (manifest.partial, manifest.full) == (end.partial, archive.record().full)
        && manifest.needs.iter().eq(archive.refs().map(|record| &record.id))
    {
        true => Ok(()),
        false => Err(Error::damaged(format!(
            "the manifest of {} does not agree with the sealed catalog",
            found.name()
        ))),
    }
}
