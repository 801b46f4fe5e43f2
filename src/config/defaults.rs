//! The settings file and the command line are one language: a key is the option of that name, and becomes its default
//! value, so that clap itself settles that options win over the environment and that over the file.

use std::error::Error as _;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use clap::builder::Resettable;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, CommandFactory, FromArgMatches};
use serde_json::Value;

use super::file::{Setting, Table};
use crate::cli::{Cli, StoreAt, StoreFlags, View};
use crate::error::{Error, Result};

/// The id of the word that names a job.
const JOB_NAME: &str = "job_name";
/// Commands of `backup` that are no source themselves.
const NO_SOURCES: [&str; 2] = ["job", "set"];

/// What was said on the command line, as far as that can be known before the settings are.
#[derive(Debug)]
pub struct Prescan {
    /// The verb and what it acts on: `backup`, `volume`.
    path: Vec<String>,
    /// The job, of `backup job NAME`.
    pub job: Option<String>,
    /// `--config`, or SEALIFT_CONFIG.
    pub config: Option<PathBuf>,
    /// Whether help was asked for.
    pub help: bool,
    /// How to show what goes wrong.
    pub view: View,
    /// Names of all arguments that were given.
    given: Vec<String>,
}

impl Prescan {
    /// Looks at the words; nothing where they ask for no verb, or hold nothing that could be read.
    pub fn at(words: &[OsString]) -> Option<Prescan> {
        let root = lenient().try_get_matches_from(words).ok()?;
        let (mut path, mut leaf) = (Vec::new(), &root);
        while let Some((name, below)) = leaf.subcommand() {
            path.push(name.to_string());
            leaf = below;
        }
        let given = leaf.ids().map(|id| id.to_string());
        let given = given.filter(|id| leaf.value_source(id) == Some(ValueSource::CommandLine)).collect();
        let raw = |id: &str| leaf.try_get_raw(id).ok().flatten()?.next().map(OsString::from);
        Some(Prescan {
            job: raw(JOB_NAME).map(|name| name.to_string_lossy().into_owned()),
            config: raw("config").map(PathBuf::from),
            help: leaf.try_get_one("help").ok().flatten() == Some(&true),
            view: View::from_arg_matches(&root).ok()?,
            path,
            given,
        })
        .filter(|look| !look.path.is_empty())
    }

    /// The verb and what it acts on.
    pub fn path(&self) -> Vec<&str> {
        self.path.iter().map(String::as_str).collect()
    }

    /// Names of all arguments that were given.
    pub fn given(&self) -> &[String] {
        &self.given
    }
}

/// The command line with all values taken as they are and nothing required: what is wrong is said later.
fn lenient() -> Command {
    fn loose(command: Command) -> Command {
        let any = |arg: Arg| match arg.get_action().takes_values() {
            true => arg.value_parser(clap::value_parser!(OsString)),
            false => arg,
        };
        command.mut_args(any).mut_subcommands(loose)
    }
    let help = Arg::new("help").short('h').long("help").action(ArgAction::SetTrue).global(true);
    let command = loose(Cli::command().mut_subcommands(|verb| match verb.get_name() {
        "backup" => with_every_option(verb),
        _ => verb,
    }));
    command.ignore_errors(true).disable_help_flag(true).arg(help)
}

/// `backup` with a `job` that takes the options of every source: which one it is, the settings say.
fn with_every_option(backup: Command) -> Command {
    let options: Vec<Arg> = backup.get_subcommands().flat_map(options).cloned().collect();
    let is_new = |job: &Command, new: &Arg| {
        job.get_arguments().all(|old| {
            old.get_id() != new.get_id()
                && (old.get_long() != new.get_long() || new.get_long().is_none())
                && (old.get_short() != new.get_short() || new.get_short().is_none())
        })
    };
    backup.mut_subcommands(|command| match command.get_name() {
        "job" => options.iter().fold(command, |job, option| match is_new(&job, option) {
            true => job.arg(option.clone()),
            false => job,
        }),
        _ => command,
    })
}

fn options(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| !arg.is_positional())
}

fn argument<'a>(command: &'a Command, key: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|arg| arg.get_id() == key)
}

/// The commands that a key at the top of the file can mean something to: the whole, for what every verb takes, and
/// every verb.
pub fn verbs(root: &Command) -> Vec<&Command> {
    fn add<'a>(command: &'a Command, found: &mut Vec<&'a Command>) {
        // `restore` is a verb, and has the subcommand `set`.
        if !command.has_subcommands() || command.get_positionals().next().is_some() {
            found.push(command);
        }
        command.get_subcommands().for_each(|below| add(below, found));
    }
    let mut found = vec![root];
    add(root, &mut found);
    found
}

/// The sources of `backup`, by name.
pub fn sources(root: &Command) -> impl Iterator<Item = &Command> {
    let backup = root.find_subcommand("backup").into_iter();
    backup.flat_map(Command::get_subcommands).filter(|source| !NO_SOURCES.contains(&source.get_name()))
}

/// A `[stores.NAME]` as a command: its keys are options, too.
pub fn store_command() -> Command {
    StoreFlags::augment_args(Command::new("store"))
}

/// Whether a key at the top may be a default of this command's argument. What a line must say by itself is not: words,
/// where a restore goes, a job's own name, `copy`'s target.
pub fn top_takes<'a>(command: &'a Command, key: &str) -> Option<&'a Arg> {
    let arg = argument(command, key).filter(|arg| !arg.is_positional())?;
    // A group knows its arguments only when the command is built.
    let is_grouped = command.get_groups().any(|group| group.is_required_set());
    let built = is_grouped.then(|| {
        let mut built = command.clone();
        built.build();
        built
    });
    let groups = built.iter().flat_map(Command::get_groups).filter(|group| group.is_required_set());
    let is_chosen = groups.flat_map(|group| group.get_args()).any(|id| id == arg.get_id());
    let own = matches!((command.get_name(), key), (_, "job" | "config" | "help") | ("copy", "to"));
    (!is_chosen && !own).then_some(arg)
}

/// Why a value cannot be had.
pub type Wrong = (String, Option<String>);

/// Whether the command's argument of this name takes the value, as its own parser sees it.
///
/// # Errors
/// What is wrong, and what to do.
pub fn fits(command: &Command, setting: &Setting) -> std::result::Result<(), Wrong> {
    let Some(arg) = argument(command, &setting.key) else { return Ok(()) };
    let key = &setting.key;
    if !arg.get_action().takes_values() {
        return match setting.value {
            Value::Bool(_) => Ok(()),
            _ => Err((format!("{key} is true or false"), None)),
        };
    }
    let many = matches!(arg.get_action(), ArgAction::Append);
    let Some(words) = setting.words() else {
        let kind = if many { "a text, or a list of texts" } else { "a text or a number" };
        return Err((format!("{key} is {kind}"), None));
    };
    if words.len() != 1 && !many {
        return Err((format!("{key} takes one value, not {}", words.len()), None));
    }
    let Some(long) = arg.get_long() else { return Ok(()) };
    let line = words.iter().map(|word| format!("--{long}={word}"));
    match alone(command).try_get_matches_from(line) {
        Ok(_) => Ok(()),
        Err(error) => {
            let (text, hint) = reason(&error);
            Err((format!("{key}: {text}"), hint))
        }
    }
}

/// The command with nothing required and no environment, so that one option can be tried alone.
fn alone(command: &Command) -> Command {
    let groups: Vec<_> = command.get_groups().map(|group| group.get_id().clone()).collect();
    let command = command.clone().no_binary_name(true).disable_help_flag(true);
    let command = command.mut_args(|arg| arg.required(false).env(Resettable::Reset));
    groups.into_iter().fold(command, |command, id| command.mut_group(id, |group| group.required(false)))
}

/// What an error of clap's says, without the usage that follows, and with the hint of the error of ours below it.
pub fn reason(error: &clap::Error) -> Wrong {
    match error.source() {
        Some(source) => match source.downcast_ref::<Error>() {
            Some(ours) => (ours.to_string(), ours.hint_text().map(String::from)),
            None => (source.to_string(), None),
        },
        None => {
            let text = error.to_string();
            let lines = text.lines().map(str::trim).take_while(|line| !line.is_empty());
            (lines.collect::<Vec<_>>().join(" ").replacen("error: ", "", 1), None)
        }
    }
}

/// Settings of one table that exclude each other.
pub fn conflict_in<'a>(command: &Command, settings: &'a [Setting]) -> Option<(&'a Setting, &'a Setting)> {
    let given = || settings.iter().filter(|setting| setting.gives());
    given().find_map(|one| {
        let other = given().take_while(|other| other.key != one.key);
        Some((one, other.into_iter().find(|other| conflict(command, &one.key, &other.key))?))
    })
}

fn conflict(command: &Command, one: &str, other: &str) -> bool {
    let (Some(one), Some(other)) = (argument(command, one), argument(command, other)) else { return false };
    let excludes = |a: &Arg, b: &Arg| {
        command.get_arg_conflicts_with(a).iter().any(|excluded| excluded.get_id() == b.get_id())
    };
    excludes(one, other) || excludes(other, one)
}

/// The settings that hold for a command, out of tables of which an earlier one wins: none that was `given` on the
/// command line, and none that excludes what was given there or in a table before.
pub fn in_force<'a>(command: &Command, tables: &[&'a Table], given: &[String]) -> Vec<&'a Setting> {
    let (mut found, mut known): (Vec<&Setting>, Vec<&str>) = (Vec::new(), Vec::new());
    let mut speaks: Vec<&str> = given.iter().map(String::as_str).collect();
    known.extend(&speaks);
    for table in tables {
        let is_top = table.title.is_empty();
        let here = table.settings.iter().filter(|setting| {
            let taken = match is_top {
                true => top_takes(command, &setting.key).is_some(),
                false => argument(command, &setting.key).is_some(),
            };
            taken
                && !known.contains(&setting.key.as_str())
                && !(setting.gives() && speaks.iter().any(|other| conflict(command, &setting.key, other)))
                && fits(command, setting).is_ok()
        });
        let here: Vec<_> = here.collect();
        known.extend(here.iter().map(|setting| setting.key.as_str()));
        speaks.extend(here.iter().filter(|setting| setting.gives()).map(|setting| setting.key.as_str()));
        found.extend(here);
    }
    found.retain(|setting| setting.gives());
    found
}

/// The command with settings as the defaults of its arguments.
pub fn with_defaults(command: Command, settings: &[&Setting]) -> Command {
    settings.iter().fold(command, |command, setting| {
        command.mut_arg(&setting.key, |arg| match setting.words() {
            Some(words) => arg.required(false).default_values(words.into_iter().map(forever)),
            None => arg.default_value("true"),
        })
    })
}

/// clap keeps defaults for as long as the process runs, and so do we.
fn forever(text: String) -> &'static str {
    text.leak()
}

/// The store options that a table gives.
pub fn store_flags(settings: &[Setting]) -> StoreFlags {
    let command = store_command();
    let good = settings.iter().filter(|setting| {
        setting.key != "url" && argument(&command, &setting.key).is_some() && fits(&command, setting).is_ok()
    });
    let words = good.filter_map(|setting| {
        let long = argument(&command, &setting.key)?.get_long()?;
        Some(format!("--{long}={}", setting.words()?.first()?))
    });
    let matches = alone(&command).try_get_matches_from(words.collect::<Vec<_>>());
    matches.and_then(|matches| StoreFlags::from_arg_matches(&matches)).unwrap_or_default()
}

/// The stores that have a name.
#[derive(Debug, Clone, Default)]
pub struct StoreNames {
    /// Name, URL, and how the store is to be used.
    pub stores: Vec<(String, String, StoreFlags)>,
    /// What a job says of all its stores: it wins over what is said of the store.
    pub job: StoreFlags,
    /// What the file's top says of all stores.
    pub top: StoreFlags,
}

impl StoreNames {
    /// The store that a word means.
    ///
    /// # Errors
    /// It is neither a URL nor a name.
    pub fn find(&self, word: &str) -> Result<StoreAt> {
        let with = |flags: StoreFlags| self.job.clone().or(flags).or(self.top.clone());
        if word.contains(':') {
            return StoreAt::new(word, with(StoreFlags::default()));
        }
        if let Some((_, url, flags)) = self.stores.iter().find(|(name, ..)| name == word) {
            return StoreAt::new(url, with(flags.clone()));
        }
        let names: Vec<_> = self.stores.iter().map(|(name, ..)| name.as_str()).collect();
        Err(Error::usage(format!("{word:?} is no store")).hint(match (nearest(word, &names), &names[..]) {
            (Some(name), _) => format!("did you mean {name:?}?"),
            (None, []) => {
                "give file:///folder, s3://bucket/prefix, az://container/prefix or gs://bucket/prefix; \
                           names stand in a settings file: `sealift config --help`"
                    .into()
            }
            (None, names) => format!("give a URL, or one of {}", names.join(", ")),
        }))
    }

    /// The command with these names known wherever it takes a STORE.
    pub fn known_to(self: &Arc<Self>, command: Command) -> Command {
        let with_names = |arg: Arg| {
            let is_store =
                arg.get_value_names().is_some_and(|names| names.iter().any(|name| name == "STORE"));
            let names = Arc::clone(self);
            match is_store {
                true => arg.value_parser(move |word: &str| names.find(word)),
                false => arg,
            }
        };
        command.mut_args(with_names).mut_subcommands(|below| self.known_to(below))
    }
}

/// The known word that was probably meant.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let alike = known.iter().map(|known| (strsim::jaro_winkler(word, known), *known));
    alike.filter(|(alike, _)| *alike > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
}

/// An option that was given on the command line.
#[derive(Debug, Clone)]
pub struct ExplicitArg {
    /// The option's name as a setting.
    pub id: String,
    /// The option as words: one a value.
    pub words: Vec<OsString>,
}

/// The options that were given to the innermost command, without those that every verb has.
pub fn given(command: &Command, matches: &ArgMatches) -> Vec<ExplicitArg> {
    if let Some((name, below)) = matches.subcommand() {
        return command.find_subcommand(name).map(|command| given(command, below)).unwrap_or_default();
    }
    let root = Cli::command();
    let own = options(command).filter(|arg| argument(&root, arg.get_id().as_str()).is_none());
    let given = own.filter_map(|arg| {
        let (id, long) = (arg.get_id().as_str(), arg.get_long()?);
        if matches.value_source(id) != Some(ValueSource::CommandLine) {
            return None;
        }
        let words = match arg.get_action().takes_values() {
            false => vec![format!("--{long}").into()],
            true => matches.get_raw(id)?.map(|value| joined(long, value)).collect(),
        };
        Some(ExplicitArg { id: id.into(), words })
    });
    given.collect()
}

fn joined(long: &str, value: &std::ffi::OsStr) -> OsString {
    let mut word = OsString::from(format!("--{long}="));
    word.push(value);
    word
}

/// Whether a source of `backup` has this option.
pub fn has_option(source: &str, id: &str) -> bool {
    let root = Cli::command();
    sources(&root)
        .any(|command| command.get_name() == source && options(command).any(|arg| arg.get_id() == id))
}

/// Changes the command that a path of names leads to.
pub fn edit(command: Command, path: &[&str], change: &mut dyn FnMut(Command) -> Command) -> Command {
    match path.split_first() {
        None => change(command),
        Some((name, rest)) => command.mut_subcommands(|below| match below.get_name() == *name {
            true => edit(below, rest, change),
            false => below,
        }),
    }
}

/// `backup` with `job NAME` as another name of the job's source, whose own words the file gives.
pub fn with_job(backup: Command, source: &str) -> Command {
    backup.mut_subcommands(|command| match command.get_name() {
        "job" => command.name("job of the settings file").hide(true),
        name if name == source => {
            let words: Vec<_> = command.get_positionals().map(|arg| arg.get_id().clone()).collect();
            let command = words.iter().enumerate().fold(command, |command, (i, word)| {
                command.mut_arg(word, |arg| arg.index(i + 2).required(false).hide(true))
            });
            let name = Arg::new(JOB_NAME).index(1).required(true).value_name("NAME");
            command
                .arg(name.help("The job: [jobs.NAME] of the settings file"))
                .override_usage("sealift backup job [OPTIONS] NAME")
                .alias("job")
        }
        _ => command,
    })
}

/// A word that was given for one of the source's own.
pub fn unexpected_positional(command: &Command, matches: &ArgMatches) -> Option<String> {
    let words = command.get_positionals().map(|arg| arg.get_id().as_str()).filter(|id| *id != JOB_NAME);
    let mut given = words.filter(|id| matches.value_source(id) == Some(ValueSource::CommandLine));
    let first = matches.get_raw(given.next()?)?.next()?;
    Some(first.to_string_lossy().into_owned())
}
