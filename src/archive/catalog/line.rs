//! The line of a member, as it is copied from one catalog to the next: not all of it is parsed, and nothing of it is
//! written anew but the number of the archive that holds the member.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use serde::Deserialize;

use super::{Record, parse_line};
use crate::error::{Error, Result};
use crate::tar::{Entry, name};

/// What comes before a line's reference, where it has one, and before the length that it stands behind. Within text, JSON
/// has no quote that is not escaped, so that neither stands there.
const REFERENCE: &[u8] = b",\"ref\":";
const LEN: &[u8] = b",\"len\":";

/// A member's line, without the line feed, and what of it is known.
#[derive(Debug, Clone)]
pub struct EntryLine {
    /// The member's name, plain.
    pub name: Vec<u8>,
    /// Offset in the source of the archive that holds it.
    pub at: u64,
    /// Bytes that it takes there.
    pub len: u64,
    /// The archive that holds it, by the number in this catalog; 0 is its own.
    pub reference: u32,
    line: Bytes,
    /// Where its reference stands in it with its key, or would stand; none in a line that this program did not write.
    place: Option<Range<usize>>,
}

/// A record that is a member, as far as it is looked at.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Parsed<'a> {
    #[serde(borrow)]
    Entry(ParsedEntry<'a>),
}

#[derive(Deserialize)]
struct ParsedEntry<'a> {
    #[serde(borrow)]
    path: Cow<'a, str>,
    path_hex: Option<String>,
    at: u64,
    len: u64,
    #[serde(rename = "ref")]
    reference: Option<u32>,
}

impl EntryLine {
    fn parse(line: Bytes) -> Result<EntryLine> {
        let Parsed::Entry(entry) = serde_json::from_slice(&line)
            .map_err(|e| Error::damaged("the catalog is damaged: a line is no member").because(e))?;
        let ParsedEntry { path, path_hex, at, len, reference } = entry;
        let name = match &path_hex {
            None => name::plain(path.as_bytes()).to_vec(),
            Some(_) => name::plain(&name::bytes(&path, path_hex.as_deref())).to_vec(),
        };
        let place = place(&line, reference.is_some());
        Ok(EntryLine { name, at, len, reference: reference.unwrap_or(0), line, place })
    }

    /// The member in the archive of another number.
    #[must_use]
    pub fn with_reference(self, reference: u32) -> EntryLine {
        EntryLine { reference, ..self }
    }

    /// Appends the line, its line feed behind it.
    ///
    /// # Errors
    /// It is no line of a member, or does not serialise.
    pub(super) fn write(&self, lines: &mut Vec<u8>) -> Result<()> {
        let Some(place) = &self.place else { return self.write_anew(lines) };
        lines.extend_from_slice(&self.line[..place.start]);
        if self.reference != 0 {
            lines.extend_from_slice(REFERENCE);
            lines.extend_from_slice(self.reference.to_string().as_bytes());
        }
        lines.extend_from_slice(&self.line[place.end..]);
        lines.push(b'\n');
        Ok(())
    }

    /// A line that has blanks, or its fields in another order.
    fn write_anew(&self, lines: &mut Vec<u8>) -> Result<()> {
        match parse_line(&self.line)? {
            Record::Entry(entry) => {
                super::pages::write_line(lines, &Record::Entry(Entry { reference: self.reference, ..entry }))
            }
            _ => Err(Error::damaged("the catalog is damaged: a line is no member")),
        }
    }
}

/// The members in the lines of a page.
///
/// # Errors
/// A line is none.
pub(super) fn parse_entry_lines(lines: Vec<u8>) -> Result<Vec<EntryLine>> {
    let lines = Bytes::from(lines);
    let each = lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    each.map(|line| EntryLine::parse(lines.slice_ref(line))).collect()
}

/// Where the reference of a line stands, or would stand.
fn place(line: &[u8], has_reference: bool) -> Option<Range<usize>> {
    let after_number =
        |from: usize| from + line[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    // Little follows it.
    let start = after_number(line.windows(LEN.len()).rposition(|bytes| bytes == LEN)? + LEN.len());
    match (line[start..].starts_with(REFERENCE), has_reference) {
        (true, _) => Some(start..after_number(start + REFERENCE.len())),
        (false, false) => Some(start..start),
        (false, true) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, reference: u32) -> Entry {
        let json = serde_json::json!({
            "path": path, "type": "file", "mode": 0o644, "uid": 1, "gid": 2, "mtime": "0", "size": 3,
            "at": 512, "len": 1024, "ref": reference, "stat": [1, 2, 3, 4, 5, 6, 7, 8, 9],
        });
        serde_json::from_value(json).unwrap()
    }

    fn written(entry: &Entry) -> Vec<u8> {
        let mut line = Vec::new();
        crate::archive::catalog::pages::write_line(&mut line, &Record::Entry(entry.clone())).unwrap();
        line
    }

    #[test]
    fn a_line_is_what_the_member_would_be_written_as() {
        for path in ["a", "./d/", "a,\"ref\":7,\"len\":8", "\\,", "a,", "b\nc\u{1}", "\u{e9}\u{fffd}"] {
            for (old, new) in [(0, 0), (0, 1), (1, 1), (1, 0), (9, 10), (4_000_000_000, 2)] {
                let lines = parse_entry_lines(written(&entry(path, old))).unwrap();
                let [line] = &lines[..] else { panic!("{} lines", lines.len()) };
                assert_eq!((line.at, line.len, line.reference), (512, 1024, old));
                assert_eq!(line.name, name::plain(path.as_bytes()));
                let mut copied = Vec::new();
                line.clone().with_reference(new).write(&mut copied).unwrap();
                assert_eq!(copied, written(&entry(path, new)), "{path} {old} {new}");
            }
        }
        let named = Entry { path: "\u{fffd}".into(), path_hex: Some("ff".into()), ..entry("", 0) };
        assert_eq!(parse_entry_lines(written(&named)).unwrap()[0].name, b"\xff");
    }

    #[test]
    fn a_line_of_another_layout_is_written_anew() {
        let text = String::from_utf8(written(&entry("a b", 3))).unwrap();
        let spaced = text.replace("\",\"", "\" , \"").replace(",\"", ", \"");
        assert_ne!(spaced, text);
        let line = parse_entry_lines(spaced.into()).unwrap().remove(0).with_reference(4);
        let mut copied = Vec::new();
        line.write(&mut copied).unwrap();
        assert_eq!(copied, written(&entry("a b", 4)));
    }

    #[test]
    fn what_is_no_member_is_damage() {
        for line in [&b"{}"[..], b"{\"frame\":[0,0,0,0,0,\"\"]}", b"{\"entry\":{\"path\":\"a\"}}", b"x"] {
            assert!(parse_entry_lines(line.to_vec()).is_err());
        }
    }
}
