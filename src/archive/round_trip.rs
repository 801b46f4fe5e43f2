//! Seal → open, in memory: sizes, frame lengths and chunkings of a source under every cipher and codec.

#![allow(clippy::single_range_in_vec_init, reason = "one range is a list of ranges, too")]

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use bytes::Bytes;
use futures_util::TryStreamExt;
use secrecy::SecretString;

use super::frame::Codec;
use super::open::{Archive, Opened};
use super::openpgp::Cipher;
use super::read_at::{InMemory, ReadAt};
use super::sequential::{self, Layer};
use super::testing::{How, PASSPHRASE, Stored, noise, read, source, tar, tar_checks, text};
use crate::error::{Kind, Result};
use crate::stream::source::{ByteStream, Proof};
use crate::tar::Entry;

const FRAME: usize = 4096;
const MIB: usize = 1 << 20;

fn passphrase(cipher: Option<Cipher>) -> Option<&'static str> {
    cipher.map(|_| PASSPHRASE)
}

async fn sealed(how: &How, bytes: &[u8], step: usize) -> Stored {
    let mut how = how.clone();
    how.checks.allow_empty = true;
    how.seal(source(bytes.to_vec(), step, Ok(Proof::default()))).await.unwrap()
}

/// Seals, holds what was sealed against what is said of it, and opens.
async fn round_trip(how: &How, bytes: &[u8], step: usize) {
    let what = format!("{how:?}, {} bytes in pieces of {step}", bytes.len());
    let stored = sealed(how, bytes, step).await;
    let (said, end) = (&stored.sealed, &stored.sealed.end);
    assert_eq!(said.archive.size, stored.archive.len() as u64, "{what}");
    assert_eq!(said.archive.blake3, blake3::hash(&stored.archive).to_hex().as_str(), "{what}");
    assert_eq!(said.catalog.size, stored.catalog.len() as u64, "{what}");
    assert_eq!(said.catalog.blake3, blake3::hash(&stored.catalog).to_hex().as_str(), "{what}");
    assert_eq!((end.stored_bytes, &end.blake3), (said.archive.size, &said.archive.blake3), "{what}");
    let frames = bytes.len().div_ceil(how.frame_len).max(1);
    assert_eq!((end.bytes, end.frames), (bytes.len() as u64, frames as u64), "{what}");
    let archive = stored.open(passphrase(how.cipher)).await.unwrap();
    assert_eq!(archive.contents().frames.len(), frames, "{what}");
    assert!(read(&archive, &archive.whole()).await.unwrap() == bytes, "{what}");
}

async fn sizes_around_a_frame(cipher: Option<Cipher>, codec: Codec) {
    let how = How::new(cipher, codec, FRAME);
    for size in [0, 1, FRAME - 1, FRAME, FRAME + 1, 3 * FRAME, 3 * FRAME + 7] {
        round_trip(&how, &text(size), 1000).await;
    }
}

async fn frames_of_any_length(cipher: Option<Cipher>, codec: Codec) {
    for (frame_len, size) in [(1, 40), (511, 2000), (FRAME, 20_000), (65_536, 150_000), (MIB, 150_000)] {
        round_trip(&How::new(cipher, codec, frame_len), &noise(size), 10_000).await;
    }
}

async fn sources_in_pieces_of_any_length(cipher: Option<Cipher>, codec: Codec) {
    let how = How::new(cipher, codec, FRAME);
    for step in [1, 7, FRAME - 1, FRAME, FRAME + 1, MIB] {
        round_trip(&how, &text(3 * FRAME + 100), step).await;
    }
}

async fn sizes_around_the_seams_of_a_mebibyte(cipher: Option<Cipher>, codec: Codec) {
    let how = How::new(cipher, codec, 256 << 10);
    // What is in front of the data, and the codec's own bytes, move the seam: both sides of it are met.
    for size in [MIB - 6000, MIB - 60, MIB - 6, MIB, MIB + 1] {
        round_trip(&how, &noise(size), 100_000).await;
    }
}

async fn any_range_is_read_alone(cipher: Option<Cipher>, codec: Codec) {
    let bytes = noise(10 * FRAME + 5);
    let stored = sealed(&How::new(cipher, codec, FRAME), &bytes, 9999).await;
    let archive = stored.open(passphrase(cipher)).await.unwrap();
    let (frame, end) = (FRAME as u64, bytes.len() as u64);
    let ranges: [&[Range<u64>]; 8] = [
        &[0..1],
        &[frame - 1..frame + 1],
        &[frame..2 * frame],
        &[end - 1..end],
        &[5 * frame + 1..9 * frame - 1],
        &[0..10, 20..30, 3 * frame..3 * frame + 1, end - 7..end],
        &[7..frame, frame..frame + 7],
        &[],
    ];
    for ranges in ranges {
        let expected: Vec<u8> = ranges
            .iter()
            .flat_map(|range| &bytes[range.start as usize..range.end as usize])
            .copied()
            .collect();
        assert!(read(&archive, ranges).await.unwrap() == expected, "{ranges:?}");
    }
    let fetched: u64 = archive
        .frames(&[frame..frame + 1], 2)
        .try_fold(0, |sum, opened| async move { Ok(sum + opened.fetched.len() as u64) })
        .await
        .unwrap();
    assert!(fetched < 2 * frame, "{fetched} bytes fetched for one frame of {frame}");
}

async fn a_tar_is_listed_as_it_is(cipher: Option<Cipher>, codec: Codec) {
    let how = How { checks: tar_checks(), ..How::new(cipher, codec, 1500) };
    let stored = sealed(&how, &tar(), 700).await;
    let mut members: Vec<Entry> = Vec::new();
    let contents =
        stored.contents_with(passphrase(cipher), |entry| members.push(entry.clone())).await.unwrap();
    let names: Vec<_> = members.iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(names, ["etc/", "etc/hosts", "empty", "a very long one", "last"]);
    assert_eq!(contents.end.entries, 5);
    let archive = stored.open(passphrase(cipher)).await.unwrap();
    let data = members[3].data().unwrap();
    assert!(read(&archive, &[data]).await.unwrap() == noise(9000), "one member by its range");
}

/// Reads the archive as the layers' own tools do: without the catalog.
async fn it_is_read_from_the_front(cipher: Option<Cipher>, codec: Codec) {
    let bytes = [noise(5000), text(30_000)].concat();
    let stored = sealed(&How::new(cipher, codec, FRAME), &bytes, 3000).await;
    let layers: Vec<Layer> =
        cipher.map(|_| Layer::OpenPgp).into_iter().chain(Layer::of_codec(codec)).collect();
    let pieces =
        stored.archive.chunks(777).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect::<Vec<_>>();
    let secret = || Ok(SecretString::from(PASSPHRASE));
    let stream = Box::pin(futures_util::stream::iter(pieces));
    let sequential::Unwrapped { layers: found, stream: plain, .. } =
        sequential::unwrap(stream, Some(&layers), &secret).await.unwrap();
    assert_eq!(found, layers);
    assert!(plain.try_collect::<Vec<_>>().await.unwrap().concat() == bytes);
}

fn flipped(bytes: &Bytes, at: usize) -> Bytes {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 0x10;
    bytes.into()
}

async fn a_flipped_byte_never_gives_other_bytes(cipher: Option<Cipher>, codec: Codec) {
    let bytes = [noise(2000), text(8000)].concat();
    let stored = sealed(&How::new(cipher, codec, FRAME), &bytes, 3000).await;
    let (secret, mut refused) = (passphrase(cipher), 0);
    let len = stored.archive.len();
    let places: Vec<_> =
        (0..len.min(120)).step_by(7).chain((0..len).step_by(len / 40)).chain([len - 1]).collect();
    for &at in &places {
        let damaged = Stored { archive: flipped(&stored.archive, at), ..stored.clone() };
        match damaged.restore(secret).await {
            Ok(read) => assert!(read == bytes, "byte {at}"),
            Err(error) => {
                refused += 1;
                assert!(matches!(error.kind(), Kind::Damaged | Kind::WrongPassphrase), "byte {at}: {error}");
            }
        }
    }
    // What no frame lies in: lengths, and the proof of the whole message, which a restore by ranges does not need.
    assert!(refused > places.len() / 2, "{refused} of {}", places.len());
}

async fn a_flipped_byte_in_the_catalog_is_refused(cipher: Option<Cipher>, codec: Codec) {
    let stored = sealed(&How::new(cipher, codec, FRAME), &text(8000), 3000).await;
    let whole = stored.contents(passphrase(cipher)).await.unwrap();
    for at in (0..stored.catalog.len()).step_by(5) {
        let damaged = Stored { catalog: flipped(&stored.catalog, at), ..stored.clone() };
        match damaged.contents(passphrase(cipher)).await {
            // Without encryption a bit of the zstd header may mean nothing.
            Ok(contents) => assert!(cipher.is_none() && contents.frames == whole.frames, "byte {at}"),
            Err(error) => {
                assert!(matches!(error.kind(), Kind::Damaged | Kind::WrongPassphrase), "byte {at}: {error}");
            }
        }
    }
}

async fn what_is_cut_is_refused(cipher: Option<Cipher>, codec: Codec) {
    let stored = sealed(&How::new(cipher, codec, FRAME), &text(8000), 3000).await;
    for cut in [0, 1, 2, 60, stored.archive.len() / 2, stored.archive.len() - 1] {
        let damaged = Stored { archive: stored.archive.slice(..cut), ..stored.clone() };
        let error = damaged.restore(passphrase(cipher)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged, "archive cut at {cut}: {error}");
    }
    for cut in [0, 1, 2, 60, stored.catalog.len() / 2, stored.catalog.len() - 30, stored.catalog.len() - 1] {
        let damaged = Stored { catalog: stored.catalog.slice(..cut), ..stored.clone() };
        let error = damaged.restore(passphrase(cipher)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged, "catalog cut at {cut}: {error}");
    }
}

macro_rules! seal_open {
    ($($name:ident: $cipher:expr, $codec:expr;)*) => {$(
        mod $name {
            seal_open!(@ $cipher, $codec; sizes_around_a_frame, frames_of_any_length,
                sources_in_pieces_of_any_length, sizes_around_the_seams_of_a_mebibyte, any_range_is_read_alone,
                a_tar_is_listed_as_it_is, it_is_read_from_the_front, a_flipped_byte_never_gives_other_bytes,
                a_flipped_byte_in_the_catalog_is_refused, what_is_cut_is_refused);
        }
    )*};
    (@ $cipher:expr, $codec:expr; $($promise:ident),*) => {$(
        #[tokio::test]
        async fn $promise() {
            use crate::archive::round_trip::{Cipher, Codec};
            crate::archive::round_trip::$promise($cipher, $codec).await;
        }
    )*};
}

mod seal_open {
    seal_open! {
        cfb_zstd: Some(Cipher::Cfb), Codec::Zstd;
        cfb_gzip: Some(Cipher::Cfb), Codec::Gzip;
        cfb_xz: Some(Cipher::Cfb), Codec::Xz;
        cfb_none: Some(Cipher::Cfb), Codec::None;
        aead_zstd: Some(Cipher::Aead), Codec::Zstd;
        aead_gzip: Some(Cipher::Aead), Codec::Gzip;
        aead_xz: Some(Cipher::Aead), Codec::Xz;
        aead_none: Some(Cipher::Aead), Codec::None;
        clear_zstd: None::<Cipher>, Codec::Zstd;
        clear_gzip: None::<Cipher>, Codec::Gzip;
        clear_xz: None::<Cipher>, Codec::Xz;
        clear_none: None::<Cipher>, Codec::None;
    }
}

/// Flips a byte in so many answers.
struct Flips(InMemory, AtomicU32);

#[async_trait::async_trait]
impl ReadAt for Flips {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn size(&self) -> u64 {
        self.0.size()
    }

    async fn read_at(&self, range: Range<u64>) -> Result<Bytes> {
        let mut bytes = self.0.read_at(range).await?.to_vec();
        if self.1.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
            bytes[0] ^= 1;
        }
        Ok(bytes.into())
    }
}

#[tokio::test]
async fn a_byte_that_is_flipped_on_its_way_is_fetched_once_more() {
    let stored = How::new(None, Codec::None, 1000).seal(ByteStream::from_bytes(noise(9_500))).await.unwrap();
    let read = async |flips: u32| -> Result<Vec<Opened>> {
        let object = Flips(InMemory::new("x", stored.archive.clone()), flips.into());
        let archive = Arc::new(Archive::open(Arc::new(object), stored.contents(None).await?, None)?);
        archive.frames(&archive.whole(), 1).try_collect().await
    };
    let pieces: Vec<Bytes> =
        read(1).await.unwrap().into_iter().flat_map(|opened| opened.frames).map(|(_, plain)| plain).collect();
    assert!(pieces.concat() == noise(9_500));
    assert_eq!(read(2).await.err().map(|e| e.kind()), Some(Kind::Damaged));
}
