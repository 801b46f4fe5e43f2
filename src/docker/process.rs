//! The way back into the engine: bytes on a container's stdin, into a volume, into the image store.

use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::{DownloadFromContainerOptions, ImportImageOptions, UploadToContainerOptions};
use futures_util::StreamExt;

use super::attach::Attached;
use super::exit::{self, Exit};
use super::feed::{Process, Runs};
use super::run::RunSpec;
use super::{Engine, Volume};
use crate::error::{Context, Error, Result};
use crate::report::Reporter;
use crate::stream::sink::{Sink, body};
use crate::tar::{Entry, Walker};

impl Engine {
    /// A new container with the bytes on its stdin; its output is shown, its exit code is the sink's.
    pub async fn feed_run(&self, spec: RunSpec, ui: &Reporter) -> Result<Sink> {
        self.require_image(&spec.image).await?;
        let Attached { id, output, input } = self.start_attached(spec, true, ui).await?;
        let (engine, ui) = (self.clone(), ui.clone());
        Ok(Sink::new(move |from, stop| async move {
            let mut process = Process::new(input, output);
            let (asked, name) = (engine.clone(), id.clone());
            let runs: Runs = Box::new(move || {
                let (engine, id) = (asked.clone(), name.clone());
                Box::pin(async move { engine.runs(&id).await })
            });
            let ended = async {
                let taken = process.feed(from, runs).await?;
                taken.or_early(exit_code(engine.exit(&id, None).await?)?, &ui)
            };
            let ended = tokio::select! {
                ended = ended => ended,
                () = stop.cancelled() => Err(Error::interrupted()),
            };
            // Before its stdin is closed: a container that is cut off must not take that for the end.
            engine.remove_or_warn(&id, &ui).await;
            process.stop_showing();
            ended
        }))
    }

    /// A command in a running container with the bytes on its stdin.
    pub async fn feed_exec(&self, container: &str, command: Vec<String>, ui: &Reporter) -> Result<Sink> {
        let Attached { id: exec, output, input } = self.exec_attached(container, command, None, true).await?;
        let (engine, ui, container) = (self.clone(), ui.clone(), container.to_string());
        Ok(Sink::new(move |from, stop| async move {
            let mut process = Process::new(input, output);
            let (asked, name) = (engine.clone(), exec.clone());
            let runs: Runs = Box::new(move || {
                let (engine, exec) = (asked.clone(), name.clone());
                Box::pin(async move { engine.exec_runs(&exec).await })
            });
            let ended = async {
                let taken = process.feed(from, runs).await?;
                taken.or_early(engine.exec_exit_code(&exec).await?, &ui)
            };
            let ended = tokio::select! {
                ended = ended => ended,
                () = stop.cancelled() => Err(Error::interrupted()),
            };
            if ended.is_err() && engine.exec_runs(&exec).await {
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
            while let Some(progress) = loading.next().await {
                let progress = progress.context(|| "the engine does not load the image".into())?;
                if let Some(detail) = progress.error_detail {
                    return Err(Error::failed("the engine does not load the image")
                        .because(detail.message.unwrap_or_default()));
                }
                progress.stream.iter().for_each(|line| ui.source_line(line.trim_end()));
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

/// The exit code of a container that took bytes.
fn exit_code(exit: Exit) -> Result<i64> {
    match exit {
        Exit::Code(code) => Ok(code),
        Exit::OutOfMemory => Err(Error::failed(exit::OUT_OF_MEMORY)),
        Exit::StillRunning => Err(Error::failed("the container still runs: the engine's stream was cut")),
        Exit::Unknown => Err(Error::failed(exit::UNKNOWN)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_took_bytes_has_an_exit_code_or_an_error() {
        assert_eq!(exit_code(Exit::Code(0)).unwrap(), 0);
        assert_eq!(exit_code(Exit::Code(7)).unwrap(), 7);
        let text = |exit| exit_code(exit).unwrap_err().to_string();
        assert_eq!(text(Exit::OutOfMemory), "the container ran out of memory and was killed (OOMKilled)");
        assert_eq!(text(Exit::StillRunning), "the container still runs: the engine's stream was cut");
        assert_eq!(text(Exit::Unknown), "the engine does not say how the container ended");
    }
}
