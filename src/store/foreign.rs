//! What lies in a store and is not ours: passed over by every list, and counted.
//!
//! One odd name must not hide all archives. The client library refuses a whole list for a name that it cannot hold (an
//! empty part, a control character, a file's name that is not UTF-8) and for a loop of links. So a folder is read by a
//! lister of our own, and what a bucket answers loses those names before the library reads it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use object_store::path::Path;

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

/// What a list consists of, and where the name stands in it: S3's and GCS's objects and folders, Azure's.
const ITEMS: [(&str, &str, &str); 4] = [
    ("<Contents>", "</Contents>", "Key"),
    ("<CommonPrefixes>", "</CommonPrefixes>", "Prefix"),
    ("<Blob>", "</Blob>", "Name"),
    ("<BlobPrefix>", "</BlobPrefix>", "Name"),
];

/// A page of a list without the items whose names the library refuses.
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
        let item = ITEMS.iter().find(|(begin, ..)| from.starts_with(begin));
        let len = item.and_then(|(_, end, name)| Some((from.find(end)? + end.len(), *name)));
        let (len, keep) = match len {
            Some((len, name)) => (len, is_keepable(&from[..len], name)),
            None => (1, true),
        };
        match keep {
            true => kept.push_str(&from[..len]),
            false => passed_over.add(),
        }
        rest = &from[len..];
    }
    kept + rest
}

fn is_keepable(item: &str, name: &str) -> bool {
    let text = || {
        let (_, rest) = item.split_once(&format!("<{name}>"))?;
        unescaped(rest.split_once('<')?.0)
    };
    // An item whose name is written in another way is for the library to judge.
    !item.contains(&format!("<{name}>")) || text().is_some_and(|text| Path::parse(text).is_ok())
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

    fn contents(key: &str) -> String {
        format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>")
    }

    #[test]
    fn names_that_the_library_refuses_leave_the_list_and_are_counted() {
        for bad in ["a//b", "//", "a/../b", "./a", "a&#10;b", "a&#x1;b", "a&#0;", "a&odd;b"] {
            let passed_over = PassedOver::default();
            let list = format!("<R>{}{}{}<T>x</T></R>", contents("a"), contents(bad), contents("c"));
            let kept = format!("<R>{}{}<T>x</T></R>", contents("a"), contents("c"));
            assert_eq!((keepable_items(&list, &passed_over), passed_over.count()), (kept, 1), "{bad}");
        }
    }

    #[test]
    fn every_other_name_and_text_stays_as_it_is() {
        let passed_over = PassedOver::default();
        for good in ["a", "a/b/", "a&amp;b", "büro/x", "a&#xe9;&lt;&quot;", "50%"] {
            let list = format!("<?xml?><R><Name>b//c</Name>{}<IsTruncated/></R>", contents(good));
            assert_eq!(keepable_items(&list, &passed_over), list);
        }
        for other in ["", "<html>a//b", "<Contents><Key>a//b", "<Contents><Size>1</Size></Contents>", "{}"] {
            assert_eq!(keepable_items(other, &passed_over), other);
        }
        assert_eq!(passed_over.count(), 0);
    }

    #[test]
    fn folders_of_s3_and_blobs_of_azure_are_names_too() {
        let passed_over = PassedOver::default();
        let s3 = "<CommonPrefixes><Prefix>a//</Prefix></CommonPrefixes>";
        let azure = "<Blobs><Blob><Name>a//b</Name></Blob><BlobPrefix><Name>/x/</Name></BlobPrefix></Blobs>";
        assert_eq!(keepable_items(s3, &passed_over), "");
        assert_eq!(
            keepable_items(azure, &passed_over),
            "<Blobs><BlobPrefix><Name>/x/</Name></BlobPrefix></Blobs>"
        );
        assert_eq!(passed_over.count(), 2);
    }
}
