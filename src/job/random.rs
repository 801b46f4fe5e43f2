//! Numbers left to chance.

use crate::error::{Error, Result};
use crate::report::hex;

/// Numbers that nobody can foresee.
pub(super) struct Random(blake3::OutputReader);

impl Random {
    /// # Errors
    /// The system has none.
    pub(super) fn new() -> Result<Self> {
        let mut seed = [0; 32];
        sequoia_openpgp::crypto::random(&mut seed)
            .map_err(|e| Error::failed("no random bytes").because(e))?;
        Ok(Self::from(seed))
    }

    /// Always the same ones.
    pub(super) fn from(seed: [u8; 32]) -> Self {
        Random(blake3::Hasher::new_keyed(&seed).finalize_xof())
    }

    /// A number below `limit`, which is not 0. All are equally likely, but for less than one in 2^32.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        (u64::from_le_bytes(bytes) % limit as u64) as usize
    }

    /// At most `count` of these, in any order.
    pub(super) fn some<T>(&mut self, mut all: Vec<T>, count: usize) -> Vec<T> {
        for i in (1..all.len()).rev() {
            all.swap(i, self.below(i + 1));
        }
        all.truncate(count);
        all
    }

    /// A word that nobody can guess.
    pub(super) fn word(&mut self) -> String {
        let mut bytes = [0; 16];
        self.0.fill(&mut bytes);
        hex(&bytes)
    }
}
