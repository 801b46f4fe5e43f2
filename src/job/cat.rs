//! `cat`: one file of an archive; only the frames that hold it are fetched.

use std::collections::BTreeSet;
use std::ops::Range;

use secrecy::SecretString;

use super::deliver::{write_members, write_ranges};
use super::open_archive::OpenArchive;
use super::stored::{ArchiveRef, OpenRequest, StoredArchive};
use crate::archive::catalog::paged::Near;
use crate::error::{Error, Kind, Result};
use crate::report::Reporter;
use crate::sink::{self, EarlyEnd};
use crate::stream::counters::Counters;
use crate::tar::select::Part;
use crate::tar::{Entry, EntryType, name};

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
    let part = Part { reference: member.reference, ranges: std::iter::once(range).collect() };
    let early = EarlyEnd::Enough;
    let mut sink = if member.sparse { sink::expand(ui)? } else { sink::stdout(early)? };
    let delivered = match member.sparse {
        true => write_members(&archive, &[part], &sink, &Counters::default(), |_| Ok(true)).await,
        false => write_ranges(&archive, &part, &sink, &Counters::default()).await,
    };
    match delivered {
        Ok(()) => sink.finish().await.map(drop),
        Err(error) => Err(sink.fail(error).await),
    }
}

/// The member with the data of the file at `path`, in an archive that is open.
async fn find(
    found: &StoredArchive,
    passphrase: Option<SecretString>,
    path: &str,
) -> Result<(OpenArchive, Entry)> {
    let mut search = Search::new(path);
    let near = search.near();
    let each = |entry: &Entry| search.look(entry);
    let mut archive = OpenArchive::look(found, passphrase.as_ref(), |_| Some(near), each).await?;
    // A hard link has no data: a second look finds the member that has.
    while search.follow() {
        let near = search.near();
        archive.look_again(|_| Some(near), |entry| search.look(entry)).await?;
    }
    let Some(member) = search.member else {
        let error = Error::new(Kind::NotFound, format!("there is no member {path}"));
        return Err(error.hint("`sealift ls` shows their names"));
    };
    if let Some(lost) = archive.open_older(BTreeSet::from([member.reference])).await?.into_iter().next() {
        let name = archive.name_of(lost.reference);
        return Err(lost.error.context(format!("{path} lies in {name}")));
    }
    Ok((archive, member))
}

/// The last member of a name is the one that a restore leaves; a hard link means the last of its name before it. No two
/// members of a name lie in older archives.
struct Search {
    wanted: Vec<u8>,
    /// Only members of this archive, before this place of its source; none yet: of any.
    before: Option<(u32, u64)>,
    member: Option<Entry>,
}

impl Search {
    fn new(path: &str) -> Self {
        Search { wanted: name::plain(&name::parse(path)).to_vec(), before: None, member: None }
    }

    /// What the next look is to come by.
    fn near(&self) -> Near {
        Near { exact: vec![self.wanted.clone()], below: Vec::new() }
    }

    fn look(&mut self, entry: &Entry) {
        let is_before = |(reference, at)| entry.reference == reference && entry.at < at;
        if self.before.is_none_or(is_before) && name::plain(&entry.name()) == self.wanted {
            self.member = Some(entry.clone());
        }
    }

    /// Whether what was found is a hard link, so that its target is to be looked for.
    fn follow(&mut self) -> bool {
        let link = self
            .member
            .as_ref()
            .and_then(|member| Some(((member.reference, member.at), member.hard_link()?)));
        let Some((place, target)) = link else { return false };
        // Each step leads to an earlier member: it ends.
        (self.before, self.wanted, self.member) = (Some(place), name::plain(&target).to_vec(), None);
        true
    }
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

    /// The member that `path` leads to.
    fn found(path: &str, entries: &[Entry]) -> Option<Entry> {
        let mut found = search(path, entries);
        while found.follow() {
            entries.iter().for_each(|entry| found.look(entry));
        }
        found.member
    }

    fn link(path: &str, target: &str, at: u64) -> Entry {
        Entry { kind: EntryType::Link, link: Some(target.into()), ..entry(path, at) }
    }

    #[test]
    fn a_hard_link_means_the_member_before_it() {
        let entries = [entry("a", 0), link("b", "./a", 1024), entry("a", 2048), link("c", "b", 3072)];
        for (path, at) in [("a", 2048), ("b", 0), ("c", 0)] {
            assert_eq!(found(path, &entries).unwrap().at, at, "{path}");
        }
        // Nothing before it has the name.
        assert!(found("a", &[link("a", "a", 0)]).is_none());
        assert!(found("a", &[link("a", "b", 0), link("b", "a", 1024)]).is_none());
    }

    #[test]
    fn names_that_look_alike_are_told_apart() {
        let other = |hex: &str, at| Entry { path_hex: Some(hex.into()), ..entry("a\u{fffd}", at) };
        let entries = [other("61ff", 0), other("61fe", 1024), entry("a\u{fffd}", 2048)];
        for (path, at) in [("a\\xff", 0), ("./a\\xFE", 1024), ("a\u{fffd}", 2048)] {
            assert_eq!(found(path, &entries).unwrap().at, at, "{path}");
        }
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
