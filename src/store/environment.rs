//! What the environment says of a store, looked at before the first request: the client library passes over what is not
//! UTF-8, takes some of the rest for granted, and finds out what is missing only by asking who is not there.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as S3};
use object_store::azure::{AzureConfigKey as Azure, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey as Gcs};
use url::Url;

use super::Kind;
use crate::error::{Error, Result};

pub(super) mod secret_files;

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

/// Where a machine says who made it: a cloud's own machines get credentials from the cloud.
const MADE_BY: [&str; 3] =
    ["/sys/class/dmi/id/sys_vendor", "/sys/class/dmi/id/bios_version", "/sys/class/dmi/id/chassis_asset_tag"];

/// Where `gcloud auth application-default login` leaves credentials, below the home folder.
const GCLOUD: &str = ".config/gcloud/application_default_credentials.json";

/// Checks the variables that a kind of store reads: no request can carry some addresses and keys.
///
/// # Errors
/// One of them cannot be used; its value is not told.
pub(super) fn check_variables(kind: Kind) -> Result<()> {
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
            check_variable(&name, &value)?;
        }
    }
    Ok(())
}

fn check_variable(name: &str, value: &OsStr) -> Result<()> {
    match value.to_str() {
        None => Err(wrong(name, "is not UTF-8 text", "set it again, or unset it")),
        Some(value) if ENDPOINTS.contains(&name) => check_endpoint(name, value),
        Some(value) if is_key(name) => check_key(name, value),
        Some(_) => Ok(()),
    }
}

fn wrong(name: &str, what: &str, hint: &str) -> Error {
    Error::usage(format!("{name} {what}")).hint(hint)
}

/// An endpoint is a URL of HTTP with a host, and nothing around it.
fn check_endpoint(name: &str, endpoint: &str) -> Result<()> {
    let hint = "write a URL, as in https://s3.example.com:9000, or unset it";
    if endpoint.is_empty() {
        return Err(wrong(name, "is set, but empty", hint));
    }
    if endpoint.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(wrong(name, "has a space or a line break in it", hint));
    }
    match Url::parse(endpoint) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(()),
        _ => Err(wrong(name, "is no URL that begins with https:// or http://", hint)),
    }
}

/// Whether a variable holds what travels in a header or a host's name.
fn is_key(name: &str) -> bool {
    let words = ["KEY", "TOKEN", "REGION", "SECRET", "ACCOUNT_NAME"];
    words.iter().any(|word| name.contains(word)) && !name.ends_with("_FILE")
}

/// A key's value is a secret, and not shown.
fn check_key(name: &str, key: &str) -> Result<()> {
    // Google's service accounts are JSON.
    let is_json = name.starts_with("GOOGLE_SERVICE_ACCOUNT");
    if key.is_empty() {
        Err(wrong(name, "is set, but empty", "set it, or unset it"))
    } else if !is_json && !key.chars().all(|c| c.is_ascii_graphic()) {
        let hint = "is there a line break at its end? NAME=\"$(cat FILE)\" leaves it out";
        Err(wrong(name, "has a space, a line break or a letter in it that no key has", hint))
    } else {
        Ok(())
    }
}

/// Checks that there are credentials for S3.
///
/// # Errors
/// There are none, or half of them.
pub(super) fn check_s3(builder: &AmazonS3Builder) -> Result<()> {
    let value = |key: S3| builder.get_config_value(&key);
    let (key, secret) = (value(S3::AccessKeyId), value(S3::SecretAccessKey));
    let elsewhere = [
        S3::WebIdentityTokenFile,
        S3::ContainerCredentialsRelativeUri,
        S3::ContainerCredentialsFullUri,
        S3::MetadataEndpoint,
    ];
    let is_public = value(S3::SkipSignature).as_deref() == Some("true");
    let missing = match (key.is_some(), secret.is_some()) {
        (true, true) => return Ok(()),
        (true, false) => "AWS_SECRET_ACCESS_KEY is not set",
        (false, true) => "AWS_ACCESS_KEY_ID is not set",
        _ if is_public || elsewhere.into_iter().any(|key| value(key).is_some()) => return Ok(()),
        _ if may_be_in_cloud("amazon") => return Ok(()),
        _ => "there are no credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set",
    };
    Err(Error::usage(missing).hint(
        "set both; profiles in ~/.aws are not read: eval \"$(aws configure export-credentials --format env)\"; a role is \
         found on EC2, ECS and EKS",
    ))
}

/// Checks that there are credentials for Azure.
///
/// # Errors
/// There are none, or no account is named.
pub(super) fn check_azure(builder: &MicrosoftAzureBuilder) -> Result<()> {
    let value = |key: Azure| builder.get_config_value(&key);
    let is_true = |key: Azure| value(key).as_deref() == Some("true");
    if [Azure::UseEmulator, Azure::UseFabricEndpoint, Azure::UseAzureCli, Azure::SkipSignature]
        .into_iter()
        .any(is_true)
    {
        return Ok(());
    }
    let hint = "set AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN; or \
                AZURE_CLIENT_ID, AZURE_CLIENT_SECRET and AZURE_TENANT_ID of a service principal";
    if value(Azure::AccountName).is_none() {
        return Err(Error::usage("AZURE_STORAGE_ACCOUNT_NAME is not set").hint(hint));
    }
    let given = [
        Azure::AccessKey,
        Azure::SasKey,
        Azure::Token,
        Azure::ClientSecret,
        Azure::FederatedTokenFile,
        Azure::MsiEndpoint,
        Azure::ObjectId,
        Azure::MsiResourceId,
    ];
    match given.into_iter().any(|key| value(key).is_some()) || may_be_in_cloud("microsoft") {
        true => Ok(()),
        false => Err(Error::usage(
            "there are no credentials: neither AZURE_STORAGE_ACCOUNT_KEY nor AZURE_STORAGE_SAS_TOKEN is set",
        )
        .hint(hint)),
    }
}

/// Checks that there are credentials for Google Cloud Storage.
///
/// # Errors
/// There are none, two that exclude each other, or a file that is named cannot be read.
pub(super) fn check_gcs(builder: &GoogleCloudStorageBuilder) -> Result<()> {
    let value = |key: Gcs| builder.get_config_value(&key);
    let (account, key) = (value(Gcs::ServiceAccount), value(Gcs::ServiceAccountKey));
    if account.is_some() && key.is_some() {
        return Err(Error::usage("GOOGLE_SERVICE_ACCOUNT and GOOGLE_SERVICE_ACCOUNT_KEY are both set")
            .hint("one is the path of a file, the other what is in it: unset one"));
    }
    let application = value(Gcs::ApplicationCredentials);
    for (name, file) in
        [("GOOGLE_SERVICE_ACCOUNT", &account), ("GOOGLE_APPLICATION_CREDENTIALS", &application)]
    {
        if let Some(file) = file {
            check_json_file(name, Path::new(file))?;
        }
    }
    let is_public = value(Gcs::SkipSignature).as_deref() == Some("true");
    let is_given = [account, key, application, value(Gcs::BearerToken)].iter().any(Option::is_some);
    let of_gcloud = || std::env::home_dir().is_some_and(|home| home.join(GCLOUD).exists());
    let metadata = ["GCE_METADATA_HOST", "GCE_METADATA_ROOT", "GCE_METADATA_IP"];
    let is_named = || metadata.into_iter().any(|name| std::env::var_os(name).is_some());
    match is_public || is_given || of_gcloud() || is_named() || may_be_in_cloud("google") {
        true => Ok(()),
        false => Err(Error::usage(
            "there are no credentials: neither GOOGLE_SERVICE_ACCOUNT nor GOOGLE_APPLICATION_CREDENTIALS is set",
        )
        .hint(
            "set one to the path of a service account's key file, or run `gcloud auth application-default login`; on \
             Google's own machines the machine's account is used",
        )),
    }
}

/// A file of credentials: its name is told, never what is in it.
fn check_json_file(name: &str, file: &Path) -> Result<()> {
    // In quotes, so that an empty name is seen.
    let shown = format!("{file:?}");
    let hint = "name the JSON file of a service account's key, as Google gives it out, or unset it";
    let text = std::fs::read(file)
        .map_err(|e| Error::usage(format!("{name}: cannot read {shown}")).because(e).hint(hint))?;
    match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&text) {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::usage(format!("{name}: {shown} holds no JSON object")).hint(hint)),
    }
}

/// Whether this machine may be one of a cloud's own, to which the cloud gives credentials. Where that is not known, it may.
fn may_be_in_cloud(maker: &str) -> bool {
    let told: Vec<_> = MADE_BY.iter().filter_map(|file| std::fs::read_to_string(file).ok()).collect();
    told.is_empty() || told.iter().any(|text| is_made_by(text, maker))
}

fn is_made_by(text: &str, maker: &str) -> bool {
    text.to_ascii_lowercase().contains(maker)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the tests make the files that they name")]
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
            ("AWS_ENDPOINT_URL", b" "),
            ("AWS_ENDPOINT_URL", b"http://127.0.0.1:1 "),
            ("AWS_ENDPOINT_URL", b"http://a\nb"),
            ("AWS_ENDPOINT_URL", b"//x"),
            ("AWS_ENDPOINT_URL", b"http://"),
            ("AWS_ENDPOINT_URL", b"http://x\xff"),
            ("AWS_ENDPOINT_URL_S3", b"ftp://user:hidden@x"),
            ("AWS_ACCESS_KEY_ID", b""),
            ("AWS_ACCESS_KEY_ID", b"a\n"),
            ("AWS_ACCESS_KEY_ID", b"a\0"),
            ("AWS_SECRET_ACCESS_KEY", b"hidden\r"),
            ("AWS_SESSION_TOKEN", "schlüssel".as_bytes()),
            ("aws_region", b"eu west"),
            ("AWS_REGION", b""),
            ("AWS_PROFILE", b"\xff"),
        ];
        for (name, value) in s3 {
            let error = error(Kind::S3, name, value).unwrap_or_else(|| panic!("{name} {value:?}"));
            assert_eq!(error.kind().exit_code(), 2, "{error}");
            assert!(error.to_string().starts_with(&name.to_ascii_uppercase()), "{error}");
            assert!(error.hint_text().is_some() && !error.to_string().contains("hidden"), "{error:?}");
        }
        assert!(error(Kind::Azure, "AZURE_STORAGE_ACCOUNT_KEY", b"a b").is_some());
        assert!(error(Kind::Azure, "AZURE_STORAGE_SAS_TOKEN", b"").is_some());
        assert!(error(Kind::Azure, "AZURE_STORAGE_ENDPOINT", b"127.0.0.1:10000").is_some());
        assert!(error(Kind::Gcs, "GOOGLE_BASE_URL", b"x").is_some());
        assert!(error(Kind::Gcs, "GOOGLE_BEARER_TOKEN", b"a\n").is_some());
        assert!(error(Kind::Gcs, "GOOGLE_SERVICE_ACCOUNT_KEY", b"").is_some());
    }

    #[test]
    fn what_can_be_used_and_what_another_kind_reads_is_left_alone() {
        for (name, value) in [
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:9000"),
            ("AWS_ENDPOINT_URL", "http://[::1]:1"),
            ("AWS_ENDPOINT_URL_S3", "https://s3.example.com/path"),
            ("AWS_ACCESS_KEY_ID", "AKIA0"),
            ("AWS_SECRET_ACCESS_KEY", "a/b+c="),
            ("AWS_PROFILE", "my profile"),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "/run/my secrets/token"),
            ("AZURE_STORAGE_ENDPOINT", "nonsense"),
            ("PATH", "a\nb"),
        ] {
            assert!(error(Kind::S3, name, value.as_bytes()).is_none(), "{name}");
        }
        assert!(error(Kind::Gcs, "GOOGLE_SERVICE_ACCOUNT_KEY", b"{\n}").is_none());
        assert!(error(Kind::File, "AWS_ENDPOINT_URL", b"").is_none());
    }

    #[test]
    fn half_of_the_credentials_is_named_by_the_other_half() {
        let builder = || AmazonS3Builder::new().with_bucket_name("b");
        let error = check_s3(&builder().with_access_key_id("k")).unwrap_err();
        assert_eq!(error.to_string(), "AWS_SECRET_ACCESS_KEY is not set");
        assert!(error.hint_text().unwrap().contains("export-credentials"));
        let error = check_s3(&builder().with_secret_access_key("s")).unwrap_err();
        assert_eq!(error.to_string(), "AWS_ACCESS_KEY_ID is not set");
        assert!(check_s3(&builder().with_access_key_id("k").with_secret_access_key("s")).is_ok());
        assert!(check_s3(&builder().with_skip_signature(true)).is_ok());
    }

    #[test]
    fn azure_needs_an_account_first() {
        let error = check_azure(&MicrosoftAzureBuilder::new()).unwrap_err();
        assert_eq!(error.to_string(), "AZURE_STORAGE_ACCOUNT_NAME is not set");
        let with_key = MicrosoftAzureBuilder::new().with_account("a").with_access_key("a2V5");
        assert!(check_azure(&with_key).is_ok());
    }

    #[test]
    fn a_file_of_googles_credentials_is_read_before_the_first_request() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key.json");
        let path = file.to_str().unwrap();
        let builder = || GoogleCloudStorageBuilder::new().with_bucket_name("b");
        for missing in [path, ""] {
            let error = check_gcs(&builder().with_service_account_path(missing)).unwrap_err();
            assert!(error.to_string().starts_with("GOOGLE_SERVICE_ACCOUNT: cannot read "), "{error}");
        }
        for text in ["", "-----BEGIN PRIVATE KEY-----", "\"hidden\""] {
            std::fs::write(&file, text).unwrap();
            let error = check_gcs(&builder().with_application_credentials(path)).unwrap_err();
            assert!(error.to_string().ends_with("holds no JSON object"), "{error}");
            assert_eq!((error.kind().exit_code(), format!("{error:?}").contains("hidden")), (2, false));
        }
        std::fs::write(&file, "{}").unwrap();
        assert!(check_gcs(&builder().with_service_account_path(path)).is_ok());
        let both = builder().with_service_account_path(path).with_service_account_key("{}");
        assert!(check_gcs(&both).unwrap_err().to_string().contains("both set"));
        assert!(check_gcs(&builder().with_bearer_token("t")).is_ok());
        assert!(check_gcs(&builder().with_skip_signature(true)).is_ok());
    }

    #[test]
    fn a_clouds_machine_is_known_by_its_maker() {
        assert!(is_made_by("Amazon EC2\n", "amazon") && is_made_by("4.11.amazon", "amazon"));
        assert!(!is_made_by("QEMU\n", "amazon") && !is_made_by("Google", "microsoft"));
    }
}
