//! Archives of a job are deleted in two steps that survive a race with a backup, and a kill: see [`super::tombstone`].
//!
//! [`Removal::begin`] puts the tombstones, [`Removal::look_again`] lists what there is now, [`Removal::delete`] deletes one
//! after the other: manifest, catalog, archive, what else is beside it, the tombstone last. What was killed on the way is
//! finished by whoever begins the removal of the same archive again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use futures_util::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::manifest::{SUFFIX, is_archive_suffix};
use super::names::{part_of, unknown_beside};
use super::{Store, mark, pin, set, tombstone};
use crate::archive::Id;
use crate::error::{Error, Kind, Result};

/// Requests at once.
const PARALLEL: usize = 16;
/// What was listed is believed for so long; much less than it takes a tombstone to be stale.
const FRESH: Duration = Duration::from_secs(3600);

/// What the archives of a job that have a manifest need; nothing where a manifest does not say it, for it is damaged.
pub type Needs = BTreeMap<Id, Option<Vec<Id>>>;

/// Why an archive was not deleted.
#[derive(Debug)]
pub enum Kept {
    /// This backup needs it.
    NeededBy(Id),
    /// This one may need it: its manifest is damaged, or not written yet.
    MayBeNeededBy(Id),
    /// It is pinned.
    Pinned,
    /// It has no manifest, and beside it lies an object that this version does not know.
    Unknown(String),
    /// Its own tombstone is gone: somebody else took it back.
    Unmarked,
    /// The store refuses: it may be locked.
    Refused(Error),
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kept::NeededBy(id) => write!(f, "needed by {id}"),
            Kept::MayBeNeededBy(id) => {
                write!(f, "may be needed by {id}, whose manifest is damaged or missing")
            }
            Kept::Pinned => f.write_str("pinned"),
            Kept::Unknown(name) => {
                write!(f, "it may be an archive of a newer version: {name} is unknown to this one")
            }
            Kept::Unmarked => f.write_str("another run took its tombstone away"),
            Kept::Refused(error) => error.fmt(f),
        }
    }
}

/// What became of an archive.
#[derive(Debug)]
pub enum Removed {
    /// It is gone, and so many bytes with it.
    Gone(u64),
    /// It stays as it was.
    Kept(Kept),
}

/// Something in a job's folder.
#[derive(Debug, Clone, Copy)]
struct Object {
    size: u64,
    /// By the store's clock.
    modified: SystemTime,
}

/// Archives of one job on their way out, each with a tombstone of ours.
#[derive(Debug)]
pub struct Removal<'a> {
    store: &'a Store,
    job: String,
    /// What is older was left by a run that was killed.
    stale: Duration,
    /// Our tombstone of each.
    marked: BTreeMap<Id, Id>,
    /// What needs something: archives with a manifest, and those that may be about to have one.
    needs: Needs,
    pinned: BTreeSet<Id>,
    /// What lies in the job's folder.
    objects: HashMap<String, Object>,
    looked: Instant,
}

impl<'a> Removal<'a> {
    /// Puts a tombstone on each. What is older than `stale`, usually [`tombstone::STALE`], was left by a run that was killed.
    ///
    /// # Errors
    /// One could not be put; the others were taken back.
    pub async fn begin(
        store: &'a Store,
        job: &str,
        ids: impl IntoIterator<Item = &Id>,
        why: &str,
        stale: Duration,
    ) -> Result<Self> {
        let puts = ids.into_iter().map(|id| async move { (id, store.put_tombstone(job, id, why).await) });
        let put: Vec<_> = futures_util::stream::iter(puts).buffered(PARALLEL).collect().await;
        let (mut marked, mut failed) = (BTreeMap::new(), None);
        for (id, put) in put {
            match put {
                Ok(at) => drop(marked.insert(id.clone(), at)),
                Err(error) => drop(failed.get_or_insert(error)),
            }
        }
        let removal = Removal {
            store,
            job: job.into(),
            stale,
            marked,
            needs: Needs::new(),
            pinned: BTreeSet::new(),
            objects: HashMap::new(),
            looked: Instant::now(),
        };
        match failed {
            None => Ok(removal),
            Some(error) => Err(removal.give_up(error).await),
        }
    }

    /// Takes all tombstones back that are left. `cause` stays the cause.
    pub async fn give_up(mut self, cause: Error) -> Error {
        let mut left = Vec::new();
        for id in self.marked.keys().cloned().collect::<Vec<_>>() {
            if self.keep(&id).await.is_err() {
                left.push(format!("{}@{id}", self.job));
            }
        }
        match left.as_slice() {
            [] => cause,
            left => cause.and_hint(format!(
                "tombstones of {} are left at {}: no increment builds on these; a day later `sealift prune --confirm` or \
                 `sealift clean --confirm` takes them back",
                left.join(", "),
                self.store.name
            )),
        }
    }

    /// Lists again. `known` has what archives that were listed before need, so that their manifests are not read again.
    /// Returns the ids that have a manifest now.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn look_again(&mut self, known: &Needs) -> Result<BTreeSet<Id>> {
        let (store, job) = (self.store, self.job.as_str());
        let listed = store.down.list_with_delimiter(Some(&store.below(job))).await;
        let listed = listed.map_err(|e| store.explain("listing", e))?.objects;
        let objects = listed.into_iter().filter_map(|meta| {
            let object = Object { size: meta.size, modified: meta.last_modified.into() };
            Some((meta.location.filename()?.to_string(), object))
        });
        (self.objects, self.looked) = (objects.collect(), Instant::now());
        self.has_own_tombstones().await?;
        self.pinned = pin::known(self.objects.keys()).into_keys().collect();
        let ids = self.objects.keys().filter_map(|name| name.strip_suffix(SUFFIX)?.parse::<Id>().ok());
        let read = futures_util::stream::iter(ids).map(|id| async move {
            if let Some(needs) = known.get(&id) {
                return Ok((id, needs.clone()));
            }
            match store.manifest(job, &id).await {
                Ok(manifest) => Ok((id, Some(manifest.needs))),
                // It was deleted since, or a reader of this store lags behind: then it may need anything.
                Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Damaged) => Ok((id, None)),
                Err(error) => Err(error),
            }
        });
        self.needs = read.buffer_unordered(PARALLEL).try_collect().await?;
        let listed = self.needs.keys().cloned().collect();
        self.needs.extend(self.uncommitted().into_iter().map(|id| (id, None)));
        Ok(listed)
    }

    /// What the manifests say that were read; they never change.
    pub fn known(&self) -> Needs {
        let known = self.needs.iter().filter(|(_, needs)| needs.is_some());
        known.map(|(id, needs)| (id.clone(), needs.clone())).collect()
    }

    /// A list without our own tombstones is older than they are: what was committed meanwhile is not in it either.
    async fn has_own_tombstones(&self) -> Result<()> {
        for (id, at) in &self.marked {
            let name = format!("{id}{}", mark::suffix(tombstone::WORD, at));
            // Somebody may have taken it for stale.
            if !self.objects.contains_key(&name) && self.store.has_tombstone(&self.job, id, at).await? {
                return Err(Error::failed(format!(
                    "{} does not list what was written to it before: nothing is deleted",
                    self.store.name
                ))
                .hint("delete there with a server, or a gateway, whose lists are of now"));
            }
        }
        Ok(())
    }

    /// Archives that are complete, and new, and may have their manifest at any time, as far as the latest list tells.
    pub fn uncommitted(&self) -> Vec<Id> {
        let catalogs = self.objects.iter().filter_map(|(name, object)| {
            let id: Id = name.split_once(".catalog.")?.0.parse().ok()?;
            let is_open = !self.needs.contains_key(&id) && !self.marked.contains_key(&id);
            (is_open && !self.is_stale(object)).then_some(id)
        });
        catalogs.collect()
    }

    /// Whether what was written then was left by a run that was killed. The store's clock tells: our own tombstones are of
    /// now.
    fn is_stale(&self, object: &Object) -> bool {
        let own = self.marked.iter().map(|(id, at)| format!("{id}{}", mark::suffix(tombstone::WORD, at)));
        let now = own.filter_map(|name| self.objects.get(&name)).map(|object| object.modified).max();
        let age = now.and_then(|now| now.duration_since(object.modified).ok());
        age.unwrap_or_default() >= self.stale
    }

    /// What keeps an archive from being deleted, as far as the latest list tells.
    pub fn obstacle(&self, id: &Id) -> Option<Kept> {
        let others = self.needs.iter().rev().filter(|(other, _)| *other != id);
        let mut needed = others.filter_map(|(other, needs)| match needs {
            Some(needs) => needs.contains(id).then(|| Kept::NeededBy(other.clone())),
            None => (other > id).then(|| Kept::MayBeNeededBy(other.clone())),
        });
        let pinned = || self.pinned.contains(id).then_some(Kept::Pinned);
        needed.next().or_else(pinned).or_else(|| self.unknown_beside(id).map(Kept::Unknown))
    }

    /// What is not known beside something without a manifest that is.
    fn unknown_beside(&self, id: &Id) -> Option<String> {
        if self.objects.contains_key(&format!("{id}{SUFFIX}")) {
            return None;
        }
        self.objects.keys().find(|name| unknown_beside(name).as_ref() == Some(id)).cloned()
    }

    /// Takes the tombstone back: the archive stays.
    ///
    /// # Errors
    /// It could not be deleted.
    pub async fn keep(&mut self, id: &Id) -> Result<()> {
        if let Some(at) = self.marked.get(id) {
            self.store.take_back_tombstone(&self.job, id, at).await?;
            self.marked.remove(id);
        }
        Ok(())
    }

    /// Takes back what tombstones runs have left on an archive that were killed.
    ///
    /// # Errors
    /// One could not be deleted.
    pub async fn take_back_stale(&self, id: &Id) -> Result<()> {
        let known = tombstone::known(self.objects.keys());
        let own = self.marked.get(id);
        for at in known.get(id).into_iter().flatten().filter(|at| Some(*at) != own) {
            let name = format!("{id}{}", mark::suffix(tombstone::WORD, at));
            if self.objects.get(&name).is_some_and(|object| self.is_stale(object)) {
                self.store.take_back_tombstone(&self.job, id, at).await?;
            }
        }
        Ok(())
    }

    /// Deletes one archive that was marked and that nothing needs; otherwise its tombstone is taken back. Those that need
    /// others are to be deleted before them.
    ///
    /// # Errors
    /// The store does not answer, or refuses to delete all of it: the tombstone stays, and what is left can be deleted
    /// later.
    pub async fn delete(&mut self, id: &Id) -> Result<Removed> {
        if self.looked.elapsed() >= FRESH {
            self.look_again(&self.known()).await?;
        }
        let Some(at) = self.marked.get(id).cloned() else { return Ok(Removed::Kept(Kept::Unmarked)) };
        if !self.store.has_tombstone(&self.job, id, &at).await? {
            self.marked.remove(id);
            return Ok(Removed::Kept(Kept::Unmarked));
        }
        if let Some(kept) = self.obstacle(id) {
            self.keep(id).await?;
            return Ok(Removed::Kept(kept));
        }
        self.delete_objects(id, &at).await
    }

    async fn delete_objects(&mut self, id: &Id, at: &Id) -> Result<Removed> {
        let manifest = self.store.key(&self.job, id, SUFFIX);
        if let Err(error) = self.store.delete_object(&manifest).await {
            return match self.store.look(&manifest).await {
                // Nothing was deleted: it is an archive as before.
                Ok(Some(_)) => match self.keep(id).await {
                    Ok(()) => Ok(Removed::Kept(Kept::Refused(error))),
                    Err(_) => Err(error),
                },
                _ => Err(error),
            };
        }
        self.needs.remove(id);
        let (mut freed, mut failed) = (self.size_of(&format!("{id}{SUFFIX}")), None);
        for suffix in self.beside(id, at) {
            match self.store.delete_object(&self.store.key(&self.job, id, &suffix)).await {
                Ok(()) => freed += self.size_of(&format!("{id}{suffix}")),
                Err(error) => drop(failed.get_or_insert(error)),
            }
        }
        if let Some(error) = failed {
            let what =
                format!("{}@{id} is no archive any more, but not all of it could be deleted", self.job);
            return Err(error.context(what));
        }
        self.keep(id).await?;
        Ok(Removed::Gone(freed))
    }

    fn size_of(&self, name: &str) -> u64 {
        self.objects.get(name).map_or(0, |object| object.size)
    }

    /// What is to be deleted beside the manifest, in order. Our own tombstone is the very last.
    fn beside(&self, id: &Id, own: &Id) -> Vec<String> {
        let own = mark::suffix(tombstone::WORD, own);
        let prefix = format!("{id}.");
        // What is not known stays: nobody knows here what it is for.
        let names = self.objects.keys().filter(|name| name.starts_with(&prefix) && part_of(name).is_some());
        let suffixes = names.map(|name| name[prefix.len() - 1..].to_string());
        let mut beside: Vec<_> = suffixes.filter(|suffix| *suffix != own && !stays(suffix)).collect();
        beside.sort_by_cached_key(|suffix| (rank(suffix), suffix.clone()));
        beside
    }
}

/// What is not deleted with an archive: its manifest was deleted before, a set's end is of more than this one, and a failure
/// is remembered by itself.
fn stays(suffix: &str) -> bool {
    [SUFFIX, set::SUFFIX, super::failed::SUFFIX].contains(&suffix)
}

/// When an object is deleted: the catalog, the archive, other records, tombstones.
fn rank(suffix: &str) -> u8 {
    match suffix {
        _ if suffix.starts_with(".catalog.") => 0,
        _ if is_archive_suffix(suffix) => 1,
        _ if suffix.starts_with(".tombstone-") => 3,
        _ => 2,
    }
}

/// What lies in a store of one archive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Beside {
    /// Bytes of all that is named after it.
    pub bytes: u64,
    /// Whether it has a manifest.
    pub has_manifest: bool,
    /// Whether there is something that this version does not know.
    pub has_unknown: bool,
    /// When its latest tombstone was put, by the clock of whoever did; none where it has none.
    pub tombstone: Option<jiff::Timestamp>,
}

impl Beside {
    /// Whether it is what is left where a removal was broken off. Beside a tombstone that is younger than `stale` somebody may
    /// be at work, or about to find that it is to stay.
    pub fn is_broken_off(&self, now: jiff::Timestamp, stale: Duration) -> bool {
        let age = self.tombstone.map(|at| Duration::try_from(now.duration_since(at)).unwrap_or_default());
        !self.has_manifest && !self.has_unknown && age.is_some_and(|age| age >= stale)
    }
}

impl Store {
    /// What lies there of every archive, or of those of one job, whether it has a manifest or not.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn beside(&self, job: Option<&str>) -> Result<BTreeMap<(String, Id), Beside>> {
        let explain = |e| self.explain("listing", e);
        let metas: Vec<_> = match job {
            Some(job) => {
                self.down.list_with_delimiter(Some(&self.below(job))).await.map_err(explain)?.objects
            }
            None => self.down.list(Some(&self.prefix)).try_collect().await.map_err(explain)?,
        };
        let mut found: BTreeMap<(String, Id), Beside> = BTreeMap::new();
        for meta in &metas {
            let Some((job, name)) = self.below_job(&meta.location) else { continue };
            let Some((id, suffix)) = name.find('.').and_then(|at| name.split_at_checked(at)) else {
                continue;
            };
            if let (Ok(id), false) = (id.parse(), suffix == set::SUFFIX) {
                let beside = found.entry((job.into(), id)).or_default();
                beside.bytes += meta.size;
                beside.has_manifest |= suffix == SUFFIX;
                beside.has_unknown |= unknown_beside(name).is_some();
                let at = mark::parse(name, tombstone::WORD).and_then(|(_, at)| at.time());
                beside.tombstone = beside.tombstone.max(at);
            }
        }
        Ok(found)
    }

    /// Deletes an object; one that is not there is no failure.
    ///
    /// # Errors
    /// The store does not answer, or refuses.
    pub(super) async fn delete_object(&self, key: &Path) -> Result<()> {
        let deleted = match &self.s3 {
            Some(s3) if self.all_versions => self.delete_versions(s3, key).await,
            _ => self.down.delete(key).await,
        };
        match deleted {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.explain(&format!("deleting {}", self.shown(key)), error)),
        }
    }
}

mod idle;

#[cfg(test)]
mod tests;
