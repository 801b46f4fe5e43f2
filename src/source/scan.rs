//! Finds the files of folders by `lstat` alone, in path order, by the rules by which GNU tar would walk them.
//!
//! Held in memory are the names of one folder a level, and open is one descriptor a level, up to a bound.

use std::collections::HashSet;
use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, openat, statat};
use rustix::io::Errno;

use super::gnutar::UNREADABLE;
use super::roots::{Plan, Root, joined};
use super::said::Sockets;
use crate::error::{Error, Result};
use crate::tar::exclude::Exclude;
use crate::tar::name::{path_order, shown};
use crate::tar::stat::Stat;

mod ahead;
mod second;

pub use ahead::Ahead;
use second::Second;

/// Levels whose folders are held open: of deeper trees, the outer ones are opened again on the way back.
const MOST_OPEN: usize = 64;
/// Bytes of a folder's list that the kernel is asked for at once.
const LIST_LEN: usize = 64 << 10;
/// Files of a folder that are looked at together.
const LOOKED_AT: usize = if cfg!(test) { 5 } else { 512 };
/// Bytes of a path, with a NUL behind it, that the kernel takes.
const PATH_MAX: usize = 4096;

/// What marks a folder as a cache, and how it begins.
const CACHE_TAG: &[u8] = b"CACHEDIR.TAG";
const CACHE_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// How folders are opened: never through a link.
pub(super) const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// How files are opened: nothing waits for the other end of a pipe.
pub(super) const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// A file that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanned {
    /// Its name in the archive, without slashes at its ends and without `./`; empty for the archive's own root.
    pub name: Vec<u8>,
    /// The path by which GNU tar gets there.
    pub walked: Vec<u8>,
    /// What `lstat` says of it.
    pub stat: Stat,
    /// The device that it lies on.
    pub device: u64,
    /// Its names, this one included: the number of its hard links.
    pub links: u64,
}

/// All files of some roots in [path order](path_order), each once. It ends after its first error.
#[derive(Debug)]
pub struct Scan {
    from: Option<OwnedFd>,
    rules: Rules,
    /// Roots that were not begun, in path order.
    ahead: VecDeque<Start>,
    /// The trees at hand; each lies below the one before it.
    trees: Vec<Tree>,
    found: Found,
    list: Vec<u8>,
    second: Option<Second>,
}

/// What is not taken.
#[derive(Debug)]
struct Rules {
    exclude: Vec<Exclude>,
    exclude_caches: bool,
    one_file_system: bool,
    /// Names of what is left out with all that is in it, or is scanned as a root of its own.
    skipped: HashSet<Vec<u8>>,
    /// Names of folders of which only themselves are taken.
    emptied: HashSet<Vec<u8>>,
}

/// A root's name in the archive, the path to it, and how the operator names it.
#[derive(Debug)]
struct Start {
    name: Vec<u8>,
    walked: Vec<u8>,
    named: String,
}

/// What is to be told at the end.
#[derive(Debug, Default)]
struct Found {
    sockets: Sockets,
    /// Files that were gone before they were looked at, and the first of them.
    vanished: (usize, String),
}

impl Scan {
    /// A scan of the plan's roots.
    ///
    /// # Errors
    /// The folder that they are seen from is not there.
    pub(super) fn new(plan: &Plan) -> Result<Scan> {
        let open =
            |path| openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let from =
            plan.from.as_ref().map(|path| open(path).map_err(|e| unreadable(path.as_os_str().as_bytes(), e)));
        let from = from.transpose()?;
        let start = |root: &Root| Start {
            name: root.name.clone(),
            walked: root.walked.as_bytes().into(),
            named: root.named.clone(),
        };
        let mut ahead: Vec<_> = plan.roots.iter().map(start).collect();
        ahead.sort_by(|a, b| path_order(&a.name, &b.name));
        ahead.dedup_by(|a, b| a.name == b.name);
        let (mut skipped, emptied) = plan.left_out();
        skipped.extend(ahead.iter().map(|root| root.name.clone()));
        let rules = Rules {
            exclude: plan.filter.exclude.clone(),
            exclude_caches: plan.filter.exclude_caches,
            one_file_system: plan.filter.one_file_system,
            skipped,
            emptied,
        };
        let (ahead, list) = (ahead.into(), Vec::with_capacity(LIST_LEN));
        Ok(Scan { from, rules, ahead, trees: Vec::new(), found: Found::default(), list, second: None })
    }

    /// What is to be noted of what was found so far.
    pub fn notes(&self) -> Vec<String> {
        let (count, first) = &self.found.vanished;
        let vanished = match count {
            0 => None,
            1 => Some(format!("{first} was removed before it was looked at")),
            n => Some(format!("{first} and {} more were removed before they were looked at", n - 1)),
        };
        self.found.sockets.note().into_iter().chain(vanished).collect()
    }

    fn find_next(&mut self) -> Result<Option<Scanned>> {
        let from = self.from.as_ref().map_or(CWD, AsFd::as_fd);
        loop {
            let next = match self.trees.last_mut() {
                Some(tree) => {
                    let mut view = View {
                        from,
                        second: self.second.as_ref(),
                        rules: &self.rules,
                        found: &mut self.found,
                        list: &mut self.list,
                    };
                    match tree.peek(&mut view)? {
                        Some(next) => Some(next),
                        None => {
                            self.trees.pop();
                            continue;
                        }
                    }
                }
                None => None,
            };
            // What is in a root comes before what follows the root's name in the tree around it.
            let begins = match (next, self.ahead.front()) {
                (_, None) => false,
                (None, Some(_)) => true,
                (Some(next), Some(root)) => path_order(&root.name, &next.name).is_lt(),
            };
            let root = if begins { self.ahead.pop_front() } else { None };
            match (root, self.trees.last_mut()) {
                (Some(root), _) => self.trees.push(Tree::new(from, root)?),
                (None, Some(tree)) => return Ok(tree.next.take()),
                (None, None) => return Ok(None),
            }
        }
    }
}

impl Iterator for Scan {
    type Item = Result<Scanned>;

    fn next(&mut self) -> Option<Result<Scanned>> {
        let next = self.find_next();
        if next.is_err() {
            self.ahead.clear();
            self.trees.clear();
        }
        next.transpose()
    }
}

/// What a tree needs of the scan around it.
struct View<'a> {
    from: BorrowedFd<'a>,
    second: Option<&'a Second>,
    rules: &'a Rules,
    found: &'a mut Found,
    list: &'a mut Vec<u8>,
}

/// A root on the way.
#[derive(Debug)]
struct Tree {
    /// Found, and not handed out.
    next: Option<Scanned>,
    /// A folder that was found, and whose turn it is.
    inside: Option<Folder>,
    levels: Vec<Level>,
    /// Files of the innermost folder that were looked at, and not handed out.
    looked: VecDeque<Looked>,
}

/// A file that was looked at.
#[derive(Debug)]
struct Looked {
    name: Vec<u8>,
    walked: Vec<u8>,
    /// Its place among the names of its folder.
    place: usize,
    data: Seen,
}

/// What came of a look at a file.
type Seen = std::result::Result<rustix::fs::Stat, Errno>;

/// A folder whose files are to be found.
#[derive(Debug)]
struct Folder {
    name: Vec<u8>,
    walked: Vec<u8>,
    device: u64,
}

/// An open folder.
#[derive(Debug)]
struct Level {
    /// None while so much deeper folders are at hand that it was closed.
    fd: Option<Arc<OwnedFd>>,
    folder: Folder,
    names: Names,
}

impl Tree {
    fn new(from: BorrowedFd<'_>, root: Start) -> Result<Tree> {
        let data = statat(from, &*root.walked, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| unreadable(root.named.as_bytes(), e))?;
        let next = scanned(root.name, root.walked, &data);
        Ok(Tree { inside: Folder::of(&next), next: Some(next), levels: Vec::new(), looked: VecDeque::new() })
    }

    /// The next file.
    fn peek(&mut self, view: &mut View<'_>) -> Result<Option<&Scanned>> {
        if self.next.is_none() {
            if let Some(folder) = self.inside.take() {
                self.enter(folder, view)?;
            }
            self.next = self.find(view)?;
        }
        Ok(self.next.as_ref())
    }

    /// Looks at what is in a folder next.
    fn enter(&mut self, folder: Folder, view: &mut View<'_>) -> Result<()> {
        let around = self.levels.last().map(|level| level.folder.device);
        let is_left = view.rules.one_file_system && around.is_some_and(|around| around != folder.device);
        if is_left || view.rules.emptied.contains(&folder.name) {
            return Ok(());
        }
        let opened = match self.levels.last() {
            Some(Level { fd: Some(fd), folder: around, .. }) => {
                let last = &folder.walked[joined(&around.walked, b"x").len() - 1..];
                openat(fd, last, FOLDER, Mode::empty())
            }
            _ => openat(view.from, &*folder.walked, FOLDER, Mode::empty()),
        };
        let fd = match opened {
            Ok(fd) => fd,
            // It is something else now, or nothing.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if !self.levels.is_empty() => return Ok(()),
            Err(e) => return Err(unreadable(&folder.walked, e)),
        };
        let names = if view.rules.exclude_caches && is_cache(&fd) {
            Names::only(CACHE_TAG)
        } else {
            Names::read(&fd, view.list).map_err(|e| unreadable(&folder.walked, e))?
        };
        if let Some(outer) = self.levels.len().checked_sub(MOST_OPEN) {
            self.levels[outer].fd = None;
        }
        self.levels.push(Level { fd: Some(Arc::new(fd)), folder, names });
        Ok(())
    }

    /// The next file of the open folders, from the innermost outwards.
    fn find(&mut self, view: &mut View<'_>) -> Result<Option<Scanned>> {
        while let Some(level) = self.levels.last_mut() {
            let Some(Looked { name, walked, data, .. }) = self.looked.pop_front() else {
                self.looked = level.look(view)?;
                if self.looked.is_empty() {
                    self.levels.pop();
                }
                continue;
            };
            let file = match data {
                Ok(data) => scanned(name, walked, &data),
                Err(Errno::NOENT | Errno::NOTDIR) => {
                    view.found.vanish(&name);
                    continue;
                }
                Err(e) => return Err(unreadable(&walked, e)),
            };
            if file.stat.is_socket() {
                view.found.sockets.take(|| shown(&file.name));
                continue;
            }
            self.inside = Folder::of(&file);
            if self.inside.is_some() {
                // What comes behind it is looked at when its turn comes.
                level.names.at = self.looked.front().map_or(level.names.at, |next| next.place);
                self.looked.clear();
            }
            return Ok(Some(file));
        }
        Ok(None)
    }
}

impl Level {
    /// Looks at its next files, up to the first that is a folder, as far as its list says that; none at its end.
    fn look(&mut self, view: &mut View<'_>) -> Result<VecDeque<Looked>> {
        let (mut asked, mut files) = (Vec::new(), Vec::new());
        while let Some(name) = self.names.next() {
            let last = self.names.slice(&name);
            let full = joined(&self.folder.name, last);
            let rules = view.rules;
            if rules.skipped.contains(&full)
                || !self.names.is_tag && rules.exclude.iter().any(|e| e.matches(&full))
            {
                continue;
            }
            let walked = joined(&self.folder.walked, last);
            if walked.len() >= PATH_MAX {
                return Err(Error::failed(format!(
                    "GNU tar cannot be told of {}: its path is too long",
                    shown(&full)
                ))
                .hint("back it up in full, or a folder nearer to it"));
            }
            asked.push(last.to_vec());
            files.push((full, walked, self.names.at - 1));
            if name.may_be_folder || files.len() == LOOKED_AT {
                break;
            }
        }
        if !files.is_empty() && self.fd.is_none() {
            // Whatever has come of it: a file that is not there any more is passed over.
            self.fd = openat(view.from, &*self.folder.walked, FOLDER, Mode::empty()).ok().map(Arc::new);
        }
        let found = match (&self.fd, view.second) {
            (Some(fd), Some(second)) => second.look(fd, asked)?,
            (Some(fd), None) => look(fd, &asked),
            (None, _) => {
                let look = |(_, walked, _): &(_, Vec<u8>, _)| {
                    statat(view.from, &**walked, AtFlags::SYMLINK_NOFOLLOW)
                };
                files.iter().map(look).collect()
            }
        };
        let looked = |((name, walked, place), data)| Looked { name, walked, place, data };
        Ok(files.into_iter().zip(found).map(looked).collect())
    }
}

/// What `lstat` says of files of a folder.
fn look(folder: &OwnedFd, names: &[Vec<u8>]) -> Vec<Seen> {
    names.iter().map(|name| statat(folder, &**name, AtFlags::SYMLINK_NOFOLLOW)).collect()
}

impl Found {
    fn vanish(&mut self, name: &[u8]) {
        if self.vanished.0 == 0 {
            self.vanished.1 = shown(name);
        }
        self.vanished.0 += 1;
    }
}

impl Folder {
    fn of(file: &Scanned) -> Option<Folder> {
        let Scanned { name, walked, device, .. } = file;
        file.stat.is_dir().then(|| Folder { name: name.clone(), walked: walked.clone(), device: *device })
    }
}

fn scanned(name: Vec<u8>, walked: Vec<u8>, data: &rustix::fs::Stat) -> Scanned {
    let (stat, device, links) = (Stat::from(data), device(data), links(data));
    Scanned { name, walked, stat, device, links }
}

/// The device that a file lies on.
#[allow(clippy::unnecessary_cast, reason = "the kernel's types are not the same on every processor")]
pub(super) fn device(data: &rustix::fs::Stat) -> u64 {
    data.st_dev as u64
}

#[allow(clippy::unnecessary_cast, reason = "the kernel's types are not the same on every processor")]
fn links(data: &rustix::fs::Stat) -> u64 {
    data.st_nlink as u64
}

fn unreadable(path: &[u8], why: Errno) -> Error {
    Error::failed(format!("cannot read {}", shown(path))).because(std::io::Error::from(why)).hint(UNREADABLE)
}

/// Whether a folder is tagged as a cache, as GNU tar sees it: by a regular file, not through a link.
fn is_cache(folder: &OwnedFd) -> bool {
    let mut start = [0; CACHE_SIGNATURE.len()];
    let read = openat(folder, CACHE_TAG, FILE, Mode::empty()).and_then(|fd| rustix::io::read(fd, &mut start));
    read.is_ok_and(|len| &start[..len] == CACHE_SIGNATURE)
}

/// The names in a folder, in order.
#[derive(Debug)]
struct Names {
    bytes: Vec<u8>,
    names: Vec<Name>,
    at: usize,
    /// They are the tag of a cache, which no pattern leaves out.
    is_tag: bool,
}

/// A name in a folder.
#[derive(Debug, Clone, Copy)]
struct Name {
    start: usize,
    len: u16,
    /// Whether the folder's list says so, or does not say what it is.
    may_be_folder: bool,
}

impl Names {
    fn only(name: &[u8]) -> Names {
        let names = vec![Name { start: 0, len: name.len() as u16, may_be_folder: true }];
        Names { bytes: name.into(), names, at: 0, is_tag: true }
    }

    fn read(folder: &OwnedFd, list: &mut Vec<u8>) -> std::result::Result<Names, Errno> {
        let (mut bytes, mut names) = (Vec::new(), Vec::new());
        let buffer: &mut [MaybeUninit<u8>] = list.spare_capacity_mut();
        let mut entries = RawDir::new(folder, buffer);
        while let Some(entry) = entries.next() {
            let entry = match entry {
                // The folder itself was removed.
                Err(Errno::NOENT) => break,
                entry => entry?,
            };
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                let may_be_folder = matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
                names.push(Name { start: bytes.len(), len: name.len() as u16, may_be_folder });
                bytes.extend_from_slice(name);
            }
        }
        bytes.shrink_to_fit();
        names.shrink_to_fit();
        names.sort_unstable_by(|one, other| slice(&bytes, one).cmp(slice(&bytes, other)));
        Ok(Names { bytes, names, at: 0, is_tag: false })
    }

    fn next(&mut self) -> Option<Name> {
        let name = *self.names.get(self.at)?;
        self.at += 1;
        Some(name)
    }

    fn slice(&self, name: &Name) -> &[u8] {
        slice(&self.bytes, name)
    }
}

fn slice<'a>(bytes: &'a [u8], name: &Name) -> &'a [u8] {
    &bytes[name.start..name.start + usize::from(name.len)]
}

#[cfg(test)]
mod tests;
