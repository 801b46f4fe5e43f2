//! Which files of a scan are as the backup before has them: two walks in path order, side by side.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::content::{Expected, ToRead};
use super::runs::Named;
use crate::error::Result;
use crate::source::Scanned;
use crate::tar::stat::Stat;
use crate::tar::{Entry, EntryType, name};

/// How much older than the beginning of the backup before a file's times must be, in seconds. What is changed within one
/// tick of a file system's clock has the same times; FAT's lasts 2 s.
const TICK: i64 = 2;

/// A bit for each member of the backup before: whether it is kept.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Kept {
    words: Vec<u64>,
    len: u64,
    /// How many are in each archive, and their bytes there, by its reference.
    references: BTreeMap<u32, Live>,
    /// Members whose names are still there.
    known: u64,
    /// Members that were taken over without a look at their files.
    unseen: u64,
    /// Bytes of the members in the archive of the backup before itself, kept or not.
    own: u64,
}

/// What is kept in an archive.
#[derive(Debug, Default, PartialEq, Eq)]
struct Live {
    members: u64,
    bytes: u64,
}

impl Kept {
    /// Goes past a member, kept in the archive of that reference, where it takes so many bytes, or not at all.
    pub(super) fn push(&mut self, kept_in: Option<(u32, u64)>) {
        let (word, bit) = Kept::place(self.len);
        if word == self.words.len() {
            self.words.push(0);
        }
        self.words[word] |= u64::from(kept_in.is_some()) << bit;
        self.len += 1;
        if let Some((reference, bytes)) = kept_in {
            let live = self.references.entry(reference).or_default();
            live.members += 1;
            live.bytes = live.bytes.saturating_add(bytes);
        }
    }

    pub(super) fn clear(&mut self, same: &Same) {
        let (word, bit) = Kept::place(same.number);
        self.words[word] &= !(1 << bit);
        self.references.entry(same.reference).and_modify(|live| {
            live.members -= 1;
            live.bytes = live.bytes.saturating_sub(same.len);
        });
    }

    /// References to the archives that hold one at least.
    pub fn references(&self) -> BTreeSet<u32> {
        self.references.iter().filter(|(_, live)| live.members > 0).map(|(reference, _)| *reference).collect()
    }

    /// Bytes of all members in the archive of the backup before itself.
    pub(super) fn own(&self) -> u64 {
        self.own
    }

    /// Bytes of the members that are kept in an archive.
    pub(super) fn live(&self, reference: u32) -> u64 {
        self.references.get(&reference).map_or(0, |live| live.bytes)
    }

    /// How many members were looked at.
    pub(super) fn members(&self) -> u64 {
        self.len
    }

    /// How many members are still there by name, and how many of these are sent again.
    pub(super) fn known_and_sent(&self) -> (u64, u64) {
        (self.known, self.known.saturating_sub(self.count().saturating_sub(self.unseen)))
    }

    fn place(number: u64) -> (usize, u64) {
        ((number / 64) as usize, number % 64)
    }

    /// Whether the member of that number is; what was never compared is not.
    pub fn is_kept(&self, number: u64) -> bool {
        let (word, bit) = Kept::place(number);
        self.words.get(word).is_some_and(|word| word >> bit & 1 == 1)
    }

    /// How many are.
    pub fn count(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}

/// The backup before.
pub struct Before<M> {
    /// Gives its next member in path order; none at its end.
    pub members: M,
    /// When it began.
    pub started: jiff::Timestamp,
    /// References of its catalog to archives that are gone, or are not what they were.
    pub gone: HashSet<u32>,
}

impl<M> Before<M> {
    /// Whether a file that had these times then, and has them now, was not changed within one tick of them.
    fn is_settled(&self, stat: &Stat) -> bool {
        let latest = self.started.as_second().saturating_sub(TICK);
        stat.mtime.seconds < latest && stat.ctime.seconds < latest
    }
}

/// The most bytes that may be held back of files with several names; what comes beyond that is sent.
const MOST_HELD: usize = 32 << 20;
/// What a file with several names takes in a table that grows by doubling, at most.
const GROUP: usize = 3 * size_of::<((u64, u64), Group)>();
/// What memory takes beside its bytes.
const ALLOCATED: usize = 16;

/// Compares files as they are found. Memory: one bit a member of the backup before, and files that have several names as
/// long as not all of these are known, up to a bound.
pub struct Comparison<M> {
    before: Before<M>,
    /// Its member at hand, by its plain name.
    next: Option<(Vec<u8>, Entry)>,
    ended: bool,
    pub(super) kept: Kept,
    /// Files that are one by hard links, by device and inode.
    pub(super) groups: HashMap<(u64, u64), Group>,
    /// No more of these are begun: their names are sent as they come. Whether a name is another's is not known any more.
    is_closed: bool,
    /// Bytes that those take, and what is deferred.
    held: usize,
    most_held: usize,
    /// Files that are sent behind all others.
    deferred: Vec<Scanned>,
    /// Whether files are compared by what is in them.
    pub(super) by_content: bool,
    /// Files that are kept if they have what is expected of them.
    pub(super) to_read: Vec<ToRead>,
    /// Files of which the backup before does not say what was in them.
    pub(super) unhashed: u64,
}

/// A member that is still the file that it was.
pub(super) struct Same {
    pub(super) number: u64,
    pub(super) reference: u32,
    pub(super) len: u64,
    /// Of a link, its plain target.
    pub(super) link: Option<Vec<u8>>,
    /// What must be in the file, where that decides.
    pub(super) expected: Option<Expected>,
}

/// The names of one file. They are kept together, in one archive, or sent together: a link leads to a member beside it.
#[derive(Default)]
pub(super) struct Group {
    found: u64,
    /// One of its names was sent, so all are.
    is_sent: bool,
    /// Bytes that its names take.
    held: usize,
    /// The names that could be kept, and the members that they are.
    names: Vec<(Scanned, Same)>,
}

impl Group {
    /// Whether all of its names are in one archive, and one of them is what the others are links to.
    fn is_kept(&self) -> bool {
        let mut contents = self.names.iter().filter(|(_, same)| same.link.is_none());
        let (Some((file, member)), None) = (contents.next(), contents.next()) else { return false };
        self.names.iter().all(|(_, same)| {
            same.reference == member.reference && same.link.as_ref().is_none_or(|link| *link == file.name)
        })
    }

    fn push(&mut self, file: Scanned, same: Same) {
        self.held += held_by(&file, Some(&same));
        if self.names.len() == self.names.capacity() {
            self.names.reserve_exact(self.names.len().max(1));
        }
        self.names.push((file, same));
    }
}

/// Bytes that names of files take while they wait.
pub(super) fn held(names: &[(Scanned, Same)]) -> usize {
    names.iter().map(|(file, same)| held_by(file, Some(same))).sum()
}

/// Bytes that a file takes while it waits, and with it the member that it may be.
pub(super) fn held_by(file: &Scanned, same: Option<&Same>) -> usize {
    let texts = [Some(&file.name), Some(&file.walked), same.and_then(|same| same.link.as_ref())];
    let texts = texts.into_iter().flatten().map(|text| text.capacity() + ALLOCATED).sum::<usize>();
    texts + size_of::<(Scanned, Same)>() + ALLOCATED
}

impl<M: FnMut() -> Result<Option<Entry>>> Comparison<M> {
    /// At the first file of a scan.
    pub fn new(before: Before<M>) -> Self {
        Comparison {
            before,
            next: None,
            ended: false,
            kept: Kept::default(),
            groups: HashMap::new(),
            is_closed: false,
            held: 0,
            most_held: MOST_HELD,
            deferred: Vec::new(),
            by_content: false,
            to_read: Vec::new(),
            unhashed: 0,
        }
    }

    /// Takes in the next file in path order, and gives it back if it is to be sent now. One with several names may be kept
    /// when all are known that lie here.
    ///
    /// # Errors
    /// Whatever the members of the backup before fail with.
    pub fn take(&mut self, file: Scanned) -> Result<Option<Scanned>> {
        let same = self.same_member(&file)?;
        if file.links > 1 && !file.stat.is_dir() {
            return Ok(self.take_linked(file, same));
        }
        match same {
            Some(same) if same.expected.is_some() => self.to_read.push(ToRead(vec![(file, same)])),
            Some(_) => {}
            None => return Ok(Some(file)),
        }
        Ok(None)
    }

    fn take_linked(&mut self, file: Scanned, same: Option<Same>) -> Option<Scanned> {
        let (key, links) = ((file.device, file.stat.inode), file.links);
        self.is_closed |= self.held > self.most_held;
        let mut group = match self.groups.remove(&key) {
            Some(group) => group,
            None if self.is_closed => {
                same.iter().for_each(|same| self.kept.clear(same));
                return Some(file);
            }
            None => Group::default(),
        };
        self.held -= if group.found > 0 { GROUP + group.held } else { 0 };
        group.found += 1;
        // The last name sets all of them free.
        let is_full = self.held + group.held > self.most_held && group.found < links;
        let mut sent = None;
        match same {
            Some(same) if !group.is_sent && !is_full => group.push(file, same),
            same => {
                same.iter().for_each(|same| self.kept.clear(same));
                self.defer(std::mem::take(&mut group.names));
                group.held = 0;
                group.is_sent = true;
                sent = Some(file);
            }
        }
        if group.found < links {
            self.held += GROUP + group.held;
            self.groups.insert(key, group);
        } else {
            self.decide(group);
        }
        sent
    }

    /// Decides about a file when all of its names are known that lie here.
    pub(super) fn decide(&mut self, mut group: Group) {
        if group.is_sent {
            return;
        }
        match group.is_kept() {
            true if self.by_content => self.to_read.push(ToRead(group.names)),
            true => {}
            false => self.defer(std::mem::take(&mut group.names)),
        }
    }

    pub(super) fn defer(&mut self, names: Vec<(Scanned, Same)>) {
        self.held += held(&names);
        for (file, same) in names {
            self.kept.clear(&same);
            self.deferred.push(file);
        }
    }

    /// Ends it: the files with several names that are to be sent behind all others, in path order, and what is kept.
    ///
    /// # Errors
    /// As [`Comparison::take`].
    pub fn finish(mut self) -> Result<(Vec<Scanned>, Kept)> {
        while self.peek()?.is_some() {
            self.pass(None);
        }
        Ok(self.end())
    }

    /// Ends it where no more files are looked at, as [`Comparison::finish`]. What lies behind that is taken over as the backup
    /// before has it, for the next one to compare: that is told another time to trust, so only what this one would trust if
    /// its file were still the same. Names of files that have several are not: what they are links to may be sent anew.
    ///
    /// # Errors
    /// As [`Comparison::take`].
    pub fn cut(mut self) -> Result<(Vec<Scanned>, Kept)> {
        while let Some((_, member)) = self.peek()? {
            let (reference, len, stat) = (member.reference, member.len, member.stat);
            let is_taken = member.kind != EntryType::Link
                && stat.is_some_and(|stat| self.before.is_settled(&stat))
                && !self.before.gone.contains(&reference);
            self.kept.unseen += u64::from(is_taken);
            self.pass(is_taken.then_some((reference, len)));
        }
        Ok(self.end())
    }

    fn end(mut self) -> (Vec<Scanned>, Kept) {
        // Some of their names lie elsewhere.
        for group in std::mem::take(&mut self.groups).into_values().filter(|group| !group.is_kept()) {
            self.defer(group.names);
        }
        self.deferred.sort_unstable_by(|a, b| name::path_order(&a.name, &b.name));
        (self.deferred, self.kept)
    }

    /// The member that is still the file.
    fn same_member(&mut self, file: &Scanned) -> Result<Option<Same>> {
        let by_content = self.by_content;
        while let Some((name, member)) = self.peek()? {
            match name::path_order(name, &file.name) {
                Ordering::Less => self.pass(None),
                Ordering::Greater => return Ok(None),
                Ordering::Equal => {
                    let link = member.hard_link().map(|link| name::plain(&link).to_vec());
                    let (reference, len) = (member.reference, member.len);
                    let is_unhashed = by_content && member.content.is_none();
                    let expected = by_content.then(|| Expected::of(member, file)).flatten();
                    let is_gone = self.before.gone.contains(&reference);
                    let expected = expected.filter(|_| !is_gone);
                    // What is sent again for the sake of its archive says nothing of the files.
                    self.kept.known += u64::from(!is_gone && !is_unhashed);
                    self.unhashed += u64::from(!is_gone && is_unhashed && file.stat.is_file());
                    let is_same = if by_content { expected.is_some() } else { self.is_same(file) };
                    let number = self.kept.len;
                    self.pass(is_same.then_some((reference, len)));
                    return Ok(is_same.then_some(Same { number, reference, len, link, expected }));
                }
            }
        }
        Ok(None)
    }

    /// Whether the file is still what the member at hand was, as far as anybody can know who does not read it.
    fn is_same(&self, file: &Scanned) -> bool {
        let Some((_, member)) = &self.next else { return false };
        member.stat == Some(file.stat)
            && self.before.is_settled(&file.stat)
            && !self.before.gone.contains(&member.reference)
            // Of the names of one file, others may have been left out of the backup since.
            && (member.kind != EntryType::Link || file.links > 1)
    }

    fn peek(&mut self) -> Result<Option<&(Vec<u8>, Entry)>> {
        if self.next.is_none() && !self.ended {
            let next = (self.before.members)()?;
            self.ended = next.is_none();
            self.next = next.map(|entry| (entry.plain_name(), entry));
        }
        Ok(self.next.as_ref())
    }

    /// Goes past the member at hand.
    fn pass(&mut self, kept_in: Option<(u32, u64)>) {
        let own = self.next.take().filter(|(_, member)| member.reference == 0);
        self.kept.own = self.kept.own.saturating_add(own.map_or(0, |(_, member)| member.len));
        self.kept.push(kept_in);
    }
}

#[cfg(test)]
mod tests;
