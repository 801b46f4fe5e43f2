//! `list`: what a store holds.

use serde_json::json;

use super::bytes;
use crate::cli::List;
use crate::error::Result;
use crate::progress::{Mode, Ui};
use crate::store::list::Listed;
use crate::store::{Store, StoreOptions};

/// Prints the archives of a store, oldest first within a job.
pub async fn list(options: List, mode: Mode, ui: &Ui) -> Result<()> {
    let store = Store::open(&options.from.from, &StoreOptions::default())?;
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

fn json_line(listed: &Listed) -> String {
    match &listed.manifest {
        Ok(m) => json!({
            "job": listed.job, "id": listed.id, "set": m.set, "kind": m.kind, "started": m.started,
            "finished": m.finished, "bytes": m.bytes, "stored": m.archive.size + m.catalog.size,
            "object": format!("{}/{}{}", listed.job, listed.id, m.suffix), "warnings": m.warnings,
        }),
        Err(error) => json!({"job": listed.job, "id": listed.id, "damaged": error.to_string()}),
    }
    .to_string()
}

fn table(archives: &[Listed]) -> Vec<String> {
    let wide = archives.iter().map(|listed| listed.job.len()).max().unwrap_or(0).max(3);
    let head =
        format!("{:wide$}  {:25}  {:20}  {:>12}  {:>12}  KIND", "JOB", "ID", "FINISHED", "SIZE", "STORED");
    let line = |listed: &Listed| {
        let (job, id) = (&listed.job, &listed.id);
        match &listed.manifest {
            Ok(m) => {
                let kind = format!("{:?}", m.kind).to_lowercase();
                let warned = if m.warnings > 0 { "  (warnings)" } else { "" };
                let finished = m.finished.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
                let (size, stored) = (bytes(m.bytes), bytes(m.archive.size + m.catalog.size));
                format!("{job:wide$}  {id:25}  {finished:20}  {size:>12}  {stored:>12}  {kind}{warned}")
            }
            Err(error) => format!("{job:wide$}  {id:25}  {error}"),
        }
    };
    std::iter::once(head).chain(archives.iter().map(line)).collect()
}
