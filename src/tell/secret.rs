//! Something that is read when it is needed, and never shown.

use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

use crate::error::{Error, Result};
use crate::host::environment::variable;

/// Where a secret is.
#[derive(Debug, Clone)]
pub enum Secret {
    /// Here.
    Given(SecretString),
    /// The first line of this file.
    File(PathBuf),
    /// In this variable of the environment.
    Variable(String),
}

impl Secret {
    /// Reads it anew: a file may have another one by now.
    ///
    /// # Errors
    /// There is none.
    pub async fn read(&self) -> Result<SecretString> {
        match self {
            Secret::Given(secret) => Ok(secret.clone()),
            Secret::Variable(name) => {
                let value = variable(name)?.filter(|value| !value.is_empty());
                let none =
                    || Error::usage(format!("{name} is not set")).hint("it is read where sealift runs");
                value.map(SecretString::from).ok_or_else(none)
            }
            Secret::File(path) => {
                let text = read_text(path.clone()).await?;
                let line = text.expose_secret().lines().next().unwrap_or_default().trim_end();
                let shown = path.display();
                let empty = || Error::usage(format!("{shown} is empty")).hint("put it into the first line");
                (!line.is_empty()).then(|| SecretString::from(line)).ok_or_else(empty)
            }
        }
    }
}

/// A whole file of secrets.
///
/// # Errors
/// It cannot be read, or is no text.
pub(super) async fn read_text(path: PathBuf) -> Result<SecretString> {
    let shown = path.display().to_string();
    let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(path)).await;
    let read = read.unwrap_or_else(|panic| Err(std::io::Error::other(panic)));
    let cannot = |e| {
        let error = Error::usage(format!("cannot read {shown}")).because(e);
        error.hint("is it there, and may this user read it?")
    };
    read.map(SecretString::from).map_err(cannot)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the tests make the files that they read")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_secret_is_read_anew_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("url");
        let secret = Secret::File(file.clone());
        assert!(secret.read().await.unwrap_err().to_string().starts_with("cannot read "));
        for text in ["one\n", "two\r\nmore\n"] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(secret.read().await.unwrap().expose_secret(), text[..3].trim());
        }
        std::fs::write(&file, "\nsecond\n").unwrap();
        assert!(secret.read().await.unwrap_err().to_string().ends_with("is empty"));
    }

    #[tokio::test]
    async fn nothing_shows_it() {
        let secret = Secret::Given("hidden".into());
        assert!(!format!("{secret:?}").contains("hidden"));
        assert!(Secret::Variable("SEALIFT_NO_SUCH".into()).read().await.is_err());
    }
}
