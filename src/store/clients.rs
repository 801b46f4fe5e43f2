//! The clients of a store: one URL and the environment become `object_store` clients.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{ClientConfigKey, ObjectStore, RetryConfig};
use url::Url;

use super::folder::Folder;
use super::foreign::{ListConnector, PassedOver};
use super::{Kind, StoreOptions, bucket_of, folder_of, memory};
use crate::error::{Context, Error, Result};

/// The slowest upload that is waited for, in bytes a second.
const SLOWEST: u64 = 128 << 10;
/// Requests keep one signature while they are retried: well below the five minutes that S3 accepts.
const LONGEST_SIGNATURE: Duration = Duration::from_secs(180);

pub(super) type Clients = (Arc<dyn ObjectStore>, Arc<dyn ObjectStore>);

/// Two clients, because an upload of a large part may take long and an answer to a small request may not.
pub(super) fn open_clients(
    kind: Kind,
    url: &Url,
    options: &StoreOptions,
    passed_over: &PassedOver,
) -> Result<Clients> {
    let lists = || ListConnector(passed_over.clone());
    let upload = Duration::from_secs((options.largest_part / SLOWEST).max(60));
    let download = Duration::from_secs(120);
    let cannot = || "the store's settings are not enough".to_string();
    let both = |open: &dyn Fn(Duration) -> Result<Arc<dyn ObjectStore>>| Ok((open(upload)?, open(download)?));
    match kind {
        Kind::File => {
            let folder = open_folder(url, passed_over)?;
            Ok((Arc::clone(&folder), folder))
        }
        Kind::Memory => {
            let memory = memory::shared(url.host_str());
            Ok((Arc::clone(&memory), memory))
        }
        Kind::S3 => {
            let bucket = bucket_of(url)?;
            both(&|timeout| {
                let builder = s3(&bucket, options, timeout)?.with_http_connector(lists());
                Ok(Arc::new(builder.build().context(cannot)?))
            })
        }
        Kind::Azure => {
            let container = bucket_of(url)?;
            both(&|timeout| {
                let builder = azure(&container, options, timeout).with_http_connector(lists());
                Ok(Arc::new(builder.build().context(cannot)?))
            })
        }
        Kind::Gcs => {
            let bucket = bucket_of(url)?;
            both(&|timeout| {
                let key = GoogleConfigKey::Client(ClientConfigKey::Timeout);
                let builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(&bucket);
                let builder = builder.with_config(key, seconds(timeout)).with_retry(retry(options));
                let builder = builder.with_http_connector(lists());
                Ok(Arc::new(builder.build().context(cannot)?))
            })
        }
    }
}

fn retry(options: &StoreOptions) -> RetryConfig {
    RetryConfig { retry_timeout: options.retry_for.min(LONGEST_SIGNATURE), ..RetryConfig::default() }
}

fn seconds(time: Duration) -> String {
    format!("{}s", time.as_secs())
}

// `with_client_options` would drop what the environment said (proxy, certificates): only single keys are set.
fn s3(bucket: &str, options: &StoreOptions, timeout: Duration) -> Result<AmazonS3Builder> {
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry(options));
    builder = builder.with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), seconds(timeout));
    // The service's own variable wins over the general one, as with the vendor's command line.
    if let Ok(endpoint) = std::env::var("AWS_ENDPOINT_URL_S3") {
        builder = builder.with_endpoint(endpoint);
    }
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint).unwrap_or_default();
    if endpoint.starts_with("http://") {
        // Whoever writes http:// means it. Payloads are signed there, since nothing else guards them on the way.
        builder = builder.with_allow_http(true);
    } else {
        builder = builder.with_unsigned_payload(true);
    }
    match options.checksum.as_deref() {
        None => {}
        Some("sha256") => builder = builder.with_checksum_algorithm(Checksum::SHA256),
        Some("crc64nvme") => builder = builder.with_checksum_algorithm(Checksum::CRC64NVME),
        Some(other) => {
            return Err(Error::usage(format!("unknown part checksum {other:?}")).hint("sha256 or crc64nvme"));
        }
    }
    if let Some(sse) = &options.sse {
        let key: AmazonS3ConfigKey = "aws_server_side_encryption".parse().context(|| "S3 settings".into())?;
        builder = builder.with_config(key, sse);
    }
    if let Some(key_id) = &options.sse_kms_key_id {
        let key: AmazonS3ConfigKey = "aws_sse_kms_key_id".parse().context(|| "S3 settings".into())?;
        builder = builder.with_config(key, key_id);
    }
    Ok(builder)
}

fn azure(container: &str, options: &StoreOptions, timeout: Duration) -> MicrosoftAzureBuilder {
    let builder = MicrosoftAzureBuilder::from_env().with_container_name(container).with_retry(retry(options));
    let builder = builder.with_config(AzureConfigKey::Client(ClientConfigKey::Timeout), seconds(timeout));
    let endpoint = builder.get_config_value(&AzureConfigKey::Endpoint).unwrap_or_default();
    match endpoint.starts_with("http://") {
        true => builder.with_allow_http(true),
        false => builder,
    }
}

/// A folder that is not there is not made, but for its last part: it may be a mount that is missing.
pub(super) fn no_folder(folder: &std::path::Path) -> Error {
    let folder = folder.display();
    Error::failed(format!("there is no folder {folder}"))
        .hint(format!("is it mounted? otherwise: mkdir -p {folder}"))
}

/// A folder as a store.
fn open_folder(url: &Url, passed_over: &PassedOver) -> Result<Arc<dyn ObjectStore>> {
    let folder = folder_of(url)?;
    if !folder.exists() {
        return Err(no_folder(&folder));
    }
    let store = Folder::open(&folder, passed_over).map_err(|e| {
        Error::failed(format!("cannot use folder {}", folder.display())).because(e).hint("is it a folder?")
    })?;
    Ok(Arc::new(store))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_not_retried_for_longer_than_their_signature_lasts() {
        let within = |seconds| {
            let retry_for = Duration::from_secs(seconds);
            retry(&StoreOptions { retry_for, ..StoreOptions::default() }).retry_timeout.as_secs()
        };
        assert_eq!((within(5), within(180), within(3600)), (5, 180, 180));
    }

    #[test]
    fn an_unknown_checksum_is_a_usage_error() {
        let options = |checksum: &str| StoreOptions { checksum: Some(checksum.into()), ..Default::default() };
        let s3 = |checksum: &str| s3("b", &options(checksum), Duration::from_secs(60)).map(drop);
        assert!(s3("sha256").is_ok() && s3("crc64nvme").is_ok());
        let error = s3("md5").unwrap_err();
        assert_eq!(error.to_string(), "unknown part checksum \"md5\"");
        assert_eq!((error.kind().exit_code(), error.hint_text()), (2, Some("sha256 or crc64nvme")));
    }
}
