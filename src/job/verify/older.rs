//! What an increment needs of older archives: that it is there, and what it was.

use futures_util::{StreamExt, TryStreamExt};

use crate::archive::catalog::RefRecord;
use crate::error::{Error, Kind, Result};
use crate::job::lost;
use crate::job::open_archive::OpenArchive;
use crate::job::stored::StoredArchive;
use crate::report::human_bytes;
use crate::store::download::Object;
use crate::tar::select::Part;

/// Archives that are looked at at once.
const AT_ONCE: usize = 8;

/// The archives that a manifest says are needed have manifests of their own, and objects as large as those say.
pub(super) async fn objects(found: &StoredArchive) -> Result<()> {
    let look = |id| async move {
        let (store, job) = (&found.store, &found.job);
        let there = async {
            let manifest = store.manifest(job, id).await?;
            let object = Object::open(store, store.key(job, id, &manifest.suffix)).await?;
            match object.size == manifest.archive.size {
                true => Ok(()),
                false => Err(Error::damaged(format!("{} is not as large as it was", object.key()))),
            }
        };
        there.await.map_err(|error| match error.kind() {
            Kind::NotFound | Kind::Damaged => {
                Error::damaged(format!("{} needs {job}@{id}, which is gone or damaged", found.name()))
                    .because(error)
            }
            _ => error,
        })
    };
    let looks: Vec<_> = found.manifest.needs.iter().map(look).collect();
    futures_util::stream::iter(looks).buffered(AT_ONCE).try_collect().await
}

/// Opens all that are needed: their objects are there, and begin as they did.
///
/// # Errors
/// Some are not; the members that lie there are named.
pub(super) async fn heads(archive: &mut OpenArchive) -> Result<()> {
    let all = |record: &RefRecord| Part { reference: record.n, ..Part::whole(u64::MAX) };
    let all: Vec<_> = archive.refs().map(all).collect();
    let lost = lost::unopened(archive, &all).await?;
    if lost.is_nothing() { Ok(()) } else { Err(lost.error(archive).await?) }
}

/// How much of it older archives hold, in words.
pub(super) fn text(archive: &OpenArchive) -> String {
    let kept = archive.end().kept;
    match archive.refs().count() {
        0 => String::new(),
        older => {
            let archives = if older == 1 { "archive" } else { "archives" };
            format!("; {} members, {}, in {older} older {archives}", kept.entries, human_bytes(kept.bytes))
        }
    }
}
