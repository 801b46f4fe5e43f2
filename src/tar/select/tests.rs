use super::*;

fn entry(path: &str, kind: EntryType, link: Option<&str>, at: u64) -> Entry {
    let link = link.map(String::from);
    let (mode, uid, gid, size, len) = (0o644, 0, 0, 0, 512);
    Entry {
        path: path.into(),
        path_hex: None,
        kind,
        mode,
        uid,
        gid,
        mtime: "0".into(),
        size,
        link,
        link_hex: None,
        sparse: false,
        at,
        len,
        reference: 0,
        stat: None,
        content: None,
        ctime: None,
    }
}

fn patterns(include: &[&str], exclude: &[&str]) -> Patterns {
    let own = |list: &[&str]| list.iter().map(|s| s.to_string()).collect::<Vec<_>>();
    Patterns::new(&own(include), &own(exclude)).unwrap()
}

#[test]
fn a_pattern_takes_names_and_what_is_below_them() {
    let p = patterns(&["etc", "*.conf"], &["etc/secret*"]);
    for (name, taken) in [
        ("etc/", true),
        ("./etc/a/b", true),
        ("srv/x.conf", true),
        ("srv/x", false),
        ("etc/secrets/key", false),
        ("etcetera", false),
        ("/etc/absolute", true),
    ] {
        assert_eq!(p.take(name.as_bytes()), taken, "{name}");
    }
    assert!(!patterns(&[], &["./etc/secret"]).take(b"./etc/secret"));
    assert!(patterns(&[], &[]).take_all());
    assert!(Patterns::new(&["[".into()], &[]).is_err());
}

#[test]
fn what_patterns_take_begins_as_they_do() {
    let beginnings = |include: &[&str]| patterns(include, &["x"]).beginnings();
    let names = |names: &[&str]| Some(names.iter().map(|name| name.as_bytes().to_vec()).collect());
    assert_eq!(beginnings(&["./etc/", "srv/a/*.conf", "b/c?/d"]), names(&["etc", "srv/a", "b"]));
    for anywhere in [&[][..], &["etc", "*.conf"], &["et?"], &["."], &["\\xff"]] {
        assert_eq!(beginnings(anywhere), None, "{anywhere:?}");
    }
}

/// The ranges of parts that are all of one archive.
fn lists(selection: Selection) -> Vec<Vec<Range<u64>>> {
    let parts = selection.parts().into_iter();
    parts.inspect(|part| assert_eq!(part.reference, 0)).map(|part| part.ranges).collect()
}

fn one(start: u64, end: u64) -> Vec<Range<u64>> {
    std::iter::once(start..end).collect()
}

/// Looks at members of one block each, one behind the other, until nothing new is found.
fn select(unpacks: bool, p: &Patterns, members: &[Entry]) -> Selection {
    let mut selection = Selection::new(unpacks);
    loop {
        for (i, member) in members.iter().enumerate() {
            selection.look(&Entry { at: 512 * i as u64, ..member.clone() }, p);
        }
        if !selection.again() {
            return selection;
        }
    }
}

fn file(name: &str) -> Entry {
    entry(name, if name.ends_with('/') { EntryType::Dir } else { EntryType::File }, None, 0)
}

fn hard_link(name: &str, target: &str) -> Entry {
    entry(name, EntryType::Link, Some(target), 0)
}

#[test]
fn neighbours_are_joined_and_a_hard_link_brings_the_member_before_it() {
    let members = [file("a"), file("b"), file("c"), file("d"), hard_link("link", "./a"), file("a")];
    let selection = select(false, &patterns(&["b", "c", "link"], &[]), &members);
    assert_eq!((selection.count(), lists(selection)), (3, vec![vec![0..1536, 2048..2560]]));
}

#[test]
fn links_to_links_lead_to_the_file_of_their_time() {
    let members =
        [file("a"), hard_link("b", "a"), file("a"), hard_link("c", "b"), file("b"), hard_link("d", "c")];
    let selection = select(false, &patterns(&["d"], &[]), &members);
    assert_eq!(lists(selection), [vec![0..1024, 1536..2048, 2560..3072]]);
}

#[test]
fn what_is_unpacked_brings_the_folders_around_it_wherever_they_stand() {
    let p = patterns(&["a/b/x", "a/b/y", "c/z"], &[]);
    let names = ["a/w", "a/b/x", "a/b/", "a/b/y", "a/", "c/", "c/z", "a/d/"];
    let members: Vec<_> = names.iter().map(|name| file(name)).collect();
    let members_alone = vec![512..1024, 1536..2048, 3072..3584];
    let found = lists(select(true, &p, &members));
    assert_eq!(found, [one(2048, 2560), vec![1024..1536, 2560..3072], members_alone.clone()]);
    assert_eq!(lists(select(false, &p, &members)), [members_alone]);
}

#[test]
fn folders_that_are_taken_themselves_come_as_members_and_once() {
    let members: Vec<_> = ["a/x", "a/", "a/b/", "a/b/y", "c/", "c/z"].map(file).into();
    let selection = select(true, &patterns(&[], &["a/b"]), &members);
    assert!(selection.folders.is_empty() && selection.names().is_empty());
    assert_eq!(lists(selection), [vec![0..1024, 2048..3072]]);
    let selection = select(true, &patterns(&["a/b"], &[]), &members);
    assert_eq!(lists(selection), [one(512, 1024), one(1024, 2048)]);
}

#[test]
fn where_folders_stand_before_their_members_one_look_is_enough() {
    let p = patterns(&["a/b/x"], &[]);
    for (names, looks, folders) in [
        (&["a/", "a/b/", "a/b/w/", "a/b/x"][..], 1, one(0, 1024)),
        (&["a/", "a/b/", "a/", "a/b/", "a/b/x", "a/b/"], 1, vec![1024..1536, 2560..3072]),
        (&["a/b/", "a/", "a/b/x"], 2, one(512, 1024)),
        (&["b/", "a/b/x"], 2, Vec::new()),
    ] {
        let mut selection = Selection::new(true);
        let mut done = 0;
        loop {
            for (i, name) in names.iter().enumerate() {
                selection.look(&Entry { at: 512 * i as u64, ..file(name) }, &p);
            }
            done += 1;
            if !selection.again() {
                break;
            }
        }
        assert_eq!(done, looks, "{names:?}");
        let found = lists(selection);
        assert_eq!(found[0].first() == folders.first(), !folders.is_empty(), "{names:?}: {found:?}");
    }
}

#[test]
fn members_of_older_archives_bring_links_targets_and_folders_from_where_they_are() {
    let kept = |reference, at, entry: Entry| Entry { reference, at, ..entry };
    // First what is new, then what is kept, both in path order.
    let members = [
        kept(0, 1024, file("a/")),
        kept(0, 1536, file("new")),
        kept(2, 512, file("a/b/")),
        kept(1, 4096, file("a/b/f")),
        kept(1, 5120, hard_link("a/b/h", "a/b/f")),
        kept(2, 1024, file("a/f")),
        kept(1, 512, file("x")),
    ];
    let select = |unpacks, include: &[&str]| {
        let mut selection = Selection::new(unpacks);
        loop {
            for member in &members {
                selection.look(member, &patterns(include, &[]));
            }
            if !selection.again() {
                selection.forget_gaps();
                return selection.parts();
            }
        }
    };
    let part = |reference, ranges| Part { reference, ranges };
    assert_eq!(select(false, &["a/b/h", "x"]), [part(1, vec![512..1024, 4096..4608, 5120..5632])]);
    assert_eq!(
        select(true, &["a/b/h", "new"]),
        [
            part(0, one(1024, 1536)),
            part(2, one(512, 1024)),
            part(1, vec![4096..4608, 5120..5632]),
            part(0, one(1536, 2048)),
        ]
    );
}

#[test]
fn what_stands_between_members_is_brought_for_all_that_follow() {
    let mut selection = Selection::new(false);
    for (name, at) in [("a", 512), ("b", 2048), ("c", 4096)] {
        selection.look(&entry(name, EntryType::File, None, at), &patterns(&["b"], &[]));
    }
    assert_eq!(lists(selection), [vec![0..512, 1024..2560]]);
}

#[test]
fn names_that_look_alike_are_told_apart() {
    let other = |byte: u8| Entry {
        path_hex: Some(format!("61{byte:02x}")),
        ..entry("a\u{fffd}", EntryType::File, None, 0)
    };
    let members = [other(0xfe), other(0xff), file("a\u{fffd}"), file("a\\xff")];
    for (pattern, range) in [
        ("a\\xff", 512..1024),
        ("a\\xFE", 0..512),
        ("a\u{fffd}", 1024..1536),
        ("a\\x5cxff", 1536..2048),
        ("a\\\\xff", 1536..2048),
    ] {
        assert_eq!(lists(select(false, &patterns(&[pattern], &[]), &members)), [vec![range]], "{pattern}");
    }
    assert_eq!(select(false, &patterns(&["a*"], &["a\\xff"]), &members).count(), 3);
}

#[test]
fn what_reaches_outside_is_refused() {
    for (path, kind, link) in [
        ("a/../../b", EntryType::File, None),
        ("", EntryType::File, None),
        ("a", EntryType::Link, Some("../x")),
        ("dev", EntryType::Block, None),
    ] {
        assert!(unsafe_member(&entry(path, kind, link, 0), false).is_some(), "{path}");
    }
    // A symlink may point anywhere: it is made, never followed.
    assert_eq!(unsafe_member(&entry("a", EntryType::Symlink, Some("/etc"), 0), false), None);
    assert_eq!(unsafe_member(&entry("dev", EntryType::Block, None, 0), true), None);
    // A slash before a name is taken off.
    assert_eq!(unsafe_member(&entry("/etc/passwd", EntryType::Link, Some("/a"), 0), false), None);
    assert_eq!(unsafe_member(&entry("a..b/c", EntryType::File, None, 0), false), None);
}
