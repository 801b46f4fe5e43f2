//! `doctor`: each part that backups need is tried out; what is wrong has its line, with what to change, and its exit code.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::{Value, json};

use crate::needs;
use crate::support::fake_s3::{FakeS3, Fault};
use crate::support::{Ended, Lab};

/// A lab whose one job needs neither an engine nor tar, and goes to a folder.
fn lab() -> Lab {
    let lab = Lab::new();
    settings(&lab, "stdin", "");
    lab
}

/// Writes settings with a job of this source.
fn settings(lab: &Lab, source: &str, more: &str) {
    let text = format!(
        "to = \"{}\"\nretry_for = \"1s\"\n[jobs.j]\nsource = \"{source}\"\n{more}\n",
        lab.file_store()
    );
    lab.write("sealift.toml", text.as_bytes());
}

fn sealift(lab: &Lab, words: &str) -> Command {
    let mut command = lab.sealift();
    // A host without an engine, on which gpg never ran.
    command.env("HOME", &lab.dir).env("DOCKER_HOST", "unix:///nowhere").arg("doctor");
    command.env("AWS_ACCESS_KEY_ID", "k").env("AWS_SECRET_ACCESS_KEY", "s").env("AWS_REGION", "us-east-1");
    command.args(words.split_whitespace());
    command
}

#[track_caller]
fn run(lab: &Lab, words: &str, code: i32) -> String {
    Ended::from(sealift(lab, words).output().expect("sealift runs")).expect(code).text()
}

/// The line of a check.
#[track_caller]
fn line(text: &str, check: &str) -> String {
    let found = text
        .lines()
        .find(|line| line.split_once("  ").is_some_and(|(_, rest)| rest.trim_start().starts_with(check)));
    found.unwrap_or_else(|| panic!("no {check} in: {text}")).into()
}

/// Runs it against a server that does this.
#[track_caller]
fn at(fault: Fault, words: &str, code: i32) -> (String, FakeS3) {
    let (lab, server) = (lab(), FakeS3::start(fault));
    let mut command = sealift(&lab, &format!("--to s3://b/p {words}"));
    let ended =
        Ended::from(command.env("AWS_ENDPOINT_URL", &server.endpoint).output().expect("sealift runs"));
    assert_eq!(ended.code, code, "{}{}", ended.text(), ended.stderr);
    (ended.text(), server)
}

/// A folder first in PATH, with a program that does this.
fn with_program(lab: &Lab, name: &str, script: &str) -> String {
    std::fs::create_dir_all(lab.path("bin")).expect("a folder");
    let program = lab.write(&format!("bin/{name}"), format!("#!/bin/sh\n{script}\n").as_bytes());
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("a program");
    format!("{}:{}", lab.path("bin").display(), std::env::var("PATH").expect("a PATH"))
}

#[test]
fn where_all_is_well_every_line_is_ok_and_nothing_is_left() {
    needs!("gpg");
    let lab = lab();
    let text = run(&lab, "", 0);
    assert!(text.lines().all(|line| line.starts_with("ok    ")), "{text}");
    assert!(line(&text, "settings").ends_with("sealift.toml: 1 job"), "{text}");
    assert!(line(&text, "gpg").ends_with("opens with the passphrase what sealift seals with it"), "{text}");
    assert!(line(&text, &format!("{} write", lab.file_store())).contains("create-only"), "{text}");
    assert!(std::fs::read_dir(lab.path("store")).expect("the store").next().is_none());
    assert!(!lab.path(".gnupg").exists());
    let json = run(&lab, "j --json", 0);
    let lines: Vec<Value> =
        json.lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect();
    assert_eq!(lines.len(), text.lines().count());
    assert!(lines.iter().all(|line| line["verdict"] == json!("ok") && line["change"] == Value::Null));
    assert_eq!(run(&lab, "--quiet", 0), "", "only what needs a look is told");
}

#[test]
fn a_bucket_is_tried_in_all_that_backups_ask_of_it_and_left_as_it_was() {
    let (text, server) = at(Fault::None, "", 0);
    for check in ["write", "list", "clock", "read", "upload in parts", "delete", "largest archive"] {
        assert!(line(&text, &format!("s3://b/p {check}")).starts_with("ok"), "{text}");
    }
    assert!(
        line(&text, "s3://b/p upload in parts").contains("10000 parts of 5.00 MiB to 5.00 GiB"),
        "{text}"
    );
    assert!(line(&text, "s3://b/p lifecycle rules").contains("not known"), "{text}");
    assert_eq!((server.objects(), server.uploads()), (vec![], 0));
}

#[test]
fn a_settings_file_that_is_wrong_is_told_by_its_lines_and_the_rest_is_looked_at() {
    let lab = lab();
    lab.write("sealift.toml", b"levle = 3\n[jobs.a]\nsource = \"exce\"\n");
    let text = run(&lab, &format!("--to {}", lab.file_store()), 1);
    assert!(
        text.contains("fail  settings: sealift.toml:1: there is no setting \"levle\"; did you mean"),
        "{text}"
    );
    assert!(text.contains("fail  settings: sealift.toml:3: [jobs.a] \"exce\" is no source"), "{text}");
    assert!(line(&text, &format!("{} write", lab.file_store())).starts_with("ok"), "{text}");
}

#[test]
fn a_folder_that_is_not_there_is_told_with_what_to_do() {
    let lab = lab();
    std::fs::remove_dir(lab.path("store")).expect("the store's folder");
    let text = run(&lab, "", 1);
    assert!(line(&text, "file://").starts_with("fail") && text.contains("is it mounted?"), "{text}");
}

#[test]
fn an_engine_that_is_not_there_counts_as_far_as_jobs_need_it() {
    let lab = lab();
    assert!(line(&run(&lab, "", 0), "engine").contains("no job of the settings asks for it"));
    settings(&lab, "image", "images = [\"i\"]");
    let text = run(&lab, "", 1);
    assert!(
        line(&text, "engine").starts_with("fail") && line(&text, "engine").contains("DOCKER_HOST"),
        "{text}"
    );
    std::fs::remove_file(lab.path("sealift.toml")).expect("the settings");
    let text = run(&lab, &format!("--to {}", lab.file_store()), 3);
    assert!(line(&text, "engine").starts_with("warn"), "{text}");
}

/// An engine behind a proxy that only lets reading through.
fn read_only_engine() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let host = format!("tcp://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
                let mut stream = stream;
                let (mut first, mut line) = (String::new(), String::new());
                while reader.read_line(&mut line).is_ok_and(|len| len > 0) {
                    if first.is_empty() {
                        first.clone_from(&line);
                    }
                    if line.trim().is_empty() {
                        break;
                    }
                    line.clear();
                }
                let body = match first.as_str() {
                    first if first.contains("/_ping") => "OK",
                    first if first.contains("/version") => "{\"Version\":\"27.0.1\",\"ApiVersion\":\"1.46\"}",
                    first if first.contains("/volumes") => "{\"Volumes\":[]}",
                    first if first.contains("/json") => "[]",
                    _ => "",
                };
                let status = if body.is_empty() { "403 Forbidden" } else { "200 OK" };
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(format!("{head}{body}").as_bytes());
            });
        }
    });
    host
}

#[test]
fn an_engine_that_only_lets_us_read_is_told_with_what_it_refuses() {
    let lab = lab();
    settings(&lab, "exec", "container = \"db\"\ncommand = [\"dump\"]");
    let ended = sealift(&lab, "").env("DOCKER_HOST", read_only_engine()).output().expect("sealift runs");
    let text = Ended::from(ended).expect(1).text();
    let engine = line(&text, "engine");
    assert!(
        engine.starts_with("fail  engine: Docker Engine 27.0.1, API 1.46, elsewhere, refuses: "),
        "{engine}"
    );
    assert!(
        engine.contains("commands in containers (backup exec)") && !engine.contains("lists of"),
        "{engine}"
    );
}

#[test]
fn a_tar_that_is_not_gnus_is_named_where_a_job_needs_it() {
    let lab = lab();
    let path = with_program(&lab, "tar", "echo 'bsdtar 3.7.2'");
    let run = |code| {
        let ended = sealift(&lab, "").env("PATH", &path).output().expect("sealift runs");
        line(&Ended::from(ended).expect(code).text(), "tar")
    };
    assert!(
        run(0)
            .starts_with("ok    tar: the tar in PATH is not GNU tar: bsdtar 3.7.2; backups here do without")
    );
    settings(&lab, "path", "dirs = [\"/etc\"]");
    assert!(
        run(1)
            .starts_with("fail  tar: the tar in PATH is not GNU tar: bsdtar 3.7.2; install the package tar")
    );
}

#[test]
fn a_passphrase_that_is_missing_unreadable_or_short_is_told_and_never_shown() {
    let lab = lab();
    let run = |code, change: &dyn Fn(&mut Command)| {
        let mut command = sealift(&lab, "");
        change(&mut command);
        let ended = Ended::from(command.output().expect("sealift runs")).expect(code);
        assert!(!ended.text().contains("hunter2") && !ended.stderr.contains("hunter2"), "{ended:?}");
        line(&ended.text(), "passphrase")
    };
    let missing = run(3, &|command| {
        command.env_remove("SEALIFT_PASSPHRASE_FILE");
    });
    assert!(missing.starts_with("warn  passphrase: none is given"), "{missing}");
    let unreadable = run(1, &|command| {
        command.env("SEALIFT_PASSPHRASE_FILE", "/no/such/file");
    });
    assert!(unreadable.starts_with("fail  passphrase: cannot read the passphrase file"), "{unreadable}");
    lab.write("passphrase", b"hunter2\n");
    let short = run(3, &|_| {});
    assert!(short.starts_with("warn  passphrase: is there, and short; take at least 12"), "{short}");
}

#[test]
fn a_gpg_that_does_not_open_what_is_sealed_is_told_with_its_words() {
    let lab = lab();
    let path = with_program(
        &lab,
        "gpg",
        "cat > /dev/null; echo 'gpg: decryption failed: Bad session key' >&2; exit 2",
    );
    let ended = sealift(&lab, "").env("PATH", path).output().expect("sealift runs");
    let gpg = line(&Ended::from(ended).expect(1).text(), "gpg");
    assert!(gpg.starts_with("fail  gpg: does not open what sealift seals (exit status: 2)"), "{gpg}");
    assert!(gpg.contains("Bad session key"), "{gpg}");
}

#[test]
fn no_secret_is_on_gpgs_command_line_or_in_its_environment() {
    let lab = lab();
    let script = "{ tr '\\0' ' ' < /proc/$$/cmdline; echo \"$@\"; env; } > seen; cat > /dev/null";
    let path = with_program(&lab, "gpg", script);
    let mut command = sealift(&lab, "");
    command
        .env("PATH", path)
        .env("SEALIFT_PASSPHRASE", "the secret of this test")
        .env_remove("SEALIFT_PASSPHRASE_FILE");
    Ended::from(command.output().expect("sealift runs")).expect(1);
    let seen = std::fs::read_to_string(lab.path("seen")).expect("what gpg saw");
    assert!(seen.contains("--passphrase-fd 0") && !seen.contains("the secret of this test"), "{seen}");
}

#[test]
fn more_memory_than_there_is_is_told() {
    let lab = lab();
    let text = run(&lab, "--memory 900TiB", 1);
    assert!(
        line(&text, "memory").starts_with("fail  memory: --memory is 900.00 TiB, and there are "),
        "{text}"
    );
    let text = run(&lab, "--memory 1MiB", 1);
    assert!(
        line(&text, &format!("{} largest archive", lab.file_store())).contains("give at least --memory"),
        "{text}"
    );
}

#[test]
fn a_store_that_takes_nothing_is_told_and_its_lists_work() {
    let (text, _) = at(Fault::NoWrites, "", 1);
    let write = line(&text, "s3://b/p write");
    assert!(write.starts_with("fail") && write.contains("its policy does not allow this"), "{write}");
    assert!(line(&text, "s3://b/p list").starts_with("ok"), "{text}");
}

#[test]
fn a_store_without_create_only_writes_is_told() {
    let (text, server) = at(Fault::NoConditionalPut, "", 3);
    assert!(
        line(&text, "s3://b/p write").starts_with("warn  s3://b/p write: works, but there is no create-only")
    );
    assert_eq!(server.objects().len(), 0);
    let (text, _) = at(Fault::Replaces, "", 3);
    assert!(line(&text, "s3://b/p write").contains("the store replaced an object"), "{text}");
}

#[test]
fn a_key_that_may_not_read_or_not_delete_is_told_with_what_stays() {
    let (text, server) = at(Fault::NoReads, "", 3);
    assert!(line(&text, "s3://b/p read").contains("verify and restore need a key that may read"), "{text}");
    assert_eq!(server.objects().len(), 0);
    let (text, server) = at(Fault::NoDeletes, "", 3);
    let delete = line(&text, "s3://b/p delete");
    let [object] = &server.objects()[..] else { panic!("one object stays") };
    assert!(
        delete.starts_with("warn") && delete.contains(&object.replacen("/b/", "s3://b/", 1)),
        "{delete}: {object}"
    );
    assert!(delete.contains(" stays; backups work"), "{delete}");
}

#[test]
fn a_clock_that_is_wrong_is_told_with_its_difference() {
    let (text, _) = at(Fault::OldClock, "", 1);
    let clock = line(&text, "s3://b/p clock");
    assert!(
        clock.starts_with("fail") && clock.contains("ahead of the store's; set this host's clock"),
        "{clock}"
    );
}

#[test]
fn a_rule_that_deletes_what_increments_need_is_told() {
    let (text, _) = at(Fault::Expires, "", 3);
    assert!(line(&text, "s3://b/p versioning").ends_with(": enabled"), "{text}");
    assert!(
        line(&text, "s3://b/p object lock").ends_with(": on, by default compliance for 14 days"),
        "{text}"
    );
    let rules = line(&text, "s3://b/p lifecycle rules");
    assert!(
        rules.starts_with("warn") && rules.contains("rule monthly deletes objects after 30 days"),
        "{rules}"
    );
    let (text, _) = at(Fault::Expires, "--incremental", 1);
    let rules = line(&text, "s3://b/p lifecycle rules");
    assert!(rules.starts_with("fail") && rules.contains("increments need older archives"), "{rules}");
}

#[test]
fn what_is_no_store_is_told_whatever_it_answers() {
    let (text, _) = at(Fault::HtmlList, "", 1);
    assert!(line(&text, "s3://b/p list").contains("the answer is no list"), "{text}");
    let lab = lab();
    let mut command = sealift(&lab, "--to s3://b/p");
    let nobody = command.env("AWS_ENDPOINT_URL", "http://127.0.0.1:1").output().expect("sealift runs");
    let text = Ended::from(nobody).expect(1).text();
    assert!(line(&text, "s3://b/p write").starts_with("fail"), "{text}");
}
