//! Sealing: from a source's bytes to the octets of archive and catalog, each stage on its own thread.
//!
//! tap → frame workers → packer (packets, SHA-1) → cipher (AES-256-CFB) → digest (BLAKE3) → out

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use secrecy::SecretString;
use tokio::sync::oneshot;

use super::catalog::{self, ArchiveRecord, EndRecord, FrameRecord, Record, Totals};
use super::frame::{Compressor, FrameKey, Packed};
use super::openpgp::{self, MessageKey};
use super::pipe::{Receiver, Sender, pipe};
use super::plan::Plan;
use super::pool::Pool;
use super::tap::{Dispatch, Expectation, Frame, FrameBuffers, tap};
use super::wrap::{Digest, Stored, Wrapper, encrypt};
use crate::error::{Context, Error, Result};
use crate::progress::Counters;
use crate::source::{ByteStream, Proof};

/// What to seal and how.
pub struct SealOptions {
    /// The catalog's first record; codec, kind and frame length are taken from it.
    pub archive: ArchiveRecord,
    /// Compression level.
    pub level: i32,
    /// The archive's session key; none only when the operator asked for no encryption.
    pub key: Option<MessageKey>,
    /// The passphrase, for the catalog's own session key.
    pub passphrase: Option<SecretString>,
    /// What the source must be.
    pub expected: Expectation,
    /// How much of everything may be in memory.
    pub plan: Plan,
    /// The buffers of stored octets; the memory bound.
    pub chunks: Pool<Vec<u8>>,
}

/// A sealing under way.
pub struct Sealing {
    /// Octets of the archive, in order.
    pub archive: Receiver<Bytes>,
    /// Octets of the catalog, in order.
    pub catalog: Receiver<Bytes>,
    /// What was sealed; there once both have ended.
    pub sealed: oneshot::Receiver<Sealed>,
}

/// A finished sealing.
pub struct Sealed {
    /// The archive object.
    pub archive: Stored,
    /// The catalog object.
    pub catalog: Stored,
    /// The catalog's last record.
    pub end: EndRecord,
}

/// Starts the stages. The octets must be taken from both receivers as they come; the first failure of any stage
/// arrives at `archive`.
pub fn seal(source: ByteStream, mut options: SealOptions, counters: Arc<Counters>) -> Result<Sealing> {
    let key = options.key.take();
    let cipher = key.as_ref().map(openpgp::Cipher::new).transpose()?;
    options.archive.head_len = key.as_ref().map_or(0, |key| key.head().len() as u64);
    let frame_key = FrameKey::new(key.as_ref().map_or(b"", MessageKey::session), options.archive.id.as_str());
    let plan = options.plan.clone();

    let (jobs, work) = pipe(plan.frames);
    let (tickets, results) = pipe(plan.frames);
    let (records, recorded) = pipe(4);
    let (pieces, to_encrypt) = pipe(4);
    let (encrypted, to_digest) = pipe(4);
    let (archive_out, archive) = pipe(4);
    let (catalog_out, catalog) = pipe(4);
    let (proof, proved) = oneshot::channel();
    let (digested, archive_stored) = oneshot::channel();
    let (sealed_out, sealed) = oneshot::channel();

    let expected = std::mem::take(&mut options.expected);
    let buffers = frame_pool(plan.frames, options.archive.frame_len as usize);
    let tapped = Arc::clone(&counters);
    thread("tap", move || {
        let dispatch = Dispatch::new(jobs, tickets);
        let outcome = tap(source, expected, &buffers, &tapped, |frame| dispatch.send(frame));
        dispatch.finish(outcome.map(|proven| drop(proof.send(proven))));
    })?;

    let work = Arc::new(Mutex::new(work));
    for _ in 0..plan.workers {
        let mut worker = Worker {
            compressor: Compressor::new(options.archive.codec, options.level)?,
            key: frame_key.clone(),
        };
        let work = Arc::clone(&work);
        thread("frame", move || worker.run(&work))?;
    }

    let first = Record::Archive(options.archive.clone());
    let pool = options.chunks;
    thread("packer", move || {
        let emit = |piece| pieces.send_blocking(piece);
        let packed = Wrapper::new(key.as_ref(), pool, emit)
            .and_then(|wrapper| pack(results, wrapper, first, &records));
        records.finish_blocking(packed.as_ref().map(drop).map_err(|_| Error::gone()));
        pieces.finish_blocking(packed);
    })?;

    thread("cipher", move || {
        let mut cipher = cipher;
        stage(to_encrypt, encrypted, |piece| encrypt(&mut cipher, piece));
    })?;

    thread("digest", move || {
        let mut digest = Digest::new();
        let mut to_digest = to_digest;
        let outcome = each(&mut to_digest, |octets: Bytes| {
            digest.update(&octets);
            counters.stored.add(octets.len() as u64);
            archive_out.send_blocking(octets)
        });
        if outcome.is_ok() {
            // Whoever waits for it is gone only when the catalog failed, which says so itself.
            let _ = digested.send(digest.finish());
        }
        archive_out.finish_blocking(outcome);
    })?;

    let passphrase = options.passphrase;
    thread("catalog", move || {
        let mut ended = None;
        let end = |totals: Totals| {
            let proof: Proof = proved.blocking_recv().map_err(|_| Error::gone())?;
            let stored: Stored = archive_stored.blocking_recv().map_err(|_| Error::gone())?;
            let end = end_record(totals, proof, &stored);
            ended = Some((stored, end.clone()));
            Ok(end)
        };
        let written = passphrase.as_ref().map(MessageKey::generate).transpose();
        let written = written.and_then(|key| catalog::write(recorded, end, key, &catalog_out));
        let outcome = written.map(|catalog| {
            if let Some((archive, end)) = ended {
                let _ = sealed_out.send(Sealed { archive, catalog, end });
            }
        });
        catalog_out.finish_blocking(outcome);
    })?;

    Ok(Sealing { archive, catalog, sealed })
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
    let spawned = std::thread::Builder::new().name(name.into()).spawn(run);
    spawned.map(drop).context(|| "cannot start a thread".into())
}

/// Passes every item of a pipe to `work` until its end.
fn each<T>(from: &mut Receiver<T>, mut work: impl FnMut(T) -> Result<()>) -> Result<()> {
    while let Some(item) = from.recv_blocking()? {
        work(item)?;
    }
    Ok(())
}

/// A stage that turns every item into one other.
fn stage<A, B>(mut from: Receiver<A>, to: Sender<B>, mut work: impl FnMut(A) -> B) {
    let outcome = each(&mut from, |item| to.send_blocking(work(item)));
    drop(from);
    to.finish_blocking(outcome);
}

fn frame_pool(frames: usize, frame_len: usize) -> Pool<FrameBuffers> {
    Pool::new(frames, move || FrameBuffers { plain: vec![0; frame_len], len: 0, packed: Packed::default() })
}

/// A compressed frame and what the catalog says of it.
type Done = Result<(Frame, String)>;

struct Worker {
    compressor: Compressor,
    key: FrameKey,
}

impl Worker {
    fn run(&mut self, work: &Mutex<Receiver<(Frame, oneshot::Sender<Done>)>>) {
        loop {
            let job = work.lock().unwrap_or_else(PoisonError::into_inner).recv_blocking();
            let Ok(Some((frame, result))) = job else { return };
            // A collector that is gone has its own reason.
            let _ = result.send(self.pack(frame));
        }
    }

    fn pack(&mut self, mut frame: Frame) -> Done {
        let buffers = &mut *frame.buffers;
        let plain = &buffers.plain[..buffers.len];
        self.compressor.compress(plain, &mut buffers.packed)?;
        let hash = self.key.hash(frame.n, frame.at, buffers.len as u64, buffers.packed.pieces(plain));
        Ok((frame, hash))
    }
}

fn end_record(totals: Totals, proof: Proof, stored: &Stored) -> EndRecord {
    EndRecord {
        frames: totals.frames,
        entries: totals.entries,
        bytes: totals.bytes,
        stored_bytes: stored.size,
        blake3: stored.blake3.clone(),
        exit_code: proof.exit_code,
        warnings: proof.warnings,
        notes: proof.notes,
        finished: jiff::Timestamp::now(),
    }
}

/// Collects the frames in order, packs them, and records them for the catalog.
fn pack(
    mut tickets: Receiver<oneshot::Receiver<Done>>,
    mut wrapper: Wrapper<'_>,
    first: Record,
    records: &Sender<Vec<Record>>,
) -> Result<()> {
    records.send_blocking(vec![first])?;
    let mut stored_at = 0;
    while let Some(ticket) = tickets.recv_blocking()? {
        let (mut frame, blake3) =
            ticket.blocking_recv().map_err(|_| Error::failed("a frame worker died"))??;
        let (len, mut stored_len) = (frame.buffers.len as u64, 0);
        let plain = &frame.buffers.plain[..frame.buffers.len];
        for piece in frame.buffers.packed.pieces(plain) {
            wrapper.push(piece)?;
            stored_len += piece.len() as u64;
        }
        let record = FrameRecord { n: frame.n, at: frame.at, len, stored_at, stored_len, blake3 };
        stored_at += stored_len;
        let entries = std::mem::take(&mut frame.entries).into_iter().map(Record::Entry);
        records.send_blocking(std::iter::once(Record::Frame(record)).chain(entries).collect())?;
    }
    wrapper.finish()
}
