use std::ops::Range;

use super::members::root;
use super::*;
use crate::tar::select::Patterns;
use crate::tar::{Entry, EntryType};
use serde_json::json;

fn entry(path: &str, kind: EntryType, link: Option<&str>) -> Entry {
    let mut entry: Entry = serde_json::from_value(json!({
        "path": path, "at": 0, "len": 1024, "type": "file", "mode": 0o644, "uid": 0, "gid": 0, "size": 1,
        "mtime": "0",
    }))
    .unwrap();
    (entry.kind, entry.link) = (kind, link.map(Into::into));
    entry
}

fn members(include: &[&str], unpacks: bool, entries: &[Entry]) -> Members {
    members_but(include, unpacks, entries, Lost::default())
}

fn members_but(include: &[&str], unpacks: bool, entries: &[Entry], lost: Lost) -> Members {
    let include: Vec<String> = include.iter().map(|glob| (*glob).into()).collect();
    let mut members = Members::new(Patterns::new(&include, &[]).unwrap(), unpacks, false, lost);
    let mut at = 0;
    loop {
        for entry in entries {
            members.look(&Entry { at, ..entry.clone() });
            at += entry.len;
        }
        at = 0;
        if !members.again() {
            return members;
        }
    }
}

#[test]
fn everything_is_the_whole_archive() {
    let entries = [entry("a", EntryType::File, None), entry("b", EntryType::File, None)];
    assert_eq!(
        members(&[], true, &entries).handing(true, true, 4096).unwrap(),
        Handing::Members(vec![Part::whole(4096)])
    );
    // Bytes that are not unpacked here are handed on as they are.
    assert_eq!(members(&[], false, &entries).handing(true, true, 4096).unwrap(), Handing::AsIs);
}

#[test]
fn of_one_volume_among_others_its_own_members_are_taken() {
    let entries = ["a/_data/f", "b", "b/_data", "b/_data/f", "b.c/_data/f", "b/_datax"];
    let entries = entries.map(|path| entry(path, EntryType::File, None));
    let of = |include: &[&str]| {
        let include: Vec<String> = include.iter().map(|glob| (*glob).into()).collect();
        let patterns = Patterns::new(&include, &[]).unwrap().below("b/_data");
        let mut members = Members::new(patterns, true, false, Lost::default());
        let each = entries.iter().zip(0u64..);
        each.for_each(|(entry, n)| members.look(&Entry { at: n * entry.len, ..entry.clone() }));
        members
    };
    assert_eq!(lists(of(&[])), [one(2048, 4096)]);
    assert_eq!(lists(of(&["*/f"])), [one(3072, 4096)]);
    assert_eq!(of(&["a/_data"]).handing(true, true, 6144).unwrap_err().kind(), Kind::NotFound);
}

fn one(start: u64, end: u64) -> Vec<Range<u64>> {
    std::iter::once(start..end).collect()
}

fn lists(members: Members) -> Vec<Vec<Range<u64>>> {
    match members.handing(true, true, 4096).unwrap() {
        Handing::Members(parts) => parts.into_iter().map(|part| part.ranges).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn members_are_ranges_of_the_source() {
    let entries = ["a", "b", "c", "a"].map(|path| entry(path, EntryType::File, None));
    assert_eq!(lists(members(&["b", "c"], true, &entries)), [one(1024, 3072)]);
    assert_eq!(lists(members(&["a"], true, &entries)), [vec![0..1024, 3072..4096]]);
}

#[test]
fn no_member_is_not_found() {
    let entries = [entry("a", EntryType::File, None)];
    let error = members(&["b"], false, &entries).handing(true, false, 4096).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
}

#[test]
fn what_is_no_tar_has_no_members() {
    for (include, wants_tar) in [(&["a"][..], false), (&[], true)] {
        let error = members(include, false, &[]).handing(false, wants_tar, 0).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage, "{include:?}");
    }
    assert_eq!(members(&[], false, &[]).handing(false, false, 0).unwrap(), Handing::AsIs);
}

#[test]
fn members_that_may_not_be_unpacked_are_named_before_anything_is() {
    let entries: Vec<_> = (0..9).map(|n| entry(&format!("../x{n}\n"), EntryType::File, None)).collect();
    let error = members(&[], true, &entries).handing(true, true, 4096).unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    let text = error.to_string();
    assert!(text.contains("9 members may not be unpacked") && text.contains("../x4\\n"), "{text}");
    assert!(!text.contains("../x5") && !text.contains('\n'), "{text}");
    // Bytes that go to a pipe are nobody's names.
    assert_eq!(members(&[], false, &entries).handing(true, false, 4096).unwrap(), Handing::AsIs);
}

#[test]
fn devices_are_unpacked_only_where_that_is_allowed() {
    let device = entry("dev/x", EntryType::Block, None);
    let with = |allow: bool| {
        let mut members = Members::new(Patterns::new(&[], &[]).unwrap(), true, allow, Lost::default());
        members.look(&device);
        members.handing(true, true, 4096)
    };
    assert!(with(true).is_ok());
    assert_eq!(with(false).unwrap_err().kind(), Kind::Refused);
}

#[test]
fn a_wanted_hard_link_brings_its_file() {
    let entries = [
        entry("a", EntryType::File, None),
        entry("b", EntryType::Link, Some("a")),
        entry("c", EntryType::File, None),
    ];
    assert_eq!(lists(members(&["b"], true, &entries)), [one(0, 2048)]);
    // What it brings must be fit to be unpacked, too.
    let device = [entry("a", EntryType::Char, None), entry("b", EntryType::Link, Some("a"))];
    assert_eq!(members(&["b"], true, &device).handing(true, true, 4096).unwrap_err().kind(), Kind::Refused);
}

#[test]
fn the_first_two_parts_of_a_name_are_its_root() {
    for (name, of) in [
        ("vol/_data/a/b", "vol/_data"),
        ("vol/_data/", "vol/_data"),
        ("vol", "vol"),
        ("./vol/_data", "./vol"),
        ("/a/b", "a/b"),
        ("", ""),
    ] {
        assert_eq!(root(name), of, "{name}");
    }
}

#[test]
fn a_link_out_of_the_volume_counts_as_a_member_beside_it() {
    let link = entry("vol/_data/x", EntryType::Link, Some("other/_data/y"));
    let members = members(&[], true, &[link]);
    assert_eq!(members.roots.iter().collect::<Vec<_>>(), ["other/_data", "vol/_data"]);
}

#[test]
fn what_was_handed_on_before_a_failure_is_said() {
    let counters = Counters::default();
    counters.source.add(7);
    let error = incomplete(Error::failed("x"), &counters);
    assert!(error.hint_text().unwrap().contains("the 7 bytes"), "{error}");
}

#[test]
fn what_leads_to_a_lost_member_is_lost_and_each_is_counted_once() {
    let link = |path: &str, to: &str| entry(path, EntryType::Link, Some(to));
    let file = |path: &str| entry(path, EntryType::File, None);
    // A link before what it leads to, one behind it, one to a link, and one to a member that is there.
    let entries = [link("0", "b"), file("a"), file("b"), link("c", "./b"), link("d", "c"), link("e", "a")];
    let lost = || Lost::of(Part { reference: 0, ranges: one(2048, 2049) });
    let told = |members: &Members| {
        let names = members.left_out.first.iter().map(|(_, name)| String::from_utf8(name.clone()).unwrap());
        (names.collect::<Vec<_>>().join(" "), members.left_out.count)
    };
    let rest = members_but(&[], true, &entries, lost());
    assert_eq!(told(&rest), ("0 b c d".into(), 4));
    assert_eq!(lists(rest), [vec![1024..2048, 5120..6144]]);
    let some = members_but(&["d", "e"], true, &entries, lost());
    assert_eq!(told(&some), ("d".into(), 1));
    assert_eq!(lists(some), [vec![1024..2048, 5120..6144]]);
}

#[test]
fn of_very_many_lost_members_the_first_are_remembered_and_all_counted() {
    let entries: Vec<_> = (0..3000).rev().map(|n| entry(&format!("{n:04}"), EntryType::File, None)).collect();
    let lost = Lost::of(Part::whole(u64::MAX));
    let rest = members_but(&[], true, &entries, lost);
    assert_eq!((rest.left_out.first.len(), rest.left_out.count), (left_out::MOST_TOLD, 3000));
    assert_eq!(rest.left_out.first.last().unwrap().1, b"0999");
    assert!(rest.link_targets.is_empty());
}
