//! Sealing: from a source's bytes to the bytes of archive and catalog, each stage on threads of its own.
//!
//! tap → frames (compression, keyed hash) → packer → cipher (encryption, SHA-1) → digest (partial lengths, BLAKE3) → out
//!
//! Frames are as many threads as there are workers, and so is the cipher where its chunks are independent (AEAD); CFB is
//! one thread.

use std::sync::Arc;

use bytes::Bytes;
use secrecy::SecretString;
use tokio::sync::oneshot;

use super::budget::MemoryBudget;
use super::catalog::{self, ArchiveRecord, EndRecord, FrameRecord, Record, Totals};
use super::digest::{Digest, ObjectDigest};
use super::frame::{Compressor, FrameKey, Packed};
use super::openpgp::{Block, Body, Cipher, MessageKey, Packer, Sealer};
use super::tap::{Frame, FrameBuffers, SourceChecks, tap};
use crate::error::{Error, Result};
use crate::stream::channel::{Receiver, Sender, channel};
use crate::stream::counters::Counters;
use crate::stream::pool::Pool;
use crate::stream::source::{ByteStream, Proof};
use crate::stream::warning::Warning;
use crate::stream::workers::{Results, thread, workers};

/// What to seal and how.
pub struct SealOptions {
    /// The catalog's first record; codec, cipher, kind and frame length are taken from it.
    pub archive: ArchiveRecord,
    /// Compression level.
    pub level: i32,
    /// The passphrase; none only when the operator asked for no encryption.
    pub passphrase: Option<SecretString>,
    /// What the source must be.
    pub expected: SourceChecks,
    /// How much of everything may be in memory.
    pub plan: MemoryBudget,
    /// The buffers of stored bytes; the memory bound.
    pub chunks: Pool<Vec<u8>>,
}

/// Items that may wait between two stages.
const DEPTH: usize = 8;

/// A sealing under way.
pub struct Sealing {
    /// Bytes of the archive, in order.
    pub archive: Receiver<Bytes>,
    /// Bytes of the catalog, in order.
    pub catalog: Receiver<Bytes>,
    /// What was sealed; there once both have ended.
    pub sealed: oneshot::Receiver<Sealed>,
}

/// A finished sealing.
pub struct Sealed {
    /// The archive object.
    pub archive: ObjectDigest,
    /// The catalog object.
    pub catalog: ObjectDigest,
    /// The catalog's last record.
    pub end: EndRecord,
    /// The warnings that it has the texts of.
    pub warnings: Vec<Warning>,
}

/// Starts the stages. The bytes must be taken from both receivers as they come; the first failure of any stage
/// arrives at `archive`.
pub fn seal(source: ByteStream, mut options: SealOptions, counters: Arc<Counters>) -> Result<Sealing> {
    let cipher = options.archive.cipher;
    if cipher.is_some() != options.passphrase.is_some() {
        return Err(Error::failed("a cipher needs a passphrase, and a passphrase a cipher"));
    }
    let key = cipher.map(MessageKey::new).transpose()?;
    let sealer = Sealer::new(key.as_ref())?;
    options.archive.head_len = cipher.map_or(0, Cipher::head_len);
    let frame_key = FrameKey::new(key.as_ref().map_or(b"", MessageKey::session), options.archive.id.as_str());
    let plan = options.plan.clone();

    let (records, recorded) = channel(DEPTH);
    let (archive_out, archive) = channel(DEPTH);
    let (catalog_out, catalog) = channel(DEPTH);
    let (proof, proved) = oneshot::channel();
    let (digested, archive_stored) = oneshot::channel();
    let (sealed_out, sealed) = oneshot::channel();

    let (codec, level) = (options.archive.codec, options.level);
    let compressors = (0..plan.workers).map(|_| {
        let (mut compressor, key) = (Compressor::new(codec, level)?, frame_key.clone());
        Ok(move |frame| pack_frame(&mut compressor, &key, frame))
    });
    let (frames, packed) = workers("frame", plan.frames, compressors.collect::<Result<Vec<_>>>()?)?;

    let sealers = sealer.shared_by(plan.workers).into_iter();
    let sealers = sealers.map(|mut sealer| move |block: Block| sealer.seal(block));
    let (blocks, mut encrypted) = workers("cipher", DEPTH, sealers.collect())?;

    let expected = std::mem::take(&mut options.expected);
    let buffers = frame_pool(plan.frames, options.archive.frame_len as usize);
    let tapped = Arc::clone(&counters);
    thread("tap", move || {
        let outcome = tap(source, expected, &buffers, &tapped, |frame| frames.send(frame));
        frames.finish(outcome.map(|proven| drop(proof.send(proven))));
    })?;

    let first = Record::Archive(options.archive.clone());
    let pool = options.chunks;
    thread("packer", move || {
        let packer = Packer::new(cipher, pool, |block| blocks.send(block));
        let outcome = packer.and_then(|packer| pack(packed, packer, first, &records));
        records.finish_blocking(outcome.as_ref().map(drop).map_err(|_| Error::disconnected()));
        blocks.finish(outcome);
    })?;

    let passphrase = options.passphrase.clone();
    thread("digest", move || {
        let mut digest = Digest::new();
        let emit = |bytes: Bytes| {
            digest.update(&bytes);
            counters.stored.add(bytes.len() as u64);
            archive_out.send_blocking(bytes)
        };
        // The stages before it begin while the passphrase is being made a key.
        let key = key.as_ref().zip(passphrase.as_ref()).map(|(key, phrase)| Ok((key, key.head(phrase)?)));
        let outcome = key.transpose().and_then(|key| {
            let mut body = Body::new(key, emit)?;
            while let Some(sealed) = encrypted.next_blocking()? {
                body.push(sealed)?;
            }
            Ok(())
        });
        if outcome.is_ok() {
            // Whoever waits for it is gone only when the catalog failed, which says so itself.
            let _ = digested.send(digest.finish());
        }
        // Those before it are not to wait for anybody.
        drop(encrypted);
        archive_out.finish_blocking(outcome);
    })?;

    let passphrase = options.passphrase;
    thread("catalog", move || {
        let mut ended = None;
        let end = |totals: Totals| {
            let proof: Proof = proved.blocking_recv().map_err(|_| Error::disconnected())?;
            let stored: ObjectDigest = archive_stored.blocking_recv().map_err(|_| Error::disconnected())?;
            let warnings = proof.warnings.clone();
            let end = end_record(totals, proof, &stored);
            ended = Some((stored, end.clone(), warnings));
            Ok(end)
        };
        let written = catalog::write(recorded, end, cipher.zip(passphrase.as_ref()), &catalog_out);
        let outcome = written.map(|catalog| {
            if let Some((archive, end, warnings)) = ended {
                let _ = sealed_out.send(Sealed { archive, catalog, end, warnings });
            }
        });
        catalog_out.finish_blocking(outcome);
    })?;

    Ok(Sealing { archive, catalog, sealed })
}

fn frame_pool(frames: usize, frame_len: usize) -> Pool<FrameBuffers> {
    Pool::new(frames, move || FrameBuffers { plain: vec![0; frame_len], len: 0, packed: Packed::default() })
}

/// Compresses a frame; returns it with the keyed hash that the catalog says of it.
fn pack_frame(compressor: &mut Compressor, key: &FrameKey, mut frame: Frame) -> Result<(Frame, String)> {
    let buffers = &mut *frame.buffers;
    let plain = &buffers.plain[..buffers.len];
    compressor.compress(plain, &mut buffers.packed)?;
    let hash = key.hash(frame.n, frame.at, buffers.len as u64, buffers.packed.pieces(plain));
    Ok((frame, hash))
}

fn end_record(totals: Totals, proof: Proof, stored: &ObjectDigest) -> EndRecord {
    EndRecord {
        frames: totals.frames,
        entries: totals.entries,
        bytes: totals.bytes,
        stored_bytes: stored.size,
        blake3: stored.blake3.clone(),
        exit_code: proof.exit_code,
        warnings: proof.warnings.into_iter().map(|warning| warning.text).collect(),
        notes: proof.notes,
        finished: jiff::Timestamp::now(),
    }
}

/// Collects the frames in order, packs them, and records them for the catalog.
fn pack(
    mut frames: Results<(Frame, String)>,
    mut packer: Packer<impl FnMut(Block) -> Result<()>>,
    first: Record,
    records: &Sender<Vec<Record>>,
) -> Result<()> {
    records.send_blocking(vec![first])?;
    let mut stored_at = 0;
    while let Some((mut frame, blake3)) = frames.next_blocking()? {
        let (len, mut stored_len) = (frame.buffers.len as u64, 0);
        let plain = &frame.buffers.plain[..frame.buffers.len];
        for piece in frame.buffers.packed.pieces(plain) {
            packer.push(piece)?;
            stored_len += piece.len() as u64;
        }
        let record = FrameRecord { n: frame.n, at: frame.at, len, stored_at, stored_len, blake3 };
        stored_at += stored_len;
        let entries = std::mem::take(&mut frame.entries).into_iter().map(Record::Entry);
        records.send_blocking(std::iter::once(Record::Frame(record)).chain(entries).collect())?;
    }
    packer.finish()
}
