//! The words of `clean`.

use std::time::Duration;

use clap::Args;

use super::{FromStore, age};
use crate::archive::name::JobName;
use crate::error::Result;
use crate::job::clean::CleanRequest;

const HELP: &str = "\
What is found: archives and catalogs without a manifest, parts of uploads that were broken off (S3), their files (NAME#N
of a file:// store), what a removal that was killed left, tombstones, leases of runs that have ended, failure records that
a later archive has outdated or that are older than 90 days, records of archives that are gone, parts of runs that were not
completed and that nothing builds on since a newer archive is whole, what `doctor` tried the store out with. Azure's
uncommitted blocks go by themselves, after 7 days. Objects whose names are not sealift's are never touched, nor is what was
written to within --older-than, nor what a run under way has a lease for. What has data is taken back under a tombstone: a
backup that would commit it meanwhile sees it and fails instead.

A backup that ended with \"commit unknown\" lies here too: `sealift adopt` commits it, --confirm deletes it.

Examples:
  sealift clean --from s3://backups/prod
  sealift clean db --from s3://backups/prod --older-than 7d --confirm";

/// `clean`
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct Clean {
    /// The jobs; otherwise all
    #[arg(value_name = "JOB")]
    jobs: Vec<JobName>,
    #[command(flatten)]
    from: FromStore,
    /// Leave alone what was written to within this time
    #[arg(long, value_name = "TIME", value_parser = age, default_value = "24h")]
    older_than: Duration,
    /// Take it back; otherwise it is only listed
    #[arg(long)]
    confirm: bool,
    /// Change nothing, whatever the settings say
    #[arg(short = 'n', long, conflicts_with = "confirm")]
    dry_run: bool,
    /// Also containers that killed backups left at the engine
    ///
    /// Those of this host, by their label `sealift`.
    #[arg(long)]
    docker: bool,
}

impl Clean {
    /// What to clean.
    ///
    /// # Errors
    /// As [`FromStore::request`].
    pub fn request(self) -> Result<CleanRequest> {
        let Clean { jobs, from, older_than, confirm, dry_run, docker } = self;
        let confirm = confirm && !dry_run;
        Ok(CleanRequest { store: from.request()?, jobs, older_than, confirm, docker })
    }
}
