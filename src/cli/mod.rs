//! The command line, and clap: what it reads becomes plain requests.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
pub use clap_complete::Shell;

use crate::archive::name::JobName;
use crate::docker::run::RunSpec;
use crate::error::{Error, Result};
use crate::job::Subject;
use crate::job::backup::BackupRequest;
use crate::preset::Preset;
use crate::source::{FileFilter, Source};

mod clean;
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
mod rate;
mod read;
mod rekey;
mod restore;
mod restore_set;
mod settings;
mod status;
mod stores;
mod units;
mod verify;
mod view;

pub use clean::Clean;
pub use database::DatabaseBackup;
pub use doctor::Doctor;
pub use drill::Drill;
pub use explicit::ExplicitArg;
pub use files::FileOptions;
pub use generate::{completions, man_pages};
pub use meant::with_meaning;
pub use options::{BackupOptions, PassphraseOptions};
pub use plan::PlanOptions;
pub use prescan::{JOB_NAME, Prescan};
pub use preset::{DtrOptions, DtrPart, SwarmOptions, UcpOptions};
pub use prune::{Delete, Pin, Prune, Unpin};
use rate::rate;
pub use read::{Adopt, ArchiveOptions, Cat, Copy, Diff, FromStore, List, Ls, OpenOptions, Show};
pub use rekey::Rekey;
pub use restore::{Restore, RestoreArchive};
pub use restore_set::{Doing, RestoreSet};
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
    /// Check or show the settings file
    #[command(subcommand)]
    Config(Settings),
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  sealift completions bash > /etc/bash_completion.d/sealift")]
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
    /// The stdout of a command of this host
    #[command(
        after_help = "Nothing is listed unless the command ends with 0. Of a pipe, the shell reports the last command only, unless it is\ntold otherwise (pipefail). Its standard input is empty, and it does not see sealift's passphrase.\n\nExamples:\n  sealift backup command --job db --to s3://backups/prod -- pg_dump -Fc app\n  sealift backup command --job app --to s3://backups/prod -- kubectl exec deploy/db -- pg_dump app"
    )]
    Command {
        #[command(flatten)]
        options: Box<BackupOptions>,
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

/// A set to be backed up, as far as the command line says what it is.
#[derive(Debug)]
pub struct SetOptions {
    /// Its name.
    pub name: String,
    /// How the built-in set's jobs are made, where the settings do not say it.
    pub options: BackupOptions,
    /// The built-in set's jobs, in order.
    pub presets: Vec<Preset>,
    /// Go on with the next job when one has failed.
    pub keep_going: bool,
}

/// The jobs of the built-in set, in the order that the vendor's documents give.
fn presets(swarm: SwarmOptions, ucp: UcpOptions, dtr: DtrOptions) -> Vec<Preset> {
    vec![Preset::Swarm(swarm.into()), Preset::Ucp(ucp.into()), Preset::Dtr(dtr.into())]
}

impl Backup {
    /// The set that is to be backed up.
    ///
    /// # Errors
    /// What else it is.
    pub fn into_set(self) -> Result<SetOptions, Box<Backup>> {
        match self {
            Backup::Set { options, swarm, ucp, dtr, keep_going, set_name } => {
                let presets = presets(swarm, *ucp, *dtr);
                Ok(SetOptions { name: set_name, options: *options, presets, keep_going })
            }
            other => Err(Box::new(other)),
        }
    }

    /// What to back up, and how.
    ///
    /// # Errors
    /// It is a set, or a job without a settings file; an option is wrong.
    pub fn request(self) -> Result<(Subject, BackupRequest)> {
        let mut filter = FileFilter::default();
        let (subject, options) = match self {
            Backup::Run { options, run } => {
                (Subject::Source(Source::Run(Box::new(RunSpec::try_from(run)?))), options)
            }
            Backup::Exec { options, container, command } => {
                (Subject::Source(Source::Exec { container, command }), options)
            }
            Backup::Command { options, command } => (Subject::Source(Source::Command(command)), options),
            Backup::Volume { options, files, volumes } => {
                filter = files.filter()?;
                (Subject::Source(Source::Volume(volumes)), options)
            }
            Backup::Image { options, images } => (Subject::Source(Source::Image(images)), options),
            Backup::Path { options, files, dirs } => {
                filter = files.filter()?;
                (Subject::Source(Source::Path(dirs)), options)
            }
            Backup::Stdin { options } => (Subject::Source(Source::Stdin), options),
            Backup::Database(database) => database.subject(),
            Backup::Dtr { options, dtr } => (Subject::Preset(Preset::Dtr(dtr.into())), options),
            Backup::Ucp { options, ucp } => (Subject::Preset(Preset::Ucp(ucp.into())), options),
            Backup::Swarm { options, swarm } => (Subject::Preset(Preset::Swarm(swarm.into())), options),
            Backup::Set { set_name, .. } => {
                return Err(Error::usage(format!("{set_name} is a set, no job"))
                    .hint(format!("`sealift backup set {set_name}`")));
            }
            // With a settings file the job has become its source by now: see `config::CommandLine`.
            Backup::Job { job_name, .. } => {
                return Err(Error::usage(format!("there is no job {job_name} without a settings file"))
                    .hint("see `sealift config --help`"));
            }
        };
        Ok((subject, BackupRequest { files: filter, ..options.request()? }))
    }
}

/// A job's name: what is safe as a key in every store.
fn job_name(name: &str) -> Result<String> {
    name.parse().map(|name: JobName| name.into())
}

#[cfg(test)]
mod tests {
    use crate::report::Mode;
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn job_names_are_safe_as_keys() {
        for good in ["a", "team/db", "0.1_x-y", &"a".repeat(200)] {
            assert!(job_name(good).is_ok(), "{good}");
        }
        for bad in ["", "/", "a/", "a/../b", ".a", "A", "a b", "ä", &"a".repeat(201)] {
            assert!(job_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_set_and_a_job_without_settings_are_no_source() {
        let backup = |line: &str| match Cli::try_parse_from(line.split(' ')).unwrap().verb {
            Verb::Backup(backup) => backup,
            _ => panic!("no backup"),
        };
        let error = backup("sealift backup set night").request().unwrap_err();
        assert_eq!(error.to_string(), "night is a set, no job");
        let error = backup("sealift backup job db --to file:///x").request().unwrap_err();
        assert_eq!(error.to_string(), "there is no job db without a settings file");
        assert!(backup("sealift backup stdin --to file:///x").into_set().is_err());
        assert_eq!(backup("sealift backup set night --keep-going").into_set().unwrap().name, "night");
    }

    #[test]
    fn a_completion_script_knows_every_verb() {
        let script = String::from_utf8(completions(clap_complete::Shell::Bash)).unwrap();
        for verb in Cli::command().get_subcommands() {
            assert!(script.contains(verb.get_name()), "{}", verb.get_name());
        }
    }

    #[test]
    fn details_are_asked_for_by_the_same_word_everywhere_and_a_short_one_where_docker_has_none() {
        for line in [
            "list -v --from memory:///x",
            "-v list --from memory:///x",
            "backup path -v --to memory:///x /etc",
            "backup run --verbose --to memory:///x img",
            "restore db --verbose --to-stdout --from memory:///x",
            "restore set db --verbose --plan --from memory:///x",
        ] {
            let cli = Cli::try_parse_from(format!("sealift {line}").split(' ')).unwrap();
            assert!(cli.view.mode().1, "{line}");
        }
        let line = "sealift -q restore db --from memory:///x --to-run -v a:b img";
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        assert_eq!(cli.view.mode(), (Mode::Quiet, false));
    }

    #[test]
    fn everything_behind_the_image_is_the_containers() {
        let line =
            "sealift backup run --to file:///x -i --rm --log-driver none -e A=b img backup --to y -e C";
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        let Verb::Backup(backup) = cli.verb else { panic!("no backup") };
        let (Subject::Source(Source::Run(spec)), options) = backup.request().unwrap() else {
            panic!("no run")
        };
        assert_eq!(spec.command, ["backup", "--to", "y", "-e", "C"]);
        assert_eq!((spec.image.as_str(), spec.env.join(",")), ("img", "A=b".into()));
        assert_eq!(options.stores.iter().map(|to| to.url.as_str()).collect::<Vec<_>>(), ["file:///x"]);
    }

    #[test]
    fn a_terminal_is_refused_with_the_reason() {
        let cli = Cli::try_parse_from("sealift backup run --to file:///x -it img".split(' ')).unwrap();
        let Verb::Backup(backup) = cli.verb else { panic!("no backup") };
        let error = backup.request().unwrap_err();
        assert!(error.to_string().contains("-t") && error.kind().exit_code() == 2, "{error}");
    }

    #[test]
    fn no_option_takes_a_secret_itself() {
        fn options(command: &clap::Command, found: &mut Vec<String>) {
            found.extend(command.get_arguments().filter_map(|a| a.get_long().map(String::from)));
            command.get_subcommands().for_each(|c| options(c, found));
        }
        let mut found = Vec::new();
        options(&Cli::command(), &mut found);
        found.retain(|name| name.contains("pass"));
        let leads = |name: &String| name.ends_with("-file") || name.ends_with("-command");
        assert!(found.len() > 3 && found.iter().all(leads), "{found:?}");
    }
}
