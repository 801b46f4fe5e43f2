//! The set: archives that belong together, made one after the other under one set id.
//!
//! Each archive's catalog and manifest name the set. When the set has ended, well or not, `SET/ID.set.json` says so;
//! a set without it was broken off. It is not authenticated: what a restore acts on are the sealed catalogs.

use std::fmt;
use std::str::FromStr;

use futures_util::TryStreamExt;
use object_store::{ObjectStore, PutMode, PutOptions, PutPayload};
use serde::{Deserialize, Serialize};

use super::{Store, json};
use crate::archive::Id;
use crate::error::{Error, Result};

const SUFFIX: &str = ".set.json";
const WHAT: &str = "set manifest";

/// `NAME@ID`: one run of a set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SetRef {
    /// The set's name.
    pub name: String,
    /// When it was begun.
    pub id: Id,
}

impl fmt::Display for SetRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.id)
    }
}

impl FromStr for SetRef {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let (name, id) = text
            .rsplit_once('@')
            .ok_or_else(|| Error::usage(format!("{text:?} names no run of a set")).hint("write NAME@ID"))?;
        Ok(SetRef { name: name.into(), id: id.parse()? })
    }
}

/// What became of a member of a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The archive's job.
    pub job: String,
    /// The archive; none where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// `made`, `warned`, `failed` or `left out`.
    pub outcome: String,
}

/// The fields of a set manifest; `self`, a SHA-256 of the text before it, is added when it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetManifest {
    /// Version of the on-store format.
    pub format: u32,
    /// The set's name.
    pub set: String,
    /// The set's id.
    pub id: Id,
    /// RFC 3339.
    pub started: jiff::Timestamp,
    /// RFC 3339.
    pub finished: jiff::Timestamp,
    /// Every member has its archive.
    pub complete: bool,
    /// In order.
    pub members: Vec<Member>,
    /// Versions, replica, cluster, node: what was found where it ran.
    pub facts: serde_json::Value,
    /// What wrote it.
    pub tool: String,
}

impl Store {
    /// Says at the store how a set ended; it is written once.
    pub async fn put_set(&self, manifest: &SetManifest) -> Result<()> {
        let text = json::to_text(manifest, WHAT)?;
        let key = self.key(&manifest.set, &manifest.id, SUFFIX);
        let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let put = self.up.put_opts(&key, PutPayload::from(text), create).await;
        put.map(drop).map_err(|e| self.explain("writing the set manifest", e))
    }

    /// The runs of sets that have ended, oldest first within a set; damaged ones as errors.
    pub async fn sets(&self) -> Result<Vec<(SetRef, Result<SetManifest>)>> {
        let explain = |e| self.explain("listing", e);
        let metas: Vec<_> = self.down.list(Some(&self.prefix)).try_collect().await.map_err(explain)?;
        let mut found = Vec::new();
        for set in metas.iter().filter_map(|meta| self.parse_set(&meta.location)) {
            let key = self.key(&set.name, &set.id, SUFFIX);
            let read = self.small(&key, WHAT).await?.map(|text| json::from_text::<SetManifest>(&text, WHAT));
            let own = |m: &SetManifest| m.set == set.name && m.id == set.id;
            let Some(manifest) = read else { continue };
            let manifest = manifest.and_then(|m| match own(&m) {
                true => Ok(m),
                false => Err(Error::damaged(format!("the set manifest at {key} is another's"))),
            });
            found.push((set, manifest));
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    fn parse_set(&self, key: &object_store::path::Path) -> Option<SetRef> {
        let parts: Vec<_> = key.prefix_match(&self.prefix)?.map(|part| part.as_ref().to_string()).collect();
        let (name, set) = parts.split_last()?;
        let id = name.strip_suffix(SUFFIX)?.parse().ok()?;
        (!set.is_empty()).then(|| SetRef { name: set.join("/"), id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_a_set_reads_back() {
        let set: SetRef = "docker-ee@20261122T020000Z-1f2e3d4c".parse().unwrap();
        assert_eq!(
            (set.name.as_str(), set.to_string().parse::<SetRef>().unwrap() == set),
            ("docker-ee", true)
        );
        assert!("docker-ee".parse::<SetRef>().is_err());
    }
}
