//! What other people's tars hold: our reading of them is the unpacker's, and what cannot be is refused with a reason.

use std::process::Command;

use crate::support::{Ended, JOB, Lab, bare_member, changed, extended, pax, sh, with_data};

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

/// Puts a tar that somebody else made into a lab's folder store.
fn put(lab: &Lab, key: &str, tar: &[u8]) {
    std::fs::create_dir_all(lab.path("store")).expect("the store's folder");
    lab.write(&format!("store/{key}"), tar);
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
fn what_ls_lists_is_what_is_unpacked_whatever_headers_follow_each_other() {
    let lab = Lab::new();
    let end = vec![0; 1024];
    let device = bare_member(b"dev", b'3', "");
    let tars = [
        // The second of two headers holds as a whole; so it is with global ones.
        [
            extended(b'x', &records(&[("path", "first"), ("uid", "7")])),
            extended(b'x', &pax("gid", "8")),
            bare_member(b"a", b'0', ""),
        ]
        .concat(),
        [
            extended(b'g', &records(&[("uid", "7")])),
            extended(b'g', &pax("gid", "8")),
            bare_member(b"a", b'0', ""),
            bare_member(b"b", b'0', ""),
        ]
        .concat(),
        // The oldest headers know a folder by its slash.
        [changed(bare_member(b"d/", 0, ""), |block| block[257..265].fill(0)), bare_member(b"d/f", 0, "")]
            .concat(),
        // What a dump folder holds is no header, nor is what a file holds.
        [with_data("d", b'D', &device), bare_member(b"d/f", b'0', "")].concat(),
        with_data("f", b'0', &device),
        // Links have no data, whatever they say.
        [
            bare_member(b"f", b'0', ""),
            changed(bare_member(b"l", b'1', "f"), |block| block[124..135].copy_from_slice(b"00000001000")),
            bare_member(b"g", b'0', ""),
        ]
        .concat(),
    ];
    for (n, tar) in tars.iter().enumerate() {
        let into = format!("out{n}");
        restored(&lab, &[tar, &end[..]].concat(), &into, &[]).expect(0);
        let store = lab.file_store();
        let listed = lab.run(&["ls", JOB, "--long", "--from", &store]).expect(0).text();
        let mut listed: Vec<_> = listed
            .lines()
            .map(|line| {
                let mut words = line.split_whitespace();
                let owner = words.nth(1).unwrap_or_default();
                let name =
                    line.split('Z').nth(1).unwrap_or_default().split(" -> ").next().unwrap_or_default();
                format!("{} {}", owner, name.trim().trim_end_matches('/'))
            })
            .collect();
        listed.sort();
        let there = sh(&format!(
            "cd {}/{into}; find . -mindepth 1 -not -type c -printf '%U:%G %P\\n' | sort",
            lab.dir.display()
        ));
        assert_eq!(listed.join("\n"), there.trim_end(), "tar {n}");
        assert_eq!(sh(&format!("cd {}/{into}; find . -type c -o -type b", lab.dir.display())), "", "tar {n}");
    }
}

#[test]
fn a_map_of_holes_that_takes_headers_for_data_is_refused() {
    let lab = Lab::new();
    let records = records(&[
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", "sparse"),
        ("GNU.sparse.realsize", "8192"),
    ]);
    let tar = [
        extended(b'x', &records),
        with_data("x", b'0', &[b"1\n0\n1024\n".to_vec(), vec![0; 502]].concat()),
        bare_member(b"a", b'0', ""),
        bare_member(b"b", b'0', ""),
        vec![0; 1024],
    ]
    .concat();
    put(&lab, "f.tar", &tar);
    let store = lab.file_store();
    let restore = |to: &[&str]| {
        let words = [&["restore", "f.tar", "--object", "--no-encrypt", "--from", &store], to].concat();
        lab.run(&words)
    };
    restore(&["--to-path", "out"]).expect_error(14, "its map of holes does not fit").hint("with GNU tar");
    // Who takes the bytes as they are may read it as he will.
    let ended = restore(&["--to-stdout"]).expect(3);
    assert!(ended.stdout == tar && ended.stderr.contains("map of holes"), "{}", ended.stderr);
}

#[test]
fn an_acl_is_set_by_its_numbers_not_by_names_of_this_host() {
    let lab = Lab::new();
    // The entry of user 4242, whom the other host called daemon.
    let mut kernel = vec![2, 0, 0, 0];
    for (tag, permissions, id) in
        [(1u8, 6u8, u32::MAX), (2, 4, 4242), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)]
    {
        kernel.extend([tag, 0, permissions, 0]);
        kernel.extend(id.to_le_bytes());
    }
    let key = "SCHILY.xattr.system.posix_acl_access";
    let mut record = format!("{} {key}=", key.len() + kernel.len() + 5).into_bytes();
    assert_eq!(record.len() + kernel.len() + 1, key.len() + kernel.len() + 5);
    record.extend([&kernel[..], b"\n"].concat());
    record
        .extend(pax("SCHILY.acl.access", "user::rw-\nuser:daemon:r--\ngroup::r--\nmask::r--\nother::---\n"));
    // star writes the number behind the permissions.
    let star = pax("SCHILY.acl.access", "user::rw-,user:daemon:r--:4243,group::r--,mask::r--,other::---");
    let tar = [
        extended(b'x', &record),
        bare_member(b"a", b'0', ""),
        extended(b'x', &star),
        bare_member(b"b", b'0', ""),
        vec![0; 1024],
    ]
    .concat();
    restored(&lab, &tar, "out", &[]).expect(0);
    for (name, id) in [("a", 4242u32), ("b", 4243)] {
        let acl = sh(&format!(
            "getfattr --absolute-names --only-values -n system.posix_acl_access {}/out/{name} | od -An -tx1 | tr -d ' \\n'",
            lab.dir.display()
        ));
        let wanted: String = id.to_le_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(acl.contains(&format!("02000400{wanted}")), "{name}: {acl}");
    }
}

#[test]
fn a_member_comes_with_the_folder_around_it_and_with_global_headers() {
    let lab = Lab::new();
    let folder = changed(bare_member(b"d/", b'5', ""), |block| block[100..107].copy_from_slice(b"0000700"));
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
fn what_a_hard_link_prints_and_brings_is_the_file_before_it() {
    let lab = Lab::new();
    // The first file's name is not UTF-8, and looks like the last one's in a program that guesses.
    let first = with_data("?", b'0', b"first");
    let first = changed(first, |block| block[0] = 0xff);
    let link = changed(bare_member(b"link", b'1', "?"), |block| block[157] = 0xff);
    let later = changed(with_data("?", b'0', b"again"), |block| block[0] = 0xff);
    let other = changed(with_data("?", b'0', b"other"), |block| block[0] = 0xfe);
    let tar = [first, other, link, later, vec![0; 1024]].concat();
    restored(&lab, &tar, "out", &[]).expect(0);
    let store = lab.file_store();
    for (name, text) in [("link", "first"), ("\\xff", "again"), ("\\xFE", "other")] {
        assert_eq!(lab.run(&["cat", JOB, name, "--from", &store]).expect(0).text(), text, "{name}");
    }
    let show = |into: &str| sh(&format!("cd {}/{into}; head -v * | cat -v", lab.dir.display()));
    assert!(show("out").contains("==> link <==\nfirst"), "{}", show("out"));
    again(&lab, "part", &["link"]).expect(0);
    assert_eq!(show("part"), "==> link <==\nfirst\n==> M-^? <==\nfirst");
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
    let restore = |key: &str, into: &str| {
        let store = lab.file_store();
        lab.run(&["restore", key, "--object", "--no-encrypt", "--to-path", into, "--from", &store])
    };
    let labelled =
        [bare_member(b"label", b'V', ""), bare_member(b"/abs/a", b'0', ""), vec![0; 1024]].concat();
    put(&lab, "label.tar", &labelled);
    restore("label.tar", "label").expect(0);
    assert_eq!(tree(&lab, "label").lines().map(|line| &line[line.len() - 3..]).next_back(), Some("s/a"));
    // No end, half an end, and a tar behind the end: read, and said.
    let endless = bare_member(b"a", b'0', "");
    for (name, tar) in [
        ("none", endless.clone()),
        ("half", [endless.clone(), vec![0; 512]].concat()),
        ("two", [endless.clone(), vec![0; 1024], endless.clone(), vec![0; 1024]].concat()),
        ("junk", [endless.clone(), vec![0; 512], vec![b'x'; 512]].concat()),
    ] {
        put(&lab, &format!("{name}.tar"), &tar);
        let ended = restore(&format!("{name}.tar"), name).expect(3);
        assert!(ended.stderr.contains("warning: "), "{}", ended.stderr);
        assert_eq!(tree(&lab, name), "f 644 0 a\n", "{name}");
    }
    // A file with holes, by star, which ends its numbers with blanks and counts the map as data.
    let star = changed(with_data("sparse", b'S', &[&[0; 512], &[b'x'; 512][..]].concat()), |block| {
        block[355] = 1;
        for n in 0..4 {
            let piece = format!("{:011o} {:011o} ", 16384 + n * 512, if n == 0 { 512 } else { 0 });
            block[356 + 24 * n..380 + 24 * n].copy_from_slice(piece.as_bytes());
        }
        block[452..464].copy_from_slice(b"00000100000 ");
        block[476..500].copy_from_slice(b"00000000000 00000000000 ");
    });
    // And a size with something behind it.
    let text =
        changed(with_data("text", b'0', b"text"), |block| block[124..136].copy_from_slice(b"00000004 and"));
    put(&lab, "star.tar", &[star, text, vec![0; 1024]].concat());
    restore("star.tar", "star").expect(0);
    let bytes = std::fs::read(lab.path("star/sparse")).expect("the file");
    let mut wanted = vec![0; 32768];
    wanted[16384..16896].fill(b'x');
    assert!(bytes == wanted && std::fs::read(lab.path("star/text")).expect("the file") == b"text");
    // Zeros that fill up a tape.
    sh(&format!(
        "cd {}/store; gzip -c label.tar > padded.tar.gz; head -c 9000 /dev/zero >> padded.tar.gz",
        lab.dir.display()
    ));
    restore("padded.tar.gz", "padded").expect(0);
    assert_eq!(tree(&lab, "padded"), tree(&lab, "label"));
}

/// Restores the tar `f.tar` of the store as user 65534 of a group.
fn restore_as_ordinary_user(lab: &Lab, group: u32, into: &str) -> Ended {
    // Neither the project's folder nor the test's own need be open to everybody.
    let dir = lab.dir.display();
    sh(&format!("cp {} {dir}/sealift; chmod -R a+rX {dir}", env!("CARGO_BIN_EXE_sealift")));
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", &format!("--regid={group}"), "--clear-groups", "./sealift"]);
    command.args(["restore", "f.tar", "--object", "--no-encrypt", "--overwrite", "--to-path", into]);
    command.args(["--from", &lab.file_store()]).current_dir(&lab.dir);
    Ended::from(command.output().expect("setpriv runs"))
}

#[test]
fn what_an_ordinary_user_cannot_set_is_said_once() {
    let lab = Lab::new();
    let tar = [bare_member(b"a", b'0', ""), bare_member(b"b", b'0', ""), vec![0; 1024]].concat();
    put(&lab, "f.tar", &tar);
    sh(&format!("cd {}; mkdir out; chown 65534 out", lab.dir.display()));
    let ended = restore_as_ordinary_user(&lab, 65534, "out").expect(3);
    assert!(ended.stderr.contains("owners of 2 members could not be set"), "{}", ended.stderr);
    assert_eq!(tree(&lab, "out"), "f 644 65534 a\nf 644 65534 b\n");
}

#[test]
fn attributes_that_cannot_be_set_are_said_and_contents_that_are_missing_fail() {
    let lab = Lab::new();
    let tar = [
        extended(b'x', &pax("SCHILY.xattr.trusted.a", "b")),
        bare_member(b"a", b'0', ""),
        bare_member(b"tar: b: Cannot utime: Operation not permitted", b'0', ""),
        vec![0; 1024],
    ]
    .concat();
    put(&lab, "f.tar", &tar);
    sh(&format!("cd {}; mkdir out full; chown 65534 out full", lab.dir.display()));
    let restore = |into: &str| restore_as_ordinary_user(&lab, 0, into);
    let ended = restore("out").expect(3);
    assert!(
        ended.stderr.contains("1 extended attributes or capabilities could not be set"),
        "{}",
        ended.stderr
    );
    // A folder stands where a file is to be: its name does not make its loss another one.
    sh(&format!(
        "cd {}/full; mkdir -p 'tar: b: Cannot utime: Operation not permitted/x'; chown -R 65534 .",
        lab.dir.display()
    ));
    restore("full").expect_error(1, "tar could not unpack everything");
}

#[test]
fn names_longer_than_a_path_may_be_are_said_at_backup_and_left_out_at_restore() {
    let lab = Lab::new();
    let long = "d/".repeat(2100) + "f";
    let tar = [
        extended(b'x', &pax("path", &long)),
        bare_member(b"f", b'0', ""),
        bare_member(b"a", b'0', ""),
        vec![0; 1024],
    ]
    .concat();
    let ended = lab.backup_stdin(&lab.file_store(), &tar, &["--format", "tar"]).expect(3);
    assert!(ended.stderr.contains("longer than a path may be"), "{}", ended.stderr);
    let ended = again(&lab, "out", &[]).expect(3);
    assert!(ended.stderr.contains("1 members are not restored"), "{}", ended.stderr);
    assert_eq!(tree(&lab, "out"), "f 644 0 a\n");
}
