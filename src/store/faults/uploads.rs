//! Uploads under way at a store with faults, and its clock.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{ObjectMeta, Result};

use super::super::leftover::{OpenUpload, OpenUploads};
use super::{Fault, Faults, Faulty, Meet, Op};

/// An upload under way.
#[derive(Debug)]
pub(crate) struct Open {
    pub(super) upload: OpenUpload,
    last_part: Option<Timestamp>,
}

impl Open {
    pub(super) fn new(key: &Path, id: &str) -> Self {
        let upload = OpenUpload { key: key.clone(), id: id.into(), begun: Timestamp::now() };
        Open { upload, last_part: None }
    }
}

impl Faults {
    /// A part of an upload was sent.
    pub(super) fn sent(&self, key: &Path) {
        let mut open = self.open.lock().unwrap();
        if let Some(open) = open.iter_mut().find(|open| open.upload.key == *key) {
            open.last_part = Some(Timestamp::now());
        }
    }

    /// Has the uploads under way have begun earlier than they have; their parts stay as old as they are.
    pub(crate) fn begun_earlier(&self, by: Duration) {
        self.open.lock().unwrap().iter_mut().for_each(|open| open.upload.begun -= by);
    }
}

impl Meet {
    /// How far the store's clock is behind.
    fn behind(&self) -> Duration {
        if let Meet::Read(Fault::Behind(time)) = self { *time } else { Duration::ZERO }
    }

    /// What a store says of objects whose clock is behind.
    pub(super) fn told<'a>(&self, metas: impl IntoIterator<Item = &'a mut ObjectMeta>) {
        metas.into_iter().for_each(|meta| meta.last_modified -= self.behind());
    }
}

#[async_trait]
impl OpenUploads for Faulty {
    async fn open(&self, prefix: &Path) -> Result<Vec<OpenUpload>> {
        let behind = self.faults.meet(Op::List, prefix).await?.behind();
        let open = self.faults.open.lock().unwrap();
        let open = open.iter().map(|open| open.upload.clone()).filter(|open| open.key.prefix_matches(prefix));
        Ok(open.map(|open| OpenUpload { begun: open.begun - behind, ..open }).collect())
    }

    async fn last_part(&self, key: &Path, id: &str) -> Result<Option<Timestamp>> {
        let behind = self.faults.meet(Op::List, key).await?.behind();
        let open = self.faults.open.lock().unwrap();
        let found = open.iter().find(|open| open.upload.key == *key && open.upload.id == id);
        Ok(found.and_then(|open| Some(open.last_part? - behind)))
    }

    async fn abort(&self, key: &Path, id: &str) -> Result<()> {
        self.abort_multipart(key, &id.to_string()).await
    }
}
