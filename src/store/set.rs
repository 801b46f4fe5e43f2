//! The set: archives that belong together, made one after the other under one set id.
//!
//! Each archive's catalog and manifest name the set. When the set has ended, well or not, `SET/ID.set.json` says so;
//! a set without it was broken off. It is not authenticated: what a restore acts on are the sealed catalogs.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use futures_util::TryStreamExt;
use jiff::Timestamp;
use object_store::ObjectStore;
use serde::{Deserialize, Serialize};

use super::create::CreateError;
use super::{Store, json};
use crate::archive::Id;
use crate::error::{Error, Kind, Result};

pub(super) const SUFFIX: &str = ".set.json";
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
    /// Versions, replica, cluster, node: what was found where it ran.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub facts: serde_json::Value,
}

impl Member {
    /// A member without an archive.
    pub fn without(job: String, outcome: &str) -> Self {
        Member { job, id: None, outcome: outcome.into(), facts: serde_json::Value::Null }
    }
}

/// The version of set manifests.
pub const FORMAT: u32 = 1;

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
    /// What wrote it.
    pub tool: String,
}

/// A run of a set, as far as manifests tell it.
#[derive(Debug, Default)]
pub struct SetRun {
    /// How it ended; none where it was broken off.
    pub ended: Option<Result<SetManifest>>,
    /// Jobs and ids of its archives.
    pub archives: Vec<(String, Id)>,
}

impl SetRun {
    /// Whether every member has its archive.
    pub fn is_complete(&self) -> bool {
        matches!(&self.ended, Some(Ok(manifest)) if manifest.complete) && self.missing().is_empty()
    }

    /// The members without an archive, each with the reason.
    pub fn missing(&self) -> Vec<String> {
        let there =
            |m: &Member| self.archives.iter().any(|(job, id)| *job == m.job && Some(id) == m.id.as_ref());
        let members = self.ended.iter().flatten().flat_map(|manifest| &manifest.members);
        let missing = members.filter(|m| !there(m)).map(|m| match m.id {
            Some(_) => format!("{} (gone)", m.job),
            None => format!("{} ({})", m.job, m.outcome),
        });
        missing.collect()
    }

    /// How it is, in words.
    pub fn state(&self) -> String {
        match &self.ended {
            _ if self.is_complete() => "complete".into(),
            None => "INCOMPLETE: broken off".into(),
            Some(Err(error)) => format!("INCOMPLETE: {error}"),
            Some(Ok(_)) => format!("INCOMPLETE: {}", self.missing().join(", ")),
        }
    }
}

impl Store {
    /// Says at the store how a set ended; it is written once.
    ///
    /// # Errors
    /// Another one is there under its key, or nobody knows whether it was written.
    pub async fn put_set(&self, manifest: &SetManifest) -> Result<()> {
        let text = json::to_text(manifest, WHAT)?;
        let key = self.key(&manifest.set, &manifest.id, SUFFIX);
        self.put_once(&key, text).await.map_err(|unput| match unput {
            CreateError::Another => Error::failed(format!("{} has another set manifest at {key}", self.name)),
            CreateError::Lost => Error::failed(format!("{} took {key} and has it not", self.name)),
            CreateError::Refused(error) | CreateError::Unknown(error) => {
                self.explain("writing the set manifest", error)
            }
        })
    }

    /// The runs of sets, oldest first within a set, and the archives of each.
    ///
    /// # Errors
    /// The store does not answer. A damaged set manifest is no error, but said of its run.
    pub async fn set_runs(&self) -> Result<BTreeMap<SetRef, SetRun>> {
        let mut runs: BTreeMap<SetRef, SetRun> = BTreeMap::new();
        for (set, ended) in self.sets().await? {
            runs.entry(set).or_default().ended = Some(ended);
        }
        for listed in self.archives(None).await? {
            let complete = listed.manifest.ok().filter(|manifest| !manifest.partial);
            let set = complete.and_then(|manifest| manifest.set?.parse().ok());
            if let Some(set) = set {
                runs.entry(set).or_default().archives.push((listed.job, listed.id));
            }
        }
        Ok(runs)
    }

    /// Ids of the runs of a set that began at `time` or later, as far as this store has an archive of one of these jobs, or
    /// the set's own object, to show for it. Where no clock was ever wrong, there is none.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn set_ids_since(&self, name: &str, jobs: &[String], time: Timestamp) -> Result<Vec<Id>> {
        let explain = |e| self.explain("listing", e);
        let listed = self.down.list_with_delimiter(Some(&self.below(name))).await.map_err(explain)?;
        let ended = listed.objects.iter().filter_map(|meta| self.parse_set(&meta.location));
        let mut ids: Vec<_> = ended.map(|set| set.id).collect();
        for job in jobs {
            for (job, id) in self.archives_since(job, time).await? {
                let manifest = self.manifest(&job, &id).await.ok();
                let set: Option<SetRef> = manifest.and_then(|manifest| manifest.set?.parse().ok());
                ids.extend(set.filter(|set| set.name == name).map(|set| set.id));
            }
        }
        ids.retain(|id| id.is_since(time));
        Ok(ids)
    }

    /// Deletes what says how a run of a set ended: nothing of it is left.
    ///
    /// # Errors
    /// The store does not answer, or refuses.
    pub async fn delete_set(&self, set: &SetRef) -> Result<()> {
        self.delete_object(&self.key(&set.name, &set.id, SUFFIX)).await
    }

    /// The runs of sets that have ended, oldest first within a set; damaged ones as errors.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn sets(&self) -> Result<Vec<(SetRef, Result<SetManifest>)>> {
        let explain = |e| self.explain("listing", e);
        let metas: Vec<_> = self.down.list(Some(&self.prefix)).try_collect().await.map_err(explain)?;
        let mut found = Vec::new();
        for set in metas.iter().filter_map(|meta| self.parse_set(&meta.location)) {
            let manifest = match self.set_manifest(&set).await {
                // Deleted since it was listed.
                Ok(None) => continue,
                Ok(Some(manifest)) => Ok(manifest),
                // One bad object says nothing about the others.
                Err(error) if error.kind() == Kind::Damaged => Err(error),
                Err(error) => return Err(error),
            };
            found.push((set, manifest));
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    async fn set_manifest(&self, set: &SetRef) -> Result<Option<SetManifest>> {
        let key = self.key(&set.name, &set.id, SUFFIX);
        let parse = |text: &str| json::from_text::<SetManifest>(text, WHAT);
        let Some(manifest) = self.small(&key, WHAT, parse).await? else { return Ok(None) };
        match manifest.set == set.name && manifest.id == set.id {
            true => Ok(Some(manifest)),
            false => Err(Error::damaged(format!("the set manifest at {key} is another's"))),
        }
    }

    fn parse_set(&self, key: &object_store::path::Path) -> Option<SetRef> {
        let (set, name) = self.below_job(key)?;
        let id: Id = name.strip_suffix(SUFFIX)?.parse().ok()?;
        id.time().map(|_| SetRef { name: set.into(), id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::manifest::{self, Manifest};

    #[test]
    fn a_run_of_a_set_reads_back() {
        let set: SetRef = "docker-ee@20261122T020000Z-1f2e3d4c".parse().unwrap();
        assert_eq!(
            (set.name.as_str(), set.to_string().parse::<SetRef>().unwrap() == set),
            ("docker-ee", true)
        );
        assert!("docker-ee".parse::<SetRef>().is_err());
    }

    /// The manifest of an archive of `set`.
    fn manifest(id: &Id, set: &str) -> Manifest {
        Manifest { id: id.clone(), job: "ee/db".into(), set: Some(set.into()), ..manifest::example() }
    }

    #[tokio::test]
    async fn ids_of_runs_that_seem_to_come_are_found_by_the_set_or_by_its_archives() {
        let store = Store::open("memory://set-ids-since/p", &Default::default()).unwrap();
        let id = |text: &str| text.parse::<Id>().unwrap();
        let now: Timestamp = "2026-11-22T02:00:00Z".parse().unwrap();
        let since = async || {
            let found = store.set_ids_since("ee", &["ee".into(), "other".into()], now).await;
            found.unwrap().into_iter().map(String::from).collect::<Vec<_>>()
        };
        assert_eq!(since().await, [""; 0]);
        // One that ended, one of the past, and one of another set.
        for key in
            ["ee/20310101T000000Z-0000000a", "ee/20261121T000000Z-0000000b", "x/20320101T000000Z-0000000c"]
        {
            let (set, id) = key.split_once('/').unwrap();
            let at = store.key(set, &id.parse().unwrap(), SUFFIX);
            store.up.put_opts(&at, "damaged".into(), Default::default()).await.unwrap();
        }
        assert_eq!(since().await, ["20310101T000000Z-0000000a"]);
        // One that was broken off: only an archive names it. What another set's archive names is not of this one.
        let archive = id("20330101T000000Z-0000000d");
        store.put_manifest(&manifest(&archive, "ee@20330101T000000Z-0000000e")).await.unwrap();
        let archive = id("20340101T000000Z-0000000f");
        store.put_manifest(&manifest(&archive, "x@20340101T000000Z-0000000e")).await.unwrap();
        assert_eq!(since().await, ["20310101T000000Z-0000000a", "20330101T000000Z-0000000e"]);
    }

    #[test]
    fn a_run_is_complete_when_every_member_is_there() {
        let now = jiff::Timestamp::now();
        let (one, two) = (Id::new(now).unwrap(), Id::new(now).unwrap());
        let made =
            |job: &str, id: &Id| Member { id: Some(id.clone()), ..Member::without(job.into(), "made") };
        let run = |complete: bool, members: Vec<Member>, archives: &[(&str, &Id)]| SetRun {
            ended: Some(Ok(SetManifest {
                format: 1,
                set: "s".into(),
                id: one.clone(),
                started: now,
                finished: now,
                complete,
                members,
                tool: String::new(),
            })),
            archives: archives.iter().map(|(job, id)| (job.to_string(), Id::clone(id))).collect(),
        };
        let whole = run(true, vec![made("a", &one), made("b", &two)], &[("a", &one), ("b", &two)]);
        assert!(whole.is_complete() && whole.state() == "complete");
        let gone = run(true, vec![made("a", &one), made("b", &two)], &[("a", &one), ("b", &one)]);
        assert!(!gone.is_complete() && gone.state() == "INCOMPLETE: b (gone)");
        let failed = run(false, vec![made("a", &one), Member::without("b".into(), "failed")], &[("a", &one)]);
        assert_eq!((failed.is_complete(), failed.state()), (false, "INCOMPLETE: b (failed)".into()));
        assert_eq!(SetRun::default().state(), "INCOMPLETE: broken off");
    }
}
