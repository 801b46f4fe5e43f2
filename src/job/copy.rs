//! `copy`: an archive's stored bytes from one store to another, without the passphrase.

use std::sync::Arc;

use futures_util::TryStreamExt;
use tokio_util::sync::CancellationToken;

use super::stored::{ArchiveRef, StoredArchive};
use super::until;
use crate::archive::Id;
use crate::archive::budget::{BudgetRequest, DEFAULT_MEMORY, MemoryBudget, PartLimits};
use crate::archive::frame::{Codec, FRAME_LEN};
use crate::archive::openpgp::block_pool;
use crate::archive::read_at::once_more_if_damaged;
use crate::error::{Error, Kind, Result};
use crate::report::Reporter;
use crate::store::download::Object;
use crate::store::fan::{Failed, FanOut, ObjectName};
use crate::store::manifest::Manifest;
use crate::store::needs::{Need, Needs};
use crate::store::rate::{RateLimiter, Timetable};
use crate::store::{Store, StoreUrl, manifest};
use crate::stream::channel::channel_from;
use crate::stream::counters::{Counters, Total};

/// Bytes of parts that may be in flight.
const PARTS_IN_FLIGHT: u64 = 128 << 20;
/// Pieces of 8 MiB that may wait for the uploads.
const DEPTH: usize = 1;

/// What to copy, and where to.
#[derive(Debug, Clone)]
pub struct CopyRequest {
    /// The store to read from.
    pub from: StoreUrl,
    /// The store to write to.
    pub to: StoreUrl,
    /// The archive.
    pub archive: ArchiveRef,
    /// Bytes a second to the other store, at most, on average; how [`CopyRequest::from`] is to be read it says itself.
    pub limit_rate: Option<Timetable>,
    /// Only tell what would be copied.
    pub dry_run: bool,
}

/// An archive that is in the other store now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Its job.
    pub job: String,
    /// Its id.
    pub id: Id,
    /// The store that it was copied to.
    pub to: String,
    /// Stored bytes of the archive and its catalog.
    pub bytes: u64,
    /// It was there before; nothing was copied.
    pub was_there: bool,
}

/// Copies an archive, its catalog and, last, its manifest; before it, oldest first, those that it needs, and no others: one
/// of those may need more, and is not whole there alone. Each that is there now is told to `copied`.
///
/// # Errors
/// There is no such archive; the other store cannot be written to. It or one that it needs is damaged, or the other store has
/// another one under its name: the others are copied all the same, but nothing that needs it.
pub async fn copy(
    request: CopyRequest,
    ui: &Reporter,
    cancel: &CancellationToken,
    mut copied: impl FnMut(Copied),
) -> Result<()> {
    let asked = StoredArchive::find(&request.from, &request.archive, ui).await?;
    let store = match request.dry_run {
        true => request.to.open(ui)?,
        false => request.to.create(ui)?,
    };
    // Before gigabytes are sent that would not be locked.
    until(cancel, store.check_lock()).await?;
    let copying = Copying { store: Arc::new(store), request: &request, ui, cancel };
    let (mut needs, mut failed) = (Vec::new(), Vec::new());
    for id in &asked.manifest.needs {
        let one = async {
            let found = asked.sibling(id).await?;
            Ok((copying.one(&found, &Needs::default()).await?, Need::from(&found.manifest)))
        };
        match one.await {
            Ok((one, need)) => {
                copied(one);
                needs.push(need);
            }
            Err(error) if Error::is_of_one_archive(&error) => {
                let name = format!("{}@{id}", asked.job);
                ui.warn(&format!("{name} is not copied: {error}"));
                failed.push((name, error));
            }
            Err(error) => return Err(error),
        }
    }
    let names = failed.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
    if let Some((_, error)) = failed.into_iter().next() {
        let text = format!("{} is not copied: it needs {names}", asked.name());
        return Err(Error::damaged(text).because(error).hint(
            "`verify --whole` has the next `backup --incremental` read again what is lost: copy that one",
        ));
    }
    let needs = needs.into_iter().collect();
    copied(copying.one(&asked, &needs).await?);
    Ok(())
}

/// A copy to another store.
struct Copying<'a> {
    store: Arc<Store>,
    request: &'a CopyRequest,
    ui: &'a Reporter,
    cancel: &'a CancellationToken,
}

impl Copying<'_> {
    /// Copies what an archive consists of, and then the key objects beside it that are not there yet.
    async fn one(&self, found: &StoredArchive, needs: &Needs) -> Result<Copied> {
        let copied = self.objects(found, needs).await?;
        if !self.request.dry_run {
            until(self.cancel, self.key_objects(found)).await?;
        }
        Ok(copied)
    }

    async fn key_objects(&self, found: &StoredArchive) -> Result<()> {
        let (store, job, id) = (&self.store, &found.job, &found.id);
        let own = found.store.key_objects(job, id).await?;
        if own.is_empty() {
            return Ok(());
        }
        let there = store.key_objects(job, id).await?;
        for at in own.iter().filter(|at| !there.contains(at)) {
            if let Some(object) = found.store.key_object(job, id, at).await? {
                store.put_key_object(job, id, at, object).await?;
            }
        }
        Ok(())
    }

    async fn objects(&self, found: &StoredArchive, needs: &Needs) -> Result<Copied> {
        let (store, ui) = (&self.store, self.ui);
        let copied = |was_there: bool| Copied {
            job: found.job.clone(),
            id: found.id.clone(),
            to: store.name.clone(),
            bytes: found.manifest.archive.size + found.manifest.catalog.size,
            was_there,
        };
        match store.manifest(&found.job, &found.id).await {
            Ok(there) => return is_same(found, store, &there).await.map(|()| copied(true)),
            Err(error) if error.kind() != Kind::NotFound => return Err(error),
            Err(_) => {}
        }
        if self.request.dry_run {
            // What the manifest speaks of is there.
            found.archive_object().await?;
            found.catalog_object().await?;
            return Ok(copied(false));
        }
        let probe = async {
            store.probe_create_only(&found.job, ui).await;
            Ok(())
        };
        until(self.cancel, probe).await?;
        let sent = once_more_if_damaged(|| self.send(found)).await?;
        let unlocked = sent.commit(&found.manifest, needs, self.cancel).await?.unlocked;
        match unlocked.into_iter().next() {
            Some(Failed { error, .. }) => {
                Err(error.context("it was copied, but not everything of it is locked"))
            }
            None => Ok(copied(false)),
        }
    }

    /// Sends archive and catalog, to the point where only the commit is missing. Where it fails nothing is left there.
    async fn send(&self, found: &StoredArchive) -> Result<FanOut> {
        let (store, ui) = (&self.store, self.ui);
        let (archive, catalog) = (found.archive_object().await?, found.catalog_object().await?);
        let counters = Counters::of(&found.job).with_stores(vec![(store.name.clone(), Arc::default())]);
        counters.expect(Total::Known(found.manifest.archive.size));
        let counters = Arc::new(counters);
        let budget = budget(found.manifest.archive.size, store.kind.limits());
        let parallel = (PARTS_IN_FLIGHT / budget.part_size.unwrap_or(PARTS_IN_FLIGHT)).max(1) as usize;
        let plan = MemoryBudget::new(&budget, store.kind.limits())?;
        let mut fan = FanOut::new(plan.parts.clone(), block_pool(plan.chunks), ui);
        let naming = ObjectName { job: &found.job, id: &found.id, suffix: &found.manifest.suffix };
        let tracking = ui.track("copied", Arc::clone(&counters));
        let work = async {
            fan.begin(&[Arc::clone(store)], &naming, parallel, &counters).await?;
            let counted = Arc::clone(&counters);
            let archive = archive.verified_stream(&found.manifest.archive);
            let archive = archive.inspect_ok(move |bytes| counted.source.add(bytes.len() as u64));
            let catalog = catalog.verified_stream(&found.manifest.catalog);
            let (archive, catalog) = (channel_from(archive, DEPTH), channel_from(catalog, DEPTH));
            fan.pump(archive, catalog, RateLimiter::new(self.request.limit_rate.clone())).await
        };
        let ended = tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Error::interrupted().hint("nothing was committed")),
            ended = work => ended,
        };
        drop(tracking);
        match ended {
            Ok(()) => Ok(fan),
            Err(error) => Err(fan.abort_because(error).await),
        }
    }
}

/// An archive that has its manifest there is copied already, if its objects are there too.
async fn is_same(found: &StoredArchive, store: &Arc<Store>, there: &Manifest) -> Result<()> {
    let suffix = manifest::catalog_suffix(&there.suffix);
    for (suffix, expected) in [(there.suffix.as_str(), &there.archive), (suffix, &there.catalog)] {
        let object = Object::open(store, store.key(&found.job, &found.id, suffix)).await?;
        if *there != found.manifest || object.size != expected.size {
            return Err(Error::damaged(format!("{} has another {}", store.name, found.name()))
                .hint("verify both; one of them is not what was backed up"));
        }
    }
    Ok(())
}

/// Nothing is compressed here: the memory is for parts, all of one size since the whole is known.
fn budget(size: u64, limits: PartLimits) -> BudgetRequest {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Kind as StoreKind;

    const MIB: u64 = 1 << 20;

    #[test]
    fn parts_are_equal_and_few_enough_for_the_store() {
        for kind in [StoreKind::S3, StoreKind::Azure, StoreKind::Gcs, StoreKind::File] {
            let limits = kind.limits();
            for size in [0, 1, MIB, 16 * MIB, 1 << 40, 5 << 40] {
                let part = budget(size, limits).part_size.unwrap();
                assert!(part.is_multiple_of(MIB) && part >= limits.smallest, "{kind:?} {size}: {part}");
                assert!(
                    part <= limits.largest && size.div_ceil(part) <= limits.count,
                    "{kind:?} {size}: {part}"
                );
            }
        }
    }

    #[test]
    fn the_memory_holds_the_parts_in_flight() {
        for size in [1, 1 << 40, 40 << 40] {
            let budget = budget(size, StoreKind::S3.limits());
            assert!(budget.memory >= DEFAULT_MEMORY.max(2 * budget.part_size.unwrap()), "{size}");
        }
    }

    #[test]
    fn small_archives_are_sent_in_parts_of_16_mib() {
        assert_eq!(budget(100 << 30, StoreKind::S3.limits()).part_size, Some(16 * MIB));
    }
}
