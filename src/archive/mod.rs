//! The archive: one sealed stream of one source, with the catalog beside it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::report::hex;
use crate::stream::source::ByteStream;
use crate::tar;

pub mod budget;
mod capture;
pub mod catalog;
pub mod check;
pub mod contents;
pub mod digest;
pub mod frame;
pub mod hashing;
pub mod key_object;
pub mod name;
pub mod open;
pub mod openpgp;
pub mod read_at;
#[cfg(test)]
mod round_trip;
pub mod seal;
pub mod sequential;
pub mod tap;
#[cfg(test)]
pub(crate) mod testing;
pub mod whole;

/// Whether an archive's source is a tar, whose end can be proved, or anything else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A tar: followed to its end marker.
    Tar,
    /// Bytes.
    #[default]
    Raw,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Format::Tar => "tar",
            Format::Raw => "raw",
        })
    }
}

impl Format {
    /// Tells a tar from anything else by the first bytes, which stay to be read.
    ///
    /// # Errors
    /// The source broke off before it gave them.
    pub fn of(stream: &mut ByteStream) -> Result<Self> {
        Ok(if tar::is_header(&stream.peek(tar::BLOCK)?) { Format::Tar } else { Format::Raw })
    }

    /// What the object's name carries for it.
    pub fn suffix(self) -> &'static str {
        match self {
            Format::Tar => ".tar",
            Format::Raw => "",
        }
    }
}

/// An archive's id: when it was begun (UTC) and eight random hex digits, `20261122T020000Z-1f2e3d4c`.
/// Ids of a job sort in the order in which its archives were made: see [`Id::after`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id(String);

/// What an id is made of: digits, hex digits, and the letters between.
const PATTERN: &[u8] = b"dddddddd_dddddd_-xxxxxxxx";

impl Id {
    /// A new id for something begun at `time`.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new(time: jiff::Timestamp) -> Result<Self> {
        let mut random = [0; 4];
        sequoia_openpgp::crypto::random(&mut random)
            .map_err(|e| Error::failed("no random bytes").because(e))?;
        let time = time.to_zoned(jiff::tz::TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ");
        Ok(Id(format!("{time}-{}", hex(&random))))
    }

    /// A new id for something begun at `time`, later than all that were `seen`: where the clock does not say so (two within
    /// a second, or a clock that was set back) the id's time is stepped past the latest of them.
    ///
    /// # Errors
    /// No time comes after the latest of them.
    pub fn after<'a>(time: jiff::Timestamp, seen: impl IntoIterator<Item = &'a Id>) -> Result<Self> {
        let latest = seen.into_iter().filter(|id| id.is_since(time)).filter_map(Id::time).max();
        let time = match latest {
            None => time,
            Some(latest) => latest.checked_add(jiff::SignedDuration::from_secs(1)).map_err(|e| {
                Error::failed("no id can be later than that of the newest archive")
                    .because(e)
                    .hint("was it made while the clock was wrong? use another --job")
            })?,
        };
        Id::new(time)
    }

    /// Whether it was begun at `time` or later, as far as ids tell times apart.
    pub fn is_since(&self, time: jiff::Timestamp) -> bool {
        self.time().is_some_and(|begun| begun.as_second() >= time.as_second())
    }

    /// When it was begun; none where its digits are no time.
    pub fn time(&self) -> Option<jiff::Timestamp> {
        let digits = self.0.split('-').next()?;
        let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", digits).ok()?;
        Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    }

    /// Whether an id may begin so.
    pub fn can_begin_with(text: &str) -> bool {
        let fits = |(i, (c, p)): (usize, (u8, &u8))| match p {
            b'd' => c.is_ascii_digit(),
            b'x' => matches!(c, b'0'..=b'9' | b'a'..=b'f'),
            b'_' => c == if i == 8 { b'T' } else { b'Z' },
            _ => c == *p,
        };
        (1..=PATTERN.len()).contains(&text.len()) && text.bytes().zip(PATTERN).enumerate().all(fits)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Id {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let fits = text.len() == PATTERN.len() && Id::can_begin_with(text);
        match fits {
            true => Ok(Id(text.into())),
            false => Err(Error::usage(format!("{text:?} is no archive id"))
                .hint("an id looks like 20261122T020000Z-1f2e3d4c; `sealift list` shows them")),
        }
    }
}

impl TryFrom<String> for Id {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Id> for String {
    fn from(id: Id) -> String {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_later_than_all_that_were_seen() {
        let now: jiff::Timestamp = "2026-11-22T02:00:00.9Z".parse().unwrap();
        let mut seen: Vec<Id> = Vec::new();
        for _ in 0..20 {
            let id = Id::after(now, &seen).unwrap();
            assert!(seen.iter().all(|earlier| *earlier < id), "{id} {seen:?}");
            seen.push(id);
        }
        // The clock was set forward once, and back again.
        let ahead = Id::new("2031-01-01T00:00:00Z".parse().unwrap()).unwrap();
        let next = Id::after(now, [&ahead]).unwrap();
        assert!(next > ahead && next.as_str().starts_with("20310101T000001Z-"), "{next}");
        // An id whose digits are no time is nobody's.
        let never: Id = "99999999T999999Z-ffffffff".parse().unwrap();
        assert!(Id::after(now, [&never]).unwrap().as_str().starts_with("20261122T020000Z-"));
        let last: Id = "99991230T220000Z-00000000".parse().unwrap();
        assert!(Id::after(now, [&last]).unwrap_err().hint_text().unwrap().contains("--job"));
    }

    #[test]
    fn an_id_reads_back_and_nothing_else_does() {
        let id = Id::new(jiff::Timestamp::now()).unwrap();
        assert_eq!(id.as_str().parse::<Id>().unwrap(), id);
        let dated: Id = "20261122T020304Z-1f2e3d4c".parse().unwrap();
        assert_eq!(dated.time(), Some("2026-11-22T02:03:04Z".parse().unwrap()));
        assert_eq!("20269922T020304Z-1f2e3d4c".parse::<Id>().unwrap().time(), None);
        for bad in
            ["", "x", "../20261122T020000Z-1f2e3d4", "20261122T020000Z-1F2E3D4C", "20261122_020000Z-1f2e3d4c"]
        {
            assert!(bad.parse::<Id>().is_err(), "{bad}");
        }
    }
}
