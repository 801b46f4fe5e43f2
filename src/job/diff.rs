//! `diff`: how two archives, or an archive and a folder, differ.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::open_archive::OpenArchive;
use super::stored::{ArchiveRef, OpenRequest, Secrets, StoredArchive};
use crate::archive::Format;
use crate::archive::catalog::paged::{Near, PagedCatalog};
use crate::error::{Error, Result};
use crate::report::{Reporter, human_bytes};
use crate::stream::counters::Counters;
use crate::tar::Entry;
use crate::tar::select::Patterns;
use member::{Member, Place};

pub use member::{Field, Name};

pub(super) mod content;
mod folder;
mod host;
pub(super) mod member;
mod runs;

/// What an archive is compared with.
#[derive(Debug, Clone)]
pub enum DiffTarget {
    /// Another archive of the same store.
    Archive(ArchiveRef),
    /// A folder of this host.
    Folder(PathBuf),
}

/// What to compare.
#[derive(Debug, Clone)]
pub struct DiffRequest {
    /// Where the archives are, and what opens them.
    pub open: OpenRequest,
    /// The first archive.
    pub archive: ArchiveRef,
    /// What it is compared with.
    pub target: DiffTarget,
    /// Members to compare, and what is below them; all where there is none.
    pub patterns: Vec<String>,
    /// Compare the contents of files of the same size too; of a folder they always are.
    pub content: bool,
}

/// How one member differs.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Only in the second archive, or in the folder.
    Added,
    /// Only in the first.
    Removed,
    /// In both, and different.
    Changed(Vec<Field>),
    /// Not compared, and why.
    Refused(&'static str),
}

/// Differences, by name.
type Changes = BTreeMap<Name, Change>;

/// Who is shown the differences.
pub type EachChange<'a> = &'a mut (dyn FnMut(&Name, &Change) -> Result<()> + Send);

/// An archive that is open, and its members.
struct Side {
    archive: OpenArchive,
    members: BTreeMap<Name, Member>,
}

/// Compares, and shows each difference to `each`.
///
/// # Errors
/// There is no such archive, it cannot be opened or is no tar, or the folder cannot be read; whatever `each` fails with.
pub async fn diff(request: &DiffRequest, ui: &Reporter, each: EachChange<'_>) -> Result<()> {
    let patterns = Patterns::new(&request.patterns, &[])?;
    let mut secrets = Secrets::new(&request.open);
    let from = &request.open.store;
    let mut first = Side::open(StoredArchive::find(from, &request.archive, ui).await?, &mut secrets).await?;
    let counters = Arc::new(Counters::of(&request.archive.job));
    let tracking = ui.track("compared", Arc::clone(&counters));
    let changes = match &request.target {
        DiffTarget::Folder(dir) => {
            first.collect().await?;
            folder::compare(first, dir, &patterns, &counters).await?
        }
        DiffTarget::Archive(second) => {
            let mut second = Side::open(StoredArchive::find(from, second, ui).await?, &mut secrets).await?;
            if let (false, Some(catalogs)) =
                (request.content, first.archive.pages().zip(second.archive.pages()))
                && runs::compare(catalogs, &patterns, each).await?.is_some()
            {
                return Ok(());
            }
            first.collect().await?;
            second.collect().await?;
            archives(first, second, &patterns, request.content, &counters).await?
        }
    };
    drop(tracking);
    ui.detail(&format!("{} of contents were compared", human_bytes(counters.source.get())));
    changes.iter().try_for_each(|(name, change)| each(name, change))
}

impl Side {
    /// Opens an archive. Its members are collected at once where its catalog has no pages.
    async fn open(found: StoredArchive, secrets: &mut Secrets<'_>) -> Result<Side> {
        let passphrase = secrets.of(&found)?;
        let mut members = BTreeMap::new();
        let nothing = |_: &PagedCatalog| Some(Near::default());
        let each = |entry: &Entry| collect(&mut members, entry);
        let archive = OpenArchive::look(&found, passphrase.as_ref(), nothing, each).await?;
        if archive.record().kind != Format::Tar {
            return Err(Error::usage(format!("{} is no tar: it has no members", found.name()))
                .hint("compare its bytes: `sealift restore … --to-stdout | cmp - FILE`"));
        }
        Ok(Side { archive, members })
    }

    /// Collects its members, if that was not done.
    async fn collect(&mut self) -> Result<()> {
        match self.archive.pages() {
            Some(_) => self.archive.look_again(|_| None, |entry| collect(&mut self.members, entry)).await,
            None => Ok(()),
        }
    }
}

fn collect(members: &mut BTreeMap<Name, Member>, entry: &Entry) {
    // The last of a name is the one that a restore leaves.
    members.insert(Name::of(entry), Member::of(entry));
}

/// By the catalogs; contents only where that was asked for, and the sizes are the same.
async fn archives(
    mut first: Side,
    mut second: Side,
    patterns: &Patterns,
    content: bool,
    counters: &Counters,
) -> Result<Changes> {
    let (mut changes, alike) = by_catalog(&first.members, &second.members, patterns);
    if content {
        let (old, new) = (first.archive.ids(), second.archive.ids());
        // What both have from one place is the same.
        let is_same =
            |file: &SameSize| old.get(&file.old.0) == new.get(&file.new.0) && file.old.1 == file.new.1;
        let alike: Vec<_> = alike.into_iter().filter(|file| !is_same(file)).collect();
        let places = |pick: fn(&SameSize) -> &Place| alike.iter().map(pick).cloned().collect();
        let old = content::digests(&mut first.archive, places(|file| &file.old), counters).await?;
        let new = content::digests(&mut second.archive, places(|file| &file.new), counters).await?;
        let differ = alike.iter().zip(old.iter().zip(&new)).filter(|(_, (old, new))| old != new);
        differ.for_each(|(file, _)| add(&mut changes, &file.name, Field::content()));
    }
    Ok(changes)
}

/// A file that has the same size in both archives, and where its bytes lie.
struct SameSize {
    name: Name,
    old: Place,
    new: Place,
}

/// Differences that the catalogs know, and the files whose contents may differ beside.
fn by_catalog(
    first: &BTreeMap<Name, Member>,
    second: &BTreeMap<Name, Member>,
    patterns: &Patterns,
) -> (Changes, Vec<SameSize>) {
    let mut changes = Changes::new();
    let mut alike = Vec::new();
    for (name, old) in first.iter().filter(|(name, _)| name.matches(patterns)) {
        let Some(new) = second.get(name) else {
            changes.insert(name.clone(), Change::Removed);
            continue;
        };
        let fields = old.differs(new);
        if let (Some(old), Some(new)) = (old.data.clone(), new.data.clone())
            && old.1.end - old.1.start == new.1.end - new.1.start
            && !old.1.is_empty()
        {
            alike.push(SameSize { name: name.clone(), old, new });
        }
        if !fields.is_empty() {
            changes.insert(name.clone(), Change::Changed(fields));
        }
    }
    let added = second.keys().filter(|name| !first.contains_key(*name));
    changes.extend(added.filter(|name| name.matches(patterns)).map(|name| (name.clone(), Change::Added)));
    (changes, alike)
}

/// One more field in which a member differs.
fn add(changes: &mut Changes, name: &Name, field: Field) {
    let change = changes.entry(name.clone()).or_insert_with(|| Change::Changed(Vec::new()));
    if let Change::Changed(fields) = change {
        fields.push(field);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::EntryType;
    use serde_json::json;

    fn file(path: &str, at: u64, size: u64) -> Entry {
        serde_json::from_value(json!({
            "path": path, "at": at, "len": 512 + size.next_multiple_of(512), "type": "file", "mode": 0o644,
            "uid": 0, "gid": 0, "size": size, "mtime": "0",
        }))
        .unwrap()
    }

    fn side(entries: &[Entry]) -> BTreeMap<Name, Member> {
        entries.iter().map(|entry| (Name::of(entry), Member::of(entry))).collect()
    }

    fn compared(first: &[Entry], second: &[Entry], globs: &[&str]) -> (Vec<(String, Change)>, Vec<String>) {
        let globs: Vec<String> = globs.iter().map(|glob| (*glob).into()).collect();
        let patterns = Patterns::new(&globs, &[]).unwrap();
        let (changes, alike) = by_catalog(&side(first), &side(second), &patterns);
        let changes = changes.into_iter().map(|(name, change)| (name.text(), change)).collect();
        (changes, alike.iter().map(|file| file.name.text()).collect())
    }

    #[test]
    fn what_is_only_in_one_archive_is_added_or_removed() {
        let (changes, _) =
            compared(&[file("a", 0, 1), file("b", 0, 1)], &[file("./b", 0, 1), file("c", 0, 1)], &[]);
        assert_eq!(changes, [("a".into(), Change::Removed), ("c".into(), Change::Added)]);
    }

    #[test]
    fn members_in_both_differ_by_their_fields() {
        let (changes, alike) = compared(&[file("a", 0, 1)], &[file("a", 0, 2)], &[]);
        assert_eq!(changes, [("a".into(), Change::Changed(vec![Field::new("size", json!(1), json!(2))]))]);
        assert_eq!(alike, [""; 0]);
        let dir = Entry { kind: EntryType::Dir, ..file("a", 0, 1) };
        let (changes, _) = compared(&[file("a", 0, 1)], &[dir], &[]);
        assert_eq!(
            changes,
            [("a".into(), Change::Changed(vec![Field::new("type", json!("file"), json!("dir"))]))]
        );
    }

    #[test]
    fn contents_may_differ_only_where_sizes_do_not() {
        let first = [file("same", 0, 7), file("empty", 0, 0), file("grown", 0, 7)];
        let second = [file("same", 9999, 7), file("empty", 0, 0), file("grown", 0, 8)];
        assert_eq!(compared(&first, &second, &[]).1, ["same"]);
    }

    #[test]
    fn only_what_matches_is_compared() {
        let (first, second) =
            ([file("etc/a", 0, 1), file("b", 0, 1)], [file("etc/c", 0, 1), file("d", 0, 1)]);
        let (changes, _) = compared(&first, &second, &["etc"]);
        assert_eq!(changes, [("etc/a".into(), Change::Removed), ("etc/c".into(), Change::Added)]);
    }

    #[test]
    fn contents_join_the_fields_that_differ_already() {
        let name = Name::of(&file("a", 0, 1));
        let mut changes = Changes::new();
        add(&mut changes, &name, Field::content());
        add(&mut changes, &name, Field::new("uid", json!(1), json!(2)));
        assert!(matches!(&changes[&name], Change::Changed(fields) if fields.len() == 2));
        changes.insert(name.clone(), Change::Refused("why"));
        add(&mut changes, &name, Field::content());
        assert_eq!(changes[&name], Change::Refused("why"));
    }
}
