//! What an archive's catalog says of its members, held against what lies in the volume that it was restored to.

use std::collections::BTreeMap;

use crate::job::diff::member::Place;
use crate::tar::stat::FileTime;
use crate::tar::{Entry, EntryType, name};

/// Links that are followed from one name to another.
const FOLLOWED: usize = 40;

/// A member, or a file that came back.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Item {
    kind: EntryType,
    mode: u32,
    owner: (u64, u64),
    pub(super) size: u64,
    /// Seconds alone: an engine's own archive has no more.
    mtime: Option<i64>,
    /// A symlink's target, or the name of the member that a hard link is another name of.
    link: Option<Vec<u8>>,
    /// In which archive its bytes lie, and where.
    pub(super) place: Option<Place>,
    /// Of a file that came back: its bytes.
    pub(super) hash: Option<blake3::Hash>,
}

/// By their names, below the folder that was restored; that itself has none.
pub(super) type Items = BTreeMap<Vec<u8>, Item>;

impl Item {
    /// What a catalog, or a tar, says of a member below a folder; none where it lies elsewhere.
    pub(super) fn of(entry: &Entry, folder: &[u8]) -> Option<(Vec<u8>, Item)> {
        let name = below(folder, &name::place(&entry.name()))?.to_vec();
        let target = entry.hard_link().map(|target| name::place(&target));
        let link = match target {
            Some(target) => Some(below(folder, &target)?.to_vec()),
            None => entry.link_name(),
        };
        let item = Item {
            kind: entry.kind,
            mode: entry.mode,
            owner: (entry.uid, entry.gid),
            size: entry.size,
            mtime: FileTime::parse(&entry.mtime).map(|time| time.seconds),
            link,
            place: entry.data().filter(|range| !range.is_empty()).map(|range| (entry.reference, range)),
            hash: None,
        };
        Some((name, item))
    }

    /// In what the one that came back differs from it.
    fn differs(&self, back: &Item, is_top: bool, owners: bool) -> Option<&'static str> {
        let is_link = self.kind == EntryType::Symlink;
        if self.kind != back.kind {
            Some("type")
        } else if self.mode != back.mode && !is_link {
            Some("mode")
        } else if owners && self.owner != back.owner {
            Some("owner")
        } else if self.kind == EntryType::File && self.size != back.size {
            Some("size")
        } else if is_link && self.link != back.link {
            Some("target")
        } else if !is_link && !is_top && self.mtime.is_some() && self.mtime != back.mtime {
            Some("time")
        } else {
            None
        }
    }
}

fn below<'a>(folder: &[u8], name: &'a [u8]) -> Option<&'a [u8]> {
    match name.strip_prefix(folder)? {
        [] => Some(&[]),
        rest if folder.is_empty() => Some(rest),
        rest => rest.strip_prefix(b"/"),
    }
}

/// The member behind a name, which may be a hard link: its name, and what it is; none where it leads nowhere.
fn behind<'a>(items: &'a Items, name: &'a [u8]) -> Option<(&'a [u8], &'a Item)> {
    let (mut name, mut item) = (name, items.get(name)?);
    for _ in 0..FOLLOWED {
        let Some(target) = item.link.as_deref().filter(|_| item.kind == EntryType::Link) else {
            return Some((name, item));
        };
        (name, item) = (target, items.get(target)?);
    }
    None
}

/// How what came back differs from what was sealed, a line each.
pub(super) fn differences(
    sealed: &Items,
    back: &Items,
    contents: &BTreeMap<Vec<u8>, blake3::Hash>,
    owners: bool,
) -> Vec<String> {
    let mut lines = Vec::new();
    let mut say = |name: &[u8], what: String| lines.push(format!("{}: {what}", name::shown(name)));
    for (name, item) in sealed.iter().filter(|(_, item)| item.kind != EntryType::Other) {
        let Some((place, there)) = behind(back, name) else {
            say(name, "is missing".into());
            continue;
        };
        if item.kind == EntryType::Link {
            let target = item.link.as_deref().and_then(|target| behind(back, target));
            if target.is_none_or(|(target, _)| target != place) {
                say(name, "is no hard link to what it was one to".into());
            }
        }
        let Some((_, item)) = behind(sealed, name) else { continue };
        if let Some(what) = item.differs(there, name.is_empty(), owners) {
            say(name, format!("another {what}"));
        } else if contents.get(name).is_some_and(|sealed| there.hash.as_ref() != Some(sealed)) {
            say(name, "other contents".into());
        }
    }
    for name in back.keys().filter(|name| !name.is_empty() && !sealed.contains_key(*name)) {
        let folder = [&name[..], b"/"].concat();
        let is_around =
            sealed.range(folder.clone()..).next().is_some_and(|(name, _)| name.starts_with(&folder));
        if !is_around {
            say(name, "was not sealed".into());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(path: &str, kind: &str, link: Option<&str>) -> Entry {
        serde_json::from_value(json!({
            "path": path, "at": 0, "len": 1024, "type": kind, "mode": 0o644, "uid": 1, "gid": 2, "size": 7,
            "mtime": "100.5", "link": link,
        }))
        .unwrap()
    }

    fn items(folder: &str, entries: &[(&str, &str, Option<&str>)]) -> Items {
        let entries = entries.iter().map(|(path, kind, link)| entry(path, kind, *link));
        entries.filter_map(|entry| Item::of(&entry, folder.as_bytes())).collect()
    }

    fn of(sealed: &Items, back: &Items) -> Vec<String> {
        differences(sealed, back, &BTreeMap::new(), true)
    }

    #[test]
    fn what_came_back_under_another_volumes_name_is_the_same() {
        let sealed = items(
            "v/_data",
            &[("v", "dir", None), ("v/_data/a", "file", None), ("v/_data2/b", "file", None)],
        );
        assert_eq!(sealed.keys().collect::<Vec<_>>(), [b"a"]);
        let back = items("s/_data", &[("s/", "dir", None), ("s/_data/a", "file", None)]);
        assert_eq!(of(&sealed, &back), [""; 0]);
        assert_eq!(of(&sealed, &Items::new()), ["a: is missing"]);
        assert_eq!(of(&Items::new(), &back), ["a: was not sealed"]);
        // A folder that a restore makes for what lies in it.
        let (sealed, back) = (
            items("", &[("srv/a", "file", None)]),
            items("", &[("srv", "dir", None), ("srv/a", "file", None)]),
        );
        assert_eq!(of(&sealed, &back), [""; 0]);
    }

    #[test]
    fn another_size_mode_owner_time_or_content_is_told() {
        let sealed = items("", &[("a", "file", None)]);
        let changed = |change: fn(&mut Item)| {
            let mut back = sealed.clone();
            back.values_mut().for_each(change);
            of(&sealed, &back).join(" ")
        };
        assert_eq!(changed(|it| it.size += 1), "a: another size");
        assert_eq!(changed(|it| it.mode = 0o600), "a: another mode");
        assert_eq!(changed(|it| it.owner.1 = 0), "a: another owner");
        assert_eq!(changed(|it| it.mtime = Some(101)), "a: another time");
        assert_eq!(changed(|it| it.kind = EntryType::Dir), "a: another type");
        let contents = [(b"a".to_vec(), blake3::hash(b"x"))].into();
        assert_eq!(differences(&sealed, &sealed, &contents, true), ["a: other contents"]);
    }

    #[test]
    fn hard_links_may_be_told_the_other_way_round_but_must_be_one_file() {
        let sealed = items("", &[("a", "file", None), ("b", "link", Some("a"))]);
        let other_way = items("", &[("b", "file", None), ("a", "link", Some("b"))]);
        assert_eq!(of(&sealed, &other_way), [""; 0]);
        let apart = items("", &[("a", "file", None), ("b", "file", None)]);
        assert_eq!(of(&sealed, &apart), ["b: is no hard link to what it was one to"]);
        let circle = items("", &[("a", "link", Some("b")), ("b", "link", Some("a"))]);
        assert_eq!(of(&sealed, &circle), ["a: is missing", "b: is missing"]);
    }
}
