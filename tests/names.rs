//! A name is a name: what is written, stored and shown is one thing, what is not ours is passed over, and two sources are
//! never one job in silence.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::support::fake_s3::{FakeS3, Fault};
use crate::support::{Ended, Lab};

fn backup(lab: &Lab, words: &[&str]) -> Ended {
    lab.run(&[&["backup"], words, &["--no-encrypt"]].concat())
}

fn feed(lab: &Lab, job: &str, store: &str, text: &str) -> Ended {
    lab.feed(&["backup", "stdin", "--job", job, "--no-encrypt", "--to", store], text.as_bytes())
}

fn restored(lab: &Lab, archive: &str, store: &str) -> String {
    lab.run(&["restore", archive, "--to-stdout", "--no-encrypt", "--from", store]).expect(0).text()
}

fn on_s3(lab: &Lab, fake: &FakeS3, words: &[&str], input: &[u8]) -> Ended {
    let mut command = lab.sealift();
    command.args(words).env("AWS_ENDPOINT_URL", &fake.endpoint).env("AWS_REGION", "us-east-1");
    command.env("AWS_ACCESS_KEY_ID", "a").env("AWS_SECRET_ACCESS_KEY", "b");
    crate::support::feed(&mut command, input)
}

#[test]
fn what_was_stored_under_a_prefix_of_any_letters_is_listed_there() {
    let (lab, fake) = (Lab::new(), FakeS3::start(Fault::None));
    for (i, prefix) in ["büro", "a~b", "x[1]", "50%", "a*b", "{c|d}", "日本"].into_iter().enumerate() {
        let (store, job) = (format!("s3://b/{prefix}"), format!("job{i}"));
        let words = ["backup", "stdin", "--job", &job, "--no-encrypt", "--to", &store];
        on_s3(&lab, &fake, &words, b"x").expect(0);
        let listed = on_s3(&lab, &fake, &["list", "--json", "--from", &store], b"").expect(0).text();
        assert_eq!(listed.matches(&format!("\"job\":\"{job}\"")).count(), 1, "{prefix}: {listed}");
    }
}

#[test]
fn a_key_with_an_empty_part_hides_nothing_and_is_counted() {
    let (lab, fake) = (Lab::new(), FakeS3::start(Fault::None));
    let words = ["backup", "stdin", "--job", "j", "--no-encrypt", "--to", "s3://b/p"];
    on_s3(&lab, &fake, &words, b"x").expect(0);
    for key in ["p/a//b", "p/j//x", "p/j/other"] {
        fake.plant(&format!("/b/{key}"));
    }
    let list = ["list", "--json", "--verbose", "--from", "s3://b/p"];
    let listed = on_s3(&lab, &fake, &list, b"").expect(0);
    let text = listed.text();
    assert_eq!(text.matches("\"job\":\"j\"").count(), 1, "{text}");
    assert!(
        format!("{text}{}", listed.stderr).contains("3 objects at s3://b/p are not sealift's"),
        "{listed:?}"
    );
    on_s3(&lab, &fake, &words, b"y").expect(0);
}

#[test]
fn files_that_are_not_ours_stop_no_verb() {
    let lab = Lab::new();
    let store = lab.file_store();
    feed(&lab, "j", &store, "one").expect(0);
    let at = |name: &str| lab.path("store").join(name);
    std::fs::write(at("j").join(OsStr::from_bytes(b"bad\xff")), "x").expect("a file");
    std::fs::create_dir(at("lost+found")).expect("a folder");
    std::os::unix::fs::symlink("..", at("j/up")).expect("a link");
    std::os::unix::fs::symlink("loop", at("loop")).expect("a link");
    lab.run(&["list", "--from", &store]).expect(0);
    assert_eq!(restored(&lab, "j", &store), "one");
    feed(&lab, "j", &store, "two").expect(0);
    assert_eq!(restored(&lab, "j", &store), "two");
}

#[test]
fn a_url_that_would_be_cut_off_is_refused() {
    let lab = Lab::new();
    for sign in ["#", "?"] {
        let store = format!("{}{sign}x", lab.file_store());
        feed(&lab, "j", &store, "x").expect(2).hint("%");
    }
    let store = format!("{}%23x", lab.file_store());
    std::fs::create_dir(lab.path("store#x")).expect("a folder");
    feed(&lab, "j", &store, "x").expect(0);
    assert!(lab.path("store#x/j").is_dir());
    let shown = lab.run(&["show", "j", "--no-encrypt", "--from", &store]).expect(0).text();
    assert!(shown.contains(&format!("{store}/j/")), "{shown}");
}

#[test]
fn the_newest_is_the_one_that_was_made_last() {
    let lab = Lab::new();
    let store = lab.file_store();
    for text in ["1", "2", "3", "4"] {
        feed(&lab, "j", &store, text).expect(0);
    }
    assert_eq!(restored(&lab, "j", &store), "4");
    assert_eq!(restored(&lab, "j@latest", &store), "4");
    let ids: Vec<_> = lab.list(&store).into_iter().map(|(_, id)| id).collect();
    assert_eq!(restored(&lab, &format!("j@{}", &ids[1][..16]), &store), "2", "each has a second of its own");
    let day = format!("j@{}-{}-{}", &ids[3][..4], &ids[3][4..6], &ids[3][6..8]);
    assert_eq!(restored(&lab, &day, &store), "4");
    let some = lab.run(&[
        "restore",
        &format!("j@{}", &ids[0][..3]),
        "--to-stdout",
        "--no-encrypt",
        "--from",
        &store,
    ]);
    some.expect_error(2, "may be any of 4 archives").hint(&ids[0]);
}

#[test]
fn another_source_does_not_become_the_newest_of_a_job() {
    let lab = Lab::new();
    let store = lab.file_store();
    for dir in ["a/data", "b/data"] {
        std::fs::create_dir_all(lab.path(dir)).expect("a folder");
        std::fs::write(lab.path(dir).join("f"), dir).expect("a file");
    }
    let (a, b) = (lab.path("a/data").display().to_string(), lab.path("b/data").display().to_string());
    backup(&lab, &["path", &a, "--to", &store]).expect(0);
    backup(&lab, &["path", &a, "--to", &store]).expect(0);
    let refused = backup(&lab, &["path", &b, "--to", &store]);
    refused.expect_error(2, "is of another source").hint("--warn-ok source");
    assert_eq!(lab.list(&store).len(), 2, "nothing was uploaded");
    backup(&lab, &["path", &a, "--host", "elsewhere", "--to", &store]).expect(2);
    backup(&lab, &["path", &b, "--job", "b-data", "--to", &store]).expect(0);
    backup(&lab, &["path", &b, "--to", &store, "--warn-ok", "source"]).expect(0);
    let manifests = std::fs::read_dir(lab.path("store/data")).expect("a folder").flatten();
    let manifests: Vec<_> =
        manifests.filter(|e| e.file_name().to_string_lossy().ends_with(".manifest.json")).collect();
    for manifest in &manifests {
        let text = std::fs::read_to_string(manifest.path()).expect("a manifest");
        assert!(text.contains("\"source_id\"") && !text.contains("/data\""), "no path in the clear: {text}");
    }
}

#[test]
fn a_passphrase_is_the_same_wherever_it_comes_from() {
    let lab = Lab::new();
    let store = lab.file_store();
    let file = lab.write("pass", b"secret\nmore\n").display().to_string();
    let mut command = lab.sealift();
    command.args(["backup", "stdin", "--job", "p", "--to", &store]).env_remove("SEALIFT_PASSPHRASE_FILE");
    crate::support::feed(command.env("SEALIFT_PASSPHRASE", "secret\n"), b"x").expect(0);
    lab.run(&["restore", "p", "--to-stdout", "--from", &store, "--passphrase-file", &file]).expect(0);
    // A value that is not UTF-8 is not passed over for the file.
    let mut command = lab.sealift();
    command.args(["backup", "stdin", "--job", "q", "--to", &store]).env("SEALIFT_PASSPHRASE_FILE", &file);
    command.env("SEALIFT_PASSPHRASE", OsStr::from_bytes(b"s\xff"));
    crate::support::feed(&mut command, b"x").expect(2).hint("other tools");
}

#[test]
fn an_environment_that_no_request_can_carry_is_an_error_of_ours() {
    let lab = Lab::new();
    for (name, value) in [
        ("AWS_ENDPOINT_URL", "s3.example.test:9000"),
        ("AWS_ENDPOINT_URL", ""),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1 "),
        ("AWS_ACCESS_KEY_ID", "a\n"),
        ("AWS_SESSION_TOKEN", "ä"),
    ] {
        let mut command = lab.sealift();
        command.args(["list", "--from", "s3://b"]).env("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
        command
            .env("AWS_ACCESS_KEY_ID", "a")
            .env("AWS_SECRET_ACCESS_KEY", "b")
            .env("AWS_REGION", "r")
            .env(name, value);
        crate::support::feed(&mut command, b"").expect_error(2, name);
    }
}
