//! `prune`, `pin`, `unpin` and `delete`: what is kept, what is not, and why.

use std::fmt::Write;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::cli::{Delete, Pin, Prune, Unpin};
use crate::config::Config;
use crate::error::Result;
use crate::job::Outcome;
use crate::job::prune::delete::delete as delete_one;
use crate::job::prune::pins;
use crate::job::prune::{self as job_prune, Fate, Line, Pruned, PrunedJob, Rules};
use crate::report::{self, Column, Mode, Reporter, Row, human_bytes, print, printable, stdout_width};
use crate::store::removal::Kept;

/// Prints what becomes of each archive, and deletes what was confirmed.
///
/// # Errors
/// As [`job_prune::prune`]; nobody reads what is printed.
pub async fn prune(
    options: Prune,
    config: Option<&Config>,
    mode: Mode,
    ui: &Reporter,
    cancel: &CancellationToken,
) -> Result<Outcome> {
    let url = options.store_url()?;
    let settings = match config {
        Some(config) => config.keep_rules(&url)?,
        None => Rules::default(),
    };
    let request = options.request(settings)?;
    if request.rules.given.is_none() && config.is_some_and(|config| config.has_no_keep_for(&url)) {
        ui.warn("no [stores.NAME] of the settings has this URL: what they say of single stores does not hold here");
    }
    let confirmed = request.confirm;
    let pruned = job_prune::prune(&request, ui, cancel).await?;
    show(&pruned, mode)?;
    for (what, error) in &pruned.failed {
        ui.warn(&format!("{what}: {error}"));
        error.hint_text().into_iter().for_each(|hint| ui.note(hint));
    }
    if mode == Mode::Human {
        ui.note(&Sum::of(&pruned).told(&pruned.store, confirmed));
    }
    if let Some(error) = pruned.interrupted {
        return Err(error);
    }
    let lines = || pruned.jobs.iter().flat_map(|job| &job.lines);
    let refusals = lines().filter_map(|line| match &line.fate {
        Fate::Stays(Kept::Refused(error)) => error.hint_text(),
        _ => None,
    });
    refusals.take(1).for_each(|hint| ui.note(hint));
    let is_failed = |line: &Line| matches!(line.fate, Fate::Failed(_) | Fate::Stays(Kept::Refused(_)));
    let is_whole = pruned.failed.is_empty() && !lines().any(is_failed);
    Ok(if is_whole { Outcome::Done } else { Outcome::Warned })
}

/// What all lines come to.
#[derive(Default)]
struct Sum {
    kept: u64,
    dropped: u64,
    bytes: u64,
    /// Deleted only in part, or refused.
    stay: u64,
}

impl Sum {
    fn of(pruned: &Pruned) -> Sum {
        let mut sum = Sum::default();
        for line in pruned.jobs.iter().flat_map(|job| &job.lines) {
            match line.fate {
                Fate::Kept => sum.kept += 1,
                Fate::Dropped => (sum.dropped, sum.bytes) = (sum.dropped + 1, sum.bytes + line.bytes),
                Fate::Gone(bytes) => (sum.dropped, sum.bytes) = (sum.dropped + 1, sum.bytes + bytes),
                Fate::Stays(_) | Fate::Failed(_) => sum.stay += 1,
            }
        }
        sum
    }

    fn told(&self, store: &str, confirmed: bool) -> String {
        let Sum { kept, dropped, bytes, stay } = self;
        let bytes = human_bytes(*bytes);
        let mut text = match confirmed {
            true => format!("{dropped} deleted and {bytes} freed at {store}, {kept} kept"),
            false if *dropped == 0 => format!("nothing would be deleted at {store}, {kept} kept"),
            false => format!(
                "{dropped} would be deleted and {bytes} freed at {store}, {kept} kept; --confirm deletes them"
            ),
        };
        if *stay > 0 {
            let _ = write!(text, "; {stay} could not be deleted");
        }
        text
    }
}

fn show(pruned: &Pruned, mode: Mode) -> Result<()> {
    match mode {
        Mode::Json => {
            let lines = pruned.jobs.iter().flat_map(|job| job.lines.iter().map(|line| json_line(job, line)));
            lines.into_iter().try_for_each(|line| print(&line))
        }
        _ => pruned.jobs.iter().flat_map(|job| table(job, stdout_width())).try_for_each(|line| print(&line)),
    }
}

/// The word for it, and why.
fn fate(line: &Line) -> (&'static str, String) {
    let reasons = || line.reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match &line.fate {
        Fate::Kept => ("keep", reasons()),
        Fate::Dropped if line.started.is_none() => ("drop", "left where a removal was broken off".into()),
        Fate::Dropped => ("drop", "no rule keeps it".into()),
        Fate::Gone(_) => ("deleted", String::new()),
        Fate::Stays(Kept::Refused(error)) => ("refused", error.to_string()),
        Fate::Stays(kept) => ("stays", kept.to_string()),
        Fate::Failed(error) => ("failed", error.to_string()),
    }
}

fn json_line(job: &PrunedJob, line: &Line) -> String {
    let (state, why) = fate(line);
    let reasons: Vec<_> = line.reasons.iter().map(ToString::to_string).collect();
    let why = (!matches!(line.fate, Fate::Kept | Fate::Gone(_))).then_some(why);
    let bytes = if let Fate::Gone(freed) = line.fate { freed } else { line.bytes };
    json!({
        "job": job.job, "id": line.id, "started": line.started, "state": state,
        "keep": matches!(line.fate, Fate::Kept), "reasons": reasons, "why": why, "bytes": bytes,
    })
    .to_string()
}

const COLUMNS: [Column; 3] =
    [Column::left("ID"), Column::left("STARTED").left_out(1), Column::right("STORED")];

fn table(job: &PrunedJob, width: Option<usize>) -> Vec<String> {
    let row = |line: &Line| {
        let (state, why) = fate(line);
        let started = line.started.map_or("-".into(), |at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string());
        let cells = vec![line.id.to_string(), started, human_bytes(line.bytes)];
        // Whoever can write to the store can have named it.
        Row { cells, remarks: printable(format!("{state:7}  {why}").trim_end()) }
    };
    let rows: Vec<_> = job.lines.iter().map(row).collect();
    let lines = report::table(&COLUMNS, &rows, width.map(|width| width.saturating_sub(2)));
    std::iter::once(job.job.clone()).chain(lines.into_iter().map(|line| format!("  {line}"))).collect()
}

/// Pins an archive.
///
/// # Errors
/// As [`pins::pin`].
pub async fn pin(options: Pin, ui: &Reporter) -> Result<()> {
    let request = options.request()?;
    let id = pins::pin(&request, ui).await?;
    ui.note(&format!("pinned {}@{id}", request.archive.job));
    Ok(())
}

/// Takes an archive's pins away.
///
/// # Errors
/// As [`pins::unpin`].
pub async fn unpin(options: Unpin, ui: &Reporter) -> Result<()> {
    let request = options.request()?;
    let id = pins::unpin(&request, ui).await?;
    ui.note(&format!("{}@{id} is pinned no more", request.archive.job));
    Ok(())
}

/// Deletes one archive, or tells what that would free.
///
/// # Errors
/// As [`delete_one`].
pub async fn delete(options: Delete, ui: &Reporter) -> Result<()> {
    let request = options.request()?;
    let deleted = delete_one(&request, ui).await?;
    let name = format!("{}@{}", deleted.job, deleted.id);
    let bytes = human_bytes(deleted.bytes);
    if let Some(set) = &deleted.set {
        ui.note(&format!("{set} is not whole without it"));
    }
    ui.note(&match request.confirm {
        true => format!("deleted {name}: {bytes} freed at {}", deleted.store),
        false => {
            format!("{name} would be deleted and {bytes} freed at {}; --confirm deletes it", deleted.store)
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::error::Error;
    use crate::job::retention::Reason;
    use crate::job::retention::policy::Period;

    fn line(fate: Fate) -> Line {
        let reasons = match fate {
            Fate::Kept => BTreeSet::from([Reason::Newest, Reason::Rule(Period::Day)]),
            _ => BTreeSet::new(),
        };
        Line {
            id: "20261122T020000Z-1f2e3d4c".parse().unwrap(),
            started: Some("2026-11-22T02:00:00Z".parse().unwrap()),
            bytes: 4096,
            reasons,
            fate,
        }
    }

    fn pruned(fates: Vec<Fate>) -> Pruned {
        let job = PrunedJob { job: "db".into(), lines: fates.into_iter().map(line).collect() };
        Pruned { store: "file:///x".into(), jobs: vec![job], failed: Vec::new(), interrupted: None }
    }

    #[test]
    fn each_archive_has_its_line_with_the_reason() {
        let refused = Fate::Stays(Kept::Refused(Error::failed("AccessDenied")));
        let job = pruned(vec![Fate::Kept, Fate::Dropped, Fate::Gone(5), refused]).jobs.remove(0);
        let lines = table(&job, None);
        let id = "  20261122T020000Z-1f2e3d4c  2026-11-22 02:00:00Z  4.00 KiB  ";
        assert_eq!(lines[2], format!("{id}keep     daily, newest"));
        assert_eq!(lines[3], format!("{id}drop     no rule keeps it"));
        assert_eq!(lines[4], format!("{id}deleted"));
        assert_eq!(lines[5], format!("{id}refused  AccessDenied"));
        for width in 50..100 {
            let lines = table(&job, Some(width));
            assert!(lines.iter().all(|line| line.chars().count() <= width), "{lines:#?}");
        }
    }

    #[test]
    fn programs_get_an_object_for_each_archive() {
        let pruned = pruned(vec![Fate::Kept, Fate::Dropped, Fate::Gone(5)]);
        let lines: Vec<Value> = pruned.jobs[0]
            .lines
            .iter()
            .map(|line| serde_json::from_str(&json_line(&pruned.jobs[0], line)).unwrap())
            .collect();
        assert_eq!((&lines[0]["keep"], &lines[0]["reasons"]), (&json!(true), &json!(["daily", "newest"])));
        assert_eq!((&lines[1]["state"], &lines[1]["why"]), (&json!("drop"), &json!("no rule keeps it")));
        assert_eq!((&lines[2]["state"], &lines[2]["bytes"]), (&json!("deleted"), &json!(5)));
    }

    #[test]
    fn all_is_summed_up() {
        let told = |fates, confirmed| Sum::of(&pruned(fates)).told("file:///x", confirmed);
        let text = told(vec![Fate::Kept, Fate::Dropped], false);
        assert_eq!(
            text,
            "1 would be deleted and 4.00 KiB freed at file:///x, 1 kept; --confirm deletes them"
        );
        assert_eq!(told(vec![Fate::Kept], false), "nothing would be deleted at file:///x, 1 kept");
        let text = told(vec![Fate::Gone(1024), Fate::Stays(Kept::Pinned)], true);
        assert_eq!(text, "1 deleted and 1.00 KiB freed at file:///x, 0 kept; 1 could not be deleted");
    }
}
