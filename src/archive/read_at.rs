//! What an archive is read from. The store implements it for its objects; the format knows no store.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::{Error, Kind, Result};

/// Stored bytes that any range can be read of.
///
/// What is behind it does not change: two reads of a range give the same bytes, or the second one fails.
#[async_trait]
pub trait ReadAt: Send + Sync {
    /// What it is called in messages: an object's key.
    fn name(&self) -> &str;

    /// Bytes in all.
    fn size(&self) -> u64;

    /// Reads a range: all of it, or it is an error. An empty range is no request and gives no bytes.
    ///
    /// # Errors
    /// The range does not lie within [`ReadAt::size`]; the bytes cannot be read, are gone or are others by now.
    async fn read_at(&self, range: Range<u64>) -> Result<Bytes>;
}

/// Reads, and where what came is damaged, reads once more: what was damaged on its way is whole the next time.
///
/// # Errors
/// Those of `read`.
pub async fn once_more_if_damaged<T, F>(mut read: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    match read().await {
        Err(error) if error.kind() == Kind::Damaged => read().await,
        done => done,
    }
}

/// Bytes in memory.
#[derive(Debug, Clone)]
pub struct InMemory {
    name: String,
    bytes: Bytes,
}

impl InMemory {
    /// `bytes`, called `name` in messages.
    pub fn new(name: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        InMemory { name: name.into(), bytes: bytes.into() }
    }

    /// All of them.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[async_trait]
impl ReadAt for InMemory {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    async fn read_at(&self, range: Range<u64>) -> Result<Bytes> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        match range.end <= self.size() {
            true => Ok(self.bytes.slice(range.start as usize..range.end as usize)),
            false => Err(Error::damaged(format!("{} ends early", self.name))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_range_in_memory_is_whole_or_an_error() {
        let object: std::sync::Arc<dyn ReadAt> = std::sync::Arc::new(InMemory::new("x", &b"0123456789"[..]));
        assert_eq!((object.name(), object.size()), ("x", 10));
        assert_eq!(object.read_at(2..5).await.unwrap(), &b"234"[..]);
        assert_eq!(object.read_at(0..10).await.unwrap(), &b"0123456789"[..]);
        assert_eq!(object.read_at(7..7).await.unwrap(), &b""[..]);
        for beyond in [0..11, 9..11, 10..11, 20..30] {
            let error = object.read_at(beyond.clone()).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Damaged, "{beyond:?}");
        }
    }
}
