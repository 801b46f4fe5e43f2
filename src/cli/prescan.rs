//! What the command line says before the settings are known: which verb, which job, which settings file.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, Command, CommandFactory, FromArgMatches};

use super::{Cli, View};

/// The id of the word that names a job.
pub const JOB_NAME: &str = "job_name";

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
    /// What the words say; nothing where they ask for no verb, or hold nothing that could be read.
    pub fn of(words: &[OsString]) -> Option<Prescan> {
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
        .filter(|prescan| !prescan.path.is_empty())
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
    let options: Vec<Arg> = backup.get_subcommands().flat_map(super::explicit::options).cloned().collect();
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn prescan(line: &str) -> Option<Prescan> {
        Prescan::of(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_verb_and_what_it_acts_on_are_found_among_options() {
        assert_eq!(prescan("sealift --json backup volume v --to x").unwrap().path(), ["backup", "volume"]);
        assert_eq!(prescan("sealift list --from x").unwrap().path(), ["list"]);
        assert!(prescan("sealift").is_none() && prescan("sealift --json").is_none());
    }

    #[test]
    fn the_job_is_found_wherever_options_stand() {
        for line in [
            "sealift backup job db --level 3",
            "sealift backup job --level 3 db",
            "sealift backup job -e A db",
        ] {
            assert_eq!(prescan(line).unwrap().job.as_deref(), Some("db"), "{line}");
        }
        assert_eq!(prescan("sealift backup volume db").unwrap().job, None);
    }

    #[test]
    fn the_settings_file_may_stand_before_the_verb_or_behind() {
        for line in
            ["sealift --config f list", "sealift list --config f", "sealift list --config=f --nonsense"]
        {
            assert_eq!(prescan(line).unwrap().config.as_deref(), Some(Path::new("f")), "{line}");
        }
    }

    #[test]
    fn values_that_are_wrong_are_no_matter_yet() {
        let prescan = prescan("sealift backup path --memory much --to nowhere").unwrap();
        let mut given: Vec<_> = prescan.given().iter().filter(|id| *id == "memory" || *id == "to").collect();
        given.sort();
        assert_eq!(given, ["memory", "to"]);
        assert!(!prescan.given().contains(&"parallel".to_string()), "defaults are not given");
    }

    #[test]
    fn help_is_seen_but_not_a_containers() {
        assert!(prescan("sealift backup job --help").unwrap().help);
        assert!(prescan("sealift list -h").unwrap().help);
        assert!(!prescan("sealift backup exec --to x db tool --help").unwrap().help);
    }
}
