//! A folder of this host, looked into part by part: nothing outside of it is opened, and no symlink is followed.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::member::{Member, Name};
use crate::error::{Error, Result};
use crate::report::printable;
use crate::tar::EntryType;

/// How a folder is opened to look something up in it.
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What a name is on this host.
pub(super) struct There {
    pub(super) stat: Stat,
    link: Option<Vec<u8>>,
}

impl There {
    pub(super) fn kind(&self) -> EntryType {
        match FileType::from_raw_mode(self.stat.st_mode) {
            FileType::RegularFile => EntryType::File,
            FileType::Directory => EntryType::Dir,
            FileType::Symlink => EntryType::Symlink,
            FileType::Fifo => EntryType::Fifo,
            FileType::CharacterDevice => EntryType::Char,
            FileType::BlockDevice => EntryType::Block,
            _ => EntryType::Other,
        }
    }

    pub(super) fn is_socket(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode) == FileType::Socket
    }

    pub(super) fn is_same(&self, other: &There) -> bool {
        (self.stat.st_dev, self.stat.st_ino) == (other.stat.st_dev, other.stat.st_ino)
    }

    /// In the archive's words; a size is only a file's.
    pub(super) fn member(&self, like: &Member) -> Member {
        let (kind, stat) = (self.kind(), &self.stat);
        Member {
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid.into(),
            gid: stat.st_gid.into(),
            size: if kind == EntryType::File { stat.st_size as u64 } else { like.size },
            mtime: Some((stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0))),
            link: self.link.as_deref().map(Box::from),
            data: None,
            refused: None,
        }
    }
}

/// The folder, below which everything is opened part by part.
pub(super) struct Host {
    dir: OwnedFd,
    shown: String,
    /// The folder that was opened last: neighbours follow each other.
    last: Option<(Name, OwnedFd)>,
}

impl Host {
    pub(super) fn open(dir: &Path) -> Result<Host> {
        let shown = dir.display().to_string();
        // The folder itself is the operator's word: it may be a symlink.
        let opened = rustix::fs::open(dir, FOLDER.difference(OFlags::NOFOLLOW), Mode::empty());
        let dir = opened.map_err(|e| {
            Error::failed(format!("cannot open folder {shown}")).because(e).hint("is it there, and a folder?")
        })?;
        Ok(Host { dir, shown, last: None })
    }

    pub(super) fn cannot(&self, name: &Name, error: Errno) -> Error {
        Error::failed(format!("cannot read {}/{}", self.shown, printable(&name.text())))
            .because(error)
            .hint("comparing everything may need root")
    }

    /// Opens what lies at a name; none where there is nothing, or a symlink on the way.
    pub(super) fn at(&mut self, name: &Name, flags: OFlags) -> Result<Option<OwnedFd>> {
        let (folder, last) = name.split();
        let opened = match folder {
            None => rustix::fs::openat(&self.dir, last, flags, Mode::empty()),
            Some(folder) => match self.enter(&folder)? {
                None => return Ok(None),
                Some(folder) => rustix::fs::openat(folder, last, flags, Mode::empty()),
            },
        };
        absent(opened).map_err(|e| self.cannot(name, e))
    }

    /// A folder to look something up in.
    fn enter(&mut self, folder: &Name) -> Result<Option<&OwnedFd>> {
        if self.last.as_ref().is_none_or(|(last, _)| last != folder) {
            let mut opened: Option<OwnedFd> = None;
            for part in folder.parts() {
                let above = opened.as_ref().unwrap_or(&self.dir);
                let next = absent(rustix::fs::openat(above, part, FOLDER, Mode::empty()));
                let Some(next) = next.map_err(|e| self.cannot(folder, e))? else { return Ok(None) };
                opened = Some(next);
            }
            self.last = opened.map(|opened| (folder.clone(), opened));
        }
        Ok(self.last.as_ref().map(|(_, opened)| opened))
    }

    /// What lies at a name; none where there is nothing, or a symlink on the way.
    pub(super) fn look(&mut self, name: &Name) -> Result<Option<There>> {
        // Opened so, even a symlink or a device is only looked at.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Some(opened) = self.at(name, flags)? else { return Ok(None) };
        let stat = rustix::fs::statat(&opened, c"", AtFlags::EMPTY_PATH).map_err(|e| self.cannot(name, e))?;
        let mut there = There { stat, link: None };
        if there.kind() == EntryType::Symlink {
            let link = rustix::fs::readlinkat(&opened, c"", Vec::new()).map_err(|e| self.cannot(name, e))?;
            there.link = Some(link.into_bytes());
        }
        Ok(Some(there))
    }

    /// Whether a file is another name of `target`; of a target that is not UTF-8 early catalogs do not know enough.
    pub(super) fn is_link(&mut self, there: &There, target: &Name) -> Result<bool> {
        let unknown = target.text().contains(char::REPLACEMENT_CHARACTER);
        Ok(self.look(target)?.is_some_and(|target| target.is_same(there)) || unknown)
    }

    /// The names in a folder, in order.
    pub(super) fn list(&mut self, folder: &Name) -> Result<Vec<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Some(opened) = self.at(folder, flags)? else { return Ok(Vec::new()) };
        let read = || {
            let mut names = Vec::new();
            for entry in rustix::fs::Dir::new(opened)? {
                let name = entry?.file_name().to_bytes().to_vec();
                if name != b"." && name != b".." {
                    names.push(name);
                }
            }
            names.sort();
            Ok(names)
        };
        read().map_err(|e| self.cannot(folder, e))
    }
}

/// Nothing there, no folder on the way, or a name that no file here can have is an answer.
fn absent(opened: Result<OwnedFd, Errno>) -> Result<Option<OwnedFd>, Errno> {
    match opened {
        Ok(opened) => Ok(Some(opened)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG | Errno::INVAL) => Ok(None),
        Err(error) => Err(error),
    }
}
