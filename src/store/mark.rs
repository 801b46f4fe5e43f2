//! Small objects beside an archive whose name says all that a list needs: `ID.WORD-TIME-RANDOM.json`. Each is written once,
//! and two that say the same do not meet.

use super::Store;
use super::create::CreateError;
use crate::archive::Id;
use crate::error::{Error, Result};

const SUFFIX: &str = ".json";

/// What the name has behind the archive's id, of a mark that was made `at` that time.
pub(super) fn suffix(word: &str, at: &Id) -> String {
    format!(".{word}-{at}{SUFFIX}")
}

/// The archive that a mark of this name is beside, and when it was made.
pub(super) fn parse(name: &str, word: &str) -> Option<(Id, Id)> {
    let (id, rest) = name.strip_suffix(SUFFIX)?.split_once('.')?;
    let at: Id = rest.strip_prefix(word)?.strip_prefix('-')?.parse().ok()?;
    at.time()?;
    Some((id.parse().ok()?, at))
}

impl Store {
    /// Writes a mark.
    ///
    /// # Errors
    /// It was not written.
    pub(super) async fn put_mark(
        &self,
        key: &object_store::path::Path,
        text: String,
        what: &str,
    ) -> Result<()> {
        self.put_once(key, text).await.map_err(|error| match error {
            CreateError::Refused(error) | CreateError::Unknown(error) => {
                self.explain(&format!("writing a {what}"), error)
            }
            CreateError::Another | CreateError::Lost => {
                Error::failed(format!("{} did not keep the {what} {key}", self.name))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "20261122T020000Z-1f2e3d4c";

    #[test]
    fn a_name_reads_back_and_nothing_else_does() {
        let at: Id = "20261123T040506Z-00112233".parse().unwrap();
        let name = format!("{ID}{}", suffix("pin", &at));
        assert_eq!(name, format!("{ID}.pin-20261123T040506Z-00112233.json"));
        assert_eq!(parse(&name, "pin"), Some((ID.parse().unwrap(), at)));
        for other in [
            format!("x{name}"),
            name.replace("pin-", "pins-"),
            name.replace("pin-", "pin"),
            name.replace(".json", ""),
            name.replace("20261123", "20269923"),
            format!("{ID}.manifest.json"),
        ] {
            assert_eq!(parse(&other, "pin"), None, "{other}");
        }
    }
}
