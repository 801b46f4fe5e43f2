//! `backup`: source → archive → stores. Everything is aborted unless the end was proved.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use secrecy::SecretString;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::archive::budget::{BudgetRequest, MemoryBudget};
use crate::archive::catalog::{ArchiveRecord, FORMAT};
use crate::archive::openpgp::block_pool;
use crate::archive::seal::{SealOptions, Sealed, seal};
use crate::archive::tap::SourceChecks;
use crate::archive::{Format, Id};
use crate::docker::Engine;
use crate::error::{Error, Kind, Result};
use crate::host::passphrase;
use crate::host::priority;
use crate::report::{Reporter, human_bytes};
use crate::source::{Source, StoreFolder, Walk};
use crate::store::fan::{Failed, FanOut, ObjectName};
use crate::store::manifest::{Manifest, archive_suffix};
use crate::store::rate::RateLimiter;
use crate::store::{Store, StoreUrl};
use crate::stream::counters::{Counter, Counters, Total};
use crate::stream::source::{ByteStream, Running};

pub use super::Outcome;
use super::failing::Failing;
use super::heads::Part;
use super::increment::base::{self, Base, Found};
use super::increment::reading::{KeptMembers, Opening, Scanning};
use super::increment::shared_check::SharedCheck;
pub use super::increment::{Compare, Increments, Rebase};
use super::lease::RunLease;
use super::origin::{self, Origin};
use super::quiet::Quiet;
use super::request::with_metadata;
pub use super::request::{BackupRequest, Encryption, Task, WarnOk};
use super::shrink::Before;
use super::stored::StoredArchive;
pub use dry_run::dry_run;
use segments::Segments;

/// How long a stopped source may take to clean up after itself: an engine has to stop, start and unlock its swarm.
const CLEANUP: Duration = Duration::from_secs(300);

/// A committed archive.
pub struct Made {
    /// Whether there is something to look at.
    pub outcome: Outcome,
    /// Its job.
    pub job: String,
    /// Its id.
    pub id: Id,
}

/// Backs a source up.
///
/// # Errors
/// Nothing was committed anywhere. What could not be taken back is named, and the failure is noted in the stores that
/// answer.
pub async fn backup(task: Task, ui: &Reporter, cancel: &CancellationToken) -> Result<Made> {
    let failing = Failing::of(&task);
    let (mut run, source) = match (BackupRun::prepare(task, ui), &failing) {
        (Ok(prepared), _) => prepared,
        (Err(error), Some(failing)) => return Err(failing.before_it_began(error, ui).await),
        (Err(error), None) => return Err(error),
    };
    let stores = run.stores.clone();
    let made = run.make(source, ui, cancel).await.map_err(|error| run.segments.nothing_committed(error));
    run.end(made, failing, &stores, ui).await
}

/// Others come first. What nobody asked for and cannot be had is no reason to lose the night.
async fn lower_priority(request: &BackupRequest, ui: &Reporter) -> Result<()> {
    match request.nice {
        Some(value) => priority::nice(value)?,
        None => priority::nice(priority::DEFAULT_NICE)
            .unwrap_or_else(|e| ui.detail(&format!("the nice value stays as it is: {e}"))),
    }
    match request.io_nice {
        Some(level) => priority::io_nice(level).await,
        None => Ok(()),
    }
}

/// Starts the source in a task of its own: a signal does not lose sight of a container that is just being made.
async fn start(
    opening: Opening,
    engine: Option<Engine>,
    walk: Walk,
    ui: &Reporter,
    stop: &CancellationToken,
    cancel: &CancellationToken,
) -> Result<(Running, Option<Scanning>)> {
    let (shown, stopping) = (ui.clone(), stop.clone());
    let mut opening =
        tokio::spawn(async move { opening.open(engine.as_ref(), &walk, &shown, &stopping).await });
    tokio::select! {
        biased;
        () = cancel.cancelled() => {}
        opened = &mut opening => return opened.map_err(|e| Error::failed("a worker died").because(e))?,
    }
    if let Ok(Ok(Ok((Running { stream, cleanup }, _)))) = tokio::time::timeout(CLEANUP, opening).await {
        drop(stream);
        wait_for(cleanup, ui).await;
    }
    Err(Error::interrupted())
}

async fn wait_for(cleanup: JoinHandle<()>, ui: &Reporter) {
    if tokio::time::timeout(CLEANUP, cleanup).await.is_err() {
        ui.warn(
            "the source did not stop in time: `docker ps -a --filter label=sealift` shows what it left; \
             an engine that was stopped for it may be down, or its swarm locked (`docker swarm unlock`)",
        );
    }
}

/// One backup on its way.
struct BackupRun {
    request: BackupRequest,
    plan: MemoryBudget,
    stores: Vec<Arc<Store>>,
    chunks: crate::stream::pool::Pool<Vec<u8>>,
    passphrase: Option<SecretString>,
    /// The catalog's first record; the format is known when the first bytes are there.
    record: ArchiveRecord,
    is_compared: bool,
    format: Option<Format>,
    expected: SourceChecks,
    /// Whether the files of the source are looked at one by one, and the backup that it builds on.
    is_scanned: bool,
    base: Option<Arc<Base>>,
    /// What stays in older archives.
    kept: KeptMembers,
    /// The file at which the scan was cut, if it was.
    cut: Arc<OnceLock<Vec<u8>>>,
    /// The archives that this run has made, of which none is the last.
    segments: Segments,
    /// The newest archive, where its manifest can be read.
    before: Option<Before>,
    /// Keeps a second run of the job from beginning.
    lease: Option<RunLease>,
    /// What is held still while the source is read.
    quiet: Option<Quiet>,
    /// The stores that a backup which exists did not reach.
    failed: Vec<Failed>,
    clock: Instant,
    warnings: Vec<String>,
    counters: Arc<Counters>,
}

impl BackupRun {
    /// Makes the archive, or takes back what was begun.
    async fn make(&mut self, source: Source, ui: &Reporter, cancel: &CancellationToken) -> Result<Made> {
        lower_priority(&self.request, ui).await?;
        let mut stores = FanOut::new(self.plan.parts.clone(), self.chunks.clone(), ui);
        let engine = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Error::interrupted()),
            ready = self.ready(&source, &mut stores, ui) => ready?,
        };
        self.hold_still(engine.as_ref(), ui, cancel).await?;
        let made = self.make_all(source, engine, stores, ui, cancel).await;
        self.let_go(ui).await;
        made
    }

    /// Streams the source, or a segment of it, to the point where only the commit is missing; or takes it back.
    async fn stream_once(
        &mut self,
        source: Source,
        engine: Option<Engine>,
        mut stores: FanOut,
        ui: &Reporter,
        cancel: &CancellationToken,
    ) -> Result<(Sealed, FanOut)> {
        let stop = cancel.child_token();
        let (opening, expected) = self.opening(source);
        let (Running { mut stream, cleanup }, scanning) =
            start(opening, engine, self.walk(), ui, &stop, cancel).await?;
        self.quiet.iter().for_each(|quiet| quiet.watch(&mut stream));
        let streamed = tokio::select! {
            // First, because a signal may reach the source as well, and its end would look like any other.
            biased;
            () = cancel.cancelled() => Err(Error::interrupted()),
            streamed = self.stream(stream, expected, scanning, &mut stores, ui) => streamed,
        };
        let streamed = if cancel.is_cancelled() { Err(Error::interrupted()) } else { streamed };
        let streamed = streamed.and_then(|sealed| self.not_shrunk(sealed, ui));
        // Whatever happened, the source is stopped and waited for: nothing of it stays behind.
        stop.cancel();
        let stopped = wait_for(cleanup, ui);
        match streamed {
            Err(error) => Err(tokio::join!(stores.abort_because(error), stopped).0),
            Ok(sealed) => {
                stopped.await;
                Ok((sealed, stores))
            }
        }
    }

    /// Does all that can be done before anything is asked of anyone.
    fn prepare(task: Task, ui: &Reporter) -> Result<(BackupRun, Source)> {
        let job = task.job().ok_or_else(nameless)?;
        let Task { source, is_compared, request, format, metadata, check, whole, warnings, notes, set } =
            task;
        let stores = create_stores(&request.stores, ui)?;
        let plan = memory_budget(&request.budget, &stores, ui)?;
        let passphrase = read_passphrase(&request, &source, ui)?;
        let started = jiff::Timestamp::now();
        let record = ArchiveRecord {
            format: FORMAT,
            id: Id::new(started)?,
            job,
            set: set.map(|set| set.to_string()),
            host: None,
            source_id: None,
            id_map: None,
            source: with_metadata(with_metadata(source.describe(), request.files.describe()), metadata),
            kind: Format::Raw,
            codec: request.budget.codec,
            cipher: request.encryption.as_ref().map(|encryption| encryption.cipher),
            frame_len: request.budget.frame_len,
            head_len: 0,
            full: false,
            started,
        };
        let expected = SourceChecks {
            allow_empty: request.allow_empty,
            check: source.check().and(check).and(request.check.clone()),
            strict: request.strict,
            without_padding: source.is_padded(),
            whole,
            warnings,
            notes,
            ..SourceChecks::default()
        };
        let run = BackupRun {
            counters: counters_of(&record.job, &stores),
            request,
            chunks: block_pool(plan.chunks),
            plan,
            stores,
            passphrase,
            record,
            is_compared,
            format,
            expected,
            is_scanned: false,
            base: None,
            kept: KeptMembers::default(),
            cut: Arc::default(),
            segments: Segments::default(),
            before: None,
            lease: None,
            quiet: None,
            failed: Vec::new(),
            clock: Instant::now(),
            warnings: Vec::new(),
        };
        Ok((run, source))
    }

    /// Before anything is started: is the engine there, and are the stores?
    async fn ready(&mut self, source: &Source, fan: &mut FanOut, ui: &Reporter) -> Result<Option<Engine>> {
        let engine = self.engine(source, ui).await?;
        let of_source = engine.as_ref().filter(|_| source.needs_engine());
        let origin = Origin::of(source, self.request.host.as_deref(), of_source).await?;
        self.record.source_id = origin.source_id.filter(|_| self.is_compared);
        (self.record.host, self.record.id_map) = (origin.host, origin.id_map);
        self.probe_stores(fan, ui).await?;
        if let Some(increments) = self.request.increments.clone() {
            self.find_base(&increments, source, ui).await?;
        }
        Ok(engine)
    }

    /// Looks for the backup that this one builds on.
    async fn find_base(&mut self, increments: &Increments, source: &Source, ui: &Reporter) -> Result<()> {
        // What a preset finds is not told from other sources.
        let is_known = self.record.source_id.is_some();
        if !source.can_be_scanned() || !is_known || self.format == Some(Format::Raw) {
            ui.detail("the files of this source are not looked at one by one: it is backed up in full");
            return Ok(());
        }
        let passphrase = self.passphrase.as_ref();
        let search = base::Search { stores: &self.stores, record: &self.record, passphrase };
        self.is_scanned = true;
        match search.find(increments).await? {
            Found::Nothing(why) => ui.note(&format!("a full backup: {why}")),
            Found::Base(base) => {
                base.warnings.iter().for_each(|text| ui.warn(text));
                base.notes.iter().for_each(|text| ui.note(text));
                self.warnings.extend(base.warnings.iter().cloned());
                self.record.full = base.is_of_a_full;
                self.base = Some(base.into());
            }
        }
        Ok(())
    }

    /// How the source is read next, and what is expected of what comes then.
    fn opening(&mut self, source: Source) -> (Opening, SourceChecks) {
        let (is_scanned, base) = (self.is_scanned, self.base.take());
        if let (None, Some(before)) = (&base, &self.before) {
            self.counters.expect(Total::About(before.bytes));
        }
        let segment = self.segment();
        let (mut expected, mut check) = (self.expected.clone(), SharedCheck::default());
        if base.is_some() || segment.is_some() {
            (expected.check, check) = SharedCheck::of(expected.check);
        }
        let compared_at_once = self.compares_content().then_some(self.plan.workers);
        (Opening { source, is_scanned, base, compared_at_once, check, segment }, expected)
    }

    /// Whether files are compared by what is in them, now or the next time.
    fn compares_content(&self) -> bool {
        self.request.increments.as_ref().is_some_and(|asked| asked.compare == Compare::Content)
    }

    /// How a source's folders are walked: a backup does not find itself there.
    fn walk(&self) -> Walk {
        let folders = self.stores.iter().filter_map(|store| store.folder());
        let stores =
            folders.map(|folder| StoreFolder { folder: folder.into(), job: self.record.job.clone() });
        Walk { filter: self.request.files.clone(), stores: stores.collect() }
    }

    /// Are the stores there, is the newest archive of this source, and does it open with this passphrase?
    async fn probe_stores(&mut self, fan: &mut FanOut, ui: &Reporter) -> Result<()> {
        for (store, newest) in self.reserve(fan, ui).await? {
            if let Some(id) = newest {
                self.compare(&store, &id, ui).await?;
            }
            if !self.request.dry_run {
                store.probe_create_only(&self.record.job, ui).await;
                store.clear_abandoned(&self.record.job, ui);
            }
        }
        Ok(())
    }

    /// Holds the newest archive of a store against this backup.
    async fn compare(&mut self, store: &Arc<Store>, id: &Id, ui: &Reporter) -> Result<()> {
        // It is another day's archive: whatever else is wrong with it is no matter of this backup.
        let Ok(newest) = store.manifest(&self.record.job, id).await else { return Ok(()) };
        let complete = match newest.partial {
            true => store.newest_complete(&self.record.job).await.ok().flatten(),
            false => Some((id.clone(), Ok(newest.clone()))),
        };
        let of = |(id, manifest): (Id, Result<Manifest>)| {
            manifest.ok().map(|manifest| Before { id, bytes: manifest.bytes + manifest.kept.bytes })
        };
        self.before = self.before.take().max(complete.and_then(of));
        let named = (self.record.job.as_str(), id);
        let origin = Origin { source_id: self.record.source_id.clone(), ..Origin::default() };
        let is_accepted = self.request.warn_ok.contains(&WarnOk::Source);
        origin.compare(named, &store.name, &newest, is_accepted, ui)?;
        if let Some(text) = origin::clock_behind(self.record.started, named, &newest) {
            ui.warn(&text);
            self.warnings.push(text);
        }
        self.compare_passphrase(store, id, &newest, ui).await;
        Ok(())
    }

    async fn compare_passphrase(&mut self, store: &Arc<Store>, id: &Id, newest: &Manifest, ui: &Reporter) {
        let (Some(passphrase), job) = (&self.passphrase, &self.record.job) else { return };
        let (id_of, manifest) = (id.clone(), newest.clone());
        let found = StoredArchive { store: Arc::clone(store), job: job.clone(), id: id_of, manifest };
        let head = async { found.head(Part::Archive, &found.archive_object().await?, passphrase).await };
        if head.await.is_err_and(|error| error.kind() == Kind::WrongPassphrase)
            && !self.request.warn_ok.contains(&WarnOk::Passphrase)
        {
            let text = format!(
                "the newest archive, {job}@{id} at {}, does not open with this passphrase",
                store.name
            );
            ui.warn(&text);
            self.warnings.push(text);
        }
    }

    /// Streams the source into every store, to the point where only the commit is missing.
    async fn stream(
        &mut self,
        mut stream: ByteStream,
        expected: SourceChecks,
        scanning: Option<Scanning>,
        fan: &mut FanOut,
        ui: &Reporter,
    ) -> Result<Sealed> {
        let detect =
            tokio::task::spawn_blocking(move || Format::of(&mut stream).map(|format| (format, stream)));
        let (found, stream) = detect.await.map_err(|e| Error::failed("a worker died").because(e))??;
        self.record.kind = self.format.unwrap_or(found);
        let suffix = self.suffix();
        let naming = ObjectName { job: &self.record.job, id: &self.record.id, suffix: &suffix };
        fan.begin(&self.stores, &naming, self.request.parallel, &self.counters).await?;
        let options = SealOptions {
            archive: self.record.clone(),
            level: self.request.budget.level,
            passphrase: self.passphrase.clone(),
            expected: SourceChecks {
                format: self.record.kind,
                content: scanning.is_some() && self.compares_content(),
                ..expected
            },
            plan: self.plan.clone(),
            chunks: self.chunks.clone(),
            scanned: scanning.map(|scanning| {
                (self.kept, self.cut) = (scanning.kept, scanning.cut);
                scanning.catalog
            }),
        };
        let sealing = seal(stream, options, Arc::clone(&self.counters))?;
        let _tracking = ui.track("read", Arc::clone(&self.counters));
        fan.pump(sealing.archive, sealing.catalog, RateLimiter::new(self.request.limit_rate.clone())).await?;
        sealing.sealed.await.map_err(|_| Error::failed("the catalog's thread died"))
    }

    fn suffix(&self) -> String {
        archive_suffix(self.record.kind, self.record.codec, self.record.cipher)
    }

    fn manifest(&self, sealed: &Sealed) -> Manifest {
        Manifest::of(&self.record, &sealed.end, self.kept.needs().ids(), (&sealed.catalog).into())
    }
}

fn nameless() -> Error {
    Error::usage("this backup needs a name").hint("give --job NAME: its archives will lie under it")
}

fn counters_of(job: &str, stores: &[Arc<Store>]) -> Arc<Counters> {
    let counted = stores.iter().map(|store| (store.name.clone(), Arc::new(Counter::default())));
    Arc::new(Counters::of(job).with_stores(counted.collect()))
}

/// Opens the stores, each once, and warns of options that mean nothing to one.
fn create_stores(requests: &[StoreUrl], ui: &Reporter) -> Result<Vec<Arc<Store>>> {
    let stores = requests.iter().map(|request| request.create(ui).map(Arc::new));
    let stores = stores.collect::<Result<Vec<_>>>()?;
    for (i, (store, request)) in stores.iter().zip(requests).enumerate() {
        if stores[..i].iter().any(|other| other.is_same(store)) {
            return Err(Error::usage(format!("{} is given twice", store.name)).hint("name each store once"));
        }
        store.ineffective(&request.options).iter().for_each(|option| {
            ui.warn(&format!("{option} has no effect at {}", store.name));
        });
    }
    Ok(stores)
}

/// Divides the memory so that every store's limits are kept.
fn memory_budget(request: &BudgetRequest, stores: &[Arc<Store>], ui: &Reporter) -> Result<MemoryBudget> {
    let limits = stores.iter().map(|store| store.kind.limits()).reduce(|a, b| a.and(b));
    let limits = limits.ok_or_else(|| Error::usage("no store was given").hint("--to STORE"))?;
    let plan = MemoryBudget::new(request, limits)?;
    ui.detail(&format!(
        "up to {} of memory, {} frames at once; {}",
        human_bytes(plan.memory),
        plan.workers,
        largest(&plan)
    ));
    Ok(plan)
}

/// Reads the passphrase that the archive is to be sealed with; none where it is stored in the clear.
fn read_passphrase(request: &BackupRequest, source: &Source, ui: &Reporter) -> Result<Option<SecretString>> {
    let Some(Encryption { passphrase, .. }) = &request.encryption else {
        ui.warn("--no-encrypt: whoever can read the store can read this backup");
        return Ok(None);
    };
    let stdin_is_data = matches!(source, Source::Stdin);
    passphrase::Sources { stdin_is_data, twice: true, ..passphrase.clone() }.read().map(Some)
}

fn largest(plan: &MemoryBudget) -> String {
    match plan.parts.largest_archive() {
        Some(bytes) => format!("the largest archive within that bound: {}", human_bytes(bytes)),
        None => "no limit on the archive's size".into(),
    }
}

mod account;
mod dry_run;
mod held;
mod report;
mod segments;
#[cfg(test)]
mod tests;
