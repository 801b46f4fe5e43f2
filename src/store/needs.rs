//! What a manifest names must be there when it is put, and stay: the committer's half of [`super::tombstone`].

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::create::SEEN;
use super::manifest::{Manifest, SUFFIX, catalog_suffix};
use super::removal::{Removal, Removed};
use super::{Store, failure, tombstone};
use crate::error::{Error, Result};

/// How often it is looked whether a tombstone is gone.
const AGAIN: Duration = Duration::from_millis(500);
/// And at least so often in the time that there is for it.
const LOOKS: u32 = 50;

impl Store {
    /// Whether an archive, and all that it needs, is there and nobody is about to delete it. Archive and catalog are there
    /// before this is asked, so that whoever deletes from now on knows of them; it is asked again when the manifest is there.
    /// A tombstone is waited for to go, for as long as the store is asked again.
    ///
    /// # Errors
    /// The store does not answer. That it is not so is the inner error.
    pub(super) async fn has_needs(&self, manifest: &Manifest) -> Result<Result<(), Error>> {
        let (job, started) = (&manifest.job, Instant::now());
        let names = loop {
            let Some(names) = self.names(job).await? else { return Ok(Ok(())) };
            let marked = tombstone::known(names.iter());
            let mut all = manifest.needs.iter().chain([&manifest.id]);
            let Some(id) = all.find(|id| marked.contains_key(id)) else { break names };
            if started.elapsed() >= self.patience.limit {
                return Ok(Err(unmet(manifest, &format!("{job}@{id} is being deleted"))));
            }
            tokio::time::sleep(AGAIN.min(self.patience.limit / LOOKS)).await;
        };
        let needed = manifest.needs.iter().map(|id| (id, SUFFIX));
        let own = [manifest.suffix.as_str(), catalog_suffix(&manifest.suffix)];
        for (id, suffix) in needed.chain(own.map(|suffix| (&manifest.id, suffix))) {
            // A list that lags behind is no proof.
            let explain = |e| self.explain("looking at what a backup needs", e);
            if !names.contains(&format!("{id}{suffix}"))
                && self.look_for(&self.key(job, id, suffix), SEEN).await.map_err(explain)?.is_none()
            {
                return Ok(Err(unmet(manifest, &format!("{job}@{id} is gone"))));
            }
        }
        Ok(Ok(()))
    }

    /// The names in a job's folder; nothing where this key may not list.
    async fn names(&self, job: &str) -> Result<Option<BTreeSet<String>>> {
        match self.down.list_with_delimiter(Some(&self.below(job))).await {
            Ok(listed) => {
                let names = listed.objects.iter().filter_map(|meta| meta.location.filename());
                Ok(Some(names.map(String::from).collect()))
            }
            Err(error)
                if matches!(failure::status_of(&error), Some(401 | 403)) && self.is_refusal(&error) =>
            {
                self.patience.detail("this key may not list: it is not seen what is being deleted");
                Ok(None)
            }
            Err(error) => Err(self.explain("listing", error)),
        }
    }

    /// Takes back a manifest that needs what is gone, with its archive, unless another backup needs it by now.
    ///
    /// # Errors
    /// It is still there.
    pub(super) async fn withdraw(&self, manifest: &Manifest) -> Result<()> {
        let (job, id) = (&manifest.job, &manifest.id);
        let mut removal = Removal::begin(self, job, [id], "what it needs is gone", tombstone::STALE).await?;
        removal.look_again(&Default::default()).await?;
        match removal.delete(id).await? {
            Removed::Gone(_) => Ok(()),
            Removed::Kept(why) => Err(Error::failed(format!("{job}@{id} is still there: {why}"))),
        }
    }
}

fn unmet(manifest: &Manifest, why: &str) -> Error {
    Error::failed(format!("{}@{} cannot be committed: {why}", manifest.job, manifest.id))
        .hint("run it again: what it would have kept in there is read again")
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;

    use super::*;
    use crate::archive::Id;
    use crate::store::StoreOptions;
    use crate::store::manifest::example;

    const NEED: &str = "20261121T020000Z-00000001";

    fn need() -> Id {
        NEED.parse().unwrap()
    }

    /// A store with an archive, and one that needs it and has no manifest yet.
    async fn uncommitted(name: &str) -> (Store, Manifest) {
        let options = StoreOptions { retry_for: Duration::from_secs(2), ..StoreOptions::default() };
        let store = Store::open(&format!("memory://{name}"), &options).unwrap();
        let id: Id = "20261122T020000Z-00000002".parse().unwrap();
        for (id, suffix) in [(&need(), SUFFIX), (&id, ".raw"), (&id, ".catalog.zst")] {
            store.up.put(&store.key("db", id, suffix), "x".into()).await.unwrap();
        }
        (store, Manifest { id, needs: vec![need()], ..example() })
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_being_deleted_is_waited_for_and_then_there_or_not() {
        let (store, manifest) = uncommitted("needs-wait").await;
        assert!(store.has_needs(&manifest).await.unwrap().is_ok());
        for (is_deleted, id) in [(false, need()), (false, manifest.id.clone()), (true, need())] {
            let at = store.put_tombstone("db", &id, "a test").await.unwrap();
            let later = async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if is_deleted {
                    store.delete_object(&store.key("db", &id, SUFFIX)).await.unwrap();
                }
                store.take_back_tombstone("db", &id, &at).await.unwrap();
            };
            let (met, ()) = tokio::join!(store.has_needs(&manifest), later);
            assert_eq!(met.unwrap().is_err(), is_deleted, "{id}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_tombstone_that_stays_is_not_waited_for_without_end() {
        let (store, manifest) = uncommitted("needs-bound").await;
        store.put_tombstone("db", &need(), "a test").await.unwrap();
        let unmet = store.has_needs(&manifest).await.unwrap().unwrap_err();
        assert!(unmet.to_string().contains(&format!("db@{NEED} is being deleted")), "{unmet}");
        assert_eq!((unmet.kind().exit_code(), unmet.hint_text().is_some()), (1, true));
        assert!(store.adopt_manifest(&manifest).await.is_err());
        assert!(store.newest("db").await.unwrap().unwrap() == need(), "no manifest was put");
    }

    #[tokio::test]
    async fn a_manifest_that_is_taken_back_goes_with_its_archive() {
        let (store, manifest) = uncommitted("needs-withdraw").await;
        store.put_manifest(&manifest).await.unwrap();
        store.withdraw(&manifest).await.unwrap();
        assert_eq!(
            store.sizes("db").await.unwrap().into_keys().collect::<Vec<_>>(),
            [format!("{NEED}{SUFFIX}")]
        );
    }
}
