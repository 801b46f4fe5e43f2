//! The words of `verify`: how thoroughly, which archives, for how long, and what is expected of them.

use std::time::Duration;

use clap::Args;

use super::{OpenOptions, duration, size};
use crate::archive::check::Check;
use crate::error::{Error, Result};
use crate::job::stored::ArchiveRef;
use crate::job::verify::{Amount, Depth, VerifyRequest, Which};
use crate::job::version::Version;

/// What is expected of the members of an archive.
#[derive(Debug, Clone, Args)]
pub struct CheckOptions {
    /// A member that must be there, by name or folder; repeatable
    ///
    /// One for each GLOB.
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

/// `5%` or a size.
fn amount(text: &str) -> Result<Amount> {
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

/// `verify`
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Verify {
    /// JOB (its newest archive), or JOB@ID
    ///
    /// An id's beginning will do, as in JOB@20261122T02; JOB@2026-11-22 is a day's last, JOB@latest the newest.
    #[arg(value_name = "ARCHIVE", conflicts_with_all = ["all", "set"])]
    archives: Vec<ArchiveRef>,
    /// The newest archive of every job
    ///
    /// With --since-last every archive of them.
    #[arg(long, conflicts_with = "set")]
    all: bool,
    /// The archives of a set's newest run, or of NAME@ID
    #[arg(long, value_name = "NAME")]
    set: Option<String>,
    #[command(flatten)]
    open: OpenOptions,
    /// Only look whether the objects are there and have their sizes; needs no passphrase, reads no archive
    #[arg(long, group = "level")]
    manifest: bool,
    /// Compare the stored bytes with the manifest's BLAKE3 only; needs no passphrase
    #[arg(long, group = "level")]
    stored: bool,
    /// Read frames taken at random: 5% or 2GiB
    ///
    /// The catalog, and frames of at least that much of the source.
    #[arg(long, group = "level", value_name = "AMOUNT", value_parser = amount)]
    sample: Option<Amount>,
    /// Read all that a restore would
    ///
    /// Of an increment its own bytes, and what it needs of older archives.
    #[arg(long, group = "level")]
    whole: bool,
    /// Every archive of the job not yet verified so, oldest first
    ///
    /// Those that have no record of such a verification, or of a better one.
    #[arg(long)]
    since_last: bool,
    /// Begin no further archive, and read no further, after that time: 2h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    max_duration: Option<Duration>,
    #[command(flatten)]
    check: CheckOptions,
    /// Write no verification record to the store
    #[arg(long)]
    no_record: bool,
}

/// Which archives are meant.
///
/// # Errors
/// None is named.
pub(super) fn which(archives: Vec<ArchiveRef>, all: bool, set: Option<String>) -> Result<Which> {
    match set {
        Some(set) => Ok(Which::Set(set)),
        None if all => Ok(Which::All),
        None if archives.is_empty() => {
            Err(Error::usage("no archive is named").hint("name JOB or JOB@ID, or say --all or --set NAME"))
        }
        None => Ok(Which::These(archives)),
    }
}

impl Verify {
    /// What to verify, and how thoroughly.
    ///
    /// # Errors
    /// Words that contradict each other.
    pub fn request(self) -> Result<VerifyRequest> {
        let depth = match (self.manifest, self.stored, self.sample) {
            (true, ..) => Depth::Manifest,
            (_, true, _) => Depth::Stored,
            (.., Some(amount)) => Depth::Sample(amount),
            _ if self.whole => Depth::All,
            _ => Depth::Whole,
        };
        let expects = !self.check.expect.is_empty() || self.check.min_entries > 0;
        if expects && matches!(depth, Depth::Manifest | Depth::Stored) {
            return Err(Error::usage(format!("--{} reads no catalog: it sees no members", depth.level()))
                .hint("leave it out, or --expect and --min-entries"));
        }
        let versions = self.archives.iter().find(|archive| archive.version != Version::Latest);
        if let Some(archive) = versions.filter(|_| self.since_last) {
            return Err(Error::usage("--since-last takes a job, not one archive")
                .hint(format!("sealift verify {} --since-last", archive.job)));
        }
        Ok(VerifyRequest {
            which: which(self.archives, self.all, self.set)?,
            depth,
            since_last: self.since_last,
            max_duration: self.max_duration,
            // A pattern that is none is no matter of an archive.
            check: self.check.check()?,
            record: !self.no_record,
            open: self.open.request()?,
        })
    }
}

const EXAMPLES: &str = "\
Levels, from the quickest to the most thorough:
  --manifest   both objects are there and as large as the manifest says; no passphrase, no bytes
  --stored     all stored bytes have the manifest's BLAKE3; no passphrase
  --sample     the catalog is whole, and frames taken at random, others every time, are confirmed and decompressed
  (none)       all of its own bytes are read, decrypted and decompressed; a tar is walked and compared with the catalog
  --whole      the same, and of an increment all that it needs of older archives; of a full there is no difference

Of an increment every level looks whether the older archives that it needs are there. Where one is lost or damaged, the
members that lie there are named; the next increment reads them again. `list` calls an increment `own` of which only its
own bytes were read, and `whole` what was read with all that it needs. What is damaged is recorded, too: `list` shows it,
and verifications before it count no more.

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
  sealift verify db host --from s3://backups/prod --passphrase-file /etc/sealift.pass
  sealift verify --all --sample 5% --from s3://backups/prod
  sealift verify --set docker-ee --from s3://backups/prod
  sealift verify db --manifest --since-last --from s3://backups/prod
  sealift verify registry --sample 5% --max-duration 2h --from s3://backups/prod
  sealift verify registry --since-last --max-duration 6h --from s3://backups/prod
  sealift verify dtr/metadata --expect 'dtr-backup-v*/rethink/layers/' --min-entries 100 --from s3://backups/prod";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Verb};
    use crate::store::record::Level;
    use clap::Parser;

    fn verify(line: &str) -> Result<VerifyRequest> {
        let line = format!("sealift verify --from memory:///x {line}");
        match Cli::try_parse_from(line.split(' ')).unwrap().verb {
            Verb::Verify(verify) => verify.request(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_depth_is_what_was_asked_for_and_otherwise_everything() {
        for (line, level) in [
            ("db", Level::Whole),
            ("db --manifest", Level::Manifest),
            ("db --stored", Level::Stored),
            ("db --sample 5%", Level::Sample),
        ] {
            assert_eq!(verify(line).unwrap().depth.level(), level, "{line}");
        }
        assert!(matches!(verify("db --sample 7").unwrap().depth, Depth::Sample(Amount::Bytes(7))));
    }

    #[test]
    fn one_depth_is_asked_for() {
        let line = "sealift verify --from memory:///x db --stored --sample 5%";
        let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
        assert_eq!(error.kind(), clap::error::ErrorKind::ArgumentConflict);
    }

    #[test]
    fn members_are_expected_only_where_the_catalog_is_read() {
        for level in ["manifest", "stored"] {
            for expects in ["--expect x", "--min-entries 1"] {
                let error = verify(&format!("db --{level} {expects}")).unwrap_err();
                assert_eq!(error.to_string(), format!("--{level} reads no catalog: it sees no members"));
            }
        }
        assert!(!verify("db --sample 5% --expect x").unwrap().check.is_empty());
        assert!(verify("db").unwrap().check.is_empty());
    }

    #[test]
    fn since_last_is_about_a_job() {
        let error = verify("db@20261122T020000Z-1f2e3d4c --since-last").unwrap_err();
        assert_eq!(error.hint_text(), Some("sealift verify db --since-last"));
        assert!(verify("db --since-last").unwrap().since_last);
    }

    #[test]
    fn archives_are_named_or_all_or_those_of_a_set() {
        let Which::These(named) = verify("db host@2026-11-22").unwrap().which else { panic!("not named") };
        assert_eq!(named.iter().map(ToString::to_string).collect::<Vec<_>>(), ["db", "host@2026-11-22"]);
        assert_eq!(verify("--all").unwrap().which, Which::All);
        assert_eq!(verify("--set ee").unwrap().which, Which::Set("ee".into()));
        assert_eq!(verify("--since-last").unwrap_err().to_string(), "no archive is named");
        for line in ["db --all", "db --set ee", "--all --set ee"] {
            let line = format!("sealift verify --from memory:///x {line}");
            assert!(Cli::try_parse_from(line.split_whitespace()).is_err(), "{line}");
        }
    }

    #[test]
    fn a_verification_is_recorded_unless_asked_not_to() {
        assert!(verify("db").unwrap().record && !verify("db --no-record").unwrap().record);
        let request = verify("db --max-duration 2h").unwrap();
        assert_eq!(request.max_duration, Some(Duration::from_secs(7200)));
    }

    #[test]
    fn amounts_are_read() {
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
