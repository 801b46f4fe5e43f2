//! What a store holds: only what has a manifest.

use std::collections::{BTreeMap, HashMap, HashSet};

use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};

use super::Store;
use super::foreign::may_be_ours;
use super::manifest::{Manifest, SUFFIX};
use super::record::VerificationKey;
use crate::archive::Id;
use crate::archive::name::JobName;
use crate::archive::read_at::once_more_if_damaged;
use crate::error::{Error, Kind, Result};

/// Manifests read at once.
const PARALLEL: usize = 32;
/// Manifests and records are some hundred bytes; what is larger is none.
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
    /// What its verification records' keys say, the least thorough first.
    pub marks: Vec<VerificationKey>,
}

impl Listed {
    /// The latest of the most thorough verifications.
    pub fn verified(&self) -> Option<&VerificationKey> {
        let level = self.marks.iter().map(|mark| mark.level).max();
        self.marks.iter().filter(|mark| Some(mark.level) == level).max_by_key(|mark| &mark.at)
    }
}

/// Jobs and ids, each with its verification records.
type Keys = BTreeMap<(String, Id), Vec<VerificationKey>>;

/// An object of an archive that a list cares about.
enum Beside {
    Manifest,
    Record(VerificationKey),
}

impl Store {
    /// Every archive, or those of one job, oldest first within a job.
    ///
    /// # Errors
    /// The store does not answer. A damaged manifest is no error, but said of its archive.
    pub async fn archives(&self, job: Option<&str>) -> Result<Vec<Listed>> {
        let (keys, objects) = self.keys_and_objects(job).await?;
        let objects = &objects;
        let read = futures_util::stream::iter(keys).map(|((job, id), marks)| async move {
            let manifest = self.manifest(&job, &id).await;
            let manifest = manifest.and_then(|manifest| self.if_present(manifest, objects));
            match manifest {
                // Deleted since it was listed.
                Err(error) if error.kind() == Kind::NotFound => Ok(None),
                Err(error) if error.kind() != Kind::Damaged => Err(error),
                manifest => Ok(Some(Listed { job, id, manifest, marks })),
            }
        });
        read.buffered(PARALLEL).try_filter_map(|listed| async { Ok(listed) }).try_collect().await
    }

    /// The newest archive of a job.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn newest(&self, job: &str) -> Result<Option<Id>> {
        Ok(self.keys(Some(job)).await?.pop_last().map(|((_, id), _)| id))
    }

    /// The ids of a job's archives, oldest first.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn ids(&self, job: &str) -> Result<Vec<Id>> {
        Ok(self.keys(Some(job)).await?.into_keys().map(|(_, id)| id).collect())
    }

    /// What lies directly in a job's folder, by name: how many bytes it has.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn sizes(&self, job: &str) -> Result<HashMap<String, u64>> {
        let listed = self.down.list_with_delimiter(Some(&self.below(job))).await;
        let objects = listed.map_err(|e| self.explain("listing", e))?.objects;
        let name = |meta: &ObjectMeta| Some((meta.location.filename()?.to_string(), meta.size));
        Ok(objects.iter().filter_map(name).collect())
    }

    /// The archives below a job's name that were begun at `time` or later.
    pub(super) async fn archives_since(&self, job: &str, time: jiff::Timestamp) -> Result<Vec<(String, Id)>> {
        let listed = self.down.list(Some(&self.below(job)));
        let metas: Vec<_> = listed.try_collect().await.map_err(|e| self.explain("listing", e))?;
        let found = metas.iter().filter_map(|meta| self.parse(&meta.location));
        let manifests = found.filter(|(_, object)| matches!(object, Beside::Manifest));
        Ok(manifests.map(|(archive, _)| archive).filter(|(_, id)| id.is_since(time)).collect())
    }

    /// Jobs and ids that have a manifest, in order, each with its verification records.
    async fn keys(&self, job: Option<&str>) -> Result<Keys> {
        self.keys_and_objects(job).await.map(|(keys, _)| keys)
    }

    /// [`Store::keys`], and everything else that lies there.
    async fn keys_and_objects(&self, job: Option<&str>) -> Result<(Keys, HashSet<Path>)> {
        let explain = |e| self.explain("listing", e);
        let metas: Vec<_> = match job {
            // A job's archives lie directly in its folder; what lies deeper belongs to other jobs.
            Some(job) => {
                self.down.list_with_delimiter(Some(&self.below(job))).await.map_err(explain)?.objects
            }
            None => self.down.list(Some(&self.prefix)).try_collect().await.map_err(explain)?,
        };
        let (mut keys, mut records) = (BTreeMap::new(), Vec::new());
        for meta in &metas {
            let Some((archive, object)) = self.parse(&meta.location) else {
                if !self.is_ours(&meta.location) {
                    self.passed_over.add();
                }
                continue;
            };
            match object {
                Beside::Manifest => drop(keys.insert(archive, Vec::new())),
                Beside::Record(mark) => records.push((archive, mark)),
            }
        }
        records.sort();
        for (archive, mark) in records {
            // Without its manifest there is no archive, whatever else is there.
            keys.entry(archive).and_modify(|marks| marks.push(mark));
        }
        let objects = metas.into_iter().map(|meta| meta.location);
        Ok((keys, objects.filter(|key| self.parse(key).is_none()).collect()))
    }

    /// `PREFIX/JOB/ID.manifest.json` → job, id and what it is.
    fn parse(&self, key: &Path) -> Option<((String, Id), Beside)> {
        let (job, name) = self.below_job(key)?;
        let (id, object) = match name.strip_suffix(SUFFIX) {
            Some(id) => (id.parse().ok()?, Beside::Manifest),
            None => VerificationKey::parse(name).map(|(id, mark)| (id, Beside::Record(mark)))?,
        };
        // An id that is no time was made by nobody, and would be the newest for ever.
        id.time().map(|_| ((job.into(), id), object))
    }

    /// The job that a key lies under, and what it is called there; none where no job can be called so.
    pub(super) fn below_job<'a>(&self, key: &'a Path) -> Option<(JobName, &'a str)> {
        key.prefix_matches(&self.prefix).then_some(())?;
        let (job, name) = self.shown(key).rsplit_once('/')?;
        Some((job.parse().ok()?, name))
    }

    /// Whether an object is one of an archive or of a set, by its name and its folder's.
    fn is_ours(&self, key: &Path) -> bool {
        self.below_job(key).is_some_and(|(_, name)| may_be_ours(name))
    }

    /// What a small object's text says; none where there is no such object.
    pub(super) async fn small<T>(
        &self,
        key: &Path,
        what: &str,
        parse: impl Fn(&str) -> Result<T>,
    ) -> Result<Option<T>> {
        let parse = &parse;
        let read = async || self.small_text(key, what).await?.map(|text| parse(&text)).transpose();
        once_more_if_damaged(read).await
    }

    async fn small_text(&self, key: &Path, what: &str) -> Result<Option<String>> {
        let explain = |e| self.explain(&format!("reading {what}"), e);
        let got = match self.down.get(key).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            got => got.map_err(explain)?,
        };
        if got.meta.size > LARGEST {
            return Err(Error::damaged(format!("{key} is damaged: it is too large")));
        }
        let text = got.bytes().await.map_err(explain)?;
        let text = String::from_utf8(text.into());
        text.map(Some).map_err(|e| Error::damaged(format!("{key} is damaged")).because(e))
    }

    /// Reads one manifest and holds it against the key it lies under.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::Damaged`] when it is not what was written there.
    pub async fn manifest(&self, job: &str, id: &Id) -> Result<Manifest> {
        let key = self.key(job, id, SUFFIX);
        let read = self.small(&key, "a manifest", Manifest::from_text).await;
        let read = read.map_err(|e| e.context(format!("the manifest of {job}@{id}")))?;
        let manifest = read.ok_or_else(|| {
            Error::new(Kind::NotFound, format!("there is no archive {job}@{id} at {}", self.name))
                .hint("`sealift list` shows the ones there are")
        })?;
        match manifest.job == job && manifest.id == *id {
            true => Ok(manifest),
            false => {
                Err(Error::damaged(format!("the manifest at {key} is of {}@{}", manifest.job, manifest.id)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreOptions;

    const ID: &str = "20261122T020000Z-1f2e3d4c";

    async fn put(store: &Store, key: &str) {
        store.up.put(&Path::from(key), "x".into()).await.unwrap();
    }

    async fn names(store: &Store, job: Option<&str>) -> Vec<String> {
        store.keys(job).await.unwrap().into_keys().map(|(job, id)| format!("{job}@{id}")).collect()
    }

    #[tokio::test]
    async fn only_what_has_a_manifest_is_listed() {
        let store = Store::open("memory://list-manifests/p", &StoreOptions::default()).unwrap();
        for key in [
            format!("p/db/{ID}.tar.zst.gpg"),
            format!("p/db/{ID}.catalog.zst.gpg"),
            format!("p/db/{ID}.verified-whole-20261123T040506Z-00112233.json"),
            "p/db/manifest.json".into(),
            "p/db/x.manifest.json".into(),
            format!("p/{ID}.manifest.json"),
            format!("elsewhere/db/{ID}.manifest.json"),
        ] {
            put(&store, &key).await;
        }
        assert_eq!(names(&store, None).await, [""; 0]);
        put(&store, &format!("p/db/{ID}.manifest.json")).await;
        assert_eq!(names(&store, None).await, [format!("db@{ID}")]);
        let keys = store.keys(None).await.unwrap();
        assert_eq!(keys.into_values().next().unwrap().len(), 1, "now the record counts");
    }

    #[tokio::test]
    async fn a_jobs_list_has_nothing_of_jobs_whose_names_go_on() {
        let store = Store::open("memory://list-jobs", &StoreOptions::default()).unwrap();
        for job in ["db", "db/nightly", "dbx"] {
            put(&store, &format!("{job}/{ID}.manifest.json")).await;
        }
        assert_eq!(names(&store, Some("db")).await, [format!("db@{ID}")]);
        assert_eq!(names(&store, None).await.len(), 3);
    }

    #[tokio::test]
    async fn the_newest_is_the_latest_whatever_was_put_last() {
        let store = Store::open("memory://list-newest", &StoreOptions::default()).unwrap();
        for id in ["20261123T020000Z-00000000", "20261122T235959Z-ffffffff", "20251231T000000Z-ffffffff"] {
            put(&store, &format!("db/{id}.manifest.json")).await;
        }
        let newest = store.newest("db").await.unwrap().unwrap();
        assert_eq!(newest.as_str(), "20261123T020000Z-00000000");
        assert_eq!(store.newest("nothing").await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_manifest_under_another_key_is_damage_and_none_is_not_found() {
        let store = Store::open("memory://list-foreign", &StoreOptions::default()).unwrap();
        let id: Id = ID.parse().unwrap();
        assert_eq!(store.manifest("db", &id).await.unwrap_err().kind(), Kind::NotFound);
        put(&store, &format!("db/{ID}.manifest.json")).await;
        assert_eq!(store.manifest("db", &id).await.unwrap_err().kind(), Kind::Damaged);
    }
}
