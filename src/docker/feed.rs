//! A process that takes bytes on its stdin while its output is shown. One that has ended takes no more, though the engine
//! may not say so: a write to it waits for minutes.

use std::time::Duration;

use bollard::container::LogOutput;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::attach::{Input, Output};
use crate::error::{Context, Error, Result};
use crate::report::{Reporter, relay_stderr, relay_stdout};
use crate::stream::channel::Receiver;

/// How often the engine is asked whether a process still runs, while it takes no bytes.
const ASKED: Duration = Duration::from_secs(1);
/// How long the last words of a process that has ended are waited for.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Asks whether a process still runs.
pub(super) type Runs = Box<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>;

/// How much a process took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    All,
    /// It ended, or closed its stdin, before so many bytes and some more.
    Some {
        bytes: u64,
        /// Whether it said anything.
        spoke: bool,
    },
}

impl Taken {
    /// The exit code; one that says that all is well is not believed of a process that did not read everything.
    pub(super) fn or_early(self, code: i64, ui: &Reporter) -> Result<i64> {
        let Taken::Some { bytes, spoke } = self else { return Ok(code) };
        let early = "the process ended before it had read everything";
        if code == 0 {
            return Err(Error::failed(early)
                .because(format!("exit code 0 after at most {bytes} bytes"))
                .hint("it says that all is well, but does not have all: look at its command"));
        }
        let why = if spoke { "what it printed says why" } else { "it printed nothing" };
        ui.warn(&format!("{early}: exit code {code} after at most {bytes} bytes; {why}"));
        Ok(code)
    }
}

/// A process that is fed while its output is shown.
pub(super) struct Process {
    input: Input,
    /// Ends with whether there was any output.
    showing: JoinHandle<Result<bool>>,
}

impl Process {
    pub(super) fn new(input: Input, output: Output) -> Self {
        Process { input, showing: tokio::spawn(show(output)) }
    }

    pub(super) fn stop_showing(&self) {
        self.showing.abort();
    }

    /// Hands the bytes on, then their end, and waits for the end of the process's output. `runs` asks whether it runs.
    pub(super) async fn feed(&mut self, mut from: Receiver<Bytes>, runs: Runs) -> Result<Taken> {
        let mut handed = 0;
        while let Some(bytes) = from.recv().await? {
            handed += bytes.len() as u64;
            if !self.write(&bytes, &runs).await {
                let _ = timeout(LAST_WORDS, self.input.shutdown()).await;
                let spoke = self.last_words().await?;
                return Ok(Taken::Some { bytes: handed, spoke });
            }
        }
        // Half-closed: the process sees the end and may still talk.
        let _ = self.input.shutdown().await;
        tokio::select! {
            shown = &mut self.showing => { joined(shown)?; }
            // Something that it left behind may hold its output open.
            () = ended(&runs) => { self.last_words().await?; }
        }
        Ok(Taken::All)
    }

    /// Whether the process took the bytes: a write to one that has ended may never return.
    async fn write(&mut self, bytes: &[u8], runs: &Runs) -> bool {
        tokio::select! {
            written = self.input.write_all(bytes) => written.is_ok(),
            () = ended(runs) => false,
        }
    }

    async fn last_words(&mut self) -> Result<bool> {
        match timeout(LAST_WORDS, &mut self.showing).await {
            Ok(shown) => joined(shown),
            // Something holds its output open. What it says is not waited for.
            Err(_) => {
                self.showing.abort();
                Ok(false)
            }
        }
    }
}

/// Waits until the process has ended: asks from time to time.
async fn ended(runs: &Runs) {
    loop {
        sleep(ASKED).await;
        if !runs().await {
            return;
        }
    }
}

fn joined(shown: Result<Result<bool>, tokio::task::JoinError>) -> Result<bool> {
    shown.map_err(|e| Error::failed("a worker died").because(e))?
}

/// Shows a process's output; whether there was any.
async fn show(mut output: Output) -> Result<bool> {
    let mut spoke = false;
    while let Some(next) = output.next().await {
        match next.context(|| "the engine's stream broke off".into())? {
            LogOutput::StdErr { message } => relay_stderr(&message),
            LogOutput::StdOut { message } => relay_stdout(&message),
            LogOutput::Console { .. } | LogOutput::StdIn { .. } => {
                return Err(Error::failed("the engine's stream broke off inside a frame"));
            }
        }
        spoke = true;
    }
    Ok(spoke)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Recorder;
    use crate::stream::channel::channel;
    use futures_util::stream;
    use std::time::Instant;

    const SOME: Taken = Taken::Some { bytes: 7, spoke: true };

    #[test]
    fn a_process_that_stopped_reading_did_not_succeed() {
        let ui = Reporter::silent();
        assert_eq!(Taken::All.or_early(0, &ui).unwrap(), 0);
        assert_eq!(Taken::All.or_early(2, &ui).unwrap(), 2);
        let error = SOME.or_early(0, &ui).unwrap_err();
        assert!(error.to_string().starts_with("the process ended before it had read everything"), "{error}");
    }

    #[test]
    fn of_a_process_that_stopped_reading_and_failed_it_is_said_how() {
        let recorder = Recorder::default();
        assert_eq!(SOME.or_early(3, &Reporter::new(recorder.clone())).unwrap(), 3);
        let texts = recorder.texts();
        assert!(
            texts[0].contains("exit code 3 after at most 7 bytes; what it printed says why"),
            "{texts:?}"
        );
    }

    fn process(input: impl tokio::io::AsyncWrite + Send + 'static, output: Output) -> Process {
        Process::new(Box::pin(input), output)
    }

    fn yes() -> Runs {
        Box::new(|| Box::pin(async { true }))
    }

    fn no() -> Runs {
        Box::new(|| Box::pin(async { false }))
    }

    fn says_nothing() -> Output {
        Box::pin(stream::empty())
    }

    /// Output that something holds open.
    fn never_ends() -> Output {
        Box::pin(stream::pending())
    }

    /// A source that has no end.
    fn endless() -> Receiver<Bytes> {
        let (sender, receiver) = channel(1);
        tokio::spawn(async move { while sender.send(Bytes::from_static(&[0; 64])).await.is_ok() {} });
        receiver
    }

    #[tokio::test]
    async fn a_process_gets_every_byte_and_then_the_end() {
        let (input, mut theirs) = tokio::io::duplex(4);
        let reading = tokio::spawn(async move {
            let mut read = Vec::new();
            tokio::io::AsyncReadExt::read_to_end(&mut theirs, &mut read).await.map(|_| read)
        });
        let (sender, receiver) = channel(1);
        let mut process = process(input, says_nothing());
        let sending = tokio::spawn(async move {
            sender.send(Bytes::from_static(b"0123456789")).await?;
            sender.end().await;
            Ok::<(), Error>(())
        });
        assert_eq!(process.feed(receiver, yes()).await.unwrap(), Taken::All);
        assert!(sending.await.unwrap().is_ok());
        assert_eq!(reading.await.unwrap().unwrap(), b"0123456789");
    }

    #[tokio::test]
    async fn a_process_that_has_ended_is_not_written_to_for_ever() {
        // Nobody reads, and nobody closes: so the engine's socket looks for minutes.
        for output in [says_nothing(), never_ends()] {
            let (input, _theirs) = tokio::io::duplex(100);
            let began = Instant::now();
            let taken = process(input, output).feed(endless(), no()).await.unwrap();
            assert_eq!(taken, Taken::Some { bytes: 128, spoke: false });
            assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
        }
    }

    #[tokio::test]
    async fn a_process_that_reads_slowly_and_closed_its_output_is_waited_for() {
        let (input, mut theirs) = tokio::io::duplex(4);
        let reading = tokio::spawn(async move {
            sleep(ASKED * 2).await;
            let mut read = Vec::new();
            tokio::io::AsyncReadExt::read_to_end(&mut theirs, &mut read).await.map(|_| read.len())
        });
        let (sender, receiver) = channel(1);
        sender.send(Bytes::from_static(b"0123456789")).await.unwrap();
        tokio::spawn(sender.end());
        let taken = process(input, says_nothing()).feed(receiver, yes()).await.unwrap();
        assert_eq!((taken, reading.await.unwrap().unwrap()), (Taken::All, 10));
    }

    #[tokio::test]
    async fn output_that_a_child_holds_open_does_not_keep_an_ended_process_alive() {
        let (input, _theirs) = tokio::io::duplex(100);
        let (sender, receiver) = channel(1);
        tokio::spawn(sender.end());
        let taken = process(input, never_ends()).feed(receiver, no()).await.unwrap();
        assert_eq!(taken, Taken::All);
    }

    #[tokio::test]
    async fn bytes_that_break_off_are_not_an_end() {
        let (sender, receiver) = channel::<Bytes>(1);
        drop(sender);
        let (input, _theirs) = tokio::io::duplex(4);
        assert!(process(input, says_nothing()).feed(receiver, yes()).await.is_err());
    }

    #[tokio::test]
    async fn output_without_a_frame_breaks_a_stream_off() {
        let console = LogOutput::Console { message: Bytes::from_static(b"x") };
        let error = show(Box::pin(stream::iter([Ok(console)]))).await.unwrap_err();
        assert_eq!(error.to_string(), "the engine's stream broke off inside a frame");
    }
}
