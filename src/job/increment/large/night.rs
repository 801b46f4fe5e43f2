//! Nights of a source that is nowhere: files with fingerprints, frames without bytes. The catalogs are real, and so is how
//! they come about; the archives are holes.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::runtime::{Handle, Runtime};

use crate::archive::catalog::{
    self, ArchiveRecord, EndRecord, FORMAT, FrameRecord, Record, Scanned as ScannedCatalog, Totals,
};
use crate::archive::digest::ObjectDigest;
use crate::archive::frame::{Codec, Compressor, FRAME_LEN, FrameKey, Hash, Packed};
use crate::archive::{Format, Id};
use crate::job::increment::base::{Base, Found, Search};
use crate::job::increment::compare::{Before, Comparison, Kept};
use crate::job::increment::keep::write_kept;
use crate::job::increment::runs::Members;
use crate::job::increment::{Compare, Increments, Rebase};
use crate::report::Reporter;
use crate::source::Scanned;
use crate::store::StoreUrl;
use crate::store::manifest::{Manifest, SUFFIX};
use crate::stream::channel::{Receiver, Sender, channel};
use crate::tar::stat::{FileTime, Stat};
use crate::tar::{BLOCK, Entry, EntryType};

pub(super) const JOB: &str = "large";
pub(super) const ARCHIVE: &str = ".tar.zst";
const FRAME: u64 = FRAME_LEN as u64;
const DAY: i64 = 86_400;
/// The first night, in seconds since 1970.
const FIRST: i64 = 1_790_000_000;
/// Members of a folder, itself included.
const FOLDER: u64 = 1000;
/// What a member takes beside its data: a pax header, its block, and the member's own.
const HEADERS: u64 = 3 * BLOCK as u64;
/// Records that are handed over at once.
const BATCH: usize = 256;

/// A source.
pub(super) struct Source {
    pub(super) members: u64,
    /// Bytes of a file, on average.
    pub(super) mean: u64,
    /// A file of 1 MiB whose bytes are there, in two frames.
    pub(super) target: Option<u64>,
    /// The second half of all files are other names of the first.
    pub(super) linked: bool,
}

/// A number that looks like chance (splitmix64).
fn mix(number: u64, salt: u64) -> u64 {
    let mut z = number.wrapping_add(salt << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(salt);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn is_folder(number: u64) -> bool {
    number.is_multiple_of(FOLDER)
}

/// Whether a member changed before a night: before the second one in a hundred, before the third every other one, so that
/// what is kept never lies side by side; before the fourth none.
fn changed(number: u64, night: u64) -> bool {
    match night {
        1 => true,
        2 => !is_folder(number) && mix(number, 1).is_multiple_of(100),
        3 => number % 2 == 1,
        _ => false,
    }
}

fn padded(size: u64) -> u64 {
    size.next_multiple_of(BLOCK as u64)
}

impl Source {
    /// Chooses a file to be there, of those in the middle that no later night changes.
    pub(super) fn with_target(mut self) -> Source {
        let mut at = 0;
        for number in 0..self.members {
            let first = at + HEADERS;
            let is_in_two = first / FRAME != (first + (1 << 19)) / FRAME;
            let is_never_changed = !is_folder(number) && (2..4).all(|night| !changed(number, night));
            if number >= self.members / 2 && is_never_changed && is_in_two {
                self.target = Some(number);
                return self;
            }
            at += self.len(number, 1);
        }
        panic!("no member lies in two frames");
    }

    /// Of which file it is another name.
    fn target_of(&self, number: u64) -> Option<u64> {
        let half = self.half();
        (self.linked && number >= half && !is_folder(number)).then(|| number - half)
    }

    /// Half of all members, to a whole folder.
    fn half(&self) -> u64 {
        (self.members / 2).next_multiple_of(FOLDER)
    }

    fn size(&self, number: u64, night: u64) -> u64 {
        match self.target_of(number).unwrap_or(number) {
            number if is_folder(number) => 0,
            _ if self.target == Some(number) => 1 << 20,
            _ => mix(number, 2 + night) % (2 * self.mean),
        }
    }

    fn len(&self, number: u64, night: u64) -> u64 {
        HEADERS + padded(self.size(number, night))
    }

    pub(super) fn name(number: u64) -> String {
        let folder = number / FOLDER;
        match is_folder(number) {
            true => format!("srv/registry/{folder:05}"),
            false => format!("srv/registry/{folder:05}/member-{number:07}.bin"),
        }
    }

    /// What a scan finds on a night. Times and inode numbers are as hard to compress as they can be.
    fn file(&self, own: u64, night: u64) -> Scanned {
        let number = self.target_of(own).unwrap_or(own);
        let has_two = self.linked && !is_folder(own) && number + self.half() < self.members;
        let last = (1..=night).rev().find(|&night| changed(number, night)).unwrap();
        let before = if last == 1 { 1000 * DAY } else { DAY / 2 };
        let started = FIRST + (last as i64 - 1) * DAY;
        let nanos = |salt| (mix(number, salt + last) % 1_000_000_000) as u32;
        let mtime = started - 100 - (mix(number, 10 + last) as i64).rem_euclid(before);
        let mtime = FileTime { seconds: mtime, nanos: nanos(20) };
        let ctime = started - 50 - (mix(number, 30 + last) as i64).rem_euclid(started - 50 - mtime.seconds);
        // Files that were written in place have one time; those that were copied have two.
        let ctime = if number % 4 < 2 { mtime } else { FileTime { seconds: ctime, nanos: nanos(40) } };
        let (mode, inode) = match is_folder(number) {
            true => (0o040_755, number + 12),
            false if self.linked => (0o100_644, number + 12),
            false => (0o100_644, mix(number, 50) % (4 * self.members)),
        };
        let stat = Stat { mode, uid: 1000, gid: 1000, size: self.size(number, last), inode, mtime, ctime };
        let name = Source::name(own).into_bytes();
        Scanned { walked: name.clone(), name, stat, device: 1, links: if has_two { 2 } else { 1 } }
    }

    /// What a file of that name is a link to.
    fn link(&self, name: &[u8]) -> Option<String> {
        if !self.linked {
            return None;
        }
        let digits: String = std::str::from_utf8(name).unwrap().rsplit('/').next().unwrap().into();
        let number = digits.strip_prefix("member-")?.strip_suffix(".bin")?.parse().unwrap();
        self.target_of(number).map(Source::name)
    }

    fn files(&self, night: u64) -> impl Iterator<Item = Scanned> {
        (0..self.members).map(move |number| self.file(number, night))
    }
}

/// Source bytes of a frame that is there.
fn plain(frame: u64) -> Vec<u8> {
    let mut bytes = vec![0; FRAME_LEN];
    blake3::Hasher::new().update(&frame.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// The contents of the file that is there.
pub(super) fn target_bytes(source: &Source) -> Vec<u8> {
    let target = source.target.unwrap();
    let at = (0..target).map(|number| source.len(number, 1)).sum::<u64>() + HEADERS;
    let mut bytes = [plain(at / FRAME), plain(at / FRAME + 1)].concat();
    bytes.drain(..(at % FRAME) as usize);
    bytes.truncate(1 << 20);
    bytes
}

/// What stands for tar, the tap and the compressors.
struct Stream<'a> {
    records: Sender<Vec<Record>>,
    batch: Vec<Record>,
    archive: &'a File,
    id: &'a Id,
    /// The source's bytes so far, and the frames and stored bytes that were made of them.
    at: u64,
    frames: u64,
    stored: u64,
    /// Frames that are there.
    real: std::ops::Range<u64>,
}

impl<'a> Stream<'a> {
    fn new(records: Sender<Vec<Record>>, record: &'a ArchiveRecord, archive: &'a File) -> Stream<'a> {
        let batch = vec![Record::Archive(record.clone())];
        Stream { records, batch, archive, id: &record.id, at: 0, frames: 0, stored: 0, real: 0..0 }
    }

    fn send(&mut self, record: Record) {
        self.batch.push(record);
        if self.batch.len() == BATCH {
            self.records.send_blocking(std::mem::take(&mut self.batch)).unwrap();
        }
    }

    fn member(&mut self, file: &Scanned, link: Option<String>, is_target: bool) {
        let Stat { mode, uid, gid, mtime, .. } = file.stat;
        let (slash, kind, size) = match file.stat.is_dir() {
            true => ("/", EntryType::Dir, 0),
            false if link.is_some() => ("", EntryType::Link, 0),
            false => ("", EntryType::File, file.stat.size),
        };
        let entry = Entry {
            path: format!("{}{slash}", String::from_utf8(file.name.clone()).unwrap()),
            path_hex: None,
            content: None,
            kind,
            mode: mode & 0o7777,
            uid: uid.into(),
            gid: gid.into(),
            mtime: format!("{}.{:09}", mtime.seconds, mtime.nanos),
            size,
            link,
            link_hex: None,
            sparse: false,
            at: self.at,
            len: HEADERS + padded(size),
            reference: 0,
            stat: Some(file.stat),
            ctime: None,
        };
        if is_target {
            self.real = entry.at / FRAME..(entry.at + entry.len) / FRAME + 1;
        }
        self.at += entry.len;
        self.send(Record::Entry(entry));
        while (self.frames + 1) * FRAME <= self.at {
            self.frame(FRAME);
        }
    }

    fn frame(&mut self, len: u64) {
        let (n, at, stored_at) = (self.frames, self.frames * FRAME, self.stored);
        let (stored_len, blake3) = if self.real.contains(&n) {
            self.real_frame()
        } else {
            let mut hash = [0; 32];
            for (salt, bytes) in hash.chunks_mut(8).enumerate() {
                bytes.copy_from_slice(&mix(n, 60 + salt as u64).to_le_bytes());
            }
            (len / 2 + mix(n, 70) % (len / 4), Hash(hash))
        };
        self.frames += 1;
        self.stored += stored_len;
        self.send(Record::Frame(FrameRecord { n, at, len, stored_at, stored_len, blake3, reference: 0 }));
    }

    fn real_frame(&self) -> (u64, Hash) {
        let (plain, mut packed) = (plain(self.frames), Packed::default());
        Compressor::new(Codec::Zstd, 3).unwrap().compress(&plain, &mut packed).unwrap();
        let stored: Vec<u8> = packed.pieces(&plain).flatten().copied().collect();
        self.archive.write_all_at(&stored, self.stored).unwrap();
        let (n, at) = (self.frames, self.frames * FRAME);
        let hash = FrameKey::new(&[], self.id.as_str()).hash(n, at, FRAME, [&stored[..]]);
        (stored.len() as u64, hash)
    }

    /// Ends the tar, and says how many bytes are stored.
    fn finish(mut self) -> (Sender<Vec<Record>>, u64) {
        let end = (self.at + 2 * BLOCK as u64).next_multiple_of(20 * BLOCK as u64);
        while self.frames * FRAME < end {
            self.frame(FRAME.min(end - self.frames * FRAME));
        }
        self.records.send_blocking(std::mem::take(&mut self.batch)).unwrap();
        self.archive.set_len(self.stored).unwrap();
        (self.records, self.stored)
    }
}

fn record(night: u64) -> ArchiveRecord {
    let started = jiff::Timestamp::from_second(FIRST + (night as i64 - 1) * DAY).unwrap();
    ArchiveRecord {
        format: FORMAT,
        id: Id::new(started).unwrap(),
        job: JOB.into(),
        set: None,
        host: Some("h".into()),
        source_id: None,
        id_map: None,
        source: serde_json::json!({"path": ["/srv/registry"]}),
        kind: Format::Tar,
        codec: Codec::Zstd,
        cipher: None,
        frame_len: FRAME,
        head_len: 0,
        started,
        full: false,
    }
}

fn end(archive: &ArchiveRecord, totals: Totals, stored_bytes: u64) -> EndRecord {
    let Totals { frames, entries, bytes, kept } = totals;
    EndRecord {
        frames,
        entries,
        bytes,
        kept,
        partial: false,
        stored_bytes,
        blake3: blake3::hash(b"").to_hex().to_string(),
        exit_code: Some(0),
        warnings: Vec::new(),
        notes: Vec::new(),
        finished: archive.started,
    }
}

/// What a backup came to.
pub(super) struct Night {
    /// Bytes of files that changed.
    pub(super) changed: u64,
    /// Bytes of source that were sent.
    pub(super) sent: u64,
    /// Members that are kept.
    pub(super) kept: u64,
    /// Bytes of the catalog.
    pub(super) catalog: u64,
}

/// The backup to build on; none on the first night.
fn find_base(runtime: &Runtime, record: &ArchiveRecord, folder: &Path, night: u64) -> Option<Arc<Base>> {
    let store = StoreUrl::new(format!("file://{}", folder.display()));
    let stores = [Arc::new(store.open(&Reporter::silent()).unwrap())];
    let increments = Increments {
        full: false,
        full_every: None,
        compare: Compare::Stat,
        rebase: Rebase::default(),
        segment: None,
    };
    let search = Search { stores: &stores, record, passphrase: None };
    match runtime.block_on(search.find(&increments)).unwrap() {
        Found::Base(base) => Some(Arc::new(*base)),
        Found::Nothing(why) => {
            assert_eq!(night, 1, "{why}");
            None
        }
    }
}

/// Compares all files, and says what is kept.
fn compare(
    runtime: &Runtime,
    files: impl Iterator<Item = Scanned>,
    base: &Base,
    send: impl FnMut(Scanned),
) -> Kept {
    let (mut members, mut send) = (Members::of(&base.catalog).unwrap(), send);
    let next = || runtime.block_on(members.next());
    let started = base.catalog.archive().started;
    let mut comparison = Comparison::new(Before { members: next, started, gone: base.gone.clone() });
    for file in files {
        comparison.take(file).unwrap().into_iter().for_each(&mut send);
    }
    let (last, kept) = comparison.finish().unwrap();
    last.into_iter().for_each(send);
    kept
}

/// The end of a catalog's way: writes what is kept once that is known, and all that comes into a file.
fn write_catalog(
    received: Receiver<Vec<Record>>,
    record: &ArchiveRecord,
    base: Option<(Arc<Base>, Arc<OnceLock<Kept>>, Handle)>,
    stored_bytes: &OnceLock<u64>,
    mut file: File,
) -> (ObjectDigest, EndRecord) {
    let scanned = ScannedCatalog {
        stamp: Box::new(|_| Ok(())),
        kept: Box::new(move |write| match base {
            Some((base, kept, handle)) => {
                write_kept(&base.catalog, base.own.clone(), kept.get().unwrap(), &handle, write)
            }
            None => Ok(()),
        }),
    };
    let mut ended = None;
    let digest = std::thread::scope(|scope| {
        let (out, mut sealed) = channel::<Bytes>(4);
        scope.spawn(move || {
            while let Some(bytes) = sealed.recv_blocking().unwrap() {
                file.write_all(&bytes).unwrap();
            }
        });
        let end = |totals| Ok(ended.insert(end(record, totals, *stored_bytes.get().unwrap())).clone());
        let digest = catalog::write(received, &record.id, Some(scanned), end, None, &out).unwrap();
        out.finish_blocking(Ok(()));
        digest
    });
    (digest, ended.unwrap())
}

/// Backs a night up: finds the backup before, compares, and writes the catalog.
pub(super) fn back_up(runtime: &Runtime, source: &Source, folder: &Path, night: u64) -> Night {
    std::fs::create_dir_all(folder.join(JOB)).unwrap();
    let record = record(night);
    let base = find_base(runtime, &record, folder, night);
    let name = |suffix: &str| folder.join(JOB).join(format!("{}{suffix}", record.id));
    let (archive, catalog) =
        (File::create(name(ARCHIVE)).unwrap(), File::create(name(".catalog.zst")).unwrap());
    let (records, received) = channel(4);
    let (kept, stored_bytes, mut changed) = (Arc::new(OnceLock::new()), OnceLock::new(), 0);
    let of_base = base.clone().map(|base| (base, Arc::clone(&kept), runtime.handle().clone()));
    let (digest, end) = std::thread::scope(|scope| {
        let writing = scope.spawn(|| write_catalog(received, &record, of_base, &stored_bytes, catalog));
        let target = source.target.filter(|_| night == 1).map(|number| Source::name(number).into_bytes());
        let mut stream = Stream::new(records, &record, &archive);
        let mut send = |file: Scanned| {
            changed += file.stat.size;
            stream.member(&file, source.link(&file.name), target.as_ref() == Some(&file.name));
        };
        match &base {
            None => source.files(night).for_each(&mut send),
            Some(base) => kept.set(compare(runtime, source.files(night), base, send)).unwrap(),
        }
        let (records, stored) = stream.finish();
        stored_bytes.set(stored).unwrap();
        records.finish_blocking(Ok(()));
        writing.join().unwrap()
    });
    let references = kept.get().map(Kept::references).unwrap_or_default();
    let of_base = |reference| base.as_ref().unwrap().archive(reference).unwrap().id.clone();
    let mut needs: Vec<_> = references.into_iter().map(of_base).collect();
    needs.sort();
    let manifest = Manifest::of(&record, &end, needs, (&digest).into());
    assert_eq!(manifest.suffix, ARCHIVE);
    std::fs::write(name(SUFFIX), manifest.to_text().unwrap()).unwrap();
    Night { changed, sent: end.bytes, kept: end.kept.entries, catalog: digest.size }
}
