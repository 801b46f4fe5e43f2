//! The SEIPD packet (RFC 9580 §5.13), from blocks of plaintext to the bytes that are stored: [`Sealer`] encrypts them,
//! for version 2 on as many threads as there are, and [`Body`] puts them in order into partial lengths of 2^20.

use bytes::Bytes;

use super::cfb::Cfb;
use super::gcm::{self, Gcm};
use super::layout::PARTIAL;
use super::packer::Block;
use super::{MessageKey, PARTIAL_LENGTH, VERSION_1, long_length};
use crate::error::Result;

/// Encrypts blocks.
pub enum Sealer {
    /// Not at all.
    Clear,
    /// SEIPD v1: one after the other.
    Cfb(Box<Cfb>),
    /// SEIPD v2: each alone.
    Gcm(Gcm),
}

/// An encrypted block.
pub struct SealedBlock {
    bytes: Bytes,
    last: bool,
}

impl Sealer {
    /// A sealer at the beginning of a message; without a key, of bytes that are stored as they are.
    ///
    /// # Errors
    /// The session key has not 32 bytes.
    pub fn new(key: Option<&MessageKey>) -> Result<Self> {
        Ok(match key {
            None => Sealer::Clear,
            Some(MessageKey { aead: Some((_, gcm)), .. }) => Sealer::Gcm(gcm.clone()),
            Some(key) => Sealer::Cfb(Cfb::new(&key.session)?.into()),
        })
    }

    /// One for each of so many threads, where blocks may be sealed in any order; otherwise the one that there can be.
    pub fn shared_by(self, threads: usize) -> Vec<Sealer> {
        match self {
            Sealer::Gcm(gcm) => vec![gcm; threads].into_iter().map(Sealer::Gcm).collect(),
            one => vec![one],
        }
    }

    /// Encrypts a block in place.
    ///
    /// # Errors
    /// The library refuses to encrypt.
    pub fn seal(&mut self, mut block: Block) -> Result<SealedBlock> {
        match self {
            Sealer::Clear => {}
            Sealer::Cfb(cfb) => {
                cfb.encrypt(&mut block.text);
                if block.last {
                    cfb.append_sha1(&mut block.text);
                }
            }
            // There is no empty chunk: the tag behind the last one is not its own.
            Sealer::Gcm(_) if block.text.is_empty() => {}
            Sealer::Gcm(gcm) => gcm.seal(block.n, &mut block.text)?,
        }
        // The buffer returns to its pool when the last upload lets go of it.
        Ok(SealedBlock { bytes: Bytes::from_owner(block.text), last: block.last })
    }
}

/// Puts sealed blocks, which come in order, into the packet's partial lengths.
pub struct Body<E> {
    emit: E,
    /// None: nothing is encrypted, and there is no packet.
    packet: Option<Packet>,
}

struct Packet {
    /// Of SEIPD v2: makes the last tag.
    gcm: Option<Gcm>,
    /// Chunks of the AEAD, and bytes of plaintext in them.
    chunks: u64,
    bytes: u64,
    /// What is not known yet to fill a partial length, and how many bytes that are.
    held: Vec<Bytes>,
    len: usize,
}

impl<E: FnMut(Bytes) -> Result<()>> Body<E> {
    /// Emits the message's head, if there is one, and begins the packet.
    ///
    /// # Errors
    /// Those of `emit`.
    pub fn new(key: Option<(&MessageKey, Bytes)>, emit: E) -> Result<Self> {
        let mut body = Body { emit, packet: None };
        if let Some((key, head)) = key {
            (body.emit)(head)?;
            let lead = match &key.aead {
                None => Bytes::from_static(&[VERSION_1]),
                Some((salt, _)) => [&gcm::PARAMETERS[..], salt].concat().into(),
            };
            let gcm = key.aead.as_ref().map(|(_, gcm)| gcm.clone());
            let mut packet = Packet { gcm, chunks: 0, bytes: 0, held: Vec::new(), len: 0 };
            packet.put(lead, &mut body.emit)?;
            body.packet = Some(packet);
        }
        Ok(body)
    }

    /// Appends a block; the last one ends the packet.
    ///
    /// # Errors
    /// Those of `emit`.
    pub fn push(&mut self, sealed: SealedBlock) -> Result<()> {
        let Some(packet) = &mut self.packet else { return (self.emit)(sealed.bytes) };
        if packet.gcm.is_some() && !sealed.bytes.is_empty() {
            packet.chunks += 1;
            packet.bytes += (sealed.bytes.len() - gcm::TAG) as u64;
        }
        packet.put(sealed.bytes, &mut self.emit)?;
        if sealed.last { packet.finish(&mut self.emit) } else { Ok(()) }
    }
}

impl Packet {
    fn put(&mut self, mut bytes: Bytes, emit: &mut impl FnMut(Bytes) -> Result<()>) -> Result<()> {
        while !bytes.is_empty() {
            let remaining = PARTIAL as usize - self.len;
            let now = bytes.split_to(remaining.min(bytes.len()));
            self.len += now.len();
            self.held.push(now);
            if self.len == PARTIAL as usize {
                emit(Bytes::from_static(&[PARTIAL_LENGTH]))?;
                self.release(emit)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, emit: &mut impl FnMut(Bytes) -> Result<()>) -> Result<()> {
        if let Some(gcm) = &self.gcm {
            let tag = gcm.last_tag(self.chunks, self.bytes)?;
            self.put(Bytes::copy_from_slice(&tag), emit)?;
        }
        emit(Bytes::copy_from_slice(&long_length(self.len)))?;
        self.release(emit)
    }

    fn release(&mut self, emit: &mut impl FnMut(Bytes) -> Result<()>) -> Result<()> {
        self.len = 0;
        self.held.drain(..).try_for_each(emit)
    }
}
