//! Reading objects: ranges, several in flight, in order, all of one version.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStoreExt};

use super::Store;
use super::manifest;
use crate::archive::digest::Digest;
use crate::archive::read_at::ReadAt;
use crate::error::{Error, Kind, Result};

/// Bytes in one request of a whole object.
const RANGE_LEN: u64 = 8 << 20;
/// Requests of a whole object in flight.
const PARALLEL: usize = 4;

/// An object as it was when it was first looked at; one that changes since is an error.
#[derive(Debug, Clone)]
pub struct Object {
    store: Arc<Store>,
    key: Path,
    e_tag: Option<String>,
    /// Bytes.
    pub size: u64,
}

impl Object {
    /// Looks at an object.
    ///
    /// # Errors
    /// [`Kind::Damaged`] where there is none: its manifest said that there is.
    pub async fn open(store: &Arc<Store>, key: Path) -> Result<Self> {
        let meta = store.down.head(&key).await.map_err(|e| match e {
            object_store::Error::NotFound { .. } => Error::damaged(format!("{} has lost {key}", store.name)),
            e => store.explain(&format!("looking at {key}"), e),
        })?;
        Ok(Object { store: Arc::clone(store), key, e_tag: meta.e_tag, size: meta.size })
    }

    /// Looks at an object that somebody else may have put there, by its key below the store's prefix.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; a key that is none.
    pub async fn open_foreign(store: &Arc<Store>, key: &str) -> Result<Self> {
        let path = store.at(key).map_err(|e| {
            Error::usage(format!("{key:?} is no key")).because(e).hint("name an object below the store's URL")
        })?;
        let meta = store.down.head(&path).await.map_err(|e| match e {
            object_store::Error::NotFound { .. } => {
                Error::new(Kind::NotFound, format!("there is no object {key} at {}", store.name))
                    .hint("keys are counted from the store's URL, as in team/dump.tar.gz")
            }
            e => store.explain(&format!("looking at {key}"), e),
        })?;
        Ok(Object { store: Arc::clone(store), key: path, e_tag: meta.e_tag, size: meta.size })
    }

    /// [`Object::stream`], which ends without a failure only where what came is what is expected of it.
    ///
    /// # Errors
    /// Each item: as those of [`ReadAt::read_at`]; the last: [`Kind::Damaged`] where size or BLAKE3 is another.
    pub fn verified_stream(
        &self,
        expected: &manifest::Object,
    ) -> impl Stream<Item = Result<Bytes>> + Send + use<> {
        let (object, expected, mut digest) = (self.clone(), expected.clone(), Digest::new());
        let with_end = self.stream().map(Some).chain(futures_util::stream::iter([None]));
        with_end.filter_map(move |next| {
            let next = match next {
                Some(piece) => Some(piece.inspect(|bytes| digest.update(bytes))),
                None => digest.finish().verify(object.name(), &expected.blake3, expected.size).err().map(Err),
            };
            std::future::ready(next)
        })
    }

    /// Its key, counted from the store's URL.
    pub fn shown(&self) -> &str {
        self.store.shown(&self.key)
    }

    /// Its key, for messages.
    pub fn key(&self) -> &Path {
        &self.key
    }

    /// The client asks again what gets no answer; an answer that is too short is asked for once more.
    async fn range(&self, range: Range<u64>) -> Result<Bytes> {
        for _ in 0..2 {
            match self.try_range(&range).await {
                Ok(bytes) if bytes.len() as u64 == range.end - range.start => return Ok(bytes),
                Ok(_) => {}
                Err(object_store::Error::Precondition { .. }) => {
                    return Err(Error::damaged(format!("{} changed while it was read", self.key)));
                }
                Err(object_store::Error::NotFound { .. }) => {
                    return Err(Error::damaged(format!("{} vanished while it was read", self.key)));
                }
                Err(e) => return Err(self.store.explain(&format!("reading {}", self.key), e)),
            }
        }
        Err(Error::damaged(format!("{} ends early", self.key)))
    }

    async fn try_range(&self, range: &Range<u64>) -> Result<Bytes, object_store::Error> {
        let range = Some(GetRange::Bounded(range.clone()));
        let options = GetOptions { range, if_match: self.e_tag.clone(), ..GetOptions::default() };
        self.store.down.get_opts(&self.key, options).await?.bytes().await
    }

    /// The whole object, in order.
    ///
    /// # Errors
    /// Each item: as those of [`ReadAt::read_at`].
    pub fn stream(&self) -> impl Stream<Item = Result<Bytes>> + use<> {
        let object = self.clone();
        let starts = (0..self.size).step_by(RANGE_LEN as usize);
        let ranges = starts.map(move |start| start..(start + RANGE_LEN).min(object.size));
        let object = self.clone();
        futures_util::stream::iter(ranges)
            .map(move |range| {
                let object = object.clone();
                async move { object.range(range).await }
            })
            .buffered(PARALLEL)
    }
}

#[async_trait]
impl ReadAt for Object {
    fn name(&self) -> &str {
        self.key.as_ref()
    }

    fn size(&self) -> u64 {
        self.size
    }

    async fn read_at(&self, range: Range<u64>) -> Result<Bytes> {
        if range.is_empty() { Ok(Bytes::new()) } else { self.range(range).await }
    }
}
