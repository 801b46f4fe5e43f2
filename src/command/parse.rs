//! The command line and the settings file, read together.

use std::ffi::OsString;

use crate::cli::{Cli, Prescan};
use crate::config::{self, Config, ExplicitArg, ParseError};

/// Verbs that have no settings, or look at the file by themselves.
const WITHOUT_SETTINGS: [&str; 3] = ["config", "completions", "man"];

/// What is to be done.
#[derive(Debug)]
pub struct Invocation {
    /// What to do.
    pub cli: Cli,
    /// The settings file that was used.
    pub config: Option<Config>,
    /// The options that were given on the line to what is to be done, without those that every verb has.
    pub explicit: Vec<ExplicitArg>,
}

/// Reads the command line, with the settings file for what it does not say.
///
/// # Errors
/// One of them is wrong, or help was asked for.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Invocation, ParseError> {
    let words: Vec<OsString> = words.into_iter().collect();
    let prescan = Prescan::of(&words);
    let config = match &prescan {
        Some(prescan) => settings(prescan)?,
        None => None,
    };
    let config::Parsed { cli, explicit } = config::read(config.as_ref(), prescan.as_ref(), &words)?;
    Ok(Invocation { cli, config, explicit })
}

/// The settings file, where there is one and the verb has settings.
fn settings(prescan: &Prescan) -> Result<Option<Config>, ParseError> {
    if WITHOUT_SETTINGS.contains(&prescan.path()[0]) {
        return Ok(None);
    }
    match config::find(prescan.config.as_deref()).and_then(|path| path.map(Config::open).transpose()) {
        Ok(config) => Ok(config),
        // Help that shows no defaults of the file's is better than none, and `doctor` tells what is wrong with it.
        Err(_) if prescan.help || prescan.path()[0] == "doctor" => Ok(None),
        Err(error) => Err(ParseError::Settings(error, prescan.view.clone())),
    }
}

/// The settings file that holds for a line that is still being typed; none where it cannot be read.
pub fn settings_of(words: &[OsString]) -> Option<Config> {
    let prescan = Prescan::of(words);
    let named = prescan.as_ref().and_then(|prescan| prescan.config.as_deref());
    config::find(named).ok().flatten().and_then(|path| Config::open(path).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(line: &str) -> ParseError {
        parse(line.split(' ').map(OsString::from)).unwrap_err()
    }

    #[test]
    fn a_settings_file_that_is_named_must_be_there() {
        let ParseError::Settings(error, _) = refused("sealift list --config /none.toml") else {
            panic!("no error of the settings")
        };
        assert_eq!(error.to_string(), "there is no settings file /none.toml");
    }

    #[test]
    fn help_and_verbs_without_settings_need_no_file() {
        assert!(matches!(refused("sealift list --config /none.toml --help"), ParseError::Words(_)));
        let line = "sealift completions bash --config /none.toml";
        assert!(parse(line.split(' ').map(OsString::from)).unwrap().config.is_none());
    }
}
