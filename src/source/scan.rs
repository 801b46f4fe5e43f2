//! Finds the files of folders by `lstat` alone, in path order, by the rules by which GNU tar would walk them.
//!
//! Held in memory are the names of one folder a level, and open is one descriptor a level, up to a bound.

use std::collections::HashSet;
use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, openat, statat};
use rustix::io::Errno;

use super::gnutar::UNREADABLE;
use super::roots::{Plan, Root, joined};
use super::said::Sockets;
use crate::error::{Error, Result};
use crate::tar::exclude::Exclude;
use crate::tar::name::{path_order, shown};
use crate::tar::stat::Stat;

mod ahead;

pub use ahead::Ahead;

/// Levels whose folders are held open: of deeper trees, the outer ones are opened again on the way back.
const MOST_OPEN: usize = 64;
/// Bytes of a folder's list that the kernel is asked for at once.
const LIST_LEN: usize = 64 << 10;
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
        Ok(Scan { from, rules, ahead, trees: Vec::new(), found: Found::default(), list })
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
                    let mut view =
                        View { from, rules: &self.rules, found: &mut self.found, list: &mut self.list };
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
}

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
    fd: Option<OwnedFd>,
    folder: Folder,
    names: Names,
}

impl Tree {
    fn new(from: BorrowedFd<'_>, root: Start) -> Result<Tree> {
        let data = statat(from, &*root.walked, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| unreadable(root.named.as_bytes(), e))?;
        let next = scanned(root.name, root.walked, &data);
        Ok(Tree { inside: Folder::of(&next), next: Some(next), levels: Vec::new() })
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
        self.levels.push(Level { fd: Some(fd), folder, names });
        Ok(())
    }

    /// The next file of the open folders, from the innermost outwards.
    fn find(&mut self, view: &mut View<'_>) -> Result<Option<Scanned>> {
        while let Some(level) = self.levels.last_mut() {
            let Some(place) = level.names.next() else {
                self.levels.pop();
                continue;
            };
            let last = slice(&level.names.bytes, place);
            let name = joined(&level.folder.name, last);
            let rules = view.rules;
            if rules.skipped.contains(&name)
                || !level.names.is_tag && rules.exclude.iter().any(|e| e.matches(&name))
            {
                continue;
            }
            let walked = joined(&level.folder.walked, last);
            if walked.len() >= PATH_MAX {
                return Err(Error::failed(format!(
                    "GNU tar cannot be told of {}: its path is too long",
                    shown(&name)
                ))
                .hint("back it up in full, or a folder nearer to it"));
            }
            if level.fd.is_none() {
                // Whatever has come of it: a file that is not there any more is passed over.
                level.fd = openat(view.from, &*level.folder.walked, FOLDER, Mode::empty()).ok();
            }
            let looked = match &level.fd {
                Some(fd) => statat(fd, last, AtFlags::SYMLINK_NOFOLLOW),
                None => statat(view.from, &*walked, AtFlags::SYMLINK_NOFOLLOW),
            };
            let file = match looked {
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
            return Ok(Some(file));
        }
        Ok(None)
    }
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
    /// Where each begins, and how long it is.
    places: Vec<(usize, u16)>,
    at: usize,
    /// They are the tag of a cache, which no pattern leaves out.
    is_tag: bool,
}

impl Names {
    fn only(name: &[u8]) -> Names {
        Names { bytes: name.into(), places: vec![(0, name.len() as u16)], at: 0, is_tag: true }
    }

    fn read(folder: &OwnedFd, list: &mut Vec<u8>) -> std::result::Result<Names, Errno> {
        let (mut bytes, mut places) = (Vec::new(), Vec::new());
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
                places.push((bytes.len(), name.len() as u16));
                bytes.extend_from_slice(name);
            }
        }
        bytes.shrink_to_fit();
        places.shrink_to_fit();
        places.sort_unstable_by(|one, other| slice(&bytes, *one).cmp(slice(&bytes, *other)));
        Ok(Names { bytes, places, at: 0, is_tag: false })
    }

    fn next(&mut self) -> Option<(usize, u16)> {
        let place = *self.places.get(self.at)?;
        self.at += 1;
        Some(place)
    }
}

fn slice(bytes: &[u8], (at, len): (usize, u16)) -> &[u8] {
    &bytes[at..at + usize::from(len)]
}

#[cfg(test)]
mod tests;
