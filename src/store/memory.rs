//! `memory://NAME`: stores of this process, for tests and examples. Whoever opens a name sees what others put there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use object_store::memory::InMemory;

use super::clients::Client;

static STORES: Mutex<BTreeMap<String, Arc<InMemory>>> = Mutex::new(BTreeMap::new());

/// The store of that name, for as long as the process lives; without a name, one that nobody else sees.
pub(super) fn shared(name: Option<&str>) -> Arc<InMemory> {
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Arc::new(InMemory::new()) };
    let mut stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
    let store: &Arc<InMemory> = stores.entry(name.into()).or_default();
    Arc::clone(store)
}

/// The client of that store.
pub(super) fn client(name: Option<&str>) -> Client {
    #[cfg(test)]
    if let Some(halting) = super::faults::halt::client(name) {
        return halting;
    }
    Client::of(shared(name))
}

#[cfg(test)]
mod tests {
    use object_store::path::Path;
    use object_store::{Error, ObjectStoreExt};

    use crate::store::{Store, StoreOptions};

    fn open(url: &str) -> Store {
        Store::open(url, &StoreOptions::default()).unwrap()
    }

    async fn has(store: &Store, key: &str) -> bool {
        match store.down.head(&Path::from(key)).await {
            Ok(_) => true,
            Err(Error::NotFound { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    }

    #[tokio::test]
    async fn a_name_is_one_store_however_often_it_is_opened() {
        let (first, second) = (open("memory://shared-name"), open("memory://shared-name/below"));
        first.up.put(&Path::from("below/x"), "x".into()).await.unwrap();
        assert!(has(&second, "below/x").await);
        assert!(!first.is_same(&second) && second.is_same(&open("memory://shared-name/below/")));
        let id = "20261122T020000Z-1f2e3d4c".parse().unwrap();
        assert_eq!(second.key("job", &id, ".x").as_ref(), "below/job/20261122T020000Z-1f2e3d4c.x");
    }

    #[tokio::test]
    async fn other_names_and_no_name_are_other_stores() {
        open("memory://one-name").up.put(&Path::from("x"), "x".into()).await.unwrap();
        assert!(!has(&open("memory://other-name"), "x").await);
        let nameless = open("memory:///");
        nameless.up.put(&Path::from("x"), "x".into()).await.unwrap();
        assert!(has(&nameless, "x").await && !has(&open("memory:///"), "x").await);
    }
}
