//! What the environment says of a store, looked at before the first request: the client library takes some of it for
//! granted, and finds out the rest only by asking who is not there.

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as S3};
use object_store::azure::{AzureConfigKey as Azure, MicrosoftAzureBuilder};
use url::Url;

use crate::error::{Error, Result};

/// Where a machine says who made it: a cloud's own machines get credentials from the cloud.
const MADE_BY: [&str; 3] =
    ["/sys/class/dmi/id/sys_vendor", "/sys/class/dmi/id/bios_version", "/sys/class/dmi/id/chassis_asset_tag"];

/// Checks an S3 client's settings.
///
/// # Errors
/// An endpoint that is no URL, a key that no request can carry, or no credentials at all.
pub(super) fn check_s3(builder: &AmazonS3Builder) -> Result<()> {
    let value = |key: S3| builder.get_config_value(&key);
    check_endpoint("AWS_ENDPOINT_URL", value(S3::Endpoint).as_deref())?;
    let (key, secret) = (value(S3::AccessKeyId), value(S3::SecretAccessKey));
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", &key),
        ("AWS_SECRET_ACCESS_KEY", &secret),
        ("AWS_SESSION_TOKEN", &value(S3::Token)),
    ] {
        check_key(name, value.as_deref())?;
    }
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

/// Checks an Azure client's settings.
///
/// # Errors
/// As [`check_s3`].
pub(super) fn check_azure(builder: &MicrosoftAzureBuilder) -> Result<()> {
    let value = |key: Azure| builder.get_config_value(&key);
    let is_true = |key: Azure| value(key).as_deref() == Some("true");
    check_endpoint("AZURE_STORAGE_ENDPOINT", value(Azure::Endpoint).as_deref())?;
    for (name, key) in
        [("AZURE_STORAGE_ACCOUNT_KEY", Azure::AccessKey), ("AZURE_STORAGE_SAS_TOKEN", Azure::SasKey)]
    {
        check_key(name, value(key).as_deref())?;
    }
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

/// An endpoint is a URL of HTTP with a host, and nothing around it.
fn check_endpoint(name: &str, endpoint: Option<&str>) -> Result<()> {
    let Some(endpoint) = endpoint else { return Ok(()) };
    let hint = "write a URL, as in https://s3.example.com:9000, or unset it";
    let wrong = |why: &str| Err(Error::usage(format!("{name} {why}")).hint(hint));
    if endpoint.is_empty() {
        return wrong("is set, but empty");
    }
    if endpoint.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return wrong(&format!("holds a blank or a control character: {endpoint:?}"));
    }
    match Url::parse(endpoint) {
        Ok(url) if !["http", "https"].contains(&url.scheme()) => {
            wrong(&format!("begins with neither http:// nor https://: {endpoint:?}"))
        }
        Ok(url) if url.host_str().is_some() => Ok(()),
        _ => wrong(&format!("is no URL: {endpoint:?}")),
    }
}

/// A key travels in a header. Its value is a secret, and not shown.
fn check_key(name: &str, key: Option<&str>) -> Result<()> {
    match key {
        Some("") => Err(Error::usage(format!("{name} is set, but empty")).hint("set it, or unset it")),
        Some(key) if !key.chars().all(|c| c.is_ascii_graphic()) => {
            Err(Error::usage(format!("{name} holds a blank, a newline or another character that no key has"))
                .hint("look at how it is set: a file's last newline is the usual reason"))
        }
        _ => Ok(()),
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
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_is_no_url_is_a_usage_error() {
        for endpoint in [
            "",
            " ",
            "s3.example.test:9000",
            "http://127.0.0.1:1 ",
            "http://a\nb",
            "ftp://x",
            "//x",
            "https://",
        ] {
            let error = check_endpoint("AWS_ENDPOINT_URL", Some(endpoint)).unwrap_err();
            assert_eq!(error.kind().exit_code(), 2, "{endpoint:?}");
            assert!(error.to_string().starts_with("AWS_ENDPOINT_URL "), "{error}");
        }
        for endpoint in
            [None, Some("http://127.0.0.1:9000"), Some("https://s3.example.com/x"), Some("http://[::1]:1")]
        {
            assert!(check_endpoint("X", endpoint).is_ok(), "{endpoint:?}");
        }
    }

    #[test]
    fn a_key_that_no_request_can_carry_is_named_and_not_shown() {
        for key in ["", "a\n", "a b", "gr\u{fc}n", "\0"] {
            let error = check_key("AWS_ACCESS_KEY_ID", Some(key)).unwrap_err();
            assert!(error.to_string().starts_with("AWS_ACCESS_KEY_ID "), "{error}");
        }
        assert!(check_key("X", Some("a+/=b")).is_ok() && check_key("X", None).is_ok());
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
    fn a_clouds_machine_is_known_by_its_maker() {
        assert!(is_made_by("Amazon EC2\n", "amazon") && is_made_by("4.11.amazon", "amazon"));
        assert!(!is_made_by("QEMU\n", "amazon") && !is_made_by("Google", "microsoft"));
    }
}
