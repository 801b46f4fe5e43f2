//! Whatever reads an increment finds what it needs in older archives; what it does not find is named, and nothing else is
//! lost.

use std::path::PathBuf;

use crate::needs;
use crate::support::{Lab, sh};

/// Longer than a file's times must lie before a backup for the next one to trust them.
fn settle() {
    std::thread::sleep(std::time::Duration::from_millis(3_100));
}

fn in_source(lab: &Lab, script: &str) {
    sh(&format!("mkdir -p {0}/s && cd {0}/s && {script}", lab.dir.display()));
    settle();
}

/// Backs the source up, and returns the archive's id.
#[track_caller]
fn night(lab: &Lab) -> String {
    let store = lab.file_store();
    lab.run(&["backup", "path", "s", "--job", "j", "--incremental", "--to", &store]).expect(0);
    lab.list(&store).pop().expect("an archive").1
}

/// Three nights: what is of the first alone, what each adds, and what becomes another kind of file.
fn three_nights(lab: &Lab) -> [String; 3] {
    in_source(
        lab,
        "mkdir -p d/sub kind/below empty; for i in $(seq 30); do head -c 200000 /dev/urandom > d/f$i; done; \
         ln d/f3 d/third; echo old > kind/below/x; echo y > file; echo a > $'d/\\xff'; ln -s d link; echo gone > gone; \
         mkdir $'d/\\xfe'; chmod 711 d/sub; setfattr -n user.a -v b d/f2 || :",
    );
    let first = night(lab);
    in_source(
        lab,
        "rm -r kind; echo now a file > kind; rm file; mkdir file; echo in > file/in; echo more >> d/f5; echo 2 > second; \
         rm link; ln -s d/sub link; rm gone; rmdir empty; chmod 600 d/f9",
    );
    let second = night(lab);
    in_source(lab, "rm kind; mkdir kind; echo again > kind/x; echo more >> d/f6; rm d/f7; ln d/f8 d/eighth");
    [first, second, night(lab)]
}

/// Every file below a folder, with what a restore brings back.
fn listing(dir: PathBuf) -> String {
    sh(&format!(
        r"cd {} && find s -printf '%p %y %m %n %s %T@ %l\n' | LC_ALL=C sort; cd {0}; find s -type f -print0 | LC_ALL=C sort -z |
          xargs -0 sha256sum",
        dir.display()
    ))
}

#[track_caller]
fn is_the_source(lab: &Lab, out: &str) {
    let (restored, source) = (listing(lab.path(out)), listing(lab.dir.clone()));
    let differ: Vec<_> = restored.lines().zip(source.lines()).filter(|(a, b)| a != b).collect();
    assert!(restored == source, "{differ:?}");
}

#[test]
fn an_increment_comes_back_by_the_script_that_show_prints() {
    needs!("gpg");
    let lab = Lab::new();
    three_nights(&lab);
    // Folders enough for several command lines, each with a time of its own.
    in_source(
        &lab,
        "name=$(printf 'n%.0s' $(seq 150)); for i in $(seq 1100); do at=many/$((i / 20)); mkdir -p $at/$name$i; touch -d @$i $at/$name$i; done",
    );
    night(&lab);
    let shown = lab.run(&["show", "j", "--json", "--from", &lab.file_store()]).expect(0).text();
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    lab.write("script", shown["by_hand"].as_str().expect("a script").as_bytes());
    // No gpg asks for a passphrase here.
    let _ = lab.gpg();
    sh(&format!(
        "cd {0}; mkdir bin; printf '#!/bin/sh\\nexec /usr/bin/gpg --batch -q --pinentry-mode loopback --passphrase-file \
         {0}/passphrase \"$@\"\\n' > bin/gpg; chmod +x bin/gpg; cd store/j; \
         GNUPGHOME={0}/gnupg PATH={0}/bin:/usr/bin:/bin bash {0}/script {0}/out",
        lab.dir.display()
    ));
    is_the_source(&lab, "out");
}

#[test]
fn all_of_an_increment_comes_back_and_some_of_it_with_what_that_needs() {
    let lab = Lab::new();
    let store = lab.file_store();
    let [first, second, _] = three_nights(&lab);
    let restore = |name: &str, to: &str, more: &[&str]| {
        let words = ["restore", name, "--to-path", to, "--from", &store];
        lab.run(&[&words[..], more].concat())
    };
    restore("j", "whole", &[]).expect(0);
    is_the_source(&lab, "whole");
    let tar = lab.run(&["restore", "j", "--to-stdout", "--from", &store]).expect(0).stdout;
    lab.write("tar", &tar);
    sh(&format!(
        "cd {}; mkdir stdout; tar -x -p --delay-directory-restore -C stdout < tar",
        lab.dir.display()
    ));
    is_the_source(&lab, "stdout");
    // The nights before are as they were.
    restore(&format!("j@{first}"), "first", &[]).expect(0);
    let kinds =
        |out: &str| sh(&format!("cd {}/{out}/s; stat -c %F kind file; cat kind || :", lab.dir.display()));
    assert_eq!(kinds("first"), "directory\nregular file\n");
    restore(&format!("j@{second}"), "second", &[]).expect(0);
    assert_eq!(kinds("second"), "regular file\ndirectory\nnow a file\n");

    restore("j", "some", &["--include", "s/d/third", "--include", "s/d/f6", "--include", "s/kind"]).expect(0);
    let found = sh(&format!("cd {}/some; find s -printf '%p %n\\n' | sort", lab.dir.display()));
    assert_eq!(found, "s 4\ns/d 2\ns/d/f3 2\ns/d/f6 1\ns/d/third 2\ns/kind 2\ns/kind/x 1\n");
    sh(&format!("cd {}; cmp some/s/d/third s/d/f3; cmp some/s/d/f6 s/d/f6", lab.dir.display()));
    restore("j", "others", &["--exclude", "s/d"]).expect(0);
    let found = sh(&format!("cd {}/others; find s | sort | tr '\\n' ' '", lab.dir.display()));
    assert_eq!(found, "s s/file s/file/in s/kind s/kind/x s/link s/second ");
    for name in ["s/d/f1", "s/d/third", "s/d/f5", "s/d/f6", "s/d/eighth", "s/second"] {
        let printed = lab.run(&["cat", "j", name, "--from", &store]).expect(0).stdout;
        assert!(printed == std::fs::read(lab.path(name)).expect("the source"), "{name}");
    }
    let listed = lab.run(&["ls", "j", "--from", &store]).expect(0).text();
    let names = sh(&format!("cd {}; find s | wc -l", lab.dir.display()));
    assert_eq!(listed.lines().count().to_string(), names.trim());
}

/// The names in an error's text, between `: ` and what comes after.
fn named<'a>(stderr: &'a str, after: &str) -> Vec<&'a str> {
    let error = stderr.lines().find(|line| line.starts_with("error: ")).expect("an error");
    let names = error.split_once(after).expect(after).1.split_once(": ").expect("names").1;
    names.split(": ").next().unwrap_or_default().split(", ").collect()
}

#[test]
fn what_is_lost_with_an_older_archive_is_named_and_nothing_else_is_lost() {
    let lab = Lab::new();
    let store = lab.file_store();
    let [_, second, _] = three_nights(&lab);
    let object = lab.path(&format!("store/j/{second}.tar.zst.gpg"));
    let good = std::fs::read(&object).expect("the object");
    // What the third night still has from the second one.
    let of_second = ["s/d/f5", "s/d/f9", "s/file/", "s/file/in", "s/link", "s/second"];
    let run = |words: &[&str]| lab.run(&[words, &["--from", &store]].concat());
    let is_named = |stderr: &str, after: &str, names: &[&str]| {
        let mut found = named(stderr, after);
        found.sort_unstable();
        assert_eq!(found, names, "{stderr}");
    };

    std::fs::remove_file(&object).expect("the object");
    let refused = run(&["restore", "j", "--to-path", "lost"]).expect_error(13, "are lost");
    is_named(&refused.stderr, "are lost", &of_second);
    assert!(!lab.path("lost").exists(), "nothing was begun");
    let refused = run(&["restore", "j", "--to-path", "lost", "--include", "s/second", "--include", "s/d/f1"]);
    is_named(&refused.expect(13).stderr, "are lost", &["s/second"]);
    run(&["cat", "j", "s/d/f5"]).expect_error(13, &second);
    run(&["cat", "j", "s/d/f1"]).expect(0);
    let without: Vec<_> = of_second.iter().flat_map(|name| ["--exclude", name]).collect();
    run(&[&["restore", "j", "--to-path", "others"], &without[..]].concat()).expect(0);
    assert!(lab.path("others/s/d/f1").exists() && !lab.path("others/s/second").exists());
    for level in [&[][..], &["--whole"], &["--sample", "5%"]] {
        let refused = run(&[&["verify", "j"], level].concat());
        is_named(&refused.expect(13).stderr, "are lost", &of_second);
    }
    for level in ["--manifest", "--stored"] {
        run(&["verify", "j", level]).expect_error(13, &second);
    }

    // A byte in the middle: all that lies in that frame.
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    std::fs::write(&object, &bad).expect("the object");
    run(&["verify", "j"]).expect(0);
    let refused = run(&["verify", "j", "--whole"]).expect(13);
    is_named(&refused.stderr, "are lost", &of_second);
    run(&["restore", "j", "--to-path", "damaged"]).expect_error(13, "is not what was sealed");
    std::fs::write(&object, &good).expect("the object");
    run(&["verify", "j", "--whole"]).expect(0);

    // In the encrypted session key, which plain tools need and an increment has in its own catalog.
    let mut bad = good.clone();
    bad[12] ^= 1;
    std::fs::write(&object, &bad).expect("the object");
    run(&["verify", "j"]).expect(0);
    run(&["verify", "j", "--whole"]).expect_error(13, "does not open by the passphrase");
    std::fs::write(&object, &good).expect("the object");
    run(&["verify", "j", "--whole"]).expect(0);

    // From its front only what it holds itself can be had, and that is said.
    let front = run(&["restore", "j", "--sequential", "--to-path", "front"]).expect(0);
    assert!(front.stderr.contains("2 older archives is not restored"), "{}", front.stderr);
    assert!(lab.path("front/s/kind/x").exists() && !lab.path("front/s/second").exists());

    // The next night reads again what is lost.
    std::fs::remove_file(&object).expect("the object");
    settle();
    lab.run(&["backup", "path", "s", "--job", "j", "--incremental", "--to", &store]).expect(3);
    run(&["verify", "j", "--whole"]).expect(0);
    run(&["restore", "j", "--to-path", "healed"]).expect(0);
    is_the_source(&lab, "healed");
}

#[test]
fn a_copy_brings_what_it_needs_each_object_once() {
    let lab = Lab::new();
    let store = lab.file_store();
    three_nights(&lab);
    let other = lab.new_store("other");
    let copied = lab.run(&["copy", "j", "--from", &store, "--to", &other]).expect(0);
    assert_eq!(copied.stderr.matches("copied j@").count(), 3, "{}", copied.stderr);
    assert_eq!(lab.list(&other), lab.list(&store));
    let again = lab.run(&["copy", "j", "--from", &store, "--to", &other]).expect(0);
    assert_eq!(again.stderr.matches("already").count(), 3, "{}", again.stderr);
    lab.run(&["verify", "j", "--whole", "--from", &other]).expect(0);
    lab.run(&["restore", "j", "--to-path", "out", "--from", &other]).expect(0);
    is_the_source(&lab, "out");
}

#[test]
fn two_increments_differ_by_what_changed_between_them() {
    let lab = Lab::new();
    let store = lab.file_store();
    let [first, second, third] = three_nights(&lab);
    let diff = |old: &str, new: &str, more: &[&str], code: i32| {
        let (old, new) = (format!("j@{old}"), format!("j@{new}"));
        let words = [&["diff", &old, &new, "--from", &store][..], more].concat();
        let lines = lab.run(&words).expect(code).text();
        lines.lines().map(|line| line.split(" (").next().unwrap_or_default().to_string()).collect::<Vec<_>>()
    };
    let mut found = diff(&second, &third, &[], 1);
    // Which of a file's names is the link is for the order of names to say.
    found.retain(|line| line != "~ s/d/f8" && line != "~ s");
    assert_eq!(found, ["~ s/d", "+ s/d/eighth", "~ s/d/f6", "- s/d/f7", "~ s/kind", "+ s/kind/x"]);
    assert_eq!(diff(&third, &third, &[], 0), [""; 0]);
    assert_eq!(diff(&first, &third, &["s/second", "s/d/f1"], 1), ["+ s/second"]);
    // Contents are compared where they may differ.
    let with_contents = diff(&second, &third, &["--content", "s/d"], 1);
    assert!(
        with_contents.contains(&"~ s/d/f6".to_string()) && !with_contents.contains(&"~ s/d/f1".to_string())
    );
    // Against the folder, as a restore would leave it.
    sh(&format!("cd {}; mkdir top; cp -a s top/s", lab.dir.display()));
    assert_eq!(lab.run(&["diff", "j", "--path", "top", "--from", &store]).expect(0).text(), "");
    sh(&format!(
        "cd {}/top/s/d; printf x | dd of=f1 bs=1 seek=1000 conv=notrunc; touch -r ../../../s/d/f1 f1",
        lab.dir.display()
    ));
    let text = lab.run(&["diff", "j", "--path", "top", "--from", &store]).expect(1).text();
    assert_eq!(text, "~ s/d/f1 (content)\n");
}

#[test]
fn what_is_damaged_is_named_the_rest_comes_back_and_the_next_night_reads_it_again() {
    let lab = Lab::new();
    let store = lab.file_store();
    let [first, second, third] = three_nights(&lab);
    let object = lab.path(&format!("store/j/{first}.tar.zst.gpg"));
    let mut bytes = std::fs::read(&object).expect("an archive");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&object, bytes).expect("written");

    // Its own frames are whole, and what it needs is looked at when that is asked for.
    lab.run(&["verify", "j", "--from", &store]).expect(0);
    let verified = lab.run(&["verify", "j", "--whole", "--from", &store]).expect(13);
    assert!(
        verified.stderr.contains("members that lie in") && verified.stderr.contains(&first),
        "{}",
        verified.stderr
    );
    let restore = |to: &str, more: &[&str]| {
        let words = ["restore", "j", "--to-path", to, "--from", &store];
        lab.run(&[&words[..], more].concat())
    };
    let failed = restore("all", &[]).expect(13);
    assert!(failed.stderr.contains("--skip-damaged"), "{}", failed.stderr);
    let partial = restore("some", &["--skip-damaged"]).expect(3);
    let named: Vec<_> =
        partial.stderr.lines().filter(|line| line.contains("is damaged and was left out")).collect();
    assert!(!named.is_empty(), "{}", partial.stderr);
    let restored = listing(lab.path("some"));
    for line in listing(lab.dir.clone()).lines() {
        let is_named = named
            .iter()
            .any(|named| line.split_whitespace().any(|word| named.contains(&format!(" {word} "))));
        assert!(is_named || restored.contains(line), "{line}");
    }

    let healed = lab.run(&["backup", "path", "s", "--job", "j", "--incremental", "--to", &store]).expect(3);
    assert!(healed.stderr.contains(&format!("j@{first} is not at")), "{}", healed.stderr);
    restore("healed", &[]).expect(0);
    is_the_source(&lab, "healed");
    let shown = lab.run(&["show", "j", "--json", "--from", &store]).expect(0).text();
    assert!(!shown.contains(&first) && shown.contains(&second) && shown.contains(&third), "{shown}");
}
