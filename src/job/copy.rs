//! `copy`: an archive's stored bytes from one store to another, without the passphrase.

use std::sync::Arc;

use futures_util::TryStreamExt;
use tokio_util::sync::CancellationToken;

use super::stored::StoredArchive;
use crate::archive::budget::{BudgetRequest, DEFAULT_MEMORY, MemoryBudget, PartLimits};
use crate::archive::frame::{Codec, FRAME_LEN};
use crate::archive::openpgp::block_pool;
use crate::cli::Copy;
use crate::error::{Error, Kind, Result};
use crate::report::{Reporter, human_bytes};
use crate::store::download::Object;
use crate::store::fan::{FanOut, ObjectName};
use crate::store::manifest::Manifest;
use crate::store::rate::RateLimiter;
use crate::store::{Store, manifest};
use crate::stream::channel::channel_from;
use crate::stream::counters::{Counter, Counters};

/// Bytes of parts that may be in flight.
const PARTS_IN_FLIGHT: u64 = 128 << 20;
/// Pieces of 8 MiB that may wait for the uploads.
const DEPTH: usize = 1;

/// Copies an archive, its catalog and, last, its manifest.
pub async fn copy(options: Copy, ui: &Reporter, cancel: &CancellationToken) -> Result<()> {
    let found = StoredArchive::find(&options.from.from, &options.archive).await?;
    let store = Arc::new(Store::create(&options.to, &options.to.options()?)?);
    match store.manifest(&found.job, &found.id).await {
        Ok(there) => return already(&found, &store, &there, ui).await,
        Err(error) if error.kind() != Kind::NotFound => return Err(error),
        Err(_) => {}
    }
    let (archive, catalog) = (found.archive_object().await?, found.catalog_object().await?);
    let counters =
        Counters { stores: vec![(store.name.clone(), Arc::new(Counter::default()))], ..Counters::default() };
    let counters = Arc::new(counters);
    let request = request(found.manifest.archive.size, store.kind.limits());
    let parallel = (PARTS_IN_FLIGHT / request.part_size.unwrap_or(PARTS_IN_FLIGHT)).clamp(1, 4) as usize;
    let plan = MemoryBudget::new(&request, store.kind.limits())?;
    let mut fan = FanOut::new(plan.parts.clone(), block_pool(plan.chunks), ui);
    let naming = ObjectName { job: &found.job, id: &found.id, suffix: &found.manifest.suffix };
    let tracking = ui.track("copied", Arc::clone(&counters));
    let work = async {
        fan.begin(&[Arc::clone(&store)], &naming, parallel, &counters).await?;
        let counted = Arc::clone(&counters);
        let archive = archive.verified_stream(&found.manifest.archive);
        let archive = archive.inspect_ok(move |bytes| counted.source.add(bytes.len() as u64));
        let catalog = catalog.verified_stream(&found.manifest.catalog);
        let (archive, catalog) = (channel_from(archive, DEPTH), channel_from(catalog, DEPTH));
        fan.pump(archive, catalog, RateLimiter::new(options.limit_rate)).await
    };
    let copied = tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Error::interrupted()),
        copied = work => copied,
    };
    drop(tracking);
    if let Err(error) = copied {
        return Err(fan.abort_because(error).await);
    }
    fan.commit(&found.manifest).await?;
    let size = human_bytes(found.manifest.archive.size + found.manifest.catalog.size);
    let event = serde_json::json!({"event": "copied", "job": found.job, "id": found.id, "to": store.name});
    ui.summary(&format!("copied {}: {size} → {}", found.name(), store.name), event);
    Ok(())
}

/// An archive that has its manifest there is copied already, if its objects are there too.
async fn already(found: &StoredArchive, store: &Arc<Store>, there: &Manifest, ui: &Reporter) -> Result<()> {
    let suffix = manifest::catalog_suffix(&there.suffix);
    for (suffix, expected) in [(there.suffix.as_str(), &there.archive), (suffix, &there.catalog)] {
        let object = Object::open(store, store.key(&found.job, &found.id, suffix)).await?;
        if *there != found.manifest || object.size != expected.size {
            return Err(Error::damaged(format!("{} has another {}", store.name, found.name()))
                .hint("verify both; one of them is not what was backed up"));
        }
    }
    ui.note(&format!("{} is at {} already", found.name(), store.name));
    Ok(())
}

/// Nothing is compressed here: the memory is for parts, all of one size since the whole is known.
fn request(size: u64, limits: PartLimits) -> BudgetRequest {
    const MIB: u64 = 1 << 20;
    let part_size = (size / limits.count + 1).next_multiple_of(MIB).max(16 * MIB).min(limits.largest);
    BudgetRequest {
        memory: DEFAULT_MEMORY.max(2 * part_size + PARTS_IN_FLIGHT),
        workers: 1,
        frame_len: FRAME_LEN as u64,
        codec: Codec::None,
        level: 0,
        part_size: Some(part_size),
        max_parts: None,
    }
}
