//! Increments that are interrupted, and sources that change, hide or are named so that a careless backup would go wrong.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::needs;
use crate::support::nights::{id, in_source, is_the_source, sealed, settle};
use crate::support::{AnyStore, Ended, Lab, sh, until};

const WORDS: [&str; 7] = ["backup", "path", "s", "--job", "j", "--json", "--incremental"];

#[track_caller]
fn night(lab: &Lab, to: &str, code: i32) -> Ended {
    lab.run(&[&WORDS[..], &["--to", to]].concat()).expect(code)
}

/// Starts a backup that is held up in the middle of what it sends.
fn start(lab: &Lab, to: &str, more: &[&str]) -> Child {
    let mut command = lab.sealift();
    command.args(WORDS).args(["--to", to]).args(more);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sealift runs")
}

#[track_caller]
fn end(child: Child) -> Ended {
    Ended::from(child.wait_with_output().expect("sealift ends"))
}

/// Interrupts a backup, which ends at once.
#[track_caller]
fn interrupt(child: Child) {
    let began = Instant::now();
    sh(&format!("kill -INT {}", child.id()));
    let ended = end(child).expect_error(130, "interrupted");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}: {}", began.elapsed(), ended.stderr);
}

#[track_caller]
fn restored(lab: &Lab, from: &str) {
    sh(&format!("rm -rf {}/out", lab.dir.display()));
    lab.run(&["restore", "j", "--to-path", "out", "--from", from]).expect(0);
    is_the_source(lab, "out");
}

/// Whether a thread of a process has this name.
fn has_thread(child: &Child, name: &str) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", child.id())).into_iter().flatten().flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
        .any(|it| it.trim_end() == name)
}

/// Whether a backup was seen while a thread of this name was at work; otherwise it has ended.
fn seen_at(child: &mut Child, thread: &str) -> bool {
    while child.try_wait().expect("the process").is_none() {
        if has_thread(child, thread) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

#[test]
fn a_scan_that_is_interrupted_leaves_nothing_and_the_next_night_is_an_increment() {
    let lab = Lab::new();
    let store = AnyStore::File(lab.path("store"));
    in_source(&lab, "for d in $(seq 40); do mkdir $d; (cd $d; seq 1000 | xargs touch); done");
    settle();
    let first = id(&sealed(&night(&lab, &store.url(), 0)));
    // A scan takes a tenth of a second, in which a busy machine may not run this test at all.
    let interrupted = (0..20).find_map(|_| {
        let names = store.names();
        let mut child = start(&lab, &store.url(), &[]);
        if seen_at(&mut child, "compare") {
            sh(&format!("kill -INT {}", child.id()));
        }
        let ended = end(child);
        (ended.code != 0).then_some((ended, names))
    });
    let (ended, names) = interrupted.expect("a scan that is seen before it is over");
    ended.expect_error(130, "interrupted");
    assert_eq!(store.names(), names);
    let next = sealed(&night(&lab, &store.url(), 0));
    assert!(next["kept"]["needs"].as_array().is_some_and(|needs| needs.contains(&json!(first))), "{next}");
}

#[test]
fn an_increment_that_is_interrupted_leaves_nothing_and_the_next_night_is_an_increment() {
    let lab = Lab::new();
    for store in AnyStore::all(&lab) {
        sh(&format!("rm -rf {}/s", lab.dir.display()));
        in_source(&lab, "for i in $(seq 20); do echo $i > f$i; done");
        settle();
        let first = id(&sealed(&night(&lab, &store.url(), 0)));
        let names = store.names();
        in_source(&lab, "head -c 80000000 /dev/urandom > new; echo more >> f1");
        settle();
        let child = start(&lab, &store.url(), &["--limit-rate", "5MiB"]);
        until("an upload is under way", || !store.unfinished().is_empty());
        interrupt(child);
        assert_eq!((store.names(), store.unfinished()), (names, Vec::new()), "at {}", store.url());
        let next = sealed(&night(&lab, &store.url(), 0));
        assert_eq!((&next["kept"]["needs"], &next["kept"]["entries"]), (&json!([first]), &Value::from(19)));
        restored(&lab, &store.url());
    }
}

#[test]
fn what_vanishes_between_the_scan_and_its_turn_is_a_warning_and_the_next_night_is_right() {
    let lab = Lab::new();
    let store = lab.file_store();
    in_source(&lab, "mkdir z; echo old > z/gone; echo old > z/stays; head -c 100000 /dev/urandom > z/kept");
    settle();
    let first = id(&sealed(&night(&lab, &store, 0)));
    // The one that comes first holds tar up, while the scan goes on.
    in_source(
        &lab,
        "head -c 80000000 /dev/urandom > a; echo new > z/gone; echo new > z/stays; ln -s a z/link",
    );
    settle();
    let child = start(&lab, &store, &["--limit-rate", "10MiB"]);
    until("the upload is under way", || !AnyStore::File(lab.path("store")).unfinished().is_empty());
    std::thread::sleep(Duration::from_millis(500));
    in_source(&lab, "rm z/gone z/link");
    let second = end(child).expect(3);
    let text = sealed(&second)["warnings"].to_string();
    assert!(text.contains("s/z/gone: File removed") && text.contains("s/z/link: File removed"), "{text}");
    let kept = sealed(&second)["kept"].clone();
    assert_eq!((&kept["needs"], &kept["entries"]), (&json!([first]), &Value::from(1)));
    let third = sealed(&night(&lab, &store, 0));
    assert_eq!(third["kept"]["needs"], json!([first, id(&sealed(&second))]));
    restored(&lab, &store);
}

/// Tar goes by paths, and comes later than the scan.
#[test]
fn a_folder_that_becomes_a_link_after_the_scan_leads_to_nothing_outside() {
    let lab = Lab::new();
    let store = AnyStore::File(lab.path("store"));
    sh(&format!("mkdir {0}/outside; echo secret > {0}/outside/x", lab.dir.display()));
    settle();
    let refused = |name: &str| {
        let names = store.names();
        // The file that comes first holds tar up, while the scan goes on.
        let child = start(&lab, &store.url(), &["--limit-rate", "10MiB"]);
        until("the upload is under way", || !store.unfinished().is_empty());
        std::thread::sleep(Duration::from_millis(500));
        in_source(&lab, "mv z away; ln -s ../outside z");
        end(child).expect_error(1, &format!("{name} is not what was found there"));
        assert_eq!(store.names(), names);
        in_source(&lab, "rm z; mv away z");
    };
    in_source(&lab, "mkdir z; echo found > z/x; head -c 80000000 /dev/urandom > a");
    refused("s/z");
    settle();
    night(&lab, &store.url(), 0);
    // The folder is as it was, and not read again.
    in_source(&lab, "echo more >> z/x; head -c 80000000 /dev/urandom > a");
    refused("s/z/x");
    night(&lab, &store.url(), 0);
    restored(&lab, &store.url());
}

/// Whoever puts a new release in the place of the old one does that at any time.
#[test]
fn a_folder_that_another_one_takes_the_place_of_after_the_scan_is_stored_as_it_is_then() {
    let lab = Lab::new();
    let store = AnyStore::File(lab.path("store"));
    in_source(&lab, "mkdir -p new/d z/d; echo old > z/d/x; echo new > new/d/x; touch -d @1000000000.5 */d/x");
    settle();
    night(&lab, &store.url(), 0);
    // The file that comes first holds tar up, and the one that is read in the place of z/d/x changed before that did.
    in_source(&lab, "echo more >> z/d/x; head -c 80000000 /dev/urandom > a");
    settle();
    let child = start(&lab, &store.url(), &["--limit-rate", "10MiB"]);
    until("the upload is under way", || !store.unfinished().is_empty());
    std::thread::sleep(Duration::from_millis(500));
    in_source(&lab, "mv z old; mv new z");
    let said = String::from_utf8(end(child).expect(0).stdout).expect("text");
    assert!(said.contains("s/z/d/x, or a folder above it, was replaced meanwhile"), "{said}");
    // What was kept of the tree is from before, and the next night has all of it as it is.
    night(&lab, &store.url(), 0);
    restored(&lab, &store.url());
}

#[test]
fn folders_that_become_links_and_links_that_become_folders_between_two_nights() {
    let lab = Lab::new();
    let store = lab.file_store();
    in_source(
        &lab,
        "mkdir -p d/sub e; echo a > d/a; echo b > d/sub/b; echo a > e/a; ln -s d l; echo x > x; ln x e/x; mkfifo pipe",
    );
    settle();
    night(&lab, &store, 0);
    restored(&lab, &store);
    // The same inodes, behind a link; and a link whose place a folder of the same names takes.
    in_source(&lab, "mv d moved; ln -s moved d; rm l; mkdir l; echo other > l/a; rm pipe; mkdir pipe");
    settle();
    night(&lab, &store, 0);
    restored(&lab, &store);
    lab.run(&["verify", "j", "--whole", "--from", &store]).expect(0);
    in_source(&lab, "rm d; mv moved d; rm -r l; ln -s /etc l; rmdir pipe; echo f > pipe");
    settle();
    night(&lab, &store, 0);
    restored(&lab, &store);
}

/// Every file's name is told in a way of its own on the way from the scan to tar, and from there into the catalog.
#[test]
fn names_that_mean_something_to_others() {
    needs!("gpg");
    let lab = Lab::new();
    let store = lab.file_store();
    in_source(
        &lab,
        r#"mkdir -- -C $'new\nline' '*' ' ' 'back\slash' '--to-command=x'; echo 1 > -T; echo 2 > $'new\nline/a\nb'
          echo 3 > '*/[a]?'; echo 4 > ' / '; echo 5 > 'back\slash/\101\n'; echo 6 > '--to-command=x/--'
          echo 7 > $'\xff\n\xfe'; echo 8 > '{"end":1}'; ln -- -T $'-T\n'; ln -s -- $'-T\n' $'\n'; echo 9 > $'a\r'; echo 0 > '#'"#,
    );
    settle();
    let first = id(&sealed(&night(&lab, &store, 0)));
    restored(&lab, &store);
    in_source(
        &lab,
        r"echo more >> $'new\nline/a\nb'; rm -- '*/[a]?'; echo more >> '--to-command=x/--'; rm $'\xff\n\xfe'
          mkdir $'\xff\n\xfe'; echo in > $'\xff\n\xfe/in'; rm $'\n'; mkdir $'\n'; echo > $'\n/\n'",
    );
    settle();
    let second = sealed(&night(&lab, &store, 0));
    assert_eq!(second["kept"]["needs"], json!([first]));
    restored(&lab, &store);

    let shown = lab.run(&["show", "j", "--json", "--from", &store]).expect(0).text();
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    lab.write("script", shown["by_hand"].as_str().expect("a script").as_bytes());
    // No gpg asks for a passphrase here.
    let _ = lab.gpg();
    sh(&format!(
        "cd {0}; mkdir bin; printf '#!/bin/sh\\nexec /usr/bin/gpg --batch -q --pinentry-mode loopback --passphrase-file \
         {0}/passphrase \"$@\"\\n' > bin/gpg; chmod +x bin/gpg; cd store/j; \
         GNUPGHOME={0}/gnupg PATH={0}/bin:/usr/bin:/bin bash {0}/script {0}/hand",
        lab.dir.display()
    ));
    is_the_source(&lab, "hand");
}

#[test]
fn a_source_whose_name_looks_like_an_option_is_told_in_increments_too() {
    let lab = Lab::new();
    let store = lab.file_store();
    let root = "--checkpoint-action=exec=sh x";
    sh(&format!("cd {}; mkdir -- '{root}'; echo a > './{root}/a'; touch './{root}/b'", lab.dir.display()));
    settle();
    let backup = || {
        let words = ["backup", "path", "--job", "j", "--json", "--incremental", "--to", &store, "--", root];
        sealed(&lab.run(&words).expect(0))
    };
    backup();
    sh(&format!("cd {}; echo more >> './{root}/a'", lab.dir.display()));
    settle();
    assert_eq!(backup()["kept"]["entries"], 2);
    lab.run(&["restore", "j", "--to-path", "out", "--from", &store]).expect(0);
    sh(&format!("cd {}; diff -r -- './{root}' 'out/{root}'", lab.dir.display()));
}

/// Runs a backup as an ordinary user.
#[track_caller]
fn as_user(lab: &Lab) -> Ended {
    sh(&format!(
        "cd {}; cp {} ./sealift; chmod 755 sealift; chmod 711 .",
        lab.dir.display(),
        env!("CARGO_BIN_EXE_sealift")
    ));
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "./sealift"]);
    command.args(WORDS).args(["--to", &lab.file_store()]).current_dir(&lab.dir).stdin(Stdio::null());
    command.env("SEALIFT_PASSPHRASE_FILE", lab.path("passphrase"));
    Ended::from(command.output().expect("setpriv runs"))
}

#[test]
fn what_an_ordinary_user_cannot_read_fails_the_night_and_nothing_is_listed() {
    let lab = Lab::new();
    let store = AnyStore::File(lab.path("store"));
    in_source(&lab, "mkdir d; echo a > d/a; echo b > b; chown -R 65534:65534 .");
    sh(&format!("cd {}; chmod 644 passphrase; chown 65534 store", lab.dir.display()));
    settle();
    as_user(&lab).expect(0);
    let names = store.names();
    // A file that is the same is not read, and one whose mode changed is not the same.
    in_source(&lab, "chown 0:0 b; chmod 600 b");
    settle();
    as_user(&lab).expect_error(1, "b: Cannot open: Permission denied").hint("every file must be readable");
    in_source(&lab, "chown 65534 b; chown 0:0 d; chmod 700 d");
    settle();
    as_user(&lab).expect_error(1, "s/d: ").hint("every file must be readable");
    assert_eq!(store.names(), names);
    in_source(&lab, "chown 65534 d");
    settle();
    let next = sealed(&as_user(&lab).expect(0));
    assert_eq!(next["kept"]["entries"], 2, "{next}");
    lab.run(&["verify", "j", "--whole", "--from", &store.url()]).expect(0);
}

#[test]
fn a_store_below_the_source_is_not_found_by_the_scan() {
    let lab = Lab::new();
    in_source(&lab, "mkdir store; echo a > a; echo b > b");
    let store = format!("file://{}", lab.path("s/store").display());
    settle();
    night(&lab, &store, 0);
    in_source(&lab, "echo more >> a");
    settle();
    let next = sealed(&night(&lab, &store, 0));
    // The folder itself, and `b`.
    assert_eq!(next["kept"]["entries"], 2, "{next}");
    let listed = lab.run(&["ls", "j", "--from", &store]).expect(0).text();
    assert!(listed.contains("s/a") && !listed.contains("s/store"), "{listed}");
}
