//! What a run that was killed leaves in a folder: files under the names that uploads have before they are complete, which
//! no list shows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::leftover::{Judge, Leftover, Taken, What};
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
                let sizes = files.iter().filter_map(|file| std::fs::metadata(file).ok());
                let bytes = sizes.map(|meta| meta.len()).sum();
                let youngest = files.iter().filter_map(|file| written(file)).max();
                let age = youngest.and_then(|time| Duration::try_from(now.duration_since(time)).ok());
                let names = files.iter().filter_map(|file| Some(file.file_name()?.to_str()?.to_string()));
                let (names, age) = (names.collect(), age.unwrap_or_default());
                found.push(Leftover { job: job.clone(), id, what: What::Staged, names, bytes, age });
            }
        }
        found
    }

    /// Deletes files of uploads, unless they are written to: whoever does that may have no lease.
    pub(super) fn drop_staged_files(&self, left: &Leftover, by: &Judge<'_>) -> Result<Taken> {
        let Place::Folder(root) = &self.place else { return Ok(Taken::Back) };
        let folder = root.join(&left.job);
        let mut runs = staged(&folder);
        let Some(files) = runs.remove(&left.id) else { return Ok(Taken::Back) };
        let found: Vec<_> = files.iter().map(|file| (file, process::identity(file))).collect();
        if is_written_to(&files, open_files(&folder, &files).as_ref(), by) {
            return Ok(Taken::Kept("it is written to".into()));
        }
        // One that another file has taken the place of since was not looked at.
        for (file, _) in found.iter().filter(|(file, found)| process::identity(file) == *found) {
            delete(file)?;
        }
        Ok(Taken::Back)
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
        let all: Vec<_> = runs.values().flatten().cloned().collect();
        let open = open_files(&folder, &all);
        let mut deleted = Vec::new();
        for files in runs.into_values().filter(|files| is_abandoned(files, open.as_ref())) {
            for file in files {
                let name = file.strip_prefix(root).unwrap_or(&file).display().to_string();
                delete(&file)?;
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

/// Which of a folder's files processes have open; none where that cannot be known: another host may, too.
fn open_files(folder: &Path, files: &[PathBuf]) -> Option<BTreeSet<(u64, u64)>> {
    let kind = Mounts::read().kind_of(folder);
    let is_local = kind.is_some_and(|kind| LOCAL.contains(&kind.as_str()));
    if is_local { process::open_files(files) } else { None }
}

fn has_any(files: &[PathBuf], open: &BTreeSet<(u64, u64)>) -> bool {
    files.iter().filter_map(|file| process::identity(file)).any(|file| open.contains(&file))
}

/// Whether a process has any of a run's files `open`, or one of them is young.
fn is_written_to(files: &[PathBuf], open: Option<&BTreeSet<(u64, u64)>>, by: &Judge<'_>) -> bool {
    let youngest = files.iter().filter_map(|file| written(file)).max();
    let age = youngest.map(|at| by.age(at)).unwrap_or_default();
    age < by.older_than || open.is_some_and(|open| has_any(files, open))
}

/// Whether no process has any of a run's files `open`; where that cannot be known, whether all of them are old.
fn is_abandoned(files: &[PathBuf], open: Option<&BTreeSet<(u64, u64)>>) -> bool {
    match open {
        Some(open) => !has_any(files, open),
        None => files.iter().all(|file| {
            let age = written(file).map(|at| jiff::Timestamp::now().duration_since(at));
            age.and_then(|age| Duration::try_from(age).ok()).is_some_and(|age| age >= SURELY_GONE)
        }),
    }
}

/// When a file was last written to.
fn written(file: &Path) -> Option<jiff::Timestamp> {
    std::fs::metadata(file).and_then(|meta| meta.modified()).ok()?.try_into().ok()
}

fn delete(file: &Path) -> Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context(|| format!("cannot delete {}", file.display()))
        }
        _ => Ok(()),
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
        let dir = folder("touch a b c");
        let file = |name: &str| dir.path().join(name);
        let open = |name: &str| BTreeSet::from([process::identity(&file(name)).unwrap()]);
        let files = [file("a"), file("b")];
        assert!(is_abandoned(&files, Some(&open("c"))));
        assert!(
            !is_abandoned(&files, Some(&open("b"))),
            "its archive may be old while its catalog is written"
        );
    }

    fn judge(hours: u64) -> Judge<'static> {
        let older_than = Duration::from_secs(hours * 3600);
        Judge { older_than, is_gone: &|_, _| false, ahead: Default::default() }
    }

    #[test]
    fn a_file_that_a_process_has_open_is_written_to_however_old_and_whatever_it_is_called_there() {
        let dir = folder("touch -d '2 days ago' a; ln a b");
        let files = [dir.path().join("a")];
        let open = BTreeSet::from([process::identity(&dir.path().join("b")).unwrap()]);
        assert!(is_written_to(&files, Some(&open), &judge(24)));
        assert!(!is_written_to(&files, Some(&BTreeSet::new()), &judge(24)));
        assert!(!is_written_to(&files, None, &judge(24)) && is_written_to(&files, None, &judge(72)));
    }

    #[test]
    fn a_file_that_was_written_to_since_it_was_listed_is_not_deleted() {
        let dir = folder(&format!("mkdir job; touch -d '2 days ago' 'job/{OLD}.raw#1'"));
        let store = Store::open(&format!("file://{}", dir.path().display()), &Default::default()).unwrap();
        let left = store.staged_files(Some("job"), jiff::Timestamp::now()).remove(0);
        assert!(matches!(store.drop_staged_files(&left, &judge(72)).unwrap(), Taken::Kept(_)));
        assert!(matches!(store.drop_staged_files(&left, &judge(24)).unwrap(), Taken::Back));
        assert_eq!(names(&dir.path().join("job")), [""; 0]);
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
