//! Expectations about the members of a tar, looked at while they pass by: a backup can be whole and sound, and still
//! not hold what it was made for.

use std::collections::HashSet;

use crate::error::Result;
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
    /// The layout of a registry, where one is expected.
    registry: Option<Registry>,
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

    /// Expects the files of a Docker registry, each of its links naming a blob that is there.
    pub fn registry() -> Self {
        Check { registry: Some(Registry::default()), ..Check::default() }
    }

    /// Expects all that `other` expects, too.
    pub fn and(mut self, other: Check) -> Self {
        self.expected.extend(other.expected);
        self.min_entries = self.min_entries.max(other.min_entries);
        self.registry = self.registry.or(other.registry);
        self
    }

    /// Whether nothing at all is expected.
    pub fn is_empty(&self) -> bool {
        self.expected.is_empty() && self.min_entries == 0 && self.registry.is_none()
    }

    /// Looks at the next member.
    pub fn look(&mut self, entry: &Entry) {
        self.entries += 1;
        if let Some(registry) = &mut self.registry {
            registry.look(&entry.path);
        }
        for expected in self.expected.iter_mut().filter(|expected| !expected.seen) {
            expected.seen = expected.patterns.take(&entry.path);
        }
    }

    /// The expectations that were not met by the members seen.
    pub fn finish(&self) -> Vec<String> {
        let unseen = self.expected.iter().filter(|expected| !expected.seen);
        let mut unmet: Vec<_> =
            unseen.map(|expected| format!("no member matches '{}'", expected.glob)).collect();
        if self.entries < self.min_entries {
            let only = if self.entries == 0 { "no".into() } else { format!("only {}", self.entries) };
            let members = if self.entries == 1 { "member" } else { "members" };
            unmet.push(format!("{only} {members} where {} are expected", self.min_entries));
        }
        unmet.extend(self.registry.iter().flat_map(Registry::finish));
        unmet
    }
}

/// A SHA-256.
type Digest = [u8; 32];

/// What a Docker registry's folder holds: `docker/registry/v2/blobs/sha256/ab/ab…/data`, and links below
/// `docker/registry/v2/repositories` whose names end with `sha256/ab…/link`.
#[derive(Debug, Clone, Default)]
struct Registry {
    blobs: HashSet<Digest>,
    links: HashSet<Digest>,
    seen: bool,
}

/// What a warning about links begins with: [`is_dangling`] knows it by that.
const DANGLING: &str = "the registry has links to blobs that are not in the backup";

/// Whether an unmet expectation is about links without blobs.
pub fn is_dangling(text: &str) -> bool {
    text.starts_with(DANGLING)
}

impl Registry {
    fn look(&mut self, path: &str) {
        let Some((_, below)) = path.split_once("docker/registry/v2/") else { return };
        self.seen = true;
        let parts: Vec<_> = below.split('/').collect();
        match parts[..] {
            ["blobs", "sha256", _, hex, "data"] => self.blobs.extend(digest(hex)),
            ["repositories", .., "sha256", hex, "link"] => self.links.extend(digest(hex)),
            _ => {}
        }
    }

    fn finish(&self) -> Option<String> {
        if !self.seen {
            return Some("no registry's files: nothing lies in docker/registry/v2/".into());
        }
        let mut dangling = self.links.difference(&self.blobs);
        let first = dangling.next()?;
        let (count, first) = (1 + dangling.count(), super::hex(first));
        Some(format!(
            "{DANGLING}: {count}, such as sha256:{first} (pushed meanwhile, or left by a garbage collection)"
        ))
    }
}

fn digest(hex: &str) -> Option<Digest> {
    let byte = |i: usize| u8::from_str_radix(hex.get(2 * i..2 * i + 2)?, 16).ok();
    let mut digest = Digest::default();
    for (i, to) in digest.iter_mut().enumerate() {
        *to = byte(i)?;
    }
    (hex.len() == 64).then_some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::EntryType;

    fn unmet(globs: &[&str], min_entries: u64, names: &[&str]) -> Vec<String> {
        let globs: Vec<_> = globs.iter().map(|glob| glob.to_string()).collect();
        of(Check::new(&globs, min_entries).unwrap(), names)
    }

    fn of(mut check: Check, names: &[&str]) -> Vec<String> {
        for name in names {
            check.look(&Entry {
                path: name.to_string(),
                path_hex: None,
                kind: EntryType::File,
                mode: 0o644,
                uid: 0,
                gid: 0,
                mtime: "0".into(),
                size: 0,
                link: None,
                sparse: false,
                at: 0,
                len: 512,
            });
        }
        check.finish()
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
    fn a_registrys_links_need_their_blobs() {
        let (a, b) = ("aa".repeat(32), "bb".repeat(32));
        let blob = |hex: &str| format!("v/_data/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
        let link =
            |hex: &str| format!("v/_data/docker/registry/v2/repositories/team/app/_layers/sha256/{hex}/link");
        let unmet =
            |names: &[String]| of(Check::registry(), &names.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(unmet(&[link(&a), blob(&a)]), [""; 0]);
        let dangling = unmet(&[blob(&a), link(&a), link(&b)]);
        assert!(dangling.len() == 1 && is_dangling(&dangling[0]) && dangling[0].contains(&b), "{dangling:?}");
        assert!(unmet(&["v/_data/other".into()])[0].contains("no registry's files"));
    }

    #[test]
    fn members_are_counted() {
        assert_eq!(unmet(&[], 2, &["a", "b"]), [""; 0]);
        assert_eq!(unmet(&[], 3, &["a", "b"]), ["only 2 members where 3 are expected"]);
        assert_eq!(unmet(&[], 2, &["a"]), ["only 1 member where 2 are expected"]);
        assert_eq!(unmet(&["a"], 1, &[]), ["no member matches 'a'", "no members where 1 are expected"]);
        assert_eq!(unmet(&[], 0, &[]), [""; 0]);
    }
}
