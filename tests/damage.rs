//! Whatever is done to what is stored: never a wrong byte, exit 13, and verify finds it.

use std::path::PathBuf;

use crate::support::{JOB, Lab, feed, noise, sh, text};

/// A stored archive of some frames, and its three objects.
struct Stored {
    lab: Lab,
    input: Vec<u8>,
    archive: PathBuf,
    catalog: PathBuf,
    manifest: PathBuf,
}

fn store(lab: Lab, seed: u64) -> Stored {
    let input = [noise(seed, 5_000_000), text(6_000_000)].concat();
    lab.backup_stdin(&lab.file_store(), &input, &["--format", "raw"]).expect(0);
    let find = |suffix: &str| {
        let names = sh(&format!(
            "ls -t {}/store/{JOB}/*{suffix} | grep -v {}",
            lab.dir.display(),
            if suffix == ".zst.gpg" { "catalog" } else { "nothing" }
        ));
        PathBuf::from(names.lines().next().expect("an object"))
    };
    let (archive, catalog, manifest) = (find(".zst.gpg"), find(".catalog.zst.gpg"), find(".manifest.json"));
    Stored { lab, input, archive, catalog, manifest }
}

impl Stored {
    fn verify(&self) -> i32 {
        self.lab.run(&["verify", JOB, "--from", &self.lab.file_store()]).code
    }

    /// Restores; whatever comes out must be right as far as it goes.
    #[track_caller]
    fn restore(&self, what: &str) -> i32 {
        let ended = self.lab.run(&["restore", JOB, "--to-stdout", "--from", &self.lab.file_store()]);
        assert!(!ended.stderr.contains("panicked"), "{what}: {}", ended.stderr);
        assert!(self.input.starts_with(&ended.stdout), "{what}: a wrong byte");
        assert!(ended.code != 0 || ended.stdout == self.input, "{what}: success without all bytes");
        ended.code
    }

    /// Restores and verifies with `path` changed by `change`, then puts it back.
    #[track_caller]
    fn with(&self, path: &PathBuf, what: &str, change: impl FnOnce(&mut Vec<u8>)) -> (i32, i32) {
        let good = std::fs::read(path).expect("the object");
        let mut bad = good.clone();
        change(&mut bad);
        std::fs::write(path, &bad).expect("the object");
        let codes = (self.restore(what), self.verify());
        std::fs::write(path, &good).expect("the object");
        codes
    }
}

#[test]
fn a_flipped_byte_anywhere_is_found() {
    let stored = store(Lab::new(), 11);
    let len = |path: &PathBuf| std::fs::metadata(path).expect("the object").len() as usize;
    // The key packet, the prefix and the first frames' beginning; the seams of chunks; the MDC; and some anywhere.
    let archive = len(&stored.archive);
    let mut places: Vec<usize> = vec![0, 1, 2, 5, 14, 20, 47, 48, 49, 50, 53, 54, 60, 70, 71, 77, 78, 80];
    places.extend([
        (1 << 20) + 49,
        (1 << 20) + 50,
        (1 << 20) + 80,
        archive - 1,
        archive - 20,
        archive - 22,
        archive - 23,
    ]);
    places.extend((1..12).map(|i| archive / 12 * i + i));
    let mut noticed = 0;
    for &place in &places {
        let what = format!("byte {place} of the archive");
        let (restored, verified) = stored.with(&stored.archive, &what, |bytes| bytes[place] ^= 0x10);
        // A flip inside the key packet may look like another passphrase.
        let damaged = |code| code == 13 || code == 12 && place < 49;
        assert!(damaged(verified), "{what}: verify {verified}");
        // What a restore need not read, lengths of chunks and the MDC, it need not notice: the bytes are the right ones.
        assert!(damaged(restored) || restored == 0, "{what}: restore {restored}");
        noticed += usize::from(restored != 0);
    }
    assert!(noticed > places.len() / 2, "only {noticed} of {} flips were noticed by a restore", places.len());
    let catalog = len(&stored.catalog);
    for place in
        [0, 1, 2, 20, 47, 48, 49, 55, 60, 71, 75, 100, catalog / 2, catalog - 30, catalog - 20, catalog - 1]
    {
        let what = format!("byte {place} of the catalog");
        assert_eq!(stored.with(&stored.catalog, &what, |bytes| bytes[place] ^= 0x10), (13, 13), "{what}");
    }
    let manifest = len(&stored.manifest);
    for place in (0..manifest).step_by(61).chain([manifest - 2]) {
        let what = format!("byte {place} of the manifest");
        assert_eq!(stored.with(&stored.manifest, &what, |bytes| bytes[place] ^= 0x01), (13, 13), "{what}");
    }
    assert_eq!((stored.restore("put back"), stored.verify()), (0, 0));
}

#[test]
fn objects_that_are_cut_lost_or_exchanged_are_found() {
    let lab = Lab::new();
    let first = store(lab, 12);
    let second = store(Lab { dir: first.lab.dir.clone() }, 13);
    // The second is the newest, which a restore without an id takes.
    for keep in [0, 10, 100, 1 << 20, 4_000_000] {
        let what = format!("the archive cut to {keep}");
        assert_eq!(second.with(&second.archive, &what, |bytes| bytes.truncate(keep)), (13, 13), "{what}");
        let what = format!("the catalog cut to {keep}");
        if keep < 1000 {
            assert_eq!(second.with(&second.catalog, &what, |bytes| bytes.truncate(keep)), (13, 13), "{what}");
        }
    }
    let read = |path: &PathBuf| std::fs::read(path).expect("the object");
    let (archive, catalog, manifest) = (read(&first.archive), read(&first.catalog), read(&first.manifest));
    assert_eq!(second.with(&second.archive, "another archive", |bytes| *bytes = archive.clone()), (13, 13));
    assert_eq!(second.with(&second.catalog, "another catalog", |bytes| *bytes = catalog.clone()), (13, 13));
    assert_eq!(second.with(&second.manifest, "another manifest", |bytes| *bytes = manifest), (13, 13));
    // Both of another archive: they fit each other, but they are not the ones asked for.
    std::fs::write(&second.archive, &archive).expect("the object");
    assert_eq!(second.with(&second.catalog, "another backup", |bytes| *bytes = catalog), (13, 13));
    std::fs::remove_file(&second.catalog).expect("the catalog");
    assert_eq!((second.restore("no catalog"), second.verify()), (13, 13));
    std::fs::remove_file(&second.archive).expect("the archive");
    assert_eq!((second.restore("no archive"), second.verify()), (13, 13));
    std::mem::forget(second.lab);
}

#[test]
fn frames_that_change_places_are_found() {
    let lab = Lab::new();
    // Two frames of the same length, whose ciphertext is exchanged.
    let input = noise(14, 8 << 20);
    lab.backup_stdin(&lab.file_store(), &input, &["--format", "raw", "--compress", "none"]).expect(0);
    let path = sh(&format!("ls {}/store/{JOB}/*.gpg | grep -v catalog", lab.dir.display()));
    let mut bytes = std::fs::read(path.trim()).expect("the object");
    let half = 4 << 20;
    let (left, right) = bytes[1000..].split_at_mut(half);
    left[..half - 5000].swap_with_slice(&mut right[..half - 5000]);
    std::fs::write(path.trim(), &bytes).expect("the object");
    let ended = lab
        .run(&["restore", JOB, "--to-stdout", "--from", &lab.file_store()])
        .expect_error(13, "not what was sealed");
    assert!(input.starts_with(&ended.stdout));
    lab.run(&["verify", JOB, "--from", &lab.file_store()]).expect_error(13, "not what was sealed");
    lab.run(&["verify", JOB, "--stored", "--from", &lab.file_store()]).expect_error(13, "SHA-256 differs");
}

#[test]
fn a_hostile_tar_is_refused_before_anything_is_unpacked() {
    let lab = Lab::new();
    let store = lab.file_store();
    let member = |name: &str, flag: u8, link: &str| {
        let mut block = vec![0u8; 512];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[100..107].copy_from_slice(b"0000644");
        block[124..135].copy_from_slice(b"00000000000");
        block[156] = flag;
        block[157..157 + link.len()].copy_from_slice(link.as_bytes());
        block[257..265].copy_from_slice(b"ustar\x0000");
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        block
    };
    for (name, flag, link) in [
        ("/abs", b'0', ""),
        ("../up", b'0', ""),
        ("a/../../up", b'0', ""),
        ("l", b'1', "/etc/passwd"),
        ("dev", b'4', ""),
    ] {
        let tar = [member("good", b'0', ""), member(name, flag, link), vec![0; 1024]].concat();
        lab.backup_stdin(&store, &tar, &[]).expect(0);
        let ended = lab.run(&["restore", JOB, "--to-path", "target", "--from", &store]);
        ended.expect_error(13, "may not be unpacked").hint("--exclude");
        assert!(!lab.path("target").exists(), "{name}: something was made");
        lab.run(&["restore", JOB, "--to-path", "target", "--exclude", name, "--from", &store]).expect(0);
        assert_eq!(sh(&format!("cd {}; find target -type f", lab.dir.display())), "target/good\n", "{name}");
        std::fs::remove_dir_all(lab.path("target")).expect("the target");
    }
    // A symlink is made, and never followed.
    std::fs::create_dir(lab.path("outside")).expect("a folder");
    let outside = lab.path("outside").display().to_string();
    let tar = [member("s", b'2', &outside), member("s/escaped", b'0', ""), vec![0; 1024]].concat();
    lab.backup_stdin(&store, &tar, &[]).expect(0);
    let ended = lab.run(&["restore", JOB, "--to-path", "target", "--from", &store]);
    assert!(ended.code != 0, "{}", ended.stderr);
    assert_eq!(sh(&format!("find {outside} -type f")), "", "a symlink was followed");
}

#[test]
fn what_nobody_sealed_is_not_restored() {
    let lab = Lab::new();
    let store = lab.file_store();
    lab.backup_stdin(&store, b"real", &[]).expect(0);
    let folder = lab.path("store").join(JOB);
    let keep = lab.path("keep");
    sh(&format!("cp -r {} {}", folder.display(), keep.display()));
    // Somebody who can only write: a newer archive in the clear.
    lab.backup_stdin(&store, b"EVIL", &["--no-encrypt"]).expect(0);
    let ended =
        lab.run(&["restore", JOB, "--to-stdout", "--from", &store]).expect_error(13, "is not encrypted");
    assert!(ended.stdout.is_empty());
    // A catalog that is an OpenPGP message, but one that is not encrypted.
    sh(&format!("rm -r {0}; mv {1} {0}", folder.display(), keep.display()));
    let catalog = sh(&format!("ls {}/*.catalog.zst.gpg", folder.display()));
    let plain = lab.by_gpg(&std::fs::read(catalog.trim()).expect("the catalog"), &[]);
    let bare = feed(std::process::Command::new("gpg").args(["--batch", "--store", "-z", "0"]), &plain)
        .expect(0)
        .stdout;
    std::fs::write(catalog.trim(), bare).expect("the catalog");
    let ended = lab.run(&["restore", JOB, "--to-stdout", "--from", &store]).expect_error(13, "");
    assert!(ended.stdout.is_empty());
}
