//! The settings file and the command line are one language: a key is the option of that name, and becomes its default
//! value, so that clap itself settles that options win over the environment and that over the file.

use std::error::Error as _;

use clap::builder::Resettable;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command};
use serde_json::Value;

use super::file::{Setting, Table};
use crate::cli::{JOB_NAME, LimitOptions, ScheduleFlags, StoreFlags};
use crate::error::Error;

/// Commands of `backup` that are no source themselves.
const NO_SOURCES: [&str; 2] = ["job", "set"];

/// The options of a command.
pub fn options(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| !arg.is_positional())
}

/// A command's argument by its name.
pub fn argument<'a>(command: &'a Command, key: &str) -> Option<&'a Arg> {
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

/// What a job may say of when it is a problem, as a command: its keys are options of `status`.
pub fn limit_command() -> Command {
    LimitOptions::augment_args(Command::new("job"))
}

/// What a table may say of when it is done, as a command.
pub fn schedule_command() -> Command {
    ScheduleFlags::augment_args(Command::new("schedule"))
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
    let own = matches!((command.get_name(), key), (_, "job" | "config" | "help") | ("copy", "to"))
        // Rules stand in `keep`, where a job can have others.
        || command.get_name() == "prune" && key.starts_with("keep_")
        // What changes something is said on the spot.
        || key == "confirm";
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
pub fn alone(command: &Command) -> Command {
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
    // clap counts positionals in the order in which they were changed: each is told its place before that.
    let words: Vec<_> = command.get_positionals().map(|arg| arg.get_id().clone()).collect();
    let command = words.into_iter().zip(1..).fold(command, |command, (word, place)| {
        command.mut_arg(word, |arg| if arg.get_index().is_some() { arg } else { arg.index(place) })
    });
    settings.iter().fold(command, |command, setting| {
        command.mut_arg(&setting.key, |arg| match setting.words() {
            Some(words) => arg.required(false).default_values(words),
            None => arg.default_value("true"),
        })
    })
}

/// Whether a source of `backup` has this option.
pub fn has_option(root: &Command, source: &str, id: &str) -> bool {
    sources(root)
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
            let words = command.get_positionals().zip(1..);
            let words: Vec<_> =
                words.map(|(arg, place)| (arg.get_id().clone(), arg.get_index().unwrap_or(place))).collect();
            let command = words.into_iter().fold(command, |command, (word, place)| {
                command.mut_arg(word, |arg| arg.index(place + 1).required(false).hide(true))
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
