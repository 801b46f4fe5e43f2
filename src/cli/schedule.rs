//! The words of `run` and `serve`, and what the settings say of when something is done.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use jiff::tz::TimeZone;

use super::age;
use crate::error::{Error, Result};
use crate::job::schedule::Expression;
use crate::page::Listen;

const RUN_HELP: &str = "\
Does what [jobs.NAME], [sets.NAME] or [schedules.NAME] of the settings file says, as `serve` does it when it is due: with
its hooks, within its time_limit, and with what else the file says of who is told. So it is the line for cron, a systemd
timer or a CronJob. A run over its time is stopped as by Ctrl-C: nothing of it is left in a store.

The hooks before, after, success, warning and failure are commands of this host that read the run as JSON on their
standard input. When `before` fails, nothing is run. `after` is run whatever happened, then one of the other three.

Examples:
  sealift run nightly
  sealift run db --json";

/// `run`
#[derive(Debug, Args)]
#[command(after_help = RUN_HELP)]
pub struct RunOptions {
    /// The job, set or schedule of the settings file
    #[arg(value_name = "NAME")]
    pub run_name: String,
}

const SERVE_HELP: &str = "\
Runs every job, set and schedule of the settings file that has a `schedule`, each as a process of its own (`sealift run`).
A job or set that was due while nothing ran here is caught up once, at the start. One that is due while its last run goes
on is left out, and that is said. The settings are read again when the file has changed, and on SIGHUP; when something is
wrong in them, the old ones hold, and that is said until it is right.

On SIGTERM and Ctrl-C nothing begins any more, and what runs may end within --grace; then it is stopped and takes back what
it has begun. A second signal stops it at once. systemd is told how it goes (Type=notify, WatchdogSec).

Example of the settings:
  time_zone = \"Europe/Berlin\"
  [jobs.db]
  source = \"exec\"
  container = \"db\"
  command = [\"pg_dumpall\", \"-U\", \"postgres\"]
  schedule = \"30 2 * * *\"
  [schedules.prune]
  schedule = \"0 6 * * SUN\"
  run = \"prune --confirm\"

Examples:
  sealift serve --config /etc/sealift/sealift.toml
  sealift serve --listen 127.0.0.1:8470";

/// `serve`
#[derive(Debug, Args)]
#[command(after_help = SERVE_HELP)]
pub struct Serve {
    /// Time for runs to end by themselves on SIGTERM
    ///
    /// Then they are stopped, and abort what they have begun.
    #[arg(long, value_name = "TIME", value_parser = age, default_value = "5m")]
    pub grace: Duration,
    /// Runs that may go on at once
    ///
    /// Of what is due beyond that, one waits for the other. Of one job there is never more than one.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=64), default_value = "1")]
    pub parallel_runs: u16,
    /// Show a page of the runs, and /metrics, at ADDRESS
    ///
    /// 127.0.0.1:8470, or unix:/run/sealift.sock for its owner and group. Where others can reach it, --token-file is needed.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<Listen>,
    /// Token that whoever looks at the page must show
    ///
    /// The first line of the file: `Authorization: Bearer TOKEN`, or the password that a browser asks for.
    #[arg(long, value_name = "FILE", requires = "listen")]
    pub token_file: Option<PathBuf>,
}

/// What a table of the settings says of when it is done, and how long that may take.
#[derive(Debug, Clone, Default, Args)]
pub struct ScheduleFlags {
    #[arg(long, value_name = "CRON", value_parser = Expression::new)]
    pub schedule: Option<Expression>,
    #[arg(long, value_name = "ZONE", value_parser = zone)]
    pub time_zone: Option<TimeZone>,
    #[arg(long, value_name = "TIME", value_parser = age)]
    pub jitter: Option<Duration>,
    #[arg(long, value_name = "TIME", value_parser = age)]
    pub time_limit: Option<Duration>,
    #[arg(long, value_name = "TIME", value_parser = age)]
    pub hook_time_limit: Option<Duration>,
}

impl ScheduleFlags {
    /// These, and where one is missing, the `other`'s. When something is due each table says for itself.
    pub fn or(self, other: ScheduleFlags) -> ScheduleFlags {
        ScheduleFlags {
            schedule: self.schedule,
            time_zone: self.time_zone.or(other.time_zone),
            jitter: self.jitter.or(other.jitter),
            time_limit: self.time_limit.or(other.time_limit),
            hook_time_limit: self.hook_time_limit.or(other.hook_time_limit),
        }
    }
}

fn zone(name: &str) -> Result<TimeZone> {
    TimeZone::get(name)
        .map_err(|_| Error::usage(format!("there is no time zone {name:?}")).hint("write Europe/Berlin"))
}
