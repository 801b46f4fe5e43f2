//! A backup on its way into one store: commit or abort, never both.
//!
//! The order is archive, catalog, both looked at, manifest. Readers see only what has a manifest.

use std::sync::Arc;

use object_store::path::Path;
use tokio_util::sync::CancellationToken;

use super::Store;
use super::create::CreateError;
use super::manifest::{Manifest, SUFFIX, catalog_suffix};
use super::needs::Needs;
use super::upload::{Class, Incomplete, Upload};
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
    /// `JOB@ID`
    shown: String,
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
            Ok(catalog) => {
                let (store, shown) = (Arc::clone(store), format!("{job}@{id}"));
                Ok(Target { store, archive, catalog, manifest: key(SUFFIX), shown })
            }
            Err(error) => Err(archive.abort_because(error).await),
        }
    }

    /// The store's name.
    pub fn name(&self) -> &str {
        &self.store.name
    }

    /// What beginning the uploads may have left behind, though it succeeded.
    pub fn left_by_beginning(&self) -> impl Iterator<Item = String> {
        [&self.archive, &self.catalog].into_iter().filter_map(Upload::left_by_beginning)
    }

    /// Ends both uploads without an object. `cause` stays the cause.
    pub async fn abort_because(self, cause: Error) -> Error {
        // Both at once; what they leave is said of each.
        let nothing = || Error::failed("");
        let ended =
            tokio::join!(self.archive.abort_because(nothing()), self.catalog.abort_because(nothing()));
        let left = [ended.0, ended.1];
        left.iter().fold(cause, Error::and_hints_of)
    }

    /// Makes the backup exist.
    ///
    /// Both uploads are completed and looked at; only then is the manifest put, create-only, and read back. Readers see
    /// nothing before that, and all of it after. A request whose answer was lost is made again for as long as the store's
    /// options say. When this returns without an error, archive, catalog and manifest are in the store. What could not be
    /// locked there, though it was to be, is given: a backup that is not locked is better than none.
    ///
    /// # Errors
    /// The backup does not exist, and what was uploaded is taken back, where the store refused something or the work was
    /// cancelled before the manifest was put. Otherwise the error says "commit unknown", and nothing is deleted.
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
    ///     entries: 0,
    ///     kept: Default::default(),
    ///     needs: Vec::new(),
    ///     partial: false,
    ///     full: false,
    ///     archive: digest(b"the archive"),
    ///     catalog: digest(b"the catalog"),
    ///     warnings: 0,
    ///     tool: "an example".into(),
    /// };
    /// assert_eq!(store.newest("db").await?, None);
    /// target.commit(&manifest, &Default::default(), &Default::default()).await?;
    /// assert_eq!(store.newest("db").await?, Some(id));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn commit(
        mut self,
        manifest: &Manifest,
        needs: &Needs,
        cancel: &CancellationToken,
    ) -> Result<Option<Error>> {
        let text = manifest.to_text()?;
        let completing = async { tokio::join!(self.archive.complete(), self.catalog.complete()) };
        let completed = tokio::select! {
            biased;
            () = cancel.cancelled() => None,
            completed = completing => Some(completed),
        };
        match completed {
            None => return Err(self.abort_because(Error::interrupted()).await),
            Some((Ok(_), Ok(_))) => {}
            Some((archive, catalog)) => return Err(self.incomplete([archive.err(), catalog.err()]).await),
        }
        // A full needs nothing; whether it is being deleted itself is seen afterwards.
        if !manifest.needs.is_empty() {
            let met = tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(self.unknown(Error::interrupted())),
                met = needs.are_met(&self.store, manifest) => met,
            };
            match met {
                Ok(Ok(())) => {}
                Ok(Err(unmet)) => return Err(self.abort_because(unmet).await),
                Err(error) => return Err(self.unknown(error.context("commit unknown"))),
            }
        }
        let unlocked = self.store.lock_contents(manifest).await;
        let put = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(self.unknown(Error::interrupted())),
            put = self.store.put_once(&self.manifest, text) => put,
        };
        match put {
            Ok(()) => {
                let unlocked = unlocked.or(self.store.lock_manifest(manifest).await);
                self.look_again(manifest, needs).await.map(|()| unlocked)
            }
            Err(CreateError::Another) => {
                Err(Error::failed(format!("{} has another manifest at {}", self.store.name, self.manifest))
                    .hint("two backups cannot share an id: run it again"))
            }
            Err(CreateError::Refused(error)) => {
                let error = self.store.explain("writing the manifest", error);
                Err(self.abort_because(error).await)
            }
            Err(CreateError::Lost) => {
                let text = format!("{} took the manifest {} and has it not", self.store.name, self.manifest);
                Err(self.unknown(Error::failed(text).context("commit unknown")))
            }
            Err(CreateError::Unknown(error)) => {
                let error = self.store.explain("writing the manifest", error);
                Err(self.unknown(error.context("commit unknown")))
            }
        }
    }

    /// Whether what was committed is still whole, now that everybody sees what it needs.
    async fn look_again(&self, manifest: &Manifest, needs: &Needs) -> Result<()> {
        match needs.are_met(&self.store, manifest).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(unmet)) => Err(match self.store.withdraw(manifest).await {
                Ok(()) => unmet,
                Err(left) => unmet.and_hint(format!("it could not be taken back: {left}")),
            }),
            Err(error) => Err(self.unknown(error.context("commit unknown"))),
        }
    }

    /// One of the uploads is no object: where that is certain, the other is taken back too.
    async fn incomplete(self, why: [Option<Incomplete>; 2]) -> Error {
        let mut why: Vec<_> = why.into_iter().flatten().collect();
        let unknown = why.iter().position(|why| matches!(why, Incomplete::Unknown(_)));
        let first = why.swap_remove(unknown.unwrap_or_default());
        let others = why.into_iter().map(Incomplete::into_error);
        let error = others.fold(first.into_error(), |error, other| error.and_hints_of(&other));
        match unknown {
            None => self.abort_because(error).await,
            Some(_) => self.unknown(error.context("commit unknown")),
        }
    }

    /// Nothing is deleted; says what can be done.
    fn unknown(&self, error: Error) -> Error {
        let (store, shown) = (&self.store.name, &self.shown);
        let (archive, catalog) = (self.archive.key(), self.catalog.key());
        error.and_hint(format!(
            "nothing was deleted at {store}, neither {archive} nor {catalog}; `sealift list --from {store}` shows the \
             backup if it is there, otherwise `sealift adopt {shown} --from {store}` finishes it"
        ))
    }
}
