//! Follows an OpenPGP message as it passes by, and proves that it ended: packet lengths (RFC 9580 §4.2), or the last
//! line of ASCII armor (§6.2). What is inside is nobody's business here.

use crate::error::{Error, Result};

const ARMOR: &[u8] = b"-----BEGIN PGP MESSAGE-----";
const ARMOR_END: &[u8] = b"-----END PGP MESSAGE-----";
/// Bytes of armor that are kept: its last line, and blank ones behind it.
const TAIL: usize = 64;
/// Packets that hold what was sealed: symmetrically encrypted data, without and with integrity protection, and AEAD's.
const SEALED: [u8; 3] = [9, 18, 20];

/// Follows one message.
pub struct Message {
    state: State,
    /// Bytes of a header, or the armor's last ones.
    held: Vec<u8>,
    /// A packet with what was sealed has begun; in armor: its first line was seen.
    sealed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The first bytes tell armor from packets.
    First,
    /// Between two packets, or within a packet's header.
    Header,
    /// Within a packet's next length, after a partial one.
    Length,
    /// Within a body; `true`: another length follows.
    Body(u64, bool),
    Armor,
}

/// What the bytes of a header say so far.
enum Read {
    /// More are needed.
    More,
    /// Bytes of body that follow, and whether another length follows these.
    Len(u64, bool),
}

impl Default for Message {
    /// At the message's beginning.
    fn default() -> Self {
        Message { state: State::First, held: Vec::new(), sealed: false }
    }
}

impl Message {
    /// Passes over the next bytes.
    ///
    /// # Errors
    /// They are no OpenPGP message, or one whose end cannot be known.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<()> {
        while let Some(&first) = bytes.first() {
            match self.state {
                State::First if first & 0x80 != 0 => self.state = State::Header,
                State::First if first == ARMOR[0] => self.state = State::Armor,
                State::First => return Err(no_message("it begins with something else")),
                State::Armor => {
                    self.armor(bytes)?;
                    return Ok(());
                }
                State::Body(left, more) => {
                    let passed = left.min(bytes.len() as u64);
                    bytes = &bytes[passed as usize..];
                    self.state = after(left - passed, more);
                }
                State::Header | State::Length => {
                    self.held.push(first);
                    bytes = &bytes[1..];
                    self.header()?;
                }
            }
        }
        Ok(())
    }

    fn header(&mut self) -> Result<()> {
        let read = match (self.state, self.held.split_first()) {
            (State::Length, _) => new_length(&self.held),
            (_, Some((&tag, rest))) => packet(tag, rest)?,
            (_, None) => Read::More,
        };
        if let Read::Len(len, more) = read {
            let tag = self.held.first().copied().filter(|_| self.state == State::Header);
            self.sealed |= tag.is_some_and(|tag| SEALED.contains(&kind(tag)));
            self.held.clear();
            self.state = after(len, more);
        }
        Ok(())
    }

    fn armor(&mut self, bytes: &[u8]) -> Result<()> {
        self.held.extend_from_slice(bytes);
        if !self.sealed && self.held.len() >= ARMOR.len() {
            if !self.held.starts_with(ARMOR) {
                return Err(no_message("it begins with something else"));
            }
            self.sealed = true;
        }
        if self.sealed {
            let drop = self.held.len().saturating_sub(TAIL);
            self.held.drain(..drop);
        }
        Ok(())
    }

    /// Demands that the message has ended.
    ///
    /// # Errors
    /// It breaks off.
    pub fn finish(&self) -> Result<()> {
        let whole = match self.state {
            State::Armor => self.sealed && self.held.trim_ascii_end().ends_with(ARMOR_END),
            state => state == State::Header && self.held.is_empty() && self.sealed,
        };
        match whole {
            true => Ok(()),
            false => Err(Error::failed("the OpenPGP message breaks off before its end")
                .hint("the source said that all is well, but not all bytes came: run it again")),
        }
    }
}

/// What a packet is, by its first byte in the new format or the old.
fn kind(tag: u8) -> u8 {
    if tag & 0x40 != 0 { tag & 0x3f } else { (tag >> 2) & 0x0f }
}

/// A packet's first byte and what follows it.
fn packet(tag: u8, rest: &[u8]) -> Result<Read> {
    match (tag & 0x80, tag & 0x40, tag & 3) {
        (0, ..) => Err(no_message("a packet does not begin where the one before it ends")),
        (_, 0, 3) => Err(no_message("a packet says no length, so that its end cannot be known")),
        (_, 0, len) if rest.len() == 1 << len => Ok(Read::Len(big_endian(rest), false)),
        (_, 0, _) => Ok(Read::More),
        _ => Ok(new_length(rest)),
    }
}

fn after(left: u64, more: bool) -> State {
    match (left, more) {
        (0, true) => State::Length,
        (0, false) => State::Header,
        _ => State::Body(left, more),
    }
}

/// A length of the new format: of one, two or five bytes, or a partial one.
fn new_length(bytes: &[u8]) -> Read {
    match *bytes {
        [len @ 0..192] => Read::Len(len.into(), false),
        [partial @ 224..255] => Read::Len(1 << (partial & 0x1f), true),
        [high @ 192..224, low] => Read::Len(((u64::from(high) - 192) << 8) + u64::from(low) + 192, false),
        [255, ref len @ ..] if len.len() == 4 => Read::Len(big_endian(len), false),
        _ => Read::More,
    }
}

fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

fn no_message(why: &str) -> Error {
    Error::failed(format!("the source is no whole OpenPGP message: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8], step: usize) -> bool {
        let mut message = Message::default();
        bytes.chunks(step).try_for_each(|chunk| message.feed(chunk)).is_ok() && message.finish().is_ok()
    }

    /// An SKESK of the new format, then sealed data in partial lengths, two and five bytes of length.
    fn packets() -> Vec<u8> {
        let mut bytes = vec![0xc3, 13];
        bytes.extend([7; 13]);
        bytes.extend([0xd2, 0xe9]);
        bytes.extend([1; 512]);
        bytes.extend([0xe0, 1, 192, 8]);
        bytes.extend([2; 200]);
        bytes
    }

    #[test]
    fn every_cut_is_seen() {
        let message = packets();
        for step in [1, 2, 3, 100, message.len()] {
            assert!(whole(&message, step), "step {step}");
            for cut in 0..message.len() {
                assert!(!whole(&message[..cut], step), "cut at {cut}, step {step}");
            }
        }
    }

    #[test]
    fn old_lengths_and_five_bytes_are_read() {
        let body = [3; 300];
        let old = [&[0x8c, 2, 9, 9][..], &[0xa5, 1, 44], &body].concat();
        let long = [&[0xd2, 255, 0, 0, 1, 44][..], &body].concat();
        for message in [old, long] {
            assert!(whole(&message, 7));
            assert!(!whole(&message[..message.len() - 1], 7));
            // Something that follows is no packet.
            assert!(!whole(&[&message[..], b"x"].concat(), 7));
        }
        // A length that is not said proves no end.
        assert!(!whole(&[&[0xa7][..], &body].concat(), 7));
    }

    #[test]
    fn armor_ends_with_its_last_line() {
        let armor = "-----BEGIN PGP MESSAGE-----\n\naGVsbG8=\n=abcd\n-----END PGP MESSAGE-----\n";
        for step in [1, 5, armor.len()] {
            assert!(whole(armor.as_bytes(), step));
            for cut in 0..armor.len() - 1 {
                assert!(!whole(&armor.as_bytes()[..cut], step), "cut at {cut}, step {step}");
            }
        }
    }

    #[test]
    fn anything_else_is_none() {
        for bytes in ["", "a tar", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n-----END PGP MESSAGE-----"] {
            assert!(!whole(bytes.as_bytes(), 3), "{bytes}");
        }
    }

    #[test]
    fn what_we_seal_ourselves_is_whole() {
        use super::super::{Cipher, MessageKey};
        let head = MessageKey::with_cheap_passphrase(Cipher::Cfb)
            .unwrap()
            .head(&"secret".to_string().into())
            .unwrap();
        let message = [&head[..], &[0xf4], &vec![0; 1 << 20], &[5], &[0; 5]].concat();
        assert!(whole(&message, 4096) && !whole(&message[..message.len() - 1], 4096));
    }
}
