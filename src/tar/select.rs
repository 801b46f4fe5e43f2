//! Which members of an archive are wanted, and which bytes of its source they are.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::{Entry, EntryType, name};
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
                let text = String::from_utf8_lossy(name::plain(pattern.as_bytes())).into_owned();
                let glob = Glob::new(&name::pattern(&text)).map_err(|e| {
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

    /// Whether a member of this name is taken. What is no UTF-8 is matched as it is shown, as `\xHH`.
    pub fn take(&self, name: &[u8]) -> bool {
        let name = name::text(name::plain(name));
        let folders = name.char_indices().filter(|&(_, c)| c == '/').map(|(i, _)| &name[..i]);
        let names: Vec<&str> = folders.chain([&name[..]]).collect();
        let is_in = |set: &GlobSet| names.iter().any(|name| set.is_match(name));
        self.include.as_ref().is_none_or(is_in) && !is_in(&self.exclude)
    }
}

/// The members that are wanted, found in looks at all members of an archive, one after the other: a hard link needs the
/// member before it that has its data, and to be unpacked, a member needs the folders around it, with their owners and
/// modes, wherever they stand.
#[derive(Debug, Default)]
pub struct Selection {
    brings_folders: bool,
    /// Names that hard links lead to, and names of folders, as earlier looks found them.
    targets: HashSet<Vec<u8>>,
    folders: HashSet<Vec<u8>>,
    /// Whether this look found more of either.
    has_more: bool,
    found: Found,
}

/// What one look found.
#[derive(Debug, Default)]
struct Found {
    count: u64,
    /// Of wanted members, in order, neighbours joined.
    ranges: Vec<Range<u64>>,
    /// What stands between members: headers that hold for all that follow.
    gaps: Vec<Range<u64>>,
    /// Of members that hard links lead to.
    targets: Vec<Range<u64>>,
    /// Where the last member of such a name lies, and what it leads to itself.
    latest: HashMap<Vec<u8>, Vec<Range<u64>>>,
    /// Where the last of such a folder lies.
    folders: BTreeMap<Vec<u8>, Range<u64>>,
    /// The folders around the last member, as far as they stood before it, each in the one before.
    around: Vec<(Vec<u8>, Range<u64>)>,
    /// Where the last member ended.
    end: u64,
}

impl Selection {
    /// Nothing selected yet.
    pub fn new(to_be_unpacked: bool) -> Self {
        Selection { brings_folders: to_be_unpacked, ..Selection::default() }
    }

    /// Looks at the next member; says whether it will be handed on.
    pub fn look(&mut self, entry: &Entry, patterns: &Patterns) -> bool {
        let range = entry.at..entry.at.saturating_add(entry.len);
        let end = std::mem::replace(&mut self.found.end, range.end);
        if end < range.start {
            self.found.gaps.push(end..range.start);
        }
        let name = entry.name();
        let plain = name::plain(&name);
        if entry.kind == EntryType::Dir && self.brings_folders {
            self.enter(plain, &range);
        }
        let (taken, is_target) = (patterns.take(&name), self.targets.contains(plain));
        if !taken && !is_target {
            return false;
        }
        let mut needs = self.leads_to(entry);
        if is_target {
            let all = needs.iter().cloned().chain([range.clone()]).collect();
            self.found.latest.insert(plain.to_vec(), all);
        }
        self.add_folders(plain);
        if taken {
            self.found.targets.append(&mut needs);
            self.found.count += 1;
            push(&mut self.found.ranges, range);
        }
        true
    }

    /// Where the member lies that a hard link is another name of.
    fn leads_to(&mut self, entry: &Entry) -> Vec<Range<u64>> {
        let Some(target) = entry.hard_link() else { return Vec::new() };
        let target = name::plain(&target);
        if !self.targets.contains(target) {
            self.has_more = true;
            self.targets.insert(target.to_vec());
        }
        self.found.latest.get(target).cloned().unwrap_or_default()
    }

    /// Remembers a folder: its members mostly follow, and then no further look is needed.
    fn enter(&mut self, plain: &[u8], range: &Range<u64>) {
        let is_in = |folder: &[u8]| plain.strip_prefix(folder).is_some_and(|rest| rest.starts_with(b"/"));
        while self.found.around.pop_if(|(folder, _)| !is_in(folder)).is_some() {}
        self.found.around.push((plain.to_vec(), range.clone()));
        if self.folders.contains(plain) {
            self.found.folders.insert(plain.to_vec(), range.clone());
        }
    }

    fn add_folders(&mut self, name: &[u8]) {
        if !self.brings_folders {
            return;
        }
        for folder in name::folders(name) {
            if self.folders.contains(folder) {
                continue;
            }
            self.folders.insert(folder.to_vec());
            match self.found.around.iter().find(|(around, _)| around == folder) {
                Some((_, range)) => drop(self.found.folders.insert(folder.to_vec(), range.clone())),
                None => self.has_more = true,
            }
        }
    }

    /// Ends a look, and says whether another is needed.
    pub fn again(&mut self) -> bool {
        let again = std::mem::take(&mut self.has_more);
        if again {
            self.found = Found::default();
        }
        again
    }

    /// How many members were selected.
    pub fn count(&self) -> u64 {
        self.found.count
    }

    /// The ranges of the source to hand on, one list after the other, each in the source's order and to be read from the
    /// front: first folders, from the outside in, then the members.
    pub fn lists(&self) -> Vec<Vec<Range<u64>>> {
        let found = &self.found;
        let mut lists: Vec<Vec<Range<u64>>> = Vec::new();
        for range in found.folders.values() {
            match lists.last_mut().filter(|list| list.last().is_some_and(|last| last.end <= range.start)) {
                Some(list) => list.push(range.clone()),
                None => lists.push(vec![range.clone()]),
            }
        }
        lists.push(found.ranges.iter().chain(&found.targets).cloned().collect());
        lists.into_iter().map(|list| self.with_gaps(list)).collect()
    }

    /// In order, nothing twice, with what holds for the members.
    fn with_gaps(&self, mut list: Vec<Range<u64>>) -> Vec<Range<u64>> {
        let end = list.iter().map(|range| range.end).max().unwrap_or(0);
        list.extend(self.found.gaps.iter().filter(|gap| gap.start < end).cloned());
        list.sort_by_key(|range| range.start);
        list.into_iter().fold(Vec::new(), |mut joined, range| {
            push(&mut joined, range);
            joined
        })
    }
}

/// Adds a range that begins no earlier than the last.
fn push(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
        _ => ranges.push(range),
    }
}

/// Why a member may not be unpacked: it would reach outside, or make a device. A slash before its name is taken off.
pub fn unsafe_member(entry: &Entry, allow_devices: bool) -> Option<&'static str> {
    let outside = |name: &[u8]| name.split(|&b| b == b'/').any(|part| part == b"..");
    match entry.kind {
        _ if outside(&entry.name()) => Some("its name leads outside of the target"),
        _ if entry.hard_link().is_some_and(|target| outside(&target)) => {
            Some("it is a hard link that leads outside of the target")
        }
        _ if entry.path.is_empty() => Some("it has no name"),
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
            link_hex: None,
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
            ("/etc/absolute", true),
        ] {
            assert_eq!(p.take(name.as_bytes()), taken, "{name}");
        }
        assert!(!patterns(&[], &["./etc/secret"]).take(b"./etc/secret"));
        assert!(patterns(&[], &[]).take_all());
        assert!(Patterns::new(&["[".into()], &[]).is_err());
    }

    fn one(start: u64, end: u64) -> Vec<Range<u64>> {
        std::iter::once(start..end).collect()
    }

    /// Looks at members of one block each, one behind the other, until nothing new is found.
    fn select(unpacks: bool, p: &Patterns, members: &[Entry]) -> Selection {
        let mut selection = Selection::new(unpacks);
        loop {
            for (i, member) in members.iter().enumerate() {
                selection.look(&Entry { at: 512 * i as u64, ..member.clone() }, p);
            }
            if !selection.again() {
                return selection;
            }
        }
    }

    fn file(name: &str) -> Entry {
        entry(name, if name.ends_with('/') { EntryType::Dir } else { EntryType::File }, None, 0)
    }

    fn hard_link(name: &str, target: &str) -> Entry {
        entry(name, EntryType::Link, Some(target), 0)
    }

    #[test]
    fn neighbours_are_joined_and_a_hard_link_brings_the_member_before_it() {
        let members = [file("a"), file("b"), file("c"), file("d"), hard_link("link", "./a"), file("a")];
        let selection = select(false, &patterns(&["b", "c", "link"], &[]), &members);
        assert_eq!((selection.lists(), selection.count()), (vec![vec![0..1536, 2048..2560]], 3));
    }

    #[test]
    fn links_to_links_lead_to_the_file_of_their_time() {
        let members =
            [file("a"), hard_link("b", "a"), file("a"), hard_link("c", "b"), file("b"), hard_link("d", "c")];
        let selection = select(false, &patterns(&["d"], &[]), &members);
        assert_eq!(selection.lists(), [vec![0..1024, 1536..2048, 2560..3072]]);
    }

    #[test]
    fn what_is_unpacked_brings_the_folders_around_it_wherever_they_stand() {
        let p = patterns(&["a/b/x", "a/b/y", "c/z"], &[]);
        let names = ["a/w", "a/b/x", "a/b/", "a/b/y", "a/", "c/", "c/z", "a/d/"];
        let members: Vec<_> = names.iter().map(|name| file(name)).collect();
        let lists = select(true, &p, &members).lists();
        let members_alone = vec![512..1024, 1536..2048, 3072..3584];
        assert_eq!(lists, [one(2048, 2560), vec![1024..1536, 2560..3072], members_alone.clone()]);
        assert_eq!(select(false, &p, &members).lists(), [members_alone]);
    }

    #[test]
    fn where_folders_stand_before_their_members_one_look_is_enough() {
        let p = patterns(&["a/b/x"], &[]);
        for (names, looks, folders) in [
            (&["a/", "a/b/", "a/b/w/", "a/b/x"][..], 1, one(0, 1024)),
            (&["a/", "a/b/", "a/", "a/b/", "a/b/x", "a/b/"], 1, vec![1024..1536, 2560..3072]),
            (&["a/b/", "a/", "a/b/x"], 2, one(512, 1024)),
            (&["b/", "a/b/x"], 2, Vec::new()),
        ] {
            let mut selection = Selection::new(true);
            let mut done = 0;
            loop {
                for (i, name) in names.iter().enumerate() {
                    selection.look(&Entry { at: 512 * i as u64, ..file(name) }, &p);
                }
                done += 1;
                if !selection.again() {
                    break;
                }
            }
            assert_eq!(done, looks, "{names:?}");
            assert_eq!(
                selection.lists()[0].first() == folders.first(),
                !folders.is_empty(),
                "{names:?}: {:?}",
                selection.lists()
            );
        }
    }

    #[test]
    fn what_stands_between_members_is_brought_for_all_that_follow() {
        let mut selection = Selection::new(false);
        for (name, at) in [("a", 512), ("b", 2048), ("c", 4096)] {
            selection.look(&entry(name, EntryType::File, None, at), &patterns(&["b"], &[]));
        }
        assert_eq!(selection.lists(), [vec![0..512, 1024..2560]]);
    }

    #[test]
    fn names_that_look_alike_are_told_apart() {
        let other = |byte: u8| Entry {
            path_hex: Some(format!("61{byte:02x}")),
            ..entry("a\u{fffd}", EntryType::File, None, 0)
        };
        let members = [other(0xfe), other(0xff), file("a\u{fffd}"), file("a\\xff")];
        for (pattern, range) in [
            ("a\\xff", 512..1024),
            ("a\\xFE", 0..512),
            ("a\u{fffd}", 1024..1536),
            ("a\\x5cxff", 1536..2048),
            ("a\\\\xff", 1536..2048),
        ] {
            assert_eq!(
                select(false, &patterns(&[pattern], &[]), &members).lists(),
                [vec![range]],
                "{pattern}"
            );
        }
        assert_eq!(select(false, &patterns(&["a*"], &["a\\xff"]), &members).count(), 3);
    }

    #[test]
    fn what_reaches_outside_is_refused() {
        for (path, kind, link) in [
            ("a/../../b", EntryType::File, None),
            ("", EntryType::File, None),
            ("a", EntryType::Link, Some("../x")),
            ("dev", EntryType::Block, None),
        ] {
            assert!(unsafe_member(&entry(path, kind, link, 0), false).is_some(), "{path}");
        }
        // A symlink may point anywhere: it is made, never followed.
        assert_eq!(unsafe_member(&entry("a", EntryType::Symlink, Some("/etc"), 0), false), None);
        assert_eq!(unsafe_member(&entry("dev", EntryType::Block, None, 0), true), None);
        // A slash before a name is taken off.
        assert_eq!(unsafe_member(&entry("/etc/passwd", EntryType::Link, Some("/a"), 0), false), None);
        assert_eq!(unsafe_member(&entry("a..b/c", EntryType::File, None, 0), false), None);
    }
}
