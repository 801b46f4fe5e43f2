//! A folder of the engine's own, read while the engine is stopped, which is started again whatever happens.

use std::path::Path;
use std::process::Stdio;

use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{Running, gnutar};
use crate::error::{Context, Error, Result};
use crate::progress::Ui;

/// How the engine is stopped and started: shell commands.
#[derive(Debug, Clone)]
pub struct StopEngine {
    /// Ends when the engine has stopped.
    pub stop: String,
    /// Ends when it runs again.
    pub start: String,
}

/// Waits for its standard input to end, as it does when we close it or die, and then starts the engine.
const GUARD: &str = "trap '' HUP INT TERM; cat >/dev/null; trap - HUP INT TERM; eval \"$1\"";

/// A tar of the folder `name` below `below`; with `engine`, read while the engine is stopped.
pub async fn folder(
    below: &Path,
    name: &str,
    engine: Option<StopEngine>,
    ui: &Ui,
    stop: &CancellationToken,
) -> Result<Running> {
    let members = [name.to_string()];
    let Some(engine) = engine else { return gnutar::members(below, &members, ui, stop) };
    let start = engine.start.clone();
    let guard = engine.stop(ui).await?;
    let Running { mut stream, cleanup } = match gnutar::members(below, &members, ui, stop) {
        Ok(running) => running,
        Err(error) => {
            guard.start(ui).await;
            return Err(error);
        }
    };
    // The proof is held back until the engine runs again, so that the catalog can say if it does not.
    let (prove, proof) = oneshot::channel();
    let read = std::mem::replace(&mut stream.proof, proof);
    let ui = ui.clone();
    let cleanup = tokio::spawn(async move {
        let mut outcome = read.await.unwrap_or_else(|_| Err(Error::gone()));
        let _ = cleanup.await;
        let runs = guard.start(&ui).await;
        if let (Ok(proof), false) = (&mut outcome, runs) {
            proof.warnings.push(format!("the engine did not start again by `{start}`"));
        }
        let _ = prove.send(outcome);
    });
    Ok(Running { stream, cleanup })
}

impl StopEngine {
    async fn stop(self, ui: &Ui) -> Result<Guard> {
        // The guard first: from now on nothing that happens to us keeps the engine stopped.
        let guard = Guard::new(&self.start)?;
        ui.note("stopping the engine");
        let stopped = shell(&self.stop).stdin(Stdio::null()).status().await;
        let failed = match stopped {
            Ok(status) if status.success() => return Ok(guard),
            Ok(status) => Error::failed(format!("`{}` failed ({status})", self.stop)),
            Err(e) => Error::failed(format!("cannot run `{}`", self.stop)).because(e),
        };
        guard.start(ui).await;
        Err(failed.hint("the engine was started again; say how it is stopped with --stop-command"))
    }
}

/// The process that will start the engine.
struct Guard {
    process: Child,
    command: String,
}

impl Guard {
    fn new(start: &str) -> Result<Guard> {
        let mut command = Command::new("sh");
        // Not in our group: what is meant for us must not end it.
        command.args(["-c", GUARD, "sh", start]).process_group(0).stdin(Stdio::piped()).stdout(Stdio::null());
        without_secrets(&mut command);
        let process = command.spawn().context(|| "cannot run sh".into())?;
        Ok(Guard { process, command: start.into() })
    }

    /// Starts the engine; says so loudly where that fails.
    async fn start(mut self, ui: &Ui) -> bool {
        drop(self.process.stdin.take());
        let ended = self.process.wait().await;
        let runs = ended.is_ok_and(|status| status.success());
        match runs {
            true => ui.note("the engine runs again"),
            false => ui.warn(&format!("the engine did not start again: run `{}` by hand, now", self.command)),
        }
        runs
    }
}

fn shell(words: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", words]).process_group(0).stdout(Stdio::null());
    without_secrets(&mut command);
    command
}

fn without_secrets(command: &mut Command) {
    for secret in crate::passphrase::VARIABLES {
        command.env_remove(secret);
    }
}
