//! What the scanner finds is what GNU tar finds, and a tar of all of it by name is the one that tar makes by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{FileType, Timespec, Timestamps};
use tokio_util::sync::CancellationToken;

use super::super::gnutar::tests::{folder_with, read};
use super::super::named::{self, Prepared};
use super::super::{FileFilter, StoreFolder, Walk, gnutar};
use super::*;
use crate::archive::testing::Random;
use crate::report::Reporter;
use crate::tar::name::plain;
use crate::tar::{Entry, EntryType, Walker};

const NAMES: [&[u8]; 20] = [
    b"a",
    b"b",
    b"a-b",
    b"a.b",
    b"a0",
    b"-x",
    b"--files-from=x",
    b"new\nline",
    b"back\\slash",
    b"\\101\\n",
    b"gr\xfcn",
    "gr\u{fc}n".as_bytes(),
    b"sp ace: Cannot stat: No such file or directory",
    b"st*r",
    b"[x]",
    b"cache",
    b"f.log",
    b".hidden",
    b"\x01",
    b"CACHEDIR.TAG",
];

const PATTERNS: [&str; 12] = [
    "*.log",
    "*/cache",
    "t/a",
    "a*",
    "**/a-b",
    "*/[[]x]",
    "t/*/b",
    "?",
    "*\\\\*",
    "l/*",
    "*/CACHEDIR.TAG",
    "t/a/*",
];

/// A folder of odd files; the paths of its folders and of its other files, from `top` on.
fn grow(top: &Path, random: &mut Random) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let (mut folders, mut files) = (vec![b"t".to_vec()], Vec::new());
    let at = openat(CWD, top, FOLDER, Mode::empty()).unwrap();
    let mode = |bits| Mode::from_raw_mode(bits);
    rustix::fs::mkdirat(&at, "t", mode(0o755)).unwrap();
    for _ in 0..5 + random.below(60) {
        let path = joined(&folders[random.below(folders.len())], random.choose(&NAMES));
        let bits = random.choose(&[0o644, 0o600, 0o755, 0o4711, 0o444]);
        let kind = random.below(12);
        let made = match kind {
            0..4 => rustix::fs::mkdirat(&at, &*path, mode(bits | 0o700)),
            4 => rustix::fs::symlinkat(random.choose(&["a", "/x", "../t", "./a/"]), &at, &*path),
            5 => rustix::fs::mknodat(&at, &*path, FileType::Fifo, mode(bits), 0),
            6 => rustix::fs::mknodat(&at, &*path, FileType::Socket, mode(bits), 0),
            7 | 8 if !files.is_empty() => {
                let old: &Vec<u8> = &files[random.below(files.len())];
                rustix::fs::linkat(&at, &**old, &at, &*path, AtFlags::empty())
            }
            _ => fill(&at, &path, bits | 0o400, random),
        };
        if made.is_err() {
            continue;
        }
        let mut time =
            || Timespec { tv_sec: random.below(1 << 31) as i64, tv_nsec: random.below(1 << 29) as i64 };
        let times = Timestamps { last_access: time(), last_modification: time() };
        rustix::fs::utimensat(&at, &*path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        match kind {
            0..4 => folders.push(path),
            4..7 => {}
            _ => files.push(path),
        }
    }
    (folders, files)
}

fn fill(at: &OwnedFd, path: &[u8], bits: u32, random: &mut Random) -> std::result::Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let file = openat(at, path, flags, Mode::from_raw_mode(bits))?;
    let text = [CACHE_SIGNATURE, &vec![b'x'; random.choose(&[0, 5, 600, 70_000])]].concat();
    let from = if random.one_in(3) { 0 } else { CACHE_SIGNATURE.len() };
    rustix::io::write(file, &text[from..]).map(drop)
}

/// Roots of such a folder: parts of it, links, what lies in one another, and by absolute paths.
fn roots(top: &Path, folders: &[Vec<u8>], files: &[Vec<u8>], random: &mut Random) -> Vec<String> {
    let mut found = vec![random.choose(&["t", ".", "./t/", "t/../t"]).to_string()];
    for i in 0..random.below(4) {
        let from = if random.one_in(4) && !files.is_empty() { files } else { folders };
        let Ok(path) = String::from_utf8(from[random.below(from.len())].clone()) else { continue };
        let named = match random.below(3) {
            0 => path,
            1 => format!("{}/{path}", top.display()),
            _ => {
                let link = format!("{}l{i}", random.choose(&["", "t/", "t/a/"]));
                if symlink(top.join(&path), top.join(&link)).is_err() {
                    continue;
                }
                link
            }
        };
        found.push(named);
    }
    if found.len() > 1 && random.one_in(2) {
        found.swap_remove(0);
    }
    found
}

fn walk(top: &Path, folders: &[Vec<u8>], random: &mut Random) -> Walk {
    let exclude = (0..random.below(3)).map(|_| Exclude::new(random.choose(&PATTERNS)).unwrap()).collect();
    let filter = FileFilter { exclude, exclude_caches: random.one_in(2), one_file_system: random.one_in(2) };
    let mut stores = Vec::new();
    if random.one_in(4) {
        let folder = top.join(std::ffi::OsStr::from_bytes(&folders[random.below(folders.len())]));
        stores.push(StoreFolder { folder, job: "a".into() });
    }
    Walk { filter, stores }
}

fn entries(tar: &[u8]) -> Vec<Entry> {
    let (mut walker, mut entries) = (Walker::new(), Vec::new());
    walker.feed(tar, &mut entries).unwrap();
    walker.finish().unwrap();
    entries
}

/// What a member is, whichever of a file's names came first: its type, mode, owner, time, size and symlink's target, and
/// the least of the names that it has.
type Facts = (EntryType, u32, u64, u64, String, u64, Option<Vec<u8>>, Vec<u8>);

/// The facts of all members but those of the names `but`.
fn facts(entries: &[Entry], but: &[&[u8]]) -> BTreeMap<Vec<u8>, Facts> {
    // The name under which a file's bytes are; a member that came twice is a link to itself.
    let mut own: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut files: BTreeMap<Vec<u8>, &Entry> = BTreeMap::new();
    for entry in entries {
        let name = plain(&entry.name()).to_vec();
        match entry.hard_link() {
            Some(target) => {
                let target = plain(&target).to_vec();
                let target = own.get(&target).cloned().unwrap_or(target);
                own.entry(name).or_insert(target);
            }
            None => {
                own.entry(name.clone()).or_insert(name.clone());
                files.entry(name).or_insert(entry);
            }
        }
    }
    for name in but {
        assert!(own.remove(*name).is_some(), "{name:?}");
    }
    let least: BTreeMap<&[u8], &[u8]> = own.iter().rev().map(|(name, file)| (&**file, &**name)).collect();
    let of = |file: &Vec<u8>| {
        let e = files[file];
        let least = least[&file[..]].to_vec();
        (e.kind, e.mode, e.uid, e.gid, e.mtime.clone(), e.size, e.link_name(), least)
    };
    own.iter().map(|(name, file)| (name.clone(), of(file))).collect()
}

/// The tar of these files by name.
async fn tar_of(
    prepared: &Prepared,
    walked: Vec<Vec<u8>>,
) -> (Vec<u8>, Result<crate::stream::source::Proof>) {
    let (running, mut names) = prepared.files.start(&Reporter::silent(), &CancellationToken::new()).unwrap();
    let sent = tokio::task::spawn_blocking(move || {
        walked.iter().for_each(|path| names.send(path).unwrap());
        names.finish();
    });
    let read = read(running).await;
    sent.await.unwrap();
    read
}

async fn prepare(from: &Path, roots: &[String], walk: &Walk) -> Result<Option<Prepared>> {
    let mut prepared = named::prepare(Some(from), roots, walk, &Reporter::silent()).await?;
    for prepared in prepared.iter_mut() {
        prepared.scan.second = Some(Second::start()?);
    }
    Ok(prepared)
}

/// A scan of one root that can be scanned.
async fn scan(from: &Path, root: &str, walk: &Walk) -> Scan {
    prepare(from, &[root.into()], walk).await.unwrap().unwrap().scan
}

fn names(scan: Scan) -> Vec<String> {
    scan.map(|file| shown(&file.unwrap().name)).collect()
}

#[tokio::test]
async fn what_is_found_is_what_gnu_tar_finds_and_a_tar_of_it_by_name_is_the_same() {
    let mut compared = 0;
    for seed in 0..120 {
        let (dir, mut random) = (tempfile::tempdir().unwrap(), Random::new(seed));
        let top = dir.path().canonicalize().unwrap();
        let (folders, files) = grow(&top, &mut random);
        let roots = roots(&top, &folders, &files, &mut random);
        let walk = walk(&top, &folders, &mut random);
        let shows = format!("seed {seed}: {roots:?} {walk:?}");
        let (ui, stop) = (Reporter::silent(), CancellationToken::new());
        let by_itself = match gnutar::members(&top, &roots, &walk, &ui, &stop).await {
            Ok(running) => read(running).await,
            Err(error) => {
                let same = prepare(&top, &roots, &walk).await.unwrap_err();
                assert_eq!(error.to_string(), same.to_string(), "{shows}");
                continue;
            }
        };
        let Some(mut prepared) = prepare(&top, &roots, &walk).await.unwrap() else { continue };
        let found: Vec<_> = prepared.scan.by_ref().collect::<Result<_>>().unwrap();
        assert!(found.is_sorted_by(|a, b| path_order(&a.name, &b.name).is_lt()), "{shows}");
        let (tar, proof) = tar_of(&prepared, found.iter().map(|file| file.walked.clone()).collect()).await;
        let proof = proof.unwrap();
        assert_eq!((proof.exit_code, proof.warnings), (Some(0), Vec::new()), "{shows}");
        let by_name = entries(&tar);
        assert_members(&found, &by_name, &shows);
        // A root inside of a store's folder, beside the job, is left out there by the outer root's own pattern.
        let in_store = |root: &String| {
            let real = top.join(root).canonicalize().unwrap();
            walk.stores.iter().any(|store| real.starts_with(&store.folder))
        };
        if roots.iter().any(in_store) {
            continue;
        }
        assert_eq!(by_itself.1.unwrap().exit_code, Some(0), "{shows}");
        // A link in one root that is a root itself: tar stores the link, and then what it leads to.
        let links = roots.iter().filter(|root| top.join(root).is_symlink());
        let links: BTreeSet<_> = links.map(|root| plain(root.as_bytes())).collect();
        let links: Vec<_> = links.into_iter().collect();
        let (expected, made) = (facts(&entries(&by_itself.0), &links), facts(&by_name, &links));
        assert_eq!(made, expected, "{shows}");
        compared += 1;
    }
    assert!(compared > 60, "{compared} were compared");
}

/// Members come in the order in which they were sent, as they were when they were found.
fn assert_members(found: &[Scanned], members: &[Entry], shows: &str) {
    assert_eq!(found.len(), members.len(), "{shows}");
    let mut first_of = BTreeMap::new();
    for (file, member) in found.iter().zip(members) {
        assert_eq!(file.name, plain(&member.name()), "{shows}");
        let first = *first_of.entry((file.device, file.stat.inode)).or_insert(&file.name);
        if let Some(target) = member.hard_link() {
            assert!(plain(&target) == first && first != &file.name, "{shows}");
            continue;
        }
        // Two roots may lead to one file under two names; of folders and pipes, GNU tar makes no links.
        let can_be_link = matches!(member.kind, EntryType::File | EntryType::Symlink);
        assert!(first == &file.name || !can_be_link, "{shows}");
        let kind = match member.kind {
            EntryType::File => FileType::RegularFile,
            EntryType::Dir => FileType::Directory,
            EntryType::Symlink => FileType::Symlink,
            EntryType::Fifo => FileType::Fifo,
            other => panic!("{other:?} {shows}"),
        };
        assert_eq!(FileType::from_raw_mode(file.stat.mode), kind, "{shows}");
        let facts = (member.mode, member.uid as u32, member.gid as u32);
        assert_eq!((file.stat.mode & 0o7777, file.stat.uid, file.stat.gid), facts, "{shows}");
        let seconds: f64 = member.mtime.parse().unwrap();
        assert_eq!(file.stat.mtime.seconds, seconds.floor() as i64, "{shows}");
        assert!(!file.stat.is_file() || file.stat.size == member.size, "{shows}");
    }
}

#[tokio::test]
async fn other_file_systems_are_left_out_unless_they_are_named() {
    // Wherever Linux runs, shared memory is a file system of its own, and the terminals are the kernel's.
    let other = tempfile::tempdir_in("/dev/shm").unwrap();
    let inside = other.path().to_str().unwrap().trim_start_matches('/').to_string();
    let filter = FileFilter { one_file_system: true, ..FileFilter::default() };
    for (filter, roots, is_found) in [
        (filter.clone(), &["dev"][..], false),
        (FileFilter::default(), &["dev"], true),
        (filter.clone(), &["dev", "dev/shm"], true),
        (filter, &["dev", &inside], true),
    ] {
        let roots: Vec<_> = roots.iter().map(ToString::to_string).collect();
        let walk = Walk { filter, ..Walk::default() };
        let names = names(prepare(Path::new("/"), &roots, &walk).await.unwrap().unwrap().scan);
        let has = |name: &str| names.iter().filter(|found| *found == name).count() == 1;
        assert!(has("dev/shm") && has("dev/pts") && !has("dev/pts/ptmx"), "{names:?}");
        assert_eq!(has(&inside), is_found, "{roots:?} {names:?}");
    }
}

#[tokio::test]
async fn a_cache_that_is_tagged_keeps_its_tag_whatever_is_left_out() {
    let tag = "Signature: 8a477f597d28d172789f06886806bc55";
    let dir = folder_with(&format!(
        "mkdir -p d/c d/l d/n d/p; echo '{tag}' > d/c/CACHEDIR.TAG; echo x > d/c/big; echo y > d/f; \
         echo x > d/n/CACHEDIR.TAG; ln -s ../c/CACHEDIR.TAG d/l/CACHEDIR.TAG; mkfifo d/p/CACHEDIR.TAG"
    ));
    let exclude = vec![Exclude::new("d/c/CACHE*").unwrap()];
    let filter = FileFilter { exclude_caches: true, exclude, ..FileFilter::default() };
    let names = names(scan(dir.path(), "d", &Walk { filter, ..Walk::default() }).await);
    let others = ["d/l", "d/l/CACHEDIR.TAG", "d/n", "d/n/CACHEDIR.TAG", "d/p", "d/p/CACHEDIR.TAG"];
    assert_eq!(names, [&["d", "d/c", "d/c/CACHEDIR.TAG", "d/f"][..], &others].concat());
}

#[tokio::test]
async fn a_tree_deeper_than_what_is_held_open_is_walked_to_its_end_and_back() {
    const DEPTH: usize = 3 * MOST_OPEN;
    let dir = folder_with(&format!(
        "mkdir t; cd t; for i in $(seq {DEPTH}); do echo x > a; mkdir b; echo x > c; cd b; done"
    ));
    let mut scan = scan(dir.path(), "t", &Walk::default()).await;
    let (mut found, mut most) = (Vec::new(), 0);
    while let Some(file) = scan.next() {
        found.push(file.unwrap().name);
        most = most.max(scan.trees[0].levels.iter().filter(|level| level.fd.is_some()).count());
    }
    assert_eq!((found.len(), &found[found.len() - 1][..]), (1 + 3 * DEPTH, &b"t/c"[..]));
    assert!(found.is_sorted_by(|a, b| path_order(a, b).is_lt()));
    assert_eq!(most, MOST_OPEN);
}

#[tokio::test]
async fn a_path_that_gnu_tar_cannot_be_told_is_an_error_that_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = openat(CWD, dir.path(), FOLDER, Mode::empty()).unwrap();
    for part in ["t".into()].into_iter().chain(vec!["n".repeat(200); PATH_MAX / 200 + 1]) {
        rustix::fs::mkdirat(&folder, &part, Mode::RWXU).unwrap();
        folder = openat(&folder, &part, FOLDER, Mode::empty()).unwrap();
    }
    let mut scan = scan(dir.path(), "t", &Walk::default()).await;
    let error = scan.by_ref().find_map(Result::err).unwrap();
    assert!(error.to_string().ends_with("its path is too long"), "{error}");
    assert!(error.hint_text().unwrap().contains("in full"));
    assert!(scan.next().is_none(), "the end follows an error");
}

#[tokio::test]
async fn what_becomes_a_folder_while_it_is_looked_for_comes_in_order_with_what_is_in_it() {
    let dir = folder_with("mkdir t; cd t; for i in $(seq 9); do echo x > $i; done");
    let mut scan = scan(dir.path(), "t", &Walk::default()).await;
    assert_eq!(scan.by_ref().take(2).count(), 2);
    let path = dir.path().join("t/7");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    std::fs::create_dir(path.join("x")).unwrap();
    assert_eq!(names(scan)[4..], ["t/6", "t/7", "t/7/x", "t/8", "t/9"]);
}

#[tokio::test]
async fn what_vanishes_while_it_is_looked_for_is_passed_over_and_noted() {
    let dir = folder_with("mkdir -p t/b t/d; echo x > t/a; echo x > t/b/x; echo x > t/c; echo x > t/e");
    let mut scan = scan(dir.path(), "t", &Walk::default()).await;
    let mut next = || scan.next().map(|file| shown(&file.unwrap().name));
    assert_eq!([next(), next(), next()].map(Option::unwrap), ["t", "t/a", "t/b"]);
    let top = dir.path().join("t");
    std::fs::remove_dir_all(top.join("b")).unwrap();
    std::fs::remove_file(top.join("c")).unwrap();
    assert_eq!([next(), next(), next()], [Some("t/d".into()), Some("t/e".into()), None]);
    assert_eq!(scan.notes(), ["t/c was removed before it was looked at"]);
}

#[tokio::test]
async fn a_root_that_goes_away_is_an_error() {
    let dir = folder_with("mkdir r s");
    let mut gone = scan(dir.path(), "r", &Walk::default()).await;
    let mut replaced = scan(dir.path(), "s", &Walk::default()).await;
    std::fs::remove_dir(dir.path().join("r")).unwrap();
    let error = gone.next().unwrap().unwrap_err();
    assert!(error.to_string().starts_with("cannot read r: No such file"), "{error}");
    assert!(error.hint_text().unwrap().starts_with("every file must be readable"));
    assert!(gone.next().is_none());
    assert_eq!(replaced.next().unwrap().unwrap().name, b"s");
    std::fs::remove_dir(dir.path().join("s")).unwrap();
    symlink("/", dir.path().join("s")).unwrap();
    assert!(replaced.next().unwrap().unwrap_err().to_string().starts_with("cannot read s: "));
}

#[tokio::test]
async fn sockets_are_passed_over_and_noted() {
    let dir = folder_with("mkdir d; echo x > d/f");
    let bind = |name| std::os::unix::net::UnixListener::bind(dir.path().join(name)).unwrap();
    let _sockets = ["d/s", "d/t"].map(bind);
    let mut scan = scan(dir.path(), "d", &Walk::default()).await;
    assert_eq!(scan.by_ref().count(), 2);
    assert_eq!(scan.notes(), ["d/s and 1 more are sockets: nothing of them can be stored"]);
}

#[tokio::test]
async fn roots_that_give_one_name_to_two_files_are_not_scanned() {
    let dir = folder_with("mkdir -p x/srv srv; echo x > x/srv/f; echo y > srv/f");
    let roots = ["srv".into(), "../srv".into()];
    assert!(prepare(&dir.path().join("x"), &roots, &Walk::default()).await.unwrap().is_none());
}
