//! The words of `verify`: how thoroughly, which archives, for how long, and what is expected of them.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use super::{ArchiveOptions, duration, size};
use crate::archive::check::Check;
use crate::error::{Error, Result};
use crate::store::record::Level;

/// What is expected of the members of an archive.
#[derive(Debug, Clone, Args)]
pub struct CheckOptions {
    /// A member that must be there, by its name or a folder it is in; may be repeated: one for each GLOB
    #[arg(long, value_name = "GLOB")]
    expect: Vec<String>,
    /// The fewest members that there must be
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true)]
    min_entries: u64,
}

impl CheckOptions {
    /// The expectations, none of them met yet.
    ///
    /// # Errors
    /// A pattern is none.
    pub fn check(&self) -> Result<Check> {
        Check::new(&self.expect, self.min_entries)
    }
}

/// How much of an archive a sample takes, at least.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// A share, above 0 to 1.
    Share(f64),
    /// Bytes of source.
    Bytes(u64),
}

impl Amount {
    /// In bytes, of an archive of `bytes`.
    pub fn of(self, bytes: u64) -> u64 {
        match self {
            Amount::Share(share) => ((bytes as f64 * share).ceil() as u64).min(bytes),
            Amount::Bytes(amount) => amount.min(bytes),
        }
    }
}

impl FromStr for Amount {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let wrong =
            || Error::usage(format!("{text:?} is no amount of an archive")).hint("write 5% or a size: 2GiB");
        let amount = match text.strip_suffix('%') {
            Some(percent) => Amount::Share(percent.trim().parse::<f64>().map_err(|_| wrong())? / 100.0),
            None => Amount::Bytes(size(text).map_err(|_| wrong())?),
        };
        match amount {
            Amount::Share(share) if share > 0.0 && share <= 1.0 => Ok(amount),
            Amount::Bytes(1..) => Ok(amount),
            _ => Err(wrong()),
        }
    }
}

/// `verify`
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Verify {
    #[command(flatten)]
    pub archive: ArchiveOptions,
    /// Only look whether the objects are there and have their sizes; needs no passphrase, reads no archive
    #[arg(long, group = "level")]
    manifest: bool,
    /// Compare the stored bytes with the manifest's BLAKE3 only; needs no passphrase
    #[arg(long, group = "level")]
    stored: bool,
    /// Read the catalog, and frames taken at random, of at least that much of the source: 5% or 2GiB
    #[arg(long, group = "level", value_name = "AMOUNT")]
    pub sample: Option<Amount>,
    /// Every archive of the job that has no record of such a verification, or of a better one, yet; oldest first
    #[arg(long)]
    pub since_last: bool,
    /// Begin no further archive, and read no further, after that time: 2h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub max_duration: Option<Duration>,
    #[command(flatten)]
    pub check: CheckOptions,
    /// Write no verification record to the store
    #[arg(long)]
    pub no_record: bool,
}

impl Verify {
    /// How thoroughly to look.
    ///
    /// # Errors
    /// Words that contradict each other.
    pub fn level(&self) -> Result<Level> {
        let level = match (self.manifest, self.stored, self.sample) {
            (true, ..) => Level::Manifest,
            (_, true, _) => Level::Stored,
            (.., Some(_)) => Level::Sample,
            _ => Level::Whole,
        };
        let expects = !self.check.expect.is_empty() || self.check.min_entries > 0;
        if expects && matches!(level, Level::Manifest | Level::Stored) {
            return Err(Error::usage(format!("--{level} reads no catalog: it sees no members"))
                .hint("leave it out, or --expect and --min-entries"));
        }
        if self.since_last && self.archive.archive.id.is_some() {
            return Err(Error::usage("--since-last takes a job, not one archive")
                .hint(format!("sealift verify {} --since-last", self.archive.archive.job)));
        }
        Ok(level)
    }
}

const EXAMPLES: &str = "\
Levels, from the quickest to the most thorough:
  --manifest   both objects are there and as large as the manifest says; no passphrase, no bytes
  --stored     all stored bytes have the manifest's BLAKE3; no passphrase
  --sample     the catalog is whole, and frames taken at random, others every time, are confirmed and decompressed
  (none)       everything is read, decrypted and decompressed; a tar is walked and compared with the catalog

What was found in order is recorded beside the archive, in a small object of its own that is never changed; `list`
shows it. A record is not authenticated: whoever can write to the store can write one. It steers nothing but `list`
and what --since-last leaves out, whatever was expected at that time. Without the right to write, verify says so and
is content; --no-record does not try.

When --max-duration is over, --sample records the share that it has reached. With --since-last an archive that was
not read to its end is not verified, is named in a note, and is the first next time; where time did not suffice for even
one archive, the exit code is 3, as it is where one archive that was to be read whole was not.

--expect and --min-entries look at the names in the catalog. An archive that is sound but not what was expected is
exit code 1, and is not recorded.

Examples:
  sealift verify db --from s3://backups/prod --passphrase-file /etc/sealift.pass
  sealift verify db@20261122T020000Z-1f2e3d4c --stored --from s3://backups/prod
  sealift verify db --manifest --since-last --from s3://backups/prod
  sealift verify registry --sample 5% --max-duration 2h --from s3://backups/prod
  sealift verify registry --since-last --max-duration 6h --from s3://backups/prod
  sealift verify dtr/metadata --expect 'dtr-backup-v*/rethink/layers/' --min-entries 100 --from s3://backups/prod";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read() {
        let amount = |text: &str| text.parse::<Amount>();
        assert_eq!(amount("5%").unwrap().of(1000), 50);
        assert_eq!(amount("0.1 %").unwrap().of(1001), 2);
        assert_eq!(amount("100%").unwrap().of(u64::MAX), u64::MAX);
        assert_eq!(amount("2GiB").unwrap().of(5 << 30), 2 << 30);
        assert_eq!(amount("2GiB").unwrap().of(7), 7);
        for bad in ["", "%", "0%", "101%", "-5%", "NaN%", "inf%", "0", "5 percent"] {
            assert_eq!(amount(bad).unwrap_err().kind().exit_code(), 2, "{bad}");
        }
    }
}
