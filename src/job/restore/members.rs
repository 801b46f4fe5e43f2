//! Which members of an archive are wanted, whether they may be unpacked, and how they are handed on.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use super::RestoreRequest;
use super::left_out::{LeftOut, Place};
use super::volumes::Original;
use crate::archive::Format;
use crate::archive::catalog::ArchiveRecord;
use crate::archive::catalog::paged::{Near, PagedCatalog};
use crate::error::{Error, Kind, Result};
use crate::job::lost::Lost;
use crate::job::open_archive::OpenArchive;
use crate::tar::select::{Part, Patterns, Selection, unsafe_member};
use crate::tar::{Entry, EntryType, name};

/// Refused members that an error names.
const NAMED: usize = 5;

/// What is handed on, and how.
#[derive(Debug, PartialEq)]
pub(super) enum Handing {
    /// All bytes as they are.
    AsIs,
    /// The members of these parts, written anew.
    Members(Vec<Part>),
}

impl Handing {
    /// What is read of an archive whose own source has so many bytes.
    pub(super) fn parts(&self, own_bytes: u64) -> Cow<'_, [Part]> {
        match self {
            Handing::AsIs => Cow::Owned(vec![Part::whole(own_bytes)]),
            Handing::Members(parts) => Cow::Borrowed(parts),
        }
    }
}

/// Which members are wanted, and whether they may be unpacked.
pub(super) struct Members {
    patterns: Patterns,
    selection: Selection,
    /// How many are wanted, without the folders around them.
    wanted: u64,
    unpacks: bool,
    allow_devices: bool,
    /// How many may not be, and the first of them.
    refused: (u64, Vec<String>),
    /// What cannot be read.
    lost: Lost,
    /// What hard links lead to that are there, in archives of which something is lost: whether that is.
    pub(super) link_targets: HashMap<Place, bool>,
    /// Lost members that are asked for.
    pub(super) left_out: LeftOut,
    has_more: bool,
    /// The first two parts of names and of hard links' targets: of a volume's archive, `VOLUME/_data` alone.
    pub(super) roots: BTreeSet<String>,
}

impl Members {
    pub(super) fn new(patterns: Patterns, unpacks: bool, allow_devices: bool, lost: Lost) -> Self {
        let (selection, refused, roots) = (Selection::new(unpacks), (0, Vec::new()), BTreeSet::new());
        let (link_targets, left_out, has_more) = (HashMap::new(), LeftOut::default(), false);
        Members {
            patterns,
            selection,
            wanted: 0,
            unpacks,
            allow_devices,
            refused,
            lost,
            link_targets,
            left_out,
            has_more,
            roots,
        }
    }

    /// What is asked for of an archive of which this is the record.
    pub(super) fn of(request: &RestoreRequest, record: &ArchiveRecord, lost: Lost) -> Result<Self> {
        let patterns = Patterns::new(&request.include, &request.exclude)?;
        let patterns = match Original::of(request, &record.source)? {
            Some(original) if original.has_others => patterns.below(&original.folder()),
            _ => patterns,
        };
        Ok(Members::new(patterns, request.target.unpacks(), request.allow_devices, lost))
    }

    /// Looks at an archive's members until nothing more is found that is needed: hard links and folders lead to members that
    /// were not asked for.
    pub(super) async fn look_at(&mut self, archive: &OpenArchive) -> Result<()> {
        loop {
            let near = self.near();
            archive.look_again(|pages| near.of(pages), |entry| self.look(entry)).await?;
            if !self.again() {
                return Ok(());
            }
        }
    }

    /// Whether all members are taken as they come.
    fn take_all(&self) -> bool {
        self.patterns.take_all() && self.lost.is_nothing()
    }

    /// Whether a member is lost, or leads to one that is.
    fn is_lost(&mut self, entry: &Entry) -> bool {
        if self.lost.is_nothing() {
            return false;
        }
        let place = |name: &[u8]| (entry.reference, name::plain(name).to_vec());
        let target = entry.hard_link().map(|target| place(&target));
        let leads_there = target.as_ref().is_some_and(|target| self.link_targets.get(target) == Some(&true));
        if !leads_there && !self.lost.meets(entry) {
            if let Some(target) = target.filter(|_| self.lost.has_some_of(entry.reference)) {
                self.has_more |= self.link_targets.insert(target, false).is_none();
            }
            return false;
        }
        let place = place(&entry.name());
        if let Some(is_lost) = self.link_targets.get_mut(&place) {
            self.has_more |= !std::mem::replace(is_lost, true);
        }
        if self.patterns.take(&place.1) {
            self.left_out.add(place);
        }
        true
    }

    pub(super) fn look(&mut self, entry: &Entry) {
        if self.is_lost(entry) {
            self.selection.pass(entry);
            return;
        }
        let taken = match self.take_all() {
            true => {
                if entry.reference > 0 {
                    self.selection.keep(entry);
                }
                true
            }
            false => self.selection.look(entry, &self.patterns),
        };
        self.wanted += u64::from(taken);
        if !taken || !self.unpacks {
            return;
        }
        if self.roots.len() < NAMED {
            self.roots.insert(root(&entry.path));
            let target = entry.link.as_deref().filter(|_| entry.kind == EntryType::Link);
            self.roots.extend(target.map(root));
        }
        if let Some(why) = unsafe_member(entry, self.allow_devices) {
            let (count, first) = &mut self.refused;
            *count += 1;
            if first.len() < NAMED {
                first.push(format!("{}: {why}", name::shown(&entry.name())));
            }
        }
    }

    /// How many members are handed on.
    pub(super) fn count(&self) -> u64 {
        self.wanted + self.selection.folders_around()
    }

    /// What the next look is to come by.
    fn near(&self) -> InRuns {
        // What is lost is found out, and counted, among all members.
        let below = self.patterns.beginnings().filter(|_| self.lost.is_nothing());
        InRuns(below.map(|below| Near { below, exact: self.selection.names() }))
    }

    /// Ends a look, and says whether another is needed.
    pub(super) fn again(&mut self) -> bool {
        let again = self.selection.again() | std::mem::take(&mut self.has_more);
        if again {
            self.selection.begin_again();
            (self.wanted, self.refused, self.left_out) = (0, (0, Vec::new()), LeftOut::default());
        }
        again
    }

    /// What to hand on of an open archive.
    pub(super) fn handing_of(mut self, archive: &OpenArchive, request: &RestoreRequest) -> Result<Handing> {
        if archive.pages().is_some_and(|pages| pages.runs().is_some()) {
            self.selection.forget_gaps();
        }
        self.selection.forget_lost_gaps(|gap| self.lost.meets_range(0, gap));
        let is_tar = archive.record().kind == Format::Tar;
        if !is_tar && request.skip_damaged {
            return Err(Error::usage("this archive is no tar: it has no members that could be left out"));
        }
        self.handing(is_tar, request.target.needs_tar(), archive.end().bytes)
    }

    /// What to hand on of an archive whose own source has so many bytes.
    pub(super) fn handing(self, is_tar: bool, wants_tar: bool, own_bytes: u64) -> Result<Handing> {
        if !is_tar && (wants_tar || !self.patterns.take_all()) {
            return Err(
                Error::usage("this archive is no tar: it has no members").hint("restore it --to-stdout")
            );
        }
        let (refused, first) = &self.refused;
        if *refused > 0 {
            return Err(Error::refused(format!("{refused} members may not be unpacked")).because(first.join("; "))
                .hint("leave them out with --exclude, accept devices with --allow-devices, or restore --to-stdout"));
        }
        let (take_all, count) = (self.take_all(), self.selection.count());
        let mut parts = self.selection.parts();
        match take_all {
            true if !self.unpacks && parts.is_empty() => Ok(Handing::AsIs),
            true => {
                parts.push(Part::whole(own_bytes));
                Ok(Handing::Members(parts))
            }
            false if count == 0 && self.left_out.count > 0 => Err(self.left_out.all_lost()),
            false if count == 0 => {
                Err(Error::new(Kind::NotFound, "no member matches").hint("`sealift ls` shows their names"))
            }
            false => Ok(Handing::Members(parts)),
        }
    }
}

/// Names that are looked for where a catalog has its members in path order, as a scan found them; elsewhere what stands
/// between members matters, and all are looked at.
struct InRuns(Option<Near>);

impl InRuns {
    fn of(self, pages: &PagedCatalog) -> Option<Near> {
        self.0.filter(|_| pages.runs().is_some())
    }
}

/// The first two parts of a name, to the letter: tar renames by the letter, too.
pub(super) fn root(name: &str) -> String {
    let name = name.strip_suffix('/').unwrap_or(name).trim_start_matches('/');
    name.split('/').take(2).collect::<Vec<_>>().join("/")
}
