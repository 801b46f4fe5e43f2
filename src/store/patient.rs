//! A store that is asked again: every request but those of an upload under way, which `multipart` and `upload` repeat.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::retry::Patience;

/// Bytes of an answer that are read within the attempt; a longer one is handed on as it comes.
const READ_WHOLE: u64 = 64 << 20;

/// A decorator that asks again what was not definitely refused.
#[derive(Debug)]
pub(super) struct Patient {
    pub(super) inner: Arc<dyn ObjectStore>,
    pub(super) patience: Arc<Patience>,
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
        self.patience.read(|| get(self.inner.as_ref(), key, options.clone())).await
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

async fn get(store: &dyn ObjectStore, key: &Path, options: GetOptions) -> Result<GetResult> {
    let is_head = options.head;
    let got = store.get_opts(key, options).await?;
    if is_head || got.range.end.saturating_sub(got.range.start) > READ_WHOLE {
        return Ok(got);
    }
    let (meta, range, attributes) = (got.meta.clone(), got.range.clone(), got.attributes.clone());
    let bytes = got.bytes().await?;
    let payload = GetResultPayload::Stream(futures_util::stream::iter([Ok(bytes)]).boxed());
    Ok(GetResult { payload, meta, range, attributes, extensions: Default::default() })
}
