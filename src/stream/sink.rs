//! The way out: a task that takes bytes until their end is said. A restore that breaks off never looks like an end to it.

use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::channel::{Receiver, Sender, channel};
use crate::error::{Error, Result};

/// Pieces that may wait for the sink.
const DEPTH: usize = 4;
/// How long a sink that was broken off may take to clean up.
const CLEANUP: Duration = Duration::from_secs(40);

/// A sink at work.
pub struct Sink {
    to: Option<Sender<Bytes>>,
    stop: CancellationToken,
    done: JoinHandle<Result<i64>>,
    /// Its end was heard: there is nobody to wait for any more.
    ended: bool,
}

impl Sink {
    /// A sink whose `work` takes the bytes and ends with an exit code; early, and clean, when it is told to stop.
    pub fn new<F>(work: impl FnOnce(Receiver<Bytes>, CancellationToken) -> F) -> Self
    where
        F: Future<Output = Result<i64>> + Send + 'static,
    {
        let (to, from) = channel(DEPTH);
        let stop = CancellationToken::new();
        Sink { to: Some(to), done: tokio::spawn(work(from, stop.clone())), stop, ended: false }
    }

    /// Hands confirmed bytes over.
    ///
    /// # Errors
    /// The sink has ended before its time; [`Sink::finish`] says why.
    pub async fn write(&self, bytes: Bytes) -> Result<()> {
        match &self.to {
            Some(to) => to.send(bytes).await,
            None => Err(Error::disconnected()),
        }
    }

    /// Says that this was all, and waits for the sink's own end: its exit code.
    ///
    /// # Errors
    /// Whatever the sink failed with.
    pub async fn finish(&mut self) -> Result<i64> {
        if let Some(to) = self.to.take() {
            to.end().await;
        }
        let done = (&mut self.done).await;
        self.ended = true;
        done.map_err(|e| Error::failed("a worker died").because(e))?
    }

    /// Breaks off, and waits until the sink has cleaned up. Of the two failures the cause is returned.
    pub async fn fail(mut self, error: Error) -> Error {
        if self.ended {
            return error;
        }
        self.stop.cancel();
        drop(self.to.take());
        match tokio::time::timeout(CLEANUP, self.done).await {
            Ok(Ok(Err(own))) => error.or_cause(own),
            Ok(_) => error,
            Err(_) => error.or_hint("the target did not stop in time: `docker ps -a --filter label=sealift` shows a container that is left"),
        }
    }
}

/// A channel as the body of a request: it ends where the end was said, and breaks off where it was not.
pub fn body(from: Receiver<Bytes>) -> impl Stream<Item = std::io::Result<Bytes>> + Send {
    futures_util::stream::unfold(Some(from), |from| async move {
        let mut from = from?;
        match from.recv().await {
            Ok(Some(bytes)) => Some((Ok(bytes), Some(from))),
            Ok(None) => None,
            Err(error) => Some((Err(std::io::Error::other(error)), None)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes everything and ends with the number of bytes.
    fn counting() -> Sink {
        Sink::new(|mut from, _| async move {
            let mut len = 0;
            while let Some(bytes) = from.recv().await? {
                len += bytes.len() as i64;
            }
            Ok(len)
        })
    }

    #[tokio::test]
    async fn a_sink_ends_when_the_end_was_said() {
        let mut sink = counting();
        for _ in 0..10 {
            sink.write(Bytes::from_static(b"abc")).await.unwrap();
        }
        assert_eq!(sink.finish().await.unwrap(), 30);
        assert!(sink.write(Bytes::new()).await.is_err(), "nothing comes after the end");
    }

    #[tokio::test]
    async fn a_restore_that_breaks_off_is_no_end_to_the_sink() {
        let sink = counting();
        sink.write(Bytes::from_static(b"abc")).await.unwrap();
        assert_eq!(sink.fail(Error::damaged("frame 7")).await.to_string(), "frame 7");
    }

    #[tokio::test]
    async fn a_sink_that_ended_early_says_why() {
        let mut sink = Sink::new(|_, _| async { Err(Error::failed("no space")) });
        while sink.write(Bytes::from_static(b"abc")).await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert_eq!(sink.finish().await.unwrap_err().to_string(), "no space");
        assert_eq!(
            sink.fail(Error::failed("the cause")).await.to_string(),
            "the cause",
            "it is not asked twice"
        );
        let sink = Sink::new(|_, _| async { Err(Error::failed("no space")) });
        assert_eq!(sink.fail(Error::disconnected()).await.to_string(), "no space", "an echo gives way to it");
    }

    #[tokio::test]
    async fn a_body_breaks_off_where_the_end_was_not_said() {
        use futures_util::StreamExt;
        for sound in [true, false] {
            let (sender, receiver) = channel(2);
            sender.send(Bytes::from_static(b"abc")).await.unwrap();
            if sound {
                sender.end().await
            } else {
                drop(sender)
            }
            let pieces: Vec<_> = body(receiver).collect().await;
            assert_eq!(pieces.len(), if sound { 1 } else { 2 });
            assert_eq!(pieces.iter().all(Result::is_ok), sound);
        }
    }
}
