//! Where a sparse file has data, in every form that GNU tar reads; written in one, GNU's 1.0.

use super::BLOCK;
use super::header::number;

/// Bytes that the text of a map may have.
const LONGEST_MAP: usize = 32 << 20;

/// Pieces that a map may have: what the longest text holds, about.
const MOST_PIECES: usize = 2 << 20;

/// A sparse file's data.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Map {
    /// Bytes of the file, its holes counted.
    pub(super) real_size: u64,
    /// Offsets and lengths.
    pub(super) pieces: Vec<(u64, u64)>,
}

/// Why a member is refused whose map and data do not fit each other.
pub(super) const UNFIT: &str = "its map of holes does not fit its data";

impl Map {
    /// Of GNU's versions 0.0 and 0.1: offsets and lengths in turn.
    pub(super) fn of_numbers(real_size: u64, numbers: &[u64]) -> Option<Map> {
        let pieces = numbers.chunks(2).map(|pair| Some((pair[0], *pair.get(1)?))).collect::<Option<_>>()?;
        Some(Map { real_size, pieces })
    }

    /// Takes in the entries of a header, or of a block that continues it: offset and length in 12 bytes each. An entry
    /// that says nothing ends the map: then no further block may follow.
    pub(super) fn add_fields(&mut self, fields: &[u8], continues: bool) -> Option<()> {
        for entry in fields.chunks_exact(24) {
            if entry[12] == 0 {
                return (!continues).then_some(());
            }
            if self.pieces.len() == MOST_PIECES {
                return None;
            }
            self.pieces.push((number(&entry[..12])?, number(&entry[12..])?));
        }
        Some(())
    }

    /// Whether it is a map of a file of which so many bytes are stored. GNU tar begins every piece with a block of its
    /// own, other programs do not: only the last may be no multiple of one.
    pub(super) fn fits(&self, stored: u64) -> bool {
        let (mut end, mut sum) = (0, 0u64);
        let last = self.pieces.iter().rposition(|&(_, len)| len > 0);
        for (i, &(offset, len)) in self.pieces.iter().enumerate() {
            let Some(next) = offset.checked_add(len) else { return false };
            if offset < end || (len % BLOCK as u64 != 0 && Some(i) != last) {
                return false;
            }
            (end, sum) = (next, sum + len);
        }
        end <= self.real_size && sum == stored
    }

    /// How GNU's version 1.0 writes it: a number a line, before the data, in whole blocks. A hole at the end needs a piece
    /// of no bytes behind it, without which GNU tar makes the file shorter.
    pub(super) fn write(&self) -> Vec<u8> {
        let ends_in_hole = self.pieces.last().is_none_or(|&(offset, len)| offset + len < self.real_size);
        let end = ends_in_hole.then_some((self.real_size, 0));
        let mut text = format!("{}\n", self.pieces.len() + usize::from(ends_in_hole));
        for (offset, len) in self.pieces.iter().chain(&end) {
            text.push_str(&format!("{offset}\n{len}\n"));
        }
        let mut bytes = text.into_bytes();
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }
}

/// Reads a map of version 1.0 block by block.
#[derive(Debug, Default)]
pub(super) struct Reading {
    text: Vec<u8>,
    /// Lines that are complete.
    lines: u64,
}

impl Reading {
    /// Takes in a block. The outer none: this is no map; the inner: it is not complete yet.
    pub(super) fn block(&mut self, block: &[u8], real_size: u64) -> Option<Option<Map>> {
        self.text.extend_from_slice(block);
        self.lines += block.iter().filter(|&&b| b == b'\n').count() as u64;
        let mut lines = self.text.split_inclusive(|&b| b == b'\n');
        // The first line is in the first block: no number is as long as one.
        let count = next_number(&mut lines)??;
        let wanted = count.checked_mul(2)?.checked_add(1)?;
        if self.text.len() > LONGEST_MAP {
            return None;
        }
        // Only when all are there are they looked at.
        if self.lines < wanted {
            return Some(None);
        }
        let mut pieces = Vec::new();
        for _ in 0..count {
            pieces.push((next_number(&mut lines)??, next_number(&mut lines)??));
        }
        Some(Some(Map { real_size, pieces }))
    }
}

/// The outer none: no number; the inner: not all of it is there.
fn next_number<'a>(lines: &mut impl Iterator<Item = &'a [u8]>) -> Option<Option<u64>> {
    let Some(line) = lines.next().and_then(|line| line.strip_suffix(b"\n")) else { return Some(None) };
    let digits = !line.is_empty() && line.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(line).ok().filter(|_| digits)?.parse().ok().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(real_size: u64, pieces: &[(u64, u64)]) -> Map {
        Map { real_size, pieces: pieces.to_vec() }
    }

    #[test]
    fn a_map_is_read_as_it_was_written_whatever_its_length() {
        for count in [0, 1, 2, 40, 500] {
            let mut map = map(1 << 40, &(0..count).map(|n| (n << 20, 512)).collect::<Vec<_>>());
            let mut reading = Reading::default();
            let written = map.write();
            // The hole at the end is told by a piece of no bytes.
            map.pieces.push((1 << 40, 0));
            let mut blocks = written.chunks(BLOCK).map(|block| reading.block(block, 1 << 40).unwrap());
            let read = blocks.find_map(|read| read).unwrap();
            assert_eq!((read, blocks.count()), (map, 0), "{count}");
        }
        assert!(Reading::default().block(&[b'x'; BLOCK], 0).is_none());
    }

    #[test]
    fn a_map_that_leads_elsewhere_does_not_fit() {
        assert!(map(2000, &[(0, 512), (1024, 7)]).fits(519));
        assert!(map(2000, &[(0, 512), (1024, 7), (2000, 0)]).fits(519));
        for (pieces, stored) in [
            (&[(0, 512)][..], 1024),
            (&[(0, 5), (1024, 5)], 10),
            (&[(1024, 512), (0, 512)], 1024),
            (&[(0, 512), (1536, 512)], 1024),
            (&[(u64::MAX, 512)], 512),
        ] {
            assert!(!map(2000, pieces).fits(stored), "{pieces:?}");
        }
    }

    #[test]
    fn an_entry_that_says_nothing_ends_the_map() {
        let mut fields = vec![0; 96];
        fields[..24].copy_from_slice(b"00000000512\x0000000000007\0");
        let mut map = Map::default();
        map.add_fields(&fields, false).unwrap();
        assert_eq!(map.pieces, [(0o512, 7)]);
        assert!(map.add_fields(&fields, true).is_none());
    }
}
