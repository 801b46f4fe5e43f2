//! `backup dtr`, `backup set`: several archives in order, under one set id.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::backup::{Made, Outcome, Task, backup};
use super::until;
use crate::archive::Id;
use crate::archive::catalog::FORMAT;
use crate::cli::{BackupOptions, Subject};
use crate::config::{Config, ExplicitArg, has_option};
use crate::docker::Engine;
use crate::error::{Error, Result};
use crate::host::passphrase::Sources;
use crate::preset::{Component, Preset, public_metadata};
use crate::report::Reporter;
use crate::source::Source;
use crate::store::Store;
use crate::store::set::{Member, SetManifest, SetRef};

/// A set to be backed up.
pub struct Set {
    /// Its name.
    pub name: String,
    /// Its jobs, in order, each with how it is to be made.
    pub jobs: Vec<(Subject, BackupOptions)>,
    /// Go on with the next job when one has failed.
    pub keep_going: bool,
}

/// The set that is built in, its jobs in the order that the vendor's documents give.
const DOCKER_EE: &str = "docker-ee";

/// How long the containers of an engine that was restarted may take to run again.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_secs(1);

/// What `backup set` was told.
pub struct SetRequest {
    /// The set's name.
    pub name: String,
    /// How the built-in set's jobs are made, where the settings do not say it.
    pub options: BackupOptions,
    /// The built-in set's jobs, in order.
    pub presets: Vec<Preset>,
    /// Go on when a job has failed.
    pub keep_going: bool,
    /// The options that were given, for the jobs of the settings.
    pub given: Vec<ExplicitArg>,
}

/// Options of the set itself, which no job knows.
const OWN: &str = "keep_going";

/// A job of a set: one of the settings, or a preset.
enum Named<'a> {
    Job(&'a str, &'a Config),
    Preset(&'a Preset),
}

impl Named<'_> {
    /// The command of `backup` that it is.
    fn source(&self) -> &str {
        match self {
            Named::Job(name, config) => config.source_of(name).unwrap_or_default(),
            Named::Preset(preset) => preset.job(),
        }
    }
}

impl SetRequest {
    /// The set: of the settings, or the one that is built in.
    ///
    /// # Errors
    /// There is no such set; a job of it is wrong; no job has an option that was given.
    pub fn find(self, config: Option<&Config>) -> Result<Set> {
        if self.options.job.is_some() {
            return Err(Error::usage("a set's jobs have their own names").hint("leave --job out"));
        }
        let jobs = self.jobs(config)?;
        let known = |given: &&ExplicitArg| {
            given.id == OWN || jobs.iter().any(|job| has_option(job.source(), &given.id))
        };
        if let Some(stray) = self.given.iter().find(|given| !known(given)) {
            let option = stray.id.replace('_', "-");
            return Err(Error::usage(format!("no job of set {} takes --{option}", self.name))
                .hint("leave it out; `sealift backup set --help` says whose option it is"));
        }
        let jobs = jobs.iter().map(|job| self.job(job)).collect::<Result<_>>()?;
        Ok(Set { name: self.name, jobs, keep_going: self.keep_going })
    }

    fn jobs<'a>(&'a self, config: Option<&'a Config>) -> Result<Vec<Named<'a>>> {
        if let Some((config, set)) = config.and_then(|config| Some((config, config.set(&self.name)?))) {
            return Ok(set.jobs.iter().map(|job| Named::Job(job, config)).collect());
        }
        if self.name != DOCKER_EE {
            return Err(Error::usage(format!("there is no set {}", self.name))
                .hint(format!("{DOCKER_EE} is built in; others stand in sealift.toml as [sets.NAME]: `sealift config --help`")));
        }
        let named =
            |preset: &'a Preset| match config.filter(|config| config.source_of(preset.job()).is_some()) {
                Some(config) => Named::Job(preset.job(), config),
                None => Named::Preset(preset),
            };
        Ok(self.presets.iter().map(named).collect())
    }

    /// A job with those of the given options that it has.
    fn job(&self, job: &Named<'_>) -> Result<(Subject, BackupOptions)> {
        match job {
            Named::Preset(preset) => Ok((Subject::Preset(Preset::clone(preset)), self.options.clone())),
            Named::Job(name, config) => {
                let given = self.given.iter().filter(|given| has_option(job.source(), &given.id));
                config.job(name, &given.flat_map(|given| given.words.clone()).collect::<Vec<_>>())
            }
        }
    }
}

/// Backs up a preset by itself: where it has more than one archive, they are a set.
pub async fn preset(
    preset: Preset,
    options: BackupOptions,
    ui: &Reporter,
    cancel: &CancellationToken,
) -> Result<Outcome> {
    let name = options.job.clone().unwrap_or_else(|| preset.job().into());
    let set = Set { name, jobs: vec![(Subject::Preset(preset), options)], keep_going: false };
    let mut run = Run::new(set, ui)?;
    let parts = until(cancel, run.tasks(0)).await?;
    // One archive needs no set to be found by.
    if let [_] = parts[..] {
        let task = parts.into_iter().next().map(|task| Task { set: None, ..task });
        return Ok(backup(task.ok_or_else(Error::disconnected)?, ui, cancel).await?.outcome);
    }
    run.backup(parts, cancel).await;
    run.finish().await
}

/// Backs up a set.
///
/// # Errors
/// The first failure of a member; what the others made stays, and the set is listed as incomplete.
pub async fn set(set: Set, ui: &Reporter, cancel: &CancellationToken) -> Result<Outcome> {
    let mut run = Run::new(set, ui)?;
    for job in 0..run.set.jobs.len() {
        if run.is_over() || cancel.is_cancelled() {
            run.leave_out(run.job(job));
            continue;
        }
        match until(cancel, run.tasks(job)).await {
            Ok(tasks) => run.backup(tasks, cancel).await,
            Err(error) => run.failed(run.job(job), error),
        }
    }
    run.finish().await
}

/// Asks for every secret once, and finds what is missing before the first backup.
fn settle(jobs: &mut [(Subject, BackupOptions)]) -> Result<()> {
    for job in 0..jobs.len() {
        let (before, rest) = jobs.split_at_mut(job);
        let (subject, options) = &mut rest[0];
        if let Subject::Preset(preset) = subject {
            if options.no_encrypt && preset.is_secret() {
                return Err(Error::usage(
                    "--with-unlock-key and --no-encrypt would store the key in the clear",
                )
                .hint("leave one of them out"));
            }
            preset.resolve_secrets()?;
        }
        if options.no_encrypt {
            continue;
        }
        let same = before
            .iter()
            .find(|(_, known)| !known.no_encrypt && known.passphrase.same_as(&options.passphrase));
        let passphrase = match same {
            Some((_, known)) => known.passphrase.sources().read()?,
            None => Sources { twice: true, ..options.passphrase.sources() }.read()?,
        };
        options.passphrase.settle(passphrase);
    }
    Ok(())
}

/// A set on its way.
struct Run<'a> {
    set: Set,
    id: SetRef,
    started: jiff::Timestamp,
    members: Vec<Member>,
    warned: bool,
    /// A job has stopped and started the engine.
    restarted: bool,
    /// The first failure.
    failure: Option<Error>,
    ui: &'a Reporter,
}

impl<'a> Run<'a> {
    fn new(mut set: Set, ui: &'a Reporter) -> Result<Self> {
        settle(&mut set.jobs)?;
        let started = jiff::Timestamp::now();
        let id = SetRef { name: set.name.clone(), id: Id::new(started)? };
        Ok(Run { set, id, started, members: Vec::new(), warned: false, restarted: false, failure: None, ui })
    }

    fn job(&self, job: usize) -> String {
        let (subject, options) = &self.set.jobs[job];
        let by_itself = || match subject {
            Subject::Preset(preset) => Some(preset.job().into()),
            Subject::Source(source) => source.default_job(),
        };
        options.job.clone().or_else(by_itself).unwrap_or_else(|| format!("job {}", job + 1))
    }

    /// Whether nothing more is to be begun.
    fn is_over(&self) -> bool {
        self.failure.is_some() && !self.set.keep_going
    }

    /// What is to be made for a job. Looked up when its turn comes: the engine may have been restarted since.
    async fn tasks(&self, job: usize) -> Result<Vec<Task>> {
        let (subject, options) = &self.set.jobs[job];
        let set = Some(self.id.clone());
        match subject {
            Subject::Source(source) => Ok(vec![Task { set, ..Task::new(source.clone(), options.clone()) }]),
            Subject::Preset(preset) => {
                let parts = self.parts(preset).await?;
                Ok(parts.into_iter().map(|part| self.task(self.job(job), part, options)).collect())
            }
        }
    }

    /// Looks at the node. An engine that a job before has stopped starts its containers one after the other.
    async fn parts(&self, preset: &Preset) -> Result<Vec<Component>> {
        let began = Instant::now();
        loop {
            let looked = async { preset.components(&Engine::connect().await?, self.ui).await };
            match looked.await {
                Err(_) if self.restarted && began.elapsed() < PATIENCE => tokio::time::sleep(PAUSE).await,
                looked => return looked,
            }
        }
    }

    fn task(&self, job: String, component: Component, options: &BackupOptions) -> Task {
        let mut options = options.clone();
        options.job = Some(component.name.map_or(job.clone(), |name| format!("{job}/{name}")));
        Task {
            source: component.source,
            options,
            format: component.format,
            facts: component.metadata.to_json(),
            check: component.check,
            is_message: component.is_message,
            warnings: component.warnings,
            notes: component.notes,
            set: Some(self.id.clone()),
        }
    }

    /// Makes the archives of a job, unless one before them failed.
    async fn backup(&mut self, tasks: Vec<Task>, cancel: &CancellationToken) {
        for task in tasks {
            let job = task.options.job.clone().or_else(|| task.source.default_job()).unwrap_or_default();
            if self.is_over() || cancel.is_cancelled() {
                self.leave_out(job);
                continue;
            }
            self.restarted |= matches!(task.source, Source::Folder { stop: Some(_), .. });
            let facts = public_metadata(&task.facts);
            match backup(task, self.ui, cancel).await {
                Ok(Made { outcome, job, id }) => {
                    self.warned |= outcome == Outcome::Warned;
                    let outcome = if outcome == Outcome::Warned { "warned" } else { "made" };
                    self.members.push(Member { id: Some(id), facts, ..Member::without(job, outcome) });
                }
                Err(error) => self.failed(job, error),
            }
        }
    }

    fn leave_out(&mut self, job: String) {
        self.ui.warn(&format!("{job} is left out: {} is incomplete already", self.id));
        self.members.push(Member::without(job, "left out"));
    }

    fn failed(&mut self, job: String, error: Error) {
        self.members.push(Member::without(job.clone(), "failed"));
        let error = error.context(format!("{job} failed"));
        match self.failure {
            None => self.failure = Some(error),
            Some(_) => self.ui.error(&error),
        }
    }

    /// Says at every store how the set ended.
    async fn finish(self) -> Result<Outcome> {
        let complete = self.failure.is_none() && self.members.iter().all(|member| member.id.is_some());
        let manifest = SetManifest {
            format: FORMAT,
            set: self.id.name.clone(),
            id: self.id.id.clone(),
            started: self.started,
            finished: jiff::Timestamp::now(),
            complete,
            members: self.members,
            tool: concat!("sealift ", env!("CARGO_PKG_VERSION")).into(),
        };
        let mut warned = self.warned;
        for error in put_everywhere(&self.set.jobs, &manifest).await {
            self.ui.warn(&error.to_string());
            warned = true;
        }
        let (made, all) =
            (manifest.members.iter().filter(|m| m.id.is_some()).count(), manifest.members.len());
        let event = json!({"event": "set", "set": manifest.set, "id": manifest.id, "complete": complete, "members": manifest.members});
        let state = if complete { "complete" } else { "INCOMPLETE" };
        self.ui.summary(&format!("set {}: {state}, {made} of {all} archives", self.id), event);
        match self.failure {
            Some(error) => Err(error.or_hint(format!("set {} is incomplete: run it again", self.id))),
            // A signal that came while a member was committed let that one end, and left out the rest.
            None if !complete => Err(Error::interrupted()),
            None if warned => Ok(Outcome::Warned),
            None => Ok(Outcome::Done),
        }
    }
}

/// To each store that any job of the set uses, once.
async fn put_everywhere(jobs: &[(Subject, BackupOptions)], manifest: &SetManifest) -> Vec<Error> {
    let mut stores: Vec<Store> = Vec::new();
    let mut errors = Vec::new();
    for (_, options) in jobs {
        for to in &options.to {
            match options.store_options(to).and_then(|used| Store::create(to, &used)) {
                Ok(store) if stores.iter().any(|known| known.is_same(&store)) => {}
                Ok(store) => {
                    errors.extend(store.put_set(manifest).await.err());
                    stores.push(store);
                }
                Err(error) => errors.push(error),
            }
        }
    }
    errors
}
