//! What a killed run leaves is found, told and taken back; what a run under way needs stays. And one run of a job goes on at
//! a time.

use std::io::Write;
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::support::{AnyStore, Ended, JOB, Lab, noise, until};

/// A backup that has sent some parts and waits for more input. Its standard input must stay open.
fn under_way(lab: &Lab, store: &AnyStore, more: &[&str]) -> Child {
    let mut command = lab.sealift();
    command.args([
        "backup",
        "stdin",
        "--no-encrypt",
        "--compress",
        "none",
        "--job",
        JOB,
        "--to",
        &store.url(),
    ]);
    command.args(more).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("sealift runs");
    child.stdin.as_mut().expect("a pipe").write_all(&noise(3, 30_000_000)).expect("it reads");
    until("an upload is under way", || !store.unfinished().is_empty());
    child
}

fn clean(lab: &Lab, store: &AnyStore, more: &[&str]) -> Ended {
    lab.run(&[&["clean", "--from", &store.url(), "--json"], more].concat())
}

fn kinds(ended: &Ended) -> Vec<String> {
    let lines = ended.text();
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON lines"));
    let mut kinds: Vec<_> = lines.map(|line| line["what"].as_str().unwrap_or_default().to_string()).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

#[test]
fn what_a_killed_run_left_is_listed_then_taken_back_and_a_live_run_is_not_touched() {
    let lab = Lab::new();
    for store in AnyStore::all(&lab) {
        lab.backup_stdin(&store.url(), b"a night", &["--no-encrypt"]).expect(0);
        let night = store.all_names();
        let mut child = under_way(&lab, &store, &[]);
        assert_eq!(kinds(&clean(&lab, &store, &["--older-than", "0s", "--confirm"]).expect(0)), [""; 0]);
        assert!(!store.unfinished().is_empty(), "it is under way");
        child.kill().expect("a kill");
        child.wait().expect("its end");
        let left = (store.all_names(), store.unfinished());
        assert_eq!(kinds(&clean(&lab, &store, &["--confirm"]).expect(0)), [""; 0], "it is too young");
        let dry = clean(&lab, &store, &["--older-than", "0s"]).expect(0);
        let expected: &[&str] = match store {
            AnyStore::File(_) => &["lease", "staged"],
            AnyStore::S3(_) => &["lease", "upload"],
            // Azure shows no uncommitted blocks, and collects them.
            AnyStore::Azure(_) => &["lease"],
        };
        assert_eq!(kinds(&dry), expected, "at {}", store.url());
        assert_eq!((store.all_names(), store.unfinished()), left, "a dry run changes nothing");
        clean(&lab, &store, &["--older-than", "0s", "--confirm"]).expect(0);
        if !matches!(store, AnyStore::Azure(_)) {
            assert_eq!((store.all_names(), store.unfinished()), (night, Vec::new()));
        }
        assert_eq!(lab.list(&store.url()).len(), 1);
    }
}

#[test]
fn what_was_not_committed_goes_and_adopt_would_have_had_it() {
    let lab = Lab::new();
    let store = AnyStore::File(lab.path("store"));
    lab.backup_stdin(&store.url(), b"a night", &["--no-encrypt"]).expect(0);
    let manifest =
        store.names().into_iter().find(|name| name.ends_with(".manifest.json")).expect("it is there");
    store.delete(&manifest);
    let words = ["clean", JOB, "--from", &store.url(), "--older-than", "0s"];
    let told = lab.run(&words).expect(0);
    assert!(told.text().contains("without a manifest"), "{}", told.text());
    assert!(told.stderr.contains("--confirm"), "{}", told.stderr);
    assert!(lab.run(&["adopt", "--no-encrypt", "--from", &store.url()]).expect(0).text().contains(JOB));
    lab.run(&["clean", "elsewhere", "--from", &store.url(), "--older-than", "0s", "--confirm"]).expect(0);
    assert_eq!(store.names().len(), 2);
    lab.run(&[&words[..], &["--confirm"]].concat()).expect(0);
    store.expect_nothing(&lab);
}

#[test]
fn a_second_run_of_a_job_is_refused_while_one_is_under_way_and_not_when_it_was_killed() {
    let lab = Lab::new();
    let store = AnyStore::File(lab.path("store"));
    let mut child = under_way(&lab, &store, &[]);
    let refused = lab.backup_stdin(&store.url(), b"x", &["--no-encrypt"]);
    refused.expect_error(11, "is being backed up already").hint("--wait");
    assert!(
        !store.all_names().iter().any(|name| name.ends_with(".failed.json")),
        "the other one accounts for it"
    );
    lab.backup_stdin(&store.url(), b"x", &["--no-encrypt", "--no-lease"]).expect(0);
    let other = ["backup", "stdin", "--no-encrypt", "--job", "other", "--to", &store.url()];
    lab.feed(&other, b"x").expect(0);
    child.kill().expect("a kill");
    child.wait().expect("its end");
    lab.backup_stdin(&store.url(), b"y", &["--no-encrypt"]).expect(0);
}

#[test]
fn a_run_that_waits_goes_on_when_the_other_has_ended() {
    let lab = Lab::new();
    let store = AnyStore::File(lab.path("store"));
    let mut first = under_way(&lab, &store, &[]);
    let (lab, url) = (&lab, &store.url());
    std::thread::scope(|scope| {
        let second = scope.spawn(move || lab.backup_stdin(url, b"x", &["--no-encrypt", "--wait", "60s"]));
        std::thread::sleep(std::time::Duration::from_secs(1));
        drop(first.stdin.take());
        assert!(first.wait().expect("its end").success());
        second.join().expect("it ends").expect(0);
    });
    assert_eq!(lab.list(url).len(), 2);
    assert!(!store.all_names().iter().any(|name| name.contains(".running-")), "no lease is left");
}

#[test]
fn a_failing_run_notes_why_in_its_stores_and_an_interrupted_one_does() {
    let lab = Lab::new();
    let store = AnyStore::File(lab.path("store"));
    let gone = ["backup", "path", "/no/such/folder", "--job", JOB, "--no-encrypt", "--to", &store.url()];
    lab.run(&gone).expect(1);
    let names = store.all_names();
    let [name] = &names[..] else { panic!("one record: {names:?}") };
    assert!(name.ends_with(".failed.json"), "{name}");
    let record: Value = serde_json::from_slice(&store.read(name)).expect("JSON");
    assert_eq!(record["code"], 1);
    assert!(record["cause"].as_str().is_some_and(|cause| cause.contains("/no/such/folder")), "{record}");
    // What is asked wrongly is no night that was lost.
    lab.run(&["backup", "path", "/etc", "--job", JOB, "--level", "99", "--to", &store.url()]).expect(2);
    assert_eq!(store.all_names().len(), 1);
    let mut child = under_way(&lab, &store, &[]);
    crate::support::sh(&format!("kill -INT {}", child.id()));
    assert_eq!(child.wait().expect("its end").code(), Some(130));
    let names = store.all_names();
    assert_eq!(names.iter().filter(|name| name.ends_with(".failed.json")).count(), 2, "{names:?}");
    assert_eq!(names.len(), 2, "its lease has ended: {names:?}");
}

#[test]
fn a_passphrase_command_that_fails_is_a_failed_night_and_its_record_has_no_secret() {
    let lab = Lab::new();
    let store = AnyStore::File(lab.path("store"));
    let mut command = lab.sealift();
    command.env_remove("SEALIFT_PASSPHRASE_FILE").env("VAULT_TOKEN", "s3cr3t-token");
    command.args(["backup", "path", "/etc/hostname", "--job", JOB, "--to", &store.url()]);
    command.args(["--passphrase-command", "echo bad token s3cr3t-token >&2; exit 3"]);
    crate::support::feed(&mut command, b"").expect(2);
    let names = store.all_names();
    let [name] = &names[..] else { panic!("one record: {names:?}") };
    let record = String::from_utf8(store.read(name)).expect("text");
    assert!(name.ends_with(".failed.json") && !record.contains("s3cr3t-token"), "{name}: {record}");
}
