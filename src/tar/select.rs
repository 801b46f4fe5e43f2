//! Which members of an archive are wanted, and which bytes of its source they are.

use std::collections::HashSet;
use std::ops::Range;

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::{Entry, EntryType};
use crate::error::{Error, Result};

/// Glob patterns on members' names. A pattern that names a folder takes what is in it too.
#[derive(Debug, Clone)]
pub struct Patterns {
    /// None: everything.
    include: Option<GlobSet>,
    exclude: GlobSet,
}

impl Patterns {
    /// Patterns as shells write them; `*` matches slashes too.
    ///
    /// # Errors
    /// A pattern is none.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self> {
        let set = |patterns: &[String]| {
            let mut set = GlobSetBuilder::new();
            for pattern in patterns {
                let glob =
                    Glob::new(pattern.trim_start_matches("./").trim_end_matches('/')).map_err(|e| {
                        Error::usage(format!("{pattern:?} is no pattern"))
                            .because(e)
                            .hint("as in a shell: 'etc/*.conf'")
                    })?;
                set.add(glob);
            }
            set.build().map_err(|e| Error::usage("too many patterns").because(e))
        };
        let include = (!include.is_empty()).then(|| set(include)).transpose()?;
        Ok(Patterns { include, exclude: set(exclude)? })
    }

    /// Whether they take everything.
    pub fn take_all(&self) -> bool {
        self.include.is_none() && self.exclude.is_empty()
    }

    /// Whether a member of this name is taken.
    pub fn take(&self, name: &str) -> bool {
        let name = name.trim_start_matches("./").trim_end_matches('/');
        let folders = name.char_indices().filter(|&(_, c)| c == '/').map(|(i, _)| &name[..i]);
        let names: Vec<&str> = folders.chain([name]).collect();
        let is_in = |set: &GlobSet| names.iter().any(|name| set.is_match(name));
        self.include.as_ref().is_none_or(is_in) && !is_in(&self.exclude)
    }
}

/// The members that were found wanted.
#[derive(Debug, Default, Clone)]
pub struct Selection {
    /// Ranges of the source, in order, neighbours joined.
    pub ranges: Vec<Range<u64>>,
    /// How many members.
    pub count: u64,
    /// Targets of wanted hard links that are not wanted by themselves.
    pub targets: HashSet<String>,
    /// The folders that the member at hand lies in, from the outside in, and where each stands in the source.
    around: Vec<(String, Range<u64>)>,
    /// Whether a wanted member brings the folders around it.
    brings_folders: bool,
}

impl Selection {
    /// Nothing selected yet. To be unpacked, a member needs the folders around it: with their owners and modes, and so
    /// that a symlink that stands where a folder was is replaced, not followed.
    pub fn new(to_be_unpacked: bool) -> Self {
        Selection { brings_folders: to_be_unpacked, ..Selection::default() }
    }

    /// Looks at the next member, and takes it where a pattern or `wanted` says so.
    pub fn look(&mut self, entry: &Entry, patterns: &Patterns, wanted: bool) -> bool {
        let path = entry.path.trim_end_matches('/');
        let lies_in = |folder: &str| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
        while self.around.last().is_some_and(|(folder, _)| !lies_in(folder)) {
            self.around.pop();
        }
        let taken = wanted || patterns.take(&entry.path);
        if taken {
            self.add(entry);
            let target = entry.link.as_ref().filter(|_| entry.kind == EntryType::Link);
            self.targets.extend(target.filter(|target| !wanted && !patterns.take(target)).cloned());
        }
        if entry.kind == EntryType::Dir && self.brings_folders {
            self.around.push((path.into(), entry.at..entry.at + entry.len));
        }
        taken
    }

    /// Takes a member, and before it the folders around it that were not taken yet.
    fn add(&mut self, entry: &Entry) {
        self.count += 1;
        let taken = self.ranges.last().map_or(0, |last| last.end);
        let around = self.around.iter().map(|(_, range)| range.clone()).filter(|range| range.start >= taken);
        for range in around.chain(std::iter::once(entry.at..entry.at + entry.len)).collect::<Vec<_>>() {
            match self.ranges.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => self.ranges.push(range),
            }
        }
    }
}

/// Why a member may not be unpacked: it would reach outside, or make a device.
pub fn unsafe_member(entry: &Entry, allow_devices: bool) -> Option<&'static str> {
    let outside = |name: &str| name.starts_with('/') || name.split('/').any(|part| part == "..");
    let hard_link = entry.link.as_deref().filter(|_| entry.kind == EntryType::Link);
    match entry.kind {
        _ if outside(&entry.path) => Some("its name leads outside of the target"),
        _ if hard_link.is_some_and(outside) => Some("it is a hard link that leads outside of the target"),
        EntryType::Char | EntryType::Block if !allow_devices => Some("it is a device node"),
        EntryType::Other => Some("its type is unknown"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: EntryType, link: Option<&str>, at: u64) -> Entry {
        let link = link.map(String::from);
        let (mode, uid, gid, size, len) = (0o644, 0, 0, 0, 512);
        Entry {
            path: path.into(),
            path_hex: None,
            kind,
            mode,
            uid,
            gid,
            mtime: "0".into(),
            size,
            link,
            sparse: false,
            at,
            len,
        }
    }

    fn patterns(include: &[&str], exclude: &[&str]) -> Patterns {
        let own = |list: &[&str]| list.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        Patterns::new(&own(include), &own(exclude)).unwrap()
    }

    #[test]
    fn a_pattern_takes_names_and_what_is_below_them() {
        let p = patterns(&["etc", "*.conf"], &["etc/secret*"]);
        for (name, taken) in [
            ("etc/", true),
            ("./etc/a/b", true),
            ("srv/x.conf", true),
            ("srv/x", false),
            ("etc/secrets/key", false),
            ("etcetera", false),
        ] {
            assert_eq!(p.take(name), taken, "{name}");
        }
        assert!(!patterns(&[], &["./etc/secret"]).take("./etc/secret"));
        assert!(patterns(&[], &[]).take_all());
        assert!(Patterns::new(&["[".into()], &[]).is_err());
    }

    #[test]
    fn neighbours_are_joined_and_a_hard_link_asks_for_its_target() {
        let p = patterns(&["b", "c", "link"], &[]);
        let mut selection = Selection::default();
        for (i, name) in ["a", "b", "c", "d"].iter().enumerate() {
            selection.look(&entry(name, EntryType::File, None, 512 * i as u64), &p, false);
        }
        selection.look(&entry("link", EntryType::Link, Some("a"), 2048), &p, false);
        assert_eq!(selection.ranges, [512..1536, 2048..2560]);
        assert_eq!(selection.targets.into_iter().collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn what_is_unpacked_brings_the_folders_around_it_once() {
        let p = patterns(&["a/b/x", "a/b/y", "c/z"], &[]);
        let members = ["a/", "a/w", "a/b/", "a/b/x", "a/b/y", "a/d/", "c/", "c/z"];
        let select = |to_be_unpacked| {
            let mut selection = Selection::new(to_be_unpacked);
            for (i, name) in members.iter().enumerate() {
                let kind = if name.ends_with('/') { EntryType::Dir } else { EntryType::File };
                selection.look(&entry(name, kind, None, 512 * i as u64), &p, false);
            }
            (selection.ranges, selection.count)
        };
        assert_eq!(select(true), (vec![0..512, 1024..2560, 3072..4096], 3));
        assert_eq!(select(false), (vec![1536..2560, 3584..4096], 3));
    }

    #[test]
    fn what_reaches_outside_is_refused() {
        for (path, kind, link) in [
            ("/etc/passwd", EntryType::File, None),
            ("a/../../b", EntryType::File, None),
            ("a", EntryType::Link, Some("/etc/shadow")),
            ("a", EntryType::Link, Some("../x")),
            ("dev", EntryType::Block, None),
        ] {
            assert!(unsafe_member(&entry(path, kind, link, 0), false).is_some(), "{path}");
        }
        // A symlink may point anywhere: it is made, never followed.
        assert_eq!(unsafe_member(&entry("a", EntryType::Symlink, Some("/etc"), 0), false), None);
        assert_eq!(unsafe_member(&entry("dev", EntryType::Block, None, 0), true), None);
        assert_eq!(unsafe_member(&entry("a..b/c", EntryType::File, None, 0), false), None);
    }
}
