//! A store that fails as it is told to: a decorator of any `ObjectStore`, for tests.
//!
//! Rules say which request fails, and how. What is begun and never ended is counted, so that a test can ask for what an
//! abort left behind.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

use super::{Store, StoreOptions};

mod tests;

/// What is asked of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    /// Begins a multipart upload.
    Create,
    Part,
    Complete,
    Abort,
    Put,
    Head,
    Get,
    Delete,
    List,
}

/// What becomes of it instead.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// It is not done, and the answer is an error that says so.
    Refuse(&'static str),
    /// It is done, but the answer is an error.
    LoseAnswer,
    /// It is not done, but the answer is that it is.
    Pretend,
    /// It is done, but late.
    Delay(Duration),
    /// As if there were no such object.
    NotFound,
    /// The object is said to have so many bytes.
    Size(u64),
    /// Of the bytes read only so many come.
    ShortRead(usize),
    /// This byte of those read is another.
    FlippedByte(usize),
}

/// When a request fails, and how.
#[derive(Debug)]
pub(crate) struct Rule {
    op: Op,
    key: &'static str,
    calls: std::ops::Range<u64>,
    fault: Fault,
    seen: AtomicU64,
}

impl Rule {
    /// Every `op` on a key that ends with `key`.
    pub(crate) fn on(op: Op, key: &'static str, fault: Fault) -> Self {
        Rule { op, key, calls: 0..u64::MAX, fault, seen: AtomicU64::new(0) }
    }

    /// Only the `n`th, from 0.
    pub(crate) fn nth(self, n: u64) -> Self {
        Rule { calls: n..n + 1, ..self }
    }

    fn hit(&self, op: Op, key: &str) -> Option<Fault> {
        if self.op != op || !key.ends_with(self.key) {
            return None;
        }
        self.calls.contains(&self.seen.fetch_add(1, Ordering::Relaxed)).then_some(self.fault)
    }
}

/// The rules of a store, and what has come of them.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    rules: Vec<Rule>,
    open: Mutex<Vec<String>>,
    fired: AtomicU64,
}

impl Faults {
    /// Keys of uploads that were neither completed nor aborted.
    pub(crate) fn open_uploads(&self) -> Vec<String> {
        self.open.lock().unwrap().clone()
    }

    /// How many requests failed as a rule says.
    pub(crate) fn fired(&self) -> u64 {
        self.fired.load(Ordering::Relaxed)
    }

    fn hit(&self, op: Op, key: &Path) -> Option<Fault> {
        let fault = self.rules.iter().find_map(|rule| rule.hit(op, key.as_ref()))?;
        self.fired.fetch_add(1, Ordering::Relaxed);
        Some(fault)
    }

    /// What is to be done of a request: whether it is done at all, and the answer where that is settled.
    async fn meet(&self, op: Op, key: &Path) -> Result<Meet> {
        self.hit(op, key).map_or(Ok(Meet::Do), |fault| meet_of(fault, key))?.wait().await
    }

    fn close(&self, key: &Path) {
        let mut open = self.open.lock().unwrap();
        if let Some(i) = open.iter().position(|other| other == key.as_ref()) {
            open.remove(i);
        }
    }
}

enum Meet {
    Do,
    DoAndFail,
    Pretend,
    Wait(Duration),
    Read(Fault),
}

impl Meet {
    async fn wait(self) -> Result<Meet> {
        match self {
            Meet::Wait(time) => {
                tokio::time::sleep(time).await;
                Ok(Meet::Do)
            }
            meet => Ok(meet),
        }
    }
}

fn meet_of(fault: Fault, key: &Path) -> Result<Meet> {
    match fault {
        Fault::Refuse(text) => Err(failed(text)),
        Fault::NotFound => Err(Error::NotFound { path: key.to_string(), source: "as told".into() }),
        Fault::LoseAnswer => Ok(Meet::DoAndFail),
        Fault::Pretend => Ok(Meet::Pretend),
        Fault::Delay(time) => Ok(Meet::Wait(time)),
        read => Ok(Meet::Read(read)),
    }
}

fn failed(text: &str) -> Error {
    Error::Generic { store: "faulty", source: text.into() }
}

fn lost() -> Error {
    failed("the answer was lost")
}

fn done() -> PutResult {
    PutResult { e_tag: None, version: None, extensions: Default::default() }
}

/// A store with faults.
#[derive(Debug)]
struct Faulty {
    inner: Arc<dyn ObjectStore>,
    faults: Arc<Faults>,
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faulty {}", self.inner)
    }
}

impl Store {
    /// Opens a store whose requests fail as `rules` say.
    pub(crate) fn faulty(url: &str, rules: Vec<Rule>) -> (Arc<Store>, Arc<Faults>) {
        let faults = Arc::new(Faults { rules, ..Faults::default() });
        let mut store = Store::open(url, &StoreOptions::default()).unwrap();
        for client in [&mut store.up, &mut store.down] {
            *client = Arc::new(Faulty { inner: Arc::clone(client), faults: Arc::clone(&faults) });
        }
        (Arc::new(store), faults)
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, key: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        match self.faults.meet(Op::Put, key).await? {
            Meet::DoAndFail => {
                self.inner.put_opts(key, payload, options).await?;
                Err(lost())
            }
            Meet::Pretend => Ok(done()),
            _ => self.inner.put_opts(key, payload, options).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        key: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let meet = self.faults.meet(Op::Create, key).await?;
        let inner = self.inner.put_multipart_opts(key, options).await?;
        if let Meet::DoAndFail = meet {
            return Err(lost());
        }
        self.faults.open.lock().unwrap().push(key.to_string());
        Ok(Box::new(FaultyUpload { inner, key: key.clone(), faults: Arc::clone(&self.faults) }))
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> Result<GetResult> {
        let op = if options.head { Op::Head } else { Op::Get };
        let meet = self.faults.meet(op, key).await?;
        let mut got = self.inner.get_opts(key, options).await?;
        match meet {
            Meet::DoAndFail => return Err(lost()),
            Meet::Read(Fault::Size(size)) => got.meta.size = size,
            Meet::Read(fault) => {
                let (meta, range, attributes) = (got.meta.clone(), got.range.clone(), got.attributes.clone());
                let mut bytes = got.bytes().await?.to_vec();
                match fault {
                    Fault::ShortRead(len) => bytes.truncate(len),
                    Fault::FlippedByte(at) => bytes[at] ^= 1,
                    _ => {}
                }
                let stream = futures_util::stream::iter([Ok(Bytes::from(bytes))]).boxed();
                let payload = GetResultPayload::Stream(stream);
                return Ok(GetResult { payload, meta, range, attributes, extensions: Default::default() });
            }
            _ => {}
        }
        Ok(got)
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (inner, faults) = (Arc::clone(&self.inner), Arc::clone(&self.faults));
        keys.and_then(move |key| {
            let (inner, faults) = (Arc::clone(&inner), Arc::clone(&faults));
            async move {
                match faults.meet(Op::Delete, &key).await? {
                    Meet::Pretend => {}
                    Meet::DoAndFail => {
                        inner.delete(&key).await?;
                        return Err(lost());
                    }
                    _ => inner.delete(&key).await?,
                }
                Ok(key)
            }
        })
        .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.faults.hit(Op::List, prefix.unwrap_or(&Path::default())) {
            // Something comes before the failure.
            Some(_) => {
                self.inner.list(prefix).take(1).chain(futures_util::stream::iter([Err(lost())])).boxed()
            }
            None => self.inner.list(prefix),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.faults.meet(Op::List, prefix.unwrap_or(&Path::default())).await?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn MultipartUpload>,
    key: Path,
    faults: Arc<Faults>,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, part: PutPayload) -> UploadPart {
        match self.faults.hit(Op::Part, &self.key).map(|fault| meet_of(fault, &self.key)) {
            Some(Err(error)) => Box::pin(async { Err(error) }),
            Some(Ok(Meet::Pretend)) => Box::pin(async { Ok(()) }),
            Some(Ok(Meet::DoAndFail)) => {
                let sent = self.inner.put_part(part);
                Box::pin(async { sent.await.and(Err(lost())) })
            }
            Some(Ok(Meet::Wait(time))) => {
                let sent = self.inner.put_part(part);
                Box::pin(async move {
                    tokio::time::sleep(time).await;
                    sent.await
                })
            }
            _ => self.inner.put_part(part),
        }
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let meet = self.faults.meet(Op::Complete, &self.key).await?;
        if let Meet::Pretend = meet {
            return Ok(done());
        }
        let completed = self.inner.complete().await?;
        self.faults.close(&self.key);
        if let Meet::DoAndFail = meet { Err(lost()) } else { Ok(completed) }
    }

    async fn abort(&mut self) -> Result<()> {
        let meet = self.faults.meet(Op::Abort, &self.key).await?;
        if let Meet::Pretend = meet {
            return Ok(());
        }
        self.inner.abort().await?;
        self.faults.close(&self.key);
        if let Meet::DoAndFail = meet { Err(lost()) } else { Ok(()) }
    }
}
