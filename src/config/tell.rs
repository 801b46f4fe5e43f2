//! Who is told of runs: `[ping.NAME]`, `[webhook.NAME]`, `[mail.NAME]`, and `metrics_file`.

use std::cell::RefCell;
use std::path::PathBuf;

use serde_json::Value;

use super::check::{self, suggestion, unknown};
use super::file::{Problem, Setting, Table};
use crate::error::Error;
use crate::tell::metrics::textfile::Textfile;
use crate::tell::{
    Address, Mail, Occasion, Ping, Secret, Style, Target, Tell, Template, WarnedAs, Way, Webhook, headers,
};

use Occasion::{Failure, Start, Success, Warning};

/// The file that metrics are written to, at the top of the settings.
pub const METRICS_FILE: &str = "metrics_file";

/// The keys of each kind of table.
const KEYS: [(&str, &[&str]); 3] = [
    ("ping", &["ca_file", "jobs", "on", "style", "url", "url_env", "url_file", "warning"]),
    (
        "webhook",
        &[
            "ca_file",
            "headers",
            "headers_file",
            "jobs",
            "method",
            "on",
            "template",
            "url",
            "url_env",
            "url_file",
        ],
    ),
    ("mail", &["ca_file", "from", "jobs", "on", "password_env", "password_file", "server", "to", "user"]),
];

/// The kinds of tables.
pub const KINDS: [&str; 3] = [KEYS[0].0, KEYS[1].0, KEYS[2].0];

/// A table that says who is told.
#[derive(Debug)]
pub struct Told {
    /// One of [`KINDS`].
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// What stands in the file.
    pub table: Table,
}

/// Everybody who is told, from the tables; what is wrong in them is added to `problems`. `known` are the jobs and sets.
pub fn tell(told: &[Told], top: &Table, known: &[&str], problems: &mut Vec<Problem>) -> Tell {
    let targets = told.iter().filter_map(|told| target(told, known, problems)).collect();
    let of_top = Fields::new(top);
    let metrics = of_top.text(METRICS_FILE).map(Textfile::new);
    problems.extend(of_top.problems.take());
    Tell::new(targets, metrics)
}

/// Nothing where something is wrong.
fn target(told: &Told, known: &[&str], problems: &mut Vec<Problem>) -> Option<Target> {
    let fields = Fields::new(&told.table);
    let keys = KEYS.iter().find(|(kind, _)| *kind == told.kind).map_or(&[][..], |(_, keys)| *keys);
    for setting in told.table.settings.iter().filter(|setting| !keys.contains(&setting.key.as_str())) {
        let (text, hint) = match setting.key.as_str() {
            "password" => {
                ("a settings file holds no passwords".into(), Some("password_file names its file".into()))
            }
            key => unknown(key, keys),
        };
        fields.wrong(Some(setting), text, hint);
    }
    let way = match told.kind {
        "ping" => fields.ping().map(Way::Ping),
        "webhook" => fields.webhook().map(Way::Webhook),
        _ => fields.mail().map(Way::Mail),
    };
    let jobs = fields.texts("jobs");
    for job in jobs.iter().filter(|job| !known.contains(&job.as_str())) {
        fields.wrong(
            told.table.get("jobs"),
            format!("there is no job or set {job:?}"),
            Some(suggestion(job, known)),
        );
    }
    let all = told.kind == "ping";
    let on = fields.on(if all { &[Start, Success, Warning, Failure] } else { &[Failure, Warning] });
    let found = fields.problems.take();
    let is_right = found.is_empty();
    problems.extend(found);
    let name = format!("{}.{}", told.kind, told.name);
    way.filter(|_| is_right).map(|way| Target { name, jobs, on, way })
}

/// Files that a table names, and that cannot be read.
pub fn missing_files(table: &Table) -> impl Iterator<Item = Problem> {
    let named = table.settings.iter().filter(|setting| setting.key.ends_with("_file"));
    named.filter_map(|setting| check::unreadable(table, setting, setting.value.as_str()?))
}

/// A table that is read, and what was found to be wrong.
struct Fields<'a> {
    table: &'a Table,
    problems: RefCell<Vec<Problem>>,
}

impl<'a> Fields<'a> {
    fn new(table: &'a Table) -> Self {
        Fields { table, problems: RefCell::default() }
    }

    fn wrong(&self, setting: Option<&Setting>, text: impl Into<String>, hint: Option<String>) {
        let line = setting.map_or(self.table.line, |setting| setting.line);
        self.problems.borrow_mut().push(self.table.problem(line, text, hint));
    }

    fn text(&self, key: &str) -> Option<String> {
        let setting = self.table.get(key)?;
        let text = setting.value.as_str().filter(|text| !text.is_empty()).map(String::from);
        if text.is_none() {
            self.wrong(Some(setting), format!("{key} is a text"), None);
        }
        text
    }

    fn texts(&self, key: &str) -> Vec<String> {
        let Some(setting) = self.table.get(key) else { return Vec::new() };
        let text = |value: &Value| value.as_str().map(String::from);
        let texts: Option<Vec<_>> = match &setting.value {
            Value::Array(values) => values.iter().map(text).collect(),
            value => text(value).map(|text| vec![text]),
        };
        if texts.is_none() {
            self.wrong(Some(setting), format!("{key} is a list of texts"), None);
        }
        texts.unwrap_or_default()
    }

    /// What a text means by its own type; the error's text says it without the value.
    fn parsed<T>(&self, key: &str, parse: impl Fn(&str) -> Result<T, Error>) -> Option<T> {
        let text = self.text(key)?;
        let wrong = |error: Error| {
            let hint = error.hint_text().map(String::from);
            self.wrong(self.table.get(key), format!("{key}: {error}"), hint);
        };
        parse(&text).map_err(wrong).ok()
    }

    fn one_of<T: Copy>(&self, key: &str, values: &[(&str, T)]) -> Option<T> {
        let word = self.text(key)?;
        self.meant(key, &word, values)
    }

    fn meant<T: Copy>(&self, key: &str, word: &str, values: &[(&str, T)]) -> Option<T> {
        let found = values.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<_> = values.iter().map(|(name, _)| *name).collect();
            self.wrong(self.table.get(key), format!("{key} has no {word:?}"), Some(suggestion(word, &names)));
        }
        found
    }

    fn on(&self, default: &[Occasion]) -> Vec<Occasion> {
        match self.table.get("on") {
            None => default.into(),
            Some(_) => {
                let words = self.texts("on");
                words.iter().filter_map(|word| self.meant("on", word, &Occasion::OF_RUNS)).collect()
            }
        }
    }

    /// The one way in which a secret is given; nothing where there is none.
    fn secret(&self, name: &str) -> Option<Secret> {
        let [own, file, env] = [name.to_string(), format!("{name}_file"), format!("{name}_env")];
        let given: Vec<_> =
            [&own, &file, &env].into_iter().filter(|key| self.table.get(key).is_some()).collect();
        if let [first, second, ..] = given[..] {
            let text = format!("{first} and {second} exclude each other");
            self.wrong(self.table.get(second), text, Some("take one of them out".into()));
        }
        let text = self.text(given.first()?)?;
        Some(match given[0] {
            key if *key == own => Secret::Given(text.into()),
            key if *key == file => Secret::File(text.into()),
            _ => Secret::Variable(text),
        })
    }

    fn ca_file(&self) -> Option<PathBuf> {
        self.text("ca_file").map(PathBuf::from)
    }

    fn address(&self) -> Option<Address> {
        let is_there = ["url", "url_file", "url_env"].iter().any(|key| self.table.get(key).is_some());
        if !is_there {
            self.wrong(
                None,
                "has no url",
                Some("url_file = \"/etc/sealift/NAME.url\", url_env, or url".into()),
            );
        }
        if self.table.get("url").is_some() {
            self.parsed("url", Address::parsed)?;
        }
        Some(Address { url: self.secret("url")?, ca_file: self.ca_file() })
    }

    fn ping(&self) -> Option<Ping> {
        let styles = [("healthchecks", Style::Healthchecks), ("plain", Style::Plain)];
        let warnings = [("success", WarnedAs::Success), ("fail", WarnedAs::Fail)];
        let style = self.one_of("style", &styles).unwrap_or_default();
        let warning = self.one_of("warning", &warnings).unwrap_or_default();
        Some(Ping { address: self.address()?, style, warning })
    }

    fn webhook(&self) -> Option<Webhook> {
        let methods = ["POST", "PUT", "PATCH"].map(|name| (name, ()));
        self.one_of("method", &methods);
        let method =
            self.text("method").and_then(|method| method.parse().ok()).unwrap_or(::http::Method::POST);
        let template = self.parsed("template", Template::new);
        let mut plain = ::http::HeaderMap::new();
        if let Some(setting) = self.table.get("headers") {
            let pairs = setting.value.as_object().map(|fields| {
                fields.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap_or("\0")))
            });
            match pairs.map(headers) {
                Some(Ok(read)) => plain = read,
                _ => self.wrong(
                    Some(setting),
                    "headers is a table of texts",
                    Some("headers = { \"X-Title\" = \"Backup\" }; secret ones stand in headers_file".into()),
                ),
            }
        }
        let headers_file = self.text("headers_file").map(PathBuf::from);
        Some(Webhook { address: self.address()?, method, headers: plain, headers_file, template })
    }

    fn mail(&self) -> Option<Mail> {
        for (key, hint) in [
            ("server", "server = \"smtps://mail.example.com\""),
            ("from", "from = \"sealift@example.com\""),
            ("to", "to = [\"ops@example.com\"]"),
        ] {
            if self.table.get(key).is_none_or(|setting| !setting.gives()) {
                self.wrong(None, format!("has no {key}"), Some(hint.into()));
            }
        }
        let mailbox = |text: &str| {
            let none =
                |_| Error::usage(format!("{text:?} is no address")).hint("NAME <USER@HOST>, or USER@HOST");
            text.parse().map_err(none)
        };
        let boxes = self.texts("to").into_iter().map(|text| mailbox(&text)).collect::<Result<Vec<_>, _>>();
        let to = boxes.map_err(|error| {
            self.wrong(self.table.get("to"), format!("to: {error}"), error.hint_text().map(String::from))
        });
        let (server, from) = (self.parsed("server", str::parse), self.parsed("from", mailbox));
        let login = match (self.text("user"), self.secret("password")) {
            (Some(user), Some(password)) => Some((user, password)),
            (None, None) => None,
            _ => {
                let hint = "user = \"…\", password_file = \"/etc/sealift/mail.pass\"";
                self.wrong(None, "user and password belong together", Some(hint.into()));
                None
            }
        };
        Some(Mail { server: server?, login, from: from?, to: to.ok()?, ca_file: self.ca_file() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::config;

    /// The problems of a file with one job, each with its line and hint.
    fn problems(text: &str) -> Vec<(usize, String)> {
        let (_, problems) = config(&format!("{text}\n[jobs.media]\nsource = \"stdin\"\n"));
        problems
            .into_iter()
            .map(|problem| {
                (problem.line, format!("{problem} ({})", problem.hint.clone().unwrap_or_default()))
            })
            .collect()
    }

    #[test]
    fn what_is_right_is_told() {
        let text = "metrics_file = \"x.prom\"\n[ping.hc]\nurl_file = \"x\"\nwarning = \"fail\"\njobs = [\"media\"]\n\
            [webhook.chat]\nurl = \"https://chat/x\"\nmethod = \"PUT\"\nheaders = { A = \"b\" }\ntemplate = \"{name}\"\n\
            [mail.ops]\nserver = \"smtps://mx\"\nfrom = \"a@b.c\"\nto = \"Zoë <z@b.c>\"\nuser = \"a\"\npassword_env = \"P\"\n\
            on = [\"failure\", \"start\"]\n[jobs.media]\nsource = \"stdin\"\n";
        let (config, problems) = config(text);
        assert_eq!(problems, []);
        assert_eq!(config.tell().names(), ["ping.hc", "webhook.chat", "mail.ops"]);
    }

    #[test]
    fn what_is_wrong_is_told_with_what_was_meant() {
        for (text, problem) in [
            (
                "[ping.hc]\n",
                (1, "[ping.hc] has no url (url_file = \"/etc/sealift/NAME.url\", url_env, or url)"),
            ),
            (
                "[ping.hc]\nurl_fil = \"x\"\nurl_env = \"x\"",
                (2, "[ping.hc] there is no setting \"url_fil\" (did you mean \"url_file\"?)"),
            ),
            (
                "[ping.hc]\nurl_env = \"x\"\njobs = [\"medi\"]",
                (3, "[ping.hc] there is no job or set \"medi\" (did you mean \"media\"?)"),
            ),
            (
                "[ping.hc]\nurl_env = \"x\"\non = [\"fail\"]",
                (3, "[ping.hc] on has no \"fail\" (did you mean \"failure\"?)"),
            ),
            (
                "[ping.hc]\nurl_env = \"x\"\nurl_file = \"x\"",
                (2, "[ping.hc] url_file and url_env exclude each other (take one of them out)"),
            ),
            (
                "[ping.hc]\nurl = \"hidden\"",
                (2, "[ping.hc] url: this is no http:// or https:// URL (https://HOST/PATH)"),
            ),
            (
                "[webhook.x]\nurl_env = \"x\"\ntemplate = \"{nam}\"",
                (3, "[webhook.x] template: nothing is called {nam} (did you mean {name}?)"),
            ),
            (
                "[webhook.x]\nurl_env = \"x\"\nheaders = { a = 1 }",
                (
                    3,
                    "[webhook.x] headers is a table of texts (headers = { \"X-Title\" = \"Backup\" }; secret ones stand in headers_file)",
                ),
            ),
            ("metrics_file = 1", (1, "metrics_file is a text ()")),
            (
                "metric_file = \"x\"",
                (1, "there is no setting \"metric_file\" (did you mean \"metrics_file\"?)"),
            ),
        ] {
            assert_eq!(problems(text), [(problem.0, problem.1.to_string())], "{text}");
        }
    }

    #[test]
    fn a_letter_needs_its_addresses() {
        let found =
            problems("[mail.ops]\nserver = \"mx\"\nto = [\"ops\"]\npassword = \"hidden\"\nuser = \"a\"");
        let texts: Vec<_> = found.iter().map(|(_, text)| text.split(" (").next().unwrap()).collect();
        assert_eq!(
            texts,
            [
                "[mail.ops] a settings file holds no passwords",
                "[mail.ops] has no from",
                "[mail.ops] to: \"ops\" is no address",
                "[mail.ops] server: this is no mail server",
            ]
        );
    }
}
