//! The data that everything is measured with: made from a seed, so the same on every machine, and of the two kinds that
//! a backup of Docker hosts meets: a registry's blobs, which nothing shrinks, and a database's dump, which does.

#![allow(dead_code, reason = "every bench takes its part of it")]

use std::io::{Result, Write};

mod database;
mod registry;
mod tar;

pub use database::database;
#[allow(unused_imports, reason = "every bench takes its part of it")]
pub use registry::{registry, registry_tar};

/// SplitMix64: a word a nanosecond, and nothing that a compressor finds.
pub struct Random(u64);

impl Random {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        let mut words = bytes.chunks_exact_mut(8);
        for word in &mut words {
            word.copy_from_slice(&self.next().to_le_bytes());
        }
        let rest = words.into_remainder();
        rest.copy_from_slice(&self.next().to_le_bytes()[..rest.len()]);
    }
}

/// `len` bytes that do not shrink.
pub fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Random::new(1).fill(&mut bytes);
    bytes
}

/// `len` bytes of a table's pages: numbers of fixed width, of which some grow, some repeat and some are random.
pub fn binary(len: usize) -> Vec<u8> {
    let mut random = Random::new(2);
    let mut bytes = Vec::with_capacity(len + 48);
    for row in 0.. {
        if bytes.len() >= len {
            break;
        }
        let (amount, token) = (random.below(1_000_000), random.next() as u32);
        bytes.extend_from_slice(&[0x28, 0, 3, 0, 0x0A, 0x1C, 0x18, 0]);
        bytes.extend_from_slice(&u64::to_le_bytes(row));
        bytes.extend_from_slice(&(1_795_000_000 + row / 3).to_le_bytes());
        bytes.extend_from_slice(&(amount as f64 / 100.0).to_le_bytes());
        bytes.extend_from_slice(&token.to_le_bytes());
        bytes.extend_from_slice(&(random.below(40) as u32).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// The database's tar, in memory.
pub fn database_tar(size: u64) -> Vec<u8> {
    in_memory(size, |out| database(size, out))
}

/// A tar of `files` members of 4 KiB, in memory: as many headers as data can have.
pub fn small_tar(files: u64) -> Vec<u8> {
    const LEN: u64 = 4096;
    in_memory(files * (LEN + 512), |out| {
        for n in 0..files {
            tar::header(&format!("small/{:03}/{n:06}.dat", n / 1000), LEN, out)?;
            write_noise(n, LEN, out)?;
        }
        tar::end(out)
    })
}

fn in_memory(size: u64, write: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Vec<u8> {
    // Room for headers, too: growing would copy it all.
    let mut out = Vec::with_capacity(size as usize + (4 << 20));
    write(&mut out).unwrap_or_else(|e| unreachable!("a vector takes every byte: {e}"));
    out
}

/// Writes `len` bytes of noise from `seed`.
fn write_noise(seed: u64, len: u64, out: &mut impl Write) -> Result<()> {
    let mut random = Random::new(seed);
    let mut piece = vec![0; len.min(256 << 10) as usize];
    let mut left = len;
    while left > 0 {
        let now = left.min(piece.len() as u64) as usize;
        random.fill(&mut piece[..now]);
        out.write_all(&piece[..now])?;
        left -= now as u64;
    }
    Ok(())
}
