//! The words of `rekey`.

use std::str::FromStr;

use clap::Args;

use super::{FromStore, PassphraseOptions, job_name};
use crate::error::{Error, Result};
use crate::host::passphrase::{NEW_PASSPHRASE, Sources};
use crate::job::rekey::{RekeyRequest, Which};

const HELP: &str = "\
The old passphrase is given as to every verb, the new one by an option here, by SEALIFT_NEW_PASSPHRASE, _FILE or _COMMAND,
or at a prompt. Beside each archive a small object is written, which every verb looks for from then on; the data is not
touched. What the new passphrase opens already is left alone, so that a run that broke off is run again.

The old passphrase is not taken away: whoever has it, and can read the store or has a copy, still reads these archives. Only
new backups with the new passphrase, and the end of the old ones (`sealift prune`), end that. Keep the old passphrase, too,
for as long: the small objects may be lost.

Examples:
  sealift rekey db --from s3://backups/prod --passphrase-file old.pass --new-passphrase-file new.pass --dry-run
  sealift rekey db --from s3://backups/prod --passphrase-file old.pass --new-passphrase-file new.pass
  sealift rekey db@20261122T02 --from s3://backups/prod --passphrase-file old.pass --new-passphrase-file new.pass";

/// `rekey`
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct Rekey {
    /// JOB (all of its archives), or JOB@ID and what it needs
    ///
    /// An id's beginning will do, as in JOB@20261122T02; JOB@2026-11-22 is a day's last, JOB@latest the newest.
    #[arg(value_name = "JOB[@ID]")]
    which: Which,
    #[command(flatten)]
    from: FromStore,
    #[command(flatten)]
    passphrase: PassphraseOptions,
    /// File whose first line is the new passphrase
    #[arg(long, value_name = "FILE", conflicts_with = "new_passphrase_command")]
    new_passphrase_file: Option<String>,
    /// Command that prints the new passphrase
    #[arg(long, value_name = "CMD")]
    new_passphrase_command: Option<String>,
    /// Only tell what would be written
    #[arg(long, short = 'n')]
    dry_run: bool,
}

impl FromStr for Which {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text.contains('@') {
            true => text.parse().map(Which::One),
            false => job_name(text).map(Which::Job),
        }
    }
}

impl Rekey {
    /// What to open with another passphrase.
    ///
    /// # Errors
    /// As [`FromStore::request`].
    pub fn request(self) -> Result<RekeyRequest> {
        let new = Sources {
            file: self.new_passphrase_file,
            command: self.new_passphrase_command,
            twice: true,
            ..Sources::of(NEW_PASSPHRASE)
        };
        let (old, store) = (self.passphrase.sources(), self.from.request()?);
        Ok(RekeyRequest { store, which: self.which, old, new, dry_run: self.dry_run })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Verb};
    use crate::job::version::Version;

    #[test]
    fn a_job_alone_is_all_of_its_archives_and_latest_is_one() {
        let request = |line: &str| {
            let words = format!("sealift rekey --from memory:///x {line}");
            match Cli::try_parse_from(words.split_whitespace()).unwrap().verb {
                Verb::Rekey(rekey) => rekey.request().unwrap(),
                other => panic!("{other:?}"),
            }
        };
        let all = request("db --passphrase-file a --new-passphrase-file b -n");
        assert_eq!((&all.which, all.dry_run), (&Which::Job("db".into()), true));
        assert_eq!((all.old.file.as_deref(), all.new.file.as_deref()), (Some("a"), Some("b")));
        assert!(all.new.twice && all.new.secret == NEW_PASSPHRASE);
        let one = request("db@latest --new-passphrase-command c");
        assert!(matches!(one.which, Which::One(one) if one.version == Version::Latest));
        assert_eq!((one.new.command.as_deref(), one.dry_run), (Some("c"), false));
    }
}
