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
        self.take_each(bytes, ui, &mut |_| {});
    }

    fn take_each(&mut self, bytes: &[u8], ui: &Reporter, each: &mut impl FnMut(&str)) {
        for &byte in bytes {
            let ends = byte == b'\n' || byte == b'\r';
            if ends || self.begun.len() >= Self::LONGEST {
                self.end_line(ui, each);
            }
            if !ends {
                self.begun.push(byte);
            }
        }
    }

    fn end_line(&mut self, ui: &Reporter, each: &mut impl FnMut(&str)) {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.begun)).into_owned();
        if line.trim().is_empty() || is_as_meant(&line) {
            return;
        }
        ui.source_line(&line);
        let line = printable(&line);
        each(&line);
        self.count += 1;
        if self.first.len() < Self::FIRST {
            self.first.push(line.clone());
        }
        self.last.push(line);
        let many = self.last.len().saturating_sub(Self::LAST);
        self.last.drain(..many);
    }

    /// Takes in a reader's bytes to its end.
    pub async fn read(self, reader: impl tokio::io::AsyncRead + Unpin, ui: &Reporter) -> Self {
        self.read_each(reader, ui, |_| {}).await
    }

    /// The same, and hands out each line: only the last are kept here.
    pub async fn read_each(
        mut self,
        mut reader: impl tokio::io::AsyncRead + Unpin,
        ui: &Reporter,
        mut each: impl FnMut(&str),
    ) -> Self {
        use tokio::io::AsyncReadExt;
        let mut buffer = vec![0; 4096];
        while let Ok(read @ 1..) = reader.read(&mut buffer).await {
            self.take_each(&buffer[..read], ui, &mut each);
        }
        self.end_line(ui, &mut each);
        self
    }

    /// Ends the line at hand.
    pub fn finish(mut self, ui: &Reporter) -> Self {
        self.end_line(ui, &mut |_| {});
        self
    }
}

/// What GNU tar says in a line, behind the name it was started by: `tar`, or a wrapper's `/usr/bin/tar`.
pub fn said_by_tar(line: &str) -> Option<&str> {
    let (program, said) = line.split_once(": ")?;
    (program.rsplit('/').next() == Some("tar")).then_some(said)
}

/// GNU tar's way of saying that it does what was meant. A file's name may hold these words, too, but not end so.
fn is_as_meant(line: &str) -> bool {
    let rest = said_by_tar(line).and_then(|said| said.strip_prefix("Removing leading `"));
    rest.is_some_and(|rest| {
        rest.ends_with("' from member names") || rest.ends_with("' from hard link targets")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_handed_out_though_only_some_are_kept() {
        let (ui, mut lines, mut seen) = (Reporter::silent(), Lines::default(), 0);
        for n in 0..300 {
            lines.take_each(format!("line {n}\n").as_bytes(), &ui, &mut |_| seen += 1);
        }
        assert_eq!((seen, lines.count, lines.first.len(), lines.last.len()), (300, 300, Lines::FIRST, 5));
    }

    #[test]
    fn a_files_name_does_not_hide_what_is_said_of_it() {
        let mut lines = Lines::default();
        let ui = Reporter::silent();
        lines.take(b"tar: Removing leading `/' from member names\n", &ui);
        lines.take(b"/usr/bin/tar: Removing leading `../' from hard link targets\n", &ui);
        lines.take(b"tar: Removing leading `x: Cannot open: Permission denied\n", &ui);
        assert_eq!(lines.count, 1);
    }
}
