//! What is on the other side of a pipe may close it, be closed, or be a terminal: an answer, and no accident.

use std::process::Command;

use crate::support::{Ended, Lab, feed, noise, sh, text};

/// A store with the archive `j` of a folder with `file`.
fn archive_of(lab: &Lab, file: &[u8]) -> String {
    let store = lab.file_store();
    std::fs::create_dir_all(lab.path("store")).expect("a store");
    std::fs::create_dir(lab.path("s")).expect("a folder");
    lab.write("s/file", file);
    lab.run(&["backup", "path", "s", "--job", "j", "--no-encrypt", "--to", &store]).expect(0);
    store
}

/// Runs a script with the command under test as `$S`, under pipefail.
#[track_caller]
fn shell(lab: &Lab, store: &str, script: &str) -> Ended {
    let mut bash = Command::new("bash");
    let binary = env!("CARGO_BIN_EXE_sealift");
    bash.current_dir(&lab.dir).env("S", binary).env_remove("SEALIFT_PASSPHRASE_FILE");
    if !store.is_empty() {
        bash.env("SEALIFT_STORE", store);
    }
    Ended::from(bash.args(["-o", "pipefail", "-c", script]).output().expect("bash runs"))
}

#[test]
fn tar_closes_the_pipe_behind_the_end_marker() {
    let lab = Lab::new();
    let store = archive_of(&lab, &text(300_000));
    // Padding that no pipe holds, so that tar is gone before all is written.
    shell(&lab, &store, "tar -b 4000 -cf big.tar s").expect(0);
    lab.feed(
        &["backup", "stdin", "--job", "padded", "--no-encrypt", "--to", &store],
        &std::fs::read(lab.path("big.tar")).expect("a tar"),
    )
    .expect(0);
    for job in ["j", "padded"] {
        let script = format!(
            "rm -rf x; mkdir x; $S restore {job} --to-stdout --no-encrypt | tar -x -C x && cmp s/file x/*/file"
        );
        shell(&lab, &store, &script.replace("x/*/file", "x/s/file")).expect(0);
    }
}

#[test]
fn a_reader_that_stops_within_a_tar_is_a_failure_that_says_how_much_was_written() {
    let lab = Lab::new();
    let store = archive_of(&lab, &noise(1, 3_000_000));
    let ended = shell(&lab, &store, "$S restore j --to-stdout --no-encrypt | head -c 100");
    let ended = ended.expect_error(1, "before the tar's end marker").hint("its own message says why");
    assert!(ended.stderr.contains(" bytes ("), "{}", ended.stderr);
}

#[test]
fn a_reader_of_lists_that_has_seen_enough_is_no_failure() {
    let lab = Lab::new();
    let store = archive_of(&lab, &text(400_000));
    // More names than a pipe holds.
    shell(&lab, &store, "for n in $(seq 4000); do : > s/a-rather-long-name-of-a-file-$n; done").expect(0);
    lab.run(&["backup", "path", "s", "--job", "many", "--no-encrypt", "--to", &store]).expect(0);
    for words in [
        "ls many --no-encrypt | head -n 1",
        "ls many --no-encrypt | true",
        "cat j s/file --no-encrypt | head -c 1",
        "list | true",
        "show j --no-encrypt | true",
        "completions bash | head -c 1",
        "completions zsh | true",
        "--help | true",
        "restore --help | true",
    ] {
        let ended = shell(&lab, &store, &format!("$S {words}")).expect(0);
        assert_eq!(ended.stderr, "", "{words}");
    }
    // What differs is said by the exit code, whoever reads the lines.
    shell(&lab, &store, "$S diff j many --no-encrypt | true").expect(1);
    shell(&lab, &store, "$S diff many many --no-encrypt | true").expect(0);
}

#[test]
fn a_closed_stdout_is_refused_and_an_empty_device_is_not() {
    let lab = Lab::new();
    let store = archive_of(&lab, b"text\n");
    for words in ["restore j --to-stdout --no-encrypt", "cat j s/file --no-encrypt"] {
        shell(&lab, &store, &format!("$S {words} >&-"))
            .expect_error(2, "stdout is closed")
            .hint("sealift verify");
        shell(&lab, &store, &format!("$S {words} >/dev/null")).expect(0);
        shell(&lab, &store, &format!("$S {words} 2>&- >/dev/null")).expect(0);
    }
}

#[test]
fn a_terminal_gets_text_and_no_bytes() {
    let lab = Lab::new();
    let store = archive_of(&lab, "gr\u{fc}n\n".as_bytes());
    lab.write("s/binary", b"a\0b");
    lab.run(&["backup", "path", "s", "--job", "two", "--no-encrypt", "--to", &store]).expect(0);
    let on_terminal =
        |words: &str| shell(&lab, &store, &format!("script -qec \"$S {words} --no-encrypt\" /dev/null"));
    let refused = on_terminal("restore two --to-stdout").expect(2);
    assert!(refused.text().contains("stdout is a terminal"), "{}", refused.text());
    assert!(!refused.text().contains('\0'));
    assert!(on_terminal("cat two s/binary").expect(2).text().contains("> FILE"));
    assert!(on_terminal("cat two s/file").expect(0).text().contains("gr\u{fc}n"));
}

#[test]
fn what_another_program_writes_is_restored_from_standard_input() {
    let lab = Lab::new();
    let store = archive_of(&lab, b"text\n");
    let tar = "tar -c s | gzip | $S restore --object - --to-path x";
    sh(&format!("mkdir {}/x", lab.dir.display()));
    shell(&lab, "", tar).expect(0);
    assert_eq!(std::fs::read(lab.path("x/s/file")).expect("the file"), b"text\n");
    assert_eq!(
        shell(&lab, &store, "echo text | $S restore --object - --to-stdout").expect(0).stdout,
        b"text\n"
    );
    // A gpg that failed wrote nothing: that is no success.
    shell(&lab, &store, "false | $S restore --object - --to-stdout")
        .expect_error(1, "standard input ended before its first byte");
    lab.run(&["restore", "j", "--to-stdout"]).expect(2);
}

#[test]
fn what_gpg_alone_reads_goes_through_its_pipe() {
    let lab = Lab::new();
    lab.write("plain", b"old and dear\n");
    let gpg = "gpg --homedir g --batch --quiet --pinentry-mode loopback --passphrase-file passphrase";
    let seal = |options: &str, to: &str| {
        let script =
            format!("mkdir -p -m 700 g; mkdir -p store; {gpg} --s2k-mode 1 {options} -o store/{to} -c plain");
        shell(&lab, "", &script).expect(0);
    };
    let restore =
        |name: &str| lab.run(&["restore", name, "--object", "--to-stdout", "--from", &lab.file_store()]);
    for cipher in ["CAST5", "3DES", "IDEA", "TWOFISH", "CAMELLIA256"] {
        seal(&format!("--cipher-algo {cipher}"), cipher);
        assert_eq!(restore(cipher).expect(0).stdout, b"old and dear\n", "{cipher}");
    }
    for (options, name, words) in [
        ("--compress-algo bzip2 -z 6", "bzip2.gpg", "BZip2"),
        ("--rfc2440 --cipher-algo CAST5", "nomdc.gpg", "MDC"),
        ("--cipher-algo BLOWFISH", "blowfish.gpg", "Blowfish"),
    ] {
        seal(options, name);
        restore(name).expect_error(1, words).hint("gpg -d FILE | sealift restore --object - ");
        let by_gpg = format!("{gpg} --ignore-mdc-error -d store/{name} | $S restore --object - --to-stdout");
        assert_eq!(shell(&lab, "", &by_gpg).expect(0).stdout, b"old and dear\n", "{name}");
    }
}

#[test]
fn a_message_of_gpg_that_was_cut_anywhere_is_damaged() {
    let lab = Lab::new();
    std::fs::create_dir_all(lab.path("store")).expect("a store");
    let gpg = "mkdir -p -m 700 g; echo hello | gpg --homedir g --batch --quiet --pinentry-mode loopback \
               --passphrase-file passphrase --s2k-mode 1 -o whole -c";
    shell(&lab, "", gpg).expect(0);
    let whole = std::fs::read(lab.path("whole")).expect("a message");
    let restore = || lab.run(&["restore", "cut", "--object", "--to-stdout", "--from", &lab.file_store()]);
    // From the first byte on behind which a wrong passphrase is told from the right one.
    for cut in (36..whole.len()).step_by(3) {
        lab.write("store/cut", &whole[..cut]);
        restore().expect_error(13, "");
    }
    lab.write("store/cut", &whole);
    assert_eq!(restore().expect(0).stdout, b"hello\n");
    // The same from a pipe.
    let ended =
        feed(lab.sealift().args(["restore", "--object", "-", "--to-stdout"]), &whole[..whole.len() - 9]);
    ended.expect_error(13, "");
}

#[test]
fn nonsense_in_the_environment_is_an_error_of_ours() {
    let lab = Lab::new();
    let list = |set: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sealift"));
        command.current_dir(&lab.dir).env_remove("AWS_ENDPOINT_URL_S3");
        command.env("AWS_ACCESS_KEY_ID", "k").env("AWS_SECRET_ACCESS_KEY", "s").envs(set.iter().copied());
        Ended::from(command.args(["list", "--from", "s3://b"]).output().expect("sealift runs"))
    };
    for endpoint in ["s3.example.test:9000", "", "http://127.0.0.1:1 ", "http://a\nb", "//x"] {
        list(&[("AWS_ENDPOINT_URL", endpoint)]).expect_error(2, "AWS_ENDPOINT_URL ");
    }
    let local = ("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    let ended = list(&[local, ("AWS_ACCESS_KEY_ID", "a\n")]).expect_error(2, "AWS_ACCESS_KEY_ID has");
    assert!(!ended.stderr.contains("a\n\""), "{}", ended.stderr);
    list(&[local, ("AWS_CA_BUNDLE", "/none.pem")]).expect_error(2, "cannot read /none.pem");
}
