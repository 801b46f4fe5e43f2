//! Wrapping: compressed octets become the octets that are stored, counted and hashed as they pass.

use bytes::Bytes;

use super::openpgp::{self, CHUNK_LEN, Chunk, MessageKey, Packer};
use super::pool::{Lent, Pool};
use crate::error::Result;

/// A pool of buffers for chunks of stored octets.
pub fn chunk_pool(chunks: usize) -> Pool<Vec<u8>> {
    Pool::new(chunks, || Vec::with_capacity(CHUNK_LEN))
}

/// Size and digest of a stored object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Octets.
    pub size: u64,
    /// BLAKE3, hex: what `b3sum` prints.
    pub blake3: String,
}

/// Counts and hashes stored octets.
pub struct Digest {
    blake3: blake3::Hasher,
    size: u64,
}

impl Digest {
    /// Nothing hashed yet.
    pub fn new() -> Self {
        Digest { blake3: blake3::Hasher::new(), size: 0 }
    }

    /// Takes in the next octets.
    pub fn update(&mut self, octets: &[u8]) {
        self.blake3.update(octets);
        self.size += octets.len() as u64;
    }

    /// What passed by.
    pub fn finish(self) -> Stored {
        Stored { size: self.size, blake3: self.blake3.finalize().to_hex().to_string() }
    }
}

impl Default for Digest {
    fn default() -> Self {
        Self::new()
    }
}

/// What leaves the packer: a chunk to encrypt, or octets that are stored as they are.
pub enum Piece {
    /// A chunk of the SEIPD packet.
    Chunk(Chunk),
    /// The message's head; or everything, where nothing is encrypted.
    Clear(Bytes),
}

type Emit<'a, T> = Box<dyn FnMut(T) -> Result<()> + Send + 'a>;

/// Wraps compressed octets: in an OpenPGP message, or in nothing.
pub enum Wrapper<'a> {
    /// An OpenPGP message.
    Sealed(Box<Packer<Emit<'a, Chunk>>>),
    /// Nothing but buffers.
    Plain {
        /// Where the next buffer comes from.
        pool: Pool<Vec<u8>>,
        /// The buffer at hand.
        buffer: Lent<Vec<u8>>,
        /// Where full buffers go.
        emit: Emit<'a, Piece>,
    },
}

impl<'a> Wrapper<'a> {
    /// A wrapper whose pieces go to `emit`.
    pub fn new(
        key: Option<&MessageKey>,
        pool: Pool<Vec<u8>>,
        mut emit: impl FnMut(Piece) -> Result<()> + Send + 'a,
    ) -> Result<Self> {
        let Some(key) = key else {
            return Ok(Wrapper::Plain { buffer: pool.take(), pool, emit: Box::new(emit) });
        };
        emit(Piece::Clear(key.head()))?;
        let chunks: Emit<'a, Chunk> = Box::new(move |chunk| emit(Piece::Chunk(chunk)));
        Ok(Wrapper::Sealed(Box::new(Packer::new(pool, chunks)?)))
    }

    /// A wrapper that encrypts on the thread that pushes: for the catalog, which is small.
    pub fn inline(
        key: Option<MessageKey>,
        mut out: impl FnMut(Bytes) -> Result<()> + Send + 'a,
    ) -> Result<Self> {
        let mut cipher = key.as_ref().map(openpgp::Cipher::new).transpose()?;
        Self::new(key.as_ref(), chunk_pool(CATALOG_CHUNKS), move |piece| out(encrypt(&mut cipher, piece)))
    }

    /// Appends compressed octets.
    pub fn push(&mut self, mut octets: &[u8]) -> Result<()> {
        let (pool, buffer, emit) = match self {
            Wrapper::Sealed(packer) => return packer.push(octets),
            Wrapper::Plain { pool, buffer, emit } => (pool, buffer, emit),
        };
        while !octets.is_empty() {
            let room = CHUNK_LEN - buffer.len();
            let (now, later) = octets.split_at(room.min(octets.len()));
            buffer.extend_from_slice(now);
            octets = later;
            if buffer.len() == CHUNK_LEN {
                let mut next = pool.take();
                next.clear();
                emit(Piece::Clear(Bytes::from_owner(std::mem::replace(buffer, next))))?;
            }
        }
        Ok(())
    }

    /// Finalises the message.
    pub fn finish(self) -> Result<()> {
        match self {
            Wrapper::Sealed(packer) => packer.finish(),
            Wrapper::Plain { buffer, mut emit, .. } => emit(Piece::Clear(Bytes::from_owner(buffer))),
        }
    }
}

/// Chunks of the catalog that may be under way: its parts are small.
pub const CATALOG_CHUNKS: usize = 12;

/// Encrypts a piece, unless it is clear.
pub fn encrypt(cipher: &mut Option<openpgp::Cipher>, piece: Piece) -> Bytes {
    match (piece, cipher) {
        (Piece::Chunk(chunk), Some(cipher)) => cipher.seal(chunk),
        (Piece::Clear(octets), _) => octets,
        (Piece::Chunk(_), None) => unreachable!("chunks are only made where there is a key"),
    }
}
