//! A backup on its way into one store: commit or abort, never both.
//!
//! The order is archive, catalog, both looked at, manifest. Readers see only what has a manifest.

use std::sync::Arc;

use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutOptions, PutPayload};

use super::Store;
use super::manifest::{Manifest, SUFFIX, catalog_suffix};
use super::upload::{Class, Completed, Upload};
use crate::archive::Id;
use crate::error::{Error, Result};
use crate::stream::counters::Counter;

/// The two uploads of one backup to one store.
pub struct Target {
    store: Arc<Store>,
    /// Bytes of the archive.
    pub archive: Upload,
    /// Bytes of the catalog.
    pub catalog: Upload,
    manifest: Path,
}

impl Target {
    /// Begins both uploads.
    ///
    /// # Errors
    /// One of them could not be begun; the other was aborted.
    pub async fn begin(
        store: &Arc<Store>,
        job: &str,
        id: &Id,
        suffix: &str,
        parallel: usize,
        taken: &Arc<Counter>,
    ) -> Result<Self> {
        let key = |suffix: &str| store.key(job, id, suffix);
        let archive = Upload::begin(store, key(suffix), Class::Archive, parallel, taken).await?;
        let catalog = Upload::begin(store, key(catalog_suffix(suffix)), Class::Catalog, 1, taken).await;
        match catalog {
            Ok(catalog) => Ok(Target { store: Arc::clone(store), archive, catalog, manifest: key(SUFFIX) }),
            Err(error) => Err(archive.abort_because(error).await),
        }
    }

    /// The store's name.
    pub fn name(&self) -> &str {
        &self.store.name
    }

    /// Waits until all that was sent has arrived.
    ///
    /// # Errors
    /// As [`Upload::part`].
    pub async fn drain(&mut self) -> Result<()> {
        self.archive.drain().await?;
        self.catalog.drain().await
    }

    /// Ends both uploads without an object. `cause` stays the cause.
    pub async fn abort_because(self, cause: Error) -> Error {
        let cause = self.archive.abort_because(cause).await;
        self.catalog.abort_because(cause).await
    }

    /// Makes the backup exist.
    ///
    /// Both uploads are completed and looked at; only then is the manifest put, create-only. Readers see nothing before
    /// that, and all of it after. An answer that was lost is settled by reading back what is there. When this returns
    /// without an error, archive, catalog and manifest are in the store.
    ///
    /// # Errors
    /// The backup does not exist; what was uploaded is taken back, unless the error says "commit unknown" or names what is
    /// left.
    ///
    /// # Examples
    /// ```
    /// use std::sync::Arc;
    ///
    /// use sealift::archive::Format;
    /// use sealift::archive::digest::Digest;
    /// use sealift::store::commit::Target;
    /// use sealift::store::manifest::Manifest;
    /// use sealift::store::{Store, StoreOptions};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> sealift::error::Result<()> {
    /// let store = Arc::new(Store::open("memory://commit", &StoreOptions::default())?);
    /// let id = "20261122T020000Z-1f2e3d4c".parse()?;
    /// let mut target = Target::begin(&store, "db", &id, ".raw", 4, &Default::default()).await?;
    /// target.archive.part("the archive".into()).await?;
    /// target.catalog.part("the catalog".into()).await?;
    /// let digest = |bytes: &[u8]| {
    ///     let mut digest = Digest::new();
    ///     digest.update(bytes);
    ///     (&digest.finish()).into()
    /// };
    /// let now = jiff::Timestamp::now();
    /// let manifest = Manifest {
    ///     format: 1,
    ///     id: id.clone(),
    ///     job: "db".into(),
    ///     set: None,
    ///     host: None,
    ///     source_id: None,
    ///     kind: Format::Raw,
    ///     suffix: ".raw".into(),
    ///     started: now,
    ///     finished: now,
    ///     bytes: 11,
    ///     archive: digest(b"the archive"),
    ///     catalog: digest(b"the catalog"),
    ///     warnings: 0,
    ///     tool: "an example".into(),
    /// };
    /// assert_eq!(store.newest("db").await?, None);
    /// target.commit(&manifest).await?;
    /// assert_eq!(store.newest("db").await?, Some(id));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn commit(self, manifest: &Manifest) -> Result<()> {
        let text = manifest.to_text()?;
        let archive = match self.archive.complete().await {
            Ok(archive) => archive,
            Err(error) => return Err(self.catalog.abort_because(error).await),
        };
        let catalog = match self.catalog.complete().await {
            Ok(catalog) => catalog,
            Err(error) => return Err(archive.delete_because(error).await),
        };
        put_manifest(&self.store, &self.manifest, text, [catalog, archive]).await
    }
}

/// Puts the manifest; where it certainly is not there, what it belongs to is taken back.
async fn put_manifest(store: &Store, key: &Path, text: String, objects: [Completed; 2]) -> Result<()> {
    match store.put_once(key, text).await {
        Ok(()) => Ok(()),
        Err(CreateError::Another) => {
            Err(Error::failed(format!("{} has another manifest at {key}", store.name))
                .hint("two backups cannot share an id: run it again"))
        }
        Err(CreateError::Missing(error)) => {
            let mut error = store.explain("writing the manifest", error);
            for object in objects {
                error = object.delete_because(error).await;
            }
            Err(error)
        }
        Err(CreateError::Unknown(error)) => {
            Err(store.explain("writing the manifest", error).context("commit unknown").hint(format!(
                "nothing was deleted at {}; `sealift list` shows the backup if its manifest {key} arrived",
                store.name
            )))
        }
    }
}

/// Why a small object was not written.
pub(super) enum CreateError {
    /// Another one has its key.
    Another,
    /// It is not there.
    Missing(object_store::Error),
    /// Nobody knows whether it is there.
    Unknown(object_store::Error),
}

impl Store {
    /// Writes a small object that must not be there yet; an unclear answer is settled by reading it back.
    pub(super) async fn put_once(&self, key: &Path, text: String) -> Result<(), CreateError> {
        let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let Err(error) = self.up.put_opts(key, PutPayload::from(text.clone()), create).await else {
            return Ok(());
        };
        let read = async { self.down.get(key).await?.bytes().await };
        match read.await {
            Ok(there) if there == text.as_bytes() => Ok(()),
            Ok(_) => Err(CreateError::Another),
            Err(object_store::Error::NotFound { .. }) => {
                match self.put_where_links_are_missing(key, &text).await {
                    true => Ok(()),
                    false => Err(CreateError::Missing(error)),
                }
            }
            Err(_) => Err(CreateError::Unknown(error)),
        }
    }
}
