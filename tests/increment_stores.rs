//! Increments beside what else a job may have: at every store, at several at once, after fulls of any format, after a copy.

use serde_json::{Value, json};

use crate::needs;
use crate::support::nights::{id, in_source, is_the_source, sealed, settle};
use crate::support::{AnyStore, Ended, Lab, a_second_later, sh, unique};

/// Backs the source up, and returns the `sealed` event.
#[track_caller]
fn night(lab: &Lab, more: &[&str]) -> Value {
    a_second_later();
    let words = ["backup", "path", "s", "--job", "j", "--json", "--incremental"];
    sealed(&lab.run(&[&words[..], more].concat()).expect(0))
}

#[track_caller]
fn needed(sealed: &Value) -> Value {
    sealed["kept"]["needs"].clone()
}

/// Restores an archive into a folder of its own, and holds it against the source.
#[track_caller]
fn restored(lab: &Lab, archive: &str, from: &str) {
    sh(&format!("rm -rf {}/out", lab.dir.display()));
    lab.run(&["restore", archive, "--to-path", "out", "--from", from]).expect(0);
    is_the_source(lab, "out");
}

/// Why a backup is a full one.
#[track_caller]
fn says(ended: &Ended, words: &str) {
    let told = ended.stderr.clone() + &ended.text();
    assert!(told.contains(words), "{words}: {told}");
    assert_eq!(needed(&sealed(ended)), Value::Null);
}

#[test]
fn increments_are_sealed_and_read_at_every_store() {
    let lab = Lab::new();
    for store in AnyStore::all(&lab) {
        let to = store.url();
        sh(&format!("rm -rf {0}/s {0}/some", lab.dir.display()));
        in_source(
            &lab,
            "mkdir d; for i in $(seq 20); do head -c 100000 /dev/urandom > d/f$i; done; ln d/f1 d/link; echo old > file",
        );
        settle();
        let first = night(&lab, &["--to", &to]);
        in_source(&lab, "echo new > file; echo more >> d/f2; rm d/f3; mkdir e; mv d/f4 e");
        settle();
        let second = night(&lab, &["--to", &to]);
        assert_eq!(needed(&second), json!([id(&first)]), "{to}");
        assert!(second["stored"].as_u64() < Some(300 << 10), "{second}");

        let run = |words: &[&str]| lab.run(&[words, &["--from", &to]].concat());
        run(&["verify", "j"]).expect(0);
        run(&["verify", "j", "--whole"]).expect(0);
        run(&["verify", "j", "--stored"]).expect(0);
        let shown: Value =
            serde_json::from_str(&run(&["show", "j", "--json"]).expect(0).text()).expect("JSON");
        assert!(shown["needs"].to_string().contains(&id(&first)), "{shown}");
        restored(&lab, "j", &to);
        run(&["restore", "j", "--to-path", "some", "--include", "s/d/f2", "--include", "s/d/f9"]).expect(0);
        let some = sh(&format!("cd {}/some; find s -type f | sort; cmp s/d/f9 ../s/d/f9", lab.dir.display()));
        assert_eq!(some, "s/d/f2\ns/d/f9\n");
        for name in ["s/file", "s/d/f2", "s/d/f5", "s/d/link", "s/e/f4"] {
            let printed = run(&["cat", "j", name]).expect(0).stdout;
            assert!(printed == std::fs::read(lab.path(name)).expect("the source"), "{name} at {to}");
        }
        assert_eq!(run(&["cat", &format!("j@{}", id(&first)), "s/file"]).expect(0).text(), "old\n");
        assert_eq!(store.unfinished(), [""; 0]);
    }
}

#[test]
fn a_full_ends_what_older_archives_are_needed_for_and_one_that_cannot_be_built_on_is_passed_over() {
    let lab = Lab::new();
    let store = lab.file_store();
    let to = ["--to", &store];
    in_source(&lab, "for i in $(seq 20); do echo $i > f$i; done");
    settle();
    let first = night(&lab, &to);
    in_source(&lab, "echo new > f1");
    settle();
    let second = night(&lab, &to);
    assert_eq!(needed(&second), json!([id(&first)]));
    restored(&lab, "j", &store);
    let full = night(&lab, &["--to", &store, "--full"]);
    assert_eq!(needed(&full), Value::Null);
    in_source(&lab, "echo new > f2");
    settle();
    let after = night(&lab, &to);
    assert_eq!(needed(&after), json!([id(&full)]));
    restored(&lab, "j", &store);

    // A backup as ever has nothing of what the next one compares.
    a_second_later();
    let plain = lab.run(&["backup", "path", "s", "--job", "j", "--json", "--to", &store]).expect(0);
    assert_eq!(needed(&sealed(&plain)), Value::Null);
    in_source(&lab, "echo new > f3");
    settle();
    let last = night(&lab, &to);
    assert_eq!(needed(&last), json!([id(&full), id(&after)]));
    restored(&lab, "j", &store);
    // Neither is needed any more.
    sh(&format!("cd {}/store/j; rm {}* {}*", lab.dir.display(), id(&first), id(&second)));
    restored(&lab, "j", &store);
    lab.run(&["verify", "j", "--whole", "--from", &store]).expect(0);
}

#[test]
fn after_a_backup_of_format_1_comes_a_full_that_says_why_and_then_increments() {
    let lab = Lab::new();
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/golden/format-1/store/tree");
    lab.write("passphrase", b"golden passphrase\n");
    sh(&format!("mkdir -p {0}/store && cp -r '{1}' {0}/store/j", lab.dir.display(), golden.display()));
    // The job's name is part of what an archive says.
    sh(&format!("cd {}/store; mv j tree", lab.dir.display()));
    let store = lab.file_store();
    in_source(&lab, "for i in $(seq 20); do echo $i > f$i; done");
    settle();
    let backup = |more: &[&str]| {
        let words = ["backup", "path", "s", "--job", "tree", "--json", "--incremental", "--to", &store];
        lab.run(&[&words[..], more].concat())
    };
    let old = lab.list(&store)[0].1.clone();
    let full = backup(&["--warn-ok", "source"]).expect(0);
    says(&full, &format!("tree@{old} is of an older format"));
    restored(&lab, "tree", &store);
    in_source(&lab, "echo new > f1");
    settle();
    let next = sealed(&backup(&[]).expect(0));
    assert_eq!(needed(&next), json!([id(&sealed(&full))]));
    restored(&lab, "tree", &store);
    let bytes =
        lab.run(&["restore", &format!("tree@{old}"), "--to-stdout", "--from", &store]).expect(0).stdout;
    assert_eq!(bytes.len(), 1 << 20, "the old one is still read");
}

#[test]
fn a_job_that_was_copied_goes_on_with_increments_where_it_was_copied_to() {
    let lab = Lab::new();
    let store = lab.file_store();
    let other = lab.new_store("other");
    in_source(&lab, "for i in $(seq 20); do echo $i > f$i; done");
    settle();
    let first = night(&lab, &["--to", &store]);
    in_source(&lab, "echo new > f1");
    settle();
    let second = night(&lab, &["--to", &store]);
    lab.run(&["copy", "j", "--from", &store, "--to", &other]).expect(0);
    sh(&format!("mv {0}/store {0}/away", lab.dir.display()));
    restored(&lab, "j", &other);
    in_source(&lab, "echo new > f2");
    settle();
    let third = night(&lab, &["--to", &other]);
    assert_eq!(needed(&third), json!([id(&first), id(&second)]));
    restored(&lab, "j", &other);
    lab.run(&["verify", "j", "--whole", "--from", &other]).expect(0);
}

#[test]
fn at_two_stores_only_what_both_have_is_built_on() {
    let lab = Lab::new();
    let (here, there) = (lab.file_store(), lab.new_store("there"));
    let both = ["--to", &here, "--to", &there];
    in_source(&lab, "for i in $(seq 20); do echo $i > f$i; done");
    settle();
    night(&lab, &["--to", &here]);
    // Only one has the base.
    for stores in [&both, &["--to", &there, "--to", &here]] {
        let words = ["backup", "path", "s", "--job", "j", "--json", "--incremental", "--full-every", "30d"];
        a_second_later();
        let full = lab.run(&[&words[..], stores].concat()).expect(0);
        match stores == &both {
            true => says(&full, "there is no backup of the job that all of these stores have"),
            false => assert_eq!(needed(&sealed(&full)).as_array().map(Vec::len), Some(1)),
        }
    }
    let full = lab.list(&there)[0].1.clone();
    in_source(&lab, "echo new > f1");
    settle();
    // One that only the first of them gets, and one that both get.
    let alone = id(&night(&lab, &["--to", &here]));
    in_source(&lab, "echo new > f2");
    settle();
    let shared = night(&lab, &both);
    assert_eq!(needed(&shared), json!([full]), "{alone} is at one of them only");
    for store in [&here, &there] {
        restored(&lab, "j", store);
        lab.run(&["verify", "j", "--whole", "--from", store]).expect(0);
    }
    // What one store lost is read again, for both.
    sh(&format!("rm {}/there/j/{full}.tar.zst.gpg", lab.dir.display()));
    let words = ["backup", "path", "s", "--job", "j", "--json", "--incremental"];
    let healed = lab.run(&[&words[..], &both].concat()).expect(3);
    assert!(sealed(&healed)["warnings"][0].as_str().is_some_and(|text| text.contains(&full)), "{healed:?}");
    for store in [&here, &there] {
        restored(&lab, "j", store);
    }
}

#[test]
fn a_store_that_was_away_for_a_night_gets_what_it_can_be_read_with() {
    needs!("s3");
    let lab = Lab::new();
    let (here, there) = (lab.file_store(), AnyStore::S3(unique("away")).url());
    let words =
        ["backup", "path", "s", "--job", "j", "--json", "--incremental", "--to", &here, "--to", &there];
    in_source(&lab, "for i in $(seq 20); do echo $i > f$i; done");
    settle();
    let first = id(&sealed(&lab.run(&words).expect(0)));
    in_source(&lab, "echo new > f1");
    settle();
    let mut refused = lab.sealift();
    refused.args(words).env("AWS_SECRET_ACCESS_KEY", "another");
    let alone = sealed(&Ended::from(refused.output().expect("sealift runs")).expect(3));
    assert_eq!((&needed(&alone), &alone["failed"][0]["store"]), (&json!([first]), &json!(there)));
    in_source(&lab, "echo new > f2");
    settle();
    let next = sealed(&lab.run(&words).expect(0));
    assert_eq!(needed(&next), json!([first]), "{} is at one of them only", id(&alone));
    for store in [&here, &there] {
        restored(&lab, "j", store);
    }
}
