//! The joints of the pipeline: bounded channels whose end is said, never inferred.
//!
//! A channel carries items, then exactly one end or failure ([`Sender::end`], [`Sender::finish_blocking`]). A sender that
//! is dropped without either wakes the receiver with [`Kind::Disconnected`](crate::error::Kind::Disconnected); a receiver that is dropped wakes the
//! sender the same way. Both ends work from async tasks and from threads.

use std::io;

use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;

use crate::error::{Error, Result};

enum Item<T> {
    Data(T),
    Fail(Error),
    End,
}

/// The sending end of a channel.
pub struct Sender<T>(mpsc::Sender<Item<T>>);

/// The receiving end of a channel.
pub struct Receiver<T>(mpsc::Receiver<Item<T>>);

/// A channel that holds up to `depth` items before its sender waits.
pub fn channel<T>(depth: usize) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = mpsc::channel(depth);
    (Sender(sender), Receiver(receiver))
}

impl<T> Sender<T> {
    /// Sends one item from an async task; waits while the channel is full.
    ///
    /// # Errors
    /// [`Kind::Disconnected`](crate::error::Kind::Disconnected): the receiver is gone.
    pub async fn send(&self, item: T) -> Result<()> {
        self.0.send(Item::Data(item)).await.map_err(|_| Error::disconnected())
    }

    /// Sends one item from a thread; waits while the channel is full.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub fn send_blocking(&self, item: T) -> Result<()> {
        self.0.blocking_send(Item::Data(item)).map_err(|_| Error::disconnected())
    }

    /// Says, from an async task, that every item was sent.
    pub async fn end(self) {
        // The receiver may be gone already: then it knows its own reason.
        let _ = self.0.send(Item::End).await;
    }

    /// [`Sender::finish_blocking`] from an async task.
    pub async fn finish(self, outcome: Result<()>) {
        let _ = self.0.send(outcome.map_or_else(Item::Fail, |()| Item::End)).await;
    }

    /// Ends the channel from a thread: with End, or with the failure that stopped the work.
    pub fn finish_blocking(self, outcome: Result<()>) {
        let _ = self.0.blocking_send(match outcome {
            Ok(()) => Item::End,
            Err(error) => Item::Fail(error),
        });
    }
}

impl<T> Receiver<T> {
    fn open(item: Option<Item<T>>) -> Result<Option<T>> {
        match item {
            Some(Item::Data(data)) => Ok(Some(data)),
            Some(Item::End) => Ok(None),
            Some(Item::Fail(error)) => Err(error),
            None => Err(Error::disconnected()),
        }
    }

    /// The next item; `None` only when the sender said that this was all.
    ///
    /// # Errors
    /// The failure that the sender ended with; [`Kind::Disconnected`](crate::error::Kind::Disconnected) where it said nothing.
    pub async fn recv(&mut self) -> Result<Option<T>> {
        Self::open(self.0.recv().await)
    }

    /// [`Receiver::recv`] from a thread.
    ///
    /// # Errors
    /// As [`Receiver::recv`].
    pub fn recv_blocking(&mut self) -> Result<Option<T>> {
        Self::open(self.0.blocking_recv())
    }
}

/// Passes an async stream into a channel, for a reader on a thread.
pub fn channel_from<S>(stream: S, depth: usize) -> Receiver<Bytes>
where
    S: Stream<Item = Result<Bytes>> + Send + 'static,
{
    let (sender, receiver) = channel(depth);
    tokio::spawn(async move {
        let mut stream = std::pin::pin!(stream);
        while let Some(next) = stream.next().await {
            match next {
                Ok(bytes) => {
                    if sender.send(bytes).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    let _ = sender.0.send(Item::Fail(error)).await;
                    return;
                }
            }
        }
        sender.end().await;
    });
    receiver
}

/// A channel of bytes as a blocking reader. EOF is the end that the sender said; everything else is an error.
pub struct Reader {
    receiver: Receiver<Bytes>,
    current: Bytes,
    ended: bool,
}

impl Reader {
    /// Reads a channel on a thread.
    pub fn new(receiver: Receiver<Bytes>) -> Self {
        Reader { receiver, current: Bytes::new(), ended: false }
    }

    /// Reads some bytes; 0 at the end, however often it is asked.
    ///
    /// # Errors
    /// As [`Receiver::recv`].
    pub fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.receiver.recv_blocking()? {
                Some(bytes) => self.current = bytes,
                None => self.ended = true,
            }
        }
        let len = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..len]);
        Ok(len)
    }
}

impl io::Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_some(buffer).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_dropped_sender_is_not_an_end() {
        let (sender, mut receiver) = channel::<u8>(1);
        sender.send_blocking(1).unwrap();
        drop(sender);
        assert_eq!(receiver.recv_blocking().unwrap(), Some(1));
        assert_eq!(receiver.recv_blocking().unwrap_err().kind(), Kind::Disconnected);
    }

    #[test]
    fn end_and_failure_arrive_as_what_they_are() {
        let (sender, mut receiver) = channel::<u8>(1);
        sender.finish_blocking(Ok(()));
        assert_eq!(receiver.recv_blocking().unwrap(), None);
        let (sender, mut receiver) = channel::<u8>(1);
        sender.finish_blocking(Err(Error::damaged("x")));
        assert_eq!(receiver.recv_blocking().unwrap_err().kind(), Kind::Damaged);
    }

    #[test]
    fn a_reader_that_has_seen_the_end_sees_it_again() {
        let (sender, receiver) = channel(2);
        sender.send_blocking(Bytes::from_static(b"ab")).unwrap();
        sender.finish_blocking(Ok(()));
        let mut reader = Reader::new(receiver);
        let mut buffer = [0; 8];
        assert_eq!([(); 3].map(|()| reader.read_some(&mut buffer).unwrap()), [2, 0, 0]);
    }

    #[test]
    fn a_dropped_receiver_stops_the_sender() {
        let (sender, receiver) = channel::<u8>(1);
        drop(receiver);
        assert_eq!(sender.send_blocking(1).unwrap_err().kind(), Kind::Disconnected);
    }

    #[tokio::test]
    async fn a_stream_becomes_a_channel_with_its_end_or_its_failure() {
        let pieces = |last: Result<Bytes>| futures_util::stream::iter([Ok(Bytes::from_static(b"ab")), last]);
        let mut whole = channel_from(pieces(Ok(Bytes::from_static(b"c"))), 1);
        assert_eq!(whole.recv().await.unwrap().unwrap(), "ab");
        assert_eq!(whole.recv().await.unwrap().unwrap(), "c");
        assert_eq!(whole.recv().await.unwrap(), None);
        let mut broken = channel_from(pieces(Err(Error::damaged("x"))), 1);
        assert_eq!(broken.recv().await.unwrap().unwrap(), "ab");
        assert_eq!(broken.recv().await.unwrap_err().kind(), Kind::Damaged);
        assert_eq!(broken.recv().await.unwrap_err().kind(), Kind::Disconnected);
    }

    #[test]
    fn a_reader_gives_pieces_of_any_length_and_empty_items_are_no_end() {
        let (sender, receiver) = channel(8);
        for item in ["abc", "", "defgh"] {
            sender.send_blocking(Bytes::from_static(item.as_bytes())).unwrap();
        }
        sender.finish_blocking(Ok(()));
        let (mut reader, mut all, mut buffer) = (Reader::new(receiver), Vec::new(), [0; 2]);
        while let read @ 1.. = reader.read_some(&mut buffer).unwrap() {
            all.extend_from_slice(&buffer[..read]);
        }
        assert_eq!(all, b"abcdefgh");
    }

    #[test]
    fn a_reader_of_a_broken_channel_fails_with_the_cause() {
        let (sender, receiver) = channel(2);
        sender.send_blocking(Bytes::from_static(b"ab")).unwrap();
        sender.finish_blocking(Err(Error::damaged("x")));
        let mut all = Vec::new();
        let error = io::Read::read_to_end(&mut Reader::new(receiver), &mut all).unwrap_err();
        assert_eq!((all, error.downcast::<Error>().unwrap().kind()), (b"ab".to_vec(), Kind::Damaged));
    }
}
