//! Reading from the front, without a catalog: layers of encryption and compression are found by their magic numbers
//! and taken off one by one. What comes out is confirmed only when its end is reached, so nothing reads this way
//! unless it was asked to.

use std::io::{self, Read};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use async_compression::tokio::bufread::{Lz4Decoder, XzDecoder, ZstdDecoder};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, TryStreamExt};
use secrecy::SecretString;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::io::StreamReader;

use super::frame::Codec;
use super::openpgp;
use crate::error::{Error, Result};
use crate::stream::channel::{self, Receiver, Sender, channel, channel_from};

mod members;

pub use members::Trailing;

/// Bytes in a piece of what comes out of a layer.
const PIECE_LEN: usize = 1 << 20;
/// Pieces that may wait between two layers.
const DEPTH: usize = 4;
/// Bytes that an xz stream's decoder may take: four times what `xz -9` needs.
const XZ_MEMORY: u64 = 256 << 20;
/// Bytes at the front that tell every layer.
const MAGIC_LEN: usize = 16;

/// A stream of bytes: it ends where its end was proved, or with an error.
pub type BytesStream = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// What a stream may be wrapped in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// An OpenPGP message, binary or armored.
    OpenPgp,
    /// Zstandard (RFC 8878).
    Zstd,
    /// gzip (RFC 1952).
    Gzip,
    /// xz.
    Xz,
    /// bzip2.
    Bzip2,
    /// LZ4 frames.
    Lz4,
}

impl Layer {
    /// The layer that begins with `head`.
    pub fn of(head: &[u8]) -> Option<Layer> {
        match head {
            // An OpenPGP message begins with a packet that leads to its session key (RFC 9580 §4.2, §5.1, §5.3):
            // SKESK of version 4 to 6, or PKESK of version 3 to 6, with a new or an old header.
            [0xC3 | 0x8C, _, 4..=6, ..] | [0xC1 | 0x84, _, 3..=6, ..] | [0xC1 | 0x85, _, _, 3..=6, ..] => {
                Some(Layer::OpenPgp)
            }
            _ if head.starts_with(b"-----BEGIN PGP MESSAGE-----"[..MAGIC_LEN].as_ref()) => {
                Some(Layer::OpenPgp)
            }
            [0x28, 0xB5, 0x2F, 0xFD, ..] => Some(Layer::Zstd),
            // Skippable frames (RFC 8878 §3.1.2): zstd's more often than LZ4's.
            [0x50..=0x5F, 0x2A, 0x4D, 0x18, ..] => Some(Layer::Zstd),
            [0x1F, 0x8B, 8, ..] => Some(Layer::Gzip),
            [0xFD, b'7', b'z', b'X', b'Z', 0, ..] => Some(Layer::Xz),
            // A block or, of nothing, the end: pi or its root.
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..]
            | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => Some(Layer::Bzip2),
            [0x04, 0x22, 0x4D, 0x18, ..] => Some(Layer::Lz4),
            _ => None,
        }
    }

    /// The layer that a codec of our own makes.
    pub fn of_codec(codec: Codec) -> Option<Layer> {
        match codec {
            Codec::Zstd => Some(Layer::Zstd),
            Codec::Gzip => Some(Layer::Gzip),
            Codec::Xz => Some(Layer::Xz),
            Codec::None => None,
        }
    }

    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Layer::OpenPgp => "OpenPGP",
            Layer::Zstd => "zstd",
            Layer::Gzip => "gzip",
            Layer::Xz => "xz",
            Layer::Bzip2 => "bzip2",
            Layer::Lz4 => "LZ4",
        }
    }

    /// What is behind the last member of gzip and bzip2 is passed over where `trailing` takes note of it.
    fn take_off(
        self,
        stream: BytesStream,
        passphrase: Passphrase<'_>,
        trailing: Option<&Trailing>,
    ) -> Result<BytesStream> {
        let reader = |stream: BytesStream| StreamReader::new(stream.map_err(io::Error::other));
        // What is concatenated belongs together, as the layers' own tools have it.
        macro_rules! decoder {
            ($decoder:expr) => {{
                let mut decoder = $decoder;
                decoder.multiple_members(true);
                self.decompress(decoder)
            }};
        }
        Ok(match self {
            Layer::OpenPgp => decrypt(stream, passphrase()?),
            // Its window is bounded by the library: 128 MiB, as with `zstd -d`.
            Layer::Zstd => decoder!(ZstdDecoder::new(reader(stream))),
            Layer::Gzip | Layer::Bzip2 => self.decompress_members(stream, trailing.cloned()),
            Layer::Xz => decoder!(XzDecoder::with_mem_limit(reader(stream), XZ_MEMORY)),
            Layer::Lz4 => decoder!(Lz4Decoder::new(reader(stream))),
        })
    }

    fn decompress(self, mut decoder: impl AsyncRead + Unpin + Send + 'static) -> BytesStream {
        let (sender, receiver) = channel(DEPTH);
        tokio::spawn(async move {
            let outcome = pass_on(&mut decoder, &sender).await;
            sender.finish(outcome.map_err(|e| self.damage(e))).await;
        });
        received(receiver)
    }

    /// gzip and bzip2, as their own tools do it.
    fn decompress_members(self, stream: BytesStream, trailing: Option<Trailing>) -> BytesStream {
        let (sender, receiver) = channel(DEPTH);
        tokio::spawn(async move {
            let outcome = members::decompress(self, stream, trailing.as_ref(), &sender).await;
            sender.finish(outcome.map_err(|e| self.damage(e))).await;
        });
        received(receiver)
    }

    /// A failure that came from below stays what it is.
    fn damage(self, error: io::Error) -> Error {
        let damaged = |e: io::Error| {
            match needs_more_memory(&e) {
            true => {
                Error::failed(format!("the {} stream needs too much memory", self.name())).because(e).hint(
                    "fetch the object and unpack it by its own tool: zstd -d --long=31, or xz -d --memlimit=2GiB",
                )
            }
            false => Error::damaged(format!("the {} stream is damaged or ends early", self.name())).because(e),
        }
        };
        error.downcast::<Error>().unwrap_or_else(damaged)
    }
}

/// Whether a decoder refused a stream that is sound, but was made for more memory than we take.
///
/// By text, because the decoders hand on no type: of zstd's error code they pass on its name, and liblzma's error type is
/// one of a library that only they use.
fn needs_more_memory(error: &io::Error) -> bool {
    let code = zstd::zstd_safe::zstd_sys::ZSTD_ErrorCode::ZSTD_error_frameParameter_windowTooLarge;
    // The library's error codes are returned as negative sizes.
    let zstd = zstd::zstd_safe::get_error_name((code as usize).wrapping_neg());
    [zstd, "memory limit reached"].contains(&error.to_string().as_str())
}

/// Asks for the passphrase, once it is known that one is needed.
pub type Passphrase<'a> = &'a dyn Fn() -> Result<SecretString>;

/// A stream without its layers.
pub struct Unwrapped {
    /// Those that were found, from the outside in.
    pub layers: Vec<Layer>,
    /// What was in them.
    pub stream: BytesStream,
    /// What was passed over behind them.
    pub trailing: Trailing,
}

/// Takes the layers off a stream: those `expected`, or without any expectation at most one encryption and one
/// compression, in whichever order.
///
/// # Errors
/// Another layer than the one expected; a passphrase that does not open the message.
pub async fn unwrap(
    mut stream: BytesStream,
    expected: Option<&[Layer]>,
    passphrase: Passphrase<'_>,
) -> Result<Unwrapped> {
    let (mut layers, trailing): (Vec<Layer>, _) = (Vec::new(), Trailing::default());
    // What we make ends where its last layer ends.
    let tolerated = expected.is_none().then_some(&trailing);
    loop {
        let (head, whole) = peek(stream, MAGIC_LEN).await?;
        stream = whole;
        let found = Layer::of(&head);
        let next = match expected {
            Some(expected) => match (expected.get(layers.len()), found) {
                (Some(expected), Some(found)) if *expected == found => Some(found),
                (Some(expected), _) => {
                    return Err(Error::damaged(format!("no {} stream where one must be", expected.name())));
                }
                (None, _) => None,
            },
            None => found.filter(|found| {
                let encrypts = |layer: &Layer| *layer == Layer::OpenPgp;
                !layers.iter().any(|known| encrypts(known) == encrypts(found))
            }),
        };
        let Some(layer) = next else { return Ok(Unwrapped { layers, stream, trailing }) };
        stream = layer.take_off(stream, passphrase, tolerated)?;
        layers.push(layer);
    }
}

/// Looks at up to `len` bytes of a stream, and returns them and the whole stream.
///
/// # Errors
/// The stream failed before it gave them.
pub async fn peek(mut stream: BytesStream, len: usize) -> Result<(Bytes, BytesStream)> {
    let mut head = BytesMut::new();
    let mut seen = Vec::new();
    while head.len() < len {
        let Some(piece) = stream.next().await else { break };
        let piece = piece?;
        head.extend_from_slice(&piece[..piece.len().min(len - head.len())]);
        seen.push(Ok(piece));
    }
    Ok((head.freeze(), Box::pin(futures_util::stream::iter(seen).chain(stream))))
}

/// Decrypts on a thread, because Sequoia reads from blocking readers.
fn decrypt(stream: BytesStream, passphrase: SecretString) -> BytesStream {
    let (sender, receiver) = channel(DEPTH);
    let message = channel_from(stream, DEPTH);
    tokio::task::spawn_blocking(move || {
        let below = Arc::new(Mutex::new(None));
        let reader = Noting { reader: channel::Reader::new(message), failure: Arc::clone(&below) };
        let outcome = openpgp::decrypt(reader, &passphrase).and_then(|mut plain| {
            loop {
                let mut piece = BytesMut::zeroed(PIECE_LEN);
                match plain.read(&mut piece) {
                    Ok(0) => return Ok(()),
                    Ok(len) => sender.send_blocking(piece.split_to(len).freeze())?,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => {
                        return Err(Error::damaged("the OpenPGP message is damaged or ends early").because(e));
                    }
                }
            }
        });
        let below = below.lock().unwrap_or_else(PoisonError::into_inner).take();
        sender.finish_blocking(outcome.map_err(|error| below.unwrap_or(error)));
    });
    received(receiver)
}

/// A reader that keeps its failure, which Sequoia would hand on as a text only.
struct Noting {
    reader: channel::Reader,
    failure: Arc<Mutex<Option<Error>>>,
}

impl Read for Noting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read_some(buffer).map_err(|error| {
            let text = error.to_string();
            self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            io::Error::other(text)
        })
    }
}

async fn pass_on(decoder: &mut (impl AsyncRead + Unpin), sender: &Sender<Bytes>) -> io::Result<()> {
    loop {
        let mut piece = BytesMut::with_capacity(PIECE_LEN);
        while piece.len() < PIECE_LEN && decoder.read_buf(&mut piece).await? > 0 {}
        if piece.is_empty() {
            return Ok(());
        }
        sender.send(piece.freeze()).await.map_err(io::Error::other)?;
    }
}

fn received(receiver: Receiver<Bytes>) -> BytesStream {
    Box::pin(futures_util::stream::try_unfold(receiver, |mut receiver| async move {
        // A thread that died says nothing; a sink must not take that for its own end.
        let next = receiver.recv().await.map_err(|e| e.or_cause(Error::failed("a worker died")))?;
        Ok(next.map(|piece| (piece, receiver)))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layer_is_known_by_its_front_and_a_tar_is_none() {
        for (head, layer) in [
            (&b"\xC3\x0D\x04\x09\x03\x08"[..], Some(Layer::OpenPgp)),
            (b"\x8C\x0D\x04\x09\x03\x08", Some(Layer::OpenPgp)),
            (b"\xC3\x4C\x06\x1A\x09\x03", Some(Layer::OpenPgp)),
            (b"\x85\x02\x0C\x03abc", Some(Layer::OpenPgp)),
            (b"-----BEGIN PGP MESSAGE-----\n\n", Some(Layer::OpenPgp)),
            (b"\x28\xB5\x2F\xFD\0", Some(Layer::Zstd)),
            (b"\x1F\x8B\x08\0", Some(Layer::Gzip)),
            (b"\xFD7zXZ\0\0", Some(Layer::Xz)),
            (b"BZh91AY&SY..", Some(Layer::Bzip2)),
            (b"BZh9 is what he wrote", None),
            (b"\x04\x22\x4D\x18d", Some(Layer::Lz4)),
            (b"./\0\0\0\0", None),
            (b"", None),
        ] {
            assert_eq!(Layer::of(head), layer, "{head:?}");
        }
    }

    /// Twelve bytes of a zstd frame whose window is 2 GiB: sound, and refused.
    const WIDE_ZSTD: &[u8] = b"\x28\xB5\x2F\xFD\x00\xA8\x01\x00\x00\x00\x00\x00";

    async fn decoded(layer: Layer, bytes: &'static [u8]) -> Result<Vec<Bytes>> {
        let stream: BytesStream = Box::pin(futures_util::stream::iter([Ok(Bytes::from_static(bytes))]));
        let no_passphrase = || Err(Error::failed("asked for a passphrase"));
        layer.take_off(stream, &no_passphrase, None)?.try_collect().await
    }

    #[tokio::test]
    async fn a_window_that_is_too_wide_is_no_damage() {
        let error = decoded(Layer::Zstd, WIDE_ZSTD).await.unwrap_err();
        assert_eq!(error.kind().exit_code(), 1, "{error}");
        assert!(error.to_string().starts_with("the zstd stream needs too much memory: "), "{error}");
        assert!(error.hint_text().unwrap().contains("--long=31"));
    }

    #[tokio::test]
    async fn a_stream_that_is_cut_is_damaged() {
        for (layer, bytes) in [
            (Layer::Zstd, &b"\x28\xB5\x2F\xFD\x00"[..]),
            (Layer::Gzip, b"\x1F\x8B\x08\x00"),
            (Layer::Xz, b"\xFD7zXZ\0\0\x04"),
        ] {
            let error = decoded(layer, bytes).await.unwrap_err();
            assert_eq!(error.kind().exit_code(), 13, "{}: {error}", layer.name());
        }
    }

    #[test]
    fn liblzmas_memory_limit_is_no_damage() {
        assert!(needs_more_memory(&io::Error::other("memory limit reached")));
        assert!(!needs_more_memory(&io::Error::other("Restored data doesn't match checksum")));
    }
}
