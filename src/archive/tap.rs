//! The tap: cuts the source into frames, follows the tar as it passes by, and demands the proof of its end.

use super::Format;
use super::check::{Check, texts};
use super::frame::Packed;
use super::openpgp::message::Message;
use crate::error::{Error, Result};
use crate::stream::counters::Counters;
use crate::stream::pool::{Pool, Pooled};
use crate::stream::source::{ByteStream, Proof};
use crate::stream::warning::{Warning, WarningKind};
use crate::tar::{Entry, Walker};

/// The two buffers that a frame needs on its way.
pub struct FrameBuffers {
    /// Source bytes; always a whole frame long.
    pub plain: Vec<u8>,
    /// Bytes of `plain` that are filled.
    pub len: usize,
    /// The compressed frame.
    pub packed: Packed,
}

/// One frame of source, not yet compressed.
pub struct Frame {
    /// Its number.
    pub n: u64,
    /// Offset in the source.
    pub at: u64,
    /// Its bytes.
    pub buffers: Pooled<FrameBuffers>,
    /// Tar members that begin in it.
    pub entries: Vec<Entry>,
}

/// What the tap expects of the source.
#[derive(Debug, Clone, Default)]
pub struct SourceChecks {
    /// Whether it must be a whole tar.
    pub format: Format,
    /// Whether no byte at all is success.
    pub allow_empty: bool,
    /// What a tar's members must be.
    pub check: Check,
    /// Whether members that are not what they must be are a failure, not a warning.
    pub strict: bool,
    /// Whether it must be a whole OpenPGP message.
    pub is_message: bool,
    /// What is known to be wrong with it beforehand.
    pub warnings: Vec<String>,
    /// What is known about it beside what it says itself.
    pub notes: Vec<String>,
}

impl SourceChecks {
    /// What the members that passed by do not meet.
    fn unmet(&self) -> Vec<Warning> {
        match self.format {
            Format::Tar => self.check.unmet(),
            Format::Raw if self.check.is_empty() => Vec::new(),
            Format::Raw => {
                let text = "members are expected, but the source is no tar";
                vec![Warning::new(WarningKind::UnmetExpectation, text)]
            }
        }
    }
}

/// Reads `source` to its proved end and hands out its frames in order.
///
/// # Errors
/// Whatever kept the source from proving its end: EOF alone is not success.
pub fn tap(
    mut source: ByteStream,
    mut expected: SourceChecks,
    pool: &Pool<FrameBuffers>,
    counters: &Counters,
    mut send: impl FnMut(Frame) -> Result<()>,
) -> Result<Proof> {
    let mut walker = (expected.format == Format::Tar).then(Walker::new);
    let mut message = expected.is_message.then(Message::default);
    let mut at = 0;
    for n in 0.. {
        let mut buffers = pool.get();
        let len = fill(&mut source, &mut buffers.plain, counters)?;
        buffers.len = len;
        let mut entries = Vec::new();
        if let Some(walker) = &mut walker {
            walker.feed(&buffers.plain[..len], &mut entries)?;
            entries.iter().for_each(|entry| expected.check.observe(entry));
        }
        if let Some(message) = &mut message {
            message.feed(&buffers.plain[..len])?;
        }
        let ended = len < buffers.plain.len();
        // An empty source still becomes one frame: `zstd -d` and its kin do not read nothing.
        if len > 0 || n == 0 {
            send(Frame { n, at, buffers, entries })?;
        }
        at += len as u64;
        if ended {
            break;
        }
    }
    // The source's own failure comes first: it is the cause of a tar that breaks off.
    let mut proof = source.prove()?;
    if at == 0 && !expected.allow_empty {
        return Err(Error::failed("the source gave no byte at all")
            .hint("if nothing is what you expect of it, say --allow-empty"));
    }
    if let Some(walker) = walker.filter(|_| at > 0) {
        walker.finish()?;
        if walker.trailing() {
            let text = "the tar is followed by other bytes; they are kept";
            proof.warnings.push(Warning::new(WarningKind::TrailingBytes, text));
        }
        // Whatever the source could not prove, the end marker did.
        proof.notes.clear();
    }
    if let Some(message) = message.filter(|_| at > 0) {
        message.finish()?;
        proof.notes.clear();
    }
    let unmet = if at > 0 { expected.unmet() } else { Vec::new() };
    if expected.strict && !unmet.is_empty() {
        return Err(Error::failed("the source does not hold what is expected")
            .because(texts(&unmet).join("; "))
            .hint("look at the source; without --strict such a backup is made, with a warning"));
    }
    proof.warnings.extend(unmet);
    proof.warnings.extend(expected.warnings.into_iter().map(Warning::other));
    proof.notes.extend(expected.notes);
    Ok(proof)
}

/// Fills `frame` unless the source ends before.
fn fill(source: &mut ByteStream, frame: &mut [u8], counters: &Counters) -> Result<usize> {
    let mut len = 0;
    while len < frame.len() {
        match source.read(&mut frame[len..])? {
            0 => break,
            read => {
                len += read;
                counters.source.add(read as u64);
            }
        }
    }
    Ok(len)
}
