//! Docker contexts: where the engine is when `DOCKER_HOST` does not say.

use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use bollard::{API_DEFAULT_VERSION, Docker};
use serde_json::Value;

use super::config_dir;
use crate::error::{Context, Error, Result};
use crate::host::environment::variable;
use crate::report::hex;

const TIMEOUT_SECONDS: u64 = 120;

/// Where an engine is, and with which certificates it is reached.
pub struct Endpoint {
    pub host: String,
    certificates: Option<PathBuf>,
}

/// The endpoint that the docker command would use.
pub fn endpoint() -> Result<Endpoint> {
    if let Some(host) = variable("DOCKER_HOST")?.filter(|host| !host.is_empty()) {
        return Ok(Endpoint { host, certificates: None });
    }
    let dir = config_dir().unwrap_or_default();
    match current(variable("DOCKER_CONTEXT")?, &dir) {
        Some(name) if name != "default" => of_context(&name, &dir),
        _ => Ok(Endpoint { host: "unix:///var/run/docker.sock".into(), certificates: None }),
    }
}

/// The name of the context in use: the one that the environment names, else as `docker context use` left it.
fn current(given: Option<String>, dir: &Path) -> Option<String> {
    if let Some(name) = given {
        return Some(name).filter(|name| !name.is_empty());
    }
    let config = std::fs::read(dir.join("config.json")).ok()?;
    let config: Value = serde_json::from_slice(&config).ok()?;
    config["currentContext"].as_str().map(String::from)
}

/// Reads `contexts/meta/<sha256 of the name>/meta.json`, as the docker command lays it out.
fn of_context(name: &str, dir: &Path) -> Result<Endpoint> {
    let folder = hex(digest::digest(&digest::SHA256, name.as_bytes()).as_ref());
    let contexts = dir.join("contexts");
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The docker command's folder, as `docker context create` left it; SHA-256 of "remote" names the context's.
    fn config() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/docker-config")
    }

    #[test]
    fn a_context_names_its_engine_and_its_certificates() {
        let endpoint = of_context("remote", &config()).unwrap();
        assert_eq!(endpoint.host, "ssh://backup@docker.example");
        assert!(endpoint.certificates.is_none());
        let endpoint = of_context("tls", &config()).unwrap();
        assert_eq!(endpoint.host, "tcp://docker.example:2376");
        assert!(endpoint.certificates.unwrap().ends_with("docker"));
    }

    #[test]
    fn a_context_that_is_not_there_says_where_to_look() {
        let error = of_context("gone", &config()).err().unwrap();
        assert!(error.to_string().starts_with("cannot read docker context \"gone\": "), "{error}");
        assert_eq!(error.hint_text(), Some("`docker context ls` shows the ones there are"));
        assert_eq!(
            error.find::<std::io::Error>().unwrap().kind(),
            std::io::ErrorKind::NotFound,
            "the cause is kept"
        );
    }

    #[test]
    fn the_environment_names_the_context_before_the_settings_do() {
        assert_eq!(current(Some("other".into()), &config()).as_deref(), Some("other"));
        assert_eq!(current(Some(String::new()), &config()), None);
        assert_eq!(current(None, &config()).as_deref(), Some("remote"));
        assert_eq!(current(None, Path::new("/nonexistent")), None);
    }
}
