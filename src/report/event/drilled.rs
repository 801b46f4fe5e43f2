//! The event of a drill.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::report::human_bytes;

/// What became of an archive that was restored for real and tried.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Drilled {
    /// Its job.
    pub job: String,
    /// Its id.
    pub id: String,
    /// Whether all is in order.
    pub passed: bool,
    /// `restored`, or `read` where no more can be done here.
    pub level: String,
    /// What it was tried as.
    pub what: String,
    /// What was counted.
    pub counts: BTreeMap<String, u64>,
    /// Bytes that were restored.
    pub bytes: u64,
    /// How long the restore took.
    pub restore_seconds: f64,
    /// How long all of it took.
    pub seconds: f64,
    /// Why it failed.
    pub cause: Option<String>,
    /// The name of the record that was written.
    pub record: Option<String>,
}

impl fmt::Display for Drilled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = if self.passed { "passed" } else { "failed" };
        write!(f, "drill of {}@{} {outcome}: {}", self.job, self.id, self.level)?;
        write!(f, " {} in {:.1} s, as {}", human_bytes(self.bytes), self.restore_seconds, self.what)?;
        for (what, count) in &self.counts {
            write!(f, ", {} {count}", what.replace('_', " "))?;
        }
        write!(f, "; {:.1} s in all", self.seconds)
    }
}
