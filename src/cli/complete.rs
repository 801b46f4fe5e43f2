//! Completions: the shell asks sealift itself what a word may be, and so it knows the names of the settings and stores.

use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use clap::{Arg, Command, CommandFactory};
use clap_complete::env::Shells;
use clap_complete::{ArgValueCompleter, CompleteEnv, CompletionCandidate, Shell};

use super::Cli;
use crate::error::{Error, Result};

/// The environment variable that holds the shell's name where a shell asks.
const VARIABLE: &str = "SEALIFT_COMPLETE";

/// What a word may be the name of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Names {
    /// Stores of the settings.
    Stores,
    /// Jobs of the settings, and those that have archives at the store.
    Jobs,
    /// Jobs of the settings.
    OwnJobs,
    /// Sets of the settings.
    Sets,
    /// Jobs, sets and schedules of the settings.
    Runs,
    /// Archives at the store, `JOB@ID`, and what stands for the latest, `JOB`.
    Archives,
}

/// A name, and what is said of it beside it where the shell can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The word.
    pub name: String,
    /// A few words.
    pub about: Option<String>,
}

/// Whoever knows the names that begin with a text.
pub type Known = Arc<dyn Fn(Names, &str) -> Vec<Name> + Send + Sync>;

/// Whether a shell asks.
pub fn is_asked_for() -> bool {
    std::env::var_os(VARIABLE).is_some_and(|shell| !shell.is_empty())
}

/// The command line that is being typed, of the words with which a shell calls.
pub fn typed(words: &[OsString]) -> &[OsString] {
    let at = words.iter().position(|word| word == "--").map_or(words.len(), |at| at + 1);
    &words[at..]
}

/// Answers a shell.
///
/// # Errors
/// It is a shell that is not known; nobody reads the answer.
pub fn complete(words: &[OsString], known: &Known) -> Result<()> {
    let env = CompleteEnv::with_factory(|| with_names(Cli::command(), known)).var(VARIABLE);
    let folder = std::env::current_dir().ok();
    env.try_complete(words, folder.as_deref())
        .map(drop)
        .map_err(|error| Error::failed("cannot complete").because(error.to_string()))
}

/// The command, whose words are completed with names where they are names.
fn with_names(command: Command, known: &Known) -> Command {
    let verb = command.get_name().to_string();
    let with = |arg: Arg| match names_of(&verb, &arg) {
        Some(names) => {
            let known = Arc::clone(known);
            arg.add(ArgValueCompleter::new(move |word: &OsStr| candidates(&known, names, word)))
        }
        None => arg,
    };
    command.mut_args(with).mut_subcommands(|below| with_names(below, known))
}

/// What an argument of a verb takes, by the name that its help gives to the value.
fn names_of(verb: &str, arg: &Arg) -> Option<Names> {
    let value = arg.get_value_names()?.first()?.as_str();
    match (value, verb, arg.get_long()) {
        ("STORE", ..) => Some(Names::Stores),
        ("ARCHIVE" | "ARCHIVE|GLOB" | "JOB[@ID]", ..) => Some(Names::Archives),
        ("NAME", "run", None) if arg.get_id() == "run_name" => Some(Names::Runs),
        ("JOB", "doctor", _) | ("NAME", "job", None) => Some(Names::OwnJobs),
        ("JOB", ..) | ("NAME", _, Some("job")) => Some(Names::Jobs),
        ("SET", ..) | ("NAME", "set", None) | ("NAME", _, Some("set")) => Some(Names::Sets),
        _ => None,
    }
}

fn candidates(known: &Known, names: Names, word: &OsStr) -> Vec<CompletionCandidate> {
    let Some(word) = word.to_str() else { return Vec::new() };
    let found = known(names, word).into_iter().filter(|found| found.name.starts_with(word));
    found.map(|found| CompletionCandidate::new(found.name).help(found.about.map(Into::into))).collect()
}

/// The script that makes a shell ask. In memory, because it is printed by others.
///
/// # Errors
/// None that is known: it is written to memory.
pub fn script(shell: Shell) -> Result<Vec<u8>> {
    let mut script = Vec::new();
    let name = shell.to_string();
    let written = match Shells::builtins().completer(&name) {
        _ if shell == Shell::Bash => return Ok(BASH.replace("VARIABLE", VARIABLE).into_bytes()),
        Some(shell) => shell.write_registration(VARIABLE, "sealift", "sealift", "sealift", &mut script),
        None => Ok(()),
    };
    written.map(|()| script).map_err(|error| {
        Error::failed(format!("cannot write the script for {name}")).because(error.to_string())
    })
}

/// As clap_complete's, but that bash breaks words at `@`, `:` and `=`: they stand in the names of archives and stores.
const BASH: &str = r#"_sealift() {
    local IFS=$'\013' line=${COMP_LINE:0:COMP_POINT} words word
    IFS=$' \t\n' read -ra words <<<"$line"
    [[ $line != *[[:blank:]] ]] || words+=("")
    word=${words[${#words[@]}-1]}
    COMPREPLY=($(_CLAP_IFS="$IFS" _CLAP_COMPLETE_INDEX=$((${#words[@]} - 1)) VARIABLE=bash \
        sealift -- "${words[@]}" 2>/dev/null)) || COMPREPLY=()
    # Of a word that bash has broken, it wants what comes behind the break.
    COMPREPLY=("${COMPREPLY[@]#"${word%"$2"}"}")
    if [[ ${#COMPREPLY[@]} != 1 || ! ${COMPREPLY[0]} =~ [=/:@]$ ]]; then compopt +o nospace 2>/dev/null; fi
}
complete -o nospace -o bashdefault -F _sealift sealift
"#;

#[cfg(test)]
mod tests {
    use super::*;

    /// Which names are asked for when a line is completed, by the engine that answers the shells.
    fn asked(line: &str) -> (Vec<Names>, Vec<String>) {
        let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let known: Known = Arc::new(move |names, _| {
            seen.lock().unwrap().push(names);
            let name = |name: &str| Name { name: name.into(), about: None };
            vec![name("media"), name("media@20261122T020000Z-1f2e3d4c"), name("near")]
        });
        let mut command = with_names(Cli::command(), &known);
        let words: Vec<_> = line.split(' ').map(OsString::from).collect();
        let at = words.len() - 1;
        let found = clap_complete::engine::complete(&mut command, words, at, None).unwrap();
        let found = found.iter().map(|found| found.get_value().to_string_lossy().into_owned()).collect();
        let asked = asked.lock().unwrap().clone();
        (asked, found)
    }

    #[test]
    fn a_word_is_completed_with_the_names_of_what_it_may_be() {
        for (line, names) in [
            ("sealift backup job m", Names::OwnJobs),
            ("sealift backup set m", Names::Sets),
            ("sealift backup path --to m", Names::Stores),
            ("sealift backup path --job m", Names::Jobs),
            ("sealift list m", Names::Jobs),
            ("sealift list --from m", Names::Stores),
            ("sealift show m", Names::Archives),
            ("sealift restore m", Names::Archives),
            ("sealift restore set m", Names::Sets),
            ("sealift verify --set m", Names::Sets),
            ("sealift cat m", Names::Archives),
            ("sealift diff m", Names::Archives),
            ("sealift rekey m", Names::Archives),
            ("sealift prune m", Names::Jobs),
            ("sealift status m", Names::Jobs),
            ("sealift doctor m", Names::OwnJobs),
            ("sealift run m", Names::Runs),
            ("sealift plan m", Names::Sets),
            ("sealift copy m", Names::Archives),
        ] {
            let (asked, found) = asked(line);
            assert_eq!(asked, [names], "{line}");
            assert!(found.contains(&"media".into()) && !found.contains(&"near".into()), "{line}: {found:?}");
        }
        assert_eq!(asked("sealift show media@2").1, ["media@20261122T020000Z-1f2e3d4c"]);
    }

    #[test]
    fn verbs_and_options_are_completed_as_they_are() {
        assert!(asked("sealift ver").1.contains(&"verify".into()));
        assert!(asked("sealift list --lo").1.contains(&"--long".into()));
    }

    #[test]
    fn what_is_typed_stands_behind_two_dashes() {
        let words = ["sealift", "--", "sealift", "show", ""].map(OsString::from);
        assert_eq!(typed(&words), &words[2..]);
        assert!(typed(&words[..1]).is_empty());
    }
}
