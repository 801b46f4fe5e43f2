//! The pin: small plain JSON beside an archive that is to be kept whatever the rules say.
//!
//! `ID.pin-TIME-RANDOM.json`

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::manifest::SUFFIX;
use super::{Store, json, mark};
use crate::archive::Id;
use crate::error::{Error, Kind, Result};
use crate::host::name::host_name;

pub(super) const WORD: &str = "pin";
const FORMAT: u32 = 1;
/// How often it is looked whether a tombstone is gone.
const AGAIN: Duration = Duration::from_millis(500);

/// The fields of a pin; `self`, a SHA-256 of the text before it, is added when it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Version of the object.
    pub format: u32,
    /// The archive's id.
    pub id: Id,
    /// Its job.
    pub job: String,
    /// RFC 3339.
    pub at: jiff::Timestamp,
    /// The host that pinned it, where its name is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What wrote it.
    pub tool: String,
}

/// The pins in a job's folder, by archive, by the names of all objects that lie there.
pub fn known<'a>(names: impl Iterator<Item = &'a String>) -> BTreeMap<Id, Vec<Id>> {
    let mut known: BTreeMap<Id, Vec<Id>> = BTreeMap::new();
    for (id, at) in names.filter_map(|name| mark::parse(name, WORD)) {
        known.entry(id).or_default().push(at);
    }
    known
}

impl Store {
    /// Pins an archive: it is kept until the pin is taken away. Where somebody is just deleting it, that is waited for.
    ///
    /// # Errors
    /// It is gone, or there is no such archive; it is still being deleted when the time of `--retry-for` is over; the pin was
    /// not written.
    pub async fn put_pin(&self, job: &str, id: &Id, note: Option<&str>) -> Result<()> {
        let now = jiff::Timestamp::now();
        let at = Id::new(now)?;
        let pin = Pin {
            format: FORMAT,
            id: id.clone(),
            job: job.into(),
            at: now,
            host: host_name(),
            note: note.map(Into::into),
            tool: concat!("sealift ", env!("CARGO_PKG_VERSION")).into(),
        };
        let key = self.key(job, id, &mark::suffix(WORD, &at));
        self.put_mark(&key, json::to_text(&pin, WORD)?, WORD).await?;
        // Whoever deletes looks for pins after the tombstone, and we for tombstones after the pin.
        let started = Instant::now();
        while self.tombstones(job).await?.contains_key(id) {
            if started.elapsed() >= self.patience.limit {
                self.delete_object(&key).await?;
                return Err(Error::failed(format!("{job}@{id} is not pinned: somebody is deleting it")).hint(
                    "try again when no `prune` and no `delete` runs there; what one that was killed has left of that, the next \
                     `sealift prune --confirm` takes back or ends, a day later",
                ));
            }
            tokio::time::sleep(AGAIN).await;
        }
        let manifest = self.key(job, id, SUFFIX);
        let explain = |e| self.explain("looking at a manifest", e);
        if self.look(&manifest).await.map_err(explain)?.is_some() {
            return Ok(());
        }
        self.delete_object(&key).await?;
        Err(Error::new(
            Kind::NotFound,
            format!("{job}@{id} was deleted at {} before it was pinned", self.name),
        ))
    }

    /// Takes all pins of an archive away; says how many there were.
    ///
    /// # Errors
    /// The store does not answer, or refuses.
    pub async fn delete_pins(&self, job: &str, id: &Id) -> Result<usize> {
        let pins = known(self.sizes(job).await?.keys()).remove(id).unwrap_or_default();
        for at in &pins {
            self.delete_object(&self.key(job, id, &mark::suffix(WORD, at))).await?;
        }
        Ok(pins.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreOptions;
    use crate::store::manifest::{Manifest, example};

    #[tokio::test]
    async fn pins_come_and_go() {
        let store = Store::open("memory://pin", &StoreOptions::default()).unwrap();
        let id: Id = "20261122T020000Z-1f2e3d4c".parse().unwrap();
        let error = store.put_pin("db", &id, None).await.unwrap_err();
        assert_eq!((error.kind(), store.sizes("db").await.unwrap().len()), (Kind::NotFound, 0));
        store.put_manifest(&Manifest { id: id.clone(), ..example() }).await.unwrap();
        store.put_pin("db", &id, Some("the day before the migration")).await.unwrap();
        store.put_pin("db", &id, None).await.unwrap();
        assert_eq!(known(store.sizes("db").await.unwrap().keys())[&id].len(), 2);
        assert_eq!(store.archives(Some("db")).await.unwrap()[0].marks.pins.len(), 2);
        assert_eq!(store.delete_pins("db", &id).await.unwrap(), 2);
        assert_eq!(store.delete_pins("db", &id).await.unwrap(), 0);
    }
    #[tokio::test(start_paused = true)]
    async fn what_is_being_deleted_all_the_time_is_not_pinned_and_no_pin_is_left() {
        let store = Store::open("memory://pin-tombstone", &StoreOptions::default()).unwrap();
        let id: Id = "20261122T020000Z-1f2e3d4c".parse().unwrap();
        store.put_manifest(&Manifest { id: id.clone(), ..example() }).await.unwrap();
        let at = store.put_tombstone("db", &id, "no rule keeps it").await.unwrap();
        let error = store.put_pin("db", &id, None).await.unwrap_err();
        assert!(error.to_string().contains("somebody is deleting it") && error.hint_text().is_some());
        assert_eq!(known(store.sizes("db").await.unwrap().keys()), BTreeMap::new());
        store.take_back_tombstone("db", &id, &at).await.unwrap();
        store.put_pin("db", &id, None).await.unwrap();
    }
}
