//! What is compared of a member.

use std::ops::Range;

use serde_json::{Value, json};

use crate::tar::select::{Patterns, unsafe_member};
use crate::tar::stat::FileTime;
use crate::tar::{Entry, EntryType, name};

/// A member's name: without `./`, doubled slashes and the slash behind a folder. The top itself is `.`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(Vec<u8>);

impl Name {
    /// The name of a member.
    pub(super) fn of(entry: &Entry) -> Name {
        Name::new(&entry.name())
    }

    /// A name out of its bytes.
    pub fn new(bytes: &[u8]) -> Name {
        // An absolute name is unpacked without the slash before it.
        match name::place(bytes) {
            place if place.is_empty() => Name(b".".to_vec()),
            place => Name(place),
        }
    }

    /// What lies in this folder under `name`.
    pub(super) fn join(&self, name: &[u8]) -> Name {
        if self.0 == b"." { Name(name.to_vec()) } else { Name([&self.0[..], b"/", name].concat()) }
    }

    /// The folder it lies in, and the name there; no folder at the top.
    pub(super) fn split(&self) -> (Option<Name>, &[u8]) {
        match self.0.iter().rposition(|&b| b == b'/') {
            Some(slash) => (Some(Name(self.0[..slash].to_vec())), &self.0[slash + 1..]),
            None => (None, &self.0),
        }
    }

    /// Whether it begins with that one, which ends in a slash.
    pub(super) fn is_below(&self, folder: &Name) -> bool {
        self.0.starts_with(&folder.0)
    }

    /// Its parts.
    pub(super) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&b| b == b'/')
    }

    /// As text; U+FFFD stands for bytes that are not UTF-8.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }

    /// For people, as it can be written: `\xHH` stands for a byte that is not UTF-8.
    pub fn shown(&self) -> String {
        name::shown(&self.0)
    }

    /// Its bytes in hex, where they are not UTF-8.
    pub fn hex(&self) -> Option<String> {
        name::hex_unless_text(&self.0)
    }

    /// Whether it is to be compared.
    pub(super) fn matches(&self, patterns: &Patterns) -> bool {
        patterns.take_all() || patterns.take(&self.0)
    }
}

/// An archive, by the number that a catalog gives it, and a range of its source.
pub(in crate::job) type Place = (u32, Range<u64>);

/// What is compared of a member, or of a file of this host.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Member {
    pub(super) kind: EntryType,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) size: u64,
    /// Seconds since 1970 and nanoseconds; none where the archive says something else.
    pub(super) mtime: Option<(i64, u32)>,
    /// Target of a symlink, or of what the archive has as a hard link.
    pub(super) link: Option<Box<[u8]>>,
    /// In which archive's source its bytes lie, and where; none of a sparse file.
    pub(super) data: Option<Place>,
    /// Why it may not be looked for in a folder.
    pub(super) refused: Option<&'static str>,
}

impl Member {
    /// What the catalog says.
    pub(super) fn of(entry: &Entry) -> Member {
        Member {
            kind: entry.kind,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            size: entry.size,
            mtime: time(&entry.mtime),
            link: entry.link_name().map(Box::from),
            data: entry.data().map(|range| (entry.reference, range)),
            refused: unsafe_member(entry, true),
        }
    }

    /// The name of the file that a hard link is another name of.
    pub(super) fn target(&self) -> Option<Name> {
        let link = self.link.as_deref().filter(|_| self.kind == EntryType::Link);
        link.map(Name::new)
    }

    /// In what `new` differs from it. Of different types nothing else is compared.
    pub(super) fn differs(&self, new: &Member) -> Vec<Field> {
        if self.kind != new.kind {
            return vec![Field::new("type", json!(self.kind), json!(new.kind))];
        }
        let link = |link: &Option<Box<[u8]>>| json!(link.as_deref().map(name::text));
        let octal = |mode: u32| json!(format!("{mode:04o}"));
        // Every symlink has the same mode, whatever the archive says.
        let mode = |of: &Member| if self.kind == EntryType::Symlink { 0o777 } else { of.mode };
        let all = [
            Field::new("mode", octal(mode(self)), octal(mode(new))),
            Field::new("uid", json!(self.uid), json!(new.uid)),
            Field::new("gid", json!(self.gid), json!(new.gid)),
            Field::new("size", json!(self.size), json!(new.size)),
            Field::new("link", link(&self.link), link(&new.link)),
            Field::new("mtime", shown(self.mtime), shown(new.mtime)),
        ];
        all.into_iter().filter(|field| field.from != field.to).collect()
    }
}

/// One thing in which a member differs.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// `size`
    pub name: &'static str,
    /// What it was; null where there was none.
    pub from: Value,
    /// What it is; null where there is none. Both null: the values are not shown.
    pub to: Value,
}

impl Field {
    /// What it was, and is.
    pub fn new(name: &'static str, from: Value, to: Value) -> Self {
        Field { name, from, to }
    }

    /// The bytes, which are not shown.
    pub fn content() -> Self {
        Field::new("content", Value::Null, Value::Null)
    }
}

/// A tar's time: seconds, with decimals in pax headers.
fn time(text: &str) -> Option<(i64, u32)> {
    FileTime::parse(text).map(|time| (time.seconds, time.nanos))
}

fn shown(time: Option<(i64, u32)>) -> Value {
    let stamp = |(seconds, nanos): (i64, u32)| {
        let stamp = jiff::Timestamp::new(seconds, i32::try_from(nanos).ok()?).ok()?;
        Some(stamp.to_string())
    };
    // Beyond the year 9999 seconds must do.
    time.map_or(Value::Null, |time| json!(stamp(time).unwrap_or_else(|| format!("{}.{:09}", time.0, time.1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(kind: EntryType) -> Member {
        let (mtime, link, data) = (Some((0, 0)), None, None);
        Member { kind, mode: 0o644, uid: 0, gid: 0, size: 1, mtime, link, data, refused: None }
    }

    #[test]
    fn equal_members_do_not_differ() {
        assert_eq!(member(EntryType::File).differs(&member(EntryType::File)), []);
    }

    #[test]
    fn every_field_is_compared() {
        let (old, names) = (member(EntryType::File), |new: Member| -> Vec<_> {
            member(EntryType::File).differs(&new).into_iter().map(|field| field.name).collect()
        });
        assert_eq!(names(Member { mode: 0o600, ..old.clone() }), ["mode"]);
        assert_eq!(names(Member { uid: 1, gid: 1, ..old.clone() }), ["uid", "gid"]);
        assert_eq!(names(Member { size: 2, ..old.clone() }), ["size"]);
        assert_eq!(names(Member { link: Some(b"x"[..].into()), ..old.clone() }), ["link"]);
        assert_eq!(names(Member { mtime: Some((0, 1)), ..old.clone() }), ["mtime"]);
        assert_eq!(names(Member { kind: EntryType::Dir, uid: 1, ..old }), ["type"]);
    }

    #[test]
    fn the_mode_of_a_symlink_is_no_difference() {
        let (old, new) = (member(EntryType::Symlink), member(EntryType::Symlink));
        assert_eq!(old.differs(&Member { mode: 0o777, ..new }), []);
    }

    #[test]
    fn modes_are_shown_in_octal() {
        let new = Member { mode: 0o4755, ..member(EntryType::File) };
        let fields = member(EntryType::File).differs(&new);
        assert_eq!(fields, [Field::new("mode", json!("0644"), json!("4755"))]);
    }

    #[test]
    fn only_a_hard_link_is_another_name() {
        let with = |kind| Member { link: Some(b"./a/b"[..].into()), ..member(kind) };
        assert_eq!(with(EntryType::Link).target(), Some(Name::new(b"a/b")));
        assert_eq!(with(EntryType::Symlink).target(), None);
        assert_eq!(member(EntryType::Link).target(), None);
    }

    #[test]
    fn a_name_is_below_a_folder_of_whole_parts() {
        let folder = Name::new(b"a").join(b"");
        assert!(Name::new(b"a/b").is_below(&folder));
        assert!(!Name::new(b"ab").is_below(&folder) && !Name::new(b"a").is_below(&folder));
    }

    #[test]
    fn names_of_one_place_are_one() {
        for (text, name) in
            [("./", "."), ("", "."), ("./a//b/", "a/b"), ("a/./b", "a/b"), ("/a", "a"), ("../a", "../a")]
        {
            assert_eq!(Name::new(text.as_bytes()).text(), name, "{text}");
        }
        let name = Name::new(b"a/b/c");
        assert_eq!(name.split(), (Some(Name::new(b"a/b")), &b"c"[..]));
        assert_eq!(Name::new(b"a").split(), (None, &b"a"[..]));
        assert_eq!(Name::new(b".").join(b"x"), Name::new(b"x"));
        assert_eq!(name.join(b"d"), Name::new(b"a/b/c/d"));
        assert_eq!(Name::new(b"\xff").hex().as_deref(), Some("ff"));
    }

    #[test]
    fn times_of_all_kinds_are_read() {
        for (text, read) in [
            ("7", Some((7, 0))),
            ("7.5", Some((7, 500_000_000))),
            ("7.1234567891", Some((7, 123_456_789))),
            ("-7.25", Some((-8, 750_000_000))),
            ("-0.5", Some((-1, 500_000_000))),
            ("soon", None),
        ] {
            assert_eq!(time(text), read, "{text}");
        }
        assert_eq!(shown(Some((0, 500_000_000))), json!("1970-01-01T00:00:00.5Z"));
        assert_eq!(shown(Some((i64::MAX, 1))), json!("9223372036854775807.000000001"));
    }
}
