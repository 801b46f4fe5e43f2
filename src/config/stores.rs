//! Stores that have a name in the settings file.

use std::sync::Arc;

use clap::{Arg, Command, FromArgMatches};

use super::defaults::{alone, argument, fits, store_command};
use super::file::Setting;
use crate::cli::{StoreAt, StoreFlags};
use crate::error::{Error, Result};
use crate::report::nearest;

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
