//! Our own standard output, as a place for data: nothing is lost there in silence, and a reader that has what it wants is
//! no failure.

use std::io::IsTerminal;
use std::os::fd::AsFd;

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat, major, minor};
use rustix::io::Errno;

use crate::error::{Context, Error, Result};
use crate::report::human_bytes;
use crate::stream::channel::Receiver;
use crate::stream::sink::Sink;
use crate::tar::Walker;

/// What is looked at of a piece before it is written to a terminal.
const LOOKED_AT: usize = 64 << 10;

/// What it means that the reader stops reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EarlyEnd {
    /// It has seen enough of what was shown to it.
    Enough,
    /// It lacks the rest, unless the end marker of a tar was written before: tar reads no further.
    Incomplete,
}

/// Our own standard output.
///
/// # Errors
/// It is closed.
pub fn stdout(early: EarlyEnd) -> Result<Sink> {
    let stdout = std::io::stdout();
    if is_closed(&stdout) {
        return Err(closed());
    }
    let writer = Writer::new(early, stdout.is_terminal(), stdout);
    Ok(Sink::new(|from, _| async move {
        let write = tokio::task::spawn_blocking(move || writer.take(from));
        write.await.map_err(|e| Error::failed("a worker died").because(e))?
    }))
}

/// Whether stdout can take bytes that only a program understands.
///
/// # Errors
/// It is a terminal, or closed.
pub fn takes_any_bytes() -> Result<()> {
    let stdout = std::io::stdout();
    match (is_closed(&stdout), stdout.is_terminal()) {
        (true, _) => Err(closed()),
        (_, true) => Err(not_for_terminals()),
        _ => Ok(()),
    }
}

/// Whether the program was started with this stream closed. Before `main`, Rust opens /dev/null in its place, for reading
/// and writing, so that writing succeeds and all is lost; a shell's `>/dev/null` is open for writing only.
fn is_closed(stream: &impl AsFd) -> bool {
    let reads_too = fcntl_getfl(stream).is_ok_and(|flags| flags & OFlags::RWMODE == OFlags::RDWR);
    reads_too
        && fstat(stream).is_ok_and(|stat| {
            let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
            is_device && (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3)
        })
}

fn closed() -> Error {
    Error::usage("stdout is closed, or is /dev/null opened for reading and writing: the bytes would be lost")
        .hint("write them to a file or a pipe; to look whether an archive can be read: sealift verify")
}

fn not_for_terminals() -> Error {
    Error::usage("these bytes are no text, and stdout is a terminal")
        .hint("write them to a file (> FILE) or to a program (| tar -t), or restore --to-path")
}

/// Whether a terminal shows these bytes as they are meant: UTF-8 without control characters. They may end within a
/// character.
fn is_text(bytes: &[u8]) -> bool {
    let bytes = &bytes[..bytes.len().min(LOOKED_AT)];
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    text.chars().all(|c| !c.is_control() || matches!(c, '\t' | '\n' | '\r' | '\x0c'))
}

/// Writes to a file descriptor, and knows how much of what it wrote was taken.
struct Writer<F> {
    to: F,
    early: EarlyEnd,
    is_terminal: bool,
    written: u64,
    /// Follows a tar; none: what is written is no tar.
    walker: Option<Walker>,
    /// The reader is gone and had everything.
    is_gone: bool,
}

impl<F: AsFd> Writer<F> {
    fn new(early: EarlyEnd, is_terminal: bool, to: F) -> Self {
        let walker = (early == EarlyEnd::Incomplete).then(Walker::new);
        Writer { to, early, is_terminal, written: 0, walker, is_gone: false }
    }

    fn take(mut self, mut from: Receiver<Bytes>) -> Result<i64> {
        // Of a reader that is gone, the bytes to come are taken all the same: that they are right is worth knowing.
        while let Some(bytes) = from.recv_blocking()? {
            self.write(&bytes)?;
        }
        Ok(0)
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        if self.is_terminal && self.written == 0 && !is_text(bytes) {
            return Err(not_for_terminals());
        }
        while !bytes.is_empty() && !self.is_gone {
            match rustix::io::write(&self.to, bytes) {
                Ok(taken) => {
                    self.follow(&bytes[..taken]);
                    bytes = &bytes[taken..];
                }
                Err(Errno::INTR) => {}
                // Whoever shares it with us made it so.
                Err(Errno::AGAIN) => self.wait()?,
                Err(Errno::PIPE) => self.reader_is_gone()?,
                Err(error) => return Err(error).context(|| "cannot write to stdout".into()),
            }
        }
        Ok(())
    }

    fn follow(&mut self, taken: &[u8]) {
        self.written += taken.len() as u64;
        if let Some(walker) = &mut self.walker
            && walker.feed(taken, &mut Vec::new()).is_err()
        {
            self.walker = None;
        }
    }

    fn wait(&self) -> Result<()> {
        match poll(&mut [PollFd::new(&self.to, PollFlags::OUT)], None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error).context(|| "cannot wait for stdout".into()),
        }
    }

    fn reader_is_gone(&mut self) -> Result<()> {
        if self.early == EarlyEnd::Enough {
            return Err(Error::closed_pipe());
        }
        let Some(walker) = &self.walker else { return Err(self.incomplete("the end")) };
        if walker.ended_at().is_none() {
            return Err(self.incomplete("the tar's end marker"));
        }
        self.is_gone = true;
        Ok(())
    }

    fn incomplete(&self, end: &str) -> Error {
        let (written, human) = (self.written, human_bytes(self.written));
        Error::failed(format!(
            "the program that reads stdout closed it after {written} bytes ({human}) were written, before {end}"
        ))
        .hint("its own message says why")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_types, reason = "the tests open /dev/null in every way")]

    use super::*;
    use crate::stream::channel::channel;
    use std::io::Read;

    fn incomplete<F: AsFd>(to: F) -> Writer<F> {
        Writer::new(EarlyEnd::Incomplete, false, to)
    }

    /// The end of a tar and so many bytes of padding behind it.
    fn end_of_tar(padding: usize) -> Vec<u8> {
        vec![0; 1024 + padding]
    }

    #[test]
    fn a_pipe_that_closes_behind_the_end_marker_is_success() {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut writer = incomplete(writer);
        writer.write(&end_of_tar(0)).unwrap();
        drop(reader);
        writer.write(&[0; 9216]).unwrap();
        assert_eq!(writer.written, 1024);
    }

    #[test]
    fn a_pipe_that_closes_within_a_piece_whose_taken_bytes_hold_the_end_marker_is_success() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        // As tar does: it reads one record, and closes while we are writing the rest of what a pipe does not hold.
        let reading = std::thread::spawn(move || reader.read_exact(&mut [0; 10240]));
        let (sender, receiver) = channel(2);
        sender.send_blocking(end_of_tar(1 << 20).into()).unwrap();
        sender.finish_blocking(Ok(()));
        assert_eq!(incomplete(writer).take(receiver).unwrap(), 0);
        reading.join().unwrap().unwrap();
    }

    #[test]
    fn a_pipe_that_closes_before_the_end_marker_is_a_failure_that_says_how_much_was_written() {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut writer = incomplete(writer);
        writer.write(&end_of_tar(0)[..512]).unwrap();
        drop(reader);
        let error = writer.write(&[0; 512]).unwrap_err();
        assert_eq!(error.kind().exit_code(), 1);
        assert!(error.to_string().contains("after 512 bytes (512 B) were written"), "{error}");
    }

    #[test]
    fn a_pipe_that_closes_within_bytes_that_are_no_tar_is_a_failure() {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut writer = incomplete(writer);
        writer.write(&[b'x'; 600]).unwrap();
        drop(reader);
        let error = writer.write(&[0; 2048]).unwrap_err();
        assert!(error.to_string().ends_with("before the end"), "{error}");
    }

    #[test]
    fn what_follows_a_reader_that_has_all_is_still_checked() {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut writer = incomplete(writer);
        writer.write(&end_of_tar(0)).unwrap();
        drop(reader);
        let (sender, receiver) = channel(2);
        sender.send_blocking(Bytes::from_static(&[0; 512])).unwrap();
        sender.finish_blocking(Err(Error::damaged("flipped")));
        assert_eq!(writer.take(receiver).unwrap_err().to_string(), "flipped");
    }

    #[test]
    fn whoever_has_seen_enough_of_a_file_fails_nothing() {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let error = Writer::new(EarlyEnd::Enough, false, writer).write(b"text").unwrap_err();
        assert_eq!(error.kind().exit_code(), 0);
    }

    #[test]
    fn a_pipe_that_does_not_block_is_waited_for() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        rustix::fs::fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
        let reading = std::thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).map(|_| all.len())
        });
        let mut writer = incomplete(writer);
        writer.write(&vec![b'x'; 1 << 20]).unwrap();
        drop(writer);
        assert_eq!(reading.join().unwrap().unwrap(), 1 << 20);
    }

    #[test]
    fn a_closed_stream_is_known_by_what_stands_in_its_place() {
        let open =
            |read: bool, path: &str| std::fs::OpenOptions::new().read(read).write(true).open(path).unwrap();
        assert!(is_closed(&open(true, "/dev/null")));
        assert!(!is_closed(&open(false, "/dev/null")));
        assert!(!is_closed(&open(true, "/dev/zero")));
        assert!(!is_closed(&std::io::pipe().unwrap().1));
    }

    #[test]
    fn a_terminal_gets_text_only() {
        for text in ["", "one\ttwo\r\n", "grün\n", "\x0cnext page"] {
            assert!(is_text(text.as_bytes()), "{text:?}");
        }
        // Cut within a character.
        assert!(is_text("grün".split_at(2).0.as_bytes()) && is_text(&"grün".as_bytes()[..3]));
        for bytes in [&b"a\0b"[..], b"\x1b[2J", b"gr\xfcn ", "\u{9b}2J".as_bytes(), b"\x7f"] {
            assert!(!is_text(bytes), "{bytes:?}");
        }
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut writer = Writer::new(EarlyEnd::Incomplete, true, writer);
        let error = writer.write(&end_of_tar(0)).unwrap_err();
        assert!(error.hint_text().unwrap().contains("> FILE"), "{error}");
        writer.write(b"text").unwrap();
        drop(writer);
        let mut shown = String::new();
        reader.read_to_string(&mut shown).unwrap();
        assert_eq!(shown, "text");
    }
}
