//! The body of a webhook: a text with `{name}`s, into which the run is written so that JSON stays JSON.

use serde_json::Value;

use super::{Message, Occasion, text};
use crate::error::{Error, Result};
use crate::report::nearest;
use crate::report::run::{Run, RunState};

/// What can stand between braces.
const NAMES: [&str; 15] = [
    "body", "code", "ended", "error", "event", "hint", "host", "name", "run", "seconds", "started", "state",
    "subject", "verb", "warnings",
];

/// Chats take 2,000 characters and more.
const LONGEST: usize = 1500;

/// The body of a webhook.
#[derive(Debug, Clone)]
pub struct Template {
    text: String,
    is_json: bool,
}

impl Template {
    /// Reads a template. One that begins as JSON does is JSON.
    ///
    /// # Errors
    /// It has a name between braces that means nothing, or would not be JSON once it is filled.
    pub fn new(text: &str) -> Result<Self> {
        let mut template = Template { text: text.into(), is_json: false };
        template.is_json = template.looks_like_json();
        if let Some(word) =
            template.pieces().find_map(|piece| piece.err().filter(|name| !NAMES.contains(name)))
        {
            let known = NAMES.join(", ");
            return Err(Error::usage(format!("nothing is called {{{word}}}")).hint(
                match nearest(word, &NAMES) {
                    Some(name) => format!("did you mean {{{name}}}?"),
                    None => format!("one of {known}"),
                },
            ));
        }
        let run = Run { state: RunState::Failed, ..Run::new("media", "backup", "nas") };
        let filled = template.filled(&Message { run: &run, occasion: Occasion::Failure });
        if let Some(error) = template.is_json.then(|| serde_json::from_str::<Value>(&filled).err()).flatten()
        {
            let hint = "texts stand in quotes: {\"text\": \"{subject}\"}; {run} is an object by itself";
            return Err(Error::usage("the template is no JSON").because(error).hint(hint));
        }
        Ok(template)
    }

    /// Whether it begins with the brace of an object, and not with that of a name.
    fn looks_like_json(&self) -> bool {
        let begin = self.text.trim_start();
        let inside = begin.trim_start_matches('[');
        let openers: &[char] = if inside.len() < begin.len() { &['{', '"'] } else { &['{'] };
        match (Template { text: inside.into(), is_json: false }).pieces().next() {
            Some(Err(name)) => name == "run",
            Some(Ok(text)) => text.starts_with(openers),
            None => false,
        }
    }

    /// The run as it is.
    pub(super) fn run() -> Self {
        Template { text: "{run}".into(), is_json: true }
    }

    /// What the body is.
    pub(super) fn content_type(&self) -> &'static str {
        if self.is_json { "application/json" } else { "text/plain; charset=utf-8" }
    }

    /// The body for a message.
    pub(super) fn filled(&self, message: &Message<'_>) -> String {
        let piece = |piece| match piece {
            Ok(text) => String::from(text),
            Err(name) => self.escaped(value(name, message)),
        };
        self.pieces().map(piece).collect()
    }

    fn escaped(&self, value: Value) -> String {
        match value {
            Value::String(text) if self.is_json => {
                let quoted = Value::String(text).to_string();
                quoted[1..quoted.len() - 1].into()
            }
            Value::String(text) => text,
            other => other.to_string(),
        }
    }

    /// The text, and as errors the names between braces. A brace that no name follows is text.
    fn pieces(&self) -> impl Iterator<Item = Result<&str, &str>> {
        let mut rest = self.text.as_str();
        std::iter::from_fn(move || {
            let name_at = |at: usize| {
                let inside = &rest[at + 1..];
                let end = inside.find(|c: char| !c.is_ascii_lowercase() && c != '_')?;
                (end > 0 && inside[end..].starts_with('}')).then(|| &inside[..end])
            };
            let next = rest.match_indices('{').find_map(|(at, _)| Some((at, name_at(at)?)));
            let (piece, length) = match next {
                None if rest.is_empty() => return None,
                None => (Ok(rest), rest.len()),
                Some((0, name)) => (Err(name), name.len() + 2),
                Some((at, _)) => (Ok(&rest[..at]), at),
            };
            rest = &rest[length..];
            Some(piece)
        })
    }
}

fn value(name: &str, message: &Message<'_>) -> Value {
    let run = message.run;
    let optional = |text: &Option<String>| text.clone().unwrap_or_default().into();
    match name {
        "name" => run.name.as_str().into(),
        "verb" => run.verb.as_str().into(),
        "host" => run.host.as_str().into(),
        "event" => text::event(message).into(),
        "state" => serde_json::to_value(run.state).unwrap_or_default(),
        "started" => run.started.to_string().into(),
        "ended" => run.ended.map(|time| time.to_string()).unwrap_or_default().into(),
        "seconds" => run.seconds().max(0.0).round().into(),
        "code" => run.code.into(),
        "error" => optional(&run.error),
        "hint" => optional(&run.hint),
        "warnings" => run.warnings.join("\n").into(),
        "subject" => text::subject(message).into(),
        "body" => text::shortened(&text::body(message), LONGEST).into(),
        "run" => serde_json::to_value(run).unwrap_or_default(),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> Run {
        let error = Some("\"grün\"\n\\ {name} \u{1b}[2J".into());
        Run { error, state: RunState::Failed, code: Some(1), ..Run::new("a/b", "backup", "nas") }
    }

    fn filled(text: &str) -> String {
        let run = run();
        Template::new(text).unwrap().filled(&Message { run: &run, occasion: Occasion::Failure })
    }

    #[test]
    fn json_stays_json_whatever_is_written_into_it() {
        let text =
            filled(r#"{"text": "{subject}: {error}", "n": {code}, "of": {run}, "x": {"{name}": "{"}}"#);
        let value: Value = serde_json::from_str(&text).unwrap();
        let error = run().error.unwrap();
        assert_eq!(value["text"], format!("sealift: a/b FAILED on nas: {error}"));
        assert_eq!((&value["n"], &value["of"]["state"]), (&1.into(), &"failed".into()));
        assert_eq!(value["x"]["a/b"], "{");
    }

    #[test]
    fn text_is_sent_as_it_is() {
        assert_eq!(filled("{name} on {host}: {} {Name} {state}"), "a/b on nas: {} {Name} failed");
        assert_eq!(
            (filled("{warnings}"), filled("[{verb}] \"x\"")),
            (String::new(), "[backup] \"x\"".into())
        );
        let kind = |text: &str| Template::new(text).unwrap().content_type();
        for json in ["{run}", "[{run}]", " {\"a\": 1}", "[{\"a\": \"{name}\"}]", "[\"{name}\"]"] {
            assert_eq!(kind(json), "application/json", "{json}");
        }
    }

    #[test]
    fn what_cannot_be_filled_is_refused() {
        let error = Template::new("{\"text\": \"{subjet}\"}").unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), error.hint_text()),
            ("nothing is called {subjet}", Some("did you mean {subject}?"))
        );
        let error = Template::new("{\"text\": {subject}}").unwrap_err();
        assert!(error.to_string().starts_with("the template is no JSON: "), "{error}");
    }

    #[test]
    fn every_name_has_a_value() {
        let run = run();
        let message = Message { run: &run, occasion: Occasion::Failure };
        assert_eq!(NAMES.iter().find(|name| value(name, &message).is_null()), None);
        assert!(NAMES.is_sorted());
    }
}
