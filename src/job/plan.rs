//! `plan`: what a set would back up on this node and what it would not, before anything is begun.

use std::path::Path;

use super::Subject;
use super::backup::BackupRequest;
use super::set::SetRequest;
use crate::archive::budget::{MemoryBudget, PartLimits};
use crate::docker::Engine;
use crate::docker::quiesce::{QuiesceRequest, Target};
use crate::error::{Error, Result};
use crate::preset::{DataLocation, Preview};
use crate::source::{Source, in_words};
use crate::store::locate;

/// What would become of a job of the set.
#[derive(Debug)]
pub struct PlannedJob {
    /// Its name.
    pub job: String,
    /// What it is: name, version, where.
    pub what: String,
    /// The archives that it would make.
    pub archives: Vec<PlannedArchive>,
    /// What would not be in them, and where that is or comes from.
    pub not_in_it: Vec<String>,
    /// Bytes of the largest archive that its stores allow; none where there is no limit, or no store.
    pub largest: Option<u64>,
    /// What would be done to containers and services while its source is read, in order.
    pub quiesce: Vec<String>,
    /// Why it cannot be backed up here and now.
    pub problem: Option<Error>,
}

/// An archive that would be made.
#[derive(Debug)]
pub struct PlannedArchive {
    /// The job under which it would lie.
    pub job: String,
    /// What it would hold.
    pub words: String,
    /// Bytes before compression, where they can be measured.
    pub size: Option<u64>,
}

/// Looks at what each job of a set would back up here. A job that cannot be backed up has a problem.
///
/// # Errors
/// The engine does not answer; the memory is not enough for a job.
pub async fn plan(set: &SetRequest) -> Result<Vec<PlannedJob>> {
    let mut jobs = Vec::new();
    for (subject, request) in &set.jobs {
        jobs.push(preview(subject, request).await?);
    }
    Ok(jobs)
}

async fn preview(subject: &Subject, request: &BackupRequest) -> Result<PlannedJob> {
    let (found, engine) = match subject {
        // Its jobs are found before.
        Subject::Discover(_) => (Err(Error::disconnected()), None),
        Subject::Preset(preset) => {
            let engine = Engine::connect().await?;
            (preset.preview(&engine).await, Some(engine))
        }
        Subject::Source(source) if source.needs_engine() || request.quiesce.is_some() => {
            (Ok(of_source(source)), Some(Engine::connect().await?))
        }
        Subject::Source(source) => (Ok(of_source(source)), None),
    };
    let job = request.job.clone().or_else(|| subject.default_job()).unwrap_or_default();
    let largest = largest(request)?;
    let preview = match found {
        Ok(preview) => preview,
        Err(error) => {
            let (archives, not_in_it) = (Vec::new(), Vec::new());
            return Ok(PlannedJob {
                job,
                what: "not on this node".into(),
                archives,
                not_in_it,
                largest,
                quiesce: Vec::new(),
                problem: Some(error),
            });
        }
    };
    let mut archives = Vec::new();
    for (part, words, held) in preview.archives {
        let job = part.map_or(job.clone(), |part| format!("{job}/{part}"));
        archives.push(PlannedArchive { job, words, size: measure(held, engine.as_ref()).await });
    }
    let (quiesce, problem) = match held(request.quiesce.as_ref(), engine.as_ref(), &job).await {
        Ok(quiesce) => (quiesce, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    let (what, not_in_it) = (preview.what, preview.not_in_it);
    Ok(PlannedJob { job, what, archives, not_in_it, largest, quiesce, problem })
}

/// What would be held still for a job, in order and in words.
pub(super) async fn held(
    request: Option<&QuiesceRequest>,
    engine: Option<&Engine>,
    job: &str,
) -> Result<Vec<String>> {
    let Some((request, engine)) = request.zip(engine) else { return Ok(Vec::new()) };
    let plan = engine.plan_quiesce(request, job).await?;
    Ok(plan.targets.iter().map(Target::in_words).collect())
}

fn of_source(source: &Source) -> Preview {
    let words = in_words(&source.describe());
    Preview {
        what: "a job of the settings file".into(),
        archives: vec![(None, words, location(source))],
        not_in_it: Vec::new(),
    }
}

/// Where what a source reads lies.
pub(super) fn location(source: &Source) -> DataLocation {
    match source {
        Source::Volume(names) => DataLocation::Volumes(names.clone()),
        Source::Path(dirs) if dirs.len() == 1 => DataLocation::Folder(dirs[0].clone().into()),
        _ => DataLocation::Unknown,
    }
}

/// What the job's stores and memory allow together.
fn largest(request: &BackupRequest) -> Result<Option<u64>> {
    let mut limits = None;
    for store in &request.stores {
        let (kind, _) = locate(&store.url)?;
        limits = Some(limits.map_or(kind.limits(), |known: PartLimits| known.and(kind.limits())));
    }
    match limits {
        Some(limits) => Ok(MemoryBudget::new(&request.budget, limits)?.parts.largest_archive()),
        None => Ok(None),
    }
}

/// Bytes of what lies there, where this host can see it; a folder needs no engine.
pub(super) async fn measure(held: DataLocation, engine: Option<&Engine>) -> Option<u64> {
    let folders = match held {
        DataLocation::Folder(folder) => vec![folder],
        DataLocation::Volumes(names) => {
            let mut folders = Vec::new();
            for name in names {
                // One that is not there, or not a folder of this host, cannot be measured.
                let volume = engine?.volume(&name).await.ok()?;
                folders.push(volume.folder()?.join(&volume.name).join("_data"));
            }
            folders
        }
        DataLocation::Unknown => return None,
    };
    if engine.is_some_and(|engine| !engine.is_local()) {
        return None;
    }
    let sizes = tokio::task::spawn_blocking(move || folders.iter().map(|folder| size(folder)).sum());
    sizes.await.ok().flatten()
}

/// Bytes of a folder's files; symlinks are not followed.
fn size(folder: &Path) -> Option<u64> {
    let mut bytes = 0;
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).ok()?.flatten() {
            // It may be gone by now: this is an estimate.
            let Ok(meta) = entry.metadata() else { continue };
            match meta.is_dir() {
                true => folders.push(entry.path()),
                false => bytes += meta.len(),
            }
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::request;
    use super::*;

    #[test]
    fn stores_without_a_limit_allow_any_archive() {
        assert_eq!(largest(&request(&["memory:///"])).unwrap(), None);
        assert_eq!(largest(&request(&[])).unwrap(), None);
    }

    #[test]
    fn the_strictest_of_several_stores_counts() {
        let s3 = largest(&request(&["s3://b/p"])).unwrap().unwrap();
        assert_eq!(largest(&request(&["memory:///", "s3://b/p", "az://c/p"])).unwrap(), Some(s3));
        assert!(largest(&request(&["az://c/p"])).unwrap().unwrap() > s3);
    }

    #[test]
    fn more_memory_allows_larger_archives() {
        let mut more = request(&["s3://b/p"]);
        more.budget.memory *= 2;
        assert!(largest(&more).unwrap() > largest(&request(&["s3://b/p"])).unwrap());
        more.budget.memory = 1 << 20;
        assert_eq!(largest(&more).unwrap_err().kind().exit_code(), 2);
    }

    #[test]
    fn what_lies_in_folders_can_be_measured() {
        let located = |source: &Source| of_source(source).archives.remove(0).2;
        assert!(
            matches!(located(&Source::Volume(vec!["v".into()])), DataLocation::Volumes(names) if names == ["v"])
        );
        let path = |dirs: &[&str]| Source::Path(dirs.iter().map(ToString::to_string).collect());
        assert!(matches!(located(&path(&["/etc"])), DataLocation::Folder(dir) if dir == Path::new("/etc")));
        assert!(matches!(located(&path(&["/etc", "/srv"])), DataLocation::Unknown));
        assert!(matches!(located(&Source::Stdin), DataLocation::Unknown));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a folder of the test's own")]
    fn a_folders_size_is_that_of_its_files() {
        let folder = std::env::temp_dir().join(format!("sealift-plan-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("below")).unwrap();
        std::fs::write(folder.join("a"), [0; 10]).unwrap();
        std::fs::write(folder.join("below/b"), [0; 5]).unwrap();
        std::os::unix::fs::symlink("/etc", folder.join("link")).unwrap();
        let link = std::fs::symlink_metadata(folder.join("link")).unwrap().len();
        assert_eq!(size(&folder), Some(15 + link));
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(size(&folder), None);
    }
}
