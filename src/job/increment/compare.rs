//! Which files of a scan are as the backup before has them: two walks in path order, side by side.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::runs::Named;
use crate::error::Result;
use crate::source::Scanned;
use crate::tar::stat::FileTime;
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

    fn clear(&mut self, same: &Same) {
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
        (self.known, self.known.saturating_sub(self.count()))
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

/// The most bytes that may be held back of files with several names; what comes beyond that is sent.
const MOST_HELD: usize = 32 << 20;
/// What a name that is held back takes beside its bytes, about.
const HELD: usize = 320;

/// Compares files as they are found. Memory: one bit a member of the backup before, and files that have several names as
/// long as not all of these are known, up to a bound.
pub struct Comparison<M> {
    before: Before<M>,
    /// Its member at hand, by its plain name.
    next: Option<(Vec<u8>, Entry)>,
    ended: bool,
    kept: Kept,
    /// Files that are one by hard links, by device and inode.
    groups: HashMap<(u64, u64), Group>,
    /// Bytes that the names in those take.
    held: usize,
    /// Files that are sent behind all others.
    deferred: Vec<Scanned>,
}

/// A member that is still the file that it was.
struct Same {
    number: u64,
    reference: u32,
    len: u64,
    /// Of a link, its plain target.
    link: Option<Vec<u8>>,
}

/// The names of one file. They are kept together, in one archive, or sent together: a link leads to a member beside it.
#[derive(Default)]
struct Group {
    found: u64,
    /// One of its names was sent, so all are.
    is_sent: bool,
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

    fn held(&self) -> usize {
        let held = |(file, same): &(Scanned, Same)| {
            HELD + file.name.len() + file.walked.len() + same.link.as_ref().map_or(0, Vec::len)
        };
        self.names.iter().map(held).sum()
    }
}

impl<M: FnMut() -> Result<Option<Entry>>> Comparison<M> {
    /// At the first file of a scan.
    pub fn new(before: Before<M>) -> Self {
        let (groups, deferred) = (HashMap::new(), Vec::new());
        Comparison { before, next: None, ended: false, kept: Kept::default(), groups, held: 0, deferred }
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
        Ok(same.is_none().then_some(file))
    }

    fn take_linked(&mut self, file: Scanned, same: Option<Same>) -> Option<Scanned> {
        let (key, links) = ((file.device, file.stat.inode), file.links);
        let mut group = self.groups.remove(&key).unwrap_or_default();
        self.held -= group.held();
        group.found += 1;
        let is_full = group.names.is_empty() && self.held > MOST_HELD;
        let mut sent = None;
        match same {
            Some(same) if !group.is_sent && !is_full => group.names.push((file, same)),
            same => {
                same.iter().for_each(|same| self.kept.clear(same));
                self.defer(std::mem::take(&mut group.names));
                group.is_sent = true;
                sent = Some(file);
            }
        }
        if group.found < links {
            self.held += group.held();
            self.groups.insert(key, group);
        } else if !group.is_sent && !group.is_kept() {
            self.defer(group.names);
        }
        sent
    }

    fn defer(&mut self, names: Vec<(Scanned, Same)>) {
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
        // Some of their names lie elsewhere.
        for group in std::mem::take(&mut self.groups).into_values().filter(|group| !group.is_kept()) {
            self.defer(group.names);
        }
        self.deferred.sort_by(|a, b| name::path_order(&a.name, &b.name));
        Ok((self.deferred, self.kept))
    }

    /// The member that is still the file.
    fn same_member(&mut self, file: &Scanned) -> Result<Option<Same>> {
        while let Some((name, member)) = self.peek()? {
            match name::path_order(name, &file.name) {
                Ordering::Less => self.pass(None),
                Ordering::Greater => return Ok(None),
                Ordering::Equal => {
                    let link = member.hard_link().map(|link| name::plain(&link).to_vec());
                    let (reference, len) = (member.reference, member.len);
                    // What is sent again for the sake of its archive says nothing of the files.
                    self.kept.known += u64::from(!self.before.gone.contains(&reference));
                    let (is_same, number) = (self.is_same(file), self.kept.len);
                    self.pass(is_same.then_some((reference, len)));
                    return Ok(is_same.then_some(Same { number, reference, len, link }));
                }
            }
        }
        Ok(None)
    }

    /// Whether the file is still what the member at hand was, as far as anybody can know who does not read it.
    fn is_same(&self, file: &Scanned) -> bool {
        let Some((_, member)) = &self.next else { return false };
        let latest = self.before.started.as_second().saturating_sub(TICK);
        let settled = |time: FileTime| time.seconds < latest;
        member.stat == Some(file.stat)
            && settled(file.stat.mtime)
            && settled(file.stat.ctime)
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
mod tests {
    use super::*;
    use crate::tar::stat::Stat;

    /// When the backup before began, in seconds since 1970.
    const STARTED: i64 = 1_000;

    fn stat(inode: u64, seconds: i64) -> Stat {
        let time = FileTime { seconds, nanos: 5 };
        Stat { mode: 0o100_644, uid: 1, gid: 2, size: 3, inode, mtime: time, ctime: time }
    }

    fn file(name: &str, stat: Stat, links: u64) -> Scanned {
        Scanned { name: name.into(), walked: name.into(), stat, device: 1, links }
    }

    fn member(path: &str, stat: Stat, reference: u32) -> Entry {
        let json = serde_json::json!({
            "path": path, "type": "file", "mode": 0o644, "uid": 1, "gid": 2, "mtime": "0", "size": 3,
            "at": 0, "len": 1024, "ref": reference,
        });
        Entry { stat: Some(stat), ..serde_json::from_value(json).unwrap() }
    }

    /// The names that are sent, those behind all others after a bar, and the numbers of the members that are kept.
    fn compare(members: &[Entry], gone: &[u32], files: &[Scanned]) -> (String, Vec<u64>) {
        let own = members.iter().filter(|member| member.reference == 0).count() as u64;
        let mut members = members.iter().cloned();
        let started = jiff::Timestamp::from_second(STARTED).unwrap();
        let before = Before { members: || Ok(members.next()), started, gone: gone.iter().copied().collect() };
        let mut comparison = Comparison::new(before);
        let name = |file: &Scanned| String::from_utf8(file.name.clone()).unwrap();
        let mut sent = Vec::new();
        for file in files {
            sent.extend(comparison.take(file.clone()).unwrap().as_ref().map(name));
        }
        let (last, kept) = comparison.finish().unwrap();
        let last: Vec<_> = last.iter().map(name).collect();
        let numbers: Vec<_> = (0..200).filter(|&number| kept.is_kept(number)).collect();
        assert_eq!(kept.count(), numbers.len() as u64);
        assert_eq!(kept.references.values().map(|live| live.members).sum::<u64>(), kept.count());
        assert_eq!(kept.own, 1024 * own);
        assert_eq!(kept.references.values().map(|live| live.bytes).sum::<u64>(), 1024 * kept.count());
        (format!("{}|{}", sent.join(" "), last.join(" ")), numbers)
    }

    #[test]
    fn what_is_the_same_is_kept_and_what_is_new_or_other_is_sent() {
        let members = ["a", "b", "c", "d/e"].map(|path| member(path, stat(1, 10), 0));
        let other = |change: &dyn Fn(&mut Stat)| {
            let mut stat = stat(1, 10);
            change(&mut stat);
            compare(&members, &[], &[file("a", stat, 1), file("c", self::stat(1, 10), 1)])
        };
        assert_eq!(other(&|_| {}), ("|".into(), vec![0, 2]));
        let changes: [&dyn Fn(&mut Stat); 7] = [
            &|stat| stat.mode = 0o120_644,
            &|stat| stat.uid += 1,
            &|stat| stat.gid += 1,
            &|stat| stat.size += 1,
            &|stat| stat.inode += 1,
            &|stat| stat.mtime.nanos -= 1,
            &|stat| stat.ctime.seconds += 1,
        ];
        for change in changes {
            assert_eq!(other(change), ("a|".into(), vec![2]));
        }
        let files = ["0", "a", "a-", "d", "d/e", "e"].map(|name| file(name, stat(1, 10), 1));
        assert_eq!(compare(&members, &[], &files), ("0 a- d e|".into(), vec![0, 3]));
        assert_eq!(compare(&[], &[], &files[..1]), ("0|".into(), vec![]));
    }

    #[test]
    fn what_may_have_changed_within_a_tick_is_sent() {
        for (seconds, sent) in [(STARTED - 3, "|"), (STARTED - 2, "a|"), (STARTED, "a|"), (STARTED + 9, "a|")]
        {
            let stat = stat(1, seconds);
            assert_eq!(compare(&[member("a", stat, 0)], &[], &[file("a", stat, 1)]).0, sent, "{seconds}");
        }
    }

    #[test]
    fn what_lies_in_an_archive_that_is_gone_is_sent() {
        let members = [member("a", stat(1, 10), 1), member("b", stat(2, 10), 2), member("c", stat(3, 10), 0)];
        let files = [file("a", stat(1, 10), 1), file("b", stat(2, 10), 1), file("c", stat(3, 10), 1)];
        assert_eq!(compare(&members, &[2], &files), ("b|".into(), vec![0, 2]));
        assert_eq!(compare(&members, &[0, 1], &files), ("a c|".into(), vec![1]));
    }

    #[test]
    fn a_member_without_a_fingerprint_is_sent() {
        let members = [Entry { stat: None, ..member("a", stat(1, 10), 0) }];
        assert_eq!(compare(&members, &[], &[file("a", stat(1, 10), 1)]), ("a|".into(), vec![]));
    }

    #[test]
    fn the_names_of_one_file_are_kept_together_or_sent_together() {
        let one = stat(7, 10);
        let link = |path: &str, to: &str, reference| Entry {
            kind: EntryType::Link,
            link: Some(to.into()),
            ..member(path, one, reference)
        };
        let members = [member("a", one, 1), link("b", "./a", 1), member("c", stat(8, 10), 0)];
        let alone = file("c", stat(8, 10), 1);
        let files = [file("a", one, 2), file("b", one, 2), alone.clone()];
        assert_eq!(compare(&members, &[], &files), ("|".into(), vec![0, 1, 2]));
        // A folder around one of them has another name: its own times say nothing of that.
        let moved = [file("a", one, 2), alone.clone(), file("x/b", one, 2)];
        assert_eq!(compare(&members, &[], &moved), ("x/b|a".into(), vec![2]));
        // A link does not lead from one archive into another.
        let apart = [member("a", one, 1), link("b", "a", 2), member("c", stat(8, 10), 0)];
        assert_eq!(compare(&apart, &[], &files), ("|a b".into(), vec![2]));
        // One inode number on two devices is two files.
        let own = [member("a", one, 1), member("b", one, 2), member("c", stat(8, 10), 0)];
        let two = [file("a", one, 2), Scanned { device: 2, ..file("b", one, 2) }, alone];
        assert_eq!(compare(&own, &[], &two), ("|".into(), vec![0, 1, 2]));
        // It leads to another member than that of the same file.
        let other = [member("a", one, 1), link("b", "c", 1)];
        assert_eq!(compare(&other, &[], &files[..2]), ("|a b".into(), vec![]));
        // A name comes behind one that is sent.
        let late = [file("0", one, 3), file("a", one, 3), file("b", one, 3)];
        assert_eq!(compare(&members, &[], &late), ("0 a b|".into(), vec![]));
        // The member that the link leads to is left out now.
        assert_eq!(compare(&members, &[], &[file("b", one, 2)]), ("|b".into(), vec![]));
        assert_eq!(compare(&[link("b", "a", 0)], &[], &[file("b", one, 1)]), ("b|".into(), vec![]));
    }

    #[test]
    fn names_that_are_held_back_are_let_go_when_all_are_known_and_are_bounded() {
        let started = jiff::Timestamp::from_second(STARTED).unwrap();
        let mut members = ["a", "b", "c"].map(|path| member(path, stat(7, 10), 0)).into_iter();
        let before = Before { members: || Ok(members.next()), started, gone: HashSet::new() };
        let mut comparison = Comparison::new(before);
        assert!(comparison.take(file("a", stat(7, 10), 2)).unwrap().is_none() && comparison.held > 0);
        assert!(comparison.take(file("b", stat(7, 10), 2)).unwrap().is_none());
        assert!(comparison.groups.is_empty() && comparison.held == 0);
        comparison.held = MOST_HELD + 1;
        assert!(comparison.take(file("c", stat(7, 10), 2)).unwrap().is_some(), "at the bound it is sent");
    }

    #[test]
    fn every_member_has_its_own_bit() {
        let names: Vec<_> = (100..300).map(|n| format!("f{n}")).collect();
        let members: Vec<_> = names.iter().map(|name| member(name, stat(1, 10), 0)).collect();
        let files: Vec<_> = names.iter().step_by(3).map(|name| file(name, stat(1, 10), 1)).collect();
        let expected: Vec<_> = (0..200).step_by(3).collect();
        assert_eq!(compare(&members, &[], &files), ("|".into(), expected));
    }

    #[test]
    fn what_keeps_the_backup_before_from_being_read_is_an_error() {
        let members = || Err(crate::error::Error::damaged("a page"));
        let before = Before { members, started: jiff::Timestamp::UNIX_EPOCH, gone: HashSet::new() };
        assert!(Comparison::new(before).take(file("a", stat(1, 1), 1)).is_err());
        let members = || Err(crate::error::Error::damaged("a page"));
        let before = Before { members, started: jiff::Timestamp::UNIX_EPOCH, gone: HashSet::new() };
        assert!(Comparison::new(before).finish().is_err());
    }
}
