//! `restore`: catalog → frames, each confirmed → the sink.

use std::sync::Arc;

use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use left_out::LeftOut;
use members::{Handing, Members};
use report::{Begun, owners_kept};
use volumes::Original;

use super::backup::Outcome;
use super::deliver::{PARALLEL, write_members, write_ranges};
use super::instead::or_newest_whole;
use super::lost::{self, Found, Lost};
use super::open_archive::OpenArchive;
use super::stored::{ArchiveRef, OpenRequest, StoredArchive};
use super::{sequential, until};
use crate::error::{Error, Kind, Result};
use crate::report::{Reporter, human_bytes, printable};
use crate::sink::WARNED;
use crate::sink::landing::Landing;
use crate::sink::target::{self, RestoreTarget};
use crate::stream::counters::{Counters, Total};
use crate::stream::sink::Sink;
use crate::tar::Member;
use crate::tar::select::Part;

/// Bytes of memory that a restore takes at most: batches, each fetched, decrypted and decompressed, and the pieces that
/// wait for the sink. A catalog of a million frames adds some.
const MEMORY: u64 = 256 << 20;

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
    /// Which of an archive's volumes goes into the volume restored to, where that has another name.
    pub from_volume: Option<String>,
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

impl RestoreRequest {
    /// All of it, into a target that is empty.
    pub fn new(source: RestoreSource, target: RestoreTarget, open: OpenRequest) -> Self {
        RestoreRequest {
            source,
            target,
            open,
            from_volume: None,
            include: Vec::new(),
            exclude: Vec::new(),
            overwrite: false,
            allow_devices: false,
            skip_damaged: false,
            dry_run: false,
        }
    }
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
    if let RestoreTarget::Volumes = request.target {
        return volumes::restore_all(archive, &request, ui, cancel).await;
    }
    let plan = until(cancel, Plan::make(archive, &request, ui)).await?;
    match request.dry_run {
        true => dry_run::tell(&plan, &request, ui).await,
        false => plan.carry_out(request, ui, cancel).await,
    }
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
    job: String,
    name: String,
    archive: OpenArchive,
    handing: Handing,
    /// How many members that is.
    members: u64,
    /// Members that are lost.
    left_out: LeftOut,
    /// The volume, where it goes into one.
    original: Option<Original>,
}

impl Plan {
    async fn carry_out(
        self,
        request: RestoreRequest,
        ui: &Reporter,
        cancel: &CancellationToken,
    ) -> Result<Outcome> {
        // Whatever becomes of the rest.
        let is_partial = self.left_out.tell(ui);
        ui.detail(&format!("up to {} of memory, {PARALLEL} batches of frames at once", human_bytes(MEMORY)));
        let original = |_: &str| self.original.as_ref().map(Original::name).ok_or_else(volumes::of_none);
        let id_map = self.archive.record().id_map;
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
        let counters = Arc::new(Counters::of(&self.job));
        counters.expect(Total::Known(self.bytes()));
        let tracking = ui.track("restored", Arc::clone(&counters));
        let mut members = 0;
        let admit = |member: &mut Member| {
            let admitted = landing.as_mut().map_or(Ok(true), |landing| landing.admit(member))?;
            members += u64::from(admitted);
            Ok(admitted)
        };
        let write = async |sink: &Sink| self.deliver(sink, &counters, admit).await;
        let filled = target::fill(sink, cancel, write).await;
        drop(tracking);
        let code = filled.map_err(|error| incomplete(error, &counters))?;
        let end = self.archive.end();
        end.warnings.iter().for_each(|warning| ui.warn(&format!("at backup time: {warning}")));
        let outcome = outcome(code, landing.as_ref(), ui);
        let members = matches!(self.handing, Handing::Members(_)).then_some(members);
        begun.tell(&self.name, &counters, members, outcome, ui);
        Ok(if is_partial && outcome == Outcome::Done { Outcome::Warned } else { outcome })
    }

    async fn make(archive: &ArchiveRef, request: &RestoreRequest, ui: &Reporter) -> Result<Plan> {
        let found = StoredArchive::find(&request.open.store, archive, ui).await?;
        let passphrase = found.passphrase(&request.open)?;
        Self::of(&found, passphrase.as_ref(), request, ui).await
    }

    async fn of(
        found: &StoredArchive,
        passphrase: Option<&SecretString>,
        request: &RestoreRequest,
        ui: &Reporter,
    ) -> Result<Plan> {
        // Which members are wanted may depend on what the archive is of: that comes before they do.
        let mut archive = OpenArchive::open(found, passphrase).await?;
        let mut members = Members::of(request, archive.record(), Lost::default())?;
        members.look_at(&archive).await?;
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
                    let mut rest = Members::of(request, archive.record(), lost)?;
                    rest.look_at(&archive).await?;
                    (roots, left_out, count) = (rest.roots.clone(), rest.left_out.clone(), rest.count());
                    handing = rest.handing_of(&archive, request)?;
                }
            }
        }
        let original = Original::of(request, &archive.record().source)?;
        if let Some(original) = &original {
            original.alone(&roots)?;
        }
        let (job, name) = (found.job.clone(), found.name());
        Ok(Plan { job, name, archive, handing, members: count, left_out, original })
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
}

/// Opens the older archives that parts lie in.
async fn open_older(archive: &mut OpenArchive, parts: &[Part]) -> Result<()> {
    let lost = lost::unopened(archive, parts).await?;
    if lost.is_nothing() { Ok(()) } else { Err(lost.error(archive).await?) }
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

mod dry_run;
mod left_out;
mod members;
pub(super) mod report;
#[cfg(test)]
mod tests;
mod volumes;
