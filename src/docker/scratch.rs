//! What a drill makes at the engine, and takes away again: volumes of its own, and containers without any network.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::{InspectContainerOptions, RemoveVolumeOptions, StartContainerOptions};
use futures_util::StreamExt;

use super::exit::Exit;
use super::left::LeftContainer;
use super::run::RunSpec;
use super::{Engine, REMOVAL, own_labels, status};
use crate::archive::Id;
use crate::error::{Context, Error, Result};
use crate::report::{Reporter, printable};

/// What the names of all of them begin with.
pub const PREFIX: &str = "sealift-drill-";
/// On what is to stay for somebody to look at.
pub(super) const KEPT: &str = "sealift.kept";
/// Bytes of a server's last words that are kept.
const LAST_WORDS: usize = 4096;

/// Containers and volumes of one drill.
pub struct Scratch {
    engine: Engine,
    /// They stay.
    keep: bool,
    containers: Vec<String>,
    volumes: Vec<String>,
}

/// A server that was started.
pub struct Server {
    /// Its container's name.
    pub name: String,
    /// What it said last.
    said: Arc<Mutex<Vec<u8>>>,
}

impl Server {
    /// What it said last, in one line.
    pub fn last_words(&self) -> String {
        let said = self.said.lock().map(|said| said.clone()).unwrap_or_default();
        let text = String::from_utf8_lossy(&said);
        let lines: Vec<_> = text.lines().rev().take(3).collect();
        printable(&lines.into_iter().rev().collect::<Vec<_>>().join("; "))
    }
}

impl Scratch {
    /// Nothing is made yet.
    pub fn new(engine: Engine, keep: bool) -> Self {
        Scratch { engine, keep, containers: Vec::new(), volumes: Vec::new() }
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// A name that nothing at the engine has.
    async fn name(&self) -> Result<String> {
        let name = format!("{PREFIX}{}", Id::new(jiff::Timestamp::now())?);
        match self.engine.volume_if_any(&name).await? {
            None => Ok(name),
            Some(_) => Err(Error::failed(format!("there is a volume {name} already"))),
        }
    }

    /// Makes an empty volume.
    ///
    /// # Errors
    /// The engine does not make it.
    pub async fn volume(&mut self) -> Result<String> {
        let name = self.name().await?;
        // Before it is there: whatever happens then, it is removed.
        self.volumes.push(name.clone());
        let mut labels = own_labels();
        labels.extend(self.keep.then(|| (KEPT.into(), "drill".into())));
        let request = VolumeCreateRequest {
            name: Some(name.clone()),
            labels: Some(labels),
            ..VolumeCreateRequest::default()
        };
        let made = self.engine.docker.create_volume(request).await;
        made.context(|| format!("cannot make volume {name}"))?;
        Ok(name)
    }

    /// Starts a server that reaches no network, and that no network reaches.
    ///
    /// # Errors
    /// Its image is not there; the engine does not start it.
    pub async fn start(&mut self, spec: RunSpec) -> Result<Server> {
        self.engine.require_image(&spec.image).await?;
        let name = self.name().await?;
        self.containers.push(name.clone());
        let spec = RunSpec { network: Some("none".into()), ..spec };
        let mut body = spec.body();
        body.labels = self.keep.then(|| [(KEPT.to_string(), "drill".to_string())].into());
        let id = self.engine.create(Some(name.clone()), body).await?;
        let attached = self.engine.attach_output(&id).await?;
        let start = self.engine.docker.start_container(&id, None::<StartContainerOptions>).await;
        start.context(|| "cannot start the container".into())?;
        let said = Arc::new(Mutex::new(Vec::new()));
        let (mut output, heard) = (attached, Arc::clone(&said));
        // Ends with the container.
        tokio::spawn(async move {
            while let Some(Ok(LogOutput::StdOut { message } | LogOutput::StdErr { message })) =
                output.next().await
            {
                if let Ok(mut said) = heard.lock() {
                    said.extend_from_slice(&message);
                    let over = said.len().saturating_sub(LAST_WORDS);
                    said.drain(..over);
                }
            }
        });
        Ok(Server { name, said })
    }

    /// Waits until a server is ready: until `command` ends with 0 in it.
    ///
    /// # Errors
    /// It has ended, or is not ready in time.
    pub async fn ready(&self, server: &Server, command: &[&str], limit: Duration) -> Result<()> {
        let began = tokio::time::Instant::now();
        loop {
            let inspected =
                self.engine.docker.inspect_container(&server.name, None::<InspectContainerOptions>).await;
            let state =
                inspected.context(|| "cannot look at the container".into())?.state.unwrap_or_default();
            if state.running == Some(false) {
                let code = state.exit_code.unwrap_or_default();
                return Err(Error::failed(format!("the scratch server ended with code {code}"))
                    .because(server.last_words()));
            }
            match self.engine.ask(&server.name, command).await {
                Ok(answer) if answer.code == 0 => return Ok(()),
                _ if began.elapsed() > limit => {
                    return Err(Error::failed(format!(
                        "the scratch server was not ready within {} s",
                        limit.as_secs()
                    ))
                    .because(server.last_words()));
                }
                _ => tokio::time::sleep(Duration::from_millis(250)).await,
            }
        }
    }

    /// Waits for the end of a container that was started: its exit code, if it has one.
    ///
    /// # Errors
    /// The engine does not say.
    pub async fn exit_code(&self, server: &Server) -> Result<Option<i64>> {
        match self.engine.exit(&server.name, None).await? {
            Exit::Code(code) => Ok(Some(code)),
            Exit::OutOfMemory | Exit::StillRunning | Exit::Unknown => Ok(None),
        }
    }

    /// Removes all of it, unless it is to stay; then it is said how it is removed.
    pub async fn clear(self, ui: &Reporter) {
        if self.keep {
            let words = |command: &str, names: &[String]| {
                (!names.is_empty()).then(|| format!("docker {command} {}", names.join(" ")))
            };
            let lines = [words("rm -f -v", &self.containers), words("volume rm", &self.volumes)];
            let lines: Vec<_> = lines.into_iter().flatten().collect();
            ui.note(&format!("kept; to remove it: {}", lines.join(" && ")));
            return;
        }
        for name in &self.containers {
            self.engine.remove_or_warn(name, ui).await;
        }
        for name in &self.volumes {
            if let Err(error) = self.engine.remove_volume(name).await {
                ui.warn(&format!("{error}; remove it by hand: docker volume rm {name}"));
            }
        }
    }
}

impl Engine {
    /// Removes a volume; waits until nothing uses it any more.
    pub(super) async fn remove_volume(&self, name: &str) -> Result<()> {
        let began = tokio::time::Instant::now();
        loop {
            match self.docker.remove_volume(name, None::<RemoveVolumeOptions>).await {
                Ok(()) => return Ok(()),
                Err(e) if status(&e) == Some(404) => return Ok(()),
                Err(e) if began.elapsed() > REMOVAL => {
                    return Err(Error::failed(format!("cannot remove volume {name}")).because(e));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(250)).await,
            }
        }
    }

    /// Removes what drills of this host that were killed have left.
    ///
    /// # Errors
    /// The engine does not answer.
    pub async fn clear_left_drills(&self, ui: &Reporter) -> Result<()> {
        let left = self.left_containers().await?.into_iter();
        for left in left.filter(|left| left.name.starts_with(PREFIX)) {
            let LeftContainer { name, .. } = &left;
            match self.remove_left(&left).await {
                Ok(()) => ui.note(&format!("{name}, left by a drill that was killed, is removed")),
                Err(error) => ui.warn(&error.to_string()),
            }
        }
        Ok(())
    }

    /// Bytes that are free where the engine keeps its data, if that is on this host.
    pub async fn free_bytes(&self) -> Option<u64> {
        let root = self.docker.info().await.ok().filter(|_| self.local)?.docker_root_dir?;
        let stat = rustix::fs::statvfs(root.as_str()).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// The image of a container that uses a volume now.
    ///
    /// # Errors
    /// The engine does not say.
    pub async fn image_using(&self, volume: &str) -> Result<Option<String>> {
        let containers = self.containers("").await?;
        let using = containers.into_iter().find(|it| it.volumes.values().any(|name| name == volume));
        Ok(using.map(|container| container.image))
    }
}
