//! The steps that bring a product back: what its archives say of it becomes the commands to run.

use serde::Deserialize;
use serde_json::Value;

use super::metadata::{Metadata, lenient};
pub use crate::report::quoted;

/// One step of a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What it brings back, and what must be so before it.
    pub title: String,
    /// What to do, in order.
    pub actions: Vec<Action>,
}

/// What to do in a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A line for the shell: a command, or a comment.
    Shell(String),
    /// `sealift restore` of an archive, from the store that the plan is of.
    Restore {
        /// The archive: `JOB@ID`.
        archive: String,
        /// It was stored in the clear.
        is_clear: bool,
        /// The rest of the command line: where the bytes go.
        target: String,
    },
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

    /// What a restore needs of the source itself.
    pub(super) fn record(&self) -> SourceRecord {
        SourceRecord::deserialize(&self.source).unwrap_or_default()
    }

    /// The command that brings it back, without the store.
    pub fn restore(&self, target: impl Into<String>) -> Action {
        Action::Restore { archive: self.name.clone(), is_clear: self.is_clear, target: target.into() }
    }
}

impl Action {
    /// A line for the shell.
    pub(super) fn shell(line: impl Into<String>) -> Action {
        Action::Shell(line.into())
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
        let action = clear.restore("--to-stdout");
        let (archive, target) = ("job@id".to_string(), "--to-stdout".to_string());
        assert_eq!(action, Action::Restore { archive, is_clear: true, target });
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
