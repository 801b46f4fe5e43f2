//! A folder of the engine's own, read while the engine is stopped, which is started again whatever happens.

use std::path::Path;
use std::process::Stdio;

use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::{Walk, gnutar};
use crate::docker::Unlock;
use crate::error::{Context, Error, Result};
use crate::host::process;
use crate::report::Reporter;
use crate::stream::source::{Proof, Running};
use crate::stream::warning::{Warning, WarningKind};
use crate::tar::gnu;

/// How the engine is stopped and started: shell commands.
#[derive(Debug, Clone)]
pub struct StopEngine {
    /// Ends when the engine has stopped.
    pub stop: String,
    /// Ends when it runs again.
    pub start: String,
    /// What unlocks its swarm then, where that is locked after a start.
    pub unlock: Option<Unlock>,
}

/// Waits for its standard input to end, as it does when we close it or die, and then starts the engine: more than once
/// if need be, as a signal to all processes of ours ends a start that is under way. An engine serves people: it does not
/// inherit how readily a backup gives way.
const GUARD: &str = "trap '' HUP INT TERM; cat >/dev/null; trap : HUP INT TERM
{ renice -n 0 -p $$; ionice -c 0 -p $$; } >/dev/null 2>&1
for try in 1 2 3; do sh -c \"$1\" && exit 0; sleep 1; done; exit 1";
/// Runs a command and holds the guard's pipe open for as long as it runs: the engine is not started before it has
/// stopped, though we may be dead by then. What the command leaves running has no part in that.
const STOP: &str = "exec 3<&0 </dev/null; sh -c \"$1\" 3<&-";

/// A tar of the folder `name` below `below`; with `engine`, read while the engine is stopped.
pub async fn folder(
    below: &Path,
    name: &str,
    engine: Option<StopEngine>,
    walk: &Walk,
    ui: &Reporter,
    stop: &CancellationToken,
) -> Result<Running> {
    let members = [name.to_string()];
    let Some(engine) = engine else { return gnutar::members(below, &members, walk, ui, stop).await };
    // What can be known beforehand does not cost the engine a stop.
    gnu::require().await?;
    let guard = engine.stop(ui).await?;
    let Running { mut stream, cleanup } = match gnutar::members(below, &members, walk, ui, stop).await {
        Ok(running) => running,
        Err(error) => {
            guard.start(ui).await;
            return Err(error);
        }
    };
    // The proof is held back until the engine runs again, so that the catalog can say if it does not.
    let (prove, read) = stream.intercept_proof();
    let ui = ui.clone();
    let cleanup = tokio::spawn(async move {
        let outcome = read.await.unwrap_or_else(|_| Err(Error::disconnected()));
        let _ = cleanup.await;
        let wrong = guard.start(&ui).await.map(|text| Warning::new(WarningKind::Engine, text));
        let outcome = outcome.map(|proof: Proof| {
            let warnings = proof.warnings.into_iter().chain(wrong);
            Proof { warnings: warnings.collect(), ..proof }
        });
        let _ = prove.send(outcome);
    });
    Ok(Running { stream, cleanup })
}

impl StopEngine {
    async fn stop(self, ui: &Reporter) -> Result<Guard> {
        let stop = self.stop.clone();
        // The guard first: from now on nothing that happens to us keeps the engine stopped.
        let guard = Guard::new(self)?;
        ui.note("stopping the engine");
        let failed = match guard.stop(&stop).await {
            Ok(status) if status.success() => return Ok(guard),
            Ok(status) => Error::failed(format!("`{stop}` failed ({status})")),
            Err(e) => Error::failed(format!("cannot run `{stop}`")).because(e),
        };
        let hint = match guard.start(ui).await {
            None => "the engine runs again; say how it is stopped with --stop-command".to_string(),
            Some(wrong) => format!("{wrong}; say how it is stopped with --stop-command"),
        };
        Err(failed.hint(hint))
    }
}

/// The process that will start the engine.
struct Guard {
    process: Child,
    /// Its end makes the process go on.
    hold: std::io::PipeWriter,
    engine: StopEngine,
}

impl Guard {
    fn new(engine: StopEngine) -> Result<Guard> {
        let (waits, hold) = std::io::pipe().context(|| "cannot make a pipe".into())?;
        let process = shell(GUARD, &engine.start).stdin(waits).spawn().context(|| "cannot run sh".into())?;
        Ok(Guard { process, hold, engine })
    }

    /// Stops the engine.
    async fn stop(&self, stop: &str) -> std::io::Result<std::process::ExitStatus> {
        shell(STOP, stop).stdin(self.hold.try_clone()?).status().await
    }

    /// Starts the engine, and unlocks its swarm; says loudly what of that failed, and returns it.
    async fn start(mut self, ui: &Reporter) -> Option<String> {
        drop(self.hold);
        let ended = self.process.wait().await;
        if !ended.is_ok_and(|status| status.success()) {
            let start = &self.engine.start;
            ui.warn(&format!("the engine did not start again: run `{start}` by hand, now"));
            return Some(format!("the engine did not start again by `{start}`"));
        }
        ui.note("the engine runs again");
        let unlocked = self.engine.unlock?.again().await;
        if let Err(error) = unlocked {
            let wrong = format!("the swarm is still locked ({error})");
            ui.warn(&format!("{wrong}: run `docker swarm unlock` by hand, now"));
            return Some(wrong);
        }
        ui.note("the swarm is unlocked again");
        None
    }
}

/// A shell in a group of its own, so that what is meant for us does not end it.
fn shell(script: &str, command: &str) -> Command {
    let mut shell = Command::from(process::shell(script));
    shell.args(["sh", command]).process_group(0).stdout(Stdio::null());
    shell
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet() -> Reporter {
        Reporter::silent()
    }

    fn engine(stop: &str, start: &str) -> StopEngine {
        StopEngine { stop: stop.into(), start: start.into(), unlock: None }
    }

    #[tokio::test]
    async fn an_engine_that_does_not_stop_is_started_again_and_the_hint_says_so() {
        let error = engine("exit 3", "true").stop(&quiet()).await.err().unwrap();
        assert_eq!(error.to_string(), "`exit 3` failed (exit status: 3)");
        let hint = error.hint_text().unwrap();
        assert_eq!(hint, "the engine runs again; say how it is stopped with --stop-command");
    }

    #[tokio::test]
    async fn an_engine_that_does_not_start_is_told() {
        let guard = engine("true", "exit 1").stop(&quiet()).await.unwrap();
        let wrong = guard.start(&quiet()).await;
        assert_eq!(wrong.as_deref(), Some("the engine did not start again by `exit 1`"));
        let guard = engine("true", "true").stop(&quiet()).await.unwrap();
        assert_eq!(guard.start(&quiet()).await, None);
    }
}
