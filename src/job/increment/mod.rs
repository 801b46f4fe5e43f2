//! Increments: what of a source is as an older backup of the job has it, and stays there.

use std::time::Duration;

pub(super) mod base;
pub mod compare;
mod content;
pub mod keep;
#[cfg(test)]
mod large;
mod locked;
pub(super) mod reading;
pub mod runs;
pub(super) mod segment;
pub(super) mod shared_check;
mod stamps;

/// How a backup is made that need not hold what older ones hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Increments {
    /// Hold everything this time.
    pub full: bool,
    /// Hold everything when the last archive that does so is older than this.
    pub full_every: Option<Duration>,
    /// How it is told that a file is still the same.
    pub compare: Compare,
    /// When older archives are not needed any more.
    pub rebase: Rebase,
    /// How many bytes are read until what was read is committed, and the run goes on; none: all of them.
    pub segment: Option<u64>,
}

/// How it is told that a file is still the one that a backup has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compare {
    /// By what `lstat` says of it.
    #[default]
    Stat,
    /// By what is in it, times of change and inode numbers aside.
    Content,
}

/// When what an older archive still holds is read again, so that the archive is not needed any more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rebase {
    /// When less than this share of it is needed, 0 to 1.
    pub below: f64,
    /// The most that is read again for that in one backup, as a share of all bytes of the job, 0 to 1.
    pub limit: f64,
}

impl Default for Rebase {
    fn default() -> Self {
        Rebase { below: 0.25, limit: 0.1 }
    }
}
