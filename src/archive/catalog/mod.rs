//! The catalog: sealed NDJSON beside the archive that says what is in it and how it ended. Both directions.
//!
//! Lines: one `archive`, the `ref`s of the archives that it needs, `frame`s and `entry`s, one `end`. No `end`, or no proof
//! that the message is whole: no catalog. Format 2 lays them out in [`pages`], and has their index behind the end; format
//! 1 is one zstd frame, and each of its `frame`s is followed by the `entry`s that begin in it.

use std::io::{BufRead, BufReader, Read};

use bytes::Bytes;
use secrecy::SecretString;
use serde::de::IntoDeserializer;
use serde::{Deserialize, Deserializer, Serialize};

use super::digest::{Digest, ObjectDigest};
use super::frame::{Codec, Hash};
use super::openpgp::{self, Body, Cipher, Head, MessageKey, Packer, Sealer, block_pool};
use super::{Format, Id};
use crate::error::{Error, Kind, Result};
use crate::stream::channel::{Receiver, Sender};
use crate::tar::Entry;
use crate::tar::owners::IdMap;
use pages::{PageKey, PageRecord, PageWriter};

mod line;
pub mod paged;
pub mod pages;
mod refs;

pub use line::EntryLine;
pub use refs::RefRecord;

/// The version of the on-store format that is written.
pub const FORMAT: u32 = 2;
/// The first version that is read.
const FIRST_FORMAT: u32 = 1;

/// One line of the catalog.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Record {
    /// First: what archive this is.
    Archive(ArchiveRecord),
    /// An older archive that holds bytes of members.
    Ref(RefRecord),
    /// A frame of the archive, or of an older one.
    Frame(FrameRecord),
    /// A member of the tar, or one that an older archive holds.
    Entry(Entry),
    /// Last: how it ended.
    End(EndRecord),
    /// Where lines lie: behind the end, for readers of few of them.
    Page(PageRecord),
}

/// What archive this is and where it came from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ArchiveRecord {
    /// [`FORMAT`]
    pub format: u32,
    /// The archive's id.
    pub id: Id,
    /// Its job.
    pub job: String,
    /// The set it belongs to, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<String>,
    /// The host it was made on, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// A digest that tells its source from others, without saying what it is: see [`crate::source::Source::identity`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_id: Option<String>,
    /// Of volumes: how their engine maps ids, whose files have the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_map: Option<IdMap>,
    /// The source as it was asked for.
    pub source: serde_json::Value,
    /// Whether the source is a tar.
    pub kind: Format,
    /// How frames are compressed.
    pub codec: Codec,
    /// How it is encrypted: `cfb`, `aead`, or null (`--no-encrypt`).
    #[serde(deserialize_with = "cipher")]
    pub cipher: Option<Cipher>,
    /// Bytes of source in every frame but the last.
    pub frame_len: u64,
    /// Bytes of the object before the SEIPD packet's first length; 0 without encryption.
    pub head_len: u64,
    /// When the backup began, RFC 3339.
    pub started: jiff::Timestamp,
    /// Whether what it needs are partial archives that go back to one that needs nothing: together they are a full.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub full: bool,
}

/// The first archives say `openpgp` for `cfb`, and `none` for null.
fn cipher<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<Cipher>, D::Error> {
    let name = Option::<String>::deserialize(from)?.filter(|name| name != "none");
    name.map(|name| Cipher::deserialize(name.into_deserializer())).transpose()
}

/// One frame. Format 2 writes it as an array of its fields, format 1 as an object.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FrameRecord {
    /// Its number, from 0.
    pub n: u64,
    /// Offset of its first byte in the source.
    pub at: u64,
    /// Bytes of source in it.
    pub len: u64,
    /// Offset of its first byte in the compressed stream.
    pub stored_at: u64,
    /// Bytes it takes there.
    pub stored_len: u64,
    /// Keyed BLAKE3 of the compressed frame, see [`super::frame::FrameKey`].
    pub blake3: Hash,
    /// The archive that it belongs to; 0 is this one.
    #[serde(default, rename = "ref")]
    pub reference: u32,
}

impl Serialize for FrameRecord {
    fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        let FrameRecord { n, at, len, stored_at, stored_len, blake3, reference } = self;
        match reference {
            0 => (n, at, len, stored_at, stored_len, blake3).serialize(to),
            _ => (n, at, len, stored_at, stored_len, blake3, reference).serialize(to),
        }
    }
}

/// Whether a number is left out of a record.
pub(crate) fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// How the archive ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EndRecord {
    /// Number of frames.
    pub frames: u64,
    /// Number of tar members.
    pub entries: u64,
    /// Bytes of source.
    pub bytes: u64,
    /// Members that older archives hold, and their bytes there; none in a full.
    #[serde(default, skip_serializing_if = "Kept::is_nothing")]
    pub kept: Kept,
    /// It is a part of a run that goes on in another archive, and does not hold all of the source.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// Bytes of the stored object.
    pub stored_bytes: u64,
    /// BLAKE3 of the stored object, hex.
    pub blake3: String,
    /// The source process's exit code, where there was a process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// What the operator should know: files that changed while they were read.
    pub warnings: Vec<String>,
    /// What is so by nature: an end that cannot be proved.
    pub notes: Vec<String>,
    /// When the source had proved its end, RFC 3339.
    pub finished: jiff::Timestamp,
}

/// What older archives hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Members.
    pub entries: u64,
    /// Bytes that they take in the sources of those archives.
    pub bytes: u64,
}

impl Kept {
    /// Whether there is none.
    pub fn is_nothing(&self) -> bool {
        self.entries == 0
    }
}

/// What has been packed so far.
#[derive(Debug, Default, Clone, Copy)]
pub struct Totals {
    /// Frames.
    pub frames: u64,
    /// Tar members.
    pub entries: u64,
    /// Bytes of source.
    pub bytes: u64,
    /// What older archives hold.
    pub kept: Kept,
}

impl Totals {
    /// Counts a record.
    pub fn count(&mut self, record: &Record) {
        match record {
            Record::Frame(frame) if frame.reference == 0 => {
                self.frames += 1;
                self.bytes += frame.len;
            }
            Record::Entry(entry) if entry.reference == 0 => self.entries += 1,
            Record::Entry(entry) => self.keep(entry.len),
            _ => {}
        }
    }

    /// Counts a member of so many bytes that an older archive holds.
    fn keep(&mut self, len: u64) {
        self.kept.entries += 1;
        self.kept.bytes = self.kept.bytes.saturating_add(len);
    }
}

/// Chunks of a catalog that may be under way: its parts are small.
const CHUNKS: usize = 12;

/// What is written of another catalog.
#[expect(clippy::large_enum_variant, reason = "one at a time is handed on, and none is kept")]
pub enum Copied {
    /// A record.
    Record(Record),
    /// A member's line as it stands there.
    Line(EntryLine),
}

/// Writes records one after the other.
pub type WriteRecord<'a> = &'a mut dyn FnMut(Copied) -> Result<()>;

/// Changes an entry before it is written.
pub type Stamp = Box<dyn FnMut(&mut Entry) -> Result<()> + Send>;

/// What a scan of the source adds to the catalog.
pub struct Scanned {
    /// Sets the fingerprint of each new member, in order.
    pub stamp: Stamp,
    /// Writes the needed archives, the kept members in path order, and the frames that hold them. It is called once all
    /// new members are written.
    pub kept: Box<dyn FnOnce(WriteRecord<'_>) -> Result<()> + Send>,
}

/// Seals records as they come; `end` is asked for once all have come. Runs on its own thread. With `scanned`, members come
/// in path order and have fingerprints.
///
/// # Errors
/// Whatever kept the records from coming, or `end` from being known.
pub fn write(
    mut records: Receiver<Vec<Record>>,
    id: &Id,
    scanned: Option<Scanned>,
    end: impl FnOnce(Totals) -> Result<EndRecord>,
    key: Option<(&MessageKey, &SecretString)>,
    out: &Sender<Bytes>,
) -> Result<ObjectDigest> {
    let mut digest = Digest::new();
    // It is small: one thread packs and encrypts.
    let with_head = key.map(|(key, phrase)| Ok((key, key.head(phrase)?)));
    let mut sealer = Sealer::new(key.map(|(key, _)| key))?;
    let mut body = Body::new(with_head.transpose()?, |bytes: Bytes| {
        digest.update(&bytes);
        out.send_blocking(bytes)
    })?;
    let emit = |block| body.push(sealer.seal(block)?);
    let mut packer = Packer::new(key.map(|(key, _)| key.cipher()), block_pool(CHUNKS), emit)?;
    let page_key = PageKey::new(key.map_or(&[][..], |(key, _)| key.session()), id.as_str());
    let mut pages = PageWriter::new(page_key, scanned.is_some())?;
    let mut totals = Totals::default();
    let mut push = |copied: Copied| {
        match copied {
            Copied::Record(record) => {
                totals.count(&record);
                pages.push(&record)?;
            }
            Copied::Line(line) => {
                totals.keep(line.len);
                pages.push_line(&line)?;
            }
        }
        packer.push(&pages.take())
    };
    let (mut stamp, kept) = scanned.map(|scanned| (scanned.stamp, scanned.kept)).unzip();
    while let Some(batch) = records.recv_blocking()? {
        for mut record in batch {
            if let (Record::Entry(entry), Some(stamp)) = (&mut record, &mut stamp) {
                stamp(entry)?;
            }
            push(Copied::Record(record))?;
        }
    }
    if let Some(kept) = kept {
        kept(&mut push)?;
    }
    pages.push(&Record::End(end(totals)?))?;
    packer.push(&pages.finish()?)?;
    packer.finish()?;
    Ok(digest.finish())
}

/// Reads a sealed catalog to its proved end, showing each frame and entry to `visit`.
///
/// What `visit` saw may be acted on only when this returns: the MDC, or the AEAD's last tag, comes last.
///
/// # Errors
/// [`Kind::Damaged`] when it is not whole or not a catalog.
pub fn read(
    stored: impl Read + Send + Sync,
    head: Option<&Head>,
    mut visit: impl FnMut(Record) -> Result<()>,
) -> Result<(ArchiveRecord, EndRecord)> {
    match head {
        Some(head) => lines(openpgp::decrypt_from(stored, head)?, &mut visit),
        None => lines(stored, &mut visit),
    }
}

fn lines(
    packed: impl Read,
    visit: &mut dyn FnMut(Record) -> Result<()>,
) -> Result<(ArchiveRecord, EndRecord)> {
    let damaged = |what: &str| Error::damaged(format!("the catalog is damaged: {what}"));
    let mut packed = packed;
    let zstd = zstd::Decoder::new(&mut packed).map_err(|e| damaged("no zstd").because(e))?;
    let (mut archive, mut end): (Option<ArchiveRecord>, _) = (None, None);
    for line in BufReader::with_capacity(1 << 18, zstd).lines() {
        match parse_line(line.map_err(broken)?.as_bytes())? {
            Record::Page(_)
                if end.is_some() && archive.as_ref().is_some_and(|archive| archive.format > 1) => {}
            _ if end.is_some() => return Err(damaged("records after its end")),
            Record::Archive(record) if archive.is_none() => archive = Some(known_format(record)?),
            Record::Archive(_) => return Err(damaged("two archives")),
            Record::Page(_) => return Err(damaged("its index comes before its end")),
            _ if archive.is_none() => return Err(damaged("no archive record first")),
            Record::End(record) => end = Some(record),
            record => visit(record)?,
        }
    }
    // The MDC, or the last tag, is checked at the message's end: read it.
    std::io::copy(&mut packed, &mut std::io::sink()).map_err(broken)?;
    archive.zip(end).ok_or_else(|| damaged("it has no end"))
}

fn parse_line(line: &[u8]) -> Result<Record> {
    serde_json::from_slice(line)
        .map_err(|e| Error::damaged("the catalog is damaged: a line is no record").because(e))
}

fn known_format(record: ArchiveRecord) -> Result<ArchiveRecord> {
    match record.format {
        FIRST_FORMAT..=FORMAT => Ok(record),
        newer => Err(Error::failed(format!(
            "the archive has format {newer}; this sealift reads formats {FIRST_FORMAT} to {FORMAT}"
        ))
        .hint("use a newer sealift")),
    }
}

fn broken(error: std::io::Error) -> Error {
    let kind = error.get_ref().and_then(|e| e.downcast_ref::<Error>()).map(Error::kind);
    Error::new(kind.unwrap_or(Kind::Damaged), "the catalog cannot be read to its end").because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_an_archive_is_encrypted_is_read_by_its_first_names_too() {
        let read = |cipher: &str| {
            let line = format!(
                r#"{{"archive":{{"format":1,"id":"20261122T020000Z-1f2e3d4c","job":"db","source":null,"kind":"raw",
                "codec":"zstd","cipher":{cipher},"frame_len":1,"head_len":49,"started":"2026-11-22T02:00:00Z"}}}}"#
            );
            match serde_json::from_str(&line) {
                Ok(Record::Archive(record)) => Some(record.cipher),
                _ => None,
            }
        };
        assert_eq!([r#""cfb""#, r#""openpgp""#].map(read), [Some(Some(Cipher::Cfb)); 2]);
        assert_eq!(read(r#""aead""#), Some(Some(Cipher::Aead)));
        assert_eq!(["null", r#""none""#].map(read), [Some(None); 2]);
        assert_eq!(read(r#""rot13""#), None);
    }

    /// A catalog in clear of so many lines, with a marker for what stands in each.
    fn catalog(lines: &[&str]) -> Vec<u8> {
        let archive = r#"{"archive":{"format":1,"id":"20261122T020000Z-1f2e3d4c","job":"db","source":null,"kind":"raw",
            "codec":"zstd","cipher":null,"frame_len":1,"head_len":0,"started":"2026-11-22T02:00:00Z"}}"#;
        let end = r#"{"end":{"frames":0,"entries":0,"bytes":0,"stored_bytes":0,"blake3":"","warnings":[],"notes":[],
            "finished":"2026-11-22T02:00:00Z"}}"#;
        let frame = r#"{"frame":{"n":0,"at":0,"len":1,"stored_at":0,"stored_len":1,"blake3":"HASH"}}"#
            .replace("HASH", &"0".repeat(64));
        let line = |line: &&str| match *line {
            "archive" => archive.replace('\n', " "),
            "newer" => archive.replace('\n', " ").replace(r#""format":1"#, r#""format":99"#),
            "end" => end.replace('\n', " "),
            "frame" => frame.clone(),
            other => other.into(),
        };
        let text: String = lines.iter().map(|text| line(text) + "\n").collect();
        zstd::encode_all(text.as_bytes(), 1).unwrap()
    }

    fn read_lines(lines: &[&str]) -> Result<usize> {
        let mut frames = 0;
        read(&catalog(lines)[..], None, |_| {
            frames += 1;
            Ok(())
        })
        .map(|_| frames)
    }

    #[test]
    fn a_catalog_is_one_archive_records_and_one_end() {
        assert_eq!(read_lines(&["archive", "end"]).unwrap(), 0);
        assert_eq!(read_lines(&["archive", "frame", "frame", "end"]).unwrap(), 2);
        for bad in [
            &[][..],
            &["archive"],
            &["end"],
            &["frame", "archive", "end"],
            &["archive", "archive", "end"],
            &["archive", "end", "end"],
            &["archive", "end", "frame"],
            &["archive", "{}", "end"],
            &["archive", "no json", "end"],
            &["archive", "", "end"],
        ] {
            assert_eq!(read_lines(bad).unwrap_err().kind(), Kind::Damaged, "{bad:?}");
        }
    }

    #[test]
    fn a_newer_format_is_no_damage_but_asks_for_a_newer_sealift() {
        let error = read_lines(&["newer", "end"]).unwrap_err();
        assert_eq!((error.kind(), error.hint_text()), (Kind::Failed, Some("use a newer sealift")));
    }

    #[test]
    fn what_a_reader_of_records_refuses_ends_the_reading() {
        let refuse = |_| Err(Error::failed("enough"));
        let error = read(&catalog(&["archive", "frame", "end"])[..], None, refuse).unwrap_err();
        assert_eq!(error.to_string(), "enough");
    }

    #[test]
    fn totals_count_what_is_in_records() {
        let mut totals = Totals::default();
        read(&catalog(&["archive", "frame", "frame", "end"])[..], None, |record| {
            totals.count(&record);
            Ok(())
        })
        .unwrap();
        assert_eq!((totals.frames, totals.entries, totals.bytes), (2, 0, 2));
    }
}
