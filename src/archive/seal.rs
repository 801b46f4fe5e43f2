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

use super::Id;
use super::budget::MemoryBudget;
use super::catalog::{self, ArchiveRecord, EndRecord, FrameRecord, Record, Scanned, Totals};
use super::digest::{Digest, ObjectDigest};
use super::frame::{Compressor, FrameKey, Hash, Packed};
use super::openpgp::{Block, Body, Cipher, MessageKey, Packer, SealedBlock, Sealer};
use super::tap::{Frame, FrameBuffers, SourceChecks, tap};
use crate::error::{Error, Result};
use crate::stream::channel::{Receiver, Sender, channel};
use crate::stream::counters::Counters;
use crate::stream::pool::Pool;
use crate::stream::source::{ByteStream, Proof};
use crate::stream::warning::Warning;
use crate::stream::workers::{Dispatch, Results, thread, workers};

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
    /// What a scan of the source adds to the catalog.
    pub scanned: Option<Scanned>,
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

/// What archive and catalog are sealed with: a message key for each, and the passphrase that opens both.
struct Keys {
    archive: MessageKey,
    catalog: MessageKey,
    passphrase: SecretString,
}

impl Keys {
    fn new(cipher: Cipher, passphrase: SecretString) -> Result<Self> {
        Ok(Keys { archive: MessageKey::new(cipher)?, catalog: MessageKey::new(cipher)?, passphrase })
    }
}

/// A message key, and the passphrase that opens the message.
type Lock = (MessageKey, SecretString);

/// Seals a source: starts the stages, each on threads of its own, and returns at once.
///
/// The caller takes the bytes from `archive` and `catalog` as they come, both at the same time: each waits for the other
/// when its channel is full. The first failure of any stage arrives at `archive`, or at `catalog` where the catalog itself
/// failed; a channel that ends without one has given every byte. `sealed` is there once both have ended. Whoever drops a
/// receiver stops all stages. Memory is bounded by `options.plan`, and by `options.chunks`, whose buffers come back when
/// the bytes are dropped.
///
/// What is sealed is not committed: that the bytes arrived is for whoever stores them to prove.
///
/// # Errors
/// A cipher without a passphrase or the reverse, a compressor that cannot be set up, no thread to be had. Whatever happens
/// later, such as a source that does not prove its end, comes by the channels.
///
/// # Examples
/// ```
/// use std::sync::Arc;
///
/// use sealift::archive::budget::{BudgetRequest, MemoryBudget, PartLimits};
/// use sealift::archive::catalog::{ArchiveRecord, FORMAT};
/// use sealift::archive::frame::Codec;
/// use sealift::archive::openpgp::{Cipher, block_pool};
/// use sealift::archive::seal::{SealOptions, seal};
/// use sealift::archive::tap::SourceChecks;
/// use sealift::archive::{Format, Id};
/// use sealift::stream::channel::Receiver;
/// use sealift::stream::counters::Counters;
/// use sealift::stream::source::ByteStream;
///
/// async fn collect(mut from: Receiver<bytes::Bytes>) -> sealift::error::Result<Vec<u8>> {
///     let mut all = Vec::new();
///     while let Some(bytes) = from.recv().await? {
///         all.extend_from_slice(&bytes);
///     }
///     Ok(all)
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let started = jiff::Timestamp::now();
/// let archive = ArchiveRecord {
///     format: FORMAT,
///     id: Id::new(started)?,
///     job: "notes".into(),
///     set: None,
///     host: None,
///     source_id: None,
///     id_map: None,
///     source: serde_json::Value::Null,
///     kind: Format::Raw,
///     codec: Codec::Zstd,
///     cipher: Some(Cipher::Cfb),
///     frame_len: 1 << 20,
///     head_len: 0, // known once it is sealed
///     started,
///     full: false,
/// };
/// let request = BudgetRequest { frame_len: archive.frame_len, ..BudgetRequest::default() };
/// let plan = MemoryBudget::new(&request, PartLimits::NONE)?;
/// let options = SealOptions {
///     archive,
///     level: request.level,
///     passphrase: Some("correct horse".to_string().into()),
///     expected: SourceChecks::default(),
///     chunks: block_pool(plan.chunks),
///     plan,
///     scanned: None,
/// };
/// let sealing = seal(ByteStream::from_bytes("a note"), options, Arc::new(Counters::default()))?;
/// let (archive, catalog) = tokio::join!(collect(sealing.archive), collect(sealing.catalog));
/// let (archive, catalog, sealed) = (archive?, catalog?, sealing.sealed.await?);
/// assert_eq!((sealed.end.bytes, sealed.end.frames), (6, 1));
/// assert_eq!(sealed.archive.size, archive.len() as u64);
/// assert_eq!(sealed.catalog.size, catalog.len() as u64);
/// # Ok(())
/// # }
/// ```
pub fn seal(source: ByteStream, options: SealOptions, counters: Arc<Counters>) -> Result<Sealing> {
    let keys = match (options.archive.cipher, options.passphrase.clone()) {
        (Some(cipher), Some(passphrase)) => Some(Keys::new(cipher, passphrase)?),
        (None, None) => None,
        _ => return Err(Error::failed("a cipher needs a passphrase, and a passphrase a cipher")),
    };
    seal_with(keys, source, options, counters)
}

/// [`seal`] with keys that were made before.
fn seal_with(
    keys: Option<Keys>,
    source: ByteStream,
    mut options: SealOptions,
    counters: Arc<Counters>,
) -> Result<Sealing> {
    options.archive.head_len = keys.as_ref().map_or(0, |keys| keys.archive.cipher().head_len());
    let session = keys.as_ref().map_or(&b""[..], |keys| keys.archive.session());
    let frame_key = FrameKey::new(session, options.archive.id.as_str());
    let sealer = Sealer::new(keys.as_ref().map(|keys| &keys.archive))?;
    let locks = keys.map(|keys| ((keys.archive, keys.passphrase.clone()), (keys.catalog, keys.passphrase)));
    let (archive_lock, catalog_lock) = locks.unzip();

    let (records, recorded) = channel(DEPTH);
    let (archive_out, archive) = channel(DEPTH);
    let (catalog_out, catalog) = channel(DEPTH);
    let (proof, proved) = oneshot::channel();
    let (digested, archive_stored) = oneshot::channel();
    let (sealed_out, sealed) = oneshot::channel();

    let (frames, packed) = start_compressors(&options, &frame_key)?;
    let (blocks, encrypted) = start_ciphers(sealer, options.plan.workers)?;
    start_tap(source, &mut options, Arc::clone(&counters), frames, proof)?;
    let catalog_of = (options.archive.id.clone(), options.scanned.take());
    start_packer(packed, options, Arc::clone(&counters), blocks, records)?;
    start_digest(archive_lock, encrypted, counters, archive_out, digested)?;
    let end = move |totals| {
        let proof = proved.blocking_recv().map_err(|_| Error::disconnected())?;
        let stored: ObjectDigest = archive_stored.blocking_recv().map_err(|_| Error::disconnected())?;
        let warnings = proof.warnings.clone();
        let end = end_record(totals, proof, &stored);
        Ok((stored, end, warnings))
    };
    start_catalog(catalog_of, catalog_lock, recorded, end, catalog_out, sealed_out)?;
    Ok(Sealing { archive, catalog, sealed })
}

/// A frame with the keyed hash that the catalog says of it.
type Hashed = (Frame, Hash);

/// Compression and keyed hashes, on a thread for each worker.
fn start_compressors(
    options: &SealOptions,
    key: &FrameKey,
) -> Result<(Dispatch<Frame, Hashed>, Results<Hashed>)> {
    let (codec, level) = (options.archive.codec, options.level);
    let compressors = (0..options.plan.workers).map(|_| {
        let (mut compressor, key) = (Compressor::new(codec, level)?, key.clone());
        Ok(move |frame| pack_frame(&mut compressor, &key, frame))
    });
    workers("frame", options.plan.frames, compressors.collect::<Result<Vec<_>>>()?)
}

/// Encryption, on as many threads as the cipher allows.
fn start_ciphers(
    sealer: Sealer,
    threads: usize,
) -> Result<(Dispatch<Block, SealedBlock>, Results<SealedBlock>)> {
    let sealers = sealer.shared_by(threads).into_iter();
    workers("cipher", DEPTH, sealers.map(|mut sealer| move |block: Block| sealer.seal(block)).collect())
}

/// Reads the source to its proved end; `proof` is given once it is there.
fn start_tap(
    source: ByteStream,
    options: &mut SealOptions,
    counters: Arc<Counters>,
    frames: Dispatch<Frame, Hashed>,
    proof: oneshot::Sender<Proof>,
) -> Result<()> {
    let expected = std::mem::take(&mut options.expected);
    let buffers = frame_pool(options.plan.frames, options.archive.frame_len as usize);
    thread("tap", move || {
        let outcome = tap(source, expected, &buffers, &counters, |frame| frames.send(frame));
        frames.finish(outcome.map(|proven| drop(proof.send(proven))));
    })
}

/// Lays the frames out in packets and records them for the catalog.
fn start_packer(
    packed: Results<Hashed>,
    options: SealOptions,
    counters: Arc<Counters>,
    blocks: Dispatch<Block, SealedBlock>,
    records: Sender<Vec<Record>>,
) -> Result<()> {
    let SealOptions { archive, chunks, .. } = options;
    thread("packer", move || {
        let packer = Packer::new(archive.cipher, chunks, |block| blocks.send(block));
        let outcome =
            packer.and_then(|packer| pack(packed, packer, Record::Archive(archive), &counters, &records));
        records.finish_blocking(outcome.as_ref().map(drop).map_err(|_| Error::disconnected()));
        blocks.finish(outcome);
    })
}

/// Makes the passphrase a key, puts the sealed blocks into the message behind it, and hashes what is stored.
fn start_digest(
    lock: Option<Lock>,
    mut encrypted: Results<SealedBlock>,
    counters: Arc<Counters>,
    out: Sender<Bytes>,
    digested: oneshot::Sender<ObjectDigest>,
) -> Result<()> {
    thread("digest", move || {
        let mut digest = Digest::new();
        let emit = |bytes: Bytes| {
            digest.update(&bytes);
            counters.stored.add(bytes.len() as u64);
            out.send_blocking(bytes)
        };
        // The stages before it begin while the passphrase is being made a key.
        let key = lock.as_ref().map(|(key, phrase)| Ok((key, key.head(phrase)?)));
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
        out.finish_blocking(outcome);
    })
}

/// Seals the catalog, whose last record is known by `end` once all else is.
fn start_catalog(
    (id, scanned): (Id, Option<Scanned>),
    lock: Option<Lock>,
    recorded: Receiver<Vec<Record>>,
    end: impl FnOnce(Totals) -> Result<(ObjectDigest, EndRecord, Vec<Warning>)> + Send + 'static,
    out: Sender<Bytes>,
    sealed: oneshot::Sender<Sealed>,
) -> Result<()> {
    thread("catalog", move || {
        let mut ended = None;
        let end = |totals| {
            let (archive, end, warnings) = end(totals)?;
            ended = Some((archive, end.clone(), warnings));
            Ok(end)
        };
        let key = lock.as_ref().map(|(key, phrase)| (key, phrase));
        let outcome = catalog::write(recorded, &id, scanned, end, key, &out).map(|catalog| {
            if let Some((archive, end, warnings)) = ended {
                let _ = sealed.send(Sealed { archive, catalog, end, warnings });
            }
        });
        out.finish_blocking(outcome);
    })
}

fn frame_pool(frames: usize, frame_len: usize) -> Pool<FrameBuffers> {
    Pool::new(frames, move || FrameBuffers { plain: vec![0; frame_len], len: 0, packed: Packed::default() })
}

/// Compresses a frame; returns it with the keyed hash that the catalog says of it.
fn pack_frame(compressor: &mut Compressor, key: &FrameKey, mut frame: Frame) -> Result<Hashed> {
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
        kept: totals.kept,
        partial: proof.is_partial,
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
    mut frames: Results<Hashed>,
    mut packer: Packer<impl FnMut(Block) -> Result<()>>,
    first: Record,
    counters: &Counters,
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
        counters.framed.add(len);
        let record =
            FrameRecord { n: frame.n, at: frame.at, len, stored_at, stored_len, blake3, reference: 0 };
        stored_at += stored_len;
        let entries = std::mem::take(&mut frame.entries).into_iter().map(Record::Entry);
        records.send_blocking(std::iter::once(Record::Frame(record)).chain(entries).collect())?;
    }
    packer.finish()
}

/// [`seal`], with a passphrase that is tried in no time.
#[cfg(test)]
pub(crate) fn seal_cheaply(
    source: ByteStream,
    options: SealOptions,
    counters: Arc<Counters>,
) -> Result<Sealing> {
    let keys = options.archive.cipher.zip(options.passphrase.clone()).map(|(cipher, passphrase)| {
        let key = || MessageKey::with_cheap_passphrase(cipher);
        Ok(Keys { archive: key()?, catalog: key()?, passphrase })
    });
    seal_with(keys.transpose()?, source, options, counters)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::frame::Codec;
    use crate::archive::testing::{How, PASSPHRASE, Stored, drain, noise, source, tar_checks};
    use crate::error::Kind;

    fn how(cipher: Option<Cipher>) -> How {
        How::new(cipher, Codec::Zstd, 4096)
    }

    async fn with_the_real_count(cipher: Cipher) {
        let (options, bytes) = (how(Some(cipher)).options(), noise(10_000));
        let id = options.archive.id.clone();
        let source = ByteStream::from_bytes(bytes.clone());
        let sealing = seal(source, options, Arc::new(Counters::default())).unwrap();
        let stored = Stored::collect(id, sealing).await.unwrap();
        assert!(stored.restore(Some(PASSPHRASE)).await.unwrap() == bytes);
    }

    #[tokio::test]
    async fn a_cfb_archive_with_the_real_count_is_opened_by_its_passphrase() {
        with_the_real_count(Cipher::Cfb).await;
    }

    #[tokio::test]
    async fn an_aead_archive_with_the_real_count_is_opened_by_its_passphrase() {
        with_the_real_count(Cipher::Aead).await;
    }

    #[tokio::test]
    async fn another_passphrase_is_told_from_damage() {
        for cipher in [Cipher::Cfb, Cipher::Aead] {
            let stored = how(Some(cipher)).seal(ByteStream::from_bytes("x")).await.unwrap();
            let error = stored.restore(Some("another")).await.unwrap_err();
            assert_eq!(error.kind(), Kind::WrongPassphrase, "{cipher:?}");
        }
    }

    #[test]
    fn a_cipher_and_a_passphrase_go_together() {
        for cipher in [None, Some(Cipher::Cfb)] {
            let mut options = how(cipher).options();
            options.passphrase = if cipher.is_some() { None } else { Some(PASSPHRASE.into()) };
            assert!(seal(ByteStream::from_bytes("x"), options, Arc::new(Counters::default())).is_err());
        }
    }

    #[tokio::test]
    async fn a_source_that_fails_ends_the_archive_with_its_cause() {
        for cipher in [Some(Cipher::Cfb), Some(Cipher::Aead), None] {
            let source = source(noise(50_000), 1000, Err(Error::failed("exit code 2")));
            let sealing = seal_cheaply(source, how(cipher).options(), Arc::new(Counters::default())).unwrap();
            let (archive, catalog) = tokio::join!(drain(sealing.archive), drain(sealing.catalog));
            assert_eq!(archive.unwrap_err().to_string(), "exit code 2", "{cipher:?}");
            assert_eq!(catalog.unwrap_err().kind(), Kind::Disconnected, "{cipher:?}");
            assert!(sealing.sealed.await.is_err(), "{cipher:?}");
        }
    }

    #[tokio::test]
    async fn a_tar_that_breaks_off_is_never_sealed() {
        let how = How { checks: tar_checks(), ..how(None) };
        let cut = crate::archive::testing::tar()[..5000].to_vec();
        let error = how.seal(ByteStream::from_bytes(cut)).await.err().unwrap();
        assert!(error.to_string().contains("end marker"), "{error}");
    }

    #[tokio::test]
    async fn whoever_drops_the_archive_stops_the_sealing() {
        let options = how(Some(Cipher::Aead)).options();
        let source = ByteStream::from_bytes(noise(3 << 20));
        let sealing = seal_cheaply(source, options, Arc::new(Counters::default())).unwrap();
        drop(sealing.archive);
        assert_eq!(drain(sealing.catalog).await.unwrap_err().kind(), Kind::Disconnected);
        assert!(sealing.sealed.await.is_err());
    }

    #[tokio::test]
    async fn two_sealings_of_the_same_bytes_share_nothing() {
        for cipher in [Cipher::Cfb, Cipher::Aead] {
            let seal =
                || async { how(Some(cipher)).seal(ByteStream::from_bytes(noise(5000))).await.unwrap() };
            let (first, second) = (seal().await, seal().await);
            assert_eq!(first.archive.len(), second.archive.len());
            let same = first.archive.iter().zip(&second.archive).skip(100).filter(|(a, b)| a == b).count();
            assert!(same < first.archive.len() / 50, "{cipher:?}: {same} equal bytes");
            let mixed = Stored { archive: second.archive.clone(), ..first };
            assert_eq!(
                mixed.restore(Some(PASSPHRASE)).await.unwrap_err().kind(),
                Kind::Damaged,
                "{cipher:?}"
            );
        }
    }
}
