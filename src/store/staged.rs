//! What a run that was killed leaves in a folder: files under the names that uploads have before they are complete, which
//! no list shows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::leftover::{Leftover, What};
use super::{Place, Store};
use crate::archive::Id;
use crate::archive::name::JobName;
use crate::error::{Context, Result};
use crate::host::mounts::Mounts;
use crate::host::process;
use crate::report::Reporter;

/// How long nothing was written to a run's files until it is surely gone, where its process cannot be looked for.
const SURELY_GONE: Duration = Duration::from_secs(3600);

/// File systems that no other host writes to.
const LOCAL: [&str; 9] = ["btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs"];

impl Store {
    /// Deletes what an earlier run of the job that was killed left in a folder, and says so.
    pub fn clear_abandoned(&self, job: &str, ui: &Reporter) {
        match self.drop_abandoned(job) {
            Ok(names) => names.iter().for_each(|name| {
                ui.note(&format!("{name} was left at {} by a run that was killed: deleted", self.name));
            }),
            Err(error) => ui.warn(&format!("left at {} by a run that was killed: {error}", self.name)),
        }
    }

    /// The files of uploads in a folder, under way or broken off, of one job or of all.
    pub(super) fn staged_files(&self, job: Option<&str>, now: jiff::Timestamp) -> Vec<Leftover> {
        let Place::Folder(root) = &self.place else { return Vec::new() };
        let mut jobs = Vec::new();
        match job {
            Some(job) => jobs.push(job.to_string()),
            None => jobs_below(root, "", &mut jobs),
        }
        let mut found = Vec::new();
        for job in jobs {
            for (id, files) in staged(&root.join(&job)) {
                let written = files.iter().filter_map(|file| std::fs::metadata(file).ok());
                let (mut bytes, mut youngest) = (0, None);
                for meta in written {
                    bytes += meta.len();
                    youngest = youngest.max(meta.modified().ok());
                }
                let youngest = youngest.and_then(|time| jiff::Timestamp::try_from(time).ok());
                let age = youngest.and_then(|time| Duration::try_from(now.duration_since(time)).ok());
                let names = files.iter().filter_map(|file| Some(file.file_name()?.to_str()?.to_string()));
                let (names, age) = (names.collect(), age.unwrap_or_default());
                found.push(Leftover { job: job.clone(), id, what: What::Staged, names, bytes, age });
            }
        }
        found
    }

    /// Deletes files of uploads.
    pub(super) fn drop_staged_files(&self, left: &Leftover) -> Result<()> {
        let Place::Folder(root) = &self.place else { return Ok(()) };
        for name in &left.names {
            let file = root.join(&left.job).join(name);
            match std::fs::remove_file(&file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).context(|| format!("cannot delete {}", file.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Deletes what runs of this job that were killed have left in a folder; returns the names. What belongs to a run that
    /// may still be under way stays.
    ///
    /// # Errors
    /// A file cannot be deleted.
    pub fn drop_abandoned(&self, job: &str) -> Result<Vec<String>> {
        let Place::Folder(root) = &self.place else { return Ok(Vec::new()) };
        let folder = root.join(job);
        let runs = staged(&folder);
        if runs.is_empty() {
            return Ok(Vec::new());
        }
        let kind = Mounts::read().kind_of(&folder);
        let is_local = kind.is_some_and(|kind| LOCAL.contains(&kind.as_str()));
        let open = if is_local { process::open_files() } else { None };
        let mut deleted = Vec::new();
        for files in runs.into_values().filter(|files| is_abandoned(files, open.as_deref())) {
            for file in files {
                let name = file.strip_prefix(root).unwrap_or(&file).display().to_string();
                std::fs::remove_file(&file).context(|| format!("cannot delete {}", file.display()))?;
                deleted.push(name);
            }
        }
        Ok(deleted)
    }
}

/// The folders below `root` whose names may be jobs'. Links are not followed.
fn jobs_below(root: &Path, below: &str, jobs: &mut Vec<String>) {
    for entry in std::fs::read_dir(root.join(below)).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let name = if below.is_empty() { name } else { format!("{below}/{name}") };
        if name.parse::<JobName>().is_ok() && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            jobs_below(root, &name, jobs);
            jobs.push(name);
        }
    }
}

/// Files of uploads under way, or broken off, by the archive that they were to become: `ID.SUFFIX#1`.
fn staged(folder: &Path) -> BTreeMap<Id, Vec<PathBuf>> {
    let mut runs: BTreeMap<Id, Vec<PathBuf>> = BTreeMap::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let parsed = name.to_str().and_then(|name| {
            let (name, number) = name.rsplit_once('#')?;
            number.parse::<u32>().ok()?;
            name.split_once('.')?.0.parse().ok()
        });
        if let Some(id) = parsed {
            runs.entry(id).or_default().push(entry.path());
        }
    }
    runs
}

/// Whether no process has any of a run's files `open`; where that cannot be known, whether all of them are old.
fn is_abandoned(files: &[PathBuf], open: Option<&[PathBuf]>) -> bool {
    match open {
        Some(open) => files.iter().all(|file| !open.contains(file)),
        None => files.iter().all(|file| {
            let written = std::fs::metadata(file).and_then(|data| data.modified());
            let age = written.ok().and_then(|written| SystemTime::now().duration_since(written).ok());
            age.is_some_and(|age| age >= SURELY_GONE)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::StoreOptions;
    use super::*;

    const OLD: &str = "20261122T020000Z-1f2e3d4c";
    const NEW: &str = "20261123T020000Z-5f2e3d4c";

    fn folder(script: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let made = std::process::Command::new("sh").args(["-ec", script]).current_dir(dir.path()).status();
        assert!(made.unwrap().success(), "{script}");
        dir
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn only_files_of_uploads_are_staged() {
        let dir = folder(&format!(
            "touch '{OLD}.tar.zst#1' '{OLD}.catalog.zst#2' '{NEW}.tar.zst#1' '{NEW}.tar.zst' 'notes#1' '{NEW}.x#y' '{NEW}#1'"
        ));
        let found = staged(dir.path());
        let counts: Vec<_> = found.iter().map(|(id, files)| (id.as_str(), files.len())).collect();
        assert_eq!(counts, [(OLD, 2), (NEW, 1)]);
        assert!(staged(&dir.path().join("gone")).is_empty());
    }

    #[test]
    fn a_run_is_gone_when_nobody_has_its_files_open() {
        let file = |name: &str| PathBuf::from(format!("/s/j/{name}"));
        let files = [file("a"), file("b")];
        assert!(is_abandoned(&files, Some(&[file("c")])));
        assert!(
            !is_abandoned(&files, Some(&[file("b")])),
            "its archive may be old while its catalog is written"
        );
    }

    #[test]
    fn where_processes_cannot_be_seen_age_decides_and_the_youngest_file_counts() {
        let dir = folder("touch -d '2 hours ago' a b; touch c");
        let files = |names: &[&str]| names.iter().map(|name| dir.path().join(name)).collect::<Vec<_>>();
        assert!(is_abandoned(&files(&["a", "b"]), None));
        assert!(!is_abandoned(&files(&["a", "c"]), None));
        assert!(!is_abandoned(&files(&["gone"]), None));
    }

    #[test]
    fn what_a_killed_run_left_is_deleted_and_nothing_else() {
        let dir = folder(&format!(
            "mkdir job other; touch -d '2 hours ago' 'job/{OLD}.tar.zst#1' 'other/{OLD}.tar.zst#1' 'job/{OLD}.manifest.json'"
        ));
        let store =
            Store::open(&format!("file://{}", dir.path().display()), &StoreOptions::default()).unwrap();
        assert_eq!(store.drop_abandoned("job").unwrap(), [format!("job/{OLD}.tar.zst#1")]);
        assert_eq!(names(&dir.path().join("job")), [format!("{OLD}.manifest.json")]);
        assert_eq!(names(&dir.path().join("other")).len(), 1);
        assert_eq!(store.drop_abandoned("job").unwrap(), [""; 0]);
    }
}
