//! `config`: whether the settings file is right, and what it says.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::config::{self, Config, HOOKS, Problem, Setting, Table, toml_key, toml_value};
use crate::error::{Context, Error, Result};
use crate::job::inventory::inventory;
use crate::preset::secret_of_setting;
use crate::report::{Event, Mode, Reporter, print, print_text, print_while_read};
use crate::store::locate;

/// Where a store is named beside the settings file.
const STORE: &str = "SEALIFT_STORE";

/// What stands in place of a secret.
const REDACTED: &str = "<redacted>";

/// Checks the whole file: prints every problem. Nothing is contacted.
///
/// # Errors
/// There is a problem, or no file.
pub fn check(named: Option<&Path>, mode: Mode, ui: &Reporter) -> Result<()> {
    let (config, problems) = problems(file(named)?)?;
    let path = config.path().display();
    print_while_read(problems.iter().map(|problem| line(problem, config.path(), mode)))?;
    if !problems.is_empty() {
        let count = counted(problems.len(), "problem");
        return Err(Error::usage(format!("{path}: {count}")).hint("see `sealift config --help`"));
    }
    let checked = Event::Checked {
        file: config.path().display().to_string(),
        stores: config.stores().len(),
        jobs: config.jobs().len(),
        sets: config.sets().len(),
    };
    match mode {
        Mode::Json => ui.emit(checked),
        Mode::Human => print(&checked.to_string())?,
        Mode::Quiet => {}
    }
    Ok(())
}

/// Writes a settings file to begin with, for what is found on this host.
///
/// # Errors
/// The file is there already, or cannot be made.
pub async fn init(named: Option<&Path>, ui: &Reporter) -> Result<()> {
    let file = named.unwrap_or(Path::new("sealift.toml"));
    let is_stdout = file == Path::new("-");
    let there = || {
        Error::usage(format!("{} is there already, and is left as it is", file.display()))
            .hint("name another file, or print it: `sealift config init -`")
    };
    // Before the host is looked at, which may take a while.
    if !is_stdout && file.symlink_metadata().is_ok() {
        return Err(there());
    }
    let found = inventory().await;
    if let Some(why) = &found.unreachable {
        ui.warn(&format!("no containers and volumes were looked for: {why}"));
    }
    let text = config::settings_for(&found);
    if is_stdout {
        return print_text(text.as_bytes());
    }
    match create_new(file, text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Err(there()),
        written => written.context(|| format!("cannot write {}", file.display()))?,
    }
    let next =
        "change its store's URL, give it a passphrase, then `sealift config check` and `sealift doctor`";
    ui.note(&format!("{} was written: {next}", file.display()));
    Ok(())
}

/// Makes a file that is not there yet. It can name commands to run, so that only its owner may write it.
fn create_new(file: &Path, text: &[u8]) -> std::io::Result<()> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let fd = rustix::fs::open(file, flags, Mode::from_raw_mode(0o640))?;
    let mut left = text;
    while !left.is_empty() {
        let written = rustix::io::write(&fd, left)?;
        left = &left[written..];
    }
    rustix::fs::fsync(&fd)?;
    Ok(())
}

/// A settings file, and all that is wrong in it, by line.
///
/// # Errors
/// The file cannot be read.
pub(super) fn problems(path: PathBuf) -> Result<(Config, Vec<Problem>)> {
    let (config, mut problems) = Config::load(path)?;
    let fine = |table: &Table| problems.iter().all(|problem| problem.table != table.title);
    let jobs = config.jobs().iter().filter(|job| fine(&job.table));
    // As `backup job` would read them, up to the point where the engine or a store would be asked.
    let wrong = jobs.filter_map(|job| {
        let error = config.job(&job.name, &[]).err()?;
        let hint = error.hint_text().map(String::from);
        Some(job.table.problem(job.table.line, error.to_string(), hint))
    });
    let wrong: Vec<_> = wrong.collect();
    problems.extend(wrong);
    problems.extend(config.missing_files());
    let wrong: Vec<_> =
        config.schedule_problems(true).into_iter().filter(|wrong| !problems.contains(wrong)).collect();
    problems.extend(wrong);
    problems.sort_by_key(|problem| problem.line);
    Ok((config, problems))
}

fn line(problem: &Problem, path: &Path, mode: Mode) -> String {
    if mode == Mode::Json {
        return json!({
            "event": "problem", "file": path, "line": problem.line, "table": problem.table,
            "message": problem.text, "hint": problem.hint,
        })
        .to_string();
    }
    let hint = problem.hint.iter().map(|hint| format!("; {hint}")).collect::<String>();
    format!("{}:{}: {problem}{hint}", path.display(), problem.line)
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn file(named: Option<&Path>) -> Result<PathBuf> {
    config::find(named)?.ok_or_else(|| config::no_file("there is nothing to look at"))
}

/// Prints what the file says, what jobs have from its top included, without secrets.
///
/// # Errors
/// There is no file, or it is wrong.
pub fn show(named: Option<&Path>, mode: Mode) -> Result<()> {
    let config = Config::open(file(named)?)?;
    let sections = sections(&config);
    if mode == Mode::Json {
        return print(&as_json(&config, &sections).to_string());
    }
    print(&format!("# {}", config.path().display()))?;
    for Section { kind, name, settings } in &sections {
        if !kind.is_empty() {
            print(&format!("\n[{kind}.{}]", toml_key(name)))?;
        }
        for Shown { key, value, line, note } in settings {
            print(&format!("{} = {}  # line {line}{note}", toml_key(key), toml_value(value)))?;
        }
    }
    Ok(())
}

/// A table to be shown.
struct Section {
    kind: &'static str,
    name: String,
    settings: Vec<Shown>,
}

/// A setting to be shown.
struct Shown {
    key: String,
    value: Value,
    line: usize,
    note: String,
}

impl Shown {
    fn new(setting: &Setting, note: String) -> Self {
        Shown { key: setting.key.clone(), value: without_secrets(setting), line: setting.line, note }
    }
}

fn sections(config: &Config) -> Vec<Section> {
    let all =
        |table: &Table| table.settings.iter().map(|setting| Shown::new(setting, String::new())).collect();
    let top = config.top().settings.iter().map(|setting| Shown::new(setting, overruled(&setting.key)));
    let mut sections = vec![Section { kind: "", name: String::new(), settings: top.collect() }];
    for (name, table) in config.stores() {
        sections.push(Section { kind: "stores", name: name.clone(), settings: all(table) });
    }
    for job in config.jobs() {
        let (key, value) = ("source".into(), job.source.clone().into());
        let source = Shown { key, value, line: job.table.line, note: String::new() };
        let settings = config.in_force(job).into_iter().map(|setting| {
            let from = if job.table.get(&setting.key).is_some() { "" } else { ", from the top" };
            Shown::new(setting, format!("{from}{}", overruled(&setting.key)))
        });
        let settings = std::iter::once(source).chain(settings).collect();
        sections.push(Section { kind: "jobs", name: job.name.clone(), settings });
    }
    for (name, set) in config.sets() {
        sections.push(Section { kind: "sets", name: name.clone(), settings: all(&set.table) });
    }
    for (name, table) in config.schedules() {
        sections.push(Section { kind: "schedules", name: name.clone(), settings: all(table) });
    }
    for told in config.told() {
        sections.push(Section { kind: told.kind, name: told.name.clone(), settings: all(&told.table) });
    }
    sections
}

/// The environment wins over the file.
fn overruled(key: &str) -> String {
    let secret = secret_of_setting(key).and_then(|secret| secret.variable());
    let store = (matches!(key, "to" | "from") && std::env::var_os(STORE).is_some()).then_some(STORE);
    secret.or(store).map(|name| format!(", but {name} is set and wins")).unwrap_or_default()
}

/// The value, without what could be a secret: a command that prints one or is told one, what a container's
/// environment holds.
fn without_secrets(setting: &Setting) -> Value {
    let each = |value: &Value, hide: &dyn Fn(&str) -> String| match value {
        Value::Array(values) => values.iter().map(|v| hide(v.as_str().unwrap_or_default())).collect(),
        value => Value::from(hide(value.as_str().unwrap_or_default())),
    };
    match setting.key.as_str() {
        key if key.ends_with("_command") || HOOKS.contains(&key) => REDACTED.into(),
        // Whoever knows where a ping or a webhook goes can send one; headers hold tokens.
        "headers" => REDACTED.into(),
        "url" if !is_store(setting) => REDACTED.into(),
        "env" => each(&setting.value, &|entry| match entry.split_once('=') {
            Some((name, _)) => format!("{name}={REDACTED}"),
            None => entry.into(),
        }),
        "to" | "from" => each(&setting.value, &|store| match store.contains(':') && locate(store).is_err() {
            true => REDACTED.into(),
            false => store.into(),
        }),
        _ => setting.value.clone(),
    }
}

/// Whether its URL is that of a store, which has no secrets.
fn is_store(setting: &Setting) -> bool {
    setting.value.as_str().is_some_and(|url| locate(url).is_ok())
}

fn as_json(config: &Config, sections: &[Section]) -> Value {
    let fields = |settings: &[Shown]| {
        settings.iter().map(|shown| (shown.key.clone(), shown.value.clone())).collect::<Map<_, _>>()
    };
    let mut whole = Map::new();
    whole.insert("file".into(), json!(config.path()));
    for kind in ["stores", "jobs", "sets", "schedules", "ping", "webhook", "mail"] {
        let named = sections.iter().filter(|section| section.kind == kind);
        let named = named.map(|section| (section.name.clone(), Value::Object(fields(&section.settings))));
        whole.insert(kind.into(), Value::Object(named.collect()));
    }
    let top = sections
        .iter()
        .filter(|section| section.kind.is_empty())
        .flat_map(|section| fields(&section.settings));
    whole.insert("top".into(), Value::Object(top.collect()));
    Value::Object(whole)
}
