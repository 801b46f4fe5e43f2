//! Hashes of the files in a tar while it passes by: of the bytes that are stored, not of what is read a second time.

use std::ops::Range;

use crate::tar::Entry;

/// The file at hand, which is not complete yet.
struct Open {
    entry: Entry,
    data: Range<u64>,
    hasher: blake3::Hasher,
}

/// Gives files their hashes. A member whose data is still to come waits here: one at most, for they do not overlap.
#[derive(Default)]
pub struct Hashing(Option<Box<Open>>);

impl Hashing {
    /// Takes in the source's bytes from `at` on, and the members whose headers end in them; returns those that are complete
    /// now, in order.
    pub fn complete(&mut self, at: u64, bytes: &[u8], entries: Vec<Entry>) -> Vec<Entry> {
        let mut complete = Vec::with_capacity(entries.len() + 1);
        complete.extend(self.go_on(at, bytes));
        for entry in entries {
            match entry.data().filter(|_| entry.content.is_some()) {
                None => complete.push(entry),
                Some(data) => {
                    self.0 = Some(Box::new(Open { entry, data, hasher: blake3::Hasher::new() }));
                    complete.extend(self.go_on(at, bytes));
                }
            }
        }
        complete
    }

    /// Hashes what of the file at hand is in some bytes, and gives it back if that is all of it.
    fn go_on(&mut self, at: u64, bytes: &[u8]) -> Option<Entry> {
        let end = at + bytes.len() as u64;
        let mut open = self.0.take()?;
        let (from, to) = (open.data.start.max(at), open.data.end.min(end));
        if from < to {
            open.hasher.update(&bytes[(from - at) as usize..(to - at) as usize]);
        }
        if open.data.end > end {
            self.0 = Some(open);
            return None;
        }
        let mut entry = open.entry;
        if let Some(content) = &mut entry.content {
            content.blake3 = Some(open.hasher.finalize().to_hex().to_string());
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::testing::{member, noise, tar};
    use crate::tar::Walker;

    #[test]
    fn files_have_the_hashes_of_their_bytes_however_the_source_is_cut() {
        let tar = [member("first", b'0', &noise(1024)), member("fifo", b'6', b""), tar()].concat();
        for step in [1, 100, 511, 512, 513, 4096, tar.len()] {
            let (mut walker, mut hashing, mut found) = (Walker::new(), Hashing::default(), Vec::new());
            for (i, piece) in tar.chunks(step).enumerate() {
                let mut entries = Vec::new();
                walker.feed_with_content(piece, &mut entries).unwrap();
                found.extend(hashing.complete((i * step) as u64, piece, entries));
            }
            walker.finish().unwrap();
            let names: Vec<_> = found.iter().map(|entry| entry.path.as_str()).collect();
            assert_eq!(
                names,
                ["first", "fifo", "etc/", "etc/hosts", "empty", "a very long one", "last"],
                "{step}"
            );
            for entry in found {
                let bytes = entry.data().map(|data| &tar[data.start as usize..data.end as usize]);
                let hash = bytes.map(|bytes| blake3::hash(bytes).to_hex().to_string());
                assert_eq!(entry.content.unwrap().blake3, hash, "{step}: {}", entry.path);
            }
        }
    }
}
