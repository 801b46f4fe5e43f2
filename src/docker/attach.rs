//! Processes with their streams attached: a new container, or a command in a running one.

use std::pin::Pin;

use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::query_parameters::{AttachContainerOptions, StartContainerOptions};
use futures_util::Stream;
use tokio::io::AsyncWrite;

use super::run::RunSpec;
use super::{Engine, status};
use crate::error::{Context, Error, Result};
use crate::report::Reporter;

pub(super) type Output = Pin<Box<dyn Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send>>;
pub(super) type Input = Pin<Box<dyn AsyncWrite + Send>>;

/// A process that was started, and its streams.
pub(super) struct Attached {
    /// The container's, or the command's.
    pub id: String,
    /// Its stdout and stderr.
    pub output: Output,
    /// Its stdin, if that was asked for.
    pub input: Input,
}

impl Engine {
    /// Creates a container, attaches to it and starts it; one that cannot be started is removed.
    pub(super) async fn start_attached(&self, spec: RunSpec, stdin: bool, ui: &Reporter) -> Result<Attached> {
        let name = spec.name.clone();
        let mut body = spec.body();
        if stdin {
            (body.attach_stdin, body.open_stdin, body.stdin_once) = (Some(true), Some(true), Some(true));
        }
        let id = self.create(name, body).await?;
        let started = async {
            let options = AttachContainerOptions {
                stream: true,
                stdin,
                stdout: true,
                stderr: true,
                ..AttachContainerOptions::default()
            };
            // Attached first: what a quick container says must not be missed.
            let attached = self.docker.attach_container(&id, Some(options)).await;
            let attached = attached.context(|| "cannot attach to the container".into())?;
            let start = self.docker.start_container(&id, None::<StartContainerOptions>).await;
            start.context(|| "cannot start the container".into())?;
            Ok((attached.output, attached.input))
        };
        match started.await {
            Ok((output, input)) => Ok(Attached { id, output, input }),
            Err(error) => {
                self.remove_or_warn(&id, ui).await;
                Err(error)
            }
        }
    }

    /// What a container says, from before it is started.
    pub(super) async fn attach_output(&self, id: &str) -> Result<Output> {
        let options = AttachContainerOptions {
            stream: true,
            stdout: true,
            stderr: true,
            ..AttachContainerOptions::default()
        };
        let attached = self.docker.attach_container(id, Some(options)).await;
        attached.map(|attached| attached.output).context(|| "cannot attach to the container".into())
    }

    /// Starts a command in a running container, attached to it.
    pub(super) async fn exec_attached(
        &self,
        container: &str,
        command: Vec<String>,
        user: Option<&str>,
        stdin: bool,
    ) -> Result<Attached> {
        let options = CreateExecOptions {
            cmd: Some(command),
            user: user.map(String::from),
            attach_stdin: stdin.then_some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..CreateExecOptions::default()
        };
        let created = self.docker.create_exec(container, options).await.map_err(|e| {
            let hint = exec_hint(status(&e));
            Error::failed(format!("cannot run a command in container {container}")).because(e).hint(hint)
        })?;
        let started = self.docker.start_exec(&created.id, None).await;
        match started.context(|| "cannot start the command".into())? {
            StartExecResults::Attached { output, input } => Ok(Attached { id: created.id, output, input }),
            StartExecResults::Detached => Err(Error::failed("the engine started the command detached")),
        }
    }
}

fn exec_hint(status: Option<u16>) -> &'static str {
    match status {
        Some(404) => "no such container: `docker ps` shows the running ones",
        Some(409) => "the container is not running: `docker start` it first",
        _ => "is the container running?",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_cannot_run_says_what_to_do() {
        assert!(exec_hint(Some(404)).contains("docker ps"));
        assert!(exec_hint(Some(409)).contains("docker start"));
        assert_eq!(exec_hint(None), exec_hint(Some(500)));
    }
}
