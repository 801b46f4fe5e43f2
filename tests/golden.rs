//! Archives that an earlier build made are listed, verified and restored by this one, and by the tools of the system
//! alone. `fixtures/golden/format-1/README.md` says what is in them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::needs;
use crate::support::{Ended, Lab, feed, sh};

const IDS: [(&str, &str); 8] = [
    ("nothing", "20261125T225737Z-47c350ec"),
    ("raw", "20261125T225737Z-699c045b"),
    ("tree", "20261125T225736Z-f9f40b07"),
    ("tree-aead", "20261125T225736Z-df248bf2"),
    ("tree-clear", "20261125T225737Z-35041e7b"),
    ("tree-gzip", "20261125T225736Z-c4f4d685"),
    ("tree-none", "20261125T225737Z-587a0d5f"),
    ("tree-xz", "20261125T225736Z-e1ff8b56"),
];

/// The members of every `tree`, in order.
const MEMBERS: [&[u8]; 12] = [
    b"./",
    b"./sparse",
    b"./noise.bin",
    b"./dir/",
    b"./dir/lines",
    b"./dir/sub/",
    b"./dir/sub/latin1-\xe9",
    b"./dir/sub/na\xc3\xafve name",
    b"./dir/soft",
    b"./dir/hard",
    b"./empty/",
    b"./a.txt",
];

/// How a tool of the system takes a job's codec off.
const BY_HAND: [(&str, &[&str]); 7] = [
    ("nothing", &["zstd", "-dc"]),
    ("raw", &["zstd", "-dc"]),
    ("tree", &["zstd", "-dc"]),
    ("tree-clear", &["zstd", "-dc"]),
    ("tree-gzip", &["gzip", "-dc"]),
    ("tree-none", &["cat"]),
    ("tree-xz", &["xz", "-dc"]),
];

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/golden/format-1")
}

/// A copy of the golden store, as a verification writes to it, and its passphrase.
fn golden_lab() -> Lab {
    let lab = Lab::new();
    lab.write("passphrase", b"golden passphrase\n");
    sh(&format!("cp -r '{}/store' '{}'", golden().display(), lab.dir.display()));
    lab
}

/// What restores of the jobs gave when they were made, as SHA-256.
fn sources() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(golden().join("SHA256-OF-SOURCE")).expect("the digests");
    let lines = text.lines().filter_map(|line| line.split_once("  "));
    lines.map(|(digest, job)| (job.to_string(), digest.to_string())).collect()
}

/// What `sha256sum` says of `bytes`.
fn sha256(bytes: &[u8]) -> String {
    let said = feed(&mut Command::new("sha256sum"), bytes).expect(0).text();
    said.split(' ').next().unwrap_or_default().to_string()
}

/// Runs `sealift VERB JOB WORDS…` on the copied store.
fn run(lab: &Lab, verb: &str, job: &str, words: &[&str]) -> Ended {
    let store = lab.file_store();
    let mut all = [&[verb, job], words, &["--from", &store]].concat();
    if job == "tree-clear" {
        all.push("--no-encrypt");
    }
    lab.run(&all)
}

/// A job's object whose name ends so, and is no catalog.
fn object(job: &str, catalog: bool) -> Vec<u8> {
    let folder = std::fs::read_dir(golden().join("store").join(job)).expect("the job's folder");
    let mut names = folder.map(|file| file.expect("a file").path().display().to_string());
    let is = |name: &String| !name.ends_with(".json") && name.contains(".catalog.") == catalog;
    std::fs::read(names.find(is).expect("the object")).expect("the object")
}

/// The source's bytes or the catalog, by gpg and the codec's own tool.
fn by_hand(lab: &Lab, job: &str, catalog: bool, decompress: &[&str]) -> Vec<u8> {
    let object = object(job, catalog);
    match job {
        "tree-clear" => feed(Command::new("zstd").arg("-dc"), &object).expect(0).stdout,
        _ => lab.by_gpg(&object, decompress),
    }
}

#[test]
fn golden_archives_are_listed_with_their_members() {
    let lab = golden_lab();
    let listed = lab.list(&lab.file_store());
    let expected: Vec<_> = IDS.iter().map(|(job, id)| (job.to_string(), id.to_string())).collect();
    assert_eq!(listed, expected);
    for (job, _) in IDS {
        let lines = run(&lab, "ls", job, &["--json"]).expect(0).text();
        let entries = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON lines"));
        let names: Vec<_> = entries
            // A note stands among them where there is no member.
            .filter(|entry| entry["event"].is_null())
            .map(|entry| match entry["path_hex"].as_str() {
                Some("2e2f6469722f7375622f6c6174696e312de9") => b"./dir/sub/latin1-\xe9".to_vec(),
                Some(other) => panic!("{job}: {other}"),
                None => entry["path"].as_str().expect("a path").as_bytes().to_vec(),
            })
            .collect();
        let expected = if job.starts_with("tree") { &MEMBERS[..] } else { &[] };
        assert_eq!(names, expected, "{job}");
    }
}

#[test]
fn golden_archives_are_verified_whole() {
    let lab = golden_lab();
    for (job, _) in IDS {
        run(&lab, "verify", job, &[]).expect(0);
    }
}

#[test]
fn golden_archives_are_restored_byte_for_byte() {
    let lab = golden_lab();
    let sources = sources();
    for (job, _) in IDS {
        let source = run(&lab, "restore", job, &["--to-stdout"]).expect(0).stdout;
        assert_eq!(sha256(&source), sources[job], "{job}");
        let source = run(&lab, "restore", job, &["--sequential", "--to-stdout"]).expect(0).stdout;
        assert_eq!(sha256(&source), sources[job], "{job}, without its catalog");
    }
}

#[test]
fn golden_archives_are_read_by_gpg_and_the_tools_of_the_system() {
    needs!("gpg");
    let lab = golden_lab();
    let sources = sources();
    for (job, decompress) in BY_HAND {
        let source = by_hand(&lab, job, false, decompress);
        assert_eq!(sha256(&source), sources[job], "{job}");
        if job.starts_with("tree") {
            let names = feed(Command::new("tar").args(["-t", "--quoting-style=literal"]), &source);
            assert_eq!(names.expect(0).stdout, [MEMBERS.join(&b'\n'), vec![b'\n']].concat(), "{job}");
        }
        let catalog = String::from_utf8(by_hand(&lab, job, true, &["zstd", "-dc"])).expect("NDJSON");
        let last = catalog.lines().last().unwrap_or_default();
        assert!(catalog.starts_with(r#"{"archive":"#) && last.starts_with(r#"{"end":"#), "{catalog}");
    }
}

#[test]
fn a_golden_tree_is_unpacked_as_tar_unpacks_it() {
    needs!("gpg");
    let lab = golden_lab();
    let source = by_hand(&lab, "tree", false, &["zstd", "-dc"]);
    let by_tar = lab.path("by-tar");
    std::fs::create_dir(&by_tar).expect("a folder");
    feed(Command::new("tar").args(["-xp", "-C"]).arg(&by_tar), &source).expect(0);
    for job in ["tree", "tree-aead"] {
        let ours = lab.path(job);
        run(&lab, "restore", job, &["--to-path", &ours.display().to_string()]).expect(0);
        let tree = |dir: &Path| {
            sh(&format!(
                "cd '{}'; find . -mindepth 1 -printf '%p %y %m %U:%G %n %l\\n' | sort; \
                 find . -type f -exec sha256sum {{}} + | sort; stat -c '%n %s %y' dir/* a.txt sparse",
                dir.display()
            ))
        };
        assert_eq!(tree(&ours), tree(&by_tar), "{job}");
    }
}
