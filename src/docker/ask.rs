//! Questions to a running container: is it there, and what does a command in it say?

use bollard::container::LogOutput;
use bollard::models::{ContainerState, ContainerStateStatusEnum};
use bollard::query_parameters::InspectContainerOptions;
use futures_util::StreamExt;

use super::attach::Attached;
use super::inspect::ContainerInfo;
use super::{Engine, status};
use crate::error::{Context, Error, Result};

/// Bytes of an answer that are kept, of stdout and of stderr.
const KEPT: usize = 64 << 10;

/// What a command in a container said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Its exit code.
    pub code: i64,
    /// How its stdout began.
    pub stdout: String,
    /// How its stderr began.
    pub stderr: String,
}

impl Answer {
    /// Whether there is no such command in the container, or none that can be executed.
    pub fn is_no_command(&self) -> bool {
        matches!(self.code, 126 | 127)
    }
}

impl Engine {
    /// A container by its name or id.
    ///
    /// # Errors
    /// There is none, or it is not running.
    pub async fn running_container(&self, name: &str) -> Result<ContainerInfo> {
        match self.docker.inspect_container(name, None::<InspectContainerOptions>).await {
            Ok(container) => {
                is_running(name, container.state.as_ref())?;
                Ok(ContainerInfo::new(container))
            }
            Err(error) if status(&error) == Some(404) => {
                Err(Error::failed(format!("there is no container {name}"))
                    .hint("`docker ps` shows the running ones"))
            }
            Err(error) => Err(error).context(|| format!("cannot look at container {name}")),
        }
    }

    /// Runs a command in a running container that reads nothing and says little.
    ///
    /// # Errors
    /// The engine does not run it; how it ends is part of the answer.
    pub async fn ask(&self, container: &str, command: &[&str]) -> Result<Answer> {
        self.ask_as(container, command, None).await
    }

    /// The same, as another user of the container.
    pub(super) async fn ask_as(
        &self,
        container: &str,
        command: &[&str],
        user: Option<&str>,
    ) -> Result<Answer> {
        let mut stdout = Vec::new();
        let answer = self.hear_as(container, command, user, |bytes| keep(&mut stdout, bytes)).await?;
        Ok(Answer { stdout: String::from_utf8_lossy(&stdout).into_owned(), ..answer })
    }

    /// Runs a command in a running container that reads nothing; what it writes to stdout is shown to `each`.
    ///
    /// # Errors
    /// As [`Engine::ask`].
    pub async fn hear(&self, container: &str, command: &[&str], each: impl FnMut(&[u8])) -> Result<Answer> {
        self.hear_as(container, command, None, each).await
    }

    async fn hear_as(
        &self,
        container: &str,
        command: &[&str],
        user: Option<&str>,
        mut each: impl FnMut(&[u8]),
    ) -> Result<Answer> {
        let words = command.iter().map(ToString::to_string).collect();
        let Attached { id, mut output, .. } = self.exec_attached(container, words, user, false).await?;
        let mut stderr = Vec::new();
        while let Some(next) = output.next().await {
            match next.context(|| "the engine's stream broke off".into())? {
                LogOutput::StdErr { message } => keep(&mut stderr, &message),
                LogOutput::StdOut { message } => each(&message),
                LogOutput::Console { .. } | LogOutput::StdIn { .. } => {}
            }
        }
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        Ok(Answer { code: self.exec_exit_code(&id).await?, stdout: String::new(), stderr })
    }
}

fn keep(kept: &mut Vec<u8>, bytes: &[u8]) {
    let room = KEPT - kept.len();
    kept.extend_from_slice(&bytes[..room.min(bytes.len())]);
}

fn is_running(name: &str, state: Option<&ContainerState>) -> Result<()> {
    use ContainerStateStatusEnum as Status;
    let (state, hint) = match state.and_then(|state| state.status) {
        // Of a container that it does not know well enough, a command says more.
        None | Some(Status::EMPTY | Status::RUNNING) => return Ok(()),
        Some(Status::PAUSED) => ("is paused", format!("docker unpause {name}")),
        Some(Status::RESTARTING) => {
            ("does not stay up: it is restarting", format!("docker logs {name} says why"))
        }
        Some(_) => ("is not running", format!("start it first: docker start {name}")),
    };
    Err(Error::failed(format!("container {name} {state}")).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_container_that_runs_is_asked_and_the_hint_says_how_to_get_there() {
        let said = |status| {
            let state = ContainerState { status: Some(status), ..ContainerState::default() };
            is_running("db", Some(&state)).err().map(|e| format!("{e}; {}", e.hint_text().unwrap()))
        };
        assert_eq!(said(ContainerStateStatusEnum::RUNNING), None);
        assert_eq!(
            said(ContainerStateStatusEnum::PAUSED).unwrap(),
            "container db is paused; docker unpause db"
        );
        assert_eq!(
            said(ContainerStateStatusEnum::EXITED).unwrap(),
            "container db is not running; start it first: docker start db"
        );
        assert!(said(ContainerStateStatusEnum::RESTARTING).unwrap().contains("docker logs db"));
        assert!(is_running("db", None).is_ok());
    }

    #[test]
    fn an_answer_is_kept_up_to_a_bound() {
        let mut kept = vec![0; KEPT - 3];
        keep(&mut kept, b"abcd");
        keep(&mut kept, b"e");
        assert!(kept.len() == KEPT && kept.ends_with(b"abc"));
    }
}
