//! Frames: the independent pieces an archive is compressed in. One frame in, one frame out, both ways.
//!
//! Every codec concatenates: zstd frames (RFC 8878 §3), gzip members (RFC 1952 §2.2) and xz streams (§2 of the xz
//! format) one after the other are what `zstd -d`, `gzip -d` and `xz -d` read. So frames compress on all cores and
//! any one of them can be read alone.

use std::fmt;
use std::io::Read;
use std::str::FromStr;

use async_compression::Level;
use async_compression::tokio::write::{GzipEncoder, XzEncoder};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;

use crate::error::{Context, Error, Result};
use crate::report::hex;

/// Bytes of source in one frame, unless said otherwise.
pub const FRAME_LEN: usize = 4 << 20;

/// How the frames of an archive are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// zstd frames with content size and checksum.
    Zstd,
    /// gzip members.
    Gzip,
    /// xz streams.
    Xz,
    /// The source's bytes as they are.
    None,
}

impl Codec {
    /// What the object's name carries for it.
    pub fn suffix(self) -> &'static str {
        match self {
            Codec::Zstd => ".zst",
            Codec::Gzip => ".gz",
            Codec::Xz => ".xz",
            Codec::None => "",
        }
    }

    /// The level used when none is asked for.
    pub fn default_level(self) -> i32 {
        if self == Codec::Zstd { 3 } else { 6 }
    }

    /// The levels that make sense for it.
    pub fn levels(self) -> std::ops::RangeInclusive<i32> {
        match self {
            Codec::Zstd => 1..=22,
            _ => 0..=9,
        }
    }

    /// Bytes that one worker's compressor takes beside its buffers, at `level`.
    pub fn worker_memory(self, level: i32) -> usize {
        const MIB: usize = 1 << 20;
        match (self, level) {
            (Codec::Zstd, ..=4) => 6 * MIB,
            (Codec::Zstd, ..=9) => 28 * MIB,
            (Codec::Zstd, _) => 90 * MIB,
            // The xz manual's table of CompCpuMem.
            (Codec::Xz, ..=3) => 32 * MIB,
            (Codec::Xz, ..=6) => 94 * MIB,
            (Codec::Xz, _) => 674 * MIB,
            (Codec::Gzip, _) => MIB,
            (Codec::None, _) => 0,
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Codec::Zstd => "zstd",
            Codec::Gzip => "gzip",
            Codec::Xz => "xz",
            Codec::None => "none",
        })
    }
}

impl FromStr for Codec {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "auto" | "zstd" => Ok(Codec::Zstd),
            "gzip" => Ok(Codec::Gzip),
            "xz" => Ok(Codec::Xz),
            "none" => Ok(Codec::None),
            _ => {
                Err(Error::usage(format!("unknown compression {name:?}"))
                    .hint("auto, zstd, gzip, xz or none"))
            }
        }
    }
}

/// One worker's compressor, used again for every frame.
pub struct Compressor {
    codec: Codec,
    level: i32,
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl Compressor {
    /// A compressor of frames.
    ///
    /// # Errors
    /// The codec does not take that level.
    pub fn new(codec: Codec, level: i32) -> Result<Self> {
        let zstd = (codec == Codec::Zstd).then(|| zstd_compressor(level)).transpose();
        Ok(Compressor { codec, level, zstd: zstd.context(|| "cannot set up zstd".into())? })
    }

    /// Compresses one frame of source bytes into `packed`, which is emptied first.
    ///
    /// # Errors
    /// The codec failed, for want of memory.
    pub fn compress(&mut self, plain: &[u8], packed: &mut Packed) -> Result<()> {
        packed.raw = false;
        let stored = &mut packed.bytes;
        stored.clear();
        match (&mut self.zstd, self.codec) {
            (Some(zstd), _) if !raw::is_incompressible(plain) => {
                stored.reserve(zstd::zstd_safe::compress_bound(plain.len()));
                zstd.compress_to_buffer(plain, stored).context(|| "zstd failed".into())?;
            }
            (Some(_), _) => {
                raw::headers(plain, stored);
                packed.raw = true;
            }
            (None, Codec::Gzip) => {
                let level = Level::Precise(self.level);
                *stored = in_memory(GzipEncoder::with_quality(std::mem::take(stored), level), plain, |e| {
                    e.into_inner()
                })?;
            }
            (None, Codec::Xz) => {
                let level = Level::Precise(self.level);
                *stored = in_memory(XzEncoder::with_quality(std::mem::take(stored), level), plain, |e| {
                    e.into_inner()
                })?;
            }
            (None, _) => stored.extend_from_slice(plain),
        }
        Ok(())
    }
}

/// A compressed frame.
#[derive(Debug, Default)]
pub struct Packed {
    /// Its bytes; of a frame of raw blocks only the headers, between which the source's bytes lie as they are.
    bytes: Vec<u8>,
    raw: bool,
}

impl Packed {
    /// The frame's bytes in order, where `plain` is what was compressed: nothing that does not shrink is copied here.
    pub fn pieces<'a>(&'a self, plain: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let whole = (!self.raw).then_some(&self.bytes[..]);
        let raw = self.raw.then(|| raw::pieces(&self.bytes, plain));
        whole.into_iter().chain(raw.into_iter().flatten())
    }
}

fn zstd_compressor(level: i32) -> std::io::Result<zstd::bulk::Compressor<'static>> {
    let mut compressor = zstd::bulk::Compressor::new(level)?;
    compressor.include_checksum(true)?;
    compressor.include_contentsize(true)?;
    Ok(compressor)
}

/// Runs an async encoder whose sink is memory, so that it is never pending: on this thread, without a runtime.
fn in_memory<E: tokio::io::AsyncWrite + Unpin>(
    mut encoder: E,
    plain: &[u8],
    into_inner: impl FnOnce(E) -> Vec<u8>,
) -> Result<Vec<u8>> {
    let done = async {
        encoder.write_all(plain).await?;
        encoder.shutdown().await
    };
    futures_util::FutureExt::now_or_never(done)
        .unwrap_or_else(|| Err(std::io::Error::other("an in-memory encoder waited")))
        .context(|| "compression failed".into())?;
    Ok(into_inner(encoder))
}

/// Reads one frame back: exactly `len` bytes of source.
///
/// # Errors
/// The frame is damaged, or holds more or fewer bytes than the catalog says (so a decompression bomb stops there).
pub fn decompress(codec: Codec, stored: &[u8], len: usize, plain: &mut Vec<u8>) -> Result<()> {
    plain.clear();
    // zstd writes as much as there is room for and no more; the others are asked for one byte too many.
    plain.reserve_exact(len + usize::from(codec != Codec::Zstd));
    let limit = len as u64 + 1;
    let read = match codec {
        Codec::Zstd => {
            zstd::bulk::Decompressor::new().and_then(|mut d| d.decompress_to_buffer(stored, plain))
        }
        Codec::Gzip => {
            decode_in_memory(async_compression::tokio::bufread::GzipDecoder::new(stored), limit, plain)
        }
        Codec::Xz => {
            decode_in_memory(async_compression::tokio::bufread::XzDecoder::new(stored), limit, plain)
        }
        Codec::None => stored.take(limit).read_to_end(plain),
    };
    read.map_err(|e| Error::damaged("a frame does not decompress").because(e))?;
    if plain.len() != len {
        return Err(Error::damaged(format!(
            "a frame holds {} bytes where the catalog says {len}",
            plain.len()
        )));
    }
    Ok(())
}

fn decode_in_memory(
    decoder: impl tokio::io::AsyncRead + Unpin,
    limit: u64,
    plain: &mut Vec<u8>,
) -> std::io::Result<usize> {
    let mut limited = tokio::io::AsyncReadExt::take(decoder, limit);
    let done = tokio::io::AsyncReadExt::read_to_end(&mut limited, plain);
    futures_util::FutureExt::now_or_never(done)
        .unwrap_or_else(|| Err(std::io::Error::other("an in-memory decoder waited")))
}

/// zstd frames of raw blocks, for what does not shrink: at the speed of a copy.
mod raw {
    use xxhash_rust::xxh64::xxh64;

    // RFC 8878 §3.1.1.2.4: a raw block holds at most 128 KiB.
    const LARGEST_BLOCK: usize = 128 << 10;
    const SAMPLES: usize = 16;
    const SAMPLE_LEN: usize = 2 << 10;

    /// Guesses from samples spread over `plain` whether zstd would gain anything.
    pub fn is_incompressible(plain: &[u8]) -> bool {
        if plain.len() < 4 * SAMPLES * SAMPLE_LEN {
            return false;
        }
        let stride = plain.len() / SAMPLES;
        (0..SAMPLES).all(|i| looks_random(&plain[i * stride..][..SAMPLE_LEN]))
    }

    /// Whether the bytes are spread as evenly as random ones are: 2,048 random bytes have a sum of squared counts
    /// of 18,400 ± 180; text, code and sparse tables are far above.
    fn looks_random(sample: &[u8]) -> bool {
        let mut counts = [0u32; 256];
        sample.iter().for_each(|&b| counts[usize::from(b)] += 1);
        counts.iter().map(|c| c * c).sum::<u32>() < 20_500
    }

    /// Bytes of the frame's own header: magic, descriptor, content size.
    const FRAME_HEADER: usize = 9;
    /// Bytes of a block's header.
    const BLOCK_HEADER: usize = 3;

    /// RFC 8878 §3.1.1, without the blocks' content: magic, a header with the content size in four bytes, the headers
    /// of raw blocks, the checksum.
    pub fn headers(plain: &[u8], headers: &mut Vec<u8>) {
        headers.extend_from_slice(&0xFD2F_B528u32.to_le_bytes());
        // Frame_Content_Size_flag 2 (four bytes), Single_Segment_flag, Content_Checksum_flag.
        headers.push(0b1010_0100);
        headers.extend_from_slice(&(plain.len() as u32).to_le_bytes());
        let mut blocks = plain.chunks(LARGEST_BLOCK).peekable();
        while let Some(block) = blocks.next() {
            let last = u32::from(blocks.peek().is_none());
            headers.extend_from_slice(&((block.len() as u32) << 3 | last).to_le_bytes()[..BLOCK_HEADER]);
        }
        headers.extend_from_slice(&(xxh64(plain, 0) as u32).to_le_bytes());
    }

    /// The frame's bytes in order, of its `headers` and the source's bytes.
    pub fn pieces<'a>(headers: &'a [u8], plain: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let (first, rest) = headers.split_at(FRAME_HEADER);
        let (of_blocks, checksum) = rest.split_at(rest.len() - 4);
        let blocks = of_blocks.chunks(BLOCK_HEADER).zip(plain.chunks(LARGEST_BLOCK));
        std::iter::once(first).chain(blocks.flat_map(|(header, block)| [header, block])).chain([checksum])
    }
}

/// A keyed BLAKE3: 32 bytes, in hex where it is written.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hash(pub [u8; 32]);

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> String {
        hex(&hash.0)
    }
}

impl TryFrom<String> for Hash {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        let hash = blake3::Hash::from_hex(&text);
        hash.map(|hash| Hash(hash.into())).map_err(|e| Error::damaged("a hash is none").because(e))
    }
}

/// The identity of an archive, which its frame hashes are bound to.
#[derive(Clone)]
pub struct FrameKey {
    key: [u8; 32],
    id: String,
}

impl FrameKey {
    /// Derives the key of an archive's frame hashes from its session key (BLAKE3 derive_key mode).
    pub fn new(session_key: &[u8], id: &str) -> Self {
        let key = blake3::derive_key("sealift 2026-11-22 format 1 frame hash", session_key);
        FrameKey { key, id: id.into() }
    }

    /// The hash of frame `n`, which holds `len` bytes of source from `at`, stored as the `pieces` in a row.
    pub fn hash<'a>(&self, n: u64, at: u64, len: u64, pieces: impl IntoIterator<Item = &'a [u8]>) -> Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&(self.id.len() as u64).to_le_bytes()).update(self.id.as_bytes());
        [n, at, len].iter().for_each(|x| {
            hasher.update(&x.to_le_bytes());
        });
        pieces.into_iter().for_each(|piece| {
            hasher.update(piece);
        });
        Hash(*hasher.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn every_codec_gives_the_bytes_back() {
        let text: Vec<u8> = b"a line of a database dump\n".iter().copied().cycle().take(300_000).collect();
        for codec in [Codec::Zstd, Codec::Gzip, Codec::Xz, Codec::None] {
            let mut compressor = Compressor::new(codec, codec.default_level()).unwrap();
            let (mut packed, mut plain) = (Packed::default(), Vec::new());
            for input in [&b""[..], b"x", &text, &noise(1 << 20), &noise((128 << 10) * 3)] {
                compressor.compress(input, &mut packed).unwrap();
                let stored = packed.pieces(input).collect::<Vec<_>>().concat();
                decompress(codec, &stored, input.len(), &mut plain).unwrap();
                assert!(plain == input, "{codec} {}", input.len());
                assert!(stored.len() < input.len() + 200);
            }
        }
    }

    #[test]
    fn noise_becomes_raw_blocks_and_text_does_not() {
        assert!(raw::is_incompressible(&noise(1 << 20)));
        let mut mixed = noise(1 << 20);
        mixed[500_000..600_000].fill(b' ');
        assert!(!raw::is_incompressible(&mixed));
        let base64: Vec<u8> =
            noise(1 << 20).iter().map(|b| b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef"[usize::from(b & 31)]).collect();
        assert!(!raw::is_incompressible(&base64));
    }

    #[test]
    fn a_frame_that_holds_more_than_the_catalog_says_is_refused() {
        let (mut packed, mut plain, bomb) = (Packed::default(), Vec::new(), vec![0; 50 << 20]);
        Compressor::new(Codec::Zstd, 3).unwrap().compress(&bomb, &mut packed).unwrap();
        let stored = packed.pieces(&bomb).collect::<Vec<_>>().concat();
        assert!(decompress(Codec::Zstd, &stored, 1000, &mut plain).is_err());
        assert!(plain.capacity() < 1 << 20, "a bomb must not be unpacked");
    }

    #[test]
    fn a_hash_depends_on_all_that_it_binds() {
        let key = FrameKey::new(b"session", "id");
        let all = [
            key.hash(0, 0, 9, [&b"x"[..]]),
            key.hash(1, 0, 9, [&b"x"[..]]),
            key.hash(0, 1, 9, [&b"x"[..]]),
            key.hash(0, 0, 8, [&b"x"[..]]),
            key.hash(0, 0, 9, [&b"y"[..]]),
            FrameKey::new(b"session", "other").hash(0, 0, 9, [&b"x"[..]]),
            FrameKey::new(b"another", "id").hash(0, 0, 9, [&b"x"[..]]),
        ];
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }
}
