//! The backup that an increment builds on: the newest one of the job that says what its files were like.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use secrecy::SecretString;

use super::{Increments, Rebase, locked};
use crate::archive::catalog::paged::PagedCatalog;
use crate::archive::catalog::{ArchiveRecord, RefRecord};
use crate::archive::openpgp::Head;
use crate::archive::{Format, Id};
use crate::error::{Error, Kind, Result};
use crate::job::heads::Part;
use crate::job::stored::StoredArchive;
use crate::report::human_bytes;
use crate::store::Store;
use crate::store::damage;
use crate::store::download::Object;
use crate::store::list::Listed;
use crate::store::manifest::{Manifest, catalog_suffix, parts_of_suffix};
use crate::store::needs::Need;
use crate::store::tombstone;

/// Backups that are looked at for one that can be built on.
const MOST_TRIED: usize = 10;

/// A backup that can be built on.
pub(in crate::job) struct Base {
    /// What it holds.
    pub(super) catalog: PagedCatalog,
    /// Its own archive, as a later catalog names it.
    pub(super) own: RefRecord,
    /// References of its catalog to archives that are gone, or are not what they were.
    pub(super) gone: HashSet<u32>,
    /// Whether it is the end of partial archives that go back to one that needs nothing: what goes on there is a full.
    pub(in crate::job) is_of_a_full: bool,
    /// What is said of those.
    pub(in crate::job) warnings: Vec<String>,
    /// What is said of archives that are not needed any more from this backup on.
    pub(in crate::job) notes: Vec<String>,
}

impl Base {
    /// The archive of a reference.
    pub(super) fn archive(&self, reference: u32) -> Option<&RefRecord> {
        match reference {
            0 => Some(&self.own),
            n => self.catalog.refs().iter().find(|record| record.n == n),
        }
    }

    /// Gives up archives of which little is needed: what they hold of that is read again.
    fn rebase(&mut self, rebase: Rebase) {
        let end = self.catalog.end();
        let all = end.bytes.saturating_add(end.kept.bytes);
        for record in little_needed(self.catalog.refs(), all, rebase) {
            if self.gone.insert(record.n) {
                let (live, bytes) = (human_bytes(record.live), human_bytes(record.bytes));
                let archive = format!("{}@{}", self.catalog.archive().job, record.id);
                self.notes
                    .push(format!("{archive} is needed no more: of its {bytes}, {live} are read again"));
            }
        }
    }

    /// Its name.
    pub(in crate::job) fn name(&self) -> String {
        let archive = self.catalog.archive();
        format!("{}@{}", archive.job, archive.id)
    }
}

/// What a backup can build on.
pub(in crate::job) enum Found {
    /// A backup before it.
    Base(Box<Base>),
    /// Nothing, and why: it holds everything.
    Nothing(String),
}

/// What is looked for.
pub(in crate::job) struct Search<'a> {
    /// Every store that the new backup goes to.
    pub(in crate::job) stores: &'a [Arc<Store>],
    /// The new backup.
    pub(in crate::job) record: &'a ArchiveRecord,
    /// What opens both.
    pub(in crate::job) passphrase: Option<&'a SecretString>,
}

impl Search<'_> {
    /// Looks for the newest backup that every store has and that can be built on.
    ///
    /// # Errors
    /// A store does not answer.
    pub(in crate::job) async fn find(&self, increments: &Increments) -> Result<Found> {
        let nothing = |why: &str| Ok(Found::Nothing(why.into()));
        if increments.full {
            return nothing("--full asks for it");
        }
        let listed = self.listed().await?;
        if listed.is_empty() {
            return nothing(match self.stores {
                [_] => "the job has no backup yet",
                _ => "there is no backup of the job that all of these stores have",
            });
        }
        if let Some(why) = full_is_due(increments, &listed, self.record.started) {
            return Ok(Found::Nothing(why));
        }
        let (mut first, mut damaged) = (None, Vec::new());
        for manifest in listed.values().rev().take(MOST_TRIED) {
            match self.open(manifest).await {
                Ok(Ok(mut base)) => {
                    base.warnings.extend(damaged);
                    base.rebase(increments.rebase);
                    return Ok(Found::Base(Box::new(base)));
                }
                Ok(Err(why)) => drop(first.get_or_insert(format!("{}@{} {why}", manifest.job, manifest.id))),
                Err(error) if error.is_of_one_archive() => {
                    let why = format!("{}@{}: {error}", manifest.job, manifest.id);
                    damaged.push(format!("{why}: an older backup is built on"));
                    first.get_or_insert(why);
                }
                Err(error) => return Err(error.context("looking for the backup to build on")),
            }
        }
        Ok(Found::Nothing(first.unwrap_or_default()))
    }

    /// Opens the partial archive that this run has just made, to go on there.
    ///
    /// # Errors
    /// A store does not answer, or what was written is not there.
    pub(in crate::job) async fn go_on(&self, manifest: &Manifest) -> Result<Base> {
        let name = format!("{}@{}", manifest.job, manifest.id);
        match self.open(manifest).await.map_err(|error| error.context(format!("going on after {name}")))? {
            Ok(base) => Ok(base),
            Err(why) => Err(Error::failed(format!("{name} {why}: the run cannot go on there"))),
        }
    }

    /// The backups that every store has, by id.
    async fn listed(&self) -> Result<BTreeMap<Id, Manifest>> {
        let mut all: Option<BTreeMap<Id, Manifest>> = None;
        for store in self.stores {
            let listed = store.archives(Some(&self.record.job)).await?;
            // One that is about to be deleted is as good as gone.
            let listed = listed.into_iter().filter(|listed| listed.marks.tombstones.is_empty());
            let here = listed.filter_map(|Listed { id, manifest, .. }| Some((id, manifest.ok()?)));
            let here: BTreeMap<_, _> = here.collect();
            all = Some(match all {
                None => here,
                Some(all) => all.into_iter().filter(|(id, _)| here.contains_key(id)).collect(),
            });
        }
        Ok(all.unwrap_or_default())
    }

    /// Opens a backup to build on; or why it cannot be built on.
    async fn open(&self, manifest: &Manifest) -> Result<Result<Base, String>> {
        let (Some(store), job) = (self.stores.first(), &self.record.job) else {
            return Ok(Err("is nowhere".into()));
        };
        let is_encrypted = parts_of_suffix(&manifest.suffix).1.is_some();
        if is_encrypted != self.passphrase.is_some() {
            let how = if is_encrypted { "is" } else { "is not" };
            return Ok(Err(format!("{how} encrypted")));
        }
        if manifest.kind != Format::Tar {
            return Ok(Err("is no tar".into()));
        }
        let key = store.key(job, &manifest.id, catalog_suffix(&manifest.suffix));
        let object = Object::open(store, key).await?;
        let (id, manifest) = (manifest.id.clone(), manifest.clone());
        let found = StoredArchive { store: Arc::clone(store), job: job.clone(), id, manifest };
        let head = match self.head(&found, Part::Catalog, &object).await {
            Err(error) if error.kind() == Kind::WrongPassphrase => {
                let from = &store.name;
                return Ok(Err(format!(
                    "does not open with this passphrase; `sealift rekey {job} --from {from}` lets it open with it, and the \
                     next backup is an increment"
                )));
            }
            head => head?,
        };
        let manifest = &found.manifest;
        let Some(catalog) = PagedCatalog::open(Arc::new(object), head, job, &manifest.id).await? else {
            return Ok(Err("is of an older format, or has too many members for an index".into()));
        };
        let archive = catalog.archive();
        if archive.host != self.record.host {
            return Ok(Err("was made on another host".into()));
        }
        if archive.source_id != self.record.source_id {
            return Ok(Err("is of another source".into()));
        }
        if catalog.runs().is_none() {
            return Ok(
                Err("was made without --incremental: it does not say what the files were like".into()),
            );
        }
        confirm_frames(&catalog).await?;
        let base = self.with_archives(catalog, &found).await?;
        Ok(Ok(Base { is_of_a_full: manifest.partial && manifest.stands_alone(), ..base }))
    }

    async fn head(&self, found: &StoredArchive, part: Part, object: &Object) -> Result<Option<Head>> {
        match self.passphrase {
            Some(passphrase) => found.head(part, object, passphrase).await.map(Some),
            None => Ok(None),
        }
    }

    /// Looks which of its archives are still there.
    async fn with_archives(&self, catalog: PagedCatalog, found: &StoredArchive) -> Result<Base> {
        let (archive, end, suffix) = (catalog.archive(), catalog.end(), &found.manifest.suffix);
        let opened = async {
            let object = found.archive_object().await?;
            let head = self.head(found, Part::Archive, &object).await?;
            RefRecord::of(archive, end, suffix, head.as_ref())
        };
        let (mut gone, mut warnings) = (HashSet::new(), Vec::new());
        let again = "what the newest backup has in it is read again";
        let own = match opened.await {
            Ok(own) => own,
            Err(error) if error.is_of_one_archive() => {
                gone.insert(0);
                warnings.push(format!("{}@{}: {error}: {again}", archive.job, archive.id));
                RefRecord::of(archive, end, suffix, None)?
            }
            Err(error) => return Err(error),
        };
        for store in self.stores {
            let sizes = store.sizes(&archive.job).await?;
            let (damaged, marked) = (damage::known(sizes.keys()), tombstone::known(sizes.keys()));
            for record in catalog.refs().iter().chain([&own]) {
                let is_sound = Need::from(record).is_there(&sizes)
                    && !damaged.contains(&record.id)
                    && !marked.contains_key(&record.id);
                if !is_sound && gone.insert(record.n) {
                    let name = format!("{}@{}", archive.job, record.id);
                    warnings.push(format!("{name} is not at {} as it was: {again}", store.name));
                }
            }
        }
        let mut notes = Vec::new();
        for store in self.stores {
            let needed = catalog.refs().iter().chain([&own]);
            for record in locked::ending_soon(store, &archive.job, needed, &gone).await? {
                gone.insert(record.n);
                let name = format!("{}@{}", archive.job, record.id);
                notes.push(format!(
                    "{name} is needed no more: its lock at {} ends before long, and this key may not make it longer",
                    store.name
                ));
            }
        }
        Ok(Base { own, gone, is_of_a_full: false, warnings, notes, catalog })
    }
}

/// Reads all pages with records of frames: when the kept members are known, it is too late to build on another catalog.
/// The pages with members are read before that.
async fn confirm_frames(catalog: &PagedCatalog) -> Result<()> {
    for reference in catalog.refs().iter().map(|record| record.n).chain([0]) {
        for page in catalog.frame_pages(reference) {
            catalog.frames_of(&page).await?;
        }
    }
    Ok(())
}

/// The archives that are given up, of a job that has so many bytes in all: first those of which the least is needed.
fn little_needed(refs: &[RefRecord], all: u64, rebase: Rebase) -> Vec<&RefRecord> {
    let is_little = |record: &&RefRecord| (record.live as f64) < record.bytes as f64 * rebase.below;
    let mut little: Vec<_> = refs.iter().filter(is_little).collect();
    little.sort_by_key(|record| record.live);
    let mut left = all as f64 * rebase.limit;
    little
        .into_iter()
        .take_while(|record| {
            left -= record.live as f64;
            left >= 0.0
        })
        .collect()
}

/// Why everything is to be held again, if it is.
fn full_is_due(increments: &Increments, listed: &BTreeMap<Id, Manifest>, now: Timestamp) -> Option<String> {
    let every = increments.full_every?;
    let age_of = |manifest: &Manifest| now.duration_since(manifest.started).unsigned_abs();
    // A full that broke off is gone on with.
    let newest = listed.values().next_back().filter(|newest| newest.partial && newest.stands_alone());
    if newest.is_some_and(|newest| age_of(newest) < every) {
        return None;
    }
    let full = listed.values().rev().find(|manifest| !manifest.partial && manifest.stands_alone());
    let Some(full) = full else { return Some("there is no full backup any more".into()) };
    let age = age_of(full);
    let days = age.as_secs() / 86_400;
    (age >= every).then(|| format!("the last one, {}@{}, is {days} days old", full.job, full.id))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const DAY: u64 = 86_400;

    fn manifest(id: &str, started: &str, needs: &[&str]) -> (Id, Manifest) {
        let manifest: Manifest = serde_json::from_value(serde_json::json!({
            "format": 2, "id": id, "job": "j", "kind": "tar", "suffix": ".tar.zst", "started": started,
            "finished": started, "bytes": 1, "archive": {"size": 1, "blake3": "00"},
            "catalog": {"size": 1, "blake3": "00"}, "warnings": 0, "tool": "test", "needs": needs,
        }))
        .unwrap();
        (manifest.id.clone(), manifest)
    }

    #[test]
    fn a_full_is_due_when_the_last_one_is_as_old_as_asked_for() {
        let full = manifest("20261101T020000Z-00000001", "2026-11-01T02:00:00Z", &[]);
        let later =
            manifest("20261120T020000Z-00000002", "2026-11-20T02:00:00Z", &["20261101T020000Z-00000001"]);
        let now = "2026-11-21T02:00:00Z".parse().unwrap();
        let due = |days: Option<u64>, listed: &[(Id, Manifest)]| {
            let full_every = days.map(|days| Duration::from_secs(days * DAY));
            full_is_due(
                &Increments {
                    full: false,
                    full_every,
                    compare: super::super::Compare::Stat,
                    rebase: Rebase::default(),
                    segment: None,
                },
                &listed.iter().cloned().collect(),
                now,
            )
        };
        let both = [full.clone(), later.clone()];
        assert_eq!(due(None, &both), None);
        assert_eq!(due(Some(21), &both), None);
        let why = due(Some(20), &both).unwrap();
        assert_eq!(why, "the last one, j@20261101T020000Z-00000001, is 20 days old");
        assert_eq!(due(Some(90), &both[1..]).as_deref(), Some("there is no full backup any more"));
        // A full that broke off is gone on with, and is one when it has ended; parts of an increment are not.
        let part = |full: bool, partial: bool| {
            let (id, manifest) = later.clone();
            (id, Manifest { full, partial, ..manifest })
        };
        assert_eq!(due(Some(20), &[full.clone(), part(true, true)]), None);
        assert_eq!(due(Some(20), &[full.clone(), part(true, false)]), None);
        assert_eq!(due(Some(20), &[part(true, true)]), None);
        for other in [part(false, true), part(false, false)] {
            assert!(due(Some(20), &[full.clone(), other]).is_some());
        }
        assert!(due(Some(1), &[full.clone(), part(true, true)]).is_some(), "it is too old for that");
    }

    #[test]
    fn archives_of_which_little_is_needed_are_given_up_the_least_first_and_not_too_many_at_once() {
        let record = |n: u32, bytes: u64, live: u64| -> RefRecord {
            serde_json::from_value(serde_json::json!({
                "n": n, "id": "20261122T020000Z-1f2e3d4c", "suffix": ".tar.zst", "stored_bytes": 7, "data_len": 7,
                "head_len": 0, "codec": "zstd", "cipher": null, "frame_len": 1024, "bytes": bytes, "live": live,
            }))
            .unwrap()
        };
        let refs = [
            record(1, 1000, 249),
            record(2, 1000, 250),
            record(3, 400, 30),
            record(4, 0, 9),
            record(5, 90, 20),
        ];
        let given_up = |all, below, limit| -> Vec<u32> {
            little_needed(&refs, all, Rebase { below, limit }).iter().map(|record| record.n).collect()
        };
        assert_eq!(given_up(10_000, 0.25, 0.1), [5, 3, 1]);
        assert_eq!(given_up(2_980, 0.25, 0.1), [5, 3], "299 bytes are more than a tenth");
        assert_eq!(given_up(500, 0.25, 0.1), [5, 3]);
        assert_eq!(given_up(499, 0.25, 0.1), [5]);
        assert!(given_up(10_000, 0.0, 1.0).is_empty() && given_up(10_000, 0.25, 0.0).is_empty());
    }
}
