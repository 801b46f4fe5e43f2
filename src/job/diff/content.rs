//! The bytes of files as they pass by, in the order of the archive.

use std::collections::BTreeMap;
use std::ops::Range;

use futures_util::StreamExt;

use super::member::Place;
use crate::archive::open::Opened;
use crate::error::{Error, Result};
use crate::job::deliver::PARALLEL;
use crate::job::open_archive::OpenArchive;
use crate::stream::counters::Counters;

/// What is given files' bytes.
pub(super) trait FileVisitor: Send + 'static {
    /// The next piece of the file with this number; `last` ends it.
    fn visit(&mut self, file: usize, piece: &[u8], last: bool) -> Result<()>;
}

/// Reads the files at `places`, none of them empty, each known by its place there, and shows them to `visitor`.
pub(super) async fn read<V: FileVisitor>(
    archive: &mut OpenArchive,
    places: Vec<Place>,
    visitor: V,
    counters: &Counters,
) -> Result<V> {
    let needed = places.iter().map(|(reference, _)| *reference).collect();
    if let Some(lost) = archive.open_older(needed).await?.into_iter().next() {
        let name = archive.name_of(lost.reference);
        return Err(lost.error.context(format!("{name} holds contents that are to be compared")));
    }
    let mut of_archives = BTreeMap::<_, Vec<_>>::new();
    for (file, (reference, range)) in places.into_iter().enumerate() {
        of_archives.entry(reference).or_default().push((file, range));
    }
    let mut visitor = visitor;
    for (reference, files) in of_archives {
        visitor = read_of(archive, reference, files, visitor, counters).await?;
    }
    Ok(visitor)
}

/// Reads files of one archive.
async fn read_of<V: FileVisitor>(
    archive: &OpenArchive,
    reference: u32,
    mut files: Vec<(usize, Range<u64>)>,
    visitor: V,
    counters: &Counters,
) -> Result<V> {
    files.sort_by_key(|(_, range)| range.start);
    if files.windows(2).any(|pair| pair[0].1.end > pair[1].1.start) {
        return Err(Error::damaged("members of the archive overlap"));
    }
    let ranges: Vec<_> = files.iter().map(|(_, range)| range.clone()).collect();
    let mut passing = Passing { files, next: 0, visitor };
    let mut batches = std::pin::pin!(archive.frames(reference, &ranges, PARALLEL)?);
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        counters.stored.add(batch.fetched.len() as u64);
        counters.source.add(batch.frames.iter().map(|(_, plain)| plain.len() as u64).sum());
        let pass = tokio::task::spawn_blocking(move || passing.pass(&batch).map(|()| passing));
        passing = pass.await.map_err(|e| Error::failed("a worker died").because(e))??;
    }
    match passing.next == passing.files.len() {
        true => Ok(passing.visitor),
        false => Err(Error::damaged("members of the archive reach beyond its end")),
    }
}

/// Files that pass by.
struct Passing<V> {
    /// Numbers and ranges, in order, none of which overlap.
    files: Vec<(usize, Range<u64>)>,
    /// The first of them that has not passed by.
    next: usize,
    visitor: V,
}

impl<V: FileVisitor> Passing<V> {
    fn pass(&mut self, batch: &Opened) -> Result<()> {
        for (at, plain) in &batch.frames {
            let end = at + plain.len() as u64;
            while let Some((file, range)) = self.files.get(self.next)
                && range.start < end
            {
                let (from, to) = (range.start.max(*at) - at, range.end.min(end) - at);
                let last = range.end <= end;
                self.visitor.visit(*file, &plain[from as usize..to as usize], last)?;
                if !last {
                    break;
                }
                self.next += 1;
            }
        }
        Ok(())
    }
}

/// A digest of each file at `places`.
pub(in crate::job) async fn digests(
    archive: &mut OpenArchive,
    places: Vec<Place>,
    counters: &Counters,
) -> Result<Vec<Option<blake3::Hash>>> {
    let visitor = Digests { hasher: blake3::Hasher::new(), files: vec![None; places.len()] };
    Ok(read(archive, places, visitor, counters).await?.files)
}

struct Digests {
    hasher: blake3::Hasher,
    files: Vec<Option<blake3::Hash>>,
}

impl FileVisitor for Digests {
    fn visit(&mut self, file: usize, piece: &[u8], last: bool) -> Result<()> {
        self.hasher.update(piece);
        if last {
            self.files[file] = Some(self.hasher.finalize());
            self.hasher.reset();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[derive(Default)]
    struct Pieces(Vec<(usize, Vec<u8>, bool)>);

    impl FileVisitor for Pieces {
        fn visit(&mut self, file: usize, piece: &[u8], last: bool) -> Result<()> {
            self.0.push((file, piece.to_vec(), last));
            Ok(())
        }
    }

    #[test]
    fn files_are_cut_where_frames_are() {
        let frame = |at: u64, bytes: &'static [u8]| (at, Bytes::from_static(bytes));
        let batch = |frames| Opened { object: 0..0, fetched: Bytes::new(), frames };
        let files = vec![(2, 1..3), (0, 3..9), (1, 14..15)];
        let mut passing = Passing { files, next: 0, visitor: Pieces::default() };
        passing.pass(&batch(vec![frame(0, b"abcd"), frame(4, b"efgh")])).unwrap();
        passing.pass(&batch(vec![frame(8, b"ijkl")])).unwrap();
        passing.pass(&batch(vec![frame(12, b"mnop")])).unwrap();
        let expected: [(usize, &[u8], bool); 5] =
            [(2, b"bc", true), (0, b"d", false), (0, b"efgh", false), (0, b"i", true), (1, b"o", true)];
        assert_eq!(passing.visitor.0, expected.map(|(file, piece, last)| (file, piece.to_vec(), last)));
        assert_eq!(passing.next, 3);
    }
}
