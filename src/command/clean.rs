//! `clean`: what was left in a store.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::Clean;
use crate::docker::left::LeftContainer;
use crate::docker::quiesce::{LeftHeld, Target};
use crate::error::Result;
use crate::job::clean::{Cleaned, Cleaning};
use crate::job::{self, Outcome};
use crate::report::{Mode, Reporter, human_bytes, print, printable};
use crate::store::leftover::{Leftover, Taken};

/// Lists what was left, or takes it back.
///
/// # Errors
/// As [`job::clean::clean`].
pub async fn clean(options: Clean, mode: Mode, ui: &Reporter) -> Result<Outcome> {
    let request = options.request()?;
    let cleaning = job::clean::clean(&request, ui).await?;
    for cleaned in &cleaning.left {
        print(&match mode {
            Mode::Json => json_line(cleaned).to_string(),
            _ => line(cleaned),
        })?;
    }
    for cleaned in &cleaning.containers {
        print(&match mode {
            Mode::Json => container_json(cleaned).to_string(),
            _ => container_line(cleaned),
        })?;
    }
    for held in &cleaning.held {
        print(&match mode {
            Mode::Json => held_json(held).to_string(),
            _ => printable(&format!("{}  {HELD}: {}", held.marker, in_words(held).join(", "))),
        })?;
    }
    cleaning.failures().for_each(|error| ui.warn(&error.to_string()));
    if mode != Mode::Json {
        ui.note(&last_word(&cleaning, request.confirm));
    }
    Ok(if cleaning.failures().next().is_some() { Outcome::Warned } else { Outcome::Done })
}

fn last_word(cleaning: &Cleaning, confirmed: bool) -> String {
    let all = cleaning.left.len() + cleaning.containers.len();
    match (all, confirmed) {
        (0, _) if !cleaning.held.is_empty() => match confirmed {
            true => "what was held still is put right".into(),
            false => "nothing was changed: --confirm puts it right, and so does the next backup".into(),
        },
        (0, _) => format!("nothing is left at {} that is old enough", cleaning.store),
        (_, false) => "nothing was changed: --confirm takes it back".into(),
        (_, true) => {
            let back = |taken: &Option<Result<Taken>>| matches!(taken, Some(Ok(Taken::Back)));
            let left = cleaning.left.iter().filter(|cleaned| back(&cleaned.taken));
            let containers = cleaning.containers.iter().filter(|cleaned| back(&cleaned.taken)).count();
            let (count, bytes) =
                left.fold((containers, 0), |(n, bytes), cleaned| (n + 1, bytes + cleaned.left.bytes));
            format!("{count} of {all} taken back, {} at {}", human_bytes(bytes), cleaning.store)
        }
    }
}

/// What became of something: `taken back`, `kept: …`, `failed`.
fn became(taken: &Option<Result<Taken>>) -> Option<String> {
    Some(match taken.as_ref()? {
        Ok(Taken::Back) => "taken back".into(),
        Ok(Taken::Kept(why)) => format!("kept: {why}"),
        Err(_) => "failed".into(),
    })
}

fn line(cleaned: &Cleaned<Leftover>) -> String {
    let Leftover { job, id, what, names, bytes, age } = &cleaned.left;
    let became = became(&cleaned.taken).map(|became| format!("  {became}")).unwrap_or_default();
    let head = format!("{job}@{id}  {}  {}  {}{became}", human_bytes(*bytes), ago(*age), what.why());
    let names = names.iter().map(|name| format!("\n    {}", printable(name)));
    // Whoever can write to the store can have named it.
    printable(&head) + &names.collect::<String>()
}

fn json_line(cleaned: &Cleaned<Leftover>) -> Value {
    let Leftover { job, id, what, names, bytes, age } = &cleaned.left;
    json!({
        "job": job, "id": id, "what": what.name(), "why": what.why(), "names": names, "bytes": bytes,
        "age_seconds": age.as_secs(), "result": became(&cleaned.taken),
    })
}

/// What it is, and why it is there.
fn object(left: &LeftContainer) -> (&'static str, &'static str) {
    match left.id {
        Some(_) => ("container", "container of a run that was killed"),
        None => ("volume", "volume of a drill that was killed"),
    }
}

fn container_line(cleaned: &Cleaned<LeftContainer>) -> String {
    let became = became(&cleaned.taken).map(|became| format!("  {became}")).unwrap_or_default();
    let (_, why) = object(&cleaned.left);
    printable(&format!("{}  {}  {why}{became}", cleaned.left.name, ago(cleaned.left.age)))
}

fn container_json(cleaned: &Cleaned<LeftContainer>) -> Value {
    let (LeftContainer { id, name, age }, (what, why)) = (&cleaned.left, object(&cleaned.left));
    json!({
        what: name, "id": id, "what": what, "why": why, "age_seconds": age.as_secs(),
        "result": became(&cleaned.taken),
    })
}

const HELD: &str = "what a backup that was killed holds still";

fn in_words(held: &LeftHeld) -> Vec<String> {
    held.targets.iter().map(Target::in_words).collect()
}

fn held_json(held: &LeftHeld) -> Value {
    json!({"volume": held.marker, "what": "quiesced", "why": HELD, "held": in_words(held)})
}

/// `3d old`, `5h old`, `2m old`.
fn ago(age: Duration) -> String {
    let seconds = age.as_secs();
    match (seconds / 86_400, seconds / 3600, seconds / 60) {
        (0, 0, minutes) => format!("{minutes}m old"),
        (0, hours, _) => format!("{hours}h old"),
        (days, ..) => format!("{days}d old"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::leftover::What;

    fn cleaned(taken: Option<Result<Taken>>) -> Cleaned<Leftover> {
        let left = Leftover {
            job: "db".into(),
            id: "20261122T020000Z-1f2e3d4c".parse().unwrap(),
            what: What::Uncommitted,
            names: vec!["20261122T020000Z-1f2e3d4c.tar.zst\u{1b}".into()],
            bytes: 2048,
            age: Duration::from_secs(3 * 86_400),
        };
        Cleaned { left, taken }
    }

    #[test]
    fn a_line_says_what_it_is_how_old_how_large_why_and_what_became_of_it() {
        let text = line(&cleaned(None));
        assert!(
            text.starts_with("db@20261122T020000Z-1f2e3d4c  2.00 KiB  3d old  archive or catalog without"),
            "{text}"
        );
        assert!(text.ends_with("\\u{1b}"), "{text:?}");
        let kept = line(&cleaned(Some(Ok(Taken::Kept("its run is under way".into())))));
        assert!(kept.contains("kept: its run is under way"), "{kept}");
        let value = json_line(&cleaned(Some(Ok(Taken::Back))));
        assert_eq!(
            (value["what"].as_str(), value["age_seconds"].as_u64()),
            (Some("uncommitted"), Some(259_200))
        );
        assert_eq!(value["result"], "taken back");
    }

    #[test]
    fn the_last_word_counts_what_was_taken_back() {
        let cleaning = |left| Cleaning {
            store: "s3://b".into(),
            left,
            hidden: None,
            containers: Vec::new(),
            held: Vec::new(),
            not_put_back: Vec::new(),
        };
        let some = cleaning(vec![cleaned(Some(Ok(Taken::Back))), cleaned(Some(Ok(Taken::Kept("x".into()))))]);
        assert_eq!(last_word(&some, true), "1 of 2 taken back, 2.00 KiB at s3://b");
        assert!(last_word(&some, false).contains("--confirm"));
        assert!(last_word(&cleaning(Vec::new()), true).starts_with("nothing is left"));
    }

    #[test]
    fn ages_are_told_in_their_largest_unit() {
        let ages = [59, 3599, 3600, 86_399, 86_400].map(|seconds| ago(Duration::from_secs(seconds)));
        assert_eq!(ages, ["0m old", "59m old", "1h old", "23h old", "1d old"]);
    }
}
