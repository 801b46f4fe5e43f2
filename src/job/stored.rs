//! An archive that was found in a store: how it is opened, and with which passphrase.

use std::sync::Arc;

use secrecy::SecretString;

use crate::archive::Id;
use crate::archive::open::{self, Archive, Contents};
use crate::archive::openpgp::{Cipher, Head};
use crate::cli::{ArchiveRef, OpenOptions, StoreAt};
use crate::error::{Error, Kind, Result};
use crate::store::Store;
use crate::store::download::Object;
use crate::store::manifest::{Manifest, catalog_suffix, parts_of_suffix};
use crate::stream::channel::{Reader, channel_from};
use crate::tar::Entry;

/// The passphrase of several archives, asked for once.
pub struct Secrets<'a> {
    options: &'a OpenOptions,
    known: Option<SecretString>,
}

impl<'a> Secrets<'a> {
    /// Nothing is asked for yet.
    pub fn new(options: &'a OpenOptions) -> Self {
        Secrets { options, known: None }
    }

    /// As [`StoredArchive::passphrase`].
    pub fn of(&mut self, found: &StoredArchive) -> Result<Option<SecretString>> {
        if found.encrypted() && !self.options.no_encrypt && self.known.is_some() {
            return Ok(self.known.clone());
        }
        let passphrase = found.passphrase(self.options)?;
        self.known = passphrase.clone().or(self.known.take());
        Ok(passphrase)
    }
}

/// No archive of a job.
pub fn no_archive(job: &str, store: &Store) -> Error {
    Error::new(Kind::NotFound, format!("there is no archive of job {job} at {}", store.name))
        .hint(format!("see `sealift list --from {}`", store.name))
}

/// Members that are handed over at once.
const LOT: usize = 1024;

/// An archive that was found in a store.
pub struct StoredArchive {
    /// Where it lies.
    pub store: Arc<Store>,
    /// Its job.
    pub job: String,
    /// Its id.
    pub id: Id,
    /// What its manifest says.
    pub manifest: Manifest,
}

impl StoredArchive {
    /// Finds an archive; the newest of its job where no id is given.
    pub async fn find(from: &StoreAt, archive: &ArchiveRef) -> Result<StoredArchive> {
        let store = Arc::new(Store::open(from, &from.options()?)?);
        let job = archive.job.clone();
        let id = match &archive.id {
            Some(id) => id.clone(),
            None => store.newest(&job).await?.ok_or_else(|| no_archive(&job, &store))?,
        };
        let manifest = store.manifest(&job, &id).await?;
        Ok(StoredArchive { store, job, id, manifest })
    }

    /// `JOB@ID`
    pub fn name(&self) -> String {
        format!("{}@{}", self.job, self.id)
    }

    /// Whether its name says that it is encrypted.
    pub fn encrypted(&self) -> bool {
        self.cipher().is_some()
    }

    /// How it is encrypted, as its name has it.
    pub fn cipher(&self) -> Option<Cipher> {
        parts_of_suffix(&self.manifest.suffix).1
    }

    /// Whether it has lost its manifest since it was found: it is no archive any more.
    pub async fn is_deleted(&self) -> bool {
        let manifest = self.store.manifest(&self.job, &self.id).await;
        manifest.is_err_and(|error| error.kind() == Kind::NotFound)
    }

    /// The object that holds its frames.
    ///
    /// # Errors
    /// The store does not answer, or has lost it.
    pub async fn archive_object(&self) -> Result<Object> {
        Object::open(&self.store, self.store.key(&self.job, &self.id, &self.manifest.suffix)).await
    }

    /// The object that holds its catalog.
    ///
    /// # Errors
    /// The store does not answer, or has lost it.
    pub async fn catalog_object(&self) -> Result<Object> {
        let suffix = catalog_suffix(&self.manifest.suffix);
        let catalog = Object::open(&self.store, self.store.key(&self.job, &self.id, suffix)).await;
        catalog.map_err(|e| {
            e.or_hint("`restore --sequential` reads an archive from its front, without the catalog")
        })
    }

    /// The passphrase. Whether there must be one is for the operator to say: the manifest is anybody's.
    pub fn passphrase(&self, options: &OpenOptions) -> Result<Option<SecretString>> {
        match (self.encrypted(), options.no_encrypt) {
            (true, false) => options.passphrase.sources().read().map(Some),
            (false, true) => Ok(None),
            (true, true) => {
                Err(Error::usage(format!("{} is encrypted", self.name())).hint("leave --no-encrypt out"))
            }
            (false, false) => Err(Error::damaged(format!("{} is not encrypted", self.name())).hint(
                "whoever can write to the store can have put it there; if it is yours, say --no-encrypt",
            )),
        }
    }

    /// Reads the sealed catalog to its proved end and opens the archive.
    pub async fn open(&self, passphrase: Option<SecretString>) -> Result<Arc<Archive>> {
        self.open_with(passphrase, |_| {}).await
    }

    /// [`StoredArchive::open`], showing every tar member to `each`.
    pub async fn open_with(
        &self,
        passphrase: Option<SecretString>,
        each: impl FnMut(&Entry),
    ) -> Result<Arc<Archive>> {
        let (archive, catalog) = (self.archive_object().await?, self.catalog_object().await?);
        let heads = match &passphrase {
            Some(passphrase) => Some(self.heads(&archive, &catalog, passphrase).await?),
            None => None,
        };
        let (of_archive, of_catalog) = heads.unzip();
        let contents = self.contents(&catalog, of_catalog, each).await?;
        Ok(Arc::new(Archive::open(Arc::new(archive), contents, of_archive)?))
    }

    /// Opens the beginning of both objects. A wrong passphrase is told from damage by what else it opens: both must open.
    async fn heads(
        &self,
        archive: &Object,
        catalog: &Object,
        passphrase: &SecretString,
    ) -> Result<(Head, Head)> {
        // Each S2K takes a while by design: both at once.
        let opened = tokio::join!(open::open_head(archive, passphrase), open::open_head(catalog, passphrase));
        let wrong = |head: &Result<Head>| matches!(head, Err(e) if e.kind() == Kind::WrongPassphrase);
        match opened {
            (Ok(first), Ok(second)) => Ok((first, second)),
            (first, second) if wrong(&first) && wrong(&second) => Err(Error::new(
                Kind::WrongPassphrase,
                format!("the passphrase does not open {}", self.name()),
            )
            .hint("was it changed since this backup? give the one of that day")),
            (first, second) => {
                let damaged = [(archive, first), (catalog, second)].into_iter().find_map(|(object, head)| {
                    let error = head.err().filter(|error| error.kind() != Kind::WrongPassphrase)?;
                    Some(error.context(format!("{} cannot be opened", object.key())))
                });
                Err(damaged.unwrap_or_else(|| {
                    let name = self.name();
                    Error::damaged(format!("the passphrase opens only one of the two objects of {name}"))
                }))
            }
        }
    }

    async fn contents(
        &self,
        catalog: &Object,
        head: Option<Head>,
        mut each: impl FnMut(&Entry),
    ) -> Result<Contents> {
        let (bytes, job, id) = (channel_from(catalog.stream(), 2), self.job.clone(), self.id.clone());
        // Sequoia reads from blocking readers. Members come back in lots, so that `each` may borrow what it likes.
        let (lots, mut members) = tokio::sync::mpsc::channel::<Vec<Entry>>(4);
        let read = tokio::task::spawn_blocking(move || {
            let mut lot = Vec::new();
            let contents = open::read_catalog(Reader::new(bytes), head.as_ref(), &job, &id, |entry| {
                lot.push(entry.clone());
                if lot.len() == LOT {
                    // Who no longer listens has failed already.
                    let _ = lots.blocking_send(std::mem::take(&mut lot));
                }
            });
            let _ = lots.blocking_send(lot);
            contents
        });
        while let Some(lot) = members.recv().await {
            lot.iter().for_each(&mut each);
        }
        read.await.map_err(|e| Error::failed("a worker died").because(e))?
    }
}
