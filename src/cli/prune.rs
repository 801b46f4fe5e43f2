//! The words of `prune`, `pin`, `unpin` and `delete`: what is kept, and where.

use clap::Args;
use jiff::tz::TimeZone;

use super::{FromStore, job_name};
use crate::error::{Error, Result};
use crate::job::prune::delete::DeleteRequest;
use crate::job::prune::pins::PinRequest;
use crate::job::prune::{PruneRequest, Rules};
use crate::job::retention::policy::{Count, Policy, Span};
use crate::job::stored::ArchiveRef;
use crate::store::StoreUrl;
use crate::store::tombstone::STALE;

/// What is kept.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "What is kept")]
pub struct KeepOptions {
    /// The N newest archives
    ///
    /// Or `unlimited`, as in the other rules.
    #[arg(long, value_name = "N")]
    keep_last: Option<Count>,
    /// The newest of each of the last N hours that have one
    #[arg(long, value_name = "N")]
    keep_hourly: Option<Count>,
    /// The newest of each of the last N days that have one
    #[arg(long, value_name = "N")]
    keep_daily: Option<Count>,
    /// The newest of each of the last N weeks that have one
    ///
    /// Weeks are from Monday to Sunday.
    #[arg(long, value_name = "N")]
    keep_weekly: Option<Count>,
    /// The newest of each of the last N months that have one
    #[arg(long, value_name = "N")]
    keep_monthly: Option<Count>,
    /// The newest of each of the last N years that have one
    #[arg(long, value_name = "N")]
    keep_yearly: Option<Count>,
    /// All that are no older than this before the newest one: 2y5m7d3h
    #[arg(long, value_name = "TIME")]
    keep_within: Option<Span>,
    /// Of every hour within that time before the newest archive, the newest
    #[arg(long, value_name = "TIME")]
    keep_within_hourly: Option<Span>,
    /// Of every day within that time
    #[arg(long, value_name = "TIME")]
    keep_within_daily: Option<Span>,
    /// Of every week within that time
    #[arg(long, value_name = "TIME")]
    keep_within_weekly: Option<Span>,
    /// Of every month within that time
    #[arg(long, value_name = "TIME")]
    keep_within_monthly: Option<Span>,
    /// Of every year within that time
    #[arg(long, value_name = "TIME")]
    keep_within_yearly: Option<Span>,
    /// Whatever the rules say, the N newest archives that are not known to be damaged [default: 1]
    #[arg(long, value_name = "N")]
    min_keep: Option<u32>,
    /// Whose hours, days and weeks these are, as in Europe/Berlin [default: UTC]
    #[arg(long, value_name = "ZONE", value_parser = zone)]
    timezone: Option<TimeZone>,
}

fn zone(name: &str) -> Result<TimeZone> {
    TimeZone::get(name).map_err(|e| {
        Error::usage(format!("there is no time zone {name:?}")).because(e).hint("write UTC or Europe/Berlin")
    })
}

impl KeepOptions {
    /// The rules, with those of the settings where none is given here.
    fn rules(self, mut settings: Rules) -> Rules {
        let given = Policy {
            counts: [
                self.keep_last,
                self.keep_hourly,
                self.keep_daily,
                self.keep_weekly,
                self.keep_monthly,
                self.keep_yearly,
            ]
            .map(Option::unwrap_or_default),
            within: [
                self.keep_within,
                self.keep_within_hourly,
                self.keep_within_daily,
                self.keep_within_weekly,
                self.keep_within_monthly,
                self.keep_within_yearly,
            ]
            .map(Option::unwrap_or_default),
            ..Policy::default()
        };
        settings.given = (!given.is_empty()).then_some(given);
        let all = settings.given.iter_mut().chain(settings.jobs.values_mut()).chain(&mut settings.usual);
        for policy in all {
            policy.min_keep = self.min_keep.unwrap_or(policy.min_keep);
            policy.zone = self.timezone.clone().unwrap_or_else(|| policy.zone.clone());
        }
        settings
    }
}

/// The store as it is to be deleted from.
fn with_versions(mut store: StoreUrl, all_versions: bool) -> StoreUrl {
    store.options.all_versions = all_versions;
    store
}

/// `prune`
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Prune {
    /// Jobs to prune; otherwise all that have rules
    ///
    /// Those that make sets with them are looked at, too.
    #[arg(value_name = "JOB", value_parser = job_name)]
    jobs: Vec<String>,
    #[command(flatten)]
    from: FromStore,
    #[command(flatten)]
    keep: KeepOptions,
    /// Delete; otherwise only tell what would be deleted
    #[arg(long)]
    confirm: bool,
    /// Delete nothing, whatever the settings say
    #[arg(short = 'n', long, conflicts_with = "confirm")]
    dry_run: bool,
    /// Read what is kept before anything is deleted
    ///
    /// All stored bytes of the newest archive of the job that is kept, and of what it needs.
    #[arg(long)]
    verify_before: bool,
    /// In an S3 bucket that keeps older versions: remove these, too, where the key may (s3:DeleteObjectVersion)
    #[arg(long)]
    versions: bool,
}

impl Prune {
    /// Where archives are to be deleted.
    ///
    /// # Errors
    /// No store is named.
    pub fn store_url(&self) -> Result<String> {
        Ok(self.from.request()?.url)
    }

    /// What to prune. `settings` has the rules of the settings file for that store.
    ///
    /// # Errors
    /// As [`FromStore::request`].
    pub fn request(self, settings: Rules) -> Result<PruneRequest> {
        Ok(PruneRequest {
            store: with_versions(self.from.request()?, self.versions),
            jobs: self.jobs,
            rules: self.keep.rules(settings),
            confirm: self.confirm && !self.dry_run,
            verify_before: self.verify_before,
            stale: STALE,
        })
    }
}

const EXAMPLES: &str = "\
The rules are restic's. An archive that any of them keeps is kept; they count archives and not days, so that nights that
fail cost nothing. The times are those at which the backups began. Without rules here, those of the settings file hold:
`keep = { daily = 7, weekly = 5, monthly = 12, min = 3 }` below [jobs.NAME] or [sets.NAME], at the top for all jobs, below
[stores.NAME] for all jobs at that store; `at.NAME = { … }` within a job's or set's `keep` for that job at that store.

Whatever the rules say, these stay: the newest archive of a job that is not known to be damaged, and the newest complete
run of a set; what is pinned; what a kept increment needs, and what that needs; all of a run of a set of which one archive
is kept; what is newer than the clock; what an object lock holds, until its end. What `verify` found damaged is never
counted.

Examples:
  sealift prune --from s3://backups/prod
  sealift prune db --keep-daily 7 --keep-weekly 5 --keep-monthly 12 --keep-yearly 10 --from s3://backups/prod
  sealift prune db --keep-within 30d --keep-last 10 --from s3://backups/prod --verify-before --confirm";

/// `pin`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  sealift pin db@20261122T020000Z-1f2e3d4c --note 'before the migration' --from s3://backups/prod"
)]
pub struct Pin {
    /// JOB (its newest archive), or JOB@ID
    ///
    /// An id's beginning will do, as in JOB@20261122T02; JOB@2026-11-22 is a day's last, JOB@latest the newest.
    #[arg(value_name = "ARCHIVE")]
    archive: ArchiveRef,
    #[command(flatten)]
    from: FromStore,
    /// Why, for those who come after you
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

impl Pin {
    /// What to pin.
    ///
    /// # Errors
    /// As [`FromStore::request`].
    pub fn request(self) -> Result<PinRequest> {
        Ok(PinRequest { store: self.from.request()?, archive: self.archive, note: self.note })
    }
}

/// `unpin`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sealift unpin db@20261122T020000Z-1f2e3d4c --from s3://backups/prod")]
pub struct Unpin {
    /// JOB@ID
    ///
    /// An id's beginning will do, as in JOB@20261122T02; JOB@2026-11-22 is a day's last.
    #[arg(value_name = "ARCHIVE")]
    archive: ArchiveRef,
    #[command(flatten)]
    from: FromStore,
}

impl Unpin {
    /// What to take the pins away from.
    ///
    /// # Errors
    /// As [`FromStore::request`].
    pub fn request(self) -> Result<PinRequest> {
        Ok(PinRequest { store: self.from.request()?, archive: self.archive, note: None })
    }
}

/// `delete`
#[derive(Debug, Args)]
#[command(
    after_help = "Refused for the newest archive of a job that is not known to be damaged, for the newest complete run of a set, and for\nwhat is pinned or needed by other archives.\n\nExample:\n  sealift delete db@20261122T020000Z-1f2e3d4c --from s3://backups/prod --confirm"
)]
pub struct Delete {
    /// JOB@ID
    ///
    /// An id's beginning will do, as in JOB@20261122T02; JOB@2026-11-22 is a day's last.
    #[arg(value_name = "ARCHIVE")]
    archive: ArchiveRef,
    #[command(flatten)]
    from: FromStore,
    /// Delete; otherwise only tell what would be deleted
    #[arg(long)]
    confirm: bool,
    /// Delete nothing, whatever the settings say
    #[arg(short = 'n', long, conflicts_with = "confirm")]
    dry_run: bool,
    /// In an S3 bucket that keeps older versions: remove these, too, where the key may (s3:DeleteObjectVersion)
    #[arg(long)]
    versions: bool,
}

impl Delete {
    /// What to delete.
    ///
    /// # Errors
    /// As [`FromStore::request`].
    pub fn request(self) -> Result<DeleteRequest> {
        let (store, archive) = (with_versions(self.from.request()?, self.versions), self.archive);
        let confirm = self.confirm && !self.dry_run;
        Ok(DeleteRequest { store, archive, confirm, stale: STALE })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Verb};

    fn prune(line: &str) -> Prune {
        let words = format!("sealift prune --from memory:///x {line}");
        match Cli::try_parse_from(words.split_whitespace()).unwrap().verb {
            Verb::Prune(prune) => *prune,
            other => panic!("{other:?}"),
        }
    }

    fn settings() -> Rules {
        let usual = Policy { counts: [Count::Of(9); 6], min_keep: 2, ..Policy::default() };
        Rules { usual: Some(usual.clone()), jobs: [("db".to_string(), usual)].into(), given: None }
    }

    #[test]
    fn rules_of_the_command_line_take_the_place_of_all_others() {
        let request = prune("db --keep-daily 7 --keep-yearly unlimited --keep-within 2y5m7d3h");
        let request = request.request(settings()).unwrap();
        let given = request.rules.given.unwrap();
        assert_eq!((given.counts[2], given.counts[5]), (Count::Of(7), Count::Unlimited));
        assert_eq!((given.within[0].to_string(), given.min_keep), ("2y5m7d3h".into(), 1));
        assert!(!request.confirm && request.jobs == ["db"]);
    }

    #[test]
    fn without_rules_those_of_the_settings_hold_in_the_zone_that_was_given() {
        let request = prune("--min-keep 5 --timezone Europe/Berlin --confirm").request(settings()).unwrap();
        assert!(request.rules.given.is_none() && request.confirm);
        for policy in request.rules.jobs.values().chain(&request.rules.usual) {
            assert_eq!((policy.min_keep, policy.zone.iana_name()), (5, Some("Europe/Berlin")));
        }
        assert_eq!(prune("").request(settings()).unwrap().rules.usual.unwrap().min_keep, 2);
        assert!(!prune("-n").request(settings()).unwrap().confirm);
        let both = "sealift prune --from memory:///x -n --confirm".split(' ');
        assert!(Cli::try_parse_from(both).is_err());
    }

    #[test]
    fn what_is_no_rule_is_a_usage_error() {
        for line in ["--keep-daily -2", "--keep-daily many", "--keep-within 7w", "--timezone Nowhere/Here"] {
            let words = format!("sealift prune --from memory:///x {line}");
            assert!(Cli::try_parse_from(words.split(' ')).is_err(), "{line}");
        }
    }
}
