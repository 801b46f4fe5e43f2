//! The command line: words into settings, nothing else.

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::archive::Format;
use crate::archive::frame::{Codec, FRAME_LEN};
use crate::archive::plan::{DEFAULT_MEMORY, Wish};
use crate::docker::run::RunSpec;
use crate::error::{Context, Error, Result};
use crate::passphrase;
use crate::progress::Mode;
use crate::source::{Source, job_char};
use crate::store::StoreOptions;

mod docker_run;
mod read;

pub use read::{ArchiveOptions, ArchiveRef, Cat, Copy, FromStore, List, Ls, Restore, Show, To, Verify};

/// Streams Docker backups, sealed, straight to off-site storage; and back.
#[derive(Debug, Parser)]
#[command(name = "sealift", version, max_term_width = 110, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    pub view: View,
    #[command(subcommand)]
    pub verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  sealift backup volume registry --to s3://backups/prod --passphrase-file /etc/sealift.pass
  sealift backup exec db pg_dumpall -U postgres --to file:///mnt/nas
  sealift list --from s3://backups/prod
  sealift verify registry --from s3://backups/prod
  sealift restore registry --to-stdout --from s3://backups/prod | tar -x -C /var/lib/docker/volumes

Exit codes:
  0 done · 1 failed, nothing committed · 2 wrong usage · 3 committed with warnings, or not to every store
  10 no such archive · 12 wrong passphrase · 13 damaged archive · 130 interrupted, aborted cleanly";

/// What is shown while it runs.
#[derive(Debug, Args)]
pub struct View {
    /// Print events as JSON lines on stdout
    #[arg(long, global = true, conflicts_with = "quiet")]
    json: bool,
    /// Print warnings and errors only
    #[arg(long, global = true)]
    quiet: bool,
    /// Print details: the memory bound, the largest archive that it allows
    #[arg(long, global = true)]
    verbose: bool,
}

impl View {
    /// How to show the run.
    pub fn mode(&self) -> (Mode, bool) {
        let mode = match (self.json, self.quiet) {
            (true, _) => Mode::Json,
            (_, true) => Mode::Quiet,
            _ => Mode::Human,
        };
        (mode, self.verbose)
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Stream a source, sealed, to one or more stores
    #[command(subcommand)]
    Backup(Backup),
    /// Bring an archive's bytes back, each confirmed before it is handed on
    Restore(Restore),
    /// Check that an archive can be restored
    Verify(Verify),
    /// List the archives in a store
    List(List),
    /// List the members of an archive, from its catalog alone
    Ls(Ls),
    /// Print one file of an archive; only the frames that hold it are fetched
    Cat(Cat),
    /// Tell what an archive is, and how to restore it by hand
    Show(Show),
    /// Copy an archive to another store; needs no passphrase
    Copy(Copy),
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  sealift completions bash > /etc/bash_completion.d/sealift")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

impl Verb {
    /// Whether stdout carries an archive's bytes, so that nothing else may go there.
    pub fn writes_data(&self) -> bool {
        matches!(self, Verb::Restore(_) | Verb::Cat(_))
    }
}

/// What to back up.
#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one in a process")]
pub enum Backup {
    /// The stdout of a new container: `docker run`'s words, before IMAGE
    #[command(after_help = docker_run::EXAMPLES)]
    Run {
        #[command(flatten)]
        options: Box<BackupOptions>,
        #[command(flatten)]
        run: docker_run::RunOptions,
    },
    /// The stdout of a command in a running container
    #[command(
        after_help = "Example:\n  sealift backup exec --to s3://backups/prod db pg_dumpall -U postgres"
    )]
    Exec {
        #[command(flatten)]
        options: Box<BackupOptions>,
        /// The container
        container: String,
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// The files of volumes
    #[command(
        after_help = "Members are VOLUME/_data/…, so that `tar -x -C /var/lib/docker/volumes` restores them.\n\nExample:\n  sealift backup volume dtr-registry-0123456789ab --to s3://backups/prod"
    )]
    Volume {
        #[command(flatten)]
        options: Box<BackupOptions>,
        /// The volumes
        #[arg(required = true)]
        volumes: Vec<String>,
    },
    /// Images, as `docker save` writes them (the engine stages them on its own disk first)
    #[command(after_help = "Example:\n  sealift backup image team/app:1.4 --to file:///mnt/nas")]
    Image {
        #[command(flatten)]
        options: Box<BackupOptions>,
        /// The images
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Folders of this host
    #[command(after_help = "Example:\n  sealift backup path /etc /srv --job host --to az://backups/host")]
    Path {
        #[command(flatten)]
        options: Box<BackupOptions>,
        /// The folders
        #[arg(required = true)]
        dirs: Vec<String>,
    },
    /// Bytes piped in; their end cannot be proved unless they are a tar
    #[command(
        after_help = "Example:\n  mysqldump --all-databases | sealift backup stdin --job mysql --to s3://backups/prod\n\nA dump that fails half-way looks like a short one here: `backup exec` sees its exit code."
    )]
    Stdin {
        #[command(flatten)]
        options: Box<BackupOptions>,
    },
}

impl Backup {
    /// The source, and how to back it up.
    pub fn resolve(self) -> Result<(Source, BackupOptions)> {
        Ok(match self {
            Backup::Run { options, run } => (Source::Run(Box::new(RunSpec::try_from(run)?)), *options),
            Backup::Exec { options, container, command } => (Source::Exec { container, command }, *options),
            Backup::Volume { options, volumes } => (Source::Volume(volumes), *options),
            Backup::Image { options, images } => (Source::Image(images), *options),
            Backup::Path { options, dirs } => (Source::Path(dirs), *options),
            Backup::Stdin { options } => (Source::Stdin, *options),
        })
    }
}

/// How a passphrase is given.
#[derive(Debug, Args)]
pub struct PassphraseOptions {
    /// File whose first line is the passphrase
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_command")]
    passphrase_file: Option<String>,
    /// Command that prints the passphrase
    #[arg(long, value_name = "CMD")]
    passphrase_command: Option<String>,
}

impl PassphraseOptions {
    /// Where to take it from. Also: SEALIFT_PASSPHRASE, SEALIFT_PASSPHRASE_FILE, SEALIFT_PASSPHRASE_COMMAND.
    pub fn sources(&self) -> passphrase::Sources {
        passphrase::Sources {
            file: self.passphrase_file.clone(),
            command: self.passphrase_command.clone(),
            ..passphrase::Sources::default()
        }
    }
}

/// Warnings that may be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WarnOk {
    /// Files that changed while they were read
    Changed,
    /// The job's newest archive has another passphrase
    Passphrase,
}

/// What `--format` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FormatWish {
    /// A tar where the first block is a tar header
    Auto,
    /// A tar: its end marker is demanded
    Tar,
    /// Bytes
    Raw,
}

/// How to back up.
#[derive(Debug, Args)]
#[command(next_help_heading = "Backup options")]
pub struct BackupOptions {
    /// Store: file:///folder, s3://bucket/prefix, az://container/prefix or gs://bucket/prefix; may be repeated
    #[arg(long, env = "SEALIFT_STORE", value_name = "STORE", required = true)]
    pub to: Vec<String>,
    /// Name under which the archives lie in the store; otherwise taken from the source
    #[arg(long, value_name = "NAME", value_parser = job_name)]
    pub job: Option<String>,
    #[command(flatten)]
    pub passphrase: PassphraseOptions,
    /// Store in the clear
    #[arg(long, conflicts_with_all = ["passphrase_file", "passphrase_command"])]
    pub no_encrypt: bool,
    /// auto, zstd, gzip, xz or none; auto is zstd that passes over what does not shrink
    #[arg(long, value_name = "CODEC", default_value = "auto")]
    compress: Codec,
    /// Compression level
    #[arg(long, value_name = "N")]
    level: Option<i32>,
    /// Whether the source is a tar
    #[arg(long, value_enum, default_value = "auto")]
    format: FormatWish,
    /// Accept a source that gives no byte at all
    #[arg(long)]
    pub allow_empty: bool,
    /// Warnings that are no reason for exit code 3
    #[arg(long, value_enum, value_name = "WHAT", value_delimiter = ',')]
    pub warn_ok: Vec<WarnOk>,
    /// Bound on the memory used
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "256MiB")]
    memory: u64,
    /// Frames compressed at once; otherwise one a core
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    workers: Option<u16>,
    /// Equal parts of this size (Cloudflare R2 wants that); otherwise from 16 MiB, growing
    #[arg(long, value_name = "SIZE", value_parser = size)]
    part_size: Option<u64>,
    /// Fewer parts than the store's own limit (Scaleway: 1000)
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=100_000))]
    max_parts: Option<u64>,
    /// Parts in flight to each store
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u16).range(1..))]
    pub parallel: u16,
    /// How long a part is tried again before its store is given up; a try under way is not cut short
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5m")]
    retry_for: Duration,
    /// Storage class of the archive: S3 class, Azure access tier
    #[arg(long, value_name = "CLASS")]
    storage_class: Option<String>,
    /// S3 server-side encryption: AES256, aws:kms
    #[arg(long, value_name = "KIND")]
    sse: Option<String>,
    /// KMS key of --sse aws:kms
    #[arg(long, value_name = "KEY", requires = "sse")]
    sse_kms_key_id: Option<String>,
    /// S3 checksum on every part: sha256, crc64nvme
    #[arg(long, value_name = "KIND")]
    checksum: Option<String>,
}

impl BackupOptions {
    /// The format where it is not to be found out.
    pub fn format(&self) -> Option<Format> {
        match self.format {
            FormatWish::Auto => None,
            FormatWish::Tar => Some(Format::Tar),
            FormatWish::Raw => Some(Format::Raw),
        }
    }

    /// What the memory is to be divided among.
    ///
    /// # Errors
    /// A level that the codec does not have.
    pub fn wish(&self) -> Result<Wish> {
        let level = self.level.unwrap_or(self.compress.default_level());
        if !self.compress.levels().contains(&level) {
            let levels = self.compress.levels();
            return Err(Error::usage(format!("{} has no level {level}", self.compress)).hint(format!(
                "{} to {}",
                levels.start(),
                levels.end()
            )));
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Wish {
            memory: self.memory,
            workers: self.workers.map_or(cores, usize::from),
            frame_len: FRAME_LEN as u64,
            codec: self.compress,
            level,
            part_size: self.part_size,
            max_parts: self.max_parts,
        })
    }

    /// How the stores are to be used.
    pub fn store_options(&self) -> StoreOptions {
        StoreOptions {
            storage_class: self.storage_class.clone(),
            sse: self.sse.clone(),
            sse_kms_key_id: self.sse_kms_key_id.clone(),
            checksum: self.checksum.clone(),
            retry_for: self.retry_for,
            largest_part: self.part_size.unwrap_or(self.memory.max(DEFAULT_MEMORY)),
        }
    }
}

/// A job's name: what is safe as a key in every store.
fn job_name(name: &str) -> Result<String> {
    let segments = || name.split('/').all(|s| !s.is_empty() && !s.starts_with('.'));
    match name.chars().all(job_char) && segments() && name.len() <= 200 {
        true => Ok(name.into()),
        false => Err(Error::usage(format!("{name:?} is no job name")).hint("a-z 0-9 . _ - and / between")),
    }
}

/// `64MiB`, `64M`, `64m`, `1GiB`, `5000000`: powers of 1024 unless the unit says otherwise (`MB`).
fn size(text: &str) -> Result<u64> {
    let wrong =
        || Error::usage(format!("{text:?} is no size")).hint("write 64MiB, 1GiB or a number of bytes");
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(factor).ok_or_else(wrong)
}

fn duration(text: &str) -> Result<Duration> {
    let parsed: jiff::SignedDuration = text.parse().context(|| format!("{text:?} is no time"))?;
    Duration::try_from(parsed)
        .map_err(|_| Error::usage(format!("{text:?} is no time")).hint("write 30s, 5m or 1h"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_and_times_are_read() {
        for (text, octets) in
            [("64MiB", 64 << 20), ("64m", 64 << 20), ("1GiB", 1 << 30), ("5 MB", 5_000_000), ("7", 7)]
        {
            assert_eq!(size(text).unwrap(), octets, "{text}");
        }
        assert!(size("much").is_err() && size("1XB").is_err() && size("99999999999T").is_err());
        assert_eq!(duration("5m").unwrap(), Duration::from_secs(300));
        assert!(duration("-5m").is_err());
    }

    #[test]
    fn everything_behind_the_image_is_the_containers() {
        let line =
            "sealift backup run --to file:///x -i --rm --log-driver none -e A=b img backup --to y -e C";
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        let Verb::Backup(backup) = cli.verb else { panic!("no backup") };
        let (Source::Run(spec), options) = backup.resolve().unwrap() else { panic!("no run") };
        assert_eq!(spec.command, ["backup", "--to", "y", "-e", "C"]);
        assert_eq!((spec.image.as_str(), spec.env.join(",")), ("img", "A=b".into()));
        assert_eq!(options.to, ["file:///x"]);
    }

    #[test]
    fn a_terminal_is_refused_with_the_reason() {
        let cli = Cli::try_parse_from("sealift backup run --to file:///x -it img".split(' ')).unwrap();
        let Verb::Backup(backup) = cli.verb else { panic!("no backup") };
        let error = backup.resolve().unwrap_err();
        assert!(error.to_string().contains("-t") && error.kind().exit_code() == 2, "{error}");
    }

    #[test]
    fn no_option_takes_a_passphrase_itself() {
        fn options(command: &clap::Command, found: &mut Vec<String>) {
            found.extend(command.get_arguments().filter_map(|a| a.get_long().map(String::from)));
            command.get_subcommands().for_each(|c| options(c, found));
        }
        let mut found = Vec::new();
        options(&Cli::command(), &mut found);
        found.retain(|name| name.contains("pass"));
        assert!(
            found.iter().all(|name| name == "passphrase-file" || name == "passphrase-command"),
            "{found:?}"
        );
    }
}
