//! What lies in a store without a manifest: the objects of backups that were not committed.

use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use object_store::path::Path;

use super::Store;
use super::create::CreateError;
use super::list::Objects;
use super::manifest::{Manifest, SUFFIX, catalog_suffix, is_archive_suffix};
use super::needs::Needs;
use crate::archive::Id;
use crate::error::{Error, Result};

/// The objects of one archive without a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// Its job, from the key.
    pub job: String,
    /// Its id, from the key.
    pub id: Id,
    /// What the archive object's name ends with; none where there is only a catalog.
    pub suffix: Option<String>,
    /// Whether the catalog is there.
    pub has_catalog: bool,
}

impl Unfinished {
    /// Whether both objects are there.
    pub fn has_both(&self) -> bool {
        self.suffix.is_some() && self.has_catalog
    }
}

/// Of how many runs an archive or a catalog was listed, but no manifest.
pub(super) fn uncommitted(listed: &Objects) -> usize {
    let of_job = |names: &std::collections::HashMap<String, u64>| {
        let ids = names.keys().filter_map(|name| {
            let (id, suffix) = name.split_at_checked(name.find('.')?)?;
            id.parse::<Id>().ok()?.time()?;
            (is_archive_suffix(suffix) || suffix.starts_with(".catalog.")).then_some(id)
        });
        let ids: std::collections::BTreeSet<&str> = ids.collect();
        ids.into_iter().filter(|id| !names.contains_key(&format!("{id}{SUFFIX}"))).count()
    };
    listed.values().map(of_job).sum()
}

impl Store {
    /// What lies there without a manifest, oldest first within a job.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn unfinished(&self, job: Option<&str>) -> Result<Vec<Unfinished>> {
        let explain = |e| self.explain("listing", e);
        let metas: Vec<_> = match job {
            Some(job) => {
                self.down.list_with_delimiter(Some(&self.below(job))).await.map_err(explain)?.objects
            }
            None => self.down.list(Some(&self.prefix)).try_collect().await.map_err(explain)?,
        };
        let mut suffixes: BTreeMap<(String, Id), Vec<String>> = BTreeMap::new();
        for (archive, suffix) in metas.iter().filter_map(|meta| self.parse_object(&meta.location)) {
            suffixes.entry(archive).or_default().push(suffix);
        }
        let without = suffixes.into_iter().filter(|(_, suffixes)| !suffixes.iter().any(|s| s == SUFFIX));
        let unfinished = without.map(|((job, id), suffixes)| {
            let suffix = suffixes.iter().find(|suffix| is_archive_suffix(suffix)).cloned();
            let is_its = |s: &String| match &suffix {
                Some(suffix) => s == catalog_suffix(suffix),
                None => s.starts_with(".catalog."),
            };
            let has_catalog = suffixes.iter().any(is_its);
            Unfinished { job, id, suffix, has_catalog }
        });
        Ok(unfinished.filter(|found| found.suffix.is_some() || found.has_catalog).collect())
    }

    /// `PREFIX/JOB/ID.SUFFIX` → job and id, and the suffix.
    fn parse_object(&self, key: &Path) -> Option<((String, Id), String)> {
        let parts: Vec<_> = key.prefix_match(&self.prefix)?.map(|part| part.as_ref().to_string()).collect();
        let (name, job) = parts.split_last()?;
        let (id, suffix) = name.split_at_checked(name.find('.')?)?;
        let id = id.parse().ok()?;
        (!job.is_empty()).then(|| ((job.join("/"), id), suffix.to_string()))
    }

    /// The manifest, where the objects that it is of were listed too.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::error::Kind::Damaged) where one is gone.
    pub(super) fn if_present(&self, manifest: Manifest, listed: &Objects) -> Result<Manifest> {
        let Manifest { job, id, suffix, .. } = &manifest;
        let is_listed =
            |suffix: &&str| listed.get(job).is_some_and(|names| names.contains_key(&format!("{id}{suffix}")));
        let lost = [suffix.as_str(), catalog_suffix(suffix)].into_iter().find(|suffix| !is_listed(suffix));
        match lost.map(|suffix| self.key(job, id, suffix)) {
            Some(key) => Err(Error::damaged(format!("{} has lost {}", self.name, self.shown(&key)))),
            None => Ok(manifest),
        }
    }

    /// Makes an archive exist whose objects are there.
    ///
    /// # Errors
    /// It has another manifest; the store does not take this one.
    pub async fn put_manifest(&self, manifest: &Manifest) -> Result<()> {
        let key = self.key(&manifest.job, &manifest.id, SUFFIX);
        self.put_once(&key, manifest.to_text()?).await.map_err(|error| match error {
            CreateError::Another => Error::failed(format!("{} has another manifest at {key}", self.name)),
            CreateError::Lost => Error::failed(format!("{} took {key} and has it not", self.name)),
            CreateError::Refused(error) | CreateError::Unknown(error) => {
                self.explain("writing the manifest", error)
            }
        })
    }

    /// [`Store::put_manifest`], where nobody is deleting the archive or what it needs.
    ///
    /// # Errors
    /// Somebody is, or it is gone; those of [`Store::put_manifest`].
    pub async fn adopt_manifest(&self, manifest: &Manifest, needs: &Needs) -> Result<()> {
        needs.are_met(self, manifest).await??;
        self.put_manifest(manifest).await?;
        match needs.are_met(self, manifest).await? {
            Ok(()) => Ok(()),
            // What lies there stays: it was there before.
            Err(unmet) => {
                self.withdraw(manifest).await?;
                Err(unmet)
            }
        }
    }
}
