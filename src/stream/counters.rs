//! What a run has moved so far, counted from any thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes counted from any thread.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts `bytes` more.
    pub fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one run has moved so far.
#[derive(Debug, Default)]
pub struct Counters {
    /// Bytes of source: read in a backup, delivered in a restore.
    pub source: Counter,
    /// Bytes as they are stored.
    pub stored: Counter,
    /// Bytes that each store has taken, with the store's name.
    pub stores: Vec<(String, Arc<Counter>)>,
}

impl Counters {
    /// What a store has taken.
    pub fn store(&self, name: &str) -> Arc<Counter> {
        self.stores
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, counter)| Arc::clone(counter))
            .unwrap_or_default()
    }
}
