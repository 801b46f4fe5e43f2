//! `ls`: the members of an archive, from its catalog alone.

use crate::cli::Ls;
use crate::error::{Error, Kind, Result};
use crate::job::stored::StoredArchive;
use crate::report::{Mode, Reporter, print, printable};
use crate::tar::select::Patterns;
use crate::tar::{Entry, EntryType};

/// Prints the members that match.
pub async fn ls(options: Ls, mode: Mode, ui: &Reporter) -> Result<()> {
    let patterns = Patterns::new(&options.patterns, &[])?;
    let found = StoredArchive::find(&options.archive.open.from.from, &options.archive.archive).await?;
    let passphrase = found.passphrase(&options.archive.open)?;
    // Nothing is printed before the catalog's end has confirmed it.
    let mut lines = Vec::new();
    found
        .open_with(passphrase, |entry| {
            if patterns.take(&entry.path) {
                lines.push(match mode {
                    Mode::Json => serde_json::to_string(entry).unwrap_or_default(),
                    _ if options.long => long(entry),
                    _ => printable(&entry.path),
                });
            }
        })
        .await?;
    if lines.is_empty() && !options.patterns.is_empty() {
        return Err(Error::new(Kind::NotFound, "no member matches").hint("`*` matches slashes too: '*.conf'"));
    }
    if lines.is_empty() {
        ui.note("the archive has no members: its source is no tar, or an empty one");
    }
    lines.iter().try_for_each(|line| print(line))
}

fn long(entry: &Entry) -> String {
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
    let link = entry.link.as_ref().map(|link| format!(" -> {}", printable(link))).unwrap_or_default();
    let (mode, owner) = (entry.mode, format!("{}:{}", entry.uid, entry.gid));
    format!("{kind}{mode:04o} {owner:>11} {:>14} {time} {}{link}", entry.size, printable(&entry.path))
}
