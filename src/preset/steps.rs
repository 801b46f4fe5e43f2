//! The steps that bring a product back: what its archives say of it becomes the commands to run.

use serde::Deserialize;
use serde_json::Value;

use super::metadata::{Metadata, lenient};
use crate::report::printable;
pub use crate::report::quoted;

/// One step of a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What it brings back, and what must be so before it.
    pub title: String,
    /// Whether something must be so before it that no machine sees to: the host, what runs there, other nodes.
    pub on_condition: bool,
    /// What to do, in order.
    pub actions: Vec<Action>,
}

/// What to do in a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A command for the shell.
    Shell(String),
    /// The same, which deletes what is there.
    Delete(String),
    /// A command that asks questions, or of which only a person knows whether it is needed; or what it is in words, as a
    /// comment.
    ByHand(String),
    /// Something worth knowing, as a comment.
    Note(String),
    /// `sealift restore` of an archive, from the store that the plan is of.
    Restore {
        /// The archive: `JOB@ID`.
        archive: String,
        /// It was stored in the clear.
        is_clear: bool,
        /// Where the bytes go.
        to: RestoreTo,
    },
}

/// The rest of the command line of a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestoreTo {
    /// Its words.
    Words(Vec<String>),
    /// What only a shell understands, with its pipes: for a person, who knows what belongs at their end.
    Shell(String),
}

/// An archive as its catalog tells it.
#[derive(Debug, Clone)]
pub struct SealedArchive {
    /// `JOB@ID`
    pub name: String,
    /// Its job.
    pub job: String,
    /// What the catalog says of its source.
    pub source: Value,
    /// It was stored in the clear.
    pub is_clear: bool,
}

impl SealedArchive {
    /// What a preset found where it was made; none where no preset made it.
    pub fn metadata(&self) -> Option<Metadata> {
        Metadata::of(&self.source)
    }

    /// What its files are called beside those of others: no job's name is another's.
    pub fn file_name(&self) -> String {
        self.job.replace('/', "+")
    }

    /// What a restore needs of the source itself.
    pub(super) fn record(&self) -> SourceRecord {
        SourceRecord::deserialize(&self.source).unwrap_or_default()
    }

    /// The command that brings it back, without the store.
    pub fn restore<T: AsRef<str>>(&self, words: &[T]) -> Action {
        // What is done must be what is shown.
        self.restore_to(RestoreTo::Words(words.iter().map(|word| printable(word.as_ref())).collect()))
    }

    /// The same for a shell, with pipes.
    pub fn restore_by_hand(&self, target: impl Into<String>) -> Action {
        self.restore_to(RestoreTo::Shell(target.into()))
    }

    fn restore_to(&self, to: RestoreTo) -> Action {
        Action::Restore { archive: self.name.clone(), is_clear: self.is_clear, to }
    }
}

impl std::fmt::Display for RestoreTo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RestoreTo::Words(words) => {
                f.write_str(&words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "))
            }
            RestoreTo::Shell(line) => f.write_str(line),
        }
    }
}

impl Action {
    /// The line as a shell takes it; `from` is the store.
    pub fn line(&self, from: &str) -> String {
        match self {
            Action::Shell(line) | Action::Delete(line) | Action::ByHand(line) | Action::Note(line) => {
                line.clone()
            }
            Action::Restore { archive, is_clear, to } => {
                let clear = if *is_clear { " --no-encrypt" } else { "" };
                format!("sealift restore {} --from {}{clear} {to}", quoted(archive), quoted(from))
            }
        }
    }

    /// Whether it is for a person to do.
    pub fn is_by_hand(&self) -> bool {
        matches!(self, Action::ByHand(_) | Action::Restore { to: RestoreTo::Shell(_), .. })
    }
}

/// What the catalog says of a source, as far as a preset's restore needs it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SourceRecord {
    #[serde(deserialize_with = "lenient")]
    pub folder: FolderRecord,
    #[serde(deserialize_with = "lenient")]
    pub run: RunRecord,
    /// The volumes' names.
    #[serde(deserialize_with = "lenient")]
    pub volume: Vec<String>,
}

/// A folder of the engine's own.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FolderRecord {
    /// Where it lies.
    pub below: String,
}

/// A container that was run.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RunRecord {
    pub security_opt: Vec<String>,
}

/// What is to be done, a line each.
#[cfg(test)]
pub(super) fn lines(step: &Step) -> Vec<String> {
    step.actions
        .iter()
        .map(|action| {
            action.line("STORE").replace("sealift restore ", "RESTORE ").replace(" --from STORE", "")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn archive(source: Value) -> SealedArchive {
        SealedArchive { name: "job@id".into(), job: "job".into(), source, is_clear: false }
    }

    #[test]
    fn an_archive_is_restored_by_its_name() {
        let clear = SealedArchive { is_clear: true, ..archive(json!({})) };
        let action = clear.restore(&["--to-volume", "it's"]);
        let line = r"sealift restore job@id --from 's3://a b' --no-encrypt --to-volume 'it'\''s'";
        assert_eq!((action.line("s3://a b").as_str(), action.is_by_hand()), (line, false));
        let piped = archive(json!({})).restore_by_hand("--to-stdout | psql");
        assert_eq!(piped.line("s3://b"), "sealift restore job@id --from s3://b --to-stdout | psql");
        assert!(piped.is_by_hand());
    }

    #[test]
    fn what_is_done_is_what_is_shown() {
        let Action::Restore { to: RestoreTo::Words(words), .. } = archive(json!({})).restore(&["a\nb"])
        else {
            panic!("no words")
        };
        assert_eq!(words, [r"a\nb"]);
    }

    #[test]
    fn of_a_source_what_a_restore_needs_is_read() {
        let record = archive(json!({"folder": {"below": "/srv/docker", "name": "swarm"}})).record();
        assert_eq!(record.folder.below, "/srv/docker");
        let record = archive(json!({"run": {"image": "i", "security_opt": ["label=disable"]}})).record();
        assert_eq!(record.run.security_opt, ["label=disable"]);
        assert_eq!(archive(json!({"volume": ["v"], "dtr": {}})).record().volume, ["v"]);
    }

    #[test]
    fn what_a_source_does_not_say_is_left_empty() {
        for source in [json!({}), json!(null), json!({"folder": null, "run": {}, "volume": "v"})] {
            let record = archive(source).record();
            assert_eq!((record.folder.below, record.run.security_opt.len()), (String::new(), 0));
            assert_eq!(record.volume.len(), 0);
        }
    }
}
