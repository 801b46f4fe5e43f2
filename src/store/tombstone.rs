//! The tombstone: small plain JSON beside an archive that is about to be deleted, so that no backup builds on it meanwhile.
//!
//! `ID.tombstone-TIME-RANDOM.json`. Whoever deletes puts one first, lists again, and deletes only what still nothing needs
//! then ([`super::removal`]). Whoever commits has archive and catalog there first, and looks for tombstones then
//! ([`super::needs`]): without a manifest nobody knows what these need, and so nothing older is deleted as long as they are
//! new. Whichever of the two comes second sees the other, and a kill of either between any two requests leaves no archive
//! listed whose need is gone.
//!
//! Each run that deletes has a tombstone of its own and takes back no other, so that two of them do not undo each other's
//! promise; only one that is [`STALE`] was left by a run that was killed.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Store, json, mark};
use crate::archive::Id;
use crate::error::Result;
use crate::host::name::host_name;

pub(super) const WORD: &str = "tombstone";
const FORMAT: u32 = 1;

/// A tombstone that is older than this is nobody's any more, and so is an archive without a manifest: no run waits so long
/// between two of its requests.
pub const STALE: Duration = Duration::from_secs(24 * 3600);

/// The fields of a tombstone; `self`, a SHA-256 of the text before it, is added when it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// Version of the object.
    pub format: u32,
    /// The archive's id.
    pub id: Id,
    /// Its job.
    pub job: String,
    /// RFC 3339.
    pub at: jiff::Timestamp,
    /// The host that deletes, where its name is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Why.
    pub why: String,
    /// What wrote it.
    pub tool: String,
}

/// The tombstones in a job's folder, by archive, by the names of all objects that lie there.
pub fn known<'a>(names: impl Iterator<Item = &'a String>) -> BTreeMap<Id, Vec<Id>> {
    let mut known: BTreeMap<Id, Vec<Id>> = BTreeMap::new();
    for (id, at) in names.filter_map(|name| mark::parse(name, WORD)) {
        known.entry(id).or_default().push(at);
    }
    known
}

impl Store {
    /// Writes that an archive is about to be deleted; returns what names this tombstone.
    ///
    /// # Errors
    /// It was not written.
    pub async fn put_tombstone(&self, job: &str, id: &Id, why: &str) -> Result<Id> {
        let now = jiff::Timestamp::now();
        let at = Id::new(now)?;
        let tombstone = Tombstone {
            format: FORMAT,
            id: id.clone(),
            job: job.into(),
            at: now,
            host: host_name(),
            why: why.into(),
            tool: concat!("sealift ", env!("CARGO_PKG_VERSION")).into(),
        };
        let text = json::to_text(&tombstone, WORD)?;
        self.put_mark(&self.tombstone_key(job, id, &at), text, WORD).await?;
        Ok(at)
    }

    /// What a tombstone says; none where it is gone.
    ///
    /// # Errors
    /// The store does not answer; it is damaged.
    pub async fn tombstone(&self, job: &str, id: &Id, at: &Id) -> Result<Option<Tombstone>> {
        let parse = |text: &str| json::from_text(text, WORD);
        self.small(&self.tombstone_key(job, id, at), "a tombstone", parse).await
    }

    /// The tombstones in a job's folder, by archive.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn tombstones(&self, job: &str) -> Result<BTreeMap<Id, Vec<Id>>> {
        Ok(known(self.sizes(job).await?.keys()))
    }

    /// Whether a tombstone is still there.
    ///
    /// # Errors
    /// The store does not answer.
    pub(super) async fn has_tombstone(&self, job: &str, id: &Id, at: &Id) -> Result<bool> {
        let key = self.tombstone_key(job, id, at);
        let found = self.look(&key).await.map_err(|e| self.explain("looking at a tombstone", e))?;
        Ok(found.is_some())
    }

    /// Takes a tombstone back: its archive stays.
    ///
    /// # Errors
    /// It could not be deleted.
    pub async fn take_back_tombstone(&self, job: &str, id: &Id, at: &Id) -> Result<()> {
        self.delete_object(&self.tombstone_key(job, id, at)).await
    }

    fn tombstone_key(&self, job: &str, id: &Id, at: &Id) -> object_store::path::Path {
        self.key(job, id, &mark::suffix(WORD, at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreOptions;

    #[tokio::test]
    async fn a_tombstone_says_who_deletes_and_two_do_not_meet() {
        let store = Store::open("memory://tombstone", &StoreOptions::default()).unwrap();
        let id: Id = "20261122T020000Z-1f2e3d4c".parse().unwrap();
        let first = store.put_tombstone("db", &id, "no rule keeps it").await.unwrap();
        let second = store.put_tombstone("db", &id, "asked for").await.unwrap();
        let said = store.tombstone("db", &id, &first).await.unwrap().unwrap();
        assert_eq!((said.why.as_str(), &said.id, said.job.as_str()), ("no rule keeps it", &id, "db"));
        assert_eq!(store.tombstones("db").await.unwrap()[&id].len(), 2);
        store.take_back_tombstone("db", &id, &first).await.unwrap();
        assert_eq!(store.tombstones("db").await.unwrap()[&id], [second]);
        assert_eq!(store.tombstone("db", &id, &first).await.unwrap(), None);
    }
}
