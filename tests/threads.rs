//! A full table of threads: an error of ours, and its code. Nothing panics, waits for ever or is left behind.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::{Ended, JOB, Lab, noise, sh};

/// A user whose threads are counted, and whom no other test has.
fn next_user() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    61_000 + std::process::id() % 1_000 * 4 + NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Runs the command as an ordinary user who may have so many threads and processes; one minute is for ever.
fn with_threads(lab: &Lab, user: u32, limit: u32, words: &[&str]) -> Ended {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=1", "60", "setpriv", "--clear-groups"]);
    command.args([format!("--reuid={user}"), format!("--regid={user}")]);
    command.args(["prlimit", &format!("--nproc={limit}:{limit}"), "./sealift"]).args(words);
    command.current_dir(&lab.dir);
    command.env("SEALIFT_PASSPHRASE_FILE", lab.path("passphrase"));
    Ended::from(command.output().expect("setpriv runs"))
}

/// A lab that belongs to the user, with a folder to back up and an archive of it.
fn lab_of(user: u32) -> (Lab, String) {
    let lab = Lab::new();
    lab.write("big", &noise(91, 9_000_000));
    sh(&format!(
        "cd {}; cp {} sealift; mkdir d; mv big d; chown -R {user} .",
        lab.dir.display(),
        env!("CARGO_BIN_EXE_sealift")
    ));
    let store = lab.file_store();
    with_threads(&lab, user, 1000, &["backup", "path", "d", "--job", JOB, "--to", &store, "--quiet"])
        .expect(0);
    (lab, store)
}

/// The command with every number of threads, from one to enough: it fails by saying so until it succeeds.
#[track_caller]
fn with_ever_more_threads(lab: &Lab, user: u32, words: &[&str], done: &[i32], mut look: impl FnMut(&Ended)) {
    // A worker a processor, eight more, the tests' own, tar and what each stage has.
    let enough = 40 + 2 * std::thread::available_parallelism().map_or(1, usize::from);
    for limit in 1..=enough {
        let ended = with_threads(lab, user, limit as u32, words);
        let about = format!("{words:?} with {limit}: exit code {}, {}", ended.code, ended.stderr);
        assert!(!ended.stderr.contains("panicked"), "{about}");
        look(&ended);
        if done.contains(&ended.code) {
            assert!(limit > 3, "{about}");
            return;
        }
        assert_eq!(ended.code, 1, "{about}");
        assert!(ended.stderr.contains("Resource temporarily unavailable"), "{about}");
        assert!(ended.stderr.contains("hint: raise the limit"), "{about}");
    }
    panic!("{words:?}: {enough} are not enough");
}

#[test]
fn a_backup_that_gets_no_more_threads_fails_and_leaves_nothing() {
    let user = next_user();
    let (lab, store) = lab_of(user);
    let objects = || {
        sh(&format!(
            "find {}/store -type f ! -name '*.failed.json' ! -name '*.running-*' | wc -l",
            lab.dir.display()
        ))
    };
    let before = objects();
    with_ever_more_threads(
        &lab,
        user,
        &["backup", "path", "d", "--job", JOB, "--to", &store, "--quiet"],
        &[0],
        |ended| assert_eq!(objects() == before, ended.code != 0, "exit code {}", ended.code),
    );
}

#[test]
fn what_reads_an_archive_without_enough_threads_fails_and_does_not_wait() {
    let user = next_user();
    let (lab, store) = lab_of(user);
    let words: [&[&str]; 4] = [
        &["restore", JOB, "--to-stdout", "--quiet", "--from", &store],
        // Its owner is root, which an ordinary user cannot give files to.
        &["restore", JOB, "--to-path", "out", "--overwrite", "--quiet", "--from", &store],
        &["verify", JOB, "--quiet", "--from", &store],
        &["list", "--from", &store],
    ];
    for words in words {
        with_ever_more_threads(&lab, user, words, &[0, 3], |ended| {
            assert!(
                ended.code != 0
                    || words[0] != "restore"
                    || words[2] != "--to-stdout"
                    || !ended.stdout.is_empty()
            );
        });
    }
}
