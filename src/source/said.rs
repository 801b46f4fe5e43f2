//! What GNU tar says beside the tar that it writes: what of that is a warning, of which kind, and what is only noted.

use crate::report::said_by_tar;
use crate::stream::source::Proof;
use crate::stream::warning::{Warning, WarningKind};

/// Warnings of one kind that are kept; of more, the number is.
const KEPT: usize = 100;

/// All that GNU tar said, within bounds.
#[derive(Debug, Default)]
pub struct Said {
    warnings: Vec<Warning>,
    /// Warnings of each kind, those that are not kept included.
    counts: [usize; KINDS.len()],
    sockets: Sockets,
    notes: Vec<String>,
    /// Lines that tell of failures, but not of files that are no longer there.
    failures: usize,
    /// Files that tar was told of by name and that were no longer there.
    vanished: usize,
}

/// Sockets that were passed over: nothing of them can be stored.
#[derive(Debug, Default)]
pub struct Sockets {
    count: usize,
    first: String,
}

impl Sockets {
    /// Takes in the next one.
    pub fn take(&mut self, name: impl FnOnce() -> String) {
        if self.count == 0 {
            self.first = name();
        }
        self.count += 1;
    }

    /// What is to be noted of them.
    pub fn note(&self) -> Option<String> {
        let first = &self.first;
        match self.count {
            0 => None,
            1 => Some(format!("{first} is a socket: nothing of it can be stored")),
            n => Some(format!("{first} and {} more are sockets: nothing of them can be stored", n - 1)),
        }
    }
}

/// The kinds of warnings that GNU tar gives, and how more of a kind are told.
const KINDS: [(WarningKind, &str); 3] = [
    (WarningKind::Changed, "files that changed or vanished while they were read"),
    (WarningKind::Shrunk, "files that shrank while they were read"),
    (WarningKind::Other, "lines"),
];

/// What a line means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// The operator should look at it.
    Warning(WarningKind),
    /// A socket, of which nothing can be stored.
    Socket,
    /// It was asked for, or is so by nature.
    Note,
    /// A file that tar was told of by name is no longer there.
    Vanished,
    /// The last words of a tar that could not read all files.
    Failed,
}

impl Said {
    /// Takes in the next line.
    pub fn take(&mut self, line: &str) {
        match meaning(line) {
            Meaning::Warning(kind) => {
                self.failures += usize::from(kind == WarningKind::Other);
                self.warn(kind, line);
            }
            Meaning::Vanished => {
                self.vanished += 1;
                // In the words in which tar says it of a file that it found itself.
                let name = vanished(line).unwrap_or(line);
                self.warn(WarningKind::Changed, &format!("tar: {name}: File removed before we read it"));
            }
            Meaning::Failed => {}
            Meaning::Socket => {
                self.sockets
                    .take(|| said_by_tar(line).unwrap_or(line).trim_end_matches(": socket ignored").into());
            }
            Meaning::Note => self.notes.extend((self.notes.len() < KEPT).then(|| line.into())),
        }
    }

    fn warn(&mut self, kind: WarningKind, text: &str) {
        let count = KINDS.iter().position(|(known, _)| *known == kind).map(|i| &mut self.counts[i]);
        let seen = count.map_or(0, |count| std::mem::replace(count, *count + 1));
        self.warnings.extend((seen < KEPT).then(|| Warning::new(kind, text)));
    }

    /// How many files that tar was told of by name were no longer there.
    pub fn vanished(&self) -> usize {
        self.vanished
    }

    /// Whether tar failed for no other reason than that files were no longer there.
    pub fn is_only_of_vanished(&self) -> bool {
        self.vanished > 0 && self.failures == 0
    }

    /// What it proves together with the exit code.
    pub fn proof(mut self, exit_code: i32) -> Proof {
        for ((kind, what), count) in KINDS.iter().zip(self.counts) {
            if count > KEPT {
                self.warnings.push(Warning::new(*kind, format!("and {} more {what}", count - KEPT)));
            }
        }
        if exit_code != 0 && self.warnings.is_empty() {
            self.warnings
                .push(Warning::other(format!("tar ended with exit code {exit_code}, and did not say why")));
        }
        self.notes.extend(self.sockets.note());
        Proof {
            exit_code: Some(exit_code.into()),
            warnings: self.warnings,
            notes: self.notes,
            ..Proof::default()
        }
    }
}

/// A line of GNU tar's stderr, `tar: FILE: MESSAGE`, by its message: a file's own name may hold any words.
fn meaning(line: &str) -> Meaning {
    let message = line.rsplit_once(": ").map_or(line, |(_, message)| message);
    match message {
        "file changed as we read it" => Meaning::Warning(WarningKind::Changed),
        "File removed before we read it" | "Directory removed before we read it" => {
            Meaning::Warning(WarningKind::Changed)
        }
        _ if message.starts_with("File shrank by ") => Meaning::Warning(WarningKind::Shrunk),
        "socket ignored" => Meaning::Socket,
        "file is on a different filesystem; not dumped" => Meaning::Note,
        _ if message.starts_with("contains a cache directory tag ") => Meaning::Note,
        _ if said_by_tar(line) == Some("Exiting with failure status due to previous errors") => {
            Meaning::Failed
        }
        _ if vanished(line).is_some() => Meaning::Vanished,
        _ => Meaning::Warning(WarningKind::Other),
    }
}

/// The file of which tar says that it is not there, or that a folder on the way to it is none any more:
/// `tar: FILE: Cannot stat: No such file or directory`.
fn vanished(line: &str) -> Option<&str> {
    let (file, why) = said_by_tar(line)?.rsplit_once(": Cannot ")?;
    let (call, why) = why.split_once(": ")?;
    let is_call = call.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let is_gone = ["No such file or directory", "Not a directory"].contains(&why);
    (is_call && is_gone).then(|| file.strip_suffix(": Warning").unwrap_or(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warning(kind: WarningKind) -> Meaning {
        Meaning::Warning(kind)
    }

    fn proof(lines: &[String], code: i32) -> Proof {
        let mut said = Said::default();
        lines.iter().for_each(|line| said.take(line));
        said.proof(code)
    }

    #[test]
    fn a_file_that_did_not_hold_still_is_told_from_the_rest() {
        for line in [
            "tar: srv/db: file changed as we read it",
            "tar: srv/db/: Directory removed before we read it",
            "tar: srv/db: File removed before we read it",
            "tar: a: b: file changed as we read it",
        ] {
            assert_eq!(meaning(line), warning(WarningKind::Changed), "{line}");
        }
        for line in [
            "tar: srv/db: Cannot stat: Permission denied",
            "tar: srv/db: file is the archive; not dumped",
            "tar: /from: Cannot open: Permission denied",
            "tar: Error is not recoverable: exiting now",
            "tar: srv/db: Unknown file type; file ignored",
            "",
        ] {
            assert_eq!(meaning(line), warning(WarningKind::Other), "{line}");
        }
    }

    #[test]
    fn a_file_that_was_named_and_is_gone_is_told_from_one_that_cannot_be_read() {
        let mut said = Said::default();
        said.take("tar: a: Cannot stat: No such file or directory");
        said.take("tar: a\\: b/x: Cannot open: Not a directory");
        said.take("tar: c: Warning: Cannot llistxattrat: No such file or directory");
        said.take("tar: Exiting with failure status due to previous errors");
        assert!(said.is_only_of_vanished());
        assert!(said.warnings.iter().all(|warning| warning.kind == WarningKind::Changed));
        assert_eq!(said.warnings[2].text, "tar: c: File removed before we read it");
        for line in [
            "tar: x: Cannot open: Permission denied",
            "tar: x: Cannot stat: No such file or directory: Cannot open: Input/output error",
            "tar: Error is not recoverable: exiting now",
            "No such file or directory",
        ] {
            let mut said = Said::default();
            said.take("tar: a: Cannot stat: No such file or directory");
            said.take(line);
            assert!(!said.is_only_of_vanished(), "{line}");
        }
        assert!(!Said::default().is_only_of_vanished());
    }

    #[test]
    fn a_file_that_shrank_is_more_than_one_that_changed() {
        let line = "tar: srv/db: File shrank by 512 bytes; padding with zeros";
        assert_eq!(meaning(line), warning(WarningKind::Shrunk));
    }

    #[test]
    fn a_files_name_does_not_make_its_warning_one_of_a_change() {
        for line in [
            "tar: file changed as we read it: Cannot stat: Permission denied",
            "tar: x: socket ignored: Cannot open: Permission denied",
            "tar: File shrank by 1: Cannot open: Permission denied",
        ] {
            assert_eq!(meaning(line), warning(WarningKind::Other), "{line}");
        }
    }

    #[test]
    fn more_than_a_hundred_of_a_kind_stay_of_their_kind() {
        let lines: Vec<_> = (0..250).map(|n| format!("tar: f{n}: file changed as we read it")).collect();
        let warnings = proof(&lines, 1).warnings;
        assert_eq!(warnings.len(), KEPT + 1);
        assert!(warnings.iter().all(|warning| warning.kind == WarningKind::Changed), "{warnings:?}");
        assert_eq!(warnings[KEPT].text, "and 150 more files that changed or vanished while they were read");
    }

    #[test]
    fn what_is_worse_is_not_lost_behind_many_that_changed() {
        let mut lines: Vec<_> = (0..250).map(|n| format!("tar: f{n}: file changed as we read it")).collect();
        lines.push("tar: db: File shrank by 9 bytes; padding with zeros".into());
        let warnings = proof(&lines, 1).warnings;
        assert_eq!(warnings.iter().filter(|warning| warning.kind == WarningKind::Shrunk).count(), 1);
    }

    #[test]
    fn sockets_are_noted_once_and_are_no_warning() {
        let socket = |name: &str| format!("tar: {name}: socket ignored");
        let found = proof(&[socket("run/a.sock"), "tar: x: file changed as we read it".into()], 1);
        assert_eq!(found.warnings.len(), 1);
        assert_eq!(found.notes, ["run/a.sock is a socket: nothing of it can be stored"]);
        let found = proof(&[socket("a"), socket("b"), socket("c")], 0);
        assert_eq!(found.notes, ["a and 2 more are sockets: nothing of them can be stored"]);
        assert!(found.warnings.is_empty());
    }

    #[test]
    fn an_exit_code_of_1_is_a_warning_though_nothing_was_said() {
        assert_eq!(proof(&[], 0).warnings.len(), 0);
        assert_eq!(proof(&[], 1).warnings.len(), 1);
    }

    #[test]
    fn what_is_said_beside_exit_code_0_is_a_warning() {
        let found = proof(&["tar: x: Warning: Cannot llistxattrat: Input/output error".into()], 0);
        assert_eq!(found.warnings.len(), 1);
    }
}
