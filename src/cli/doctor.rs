//! The words of `doctor`.

use std::path::PathBuf;

use clap::Args;

use super::{PassphraseOptions, StoreAt, size};
use crate::archive::budget::BudgetRequest;
use crate::archive::openpgp::Cipher;
use crate::error::Result;
use crate::job::doctor::{DoctorRequest, Need};
use crate::store::{StoreOptions, StoreUrl};

/// `doctor`
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct Doctor {
    /// What this job needs; otherwise what all of them do
    #[arg(value_name = "JOB")]
    pub job_of_settings: Option<String>,
    /// Store to try out: URL, or name in the settings
    ///
    /// May be repeated. Otherwise those that the jobs go to.
    #[arg(long, env = "SEALIFT_STORE", value_name = "STORE")]
    to: Vec<StoreAt>,
    #[command(flatten)]
    passphrase: PassphraseOptions,
    /// Archives are stored in the clear
    #[arg(long, conflicts_with_all = ["passphrase_file", "passphrase_command"])]
    no_encrypt: bool,
    /// Bound on the memory that a run is to use
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "256MiB")]
    memory: u64,
    /// Archives are to be increments
    #[arg(long)]
    incremental: bool,
    /// Certificates of your own authorities, in PEM, for the store's TLS
    ///
    /// Otherwise AWS_CA_BUNDLE, and SSL_CERT_FILE in place of the system's.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

const HELP: &str = "\
A line for each check: ok, warn or fail, what was found, and what to change. Looked at are the settings file, the Docker
Engine and what it lets us do, GNU tar, memory and cores, the passphrase (some bytes are sealed and opened by gpg, where
there is one), and each store: a small object is written twice, listed, read and deleted again, an upload in parts begun
and taken back, clocks compared, and versioning, object lock and lifecycle rules asked for. The object is
sealift-doctor/ID.probe; where it could not be deleted, that is said. Nothing else is written, and nothing is backed up.

Exit code: 0 when all is well, 3 when something should be changed, 1 when something must be.

Examples:
  sealift doctor
  sealift doctor --to s3://backups/prod --passphrase-file /etc/sealift.pass
  sealift doctor images --json";

impl Doctor {
    /// What is to be looked at, as far as the line says it.
    ///
    /// # Errors
    /// Options of a store that mean nothing without another.
    pub fn request(&self) -> Result<DoctorRequest> {
        let store = |to: &StoreAt| {
            let options = to.options()?;
            let ca_file = self.ca_file.clone().or(options.ca_file);
            Ok(StoreUrl { url: to.as_str().into(), options: StoreOptions { ca_file, ..options } })
        };
        Ok(DoctorRequest {
            stores: self.to.iter().map(store).collect::<Result<_>>()?,
            encryption: (!self.no_encrypt).then(|| (Cipher::Cfb, self.passphrase.sources())),
            budget: BudgetRequest { memory: self.memory, ..BudgetRequest::default() },
            engine: Need::Perhaps,
            tar: Need::Perhaps,
            builds_on: self.incremental,
        })
    }
}
