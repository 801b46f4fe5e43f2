//! What of a backup is kept, written into the next one's catalog: the archives that it needs, its members in path order,
//! and the frames that hold them.

use std::collections::BTreeMap;
use std::ops::Range;

use tokio::runtime::Handle;

use super::compare::Kept;
use super::runs::Members;
use crate::archive::catalog::paged::PagedCatalog;
use crate::archive::catalog::{Copied, FrameRecord, Record, RefRecord, WriteRecord};
use crate::error::{Error, Result};

/// Frames whose records are in memory at once.
const AT_ONCE: u64 = 8192;

/// An archive that the next backup needs.
struct Needed {
    /// As the next catalog has it.
    record: RefRecord,
    /// A bit for each of its frames: whether it holds bytes of a member that is kept.
    frames: Vec<u64>,
}

impl Needed {
    /// Needs the frames that hold a member.
    fn mark(&mut self, at: u64, len: u64) -> Result<()> {
        let last = at.checked_add(len).and_then(|end| end.checked_sub(1));
        let last = last
            .filter(|_| self.record.frame_len > 0)
            .ok_or_else(|| Error::damaged("the catalog is damaged: a member lies where no frame can be"))?;
        for frame in at / self.record.frame_len..=last / self.record.frame_len {
            let word = (frame / 64) as usize;
            if word >= self.frames.len() {
                self.frames.resize(word + 1, 0);
            }
            self.frames[word] |= 1 << (frame % 64);
        }
        Ok(())
    }

    fn needs(&self, frame: u64) -> bool {
        self.frames.get((frame / 64) as usize).is_some_and(|word| word >> (frame % 64) & 1 == 1)
    }

    /// Its frames that are needed, in runs, so many at once as may be in memory.
    fn batches(&self) -> Vec<Vec<Range<u64>>> {
        let (mut batches, mut batch, mut count) = (Vec::new(), Vec::<Range<u64>>::new(), 0);
        for frame in (0..self.frames.len() as u64 * 64).filter(|&frame| self.needs(frame)) {
            match batch.last_mut().filter(|range| range.end == frame) {
                Some(range) => range.end = frame + 1,
                None => batch.push(frame..frame + 1),
            }
            count += 1;
            if count == AT_ONCE {
                batches.push(std::mem::take(&mut batch));
                count = 0;
            }
        }
        batches.extend((!batch.is_empty()).then_some(batch));
        batches
    }
}

/// Writes what is kept of the backup that `catalog` is of. `own` names its own archive; by which number is not looked at.
///
/// It blocks, and so may `write`: it is not called within the runtime, and waits there for no more than is read.
///
/// # Errors
/// A page cannot be read or is not what was sealed; whatever `write` fails with.
pub fn write_kept(
    catalog: &PagedCatalog,
    own: RefRecord,
    kept: &Kept,
    runtime: &Handle,
    write: WriteRecord<'_>,
) -> Result<()> {
    let mut needed = needed(catalog, own, kept)?;
    let mut by_number: Vec<_> = needed.values().map(|needed| needed.record.clone()).collect();
    by_number.sort_by_key(|record| record.n);
    by_number.into_iter().try_for_each(|record| write(Copied::Record(Record::Ref(record))))?;
    let mut members =
        Members::lines_of(catalog).ok_or_else(|| Error::failed("the catalog is in no order"))?;
    // What lies behind damage was not looked at.
    for number in 0..kept.members() {
        let Some(line) = members.next_blocking(runtime)? else { break };
        if kept.is_kept(number) {
            let needed = needed.get_mut(&line.reference).ok_or_else(unknown)?;
            needed.mark(line.at, line.len)?;
            write(Copied::Line(line.with_reference(needed.record.n)))?;
        }
    }
    for (reference, needed) in &needed {
        write_frames(catalog, *reference, needed, runtime, write)?;
    }
    Ok(())
}

fn unknown() -> Error {
    Error::damaged("the catalog is damaged: a member lies in an archive that it does not name")
}

/// The archives that are needed, by their references in the catalog before; numbered anew, the oldest first.
fn needed(catalog: &PagedCatalog, own: RefRecord, kept: &Kept) -> Result<BTreeMap<u32, Needed>> {
    let known = |reference: u32| match reference {
        0 => Ok(own.clone()),
        n => catalog.refs().iter().find(|record| record.n == n).cloned().ok_or_else(unknown),
    };
    let found = kept.references().into_iter().map(|reference| Ok((reference, known(reference)?)));
    let mut found: Vec<_> = found.collect::<Result<_>>()?;
    found.sort_by(|(_, a), (_, b)| a.id.cmp(&b.id));
    let numbered = (1..).zip(found).map(|(n, (reference, record))| {
        let (live, bytes) = (kept.live(reference), if reference == 0 { kept.own() } else { record.bytes });
        (reference, Needed { record: RefRecord { n, live, bytes, ..record }, frames: Vec::new() })
    });
    Ok(numbered.collect())
}

fn write_frames(
    catalog: &PagedCatalog,
    reference: u32,
    needed: &Needed,
    runtime: &Handle,
    write: WriteRecord<'_>,
) -> Result<()> {
    for batch in needed.batches() {
        let len = needed.record.frame_len;
        let ranges: Vec<_> = batch.iter().map(|range| range.start * len..range.end * len).collect();
        let wanted = |n: u64| {
            let at = batch.partition_point(|range| range.end <= n);
            batch.get(at).is_some_and(|range| range.contains(&n))
        };
        let frames = runtime.block_on(catalog.frames(reference, &ranges))?;
        let mut found = 0;
        for frame in frames.into_iter().filter(|frame| wanted(frame.n)) {
            found += 1;
            write(Copied::Record(Record::Frame(FrameRecord { reference: needed.record.n, ..frame })))?;
        }
        if found != batch.iter().map(|range| range.end - range.start).sum::<u64>() {
            return Err(Error::damaged("the catalog is damaged: it lacks frames of members that it has"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::archive::catalog::Scanned;
    use crate::archive::frame::Codec;
    use crate::archive::open::{open_head, open_needed_head};
    use crate::archive::openpgp::{Cipher, Head};
    use crate::archive::read_at::InMemory;
    use crate::archive::seal::seal_cheaply;
    use crate::archive::testing::{How, JOB, PASSPHRASE, Stored, member, noise, read, source, tar_checks};
    use crate::stream::counters::Counters;
    use crate::stream::source::Proof;
    use crate::tar::Entry;
    use crate::tar::stat::{FileTime, Stat};

    const CIPHERS: [Option<Cipher>; 3] = [None, Some(Cipher::Cfb), Some(Cipher::Aead)];

    async fn head(cipher: Option<Cipher>, object: &InMemory) -> Option<Head> {
        match cipher {
            Some(_) => Some(open_head(object, &PASSPHRASE.into()).await.unwrap()),
            None => None,
        }
    }

    async fn catalog(cipher: Option<Cipher>, night: &Stored) -> PagedCatalog {
        let object = InMemory::new("catalog", night.catalog.clone());
        let head = head(cipher, &object).await;
        PagedCatalog::open(Arc::new(object), head, JOB, &night.id).await.unwrap().unwrap()
    }

    /// The bytes of a member of some night.
    fn contents(name: &str, night: u8) -> Vec<u8> {
        let mut bytes = noise(700 + 40 * name.len());
        bytes[0] = night;
        bytes
    }

    /// Seals the members `sent` as a night that keeps members of the night before, by their numbers.
    async fn night(
        cipher: Option<Cipher>,
        before: Option<(&Stored, &[u64])>,
        sent: &[&str],
        number: u8,
    ) -> Stored {
        let how = How { checks: tar_checks(), ..How::new(cipher, Codec::Zstd, 1000) };
        let mut options = how.options();
        let mut tar: Vec<u8> =
            sent.iter().flat_map(|name| member(name, b'0', &contents(name, number))).collect();
        tar.extend([0; 1024]);
        let time = FileTime { seconds: 1, nanos: 2 };
        let stat = Stat { mode: 1, uid: 2, gid: 3, size: 4, inode: 5, mtime: time, ctime: time };
        let stamp = Box::new(move |entry: &mut Entry| {
            entry.stat = Some(stat);
            Ok(())
        });
        let (handle, mut kept) = (tokio::runtime::Handle::current(), Kept::default());
        let before = match before {
            None => None,
            Some((stored, numbers)) => {
                let catalog = catalog(cipher, stored).await;
                let mut members = Members::of(&catalog).unwrap();
                let mut number = 0;
                while let Some(entry) = members.next().await.unwrap() {
                    kept.push(numbers.contains(&number).then_some((entry.reference, entry.len)));
                    number += 1;
                }
                let head = head(cipher, &InMemory::new("archive", stored.archive.clone())).await;
                let own = RefRecord::of(catalog.archive(), catalog.end(), ".x", head.as_ref()).unwrap();
                Some((catalog, own))
            }
        };
        let kept = Box::new(move |write: WriteRecord<'_>| match before {
            None => Ok(()),
            Some((catalog, own)) => write_kept(&catalog, own, &kept, &handle, &mut |record| {
                // A full channel blocks, which nobody may do within the runtime.
                let (sender, _receiver) = tokio::sync::mpsc::channel(1);
                sender.blocking_send(()).unwrap();
                write(record)
            }),
        });
        options.scanned = Some(Scanned { stamp, kept });
        let proof = Proof { exit_code: Some(0), ..Proof::default() };
        let id = options.archive.id.clone();
        let sealing = seal_cheaply(source(tar, 999, Ok(proof)), options, Arc::new(Counters::default()));
        Stored::collect(id, sealing.unwrap()).await.unwrap()
    }

    /// All members of a night with the first byte of their contents, which says when they were sent; read from the archives
    /// that hold them.
    async fn members(cipher: Option<Cipher>, nights: &[&Stored]) -> String {
        let last = nights.last().unwrap();
        let passphrase = cipher.map(|_| PASSPHRASE);
        let own = last.open(passphrase).await.unwrap();
        let catalog = catalog(cipher, last).await;
        let mut found = Vec::new();
        let mut members = Members::of(&catalog).unwrap();
        while let Some(entry) = members.next().await.unwrap() {
            let archive = match catalog.refs().iter().find(|record| record.n == entry.reference) {
                None => Arc::clone(&own),
                Some(record) => {
                    let night = nights.iter().find(|night| night.id == record.id).unwrap();
                    let object = InMemory::new("archive", night.archive.clone());
                    let head = open_needed_head(&object, record).await.unwrap();
                    Arc::new(own.needed(record.n, Arc::new(object), head).unwrap())
                }
            };
            let range = entry.data().unwrap();
            let bytes = read(&archive, std::slice::from_ref(&range)).await.unwrap();
            assert_eq!(bytes, contents(&entry.path, bytes[0]), "{}", entry.path);
            assert!(entry.stat.is_some());
            found.push(format!("{}{}", entry.path, bytes[0]));
        }
        found.join(" ")
    }

    #[tokio::test]
    async fn each_night_has_all_members_whichever_archives_they_are_in() {
        for cipher in CIPHERS {
            let names = ["a", "b", "c", "d", "e", "f", "g"];
            let first = night(cipher, None, &names, 1).await;
            assert_eq!(members(cipher, &[&first]).await, "a1 b1 c1 d1 e1 f1 g1");
            // b is new, d is gone.
            let second = night(cipher, Some((&first, &[0, 2, 4, 5, 6])), &["b", "h"], 2).await;
            assert_eq!(members(cipher, &[&first, &second]).await, "a1 b2 c1 e1 f1 g1 h2");
            let kept = second.sealed.end.kept;
            assert_eq!((second.sealed.end.entries, kept.entries), (2, 5));
            // From both; then from the second alone; then from none, which is a full.
            let third = night(cipher, Some((&second, &[1, 2, 5, 6])), &["a", "e"], 3).await;
            assert_eq!(members(cipher, &[&first, &second, &third]).await, "a3 b2 c1 e3 g1 h2");
            let fourth = night(cipher, Some((&third, &[1, 5])), &["c"], 4).await;
            let needed: Vec<_> =
                catalog(cipher, &fourth).await.refs().iter().map(|record| record.id.clone()).collect();
            assert_eq!(needed, std::slice::from_ref(&second.id));
            assert_eq!(members(cipher, &[&second, &fourth]).await, "b2 c4 h2");
            let fifth = night(cipher, Some((&fourth, &[])), &["c"], 5).await;
            assert_eq!(members(cipher, &[&fifth]).await, "c5");
            assert!(catalog(cipher, &fifth).await.refs().is_empty());
        }
    }

    #[test]
    fn frames_are_asked_for_in_bounds_and_each_once() {
        let mut needed = Needed {
            record: serde_json::from_value(serde_json::json!({
                "n": 1, "id": "20261122T020000Z-1f2e3d4c", "suffix": "", "stored_bytes": 1, "data_len": 1,
                "head_len": 0, "codec": "zstd", "cipher": null, "frame_len": 1024,
            }))
            .unwrap(),
            frames: Vec::new(),
        };
        needed.mark(512, 1024).unwrap();
        needed.mark(1024, 512).unwrap();
        needed.mark(100 * 1024, 1024).unwrap();
        assert_eq!(needed.batches(), [vec![0..2, 100..101]]);
        needed.mark(200 * 1024, 2 * AT_ONCE * 1024).unwrap();
        let batches = needed.batches();
        let count = |batch: &Vec<Range<u64>>| batch.iter().map(|range| range.end - range.start).sum::<u64>();
        assert_eq!(batches.iter().map(count).collect::<Vec<_>>(), [AT_ONCE, AT_ONCE, 3]);
        for (at, len) in [(0, 0), (u64::MAX, 512)] {
            assert!(needed.mark(at, len).is_err());
        }
    }
}
