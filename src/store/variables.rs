//! What the environment says of a store, checked before the client library reads it: it passes over what is not UTF-8,
//! and does not survive an address or a key that no request can carry.

use std::ffi::{OsStr, OsString};

use url::Url;

use super::Kind;
use crate::error::{Error, Result};

/// Variables that hold an address.
const ENDPOINTS: [&str; 9] = [
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT",
    "AWS_S3_ENDPOINT",
    "AWS_METADATA_ENDPOINT",
    "AZURE_STORAGE_ENDPOINT",
    "AZURE_ENDPOINT",
    "AZURE_MSI_ENDPOINT",
    "GOOGLE_BASE_URL",
];

/// Checks the variables that a kind of store reads.
///
/// # Errors
/// One of them cannot be used; its value is not told.
pub(super) fn check(kind: Kind) -> Result<()> {
    check_all(kind, std::env::vars_os())
}

fn check_all(kind: Kind, variables: impl Iterator<Item = (OsString, OsString)>) -> Result<()> {
    let prefix = match kind {
        Kind::S3 => "AWS_",
        Kind::Azure => "AZURE_",
        Kind::Gcs => "GOOGLE_",
        Kind::File | Kind::Memory => return Ok(()),
    };
    for (name, value) in variables {
        if let Some(name) = name.to_str().map(str::to_ascii_uppercase).filter(|name| name.starts_with(prefix))
        {
            check_one(&name, &value)?;
        }
    }
    Ok(())
}

fn check_one(name: &str, value: &OsStr) -> Result<()> {
    let wrong = |what: &str, hint: &str| Err(Error::usage(format!("{name} {what}")).hint(hint));
    let Some(value) = value.to_str() else {
        return wrong("is not UTF-8 text", "set it again, or unset it");
    };
    if ENDPOINTS.contains(&name) {
        let hint = "write it as https://s3.example.com:9000, without spaces, or unset it";
        if value.is_empty() {
            return wrong("is empty", hint);
        }
        if value.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return wrong("has a space or a line break in it", hint);
        }
        let is_web = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
        return match Url::parse(value).is_ok_and(|url| is_web(&url)) {
            true => Ok(()),
            false => wrong("is no address that begins with https:// or http://", hint),
        };
    }
    let is_key = ["KEY", "TOKEN", "REGION", "SECRET", "ACCOUNT_NAME"].iter().any(|word| name.contains(word));
    // Google's keys are JSON.
    if is_key && !name.starts_with("GOOGLE_") && !value.chars().all(|c| c.is_ascii_graphic()) {
        let hint = "is there a line break at its end? NAME=\"$(cat FILE)\" leaves it out";
        return wrong("has a space, a line break or a letter in it that no key has", hint);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    fn error(kind: Kind, name: &str, value: &[u8]) -> Option<Error> {
        let variable = (OsString::from(name), OsStr::from_bytes(value).to_owned());
        check_all(kind, std::iter::once(variable)).err()
    }

    #[test]
    fn an_address_or_key_that_no_request_can_carry_is_refused_with_a_hint() {
        let s3: &[(&str, &[u8])] = &[
            ("AWS_ENDPOINT_URL", b"s3.example.test:9000"),
            ("AWS_ENDPOINT_URL", b""),
            ("AWS_ENDPOINT_URL", b"http://127.0.0.1:1 "),
            ("AWS_ENDPOINT_URL_S3", b"ftp://x"),
            ("AWS_ENDPOINT_URL", b"http://"),
            ("AWS_ENDPOINT_URL", b"http://x\xff"),
            ("AWS_ACCESS_KEY_ID", b"a\n"),
            ("AWS_SECRET_ACCESS_KEY", b"hidden\r"),
            ("AWS_SESSION_TOKEN", "schlüssel".as_bytes()),
            ("aws_region", b"eu west"),
            ("AWS_PROFILE", b"\xff"),
        ];
        for (name, value) in s3 {
            let error = error(Kind::S3, name, value).unwrap_or_else(|| panic!("{name} {value:?}"));
            assert_eq!(error.kind().exit_code(), 2, "{error}");
            assert!(error.hint_text().is_some() && !error.to_string().contains("hidden"), "{error:?}");
        }
        assert!(error(Kind::Azure, "AZURE_STORAGE_ACCOUNT_KEY", b"a b").is_some());
        assert!(error(Kind::Azure, "AZURE_STORAGE_ENDPOINT", b"127.0.0.1:10000").is_some());
        assert!(error(Kind::Gcs, "GOOGLE_BASE_URL", b"x").is_some());
    }

    #[test]
    fn what_can_be_used_and_what_another_kind_reads_is_left_alone() {
        for (name, value) in [
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:9000"),
            ("AWS_ENDPOINT_URL_S3", "https://s3.example.com/path"),
            ("AWS_ACCESS_KEY_ID", "AKIA0"),
            ("AWS_SECRET_ACCESS_KEY", "a/b+c="),
            ("AWS_PROFILE", "my profile"),
            ("AZURE_STORAGE_ENDPOINT", "nonsense"),
            ("PATH", "a\nb"),
        ] {
            assert!(error(Kind::S3, name, value.as_bytes()).is_none(), "{name}");
        }
        assert!(error(Kind::Gcs, "GOOGLE_SERVICE_ACCOUNT_KEY", b"{\n}").is_none());
        assert!(error(Kind::File, "AWS_ENDPOINT_URL", b"").is_none());
    }
}
