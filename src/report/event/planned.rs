//! What dry runs say.

use std::fmt;

use serde::Serialize;

use super::super::{counted, human_bytes};

/// What would be backed up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedBackup {
    /// Its job.
    pub job: String,
    /// What its source is.
    pub source: String,
    /// Bytes before compression, where they can be measured.
    pub bytes: Option<u64>,
    /// The stores that it would go to.
    pub stores: Vec<String>,
    /// The job's newest archive, `JOB@ID`.
    pub last: Option<String>,
    /// The archive that it would build on, `JOB@ID`; none: it would hold everything.
    pub base: Option<String>,
    /// What would be done to containers and services while it is read, in order: `stop web`.
    pub quiesce: Vec<String>,
}

impl fmt::Display for PlannedBackup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "would back up {}: {}", self.job, self.source)?;
        if let Some(bytes) = self.bytes {
            write!(f, ", about {} before compression", human_bytes(bytes))?;
        }
        match (&self.base, &self.last) {
            (Some(base), _) => write!(f, "; what is new since {base}")?,
            (None, Some(last)) => write!(f, "; all of it, as a new archive after {last}")?,
            (None, None) => write!(f, "; all of it, as the first archive")?,
        }
        if !self.quiesce.is_empty() {
            write!(f, "; meanwhile: {}", self.quiesce.join(", "))?;
        }
        write!(f, " → {}", self.stores.join(", "))
    }
}

/// An archive that would be copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedCopy {
    /// Its job.
    pub job: String,
    /// Its id.
    pub id: String,
    /// The other store.
    pub to: String,
    /// Bytes of archive and catalog.
    pub stored: u64,
}

impl fmt::Display for PlannedCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PlannedCopy { job, id, to, stored } = self;
        write!(f, "would copy {job}@{id}: {} → {to}", human_bytes(*stored))
    }
}

/// What a restore would bring back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedRestore {
    /// `JOB@ID`.
    pub archive: String,
    /// Where to: an option of `restore` with its value.
    pub target: String,
    /// Bytes of source that would be handed on.
    pub bytes: u64,
    /// How many members; none where bytes would be, as they are.
    pub members: Option<u64>,
    /// Whether the folder or volume is missing, empty or not empty; none where that was not looked at.
    pub target_is: Option<String>,
}

impl fmt::Display for PlannedRestore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "would restore {}: {}", self.archive, human_bytes(self.bytes))?;
        if let Some(members) = self.members {
            write!(f, ", {}", counted(members, "member"))?;
        }
        write!(f, " → {}", self.target)?;
        match self.target_is.as_deref() {
            Some("missing") => f.write_str(", which would be made"),
            Some(state) => write!(f, ", which is {state}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dry_backup_says_how_much_and_upon_what() {
        let first = PlannedBackup {
            job: "db".into(),
            source: "path /etc".into(),
            bytes: Some(2048),
            stores: vec!["file:///a".into(), "s3://b".into()],
            last: None,
            base: None,
            quiesce: Vec::new(),
        };
        assert_eq!(
            first.to_string(),
            "would back up db: path /etc, about 2.00 KiB before compression; all of it, as the first archive → file:///a, s3://b"
        );
        let full = PlannedBackup { bytes: None, last: Some("db@ID".into()), ..first.clone() };
        assert!(
            full.to_string()
                .starts_with("would back up db: path /etc; all of it, as a new archive after db@ID → ")
        );
        let held = PlannedBackup { quiesce: vec!["stop web".into(), "pause db".into()], ..first.clone() };
        assert!(held.to_string().contains("first archive; meanwhile: stop web, pause db → "), "{held}");
        let increment = PlannedBackup { base: Some("db@OLD".into()), ..full };
        assert!(
            increment.to_string().starts_with("would back up db: path /etc; what is new since db@OLD → ")
        );
    }

    #[test]
    fn a_dry_restore_says_what_where_to_and_what_is_there() {
        let planned = PlannedRestore {
            archive: "db@ID".into(),
            target: "/mnt/new".into(),
            bytes: 2048,
            members: Some(1),
            target_is: Some("missing".into()),
        };
        let text = "would restore db@ID: 2.00 KiB, 1 member → /mnt/new, which would be made";
        assert_eq!(planned.to_string(), text);
        let filled = PlannedRestore { target_is: Some("not empty".into()), members: None, ..planned.clone() };
        assert_eq!(filled.to_string(), "would restore db@ID: 2.00 KiB → /mnt/new, which is not empty");
        let stdout = PlannedRestore { target_is: None, target: "stdout".into(), ..planned };
        assert_eq!(stdout.to_string(), "would restore db@ID: 2.00 KiB, 1 member → stdout");
    }
}
