//! `verify`: whether an archive can be restored, found out without restoring it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::backup::Outcome;
use super::restore::PARALLEL;
use super::stored::{Secrets, StoredArchive, no_archive};
use crate::cli::Verify;
use crate::error::{Error, Kind, Result};
use crate::report::{Reporter, human_bytes};
use crate::store::Store;
use crate::store::list::Listed;
use crate::store::record::{self, Level, VerificationKey, WHOLE};
use crate::stream::counters::Counters;

mod sample;
mod stored;
mod whole;

/// Verifies one archive, or those of a job that were not verified yet.
pub async fn verify(options: Verify, ui: &Reporter) -> Result<Outcome> {
    let run = Run {
        level: options.level()?,
        secrets: Secrets::new(&options.archive.open),
        options: &options,
        deadline: Deadline::after(options.max_duration),
        ui,
    };
    // A pattern that is none is no matter of an archive.
    options.check.check()?;
    match options.since_last {
        true => run.since_last().await,
        false => run.one().await,
    }
}

/// When to begin nothing more.
struct Deadline(Option<Instant>);

impl Deadline {
    fn after(time: Option<Duration>) -> Self {
        // A time beyond what the clock can count never comes.
        Deadline(time.and_then(|time| Instant::now().checked_add(time)))
    }

    fn is_over(&self) -> bool {
        self.0.is_some_and(|end| Instant::now() >= end)
    }
}

/// What a look at an archive has confirmed.
struct Confirmed {
    /// Bytes: of the source; of the objects with `--stored`.
    bytes: u64,
    /// Of how many.
    of: u64,
    /// In words.
    text: String,
    /// Whether time was over before its end.
    cut: bool,
    /// Expectations that were not met.
    unmet: Vec<String>,
}

/// One run over one archive or several.
struct Run<'a> {
    options: &'a Verify,
    level: Level,
    secrets: Secrets<'a>,
    deadline: Deadline,
    ui: &'a Reporter,
}

impl Run<'_> {
    async fn one(mut self) -> Result<Outcome> {
        let from = &self.options.archive;
        let found = StoredArchive::find(&from.open.from.from, &from.archive).await?;
        let confirmed = self.archive(&found).await?;
        if !confirmed.cut {
            return Ok(Outcome::Done);
        }
        let rest = self.unfinished(&found, &confirmed);
        if self.level == Level::Sample {
            self.ui.note(&rest);
            return Ok(Outcome::Done);
        }
        self.ui.warn(&rest);
        Ok(Outcome::Warned)
    }

    /// Every archive of the job that has no record yet, oldest first.
    async fn since_last(mut self) -> Result<Outcome> {
        let (url, job) = (&self.options.archive.open.from.from, &self.options.archive.archive.job);
        let store = Arc::new(Store::open(url, &url.options()?)?);
        let archives = store.archives(Some(job)).await?;
        if archives.is_empty() {
            return Err(no_archive(job, &store));
        }
        let mut tally = Tally::default();
        for listed in archives {
            let name = format!("{}@{}", listed.job, listed.id);
            if self.is_covered(&store, &listed).await {
                tally.before += 1;
            } else if self.deadline.is_over() {
                tally.left.push(name);
            } else {
                let verified = self.listed(&store, listed).await;
                tally.take(name, verified, self.ui)?;
            }
        }
        tally.finish(job, self.ui)
    }

    /// Whether a record says that this look, or a better one, was had.
    async fn is_covered(&self, store: &Store, listed: &Listed) -> bool {
        let share = match (&self.options.sample, &listed.manifest) {
            (Some(amount), Ok(manifest)) => record::share(amount.of(manifest.bytes), manifest.bytes),
            _ => WHOLE,
        };
        let covers = |mark: &&VerificationKey| listed.manifest.is_ok() && mark.covers(self.level, share);
        for mark in listed.marks.iter().rev().filter(covers) {
            if store.confirms(&listed.job, &listed.id, mark).await {
                return true;
            }
        }
        false
    }

    /// One of several; whether it was verified to its end. None: it was deleted meanwhile.
    async fn listed(&mut self, store: &Arc<Store>, listed: Listed) -> Result<Option<bool>> {
        let Listed { job, id, manifest, .. } = listed;
        let found = StoredArchive { store: Arc::clone(store), job, id, manifest: manifest? };
        let confirmed = match self.archive(&found).await {
            Err(error) if error.kind() == Kind::Damaged && found.is_deleted().await => {
                self.ui.note(&format!("{} was deleted meanwhile", found.name()));
                return Ok(None);
            }
            confirmed => confirmed?,
        };
        if confirmed.cut {
            self.ui.note(&self.unfinished(&found, &confirmed));
        }
        Ok(Some(!confirmed.cut))
    }

    /// Looks at one archive, and records and says what was found in order.
    async fn archive(&mut self, found: &StoredArchive) -> Result<Confirmed> {
        let counters = Arc::new(Counters::default());
        let tracking = self.ui.track("verified", Arc::clone(&counters));
        let confirmed = self.look(found, &counters).await?;
        drop(tracking);
        if !confirmed.unmet.is_empty() {
            return Err(unexpected(found, &confirmed));
        }
        // A part from the beginning is no verification; of a sample every part is one.
        if !confirmed.cut || self.level == Level::Sample {
            let recorded = self.record(found, &confirmed).await;
            self.report(found, &confirmed, recorded);
        }
        Ok(confirmed)
    }

    async fn look(&mut self, found: &StoredArchive, counters: &Counters) -> Result<Confirmed> {
        match (self.level, self.options.sample) {
            (Level::Manifest, _) => stored::sizes(found).await,
            (Level::Stored, _) => stored::bytes_of(found, &self.deadline, counters).await,
            (_, amount) => {
                let (passphrase, check) = (self.secrets.of(found)?, self.options.check.check()?);
                match amount {
                    Some(amount) => {
                        sample::sample(found, passphrase, amount, check, &self.deadline, counters).await
                    }
                    None => whole::whole(found, passphrase, check, &self.deadline, counters).await,
                }
            }
        }
    }

    /// Writes the record; a store that takes none is no reason to fail.
    async fn record(&self, found: &StoredArchive, confirmed: &Confirmed) -> Option<VerificationKey> {
        if self.options.no_record {
            return None;
        }
        let (archive, bytes) = ((found.job.as_str(), &found.id), (confirmed.bytes, confirmed.of));
        match found.store.put_record(archive, self.level, bytes).await {
            Ok(mark) => Some(mark),
            Err(error) => {
                self.ui.note(&format!("the verification of {} is not recorded: {error}", found.name()));
                None
            }
        }
    }

    fn report(&self, found: &StoredArchive, confirmed: &Confirmed, recorded: Option<VerificationKey>) {
        let mut event = json!({
            "event": "verified", "job": found.job, "id": found.id, "level": self.level,
            "stored": self.level == Level::Stored, "bytes": found.manifest.bytes,
            "stored_bytes": found.manifest.archive.size, "confirmed": confirmed.bytes,
            "record": recorded.map(|mark| format!("{}{}", found.id, mark.suffix())),
        });
        if self.level == Level::Sample {
            event["share"] = json!(fraction(confirmed));
        }
        self.ui.summary(&format!("verified {}: {}", found.name(), confirmed.text), event);
    }

    fn unfinished(&self, found: &StoredArchive, confirmed: &Confirmed) -> String {
        let reached = format!("{} of {}", human_bytes(confirmed.bytes), human_bytes(confirmed.of));
        let name = found.name();
        match self.level {
            Level::Sample => format!("the time is over: the sample of {name} has reached {reached}"),
            _ => format!("the time is over: {name} is not verified, {reached} were in order"),
        }
    }
}

fn fraction(confirmed: &Confirmed) -> f64 {
    if confirmed.of == 0 { 1.0 } else { confirmed.bytes as f64 / confirmed.of as f64 }
}

fn unexpected(found: &StoredArchive, confirmed: &Confirmed) -> Error {
    Error::failed(format!("{} is not what was expected", found.name()))
        .because(confirmed.unmet.join("; "))
        .hint("what was read of it is sound: was the right thing backed up? `sealift ls` shows its members")
}

/// What became of several archives.
#[derive(Default)]
struct Tally {
    verified: u64,
    /// Verified by an earlier run.
    before: u64,
    /// Names of those that time did not suffice for.
    left: Vec<String>,
    /// Names of those that are not in order, and the first reason.
    failed: Vec<String>,
    cause: Option<Error>,
}

impl Tally {
    /// # Errors
    /// What would keep the next archive from being verified, too.
    fn take(&mut self, name: String, verified: Result<Option<bool>>, ui: &Reporter) -> Result<()> {
        match verified {
            Ok(Some(true)) => self.verified += 1,
            Ok(Some(false)) => self.left.push(name),
            Ok(None) => {}
            Err(error) if matches!(error.kind(), Kind::Usage | Kind::Interrupted) => return Err(error),
            Err(error) => {
                ui.warn(&format!("{name}: {error}"));
                self.failed.push(name);
                // Damage is worse than anything else that can be said of an archive.
                match &self.cause {
                    Some(cause) if error.kind() != Kind::Damaged || cause.kind() == Kind::Damaged => {}
                    _ => self.cause = Some(error),
                }
            }
        }
        Ok(())
    }

    fn finish(self, job: &str, ui: &Reporter) -> Result<Outcome> {
        let Tally { verified, before, left, failed, cause } = self;
        let event = json!({
            "event": "verification", "job": job, "verified": verified, "before": before, "left": left,
            "failed": failed,
        });
        if !left.is_empty() {
            ui.note(&format!("the time is over: not verified yet: {}", left.join(", ")));
        }
        // A window in which not even one archive fits comes to nothing every night.
        let stuck = verified == 0 && !left.is_empty();
        if stuck {
            ui.warn("the time did not suffice for one archive: give a longer --max-duration, or --sample 5%");
        }
        let counts = format!("{verified} verified now, {before} before, {} left", left.len());
        ui.summary(&format!("archives of {job}: {counts}"), event);
        match cause {
            None if stuck => Ok(Outcome::Warned),
            None => Ok(Outcome::Done),
            Some(cause) => Err(cause.context(format!("not verified: {}", failed.join(", ")))),
        }
    }
}
