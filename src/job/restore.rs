//! `restore`: catalog → frames, each confirmed → the sink.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use super::backup::Outcome;
use super::stored::StoredArchive;
use super::{sequential, target};
use crate::archive::Format;
use crate::archive::open::Archive;
use crate::cli::{ArchiveRef, Restore, RestoreSource, RestoreTarget};
use crate::error::{Error, Kind, Result};
use crate::report::{Reporter, human_bytes};
use crate::stream::counters::Counters;
use crate::stream::sink::Sink;
use crate::tar::select::{Patterns, Selection, unsafe_member};
use crate::tar::{BLOCK, EntryType};

/// Batches of frames under way at once: each takes up to 32 MiB.
pub const PARALLEL: usize = 4;
/// Bytes of memory that a restore takes at most: batches, each fetched, decrypted and decompressed, and the pieces that
/// wait for the sink. A catalog of a million frames adds some.
const MEMORY: u64 = 256 << 20;
/// Refused members that an error names.
const NAMED: usize = 5;

/// Restores an archive, or some of its members.
pub async fn restore(options: Restore, ui: &Reporter, cancel: &CancellationToken) -> Result<Outcome> {
    let (what, to) = (options.what()?, options.to()?);
    let RestoreSource::Archive(archive) = what else {
        return sequential::restore(what, to, &options, ui, cancel).await;
    };
    let plan = tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(Error::interrupted()),
        plan = Plan::make(&archive, &options, &to) => plan?,
    };
    ui.detail(&format!("up to {} of memory, {PARALLEL} batches of frames at once", human_bytes(MEMORY)));
    let sink = target::open(to, |volume| plan.original_volume(volume), options.overwrite, ui).await?;
    let counters = Arc::new(Counters::default());
    let tracking = ui.track("restored", Arc::clone(&counters));
    let write = async |sink: &Sink| deliver(&plan.archive, &plan.ranges, sink, &counters).await;
    let filled = target::fill(sink, cancel, write).await;
    drop(tracking);
    let code = filled.map_err(|error| incomplete(error, &counters))?;
    let end = &plan.archive.contents().end;
    end.warnings.iter().for_each(|warning| ui.warn(&format!("at backup time: {warning}")));
    let amount = human_bytes(counters.source.get());
    ui.detail(&format!("restored {amount} of {} in {} frames", plan.name, end.frames));
    Ok(if code == 0 { Outcome::Done } else { Outcome::Exited(code) })
}

/// What is to be restored, confirmed before anything is touched.
struct Plan {
    roots: BTreeSet<String>,
    name: String,
    archive: Arc<Archive>,
    ranges: Vec<std::ops::Range<u64>>,
}

impl Plan {
    async fn make(archive: &ArchiveRef, options: &Restore, to: &RestoreTarget) -> Result<Plan> {
        let patterns = Patterns::new(&options.include, &options.exclude)?;
        let found = StoredArchive::find(&options.open.from.from, archive).await?;
        let passphrase = found.passphrase(&options.open)?;
        let unpacks = matches!(to, RestoreTarget::Path(_) | RestoreTarget::Volume(_));

        let mut members = Members::new(patterns, unpacks, options.allow_devices);
        let archive = found.open_with(passphrase.clone(), |entry| members.look(entry)).await?;
        if !members.selection.targets.is_empty() {
            // Hard links whose files were not asked for: a second look finds them.
            members = members.with_targets();
            found.open_with(passphrase, |entry| members.look(entry)).await?;
        }
        let roots = members.roots.clone();
        let ranges = members.ranges(&archive, unpacks || matches!(to, RestoreTarget::Image))?;

        Ok(Plan { roots, name: found.name(), archive, ranges })
    }

    /// Under which name the volume lies in the archive, and alone: other volumes lie beside the one restored to, and no
    /// member may reach them.
    fn original_volume(&self, name: &str) -> Result<String> {
        let original = original_volume(name, &self.archive)?;
        let own = format!("{original}/_data");
        match self.roots.iter().find(|root| **root != own && **root != original) {
            Some(other) => Err(target::outside(&own, other)),
            None => Ok(original),
        }
    }
}

/// Which members are wanted, and whether they may be unpacked.
struct Members {
    patterns: Patterns,
    /// Targets of wanted hard links, found at a first look.
    targets: std::collections::HashSet<String>,
    selection: Selection,
    unpacks: bool,
    allow_devices: bool,
    refused: Vec<String>,
    /// The first two parts of names and of hard links' targets: of a volume's archive, `VOLUME/_data` alone.
    roots: BTreeSet<String>,
}

impl Members {
    fn new(patterns: Patterns, unpacks: bool, allow_devices: bool) -> Self {
        Members {
            patterns,
            targets: std::collections::HashSet::new(),
            selection: Selection::new(unpacks),
            unpacks,
            allow_devices,
            refused: Vec::new(),
            roots: BTreeSet::new(),
        }
    }

    fn with_targets(self) -> Self {
        let again = Members::new(self.patterns, self.unpacks, self.allow_devices);
        Members { targets: self.selection.targets, ..again }
    }

    fn look(&mut self, entry: &crate::tar::Entry) {
        let taken = self.selection.look(entry, &self.patterns, self.targets.contains(&entry.path));
        if taken && self.unpacks && self.roots.len() < NAMED {
            self.roots.insert(root(&entry.path));
            let target = entry.link.as_deref().filter(|_| entry.kind == EntryType::Link);
            self.roots.extend(target.map(root));
        }
        let refused = unsafe_member(entry, self.allow_devices).filter(|_| taken && self.unpacks);
        self.refused.extend(refused.map(|why| format!("{}: {why}", crate::report::printable(&entry.path))));
    }

    /// The bytes to deliver.
    fn ranges(self, archive: &Archive, wants_tar: bool) -> Result<Vec<std::ops::Range<u64>>> {
        let tar = archive.contents().archive.kind == Format::Tar;
        if !tar && (wants_tar || !self.patterns.take_all()) {
            return Err(
                Error::usage("this archive is no tar: it has no members").hint("restore it --to-stdout")
            );
        }
        if !self.refused.is_empty() {
            let named = self.refused.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
            return Err(Error::damaged(format!("{} members may not be unpacked", self.refused.len())).because(named)
                .hint("leave them out with --exclude, accept devices with --allow-devices, or restore --to-stdout"));
        }
        if self.patterns.take_all() {
            return Ok(archive.whole());
        }
        if self.selection.count == 0 {
            return Err(
                Error::new(Kind::NotFound, "no member matches").hint("`sealift ls` shows their names")
            );
        }
        Ok(self.selection.ranges)
    }
}

/// The first two parts of a name, to the letter: tar renames by the letter, too.
fn root(name: &str) -> String {
    let name = name.strip_suffix('/').unwrap_or(name);
    name.split('/').take(2).collect::<Vec<_>>().join("/")
}

async fn deliver(
    archive: &Arc<Archive>,
    ranges: &[std::ops::Range<u64>],
    sink: &Sink,
    counters: &Counters,
) -> Result<()> {
    let mut opened = std::pin::pin!(archive.frames(ranges, PARALLEL));
    while let Some(batch) = opened.next().await {
        let batch = batch?;
        counters.stored.add(batch.fetched.len() as u64);
        for piece in batch.pieces(ranges) {
            let len = piece.len() as u64;
            sink.write(piece).await?;
            counters.source.add(len);
        }
    }
    // Some members make a tar of their own, which needs an end.
    if ranges != archive.whole() {
        sink.write(Bytes::from_static(&[0; 2 * BLOCK])).await?;
    }
    Ok(())
}

fn incomplete(error: Error, counters: &Counters) -> Error {
    let written = counters.source.get();
    error.and_hint(format!(
        "the {written} bytes that were handed on are right, but not all: the target is incomplete"
    ))
}

/// Under which name the volume lies in the archive.
fn original_volume(name: &str, archive: &Archive) -> Result<String> {
    let source = &archive.contents().archive.source["volume"];
    let volumes: Vec<_> = source.as_array().into_iter().flatten().filter_map(|v| v.as_str()).collect();
    match volumes[..] {
        [] => Err(Error::usage("this is no archive of a volume").hint("unpack it --to-path DIR")),
        [only] => Ok(only.into()),
        _ => Err(Error::usage(format!("this archive holds the volumes {}", volumes.join(", ")))
            .hint(format!("restore --to-path, or one at a time: --to-stdout --include '{name}' | tar -x …"))),
    }
}
