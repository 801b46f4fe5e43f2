//! The key that unlocks an autolocked swarm: asked for while the swarm runs, given back after its engine was restarted.

use std::fmt;
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Engine, context, running};
use crate::error::{Context, Error, Result};
use crate::stream::source::{Proof, Running};

/// How long an engine that was just started may take to see that its swarm is locked, and to unlock it.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one answer may take: a socket may be there before the engine behind it.
const ANSWER: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(250);

/// What unlocks a swarm once more.
#[derive(Clone)]
pub struct Unlock {
    engine: Engine,
    key: SecretString,
}

impl fmt::Debug for Unlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unlock")
    }
}

impl Engine {
    /// Streams the key that unlocks the swarm, as a line.
    pub fn send_unlock_key(&self) -> Running {
        let engine = self.clone();
        running(move |sender| async move {
            let sent = async {
                let key = engine.unlock_key().await?;
                sender.send(format!("{}\n", key.expose_secret()).into()).await?;
                Ok(Proof::default())
            };
            let outcome = sent.await;
            (sender, outcome)
        })
    }

    /// What will unlock the swarm when its engine was restarted.
    ///
    /// # Errors
    /// The engine is not on this host, or does not tell the key.
    pub async fn unlock(&self) -> Result<Unlock> {
        Ok(Unlock { engine: self.clone(), key: self.unlock_key().await? })
    }

    /// The key that unlocks the swarm of an engine on this host (Engine API, `GET /swarm/unlockkey`).
    async fn unlock_key(&self) -> Result<SecretString> {
        let cannot = || "cannot ask for the swarm's unlock key".to_string();
        let (status, body) = ask("GET", "/swarm/unlockkey", "").await.map_err(|e| e.context(cannot()))?;
        let answer: Value = serde_json::from_str(&body).unwrap_or_default();
        match (status, answer["UnlockKey"].as_str()) {
            (200, Some(key)) if !key.is_empty() => Ok(key.into()),
            // The answer is not shown: it may be the key.
            (200, _) => Err(Error::failed(cannot()).because("the engine's answer holds no key")),
            _ => Err(Error::failed(cannot()).because(message(&body))),
        }
    }

    /// Whether the swarm waits for its key.
    async fn is_locked(&self) -> Result<bool> {
        let info = self.docker.info().await.context(|| "cannot ask the engine about itself".into())?;
        let state = info.swarm.and_then(|swarm| swarm.local_node_state);
        Ok(state == Some(bollard::models::LocalNodeState::LOCKED))
    }
}

impl Unlock {
    /// Unlocks the swarm; also right after the engine's start, when it has not yet seen that it is locked.
    ///
    /// # Errors
    /// It is still locked.
    pub async fn again(&self) -> Result<()> {
        let began = Instant::now();
        loop {
            let late = || Error::failed("cannot unlock the swarm").because("the engine does not answer");
            let tried = tokio::time::timeout(ANSWER, self.attempt()).await.unwrap_or_else(|_| Err(late()));
            match tried {
                Ok(()) => return Ok(()),
                Err(error) if began.elapsed() > PATIENCE => return Err(error),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn attempt(&self) -> Result<()> {
        let cannot = || "cannot unlock the swarm".to_string();
        let body = json!({"UnlockKey": self.key.expose_secret()}).to_string();
        let (status, answer) = ask("POST", "/swarm/unlock", &body).await.map_err(|e| e.context(cannot()))?;
        match status {
            200 => Ok(()),
            _ if !self.engine.is_locked().await? && self.engine.manager().await?.is_some() => Ok(()),
            _ => Err(Error::failed(cannot()).because(message(&answer))),
        }
    }
}

fn message(body: &str) -> String {
    let answer: Value = serde_json::from_str(body).unwrap_or_default();
    answer["message"].as_str().unwrap_or(body).trim().to_string()
}

/// A request that the client library does not know, to an engine on this host: the answer's status and body.
async fn ask(method: &str, path: &str, body: &str) -> Result<(u16, String)> {
    let host = context::endpoint()?.host;
    let socket = host.strip_prefix("unix://").ok_or_else(|| {
        Error::usage("a swarm is only unlocked where its engine runs").hint("run sealift on that host")
    })?;
    let cannot = || format!("{host} does not answer");
    let mut stream = tokio::net::UnixStream::connect(socket).await.context(cannot)?;
    let kind = "Content-Type: application/json\r\n";
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: docker\r\n{kind}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.context(cannot)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.context(cannot)?;
    let (status, body) = parse_answer(&answer).ok_or_else(|| Error::failed(cannot()))?;
    Ok((status, body.into()))
}

/// Status and body of an HTTP/1 answer that ends with the connection.
fn parse_answer(answer: &str) -> Option<(u16, &str)> {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    Some((head.split(' ').nth(1)?.parse().ok()?, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_status_and_a_body() {
        let answer = "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{\"UnlockKey\":\"k\"}\n";
        assert_eq!(parse_answer(answer), Some((200, "{\"UnlockKey\":\"k\"}\n")));
        assert_eq!(parse_answer("HTTP/1.0 503 Service Unavailable\r\n\r\n"), Some((503, "")));
        for broken in ["", "HTTP/1.0 200 OK\r\nContent", "HTTP/1.0\r\n\r\n", "HTTP/1.0 x y\r\n\r\nbody"] {
            assert_eq!(parse_answer(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn a_refusal_is_told_by_its_message() {
        assert_eq!(message("{\"message\":\"swarm is not locked\"}\n"), "swarm is not locked");
        assert_eq!(message(" plain text \n"), "plain text");
        assert_eq!(message("{\"other\":1}"), "{\"other\":1}");
    }
}
