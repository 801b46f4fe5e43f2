//! A registry's folder: blobs that are compressed already, and the many small links that name them.

use std::collections::HashSet;
use std::io::{Result, Write};

use super::{Random, in_memory, tar, write_noise};

const REPOSITORIES: u64 = 24;
const KB: u64 = 1_000;
const MB: u64 = 1_000_000;

/// A file of a registry.
pub struct File {
    /// Its name below the registry's folder.
    pub path: String,
    /// Its bytes.
    pub len: u64,
    content: Content,
}

enum Content {
    Noise(u64),
    Text(String),
}

impl File {
    /// Writes its bytes.
    pub fn write(&self, out: &mut impl Write) -> Result<()> {
        match &self.content {
            Content::Noise(seed) => write_noise(*seed, self.len, out),
            Content::Text(text) => out.write_all(text.as_bytes()),
        }
    }
}

/// The files of a registry whose blobs have about `size` bytes together.
pub fn registry(size: u64) -> Vec<File> {
    let mut random = Random::new(3);
    let mut files = Vec::new();
    let mut left = size;
    while left > 0 {
        // A small tree should still be one: no blob is more than an eighth of it.
        let len = blob_len(&mut random).min(size / 8 + 1).min(left);
        left -= len;
        let hex: String = (0..4).map(|_| format!("{:016x}", random.next())).collect();
        files.push(File {
            path: format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]),
            len,
            content: Content::Noise(random.next()),
        });
        let (text, team) = (format!("sha256:{hex}"), random.below(REPOSITORIES));
        files.push(File {
            path: format!(
                "docker/registry/v2/repositories/team{}/app{team}/_layers/sha256/{hex}/link",
                team % 5
            ),
            len: text.len() as u64,
            content: Content::Text(text),
        });
    }
    let distinct: HashSet<_> = files.iter().map(|file| &file.path).collect();
    assert_eq!(distinct.len(), files.len(), "two blobs have one name");
    files
}

/// Manifests and configurations are small; layers have mostly some megabytes, a few have a hundred and more.
fn blob_len(random: &mut Random) -> u64 {
    match random.below(100) {
        0..35 => between(random, KB, 20 * KB),
        35..95 => between(random, 2 * MB, 60 * MB),
        _ => between(random, 60 * MB, 200 * MB),
    }
}

/// As likely between 1 and 2 as between 10 and 20.
fn between(random: &mut Random, least: u64, most: u64) -> u64 {
    let (low, high) = ((least as f64).ln(), (most as f64).ln());
    let share = random.below(1 << 32) as f64 / (1u64 << 32) as f64;
    (low + share * (high - low)).exp() as u64
}

/// The registry's tar, in memory.
pub fn registry_tar(size: u64) -> Vec<u8> {
    in_memory(size, |out| {
        for file in registry(size) {
            tar::header(&file.path, file.len, out)?;
            file.write(out)?;
            tar::pad(file.len, out)?;
        }
        tar::end(out)
    })
}
