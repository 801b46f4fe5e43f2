//! `plan`: what a set would back up on this node and what it would not, before anything is begun.

use std::path::Path;

use serde_json::{Value, json};

use super::backup::Outcome;
use super::set::SetRequest;
use crate::archive::budget::{MemoryBudget, PartLimits};
use crate::cli::{BackupOptions, Plan, Subject};
use crate::config::{Config, ExplicitArg};
use crate::docker::Engine;
use crate::error::{Error, Result};
use crate::preset::{DataLocation, Preset, Preview, UPGRADE_ORDER};
use crate::report::{Mode, Reporter, human_bytes, print, printable};
use crate::source::Source;
use crate::store::locate;

/// A job of the set, looked at.
struct Planned {
    job: String,
    what: String,
    archives: Vec<Archive>,
    not_in_it: Vec<String>,
    /// Bytes of the largest archive that its stores allow; none where there is no limit, or no store.
    largest: Option<u64>,
    /// Why it cannot be backed up here and now.
    problem: Option<Error>,
}

struct Archive {
    job: String,
    words: String,
    /// Bytes before compression, where they can be measured.
    size: Option<u64>,
}

/// Prints the plan. A job that cannot be backed up here is told, and is a warning.
///
/// # Errors
/// There is no such set; the engine does not answer.
pub async fn plan(
    options: Plan,
    given: Vec<ExplicitArg>,
    config: Option<&Config>,
    mode: Mode,
    ui: &Reporter,
) -> Result<Outcome> {
    let Plan { options, swarm, ucp, dtr, set_name } = options;
    let presets = vec![Preset::Swarm(swarm.into()), Preset::Ucp((*ucp).into()), Preset::Dtr((*dtr).into())];
    let request = SetRequest { name: set_name, options: *options, presets, keep_going: false, given };
    let set = request.find(config)?;
    let engine = Engine::connect().await?;
    let mut jobs = Vec::new();
    for (subject, options) in &set.jobs {
        jobs.push(look(subject, options, &engine).await?);
    }
    match mode {
        Mode::Json => jobs.iter().map(json_line).try_for_each(|line| print(&line.to_string()))?,
        _ => {
            print(&format!("Set {}, on this node. Nothing was backed up.", set.name))?;
            jobs.iter().flat_map(lines).try_for_each(|line| print(&line))?;
            let is_ee = set.jobs.iter().any(|(subject, _)| matches!(subject, Subject::Preset(_)));
            if is_ee {
                UPGRADE_ORDER.iter().try_for_each(|line| print(line))?;
            }
        }
    }
    let problems = jobs.iter().filter_map(|job| Some((&job.job, job.problem.as_ref()?)));
    let told: Vec<_> = problems.map(|(job, error)| ui.warn(&format!("{job}: {error}"))).collect();
    Ok(if told.is_empty() { Outcome::Done } else { Outcome::Warned })
}

async fn look(subject: &Subject, options: &BackupOptions, engine: &Engine) -> Result<Planned> {
    let (job, found) = match subject {
        Subject::Preset(preset) => (preset.job().to_string(), preset.preview(engine).await),
        Subject::Source(source) => (source.default_job().unwrap_or_default(), Ok(of_source(source))),
    };
    let job = options.job.clone().unwrap_or(job);
    let largest = largest(options)?;
    let preview = match found {
        Ok(preview) => preview,
        Err(error) => {
            let (archives, not_in_it) = (Vec::new(), Vec::new());
            return Ok(Planned {
                job,
                what: "not on this node".into(),
                archives,
                not_in_it,
                largest,
                problem: Some(error),
            });
        }
    };
    let mut archives = Vec::new();
    for (part, words, held) in preview.archives {
        let job = part.map_or(job.clone(), |part| format!("{job}/{part}"));
        archives.push(Archive { job, words, size: measure(held, engine).await });
    }
    Ok(Planned { job, what: preview.what, archives, not_in_it: preview.not_in_it, largest, problem: None })
}

fn of_source(source: &Source) -> Preview {
    let held = match source {
        Source::Volume(names) => DataLocation::Volumes(names.clone()),
        Source::Path(dirs) if dirs.len() == 1 => DataLocation::Folder(dirs[0].clone().into()),
        _ => DataLocation::Unknown,
    };
    let words = source.describe().to_string();
    Preview {
        what: "a job of the settings file".into(),
        archives: vec![(None, words, held)],
        not_in_it: Vec::new(),
    }
}

/// What the job's stores and memory allow together.
fn largest(options: &BackupOptions) -> Result<Option<u64>> {
    let mut limits = None;
    for to in &options.to {
        let (kind, _) = locate(to)?;
        limits = Some(limits.map_or(kind.limits(), |known: PartLimits| known.and(kind.limits())));
    }
    match limits {
        Some(limits) => Ok(MemoryBudget::new(&options.budget()?, limits)?.parts.largest_archive()),
        None => Ok(None),
    }
}

async fn measure(held: DataLocation, engine: &Engine) -> Option<u64> {
    let folders = match held {
        DataLocation::Folder(folder) => vec![folder],
        DataLocation::Volumes(names) => {
            let mut folders = Vec::new();
            for name in names {
                // One that is not there, or not a folder of this host, cannot be measured.
                let volume = engine.volume(&name).await.ok()?;
                folders.push(volume.folder()?.join(&volume.name).join("_data"));
            }
            folders
        }
        DataLocation::Unknown => return None,
    };
    if !engine.is_local() {
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

fn lines(planned: &Planned) -> Vec<String> {
    let mut lines = vec![String::new(), printable(&format!("{}: {}", planned.job, planned.what))];
    for Archive { job, words, size: bytes } in &planned.archives {
        let size = bytes.map_or("size unknown".into(), |bytes| {
            format!("about {} before compression", human_bytes(bytes))
        });
        lines.push(printable(&format!("  + {job}: {words} ({size})")));
        if bytes.zip(planned.largest).is_some_and(|(size, largest)| size > largest) {
            lines.push(
                "    larger than its stores and --memory allow, unless it shrinks: give more --memory".into(),
            );
        }
    }
    lines.extend(planned.not_in_it.iter().map(|text| printable(&format!("  - not in it: {text}"))));
    lines.extend(planned.problem.iter().map(|error| printable(&format!("  ! {error}"))));
    lines.extend(planned.largest.map(|bytes| {
        format!("  the largest archive that its stores and --memory allow: {}", human_bytes(bytes))
    }));
    lines
}

fn json_line(planned: &Planned) -> Value {
    let archives = planned
        .archives
        .iter()
        .map(|archive| json!({"job": archive.job, "what": archive.words, "bytes": archive.size}));
    json!({
        "event": "planned", "job": planned.job, "what": planned.what, "archives": archives.collect::<Vec<_>>(),
        "not_in_it": planned.not_in_it, "largest_archive": planned.largest,
        "problem": planned.problem.as_ref().map(ToString::to_string),
    })
}
