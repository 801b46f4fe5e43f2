//! Small objects that are written once: manifests and records. What is there already is never replaced.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use super::failure::{is_unknown_to_store, status_of};
use super::{Kind, Store};
use crate::report::Reporter;

/// How often a small object is written again that was taken and is not there.
const LOST: u32 = 5;
/// How long one may take to be seen, each time.
pub(super) const SEEN: Duration = Duration::from_secs(5);
/// How often a store that does not know of something is asked whether it has it by now.
const AGAIN: Duration = Duration::from_secs(1);
/// What is written into a job's folder to find out whether the store can create without replacing; then deleted.
const PROBE: &str = ".sealift-probe";

/// Why a small object was not written.
#[derive(Debug)]
pub(super) enum CreateError {
    /// Another one has its key.
    Another,
    /// The store does not take it.
    Refused(Error),
    /// It was taken, more than once, and is not there.
    Lost,
    /// Nobody knows whether it is there.
    Unknown(Error),
}

impl Store {
    /// Whether an error is a definite no, and nothing was done.
    pub(super) fn is_refusal(&self, error: &Error) -> bool {
        self.patience.effort().refused(error)
    }

    /// Writes a small object that must not be there yet, and reads it back.
    pub(super) async fn put_once(&self, key: &Path, object: impl Into<Bytes>) -> Result<(), CreateError> {
        let object = object.into();
        for _ in 0..LOST {
            let put = self.put_absent(key, &object).await;
            let refused = put.as_ref().err().is_some_and(|e| self.is_refusal(e));
            match (self.holds(key, &object, put.is_ok()).await, put) {
                (Ok(Some(true)), _) => return Ok(()),
                (Ok(Some(false)), _) => return Err(CreateError::Another),
                (Ok(None), Ok(())) => {}
                (Ok(None), Err(error)) if refused => {
                    match self.put_where_links_are_missing(key, &object).await {
                        true => return Ok(()),
                        false => return Err(CreateError::Refused(error)),
                    }
                }
                (_, Err(error)) | (Err(error), Ok(())) => return Err(CreateError::Unknown(error)),
            }
        }
        Err(CreateError::Lost)
    }

    /// One create-only write; where the store has none, it is looked whether there is something first.
    pub(super) async fn put_absent(&self, key: &Path, object: &Bytes) -> Result<(), Error> {
        let payload = PutPayload::from(object.clone());
        if !self.known.lacks_create_only.load(Ordering::Relaxed) {
            let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            match self.up.put_opts(key, payload.clone(), create).await {
                Err(error) if self.kind != Kind::File && is_unknown_to_store(&error) => {
                    self.known.lacks_create_only.store(true, Ordering::Relaxed);
                }
                put => return put.map(drop),
            }
        }
        if self.look(key).await?.is_some() {
            return Err(Error::AlreadyExists { path: key.to_string(), source: "it was there before".into() });
        }
        self.up.put(key, payload).await.map(drop)
    }

    /// Whether the store has exactly these bytes under a key; none where it has nothing there, even after a while where it
    /// was `taken`.
    async fn holds(&self, key: &Path, object: &Bytes, taken: bool) -> Result<Option<bool>, Error> {
        let patience = if taken { SEEN } else { Duration::ZERO };
        let (started, mut doubted) = (tokio::time::Instant::now(), false);
        loop {
            let found = match self.may_read() {
                true => match self.read(key).await {
                    Err(error) if self.is_unreadable(&error) => continue,
                    read => read?.map(|there| there == object),
                },
                false => self.look(key).await?.map(|size| size == object.len() as u64),
            };
            // What was damaged on its way is whole the next time.
            if found == Some(false) && !std::mem::replace(&mut doubted, true) {
                continue;
            }
            if found.is_some() || started.elapsed() >= patience {
                return Ok(found);
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Some file systems have no hard links, by which a folder's create-only works: there the id alone keeps keys apart.
    async fn put_where_links_are_missing(&self, key: &Path, object: &Bytes) -> bool {
        self.kind == Kind::File && self.up.put(key, object.clone().into()).await.is_ok()
    }

    async fn read(&self, key: &Path) -> Result<Option<Bytes>, Error> {
        match self.down.get(key).await {
            Err(Error::NotFound { .. }) => Ok(None),
            got => got?.bytes().await.map(Some),
        }
    }

    /// Whether objects can be asked for, as far as is known.
    pub(super) fn may_read(&self) -> bool {
        !self.known.may_not_read.load(Ordering::Relaxed)
    }

    /// Whether an answer says that this key may not read; that is remembered.
    fn is_unreadable(&self, error: &Error) -> bool {
        let refused = matches!(status_of(error), Some(401 | 403)) && self.is_refusal(error);
        if refused && !self.known.may_not_read.swap(true, Ordering::Relaxed) {
            self.patience.detail("this key may not read: sizes are taken from lists");
        }
        refused
    }

    /// The size of an object; none where there is none. A key that may not read sees it in a list.
    pub(super) async fn look(&self, key: &Path) -> Result<Option<u64>, Error> {
        if self.may_read() {
            match self.down.head(key).await {
                Ok(meta) => return Ok(Some(meta.size)),
                Err(Error::NotFound { .. }) => return Ok(None),
                Err(error) if self.is_unreadable(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let folder = key.as_ref().rsplit_once('/').map(|(folder, _)| Path::parse(folder)).transpose()?;
        let listed = self.down.list_with_delimiter(folder.as_ref()).await?;
        Ok(listed.objects.into_iter().find(|meta| meta.location == *key).map(|meta| meta.size))
    }

    /// [`Store::look`], again for a while where there is nothing.
    pub(super) async fn look_for(&self, key: &Path, patience: Duration) -> Result<Option<u64>, Error> {
        let started = tokio::time::Instant::now();
        loop {
            let found = self.look(key).await?;
            if found.is_some() || started.elapsed() >= patience {
                return Ok(found);
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Finds out, before a byte of data is sent, whether the store can create an object without replacing one.
    ///
    /// Where it cannot, that is told, and a manifest is looked for first.
    pub async fn probe_create_only(&self, job: &str, ui: &Reporter) {
        if !self.probes {
            return;
        }
        let key = self.below(&format!("{job}/{PROBE}"));
        let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.up.put_opts(&key, PutPayload::from_static(b"sealift\n"), create).await {
            // A key that may not delete leaves it there; the next run finds it and writes nothing.
            Ok(_) => drop(self.down.delete(&key).await),
            Err(error) if is_unknown_to_store(&error) => {
                self.known.lacks_create_only.store(true, Ordering::Relaxed);
                ui.note(&format!(
                    "{} cannot create an object without replacing one: it is looked whether one is there first",
                    self.name
                ));
            }
            // Whatever it is, the upload will say it.
            Err(_) => {}
        }
    }
}
