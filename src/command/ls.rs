//! `ls`: the members of an archive.

use crate::cli::Ls;
use crate::error::Result;
use crate::job;
use crate::report::{Mode, Reporter, print};
use crate::tar::{Entry, EntryType, name};

/// Prints the members that match.
///
/// # Errors
/// As [`job::ls::ls`]; nobody reads what is printed.
pub async fn ls(options: Ls, mode: Mode, ui: &Reporter) -> Result<()> {
    let long = options.long;
    // Nothing is printed before it is confirmed.
    let mut lines = Vec::new();
    let mut each = |entry: &Entry, is_confirmed| {
        let line = line(entry, mode, long);
        match is_confirmed {
            true => print(&line)?,
            false => lines.push(line),
        }
        Ok(())
    };
    let count = job::ls::ls(&options.request()?, ui, &mut each).await?;
    if count == 0 {
        ui.note("the archive has no members: its source is no tar, or an empty one");
    }
    lines.iter().try_for_each(|line| print(line))
}

fn line(entry: &Entry, mode: Mode, long: bool) -> String {
    match mode {
        Mode::Json => serde_json::to_string(entry).unwrap_or_default(),
        _ if long => long_line(entry),
        _ => name::shown(&entry.name()),
    }
}

fn long_line(entry: &Entry) -> String {
    let kind = match entry.kind {
        EntryType::File => '-',
        EntryType::Link => 'h',
        EntryType::Symlink => 'l',
        EntryType::Char => 'c',
        EntryType::Block => 'b',
        EntryType::Dir => 'd',
        EntryType::Fifo => 'p',
        EntryType::Other => '?',
    };
    let seconds = entry.mtime.split('.').next().and_then(|s| s.parse().ok()).unwrap_or(0);
    let time =
        jiff::Timestamp::from_second(seconds).unwrap_or_default().strftime("%Y-%m-%d %H:%M:%SZ").to_string();
    let link = entry.link_name().map(|link| format!(" -> {}", name::shown(&link))).unwrap_or_default();
    let (mode, owner) = (entry.mode, format!("{}:{}", entry.uid, entry.gid));
    format!("{kind}{mode:04o} {owner:>11} {:>14} {time} {}{link}", entry.size, name::shown(&entry.name()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(path: &str, kind: &str) -> Entry {
        serde_json::from_value(json!({
            "path": path, "at": 0, "len": 1024, "type": kind, "mode": 0o640, "uid": 1000, "gid": 7, "size": 42,
            "mtime": "86400.5",
        }))
        .unwrap()
    }

    #[test]
    fn a_short_line_is_the_name() {
        let file = entry("etc/fstab", "file");
        assert_eq!(line(&file, Mode::Human, false), "etc/fstab");
        assert_eq!(line(&file, Mode::Quiet, false), "etc/fstab");
    }

    #[test]
    fn a_long_line_has_type_mode_owner_size_and_time() {
        let expected = "-0640      1000:7             42 1970-01-02 00:00:00Z etc/fstab";
        assert_eq!(line(&entry("etc/fstab", "file"), Mode::Human, true), expected);
    }

    #[test]
    fn every_type_has_its_letter() {
        for (kind, letter) in [
            (EntryType::File, '-'),
            (EntryType::Link, 'h'),
            (EntryType::Symlink, 'l'),
            (EntryType::Char, 'c'),
            (EntryType::Block, 'b'),
            (EntryType::Dir, 'd'),
            (EntryType::Fifo, 'p'),
            (EntryType::Other, '?'),
        ] {
            let entry = Entry { kind, ..entry("x", "file") };
            assert!(long_line(&entry).starts_with(letter), "{kind:?}");
        }
    }

    #[test]
    fn a_link_names_its_target() {
        let link = Entry { link: Some("b\n".into()), ..entry("a", "symlink") };
        assert!(long_line(&link).ends_with(" a -> b\\n"), "{}", long_line(&link));
    }

    #[test]
    fn a_name_that_is_not_utf8_is_shown_as_it_can_be_written() {
        let hex = Some("61ff".to_string());
        let link =
            Entry { path_hex: hex.clone(), link: Some("?".into()), link_hex: hex, ..entry("?", "symlink") };
        assert_eq!(line(&link, Mode::Human, false), "a\\xff");
        assert!(long_line(&link).ends_with(" a\\xff -> a\\xff"), "{}", long_line(&link));
    }

    #[test]
    fn a_time_that_is_none_is_the_first_of_all() {
        for mtime in ["soon", "", "99999999999999999999"] {
            let entry = Entry { mtime: mtime.into(), ..entry("a", "file") };
            assert!(long_line(&entry).contains("1970-01-01 00:00:00Z"), "{mtime}");
        }
    }

    #[test]
    fn json_is_the_entry_of_the_catalog() {
        let file = entry("a\nb", "file");
        let read: Entry = serde_json::from_str(&line(&file, Mode::Json, true)).unwrap();
        assert_eq!(read, file);
    }
}
