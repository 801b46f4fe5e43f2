//! `prune`, `pin`, `unpin` and `delete`: what was told is deleted, no more and no less, and the rest comes back.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::{AnyStore, Ended, JOB, Lab, noise, sh};

/// All objects, with their bytes.
fn objects(store: &AnyStore) -> BTreeMap<String, Vec<u8>> {
    store.names().into_iter().map(|name| (name.clone(), store.read(&name))).collect()
}

/// Some backups in the clear, one after the other; returns their ids, the oldest first, and what each is of.
fn nights(lab: &Lab, store: &str, count: u64) -> Vec<(String, Vec<u8>)> {
    let contents: Vec<_> = (0..count).map(|night| noise(night, 5_000)).collect();
    contents.iter().for_each(|bytes| drop(lab.backup_stdin(store, bytes, &["--no-encrypt"]).expect(0)));
    let ids = lab.list(store).into_iter().map(|(_, id)| id);
    ids.zip(contents).collect()
}

fn prune(lab: &Lab, store: &str, more: &[&str]) -> Ended {
    lab.run(&[&["prune", JOB, "--from", store], more].concat())
}

/// The lines of `--json`.
fn lines(ended: &Ended) -> Vec<Value> {
    ended.text().lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect()
}

fn ids(lab: &Lab, store: &str) -> Vec<String> {
    lab.list(store).into_iter().map(|(_, id)| id).collect()
}

#[track_caller]
fn comes_back(lab: &Lab, store: &str, (id, bytes): &(String, Vec<u8>)) {
    let restored =
        lab.run(&["restore", &format!("{JOB}@{id}"), "--to-stdout", "--no-encrypt", "--from", store]);
    assert_eq!(restored.expect(0).stdout, *bytes, "{id}");
}

#[test]
fn a_dry_run_changes_nothing_and_a_confirmed_one_frees_exactly_what_was_told() {
    let lab = Lab::new();
    for store in AnyStore::all(&lab) {
        let (url, at) = (store.url(), store.url());
        let made = nights(&lab, &url, 5);
        let before = objects(&store);
        let told = prune(&lab, &url, &["--keep-last", "2", "--json"]).expect(0);
        let human = prune(&lab, &url, &["--keep-last", "2"]).expect(0);
        assert!(
            human.stderr.contains("3 would be deleted") && human.stderr.contains("--confirm"),
            "{human:?}"
        );
        assert_eq!(objects(&store), before, "{at}");
        let lines_of = |state: &str, of: &Ended| -> Vec<(String, u64)> {
            let lines = lines(of).into_iter().filter(|line| line["state"] == state);
            lines.map(|l| (l["id"].as_str().unwrap().into(), l["bytes"].as_u64().unwrap())).collect()
        };
        let would = lines_of("drop", &told);
        assert_eq!(lines_of("keep", &told).len(), 2);
        assert_eq!(lines(&told)[4]["reasons"], serde_json::json!(["last", "newest"]));
        let done = prune(&lab, &url, &["--keep-last", "2", "--json", "--confirm"]).expect(0);
        assert_eq!(lines_of("deleted", &done), would, "{at}");
        let after = objects(&store);
        let size = |all: &BTreeMap<String, Vec<u8>>| all.values().map(Vec::len).sum::<usize>() as u64;
        assert_eq!(size(&before) - size(&after), would.iter().map(|(_, bytes)| bytes).sum::<u64>(), "{at}");
        assert!(after.iter().all(|(name, bytes)| before.get(name) == Some(bytes)), "{at}");
        assert_eq!((after.len(), ids(&lab, &url).len()), (6, 2), "{at}");
        made[3..].iter().for_each(|kept| comes_back(&lab, &url, kept));
        // And again: nothing is left to do.
        let again = prune(&lab, &url, &["--keep-last", "2", "--confirm"]).expect(0);
        assert!(again.stderr.contains("0 deleted"), "{}", again.stderr);
        assert_eq!(objects(&store), after, "{at}");
    }
}

#[test]
fn what_verify_found_damaged_takes_no_good_archives_place_whatever_is_damaged_of_it() {
    // In the encrypted session key, which nobody but the passphrase's owner can tell from another; and in the catalog.
    for (suffix, at) in
        [(".zst.gpg", 12), (".zst.gpg", 40), (".catalog.zst.gpg", 12), (".catalog.zst.gpg", 400)]
    {
        let lab = Lab::new();
        let store = lab.file_store();
        (0..2).for_each(|night| drop(lab.backup_stdin(&store, &noise(night, 5_000), &[]).expect(0)));
        let made = ids(&lab, &store);
        let object = lab.path(&format!("store/{JOB}/{}{suffix}", made[1]));
        let mut bytes = std::fs::read(&object).expect("the object");
        bytes[at] ^= 1;
        std::fs::write(&object, bytes).expect("it is written");
        lab.run(&["verify", JOB, "--from", &store]).expect(13);
        prune(&lab, &store, &["--keep-last", "1", "--confirm"]).expect(0);
        assert!(ids(&lab, &store).contains(&made[0]), "{suffix} at {at}");
        let good = format!("{JOB}@{}", made[0]);
        let restored = lab.run(&["restore", &good, "--to-stdout", "--from", &store]).expect(0);
        assert_eq!(restored.stdout, noise(0, 5_000), "{suffix} at {at}");
    }
}

#[test]
fn without_rules_nothing_is_deleted() {
    let lab = Lab::new();
    let url = lab.file_store();
    let made = nights(&lab, &url, 2);
    for more in [&["--confirm"][..], &["--confirm", "--keep-last", "0"], &["--confirm", "--min-keep", "1"]] {
        prune(&lab, &url, more).expect_error(2, "no rule says what is kept").hint("--keep-daily 7");
    }
    lab.run(&["prune", "nothing", "--keep-last", "1", "--from", &url])
        .expect_error(10, "no archive of job nothing");
    assert_eq!(ids(&lab, &url).len(), made.len());
}

#[test]
fn what_is_pinned_stays_until_it_is_unpinned() {
    let lab = Lab::new();
    let url = lab.file_store();
    let made = nights(&lab, &url, 3);
    let first = format!("{JOB}@{}", made[0].0);
    lab.run(&["pin", &first, "--note", "before the migration", "--from", &url]).expect(0);
    let listed = lab.run(&["list", "--from", &url]).expect(0).text();
    assert_eq!(listed.lines().filter(|line| line.ends_with("  pinned")).count(), 1, "{listed}");
    lab.run(&["delete", &first, "--from", &url, "--confirm"]).expect_error(1, "pinned").hint("sealift unpin");
    let pruned = prune(&lab, &url, &["--keep-last", "1", "--confirm"]).expect(0);
    assert!(pruned.text().contains("keep     pinned"), "{}", pruned.text());
    assert_eq!(ids(&lab, &url), [made[0].0.clone(), made[2].0.clone()]);
    comes_back(&lab, &url, &made[0]);
    lab.run(&["unpin", &first, "--from", &url]).expect(0);
    lab.run(&["unpin", &first, "--from", &url]).expect_error(1, "is not pinned");
    prune(&lab, &url, &["--keep-last", "1", "--confirm"]).expect(0);
    assert_eq!(ids(&lab, &url), [made[2].0.clone()]);
    assert_eq!(AnyStore::File(lab.path("store")).names().len(), 3, "neither pin nor tombstone is left");
}

#[test]
fn one_archive_is_deleted_but_not_the_newest() {
    let lab = Lab::new();
    let url = lab.file_store();
    let made = nights(&lab, &url, 3);
    let name = |n: usize| format!("{JOB}@{}", made[n].0);
    lab.run(&["delete", &name(2), "--from", &url, "--confirm"]).expect_error(1, "is not deleted: newest");
    let told = lab.run(&["delete", &name(0), "--from", &url]).expect(0);
    assert!(told.stderr.contains("would be deleted"), "{}", told.stderr);
    assert_eq!(ids(&lab, &url).len(), 3);
    lab.run(&["delete", &name(0), "--from", &url, "--confirm"]).expect(0);
    assert_eq!(ids(&lab, &url), [made[1].0.clone(), made[2].0.clone()]);
    lab.run(&["delete", &name(0), "--from", &url, "--confirm"]).expect(10);
    made[1..].iter().for_each(|kept| comes_back(&lab, &url, kept));
}

#[test]
fn what_an_increment_needs_is_kept_and_it_comes_back() {
    let lab = Lab::new();
    let url = lab.file_store();
    let night = |script: &str| {
        sh(&format!("mkdir -p {0}/s && cd {0}/s && {script}", lab.dir.display()));
        std::thread::sleep(std::time::Duration::from_millis(3_100));
        let words = ["backup", "path", "s", "--job", "j", "--no-encrypt", "--incremental", "--to", &url];
        lab.run(&words).expect(0);
    };
    night("echo old > old; echo a > changing");
    night("echo b > changing");
    night("echo c > changing");
    let all = ids(&lab, &url);
    let pruned = lab
        .run(&["prune", "j", "--keep-last", "1", "--from", &url, "--confirm", "--verify-before"])
        .expect(0);
    let text = pruned.text();
    assert!(text.contains(&format!("needed by {}", all[2])), "{text}");
    assert_eq!(ids(&lab, &url), [all[0].clone(), all[2].clone()], "{text}");
    std::fs::create_dir(lab.path("out")).expect("a folder");
    lab.run(&["restore", "j", "--to-path", "out", "--no-encrypt", "--from", &url]).expect(0);
    assert_eq!(
        sh(&format!("cd {}/out && cat $(find . -name old -o -name changing | sort)", lab.dir.display())),
        "c\nold\n"
    );
    let deleted = lab.run(&["delete", &format!("j@{}", all[0]), "--from", &url, "--confirm"]);
    deleted.expect_error(1, &format!("needed by {}", all[2]));
}

#[test]
fn rules_of_the_settings_hold_each_at_its_store() {
    let lab = Lab::new();
    let (near, far) = (lab.file_store(), lab.new_store("far"));
    let settings = format!(
        "[stores.near]\nurl = \"{near}\"\n[stores.far]\nurl = \"{far}\"\n\
         [jobs.kept]\nsource = \"stdin\"\njob = \"{JOB}\"\nto = \"near\"\nkeep = {{ last = 1, at.far = {{ last = 2 }} }}\n"
    );
    lab.write("sealift.toml", settings.as_bytes());
    nights(&lab, &near, 4);
    nights(&lab, &far, 4);
    lab.run(&["config", "check"]).expect(0);
    for (name, url, left) in [("near", &near, 1), ("far", &far, 2)] {
        lab.run(&["prune", "--from", name, "--confirm"]).expect(0);
        assert_eq!(ids(&lab, url).len(), left, "{name}");
    }
    // What is given on the command line takes their place.
    lab.run(&["prune", "--from", "far", "--keep-last", "1", "--confirm"]).expect(0);
    assert_eq!(ids(&lab, &far).len(), 1);
}
