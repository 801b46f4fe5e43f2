//! `--cipher aead`: every way back works as it does by default, but for GnuPG's, in whose place OpenPGP.js stands.

use std::path::Path;
use std::process::Command;

use crate::needs;
use crate::support::{AnyStore, JOB, Lab, a_second_later, feed, noise, sh, text};

/// A tree of incompressible and other files in `lab`, more than one request's worth.
fn tree(lab: &Lab) -> String {
    let tree = lab.path("tree");
    std::fs::create_dir_all(tree.join("deep")).expect("a folder");
    std::fs::write(tree.join("deep/noise"), noise(71, 19_000_000)).expect("a file");
    std::fs::write(tree.join("deep/text"), text(3_000_000)).expect("a file");
    tree.display().to_string()
}

#[test]
fn every_way_back_gives_the_same_at_every_store() {
    let lab = Lab::new();
    let tree = tree(&lab);
    for store in AnyStore::all(&lab) {
        let url = store.url();
        let from = |words: &[&str]| lab.run(&[words, &["--from", &url]].concat());
        lab.run(&["backup", "path", &tree, "--job", JOB, "--cipher", "aead", "--to", &url]).expect(0);
        let names = store.names();
        assert!(names.iter().any(|name| name.ends_with(".tar.zst.pgp")), "{names:?}");
        assert!(names.iter().all(|name| !name.ends_with(".gpg")), "{names:?}");

        let target = lab.path("target").display().to_string();
        from(&["restore", JOB, "--to-path", &target]).expect(0);
        sh(&format!("diff -r {tree} {target}{tree} && rm -r {target}"));
        from(&["restore", JOB, "--sequential", "--to-path", &target]).expect(0);
        sh(&format!("diff -r {tree} {target}{tree} && rm -r {target}"));
        let one =
            from(&["cat", JOB, &format!("{}/deep/text", tree.trim_start_matches('/'))]).expect(0).stdout;
        assert!(one == text(3_000_000), "{url}: one member");
        for level in [&[][..], &["--sample", "50%"], &["--stored"], &["--manifest"]] {
            from(&[&["verify", JOB], level].concat()).expect(0);
        }
        from(&["diff", JOB, "--path", "/"]).expect(0);
        let shown = from(&["show", JOB]).expect(0).text();
        assert!(shown.contains("sq decrypt"), "{shown}");
        let wrong = lab.write("wrong", b"wrong\n").display().to_string();
        let wrong = from(&["restore", JOB, "--to-stdout", "--passphrase-file", &wrong]);
        assert!(wrong.expect(12).stdout.is_empty());
    }
}

#[test]
fn openpgp_js_reads_archive_and_catalog_and_gpg_says_that_it_cannot() {
    needs!("openpgpjs", "gpg");
    let lab = Lab::new();
    let store = AnyStore::File(lab.path("store"));
    for input in [[noise(72, 3_500_000), text(1_000_000)].concat(), Vec::new()] {
        let options = ["--cipher", "aead", "--format", "raw", "--allow-empty"];
        lab.backup_stdin(&store.url(), &input, &options).expect(0);
        let (name, archive) = store.archive();
        assert!(name.ends_with(".zst.pgp"), "{name}");
        assert!(by_openpgp_js(&lab, &archive) == input, "{} bytes", input.len());
        let catalog = store.read(&name.replace(".zst.pgp", ".catalog.zst.pgp"));
        let catalog = String::from_utf8(by_openpgp_js(&lab, &catalog)).expect("NDJSON");
        assert!(catalog.contains(r#""cipher":"aead""#) && catalog.contains(r#"{"end":"#), "{catalog}");

        // Should it read it one day, the manual is to say so.
        let gpg = feed(&mut lab.gpg(), &archive).expect(2);
        assert!(gpg.stdout.is_empty() && gpg.stderr.contains("unknown version"), "{}", gpg.stderr);
        store.names().iter().for_each(|name| store.delete(name));
    }
}

/// What OpenPGP.js and zstd make of an object: no part of ours reads it.
fn by_openpgp_js(lab: &Lab, object: &[u8]) -> Vec<u8> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/openpgpjs");
    let packed = feed(Command::new(script).arg("decrypt").arg(lab.path("passphrase")), object).expect(0);
    feed(Command::new("zstd").args(["-d", "-c"]), &packed.stdout).expect(0).stdout
}

#[test]
fn ciphers_may_change_from_one_night_to_the_next() {
    let lab = Lab::new();
    let store = lab.file_store();
    for cipher in ["cfb", "aead", "cfb"] {
        let input = [cipher.as_bytes(), &noise(73, 100_000)].concat();
        lab.backup_stdin(&store, &input, &["--cipher", cipher]).expect(0);
        let back = lab.run(&["restore", JOB, "--to-stdout", "--from", &store]).expect(0).stdout;
        assert!(back == input, "{cipher}");
        a_second_later();
    }
    lab.run(&["verify", JOB, "--since-last", "--from", &store]).expect(0);
    lab.backup_stdin(&store, b"x", &["--cipher", "aead", "--no-encrypt"]).expect_error(2, "--no-encrypt");
}
