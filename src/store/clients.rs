//! The clients of a store: one URL and the environment become `object_store` clients.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::HttpClient;
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::multipart::MultipartStore;
use object_store::signer::Signer;
use object_store::{ClientConfigKey, ObjectStore, RetryConfig};
use url::Url;

use super::folder::Folder;
use super::foreign::PassedOver;
use super::http::Watching;
use super::leftover::OpenUploads;
use super::multipart::Uploads;
use super::roots::Roots;
use super::s3::Api;
use super::uploads::BucketUploads;
use super::{Kind, StoreOptions, bucket_of, environment, folder_of, memory};
use crate::error::{Context, Error, Result};

/// The client's own attempts keep one signature: well below the quarter of an hour that stores accept.
const LONGEST_SIGNATURE: Duration = Duration::from_secs(600);

/// A store's client, which makes each request once.
pub(super) struct Client {
    /// For all requests but those of large objects.
    pub(super) requests: Arc<dyn ObjectStore>,
    /// For large objects.
    pub(super) uploads: Uploads,
    /// Shows uploads under way.
    pub(super) open_uploads: Option<Arc<dyn OpenUploads>>,
    /// Whether it is to be found out if it can create an object without replacing one.
    pub(super) probes: bool,
    /// What S3 is asked beside that.
    pub(super) s3: Option<Arc<Api>>,
}

impl Client {
    pub(super) fn of<S: ObjectStore + MultipartStore>(store: Arc<S>) -> Self {
        let uploads = Uploads::Numbered(Arc::clone(&store) as Arc<dyn MultipartStore>);
        Client { requests: store, uploads, open_uploads: None, probes: false, s3: None }
    }
}

/// Opens the client of a store.
pub(super) fn open_client(
    kind: Kind,
    url: &Url,
    options: &StoreOptions,
    passed_over: &PassedOver,
) -> Result<Client> {
    let cannot = || "the store's settings are not enough".to_string();
    let watching =
        || Ok::<_, Error>(Watching::new(Roots::read(options.ca_file.as_deref())?, passed_over.clone()));
    Ok(match kind {
        Kind::File => {
            let folder = open_folder(url, passed_over)?;
            Client {
                requests: Arc::clone(&folder),
                uploads: Uploads::Whole { store: folder, repeats: false },
                open_uploads: None,
                probes: false,
                s3: None,
            }
        }
        Kind::Memory => memory::client(url.host_str()),
        Kind::S3 => {
            let watching = watching()?;
            let builder = s3(&bucket_of(url)?, options)?.with_http_connector(watching.clone());
            environment::check_s3(&builder)?;
            let elsewhere = builder.get_config_value(&AmazonS3ConfigKey::Endpoint).is_some();
            let region = builder.get_config_value(&AmazonS3ConfigKey::Region);
            let store = Arc::new(builder.build().context(cannot)?);
            let api = watching.made().map(|client| Api::new(Arc::clone(&store), client, region));
            let open_uploads = shown(&store, watching.made());
            Client { open_uploads, probes: elsewhere, s3: api.map(Arc::new), ..Client::of(store) }
        }
        Kind::Azure => {
            let container = bucket_of(url)?;
            let watching = watching()?;
            let builder =
                |retry| Ok::<_, Error>(azure(&container, retry)?.with_http_connector(watching.clone()));
            let open = |builder: MicrosoftAzureBuilder| builder.build().context(cannot).map(Arc::new);
            let requests = builder(once())?;
            environment::check_azure(&requests)?;
            let client = Client::of(open(requests)?);
            match options.storage_class {
                None => client,
                Some(_) => {
                    let store = open(builder(within(options))?)?;
                    Client { uploads: Uploads::Whole { store, repeats: true }, ..client }
                }
            }
        }
        Kind::Gcs => {
            let watching = watching()?;
            let builder = gcs(&bucket_of(url)?).with_http_connector(watching.clone());
            environment::check_gcs(&builder)?;
            let store = Arc::new(builder.build().context(cannot)?);
            Client { open_uploads: shown(&store, watching.made()), ..Client::of(store) }
        }
    })
}

/// What shows the uploads under way in a bucket.
fn shown<S: Signer + MultipartStore>(
    store: &Arc<S>,
    client: Option<HttpClient>,
) -> Option<Arc<dyn OpenUploads>> {
    client.map(|client| Arc::new(BucketUploads::new(store, client)) as Arc<dyn OpenUploads>)
}

/// No attempts but the first: what is asked again gets a new signature.
fn once() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

/// As many as there is time for.
fn within(options: &StoreOptions) -> RetryConfig {
    let retry_timeout = options.retry_for.min(LONGEST_SIGNATURE);
    RetryConfig { max_retries: usize::MAX, retry_timeout, ..RetryConfig::default() }
}

/// Whether an endpoint is reached without TLS: whoever writes http:// means it.
fn is_http(endpoint: Option<String>) -> bool {
    endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"))
}

// `with_client_options` would drop what the environment said (proxy, certificates): only single keys are set.
fn s3(bucket: &str, options: &StoreOptions) -> Result<AmazonS3Builder> {
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    builder = builder.with_retry(once());
    for (name, value) in environment::secret_files::values(Kind::S3)? {
        builder = builder.with_config(setting::<AmazonS3ConfigKey>(name)?, value);
    }
    // The service's own variable wins over the general one, as with the vendor's command line.
    if let Ok(endpoint) = std::env::var("AWS_ENDPOINT_URL_S3") {
        builder = builder.with_endpoint(endpoint);
    }
    if is_http(builder.get_config_value(&AmazonS3ConfigKey::Endpoint)) {
        // Payloads are signed there, since nothing else guards them on the way.
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
        builder = builder.with_config(setting::<AmazonS3ConfigKey>("aws_server_side_encryption")?, sse);
    }
    if let Some(key_id) = &options.sse_kms_key_id {
        builder = builder.with_config(setting::<AmazonS3ConfigKey>("aws_sse_kms_key_id")?, key_id);
    }
    Ok(builder)
}

fn azure(container: &str, retry: RetryConfig) -> Result<MicrosoftAzureBuilder> {
    let mut builder = MicrosoftAzureBuilder::from_env().with_container_name(container);
    builder = builder.with_retry(retry);
    for (name, value) in environment::secret_files::values(Kind::Azure)? {
        builder = builder.with_config(setting::<AzureConfigKey>(name)?, value);
    }
    Ok(match is_http(builder.get_config_value(&AzureConfigKey::Endpoint)) {
        true => builder.with_allow_http(true),
        false => builder,
    })
}

/// A setting of a client by its variable's name.
fn setting<K: FromStr<Err = object_store::Error>>(variable: &str) -> Result<K> {
    variable.to_ascii_lowercase().parse().context(|| format!("{variable} is no setting of the store"))
}

fn gcs(bucket: &str) -> GoogleCloudStorageBuilder {
    let builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket).with_retry(once());
    match is_http(builder.get_config_value(&GoogleConfigKey::BaseUrl)) {
        true => builder.with_config(GoogleConfigKey::Client(ClientConfigKey::AllowHttp), "true"),
        false => builder,
    }
}

/// A folder that is not there is not made unless that was asked for, and then only its last part: it may be a mount that
/// is missing.
pub(super) fn no_folder(folder: &std::path::Path) -> Error {
    let folder = folder.display();
    Error::failed(format!("there is no folder {folder}")).hint(format!(
        "is it mounted? the folder of a new store is made by `mkdir -p {folder}`, or by --make-store"
    ))
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
    fn a_client_asks_once_and_never_longer_than_its_signature_lasts() {
        assert_eq!(once().max_retries, 0);
        let limit = |seconds| {
            let retry_for = Duration::from_secs(seconds);
            within(&StoreOptions { retry_for, ..StoreOptions::default() }).retry_timeout.as_secs()
        };
        assert_eq!((limit(5), limit(600), limit(3600)), (5, 600, 600));
    }

    #[test]
    fn a_folder_that_cannot_be_synced_is_known_before_the_first_byte() {
        assert!(super::super::folder::can_sync(&std::env::current_dir().unwrap()));
        // The kernel's answer there is the one that CIFS gives.
        assert!(!super::super::folder::can_sync(std::path::Path::new("/proc/self")));
    }

    #[test]
    fn an_unknown_checksum_is_a_usage_error() {
        let options = |checksum: &str| StoreOptions { checksum: Some(checksum.into()), ..Default::default() };
        let s3 = |checksum: &str| s3("b", &options(checksum)).map(drop);
        assert!(s3("sha256").is_ok() && s3("crc64nvme").is_ok());
        let error = s3("md5").unwrap_err();
        assert_eq!(error.to_string(), "unknown part checksum \"md5\"");
        assert_eq!((error.kind().exit_code(), error.hint_text()), (2, Some("sha256 or crc64nvme")));
    }
}
