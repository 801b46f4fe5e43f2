//! Jobs and sets of the settings file as plain requests, with what the command line says beside them.

use std::ffi::OsString;
use std::sync::Arc;

use clap::{Command, CommandFactory, FromArgMatches};

use super::command_line::our_error;
use super::{Config, Job, Setting, Table, defaults};
use crate::cli::{Backup, Cli, ExplicitArg, SetOptions};
use crate::error::{Error, Result};
use crate::host::passphrase::Secret;
use crate::job::Subject;
use crate::job::backup::BackupRequest;
use crate::job::set::SetRequest;
use crate::preset::Preset;

impl Config {
    /// What a job backs up, and how. Options that are `explicit` win over the job's own.
    ///
    /// # Errors
    /// There is no such job, it lacks something, or an option is wrong.
    pub fn job(&self, name: &str, explicit: &[ExplicitArg]) -> Result<(Subject, BackupRequest)> {
        let job = self.known_job(name)?;
        let root = Arc::new(self.store_names(Some(job))).known_to(Cli::command());
        let source = defaults::sources(&root).find(|source| source.get_name() == job.source);
        let source = source.ok_or_else(|| Error::usage(format!("{name:?} is no job")))?;
        let ids: Vec<_> = explicit.iter().map(|arg| arg.id.clone()).collect();
        let source = self.job_source(source.clone(), job, &ids);
        let options = explicit.iter().flat_map(|arg| arg.words.iter().cloned());
        let words = std::iter::once(OsString::from(&job.source)).chain(options);
        let backup = Command::new("backup").no_binary_name(true).subcommand(source);
        let matches = backup.try_get_matches_from(words).and_then(|m| Backup::from_arg_matches(&m));
        let backup = matches.map_err(|error| {
            our_error(&error).unwrap_or_else(|| {
                let (text, hint) = defaults::reason(&error);
                Error::usage(format!("job {name}: {text}"))
                    .hint(hint.unwrap_or_else(|| format!("see `sealift backup job {name} --help`")))
            })
        })?;
        backup.request()
    }

    /// The command of a job's source, with what the job and the file's top say as the defaults of its arguments.
    pub(super) fn job_source(&self, source: Command, job: &Job, explicit: &[String]) -> Command {
        self.with_defaults(source, &[&job.table, &job.named(), &self.top], explicit)
    }

    /// The settings that hold for a job, those of the file's top among them.
    pub fn in_force<'a>(&'a self, job: &'a Job) -> Vec<&'a Setting> {
        let root = Arc::new(self.store_names(Some(job))).known_to(Cli::command());
        let source = defaults::sources(&root).find(|source| source.get_name() == job.source);
        let own = job.table.settings.iter().filter(|setting| setting.gives());
        let force = source.map(|source| defaults::in_force(source, &[&job.table, &self.top], &[]));
        let top = force.into_iter().flatten().filter(|setting| job.table.get(&setting.key).is_none());
        own.chain(top).collect()
    }

    /// The command with what these tables give it, an earlier one first.
    pub(super) fn with_defaults(&self, command: Command, tables: &[&Table], explicit: &[String]) -> Command {
        let mut settings = defaults::in_force(&command, tables, explicit);
        let of_stores = defaults::store_command();
        // What differs from store to store goes with the store: see `StoreNames`.
        settings.retain(|setting| of_stores.get_arguments().all(|arg| *arg.get_id() != *setting.key));
        let overruled = |key: &str| Secret::of_setting(key).and_then(Secret::variable).is_some();
        settings.retain(|setting| !overruled(&setting.key));
        defaults::with_defaults(command, &settings)
    }
}

/// A job of a set: one of the settings, or a preset.
enum SetJob<'a> {
    Settings(&'a str, &'a Config),
    Preset(&'a Preset),
}

impl SetJob<'_> {
    /// The command of `backup` that it is.
    fn source(&self) -> &str {
        match self {
            SetJob::Settings(name, config) => config.source_of(name).unwrap_or_default(),
            SetJob::Preset(preset) => preset.job(),
        }
    }
}

/// The set that is built in.
const DOCKER_EE: &str = "docker-ee";

/// Options of the set itself, which no job knows.
const OF_THE_SET: &str = "keep_going";

/// A set: of the settings, or the one that is built in. Options that are `explicit` go to the jobs that have them.
///
/// # Errors
/// There is no such set; a job of it is wrong; no job has an option that was given.
pub fn set_request(
    set: SetOptions,
    explicit: Vec<ExplicitArg>,
    config: Option<&Config>,
) -> Result<SetRequest> {
    if set.options.job.is_some() {
        return Err(Error::usage("a set's jobs have their own names").hint("leave --job out"));
    }
    let (jobs, root) = (set_jobs(&set, config)?, Cli::command());
    let has = |job: &SetJob<'_>, arg: &ExplicitArg| defaults::has_option(&root, job.source(), &arg.id);
    let known = |arg: &&ExplicitArg| arg.id == OF_THE_SET || jobs.iter().any(|job| has(job, arg));
    if let Some(stray) = explicit.iter().find(|arg| !known(arg)) {
        let option = stray.id.replace('_', "-");
        return Err(Error::usage(format!("no job of set {} takes --{option}", set.name))
            .hint("leave it out; `sealift backup set --help` says whose option it is"));
    }
    let request = |job: &SetJob<'_>| match job {
        SetJob::Preset(preset) => {
            Ok((Subject::Preset(Preset::clone(preset)), set.options.clone().request()?))
        }
        SetJob::Settings(name, config) => {
            let own: Vec<_> = explicit.iter().filter(|arg| has(job, arg)).cloned().collect();
            config.job(name, &own)
        }
    };
    let jobs = jobs.iter().map(request).collect::<Result<_>>()?;
    Ok(SetRequest { name: set.name, jobs, keep_going: set.keep_going })
}

fn set_jobs<'a>(set: &'a SetOptions, config: Option<&'a Config>) -> Result<Vec<SetJob<'a>>> {
    if let Some((config, found)) = config.and_then(|config| Some((config, config.set(&set.name)?))) {
        return Ok(found.jobs.iter().map(|job| SetJob::Settings(job, config)).collect());
    }
    if set.name != DOCKER_EE {
        return Err(Error::usage(format!("there is no set {}", set.name)).hint(format!(
            "{DOCKER_EE} is built in; others stand in sealift.toml as [sets.NAME]: `sealift config --help`"
        )));
    }
    let job = |preset: &'a Preset| match config.filter(|config| config.source_of(preset.job()).is_some()) {
        Some(config) => SetJob::Settings(preset.job(), config),
        None => SetJob::Preset(preset),
    };
    Ok(set.presets.iter().map(job).collect())
}
