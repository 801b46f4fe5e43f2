//! Where archives go: a URL becomes an `object_store::ObjectStore`, with what must be known about its kind.

use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use object_store::path::Path;
use object_store::{Attribute, Attributes, ObjectStore};

use crate::archive::Id;
use crate::archive::budget::PartLimits;
use crate::error::{Context, Error, Result};
use crate::report::Reporter;

mod bucket;
mod clients;
pub mod commit;
mod create;
pub mod damage;
pub mod download;
mod environment;
pub mod failed;
mod failure;
pub mod fan;
#[cfg(test)]
pub(crate) mod faults;
mod folder;
mod foreign;
mod hints;
mod http;
pub mod jobs;
mod json;
pub mod key_object;
pub mod lease;
pub mod leftover;
pub mod list;
mod location;
pub mod lock;
pub mod manifest;
mod mark;
mod memory;
mod multipart;
mod names;
pub mod needs;
mod pages;
mod parts;
mod patient;
pub mod pin;
mod probe;
pub mod rate;
pub mod record;
pub mod removal;
mod retry;
mod roots;
mod s3;
pub mod set;
mod staged;
pub mod tombstone;
pub mod unfinished;
pub mod upload;
mod uploads;

use clients::{Client, no_folder, open_client};
use failure::{Failure, in_short};
use foreign::PassedOver;
use leftover::OpenUploads;
use multipart::Uploads;
use patient::Patient;
use rate::RateLimiter;
use retry::Patience;

pub use failure::status_of;
pub use location::{StoreUrl, locate};
use location::{bucket_of, folder_of, prefix_of, shown_as};
pub use lock::{Lock, LockMode};

const MIB: u64 = 1 << 20;

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
    /// Certificates, in PEM, of authorities that are trusted beside the system's.
    pub ca_file: Option<std::path::PathBuf>,
    /// S3 Object Lock: how long nothing of a backup can be deleted.
    pub lock: Option<Lock>,
    /// S3: what is deleted is deleted with all its older versions.
    pub all_versions: bool,
    /// How long a request is tried again.
    pub retry_for: Duration,
    /// What is read there keeps to this rate; all that read with clones of these options keep to it together.
    pub read_limit: Option<Arc<RateLimiter>>,
    /// Make the folder of a `file://` store where its last part is missing.
    pub make_folder: bool,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions {
            storage_class: None,
            sse: None,
            sse_kms_key_id: None,
            checksum: None,
            ca_file: None,
            lock: None,
            all_versions: false,
            retry_for: Duration::from_secs(300),
            read_limit: None,
            make_folder: false,
        }
    }
}

/// Where a store is, whatever its URL says: two stores may be one place.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// A folder, by its one true path.
    Folder(std::path::PathBuf),
    /// A bucket or container of a kind of store.
    Bucket(Kind, String),
}

/// A store that was opened. Nothing has been asked of it yet.
#[derive(Debug, Clone)]
pub struct Store {
    /// Its URL, as the operator knows it; holds no secret.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    place: Place,
    prefix: Path,
    /// For requests that write.
    up: Arc<dyn ObjectStore>,
    /// For everything else.
    down: Arc<dyn ObjectStore>,
    uploads: Uploads,
    /// Shows uploads under way.
    open_uploads: Option<Arc<dyn OpenUploads>>,
    patience: Arc<Patience>,
    known: Arc<Known>,
    /// Whether it is to be found out if it can create an object without replacing one.
    probes: bool,
    attributes: Attributes,
    passed_over: PassedOver,
    /// What S3 is asked beside what every store is.
    s3: Option<Arc<s3::Api>>,
    lock: Option<Lock>,
    all_versions: bool,
}

/// What was found out about a store and the key to it.
#[derive(Debug, Default)]
struct Known {
    /// Objects cannot be asked for: their sizes are seen in lists.
    may_not_read: AtomicBool,
    /// Nothing can be created without replacing what is there.
    lacks_create_only: AtomicBool,
}

impl Store {
    /// Opens a store to write to. Where the options say so, its folder is made when only its last part is missing: nobody
    /// else can tell a store that is new from a disk that is not mounted.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn create(url: &str, options: &StoreOptions) -> Result<Store> {
        if options.make_folder
            && let (Kind::File, parsed) = locate(url)?
            && let folder = folder_of(&parsed)?
            && !folder.exists()
        {
            // A missing parent is a missing mount.
            match std::fs::DirBuilder::new().mode(0o700).create(&folder) {
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
        Self::open_through(url, options, |client| client)
    }

    /// Opens it with its client as `decorate` makes it.
    fn open_through(
        url: &str,
        options: &StoreOptions,
        decorate: impl FnOnce(Client) -> Client,
    ) -> Result<Store> {
        let (kind, parsed) = locate(url)?;
        let mut attributes = Attributes::new();
        if let Some(class) =
            options.storage_class.clone().filter(|_| !matches!(kind, Kind::File | Kind::Memory))
        {
            attributes.insert(Attribute::StorageClass, class.into());
        }
        let cannot = || format!("cannot open store {url}");
        environment::check_variables(kind)?;
        let passed_over = PassedOver::default();
        let opened = open_client(kind, &parsed, options, &passed_over).map_err(|e| e.context(cannot()))?;
        let client = decorate(opened);
        let prefix = prefix_of(kind, &parsed)?;
        let name = location::name_of(url);
        let place = match kind {
            Kind::File => {
                let folder = folder_of(&parsed)?;
                Place::Folder(folder.canonicalize().unwrap_or(folder))
            }
            _ => Place::Bucket(kind, parsed.host_str().unwrap_or_default().into()),
        };
        let patience = Arc::new(Patience::new(&name, kind, options.retry_for));
        let up: Arc<dyn ObjectStore> = Arc::new(Patient {
            inner: client.requests,
            patience: Arc::clone(&patience),
            read_limit: options.read_limit.clone(),
        });
        let (down, known) = (Arc::clone(&up), Arc::default());
        let Client { uploads, open_uploads, probes, s3, .. } = client;
        Ok(Store {
            name,
            kind,
            place,
            prefix,
            up,
            down,
            uploads,
            open_uploads,
            patience,
            known,
            probes,
            attributes,
            passed_over,
            s3,
            lock: options.lock,
            all_versions: options.all_versions,
        })
    }

    /// Puts an object under a key, whatever is there.
    #[cfg(test)]
    pub(crate) async fn put_for_tests(&self, key: &str, text: &str) {
        let payload = text.to_string().into();
        self.up.put_opts(&self.below(key), payload, Default::default()).await.unwrap();
    }

    /// Tells `ui` when a request is tried again for long.
    fn report_to(&self, ui: &Reporter) {
        self.patience.report_to(ui);
    }

    /// The folder that it is, by its one true path.
    pub fn folder(&self) -> Option<&std::path::Path> {
        match &self.place {
            Place::Folder(folder) => Some(folder),
            Place::Bucket(..) => None,
        }
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
            ("--lock", options.lock.is_some(), self.s3.is_some()),
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
        !matches!(self.look(&manifest).await, Ok(None))
    }

    /// Deletes what an upload that failed left in a folder: `NAME#1` and so on, which no list shows.
    fn drop_staged(&self, key: &Path) -> Result<()> {
        let Place::Folder(root) = &self.place else { return Ok(()) };
        let path = root.join(key.as_ref());
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

    /// The key of one of an archive's objects: derived from job and id, never taken from what is stored.
    pub fn key(&self, job: &str, id: &Id, suffix: &str) -> Path {
        self.below(&format!("{job}/{id}{suffix}"))
    }

    /// A job's or an archive's key below the store's prefix.
    fn below(&self, rest: &str) -> Path {
        // Names of jobs and ids have only characters that stand for themselves; what has others is encoded, and is no
        // key of ours.
        self.at(rest).unwrap_or_else(|_| {
            let encoded = Path::from(rest);
            Path::from_iter(self.prefix.parts().chain(encoded.parts()))
        })
    }

    /// A key below the store's prefix, to the letter: the library's own joining would encode some characters, and those
    /// of the prefix a second time.
    fn at(&self, key: &str) -> Result<Path, object_store::path::Error> {
        let prefix = self.prefix.as_ref();
        Path::parse(if prefix.is_empty() { key.into() } else { format!("{prefix}/{key}") })
    }

    /// How many objects, files and folders the latest list passed over because they are not ours.
    pub fn passed_over(&self) -> u64 {
        self.passed_over.count()
    }

    /// Folders that the latest list could not read; archives may lie there.
    pub fn unreadable(&self) -> Vec<String> {
        self.passed_over.unreadable()
    }

    /// The URL of an object of this store.
    pub fn url_of(&self, key: &Path) -> String {
        format!("{}/{}", self.name, shown_as(self.shown(key)))
    }

    /// A key as it is counted from the store's URL.
    pub fn shown<'a>(&self, key: &'a Path) -> &'a str {
        let below = key.as_ref().strip_prefix(self.prefix.as_ref()).unwrap_or(key.as_ref());
        below.trim_start_matches('/')
    }

    /// Says what a failed request means, and what to do about it.
    fn explain(&self, what: &str, error: object_store::Error) -> Error {
        let by_class = || match failure::classify(&error, self.kind) {
            Failure::NoFolder => "does the folder exist, and is it mounted?",
            Failure::Full => "the file system is full: make room, or choose another store",
            Failure::NotWritable => "may this user write there?",
            Failure::NoBucket => "does the bucket or container exist? sealift does not create it",
            Failure::Refused => hints::of_credentials(self.kind),
            Failure::Unreachable => {
                "is the endpoint right (AWS_ENDPOINT_URL, AZURE_STORAGE_ENDPOINT), and the network up?"
            }
            Failure::Other => "",
        };
        let hint = hints::of_answer(&error, self.kind).unwrap_or_else(by_class);
        let explained = Error::failed(format!("{what} at {} failed", self.name)).because(in_short(&error));
        if hint.is_empty() { explained } else { explained.hint(hint) }
    }
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

    #[test]
    fn two_urls_of_one_place_are_the_same_store() {
        let open = |url: &str| Store::open(url, &StoreOptions::default()).unwrap();
        assert!(open("file:///usr/bin/..").is_same(&open("file:///usr/")));
        assert!(!open("file:///usr").is_same(&open("file:///etc")));
        assert!(open("memory://a/x/").is_same(&open("memory://a/x")));
        assert!(!open("memory://a/x").is_same(&open("memory://a/y")));
        assert!(!open("memory://a/x").is_same(&open("memory://b/x")));
        assert!(!open("memory://a").is_same(&open("file:///usr")));
    }

    #[test]
    fn buckets_of_one_name_at_two_clouds_are_two_places() {
        assert_ne!(Place::Bucket(Kind::S3, "b".into()), Place::Bucket(Kind::Gcs, "b".into()));
        assert_ne!(Place::Bucket(Kind::S3, "b".into()), Place::Bucket(Kind::S3, "c".into()));
    }

    #[test]
    fn keys_are_shown_as_counted_from_the_url() {
        let store = Store::open("memory://x/a/b", &StoreOptions::default()).unwrap();
        assert_eq!(store.shown(&store.below("team/x")), "team/x");
        assert_eq!(store.at("odd name#1").unwrap().as_ref(), "a/b/odd name#1");
        assert!(store.at("a//b").is_err());
        let top = Store::open("memory://x", &StoreOptions::default()).unwrap();
        assert_eq!((top.at("k").unwrap().as_ref(), top.shown(&top.below("k"))), ("k", "k"));
    }

    #[test]
    fn options_that_mean_nothing_there_are_named() {
        let options = StoreOptions {
            storage_class: Some("STANDARD_IA".into()),
            sse: Some("AES256".into()),
            checksum: Some("sha256".into()),
            ..StoreOptions::default()
        };
        let store = |url: &str| Store::open(url, &options).unwrap();
        assert_eq!(store("file:///usr").ineffective(&options), ["--storage-class", "--sse", "--checksum"]);
        assert_eq!(store("file:///usr").ineffective(&StoreOptions::default()), [""; 0]);
    }

    #[test]
    fn a_failure_names_the_store_and_says_what_to_do() {
        let store = |kind| Store { kind, ..Store::open("memory://x", &StoreOptions::default()).unwrap() };
        let generic = |source: &str| object_store::Error::Generic { store: "S3", source: source.into() };
        let error = store(Kind::S3).explain("listing", generic("status code: 403 Forbidden: no"));
        assert_eq!(error.to_string(), "listing at memory://x failed: 403 Forbidden: no");
        for (kind, words) in [
            (Kind::S3, "AWS_ACCESS_KEY_ID"),
            (Kind::Azure, "AZURE_STORAGE_ACCOUNT_KEY"),
            (Kind::Gcs, "GOOGLE_SERVICE_ACCOUNT"),
        ] {
            let error = store(kind).explain("listing", generic("status code: 403 Forbidden"));
            assert!(error.hint_text().unwrap().contains(words), "{error:?}");
        }
        let full = object_store::Error::Generic {
            store: "LocalFileSystem",
            source: std::io::Error::from_raw_os_error(28).into(),
        };
        let error = store(Kind::File).explain("uploading a part", full);
        assert!(error.hint_text().unwrap().starts_with("the file system is full"));
        assert!(store(Kind::S3).explain("listing", generic("odd")).hint_text().is_none());
    }

    #[test]
    fn a_folder_that_is_not_mounted_is_not_made() {
        let options = StoreOptions { make_folder: true, ..StoreOptions::default() };
        let error = Store::create("file:///no/such/parent", &options).unwrap_err();
        assert!(error.to_string().starts_with("there is no folder /no/such/parent: "), "{error}");
        assert!(error.find::<std::io::Error>().is_some());
        assert!(error.hint_text().unwrap().starts_with("is it mounted?"));
    }
}
