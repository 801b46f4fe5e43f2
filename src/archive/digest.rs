//! Size and digest of what is stored.

/// Size and digest of a stored object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectDigest {
    /// Bytes.
    pub size: u64,
    /// BLAKE3, hex: what `b3sum` prints.
    pub blake3: String,
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
