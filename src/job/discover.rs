//! `backup discover`: every volume, database and command that labels at the engine name, each as a job of its own; and what
//! nobody names.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Subject;
use super::backup::BackupRequest;
use crate::archive::name::JobName;
use crate::docker::Engine;
use crate::docker::labels::{LabelledContainer, LabelledVolume};
use crate::docker::quiesce::QuiesceRequest;
use crate::error::{Error, Result};
use crate::preset::{DatabaseKind, DatabaseOptions, Preset};
use crate::source::Source;
use crate::tar::exclude::Exclude;

/// `true`, `false`, `database`, or the word of a database.
const BACKUP: &str = "sealift.backup";
/// The job.
const JOB: &str = "sealift.job";
/// A command in the container whose stdout is the backup.
const EXEC: &str = "sealift.exec";
/// Patterns with commas between them, within a volume.
const EXCLUDE: &str = "sealift.exclude";

/// What labels are looked for, and what is asked of what has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Discover {
    /// A volume that nobody covers is a warning.
    pub require_all: bool,
    /// Volumes that other jobs of the settings cover.
    pub elsewhere: Vec<String>,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Discovered {
    /// The jobs, by name.
    pub jobs: Vec<(Subject, BackupRequest)>,
    /// Labels that cannot be followed.
    pub problems: Vec<Error>,
    /// Volumes that no label names, and that no dump covers.
    pub uncovered: Vec<String>,
}

impl Discovered {
    /// Says which volumes nobody covers.
    pub fn said(&self) -> Option<String> {
        let short = |name: &String| match name.len() == 64 && name.bytes().all(|c| c.is_ascii_hexdigit()) {
            true => name[..12].to_string(),
            false => name.clone(),
        };
        let names: Vec<_> = self.uncovered.iter().map(short).collect();
        (!names.is_empty()).then(|| {
            format!("no label covers these volumes: {} ({BACKUP}=true or false says so)", names.join(", "))
        })
    }
}

/// Looks for labels. Every job is made as `request` says.
///
/// # Errors
/// The engine does not answer; two things have one job.
pub async fn discover(options: &Discover, request: &BackupRequest) -> Result<Discovered> {
    let engine = Engine::connect().await?;
    let (volumes, containers) = (engine.labelled_volumes().await?, engine.labelled_containers().await?);
    found(options, request, &volumes, &containers)
}

/// A volume that is to be backed up.
#[derive(Default)]
struct Wanted {
    volumes: BTreeSet<String>,
    exclude: Vec<Exclude>,
}

fn found(
    options: &Discover,
    request: &BackupRequest,
    volumes: &[LabelledVolume],
    containers: &[LabelledContainer],
) -> Result<Discovered> {
    let mut search = Search::default();
    volumes.iter().for_each(|volume| search.volume(volume));
    containers.iter().for_each(|container| search.container(container));
    let covered = |name: &String| search.covered.contains(name) || options.elsewhere.contains(name);
    let uncovered = volumes.iter().map(|volume| volume.name.clone()).filter(|name| !covered(name)).collect();
    let jobs = search.jobs(request)?;
    Ok(Discovered { jobs, problems: search.problems, uncovered })
}

#[derive(Default)]
struct Search {
    wanted: BTreeMap<String, Wanted>,
    others: Vec<(String, Subject)>,
    covered: BTreeSet<String>,
    problems: Vec<Error>,
}

fn says<'a>(labels: &'a HashMap<String, String>, key: &str) -> Option<&'a str> {
    labels.get(key).map(|value| value.trim()).filter(|value| !value.is_empty())
}

impl Search {
    fn volume(&mut self, volume: &LabelledVolume) {
        match says(&volume.labels, BACKUP) {
            Some("true") => self.add_volume(&volume.name, &volume.labels),
            // Somebody has decided.
            Some("false") => drop(self.covered.insert(volume.name.clone())),
            Some(other) => self.unknown(&format!("volume {}", volume.name), other),
            None => {}
        }
    }

    fn container(&mut self, container: &LabelledContainer) {
        let LabelledContainer { name, labels, volumes, .. } = container;
        let backup = says(labels, BACKUP);
        if backup == Some("false") {
            return;
        }
        if let Some(command) = says(labels, EXEC) {
            let command = ["sh", "-c", command].map(String::from).into();
            let source = Source::Exec { container: name.clone(), command };
            self.add_other(container, Subject::Source(source));
        }
        match backup {
            Some("true") => {
                volumes.iter().for_each(|volume| self.add_volume(volume, labels));
                if volumes.is_empty() && says(labels, EXEC).is_none() {
                    let error =
                        Error::failed(format!("container {name} has no volume: nothing of it is backed up"));
                    self.problems.push(error.hint(format!("{BACKUP}=database, or {EXEC}=COMMAND")));
                }
            }
            Some(word) => match kind(word, &container.image) {
                Some(kind) => {
                    let preset = Preset::Database(DatabaseOptions::new(kind, name.clone()));
                    self.add_other(container, Subject::Preset(preset));
                }
                None if word == "database" => {
                    let text = format!(
                        "container {name} is labelled as a database, but {} is none that is known",
                        container.image
                    );
                    let words: Vec<_> = DatabaseKind::ALL.iter().map(|kind| kind.word()).collect();
                    let hint = format!("{BACKUP}={}, or {EXEC}=COMMAND", words.join(", "));
                    self.problems.push(Error::failed(text).hint(hint));
                }
                None => self.unknown(&format!("container {name}"), word),
            },
            None => {}
        }
    }

    fn unknown(&mut self, what: &str, word: &str) {
        let error = Error::failed(format!("the label {BACKUP}={word} of {what} means nothing"));
        self.problems.push(error.hint("true, false, or of a container database"));
    }

    fn add_volume(&mut self, volume: &str, labels: &HashMap<String, String>) {
        if !self.covered.insert(volume.into()) {
            return;
        }
        let Some(job) = self.job(says(labels, JOB), volume) else { return };
        let patterns = says(labels, EXCLUDE).unwrap_or_default().split(',').map(str::trim);
        for pattern in patterns.filter(|pattern| !pattern.is_empty()) {
            let whole = match pattern.starts_with('*') {
                true => pattern.to_string(),
                false => format!("{volume}/_data/{}", pattern.trim_start_matches('/')),
            };
            match Exclude::new(&whole) {
                Ok(exclude) => self.wanted.entry(job.clone()).or_default().exclude.push(exclude),
                // Rather too much than nothing.
                Err(error) => self.problems.push(error.context(format!("{EXCLUDE} of volume {volume}"))),
            }
        }
        self.wanted.entry(job).or_default().volumes.insert(volume.into());
    }

    /// What a container itself says; its volumes are covered by that.
    fn add_other(&mut self, container: &LabelledContainer, subject: Subject) {
        if let Some(job) = self.job(says(&container.labels, JOB), &container.name) {
            self.covered.extend(container.volumes.iter().cloned());
            self.others.push((job, subject));
        }
    }

    fn job(&mut self, given: Option<&str>, name: &str) -> Option<String> {
        let job = match given {
            Some(given) => given.parse().map(|job: JobName| job.into()),
            None => JobName::from_source(name).map(String::from).ok_or_else(|| {
                Error::failed(format!("{name} gives no name of a job"))
                    .hint(format!("{JOB}=NAME gives it one"))
            }),
        };
        job.map_err(|error| self.problems.push(error.context(format!("the job of {name}")))).ok()
    }

    /// All jobs by name, each made as `request` says.
    fn jobs(&mut self, request: &BackupRequest) -> Result<Vec<(Subject, BackupRequest)>> {
        let mut jobs = BTreeMap::new();
        for (job, Wanted { volumes, exclude }) in std::mem::take(&mut self.wanted) {
            let volumes: Vec<_> = volumes.into_iter().collect();
            let mut request = BackupRequest { job: Some(job.clone()), ..request.clone() };
            request.files.exclude.extend(exclude);
            let using = Some(volumes.clone());
            request.quiesce = Some(QuiesceRequest { labelled: true, using, ..QuiesceRequest::default() });
            jobs.insert(job, (Subject::Source(Source::Volume(volumes)), request));
        }
        for (job, subject) in std::mem::take(&mut self.others) {
            let request = BackupRequest { job: Some(job.clone()), ..request.clone() };
            if jobs.insert(job.clone(), (subject, request)).is_some() {
                return Err(Error::usage(format!("labels give two things one job: {job}"))
                    .hint(format!("give each a job of its own: {JOB}=NAME")));
            }
        }
        Ok(jobs.into_values().collect())
    }
}

/// The database that a label or an image means.
fn kind(word: &str, image: &str) -> Option<DatabaseKind> {
    match word {
        "database" => DatabaseKind::of_image(image),
        word => DatabaseKind::ALL.into_iter().find(|kind| kind.word() == word),
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::request;
    use super::*;

    fn labels(of: &[(&str, &str)]) -> HashMap<String, String> {
        of.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    fn volume(name: &str, of: &[(&str, &str)]) -> LabelledVolume {
        LabelledVolume { name: name.into(), labels: labels(of) }
    }

    fn container(name: &str, image: &str, volumes: &[&str], of: &[(&str, &str)]) -> LabelledContainer {
        let volumes = volumes.iter().map(ToString::to_string).collect();
        LabelledContainer { name: name.into(), image: image.into(), labels: labels(of), volumes, runs: true }
    }

    fn all(volumes: &[LabelledVolume], containers: &[LabelledContainer]) -> Discovered {
        found(&Discover::default(), &request(&["memory:///"]), volumes, containers).unwrap()
    }

    fn words(found: &Discovered) -> Vec<String> {
        let subject = |subject: &Subject| match subject {
            Subject::Source(source) => crate::source::in_words(&source.describe()),
            Subject::Preset(preset) => format!("preset {}", preset.job()),
            Subject::Discover(_) => "discover".into(),
        };
        let jobs = found.jobs.iter();
        jobs.map(|(of, request)| format!("{}: {}", request.job.as_deref().unwrap(), subject(of))).collect()
    }

    #[test]
    fn labelled_volumes_are_jobs_and_the_others_are_told() {
        let on = (BACKUP, "true");
        let volumes = [
            volume("Data", &[on, (EXCLUDE, "cache, *.log,")]),
            volume("a", &[on, (JOB, "shop")]),
            volume("b", &[on, (JOB, "shop")]),
            volume("scratch", &[(BACKUP, "false")]),
            volume("forgotten", &[]),
            volume(&"0".repeat(64), &[]),
            volume("of-app", &[]),
        ];
        let found = all(&volumes, &[container("app", "app", &["of-app", "Data"], &[on])]);
        assert_eq!(words(&found), ["data: volume Data", "of-app: volume of-app", "shop: volume a b"]);
        let patterns: Vec<_> = found.jobs[0].1.files.exclude.iter().map(Exclude::as_str).collect();
        assert_eq!(patterns, ["Data/_data/cache", "*.log"]);
        assert_eq!(found.jobs[0].1.quiesce.as_ref().unwrap().using, Some(vec!["Data".into()]));
        assert!(found.said().unwrap().contains("volumes: forgotten, 000000000000 ("), "{:?}", found.said());
    }

    #[test]
    fn databases_and_commands_cover_their_volumes() {
        let containers = [
            container("shop-db-1", "postgres:16", &["pg"], &[(BACKUP, "database"), (JOB, "shop/db")]),
            container("cache", "x/y:1", &["rdb"], &[(BACKUP, "redis")]),
            container("ldap", "ldap", &["ldap"], &[(EXEC, "slapcat")]),
            container("odd", "oracle", &["o"], &[(BACKUP, "database")]),
            container("none", "x", &[], &[(BACKUP, "true")]),
            container("typo", "x", &[], &[(BACKUP, "yes")]),
            container("off", "postgres", &["off"], &[(BACKUP, "false"), (EXEC, "x")]),
        ];
        let volumes = ["pg", "rdb", "ldap", "o", "off"].map(|name| volume(name, &[]));
        let found = all(&volumes, &containers);
        assert_eq!(
            words(&found),
            ["cache: preset cache", "ldap: exec ldap: sh -c slapcat", "shop/db: preset shop-db-1"]
        );
        assert_eq!(found.uncovered, ["o", "off"]);
        let problems: Vec<_> = found.problems.iter().map(ToString::to_string).collect();
        assert!(problems.len() == 3 && problems[0].contains("oracle is none that is known"), "{problems:?}");
    }

    #[test]
    fn two_things_of_one_job_are_refused() {
        let containers = [
            container("a", "redis", &[], &[(BACKUP, "database"), (JOB, "j")]),
            container("j", "x", &[], &[(EXEC, "x")]),
        ];
        let error = found(&Discover::default(), &request(&["memory:///"]), &[], &containers).unwrap_err();
        assert!(error.to_string().ends_with("one job: j"), "{error}");
    }
}
