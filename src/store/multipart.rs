//! Multipart uploads of which every request can be made again: parts by their number, completing with the same list.
//!
//! The library's own upload object forgets its parts and its attributes when completing fails: it is asked once.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    Attributes, Error, MultipartId, MultipartUpload, ObjectStore, PutMultipartOptions, PutPayload, Result,
    UploadPart,
};
use tokio::time::Instant;

use super::retry::{Patience, Tried};

/// How a store takes large objects.
#[derive(Clone)]
pub(super) enum Uploads {
    /// In parts with numbers.
    Numbered(Arc<dyn MultipartStore>),
    /// As the library's own upload object does it: a folder, and Azure where an access tier is asked for, which only
    /// that sends along.
    Whole {
        store: Arc<dyn ObjectStore>,
        /// Whether the client makes requests again by itself, so that nobody knows how often one was made.
        repeats: bool,
    },
}

impl fmt::Debug for Uploads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Uploads::Numbered(_) => "Numbered",
            Uploads::Whole { .. } => "Whole",
        })
    }
}

/// A multipart upload.
pub(super) struct Multipart {
    inner: Inner,
    key: Path,
    patience: Arc<Patience>,
    /// Whether another one may have been begun, by a request whose answer was lost.
    pub(super) begun_twice: bool,
}

enum Inner {
    Numbered { store: Arc<dyn MultipartStore>, id: MultipartId, next: usize, parts: Parts },
    Whole { upload: Box<dyn MultipartUpload>, repeats: bool },
}

type Parts = Arc<Mutex<BTreeMap<usize, PartId>>>;

impl Multipart {
    /// Begins an upload.
    ///
    /// # Errors
    /// The store does not take it; where the error is no refusal, one may have been begun.
    pub(super) async fn begin(
        uploads: &Uploads,
        key: &Path,
        attributes: &Attributes,
        patience: &Arc<Patience>,
    ) -> Result<Self> {
        let mut effort = patience.effort();
        let inner = loop {
            match Inner::begin(uploads, key, attributes).await {
                Ok(inner) => break inner,
                Err(error) if effort.again(&error).await => {}
                Err(error) => return Err(effort.tried(error)),
            }
        };
        let begun_twice = effort.unclear;
        Ok(Multipart { inner, key: key.clone(), patience: Arc::clone(patience), begun_twice })
    }

    /// Sends the next part; each is tried for as long as the store's patience lasts.
    pub(super) fn put_part(&mut self, part: PutPayload) -> UploadPart {
        match &mut self.inner {
            Inner::Whole { upload, .. } => upload.put_part(part),
            Inner::Numbered { store, id, next, parts } => {
                let number = *next;
                *next += 1;
                let (store, id, parts) = (Arc::clone(store), id.clone(), Arc::clone(parts));
                let (key, patience) = (self.key.clone(), Arc::clone(&self.patience));
                Box::pin(async move {
                    let sent = patience.write(|| store.put_part(&key, &id, number, part.clone())).await?;
                    parts.lock().unwrap_or_else(PoisonError::into_inner).insert(number, sent);
                    Ok(())
                })
            }
        }
    }

    /// Makes the object of the parts, in one attempt where [`Multipart::can_complete_again`].
    pub(super) async fn complete(&mut self) -> Result<()> {
        match &mut self.inner {
            Inner::Whole { upload, repeats } => {
                let started = Instant::now();
                let completed = upload.complete().await.map(drop);
                match repeats {
                    // The last answer may be "there are no such parts", because an attempt before it was done.
                    true => completed.map_err(|error| Tried::error(started.elapsed(), error)),
                    false => completed,
                }
            }
            Inner::Numbered { store, id, next, parts } => {
                let parts: Vec<_> =
                    parts.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
                if parts.len() != *next {
                    return Err(Error::Generic { store: "upload", source: "a part is missing".into() });
                }
                store.complete_multipart(&self.key, id, parts).await.map(drop)
            }
        }
    }

    /// Whether [`Multipart::complete`] may be called once more after a failure.
    pub(super) fn can_complete_again(&self) -> bool {
        matches!(self.inner, Inner::Numbered { .. })
    }

    /// Ends it without an object.
    pub(super) async fn abort(&mut self) -> Result<()> {
        match &mut self.inner {
            Inner::Whole { upload, .. } => upload.abort().await,
            Inner::Numbered { store, id, .. } => {
                self.patience.read(|| store.abort_multipart(&self.key, id)).await
            }
        }
    }
}

impl Inner {
    async fn begin(uploads: &Uploads, key: &Path, attributes: &Attributes) -> Result<Self> {
        let options =
            PutMultipartOptions { attributes: attributes.clone(), ..PutMultipartOptions::default() };
        Ok(match uploads {
            Uploads::Whole { store, repeats } => {
                Inner::Whole { upload: store.put_multipart_opts(key, options).await?, repeats: *repeats }
            }
            Uploads::Numbered(store) => {
                let (store, parts) = (Arc::clone(store), Parts::default());
                let id = store.create_multipart_opts(key, options).await?;
                Inner::Numbered { store, id, next: 0, parts }
            }
        })
    }
}
