//! The fields of tar headers, both ways: ustar's, and GNU's base-256 numbers. They are read as GNU tar 1.34 reads them,
//! which unpacks the members.

use super::{BLOCK, EntryType};

/// Whether `block` is a tar header: its checksum is right (ustar `chksum` field).
pub fn is_header(block: &[u8]) -> bool {
    block.len() >= BLOCK && block[..BLOCK].iter().any(|&b| b != 0) && checksum_is_right(&block[..BLOCK])
}

pub(super) fn checksum_is_right(block: &[u8]) -> bool {
    let Some(stored) = number(&block[148..156]) else { return false };
    let spaces = 8 * u64::from(b' ');
    let field: u64 = block[148..156].iter().map(|&b| u64::from(b)).sum();
    let unsigned = block.iter().map(|&b| u64::from(b)).sum::<u64>() - field + spaces;
    // Some old writers added signed bytes.
    let signed: i64 = block.iter().map(|&b| i64::from(b as i8)).sum::<i64>()
        - block[148..156].iter().map(|&b| i64::from(b as i8)).sum::<i64>()
        + spaces as i64;
    stored == unsigned || i64::try_from(stored) == Ok(signed)
}

/// A numeric field: octal digits with nothing but blanks before them, which end at a blank or a NUL whatever stands
/// behind; or GNU base-256. None where GNU tar finds no number either, or a negative one.
pub(super) fn number(field: &[u8]) -> Option<u64> {
    let field = field.strip_prefix(b"\0").unwrap_or(field).trim_ascii_start();
    match field.first()? {
        0 => Some(0),
        0x80 => field[1..].iter().try_fold(0u64, |n, &b| n.checked_mul(256)?.checked_add(u64::from(b))),
        _ => {
            let ends = |&b: &u8| b == 0 || b.is_ascii_whitespace();
            let digits = &field[..field.iter().position(ends).unwrap_or(field.len())];
            digits.iter().try_fold(0u64, |n, &b| match b {
                b'0'..=b'7' => n.checked_mul(8)?.checked_add(u64::from(b - b'0')),
                _ => None,
            })
        }
    }
}

/// A time field: like [`number`], and base-256 may be negative.
pub(super) fn time(field: &[u8]) -> String {
    match number(field) {
        Some(n) => n.to_string(),
        None if field[0] == 0xff => {
            field[1..].iter().fold(-1i128, |n, &b| (n << 8) | i128::from(b)).to_string()
        }
        None => "0".into(),
    }
}

/// A text field: up to its first NUL.
pub(super) fn text(field: &[u8]) -> Vec<u8> {
    field.split(|&b| b == 0).next().unwrap_or_default().to_vec()
}

/// The name of a ustar header: `prefix`, a slash, `name`.
pub(super) fn ustar_path(block: &[u8]) -> Vec<u8> {
    let name = text(&block[..100]);
    // Only POSIX ustar has a prefix there; GNU keeps times in those bytes.
    let prefix = if is_posix(block) { text(&block[345..500]) } else { Vec::new() };
    if prefix.is_empty() { name } else { [&prefix[..], b"/", &name[..]].concat() }
}

/// Whether the header is a POSIX one.
pub(super) fn is_posix(block: &[u8]) -> bool {
    &block[257..263] == b"ustar\0"
}

/// Whether the header is one of GNU tar's own format.
pub(super) fn is_gnu(block: &[u8]) -> bool {
    &block[257..265] == b"ustar  \0"
}

/// Whether the header is one of star's own format, as GNU tar tells it: a prefix of at most 130 bytes, and two times
/// behind it.
pub(super) fn is_star(block: &[u8]) -> bool {
    let is_time = |at: usize| matches!(block[at], b'0'..=b'7') && block[at + 11] == b' ';
    is_posix(block) && block[475] == 0 && is_time(476) && is_time(488)
}

/// The device numbers; the oldest headers have none.
pub(super) fn device(block: &[u8]) -> (u64, u64) {
    match is_posix(block) || is_gnu(block) {
        true => (number(&block[329..337]).unwrap_or(0), number(&block[337..345]).unwrap_or(0)),
        false => (0, 0),
    }
}

/// What a header block of our own says. Names, owners, times and large sizes stand in the pax header before it.
pub(super) struct Block<'a> {
    pub(super) name: &'a [u8],
    pub(super) flag: u8,
    pub(super) mode: u32,
    pub(super) size: u64,
    pub(super) device: (u64, u64),
}

impl Block<'_> {
    /// The block, with its checksum.
    pub(super) fn write(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let name = &self.name[..self.name.len().min(100)];
        block[..name.len()].copy_from_slice(name);
        put(&mut block[100..108], self.mode.into());
        put(&mut block[108..116], 0);
        put(&mut block[116..124], 0);
        put(&mut block[124..136], self.size);
        put(&mut block[136..148], 0);
        block[156] = self.flag;
        block[257..265].copy_from_slice(b"ustar\x0000");
        put(&mut block[329..337], self.device.0);
        put(&mut block[337..345], self.device.1);
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().map(|&b| u64::from(b)).sum();
        put(&mut block[148..155], sum);
        block
    }
}

/// Octal digits and a NUL where they suffice, else base-256.
fn put(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    let octal = format!("{value:0digits$o}");
    if octal.len() == digits {
        field[..digits].copy_from_slice(octal.as_bytes());
        field[digits] = 0;
        return;
    }
    field.fill(0);
    let bytes = value.to_be_bytes();
    let len = bytes.len().min(digits);
    field[digits + 1 - len..].copy_from_slice(&bytes[bytes.len() - len..]);
    field[0] = 0x80;
}

/// What a typeflag means.
pub(super) fn kind(flag: u8) -> EntryType {
    match flag {
        b'0' | 0 | b'7' | b'S' => EntryType::File,
        b'1' => EntryType::Link,
        b'2' => EntryType::Symlink,
        b'3' => EntryType::Char,
        b'4' => EntryType::Block,
        b'5' | b'D' => EntryType::Dir,
        b'6' => EntryType::Fifo,
        _ => EntryType::Other,
    }
}

/// The typeflag of a type that can be written.
pub(super) fn flag(kind: EntryType) -> Option<u8> {
    Some(match kind {
        EntryType::File => b'0',
        EntryType::Link => b'1',
        EntryType::Symlink => b'2',
        EntryType::Char => b'3',
        EntryType::Block => b'4',
        EntryType::Dir => b'5',
        EntryType::Fifo => b'6',
        EntryType::Other => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_gnu_tar_reads_them() {
        for (field, read) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"  644 \0 ", Some(0o644)),
            (b"0000005 junk", Some(5)),
            (b"\x000000005\0", Some(5)),
            (b"\0\0\0\0", Some(0)),
            (b"00000008", None),
            (b"5junk\0\0\0", None),
            (b"        ", None),
            (b"-0000001", None),
            (b"\x80\0\0\0\0\0\x02\x58", Some(600)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"\x81\0\0\0\0\0\0\0", None),
        ] {
            assert_eq!(number(field), read, "{field:?}");
        }
        assert_eq!(time(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe"), "-2");
    }

    #[test]
    fn what_is_written_is_read_again() {
        for (size, device) in [(0, (0, 0)), (0o77777777777, (8, 1)), (1 << 40, (u32::MAX.into(), 9_999_999))]
        {
            let block = Block { name: b"n", flag: b'4', mode: 0o4755, size, device }.write();
            assert!(is_header(&block) && is_posix(&block));
            assert_eq!((number(&block[124..136]), super::device(&block)), (Some(size), device));
            assert_eq!((number(&block[100..108]), ustar_path(&block)), (Some(0o4755), b"n".to_vec()));
        }
    }

    #[test]
    fn only_posix_ustar_has_a_prefix() {
        let mut block = [0; BLOCK];
        block[..4].copy_from_slice(b"name");
        block[345..351].copy_from_slice(b"prefix");
        assert_eq!(ustar_path(&block), b"name");
        block[257..263].copy_from_slice(b"ustar ");
        assert_eq!(ustar_path(&block), b"name", "GNU keeps times there");
        block[257..263].copy_from_slice(b"ustar\0");
        assert_eq!(ustar_path(&block), b"prefix/name");
    }

    #[test]
    fn a_block_of_zeros_or_of_text_is_no_header() {
        assert!(!is_header(&[0; BLOCK]) && !is_header(&[b'a'; BLOCK]) && !is_header(b"short"));
    }

    #[test]
    fn every_type_that_can_be_written_is_read_as_itself() {
        for byte in 0..=u8::MAX {
            match flag(kind(byte)) {
                Some(written) => assert_eq!(kind(written), kind(byte)),
                None => assert_eq!(kind(byte), EntryType::Other),
            }
        }
    }
}
