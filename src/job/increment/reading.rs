//! A source whose files are looked at one by one: those that changed are read, and the others stay where they are.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, mpsc};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::base::Base;
use super::compare::{Before, Comparison, Kept};
use super::content::{Decided, Reading, Turns};
use super::keep::write_kept;
use super::runs::Members;
use super::segment::Segment;
use super::shared_check::SharedCheck;
use super::stamps::{Sent, Stamps};
use crate::archive::catalog::{Scanned as ScannedCatalog, WriteRecord};
use crate::docker::Engine;
use crate::error::{Error, Kind, Result};
use crate::report::Reporter;
use crate::source::{Ahead, NameSender, NamedFiles, Prepared, Scanned, Source, Walk};
use crate::store::needs::{Need, Needs};
use crate::stream::source::{Proof, Running};
use crate::stream::warning::Warning;
use crate::stream::workers::thread;
use crate::tar::stat::{FileTime, Stat};
use crate::tar::{Entry, EntryType, name};

/// From how many members on it is odd that most of them changed.
const LARGE: u64 = 1000;

/// How a source is read.
pub(in crate::job) struct Opening {
    /// The source.
    pub(in crate::job) source: Source,
    /// Whether its files are looked at one by one.
    pub(in crate::job) is_scanned: bool,
    /// The backup before.
    pub(in crate::job) base: Option<Arc<Base>>,
    /// How many files are read at once to be compared, where they are compared by what is in them.
    pub(in crate::job) compared_at_once: Option<usize>,
    /// What the members are expected to be, kept ones among them.
    pub(in crate::job) check: SharedCheck,
    /// Where the scan is cut; none: it is not.
    pub(in crate::job) segment: Option<Segment>,
}

/// What comes of files that are looked at one by one.
pub(in crate::job) struct Scanning {
    /// What it adds to the catalog.
    pub(in crate::job) catalog: ScannedCatalog,
    /// What stays in older archives.
    pub(in crate::job) kept: KeptMembers,
    /// The file at which the scan was cut, once that is known.
    pub(in crate::job) cut: Arc<OnceLock<Vec<u8>>>,
}

/// What stays in older archives, once that is known.
#[derive(Clone, Default)]
pub(in crate::job) struct KeptMembers {
    base: Option<Arc<Base>>,
    kept: Arc<OnceLock<Kept>>,
}

impl KeptMembers {
    /// The archives that are needed, oldest first.
    pub(in crate::job) fn needs(&self) -> Needs {
        let references = self.kept.get().map(Kept::references).unwrap_or_default();
        let archive = |reference| Some(Need::from(self.base.as_ref()?.archive(reference)?));
        let mut needs: Vec<_> = references.into_iter().filter_map(archive).collect();
        needs.sort_by(|a, b| a.id.cmp(&b.id));
        needs.into_iter().collect()
    }

    /// Writes them into the new catalog.
    fn write(&self, runtime: &Handle, write: WriteRecord<'_>) -> Result<()> {
        let Some(base) = &self.base else { return Ok(()) };
        let kept = self.kept.get().ok_or_else(Error::disconnected)?;
        write_kept(&base.catalog, base.own.clone(), kept, runtime, write).map_err(|error| {
            let error = error.context(format!("keeping what {} has", base.name()));
            match error.kind() {
                Kind::Damaged => error.hint("back up with --full: it needs nothing of older backups"),
                _ => error,
            }
        })
    }
}

impl Opening {
    /// Starts the source.
    ///
    /// # Errors
    /// As [`Source::open`].
    pub(in crate::job) async fn open(
        self,
        engine: Option<&Engine>,
        walk: &Walk,
        ui: &Reporter,
        stop: &CancellationToken,
    ) -> Result<(Running, Option<Scanning>)> {
        if self.is_scanned {
            if let Some(prepared) = self.source.scan(engine, walk, ui).await? {
                let Opening { base, check, compared_at_once, segment, .. } = self;
                let from = prepared.files.from().map(PathBuf::from);
                let reading = compared_at_once.map(|at_once| Reading { from, at_once });
                return start(prepared, base, reading, (check, segment), ui, stop)
                    .map(|(running, scanning)| (running, Some(scanning)));
            }
            ui.detail("so it is backed up in full");
        }
        self.source.open(engine, walk, ui, stop).await.map(|running| (running, None))
    }
}

/// Starts tar, and the scan that tells it what to read.
fn start(
    prepared: Prepared,
    base: Option<Arc<Base>>,
    reading: Option<Reading>,
    (check, segment): (SharedCheck, Option<Segment>),
    ui: &Reporter,
    stop: &CancellationToken,
) -> Result<(Running, Scanning)> {
    let scan = prepared.scan.ahead()?;
    let files = prepared.files;
    let (mut running, names) = files.start(ui, stop)?;
    let (stamps, stamped) = mpsc::channel();
    let (found, finding) = oneshot::channel();
    let (runtime, kept) = (Handle::current(), KeptMembers { base, kept: Arc::default() });
    let cut = Arc::default();
    let (told, telling) = running.stream.intercept_proof();
    tokio::spawn(async move {
        let own = telling.await.unwrap_or_else(|_| Err(Error::failed("the source vanished without a word")));
        let found = finding.await.unwrap_or_else(|_| Err(Error::disconnected()));
        let _ = told.send(joined(own, found));
    });
    let search = Search {
        names,
        stamps,
        check,
        stop: stop.clone(),
        kept: kept.clone(),
        runtime: runtime.clone(),
        reading,
        segment,
        cut: Arc::clone(&cut),
    };
    thread("compare", move || drop(found.send(search.run(scan))))?;
    let (members, started) = (kept.clone(), jiff::Timestamp::now().as_second());
    let mut files =
        FilesRead { stamps: Stamps::new(stamped), files, started, ui: ui.clone(), has_told: false };
    let catalog = ScannedCatalog {
        stamp: Box::new(move |entry| files.stamp(entry)),
        kept: Box::new(move |write| members.write(&runtime, write)),
    };
    Ok((running, Scanning { catalog, kept, cut }))
}

/// The proof of files that were found and read. Whoever failed first has the other end with it, and that is disconnected.
fn joined(own: Result<Proof>, found: Result<Found>) -> Result<Proof> {
    match (own, found) {
        (Ok(mut proof), Ok(found)) => {
            proof.notes.extend(found.notes);
            proof.warnings.extend(found.warnings);
            proof.is_partial = found.is_cut;
            Ok(proof)
        }
        (Err(own), Err(found)) if own.kind() == Kind::Disconnected => Err(found),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

/// By how much the clocks of a file system and of this host may differ, in seconds.
const CLOCKS: i64 = 3600;

/// The files that tar reads, held against those that were found.
struct FilesRead {
    stamps: Stamps,
    files: NamedFiles,
    /// When the scan began, in seconds since 1970.
    started: i64,
    ui: Reporter,
    has_told: bool,
}

impl FilesRead {
    /// Gives a member the fingerprint of the file that was found, where tar read that one. Tar goes by paths, a while later:
    /// where a folder became a link meanwhile, it reads what lies elsewhere, perhaps what the owner of that link may not read.
    /// Where another folder has taken its place, it reads what is there now, and the next night does so again.
    fn stamp(&mut self, entry: &mut Entry) -> Result<()> {
        let told = self.stamps.stamp(entry);
        if is_the_file_found(entry, self.started) {
            return Ok(());
        }
        let now = told.and_then(|walked| self.files.now(&walked));
        let is_what_lies_there = now.is_some_and(|now| is_what_was_read(entry, &now));
        let name = name::shown(&entry.name());
        if !is_what_lies_there || was_a_folder(entry) {
            return Err(Error::failed(format!(
                "{name} is not what was found there: it, or a folder above it, was replaced meanwhile"
            ))
            .hint(REPLACED));
        }
        entry.stat = None;
        if !std::mem::replace(&mut self.has_told, true) {
            self.ui.note(&format!(
                "{name}, or a folder above it, was replaced meanwhile: it is stored as it is now"
            ));
        }
        Ok(())
    }
}

const REPLACED: &str = "back it up again, while no folder there becomes a link or a file; where nobody does that, the clock of \
     the file server is more than an hour behind this host's: set it";

/// Whether tar read the file that was found. Whoever changes a file makes its ctime later, and nobody can set that.
fn is_the_file_found(entry: &Entry, started: i64) -> bool {
    let Some(found) = entry.stat else { return true };
    let is_another = entry.ctime.is_some_and(|ctime| {
        ctime != found.ctime.seconds && ctime < found.ctime.seconds.max(started.saturating_sub(CLOCKS))
    });
    !is_another && !was_a_folder(entry)
}

/// Whether something else is stored in the place of a folder that was found: what was in it would lie below that.
fn was_a_folder(entry: &Entry) -> bool {
    entry.stat.is_some_and(|found| found.is_dir()) && entry.kind != EntryType::Dir
}

/// Whether what tar read is this file, by all that a tar says of it.
fn is_what_was_read(entry: &Entry, now: &Stat) -> bool {
    let (mode, owner) = (now.mode & 0o7777, (u64::from(now.uid), u64::from(now.gid)));
    entry.ctime == Some(now.ctime.seconds)
        && (entry.mode, (entry.uid, entry.gid)) == (mode, owner)
        && FileTime::parse(&entry.mtime) == Some(now.mtime)
        && now.is_file() == matches!(entry.kind, EntryType::File | EntryType::Link)
        && now.is_dir() == (entry.kind == EntryType::Dir)
        && (entry.kind != EntryType::File || entry.size == now.size)
}

/// What a scan found, beside the files.
#[derive(Default)]
struct Found {
    notes: Vec<String>,
    warnings: Vec<Warning>,
    /// Not all files were looked at.
    is_cut: bool,
}

/// A scan on its way.
struct Search {
    names: NameSender,
    stamps: mpsc::Sender<Sent>,
    check: SharedCheck,
    stop: CancellationToken,
    kept: KeptMembers,
    runtime: Handle,
    /// How files are read, where they are compared by what is in them.
    reading: Option<Reading>,
    segment: Option<Segment>,
    cut: Arc<OnceLock<Vec<u8>>>,
}

impl Search {
    /// Blocks until all files were found, and those that are to be read told of.
    fn run(mut self, mut scan: Ahead) -> Result<Found> {
        let mut found = match self.kept.base.clone() {
            Some(base) => self.compare(&mut scan, &base)?,
            None => {
                self.send_all(&mut scan)?;
                Found::default()
            }
        };
        found.is_cut = self.cut.get().is_some();
        self.names.finish();
        found.notes.extend(scan.notes());
        Ok(found)
    }

    fn send_all(&mut self, scan: &mut Ahead) -> Result<()> {
        for file in scan {
            let file = file?;
            if self.is_cut_at(&file) {
                break;
            }
            self.send(&file)?;
        }
        Ok(())
    }

    /// Whether enough was sent: then the scan ends before this file.
    fn is_cut_at(&self, file: &Scanned) -> bool {
        let is_cut = self.segment.as_ref().is_some_and(Segment::is_full);
        if is_cut {
            // Before tar is told that these were all: when it has ended, the members are judged.
            self.check.put_off();
            let _ = self.cut.set(file.name.clone());
        }
        is_cut
    }

    fn compare(&mut self, scan: &mut Ahead, base: &Base) -> Result<Found> {
        let unordered = || Error::failed("the catalog is in no order");
        let mut members = Members::of(&base.catalog).ok_or_else(unordered)?;
        let (runtime, damage) = (self.runtime.clone(), RefCell::new(None));
        let next = || match members.next_blocking(&runtime) {
            Err(error) if error.kind() == Kind::Damaged => {
                *damage.borrow_mut() = Some(error);
                Ok(None)
            }
            next => next,
        };
        let (started, gone) = (base.catalog.archive().started, base.gone.clone());
        let mut comparison = Comparison::new(Before { members: next, started, gone });
        if self.reading.is_some() {
            comparison = comparison.by_content();
        }
        let mut turns = Turns::new(self.reading.as_ref(), &self.stop)?;
        for file in scan {
            let file = file?;
            if self.is_cut_at(&file) {
                break;
            }
            let name = self.check.is_some().then(|| file.name.clone());
            let sent = comparison.take(file)?;
            if sent.is_none() {
                self.check.keep(&name.unwrap_or_default());
            }
            turns.push(comparison.take_to_read(), sent)?;
            self.go_through(&mut turns, &mut comparison, false)?;
            self.go_on()?;
        }
        turns.push(comparison.last_to_read(), None)?;
        self.go_through(&mut turns, &mut comparison, true)?;
        let notes = unhashed(&comparison, base);
        let (last, kept) = match self.cut.get() {
            Some(_) => comparison.cut()?,
            None => comparison.finish()?,
        };
        last.iter().try_for_each(|file| self.send_late(file))?;
        self.check.count_kept(kept.count());
        let damage = damage.into_inner().map(|error| {
            format!(
                "the catalog of {} is damaged: what it has behind that is read again ({error})",
                base.name()
            )
        });
        let upheaval = upheaval(&kept, self.reading.is_some());
        let warnings = damage.into_iter().chain(upheaval).map(Warning::other).collect();
        drop(self.kept.kept.set(kept));
        Ok(Found { notes, warnings, is_cut: false })
    }

    /// Sends those files whose turn it is.
    fn go_through<M: FnMut() -> Result<Option<Entry>>>(
        &mut self,
        turns: &mut Turns,
        comparison: &mut Comparison<M>,
        end: bool,
    ) -> Result<()> {
        while let Some(decided) = turns.next(end)? {
            let sent = match decided {
                Decided::Send(file) => Some(file),
                Decided::Same => None,
                Decided::Other(names) => comparison.refuse(names),
            };
            sent.iter().try_for_each(|file| self.send(file))?;
        }
        Ok(())
    }

    fn go_on(&self) -> Result<()> {
        if self.stop.is_cancelled() { Err(Error::interrupted()) } else { Ok(()) }
    }

    fn send(&mut self, file: &Scanned) -> Result<()> {
        self.segment.iter_mut().for_each(|segment| segment.count(file));
        self.tell(file, false)
    }

    /// Sends a file behind all others.
    fn send_late(&mut self, file: &Scanned) -> Result<()> {
        self.tell(file, true)
    }

    fn tell(&mut self, file: &Scanned, is_late: bool) -> Result<()> {
        self.go_on()?;
        let sent = Sent { name: file.name.clone(), walked: file.walked.clone(), stat: file.stat, is_late };
        self.stamps.send(sent).map_err(|_| Error::disconnected())?;
        self.names.send(&file.walked)
    }
}

/// What is said when most files of a large job changed.
fn upheaval(kept: &Kept, by_content: bool) -> Option<String> {
    let (known, sent) = kept.known_and_sent();
    let hint = match by_content {
        true => {
            "if nobody touched them, they have other times, modes or owners than before: copy them with these kept"
        }
        false => {
            "if nobody touched them, the files were moved or copied (new inode numbers), or a mount gives new ones each \
             time; then use --compare content, which reads all and stores what is other, or back up without --incremental"
        }
    };
    (known >= LARGE && sent > known / 2).then(|| {
        format!("{sent} of {known} members changed since the backup before and were read again: {hint}")
    })
}

/// What is noted of files that were sent because the backup before does not say what was in them.
fn unhashed<M: FnMut() -> Result<Option<Entry>>>(comparison: &Comparison<M>, base: &Base) -> Vec<String> {
    let (note, them) = match comparison.unhashed() {
        0 => return Vec::new(),
        1 => ("1 file is stored again".into(), "it"),
        n => (format!("{n} files are stored again"), "them"),
    };
    let base = base.name();
    vec![format!(
        "{note}: {base} has no hash of what was in {them}, for --compare content was not asked for then"
    )]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::check::entry;

    fn stat(inode: u64) -> Stat {
        let time = FileTime { seconds: 1, nanos: 2 };
        Stat { mode: 0o100_644, uid: 1, gid: 2, size: 3, inode, mtime: time, ctime: time }
    }

    #[test]
    fn another_file_than_was_found_is_told_by_when_it_changed() {
        const FOUND: i64 = 500_000;
        const STARTED: i64 = 1_000_000;
        let read = |mode, kind, ctime| {
            let time = FileTime { seconds: FOUND, nanos: 7 };
            let stat = Some(Stat { mode, ctime: time, ..stat(1) });
            is_the_file_found(&Entry { kind, stat, ctime, ..entry("a") }, STARTED)
        };
        let file = |ctime| read(0o100_644, EntryType::File, ctime);
        assert!(file(None) && file(Some(FOUND)), "it is the same");
        assert!(file(Some(STARTED)) && file(Some(STARTED - CLOCKS)), "it changed meanwhile");
        for other in [FOUND - 1, FOUND + 1, STARTED - CLOCKS - 1] {
            assert!(!file(Some(other)), "{other}");
        }
        let folder = |kind| read(0o040_755, kind, Some(STARTED));
        assert!(folder(EntryType::Dir) && !folder(EntryType::Symlink) && !folder(EntryType::File));
        assert!(read(0o120_777, EntryType::Dir, Some(STARTED)), "nothing is below what was no folder");
    }

    #[test]
    fn whoever_failed_first_is_the_cause() {
        let disconnected = || Err(Error::disconnected());
        let cause = |own, found| joined(own, found).unwrap_err().to_string();
        assert_eq!(cause(Err(Error::disconnected()), Err(Error::failed("a folder"))), "a folder");
        assert_eq!(cause(Err(Error::failed("tar")), disconnected()), "tar");
        assert_eq!(cause(Ok(Proof::default()), Err(Error::failed("a folder"))), "a folder");
        let found = Found { notes: vec!["n".into()], warnings: vec![Warning::other("w")], is_cut: true };
        let proof = joined(Ok(Proof::default()), Ok(found)).unwrap();
        assert_eq!((proof.notes.len(), proof.warnings.len(), proof.is_partial), (1, 1, true));
    }
}
