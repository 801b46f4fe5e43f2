//! One container, one service, one hook: held still, and let go.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum as Status, TaskState};
use bollard::query_parameters::{
    InspectContainerOptions, InspectServiceOptions, ListContainersOptions, ListTasksOptions,
    StartContainerOptions, StopContainerOptions, UpdateServiceOptions,
};
use tokio::time::{Instant, sleep, timeout};

use super::super::{Engine, status};
use super::{Hold, Target};
use crate::error::{Context, Error, Kind, Result};

/// What a container has to stop before it is killed, where nothing else is said: the engine's own rule.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How much longer than that an engine may take to say that it has stopped.
const ENGINE: Duration = Duration::from_secs(60);
/// How long an engine may take to do something that it has to do at once.
const CALL: Duration = Duration::from_secs(60);
/// Pauses between the attempts to let something go.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5), Duration::from_secs(10)];
/// How often it is looked whether a service's tasks have ended.
const LOOK: Duration = Duration::from_millis(250);

/// How a container stands.
enum Standing {
    Runs,
    Paused,
    Stopped,
    Gone,
}

impl Engine {
    /// Holds it still; whether it was not so before.
    pub(super) async fn hold(&self, target: &Target, stop_timeout: Option<Duration>) -> Result<bool> {
        match target.hold {
            Hold::Stop => self.stop(target, stop_timeout).await,
            Hold::Pause => self.pause(target).await,
            Hold::Scale => self.scale_down(target, stop_timeout).await,
            Hold::Exec => match &target.before {
                Some(before) => self.hook(target, before).await.map(|()| true),
                None => Ok(false),
            },
        }
    }

    async fn stop(&self, target: &Target, stop_timeout: Option<Duration>) -> Result<bool> {
        let container = self.docker.inspect_container(&target.id, None::<InspectContainerOptions>).await;
        let container = container.context(|| format!("cannot look at {}", target.what()))?;
        if !matches!(standing(&container), Standing::Runs) {
            return Ok(false);
        }
        let own = container.config.and_then(|config| config.stop_timeout);
        // -1: it may take as long as it likes.
        let patience = match (stop_timeout, own) {
            (Some(given), _) => given,
            (None, Some(own)) => {
                u64::try_from(own).map_or(Duration::from_secs(24 * 3600), Duration::from_secs)
            }
            (None, None) => STOP_TIMEOUT,
        };
        let t = stop_timeout.map(|given| i32::try_from(given.as_secs()).unwrap_or(i32::MAX));
        let stopping = self.docker.stop_container(&target.id, Some(StopContainerOptions { signal: None, t }));
        done(bounded(patience + ENGINE, stopping).await, || format!("cannot stop {}", target.what()))?;
        match self.standing(&target.id).await? {
            Standing::Stopped | Standing::Gone => Ok(true),
            Standing::Runs | Standing::Paused => {
                Err(Error::failed(format!("{} runs again as soon as it is stopped", target.what()))
                    .hint("something else starts it: stop that, too, or --pause it"))
            }
        }
    }

    async fn pause(&self, target: &Target) -> Result<bool> {
        if !matches!(self.standing(&target.id).await?, Standing::Runs) {
            return Ok(false);
        }
        let pausing = self.docker.pause_container(&target.id);
        done(bounded(CALL, pausing).await, || format!("cannot pause {}", target.what())).map(|()| true)
    }

    async fn standing(&self, id: &str) -> Result<Standing> {
        match self.docker.inspect_container(id, None::<InspectContainerOptions>).await {
            Ok(container) => Ok(standing(&container)),
            Err(error) if status(&error) == Some(404) => Ok(Standing::Gone),
            Err(error) => Err(error).context(|| format!("cannot look at container {id}")),
        }
    }

    async fn scale_down(&self, target: &Target, stop_timeout: Option<Duration>) -> Result<bool> {
        let is_ours = self.scale(target, |now| now > 0, 0).await?;
        let began = Instant::now();
        let patience = stop_timeout.unwrap_or(STOP_TIMEOUT) + ENGINE;
        while !self.tasks_have_ended(&target.id).await? {
            if began.elapsed() > patience {
                return Err(Error::failed(format!("tasks of {} do not end", target.what())).hint(format!(
                    "`docker service ps {}` shows them; --stop-timeout gives them longer",
                    target.name
                )));
            }
            sleep(LOOK).await;
        }
        Ok(is_ours)
    }

    async fn tasks_have_ended(&self, service: &str) -> Result<bool> {
        let filters = HashMap::from([("service".to_string(), vec![service.to_string()])]);
        let tasks = self.docker.list_tasks(Some(ListTasksOptions { filters: Some(filters) })).await;
        let tasks = tasks.context(|| "cannot list the tasks of the swarm".into())?;
        let has_ended = |state: &TaskState| {
            use TaskState::{COMPLETE, FAILED, ORPHANED, REJECTED, REMOVE, SHUTDOWN};
            matches!(state, COMPLETE | SHUTDOWN | FAILED | REJECTED | REMOVE | ORPHANED)
        };
        let mut states = tasks.iter().filter_map(|task| task.status.as_ref()?.state.as_ref());
        Ok(states.all(has_ended))
    }

    /// Gives a service so many replicas, where `from` says so of what it has; whether it did.
    async fn scale(&self, target: &Target, from: impl Fn(u64) -> bool, to: u64) -> Result<bool> {
        let cannot = || format!("cannot scale {}", target.what());
        let service = self.docker.inspect_service(&target.id, None::<InspectServiceOptions>).await;
        let service = service.context(cannot)?;
        let version = service.version.and_then(|version| version.index).unwrap_or_default();
        let mut spec = service.spec.unwrap_or_default();
        let mode = spec.mode.as_mut().and_then(|mode| mode.replicated.as_mut());
        let mode = mode.ok_or_else(|| Error::failed(format!("{} has no replicas", target.what())))?;
        if !from(u64::try_from(mode.replicas.unwrap_or(1)).unwrap_or(0)) {
            return Ok(false);
        }
        mode.replicas = Some(i64::try_from(to).unwrap_or(i64::MAX));
        let options = UpdateServiceOptions {
            version: i32::try_from(version).unwrap_or_default(),
            registry_auth_from: "spec".into(),
            rollback: None,
        };
        let updating = self.docker.update_service(&target.id, spec, options, None);
        done(bounded(CALL, async { updating.await.map(drop) }).await, cannot).map(|()| true)
    }

    /// Runs a hook in its container.
    pub(super) async fn hook(&self, target: &Target, command: &str) -> Result<()> {
        let what = format!("`{command}` in container {}", target.name);
        let answer = self.ask_as(&target.id, &["sh", "-c", command], target.user.as_deref()).await;
        let answer = answer.map_err(|error| error.context(format!("cannot run {what}")))?;
        let said = if answer.stderr.trim().is_empty() { answer.stdout } else { answer.stderr };
        match answer.code {
            0 => Ok(()),
            code => Err(Error::failed(format!("{what} exited with code {code}"))
                .because(said.trim().to_string())
                .hint("it is what the container's label says: sealift.exec.before, sealift.exec.after or archive-pre, -post")),
        }
    }

    /// Lets it go: what is not as it was before is put back. An engine that fails is asked again.
    ///
    /// # Errors
    /// It is not back; the hint is the command that does it by hand.
    pub(super) async fn let_go(&self, target: &Target) -> Result<Option<String>> {
        let mut pauses = PAUSES.iter();
        loop {
            let error = match self.let_go_once(target).await {
                Ok(note) => return Ok(note),
                Err(error) => error,
            };
            match pauses.next() {
                // A hook that has said no is not run twice.
                Some(pause) if target.hold != Hold::Exec => sleep(*pause).await,
                _ => {
                    let what = match target.hold {
                        Hold::Exec => format!("{} failed", target.what()),
                        Hold::Scale => format!("{} is not scaled back", target.what()),
                        Hold::Stop | Hold::Pause => format!("{} does not run again", target.what()),
                    };
                    let hint = format!("put it right by hand: {}", target.by_hand());
                    return Err(Error::new(Kind::NotPutBack, what).because(error).hint(hint));
                }
            }
        }
    }

    async fn let_go_once(&self, target: &Target) -> Result<Option<String>> {
        match target.hold {
            Hold::Stop | Hold::Pause => self.run_again(target).await,
            Hold::Exec => match &target.after {
                Some(after) => match self.hook(target, after).await {
                    Err(error) if is_missing(&error) => Ok(Some(format!(
                        "container {} was removed meanwhile: its hook is not run",
                        target.name
                    ))),
                    ran => ran.map(|()| None),
                },
                None => Ok(None),
            },
            Hold::Scale => {
                let scaled = self.scale(target, |now| now == 0, target.replicas).await;
                match scaled {
                    Err(error) if is_missing(&error) => {
                        Ok(Some(format!("{} was removed meanwhile", target.what())))
                    }
                    scaled => scaled.map(|_| None),
                }
            }
        }
    }

    /// Whatever it does instead of running, it runs again.
    async fn run_again(&self, target: &Target) -> Result<Option<String>> {
        let mut id = target.id.clone();
        let mut standing = self.standing(&id).await?;
        if matches!(standing, Standing::Gone) {
            let Some(other) = self.successor(target).await? else {
                return Ok(Some(format!("{} was removed meanwhile: nothing is started", target.what())));
            };
            standing = self.standing(&other).await?;
            id = other;
        }
        let cannot = || format!("cannot start {}", target.what());
        match standing {
            Standing::Paused => done(bounded(CALL, self.docker.unpause_container(&id)).await, cannot)?,
            Standing::Stopped => {
                let starting = self.docker.start_container(&id, None::<StartContainerOptions>);
                done(bounded(CALL, starting).await, cannot)?;
            }
            Standing::Runs | Standing::Gone => {}
        }
        Ok((id != target.id).then(|| format!("{} was made anew meanwhile, and runs", target.what())))
    }

    /// The container that has taken the place of one: of the same service of Compose, or of the same name.
    async fn successor(&self, target: &Target) -> Result<Option<String>> {
        let options = ListContainersOptions { all: true, ..ListContainersOptions::default() };
        let listed = self.docker.list_containers(Some(options)).await;
        let listed = listed.context(|| "cannot list the containers".into())?;
        let name = format!("/{}", target.name);
        let is_it = |container: &bollard::models::ContainerSummary| {
            let labels = container.labels.as_ref();
            let label = |key: &str| labels?.get(&format!("com.docker.compose.{key}")).map(String::as_str);
            let is_named = container.names.iter().flatten().any(|other| *other == name);
            is_named
                || target.compose.as_ref().is_some_and(|(project, service, number)| {
                    (label("project"), label("service")) == (Some(project), Some(service))
                        && label("container-number") == Some(number)
                })
        };
        Ok(listed.into_iter().find(is_it).and_then(|container| container.id))
    }
}

fn standing(container: &ContainerInspectResponse) -> Standing {
    match container.state.as_ref().and_then(|state| state.status) {
        Some(Status::RUNNING | Status::RESTARTING) => Standing::Runs,
        Some(Status::PAUSED) => Standing::Paused,
        Some(Status::REMOVING) => Standing::Gone,
        _ => Standing::Stopped,
    }
}

fn is_missing(error: &Error) -> bool {
    error.find::<bollard::errors::Error>().and_then(status) == Some(404)
}

type Called = Result<Result<(), bollard::errors::Error>, tokio::time::error::Elapsed>;

async fn bounded(limit: Duration, call: impl Future<Output = Result<(), bollard::errors::Error>>) -> Called {
    timeout(limit, call).await
}

/// What became of a request; that there was nothing to be done is fine.
fn done(called: Called, what: impl Fn() -> String) -> Result<()> {
    match called {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) if status(&error) == Some(304) => Ok(()),
        Ok(Err(error)) => Err(error).context(&what),
        Err(_) => Err(Error::failed(what()).because("the engine does not answer in time")),
    }
}
