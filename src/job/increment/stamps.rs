//! Which fingerprint each member has that tar read.

use std::cmp::Ordering;
use std::sync::mpsc;

use crate::tar::stat::Stat;
use crate::tar::{Entry, name};

/// A file that tar was told of.
pub(super) struct Sent {
    pub(super) name: Vec<u8>,
    /// The path that tar was told.
    pub(super) walked: Vec<u8>,
    pub(super) stat: Stat,
    /// Whether it comes behind all others: those are in path order again.
    pub(super) is_late: bool,
}

/// The fingerprints of files that tar was told of, for its members as they come: in path order, but for some that come behind
/// all others, and some that may be missing. Each file was noted before tar was told of it.
pub(super) struct Stamps {
    sent: mpsc::Receiver<Sent>,
    next: Option<Sent>,
    last: Vec<u8>,
    is_late: bool,
}

impl Stamps {
    pub(super) fn new(sent: mpsc::Receiver<Sent>) -> Self {
        Stamps { sent, next: None, last: Vec::new(), is_late: false }
    }

    /// Gives a member the fingerprint of its file, and says by which path tar was told of it. One that is of none has none,
    /// and those behind it have theirs.
    pub(super) fn stamp(&mut self, entry: &mut Entry) -> Option<Vec<u8>> {
        let full_name = entry.name();
        let named = name::plain(&full_name);
        self.is_late |= name::path_order(named, &self.last).is_lt();
        self.last = named.to_vec();
        entry.stat = None;
        while let Some(sent) = self.next.take().or_else(|| self.sent.try_recv().ok()) {
            let is_passed = self.is_late && !sent.is_late;
            match name::path_order(&sent.name, named) {
                Ordering::Equal if !is_passed => {
                    entry.stat = Some(sent.stat);
                    return Some(sent.walked);
                }
                Ordering::Greater if !is_passed => {
                    self.next = Some(sent);
                    return None;
                }
                // It was gone before its turn.
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::check::entry;
    use crate::tar::stat::FileTime;

    fn stat(inode: u64) -> Stat {
        let time = FileTime { seconds: 1, nanos: 2 };
        Stat { mode: 0o100_644, uid: 1, gid: 2, size: 3, inode, mtime: time, ctime: time }
    }

    /// The inodes that members get, where these names were told: each with its place as inode.
    fn stamped(told: &[(&str, bool)], members: &[&str]) -> Vec<Option<u64>> {
        let (stamps, stamped) = mpsc::channel();
        for (inode, (name, is_late)) in (1..).zip(told) {
            let walked = b"walked".into();
            let sent = Sent { name: (*name).into(), walked, stat: stat(inode), is_late: *is_late };
            stamps.send(sent).unwrap();
        }
        let mut stamps = Stamps::new(stamped);
        let inode_of = |path: &&str| {
            let mut entry = entry(path);
            let walked = stamps.stamp(&mut entry);
            assert_eq!(walked.is_some(), entry.stat.is_some());
            entry.stat.map(|stat| stat.inode)
        };
        members.iter().map(inode_of).collect()
    }

    #[test]
    fn members_have_the_fingerprints_of_their_files_and_a_file_that_vanished_is_passed_over() {
        let told = ["d", "d/a", "d/gone", "d/z", "late"].map(|name| (name, false));
        let stamped = stamped(&told, &["./d/", "d/a", "d/z", "other"]);
        assert_eq!(stamped, [Some(1), Some(2), Some(4), None], "and nobody waits for it");
    }

    #[test]
    fn a_member_that_nobody_told_of_has_no_fingerprint_and_those_behind_it_have_theirs() {
        let told = ["a", "c", "e"].map(|name| (name, false));
        assert_eq!(stamped(&told, &["a", "b", "c", "d", "e"]), [Some(1), None, Some(2), None, Some(3)]);
    }

    #[test]
    fn files_that_come_behind_all_others_are_in_path_order_again() {
        let told = [("b", false), ("y", false), ("z", false), ("a", true), ("c", true), ("z", true)];
        // What vanished at the end of the first run does not hide those of the second.
        assert_eq!(stamped(&told, &["b", "a", "c", "z"]), [Some(1), Some(4), Some(5), Some(6)]);
        assert_eq!(stamped(&told, &["b", "y", "z", "a", "z"]), [Some(1), Some(2), Some(3), Some(4), Some(6)]);
    }
}
