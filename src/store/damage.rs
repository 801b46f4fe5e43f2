//! The damage record: small plain JSON beside an archive that says that it was found to be damaged, so that the next backup
//! reads again what it has in there. Its key says the same, so that none is read.
//!
//! `ID.damaged-TIME-RANDOM.json`. As a verification record it is written once and not authenticated: whoever can write to
//! the store can have members read again, and no more than that. A later verification of the whole archive outdates it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::record::{Level, VerificationKey};
use super::{Store, json};
use crate::archive::Id;
use crate::error::{Error, Result};

const INFIX: &str = ".damaged-";
const SUFFIX: &str = ".json";
const FORMAT: u32 = 1;

/// The fields of a record; `self`, a SHA-256 of the text before it, is added when it is written.
#[derive(Debug, Serialize)]
struct Record<'a> {
    /// Version of the record.
    format: u32,
    /// The archive's id.
    id: &'a Id,
    /// Its job.
    job: &'a str,
    /// RFC 3339.
    at: jiff::Timestamp,
    /// What wrote it.
    tool: &'static str,
}

/// The archive and the time of a record of this name.
pub(super) fn parse(name: &str) -> Option<(Id, Id)> {
    let (id, at) = name.strip_suffix(SUFFIX)?.split_once(INFIX)?;
    Some((id.parse().ok()?, at.parse().ok()?))
}

/// The archives of a job that are known to be damaged, by the names of all objects that lie there.
pub fn known<'a>(names: impl Iterator<Item = &'a String>) -> BTreeSet<Id> {
    let mut beside: BTreeMap<Id, Found> = BTreeMap::new();
    for name in names {
        if let Some((id, at)) = parse(name) {
            beside.entry(id).or_default().damaged(at);
        } else if let Some((id, mark)) = VerificationKey::parse(name) {
            beside.entry(id).or_default().marks.push(mark);
        }
    }
    beside.into_iter().filter(|(_, found)| found.damage().is_some()).map(|(id, _)| id).collect()
}

/// What was found of an archive, by the names of its records.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Its verifications.
    pub(super) marks: Vec<VerificationKey>,
    /// When it was last found to be damaged.
    damaged: Option<Id>,
}

impl Found {
    /// It was found to be damaged.
    pub(super) fn damaged(&mut self, at: Id) {
        self.damaged = self.damaged.take().max(Some(at));
    }

    /// When it was last found to be damaged, unless all of it was in order later.
    pub(super) fn damage(&self) -> Option<&Id> {
        let whole = self.marks.iter().filter(|mark| mark.level >= Level::Whole).map(|mark| &mark.at).max();
        self.damaged.as_ref().filter(|&at| whole.is_none_or(|later| later <= at))
    }

    /// The verifications after that: what was in order before it is no more.
    pub(super) fn standing(&self) -> Vec<VerificationKey> {
        let stands = |mark: &&VerificationKey| self.damaged.as_ref().is_none_or(|at| mark.at > *at);
        self.marks.iter().filter(stands).cloned().collect()
    }
}

impl Store {
    /// Writes that an archive is damaged, unless that is known already.
    ///
    /// # Errors
    /// It was not written: the store may be one that we may only read.
    pub async fn put_damage(&self, job: &str, id: &Id) -> Result<()> {
        let at = jiff::Timestamp::now();
        let names = self.sizes(job).await?;
        let mut found = Found::default();
        for name in names.keys() {
            match (parse(name), VerificationKey::parse(name)) {
                (Some((own, at)), _) if own == *id => found.damaged(at),
                (_, Some((own, mark))) if own == *id => found.marks.push(mark),
                _ => {}
            }
        }
        // Where nothing was in order since, it says so already.
        if found.damage().is_some() && found.standing().is_empty() {
            return Ok(());
        }
        let seen: Vec<_> = found.marks.into_iter().map(|mark| mark.at).chain(found.damaged).collect();
        let name = Id::after(at, &seen)?;
        let tool = concat!("sealift ", env!("CARGO_PKG_VERSION"));
        let text = json::to_text(&Record { format: FORMAT, id, job, at, tool }, "damage record")?;
        let key = self.key(job, id, &format!("{INFIX}{name}{SUFFIX}"));
        let put = self.put_once(&key, text).await;
        put.map_err(|error| Error::failed(format!("{} did not keep {key}: {error:?}", self.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreOptions;

    #[tokio::test]
    async fn an_archive_is_damaged_until_all_of_it_was_in_order_again() {
        let store = Store::open("memory://damage", &StoreOptions::default()).unwrap();
        let [id, other]: [Id; 2] =
            ["20261122T020000Z-1f2e3d4c", "20261123T020000Z-1f2e3d4c"].map(|id| id.parse().unwrap());
        let found = async || known(store.sizes("j").await.unwrap().keys());
        assert!(found().await.is_empty());
        store.put_record(("j", &id), Level::Whole, (1, 1)).await.unwrap();
        store.put_damage("j", &id).await.unwrap();
        store.put_damage("j", &other).await.unwrap();
        assert_eq!(found().await, BTreeSet::from([id.clone(), other.clone()]));
        let count = async || store.sizes("j").await.unwrap().len();
        let before = count().await;
        store.put_damage("j", &id).await.unwrap();
        assert_eq!(count().await, before, "that is known");
        store.put_record(("j", &id), Level::Stored, (1, 1)).await.unwrap();
        store.put_damage("j", &id).await.unwrap();
        assert_eq!(count().await, before + 2, "and is later than what was in order meanwhile");
        store.put_record(("j", &id), Level::Stored, (1, 1)).await.unwrap();
        assert_eq!(found().await.len(), 2, "stored bytes are no proof of what was sealed");
        store.put_record(("j", &id), Level::Whole, (1, 1)).await.unwrap();
        assert_eq!(found().await, BTreeSet::from([other]));
    }

    #[test]
    fn what_is_named_otherwise_is_no_record() {
        let id = "20261122T020000Z-1f2e3d4c";
        let names = [
            format!("{id}.damaged-{id}.json"),
            format!("x{id}.damaged-{id}.json"),
            format!("{id}.damaged-x{id}.json"),
            format!("{id}.damaged-{id}"),
        ];
        let found: Vec<_> = names.iter().map(|name| known(std::iter::once(name)).len()).collect();
        assert_eq!(found, [1, 0, 0, 0]);
        let later = format!("{id}.verified-whole-20261122T020001Z-1f2e3d4c.json");
        assert!(known([&names[0], &later].into_iter()).is_empty());
    }
}
