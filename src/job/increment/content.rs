//! Files compared by what is in them, for file systems whose times of change and inode numbers say nothing: they are read,
//! several at once, and what is to be sent goes on in the order in which it was found.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::compare::{Comparison, Same, held, held_by};
use crate::error::{Error, Result};
use crate::source::{ContentReader, Scanned};
use crate::stream::workers::{Dispatch, Results, workers};
use crate::tar::content::Content;
use crate::tar::stat::FileTime;
use crate::tar::{Entry, EntryType};

/// Files that are being read, or wait for their turn.
const DEPTH: usize = 64;
/// Files that may wait for others before them.
const MOST_WAITING: usize = 1024;
/// Bytes of names that may wait.
const MOST_HELD: usize = 4 << 20;

/// What a member has, as far as a file must be read to know that it has the same.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    content: Content,
    /// Of a symlink.
    target: Option<Vec<u8>>,
}

impl Expected {
    /// What must be in a file that is to be kept as this member; none where it is another one, which nobody has to read.
    ///
    /// All that its header says must be so now: the header is what stays. Neither its time of change nor its inode number is
    /// in there, nor a folder's size.
    pub(super) fn of(member: &Entry, file: &Scanned) -> Option<Expected> {
        let (content, now) = (member.content.as_ref()?, &file.stat);
        let is_alike = member.stat.is_some_and(|stat| stat.mode == now.mode)
            && u64::from(member.mode) == u64::from(now.mode & 0o7777)
            && (member.uid, member.gid) == (now.uid.into(), now.gid.into())
            && FileTime::parse(&member.mtime) == Some(now.mtime);
        let has_one_name = file.links == 1;
        let may_be_kept = match member.kind {
            EntryType::File => now.is_file() && member.size == now.size && content.blake3.is_some(),
            // It is read by the name that it is a link to.
            EntryType::Link => now.is_file() && !has_one_name,
            EntryType::Symlink => now.is_symlink() && has_one_name,
            EntryType::Dir => now.is_dir(),
            EntryType::Char | EntryType::Block | EntryType::Fifo | EntryType::Other => false,
        };
        let target = member.link_name().filter(|_| member.kind == EntryType::Symlink);
        (is_alike && may_be_kept).then(|| Expected { content: content.clone(), target })
    }
}

/// All names of a file that is to be read: it is kept as the members that they are if that has the same in it.
pub(super) struct ToRead(pub(super) Vec<(Scanned, Same)>);

impl ToRead {
    /// Bytes that it takes, about.
    pub(super) fn held(&self) -> usize {
        held(&self.0)
    }

    /// The name by which it is read, and what must be in it.
    pub(super) fn job(&self) -> Option<(Scanned, Expected)> {
        let (file, same) = self.0.iter().find(|(_, same)| same.link.is_none())?;
        Some((file.clone(), same.expected.clone()?))
    }
}

impl<M: FnMut() -> Result<Option<Entry>>> Comparison<M> {
    /// The same, by what is in files: [`Comparison::take_to_read`] says which must be read.
    pub(super) fn by_content(mut self) -> Self {
        self.by_content = true;
        self
    }

    /// The files that are to be read, since this was asked last: before the one that was sent last.
    pub(super) fn take_to_read(&mut self) -> Vec<ToRead> {
        std::mem::take(&mut self.to_read)
    }

    /// The same when no more files come.
    pub(super) fn last_to_read(&mut self) -> Vec<ToRead> {
        if self.by_content {
            for group in std::mem::take(&mut self.groups).into_values() {
                self.decide(group);
            }
        }
        self.take_to_read()
    }

    /// Takes in that a file has other things in it. If it has one name, that is to be sent now.
    pub(super) fn refuse(&mut self, ToRead(mut names): ToRead) -> Option<Scanned> {
        match names.pop() {
            Some((file, same)) if names.is_empty() && (file.links == 1 || file.stat.is_dir()) => {
                self.kept.clear(&same);
                Some(file)
            }
            last => {
                names.extend(last);
                self.defer(names);
                None
            }
        }
    }

    /// How many files there are of which the backup before does not say what was in them.
    pub(super) fn unhashed(&self) -> u64 {
        self.unhashed
    }
}

/// How files are read.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    /// The folder from which their paths are seen.
    pub(super) from: Option<PathBuf>,
    /// How many are read at once.
    pub(super) at_once: usize,
}

/// A file, and what must be in it.
type Job = (Scanned, Expected);

/// A file that was found, whose turn comes.
enum Turn {
    Send(Scanned),
    Read(ToRead),
}

/// What comes of a file.
pub(super) enum Decided {
    /// It is to be sent.
    Send(Scanned),
    /// It is kept.
    Same,
    /// It was read, and is another.
    Other(ToRead),
}

/// Files on their way: read where that is asked for, and given back in order.
pub(super) struct Turns {
    readers: (Dispatch<Job, bool>, Results<bool>),
    turns: VecDeque<Turn>,
    /// Those that nobody reads yet.
    jobs: VecDeque<Job>,
    /// How many are being read.
    under_way: usize,
    held: usize,
}

impl Turns {
    /// Starts threads that read; none where nothing is ever to be read.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn new(reading: Option<&Reading>, stop: &CancellationToken) -> Result<Turns> {
        let (from, at_once): (Option<&Path>, _) =
            reading.map_or((None, 0), |reading| (reading.from.as_deref(), reading.at_once));
        let readers = (0..at_once).map(|_| {
            let mut reader = ContentReader::new(from, stop.clone());
            move |(file, Expected { content, target }): Job| reader.has(&file, &content, target.as_deref())
        });
        let readers = workers("content", DEPTH, readers.collect())?;
        let (turns, jobs) = (VecDeque::new(), VecDeque::new());
        Ok(Turns { readers, turns, jobs, under_way: 0, held: 0 })
    }

    /// Takes in what comes next: files to be read, and one to be sent.
    ///
    /// # Errors
    /// A reader is gone.
    pub(super) fn push(&mut self, to_read: Vec<ToRead>, sent: Option<Scanned>) -> Result<()> {
        for names in to_read {
            self.held += names.held();
            self.jobs.extend(names.job());
            self.turns.push_back(Turn::Read(names));
        }
        self.held += sent.as_ref().map_or(0, |file| held_by(file, None));
        self.turns.extend(sent.map(Turn::Send));
        self.dispatch()
    }

    fn dispatch(&mut self) -> Result<()> {
        while self.under_way < DEPTH
            && let Some(job) = self.jobs.pop_front()
        {
            self.readers.0.send(job)?;
            self.under_way += 1;
        }
        Ok(())
    }

    /// The next file of which it is known what comes of it; none while others may well be looked for meanwhile. At the `end`
    /// there are no others.
    ///
    /// # Errors
    /// It was stopped.
    pub(super) fn next(&mut self, end: bool) -> Result<Option<Decided>> {
        let is_full = self.under_way == DEPTH || self.turns.len() > MOST_WAITING || self.held > MOST_HELD;
        match self.turns.pop_front() {
            None => Ok(None),
            Some(Turn::Send(file)) => {
                self.held -= held_by(&file, None);
                Ok(Some(Decided::Send(file)))
            }
            Some(turn @ Turn::Read(_)) if !end && !is_full => {
                self.turns.push_front(turn);
                Ok(None)
            }
            Some(Turn::Read(names)) => {
                let is_same = self.readers.1.next_blocking()?.ok_or_else(Error::disconnected)?;
                self.held -= names.held();
                self.under_way -= 1;
                self.dispatch()?;
                Ok(Some(if is_same { Decided::Same } else { Decided::Other(names) }))
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "files to be read lie on the disk")]
mod tests {
    use std::collections::HashSet;

    use super::super::compare::Before;
    use super::*;
    use crate::error::Kind;
    use crate::tar::stat::Stat;

    /// When the files changed last, which a member says in its words.
    const MTIME: FileTime = FileTime { seconds: -2, nanos: 500_000_000 };

    fn file(name: &str, inode: u64, links: u64) -> Scanned {
        let ctime = FileTime { seconds: inode as i64, nanos: 0 };
        let stat = Stat { mode: 0o100_644, uid: 1, gid: 2, size: 3, inode, mtime: MTIME, ctime };
        Scanned { name: name.into(), walked: name.into(), stat, device: 1, links }
    }

    fn member(path: &str, kind: &str) -> Entry {
        let hash = matches!(kind, "file").then(|| blake3::hash(path.as_bytes()).to_hex().to_string());
        let json = serde_json::json!({
            "path": path, "type": kind, "mode": 0o644, "uid": 1, "gid": 2, "mtime": "-1.5", "size": 3,
            "at": 0, "len": 1024, "ref": 1, "content": {"blake3": hash},
            "stat": [0o100_644, 1, 2, 3, 99, 0, 0, 0, 0],
        });
        serde_json::from_value(json).unwrap()
    }

    fn link(path: &str, to: &str) -> Entry {
        Entry { link: Some(to.into()), size: 0, ..member(path, "link") }
    }

    /// The names that are sent, in order; a bar stands before those behind all others. Read are files of which only those
    /// named in `changed` have other things in them.
    fn compare(members: &[Entry], gone: &[u32], files: &[Scanned], changed: &[&str]) -> (String, u64) {
        let mut members = members.iter().cloned();
        // All is as late as can be.
        let before = Before {
            members: || Ok(members.next()),
            started: jiff::Timestamp::UNIX_EPOCH,
            gone: gone.iter().copied().collect::<HashSet<_>>(),
        };
        let mut comparison = Comparison::new(before).by_content();
        let mut sent = Vec::new();
        let decide = |comparison: &mut Comparison<_>, to_read: Vec<ToRead>| {
            let mut sent = Vec::new();
            for names in to_read {
                let (file, _) = names.job().unwrap();
                if changed.iter().any(|name| name.as_bytes() == file.name) {
                    sent.extend(comparison.refuse(names));
                }
            }
            sent
        };
        for file in files {
            let now = comparison.take(file.clone()).unwrap();
            let to_read = comparison.take_to_read();
            sent.extend(decide(&mut comparison, to_read));
            sent.extend(now);
        }
        let to_read = comparison.last_to_read();
        sent.extend(decide(&mut comparison, to_read));
        let unhashed = comparison.unhashed();
        let (last, kept) = comparison.finish().unwrap();
        let name = |file: &Scanned| String::from_utf8(file.name.clone()).unwrap();
        let [sent, last] = [sent, last].map(|files| files.iter().map(name).collect::<Vec<_>>().join(" "));
        assert_eq!(kept.live(1), 1024 * kept.count());
        assert_eq!(kept.count() + count(&sent) + count(&last), files.len() as u64);
        (format!("{sent}|{last}"), unhashed)
    }

    fn count(names: &str) -> u64 {
        names.split_whitespace().count() as u64
    }

    #[test]
    fn a_file_with_another_inode_and_time_of_change_is_kept_if_it_has_the_same_in_it() {
        let members = [member("a", "file"), member("b", "file"), member("c", "file")];
        let files = [file("a", 4, 1), file("b", 5, 1), file("c", 6, 1)];
        assert_eq!(compare(&members, &[], &files, &[]), ("|".into(), 0));
        assert_eq!(compare(&members, &[], &files, &["b"]), ("b|".into(), 0));
        assert_eq!(compare(&members, &[1], &files, &[]), ("a b c|".into(), 0), "its archive is gone");
    }

    #[test]
    fn what_a_members_header_says_must_be_so() {
        let changes: [&dyn Fn(&mut Stat); 6] = [
            &|stat| stat.mode = 0o120_644,
            &|stat| stat.mode = 0o100_600,
            &|stat| stat.uid += 1,
            &|stat| stat.gid += 1,
            &|stat| stat.size += 1,
            &|stat| stat.mtime.nanos += 1,
        ];
        for change in changes {
            let mut changed = file("a", 4, 1);
            change(&mut changed.stat);
            assert_eq!(compare(&[member("a", "file")], &[], &[changed], &[]).0, "a|");
        }
        for kind in ["fifo", "char", "block", "other", "link"] {
            assert_eq!(compare(&[member("a", kind)], &[], &[file("a", 4, 1)], &[]).0, "a|", "{kind}");
        }
    }

    #[test]
    fn a_file_without_a_hash_is_sent_and_counted_where_none_was_asked_for() {
        let without = Entry { content: None, ..member("a", "file") };
        assert_eq!(compare(&[without], &[], &[file("a", 4, 1)], &[]), ("a|".into(), 1));
        let sparse = Entry { content: Some(Content::default()), ..member("a", "file") };
        assert_eq!(compare(&[sparse], &[], &[file("a", 4, 1)], &[]), ("a|".into(), 0));
    }

    #[test]
    fn the_names_of_one_file_are_read_once_and_kept_or_sent_together() {
        let members = [member("a", "file"), link("b", "./a"), member("c", "file")];
        let files = [file("a", 4, 2), file("b", 4, 2), file("c", 5, 1)];
        assert_eq!(compare(&members, &[], &files, &[]).0, "|");
        assert_eq!(compare(&members, &[], &files, &["a"]).0, "|a b");
        // Some of its names lie elsewhere.
        let files = [file("a", 4, 3), file("b", 4, 3), file("c", 5, 1)];
        assert_eq!(compare(&members, &[], &files, &[]).0, "|");
        assert_eq!(compare(&members, &[], &files, &["a"]).0, "|a b");
        // The names group in another way.
        let files = [file("a", 4, 1), file("b", 5, 2), file("c", 5, 2)];
        assert_eq!(compare(&members, &[], &files, &[]).0, "|b c");
        let files = [file("a", 4, 1), file("b", 5, 1), file("c", 6, 1)];
        assert_eq!(compare(&members, &[], &files, &[]).0, "b|");
    }

    #[test]
    fn files_are_sent_in_the_order_in_which_they_were_found_however_long_others_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let found = |name: &str, bytes: usize| {
            let path = dir.path().join(name);
            std::fs::write(&path, vec![7; bytes]).unwrap();
            let stat = Stat::from(&std::fs::symlink_metadata(&path).unwrap());
            let device = std::os::unix::fs::MetadataExt::dev(&std::fs::metadata(&path).unwrap());
            Scanned { name: name.into(), walked: name.into(), stat, device, links: 1 }
        };
        let to_read = |file: Scanned, is_same: bool| {
            let hash = blake3::hash(&vec![if is_same { 7 } else { 8 }; file.stat.size as usize]);
            let content = Content { blake3: Some(hash.to_hex().to_string()), attributes: None };
            let expected = Some(Expected { content, target: None });
            ToRead(vec![(file, Same { number: 0, reference: 0, len: 0, link: None, expected })])
        };
        let stop = CancellationToken::new();
        let reading = Reading { from: Some(dir.path().into()), at_once: 3 };
        let mut turns = Turns::new(Some(&reading), &stop).unwrap();
        let mut decided = Vec::new();
        let mut go_through = |turns: &mut Turns, end| {
            while let Some(next) = turns.next(end).unwrap() {
                decided.push(match next {
                    Decided::Send(file) => file.name,
                    Decided::Same => b"same".to_vec(),
                    Decided::Other(ToRead(names)) => [b"other ", &names[0].0.name[..]].concat(),
                });
            }
        };
        let mut expected = Vec::new();
        for number in 0..2_000 {
            let name = format!("f{number}");
            let file = found(&name, if number % 97 == 0 { 1 << 20 } else { 1 });
            match number % 4 {
                0 | 1 => turns.push(Vec::new(), Some(file)).unwrap(),
                other => turns.push(vec![to_read(file, other == 2)], None).unwrap(),
            }
            expected.push(match number % 4 {
                0 | 1 => name,
                2 => "same".into(),
                _ => format!("other {name}"),
            });
            go_through(&mut turns, false);
            assert!(turns.turns.len() <= MOST_WAITING && turns.under_way <= DEPTH);
        }
        go_through(&mut turns, true);
        let decided: Vec<_> = decided.into_iter().map(|name| String::from_utf8(name).unwrap()).collect();
        assert!(decided == expected && turns.held == 0);
        stop.cancel();
        turns.push(vec![to_read(found("late", 1), true)], None).unwrap();
        assert_eq!(turns.next(true).err().unwrap().kind(), Kind::Interrupted);
    }
}
