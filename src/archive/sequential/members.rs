//! gzip and bzip2 streams: members that follow each other, and what their own tools pass over behind the last one.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use async_compression::tokio::bufread::{BzDecoder, GzipDecoder};
use bytes::{Bytes, BytesMut};
use futures_util::stream::Fuse;
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncBufRead, AsyncBufReadExt};
use tokio_util::io::StreamReader;

use super::{BytesStream, Layer, pass_on};
use crate::stream::channel::Sender;

/// Whether bytes that are no member were passed over behind the last one; known at the end of the stream.
#[derive(Debug, Clone, Default)]
pub struct Trailing(Arc<AtomicBool>);

impl Trailing {
    /// Whether any were.
    pub fn was_passed_over(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Decompresses member after member. What begins like no member is passed over where `trailing` takes note of it, and
/// otherwise taken for one that is damaged.
pub(super) async fn decompress(
    layer: Layer,
    stream: BytesStream,
    trailing: Option<&Trailing>,
    sender: &Sender<Bytes>,
) -> io::Result<()> {
    let mut reader = StreamReader::new(Pushback { front: None, stream: stream.fuse() });
    loop {
        let magic = match layer {
            Layer::Bzip2 => {
                pass_on(&mut BzDecoder::new(&mut reader), sender).await?;
                &b"BZh"[..]
            }
            _ => {
                pass_on(&mut GzipDecoder::new(&mut reader), sender).await?;
                // Tapes are filled up with them.
                skip_zeros(&mut reader).await?;
                b"\x1F\x8B"
            }
        };
        let head = peek(&mut reader, magic.len()).await?;
        if head.is_empty() {
            return Ok(());
        }
        // A member that is cut within its first bytes is one.
        if let Some(trailing) = trailing.filter(|_| !magic.starts_with(&head)) {
            trailing.0.store(true, Ordering::Relaxed);
            // To the end all the same: the layer around it may have a proof there.
            return skip(&mut reader).await;
        }
    }
}

/// A stream that bytes can be put back to.
struct Pushback {
    front: Option<Bytes>,
    stream: Fuse<BytesStream>,
}

impl Stream for Pushback {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.front.take() {
            Some(front) => Poll::Ready(Some(Ok(front))),
            None => self.stream.poll_next_unpin(cx).map_err(io::Error::other),
        }
    }
}

/// The next `len` bytes, as far as there are so many, which stay there.
async fn peek(reader: &mut StreamReader<Pushback, Bytes>, len: usize) -> io::Result<Vec<u8>> {
    // Members may be many, and short: most often nothing has to be put back.
    if let Some(head) = reader.fill_buf().await?.get(..len) {
        return Ok(head.to_vec());
    }
    let mut seen = BytesMut::new();
    while seen.len() < len {
        let bytes = reader.fill_buf().await?;
        if bytes.is_empty() {
            break;
        }
        let taken = bytes.len();
        seen.extend_from_slice(bytes);
        reader.consume(taken);
    }
    let head = seen[..seen.len().min(len)].to_vec();
    reader.get_mut().front = (!seen.is_empty()).then(|| seen.freeze());
    Ok(head)
}

async fn skip_zeros(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<()> {
    loop {
        let bytes = reader.fill_buf().await?;
        let (len, zeros) = (bytes.len(), bytes.iter().take_while(|&&b| b == 0).count());
        reader.consume(zeros);
        if len == 0 || zeros < len {
            return Ok(());
        }
    }
}

async fn skip(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<()> {
    loop {
        let len = reader.fill_buf().await?.len();
        if len == 0 {
            return Ok(());
        }
        reader.consume(len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Result};
    use crate::stream::channel::channel;

    /// `printf a | gzip -n`
    const GZIP: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x4b\x04\0\x43\xbe\xb7\xe8\x01\0\0\0";
    /// `printf a | bzip2`
    const BZIP2: &[u8] = b"BZh91AY&SY\x19\x93\x9bk\0\0\0\x01\0 \0 \0!\x18F\x82\xeeH\xa7\x0a\x12\x032sm`";

    /// What comes out of pieces of `len` bytes, and whether some were passed over; none where it is damaged.
    async fn unpacked(layer: Layer, bytes: &[u8], len: usize, tolerant: bool) -> Option<(Vec<u8>, bool)> {
        let pieces: Vec<_> = bytes.chunks(len).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let (sender, mut receiver) = channel(64);
        let trailing = Trailing::default();
        let stream: BytesStream = Box::pin(futures_util::stream::iter(pieces));
        decompress(layer, stream, tolerant.then_some(&trailing), &sender).await.ok()?;
        sender.finish(Ok(())).await;
        let mut text = Vec::new();
        while let Some(piece) = receiver.recv().await.unwrap() {
            text.extend_from_slice(&piece);
        }
        Some((text, trailing.was_passed_over()))
    }

    #[tokio::test]
    async fn members_follow_each_other_and_what_is_none_behind_them_is_passed_over_as_their_tools_do() {
        for (layer, member) in [(Layer::Gzip, GZIP), (Layer::Bzip2, BZIP2)] {
            for len in [1, 7, 1000] {
                let name = layer.name();
                let twice = [member, member].concat();
                assert_eq!(
                    unpacked(layer, &twice, len, false).await,
                    Some((b"aa".to_vec(), false)),
                    "{name}"
                );
                for garbage in [&b"x"[..], b"\x1f\x8c", b"BZip", b"\nsignature: BZh9\n"] {
                    let bytes = [&twice, garbage].concat();
                    let tolerant = unpacked(layer, &bytes, len, true).await;
                    assert_eq!(tolerant, Some((b"aa".to_vec(), true)), "{name} {garbage:?}");
                    // An archive of ours ends with its last member.
                    assert_eq!(unpacked(layer, &bytes, len, false).await, None, "{name} {garbage:?}");
                }
                // What begins like a member is one, and is damaged.
                for cut in 1..member.len() {
                    let bytes = [member, &member[..cut]].concat();
                    assert_eq!(unpacked(layer, &bytes, len, true).await, None, "{name} {cut}");
                }
            }
        }
    }

    #[tokio::test]
    async fn zeros_behind_gzip_are_nothing_and_behind_bzip2_are_told() {
        let padded = |member: &[u8]| [member, &[0; 9000]].concat();
        let gzip = unpacked(Layer::Gzip, &padded(GZIP), 512, true).await;
        assert_eq!(gzip, Some((b"a".to_vec(), false)));
        let between = [GZIP, &[0; 512], GZIP].concat();
        assert_eq!(unpacked(Layer::Gzip, &between, 100, false).await, Some((b"aa".to_vec(), false)));
        let bzip2 = unpacked(Layer::Bzip2, &padded(BZIP2), 512, true).await;
        assert_eq!(bzip2, Some((b"a".to_vec(), true)));
    }

    #[tokio::test]
    async fn a_failure_behind_the_last_member_is_not_passed_over() {
        let pieces: [Result<Bytes>; 3] = [
            Ok(Bytes::from_static(BZIP2)),
            Ok(Bytes::from_static(b"garbage")),
            Err(Error::damaged("the layer around it is damaged")),
        ];
        let (sender, _receiver) = channel(64);
        let stream: BytesStream = Box::pin(futures_util::stream::iter(pieces));
        let trailing = Trailing::default();
        let error = decompress(Layer::Bzip2, stream, Some(&trailing), &sender).await.unwrap_err();
        assert_eq!(error.downcast::<Error>().unwrap().kind().exit_code(), 13);
    }
}
