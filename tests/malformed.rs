//! Thousands of inputs that are cut, changed and made up, each the same on every run: whatever reads what comes from
//! outside returns, and never panics. That is all that is asked here; what is read right has tests of its own.

use std::io::Read;

use bytes::Bytes;
use sealift::archive::Id;
use sealift::archive::check::Check;
use sealift::archive::contents::read_catalog;
use sealift::archive::name::JobName;
use sealift::archive::openpgp::Head;
use sealift::archive::openpgp::message::Message;
use sealift::archive::sequential::Layer;
use sealift::store::locate;
use sealift::store::manifest::{self, Manifest};
use sealift::store::record::Record;
use sealift::tar::rewrite::Rewriter;
use sealift::tar::select::{Patterns, Selection, unsafe_member};
use sealift::tar::{Walker, is_header};

/// Inputs of each kind.
const ROUNDS: u64 = 2000;

/// Numbers that look random: xorshift.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    /// Something like `input`: some of its bytes changed, doubled, left out; now and then nothing but noise.
    fn spoil(&mut self, input: &[u8]) -> Vec<u8> {
        let mut bytes = input.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(7) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at.min(bytes.len()), self.next() as u8),
                2 if !bytes.is_empty() => drop(bytes.remove(at)),
                3 => {
                    let end = (at + self.below(64)).min(bytes.len());
                    let again = bytes[at.min(end)..end].to_vec();
                    bytes.splice(at.min(bytes.len())..at.min(bytes.len()), again);
                }
                4 => bytes = (0..self.below(1500)).map(|_| self.next() as u8).collect(),
                // Numbers are where readers trip.
                5 => {
                    if let Some(digit) = bytes.iter().skip(at).position(u8::is_ascii_digit) {
                        let number =
                            [&b"18446744073709551615"[..], b"0", b"99999999999", b"-1"][self.below(4)];
                        bytes.splice(at + digit..=at + digit, number.iter().copied());
                    }
                }
                _ if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                _ => {}
            }
        }
        bytes
    }
}

/// Has `read` look at inputs that were made of `seeds`, whole and in pieces.
fn none_panics(seeds: &[&[u8]], mut read: impl FnMut(&[u8], usize)) {
    let mut random = Random(0x5ea1_1f70);
    for round in 0..ROUNDS {
        let input = random.spoil(seeds[round as usize % seeds.len()]);
        let step = 1 + random.below(700);
        let read = std::panic::AssertUnwindSafe(|| read(&input, step));
        assert!(std::panic::catch_unwind(read).is_ok(), "round {round}, step {step}: {input:02x?}");
    }
}

/// A member of a tar, with its data.
fn member(name: &str, flag: u8, size: &str, data: &[u8]) -> Vec<u8> {
    let mut block = [0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    for (at, text) in
        [(100, "0000644"), (108, "0000000"), (116, "0000000"), (124, size), (136, "00000000000")]
    {
        block[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    block[156] = flag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut all = block.to_vec();
    all.extend_from_slice(data);
    all.resize(all.len().next_multiple_of(512), 0);
    all
}

/// A spoilt header keeps no checksum, so that most of a walker would not be reached: the sum is made right again.
fn with_right_sums(mut bytes: Vec<u8>) -> Vec<u8> {
    for block in bytes.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    }
    bytes
}

#[test]
fn no_tar_makes_the_walker_panic() {
    let pax = member("x", b'x', "00000000051", b"17 path=some/name\n20 size=123456789012\n");
    let sparse = member("s", b'S', "00000000010", b"12345678");
    let long = member("././@LongLink", b'L', "00000000005", b"long\0");
    let end = [0; 1024];
    let tar = [
        pax,
        member("f", b'0', "00000000003", b"abc"),
        sparse,
        long,
        member("d", b'5', "0", b""),
        end.to_vec(),
    ];
    let tar = tar.concat();
    let patterns = Patterns::new(&["s*".into()], &[]).expect("patterns");
    none_panics(&[&tar], |input, step| {
        for input in [input.to_vec(), with_right_sums(input.to_vec())] {
            let (mut walker, mut found) = (Walker::new(), Vec::new());
            let fed = input.chunks(step).try_for_each(|piece| walker.feed(piece, &mut found));
            let _ = fed.and_then(|()| walker.finish());
            is_header(&input);
            let mut selection = Selection::new(true);
            for entry in &found {
                selection.look(entry, &patterns);
                unsafe_member(entry, false);
                entry.data();
            }
            one_meaning(&input, step);
        }
    });
}

/// What is unpacked of a tar, spoilt as it may be, has the members that were looked at, and no other.
fn one_meaning(input: &[u8], step: usize) {
    let (mut rewriter, mut written, mut seen) = (Rewriter::new(), Vec::new(), Vec::new());
    for piece in input.chunks(step) {
        let pieces = rewriter.pass(&Bytes::copy_from_slice(piece), |member| {
            seen.push((member.entry.kind, member.entry.name()));
            Ok(true)
        });
        match pieces {
            Ok(pieces) => pieces.iter().for_each(|piece| written.extend_from_slice(piece)),
            // What is refused may have been looked at; nothing of it was written.
            Err(_) => return,
        }
    }
    if rewriter.between_members().is_err() {
        return;
    }
    written.extend([0; 1024]);
    let (mut walker, mut found) = (Walker::new(), Vec::new());
    walker.feed(&written, &mut found).and_then(|()| walker.finish()).expect("what is written is a tar");
    let stripped = |name: &[u8]| {
        let slashes = name.iter().take_while(|byte| **byte == b'/').count();
        if slashes == name.len() { b".".to_vec() } else { name[slashes..].to_vec() }
    };
    let seen: Vec<_> = seen.iter().map(|(kind, name)| (*kind, stripped(name))).collect();
    let found: Vec<_> = found.iter().map(|entry| (entry.kind, entry.name())).collect();
    assert_eq!(found, seen);
}

#[test]
fn no_message_makes_the_openpgp_readers_panic() {
    let ours = [&[0xc3, 46, 4, 9, 3, 8][..], &[1; 8], &[0], &[2; 33], &[0xd2, 0xf4, 1], &[7; 600]].concat();
    let aead = [
        &[0xc3, 75, 6, 26, 9, 3, 7, 3, 8][..],
        &[1; 8],
        &[0],
        &[2; 60],
        &[0xd2, 0xf4, 2, 9, 3, 14],
        &[7; 600],
    ];
    let lengths =
        [&[0xc3, 2, 4, 9][..], &[0xd2, 0xe9], &[1; 512], &[255, 0, 0, 0, 3], b"abc", &[0xa5, 1, 44]].concat();
    let armor = b"-----BEGIN PGP MESSAGE-----\n\naGVsbG8=\n=abcd\n-----END PGP MESSAGE-----\n";
    none_panics(&[&ours, &aead.concat(), &lengths, armor], |input, step| {
        let mut message = Message::default();
        let fed = input.chunks(step).try_for_each(|piece| message.feed(piece));
        let _ = fed.and_then(|()| message.finish());
        Layer::of(input);
        let _ = Head::open(input, &"secret".to_string().into());
        if let Ok(mut plain) = sealift::archive::openpgp::decrypt(input, &"secret".to_string().into()) {
            let _ = plain.read_to_end(&mut Vec::new());
        }
    });
}

const CATALOG: &str = r#"{"archive":{"format":1,"id":"20261122T020000Z-1f2e3d4c","job":"db","source":{"volume":["a"]},"kind":"tar","codec":"zstd","cipher":null,"frame_len":4194304,"head_len":0,"started":"2026-11-22T02:00:00Z"}}
{"frame":{"n":0,"at":0,"len":4096,"stored_at":0,"stored_len":300,"blake3":"0000000000000000000000000000000000000000000000000000000000000000"}}
{"entry":{"path":"a/b","type":"file","mode":420,"uid":0,"gid":0,"size":7,"mtime":"0.5","at":0,"len":1024}}
{"entry":{"path":"a/c","type":"link","link":"a/b","mode":420,"uid":0,"gid":0,"size":0,"mtime":"0","at":1024,"len":512}}
{"end":{"frames":1,"entries":2,"bytes":4096,"stored_bytes":300,"blake3":"00","warnings":[],"notes":[],"finished":"2026-11-22T02:00:01Z"}}
"#;

fn catalog(ndjson: &[u8]) -> sealift::error::Result<()> {
    let id: Id = "20261122T020000Z-1f2e3d4c".parse()?;
    let stored = zstd::encode_all(ndjson, 1).expect("zstd in memory");
    read_catalog(&stored[..], None, "db", &id, |entry| {
        let _ = entry.data();
    })
    .map(drop)
}

#[test]
fn no_catalog_makes_its_reader_panic() {
    catalog(CATALOG.as_bytes()).expect("the catalog that the others are made of is right");
    none_panics(&[CATALOG.as_bytes()], |input, _| {
        let _ = catalog(input);
        let id: Id = "20261122T020000Z-1f2e3d4c".parse().expect("an id");
        let _ = read_catalog(input, None, "db", &id, |_| {});
    });
}

#[test]
fn a_member_that_lies_beyond_the_end_of_its_source_is_damage() {
    for (from, to) in [
        (r#""at":1024,"len":512"#, r#""at":1024,"len":51200"#),
        (r#""at":1024,"len":512"#, r#""at":18446744073709551615,"len":512"#),
        (r#""at":0,"len":1024}}"#, r#""at":4000,"len":1024}}"#),
    ] {
        let error = catalog(CATALOG.replace(from, to).as_bytes()).expect_err(to);
        assert_eq!(error.kind().exit_code(), 13, "{to}: {error}");
    }
}

/// A text with its own digest, as manifests and records carry it.
fn with_digest(json: &[u8]) -> String {
    let json = String::from_utf8_lossy(json);
    let open = json.strip_suffix('}').unwrap_or(&json);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, open.as_bytes());
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{open},\"self\":\"{hex}\"}}\n")
}

#[test]
fn no_manifest_or_record_makes_its_reader_panic() {
    let manifest = br#"{"format":1,"id":"20261122T020000Z-1f2e3d4c","job":"db","kind":"tar","suffix":".tar.zst.gpg","started":"2026-11-22T02:00:00Z","finished":"2026-11-22T02:00:01Z","bytes":4096,"archive":{"size":300,"blake3":"00"},"catalog":{"size":100,"blake3":"00"},"warnings":0,"tool":"sealift 0.1.0"}"#;
    let record = br#"{"format":1,"id":"20261122T020000Z-1f2e3d4c","job":"db","level":"sample","share":0.5,"bytes":10,"at":"2026-11-22T02:00:01Z","tool":"sealift 0.1.0"}"#;
    Manifest::from_text(&with_digest(manifest)).expect("the manifest that the others are made of is right");
    Record::from_text(&with_digest(record)).expect("and so is the record");
    none_panics(&[manifest, record], |input, _| {
        let text = with_digest(input);
        if let Ok(manifest) = Manifest::from_text(&text) {
            manifest::parts_of_suffix(&manifest.suffix);
        }
        let _ = Record::from_text(&text);
        let _ = Manifest::from_text(&String::from_utf8_lossy(input));
    });
}

#[test]
fn no_name_url_or_expectation_makes_its_reader_panic() {
    let seeds: [&[u8]; 6] = [
        b"20261122T020000Z-1f2e3d4c",
        b"team/db@20261122T020000Z-1f2e3d4c",
        b"s3://bucket/a%20b/c?x#y",
        b"az://[::1]:99999/",
        "file:///gr\u{fc}n".as_bytes(),
        b"*.tar/[a-z]{1,2}",
    ];
    none_panics(&seeds, |input, _| {
        let text = String::from_utf8_lossy(input).into_owned();
        let _ = text.parse::<Id>().map(|id| id.time());
        let _ = text.parse::<JobName>();
        let _ = text.parse::<sealift::job::stored::ArchiveRef>();
        let _ = locate(&text);
        let _ = Patterns::new(std::slice::from_ref(&text), &[]).map(|patterns| patterns.take(b"a/b"));
        let _ = Check::new(&[text], 0);
    });
}
