//! Each stage of a sealing and of an opening, alone and on one thread: what the benches call of sealift's lies here.

#![allow(dead_code, reason = "every bench takes its part of it")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use bytes::Bytes;
use sealift::archive::Format;
use sealift::archive::frame::{Codec, Compressor, FRAME_LEN, FrameKey, Packed, decompress};
use sealift::archive::openpgp::layout::Layout;
use sealift::archive::openpgp::{Block, Body, Cipher, Head, MessageKey, Opener, Packer, Sealer, block_pool};
use sealift::archive::tap::{FrameBuffers, SourceChecks, tap};
use sealift::error::Result;
use sealift::stream::channel::channel;
use sealift::stream::counters::Counters;
use sealift::stream::pool::Pool;
use sealift::stream::source::{ByteStream, Proof};
use sealift::stream::workers::workers;
use sealift::tar::Walker;

/// Bytes in a piece of a source, as an engine or a store delivers them at best.
const PIECE: usize = 1 << 20;
/// What a source's end is believed by.
const PROOF: Proof = Proof {
    exit_code: Some(0),
    warnings: Vec::new(),
    notes: Vec::new(),
    unproved: Vec::new(),
    is_partial: false,
};

/// A source that has all its bytes in memory.
pub fn source(data: &Bytes) -> ByteStream {
    let (to, from) = channel(4);
    let (prove, proof) = tokio::sync::oneshot::channel();
    let data = data.clone();
    std::thread::spawn(move || {
        let _ = prove.send(Ok(PROOF));
        let sent = (0..data.len())
            .step_by(PIECE)
            .try_for_each(|at| to.send_blocking(data.slice(at..data.len().min(at + PIECE))));
        to.finish_blocking(sent);
    });
    ByteStream::from_chunks(from, proof)
}

/// Cuts a source into frames and follows its tar; the frames are dropped.
pub fn cut(data: &Bytes, format: Format) -> Result<()> {
    let make = || FrameBuffers { plain: vec![0; FRAME_LEN], len: 0, packed: Packed::default() };
    let (pool, expected) = (Pool::new(4, make), SourceChecks { format, ..SourceChecks::default() });
    let frames = |frame| {
        drop(black_box(frame));
        Ok(())
    };
    tap(source(data), expected, &pool, &Counters::default(), frames).map(drop)
}

/// Follows a tar that lies in memory already.
pub fn walk(tar: &[u8]) -> Result<()> {
    let (mut walker, mut found) = (Walker::new(), Vec::new());
    tar.chunks(FRAME_LEN).try_for_each(|frame| walker.feed(frame, &mut found))?;
    black_box(found);
    walker.finish()
}

/// Compresses a source frame by frame and hands the pieces of each on.
pub fn compress(
    data: &[u8],
    level: i32,
    mut each: impl FnMut(&mut dyn Iterator<Item = &[u8]>),
) -> Result<()> {
    let (mut compressor, mut packed) = (Compressor::new(Codec::Zstd, level)?, Packed::default());
    data.chunks(FRAME_LEN).try_for_each(|frame| {
        compressor.compress(frame, &mut packed)?;
        each(&mut packed.pieces(frame));
        Ok(())
    })
}

/// A source's compressed frames.
pub fn frames(data: &[u8], level: i32) -> Result<Vec<Vec<u8>>> {
    let mut frames = Vec::new();
    compress(data, level, |pieces| frames.push(pieces.collect::<Vec<_>>().concat()))?;
    Ok(frames)
}

/// A message's key and head; its passphrase does not matter here.
pub fn key(cipher: Cipher) -> Result<(MessageKey, Bytes)> {
    let key = MessageKey::new(cipher)?;
    let head = key.head(&"bench".to_string().into())?;
    Ok((key, head))
}

/// Lays frames out in blocks of a message; `emit` gets them.
pub fn pack(cipher: Cipher, frames: &[Vec<u8>], emit: impl FnMut(Block) -> Result<()>) -> Result<()> {
    let mut packer = Packer::new(Some(cipher), block_pool(32), emit)?;
    frames.iter().try_for_each(|frame| packer.push(frame))?;
    packer.finish()
}

/// A message made by one thread.
pub fn seal_on_one(
    (key, head): &(MessageKey, Bytes),
    frames: &[Vec<u8>],
    mut out: impl FnMut(Bytes),
) -> Result<()> {
    let mut sealer = Sealer::new(Some(key))?;
    let mut body = Body::new(Some((key, head.clone())), |bytes| {
        out(bytes);
        Ok(())
    })?;
    pack(key.cipher(), frames, |block| body.push(sealer.seal(block)?))
}

/// A message packed by one thread and encrypted by others.
pub fn seal_on_many((key, _): &(MessageKey, Bytes), frames: &[Vec<u8>], sealers: usize) -> Result<()> {
    let sealers = Sealer::new(Some(key))?.shared_by(sealers);
    let sealers = sealers.into_iter().map(|mut sealer| move |block: Block| sealer.seal(block));
    let (blocks, mut sealed) = workers("cipher", 4, sealers.collect())?;
    std::thread::scope(|scope| {
        let collector = scope.spawn(move || -> Result<()> {
            while let Some(sealed) = sealed.next_blocking()? {
                drop(black_box(sealed));
            }
            Ok(())
        });
        let packed = pack(key.cipher(), frames, |block| blocks.send(block));
        blocks.finish(packed);
        collector.join().unwrap_or_else(|_| unreachable!("it does not panic"))
    })
}

/// Hashes with SHA-1 or SHA-256, chunk by chunk.
pub fn sha(algorithm: &'static digest::Algorithm, data: &[u8]) {
    let mut context = digest::Context::new(algorithm);
    data.chunks(PIECE).for_each(|chunk| context.update(chunk));
    black_box(context.finish());
}

/// The keyed hash of every frame.
pub fn hash_frames<'a>(frames: impl Iterator<Item = &'a [u8]>) {
    let key = FrameKey::new(b"bench", "20261122T020000Z-1f2e3d4c");
    for (n, frame) in (0..).zip(frames) {
        black_box(key.hash(n, n * FRAME_LEN as u64, FRAME_LEN as u64, [frame]));
    }
}

/// A sealed message, and how it lies there.
pub struct SealedMessage {
    bytes: Vec<u8>,
    layout: Layout,
    opener: Opener,
}

impl SealedMessage {
    /// Seals frames.
    pub fn new(cipher: Cipher, frames: &[Vec<u8>]) -> Result<Self> {
        let (key, mut bytes) = (key(cipher)?, Vec::new());
        seal_on_one(&key, frames, |piece| bytes.extend_from_slice(&piece))?;
        let data = frames.iter().map(|frame| frame.len() as u64).sum();
        let Head { len: head, opener, .. } = Head::open(&bytes[..512], &"bench".to_string().into())?;
        Ok(SealedMessage { bytes, layout: Layout { cipher, head, data }, opener })
    }

    /// Decrypts it range by range, as a restore does.
    pub fn decrypt(&self) -> Result<()> {
        let mut text = Vec::new();
        (0..self.layout.data).step_by(8 << 20).try_for_each(|at| {
            let span = self.layout.span(at..self.layout.data.min(at + (8 << 20)));
            let fetched = &self.bytes[span.object.start as usize..span.object.end as usize];
            black_box(span.open(fetched, &mut text, Some(&self.opener))?);
            Ok(())
        })
    }
}

/// Reads frames of a source of `len` bytes back, into memory that is used again as a restore does.
pub fn expand(frames: &[Vec<u8>], mut len: usize) -> Result<()> {
    let mut plain = Vec::new();
    frames.iter().try_for_each(|frame| {
        let now = len.min(FRAME_LEN);
        len -= now;
        decompress(Codec::Zstd, frame, now, &mut plain)?;
        black_box(&plain);
        Ok(())
    })
}

/// What one thread takes for a stage.
pub struct Cost {
    /// The stage.
    pub stage: &'static str,
    /// For a GB of source.
    pub seconds: f64,
    /// Whether no second thread can help it.
    pub serial: bool,
}

/// What each stage of a backup costs, alone, for a GB (10^9 bytes) of this source.
pub fn costs(tar: &Bytes, level: i32, cipher: Cipher) -> Result<Vec<Cost>> {
    let frames = frames(tar, level)?;
    let sealed: Vec<u8> = frames.concat();
    let (key, mut encryption) = (key(cipher)?, Duration::ZERO);
    let scale = 1e9 / tar.len() as f64;
    let mut costs = Vec::new();
    let mut add = |stage, serial, time: Duration| {
        costs.push(Cost { stage, serial, seconds: time.as_secs_f64() * scale });
    };
    add("tap and tar walk", true, best(|| cut(tar, Format::Tar))?);
    add("zstd frames", false, best(|| compress(tar, level, |pieces| _ = black_box(pieces.count())))?);
    add(
        "frame hashes (BLAKE3)",
        false,
        best(|| {
            hash_frames(frames.iter().map(Vec::as_slice));
            Ok(())
        })?,
    );
    let packing = best(|| pack(cipher, &frames, |_| Ok(())))?;
    let (packets, mode) = match cipher {
        Cipher::Cfb => ("packets", "AES-256-CFB and SHA-1"),
        Cipher::Aead => ("packets", "AES-256-GCM"),
    };
    add(packets, true, packing);
    for _ in 0..ROUNDS {
        let sealing = best_of(1, || seal_on_one(&key, &frames, |bytes| drop(black_box(bytes))))?;
        let alone = sealing.saturating_sub(packing);
        encryption = if encryption.is_zero() { alone } else { encryption.min(alone) };
    }
    add(mode, cipher == Cipher::Cfb, encryption);
    add(
        "BLAKE3 of what is stored",
        true,
        best(|| {
            black_box(blake3::hash(&sealed));
            Ok(())
        })?,
    );
    Ok(costs)
}

/// How often a stage is timed; the best counts, since others can only slow it down.
const ROUNDS: usize = 3;

fn best(work: impl FnMut() -> Result<()>) -> Result<Duration> {
    best_of(ROUNDS, work)
}

fn best_of(rounds: usize, mut work: impl FnMut() -> Result<()>) -> Result<Duration> {
    let times = (0..rounds).map(|_| {
        let start = Instant::now();
        work().map(|()| start.elapsed())
    });
    Ok(times.collect::<Result<Vec<_>>>()?.into_iter().min().unwrap_or_default())
}

/// Seconds for a GB that so many cores allow: the stages shared out evenly, but no stage faster than one core where it
/// is serial.
pub fn allowed(costs: &[Cost], cores: usize) -> f64 {
    let sum: f64 = costs.iter().map(|cost| cost.seconds).sum();
    let serial = costs.iter().filter(|cost| cost.serial).map(|cost| cost.seconds);
    serial.fold(sum / cores as f64, f64::max)
}
