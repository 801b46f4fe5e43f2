//! One run of a job at a time: a run holds the job by a lease in each of its stores ([`crate::store::lease`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::archive::Id;
use crate::error::{Error, Result};
use crate::report::Reporter;
use crate::store::Store;
use crate::store::lease::{self, Holder, Lease, Verdict, verdict};

/// How long a run that begins together with ours may take to see ours and to end.
const SETTLES: Duration = Duration::from_secs(5);
/// How often it is looked whether it has.
const LOOKED: Duration = Duration::from_millis(250);
/// How long ending a lease may take.
const ENDED: Duration = Duration::from_secs(3);
/// How long after a renewal that failed the next is tried.
const AGAIN: Duration = Duration::from_secs(30);

/// How often it is looked again whether another run has ended that is waited for.
const WAITED: Duration = Duration::from_secs(5);

/// What to do about another run.
pub(super) const HINT: &str =
    "let it end, or give --wait 2h; one that was killed on another host holds its job for 10 minutes";

/// The runs of this process.
static RUNNING: Mutex<BTreeSet<Id>> = Mutex::new(BTreeSet::new());

/// How a run regards others of its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OneAtATime {
    /// Neither looks for others nor shows itself to them.
    pub off: bool,
    /// How long it waits for another to end.
    pub wait: Duration,
}

/// The lease of a run. It ends with it, also where it is merely dropped: then the process is known to hold it no more.
pub(super) struct RunLease {
    job: String,
    entry: Running,
    started: jiff::Timestamp,
    /// Where it was written, or may have been.
    stores: Vec<Arc<Store>>,
    /// How often it was renewed.
    renewed: Arc<AtomicU32>,
    stop: CancellationToken,
    renewing: Option<JoinHandle<()>>,
}

/// The id of a run of this process, as long as it goes on.
struct Running(Id);

impl Running {
    fn new(id: &Id) -> Self {
        running().insert(id.clone());
        Running(id.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        running().remove(&self.0);
    }
}

impl RunLease {
    pub(super) fn new(job: &str, id: &Id, started: jiff::Timestamp) -> Self {
        let (renewed, stop) = (Arc::default(), CancellationToken::new());
        RunLease {
            job: job.into(),
            entry: Running::new(id),
            started,
            stores: Vec::new(),
            renewed,
            stop,
            renewing: None,
        }
    }

    /// Writes the lease to these stores, and sees that nobody else has one.
    ///
    /// # Errors
    /// [`Kind::Locked`](crate::error::Kind::Locked): another run holds the job. The lease is still to be ended.
    pub(super) async fn take(&mut self, stores: &[Arc<Store>], ui: &Reporter) -> Result<()> {
        self.stores = stores.to_vec();
        let lease = Lease::new(self.started);
        let puts = stores.iter().map(|store| store.put_lease(&self.job, &self.entry.0, 0, &lease));
        let puts = join_all(puts).await;
        let mut held = Vec::new();
        for (store, put) in stores.iter().zip(puts) {
            match put {
                Ok(()) => held.push(Arc::clone(store)),
                Err(error) => {
                    ui.detail(&format!("a second run of {} would not see this one: {error}", self.job))
                }
            }
        }
        // Another run's may be watched for longer than one of ours lasts.
        self.renew(held.clone());
        // Where ours could not be written, another one's may be there.
        self.is_alone(stores, ui).await?;
        self.stores = held;
        Ok(())
    }

    async fn is_alone(&self, stores: &[Arc<Store>], ui: &Reporter) -> Result<()> {
        let (mut watched, mut waiting) = (Watched::default(), None);
        loop {
            let (mut waits, mut watches) = (None, false);
            for store in stores {
                let mut others = match self.others(store).await {
                    Ok(others) => others,
                    Err(error) => {
                        ui.detail(&format!("other runs of {} would not be seen: {error}", self.job));
                        continue;
                    }
                };
                let (unsure, gone) = watched.sort_out(store, &mut others, ui);
                for holder in gone {
                    let _ = store.drop_lease(&self.job, &holder.id, holder.renewed).await;
                }
                watches |= unsure;
                let Some(first) = others.iter().min_by_key(|other| &other.id) else { continue };
                let error = lease::is_held(&self.job, &store.name, first);
                match verdict(&self.entry.0, &others) {
                    Verdict::GoOn => {}
                    Verdict::End => return Err(error),
                    Verdict::WaitForThem => waits = Some(error),
                }
            }
            match (waits, watches) {
                (None, false) => return Ok(()),
                (None, true) => {
                    waiting = None;
                    sleep(WAITED).await;
                }
                (Some(error), _) if waiting.get_or_insert_with(Instant::now).elapsed() >= SETTLES => {
                    return Err(error);
                }
                (Some(_), _) => sleep(LOOKED).await,
            }
        }
    }

    async fn others(&self, store: &Store) -> Result<Vec<Holder>> {
        let runs = store.runs(&self.job).await?;
        // What the store says of our own is its clock.
        let now = runs.taken(&self.entry.0).unwrap_or_else(jiff::Timestamp::now);
        let mut holders = store.holders(&self.job, &runs, now, is_gone).await?;
        holders.retain(|holder| holder.id != self.entry.0);
        Ok(holders)
    }

    /// Goes on under the id of the next archive, before the one of this id is there: its manifest marks the end of a run.
    pub(super) async fn go_on_as(&mut self, id: &Id, ui: &Reporter) {
        // Whatever is broken off here: it ends with this.
        let next = Running::new(id);
        let lease = Lease::new(self.started);
        let puts = self.stores.iter().map(|store| store.put_lease(&self.job, id, 0, &lease));
        for error in join_all(puts).await.into_iter().filter_map(Result::err) {
            ui.detail(&format!("a second run of {} would not see this one: {error}", self.job));
        }
        self.end_renewing().await;
        self.drop_all(ui).await;
        self.entry = next;
        (self.renewed, self.stop) = (Arc::default(), CancellationToken::new());
        self.renew(self.stores.clone());
    }

    fn renew(&mut self, stores: Vec<Arc<Store>>) {
        let (job, id, started) = (self.job.clone(), self.entry.0.clone(), self.started);
        let (renewed, stop) = (Arc::clone(&self.renewed), self.stop.clone());
        self.renewing = Some(tokio::spawn(async move {
            let mut pause = lease::RENEWED;
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = sleep(pause) => {}
                }
                let (before, lease) = (renewed.fetch_add(1, Ordering::Relaxed), Lease::new(started));
                let renewals = stores.iter().map(|store| async {
                    store.put_lease(&job, &id, before + 1, &lease).await?;
                    // A key that may not delete leaves it: its successor counts.
                    let _ = store.drop_lease(&job, &id, before).await;
                    Ok::<_, Error>(())
                });
                let failed = tokio::select! {
                    () = stop.cancelled() => return,
                    done = join_all(renewals) => done.iter().any(Result::is_err),
                };
                pause = if failed { AGAIN } else { lease::RENEWED };
            }
        }));
    }

    /// Ends it; whether it is gone everywhere. A store that does not delete it sees the end by the run's manifest or failure
    /// record.
    pub(super) async fn end(mut self, ui: &Reporter) -> bool {
        self.end_renewing().await;
        self.drop_all(ui).await
    }

    async fn end_renewing(&mut self) {
        self.stop.cancel();
        if let Some(renewing) = self.renewing.take() {
            let _ = renewing.await;
        }
    }

    /// Deletes what was written under its id; whether all of it is gone.
    async fn drop_all(&self, ui: &Reporter) -> bool {
        let renewed = self.renewed.load(Ordering::Relaxed);
        let ends = self.stores.iter().map(|store| async move {
            // The one before may be there where the latest renewal was broken off.
            for renewed in renewed.saturating_sub(1)..=renewed {
                store.drop_lease(&self.job, &self.entry.0, renewed).await?;
            }
            Ok::<_, Error>(())
        });
        let late = |_| vec![Err(Error::failed("the store does not answer"))];
        let ended = tokio::time::timeout(ENDED, join_all(ends)).await.unwrap_or_else(late);
        for error in ended.iter().filter_map(|ended| ended.as_ref().err()) {
            ui.detail(&format!("the lease of {}@{} stays: {error}", self.job, self.entry.0));
        }
        ended.iter().all(Result::is_ok)
    }
}

impl Drop for RunLease {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Leases of times that are yet to come, by store and run: how often each had been renewed when it was first seen, and when
/// that was.
#[derive(Default)]
struct Watched(BTreeMap<(String, Id), (u32, Instant)>);

impl Watched {
    /// Takes out of a store's `holders` those with such a lease that nobody is known to renew. Returns whether one is still
    /// to be watched, and those that have been for as long as a lease lasts: they hold nothing.
    fn sort_out(&mut self, store: &Store, holders: &mut Vec<Holder>, ui: &Reporter) -> (bool, Vec<Holder>) {
        let (mut unsure, mut gone) = (false, Vec::new());
        holders.retain(|holder| {
            let known = (store.name.clone(), holder.id.clone());
            let (renewed, since) = *self.0.entry(known).or_insert_with(|| {
                if holder.is_ahead {
                    ui.note(&format!(
                        "{holder} has a lease of a time that is yet to come, at {}: waiting up to 10 minutes whether it is \
                         renewed",
                        store.name
                    ));
                }
                (holder.renewed, Instant::now())
            });
            if !holder.is_ahead || holder.renewed > renewed {
                return true;
            }
            match since.elapsed() >= lease::LASTS {
                true => gone.push(holder.clone()),
                false => unsure = true,
            }
            false
        });
        (unsure, gone)
    }
}

/// Waits before it is looked again whether the run that holds the job has ended.
pub(super) async fn wait_for_others(held: &Error, left: Duration, ui: &Reporter) {
    ui.detail(&format!("{held}: waiting for it"));
    sleep(WAITED.min(left)).await;
}

/// Whether whoever wrote a lease is no more: a process that has ended, or a run of this process that has.
pub(super) fn is_gone(id: &Id, lease: &Lease) -> bool {
    match lease.process.is_own() {
        true => !running().contains(id),
        false => lease.process.is_gone(),
    }
}

fn running() -> std::sync::MutexGuard<'static, BTreeSet<Id>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::manifest::{Manifest, example};

    #[tokio::test]
    async fn a_run_that_goes_on_after_its_first_archive_still_holds_its_job() {
        let store = Arc::new(Store::open("memory://lease-goes-on", &Default::default()).unwrap());
        let ids = ["20261122T020000Z-1f2e3d4c", "20261122T020001Z-1f2e3d4c"].map(|id| id.parse().unwrap());
        let [first, next]: [Id; 2] = ids;
        let ui = Reporter::silent();
        let mut lease = RunLease::new("db", &first, jiff::Timestamp::now());
        lease.take(&[Arc::clone(&store)], &ui).await.unwrap();
        lease.go_on_as(&next, &ui).await;
        let part = Manifest { id: first.clone(), partial: true, ..example() };
        store.put_manifest(&part).await.unwrap();
        let runs = store.runs("db").await.unwrap();
        assert_eq!(runs.with_lease().collect::<Vec<_>>(), [&next]);
        let holders = store.holders("db", &runs, jiff::Timestamp::now(), is_gone).await.unwrap();
        assert_eq!(holders.iter().map(|holder| &holder.id).collect::<Vec<_>>(), [&next]);
        assert!(lease.end(&ui).await);
        assert_eq!(store.sizes("db").await.unwrap().len(), 1, "nothing of any lease is left");
    }

    /// A folder in which a run of another host has a lease, taken a day ahead of time; its first renewal is, too.
    async fn with_lease_ahead() -> (tempfile::TempDir, Arc<Store>, Id) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("file://{}", dir.path().display()), &Default::default()).unwrap();
        let id: Id = "20261122T020000Z-1f2e3d4c".parse().unwrap();
        put_ahead(&store, dir.path(), &id, 0).await;
        (dir, Arc::new(store), id)
    }

    async fn put_ahead(store: &Store, root: &std::path::Path, id: &Id, renewed: u32) {
        let elsewhere = r#"{"pid":1,"begun":1,"boot":"another","namespace":"another"}"#;
        let process = serde_json::from_str(elsewhere).unwrap();
        let lease = Lease { process, ..Lease::new(jiff::Timestamp::now()) };
        store.put_lease("db", id, renewed, &lease).await.unwrap();
        let file = root.join(format!("db/{id}.running-{renewed}.json"));
        let touched = std::process::Command::new("touch").args(["-d", "1 day"]).arg(file).status();
        assert!(touched.unwrap().success());
    }

    const LATER: &str = "20261122T020001Z-1f2e3d4c";

    #[tokio::test(start_paused = true)]
    async fn a_dead_lease_of_a_time_to_come_holds_the_job_no_longer_than_another() {
        let (_dir, store, _) = with_lease_ahead().await;
        let mut lease = RunLease::new("db", &LATER.parse().unwrap(), jiff::Timestamp::now());
        let began = Instant::now();
        lease.take(&[Arc::clone(&store)], &Reporter::silent()).await.unwrap();
        assert!(began.elapsed() >= lease::LASTS && began.elapsed() < lease::LASTS * 2);
        assert!(lease.end(&Reporter::silent()).await);
        assert!(store.sizes("db").await.unwrap().is_empty(), "the next run need not wait");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_of_a_time_to_come_that_is_renewed_holds_the_job() {
        let (dir, store, id) = with_lease_ahead().await;
        let mut lease = RunLease::new("db", &LATER.parse().unwrap(), jiff::Timestamp::now());
        let renewal = async {
            sleep(lease::RENEWED).await;
            put_ahead(&store, dir.path(), &id, 1).await;
        };
        let (ui, stores) = (Reporter::silent(), [Arc::clone(&store)]);
        let (taken, ()) = tokio::join!(lease.take(&stores, &ui), renewal);
        assert_eq!(taken.unwrap_err().kind(), crate::error::Kind::Locked);
        lease.end(&ui).await;
        assert_eq!(store.runs("db").await.unwrap().with_lease().collect::<Vec<_>>(), [&id]);
    }
}
