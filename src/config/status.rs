//! What the settings file says of the jobs that there should be.

use clap::FromArgMatches;

use super::defaults::{alone, argument, fits, limit_command};
use super::file::{Table, toml_value};
use super::{Config, Job};
use crate::cli::LimitOptions;
use crate::error::Result;
use crate::job::Subject;
use crate::job::status::{Expected, Limits};
use crate::store::StoreUrl;

/// A job of the settings: its archives' names and limits, and the stores that they go to.
#[derive(Debug)]
pub struct ExpectedJob {
    /// The job's own name.
    pub name: String,
    /// What there should be.
    pub archives: Vec<Expected>,
    /// Where.
    pub stores: Vec<StoreUrl>,
}

impl Config {
    /// The jobs of the file, in its order; as errors those that could not be backed up as they are.
    pub fn expected(&self) -> Vec<(String, Result<ExpectedJob>)> {
        self.jobs.iter().map(|job| (job.name.clone(), self.expected_job(job))).collect()
    }

    /// One of them; none where there is no such job.
    pub fn expected_of(&self, name: &str) -> Option<Result<ExpectedJob>> {
        self.jobs.iter().find(|job| job.name == name).map(|job| self.expected_job(job))
    }

    fn expected_job(&self, job: &Job) -> Result<ExpectedJob> {
        let (subject, request) = self.job(&job.name, &[])?;
        let name = request.job.clone().unwrap_or_else(|| job.name.clone());
        let parts = match &subject {
            Subject::Source(_) => vec![(None, true)],
            Subject::Preset(preset) => preset.parts(),
            // Which these are only the engine knows.
            Subject::Discover(_) => Vec::new(),
        };
        let archives = parts.into_iter().map(|(part, always)| Expected {
            job: part.map_or(name.clone(), |part| format!("{name}/{part}")),
            stores: request.stores.iter().map(|store| store.url.clone()).collect(),
            limits: limits(&job.table),
            keep: self.keep(job),
            optional: !always,
        });
        Ok(ExpectedJob {
            name: job.name.clone(),
            archives: archives.collect(),
            stores: request.stores.clone(),
        })
    }

    /// How a job's archives are kept: as it says itself, as a set says that it is in, or as the top does.
    fn keep(&self, job: &Job) -> Option<String> {
        let sets =
            self.sets.iter().filter(|(_, set)| set.jobs.contains(&job.name)).map(|(_, set)| &set.table);
        let setting =
            std::iter::once(&job.table).chain(sets).chain([&self.top]).find_map(|table| table.get("keep"))?;
        let text = match &setting.value {
            serde_json::Value::Object(fields) => {
                let field = |(key, value)| format!("{key} {}", toml_value(value).trim_matches('"'));
                fields.iter().map(field).collect::<Vec<_>>().join(", ")
            }
            value => toml_value(value).trim_matches('"').to_string(),
        };
        Some(text)
    }
}

/// What a job says of when it is a problem.
fn limits(table: &Table) -> Limits {
    let command = limit_command();
    let words = table.settings.iter().filter_map(|setting| {
        let long = argument(&command, &setting.key)?.get_long()?;
        fits(&command, setting).ok()?;
        Some(format!("--{long}={}", setting.words()?.first()?))
    });
    let matches = alone(&command).try_get_matches_from(words.collect::<Vec<_>>());
    let options = matches.and_then(|matches| LimitOptions::from_arg_matches(&matches));
    options.map(|options| options.limits()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::config;
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn expected(text: &str) -> Vec<Expected> {
        let (config, problems) = config(&format!("to = \"memory:///x\"\n{text}"));
        assert_eq!(problems, []);
        config.expected().into_iter().flat_map(|(_, job)| job.unwrap().archives).collect()
    }

    #[test]
    fn a_job_says_itself_from_when_on_it_is_a_problem() {
        let jobs = expected(
            "max_age = \"8d\"\n[jobs.a]\nsource = \"stdin\"\nmax_age = \"26h\"\nverified_within = \"30d\"\n\
             shrink = \"50%\"\n[jobs.b]\nsource = \"stdin\"\njob = \"team/b\"\n",
        );
        let limits = Limits {
            max_age: Some(26 * HOUR),
            verified_within: Some(720 * HOUR),
            drilled_within: None,
            shrink: Some(0.5),
        };
        assert_eq!((jobs[0].job.as_str(), jobs[0].limits), ("a", limits));
        // What the top says holds for `status` as a whole.
        assert_eq!((jobs[1].job.as_str(), jobs[1].limits), ("team/b", Limits::default()));
        assert_eq!(jobs[1].stores, ["memory:///x"]);
    }

    #[test]
    fn a_limit_that_is_none_is_a_problem_of_the_file() {
        let (_, problems) = config("[jobs.a]\nsource = \"stdin\"\nmax_age = \"soon\"\nshrink = 3\n");
        let lines: Vec<_> = problems.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [3, 4]);
        assert!(problems[0].text.starts_with("max_age: \"soon\" is no time"), "{problems:?}");
        assert_eq!(problems[1].text, "shrink: \"3\" is no share");
    }

    #[test]
    fn a_preset_is_expected_with_the_archives_that_every_backup_has() {
        let names = |text: &str| {
            let jobs = expected(text);
            jobs.into_iter().map(|job| (job.job, job.optional)).collect::<Vec<_>>()
        };
        let name = |name: &str, optional| (name.to_string(), optional);
        assert_eq!(
            names("[jobs.dtr]\nsource = \"dtr\"\n"),
            [name("dtr/metadata", false), name("dtr/images", true)]
        );
        assert_eq!(names("[jobs.d]\nsource = \"dtr\"\nonly = \"images\"\n"), [name("d/images", false)]);
        assert_eq!(
            names("[jobs.swarm]\nsource = \"swarm\"\nwith_unlock_key = true\n"),
            [name("swarm", false), name("swarm/unlock-key", true)]
        );
    }

    #[test]
    fn a_job_is_kept_as_it_says_or_as_its_set_does() {
        let jobs = expected(
            "[jobs.a]\nsource = \"stdin\"\nkeep = { daily = 7, within = \"30d\" }\n[jobs.b]\nsource = \"stdin\"\n\
             [jobs.c]\nsource = \"stdin\"\n[sets.night]\njobs = [\"a\", \"b\"]\nkeep = { within = \"14d\" }\n",
        );
        let keep: Vec<_> = jobs.iter().map(|job| job.keep.as_deref()).collect();
        assert_eq!(keep, [Some("daily 7, within 30d"), Some("within 14d"), None]);
    }
}
