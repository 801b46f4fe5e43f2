//! What an increment needs must be there when it is committed: hours lie between the look at older archives and the
//! manifest, and somebody may delete one meanwhile.

use std::collections::HashMap;

use futures_util::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;

use super::Store;
use super::failure::status_of;
use super::manifest::{Manifest, SUFFIX};
use crate::archive::Id;
use crate::archive::catalog::RefRecord;
use crate::error::{Error, Result};

/// Manifests that are read at once.
const AT_ONCE: usize = 8;

/// An archive that another one needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Its id; its job is that of the other.
    pub id: Id,
    /// What its object's name ends with.
    pub suffix: String,
    /// Bytes of its object.
    pub size: u64,
}

impl From<&RefRecord> for Need {
    fn from(record: &RefRecord) -> Self {
        Need { id: record.id.clone(), suffix: record.suffix.clone(), size: record.stored_bytes }
    }
}

impl From<&Manifest> for Need {
    fn from(manifest: &Manifest) -> Self {
        Need { id: manifest.id.clone(), suffix: manifest.suffix.clone(), size: manifest.archive.size }
    }
}

impl Need {
    /// Whether it is among the objects of its job: by their names, how many bytes each has. Without its manifest an archive
    /// is being deleted.
    pub fn is_there(&self, sizes: &HashMap<String, u64>) -> bool {
        let Need { id, suffix, size } = self;
        sizes.get(&format!("{id}{suffix}")) == Some(size) && sizes.contains_key(&format!("{id}{SUFFIX}"))
    }
}

/// All archives that one needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs(Vec<Need>);

impl FromIterator<Need> for Needs {
    fn from_iter<I: IntoIterator<Item = Need>>(needs: I) -> Self {
        Needs(needs.into_iter().collect())
    }
}

impl Needs {
    /// Their ids.
    pub fn ids(&self) -> Vec<Id> {
        self.0.iter().map(|need| need.id.clone()).collect()
    }

    /// Those archives of a job, as their own manifests say.
    ///
    /// # Errors
    /// The store does not answer; one of them has no manifest, or a damaged one.
    pub async fn of(store: &Store, job: &str, ids: &[Id]) -> Result<Needs> {
        let read = |id| async move { store.manifest(job, id).await.map(|manifest| Need::from(&manifest)) };
        let reads: Vec<_> = ids.iter().map(read).collect();
        futures_util::stream::iter(reads).buffered(AT_ONCE).try_collect().await.map(Needs)
    }

    /// The first that is gone, or is not as large as it was. A full needs none, and nothing is asked for it.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn missing(&self, store: &Store, job: &str) -> Result<Option<Id>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let Some(sizes) = store.sizes_if_listed(job).await? else { return Ok(None) };
        for need in self.0.iter().filter(|need| !need.is_there(&sizes)) {
            // A list that lags behind is no proof.
            if !store.has(job, need).await? {
                return Ok(Some(need.id.clone()));
            }
        }
        Ok(None)
    }

    /// Why an archive that needs them is not to be committed, if that is so.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn check(&self, store: &Store, job: &str, id: &Id) -> Result<Option<Error>> {
        let missing = self.missing(store, job).await?;
        Ok(missing.map(|missing| {
            let name = format!("{job}@{id}");
            Error::failed(format!("{name} needs {job}@{missing}, which is gone from {} meanwhile", store.name)).hint(
                "run it again: what was in there is read again; whoever deletes old archives must spare those that newer \
                 ones need",
            )
        }))
    }
}

impl Store {
    /// [`Store::sizes`]; none where this key may not list.
    async fn sizes_if_listed(&self, job: &str) -> Result<Option<HashMap<String, u64>>> {
        match self.down.list_with_delimiter(Some(&self.below(job))).await {
            Ok(listed) => {
                let name =
                    |meta: object_store::ObjectMeta| Some((meta.location.filename()?.to_string(), meta.size));
                Ok(Some(listed.objects.into_iter().filter_map(name).collect()))
            }
            Err(error) if matches!(status_of(&error), Some(401 | 403)) && self.is_refusal(&error) => {
                self.patience.detail("this key may not list: it is not looked what a backup needs");
                Ok(None)
            }
            Err(error) => Err(self.explain("listing", error)),
        }
    }

    /// Whether an archive is there, asked for by its keys.
    async fn has(&self, job: &str, need: &Need) -> Result<bool> {
        let explain = |e| self.explain("looking at what a backup needs", e);
        let manifest = self.look(&self.key(job, &need.id, SUFFIX)).await.map_err(explain)?;
        let object = self.look(&self.key(job, &need.id, &need.suffix)).await.map_err(explain)?;
        Ok(manifest.is_some() && object == Some(need.size))
    }

    /// Takes a manifest back whose archive needs what is gone, and says whether it is gone now. Where it is not, the cause
    /// says what to do.
    pub(super) async fn withdraw(&self, job: &str, id: &Id, cause: Error) -> (bool, Error) {
        let key = self.key(job, id, SUFFIX);
        let deleted = self.down.delete(&key).await;
        if matches!(self.look(&key).await, Ok(None)) {
            return (true, cause);
        }
        let cause = match deleted {
            Err(error) => cause.because(self.explain("deleting the manifest", error)),
            Ok(()) => cause,
        };
        let left = format!(
            "{key} could not be deleted: {job}@{id} is listed at {}, and is not whole: delete it",
            self.name
        );
        (false, cause.and_hint(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_there_with_its_size_and_its_manifest() {
        let id = "20261122T020000Z-1f2e3d4c";
        let need = Need { id: id.parse().unwrap(), suffix: ".tar.zst".into(), size: 7 };
        let [archive, manifest] = [(format!("{id}.tar.zst"), 7), (format!("{id}.manifest.json"), 100)];
        let sizes = |objects: &[&(String, u64)]| objects.iter().map(|object| (*object).clone()).collect();
        assert!(need.is_there(&sizes(&[&archive, &manifest])));
        assert!(!need.is_there(&sizes(&[&archive])) && !need.is_there(&sizes(&[&manifest])));
        assert!(!need.is_there(&sizes(&[&(archive.0.clone(), 6), &manifest])));
    }
}
