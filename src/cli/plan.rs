//! The words of `plan`.

use clap::Args;

use super::{BackupOptions, DtrOptions, SetOptions, SwarmOptions, UcpOptions, job_name, presets};

/// `plan`
#[derive(Debug, Args)]
#[command(
    mut_arg("to", |to| to.required(false)),
    mut_arg("job", |job| job.hide(true)),
    mut_arg("dry_run", |dry_run| dry_run.hide(true)),
    after_help = HELP
)]
pub struct PlanOptions {
    #[command(flatten)]
    pub options: Box<BackupOptions>,
    #[command(flatten)]
    pub swarm: SwarmOptions,
    #[command(flatten)]
    pub ucp: Box<UcpOptions>,
    #[command(flatten)]
    pub dtr: Box<DtrOptions>,
    /// The set
    #[arg(value_name = "SET", value_parser = job_name, default_value = "docker-ee")]
    pub set_name: String,
}

impl From<PlanOptions> for SetOptions {
    fn from(PlanOptions { options, swarm, ucp, dtr, set_name }: PlanOptions) -> Self {
        SetOptions {
            name: set_name,
            options: *options,
            presets: presets(swarm, *ucp, *dtr),
            keep_going: false,
        }
    }
}

const HELP: &str = "\
Looks at this node and prints what `sealift backup set SET`, given the same options, would back up and what it would
not, how large it is about, and the largest archive that the stores and --memory allow; for Docker EE also the order of
an upgrade, with the backup that belongs before each step. Nothing is backed up, and no password is asked for.

Examples:
  sealift plan --to s3://backups/prod
  sealift plan nightly --json";
