//! `backup dtr`, `backup set`: several archives in order, under one set id.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::backup::{BackupRequest, Encryption, Made, Task, backup};
use super::failing::Failing;
use super::{Outcome, Subject, until};
use crate::archive::Id;
use crate::docker::Engine;
use crate::error::{Error, Result};
use crate::host::passphrase::Sources;
use crate::preset::{Component, Preset, public_metadata};
use crate::report::event::SetEnded;
use crate::report::{Event, Reporter};
use crate::source::Source;
use crate::store::Store;
use crate::store::set::{self, Member, SetManifest, SetRef};

/// A set to be backed up.
#[derive(Debug)]
pub struct SetRequest {
    /// Its name.
    pub name: String,
    /// Its jobs, in order, each with how it is to be made.
    pub jobs: Vec<(Subject, BackupRequest)>,
    /// Go on with the next job when one has failed.
    pub keep_going: bool,
}

/// How long the containers of an engine that was restarted may take to run again.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_secs(1);

/// Backs up a preset by itself: where it has more than one archive, they are a set.
///
/// # Errors
/// The component does not run here, or what it needs was not given; the first failure of an archive.
pub async fn preset(
    preset: Preset,
    request: BackupRequest,
    ui: &Reporter,
    cancel: &CancellationToken,
) -> Result<Outcome> {
    let name = request.job.clone().unwrap_or_else(|| preset.job().into());
    let set = SetRequest { name, jobs: vec![(Subject::Preset(preset), request)], keep_going: false };
    let mut run = SetRun::new(set, ui)?;
    let parts = match until(cancel, run.tasks(0)).await {
        Ok(parts) => parts,
        Err(error) => return Err(run.note(0, error).await),
    };
    // One archive needs no set to be found by.
    if let [_] = parts[..] {
        let task = parts.into_iter().next().map(|task| Task { set: None, ..task });
        return Ok(backup(task.ok_or_else(Error::disconnected)?, ui, cancel).await?.outcome);
    }
    until(cancel, run.step_past_others()).await?;
    let parts = parts.into_iter().map(|task| Task { set: Some(run.id.clone()), ..task }).collect();
    run.backup(parts, cancel).await;
    run.finish(cancel).await
}

/// Backs up a set.
///
/// # Errors
/// The first failure of a member; what the others made stays, and the set is listed as incomplete.
pub async fn set(set: SetRequest, ui: &Reporter, cancel: &CancellationToken) -> Result<Outcome> {
    let mut run = SetRun::new(set, ui)?;
    until(cancel, run.step_past_others()).await?;
    for job in 0..run.set.jobs.len() {
        if run.is_over() || cancel.is_cancelled() {
            run.leave_out(run.job(job));
            continue;
        }
        match until(cancel, run.tasks(job)).await {
            Ok(tasks) => run.backup(tasks, cancel).await,
            Err(error) => {
                let error = run.note(job, error).await;
                run.failed(run.job(job), error);
            }
        }
    }
    run.finish(cancel).await
}

/// Asks for every secret once, and finds what is missing before the first backup.
fn resolve_secrets(jobs: &mut [(Subject, BackupRequest)]) -> Result<()> {
    for job in 0..jobs.len() {
        let (before, rest) = jobs.split_at_mut(job);
        let (subject, request) = &mut rest[0];
        if let Subject::Preset(preset) = subject {
            if request.encryption.is_none() && preset.is_secret() {
                return Err(Error::usage(
                    "--with-unlock-key and --no-encrypt would store the key in the clear",
                )
                .hint("leave one of them out"));
            }
            preset.resolve_secrets()?;
        }
        let Some(Encryption { passphrase, .. }) = &mut request.encryption else { continue };
        let mut known = before.iter().filter_map(|(_, known)| Some(&known.encryption.as_ref()?.passphrase));
        let read = match known.find(|known| is_same_place(known, passphrase)) {
            Some(known) => known.read()?,
            None => Sources { twice: true, ..passphrase.clone() }.read()?,
        };
        passphrase.known = Some(read);
    }
    Ok(())
}

/// Whether both passphrases are asked for in the same place.
fn is_same_place(one: &Sources, other: &Sources) -> bool {
    (&one.file, &one.command) == (&other.file, &other.command)
}

/// A set on its way.
struct SetRun<'a> {
    set: SetRequest,
    id: SetRef,
    started: jiff::Timestamp,
    members: Vec<Member>,
    warned: bool,
    /// A job has stopped and started the engine.
    restarted: bool,
    /// The first failure.
    failure: Option<Error>,
    ui: &'a Reporter,
}

impl<'a> SetRun<'a> {
    fn new(mut set: SetRequest, ui: &'a Reporter) -> Result<Self> {
        resolve_secrets(&mut set.jobs)?;
        let started = jiff::Timestamp::now();
        let id = SetRef { name: set.name.clone(), id: Id::new(started)? };
        Ok(SetRun {
            set,
            id,
            started,
            members: Vec::new(),
            warned: false,
            restarted: false,
            failure: None,
            ui,
        })
    }

    /// Makes its id later than those of all runs that its stores show, so that the newest is the one made last. A store
    /// that does not answer is told of by the backups that follow.
    async fn step_past_others(&mut self) -> Result<()> {
        let (stores, _) = distinct_stores(&self.set.jobs, self.ui);
        let jobs: Vec<_> = (0..self.set.jobs.len()).map(|job| self.job(job)).collect();
        let seen = stores.iter().map(|store| store.set_ids_since(&self.id.name, &jobs, self.started));
        let seen: Vec<_> = join_all(seen).await.into_iter().flatten().flatten().collect();
        self.id.id = Id::after(self.started, &seen)?;
        Ok(())
    }

    fn job(&self, job: usize) -> String {
        let (subject, request) = &self.set.jobs[job];
        let name = request.job.clone().or_else(|| subject.default_job());
        name.unwrap_or_else(|| format!("job {}", job + 1))
    }

    /// Notes that a job failed before it was known what it consists of.
    async fn note(&self, job: usize, error: Error) -> Error {
        Failing::new(self.job(job), &self.set.jobs[job].1).before_it_began(error, self.ui).await
    }

    /// Whether nothing more is to be begun.
    fn is_over(&self) -> bool {
        self.failure.is_some() && !self.set.keep_going
    }

    /// What is to be made for a job. Looked up when its turn comes: the engine may have been restarted since.
    async fn tasks(&self, job: usize) -> Result<Vec<Task>> {
        let (subject, request) = &self.set.jobs[job];
        let set = Some(self.id.clone());
        match subject {
            Subject::Source(source) => Ok(vec![Task { set, ..Task::new(source.clone(), request.clone()) }]),
            // Its jobs are found before.
            Subject::Discover(_) => Err(Error::disconnected()),
            Subject::Preset(preset) => {
                let parts = self.parts(preset).await?;
                Ok(parts.into_iter().map(|part| self.task(self.job(job), part, request)).collect())
            }
        }
    }

    /// Looks at the node. An engine that a job before has stopped starts its containers one after the other.
    async fn parts(&self, preset: &Preset) -> Result<Vec<Component>> {
        let began = Instant::now();
        loop {
            let looked = async { preset.components(&Engine::connect().await?, self.ui).await };
            match looked.await {
                Err(_) if self.restarted && began.elapsed() < PATIENCE => tokio::time::sleep(PAUSE).await,
                looked => return looked,
            }
        }
    }

    fn task(&self, job: String, component: Component, request: &BackupRequest) -> Task {
        let mut request = request.clone();
        request.job = Some(component.name.map_or(job.clone(), |name| format!("{job}/{name}")));
        Task {
            source: component.source,
            is_compared: false,
            request,
            format: component.format,
            metadata: component.metadata.to_json(),
            check: component.check,
            whole: component.whole,
            warnings: component.warnings,
            notes: component.notes,
            set: Some(self.id.clone()),
        }
    }

    /// Makes the archives of a job, unless one before them failed.
    async fn backup(&mut self, tasks: Vec<Task>, cancel: &CancellationToken) {
        for task in tasks {
            let job = task.job().unwrap_or_default();
            if self.is_over() || cancel.is_cancelled() {
                self.leave_out(job);
                continue;
            }
            self.restarted |= matches!(task.source, Source::Folder { stop: Some(_), .. });
            let facts = public_metadata(&task.metadata);
            match backup(task, self.ui, cancel).await {
                Ok(Made { outcome, job, id }) => {
                    self.warned |= outcome == Outcome::Warned;
                    let outcome = if outcome == Outcome::Warned { "warned" } else { "made" };
                    self.members.push(Member { id: Some(id), facts, ..Member::without(job, outcome) });
                }
                Err(error) => self.failed(job, error),
            }
        }
    }

    fn leave_out(&mut self, job: String) {
        self.ui.warn(&format!("{job} is left out: {} is incomplete already", self.id));
        self.members.push(Member::without(job, "left out"));
    }

    fn failed(&mut self, job: String, error: Error) {
        self.members.push(Member::without(job.clone(), "failed"));
        let error = error.context(format!("{job} failed"));
        match self.failure {
            None => self.failure = Some(error),
            Some(_) => self.ui.error(&error),
        }
    }

    /// Says at every store how the set ended.
    async fn finish(self, cancel: &CancellationToken) -> Result<Outcome> {
        let complete = self.failure.is_none() && self.members.iter().all(|member| member.id.is_some());
        let manifest = SetManifest {
            format: set::FORMAT,
            set: self.id.name.clone(),
            id: self.id.id.clone(),
            started: self.started,
            finished: jiff::Timestamp::now(),
            complete,
            members: self.members,
            tool: concat!("sealift ", env!("CARGO_PKG_VERSION")).into(),
        };
        let mut warned = self.warned;
        let errors = tokio::select! {
            errors = put_everywhere(&self.set.jobs, &manifest, self.ui) => errors,
            () = too_late(cancel) => vec![Error::failed("there was no time to note how the set ended")],
        };
        for error in errors {
            self.ui.warn(&error.to_string());
            warned = true;
        }
        self.ui.emit(Event::Set(SetEnded {
            set: manifest.set,
            id: manifest.id.to_string(),
            complete,
            made: manifest.members.iter().filter(|member| member.id.is_some()).count(),
            all: manifest.members.len(),
            members: json!(manifest.members),
        }));
        match self.failure {
            Some(error) => Err(error.or_hint(format!("set {} is incomplete: run it again", self.id))),
            // A signal that came while a member was committed let that one end, and left out the rest.
            None if !complete => Err(Error::interrupted()),
            None if warned => Ok(Outcome::Warned),
            None => Ok(Outcome::Done),
        }
    }
}

/// Returns when somebody has waited for long enough after asking to stop.
async fn too_late(cancel: &CancellationToken) {
    cancel.cancelled().await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
}

/// To each store that any job of the set uses, once.
async fn put_everywhere(
    jobs: &[(Subject, BackupRequest)],
    manifest: &SetManifest,
    ui: &Reporter,
) -> Vec<Error> {
    let (stores, mut errors) = distinct_stores(jobs, ui);
    for store in stores {
        errors.extend(store.put_set(manifest).await.err());
    }
    errors
}

/// The stores that any job of a set uses, each once, and why others cannot be opened.
fn distinct_stores(jobs: &[(Subject, BackupRequest)], ui: &Reporter) -> (Vec<Store>, Vec<Error>) {
    let (mut stores, mut errors) = (Vec::<Store>::new(), Vec::new());
    for request in jobs.iter().flat_map(|(_, request)| &request.stores) {
        match request.create(ui) {
            Ok(store) if stores.iter().any(|known| known.is_same(&store)) => {}
            Ok(store) => stores.push(store),
            Err(error) => errors.push(error),
        }
    }
    (stores, errors)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::super::request::tests::request;
    use super::*;
    use crate::archive::openpgp::Cipher;
    use crate::source::Source;

    /// A job of a volume, its passphrase printed by a command.
    fn job(volume: &str, command: Option<&str>) -> (Subject, BackupRequest) {
        let encryption = command.map(|command| Encryption {
            cipher: Cipher::Cfb,
            passphrase: Sources { command: Some(command.into()), ..Sources::default() },
        });
        let source = Source::Volume(vec![volume.into()]);
        (Subject::Source(source), BackupRequest { encryption, ..request(&["memory:///"]) })
    }

    fn known(job: &(Subject, BackupRequest)) -> Option<&str> {
        Some(job.1.encryption.as_ref()?.passphrase.known.as_ref()?.expose_secret())
    }

    fn run(jobs: Vec<(Subject, BackupRequest)>, ui: &Reporter, keep_going: bool) -> SetRun<'_> {
        SetRun::new(SetRequest { name: "s".into(), jobs, keep_going }, ui).unwrap()
    }

    #[test]
    fn a_secret_is_asked_for_once_for_all_jobs_that_have_it_from_the_same_place() {
        // Whatever is asked, another process answers.
        let (here, there) = (Some("echo $$"), Some("echo  $$"));
        let mut jobs = [job("a", here), job("b", None), job("c", there), job("d", here)];
        resolve_secrets(&mut jobs).unwrap();
        let [a, b, c, d] = jobs.each_ref().map(known);
        assert!(a.is_some() && a == d && c.is_some() && c != a && b.is_none(), "{a:?} {b:?} {c:?} {d:?}");
    }

    #[test]
    fn a_secret_that_cannot_be_read_keeps_the_set_from_beginning() {
        assert!(resolve_secrets(&mut [job("a", None), job("b", Some("exit 1"))]).is_err());
    }

    #[test]
    fn a_job_is_named_by_its_request_its_subject_or_its_place() {
        let ui = Reporter::silent();
        let mut jobs = vec![job("DB", None), job("x", None), job("x", None)];
        jobs[1].1.job = Some("own".into());
        jobs[2].0 = Subject::Source(Source::Stdin);
        let run = run(jobs, &ui, false);
        assert_eq!([0, 1, 2].map(|job| run.job(job)), ["db", "own", "job 3"]);
    }

    #[test]
    fn nothing_more_is_begun_after_a_failure_unless_asked_to_keep_going() {
        let ui = Reporter::silent();
        for keep_going in [false, true] {
            let mut run = run(vec![job("a", None)], &ui, keep_going);
            assert!(!run.is_over());
            run.failed("a".into(), Error::failed("gone"));
            assert_eq!(run.is_over(), !keep_going);
            assert_eq!(run.failure.as_ref().map(ToString::to_string).as_deref(), Some("a failed: gone"));
            run.failed("b".into(), Error::failed("too"));
            assert_eq!(
                run.failure.map(|e| e.to_string()).as_deref(),
                Some("a failed: gone"),
                "the first counts"
            );
        }
    }

    #[tokio::test]
    async fn a_sources_task_belongs_to_the_set() {
        let ui = Reporter::silent();
        let run = run(vec![job("db", None)], &ui, false);
        let tasks = run.tasks(0).await.unwrap();
        let [task] = &tasks[..] else { panic!("one task") };
        assert_eq!(
            (task.job().as_deref(), task.set.as_ref().map(ToString::to_string)),
            (Some("db"), Some(run.id.to_string()))
        );
    }

    #[tokio::test]
    async fn a_runs_id_is_later_than_those_of_the_runs_before_it() {
        use crate::store::StoreOptions;
        let ui = Reporter::silent();
        let url = "memory://set-steps-past-others";
        let ahead = SetManifest {
            format: set::FORMAT,
            set: "s".into(),
            id: "20990101T000000Z-1f2e3d4c".parse().unwrap(),
            started: jiff::Timestamp::now(),
            finished: jiff::Timestamp::now(),
            complete: true,
            members: Vec::new(),
            tool: String::new(),
        };
        Store::open(url, &StoreOptions::default()).unwrap().put_set(&ahead).await.unwrap();
        let (subject, _) = job("db", None);
        let mut run = run(vec![(subject, request(&["memory://set-steps", url]))], &ui, false);
        run.step_past_others().await.unwrap();
        assert!(run.id.id.as_str().starts_with("20990101T000001Z-"), "{}", run.id);
    }

    #[tokio::test]
    async fn a_set_that_was_left_out_in_part_is_interrupted() {
        let ui = Reporter::silent();
        let mut run = run(vec![job("a", None)], &ui, false);
        run.leave_out("a".into());
        assert_eq!(
            run.finish(&CancellationToken::new()).await.unwrap_err().kind(),
            crate::error::Kind::Interrupted
        );
    }
}
