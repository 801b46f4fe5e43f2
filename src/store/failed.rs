//! The failure record: small plain JSON in a job's folder that says that a run failed, when and why.
//!
//! `ID.failed.json`, with the id that its archive would have had. It is not authenticated, and steers nothing but what
//! is told.

use serde::Deserialize;

use super::{Store, json};
use crate::archive::Id;
use crate::error::Result;

/// What a failure record's name ends with.
pub const SUFFIX: &str = ".failed.json";

/// What a failure record says; what is unknown of it is passed over.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Failure {
    /// When the run failed.
    pub at: jiff::Timestamp,
    /// How it ended.
    #[serde(default)]
    pub code: Option<u8>,
    /// Why.
    #[serde(default)]
    pub cause: Option<String>,
}

/// The run that a record of this name is of.
pub(super) fn parse(name: &str) -> Option<Id> {
    name.strip_suffix(SUFFIX)?.parse().ok()
}

impl Store {
    /// What the record of a run that failed says; none where it is gone.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::error::Kind::Damaged); the store does not answer.
    pub async fn failure(&self, job: &str, id: &Id) -> Result<Option<Failure>> {
        let key = self.key(job, id, SUFFIX);
        let read = |text: &str| json::from_text::<Failure>(text, "failure record");
        self.small(&key, "a failure record", read).await
    }
}
