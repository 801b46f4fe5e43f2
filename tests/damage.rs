//! Whatever is done to what is stored: never a wrong byte, exit 13, and verify finds it.

use crate::support::fake_s3::{FakeS3, Fault};
use crate::support::{AnyStore, Ended, JOB, Lab, a_second_later, bare_member, feed, noise, sh, text};

/// A stored archive of two frames, and the names of its three objects.
struct Stored<'a> {
    lab: &'a Lab,
    store: &'a AnyStore,
    input: Vec<u8>,
    archive: String,
    catalog: String,
    manifest: String,
}

impl<'a> Stored<'a> {
    fn new(lab: &'a Lab, store: &'a AnyStore, seed: u64) -> Self {
        Self::by(lab, store, seed, "cfb")
    }

    fn by(lab: &'a Lab, store: &'a AnyStore, seed: u64, cipher: &str) -> Self {
        let before = store.names();
        let input = [noise(seed, 4_000_000), text(600_000)].concat();
        lab.backup_stdin(&store.url(), &input, &["--format", "raw", "--cipher", cipher]).expect(0);
        let new: Vec<_> = store.names().into_iter().filter(|name| !before.contains(name)).collect();
        let find = |part: &str| new.iter().find(|name| name.contains(part)).expect("an object").clone();
        let (catalog, manifest) = (find(".catalog.zst."), find(".manifest.json"));
        let archive = catalog.replace(".catalog", "");
        Stored { lab, store, input, archive, catalog, manifest }
    }

    /// `JOB@ID`
    fn name(&self) -> String {
        let id = self.manifest.trim_start_matches(&format!("{JOB}/")).trim_end_matches(".manifest.json");
        format!("{JOB}@{id}")
    }

    fn verify(&self) -> i32 {
        self.lab.run(&["verify", &self.name(), "--from", &self.store.url()]).code
    }

    /// Restores; whatever comes out must be right as far as it goes.
    #[track_caller]
    fn restore(&self, what: &str) -> i32 {
        let ended = self.lab.run(&["restore", &self.name(), "--to-stdout", "--from", &self.store.url()]);
        assert!(!ended.stderr.contains("panicked"), "{what}: {}", ended.stderr);
        assert!(self.input.starts_with(&ended.stdout), "{what}: a wrong byte");
        assert!(ended.code != 0 || ended.stdout == self.input, "{what}: success without all bytes");
        ended.code
    }

    /// Restores and verifies with an object changed by `change`, then puts it back.
    #[track_caller]
    fn with(&self, name: &str, what: &str, change: impl FnOnce(&mut Vec<u8>)) -> (i32, i32) {
        let good = self.store.read(name);
        let mut bad = good.clone();
        change(&mut bad);
        self.store.write(name, &bad);
        let codes = (self.restore(what), self.verify());
        self.store.write(name, &good);
        codes
    }

    fn len(&self, name: &str) -> usize {
        self.store.read(name).len()
    }
}

/// `count` places in `len` bytes, spread over all of them.
fn spread(len: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |i| (len / count * i + i) % len)
}

#[test]
fn a_flipped_byte_anywhere_in_the_archive_is_found() {
    flipped_in_the_archive("cfb", 49);
}

#[test]
fn a_flipped_byte_anywhere_in_an_archive_sealed_by_the_aead_is_found() {
    flipped_in_the_archive("aead", 79);
}

/// `head`: bytes of the key packet and the next packet's tag.
fn flipped_in_the_archive(cipher: &str, head: usize) {
    let lab = Lab::new();
    let store = AnyStore::File(lab.path("store"));
    let stored = Stored::by(&lab, &store, 11, cipher);
    let len = stored.len(&stored.archive);
    // The key packet, the prefix or salt and the first frame's beginning; the seams of chunks with their tags; the MDC or
    // the last tag; and some anywhere.
    let seams = (1..4).flat_map(|mib| [0, 1, 20, 31, 36, 40, 51].map(|at| (mib << 20) + head + at));
    let places: Vec<_> = (0..head + 48).chain(seams).chain(len - 26..len).chain(spread(len, 40)).collect();
    let mut noticed = 0;
    for &place in &places {
        let what = format!("byte {place} of the archive");
        let (restored, verified) = stored.with(&stored.archive, &what, |bytes| bytes[place] ^= 0x10);
        // A flip inside the key packet may look like another passphrase.
        let damaged = |code| code == 13 || code == 12 && place < head;
        assert!(damaged(verified), "{what}: verify {verified}");
        // What a restore need not read, lengths of chunks and the MDC, it need not notice: the bytes are the right ones.
        assert!(damaged(restored) || restored == 0, "{what}: restore {restored}");
        noticed += usize::from(restored != 0);
    }
    assert!(noticed > places.len() / 2, "only {noticed} of {} flips were noticed by a restore", places.len());
    assert_eq!((stored.restore("put back"), stored.verify()), (0, 0));
}

#[test]
fn a_flipped_byte_anywhere_in_catalog_or_manifest_is_found() {
    ["cfb", "aead"].iter().for_each(|cipher| flipped_in_catalog_or_manifest(cipher));
}

fn flipped_in_catalog_or_manifest(cipher: &str) {
    let lab = Lab::new();
    let store = AnyStore::File(lab.path("store"));
    let stored = Stored::by(&lab, &store, 15, cipher);
    let len = stored.len(&stored.catalog);
    let mut noticed = 0;
    for place in (0..84).chain(spread(len, 30)).chain(len - 26..len) {
        let what = format!("byte {place} of the catalog");
        let (restored, verified) = stored.with(&stored.catalog, &what, |bytes| bytes[place] ^= 0x10);
        // The pages that are acted on are confirmed by keyed hashes; what is around them a restore need not read.
        assert!(verified == 13 && (restored == 13 || restored == 0), "{what}: {restored} {verified}");
        noticed += usize::from(restored != 0);
    }
    assert!(noticed > 70, "only {noticed} flips were noticed by a restore");
    let len = stored.len(&stored.manifest);
    for place in spread(len, 40).chain([len - 2]) {
        let what = format!("byte {place} of the manifest");
        assert_eq!(stored.with(&stored.manifest, &what, |bytes| bytes[place] ^= 0x01), (13, 13), "{what}");
    }
    assert_eq!((stored.restore("put back"), stored.verify()), (0, 0));
}

#[test]
fn objects_that_are_cut_lost_or_exchanged_are_found_at_every_store() {
    let lab = Lab::new();
    for store in &AnyStore::all(&lab) {
        let (first, second) = (Stored::new(&lab, store, 12), Stored::new(&lab, store, 13));
        for keep in [1, 100, 1 << 20, 4_000_000] {
            let what = format!("{}: the archive cut to {keep}", store.url());
            assert_eq!(second.with(&second.archive, &what, |bytes| bytes.truncate(keep)), (13, 13), "{what}");
        }
        for keep in [1, 100, 400] {
            let what = format!("{}: the catalog cut to {keep}", store.url());
            assert_eq!(second.with(&second.catalog, &what, |bytes| bytes.truncate(keep)), (13, 13), "{what}");
        }
        for (name, place) in [(&second.archive, 2_000_000), (&second.catalog, 300), (&second.manifest, 30)] {
            let what = format!("{}: byte {place} of {name}", store.url());
            assert_eq!(second.with(name, &what, |bytes| bytes[place] ^= 4), (13, 13), "{what}");
        }
        let [archive, catalog, manifest] =
            [&first.archive, &first.catalog, &first.manifest].map(|name| store.read(name));
        let what = |what: &str| format!("{}: {what}", store.url());
        let with =
            |name: &str, other: &Vec<u8>| second.with(name, &what(name), |bytes| other.clone_into(bytes));
        assert_eq!(with(&second.archive, &archive), (13, 13), "{}", what("another archive"));
        assert_eq!(with(&second.catalog, &catalog), (13, 13), "{}", what("another catalog"));
        assert_eq!(with(&second.manifest, &manifest), (13, 13), "{}", what("another manifest"));
        // Both of another archive: they fit each other, but they are not the ones asked for.
        store.write(&second.archive, &archive);
        assert_eq!(with(&second.catalog, &catalog), (13, 13), "{}", what("another backup"));
        store.delete(&second.catalog);
        assert_eq!((second.restore("no catalog"), second.verify()), (13, 13), "{}", what("no catalog"));
        store.delete(&second.archive);
        assert_eq!((second.restore("no archive"), second.verify()), (13, 13), "{}", what("no archive"));
        assert_eq!((first.restore("the other"), first.verify()), (0, 0), "{}", what("the other"));
    }
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
    lab.run(&["verify", JOB, "--stored", "--from", &lab.file_store()]).expect_error(13, "BLAKE3 differs");
}

#[test]
fn a_frame_of_another_archive_is_found() {
    let lab = Lab::new();
    let store = AnyStore::File(lab.path("store"));
    // The same bytes, sealed twice with one passphrase: what is put at the same place is the same frame, of another archive.
    let (first, second) = (Stored::new(&lab, &store, 16), Stored::new(&lab, &store, 16));
    let foreign = store.read(&first.archive);
    let codes = second.with(&second.archive, "a frame of another archive", |bytes| {
        bytes[2_000_000..3_000_000].copy_from_slice(&foreign[2_000_000..3_000_000]);
    });
    assert_eq!(codes, (13, 13));
}

#[test]
fn a_hostile_tar_is_refused_before_anything_is_unpacked() {
    let lab = Lab::new();
    let store = lab.file_store();
    let member = |name: &str, flag, link: &str| bare_member(name.as_bytes(), flag, link);
    for (name, flag, link) in
        [("../up", b'0', ""), ("a/../../up", b'0', ""), ("l", b'1', "../../etc/passwd"), ("dev", b'4', "")]
    {
        let tar = [member("good", b'0', ""), member(name, flag, link), vec![0; 1024]].concat();
        lab.backup_stdin(&store, &tar, &[]).expect(0);
        let ended = lab.run(&["restore", JOB, "--to-path", "target", "--from", &store]);
        ended.expect_error(14, "may not be unpacked").hint("--exclude");
        assert!(!lab.path("target").exists(), "{name}: something was made");
        lab.run(&["restore", JOB, "--to-path", "target", "--exclude", name, "--from", &store]).expect(0);
        assert_eq!(sh(&format!("cd {}; find target -type f", lab.dir.display())), "target/good\n", "{name}");
        std::fs::remove_dir_all(lab.path("target")).expect("the target");
        a_second_later();
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
    a_second_later();
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

#[test]
fn a_byte_that_is_flipped_on_its_way_is_fetched_once_more() {
    let lab = Lab::new();
    let plain = lab.path("plain");
    std::fs::create_dir(&plain).expect("a folder");
    std::fs::write(plain.join("file"), noise(7, 100_000)).expect("a file");
    lab.run(&["backup", "path", "plain", "--job", JOB, "--to", &lab.file_store()]).expect(0);
    let read = |fault: Fault, words: &[&str]| {
        let server = FakeS3::start(fault);
        server.load(&lab.path("store"));
        let mut command = lab.sealift();
        command.env("AWS_ENDPOINT_URL", &server.endpoint).env("AWS_REGION", "r");
        command.env("AWS_ACCESS_KEY_ID", "k").env("AWS_SECRET_ACCESS_KEY", "s");
        let ended = command.args(words).args(["--from", "s3://b"]).output().expect("sealift runs");
        (Ended::from(ended), server.gets())
    };
    let copy = format!("file://{}", lab.path("copy").display());
    let verbs: [&[&str]; 8] = [
        &["list", "--json"],
        &["ls", JOB],
        &["cat", JOB, "plain/file"],
        &["restore", JOB, "--to-stdout"],
        &["restore", JOB, "--include", "*file", "--to-stdout"],
        &["verify", JOB],
        &["verify", JOB, "--stored"],
        &["copy", JOB, "--to", &copy],
    ];
    for words in verbs {
        let fresh = || {
            let _ = std::fs::remove_dir_all(lab.path("copy"));
            std::fs::create_dir(lab.path("copy")).expect("a store's folder");
        };
        fresh();
        let (whole, gets) = read(Fault::None, words);
        let whole = whole.expect(0).stdout;
        assert!(gets > 0);
        for n in 1..=gets {
            fresh();
            let (ended, _) = read(Fault::FlippedGet(n), words);
            assert!(ended.expect(0).stdout == whole, "{words:?}: GET {n} of {gets}");
        }
        fresh();
        let (ended, _) = read(Fault::FlippedArchive, words);
        match words[0] {
            // They read manifest and catalog alone.
            "list" | "ls" => assert!(ended.expect(0).stdout == whole, "{words:?}"),
            _ => drop(ended.expect(13)),
        }
    }
}
