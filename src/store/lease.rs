//! The lease of a run under way: small plain JSON in a job's folder that keeps a second run of the job from beginning.
//!
//! `ID.running-K.json`, with the id that the run's archive will have; the next K renews it. Each is written once and
//! nothing is overwritten, so that keys that may not delete and stores with object lock can have them: the manifest of the
//! run, or its failure record, marks its end as well as deleting them does. How long ago one was renewed is told by the
//! store's own times, and who comes first is settled by [`verdict`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use super::{Store, failed, json, manifest};
use crate::archive::Id;
use crate::error::{Error, Result};
use crate::host::name::host_name;
use crate::host::process::ProcessName;

/// For how long a run that is not heard of again holds its job.
pub const LASTS: Duration = Duration::from_secs(600);
/// How often it is renewed.
pub const RENEWED: Duration = Duration::from_secs(200);

const INFIX: &str = ".running-";
const SUFFIX: &str = ".json";
const FORMAT: u32 = 1;
const WHAT: &str = "lease";

/// The fields of a lease; `self`, a SHA-256 of the text before it, is added when it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Version of the object.
    pub format: u32,
    /// The host it runs on, where its name is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The process.
    pub process: ProcessName,
    /// When the run began.
    pub started: jiff::Timestamp,
    /// When the lease ends, by that host's clock.
    pub expires: jiff::Timestamp,
    /// For how many seconds it holds from when the store took it.
    pub seconds: u64,
    /// What wrote it.
    pub tool: String,
}

impl Lease {
    /// A lease of this process, from now.
    pub fn new(started: jiff::Timestamp) -> Self {
        let lasts = jiff::SignedDuration::try_from(LASTS).unwrap_or_default();
        Lease {
            format: FORMAT,
            host: host_name(),
            process: ProcessName::own(),
            started,
            expires: jiff::Timestamp::now().saturating_add(lasts).unwrap_or(jiff::Timestamp::MAX),
            seconds: LASTS.as_secs(),
            tool: concat!("sealift ", env!("CARGO_PKG_VERSION")).into(),
        }
    }
}

/// The name of a run's lease behind the run's id.
pub(super) fn suffix(renewed: u32) -> String {
    format!("{INFIX}{renewed}{SUFFIX}")
}

/// The run that a lease of this name is of, and how often it was renewed.
pub(super) fn parse(name: &str) -> Option<(Id, u32)> {
    let (id, renewed) = name.strip_suffix(SUFFIX)?.split_once(INFIX)?;
    let (id, renewed): (Id, u32) = (id.parse().ok()?, renewed.parse().ok()?);
    (name == format!("{id}{}", suffix(renewed))).then_some((id, renewed))
}

/// A run that holds the job.
#[derive(Debug, Clone)]
pub struct Holder {
    /// The id of its archive to be.
    pub id: Id,
    /// What its lease says; none where that cannot be read.
    pub lease: Option<Lease>,
    /// How often it was renewed.
    pub renewed: u32,
    /// Whether the store took it at a time that is yet to come: a clock was ahead, and whether it has ended is only seen by
    /// watching whether it is renewed.
    pub is_ahead: bool,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "run {}", self.id)?;
        match &self.lease {
            None => Ok(()),
            Some(Lease { host, process, .. }) => {
                let host = host.as_deref().unwrap_or("another host");
                write!(f, " of process {} on {host}", process.pid)
            }
        }
    }
}

/// The runs of a job, by what lies in its folder.
#[derive(Debug, Default)]
pub struct Runs {
    /// The newest archive.
    pub newest: Option<Id>,
    /// The latest lease of each run that has no end mark, and when the store took it.
    open: BTreeMap<Id, (u32, jiff::Timestamp)>,
}

impl Runs {
    /// What a list tells.
    pub(super) fn of<'a>(metas: impl IntoIterator<Item = &'a ObjectMeta>) -> Self {
        let (mut newest, mut ended, mut open) = (None::<Id>, BTreeSet::new(), BTreeMap::new());
        for meta in metas {
            let name = meta.location.filename().unwrap_or_default();
            if let Some(id) = name.strip_suffix(manifest::SUFFIX).and_then(|id| id.parse::<Id>().ok()) {
                if id.time().is_some() {
                    newest = newest.max(Some(id.clone()));
                }
                ended.insert(id);
            } else if let Some(id) = failed::parse(name) {
                ended.insert(id);
            } else if let Some((id, renewed)) = parse(name) {
                let here = (renewed, time_of(meta));
                let known = open.entry(id).or_insert(here);
                *known = here.max(*known);
            }
        }
        open.retain(|id, _| !ended.contains(id));
        Runs { newest, open }
    }

    /// The runs that have a lease and no end mark, whether it has ended or not.
    pub fn with_lease(&self) -> impl Iterator<Item = &Id> {
        self.open.keys()
    }

    /// When the store took this run's latest lease.
    pub fn taken(&self, id: &Id) -> Option<jiff::Timestamp> {
        self.open.get(id).map(|(_, taken)| *taken)
    }
}

impl Store {
    /// The runs of a job.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn runs(&self, job: &str) -> Result<Runs> {
        let listed = self.down.list_with_delimiter(Some(&self.below(job))).await;
        Ok(Runs::of(&listed.map_err(|e| self.explain("listing", e))?.objects))
    }

    /// Writes a run's lease, or renews it.
    ///
    /// # Errors
    /// The store does not take it.
    pub async fn put_lease(&self, job: &str, id: &Id, renewed: u32, lease: &Lease) -> Result<()> {
        let key = self.key(job, id, &suffix(renewed));
        match self.put_absent(&key, &json::to_text(lease, WHAT)?.into()).await {
            // Ids are drawn: it is ours, and its first answer was lost.
            Ok(()) | Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
            Err(error) => Err(self.explain("writing the lease", error)),
        }
    }

    /// Ends a lease.
    ///
    /// # Errors
    /// It was not deleted: the key may be one that may not.
    pub async fn drop_lease(&self, job: &str, id: &Id, renewed: u32) -> Result<()> {
        let key: Path = self.key(job, id, &suffix(renewed));
        match self.down.delete(&key).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.explain("deleting the lease", error)),
        }
    }

    /// Those of `runs` whose lease holds at `now`, as the store counts time. `is_gone` knows of processes that are no more.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn holders(
        &self,
        job: &str,
        runs: &Runs,
        now: jiff::Timestamp,
        is_gone: impl Fn(&Id, &Lease) -> bool,
    ) -> Result<Vec<Holder>> {
        let mut holders = Vec::new();
        for (id, &(renewed, taken)) in &runs.open {
            let holder = |lease, is_ahead| Holder { id: id.clone(), lease, renewed, is_ahead };
            let key = self.key(job, id, &suffix(renewed));
            let read = self.small(&key, "a lease", |text| json::from_text::<Lease>(text, WHAT)).await;
            let lease = match read {
                // Ended since it was listed, or renewed, by whom it is held then.
                Ok(None) if self.may_read() => match self.runs(job).await?.open.contains_key(id) {
                    true => {
                        holders.push(holder(None, false));
                        continue;
                    }
                    false => continue,
                },
                Ok(lease) => lease,
                // Whoever cannot read it, or finds it damaged, knows its age.
                Err(error) if error.kind() == crate::error::Kind::Damaged || !self.may_read() => None,
                Err(error) => return Err(error),
            };
            let lasts = lease.as_ref().map_or(LASTS, |lease| Duration::from_secs(lease.seconds.min(86_400)));
            let age = Duration::try_from(now.duration_since(taken)).unwrap_or_default();
            if age < lasts && !lease.as_ref().is_some_and(|lease| is_gone(id, lease)) {
                let ahead = Duration::try_from(taken.duration_since(now)).unwrap_or_default();
                holders.push(holder(lease, ahead > LASTS));
            }
        }
        Ok(holders)
    }
}

/// When a store took an object.
pub(super) fn time_of(meta: &ObjectMeta) -> jiff::Timestamp {
    let nanoseconds = meta.last_modified.timestamp_nanos_opt().unwrap_or_default();
    jiff::Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or_default()
}

/// What is to be done where other runs of the job hold it, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody does.
    GoOn,
    /// Only later ones do: they end, or have begun before ours was written.
    WaitForThem,
    /// Somebody came first.
    End,
}

/// Two runs that begin together both write their lease, and only then look for others'. Whoever sees no other goes on.
/// Otherwise the smaller id waits for the larger ones to end, which they do when they see it; one that does not has gone on
/// before. So two never go on, and where several begin together, one does.
pub fn verdict(own: &Id, others: &[Holder]) -> Verdict {
    match others.iter().map(|other| &other.id).min() {
        None => Verdict::GoOn,
        Some(first) if first < own => Verdict::End,
        Some(_) => Verdict::WaitForThem,
    }
}

/// The error of a run that ends because another holds the job.
pub fn is_held(job: &str, store: &str, holder: &Holder) -> Error {
    Error::new(crate::error::Kind::Locked, format!("{job} is being backed up already: {holder}, at {store}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreOptions;

    const ID: &str = "20261122T020000Z-1f2e3d4c";
    const OTHER: &str = "20261122T020001Z-1f2e3d4c";

    #[test]
    fn a_name_reads_back_and_nothing_else_does() {
        let id: Id = ID.parse().unwrap();
        assert_eq!(parse(&format!("{ID}{}", suffix(7))), Some((id, 7)));
        for name in
            [".running-07.json", ".running-x.json", ".running-.json", ".running-7", ".running-7.json.x"]
        {
            assert_eq!(parse(&format!("{ID}{name}")), None, "{name}");
        }
    }

    #[tokio::test]
    async fn a_run_holds_its_job_until_its_lease_has_ended_or_something_marks_its_end() {
        let store = Store::open("memory://lease", &StoreOptions::default()).unwrap();
        let id: Id = ID.parse().unwrap();
        let lease = Lease::new(jiff::Timestamp::now());
        let holders = async |later: i64, is_gone: bool| {
            let runs = store.runs("db").await.unwrap();
            let now = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(later);
            store.holders("db", &runs, now, |_, _| is_gone).await.unwrap().len()
        };
        assert_eq!(holders(0, false).await, 0);
        store.put_lease("db", &id, 0, &lease).await.unwrap();
        store.put_lease("db", &id, 1, &lease).await.unwrap();
        assert_eq!((holders(0, false).await, holders(595, false).await), (1, 1));
        assert_eq!((holders(601, false).await, holders(0, true).await), (0, 0));
        assert!(store.passed_over() == 0 && store.unfinished(None).await.unwrap().is_empty());
        let failure = failed::Failure::of(&Error::interrupted(), str::to_string);
        store.put_failure("db", &id, &failure).await.unwrap();
        assert_eq!(holders(0, false).await, 0, "where leases cannot be deleted");
    }

    #[tokio::test]
    async fn a_lease_that_is_renewed_while_it_is_looked_at_holds() {
        let store = Store::open("memory://lease-renewed", &StoreOptions::default()).unwrap();
        let (id, lease) = (ID.parse::<Id>().unwrap(), Lease::new(jiff::Timestamp::now()));
        store.put_lease("db", &id, 0, &lease).await.unwrap();
        let before = store.runs("db").await.unwrap();
        let held = async || {
            let now = jiff::Timestamp::now();
            store.holders("db", &before, now, |_, _| false).await.unwrap().len()
        };
        store.put_lease("db", &id, 1, &lease).await.unwrap();
        store.drop_lease("db", &id, 0).await.unwrap();
        assert_eq!(held().await, 1);
        store.drop_lease("db", &id, 1).await.unwrap();
        assert_eq!(held().await, 0);
    }

    #[tokio::test]
    async fn deleting_the_lease_ends_it_and_so_does_a_manifest() {
        let store = Store::open("memory://lease-ends", &StoreOptions::default()).unwrap();
        let (id, lease) = (ID.parse::<Id>().unwrap(), Lease::new(jiff::Timestamp::now()));
        for end in [true, false] {
            store.put_lease("db", &id, 0, &lease).await.unwrap();
            assert_eq!(store.runs("db").await.unwrap().with_lease().count(), 1);
            match end {
                true => store.drop_lease("db", &id, 0).await.unwrap(),
                false => {
                    let manifest =
                        manifest::Manifest { id: id.clone(), job: "db".into(), ..manifest::example() };
                    store.put_manifest(&manifest).await.unwrap();
                }
            }
            assert_eq!(store.runs("db").await.unwrap().with_lease().count(), 0);
        }
    }

    #[test]
    fn the_smaller_id_waits_the_larger_one_ends() {
        let [small, large]: [Id; 2] = [ID, OTHER].map(|id| id.parse().unwrap());
        let holder = |id: &Id| Holder { id: id.clone(), lease: None, renewed: 0, is_ahead: false };
        assert_eq!(verdict(&small, &[]), Verdict::GoOn);
        assert_eq!(verdict(&small, &[holder(&large)]), Verdict::WaitForThem);
        assert_eq!(verdict(&large, &[holder(&small)]), Verdict::End);
    }
}
