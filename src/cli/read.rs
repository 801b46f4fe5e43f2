//! The words of the verbs that read: which archive, from where, and what to do with it.

use clap::Args;

use super::{PassphraseOptions, StoreAt, docker_run, job_name, rate};
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
    pub open: OpenOptions,
}

/// Where archives are, and what opens them.
#[derive(Debug, Args)]
pub struct OpenOptions {
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
    /// Store to read from: its URL, or its name in the settings file
    #[arg(long, env = "SEALIFT_STORE", value_name = "STORE")]
    pub from: StoreAt,
}

/// `restore`
#[derive(Debug, Args)]
#[command(after_help = RESTORE_EXAMPLES)]
#[command(group = clap::ArgGroup::new("sink").required(true))]
pub struct Restore {
    /// JOB (its newest archive) or JOB@ID; with --object the key of an object in the store
    #[arg(value_name = "ARCHIVE")]
    archive: String,
    #[command(flatten)]
    pub open: OpenOptions,
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
    /// Read from the front, without the catalog: for an archive whose catalog is lost. Bytes are handed on before the
    /// final check: when that fails, the target is incomplete
    #[arg(long, conflicts_with_all = ["include", "exclude"])]
    sequential: bool,
    /// ARCHIVE is the key of any object, as `tar | zstd | gpg` made it: OpenPGP, zstd, gzip, xz, bzip2 and LZ4 are found
    /// by their magic numbers. Read from the front, as with --sequential
    #[arg(long, conflicts_with_all = ["include", "exclude"])]
    object: bool,
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
  sealift restore old/dtr-2019.tar.gz.gpg --object --to-path /mnt/new --from s3://backups/prod

`sealift restore set NAME --plan` prints the steps that bring a whole set back: see `sealift restore set --help`.

Check the exit code: where bytes were written before a failure, they are right but not all. With --to-run and --to-exec
it is the process's own, when the process had all bytes.";

/// What `restore` reads.
#[derive(Debug)]
pub enum RestoreSource {
    /// An archive, by its catalog.
    Archive(ArchiveRef),
    /// An archive from its front, its catalog being lost.
    Front(ArchiveRef),
    /// An object by its key, whoever made it.
    Object(String),
}

/// Where `restore` puts the bytes.
#[derive(Debug)]
pub enum RestoreTarget {
    Stdout,
    Path(std::path::PathBuf),
    Volume(String),
    Run(Box<RunSpec>),
    Exec(String, Vec<String>),
    Image,
}

impl Restore {
    /// What to read.
    ///
    /// # Errors
    /// ARCHIVE is none.
    pub fn what(&self) -> Result<RestoreSource> {
        Ok(match (self.object, self.sequential) {
            (true, _) => RestoreSource::Object(self.archive.clone()),
            (false, true) => RestoreSource::Front(self.archive.parse()?),
            (false, false) => RestoreSource::Archive(self.archive.parse()?),
        })
    }

    /// Where the bytes go.
    ///
    /// # Errors
    /// Words that are missing, or that nobody asked for.
    pub fn to(&self) -> Result<RestoreTarget> {
        let words = &self.words;
        if self.to_run {
            return Ok(RestoreTarget::Run(Box::new(docker_run::parse(words)?)));
        }
        if self.to_exec {
            return match words.split_first() {
                Some((container, command)) if !command.is_empty() => {
                    Ok(RestoreTarget::Exec(container.clone(), command.to_vec()))
                }
                _ => Err(Error::usage("--to-exec needs a container and a command")
                    .hint("--to-exec db psql -U postgres")),
            };
        }
        if let Some(word) = words.first() {
            return Err(Error::usage(format!("unexpected {word:?}")).hint("see `sealift restore --help`"));
        }
        Ok(match (&self.to_path, &self.to_volume) {
            (Some(dir), _) => RestoreTarget::Path(dir.clone()),
            (_, Some(volume)) => RestoreTarget::Volume(volume.clone()),
            _ if self.to_image => RestoreTarget::Image,
            _ => RestoreTarget::Stdout,
        })
    }
}

/// `restore set`
#[derive(Debug, Args)]
#[command(
    override_usage = "sealift restore set [OPTIONS] <SET> --from <STORE> --plan",
    after_help = "Reads the catalogs of the set's archives and prints the steps that bring it back, in order, with the exact words for\nthese archives: versions, replica, what to stop. Nothing is run.\n\nExample:\n  sealift restore set docker-ee --plan --from s3://backups/prod"
)]
pub struct RestoreSet {
    /// NAME (its newest run) or NAME@ID
    #[arg(value_name = "SET")]
    pub set: String,
    #[command(flatten)]
    pub open: OpenOptions,
    /// Print the steps
    #[arg(long, required = true)]
    plan: bool,
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
    after_help = "Needs no passphrase: stored bytes are copied, and held against the manifest's BLAKE3 on the way.\n\nExample:\n  sealift copy db --from s3://backups/prod --to file:///mnt/nas"
)]
pub struct Copy {
    /// JOB (its newest archive) or JOB@ID
    #[arg(value_name = "ARCHIVE")]
    pub archive: ArchiveRef,
    #[command(flatten)]
    pub from: FromStore,
    /// Store to copy to: its URL, or its name in the settings file (whose `to` is for backups alone)
    #[arg(long, value_name = "STORE")]
    pub to: StoreAt,
    /// At most so many bytes a second, on average, as in 10MiB; a part itself goes as fast as it can
    #[arg(long, value_name = "SIZE", value_parser = rate)]
    pub limit_rate: Option<u64>,
}

/// `diff`
#[derive(Debug, Args)]
#[command(
    after_help = DIFF_EXAMPLES,
    override_usage = "sealift diff [OPTIONS] --from <STORE> <ARCHIVE> <ARCHIVE> [GLOB]...\n       \
                      sealift diff [OPTIONS] --from <STORE> --path <DIR> <ARCHIVE> [GLOB]..."
)]
pub struct Diff {
    #[command(flatten)]
    pub archive: ArchiveOptions,
    /// Compare with this folder, as `restore --to-path DIR` would leave it: metadata and contents
    #[arg(long, value_name = "DIR", conflicts_with = "content")]
    pub path: Option<std::path::PathBuf>,
    /// Compare the contents of files of the same size too; reads the frames that hold them, of both archives
    #[arg(long)]
    pub content: bool,
    /// The second archive, unless --path is given; then members to compare, and what is below them
    #[arg(value_name = "ARCHIVE|GLOB")]
    words: Vec<String>,
}

const DIFF_EXAMPLES: &str = "\
Lines, sorted by name; each name and value with its control characters escaped:
  + NAME                     only in the second archive, or in the folder
  - NAME                     only in the first
  ~ NAME (size 10 → 12)      in both: type, mode, uid, gid, size, link, mtime or content differ
  ! NAME (reason)            not compared with the folder: the name leads outside of it
Two archives are compared by their catalogs alone, unless --content is given. Extended attributes and ACLs are not
compared. Which of a file's names is recorded as a hard link is up to tar; two archives are compared as recorded, in a
folder both names must be one file. Of sparse files size and metadata are compared.

A folder is never left: symlinks are read, not followed. What only the folder has is looked for in those folders that
the archive has too; so an archive of etc can be compared with the live system by --path /.

Exit code: 0 when they are the same, 1 when they differ. An `error:` says that they were not compared to the end.

Examples:
  sealift diff host@20261122T020000Z-1f2e3d4c host --from s3://backups/prod
  sealift diff host@20261122T020000Z-1f2e3d4c host 'etc/*' --content --from s3://backups/prod
  sealift diff registry --path /var/lib/docker/volumes --from s3://backups/prod";

/// What `diff` holds an archive against.
#[derive(Debug)]
pub enum DiffTarget {
    Archive(ArchiveRef),
    Folder(std::path::PathBuf),
}

impl Diff {
    /// What to compare with, and which members.
    ///
    /// # Errors
    /// There is nothing to compare with.
    pub fn against(&self) -> Result<(DiffTarget, &[String])> {
        match (&self.path, self.words.split_first()) {
            (Some(dir), _) => Ok((DiffTarget::Folder(dir.clone()), &self.words)),
            (None, Some((second, globs))) => Ok((DiffTarget::Archive(second.parse()?), globs)),
            (None, None) => Err(Error::usage("there is nothing to compare with")
                .hint("name a second archive, JOB@ID, or a folder: --path DIR")),
        }
    }
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
    /// Sets, and whether each is complete
    #[arg(long, conflicts_with = "job")]
    pub sets: bool,
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
