//! What an increment needs must be there when it is committed: hours lie between the look at older archives and the
//! manifest, and somebody may delete one meanwhile.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use tokio::time::Instant;

use super::create::SEEN;
use super::failure::status_of;
use super::manifest::{Manifest, SUFFIX, catalog_suffix};
use super::removal::{Removal, Removed};
use super::{Store, tombstone};
use crate::archive::Id;
use crate::archive::catalog::RefRecord;
use crate::error::{Error, Result};

/// How often it is looked whether a tombstone is gone.
const AGAIN: Duration = Duration::from_millis(500);
/// And at least so often in the time that there is for it.
const LOOKS: u32 = 50;
/// Manifests that are read at once.
const AT_ONCE: usize = 8;

/// The objects of a job by their names: how many bytes each has.
type Sizes = HashMap<String, u64>;

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
    pub fn is_there(&self, sizes: &Sizes) -> bool {
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
        match self.0.is_empty() {
            true => Ok(None),
            false => match store.sizes_if_listed(job).await? {
                Some(sizes) => self.missing_of(store, job, &sizes).await,
                None => Ok(None),
            },
        }
    }

    async fn missing_of(&self, store: &Store, job: &str, sizes: &Sizes) -> Result<Option<Id>> {
        // A list that lags behind is no proof.
        for need in self.0.iter().filter(|need| !need.is_there(sizes)) {
            if !store.has(job, need).await? {
                return Ok(Some(need.id.clone()));
            }
        }
        Ok(None)
    }

    /// Whether an archive, and all that it needs, is there and nobody is about to delete it. Archive and catalog are there
    /// before this is asked, so that whoever deletes from now on knows of them; it is asked again when the manifest is there.
    /// A tombstone is waited for to go, for as long as the store is asked again.
    ///
    /// # Errors
    /// The store does not answer. That it is not so is the inner error.
    pub async fn are_met(&self, store: &Store, manifest: &Manifest) -> Result<Result<(), Error>> {
        let (job, started) = (&manifest.job, Instant::now());
        let sizes = loop {
            let Some(sizes) = store.sizes_if_listed(job).await? else { return Ok(Ok(())) };
            let marked = tombstone::known(sizes.keys());
            let mut all = self.0.iter().map(|need| &need.id).chain([&manifest.id]);
            let Some(id) = all.find(|id| marked.contains_key(id)) else { break sizes };
            if started.elapsed() >= store.patience.limit {
                return Ok(Err(unmet(store, manifest, id, "is being deleted from")));
            }
            tokio::time::sleep(AGAIN.min(store.patience.limit / LOOKS)).await;
        };
        if let Some(id) = self.missing_of(store, job, &sizes).await? {
            return Ok(Err(unmet(store, manifest, &id, "is gone from")));
        }
        for suffix in [manifest.suffix.as_str(), catalog_suffix(&manifest.suffix)] {
            let explain = |e| store.explain("looking at what a backup needs", e);
            if !sizes.contains_key(&format!("{}{suffix}", manifest.id))
                && store
                    .look_for(&store.key(job, &manifest.id, suffix), SEEN)
                    .await
                    .map_err(explain)?
                    .is_none()
            {
                return Ok(Err(unmet(store, manifest, &manifest.id, "is gone from")));
            }
        }
        Ok(Ok(()))
    }
}

/// Why an archive is not to be committed.
fn unmet(store: &Store, manifest: &Manifest, id: &Id, what: &str) -> Error {
    let Manifest { job, id: own, .. } = manifest;
    let name = if id == own { "its archive".to_string() } else { format!("{job}@{id}, which it needs,") };
    Error::failed(format!("{job}@{own} cannot be committed: {name} {what} {} meanwhile", store.name)).hint(
        "run it again: what it would have kept in there is read again; whoever deletes old archives must spare those that \
         newer ones need",
    )
}

impl Store {
    /// [`Store::sizes`]; none where this key may not list.
    pub(super) async fn sizes_if_listed(&self, job: &str) -> Result<Option<Sizes>> {
        match self.down.list_with_delimiter(Some(&self.below(job))).await {
            Ok(listed) => {
                let name =
                    |meta: object_store::ObjectMeta| Some((meta.location.filename()?.to_string(), meta.size));
                Ok(Some(listed.objects.into_iter().filter_map(name).collect()))
            }
            Err(error) if matches!(status_of(&error), Some(401 | 403)) && self.is_refusal(&error) => {
                self.patience.detail("this key may not list: it is not looked what lies beside an archive");
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

    /// Takes back a manifest that needs what is gone, with its archive, unless another backup needs it by now.
    ///
    /// # Errors
    /// It is still there.
    pub(super) async fn withdraw(&self, manifest: &Manifest) -> Result<()> {
        let (job, id) = (&manifest.job, &manifest.id);
        let mut removal = Removal::begin(self, job, [id], "what it needs is gone", tombstone::STALE).await?;
        if let Err(error) = removal.look_again(&Default::default()).await {
            return Err(removal.give_up(error).await);
        }
        match removal.delete(id).await? {
            Removed::Gone(_) => Ok(()),
            Removed::Kept(why) => Err(Error::failed(format!("{job}@{id} is still there: {why}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;

    use super::*;
    use crate::store::StoreOptions;
    use crate::store::manifest::example;

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

    const NEED: &str = "20261121T020000Z-00000001";

    fn need() -> Id {
        NEED.parse().unwrap()
    }

    fn needs() -> Needs {
        [Need { id: need(), suffix: ".raw".into(), size: 1 }].into_iter().collect()
    }

    async fn met(store: &Store, manifest: &Manifest) -> Result<Result<(), Error>> {
        needs().are_met(store, manifest).await
    }

    /// A store with an archive, and one that needs it and has no manifest yet.
    async fn uncommitted(name: &str) -> (Store, Manifest) {
        let options = StoreOptions { retry_for: Duration::from_secs(2), ..StoreOptions::default() };
        let store = Store::open(&format!("memory://{name}"), &options).unwrap();
        let id: Id = "20261122T020000Z-00000002".parse().unwrap();
        for (id, suffix) in [(&need(), SUFFIX), (&need(), ".raw"), (&id, ".raw"), (&id, ".catalog.zst")] {
            store.up.put(&store.key("db", id, suffix), "x".into()).await.unwrap();
        }
        (store, Manifest { id, needs: vec![need()], ..example() })
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_being_deleted_is_waited_for_and_then_there_or_not() {
        let (store, manifest) = uncommitted("needs-wait").await;
        assert!(met(&store, &manifest).await.unwrap().is_ok());
        for (is_deleted, id) in [(false, need()), (false, manifest.id.clone()), (true, need())] {
            let at = store.put_tombstone("db", &id, "a test").await.unwrap();
            let later = async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if is_deleted {
                    store.delete_object(&store.key("db", &id, SUFFIX)).await.unwrap();
                }
                store.take_back_tombstone("db", &id, &at).await.unwrap();
            };
            let (met, ()) = tokio::join!(met(&store, &manifest), later);
            assert_eq!(met.unwrap().is_err(), is_deleted, "{id}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_tombstone_that_stays_is_not_waited_for_without_end() {
        let (store, manifest) = uncommitted("needs-bound").await;
        store.put_tombstone("db", &need(), "a test").await.unwrap();
        let unmet = met(&store, &manifest).await.unwrap().unwrap_err();
        assert!(unmet.to_string().contains("is being deleted"), "{unmet}");
        assert_eq!((unmet.kind().exit_code(), unmet.hint_text().is_some()), (1, true));
        assert!(store.adopt_manifest(&manifest, &needs()).await.is_err());
        assert!(store.newest("db").await.unwrap().unwrap() == need(), "no manifest was put");
    }

    #[tokio::test]
    async fn a_manifest_that_is_taken_back_goes_with_its_archive() {
        let (store, manifest) = uncommitted("needs-withdraw").await;
        store.put_manifest(&manifest).await.unwrap();
        store.withdraw(&manifest).await.unwrap();
        assert_eq!(
            store
                .sizes("db")
                .await
                .unwrap()
                .into_keys()
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter()
                .collect::<Vec<_>>(),
            [format!("{NEED}{SUFFIX}"), format!("{NEED}.raw")]
        );
    }

    #[tokio::test]
    async fn a_manifest_that_cannot_be_taken_back_has_no_tombstone_left() {
        use crate::store::faults::{Fault, Op, Rule};
        let (store, manifest) = uncommitted("needs-no-list").await;
        store.put_manifest(&manifest).await.unwrap();
        let rule = Rule::on(Op::List, "", Fault::Pretend);
        let (lagging, _) = Store::faulty("memory://needs-no-list", vec![rule]);
        let error = lagging.withdraw(&manifest).await.unwrap_err();
        assert!(error.to_string().contains("does not list what was written"), "{error}");
        assert!(store.tombstones("db").await.unwrap().is_empty());
        assert_eq!(store.ids("db").await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn what_is_adopted_though_its_need_goes_meanwhile_is_taken_back() {
        use crate::store::faults::{Fault, Op, Rule};
        let (store, manifest) = uncommitted("needs-adopted").await;
        let gone = Fault::ThenDeleted("db/20261121T020000Z-00000001.raw");
        let rule = Rule::on(Op::Put, "20261122T020000Z-00000002.manifest.json", gone);
        let (racing, faults) = Store::faulty("memory://needs-adopted", vec![rule]);
        let error = racing.adopt_manifest(&manifest, &needs()).await.unwrap_err();
        assert!(error.to_string().contains("is gone from") && faults.fired() == 1, "{error}");
        assert_eq!(store.ids("db").await.unwrap(), [need()]);
    }
}
