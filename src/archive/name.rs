//! A job's name, which is a folder in every store.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The longest name, in bytes: with an id and a suffix, a key stays well below what the stores take.
const LONGEST: usize = 200;

/// The name of a job or of a set: safe as a folder in every store.
///
/// Parts of `a-z 0-9 . _ -`, with `/` between; no part is empty or begins with a dot, so that no name leads out of the
/// store or hides in it.
///
/// ```
/// # use sealift::archive::name::JobName;
/// let job: JobName = "team/db".parse()?;
/// assert_eq!(job.as_str(), "team/db");
/// assert!("../db".parse::<JobName>().is_err());
/// # Ok::<(), sealift::error::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobName(String);

impl JobName {
    /// What a name is made of, for hints.
    pub const CHARACTERS: &str = "a-z 0-9 . _ - and / between";

    /// The name nearest to what a source is called; none where nothing of that can stand in a name.
    pub fn from_source(name: &str) -> Option<JobName> {
        let allowed = |c| if is_allowed(c) { c } else { '-' };
        let name: String = name.to_lowercase().chars().map(allowed).collect();
        name.trim_matches(['/', '-', '.']).parse().ok()
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_allowed(c: char) -> bool {
    matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-' | '/')
}

impl FromStr for JobName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let parts = name.split('/').all(|part| !part.is_empty() && !part.starts_with('.'));
        match name.chars().all(is_allowed) && parts && name.len() <= LONGEST {
            true => Ok(JobName(name.into())),
            false => Err(Error::usage(format!("{name:?} is no job name")).hint(JobName::CHARACTERS)),
        }
    }
}

impl TryFrom<String> for JobName {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        name.parse()
    }
}

impl From<JobName> for String {
    fn from(name: JobName) -> String {
        name.0
    }
}

impl fmt::Display for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_are_kept_as_they_are() {
        for name in ["db", "team/db", "a.b_c-d", "0", "-x", "a/-b", "db..old", "a-"] {
            let job: JobName = name.parse().unwrap();
            assert_eq!((job.as_str(), job.to_string()), (name, name.to_string()));
            assert_eq!(String::from(job), name);
        }
    }

    #[test]
    fn no_name_leads_out_of_the_store_or_hides_in_it() {
        for name in ["", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", ".hidden", "a/.hidden"] {
            assert!(name.parse::<JobName>().is_err(), "{name}");
        }
    }

    #[test]
    fn other_characters_are_refused_with_the_ones_that_are_not() {
        for name in ["Db", "a b", "a\\b", "a#b", "ä", "a\n", "a:b", "a%2fb", "a*"] {
            let error = name.parse::<JobName>().unwrap_err();
            assert_eq!(error.to_string(), format!("{name:?} is no job name"));
            assert_eq!(error.hint_text(), Some("a-z 0-9 . _ - and / between"));
            assert_eq!(error.kind().exit_code(), 2);
        }
    }

    #[test]
    fn a_name_has_at_most_200_bytes() {
        assert!("a".repeat(200).parse::<JobName>().is_ok());
        assert!("a".repeat(201).parse::<JobName>().is_err());
    }

    #[test]
    fn a_sources_name_becomes_a_jobs() {
        let name = |text: &str| JobName::from_source(text).map(String::from);
        assert_eq!(name("DB_Data").as_deref(), Some("db_data"));
        assert_eq!(name("my files (old)").as_deref(), Some("my-files--old"));
        assert_eq!(name(".config").as_deref(), Some("config"));
        assert_eq!(name("naïve").as_deref(), Some("na-ve"));
        assert_eq!((name("/"), name("---"), name(""), name("a/../b")), (None, None, None, None));
    }

    #[test]
    fn in_json_a_name_is_a_text_and_is_checked() {
        let job: JobName = serde_json::from_str("\"team/db\"").unwrap();
        assert_eq!(serde_json::to_string(&job).unwrap(), "\"team/db\"");
        let wrong = serde_json::from_str::<JobName>("\"../db\"").unwrap_err();
        assert!(wrong.to_string().contains("is no job name"), "{wrong}");
    }

    #[test]
    fn a_name_is_padded_like_any_text() {
        let job: JobName = "db".parse().unwrap();
        assert_eq!(format!("{job:5}|"), "db   |");
    }
}
