//! `backup`: source → archive → stores. Everything is aborted unless the end was proved.

use std::sync::Arc;
use std::time::{Duration, Instant};

use secrecy::SecretString;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::archive::budget::{BudgetRequest, MemoryBudget};
use crate::archive::catalog::{ArchiveRecord, FORMAT};
use crate::archive::check::Check;
use crate::archive::openpgp::block_pool;
use crate::archive::seal::{SealOptions, Sealed, seal};
use crate::archive::tap::SourceChecks;
use crate::archive::{Format, Id, open};
use crate::cli::{BackupOptions, WarnOk};
use crate::docker::Engine;
use crate::error::{Error, Kind, Result};
use crate::host::passphrase;
use crate::host::priority;
use crate::report::{Reporter, human_bytes};
use crate::source::Source;
use crate::store::Store;
use crate::store::download::Object;
use crate::store::fan::{Failed, FanOut, ObjectName};
use crate::store::manifest::{Manifest, archive_suffix};
use crate::store::rate::RateLimiter;
use crate::store::set::SetRef;
use crate::stream::counters::{Counter, Counters};
use crate::stream::source::{ByteStream, Running};
use crate::stream::warning::{Warning, WarningKind};

/// How long a stopped source may take to clean up after itself: an engine has to stop, start and unlock its swarm.
const CLEANUP: Duration = Duration::from_secs(300);

/// How a run that did not fail ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// In every store, nothing to look at.
    Done,
    /// Committed, but with warnings or not to every store; not verified to the end: exit 3.
    Warned,
    /// The process that was given the bytes ended with this code, and had them all; 1 where `diff` found differences.
    Exited(i64),
}

/// One archive to be made.
pub struct Task {
    /// Where its bytes come from.
    pub source: Source,
    /// How it is made.
    pub options: BackupOptions,
    /// What its bytes must be; none: found out.
    pub format: Option<Format>,
    /// What a restore will need to know, beside the source.
    pub facts: serde_json::Value,
    /// What its members must be, beside what the options say.
    pub check: Check,
    /// Whether its bytes must be a whole OpenPGP message.
    pub is_message: bool,
    /// What is known to be wrong with it.
    pub warnings: Vec<String>,
    /// What is so by nature.
    pub notes: Vec<String>,
    /// The set that it belongs to.
    pub set: Option<SetRef>,
}

impl Task {
    /// A source as it is.
    pub fn new(source: Source, options: BackupOptions) -> Self {
        let (facts, format) = (serde_json::Value::Null, options.format().or_else(|| source.format()));
        let (check, warnings, notes) = (Check::default(), Vec::new(), Vec::new());
        Task { source, options, format, facts, check, is_message: false, warnings, notes, set: None }
    }
}

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
/// Nothing was committed anywhere.
pub async fn backup(task: Task, ui: &Reporter, cancel: &CancellationToken) -> Result<Made> {
    let (mut run, source) = Run::prepare(task, ui)?;
    lower_priority(&run.options, ui).await?;
    let mut stores = FanOut::new(run.plan.parts.clone(), run.chunks.clone(), ui);
    let engine = tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(Error::interrupted()),
        ready = run.ready(&source, &mut stores, ui) => ready?,
    };
    let stop = cancel.child_token();
    let Running { stream, cleanup } = start(source, engine, ui, &stop, cancel).await?;
    let streamed = tokio::select! {
        // First, because a signal may reach the source as well, and its end would look like any other.
        biased;
        () = cancel.cancelled() => Err(Error::interrupted()),
        streamed = run.stream(stream, &mut stores, ui) => streamed,
    };
    let streamed = if cancel.is_cancelled() { Err(Error::interrupted()) } else { streamed };
    // Whatever happened, the source is stopped and waited for: nothing of it stays behind.
    stop.cancel();
    let stopped = settle(cleanup, ui);
    match streamed {
        Err(error) => Err(tokio::join!(stores.abort_because(error), stopped).0),
        Ok(sealed) => {
            stopped.await;
            let manifest = run.manifest(&sealed);
            let (committed, failed) = stores.commit(&manifest).await?;
            let outcome = run.report(&sealed, &committed, &failed, ui);
            Ok(Made { outcome, job: run.record.job, id: run.record.id })
        }
    }
}

/// Others come first. What nobody asked for and cannot be had is no reason to lose the night.
async fn lower_priority(options: &BackupOptions, ui: &Reporter) -> Result<()> {
    match options.nice {
        Some(value) => priority::nice(value)?,
        None => priority::nice(priority::DEFAULT_NICE)
            .unwrap_or_else(|e| ui.detail(&format!("the nice value stays as it is: {e}"))),
    }
    match options.io_nice {
        Some(level) => priority::io_nice(level).await,
        None => Ok(()),
    }
}

/// Starts the source in a task of its own: a signal does not lose sight of a container that is just being made.
async fn start(
    source: Source,
    engine: Option<Engine>,
    ui: &Reporter,
    stop: &CancellationToken,
    cancel: &CancellationToken,
) -> Result<Running> {
    let (shown, stopping) = (ui.clone(), stop.clone());
    let mut opening = tokio::spawn(async move { source.open(engine.as_ref(), &shown, &stopping).await });
    tokio::select! {
        biased;
        () = cancel.cancelled() => {}
        opened = &mut opening => return opened.map_err(|e| Error::failed("a worker died").because(e))?,
    }
    if let Ok(Ok(Ok(Running { stream, cleanup }))) = tokio::time::timeout(CLEANUP, opening).await {
        drop(stream);
        settle(cleanup, ui).await;
    }
    Err(Error::interrupted())
}

async fn settle(cleanup: JoinHandle<()>, ui: &Reporter) {
    if tokio::time::timeout(CLEANUP, cleanup).await.is_err() {
        ui.warn(
            "the source did not stop in time: `docker ps -a --filter label=sealift` shows what it left; \
             an engine that was stopped for it may be down, or its swarm locked (`docker swarm unlock`)",
        );
    }
}

/// One backup on its way.
struct Run {
    options: BackupOptions,
    budget: BudgetRequest,
    plan: MemoryBudget,
    stores: Vec<Arc<Store>>,
    chunks: crate::stream::pool::Pool<Vec<u8>>,
    passphrase: Option<SecretString>,
    /// The catalog's first record; the format is settled when the first bytes are there.
    record: ArchiveRecord,
    format: Option<Format>,
    expected: SourceChecks,
    clock: Instant,
    warnings: Vec<String>,
    counters: Arc<Counters>,
}

impl Run {
    /// Settles all that can be settled before anything is asked of anyone.
    fn prepare(task: Task, ui: &Reporter) -> Result<(Run, Source)> {
        let Task { source, options, format, facts, check, is_message, warnings, notes, set } = task;
        let expected = SourceChecks {
            allow_empty: options.allow_empty,
            check: check.and(options.check()?),
            strict: options.strict,
            is_message,
            warnings,
            notes,
            ..SourceChecks::default()
        };
        let job = options.job.clone().or_else(|| source.default_job()).ok_or_else(|| {
            Error::usage("this backup needs a name").hint("give --job NAME: its archives will lie under it")
        })?;
        let budget = options.budget()?;
        let used = options.to.iter().map(|to| options.store_options(to)).collect::<Result<Vec<_>>>()?;
        let stores = options.to.iter().zip(&used).map(|(to, used)| Store::create(to, used).map(Arc::new));
        let stores = stores.collect::<Result<Vec<_>>>()?;
        for (i, (store, used)) in stores.iter().zip(&used).enumerate() {
            if stores[..i].iter().any(|other| other.is_same(store)) {
                return Err(
                    Error::usage(format!("{} is given twice", store.name)).hint("name each store once")
                );
            }
            store.ineffective(used).iter().for_each(|option| {
                ui.warn(&format!("{option} has no effect at {}", store.name));
            });
        }
        let limits = stores.iter().map(|store| store.kind.limits()).reduce(|a, b| a.and(b));
        let plan = MemoryBudget::new(
            &budget,
            limits.ok_or_else(|| Error::usage("no store was given").hint("--to STORE"))?,
        )?;
        ui.detail(&format!(
            "up to {} of memory, {} frames at once; {}",
            human_bytes(plan.memory),
            plan.workers,
            largest(&plan)
        ));
        let passphrase = if options.no_encrypt {
            ui.warn("--no-encrypt: whoever can read the store can read this backup");
            None
        } else {
            let stdin_is_data = matches!(source, Source::Stdin);
            Some(passphrase::Sources { stdin_is_data, twice: true, ..options.passphrase.sources() }.read()?)
        };
        let cipher = passphrase.is_some().then_some(options.cipher);
        let started = jiff::Timestamp::now();
        let record = ArchiveRecord {
            format: FORMAT,
            id: Id::new(started)?,
            job,
            set: set.map(|set| set.to_string()),
            source: with_facts(source.describe(), facts),
            kind: Format::Raw,
            codec: budget.codec,
            cipher,
            frame_len: budget.frame_len,
            head_len: 0,
            started,
        };
        let counted = stores.iter().map(|store| (store.name.clone(), Arc::new(Counter::default())));
        let counters = Arc::new(Counters { stores: counted.collect(), ..Counters::default() });
        let chunks = block_pool(plan.chunks);
        let (clock, warnings) = (Instant::now(), Vec::new());
        let run = Run {
            options,
            budget,
            plan,
            stores,
            chunks,
            passphrase,
            record,
            format,
            expected,
            clock,
            warnings,
            counters,
        };
        Ok((run, source))
    }

    /// Before anything is started: is the engine there, and are the stores?
    async fn ready(&mut self, source: &Source, fan: &mut FanOut, ui: &Reporter) -> Result<Option<Engine>> {
        let engine = if source.needs_engine() { Some(Engine::connect().await?) } else { None };
        self.look_at(fan, ui).await?;
        Ok(engine)
    }

    /// Are the stores there, and does the newest archive open with this passphrase?
    async fn look_at(&mut self, fan: &mut FanOut, ui: &Reporter) -> Result<()> {
        for store in std::mem::take(&mut self.stores) {
            match store.newest(&self.record.job).await {
                Ok(newest) => {
                    if let Some(id) = newest {
                        self.compare_passphrase(&store, &id, ui).await;
                    }
                    self.stores.push(store);
                }
                Err(error) => fan.give_up(&store.name, error),
            }
        }
        fan.any_left(self.stores.len())
    }

    async fn compare_passphrase(&mut self, store: &Arc<Store>, id: &Id, ui: &Reporter) {
        let (Some(passphrase), job) = (&self.passphrase, &self.record.job) else { return };
        let head = async {
            let manifest = store.manifest(job, id).await?;
            let object = Object::open(store, store.key(job, id, &manifest.suffix)).await?;
            open::open_head(&object, passphrase).await
        };
        // It is another day's archive: whatever else is wrong with it is no matter of this backup.
        if head.await.is_err_and(|error| error.kind() == Kind::WrongPassphrase)
            && !self.options.warn_ok.contains(&WarnOk::Passphrase)
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
    async fn stream(&mut self, mut stream: ByteStream, fan: &mut FanOut, ui: &Reporter) -> Result<Sealed> {
        let look =
            tokio::task::spawn_blocking(move || Format::of(&mut stream).map(|format| (format, stream)));
        let (found, stream) = look.await.map_err(|e| Error::failed("a worker died").because(e))??;
        self.record.kind = self.format.unwrap_or(found);
        let suffix = self.suffix();
        let naming = ObjectName { job: &self.record.job, id: &self.record.id, suffix: &suffix };
        fan.begin(&self.stores, &naming, usize::from(self.options.parallel), &self.counters).await?;
        let options = SealOptions {
            archive: self.record.clone(),
            level: self.budget.level,
            passphrase: self.passphrase.clone(),
            expected: SourceChecks { format: self.record.kind, ..std::mem::take(&mut self.expected) },
            plan: self.plan.clone(),
            chunks: self.chunks.clone(),
        };
        let sealing = seal(stream, options, Arc::clone(&self.counters))?;
        let _tracking = ui.track("read", Arc::clone(&self.counters));
        fan.pump(sealing.archive, sealing.catalog, RateLimiter::new(self.options.limit_rate)).await?;
        sealing.sealed.await.map_err(|_| Error::failed("the catalog's thread died"))
    }

    fn suffix(&self) -> String {
        archive_suffix(self.record.kind, self.record.codec, self.record.cipher)
    }

    fn manifest(&self, sealed: &Sealed) -> Manifest {
        Manifest {
            format: FORMAT,
            id: self.record.id.clone(),
            job: self.record.job.clone(),
            set: self.record.set.clone(),
            kind: self.record.kind,
            suffix: self.suffix(),
            started: self.record.started,
            finished: sealed.end.finished,
            bytes: sealed.end.bytes,
            archive: (&sealed.archive).into(),
            catalog: (&sealed.catalog).into(),
            warnings: sealed.end.warnings.len() as u64,
            tool: concat!("sealift ", env!("CARGO_PKG_VERSION")).into(),
        }
    }

    fn report(&self, sealed: &Sealed, committed: &[String], failed: &[Failed], ui: &Reporter) -> Outcome {
        let end = &sealed.end;
        let accepts = |warning: &&Warning| accepts(&self.options.warn_ok, warning.kind);
        let (accepted, open): (Vec<_>, Vec<_>) = sealed.warnings.iter().partition(accepts);
        accepted.iter().for_each(|warning| ui.note(&warning.text));
        open.iter().for_each(|warning| ui.warn(&warning.text));
        end.notes.iter().for_each(|text| ui.note(text));
        for Failed { store, error } in failed {
            ui.warn(&format!("not at {store}: {error}"));
            error.hint_text().into_iter().for_each(|hint| ui.note(&format!("{store}: {hint}")));
        }
        let seconds = self.clock.elapsed().as_secs_f64();
        let (read, stored) = (end.bytes, sealed.archive.size + sealed.catalog.size);
        let ratio = read as f64 / stored.max(1) as f64;
        let rate = read as f64 / 1e6 / seconds.max(0.001);
        let name = format!("{}@{}", self.record.job, self.record.id);
        let text = format!(
            "sealed {name}: {} in, {} stored (ratio {ratio:.2}), {seconds:.1} s, {rate:.0} MB/s → {}",
            human_bytes(read),
            human_bytes(stored),
            committed.join(", "),
        );
        let warnings: Vec<_> = self.warnings.iter().chain(open.iter().map(|warning| &warning.text)).collect();
        let outcome = match warnings.is_empty() && failed.is_empty() {
            true => Outcome::Done,
            false => Outcome::Warned,
        };
        let failed: Vec<_> =
            failed.iter().map(|f| json!({"store": f.store, "error": f.error.to_string()})).collect();
        ui.summary(&text, json!({
            "event": "sealed", "job": self.record.job, "id": self.record.id, "bytes": read, "stored": stored,
            "ratio": ratio, "seconds": seconds, "mb_per_second": rate, "stores": committed, "failed": failed,
            "warnings": warnings, "notes": end.notes,
        }));
        outcome
    }
}

/// What the catalog says of a source, and what is known beside it.
fn with_facts(mut described: serde_json::Value, facts: serde_json::Value) -> serde_json::Value {
    if let (Some(described), serde_json::Value::Object(facts)) = (described.as_object_mut(), facts) {
        described.extend(facts);
    }
    described
}

fn largest(plan: &MemoryBudget) -> String {
    match plan.parts.largest_archive() {
        Some(bytes) => format!("the largest archive within that bound: {}", human_bytes(bytes)),
        None => "no limit on the archive's size".into(),
    }
}

/// Whether a warning of this kind is no reason for exit code 3.
fn accepts(warn_ok: &[WarnOk], kind: WarningKind) -> bool {
    match kind {
        WarningKind::Changed => warn_ok.contains(&WarnOk::Changed),
        WarningKind::DanglingLinks => warn_ok.contains(&WarnOk::Links),
        WarningKind::UnmetExpectation
        | WarningKind::TrailingBytes
        | WarningKind::Engine
        | WarningKind::Other => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_accepted_by_its_kind_alone() {
        let kinds = |warn_ok: &[WarnOk]| {
            let all = [
                WarningKind::Changed,
                WarningKind::DanglingLinks,
                WarningKind::UnmetExpectation,
                WarningKind::TrailingBytes,
                WarningKind::Engine,
                WarningKind::Other,
            ];
            all.into_iter().filter(|kind| accepts(warn_ok, *kind)).collect::<Vec<_>>()
        };
        assert_eq!(kinds(&[]), []);
        assert_eq!(kinds(&[WarnOk::Passphrase]), []);
        assert_eq!(kinds(&[WarnOk::Changed]), [WarningKind::Changed]);
        assert_eq!(kinds(&[WarnOk::Links]), [WarningKind::DanglingLinks]);
        assert_eq!(
            kinds(&[WarnOk::Links, WarnOk::Changed]),
            [WarningKind::Changed, WarningKind::DanglingLinks]
        );
    }
}
