//! What a store holds of each job, by names alone: one list, and nothing is read.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, TryStreamExt};
use object_store::ObjectMeta;

use super::manifest::{Manifest, SUFFIX, catalog_suffix, is_archive_suffix};
use super::record::VerificationKey;
use super::record::drill::DrillKey;
use super::{Store, damage, failed};
use crate::archive::Id;
use crate::error::Result;

/// Folders that are listed at once.
const PARALLEL: usize = 16;

/// What lies in a job's folder: names, each with its size in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFolder(BTreeMap<String, u64>);

impl JobFolder {
    /// The archives that have a manifest, oldest first. An id that is no time was made by nobody, and would be the newest
    /// for ever.
    pub fn archives(&self) -> Vec<Id> {
        let ids = self.0.keys().filter_map(|name| name.strip_suffix(SUFFIX)?.parse::<Id>().ok());
        ids.filter(|id| id.time().is_some()).collect()
    }

    /// The verifications that were noted, each with its archive.
    pub fn verifications(&self) -> impl Iterator<Item = (Id, VerificationKey)> {
        self.0.keys().filter_map(|name| VerificationKey::parse(name))
    }

    /// The drills that were noted, each with its archive.
    pub fn drills(&self) -> impl Iterator<Item = (Id, DrillKey)> {
        self.0.keys().filter_map(|name| DrillKey::parse(name))
    }

    /// The archives that are known to be damaged.
    pub fn damaged(&self) -> BTreeSet<Id> {
        let known = damage::known(self.0.keys());
        known.into_iter().filter(|id| self.0.contains_key(&format!("{id}{SUFFIX}"))).collect()
    }

    /// The runs that failed, oldest first.
    pub fn failed(&self) -> Vec<Id> {
        let ids = self.0.keys().filter_map(|name| failed::parse(name));
        ids.filter(|id| id.time().is_some()).collect()
    }

    /// Why the objects that a manifest names are not whole; none where they are there, in their sizes.
    pub fn lacks(&self, manifest: &Manifest) -> Option<String> {
        let objects = [
            (manifest.suffix.as_str(), manifest.archive.size),
            (catalog_suffix(&manifest.suffix), manifest.catalog.size),
        ];
        objects.into_iter().find_map(|(suffix, size)| match self.0.get(&format!("{}{suffix}", manifest.id)) {
            None => Some(format!("{}{suffix} is gone", manifest.id)),
            Some(&there) if there != size => {
                Some(format!("{}{suffix} has {there} bytes and not {size}", manifest.id))
            }
            Some(_) => None,
        })
    }

    /// Whether an archive is there that others need: its manifest, its archive and its catalog, of whatever size.
    pub fn has(&self, id: &Id) -> bool {
        let from = format!("{id}.");
        let names = self.0.range(from.clone()..).map(|(name, _)| name);
        let suffixes = names.map_while(|name| name.strip_prefix(id.as_str()));
        let (mut manifest, mut archive, mut catalog) = (false, false, false);
        for suffix in suffixes {
            manifest |= suffix == SUFFIX;
            archive |= is_archive_suffix(suffix);
            catalog |= suffix.starts_with(".catalog.");
        }
        manifest && archive && catalog
    }
}

impl<'a> FromIterator<(&'a str, u64)> for JobFolder {
    fn from_iter<T: IntoIterator<Item = (&'a str, u64)>>(names: T) -> Self {
        JobFolder(names.into_iter().map(|(name, size)| (name.into(), size)).collect())
    }
}

impl Store {
    /// What lies there of these jobs; of all, where none is named. A job of which nothing lies there is not among them.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn job_folders(&self, jobs: &[String]) -> Result<BTreeMap<String, JobFolder>> {
        let explain = |e| self.explain("listing", e);
        let mut found: BTreeMap<String, JobFolder> = BTreeMap::new();
        let mut add = |meta: &ObjectMeta| match self.below_job(&meta.location) {
            Some((job, name)) if super::foreign::may_be_ours(name) => {
                found.entry(job.into()).or_default().0.insert(name.into(), meta.size);
            }
            _ => self.passed_over.add(),
        };
        if jobs.is_empty() {
            let mut all = self.down.list(Some(&self.prefix));
            while let Some(meta) = all.try_next().await.map_err(explain)? {
                add(&meta);
            }
        } else {
            let folders = jobs.iter().map(|job| self.below(job));
            let listed = futures_util::stream::iter(folders)
                .map(|folder| async move { self.down.list_with_delimiter(Some(&folder)).await });
            let mut listed = listed.buffered(PARALLEL);
            while let Some(folder) = listed.try_next().await.map_err(explain)? {
                folder.objects.iter().for_each(&mut add);
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;
    use object_store::path::Path;

    use super::*;
    use crate::store::manifest::{self, Object};
    use crate::store::record::{Level, WHOLE};

    const ID: &str = "20261122T020000Z-1f2e3d4c";
    const LATER: &str = "20261123T020000Z-1f2e3d4c";

    fn id(text: &str) -> Id {
        text.parse().unwrap()
    }

    fn folder(names: &[String]) -> JobFolder {
        names.iter().map(|name| (name.as_str(), 1)).collect()
    }

    #[test]
    fn names_tell_archives_verifications_damage_and_failures() {
        let folder = folder(&[
            format!("{ID}.manifest.json"),
            format!("{ID}.verified-stored-{LATER}.json"),
            format!("{ID}.damaged-{LATER}.json"),
            format!("{LATER}.damaged-{LATER}.json"),
            format!("{LATER}.failed.json"),
            "20269999T020000Z-1f2e3d4c.manifest.json".into(),
            "20269999T020000Z-1f2e3d4c.failed.json".into(),
        ]);
        assert_eq!((folder.archives(), folder.failed()), (vec![id(ID)], vec![id(LATER)]));
        // What has no manifest is no archive that could be damaged.
        assert_eq!(folder.damaged(), BTreeSet::from([id(ID)]));
        let marks: Vec<_> = folder.verifications().collect();
        let mark = VerificationKey { level: Level::Stored, share: WHOLE, at: id(LATER) };
        assert_eq!(marks, [(id(ID), mark)]);
    }

    #[test]
    fn an_archive_that_is_needed_is_there_with_its_three_objects_only() {
        let names = [".manifest.json", ".tar.zst.gpg", ".catalog.zst.gpg"].map(|name| format!("{ID}{name}"));
        let with = |names: &[String]| folder(&[names, &[format!("{LATER}.manifest.json")]].concat());
        assert!(with(&names).has(&id(ID)));
        assert!(!with(&names).has(&id(LATER)));
        for gone in 0..3 {
            let names: Vec<_> = names.iter().enumerate().filter(|(i, _)| *i != gone).collect();
            let names: Vec<_> = names.into_iter().map(|(_, name)| name.clone()).collect();
            assert!(!with(&names).has(&id(ID)), "{names:?}");
        }
    }

    #[test]
    fn what_a_manifest_names_is_there_in_its_size() {
        let object = |size| Object { size, blake3: String::new() };
        let manifest = Manifest { id: id(ID), archive: object(7), catalog: object(3), ..manifest::example() };
        let lacks = |names: &[(String, u64)]| {
            let folder: JobFolder = names.iter().map(|(name, size)| (name.as_str(), *size)).collect();
            folder.lacks(&manifest)
        };
        let (archive, catalog) = (format!("{ID}.raw"), format!("{ID}.catalog.zst"));
        assert_eq!(lacks(&[(archive.clone(), 7), (catalog.clone(), 3)]), None);
        assert_eq!(lacks(&[(archive.clone(), 7)]), Some(format!("{catalog} is gone")));
        let short = lacks(&[(archive.clone(), 6), (catalog, 3)]);
        assert_eq!(short, Some(format!("{archive} has 6 bytes and not 7")));
    }

    #[tokio::test]
    async fn a_folder_holds_what_is_named_by_an_id_and_lies_directly_in_it() {
        let store = Store::open("memory://job-folders/p", &Default::default()).unwrap();
        for key in ["p/db/ID.manifest.json", "p/db/x.jpg", "p/db/sub/ID.failed.json", "q/db/ID.failed.json"] {
            store.up.put(&Path::from(key.replace("ID", ID)), "x".into()).await.unwrap();
        }
        let all = store.job_folders(&[]).await.unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["db", "db/sub"]);
        assert_eq!(all["db"].0.keys().collect::<Vec<_>>(), [&format!("{ID}.manifest.json")]);
        let named = store.job_folders(&["db".into(), "none".into()]).await.unwrap();
        assert_eq!(named, BTreeMap::from([("db".to_string(), all["db"].clone())]));
    }
}
