//! A folder that somebody works in from night to night, and what it is like at a moment.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

use crate::archive::testing::Random;

/// Names that are alike, that sort in odd ways, or that are no text.
const NAMES: [&[u8]; 10] =
    [b"a", b"a-", b"a.b", b"b", b"-x", b"new\nline", b"gr\xfcn", b"sp ace", b"\\x41", b"c"];

/// A folder that changes.
pub(super) struct Tree {
    root: PathBuf,
    random: Random,
}

impl Tree {
    /// A new folder with some files in it.
    pub(super) fn new(root: PathBuf, random: Random) -> Tree {
        std::fs::create_dir(&root).unwrap();
        let mut tree = Tree { root, random };
        (0..12).for_each(|_| tree.create());
        tree
    }

    /// Puts a copy in its place: all is as it was, but for inode numbers and times of change.
    pub(super) fn copy_anew(&self) {
        let copy = self.root.with_extension("copy");
        let copied = Command::new("cp").arg("-a").args([&self.root, &copy]).status().unwrap();
        assert!(copied.success());
        std::fs::remove_dir_all(&self.root).unwrap();
        std::fs::rename(copy, &self.root).unwrap();
    }

    /// Does what people do. What cannot be done is not done.
    pub(super) fn change(&mut self) {
        for _ in 0..self.random.below(7) {
            self.change_once();
        }
    }

    fn change_once(&mut self) {
        match self.random.below(17) {
            0 | 1 => self.create(),
            2 => self.on_a_file(|path, random| write(path, &bytes(random))),
            3 => self.on_a_file(|path, random| {
                write(path, &[std::fs::read(path).unwrap(), bytes(random)].concat());
            }),
            4 | 5 => self.on_a_file(rewrite_unseen),
            6 => self.on_a_file(|path, _| {
                let copy = path.with_extension("copy");
                std::fs::copy(path, &copy).unwrap();
                std::fs::rename(copy, path).unwrap();
            }),
            7 => self.on_a_file(|path, random| {
                let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
                file.set_len(random.below(200_000) as u64).unwrap();
            }),
            8 | 9 => self.rename(),
            10 => self.link(),
            11 => self.on_any(|path, _| remove(path)),
            12 => {
                let path = self.any();
                path.iter().for_each(|path| remove(path));
                path.iter().for_each(|path| self.create_at(path));
            }
            13 => self.on_any(|path, random| {
                set_time(path, random.below(1 << 30) as i64, random.below(1000) as i64)
            }),
            14 => self.on_any(|path, random| {
                if !path.is_symlink() {
                    let mode = random.choose(&[0o755, 0o700, 0o750, 0o4711]);
                    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
                }
            }),
            15 => self.on_any(|path, random| {
                if !path.is_symlink() {
                    let value = [random.below(9) as u8];
                    let _ = rustix::fs::lsetxattr(path, "user.test", &value, XattrFlags::empty());
                }
            }),
            _ => self.on_any(|path, random| {
                let _ = std::os::unix::fs::lchown(path, Some(random.below(3) as u32), None);
            }),
        }
    }

    fn create(&mut self) {
        let path = self.new_path();
        self.create_at(&path);
    }

    fn create_at(&mut self, path: &Path) {
        if path.symlink_metadata().is_ok() {
            return;
        }
        match self.random.below(9) {
            0..2 => std::fs::create_dir(path).unwrap(),
            2 => symlink(self.random.choose(&["a", "../b", "/nowhere", "."]), path).unwrap(),
            3 => rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap(),
            _ => write(path, &bytes(&mut self.random)),
        }
    }

    /// A path in one of its folders, at which there may be something.
    fn new_path(&mut self) -> PathBuf {
        let folders: Vec<_> = paths(&self.root).into_iter().filter(|path| is_folder(path)).collect();
        let folder = &folders[self.random.below(folders.len())];
        folder.join(OsStr::from_bytes(self.random.choose(&NAMES)))
    }

    fn rename(&mut self) {
        let (Some(from), to) = (self.any(), self.new_path()) else { return };
        // A folder does not go into itself, nor over another that is not empty.
        let _ = std::fs::rename(from, to);
    }

    fn link(&mut self) {
        let to = self.new_path();
        self.on_a_file(|path, _| drop(std::fs::hard_link(path, to)));
    }

    fn any(&mut self) -> Option<PathBuf> {
        let all = paths(&self.root);
        // The first is the folder itself.
        (all.len() > 1).then(|| all[1 + self.random.below(all.len() - 1)].clone())
    }

    fn on_any(&mut self, act: impl FnOnce(&Path, &mut Random)) {
        if let Some(path) = self.any() {
            act(&path, &mut self.random);
        }
    }

    fn on_a_file(&mut self, act: impl FnOnce(&Path, &mut Random)) {
        let is_file = |path: &PathBuf| path.symlink_metadata().unwrap().is_file();
        let files: Vec<_> = paths(&self.root).into_iter().filter(is_file).collect();
        if !files.is_empty() {
            act(&files[self.random.below(files.len())], &mut self.random);
        }
    }
}

fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().unwrap().is_dir()
}

fn bytes(random: &mut Random) -> Vec<u8> {
    let len = random.choose(&[0, 1, 512, 700, 3_000]);
    (0..len).map(|_| random.below(256) as u8).collect()
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

/// Other bytes, as many, and the time of the last change is put back.
fn rewrite_unseen(path: &Path, random: &mut Random) {
    let (before, len) = (path.symlink_metadata().unwrap(), std::fs::read(path).unwrap().len());
    write(path, &(0..len).map(|_| random.below(256) as u8).collect::<Vec<_>>());
    set_time(path, before.mtime(), before.mtime_nsec());
}

fn set_time(path: &Path, tv_sec: i64, tv_nsec: i64) {
    let time = Timespec { tv_sec, tv_nsec };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn remove(path: &Path) {
    match is_folder(path) {
        true => std::fs::remove_dir_all(path).unwrap(),
        false => std::fs::remove_file(path).unwrap(),
    }
}

/// A folder and all that is in it.
fn paths(root: &Path) -> Vec<PathBuf> {
    let mut all = vec![root.to_path_buf()];
    if is_folder(root) {
        let mut below: Vec<_> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
        below.sort();
        all.extend(below.iter().flat_map(|path| paths(path)));
    }
    all
}

/// What a file is, as far as a backup brings it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    mode: u32,
    owner: (u32, u32),
    /// Of folders none where they are not brought back.
    time: Option<(i64, i64)>,
    link: Option<PathBuf>,
    xattr: Option<Vec<u8>>,
    contents: Option<(u64, blake3::Hash)>,
    /// The first of the names that it has.
    first: PathBuf,
}

impl Facts {
    pub(super) fn without_first(self) -> Facts {
        Facts { first: PathBuf::new(), ..self }
    }
}

/// All files below a folder.
pub(super) type Snapshot = BTreeMap<PathBuf, Facts>;

/// What is below a folder.
pub(super) fn snapshot(root: &Path) -> Snapshot {
    let mut first = BTreeMap::new();
    let of = |path: &PathBuf| {
        let name = path.strip_prefix(root).unwrap().to_path_buf();
        let meta = path.symlink_metadata().unwrap();
        let mut value = [0; 16];
        let xattr = rustix::fs::lgetxattr(path, "user.test", &mut value).ok();
        let facts = Facts {
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            time: Some((meta.mtime(), meta.mtime_nsec())),
            link: meta.is_symlink().then(|| std::fs::read_link(path).unwrap()),
            xattr: xattr.map(|len| value[..len].to_vec()),
            contents: meta.is_file().then(|| (meta.len(), blake3::hash(&std::fs::read(path).unwrap()))),
            first: first.entry(meta.ino()).or_insert_with(|| name.clone()).clone(),
        };
        (name, facts)
    };
    paths(root).iter().map(of).collect()
}

/// Forgets the times of folders.
pub(super) fn without_folder_times(snapshot: &Snapshot) -> Snapshot {
    let mut snapshot = snapshot.clone();
    snapshot
        .values_mut()
        .filter(|facts| facts.mode & 0o170_000 == 0o040_000)
        .for_each(|facts| facts.time = None);
    snapshot
}

/// What differs.
pub(super) fn difference(is: &Snapshot, should: &Snapshot) -> Vec<String> {
    let names: std::collections::BTreeSet<_> = is.keys().chain(should.keys()).collect();
    let differ = names.into_iter().filter(|name| is.get(*name) != should.get(*name));
    differ.map(|name| format!("{name:?}: {:?} should be {:?}", is.get(name), should.get(name))).collect()
}
