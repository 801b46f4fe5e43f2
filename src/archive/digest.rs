//! Size and digest of what is stored.

use crate::error::{Error, Result};

/// Size and digest of a stored object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectDigest {
    /// Bytes.
    pub size: u64,
    /// BLAKE3, hex: what `b3sum` prints.
    pub blake3: String,
}

impl ObjectDigest {
    /// Holds what was read of an object to its end against what is said of it; `name` is what the object is called.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::error::Kind::Damaged) where size or BLAKE3 is another.
    pub fn verify(&self, name: &str, blake3: &str, size: u64) -> Result<()> {
        match self.blake3 == blake3 && self.size == size {
            true => Ok(()),
            false => Err(Error::damaged(format!("{name} is not what was stored: its BLAKE3 differs"))),
        }
    }
}

/// Counts and hashes stored bytes.
pub struct Digest {
    blake3: blake3::Hasher,
    size: u64,
}

impl Digest {
    /// Nothing hashed yet.
    pub fn new() -> Self {
        Digest { blake3: blake3::Hasher::new(), size: 0 }
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.blake3.update(bytes);
        self.size += bytes.len() as u64;
    }

    /// What passed by.
    pub fn finish(&self) -> ObjectDigest {
        ObjectDigest { size: self.size, blake3: self.blake3.finalize().to_hex().to_string() }
    }
}

impl Default for Digest {
    fn default() -> Self {
        Self::new()
    }
}
