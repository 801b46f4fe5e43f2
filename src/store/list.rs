//! What a store holds: only what has a manifest.

use futures_util::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::Store;
use super::manifest::{Manifest, SUFFIX};
use crate::archive::Id;
use crate::error::{Error, Kind, Result};

/// Manifests read at once.
const PARALLEL: usize = 16;
/// A manifest is some hundred octets; what is larger is none.
const LARGEST: u64 = 64 << 10;

/// One archive in a store, as its key names it.
#[derive(Debug)]
pub struct Listed {
    /// The job, from the key.
    pub job: String,
    /// The id, from the key.
    pub id: Id,
    /// What the manifest says; an error where it is damaged.
    pub manifest: Result<Manifest>,
}

impl Store {
    /// Every archive, or those of one job, oldest first within a job.
    pub async fn archives(&self, job: Option<&str>) -> Result<Vec<Listed>> {
        let keys = self.manifest_keys(job).await?;
        let read = futures_util::stream::iter(keys).map(|(job, id)| async move {
            let manifest = self.manifest(&job, &id).await;
            match manifest {
                // Deleted since it was listed.
                Err(error) if error.kind() == Kind::NotFound => Ok(None),
                Err(error) if error.kind() != Kind::Damaged => Err(error),
                manifest => Ok(Some(Listed { job, id, manifest })),
            }
        });
        read.buffered(PARALLEL).try_filter_map(|listed| async { Ok(listed) }).try_collect().await
    }

    /// The newest archive of a job.
    pub async fn newest(&self, job: &str) -> Result<Option<Id>> {
        Ok(self.manifest_keys(Some(job)).await?.pop().map(|(_, id)| id))
    }

    /// Jobs and ids that have a manifest, in order.
    async fn manifest_keys(&self, job: Option<&str>) -> Result<Vec<(String, Id)>> {
        let explain = |e| self.explain("listing", e);
        let metas: Vec<_> = match job {
            // A job's archives lie directly in its folder; what lies deeper belongs to other jobs.
            Some(job) => {
                self.down.list_with_delimiter(Some(&self.below(job))).await.map_err(explain)?.objects
            }
            None => self.down.list(Some(&self.prefix)).try_collect().await.map_err(explain)?,
        };
        let mut keys: Vec<_> = metas.iter().filter_map(|meta| self.parse(&meta.location)).collect();
        keys.sort();
        Ok(keys)
    }

    /// `PREFIX/JOB/ID.manifest.json` → job and id.
    fn parse(&self, key: &Path) -> Option<(String, Id)> {
        let parts: Vec<_> = key.prefix_match(&self.prefix)?.map(|part| part.as_ref().to_string()).collect();
        let (name, job) = parts.split_last()?;
        let id = name.strip_suffix(SUFFIX)?.parse().ok()?;
        (!job.is_empty()).then(|| (job.join("/"), id))
    }

    /// Reads one manifest and holds it against the key it lies under.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::Damaged`] when it is not what was written there.
    pub async fn manifest(&self, job: &str, id: &Id) -> Result<Manifest> {
        let key = self.key(job, id, SUFFIX);
        let got = match self.down.get(&key).await {
            Err(object_store::Error::NotFound { .. }) => {
                return Err(Error::new(
                    Kind::NotFound,
                    format!("there is no archive {job}@{id} at {}", self.name),
                )
                .hint("`sealift list` shows the ones there are"));
            }
            got => got.map_err(|e| self.explain("reading a manifest", e))?,
        };
        if got.meta.size > LARGEST {
            return Err(Error::damaged(format!("the manifest of {job}@{id} is damaged: it is too large")));
        }
        let text = got.bytes().await.map_err(|e| self.explain("reading a manifest", e))?;
        let text =
            std::str::from_utf8(&text).map_err(|e| Error::damaged("the manifest is damaged").because(e))?;
        let manifest =
            Manifest::from_text(text).map_err(|e| e.context(format!("the manifest of {job}@{id}")))?;
        match manifest.job == job && manifest.id == *id {
            true => Ok(manifest),
            false => {
                Err(Error::damaged(format!("the manifest at {key} is of {}@{}", manifest.job, manifest.id)))
            }
        }
    }
}
