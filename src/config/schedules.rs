//! What the settings say of when something is done, within which time, and what is run around it.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Command, FromArgMatches};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::Config;
use super::check::suggestion;
use super::command_line::{ParseError, read};
use super::defaults::{self, Wrong, alone, argument, fits, schedule_command};
use super::file::{Problem, Setting, Table};
use crate::cli::help::is_asked_for;
use crate::cli::{Prescan, ScheduleFlags};
use crate::error::{Error, Result};
use crate::host::hook::HookCommand;
use crate::job::schedule::When;

/// The key of what a `[schedules.NAME]` does.
pub const RUN: &str = "run";
const RUN_EXAMPLE: &str = "run = \"prune --confirm\"";
/// The keys of commands that are run around a run.
pub const HOOKS: [&str; 5] = ["before", "after", "success", "warning", "failure"];
/// How long each of them may take.
const HOOK_LIMIT: Duration = Duration::from_secs(5 * 60);
/// Verbs that can be run when nobody looks: they ask nothing and print no archive.
const VERBS: [&str; 10] =
    ["backup", "clean", "copy", "diff", "doctor", "drill", "plan", "prune", "status", "verify"];
/// What means something to a shell; here there is none.
const OF_SHELLS: &str = "'\"\\$`|&;<>()*?~#\n";

/// Something that is done by its name: a job, a set or a schedule.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its kind: `job`, `set` or `schedule`.
    pub kind: &'static str,
    /// The command line that does it, without `sealift`.
    pub words: Vec<String>,
    /// When it is due.
    pub when: Option<When>,
    /// Up to how much later it begins.
    pub jitter: Duration,
    /// How long it may take.
    pub time_limit: Option<Duration>,
    /// What is run around it.
    pub hooks: Hooks,
}

impl Entry {
    /// What is done: `backup`, `prune`.
    pub fn verb(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// How long it takes at most from one due time to the next.
    pub fn interval(&self) -> Option<Duration> {
        self.when.as_ref()?.interval(Timestamp::now())
    }
}

/// Commands of the host that are run around a run.
#[derive(Debug, Clone, Default)]
pub struct Hooks {
    commands: Vec<(&'static str, HookCommand)>,
    /// How long each may take.
    pub limit: Duration,
}

impl Hooks {
    /// The command of a hook.
    pub fn get(&self, hook: &str) -> Option<&HookCommand> {
        self.commands.iter().find(|(name, _)| *name == hook).map(|(_, command)| command)
    }
}

/// The keys that every table may have, and the top but for the first.
pub fn keys(command: &Command) -> Vec<&str> {
    command.get_arguments().map(|arg| arg.get_id().as_str()).chain(HOOKS).collect()
}

/// What is wrong with a table's own.
pub fn problems(table: &Table) -> Vec<Problem> {
    let command = schedule_command();
    let wrong = |setting: &Setting| -> Option<Wrong> {
        match setting.key.as_str() {
            "schedule" if table.title.is_empty() => Some((
                "schedule cannot stand here".into(),
                Some("it belongs to one job, set or schedule, below [jobs.NAME]".into()),
            )),
            key if HOOKS.contains(&key) => hook(setting).err(),
            _ => fits(&command, setting).err(),
        }
    };
    let wrong = |setting| Some((setting, wrong(setting)?));
    let found = table.settings.iter().filter_map(wrong);
    found.map(|(setting, (text, hint))| table.problem(setting.line, text, hint)).collect()
}

/// A hook's command; nothing where it only takes back what the top says.
fn hook(setting: &Setting) -> std::result::Result<Option<HookCommand>, Wrong> {
    let wrong = || {
        let key = &setting.key;
        (
            format!("{key} is a command: a list of words, or a text for a shell"),
            Some(format!("{key} = [\"systemctl\", \"stop\", \"app\"]")),
        )
    };
    match &setting.value {
        _ if !setting.gives() => Ok(None),
        Value::String(line) if !line.trim().is_empty() => Ok(Some(HookCommand::Line(line.clone()))),
        Value::Array(_) => {
            let words = setting.words().filter(|words| words.iter().all(|word| !word.is_empty()));
            words.map(|words| Some(HookCommand::Words(words))).ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}

/// The words of a `[schedules.NAME]`.
fn run_words(table: &Table) -> std::result::Result<Vec<String>, Wrong> {
    let wrong = |text: &str, hint: &str| (text.to_string(), Some(hint.to_string()));
    let setting = table.get(RUN).ok_or_else(|| wrong("has no run", RUN_EXAMPLE))?;
    let words = match &setting.value {
        Value::String(text) if text.contains(|c| OF_SHELLS.contains(c)) => {
            let hint = "write a list of words: run = [\"verify\", \"team/app\"]";
            return Err(wrong("run is read by no shell, and has signs that are for one", hint));
        }
        Value::String(text) => text.split_whitespace().map(String::from).collect(),
        _ => setting.words().unwrap_or_default(),
    };
    match words.first() {
        None => Err(wrong("run is a command line of sealift", RUN_EXAMPLE)),
        Some(verb) if VERBS.contains(&verb.as_str()) => Ok(words),
        Some(verb) => {
            let hint = suggestion(verb, &VERBS);
            Err((format!("run: {verb:?} is nothing that is done by a schedule"), Some(hint)))
        }
    }
}

/// What a table says, as far as it is right.
fn flags(table: &Table) -> ScheduleFlags {
    let command = schedule_command();
    let words = table.settings.iter().filter_map(|setting| {
        let long = argument(&command, &setting.key)?.get_long()?;
        fits(&command, setting).ok()?;
        Some(format!("--{long}={}", setting.words()?.first()?))
    });
    let matches = alone(&command).try_get_matches_from(words.collect::<Vec<_>>());
    matches.and_then(|matches| ScheduleFlags::from_arg_matches(&matches)).unwrap_or_default()
}

impl Config {
    /// What is wrong with schedules as a whole; all of it where everything that they need is there, too.
    pub fn schedule_problems(&self, whole: bool) -> Vec<Problem> {
        let of_run = self.schedules.iter().filter_map(|(_, table)| {
            let (text, hint) = match run_words(table) {
                Ok(words) => self.not_understood(&words, whole)?,
                Err(wrong) => wrong,
            };
            let line = table.get(RUN).map_or(table.line, |setting| setting.line);
            Some(table.problem(line, text, hint))
        });
        let entries: Vec<_> = self.tables().collect();
        let twice = entries.iter().filter_map(|(kind, name, table)| {
            let schedule = table.get("schedule")?;
            let (other, ..) = entries.iter().find(|(of, known, _)| known == name && of != kind)?;
            let hint = "`run` and `serve` know it by its name: change one of them";
            let text = format!("there is a {other} of this name, too");
            Some(table.problem(schedule.line, text, Some(hint.into())))
        });
        of_run.chain(twice).collect()
    }

    /// Why a command line is not understood. What it lacks may stand in the environment of whoever will run it.
    fn not_understood(&self, words: &[String], whole: bool) -> Option<Wrong> {
        let line = std::iter::once("sealift").chain(words.iter().map(String::as_str));
        let line: Vec<OsString> = line.map(OsString::from).collect();
        match read(Some(self), Prescan::of(&line).as_ref(), &line) {
            Ok(_) => None,
            Err(ParseError::Words(error)) if is_asked_for(&error) => {
                Some(("run asks for help, and does nothing".into(), None))
            }
            Err(ParseError::Words(error)) => {
                let lacks = error.kind() == clap::error::ErrorKind::MissingRequiredArgument;
                let (text, hint) = defaults::reason(&error);
                (whole || !lacks).then(|| (format!("run: {text}"), hint))
            }
            Err(ParseError::Settings(error, _)) => {
                Some((format!("run: {error}"), error.hint_text().map(String::from)))
            }
        }
    }

    /// All that has a name and can be done.
    fn tables(&self) -> impl Iterator<Item = (&'static str, &str, &Table)> {
        let jobs = self.jobs.iter().map(|job| ("job", job.name.as_str(), &job.table));
        let sets = self.sets.iter().map(|(name, set)| ("set", name.as_str(), &set.table));
        let others = self.schedules.iter().map(|(name, table)| ("schedule", name.as_str(), table));
        jobs.chain(sets).chain(others)
    }

    /// All that can be done by its name, whether it has a schedule or not.
    pub fn entries(&self) -> Vec<Entry> {
        self.tables().map(|(kind, name, table)| self.entry_of(kind, name, table)).collect()
    }

    /// The job, the set or the schedule of this name.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub fn entry(&self, name: &str) -> Result<Entry> {
        let found: Vec<_> = self.tables().filter(|(_, known, _)| *known == name).collect();
        match found[..] {
            [(kind, name, table)] => Ok(self.entry_of(kind, name, table)),
            [] => {
                let names: Vec<_> = self.tables().map(|(_, name, _)| name).collect();
                let path = self.path.display();
                Err(Error::usage(format!("there is no job, set or schedule {name} in {path}"))
                    .hint(suggestion(name, &names)))
            }
            [(one, ..), (other, ..), ..] => Err(Error::usage(format!("{name} is a {one} and a {other}"))
                .hint(format!("change the name of one, or say `sealift backup {one} {name}`"))),
        }
    }

    fn entry_of(&self, kind: &'static str, name: &str, table: &Table) -> Entry {
        let flags = flags(table).or(flags(&self.top));
        let zone = flags.time_zone.unwrap_or_else(TimeZone::system);
        let words = match kind {
            "schedule" => run_words(table).unwrap_or_default(),
            kind => ["backup", kind, name].map(String::from).into(),
        };
        let commands = HOOKS.into_iter().filter_map(|key| {
            let setting = table.get(key).or_else(|| self.top.get(key))?;
            Some((key, hook(setting).ok()??))
        });
        Entry {
            name: name.into(),
            kind,
            words,
            when: flags.schedule.map(|expression| When { expression, zone }),
            jitter: flags.jitter.unwrap_or_default(),
            time_limit: flags.time_limit,
            hooks: Hooks { commands: commands.collect(), limit: flags.hook_time_limit.unwrap_or(HOOK_LIMIT) },
        }
    }

    /// What the top says of when and how something is done, and a table does not.
    pub(super) fn scheduled_from_top<'a>(&'a self, table: &'a Table) -> impl Iterator<Item = &'a Setting> {
        let command = schedule_command();
        let known: Vec<String> = keys(&command).into_iter().map(String::from).collect();
        let missing = move |setting: &&Setting| {
            setting.gives() && known.contains(&setting.key) && table.get(&setting.key).is_none()
        };
        let is_due = table.get("schedule").is_some();
        self.top.settings.iter().filter(missing).filter(move |_| is_due)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::config;
    use super::*;

    const FILE: &str = "to = \"memory:///x\"\nfrom = \"memory:///x\"\njitter = \"10m\"\nbefore = \"lock\"\n\
        time_zone = \"Asia/Kolkata\"\n\
        [jobs.a]\nsource = \"stdin\"\nschedule = \"30 2 * * *\"\njitter = \"1m\"\nbefore = false\n\
        [jobs.b]\nsource = \"stdin\"\nafter = [\"touch\", \"x\"]\n\
        [sets.s]\njobs = [\"a\"]\nschedule = \"0 30 2 * * *\"\ntime_limit = \"1d\"\n";

    fn told(table: &str) -> Vec<(isize, String)> {
        let (_, problems) = config(&format!("{FILE}{table}"));
        let line = |line: usize| line as isize - FILE.lines().count() as isize;
        problems.iter().map(|problem| (line(problem.line), problem.to_string())).collect()
    }

    fn one(table: &str) -> (isize, String) {
        let mut told = told(table);
        assert_eq!(told.len(), 1, "{told:?}");
        told.remove(0)
    }

    #[test]
    fn a_table_wins_over_the_top_and_false_takes_back() {
        let (config, problems) = config(FILE);
        assert_eq!(problems, []);
        let entry = |name| config.entry(name).unwrap();
        let (a, b, s) = (entry("a"), entry("b"), entry("s"));
        assert_eq!((a.jitter, b.jitter), (Duration::from_secs(60), Duration::from_secs(600)));
        assert!(a.hooks.get("before").is_none() && b.hooks.get("before").is_some());
        assert_eq!(b.hooks.get("after"), Some(&HookCommand::Words(vec!["touch".into(), "x".into()])));
        assert_eq!(b.hooks.limit, HOOK_LIMIT);
        assert!(b.when.is_none());
        assert_eq!(a.when.unwrap().zone.iana_name(), Some("Asia/Kolkata"));
        assert_eq!((s.kind, s.time_limit), ("set", Some(Duration::from_secs(86_400))));
        assert_eq!((a.words.join(" "), s.words.join(" ")), ("backup job a".into(), "backup set s".into()));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let schedule = |text: &str| format!("[schedules.x]\nschedule = \"0 6 * * *\"\n{text}\n");
        assert_eq!(told(&schedule("run = \"prune --confirm\"")), []);
        assert_eq!(told(&schedule("run = [\"verify\", \"--all\", \"--since-last\"]")), []);
        for (text, words) in [
            ("run = \"prune --confrim\"", "run: unexpected argument '--confrim' found"),
            ("run = \"prnue --all\"", "run: \"prnue\" is nothing that is done by a schedule"),
            ("run = \"serve\"", "run: \"serve\" is nothing that is done by a schedule"),
            ("run = \"list | mail\"", "run is read by no shell, and has signs that are for one"),
            ("run = \"verify --help\"", "run asks for help, and does nothing"),
            ("run = \"verify --from naer a\"", "run: --from <STORE>: \"naer\" is no store"),
            ("run = []", "run is a command line of sealift"),
        ] {
            assert_eq!(one(&schedule(text)), (3, format!("[schedules.x] {words}")), "{text}");
        }
        assert_eq!(one("[schedules.x]\n"), (1, "[schedules.x] has no run".into()));
        let (line, text) = one("[jobs.c]\nsource = \"stdin\"\nschedule = \"30 25 * * *\"\n");
        assert_eq!(line, 3);
        assert!(text.starts_with("[jobs.c] schedule: \"30 25 * * *\" is no cron expression"), "{text}");
        assert_eq!(one("[jobs.c]\nsource = \"stdin\"\nbefore = 3\n").0, 3);
        assert_eq!(one("[jobs.c]\nsource = \"stdin\"\ntime_zone = \"Berlin\"\n").0, 3);
        assert!(one("[schedules.x]\nrun = \"status\"\nschedul = \"0 6 * * *\"\n").1.contains("schedul"));
    }

    #[test]
    fn a_name_that_is_due_has_one_meaning() {
        let (line, text) = one("[schedules.a]\nrun = \"status\"\n");
        assert!(text.contains("there is a schedule of this name, too"), "{line} {text}");
        let (config, _) = config(&format!("{FILE}[schedules.b]\nrun = \"status\"\n"));
        let error = config.entry("b").unwrap_err();
        assert_eq!(error.to_string(), "b is a job and a schedule");
        let error = config.entry("bb").unwrap_err();
        assert_eq!(error.to_string(), "there is no job, set or schedule bb in test.toml");
    }

    #[test]
    fn what_is_due_by_itself_stands_at_no_top() {
        let (_, problems) = config("schedule = \"30 2 * * *\"\n");
        assert_eq!(problems[0].to_string(), "schedule cannot stand here");
        let (_, problems) = config("befor = \"x\"\n");
        assert_eq!(problems[0].hint.as_deref(), Some("did you mean \"before\"?"));
    }
}
