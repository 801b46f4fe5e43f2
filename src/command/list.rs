//! `list`: what a store holds.

use std::collections::BTreeMap;

use serde_json::json;

use super::bytes;
use crate::archive::Id;
use crate::cli::List;
use crate::error::Result;
use crate::progress::{Mode, Ui};
use crate::store::Store;
use crate::store::list::Listed;
use crate::store::record::WHOLE;
use crate::store::set::{SetManifest, SetRef};

/// Prints the archives of a store, oldest first within a job; or its sets.
pub async fn list(options: List, mode: Mode, ui: &Ui) -> Result<()> {
    let store = Store::open(&options.from.from, &options.from.from.options()?)?;
    if options.sets {
        return sets(&store, mode, ui).await;
    }
    let archives = store.archives(options.job.as_deref()).await?;
    if archives.is_empty() && mode == Mode::Human {
        ui.note(&format!("no archive at {}", store.name));
        return Ok(());
    }
    let lines = match mode {
        Mode::Json => archives.iter().map(json_line).collect(),
        _ => table(&archives),
    };
    for line in lines {
        crate::progress::print(&line)?;
    }
    Ok(())
}

/// A run of a set, as far as manifests tell it.
#[derive(Default)]
struct SetRun {
    /// How it ended; none where it was broken off.
    ended: Option<Result<SetManifest>>,
    /// `JOB@ID` of its archives.
    archives: Vec<String>,
}

impl SetRun {
    fn is_complete(&self) -> bool {
        let Some(Ok(manifest)) = &self.ended else { return false };
        let there = |job: &str, id: &Id| self.archives.contains(&format!("{job}@{id}"));
        manifest.complete
            && manifest.members.iter().all(|m| m.id.as_ref().is_some_and(|id| there(&m.job, id)))
    }

    fn state(&self) -> String {
        match &self.ended {
            _ if self.is_complete() => "complete".into(),
            None => "INCOMPLETE: broken off".into(),
            Some(Err(error)) => error.to_string(),
            Some(Ok(manifest)) => {
                let missing = manifest.members.iter().filter(|m| {
                    m.id.as_ref().is_none_or(|id| !self.archives.contains(&format!("{}@{id}", m.job)))
                });
                let missing = missing.map(|m| match m.id {
                    Some(_) => format!("{} (gone)", m.job),
                    None => format!("{} ({})", m.job, m.outcome),
                });
                format!("INCOMPLETE: {}", missing.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

async fn sets(store: &Store, mode: Mode, ui: &Ui) -> Result<()> {
    let mut runs: BTreeMap<SetRef, SetRun> = BTreeMap::new();
    for (set, ended) in store.sets().await? {
        runs.entry(set).or_default().ended = Some(ended);
    }
    for listed in store.archives(None).await? {
        let Some(set) = listed.manifest.as_ref().ok().and_then(|m| m.set.as_ref()?.parse().ok()) else {
            continue;
        };
        runs.entry(set).or_default().archives.push(format!("{}@{}", listed.job, listed.id));
    }
    if runs.is_empty() && mode == Mode::Human {
        ui.note(&format!("no set at {}", store.name));
    }
    let line = |(set, run): (&SetRef, &SetRun)| match mode {
        Mode::Json => json!({
            "set": set.name, "id": set.id, "complete": run.is_complete(), "state": run.state(),
            "archives": run.archives, "facts": run.ended.as_ref().and_then(|m| Some(&m.as_ref().ok()?.facts)),
        })
        .to_string(),
        _ => {
            let archives: Vec<_> = run.archives.iter().map(|name| format!("\n    {name}")).collect();
            format!("{set}  {}{}", run.state(), archives.concat())
        }
    };
    runs.iter().map(line).try_for_each(|line| crate::progress::print(&line))
}

fn json_line(listed: &Listed) -> String {
    match &listed.manifest {
        Ok(m) => json!({
            "job": listed.job, "id": listed.id, "set": m.set, "kind": m.kind, "started": m.started,
            "finished": m.finished, "bytes": m.bytes, "stored": m.archive.size + m.catalog.size,
            "object": format!("{}/{}{}", listed.job, listed.id, m.suffix), "warnings": m.warnings,
            "verified": listed.verified().map(|mark| json!({
                "level": mark.level, "at": mark.at.time(), "share": f64::from(mark.share) / f64::from(WHOLE),
            })),
        }),
        Err(error) => json!({"job": listed.job, "id": listed.id, "damaged": error.to_string()}),
    }
    .to_string()
}

/// `whole 2026-11-22 02:00Z`
fn verified(listed: &Listed) -> String {
    let shown = listed.verified().and_then(|mark| Some((mark, mark.at.time()?)));
    shown.map_or("-".into(), |(mark, at)| format!("{mark} {}", at.strftime("%Y-%m-%d %H:%MZ")))
}

fn table(archives: &[Listed]) -> Vec<String> {
    let widest =
        |texts: &mut dyn Iterator<Item = usize>, head: &str| texts.max().unwrap_or(0).max(head.len());
    let wide = widest(&mut archives.iter().map(|listed| listed.job.len()), "JOB");
    let seen = widest(&mut archives.iter().map(|listed| verified(listed).len()), "VERIFIED");
    let head = format!(
        "{:wide$}  {:25}  {:20}  {:>12}  {:>12}  {:seen$}  KIND",
        "JOB", "ID", "FINISHED", "SIZE", "STORED", "VERIFIED"
    );
    let line = |listed: &Listed| {
        let (job, id, verified) = (&listed.job, &listed.id, verified(listed));
        match &listed.manifest {
            Ok(m) => {
                let kind = format!("{:?}", m.kind).to_lowercase();
                let warned = if m.warnings > 0 { "  (warnings)" } else { "" };
                let finished = m.finished.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
                let (size, stored) = (bytes(m.bytes), bytes(m.archive.size + m.catalog.size));
                let sizes = format!("{size:>12}  {stored:>12}");
                format!("{job:wide$}  {id:25}  {finished:20}  {sizes}  {verified:seen$}  {kind}{warned}")
            }
            Err(error) => format!("{job:wide$}  {id:25}  {error}"),
        }
    };
    std::iter::once(head).chain(archives.iter().map(line)).collect()
}
