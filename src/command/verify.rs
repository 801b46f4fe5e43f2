//! `verify`: whether an archive can be restored, found out without restoring it.

use std::sync::Arc;

use futures_util::StreamExt;
use serde_json::json;

use super::{Found, bytes};
use crate::archive::Format;
use crate::archive::open::{Archive, EntryDigest, Opened};
use crate::archive::tar::Walker;
use crate::archive::wrap::{Digest, Stored};
use crate::cli::Verify;
use crate::error::{Error, Result};
use crate::progress::{Counters, Ui};
use crate::store::download::Object;
use crate::store::manifest;

/// Batches of frames under way at once: each takes up to 32 MiB.
const PARALLEL: usize = 4;

/// Verifies one archive.
pub async fn verify(options: Verify, ui: &Ui) -> Result<()> {
    let found = Found::find(&options.archive.from.from, &options.archive.archive).await?;
    let counters = Arc::new(Counters::default());
    let tracking = ui.track("verified", Arc::clone(&counters));
    let text = match options.stored {
        true => stored(&found, &counters).await?,
        false => whole(&found, &options, &counters).await?,
    };
    drop(tracking);
    let event = json!({
        "event": "verified", "job": found.job, "id": found.id, "stored": options.stored,
        "bytes": found.manifest.bytes, "stored_bytes": found.manifest.archive.size,
    });
    ui.summary(&format!("verified {}: {text}", found.name()), event);
    Ok(())
}

/// The stored bytes against the manifest's digests.
async fn stored(found: &Found, counters: &Counters) -> Result<String> {
    let (archive, catalog) = (found.archive_object().await?, found.catalog_object().await?);
    check_stored(&catalog, &found.manifest.catalog, counters).await?;
    check_stored(&archive, &found.manifest.archive, counters).await?;
    Ok(format!("{} stored are what the manifest says", bytes(archive.size + catalog.size)))
}

async fn check_stored(object: &Object, expected: &manifest::Object, counters: &Counters) -> Result<()> {
    let mut digest = Digest::new();
    let mut octets = object.stream();
    while let Some(piece) = octets.next().await {
        let piece = piece?;
        counters.stored.add(piece.len() as u64);
        let hash = tokio::task::spawn_blocking(move || {
            digest.update(&piece);
            digest
        });
        digest = hash.await.map_err(|e| Error::failed("a worker died").because(e))?;
    }
    same(object, &digest.finish(), &expected.sha256, expected.size)
}

fn same(object: &Object, stored: &Stored, sha256: &str, size: u64) -> Result<()> {
    match stored.sha256 == sha256 && stored.size == size {
        true => Ok(()),
        false => Err(Error::damaged(format!("{} is not what was stored: its SHA-256 differs", object.key()))),
    }
}

/// Everything: stored bytes, every frame, every tar member.
async fn whole(found: &Found, options: &Verify, counters: &Counters) -> Result<String> {
    let passphrase = found.passphrase(&options.archive)?;
    check_stored(&found.catalog_object().await?, &found.manifest.catalog, counters).await?;
    let archive = found.open(passphrase).await?;
    let mut checks = Checks::new(&archive);
    let mut batches = std::pin::pin!(archive.frames(&archive.whole(), PARALLEL));
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        checks.gap(&archive, batch.object.start).await?;
        counters.stored.add(batch.fetched.len() as u64);
        counters.source.add(batch.frames.iter().map(|(_, plain)| plain.len() as u64).sum());
        let check = tokio::task::spawn_blocking(move || checks.take(&batch).map(|()| checks));
        checks = check.await.map_err(|e| Error::failed("a worker died").because(e))??;
    }
    checks.gap(&archive, archive.object().size).await?;
    let end = &archive.contents().end;
    let frames = end.frames;
    checks.finish(&archive)?;
    // What the manifest says is not authenticated; it must not disagree with what is.
    if found.manifest.archive.sha256 != end.sha256 || found.manifest.bytes != end.bytes {
        return Err(Error::damaged(format!(
            "the manifest of {} does not agree with the sealed catalog",
            found.name()
        )));
    }
    let members = if end.entries > 0 { format!(", {} tar members", end.entries) } else { String::new() };
    Ok(format!("{} in {frames} frames{members}, {} stored", bytes(end.bytes), bytes(end.stored_bytes)))
}

/// What runs along while the archive is read in order.
struct Checks {
    digest: Digest,
    /// Octets of the object that were hashed.
    hashed: u64,
    walker: Option<Walker>,
    entries: EntryDigest,
}

impl Checks {
    fn new(archive: &Archive) -> Self {
        let tar = archive.contents().archive.kind == Format::Tar && archive.contents().end.bytes > 0;
        Checks {
            digest: Digest::new(),
            hashed: 0,
            walker: tar.then(Walker::new),
            entries: EntryDigest::default(),
        }
    }

    /// Hashes what lies between two batches: the head, and at last the end with the MDC.
    async fn gap(&mut self, archive: &Archive, until: u64) -> Result<()> {
        if self.hashed < until {
            let octets = archive.object().range(self.hashed..until).await?;
            self.digest.update(&octets);
            self.hashed = until;
        }
        Ok(())
    }

    fn take(&mut self, batch: &Opened) -> Result<()> {
        // Ranges overlap by the block that CFB needs.
        let fresh = self.hashed.saturating_sub(batch.object.start) as usize;
        self.digest.update(batch.fetched.get(fresh..).unwrap_or_default());
        self.hashed = self.hashed.max(batch.object.end);
        let Some(walker) = &mut self.walker else { return Ok(()) };
        let mut found = Vec::new();
        for (_, plain) in &batch.frames {
            walker.feed(plain, &mut found).map_err(|e| Error::damaged("the tar is broken").because(e))?;
        }
        found.iter().for_each(|entry| self.entries.add(entry));
        Ok(())
    }

    fn finish(self, archive: &Archive) -> Result<()> {
        let contents = archive.contents();
        if let Some(walker) = &self.walker {
            walker.finish().map_err(|e| Error::damaged("the tar is broken").because(e))?;
            if self.entries != contents.entries {
                return Err(Error::damaged("the tar's members are not those that the catalog lists"));
            }
        }
        same(archive.object(), &self.digest.finish(), &contents.end.sha256, contents.end.stored_bytes)
    }
}
