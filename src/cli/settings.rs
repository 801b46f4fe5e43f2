//! The words of `config`.

use clap::Subcommand;

/// What to do with the settings file.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum Settings {
    /// Check every store, job and set of the settings file; nothing is contacted
    #[command(
        after_help = "Prints a line for each problem and ends with 2, or says that the file is fine.\n\nExample:\n  sealift config check --config /etc/sealift/sealift.toml"
    )]
    Check,
    /// Write a settings file to begin with, with the jobs that this host asks for
    #[command(
        after_help = "Looks for databases in containers, volumes and Docker EE, and writes the policy of docs/POLICY.md with a job for each;\njobs of 10 GiB and more have increments. `sealift config check` takes the file as it is; the store's URL and the\npassphrase are yours to say. A file that is there is never replaced.\n\nExamples:\n  sealift config init\n  sealift config init - | less"
    )]
    Init {
        /// The file to make; - prints it; otherwise that of --config, or sealift.toml
        #[arg(value_name = "FILE")]
        file: Option<std::path::PathBuf>,
    },
    /// Print the settings in force, and where each stands; secrets are left out
    #[command(after_help = "Example:\n  sealift config show --json")]
    Show,
    /// Send a test message to everybody who is told of runs
    #[command(
        after_help = "Monitors note it (URL/log) and stay as they are; one of style = \"plain\" takes it for a success. Whoever cannot be\ntold is named, with the reason, and the exit code is 1.\n\nExamples:\n  sealift config tell\n  sealift config tell mail.ops"
    )]
    Tell {
        /// Whom, such as mail.ops; otherwise all
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
}

const EXAMPLES: &str = "\
A key is an option without its dashes, `-` as `_`; its values are what the option takes. At the top it is a default of
every verb that has the option, in a job of that job. Options win over the environment, that wins over the file, a job
wins over the top of the file. The file holds no secrets: passphrase_file and passphrase_command say where one is.
Folders and files are named as on the command line, from where sealift runs.

Example of a sealift.toml:
  passphrase_file = \"/etc/sealift.pass\"
  to = [\"offsite\"]
  from = \"offsite\"

  [stores.offsite]                 # --to offsite, --from offsite
  url = \"s3://backups/prod\"
  storage_class = \"STANDARD_IA\"    # also sse, sse_kms_key_id, checksum, lock, retry_for

  [jobs.images]                    # sealift backup job images
  source = \"volume\"              # a command of `sealift backup`, and its words by their names
  volumes = [\"dtr-registry-0123456789ab\"]
  level = 9

  [jobs.db]
  source = \"exec\"
  container = \"db\"
  command = [\"pg_dumpall\", \"-U\", \"postgres\"]
  keep = { daily = 7, weekly = 5 } # what `sealift prune` keeps; also in a set, a store, or at the top
  schedule = \"0 2 * * *\"          # for `sealift serve`; also jitter, time_limit, time_zone, and hooks
  max_age = \"26h\"                 # for `sealift status`; also verified_within, shrink

  [sets.nightly]
  jobs = [\"images\", \"db\"]

  [schedules.weekly]               # anything else that `sealift serve` does
  schedule = \"0 12 * * SUN\"
  run = \"verify --all --since-last\"

  [ping.watch]                     # who is told of runs; also [webhook.NAME], [mail.NAME], and metrics_file at the top
  url_file = \"/etc/sealift/ping.url\"

Examples:
  sealift config check
  sealift config show
  sealift config tell";
