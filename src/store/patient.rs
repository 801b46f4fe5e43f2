//! A store that is asked again: every request but those of an upload under way, which `multipart` and `upload` repeat.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::rate::RateLimiter;
use super::retry::Patience;

/// Bytes of an answer that are read within the attempt; a longer one is handed on as it comes.
const READ_WHOLE: u64 = 64 << 20;

/// A decorator that asks again what was not definitely refused.
#[derive(Debug)]
pub(super) struct Patient {
    pub(super) inner: Arc<dyn ObjectStore>,
    pub(super) patience: Arc<Patience>,
    /// The rate at which is read.
    pub(super) read_limit: Option<Arc<RateLimiter>>,
}

impl fmt::Display for Patient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Patient {
    async fn put_opts(&self, key: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.patience.write(|| self.inner.put_opts(key, payload.clone(), options.clone())).await
    }

    async fn put_multipart_opts(
        &self,
        key: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(key, options).await
    }

    /// Reads the bytes too, as far as they are no more than anybody here asks for at once: a connection may break there.
    async fn get_opts(&self, key: &Path, options: GetOptions) -> Result<GetResult> {
        // Before the request: a server closes a connection that waits, and waiting is no part of `--retry-for`.
        let reading = Reading::begin(self.read_limit.as_deref(), &options).await;
        self.patience.read(|| get(self.inner.as_ref(), key, options.clone(), &reading)).await
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (inner, patience) = (Arc::clone(&self.inner), Arc::clone(&self.patience));
        keys.and_then(move |key| {
            let (inner, patience) = (Arc::clone(&inner), Arc::clone(&patience));
            async move {
                patience.read(|| inner.delete(&key)).await?;
                Ok(key)
            }
        })
        .boxed()
    }

    /// A list that breaks off is read again from its beginning: nobody is shown a part of it.
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (inner, patience) = (Arc::clone(&self.inner), Arc::clone(&self.patience));
        let prefix = prefix.cloned();
        let listed = async move {
            let metas = patience.read(|| inner.list(prefix.as_ref()).try_collect::<Vec<_>>()).await?;
            Ok::<_, object_store::Error>(futures_util::stream::iter(metas.into_iter().map(Ok)))
        };
        futures_util::stream::once(listed).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.patience.read(|| self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.patience.write(|| self.inner.copy_opts(from, to, options.clone())).await
    }
}

/// What a read owes to the limit on the store's rate.
struct Reading<'a> {
    limit: Option<&'a RateLimiter>,
    /// Bytes that were waited for, and have not come yet.
    waited_for: AtomicU64,
}

impl Reading<'_> {
    async fn begin<'a>(limit: Option<&'a RateLimiter>, options: &GetOptions) -> Reading<'a> {
        let bytes = match &options.range {
            Some(GetRange::Bounded(range)) if !options.head => range.end.saturating_sub(range.start),
            Some(GetRange::Suffix(bytes)) if !options.head => *bytes,
            _ => 0,
        };
        if let Some(limit) = limit {
            limit.acquire(bytes).await;
        }
        Reading { limit, waited_for: AtomicU64::new(bytes) }
    }

    /// Counts what comes unasked: an object of which nobody knew the size, an answer that is read once more.
    fn comes(&self, bytes: u64) {
        let waited_for = self.waited_for.swap(0, Ordering::Relaxed);
        self.limit.into_iter().for_each(|limit| limit.charge(bytes.saturating_sub(waited_for)));
    }
}

async fn get(
    store: &dyn ObjectStore,
    key: &Path,
    options: GetOptions,
    reading: &Reading<'_>,
) -> Result<GetResult> {
    let is_head = options.head;
    let got = store.get_opts(key, options).await?;
    if is_head {
        return Ok(got);
    }
    let bytes = got.range.end.saturating_sub(got.range.start);
    reading.comes(bytes);
    if bytes > READ_WHOLE {
        return Ok(got);
    }
    let (meta, range, attributes) = (got.meta.clone(), got.range.clone(), got.attributes.clone());
    let bytes = got.bytes().await?;
    let payload = GetResultPayload::Stream(futures_util::stream::iter([Ok(bytes)]).boxed());
    Ok(GetResult { payload, meta, range, attributes, extensions: Default::default() })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use object_store::memory::InMemory;
    use tokio::time::Instant;

    use super::super::Kind;
    use super::super::rate::Timetable;
    use super::*;

    /// A store with an object of 8000 bytes, of which 1000 a second may be read.
    async fn limited() -> Patient {
        let inner = Arc::new(InMemory::new());
        inner.put(&Path::from("object"), vec![0; 8000].into()).await.unwrap();
        let patience = Arc::new(Patience::new("memory", Kind::Memory, Duration::from_secs(60)));
        let limit = RateLimiter::new(Some(Timetable::always(Some(1000))));
        Patient { inner, patience, read_limit: Some(Arc::new(limit)) }
    }

    async fn seconds<T>(work: impl Future<Output = T>) -> u64 {
        let start = Instant::now();
        work.await;
        start.elapsed().as_secs_f64().round() as u64
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_read_at_the_same_time_keeps_the_rate_together() {
        let (store, key) = (limited().await, Path::from("object"));
        let ranges = (0..4).map(|part| store.get_range(&key, part * 2000..(part + 1) * 2000));
        assert_eq!(seconds(futures_util::future::try_join_all(ranges)).await, 8);
        assert_eq!(seconds(store.head(&key)).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_of_which_nobody_knew_hold_up_those_that_come_next() {
        let (store, key) = (limited().await, Path::from("object"));
        assert_eq!(seconds(store.get(&key)).await, 0);
        assert_eq!(seconds(store.get_range(&key, 0..1000)).await, 9);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_read_once_more_counts_once_more() {
        let store = limited().await;
        let (limit, range) = (store.read_limit.as_deref(), Some(GetRange::Bounded(0..1000)));
        let options = GetOptions { range, ..GetOptions::default() };
        let reading = Reading::begin(limit, &options).await;
        [1000, 1000, 500].into_iter().for_each(|bytes| reading.comes(bytes));
        assert_eq!(seconds(limit.unwrap().acquire(500)).await, 2);
    }
}
