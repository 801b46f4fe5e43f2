//! The words of `status`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{ExplicitArg, StoreAt, age, job_name, share};
use crate::error::Result;
use crate::job::status::Limits;
use crate::store::{StoreOptions, StoreUrl};

/// `status`
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct Status {
    /// These jobs only; otherwise all
    #[arg(value_name = "JOB", value_parser = job_name)]
    pub jobs: Vec<String>,
    /// Store to look at: URL, or name in the settings
    ///
    /// May be repeated. Otherwise those that the jobs of the settings file go to.
    #[arg(long, env = "SEALIFT_STORE", value_name = "STORE")]
    from: Vec<StoreAt>,
    /// Certificates of your own authorities, in PEM, for the store's TLS
    ///
    /// Otherwise AWS_CA_BUNDLE, and SSL_CERT_FILE in place of the system's.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    #[command(flatten)]
    limits: LimitOptions,
}

/// From when on a job is a problem.
#[derive(Debug, Clone, Args)]
pub struct LimitOptions {
    /// Late is a job whose newest archive is older: 26h
    #[arg(long, value_name = "TIME", value_parser = age)]
    max_age: Option<Duration>,
    /// Unverified is one not verified within this time: 30d
    ///
    /// A verification of stored bytes, at least.
    #[arg(long, value_name = "TIME", value_parser = age)]
    verified_within: Option<Duration>,
    /// Undrilled is one without a passed drill within this
    ///
    /// One whose latest drill failed is so whatever is said here.
    #[arg(long, value_name = "TIME", value_parser = age)]
    drilled_within: Option<Duration>,
    /// Shrunk is a job whose newest archive is smaller by this: 50%
    ///
    /// Smaller than the median of those before it.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    shrink: Option<f64>,
}

const HELP: &str = "\
Reads one list of each store and the newest few manifests of each job: a key that may list and read is enough, and no
passphrase is asked for. Under the table stands what is wrong:
  never       there is no archive of a job of the settings file, or of one that was named
  failed      the latest run failed; the store has its time and its cause
  damaged     an archive is damaged or has lost an object, or one that an increment needs is gone or damaged
  late        the newest archive is older than --max-age
  clock       an archive is of a time that is yet to come
  shrunk      the newest archive is smaller than --shrink allows
  unverified  the latest verification is older than --verified-within
  undrilled   the latest drill failed, or is older than --drilled-within
LAST is when the newest whole archive was complete, in UTC; SIZE what is restored from it, TREND that against the median
of the seven before it; NEXT when the next is due by the usual interval, with a - when that is past. A job of the settings
file may have max_age, verified_within, drilled_within and shrink of its own; options given here win.

Exit code: 0 when nothing is wrong, 1 when something is. An `error:` says that it could not be found out.

Examples:
  sealift status
  sealift status --max-age 26h --verified-within 30d --shrink 50% --from s3://backups/prod
  sealift status db host --json";

impl LimitOptions {
    /// The same, as the work takes it.
    pub fn limits(&self) -> Limits {
        Limits {
            max_age: self.max_age,
            verified_within: self.verified_within,
            drilled_within: self.drilled_within,
            shrink: self.shrink,
        }
    }
}

impl Status {
    /// The stores that were named.
    ///
    /// # Errors
    /// Options of a store that mean nothing without another.
    pub fn stores(&self) -> Result<Vec<StoreUrl>> {
        let store = |from: &StoreAt| {
            let options = from.options()?;
            let ca_file = self.ca_file.clone().or(options.ca_file);
            Ok(StoreUrl { url: from.as_str().into(), options: StoreOptions { ca_file, ..options } })
        };
        self.from.iter().map(store).collect()
    }

    /// What holds for every job that has no limits of its own, and what wins over those: what stands on the line.
    pub fn limits(&self, explicit: &[ExplicitArg]) -> (Limits, Limits) {
        let all = self.limits.limits();
        let given = |id: &str| explicit.iter().any(|arg| arg.id == id);
        let line = Limits {
            max_age: all.max_age.filter(|_| given("max_age")),
            verified_within: all.verified_within.filter(|_| given("verified_within")),
            drilled_within: all.drilled_within.filter(|_| given("drilled_within")),
            shrink: all.shrink.filter(|_| given("shrink")),
        };
        (all, line)
    }
}
