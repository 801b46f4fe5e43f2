//! The way back without a catalog: archives of ours from their front, and objects that others made.

use std::process::Command;

use crate::needs;
use crate::support::{
    AnyStore, Ended, JOB, Lab, bare_member, docker, extended, feed, noise, pax, sh, text, unique,
};

/// The archive object's file in a lab's folder store.
fn archive_file(lab: &Lab) -> String {
    sh(&format!("ls -t {}/store/{JOB}/*.gpg | grep -v catalog | head -n1", lab.dir.display())).trim().into()
}

fn lose_catalogs(lab: &Lab) {
    sh(&format!("rm {}/store/{JOB}/*.catalog.*", lab.dir.display()));
}

#[test]
fn an_archive_whose_catalog_is_lost_comes_back_when_that_is_asked_for() {
    let lab = Lab::new();
    let store = lab.file_store();
    // A gzip stream as a source must stay one: the layers taken off are those that were put on.
    let gzip = feed(Command::new("gzip").arg("-c"), &text(3_000_000)).expect(0).stdout;
    for (codec, input) in [
        ("zstd", [noise(21, 5_000_000), text(6_000_000)].concat()),
        ("gzip", text(6_000_000)),
        ("xz", text(3_000_000)),
        ("none", gzip),
        ("zstd", Vec::new()),
    ] {
        sh(&format!("rm -rf {}/store/{JOB}", lab.dir.display()));
        lab.backup_stdin(&store, &input, &["--compress", codec, "--allow-empty"]).expect(0);
        lose_catalogs(&lab);
        let refused = lab.run(&["restore", JOB, "--to-stdout", "--from", &store]);
        let refused = refused.expect_error(13, "has lost").hint("--sequential");
        assert!(refused.stdout.is_empty());
        let back = lab.run(&["restore", JOB, "--sequential", "--to-stdout", "--from", &store]).expect(0);
        assert!(back.stdout == input, "{codec}: {} bytes of {}", back.stdout.len(), input.len());
    }
    let words = ["restore", JOB, "--sequential", "--to-stdout", "--include", "x", "--from", &store];
    lab.run(&words).expect(2);
}

#[test]
fn damage_shows_at_the_end_at_the_latest() {
    let lab = Lab::new();
    let store = lab.file_store();
    let input = [noise(22, 3_000_000), text(3_000_000)].concat();
    lab.backup_stdin(&store, &input, &["--format", "raw"]).expect(0);
    lose_catalogs(&lab);
    let (path, good) = (archive_file(&lab), std::fs::read(archive_file(&lab)).expect("the archive"));
    let restore = || lab.run(&["restore", JOB, "--sequential", "--to-stdout", "--from", &store]);
    let places = (0..60).map(|i| 49 + (good.len() - 50) / 60 * i).chain((1..24).map(|i| good.len() - i));
    for place in places {
        let mut bad = good.clone();
        bad[place] ^= 0x20;
        std::fs::write(&path, bad).expect("the archive");
        let ended = restore();
        // The prefix cannot be told from a wrong passphrase.
        let prefix = place < 75 && ended.code == 12;
        assert!(ended.code == 13 || prefix, "byte {place}: exit {}: {}", ended.code, ended.stderr);
        assert!(
            ended.stdout.is_empty() || ended.stderr.contains("the target is incomplete"),
            "{}",
            ended.stderr
        );
    }
    std::fs::write(&path, &good[..good.len() / 2]).expect("the archive");
    restore().expect_error(13, "bytes where").hint("--object");
    std::fs::write(&path, &good).expect("the archive");
    assert!(restore().expect(0).stdout == input);
    lab.write("other", b"another passphrase");
    let words =
        ["restore", JOB, "--sequential", "--to-path", "new", "--passphrase-file", "other", "--from", &store];
    lab.run(&words).expect_error(12, "the passphrase does not open");
    assert!(!lab.path("new").exists());
}

/// Every way in which others pack a tar: a command, and whether it encrypts.
const PACKED: [(&str, bool); 13] = [
    ("cat", false),
    ("gzip", false),
    ("bzip2", false),
    ("xz", false),
    ("lz4 -c", false),
    ("zstd", false),
    ("split -b 1000003 --filter=gzip", false),
    ("split -b 1000003 --filter=zstd", false),
    ("$gpg", true),
    ("$gpg --armor", true),
    ("zstd | $gpg -z 0", true),
    ("gzip | $gpg --compress-algo none", true),
    ("$gpg | gzip", true),
];

#[test]
fn what_others_packed_is_unpacked() {
    let lab = Lab::new();
    let dir = lab.dir.display().to_string();
    lab.write("noise", &noise(23, 1_500_000));
    lab.write("text", &text(1_500_000));
    sh(&format!("cd {dir}; mkdir -m 700 gnupg; mkdir -p store/Old; tar -cf tar noise text"));
    let store = lab.file_store();
    let gpg = "gpg --homedir gnupg --batch --quiet --pinentry-mode loopback --passphrase-file passphrase --symmetric";
    for (i, (packed, encrypted)) in PACKED.iter().enumerate() {
        let key = format!("Old/dump {i}.tar");
        sh(&format!("cd {dir}; gpg='{gpg}'; cat tar | {} > 'store/{key}'", packed.replace("$gpg", gpg)));
        let restore =
            |more: &[&str]| lab.run(&[&["restore", &key, "--object", "--from", &store], more].concat());
        if !encrypted {
            restore(&["--to-stdout"]).expect_error(13, "is not encrypted").hint("--no-encrypt");
        }
        let clear: &[&str] = if *encrypted { &[] } else { &["--no-encrypt"] };
        let back = restore(&[&["--to-stdout"], clear].concat()).expect(0);
        assert!(back.stdout == std::fs::read(lab.path("tar")).expect("the tar"), "{packed}");
        let target = format!("target{i}");
        restore(&[&["--to-path", &target], clear].concat()).expect(0);
        sh(&format!("cd {dir}; cmp noise {target}/noise; cmp text {target}/text"));
        // Cut off, it is never taken for whole.
        sh(&format!("cd {dir}/store; truncate -s -40000 '{key}'"));
        let cut = restore(&[&["--to-stdout"], clear].concat()).expect_error(13, "");
        assert!(cut.stdout.is_empty() || cut.stderr.contains("the target is incomplete"), "{}", cut.stderr);
    }
    lab.run(&["restore", "Old/none", "--object", "--to-stdout", "--from", &store])
        .expect_error(10, "there is no object Old/none");
}

#[test]
fn what_follows_a_compressed_stream_is_ignored_with_a_warning() {
    let lab = Lab::new();
    let (dir, store) = (lab.dir.display(), lab.file_store());
    lab.write("text", &text(1_500_000));
    for (packer, behind, code) in [
        ("bzip2", "echo signature", 3),
        ("bzip2", "head -c 10240 /dev/zero", 3),
        ("gzip", "echo signature", 3),
        ("gzip", "head -c 10240 /dev/zero", 0),
    ] {
        sh(&format!("cd {dir}; tar -cf tar text; {{ {packer} -c tar; {behind}; }} > store/dump"));
        let words = ["restore", "dump", "--object", "--no-encrypt", "--to-stdout", "--from", &store];
        let back = lab.run(&words).expect(code);
        assert!(back.stdout == std::fs::read(lab.path("tar")).expect("the tar"), "{packer}");
        let warned = back.stderr.contains("warning: what follows the compressed stream in dump");
        assert_eq!(warned, code == 3, "{packer}, {behind}: {}", back.stderr);
    }
    // Of what is encrypted, also the garbage: its proof is behind it.
    let gpg = format!("gpg --homedir {dir}/gnupg --batch --quiet --pinentry-mode loopback");
    sh(&format!(
        "cd {dir}; mkdir -m 700 gnupg; {{ bzip2 -c tar; head -c 3000000 /dev/urandom; }} | \
         {gpg} --passphrase-file passphrase -z 0 --symmetric > store/dump"
    ));
    let words = ["restore", "dump", "--object", "--to-stdout", "--from", &store];
    lab.run(&words).expect(3);
    sh(&format!("cd {dir}; truncate -s -100 store/dump"));
    lab.run(&words).expect_error(13, "the OpenPGP message is damaged or ends early");
}

#[test]
fn a_key_at_every_store() {
    let lab = Lab::new();
    let input = text(3_000_000);
    let packed = feed(Command::new("gzip").arg("-c"), &input).expect(0).stdout;
    for store in AnyStore::all(&lab) {
        // Stored as it is, under a key that is then named.
        lab.backup_stdin(&store.url(), &packed, &["--compress", "none", "--no-encrypt"]).expect(0);
        let names = store.names();
        let key = names.iter().find(|name| name.ends_with(".raw")).expect("the object");
        let words = ["restore", key, "--object", "--no-encrypt", "--to-stdout", "--from", &store.url()];
        assert!(lab.run(&words).expect(0).stdout == input, "{}", store.url());
    }
}

#[test]
fn raw_bytes_that_begin_like_a_tar_are_not_held_to_be_one() {
    let lab = Lab::new();
    let store = lab.file_store();
    let input = [bare_member(b"no end", b'0', ""), noise(24, 3_000_000)].concat();
    lab.backup_stdin(&store, &input, &["--format", "raw"]).expect(0);
    let words = ["restore", JOB, "--sequential", "--to-stdout", "--from", &store];
    assert!(lab.run(&words).expect(0).stdout == input);
}

#[test]
fn a_stream_that_wants_too_much_memory_is_not_called_damaged() {
    let lab = Lab::new();
    sh(&format!("mkdir -p {}/store", lab.dir.display()));
    lab.write("text", &text(1_000_000));
    let window = "zstd --ultra -20 --long=30 -c";
    sh(&format!("cd {}; cat text | {window} > store/w~1.zst", lab.dir.display()));
    let words =
        ["restore", "w~1.zst", "--object", "--no-encrypt", "--to-stdout", "--from", &lab.file_store()];
    lab.run(&words).expect_error(1, "needs too much memory").hint("--long=31");
}

#[test]
fn a_hostile_tar_without_a_catalog() {
    let lab = Lab::new();
    let dir = lab.dir.display().to_string();
    sh(&format!("cd {dir}; mkdir -p store in; echo good > in/good; echo evil > evil"));
    let store = lab.file_store();
    let words = ["restore", "bad.tar", "--object", "--no-encrypt", "--to-path", "out", "--from", &store];
    let make = |transform: &str| {
        sh(&format!("cd {dir}; tar -cf store/bad.tar in/good; tar -rf store/bad.tar -P {transform} evil"));
    };
    make("--transform='s|evil|../../evil2|'");
    let ended = lab.run(&words).expect_error(14, "may not be unpacked");
    assert!(ended.stderr.contains("leads outside of the target"), "{}", ended.stderr);
    sh(&format!("cd {dir}; test ! -e evil2; test ! -e ../evil2; rm -r out"));
    // The slash before a name is taken off, as GNU tar does it.
    make("--transform='s|evil|/tmp/sealift-evil|'");
    lab.run(&words).expect(0);
    sh(&format!("cd {dir}; test ! -e /tmp/sealift-evil; test -e out/tmp/sealift-evil; rm -r out"));
    lab.write("store/raw", b"no tar");
    let words = ["restore", "raw", "--object", "--no-encrypt", "--to-path", "out", "--from", &store];
    lab.run(&words).expect_error(2, "this is no tar");
    assert!(!lab.path("out").exists());
}

#[test]
fn an_old_tar_of_a_volume_into_a_volume() {
    needs!("docker");
    let lab = Lab::new();
    let (dir, from) = (lab.dir.display().to_string(), unique("old"));
    docker(&["volume", "create", &from]);
    let files = docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", &from]);
    let parent = files.strip_suffix("/_data").expect("a local volume").to_string();
    let volumes = parent.strip_suffix(&from).expect("its folder").to_string();
    sh(&format!(
        "cd {files}; mkdir -p docker/registry; seq 1 9 > docker/registry/link; ln docker/registry/link hard"
    ));
    // As the vendor's guides made them: by the whole path in the old days, from the volumes' folder today.
    sh(&format!(
        "cd {dir}; mkdir -p store; tar -czf store/old.tar.gz {parent} 2>/dev/null; tar -cf store/new.tar -C {volumes} {from}; \
         tar -cf store/wrong.tar -C {files} ."
    ));
    let store = lab.file_store();
    let restore = |key: &str, to: &str| {
        let words = ["restore", key, "--object", "--no-encrypt", "--to-volume", to, "--from", &store]
            .map(String::from);
        Ended::from(lab.sealift().args(words).output().expect("sealift runs"))
    };
    for key in ["old.tar.gz", "new.tar"] {
        let to = unique("back");
        restore(key, &to).expect(0);
        let back = docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", &to]);
        sh(&format!("diff -r {files} {back}; test {back}/hard -ef {back}/docker/registry/link"));
        docker(&["volume", "rm", &to]);
    }
    restore("wrong.tar", "none").expect_error(2, "this is no archive of a volume");
    // A dot before the name, the engine's own folder, and what lies beside the volumes are left alone.
    sh(&format!("cd {dir}; tar -cf store/dot.tar -C {volumes} ./{from}; chmod 751 {parent}"));
    let (to, before) = (unique("back"), sh(&format!("ls {volumes}")));
    restore("dot.tar", &to).expect(0);
    let back = docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", &to]);
    sh(&format!("diff -r {files} {back}; test ! -e {back}/{from}"));
    docker(&["volume", "rm", &to]);
    assert_eq!(sh(&format!("ls {volumes}")), before);
    // A name that tar reads otherwise than it looks: pax wins over GNU's, whatever stands last.
    for other in ["_data/../../evil", "_data2/evil"] {
        let tar = [
            bare_member(format!("{from}/_data/").as_bytes(), b'5', ""),
            extended(b'x', &pax("path", &format!("{from}/{other}"))),
            extended(b'L', format!("{from}/_data/good\0").as_bytes()),
            bare_member(b"short", b'0', ""),
            vec![0; 1024],
        ];
        lab.write("store/names.tar", &tar.concat());
        let to = unique("back");
        restore("names.tar", &to).expect_error(14, "").hint("incomplete");
        docker(&["volume", "rm", &to]);
    }
    // A name that is a pattern to tar.
    lab.write(
        "store/pattern.tar",
        &[bare_member(b"v[a-z]*|x|;s|/_data/f", b'0', ""), vec![0; 1024]].concat(),
    );
    restore("pattern.tar", "none").expect_error(2, "");
    assert_eq!(sh(&format!("ls {volumes}")), before);
    // Another volume's files among them go nowhere.
    sh(&format!(
        "cd {dir}; mkdir -p other/_data; echo x > other/_data/x; tar -rf store/new.tar other/_data/x"
    ));
    let to = unique("back");
    restore("new.tar", &to).expect_error(14, "members outside of");
    docker(&["volume", "rm", &to, &from]);
}
