//! Where a long scan is cut, so that what was read by then can be committed.

use std::cmp::Ordering;

use crate::source::Scanned;
use crate::tar::name;

/// What a member takes in a tar beside its contents.
const HEADER: u64 = 512;

/// A part of a long run: once so many bytes were sent, the scan is cut at the next file.
///
/// Only what lies at or behind the place where the run's last scan was cut is counted. Each cut so comes behind the one before
/// it, and a run ends however fast files before that place change.
#[derive(Debug, Clone)]
pub(in crate::job) struct Segment {
    size: u64,
    from: Option<Vec<u8>>,
    sent: u64,
}

impl Segment {
    /// A segment of so many bytes, of a run whose last scan was cut at the file `from`.
    pub(in crate::job) fn new(size: u64, from: Option<Vec<u8>>) -> Self {
        Segment { size, from, sent: 0 }
    }

    /// Counts a file that is sent.
    pub(super) fn count(&mut self, file: &Scanned) {
        let is_before = |from: &Vec<u8>| name::path_order(&file.name, from) == Ordering::Less;
        if self.from.as_ref().is_none_or(|from| !is_before(from)) {
            let contents = if file.stat.is_file() { file.stat.size } else { 0 };
            self.sent = self.sent.saturating_add(contents).saturating_add(HEADER);
        }
    }

    /// Whether nothing more is to be sent.
    pub(super) fn is_full(&self) -> bool {
        self.sent >= self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::stat::{FileTime, Stat};

    fn file(name: &str, size: u64) -> Scanned {
        let time = FileTime { seconds: 1, nanos: 2 };
        let stat = Stat { mode: 0o100_644, uid: 1, gid: 2, size, inode: 3, mtime: time, ctime: time };
        Scanned { name: name.into(), walked: name.into(), stat, device: 1, links: 1 }
    }

    #[test]
    fn a_segment_is_full_when_its_bytes_were_sent() {
        let mut segment = Segment::new(3 * HEADER + 100, None);
        segment.count(&file("a", 99));
        segment.count(&file("b", 0));
        assert!(!segment.is_full());
        segment.count(&file("c", 1));
        assert!(segment.is_full());
    }

    #[test]
    fn what_lies_before_the_last_cut_and_changed_again_does_not_cut_at_the_same_place() {
        let mut segment = Segment::new(1000, Some(b"m".to_vec()));
        for _ in 0..3 {
            segment.count(&file("log", 1 << 40));
        }
        assert!(!segment.is_full());
        segment.count(&file("m", 1000));
        assert!(segment.is_full());
    }
}
