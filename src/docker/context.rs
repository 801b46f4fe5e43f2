//! Docker contexts: where the engine is when `DOCKER_HOST` does not say.

use std::path::PathBuf;

use aws_lc_rs::digest;
use bollard::{API_DEFAULT_VERSION, Docker};
use serde_json::Value;

use super::config_dir;
use crate::archive::hex;
use crate::error::{Context, Error, Result};

const TIMEOUT_SECONDS: u64 = 120;

/// Where an engine is, and with which certificates it is reached.
pub struct Endpoint {
    pub host: String,
    certificates: Option<PathBuf>,
}

/// The endpoint that the docker command would use.
pub fn endpoint() -> Result<Endpoint> {
    if let Some(host) = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty()) {
        return Ok(Endpoint { host, certificates: None });
    }
    let default = Endpoint { host: "unix:///var/run/docker.sock".into(), certificates: None };
    match current() {
        Some(name) if name != "default" => of_context(&name),
        _ => Ok(default),
    }
}

/// The name of the context in use, as `docker context use` left it.
fn current() -> Option<String> {
    if let Ok(name) = std::env::var("DOCKER_CONTEXT") {
        return Some(name).filter(|name| !name.is_empty());
    }
    let config = std::fs::read(config_dir()?.join("config.json")).ok()?;
    let config: Value = serde_json::from_slice(&config).ok()?;
    config["currentContext"].as_str().map(String::from)
}

/// Reads `contexts/meta/<sha256 of the name>/meta.json`, as the docker command lays it out.
fn of_context(name: &str) -> Result<Endpoint> {
    let folder = hex(digest::digest(&digest::SHA256, name.as_bytes()).as_ref());
    let contexts = config_dir().unwrap_or_default().join("contexts");
    let unknown = || format!("cannot read docker context {name:?}");
    let hint = "`docker context ls` shows the ones there are";
    let meta = std::fs::read(contexts.join("meta").join(&folder).join("meta.json"))
        .context(unknown)
        .map_err(|e| e.hint(hint))?;
    let meta: Value = serde_json::from_slice(&meta).context(unknown)?;
    let host =
        meta["Endpoints"]["docker"]["Host"].as_str().ok_or_else(|| Error::failed(unknown()).hint(hint))?;
    let certificates = contexts.join("tls").join(&folder).join("docker");
    Ok(Endpoint {
        host: host.into(),
        certificates: Some(certificates).filter(|dir| dir.join("key.pem").exists()),
    })
}

impl Endpoint {
    /// Connects; nothing is sent yet.
    pub fn connect(&self) -> Result<Docker, bollard::errors::Error> {
        match &self.certificates {
            Some(dir) => Docker::connect_with_ssl(
                &self.host,
                &dir.join("key.pem"),
                &dir.join("cert.pem"),
                &dir.join("ca.pem"),
                TIMEOUT_SECONDS,
                API_DEFAULT_VERSION,
            ),
            None => Docker::connect_with_host(&self.host),
        }
    }
}
