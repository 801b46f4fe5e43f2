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
