//! What a store holds: only what has a manifest.

use std::collections::{BTreeMap, HashMap};

use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};

use super::damage::Found;
use super::foreign::may_be_ours;
use super::manifest::{Manifest, SUFFIX};
use super::needs::Need;
use super::record::drill::DrillKey;
use super::record::{Level, VerificationKey};
use super::unfinished::uncommitted;
use super::{Store, damage, mark, pin, tombstone};
use crate::archive::Id;
use crate::archive::name::JobName;
use crate::archive::read_at::once_more_if_damaged;
use crate::error::{Error, Kind, Result};

/// Manifests read at once.
const PARALLEL: usize = 32;
/// Manifests and records are some hundred bytes, and 28 more for each archive that is needed; what is larger is none.
const LARGEST: u64 = 1 << 20;

/// One archive in a store, as its key names it.
#[derive(Debug)]
pub struct Listed {
    /// The job, from the key.
    pub job: String,
    /// The id, from the key.
    pub id: Id,
    /// What the manifest says; an error where it is damaged, or where what it is of is not there.
    pub manifest: Result<Manifest>,
    /// The older archives that it needs; none where the manifest itself cannot be read.
    pub needs: Option<Vec<Id>>,
    /// What lies beside it.
    pub marks: Marks,
    /// When it was found to be damaged, unless all of it was in order later.
    pub damaged: Option<Id>,
    /// Archives that it needs and that are gone, or are not as large as they were.
    pub missing: Vec<Id>,
    /// Archives that it needs and that are known to be damaged.
    pub damaged_needs: Vec<Id>,
}

impl Listed {
    /// The latest of the most thorough verifications.
    pub fn verified(&self) -> Option<&VerificationKey> {
        let marks = &self.marks.verified;
        let level = marks.iter().map(|mark| mark.level).max();
        marks.iter().filter(|mark| Some(mark.level) == level).max_by_key(|mark| &mark.at)
    }

    /// Whether it is a part of a run that went on, or is to go on, in another archive.
    pub fn is_partial(&self) -> bool {
        self.manifest.as_ref().is_ok_and(|manifest| manifest.partial)
    }

    /// Whether all of it can be restored, as far as a list shows.
    pub fn is_whole(&self) -> bool {
        let Listed { manifest, damaged, missing, damaged_needs, .. } = self;
        manifest.is_ok() && damaged.is_none() && missing.is_empty() && damaged_needs.is_empty()
    }
}

/// What the names of the small objects beside an archive say.
#[derive(Debug, Default)]
pub struct Marks {
    /// Its verifications, the least thorough first; none that damage was found after.
    pub verified: Vec<VerificationKey>,
    /// Its drills, the latest last.
    pub drills: Vec<DrillKey>,
    /// When it was pinned.
    pub pins: Vec<Id>,
    /// Its tombstones: it is about to be deleted.
    pub tombstones: Vec<Id>,
}

/// Jobs and ids, each with what its records say, and what else lies beside it.
type Keys = BTreeMap<(String, Id), (Found, Marks)>;

/// The objects that lie in each job's folder, by name: how many bytes each has.
pub(super) type Objects = HashMap<String, HashMap<String, u64>>;

/// An object of an archive that a list cares about.
enum Beside {
    Manifest,
    Verified(VerificationKey),
    Drilled(DrillKey),
    Damaged(Id),
    Pin(Id),
    Tombstone(Id),
}

impl Beside {
    /// What an object of this name is, and of which archive.
    fn parse(name: &str) -> Option<(Id, Beside)> {
        if let Some(id) = name.strip_suffix(SUFFIX) {
            return Some((id.parse().ok()?, Beside::Manifest));
        }
        let verified = || VerificationKey::parse(name).map(|(id, mark)| (id, Beside::Verified(mark)));
        let drilled = || DrillKey::parse(name).map(|(id, key)| (id, Beside::Drilled(key)));
        let damaged = || damage::parse(name).map(|(id, at)| (id, Beside::Damaged(at)));
        let pin = || mark::parse(name, pin::WORD).map(|(id, at)| (id, Beside::Pin(at)));
        let tombstone = || mark::parse(name, tombstone::WORD).map(|(id, at)| (id, Beside::Tombstone(at)));
        verified().or_else(drilled).or_else(damaged).or_else(pin).or_else(tombstone)
    }
}

impl Store {
    /// Every archive, or those of one job, oldest first within a job.
    ///
    /// # Errors
    /// The store does not answer. A damaged manifest is no error, but said of its archive.
    pub async fn archives(&self, job: Option<&str>) -> Result<Vec<Listed>> {
        self.archives_and_rest(job).await.map(|(archives, _)| archives)
    }

    /// [`Store::archives`], and of how many runs objects lie there without a manifest.
    ///
    /// # Errors
    /// As [`Store::archives`].
    pub async fn archives_and_rest(&self, job: Option<&str>) -> Result<(Vec<Listed>, usize)> {
        let (keys, objects) = self.keys_and_objects(job).await?;
        let objects = &objects;
        let rest = uncommitted(objects);
        let read = futures_util::stream::iter(keys).map(|((job, id), (found, marks))| async move {
            let manifest = self.manifest(&job, &id).await;
            let needs = manifest.as_ref().ok().map(|manifest| manifest.needs.clone());
            let need = manifest.as_ref().ok().map(Need::from);
            let manifest = manifest.and_then(|manifest| self.if_present(manifest, objects));
            let (marks, damaged) = (Marks { verified: found.standing(), ..marks }, found.damage().cloned());
            let (missing, damaged_needs) = (Vec::new(), Vec::new());
            match manifest {
                // Deleted since it was listed.
                Err(error) if error.kind() == Kind::NotFound => Ok(None),
                Err(error) if error.kind() != Kind::Damaged => Err(error),
                manifest => {
                    let listed = Listed { job, id, manifest, needs, marks, damaged, missing, damaged_needs };
                    Ok(Some((listed, need)))
                }
            }
        });
        let read = read.buffered(PARALLEL).try_filter_map(|listed| async { Ok(listed) });
        let (mut listed, needs): (Vec<_>, Vec<_>) = read.try_collect::<Vec<_>>().await?.into_iter().unzip();
        look_at_needs(&mut listed, needs, objects);
        Ok((listed, rest))
    }

    /// The newest archive of a job.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn newest(&self, job: &str) -> Result<Option<Id>> {
        Ok(self.keys(Some(job)).await?.pop_last().map(|((_, id), _)| id))
    }

    /// The newest archive of a job that is not partial, with its manifest, which may be damaged.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn newest_complete(&self, job: &str) -> Result<Option<(Id, Result<Manifest>)>> {
        let mut ids = self.ids(job).await?;
        while let Some(id) = ids.pop() {
            match self.manifest(job, &id).await {
                Ok(manifest) if manifest.partial => {}
                // Deleted since it was listed.
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) if error.kind() != Kind::Damaged => return Err(error),
                manifest => return Ok(Some((id, manifest))),
            }
        }
        Ok(None)
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

    /// Jobs and ids that have a manifest, in order, each with what its records say.
    async fn keys(&self, job: Option<&str>) -> Result<Keys> {
        self.keys_and_objects(job).await.map(|(keys, _)| keys)
    }

    /// [`Store::keys`], and everything else that lies there.
    async fn keys_and_objects(&self, job: Option<&str>) -> Result<(Keys, Objects)> {
        let explain = |e| self.explain("listing", e);
        let metas: Vec<_> = match job {
            // A job's archives lie directly in its folder; what lies deeper belongs to other jobs.
            Some(job) => {
                self.down.list_with_delimiter(Some(&self.below(job))).await.map_err(explain)?.objects
            }
            None => self.down.list(Some(&self.prefix)).try_collect().await.map_err(explain)?,
        };
        let (mut keys, mut records, mut objects) = (Keys::new(), Vec::new(), Objects::new());
        for meta in &metas {
            if let Some((job, name)) = self.below_job(&meta.location) {
                objects.entry(job.into()).or_default().insert(name.into(), meta.size);
            }
            let Some((archive, object)) = self.parse(&meta.location) else {
                if !self.is_ours(&meta.location) {
                    self.passed_over.add();
                }
                continue;
            };
            match object {
                Beside::Manifest => drop(keys.insert(archive, Default::default())),
                beside => records.push((archive, beside)),
            }
        }
        for (archive, beside) in records {
            // Without its manifest there is no archive, whatever else is there.
            let Some((found, marks)) = keys.get_mut(&archive) else { continue };
            match beside {
                Beside::Manifest => {}
                Beside::Verified(mark) => found.marks.push(mark),
                Beside::Drilled(key) => marks.drills.push(key),
                Beside::Damaged(at) => found.damaged(at),
                Beside::Pin(at) => marks.pins.push(at),
                Beside::Tombstone(at) => marks.tombstones.push(at),
            }
        }
        for (found, marks) in keys.values_mut() {
            found.marks.sort();
            marks.drills.sort_by(|a, b| a.at.cmp(&b.at));
        }
        Ok((keys, objects))
    }

    /// `PREFIX/JOB/ID.manifest.json` → job, id and what it is.
    fn parse(&self, key: &Path) -> Option<((String, Id), Beside)> {
        let (job, name) = self.below_job(key)?;
        let (id, object) = Beside::parse(name)?;
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

/// Finds what each archive needs among the others, which would be needed as `known` says, and the objects that were listed.
fn look_at_needs(listed: &mut [Listed], known: Vec<Option<Need>>, objects: &Objects) {
    let known: HashMap<_, _> = listed
        .iter()
        .zip(known)
        .map(|(listed, need)| ((listed.job.clone(), listed.id.clone()), (need, listed.damaged.clone())))
        .collect();
    for listed in listed {
        let (Ok(manifest), Some(sizes)) = (&listed.manifest, objects.get(&listed.job)) else { continue };
        for id in &manifest.needs {
            match known.get(&(listed.job.clone(), id.clone())) {
                None => listed.missing.push(id.clone()),
                Some((Some(need), _)) if !need.is_there(sizes) => listed.missing.push(id.clone()),
                Some((_, Some(at))) => {
                    // All that it needs was in order, and is no more.
                    listed.marks.verified.retain(|mark| mark.level < Level::All || mark.at > *at);
                    listed.damaged_needs.push(id.clone());
                }
                // Where its manifest is damaged, nothing is known against what it holds.
                Some((_, None)) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{StoreOptions, manifest};

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
        assert_eq!(keys.into_values().next().unwrap().0.marks.len(), 1, "now the record counts");
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

    /// An archive that needs others.
    async fn commit(store: &Store, id: &Id, needs: &[&Id]) {
        let needs = needs.iter().map(|&id| id.clone()).collect();
        let manifest = Manifest { id: id.clone(), needs, ..manifest::example() };
        for suffix in [".raw", ".catalog.zst"] {
            store.up.put(&store.key("db", id, suffix), "x".into()).await.unwrap();
        }
        store.put_manifest(&manifest).await.unwrap();
    }

    fn ids<const N: usize>() -> [Id; N] {
        std::array::from_fn(|day| format!("202611{:02}T020000Z-1f2e3d4c", day + 1).parse().unwrap())
    }

    async fn listed<const N: usize>(store: &Store) -> [Listed; N] {
        store.archives(Some("db")).await.unwrap().try_into().unwrap()
    }

    #[tokio::test]
    async fn what_was_found_damaged_is_not_verified_any_more_until_it_is_again() {
        let store = Store::open("memory://list-damaged", &StoreOptions::default()).unwrap();
        let [old, new] = ids();
        commit(&store, &old, &[]).await;
        commit(&store, &new, &[&old]).await;
        store.put_record(("db", &old), Level::Whole, (1, 1)).await.unwrap();
        for level in [Level::Whole, Level::All] {
            store.put_record(("db", &new), level, (1, 1)).await.unwrap();
        }
        let [first, second] = listed(&store).await;
        assert!(first.is_whole() && second.is_whole());
        assert_eq!(second.verified().unwrap().level, Level::All);
        store.put_damage("db", &old).await.unwrap();
        let [first, second] = listed(&store).await;
        assert!(first.damaged.is_some() && first.verified().is_none() && !first.is_whole());
        assert_eq!((&second.damaged, &second.damaged_needs), (&None, &vec![old.clone()]));
        assert!(!second.is_whole() && second.missing.is_empty());
        assert_eq!(second.verified().unwrap().level, Level::Whole, "its own bytes are as they were");
        store.put_record(("db", &old), Level::Stored, (1, 1)).await.unwrap();
        let [first, _] = listed(&store).await;
        assert!(first.damaged.is_some() && first.verified().unwrap().level == Level::Stored);
        store.put_record(("db", &old), Level::Whole, (1, 1)).await.unwrap();
        let [first, second] = listed(&store).await;
        assert!(first.is_whole() && second.is_whole());
    }

    #[tokio::test]
    async fn an_archive_names_what_it_needs_and_is_gone() {
        let [oldest, old, new] = ids();
        for (gone, by) in [(".manifest.json", None), (".raw", None), (".raw", Some("xy"))] {
            let store = format!("memory://list-needs{gone}{}", by.unwrap_or_default());
            let store = Store::open(&store, &StoreOptions::default()).unwrap();
            commit(&store, &oldest, &[]).await;
            commit(&store, &old, &[&oldest]).await;
            commit(&store, &new, &[&oldest, &old]).await;
            assert!(listed::<3>(&store).await.iter().all(Listed::is_whole));
            let key = store.key("db", &oldest, gone);
            match by {
                None => store.down.delete(&key).await.unwrap(),
                Some(text) => drop(store.up.put(&key, text.into()).await.unwrap()),
            }
            let after = store.archives(None).await.unwrap();
            let [.., second, third] = &after[..] else { panic!("{after:?}") };
            assert!(second.missing == [oldest.clone()] && third.missing == [oldest.clone()], "{gone}");
            assert!(second.manifest.is_ok() && !second.is_whole());
        }
        let store = Store::open("memory://list-needs-no-catalog", &StoreOptions::default()).unwrap();
        commit(&store, &oldest, &[]).await;
        commit(&store, &old, &[&oldest]).await;
        store.down.delete(&store.key("db", &oldest, ".catalog.zst")).await.unwrap();
        let [first, second] = listed(&store).await;
        assert!(!first.is_whole() && second.is_whole(), "another's catalog is not needed");
    }
}
