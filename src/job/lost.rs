//! What of an archive, and of the older ones that it needs, cannot be read any more: to the frame, and which members lie
//! there.

use std::collections::BTreeSet;
use std::ops::Range;

use futures_util::{StreamExt, TryStreamExt};

use super::deliver::PARALLEL;
use super::open_archive::{Named, OpenArchive};
use super::stored::StoredArchive;
use crate::archive::Id;
use crate::error::{Error, Kind, Result};
use crate::report::Reporter;
use crate::stream::counters::Counters;
use crate::tar::Entry;
use crate::tar::select::Part;

/// What is found when all of some parts is read.
pub(super) enum Found {
    /// All of it is as it was sealed.
    Whole,
    /// Time was over before the end.
    Cut,
    /// Some of it is not.
    Lost(Lost),
}

/// What cannot be read.
#[derive(Default)]
pub(super) struct Lost {
    parts: Vec<Part>,
    /// Archives that could not even be opened.
    unopened: Vec<u32>,
    /// Archives that are not there at all.
    gone: BTreeSet<u32>,
    /// Why, the first of all reasons.
    cause: Option<Error>,
}

impl Lost {
    fn add(&mut self, part: Part, error: Error) {
        self.parts.push(part);
        self.cause.get_or_insert(error);
    }

    /// Some bytes of an archive.
    #[cfg(test)]
    pub(super) fn of(part: Part) -> Lost {
        Lost { parts: vec![part], ..Lost::default() }
    }

    /// Whether all could be read.
    pub(super) fn is_nothing(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether a byte of an archive is lost.
    pub(super) fn has_some_of(&self, reference: u32) -> bool {
        self.parts.iter().any(|part| part.reference == reference)
    }

    /// Whether a byte of a member is lost.
    pub(super) fn meets(&self, member: &Entry) -> bool {
        self.meets_range(member.reference, &(member.at..member.at.saturating_add(member.len)))
    }

    /// Whether a byte of a range of an archive's source is lost.
    pub(super) fn meets_range(&self, reference: u32, range: &Range<u64>) -> bool {
        self.parts.iter().any(|part| part.reference == reference && part.meets(range))
    }

    /// The members that cannot be restored, and why.
    ///
    /// # Errors
    /// As [`OpenArchive::members_in`].
    pub(super) async fn error(&self, archive: &OpenArchive) -> Result<Error> {
        let named = archive.members_in(|entry| self.meets(entry)).await?;
        let mut names: Vec<_> = self.parts.iter().map(|part| archive.name_of(part.reference)).collect();
        names.dedup();
        Ok(error(&named, &names.join(", "), self.cause.clone()))
    }

    /// The archives that some of it lies in. Those that are gone need no record: everybody sees that.
    pub(super) fn archives(&self, archive: &OpenArchive) -> Vec<Id> {
        let references: BTreeSet<_> = self.parts.iter().map(|part| part.reference).collect();
        let mut ids = archive.ids();
        references.difference(&self.gone).filter_map(|n| ids.remove(n)).collect()
    }

    /// Has the next backup know of them, and says which members are lost.
    ///
    /// # Errors
    /// As [`Lost::error`].
    pub(super) async fn recorded(
        &self,
        archive: &OpenArchive,
        found: &StoredArchive,
        records: Option<&Reporter>,
    ) -> Result<Error> {
        for id in self.archives(archive) {
            record(found, &id, records).await;
        }
        self.error(archive).await
    }
}

/// Has the next backup know that an archive of that job is damaged, where there is somebody to tell when that fails.
pub(super) async fn record(found: &StoredArchive, id: &Id, ui: Option<&Reporter>) {
    let Some(ui) = ui else { return };
    if let Err(error) = found.store.put_damage(&found.job, id).await {
        ui.note(&format!("the next backup is not told that {}@{id} is damaged: {error}", found.job));
    }
}

/// Has the next backup know that an archive is damaged, where that is why something failed.
pub(super) async fn record_if_damaged<T>(
    result: Result<T>,
    found: &StoredArchive,
    records: Option<&Reporter>,
) -> Result<T> {
    if result.as_ref().is_err_and(|error| error.kind() == Kind::Damaged) {
        record(found, &found.id, records).await;
    }
    result
}

fn error(named: &Named, archives: &str, cause: Option<Error>) -> Error {
    let error = match named.count {
        0 => Error::damaged(format!("{archives} is damaged where no member lies")),
        count => Error::damaged(format!("{count} members that lie in {archives} are lost: {named}")),
    };
    let error = match cause {
        Some(cause) => error.because(cause),
        None => error,
    };
    error.hint(
        "`restore --skip-damaged` brings all others back; after `verify --whole`, `backup --incremental` reads these again",
    )
}

/// Opens the older archives of some parts.
///
/// # Errors
/// The store does not answer. Archives that are gone or damaged are no error, but found.
pub(super) async fn unopened(archive: &mut OpenArchive, parts: &[Part]) -> Result<Lost> {
    let mut lost = Lost::default();
    for gone in archive.open_older(parts.iter().map(|part| part.reference).collect()).await? {
        lost.unopened.push(gone.reference);
        if gone.error.kind() == Kind::NotFound {
            lost.gone.insert(gone.reference);
        }
        // What is asked for is named, not all that lies there.
        for part in parts.iter().filter(|part| part.reference == gone.reference) {
            lost.add(part.clone(), gone.error.clone());
        }
    }
    Ok(lost)
}

/// Reads all frames that hold some parts, or until time `is_over`.
///
/// # Errors
/// The store does not answer; the catalog is not what was sealed.
pub(super) async fn find(
    archive: &mut OpenArchive,
    parts: &[Part],
    is_over: &(dyn Fn() -> bool + Sync),
    counters: &Counters,
) -> Result<Found> {
    let mut lost = unopened(archive, parts).await?;
    let gone = lost.unopened.clone();
    for part in parts.iter().filter(|part| !gone.contains(&part.reference)) {
        let Some((ranges, error)) = unconfirmed(archive, part, is_over, counters).await? else {
            return Ok(Found::Cut);
        };
        if let Some(error) = error {
            lost.add(Part { reference: part.reference, ranges }, error);
        }
    }
    Ok(if lost.is_nothing() { Found::Whole } else { Found::Lost(lost) })
}

/// What of a part is not what it was, and why; nothing when time was over before.
async fn unconfirmed(
    archive: &OpenArchive,
    part: &Part,
    is_over: &(dyn Fn() -> bool + Sync),
    counters: &Counters,
) -> Result<Option<(Vec<Range<u64>>, Option<Error>)>> {
    let (mut good, mut first) = (Vec::<Range<u64>>::new(), None);
    let mut batches = std::pin::pin!(archive.frames(part.reference, &part.ranges, PARALLEL)?);
    while let Some(batch) = batches.next().await {
        if is_over() {
            return Ok(None);
        }
        let batch = match batch {
            Err(error) if error.kind() == Kind::Damaged => {
                first.get_or_insert(error);
                continue;
            }
            batch => batch?,
        };
        counters.stored.add(batch.fetched.len() as u64);
        counters.source.add(batch.pieces(&part.ranges).iter().map(|piece| piece.len() as u64).sum());
        for (at, plain) in &batch.frames {
            let frame = *at..at + plain.len() as u64;
            match good.last_mut().filter(|last| last.end == frame.start) {
                Some(last) => last.end = frame.end,
                None => good.push(frame),
            }
        }
    }
    if first.is_none() {
        return Ok(Some((Vec::new(), None)));
    }
    // Several frames come in one request: each is looked at alone.
    let (mut bad, mut last) = (Vec::new(), None);
    for frame in by_frame(&without(&part.ranges, &good), archive.frame_len(part.reference)) {
        let read = archive.frames(part.reference, std::slice::from_ref(&frame), 1)?;
        match read.try_for_each(|_| std::future::ready(Ok(()))).await {
            Err(error) if error.kind() == Kind::Damaged => {
                bad.push(frame);
                last.get_or_insert(error);
            }
            read => read?,
        }
    }
    Ok(Some((bad, last)))
}

/// What of `ranges` is not in `others`; both are in order.
fn without(ranges: &[Range<u64>], others: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut left = Vec::new();
    for range in ranges {
        let mut at = range.start;
        let first = others.partition_point(|other| other.end <= range.start);
        for other in others[first..].iter().take_while(|other| other.start < range.end) {
            left.extend((at < other.start).then_some(at..other.start));
            at = at.max(other.end);
        }
        left.extend((at < range.end).then_some(at..range.end));
    }
    left
}

/// Ranges cut where frames end, those of a frame as one.
fn by_frame(ranges: &[Range<u64>], frame_len: u64) -> Vec<Range<u64>> {
    let mut pieces: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        let mut at = range.start;
        while at < range.end {
            let end = ((at / frame_len + 1).saturating_mul(frame_len)).min(range.end);
            match pieces.last_mut().filter(|last| last.start / frame_len == at / frame_len) {
                Some(last) => last.end = end,
                None => pieces.push(at..end),
            }
            at = end;
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    #![allow(clippy::single_range_in_vec_init, reason = "one range is a list of ranges, too")]

    use super::*;

    #[test]
    fn what_is_not_confirmed_is_looked_at_frame_by_frame() {
        assert_eq!(without(&[0..10, 20..30], &[0..5, 8..22, 25..40]), [5..8, 22..25]);
        assert_eq!(without(&[0..10], &[]), [0..10]);
        assert!(without(&[3..5], &[0..10]).is_empty());
        assert_eq!(by_frame(&[3..9, 12..13, 14..15], 4), [3..4, 4..8, 8..9, 12..15]);
    }
}
