//! The stdout of a container: of a new one (`backup run`), or of a command in a running one (`backup exec`).

use std::time::Duration;

use bollard::container::LogOutput;
use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;

use super::attach::Attached;
use super::exit::{self, Exit};
use super::{Engine, running};
use crate::error::{Context, Error, Result};
use crate::report::{Lines, Reporter, printable};
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
        let Attached { id, output, .. } = self.start_attached(spec, false, ui).await?;
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
        let stderr = pass_on(output, sender, ui, stop).await?.stderr;
        let exit = tokio::select! {
            exit = self.exit(id, Some(SETTLES)) => exit?,
            () = stop.cancelled() => return Err(Error::interrupted()),
        };
        proof(exit, &stderr)
    }

    /// Runs a command in a running container and streams its stdout.
    pub async fn exec(
        &self,
        container: &str,
        command: Vec<String>,
        ui: &Reporter,
        stop: &CancellationToken,
    ) -> Result<Running> {
        let Attached { id: exec, output, .. } = self.exec_attached(container, command, None, false).await?;
        let (engine, ui, stop, container) = (self.clone(), ui.clone(), stop.clone(), container.to_string());
        Ok(running(move |sender| async move {
            let drained = async {
                let said = pass_on(output, &sender, &ui, &stop).await?;
                Ok((engine.exec_exit_code(&exec).await?, said))
            };
            let outcome = match drained.await {
                // It has ended, whatever it ended with.
                Ok((code, said)) => exec_proof(code, &said),
                Err(error) => {
                    ui.warn(&format!(
                        "the command may still run in container {container}: the engine cannot stop it"
                    ));
                    Err(error)
                }
            };
            (sender, outcome)
        }))
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

    /// Whether a command still runs, as far as the engine says.
    pub(super) async fn exec_runs(&self, id: &str) -> bool {
        !matches!(self.docker.inspect_exec(id).await, Ok(state) if state.running == Some(false))
    }
}

/// What a command's exit code proves.
fn exec_proof(code: i64, said: &Said) -> Result<Proof> {
    let failed = || Error::failed(format!("the command exited with code {code}"));
    let error = match code {
        0 => return Ok(Proof { exit_code: Some(0), ..Proof::default() }),
        // The engine itself gives these two codes where it could not start the command, and says why on its stdout.
        126 | 127 if said.stderr.is_empty() => failed().because(said.reason()),
        _ => failed().because(said.stderr.join("; ")),
    };
    Err(match code {
        126 => error
            .hint("the container has it, but cannot execute it: is it a program, and may its user run it?"),
        127 => error.hint("is it in the container, and in its PATH? a shell's words need a shell: sh -c '…'"),
        _ => error,
    })
}

/// What the end of a container proves of the output that came; its last lines on stderr say why it failed.
fn proof(exit: Exit, stderr: &[String]) -> Result<Proof> {
    let failed = |what: &str| Error::failed(what).because(stderr.join("; "));
    match exit {
        Exit::Code(0) => Ok(Proof { exit_code: Some(0), ..Proof::default() }),
        Exit::Code(code) => Err(failed(&format!("the container exited with code {code}"))),
        Exit::OutOfMemory => Err(failed(exit::OUT_OF_MEMORY).hint("give it more memory, or the host")),
        Exit::StillRunning => {
            Err(Error::failed("the container's output ended while it still runs: the stream was cut"))
        }
        Exit::Unknown => Err(failed(exit::UNKNOWN)),
    }
}

/// What a process said beside its data.
#[derive(Debug, Default)]
struct Said {
    /// Its last lines on stderr.
    stderr: Vec<String>,
    /// How its stdout began.
    stdout: Vec<u8>,
    /// Whether that was all of its stdout.
    is_whole: bool,
}

impl Said {
    /// Bytes of stdout that are kept: what an engine says in place of a process is short.
    const KEPT: usize = 4096;

    fn keep(&mut self, bytes: &[u8]) {
        let room = Self::KEPT - self.stdout.len();
        self.is_whole = bytes.len() <= room && (self.is_whole || self.stdout.is_empty());
        self.stdout.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// What the engine says on stdout in place of a process that it could not start; nothing where that is data.
    fn reason(&self) -> String {
        let text = std::str::from_utf8(&self.stdout).unwrap_or_default().trim();
        let words =
            ["exec failed", "executable file not found", "permission denied", "no such file or directory"];
        let is_reason = self.is_whole && words.iter().any(|words| text.contains(words));
        if is_reason { printable(text) } else { String::new() }
    }
}

/// Sends stdout on, shows stderr, and returns what was said beside the data.
async fn pass_on(
    output: impl Stream<Item = Result<LogOutput, bollard::errors::Error>>,
    sender: &Sender<Bytes>,
    ui: &Reporter,
    stop: &CancellationToken,
) -> Result<Said> {
    let mut output = std::pin::pin!(output);
    let (mut stderr, mut said) = (Lines::default(), Said::default());
    loop {
        let next = tokio::select! {
            next = output.next() => next,
            () = stop.cancelled() => return Err(Error::interrupted()),
        };
        match next {
            Some(Ok(LogOutput::StdOut { message })) => {
                said.keep(&message);
                sender.send(message).await?;
            }
            Some(Ok(LogOutput::StdErr { message })) => stderr.take(&message, ui),
            // Without a TTY every byte comes in a frame; the client hands what is in none over as console output.
            Some(Ok(LogOutput::Console { .. } | LogOutput::StdIn { .. })) => {
                return Err(Error::failed("the engine's stream broke off inside a frame"));
            }
            Some(Err(error)) => return Err(error).context(|| "the engine's stream broke off".into()),
            None => return Ok(Said { stderr: stderr.finish(ui).last, ..said }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stderr() -> Vec<String> {
        vec!["no such table".into(), "giving up".into()]
    }

    #[test]
    fn only_exit_code_0_is_a_proof() {
        assert_eq!(proof(Exit::Code(0), &stderr()).unwrap().exit_code, Some(0));
        for exit in [Exit::Code(1), Exit::Code(-1), Exit::OutOfMemory, Exit::StillRunning, Exit::Unknown] {
            assert!(proof(exit, &stderr()).is_err(), "{exit:?}");
        }
    }

    #[test]
    fn a_failure_says_what_the_container_said_last() {
        let text = |exit| proof(exit, &stderr()).unwrap_err().to_string();
        assert_eq!(text(Exit::Code(3)), "the container exited with code 3: no such table; giving up");
        assert_eq!(proof(Exit::Code(3), &[]).unwrap_err().to_string(), "the container exited with code 3");
        assert_eq!(
            text(Exit::OutOfMemory),
            "the container ran out of memory and was killed (OOMKilled): no such table; giving up"
        );
        assert_eq!(
            text(Exit::StillRunning),
            "the container's output ended while it still runs: the stream was cut"
        );
        let hint = proof(Exit::OutOfMemory, &[]).unwrap_err();
        assert_eq!(hint.hint_text(), Some("give it more memory, or the host"));
    }

    #[test]
    fn a_command_that_could_not_be_started_is_told_with_the_engines_reason() {
        let said = |stdout: &str| {
            let mut said = Said::default();
            stdout.as_bytes().chunks(7).for_each(|chunk| said.keep(chunk));
            said
        };
        let reason = "OCI runtime exec failed: exec failed: unable to start container process: exec: \"pg\": executable \
                      file not found in $PATH: unknown";
        let error = exec_proof(127, &said(&format!("{reason}\r\n"))).unwrap_err();
        assert_eq!(error.to_string(), format!("the command exited with code 127: {reason}"));
        assert!(error.hint_text().unwrap().contains("PATH"));
        let error = exec_proof(126, &said("exec: \"/etc\": permission denied")).unwrap_err();
        assert!(error.to_string().ends_with("permission denied"), "{error}");
        // Data is never shown, nor is what a command of the operator's own said put aside.
        let error = exec_proof(127, &said(&"exec failed ".repeat(1000))).unwrap_err();
        assert_eq!(error.to_string(), "the command exited with code 127");
        assert_eq!(
            exec_proof(127, &said("INSERT INTO t")).unwrap_err().to_string(),
            "the command exited with code 127"
        );
        let own = Said { stderr: vec!["sh: pg: not found".into()], ..said("half a dump") };
        assert_eq!(
            exec_proof(127, &own).unwrap_err().to_string(),
            "the command exited with code 127: sh: pg: not found"
        );
        assert!(exec_proof(0, &said(reason)).is_ok());
        assert_eq!(exec_proof(1, &said(reason)).unwrap_err().to_string(), "the command exited with code 1");
    }

    #[test]
    fn the_catalog_is_told_no_secret() {
        let spec = RunSpec {
            image: "db".into(),
            command: vec!["dump".into(), "hunter2".into()],
            env: vec!["PASSWORD=hunter3".into(), "EMPTY".into()],
            secrets: vec!["hunter2".into()],
            ..RunSpec::default()
        };
        let described = spec.describe();
        assert_eq!(described["run"]["command"], serde_json::json!(["dump", "<redacted>"]));
        assert_eq!(described["run"]["env"], serde_json::json!(["PASSWORD", "EMPTY"]));
        assert!(!described.to_string().contains("hunter"), "{described}");
    }

    #[test]
    fn only_volumes_with_a_name_must_be_there() {
        let mount =
            |typ, source: &str| Mount { typ: Some(typ), source: Some(source.into()), ..Mount::default() };
        let spec = RunSpec {
            volumes: ["data:/data:ro", "/srv:/srv", "./here:/x", "~/y:/y", "/anonymous"]
                .map(String::from)
                .into(),
            mounts: vec![mount(MountType::VOLUME, "more"), mount(MountType::BIND, "bound")],
            ..RunSpec::default()
        };
        assert_eq!(spec.named_volumes().collect::<Vec<_>>(), ["data", "more"]);
    }

    #[test]
    fn a_request_holds_only_what_was_asked_for() {
        let body = RunSpec { image: "db".into(), ..RunSpec::default() }.body();
        assert_eq!((body.cmd, body.env, body.entrypoint), (None, None, None));
        assert_eq!(
            (body.attach_stdin, body.attach_stdout, body.attach_stderr),
            (None, Some(true), Some(true))
        );
        let host = body.host_config.unwrap();
        assert_eq!((host.binds, host.mounts, host.privileged), (None, None, Some(false)));
        let spec = RunSpec { entrypoint: Some("sh".into()), user: Some("1".into()), ..RunSpec::default() };
        let body = spec.body();
        assert_eq!((body.entrypoint, body.user), (Some(vec!["sh".into()]), Some("1".into())));
    }
}
