//! A dump: loaded into a fresh server of its image, whose databases, tables and rows are counted.

use std::time::Duration;

use super::{Attempt, Expected};
use crate::docker::run::RunSpec;
use crate::docker::scratch::Server;
use crate::error::{Error, Result};
use crate::job::until;
use crate::preset::database::DatabaseMetadata;
use crate::preset::database::trial::{Counts, Load, Trial};
use crate::report::counted;
use crate::sink::target::RestoreTarget;
use crate::store::record::drill::{Drill, DrillOutcome};

/// How long a server may take to be ready.
const READY: Duration = Duration::from_secs(600);
/// How many rows may be gone since the last drill, unless that was said: tables are emptied every day.
const FEWER_ROWS: f64 = 0.5;

impl Attempt<'_> {
    /// Loads a dump, and counts.
    pub(super) async fn database(&mut self, database: &DatabaseMetadata, trial: Trial) -> Result<()> {
        self.tried.what = trial.word.into();
        let image = &database.image;
        self.scratch().await?.engine().require_image(image).await?;
        let spec = RunSpec {
            image: image.clone(),
            env: trial.env.clone(),
            command: trial.command.clone(),
            network: Some("none".into()),
            ..RunSpec::default()
        };
        let server = match &trial.load {
            Load::Command(command) => {
                let server = self.started(spec, &trial).await?;
                self.restore(RestoreTarget::Exec(server.name.clone(), command.clone()), None).await?;
                server
            }
            Load::File(folder, name) => {
                let cancel = self.cancel;
                let volume = until(cancel, self.scratched()?.volume()).await?;
                let volumes = vec![format!("{volume}:{folder}")];
                let file = format!("{}/{name}", folder.trim_end_matches('/'));
                let into = RunSpec {
                    entrypoint: Some("sh".into()),
                    command: ["-c", "cat >\"$1\"", "sh", &file].map(String::from).into(),
                    env: Vec::new(),
                    volumes: volumes.clone(),
                    ..spec.clone()
                };
                self.restore(RestoreTarget::Run(Box::new(into)), None).await?;
                self.started(RunSpec { volumes, ..spec }, &trial).await?
            }
        };
        let counts = self.counts(&server, &trial).await?;
        self.tried.count("databases", counts.databases);
        counts.tables.iter().for_each(|tables| self.tried.count("tables", *tables));
        self.tried.count(if counts.tables.is_some() { "rows" } else { "keys" }, counts.rows);
        let before = self.last_passed(trial.word).await?;
        judge(&counts, before.as_ref(), &self.request.expected)
    }

    async fn started(&mut self, spec: RunSpec, trial: &Trial) -> Result<Server> {
        let cancel = self.cancel;
        let scratch = self.scratched()?;
        let ready: Vec<_> = trial.ready.iter().map(String::as_str).collect();
        let work = async {
            let server = scratch.start(spec).await?;
            scratch.ready(&server, &ready, READY).await?;
            Ok(server)
        };
        until(cancel, work).await
    }

    async fn counts(&mut self, server: &Server, trial: &Trial) -> Result<Counts> {
        let words: Vec<_> = trial.count.iter().map(String::as_str).collect();
        let (cancel, mut said) = (self.cancel, Vec::new());
        let engine = self.scratched()?.engine().clone();
        let asked = engine.hear(&server.name, &words, |bytes| said.extend_from_slice(bytes));
        let answer = until(cancel, asked).await?;
        let counts = (trial.counts)(&String::from_utf8_lossy(&said)).filter(|_| answer.code == 0);
        counts.ok_or_else(|| {
            Error::failed("what was loaded cannot be counted")
                .because(answer.stderr.trim().replace('\n', "; "))
        })
    }

    /// The last drill of its job that passed.
    async fn last_passed(&self, what: &str) -> Result<Option<Drill>> {
        let job = &self.found.job;
        let folders = self.found.store.job_folders(std::slice::from_ref(job)).await?;
        let drills = folders.get(job).into_iter().flat_map(|folder| folder.drills());
        let passed = drills.filter(|(_, key)| key.outcome == DrillOutcome::Passed);
        let Some((id, key)) = passed.max_by(|(_, a), (_, b)| a.at.cmp(&b.at)) else { return Ok(None) };
        let drill = self.found.store.drill(job, &id, &key).await?;
        Ok(drill.filter(|drill| drill.what == what))
    }
}

/// Whether that is as much as there must be.
fn judge(counts: &Counts, before: Option<&Drill>, expected: &Expected) -> Result<()> {
    let Expected { tables, min_rows, shrink } = *expected;
    if let Some(wanted) = tables
        && counts.tables != Some(wanted)
    {
        let there = counts.tables.unwrap_or_default();
        return Err(Error::failed(format!("the dump has {}, and not {wanted}", counted(there, "table"))));
    }
    let least = min_rows.unwrap_or(1);
    if counts.rows < least {
        return Err(Error::failed(format!(
            "the dump has {}, fewer than {least}",
            counted(counts.rows, "row")
        ))
        .hint("an empty database passes with --min-rows 0"));
    }
    let Some(before) = before else { return Ok(()) };
    let usual = |what: &str| before.counts.get(what).copied();
    let rows = usual("rows").or(usual("keys"));
    let compared = [
        ("database", Some(counts.databases), usual("databases"), shrink.unwrap_or(0.0)),
        // How many tables there must be was said.
        ("table", counts.tables.filter(|_| tables.is_none()), usual("tables"), shrink.unwrap_or(0.0)),
        ("row", Some(counts.rows).filter(|_| min_rows.is_none()), rows, shrink.unwrap_or(FEWER_ROWS)),
    ];
    for (what, now, before, allowed) in compared {
        let (Some(now), Some(before)) = (now, before) else { continue };
        if (now as f64) < before as f64 * (1.0 - allowed) {
            return Err(Error::failed(format!(
                "the dump has {}, {before} at the last drill",
                counted(now, what)
            ))
            .hint("if that is right, say so once: --shrink 100%; from then on it is what is compared with"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::record::drill::{DrillLevel, FORMAT};

    fn before(tables: u64, rows: u64) -> Drill {
        Drill {
            format: FORMAT,
            id: "20261122T020000Z-1f2e3d4c".parse().unwrap(),
            job: "db".into(),
            outcome: DrillOutcome::Passed,
            level: DrillLevel::Restored,
            what: "postgres".into(),
            counts: [("databases", 2), ("tables", tables), ("rows", rows)].map(|(k, v)| (k.into(), v)).into(),
            bytes: 0,
            restore_seconds: 0.0,
            seconds: 0.0,
            cause: None,
            host: None,
            at: jiff::Timestamp::UNIX_EPOCH,
            tool: String::new(),
        }
    }

    fn said(tables: u64, rows: u64, expected: Expected) -> String {
        let counts = Counts { databases: 2, tables: Some(tables), rows };
        judge(&counts, Some(&before(10, 100)), &expected)
            .map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn a_table_less_than_at_the_last_drill_is_a_failure_and_so_are_half_the_rows() {
        let none = Expected::default();
        assert_eq!(said(10, 100, none) + &said(11, 50, none), "");
        assert_eq!(said(9, 100, none), "the dump has 9 tables, 10 at the last drill");
        assert_eq!(said(10, 49, none), "the dump has 49 rows, 100 at the last drill");
        let shrunk = Expected { shrink: Some(0.2), ..none };
        assert_eq!(said(8, 80, shrunk), "");
        assert_eq!(said(8, 79, shrunk), "the dump has 79 rows, 100 at the last drill");
        assert_eq!(said(1, 1, Expected { shrink: Some(1.0), ..none }), "");
    }

    #[test]
    fn what_must_be_there_is_what_was_said() {
        let none = Expected::default();
        assert_eq!(said(9, 100, Expected { tables: Some(9), ..none }), "");
        assert_eq!(said(9, 100, Expected { tables: Some(10), ..none }), "the dump has 9 tables, and not 10");
        assert_eq!(said(10, 5, Expected { min_rows: Some(5), ..none }), "");
        assert_eq!(said(10, 5, Expected { min_rows: Some(6), ..none }), "the dump has 5 rows, fewer than 6");
        let empty = Counts { databases: 1, tables: Some(0), rows: 0 };
        assert!(judge(&empty, None, &none).is_err());
        assert!(judge(&empty, None, &Expected { min_rows: Some(0), ..none }).is_ok());
    }
}
