//! The stdout of a container: of a new one (`backup run`), or of a command in a running one (`backup exec`).

use std::time::Duration;

use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType};
use bollard::query_parameters::{
    AttachContainerOptions, InspectContainerOptions, StartContainerOptions, WaitContainerOptions,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;

use super::{Engine, running, status};
use crate::error::{Context, Error, Result};
use crate::report::{Lines, Reporter};
use crate::stream::channel::Sender;
use crate::stream::source::{Proof, Running};

/// How long a process may be reported as running after its stream has ended: more, and the stream was cut.
const SETTLES: Duration = Duration::from_secs(10);

/// A container to run, in the words of `docker run`.
#[derive(Debug, Clone, Default)]
pub struct RunSpec {
    /// `IMAGE`
    pub image: String,
    /// `ARG…`
    pub command: Vec<String>,
    /// `--name`
    pub name: Option<String>,
    /// `-e`, `--env-file`: `KEY=VALUE`
    pub env: Vec<String>,
    /// `-v`
    pub volumes: Vec<String>,
    /// `--mount`
    pub mounts: Vec<Mount>,
    /// `--network`
    pub network: Option<String>,
    /// `--entrypoint`
    pub entrypoint: Option<String>,
    /// `-u`
    pub user: Option<String>,
    /// `-w`
    pub workdir: Option<String>,
    /// `--security-opt`
    pub security_opt: Vec<String>,
    /// `--privileged`
    pub privileged: bool,
    /// `--add-host`
    pub add_host: Vec<String>,
    /// Words of the command that nothing may show.
    pub secrets: Vec<String>,
}

impl RunSpec {
    /// What the catalog says of it: names of variables, never their values.
    pub fn describe(&self) -> serde_json::Value {
        let env: Vec<_> = self.env.iter().filter_map(|e| e.split('=').next()).collect();
        let shown =
            |word: &String| if self.secrets.contains(word) { "<redacted>".into() } else { word.clone() };
        let command: Vec<_> = self.command.iter().map(shown).collect();
        serde_json::json!({"run": {
            "image": self.image, "command": command, "name": self.name, "env": env, "volumes": self.volumes,
            "mounts": self.mounts, "network": self.network, "entrypoint": self.entrypoint, "user": self.user,
            "workdir": self.workdir, "security_opt": self.security_opt, "privileged": self.privileged,
            "add_host": self.add_host,
        }})
    }

    /// Volumes that are mounted by name.
    fn named_volumes(&self) -> impl Iterator<Item = &str> {
        let bound = self.volumes.iter().filter_map(|spec| Some(spec.split_once(':')?.0));
        let mounted = self.mounts.iter().filter(|mount| mount.typ == Some(MountType::VOLUME));
        let sources = bound.chain(mounted.filter_map(|mount| mount.source.as_deref()));
        sources.filter(|source| !source.starts_with(['/', '.', '~']))
    }

    /// The request that creates it.
    pub(super) fn body(self) -> ContainerCreateBody {
        let some = |list: Vec<String>| Some(list).filter(|list| !list.is_empty());
        ContainerCreateBody {
            image: Some(self.image),
            cmd: some(self.command),
            env: some(self.env),
            entrypoint: self.entrypoint.map(|e| vec![e]),
            user: self.user,
            working_dir: self.workdir,
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            host_config: Some(HostConfig {
                binds: some(self.volumes),
                mounts: Some(self.mounts).filter(|m| !m.is_empty()),
                network_mode: self.network,
                security_opt: some(self.security_opt),
                privileged: Some(self.privileged),
                extra_hosts: some(self.add_host),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        }
    }
}

impl Engine {
    /// Starts a container and streams its stdout.
    pub async fn run(&self, spec: RunSpec, ui: &Reporter, stop: &CancellationToken) -> Result<Running> {
        self.require_image(&spec.image).await?;
        for volume in spec.named_volumes() {
            // The engine would make it, and the backup of nothing would look like a good one.
            self.volume(volume).await?;
        }
        let id = self.create(spec.name.clone(), spec.body()).await?;
        let started = async {
            let options =
                AttachContainerOptions { stream: true, stdout: true, stderr: true, ..Default::default() };
            // Attached first: what a quick container says must not be missed.
            let attached = self.docker.attach_container(&id, Some(options)).await;
            let output = attached.context(|| "cannot attach to the container".into())?.output;
            let start = self.docker.start_container(&id, None::<StartContainerOptions>).await;
            start.context(|| "cannot start the container".into())?;
            Ok(output)
        };
        let output = match started.await {
            Ok(output) => output,
            Err(error) => {
                self.remove_or_warn(&id, ui).await;
                return Err(error);
            }
        };
        let (engine, ui, stop) = (self.clone(), ui.clone(), stop.clone());
        Ok(running(move |sender| async move {
            let outcome = engine.drain(&id, output, &sender, &ui, &stop).await;
            // Before the proof is given: a backup that says it is done has left nothing running.
            engine.remove_or_warn(&id, &ui).await;
            (sender, outcome)
        }))
    }

    pub(super) async fn remove_or_warn(&self, id: &str, ui: &Reporter) {
        if let Err(error) = self.remove(id).await {
            ui.warn(&format!("{error}; {}", error.hint_text().unwrap_or_default()));
        }
    }

    /// Passes the container's stdout on, then asks how it ended: EOF alone proves nothing.
    async fn drain(
        &self,
        id: &str,
        output: impl Stream<Item = Result<LogOutput, bollard::errors::Error>>,
        sender: &Sender<Bytes>,
        ui: &Reporter,
        stop: &CancellationToken,
    ) -> Result<Proof> {
        let said = pass_on(output, sender, ui, stop).await?;
        let options = WaitContainerOptions { condition: "not-running".into() };
        let mut waiting = std::pin::pin!(self.docker.wait_container(id, Some(options)));
        let waited = tokio::select! {
            waited = tokio::time::timeout(SETTLES, waiting.next()) => waited,
            () = stop.cancelled() => return Err(Error::interrupted()),
        };
        let Ok(waited) = waited else {
            return Err(Error::failed(
                "the container's output ended while it still runs: the stream was cut",
            ));
        };
        // An exit code other than 0 arrives as an error too; the inspection below says it better.
        let lost = || "the engine went away before it said how the container ended".to_string();
        if let Some(Err(error)) = waited
            && !matches!(error, bollard::errors::Error::DockerContainerWaitError { .. })
        {
            return Err(error).context(lost);
        }
        let inspected =
            self.docker.inspect_container(id, None::<InspectContainerOptions>).await.context(lost)?;
        let state = inspected.state.unwrap_or_default();
        let failed = |what: String| Err(Error::failed(what).because(said.join("; ")));
        match (state.oom_killed, state.exit_code) {
            (Some(true), _) => failed("the container ran out of memory and was killed (OOMKilled)".into())
                .map_err(|e: Error| e.hint("give it more memory, or the host")),
            (_, Some(0)) => Ok(Proof { exit_code: Some(0), ..Proof::default() }),
            (_, Some(code)) => failed(format!("the container exited with code {code}")),
            (_, None) => failed("the engine does not say how the container ended".into()),
        }
    }

    /// Runs a command in a running container and streams its stdout.
    pub async fn exec(
        &self,
        container: &str,
        command: Vec<String>,
        ui: &Reporter,
        stop: &CancellationToken,
    ) -> Result<Running> {
        let options = CreateExecOptions {
            cmd: Some(command),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..CreateExecOptions::default()
        };
        let exec = self.create_exec(container, options).await?;
        let started =
            self.docker.start_exec(&exec, None).await.context(|| "cannot start the command".into())?;
        let StartExecResults::Attached { output, .. } = started else {
            return Err(Error::failed("the engine started the command detached"));
        };
        let (engine, ui, stop, container) = (self.clone(), ui.clone(), stop.clone(), container.to_string());
        Ok(running(move |sender| async move {
            let outcome = engine.drain_exec(&exec, output, &sender, &ui, &stop).await;
            if outcome.is_err() {
                ui.warn(&format!(
                    "the command may still run in container {container}: the engine cannot stop it"
                ));
            }
            (sender, outcome)
        }))
    }

    /// Prepares a command in a running container; returns its id.
    pub(super) async fn create_exec(
        &self,
        container: &str,
        options: CreateExecOptions<String>,
    ) -> Result<String> {
        let created = self.docker.create_exec(container, options).await.map_err(|e| {
            let hint = match status(&e) {
                Some(404) => "no such container: `docker ps` shows the running ones",
                Some(409) => "the container is not running: `docker start` it first",
                _ => "is the container running?",
            };
            Error::failed(format!("cannot run a command in container {container}")).because(e).hint(hint)
        })?;
        Ok(created.id)
    }

    /// The exit code of a command whose streams have ended.
    pub(super) async fn exec_exit_code(&self, id: &str) -> Result<i64> {
        let began = tokio::time::Instant::now();
        loop {
            let state = self.docker.inspect_exec(id).await;
            let state =
                state.context(|| "the engine went away before it said how the command ended".into())?;
            match (state.running, state.exit_code) {
                (Some(false), Some(code)) => return Ok(code),
                _ if began.elapsed() > SETTLES => {
                    return Err(Error::failed("the command's output ended while it still runs"));
                }
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn drain_exec(
        &self,
        id: &str,
        output: impl Stream<Item = Result<LogOutput, bollard::errors::Error>>,
        sender: &Sender<Bytes>,
        ui: &Reporter,
        stop: &CancellationToken,
    ) -> Result<Proof> {
        let said = pass_on(output, sender, ui, stop).await?;
        let code = self.exec_exit_code(id).await?;
        match code {
            0 => Ok(Proof { exit_code: Some(0), ..Proof::default() }),
            code => {
                Err(Error::failed(format!("the command exited with code {code}")).because(said.join("; ")))
            }
        }
    }
}

/// Sends stdout on, shows stderr, and returns stderr's last lines.
async fn pass_on(
    output: impl Stream<Item = Result<LogOutput, bollard::errors::Error>>,
    sender: &Sender<Bytes>,
    ui: &Reporter,
    stop: &CancellationToken,
) -> Result<Vec<String>> {
    let mut output = std::pin::pin!(output);
    let mut stderr = Lines::default();
    loop {
        let next = tokio::select! {
            next = output.next() => next,
            () = stop.cancelled() => return Err(Error::interrupted()),
        };
        match next {
            Some(Ok(LogOutput::StdOut { message })) => sender.send(message).await?,
            Some(Ok(LogOutput::StdErr { message })) => stderr.take(&message, ui),
            // Without a TTY every byte comes in a frame; the client hands what is in none over as console output.
            Some(Ok(LogOutput::Console { .. } | LogOutput::StdIn { .. })) => {
                return Err(Error::failed("the engine's stream broke off inside a frame"));
            }
            Some(Err(error)) => return Err(error).context(|| "the engine's stream broke off".into()),
            None => return Ok(stderr.finish(ui).last),
        }
    }
}
