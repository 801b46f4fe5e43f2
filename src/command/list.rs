//! `list`: what a store holds.

use serde_json::json;

use crate::cli::List;
use crate::error::Result;
use crate::report::{Mode, Reporter, human_bytes, print, printable};
use crate::store::Store;
use crate::store::list::Listed;
use crate::store::record::WHOLE;
use crate::store::set::{SetRef, SetRun};

/// Prints the archives of a store, oldest first within a job; or its sets.
pub async fn list(options: List, mode: Mode, ui: &Reporter) -> Result<()> {
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
        print(&line)?;
    }
    Ok(())
}

async fn sets(store: &Store, mode: Mode, ui: &Reporter) -> Result<()> {
    let runs = store.set_runs().await?;
    if runs.is_empty() && mode == Mode::Human {
        ui.note(&format!("no set at {}", store.name));
    }
    let line = |(set, run): (&SetRef, &SetRun)| {
        let names = run.archives.iter().map(|(job, id)| format!("{job}@{id}"));
        let members = run.ended.iter().flatten().map(|manifest| &manifest.members).next();
        match mode {
            Mode::Json => json!({
                "set": set.name, "id": set.id, "complete": run.is_complete(), "state": run.state(),
                "archives": names.collect::<Vec<_>>(), "members": members,
            })
            .to_string(),
            // Whoever can write to the store can have named them.
            _ => {
                let archives = names.map(|name| format!("\n    {}", printable(&name)));
                let head = format!("{set}  {}", run.state());
                format!("{}{}", printable(&head), archives.collect::<String>())
            }
        }
    };
    runs.iter().map(line).try_for_each(|line| print(&line))
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
                let kind = m.kind;
                let warned = if m.warnings > 0 { "  (warnings)" } else { "" };
                let finished = m.finished.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
                let (size, stored) = (human_bytes(m.bytes), human_bytes(m.archive.size + m.catalog.size));
                let sizes = format!("{size:>12}  {stored:>12}");
                format!("{job:wide$}  {id:25}  {finished:20}  {sizes}  {verified:seen$}  {kind}{warned}")
            }
            Err(error) => format!("{job:wide$}  {id:25}  {error}"),
        }
    };
    std::iter::once(head).chain(archives.iter().map(line)).collect()
}
