//! What other people's tars hold: our reading of them is the unpacker's, and what cannot be is refused with a reason.

use std::process::Command;

use crate::support::{Ended, JOB, Lab, bare_member, extended, pax, sh};

/// Backs a tar up, and restores it, or what `include` names of it, into `into`.
fn restored(lab: &Lab, tar: &[u8], into: &str, include: &[&str]) -> Ended {
    lab.backup_stdin(&lab.file_store(), tar, &["--format", "tar"]).expect(0);
    again(lab, into, include)
}

/// Restores what was backed up last.
fn again(lab: &Lab, into: &str, include: &[&str]) -> Ended {
    let store = lab.file_store();
    let mut words = vec!["restore", JOB, "--to-path", into, "--overwrite", "--from", &store];
    include.iter().for_each(|name| words.extend(["--include", name]));
    lab.run(&words)
}

fn records(pairs: &[(&str, &str)]) -> Vec<u8> {
    pairs.iter().flat_map(|(key, value)| pax(key, value)).collect()
}

/// What lies in a folder of the lab: types, modes, owners, names.
fn tree(lab: &Lab, dir: &str) -> String {
    sh(&format!("cd {}/{dir}; find . -mindepth 1 -printf '%y %m %U %P\\n' | sort", lab.dir.display()))
}

#[test]
fn no_device_is_smuggled_behind_a_second_header() {
    let lab = Lab::new();
    let tar = [
        extended(b'x', &pax("size", "512")),
        extended(b'x', &pax("mtime", "1")),
        bare_member(b"a", b'0', ""),
        bare_member(b"dev", b'3', ""),
        vec![0; 1024],
    ]
    .concat();
    restored(&lab, &tar, "out", &[]).expect_error(14, "it is a device node").hint("--allow-devices");
    assert!(!lab.path("out").exists());
}

#[test]
fn a_member_comes_with_the_folder_around_it_and_with_global_headers() {
    let lab = Lab::new();
    let mut folder = bare_member(b"d/", b'5', "");
    folder[100..107].copy_from_slice(b"0000700");
    folder[148..156].fill(b' ');
    let sum: u32 = folder.iter().map(|&b| u32::from(b)).sum();
    folder[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    // The folder stands behind what lies in it, and in another member's way.
    let tar = [
        extended(b'g', &records(&[("uid", "1234")])),
        bare_member(b"d/x", b'0', ""),
        bare_member(b"d-e", b'0', ""),
        extended(b'x', &records(&[("uid", "77")])),
        folder,
        vec![0; 1024],
    ]
    .concat();
    sh(&format!("cd {}; mkdir outside t; ln -s ../outside t/d", lab.dir.display()));
    restored(&lab, &tar, "out", &["d/x"]).expect(0);
    assert_eq!(tree(&lab, "out"), "d 700 77 d\nf 644 1234 d/x\n");
    // A link that stands where the folder is to be is replaced, not followed.
    again(&lab, "t", &["d/x"]).expect(0);
    assert_eq!((tree(&lab, "t"), tree(&lab, "outside")), (tree(&lab, "out"), String::new()));
}

#[test]
fn nothing_goes_through_a_link_that_stands_in_the_target() {
    let lab = Lab::new();
    sh(&format!("cd {}; mkdir outside t; ln -s ../outside t/d", lab.dir.display()));
    // No member is the folder itself: nothing replaces the link.
    let tar = [bare_member(b"d/x", b'0', ""), vec![0; 1024]].concat();
    restored(&lab, &tar, "t", &[]).expect_error(14, "through the link d");
    again(&lab, "t", &["d/x"]).expect_error(14, "through the link d");
    assert_eq!(tree(&lab, "outside"), "");
}

#[test]
fn a_name_that_is_not_utf8_is_listed_printed_and_selected_by_one_spelling() {
    let lab = Lab::new();
    let tar = [bare_member(b"a\xff", b'0', ""), bare_member(b"a\xfe", b'0', ""), vec![0; 1024]].concat();
    restored(&lab, &tar, "out", &["a\\xff"]).expect(0);
    assert_eq!(sh(&format!("cd {}/out; ls -b", lab.dir.display())), "a\\377\n");
    let store = lab.file_store();
    assert_eq!(lab.run(&["ls", JOB, "--from", &store]).expect(0).text(), "a\\xff\na\\xfe\n");
    lab.run(&["cat", JOB, "a\\xfe", "--from", &store]).expect(0);
    lab.run(&["cat", JOB, "a\\xfd", "--from", &store]).expect_error(10, "there is no member");
}

#[test]
fn an_object_that_gnu_tar_reads_is_read() {
    let lab = Lab::new();
    sh(&format!("cd {}; mkdir -p store", lab.dir.display()));
    let restore = |key: &str, into: &str| {
        let store = lab.file_store();
        lab.run(&["restore", key, "--object", "--no-encrypt", "--to-path", into, "--from", &store])
    };
    let labelled =
        [bare_member(b"label", b'V', ""), bare_member(b"/abs/a", b'0', ""), vec![0; 1024]].concat();
    lab.write("store/label.tar", &labelled);
    restore("label.tar", "label").expect(0);
    assert_eq!(tree(&lab, "label").lines().map(|line| &line[line.len() - 3..]).last(), Some("s/a"));
    // No end, half an end, and a tar behind the end: read, and said.
    let endless = bare_member(b"a", b'0', "");
    for (name, tar) in [
        ("none", endless.clone()),
        ("half", [endless.clone(), vec![0; 512]].concat()),
        ("two", [endless.clone(), vec![0; 1024], endless.clone(), vec![0; 1024]].concat()),
    ] {
        lab.write(&format!("store/{name}.tar"), &tar);
        let ended = restore(&format!("{name}.tar"), name).expect(3);
        assert!(ended.stderr.contains("warning: "), "{}", ended.stderr);
        assert_eq!(tree(&lab, name), "f 644 0 a\n", "{name}");
    }
    // Zeros that fill up a tape.
    sh(&format!(
        "cd {}/store; gzip -c label.tar > padded.tar.gz; head -c 9000 /dev/zero >> padded.tar.gz",
        lab.dir.display()
    ));
    restore("padded.tar.gz", "padded").expect(0);
    assert_eq!(tree(&lab, "padded"), tree(&lab, "label"));
}

#[test]
fn what_an_ordinary_user_cannot_set_is_said_once() {
    let lab = Lab::new();
    let tar = [bare_member(b"a", b'0', ""), bare_member(b"b", b'0', ""), vec![0; 1024]].concat();
    sh(&format!("mkdir -p {}/store", lab.dir.display()));
    lab.write("store/f.tar", &tar);
    sh(&format!("cd {0}; mkdir out; chown 65534 out; chmod -R a+rX {0}; chmod a+x {0}", lab.dir.display()));
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid=65534",
        "--clear-groups",
        env!("CARGO_BIN_EXE_sealift"),
        "restore",
        "f.tar",
        "--object",
    ]);
    command.args(["--no-encrypt", "--to-path", "out", "--from", &lab.file_store()]).current_dir(&lab.dir);
    let ended = Ended::from(command.output().expect("setpriv runs")).expect(3);
    assert!(ended.stderr.contains("owners of 2 members could not be set"), "{}", ended.stderr);
    assert_eq!(tree(&lab, "out"), "f 644 65534 a\nf 644 65534 b\n");
}
