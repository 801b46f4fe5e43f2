//! What is in files that a scan found: read by us, to be held against what a backup has of them.
//!
//! A path may lead elsewhere by now. Nothing is believed of a file that is not the one that was found, by device, inode and
//! all else that `fstat` says, before it was read and after.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, fstat, openat, readlinkat, statat};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::scan::{self, FILE, FOLDER, Scanned};
use crate::error::{Error, Result};
use crate::tar::content::{Content, attributes_hash};
use crate::tar::stat::Stat;

/// Bytes of a file that are in memory at once.
const BUFFER: usize = 256 << 10;
/// The most bytes that the names, or one value, of a file's extended attributes take on Linux.
const LARGEST_ATTRIBUTE: usize = 64 << 10;

/// Reads files that a scan found. What it holds: a buffer, and the folder of the last file.
#[derive(Debug)]
pub struct ContentReader {
    from: Option<PathBuf>,
    folder: Option<(Vec<u8>, OwnedFd)>,
    buffer: Vec<u8>,
    stop: CancellationToken,
}

/// Why a file is not what it was said to be, or cannot be told.
enum Unlike {
    /// It is another, or cannot be read.
    Other,
    /// Nobody wants to know any more.
    Stopped,
}

impl From<Errno> for Unlike {
    fn from(_: Errno) -> Unlike {
        Unlike::Other
    }
}

impl ContentReader {
    /// Reads files by paths as seen from a folder, until it is stopped.
    pub fn new(from: Option<&Path>, stop: CancellationToken) -> ContentReader {
        let from = from.map(PathBuf::from);
        ContentReader { from, folder: None, buffer: Vec::new(), stop }
    }

    /// Whether a file, a folder or a symlink has this content, attributes included; a symlink also this target. What cannot
    /// be read, or changes meanwhile, has not.
    ///
    /// # Errors
    /// [`Kind::Interrupted`](crate::error::Kind::Interrupted): it was stopped.
    pub fn has(&mut self, file: &Scanned, content: &Content, target: Option<&[u8]>) -> Result<bool> {
        let like = match (file.stat.is_file(), file.stat.is_dir(), target) {
            (true, _, None) => self.file(file, content),
            (_, true, None) => self.folder(file, content),
            (false, false, Some(target)) => self.symlink(file, content, target),
            _ => Err(Unlike::Other),
        };
        match like {
            Ok(()) => Ok(true),
            Err(Unlike::Other) => Ok(false),
            Err(Unlike::Stopped) => Err(Error::interrupted()),
        }
    }

    fn file(&mut self, file: &Scanned, content: &Content) -> std::result::Result<(), Unlike> {
        let (folder, last) = self.folder_of(file)?;
        let fd = openat(folder, last, FILE, Mode::empty())?;
        is_found(file, &fstat(&fd)?)?;
        same(attributes(Attributes::Of(fd.as_fd()))? == content.attributes)?;
        let mut hasher = blake3::Hasher::new();
        self.buffer.reserve(BUFFER);
        loop {
            if self.stop.is_cancelled() {
                return Err(Unlike::Stopped);
            }
            self.buffer.clear();
            match rustix::io::read(&fd, spare_capacity(&mut self.buffer)) {
                Ok(0) => break,
                Ok(_) => drop(hasher.update(&self.buffer)),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        same(content.blake3.as_deref() == Some(hasher.finalize().to_hex().as_str()))?;
        is_found(file, &fstat(&fd)?)
    }

    fn folder(&mut self, file: &Scanned, content: &Content) -> std::result::Result<(), Unlike> {
        let fd = match &self.from {
            None => openat(CWD, &*file.walked, FOLDER, Mode::empty())?,
            Some(from) => openat(CWD, from.join(OsStr::from_bytes(&file.walked)), FOLDER, Mode::empty())?,
        };
        same(attributes(Attributes::Of(fd.as_fd()))? == content.attributes)?;
        is_found(file, &fstat(&fd)?)
    }

    fn symlink(
        &mut self,
        file: &Scanned,
        content: &Content,
        target: &[u8],
    ) -> std::result::Result<(), Unlike> {
        let (folder, last) = self.folder_of(file)?;
        same(readlinkat(folder, last, Vec::new())?.as_bytes() == target)?;
        // There is no call that goes from a folder.
        let path = [format!("/proc/self/fd/{}/", folder.as_raw_fd()).as_bytes(), last].concat();
        same(attributes(Attributes::At(&path))? == content.attributes)?;
        is_found(file, &statat(folder, last, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// The folder that a file is in, and the file's name there.
    fn folder_of<'a>(
        &mut self,
        file: &'a Scanned,
    ) -> std::result::Result<(BorrowedFd<'_>, &'a [u8]), Unlike> {
        let walked = &*file.walked;
        let at = walked.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
        let (folder, last) = walked.split_at(at);
        if self.folder.as_ref().is_none_or(|(known, _)| known != folder) {
            let path = match &self.from {
                Some(from) => from.join(OsStr::from_bytes(folder)),
                None if folder.is_empty() => PathBuf::from("."),
                None => PathBuf::from(OsStr::from_bytes(folder)),
            };
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            self.folder = Some((folder.to_vec(), openat(CWD, path, flags, Mode::empty())?));
        }
        match &self.folder {
            Some((_, fd)) if !last.is_empty() => Ok((fd.as_fd(), last)),
            _ => Err(Unlike::Other),
        }
    }
}

fn same(is_same: bool) -> std::result::Result<(), Unlike> {
    if is_same { Ok(()) } else { Err(Unlike::Other) }
}

/// That this is the file that was found, as it was then.
fn is_found(file: &Scanned, data: &rustix::fs::Stat) -> std::result::Result<(), Unlike> {
    same(Stat::from(data) == file.stat && scan::device(data) == file.device)
}

/// Whose attributes are asked for.
#[derive(Clone, Copy)]
enum Attributes<'a> {
    Of(BorrowedFd<'a>),
    /// At a path, without following a link there.
    At(&'a [u8]),
}

impl Attributes<'_> {
    fn list(self, to: &mut Vec<u8>) -> rustix::io::Result<usize> {
        match self {
            Attributes::Of(fd) => rustix::fs::flistxattr(fd, spare_capacity(to)),
            Attributes::At(path) => rustix::fs::llistxattr(path, spare_capacity(to)),
        }
    }

    fn get(self, name: &[u8], to: &mut Vec<u8>) -> rustix::io::Result<usize> {
        match self {
            Attributes::Of(fd) => rustix::fs::fgetxattr(fd, name, spare_capacity(to)),
            Attributes::At(path) => rustix::fs::lgetxattr(path, name, spare_capacity(to)),
        }
    }
}

/// The hash of a file's extended attributes. Those of its ACLs are among them, which a tar has in other words: what has ACLs
/// has never the hash that a member has.
fn attributes(of: Attributes<'_>) -> rustix::io::Result<Option<String>> {
    let mut names = Vec::with_capacity(1024);
    match of.list(&mut names) {
        Err(Errno::RANGE) => {
            names.reserve(LARGEST_ATTRIBUTE);
            of.list(&mut names)?;
        }
        // A file system without any.
        Err(Errno::NOTSUP) => return Ok(None),
        listed => drop(listed?),
    }
    let mut found = Vec::new();
    for name in names.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let mut value = Vec::with_capacity(LARGEST_ATTRIBUTE);
        of.get(name, &mut value)?;
        found.push((name.to_vec(), value.as_slice().to_vec()));
    }
    Ok(attributes_hash(found))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "files to be read lie on the disk")]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;
    use crate::error::Kind;

    fn found(dir: &Path, name: &str) -> Scanned {
        let data = std::fs::symlink_metadata(dir.join(name)).unwrap();
        Scanned {
            name: name.into(),
            walked: name.into(),
            stat: Stat::from(&data),
            device: data.dev(),
            links: data.nlink(),
        }
    }

    fn content(bytes: &[u8]) -> Content {
        Content { blake3: Some(blake3::hash(bytes).to_hex().to_string()), attributes: None }
    }

    /// A folder with a file `d/a` in it, and what reads that.
    fn folder() -> (tempfile::TempDir, ContentReader) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        std::fs::write(dir.path().join("d/a"), b"bytes").unwrap();
        let reader = ContentReader::new(Some(dir.path()), CancellationToken::new());
        (dir, reader)
    }

    #[test]
    fn a_file_has_what_is_in_it_and_nothing_else() {
        let (dir, mut reader) = folder();
        let large = vec![7; 3 * BUFFER + 1];
        std::fs::write(dir.path().join("large"), &large).unwrap();
        std::fs::write(dir.path().join("empty"), b"").unwrap();
        for (name, bytes) in [("d/a", &b"bytes"[..]), ("large", &large), ("empty", b"")] {
            let file = found(dir.path(), name);
            assert!(reader.has(&file, &content(bytes), None).unwrap(), "{name}");
            assert!(!reader.has(&file, &content(b"other"), None).unwrap(), "{name}");
            assert!(!reader.has(&file, &Content::default(), None).unwrap(), "{name}");
            assert!(!reader.has(&file, &content(bytes), Some(b"a")).unwrap(), "{name}");
        }
    }

    #[test]
    fn nothing_is_believed_of_a_file_that_is_not_the_one_that_was_found() {
        let (dir, mut reader) = folder();
        let at = |name: &str| dir.path().join(name);
        let file = found(dir.path(), "d/a");
        let mut is_it = || ContentReader::has(&mut reader, &file, &content(b"bytes"), None).unwrap();
        assert!(is_it());
        // The same in another file; a link to the file; a pipe that nobody writes to; nothing.
        std::fs::rename(at("d/a"), at("d/b")).unwrap();
        std::fs::write(at("d/a"), b"bytes").unwrap();
        assert!(!is_it());
        std::fs::remove_file(at("d/a")).unwrap();
        symlink("b", at("d/a")).unwrap();
        assert!(!is_it());
        std::fs::remove_file(at("d/a")).unwrap();
        rustix::fs::mknodat(CWD, at("d/a"), rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .unwrap();
        assert!(!is_it());
        std::fs::remove_file(at("d/a")).unwrap();
        assert!(!is_it());
        // What is read by a folder's path lies elsewhere.
        let (dir, mut reader) = folder();
        let file = found(dir.path(), "d/a");
        std::fs::create_dir(dir.path().join("e")).unwrap();
        std::fs::write(dir.path().join("e/a"), b"bytes").unwrap();
        std::fs::rename(dir.path().join("d"), dir.path().join("f")).unwrap();
        symlink("e", dir.path().join("d")).unwrap();
        assert!(!reader.has(&file, &content(b"bytes"), None).unwrap());
    }

    #[test]
    fn symlinks_have_their_targets_and_folders_their_attributes() {
        let (dir, mut reader) = folder();
        symlink("nowhere", dir.path().join("d/l")).unwrap();
        let link = found(dir.path(), "d/l");
        let mut leads = |to: &[u8]| reader.has(&link, &Content::default(), Some(to)).unwrap();
        assert!(leads(b"nowhere") && !leads(b"nowhere2") && !leads(b"nowher"));
        let folder = found(dir.path(), "d");
        assert!(reader.has(&folder, &Content::default(), None).unwrap());
        let other = Content { attributes: Some("0".repeat(64)), blake3: None };
        assert!(!reader.has(&folder, &other, None).unwrap());
        assert!(!reader.has(&link, &other, Some(b"nowhere")).unwrap());
    }

    #[test]
    fn attributes_are_part_of_what_a_file_has() {
        let (dir, mut reader) = folder();
        let path = dir.path().join("d/a");
        let set =
            |value: &[u8]| rustix::fs::lsetxattr(&path, "user.a", value, rustix::fs::XattrFlags::empty());
        if set(b"1").is_err() {
            // This file system has none.
            return;
        }
        let hash = |value: &[u8]| attributes_hash(vec![(b"user.a".to_vec(), value.to_vec())]);
        let own = Content { attributes: hash(b"1"), ..content(b"bytes") };
        assert!(reader.has(&found(dir.path(), "d/a"), &own, None).unwrap());
        assert!(!reader.has(&found(dir.path(), "d/a"), &content(b"bytes"), None).unwrap());
        set(b"2").unwrap();
        assert!(!reader.has(&found(dir.path(), "d/a"), &own, None).unwrap());
    }

    #[test]
    fn whoever_is_stopped_reads_no_further() {
        let (dir, _) = folder();
        let stop = CancellationToken::new();
        let mut reader = ContentReader::new(Some(dir.path()), stop.clone());
        stop.cancel();
        let error = reader.has(&found(dir.path(), "d/a"), &content(b"bytes"), None).unwrap_err();
        assert_eq!(error.kind(), Kind::Interrupted);
    }
}
