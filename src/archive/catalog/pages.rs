//! The pages of a catalog, so that one member of millions costs no more than an index and a page. Both directions.
//!
//! A page is a zstd frame of its own with lines of one kind: frames of one archive, or entries in path order. Behind the
//! last record, `page` lines say what each holds and have its keyed hash: the index, a zstd frame as well. A skippable
//! frame (RFC 8878 §3.1.2) ends it all and says where the index is. `zstd -d` gives the lines of all pages in a row.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{EntryLine, FrameRecord, Record};
use crate::archive::frame::Hash;
use crate::error::{Context, Error, Result};
use crate::tar::name;

/// Bytes of lines in a page, at most, unless one line alone is longer.
pub const PAGE_LEN: usize = 1 << 20;
/// The most that a page may claim to hold, so that no catalog asks for any amount of memory.
const LARGEST_PAGE: usize = 64 << 20;
/// The most that an index may take, stored and opened, so that a reader has room for it.
pub(super) const LARGEST_INDEX: u64 = 64 << 20;
/// The most that is written of one; a catalog that would need more has none, and is read from its front.
const LONGEST_INDEX: usize = LARGEST_INDEX as usize / 2;
/// Bytes of a name in the index, at most: paths may have thousands, and a page two of them.
const LONGEST_NAME: usize = 256;
const LEVEL: i32 = 3;

/// Magic number of the skippable frame at the end, and the bytes that it holds: index offset, index length, keyed hash.
const MAGIC: u32 = 0x184D_2A53;
const TAIL: usize = 8 + 8 + 32;
/// Bytes of the frame at the end.
pub const TAIL_LEN: u64 = 8 + TAIL as u64;

/// A page, as a line of the index has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRecord {
    /// Offset of its first byte in the compressed stream.
    pub at: u64,
    /// Bytes it takes there.
    pub len: u64,
    /// Bytes of its lines.
    pub lines_len: u64,
    /// Its keyed hash, see [`PageKey`].
    pub blake3: Hash,
    /// What it holds.
    pub holds: Holds,
}

/// What a page holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Holds {
    /// What archive it is, which ones it needs, or how it ended.
    Records,
    /// Frames that hold bytes `from..to` of the source of one archive, in order; of a needed archive with gaps between.
    Frames {
        /// The archive: 0 is this one.
        #[serde(default, rename = "ref", skip_serializing_if = "super::is_zero")]
        reference: u32,
        /// Where its first frame begins.
        from: u64,
        /// Where its last frame ends.
        to: u64,
    },
    /// Members.
    Entries {
        /// Which run of pages in path order it belongs to; none where members come in any order.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        run: Option<u32>,
        /// How many.
        count: u64,
        /// The least of their names in path order, without `./` and the slash behind a folder, as [`name::text`] writes it;
        /// of a long one its beginning.
        first: String,
        /// The greatest; of a long one, a short name that is greater.
        last: String,
    },
}

/// What the hashes of pages are made with.
#[derive(Clone)]
pub struct PageKey {
    key: [u8; 32],
    id: String,
}

impl PageKey {
    /// Derives it from the catalog's session key (BLAKE3 derive_key mode); its hashes are bound to the archive's id.
    pub fn new(session: &[u8], id: &str) -> Self {
        PageKey { key: blake3::derive_key("sealift 2026-11-26 format 2 page hash", session), id: id.into() }
    }

    /// The hash of the page whose stored bytes begin at `at`.
    pub fn hash(&self, at: u64, stored: &[u8]) -> Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&(self.id.len() as u64).to_le_bytes()).update(self.id.as_bytes());
        hasher.update(&at.to_le_bytes()).update(stored);
        Hash(*hasher.finalize().as_bytes())
    }
}

/// Lines that are no page yet.
#[derive(Default)]
struct Open {
    lines: Vec<u8>,
    holds: Option<Holds>,
    /// Of entries, the least and the greatest name.
    first: Vec<u8>,
    last: Vec<u8>,
}

/// Entries in path order, over pages and over what stands between them.
#[derive(Default)]
struct Run {
    number: u32,
    last: Option<Vec<u8>>,
}

impl Run {
    fn ends_before(&self, name: &[u8]) -> bool {
        self.last.as_deref().is_some_and(|last| name::path_order(last, name).is_ge())
    }

    /// Goes to the next entry, and says which run that is in.
    fn go_on(&mut self, name: &[u8], in_next: bool) -> u32 {
        self.number += u32::from(in_next);
        let last = self.last.get_or_insert_default();
        last.clear();
        last.extend_from_slice(name);
        self.number
    }
}

/// A name that is not greater in path order, nor long.
fn cut_down(name: &[u8]) -> &[u8] {
    &name[..name.len().min(LONGEST_NAME)]
}

/// A name that is not less in path order, nor long if that can be: names of nothing but the greatest byte stay as they are.
fn cut_up(name: &[u8]) -> Cow<'_, [u8]> {
    let cut = cut_down(name);
    let Some(at) = cut.iter().rposition(|&byte| byte < u8::MAX).filter(|_| cut.len() < name.len()) else {
        return Cow::Borrowed(name);
    };
    let mut greater = cut[..=at].to_vec();
    // A slash is less than any other byte.
    greater[at] = match greater[at] {
        b'/' => 0,
        byte if byte + 1 == b'/' => b'/' + 1,
        byte => byte + 1,
    };
    Cow::Owned(greater)
}

/// Cuts records into pages.
pub struct PageWriter {
    key: PageKey,
    zstd: zstd::bulk::Compressor<'static>,
    /// Frames and entries lie in pages of their own, which fill side by side.
    frames: Open,
    entries: Open,
    /// The run at hand; none where entries come in any order.
    run: Option<Run>,
    line: Vec<u8>,
    at: u64,
    /// Lines of the index; none where they became too many.
    index: Option<Vec<u8>>,
    longest_index: usize,
    out: Vec<u8>,
}

impl PageWriter {
    /// At the beginning of a catalog. `sorted`: entries come in a few runs in path order.
    ///
    /// # Errors
    /// zstd cannot be set up.
    pub fn new(key: PageKey, sorted: bool) -> Result<Self> {
        let mut zstd = zstd::bulk::Compressor::new(LEVEL).context(|| "cannot set up zstd".into())?;
        zstd.include_checksum(true).context(|| "cannot set up zstd".into())?;
        Ok(PageWriter {
            key,
            zstd,
            frames: Open::default(),
            entries: Open::default(),
            run: sorted.then(Run::default),
            line: Vec::new(),
            at: 0,
            index: Some(Vec::new()),
            longest_index: LONGEST_INDEX,
            out: Vec::new(),
        })
    }

    /// Takes in the next record.
    ///
    /// # Errors
    /// It does not serialise, or zstd fails.
    pub fn push(&mut self, record: &Record) -> Result<()> {
        self.line.clear();
        write_line(&mut self.line, record)?;
        match record {
            Record::Frame(frame) => self.frame(frame),
            Record::Entry(entry) => self.entry(name::plain(&entry.name())),
            _ => {
                self.close()?;
                let lines = std::mem::take(&mut self.line);
                self.page(Open { lines, holds: Some(Holds::Records), ..Open::default() })
            }
        }
    }

    /// Takes in the line of a member of another catalog.
    ///
    /// # Errors
    /// As [`PageWriter::push`].
    pub fn push_line(&mut self, line: &EntryLine) -> Result<()> {
        self.line.clear();
        line.write(&mut self.line)?;
        self.entry(&line.name)
    }

    fn frame(&mut self, frame: &FrameRecord) -> Result<()> {
        let (reference, from, end) = (frame.reference, frame.at, frame.at.saturating_add(frame.len));
        let same =
            matches!(&self.frames.holds, Some(Holds::Frames { reference: own, .. }) if *own == reference);
        if !same || self.frames.lines.len() + self.line.len() > PAGE_LEN {
            let full = std::mem::take(&mut self.frames);
            self.page(full)?;
        }
        match &mut self.frames.holds {
            Some(Holds::Frames { to, .. }) => *to = end,
            holds => *holds = Some(Holds::Frames { reference, from, to: end }),
        }
        self.frames.lines.append(&mut self.line);
        Ok(())
    }

    fn entry(&mut self, plain: &[u8]) -> Result<()> {
        let ends_run = self.run.as_ref().is_some_and(|run| run.ends_before(plain));
        if ends_run || self.entries.lines.len() + self.line.len() > PAGE_LEN {
            let full = std::mem::take(&mut self.entries);
            self.page(full)?;
        }
        let run = self.run.as_mut().map(|run| run.go_on(plain, ends_run));
        let entries = &mut self.entries;
        let is_first = entries.holds.is_none();
        match &mut entries.holds {
            Some(Holds::Entries { count, .. }) => *count += 1,
            holds => {
                let (first, last) = (String::new(), String::new());
                *holds = Some(Holds::Entries { run, count: 1, first, last });
            }
        }
        if is_first || name::path_order(plain, &entries.first).is_lt() {
            entries.first = plain.to_vec();
        }
        if is_first || name::path_order(plain, &entries.last).is_gt() {
            entries.last = plain.to_vec();
        }
        entries.lines.append(&mut self.line);
        Ok(())
    }

    /// Ends the pages at hand.
    fn close(&mut self) -> Result<()> {
        let (frames, entries) = (std::mem::take(&mut self.frames), std::mem::take(&mut self.entries));
        self.page(frames)?;
        self.page(entries)
    }

    fn page(&mut self, open: Open) -> Result<()> {
        let Some(mut holds) = open.holds else { return Ok(()) };
        if let Holds::Entries { first, last, .. } = &mut holds {
            (*first, *last) = (name::text(cut_down(&open.first)), name::text(&cut_up(&open.last)));
        }
        let stored = self.zstd.compress(&open.lines).context(|| "zstd failed".into())?;
        let blake3 = self.key.hash(self.at, &stored);
        let (at, len, lines_len) = (self.at, stored.len() as u64, open.lines.len() as u64);
        if let Some(index) = &mut self.index {
            write_line(index, &Record::Page(PageRecord { at, len, lines_len, blake3, holds }))?;
            if index.len() > self.longest_index {
                self.index = None;
            }
        }
        self.at += len;
        self.out.extend_from_slice(&stored);
        Ok(())
    }

    /// What is ready to be stored.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Ends the catalog: what is left of it, the index, and where that is, if it has one.
    ///
    /// # Errors
    /// As [`PageWriter::push`].
    pub fn finish(mut self) -> Result<Vec<u8>> {
        self.close()?;
        let Some(lines) = self.index.take() else { return Ok(self.out) };
        let stored = self.zstd.compress(&lines).context(|| "zstd failed".into())?;
        self.out.extend_from_slice(&stored);
        let index = Index { at: self.at, len: stored.len() as u64, blake3: self.key.hash(self.at, &stored) };
        self.out.extend_from_slice(&index.tail());
        Ok(self.out)
    }
}

pub(super) fn write_line(lines: &mut Vec<u8>, record: &Record) -> Result<()> {
    serde_json::to_writer(&mut *lines, record).context(|| "cannot write a catalog record".into())?;
    lines.push(b'\n');
    Ok(())
}

/// Where the index lies in the compressed stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Offset of its first byte.
    pub at: u64,
    /// Bytes.
    pub len: u64,
    /// Its keyed hash.
    pub blake3: Hash,
}

impl Index {
    /// The frame at the end.
    fn tail(&self) -> Vec<u8> {
        let mut tail = Vec::with_capacity(TAIL_LEN as usize);
        tail.extend_from_slice(&MAGIC.to_le_bytes());
        tail.extend_from_slice(&(TAIL as u32).to_le_bytes());
        tail.extend_from_slice(&self.at.to_le_bytes());
        tail.extend_from_slice(&self.len.to_le_bytes());
        tail.extend_from_slice(&self.blake3.0);
        tail
    }

    /// Reads the frame at the end of a stream; none where there is no such frame: a catalog of format 1.
    pub fn from_tail(tail: &[u8]) -> Option<Index> {
        let number = |at: usize| Some(u64::from_le_bytes(tail.get(at..at + 8)?.try_into().ok()?));
        let is_ours = tail.len() as u64 == TAIL_LEN
            && tail.starts_with(&MAGIC.to_le_bytes())
            && tail[4..8] == (TAIL as u32).to_le_bytes();
        let blake3 = Hash(tail.get(24..56)?.try_into().ok()?);
        is_ours.then_some(Index { at: number(8)?, len: number(16)?, blake3 })
    }
}

/// The lines of a page, which its hash has confirmed.
///
/// # Errors
/// It is not what was sealed, or holds more than it says.
pub fn open_page(key: &PageKey, at: u64, blake3: &Hash, lines_len: u64, stored: &[u8]) -> Result<Vec<u8>> {
    let damaged = |what: &str| Error::damaged(format!("the catalog is damaged: {what}"));
    if key.hash(at, stored) != *blake3 {
        return Err(damaged("a page is not what was sealed"));
    }
    let len = usize::try_from(lines_len).ok().filter(|&len| len <= LARGEST_PAGE);
    let len = len.ok_or_else(|| damaged("a page is too large"))?;
    let lines = zstd::bulk::decompress(stored, len);
    lines.map_err(|e| damaged("a page is no zstd").because(e)).and_then(|lines| match lines.len() == len {
        true => Ok(lines),
        false => Err(damaged("a page has another length")),
    })
}

/// The records in some lines.
///
/// # Errors
/// A line is none.
pub fn parse_lines(lines: &[u8]) -> Result<Vec<Record>> {
    let records = lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    records.map(super::parse_line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::Entry;

    fn record(path: &str) -> Record {
        let json = serde_json::json!({
            "path": path, "type": "file", "mode": 0, "uid": 0, "gid": 0, "mtime": "0", "size": 0, "at": 0, "len": 512,
        });
        Record::Entry(serde_json::from_value::<Entry>(json).unwrap())
    }

    #[test]
    fn long_names_are_cut_in_the_index_and_stay_bounds() {
        let short = b"a/b".to_vec();
        assert_eq!((cut_down(&short), &cut_up(&short)[..]), (&short[..], &short[..]));
        for beyond in [&b"/"[..], b"\xff", b"x", b".", b"\x00"] {
            for byte in 0..=u8::MAX {
                let mut name = vec![b'x'; LONGEST_NAME];
                name[LONGEST_NAME - 1] = byte;
                name.extend_from_slice(beyond);
                let (less, greater) = (cut_down(&name), cut_up(&name));
                assert!(less.len() <= LONGEST_NAME && greater.len() <= LONGEST_NAME);
                assert!(name::path_order(less, &name).is_lt(), "{byte}");
                assert!(name::path_order(&greater, &name).is_gt(), "{byte}");
            }
        }
        let greatest = vec![u8::MAX; 2 * LONGEST_NAME];
        assert_eq!(*cut_up(&greatest), greatest);
    }

    #[test]
    fn the_index_keeps_within_what_readers_take_or_is_left_out() {
        let finished = |longest_index: usize| {
            let mut pages = PageWriter::new(PageKey::new(&[], "id"), true).unwrap();
            pages.longest_index = longest_index;
            let mut bytes = Vec::new();
            for n in 0..600 {
                pages.push(&record(&format!("{n:04}{}", "/y".repeat(2000)))).unwrap();
                bytes.append(&mut pages.take());
            }
            let lines = pages.index.as_ref().map(Vec::len);
            bytes.append(&mut pages.finish().unwrap());
            (lines, bytes)
        };
        let (lines, indexed) = finished(LONGEST_INDEX);
        assert!(lines.is_some_and(|lines| (1..2 * 1024).contains(&lines)), "{lines:?}");
        let tail = |bytes: &[u8]| Index::from_tail(&bytes[bytes.len() - TAIL_LEN as usize..]);
        let index = tail(&indexed).unwrap();
        let (none, bare) = finished(100);
        assert!(none.is_none() && tail(&bare).is_none());
        assert_eq!(bare, indexed[..index.at as usize], "the same pages");
    }
}
