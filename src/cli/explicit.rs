//! Options that the command line gives, as words that can be read again.

use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, CommandFactory};

use super::Cli;

/// An option that was given on the command line.
#[derive(Debug, Clone)]
pub struct ExplicitArg {
    /// The option's name as a setting.
    pub id: String,
    /// The option as words: one a value.
    pub words: Vec<OsString>,
}

impl ExplicitArg {
    /// The options that were given to the innermost command, without those that every verb has.
    pub fn all(command: &Command, matches: &ArgMatches) -> Vec<ExplicitArg> {
        if let Some((name, below)) = matches.subcommand() {
            return command
                .find_subcommand(name)
                .map(|command| Self::all(command, below))
                .unwrap_or_default();
        }
        let root = Cli::command();
        let own =
            options(command).filter(|arg| root.get_arguments().all(|every| every.get_id() != arg.get_id()));
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
}

fn joined(long: &str, value: &std::ffi::OsStr) -> OsString {
    let mut word = OsString::from(format!("--{long}="));
    word.push(value);
    word
}

/// What of a command's arguments is no positional.
pub fn options(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| !arg.is_positional())
}
