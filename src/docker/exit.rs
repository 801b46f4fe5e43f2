//! How a container ended: waited for and inspected in one place, because the end of its output proves nothing.

use std::time::Duration;

use bollard::models::ContainerState;
use bollard::query_parameters::{InspectContainerOptions, WaitContainerOptions};
use futures_util::StreamExt;

use super::Engine;
use crate::error::{Context, Result};

/// The message for a container that was killed for its memory.
pub(super) const OUT_OF_MEMORY: &str = "the container ran out of memory and was killed (OOMKilled)";
/// The message where the engine has no exit code.
pub(super) const UNKNOWN: &str = "the engine does not say how the container ended";

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// With this exit code.
    Code(i64),
    /// The kernel killed it, or a process in it, for its memory.
    OutOfMemory,
    /// It has not ended.
    StillRunning,
    /// The engine does not say.
    Unknown,
}

impl Exit {
    fn of(state: &ContainerState) -> Exit {
        match (state.oom_killed, state.exit_code) {
            // The engine says 0 of a container that still runs.
            _ if state.running == Some(true) => Exit::StillRunning,
            (Some(true), _) => Exit::OutOfMemory,
            (_, Some(code)) => Exit::Code(code),
            (_, None) => Exit::Unknown,
        }
    }
}

impl Engine {
    /// Whether a container still runs, as far as the engine says.
    pub(super) async fn runs(&self, id: &str) -> bool {
        let inspected = self.docker.inspect_container(id, None::<InspectContainerOptions>).await;
        let state = inspected.ok().and_then(|container| container.state);
        state.is_none_or(|state| state.running != Some(false))
    }

    /// Waits until a container has ended, at most for `patience` where that is given, and asks how.
    ///
    /// # Errors
    /// The engine does not answer any more.
    pub(super) async fn exit(&self, id: &str, patience: Option<Duration>) -> Result<Exit> {
        let options = WaitContainerOptions { condition: "not-running".into() };
        let lost = || "the engine went away before it said how the container ended".to_string();
        let mut waiting = std::pin::pin!(self.docker.wait_container(id, Some(options)));
        let waited = match patience {
            Some(patience) => tokio::time::timeout(patience, waiting.next()).await,
            None => Ok(waiting.next().await),
        };
        let Ok(waited) = waited else { return Ok(Exit::StillRunning) };
        // An exit code other than 0 arrives as an error too; the inspection says it better.
        if let Some(Err(error)) = waited
            && !matches!(error, bollard::errors::Error::DockerContainerWaitError { .. })
        {
            return Err(error).context(lost);
        }
        let inspected = self.docker.inspect_container(id, None::<InspectContainerOptions>).await;
        Ok(Exit::of(&inspected.context(lost)?.state.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(running: Option<bool>, oom_killed: Option<bool>, exit_code: Option<i64>) -> Exit {
        Exit::of(&ContainerState { running, oom_killed, exit_code, ..ContainerState::default() })
    }

    #[test]
    fn an_exit_code_is_only_believed_of_a_container_that_ended() {
        assert_eq!(exit(Some(false), Some(false), Some(0)), Exit::Code(0));
        assert_eq!(exit(Some(false), None, Some(137)), Exit::Code(137));
        assert_eq!(exit(Some(true), Some(false), Some(0)), Exit::StillRunning);
        assert_eq!(exit(None, None, Some(3)), Exit::Code(3));
    }

    #[test]
    fn a_container_that_was_killed_for_its_memory_did_not_succeed() {
        assert_eq!(exit(Some(false), Some(true), Some(0)), Exit::OutOfMemory);
        assert_eq!(exit(Some(false), Some(true), None), Exit::OutOfMemory);
        assert_eq!(exit(Some(true), Some(true), Some(0)), Exit::StillRunning);
    }

    #[test]
    fn an_engine_that_says_nothing_proves_nothing() {
        assert_eq!(exit(None, None, None), Exit::Unknown);
        assert_eq!(exit(Some(false), Some(false), None), Exit::Unknown);
    }
}
