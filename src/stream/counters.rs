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

/// How much there is to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Total {
    /// So many bytes.
    Known(u64),
    /// About so many: as many as the last time.
    About(u64),
}

impl Total {
    /// Bytes.
    pub fn bytes(self) -> u64 {
        match self {
            Total::Known(bytes) | Total::About(bytes) => bytes,
        }
    }
}

/// What one run has moved so far.
#[derive(Debug, Default)]
pub struct Counters {
    /// What it is of: a job, or an object.
    pub job: String,
    /// Bytes of source: read in a backup, delivered in a restore.
    pub source: Counter,
    /// Bytes of source in frames that are finished: those that `stored` is made of.
    pub framed: Counter,
    /// Bytes as they are stored.
    pub stored: Counter,
    /// Bytes that each store has taken, with the store's name.
    pub stores: Vec<(String, Arc<Counter>)>,
    /// Twice the expected bytes, and one more where they are known; 0 is nothing known.
    total: AtomicU64,
}

impl Counters {
    /// Those of a job.
    pub fn of(job: &str) -> Self {
        Counters { job: job.into(), ..Counters::default() }
    }

    /// The same, with stores that take the bytes.
    pub fn with_stores(self, stores: Vec<(String, Arc<Counter>)>) -> Self {
        Counters { stores, ..self }
    }

    /// What a store has taken.
    pub fn store(&self, name: &str) -> Arc<Counter> {
        self.stores
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, counter)| Arc::clone(counter))
            .unwrap_or_default()
    }

    /// How much there will be.
    pub fn expect(&self, total: Total) {
        let bytes = total.bytes().saturating_mul(2) & !1;
        let known = matches!(total, Total::Known(_));
        self.total.store(if bytes == 0 { 0 } else { bytes | u64::from(known) }, Ordering::Relaxed);
    }

    /// How much there will be; none where nobody knows.
    pub fn total(&self) -> Option<Total> {
        match self.total.load(Ordering::Relaxed) {
            0 => None,
            bytes if bytes & 1 == 1 => Some(Total::Known(bytes / 2)),
            bytes => Some(Total::About(bytes / 2)),
        }
    }

    /// How much of it is done: bytes of source, or stored bytes where nothing else is read.
    pub fn done(&self) -> u64 {
        match self.source.get() {
            0 => self.stored.get(),
            bytes => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_expected_is_known_or_about_or_nothing() {
        let counters = Counters::of("db");
        assert_eq!(counters.total(), None);
        for total in [Total::Known(1), Total::About(1), Total::Known(5 << 40)] {
            counters.expect(total);
            assert_eq!(counters.total(), Some(total));
        }
        counters.expect(Total::Known(0));
        assert_eq!(counters.total(), None);
    }

    #[test]
    fn where_no_source_is_read_stored_bytes_are_what_is_done() {
        let counters = Counters::default();
        counters.stored.add(3);
        assert_eq!(counters.done(), 3);
        counters.source.add(7);
        assert_eq!(counters.done(), 7);
    }
}
