//! Jobs of the settings file as plain requests, with what the command line says beside them.

use std::ffi::OsString;
use std::sync::Arc;

use clap::{Command, CommandFactory, FromArgMatches};

use super::command_line::our_error;
use super::{Config, Job, Setting, Table, defaults};
use crate::cli::{Backup, Cli, ExplicitArg};
use crate::error::{Error, Result};
use crate::job::Subject;
use crate::job::backup::BackupRequest;
use crate::preset::secret_of_setting;

impl Config {
    /// What a job backs up, and how. Options that are `explicit` win over the job's own.
    ///
    /// # Errors
    /// There is no such job, it lacks something, or an option is wrong.
    pub fn job(&self, name: &str, explicit: &[ExplicitArg]) -> Result<(Subject, BackupRequest)> {
        let job = self.known_job(name)?;
        let root = Arc::new(self.store_names(Some(job))).known_to(Cli::command());
        let source = defaults::sources(&root).find(|source| source.get_name() == job.source);
        let source = source.ok_or_else(|| Error::usage(format!("{name:?} is no job")))?;
        let ids: Vec<_> = explicit.iter().map(|arg| arg.id.clone()).collect();
        let source = self.job_source(source.clone(), job, &ids);
        let options = explicit.iter().flat_map(|arg| arg.words.iter().cloned());
        let words = std::iter::once(OsString::from(&job.source)).chain(options);
        let backup = Command::new("backup").no_binary_name(true).subcommand(source);
        let matches = backup.try_get_matches_from(words).and_then(|m| Backup::from_arg_matches(&m));
        let backup = matches.map_err(|error| {
            our_error(&error).unwrap_or_else(|| {
                let (text, hint) = defaults::reason(&error);
                Error::usage(format!("job {name}: {text}"))
                    .hint(hint.unwrap_or_else(|| format!("see `sealift backup job {name} --help`")))
            })
        })?;
        backup.request()
    }

    /// The command of a job's source, with what the job and the file's top say as the defaults of its arguments.
    pub(super) fn job_source(&self, source: Command, job: &Job, explicit: &[String]) -> Command {
        self.with_defaults(source, &[&job.table, &job.named(), &self.top], explicit)
    }

    /// The settings that hold for a job, those of the file's top among them.
    pub fn in_force<'a>(&'a self, job: &'a Job) -> Vec<&'a Setting> {
        let root = Arc::new(self.store_names(Some(job))).known_to(Cli::command());
        let source = defaults::sources(&root).find(|source| source.get_name() == job.source);
        let own = job.table.settings.iter().filter(|setting| setting.gives());
        let force = source.map(|source| defaults::in_force(source, &[&job.table, &self.top], &[]));
        let top = force.into_iter().flatten().filter(|setting| job.table.get(&setting.key).is_none());
        let top = top.chain(self.scheduled_from_top(&job.table));
        own.chain(top).collect()
    }

    /// The command with what these tables give it, an earlier one first.
    pub(super) fn with_defaults(&self, command: Command, tables: &[&Table], explicit: &[String]) -> Command {
        let mut settings = defaults::in_force(&command, tables, explicit);
        let of_stores = defaults::store_command();
        // What differs from store to store goes with the store: see `StoreNames`.
        settings.retain(|setting| of_stores.get_arguments().all(|arg| *arg.get_id() != *setting.key));
        let overruled = |key: &str| secret_of_setting(key).and_then(|secret| secret.variable()).is_some();
        settings.retain(|setting| !overruled(&setting.key));
        defaults::with_defaults(command, &settings)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::super::tests::config;
    use super::*;
    use crate::archive::Format;
    use crate::archive::frame::Codec;
    use crate::job::backup::WarnOk;
    use crate::source::Source;

    /// Two stores, two jobs, a set.
    pub const TWO: &str = "to = \"near\"\nretry_for = \"9m\"\nstorage_class = \"TOP\"\n\
        [stores.near]\nurl = \"memory:///near\"\nretry_for = \"7m\"\n\
        [stores.far]\nurl = \"memory:///far\"\nstorage_class = \"FAR\"\n\
        [jobs.a]\nsource = \"volume\"\nvolumes = [\"v\", \"w\"]\nallow_empty = true\n\
        [jobs.b]\nsource = \"exec\"\ncontainer = \"db\"\ncommand = [\"dump\", \"-U\", \"x\"]\nto = [\"near\", \"far\"]\n\
        storage_class = \"JOB\"\nparallel = 2\n\
        [sets.night]\njobs = [\"b\", \"a\"]\n";

    /// Options as the command line gives them: `level=3`, or `no_encrypt`.
    fn explicit(options: &[&str]) -> Vec<ExplicitArg> {
        let arg = |option: &&str| {
            let (id, value) = option.split_once('=').map_or((*option, None), |(id, value)| (id, Some(value)));
            let long = id.replace('_', "-");
            let word = value.map_or(format!("--{long}"), |value| format!("--{long}={value}"));
            ExplicitArg { id: id.into(), words: vec![word.into()] }
        };
        options.iter().map(arg).collect()
    }

    /// A job of one table, with a store.
    fn one(table: &str) -> Result<(Subject, BackupRequest)> {
        let (config, problems) = config(&format!("to = \"memory:///x\"\n[jobs.j]\n{table}"));
        assert_eq!(problems, [], "{table}");
        config.job("j", &[])
    }

    fn source(table: &str) -> Source {
        match one(table).unwrap().0 {
            Subject::Source(source) => source,
            other => panic!("{other:?}"),
        }
    }

    /// A job that backs a folder up, with these settings.
    fn path(settings: &str) -> Result<BackupRequest> {
        one(&format!("source = \"path\"\ndirs = [\"/d\"]\n{settings}")).map(|(_, request)| request)
    }

    #[test]
    fn a_job_is_a_source_and_its_request() {
        let (config, problems) = config(TWO);
        assert_eq!(problems, []);
        let (source, request) = config.job("a", &[]).unwrap();
        assert!(matches!(source, Subject::Source(Source::Volume(names)) if names == ["v", "w"]));
        assert!(request.allow_empty && request.parallel == usize::from(crate::archive::budget::PARALLEL));
        assert_eq!(request.job.as_deref(), Some("a"));
        let (source, request) = config.job("b", &explicit(&["parallel=3"])).unwrap();
        let Subject::Source(Source::Exec { container, command }) = source else { panic!("no exec") };
        assert_eq!((container.as_str(), command.join(" ").as_str()), ("db", "dump -U x"));
        assert_eq!(request.parallel, 3);
        assert_eq!(config.job("c", &[]).unwrap_err().kind().exit_code(), 2);
    }

    #[test]
    fn an_option_that_the_source_does_not_have_is_refused() {
        let (config, _) = config(TWO);
        let error = config.job("a", &explicit(&["levle"])).unwrap_err();
        assert_eq!(error.to_string(), "job a: unexpected argument '--levle' found");
        assert_eq!(error.hint_text(), Some("see `sealift backup job a --help`"));
        let error = config.job("a", &explicit(&["env=A=1"])).unwrap_err();
        assert!(error.to_string().contains("'--env' found"), "{error}");
    }

    #[test]
    fn a_value_that_an_option_does_not_take_is_named_with_its_reason() {
        let (config, _) = config(TWO);
        let error = config.job("a", &explicit(&["memory=much"])).unwrap_err();
        assert_eq!(error.to_string(), "--memory <SIZE>: \"much\" is no size");
        assert_eq!(error.hint_text(), Some("write 64MiB, 1GiB or a number of bytes"));
        let error = config.job("a", &explicit(&["to=naer"])).unwrap_err();
        assert_eq!(error.to_string(), "--to <STORE>: \"naer\" is no store");
    }

    #[test]
    fn a_stores_options_are_its_own() {
        let (config, _) = config(TWO);
        let used = |job: &str, more: &[&str]| {
            let (_, request) = config.job(job, &explicit(more)).unwrap();
            let used = request.stores.into_iter().map(|store| {
                let class = store.options.storage_class.unwrap_or_default();
                (store.url, class, store.options.retry_for.as_secs() / 60)
            });
            used.collect::<Vec<_>>()
        };
        let expected = |url: &str, class: &str, minutes: u64| (url.to_string(), class.to_string(), minutes);
        assert_eq!(used("a", &[]), [expected("memory:///near", "TOP", 7)]);
        assert_eq!(used("a", &["to=far"]), [expected("memory:///far", "FAR", 9)]);
        assert_eq!(
            used("b", &[]),
            [expected("memory:///near", "JOB", 7), expected("memory:///far", "JOB", 9)]
        );
        let given = used("b", &["storage_class=FLAG", "retry_for=1m", "to=memory:///x"]);
        assert_eq!(given, [expected("memory:///x", "FLAG", 1)]);
    }

    #[test]
    fn images_folders_and_standard_input_are_sources() {
        assert!(
            matches!(source("source = \"image\"\nimages = [\"a:1\", \"b:2\"]"), Source::Image(names) if names == ["a:1", "b:2"])
        );
        assert!(matches!(source("source = \"path\"\ndirs = \"/d\""), Source::Path(dirs) if dirs == ["/d"]));
        assert!(matches!(source("source = \"stdin\""), Source::Stdin));
    }

    #[test]
    fn a_container_to_run_has_its_image_and_command() {
        let run = |table: &str| match source(&format!("source = \"run\"\n{table}")) {
            Source::Run(spec) => spec,
            other => panic!("{other:?}"),
        };
        let spec =
            run("image = \"bb:1\"\nenv = [\"A=1\", \"B=2\"]\nentrypoint = \"sh\"\ncommand = [\"-c\", \"x\"]");
        assert_eq!((spec.image.as_str(), spec.command.join(" ").as_str()), ("bb:1", "-c x"));
        assert_eq!((spec.env.join(","), spec.entrypoint.as_deref()), ("A=1,B=2".into(), Some("sh")));
        let spec = run("image = \"bb:1\"\nprivileged = true");
        assert!(spec.image == "bb:1" && spec.command.is_empty() && spec.privileged);
    }

    #[test]
    fn a_terminal_in_a_job_is_refused() {
        let error = one("source = \"run\"\nimage = \"i\"\ntty = true").unwrap_err();
        assert!(error.to_string().starts_with("-t (--tty) is refused"), "{error}");
    }

    #[test]
    fn presets_are_jobs_under_their_own_names() {
        for preset in ["swarm", "ucp", "dtr"] {
            let (subject, request) = one(&format!("source = \"{preset}\"")).unwrap();
            assert!(matches!(&subject, Subject::Preset(found) if found.job() == preset));
            assert_eq!(request.job.as_deref(), Some("j"));
            assert_eq!(subject.default_job().as_deref(), Some(preset));
        }
        assert!(
            one("source = \"swarm\"\nwith_unlock_key = true")
                .is_ok_and(|(subject, _)| matches!(subject, Subject::Preset(preset) if preset.is_secret()))
        );
    }

    #[test]
    fn a_job_has_its_archives_under_its_own_name_unless_it_says_another() {
        assert_eq!(path("").unwrap().job.as_deref(), Some("j"));
        assert_eq!(path("job = \"team/other\"").unwrap().job.as_deref(), Some("team/other"));
    }

    #[test]
    fn what_nothing_says_has_its_usual_value() {
        let request = path("").unwrap();
        assert_eq!((request.budget.codec, request.budget.level), (Codec::Zstd, Codec::Zstd.default_level()));
        assert_eq!((request.budget.memory, request.budget.part_size), (256 << 20, None));
        assert!(request.budget.workers >= 1 && request.limit_rate.is_none() && request.format.is_none());
        assert!(request.encryption.is_some() && !request.allow_empty && !request.strict);
        assert!(request.warn_ok.is_empty() && request.check.is_empty() && request.nice.is_none());
        assert_eq!(request.stores[0].options.retry_for, Duration::from_secs(300));
    }

    #[test]
    fn every_kind_of_value_is_taken() {
        let request = path(
            "compress = \"zstd\"\nlevel = 9\nmemory = \"512MiB\"\nworkers = 3\npart_size = \"64MiB\"\nmax_parts = 1000\n\
             limit_rate = \"10MiB/s\"\nnice = 5\nio_nice = \"idle\"\nformat = \"tar\"\nstrict = true\n\
             warn_ok = [\"changed\", \"links\"]\nexpect = [\"a\", \"b\"]\nmin_entries = 2\ncipher = \"aead\"",
        )
        .unwrap();
        let budget = request.budget;
        assert_eq!((budget.codec, budget.level, budget.workers), (Codec::Zstd, 9, 3));
        assert_eq!(
            (budget.memory, budget.part_size, budget.max_parts),
            (512 << 20, Some(64 << 20), Some(1000))
        );
        assert_eq!(
            (request.limit_rate, request.nice),
            (Some(crate::store::rate::Timetable::always(Some(10 << 20))), Some(5))
        );
        assert!(request.io_nice == Some(crate::host::priority::IoNice::Idle) && request.strict);
        assert_eq!(
            (request.format, &request.warn_ok[..]),
            (Some(Format::Tar), &[WarnOk::Changed, WarnOk::Links][..])
        );
        assert_eq!(request.check.unmet().len(), 3);
        assert_eq!(request.encryption.unwrap().cipher, crate::archive::openpgp::Cipher::Aead);
    }

    #[test]
    fn a_level_that_the_codec_does_not_have_is_refused() {
        let error = path("compress = \"gzip\"\nlevel = 30").unwrap_err();
        assert_eq!(error.to_string(), "gzip has no level 30");
        assert!(error.hint_text().is_some_and(|hint| hint.ends_with(" to 9")));
        assert!(path("compress = \"zstd\"\nlevel = 19").is_ok());
    }

    #[test]
    fn a_pattern_that_is_none_is_refused() {
        assert_eq!(path("expect = \"[a\"").unwrap_err().kind().exit_code(), 2);
    }

    #[test]
    fn an_archive_is_sealed_unless_the_job_says_otherwise() {
        assert!(path("no_encrypt = true").unwrap().encryption.is_none());
        assert!(path("no_encrypt = false").unwrap().encryption.is_some());
        let passphrase = path("passphrase_file = \"p\"").unwrap().encryption.unwrap().passphrase;
        assert_eq!((passphrase.file.as_deref(), passphrase.command), (Some("p"), None));
        let passphrase = path("passphrase_command = \"c\"").unwrap().encryption.unwrap().passphrase;
        assert_eq!((passphrase.command.as_deref(), passphrase.file), (Some("c"), None));
    }

    #[test]
    fn an_option_puts_the_setting_that_it_excludes_out_of_force() {
        let (config, problems) = config(
            "to = \"memory:///x\"\npassphrase_file = \"top\"\n[jobs.j]\nsource = \"stdin\"\npassphrase_command = \"c\"\n",
        );
        assert_eq!(problems, []);
        let sources = |more: &[&str]| {
            let encryption = config.job("j", &explicit(more)).unwrap().1.encryption;
            encryption.map(|e| (e.passphrase.file, e.passphrase.command))
        };
        assert_eq!(sources(&[]), Some((None, Some("c".into()))));
        assert_eq!(sources(&["passphrase_file=flag"]), Some((Some("flag".into()), None)));
        assert_eq!(sources(&["no_encrypt"]), None);
    }

    #[test]
    fn options_that_exclude_each_other_are_refused() {
        let (config, _) = config(TWO);
        let error = config.job("a", &explicit(&["no_encrypt", "passphrase_file=p"])).unwrap_err();
        assert!(
            error.to_string().starts_with("job a: the argument '--no-encrypt' cannot be used"),
            "{error}"
        );
    }

    #[test]
    fn a_job_takes_back_what_the_top_gives() {
        let text = "to = \"memory:///x\"\nno_encrypt = true\nwarn_ok = [\"links\"]\nlevel = 5\n\
                    [jobs.a]\nsource = \"stdin\"\nno_encrypt = false\nwarn_ok = []\n[jobs.b]\nsource = \"stdin\"\n";
        let (config, problems) = config(text);
        assert_eq!(problems, []);
        let (_, a) = config.job("a", &[]).unwrap();
        assert!(a.encryption.is_some() && a.warn_ok.is_empty() && a.budget.level == 5);
        let (_, b) = config.job("b", &[]).unwrap();
        assert!(b.encryption.is_none() && b.warn_ok == [WarnOk::Links]);
    }

    #[test]
    fn a_job_without_a_store_says_so() {
        let (config, _) = config("[jobs.j]\nsource = \"stdin\"\n");
        let error = config.job("j", &[]).unwrap_err();
        let expected = "job j: the following required arguments were not provided: --to <STORE>";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_key_means_nothing_without_its_encryption() {
        let (config, _) = config(TWO);
        let error = config.job("a", &explicit(&["sse_kms_key_id=k"])).unwrap_err();
        assert_eq!(error.to_string(), "--sse-kms-key-id means nothing without --sse");
        let (_, request) = config.job("a", &explicit(&["sse_kms_key_id=k", "sse=aws:kms"])).unwrap();
        assert_eq!(request.stores[0].options.sse_kms_key_id.as_deref(), Some("k"));
    }
}
