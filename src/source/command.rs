//! The stdout of a command of this host: `pg_dump`, `etcdctl`, `kubectl exec`. Its exit code is the proof.

use std::process::Stdio;

use rustix::process::{Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::error::{Context, Error, Result};
use crate::host::process;
use crate::report::{Lines, Reporter};
use crate::stream::source::{ByteStream, Proof, Running};

/// Starts a command; what it writes to stderr is shown, and its end is told where it fails.
///
/// # Errors
/// There is no such command.
pub(super) fn open(words: &[String], ui: &Reporter, stop: &CancellationToken) -> Result<Running> {
    let [program, args @ ..] = words else { return Err(Error::usage("which command?")) };
    let (reader, writer) = std::io::pipe().context(|| "cannot make a pipe".into())?;
    let mut command = Command::from(process::program(program));
    // Not in the terminal's group: a Ctrl-C is for us, and we tell all that it has started.
    command.args(args).process_group(0).stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
    let child = command.spawn().map_err(|error| {
        Error::failed(format!("cannot start {program}"))
            .because(error)
            .hint("is it installed, and in PATH? For the stdout of a command in a container there is `sealift backup exec`")
    })?;
    // It holds our copy of the writing end; the reader must see EOF when the last of the command's is closed.
    drop(command);
    let (prove, proof) = oneshot::channel();
    let (name, ui, stop) = (program.clone(), ui.clone(), stop.clone());
    let cleanup = tokio::spawn(async move {
        let _ = prove.send(watch(child, &name, &ui, &stop).await);
    });
    Ok(Running { stream: ByteStream::from_reader(reader, proof), cleanup })
}

/// Waits for its end; kills it, and what it has started, when the backup is stopped.
async fn watch(mut child: Child, name: &str, ui: &Reporter, stop: &CancellationToken) -> Result<Proof> {
    let group = process::pid(&child);
    let stderr = child.stderr.take();
    let ended = async {
        let lines = match stderr {
            Some(stderr) => Lines::default().read(stderr, ui).await,
            None => Lines::default(),
        };
        (lines, child.wait().await)
    };
    let ended = tokio::select! {
        ended = ended => Some(ended),
        () = stop.cancelled() => None,
    };
    let Some((lines, status)) = ended else {
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = child.wait().await;
        return Err(Error::interrupted());
    };
    let status = status.context(|| format!("cannot wait for {name}"))?;
    match status.code() {
        Some(0) => Ok(Proof { exit_code: Some(0), ..Proof::default() }),
        _ => Err(Error::failed(format!("{name} failed ({status})")).because(lines.last.join("; "))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::gnutar::tests::read;
    use super::*;
    use crate::error::Kind;

    fn shell(script: &str, stop: &CancellationToken) -> Running {
        open(&["sh", "-c", script].map(String::from), &Reporter::silent(), stop).unwrap()
    }

    #[tokio::test]
    async fn its_stdout_comes_through_and_its_exit_code_is_the_proof() {
        let stop = CancellationToken::new();
        let (bytes, proof) = read(shell("cat; echo said >&2; printf 'a\\0b'", &stop)).await;
        assert_eq!(
            (bytes.as_slice(), proof.unwrap().exit_code),
            (&b"a\0b"[..], Some(0)),
            "its stdin is empty"
        );
        let (bytes, failed) = read(shell("echo much; echo 'no such database' >&2; exit 3", &stop)).await;
        let failed = failed.unwrap_err();
        assert_eq!(bytes, b"much\n");
        assert_eq!(failed.to_string(), "sh failed (exit status: 3): no such database");
        let (_, killed) = read(shell("kill -9 $$", &stop)).await;
        assert!(killed.unwrap_err().to_string().contains("signal: 9"));
    }

    #[tokio::test]
    async fn it_is_stopped_with_all_that_it_has_started() {
        let stop = CancellationToken::new();
        let running = shell("sleep 1000 & sleep 1000", &stop);
        stop.cancel();
        // Either of the two would keep the pipe open.
        assert_eq!(read(running).await.1.unwrap_err().kind(), Kind::Interrupted);
    }

    #[tokio::test]
    async fn a_command_that_is_not_there_is_told_with_what_to_do() {
        let none = ["no-such-command-anywhere".to_string()];
        let Err(error) = open(&none, &Reporter::silent(), &CancellationToken::new()) else {
            panic!("it runs")
        };
        assert!(
            error.to_string().contains("cannot start no-such-command-anywhere")
                && error.hint_text().is_some()
        );
    }
}
