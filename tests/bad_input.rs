//! Whatever is asked wrongly is answered with an error and a hint, and never with a panic.

use crate::needs;
use crate::support::{Ended, JOB, Lab, docker, unique};

#[test]
fn stores_that_are_none() {
    let lab = Lab::new();
    for (store, words) in [
        ("ftp://host/x", "unknown kind of store"),
        ("nowhere", "is no store"),
        ("s3://key:secret@bucket/x", "no credentials"),
        ("s3:///x", "names no bucket"),
        ("file://host/x", "names no folder"),
    ] {
        lab.backup_stdin(store, b"x", &[]).expect_error(2, words).hint(" ");
        lab.run(&["list", "--from", store]).expect_error(2, words);
    }
    let missing = format!("file://{}/not/there", lab.dir.display());
    lab.backup_stdin(&missing, b"x", &[]).expect_error(1, "there is no folder").hint("is it mounted?");
}

#[test]
fn passphrases_that_are_none() {
    let lab = Lab::new();
    lab.write("empty", b"");
    lab.write("empty-line", b"\nsecret\n");
    lab.write("binary", b"\xff\xfe\n");
    let store = lab.file_store();
    let with = |file: &str| lab.backup_stdin(&store, b"x", &["--passphrase-file", file]);
    with("missing").expect_error(2, "cannot read the passphrase file missing").hint("does it exist");
    with("empty").expect_error(2, "the passphrase is empty").hint("--no-encrypt");
    with("empty-line").expect_error(2, "the passphrase is empty");
    with("binary").expect_error(2, "UTF-8");
    with("-").expect_error(2, "standard input is the data").hint("a file of its own");
    with("/dev/stdin").expect_error(2, "standard input is the data");
    lab.backup_stdin(&store, b"x", &["--passphrase-command", "exit 3"])
        .expect_error(2, "passphrase command failed");
    let mut nothing = lab.sealift();
    nothing.env_remove("SEALIFT_PASSPHRASE_FILE").args(["backup", "stdin", "--job", JOB, "--to", &store]);
    // Without a terminal to ask at.
    let ended = crate::support::feed(
        std::process::Command::new("setsid")
            .arg("--wait")
            .arg(nothing.get_program())
            .args(nothing.get_args()),
        b"x",
    );
    ended.expect_error(2, "no passphrase was given").hint("--passphrase-file");
    lab.backup_stdin(&store, b"x", &["--passphrase", "secret"]).expect(2);
    assert!(lab.list(&store).is_empty());
    // A night without a passphrase is a failed one, and noted.
    let left = std::fs::read_dir(lab.path("store").join(JOB)).expect("the job's folder");
    let left: Vec<_> =
        left.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")).collect();
    assert!(left.iter().all(|name| name.ends_with(".failed.json")), "{left:?}");
}

#[test]
fn every_way_to_give_a_passphrase_opens_the_same_archive() {
    let lab = Lab::new();
    let store = lab.file_store();
    lab.backup_stdin(&store, b"sealed", &[]).expect(0);
    let restore = |set: &dyn Fn(&mut std::process::Command)| {
        let mut command = lab.sealift();
        command.env_remove("SEALIFT_PASSPHRASE_FILE").args(["restore", JOB, "--to-stdout", "--from", &store]);
        set(&mut command);
        assert_eq!(Ended::from(command.output().expect("sealift runs")).expect(0).text(), "sealed");
    };
    let pass = crate::support::PASSPHRASE;
    restore(&|c| {
        c.env("SEALIFT_PASSPHRASE", pass);
    });
    restore(&|c| {
        c.env("SEALIFT_PASSPHRASE_FILE", lab.path("passphrase"));
    });
    restore(&|c| {
        c.env("SEALIFT_PASSPHRASE_COMMAND", "cat passphrase");
    });
    restore(&|c| {
        c.args(["--passphrase-file", "passphrase"]);
    });
    restore(&|c| {
        c.args(["--passphrase-command", "cat passphrase"]);
    });
}

#[test]
fn a_wrong_passphrase_is_exit_12_and_shows_no_byte() {
    let lab = Lab::new();
    let store = lab.file_store();
    lab.backup_stdin(&store, b"sealed", &[]).expect(0);
    lab.write("other", b"another\n");
    for verb in [&["restore", "--to-stdout"][..], &["verify"]] {
        let words = [&verb[..1], &[JOB, "--from", &store, "--passphrase-file", "other"], &verb[1..]].concat();
        let ended = lab.run(&words).expect_error(12, "the passphrase does not open").hint("was it changed");
        assert!(ended.stdout.is_empty());
    }
    // A backup sealed with a mistyped passphrase is noticed at once, not on the day of the restore.
    let warned = lab.backup_stdin(&store, b"sealed", &["--passphrase-file", "other"]).expect(3);
    assert!(warned.stderr.contains("does not open with this passphrase"), "{}", warned.stderr);
    lab.backup_stdin(&store, b"sealed", &["--warn-ok", "passphrase"]).expect(0);
}

#[test]
fn archives_that_are_not_there() {
    let lab = Lab::new();
    let store = lab.file_store();
    lab.backup_stdin(&store, b"another", &[]).expect(0);
    lab.run(&["restore", "none", "--to-stdout", "--from", &store])
        .expect_error(10, "no archive of job none")
        .hint("known are: job");
    let id = "none@20261122T020000Z-1f2e3d4c";
    lab.run(&["verify", id, "--from", &store]).expect_error(10, "there is no archive").hint("sealift list");
    lab.run(&["verify", "../escape", "--from", &store]).expect(2);
}

#[test]
fn sources_that_are_not_there() {
    needs!("docker");
    let lab = Lab::new();
    let store = lab.file_store();
    let volume = unique("missing");
    lab.run(&["backup", "volume", &volume, "--to", &store])
        .expect_error(1, "there is no volume")
        .hint("docker volume ls");
    assert_eq!(
        docker(&["volume", "ls", "-q", "--filter", &format!("name={volume}")]),
        "",
        "a volume was created"
    );
    lab.run(&["backup", "image", "none:1", "--to", &store])
        .expect_error(1, "image none:1 is not on this engine")
        .hint("docker pull");
    lab.run(&["backup", "run", "--to", &store, "none:1"])
        .expect_error(1, "is not on this engine")
        .hint("docker pull");
    lab.run(&["backup", "exec", "--to", &store, "nobody", "true"])
        .expect_error(1, "No such container")
        .hint("docker ps");
    lab.run(&["backup", "path", "nowhere", "--to", &store])
        .expect_error(1, "cannot read nowhere")
        .hint("a folder that exists");
    lab.run(&["backup", "run", "--to", &store, "-t", "bb:1"])
        .expect_error(2, "-t (--tty) is refused")
        .hint("leave -t out");
    lab.run(&["backup", "run", "--to", &store, "bb:1", "no-such-program"])
        .expect_error(1, "cannot start the container");
    assert_eq!(lab.list(&store), []);
    assert_eq!(crate::support::leftovers("no-such-program"), [""; 0]);
}

#[test]
fn an_engine_that_is_not_there() {
    let lab = Lab::new();
    for host in ["unix:///nowhere/docker.sock", "tcp://127.0.0.1:1"] {
        let mut command = lab.sealift();
        command.env("DOCKER_HOST", host).args(["backup", "volume", "v", "--to", &lab.file_store()]);
        Ended::from(command.output().expect("sealift runs"))
            .expect_error(1, "does not answer")
            .hint("DOCKER_HOST");
    }
}

#[test]
fn settings_that_make_no_sense() {
    let lab = Lab::new();
    let store = lab.file_store();
    for more in [
        &["--level", "99"][..],
        &["--memory", "1MiB"],
        &["--part-size", "much"],
        &["--compress", "rar"],
        &["--max-parts", "0"],
        &["--parallel", "0"],
        &["--retry-for", "-1s"],
    ] {
        lab.backup_stdin(&store, b"x", more).expect(2);
    }
    lab.feed(&["backup", "stdin", "--to", &store], b"x").expect_error(2, "needs a name").hint("--job");
    lab.feed(&["backup", "stdin", "--to", &store, "--job", "A@B"], b"x").expect(2);
    lab.run(&["backup"]).expect(2);
}

#[test]
fn a_store_is_given_once_and_is_not_made_by_looking() {
    let lab = Lab::new();
    let store = lab.file_store();
    lab.backup_stdin(&store, b"x", &["--to", &format!("{store}/")])
        .expect_error(2, "is given twice")
        .hint("once");
    let typo = format!("file://{}", lab.path("typo").display());
    lab.run(&["list", "--from", &typo]).expect_error(1, "there is no folder").hint("is it mounted?");
    assert!(!lab.path("typo").exists());
    let warned = lab.backup_stdin(&store, b"x", &["--sse", "aws:kms"]).expect(0);
    assert!(warned.stderr.contains("--sse has no effect"), "{}", warned.stderr);
}

#[test]
fn events_never_mix_with_data() {
    let lab = Lab::new();
    let store = lab.file_store();
    let done = lab.backup_stdin(&store, b"sealed", &["--json"]).expect(0).text();
    let events: Vec<serde_json::Value> =
        done.lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect();
    assert_eq!(events.last().expect("an event")["event"], "sealed");
    let words = ["restore", JOB, "--to-stdout", "--json", "--verbose", "--from", &store];
    let restored = lab.run(&words).expect(0);
    assert_eq!(restored.text(), "sealed");
    assert!(restored.stderr.contains("\"event\""), "{}", restored.stderr);
    assert_eq!(lab.backup_stdin(&store, b"sealed", &["--quiet"]).expect(0).stderr, "");
    let failed = lab.run(&["verify", "none", "--json", "--from", &store]).expect(10).text();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&failed).expect("JSON")["code"], 10);
}
