//! The verification record: small plain JSON beside an archive that says when it was found in order, and how thoroughly
//! it was looked at. Its key says the same, so that a list needs to read none.
//!
//! `ID.verified-LEVEL-TIME-RANDOM.json`; a sample's is `ID.verified-sample-N-…`, of N hundredths of a percent. Each is
//! written once and nothing is overwritten. A record is not authenticated: whoever can write to the store can write
//! one. It steers nothing but lists and what `verify --since-last` leaves out.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::create::CreateError;
use super::{Store, damage, json};
use crate::archive::Id;
use crate::error::{Error, Result};

pub mod drill;

/// A whole archive in hundredths of a percent.
pub const WHOLE: u16 = 10_000;

const INFIX: &str = ".verified-";
const SUFFIX: &str = ".json";

/// How thoroughly an archive was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Its objects are there and have their sizes.
    Manifest,
    /// Its stored bytes are those that the manifest names.
    Stored,
    /// The catalog, and frames taken at random, are what was sealed.
    Sample,
    /// All of its own bytes are what was sealed; `list` calls that `own` of an increment.
    Whole,
    /// And so is what it needs of older archives: `verify --whole`.
    All,
}

const LEVELS: [(Level, &str); 5] = [
    (Level::Manifest, "manifest"),
    (Level::Stored, "stored"),
    (Level::Sample, "sample"),
    (Level::Whole, "whole"),
    (Level::All, "all"),
];

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = LEVELS.iter().find(|(level, _)| level == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

impl FromStr for Level {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let known = LEVELS.iter().find(|(_, name)| *name == text);
        known.map(|(level, _)| *level).ok_or_else(|| Error::usage(format!("{text:?} is no level")))
    }
}

/// What the key of a record says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct VerificationKey {
    /// How thoroughly it was looked at.
    pub level: Level,
    /// How much of the source was confirmed, in hundredths of a percent, rounded down; [`WHOLE`] but for a sample.
    pub share: u16,
    /// When, and random digits that keep two records apart.
    pub at: Id,
}

impl VerificationKey {
    /// What the record's name has behind the archive's id.
    pub fn suffix(&self) -> String {
        let share = if self.level == Level::Sample { format!("{}-", self.share) } else { String::new() };
        format!("{INFIX}{}-{share}{}{SUFFIX}", self.level, self.at)
    }

    /// Reads an object's name; `None` where it is not exactly one that [`VerificationKey::suffix`] makes.
    pub fn parse(name: &str) -> Option<(Id, VerificationKey)> {
        let (id, rest) = name.strip_suffix(SUFFIX)?.split_once(INFIX)?;
        let (level, rest) = rest.split_once('-')?;
        let level = level.parse().ok()?;
        let (share, at) = match level {
            Level::Sample => rest.split_once('-').and_then(|(share, at)| Some((share.parse().ok()?, at)))?,
            _ => (WHOLE, rest),
        };
        let (id, mark): (Id, _) = (id.parse().ok()?, VerificationKey { level, share, at: at.parse().ok()? });
        let sound = share <= WHOLE && mark.at.time().is_some() && name == format!("{id}{}", mark.suffix());
        sound.then_some((id, mark))
    }

    /// Whether what was found then makes a look at `level`, for a sample of at least `share`, unnecessary.
    pub fn covers(&self, level: Level, share: u16) -> bool {
        match (self.level, level) {
            (Level::All, _) | (_, Level::Manifest) => true,
            (Level::Whole, level) => level != Level::All,
            (Level::Sample, Level::Sample) => self.share >= share,
            (own, level) => own == level,
        }
    }
}

/// `whole`, or `sample 5.12%`
impl fmt::Display for VerificationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            Level::Sample => write!(f, "sample {}%", f64::from(self.share) / 100.0),
            level => level.fmt(f),
        }
    }
}

/// The version of verification records.
pub const FORMAT: u32 = 1;

/// The fields of a record; `self`, a SHA-256 of the text before it, is added when it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Version of the on-store format.
    pub format: u32,
    /// The archive's id.
    pub id: Id,
    /// Its job.
    pub job: String,
    /// How thoroughly it was looked at.
    pub level: Level,
    /// Of a sample: how much of the source was confirmed, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// Bytes that were read and confirmed: of the source; with `stored` of the objects; with `manifest` none.
    pub bytes: u64,
    /// RFC 3339.
    pub at: jiff::Timestamp,
    /// What wrote it.
    pub tool: String,
}

impl Record {
    /// The text that is stored.
    ///
    /// # Errors
    /// It does not serialise.
    pub fn to_text(&self) -> Result<String> {
        json::to_text(self, "verification record")
    }

    /// Reads a stored text back.
    ///
    /// # Errors
    /// The text is damaged.
    pub fn from_text(text: &str) -> Result<Self> {
        json::from_text(text, "verification record")
    }
}

/// `part` of `whole` in hundredths of a percent, rounded down. All of nothing is the whole.
pub fn share(part: u64, whole: u64) -> u16 {
    let share = u128::from(part.min(whole)) * u128::from(WHOLE);
    share.checked_div(u128::from(whole)).and_then(|share| u16::try_from(share).ok()).unwrap_or(WHOLE)
}

impl Store {
    /// Writes a record that `bytes` of an archive were confirmed, of `total` where it is a sample. It is later than those
    /// of its level that the archive has, whatever the clock says: the latest is the one that was made last.
    ///
    /// # Errors
    /// It was not written: the store may be one that we may only read.
    pub async fn put_record(
        &self,
        (job, id): (&str, &Id),
        level: Level,
        (bytes, total): (u64, u64),
    ) -> Result<VerificationKey> {
        let now = jiff::Timestamp::now();
        let sample = level == Level::Sample;
        let names = self.sizes(job).await?;
        let marks = names.keys().filter_map(|name| VerificationKey::parse(name));
        let marks = marks.filter(|(_, mark)| mark.level == level).map(|(own, mark)| (own, mark.at));
        // What is in order now is in order after all damage that was found before.
        let damage = names.keys().filter_map(|name| damage::parse(name));
        let before = marks.chain(damage).filter(|(own, _)| own == id).map(|(_, at)| at);
        let at = Id::after(now, &before.collect::<Vec<_>>())?;
        let mark = VerificationKey { level, share: if sample { share(bytes, total) } else { WHOLE }, at };
        let record = Record {
            format: FORMAT,
            id: id.clone(),
            job: job.into(),
            level,
            share: sample.then(|| if total == 0 { 1.0 } else { bytes as f64 / total as f64 }),
            bytes,
            at: now,
            tool: concat!("sealift ", env!("CARGO_PKG_VERSION")).into(),
        };
        let (key, text) = (self.key(job, id, &mark.suffix()), record.to_text()?);
        match self.put_once(&key, text).await {
            Ok(()) => Ok(mark),
            Err(CreateError::Refused(error) | CreateError::Unknown(error)) => {
                Err(self.explain("writing the verification record", error))
            }
            Err(CreateError::Another | CreateError::Lost) => {
                Err(Error::failed(format!("{} did not keep the verification record {key}", self.name)))
            }
        }
    }

    /// Whether the record behind a mark is there, whole, and says what its key says.
    pub async fn confirms(&self, job: &str, id: &Id, mark: &VerificationKey) -> bool {
        let key = self.key(job, id, &mark.suffix());
        let read = self.small(&key, "a verification record", Record::from_text).await;
        let same = |r: Record| {
            // The key has it rounded down.
            let over = r.share.unwrap_or(1.0) * f64::from(WHOLE) - f64::from(mark.share);
            let agrees = r.level == mark.level && (0.0..=1.0).contains(&over.abs());
            r.format == FORMAT && r.job == job && r.id == *id && agrees
        };
        read.is_ok_and(|record| record.is_some_and(same))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "20261122T020000Z-1f2e3d4c";

    #[test]
    fn a_name_reads_back_and_nothing_else_does() {
        let at: Id = "20261123T040506Z-00112233".parse().unwrap();
        for (level, share, suffix) in [
            (Level::Whole, WHOLE, ".verified-whole-20261123T040506Z-00112233.json"),
            (Level::Sample, 512, ".verified-sample-512-20261123T040506Z-00112233.json"),
        ] {
            let mark = VerificationKey { level, share, at: at.clone() };
            assert_eq!(mark.suffix(), suffix);
            assert_eq!(VerificationKey::parse(&format!("{ID}{suffix}")), Some((ID.parse().unwrap(), mark)));
        }
        for bad in [
            ".manifest.json",
            ".verified-whole-20261123T040506Z-00112233",
            ".verified-best-20261123T040506Z-00112233.json",
            ".verified-whole-20269999T040506Z-00112233.json",
            ".verified-whole-512-20261123T040506Z-00112233.json",
            ".verified-sample-20261123T040506Z-00112233.json",
            ".verified-sample-0512-20261123T040506Z-00112233.json",
            ".verified-sample-10001-20261123T040506Z-00112233.json",
        ] {
            assert_eq!(VerificationKey::parse(&format!("{ID}{bad}")), None, "{bad}");
        }
    }

    #[test]
    fn a_record_reads_back_and_any_flip_is_seen() {
        let record = Record {
            format: FORMAT,
            id: ID.parse().unwrap(),
            job: "db".into(),
            level: Level::Sample,
            share: Some(0.05),
            bytes: 7,
            at: jiff::Timestamp::now(),
            tool: "sealift 0".into(),
        };
        let text = record.to_text().unwrap();
        assert_eq!(Record::from_text(&text).unwrap(), record);
        for i in 0..text.len() {
            let mut flipped = text.clone().into_bytes();
            flipped[i] ^= 1;
            let read = String::from_utf8(flipped).ok().and_then(|text| Record::from_text(&text).ok());
            assert_eq!(read, None, "byte {i}");
        }
    }

    #[tokio::test]
    async fn the_latest_record_is_the_one_that_was_made_last_whatever_the_clock_said() {
        use object_store::ObjectStoreExt;
        use object_store::path::Path;
        let store = Store::open("memory://record-order", &crate::store::StoreOptions::default()).unwrap();
        let ahead = "20991231T235959Z-ffffffff";
        for name in [format!("{ID}.manifest.json"), format!("{ID}.verified-sample-1-{ahead}.json")] {
            store.up.put(&Path::from(format!("db/{name}")), "x".into()).await.unwrap();
        }
        let id = ID.parse().unwrap();
        let mut last: Id = ahead.parse().unwrap();
        // Two within a second have an order too.
        for bytes in [7, 8] {
            let put = store.put_record(("db", &id), Level::Sample, (bytes, 10)).await.unwrap();
            assert!(put.at > last, "{} is not later than {last}", put.at);
            let names = store.sizes("db").await.unwrap();
            let marks = names.keys().filter_map(|name| VerificationKey::parse(name)).map(|(_, mark)| mark);
            assert_eq!(marks.max_by_key(|mark| mark.at.clone()), Some(put.clone()));
            last = put.at;
        }
        // Another level is not compared with it.
        let whole = store.put_record(("db", &id), Level::Whole, (10, 10)).await.unwrap();
        assert!(whole.at < last, "{}", whole.at);
    }

    #[test]
    fn what_covers_what() {
        let mark = |level, share| VerificationKey { level, share, at: ID.parse().unwrap() };
        let (whole, all) = (mark(Level::Whole, WHOLE), mark(Level::All, WHOLE));
        assert!(LEVELS.iter().all(|(level, _)| all.covers(*level, WHOLE)));
        assert!(LEVELS.iter().all(|(level, _)| whole.covers(*level, WHOLE) == (*level != Level::All)));
        // Few frames are no proof of all stored bytes, and stored bytes none of what is sealed in them.
        assert!(!mark(Level::Sample, 9999).covers(Level::Stored, WHOLE));
        assert!(!mark(Level::Stored, WHOLE).covers(Level::Sample, 1));
        assert!(mark(Level::Sample, 500).covers(Level::Sample, 500));
        assert!(!mark(Level::Sample, 499).covers(Level::Sample, 500));
        assert!(mark(Level::Stored, WHOLE).covers(Level::Manifest, WHOLE));
        assert!(!mark(Level::Sample, WHOLE).covers(Level::Whole, WHOLE));
    }

    #[test]
    fn shares_are_rounded_down() {
        assert_eq!(
            [share(1, 3), share(3, 3), share(0, 0), share(9, 3), share(0, 7)],
            [3333, WHOLE, WHOLE, WHOLE, 0]
        );
    }
}
