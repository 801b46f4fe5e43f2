//! Which of a job's archives, or of a set's runs: the part of `JOB@ID` behind the `@`.

use std::fmt;

use crate::archive::Id;
use crate::error::{Error, Kind, Result};

/// Ids that an error names.
const NAMED: usize = 8;

/// Which of a job's archives, or of a set's runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Version {
    /// The one made last: `JOB`, `JOB@latest`.
    #[default]
    Latest,
    /// This one.
    Id(Id),
    /// The only one whose id begins so: `JOB@20261122T02`.
    Begins(String),
    /// The last one of a day of UTC: `JOB@2026-11-22`.
    Day(jiff::civil::Date),
}

impl std::str::FromStr for Version {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        if text == "latest" {
            return Ok(Version::Latest);
        }
        if let Some(date) =
            text.contains('-').then(|| text.parse().ok()).flatten().filter(|_| text.len() == 10)
        {
            return Ok(Version::Day(date));
        }
        match text.parse() {
            Ok(id) => Ok(Version::Id(id)),
            Err(_) if Id::can_begin_with(text) => Ok(Version::Begins(text.into())),
            Err(error) => Err(error),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Version::Latest => f.write_str("latest"),
            Version::Id(id) => id.fmt(f),
            Version::Begins(text) => f.write_str(text),
            Version::Day(date) => date.fmt(f),
        }
    }
}

/// Whose ids they are.
#[derive(Debug, Clone, Copy)]
pub enum Owner<'a> {
    /// A job of this name: its archives.
    Job(&'a str),
    /// A set of this name: its runs.
    Set(&'a str),
}

impl Version {
    /// Finds it among the `ids` of a job or a set, which are in order.
    ///
    /// # Errors
    /// There is none, or there are several.
    pub fn pick(&self, of: Owner<'_>, ids: &[Id]) -> Result<Id> {
        let (name, owner, one, many) = match of {
            Owner::Job(name) => (name, "job", "archive", "archives"),
            Owner::Set(name) => (name, "set", "set", "runs"),
        };
        let begin = |text: &str| ids.iter().filter(|id| id.as_str().starts_with(text)).collect::<Vec<_>>();
        let found = match self {
            Version::Latest => ids.last(),
            Version::Id(wanted) => ids.iter().find(|id| *id == wanted),
            Version::Day(date) => begin(&date.strftime("%Y%m%dT").to_string()).pop(),
            Version::Begins(text) => match begin(text)[..] {
                [] => None,
                [id] => Some(id),
                ref several => {
                    let text = format!("{name}@{text} may be any of {} {many}", several.len());
                    return Err(Error::usage(text).hint(format!("say which: {}", shown(several))));
                }
            },
        };
        found.cloned().ok_or_else(|| {
            let there = match &ids[ids.len().saturating_sub(NAMED)..] {
                [] => format!("the {owner} has none"),
                last => format!("the {owner}'s last ones: {}", shown(&last.iter().collect::<Vec<_>>())),
            };
            Error::new(Kind::NotFound, format!("there is no {one} {name}@{self}")).hint(there)
        })
    }
}

fn shown(ids: &[&Id]) -> String {
    let first: Vec<_> = ids.iter().take(NAMED).map(|id| id.as_str()).collect();
    let more = if ids.len() > NAMED { ", …" } else { "" };
    format!("{}{more}", first.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> Vec<Id> {
        let ids = [
            "20261121T020000Z-00000000",
            "20261122T020000Z-1f2e3d4c",
            "20261122T020001Z-0a0b0c0d",
            "20261123T020000Z-ffffffff",
        ];
        ids.iter().map(|id| id.parse().unwrap()).collect()
    }

    fn pick(text: &str) -> Result<String> {
        text.parse::<Version>()?.pick(Owner::Job("db"), &ids()).map(String::from)
    }

    #[test]
    fn the_latest_a_day_and_a_unique_beginning_are_understood() {
        assert_eq!(pick("latest").unwrap(), "20261123T020000Z-ffffffff");
        assert_eq!(pick("2026-11-22").unwrap(), "20261122T020001Z-0a0b0c0d");
        assert_eq!(pick("20261121").unwrap(), "20261121T020000Z-00000000");
        assert_eq!(pick("20261122T020000Z-1").unwrap(), "20261122T020000Z-1f2e3d4c");
        assert_eq!(pick("20261122T020000Z-1f2e3d4c").unwrap(), "20261122T020000Z-1f2e3d4c");
    }

    #[test]
    fn a_beginning_of_several_is_refused_and_lists_them() {
        let error = pick("20261122T02").unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (Kind::Usage, "db@20261122T02 may be any of 2 archives")
        );
        let hint = error.hint_text().unwrap();
        assert!(
            hint.contains("1f2e3d4c") && hint.contains("0a0b0c0d") && !hint.contains("ffffffff"),
            "{hint}"
        );
    }

    #[test]
    fn what_is_not_there_is_not_found_and_what_is_no_version_is_refused() {
        for text in ["2026-11-24", "2025", "20261122T020000Z-00000000"] {
            let error = pick(text).unwrap_err();
            assert_eq!(error.kind(), Kind::NotFound, "{text}");
            assert!(error.hint_text().unwrap().contains("20261123T020000Z-ffffffff"));
        }
        assert_eq!(
            Version::Latest.pick(Owner::Job("db"), &[]).unwrap_err().hint_text(),
            Some("the job has none")
        );
        for text in
            ["", "newest", "2026-13-01", "2026-11-2", "20261122t", "20261122T020000Z-1f2e3d4c0", "@", "Z"]
        {
            assert_eq!(pick(text).unwrap_err().kind(), Kind::Usage, "{text}");
        }
    }

    #[test]
    fn a_sets_runs_are_called_so() {
        let pick = |text: &str| text.parse::<Version>().unwrap().pick(Owner::Set("ee"), &ids());
        assert_eq!(pick("2026-11-22").unwrap().as_str(), "20261122T020001Z-0a0b0c0d");
        let error = pick("20261122T02").unwrap_err();
        assert_eq!(error.to_string(), "ee@20261122T02 may be any of 2 runs");
        let error = pick("2026-11-24").unwrap_err();
        assert_eq!(error.to_string(), "there is no set ee@2026-11-24");
        assert!(error.hint_text().unwrap().starts_with("the set's last ones: "));
    }

    #[test]
    fn a_version_is_shown_as_it_was_written() {
        for text in ["latest", "2026-11-22", "20261122T02", "20261122T020000Z-1f2e3d4c"] {
            assert_eq!(text.parse::<Version>().unwrap().to_string(), text);
        }
    }
}
