//! An archive against a folder of this host, as a restore would leave it. Nothing outside of the folder is opened, and
//! no symlink is followed, whatever names the archive has.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::content::{self, FileVisitor};
use super::host::{Host, There};
use super::member::{Field, Member, Name, Place};
use super::{Change, Changes, Side, add};
use crate::error::{Error, Result};
use crate::stream::counters::Counters;
use crate::tar::EntryType;
use crate::tar::select::Patterns;

/// Metadata and contents.
pub(super) async fn compare(
    archive: Side,
    dir: &Path,
    patterns: &Patterns,
    counters: &Counters,
) -> Result<Changes> {
    let (host, patterns) = (Host::open(dir)?, patterns.clone());
    let Side { mut archive, members } = archive;
    let mut walk = Walk { host, members, patterns, changes: Changes::new(), alike: Vec::new() };
    let work = tokio::task::spawn_blocking(move || walk.run().map(|()| walk));
    let Walk { host, mut changes, alike, .. } =
        work.await.map_err(|e| Error::failed("a worker died").because(e))??;
    let (names, places): (Vec<_>, Vec<_>) = alike.into_iter().unzip();
    let beside = Beside { host, names, open: None, differ: Vec::new() };
    let beside = content::read(&mut archive, places, beside, counters).await?;
    for file in beside.differ {
        add(&mut changes, &beside.names[file], Field::content());
    }
    Ok(changes)
}

/// The comparison of what needs no bytes.
struct Walk {
    host: Host,
    members: BTreeMap<Name, Member>,
    patterns: Patterns,
    changes: Changes,
    /// Files of the same size, and where their bytes lie in the source.
    alike: Vec<(Name, Place)>,
}

impl Walk {
    fn run(&mut self) -> Result<()> {
        let members = std::mem::take(&mut self.members);
        for (name, member) in &members {
            if let Some(why) = member.refused {
                self.change(name, Change::Refused(why));
                continue;
            }
            let Some(there) = self.host.look(name)? else {
                self.change(name, Change::Removed);
                continue;
            };
            if member.kind == EntryType::Dir && there.kind() == EntryType::Dir {
                self.others(name, &members)?;
            }
            if name.matches(&self.patterns) {
                self.member(name, member, &there)?;
            }
        }
        Ok(())
    }

    fn change(&mut self, name: &Name, change: Change) {
        if name.matches(&self.patterns) {
            self.changes.insert(name.clone(), change);
        }
    }

    /// What is in a folder that the archive has, and not in the archive.
    fn others(&mut self, folder: &Name, members: &BTreeMap<Name, Member>) -> Result<()> {
        for child in self.host.list(folder)? {
            let name = folder.join(&child);
            // Of a folder that the archive has only things in, no more is known.
            if members.contains_key(&name) || is_above_any(&name, members) {
                continue;
            }
            let there = self.host.look(&name)?;
            // No archive has sockets: a program that listens makes its own anew.
            if there.as_ref().is_some_and(There::is_socket) {
                continue;
            }
            self.change(&name, Change::Added);
            if there.is_some_and(|there| there.kind() == EntryType::Dir) {
                self.others(&name, members)?;
            }
        }
        Ok(())
    }

    fn member(&mut self, name: &Name, member: &Member, there: &There) -> Result<()> {
        let target = member.target();
        let mut old = member.clone();
        if target.is_some() {
            // Another name of a file, a link or a device: it is there as that.
            let like = there.member(&old);
            (old.kind, old.link, old.size) = (there.kind(), like.link, like.size);
            if there.kind() == EntryType::Dir {
                old.kind = EntryType::Link;
            }
        }
        let new = there.member(&old);
        let mut fields = old.differs(&new);
        if let Some(target) = target
            && new.kind != EntryType::Dir
            && !self.host.is_link(there, &target)?
        {
            fields.push(Field::new("link", serde_json::json!(target.shown()), serde_json::Value::Null));
        }
        if let Some(data) = old.data.filter(|(_, range)| !range.is_empty())
            && new.kind == EntryType::File
            && new.size == old.size
        {
            self.alike.push((name.clone(), data));
        }
        if !fields.is_empty() {
            self.changes.insert(name.clone(), Change::Changed(fields));
        }
        Ok(())
    }
}

fn is_above_any(folder: &Name, members: &BTreeMap<Name, Member>) -> bool {
    let below = folder.join(b"");
    members.range(below.clone()..).next().is_some_and(|(name, _)| name.is_below(&below))
}

/// Files of this host, read beside those of the archive.
struct Beside {
    host: Host,
    names: Vec<Name>,
    /// The file at hand; none where it is not there any more, or differs already.
    open: Option<(usize, Option<OwnedFd>)>,
    differ: Vec<usize>,
}

impl FileVisitor for Beside {
    fn visit(&mut self, file: usize, piece: &[u8], last: bool) -> Result<()> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != file) {
            // It was a file when it was looked at; what took its place since must not make us wait.
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            self.open = Some((file, self.host.at(&self.names[file], flags)?));
        }
        if let Some((_, open)) = &mut self.open {
            let same = match open {
                Some(fd) => is_next(fd, piece).map_err(|e| self.host.cannot(&self.names[file], e))?,
                None => false,
            };
            if !same {
                *open = None;
            }
            if last {
                self.differ.extend(open.is_none().then_some(file));
                self.open = None;
            }
        }
        Ok(())
    }
}

/// Whether the next bytes of a file are these.
fn is_next(file: &OwnedFd, mut bytes: &[u8]) -> Result<bool, Errno> {
    let mut buffer = vec![0; bytes.len().min(1 << 20)];
    while !bytes.is_empty() {
        let wanted = bytes.len().min(buffer.len());
        let read = rustix::io::retry_on_intr(|| rustix::io::read(file, &mut buffer[..wanted]))?;
        if read == 0 || buffer[..read] != bytes[..read] {
            return Ok(false);
        }
        bytes = &bytes[read..];
    }
    Ok(true)
}
