//! The way back into the engine: bytes on a container's stdin, into a volume, into the image store.

use std::io::Write;
use std::pin::Pin;

use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::{
    AttachContainerOptions, DownloadFromContainerOptions, ImportImageOptions, InspectContainerOptions,
    StartContainerOptions, UploadToContainerOptions, WaitContainerOptions,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::run::RunSpec;
use super::{Engine, Volume};
use crate::error::{Context, Error, Result};
use crate::report::Reporter;
use crate::stream::channel::Receiver;
use crate::stream::sink::{Sink, body};
use crate::tar::{Entry, Walker};

type Output = Pin<Box<dyn Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send>>;
type Input = Pin<Box<dyn AsyncWrite + Send>>;

impl Engine {
    /// A new container with the bytes on its stdin; its output is shown, its exit code is the sink's.
    pub async fn feed_run(&self, spec: RunSpec, ui: &Reporter) -> Result<Sink> {
        self.require_image(&spec.image).await?;
        let name = spec.name.clone();
        let mut body = spec.body();
        (body.attach_stdin, body.open_stdin, body.stdin_once) = (Some(true), Some(true), Some(true));
        let id = self.create(name, body).await?;
        let started = async {
            let options = AttachContainerOptions {
                stream: true,
                stdin: true,
                stdout: true,
                stderr: true,
                ..Default::default()
            };
            let attached = self.docker.attach_container(&id, Some(options)).await;
            let attached = attached.context(|| "cannot attach to the container".into())?;
            let start = self.docker.start_container(&id, None::<StartContainerOptions>).await;
            start.context(|| "cannot start the container".into())?;
            Ok((attached.output, attached.input))
        };
        let (output, input) = match started.await {
            Ok(attached) => attached,
            Err(error) => {
                self.remove_or_warn(&id, ui).await;
                return Err(error);
            }
        };
        let (engine, ui) = (self.clone(), ui.clone());
        Ok(Sink::new(move |from, stop| async move {
            let mut process = Process { input, showing: tokio::spawn(show(output)) };
            let ended = async {
                let all = process.feed(from).await?;
                all.or_early(engine.exit_code(&id).await?)
            };
            let ended = tokio::select! {
                ended = ended => ended,
                () = stop.cancelled() => Err(Error::interrupted()),
            };
            // Before its stdin is closed: a container that is cut off must not take that for the end.
            engine.remove_or_warn(&id, &ui).await;
            process.showing.abort();
            ended
        }))
    }

    async fn exit_code(&self, id: &str) -> Result<i64> {
        let options = WaitContainerOptions { condition: "not-running".into() };
        let lost = || "the engine went away before it said how the container ended".to_string();
        if let Some(Err(error)) = std::pin::pin!(self.docker.wait_container(id, Some(options))).next().await
            && !matches!(error, bollard::errors::Error::DockerContainerWaitError { .. })
        {
            return Err(error).context(lost);
        }
        let inspected =
            self.docker.inspect_container(id, None::<InspectContainerOptions>).await.context(lost)?;
        let state = inspected.state.unwrap_or_default();
        match (state.oom_killed, state.exit_code) {
            // The engine says 0 of a container that still runs.
            _ if state.running == Some(true) => {
                Err(Error::failed("the container still runs: the engine's stream was cut"))
            }
            (Some(true), _) => {
                Err(Error::failed("the container ran out of memory and was killed (OOMKilled)"))
            }
            (_, Some(code)) => Ok(code),
            (_, None) => Err(Error::failed("the engine does not say how the container ended")),
        }
    }

    /// A command in a running container with the bytes on its stdin.
    pub async fn feed_exec(&self, container: &str, command: Vec<String>, ui: &Reporter) -> Result<Sink> {
        let options = CreateExecOptions {
            cmd: Some(command),
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..CreateExecOptions::default()
        };
        let exec = self.create_exec(container, options).await?;
        let started =
            self.docker.start_exec(&exec, None).await.context(|| "cannot start the command".into())?;
        let StartExecResults::Attached { output, input } = started else {
            return Err(Error::failed("the engine started the command detached"));
        };
        let (engine, ui, container) = (self.clone(), ui.clone(), container.to_string());
        Ok(Sink::new(move |from, stop| async move {
            let mut process = Process { input, showing: tokio::spawn(show(output)) };
            let ended = async {
                let all = process.feed(from).await?;
                all.or_early(engine.exec_exit_code(&exec).await?)
            };
            let ended = tokio::select! {
                ended = ended => ended,
                () = stop.cancelled() => Err(Error::interrupted()),
            };
            if ended.is_err() {
                ui.warn(&format!(
                    "the command in container {container} may still run, and takes the cut for the end of its input: \
                     the engine cannot stop it"
                ));
            }
            ended
        }))
    }

    /// `docker load`.
    pub fn feed_image(&self, ui: &Reporter) -> Sink {
        let (docker, ui) = (self.docker.clone(), ui.clone());
        Sink::new(move |from, _| async move {
            let options = ImportImageOptions { quiet: true, platform: None };
            let mut loading = std::pin::pin!(docker.import_image_stream(options, body(from), None));
            while let Some(said) = loading.next().await {
                let said = said.context(|| "the engine does not load the image".into())?;
                if let Some(detail) = said.error_detail {
                    return Err(Error::failed("the engine does not load the image")
                        .because(detail.message.unwrap_or_default()));
                }
                said.stream.iter().for_each(|line| ui.source_line(line.trim_end()));
            }
            Ok(0)
        })
    }

    /// Makes a volume unless it is there.
    pub async fn make_volume(&self, name: &str) -> Result<Volume> {
        let request = VolumeCreateRequest { name: Some(name.into()), ..VolumeCreateRequest::default() };
        let made = self.docker.create_volume(request).await;
        made.context(|| format!("cannot make volume {name}"))?;
        self.volume(name).await
    }

    /// Whether a volume holds anything, seen through the engine.
    pub async fn volume_is_empty(&self, name: &str, ui: &Reporter) -> Result<bool> {
        let id = self.container_with(&[(name.into(), name.into())], true).await?;
        let options = DownloadFromContainerOptions { path: format!("/{name}/_data/.") };
        let mut entries: Vec<Entry> = Vec::new();
        let mut walker = Walker::new();
        let looked = async {
            let mut body = std::pin::pin!(self.docker.download_from_container(&id, Some(options)));
            while let Some(chunk) = body.next().await {
                let chunk = chunk.context(|| format!("cannot look into volume {name}"))?;
                walker.feed(&chunk, &mut entries)?;
                // The folder itself is the first.
                if entries.len() > 1 {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        let empty = looked.await;
        self.remove_or_warn(&id, ui).await;
        empty
    }

    /// A volume, through the archive API: what was `ORIGINAL/_data/…` lands in volume `name`.
    pub async fn feed_volume(&self, name: &str, original: &str, ui: &Reporter) -> Result<Sink> {
        let id = self.container_with(&[(name.into(), original.into())], false).await?;
        let (engine, ui) = (self.clone(), ui.clone());
        Ok(Sink::new(move |from, _| async move {
            let options = UploadToContainerOptions {
                path: "/".into(),
                copy_uidgid: Some("true".into()),
                no_overwrite_dir_non_dir: None,
            };
            // Not the call that takes a plain stream: there, a stream that breaks off looks like one that ended.
            let upload = bollard::body_try_stream(body(from));
            let sent = engine.docker.upload_to_container(&id, Some(options), upload).await;
            engine.remove_or_warn(&id, &ui).await;
            sent.map(|()| 0).context(|| "the engine does not take the files".into())
        }))
    }
}

/// Whether a process took everything.
enum Taken {
    All,
    /// It stopped reading before the end.
    Some,
}

impl Taken {
    /// The exit code; one that says that all is well is not believed of a process that did not read everything.
    fn or_early(self, code: i64) -> Result<i64> {
        match (self, code) {
            (Taken::Some, 0) => Err(Error::failed("the process ended before it had read everything")),
            (_, code) => Ok(code),
        }
    }
}

/// A process that is fed while its output is shown.
struct Process {
    input: Input,
    showing: tokio::task::JoinHandle<Result<()>>,
}

impl Process {
    async fn feed(&mut self, mut from: Receiver<Bytes>) -> Result<Taken> {
        let mut taken = Taken::All;
        while let Some(bytes) = from.recv().await? {
            if self.input.write_all(&bytes).await.is_err() {
                taken = Taken::Some;
                break;
            }
        }
        // Half-closed: the process sees the end and may still talk.
        let _ = self.input.shutdown().await;
        (&mut self.showing).await.map_err(|e| Error::failed("a worker died").because(e))??;
        Ok(taken)
    }
}

async fn show(mut output: Output) -> Result<()> {
    while let Some(next) = output.next().await {
        let written = match next.context(|| "the engine's stream broke off".into())? {
            LogOutput::StdErr { message } => std::io::stderr().write_all(&message),
            LogOutput::StdOut { message } => {
                let mut stdout = std::io::stdout();
                stdout.write_all(&message).and_then(|()| stdout.flush())
            }
            LogOutput::Console { .. } | LogOutput::StdIn { .. } => {
                return Err(Error::failed("the engine's stream broke off inside a frame"));
            }
        };
        // Nobody has to read it.
        drop(written);
    }
    Ok(())
}
