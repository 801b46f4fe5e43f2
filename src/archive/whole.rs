//! What a source that is no tar must be: whole, from its first bytes to its last. It is followed as it passes by.

use super::openpgp::message::Message;
use crate::error::{Error, Result};

/// Bytes of a dump's beginning that are kept.
const HEAD: usize = 64;
/// Bytes of a dump's end that are kept.
const TAIL: usize = 512;

/// What the bytes of a source must be.
#[derive(Debug, Clone, Copy)]
pub enum Whole {
    /// An OpenPGP message.
    OpenPgp,
    /// A dump of a database.
    Dump(DumpFormat),
}

/// How a dump begins and ends: what its tool wrote last tells a whole dump from one that breaks off.
#[derive(Debug, Clone, Copy)]
pub struct DumpFormat {
    /// The tool that writes it.
    pub tool: &'static str,
    /// Whether a dump may begin so.
    pub begins: fn(&[u8]) -> bool,
    /// Whether these are the last bytes of a whole dump; the number is the checksum of all bytes before them.
    pub ends: fn(&[u8], u64) -> bool,
    /// Adds bytes to the checksum.
    pub sum: fn(u64, &[u8]) -> u64,
}

impl DumpFormat {
    /// A dump that has no checksum.
    pub fn new(tool: &'static str, begins: fn(&[u8]) -> bool, ends: fn(&[u8], u64) -> bool) -> Self {
        DumpFormat { tool, begins, ends, sum: |sum, _| sum }
    }
}

/// Follows a source that must be whole.
pub(super) enum Follower {
    Message(Message),
    Dump(Dump),
}

impl Follower {
    pub(super) fn new(whole: Whole) -> Self {
        match whole {
            Whole::OpenPgp => Follower::Message(Message::default()),
            Whole::Dump(format) => {
                Follower::Dump(Dump { format, head: Vec::new(), tail: Vec::new(), sum: 0 })
            }
        }
    }

    /// Passes over the next bytes.
    ///
    /// # Errors
    /// They cannot be of what they must be.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Follower::Message(message) => message.feed(bytes),
            Follower::Dump(dump) => {
                dump.feed(bytes);
                Ok(())
            }
        }
    }

    /// Demands that it has ended.
    ///
    /// # Errors
    /// It breaks off.
    pub(super) fn finish(self) -> Result<()> {
        match self {
            Follower::Message(message) => message.finish(),
            Follower::Dump(dump) => dump.finish(),
        }
    }
}

/// A dump, of which the first and the last bytes are kept.
pub(super) struct Dump {
    format: DumpFormat,
    head: Vec<u8>,
    tail: Vec<u8>,
    /// The checksum of all bytes before `tail`.
    sum: u64,
}

impl Dump {
    fn feed(&mut self, bytes: &[u8]) {
        let room = HEAD - self.head.len();
        self.head.extend_from_slice(&bytes[..room.min(bytes.len())]);
        let passed = (self.tail.len() + bytes.len()).saturating_sub(TAIL);
        let held = passed.min(self.tail.len());
        let (passed, kept) = bytes.split_at(passed - held);
        self.sum = (self.format.sum)(self.sum, &self.tail[..held]);
        self.sum = (self.format.sum)(self.sum, passed);
        self.tail.drain(..held);
        self.tail.extend_from_slice(kept);
    }

    fn finish(self) -> Result<()> {
        let DumpFormat { tool, begins, ends, .. } = self.format;
        if !begins(&self.head) {
            return Err(Error::failed(format!("what {tool} wrote does not begin as its dumps do"))
                .hint(format!("is {tool} in the container a script that prints something else first?")));
        }
        if !ends(&self.tail, self.sum) {
            return Err(Error::failed(format!("the dump breaks off: the end marker of {tool} is missing"))
                .hint(format!(
                    "{tool} exited with 0 all the same: look at the server's log, and run it again"
                )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Begins with `<`; ends with `>` and the count of all bytes before the tail.
    fn format() -> DumpFormat {
        DumpFormat {
            sum: |sum, bytes| sum + bytes.len() as u64,
            ..DumpFormat::new("dumper", |head| head.starts_with(b"<"), |tail, _| tail.ends_with(b">"))
        }
    }

    fn followed(format: DumpFormat, chunks: &[&[u8]]) -> Result<()> {
        let mut follower = Follower::new(Whole::Dump(format));
        chunks.iter().try_for_each(|chunk| follower.feed(chunk))?;
        follower.finish()
    }

    #[test]
    fn a_dump_is_whole_only_with_its_beginning_and_its_end() {
        assert!(followed(format(), &[b"<", b"", b"row", b">"]).is_ok());
        let error = followed(format(), &[b"<row"]).unwrap_err();
        assert_eq!(error.to_string(), "the dump breaks off: the end marker of dumper is missing");
        let error = followed(format(), &[b"usage: dumper <file>"]).unwrap_err();
        assert_eq!(error.to_string(), "what dumper wrote does not begin as its dumps do");
        assert!(followed(format(), &[]).is_err());
    }

    #[test]
    fn however_the_bytes_come_the_end_is_seen_and_all_before_it_is_summed() {
        let bytes: Vec<u8> = (0..5 * TAIL).map(|n| n as u8).collect();
        for len in [1, 7, TAIL - 1, TAIL, TAIL + 1, 3 * TAIL, bytes.len()] {
            let mut dump = Dump { format: format(), head: Vec::new(), tail: Vec::new(), sum: 0 };
            bytes.chunks(len).for_each(|chunk| dump.feed(chunk));
            assert_eq!(dump.head, bytes[..HEAD], "{len}");
            assert_eq!(dump.tail, bytes[4 * TAIL..], "{len}");
            assert_eq!(dump.sum, 4 * TAIL as u64, "{len}");
        }
    }
}
