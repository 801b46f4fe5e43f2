//! A night stores what changed; with the archives that it needs, plain tools give all of the source back.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use crate::support::{Ended, Lab, sh};

/// Longer than a file's times must lie before a backup for the next one to trust them.
fn settle() {
    std::thread::sleep(std::time::Duration::from_millis(3_100));
}

fn in_source(lab: &Lab, script: &str) {
    sh(&format!("mkdir -p {0}/s && cd {0}/s && {script}", lab.dir.display()));
}

fn night(lab: &Lab, more: &[&str]) -> Ended {
    let store = lab.file_store();
    let words = ["backup", "path", "s", "--job", "j", "--no-encrypt", "--json", "--to", &store];
    lab.run(&[&words[..], more].concat())
}

/// The `sealed` event of a backup.
#[track_caller]
fn sealed(ended: &Ended) -> Value {
    let events = ended.stderr.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let stdout = ended.text();
    let told = stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let found = events.chain(told).find(|event| event["event"] == "sealed");
    found.unwrap_or_else(|| panic!("no event: {ended:?}"))
}

fn manifest(lab: &Lab, id: &str) -> Value {
    let text = std::fs::read(lab.path(&format!("store/j/{id}.manifest.json"))).expect("a manifest");
    serde_json::from_slice(&text).expect("JSON")
}

/// The records of a catalog, as zstd has them.
fn records(lab: &Lab, id: &str) -> Vec<Value> {
    let lines = sh(&format!("zstd -dcq {}/store/j/{id}.catalog.zst", lab.dir.display()));
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Members of a catalog by the id of the archive that holds them.
fn members(lab: &Lab, id: &str) -> BTreeMap<String, Vec<String>> {
    let records = records(lab, id);
    let refs = records.iter().filter_map(|record| record.get("ref"));
    let ids: BTreeMap<_, _> =
        refs.map(|archive| (archive["n"].as_u64(), archive["id"].as_str().expect("an id"))).collect();
    let mut members: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in records.iter().filter_map(|record| record.get("entry")) {
        let holder = entry["ref"].as_u64().map_or(id, |n| ids[&Some(n)]);
        members.entry(holder.into()).or_default().push(entry["path"].as_str().expect("a path").into());
    }
    members
}

/// Brings a backup back with zstd and tar alone, archive by archive, and holds it against the source.
#[track_caller]
fn by_hand(lab: &Lab, id: &str) {
    sh(&format!("cd {} && rm -rf out && mkdir out", lab.dir.display()));
    for (archive, names) in members(lab, id) {
        lab.write("names", (names.join("\0") + "\0").as_bytes());
        sh(&format!(
            "cd {} && tar -x --zstd -f store/j/{archive}.tar.zst -C out --delay-directory-restore --no-recursion --null \
             -T names",
            lab.dir.display()
        ));
    }
    // A folder of an older archive was there before what a later one has in it.
    is_the_source(lab, "");
}

/// Brings a backup back, and holds it against the source.
#[track_caller]
fn restored(lab: &Lab, id: &str) {
    sh(&format!("cd {} && rm -rf out && mkdir out", lab.dir.display()));
    let store = lab.file_store();
    let name = format!("j@{id}");
    lab.run(&["restore", &name, "--no-encrypt", "--to-path", "out", "--from", &store]).expect(0);
    is_the_source(lab, " %T@");
}

/// Holds `out` against the source; of folders, also what `more` prints.
#[track_caller]
fn is_the_source(lab: &Lab, more: &str) {
    let listing = |below: &str| {
        let files = r"! -type d -printf '%p %y %m %n %s %T@ %l\n'";
        let folders = format!(r"-type d -printf '%p %m{more}\n'");
        sh(&format!("cd {}/{below} && find s {files} , {folders} | LC_ALL=C sort", lab.dir.display()))
    };
    let (out, source) = (listing("out"), listing("."));
    let differ: Vec<_> = out.lines().zip(source.lines()).filter(|(out, source)| out != source).collect();
    assert!(out == source, "{differ:?}");
    let diff = ["-r", "--no-dereference", "s", "out/s"];
    let diff = Command::new("diff").args(diff).current_dir(&lab.dir).output().expect("diff");
    assert!(diff.status.success(), "{}", String::from_utf8_lossy(&diff.stdout));
}

#[track_caller]
fn id(sealed: &Value) -> String {
    sealed["id"].as_str().expect("an id").into()
}

#[test]
fn nights_hold_what_changed_and_give_all_of_it_back_by_hand() {
    let lab = Lab::new();
    in_source(
        &lab,
        "mkdir -p d/e; for i in $(seq 200); do head -c 20000 /dev/urandom > d/f$i; done; echo x > d/e/x; ln d/e/x link; \
         ln d/f7 d/e/f7; echo y > gone; echo z > kind; ln -s d/f1 sym; mkdir empty; truncate -s 1M sparse",
    );
    settle();
    let first = sealed(&night(&lab, &["--incremental"]).expect(0));
    assert!(first.get("kept").is_none(), "{first}");
    by_hand(&lab, &id(&first));
    restored(&lab, &id(&first));

    settle();
    let second = sealed(&night(&lab, &["--incremental"]).expect(0));
    assert_eq!(second["kept"]["needs"], serde_json::json!([id(&first)]));
    assert!(second["stored"].as_u64() < Some(64 << 10), "{second}");
    assert_eq!(manifest(&lab, &id(&second))["entries"], 0, "nothing changed");
    by_hand(&lab, &id(&second));
    restored(&lab, &id(&second));

    in_source(
        &lab,
        "rm gone; rm kind; mkdir kind; echo in > kind/in; echo more >> d/e/x; ln d/f7 d/third; chmod 600 d/f3; \
         mv d/f4 d/moved; touch -d '2001-02-03' d/f5; rm d/f6; echo other > d/f6; mv d/e d/g; ln -sfn d/f2 sym",
    );
    settle();
    let third = sealed(&night(&lab, &["--incremental"]).expect(0));
    assert_eq!(third["kept"]["needs"], serde_json::json!([id(&first)]));
    by_hand(&lab, &id(&third));
    restored(&lab, &id(&third));
    let new = &members(&lab, &id(&third))[&id(&third)];
    for name in ["s/d/g/x", "s/link", "s/d/third", "s/d/f7", "s/d/g/f7", "s/d/moved", "s/kind/", "s/sym"] {
        assert!(new.iter().any(|own| own == name), "{name} in {new:?}");
    }
    assert!(new.len() < 25, "{new:?}");

    in_source(&lab, "rm -r kind; echo f > kind; rm link; echo 8 > d/f8; mkdir gone; mv d/f9 gone/f9");
    settle();
    let fourth = sealed(&night(&lab, &["--incremental"]).expect(0));
    assert_eq!(fourth["kept"]["needs"], serde_json::json!([id(&first), id(&third)]));
    assert_eq!(manifest(&lab, &id(&fourth))["needs"], fourth["kept"]["needs"]);
    by_hand(&lab, &id(&fourth));
    restored(&lab, &id(&fourth));

    let full = night(&lab, &["--incremental", "--full"]).expect(0);
    assert!(sealed(&full).get("kept").is_none());
    by_hand(&lab, &id(&sealed(&full)));
}

#[test]
fn what_was_touched_within_a_tick_of_the_backup_before_is_read_again() {
    let lab = Lab::new();
    in_source(&lab, "echo a > a");
    let first = sealed(&night(&lab, &["--incremental"]).expect(0));
    let second = sealed(&night(&lab, &["--incremental"]).expect(0));
    assert!(first.get("kept").is_none() && second.get("kept").is_none(), "{second}");
}

#[test]
fn an_archive_that_is_gone_is_named_and_what_it_held_is_read_again() {
    let lab = Lab::new();
    in_source(&lab, "for i in $(seq 20); do echo $i > f$i; done");
    settle();
    let first = id(&sealed(&night(&lab, &["--incremental"]).expect(0)));
    in_source(&lab, "echo new > f1");
    settle();
    let second = id(&sealed(&night(&lab, &["--incremental"]).expect(0)));
    let stored = lab.path(&format!("store/j/{first}.tar.zst"));
    std::fs::remove_file(stored).expect("an archive");
    let healed = night(&lab, &["--incremental"]).expect(3);
    let event = sealed(&healed);
    assert!(event["warnings"][0].as_str().is_some_and(|text| text.contains(&first)), "{event}");
    assert_eq!(event["kept"]["needs"], serde_json::json!([second]));
    by_hand(&lab, &id(&event));
    let next = sealed(&night(&lab, &["--incremental"]).expect(0));
    by_hand(&lab, &id(&next));
}

#[test]
fn what_can_be_no_increment_is_a_full_and_says_why() {
    let lab = Lab::new();
    in_source(&lab, "echo a > a");
    settle();
    let says = |ended: Ended, words: &str| {
        let told = ended.expect(0);
        let text = told.stderr.clone() + &told.text();
        assert!(text.contains(words), "{words}: {text}");
        assert!(sealed(&told).get("kept").is_none());
        id(&sealed(&told))
    };
    says(night(&lab, &["--incremental"]), "the job has no backup yet");
    says(night(&lab, &["--incremental", "--full"]), "--full asks for it");
    says(night(&lab, &["--incremental", "--full-every", "0s"]), "is 0 days old");
    let elsewhere = ["--incremental", "--host", "elsewhere", "--warn-ok", "source"];
    says(night(&lab, &elsewhere), "was made on another host");
    // One of this host is older, and still good.
    let found = sealed(&night(&lab, &["--incremental", "--warn-ok", "source"]).expect(0));
    assert_eq!(found["kept"]["entries"], 2);
    // To a store that has none of the job's backups.
    let other = lab.new_store("other");
    says(night(&lab, &["--incremental", "--to", &other]), "that all of these stores have");
    let store = lab.file_store();
    let words =
        ["backup", "stdin", "--job", "piped", "--no-encrypt", "--incremental", "--verbose", "--to", &store];
    let piped = lab.feed(&words, b"bytes").expect(0);
    assert!(piped.stderr.contains("it is backed up in full"), "{}", piped.stderr);
}

#[test]
fn a_backup_without_fingerprints_is_not_built_on() {
    let lab = Lab::new();
    in_source(&lab, "echo a > a");
    night(&lab, &[]).expect(0);
    let first = night(&lab, &["--incremental"]).expect(0);
    let text = first.stderr.clone() + &first.text();
    assert!(text.contains("was made without --incremental"), "{text}");
    assert!(sealed(&first).get("kept").is_none());
}

#[test]
fn kept_members_are_members_that_were_expected() {
    let lab = Lab::new();
    in_source(&lab, "for i in $(seq 20); do echo $i > f$i; done");
    settle();
    night(&lab, &["--incremental"]).expect(0);
    let expecting = ["--incremental", "--strict", "--expect", "s/f7", "--min-entries"];
    night(&lab, &[&expecting[..], &["21"]].concat()).expect(0);
    night(&lab, &[&expecting[..], &["22"]].concat()).expect(1);
    night(&lab, &["--incremental", "--strict", "--expect", "s/f77"]).expect(1);
}

#[test]
fn a_sealed_night_needs_the_one_before_and_another_passphrase_is_a_full() {
    let lab = Lab::new();
    in_source(&lab, "for i in $(seq 20); do echo $i > f$i; done");
    settle();
    let store = lab.file_store();
    let backup = |more: &[&str]| {
        let words = ["backup", "path", "s", "--job", "j", "--json", "--incremental", "--to", &store];
        lab.run(&[&words[..], more].concat())
    };
    let first = sealed(&backup(&[]).expect(0));
    let second = sealed(&backup(&["--cipher", "aead"]).expect(0));
    assert_eq!((&second["kept"]["needs"][0], &second["kept"]["entries"]), (&first["id"], &Value::from(21)));
    let third = sealed(&backup(&[]).expect(0));
    assert_eq!(third["kept"]["needs"], serde_json::json!([first["id"]]));
    lab.write("other", b"another passphrase\n");
    let other = sealed(&backup(&["--passphrase-file", "other"]).expect(3));
    assert!(other.get("kept").is_none(), "{other}");
}

#[test]
fn an_archive_of_which_little_is_needed_is_given_up_within_the_limit() {
    let lab = Lab::new();
    in_source(&lab, "for i in $(seq 40); do head -c 20000 /dev/urandom > f$i; done");
    settle();
    let first = id(&sealed(&night(&lab, &["--incremental"]).expect(0)));
    in_source(&lab, "for i in $(seq 33); do head -c 20000 /dev/urandom > f$i; done");
    settle();
    let second = sealed(&night(&lab, &["--incremental"]).expect(0));
    assert_eq!(
        second["kept"]["needs"],
        serde_json::json!([first]),
        "what it holds now is known to the next one"
    );
    let second = id(&second);
    // A sixth of the job lies in the first archive: more than a tenth.
    let third = sealed(&night(&lab, &["--incremental"]).expect(0));
    assert_eq!(third["kept"]["needs"], serde_json::json!([first, second]));
    let never =
        sealed(&night(&lab, &["--incremental", "--rebase", "0%", "--rebase-limit", "100%"]).expect(0));
    assert_eq!(never["kept"]["needs"], serde_json::json!([first, second]));
    let told = night(&lab, &["--incremental", "--rebase-limit", "20%"]).expect(0);
    let text = told.stderr.clone() + &told.text();
    assert!(text.contains(&format!("j@{first} is needed no more")), "{text}");
    let fourth = sealed(&told);
    assert_eq!(fourth["kept"]["needs"], serde_json::json!([second]));
    assert_eq!(manifest(&lab, &id(&fourth))["entries"], 8, "seven files and the folder");
    by_hand(&lab, &id(&fourth));
    restored(&lab, &id(&fourth));
}

/// Puts a copy in the source's place: all inode numbers and times of change are new.
fn copy_anew(lab: &Lab) {
    sh(&format!("cd {} && cp -a s copy && rm -r s && mv copy s", lab.dir.display()));
}

#[test]
fn a_tree_that_is_copied_anew_is_compared_by_what_is_in_it() {
    let lab = Lab::new();
    in_source(
        &lab,
        "mkdir -p d/e empty; for i in $(seq 1100); do echo $i > d/f$i; done; head -c 9000000 /dev/urandom > d/e/large; \
         ln d/f7 d/e/link; ln -s d/f1 sym; touch -d '1969-12-31 23:59:58.5 UTC' d/f8 d/e/link; truncate -s 1M sparse",
    );
    let by_content = ["--incremental", "--compare", "content"];
    let first = sealed(&night(&lab, &by_content).expect(0));
    assert!(first.get("kept").is_none(), "{first}");
    by_hand(&lab, &id(&first));

    copy_anew(&lab);
    // As many bytes, and the time is put back: nothing but reading tells.
    in_source(
        &lab,
        "touch -r d/f9 ../time; echo X > d/f9; touch -r ../time d/f9; touch -r d ../time; echo new > d/new; chmod 600 d/f3; \
         touch -r ../time d",
    );
    let second = sealed(&night(&lab, &by_content).expect(0));
    assert_eq!(second["kept"]["needs"], serde_json::json!([id(&first)]));
    let members_of = |night: &Value| members(&lab, &id(night)).remove(&id(night)).unwrap_or_default();
    assert_eq!(members_of(&second), ["s/d/f3", "s/d/f9", "s/d/new", "s/sparse"]);
    by_hand(&lab, &id(&second));
    restored(&lab, &id(&second));
    // Whatever is in the catalog is what anybody's BLAKE3 says of the file.
    let hash_of = |path: &str| {
        let records = records(&lab, &id(&second));
        let mut entries = records.iter().filter_map(|record| record.get("entry"));
        entries.find(|entry| entry["path"] == path).map(|entry| entry["content"]["blake3"].clone())
    };
    let large = blake3::hash(&std::fs::read(lab.path("s/d/e/large")).expect("a file"));
    assert_eq!(hash_of("s/d/e/large"), Some(large.to_hex().to_string().into()));
    assert_eq!(hash_of("s/d/"), Some(Value::Null));

    copy_anew(&lab);
    let third = night(&lab, &["--incremental"]).expect(3);
    let text = third.stderr.clone() + &third.text();
    assert!(text.contains("use --compare content"), "{text}");
    assert!(sealed(&third).get("kept").is_none(), "{text}");

    // That one was made without hashes.
    let fourth = night(&lab, &by_content).expect(0);
    let text = fourth.stderr.clone() + &fourth.text();
    assert!(text.contains("1104 files are stored again"), "{text}");
    let fourth = sealed(&fourth);
    assert!(fourth.get("kept").is_none(), "{fourth}");
    let fifth = sealed(&night(&lab, &by_content).expect(0));
    assert_eq!(members_of(&fifth), ["s/sparse"], "and nobody had to wait for times to settle");
    restored(&lab, &id(&fifth));
}
