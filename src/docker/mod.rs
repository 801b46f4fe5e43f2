//! The one Docker Engine client.

use std::collections::HashMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::Docker;
use bollard::models::{
    ContainerCreateBody, ContainerStateStatusEnum, HostConfig, HostConfigLogConfig, SystemInfo,
};
use bollard::query_parameters::{CreateContainerOptions, InspectContainerOptions, RemoveContainerOptions};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::error::{Context, Error, Result};
use crate::host::process::ProcessName;
use crate::stream::channel::{Sender, channel};
use crate::stream::source::{ByteStream, Proof, Running};

pub mod ask;
mod attach;
mod context;
mod exit;
mod feed;
mod image;
pub mod inspect;
pub mod labels;
pub mod left;
pub mod probe;
mod process;
pub mod quiesce;
pub mod run;
pub mod saved;
pub mod scratch;
mod unlock;
mod userns;
mod volume;

pub use unlock::Unlock;
pub use volume::Volume;

/// What our containers are labelled with, so that a leftover can be found.
pub const LABEL: &str = "sealift";
/// And with what makes it: a number alone is given to other processes later, and to others in other namespaces.
const MAKER: &str = "sealift.maker";
/// Chunks (32 KiB at most each) that may wait between the engine and the tap.
const DEPTH: usize = 64;
/// How long a container's removal is tried: a restarted engine answers again within that.
const REMOVAL: Duration = Duration::from_secs(30);

/// A connection to a Docker Engine.
#[derive(Clone)]
pub struct Engine {
    docker: Docker,
    /// The engine runs on this host.
    local: bool,
    /// It runs in a user namespace of its own: here, its files have other owners than it sees.
    rootless: bool,
}

impl Engine {
    /// Connects as the docker command does: `DOCKER_HOST`, else `DOCKER_CONTEXT` or the current context, else the
    /// usual socket.
    ///
    /// # Errors
    /// The engine does not answer.
    pub async fn connect() -> Result<Self> {
        let endpoint = context::endpoint()?;
        let unreachable = |e: bollard::errors::Error| {
            Error::failed(format!("the Docker Engine at {} does not answer", endpoint.host)).because(e).hint(
                "start it, or say where it is with DOCKER_HOST (unix://, tcp://, ssh://) or `docker context use`; \
                 reading its socket may need root",
            )
        };
        let docker = endpoint.connect().map_err(unreachable)?;
        docker.ping().await.map_err(unreachable)?;
        // Streams may last for days; only the wait for the headers counts, and bodies sent to the engine count there.
        let docker = docker.with_timeout(Duration::from_secs(7 * 24 * 3600));
        let by_socket = endpoint.host.starts_with("unix://");
        let info = if by_socket { docker.info().await.ok() } else { None };
        let (local, rootless) =
            info.map_or((false, false), |info| (is_here(&info), userns::has_option(&info, "rootless")));
        Ok(Engine { docker, local, rootless })
    }

    /// Whether a path that the engine names may be looked for on this host.
    pub fn is_local(&self) -> bool {
        self.local
    }

    /// Creates a container that writes no log anywhere and is removed by us alone.
    async fn create(&self, name: Option<String>, body: ContainerCreateBody) -> Result<String> {
        let host_config = HostConfig {
            // The usual driver would write every byte of the stream to the host's disk.
            log_config: Some(HostConfigLogConfig { typ: Some("none".into()), config: None }),
            auto_remove: Some(false),
            ..body.host_config.unwrap_or_default()
        };
        let mut labels = body.labels.unwrap_or_default();
        labels.extend(own_labels());
        let image = body.image.clone().unwrap_or_default();
        let body = ContainerCreateBody {
            labels: Some(labels),
            host_config: Some(host_config),
            tty: Some(false),
            ..body
        };
        let created = match self.try_to_create(name.as_deref(), body.clone()).await {
            // A backup that was killed outright could not clear away its container, which has the name still.
            Err(e) if status(&e) == Some(409) && self.clear_away(name.as_deref()).await? => {
                self.try_to_create(name.as_deref(), body).await
            }
            created => created,
        };
        created.map_err(|e| {
            let conflict = status(&e) == Some(409);
            let error = Error::failed(format!("cannot create a container of {image}")).because(e);
            match conflict {
                true => error
                    .hint("another container has this name: is a backup still running? see `docker ps -a`"),
                false => error,
            }
        })
    }

    async fn try_to_create(
        &self,
        name: Option<&str>,
        body: ContainerCreateBody,
    ) -> Result<String, bollard::errors::Error> {
        let options = CreateContainerOptions { name: name.map(String::from), platform: String::new() };
        Ok(self.docker.create_container(Some(options), body).await?.id)
    }

    /// Removes the container that has this name, if it is one of ours that does not run and that nobody waits for.
    async fn clear_away(&self, name: Option<&str>) -> Result<bool> {
        let Some(name) = name else { return Ok(false) };
        let Ok(found) = self.docker.inspect_container(name, None::<InspectContainerOptions>).await else {
            return Ok(false);
        };
        let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
        let state = found.state.and_then(|state| state.status);
        let (true, Some(id)) = (labels.contains_key(LABEL), found.id) else { return Ok(false) };
        let in_use = is_waited_for(&labels, self.local, false);
        let left = match state {
            Some(ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::DEAD) => !in_use,
            // It may be about to be started, by somebody whom only its own host knows.
            Some(ContainerStateStatusEnum::CREATED) => self.local && !in_use,
            _ => false,
        };
        if left {
            self.remove(&id).await?;
        }
        Ok(left)
    }

    /// Removes a container, running or not; waits for an engine that restarts.
    async fn remove(&self, id: &str) -> Result<()> {
        let began = tokio::time::Instant::now();
        loop {
            let options = RemoveContainerOptions { force: true, v: true, link: false };
            match self.docker.remove_container(id, Some(options)).await {
                Ok(()) => return Ok(()),
                Err(e) if status(&e) == Some(404) => return Ok(()),
                // 409: a removal is under way already.
                Err(e) if began.elapsed() > REMOVAL => {
                    let short = id.get(..12).unwrap_or(id);
                    return Err(Error::failed(format!("cannot remove container {short}"))
                        .because(e)
                        .hint(format!("remove it by hand: docker rm -f {short}")));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(250)).await,
            }
        }
    }
}

/// Whether the engine behind a socket runs on this host: a forwarded socket, or one of a virtual machine, does not.
fn is_here(info: &SystemInfo) -> bool {
    let here = rustix::system::uname();
    let same = |theirs: &Option<String>, ours: &std::ffi::CStr| {
        theirs.as_ref().is_some_and(|theirs| theirs.as_bytes() == ours.to_bytes())
    };
    same(&info.name, here.nodename()) && same(&info.kernel_version, here.release())
}

/// What tells that something is ours, and who made it.
fn own_labels() -> HashMap<String, String> {
    let maker = serde_json::to_string(&ProcessName::own()).ok().map(|maker| (MAKER.into(), maker));
    std::iter::once((LABEL.into(), std::process::id().to_string())).chain(maker).collect()
}

/// Whether whoever made a container still waits for it. Of one who would not be seen here nobody knows: as long as it runs,
/// he may.
fn is_waited_for(labels: &HashMap<String, String>, local: bool, runs: bool) -> bool {
    let maker = labels.get(MAKER).and_then(|maker| serde_json::from_str::<ProcessName>(maker).ok());
    match (maker, labels.get(LABEL)) {
        (Some(maker), _) => maker.lives().unwrap_or(runs),
        // Of a version that noted the number alone.
        (None, Some(pid)) => local && is_ours(pid),
        (None, None) => runs,
    }
}

/// Whether a process of this number runs our program here.
fn is_ours(pid: &str) -> bool {
    let program = |pid: &str| std::fs::read(format!("/proc/{pid}/comm")).ok();
    pid.bytes().all(|c| c.is_ascii_digit()) && program(pid).is_some_and(|own| Some(own) == program("self"))
}

fn status(error: &bollard::errors::Error) -> Option<u16> {
    match error {
        bollard::errors::Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// Runs an async source: `work` sends its bytes, then returns the proof, and cleans up in any case.
fn running<F>(work: impl FnOnce(Sender<Bytes>) -> F) -> Running
where
    F: Future<Output = (Sender<Bytes>, Result<Proof>)> + Send + 'static,
{
    let (sender, receiver) = channel(DEPTH);
    let (prove, proof) = oneshot::channel();
    let work = work(sender);
    let cleanup = tokio::spawn(async move {
        let (sender, outcome) = work.await;
        let proved = outcome.is_ok();
        // The proof is there before the stream says its end or breaks off.
        let _ = prove.send(outcome);
        if proved {
            sender.end().await;
        }
    });
    Running { stream: ByteStream::from_chunks(receiver, proof), cleanup }
}

/// Passes an HTTP body on; ends early when the backup is stopped.
async fn forward<E>(
    body: impl Stream<Item = Result<Bytes, E>>,
    sender: &Sender<Bytes>,
    stop: &CancellationToken,
) -> Result<()>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let mut body = std::pin::pin!(body);
    loop {
        let next = tokio::select! {
            next = body.next() => next,
            () = stop.cancelled() => return Err(Error::interrupted()),
        };
        match next {
            Some(chunk) => sender.send(chunk.context(|| "the engine's stream broke off".into())?).await?,
            None => return Ok(()),
        }
    }
}

/// The folder of the docker command's configuration.
fn config_dir() -> Option<PathBuf> {
    let given = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    given.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".docker")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_is_passed_on_and_its_failure_is_kept() {
        let (sender, mut receiver) = channel(4);
        let stop = CancellationToken::new();
        let broken = std::io::Error::from_raw_os_error(104);
        let body = futures_util::stream::iter([Ok(Bytes::from_static(b"abc")), Err(broken)]);
        let error = forward(body, &sender, &stop).await.unwrap_err();
        assert!(error.to_string().starts_with("the engine's stream broke off: "), "{error}");
        assert_eq!(error.find::<std::io::Error>().unwrap().raw_os_error(), Some(104));
        assert_eq!(receiver.recv().await.unwrap().unwrap(), "abc");
    }

    #[tokio::test]
    async fn a_backup_that_is_stopped_waits_for_no_body() {
        let (sender, _receiver) = channel(4);
        let stop = CancellationToken::new();
        stop.cancel();
        let body = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
        let error = forward(body, &sender, &stop).await.unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::Interrupted);
    }

    #[test]
    fn only_a_process_of_ours_lives() {
        assert!(is_ours(&std::process::id().to_string()));
        for pid in ["", "x", "-1", "../self", "4194305"] {
            assert!(!is_ours(pid), "{pid}");
        }
    }

    #[test]
    fn a_container_is_waited_for_by_the_process_that_made_it_and_not_by_one_of_its_number() {
        let own = serde_json::to_value(ProcessName::own()).unwrap();
        let by = |field: &str, value: serde_json::Value| {
            let mut maker = own.clone();
            maker[field] = value;
            let pid = std::process::id().to_string();
            HashMap::from([(LABEL.to_string(), pid), (MAKER.to_string(), maker.to_string())])
        };
        let waited = |labels: &HashMap<_, _>| [false, true].map(|runs| is_waited_for(labels, true, runs));
        assert_eq!(waited(&by("pid", std::process::id().into())), [true, true]);
        assert_eq!(waited(&by("begun", 1.into())), [false, false], "its number was given again");
        for field in ["boot", "namespace"] {
            assert_eq!(waited(&by(field, "another".into())), [false, true], "{field}");
        }
        let mut old = by("begun", 1.into());
        old.remove(MAKER);
        assert_eq!(waited(&old), [true, true]);
    }

    #[test]
    fn a_status_is_the_engines_own() {
        let answer =
            bollard::errors::Error::DockerResponseServerError { status_code: 409, message: "no".into() };
        assert_eq!(status(&answer), Some(409));
        assert_eq!(status(&bollard::errors::Error::RequestTimeoutError), None);
    }
}
