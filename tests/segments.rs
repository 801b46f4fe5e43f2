//! Long runs commit as they go: what is killed late loses little, and what is listed has everything.

use std::process::{Child, Stdio};

use serde_json::Value;

use crate::support::nights::{id, in_source, is_the_source, sealed, settle};
use crate::support::{AnyStore, Ended, Lab, sh, until};

const WORDS: [&str; 10] =
    ["backup", "path", "s", "--job", "j", "--json", "--incremental", "--segment", "2MiB", "--to"];
/// What a segment of eight files of 256 KiB is in a tar, whose end is rounded up to 1 MiB.
const SEGMENT: u64 = 3 << 20;

fn source(lab: &Lab) {
    in_source(lab, "for i in $(seq -w 60); do head -c 262144 /dev/urandom > f$i; done; ln f01 zlink");
    settle();
}

/// Starts a run of eight segments that takes its time.
fn start(lab: &Lab, to: &str) -> Child {
    let mut command = lab.sealift();
    command.args(WORDS).args([to, "--limit-rate", "3MiB"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sealift runs")
}

fn manifests(store: &AnyStore) -> usize {
    store.names().iter().filter(|name| name.ends_with(".manifest.json")).count()
}

#[track_caller]
fn restored(lab: &Lab, from: &str, archive: &str) {
    sh(&format!("rm -rf {}/out", lab.dir.display()));
    lab.run(&["restore", archive, "--to-path", "out", "--from", from]).expect(0);
    is_the_source(lab, "out");
}

#[track_caller]
fn parts(lab: &Lab, from: &str) -> Vec<Value> {
    let listed = lab.run(&["list", "--json", "--partial", "--from", from]).expect(0).text();
    let all = listed.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    all.filter(|line| line["partial"] == true).collect()
}

#[test]
fn a_first_run_that_is_killed_near_its_end_sends_at_most_one_segment_again() {
    let lab = Lab::new();
    source(&lab);
    for store in AnyStore::all(&lab) {
        let url = store.url();
        let mut child = start(&lab, &url);
        until("seven segments", || manifests(&store) == 7);
        child.kill().expect("a signal");
        child.wait().expect("its end");
        assert_eq!((lab.list(&url), parts(&lab, &url).len()), (vec![], 7));
        let refused = lab.run(&["restore", "j", "--to-path", "none", "--from", &url]).expect(10);
        assert!(
            refused.stderr.contains("the next backup --incremental builds on them"),
            "{}",
            refused.stderr
        );
        let verified = lab.run(&["verify", "j", "--since-last", "--from", &url]).expect(3);
        assert!(verified.stderr.contains("has only parts of a run"), "{}", verified.stderr);

        let ended = lab.run(&[&WORDS[..], &[&url]].concat()).expect(0);
        let sealed = sealed(&ended);
        assert!(sealed["bytes"].as_u64().expect("bytes") <= SEGMENT, "{sealed}");
        assert_eq!(sealed["kept"]["needs"].as_array().map(Vec::len), Some(7), "{sealed}");
        assert_eq!(lab.list(&url), [("j".to_string(), id(&sealed))]);
        lab.run(&["verify", "j", "--whole", "--from", &url]).expect(0);
        for part in parts(&lab, &url) {
            let name = format!("j@{}", part["id"].as_str().expect("an id"));
            lab.run(&["verify", &name, "--from", &url]).expect(0);
        }
        restored(&lab, &url, "j");

        // What it needs is its own: it is a full, and the next night is none.
        let next = lab.run(&[&WORDS[..], &[&url, "--full-every", "30d"]].concat()).expect(0);
        assert!(!next.stderr.contains("full backup"), "{}", next.stderr);
    }
}

#[test]
fn a_run_in_segments_says_each_and_their_sum_and_they_are_copied_with_what_needs_them() {
    let lab = Lab::new();
    source(&lab);
    let (url, other) = (lab.file_store(), lab.new_store("other"));
    let ended = lab.run(&[&WORDS[..], &[&url]].concat()).expect(0);
    let told = ended.text() + &ended.stderr;
    let events: Vec<Value> = told.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let segments: Vec<_> = events.iter().filter(|event| event["event"] == "segment").collect();
    let sealed = sealed(&ended);
    assert_eq!((segments.len(), &sealed["segments"]), (7, &8.into()), "{told}");
    assert!(sealed["bytes"].as_u64().expect("bytes") > 15 << 20, "{sealed}");
    assert!(segments.iter().all(|event| event["bytes"].as_u64().expect("bytes") <= SEGMENT), "{told}");
    lab.run(&["copy", "j", "--from", &url, "--to", &other]).expect(0);
    restored(&lab, &other, "j");

    // A part is no restore point, but may be named.
    let part = format!("j@{}", segments[0]["id"].as_str().expect("an id"));
    let partly = lab.run(&["restore", &part, "--to-path", "part", "--from", &url]).expect(0);
    assert!(partly.stderr.contains("is partial"), "{}", partly.stderr);
    assert_eq!(sh(&format!("ls {}/part/s | wc -l", lab.dir.display())).trim(), "8");
    let ended =
        lab.run(&[&WORDS[..], &[&url, "--strict", "--expect", "s/f60", "--min-entries", "62"]].concat());
    ended.expect(0);
}

#[test]
fn what_is_expected_is_judged_when_all_was_read() {
    let lab = Lab::new();
    source(&lab);
    let url = lab.file_store();
    let strict = |more: &[&str]| lab.run(&[&WORDS[..], &[&url, "--strict"], more].concat());
    let refused: Ended = strict(&["--expect", "s/f61"]).expect(1);
    assert!(refused.stderr.contains("7 segments of this run stay"), "{}", refused.stderr);
    strict(&["--expect", "s/f01", "--expect", "s/f60", "--min-entries", "62"]).expect(0);
    restored(&lab, &url, "j");
}

#[test]
fn an_interrupted_run_says_what_stays() {
    let lab = Lab::new();
    source(&lab);
    let store = AnyStore::File(lab.path("store"));
    let child = start(&lab, &store.url());
    until("two segments", || manifests(&store) >= 2);
    sh(&format!("kill -INT {}", child.id()));
    let ended = Ended::from(child.wait_with_output().expect("sealift ends")).expect_error(130, "interrupted");
    assert!(ended.stderr.contains("segments of this run stay"), "{}", ended.stderr);
    assert_eq!(lab.list(&store.url()), []);
    let before = parts(&lab, &store.url()).len();
    let sealed = sealed(&lab.run(&[&WORDS[..], &[&store.url()]].concat()).expect(0));
    assert_eq!(sealed["segments"].as_u64(), Some(8 - before as u64), "{sealed}");
    restored(&lab, &store.url(), "j");
}
