//! What a sealed catalog says, once it is confirmed and consistent in itself.

use super::Id;
use super::catalog::paged::PagedCatalog;
use super::catalog::{self, ArchiveRecord, EndRecord, FrameRecord, Record, RefRecord, Totals};
use super::openpgp::Head;
use crate::error::{Error, Result};
use crate::tar::Entry;

/// The most that a frame may claim to hold, so that a catalog cannot ask for any amount of memory.
const LARGEST_FRAME: u64 = 256 << 20;

/// What a sealed catalog says, all of it confirmed by its MDC or last tag.
#[derive(Debug, Clone)]
pub struct Contents {
    /// What archive it is.
    pub archive: ArchiveRecord,
    /// Its frames, which follow each other without a gap.
    pub frames: Vec<FrameRecord>,
    /// Older archives that hold bytes of its members.
    pub needs: Vec<Needed>,
    /// How it ended.
    pub end: EndRecord,
}

/// An older archive that holds bytes of members, and those of its frames that do.
#[derive(Debug, Clone)]
pub struct Needed {
    /// What it is, and what opens it.
    pub archive: RefRecord,
    /// Its frames, in order, with gaps between.
    pub frames: Vec<FrameRecord>,
}

/// A running digest of tar members.
#[derive(Debug, Clone, Default)]
pub struct EntryDigest {
    hasher: blake3::Hasher,
    count: u64,
}

impl PartialEq for EntryDigest {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count && self.hasher.finalize() == other.hasher.finalize()
    }
}

impl EntryDigest {
    /// Takes in the next member, as the tar itself has it.
    pub fn add(&mut self, entry: &Entry) {
        self.count += 1;
        // An entry always serialises: it is strings and numbers.
        let _ = match (entry.stat, &entry.content) {
            (None, None) => serde_json::to_writer(&mut self.hasher, entry),
            _ => {
                let own = Entry { stat: None, content: None, ..entry.clone() };
                serde_json::to_writer(&mut self.hasher, &own)
            }
        };
    }
}

/// Reads a catalog and checks that it is consistent in itself and of the archive asked for.
///
/// `each` sees every tar member; what it saw may be acted on only when this returns.
///
/// # Errors
/// [`Kind::Damaged`](crate::error::Kind::Damaged) when it is not whole, not consistent, or the catalog of another archive.
pub fn read_catalog(
    stored: impl std::io::Read + Send + Sync,
    head: Option<&Head>,
    job: &str,
    id: &Id,
    mut each: impl FnMut(&Entry),
) -> Result<Contents> {
    let mut reading = Reading::default();
    let (archive, end) = catalog::read(stored, head, |record| {
        if let Record::Entry(entry) = &record {
            each(entry);
        }
        reading.take(record)
    })?;
    if archive.id != *id || archive.job != job {
        return Err(Error::damaged(format!("this is the catalog of {}@{}", archive.job, archive.id)));
    }
    reading.finish(archive, end)
}

pub(super) fn wrong(what: &str) -> Error {
    Error::damaged(format!("the catalog is damaged: {what}"))
}

/// A catalog that is being read: whether it is consistent in itself.
#[derive(Default)]
struct Reading {
    frames: Vec<FrameRecord>,
    /// Where the last frame ends: in the source, and in the compressed stream.
    ends: (u64, u64),
    needs: Vec<Needed>,
    /// Where the last member ends in each archive's source.
    reach: Vec<u64>,
    totals: Totals,
}

impl Reading {
    fn take(&mut self, record: Record) -> Result<()> {
        self.totals.count(&record);
        match record {
            Record::Ref(archive) if archive.n as usize == self.needs.len() + 1 => {
                self.needs.push(Needed { archive, frames: Vec::new() });
            }
            Record::Ref(_) => return Err(wrong("the archives that it needs are in no order")),
            Record::Frame(frame) if frame.len.max(frame.stored_len) > LARGEST_FRAME => {
                return Err(wrong("a frame is too large"));
            }
            Record::Frame(frame) if frame.reference == 0 => {
                let follows = frame.n == self.frames.len() as u64 && (frame.at, frame.stored_at) == self.ends;
                if !follows {
                    return Err(wrong("its frames do not follow each other"));
                }
                self.ends = (frame.at + frame.len, frame.stored_at + frame.stored_len);
                self.frames.push(frame);
            }
            Record::Frame(frame) => self.needed_frame(frame)?,
            Record::Entry(entry) => {
                let end = entry.at.checked_add(entry.len).ok_or_else(|| wrong("a member has no end"))?;
                let at = entry.reference as usize;
                if self.reach.len() <= at {
                    self.reach.resize(at.min(self.needs.len()) + 1, 0);
                }
                let reach = self.reach.get_mut(at).ok_or_else(|| wrong("a member lies in no archive"))?;
                *reach = end.max(*reach);
            }
            Record::Archive(_) | Record::End(_) | Record::Page(_) => {}
        }
        Ok(())
    }

    fn needed_frame(&mut self, frame: FrameRecord) -> Result<()> {
        let needed = self.needs.get_mut(frame.reference as usize - 1);
        let needed = needed.ok_or_else(|| wrong("a frame is of no archive"))?;
        follows(needed.frames.last(), &frame, needed.archive.data_len)?;
        needed.frames.push(frame);
        Ok(())
    }

    fn finish(self, archive: ArchiveRecord, end: EndRecord) -> Result<Contents> {
        let Reading { frames, needs, reach, totals, .. } = self;
        let counted = (totals.frames, totals.bytes, totals.entries, totals.kept);
        if counted != (end.frames, end.bytes, end.entries, end.kept) {
            return Err(wrong("its end does not add up"));
        }
        if reach.first().is_some_and(|reach| *reach > end.bytes) {
            return Err(wrong("a member lies beyond the end of its source"));
        }
        for (needed, reach) in needs.iter().zip(reach.iter().skip(1)) {
            if needed.frames.last().map_or(0, |frame| frame.at + frame.len) < *reach {
                return Err(wrong("a member's frames are not in it"));
            }
        }
        Ok(Contents { archive, frames, needs, end })
    }
}

/// Whether a frame can come after `last` in an archive with so many bytes of compressed stream.
fn follows(last: Option<&FrameRecord>, frame: &FrameRecord, data_len: u64) -> Result<()> {
    let follows = last.is_none_or(|last| {
        last.n < frame.n
            && last.at.saturating_add(last.len) <= frame.at
            && last.stored_at.saturating_add(last.stored_len) <= frame.stored_at
    });
    let ends = frame.stored_at.checked_add(frame.stored_len);
    match follows && ends.is_some_and(|end| end <= data_len) && frame.at.checked_add(frame.len).is_some() {
        true => Ok(()),
        false => Err(wrong("the frames of an archive are in no order")),
    }
}

/// Checks frames that a page of a catalog has, of an archive with so many bytes of compressed stream.
///
/// # Errors
/// [`Kind::Damaged`](crate::error::Kind::Damaged) where they cannot be that archive's.
pub(super) fn check_frames(frames: &[FrameRecord], data_len: u64) -> Result<()> {
    for (i, frame) in frames.iter().enumerate() {
        if frame.len.max(frame.stored_len) > LARGEST_FRAME {
            return Err(wrong("a frame is too large"));
        }
        follows(i.checked_sub(1).map(|last| &frames[last]), frame, data_len)?;
    }
    Ok(())
}

impl Contents {
    /// What a catalog says that is read by its pages: everything but frames and members, which are read as they are needed.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::error::Kind::Damaged) where it is not consistent in itself.
    pub fn of_pages(catalog: &PagedCatalog) -> Result<Contents> {
        let needs =
            catalog.refs().iter().map(|archive| Needed { archive: archive.clone(), frames: Vec::new() });
        let needs: Vec<_> = needs.collect();
        if needs.iter().zip(1..).any(|(needed, n)| needed.archive.n != n) {
            return Err(wrong("the archives that it needs are in no order"));
        }
        let (archive, end) = (catalog.archive().clone(), catalog.end().clone());
        Ok(Contents { archive, frames: Vec::new(), needs, end })
    }

    /// The frames of one of its archives: of its own, which is 0, or of an older one.
    pub(super) fn frames_of(&self, reference: u32) -> &[FrameRecord] {
        match reference.checked_sub(1) {
            None => &self.frames,
            Some(at) => self.needs.get(at as usize).map_or(&[], |needed| &needed.frames),
        }
    }
}
