//! The words of `restore set`.

use clap::{ArgMatches, Args, FromArgMatches};

use super::OpenOptions;
use crate::error::{Error, Result};
use crate::job::restore_set::Position;
use crate::report::{Mode, quoted};
use crate::store::set::SetRef;

/// `restore set`
#[derive(Debug, Args)]
#[command(
    override_usage = "sealift restore set [OPTIONS] <SET> --from <STORE>",
    after_help = EXAMPLES
)]
pub struct RestoreSet {
    /// NAME (its newest run) or NAME@ID
    ///
    /// Also an id's beginning as in NAME@20261122T02, or a day's last as in NAME@2026-11-22.
    #[arg(value_name = "SET")]
    pub set: String,
    #[command(flatten)]
    pub open: OpenOptions,
    #[command(flatten)]
    pub steps: StepOptions,
}

/// What is done of the steps.
#[derive(Debug, Default, Clone, Args)]
pub struct StepOptions {
    /// Print the steps and do nothing
    #[arg(long, conflicts_with_all = ["yes", "from_step"])]
    plan: bool,
    /// Do all steps without a question
    ///
    /// Stops where something is to be done by hand, or must be so before a step, and says how to go on.
    #[arg(short, long)]
    yes: bool,
    /// Step to begin with: N, or N.M for a part of it
    ///
    /// The steps before it are taken as done, and what must be so before it as so. Name the run: NAME@ID.
    #[arg(long, value_name = "N[.M]")]
    from_step: Option<Position>,
}

const EXAMPLES: &str = "\
Reads the catalogs of the set's archives, shows the steps that bring it back, in order and with the exact words for these
archives (versions, replica, what to stop), and does them one by one, each after a question. What no machine can do is
shown to be done by hand. The first failure stops it and says how to go on. --plan only prints the steps.

Examples:
  sealift restore set docker-ee --plan --from s3://backups/prod
  sealift restore set docker-ee --from s3://backups/prod
  sealift restore set volumes --yes --from s3://backups/prod
  sealift restore set docker-ee@20261122T020000Z-1f2e3d4c --from-step 2 --from s3://backups/prod";

/// How the steps are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// They are only shown.
    Plan,
    /// Each after a question.
    Ask,
    /// Without questions.
    Yes,
}

impl StepOptions {
    /// What `restore set` was given.
    pub(super) fn of(matches: &ArgMatches) -> std::result::Result<Self, clap::Error> {
        Self::from_arg_matches(matches)
    }

    /// Whether nothing is done.
    pub(super) fn is_plan(&self) -> bool {
        self.plan
    }

    /// How the steps are done.
    ///
    /// # Errors
    /// They are to be asked for, and there is nobody to ask.
    pub fn doing(&self, mode: Mode, has_terminal: bool) -> Result<Doing> {
        let hint = "say --yes to do all steps without questions, or --plan to see them";
        match (self.plan, self.yes) {
            (true, _) => Ok(Doing::Plan),
            (_, true) => Ok(Doing::Yes),
            _ if mode == Mode::Json => {
                Err(Error::usage("with --json nobody is asked before a step").hint(hint))
            }
            _ if !has_terminal => {
                Err(Error::usage("there is no terminal to ask at before each step").hint(hint))
            }
            _ => Ok(Doing::Ask),
        }
    }

    /// The step to begin with, where one is named.
    pub fn first(&self) -> Option<Position> {
        self.from_step
    }
}

impl RestoreSet {
    /// The line that goes on with a step of this run.
    pub fn again(&self, set: &SetRef, from: &str, at: Position) -> String {
        let passphrase = self.open.passphrase.sources();
        let ca_file = self.open.from.ca_file.as_ref().map(|file| file.display().to_string());
        let valued = [
            ("--ca-file", ca_file),
            ("--passphrase-file", passphrase.file),
            ("--passphrase-command", passphrase.command),
        ];
        let mut line = format!("sealift restore set {} --from {}", quoted(&set.to_string()), quoted(from));
        for (option, value) in valued {
            line.extend(value.map(|value| format!(" {option} {}", quoted(&value))));
        }
        for (option, is_given) in [("--no-encrypt", self.open.no_encrypt), ("--yes", self.steps.yes)] {
            line.extend(is_given.then(|| format!(" {option}")));
        }
        format!("{line} --from-step {at}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Restore, Verb};
    use clap::Parser;

    fn parse(words: &str) -> std::result::Result<RestoreSet, clap::Error> {
        match Cli::try_parse_from(
            format!("sealift restore set x --from memory:///a {words}").split_whitespace(),
        )?
        .verb
        {
            Verb::Restore(Restore::Set(set)) => Ok(*set),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn steps_are_asked_for_unless_somebody_said_otherwise() {
        let doing = |words: &str, mode, has_terminal| parse(words).unwrap().steps.doing(mode, has_terminal);
        assert_eq!(doing("--plan", Mode::Json, false).unwrap(), Doing::Plan);
        assert_eq!(doing("--yes", Mode::Json, false).unwrap(), Doing::Yes);
        assert_eq!(doing("-y", Mode::Quiet, true).unwrap(), Doing::Yes);
        assert_eq!(doing("", Mode::Human, true).unwrap(), Doing::Ask);
        for (mode, has_terminal, words) in [(Mode::Human, false, "no terminal"), (Mode::Json, true, "--json")]
        {
            let error = doing("", mode, has_terminal).unwrap_err();
            assert!(error.to_string().contains(words) && error.kind().exit_code() == 2, "{error}");
            assert!(error.hint_text().unwrap().contains("--yes"), "{error}");
        }
    }

    #[test]
    fn a_plan_does_nothing_and_so_begins_nowhere() {
        for words in ["--plan --yes", "--plan --from-step 2", "--from-step 0", "--from-step x"] {
            assert!(parse(words).is_err(), "{words}");
        }
        let at = parse("--from-step 2.3").unwrap().steps.first();
        assert_eq!(at, Some(Position { step: 2, action: 3 }));
    }

    #[test]
    fn the_line_that_goes_on_names_the_run_and_all_that_was_given() {
        let set: SetRef = "ee@20261122T020000Z-1f2e3d4c".parse().unwrap();
        let again =
            |words: &str| parse(words).unwrap().again(&set, "s3://my b", Position { step: 2, action: 3 });
        let begin = format!("sealift restore set {set} --from 's3://my b'");
        assert_eq!(again(""), format!("{begin} --from-step 2.3"));
        assert_eq!(
            again("--yes --ca-file ca.pem --passphrase-file p --from-step 1"),
            format!("{begin} --ca-file ca.pem --passphrase-file p --yes --from-step 2.3")
        );
        assert_eq!(again("--no-encrypt"), format!("{begin} --no-encrypt --from-step 2.3"));
    }
}
