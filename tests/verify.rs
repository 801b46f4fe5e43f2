//! Every level of `verify` finds what it promises to find, and leaves one record of what it found in order.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::support::{AnyStore, Ended, JOB, Lab, a_second_later, noise, sh, unique};

/// Bytes that make six frames.
const SIX_FRAMES: usize = 23_000_000;

fn events(ended: &Ended) -> Vec<Value> {
    ended.text().lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect()
}

/// The events of one kind.
fn of<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == kind).collect()
}

fn verify(lab: &Lab, store: &str, more: &[&str]) -> Ended {
    lab.run(&[&["verify", JOB, "--from", store], more].concat())
}

fn objects(store: &AnyStore) -> BTreeMap<String, Vec<u8>> {
    store.names().into_iter().map(|name| (name.clone(), store.read(&name))).collect()
}

fn records(store: &AnyStore) -> Vec<String> {
    store.names().into_iter().filter(|name| name.contains(".verified-")).collect()
}

/// What `list --json` says of the archives' verifications.
fn listed(lab: &Lab, store: &str) -> Vec<Value> {
    let lines = events(&lab.run(&["list", "--json", "--from", store]).expect(0));
    lines.iter().map(|line| line["verified"].clone()).collect()
}

#[test]
fn each_level_finds_what_it_promises() {
    let lab = Lab::new();
    let store = AnyStore::File(lab.path("store"));
    let input = noise(41, SIX_FRAMES);
    lab.backup_stdin(&store.url(), &input, &["--format", "raw"]).expect(0);
    let find = |suffix: &str, not: &str| {
        let names = sh(&format!("ls {}/store/{JOB}/*{suffix} | grep -v {not}", lab.dir.display()));
        PathBuf::from(names.trim())
    };
    let (archive, catalog) = (find(".zst.gpg", "catalog"), find(".catalog.zst.gpg", "nothing"));
    let before = objects(&store);
    // What is done to which object, and how each level ends: manifest, stored, a small sample, a sample of all, whole.
    type Harm = fn(&mut Vec<u8>);
    let flip: Harm = |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    };
    let cut: Harm = |bytes| bytes.truncate(bytes.len() - 1);
    let nothing: Harm = |_| {};
    let levels: [&[&str]; 5] =
        [&["--manifest"], &["--stored"], &["--sample", "1%"], &["--sample", "100%"], &[]];
    for (path, harm, codes) in [
        (&archive, nothing, [Some(0), Some(0), Some(0), Some(0), Some(0)]),
        (&archive, cut, [Some(13); 5]),
        (&catalog, cut, [Some(13); 5]),
        // A small sample finds a flip only where it looks.
        (&archive, flip, [Some(0), Some(13), None, Some(13), Some(13)]),
        (&catalog, flip, [Some(0), Some(13), Some(13), Some(13), Some(13)]),
    ] {
        let good = std::fs::read(path).expect("the object");
        let mut bad = good.clone();
        harm(&mut bad);
        std::fs::write(path, &bad).expect("the object");
        for (level, code) in levels.iter().zip(codes) {
            let ended = verify(&lab, &store.url(), &[level, &["--no-record"][..]].concat());
            assert!(code.is_none_or(|code| ended.code == code), "{level:?} of {path:?}: {}", ended.stderr);
            assert!(ended.code == 0 || ended.stderr.contains("error: "), "{}", ended.stderr);
        }
        std::fs::write(path, &good).expect("the object");
    }
    std::fs::remove_file(&catalog).expect("the catalog");
    verify(&lab, &store.url(), &["--manifest"]).expect_error(13, "has lost");
    std::fs::write(
        &catalog,
        &before[catalog.strip_prefix(lab.path("store")).expect("below").to_str().expect("text")],
    )
    .expect("the catalog");
    assert!(before == objects(&store), "something was changed or written");
}

#[test]
fn a_sample_of_everything_finds_a_flip_in_any_frame() {
    let lab = Lab::new();
    let store = lab.file_store();
    lab.backup_stdin(&store, &noise(42, SIX_FRAMES), &["--format", "raw"]).expect(0);
    let path = sh(&format!("ls {}/store/{JOB}/*.zst.gpg | grep -v catalog", lab.dir.display()));
    let good = std::fs::read(path.trim()).expect("the object");
    for frame in 0..6 {
        let mut bad = good.clone();
        bad[frame * (4 << 20) + 1_000_000] ^= 0x20;
        std::fs::write(path.trim(), &bad).expect("the object");
        let ended = verify(&lab, &store, &["--sample", "100%"]);
        ended.expect_error(13, &format!("frame {frame} of"));
    }
    // Chance decides what a small one sees: of one frame in six, both are seen before long.
    let codes: Vec<_> =
        (0..60).map(|_| verify(&lab, &store, &["--sample", "1B", "--no-record"]).code).collect();
    assert!(codes.contains(&0) && codes.contains(&13), "{codes:?}");
    assert!(codes.iter().all(|code| [0, 13].contains(code)), "{codes:?}");
}

#[test]
fn a_record_is_written_and_nothing_else_changes() {
    let lab = Lab::new();
    for store in AnyStore::all(&lab) {
        let url = store.url();
        lab.backup_stdin(&url, &noise(43, SIX_FRAMES), &["--format", "raw"]).expect(0);
        let (_, id) = lab.list(&url)[0].clone();
        assert_eq!(listed(&lab, &url), [Value::Null]);
        let mut before = objects(&store);
        // In this order each is shown instead of the one before.
        for (level, more) in [
            ("manifest", &["--manifest"][..]),
            ("stored", &["--stored"]),
            ("sample", &["--sample", "20%"]),
            ("whole", &[]),
        ] {
            let ended = verify(&lab, &url, &[more, &["--json"]].concat()).expect(0);
            let events = events(&ended);
            let [event] = of(&events, "verified")[..] else { panic!("{events:?}") };
            assert_eq!((&event["level"], &event["id"]), (&level.into(), &id.as_str().into()), "{event}");
            let mut after = objects(&store);
            let new: Vec<_> = after.keys().filter(|name| !before.contains_key(*name)).cloned().collect();
            assert_eq!(new, [format!("{JOB}/{}", event["record"].as_str().expect("its name"))]);
            assert!(new[0].starts_with(&format!("{JOB}/{id}.verified-{level}-")), "{new:?}");
            let record: Value = serde_json::from_slice(&after[&new[0]]).expect("JSON");
            assert_eq!(
                (&record["level"], &record["id"], &record["job"]),
                (&level.into(), &id.as_str().into(), &JOB.into())
            );
            let shown = &listed(&lab, &url)[0];
            assert_eq!(shown["level"], level, "{shown}");
            let share = if level == "sample" { &record["share"] } else { &Value::Null };
            match share.as_f64() {
                // Of six frames, as few as have a fifth.
                Some(share) => {
                    assert!((0.2..0.4).contains(&share), "{share}");
                    assert!((shown["share"].as_f64().expect("a share") - share).abs() < 0.0001, "{shown}");
                }
                None => assert_eq!(shown["share"], 1.0),
            }
            let table = lab.run(&["list", "--long", "--from", &url]).expect(0).text();
            let at = record["at"].as_str().expect("a time").replace('T', " ");
            let wanted = &at[..16];
            assert!(table.contains("VERIFIED") && table.contains(wanted) && table.contains(level), "{table}");
            assert_eq!(after.remove(&new[0]).map(|_| ()), Some(()));
            assert!(after == before, "an object was changed");
            before = objects(&store);
        }
        // What fails, or is not to be recorded, is not; and records are in nobody's way.
        let wrong = lab.write("wrong", b"wrong\n").display().to_string();
        verify(&lab, &url, &["--passphrase-file", &wrong]).expect(12);
        verify(&lab, &url, &["--no-record"]).expect(0);
        assert!(before == objects(&store), "something was changed");
        assert_eq!(lab.list(&url).len(), 1);
        a_second_later();
        lab.backup_stdin(&url, b"newer", &[]).expect(0);
        assert_eq!(lab.run(&["restore", JOB, "--to-stdout", "--from", &url]).expect(0).stdout, b"newer");
        let copy = AnyStore::File(lab.path(&unique("copy")));
        lab.run(&["copy", &format!("{JOB}@{id}"), "--from", &url, "--to", &copy.url()]).expect(0);
        assert_eq!(copy.names().len(), 3, "{:?}", copy.names());
    }
}

#[test]
fn since_last_verifies_what_was_not_verified_yet() {
    let lab = Lab::new();
    for store in AnyStore::all(&lab) {
        let url = store.url();
        let ids = |ended: &Ended| -> Vec<String> {
            let events = events(ended);
            let ids =
                of(&events, "verified").into_iter().map(|event| event["id"].as_str().expect("an id").into());
            ids.collect()
        };
        let run = |more: &[&str]| verify(&lab, &url, &[more, &["--since-last", "--json"]].concat()).expect(0);
        for input in [b"first", b"other"] {
            lab.backup_stdin(&url, input, &[]).expect(0);
            a_second_later();
        }
        let all: Vec<_> = lab.list(&url).into_iter().map(|(_, id)| id).collect();
        assert_eq!(ids(&run(&["--stored"])), all, "oldest first");
        assert_eq!(ids(&run(&["--stored"])), [""; 0]);
        assert_eq!(ids(&run(&["--manifest"])), [""; 0], "more was done already");
        assert_eq!(ids(&run(&["--sample", "5%"])), all, "stored bytes are no sample");
        assert_eq!(ids(&run(&[])), all, "nor are they everything");
        lab.backup_stdin(&url, b"third", &[]).expect(0);
        let newest = lab.list(&url).pop().expect("the newest").1;
        let ended = run(&[]);
        lab.run(&["verify", "nobody", "--since-last", "--from", &url])
            .expect_error(10, "no archive of job nobody");
        assert_eq!(ids(&ended), [newest.as_str()]);
        let last = events(&ended).pop().expect("an event");
        assert_eq!((&last["verified"], &last["before"]), (&1.into(), &2.into()), "{last}");
        assert_eq!(ids(&run(&["--sample", "100%"])), [""; 0]);
    }
}

#[test]
fn one_damaged_archive_does_not_keep_the_others_from_being_verified() {
    let lab = Lab::new();
    let store = AnyStore::File(lab.path("store"));
    let folder = lab.path("store").join(JOB);
    for input in [b"one", b"two", b"xyz"] {
        lab.backup_stdin(&store.url(), input, &[]).expect(0);
    }
    let ids: Vec<_> = lab.list(&store.url()).into_iter().map(|(_, id)| id).collect();
    let object = folder.join(format!("{}.zst.gpg", ids[0]));
    let mut bytes = std::fs::read(&object).expect("the object");
    *bytes.last_mut().expect("an byte") ^= 1;
    std::fs::write(&object, bytes).expect("the object");
    let ended = verify(&lab, &store.url(), &["--since-last"]).expect_error(13, &ids[0]);
    assert!(!ended.stderr.contains(&format!("error: not verified: {JOB}@{}", ids[1])), "{}", ended.stderr);
    let of = |id: &str| {
        records(&store).into_iter().filter(|name| name.contains(&format!("{id}.v"))).collect::<Vec<_>>()
    };
    assert_eq!(ids.iter().map(|id| of(id).len()).collect::<Vec<_>>(), [0, 1, 1]);
    // A record that is not what was written, and a name that only looks like one, say nothing.
    let record = lab.path("store").join(&of(&ids[1])[0]);
    std::fs::write(&record, std::fs::read_to_string(&record).expect("text").replace("whole", "whale"))
        .expect("the record");
    for name in [
        "verified-whole-.json",
        "verified-best-20261122T020000Z-1f2e3d4c.json",
        "verified-whole-20261122T020000Z-1f2e3d4c.json.tmp",
    ] {
        std::fs::write(folder.join(format!("{}.{name}", ids[0])), "{}").expect("a file");
    }
    assert_eq!(listed(&lab, &store.url())[0], Value::Null);
    let ended = verify(&lab, &store.url(), &["--since-last"]).expect_error(13, &ids[0]);
    assert!(ended.stderr.contains("1 verified now, 1 before"), "{}", ended.stderr);
    assert_eq!(of(&ids[1]).len(), 2);
}

#[test]
fn when_time_is_over_nothing_is_called_verified_that_was_not_read() {
    let lab = Lab::new();
    let store = AnyStore::File(lab.path("store"));
    let url = store.url();
    lab.backup_stdin(&url, &noise(44, SIX_FRAMES), &["--format", "raw"]).expect(0);
    for level in [&[][..], &["--stored"]] {
        let ended = verify(&lab, &url, &[level, &["--max-duration", "0s"]].concat()).expect(3);
        assert!(
            ended.stderr.contains("warning: the time is over") && ended.stderr.contains("is not verified")
        );
        assert!(!ended.stderr.contains("\nverified "), "{}", ended.stderr);
    }
    // A window in which nothing fits is not success, night after night.
    let ended = verify(&lab, &url, &["--since-last", "--max-duration", "0s"]).expect(3);
    assert!(ended.stderr.contains(&format!("not verified yet: {JOB}@")), "{}", ended.stderr);
    assert!(ended.stderr.contains("did not suffice for one archive"), "{}", ended.stderr);
    assert_eq!(records(&store), [""; 0]);
    // A sample is one however far it came: its record says how far.
    let ended = verify(&lab, &url, &["--sample", "100%", "--max-duration", "0s", "--json"]).expect(0);
    let share = of(&events(&ended), "verified")[0]["share"].as_f64().expect("a share");
    assert!(share > 0.1 && share < 0.9, "{share}");
    assert!(ended.text().contains("the time is over"), "{}", ended.text());
    let shown = listed(&lab, &url)[0]["share"].as_f64().expect("a share");
    assert!((shown - share).abs() < 0.0001, "{shown}");
    // It is not the one that was asked for.
    let ended = verify(&lab, &url, &["--sample", "100%", "--since-last", "--max-duration", "1h"]).expect(0);
    assert!(ended.stderr.contains("1 verified now, 0 before, 0 left"), "{}", ended.stderr);
    let ended = verify(&lab, &url, &["--sample", "100%", "--since-last", "--max-duration", "0s"]).expect(0);
    assert!(ended.stderr.contains("0 verified now, 1 before, 0 left"), "{}", ended.stderr);
}

#[test]
fn an_archive_of_the_wrong_thing_is_not_verified() {
    let lab = Lab::new();
    let store = AnyStore::File(lab.path("store"));
    let url = store.url();
    sh(&format!("cd {}; mkdir -p t/etc t/srv; touch t/etc/a.conf t/srv/b", lab.dir.display()));
    lab.run(&["backup", "path", "t", "--job", JOB, "--to", &url]).expect(0);
    for level in [&[][..], &["--sample", "50%"]] {
        let unmet = ["--expect", "t/etc", "--expect", "t/var/", "--expect", "*.sql", "--min-entries", "100"];
        let ended = verify(&lab, &url, &[level, &unmet].concat());
        let ended = ended.expect_error(
            1,
            "no member matches 't/var/'; no member matches '*.sql'; only 5 members where 100",
        );
        assert!(!ended.stderr.contains("'t/etc'"), "{}", ended.stderr);
        assert_eq!(records(&store), [""; 0]);
    }
    verify(&lab, &url, &["--expect", "t/etc/", "--expect", "*.conf", "--min-entries", "5"]).expect(0);
    assert_eq!(records(&store).len(), 1);
    for more in [
        &["--stored", "--expect", "t"][..],
        &["--manifest", "--min-entries", "1"],
        &["--stored", "--manifest"],
        &["--stored", "--sample", "1%"],
        &["--sample", "0%"],
        &["--expect", "["],
    ] {
        verify(&lab, &url, more).expect(2);
    }
    let (_, id) = lab.list(&url)[0].clone();
    lab.run(&["verify", &format!("{JOB}@{id}"), "--since-last", "--from", &url])
        .expect_error(2, "takes a job");
    // What is no tar has no members.
    a_second_later();
    lab.backup_stdin(&url, b"bytes", &["--format", "raw"]).expect(0);
    verify(&lab, &url, &["--min-entries", "1"]).expect_error(1, "no members where 1 are expected");
}

#[test]
fn a_store_that_may_only_be_read_is_verified_all_the_same() {
    let lab = Lab::new();
    let store = AnyStore::File(lab.path("store"));
    lab.backup_stdin(&store.url(), &noise(45, 100_000), &[]).expect(0);
    let before = store.names();
    // Even to root, permissions mean something without these two capabilities.
    let folder = lab.path("store").join(JOB);
    sh(&format!("chmod 0555 {}", folder.display()));
    let sealift = lab.sealift();
    let mut command = Command::new("setpriv");
    command
        .args(["--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]);
    command.arg(sealift.get_program()).args(["verify", JOB, "--from", &store.url()]).current_dir(&lab.dir);
    command.env("SEALIFT_PASSPHRASE_FILE", lab.path("passphrase"));
    let ended = Ended::from(command.output().expect("setpriv runs")).expect(0);
    sh(&format!("chmod 0755 {}", folder.display()));
    assert!(ended.stderr.contains("note: the verification of"), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("is not recorded") && ended.stderr.contains("\nverified "),
        "{}",
        ended.stderr
    );
    assert_eq!(store.names(), before);
}
