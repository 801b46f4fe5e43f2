//! The words of `restore`.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::restore_set::{RestoreSet, StepOptions};
use super::{FromStore, OpenOptions, PassphraseOptions, StoreAt, docker_run};
use crate::error::{Error, Result};
use crate::job::restore::{RestoreRequest, RestoreSource};
use crate::job::stored::OpenRequest;
use crate::sink::target::RestoreTarget;

/// `restore`
#[derive(Debug)]
pub enum Restore {
    /// `restore ARCHIVE`
    Archive(Box<RestoreArchive>),
    /// `restore set SET`
    Set(Box<RestoreSet>),
}

impl Restore {
    /// Whether stdout carries what is restored, or what commands print.
    pub fn writes_data(&self) -> bool {
        match self {
            Restore::Archive(_) => true,
            Restore::Set(set) => !set.steps.is_plan(),
        }
    }
}

/// The subcommand of `restore`.
const SET: &str = "set";

impl Args for Restore {
    fn augment_args(command: Command) -> Command {
        let set = RestoreSet::augment_args(Command::new(SET)).mut_arg("from", |from| from.required(false));
        let set = set.about("Bring a set back, step by step");
        // The text below the help of `restore` names it; in its usage it would look like one of the words.
        let set = set.hide(true);
        // What stands before `set` holds for it: see `from_arg_matches`.
        let archive = RestoreArchive::augment_args(command).mut_arg("from", |from| from.required(false));
        ["ca_file", "passphrase_file", "passphrase_command", "no_encrypt", "limit_rate"]
            .into_iter()
            .fold(archive, |command, id| command.mut_arg(id, |arg| arg.global(true)))
            .subcommand(set)
            .subcommand_negates_reqs(true)
            .disable_help_subcommand(true)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Restore {
    fn from_arg_matches(matches: &ArgMatches) -> std::result::Result<Self, clap::Error> {
        let missing = || {
            let words = ContextValue::Strings(vec!["--from <STORE>".into()]);
            clap_error(ErrorKind::MissingRequiredArgument, words)
        };
        let Some((SET, set)) = matches.subcommand() else {
            let restore = RestoreArchive::from_arg_matches(matches)?;
            return match restore.open.from.from.is_some() || restore.reads_stdin() {
                true => Ok(Restore::Archive(Box::new(restore))),
                false => Err(missing()),
            };
        };
        let given =
            |matches: &ArgMatches, id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
        if let Some(stray) = not_of_a_set(|id| given(matches, id)) {
            return Err(clap_error(ErrorKind::UnknownArgument, ContextValue::String(stray)));
        }
        let before = given(matches, "from") && !given(set, "from");
        let from = if before { matches } else { set }.get_one::<StoreAt>("from");
        let open = OpenOptions {
            from: FromStore {
                from: Some(from.ok_or_else(missing)?.clone()),
                ca_file: set.get_one("ca_file").cloned(),
            },
            passphrase: PassphraseOptions::from_arg_matches(set)?,
            no_encrypt: set.get_flag("no_encrypt"),
            limit_rate: set.get_one("limit_rate").cloned(),
        };
        let name = set.get_one::<String>("set").cloned().unwrap_or_default();
        let steps = StepOptions::of(set)?;
        Ok(Restore::Set(Box::new(RestoreSet { set: name, open, steps })))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> std::result::Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn clap_error(kind: ErrorKind, argument: ContextValue) -> clap::Error {
    let mut error = clap::Error::new(kind);
    error.insert(ContextKind::InvalidArg, argument);
    error
}

/// An argument of `restore ARCHIVE` that stands before `set`, and means nothing there.
fn not_of_a_set(given: impl Fn(&str) -> bool) -> Option<String> {
    let open = OpenOptions::augment_args(Command::new(SET));
    let taken = |id: &clap::Id| id == "verbose" || open.get_arguments().any(|arg| arg.get_id() == id);
    let restore = RestoreArchive::augment_args(Command::new("restore"));
    let stray = restore.get_arguments().find(|arg| !taken(arg.get_id()) && given(arg.get_id().as_str()))?;
    Some(stray.get_long().map_or_else(|| SET.into(), |long| format!("--{long}")))
}

/// `restore ARCHIVE`
#[derive(Debug, Args)]
#[command(after_help = RESTORE_EXAMPLES)]
#[command(override_usage = "sealift restore [OPTIONS] --from <STORE> --to-… <ARCHIVE>")]
#[command(group = clap::ArgGroup::new("sink").required(true))]
pub struct RestoreArchive {
    /// JOB (its newest archive), or JOB@ID
    ///
    /// An id's beginning will do, as in JOB@20261122T02; JOB@2026-11-22 is a day's last, JOB@latest the newest. With
    /// --object it is the key of an object in the store, or - for standard input.
    #[arg(value_name = "ARCHIVE")]
    archive: String,
    #[command(flatten)]
    open: OpenOptions,
    /// Write the source's bytes to stdout
    #[arg(long, group = "sink")]
    to_stdout: bool,
    /// Unpack a tar into a folder of this host
    #[arg(long, group = "sink", value_name = "DIR")]
    to_path: Option<std::path::PathBuf>,
    /// Unpack a volume's archive into a volume
    ///
    /// Which is made when it is not there.
    #[arg(long, group = "sink", value_name = "VOLUME")]
    to_volume: Option<String>,
    /// The archive's volume, where --to-volume names another
    ///
    /// An archive of several volumes gives the one that --to-volume names, unless another is said here.
    #[arg(
        long,
        value_name = "VOLUME",
        requires = "to_volume",
        conflicts_with_all = [
            "to_stdout", "to_path", "to_volumes", "to_run", "to_exec", "to_image", "sequential", "object"
        ]
    )]
    from_volume: Option<String>,
    /// Restore every volume of the archive under its own name
    ///
    /// Each is made when it is not there. Nothing is written where one of them is not empty, unless --overwrite is given.
    #[arg(long, group = "sink", conflicts_with_all = ["sequential", "object"])]
    to_volumes: bool,
    /// Pipe into a new container: IMAGE [ARG…], last
    ///
    /// [docker run options] IMAGE [ARG…] must come last.
    #[arg(long, group = "sink")]
    to_run: bool,
    /// Pipe into a command: CONTAINER CMD [ARG…], last
    ///
    /// In a running container: CONTAINER CMD [ARG…] must come last.
    #[arg(long, group = "sink")]
    to_exec: bool,
    /// Load an archive of images into the engine
    #[arg(long, group = "sink")]
    to_image: bool,
    /// Members to restore, and what is below them; repeatable
    ///
    /// As `ls` shows them: `\xHH` is a byte that is not UTF-8.
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// Members to leave out; repeatable
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Unpack although the target is not empty
    #[arg(long)]
    overwrite: bool,
    /// Unpack device nodes too
    #[arg(long)]
    allow_devices: bool,
    /// Restore nothing; tell what would be, and where to
    ///
    /// Reads the catalog, looks whether the target is empty, and fails where the restore would be refused
    #[arg(short = 'n', long, conflicts_with_all = ["sequential", "object"])]
    dry_run: bool,
    /// Leave out members of a tar that are damaged, or lie in an older archive that is gone; they are named, with exit
    /// code 3. Everything is read twice
    #[arg(long, conflicts_with_all = ["sequential", "object"])]
    skip_damaged: bool,
    /// Read from the front, without the catalog: for an archive whose catalog is lost. Bytes are handed on before the
    /// final check: when that fails, the target is incomplete
    #[arg(long, conflicts_with_all = ["include", "exclude"])]
    sequential: bool,
    /// ARCHIVE is the key of any object, as `tar | zstd | gpg` made it: OpenPGP, zstd, gzip, xz, bzip2 and LZ4 are found
    /// by their magic numbers. Read from the front, as with --sequential
    #[arg(long, conflicts_with_all = ["include", "exclude"])]
    object: bool,
    /// As for every verb; -v is docker's here
    #[arg(long = "verbose", id = "verbose", global = true)]
    own_verbose: bool,
    /// What --to-run and --to-exec take
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WORDS")]
    words: Vec<String>,
}

const RESTORE_EXAMPLES: &str = "\
Nothing is handed on that the sealed catalog does not confirm. Names that lead outside of the target and device nodes
are refused before anything is unpacked (exit code 14); the slash before a name is taken off. Nothing is written through
a link that stands in the target or comes with the archive. What the target cannot hold (owners, attributes, ACLs) is
said once, with exit code 3.

Examples:
  sealift restore db --to-stdout --from s3://backups/prod | psql -U postgres
  sealift restore registry --to-volume dtr-registry-0123456789ab --from s3://backups/prod
  sealift restore volumes --to-volume web-test --from-volume web --from s3://backups/prod
  sealift restore volumes --to-volumes --from s3://backups/prod
  sealift restore host --to-path /mnt/new --include 'etc/*' --from s3://backups/prod
  sealift restore host --to-path /mnt/new --include 'etc/*' --from s3://backups/prod --dry-run
  sealift restore dtr/metadata --from s3://backups/prod --to-run --env-file ucp.env docker/dtr:2.7.5 restore
  sealift restore old/dtr-2019.tar.gz.gpg --object --to-path /mnt/new --from s3://backups/prod
  gpg -d dtr-2016.tar.gz.gpg | sealift restore --object - --to-path /mnt/new

`sealift restore set NAME` brings a whole set back, step by step: see `sealift restore set --help`.

Check the exit code: where bytes were written before a failure, they are right but not all. With --to-run and --to-exec
it is the process's own, when the process had all bytes.";

impl RestoreArchive {
    /// What to restore, and where to.
    ///
    /// # Errors
    /// ARCHIVE is none; words that are missing, or that nobody asked for.
    pub fn request(self) -> Result<RestoreRequest> {
        let open = match self.reads_stdin() {
            true => self.open.without_store(),
            false => self.open.request()?,
        };
        self.request_with(open)
    }

    /// What the words of a plan's step restore, of an archive that is opened so.
    ///
    /// # Errors
    /// They are no words of `restore`.
    pub fn request_of_words(archive: &str, words: &[String], open: OpenRequest) -> Result<RestoreRequest> {
        let command = Self::augment_args(Command::new("restore").no_binary_name(true));
        let command = command.mut_arg("from", |from| from.required(false));
        let words = [archive].into_iter().chain(words.iter().map(String::as_str));
        let parsed = command.try_get_matches_from(words).and_then(|matches| Self::from_arg_matches(&matches));
        let parsed = parsed.map_err(|error| {
            let first = error.to_string().lines().next().unwrap_or_default().replace("error: ", "");
            Error::usage(format!("these are no words of `restore`: {first}")).hint("do this step by hand")
        })?;
        parsed.request_with(open)
    }

    fn request_with(self, open: OpenRequest) -> Result<RestoreRequest> {
        Ok(RestoreRequest {
            source: self.source()?,
            target: self.target()?,
            open,
            from_volume: self.from_volume,
            include: self.include,
            exclude: self.exclude,
            overwrite: self.overwrite,
            allow_devices: self.allow_devices,
            skip_damaged: self.skip_damaged,
            dry_run: self.dry_run,
        })
    }

    fn reads_stdin(&self) -> bool {
        self.object && self.archive == "-"
    }

    fn source(&self) -> Result<RestoreSource> {
        Ok(match (self.object, self.sequential) {
            (true, _) if self.reads_stdin() => RestoreSource::Stdin,
            (true, _) => RestoreSource::Object(self.archive.clone()),
            (false, true) => RestoreSource::Front(self.archive.parse()?),
            (false, false) => RestoreSource::Archive(self.archive.parse()?),
        })
    }

    fn target(&self) -> Result<RestoreTarget> {
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
            _ if self.to_volumes => RestoreTarget::Volumes,
            _ if self.to_image => RestoreTarget::Image,
            _ => RestoreTarget::Stdout,
        })
    }
}

#[cfg(test)]
mod tests;
