//! Files compared by what is in them, for file systems whose times of change and inode numbers say nothing: they are read,
//! several at once, and what is to be sent goes on in the order in which it was found.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::compare::{ToRead, held_by};
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
        self.held += sent.as_ref().map_or(0, held_by);
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
                self.held -= held_by(&file);
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
