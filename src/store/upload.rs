//! One object under way: a multipart upload that ends in a complete object or in none.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use object_store::path::Path;
use object_store::retry::{RetryContext, RetryFailure, RetryPolicy};
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutPayload};
use tokio::task::JoinSet;

use super::{Kind, Store};
use crate::error::{Error, Result};
use crate::stream::counters::Counter;

/// Tries whole parts again, with fresh credentials and a fresh signature, for as long as the operator allows.
#[derive(Debug)]
struct RetryFor {
    limit: Duration,
}

#[async_trait]
impl RetryPolicy for RetryFor {
    async fn retry(&self, context: RetryContext) -> bool {
        // A refusal does not change, but for a signature or a token that ran out meanwhile.
        let refused = matches!(context.failure, RetryFailure::Status(status)
            if status.is_client_error() && status.as_u16() != 408 && status.as_u16() != 429);
        if context.elapsed >= self.limit || (refused && context.attempt > 1) {
            return false;
        }
        let wait = Duration::from_millis(500 << context.attempt.min(6));
        tokio::time::sleep(wait.min(self.limit - context.elapsed)).await;
        true
    }
}

/// How long a store may take to abort an upload.
const ABORT: Duration = Duration::from_secs(30);

/// How long parts in flight may take to end by themselves before an abort.
const SETTLE: Duration = Duration::from_secs(5);

/// How an upload is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Bulk data: in the storage class asked for.
    Archive,
    /// What lists and restores read first: in the store's usual class.
    Catalog,
}

/// A multipart upload. It MUST be ended by [`Upload::complete`] or [`Upload::abort`].
pub struct Upload {
    store: Arc<Store>,
    key: Path,
    inner: Box<dyn MultipartUpload>,
    parts: JoinSet<Result<(), object_store::Error>>,
    /// Parts in flight at most.
    parallel: usize,
    sent: u64,
    taken: Arc<Counter>,
}

impl Upload {
    /// Begins an upload; nothing is visible until it is completed.
    ///
    /// Parts come in order, up to `parallel` of them are in flight, and each is tried again for as long as the store's
    /// options allow. Whatever happens to a part, the upload is still to be ended: by [`Upload::complete`], which asks the
    /// store whether the object has all that was sent, or by [`Upload::abort_because`], which leaves nothing behind, or
    /// says what is left.
    ///
    /// # Errors
    /// The store does not take it; nothing was begun that could be ended.
    ///
    /// # Examples
    /// ```
    /// use std::sync::Arc;
    ///
    /// use sealift::store::download::Object;
    /// use sealift::store::upload::{Class, Upload};
    /// use sealift::store::{Store, StoreOptions};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> sealift::error::Result<()> {
    /// let store = Arc::new(Store::open("memory://upload", &StoreOptions::default())?);
    /// let key = store.key("db", &"20261122T020000Z-1f2e3d4c".parse()?, ".raw");
    /// let mut upload = Upload::begin(&store, key.clone(), Class::Archive, 2, &Default::default()).await?;
    /// upload.part("one ".into()).await?;
    /// assert!(Object::open(&store, key.clone()).await.is_err(), "nothing is visible yet");
    /// upload.part("two".into()).await?;
    /// upload.complete().await?;
    /// assert_eq!(Object::open(&store, key).await?.size, 7);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn begin(
        store: &Arc<Store>,
        key: Path,
        class: Class,
        parallel: usize,
        taken: &Arc<Counter>,
    ) -> Result<Self> {
        let mut options =
            PutMultipartOptions::default().with_retry_policy(Arc::new(RetryFor { limit: store.retry_for }));
        if class == Class::Archive {
            options.attributes = store.attributes.clone();
        }
        let inner = store.up.put_multipart_opts(&key, options).await;
        let inner = inner.map_err(|e| store.explain("beginning the upload", e))?;
        let (store, taken) = (Arc::clone(store), Arc::clone(taken));
        Ok(Upload { store, key, inner, parts: JoinSet::new(), parallel, sent: 0, taken })
    }

    /// Sends a part; waits while as many as allowed are in flight.
    ///
    /// # Errors
    /// The first failure of any part, not only of this one; the upload is to be aborted then.
    pub async fn part(&mut self, part: PutPayload) -> Result<()> {
        while self.parts.len() >= self.parallel {
            self.join_part().await?;
        }
        let len = part.content_length() as u64;
        self.sent += len;
        let (sending, taken) = (self.inner.put_part(part), Arc::clone(&self.taken));
        self.parts.spawn(async move {
            sending.await?;
            taken.add(len);
            Ok(())
        });
        Ok(())
    }

    /// Waits for every part in flight.
    ///
    /// # Errors
    /// As [`Upload::part`].
    pub async fn drain(&mut self) -> Result<()> {
        while !self.parts.is_empty() {
            self.join_part().await?;
        }
        Ok(())
    }

    async fn join_part(&mut self) -> Result<()> {
        match self.parts.join_next().await {
            Some(Ok(Err(error))) => Err(self.store.explain("uploading a part", error)),
            Some(Err(panicked)) => Err(Error::failed("uploading a part failed").because(panicked)),
            Some(Ok(Ok(()))) | None => Ok(()),
        }
    }

    /// Makes the object visible, and asks the store whether it has all that was sent.
    ///
    /// # Errors
    /// The object is not there as it was sent; nothing of it is left unless the error says so.
    pub async fn complete(mut self) -> Result<Completed> {
        if let Err(error) = self.drain().await {
            return Err(self.abort_because(error).await);
        }
        let completed = self.inner.complete().await;
        let object = Completed { store: Arc::clone(&self.store), key: self.key.clone() };
        match (object.size().await, completed) {
            (Ok(Some(size)), _) if size == self.sent => Ok(object),
            (Ok(Some(size)), _) => {
                let (name, sent) = (&self.store.name, self.sent);
                let error =
                    Error::failed(format!("{name} has {size} bytes of {} where {sent} were sent", self.key));
                Err(object.delete_because(error).await)
            }
            (Ok(None), Err(error)) => {
                let error = self.store.explain("completing the upload", error);
                Err(self.abort_because(error).await)
            }
            (Ok(None), Ok(_)) => {
                Err(Error::failed(format!("{} lost {} after taking it", self.store.name, self.key)))
            }
            // Whether it is there cannot be known: nothing is deleted.
            (Err(unread), Err(error)) => Err(self
                .store
                .explain("completing the upload", error)
                .hint(format!("{unread}; {} may be there without a manifest", self.key))),
            (Err(unread), Ok(_)) => Err(unread.hint(format!("{} may be there without a manifest", self.key))),
        }
    }

    /// Ends the upload without an object, and says so where that fails. `cause` stays the cause.
    pub async fn abort_because(self, cause: Error) -> Error {
        let (store, key) = (self.store.name.clone(), self.key.clone());
        let kind = self.store.kind;
        match self.abort().await {
            Ok(()) => cause,
            Err(_) if kind == Kind::Azure => cause.or_hint(format!(
                "uncommitted blocks of {key} may be left at {store}; Azure collects them after 7 days"
            )),
            Err(_) if kind == Kind::File => {
                cause.or_hint(format!("{key}#… may be left at {store}: delete it"))
            }
            Err(_) => cause.or_hint(format!(
                "parts of {key} may be left at {store}: a lifecycle rule for incomplete uploads collects them"
            )),
        }
    }

    /// Ends the upload without an object. One that another run has committed under this key stays.
    ///
    /// # Errors
    /// The store did not confirm it in time: parts may be left, which no list shows.
    pub async fn abort(mut self) -> Result<()> {
        // First the parts: one that the store takes in after the abort would be left for good, and a request that is
        // cancelled here may still be on its way there. So they may end, if they end soon.
        let settling = async { while self.parts.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(SETTLE, settling).await;
        self.parts.shutdown().await;
        let ending = async {
            let aborted = self.inner.abort().await;
            // A copy has its original's key: what another run has committed meanwhile is not ours to touch.
            if self.store.is_committed(&self.key).await {
                return aborted.map_err(|e| self.store.explain("aborting the upload", e));
            }
            match self.store.kind {
                Kind::Azure => drop_blocks(&self.store, &self.key).await,
                Kind::File => self.store.drop_staged(&self.key),
                _ => aborted.map_err(|e| self.store.explain("aborting the upload", e)),
            }
        };
        // A store that does not answer must not keep the operator from the prompt.
        let late = || Error::failed("the store does not answer");
        tokio::time::timeout(ABORT, ending).await.unwrap_or_else(|_| Err(late()))
    }
}

// Azure has no abort; uncommitted blocks go when a blob of that name is put. Not create-only: a blob of which only
// blocks are there counts as there for some servers.
async fn drop_blocks(store: &Store, key: &Path) -> Result<()> {
    let explain = |e| store.explain("dropping uncommitted blocks", e);
    store.down.put(key, PutPayload::new()).await.map_err(explain)?;
    store.down.delete(key).await.map_err(explain)
}

/// An object that is whole and in the store.
#[derive(Debug, Clone)]
pub struct Completed {
    store: Arc<Store>,
    key: Path,
}

impl Completed {
    /// The size that the store reports; none where it has no such object.
    async fn size(&self) -> Result<Option<u64>> {
        match self.store.down.head(&self.key).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.store.explain("asking for the object's size", error)),
        }
    }

    /// Takes the object back because the backup cannot be committed. `cause` stays the cause.
    pub async fn delete_because(self, cause: Error) -> Error {
        if self.store.is_committed(&self.key).await {
            return cause;
        }
        match self.store.down.delete(&self.key).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => cause,
            Err(_) => {
                cause.or_hint(format!("{} is left at {} without a manifest", self.key, self.store.name))
            }
        }
    }
}
