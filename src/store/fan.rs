//! One backup into several stores at once: a store that fails is left behind, the others go on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use object_store::PutPayload;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use super::Store;
use super::commit::Target;
use super::manifest::Manifest;
use super::needs::Needs;
use super::rate::RateLimiter;
use super::upload::Upload;
use crate::archive::Id;
use crate::archive::budget::{CHUNK, PartSizes};
use crate::error::{Error, Kind, Result};
use crate::report::Reporter;
use crate::report::event::FailedStore;
use crate::stream::channel::Receiver;
use crate::stream::counters::Counters;
use crate::stream::pool::Pool;

/// Bytes of a catalog's parts: its stream is thin, and every store takes this size.
const CATALOG_PART: u64 = 6 << 20;
/// How long the beginning of an upload is waited for once the work is to be ended.
const BEGINNING: Duration = Duration::from_secs(2);

/// A store that took no part in the end.
#[derive(Debug)]
pub struct Failed {
    /// Its name.
    pub store: String,
    /// Why.
    pub error: Error,
}

impl Failed {
    /// What is told of it.
    pub fn event(&self) -> FailedStore {
        FailedStore { store: self.store.clone(), error: self.error.to_string() }
    }
}

/// Where a backup exists.
#[derive(Debug)]
pub struct Committed {
    /// The stores that have it.
    pub stores: Vec<String>,
    /// Those of them where not everything is locked that was to be, and why.
    pub unlocked: Vec<Failed>,
    /// Those that do not have it.
    pub failed: Vec<Failed>,
}

/// The stores of one backup.
///
/// What begins or ends an upload runs in a task of its own: a signal stops this from waiting for it, and
/// [`FanOut::abort_because`] then waits instead, so that no upload is lost sight of.
pub struct FanOut {
    beginning: VecDeque<Beginning>,
    targets: Vec<Target>,
    ending: VecDeque<JoinHandle<(String, Error)>>,
    failed: Vec<Failed>,
    parts: PartSizes,
    chunks: Pool<Vec<u8>>,
    /// Bytes of the largest part that the pool has room for.
    largest_part: u64,
    ui: Reporter,
}

/// An upload that is being begun.
struct Beginning {
    store: String,
    /// `JOB@ID`
    archive: String,
    handle: JoinHandle<Result<Target>>,
}

/// What an upload is called in its store.
pub struct ObjectName<'a> {
    /// The job.
    pub job: &'a str,
    /// The archive's id.
    pub id: &'a Id,
    /// What the archive object's name ends with.
    pub suffix: &'a str,
}

impl FanOut {
    /// No store yet; bytes come in buffers of `chunks`, parts are as `parts` says.
    pub fn new(parts: PartSizes, chunks: Pool<Vec<u8>>, ui: &Reporter) -> Self {
        let largest_part = parts.largest_in_memory();
        let (beginning, ending) = (VecDeque::new(), VecDeque::new());
        FanOut {
            beginning,
            targets: Vec::new(),
            ending,
            failed: Vec::new(),
            parts,
            chunks,
            largest_part,
            ui: ui.clone(),
        }
    }

    /// Leaves a store behind.
    pub fn give_up(&mut self, store: &str, error: Error) {
        self.ui.detail(&format!("{store} is given up: {error}"));
        self.failed.push(Failed { store: store.into(), error });
    }

    /// The stores that were left behind.
    pub fn given_up(&self) -> &[Failed] {
        &self.failed
    }

    /// As long as one store is left, the night is not lost; otherwise the first failure is the failure.
    ///
    /// # Errors
    /// No store is left: the first failure.
    pub fn any_left(&mut self, left: usize) -> Result<()> {
        if left > 0 || self.failed.is_empty() {
            return Ok(());
        }
        let first = self.failed.remove(0);
        self.failed
            .iter()
            .for_each(|other| self.ui.warn(&format!("{} failed too: {}", other.store, other.error)));
        Err(first.error)
    }

    /// Begins the uploads to every store.
    ///
    /// # Errors
    /// No store takes an upload: the first failure.
    pub async fn begin(
        &mut self,
        stores: &[Arc<Store>],
        naming: &ObjectName<'_>,
        parallel: usize,
        counters: &Counters,
    ) -> Result<()> {
        for store in stores {
            let (store, taken) = (Arc::clone(store), counters.store(&store.name));
            let (job, id, suffix) = (naming.job.to_string(), naming.id.clone(), naming.suffix.to_string());
            let (name, archive) = (store.name.clone(), format!("{job}@{id}"));
            let handle =
                tokio::spawn(
                    async move { Target::begin(&store, &job, &id, &suffix, parallel, &taken).await },
                );
            self.beginning.push_back(Beginning { store: name, archive, handle });
        }
        while let Some(beginning) = self.beginning.front_mut() {
            let begun = (&mut beginning.handle).await;
            let store = std::mem::take(&mut beginning.store);
            self.beginning.pop_front();
            match begun.map_err(died)? {
                Ok(target) => {
                    target.left_by_beginning().for_each(|left| self.ui.note(&left));
                    self.targets.push(target);
                }
                Err(error) => self.give_up(&store, error),
            }
        }
        self.any_left(self.targets.len())
    }

    /// Sends the bytes of archive and catalog to every store that is left, no faster than the limiter allows, to the point where only the
    /// commit is missing.
    ///
    /// # Errors
    /// A stream broke off, with its cause; or no store is left, with the first failure. The uploads are to be aborted then.
    pub async fn pump(
        &mut self,
        mut archive: Receiver<Bytes>,
        mut catalog: Receiver<Bytes>,
        limiter: RateLimiter,
    ) -> Result<()> {
        let (mut archive_parts, mut catalog_parts) = (PartSplitter::default(), PartSplitter::default());
        let (mut archive_open, mut catalog_open) = (true, true);
        while archive_open || catalog_open {
            tokio::select! {
                bytes = archive.recv(), if archive_open => {
                    let Ok(bytes) = bytes else { return Err(cause(bytes, &mut catalog).await) };
                    archive_open = bytes.is_some();
                    limiter.acquire(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)).await;
                    self.archive(&mut archive_parts, bytes).await?;
                }
                bytes = catalog.recv(), if catalog_open => {
                    let Ok(bytes) = bytes else { return Err(cause(bytes, &mut archive).await) };
                    catalog_open = bytes.is_some();
                    limiter.acquire(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)).await;
                    self.catalog(&mut catalog_parts, bytes).await?;
                }
            }
        }
        Ok(())
    }

    async fn archive(&mut self, parts: &mut PartSplitter, bytes: Option<Bytes>) -> Result<()> {
        let ended = bytes.is_none();
        parts.pending.extend(bytes.inspect(|bytes| parts.len += bytes.len() as u64));
        loop {
            let size = self.part_size(parts.count)?;
            let Some(part) = parts.cut(size, ended) else { return Ok(()) };
            self.send(|target| &mut target.archive, part).await?;
        }
    }

    async fn catalog(&mut self, parts: &mut PartSplitter, bytes: Option<Bytes>) -> Result<()> {
        let ended = bytes.is_none();
        parts.pending.extend(bytes.inspect(|bytes| parts.len += bytes.len() as u64));
        while let Some(part) = parts.cut(CATALOG_PART, ended) {
            self.send(|target| &mut target.catalog, part).await?;
        }
        Ok(())
    }

    /// Bytes of archive part `n`; makes room where the stream outgrew its bound.
    fn part_size(&mut self, n: u64) -> Result<u64> {
        let size = self.parts.size(n).ok_or_else(|| {
            Error::failed(format!("the archive needs more than the {n} parts that the store takes"))
                .hint("give a larger --part-size, or none so that parts grow")
        })?;
        if size > self.largest_part {
            if self.largest_part == self.parts.largest_in_memory() {
                self.ui.warn(
                    "the archive outgrew what --memory allows: it goes on with larger parts and more memory; \
                     give a larger --memory next time",
                );
            }
            self.chunks.grow((size - self.largest_part).div_ceil(CHUNK) as usize);
            self.largest_part = size;
        }
        Ok(size)
    }

    /// One part to every store; the slowest sets the pace, since memory is bounded.
    async fn send(&mut self, upload: fn(&mut Target) -> &mut Upload, part: PutPayload) -> Result<()> {
        let sent = join_all(self.targets.iter_mut().map(|target| upload(target).part(part.clone()))).await;
        drop(part);
        self.leave_behind(sent).await
    }

    /// Aborts the targets that failed; the others go on.
    async fn leave_behind(&mut self, outcomes: Vec<Result<()>>) -> Result<()> {
        for (i, outcome) in outcomes.into_iter().enumerate().rev() {
            if let Err(error) = outcome {
                let target = self.targets.remove(i);
                let name = target.name().to_string();
                self.ending.push_back(tokio::spawn(async move { (name, target.abort_because(error).await) }));
            }
        }
        while let Some(ending) = self.ending.front_mut() {
            let ended = ending.await;
            self.ending.pop_front();
            let (store, error) = ended.map_err(died)?;
            self.give_up(&store, error);
        }
        self.any_left(self.targets.len())
    }

    /// Makes the backup exist in every store that is left. No store waits for another.
    ///
    /// # Errors
    /// It exists nowhere, as far as is known.
    pub async fn commit(
        mut self,
        manifest: &Manifest,
        needs: &Needs,
        cancel: &CancellationToken,
    ) -> Result<Committed> {
        let targets = std::mem::take(&mut self.targets);
        let commits = targets.into_iter().map(|target| async {
            let name = target.name().to_string();
            (name, target.commit(manifest, needs, cancel).await)
        });
        let (mut stores, mut unlocked) = (Vec::new(), Vec::new());
        for (store, outcome) in join_all(commits).await {
            match outcome {
                Ok(None) => stores.push(store),
                Ok(Some(error)) => {
                    stores.push(store.clone());
                    unlocked.push(Failed { store, error });
                }
                Err(error) => self.give_up(&store, error),
            }
        }
        self.any_left(stores.len())?;
        Ok(Committed { stores, unlocked, failed: self.failed })
    }

    /// Ends every upload without an object. `cause` stays the cause.
    pub async fn abort_because(mut self, mut cause: Error) -> Error {
        for Beginning { store, archive, mut handle } in std::mem::take(&mut self.beginning) {
            match tokio::time::timeout(BEGINNING, &mut handle).await {
                Ok(Ok(Ok(target))) => self.targets.push(target),
                Ok(_) => {}
                Err(_) => {
                    handle.abort();
                    let left = format!(
                        "an upload of {archive} may have been begun at {store}: a lifecycle rule for incomplete \
                         uploads collects it"
                    );
                    cause = cause.leaving(&store, left);
                }
            }
        }
        let aborts = self.targets.into_iter().map(|target| target.abort_because(Error::failed("")));
        for left in join_all(aborts).await {
            cause = cause.and_hints_of(&left);
        }
        for ending in self.ending {
            if let Ok((_, error)) = ending.await {
                cause = cause.and_hints_of(&error);
            }
        }
        cause
    }
}

fn died(error: JoinError) -> Error {
    Error::failed("a worker died").because(error)
}

/// Why a stream broke off: its own failure, or where that is only an echo, the other stream's.
async fn cause(broken: Result<Option<Bytes>>, other: &mut Receiver<Bytes>) -> Error {
    let Err(error) = broken else { return Error::disconnected() };
    if error.kind() != Kind::Disconnected {
        return error;
    }
    loop {
        match other.recv().await {
            Ok(Some(_)) => {}
            Ok(None) => return error,
            Err(other) => return error.or_cause(other),
        }
    }
}

/// Cuts a stream into parts without copying it.
#[derive(Default)]
struct PartSplitter {
    pending: VecDeque<Bytes>,
    len: u64,
    /// Parts cut so far.
    count: u64,
}

impl PartSplitter {
    /// A part of `size` bytes, if there are as many; whatever is left, if the stream has `ended`.
    fn cut(&mut self, size: u64, ended: bool) -> Option<PutPayload> {
        if self.len < size && !(ended && self.len > 0) {
            return None;
        }
        let mut missing = size.min(self.len);
        self.len -= missing;
        self.count += 1;
        let mut part = Vec::new();
        while missing > 0 {
            let mut bytes = self.pending.pop_front()?;
            if bytes.len() as u64 > missing {
                self.pending.push_front(bytes.split_off(missing as usize));
            }
            missing -= bytes.len() as u64;
            part.push(bytes);
        }
        Some(PutPayload::from_iter(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_cut_exactly_and_nothing_is_lost() {
        let mut splitter = PartSplitter::default();
        for len in [10usize, 1, 33, 7] {
            splitter.pending.push_back(Bytes::from(vec![len as u8; len]));
            splitter.len += len as u64;
        }
        let cut =
            |splitter: &mut PartSplitter, ended| splitter.cut(16, ended).map(|part| part.content_length());
        assert_eq!(
            [cut(&mut splitter, false), cut(&mut splitter, false), cut(&mut splitter, false)],
            [Some(16); 3]
        );
        assert_eq!(cut(&mut splitter, false), None);
        assert_eq!(cut(&mut splitter, true), Some(3));
        assert_eq!(cut(&mut splitter, true), None);
        assert_eq!(splitter.count, 4);
    }

    #[test]
    fn parts_hold_the_streams_bytes_in_order_whatever_the_pieces() {
        let all: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for (piece, size) in
            [(1, 16), (7, 16), (16, 16), (100, 16), (1000, 16), (333, 999), (10, 1000), (10, 2000)]
        {
            let (mut splitter, mut parts) = (PartSplitter::default(), Vec::new());
            for bytes in all.chunks(piece) {
                splitter.pending.push_back(Bytes::copy_from_slice(bytes));
                splitter.len += bytes.len() as u64;
                parts.extend(std::iter::from_fn(|| splitter.cut(size, false)));
            }
            parts.extend(std::iter::from_fn(|| splitter.cut(size, true)));
            let parts: Vec<Vec<u8>> = parts.into_iter().map(|part| Bytes::from(part).to_vec()).collect();
            assert!(parts.concat() == all, "pieces of {piece}, parts of {size}");
            let (last, full) = parts.split_last().unwrap();
            assert!(full.iter().all(|part| part.len() as u64 == size) && last.len() as u64 <= size);
        }
    }

    #[tokio::test]
    async fn an_echo_is_asked_for_its_cause_at_the_other_stream() {
        use crate::stream::channel::channel;
        let (sender, mut other) = channel(4);
        sender.send(Bytes::from_static(b"x")).await.unwrap();
        sender.finish(Err(Error::damaged("the catalog's"))).await;
        assert_eq!(cause(Err(Error::disconnected()), &mut other).await.kind(), Kind::Damaged);
        let (sender, mut other) = channel::<Bytes>(4);
        sender.end().await;
        assert_eq!(cause(Err(Error::disconnected()), &mut other).await.kind(), Kind::Disconnected);
        assert_eq!(cause(Err(Error::failed("own")), &mut other).await.to_string(), "own");
    }
}
