//! From an archive's frames to a sink: its bytes as they are, or members written anew.

use bytes::Bytes;
use futures_util::StreamExt;

use super::open_archive::OpenArchive;
use crate::error::Result;
use crate::stream::counters::Counters;
use crate::stream::sink::Sink;
use crate::tar::rewrite::Rewriter;
use crate::tar::select::Part;
use crate::tar::{BLOCK, Member};

/// Batches of frames under way at once: each takes up to 32 MiB.
pub const PARALLEL: usize = 4;

/// Hands members on, written anew, as a tar of their own: of each part those that its ranges hold.
pub(super) async fn write_members(
    archive: &OpenArchive,
    parts: &[Part],
    sink: &Sink,
    counters: &Counters,
    mut admit: impl FnMut(&mut Member) -> Result<bool>,
) -> Result<()> {
    for part in parts {
        let mut rewriter = Rewriter::new();
        write(archive, part, sink, counters, |piece| rewriter.pass(&piece, &mut admit)).await?;
        rewriter.between_members()?;
    }
    write_tar_end(sink).await
}

/// The end of a tar that some members make.
pub(super) async fn write_tar_end(sink: &Sink) -> Result<()> {
    sink.write(Bytes::from_static(&[0; 2 * BLOCK])).await
}

/// Hands ranges of the source on, each frame confirmed before.
pub(super) async fn write_ranges(
    archive: &OpenArchive,
    part: &Part,
    sink: &Sink,
    counters: &Counters,
) -> Result<()> {
    write(archive, part, sink, counters, |piece| Ok(vec![piece])).await
}

/// Hands on what `pass` makes of each piece of the source.
async fn write(
    archive: &OpenArchive,
    Part { reference, ranges }: &Part,
    sink: &Sink,
    counters: &Counters,
    mut pass: impl FnMut(Bytes) -> Result<Vec<Bytes>>,
) -> Result<()> {
    let mut opened = std::pin::pin!(archive.frames(*reference, ranges, PARALLEL)?);
    while let Some(batch) = opened.next().await {
        let batch = batch?;
        counters.stored.add(batch.fetched.len() as u64);
        for piece in batch.pieces(ranges) {
            let len = piece.len() as u64;
            for written in pass(piece)? {
                sink.write(written).await?;
            }
            counters.source.add(len);
        }
    }
    Ok(())
}
