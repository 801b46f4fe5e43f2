//! How a backup is made: the options of every source.

use std::time::Duration;

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};

use super::{CheckOptions, StoreAt, StoreFlags, age, job_name, rate, segment, share, size};
use crate::archive::Format;
use crate::archive::budget::{BudgetRequest, PARALLEL};
use crate::archive::frame::{Codec, FRAME_LEN};
use crate::archive::name::JobName;
use crate::archive::openpgp::Cipher;
use crate::error::{Error, Result};
use crate::host::name::host_name;
use crate::host::passphrase;
use crate::host::priority::IoNice;
use crate::job::backup::{BackupRequest, Compare, Encryption, Increments, Rebase, WarnOk};
use crate::job::lease::OneAtATime;
use crate::job::origin::named_host;
use crate::source::FileFilter;
use crate::store::rate::Timetable;
use crate::store::{StoreOptions, StoreUrl};

/// How a passphrase is given.
#[derive(Debug, Clone, Args)]
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

impl ValueEnum for WarnOk {
    fn value_variants<'a>() -> &'a [Self] {
        &[WarnOk::Changed, WarnOk::Passphrase, WarnOk::Links, WarnOk::Source]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (name, help) = match self {
            WarnOk::Changed => ("changed", "Files that changed while they were read"),
            WarnOk::Passphrase => ("passphrase", "The job's newest archive has another passphrase"),
            WarnOk::Links => ("links", "A registry's links without blobs, as garbage collection leaves them"),
            WarnOk::Source => {
                ("source", "The job's newest archive is of another source; otherwise that is refused")
            }
        };
        Some(PossibleValue::new(name).help(help))
    }
}

impl ValueEnum for Compare {
    fn value_variants<'a>() -> &'a [Self] {
        &[Compare::Stat, Compare::Content]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (name, help) = match self {
            Compare::Stat => {
                ("stat", "Type, size, times, inode, mode and owner are as they were: nothing is read")
            }
            Compare::Content => (
                "content",
                "Type, size, mtime, mode and owner are as they were, and what is in it is, by a hash: all that may be \
                 the same is read, though little is stored. For copies (cp -a, rsync -a) and network file systems, \
                 where times of change (ctime) or inode numbers say nothing. Files with ACLs, sparse files and devices \
                 are stored each time",
            ),
        };
        Some(PossibleValue::new(name).help(help))
    }
}

impl ValueEnum for Cipher {
    fn value_variants<'a>() -> &'a [Self] {
        &[Cipher::Cfb, Cipher::Aead]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (name, help) = match self {
            Cipher::Cfb => ("cfb", "SEIPD v1, CFB mode: every OpenPGP tool reads it"),
            Cipher::Aead => (
                "aead",
                "SEIPD v2 of RFC 9580, GCM in chunks of 1 MiB: faster, but gpg does not read it, and not every \
                 other tool",
            ),
        };
        Some(PossibleValue::new(name).help(help))
    }
}

/// What `--format` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FormatOption {
    /// A tar where the first block is a tar header
    Auto,
    /// A tar: its end marker is demanded
    Tar,
    /// Bytes
    Raw,
}

/// How to back up.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Backup options")]
pub struct BackupOptions {
    /// Store: URL, or name in the settings; repeatable
    ///
    /// file:///folder, s3://bucket/prefix, az://container/prefix or gs://bucket/prefix.
    #[arg(long, env = "SEALIFT_STORE", value_name = "STORE", required = true)]
    to: Vec<StoreAt>,
    /// Name of the archives; otherwise taken from the source
    ///
    /// {host} stands for this host's name: one settings file for all nodes of a cluster.
    #[arg(long, value_name = "NAME", value_parser = job_name_here)]
    pub job: Option<String>,
    /// Name of the host that the source lies on, for the archive's records; otherwise the engine's own, or this host's
    #[arg(long, value_name = "NAME", value_parser = named_host)]
    host: Option<String>,
    #[command(flatten)]
    passphrase: PassphraseOptions,
    /// Store in the clear
    #[arg(long, conflicts_with_all = ["passphrase_file", "passphrase_command"])]
    no_encrypt: bool,
    /// auto, zstd, gzip, xz or none; auto is zstd that passes over what does not shrink
    #[arg(long, value_name = "CODEC", default_value = "auto")]
    compress: Codec,
    /// How the archive is encrypted
    #[arg(long, value_enum, default_value = "cfb", conflicts_with = "no_encrypt")]
    cipher: Cipher,
    /// Compression level
    #[arg(long, value_name = "N")]
    level: Option<i32>,
    /// Whether the source is a tar
    #[arg(long, value_enum, default_value = "auto")]
    format: FormatOption,
    /// Accept a source that gives no byte at all
    #[arg(long)]
    allow_empty: bool,
    #[command(flatten)]
    check: CheckOptions,
    /// Make no backup that does not hold what is expected, by --expect or by a preset, or of a source that has
    /// shrunk, by --shrink-alarm; otherwise that is a warning
    #[arg(long)]
    strict: bool,
    /// Warn, with exit code 3, when the source has less than this share of what the job's newest archive has, as in 50%; with
    /// --strict, make no backup then
    #[arg(long, value_name = "SHARE", value_parser = share)]
    shrink_alarm: Option<f64>,
    /// Warnings that are no reason for exit code 3
    #[arg(long, value_enum, value_name = "WHAT", value_delimiter = ',')]
    warn_ok: Vec<WarnOk>,
    /// Bound on the memory used
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "256MiB")]
    memory: u64,
    /// Frames compressed at once; otherwise one a core
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    workers: Option<u16>,
    /// Equal parts of this size (Cloudflare R2 wants that); otherwise from 8 MiB, growing
    #[arg(long, value_name = "SIZE", value_parser = size)]
    part_size: Option<u64>,
    /// Fewer parts than the store's own limit (Scaleway: 1000)
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=100_000))]
    max_parts: Option<u64>,
    /// Parts in flight to each store at most; --memory holds fewer of them as parts grow with the archive
    #[arg(long, value_name = "N", default_value_t = PARALLEL, value_parser = clap::value_parser!(u16).range(1..))]
    parallel: u16,
    /// Bytes a second to each store, or a timetable
    ///
    /// As in 10MiB, on average: a part itself goes as fast as it can. The source is held back meanwhile. A timetable is in
    /// local time: "08:00,2MiB 19:00,off" is 2 MiB a second by day and no limit by night, Mon-08:00 is one day alone.
    /// Settings file: limit_rate
    #[arg(long, value_name = "RATE", value_parser = rate)]
    limit_rate: Option<Timetable>,
    /// Of folders and volumes, store what is new or changed
    ///
    /// Since the job's last backup; the rest stays in older archives, which this one then needs. The first one holds
    /// everything. Leave it out where each archive is to stand alone: a lifecycle rule of the bucket that deletes old
    /// objects would break those that need them.
    #[arg(long)]
    incremental: bool,
    /// With --incremental: hold everything this time
    #[arg(long)]
    full: bool,
    /// With --incremental: hold everything again when the last full backup is older than this, as in 30d
    #[arg(long, value_name = "TIME", value_parser = age)]
    full_every: Option<Duration>,
    /// With --incremental: how it is told that a file did not change, as in `backup path /mnt/copy --incremental --compare
    /// content`; from the first night on that has it, for it is then that hashes are stored
    #[arg(long, value_enum, value_name = "HOW", default_value = "stat")]
    compare: Compare,
    /// With --incremental: when less than this share of an older archive is still needed, read that again, and need the
    /// archive no more; 0% never
    #[arg(long, value_name = "SHARE", default_value = "25%", value_parser = share)]
    rebase: f64,
    /// The most that --rebase reads again in one backup, as a share of the job's bytes
    #[arg(long, value_name = "SHARE", default_value = "10%", value_parser = share)]
    rebase_limit: f64,
    /// With --incremental: commit what was read each time that it is so much, and go on. A run that dies then loses what came
    /// after that, and the next one builds on the rest. Such parts are no backups of their own: the last archive needs them.
    /// off, or 0: one archive, however long it takes
    #[arg(long, value_name = "SIZE", default_value = "64GiB", value_parser = segment)]
    segment: u64,
    /// Nice value, 0 to 19, but never below what sealift was started with; the I/O priority follows it, unless --io-nice
    /// is given [default: 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..=19))]
    nice: Option<i32>,
    /// I/O priority: idle, or 0 (first) to 7 (last), as `ionice` sets it
    #[arg(long, value_name = "LEVEL")]
    io_nice: Option<IoNice>,
    /// When another run of the job is under way, wait so long for it to end, as in 2h; otherwise that is refused, exit
    /// code 11. A run holds its job by a small object in its stores, ID.running-N.json, which it renews; one that was killed
    /// holds it for 10 minutes, or no longer at all where its host can see that it is gone
    #[arg(long, value_name = "TIME", value_parser = age, conflicts_with = "no_lease")]
    wait: Option<Duration>,
    /// Neither look for another run of the job nor show this one to others
    #[arg(long)]
    no_lease: bool,
    #[command(flatten)]
    store: StoreFlags,
    /// Make the folder of a file:// store where its last part is missing; without it, a missing folder is a disk that is
    /// not mounted
    #[arg(long)]
    make_store: bool,
    /// Back nothing up; tell what would be
    ///
    /// Its size, where it can be measured, and all of it or what is new since which archive. The stores are asked, and nothing
    /// is written to them. Of sets and presets it is what `sealift plan` tells: no store is asked
    #[arg(short = 'n', long, conflicts_with = "make_store")]
    pub dry_run: bool,
}

impl BackupOptions {
    /// How to back up, as a plain request.
    ///
    /// # Errors
    /// A level that the codec does not have, a pattern that is none, an option that means nothing without another.
    pub fn request(self) -> Result<BackupRequest> {
        let budget = self.budget()?;
        let stores = self.to.iter().map(|to| {
            let options = self.store_options(to)?;
            Ok(StoreUrl { url: to.as_str().into(), options })
        });
        Ok(BackupRequest {
            stores: stores.collect::<Result<_>>()?,
            encryption: (!self.no_encrypt)
                .then(|| Encryption { cipher: self.cipher, passphrase: self.passphrase.sources() }),
            budget,
            parallel: usize::from(self.parallel),
            limit_rate: self.limit_rate,
            nice: self.nice,
            io_nice: self.io_nice,
            format: match self.format {
                FormatOption::Auto => None,
                FormatOption::Tar => Some(Format::Tar),
                FormatOption::Raw => Some(Format::Raw),
            },
            allow_empty: self.allow_empty,
            check: self.check.check()?,
            strict: self.strict,
            warn_ok: self.warn_ok,
            files: FileFilter::default(),
            increments: self.incremental.then_some(Increments {
                full: self.full,
                full_every: self.full_every,
                compare: self.compare,
                rebase: Rebase { below: self.rebase, limit: self.rebase_limit },
                segment: (self.segment > 0).then_some(self.segment),
            }),
            shrink_alarm: self.shrink_alarm,
            quiesce: None,
            dry_run: self.dry_run,
            one_at_a_time: OneAtATime { off: self.no_lease, wait: self.wait.unwrap_or_default() },
            job: self.job,
            host: self.host,
        })
    }

    /// What the memory is to be divided among.
    fn budget(&self) -> Result<BudgetRequest> {
        let level = self.level.unwrap_or(self.compress.default_level());
        let levels = self.compress.levels();
        if !levels.contains(&level) {
            return Err(Error::usage(format!("{} has no level {level}", self.compress)).hint(format!(
                "{} to {}",
                levels.start(),
                levels.end()
            )));
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(BudgetRequest {
            memory: self.memory,
            workers: self.workers.map_or(cores, usize::from),
            frame_len: FRAME_LEN as u64,
            codec: self.compress,
            level,
            part_size: self.part_size,
            max_parts: self.max_parts,
        })
    }

    /// How a store is to be used: these options, then what the settings file says of it.
    fn store_options(&self, store: &StoreAt) -> Result<StoreOptions> {
        let options = self.store.clone().or(store.flags.clone()).options()?;
        Ok(StoreOptions { make_folder: self.make_store, ..options })
    }
}

/// A job's name, in which `{host}` stands for this host's.
fn job_name_here(text: &str) -> Result<String> {
    if !text.contains(HOST) {
        return job_name(text);
    }
    let host = host_name().ok_or_else(|| {
        Error::usage(format!("this container has no name of its own for {HOST}"))
            .hint("give it one: `docker run --hostname NAME`, or hostname: in a stack's file")
    })?;
    let unfit = || Error::usage(format!("nothing of the host's name {host:?} can stand in a job's"));
    let name = JobName::from_source(&host).ok_or_else(unfit)?;
    job_name(&text.replace(HOST, name.as_str()))
}

const HOST: &str = "{host}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_name_stands_in_a_jobs_in_its_letters() {
        let as_job_name = |host: &str| String::from(JobName::from_source(host).unwrap());
        assert_eq!(as_job_name("Node-1.example.org"), "node-1.example.org");
        assert_eq!(as_job_name("büro rechner"), "b-ro-rechner");
        assert_eq!(job_name_here("team/etc").unwrap(), "team/etc");
        let here = host_name().map(|host| format!("{}/etc", as_job_name(&host)));
        assert_eq!(job_name_here("{host}/etc").ok(), here);
        let error = job_name_here("{Host}/etc").unwrap_err();
        assert_eq!(error.to_string(), "\"{Host}/etc\" is no job name");
    }
}
