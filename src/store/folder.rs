//! A folder as a store: the client library's, but for its lists, which pass over what is not ours.

use std::fmt;
use std::fs::{DirEntry, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path as FsPath, PathBuf};

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::foreign::{PassedOver, may_be_ours};
use crate::archive::name::JobName;
use crate::host::mounts::Mounts;

/// A folder of this host.
#[derive(Debug)]
pub(super) struct Folder {
    files: LocalFileSystem,
    root: PathBuf,
    passed_over: PassedOver,
}

impl Folder {
    /// The folder at `root`, which is there.
    ///
    /// # Errors
    /// It is no folder.
    pub(super) fn open(root: &FsPath, passed_over: &PassedOver) -> Result<Folder> {
        // A store that says "done" has the bytes on the disk, as the others have. Where folders cannot be synced (CIFS), that
        // is no failure: there a file is on the server when it was closed.
        let files = LocalFileSystem::new_with_prefix(root)?.with_fsync(can_sync(root));
        Ok(Folder { files, root: root.into(), passed_over: passed_over.clone() })
    }

    fn walk(&self, prefix: Option<&Path>, deep: bool) -> impl Future<Output = Result<ListResult>> + use<> {
        let (root, passed_over) = (self.root.clone(), self.passed_over.clone());
        let prefix = prefix.map_or("", |prefix| prefix.as_ref()).to_string();
        let walk = move || {
            passed_over.reset();
            let kernel = Mounts::read().kernel_devices();
            let mut walk = Walk { passed_over, deep, kernel, found: Vec::new(), above: Vec::new(), links: 0 };
            // A store that is not there any more is no empty one.
            let walked = std::fs::metadata(&root).and_then(|_| walk.top(&root.join(&prefix), &prefix));
            let failed = |e: std::io::Error| Error::Generic { store: "LocalFileSystem", source: e.into() };
            walked.map_err(failed)?;
            // Nobody asks for folders.
            Ok(ListResult {
                common_prefixes: Vec::new(),
                objects: walk.found,
                extensions: Default::default(),
            })
        };
        async { tokio::task::spawn_blocking(walk).await? }
    }
}

/// Links to folders on the way to an archive: a job's folder may be one, and the folder around it. More would let links
/// beside one another multiply the ways without end.
const LINKS: usize = 2;

/// One walk through a folder, which may be all of the host: it remembers only what is ours.
struct Walk {
    passed_over: PassedOver,
    deep: bool,
    /// Devices that are not walked into.
    kernel: Vec<u64>,
    found: Vec<ObjectMeta>,
    /// Device and inode of the folders that lead here: one of them again is a loop.
    above: Vec<(u64, u64)>,
    /// Links among them.
    links: usize,
}

impl Walk {
    fn top(&mut self, folder: &FsPath, key: &str) -> std::io::Result<()> {
        match std::fs::metadata(folder) {
            Ok(meta) if meta.is_dir() => {
                // Whoever names one means it.
                self.kernel.retain(|device| *device != meta.dev());
                self.folder(folder, key, &meta)
            }
            Ok(_) => {
                self.passed_over.add();
                Ok(())
            }
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(()),
            Err(e) => Err(e),
        }
    }

    fn folder(&mut self, folder: &FsPath, key: &str, meta: &Metadata) -> std::io::Result<()> {
        let entries = std::fs::read_dir(folder)?;
        self.above.push((meta.dev(), meta.ino()));
        for entry in entries {
            let Ok(entry) = entry else {
                self.passed_over.add_unreadable(key);
                break;
            };
            match entry.file_name().to_str() {
                None => self.passed_over.add(),
                Some(name) => {
                    let key = if key.is_empty() { name.into() } else { format!("{key}/{name}") };
                    self.entry(&entry, key);
                }
            }
        }
        self.above.pop();
        Ok(())
    }

    fn entry(&mut self, entry: &DirEntry, key: String) {
        // Most of a host's files are told by their names, without a look at each.
        let Ok(kind) = entry.file_type() else { return self.passed_over.add() };
        if !kind.is_dir() && !kind.is_symlink() && !may_be_ours(&key) {
            return self.passed_over.add();
        }
        // A failure: gone since, or a link to nothing, or a loop of links.
        let Ok(meta) = std::fs::metadata(entry.path()) else { return self.passed_over.add() };
        if meta.is_dir() {
            return self.subfolder(&entry.path(), &key, &meta, kind.is_symlink());
        }
        let location = Path::parse(&key).ok().filter(|_| meta.is_file() && may_be_ours(&key));
        let Some(location) = location else { return self.passed_over.add() };
        if !is_staged(&key) {
            let last_modified = meta.modified().unwrap_or(std::time::UNIX_EPOCH).into();
            let (size, e_tag, version) = (meta.len(), None, None);
            self.found.push(ObjectMeta { location, last_modified, size, e_tag, version });
        }
    }

    fn subfolder(&mut self, path: &FsPath, key: &str, meta: &Metadata, is_link: bool) {
        // What no job can be called has no archive in it: `lost+found`, `.snapshot`.
        let is_job = Path::parse(key).is_ok() && key.parse::<JobName>().is_ok();
        let is_loop = self.above.contains(&(meta.dev(), meta.ino()));
        if !is_job || is_loop || self.kernel.contains(&meta.dev()) || is_link && self.links == LINKS {
            self.passed_over.add();
        } else if self.deep {
            self.links += usize::from(is_link);
            if self.folder(path, key, meta).is_err() {
                self.passed_over.add_unreadable(key);
            }
            self.links -= usize::from(is_link);
        }
    }
}

/// Whether it is an upload that was not completed, or is under way: `NAME#1`.
fn is_staged(key: &str) -> bool {
    key.rsplit_once('#')
        .is_some_and(|(_, digits)| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Folder {
    async fn put_opts(&self, key: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.files.put_opts(key, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        key: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.files.put_multipart_opts(key, options).await
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> Result<GetResult> {
        self.files.get_opts(key, options).await
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.files.delete_stream(keys)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let walk = self.walk(prefix, true);
        let found = futures_util::stream::once(walk).flat_map(|found| {
            futures_util::stream::iter(match found {
                Ok(found) => found.objects.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            })
        });
        found.boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.walk(prefix, false).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.files.copy_opts(from, to, options).await
    }
}

/// Whether the file system lets a folder be synced.
pub(super) fn can_sync(folder: &FsPath) -> bool {
    use rustix::fs::{Mode, OFlags};
    use rustix::io::Errno;
    let opened =
        rustix::fs::open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let synced = opened.and_then(rustix::fs::fsync);
    !matches!(synced, Err(Errno::INVAL | Errno::NOTSUP | Errno::NOSYS))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the tests make files for the store to pass over")]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::report::Reporter;
    use crate::store::{Store, StoreUrl};

    const ID: &str = "20261122T020000Z-1f2e3d4c";

    fn store(root: &FsPath) -> Store {
        StoreUrl::new(format!("file://{}", root.display())).open(&Reporter::silent()).unwrap()
    }

    async fn keys(store: &Store, prefix: &str) -> Vec<String> {
        let prefix = Path::parse(prefix).unwrap();
        let listed: Vec<_> = store.down.list(Some(&prefix)).collect().await;
        let mut keys: Vec<_> = listed.into_iter().map(|meta| meta.unwrap().location.to_string()).collect();
        keys.sort();
        keys
    }

    /// A store with an archive's manifest, and what else may lie there.
    fn odd() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        std::fs::create_dir_all(at("j/deeper")).unwrap();
        std::fs::create_dir_all(at("lost+found")).unwrap();
        std::fs::write(at(&format!("j/{ID}.manifest.json")), "x").unwrap();
        std::fs::write(at(&format!("j/deeper/{ID}.manifest.json")), "x").unwrap();
        std::fs::write(at(&format!("j/{ID}.tar.zst#1")), "x").unwrap();
        std::fs::write(at("lost+found/x"), "x").unwrap();
        std::fs::write(at("j/line\nbreak"), "x").unwrap();
        std::fs::write(at("j").join(OsStr::from_bytes(b"bad\xff")), "x").unwrap();
        std::fs::create_dir(at("").join(OsStr::from_bytes(b"dir\xff"))).unwrap();
        symlink("..", at("j/up")).unwrap();
        symlink("self", at("self")).unwrap();
        symlink("nothing", at("j/dangling")).unwrap();
        root
    }

    #[tokio::test]
    async fn what_is_not_ours_is_passed_over_and_counted() {
        let root = odd();
        let store = store(root.path());
        let ours = [format!("j/{ID}.manifest.json"), format!("j/deeper/{ID}.manifest.json")];
        assert_eq!(keys(&store, "").await, ours);
        // lost+found, dir\xff, self, j/up, j/dangling, the line break, bad\xff; what is staged is ours.
        assert_eq!(store.passed_over.count(), 7);
        let near = store.down.list_with_delimiter(Some(&Path::from("j"))).await.unwrap();
        let near: Vec<_> = near.objects.iter().map(|meta| meta.location.to_string()).collect();
        assert_eq!(near, ours[..1]);
    }

    #[tokio::test]
    async fn a_jobs_folder_may_be_a_link_to_another_disk() {
        let (root, disk) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(disk.path().join(format!("{ID}.manifest.json")), "x").unwrap();
        symlink(disk.path(), root.path().join("big")).unwrap();
        assert_eq!(keys(&store(root.path()), "").await, [format!("big/{ID}.manifest.json")]);
    }

    #[tokio::test]
    async fn of_a_large_foreign_tree_only_what_is_ours_is_kept() {
        let root = tempfile::tempdir().unwrap();
        for folder in 0..50 {
            let folder = root.path().join(format!("photos/{folder}/raw"));
            std::fs::create_dir_all(&folder).unwrap();
            (0..40).for_each(|n| std::fs::write(folder.join(format!("{n}.jpg")), "").unwrap());
        }
        std::fs::create_dir_all(root.path().join("ee/db")).unwrap();
        std::fs::write(root.path().join(format!("ee/db/{ID}.manifest.json")), "x").unwrap();
        std::fs::write(root.path().join("ee/db/notes.txt"), "x").unwrap();
        let store = store(root.path());
        // What a list hands on is all that it remembers.
        assert_eq!(keys(&store, "").await, [format!("ee/db/{ID}.manifest.json")]);
        assert_eq!(store.passed_over.count(), 2001);
        assert_eq!(keys(&store, "ee/db").await, [format!("ee/db/{ID}.manifest.json")]);
        assert_eq!(store.passed_over.count(), 1, "each list counts anew");
    }

    #[tokio::test]
    async fn links_beside_one_another_do_not_multiply_the_ways() {
        let root = tempfile::tempdir().unwrap();
        // Each of 30 folders has two links to the next: 2^30 ways to the last.
        for n in 0..30 {
            let folder = root.path().join(format!("f{n}"));
            std::fs::create_dir(&folder).unwrap();
            symlink(format!("../f{}", n + 1), folder.join("a")).unwrap();
            symlink(format!("../f{}", n + 1), folder.join("b")).unwrap();
        }
        let last = root.path().join("f30");
        std::fs::create_dir(&last).unwrap();
        std::fs::write(last.join(format!("{ID}.manifest.json")), "x").unwrap();
        let found = keys(&store(root.path()), "").await;
        assert!(found.contains(&format!("f30/{ID}.manifest.json")) && found.len() < 10, "{found:?}");
    }

    #[tokio::test]
    async fn the_kernels_own_files_are_not_walked_through() {
        let root = tempfile::tempdir().unwrap();
        symlink("/proc", root.path().join("proc")).unwrap();
        let store = store(root.path());
        assert_eq!((keys(&store, "").await.len(), store.passed_over.count()), (0, 1));
    }

    #[tokio::test]
    async fn a_folder_that_is_no_folder_holds_nothing() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("j"), "x").unwrap();
        let store = store(root.path());
        assert_eq!((keys(&store, "j").await.len(), keys(&store, "none/x").await.len()), (0, 0));
    }

    #[tokio::test]
    async fn a_store_that_is_gone_is_no_empty_store() {
        let root = tempfile::tempdir().unwrap();
        let store = store(root.path());
        drop(root);
        assert!(store.archives(None).await.is_err());
    }

    #[test]
    fn an_upload_under_way_is_told_by_its_number() {
        assert!(is_staged("a/b#1") && is_staged("a#27"));
        assert!(!is_staged("a/b") && !is_staged("a#") && !is_staged("a#b"));
    }
}
