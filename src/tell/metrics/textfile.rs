//! The file that a node exporter reads: `--collector.textfile.directory`.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::Metrics;
use crate::error::{Error, Result};

/// How often, and after which time each, a lock is asked for that another run holds: it does so for moments.
const ASKED: (u32, Duration) = (100, Duration::from_millis(50));

/// Readable for the exporter, which is another user.
const MODE: Mode = Mode::from_raw_mode(0o644);

/// A file of metrics to which the runs of a host add theirs.
#[derive(Debug, Clone)]
pub struct Textfile(PathBuf);

impl Textfile {
    /// The file at this place, which need not be there yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Textfile(path.into())
    }

    /// Changes the metrics of the file. Readers see the old file or the new one, and never a part.
    ///
    /// # Errors
    /// It cannot be written, or holds what is not ours: then it is left as it is.
    pub fn update(&self, change: impl FnOnce(&mut Metrics)) -> Result<()> {
        let shown = self.0.display();
        let failed = |what: &str, e: Errno| {
            Error::failed(format!("cannot {what} {shown}")).because(std::io::Error::from(e))
        };
        let hint = "is its folder there, and may this user write there?";
        let folder =
            self.0.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = self.0.file_name().ok_or_else(|| Error::usage(format!("{shown} is no file")))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder =
            rustix::fs::open(folder, flags, Mode::empty()).map_err(|e| failed("write", e).hint(hint))?;
        // The folder is locked, not the file: that one is another with every run.
        locked(&folder).map_err(|e| failed("lock", e).hint("another run of sealift holds it"))?;
        let mut metrics = match std::fs::read_to_string(&self.0) {
            Ok(text) => Metrics::read(&text).map_err(|error| {
                error
                    .context(format!("{shown} is left as it is"))
                    .hint("name another metrics_file, or move that one away")
            })?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Metrics::default(),
            Err(e) => return Err(Error::failed(format!("cannot read {shown}")).because(e)),
        };
        change(&mut metrics);
        // One name, so that killed runs leave no more than one; the exporter reads *.prom only.
        let new = format!(".{}.new", name.to_string_lossy());
        let written = replace(&folder, &new, &metrics.to_string())
            .and_then(|()| rustix::fs::renameat(&folder, new.as_str(), &folder, name));
        written.map_err(|e| {
            let _ = rustix::fs::unlinkat(&folder, new.as_str(), AtFlags::empty());
            failed("write", e).hint(hint)
        })
    }
}

/// Locks a folder for as long as it is open here.
fn locked(folder: &OwnedFd) -> rustix::io::Result<()> {
    let (times, pause) = ASKED;
    for _ in 1..times {
        match rustix::fs::flock(folder, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => sleep(pause),
            asked => return asked,
        }
    }
    rustix::fs::flock(folder, FlockOperation::NonBlockingLockExclusive)
}

/// Writes a new file, in place of what a killed run has left.
fn replace(folder: &OwnedFd, name: &str, text: &str) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(e) => return Err(e),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, name, flags, MODE)?;
    // The umask of a backup keeps what it writes from everybody.
    rustix::fs::fchmod(&file, MODE)?;
    let mut left = text.as_bytes();
    while !left.is_empty() {
        let written = rustix::io::write(&file, left)?;
        left = &left[written..];
    }
    rustix::fs::fsync(&file)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the tests make the files that they read")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::report::run::{Run, RunState};

    fn run(name: &str) -> Run {
        let ended = Some(jiff::Timestamp::now());
        Run { ended, state: RunState::Succeeded, ..Run::new(name, "backup", "nas") }
    }

    #[test]
    fn runs_at_the_same_time_lose_nothing_of_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let file = Textfile::new(dir.path().join("sealift.prom"));
        std::thread::scope(|scope| {
            for i in 0..16 {
                let file = &file;
                scope.spawn(move || file.update(|metrics| metrics.record(&run(&format!("job{i}")))).unwrap());
            }
        });
        let text = std::fs::read_to_string(&file.0).unwrap();
        let lines = text.lines().filter(|line| line.starts_with("sealift_backup_last_status{"));
        assert_eq!(lines.count(), 16, "{text}");
        assert_eq!(std::fs::metadata(&file.0).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_of_somebody_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let file = Textfile::new(dir.path().join("x.prom"));
        for text in ["node_up 1\n", "sealift_backup_last_status{job=\"a\"", "# TYPE other gauge\n"] {
            std::fs::write(&file.0, text).unwrap();
            let error = file.update(|metrics| metrics.record(&run("a"))).unwrap_err();
            assert!(
                error.to_string().ends_with("is left as it is: line 1 is no metric of sealift"),
                "{error}"
            );
            assert_eq!(std::fs::read_to_string(&file.0).unwrap(), text);
        }
    }

    #[test]
    fn what_a_killed_run_has_left_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        std::fs::write(&outside, "untouched").unwrap();
        std::os::unix::fs::symlink(&outside, dir.path().join(".x.prom.new")).unwrap();
        let file = Textfile::new(dir.path().join("x.prom"));
        file.update(|metrics| metrics.record(&run("a"))).unwrap();
        assert_eq!(std::fs::read_to_string(&outside).unwrap(), "untouched");
        assert!(!dir.path().join(".x.prom.new").exists());
    }

    #[test]
    fn a_folder_that_is_not_there_is_told_with_what_to_do() {
        let error = Textfile::new("/nowhere/sealift.prom").update(|_| {}).unwrap_err();
        assert!(error.to_string().starts_with("cannot write /nowhere/sealift.prom: "), "{error}");
        assert!(error.hint_text().is_some());
    }
}
