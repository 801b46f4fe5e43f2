//! What can be wrong in a settings file: everything is looked at, and every problem is told.

use clap::Command;

use super::defaults::{self, Wrong};
use super::file::{Problem, Setting, Table, toml_value};
use super::keep::{self, KEEP};
use super::schedules::{self, RUN};
use super::tell::{self, METRICS_FILE};
use super::{Job, Set};
use crate::archive::name::JobName;
use crate::report::nearest;
use crate::store::locate;

/// Options that a settings file would repeat every night, though they are meant for once.
const FOR_ONCE: [&str; 2] = ["make_store", "dry_run"];

/// Files that the settings of a table name, and that are not there, or not ours to read. Not looked for when the file is
/// read: a job is not to fail for what another one lacks.
pub fn missing_files<'a>(commands: &[&Command], table: &'a Table) -> impl Iterator<Item = Problem> + 'a {
    let names_file = |setting: &&Setting| {
        let args = commands.iter().filter_map(|command| defaults::argument(command, &setting.key));
        args.flat_map(|arg| arg.get_value_names().into_iter().flatten())
            .any(|name| matches!(name.as_str(), "FILE" | "DIRS"))
    };
    let named: Vec<_> = table.settings.iter().filter(|setting| setting.gives()).filter(names_file).collect();
    named.into_iter().flat_map(move |setting| {
        let files = setting.words().unwrap_or_default().into_iter().filter(|file| file != "-");
        files.filter_map(move |file| unreadable(table, setting, &file))
    })
}

/// The problem of a file that a setting names and that cannot be read.
pub fn unreadable(table: &Table, setting: &Setting, file: &str) -> Option<Problem> {
    let why = rustix::fs::access(file, rustix::fs::Access::READ_OK).err()?;
    let text = format!("{}: cannot read {file}: {}", setting.key, std::io::Error::from(why));
    Some(table.problem(setting.line, text, Some("is it there, and may this user read it?".into())))
}

/// A `[stores.NAME]`.
pub fn store(name: &str, table: &Table, problems: &mut Vec<Problem>) {
    let command = defaults::store_command();
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || !name.chars().all(good) {
        let hint = "a-z A-Z 0-9 . _ and -".to_string();
        problems.push(table.problem(table.line, format!("{name:?} is no name of a store"), Some(hint)));
    }
    match table.get("url").map(|url| (url, url.value.as_str())) {
        None => problems.push(table.problem(
            table.line,
            "has no url",
            Some("url = \"s3://bucket/prefix\"".into()),
        )),
        Some((setting, None)) => problems.push(table.problem(setting.line, "url is a text", None)),
        Some((setting, Some(url))) => {
            let wrong = locate(url).err();
            problems.extend(wrong.map(|error| {
                table.problem(setting.line, format!("url: {error}"), error.hint_text().map(String::from))
            }));
        }
    }
    keys(&command, table, &["url", KEEP], problems);
    problems.extend(keep::problem(table));
    if table.get("sse_kms_key_id").is_some() && table.get("sse").is_none() {
        let text = "sse_kms_key_id means nothing without sse";
        problems.push(table.problem(table.line, text, Some("sse = \"aws:kms\"".into())));
    }
}

/// What stands above all tables.
pub fn top(root: &Command, table: &Table, problems: &mut Vec<Problem>) {
    let verbs = defaults::verbs(root);
    let known: Vec<_> =
        verbs.iter().flat_map(|verb| verb.get_arguments().map(move |arg| (verb, arg))).collect();
    problems.extend(keep::problem(table));
    let scheduled = defaults::schedule_command();
    let scheduled = schedules::keys(&scheduled);
    problems.extend(schedules::problems(table));
    let own = [KEEP, METRICS_FILE];
    for setting in table.settings.iter().filter(|setting| !own.contains(&setting.key.as_str())) {
        let key = setting.key.as_str();
        if scheduled.contains(&key) {
            continue;
        }
        if let Some(problem) = for_once(table, setting) {
            problems.push(problem);
            continue;
        }
        let takers: Vec<_> = verbs.iter().filter(|verb| defaults::top_takes(verb, key).is_some()).collect();
        let tried = || takers.iter().map(|verb| defaults::fits(verb, setting));
        if takers.is_empty() {
            let wrong = match known.iter().any(|(_, arg)| arg.get_id() == key) {
                true => (
                    format!("{key} cannot stand here"),
                    Some("it belongs to one job, below [jobs.NAME], or on the command line".into()),
                ),
                false => {
                    let options = known
                        .iter()
                        .filter(|(verb, arg)| defaults::top_takes(verb, arg.get_id().as_str()).is_some());
                    let keys = options.map(|(_, arg)| arg.get_id().as_str());
                    let tables = ["stores", "jobs", "sets", "schedules"].into_iter().chain(tell::KINDS);
                    let names = keys.chain(own).chain(tables).chain(scheduled.iter().copied());
                    unknown(key, &names.collect::<Vec<_>>())
                }
            };
            problems.push(table.problem(setting.line, wrong.0, wrong.1));
        } else if let (Some(wrong), true) =
            (tried().find_map(|tried| tried.err()), tried().all(|t| t.is_err()))
        {
            problems.push(table.problem(setting.line, wrong.0, wrong.1));
        }
    }
    problems.extend(verbs.iter().find_map(|verb| conflict_in(verb, table)));
}

fn for_once(table: &Table, setting: &Setting) -> Option<Problem> {
    let key = setting.key.as_str();
    FOR_ONCE.contains(&key).then(|| {
        let hint = format!("say --{} on the command line, once", key.replace('_', "-"));
        table.problem(setting.line, format!("{key} cannot stand in a settings file"), Some(hint))
    })
}

/// A command and its arguments that were given as one text: there is no program of that name.
fn command_in_one_text(table: &Table) -> Option<Problem> {
    let setting = table.get("command")?;
    let words: Vec<_> = setting.value.as_str()?.split_whitespace().collect();
    let list: Vec<_> = words.iter().map(|word| toml_value(&(*word).into())).collect();
    (words.len() > 1).then(|| {
        let text = "command is one text, and would be the name of one program";
        table.problem(setting.line, text, Some(format!("command = [{}]", list.join(", "))))
    })
}

fn conflict_in(command: &Command, table: &Table) -> Option<Problem> {
    let (one, other) = defaults::conflict_in(command, &table.settings)?;
    let text = format!("{} and {} exclude each other", other.key, one.key);
    Some(table.problem(one.line, text, Some("take one of them out".into())))
}

/// Every key is known, or one of `more`, and has a value that can be had.
fn keys(command: &Command, table: &Table, more: &[&str], problems: &mut Vec<Problem>) {
    let known: Vec<_> = command.get_arguments().map(|arg| arg.get_id().as_str()).collect();
    for setting in &table.settings {
        let key = setting.key.as_str();
        if let Some(problem) = for_once(table, setting) {
            problems.push(problem);
            continue;
        }
        let wrong = match (more.contains(&key), known.contains(&key)) {
            (true, _) => None,
            (_, true) => defaults::fits(command, setting).err(),
            _ => Some(unknown(key, &[&known[..], more].concat())),
        };
        problems.extend(wrong.map(|(text, hint)| table.problem(setting.line, text, hint)));
    }
}

/// A `[jobs.NAME]`; nothing where it has no source that is known.
pub fn job(root: &Command, name: String, mut table: Table, problems: &mut Vec<Problem>) -> Option<Job> {
    named("job", &name, &table, problems);
    let names: Vec<_> = defaults::sources(root).map(Command::get_name).collect();
    let Some(source) = table.get("source").cloned() else {
        let hint = format!("source is one of {}", names.join(", "));
        problems.push(table.problem(table.line, "has no source", Some(hint)));
        return None;
    };
    let word = source.value.as_str().unwrap_or_default();
    let Some(command) = defaults::sources(root).find(|command| command.get_name() == word) else {
        let text = format!("{} is no source", toml_value(&source.value));
        problems.push(table.problem(source.line, text, Some(suggestion(word, &names))));
        return None;
    };
    table.settings.retain(|setting| setting.key != "source");
    problems.extend(keep::problem(&table));
    let limits = defaults::limit_command();
    let watched: Vec<_> = limits.get_arguments().map(|arg| arg.get_id().as_str()).collect();
    let scheduled = defaults::schedule_command();
    keys(command, &table, &[&[KEEP][..], &schedules::keys(&scheduled), &watched].concat(), problems);
    problems.extend(schedules::problems(&table));
    let wrong = |setting: &Setting| Some((setting.line, defaults::fits(&limits, setting).err()?));
    problems.extend(
        table.settings.iter().filter_map(wrong).map(|(at, (text, hint))| table.problem(at, text, hint)),
    );
    problems.extend(conflict_in(command, &table));
    problems.extend(command_in_one_text(&table));
    let required = command.get_positionals().filter(|arg| arg.is_required_set());
    let missing = required
        .map(|arg| arg.get_id().as_str())
        .filter(|id| table.get(id).is_none_or(|setting| !setting.gives()));
    problems.extend(missing.map(|id| {
        let hint = format!("it is what `sealift backup {word}` takes: see its --help");
        table.problem(table.line, format!("has no {id}"), Some(hint))
    }));
    Some(Job { name, source: word.into(), table })
}

/// Names become folders of a store.
fn named(what: &str, name: &str, table: &Table, problems: &mut Vec<Problem>) {
    // On the command line, a word that begins with a hyphen would be an option.
    let is_option = name.split('/').any(|part| part.starts_with('-'));
    if is_option || name.parse::<JobName>().is_err() {
        let hint = JobName::CHARACTERS.to_string();
        problems.push(table.problem(table.line, format!("{name:?} is no {what} name"), Some(hint)));
    }
}

/// A `[sets.NAME]`, of these jobs.
pub fn set(name: &str, jobs: &[String], table: Table, problems: &mut Vec<Problem>) -> Set {
    named("set", name, &table, problems);
    let scheduled = defaults::schedule_command();
    let known = [&["jobs", KEEP][..], &schedules::keys(&scheduled)].concat();
    keys(&Command::new("set"), &table, &known, problems);
    problems.extend(keep::problem(&table));
    problems.extend(schedules::problems(&table));
    let mut found: Vec<String> = Vec::new();
    let wrong = |line, text: String, hint: String| table.problem(line, text, Some(hint));
    match table.get("jobs").map(|jobs| (jobs, jobs.value.as_array(), jobs.words())) {
        Some((_, Some(list), Some(words))) if !list.is_empty() => found = words,
        Some((setting, ..)) => {
            problems.push(wrong(
                setting.line,
                "jobs is a list of jobs".into(),
                "jobs = [\"a\", \"b\"]".into(),
            ));
        }
        None => problems.push(wrong(table.line, "has no jobs".into(), "jobs = [\"a\", \"b\"]".into())),
    }
    let line = table.get("jobs").map_or(table.line, |setting| setting.line);
    let known: Vec<_> = jobs.iter().map(String::as_str).collect();
    for (i, job) in found.iter().enumerate() {
        if !jobs.contains(job) {
            problems.push(wrong(line, format!("there is no job {job:?}"), suggestion(job, &known)));
        } else if found[..i].contains(job) {
            problems.push(wrong(line, format!("job {job:?} is named twice"), "name each once".into()));
        }
    }
    Set { jobs: found, table }
}

/// A `[schedules.NAME]`.
pub fn schedule(name: &str, table: &Table, problems: &mut Vec<Problem>) {
    named("schedule", name, table, problems);
    let scheduled = defaults::schedule_command();
    keys(&Command::new("schedule"), table, &[&[RUN][..], &schedules::keys(&scheduled)].concat(), problems);
    problems.extend(schedules::problems(table));
}

/// What may have been meant.
pub fn suggestion(word: &str, known: &[&str]) -> String {
    match (nearest(word, known), known) {
        (Some(name), _) => format!("did you mean {name:?}?"),
        (None, []) => "there is none at all".into(),
        (None, known) => format!("one of {}", known.join(", ")),
    }
}

/// A key that nothing is known of; least of all one that would hold a secret.
pub fn unknown(key: &str, known: &[&str]) -> Wrong {
    let no_secrets = format!("a settings file holds no secrets: {key:?} cannot stand here");
    let ends = ["key", "token", "secret"].iter().any(|word| key.rsplit(['_', '-']).next() == Some(word));
    let signs = ["password", "passwd", "secret"].iter().any(|word| key.contains(word));
    let (in_file, by_command) = (format!("{key}_file"), format!("{key}_command"));
    if known.contains(&in_file.as_str()) && known.contains(&by_command.as_str()) {
        return (no_secrets, Some(format!("{in_file} or {by_command} says where it is")));
    }
    if matches!(key, "passphrase" | "pass") {
        let hint = "passphrase_file or passphrase_command says where it is";
        return (no_secrets, Some(hint.into()));
    }
    if ends || signs || key.starts_with("key") {
        let hint = "keys of a store stand in the environment (AWS_SECRET_ACCESS_KEY, AZURE_STORAGE_ACCOUNT_KEY, …); \
                    a passphrase in passphrase_file or passphrase_command";
        return (no_secrets, Some(hint.into()));
    }
    let hint = nearest(key, known).map(|name| format!("did you mean {name:?}?"));
    (format!("there is no setting {key:?}"), hint)
}

#[cfg(test)]
mod tests {
    use super::super::tests::config;

    /// The problems of a file, each with its line.
    fn problems(text: &str) -> Vec<(usize, String)> {
        let mut problems = config(text).1;
        problems.sort_by_key(|problem| problem.line);
        problems.iter().map(|problem| (problem.line, problem.to_string())).collect()
    }

    fn only(text: &str) -> String {
        let mut found = problems(text);
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0).1
    }

    fn hint(text: &str) -> String {
        config(text).1.remove(0).hint.unwrap_or_default()
    }

    #[test]
    fn a_key_that_nothing_knows_is_told_with_what_was_meant() {
        assert_eq!(only("levle = 3\n"), "there is no setting \"levle\"");
        assert_eq!(hint("levle = 3\n"), "did you mean \"level\"?");
        let job = "[jobs.a]\nsource = \"stdin\"\nlevle = 3\n";
        assert_eq!(problems(job), [(3, "[jobs.a] there is no setting \"levle\"".into())]);
    }

    #[test]
    fn a_file_holds_no_secrets() {
        for key in
            ["passphrase", "password", "ucp_password", "secret_access_key", "token", "api-token", "key"]
        {
            let told = only(&format!("{key} = \"hidden\"\n"));
            assert_eq!(told, format!("a settings file holds no secrets: {key:?} cannot stand here"));
        }
        assert!(hint("passphrase = \"x\"\n").starts_with("passphrase_file or passphrase_command"));
        assert!(hint("secret_access_key = \"x\"\n").contains("AWS_SECRET_ACCESS_KEY"));
    }

    #[test]
    fn a_store_has_a_name_and_a_url() {
        assert_eq!(only("[stores.x]\n"), "[stores.x] has no url");
        assert_eq!(only("[stores.x]\nurl = 1\n"), "[stores.x] url is a text");
        assert!(only("[stores.x]\nurl = \"ftp://x\"\n").starts_with("[stores.x] url: "));
        assert!(only("[stores.\"a b\"]\nurl = \"memory:///\"\n").contains("is no name of a store"));
        assert!(only("[stores.x]\nurl = \"memory:///\"\nsse_kms_key_id = \"k\"\n").contains("without sse"));
    }

    #[test]
    fn a_job_has_a_source_that_is_known_and_what_it_takes() {
        assert_eq!(only("[jobs.a]\n"), "[jobs.a] has no source");
        assert_eq!(only("[jobs.a]\nsource = \"exce\"\n"), "[jobs.a] \"exce\" is no source");
        assert_eq!(hint("[jobs.a]\nsource = \"exce\"\n"), "did you mean \"exec\"?");
        let missing = problems("[jobs.a]\nsource = \"exec\"\n");
        assert_eq!(missing.len(), 2, "{missing:?}");
        assert_eq!(only("[jobs.a]\nsource = \"volume\"\nvolumes = []\n"), "[jobs.a] has no volumes");
        assert!(only("[jobs.a]\nsource = \"set\"\n").ends_with("is no source"));
    }

    #[test]
    fn values_have_the_kind_that_the_option_takes() {
        let job = |setting: &str| only(&format!("[jobs.a]\nsource = \"stdin\"\n{setting}\n"));
        assert_eq!(job("allow_empty = 1"), "[jobs.a] allow_empty is true or false");
        assert_eq!(job("level = [1, 2]"), "[jobs.a] level takes one value, not 2");
        assert_eq!(job("level = true"), "[jobs.a] level is a text or a number");
        assert_eq!(job("warn_ok = true"), "[jobs.a] warn_ok is a text, or a list of texts");
        assert!(job("memory = \"much\"").starts_with("[jobs.a] memory: \"much\" is no size"));
        assert!(job("warn_ok = \"all\"").starts_with("[jobs.a] warn_ok: invalid value 'all'"));
        assert!(job("schedule = 2").starts_with("[jobs.a] schedule: \"2\" is no cron expression"));
    }

    #[test]
    fn settings_of_one_table_may_exclude_each_other() {
        let text = "[jobs.a]\nsource = \"stdin\"\nno_encrypt = true\npassphrase_file = \"p\"\n";
        assert_eq!(
            problems(text),
            [(4, "[jobs.a] no_encrypt and passphrase_file exclude each other".into())]
        );
        assert_eq!(problems(&text.replace("true", "false")), []);
        assert_eq!(only("json = true\nquiet = true\n"), "json and quiet exclude each other");
    }

    #[test]
    fn a_set_has_jobs_that_exist_each_once() {
        let jobs = "[jobs.a]\nsource = \"stdin\"\n";
        assert_eq!(only("[sets.s]\n"), "[sets.s] has no jobs");
        assert_eq!(only("[sets.s]\njobs = []\n"), "[sets.s] jobs is a list of jobs");
        assert_eq!(only("[sets.s]\njobs = \"a\"\n"), "[sets.s] jobs is a list of jobs");
        assert_eq!(only(&format!("{jobs}[sets.s]\njobs = [\"b\"]\n")), "[sets.s] there is no job \"b\"");
        assert_eq!(
            only(&format!("{jobs}[sets.s]\njobs = [\"a\", \"a\"]\n")),
            "[sets.s] job \"a\" is named twice"
        );
        assert_eq!(
            only(&format!("{jobs}[sets.s]\njobs = [\"a\"]\nlevel = 3\n")),
            "[sets.s] there is no setting \"level\""
        );
    }

    #[test]
    fn names_become_folders_and_are_safe() {
        for name in ["../x", "a//b", "UPPER", ".a", "-a"] {
            let told = only(&format!("[jobs.{name:?}]\nsource = \"stdin\"\n"));
            assert!(told.ends_with(&format!("{name:?} is no job name")), "{told}");
        }
        assert_eq!(problems("[jobs.\"team/a-1\"]\nsource = \"stdin\"\n"), []);
    }

    #[test]
    fn a_command_is_a_list_of_words() {
        let job =
            |command: &str| format!("[jobs.a]\nsource = \"exec\"\ncontainer = \"db\"\ncommand = {command}\n");
        let one = job("\"pg_dumpall -U postgres\"");
        assert_eq!(
            problems(&one),
            [(4, "[jobs.a] command is one text, and would be the name of one program".into())]
        );
        assert_eq!(hint(&one), "command = [\"pg_dumpall\", \"-U\", \"postgres\"]");
        for good in ["\"pg_dumpall\"", "[\"pg_dumpall\", \"-U\"]", "[\"a program\"]"] {
            assert_eq!(problems(&job(good)), [], "{good}");
        }
    }

    #[test]
    fn a_store_is_not_made_anew_every_night() {
        let told = "make_store cannot stand in a settings file";
        assert_eq!(only("make_store = true\n"), told);
        assert_eq!(only("[jobs.a]\nsource = \"stdin\"\nmake_store = true\n"), format!("[jobs.a] {told}"));
        assert_eq!(hint("make_store = true\n"), "say --make-store on the command line, once");
    }

    #[test]
    fn files_that_are_not_there_are_told_each_at_its_line() {
        let text = "passphrase_file = \"/no/such/pass\"\n[jobs.a]\nsource = \"path\"\ndirs = [\"/usr\", \"/no/such/dir\"]\n\
                    exclude_from = \"/no/such/list\"\n[jobs.b]\nsource = \"stdin\"\npassphrase_file = \"-\"\n";
        let (config, problems) = config(text);
        assert_eq!(problems, [], "it is no fault of the file itself");
        let missing = config.missing_files();
        let told: Vec<_> = missing.iter().map(|problem| (problem.line, problem.to_string())).collect();
        let gone = "No such file or directory (os error 2)";
        assert_eq!(
            told,
            [
                (1, format!("passphrase_file: cannot read /no/such/pass: {gone}")),
                (4, format!("[jobs.a] dirs: cannot read /no/such/dir: {gone}")),
                (5, format!("[jobs.a] exclude_from: cannot read /no/such/list: {gone}")),
            ]
        );
    }
}
