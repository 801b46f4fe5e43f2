//! `restore`: catalog → frames, each confirmed → the sink.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::backup::Outcome;
use super::deliver::{PARALLEL, write_members, write_ranges};
use super::open_archive::OpenArchive;
use super::sequential;
use super::stored::{ArchiveRef, OpenRequest, StoredArchive, or_newest_whole};
use crate::archive::Format;
use crate::archive::catalog::paged::{Near, PagedCatalog};
use crate::error::{Error, Kind, Result};
use crate::preset::steps::quoted;
use crate::report::{Reporter, human_bytes, printable};
use crate::sink::WARNED;
use crate::sink::landing::Landing;
use crate::sink::target::{self, RestoreTarget};
use crate::stream::counters::Counters;
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
    ui.detail(&format!("up to {} of memory, {PARALLEL} batches of frames at once", human_bytes(MEMORY)));
    let original = |volume: &str| plan.original_volume(volume);
    let (sink, mut landing) = target::open(request.target, original, request.overwrite, ui).await?;
    landing.iter_mut().for_each(|landing| landing.allow_devices(request.allow_devices));
    let counters = Arc::new(Counters::default());
    let tracking = ui.track("restored", Arc::clone(&counters));
    let admit = |member: &Member| landing.as_mut().map_or(Ok(true), |landing| landing.admit(member));
    let write = async |sink: &Sink| plan.deliver(sink, &counters, admit).await;
    let filled = target::fill(sink, cancel, write).await;
    drop(tracking);
    let code = filled.map_err(|error| incomplete(error, &counters))?;
    let end = plan.archive.end();
    end.warnings.iter().for_each(|warning| ui.warn(&format!("at backup time: {warning}")));
    let amount = human_bytes(counters.source.get());
    ui.detail(&format!("restored {amount} of {} in {} frames", plan.name, end.frames));
    Ok(outcome(code, landing.as_ref(), ui))
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
}

/// What is handed on, and how.
#[derive(Debug, PartialEq)]
enum Handing {
    /// All bytes as they are.
    AsIs,
    /// The members of these parts, written anew.
    Members(Vec<Part>),
}

impl Plan {
    async fn make(archive: &ArchiveRef, request: &RestoreRequest, ui: &Reporter) -> Result<Plan> {
        let patterns = Patterns::new(&request.include, &request.exclude)?;
        let found = StoredArchive::find(&request.open.store, archive, ui).await?;
        let passphrase = found.passphrase(&request.open)?;

        let mut members = Members::new(patterns, request.target.unpacks(), request.allow_devices);
        let near = members.near();
        let each = |entry: &Entry| members.look(entry);
        let mut archive =
            OpenArchive::look(&found, passphrase.as_ref(), |pages| near.of(pages), each).await?;
        // Hard links and folders lead to members that were not asked for: further looks find them.
        while members.again() {
            let near = members.near();
            archive.look_again(|pages| near.of(pages), |entry| members.look(entry)).await?;
        }
        if archive.pages().is_some_and(|pages| pages.runs().is_some()) {
            members.selection.forget_gaps();
        }
        let roots = members.roots.clone();
        let is_tar = archive.record().kind == Format::Tar;
        let own_bytes = archive.end().bytes;
        let handing = members.handing(is_tar, request.target.needs_tar(), own_bytes)?;
        if let Handing::Members(parts) = &handing {
            open_older(&mut archive, parts).await?;
        }
        Ok(Plan { roots, name: found.name(), archive, handing })
    }

    async fn deliver(
        &self,
        sink: &Sink,
        counters: &Counters,
        admit: impl FnMut(&Member) -> Result<bool>,
    ) -> Result<()> {
        match &self.handing {
            Handing::AsIs => {
                let whole = Part::whole(self.archive.end().bytes);
                write_ranges(&self.archive, &whole, sink, counters).await
            }
            Handing::Members(parts) => write_members(&self.archive, parts, sink, counters, admit).await,
        }
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
    unpacks: bool,
    allow_devices: bool,
    refused: Vec<String>,
    /// The first two parts of names and of hard links' targets: of a volume's archive, `VOLUME/_data` alone.
    roots: BTreeSet<String>,
}

impl Members {
    fn new(patterns: Patterns, unpacks: bool, allow_devices: bool) -> Self {
        let selection = Selection::new(unpacks);
        Members { patterns, selection, unpacks, allow_devices, refused: Vec::new(), roots: BTreeSet::new() }
    }

    fn look(&mut self, entry: &Entry) {
        let taken = match self.patterns.take_all() {
            true => {
                if entry.reference > 0 {
                    self.selection.keep(entry);
                }
                true
            }
            false => self.selection.look(entry, &self.patterns),
        };
        if !taken || !self.unpacks {
            return;
        }
        if self.roots.len() < NAMED {
            self.roots.insert(root(&entry.path));
            let target = entry.link.as_deref().filter(|_| entry.kind == EntryType::Link);
            self.roots.extend(target.map(root));
        }
        let refused = unsafe_member(entry, self.allow_devices);
        self.refused.extend(refused.map(|why| format!("{}: {why}", name::shown(&entry.name()))));
    }

    /// What the next look is to come by.
    fn near(&self) -> InRuns {
        let exact = self.selection.names();
        InRuns(self.patterns.beginnings().map(|below| Near { below, exact }))
    }

    /// Ends a look, and says whether another is needed.
    fn again(&mut self) -> bool {
        let again = self.selection.again();
        if again {
            self.refused.clear();
        }
        again
    }

    /// What to hand on of an archive whose own source has so many bytes.
    fn handing(self, is_tar: bool, wants_tar: bool, own_bytes: u64) -> Result<Handing> {
        if !is_tar && (wants_tar || !self.patterns.take_all()) {
            return Err(
                Error::usage("this archive is no tar: it has no members").hint("restore it --to-stdout")
            );
        }
        if !self.refused.is_empty() {
            let named = self.refused.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
            return Err(Error::refused(format!("{} members may not be unpacked", self.refused.len())).because(named)
                .hint("leave them out with --exclude, accept devices with --allow-devices, or restore --to-stdout"));
        }
        let (take_all, count) = (self.patterns.take_all(), self.selection.count());
        let mut parts = self.selection.parts();
        match take_all {
            true if !self.unpacks && parts.is_empty() => Ok(Handing::AsIs),
            true => {
                parts.push(Part::whole(own_bytes));
                Ok(Handing::Members(parts))
            }
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
    let lost = archive.open_older(parts.iter().map(|part| part.reference).collect()).await?;
    let Some(first) = lost.first() else { return Ok(()) };
    let is_lost = |entry: &Entry| {
        lost.iter().any(|lost| lost.reference == entry.reference)
            && parts.iter().any(|part| part.reference == entry.reference && part.holds(entry.at))
    };
    let named = archive.members_in(is_lost).await?;
    let names: Vec<_> = lost.iter().map(|lost| archive.name_of(lost.reference)).collect();
    Err(Error::damaged(format!("members that lie in {} cannot be restored: {named}", names.join(", ")))
        .because(first.error.clone())
        .hint("leave them out with --exclude; the next backup reads them again"))
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

#[cfg(test)]
mod tests;
