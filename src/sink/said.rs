//! What GNU tar says while it unpacks, sorted by what it means: content that is missing, or something beside it that could
//! not be set.

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use crate::report::{Reporter, printable, said_by_tar};

/// Why something beside contents could not be set, in glibc's words and in musl's. Anything else is about contents.
const REASONS: [&str; 14] = [
    "Operation not permitted",
    "Permission denied",
    "Operation not supported",
    "Not supported",
    "Function not implemented",
    "Invalid argument",
    "Numerical result out of range",
    "Result not representable",
    "Argument list too long",
    "No space left on device",
    "Disk quota exceeded",
    "Quota exceeded",
    "No data available",
    "Value too large for defined data type",
];

/// How lines begin that end with a file's name in quotes, and the reason.
const OF_FILE: [(&str, Lost); 5] = [
    // Every ACL is set once more as an ACL: only then it is lost.
    ("setxattrat: Cannot set 'system.posix_acl_", Lost::Nothing),
    ("setxattrat: Cannot set '", Lost::Attributes),
    ("lsetxattr: Cannot set '", Lost::Attributes),
    ("acl_set_file_at: Cannot set POSIX ACLs for file '", Lost::Acls),
    ("acl_delete_def_file_at: Cannot drop default POSIX ACLs for file '", Lost::Acls),
];

/// What GNU tar says last when it has gone on after something failed.
const WENT_ON: &str = "Exiting with failure status due to previous errors";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    /// Nothing.
    Nothing,
    Owners,
    Modes,
    Times,
    Attributes,
    Acls,
    Devices,
    /// Anything else.
    Contents,
}

impl Lost {
    const NAMED: [(Lost, &str); 6] = [
        (Lost::Owners, "owners of # members"),
        (Lost::Modes, "modes of # members"),
        (Lost::Times, "times of # members"),
        (Lost::Attributes, "# extended attributes or capabilities"),
        (Lost::Acls, "ACLs of # members"),
        (Lost::Devices, "# device nodes"),
    ];

    /// Of a line in the C locale. Names of files stand in it, which may look like any of tar's words: what is not built
    /// exactly so is about contents.
    fn of(line: &str) -> Lost {
        let text = said_by_tar(line).unwrap_or(line);
        if is_nothing(text) {
            return Lost::Nothing;
        }
        let Some((before, _)) = text.rsplit_once(": ").filter(|(_, reason)| REASONS.contains(reason)) else {
            return Lost::Contents;
        };
        let quoted = before.ends_with('\'') && before.matches("Cannot ").count() == 1;
        let of_file = OF_FILE.iter().find(|(words, _)| quoted && before.starts_with(words));
        let action = before.rsplit_once(": ").map_or(before, |(_, action)| action);
        if let Some((words, lost)) = of_file {
            // A folder without ACLs, where there are none: it has none.
            let had_none = words.starts_with("acl_delete") && text.ends_with("upported");
            return if had_none { Lost::Nothing } else { *lost };
        }
        match action {
            "Cannot utime" => Lost::Times,
            "Cannot acl_from_text" => Lost::Acls,
            "Cannot mknod" if text.ends_with(": Operation not permitted") => Lost::Devices,
            _ if is_owner(action) => Lost::Owners,
            _ if action.strip_prefix("Cannot change mode to ").is_some_and(is_mode) => Lost::Modes,
            _ => Lost::Contents,
        }
    }
}

/// What means nothing for what was unpacked.
fn is_nothing(text: &str) -> bool {
    let last = text.rsplit_once(": ").map_or("", |(_, last)| last);
    let is_date = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b" .:-".contains(&b));
    let in_future = |text: &str| {
        text.strip_suffix(" s in the future")
            .and_then(|text| text.split_once(" is "))
            .is_some_and(|(date, seconds)| is_date(date) && is_date(seconds))
    };
    text == WENT_ON
        || last.strip_prefix("implausibly old time stamp ").is_some_and(is_date)
        || last.strip_prefix("time stamp ").is_some_and(in_future)
}

fn is_owner(action: &str) -> bool {
    let ids = action.strip_prefix("Cannot change ownership to uid ").and_then(|ids| ids.split_once(", gid "));
    let is_id = |id: &str| !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit());
    ids.is_some_and(|(uid, gid)| is_id(uid) && is_id(gid))
}

fn is_mode(text: &str) -> bool {
    text.len() == 9 && text.bytes().all(|b| b"rwxstST-".contains(&b))
}

/// What was said, in bounds.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Of each kind how often, and the first line.
    lost: Vec<(Lost, u64, String)>,
    /// The last lines that are about contents.
    pub(super) last: Vec<String>,
    /// Whether tar went on to the end after something failed.
    went_on: bool,
}

impl Said {
    /// Last lines that are kept.
    const LAST: usize = 5;
    /// What is shown of a line is cut here. It is judged as a whole: a name may have `PATH_MAX` bytes, of which tar writes
    /// each as up to four, and what failed stands behind it.
    const SHOWN: usize = 4096;

    /// Reads to the end.
    pub(super) async fn read(mut self, from: impl AsyncRead + Unpin, ui: &Reporter) -> Self {
        let (mut reader, mut line) = (BufReader::new(from), Vec::new());
        loop {
            line.clear();
            match reader.read_until(b'\n', &mut line).await {
                Ok(1..) => self.take(&line, ui),
                _ => return self,
            }
        }
    }

    fn take(&mut self, line: &[u8], ui: &Reporter) {
        let shown = String::from_utf8_lossy(&line[..line.len().min(Self::SHOWN)]);
        let shown = shown.trim_end();
        let line = String::from_utf8_lossy(line);
        let line = line.trim_end();
        self.went_on |= said_by_tar(line) == Some(WENT_ON);
        let lost = Lost::of(line);
        if line.is_empty() || lost == Lost::Nothing {
            return;
        }
        match self.lost.iter_mut().find(|(known, ..)| *known == lost) {
            Some((_, count, _)) => *count += 1,
            None => self.lost.push((lost, 1, printable(shown))),
        }
        if lost == Lost::Contents {
            ui.source_line(shown);
            self.last.push(printable(shown));
            let many = self.last.len().saturating_sub(Self::LAST);
            self.last.drain(..many);
        }
    }

    /// Whether all contents are there, whatever else is lost: all failed lines are about something else, and tar went on.
    pub(super) fn has_all_contents(&self) -> bool {
        self.went_on && self.lost.iter().all(|(lost, ..)| *lost != Lost::Contents)
    }

    /// Whether nothing was lost that is worth a word.
    pub(super) fn is_nothing(&self) -> bool {
        self.lost.is_empty()
    }

    /// Says once of each kind what could not be set.
    pub(super) fn warn(&self, ui: &Reporter) {
        for (lost, name) in Lost::NAMED {
            if let Some((_, count, first)) = self.lost.iter().find(|(known, ..)| *known == lost) {
                let lost = name.replace('#', &count.to_string());
                ui.warn(&format!("{lost} could not be set, all contents are there: {first}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Recorder;

    async fn said(text: &str) -> (Said, Vec<String>) {
        let recorder = Recorder::default();
        let said = Said::default().read(text.as_bytes(), &Reporter::new(recorder.clone())).await;
        said.warn(&Reporter::new(recorder.clone()));
        (said, recorder.texts())
    }

    #[tokio::test]
    async fn what_could_not_be_set_is_said_once_of_each_kind() {
        let (said, texts) = said(
            "tar: a: Cannot change ownership to uid 0, gid 0: Operation not permitted\n\
             tar: b: Cannot change ownership to uid 0, gid 7: Operation not permitted\n\
             tar: setxattrat: Cannot set 'user.a' extended attribute for file 'd/f': Operation not supported\n\
             tar: dev: Cannot mknod: Operation not permitted\n\
             tar: Exiting with failure status due to previous errors\n",
        )
        .await;
        assert!(said.has_all_contents() && !said.is_nothing());
        assert_eq!(texts.len(), 3, "{texts:?}");
        assert!(texts[0].starts_with("warning: owners of 2 members could not be set"), "{texts:?}");
    }

    #[tokio::test]
    async fn the_longest_name_hides_nothing_of_what_failed() {
        // 4,095 bytes, of which each is written as four characters.
        let long = "d/".repeat(1000) + &"\\303".repeat(2095);
        let (lost, texts) = said(&format!(
            "tar: {long}: Cannot change ownership to uid 0, gid 0: Operation not permitted\ntar: {WENT_ON}\n"
        ))
        .await;
        assert!(lost.has_all_contents() && !lost.is_nothing());
        assert!(texts.len() == 1 && texts[0].starts_with("warning: owners of 1 members"), "{texts:?}");
        assert!(texts[0].len() < 5000, "{}", texts[0].len());
        let (lost, _) = said(&format!("tar: {long}: Cannot open: No such file\ntar: {WENT_ON}\n")).await;
        assert!(!lost.has_all_contents());
    }

    #[tokio::test]
    async fn what_is_about_contents_is_no_loss_beside_them() {
        for line in [
            "a: Cannot open: No space left on device",
            "dev: Cannot mknod: File exists",
            "?",
            "a: Cannot utime: Input/output error",
            // Names of files are in no position to say otherwise.
            "a: Cannot utime: Operation not permitted: Cannot open: Permission denied",
            "a: Cannot utime: Wrote only 5 of 512 bytes",
            "a: time stamp 2100-01-01 is 1 s in the future: Wrote only 5 of 512 bytes",
            "a: Cannot hard link to 'b: Cannot utime': Operation not permitted",
            "a: Cannot hard link to 'b: Cannot change mode to rwxr-xr-x': Operation not permitted",
            "acl_set_file_at: Cannot set POSIX ACLs for file 'a: Cannot hard link to 'b': Operation not permitted",
            "setxattrat: Cannot set 'a: Cannot open: Permission denied",
        ] {
            let (said, texts) = said(&format!("tar: {line}\ntar: {WENT_ON}\n")).await;
            assert!(!said.has_all_contents(), "{line}");
            assert_eq!(texts.len(), 1, "{texts:?}");
        }
        // One that stopped has not unpacked what follows.
        let (said, _) = said("tar: a: Cannot utime: Operation not permitted\n").await;
        assert!(!said.has_all_contents());
    }

    #[tokio::test]
    async fn every_attribute_is_known_by_tars_own_words() {
        for (line, lost) in [
            (
                "lsetxattr: Cannot set 'security.capability' extended attribute for file 'd/f: x'",
                Lost::Attributes,
            ),
            (
                "setxattrat: Cannot set 'system.posix_acl_access' extended attribute for file 'f'",
                Lost::Nothing,
            ),
            ("acl_delete_def_file_at: Cannot drop default POSIX ACLs for file 'd'", Lost::Acls),
            ("acl_set_file_at: Cannot set POSIX ACLs for file 'd/f'", Lost::Acls),
            ("d\\: /f: Warning: Cannot acl_from_text", Lost::Acls),
            ("d/f: Cannot change mode to rwsr-xr-x", Lost::Modes),
            ("d: e: Cannot utime", Lost::Times),
        ] {
            assert_eq!(Lost::of(&format!("tar: {line}: Operation not permitted")), lost, "{line}");
        }
        let none = "tar: acl_delete_def_file_at: Cannot drop default POSIX ACLs for file 'd': Operation not supported";
        assert_eq!(Lost::of(none), Lost::Nothing);
    }

    #[tokio::test]
    async fn what_means_nothing_is_not_said() {
        let (said, texts) = said("tar: a: time stamp 2100-01-01 00:00:00 is 1 s in the future\n\n").await;
        assert!(said.is_nothing() && texts.is_empty(), "{texts:?}");
    }
}
