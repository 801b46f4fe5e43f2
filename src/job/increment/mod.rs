//! Increments: what of a source is as an older backup of the job has it, and stays there.

use std::time::Duration;

pub(super) mod base;
pub mod compare;
pub mod keep;
pub(super) mod reading;
pub mod runs;

/// How a backup is made that need not hold what older ones hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Increments {
    /// Hold everything this time.
    pub full: bool,
    /// Hold everything when the last archive that does so is older than this.
    pub full_every: Option<Duration>,
}
