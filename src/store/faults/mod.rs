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
use object_store::client::{HttpError, HttpErrorKind};
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartId, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};
use tokio::time::Instant;

use super::clients::Client;
use super::leftover::OpenUploads;
use super::multipart::Uploads;
use super::{Store, StoreOptions, memory};
use crate::archive::testing::Random;

mod forgetful;
pub(crate) mod halt;
mod in_flight;
mod needs;
mod outages;
mod tests;
pub(crate) mod turns;
mod uploads;

use forgetful::Forgetful;
use halt::Halt;
use turns::Turns;
use uploads::Open;

/// What is asked of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    /// Begins a multipart upload.
    Create,
    Part,
    Complete,
    Abort,
    /// Writes what must not be there yet.
    Put,
    /// Writes, whatever is there.
    Overwrite,
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
    /// It is done, but the connection is reset before the answer.
    LoseAnswer,
    /// The connection is reset, and the request is done after all, so much later.
    Late(Duration),
    /// It never reaches the store, and nobody answers.
    Stall,
    /// The connection cannot be made.
    Unreachable,
    /// It is not done, but the answer is that it is.
    Pretend,
    /// It is done, and somebody else deletes the object of this key before the answer.
    ThenDeleted(&'static str),
    /// It is done, but late.
    Delay(Duration),
    /// As if there were no such object.
    NotFound,
    /// The store's clock is so far behind.
    Behind(Duration),
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
    /// How long it lasts from its first hit on.
    lasts: Option<Duration>,
    began: Mutex<Option<Instant>>,
    fault: Fault,
    seen: AtomicU64,
}

impl Rule {
    /// Every `op` on a key that ends with `key`.
    pub(crate) fn on(op: Op, key: &'static str, fault: Fault) -> Self {
        let (calls, began) = (0..u64::MAX, Mutex::default());
        Rule { op, key, calls, lasts: None, began, fault, seen: AtomicU64::new(0) }
    }

    /// For a while, from the first one on.
    pub(crate) fn lasting(self, seconds: u64) -> Self {
        Rule { lasts: Some(Duration::from_secs(seconds)), ..self }
    }

    /// Only the `n`th, from 0.
    pub(crate) fn nth(self, n: u64) -> Self {
        Rule { calls: n..n + 1, ..self }
    }

    /// Only the first `n`.
    pub(crate) fn first(self, n: u64) -> Self {
        Rule { calls: 0..n, ..self }
    }

    fn hit(&self, op: Op, key: &str) -> Option<Fault> {
        if self.op != op || !key.ends_with(self.key) {
            return None;
        }
        let hit = self.calls.contains(&self.seen.fetch_add(1, Ordering::Relaxed));
        let began = *self.began.lock().unwrap().get_or_insert_with(Instant::now);
        let over = self.lasts.is_some_and(|lasts| began.elapsed() >= lasts);
        (hit && !over).then_some(self.fault)
    }
}

/// The rules of a store, and what has come of them.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    rules: Vec<Rule>,
    halt: Option<Halt>,
    turns: Option<(Arc<Turns>, usize)>,
    /// Each request takes a while, as drawn here.
    slow: Option<Mutex<Random>>,
    open: Arc<Mutex<Vec<Open>>>,
    /// How many requests that change something were made.
    writes: AtomicU64,
    fired: AtomicU64,
}

impl Faults {
    /// Keys of uploads that were neither completed nor aborted.
    pub(crate) fn open_uploads(&self) -> Vec<String> {
        self.open.lock().unwrap().iter().map(|open| open.upload.key.to_string()).collect()
    }

    /// How many requests failed as a rule says.
    pub(crate) fn fired(&self) -> u64 {
        self.fired.load(Ordering::Relaxed)
    }

    /// How many requests that change something were made.
    pub(crate) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    fn hit(&self, op: Op, key: &Path) -> Option<Fault> {
        let fault = self.rules.iter().find_map(|rule| rule.hit(op, key.as_ref()))?;
        self.fired.fetch_add(1, Ordering::Relaxed);
        Some(fault)
    }

    /// What is to be done of a request: whether it is done at all, and the answer where that is settled.
    async fn meet(&self, op: Op, key: &Path) -> Result<Meet> {
        if self.halt.as_ref().is_some_and(Halt::is_due) {
            return std::future::pending().await;
        }
        if !matches!(op, Op::Head | Op::Get | Op::List) {
            self.writes.fetch_add(1, Ordering::Relaxed);
        }
        let takes = self.slow.as_ref().map(|random| random.lock().unwrap().below(30) as u64);
        if let Some(takes) = takes {
            tokio::time::sleep(Duration::from_millis(takes)).await;
        }
        self.turn().await;
        self.hit(op, key).map_or(Ok(Meet::Do), |fault| meet_of(fault, key))?.wait().await
    }

    fn close(&self, key: &Path) {
        let mut open = self.open.lock().unwrap();
        if let Some(i) = open.iter().position(|other| other.upload.key == *key) {
            open.remove(i);
        }
    }
}

enum Meet {
    Do,
    DoAndFail,
    DoLater(Duration),
    DoAndDelete(&'static str),
    Pretend,
    Wait(Duration),
    Stall,
    Read(Fault),
}

impl Meet {
    async fn wait(self) -> Result<Meet> {
        match self {
            Meet::Wait(time) => {
                tokio::time::sleep(time).await;
                Ok(Meet::Do)
            }
            Meet::Stall => std::future::pending().await,
            meet => Ok(meet),
        }
    }
}

fn meet_of(fault: Fault, key: &Path) -> Result<Meet> {
    match fault {
        Fault::Refuse(text) => Err(failed(text)),
        Fault::NotFound => Err(Error::NotFound { path: key.to_string(), source: "as told".into() }),
        Fault::LoseAnswer => Ok(Meet::DoAndFail),
        Fault::Late(time) => Ok(Meet::DoLater(time)),
        Fault::ThenDeleted(key) => Ok(Meet::DoAndDelete(key)),
        Fault::Pretend => Ok(Meet::Pretend),
        Fault::Delay(time) => Ok(Meet::Wait(time)),
        Fault::Stall => Ok(Meet::Stall),
        Fault::Unreachable => Err(transport(HttpErrorKind::Connect)),
        read => Ok(Meet::Read(read)),
    }
}

fn failed(text: &str) -> Error {
    Error::Generic { store: "faulty", source: text.into() }
}

fn transport(kind: HttpErrorKind) -> Error {
    let source = HttpError::new(kind, std::io::Error::from(std::io::ErrorKind::ConnectionReset));
    Error::Generic { store: "faulty", source: source.into() }
}

fn lost() -> Error {
    transport(HttpErrorKind::Interrupted)
}

fn done() -> PutResult {
    PutResult { e_tag: None, version: None, extensions: Default::default() }
}

/// A store with faults.
#[derive(Debug, Clone)]
struct Faulty {
    inner: Arc<InMemory>,
    faults: Arc<Faults>,
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faulty {}", self.inner)
    }
}

impl Store {
    /// Opens a store in memory whose requests fail as `rules` say.
    pub(crate) fn faulty(url: &str, rules: Vec<Rule>) -> (Arc<Store>, Arc<Faults>) {
        Self::faulty_with(url, rules, &StoreOptions::default())
    }

    /// [`Store::faulty`] with options.
    pub(crate) fn faulty_with(
        url: &str,
        rules: Vec<Rule>,
        options: &StoreOptions,
    ) -> (Arc<Store>, Arc<Faults>) {
        Self::faulty_through(url, rules, options, |faulty| Uploads::Numbered(faulty))
    }

    /// [`Store::faulty`], where uploads are the client library's own, and made again by it.
    pub(crate) fn faulty_whole(url: &str, rules: Vec<Rule>) -> (Arc<Store>, Arc<Faults>) {
        let whole = |faulty: Arc<Faulty>| Uploads::Whole { store: faulty, repeats: true };
        Self::faulty_through(url, rules, &StoreOptions::default(), whole)
    }

    fn faulty_through(
        url: &str,
        rules: Vec<Rule>,
        options: &StoreOptions,
        uploads: fn(Arc<Faulty>) -> Uploads,
    ) -> (Arc<Store>, Arc<Faults>) {
        let faults = Arc::new(Faults { rules, ..Faults::default() });
        let inner = memory::shared(url::Url::parse(url).unwrap().host_str());
        let faulty = Arc::new(Faulty { inner, faults: Arc::clone(&faults) });
        let requests = Arc::clone(&faulty) as Arc<dyn ObjectStore>;
        let open_uploads = Some(Arc::clone(&faulty) as Arc<dyn OpenUploads>);
        let decorate =
            |_| Client { requests, uploads: uploads(faulty), open_uploads, probes: true, s3: None };
        (Arc::new(Store::open_through(url, options, decorate).unwrap()), faults)
    }
}

impl Faulty {
    fn client(self) -> Client {
        let faulty = Arc::new(self);
        let requests = Arc::clone(&faulty) as Arc<dyn ObjectStore>;
        let open_uploads = Some(Arc::clone(&faulty) as Arc<dyn OpenUploads>);
        Client { requests, uploads: Uploads::Numbered(faulty), open_uploads, probes: true, s3: None }
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, key: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let op = if matches!(options.mode, PutMode::Create) { Op::Put } else { Op::Overwrite };
        match self.faults.meet(op, key).await? {
            Meet::DoAndFail => {
                self.inner.put_opts(key, payload, options).await?;
                Err(lost())
            }
            Meet::DoLater(time) => {
                let (inner, key) = (Arc::clone(&self.inner), key.clone());
                later(time, async move { inner.put_opts(&key, payload, options).await.map(drop) });
                Err(lost())
            }
            Meet::DoAndDelete(other) => {
                self.inner.put_opts(key, payload, options).await?;
                self.inner.delete(&Path::from(other)).await.map(|()| done())
            }
            Meet::Pretend => Ok(done()),
            _ => self.inner.put_opts(key, payload, options).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        key: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let id = self.create_multipart(key).await?;
        Ok(Box::new(Forgetful { store: self.clone(), key: key.clone(), id, begun: 0, parts: Arc::default() }))
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> Result<GetResult> {
        let op = if options.head { Op::Head } else { Op::Get };
        let meet = self.faults.meet(op, key).await?;
        let mut got = self.inner.get_opts(key, options).await?;
        meet.told([&mut got.meta]);
        match meet {
            Meet::DoAndFail => return Err(lost()),
            Meet::Read(Fault::Size(size)) => got.meta.size = size,
            Meet::Read(Fault::Behind(_)) => {}
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
        if self.faults.halt.as_ref().is_some_and(Halt::is_due) {
            return futures_util::stream::pending().boxed();
        }
        match self.faults.hit(Op::List, prefix.unwrap_or(&Path::default())) {
            // Something comes before the failure.
            Some(_) => {
                self.inner.list(prefix).take(1).chain(futures_util::stream::iter([Err(lost())])).boxed()
            }
            None => {
                let (faulty, prefix) = (self.clone(), prefix.cloned());
                let listed = async move {
                    faulty.faults.turn().await;
                    faulty.inner.list(prefix.as_ref())
                };
                futures_util::stream::once(listed).flatten().boxed()
            }
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        match self.faults.meet(Op::List, prefix.unwrap_or(&Path::default())).await? {
            // A list that lags behind.
            Meet::Pretend => {
                let (common_prefixes, objects) = (Vec::new(), Vec::new());
                Ok(ListResult { common_prefixes, objects, extensions: Default::default() })
            }
            meet => {
                let mut listed = self.inner.list_with_delimiter(prefix).await?;
                meet.told(&mut listed.objects);
                Ok(listed)
            }
        }
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// Does what arrives late.
fn later(time: Duration, request: impl Future<Output = Result<()>> + Send + 'static) {
    tokio::spawn(async move {
        tokio::time::sleep(time).await;
        let _ = request.await;
    });
}

#[async_trait]
impl MultipartStore for Faulty {
    async fn create_multipart(&self, key: &Path) -> Result<MultipartId> {
        let meet = self.faults.meet(Op::Create, key).await?;
        let id = self.inner.create_multipart(key).await?;
        self.faults.open.lock().unwrap().push(Open::new(key, &id));
        if let Meet::DoAndFail = meet { Err(lost()) } else { Ok(id) }
    }

    async fn put_part(&self, key: &Path, id: &MultipartId, n: usize, part: PutPayload) -> Result<PartId> {
        let meet = self.faults.meet(Op::Part, key).await?;
        let part = if let Meet::Pretend = meet { PutPayload::new() } else { part };
        let sent = self.inner.put_part(key, id, n, part).await?;
        self.faults.sent(key);
        if let Meet::DoAndFail = meet { Err(lost()) } else { Ok(sent) }
    }

    async fn complete_multipart(
        &self,
        key: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        match self.faults.meet(Op::Complete, key).await? {
            Meet::Pretend => Ok(done()),
            Meet::DoLater(time) => {
                let (faulty, key, id) = (self.clone(), key.clone(), id.clone());
                later(time, async move {
                    faulty.inner.complete_multipart(&key, &id, parts).await?;
                    faulty.faults.close(&key);
                    Ok(())
                });
                Err(lost())
            }
            meet => {
                let completed = self.inner.complete_multipart(key, id, parts).await.map_err(|_| {
                    failed("Server returned non-2xx status code: 404 Not Found: <Error><Code>NoSuchUpload</Code></Error>")
                })?;
                self.faults.close(key);
                if let Meet::DoAndFail = meet { Err(lost()) } else { Ok(completed) }
            }
        }
    }

    async fn abort_multipart(&self, key: &Path, id: &MultipartId) -> Result<()> {
        let meet = self.faults.meet(Op::Abort, key).await?;
        if let Meet::Pretend = meet {
            return Ok(());
        }
        self.inner.abort_multipart(key, id).await?;
        self.faults.close(key);
        if let Meet::DoAndFail = meet { Err(lost()) } else { Ok(()) }
    }
}
