//! Credentials that lie in files, as Docker and Kubernetes hand out secrets: AWS_SECRET_ACCESS_KEY_FILE names the file that
//! holds what AWS_SECRET_ACCESS_KEY would.

use std::path::Path;

use super::{Kind, check_key};
use crate::error::{Context, Error, Result};
use crate::host::environment::variable;

/// Variables whose value may lie in a file. Of Google's, GOOGLE_APPLICATION_CREDENTIALS is one already.
fn variables(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::S3 => &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"],
        Kind::Azure => &["AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_CLIENT_SECRET"],
        Kind::Gcs | Kind::File | Kind::Memory => &[],
    }
}

/// What the files hold that the environment names, each with the variable that it stands for.
///
/// # Errors
/// A file cannot be read, or holds no key; a variable is set beside its file.
pub fn values(kind: Kind) -> Result<Vec<(&'static str, String)>> {
    let of = |name: &&'static str| value(name, variable).transpose().map(|value| Ok((*name, value?)));
    variables(kind).iter().filter_map(of).collect()
}

fn value(name: &str, variable: impl Fn(&str) -> Result<Option<String>>) -> Result<Option<String>> {
    let by_file = format!("{name}_FILE");
    let Some(file) = variable(&by_file)? else { return Ok(None) };
    if variable(name)?.is_some() {
        return Err(Error::usage(format!("{name} and {by_file} are both set")).hint("unset one of them"));
    }
    let text =
        std::fs::read_to_string(Path::new(&file)).context(|| format!("{by_file}: cannot read {file}"))?;
    let key = text.trim_end_matches(['\r', '\n']);
    check_key(&format!("{file} ({by_file})"), key)?;
    Ok(Some(key.into()))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the tests make the files that they name")]
mod tests {
    use super::*;

    const NAME: &str = "AWS_SECRET_ACCESS_KEY";

    /// What is understood where these variables are set.
    fn with(set: &[(&str, &str)]) -> Result<Option<String>> {
        value(NAME, |name| {
            Ok(set.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string()))
        })
    }

    #[test]
    fn the_file_holds_the_key_without_its_line_break() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        let path = file.to_str().unwrap();
        let by_file = ("AWS_SECRET_ACCESS_KEY_FILE", path);
        assert_eq!(with(&[]).unwrap(), None);
        std::fs::write(&file, "a/b+c=\r\n").unwrap();
        assert_eq!(with(&[by_file]).unwrap().as_deref(), Some("a/b+c="));
        let error = with(&[by_file, (NAME, "x")]).unwrap_err();
        assert_eq!(error.to_string(), "AWS_SECRET_ACCESS_KEY and AWS_SECRET_ACCESS_KEY_FILE are both set");
        for wrong in ["", "\n", "two words", "two\nlines"] {
            std::fs::write(&file, wrong).unwrap();
            let error = with(&[by_file]).unwrap_err();
            assert_eq!(error.kind().exit_code(), 2);
            assert!(error.to_string().starts_with(path) && !error.to_string().contains("two"), "{error}");
        }
        std::fs::remove_file(&file).unwrap();
        assert!(
            with(&[by_file]).unwrap_err().to_string().starts_with("AWS_SECRET_ACCESS_KEY_FILE: cannot read")
        );
    }
}
