//! `rekey`: what was sealed with one passphrase opens with another, too, and nothing else does.

use std::process::Command;

use serde_json::Value;

use crate::support::nights::{id, in_source, is_the_source, sealed, settle};
use crate::support::{AnyStore, Ended, Lab, noise, sh};

const NEW: [&str; 2] = ["--passphrase-file", "new"];
const REKEY: [&str; 2] = ["--new-passphrase-file", "new"];

/// A lab with a second passphrase.
fn lab() -> Lab {
    let lab = Lab::new();
    lab.write("new", b"battery staple\n");
    lab
}

fn night(lab: &Lab, store: &str, more: &[&str]) -> Ended {
    let words = ["backup", "path", "s", "--job", "j", "--incremental", "--json", "--to", store];
    lab.run(&[&words[..], more].concat())
}

/// Three nights, the later two of which need those before.
fn nights(lab: &Lab, store: &str) -> [String; 3] {
    in_source(
        lab,
        "mkdir -p d; for i in $(seq 40); do head -c 20000 /dev/urandom > d/f$i; done; echo x > gone",
    );
    ["true", "echo more >> d/f1; rm gone", "echo more >> d/f2; echo n > d/new"].map(|change| {
        in_source(lab, change);
        settle();
        id(&sealed(&night(lab, store, &[]).expect(0)))
    })
}

fn rekey(lab: &Lab, which: &str, store: &str, more: &[&str]) -> Ended {
    lab.run(&[&["rekey", which, "--from", store][..], &REKEY, more].concat())
}

fn key_objects(store: &AnyStore) -> Vec<String> {
    store.names().into_iter().filter(|name| name.contains(".key-")).collect()
}

/// Restores an archive with the new passphrase, and holds it against the source.
#[track_caller]
fn restored(lab: &Lab, archive: &str, store: &str) {
    sh(&format!("cd {} && rm -rf out && mkdir out", lab.dir.display()));
    let words = ["restore", archive, "--to-path", "out", "--from", store];
    lab.run(&[&words[..], &NEW].concat()).expect(0);
    is_the_source(lab, "out");
}

#[test]
fn every_verb_reads_with_either_passphrase_and_the_data_is_not_touched() {
    let lab = lab();
    for store in AnyStore::all(&lab) {
        let url = store.url();
        sh(&format!("rm -rf {}/s", lab.dir.display()));
        let ids = nights(&lab, &url);
        let before: Vec<_> = store.names().into_iter().map(|name| (store.read(&name), name)).collect();
        for words in [["verify", "j"], ["show", "j"], ["ls", "j"]] {
            lab.run(&[&words[..], &["--from", &url], &NEW].concat())
                .expect_error(12, "does not open")
                .hint("rekey");
        }

        let planned = rekey(&lab, "j", &url, &["--dry-run"]).expect(0);
        assert_eq!(planned.stderr.matches("would be written").count(), 3, "{planned:?}");
        assert!(key_objects(&store).is_empty());
        let done = rekey(&lab, "j", &url, &[]).expect(0);
        assert_eq!(
            done.stderr.matches("rekeyed j@").count() + done.text().matches("rekeyed j@").count(),
            3,
            "{done:?}"
        );
        assert!(done.stderr.contains("the old passphrase still opens"), "{done:?}");
        assert_eq!(key_objects(&store).len(), 3);
        let again = rekey(&lab, "j", &url, &[]).expect(0);
        assert_eq!(again.stderr.matches("already").count(), 3, "{again:?}");
        assert!(!again.stderr.contains("still opens") && key_objects(&store).len() == 3);
        for (bytes, name) in &before {
            assert!(store.read(name) == *bytes, "{name} was touched");
        }

        restored(&lab, "j", &url);
        let last = format!("j@{}", ids[2]);
        for words in
            [&["verify", "j", "--whole"][..], &["ls", &last], &["cat", &last, "s/d/new"], &["show", &last]]
        {
            lab.run(&[words, &["--from", &url], &NEW].concat()).expect(0);
            lab.run(&[words, &["--from", &url]].concat()).expect(0);
        }
        let first = format!("j@{}", ids[0]);
        lab.run(&[&["diff", &first, &last, "--from", &url][..], &NEW].concat()).expect(1);
        let front = ["restore", "--sequential", &first, "--to-stdout", "--from", &url];
        let by_new = lab.run(&[&front[..], &NEW].concat()).expect(0).stdout;
        assert!(!by_new.is_empty() && by_new == lab.run(&front).expect(0).stdout);
        lab.write("wrong", b"wrong\n");
        lab.run(&["ls", "j", "--from", &url, "--passphrase-file", "wrong"]).expect_error(12, "does not open");

        // The next night builds on what the old one sealed, and what it needs it knows itself.
        in_source(&lab, "echo more >> d/f3");
        settle();
        let fourth = sealed(&night(&lab, &url, &NEW).expect(0));
        assert_eq!(fourth["kept"]["needs"], serde_json::json!(ids), "{fourth}");
        key_objects(&store).iter().for_each(|name| store.delete(name));
        restored(&lab, "j", &url);
    }
}

#[test]
fn without_it_a_new_passphrase_makes_a_full_that_names_it() {
    let lab = lab();
    let url = lab.file_store();
    nights(&lab, &url);
    settle();
    let ended = night(&lab, &url, &NEW).expect(3);
    assert!(sealed(&ended).get("kept").is_none(), "{ended:?}");
    let all = format!("{}{}", ended.text(), ended.stderr);
    assert!(all.contains("a full backup: j@") && all.contains("sealift rekey j --from"), "{all}");
}

#[test]
fn plain_tools_read_what_was_rekeyed_by_the_script_that_show_prints() {
    let lab = lab();
    let url = lab.file_store();
    let ids = nights(&lab, &url);
    rekey(&lab, "j", &url, &[]).expect(0);
    for archive in [format!("j@{}", ids[0]), "j".into()] {
        let shown =
            lab.run(&[&["show", &archive, "--json", "--from", &url][..], &NEW].concat()).expect(0).text();
        let shown: Value = serde_json::from_str(&shown).expect("JSON");
        let script = shown["by_hand"].as_str().expect("a script");
        assert!(script.contains("head -c 49 ") && script.contains("tail -c +50 "), "{script}");
        let needs = !shown["needs"].as_array().expect("a list").is_empty();
        lab.write("script", script.replace("TARGET", &lab.path("hand").display().to_string()).as_bytes());
        // No gpg asks for a passphrase here.
        let _ = lab.gpg();
        let make = if needs { "true" } else { "mkdir hand" };
        sh(&format!(
            "cd {0}; rm -rf hand bin; {make}; mkdir bin; printf '#!/bin/sh\\nexec /usr/bin/gpg --batch -q \
             --pinentry-mode loopback --passphrase-file {0}/new \"$@\"\\n' > bin/gpg; chmod +x bin/gpg; cd store/j; \
             GNUPGHOME={0}/gnupg PATH={0}/bin:/usr/bin:/bin bash {0}/script {0}/hand",
            lab.dir.display()
        ));
        match needs {
            true => is_the_source(&lab, "hand"),
            false => assert!(lab.path("hand/s/gone").exists()),
        }
    }
}

#[test]
fn damaged_and_foreign_key_objects_open_nothing_and_are_in_nobodys_way() {
    for cipher in ["cfb", "aead"] {
        let lab = lab();
        let store = AnyStore::File(lab.path("store"));
        let (url, input) = (store.url(), noise(3, 3_000_000));
        let backup = |job: &str| {
            let words = ["backup", "stdin", "--job", job, "--cipher", cipher, "--to", &url];
            lab.feed(&words, &input).expect(0);
        };
        backup("a");
        backup("b");
        rekey(&lab, "a", &url, &[]).expect(0);
        rekey(&lab, "b", &url, &[]).expect(0);
        let keys = key_objects(&store);
        let bytes: Vec<_> = keys.iter().map(|name| store.read(name)).collect();
        let read = || lab.run(&[&["restore", "a", "--to-stdout", "--from", &url][..], &NEW].concat());
        assert!(read().expect(0).stdout == input);
        let at = bytes[0].len();
        let flips = [0, 20, 48, at / 2 + 9, at - 40, at - 1].map(|at| {
            let mut flipped = bytes[0].clone();
            flipped[at] ^= 4;
            flipped
        });
        let others = [bytes[1].clone(), bytes[0][..at - 1].to_vec(), Vec::new(), noise(4, 9000)];
        for other in flips.iter().chain(&others) {
            store.write(&keys[0], other);
            let ended = read().expect_error(12, "does not open");
            assert!(ended.stdout.is_empty());
            // One that is whole opens it, whatever is there.
            let whole = keys[0].replace(".key-2", ".key-1");
            store.write(&whole, &bytes[0]);
            assert!(read().expect(0).stdout == input);
            store.delete(&whole);
            assert!(lab.run(&["restore", "a", "--to-stdout", "--from", &url]).expect(0).stdout == input);
        }
        // What is damaged is no reason not to write another.
        rekey(&lab, "a", &url, &[]).expect(0);
        assert_eq!(key_objects(&store).len(), 3);
        assert!(read().expect(0).stdout == input);
        // And from there to a third one.
        lab.write("third", b"third\n");
        let words = ["rekey", "a", "--from", &url, "--new-passphrase-file", "third"];
        lab.run(&[&words[..], &NEW].concat()).expect(0);
        let words = ["restore", "a", "--to-stdout", "--passphrase-file", "third", "--from", &url];
        assert!(lab.run(&words).expect(0).stdout == input);
    }
}

#[test]
fn key_objects_go_where_their_archives_go() {
    let lab = lab();
    let store = AnyStore::File(lab.path("store"));
    let (url, copy) = (store.url(), lab.new_store("copy"));
    let other = AnyStore::File(lab.path("copy"));
    nights(&lab, &url);
    lab.run(&["copy", "j", "--from", &url, "--to", &copy]).expect(0);
    rekey(&lab, "j", &url, &[]).expect(0);
    // Those of what was copied before, too.
    lab.run(&["copy", "j", "--from", &url, "--to", &copy]).expect(0);
    assert_eq!(key_objects(&other), key_objects(&store));
    restored(&lab, "j", &copy);

    let listed = lab.run(&["list", "--from", &url]).expect(0);
    assert!(!format!("{}{}", listed.text(), listed.stderr).contains("passed over"), "{listed:?}");
    let left = lab.run(&["clean", "--older-than", "0s", "--from", &url]).expect(0);
    assert!(!left.text().contains(".key-") && key_objects(&store).len() == 3, "{left:?}");
    settle();
    night(&lab, &url, &["--full"]).expect(0);
    lab.run(&["prune", "--keep-last", "1", "--confirm", "--from", &url]).expect(0);
    assert!(key_objects(&store).is_empty(), "{:?}", store.names());
    let gone = |name: &String| name.ends_with(".manifest.json");
    other.names().iter().filter(|name| gone(name)).for_each(|name| other.delete(name));
    lab.run(&["clean", "--confirm", "--older-than", "0s", "--from", &copy]).expect(0);
    assert!(key_objects(&other).is_empty(), "{:?}", other.names());
}

#[test]
fn what_a_killed_run_did_not_come_to_the_next_one_does() {
    let lab = lab();
    let store = AnyStore::File(lab.path("store"));
    let url = store.url();
    for n in 0..4 {
        lab.backup_stdin(&url, &noise(n, 1000), &[]).expect(0);
        crate::support::a_second_later();
    }
    let job = crate::support::JOB;
    let mut command: Command = lab.sealift();
    let mut child = command.args(["rekey", job, "--from", &url]).args(REKEY).spawn().expect("sealift runs");
    crate::support::until("the first key object", || !key_objects(&store).is_empty());
    child.kill().expect("a kill");
    child.wait().expect("an end");
    let before = key_objects(&store);
    let ended = rekey(&lab, job, &url, &[]).expect(0);
    assert_eq!(ended.stderr.matches("already").count(), before.len(), "{ended:?}");
    assert_eq!(key_objects(&store).len(), 4);
    for (job, id) in lab.list(&url) {
        let archive = format!("{job}@{id}");
        lab.run(&[&["verify", &archive, "--from", &url][..], &NEW].concat()).expect(0);
    }
}

#[test]
fn what_cannot_be_done_is_said_and_the_rest_is_done() {
    let lab = lab();
    let store = AnyStore::File(lab.path("store"));
    let url = store.url();
    let backup = |job: &str, more: &[&str]| -> Ended {
        let words = ["backup", "stdin", "--job", job, "--to", &url];
        lab.feed(&[&words[..], more].concat(), b"data")
    };
    rekey(&lab, "none", &url, &[]).expect_error(10, "no archive of job none");
    backup("clear", &["--no-encrypt"]).expect(0);
    assert!(rekey(&lab, "clear", &url, &[]).expect(0).stderr.contains("is not encrypted"));
    backup("j", &[]).expect(0);
    lab.run(&["rekey", "j", "--from", &url, "--new-passphrase-file", "passphrase"])
        .expect_error(2, "the new passphrase is the old one");
    lab.write("other", b"another one\n");
    crate::support::a_second_later();
    backup("j", &["--passphrase-file", "other"]).expect(3);
    rekey(&lab, "j", &url, &[]).expect_error(12, "1 of 2 archives");
    assert_eq!(key_objects(&store).len(), 1);
    let rest = [&["rekey", "j", "--from", &url, "--passphrase-file", "other", "--json"][..], &REKEY].concat();
    let told = lab.run(&rest).expect(0).text();
    let told: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let done: Vec<_> = told.iter().filter(|event| event["event"] == "rekeyed").collect();
    assert!(done.len() == 1 && key_objects(&store).len() == 2, "{told:?}");
    assert!(done[0]["object"].as_str().is_some_and(|name| name.ends_with(".skesk")), "{told:?}");
}
