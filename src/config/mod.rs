//! The settings file: defaults for the command line, stores with names, jobs and sets.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Command, CommandFactory, FromArgMatches};

use crate::cli::{BackupOptions, Cli, Subject, Verb, View};
use crate::error::{Context, Error, Result};
use crate::preset::secret_of_setting;

mod check;
mod defaults;
mod file;

pub use defaults::{ExplicitArg, has_option};
use defaults::{Prescan, StoreNames};
pub use file::{Problem, Setting, Table, toml_key, toml_value};

/// Verbs that have no settings, or look at the file by themselves.
const WITHOUT: [&str; 2] = ["config", "completions"];

/// A settings file that was read.
#[derive(Debug)]
pub struct Config {
    path: PathBuf,
    top: Table,
    stores: Vec<(String, Table)>,
    jobs: Vec<Job>,
    sets: Vec<(String, Set)>,
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

/// What the command line and the settings say together.
#[derive(Debug)]
pub struct Parsed {
    /// What to do.
    pub cli: Cli,
    /// The settings file that was used.
    pub config: Option<Config>,
    /// The options that were given on the line to what is to be done, without those that every verb has.
    pub given: Vec<ExplicitArg>,
}

/// Why there is nothing to do.
#[derive(Debug)]
pub enum ParseError {
    /// The words are wrong, or ask for help.
    Words(clap::Error),
    /// The settings are wrong, or a word is that the settings give a meaning to.
    Settings(Error, View),
}

/// Reads the command line, with the settings file for what it does not say.
///
/// # Errors
/// One of them is wrong, or help was asked for.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Parsed, ParseError> {
    let words = one_verb(words.into_iter().collect());
    let Some(look) = Prescan::at(&words) else {
        let (cli, given) = read(None, None, &words)?;
        return Ok(Parsed { cli, config: None, given });
    };
    let config = match WITHOUT.contains(&look.path()[0]) {
        true => None,
        false => match find(look.config.as_deref()).and_then(|path| path.map(Config::open).transpose()) {
            Ok(config) => config,
            // Help that shows no defaults of the file's is better than none.
            Err(_) if look.help => None,
            Err(error) => return Err(ParseError::Settings(error, look.view)),
        },
    };
    let (cli, given) = read(config.as_ref(), Some(&look), &words)?;
    Ok(Parsed { cli, config, given })
}

/// `restore set`, which looks like an archive named `set`, is a verb of its own.
fn one_verb(mut words: Vec<OsString>) -> Vec<OsString> {
    const VERB: &str = "restore-set";
    let root = Cli::command();
    let Some(verb) = defaults::first_word(&words, 1, &[&root]).filter(|&at| words[at] == "restore") else {
        return words;
    };
    let of_verb: Vec<_> = root.find_subcommand(VERB).into_iter().chain([&root]).collect();
    if let Some(set) = defaults::first_word(&words, verb + 1, &of_verb).filter(|&at| words[at] == "set") {
        words.remove(set);
        words[verb] = VERB.into();
    }
    words
}

/// The settings file: the one that is named, or the first that is there.
///
/// # Errors
/// The one that is named is not there.
pub fn find(named: Option<&Path>) -> Result<Option<PathBuf>> {
    match named {
        Some(file) if file.exists() => Ok(Some(file.into())),
        Some(file) => Err(Error::usage(format!("there is no settings file {}", file.display()))
            .hint("--config and SEALIFT_CONFIG name a file that is there")),
        None => places().into_iter().find(|place| place.exists()).map(trusted).transpose(),
    }
}

/// A file that nobody named must not be anybody's: it can name commands to run.
fn trusted(file: PathBuf) -> Result<PathBuf> {
    let meta = std::fs::metadata(&file).context(|| format!("cannot look at {}", file.display()))?;
    let own = [0, rustix::process::geteuid().as_raw()].contains(&meta.uid());
    match own && meta.mode() & 0o002 == 0 {
        true => Ok(file),
        false => Err(Error::usage(format!("{} may have been written by somebody else", file.display()))
            .hint("it can name commands to run: name it by --config if you trust it, or change its owner and mode")),
    }
}

/// Where a settings file is looked for.
pub fn places() -> Vec<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let own = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")));
    let own = own.map(|own| own.join("sealift/sealift.toml"));
    [Some("sealift.toml".into()), own, Some("/etc/sealift/sealift.toml".into())]
        .into_iter()
        .flatten()
        .collect()
}

/// Reads the words strictly, with the settings as defaults.
fn read(
    config: Option<&Config>,
    look: Option<&Prescan>,
    words: &[OsString],
) -> Result<(Cli, Vec<ExplicitArg>), ParseError> {
    let settings = |error: Error| match look {
        Some(look) => ParseError::Settings(error, look.view.clone()),
        None => ParseError::Words(Cli::command().error(clap::error::ErrorKind::ValueValidation, error)),
    };
    let job = match look.and_then(|look| look.job.as_deref()) {
        Some(name) => match config {
            Some(config) => Some(config.known_job(name).map_err(settings)?),
            None if look.is_some_and(|look| look.help) => None,
            None => return Err(settings(no_file(&format!("no job {name}")))),
        },
        None => None,
    };
    let mut command = command(config, look, job);
    let matches = command.try_get_matches_from_mut(words).map_err(|error| match our_error(&error) {
        Some(ours) => settings(ours),
        None => ParseError::Words(error),
    })?;
    if let Some(job) = job
        && let Some(("backup", backup)) = matches.subcommand()
        && let Some((_, source)) = backup.subcommand()
        && let Some(found) = command.find_subcommand("backup").and_then(|b| b.find_subcommand(&job.source))
        && let Some(stray) = defaults::unexpected_positional(found, source)
    {
        let error = Error::usage(format!("unexpected {stray:?}: a job's words stand in the settings file"));
        return Err(settings(error.hint("options alone can be given after its name")));
    }
    let given = defaults::given(&command, &matches);
    let cli =
        Cli::from_arg_matches(&matches).map_err(|error| ParseError::Words(error.format(&mut command)))?;
    Ok((cli, given))
}

/// The command line as it is understood with these settings.
fn command(config: Option<&Config>, look: Option<&Prescan>, job: Option<&Job>) -> Command {
    let names = Arc::new(config.map(|config| config.store_names(job)).unwrap_or_default());
    let command = names.known_to(Cli::command());
    let (Some(config), Some(look)) = (config, look) else { return command };
    let command = config.with_defaults(command, &[&config.top], look);
    let mut path = look.path();
    let Some(job) = job else {
        return defaults::edit(command, &path, &mut |verb| config.with_defaults(verb, &[&config.top], look));
    };
    path[1] = &job.source;
    let named = job.named();
    let command = defaults::edit(command, &path, &mut |source| {
        config.with_defaults(source, &[&job.table, &named, &config.top], look)
    });
    defaults::edit(command, &path[..1], &mut |backup| defaults::with_job(backup, &job.source))
}

/// An error of ours that clap found where it let us read a value: it has its hint, and shows no value that it must not.
fn our_error(error: &clap::Error) -> Option<Error> {
    let ours = std::error::Error::source(error)?.downcast_ref::<Error>()?.clone();
    match error.get(clap::error::ContextKind::InvalidArg) {
        Some(arg) => Some(ours.context(arg.to_string()).or_hint("see --help")),
        None => Some(ours),
    }
}

/// That there is none: no job, nothing to show.
pub fn no_file(so: &str) -> Error {
    let places = places().iter().map(|place| place.display().to_string()).collect::<Vec<_>>();
    Error::usage(format!("there is no settings file, so {so}"))
        .hint(format!("make one of {}, or name one by --config", places.join(", ")))
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
        let mut config =
            Config { path, top: tables.top, stores: tables.stores, jobs: Vec::new(), sets: Vec::new() };
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
        config
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
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

    /// A set by its name.
    pub fn set(&self, name: &str) -> Option<&Set> {
        self.sets.iter().find(|(known, _)| known == name).map(|(_, set)| set)
    }

    /// What a job backs up, and how. `more` are options as they could follow `backup job NAME`; they win over
    /// the job's own.
    ///
    /// # Errors
    /// There is no such job, it lacks something, or an option is wrong.
    pub fn job(&self, name: &str, more: &[OsString]) -> Result<(Subject, BackupOptions)> {
        let line = ["sealift", "backup", "job", name].map(OsString::from);
        let line = [&line[..], more].concat();
        let look = Prescan::at(&line);
        let (cli, _) = read(Some(self), look.as_ref(), &line).map_err(|refusal| match refusal {
            ParseError::Settings(error, _) => error,
            ParseError::Words(error) => {
                let (text, hint) = defaults::reason(&error);
                Error::usage(format!("job {name}: {text}"))
                    .hint(hint.unwrap_or_else(|| format!("see `sealift backup job {name} --help`")))
            }
        })?;
        match cli.verb {
            Verb::Backup(backup) => backup.resolve(),
            _ => Err(Error::usage(format!("{name:?} is no job"))),
        }
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
            Some((name.clone(), url, defaults::store_flags(&table.settings)))
        });
        StoreNames {
            stores: stores.collect(),
            job: job.map(|job| defaults::store_flags(&job.table.settings)).unwrap_or_default(),
            top: defaults::store_flags(&self.top.settings),
        }
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
    fn with_defaults(&self, command: Command, tables: &[&Table], look: &Prescan) -> Command {
        let mut settings = defaults::in_force(&command, tables, look.given());
        let of_stores = defaults::store_command();
        // What differs from store to store goes with the store: see `StoreNames`.
        settings.retain(|setting| of_stores.get_arguments().all(|arg| *arg.get_id() != *setting.key));
        let overruled = |key: &str| secret_of_setting(key).and_then(|secret| secret.variable()).is_some();
        settings.retain(|setting| !overruled(&setting.key));
        defaults::with_defaults(command, &settings)
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
mod tests {
    use super::*;
    use crate::source::Source;

    fn config(text: &str) -> (Config, Vec<Problem>) {
        let mut problems = Vec::new();
        let config = Config::from_text("test.toml".into(), text, &mut problems);
        (config, problems)
    }

    const TWO: &str = "to = \"near\"\nretry_for = \"9m\"\nstorage_class = \"TOP\"\n\
        [stores.near]\nurl = \"memory:///near\"\nretry_for = \"7m\"\n\
        [stores.far]\nurl = \"memory:///far\"\nstorage_class = \"FAR\"\n\
        [jobs.a]\nsource = \"volume\"\nvolumes = [\"v\", \"w\"]\nallow_empty = true\n\
        [jobs.b]\nsource = \"exec\"\ncontainer = \"db\"\ncommand = [\"dump\", \"-U\", \"x\"]\nto = [\"near\", \"far\"]\n\
        storage_class = \"JOB\"\nparallel = 2\n\
        [sets.night]\njobs = [\"b\", \"a\"]\n";

    #[test]
    fn a_job_is_a_source_and_its_options() {
        let (config, problems) = config(TWO);
        assert_eq!(problems, []);
        let (source, options) = config.job("a", &[]).unwrap();
        assert!(matches!(source, Subject::Source(Source::Volume(names)) if names == ["v", "w"]));
        assert!(options.allow_empty && options.parallel == 4);
        assert_eq!(options.job.as_deref(), Some("a"));
        let (source, options) = config.job("b", &["--parallel".into(), "3".into()]).unwrap();
        let Subject::Source(Source::Exec { container, command }) = source else { panic!("no exec") };
        assert_eq!((container.as_str(), command.join(" ").as_str()), ("db", "dump -U x"));
        assert_eq!(options.parallel, 3);
        assert_eq!(config.set("night").unwrap().jobs, ["b", "a"]);
        assert!(config.set("day").is_none());
        assert_eq!(config.job("c", &[]).unwrap_err().kind().exit_code(), 2);
        assert_eq!(config.job("a", &["--levle".into()]).unwrap_err().kind().exit_code(), 2);
    }

    #[test]
    fn a_stores_options_are_its_own() {
        let (config, _) = config(TWO);
        let used = |job: &str, more: &[&str]| {
            let more: Vec<OsString> = more.iter().map(OsString::from).collect();
            let (_, options) = config.job(job, &more).unwrap();
            let used = options.to.iter().map(|to| {
                let used = options.store_options(to).unwrap();
                (
                    to.as_str().to_string(),
                    used.storage_class.unwrap_or_default(),
                    used.retry_for.as_secs() / 60,
                )
            });
            used.collect::<Vec<_>>()
        };
        let expected = |url: &str, class: &str, minutes: u64| (url.to_string(), class.to_string(), minutes);
        assert_eq!(used("a", &[]), [expected("memory:///near", "TOP", 7)]);
        assert_eq!(used("a", &["--to", "far"]), [expected("memory:///far", "FAR", 9)]);
        assert_eq!(
            used("b", &[]),
            [expected("memory:///near", "JOB", 7), expected("memory:///far", "JOB", 9)]
        );
        let given = used("b", &["--storage-class", "FLAG", "--retry-for", "1m", "--to", "memory:///x"]);
        assert_eq!(given, [expected("memory:///x", "FLAG", 1)]);
    }

    #[test]
    fn restore_set_is_a_verb_only_where_restore_is_one() {
        let read = |line: &str| one_verb(line.split(' ').map(OsString::from).collect()).join(" ".as_ref());
        for (line, meant) in [
            ("sealift restore set x --plan", "sealift restore-set x --plan"),
            ("sealift --config f restore set x", "sealift --config f restore-set x"),
            ("sealift restore --from y set x --plan", "sealift restore-set --from y x --plan"),
            ("sealift restore --from=y --no-encrypt set x", "sealift restore-set --from=y --no-encrypt x"),
        ] {
            assert_eq!(read(line), meant);
        }
        for line in [
            "sealift backup exec db tool restore set",
            "sealift --config restore set",
            "sealift restore set@20261122T020000Z-1f2e3d4c --to-stdout",
            "sealift restore --from set db",
            "sealift restore",
        ] {
            assert_eq!(read(line), line);
        }
    }

    #[test]
    fn the_command_line_with_settings_is_consistent() {
        let (config, _) = config(TWO);
        for job in config.jobs() {
            let line = ["sealift", "backup", "job", &job.name].map(OsString::from);
            let look = Prescan::at(&line).unwrap();
            command(Some(&config), Some(&look), Some(job)).debug_assert();
        }
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
