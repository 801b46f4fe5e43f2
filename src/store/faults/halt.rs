//! A store of this process that nobody answers any more after some requests: what it holds then is what a run leaves that
//! is killed there. And what it holds, to look at and to damage.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::sync::Notify;

use super::super::clients::Client;
use super::super::memory;
use super::turns::Turns;
use super::uploads::Open;
use super::{Faults, Faulty, Rule};
use crate::archive::testing::Random;

/// Uploads under way, by the name of the store; a kill of one run does not end them.
static OPEN: Mutex<BTreeMap<String, Arc<Mutex<Vec<Open>>>>> = Mutex::new(BTreeMap::new());

fn open_of(name: &str) -> Arc<Mutex<Vec<Open>>> {
    Arc::clone(OPEN.lock().unwrap().entry(name.into()).or_default())
}

/// The store that a name stands for, and its faults.
type Halting = BTreeMap<String, (String, Arc<Faults>)>;

static HALTING: Mutex<Halting> = Mutex::new(BTreeMap::new());

/// After how many requests nobody answers.
#[derive(Debug)]
pub(super) struct Halt {
    after: u64,
    seen: AtomicU64,
    halted: Arc<Notify>,
}

impl Halt {
    /// Counts a request, and says whether it is one that nobody answers.
    pub(super) fn is_due(&self) -> bool {
        let is_due = self.seen.fetch_add(1, Ordering::Relaxed) >= self.after;
        if is_due {
            self.halted.notify_one();
        }
        is_due
    }
}

/// Has `memory://NAME` answer so many more requests of whoever opens it from now on. The first that is not answered is
/// told.
pub(crate) fn halt(name: &str, after: u64) -> Arc<Notify> {
    halt_with(name, after, None)
}

/// [`halt`], where every request takes a while, as drawn from this seed.
pub(crate) fn halt_slowly(name: &str, after: u64, seed: u64) -> Arc<Notify> {
    halt_with(name, after, Some(Mutex::new(Random::new(seed))))
}

fn halt_with(name: &str, after: u64, slow: Option<Mutex<Random>>) -> Arc<Notify> {
    let halted = Arc::new(Notify::new());
    let halt = Some(Halt { after, seen: AtomicU64::new(0), halted: Arc::clone(&halted) });
    let faults = Arc::new(Faults { halt, slow, open: open_of(name), ..Faults::default() });
    insert(name, faults);
    halted
}

/// Has requests to `memory://NAME` fail as `rules` say, of whoever opens it from now on.
pub(crate) fn fail(name: &str, rules: Vec<Rule>) {
    let faults = Arc::new(Faults { rules, ..Faults::default() });
    HALTING.lock().unwrap().insert(name.into(), (name.into(), faults));
}

fn insert(name: &str, faults: Arc<Faults>) {
    HALTING.lock().unwrap().insert(name.into(), (name.into(), faults));
}

/// Has every request to `memory://NAME` of whoever opens it from now on take a while, as drawn from this seed. Returns what
/// comes of the requests.
pub(crate) fn slow(name: &str, seed: u64, rules: Vec<Rule>) -> Arc<Faults> {
    let slow = Some(Mutex::new(Random::new(seed)));
    let faults = Arc::new(Faults { slow, rules, open: open_of(name), ..Faults::default() });
    insert(name, Arc::clone(&faults));
    faults
}

/// Has `memory://NAME` show what whoever opens it from now on asks of it, and its uploads under way.
pub(crate) fn watch(name: &str, rules: Vec<Rule>) -> Arc<Faults> {
    let faults = Arc::new(Faults { rules, open: open_of(name), ..Faults::default() });
    insert(name, Arc::clone(&faults));
    faults
}

/// Gives a store another name, for one of several that take turns, and that may be killed after some requests.
pub(crate) fn alias(name: &str, of: &str, turns: (Arc<Turns>, usize), after: Option<u64>) -> Arc<Notify> {
    let halted = Arc::new(Notify::new());
    let halt = after.map(|after| Halt { after, seen: AtomicU64::new(0), halted: Arc::clone(&halted) });
    let faults = Arc::new(Faults { halt, turns: Some(turns), ..Faults::default() });
    HALTING.lock().unwrap().insert(name.into(), (of.into(), faults));
    halted
}

/// Has it answer whoever opens it from now on; returns how many requests there were until then.
pub(crate) fn go_on(name: &str) -> u64 {
    let faults = HALTING.lock().unwrap().remove(name).map(|(_, faults)| faults);
    faults.and_then(|faults| Some(faults.halt.as_ref()?.seen.load(Ordering::Relaxed))).unwrap_or_default()
}

/// The client of a store that is to halt.
pub(in super::super) fn client(name: Option<&str>) -> Option<Client> {
    let (of, faults) = HALTING.lock().unwrap().get(name?).cloned()?;
    Some(Faulty { inner: memory::shared(Some(&of)), faults }.client())
}

/// All that `memory://NAME` holds, by key.
pub(crate) async fn objects(name: &str) -> BTreeMap<String, Bytes> {
    let (store, mut objects) = (memory::shared(Some(name)), BTreeMap::new());
    for meta in store.list(None).try_collect::<Vec<_>>().await.unwrap() {
        let bytes = store.get(&meta.location).await.unwrap().bytes().await.unwrap();
        objects.insert(meta.location.to_string(), bytes);
    }
    objects
}

/// Puts another object in the place of one, or none.
pub(crate) async fn replace(name: &str, key: &str, by: Option<Bytes>) {
    let (store, key) = (memory::shared(Some(name)), Path::from(key));
    match by {
        Some(bytes) => drop(store.put(&key, bytes.into()).await.unwrap()),
        None => store.delete(&key).await.unwrap(),
    }
}
