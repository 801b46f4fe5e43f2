//! What `backup` is asked for, as plain requests.

use super::{Backup, BackupOptions, DtrOptions, SwarmOptions, UcpOptions};
use crate::docker::run::RunSpec;
use crate::error::{Error, Result};
use crate::job::Subject;
use crate::job::backup::BackupRequest;
use crate::job::discover::Discover;
use crate::preset::Preset;
use crate::source::{FileFilter, Source};

pub(super) const DISCOVER_HELP: &str = "\
Each has a job of its own: sealift.job=NAME, or the name of the volume or container; volumes with one job are one archive.
sealift.exclude=PATTERN,… leaves files of a volume out. Containers that use a volume and say sealift.stop-during-backup or
another label of --quiesce are held still while it is read. Labels of services count for their containers on this node.
What fails does not keep the others from being made. Volumes that nobody covers are told; sealift.backup=false says that one
need not be. The set is called discover, or --job NAME. -n, or `sealift plan discover`, shows all that.

Examples:
  docker volume create --label sealift.backup=true wiki
  sealift backup discover --to s3://backups/prod
  sealift backup discover --require-all -n --to s3://backups/prod";

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
pub(super) fn presets(swarm: SwarmOptions, ucp: UcpOptions, dtr: DtrOptions) -> Vec<Preset> {
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
        let (mut filter, mut held) = (FileFilter::default(), None);
        let (subject, options) = match self {
            Backup::Run { options, quiesce, run } => {
                held = quiesce.request()?;
                (Subject::Source(Source::Run(Box::new(RunSpec::try_from(run)?))), options)
            }
            Backup::Exec { options, quiesce, container, command } => {
                held = quiesce.request()?;
                (Subject::Source(Source::Exec { container, command }), options)
            }
            Backup::Command { options, quiesce, command } => {
                held = quiesce.request()?;
                (Subject::Source(Source::Command(command)), options)
            }
            Backup::Volume { options, files, quiesce, volumes } => {
                held = quiesce.request()?;
                filter = files.filter()?;
                (Subject::Source(Source::Volume(volumes)), options)
            }
            Backup::Image { options, quiesce, images } => {
                held = quiesce.request()?;
                (Subject::Source(Source::Image(images)), options)
            }
            Backup::Path { options, files, quiesce, dirs } => {
                held = quiesce.request()?;
                filter = files.filter()?;
                (Subject::Source(Source::Path(dirs)), options)
            }
            Backup::Stdin { options } => (Subject::Source(Source::Stdin), options),
            Backup::Database(database) => database.subject(),
            Backup::Dtr { options, dtr } => (Subject::Preset(Preset::Dtr(dtr.into())), options),
            Backup::Ucp { options, ucp } => (Subject::Preset(Preset::Ucp(ucp.into())), options),
            Backup::Swarm { options, swarm } => (Subject::Preset(Preset::Swarm(swarm.into())), options),
            Backup::Discover { options, require_all } => {
                (Subject::Discover(Discover { require_all, elsewhere: Vec::new() }), options)
            }
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
        Ok((subject, BackupRequest { files: filter, quiesce: held, ..options.request()? }))
    }
}
