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
mod tests {
    use super::*;
    use crate::cli::{Cli, Verb};
    use crate::job::version::Version;
    use clap::Parser;

    const ID: &str = "20261122T020000Z-1f2e3d4c";

    fn parse(line: &str) -> Verb {
        Cli::try_parse_from(line.split(' ')).unwrap_or_else(|e| panic!("{line}: {e}")).verb
    }

    fn refused(line: &str) -> clap::Error {
        Cli::try_parse_from(line.split(' ')).err().unwrap_or_else(|| panic!("{line} was taken"))
    }

    fn restore(line: &str) -> Result<RestoreRequest> {
        match parse(&format!("sealift restore --from memory:///x {line}")) {
            Verb::Restore(Restore::Archive(restore)) => restore.request(),
            other => panic!("{other:?}"),
        }
    }

    fn restore_set(line: &str) -> RestoreSet {
        match parse(line) {
            Verb::Restore(Restore::Set(set)) => *set,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_restore_reads_the_catalog_unless_asked_not_to() {
        assert!(
            matches!(restore("db --to-stdout").unwrap().source, RestoreSource::Archive(a) if a.job == "db")
        );
        let front = restore(&format!("db@{ID} --sequential --to-stdout")).unwrap().source;
        assert!(matches!(front, RestoreSource::Front(archive) if archive.version != Version::Latest));
        let object = restore("old/Dump.tar.gz.gpg --object --to-stdout").unwrap().source;
        assert!(matches!(object, RestoreSource::Object(key) if key == "old/Dump.tar.gz.gpg"));
    }

    #[test]
    fn an_archive_to_restore_must_be_one() {
        let error = restore("Upper --to-stdout").unwrap_err();
        assert_eq!(error.kind().exit_code(), 2);
        assert!(error.to_string().contains("is no job name"), "{error}");
    }

    #[test]
    fn every_target_is_read() {
        let target = |line: &str| restore(line).unwrap().target;
        assert!(matches!(target("db --to-stdout"), RestoreTarget::Stdout));
        assert!(matches!(target("db --to-path /mnt"), RestoreTarget::Path(dir) if dir.ends_with("mnt")));
        assert!(matches!(target("db --to-volume v"), RestoreTarget::Volume(name) if name == "v"));
        assert!(matches!(target("db --to-image"), RestoreTarget::Image));
        let RestoreTarget::Exec(container, command) = target("db --to-exec c psql -U x") else {
            panic!("no exec")
        };
        assert_eq!((container.as_str(), command.join(" ").as_str()), ("c", "psql -U x"));
        let RestoreTarget::Run(spec) = target("db --to-run -e A=b img restore --to-path y") else {
            panic!("no run")
        };
        assert_eq!((spec.image.as_str(), spec.command.join(" ")), ("img", "restore --to-path y".into()));
    }

    #[test]
    fn words_that_are_missing_or_stray_are_named() {
        for (line, text) in [
            ("db --to-stdout more", "unexpected \"more\""),
            ("db --to-exec", "--to-exec needs a container and a command"),
            ("db --to-exec c", "--to-exec needs a container and a command"),
            ("db --to-run", "--to-run: "),
            ("db --to-run -t img", "-t (--tty) is refused"),
        ] {
            let error = restore(line).unwrap_err();
            assert!(error.to_string().starts_with(text), "{line}: {error}");
            assert!(error.kind().exit_code() == 2 && error.hint_text().is_some(), "{line}");
        }
    }

    #[test]
    fn a_dry_run_needs_a_catalog() {
        assert!(restore("db -n --to-stdout").unwrap().dry_run && !restore("db --to-stdout").unwrap().dry_run);
        for line in ["db -n --sequential --to-stdout", "x.gz --dry-run --object --to-stdout"] {
            let error = refused(&format!("sealift restore --from memory:///x {line}"));
            assert_eq!(error.kind(), ErrorKind::ArgumentConflict, "{line}");
        }
    }

    #[test]
    fn what_is_selected_and_allowed_reaches_the_request() {
        let request = restore("db --to-path d --include a --include b --exclude c --overwrite").unwrap();
        assert_eq!((request.include.join(","), request.exclude.join(",")), ("a,b".into(), "c".into()));
        assert!(request.overwrite && !request.allow_devices && !request.open.no_encrypt);
        assert!(restore("db --to-path d --allow-devices --no-encrypt").unwrap().open.no_encrypt);
    }

    #[test]
    fn of_several_volumes_one_is_said_or_all_are() {
        let one = restore("vs --to-volume new --from-volume b").unwrap();
        assert!(matches!(one.target, RestoreTarget::Volume(name) if name == "new"));
        assert_eq!(one.from_volume.as_deref(), Some("b"));
        assert!(matches!(restore("vs --to-volumes").unwrap().target, RestoreTarget::Volumes));
        for line in [
            "vs --to-volumes --from-volume b",
            "vs --to-path d --from-volume b",
            "vs --to-volumes --to-volume b",
            "vs --to-volumes --sequential",
            "vs --to-volume b --from-volume b --object",
        ] {
            refused(&format!("sealift restore --from memory:///x {line}"));
        }
    }

    #[test]
    fn the_words_of_a_step_are_those_of_the_command_line() {
        let open = || restore("db --to-stdout --no-encrypt").unwrap().open;
        let words = |line: &str| line.split(' ').map(String::from).collect::<Vec<_>>();
        let archive = format!("db@{ID}");
        let request =
            RestoreArchive::request_of_words(&archive, &words("--to-path /srv --overwrite"), open()).unwrap();
        assert!(matches!(request.target, RestoreTarget::Path(dir) if dir.ends_with("srv")));
        assert!(request.overwrite && request.open.no_encrypt);
        let run = "--to-run --name ucp -v /a:/a --security-opt label=disable docker/ucp:3 restore";
        let request = RestoreArchive::request_of_words(&archive, &words(run), open()).unwrap();
        let RestoreTarget::Run(spec) = request.target else { panic!("no run") };
        assert_eq!((spec.name.as_deref(), spec.image.as_str()), (Some("ucp"), "docker/ucp:3"));
        assert_eq!((spec.volumes.join(","), spec.command.join(" ")), ("/a:/a".into(), "restore".into()));
        let error = RestoreArchive::request_of_words(&archive, &words("--to-moon"), open()).unwrap_err();
        assert!(
            error.to_string().contains("no words of `restore`") && error.kind().exit_code() == 2,
            "{error}"
        );
    }

    #[test]
    fn a_restore_has_one_target() {
        let missing = refused("sealift restore db --from memory:///x");
        assert_eq!(missing.kind(), ErrorKind::MissingRequiredArgument);
        let both = refused("sealift restore db --to-stdout --to-image --from memory:///x");
        assert_eq!(both.kind(), ErrorKind::ArgumentConflict);
    }

    #[test]
    fn set_is_a_subcommand_of_restore_wherever_its_options_stand() {
        for line in [
            "sealift restore set x --plan --from memory:///a",
            "sealift restore --from memory:///a set x --plan",
            "sealift restore --from=memory:///b set x --plan --from memory:///a",
            "sealift --quiet restore --from memory:///a set --plan x",
        ] {
            let set = restore_set(line);
            assert_eq!(
                (set.set.as_str(), set.open.from.from.as_deref()),
                ("x", Some("memory:///a")),
                "{line}"
            );
            assert!(!set.open.no_encrypt, "{line}");
        }
    }

    #[test]
    fn what_opens_the_archives_of_a_set_may_stand_before_it() {
        assert!(restore_set("sealift restore --from memory:///a --no-encrypt set x --plan").open.no_encrypt);
        assert!(restore_set("sealift restore --from memory:///a set x --plan --no-encrypt").open.no_encrypt);
        let set = restore_set("sealift restore --passphrase-file f --from memory:///a set x --plan");
        assert_eq!(set.open.request().unwrap().passphrase.file.as_deref(), Some("f"));
    }

    #[test]
    fn a_set_says_what_it_lacks() {
        let lacks = |line: &str, word: &str| {
            let error = refused(line);
            assert_eq!(error.kind(), ErrorKind::MissingRequiredArgument, "{line}");
            assert!(error.to_string().contains(word), "{error}");
        };
        lacks("sealift restore set x --plan", "--from <STORE>");
        lacks("sealift restore set --plan --from memory:///a", "<SET>");
    }

    #[test]
    fn a_set_takes_no_target_and_no_members() {
        for (line, stray) in [
            ("sealift restore --to-stdout set x --plan --from memory:///a", "--to-stdout"),
            ("sealift restore --include y set x --plan --from memory:///a", "--include"),
            ("sealift restore set x --plan --to-stdout --from memory:///a", "--to-stdout"),
            ("sealift restore db set x --plan --from memory:///a", "set"),
        ] {
            let error = refused(line);
            assert_eq!((error.kind(), error.exit_code()), (ErrorKind::UnknownArgument, 2), "{line}");
            assert!(error.to_string().contains(stray), "{error}");
        }
    }

    #[test]
    fn only_the_word_set_is_a_subcommand() {
        for line in [
            format!("set@{ID} --to-stdout"),
            "sets --to-stdout".into(),
            "help --to-stdout".into(),
            "db --to-exec -- set psql".into(),
            "db --to-run img set".into(),
        ] {
            assert!(restore(&line).is_ok(), "{line}");
        }
    }
}
