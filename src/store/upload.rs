//! One object under way: a multipart upload that ends in a complete object or in none.

use std::sync::Arc;
use std::time::Duration;

use object_store::path::Path;
use object_store::{Attributes, ObjectStoreExt, PutPayload};
use tokio::task::JoinSet;

use super::multipart::Multipart;
use super::{Kind, Store};
use crate::error::{Error, Result};
use crate::stream::counters::Counter;

/// How long a store may take to abort an upload: the operator waits for it.
const ABORT: Duration = Duration::from_secs(5);

/// How long parts in flight may take to end by themselves before an abort.
const SETTLE: Duration = Duration::from_secs(1);

/// How long an object may take to be seen once the store has said that it is there.
const SEEN: Duration = Duration::from_secs(30);

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
    inner: Multipart,
    parts: JoinSet<Result<(), object_store::Error>>,
    /// Parts in flight at most.
    parallel: usize,
    sent: u64,
    taken: Arc<Counter>,
    state: State,
}

/// How far an upload has come.
enum State {
    /// Parts are sent.
    Open,
    /// It was asked to be completed; nobody knows whether it is.
    Completing,
    /// It is an object.
    Complete(Completed),
    /// Nothing of it is there.
    Gone,
}

/// Why an upload is no object.
#[derive(Debug)]
pub enum Incomplete {
    /// It never will be, and may be cleared away.
    Refused(Error),
    /// It may be one already, or become one: nothing may be deleted.
    Unknown(Error),
}

impl Incomplete {
    /// Why.
    pub fn into_error(self) -> Error {
        match self {
            Incomplete::Refused(error) | Incomplete::Unknown(error) => error,
        }
    }
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
    /// upload.complete().await.map_err(|incomplete| incomplete.into_error())?;
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
        let attributes = match class {
            Class::Archive => store.attributes.clone(),
            Class::Catalog => Attributes::new(),
        };
        let begun = Multipart::begin(&store.uploads, &key, &attributes, &store.patience).await;
        let inner = begun.map_err(|e| {
            let refused = store.is_refusal(&e);
            let error = store.explain("beginning the upload", e);
            if refused { error } else { error.leaving(&store.name, begun_unseen(&key, store)) }
        })?;
        let (store, taken, parts) = (Arc::clone(store), Arc::clone(taken), JoinSet::new());
        Ok(Upload { store, key, inner, parts, parallel, sent: 0, taken, state: State::Open })
    }

    /// Where the object will lie.
    pub fn key(&self) -> &Path {
        &self.key
    }

    /// What beginning it may have left behind, though it succeeded.
    pub fn left_by_beginning(&self) -> Option<String> {
        self.inner.begun_twice.then(|| begun_unseen(&self.key, &self.store))
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
    /// A request whose answer was lost is made again: what the store has decides. It can be left at any point, to be
    /// followed by [`Upload::abort_because`].
    ///
    /// # Errors
    /// [`Incomplete`] says whether the upload may be cleared away.
    pub async fn complete(&mut self) -> Result<Completed, Incomplete> {
        self.drain().await.map_err(Incomplete::Refused)?;
        self.state = State::Completing;
        let (store, key) = (Arc::clone(&self.store), self.key.clone());
        let mut effort = store.patience.effort();
        loop {
            let Err(error) = self.inner.complete().await else { return self.seen().await };
            if effort.unclear || !effort.refused(&error) {
                // The answer may have been lost: what is there is the answer.
                match store.look(&key).await {
                    Ok(Some(size)) => return self.of_size(size),
                    Ok(None) => {}
                    Err(unseen) => {
                        let error = store.explain("completing the upload", error).because(unseen);
                        return Err(Incomplete::Unknown(error.hint(self.may_be_there())));
                    }
                }
            }
            let once_only = !self.inner.can_complete_again();
            if effort.failed(&error) && !once_only && effort.pause(&error).await {
                continue;
            }
            if effort.unclear && (once_only || effort.refused(&error)) {
                // It is unknown to the store, or not allowed any more: an earlier attempt may have done it.
                if let Ok(Some(size)) = store.look_for(&key, SEEN.min(store.patience.limit)).await {
                    return self.of_size(size);
                }
            }
            let refused = !effort.unclear && effort.refused(&error);
            if refused {
                self.state = State::Open;
            }
            let error = store.explain("completing the upload", effort.tried(error));
            return Err(match refused {
                true => Incomplete::Refused(error),
                false => Incomplete::Unknown(error.and_hint(self.may_be_there())),
            });
        }
    }

    /// The store says that the object is there; a list or a HEAD may be behind.
    async fn seen(&mut self) -> Result<Completed, Incomplete> {
        let store = Arc::clone(&self.store);
        match store.look_for(&self.key, SEEN).await {
            Ok(Some(size)) => self.of_size(size),
            Ok(None) => {
                let error = Error::failed(format!("{} lost {} after taking it", store.name, self.key));
                Err(Incomplete::Unknown(error.and_hint(self.may_be_there())))
            }
            Err(error) => {
                let error = store.explain("asking for the object's size", error);
                Err(Incomplete::Unknown(error.and_hint(self.may_be_there())))
            }
        }
    }

    fn of_size(&mut self, size: u64) -> Result<Completed, Incomplete> {
        let object = Completed { store: Arc::clone(&self.store), key: self.key.clone() };
        self.state = State::Complete(object.clone());
        match size == self.sent {
            true => Ok(object),
            false => {
                let (name, sent) = (&self.store.name, self.sent);
                let text = format!("{name} has {size} bytes of {} where {sent} were sent", self.key);
                Err(Incomplete::Refused(Error::failed(text)))
            }
        }
    }

    fn may_be_there(&self) -> String {
        format!("{} may be there without a manifest", self.key)
    }

    /// Ends the upload without an object, and says so where that fails. `cause` stays the cause.
    pub async fn abort_because(mut self, cause: Error) -> Error {
        let (store, key, kind) = (self.store.name.clone(), self.key.clone(), self.store.kind);
        match std::mem::replace(&mut self.state, State::Gone) {
            State::Gone => cause,
            State::Complete(object) => object.delete_because(cause).await,
            state => {
                let hint = matches!(state, State::Completing).then(|| self.may_be_there());
                let cause = hint.into_iter().fold(cause, Error::and_hint);
                match self.abort().await {
                    Ok(()) => cause,
                    Err(_) => {
                        let left = match kind {
                            Kind::Azure => format!(
                                "uncommitted blocks of {key} may be left at {store}; Azure collects them after 7 days"
                            ),
                            Kind::File => format!("{key}#… may be left at {store}: delete it"),
                            _ => format!(
                                "parts of {key} may be left at {store}: a lifecycle rule for incomplete uploads \
                                 collects them"
                            ),
                        };
                        cause.leaving(&store, left)
                    }
                }
            }
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

fn begun_unseen(key: &Path, store: &Store) -> String {
    format!(
        "an upload of {key} may have been begun at {} without an answer: a lifecycle rule for incomplete uploads \
         collects it",
        store.name
    )
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
    /// Takes the object back because the backup cannot be committed. `cause` stays the cause.
    pub async fn delete_because(self, cause: Error) -> Error {
        let deleting = async {
            if self.store.is_committed(&self.key).await {
                return true;
            }
            let deleted = self.store.down.delete(&self.key).await;
            matches!(deleted, Ok(()) | Err(object_store::Error::NotFound { .. }))
        };
        match tokio::time::timeout(ABORT, deleting).await {
            Ok(true) => cause,
            _ => {
                let left = format!("{} is left at {} without a manifest", self.key, self.store.name);
                cause.leaving(&self.store.name, left)
            }
        }
    }
}
