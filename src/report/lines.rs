//! What a process says on its stderr, line by line, within bounds.

use super::{Reporter, printable};

/// What a process said on its stderr, line by line; somebody else's output must not fill the memory.
#[derive(Debug, Default)]
pub struct Lines {
    begun: Vec<u8>,
    /// The first lines.
    pub first: Vec<String>,
    /// The last lines.
    pub last: Vec<String>,
    /// How many lines there were.
    pub count: usize,
}

impl Lines {
    /// Longer lines are cut.
    const LONGEST: usize = 4096;
    /// First lines that are kept.
    pub const FIRST: usize = 100;
    /// Last lines that are kept.
    const LAST: usize = 5;

    /// Takes in the next bytes and shows the lines that end in them.
    pub fn take(&mut self, bytes: &[u8], ui: &Reporter) {
        for &byte in bytes {
            let ends = byte == b'\n' || byte == b'\r';
            if ends || self.begun.len() >= Self::LONGEST {
                self.end_line(ui);
            }
            if !ends {
                self.begun.push(byte);
            }
        }
    }

    fn end_line(&mut self, ui: &Reporter) {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.begun)).into_owned();
        // GNU tar's way of saying that it does what was meant.
        if line.trim().is_empty() || line.contains("Removing leading `") {
            return;
        }
        ui.source_line(&line);
        self.count += 1;
        if self.first.len() < Self::FIRST {
            self.first.push(printable(&line));
        }
        self.last.push(printable(&line));
        let many = self.last.len().saturating_sub(Self::LAST);
        self.last.drain(..many);
    }

    /// Takes in a reader's bytes to its end.
    pub async fn read(mut self, mut reader: impl tokio::io::AsyncRead + Unpin, ui: &Reporter) -> Self {
        use tokio::io::AsyncReadExt;
        let mut buffer = vec![0; 4096];
        while let Ok(read @ 1..) = reader.read(&mut buffer).await {
            self.take(&buffer[..read], ui);
        }
        self.finish(ui)
    }

    /// Ends the line at hand.
    pub fn finish(mut self, ui: &Reporter) -> Self {
        self.end_line(ui);
        self
    }
}
