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
    beginnings: Option<Vec<Vec<u8>>>,
    /// A plain name: of what they take, only that and what is below it.
    below: Option<Vec<u8>>,
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
        let beginnings = include.iter().map(|pattern| beginning(pattern)).collect::<Option<Vec<_>>>();
        let beginnings = beginnings.filter(|names| !names.is_empty());
        let include = (!include.is_empty()).then(|| set(include)).transpose()?;
        Ok(Patterns { include, exclude: set(exclude)?, beginnings, below: None })
    }

    /// The same, but nothing that is not `name` or below it.
    pub fn below(self, name: &str) -> Self {
        Patterns { below: Some(name::plain(name.as_bytes()).to_vec()), ..self }
    }

    /// Whether they take everything.
    pub fn take_all(&self) -> bool {
        self.include.is_none() && self.exclude.is_empty() && self.below.is_none()
    }

    /// Plain names: what is taken is one of them, or below one; none where a pattern may take what is anywhere.
    pub fn beginnings(&self) -> Option<Vec<Vec<u8>>> {
        self.beginnings.clone().or_else(|| self.below.clone().map(|name| vec![name]))
    }

    /// Whether a member of this name is taken. What is no UTF-8 is matched as it is shown, as `\xHH`.
    pub fn take(&self, name: &[u8]) -> bool {
        let plain = name::plain(name);
        let is_below = |folder: &Vec<u8>| {
            plain.strip_prefix(&folder[..]).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        if !self.below.as_ref().is_none_or(is_below) {
            return false;
        }
        let name = name::text(plain);
        let folders = name.char_indices().filter(|&(_, c)| c == '/').map(|(i, _)| &name[..i]);
        let names: Vec<&str> = folders.chain([&name[..]]).collect();
        let is_in = |set: &GlobSet| names.iter().any(|name| set.is_match(name));
        self.include.as_ref().is_none_or(is_in) && !is_in(&self.exclude)
    }
}

/// The folder that all names lie in which a pattern takes, or the one name; none where that is the top.
fn beginning(pattern: &str) -> Option<Vec<u8>> {
    let plain = name::plain(pattern.as_bytes());
    let special = plain.iter().position(|byte| b"*?[]{}\\!".contains(byte));
    let folder = match special {
        None => plain,
        Some(at) => &plain[..plain[..at].iter().rposition(|&byte| byte == b'/')?],
    };
    (!folder.is_empty() && folder != b".").then(|| folder.to_vec())
}

/// Ranges of the source of one archive, in order: 0 is the archive itself, others are older ones, by the numbers that its
/// catalog gives them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The archive.
    pub reference: u32,
    /// Bytes of its source.
    pub ranges: Vec<Range<u64>>,
}

impl Part {
    /// All of the archive's own source.
    pub fn whole(bytes: u64) -> Part {
        Part { reference: 0, ranges: std::iter::once(0..bytes).collect() }
    }

    /// How many bytes.
    pub fn bytes(&self) -> u64 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }

    /// Whether it holds a byte of a range.
    pub fn meets(&self, range: &Range<u64>) -> bool {
        let next = self.ranges.partition_point(|own| own.end <= range.start);
        self.ranges.get(next).is_some_and(|own| own.start < range.end)
    }

    /// Whether it holds a byte.
    pub fn holds(&self, at: u64) -> bool {
        let next = self.ranges.partition_point(|range| range.end <= at);
        self.ranges.get(next).is_some_and(|range| range.start <= at)
    }
}

/// The members that are wanted, found in looks at all members of an archive, one after the other: a hard link needs the
/// member before it that has its data, and to be unpacked, a member needs the folders around it, with their owners and
/// modes, wherever they stand.
#[derive(Debug, Default)]
pub struct Selection {
    brings_folders: bool,
    /// Names that hard links lead to, with the archive that has both, and names of folders, as earlier looks found them.
    targets: HashSet<(u32, Vec<u8>)>,
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
    /// Of wanted members of older archives, and of members that hard links there lead to. None of them has two of a name.
    kept: BTreeMap<u32, Vec<Range<u64>>>,
    /// What stands between members: headers that hold for all that follow.
    gaps: Vec<Range<u64>>,
    /// Of members that hard links lead to.
    targets: Vec<Range<u64>>,
    /// Where the last member of such a name lies, and what it leads to itself.
    latest: HashMap<Vec<u8>, Vec<Range<u64>>>,
    /// Where the last of such a folder lies.
    folders: BTreeMap<Vec<u8>, Place>,
    /// The folders around the last member, as far as they stood before it, each in the one before.
    around: Vec<(Vec<u8>, Place)>,
    /// The folder around the last wanted member: those around that are known.
    parent: Option<Vec<u8>>,
    /// Where the last member ended.
    end: u64,
}

/// An archive, and a range of its source.
type Place = (u32, Range<u64>);

impl Selection {
    /// Nothing selected yet.
    pub fn new(to_be_unpacked: bool) -> Self {
        Selection { brings_folders: to_be_unpacked, ..Selection::default() }
    }

    /// Looks at the next member; says whether it will be handed on.
    pub fn look(&mut self, entry: &Entry, patterns: &Patterns) -> bool {
        let range = self.pass(entry);
        let reference = entry.reference;
        let name = entry.name();
        let plain = name::plain(&name);
        if entry.kind == EntryType::Dir && self.brings_folders {
            self.enter(plain, (reference, range.clone()));
        }
        let taken = patterns.take(&name);
        let is_target = !self.targets.is_empty() && self.targets.contains(&(reference, plain.to_vec()));
        if !taken && !is_target {
            return false;
        }
        let needs = self.leads_to(entry);
        self.add_folders(plain, patterns);
        self.found.count += u64::from(taken);
        if reference > 0 {
            push(self.found.kept.entry(reference).or_default(), range);
            return true;
        }
        if is_target {
            let all = needs.iter().cloned().chain([range.clone()]).collect();
            self.found.latest.insert(plain.to_vec(), all);
        }
        if taken {
            self.found.targets.extend(needs);
            push(&mut self.found.ranges, range);
        }
        true
    }

    /// Goes past a member, which will not be handed on unless it is looked at; says where it lies.
    pub fn pass(&mut self, entry: &Entry) -> Range<u64> {
        let range = entry.at..entry.at.saturating_add(entry.len);
        if entry.reference == 0 {
            let end = std::mem::replace(&mut self.found.end, range.end);
            if end < range.start {
                self.found.gaps.push(end..range.start);
            }
        }
        range
    }

    /// Takes a member of an older archive, as all are taken.
    pub fn keep(&mut self, entry: &Entry) {
        let range = entry.at..entry.at.saturating_add(entry.len);
        push(self.found.kept.entry(entry.reference).or_default(), range);
    }

    /// Where the member lies that a hard link is another name of.
    fn leads_to(&mut self, entry: &Entry) -> Vec<Range<u64>> {
        let Some(target) = entry.hard_link() else { return Vec::new() };
        let target = name::plain(&target);
        self.has_more |= self.targets.insert((entry.reference, target.to_vec()));
        self.found.latest.get(target).cloned().unwrap_or_default()
    }

    /// Remembers a folder: its members mostly follow, and then no further look is needed.
    fn enter(&mut self, plain: &[u8], place: Place) {
        let is_in = |folder: &[u8]| plain.strip_prefix(folder).is_some_and(|rest| rest.starts_with(b"/"));
        while self.found.around.pop_if(|(folder, _)| !is_in(folder)).is_some() {}
        self.found.around.push((plain.to_vec(), place.clone()));
        if self.folders.contains(plain) {
            self.found.folders.insert(plain.to_vec(), place);
        }
    }

    fn add_folders(&mut self, name: &[u8], patterns: &Patterns) {
        let parent = name.iter().rposition(|&byte| byte == b'/').map(|at| &name[..at]);
        if !self.brings_folders || parent == self.found.parent.as_deref() {
            return;
        }
        self.found.parent = parent.map(<[u8]>::to_vec);
        for folder in name::folders(name) {
            // One that is taken itself comes as any member does.
            if self.folders.contains(folder) || patterns.take(folder) {
                continue;
            }
            self.folders.insert(folder.to_vec());
            match self.found.around.iter().find(|(around, _)| around == folder) {
                Some((_, place)) => drop(self.found.folders.insert(folder.to_vec(), place.clone())),
                None => self.has_more = true,
            }
        }
    }

    /// Ends a look, and says whether another is needed.
    pub fn again(&mut self) -> bool {
        let again = std::mem::take(&mut self.has_more);
        if again {
            self.begin_again();
        }
        again
    }

    /// Forgets what this look found, but for the names that it led to.
    pub fn begin_again(&mut self) {
        self.found = Found::default();
    }

    /// How many members were selected.
    pub fn count(&self) -> u64 {
        self.found.count
    }

    /// How many folders are brought along that were not asked for.
    pub fn folders_around(&self) -> u64 {
        self.found.folders.len() as u64
    }

    /// Forgets what stands between members: nothing does where they were named to GNU tar one by one, and not all of them need
    /// have been looked at.
    pub fn forget_gaps(&mut self) {
        self.found.gaps.clear();
    }

    /// Forgets of what stands between members that which is lost.
    pub fn forget_lost_gaps(&mut self, is_lost: impl Fn(&Range<u64>) -> bool) {
        self.found.gaps.retain(|gap| !is_lost(gap));
    }

    /// The names that the next look has to come by: those that hard links lead to, and folders.
    pub fn names(&self) -> Vec<Vec<u8>> {
        self.targets.iter().map(|(_, name)| name).chain(&self.folders).cloned().collect()
    }

    /// What to hand on, one part after the other, each in its source's order and to be read from the front: first folders,
    /// from the outside in, then the members, those of the oldest archive first.
    pub fn parts(self) -> Vec<Part> {
        let Selection { found, .. } = self;
        let mut parts: Vec<Part> = Vec::new();
        for (reference, range) in found.folders.into_values() {
            let follows = |last: &Range<u64>| last.end <= range.start;
            match parts.last_mut() {
                Some(part) if part.reference == reference && part.ranges.last().is_some_and(follows) => {
                    part.ranges.push(range);
                }
                _ => parts.push(Part { reference, ranges: vec![range] }),
            }
        }
        parts.extend(found.kept.into_iter().map(|(reference, ranges)| Part { reference, ranges }));
        let mut own = found.ranges;
        own.extend(found.targets);
        parts.extend((!own.is_empty()).then_some(Part { reference: 0, ranges: own }));
        for part in &mut parts {
            // What stands between members was written by whoever wrote them; older archives are those of a scan, by GNU tar.
            if part.reference == 0 {
                let end = part.ranges.iter().map(|range| range.end).max().unwrap_or(0);
                part.ranges.extend(found.gaps.iter().filter(|gap| gap.start < end).cloned());
            }
            part.ranges = in_order(std::mem::take(&mut part.ranges));
        }
        parts
    }
}

/// In order, nothing twice.
fn in_order(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, last| {
        let joins = last.end >= next.start;
        if joins {
            last.end = last.end.max(next.end);
        }
        joins
    });
    ranges
}

/// Adds a range; one that goes on where the last one ends is joined with it.
fn push(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.start <= range.start && last.end >= range.start => {
            last.end = last.end.max(range.end);
        }
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
mod tests;
