//! Size and digest of what is stored.

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
    pub fn finish(&self) -> Stored {
        Stored { size: self.size, blake3: self.blake3.finalize().to_hex().to_string() }
    }
}

impl Default for Digest {
    fn default() -> Self {
        Self::new()
    }
}
