//! Long runs commit as they go: what a segment has read becomes a partial archive, and the run goes on as an increment of
//! that one. The last archive has everything, and needs the partial ones; no list shows those. A run that dies leaves them
//! for the next one to build on.

use tokio_util::sync::CancellationToken;

use super::super::increment::base;
use super::super::increment::segment::Segment;
use super::{BackupRun, Made};
use crate::archive::Id;
use crate::archive::seal::Sealed;
use crate::docker::Engine;
use crate::error::{Error, Kind, Result};
use crate::job::until;
use crate::report::{Event, Reporter};
use crate::source::Source;
use crate::store::fan::{Committed, FanOut};
use crate::store::manifest::Manifest;

/// The partial archives that a run has made.
#[derive(Default)]
pub(super) struct Segments {
    pub(super) made: u64,
    /// Bytes of source in them.
    pub(super) bytes: u64,
    /// Bytes that they take in a store.
    pub(super) stored: u64,
    /// The file at which the scan of the last one was cut.
    cut: Option<Vec<u8>>,
}

impl Segments {
    /// Says what stays of a run that fails.
    fn explain(&self, error: Error) -> Error {
        match self.made {
            0 => error,
            1 => error.and_hint("1 segment of this run stays, and the next run builds on it"),
            n => error.and_hint(format!("{n} segments of this run stay, and the next run builds on them")),
        }
    }
}

impl Segments {
    /// The last word of a run that was interrupted before anything of it existed.
    pub(super) fn nothing_committed(&self, error: Error) -> Error {
        match error.kind() == Kind::Interrupted && self.made == 0 {
            true => error.and_hint("nothing was committed"),
            false => error,
        }
    }
}

impl BackupRun {
    /// Where the scan of the next archive is cut.
    pub(super) fn segment(&self) -> Option<Segment> {
        let size = self.request.increments.as_ref()?.segment.filter(|_| self.is_scanned)?;
        Some(Segment::new(size, self.segments.cut.clone()))
    }

    /// Makes one archive after the other, until one has everything.
    pub(super) async fn make_all(
        &mut self,
        source: Source,
        engine: Option<Engine>,
        mut stores: FanOut,
        ui: &Reporter,
        cancel: &CancellationToken,
    ) -> Result<Made> {
        loop {
            let made = self.make_one(&source, engine.as_ref(), stores, ui, cancel).await;
            if let Some(made) = made.map_err(|error| self.segments.explain(error))? {
                return Ok(made);
            }
            stores = FanOut::new(self.plan.parts.clone(), self.chunks.clone(), ui);
        }
    }

    /// Makes the next archive; none, where that is partial.
    async fn make_one(
        &mut self,
        source: &Source,
        engine: Option<&Engine>,
        stores: FanOut,
        ui: &Reporter,
        cancel: &CancellationToken,
    ) -> Result<Option<Made>> {
        let (sealed, stores) = self.stream_once(source.clone(), engine.cloned(), stores, ui, cancel).await?;
        let (manifest, needs) = (self.manifest(&sealed), self.kept.needs());
        if !sealed.end.partial {
            self.let_go(ui).await;
            let mut committed = stores.commit(&manifest, &needs, cancel).await?;
            committed.failed.splice(..0, std::mem::take(&mut self.failed));
            let outcome = self.report(&sealed, &committed, ui);
            self.failed = committed.failed;
            return Ok(Some(Made { outcome, job: self.record.job.clone(), id: self.record.id.clone() }));
        }
        let started = jiff::Timestamp::now();
        let next = match Id::after(started, [&self.record.id]) {
            Ok(next) => next,
            Err(error) => return Err(stores.abort_because(error).await),
        };
        if let Some(lease) = &mut self.lease {
            lease.go_on_as(&next, ui).await;
        }
        let committed = stores.commit(&manifest, &needs, cancel).await;
        // From now on, a failure is that of the archive whose lease is held.
        (self.record.id, self.record.started) = (next, started);
        self.count(&sealed, &manifest, committed?, ui);
        until(cancel, self.go_on(&manifest, ui)).await?;
        Ok(None)
    }

    /// Counts a partial archive, and says that it exists.
    fn count(&mut self, sealed: &Sealed, manifest: &Manifest, committed: Committed, ui: &Reporter) {
        let Committed { stores, unlocked, failed } = committed;
        let stored = manifest.archive.size + manifest.catalog.size;
        self.segments.made += 1;
        self.segments.bytes += manifest.bytes;
        self.segments.stored += stored;
        let open = self.tell_warnings(sealed, ui);
        let is_new = |text: &String| !self.expected.warnings.contains(text) && !self.warnings.contains(text);
        let open: Vec<_> = open.into_iter().filter(is_new).collect();
        self.warnings.extend(open);
        self.tell_unlocked(&unlocked, ui);
        self.stores.retain(|store| stores.contains(&store.name));
        self.failed.extend(failed);
        ui.emit(Event::Segment {
            job: manifest.job.clone(),
            id: manifest.id.to_string(),
            bytes: manifest.bytes,
            stored,
            stores,
        });
    }

    /// Builds on the partial archive that was just made.
    async fn go_on(&mut self, manifest: &Manifest, ui: &Reporter) -> Result<()> {
        self.record.full = manifest.stands_alone();
        self.segments.cut = self.cut.get().cloned();
        let search =
            base::Search { stores: &self.stores, record: &self.record, passphrase: self.passphrase.as_ref() };
        let base = search.go_on(manifest).await?;
        self.warn_once(&base.warnings, ui);
        base.notes.iter().for_each(|text| ui.note(text));
        let new: Vec<_> =
            base.warnings.iter().filter(|text| !self.warnings.contains(text)).cloned().collect();
        self.warnings.extend(new);
        self.base = Some(base.into());
        Ok(())
    }
}
