//! What an increment needs of older archives: that it is there, and what it was.

use std::ops::Range;

use futures_util::{StreamExt, TryStreamExt};

use super::{Deadline, PARALLEL};
use crate::error::{Error, Kind, Result};
use crate::job::open_archive::{Lost, OpenArchive};
use crate::job::stored::StoredArchive;
use crate::report::human_bytes;
use crate::store::download::Object;
use crate::stream::counters::Counters;
use crate::tar::Entry;
use crate::tar::select::Part;

/// Archives that are looked at at once.
const AT_ONCE: usize = 8;

/// The archives that a manifest says are needed have manifests of their own, and objects as large as those say.
pub(super) async fn objects(found: &StoredArchive) -> Result<()> {
    let look = |id| async move {
        let (store, job) = (&found.store, &found.job);
        let there = async {
            let manifest = store.manifest(job, id).await?;
            let object = Object::open(store, store.key(job, id, &manifest.suffix)).await?;
            match object.size == manifest.archive.size {
                true => Ok(()),
                false => Err(Error::damaged(format!("{} is not as large as it was", object.key()))),
            }
        };
        there.await.map_err(|error| match error.kind() {
            Kind::NotFound | Kind::Damaged => {
                Error::damaged(format!("{} needs {job}@{id}, which is gone or damaged", found.name()))
                    .because(error)
            }
            _ => error,
        })
    };
    let looks: Vec<_> = found.manifest.needs.iter().map(look).collect();
    futures_util::stream::iter(looks).buffered(AT_ONCE).try_collect().await
}

/// Opens all that are needed: their objects are there, and begin as they did.
///
/// # Errors
/// Some are not; the members that lie there are named.
pub(super) async fn heads(archive: &mut OpenArchive) -> Result<()> {
    let lost = archive.open_older(archive.refs().map(|record| record.n).collect()).await?;
    let Some(first) = lost.first() else { return Ok(()) };
    let members = |entry: &Entry| lost.iter().any(|lost| lost.reference == entry.reference);
    Err(affected(archive, &lost, members, first.error.clone()).await?)
}

/// Reads all frames that hold parts of older archives, or until time is over, which it says.
///
/// # Errors
/// Some are not what they were; the members that lie there are named.
pub(super) async fn frames(
    archive: &mut OpenArchive,
    parts: &[Part],
    deadline: &Deadline,
    counters: &Counters,
) -> Result<bool> {
    let mut lost = archive.open_older(parts.iter().map(|part| part.reference).collect()).await?;
    let is_lost = |part: &&Part| lost.iter().any(|lost| lost.reference == part.reference);
    let (gone, there): (Vec<_>, Vec<_>) = parts.iter().partition(is_lost);
    let mut damaged: Vec<_> = gone.into_iter().cloned().collect();
    for part in there {
        let Some((ranges, error)) = unconfirmed(archive, part, deadline, counters).await? else {
            return Ok(true);
        };
        if let Some(error) = error {
            damaged.push(Part { reference: part.reference, ranges });
            lost.push(Lost { reference: part.reference, error });
        }
    }
    let Some(first) = lost.first() else { return Ok(false) };
    let members = |entry: &Entry| {
        let end = entry.at.saturating_add(entry.len);
        damaged.iter().any(|part| part.reference == entry.reference && part.meets(&(entry.at..end)))
    };
    Err(affected(archive, &lost, members, first.error.clone()).await?)
}

/// What of a part is not what it was, and why; nothing when time was over before.
async fn unconfirmed(
    archive: &OpenArchive,
    part: &Part,
    deadline: &Deadline,
    counters: &Counters,
) -> Result<Option<(Vec<Range<u64>>, Option<Error>)>> {
    let (mut good, mut first) = (Vec::<Range<u64>>::new(), None);
    let mut batches = std::pin::pin!(archive.frames(part.reference, &part.ranges, PARALLEL)?);
    while let Some(batch) = batches.next().await {
        if deadline.is_over() {
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
    let frame_len =
        archive.refs().find(|record| record.n == part.reference).map_or(1, |record| record.frame_len);
    let (mut bad, mut last) = (Vec::new(), None);
    for frame in pieces(&without(&part.ranges, &good), frame_len.max(1)) {
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

/// Ranges cut where frames end.
fn pieces(ranges: &[Range<u64>], frame_len: u64) -> Vec<Range<u64>> {
    let mut pieces = Vec::new();
    for range in ranges {
        let mut at = range.start;
        while at < range.end {
            let end = ((at / frame_len + 1).saturating_mul(frame_len)).min(range.end);
            pieces.push(at..end);
            at = end;
        }
    }
    pieces
}

/// The members that cannot be restored, and why.
async fn affected(
    archive: &OpenArchive,
    lost: &[Lost],
    members: impl Fn(&Entry) -> bool,
    cause: Error,
) -> Result<Error> {
    let named = archive.members_in(members).await?;
    let mut names: Vec<_> = lost.iter().map(|lost| archive.name_of(lost.reference)).collect();
    names.dedup();
    let count = named.count;
    let error = Error::damaged(format!("{count} members that lie in {} are lost: {named}", names.join(", ")));
    Ok(error
        .because(cause)
        .hint("all others can be restored; the next `backup --incremental` reads these again"))
}

/// How much of it older archives hold, in words.
pub(super) fn text(archive: &OpenArchive) -> String {
    let kept = archive.end().kept;
    match archive.refs().count() {
        0 => String::new(),
        older => {
            let archives = if older == 1 { "archive" } else { "archives" };
            format!("; {} members, {}, in {older} older {archives}", kept.entries, human_bytes(kept.bytes))
        }
    }
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
        assert_eq!(pieces(&[3..9, 12..13], 4), [3..4, 4..8, 8..9, 12..13]);
    }
}
