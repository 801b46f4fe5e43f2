//! Certificates of one's own authorities: from a file that is named, beside those that the system trusts.

use std::path::{Path, PathBuf};

use reqwest::Certificate;

use crate::error::{Error, Result};

/// The variable by which the AWS command line and its libraries name such a file. SSL_CERT_FILE is read where the
/// system's certificates are.
const VARIABLE: &str = "AWS_CA_BUNDLE";

/// Authorities that are trusted beside those of the system.
#[derive(Debug, Clone, Default)]
pub(super) struct Roots(Vec<Certificate>);

impl Roots {
    /// Those of the file that is named, or that the environment names; none where there is no such file.
    pub(super) fn read(named: Option<&Path>) -> Result<Roots> {
        let of_variable = || std::env::var_os(VARIABLE).filter(|file| !file.is_empty()).map(PathBuf::from);
        match named.map(Path::to_path_buf).or_else(of_variable) {
            Some(file) => Ok(Roots(certificates(&file)?)),
            None => Ok(Roots::default()),
        }
    }

    /// The certificates.
    pub(super) fn certificates(&self) -> impl Iterator<Item = Certificate> + use<'_> {
        self.0.iter().cloned()
    }
}

fn certificates(file: &Path) -> Result<Vec<Certificate>> {
    let shown = file.display();
    let hint =
        format!("--ca-file and {VARIABLE} name a file of certificates in PEM (-----BEGIN CERTIFICATE-----)");
    let pem = std::fs::read(file)
        .map_err(|e| Error::usage(format!("cannot read {shown}")).because(e).hint(hint.clone()))?;
    let read = Certificate::from_pem_bundle(&pem)
        .map_err(|e| Error::usage(format!("{shown} holds no certificates")).because(e).hint(hint.clone()))?;
    match read.is_empty() {
        true => Err(Error::usage(format!("{shown} holds no certificates")).hint(hint)),
        false => Ok(read),
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the tests make the files that they read")]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_authorities_that_is_none_is_a_usage_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        let error = Roots::read(Some(&file)).unwrap_err();
        assert!(error.to_string().starts_with("cannot read "), "{error}");
        for text in ["", "no certificate\n"] {
            std::fs::write(&file, text).unwrap();
            let error = Roots::read(Some(&file)).unwrap_err();
            assert!(error.to_string().contains("holds no certificates"), "{error}");
            assert!(error.kind().exit_code() == 2 && error.hint_text().unwrap().contains(VARIABLE));
        }
    }
}
