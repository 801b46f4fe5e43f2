//! The settings file: defaults for the command line, stores with names, jobs, sets and schedules.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::CommandFactory;

use crate::cli::Cli;
use crate::error::{Error, Result};
use crate::tell::Tell;

mod check;
mod command_line;
mod defaults;
mod file;
mod find;
mod init;
mod jobs;
mod keep;
mod schedules;
mod sets;
mod status;
mod stores;
mod tell;

pub use crate::cli::ExplicitArg;
pub use command_line::{ParseError, Parsed, read, store_of};
pub use file::{Problem, Setting, Table, toml_key, toml_value};
pub use find::{find, no_file};
pub use init::settings_for;
pub use schedules::{Entry, HOOKS, Hooks};
pub use sets::set_request;
use stores::StoreNames;
use tell::Told;

/// A settings file that was read.
#[derive(Debug)]
pub struct Config {
    path: PathBuf,
    text: String,
    top: Table,
    stores: Vec<(String, Table)>,
    jobs: Vec<Job>,
    sets: Vec<(String, Set)>,
    schedules: Vec<(String, Table)>,
    told: Vec<Told>,
}

/// A source with its options.
#[derive(Debug)]
pub struct Job {
    /// Its name, and unless it has a `job` of its own that of its archives.
    pub name: String,
    /// The command of `backup` that it is.
    pub source: String,
    /// What stands in the file; without `source`.
    pub table: Table,
}

/// Jobs that belong together, in their order.
#[derive(Debug)]
pub struct Set {
    /// Names of jobs that exist, each once.
    pub jobs: Vec<String>,
    /// What stands in the file.
    pub table: Table,
}

impl Config {
    /// Reads a file in which everything is right.
    ///
    /// # Errors
    /// The first thing that is wrong in it.
    pub fn open(path: PathBuf) -> Result<Config> {
        let (config, problems) = Config::load(path)?;
        match &problems[..] {
            [] => Ok(config),
            [first] => Err(first.error(&config.path)),
            [first, rest @ ..] => {
                let error = first.error(&config.path);
                let hint = error.hint_text().unwrap_or_default().to_string();
                Err(error.hint(format!("{hint} ({} more: `sealift config check`)", rest.len())))
            }
        }
    }

    /// Reads a file, and all that is wrong in it.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn load(path: PathBuf) -> Result<(Config, Vec<Problem>)> {
        let text = std::fs::read_to_string(&path).map_err(|e| {
            Error::usage(format!("cannot read the settings file {}", path.display()))
                .because(e)
                .hint("may this user read it?")
        })?;
        let mut problems = Vec::new();
        let config = Config::from_text(path, &text, &mut problems);
        problems.sort_by_key(|problem| problem.line);
        Ok((config, problems))
    }

    fn from_text(path: PathBuf, text: &str, problems: &mut Vec<Problem>) -> Config {
        let tables = file::read(text, problems);
        let mut config = Config {
            path,
            text: text.into(),
            top: tables.top,
            stores: tables.stores,
            jobs: Vec::new(),
            sets: Vec::new(),
            schedules: tables.schedules,
            told: Vec::new(),
        };
        config.stores.iter().for_each(|(name, table)| check::store(name, table, problems));
        let root = Arc::new(config.store_names(None)).known_to(Cli::command());
        check::top(&root, &config.top, problems);
        // A job that is not right is a job all the same: a set that names it has no error.
        let names: Vec<_> = tables.jobs.iter().map(|(name, _)| name.clone()).collect();
        let jobs = tables.jobs.into_iter();
        config.jobs = jobs.filter_map(|(name, table)| check::job(&root, name, table, problems)).collect();
        let sets = tables.sets.into_iter();
        let sets = sets.map(|(name, table)| {
            let set = check::set(&name, &names, table, problems);
            (name, set)
        });
        config.sets = sets.collect();
        let of_kinds = tell::KINDS.into_iter().zip([tables.pings, tables.webhooks, tables.mails]);
        let told = |(kind, named): (_, Vec<_>)| {
            named.into_iter().map(move |(name, table)| Told { kind, name, table })
        };
        config.told = of_kinds.flat_map(told).collect();
        config.read_tell(problems);
        let stores: Vec<_> = config.stores.iter().map(|(name, _)| name.as_str()).collect();
        let tables =
            config.jobs.iter().map(|job| &job.table).chain(config.sets.iter().map(|(_, set)| &set.table));
        problems.extend(tables.chain([&config.top]).filter_map(|table| keep::unknown_store(table, &stores)));
        config.schedules.iter().for_each(|(name, table)| check::schedule(name, table, problems));
        let wrong: Vec<_> = config.schedule_problems(false);
        problems.extend(wrong);
        config
    }

    /// Files that the settings name and that cannot be read.
    pub fn missing_files(&self) -> Vec<Problem> {
        let root = Cli::command();
        let mut found: Vec<_> = check::missing_files(&defaults::verbs(&root), &self.top).collect();
        for job in &self.jobs {
            let source: Vec<_> =
                defaults::sources(&root).filter(|source| source.get_name() == job.source).collect();
            found.extend(check::missing_files(&source, &job.table));
        }
        found.extend(self.told.iter().flat_map(|told| tell::missing_files(&told.table)));
        found
    }

    /// Who is told of runs, and how often they are expected; without those in whose table something is wrong.
    pub fn tell(&self) -> Tell {
        let mut tell = self.read_tell(&mut Vec::new());
        for entry in self.entries() {
            if let Some(interval) = entry.interval() {
                tell.expect(entry.verb(), &entry.name, interval);
            }
        }
        tell
    }

    fn read_tell(&self, problems: &mut Vec<Problem>) -> Tell {
        let jobs = self.jobs.iter().map(|job| job.name.as_str());
        let sets = self.sets.iter().map(|(name, _)| name.as_str());
        let schedules = self.schedules.iter().map(|(name, _)| name.as_str());
        let known: Vec<_> = jobs.chain(sets).chain(schedules).collect();
        tell::tell(&self.told, &self.top, &known, problems)
    }

    /// The tables that say who is told: pings, webhooks, mail.
    pub fn told(&self) -> &[Told] {
        &self.told
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What stands in it, as it was read.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What stands at the top.
    pub fn top(&self) -> &Table {
        &self.top
    }

    /// The stores, in the file's order.
    pub fn stores(&self) -> &[(String, Table)] {
        &self.stores
    }

    /// The jobs, in the file's order.
    pub fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    /// The sets, in the file's order.
    pub fn sets(&self) -> &[(String, Set)] {
        &self.sets
    }

    /// The schedules of what is no job and no set, in the file's order.
    pub fn schedules(&self) -> &[(String, Table)] {
        &self.schedules
    }

    /// A set by its name.
    pub fn set(&self, name: &str) -> Option<&Set> {
        self.sets.iter().find(|(known, _)| known == name).map(|(_, set)| set)
    }

    /// The source of a job: the command of `backup` that it is; none where there is no such job.
    pub fn source_of(&self, name: &str) -> Option<&str> {
        self.jobs.iter().find(|job| job.name == name).map(|job| job.source.as_str())
    }

    fn known_job(&self, name: &str) -> Result<&Job> {
        self.jobs.iter().find(|job| job.name == name).ok_or_else(|| {
            let names: Vec<_> = self.jobs.iter().map(|job| job.name.as_str()).collect();
            Error::usage(format!("there is no job {name} in {}", self.path.display()))
                .hint(check::suggestion(name, &names))
        })
    }

    /// The stores by their names; for a job with what it says of all its stores.
    fn store_names(&self, job: Option<&Job>) -> StoreNames {
        let stores = self.stores.iter().filter_map(|(name, table)| {
            let url = table.get("url")?.value.as_str()?.to_string();
            Some((name.clone(), url, stores::store_flags(&table.settings)))
        });
        StoreNames {
            stores: stores.collect(),
            job: job.map(|job| stores::store_flags(&job.table.settings)).unwrap_or_default(),
            top: stores::store_flags(&self.top.settings),
        }
    }
}

impl Job {
    /// The job's own name as that of its archives, where it has no `job`.
    fn named(&self) -> Table {
        let name = Setting { key: "job".into(), value: self.name.clone().into(), line: self.table.line };
        Table { title: self.table.title.clone(), line: self.table.line, settings: vec![name] }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Reads a file's text, and what is wrong in it.
    pub fn config(text: &str) -> (Config, Vec<Problem>) {
        let mut problems = Vec::new();
        let config = Config::from_text("test.toml".into(), text, &mut problems);
        (config, problems)
    }

    #[test]
    fn what_a_line_must_say_itself_is_no_setting() {
        for text in
            ["to_stdout = true", "volumes = [\"v\"]", "job = \"x\"", "config = \"x\"", "archive = \"x\""]
        {
            let (_, problems) = config(text);
            assert_eq!(problems.len(), 1, "{text}");
        }
        assert_eq!(config("[jobs.a]\nsource = \"stdin\"\n[sets.\"../x\"]\njobs = [\"a\"]\n").1.len(), 1);
        let hint = |text: &str| config(text).1.remove(0).hint.unwrap_or_default();
        assert!(
            hint("[jobs.dtr]\nsource = \"dtr\"\nucp_password = \"x\"").starts_with("ucp_password_file or")
        );
        assert_eq!(config("overwrite = true\nlevel = -3\nwarn_ok = [\"changed\"]\n").1, []);
    }
}
