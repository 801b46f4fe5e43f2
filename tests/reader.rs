//! `docs/FORMAT.md` is enough for a reader: `tests/reader.py`, which shares no code with ours, reads what we make.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::needs;
use crate::support::{AnyStore, Ended, JOB, Lab, noise, sh, text};

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reader.py")
}

/// A backup of a tree in a folder store, of four frames, some of which shrink and some not.
fn backed_up() -> (Lab, AnyStore) {
    let lab = Lab::new();
    std::fs::create_dir(lab.path("tree")).expect("a folder");
    lab.write("tree/1 text", &text(6_000_000));
    lab.write("tree/2 noise", &noise(31, 5_000_000));
    lab.write("tree/3 last", &[noise(32, 1_300_000), text(1_300_000)].concat());
    lab.write("tree/4 \u{fc}", b"");
    std::fs::hard_link(lab.path("tree/3 last"), lab.path("tree/5 link")).expect("a link");
    let store = AnyStore::File(lab.path("store"));
    let url = store.url();
    lab.run(&["backup", "path", "tree", "--job", JOB, "--to", &url]).expect(0);
    (lab, store)
}

/// Runs `reader.py VERB FOLDER WORDS…` on the lab's store.
fn read(lab: &Lab, verb: &str, words: &[&str]) -> Ended {
    // A gpg home of the lab's own.
    let _ = lab.gpg();
    let mut command = Command::new("python3");
    command.args([script(), verb.into(), lab.path("store").join(JOB)]).args(words);
    command.env("GNUPGHOME", lab.path("gnupg")).env("SEALIFT_PASSPHRASE_FILE", lab.path("passphrase"));
    Ended::from(command.output().expect("python3 runs"))
}

#[test]
fn the_independent_reader_lists_members_and_fetches_them() {
    needs!("gpg");
    let (lab, _) = backed_up();
    let listed = lab.run(&["ls", JOB, "--from", &lab.file_store()]).expect(0).text();
    assert_eq!(listed.lines().count(), 6, "{listed}");
    assert_eq!(read(&lab, "list", &[]).expect(0).text(), listed);
    for name in listed.lines().filter(|name| !name.ends_with('/')) {
        let source = std::fs::read(lab.path(name)).expect("the source");
        assert!(read(&lab, "cat", &[name]).expect(0).stdout == source, "{name}");
    }
    assert!(read(&lab, "cat", &["tree/6 none"]).expect(1).stderr.contains("no such member"));
}

#[test]
fn the_independent_reader_opens_what_was_rekeyed_with_the_new_passphrase() {
    needs!("gpg");
    let (lab, store) = backed_up();
    let listed = lab.run(&["ls", JOB, "--from", &store.url()]).expect(0).text();
    lab.write("new", b"battery staple\n");
    lab.run(&["rekey", JOB, "--new-passphrase-file", "new", "--from", &store.url()]).expect(0);
    lab.write("passphrase", b"battery staple\n");
    assert_eq!(read(&lab, "list", &[]).expect(0).text(), listed);
    let source = std::fs::read(lab.path("tree/2 noise")).expect("the source");
    assert!(read(&lab, "cat", &["tree/2 noise"]).expect(0).stdout == source);
    // Where its proof is another, it is none.
    let name = store.names().into_iter().find(|name| name.ends_with(".skesk")).expect("a key object");
    let mut key = store.read(&name);
    key[129] ^= 1;
    store.write(&name, &key);
    assert!(read(&lab, "list", &[]).expect(1).stderr.contains("the key object is another's"));
}

#[test]
fn the_independent_reader_reads_every_codec() {
    needs!("gpg");
    let lab = Lab::new();
    std::fs::create_dir(lab.path("tree")).expect("a folder");
    // More than a partial length, compressed and not.
    let source = [noise(33, 1_100_000), text(300_000)].concat();
    lab.write("tree/file", &source);
    for codec in ["zstd", "gzip", "xz", "none"] {
        sh(&format!("rm -rf '{0}/store'; mkdir '{0}/store'", lab.dir.display()));
        let url = lab.file_store();
        lab.run(&["backup", "path", "tree", "--job", JOB, "--compress", codec, "--to", &url]).expect(0);
        assert!(read(&lab, "cat", &["tree/file"]).expect(0).stdout == source, "{codec}");
    }
}

#[test]
fn the_independent_reader_reads_its_range_only_and_its_keyed_hash_finds_a_flipped_byte() {
    needs!("gpg");
    let (lab, store) = backed_up();
    let listed = lab.run(&["ls", JOB, "--json", "--from", &lab.file_store()]).expect(0).text();
    let mut entries =
        listed.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    // The last file of all, whatever order the folder gave them, ends in the last frame; its neighbours do not matter.
    let file = entries.rfind(|entry| entry["type"] == "file" && entry["size"] != 0).expect("a file");
    let member = file["path"].as_str().expect("a path");
    let source = std::fs::read(lab.path(member)).expect("the source");
    let begins_in_frame = file["at"].as_u64().expect("a place") / (4 << 20);
    assert!(begins_in_frame > 0, "{file}");

    // What lies before its frames is not read, but for the head: it may be anything.
    let (name, good) = store.archive();
    let mut blank = good.clone();
    blank[200..100_000].fill(0);
    store.write(&name, &blank);
    assert!(read(&lab, "cat", &[member]).expect(0).stdout == source);

    for back in [100, 10_000] {
        let mut bad = good.clone();
        let place = bad.len() - back;
        bad[place] ^= 1;
        store.write(&name, &bad);
        let refused = read(&lab, "cat", &[member]).expect(1);
        assert!(refused.stderr.contains("is not what was sealed"), "{}", refused.stderr);
        assert!(refused.stdout.is_empty());
    }
    store.write(&name, &good[1..]);
    assert!(read(&lab, "list", &[]).expect(1).stderr.contains("another size"));
}

/// What a line of Python prints that may use the reader's own functions.
fn python(line: &str) -> String {
    let mut command = Command::new("python3");
    let folder = script().parent().expect("a folder").to_path_buf();
    command.args(["-Bc", &format!("import reader as r\nprint({line})")]).env("PYTHONPATH", folder);
    Ended::from(command.output().expect("python3 runs")).expect(0).text().trim().into()
}

#[test]
fn the_independent_reader_knows_aes_and_blake3() {
    // FIPS 197, C.3.
    let encrypted = python("r.aes256(bytes(range(32)), bytes(17 * i for i in range(16)) * 3).hex()");
    assert_eq!(encrypted, "8ea2b7ca516745bfeafc49904b496089".repeat(3));
    let key = [7; 32];
    for size in [0, 1, 64, 65, 1023, 1024, 1025, 2048, 2049, 3073, 7168, 31_744, 100_000] {
        let input: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        let same = format!("bytes(i % 251 for i in range({size}))");
        let hash = python(&format!("r.blake3({same}).hex()"));
        assert_eq!(hash, blake3::hash(&input).to_hex().as_str(), "{size}");
        let hash = python(&format!("r.blake3({same}, bytes([7] * 32), r.KEYED).hex()"));
        assert_eq!(hash, blake3::keyed_hash(&key, &input).to_hex().as_str(), "{size}, keyed");
        let hash =
            python(&format!("r.blake3({same}, r.blake3(b'a context', flags=r.CONTEXT), r.MATERIAL).hex()"));
        let derived = blake3::Hasher::new_derive_key("a context").update(&input).finalize();
        assert_eq!(hash, derived.to_hex().as_str(), "{size}, derived");
    }
}

#[test]
fn the_independent_reader_finds_what_an_increment_keeps_in_older_archives() {
    needs!("gpg");
    let lab = Lab::new();
    std::fs::create_dir(lab.path("tree")).expect("a folder");
    lab.write("tree/1 kept", &text(5_000_000));
    lab.write("tree/2 new", b"old");
    std::fs::hard_link(lab.path("tree/1 kept"), lab.path("tree/3 link")).expect("a link");
    let backup = || {
        // So that the next night trusts the files' times.
        std::thread::sleep(std::time::Duration::from_millis(3_100));
        let url = lab.file_store();
        lab.run(&["backup", "path", "tree", "--job", JOB, "--incremental", "--to", &url]).expect(0);
    };
    backup();
    lab.write("tree/2 new", b"new");
    backup();
    let shown = lab.run(&["show", JOB, "--json", "--from", &lab.file_store()]).expect(0).text();
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["end"]["kept"]["entries"], 3, "{shown}");
    let listed = read(&lab, "list", &[]).expect(0).text();
    assert_eq!(listed.lines().collect::<std::collections::BTreeSet<_>>().len(), 4, "{listed}");
    for name in ["tree/1 kept", "tree/2 new", "tree/3 link"] {
        let source = std::fs::read(lab.path(name)).expect("the source");
        assert!(read(&lab, "cat", &[name]).expect(0).stdout == source, "{name}");
    }
}

#[test]
fn the_independent_reader_is_short() {
    let lines = std::fs::read_to_string(script()).expect("the reader").lines().count();
    assert!(lines <= 265, "{lines} lines");
}
