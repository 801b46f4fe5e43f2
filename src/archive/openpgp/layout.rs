//! Where a byte of the compressed stream lies in the sealed object: plain arithmetic, because every partial length
//! is 2^20 (see [`super`]).
//!
//! Four coordinates: a *data* offset counts bytes of the compressed stream; a *plain* offset counts bytes that are
//! encrypted (SEIPD v1: prefix, literal packet, MDC packet; v2: literal packet); a *body* offset counts bytes of the
//! SEIPD packet's body (v2 has a tag behind every chunk); an *object* offset counts bytes of the stored object.

use std::ops::Range;

use super::gcm::Gcm;
use super::{Cipher, Opener, cfb, gcm};
use crate::error::Result;

/// Every partial body length but the last (RFC 9580 §4.2.1.4).
pub const PARTIAL: u64 = 1 << 20;
/// Bytes of the random prefix: one AES block and its last two bytes again (RFC 9580 §5.13.1).
pub const PREFIX: u64 = 18;
/// Bytes of the literal packet's own header: format, empty name, date (RFC 9580 §5.9).
pub const LITERAL_HEADER: u64 = 6;
/// Bytes of the MDC packet: tag, length, SHA-1 (RFC 9580 §5.14).
pub const MDC: u64 = 22;
/// A last length is always written in five bytes (RFC 9580 §4.2.1.3), so that it can be counted on.
pub const LAST_LENGTH: u64 = 5;
/// Bytes of an AES block.
const BLOCK: u64 = cfb::BLOCK as u64;
/// Bytes of the AEAD's chunks and of the tag behind each.
const CHUNK: u64 = gcm::CHUNK as u64;
const TAG: u64 = gcm::TAG as u64;

/// The layout of one sealed object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// How it is encrypted.
    pub cipher: Cipher,
    /// Bytes before the SEIPD packet's first length: the SKESK packet and the SEIPD tag.
    pub head: u64,
    /// Bytes of the compressed stream.
    pub data: u64,
}

impl Layout {
    /// The layout of an object of so many bytes; none where no message of ours has as many.
    pub fn of_object(cipher: Cipher, head: u64, object: u64) -> Option<Layout> {
        let with = |data| Layout { cipher, head, data };
        // Every byte of data makes the object longer.
        let (mut low, mut high) = (0, object);
        while low < high {
            let middle = low + (high - low) / 2;
            match with(middle).object() < object {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        Some(with(low)).filter(|layout| layout.object() == object)
    }

    /// Bytes of the literal packet's body.
    fn literal(&self) -> u64 {
        LITERAL_HEADER + self.data
    }

    /// Bytes of the SEIPD packet's body.
    fn body(&self) -> u64 {
        let literal = 1 + self.literal() / PARTIAL + LAST_LENGTH + self.literal();
        self.lead()
            + match self.cipher {
                Cipher::Cfb => PREFIX + literal + MDC,
                Cipher::Aead => literal + (literal.div_ceil(CHUNK) + 1) * TAG,
            }
    }

    /// Bytes of the body that are not encrypted: the version, and with version 2 the algorithms and the salt.
    fn lead(&self) -> u64 {
        match self.cipher {
            Cipher::Cfb => 1,
            Cipher::Aead => (gcm::PARAMETERS.len() + gcm::SALT) as u64,
        }
    }

    /// Bytes of the object.
    pub fn object(&self) -> u64 {
        self.head + self.body() / PARTIAL + LAST_LENGTH + self.body()
    }

    /// The plain offset of a data offset.
    fn plain_of(&self, data: u64) -> u64 {
        let offset = LITERAL_HEADER + data;
        let literal = 1 + lengths_before(offset, self.literal()) + offset;
        match self.cipher {
            Cipher::Cfb => PREFIX + literal,
            Cipher::Aead => literal,
        }
    }

    /// The body offset of a plain offset.
    fn body_of(&self, plain: u64) -> u64 {
        self.lead()
            + match self.cipher {
                Cipher::Cfb => plain,
                Cipher::Aead => plain + plain / CHUNK * TAG,
            }
    }

    /// The object offset of a plain offset.
    fn object_of(&self, plain: u64) -> u64 {
        let offset = self.body_of(plain);
        self.head + lengths_before(offset, self.body()) + offset
    }

    /// What to fetch and decrypt for a range of data.
    pub fn span(&self, data: Range<u64>) -> Span {
        let plain = self.plain_of(data.start)..self.plain_of(data.end.max(data.start + 1) - 1) + 1;
        let block = plain.start / BLOCK * BLOCK;
        let from = match self.cipher {
            // CFB needs the block of ciphertext before the first one wanted.
            Cipher::Cfb => block.saturating_sub(BLOCK),
            Cipher::Aead => block,
        };
        let object = self.object_of(from)..self.object_of(plain.end - 1) + 1;
        Span { layout: Some(*self), data, plain_from: from, object }
    }
}

/// Bytes that the length headers take up to body offset `offset`, its own chunk's included, in a packet of `body`.
fn lengths_before(offset: u64, body: u64) -> u64 {
    let (chunk, full) = (offset / PARTIAL, body / PARTIAL);
    if chunk < full { chunk + 1 } else { full + LAST_LENGTH }
}

/// A range of data, and the range of the object that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// None where nothing is encrypted: data is stored as it is.
    layout: Option<Layout>,
    data: Range<u64>,
    plain_from: u64,
    /// What to fetch.
    pub object: Range<u64>,
}

impl Span {
    /// A range of an object that is not encrypted.
    pub fn clear(data: Range<u64>) -> Span {
        Span { layout: None, object: data.clone(), data, plain_from: 0 }
    }

    /// From the fetched bytes to the data, in `text`: drops the SEIPD packet's lengths, decrypts, drops the literal
    /// packet's. Returns where in `text` the data lies.
    ///
    /// # Errors
    /// The library refuses the key; whether the bytes are what was sealed is not seen here.
    pub fn open(&self, fetched: &[u8], text: &mut Vec<u8>, opener: Option<&Opener>) -> Result<Range<usize>> {
        text.clear();
        let (Some(layout), Some(opener)) = (&self.layout, opener) else {
            text.extend_from_slice(fetched);
            return Ok(0..text.len());
        };
        // The first byte fetched is body, never a length: object_of() points behind its chunk's header.
        copy_body(fetched, layout.body_of(self.plain_from), layout.body(), text);
        match opener {
            Opener::Cfb(session) => self.decrypt_cfb(text, session)?,
            Opener::Gcm(gcm) => self.decrypt_gcm(text, gcm)?,
        }
        let first = (layout.plain_of(self.data.start) - self.plain_from) as usize;
        Ok(first..close_up(text, first, LITERAL_HEADER + self.data.start, layout.literal()))
    }

    /// Decrypts all but the first block, which the second needs; at the very beginning there is none before the first.
    fn decrypt_cfb(&self, text: &mut [u8], session: &[u8]) -> Result<()> {
        let mut iv = [0; cfb::BLOCK];
        let skip = if self.plain_from == 0 { 0 } else { iv.len() };
        iv[..skip].copy_from_slice(&text[..skip]);
        cfb::decrypt_range(session, iv, &mut text[skip..])
    }

    /// Decrypts chunk by chunk, and moves each over the tag of the one before.
    fn decrypt_gcm(&self, text: &mut Vec<u8>, gcm: &Gcm) -> Result<()> {
        let (mut from, mut end, mut plain) = (0, 0, self.plain_from);
        while from < text.len() {
            let at = plain % CHUNK;
            let chunk = from..text.len().min(from + (CHUNK - at) as usize);
            gcm.decrypt_range(plain / CHUNK, at as usize, &mut text[chunk.clone()])?;
            plain += chunk.len() as u64;
            from = chunk.end + gcm::TAG;
            let len = chunk.len();
            text.copy_within(chunk, end);
            end += len;
        }
        text.truncate(end);
        Ok(())
    }
}

/// Where a packet's chunks lie in bytes that begin at body offset `offset`: ranges of them, without the lengths between.
fn chunks(len: usize, mut offset: u64, body: u64) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= len {
            return None;
        }
        let room = (offset / PARTIAL + 1) * PARTIAL - offset;
        let chunk = at..at + (room.min((len - at) as u64) as usize);
        offset += room;
        let length = if offset / PARTIAL < body / PARTIAL { 1 } else { LAST_LENGTH as usize };
        at = chunk.end + length;
        Some(chunk)
    })
}

/// Copies a packet's body out of its chunks, from body offset `offset` on.
fn copy_body(from: &[u8], offset: u64, body: u64, into: &mut Vec<u8>) {
    chunks(from.len(), offset, body).for_each(|chunk| into.extend_from_slice(&from[chunk]));
}

/// Moves a packet's body together in place, from `first` on, which is body offset `offset`; returns its new end.
fn close_up(text: &mut [u8], first: usize, offset: u64, body: u64) -> usize {
    let mut end = first;
    for chunk in chunks(text.len() - first, offset, body) {
        let len = chunk.len();
        text.copy_within(first + chunk.start..first + chunk.end, end);
        end += len;
    }
    end
}
