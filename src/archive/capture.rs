//! The bytes of a few small members, kept while a tar passes by: what they say is held against the other members.

use std::ops::Range;

use super::check::Check;
use crate::tar::Entry;

/// Bytes of the largest member that is kept.
const LARGEST: u64 = 4 << 20;

/// Members whose bytes are wanted, and what of them has passed by.
#[derive(Debug, Default)]
pub struct Captures(Vec<(Entry, Range<u64>, Vec<u8>)>);

impl Captures {
    /// Takes in the source's bytes from `at` on, and the members whose headers end in them: the check sees every member,
    /// and the bytes of those that it wants once they are complete.
    pub fn observe(&mut self, at: u64, bytes: &[u8], entries: &[Entry], check: &mut Check) {
        for entry in entries {
            check.observe(entry);
            let data = entry.data().filter(|data| data.end - data.start <= LARGEST && check.wants(entry));
            self.0.extend(data.map(|data| (entry.clone(), data, Vec::new())));
        }
        for (entry, data, kept) in &mut self.0 {
            let from = (data.start + kept.len() as u64).max(at);
            let to = data.end.min(at + bytes.len() as u64);
            if from < to {
                kept.extend_from_slice(&bytes[(from - at) as usize..(to - at) as usize]);
            }
            if kept.len() as u64 == data.end - data.start {
                check.contents(entry, kept);
            }
        }
        self.0.retain(|(_, data, kept)| (kept.len() as u64) < data.end - data.start);
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::MemberCheck;
    use super::*;
    use crate::stream::warning::Warning;
    use crate::tar::{EntryType, Walker};

    /// Keeps what it is given, and tells it.
    #[derive(Debug, Clone, Default)]
    struct Keeps(Vec<(String, usize)>);

    impl MemberCheck for Keeps {
        fn observe(&mut self, _: &Entry) {}
        fn wants(&self, entry: &Entry) -> bool {
            entry.kind == EntryType::File
        }
        fn contents(&mut self, entry: &Entry, bytes: &[u8]) {
            assert!(bytes.iter().all(|&byte| byte == entry.path.as_bytes()[0]));
            self.0.push((entry.path.clone(), bytes.len()));
        }
        fn unmet(&self) -> Vec<Warning> {
            self.0.iter().map(|(path, len)| Warning::other(format!("{path} {len}"))).collect()
        }
        fn boxed(&self) -> Box<dyn MemberCheck> {
            Box::new(self.clone())
        }
    }

    #[test]
    fn members_arrive_whole_however_the_source_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let script = "printf aaaaa > a; head -c 1300 /dev/zero | tr '\\0' b > b; : > c; truncate -s 5M d; mkdir e; tar -cf - a b c d e";
        let made =
            std::process::Command::new("sh").args(["-ec", script]).current_dir(dir.path()).output().unwrap();
        for step in [1, 100, 511, 512, 513, 4096, made.stdout.len()] {
            let (mut walker, mut captures, mut check) =
                (Walker::new(), Captures::default(), Check::of(Keeps::default()));
            let mut at = 0;
            for chunk in made.stdout.chunks(step) {
                let mut entries = Vec::new();
                walker.feed(chunk, &mut entries).unwrap();
                captures.observe(at, chunk, &entries, &mut check);
                at += chunk.len() as u64;
            }
            let told: Vec<_> = check.unmet().into_iter().map(|warning| warning.text).collect();
            // What is larger than the bound is not kept.
            assert_eq!(told, ["a 5", "b 1300", "c 0"], "{step}");
        }
    }
}
