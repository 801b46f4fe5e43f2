//! What happens during a run, as values: the libraries emit them, views turn them into lines, bars or JSON.

use std::fmt;

use serde::{Deserialize, Serialize};

pub use drilled::Drilled;
pub use planned::{PlannedBackup, PlannedCopy, PlannedRestore};

use super::run::Run;
use super::{counted, human_bytes};

pub use step::{Step, StepState};

/// Something that happened. As JSON it is one object with its name in `event`; as text, what a person reads.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// Something worth knowing.
    Note {
        /// What.
        message: String,
    },
    /// Something that needs a look.
    Warning {
        /// What.
        message: String,
    },
    /// A line that the source's or the target's own process wrote to its stderr.
    Source {
        /// The line.
        message: String,
    },
    /// The failure that ends the run, or a member of it.
    Error {
        /// The message with its causes.
        message: String,
        /// What to do next.
        hint: Option<String>,
        /// The exit code that it stands for.
        code: u8,
    },
    /// What has been moved so far.
    Progress {
        /// The job, or what else it is of.
        job: String,
        /// What is done to the bytes, in the past tense.
        verb: String,
        /// Since the run began.
        seconds: u64,
        /// Bytes of source.
        bytes: u64,
        /// Bytes as they are stored.
        stored: u64,
        /// How many bytes there will be, as far as that is known.
        total: Option<u64>,
        /// What each store has taken.
        stores: Vec<StoreBytes>,
    },
    /// A part of a long run exists, which goes on.
    Segment {
        /// Its job.
        job: String,
        /// The id of its archive, which is partial.
        id: String,
        /// Bytes of source.
        bytes: u64,
        /// Bytes stored, archive and catalog.
        stored: u64,
        /// The stores in which it exists.
        stores: Vec<String>,
    },
    /// A backup exists.
    Sealed(Sealed),
    /// A set has ended.
    Set(SetEnded),
    /// A run of the settings has begun, or ended.
    Run(Run),
    /// An archive was verified.
    Verified(Verified),
    /// The archives of a job were verified.
    Verification(Verification),
    /// An archive was restored for real, and tried.
    Drilled(Drilled),
    /// An archive was copied.
    Copied(Copied),
    /// An archive, or some members of it, was restored.
    Restored(Restored),
    /// What becomes of a part of a plan that brings a set back.
    Step(Step),
    /// What would be backed up.
    #[serde(rename = "planned_backup")]
    PlannedBackup(PlannedBackup),
    /// An archive that would be copied.
    #[serde(rename = "planned_copy")]
    PlannedCopy(PlannedCopy),
    /// What a restore would bring back.
    #[serde(rename = "planned_restore")]
    PlannedRestore(PlannedRestore),
    /// An archive opens with a new passphrase, too.
    Rekeyed(Rekeyed),
    /// A settings file is right.
    Checked {
        /// The settings file.
        file: String,
        /// How many stores it names.
        stores: usize,
        /// How many jobs.
        jobs: usize,
        /// How many sets.
        sets: usize,
    },
}

/// Bytes that a store has taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreBytes {
    /// The store's name.
    pub store: String,
    /// Bytes.
    pub bytes: u64,
}

/// A store in which a backup does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedStore {
    /// The store's name.
    pub store: String,
    /// Why, with the causes.
    pub error: String,
}

/// A committed backup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sealed {
    /// Its job.
    pub job: String,
    /// Its id.
    pub id: String,
    /// Bytes of source.
    pub bytes: u64,
    /// Bytes stored, archive and catalog.
    pub stored: u64,
    /// Bytes of source per byte stored.
    pub ratio: f64,
    /// How long it took.
    pub seconds: f64,
    /// Megabytes of source a second.
    pub mb_per_second: f64,
    /// The stores in which it exists.
    pub stores: Vec<String>,
    /// The stores in which it does not.
    pub failed: Vec<FailedStore>,
    /// What needs a look.
    pub warnings: Vec<String>,
    /// What is so by nature.
    pub notes: Vec<String>,
    /// Of an increment: what stays in older archives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<KeptMembers>,
    /// Of a run in segments: how many archives it made. `bytes` and `stored` are those of all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<u64>,
}

/// What stays in older archives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptMembers {
    /// How many members.
    pub entries: u64,
    /// Bytes that they take there, of source.
    pub bytes: u64,
    /// The ids of those archives, oldest first.
    pub needs: Vec<String>,
}

impl fmt::Display for KeptMembers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let older = counted(self.needs.len() as u64, "older archive");
        write!(f, ", {} kept in {older}", human_bytes(self.bytes))
    }
}

/// Bytes from which on a ratio says something of the data, and not of what every archive has besides.
const TELLING: u64 = 1 << 20;

impl fmt::Display for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (read, stored) = (human_bytes(self.bytes), human_bytes(self.stored));
        write!(f, "sealed {}@{}: {read} in, {stored} stored", self.job, self.id)?;
        if self.bytes >= TELLING {
            write!(f, " (ratio {:.2})", self.ratio)?;
        }
        write!(f, ", {:.1} s", self.seconds)?;
        if self.bytes >= TELLING && self.seconds >= 1.0 {
            write!(f, ", {}/s", human_bytes((self.bytes as f64 / self.seconds) as u64))?;
        }
        if let Some(count) = self.segments {
            write!(f, ", {}", counted(count, "segment"))?;
        }
        if let Some(kept) = &self.kept {
            kept.fmt(f)?;
        }
        write!(f, " → {}", self.stores.join(", "))
    }
}

impl Sealed {
    /// The figures that follow from bytes and time.
    ///
    /// `bytes` of source became `stored` bytes within `seconds`.
    pub fn new(job: &str, id: &str, bytes: u64, stored: u64, seconds: f64) -> Self {
        Sealed {
            job: job.into(),
            id: id.into(),
            bytes,
            stored,
            ratio: bytes as f64 / stored.max(1) as f64,
            seconds,
            mb_per_second: bytes as f64 / 1e6 / seconds.max(0.001),
            stores: Vec::new(),
            failed: Vec::new(),
            warnings: Vec::new(),
            notes: Vec::new(),
            kept: None,
            segments: None,
        }
    }
}

/// How a set ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SetEnded {
    /// Its name.
    pub set: String,
    /// Its id.
    pub id: String,
    /// Whether every member is there.
    pub complete: bool,
    /// What the set's manifest says of its members.
    pub members: serde_json::Value,
    /// How many of them have an archive.
    #[serde(skip)]
    pub made: usize,
    /// How many there are.
    #[serde(skip)]
    pub all: usize,
}

/// What a verification found in order.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verified {
    /// Its job.
    pub job: String,
    /// Its id.
    pub id: String,
    /// How thoroughly it was looked at.
    pub level: String,
    /// Whether stored bytes were compared and nothing else.
    pub stored: bool,
    /// Bytes of source.
    pub bytes: u64,
    /// Bytes of the archive object.
    pub stored_bytes: u64,
    /// Bytes that were confirmed.
    pub confirmed: u64,
    /// The name of the record that was written.
    pub record: Option<String>,
    /// Of a sample: which part was confirmed, from 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// The result in words.
    #[serde(skip)]
    pub text: String,
}

/// What became of the archives of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// The job.
    pub job: String,
    /// Archives that were verified now.
    pub verified: u64,
    /// Archives that were verified before.
    pub before: u64,
    /// Archives that time did not suffice for.
    pub left: Vec<String>,
    /// Archives that are not in order.
    pub failed: Vec<String>,
}

/// An archive that is at another store, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Copied {
    /// Its job.
    pub job: String,
    /// Its id.
    pub id: String,
    /// The other store.
    pub to: String,
    /// Bytes of archive and catalog.
    #[serde(skip)]
    pub stored: u64,
}

/// What a restore has brought back.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Restored {
    /// What it was of: `JOB@ID`, or an object.
    pub archive: String,
    /// Where to: an option of `restore` with its value.
    pub target: String,
    /// Bytes of source that were handed on.
    pub bytes: u64,
    /// How many members were handed on; none where bytes were, as they are.
    pub members: Option<u64>,
    /// How long it took.
    pub seconds: f64,
}

impl fmt::Display for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "restored {}: {}", self.archive, human_bytes(self.bytes))?;
        if let Some(members) = self.members {
            write!(f, ", {}", counted(members, "member"))?;
        }
        write!(f, ", {:.1} s → {}", self.seconds, self.target)
    }
}

/// An archive that opens with a new passphrase, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rekeyed {
    /// Its job.
    pub job: String,
    /// Its id.
    pub id: String,
    /// The key object, by its name in the job's folder.
    pub object: String,
}

impl Event {
    /// The event as one line of JSON, its fields in alphabetical order.
    pub fn to_json(&self) -> String {
        // Strings and numbers always serialise.
        serde_json::to_value(self).unwrap_or_default().to_string()
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Note { message } => write!(f, "note: {message}"),
            Event::Warning { message } => write!(f, "warning: {message}"),
            Event::Source { message } => write!(f, "source: {message}"),
            Event::Error { message, hint: None, .. } => write!(f, "error: {message}"),
            Event::Error { message, hint: Some(hint), .. } => write!(f, "error: {message}\nhint: {hint}"),
            Event::Progress { bytes, stored, .. } => {
                write!(f, "{} in, {} stored", human_bytes(*bytes), human_bytes(*stored))
            }
            Event::Segment { job, id, bytes, stored, stores } => {
                let (read, stored) = (human_bytes(*bytes), human_bytes(*stored));
                write!(f, "committed {job}@{id}, a part: {read} in, {stored} stored → {}", stores.join(", "))
            }
            Event::Sealed(sealed) => sealed.fmt(f),
            Event::Set(set) => {
                let state = if set.complete { "complete" } else { "INCOMPLETE" };
                write!(f, "set {}@{}: {state}, {} of {} archives", set.set, set.id, set.made, set.all)
            }
            Event::Run(run) => run.fmt(f),
            Event::Verified(verified) => {
                write!(f, "verified {}@{}: {}", verified.job, verified.id, verified.text)
            }
            Event::Verification(of) => write!(
                f,
                "archives of {}: {} verified now, {} before, {} left",
                of.job,
                of.verified,
                of.before,
                of.left.len()
            ),
            Event::Drilled(drilled) => drilled.fmt(f),
            Event::Copied(copied) => write!(
                f,
                "copied {}@{}: {} → {}",
                copied.job,
                copied.id,
                human_bytes(copied.stored),
                copied.to
            ),
            Event::Restored(restored) => restored.fmt(f),
            Event::Step(step) => step.fmt(f),
            Event::PlannedBackup(planned) => planned.fmt(f),
            Event::PlannedCopy(planned) => planned.fmt(f),
            Event::PlannedRestore(planned) => planned.fmt(f),
            Event::Rekeyed(Rekeyed { job, id, object }) => write!(f, "rekeyed {job}@{id}: {job}/{object}"),
            Event::Checked { file, stores, jobs, sets } => {
                let counts = [(stores, "store"), (jobs, "job"), (sets, "set")];
                let counts = counts.map(|(count, one)| counted(*count as u64, one));
                write!(f, "{file}: {}: fine", counts.join(", "))
            }
        }
    }
}

mod drilled;
mod planned;
#[cfg(test)]
mod schema_tests;
mod step;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_json_object_with_its_name() {
        let note = Event::Note { message: "a \"b\"\n".into() };
        assert_eq!(note.to_json(), r#"{"event":"note","message":"a \"b\"\n"}"#);
        let error = Event::Error { message: "m".into(), hint: None, code: 13 };
        assert_eq!(error.to_json(), r#"{"code":13,"event":"error","hint":null,"message":"m"}"#);
    }

    #[test]
    fn a_sealed_backup_has_its_figures() {
        let mut sealed = Sealed::new("db", "ID", 3_000_000, 1_000_000, 1.5);
        sealed.stores = vec!["file:///a".into(), "s3://b".into()];
        assert_eq!((sealed.ratio, sealed.mb_per_second), (3.0, 2.0));
        let text = Event::Sealed(sealed.clone()).to_string();
        assert_eq!(
            text,
            "sealed db@ID: 2.86 MiB in, 976.56 KiB stored (ratio 3.00), 1.5 s, 1.91 MiB/s → file:///a, s3://b"
        );
        let json: serde_json::Value = serde_json::from_str(&Event::Sealed(sealed).to_json()).unwrap();
        assert_eq!((json["event"].as_str(), json["stores"][1].as_str()), (Some("sealed"), Some("s3://b")));
        assert_eq!(json["failed"], serde_json::json!([]));
    }

    #[test]
    fn what_so_little_says_nothing_of_is_not_said() {
        let text = |bytes, seconds| Event::Sealed(Sealed::new("db", "ID", bytes, 1000, seconds)).to_string();
        assert_eq!(text(10, 0.1), "sealed db@ID: 10 B in, 1000 B stored, 0.1 s → ");
        assert_eq!(text(2 << 20, 0.1), "sealed db@ID: 2.00 MiB in, 1000 B stored (ratio 2097.15), 0.1 s → ");
    }

    #[test]
    fn no_time_and_no_byte_are_no_division_by_zero() {
        let sealed = Sealed::new("db", "ID", 0, 0, 0.0);
        assert_eq!((sealed.ratio, sealed.mb_per_second), (0.0, 0.0));
    }

    #[test]
    fn an_incomplete_set_says_so_loudly() {
        let set = SetEnded {
            set: "ee".into(),
            id: "ID".into(),
            complete: false,
            members: serde_json::json!([]),
            made: 1,
            all: 3,
        };
        assert_eq!(Event::Set(set.clone()).to_string(), "set ee@ID: INCOMPLETE, 1 of 3 archives");
        let json = Event::Set(set).to_json();
        assert_eq!(json, r#"{"complete":false,"event":"set","id":"ID","members":[],"set":"ee"}"#);
    }

    #[test]
    fn a_share_is_said_of_samples_alone() {
        let mut verified = Verified {
            job: "db".into(),
            id: "ID".into(),
            level: "whole".into(),
            stored: false,
            bytes: 1,
            stored_bytes: 2,
            confirmed: 1,
            record: None,
            share: None,
            text: "all of it".into(),
        };
        assert!(!Event::Verified(verified.clone()).to_json().contains("share"));
        verified.share = Some(0.5);
        assert!(Event::Verified(verified.clone()).to_json().contains("\"share\":0.5"));
        assert_eq!(Event::Verified(verified).to_string(), "verified db@ID: all of it");
    }

    #[test]
    fn counts_are_singular_or_plural() {
        let checked = Event::Checked { file: "f".into(), stores: 1, jobs: 0, sets: 2 };
        assert_eq!(checked.to_string(), "f: 1 store, 0 jobs, 2 sets: fine");
    }

    #[test]
    fn hints_stand_on_a_line_of_their_own() {
        let error = Event::Error { message: "m".into(), hint: Some("h".into()), code: 1 };
        assert_eq!(error.to_string(), "error: m\nhint: h");
    }
}
