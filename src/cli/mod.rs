//! The command line, and clap: what it reads becomes plain requests.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
pub use clap_complete::Shell;

use crate::archive::name::JobName;
use crate::error::Result;

mod backup;
mod clean;
pub mod complete;
mod database;
mod docker_run;
mod doctor;
mod drill;
mod explicit;
mod files;
mod generate;
pub mod help;
mod meant;
mod options;
mod plan;
mod prescan;
mod preset;
mod prune;
mod quiesce;
mod rate;
mod read;
mod rekey;
mod restore;
mod restore_set;
mod schedule;
mod settings;
mod status;
mod stores;
mod units;
mod verify;
mod view;

pub use backup::SetOptions;
use backup::{DISCOVER_HELP, presets};
pub use clean::Clean;
pub use database::DatabaseBackup;
pub use doctor::Doctor;
pub use drill::Drill;
pub use explicit::ExplicitArg;
pub use files::FileOptions;
pub use generate::man_pages;
pub use meant::with_meaning;
pub use options::{BackupOptions, PassphraseOptions};
pub use plan::PlanOptions;
pub use prescan::{JOB_NAME, Prescan};
pub use preset::{DtrOptions, DtrPart, SwarmOptions, UcpOptions};
pub use prune::{Delete, Pin, Prune, Unpin};
pub use quiesce::QuiesceOptions;
use rate::rate;
pub use read::{Adopt, ArchiveOptions, Cat, Copy, Diff, FromStore, List, Ls, OpenOptions, Show};
pub use rekey::Rekey;
pub use restore::{Restore, RestoreArchive};
pub use restore_set::{Doing, RestoreSet};
pub use schedule::{RunOptions, ScheduleFlags, Serve};
pub use settings::Settings;
pub use status::{LimitOptions, Status};
pub use stores::{StoreAt, StoreFlags};
use units::{age, duration, segment, share, size};
pub use verify::{CheckOptions, Verify};
pub use view::View;

/// Streams Docker backups, sealed, straight to off-site storage; and back.
#[derive(Debug, Parser)]
#[command(name = "sealift", version, max_term_width = 110, arg_required_else_help = true, after_help = help::EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    pub view: View,
    /// Settings file
    ///
    /// Otherwise the first of ./sealift.toml, ~/.config/sealift/sealift.toml and /etc/sealift/sealift.toml.
    #[arg(long, global = true, env = "SEALIFT_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Stream a source, sealed, to one or more stores
    #[command(subcommand)]
    Backup(Backup),
    /// Tell what a set would back up on this node, and what it would not
    Plan(PlanOptions),
    /// Bring an archive's bytes back, each confirmed before it is handed on
    Restore(Restore),
    /// Check that an archive can be restored
    Verify(Verify),
    /// Restore for real into a scratch place, and try what is there
    Drill(Box<Drill>),
    /// Tell how two archives, or an archive and a folder, differ
    Diff(Diff),
    /// List the archives in a store, and when each was verified
    List(List),
    /// Tell whether every job's backups are new, whole and verified
    ///
    /// Needs no passphrase.
    Status(Status),
    /// Try out what backups need, from the settings to every store
    Doctor(Doctor),
    /// List the members of an archive, from its catalog alone
    Ls(Ls),
    /// Print one file of an archive; only the frames that hold it are fetched
    Cat(Cat),
    /// Tell what an archive is, and how to restore it by hand
    Show(Show),
    /// Copy an archive to another store; needs no passphrase
    Copy(Copy),
    /// Let archives that exist open with a new passphrase, too
    Rekey(Rekey),
    /// Commit a backup that lies complete in a store, but whose manifest never arrived
    Adopt(Adopt),
    /// List what failed and killed runs have left, or take it back
    Clean(Clean),
    /// Delete the archives that no rule keeps, with --confirm
    Prune(Box<Prune>),
    /// Keep an archive whatever the rules say
    Pin(Pin),
    /// Leave an archive to the rules again
    Unpin(Unpin),
    /// Delete one archive; without --confirm only tell whether that may be
    Delete(Delete),
    /// Run a job, a set or a schedule of the settings file once, with its hooks
    Run(RunOptions),
    /// Run all that has a schedule in the settings file, when it is due
    Serve(Serve),
    /// Check or show the settings file
    #[command(subcommand)]
    Config(Settings),
    /// Print a completion script for a shell
    ///
    /// The script asks sealift for verbs and options, for the stores, jobs and sets of the settings file, and for the jobs
    /// and archives that lie in the store.
    #[command(after_help = "Examples:\n  sealift completions bash > /etc/bash_completion.d/sealift\n  \
                            sealift completions zsh > \"${fpath[1]}/_sealift\"\n  \
                            sealift completions fish > ~/.config/fish/completions/sealift.fish")]
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Write the man pages into a folder
    #[command(hide = true)]
    Man {
        /// The folder; it is made when it is not there
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
}

impl Verb {
    /// Whether stdout carries an archive's bytes, so that nothing else may go there.
    pub fn writes_data(&self) -> bool {
        match self {
            Verb::Restore(restore) => restore.writes_data(),
            Verb::Cat(_) => true,
            _ => false,
        }
    }
}

/// What to back up.
#[derive(Debug, Subcommand)]
pub enum Backup {
    /// The stdout of a new container: `docker run`'s words, before IMAGE
    #[command(after_help = docker_run::EXAMPLES)]
    Run {
        #[command(flatten)]
        options: Box<BackupOptions>,
        #[command(flatten)]
        quiesce: Box<QuiesceOptions>,
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
        #[command(flatten)]
        quiesce: Box<QuiesceOptions>,
        /// The container
        container: String,
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// The stdout of a command of this host
    #[command(
        after_help = "Nothing is listed unless the command ends with 0. Of a pipe, the shell reports the last command only, unless it is\ntold otherwise (pipefail). Its standard input is empty, and it does not see sealift's passphrase.\n\nExamples:\n  sealift backup command --job db --to s3://backups/prod -- pg_dump -Fc app\n  sealift backup command --job app --to s3://backups/prod -- kubectl exec deploy/db -- pg_dump app"
    )]
    Command {
        #[command(flatten)]
        options: Box<BackupOptions>,
        #[command(flatten)]
        quiesce: Box<QuiesceOptions>,
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
        files: FileOptions,
        #[command(flatten)]
        options: Box<BackupOptions>,
        #[command(flatten)]
        quiesce: Box<QuiesceOptions>,
        /// The volumes
        #[arg(required = true)]
        volumes: Vec<String>,
    },
    /// Images, as `docker save` writes them
    ///
    /// The engine stages them on its own disk first.
    #[command(after_help = "Example:\n  sealift backup image team/app:1.4 --to file:///mnt/nas")]
    Image {
        #[command(flatten)]
        options: Box<BackupOptions>,
        #[command(flatten)]
        quiesce: Box<QuiesceOptions>,
        /// The images
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Folders of this host
    #[command(after_help = "Example:\n  sealift backup path /etc /srv --job host --to az://backups/host")]
    Path {
        #[command(flatten)]
        files: FileOptions,
        #[command(flatten)]
        options: Box<BackupOptions>,
        #[command(flatten)]
        quiesce: Box<QuiesceOptions>,
        /// The folders
        #[arg(required = true, value_name = "DIRS")]
        dirs: Vec<String>,
    },
    #[command(flatten)]
    Database(DatabaseBackup),
    /// Docker Trusted Registry: its metadata and its images
    #[command(after_help = preset::DTR_HELP)]
    Dtr {
        #[command(flatten)]
        options: Box<BackupOptions>,
        #[command(flatten)]
        dtr: DtrOptions,
    },
    /// Universal Control Plane
    #[command(after_help = preset::UCP_HELP)]
    Ucp {
        #[command(flatten)]
        options: Box<BackupOptions>,
        #[command(flatten)]
        ucp: UcpOptions,
    },
    /// The state of the swarm, on a manager
    #[command(after_help = preset::SWARM_HELP)]
    Swarm {
        #[command(flatten)]
        options: Box<BackupOptions>,
        #[command(flatten)]
        swarm: SwarmOptions,
    },
    /// Whatever labels at the engine name
    ///
    /// A volume, or a container with its volumes: sealift.backup=true. A database by its image: sealift.backup=database. What
    /// a command in a container prints: sealift.exec=COMMAND.
    #[command(after_help = DISCOVER_HELP)]
    Discover {
        #[command(flatten)]
        options: Box<BackupOptions>,
        /// A volume that no label covers is a warning, exit 3
        #[arg(long)]
        require_all: bool,
    },
    /// Several jobs in order, under one set id
    ///
    /// `docker-ee` is swarm, UCP and DTR.
    #[command(
        mut_arg("to", |to| to.required(false)),
        mut_arg("job", |job| job.hide(true)),
        after_help = "A set is [sets.NAME] of the settings file, with the options of its jobs; options given here go to each of them.\nThe set docker-ee is built in: the presets swarm, ucp and dtr, in the documented order, each with its own options,\nwhich may also stand in [jobs.swarm], [jobs.ucp] and [jobs.dtr]. When a job fails, those after it are left out and the\nset is listed as incomplete (`sealift list --sets`); what was made before stays.\n\nExamples:\n  sealift backup set nightly\n  sealift backup set docker-ee --stop-engine --ucp-url ucp.example.com --ucp-username admin --ucp-password-file /etc/ucp.pass --ucp-ca ucp.pem --to s3://backups/prod"
    )]
    Set {
        #[command(flatten)]
        options: Box<BackupOptions>,
        #[command(flatten)]
        swarm: SwarmOptions,
        #[command(flatten)]
        ucp: Box<UcpOptions>,
        #[command(flatten)]
        dtr: Box<DtrOptions>,
        /// Go on with the next job when one has failed
        #[arg(long)]
        keep_going: bool,
        /// The set
        #[arg(value_name = "NAME", value_parser = job_name)]
        set_name: String,
    },
    /// A job of the settings file: its source, with its options
    #[command(
        override_usage = "sealift backup job [OPTIONS] NAME",
        after_help = "Options given here win over the job's own; see `sealift config --help` for the file. The options of the job's\nown source are taken as well: `sealift backup job NAME --help`.\n\nExamples:\n  sealift backup job images\n  sealift backup job images --level 19 --to file:///mnt/nas"
    )]
    Job {
        #[command(flatten)]
        options: Box<BackupOptions>,
        /// The job: [jobs.NAME] of the settings file
        #[arg(value_name = "NAME")]
        job_name: String,
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

/// A job's name: what is safe as a key in every store.
fn job_name(name: &str) -> Result<String> {
    name.parse().map(|name: JobName| name.into())
}

#[cfg(test)]
mod tests;
