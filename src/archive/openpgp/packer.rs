//! What a message says, before it is encrypted: one literal packet (RFC 9580 §5.9) whose partial lengths are all 2^20,
//! with what SEIPD v1 puts around it. Laid out in blocks, on one thread; [`super::layout`] is the way back.

use super::layout::{LITERAL_HEADER, MDC, PARTIAL, PREFIX};
use super::{Cipher, PARTIAL_LENGTH, long_length};
use crate::error::{Context, Result};
use crate::stream::pool::{Pool, Pooled};

const TAG_LITERAL: u8 = 0xCB;
const TAG_MDC: u8 = 0xD3;
/// Bytes of the SHA-1 in the MDC packet, behind tag and length.
const SHA1: usize = MDC as usize - 2;
/// The literal packet's header: binary, no file name, no date.
const HEADER: [u8; LITERAL_HEADER as usize] = [b'b', 0, 0, 0, 0, 0];

/// Bytes that a block's buffer must be able to hold: what is encrypted in one go, with a tag or a SHA-1 behind it.
const BLOCK_LEN: usize = PARTIAL as usize + SHA1;

/// A pool of buffers for blocks.
pub fn block_pool(blocks: usize) -> Pool<Vec<u8>> {
    Pool::new(blocks, || Vec::with_capacity(BLOCK_LEN))
}

/// A run of plaintext: what is encrypted in one go.
pub struct Block {
    /// Its bytes.
    pub text: Pooled<Vec<u8>>,
    /// Its number, from 0.
    pub n: u64,
    /// Whether it is the message's last one, which may be empty.
    pub last: bool,
}

/// Lays the packets out in blocks.
///
/// A literal packet's length stands before its bytes. It is written as that of a full one, so that nothing has to wait
/// to be copied; the last, which is shorter, is taken back at the end and written anew.
pub struct Packer<E> {
    /// None: nothing is encrypted, and there are no packets.
    cipher: Option<Cipher>,
    buffers: Pool<Vec<u8>>,
    emit: E,
    block: Block,
    /// The block before, where the literal packet's length at hand stands in it and may yet be taken back.
    held: Option<Block>,
    literal: Literal,
}

/// The part of the literal packet at hand.
#[derive(Default)]
struct Literal {
    /// Where its length stands: in the held block if there is one, else in the one at hand. None: not begun.
    at: Option<usize>,
    /// Its bytes.
    len: usize,
}

impl<E: FnMut(Block) -> Result<()>> Packer<E> {
    /// A packer at the beginning of a message, or of bytes that are stored as they are; blocks are laid out in `buffers`
    /// and handed to `emit`.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new(cipher: Option<Cipher>, buffers: Pool<Vec<u8>>, emit: E) -> Result<Self> {
        let mut packer = Packer {
            cipher,
            block: empty(&buffers, 0),
            held: None,
            buffers,
            emit,
            literal: Literal::default(),
        };
        if cipher == Some(Cipher::Cfb) {
            let mut prefix = [0; PREFIX as usize];
            sequoia_openpgp::crypto::random(&mut prefix[..16]).context(|| "no random bytes".into())?;
            prefix.copy_within(14..16, 16);
            packer.put(&prefix)?;
        }
        if cipher.is_some() {
            packer.put(&[TAG_LITERAL])?;
            packer.push(&HEADER)?;
        }
        Ok(packer)
    }

    /// Appends bytes of the compressed stream.
    ///
    /// # Errors
    /// Those of `emit`.
    pub fn push(&mut self, mut data: &[u8]) -> Result<()> {
        if self.cipher.is_none() {
            return self.put(data);
        }
        while !data.is_empty() {
            if self.literal.at.is_none() {
                self.literal.at = Some(self.block.text.len());
                self.put(&[PARTIAL_LENGTH])?;
            }
            let room = PARTIAL as usize - self.literal.len;
            let (now, later) = data.split_at(room.min(data.len()));
            self.literal.len += now.len();
            if now.len() == room {
                // It is a full one: its length stands.
                self.literal = Literal::default();
                self.held.take().map_or(Ok(()), &mut self.emit)?;
            }
            self.put(now)?;
            data = later;
        }
        Ok(())
    }

    /// Ends the literal packet, begins the MDC packet, whose SHA-1 whoever encrypts it adds, and hands out the last block.
    ///
    /// A packer that is dropped without this leaves a message that no reader accepts.
    ///
    /// # Errors
    /// Those of `emit`.
    pub fn finish(mut self) -> Result<()> {
        if self.cipher.is_some() {
            let rest = self.take_back();
            self.put(&long_length(rest.len()))?;
            self.put(&rest)?;
        }
        if self.cipher == Some(Cipher::Cfb) {
            self.put(&[TAG_MDC, SHA1 as u8])?;
        }
        self.block.last = true;
        (self.emit)(self.block)
    }

    /// Takes the literal packet's last part back, its length included; returns its bytes.
    fn take_back(&mut self) -> Vec<u8> {
        let Some(at) = std::mem::take(&mut self.literal).at else { return Vec::new() };
        let mut after = Vec::new();
        if let Some(held) = self.held.take() {
            after.extend_from_slice(&self.block.text);
            self.block = held;
        }
        let mut rest = self.block.text.split_off(at + 1);
        rest.extend_from_slice(&after);
        self.block.text.truncate(at);
        rest
    }

    /// Writes bytes that will be encrypted.
    fn put(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let room = self.full_len() - self.block.text.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.block.text.extend_from_slice(now);
            bytes = later;
            if now.len() == room {
                let next = empty(&self.buffers, self.block.n + 1);
                let full = std::mem::replace(&mut self.block, next);
                // A part that began in the block before is full before this one is: one is held at most.
                match self.literal.at {
                    Some(_) => self.held = Some(full),
                    None => (self.emit)(full)?,
                }
            }
        }
        Ok(())
    }

    /// Bytes of the block at hand once it is full. SEIPD v1's version stands before the first, in the same partial length.
    fn full_len(&self) -> usize {
        match self.cipher {
            Some(Cipher::Cfb) if self.block.n == 0 => PARTIAL as usize - 1,
            _ => PARTIAL as usize,
        }
    }
}

fn empty(buffers: &Pool<Vec<u8>>, n: u64) -> Block {
    let mut text = buffers.get();
    text.clear();
    Block { text, n, last: false }
}
