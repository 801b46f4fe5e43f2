//! `restore`: catalog → frames, each confirmed → the sink.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use left_out::{LeftOut, Place};
use report::{Begun, owners_kept};

use super::backup::Outcome;
use super::deliver::{PARALLEL, write_members, write_ranges};
use super::instead::or_newest_whole;
use super::lost::{self, Found, Lost};
use super::open_archive::OpenArchive;
use super::sequential;
use super::stored::{ArchiveRef, OpenRequest, StoredArchive};
use crate::archive::Format;
use crate::archive::catalog::paged::{Near, PagedCatalog};
use crate::error::{Error, Kind, Result};
use crate::preset::steps::quoted;
use crate::report::{Reporter, human_bytes, printable};
use crate::sink::WARNED;
use crate::sink::landing::Landing;
use crate::sink::target::{self, RestoreTarget};
use crate::stream::counters::{Counters, Total};
use crate::stream::sink::Sink;
use crate::tar::select::{Part, Patterns, Selection, unsafe_member};
use crate::tar::{Entry, EntryType, Member, name};

/// Bytes of memory that a restore takes at most: batches, each fetched, decrypted and decompressed, and the pieces that
/// wait for the sink. A catalog of a million frames adds some.
const MEMORY: u64 = 256 << 20;
/// Refused members that an error names.
const NAMED: usize = 5;

/// What to restore from.
#[derive(Debug, Clone)]
pub enum RestoreSource {
    /// An archive, by its catalog.
    Archive(ArchiveRef),
    /// An archive from its front, its catalog being lost.
    Front(ArchiveRef),
    /// An object by its key, whoever made it.
    Object(String),
    /// What another program writes to our standard input.
    Stdin,
}

/// What to restore, and where to.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// What to restore from.
    pub source: RestoreSource,
    /// Where the bytes go.
    pub target: RestoreTarget,
    /// Where the archive is, and what opens it.
    pub open: OpenRequest,
    /// Members to restore, and what is below them; all where there is none.
    pub include: Vec<String>,
    /// Members to leave out.
    pub exclude: Vec<String>,
    /// Unpack although the folder or volume is not empty.
    pub overwrite: bool,
    /// Unpack device nodes too.
    pub allow_devices: bool,
    /// Leave out the members that are lost, and name them.
    pub skip_damaged: bool,
    /// Only tell what would be restored.
    pub dry_run: bool,
}

/// Restores an archive, or some of its members.
///
/// # Errors
/// There is no such archive, it cannot be opened, a member may not be unpacked, or the target fails. Where bytes were
/// handed on before, the hint says how many.
pub async fn restore(request: RestoreRequest, ui: &Reporter, cancel: &CancellationToken) -> Result<Outcome> {
    let RestoreSource::Archive(archive) = &request.source else {
        return sequential::restore(request, ui, cancel).await;
    };
    let (from, archive) = (request.open.store.clone(), archive.clone());
    let restored = restore_archive(&archive, request, ui, cancel).await;
    match restored {
        Err(error) => Err(tokio::select! {
            biased;
            () = cancel.cancelled() => error.clone(),
            hinted = or_newest_whole(error.clone(), &from, &archive, ui) => hinted,
        }),
        done => done,
    }
}

async fn restore_archive(
    archive: &ArchiveRef,
    request: RestoreRequest,
    ui: &Reporter,
    cancel: &CancellationToken,
) -> Result<Outcome> {
    let plan = tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(Error::interrupted()),
        plan = Plan::make(archive, &request, ui) => plan?,
    };
    // Whatever becomes of the rest.
    let is_partial = plan.left_out.tell(ui);
    if request.dry_run {
        let told = dry_run::tell(&plan, &request, ui).await;
        return told.map(|()| if is_partial { Outcome::Warned } else { Outcome::Done });
    }
    ui.detail(&format!("up to {} of memory, {PARALLEL} batches of frames at once", human_bytes(MEMORY)));
    let original = |volume: &str| plan.original_volume(volume);
    let id_map = plan.archive.record().id_map;
    let to_volume = matches!(request.target, RestoreTarget::Volume(_));
    let begun = Begun::now(&request.target);
    let (sink, mut landing) = target::open(request.target, original, request.overwrite, ui).await?;
    landing.iter_mut().for_each(|landing| {
        landing.allow_devices(request.allow_devices);
        landing.owners_from(id_map);
    });
    if let Some(id_map) = id_map.filter(|id_map| id_map.remaps() && !to_volume) {
        ui.warn(&owners_kept(id_map));
    }
    let counters = Arc::new(Counters::of(&archive.job));
    counters.expect(Total::Known(plan.bytes()));
    let tracking = ui.track("restored", Arc::clone(&counters));
    let mut members = 0;
    let admit = |member: &mut Member| {
        let admitted = landing.as_mut().map_or(Ok(true), |landing| landing.admit(member))?;
        members += u64::from(admitted);
        Ok(admitted)
    };
    let write = async |sink: &Sink| plan.deliver(sink, &counters, admit).await;
    let filled = target::fill(sink, cancel, write).await;
    drop(tracking);
    let code = filled.map_err(|error| incomplete(error, &counters))?;
    let end = plan.archive.end();
    end.warnings.iter().for_each(|warning| ui.warn(&format!("at backup time: {warning}")));
    let outcome = outcome(code, landing.as_ref(), ui);
    let members = matches!(plan.handing, Handing::Members(_)).then_some(members);
    begun.tell(&plan.name, &counters, members, outcome, ui);
    Ok(if is_partial && outcome == Outcome::Done { Outcome::Warned } else { outcome })
}

/// How a restore ended that did not fail; what was left out is said.
pub(super) fn outcome(code: i64, landing: Option<&Landing>, ui: &Reporter) -> Outcome {
    let Some(landing) = landing else {
        return if code == 0 { Outcome::Done } else { Outcome::Exited(code) };
    };
    match landing.warn(ui) || code == WARNED {
        true => Outcome::Warned,
        false => Outcome::Done,
    }
}

/// What is to be restored, confirmed before anything is touched.
struct Plan {
    roots: BTreeSet<String>,
    name: String,
    archive: OpenArchive,
    handing: Handing,
    /// How many members that is.
    members: u64,
    /// Members that are lost.
    left_out: LeftOut,
}

/// What is handed on, and how.
#[derive(Debug, PartialEq)]
enum Handing {
    /// All bytes as they are.
    AsIs,
    /// The members of these parts, written anew.
    Members(Vec<Part>),
}

impl Handing {
    /// What is read of an archive whose own source has so many bytes.
    fn parts(&self, own_bytes: u64) -> Cow<'_, [Part]> {
        match self {
            Handing::AsIs => Cow::Owned(vec![Part::whole(own_bytes)]),
            Handing::Members(parts) => Cow::Borrowed(parts),
        }
    }
}

impl Plan {
    async fn make(archive: &ArchiveRef, request: &RestoreRequest, ui: &Reporter) -> Result<Plan> {
        let found = StoredArchive::find(&request.open.store, archive, ui).await?;
        let passphrase = found.passphrase(&request.open)?;
        let mut members = Members::of(request, Lost::default())?;
        let near = members.near();
        let each = |entry: &Entry| members.look(entry);
        let mut archive =
            OpenArchive::look(&found, passphrase.as_ref(), |pages| near.of(pages), each).await?;
        members.look_on(&archive).await?;
        let (mut roots, mut left_out) = (members.roots.clone(), LeftOut::default());
        let mut count = members.count();
        let mut handing = members.handing_of(&archive, request)?;
        let parts = handing.parts(archive.end().bytes);
        match request.skip_damaged {
            false => open_older(&mut archive, &parts).await?,
            true => {
                ui.note("everything is read twice: first to find what is damaged");
                let found = lost::find(&mut archive, &parts, &|| false, &Counters::default()).await?;
                if let Found::Lost(lost) = found {
                    let mut rest = Members::of(request, lost)?;
                    archive.look_again(|_| None, |entry| rest.look(entry)).await?;
                    rest.look_on(&archive).await?;
                    (roots, left_out, count) = (rest.roots.clone(), rest.left_out.clone(), rest.count());
                    handing = rest.handing_of(&archive, request)?;
                }
            }
        }
        Ok(Plan { roots, name: found.name(), archive, handing, members: count, left_out })
    }

    async fn deliver(
        &self,
        sink: &Sink,
        counters: &Counters,
        admit: impl FnMut(&mut Member) -> Result<bool>,
    ) -> Result<()> {
        match &self.handing {
            Handing::AsIs => {
                let whole = Part::whole(self.archive.end().bytes);
                write_ranges(&self.archive, &whole, sink, counters).await
            }
            Handing::Members(parts) => write_members(&self.archive, parts, sink, counters, admit).await,
        }
    }

    /// Bytes of source that are to be delivered.
    fn bytes(&self) -> u64 {
        self.handing.parts(self.archive.end().bytes).iter().map(Part::bytes).sum()
    }

    /// Under which name the volume lies in the archive, and alone: other volumes lie beside the one restored to, and no
    /// member may reach them.
    fn original_volume(&self, name: &str) -> Result<String> {
        let original = original_volume(name, &self.archive.record().source)?;
        alone(&original, &self.roots).map(|()| original)
    }
}

/// Which members are wanted, and whether they may be unpacked.
struct Members {
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
    link_targets: HashMap<Place, bool>,
    /// Lost members that are asked for.
    left_out: LeftOut,
    has_more: bool,
    /// The first two parts of names and of hard links' targets: of a volume's archive, `VOLUME/_data` alone.
    roots: BTreeSet<String>,
}

impl Members {
    fn new(patterns: Patterns, unpacks: bool, allow_devices: bool, lost: Lost) -> Self {
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

    fn of(request: &RestoreRequest, lost: Lost) -> Result<Self> {
        let patterns = Patterns::new(&request.include, &request.exclude)?;
        Ok(Members::new(patterns, request.target.unpacks(), request.allow_devices, lost))
    }

    /// Looks again until nothing more is found that is needed: hard links and folders lead to members that were not asked
    /// for.
    async fn look_on(&mut self, archive: &OpenArchive) -> Result<()> {
        while self.again() {
            let near = self.near();
            archive.look_again(|pages| near.of(pages), |entry| self.look(entry)).await?;
        }
        Ok(())
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

    fn look(&mut self, entry: &Entry) {
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
    fn count(&self) -> u64 {
        self.wanted + self.selection.folders_around()
    }

    /// What the next look is to come by.
    fn near(&self) -> InRuns {
        // What is lost is found out, and counted, among all members.
        let below = self.patterns.beginnings().filter(|_| self.lost.is_nothing());
        InRuns(below.map(|below| Near { below, exact: self.selection.names() }))
    }

    /// Ends a look, and says whether another is needed.
    fn again(&mut self) -> bool {
        let again = self.selection.again() | std::mem::take(&mut self.has_more);
        if again {
            self.selection.begin_again();
            (self.wanted, self.refused, self.left_out) = (0, (0, Vec::new()), LeftOut::default());
        }
        again
    }

    /// What to hand on of an open archive.
    fn handing_of(mut self, archive: &OpenArchive, request: &RestoreRequest) -> Result<Handing> {
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
    fn handing(self, is_tar: bool, wants_tar: bool, own_bytes: u64) -> Result<Handing> {
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

/// Opens the older archives that parts lie in.
async fn open_older(archive: &mut OpenArchive, parts: &[Part]) -> Result<()> {
    let lost = lost::unopened(archive, parts).await?;
    if lost.is_nothing() { Ok(()) } else { Err(lost.error(archive).await?) }
}

/// No member lies beside the volume.
fn alone(volume: &str, roots: &BTreeSet<String>) -> Result<()> {
    let own = format!("{volume}/_data");
    match roots.iter().find(|root| **root != own && *root != volume) {
        Some(other) => Err(outside(&own, other)),
        None => Ok(()),
    }
}

/// The first two parts of a name, to the letter: tar renames by the letter, too.
fn root(name: &str) -> String {
    let name = name.strip_suffix('/').unwrap_or(name).trim_start_matches('/');
    name.split('/').take(2).collect::<Vec<_>>().join("/")
}

/// Of a volume's archive, a member that belongs to something else.
pub(super) fn outside(own: &str, other: &str) -> Error {
    Error::refused(format!("the archive has members outside of {own}: {}", printable(other)))
        .hint("leave them out with --exclude, or restore --to-path and look")
}

fn incomplete(error: Error, counters: &Counters) -> Error {
    let written = counters.source.get();
    let error = match error.kind() {
        Kind::Damaged => error.and_hint(
            "`--skip-damaged` restores what can be, and names what cannot; after `verify --whole`, `backup --incremental` \
             reads it again",
        ),
        _ => error,
    };
    error.and_hint(format!(
        "the {written} bytes that were handed on are right, but not all: the target is incomplete"
    ))
}

/// Under which name the volume lies in the archive, of which this is the source.
fn original_volume(name: &str, source: &serde_json::Value) -> Result<String> {
    let volumes = source["volume"].as_array();
    let volumes: Vec<_> = volumes.into_iter().flatten().filter_map(|v| v.as_str()).collect();
    match volumes[..] {
        [] => Err(Error::usage("this is no archive of a volume").hint("unpack it --to-path DIR")),
        [only] => Ok(only.into()),
        _ => {
            let one = volumes.iter().find(|volume| **volume == name).unwrap_or(&volumes[0]);
            Err(Error::usage(format!("this archive holds the volumes {}", volumes.join(", "))).hint(format!(
                "restore --to-path, or one at a time: --to-stdout --include {} | tar -x --strip-components=2 …",
                quoted(one)
            )))
        }
    }
}

mod dry_run;
mod left_out;
pub(super) mod report;
#[cfg(test)]
mod tests;
