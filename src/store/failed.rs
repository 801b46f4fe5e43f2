//! The failure record: small plain JSON in a job's folder that says that a run failed, when and why.
//!
//! `ID.failed.json`, with the id that its archive would have had. It is written once, not authenticated, and steers
//! nothing but what is told. It also marks the end of the run, so that its lease ([`super::lease`]) holds nobody back.

use serde::{Deserialize, Serialize};

use super::create::CreateError;
use super::{Store, json};
use crate::archive::Id;
use crate::error::{Error, LeftBehind, Result};
use crate::host::name::host_name;

/// What a failure record's name ends with.
pub const SUFFIX: &str = ".failed.json";
/// The version of failure records.
pub const FORMAT: u32 = 1;

/// Characters of a cause, or of what is left, that are kept.
const LONGEST: usize = 4000;
/// What is left is named so often.
const NAMED: usize = 16;

/// What a failure record says; what is unknown of it is passed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Version of the record.
    #[serde(default)]
    pub format: u32,
    /// When the run failed.
    pub at: jiff::Timestamp,
    /// How it ended.
    #[serde(default)]
    pub code: Option<u8>,
    /// Why.
    #[serde(default)]
    pub cause: Option<String>,
    /// What it could not take back here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<String>,
    /// The host it ran on, where its name is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// What wrote it.
    #[serde(default)]
    pub tool: String,
}

impl Failure {
    /// The record of an error, of which `clean` takes out what is secret.
    pub fn of(error: &Error, clean: impl Fn(&str) -> String) -> Self {
        let short = |text: &str| clean(text).chars().take(LONGEST).collect::<String>();
        let left = error.left().iter().take(NAMED);
        Failure {
            format: FORMAT,
            at: jiff::Timestamp::now(),
            code: Some(error.kind().exit_code()),
            cause: Some(short(&error.to_string())),
            left: left.map(|LeftBehind { what, .. }| short(what)).collect(),
            host: host_name(),
            tool: concat!("sealift ", env!("CARGO_PKG_VERSION")).into(),
        }
    }
}

/// The run that a record of this name is of.
pub(super) fn parse(name: &str) -> Option<Id> {
    name.strip_suffix(SUFFIX)?.parse().ok()
}

impl Store {
    /// Says that a run failed.
    ///
    /// # Errors
    /// It was not written: the key may be one that may not.
    pub async fn put_failure(&self, job: &str, id: &Id, failure: &Failure) -> Result<()> {
        let key = self.key(job, id, SUFFIX);
        let text = json::to_text(failure, "failure record")?;
        self.put_once(&key, text).await.map_err(|error| match error {
            CreateError::Refused(error) | CreateError::Unknown(error) => {
                self.explain("writing the failure record", error)
            }
            CreateError::Another | CreateError::Lost => {
                Error::failed(format!("{} did not keep the failure record {key}", self.name))
            }
        })
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreOptions;

    const ID: &str = "20261122T020000Z-1f2e3d4c";

    #[tokio::test]
    async fn a_failure_reads_back_and_is_no_archive() {
        let store = Store::open("memory://failed", &StoreOptions::default()).unwrap();
        let id: Id = ID.parse().unwrap();
        let error = Error::failed("gone").because("hunter2 was wrong").leaving("s3://b", "parts are left");
        let failure = Failure::of(&error, |text| text.replace("hunter2", "***"));
        store.put_failure("db", &id, &failure).await.unwrap();
        let read = store.failure("db", &id).await.unwrap().unwrap();
        assert_eq!((read.code, read.cause.as_deref()), (Some(1), Some("gone: *** was wrong")));
        assert_eq!(
            (read.left, store.newest("db").await.unwrap()),
            (vec!["parts are left".to_string()], None)
        );
        assert!(
            store.put_failure("db", &id, &Failure { code: Some(3), ..failure }).await.is_err(),
            "written once"
        );
        assert!(store.unfinished(None).await.unwrap().is_empty() && store.passed_over() == 0);
    }

    #[test]
    fn what_is_named_otherwise_is_no_record() {
        assert_eq!(parse(&format!("{ID}{SUFFIX}")), Some(ID.parse().unwrap()));
        for name in [format!("x{ID}{SUFFIX}"), format!("{ID}.x{SUFFIX}"), format!("{ID}.failed"), ID.into()] {
            assert_eq!(parse(&name), None, "{name}");
        }
    }
}
