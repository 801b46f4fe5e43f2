//! `--verify-before`: nothing of a job is deleted unless the newest archive that is kept has all its stored bytes, and what
//! it needs too.

use super::super::retention::Reason;
use super::super::stored::{ArchiveRef, OpenRequest};
use super::super::verify::{Depth, VerifyRequest, verify};
use super::super::version::Version;
use super::{Fate, Line, PruneRequest, Pruned, PrunedJob};
use crate::archive::Id;
use crate::archive::check::Check;
use crate::error::{Error, Result};
use crate::host::passphrase::Sources;
use crate::report::Reporter;
use crate::store::Store;

/// Verifies the newest that is kept of each job; where it is not in order, nothing of the job is dropped.
pub(super) async fn newest(request: &PruneRequest, pruned: &mut Pruned, ui: &Reporter) {
    for job in &mut pruned.jobs {
        let is_dropped = |line: &Line| matches!(line.fate, Fate::Dropped) && line.started.is_some();
        if !job.lines.iter().any(is_dropped) {
            continue;
        }
        let Some(newest) = newest_kept(job) else { continue };
        if let Err(error) = in_order(request, &job.job, &newest, ui).await {
            for line in job.lines.iter_mut().filter(|line| is_dropped(line)) {
                line.fate = Fate::Failed(Error::failed(format!("{newest} is not in order")));
            }
            let what = format!("nothing of {} is deleted", job.job);
            pruned.failed.push((job.job.clone(), error.context(what)));
        }
    }
}

/// The archive that a restore would take: what lies in the future, or is a part of a run, is kept, but is not that.
fn newest_kept(job: &PrunedJob) -> Option<Id> {
    let kept = || job.lines.iter().rev().filter(|line| matches!(line.fate, Fate::Kept));
    let newest = kept().find(|line| line.reasons.contains(&Reason::Newest)).or_else(|| kept().next());
    newest.map(|line| line.id.clone())
}

/// Whether an archive, and all that it needs, has the bytes that its manifest names.
async fn in_order(request: &PruneRequest, job: &str, id: &Id, ui: &Reporter) -> Result<()> {
    let store: Store = request.store.open(ui)?;
    let needs = store.manifest(job, id).await?.needs;
    for id in needs.into_iter().chain([id.clone()]) {
        let open =
            OpenRequest { store: request.store.clone(), passphrase: Sources::default(), no_encrypt: false };
        let verified = VerifyRequest {
            which: ArchiveRef { job: job.into(), version: Version::Id(id) }.into(),
            open,
            depth: Depth::Stored,
            since_last: false,
            max_duration: None,
            check: Check::new(&[], 0)?,
            record: true,
        };
        verify(&verified, ui, &mut |_| {}).await.map_err(|error: Error| error.context("--verify-before"))?;
    }
    Ok(())
}
