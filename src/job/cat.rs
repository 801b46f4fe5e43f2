//! `cat`: one file of an archive; only the frames that hold it are fetched.

use std::ops::Range;
use std::sync::Arc;

use secrecy::SecretString;

use super::restore::{write_ranges, write_tar_end};
use super::stored::{ArchiveRef, OpenRequest, StoredArchive};
use crate::archive::open::Archive;
use crate::error::{Error, Kind, Result};
use crate::report::Reporter;
use crate::sink::{self, EarlyEnd};
use crate::stream::counters::Counters;
use crate::stream::sink::Sink;
use crate::tar::{Entry, EntryType};

/// Which file of which archive.
#[derive(Debug, Clone)]
pub struct CatRequest {
    /// Where the archive is, and what opens it.
    pub open: OpenRequest,
    /// The archive.
    pub archive: ArchiveRef,
    /// The member's name, as `ls` shows it.
    pub path: String,
}

/// Writes one file to stdout.
///
/// # Errors
/// There is no such archive or file, it cannot be opened, or nobody reads stdout.
pub async fn cat(request: &CatRequest, ui: &Reporter) -> Result<()> {
    let found = StoredArchive::find(&request.open.store, &request.archive, ui).await?;
    let passphrase = found.passphrase(&request.open)?;
    let (archive, member) = find(&found, passphrase, &request.path).await?;
    let range = file_range(&request.path, &member)?;
    let early = EarlyEnd::Enough;
    let mut sink = if member.sparse { sink::expand(ui)? } else { sink::stdout(early)? };
    match deliver(&archive, range, member.sparse, &sink).await {
        Ok(()) => sink.finish().await.map(drop),
        Err(error) => Err(sink.fail(error).await),
    }
}

/// The member with the data of the file at `path`.
async fn find(
    found: &StoredArchive,
    passphrase: Option<SecretString>,
    path: &str,
) -> Result<(Arc<Archive>, Entry)> {
    let mut search = Search::new(path);
    // A hard link has no data: a second look finds the member that has.
    loop {
        let archive = found.open_with(passphrase.clone(), |entry| search.look(entry)).await?;
        if search.follow() {
            continue;
        }
        return match search.member {
            Some(member) => Ok((archive, member)),
            None => Err(Error::new(Kind::NotFound, format!("there is no member {path}"))
                .hint("`sealift ls` shows their names")),
        };
    }
}

/// The last member of a name is the one that a restore leaves.
struct Search {
    wanted: String,
    member: Option<Entry>,
    /// The name is a hard link's target already.
    followed: bool,
}

impl Search {
    fn new(path: &str) -> Self {
        Search { wanted: plain(path).into(), member: None, followed: false }
    }

    fn look(&mut self, entry: &Entry) {
        if plain(&entry.path) == self.wanted {
            self.member = Some(entry.clone());
        }
    }

    /// Whether what was found is a hard link, so that its target is to be looked for.
    fn follow(&mut self) -> bool {
        match &self.member {
            Some(Entry { kind: EntryType::Link, link: Some(target), .. }) if !self.followed => {
                self.wanted = plain(target).into();
                self.followed = true;
                true
            }
            _ => false,
        }
    }
}

fn plain(path: &str) -> &str {
    path.trim_start_matches("./")
}

/// A file's data; of a sparse one the whole member, which GNU tar expands.
fn file_range(path: &str, member: &Entry) -> Result<Range<u64>> {
    if member.kind != EntryType::File {
        return Err(Error::usage(format!("{path} is no file")).hint("`sealift ls --long` shows what it is"));
    }
    let impossible = || Error::damaged("the catalog says what cannot be of this file");
    match member.sparse {
        true => {
            let end = member.at.checked_add(member.len).ok_or_else(impossible)?;
            Ok(member.at..end)
        }
        false => member.data().ok_or_else(impossible),
    }
}

async fn deliver(archive: &Arc<Archive>, range: Range<u64>, is_sparse: bool, sink: &Sink) -> Result<()> {
    write_ranges(archive, &[range], sink, &Counters::default()).await?;
    match is_sparse {
        true => write_tar_end(sink).await,
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(path: &str, at: u64) -> Entry {
        serde_json::from_value(json!({
            "path": path, "at": at, "len": 1024, "type": "file", "mode": 0o644, "uid": 0, "gid": 0, "size": 7,
            "mtime": "0",
        }))
        .unwrap()
    }

    fn search(path: &str, entries: &[Entry]) -> Search {
        let mut search = Search::new(path);
        entries.iter().for_each(|entry| search.look(entry));
        search
    }

    #[test]
    fn the_last_member_of_a_name_is_found_whatever_it_begins_with() {
        let entries = [entry("./a", 0), entry("b", 1024), entry("a", 2048)];
        for path in ["a", "./a"] {
            assert_eq!(search(path, &entries).member.unwrap().at, 2048, "{path}");
        }
        assert!(search("c", &entries).member.is_none());
    }

    #[test]
    fn a_hard_link_leads_to_its_file_once() {
        let link = |path: &str, target: &str| Entry {
            kind: EntryType::Link,
            link: Some(target.into()),
            ..entry(path, 1024)
        };
        let entries = [entry("a", 0), link("b", "./a"), link("c", "b")];
        let mut found = search("b", &entries);
        assert!(found.follow());
        entries.iter().for_each(|entry| found.look(entry));
        assert!(!found.follow());
        assert_eq!(found.member.unwrap().at, 0);
        let mut found = search("c", &entries);
        assert!(found.follow());
        entries.iter().for_each(|entry| found.look(entry));
        assert!(!found.follow(), "a link to a link leads no further");
        assert_eq!(file_range("c", &found.member.unwrap()).unwrap_err().kind(), Kind::Usage);
    }

    #[test]
    fn of_a_file_its_data_is_written_and_of_a_sparse_one_the_member() {
        let file = entry("a", 2048);
        assert_eq!(file_range("a", &file).unwrap(), file.data().unwrap());
        let sparse = Entry { sparse: true, ..file };
        assert_eq!(file_range("a", &sparse).unwrap(), 2048..3072);
    }

    #[test]
    fn what_is_no_file_is_refused() {
        for kind in [EntryType::Dir, EntryType::Symlink, EntryType::Fifo, EntryType::Other] {
            let error = file_range("a", &Entry { kind, ..entry("a", 0) }).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{kind:?}");
        }
    }

    #[test]
    fn a_member_that_is_smaller_than_its_file_is_damage() {
        let file = Entry { size: 4096, ..entry("a", 0) };
        assert_eq!(file_range("a", &file).unwrap_err().kind(), Kind::Damaged);
    }
}
