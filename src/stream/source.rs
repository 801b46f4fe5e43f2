//! The bytes of a source on their way in: read on a thread, ended by a proof or by a failure; EOF alone is neither.

use std::io::Read;

use bytes::{Buf, Bytes};
use tokio::sync::oneshot;

use super::channel::{self, Receiver};
use super::warning::Warning;
use crate::error::{Context, Error, Kind, Result};

/// What kept a source from being a failure, and what to know about it.
#[derive(Debug, Clone, Default)]
pub struct Proof {
    /// The exit code of the source's process, where there was one.
    pub exit_code: Option<i64>,
    /// What the operator should look at; the archive is committed, the exit code is 3.
    pub warnings: Vec<Warning>,
    /// What is so by nature.
    pub notes: Vec<String>,
    /// What the source itself cannot prove; the end of a tar, or of a message, may prove it all the same.
    pub unproved: Vec<String>,
    /// It ended before all was read, and another one goes on there.
    pub is_partial: bool,
}

/// A source that was started.
pub struct Running {
    /// Its bytes.
    pub stream: ByteStream,
    /// Ends when the source has stopped and cleaned up after itself, whatever became of its bytes.
    pub cleanup: tokio::task::JoinHandle<()>,
}

/// Where the proof of a source's end is given.
pub type ProofSender = oneshot::Sender<Result<Proof>>;
/// Where the proof of a source's end is waited for.
pub type ProofReceiver = oneshot::Receiver<Result<Proof>>;

enum Reader {
    Blocking(Box<dyn Read + Send>),
    Chunks(channel::Reader),
}

/// The bytes of a source, read on a thread, and the proof of their end.
pub struct ByteStream {
    /// Bytes that were looked at before their turn.
    head: Bytes,
    reader: Reader,
    proof: ProofReceiver,
}

impl ByteStream {
    /// Bytes of a blocking reader, such as an operating system pipe.
    pub fn from_reader(reader: impl Read + Send + 'static, proof: ProofReceiver) -> Self {
        ByteStream { head: Bytes::new(), reader: Reader::Blocking(Box::new(reader)), proof }
    }

    /// Bytes in memory whose end is proved.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Self {
        let (prove, proof) = oneshot::channel();
        let _ = prove.send(Ok(Proof::default()));
        Self::from_reader(std::io::Cursor::new(bytes.into()), proof)
    }

    /// Bytes from an async task.
    pub fn from_chunks(receiver: Receiver<Bytes>, proof: ProofReceiver) -> Self {
        ByteStream { head: Bytes::new(), reader: Reader::Chunks(channel::Reader::new(receiver)), proof }
    }

    /// Reads some bytes; 0 at EOF, which proves nothing.
    ///
    /// # Errors
    /// The source broke off, with its own cause where it gave one.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if !self.head.is_empty() {
            let len = self.head.len().min(buffer.len());
            self.head.copy_to_slice(&mut buffer[..len]);
            return Ok(len);
        }
        let read = match &mut self.reader {
            Reader::Blocking(reader) => read_some(reader.as_mut(), buffer),
            Reader::Chunks(chunks) => chunks.read_some(buffer),
        };
        // A stream that broke has its cause where the proof would be.
        read.map_err(|broken| match self.proof.try_recv() {
            Ok(Err(cause)) if broken.kind() == Kind::Disconnected => cause,
            _ => broken,
        })
    }

    /// The first `len` bytes, or all where there are fewer; they are read again later.
    ///
    /// # Errors
    /// The source broke off before it gave them.
    pub fn peek(&mut self, len: usize) -> Result<Bytes> {
        let mut front = vec![0; len];
        let mut filled = 0;
        while filled < front.len() {
            match self.read(&mut front[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        front.truncate(filled);
        self.head = front.into();
        Ok(self.head.clone())
    }

    /// Holds the proof back: it is given through the channel that is returned with what the source itself gives.
    pub fn intercept_proof(&mut self) -> (ProofSender, ProofReceiver) {
        let (prove, proof) = oneshot::channel();
        (prove, std::mem::replace(&mut self.proof, proof))
    }

    /// Waits for the proof that the bytes were all.
    ///
    /// # Errors
    /// The source failed, or vanished without a proof.
    pub fn prove(self) -> Result<Proof> {
        let proof = self.proof;
        // The reader goes first: a source that waits for it must not wait for ever.
        drop(self.reader);
        proof.blocking_recv().unwrap_or_else(|_| Err(Error::failed("the source vanished without a word")))
    }
}

fn read_some(reader: &mut dyn Read, buffer: &mut [u8]) -> Result<usize> {
    loop {
        match reader.read(buffer) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            read => return read.context(|| "cannot read the source".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::channel::channel;
    use super::*;

    fn all(stream: &mut ByteStream) -> Result<Vec<u8>> {
        let (mut all, mut buffer) = (Vec::new(), [0; 3]);
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(all),
                read => all.extend_from_slice(&buffer[..read]),
            }
        }
    }

    #[test]
    fn what_was_peeked_is_read_again_and_once() {
        for len in [0, 1, 4, 10, 11, 100] {
            let mut stream = ByteStream::from_bytes("0123456789");
            assert_eq!(stream.peek(len).unwrap(), &b"0123456789"[..len.min(10)]);
            assert_eq!(all(&mut stream).unwrap(), b"0123456789", "peeked {len}");
            assert!(stream.prove().is_ok());
        }
    }

    #[test]
    fn eof_without_a_proof_is_a_failure() {
        let (prove, proof) = oneshot::channel();
        let mut stream = ByteStream::from_reader(&b"abc"[..], proof);
        assert_eq!(all(&mut stream).unwrap(), b"abc");
        drop(prove);
        assert!(stream.prove().unwrap_err().to_string().contains("vanished"));
    }

    #[test]
    fn a_stream_that_broke_fails_with_what_the_source_says_of_it() {
        let ((sender, receiver), (prove, proof)) = (channel(2), oneshot::channel());
        let mut stream = ByteStream::from_chunks(receiver, proof);
        sender.send_blocking(Bytes::from_static(b"abc")).unwrap();
        prove.send(Err(Error::failed("exit code 2"))).unwrap();
        drop(sender);
        assert_eq!(all(&mut stream).unwrap_err().to_string(), "exit code 2");
    }

    #[test]
    fn a_reader_that_was_interrupted_goes_on() {
        struct Interrupted(bool);
        impl Read for Interrupted {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                self.0 = !self.0;
                if self.0 {
                    return Err(std::io::ErrorKind::Interrupted.into());
                }
                buffer[0] = 7;
                Ok(1)
            }
        }
        let (_prove, proof) = oneshot::channel();
        assert_eq!(ByteStream::from_reader(Interrupted(false), proof).read(&mut [0; 4]).unwrap(), 1);
    }

    #[test]
    fn a_proof_that_is_held_back_is_given_by_whoever_holds_it() {
        let mut stream = ByteStream::from_bytes("abc");
        let (prove, own) = stream.intercept_proof();
        let found = own.blocking_recv().unwrap().unwrap();
        prove.send(Ok(Proof { exit_code: Some(1), ..found })).unwrap();
        assert_eq!(stream.prove().unwrap().exit_code, Some(1));
    }
}
