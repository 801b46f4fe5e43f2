//! GNU tar, told one by one which files to store: those that a scan found and that are to be read.

use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind, PipeWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, statat};
use tokio_util::sync::CancellationToken;

use super::Walk;
use super::gnutar::{self, Ended};
use super::roots::{self, Plan};
use super::said::Said;
use super::scan::{FOLDER, Scan};
use crate::error::{Context, Error, Result};
use crate::host::mounts::Mounts;
use crate::report::Reporter;
use crate::stream::source::{Proof, Running};
use crate::tar::gnu;
use crate::tar::stat::Stat;

/// The exit code of a GNU tar that could not do something.
const FAILED: i32 = 2;

/// A source whose files can be scanned, and of which those are read that are asked for.
#[derive(Debug)]
pub struct Prepared {
    /// Finds its files.
    pub scan: Scan,
    /// Reads them.
    pub files: NamedFiles,
}

/// Prepares a scan of the folders `names`, as seen from `from`; none where two of their files would have one name.
pub(super) async fn prepare(
    from: Option<&Path>,
    names: &[String],
    walk: &Walk,
    ui: &Reporter,
) -> Result<Option<Prepared>> {
    let plan = roots::plan(from, names, walk, &Mounts::read())?;
    gnu::require().await?;
    if let Some((one, other)) = plan.clash() {
        ui.detail(&format!("{one} and {other} have files of one name: they cannot be scanned"));
        return Ok(None);
    }
    plan.tell(ui);
    Ok(Some(Prepared { scan: Scan::new(&plan)?, files: NamedFiles::new(&plan)? }))
}

/// GNU tar, told one by one which files to store.
#[derive(Debug, Clone)]
pub struct NamedFiles {
    from: Option<PathBuf>,
    renames: Vec<OsString>,
    roots: Vec<Identity>,
}

/// A root, and what it was when the backup began.
#[derive(Debug, Clone)]
struct Identity {
    named: String,
    path: PathBuf,
    /// Device and inode of a folder. A file may well be replaced.
    folder: Option<(u64, u64)>,
}

impl Identity {
    fn of(path: &Path) -> Result<Option<(u64, u64)>, rustix::io::Errno> {
        let data = rustix::fs::lstat(path)?;
        let stat = Stat::from(&data);
        Ok(stat.is_dir().then_some((super::scan::device(&data), stat.inode)))
    }

    /// What lies at a path that begins with its own.
    fn look(&self, path: &Path) -> Option<Stat> {
        let Some(folder) = self.folder else {
            return rustix::fs::lstat(path).ok().map(|data| Stat::from(&data));
        };
        let mut at = openat(CWD, &self.path, FOLDER | OFlags::PATH, Mode::empty()).ok()?;
        let mut found = rustix::fs::fstat(&at).ok()?;
        if (super::scan::device(&found), Stat::from(&found).inode) != folder {
            return None;
        }
        let mut below = path.strip_prefix(&self.path).ok()?.components().peekable();
        while let Some(Component::Normal(name)) = below.next() {
            found = statat(&at, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
            if below.peek().is_some() {
                at = openat(&at, name, FOLDER | OFlags::PATH, Mode::empty()).ok()?;
            }
        }
        below.next().is_none().then(|| Stat::from(&found))
    }

    fn is_still(&self) -> bool {
        Identity::of(&self.path).is_ok_and(|now| now == self.folder)
    }
}

impl NamedFiles {
    fn new(plan: &Plan) -> Result<NamedFiles> {
        let roots = plan.roots.iter().map(|root| {
            let path =
                plan.from.as_ref().map_or_else(|| root.walked.clone().into(), |from| from.join(&root.walked));
            let folder = Identity::of(&path).map_err(std::io::Error::from);
            let folder = folder.context(|| format!("cannot read {}", root.named))?;
            Ok(Identity { named: root.named.clone(), path, folder })
        });
        Ok(NamedFiles {
            from: plan.from.clone(),
            renames: plan.renames(),
            roots: roots.collect::<Result<_>>()?,
        })
    }

    /// The folder from which paths are seen.
    pub fn from(&self) -> Option<&Path> {
        self.from.as_deref()
    }

    /// What `lstat` says now of a file that tar was told of, where nothing but real folders leads there from its root: no link.
    pub fn now(&self, walked: &[u8]) -> Option<Stat> {
        let walked = Path::new(OsStr::from_bytes(walked));
        let path = self.from.as_ref().map_or_else(|| walked.into(), |from| from.join(walked));
        let around = self.roots.iter().filter(|root| path.starts_with(&root.path));
        around.max_by_key(|root| root.path.as_os_str().len())?.look(&path)
    }

    /// Starts a tar of those files whose paths are then sent, in that order. Its bytes must be read while they are sent.
    /// A file that is no longer there when its turn comes is missing in the tar, and its name is in a warning.
    ///
    /// Of files that are one file by hard links, those after the first are stored as links to it, within one tar. For
    /// that tar remembers every path: it takes about 60 bytes for each, and the path.
    ///
    /// # Errors
    /// There is no GNU tar, or no pipe to it.
    pub fn start(&self, ui: &Reporter, stop: &CancellationToken) -> Result<(Running, NameSender)> {
        let (reader, pipe) = std::io::pipe().context(|| "cannot make a pipe".into())?;
        let is_whole = Arc::new(AtomicBool::new(false));
        let (said_all, roots) = (Arc::clone(&is_whole), self.roots.clone());
        let judge = move |ended: Ended, said: Said| {
            let proof = judge(ended, said, &roots)?;
            if said_all.load(Ordering::Acquire) { Ok(proof) } else { Err(Error::disconnected()) }
        };
        let args = gnu::create_named(self.from.as_deref(), self.renames.clone());
        let running = gnutar::spawn(args, Stdio::from(reader), judge, ui, stop)?;
        Ok((running, NameSender { pipe, is_whole, line: Vec::new() }))
    }
}

/// The exit code is the proof, and that files are gone that tar was told of is no failure, unless a root is gone.
fn judge(ended: Ended, said: Said, roots: &[Identity]) -> Result<Proof> {
    if said.vanished() > 0
        && let Some(root) = roots.iter().find(|root| !root.is_still())
    {
        return Err(Error::failed(format!("{} went away while it was read", root.named))
            .hint("back it up while it is mounted and nobody replaces it"));
    }
    match ended.status.code() {
        Some(FAILED) if said.is_only_of_vanished() => Ok(said.proof(FAILED)),
        _ => ended.proof(said),
    }
}

/// Tells a running tar which files to store. The list must be [finished](NameSender::finish): without that there is no
/// proof that tar knew all of it.
#[derive(Debug)]
pub struct NameSender {
    pipe: PipeWriter,
    is_whole: Arc<AtomicBool>,
    line: Vec<u8>,
}

impl NameSender {
    /// Sends the path of the next file, [`walked`](super::Scanned::walked); waits while tar is busy with those before
    /// it. Nothing is held back here, though tar itself holds members back until it has a MiB of them.
    ///
    /// # Errors
    /// [`Kind::Disconnected`](crate::error::Kind::Disconnected): tar has ended; the source's proof says why.
    pub fn send(&mut self, walked: &[u8]) -> Result<()> {
        self.line.clear();
        self.line.extend_from_slice(walked);
        self.line.push(0);
        self.pipe.write_all(&self.line).map_err(|e| match e.kind() {
            ErrorKind::BrokenPipe => Error::disconnected(),
            _ => Error::failed("cannot tell tar what to read").because(e),
        })
    }

    /// Says that these were all.
    pub fn finish(self) {
        // Before the pipe is closed, by which tar sees the end.
        self.is_whole.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::super::gnutar::tests::{folder_with, read};
    use super::*;
    use crate::error::Kind;
    use crate::stream::warning::WarningKind;
    use crate::tar::Walker;

    async fn files(dir: &Path, root: &str) -> NamedFiles {
        let ui = Reporter::silent();
        prepare(Some(dir), &[root.into()], &Walk::default(), &ui).await.unwrap().unwrap().files
    }

    /// The members of a tar of these paths, and what it proves.
    async fn stored(files: &NamedFiles, walked: Vec<String>) -> (Vec<String>, Result<Proof>) {
        let (running, mut names) = files.start(&Reporter::silent(), &CancellationToken::new()).unwrap();
        let sent = tokio::task::spawn_blocking(move || {
            let sent = walked.iter().try_for_each(|path| names.send(path.as_bytes()));
            names.finish();
            sent
        });
        let (bytes, proof) = read(running).await;
        sent.await.unwrap().unwrap();
        let (mut walker, mut entries) = (Walker::new(), Vec::new());
        walker.feed(&bytes, &mut entries).unwrap();
        walker.finish().unwrap();
        (entries.into_iter().map(|entry| entry.path).collect(), proof)
    }

    fn paths(paths: &[&str]) -> Vec<String> {
        paths.iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn only_what_is_named_is_stored_and_in_that_order() {
        let dir = folder_with("mkdir -p t/d; echo x > t/d/x; echo y > t/-y; echo z > t/z");
        let (members, proof) = stored(&files(dir.path(), "t").await, paths(&["t/z", "t/-y", "t/d"])).await;
        assert_eq!(members, ["t/z", "t/-y", "t/d/"]);
        assert_eq!(proof.unwrap().exit_code, Some(0));
    }

    #[tokio::test]
    async fn a_list_of_nothing_makes_a_whole_tar_of_nothing() {
        let dir = folder_with("mkdir t");
        let (members, proof) = stored(&files(dir.path(), "t").await, Vec::new()).await;
        assert_eq!((members.len(), proof.unwrap().exit_code), (0, Some(0)));
    }

    #[tokio::test]
    async fn more_names_than_a_pipe_takes_come_back_in_order() {
        let dir = folder_with("mkdir t; cd t; seq -f f%050.0f 20000 | xargs touch");
        let names: Vec<_> = (1..=20_000).map(|n| format!("t/f{n:050}")).collect();
        let (members, proof) = stored(&files(dir.path(), "t").await, names.clone()).await;
        assert!(members == names && proof.is_ok());
    }

    #[tokio::test]
    async fn files_that_vanish_are_a_warning_that_they_changed() {
        let dir = folder_with("mkdir t; echo x > t/a; echo x > t/b");
        let gone = ["t/a", "t/gone", "t/a/x", "t/gone: Cannot open: x", "t/b"];
        let (members, proof) = stored(&files(dir.path(), "t").await, paths(&gone)).await;
        assert_eq!(members, ["t/a", "t/b"]);
        let warnings = proof.unwrap().warnings;
        assert!(warnings.iter().all(|warning| warning.kind == WarningKind::Changed), "{warnings:?}");
        assert_eq!((warnings.len(), &*warnings[0].text), (3, "tar: t/gone: File removed before we read it"));
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_is_a_failure_though_others_vanished() {
        let dir = folder_with("mkdir t; echo x > t/a");
        let odd = paths(&["t/a", "t/gone", &format!("t/{}", "n".repeat(300))]);
        let error = stored(&files(dir.path(), "t").await, odd).await.1.unwrap_err();
        assert!(error.to_string().starts_with("tar failed (exit status: 2)"), "{error}");
    }

    #[tokio::test]
    async fn a_root_that_goes_away_is_a_failure_and_no_warning() {
        let dir = folder_with("mkdir t; echo x > t/a");
        let files = files(dir.path(), "t").await;
        std::fs::rename(dir.path().join("t"), dir.path().join("u")).unwrap();
        std::fs::create_dir(dir.path().join("t")).unwrap();
        let error = stored(&files, paths(&["t", "t/a"])).await.1.unwrap_err();
        assert_eq!(error.to_string(), "t went away while it was read");
    }

    #[tokio::test]
    async fn what_lies_there_now_is_looked_at_through_no_link() {
        let dir = folder_with(
            "mkdir -p t/d/e o/e; echo x > t/d/e/x; echo yy > o/e/x; ln -s ../o t/l; ln -s x t/d/e/s",
        );
        let files = files(dir.path(), "t").await;
        let size = |walked: &str| files.now(walked.as_bytes()).map(|stat| (stat.size, stat.is_file()));
        assert_eq!(size("t/d/e/x"), Some((2, true)));
        assert_eq!(size("t/d/e/s"), Some((1, false)), "a link itself is what lies there");
        assert!(files.now(b"t").unwrap().is_dir() && files.now(b"t/d").unwrap().is_dir());
        for elsewhere in ["t/l/e/x", "t/l/e", "t/gone", "t/d/e/x/y", "t/../o/e/x", "o/e/x"] {
            assert_eq!(size(elsewhere), None, "{elsewhere}");
        }
        let moved =
            |from: &str, to: &str| std::fs::rename(dir.path().join(from), dir.path().join(to)).unwrap();
        moved("t/d/e", "t/d/f");
        moved("o/e", "t/d/e");
        assert_eq!(size("t/d/e/x"), Some((3, true)), "another folder is one too");
        moved("t", "u");
        moved("o", "t");
        assert_eq!(files.now(b"t"), None, "it is not the root that it was");
    }

    #[tokio::test]
    async fn a_list_that_was_not_finished_has_no_proof() {
        let dir = folder_with("mkdir t; echo x > t/a");
        for path in ["t/a", "t/gone"] {
            let files = files(dir.path(), "t").await;
            let (running, mut names) = files.start(&Reporter::silent(), &CancellationToken::new()).unwrap();
            names.send(path.as_bytes()).unwrap();
            drop(names);
            assert_eq!(read(running).await.1.unwrap_err().kind(), Kind::Disconnected);
        }
    }

    #[tokio::test]
    async fn a_tar_that_is_stopped_takes_no_more_names() {
        let dir = folder_with("mkdir t; echo x > t/a");
        let (files, stop) = (files(dir.path(), "t").await, CancellationToken::new());
        let (running, mut names) = files.start(&Reporter::silent(), &stop).unwrap();
        let sending = tokio::task::spawn_blocking(move || {
            std::iter::repeat_with(|| names.send(b"t/a")).find_map(Result::err)
        });
        stop.cancel();
        assert_eq!(read(running).await.1.unwrap_err().kind(), Kind::Interrupted);
        assert_eq!(sending.await.unwrap().unwrap().kind(), Kind::Disconnected);
    }
}
