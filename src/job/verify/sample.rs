//! A sample: the whole catalog, and frames taken at random, others every time.

use std::ops::Range;

use futures_util::StreamExt;
use secrecy::SecretString;

use super::stored::{agree, catalog};
use super::{Amount, Confirmed, Deadline, PARALLEL, older};
use crate::archive::check::{Check, texts};
use crate::error::Result;
use crate::job::lost;
use crate::job::open_archive::OpenArchive;
use crate::job::random::Random;
use crate::job::stored::StoredArchive;
use crate::report::{Reporter, human_bytes};
use crate::stream::counters::Counters;
use crate::tar::Entry;

/// Neighbouring frames that are taken together, at most: worth a request.
const LONGEST_RUN: u64 = 4;
/// Into how many runs an archive is cut, at least, if it has as many frames: few large ones were no sample.
const RUNS: u64 = 100;

/// Confirms random frames of at least `amount`, at least one, until time is over.
pub(super) async fn sample(
    found: &StoredArchive,
    passphrase: Option<SecretString>,
    amount: Amount,
    mut check: Check,
    records: Option<&Reporter>,
    deadline: &Deadline,
    counters: &Counters,
) -> Result<Confirmed> {
    catalog(found, records, counters).await?;
    let each = |entry: &Entry| check.observe(entry);
    let opened = OpenArchive::look(found, passphrase.as_ref(), |_| None, each).await;
    let mut archive = lost::record_if_damaged(opened, found, records).await?;
    lost::record_if_damaged(agree(found, &archive), found, records).await?;
    older::heads(&mut archive, found, records).await?;
    let end = archive.end();
    let frames = Frames { count: end.frames, len: archive.record().frame_len, bytes: end.bytes };
    let runs = choose(&frames, amount.of(end.bytes), &mut Random::new()?);
    let (mut frames, mut cut) = (0, false);
    // In rounds, each from all over the archive: however far it comes, it is a sample of the whole.
    for round in runs.chunks(PARALLEL) {
        cut = frames > 0 && deadline.is_over();
        if cut {
            break;
        }
        let mut ranges = round.to_vec();
        ranges.sort_by_key(|range| range.start);
        let mut batches = std::pin::pin!(archive.frames(0, &ranges, PARALLEL)?);
        while let Some(batch) = batches.next().await {
            let batch = lost::record_if_damaged(batch, found, records).await?;
            frames += batch.frames.len();
            counters.stored.add(batch.fetched.len() as u64);
            counters.source.add(batch.frames.iter().map(|(_, plain)| plain.len() as u64).sum());
        }
    }
    let (bytes, of) = (counters.source.get(), end.bytes);
    let share = if of == 0 { 100.0 } else { bytes as f64 / of as f64 * 100.0 };
    let (read, size, all) = (human_bytes(bytes), human_bytes(of), end.frames);
    let text = format!(
        "{read} of {size} ({share:.1} %), {frames} of {all} frames, the whole catalog{}",
        older::text(&archive)
    );
    Ok(Confirmed { bytes, of, text, cut, unmet: texts(&check.unmet()) })
}

/// The frames of an archive: all have the same length, but for the last.
struct Frames {
    count: u64,
    len: u64,
    bytes: u64,
}

impl Frames {
    /// Where frames lie in the source.
    fn range(&self, frames: Range<u64>) -> Range<u64> {
        let at = |frame: u64| frame.saturating_mul(self.len).min(self.bytes);
        at(frames.start)..if frames.end == self.count { self.bytes } else { at(frames.end) }
    }
}

/// Runs of frames, as ranges of the source, in random order, that have `bytes` together, or a little more.
fn choose(frames: &Frames, bytes: u64, random: &mut Random) -> Vec<Range<u64>> {
    let run = (frames.count / RUNS).clamp(1, LONGEST_RUN);
    // Where runs begin is left to chance, too: the same frames are not always neighbours.
    let head = random.below(run.min(frames.count.max(1)) as usize) as u64;
    let tail = (head..frames.count).step_by(run as usize).map(|at| at..(at + run).min(frames.count));
    let runs = std::iter::once(0..head).chain(tail).filter(|run| !run.is_empty());
    let mut runs: Vec<_> = runs.map(|run| frames.range(run)).collect();
    for i in (1..runs.len()).rev() {
        runs.swap(i, random.below(i + 1));
    }
    let mut chosen = 0;
    let enough = runs.iter().position(|run| {
        chosen += run.end - run.start;
        chosen >= bytes
    });
    runs.truncate(enough.map_or(runs.len(), |last| last + 1));
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(count: u64, len: u64) -> Frames {
        Frames { count, len, bytes: count * len }
    }

    fn total(runs: &[Range<u64>]) -> u64 {
        runs.iter().map(|run| run.end - run.start).sum()
    }

    #[test]
    fn a_sample_is_as_large_as_asked_for_and_never_takes_a_frame_twice() {
        let mut random = Random::from([7; 32]);
        for (count, bytes) in [(1, 1), (3, 10), (3, 30), (99, 500), (1000, 1), (1000, 700), (1000, 10_000)] {
            let mut runs = choose(&frames(count, 10), bytes, &mut random);
            let sum = total(&runs);
            assert!(sum >= bytes && sum < bytes + 40, "{count} {bytes}: {sum}");
            runs.sort_by_key(|run| run.start);
            assert!(runs.windows(2).all(|pair| pair[0].end <= pair[1].start), "{runs:?}");
        }
        assert_eq!(choose(&frames(0, 10), 0, &mut random), []);
        // The last frame is shorter.
        let short = Frames { count: 2, len: 10, bytes: 13 };
        assert_eq!(total(&choose(&short, 13, &mut random)), 13);
    }

    #[test]
    fn every_frame_has_its_turn() {
        let (all, mut random) = (frames(50, 10), Random::from([1; 32]));
        let mut seen = std::collections::HashSet::new();
        for _ in 0..500 {
            seen.extend(choose(&all, 10, &mut random).into_iter().map(|run| run.start));
        }
        assert_eq!(seen.len() as u64, all.count);
        assert_ne!(Random::new().unwrap().below(usize::MAX), Random::new().unwrap().below(usize::MAX));
    }
}
