//! An upload of a store with faults, as the client library's are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{MultipartId, MultipartUpload, PutPayload, PutResult, Result, UploadPart};

use super::{Faulty, failed};

/// An upload as those of the client library: it forgets its parts when it is completed, also where that fails.
#[derive(Debug)]
pub(super) struct Forgetful {
    pub(super) store: Faulty,
    pub(super) key: Path,
    pub(super) id: MultipartId,
    pub(super) begun: usize,
    pub(super) parts: Arc<Mutex<BTreeMap<usize, PartId>>>,
}

#[async_trait]
impl MultipartUpload for Forgetful {
    fn put_part(&mut self, part: PutPayload) -> UploadPart {
        let (store, key, id) = (self.store.clone(), self.key.clone(), self.id.clone());
        let (n, parts) = (self.begun, Arc::clone(&self.parts));
        self.begun += 1;
        Box::pin(async move {
            let sent = store.put_part(&key, &id, n, part).await?;
            parts.lock().unwrap().insert(n, sent);
            Ok(())
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let parts: Vec<_> = std::mem::take(&mut *self.parts.lock().unwrap()).into_values().collect();
        if parts.len() != self.begun {
            return Err(failed("Missing part"));
        }
        self.store.complete_multipart(&self.key, &self.id, parts).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.store.abort_multipart(&self.key, &self.id).await
    }
}
