//! Expectations about the members of a tar, looked at while they pass by: a backup can be whole and sound, and still
//! not hold what it was made for.

use crate::error::Result;
use crate::stream::warning::{Warning, WarningKind};
use crate::tar::Entry;
use crate::tar::select::Patterns;

/// What an archive is expected to hold, and how much of that was seen so far.
#[derive(Debug, Clone, Default)]
pub struct Check {
    /// Patterns that are each to match a member.
    expected: Vec<Expected>,
    /// The fewest members.
    min_entries: u64,
    /// Members seen.
    entries: u64,
    /// What else is looked for.
    more: Vec<Box<dyn MemberCheck>>,
}

/// An expectation that somebody else knows: how a product lays out its files, for example.
pub trait MemberCheck: std::fmt::Debug + Send + Sync {
    /// Looks at the next member.
    fn observe(&mut self, entry: &Entry);

    /// Whether it wants to see what is in a member, too; only small files are handed over.
    fn wants(&self, _: &Entry) -> bool {
        false
    }

    /// Looks at what is in a member that it wanted to see, once that has passed by.
    fn contents(&mut self, _: &Entry, _: &[u8]) {}

    /// What the members seen do not meet.
    fn unmet(&self) -> Vec<Warning>;

    /// The same, with what it saw so far.
    fn boxed(&self) -> Box<dyn MemberCheck>;
}

impl Clone for Box<dyn MemberCheck> {
    fn clone(&self) -> Self {
        self.as_ref().boxed()
    }
}

#[derive(Debug, Clone)]
struct Expected {
    glob: String,
    patterns: Patterns,
    seen: bool,
}

impl Check {
    /// Expects a member for each of `globs`, and at least `min_entries` members.
    ///
    /// # Errors
    /// A pattern is none.
    pub fn new(globs: &[String], min_entries: u64) -> Result<Self> {
        let expected = globs.iter().map(|glob| {
            let patterns = Patterns::new(std::slice::from_ref(glob), &[])?;
            Ok(Expected { glob: glob.clone(), patterns, seen: false })
        });
        Ok(Check { expected: expected.collect::<Result<_>>()?, min_entries, ..Check::default() })
    }

    /// Expects what `check` expects.
    pub fn of(check: impl MemberCheck + 'static) -> Self {
        Check { more: vec![Box::new(check)], ..Check::default() }
    }

    /// Expects all that `other` expects, too.
    pub fn and(mut self, other: Check) -> Self {
        self.expected.extend(other.expected);
        self.min_entries = self.min_entries.max(other.min_entries);
        self.more.extend(other.more);
        self
    }

    /// Whether nothing at all is expected.
    pub fn is_empty(&self) -> bool {
        self.expected.is_empty() && self.min_entries == 0 && self.more.is_empty()
    }

    /// Looks at the next member.
    pub fn observe(&mut self, entry: &Entry) {
        self.entries += 1;
        self.more.iter_mut().for_each(|check| check.observe(entry));
        for expected in self.expected.iter_mut().filter(|expected| !expected.seen) {
            expected.seen = expected.patterns.take(&entry.name());
        }
    }

    /// Looks at the name of a member that an older archive holds; [`Check::count_kept`] counts them.
    pub fn observe_kept(&mut self, name: &[u8]) {
        for expected in self.expected.iter_mut().filter(|expected| !expected.seen) {
            expected.seen = expected.patterns.take(name);
        }
    }

    /// Counts members that older archives hold.
    pub fn count_kept(&mut self, members: u64) {
        self.entries += members;
    }

    /// Whether a member's bytes are wanted as well.
    pub fn wants(&self, entry: &Entry) -> bool {
        self.more.iter().any(|check| check.wants(entry))
    }

    /// Looks at the bytes of a member that were wanted.
    pub fn contents(&mut self, entry: &Entry, bytes: &[u8]) {
        let wanting = self.more.iter_mut().filter(|check| check.wants(entry));
        wanting.for_each(|check| check.contents(entry, bytes));
    }

    /// The expectations that were not met by the members seen.
    pub fn unmet(&self) -> Vec<Warning> {
        let unmet = |text: String| Warning::new(WarningKind::UnmetExpectation, text);
        let unseen = self.expected.iter().filter(|expected| !expected.seen);
        let mut warnings: Vec<_> =
            unseen.map(|expected| unmet(format!("no member matches '{}'", expected.glob))).collect();
        if self.entries < self.min_entries {
            let only = if self.entries == 0 { "no".into() } else { format!("only {}", self.entries) };
            let members = if self.entries == 1 { "member" } else { "members" };
            warnings.push(unmet(format!("{only} {members} where {} are expected", self.min_entries)));
        }
        warnings.extend(self.more.iter().flat_map(|check| check.unmet()));
        warnings
    }
}

/// What warnings say.
pub fn texts(warnings: &[Warning]) -> Vec<String> {
    warnings.iter().map(|warning| warning.text.clone()).collect()
}

/// Members for the tests of checks.
#[cfg(test)]
pub(crate) fn entry(path: &str) -> Entry {
    Entry {
        path: path.to_string(),
        path_hex: None,
        kind: crate::tar::EntryType::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: "0".into(),
        size: 0,
        link: None,
        link_hex: None,
        sparse: false,
        at: 0,
        len: 512,
        reference: 0,
        stat: None,
        content: None,
        ctime: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unmet(globs: &[&str], min_entries: u64, names: &[&str]) -> Vec<String> {
        let globs: Vec<_> = globs.iter().map(|glob| glob.to_string()).collect();
        of(Check::new(&globs, min_entries).unwrap(), names)
    }

    fn of(mut check: Check, names: &[&str]) -> Vec<String> {
        names.iter().for_each(|name| check.observe(&entry(name)));
        texts(&check.unmet())
    }

    #[test]
    fn every_pattern_needs_a_member() {
        let layers = "dtr-backup-v*/rethink/layers/";
        let folder = ["dtr-backup-v2.7.5/rethink/layers/"];
        let below = ["dtr-backup-v2.7.5/", "dtr-backup-v2.7.5/rethink/layers/0", "./dtr-backup-v2.7.5/x"];
        for names in [&folder[..], &below] {
            assert_eq!(unmet(&[layers], 0, names), [""; 0], "{names:?}");
        }
        assert_eq!(
            unmet(&[layers, "*/x", "*.conf"], 0, &["dtr-backup-v2.7.5/rethink/layers2", "a/b/x"]),
            [format!("no member matches '{layers}'"), "no member matches '*.conf'".into()]
        );
        assert!(Check::new(&["[".into()], 0).is_err());
    }

    #[test]
    fn members_are_counted() {
        assert_eq!(unmet(&[], 2, &["a", "b"]), [""; 0]);
        assert_eq!(unmet(&[], 3, &["a", "b"]), ["only 2 members where 3 are expected"]);
        assert_eq!(unmet(&[], 2, &["a"]), ["only 1 member where 2 are expected"]);
        assert_eq!(unmet(&["a"], 1, &[]), ["no member matches 'a'", "no members where 1 are expected"]);
        assert_eq!(unmet(&[], 0, &[]), [""; 0]);
    }

    /// Expects no members at all.
    #[derive(Debug, Clone, Default)]
    struct Nothing(Vec<String>);

    impl MemberCheck for Nothing {
        fn observe(&mut self, entry: &Entry) {
            self.0.push(entry.path.clone());
        }

        fn unmet(&self) -> Vec<Warning> {
            self.0.iter().map(|path| Warning::new(WarningKind::Other, format!("{path} is there"))).collect()
        }

        fn boxed(&self) -> Box<dyn MemberCheck> {
            Box::new(self.clone())
        }
    }

    #[test]
    fn the_checks_of_others_see_every_member_and_speak_last() {
        let patterns = Check::new(&["c".into()], 3).unwrap();
        let check = Check::of(Nothing::default()).and(patterns).and(Check::of(Nothing::default()));
        let unmet = of(check, &["a", "b"]);
        let own = ["no member matches 'c'", "only 2 members where 3 are expected"];
        assert_eq!(unmet[..2], own);
        assert_eq!(unmet[2..], ["a is there", "b is there", "a is there", "b is there"]);
    }

    #[test]
    fn a_clone_sees_no_more_of_what_the_other_sees() {
        let mut check = Check::of(Nothing::default());
        check.observe(&entry("a"));
        let clone = check.clone();
        check.observe(&entry("b"));
        assert_eq!(texts(&clone.unmet()), ["a is there"]);
        assert_eq!(texts(&check.unmet()), ["a is there", "b is there"]);
    }

    #[test]
    fn a_check_that_expects_nothing_is_empty() {
        assert!(Check::default().is_empty() && Check::new(&[], 0).unwrap().is_empty());
        assert!(!Check::of(Nothing::default()).is_empty());
        assert!(!Check::new(&[], 1).unwrap().is_empty());
        assert!(!Check::default().and(Check::new(&["a".into()], 0).unwrap()).is_empty());
    }

    #[test]
    fn what_patterns_and_counts_miss_is_an_unmet_expectation() {
        let unmet = Check::new(&["a".into()], 1).unwrap().unmet();
        assert!(unmet.iter().all(|warning| warning.kind == WarningKind::UnmetExpectation), "{unmet:?}");
        assert_eq!(unmet.len(), 2);
    }
}
