//! Stores that fail: a clear error with a hint, nothing listed, and the source is stopped.

use std::process::{Command, Stdio};

use crate::needs;
use crate::support::fake_s3::{FakeS3, Fault};
use crate::support::lossy::{Loss, LossyWay};
use crate::support::{AnyStore, Ended, JOB, Lab, azure, feed, leftovers, noise, s3, sh, unique, until};

fn server(name: &str, verb: &str, dir: &str) -> String {
    sh(&format!("{}/tests/servers/{name} {verb} {dir}", env!("CARGO_MANIFEST_DIR")))
}

/// Backs an endless container up to a server of the test's own, which is killed half-way.
#[track_caller]
fn dies(server_name: &str, program: &str, url: &str, setting: impl Fn(&str, &mut Command)) {
    let (lab, name) = (Lab::new(), unique("dies"));
    let dir = format!("{}/{}", std::env::var("SEALIFT_TEST_DIR").expect("tests/run"), unique("s"));
    let variables = server(server_name, "up", &dir);
    let good = AnyStore::File(lab.path("good"));
    let start = |to: &[&str], script: &str, name: &str| {
        let mut command = lab.sealift();
        for line in variables.lines() {
            setting(line, &mut command);
        }
        command.args([
            "backup",
            "run",
            "--job",
            JOB,
            "--no-lease",
            "--retry-for",
            "3s",
            "--name",
            name,
            "--network",
            "none",
        ]);
        for store in to {
            command.args(["--to", store]);
        }
        command.args(["bb:1", "sh", "-c", script]).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("sealift runs")
    };
    let endless = "while :; do head -c 5000000 /dev/urandom; done";
    let alone = start(&[url], endless, &name);
    let both_name = unique("dies");
    let both = start(
        &[url, &good.url()],
        "for i in $(seq 1 40); do head -c 5000000 /dev/urandom; sleep 0.1; done",
        &both_name,
    );
    until("both containers run", || {
        let up = sh(&format!("/usr/bin/docker ps -q -f name={name} -f name={both_name} | wc -l"));
        up.trim() == "2"
    });
    std::thread::sleep(std::time::Duration::from_secs(1));
    sh(&format!(
        "kill -9 $(grep -lsF -- '{dir}' /proc/[0-9]*/cmdline | cut -d/ -f3 | while read p; do \
                 case $(basename $(readlink /proc/$p/exe)) in {program}) echo $p;; esac; done)"
    ));
    let ended = Ended::from(alone.wait_with_output().expect("sealift ends"));
    ended.expect_error(1, "uploading a part");
    assert_eq!(leftovers(&name), [""; 0]);
    let ended = Ended::from(both.wait_with_output().expect("sealift ends")).expect(3);
    assert!(ended.stderr.contains(&format!("warning: not at {url}")), "{}", ended.stderr);
    assert_eq!(lab.list(&good.url()).len(), 1, "the other store has it");
    lab.run(&["verify", JOB, "--from", &good.url()]).expect(0);
    server(server_name, "down", &dir);
}

#[test]
fn an_s3_server_that_dies_half_way() {
    needs!("docker", "s3");
    dies("radosgw", "radosgw", &format!("s3://{}/p", s3::bucket()), |line, command| {
        let (name, value) = line.split_once('=').expect("NAME=value");
        let name = match name {
            "SEALIFT_TEST_S3" => "AWS_ENDPOINT_URL",
            "SEALIFT_TEST_S3_KEY" => "AWS_ACCESS_KEY_ID",
            "SEALIFT_TEST_S3_SECRET" => "AWS_SECRET_ACCESS_KEY",
            _ => return,
        };
        command.env(name, value);
    });
}

#[test]
fn an_azure_server_that_dies_half_way() {
    needs!("docker", "azure");
    let url = format!("az://{}/p", crate::support::azure::container());
    dies("azurite", "node", &url, |line, command| {
        let (name, value) = line.split_once('=').expect("NAME=value");
        let name = match name {
            "SEALIFT_TEST_AZURE" => "AZURE_STORAGE_ENDPOINT",
            "SEALIFT_TEST_AZURE_ACCOUNT" => "AZURE_STORAGE_ACCOUNT_NAME",
            "SEALIFT_TEST_AZURE_KEY" => "AZURE_STORAGE_ACCOUNT_KEY",
            _ => return,
        };
        command.env(name, value);
    });
}

#[test]
fn bad_keys() {
    needs!("s3", "azure");
    let lab = Lab::new();
    let (s3, azure) = (AnyStore::S3(unique("p")), AnyStore::Azure(unique("p")));
    for (store, variable, value) in [
        (&s3, "AWS_SECRET_ACCESS_KEY", "wrong"),
        (&s3, "AWS_ACCESS_KEY_ID", "nobody"),
        (&azure, "AZURE_STORAGE_ACCOUNT_KEY", "d3Jvbmc="),
    ] {
        let mut command = lab.sealift();
        command.env(variable, value).args(["backup", "stdin", "--job", JOB, "--to", &store.url()]);
        let ended = feed(&mut command, &noise(1, 1000)).expect_error(1, "failed").hint(&variable[..8]);
        assert!(!ended.stderr.contains(value) || value == "wrong", "a key in an error: {}", ended.stderr);
        store.expect_nothing(&lab);
    }
}

#[test]
fn buckets_that_are_not_there() {
    needs!("s3", "azure");
    let lab = Lab::new();
    for store in ["s3://no-such-bucket/p", "az://no-such-container/p"] {
        lab.backup_stdin(store, b"x", &[])
            .expect_error(1, "failed")
            .hint("does the bucket or container exist?");
        // The other store has it all the same.
        let good = AnyStore::File(lab.path(&unique("good")));
        let ended = lab.backup_stdin(store, b"x", &["--to", &good.url()]).expect(3);
        assert!(ended.stderr.contains(&format!("warning: not at {store}")), "{}", ended.stderr);
        assert_eq!(lab.list(&good.url()).len(), 1);
    }
}

#[test]
fn a_server_that_is_not_there() {
    let lab = Lab::new();
    let mut command = lab.sealift();
    command.env("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    command.args(["backup", "stdin", "--job", JOB, "--to", "s3://bucket/p", "--retry-for", "1s"]);
    feed(&mut command, b"x").expect_error(1, "failed").hint("is the endpoint right");
}

#[test]
fn a_full_file_system() {
    needs!("docker");
    let lab = Lab::new();
    let mount = lab.path("small");
    sh(&format!("mkdir {0}; mount -t tmpfs -o size=8m none {0}", mount.display()));
    let store = AnyStore::File(mount.join("store"));
    let name = unique("full");
    let words = ["backup", "run", "--to", &store.url(), "--name", &name, "--network", "none", "bb:1"];
    let endless = ["sh", "-c", "while :; do head -c 5000000 /dev/urandom; done"];
    let ended = lab.run(&[&words[..], &endless].concat());
    let names = store.names();
    let listed = lab.list(&store.url());
    sh(&format!("umount {}", mount.display()));
    ended.expect_error(1, "uploading a part").hint("the file system is full");
    assert_eq!((names, listed), (vec![], vec![]));
    assert_eq!(leftovers(&name), [""; 0]);
}

/// Backs up 30 MB to a server that fails on purpose.
fn to_fake_s3(lab: &Lab, sink: &FakeS3) -> Ended {
    let mut command = lab.sealift();
    command.env("AWS_ENDPOINT_URL", &sink.endpoint);
    command.args(["backup", "stdin", "--job", JOB, "--to", "s3://bucket/p", "--retry-for", "2s"]);
    feed(&mut command, &noise(6, 30_000_000))
}

fn suffixes(sink: &FakeS3) -> Vec<String> {
    sink.objects()
        .iter()
        .filter_map(|name| name.split_once('.'))
        .map(|(_, suffix)| suffix.to_string())
        // What runs note about themselves.
        .filter(|suffix| suffix != "failed.json" && !suffix.starts_with("running-"))
        .collect()
}

const WHOLE: [&str; 3] = ["catalog.zst.gpg", "manifest.json", "zst.gpg"];

#[test]
fn a_store_that_asks_to_slow_down_is_asked_again() {
    let (lab, sink) = (Lab::new(), FakeS3::start(Fault::SlowDownOnce));
    to_fake_s3(&lab, &sink).expect(0);
    assert_eq!(suffixes(&sink), WHOLE);
    let (lab, sink) = (Lab::new(), FakeS3::start(Fault::SlowDownForEver));
    to_fake_s3(&lab, &sink).expect_error(1, "uploading a part");
    assert_eq!((suffixes(&sink), sink.uploads()), (vec![], 0));
}

#[test]
fn a_copy_that_cannot_be_locked_is_refused_before_anything_is_sent() {
    let (lab, sink) = (Lab::new(), FakeS3::start(Fault::None));
    lab.backup_stdin(&lab.file_store(), b"a night", &["--no-encrypt"]).expect(0);
    lab.write("lock.toml", b"[stores.far]\nurl = \"s3://bucket/p\"\nlock = \"1d\"\n");
    let mut command = lab.sealift();
    command.env("AWS_ENDPOINT_URL", &sink.endpoint).args(["--config", "lock.toml"]);
    command.args(["copy", JOB, "--from", &lab.file_store(), "--to", "far"]);
    let ended = Ended::from(command.output().expect("sealift runs"));
    ended.expect_error(1, "without object lock").hint("leave --lock out");
    assert_eq!((sink.objects(), sink.uploads()), (vec![], 0));
}

#[test]
fn an_error_inside_an_ok_is_an_error() {
    let (lab, sink) = (Lab::new(), FakeS3::start(Fault::ErrorInsideOk));
    to_fake_s3(&lab, &sink)
        .expect_error(1, "commit unknown: completing the upload")
        .hint("nothing was deleted");
    assert_eq!((suffixes(&sink), sink.uploads()), (vec![], 2), "it may still be completed");
}

#[test]
fn an_answer_that_is_lost_is_settled_by_reading_back() {
    for fault in [Fault::LostAnswer, Fault::LostManifestAnswer] {
        let (lab, sink) = (Lab::new(), FakeS3::start(fault));
        to_fake_s3(&lab, &sink).expect(0);
        assert_eq!((suffixes(&sink), sink.uploads()), (WHOLE.map(String::from).to_vec(), 0), "{fault:?}");
    }
}

#[test]
fn a_manifest_that_is_refused_takes_the_objects_back() {
    let (lab, sink) = (Lab::new(), FakeS3::start(Fault::RefuseManifest));
    to_fake_s3(&lab, &sink).expect_error(1, "writing the manifest");
    assert_eq!((suffixes(&sink), sink.uploads()), (vec![], 0));
}

#[test]
fn a_manifest_whose_fate_is_unknown_deletes_nothing() {
    let (lab, sink) = (Lab::new(), FakeS3::start(Fault::SilentAfterManifest));
    to_fake_s3(&lab, &sink).expect_error(1, "commit unknown").hint("nothing was deleted");
    assert_eq!((suffixes(&sink), sink.uploads()), (WHOLE.map(String::from).to_vec(), 0));
}

#[test]
fn a_manifest_whose_reset_put_arrives_later_is_a_whole_backup() {
    let (lab, sink) = (Lab::new(), FakeS3::start(Fault::LateManifest));
    to_fake_s3(&lab, &sink).expect(0);
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!((suffixes(&sink), sink.uploads()), (WHOLE.map(String::from).to_vec(), 0));
}

#[test]
fn a_manifest_that_was_answered_but_not_stored_is_no_backup() {
    let (lab, sink) = (Lab::new(), FakeS3::start(Fault::SwallowedManifest));
    to_fake_s3(&lab, &sink).expect_error(1, "commit unknown").hint("sealift adopt");
    assert_eq!(suffixes(&sink), ["catalog.zst.gpg", "zst.gpg"]);
}

#[test]
fn a_server_without_conditional_writes_takes_backups_and_it_is_said() {
    let (lab, sink) = (Lab::new(), FakeS3::start(Fault::NoConditionalPut));
    let ended = to_fake_s3(&lab, &sink).expect(0);
    assert!(ended.stderr.contains("cannot create an object without replacing one"), "{}", ended.stderr);
    assert_eq!(suffixes(&sink), WHOLE);
}

#[test]
fn a_key_that_may_only_write_and_list_is_enough() {
    let (lab, sink) = (Lab::new(), FakeS3::start(Fault::NoReads));
    to_fake_s3(&lab, &sink).expect(0);
    assert_eq!(suffixes(&sink), WHOLE);
}

#[test]
fn what_is_no_list_or_has_no_end_is_an_error() {
    for (fault, text) in [(Fault::HtmlList, "is no list"), (Fault::EndlessList, "leads back")] {
        let (lab, sink) = (Lab::new(), FakeS3::start(fault));
        let mut command = lab.sealift();
        command.env("AWS_ENDPOINT_URL", &sink.endpoint).args(["list", "--from", "s3://bucket/p"]);
        let ended = feed(&mut command, b"").expect_error(1, "listing");
        assert!(ended.stderr.contains(text), "{}", ended.stderr);
    }
}

#[test]
fn settings_reach_the_store() {
    needs!("s3");
    let lab = Lab::new();
    let store = AnyStore::S3(unique("p"));
    for more in [&["--checksum", "sha256"][..], &["--storage-class", "STANDARD"]] {
        lab.backup_stdin(&store.url(), b"x", more).expect(0);
    }
    lab.backup_stdin(&store.url(), b"x", &["--checksum", "md4"]).expect_error(2, "unknown part checksum");
    assert_eq!(lab.list(&store.url()).len(), 2);
}

/// Backs up in an access tier to Azure over a way that loses what becomes blobs: there the client library asks again.
fn in_a_tier(lab: &Lab, store: &AnyStore, loss: Loss) -> (Ended, Vec<String>) {
    let way = LossyWay::start(&azure::endpoint(), "comp=blocklist", loss);
    let mut command = lab.sealift();
    command.env("AZURE_STORAGE_ENDPOINT", &way.endpoint);
    command.args(["backup", "stdin", "--job", JOB, "--storage-class", "Cool", "--retry-for", "3s"]);
    let ended = feed(command.args(["--to", &store.url()]), &noise(8, 20_000_000));
    let seen = way.seen.lock().expect("requests").clone();
    (ended, seen)
}

#[test]
fn azure_blobs_in_a_tier_survive_a_lost_answer() {
    needs!("azure");
    let (lab, store) = (Lab::new(), AnyStore::Azure(unique("p")));
    let (ended, seen) = in_a_tier(&lab, &store, Loss::FirstAnswer);
    ended.expect(0);
    let asked = seen.iter().filter(|request| request.contains("comp=blocklist")).count();
    assert!(asked > 2, "it was asked again: {seen:?}");
    assert_eq!((lab.list(&store.url()).len(), store.unfinished()), (1, vec![]));
    lab.run(&["verify", JOB, "--from", &store.url()]).expect(0);
    let AnyStore::Azure(prefix) = &store else { return };
    assert!(azure::tiers(prefix).contains(&"Cool".into()), "{:?}", azure::tiers(prefix));
}

#[test]
fn azure_blobs_in_a_tier_whose_commit_is_unknown_lose_no_block() {
    needs!("azure");
    let (lab, store) = (Lab::new(), AnyStore::Azure(unique("p")));
    let (ended, seen) = in_a_tier(&lab, &store, Loss::Busy);
    let ended = ended.expect_error(1, "commit unknown: completing the upload").hint("nothing was deleted");
    assert!(ended.stderr.contains("503"), "the cause is the store's answer: {}", ended.stderr);
    let ends = |request: &&String| request.starts_with("DELETE ") || !request.contains('?');
    // The lease and the note of the failure are objects of their own.
    let is_note = |r: &&String| r.contains(".running-") || r.contains(".failed.json");
    let of_blobs = seen.iter().filter(|r| !r.starts_with("HEAD ") && !is_note(r));
    let ends: Vec<_> = of_blobs.filter(ends).collect();
    assert!(ends.is_empty(), "an empty blob takes the blocks away: {ends:?}");
    assert_eq!(store.unfinished().len(), 2, "archive and catalog");
}

/// Runs `sealift WORDS…` until its stderr holds `text`; returns whether it ever did.
fn says(lab: &Lab, words: &[&str], text: &str) -> bool {
    use std::io::{BufRead, BufReader};
    let mut command = lab.sealift();
    command.env("AWS_ENDPOINT_URL", "http://127.0.0.1:1").args(words);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("sealift runs");
    let stderr = BufReader::new(child.stderr.take().expect("a stderr"));
    let heard = stderr.lines().map_while(Result::ok).any(|line| line.contains(text));
    let _ = child.kill();
    child.wait().expect("sealift ends");
    heard
}

#[test]
fn every_verb_says_that_it_waits_for_a_store() {
    let lab = Lab::new();
    let (from, to) = ("s3://bucket/p", lab.file_store());
    let verbs: [&[&str]; 12] = [
        &["list", "--from", from],
        &["list", "--sets", "--from", from],
        &["ls", JOB, "--from", from],
        &["cat", JOB, "file", "--from", from],
        &["show", JOB, "--from", from],
        &["verify", JOB, "--from", from],
        &["verify", JOB, "--since-last", "--from", from],
        &["diff", JOB, "--path", "/etc", "--from", from],
        &["copy", JOB, "--from", from, "--to", &to],
        &["restore", JOB, "--from", from, "--to-stdout"],
        &["restore", "--object", "a.tar", "--from", from, "--to-stdout"],
        &["restore", "set", "ee", "--plan", "--from", from],
    ];
    std::thread::scope(|scope| {
        let tried = verbs.map(|words| (words, scope.spawn(|| says(&lab, words, ": retrying 0:1"))));
        for (words, heard) in tried {
            assert!(heard.join().expect("the verb runs"), "{words:?} waits in silence");
        }
    });
}
