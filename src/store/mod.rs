//! Where archives go: a URL becomes an `object_store::ObjectStore`, with what must be known about its kind.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Attribute, Attributes, ClientConfigKey, ObjectStore, ObjectStoreExt, RetryConfig};
use url::Url;

use crate::archive::Id;
use crate::archive::budget::PartLimits;
use crate::error::{Context, Error, Result};

pub mod commit;
pub mod download;
pub mod fan;
#[cfg(test)]
pub(crate) mod faults;
mod json;
pub mod list;
pub mod manifest;
mod memory;
pub mod rate;
pub mod record;
pub mod set;
pub mod upload;

const MIB: u64 = 1 << 20;
/// The slowest upload that is waited for, in bytes a second.
const SLOWEST: u64 = 128 << 10;
/// Requests keep one signature while they are retried: well below the five minutes that S3 accepts.
const LONGEST_SIGNATURE: Duration = Duration::from_secs(180);

/// A kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    File,
    /// S3 or what speaks like it.
    S3,
    /// Azure Blob Storage.
    Azure,
    /// Google Cloud Storage.
    Gcs,
    /// Memory of this process, for tests: `memory://NAME` is one store for all that open it.
    Memory,
}

impl Kind {
    /// What one multipart upload may be made of there.
    pub fn limits(self) -> PartLimits {
        match self {
            // S3 and GCS: "Amazon S3 multipart upload limits".
            Kind::S3 | Kind::Gcs => PartLimits { count: 10_000, smallest: 5 * MIB, largest: 5 << 30 },
            // "Scale targets for Blob storage".
            Kind::Azure => PartLimits { count: 50_000, smallest: 1, largest: 4000 * MIB },
            Kind::File | Kind::Memory => PartLimits::NONE,
        }
    }
}

/// How a store is to be used.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// S3 storage class, Azure access tier, GCS storage class; for archives only, so that lists stay readable.
    pub storage_class: Option<String>,
    /// S3 server-side encryption: `AES256`, `aws:kms`, `aws:kms:dsse`.
    pub sse: Option<String>,
    /// Its KMS key.
    pub sse_kms_key_id: Option<String>,
    /// S3 checksum header on every part: `sha256` or `crc64nvme`.
    pub checksum: Option<String>,
    /// How long a part, or a request, is tried again.
    pub retry_for: Duration,
    /// Bytes of the largest part, for the time an upload may take.
    pub largest_part: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions {
            storage_class: None,
            sse: None,
            sse_kms_key_id: None,
            checksum: None,
            retry_for: Duration::from_secs(300),
            largest_part: 256 * MIB,
        }
    }
}

/// A store that was opened. Nothing has been asked of it yet.
#[derive(Debug, Clone)]
pub struct Store {
    /// Its URL, as the operator knows it; holds no secret.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The folder, or kind and bucket.
    place: String,
    prefix: Path,
    /// For requests that carry much: patient.
    up: Arc<dyn ObjectStore>,
    /// For everything else.
    down: Arc<dyn ObjectStore>,
    retry_for: Duration,
    attributes: Attributes,
}

impl Store {
    /// Opens a store to write to: a folder is made when only its last part is missing.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn create(url: &str, options: &StoreOptions) -> Result<Store> {
        set_private_umask();
        if let Some(folder) =
            Url::parse(url).ok().filter(|url| url.scheme() == "file").and_then(|url| url.to_file_path().ok())
            && !folder.exists()
        {
            // A missing parent is a missing mount.
            match std::fs::create_dir(&folder) {
                // Another backup may have been as quick.
                Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(no_folder(&folder).because(e));
                }
                _ => {}
            }
        }
        Self::open(url, options)
    }

    /// Opens the store at `url`.
    ///
    /// # Errors
    /// The URL is none that is known, or the environment lacks what the store needs.
    pub fn open(url: &str, options: &StoreOptions) -> Result<Store> {
        let (kind, parsed) = locate(url)?;
        let mut attributes = Attributes::new();
        if let Some(class) =
            options.storage_class.clone().filter(|_| !matches!(kind, Kind::File | Kind::Memory))
        {
            attributes.insert(Attribute::StorageClass, class.into());
        }
        let cannot = || format!("cannot open store {url}");
        let (up, down) = open_clients(kind, &parsed, options).map_err(|e| e.context(cannot()))?;
        let prefix = match kind {
            Kind::File => Path::default(),
            _ => Path::from_url_path(parsed.path()).context(cannot)?,
        };
        let name = url.trim_end_matches('/').to_string();
        let place = match kind {
            Kind::File => {
                let folder = parsed.to_file_path().unwrap_or_default();
                folder.canonicalize().unwrap_or(folder).display().to_string()
            }
            _ => format!("{kind:?} {}", parsed.host_str().unwrap_or_default()),
        };
        Ok(Store { name, kind, place, prefix, up, down, retry_for: options.retry_for, attributes })
    }

    /// Whether both are one place: two uploads to one key would take each other's objects away.
    pub fn is_same(&self, other: &Store) -> bool {
        self.place == other.place && self.prefix == other.prefix
    }

    /// Options that were given, but mean nothing to this kind of store.
    pub fn ineffective(&self, options: &StoreOptions) -> Vec<&'static str> {
        let given = [
            ("--storage-class", options.storage_class.is_some(), self.kind != Kind::File),
            ("--sse", options.sse.is_some(), self.kind == Kind::S3),
            ("--checksum", options.checksum.is_some(), self.kind == Kind::S3),
        ];
        given
            .into_iter()
            .filter(|(_, given, effective)| *given && !effective)
            .map(|(name, ..)| name)
            .collect()
    }

    /// Whether the archive that an object belongs to has its manifest; true where that cannot be known.
    async fn is_committed(&self, key: &Path) -> bool {
        let name = key.filename().unwrap_or_default();
        let id = name.split('.').next().unwrap_or_default();
        let folder = key.as_ref().strip_suffix(name).unwrap_or_default();
        let Ok(manifest) = Path::parse(format!("{folder}{id}{}", manifest::SUFFIX)) else { return true };
        !matches!(self.down.head(&manifest).await, Err(object_store::Error::NotFound { .. }))
    }

    /// Deletes what an upload that failed left in a folder: `NAME#1` and so on, which no list shows.
    fn drop_staged(&self, key: &Path) -> Result<()> {
        let path = std::path::Path::new(&self.place).join(key.as_ref());
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
        let staged = format!("{}#", name.to_string_lossy());
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&staged) {
                std::fs::remove_file(entry.path())
                    .context(|| format!("cannot delete {}", entry.path().display()))?;
            }
        }
        Ok(())
    }

    /// Some file systems have no hard links, by which a folder's create-only works: there the id alone keeps keys apart.
    async fn put_where_links_are_missing(&self, key: &Path, text: &str) -> bool {
        self.kind == Kind::File && self.up.put(key, text.to_string().into()).await.is_ok()
    }

    /// The key of one of an archive's objects: derived from job and id, never taken from what is stored.
    pub fn key(&self, job: &str, id: &Id, suffix: &str) -> Path {
        self.below(&format!("{job}/{id}{suffix}"))
    }

    /// A key below the store's prefix.
    fn below(&self, rest: &str) -> Path {
        let parts = self.prefix.parts().map(|part| part.as_ref().to_string());
        Path::from_iter(parts.chain(rest.split('/').map(String::from)))
    }

    /// A foreign object's key below the store's prefix, to the letter: [`Store::below`] would encode some characters.
    fn at(&self, key: &str) -> Result<Path, object_store::path::Error> {
        let prefix = self.prefix.as_ref();
        Path::parse(if prefix.is_empty() { key.into() } else { format!("{prefix}/{key}") })
    }

    /// A key as it is counted from the store's URL.
    pub fn shown<'a>(&self, key: &'a Path) -> &'a str {
        let below = key.as_ref().strip_prefix(self.prefix.as_ref()).unwrap_or(key.as_ref());
        below.trim_start_matches('/')
    }

    /// Says what a failed request means, and what to do about it.
    fn explain(&self, what: &str, error: object_store::Error) -> Error {
        // Which requests have an error type of their own differs from store to store: the status says it too.
        let text = error.to_string();
        let says = |signs: &[&str]| signs.iter().any(|sign| text.contains(sign));
        let hint = match (&error, self.kind) {
            (object_store::Error::NotFound { .. }, Kind::File) => "does the folder exist, and is it mounted?",
            _ if says(&["os error 28"]) => "the file system is full: make room, or choose another store",
            _ if says(&["os error 13", "os error 30"]) => "may this user write there?",
            _ if says(&["404 Not Found", "NoSuchBucket", "ContainerNotFound"]) => {
                "does the bucket or container exist? sealift does not create it"
            }
            _ if says(&["403 Forbidden", "401 Unauthorized", "redential"]) => self.credentials_hint(),
            _ if says(&["error sending request", "onnection refused", "dns error"]) => {
                "is the endpoint right (AWS_ENDPOINT_URL, AZURE_STORAGE_ENDPOINT), and the network up?"
            }
            _ => "",
        };
        let explained = Error::failed(format!("{what} at {} failed", self.name)).because(in_short(&error));
        if hint.is_empty() { explained } else { explained.hint(hint) }
    }

    fn credentials_hint(&self) -> &'static str {
        match self.kind {
            Kind::Azure => {
                "check AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY (or AZURE_STORAGE_SAS_TOKEN)"
            }
            Kind::Gcs => "check GOOGLE_SERVICE_ACCOUNT, or run `gcloud auth application-default login`",
            _ => "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, and what the key may do",
        }
    }
}

/// What a folder holds is for its owner alone, from the first byte on.
pub(crate) fn set_private_umask() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
}

/// What a store's URL says, without opening it.
///
/// # Errors
/// It is none that is known, names no place, or carries credentials.
pub fn locate(url: &str) -> Result<(Kind, Url)> {
    let known = "file:///folder, s3://bucket/prefix, az://container/prefix or gs://bucket/prefix";
    let parsed = Url::parse(url)
        .map_err(|e| Error::usage(format!("{url:?} is no store")).because(e).hint(format!("give {known}")))?;
    if parsed.password().is_some() || !parsed.username().is_empty() || parsed.query().is_some() {
        return Err(Error::usage("a store's URL carries no credentials and no options")
            .hint("give keys in the environment (AWS_ACCESS_KEY_ID, AZURE_STORAGE_ACCOUNT_KEY, …)"));
    }
    let kind = match parsed.scheme() {
        "file" => Kind::File,
        "s3" => Kind::S3,
        "az" | "azure" => Kind::Azure,
        "gs" => Kind::Gcs,
        "memory" => Kind::Memory,
        other => {
            return Err(
                Error::usage(format!("unknown kind of store {other:?}")).hint(format!("give {known}"))
            );
        }
    };
    match kind {
        Kind::File => drop(folder_of(&parsed)?),
        Kind::Memory => {}
        Kind::S3 | Kind::Azure | Kind::Gcs => drop(bucket_of(&parsed)?),
    }
    Ok((kind, parsed))
}

fn bucket_of(url: &Url) -> Result<String> {
    url.host_str().map(String::from).ok_or_else(|| {
        Error::usage(format!("{url} names no bucket"))
            .hint("write s3://bucket/prefix, az://container/prefix or gs://bucket/prefix")
    })
}

fn folder_of(url: &Url) -> Result<std::path::PathBuf> {
    url.to_file_path().map_err(|()| {
        Error::usage(format!("{url} names no folder of this host"))
            .hint("write file:///folder with three slashes")
    })
}

/// An error's innermost text, and of an XML answer its code and message.
fn in_short(error: &object_store::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    // What the transport says last is often too short to be understood alone.
    let whole = error.to_string();
    let text =
        if whole.contains("<?xml") || whole.contains("<Error>") { whole } else { innermost.to_string() };
    let tag = |tag: &str| {
        let from = text.split_once(&format!("<{tag}>"))?.1;
        from.split_once('<').map(|(value, _)| value.trim().to_string()).filter(|value| !value.is_empty())
    };
    let head = text.split("<").next().unwrap_or_default().trim_end_matches([':', ' ']);
    let status = head.split("status code: ").nth(1).unwrap_or(head);
    [Some(status.to_string()), tag("Code"), tag("Message")]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(": ")
}

type Clients = (Arc<dyn ObjectStore>, Arc<dyn ObjectStore>);

/// Two clients, because an upload of a large part may take long and an answer to a small request may not.
fn open_clients(kind: Kind, url: &Url, options: &StoreOptions) -> Result<Clients> {
    let upload = Duration::from_secs((options.largest_part / SLOWEST).max(60));
    let download = Duration::from_secs(120);
    let cannot = || "the store's settings are not enough".to_string();
    let both = |open: &dyn Fn(Duration) -> Result<Arc<dyn ObjectStore>>| Ok((open(upload)?, open(download)?));
    match kind {
        Kind::File => {
            let folder = open_folder(url)?;
            Ok((Arc::clone(&folder), folder))
        }
        Kind::Memory => {
            let memory = memory::shared(url.host_str());
            Ok((Arc::clone(&memory), memory))
        }
        Kind::S3 => {
            let bucket = bucket_of(url)?;
            both(&|timeout| Ok(Arc::new(s3(&bucket, options, timeout)?.build().context(cannot)?)))
        }
        Kind::Azure => {
            let container = bucket_of(url)?;
            both(&|timeout| Ok(Arc::new(azure(&container, options, timeout).build().context(cannot)?)))
        }
        Kind::Gcs => {
            let bucket = bucket_of(url)?;
            both(&|timeout| {
                let key = GoogleConfigKey::Client(ClientConfigKey::Timeout);
                let builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(&bucket);
                let builder = builder.with_config(key, seconds(timeout)).with_retry(retry(options));
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

fn no_folder(folder: &std::path::Path) -> Error {
    let folder = folder.display();
    Error::failed(format!("there is no folder {folder}"))
        .hint(format!("is it mounted? otherwise: mkdir -p {folder}"))
}

/// A folder as a store.
fn open_folder(url: &Url) -> Result<Arc<dyn ObjectStore>> {
    let folder = folder_of(url)?;
    if !folder.exists() {
        return Err(no_folder(&folder));
    }
    let store = LocalFileSystem::new_with_prefix(&folder).map_err(|e| {
        Error::failed(format!("cannot use folder {}", folder.display())).because(e).hint("is it a folder?")
    })?;
    // A store that says "done" has the bytes on the disk, as the others have.
    Ok(Arc::new(store.with_fsync(true)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lie_below_the_prefix() {
        let store = Store::open("memory:///a/b/", &StoreOptions::default()).unwrap();
        let id: Id = "20261122T020000Z-1f2e3d4c".parse().unwrap();
        assert_eq!(store.key("team/app", &id, ".x").as_ref(), "a/b/team/app/20261122T020000Z-1f2e3d4c.x");
    }

    #[test]
    fn what_is_no_store_is_a_usage_error() {
        for url in ["nonsense", "ftp://host/x", "s3://key:secret@bucket/x", "file://host/folder"] {
            let error = Store::open(url, &StoreOptions::default()).err().unwrap();
            assert_eq!(error.kind().exit_code(), 2, "{url}: {error}");
            assert!(error.hint_text().is_some(), "{url}");
        }
    }
}
