//! Sets as plain requests: of the settings file, or the one that is built in.

use clap::CommandFactory;

use super::{Config, defaults};
use crate::cli::{Cli, ExplicitArg, SetOptions};
use crate::error::{Error, Result};
use crate::job::Subject;
use crate::job::set::SetRequest;
use crate::preset::Preset;

/// A job of a set: one of the settings, or a preset.
enum SetJob<'a> {
    Settings(&'a str, &'a Config),
    Preset(&'a Preset),
}

impl SetJob<'_> {
    /// The command of `backup` that it is.
    fn source(&self) -> &str {
        match self {
            SetJob::Settings(name, config) => config.source_of(name).unwrap_or_default(),
            SetJob::Preset(preset) => preset.job(),
        }
    }
}

/// The set that is built in.
const DOCKER_EE: &str = "docker-ee";

/// Options of the set itself, which no job knows.
const OF_THE_SET: &str = "keep_going";

/// A set: of the settings, or the one that is built in. Options that are `explicit` go to the jobs that have them.
///
/// # Errors
/// There is no such set; a job of it is wrong; no job has an option that was given.
pub fn set_request(
    set: SetOptions,
    explicit: Vec<ExplicitArg>,
    config: Option<&Config>,
) -> Result<SetRequest> {
    if set.options.job.is_some() {
        return Err(Error::usage("a set's jobs have their own names").hint("leave --job out"));
    }
    let (jobs, root) = (set_jobs(&set, config)?, Cli::command());
    let has = |job: &SetJob<'_>, arg: &ExplicitArg| defaults::has_option(&root, job.source(), &arg.id);
    let known = |arg: &&ExplicitArg| arg.id == OF_THE_SET || jobs.iter().any(|job| has(job, arg));
    if let Some(stray) = explicit.iter().find(|arg| !known(arg)) {
        let option = stray.id.replace('_', "-");
        return Err(Error::usage(format!("no job of set {} takes --{option}", set.name))
            .hint("leave it out; `sealift backup set --help` says whose option it is"));
    }
    let request = |job: &SetJob<'_>| match job {
        SetJob::Preset(preset) => {
            Ok((Subject::Preset(Preset::clone(preset)), set.options.clone().request()?))
        }
        SetJob::Settings(name, config) => {
            let own: Vec<_> = explicit.iter().filter(|arg| has(job, arg)).cloned().collect();
            config.job(name, &own)
        }
    };
    let jobs = jobs.iter().map(request).collect::<Result<_>>()?;
    Ok(SetRequest { name: set.name, jobs, keep_going: set.keep_going })
}

fn set_jobs<'a>(set: &'a SetOptions, config: Option<&'a Config>) -> Result<Vec<SetJob<'a>>> {
    if let Some((config, found)) = config.and_then(|config| Some((config, config.set(&set.name)?))) {
        return Ok(found.jobs.iter().map(|job| SetJob::Settings(job, config)).collect());
    }
    if set.name != DOCKER_EE {
        return Err(Error::usage(format!("there is no set {}", set.name)).hint(format!(
            "{DOCKER_EE} is built in; others stand in sealift.toml as [sets.NAME]: `sealift config --help`"
        )));
    }
    let job = |preset: &'a Preset| match config.filter(|config| config.source_of(preset.job()).is_some()) {
        Some(config) => SetJob::Settings(preset.job(), config),
        None => SetJob::Preset(preset),
    };
    Ok(set.presets.iter().map(job).collect())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::jobs::tests::TWO;
    use super::super::tests::config;
    use super::*;
    use crate::cli::Verb;
    use crate::job::backup::BackupRequest;

    /// What `backup set` or `plan` is told on the command line.
    fn told(line: &str) -> (SetOptions, Vec<ExplicitArg>) {
        let words: Vec<_> = format!("sealift {line}").split(' ').map(String::from).collect();
        let matches = Cli::command().try_get_matches_from(&words).unwrap();
        let explicit = ExplicitArg::all(&Cli::command(), &matches);
        let options = match Cli::try_parse_from(&words).unwrap().verb {
            Verb::Backup(backup) => backup.into_set().unwrap(),
            Verb::Plan(options) => options.into(),
            _ => panic!("no set"),
        };
        (options, explicit)
    }

    fn set(text: &str, line: &str) -> Result<SetRequest> {
        let (config, problems) = config(text);
        assert_eq!(problems, []);
        let (options, explicit) = told(line);
        set_request(options, explicit, Some(&config))
    }

    fn names(set: &SetRequest) -> Vec<String> {
        let name = |(subject, request): &(Subject, BackupRequest)| {
            request.job.clone().or_else(|| subject.default_job()).unwrap_or_default()
        };
        set.jobs.iter().map(name).collect()
    }

    #[test]
    fn a_set_has_its_jobs_in_the_files_order() {
        let night = set(TWO, "backup set night").unwrap();
        assert_eq!(
            (night.name.as_str(), names(&night), night.keep_going),
            ("night", vec!["b".into(), "a".into()], false)
        );
        assert!(set(TWO, "backup set night --keep-going").unwrap().keep_going);
    }

    #[test]
    fn options_of_a_set_go_to_the_jobs_that_have_them() {
        let text = format!("{TWO}[jobs.c]\nsource = \"swarm\"\n[sets.all]\njobs = [\"a\", \"c\"]\n");
        let all = set(&text, "backup set all --level 7 --with-unlock-key").unwrap();
        assert!(all.jobs.iter().all(|(_, request)| request.budget.level == 7));
        assert!(matches!(&all.jobs[1].0, Subject::Preset(preset) if preset.is_secret()));
        let error = set(&text, "backup set all --dtr-image x").unwrap_err();
        assert_eq!(error.to_string(), "no job of set all takes --dtr-image");
        assert!(set(&text, "backup set night --with-unlock-key").is_err());
    }

    #[test]
    fn a_sets_jobs_keep_their_own_names_and_settings() {
        let error = set(TWO, "backup set night --job x").unwrap_err();
        assert_eq!(error.to_string(), "a set's jobs have their own names");
        let night = set(TWO, "backup set night --storage-class FLAG").unwrap();
        assert_eq!(night.jobs[0].1.parallel, 2);
        let classes = night.jobs.iter().flat_map(|(_, request)| &request.stores);
        assert!(classes.into_iter().all(|store| store.options.storage_class.as_deref() == Some("FLAG")));
    }

    #[test]
    fn a_set_that_nothing_names_is_refused() {
        let error = set(TWO, "backup set day").unwrap_err();
        assert_eq!(error.to_string(), "there is no set day");
        assert!(error.hint_text().is_some_and(|hint| hint.starts_with("docker-ee is built in")));
        let (options, explicit) = told("plan day");
        assert!(set_request(options, explicit, None).is_err());
    }

    #[test]
    fn the_built_in_set_is_swarm_ucp_and_dtr() {
        let (options, explicit) = told("backup set docker-ee --to memory:///x --level 6");
        let ee = set_request(options, explicit, None).unwrap();
        assert_eq!(names(&ee), ["swarm", "ucp", "dtr"]);
        assert!(ee.jobs.iter().all(|(_, request)| request.budget.level == 6 && request.job.is_none()));
        let (options, explicit) = told("plan");
        let plan = set_request(options, explicit, None).unwrap();
        assert_eq!((plan.name.as_str(), names(&plan).len()), ("docker-ee", 3));
        assert!(plan.jobs.iter().all(|(_, request)| request.stores.is_empty()));
    }

    #[test]
    fn jobs_of_the_settings_take_the_place_of_presets_of_their_name() {
        let text = format!("{TWO}[jobs.ucp]\nsource = \"ucp\"\nlevel = 8\n");
        let ee = set(&text, "backup set docker-ee --to memory:///x").unwrap();
        let levels: Vec<_> = ee.jobs.iter().map(|(_, request)| request.budget.level == 8).collect();
        assert_eq!(
            (names(&ee), levels),
            (vec!["swarm".into(), "ucp".into(), "dtr".into()], vec![false, true, false])
        );
    }

    #[test]
    fn a_set_of_the_file_takes_the_place_of_the_built_in_one() {
        let text = format!("{TWO}[sets.docker-ee]\njobs = [\"a\"]\n");
        assert_eq!(names(&set(&text, "backup set docker-ee").unwrap()), ["a"]);
    }

    #[test]
    fn one_job_that_is_wrong_keeps_the_set_from_beginning() {
        let text =
            format!("{TWO}[jobs.c]\nsource = \"stdin\"\nlevel = 99\n[sets.all]\njobs = [\"a\", \"c\"]\n");
        let error = set(&text, "backup set all").unwrap_err();
        assert!(error.to_string().ends_with("has no level 99"), "{error}");
    }
}
