//! Everything: stored bytes, every frame, every tar member.

use futures_util::StreamExt;
use secrecy::SecretString;

use super::older;
use super::stored::{agree, catalog};
use super::{Confirmed, Deadline, PARALLEL};
use crate::archive::Format;
use crate::archive::check::{Check, texts};
use crate::archive::contents::EntryDigest;
use crate::archive::digest::Digest;
use crate::archive::open::{Archive, Opened};
use crate::error::{Error, Kind, Result};
use crate::job::lost::{self, Found};
use crate::job::open_archive::OpenArchive;
use crate::job::stored::StoredArchive;
use crate::report::{Reporter, counted, human_bytes};
use crate::stream::counters::{Counters, Total};
use crate::tar::select::{Part, Selection};
use crate::tar::{Entry, Walker};

/// Reads an archive to its end, and what it `needs` of older ones if that is asked for, or until time is over. What is lost
/// is noted for the next backup, where there is somebody to tell when that fails.
pub(super) async fn whole(
    found: &StoredArchive,
    passphrase: Option<SecretString>,
    (mut check, needs): (Check, bool),
    records: Option<&Reporter>,
    deadline: &Deadline,
    counters: &Counters,
) -> Result<Confirmed> {
    catalog(found, records, counters).await?;
    let (mut listed, mut kept) = (EntryDigest::default(), Selection::new(false));
    let look = |entry: &Entry| {
        check.observe(entry);
        match entry.reference {
            0 => listed.add(entry),
            _ if needs => kept.keep(entry),
            _ => {}
        }
    };
    let opened = OpenArchive::look(found, passphrase.as_ref(), |_| None, look).await;
    let mut archive = lost::record_if_damaged(opened, found, records).await?;
    let mut parts = kept.parts();
    counters.expect(Total::Known(archive.end().bytes + parts.iter().map(Part::bytes).sum::<u64>()));
    let reading = Reading { found, records, deadline, counters };
    let cut = reading.all(&mut archive, &listed, &mut parts, needs).await?;
    if !cut {
        lost::record_if_damaged(agree(found, &archive), found, records).await?;
        match needs {
            true => older::open_by_passphrase(&archive, found, passphrase.as_ref(), records).await?,
            false => older::heads(&mut archive, found, records).await?,
        }
    }
    let end = archive.end();
    let of = end.bytes + parts.iter().map(Part::bytes).sum::<u64>();
    let members =
        if end.entries > 0 { format!(", {}", counted(end.entries, "tar member")) } else { String::new() };
    let (size, stored) = (human_bytes(end.bytes), human_bytes(end.stored_bytes));
    let kept = older::text(&archive);
    let text = format!("{size} in {}{members}, {stored} stored{kept}", counted(end.frames, "frame"));
    Ok(Confirmed { bytes: counters.source.get(), of, text, cut, unmet: texts(&check.unmet()) })
}

/// What reads, and tells of damage.
struct Reading<'a> {
    found: &'a StoredArchive,
    records: Option<&'a Reporter>,
    deadline: &'a Deadline,
    counters: &'a Counters,
}

impl Reading<'_> {
    /// Reads its own object, and `parts` of older ones if they are needed; says whether time was over before. Damage is
    /// recorded when it was read twice.
    async fn all(
        &self,
        archive: &mut OpenArchive,
        listed: &EntryDigest,
        parts: &mut Vec<Part>,
        needs: bool,
    ) -> Result<bool> {
        let &Reading { found, records, deadline, counters } = self;
        let read = own(archive, listed, deadline, counters).await;
        let is_damaged = read.as_ref().is_err_and(|error| error.kind() == Kind::Damaged);
        if read.is_err() && !is_damaged {
            return read;
        }
        let mut cut = matches!(read, Ok(true));
        let is_tar = archive.record().kind == Format::Tar;
        if is_damaged && is_tar {
            parts.push(Part::whole(archive.end().bytes));
        }
        if !cut && (needs || is_damaged && is_tar) {
            match lost::find(archive, parts, &|| deadline.is_over(), counters).await? {
                Found::Whole => {}
                Found::Cut => cut = true,
                Found::Lost(lost) => return Err(lost.recorded(archive, found, records).await?),
            }
        }
        if !is_damaged || cut {
            return read.map(|_| cut);
        }
        // No frame is damaged: it is something between them, or was on its way only.
        let again = own(archive, listed, deadline, &Counters::default()).await;
        lost::record_if_damaged(again, found, records).await
    }
}

/// Reads its own object, and says whether time was over before its end.
async fn own(
    archive: &OpenArchive,
    listed: &EntryDigest,
    deadline: &Deadline,
    counters: &Counters,
) -> Result<bool> {
    let (own, end) = (archive.own(), archive.end());
    let mut checks = Checks::new(own);
    let whole = Part::whole(end.bytes);
    let mut batches = std::pin::pin!(archive.frames(0, &whole.ranges, PARALLEL)?);
    let mut cut = deadline.is_over();
    while !cut && let Some(batch) = batches.next().await {
        let batch = batch?;
        checks.gap(own, batch.object.start).await?;
        counters.stored.add(batch.fetched.len() as u64);
        counters.source.add(batch.frames.iter().map(|(_, plain)| plain.len() as u64).sum());
        let feed = tokio::task::spawn_blocking(move || checks.feed(&batch).map(|()| checks));
        checks = feed.await.map_err(|e| Error::failed("a worker died").because(e))??;
        cut = deadline.is_over() && counters.source.get() < end.bytes;
    }
    if !cut {
        checks.gap(own, own.object().size()).await?;
        checks.finish(own, listed)?;
    }
    Ok(cut)
}

/// What runs along while the archive is read in order.
struct Checks {
    digest: Digest,
    /// Bytes of the object that were hashed.
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

    /// Hashes what lies between two batches: the head, and at last the end with the MDC or the last tag.
    async fn gap(&mut self, archive: &Archive, until: u64) -> Result<()> {
        if self.hashed < until {
            let read = || archive.object().read_at(self.hashed..until);
            // Only the digest of all bytes vouches for these few. What was damaged on its way is another the next time, and
            // the third time tells which of them it was.
            let (first, second) = (read().await?, read().await?);
            let bytes = if first == second { first } else { read().await? };
            self.digest.update(&bytes);
            self.hashed = until;
        }
        Ok(())
    }

    fn feed(&mut self, batch: &Opened) -> Result<()> {
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

    fn finish(self, archive: &Archive, listed: &EntryDigest) -> Result<()> {
        if let Some(walker) = &self.walker {
            walker.finish().map_err(|e| Error::damaged("the tar is broken").because(e))?;
            if self.entries != *listed {
                return Err(Error::damaged("the tar's members are not those that the catalog lists"));
            }
        }
        let (end, name) = (&archive.contents().end, archive.object().name());
        self.digest.finish().verify(name, &end.blake3, end.stored_bytes)
    }
}
