//! The settings file as it is written: tables of keys, each with its line. What a key means is the matter of `defaults`.

use std::fmt;
use std::path::Path;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::Error;

/// Something wrong in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its line, from 1.
    pub line: usize,
    /// Its table: `[jobs.db]`, or nothing at the top.
    pub table: String,
    /// What is wrong.
    pub text: String,
    /// What to do next.
    pub hint: Option<String>,
}

impl Problem {
    /// The problem as an error: wrong usage.
    pub fn error(&self, file: &Path) -> Error {
        let error = Error::usage(format!("{}:{}: {self}", file.display(), self.line));
        match &self.hint {
            Some(hint) => error.hint(hint),
            None => error.hint("see `sealift config --help`"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gap = if self.table.is_empty() { "" } else { " " };
        write!(f, "{}{gap}{}", self.table, self.text)
    }
}

/// A key with its value.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: Value,
    /// Its line, from 1.
    pub line: usize,
}

impl Setting {
    /// The value as words of a command line; nothing where it is no text, number or list of these.
    pub fn words(&self) -> Option<Vec<String>> {
        let word = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        match &self.value {
            Value::Array(values) => values.iter().map(word).collect(),
            value => word(value).map(|word| vec![word]),
        }
    }

    /// Whether it gives anything: `false` and `[]` only take back what another table gave.
    pub fn gives(&self) -> bool {
        self.value != Value::Bool(false) && self.value.as_array().is_none_or(|values| !values.is_empty())
    }
}

/// A table, in the file's order.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// `[jobs.db]`, or nothing at the top.
    pub title: String,
    /// The line of its head, from 1.
    pub line: usize,
    /// What stands in it.
    pub settings: Vec<Setting>,
}

impl Table {
    /// The setting of this key.
    pub fn get(&self, key: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.key == key)
    }

    /// A problem of this table.
    pub fn problem(&self, line: usize, text: impl Into<String>, hint: Option<String>) -> Problem {
        Problem { line, table: self.title.clone(), text: text.into(), hint }
    }
}

/// The file's tables; those with names, such as stores and jobs, with these.
#[derive(Debug, Default)]
pub struct Tables {
    pub top: Table,
    pub stores: Vec<(String, Table)>,
    pub jobs: Vec<(String, Table)>,
    pub sets: Vec<(String, Table)>,
    pub schedules: Vec<(String, Table)>,
    pub pings: Vec<(String, Table)>,
    pub webhooks: Vec<(String, Table)>,
    pub mails: Vec<(String, Table)>,
}

/// Reads a file's text. What is wrong is added to `problems`.
pub fn read(text: &str, problems: &mut Vec<Problem>) -> Tables {
    let line = |at: usize| text.bytes().take(at).filter(|&byte| byte == b'\n').count() + 1;
    let parsed = match DeTable::parse(text) {
        Ok(parsed) => parsed,
        // Only the message: the library's own text shows the line itself, and who knows what stands there.
        Err(error) => {
            let at = line(error.span().map_or(0, |span| span.start));
            problems.push(Table::default().problem(at, error.message(), None));
            return Tables::default();
        }
    };
    let mut tables = Tables { top: Table { line: 1, ..Table::default() }, ..Tables::default() };
    for (key, value) in parsed.get_ref() {
        let at = line(key.span().start);
        let named = match key.get_ref().as_ref() {
            "stores" => &mut tables.stores,
            "jobs" => &mut tables.jobs,
            "sets" => &mut tables.sets,
            "schedules" => &mut tables.schedules,
            "ping" => &mut tables.pings,
            "webhook" => &mut tables.webhooks,
            "mail" => &mut tables.mails,
            _ => {
                tables.top.settings.push(setting(key, value, &line));
                continue;
            }
        };
        let kind = key.get_ref();
        let wrong = |at| {
            let hint = format!("write [{kind}.NAME], and its settings below");
            Table::default().problem(at, format!("{kind} is not a table of tables"), Some(hint))
        };
        let Some(inside) = value.get_ref().as_table() else {
            problems.push(wrong(at));
            continue;
        };
        for (name, value) in inside {
            let at = line(name.span().start);
            match value.get_ref().as_table() {
                Some(table) => {
                    let title = format!("[{kind}.{}]", toml_key(name.get_ref()));
                    named.push((name.get_ref().to_string(), table_of(title, at, table, &line)));
                }
                None => problems.push(wrong(at)),
            }
        }
        named.sort_by_key(|(_, table)| table.line);
    }
    tables.top.settings.sort_by_key(|setting| setting.line);
    tables
}

fn table_of(title: String, at: usize, table: &DeTable<'_>, line: &impl Fn(usize) -> usize) -> Table {
    let mut settings: Vec<_> = table.iter().map(|(key, value)| setting(key, value, line)).collect();
    settings.sort_by_key(|setting| setting.line);
    Table { title, line: at, settings }
}

fn setting(
    key: &Spanned<std::borrow::Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
    line: &impl Fn(usize) -> usize,
) -> Setting {
    Setting { key: key.get_ref().to_string(), value: plain(value.get_ref()), line: line(key.span().start) }
}

fn plain(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Boolean(yes) => Value::from(*yes),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::from(number),
            Err(_) => Value::from(number.as_str()),
        },
        DeValue::Float(number) => match number.as_str().parse::<f64>() {
            Ok(number) => Value::from(number),
            Err(_) => Value::from(number.as_str()),
        },
        DeValue::Datetime(time) => Value::from(time.to_string()),
        DeValue::Array(values) => values.iter().map(|value| plain(value.get_ref())).collect(),
        DeValue::Table(table) => {
            table.iter().map(|(key, value)| (key.get_ref().to_string(), plain(value.get_ref()))).collect()
        }
    }
}

/// A value as TOML writes it, on one line.
pub fn toml_value(value: &Value) -> String {
    match value {
        Value::Array(values) => {
            format!("[{}]", values.iter().map(toml_value).collect::<Vec<_>>().join(", "))
        }
        Value::Object(fields) => {
            let fields =
                fields.iter().map(|(key, value)| format!("{} = {}", toml_key(key), toml_value(value)));
            format!("{{ {} }}", fields.collect::<Vec<_>>().join(", "))
        }
        // JSON's text is TOML's, but for the one control character that JSON does not escape.
        other => other.to_string().replace('\u{7f}', "\\u007f"),
    }
}

/// A key as TOML writes it.
pub fn toml_key(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    match !key.is_empty() && key.chars().all(bare) {
        true => key.into(),
        false => toml_value(&Value::from(key)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_the_keys() {
        let mut problems = Vec::new();
        let text = "\nto = \"a\"\n\n[jobs.db]\n# of the source\nsource = \"exec\"\nkeep = { daily = 7 }\n[jobs.\"x/y\"]\n";
        let tables = read(text, &mut problems);
        assert_eq!(problems, []);
        assert_eq!(tables.top.get("to").unwrap().line, 2);
        let [(name, db), (_, xy)] = &tables.jobs[..] else { panic!("two jobs") };
        assert_eq!((name.as_str(), db.line, db.get("source").unwrap().line), ("db", 4, 6));
        assert_eq!((xy.title.as_str(), xy.line), ("[jobs.\"x/y\"]", 8));
    }

    #[test]
    fn what_is_no_toml_is_told_by_its_line_and_not_shown() {
        for (text, at) in
            [("a = 1\nb = hidden\n", 2), ("a = \"hidden\n", 1), ("a = 1\na = 1\n", 2), ("[jobs\n", 1)]
        {
            let mut problems = Vec::new();
            read(text, &mut problems);
            assert_eq!(problems.len(), 1, "{text}");
            assert_eq!(problems[0].line, at, "{text}: {problems:?}");
            assert!(!problems[0].to_string().contains("hidden"), "{problems:?}");
        }
        let mut problems = Vec::new();
        read("jobs = 1\n[stores]\na = 2\n", &mut problems);
        assert_eq!(problems.iter().map(|p| p.line).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn values_are_written_as_they_are_read() {
        let value = serde_json::json!({"a b": ["x\"\n\u{7f}", 1, true], "c": 1.5});
        let text = format!("top = {}", toml_value(&value));
        let mut problems = Vec::new();
        assert_eq!(read(&text, &mut problems).top.settings[0].value, value);
        assert_eq!(problems, []);
    }
}
