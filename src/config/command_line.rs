//! The command line as it is understood with the settings.

use std::ffi::OsString;
use std::sync::Arc;

use clap::{Command, CommandFactory, FromArgMatches};

use super::{Config, Job, defaults, no_file};
use crate::cli::help::{self, Layout};
use crate::cli::{Cli, ExplicitArg, Prescan, StoreAt, View, with_meaning};
use crate::error::Error;
use crate::store::StoreUrl;

/// What the command line and the settings say together.
#[derive(Debug)]
pub struct Parsed {
    /// What to do.
    pub cli: Cli,
    /// The options that were given on the line to what is to be done, without those that every verb has.
    pub explicit: Vec<ExplicitArg>,
}

/// Why there is nothing to do.
#[derive(Debug)]
pub enum ParseError {
    /// The words are wrong, or ask for help.
    Words(clap::Error),
    /// The settings are wrong, or a word is that the settings give a meaning to.
    Settings(Error, View),
}

/// Reads the command line, with the settings as the defaults of its options.
///
/// # Errors
/// One of them is wrong, or help was asked for.
pub fn read(
    config: Option<&Config>,
    prescan: Option<&Prescan>,
    words: &[OsString],
) -> Result<Parsed, ParseError> {
    let settings = |error: Error| match prescan {
        Some(prescan) => ParseError::Settings(error, prescan.view.clone()),
        None => ParseError::Words(Cli::command().error(clap::error::ErrorKind::ValueValidation, error)),
    };
    let job = match prescan.and_then(|prescan| prescan.job.as_deref()) {
        Some(name) => match config {
            Some(config) => Some(config.known_job(name).map_err(settings)?),
            None if prescan.is_some_and(|prescan| prescan.help) => None,
            None => return Err(settings(no_file(&format!("no job {name}")))),
        },
        None => None,
    };
    let understood = || command(config, prescan, job);
    let mut command = understood();
    let matches = command.try_get_matches_from_mut(words).map_err(|error| match our_error(&error) {
        Some(ours) => settings(ours),
        // Laid out only where it is shown: no other run pays for that.
        None if help::is_asked_for(&error) => {
            let laid_out = help::laid_out(understood(), Layout::asked_for(words));
            ParseError::Words(laid_out.try_get_matches_from(words).err().unwrap_or(error))
        }
        None => {
            let is_job = |word: &str| config.is_some_and(|config| config.known_job(word).is_ok());
            ParseError::Words(with_meaning(error, words, is_job))
        }
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
    let explicit = ExplicitArg::all(&command, &matches);
    let cli =
        Cli::from_arg_matches(&matches).map_err(|error| ParseError::Words(error.format(&mut command)))?;
    Ok(Parsed { cli, explicit })
}

/// The store that a line means which is still being typed: the one to read from, or the first to back up to.
pub fn store_of(config: Option<&Config>, words: &[OsString]) -> Option<StoreUrl> {
    let prescan = Prescan::of(words);
    let understood = command(config, prescan.as_ref(), None).ignore_errors(true);
    let matches = understood.try_get_matches_from(words).ok()?;
    let mut leaf = &matches;
    while let Some((_, below)) = leaf.subcommand() {
        leaf = below;
    }
    let named = |id: &str| leaf.try_get_many::<StoreAt>(id).ok().flatten()?.next();
    let store = named("from").or_else(|| named("to"))?;
    Some(StoreUrl { url: store.as_str().into(), options: store.options().ok()? })
}

/// The command line as it is understood with these settings.
fn command(config: Option<&Config>, prescan: Option<&Prescan>, job: Option<&Job>) -> Command {
    let names = Arc::new(config.map(|config| config.store_names(job)).unwrap_or_default());
    let command = names.known_to(Cli::command());
    let (Some(config), Some(prescan)) = (config, prescan) else { return command };
    let command = config.with_defaults(command, &[&config.top], prescan.given());
    let mut path = prescan.path();
    let Some(job) = job else {
        return defaults::edit(command, &path, &mut |verb| {
            config.with_defaults(verb, &[&config.top], prescan.given())
        });
    };
    path[1] = &job.source;
    let command =
        defaults::edit(command, &path, &mut |source| config.job_source(source, job, prescan.given()));
    defaults::edit(command, &path[..1], &mut |backup| defaults::with_job(backup, &job.source))
}

/// An error of ours that clap found where it let us read a value: it has its hint, and shows no value that it must not.
pub fn our_error(error: &clap::Error) -> Option<Error> {
    let ours = std::error::Error::source(error)?.downcast_ref::<Error>()?.clone();
    match error.get(clap::error::ContextKind::InvalidArg) {
        Some(arg) => Some(ours.context(arg.to_string()).or_hint("see --help")),
        None => Some(ours),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::config;
    use super::*;
    use crate::cli::{Restore, Verb};
    use crate::job::backup::BackupRequest;

    const FILE: &str = "to = \"near\"\n\
        [stores.near]\nurl = \"memory:///near\"\n\
        [jobs.a]\nsource = \"volume\"\nvolumes = [\"v\"]\nlevel = 2\nallow_empty = true\n\
        [jobs.b]\nsource = \"exec\"\ncontainer = \"db\"\ncommand = [\"dump\"]\n\
        [jobs.c]\nsource = \"run\"\nimage = \"i\"\n\
        [jobs.d]\nsource = \"run\"\nimage = \"i\"\ncommand = [\"x\"]\n\
        [jobs.e]\nsource = \"dtr\"\n";

    fn parse(text: &str, line: &str) -> Result<Parsed, ParseError> {
        let (config, problems) = config(text);
        assert_eq!(problems, []);
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        read(Some(&config), Prescan::of(&words).as_ref(), &words)
    }

    fn request(text: &str, line: &str) -> BackupRequest {
        let Verb::Backup(backup) = parse(text, line).unwrap().cli.verb else { panic!("no backup") };
        backup.request().unwrap().1
    }

    fn refused(text: &str, line: &str) -> String {
        match parse(text, line).unwrap_err() {
            ParseError::Settings(error, _) => error.to_string(),
            ParseError::Words(error) => error.to_string().lines().next().unwrap_or_default().into(),
        }
    }

    #[test]
    fn the_command_line_with_settings_is_consistent() {
        let (config, _) = config(FILE);
        for job in config.jobs() {
            let line = ["sealift", "backup", "job", &job.name].map(OsString::from);
            let prescan = Prescan::of(&line).unwrap();
            command(Some(&config), Some(&prescan), Some(job)).debug_assert();
        }
    }

    #[test]
    fn an_option_wins_over_the_job_and_that_over_the_top() {
        let level = |line: &str| request(&format!("level = 5\n{FILE}"), line).budget.level;
        assert_eq!(level("sealift backup job a --level 9"), 9);
        assert_eq!(level("sealift backup job a"), 2);
        assert_eq!(level("sealift backup job b"), 5);
        assert_eq!(level("sealift backup path --to near /etc"), 5);
    }

    #[test]
    fn a_stores_name_is_known_wherever_a_store_is_taken() {
        let url = |line: &str| request(FILE, line).stores[0].url.clone();
        assert_eq!(url("sealift backup path /etc"), "memory:///near");
        assert_eq!(url("sealift backup path --to near /etc"), "memory:///near");
        assert_eq!(url("sealift backup path --to memory:///x /etc"), "memory:///x");
        assert_eq!(refused(FILE, "sealift backup path --to naer /etc"), "--to <STORE>: \"naer\" is no store");
    }

    #[test]
    fn every_verb_that_reads_takes_its_store_from_the_file() {
        let text = "from = \"near\"\n[stores.near]\nurl = \"memory:///near\"\n";
        for line in ["list", "verify db", "verify --all", "verify --set ee", "ls db", "show db"] {
            let words = format!("sealift {line}");
            let parsed = parse(text, &words);
            assert!(parsed.is_ok(), "{line}: {:?}", refused(text, &words));
        }
    }

    #[test]
    fn a_jobs_own_words_stand_in_the_file() {
        let refused = |line: &str| refused(FILE, line);
        assert_eq!(
            refused("sealift backup job a w"),
            "unexpected \"w\": a job's words stand in the settings file"
        );
        assert_eq!(
            refused("sealift backup job c w"),
            "unexpected \"w\": a job's words stand in the settings file"
        );
        assert_eq!(refused("sealift backup job z"), "there is no job z in test.toml");
        assert_eq!(refused("sealift backup job a --levle 3"), "error: unexpected argument '--levle' found");
    }

    #[test]
    fn without_a_file_there_is_no_job() {
        let words = ["sealift", "backup", "job", "a"].map(OsString::from);
        let Err(ParseError::Settings(error, _)) = read(None, Prescan::of(&words).as_ref(), &words) else {
            panic!("there is a job")
        };
        assert_eq!(error.to_string(), "there is no settings file, so no job a");
    }

    #[test]
    fn only_what_stands_on_the_line_is_explicit() {
        let line = "sealift --json backup job a --level 9 --warn-ok changed,links --no-encrypt";
        let explicit = parse(FILE, line).unwrap().explicit;
        let words: Vec<_> = explicit.iter().map(|arg| (arg.id.as_str(), arg.words.clone())).collect();
        assert_eq!(
            words,
            [
                ("no_encrypt", vec!["--no-encrypt".into()]),
                ("level", vec!["--level=9".into()]),
                ("warn_ok", vec!["--warn-ok=changed".into(), "--warn-ok=links".into()]),
            ]
        );
    }

    #[test]
    fn what_excludes_an_option_that_was_given_does_not_hold() {
        let text = format!("no_encrypt = true\n{FILE}");
        assert!(request(&text, "sealift backup job a").encryption.is_none());
        let given = request(&text, "sealift backup job a --passphrase-file p").encryption.unwrap();
        assert_eq!(given.passphrase.file.as_deref(), Some("p"));
        assert!(
            refused(&text, "sealift backup job a --no-encrypt --passphrase-file p")
                .contains("cannot be used")
        );
    }

    #[test]
    fn help_needs_no_settings_and_shows_those_that_are_there() {
        let Err(ParseError::Words(help)) = parse(FILE, "sealift backup job a --help") else {
            panic!("no help")
        };
        let help = help.to_string();
        assert!(help.contains("Usage: sealift backup job [OPTIONS] NAME"), "{help}");
        assert!(help.contains("[default: near]"), "{help}");
        let words = ["sealift", "backup", "job", "a", "--help"].map(OsString::from);
        assert!(matches!(read(None, Prescan::of(&words).as_ref(), &words), Err(ParseError::Words(_))));
    }

    #[test]
    fn restore_and_its_subcommand_take_the_defaults_of_the_file() {
        let text = "from = \"far\"\noverwrite = true\n[stores.near]\nurl = \"memory:///near\"\n\
            [stores.far]\nurl = \"memory:///far\"\n";
        let from = |line: &str| match parse(text, line).unwrap().cli.verb {
            Verb::Restore(Restore::Archive(restore)) => {
                let request = restore.request().unwrap();
                assert!(request.overwrite);
                request.open.store.url
            }
            Verb::Restore(Restore::Set(set)) => set.open.request().unwrap().store.url,
            other => panic!("{other:?}"),
        };
        for (line, url) in [
            ("sealift restore db --to-stdout", "memory:///far"),
            ("sealift restore set x --plan", "memory:///far"),
            ("sealift restore set x --plan --from near", "memory:///near"),
            ("sealift restore --from near set x --plan", "memory:///near"),
        ] {
            assert_eq!(from(line), url, "{line}");
        }
    }
}
