use super::*;
use crate::tar::stat::{FileTime, Stat};

/// When the backup before began, in seconds since 1970.
const STARTED: i64 = 1_000;

fn stat(inode: u64, seconds: i64) -> Stat {
    let time = FileTime { seconds, nanos: 5 };
    Stat { mode: 0o100_644, uid: 1, gid: 2, size: 3, inode, mtime: time, ctime: time }
}

fn file(name: &str, stat: Stat, links: u64) -> Scanned {
    Scanned { name: name.into(), walked: name.into(), stat, device: 1, links }
}

fn member(path: &str, stat: Stat, reference: u32) -> Entry {
    let json = serde_json::json!({
        "path": path, "type": "file", "mode": 0o644, "uid": 1, "gid": 2, "mtime": "0", "size": 3,
        "at": 0, "len": 1024, "ref": reference,
    });
    Entry { stat: Some(stat), ..serde_json::from_value(json).unwrap() }
}

/// The names that are sent, those behind all others after a bar, and the numbers of the members that are kept.
fn compare(members: &[Entry], gone: &[u32], files: &[Scanned]) -> (String, Vec<u64>) {
    let own = members.iter().filter(|member| member.reference == 0).count() as u64;
    let mut members = members.iter().cloned();
    let started = jiff::Timestamp::from_second(STARTED).unwrap();
    let before = Before { members: || Ok(members.next()), started, gone: gone.iter().copied().collect() };
    let mut comparison = Comparison::new(before);
    let name = |file: &Scanned| String::from_utf8(file.name.clone()).unwrap();
    let mut sent = Vec::new();
    for file in files {
        sent.extend(comparison.take(file.clone()).unwrap().as_ref().map(name));
    }
    let (last, kept) = comparison.finish().unwrap();
    let last: Vec<_> = last.iter().map(name).collect();
    let numbers: Vec<_> = (0..200).filter(|&number| kept.is_kept(number)).collect();
    assert_eq!(kept.count(), numbers.len() as u64);
    assert_eq!(kept.references.values().map(|live| live.members).sum::<u64>(), kept.count());
    assert_eq!(kept.own, 1024 * own);
    assert_eq!(kept.references.values().map(|live| live.bytes).sum::<u64>(), 1024 * kept.count());
    (format!("{}|{}", sent.join(" "), last.join(" ")), numbers)
}

#[test]
fn what_is_the_same_is_kept_and_what_is_new_or_other_is_sent() {
    let members = ["a", "b", "c", "d/e"].map(|path| member(path, stat(1, 10), 0));
    let other = |change: &dyn Fn(&mut Stat)| {
        let mut stat = stat(1, 10);
        change(&mut stat);
        compare(&members, &[], &[file("a", stat, 1), file("c", self::stat(1, 10), 1)])
    };
    assert_eq!(other(&|_| {}), ("|".into(), vec![0, 2]));
    let changes: [&dyn Fn(&mut Stat); 7] = [
        &|stat| stat.mode = 0o120_644,
        &|stat| stat.uid += 1,
        &|stat| stat.gid += 1,
        &|stat| stat.size += 1,
        &|stat| stat.inode += 1,
        &|stat| stat.mtime.nanos -= 1,
        &|stat| stat.ctime.seconds += 1,
    ];
    for change in changes {
        assert_eq!(other(change), ("a|".into(), vec![2]));
    }
    let files = ["0", "a", "a-", "d", "d/e", "e"].map(|name| file(name, stat(1, 10), 1));
    assert_eq!(compare(&members, &[], &files), ("0 a- d e|".into(), vec![0, 3]));
    assert_eq!(compare(&[], &[], &files[..1]), ("0|".into(), vec![]));
}

#[test]
fn what_may_have_changed_within_a_tick_is_sent() {
    for (seconds, sent) in [(STARTED - 3, "|"), (STARTED - 2, "a|"), (STARTED, "a|"), (STARTED + 9, "a|")] {
        let stat = stat(1, seconds);
        assert_eq!(compare(&[member("a", stat, 0)], &[], &[file("a", stat, 1)]).0, sent, "{seconds}");
    }
}

#[test]
fn what_lies_in_an_archive_that_is_gone_is_sent() {
    let members = [member("a", stat(1, 10), 1), member("b", stat(2, 10), 2), member("c", stat(3, 10), 0)];
    let files = [file("a", stat(1, 10), 1), file("b", stat(2, 10), 1), file("c", stat(3, 10), 1)];
    assert_eq!(compare(&members, &[2], &files), ("b|".into(), vec![0, 2]));
    assert_eq!(compare(&members, &[0, 1], &files), ("a c|".into(), vec![1]));
}

#[test]
fn a_member_without_a_fingerprint_is_sent() {
    let members = [Entry { stat: None, ..member("a", stat(1, 10), 0) }];
    assert_eq!(compare(&members, &[], &[file("a", stat(1, 10), 1)]), ("a|".into(), vec![]));
}

#[test]
fn the_names_of_one_file_are_kept_together_or_sent_together() {
    let one = stat(7, 10);
    let link = |path: &str, to: &str, reference| Entry {
        kind: EntryType::Link,
        link: Some(to.into()),
        ..member(path, one, reference)
    };
    let members = [member("a", one, 1), link("b", "./a", 1), member("c", stat(8, 10), 0)];
    let alone = file("c", stat(8, 10), 1);
    let files = [file("a", one, 2), file("b", one, 2), alone.clone()];
    assert_eq!(compare(&members, &[], &files), ("|".into(), vec![0, 1, 2]));
    // A folder around one of them has another name: its own times say nothing of that.
    let moved = [file("a", one, 2), alone.clone(), file("x/b", one, 2)];
    assert_eq!(compare(&members, &[], &moved), ("x/b|a".into(), vec![2]));
    // A link does not lead from one archive into another.
    let apart = [member("a", one, 1), link("b", "a", 2), member("c", stat(8, 10), 0)];
    assert_eq!(compare(&apart, &[], &files), ("|a b".into(), vec![2]));
    // One inode number on two devices is two files.
    let own = [member("a", one, 1), member("b", one, 2), member("c", stat(8, 10), 0)];
    let two = [file("a", one, 2), Scanned { device: 2, ..file("b", one, 2) }, alone];
    assert_eq!(compare(&own, &[], &two), ("|".into(), vec![0, 1, 2]));
    // It leads to another member than that of the same file.
    let other = [member("a", one, 1), link("b", "c", 1)];
    assert_eq!(compare(&other, &[], &files[..2]), ("|a b".into(), vec![]));
    // A name comes behind one that is sent.
    let late = [file("0", one, 3), file("a", one, 3), file("b", one, 3)];
    assert_eq!(compare(&members, &[], &late), ("0 a b|".into(), vec![]));
    // The member that the link leads to is left out now.
    assert_eq!(compare(&members, &[], &[file("b", one, 2)]), ("|b".into(), vec![]));
    assert_eq!(compare(&[link("b", "a", 0)], &[], &[file("b", one, 1)]), ("b|".into(), vec![]));
}

#[test]
fn names_that_are_held_back_are_let_go_when_all_are_known_and_are_bounded() {
    let started = jiff::Timestamp::from_second(STARTED).unwrap();
    let [a, b, c] = ["a", "b", "c"].map(|path| member(path, stat(7, 10), 0));
    let b = Entry { kind: EntryType::Link, link: Some("a".into()), ..b };
    let mut members = [a, b, c].into_iter();
    let before = Before { members: || Ok(members.next()), started, gone: HashSet::new() };
    let mut comparison = Comparison::new(before);
    assert!(comparison.take(file("a", stat(7, 10), 2)).unwrap().is_none() && comparison.held > 0);
    assert!(comparison.take(file("b", stat(7, 10), 2)).unwrap().is_none());
    assert!(comparison.groups.is_empty() && comparison.held == 0);
    comparison.held = MOST_HELD + 1;
    assert!(comparison.take(file("c", stat(7, 10), 2)).unwrap().is_some(), "at the bound it is sent");
}

#[test]
fn names_whose_others_never_come_take_bounded_memory() {
    let started = jiff::Timestamp::from_second(STARTED).unwrap();
    let name = |n: u64| format!("{n:07}");
    let mut members = (0..200_000).map(|n| member(&name(n), stat(n, 10), 0));
    let before = Before { members: || Ok(members.next()), started, gone: HashSet::new() };
    let (mut comparison, mut sent) = (Comparison::new(before), 0);
    for n in 0..200_000 {
        sent += u64::from(comparison.take(file(&name(n), stat(n, 10), 2)).unwrap().is_some());
        assert!(comparison.held < MOST_HELD + 4096);
    }
    let table = comparison.groups.capacity() * (size_of::<((u64, u64), Group)>() + 1);
    let names: Vec<_> = comparison.groups.values().flat_map(|group| &group.names).collect();
    let names_take = names.len() * (size_of::<(Scanned, Same)>() + 2 * name(0).len());
    assert!(table + names_take < MOST_HELD && names_take > MOST_HELD / 4, "{table} {names_take}");
    // Their others lie elsewhere: all that were held back are kept.
    let (last, kept) = comparison.finish().unwrap();
    assert!(last.is_empty() && kept.count() + sent == 200_000);
}

/// A number that looks like chance (splitmix64).
fn mix(number: u64) -> u64 {
    let z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 31)
}

#[test]
fn the_names_of_one_file_stay_together_however_little_is_held_back() {
    let started = jiff::Timestamp::from_second(STARTED).unwrap();
    let mut kept_with_bounds = HashMap::new();
    for seed in 0..400 {
        let chance = |n: u64, below: u64| mix(seed * 1_000 + n) % below;
        // The number of its file, for each name; the first name of each is a file, the others are links to that.
        let files: Vec<u64> = (0..60).map(|n| chance(n, 20)).collect();
        let links = |file: u64| files.iter().filter(|&&other| other == file).count() as u64;
        let changed = |file: u64| chance(100 + file, 5) == 0;
        let name = |n: usize| format!("{n:02}");
        let members = files.iter().enumerate().map(|(n, &number)| {
            let first = files.iter().position(|&other| other == number).unwrap();
            let member = member(&name(n), stat(number, 10), 0);
            match first == n {
                true => member,
                false => Entry { kind: EntryType::Link, link: Some(name(first)), ..member },
            }
        });
        let members: Vec<_> = members.collect();
        let mut next = members.into_iter();
        let before = Before { members: || Ok(next.next()), started, gone: HashSet::new() };
        let mut comparison = Comparison::new(before);
        comparison.most_held = chance(200, 8) as usize * 2_000;
        let most_held = comparison.most_held;
        let mut sent = HashSet::new();
        for (n, &number) in files.iter().enumerate() {
            let stat = stat(number, if changed(number) { 11 } else { 10 });
            let given = comparison.take(file(&name(n), stat, links(number))).unwrap();
            sent.extend(given.map(|file| file.name));
            assert!(comparison.held <= most_held + 4_000, "seed {seed}: {}", comparison.held);
        }
        let (last, kept) = comparison.finish().unwrap();
        sent.extend(last.into_iter().map(|file| file.name));
        for (n, &number) in files.iter().enumerate() {
            let is_sent = sent.contains(name(n).as_bytes());
            assert_ne!(is_sent, kept.is_kept(n as u64), "seed {seed}: {n}");
            let first = files.iter().position(|&other| other == number).unwrap();
            assert_eq!(is_sent, sent.contains(name(first).as_bytes()), "seed {seed}: {n} of file {number}");
            assert!(is_sent || !changed(number), "seed {seed}: {n}");
        }
        *kept_with_bounds.entry(most_held).or_insert(0) += kept.count();
    }
    assert!(kept_with_bounds[&0] < kept_with_bounds[&4_000], "{kept_with_bounds:?}");
    assert!(kept_with_bounds[&4_000] < kept_with_bounds[&14_000], "{kept_with_bounds:?}");
}

#[test]
fn every_member_has_its_own_bit() {
    let names: Vec<_> = (100..300).map(|n| format!("f{n}")).collect();
    let members: Vec<_> = names.iter().map(|name| member(name, stat(1, 10), 0)).collect();
    let files: Vec<_> = names.iter().step_by(3).map(|name| file(name, stat(1, 10), 1)).collect();
    let expected: Vec<_> = (0..200).step_by(3).collect();
    assert_eq!(compare(&members, &[], &files), ("|".into(), expected));
}

#[test]
fn what_keeps_the_backup_before_from_being_read_is_an_error() {
    let members = || Err(crate::error::Error::damaged("a page"));
    let before = Before { members, started: jiff::Timestamp::UNIX_EPOCH, gone: HashSet::new() };
    assert!(Comparison::new(before).take(file("a", stat(1, 1), 1)).is_err());
    let members = || Err(crate::error::Error::damaged("a page"));
    let before = Before { members, started: jiff::Timestamp::UNIX_EPOCH, gone: HashSet::new() };
    assert!(Comparison::new(before).finish().is_err());
}

/// The names that are sent behind all others, and the numbers of the members that are kept, where a scan is cut.
fn cut(members: &[Entry], gone: &[u32], files: &[Scanned]) -> (Vec<String>, Vec<u64>) {
    let mut members = members.iter().cloned();
    let started = jiff::Timestamp::from_second(STARTED).unwrap();
    let before = Before { members: || Ok(members.next()), started, gone: gone.iter().copied().collect() };
    let mut comparison = Comparison::new(before);
    files.iter().for_each(|file| drop(comparison.take(file.clone()).unwrap()));
    let (last, kept) = comparison.cut().unwrap();
    let (known, sent) = kept.known_and_sent();
    assert!(known <= files.len() as u64 && sent <= known, "{known} {sent}");
    assert_eq!(kept.references.values().map(|live| live.bytes).sum::<u64>(), 1024 * kept.count());
    let last = last.iter().map(|file| String::from_utf8(file.name.clone()).unwrap());
    (last.collect(), (0..200).filter(|&number| kept.is_kept(number)).collect())
}

#[test]
fn behind_a_cut_the_backup_before_is_taken_over_as_far_as_it_would_be_trusted() {
    let old = stat(1, 10);
    let link = Entry { kind: EntryType::Link, link: Some("b".into()), ..member("i", old, 0) };
    let members = [
        member("a", old, 0),
        member("b", old, 0),
        member("c", old, 0),
        member("d", stat(1, STARTED - TICK), 0),
        member("e", stat(1, STARTED - TICK - 1), 0),
        member("f", old, 1),
        member("g", old, 2),
        Entry { stat: None, ..member("h", old, 0) },
        link,
    ];
    let files = [file("a", old, 1), file("b", stat(2, 10), 1)];
    assert_eq!(cut(&members, &[1], &files), (vec![], vec![0, 2, 4, 6]));
}

#[test]
fn names_of_a_file_of_which_others_lie_behind_a_cut_stay_where_they_can_and_what_is_sent_is_sent() {
    let one = stat(7, 10);
    let link =
        |path: &str, to: &str| Entry { kind: EntryType::Link, link: Some(to.into()), ..member(path, one, 0) };
    let members = [member("a", one, 0), link("b", "a"), link("z", "a")];
    assert_eq!(cut(&members, &[], &[file("a", one, 3), file("b", one, 3)]), (vec![], vec![0, 1]));
    // It is a link to what is not there any more.
    assert_eq!(cut(&members, &[], &[file("b", one, 2)]), (vec!["b".into()], vec![]));
    // Its file is another: all that was found of it is sent.
    let files = [file("0", one, 4), file("a", one, 4), file("b", one, 4)];
    assert_eq!(cut(&members, &[], &files), (vec![], vec![]));
}
