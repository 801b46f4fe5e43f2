//! `diff` finds every kind of difference, says nothing where there is none, and never leaves the folder.

use serde_json::Value;

use crate::support::{Ended, JOB, Lab, a_second_later, bare_member, noise, sh};

/// A tree with what a file system knows, below `t`.
fn tree(lab: &Lab) {
    sh(&format!(
        "cd {dir}; mkdir -p t/etc t/srv/{long} t/empty; seq 1 9 > t/etc/a.conf; seq 1 99 > t/srv/{long}/deep; \
         ln -s ../nowhere t/etc/soft; mkfifo t/fifo; ln t/etc/a.conf t/etc/hard; : > t/nothing; \
         truncate -s 3M t/sparse; printf end | dd of=t/sparse bs=1 seek=2000000 conv=notrunc status=none; \
         chown 1234:5678 t/etc/a.conf; chmod 2750 t/srv; printf x > $'t/\\xff'; \
         ln $'t/\\xff' t/of-odd; \
         touch -d '2001-02-03 04:05:06.123456789' t/srv/{long}/deep; touch -d '1965-01-01 00:00:00.5' t/old",
        dir = lab.dir.display(),
        long = "n".repeat(150),
    ));
    std::fs::write(lab.path("t/large"), noise(51, 9_000_000)).expect("a file");
}

fn backup(lab: &Lab) -> String {
    let store = lab.file_store();
    lab.run(&["backup", "path", "t", "--job", JOB, "--to", &store]).expect(0);
    a_second_later();
    format!("{JOB}@{}", lab.list(&store).pop().expect("an archive").1)
}

fn diff(lab: &Lab, words: &[&str]) -> Ended {
    lab.run(&[&["diff", "--from", &lab.file_store()], words].concat())
}

/// Nothing differs, and nothing is said.
#[track_caller]
fn same(ended: Ended) {
    let ended = ended.expect(0);
    assert_eq!((ended.text().as_str(), ended.stderr.as_str()), ("", ""));
}

/// The lines, and exit code 1 without an error.
#[track_caller]
fn lines(ended: Ended) -> Vec<String> {
    let ended = ended.expect(1);
    assert_eq!(ended.stderr, "", "differences are no failure");
    ended.text().lines().map(String::from).collect()
}

/// Each line is one of a name, and some words.
#[track_caller]
fn expect(lines: &[String], wanted: &[(&str, &str)]) {
    assert_eq!(lines.len(), wanted.len(), "{lines:#?}");
    for (line, (begin, words)) in lines.iter().zip(wanted) {
        assert!(line.starts_with(begin) && line.contains(words), "{begin:?} {words:?}: {line:?}");
    }
}

#[test]
fn two_archives() {
    let lab = Lab::new();
    tree(&lab);
    // Which of two names becomes the link is up to tar.
    std::fs::remove_file(lab.path("t/etc/hard")).expect("a hard link");
    let (first, again) = (backup(&lab), backup(&lab));
    same(diff(&lab, &[&first, &again]));
    same(diff(&lab, &[&first, &again, "--content"]));
    let size = |name: &str| std::fs::metadata(lab.path(name)).expect("a file").len();
    let (old, dir) = (size("t/etc/a.conf"), lab.dir.display());
    sh(&format!(
        "cd {dir}; rm t/fifo; echo more >> t/etc/a.conf; touch t/etc/new; chmod 0700 t/empty; \
         chown 7:8 t/nothing; ln -sfn elsewhere t/etc/soft; rm t/old; mkdir t/old; \
         cp -p t/large copy; printf X | dd of=t/large bs=1 seek=8500000 conv=notrunc status=none; \
         touch -r copy t/large; touch -r t/srv t/etc t"
    ));
    let second = backup(&lab);
    let found = lines(diff(&lab, &[&first, &second]));
    let changed = format!("size {old} → {}", old + 5);
    let wanted = [
        ("~ t (mtime ", "Z → "),
        ("~ t/empty (mode ", "0755 → 0700"),
        ("~ t/etc (mtime ", " → "),
        ("~ t/etc/a.conf (", changed.as_str()),
        ("+ t/etc/new", ""),
        ("~ t/etc/soft (link ../nowhere → elsewhere, mtime ", ""),
        ("- t/fifo", ""),
        ("~ t/nothing (uid 0 → 7, gid 0 → 8", ""),
        ("~ t/old (type file → dir)", ""),
    ];
    expect(&found, &wanted);
    // The other way round, some of it, and as JSON.
    expect(
        &lines(diff(&lab, &[&second, &first, "t/etc/new", "*fifo"])),
        &[("- t/etc/new", ""), ("+ t/fifo", "")],
    );
    let json = lines(diff(&lab, &[&first, &second, "t/etc/new", "t/empty", "--json"]));
    let json: Vec<Value> = json.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(
        json[0],
        serde_json::json!({"path": "t/empty", "change": "changed", "fields": {"mode": ["0755", "0700"]}})
    );
    assert_eq!(json[1], serde_json::json!({"path": "t/etc/new", "change": "added"}));
    // A content that changed under the same size and time is seen by who looks.
    same(diff(&lab, &[&first, &second, "t/large"]));
    expect(&lines(diff(&lab, &[&first, &second, "t/large", "--content"])), &[("~ t/large (content)", "")]);
}

#[test]
fn a_folder_that_was_restored_is_the_same_until_it_changes() {
    let lab = Lab::new();
    tree(&lab);
    backup(&lab);
    lab.run(&["restore", JOB, "--to-path", "back", "--from", &lab.file_store()]).expect(0);
    let folder = |more: &[&str]| diff(&lab, &[&[JOB, "--path", "back"], more].concat());
    same(folder(&[]));
    // Without the archive's folder above it, what lies beside is not its matter.
    sh(&format!("cd {}/back; mkdir beside; : > beside/x", lab.dir.display()));
    same(folder(&[]));
    for (harm, mend, wanted) in [
        (
            "printf X | dd of=t/large bs=1 seek=8500000 conv=notrunc status=none; touch -r ../t/large t/large",
            "cp -p ../t/large t/large",
            &[("~ t/large (content)", "")][..],
        ),
        ("chmod 0600 t/large", "chmod 0644 t/large", &[("~ t/large (mode 0644 → 0600)", "")]),
        ("chown 5:6 t/large", "chown 0:0 t/large", &[("~ t/large (uid 0 → 5, gid 0 → 6)", "")]),
        ("touch t/large", "touch -r ../t/large t/large", &[("~ t/large (mtime ", "")]),
        ("truncate -s 7 t/large", "cp -p ../t/large t/large", &[("~ t/large (size 9000000 → 7, mtime ", "")]),
        ("rm t/fifo", "cp -a ../t/fifo t", &[("~ t (mtime", ""), ("- t/fifo", "")]),
        (
            "mkdir -p t/more/a; : > t/more/a/b",
            "rm -r t/more",
            &[("~ t (mtime", ""), ("+ t/more", ""), ("+ t/more/a", ""), ("+ t/more/a/b", "")],
        ),
        (
            "ln -sfn other t/etc/soft; touch -h -r ../t/etc/soft t/etc/soft; touch -r ../t/etc t/etc",
            "ln -sfn ../nowhere t/etc/soft; touch -h -r ../t/etc/soft t/etc/soft",
            &[("~ t/etc/soft (link ../nowhere → other)", "")],
        ),
        (
            "rm t/nothing; mkdir t/nothing",
            "rmdir t/nothing; cp -p ../t/nothing t",
            &[("~ t (mtime", ""), ("~ t/nothing (type file → dir)", "")],
        ),
        ("chmod 0600 t/sparse", "chmod 0644 t/sparse", &[("~ t/sparse (mode 0644 → 0600)", "")]),
    ] {
        sh(&format!("cd {}/back; {harm}", lab.dir.display()));
        expect(&lines(folder(&[])), wanted);
        sh(&format!("cd {}/back; {mend}; touch -r ../t/etc t/etc; touch -r ../t t", lab.dir.display()));
        same(folder(&[]));
    }
    // A copy instead of a second name.
    sh(&format!("cd {}/back/t/etc; cp -p hard x; mv x hard; touch -r ../../../t/etc .", lab.dir.display()));
    let found = lines(folder(&[]));
    let one_of_both = [("~ t/etc/", "(link t/etc/")];
    expect(&found, &one_of_both);
    assert!(found[0].ends_with("→ none)"), "{found:?}");
    same(folder(&["t/srv", "t/large"]));
}

#[test]
fn a_folder_is_never_left() {
    let lab = Lab::new();
    let dir = lab.dir.display().to_string();
    // Outside lies exactly what the archive holds, behind a symlink: it would be the same if it were followed.
    sh(&format!("cd {dir}; mkdir -p t/sub; echo data > t/sub/file"));
    backup(&lab);
    lab.run(&["restore", JOB, "--to-path", "back", "--from", &lab.file_store()]).expect(0);
    sh(&format!("cd {dir}; rm -r back/t/sub; ln -s {dir}/t/sub back/t/sub; touch -r t back/t"));
    expect(
        &lines(diff(&lab, &[JOB, "--path", "back"])),
        &[("~ t/sub (type dir → symlink)", ""), ("- t/sub/file", "")],
    );
    // Nor by names.
    sh(&format!("cd {dir}; : > up; mkdir empty"));
    let tar = [
        bare_member(b"../up", b'0', ""),
        bare_member(b"/zz/up", b'0', ""),
        bare_member(b"link", b'1', "../up"),
        bare_member(b"clear\x1b[2J\n", b'0', ""),
        bare_member(b"\xff\xfe", b'0', ""),
        vec![0; 1024],
    ]
    .concat();
    lab.backup_stdin(&lab.file_store(), &tar, &[]).expect(0);
    let refused = "leads outside of the target)";
    expect(
        &lines(diff(&lab, &[JOB, "--path", "empty"])),
        &[
            ("! ../up (its name", refused),
            ("- clear\\u{1b}[2J\\n", ""),
            ("! link (it is a hard link", refused),
            // The slash before a name is taken off.
            ("- zz/up", ""),
            ("- \\xff\\xfe", ""),
        ],
    );
    let json = lines(diff(&lab, &[JOB, "--path", "empty", "--json"]));
    let last: Value = serde_json::from_str(json.last().expect("a line")).expect("JSON");
    assert_eq!((&last["change"], &last["path_hex"]), (&"removed".into(), &"fffe".into()));
}

#[test]
fn what_cannot_be_compared_is_an_error() {
    let lab = Lab::new();
    sh(&format!("cd {}; mkdir t; echo data > t/file", lab.dir.display()));
    let first = backup(&lab);
    diff(&lab, &[&first]).expect_error(2, "nothing to compare with").hint("--path");
    diff(&lab, &[&first, "--path", "nowhere"]).expect_error(1, "cannot open folder nowhere");
    diff(&lab, &[&first, "other"]).expect_error(10, "no archive of job other");
    let wrong = lab.write("wrong", b"wrong\n").display().to_string();
    diff(&lab, &[&first, &first, "--passphrase-file", &wrong]).expect_error(12, "does not open");
    // What is not confirmed is not compared.
    let object = sh(&format!("ls {}/store/{JOB}/*.tar.zst.gpg", lab.dir.display()));
    let mut bytes = std::fs::read(object.trim()).expect("the object");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(object.trim(), bytes).expect("the object");
    let ended = diff(&lab, &[&first, "--path", "."]).expect_error(13, "not what was sealed");
    assert!(ended.stdout.is_empty());
    lab.backup_stdin(&lab.file_store(), b"bytes", &["--format", "raw"]).expect(0);
    diff(&lab, &[&first, JOB]).expect_error(2, "is no tar");
}
