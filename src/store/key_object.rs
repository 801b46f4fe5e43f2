//! Key objects: beside an archive, what opens it with another passphrase ([`crate::archive::key_object`]).
//!
//! `ID.key-TIME-RANDOM.skesk`. Each is written once; an archive may have any number.

use std::collections::BTreeMap;

use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::Store;
use super::create::CreateError;
use crate::archive::Id;
use crate::error::{Error, Kind, Result};

const INFIX: &str = ".key-";
const SUFFIX: &str = ".skesk";
/// What is larger is none.
const LARGEST: u64 = 4096;

/// What the name has behind the archive's id, of a key object that was made `at` that time.
pub fn suffix(at: &Id) -> String {
    format!("{INFIX}{at}{SUFFIX}")
}

/// The archive that a key object of this name is beside, and when it was made.
pub(super) fn parse(name: &str) -> Option<(Id, Id)> {
    let (id, at) = name.strip_suffix(SUFFIX)?.split_once(INFIX)?;
    let at: Id = at.parse().ok()?;
    at.time()?;
    Some((id.parse().ok()?, at))
}

impl Store {
    /// The key objects of an archive, the newest first; none where this key may not list.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn key_objects(&self, job: &str, id: &Id) -> Result<Vec<Id>> {
        Ok(self.key_objects_of(job).await?.remove(id).unwrap_or_default())
    }

    /// The key objects of all archives of a job, each one's newest first; none where this key may not list.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn key_objects_of(&self, job: &str) -> Result<BTreeMap<Id, Vec<Id>>> {
        let names = self.sizes_if_listed(job).await?.unwrap_or_default();
        let mut found: BTreeMap<Id, Vec<Id>> = BTreeMap::new();
        for (id, at) in names.keys().filter_map(|name| parse(name)) {
            found.entry(id).or_default().push(at);
        }
        found.values_mut().for_each(|all| all.sort_by(|a, b| b.cmp(a)));
        Ok(found)
    }

    /// A key object's bytes; none where it is gone, or is too large to be one.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn key_object(&self, job: &str, id: &Id, at: &Id) -> Result<Option<Bytes>> {
        let explain = |e| self.explain("reading a key object", e);
        let got = match self.down.get(&self.key_object_at(job, id, at)).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            got => got.map_err(explain)?,
        };
        if got.meta.size > LARGEST {
            return Ok(None);
        }
        got.bytes().await.map(Some).map_err(explain)
    }

    /// Writes a key object. Whoever deletes the archive meanwhile may not have seen it: then it is deleted again.
    ///
    /// # Errors
    /// It was not written; [`Kind::NotFound`] where the archive was deleted.
    pub async fn put_key_object(&self, job: &str, id: &Id, at: &Id, object: Bytes) -> Result<()> {
        let key = self.key_object_at(job, id, at);
        self.put_once(&key, object).await.map_err(|error| match error {
            CreateError::Refused(error) | CreateError::Unknown(error) => {
                self.explain("writing a key object", error)
            }
            CreateError::Another | CreateError::Lost => {
                Error::failed(format!("{} did not keep the key object {key}", self.name))
            }
        })?;
        let manifest = self.key(job, id, super::manifest::SUFFIX);
        if self.look(&manifest).await.map_err(|e| self.explain("looking at a manifest", e))?.is_some() {
            return Ok(());
        }
        self.delete_object(&key).await?;
        let text = format!("{job}@{id} was deleted at {} meanwhile", self.name);
        Err(Error::new(Kind::NotFound, text))
    }

    fn key_object_at(&self, job: &str, id: &Id, at: &Id) -> Path {
        self.key(job, id, &suffix(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreOptions;
    use crate::store::manifest::{Manifest, example};

    const ID: &str = "20261122T020000Z-1f2e3d4c";
    const AT: &str = "20261123T040506Z-00112233";

    #[test]
    fn a_name_reads_back_and_nothing_else_does() {
        let at: Id = AT.parse().unwrap();
        let name = format!("{ID}{}", suffix(&at));
        assert_eq!(name, format!("{ID}.key-{AT}.skesk"));
        assert_eq!(parse(&name), Some((ID.parse().unwrap(), at)));
        for other in [
            format!("x{name}"),
            name.replace("key-", "keys-"),
            name.replace(".skesk", ".json"),
            name.replace("20261123", "20269923"),
            format!("{ID}.tar.zst.gpg"),
        ] {
            assert_eq!(parse(&other), None, "{other}");
        }
    }

    #[tokio::test]
    async fn the_newest_is_the_first_and_none_is_left_beside_an_archive_that_is_gone() {
        let store = Store::open("memory://key-objects", &StoreOptions::default()).unwrap();
        let (id, at): (Id, Id) = (ID.parse().unwrap(), AT.parse().unwrap());
        let error = store.put_key_object("db", &id, &at, "a".into()).await.unwrap_err();
        assert_eq!((error.kind(), store.sizes("db").await.unwrap().len()), (Kind::NotFound, 0));
        store.put_manifest(&Manifest { id: id.clone(), ..example() }).await.unwrap();
        let later: Id = "20261124T040506Z-00112233".parse().unwrap();
        let bytes = Bytes::from_static(&[0xC3, 0xFF, 0]);
        store.put_key_object("db", &id, &at, bytes.clone()).await.unwrap();
        store.put_key_object("db", &id, &later, "b".into()).await.unwrap();
        assert_eq!(store.key_objects("db", &id).await.unwrap(), [later.clone(), at.clone()]);
        assert_eq!(store.key_object("db", &id, &at).await.unwrap(), Some(bytes));
        assert!(store.put_key_object("db", &id, &at, "c".into()).await.is_err(), "none is replaced");
        assert!(store.key_objects("db", &later).await.unwrap().is_empty());
        // They are no archives, and nothing foreign either.
        assert_eq!((store.archives(None).await.unwrap().len(), store.passed_over()), (1, 0));
    }
}
