//! The words of the verbs that read: which archive, from where, and what to do with it.

use clap::Args;

use super::{PassphraseOptions, docker_run, job_name};
use crate::archive::Id;
use crate::docker::run::RunSpec;
use crate::error::{Error, Result};

/// Which archive, and where it is.
#[derive(Debug, Args)]
pub struct ArchiveOptions {
    /// JOB (its newest archive) or JOB@ID
    #[arg(value_name = "ARCHIVE")]
    pub archive: ArchiveRef,
    #[command(flatten)]
    pub from: FromStore,
    #[command(flatten)]
    pub passphrase: PassphraseOptions,
    /// Accept an archive that was stored in the clear: whoever can write to the store can have made it
    #[arg(long, conflicts_with_all = ["passphrase_file", "passphrase_command"])]
    pub no_encrypt: bool,
}

/// Where to read.
#[derive(Debug, Args)]
pub struct FromStore {
    /// Store to read from
    #[arg(long, env = "SEALIFT_STORE", value_name = "STORE")]
    pub from: String,
}

/// `restore`
#[derive(Debug, Args)]
#[command(after_help = RESTORE_EXAMPLES)]
#[command(group = clap::ArgGroup::new("sink").required(true))]
pub struct Restore {
    #[command(flatten)]
    pub archive: ArchiveOptions,
    /// Write the source's bytes to stdout
    #[arg(long, group = "sink")]
    pub to_stdout: bool,
    /// Unpack a tar into a folder of this host
    #[arg(long, group = "sink", value_name = "DIR")]
    pub to_path: Option<std::path::PathBuf>,
    /// Unpack an archive of a volume into a volume, which is made when it is not there
    #[arg(long, group = "sink", value_name = "VOLUME")]
    pub to_volume: Option<String>,
    /// Run a new container with the bytes on its stdin: [docker run options] IMAGE [ARG…] must come last
    #[arg(long, group = "sink")]
    pub to_run: bool,
    /// Run a command in a running container with the bytes on its stdin: CONTAINER CMD [ARG…] must come last
    #[arg(long, group = "sink")]
    pub to_exec: bool,
    /// Load an archive of images into the engine
    #[arg(long, group = "sink")]
    pub to_image: bool,
    /// Members to restore, and what is below them; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<String>,
    /// Members to leave out; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// Unpack although the folder or volume is not empty
    #[arg(long)]
    pub overwrite: bool,
    /// Unpack device nodes too
    #[arg(long)]
    pub allow_devices: bool,
    /// What --to-run and --to-exec take
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WORDS")]
    words: Vec<String>,
}

const RESTORE_EXAMPLES: &str = "\
Nothing is handed on that the sealed catalog does not confirm. Names that lead outside of the target and device nodes
are refused before anything is unpacked.

Examples:
  sealift restore db --to-stdout --from s3://backups/prod | psql -U postgres
  sealift restore registry --to-volume dtr-registry-0123456789ab --from s3://backups/prod
  sealift restore host --to-path /mnt/new --include 'etc/*' --from s3://backups/prod
  sealift restore dtr/metadata --from s3://backups/prod --to-run --env-file ucp.env docker/dtr:2.7.5 restore

Check the exit code: where bytes were written before a failure, they are right but not all. With --to-run and --to-exec
it is the process's own, when the process had all bytes.";

/// Where `restore` puts the bytes.
#[derive(Debug)]
pub enum To {
    Stdout,
    Path(std::path::PathBuf),
    Volume(String),
    Run(Box<RunSpec>),
    Exec(String, Vec<String>),
    Image,
}

impl Restore {
    /// Where the bytes go.
    ///
    /// # Errors
    /// Words that are missing, or that nobody asked for.
    pub fn to(&self) -> Result<To> {
        let words = &self.words;
        if self.to_run {
            return Ok(To::Run(Box::new(docker_run::parse(words)?)));
        }
        if self.to_exec {
            return match words.split_first() {
                Some((container, command)) if !command.is_empty() => {
                    Ok(To::Exec(container.clone(), command.to_vec()))
                }
                _ => Err(Error::usage("--to-exec needs a container and a command")
                    .hint("--to-exec db psql -U postgres")),
            };
        }
        if let Some(word) = words.first() {
            return Err(Error::usage(format!("unexpected {word:?}")).hint("see `sealift restore --help`"));
        }
        Ok(match (&self.to_path, &self.to_volume) {
            (Some(dir), _) => To::Path(dir.clone()),
            (_, Some(volume)) => To::Volume(volume.clone()),
            _ if self.to_image => To::Image,
            _ => To::Stdout,
        })
    }
}

/// `ls`
#[derive(Debug, Args)]
#[command(
    after_help = "Reads the catalog alone.\n\nExamples:\n  sealift ls host --from s3://backups/prod\n  sealift ls host 'etc/*.conf' --long --from s3://backups/prod"
)]
pub struct Ls {
    #[command(flatten)]
    pub archive: ArchiveOptions,
    /// Members to list, and what is below them
    #[arg(value_name = "GLOB")]
    pub patterns: Vec<String>,
    /// Type, mode, owner, size and time too
    #[arg(long)]
    pub long: bool,
}

/// `cat`
#[derive(Debug, Args)]
#[command(
    after_help = "Fetches only the frames that hold the file.\n\nExample:\n  sealift cat host etc/fstab --from s3://backups/prod"
)]
pub struct Cat {
    #[command(flatten)]
    pub archive: ArchiveOptions,
    /// The member's name, as `ls` shows it
    #[arg(value_name = "PATH")]
    pub path: String,
}

/// `show`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sealift show db --from s3://backups/prod")]
pub struct Show {
    #[command(flatten)]
    pub archive: ArchiveOptions,
}

/// `copy`
#[derive(Debug, Args)]
#[command(
    after_help = "Needs no passphrase: stored bytes are copied, and held against the manifest's SHA-256 on the way.\n\nExample:\n  sealift copy db --from s3://backups/prod --to file:///mnt/nas"
)]
pub struct Copy {
    /// JOB (its newest archive) or JOB@ID
    #[arg(value_name = "ARCHIVE")]
    pub archive: ArchiveRef,
    #[command(flatten)]
    pub from: FromStore,
    /// Store to copy to
    #[arg(long, value_name = "STORE")]
    pub to: String,
}

/// `verify`
#[derive(Debug, Args)]
#[command(
    after_help = "Without options the archive is read, decrypted, decompressed and, where it is a tar, walked and compared\nwith the catalog. With --stored no passphrase is needed.\n\nExamples:\n  sealift verify db --from s3://backups/prod --passphrase-file /etc/sealift.pass\n  sealift verify db@20261122T020000Z-1f2e3d4c --stored --from s3://backups/prod"
)]
pub struct Verify {
    #[command(flatten)]
    pub archive: ArchiveOptions,
    /// Compare the stored bytes with the manifest's SHA-256 only; needs no passphrase
    #[arg(long)]
    pub stored: bool,
}

/// `list`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sealift list --from s3://backups/prod --job db")]
pub struct List {
    #[command(flatten)]
    pub from: FromStore,
    /// Archives of this job only
    #[arg(long, value_name = "NAME", value_parser = job_name)]
    pub job: Option<String>,
}

/// `JOB` or `JOB@ID`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveRef {
    /// The job.
    pub job: String,
    /// The id; otherwise the newest.
    pub id: Option<Id>,
}

impl std::str::FromStr for ArchiveRef {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let (job, id) = match text.split_once('@') {
            Some((job, id)) => (job, Some(id.parse()?)),
            None => (text, None),
        };
        Ok(ArchiveRef { job: job_name(job)?, id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_named_by_job_and_id() {
        let named: ArchiveRef = "team/db@20261122T020000Z-1f2e3d4c".parse().unwrap();
        assert_eq!((named.job.as_str(), named.id.is_some()), ("team/db", true));
        for bad in ["", "../x", "a//b", "UPPER", "job@1", "a/.hidden", "/a"] {
            assert!(bad.parse::<ArchiveRef>().is_err(), "{bad}");
        }
    }
}
