//! `drill`: restores for real into a scratch place, tries what is there, and clears it away.
//!
//! Nothing but what the drill itself has made is touched: its volumes and containers have names and labels of their own, and
//! its servers no network. What is tried depends on what the archive is of.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use super::open_archive::OpenArchive;
use super::random::Random;
use super::restore::{RestoreRequest, RestoreSource, restore};
use super::stored::{ArchiveRef, OpenRequest, Secrets, StoredArchive};
use super::verify::{self, Depth, Finding, VerifyRequest, Which};
use super::version::Version;
use super::{Outcome, until};
use crate::archive::Format;
use crate::archive::check::Check;
use crate::docker::Engine;
use crate::docker::scratch::Scratch;
use crate::error::{Error, Kind, Result};
use crate::host::name::host_name;
use crate::preset::Metadata;
use crate::report::{Event, Reporter, event, human_bytes, short_time};
use crate::sink::target::RestoreTarget;
use crate::store::record::drill::{Drill, DrillLevel, DrillOutcome, FORMAT};

mod compare;
mod database;
mod files;
mod registry;

/// Characters of a cause that a record keeps.
const LONGEST: usize = 1000;

/// What to try.
#[derive(Debug, Clone)]
pub struct DrillRequest {
    /// The archives.
    pub which: Which,
    /// Of each job one by chance, of those made within this time; none: the one that is named.
    pub random: Option<Duration>,
    /// Where they are, and what opens them.
    pub open: OpenRequest,
    /// Files whose contents are compared.
    pub sample: usize,
    /// Tags of a registry that are pulled.
    pub tags: usize,
    /// Try the files as a registry's, or not; none: found out.
    pub as_registry: Option<bool>,
    /// The image that serves a registry's files; none: that of the container which uses the volume now.
    pub registry_image: Option<String>,
    /// A command of the operator's own.
    pub check: Option<OwnCheck>,
    /// What a database must have.
    pub expected: Expected,
    /// Leave everything as it is at the end.
    pub keep: bool,
    /// Write a record.
    pub record: bool,
}

/// A command that tries what was restored: it passes by exit code 0.
#[derive(Debug, Clone)]
pub struct OwnCheck {
    /// For `sh -c`: files lie in /data, what is no tar comes on its standard input.
    pub command: String,
    /// The image it runs in.
    pub image: String,
}

/// What a database must have.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Expected {
    /// So many tables, neither more nor fewer.
    pub tables: Option<u64>,
    /// So many rows at least.
    pub min_rows: Option<u64>,
    /// How much less than at the last drill there may be: 0 to 1.
    pub shrink: Option<f64>,
}

/// Tries one archive or several.
///
/// # Errors
/// There is no such archive; what was restored is not as it should be; there is nothing to try it with. Of several archives
/// all are tried before.
pub async fn drill(request: &DrillRequest, ui: &Reporter, cancel: &CancellationToken) -> Result<Outcome> {
    let archives = until(cancel, archives(request, ui)).await?;
    let mut run = Run { request, secrets: Secrets::new(&request.open), ui, cancel };
    if let [one] = &archives[..] {
        return run.one(one).await;
    }
    let (mut outcome, mut failed, mut cause) = (Outcome::Done, Vec::new(), None::<Error>);
    for archive in &archives {
        match run.one(archive).await {
            Ok(Outcome::Done) => {}
            Ok(other) => outcome = other,
            Err(error) if matches!(error.kind(), Kind::Usage | Kind::Interrupted) => return Err(error),
            Err(error) => {
                ui.warn(&format!("{archive}: {error}"));
                failed.push(archive.to_string());
                let is_worse = error.kind() == Kind::Damaged;
                cause = cause.filter(|cause| !is_worse || cause.kind() == Kind::Damaged).or(Some(error));
            }
        }
    }
    match cause {
        Some(cause) => Err(cause.context(format!("the drill failed for {}", failed.join(", ")))),
        None => Ok(outcome),
    }
}

async fn archives(request: &DrillRequest, ui: &Reporter) -> Result<Vec<ArchiveRef>> {
    let named = request.which.archives(&request.open.store, ui).await?;
    let Some(window) = request.random else { return Ok(named) };
    let (store, mut random) = (request.open.store.open(ui)?, Random::new()?);
    let since =
        Timestamp::now() - jiff::SignedDuration::try_from(window).unwrap_or(jiff::SignedDuration::MAX);
    let mut chosen = Vec::new();
    for ArchiveRef { job, version } in named {
        if version != Version::Latest {
            return Err(Error::usage(format!("--random takes a job, not one archive: {job}@{version}")));
        }
        let whole = store.archives(Some(&job)).await?.into_iter().filter(|listed| !listed.is_partial());
        let within: Vec<_> = whole.map(|listed| listed.id).filter(|id| id.is_since(since)).collect();
        let Some(id) = random.some(within, 1).pop() else {
            let window = short_time(window);
            return Err(Error::new(
                Kind::NotFound,
                format!("there is no archive of job {job} of the last {window}"),
            ));
        };
        chosen.push(ArchiveRef { job, version: Version::Id(id) });
    }
    Ok(chosen)
}

/// One run over one archive or several.
struct Run<'a> {
    request: &'a DrillRequest,
    secrets: Secrets<'a>,
    ui: &'a Reporter,
    cancel: &'a CancellationToken,
}

impl Run<'_> {
    async fn one(&mut self, archive: &ArchiveRef) -> Result<Outcome> {
        let Run { request, ui, cancel, .. } = *self;
        let found = until(cancel, StoredArchive::find(&request.open.store, archive, ui)).await?;
        let passphrase = self.secrets.of(&found)?;
        let mut open = request.open.clone();
        open.passphrase.known = passphrase.clone().or(open.passphrase.known);
        let began = Instant::now();
        let mut attempt =
            Attempt { request, open, found, passphrase, ui, cancel, scratch: None, tried: Tried::default() };
        let mut ended = attempt.go().await;
        if let Some(scratch) = attempt.scratch.take() {
            scratch.clear(ui).await;
        }
        if cancel.is_cancelled() {
            ended = Err(Error::interrupted());
        }
        if let Err(error) = &ended
            && !attempt.is_verdict(error)
        {
            return ended.map(|()| Outcome::Done);
        }
        attempt.tell(&ended, began.elapsed()).await;
        ended.map(|()| Outcome::Done)
    }
}

/// What was done and counted.
#[derive(Debug, Default)]
struct Tried {
    /// The restore has begun: what fails from now on is the archive's failure, until something else is shown.
    begun: bool,
    is_read_only: bool,
    what: String,
    counts: BTreeMap<String, u64>,
    bytes: u64,
    restoring: Duration,
    /// A cause for the record that names no member.
    cause: Option<String>,
}

impl Tried {
    fn count(&mut self, what: &str, count: u64) {
        self.counts.insert(what.into(), count);
    }
}

/// The trial of one archive.
struct Attempt<'a> {
    request: &'a DrillRequest,
    open: OpenRequest,
    found: StoredArchive,
    passphrase: Option<SecretString>,
    ui: &'a Reporter,
    cancel: &'a CancellationToken,
    scratch: Option<Scratch>,
    tried: Tried,
}

impl Attempt<'_> {
    /// Whether an error says something of the archive, and not only of where it was tried.
    fn is_verdict(&self, error: &Error) -> bool {
        match error.kind() {
            Kind::Damaged => true,
            Kind::Usage | Kind::Interrupted | Kind::WrongPassphrase => false,
            _ => self.tried.begun,
        }
    }

    async fn go(&mut self) -> Result<()> {
        self.tried.what = "bytes".into();
        let archive = until(self.cancel, OpenArchive::open(&self.found, self.passphrase.as_ref())).await?;
        let (is_tar, source) = (archive.record().kind == Format::Tar, archive.record().source.clone());
        let metadata = Metadata::of(&source);
        if let Some(layout) = metadata.as_ref().map(Metadata::layout).transpose()?.flatten() {
            return self.read(layout).await;
        }
        if is_tar {
            return self.files(&source).await;
        }
        if let Some(check) = &self.request.check {
            return self.feed(check).await;
        }
        if let Some(Metadata::Database(database)) = &metadata {
            let trial = database.trial(&Random::new()?.word()).filter(|_| !database.image.is_empty());
            if let Some(trial) = trial {
                return self.database(database, trial).await;
            }
            let product = &database.product;
            self.ui.note(&format!(
                "no scratch server of {product} is known: the dump is read; --check tries it"
            ));
        }
        self.read(Check::default()).await
    }

    /// The engine, with what killed drills have left there cleared away, and room for what will be restored.
    async fn scratch(&mut self) -> Result<&mut Scratch> {
        let engine = until(self.cancel, Engine::connect()).await?;
        engine.clear_left_drills(self.ui).await?;
        let manifest = &self.found.manifest;
        let needed = manifest.bytes.saturating_add(manifest.kept.bytes);
        if let Some(free) = engine.free_bytes().await
            && free < needed
        {
            let (needed, free) = (human_bytes(needed), human_bytes(free));
            return Err(Error::failed(format!(
                "the engine's disk has {free} free, and {needed} are to be restored"
            ))
            .hint("make room, or drill on another host"));
        }
        Ok(self.scratch.insert(Scratch::new(engine, self.request.keep)))
    }

    /// What was made at the engine.
    fn scratched(&mut self) -> Result<&mut Scratch> {
        self.scratch.as_mut().ok_or_else(|| Error::failed("there is no scratch place"))
    }

    /// Restores it as `restore` does: the same code, from the same store.
    async fn restore(&mut self, target: RestoreTarget, from_volume: Option<&str>) -> Result<()> {
        self.tried.begun = true;
        let source = ArchiveRef { job: self.found.job.clone(), version: Version::Id(self.found.id.clone()) };
        let request = RestoreRequest {
            from_volume: from_volume.map(String::from),
            allow_devices: true,
            ..RestoreRequest::new(RestoreSource::Archive(source), target, self.open.clone())
        };
        let began = Instant::now();
        let restored = restore(request, self.ui, self.cancel).await;
        self.tried.restoring += began.elapsed();
        let manifest = &self.found.manifest;
        self.tried.bytes = manifest.bytes.saturating_add(manifest.kept.bytes);
        match restored? {
            Outcome::Done | Outcome::Warned => Ok(()),
            Outcome::Exited(code) => Err(Error::failed(format!(
                "what took the bytes ended with code {code}: what it printed says why"
            ))),
        }
    }

    /// A command of the operator's own has the bytes on its standard input.
    async fn feed(&mut self, check: &OwnCheck) -> Result<()> {
        self.tried.what = "check".into();
        let engine = self.scratch().await?.engine().clone();
        engine.require_image(&check.image).await?;
        self.restore(RestoreTarget::Run(Box::new(check.spec())), None).await
    }

    /// Reads everything as a restore would. What a product's own tool alone brings back cannot be tried on another host.
    async fn read(&mut self, check: Check) -> Result<()> {
        (self.tried.is_read_only, self.tried.begun) = (true, true);
        let source = ArchiveRef { job: self.found.job.clone(), version: Version::Id(self.found.id.clone()) };
        let request = VerifyRequest {
            which: Which::These(vec![source]),
            open: self.open.clone(),
            depth: Depth::All,
            since_last: false,
            max_duration: None,
            check,
            record: false,
        };
        let (began, mut bytes) = (Instant::now(), 0);
        let mut found = |finding: &Finding| {
            if let Finding::Archive(verified) = finding {
                bytes = verified.confirmed;
            }
        };
        until(self.cancel, verify::verify(&request, self.ui, &mut found)).await?;
        (self.tried.bytes, self.tried.restoring) = (bytes, began.elapsed());
        Ok(())
    }

    /// Records how it ended, and says it.
    async fn tell(&self, ended: &Result<()>, all: Duration) {
        let (tried, found) = (&self.tried, &self.found);
        let level = if tried.is_read_only { DrillLevel::Read } else { DrillLevel::Restored };
        let error = ended.as_ref().err().map(ToString::to_string);
        let cause = error.clone().map(|error| tried.cause.clone().unwrap_or(error));
        let drill = Drill {
            format: FORMAT,
            id: found.id.clone(),
            job: found.job.clone(),
            outcome: if error.is_none() { DrillOutcome::Passed } else { DrillOutcome::Failed },
            level,
            what: tried.what.clone(),
            counts: tried.counts.clone(),
            bytes: tried.bytes,
            restore_seconds: tried.restoring.as_secs_f64(),
            seconds: all.as_secs_f64(),
            cause: cause.map(|cause| cause.chars().take(LONGEST).collect()),
            host: host_name(),
            at: Timestamp::now(),
            tool: concat!("sealift ", env!("CARGO_PKG_VERSION")).into(),
        };
        let record = match self.request.record {
            true => found.store.put_drill(&drill).await.map(Some),
            false => Ok(None),
        };
        let record = record.unwrap_or_else(|error| {
            self.ui.warn(&format!("the drill of {} is not recorded: {error}", found.name()));
            None
        });
        self.ui.emit(Event::Drilled(event::Drilled {
            job: found.job.clone(),
            id: found.id.to_string(),
            passed: error.is_none(),
            level: level.to_string(),
            what: drill.what,
            counts: drill.counts,
            bytes: drill.bytes,
            restore_seconds: drill.restore_seconds,
            seconds: drill.seconds,
            cause: error,
            record: record.map(|key| format!("{}{}", found.id, key.suffix())),
        }));
    }
}
