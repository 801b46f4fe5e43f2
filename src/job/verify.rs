//! `verify`: whether an archive can be restored, found out without restoring it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backup::Outcome;
use super::deliver::PARALLEL;
use super::stored::{ArchiveRef, OpenRequest, Secrets, StoredArchive, no_archive};
use crate::archive::Id;
use crate::archive::check::Check;
use crate::error::{Error, Kind, Result};
use crate::report::{Reporter, human_bytes};
use crate::store::Store;
use crate::store::list::Listed;
use crate::store::manifest::Manifest;
use crate::store::record::{self, Level, VerificationKey, WHOLE};
use crate::stream::counters::{Counters, Total};

#[cfg(test)]
mod damage_tests;
mod older;
mod sample;
mod several;
mod stored;
mod tally;
mod whole;

pub use several::Which;
use tally::Tally;

/// How much of an archive a sample takes, at least.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// A share, above 0 to 1.
    Share(f64),
    /// Bytes of source.
    Bytes(u64),
}

impl Amount {
    /// In bytes, of an archive of `bytes`.
    pub fn of(self, bytes: u64) -> u64 {
        match self {
            Amount::Share(share) => ((bytes as f64 * share).ceil() as u64).min(bytes),
            Amount::Bytes(amount) => amount.min(bytes),
        }
    }
}

/// How thoroughly to look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Depth {
    /// Both objects are there and have their sizes.
    Manifest,
    /// The stored bytes are those that the manifest names.
    Stored,
    /// The catalog, and frames taken at random.
    Sample(Amount),
    /// Everything of its own.
    Whole,
    /// Everything, and what it needs of older archives.
    All,
}

impl Depth {
    /// What a record says of it.
    pub fn level(self) -> Level {
        match self {
            Depth::Manifest => Level::Manifest,
            Depth::Stored => Level::Stored,
            Depth::Sample(_) => Level::Sample,
            Depth::Whole => Level::Whole,
            Depth::All => Level::All,
        }
    }
}

/// What to verify.
#[derive(Debug, Clone)]
pub struct VerifyRequest {
    /// The archives; with `since_last` their jobs alone count.
    pub which: Which,
    /// Where it is, and what opens it.
    pub open: OpenRequest,
    /// How thoroughly to look.
    pub depth: Depth,
    /// Every archive of the job that has no record of such a verification yet.
    pub since_last: bool,
    /// How long to go on.
    pub max_duration: Option<Duration>,
    /// What the members must be; none were seen yet.
    pub check: Check,
    /// Write a record of what was found in order.
    pub record: bool,
}

/// What is found out while archives are verified.
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    /// An archive is in order.
    Archive(Verified),
    /// All archives of a job were gone through.
    Job(Summary),
}

/// An archive that is in order, as far as it was looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    /// Its job.
    pub job: String,
    /// Its id.
    pub id: Id,
    /// How thoroughly it was looked at.
    pub level: Level,
    /// Bytes of its source.
    pub bytes: u64,
    /// Bytes of its archive object.
    pub stored_bytes: u64,
    /// Bytes that were confirmed: of the source, or with `--stored` of the objects.
    pub confirmed: u64,
    /// The share that was confirmed; of a sample only.
    pub share: Option<f64>,
    /// What its record's name has behind its id; none where nothing was recorded.
    pub record: Option<String>,
    /// What was confirmed, in words.
    pub text: String,
}

/// What became of the archives of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// The job.
    pub job: String,
    /// Verified now.
    pub verified: u64,
    /// Verified by an earlier run.
    pub before: u64,
    /// Names of those that time did not suffice for.
    pub left: Vec<String>,
    /// Names of those that are not in order.
    pub failed: Vec<String>,
}

/// Verifies one archive or several, or those of a job that were not verified yet; each that is in order is told to `found`.
///
/// # Errors
/// There is no such archive, it cannot be opened, it is damaged, or not what was expected. Of several archives all are
/// looked at before.
pub async fn verify(
    request: &VerifyRequest,
    ui: &Reporter,
    found: &mut dyn FnMut(&Finding),
) -> Result<Outcome> {
    let archives = request.which.archives(&request.open.store, ui).await?;
    let mut run = Run {
        level: request.depth.level(),
        secrets: Secrets::new(&request.open),
        request,
        deadline: Deadline::after(request.max_duration),
        ui,
        found,
    };
    match &archives[..] {
        [one] if request.since_last => run.since_last(&one.job).await,
        [one] => run.one(one).await,
        several => run.several(several).await,
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
    request: &'a VerifyRequest,
    level: Level,
    secrets: Secrets<'a>,
    deadline: Deadline,
    ui: &'a Reporter,
    found: &'a mut dyn FnMut(&Finding),
}

impl Run<'_> {
    async fn one(&mut self, archive: &ArchiveRef) -> Result<Outcome> {
        let found = StoredArchive::find(&self.request.open.store, archive, self.ui).await?;
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
    async fn since_last(&mut self, job: &str) -> Result<Outcome> {
        let store = Arc::new(self.request.open.store.open(self.ui)?);
        let archives = store.archives(Some(job)).await?;
        if archives.is_empty() {
            return Err(no_archive(job, &store).await);
        }
        let has_only_parts = archives.iter().all(Listed::is_partial);
        let mut tally = Tally::of(job);
        for listed in archives {
            let name = format!("{}@{}", listed.job, listed.id);
            if self.is_covered(&store, &listed).await {
                tally.summary.before += 1;
            } else if self.deadline.is_over() {
                tally.summary.left.push(name);
            } else {
                let verified = self.listed(&store, listed).await;
                tally.add(name, verified, self.ui)?;
            }
        }
        let outcome = tally.finish(self.ui, self.found)?;
        if has_only_parts {
            let store = &store.name;
            self.ui.warn(&format!(
                "of {job}, {store} has only parts of a run that was not completed: no backup of it can be verified yet"
            ));
            return Ok(Outcome::Warned);
        }
        Ok(outcome)
    }

    /// What a record of an archive says: one that needs no others is looked at as a whole.
    fn level_of(&self, manifest: &Manifest) -> Level {
        if self.level == Level::All && manifest.needs.is_empty() { Level::Whole } else { self.level }
    }

    /// Whether a record says that this look, or a better one, was had.
    async fn is_covered(&self, store: &Store, listed: &Listed) -> bool {
        // What is gone since it was looked at is missed at every level.
        if !listed.missing.is_empty() {
            return false;
        }
        let share = match (self.request.depth, &listed.manifest) {
            (Depth::Sample(amount), Ok(manifest)) => record::share(amount.of(manifest.bytes), manifest.bytes),
            _ => WHOLE,
        };
        let level = listed.manifest.as_ref().map(|manifest| self.level_of(manifest));
        let covers = |mark: &&VerificationKey| level.as_ref().is_ok_and(|level| mark.covers(*level, share));
        for mark in listed.marks.verified.iter().rev().filter(covers) {
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
        let counters = Arc::new(Counters::of(&found.job));
        let manifest = &found.manifest;
        match self.request.depth {
            Depth::Manifest => {}
            Depth::Stored => counters.expect(Total::Known(manifest.archive.size + manifest.catalog.size)),
            Depth::Sample(amount) => counters.expect(Total::About(amount.of(manifest.bytes))),
            Depth::Whole | Depth::All => counters.expect(Total::Known(manifest.bytes)),
        }
        let tracking = self.ui.track("verified", Arc::clone(&counters));
        let confirmed = self.look(found, &counters).await?;
        drop(tracking);
        if !confirmed.unmet.is_empty() {
            return Err(unexpected(found, &confirmed));
        }
        // A part from the beginning is no verification; of a sample every part is one.
        if !confirmed.cut || self.level == Level::Sample {
            let recorded = self.record(found, &confirmed).await;
            let verified = self.verified(found, &confirmed, recorded);
            (self.found)(&Finding::Archive(verified));
        }
        Ok(confirmed)
    }

    async fn look(&mut self, found: &StoredArchive, counters: &Counters) -> Result<Confirmed> {
        let (deadline, check) = (&self.deadline, self.request.check.clone());
        let records = self.request.record.then_some(self.ui);
        match self.request.depth {
            Depth::Manifest => stored::sizes(found, records).await,
            Depth::Stored => stored::bytes_of(found, records, deadline, counters).await,
            Depth::Sample(amount) => {
                let passphrase = self.secrets.of(found)?;
                sample::sample(found, passphrase, amount, check, records, deadline, counters).await
            }
            depth @ (Depth::Whole | Depth::All) => {
                let passphrase = self.secrets.of(found)?;
                let check = (check, depth == Depth::All);
                whole::whole(found, passphrase, check, records, deadline, counters).await
            }
        }
    }

    /// Writes the record; a store that takes none is no reason to fail.
    async fn record(&self, found: &StoredArchive, confirmed: &Confirmed) -> Option<VerificationKey> {
        if !self.request.record {
            return None;
        }
        let (archive, bytes) = ((found.job.as_str(), &found.id), (confirmed.bytes, confirmed.of));
        match found.store.put_record(archive, self.level_of(&found.manifest), bytes).await {
            Ok(mark) => Some(mark),
            Err(error) => {
                self.ui.note(&format!("the verification of {} is not recorded: {error}", found.name()));
                None
            }
        }
    }

    fn verified(
        &self,
        found: &StoredArchive,
        confirmed: &Confirmed,
        recorded: Option<VerificationKey>,
    ) -> Verified {
        Verified {
            job: found.job.clone(),
            id: found.id.clone(),
            level: self.level_of(&found.manifest),
            bytes: found.manifest.bytes,
            stored_bytes: found.manifest.archive.size,
            confirmed: confirmed.bytes,
            share: (self.level == Level::Sample).then(|| fraction(confirmed)),
            record: recorded.map(|key| key.suffix()),
            text: confirmed.text.clone(),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn confirmed(bytes: u64, of: u64) -> Confirmed {
        Confirmed { bytes, of, text: String::new(), cut: false, unmet: Vec::new() }
    }

    #[test]
    fn amounts_are_a_share_rounded_up_or_bytes() {
        assert_eq!(Amount::Share(0.5).of(3), 2);
        assert_eq!(Amount::Share(1.0).of(u64::MAX), u64::MAX);
        assert_eq!(Amount::Share(0.01).of(0), 0);
        assert_eq!(Amount::Bytes(10).of(7), 7);
        assert_eq!(Amount::Bytes(7).of(10), 7);
    }

    #[test]
    fn every_depth_has_its_level() {
        let all = [Depth::Manifest, Depth::Stored, Depth::Sample(Amount::Bytes(1)), Depth::Whole, Depth::All];
        let levels = all.map(Depth::level);
        assert_eq!(levels, [Level::Manifest, Level::Stored, Level::Sample, Level::Whole, Level::All]);
        assert!(levels.is_sorted(), "from the quickest to the most thorough");
    }

    #[test]
    fn nothing_of_nothing_is_all_of_it() {
        assert_eq!(fraction(&confirmed(0, 0)), 1.0);
        assert_eq!(fraction(&confirmed(1, 4)), 0.25);
    }

    #[test]
    fn a_deadline_is_over_when_its_time_is() {
        assert!(Deadline::after(Some(Duration::ZERO)).is_over());
        for time in [None, Some(Duration::from_secs(3600)), Some(Duration::MAX)] {
            assert!(!Deadline::after(time).is_over(), "{time:?}");
        }
    }
}
