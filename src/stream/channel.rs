//! The joints of the pipeline: bounded channels whose end is said, never inferred.
//!
//! A pipe carries items, then exactly one end or failure ([`Sender::end`], [`Sender::finish_blocking`]). A sender that
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

/// The writing end of a pipe.
pub struct Sender<T>(mpsc::Sender<Item<T>>);

/// The reading end of a pipe.
pub struct Receiver<T>(mpsc::Receiver<Item<T>>);

/// A pipe that holds up to `depth` items before its sender waits.
pub fn channel<T>(depth: usize) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = mpsc::channel(depth);
    (Sender(sender), Receiver(receiver))
}

impl<T> Sender<T> {
    /// Sends one item from an async task; waits while the pipe is full.
    pub async fn send(&self, item: T) -> Result<()> {
        self.0.send(Item::Data(item)).await.map_err(|_| Error::disconnected())
    }

    /// Sends one item from a thread; waits while the pipe is full.
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

    /// Ends the pipe from a thread: with End, or with the failure that stopped the work.
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
    pub async fn recv(&mut self) -> Result<Option<T>> {
        Self::open(self.0.recv().await)
    }

    /// [`Receiver::recv`] from a thread.
    pub fn recv_blocking(&mut self) -> Result<Option<T>> {
        Self::open(self.0.blocking_recv())
    }
}

/// Passes an async stream into a pipe, for a reader on a thread.
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

/// A pipe of bytes as a blocking reader. EOF is the end that the sender said; everything else is an error.
pub struct Reader {
    receiver: Receiver<Bytes>,
    current: Bytes,
    ended: bool,
}

impl Reader {
    /// Reads a pipe on a thread.
    pub fn new(receiver: Receiver<Bytes>) -> Self {
        Reader { receiver, current: Bytes::new(), ended: false }
    }

    /// Reads some bytes; 0 at the end, however often it is asked.
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
}
