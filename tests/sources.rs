//! What the operator named is what is stored, whatever the environment, the tar in PATH or the place of the store is.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use crate::support::{Ended, Lab, sh, until};

/// Names of the members of the job's newest archive.
#[track_caller]
fn members(lab: &Lab, store: &str) -> Vec<String> {
    let listed = lab.run(&["ls", "j", "--no-encrypt", "--from", store, "--quiet"]).expect(0).text();
    listed.lines().map(String::from).collect()
}

#[track_caller]
fn backup(lab: &Lab, words: &[&str]) -> Ended {
    lab.run(
        &[
            &[
                "backup",
                "path",
                "--job",
                "j",
                "--no-encrypt",
                "--quiet",
                "--warn-ok",
                "source",
                "--to",
                &lab.file_store(),
            ],
            words,
        ]
        .concat(),
    )
}

/// A script in place of tar.
fn tar_that(lab: &Lab, script: &str) -> String {
    std::fs::create_dir(lab.path("bin")).expect("a folder");
    let tar = lab.write("bin/tar", format!("#!/bin/sh\n{script}\n").as_bytes());
    std::fs::set_permissions(&tar, std::fs::Permissions::from_mode(0o755)).expect("a program");
    format!("{}:{}", lab.path("bin").display(), std::env::var("PATH").expect("a PATH"))
}

#[test]
fn a_root_that_is_a_link_is_followed_and_can_be_restored_under_its_name() {
    let lab = Lab::new();
    sh(&format!(
        "cd {}; mkdir -p real/sub; echo data > real/sub/f; ln -s sub/f real/l; ln -s real link",
        lab.dir.display()
    ));
    backup(&lab, &["link"]).expect(0);
    assert_eq!(members(&lab, &lab.file_store()), ["link/", "link/l", "link/sub/", "link/sub/f"]);
    lab.run(&["restore", "j", "--no-encrypt", "--to-path", "out", "--from", &lab.file_store()]).expect(0);
    assert_eq!(std::fs::read(lab.path("out/link/l")).expect("the link leads there"), b"data\n");
    // Absolute, and a file.
    std::fs::write(lab.path("file"), "x").expect("a file");
    sh(&format!("cd {}; ln -s file flink", lab.dir.display()));
    let absolute = lab.path("flink").display().to_string();
    backup(&lab, &[&absolute]).expect(0);
    assert_eq!(members(&lab, &lab.file_store()), [absolute.trim_start_matches('/')]);
    sh(&format!("ln -s /no/such/place {}/dangling", lab.dir.display()));
    backup(&lab, &["dangling"]).expect_error(1, "cannot read dangling");
}

#[test]
fn what_is_left_out_is_what_a_restore_would_leave_out() {
    let lab = Lab::new();
    sh(&format!(
        "cd {}; mkdir -p d/cache d/a/cache d/tagged; echo x > d/cache/f; echo x > d/a/cache/f; echo x > d/a/x.log; echo x > d/keep; \
         echo 'Signature: 8a477f597d28d172789f06886806bc55' > d/tagged/CACHEDIR.TAG; echo x > d/tagged/big",
        lab.dir.display()
    ));
    backup(&lab, &["d"]).expect(0);
    lab.run(&[
        "restore",
        "--no-encrypt",
        "j",
        "--exclude",
        "*/cache",
        "--exclude",
        "*.log",
        "--to-path",
        "out",
        "--from",
        &lab.file_store(),
    ])
    .expect(0);
    lab.write("patterns", b"# caches\n*/cache\n");
    backup(&lab, &["d", "--exclude", "*.log", "--exclude-from", "patterns"]).expect(0);
    let restored = sh(&format!("cd {}/out; find d | LC_ALL=C sort", lab.dir.display()));
    let mut kept: Vec<_> =
        members(&lab, &lab.file_store()).iter().map(|name| name.trim_end_matches('/').to_string()).collect();
    kept.sort();
    assert_eq!(kept, restored.lines().collect::<Vec<_>>());
    assert!(kept.contains(&"d/keep".to_string()) && !kept.contains(&"d/cache".to_string()), "{kept:?}");
    backup(&lab, &["d", "--exclude-caches"]).expect(0);
    let kept = members(&lab, &lab.file_store());
    assert!(
        kept.contains(&"d/tagged/CACHEDIR.TAG".into()) && !kept.contains(&"d/tagged/big".into()),
        "{kept:?}"
    );
    backup(&lab, &["d", "--exclude", "d"]).expect_error(2, "leaves all of d out");
}

#[test]
fn a_store_in_the_source_is_left_out_and_said_whatever_path_leads_there() {
    let lab = Lab::new();
    sh(&format!("cd {}; mkdir -p d/store; echo x > d/f; ln -s d link", lab.dir.display()));
    let store = format!("file://{}", lab.path("d/store").display());
    for root in ["d", "link", "d"] {
        let words = ["backup", "path", root, "--job", "j", "--no-encrypt", "--to", &store];
        let ended = lab.run(&words).expect(0);
        assert!(ended.stderr.contains("is where this backup is stored: it is left out"), "{}", ended.stderr);
        assert_eq!(members(&lab, &store), [format!("{root}/"), format!("{root}/f")]);
    }
    lab.run(&[
        "backup",
        "path",
        "d/store",
        "--job",
        "j",
        "--no-encrypt",
        "--warn-ok",
        "source",
        "--to",
        &store,
    ])
    .expect_error(2, "d/store is where this backup is stored");
    // The store is a bind mount below the source, under another name there.
    let script = format!(
        "cd {0}; mkdir -p e/mnt far; echo x > e/f; mount --bind far e/mnt && \
         {1} backup path e --job j --no-encrypt --quiet --to file://{0}/far && \
         {1} backup path e --job j --no-encrypt --quiet --to file://{0}/far",
        lab.dir.display(),
        env!("CARGO_BIN_EXE_sealift")
    );
    if sh("id -u").trim() == "0"
        && Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|s| s.success())
    {
        let ended = Command::new("unshare").args(["-m", "sh", "-c", &script]).output().expect("unshare runs");
        Ended::from(ended).expect(0);
        assert_eq!(members(&lab, &format!("file://{}/far", lab.dir.display())), ["e/", "e/f"]);
    }
}

#[test]
fn a_stores_folder_is_made_only_where_that_was_asked_for() {
    let lab = Lab::new();
    lab.write("f", b"x");
    let store = format!("file://{}", lab.path("unmounted").display());
    let words = ["backup", "path", "f", "--job", "j", "--no-encrypt", "--quiet", "--to", &store];
    lab.run(&words).expect_error(1, "there is no folder").hint("--make-store");
    assert!(!lab.path("unmounted").exists());
    lab.run(&[&words[..], &["--make-store"]].concat()).expect(0);
    lab.run(&words).expect(0);
    assert_eq!(sh(&format!("stat -c %a {}", lab.path("unmounted").display())).trim(), "700");
}

#[test]
fn the_environment_steers_no_child_in_either_direction() {
    let lab = Lab::new();
    sh(&format!("cd {}; mkdir d; echo k > d/keep; echo l > d/app.log", lab.dir.display()));
    let run = |words: &[&str]| {
        let mut command = lab.sealift();
        command.env("TAR_OPTIONS", "--exclude=*.log").env("POSIXLY_CORRECT", "1").env("TAPE", "/dev/null");
        command.env("LC_ALL", "C.UTF-8").env("QUOTING_STYLE", "shell").args(words);
        Ended::from(command.output().expect("sealift runs")).expect(0)
    };
    let store = lab.file_store();
    run(&["backup", "path", "d", "--job", "j", "--no-encrypt", "--quiet", "--to", &store]);
    assert_eq!(members(&lab, &store).len(), 3);
    run(&["restore", "j", "--no-encrypt", "--to-path", "out", "--from", &store]);
    assert!(lab.path("out/d/app.log").exists());
}

#[test]
fn a_tar_that_is_not_gnu_tar_is_named_before_it_starts() {
    let lab = Lab::new();
    lab.write("f", b"x");
    backup(&lab, &["f"]).expect(0);
    let path = tar_that(&lab, "echo \"$*\" >> ../asked; echo 'bsdtar 3.7.2 - libarchive 3.7.2'");
    let store = lab.file_store();
    for words in [
        &["backup", "path", "f", "--job", "j", "--no-encrypt", "--to", &store][..],
        &["restore", "j", "--no-encrypt", "--to-path", "out", "--from", &store],
    ] {
        let ended = Ended::from(lab.sealift().env("PATH", &path).args(words).output().expect("sealift runs"));
        let ended = ended.expect_error(1, "the tar in PATH is not GNU tar: bsdtar 3.7.2");
        assert!(!ended.stderr.contains("--allow-empty"), "{}", ended.stderr);
    }
    assert_eq!(lab.list(&store).len(), 1);
    assert!(!lab.path("out").exists(), "nothing was begun");
}

#[test]
fn more_than_a_hundred_changed_files_and_a_socket_are_still_only_changed_files() {
    let lab = Lab::new();
    lab.write("f", b"x");
    let script = "case $1 in --version) exec /usr/bin/tar --version;; esac\n/usr/bin/tar \"$@\"\n\
                  for i in $(seq 1 120); do echo \"tar: f$i: file changed as we read it\" >&2; done\n\
                  echo 'tar: run/s: socket ignored' >&2; exit 1";
    let path = tar_that(&lab, script);
    let store = lab.file_store();
    let words = ["backup", "path", "f", "--job", "j", "--no-encrypt", "--to", &store];
    let run = |more: &[&str]| {
        let words = [&words[..], more].concat();
        Ended::from(lab.sealift().env("PATH", &path).args(words).output().expect("sealift runs"))
    };
    let ended = run(&["--warn-ok", "changed"]).expect(0);
    assert!(ended.stderr.contains("run/s is a socket"), "{}", ended.stderr);
    let ended = run(&[]).expect(3);
    assert!(ended.stderr.contains("and 20 more files that changed"), "{}", ended.stderr);
}

#[test]
fn a_file_that_shrank_is_named_and_is_no_file_that_merely_changed() {
    let lab = Lab::new();
    // Tar looks at a file's size, then waits for whoever reads from it: two pipes' worth must pass before the file ends.
    lab.write("big", &vec![7; 60_000_000]);
    let mut command = lab.sealift();
    command.args(["backup", "path", "big", "--job", "j", "--no-encrypt", "--quiet", "--limit-rate", "8MiB"]);
    command.args(["--compress", "none", "--part-size", "1MiB", "--memory", "160MiB"]);
    command.args(["--warn-ok", "changed", "--to", &lab.file_store()]).stderr(Stdio::piped());
    let child = command.spawn().expect("sealift runs");
    std::thread::sleep(std::time::Duration::from_millis(700));
    sh(&format!("truncate -s 1000 {}/big", lab.dir.display()));
    let ended = Ended::from(child.wait_with_output().expect("sealift ends")).expect(3);
    assert!(ended.stderr.contains("big: File shrank by"), "{}", ended.stderr);
}

#[test]
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    let lab = Lab::new();
    let store = lab.file_store();
    let sealift = env!("CARGO_BIN_EXE_sealift");
    for (trap, code) in [("trap '' HUP", 0), ("true", 130)] {
        let script = format!("{trap}; exec {sealift} backup stdin --job j --no-encrypt --quiet --to {store}");
        let mut command = Command::new("sh");
        let mut child = command
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("sh runs");
        let status = format!("/proc/{}/status", child.id());
        // Its handlers are there.
        until("a handler for SIGTERM", || {
            let status = std::fs::read_to_string(&status).unwrap_or_default();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or_default();
            u64::from_str_radix(caught.trim(), 16).is_ok_and(|mask| mask & (1 << 14) != 0)
        });
        sh(&format!("kill -HUP {}", child.id()));
        std::thread::sleep(std::time::Duration::from_millis(300));
        drop(child.stdin.take().map(|mut stdin| std::io::Write::write_all(&mut stdin, b"data")));
        Ended::from(child.wait_with_output().expect("it ends")).expect(code);
    }
}

#[test]
fn a_limit_on_a_files_size_fails_the_write_and_does_not_kill() {
    let lab = Lab::new();
    lab.write("big", &crate::support::noise(1, 3_000_000));
    let script = format!(
        "ulimit -f 1000; exec {} backup path big --job j --no-encrypt --quiet --retry-for 1s --to {}",
        env!("CARGO_BIN_EXE_sealift"),
        lab.file_store()
    );
    let output =
        Command::new("bash").args(["-c", &script]).current_dir(&lab.dir).output().expect("bash runs");
    Ended::from(output).expect_error(1, "File too large");
    assert_eq!(lab.list(&lab.file_store()), []);
}

#[test]
fn what_a_killed_run_left_is_gone_after_the_next() {
    let lab = Lab::new();
    lab.write("f", b"x");
    let id = "20261122T020000Z-1f2e3d4c";
    sh(&format!(
        "mkdir -p {0}/store/j; cd {0}/store/j; touch -d '2 hours ago' '{id}.tar.zst#1' '{id}.catalog.zst#1'",
        lab.dir.display()
    ));
    let words = ["backup", "path", "f", "--job", "j", "--no-encrypt", "--to", &lab.file_store()];
    let ended = lab.run(&words).expect(0);
    assert!(ended.stderr.contains("by a run that was killed: deleted"), "{}", ended.stderr);
    let left = sh(&format!("ls {}/store/j", lab.dir.display()));
    assert!(!left.contains('#') && left.lines().count() == 3, "{left}");
}

#[test]
fn what_would_fail_at_night_is_told_by_config_check() {
    let lab = Lab::new();
    lab.write(
        "sealift.toml",
        b"to = \"file:///x\"\n[jobs.a]\nsource = \"stdin\"\npassphrase_file = \"/no/such/pass\"\n",
    );
    let ended = lab.run(&["config", "check"]).expect_error(2, "1 problem");
    assert!(
        ended.text().contains("sealift.toml:4: [jobs.a] passphrase_file: cannot read /no/such/pass"),
        "{}",
        ended.text()
    );
}
