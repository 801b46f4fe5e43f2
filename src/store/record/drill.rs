//! The drill record: small plain JSON beside an archive that says that it was restored for real into a scratch place, what
//! was tried there, and how that ended. Its key says how, so that a status needs to read none.
//!
//! `ID.drilled-OUTCOME-LEVEL-TIME-RANDOM.json`. As a verification record it is written once and not authenticated: it steers
//! nothing but what is told.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::archive::Id;
use crate::error::{Error, Result};
use crate::store::create::CreateError;
use crate::store::{Store, json};

const INFIX: &str = ".drilled-";
const SUFFIX: &str = ".json";
/// The version of drill records.
pub const FORMAT: u32 = 1;

/// How an archive was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DrillLevel {
    /// Everything was read as a restore would, and handed to nobody.
    Read,
    /// It was restored, and what it is for was tried.
    Restored,
}

/// How a drill ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DrillOutcome {
    /// Something is not as it should be.
    Failed,
    /// All is in order.
    Passed,
}

impl fmt::Display for DrillLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            DrillLevel::Read => "read",
            DrillLevel::Restored => "restored",
        })
    }
}

impl fmt::Display for DrillOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            DrillOutcome::Failed => "failed",
            DrillOutcome::Passed => "passed",
        })
    }
}

/// What the key of a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrillKey {
    /// How it ended.
    pub outcome: DrillOutcome,
    /// How it was tried.
    pub level: DrillLevel,
    /// When, and random digits that keep two records apart.
    pub at: Id,
}

impl DrillKey {
    /// What the record's name has behind the archive's id.
    pub fn suffix(&self) -> String {
        format!("{INFIX}{}-{}-{}{SUFFIX}", self.outcome, self.level, self.at)
    }

    /// Reads an object's name; `None` where it is not exactly one that [`DrillKey::suffix`] makes.
    pub fn parse(name: &str) -> Option<(Id, DrillKey)> {
        let (id, rest) = name.strip_suffix(SUFFIX)?.split_once(INFIX)?;
        let (outcome, rest) = rest.split_once('-')?;
        let (level, at) = rest.split_once('-')?;
        let outcome =
            [DrillOutcome::Failed, DrillOutcome::Passed].into_iter().find(|o| o.to_string() == outcome)?;
        let level = [DrillLevel::Read, DrillLevel::Restored].into_iter().find(|l| l.to_string() == level)?;
        let at: Id = at.parse().ok()?;
        at.time()?;
        Some((id.parse().ok()?, DrillKey { outcome, level, at }))
    }
}

/// The fields of a record; `self`, a SHA-256 of the text before it, is added when it is written. It names no member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drill {
    /// Version of the on-store format.
    pub format: u32,
    /// The archive's id.
    pub id: Id,
    /// Its job.
    pub job: String,
    /// How it ended.
    pub outcome: DrillOutcome,
    /// How it was tried.
    pub level: DrillLevel,
    /// What it was tried as: `files`, `registry`, `postgres`, `check`, …
    pub what: String,
    /// What was counted there: `members`, `tables`, …
    pub counts: BTreeMap<String, u64>,
    /// Bytes that were restored, or read.
    pub bytes: u64,
    /// How long the restore alone took.
    pub restore_seconds: f64,
    /// How long all of it took.
    pub seconds: f64,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The host it was tried on, where its name is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// RFC 3339.
    pub at: jiff::Timestamp,
    /// What wrote it.
    pub tool: String,
}

impl Store {
    /// Writes a record of a drill. It is later than those that the archive has, whatever the clock says.
    ///
    /// # Errors
    /// It was not written: the store may be one that we may only read.
    pub async fn put_drill(&self, drill: &Drill) -> Result<DrillKey> {
        let Drill { job, id, outcome, level, .. } = drill;
        let names = self.sizes(job).await?;
        let before = names.keys().filter_map(|name| DrillKey::parse(name)).filter(|(own, _)| own == id);
        let at = Id::after(drill.at, &before.map(|(_, key)| key.at).collect::<Vec<_>>())?;
        let mark = DrillKey { outcome: *outcome, level: *level, at };
        let (key, text) = (self.key(job, id, &mark.suffix()), json::to_text(drill, "drill record")?);
        match self.put_once(&key, text).await {
            Ok(()) => Ok(mark),
            Err(CreateError::Refused(error) | CreateError::Unknown(error)) => {
                Err(self.explain("writing the drill record", error))
            }
            Err(CreateError::Another | CreateError::Lost) => {
                Err(Error::failed(format!("{} did not keep the drill record {key}", self.name)))
            }
        }
    }

    /// What a record says; none where it is gone, or says what its key does not.
    ///
    /// # Errors
    /// It is damaged; the store does not answer.
    pub async fn drill(&self, job: &str, id: &Id, mark: &DrillKey) -> Result<Option<Drill>> {
        let key = self.key(job, id, &mark.suffix());
        let read = |text: &str| json::from_text::<Drill>(text, "drill record");
        let drill = self.small(&key, "a drill record", read).await?;
        Ok(drill.filter(|drill| drill.job == job && drill.id == *id && drill.outcome == mark.outcome))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreOptions;

    const ID: &str = "20261122T020000Z-1f2e3d4c";

    fn drill(outcome: DrillOutcome) -> Drill {
        Drill {
            format: FORMAT,
            id: ID.parse().unwrap(),
            job: "db".into(),
            outcome,
            level: DrillLevel::Restored,
            what: "postgres".into(),
            counts: [("tables".to_string(), 3)].into(),
            bytes: 7,
            restore_seconds: 0.5,
            seconds: 1.5,
            cause: None,
            host: Some("h".into()),
            at: "2026-11-23T04:05:06Z".parse().unwrap(),
            tool: "sealift 0".into(),
        }
    }

    #[test]
    fn a_name_reads_back_and_nothing_else_does() {
        let suffix = ".drilled-passed-restored-20261123T040506Z-00112233.json";
        let (id, key) = DrillKey::parse(&format!("{ID}{suffix}")).unwrap();
        assert_eq!((id.to_string().as_str(), key.suffix().as_str()), (ID, suffix));
        assert_eq!((key.outcome, key.level), (DrillOutcome::Passed, DrillLevel::Restored));
        for bad in [
            ".drilled-20261123T040506Z-00112233.json",
            ".drilled-passed-20261123T040506Z-00112233.json",
            ".drilled-passed-best-20261123T040506Z-00112233.json",
            ".drilled-perhaps-read-20261123T040506Z-00112233.json",
            ".drilled-failed-read-20269999T040506Z-00112233.json",
            ".drilled-failed-read-20261123T040506Z-00112233",
        ] {
            assert_eq!(DrillKey::parse(&format!("{ID}{bad}")), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn a_record_is_read_back_and_is_the_latest_whatever_the_clock_says() {
        let store = Store::open("memory://drills", &StoreOptions::default()).unwrap();
        let first = store.put_drill(&drill(DrillOutcome::Failed)).await.unwrap();
        let second = store.put_drill(&drill(DrillOutcome::Passed)).await.unwrap();
        assert!(second.at > first.at, "{first:?} {second:?}");
        let id = ID.parse().unwrap();
        assert_eq!(store.drill("db", &id, &second).await.unwrap(), Some(drill(DrillOutcome::Passed)));
        // What its key does not say is not believed.
        let other = DrillKey { outcome: DrillOutcome::Failed, ..second };
        assert_eq!(store.drill("db", &id, &other).await.unwrap(), None);
    }
}
