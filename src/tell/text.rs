//! A run in words: the subject of a letter, and what stands in it.

use super::{Message, Occasion};
use crate::report::event::Sealed;
use crate::report::run::Run;
use crate::report::{clock, human_bytes, printable, quoted};

/// What happened, in a word or two.
pub(super) fn event(message: &Message<'_>) -> &'static str {
    match message.occasion {
        Occasion::Start => "started",
        Occasion::Success => "done",
        Occasion::Warning => "done with warnings",
        Occasion::Failure => "FAILED",
        Occasion::Test => "can tell you",
    }
}

/// One line that says it all.
pub(super) fn subject(message: &Message<'_>) -> String {
    let Run { name, verb, host, .. } = message.run;
    let text = match (message.occasion, verb.as_str()) {
        (Occasion::Test, _) => format!("sealift: a test from {host}"),
        (_, "backup") => format!("sealift: {name} {} on {host}", event(message)),
        _ => format!("sealift: {verb} of {name} {} on {host}", event(message)),
    };
    printable(&text)
}

/// What happened, why, and what to do next: lines of text.
pub(super) fn body(message: &Message<'_>) -> String {
    let run = message.run;
    if message.occasion == Occasion::Test {
        return format!("Sealift on {} can tell you of its runs. Nothing has happened.\n", run.host);
    }
    let mut lines = vec![format!("{} of {} on {}: {}", run.verb, run.name, run.host, event(message))];
    match run.ended {
        None => lines.push(format!("started {:.0}", run.started)),
        Some(ended) => {
            let took = std::time::Duration::try_from_secs_f64(run.seconds()).unwrap_or_default();
            lines.push(format!("started {:.0}, ended {ended:.0}, took {}", run.started, clock(took)));
        }
    }
    lines.extend(run.error.iter().map(|error| format!("error: {error}")));
    lines.extend(run.hint.iter().map(|hint| format!("hint: {hint}")));
    lines.extend(run.warnings.iter().map(|warning| format!("warning: {warning}")));
    lines.extend(run.archives.iter().map(archive));
    lines.extend(next(message));
    lines.iter().flat_map(|line| line.lines()).map(|line| format!("{}\n", printable(line))).collect()
}

fn archive(sealed: &Sealed) -> String {
    let (read, stored) = (human_bytes(sealed.bytes), human_bytes(sealed.stored));
    let stores = sealed.stores.join(", ");
    format!("archive: {}@{}: {read} in, {stored} stored, in {stores}", sealed.job, sealed.id)
}

/// What to type.
fn next(message: &Message<'_>) -> Vec<String> {
    let name = quoted(&message.run.name);
    let status = "what there is: sealift status".to_string();
    match (message.occasion, message.run.verb.as_str()) {
        (Occasion::Failure, "backup") => vec![status, format!("once more: sealift run {name}")],
        (Occasion::Failure, _) => vec![status],
        _ => Vec::new(),
    }
}

/// The first characters of a text; what is left out is said.
pub(super) fn shortened(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        None => text.into(),
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
    }
}

/// A UUID by which monitors know that a start and an end are of one run. It is made from the run itself, so that nobody has
/// to remember it.
pub(super) fn run_id(run: &Run) -> String {
    let whole = format!("{}\0{}\0{}\0{}", run.host, run.verb, run.name, run.started);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&blake3::hash(whole.as_bytes()).as_bytes()[..16]);
    // Version 8 of RFC 9562: ours.
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = crate::report::hex(&bytes);
    [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &hex[part]).join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::run::RunState;

    fn failed() -> Run {
        let error = Some("cannot read\nthe volume: \u{1b}[2Jno".into());
        let hint = Some("is it there?".into());
        Run { error, hint, state: RunState::Failed, ..Run::new("media\nBcc: x@y", "backup", "nas") }
    }

    #[test]
    fn a_subject_is_one_line() {
        let run = failed();
        let subject = subject(&Message { run: &run, occasion: Occasion::Failure });
        assert_eq!(subject, "sealift: media\\nBcc: x@y FAILED on nas");
        let run = Run::new("media", "verify", "nas");
        let of = |occasion| super::subject(&Message { run: &run, occasion });
        assert_eq!(of(Occasion::Warning), "sealift: verify of media done with warnings on nas");
    }

    #[test]
    fn a_body_says_why_and_what_to_do() {
        let run = Run { name: "media".into(), ..failed() };
        let body = body(&Message { run: &run, occasion: Occasion::Failure });
        assert!(
            body.contains("error: cannot read\nthe volume: \\u{1b}[2Jno\nhint: is it there?\n"),
            "{body}"
        );
        assert!(body.ends_with("once more: sealift run media\n"), "{body}");
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!((shortened("grün", 4), shortened("grün", 3)), ("grün".into(), "grü…".into()));
    }
}
