//! What lies in a store and is not ours: passed over by every list, and counted.
//!
//! One odd name must not hide all archives. The client library refuses a whole list for a name that it cannot hold (an
//! empty part, a control character, a file's name that is not UTF-8) and for a loop of links. And a store may be a whole
//! bucket or host, of which the library would keep every name in memory. So a folder is read by a lister of our own, and
//! the pages that a bucket answers lose what is not ours before the library reads them: a list needs memory for what is
//! ours, and for a page.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use object_store::path::Path;

use crate::archive::Id;

/// Unreadable folders that are named.
const NAMED: usize = 10;

/// What the latest list of a store passed over.
#[derive(Debug, Clone, Default)]
pub(super) struct PassedOver(Arc<Passed>);

#[derive(Debug, Default)]
struct Passed {
    objects: AtomicU64,
    unreadable: Mutex<Vec<String>>,
}

impl PassedOver {
    /// A list begins.
    pub(super) fn reset(&self) {
        self.0.objects.store(0, Ordering::Relaxed);
        self.0.unreadable.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Something that is not ours.
    pub(super) fn add(&self) {
        self.0.objects.fetch_add(1, Ordering::Relaxed);
    }

    /// A folder in which a job's archives may lie, and that cannot be read.
    pub(super) fn add_unreadable(&self, folder: &str) {
        self.add();
        let mut unreadable = self.0.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        if unreadable.len() < NAMED {
            unreadable.push(folder.into());
        }
    }

    /// How many objects, files and folders.
    pub(super) fn count(&self) -> u64 {
        self.0.objects.load(Ordering::Relaxed)
    }

    /// The first folders that could not be read.
    pub(super) fn unreadable(&self) -> Vec<String> {
        self.0.unreadable.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whether an object may be one of an archive or of a set: its name begins with an id.
pub(super) fn may_be_ours(key: &str) -> bool {
    let name = key.rsplit_once('/').map_or(key, |(_, name)| name);
    name.split_once('.').is_some_and(|(id, _)| id.parse::<Id>().is_ok())
}

/// An item of a list.
struct Item {
    begin: &'static str,
    end: &'static str,
    /// The element that its name stands in.
    name: &'static str,
    /// Objects are asked for; folders that a delimiter makes are not.
    is_object: bool,
}

/// What a list consists of: S3's and GCS's objects and folders, Azure's.
const ITEMS: [Item; 4] = [
    Item { begin: "<Contents>", end: "</Contents>", name: "Key", is_object: true },
    Item { begin: "<CommonPrefixes>", end: "</CommonPrefixes>", name: "Prefix", is_object: false },
    Item { begin: "<Blob>", end: "</Blob>", name: "Name", is_object: true },
    Item { begin: "<BlobPrefix>", end: "</BlobPrefix>", name: "Name", is_object: false },
];

/// A page of a list without the items that are not ours.
pub(super) fn keepable(page: &Bytes, passed_over: &PassedOver) -> Bytes {
    match std::str::from_utf8(page) {
        Ok(text) => keepable_items(text, passed_over).into(),
        Err(_) => page.clone(),
    }
}

/// [`keepable`] of a page's text. In XML a `<` stands for nothing but a tag's beginning.
fn keepable_items(list: &str, passed_over: &PassedOver) -> String {
    let mut kept = String::with_capacity(list.len());
    let mut rest = list;
    while let Some(at) = rest.find('<') {
        let (before, from) = rest.split_at(at);
        kept.push_str(before);
        let item = ITEMS.iter().find(|item| from.starts_with(item.begin));
        let found = item.and_then(|item| Some((from.find(item.end)? + item.end.len(), item)));
        let len = match found {
            Some((len, item)) => {
                match judge(&from[..len], item) {
                    Judged::Ours => kept.push_str(&from[..len]),
                    Judged::Folder => {}
                    Judged::Foreign => passed_over.add(),
                }
                len
            }
            None => {
                kept.push_str(&from[..1]);
                1
            }
        };
        rest = &from[len..];
    }
    kept + rest
}

/// What an item of a list is to us.
enum Judged {
    Ours,
    /// Nobody asks for it, but something of ours may lie in it.
    Folder,
    Foreign,
}

fn judge(item: &str, kind: &Item) -> Judged {
    let Some((_, rest)) = item.split_once(&format!("<{}>", kind.name)) else {
        // An item whose name is written in another way is for the library to judge.
        return Judged::Ours;
    };
    let name = rest.split_once('<').and_then(|(text, _)| unescaped(text));
    match name.filter(|name| Path::parse(name).is_ok()) {
        Some(_) if !kind.is_object => Judged::Folder,
        Some(name) if may_be_ours(&name) => Judged::Ours,
        _ => Judged::Foreign,
    }
}

/// A text of XML without its entities; none where one is unknown or stands for no character.
fn unescaped(text: &str) -> Option<String> {
    let mut parts = text.split('&');
    let mut plain = parts.next()?.to_string();
    for part in parts {
        let (entity, rest) = part.split_once(';')?;
        let number = |digits: &str, radix| char::from_u32(u32::from_str_radix(digits, radix).ok()?);
        plain.push(match entity {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            _ => match entity.strip_prefix("#x") {
                Some(digits) => number(digits, 16)?,
                None => number(entity.strip_prefix('#')?, 10)?,
            },
        });
        plain.push_str(rest);
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "20261122T020000Z-1f2e3d4c";

    fn contents(key: &str) -> String {
        format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>")
    }

    #[test]
    fn names_that_the_library_refuses_leave_the_list_and_are_counted() {
        for bad in ["a//b", "//", "a/../b", "./a", "a&#10;b", "a&#x1;b", "a&#0;", "a&odd;b"] {
            let passed_over = PassedOver::default();
            let ours = contents(&format!("job/{ID}.manifest.json"));
            let bad_ones = contents(bad) + &contents(&format!("{bad}/{ID}.x"));
            let list = format!("<R>{ours}{bad_ones}{ours}<T>x</T></R>");
            let kept = format!("<R>{ours}{ours}<T>x</T></R>");
            assert_eq!((keepable_items(&list, &passed_over), passed_over.count()), (kept, 2), "{bad}");
        }
    }

    #[test]
    fn only_what_begins_with_an_id_stays_in_a_list_however_it_goes_on() {
        for suffix in [".manifest.json", ".tar.zst.gpg", ".set.json", ".verified-whole-x.json", "."] {
            for folder in ["", "db/", "ee/db/", "b&amp;c/", "büro/", "a&#xe9;&lt;&quot;/", "50%/"] {
                let (passed_over, ours) = (PassedOver::default(), contents(&format!("{folder}{ID}{suffix}")));
                assert_eq!(keepable_items(&ours, &passed_over), ours);
                assert_eq!(passed_over.count(), 0);
            }
        }
        for foreign in ["photo.jpg", "db/", "db/manifest.json", ID, &format!("{ID}.d/photo.jpg"), ""] {
            let passed_over = PassedOver::default();
            assert_eq!(keepable_items(&contents(foreign), &passed_over), "", "{foreign}");
            assert_eq!(passed_over.count(), 1, "{foreign}");
        }
    }

    #[test]
    fn every_other_text_stays_as_it_is() {
        let passed_over = PassedOver::default();
        for other in [
            "<?xml?><R><Name>b//c</Name><Prefix>p//</Prefix><IsTruncated/></R>",
            "",
            "<html>a//b",
            "<Contents><Key>a//b",
            "<Contents><Size>1</Size></Contents>",
            "{}",
        ] {
            assert_eq!(keepable_items(other, &passed_over), other);
        }
        assert_eq!(passed_over.count(), 0);
    }

    #[test]
    fn folders_of_s3_and_azure_are_not_kept_and_those_with_odd_names_are_counted() {
        let passed_over = PassedOver::default();
        let folders =
            "<CommonPrefixes><Prefix>a/</Prefix></CommonPrefixes><BlobPrefix><Name>x/</Name></BlobPrefix>";
        assert_eq!((keepable_items(folders, &passed_over), passed_over.count()), (String::new(), 0));
        let s3 = "<CommonPrefixes><Prefix>a//</Prefix></CommonPrefixes>";
        let azure =
            format!("<Blobs><Blob><Name>a//{ID}.x</Name></Blob><Blob><Name>a/{ID}.x</Name></Blob></Blobs>");
        assert_eq!(keepable_items(s3, &passed_over), "");
        assert_eq!(
            keepable_items(&azure, &passed_over),
            format!("<Blobs><Blob><Name>a/{ID}.x</Name></Blob></Blobs>")
        );
        assert_eq!(passed_over.count(), 2);
    }
}
