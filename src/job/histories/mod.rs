//! Sources that change at random, night by night: after every night each backup that is listed comes back as its source
//! was, by us and by plain tools; and so it is when runs are killed.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "sources and what is restored lie on the disk"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::Outcome;
use super::backup::{Compare, Increments, Made, Rebase, backup};
use super::request::tests::request;
use super::request::{BackupRequest, Task};
use super::restore::{RestoreRequest, RestoreSource, restore};
use super::stored::{ArchiveRef, OpenRequest};
use super::version::Version;
use crate::archive::Id;
use crate::archive::testing::Random;
use crate::error::Result;
use crate::host::passphrase::Sources;
use crate::report::Reporter;
use crate::sink::target::RestoreTarget;
use crate::source::Source;
use crate::store::StoreUrl;
use crate::store::faults::halt;
use crate::store::list::Listed;
use tree::{Snapshot, Tree, difference, snapshot, without_folder_times};

mod by_hand;
mod damage;
mod tree;

const JOB: &str = "j";
/// Longer than a file's times must lie before a backup for the next one to trust them.
const SETTLE: Duration = Duration::from_millis(3_100);
/// The most nights that a history has.
const NIGHTS: usize = 12;

/// What happens to runs and to what they leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mishaps {
    None,
    /// A run is killed between two requests to the store.
    Kills,
    /// An object is deleted, or a byte of it is flipped.
    Damage,
    /// The source is copied before each backup, so that all inode numbers and times of change are new.
    Copies,
}

/// A source, its store and what it was like when it was backed up.
struct History {
    seed: u64,
    dir: tempfile::TempDir,
    tree: Tree,
    random: Random,
    nights: usize,
    rebase: Rebase,
    /// Runs commit each time that so many bytes were read.
    segment: Option<u64>,
    /// What each backup that is listed must bring back.
    listed: BTreeMap<Id, Snapshot>,
    /// Those that do not come back, for they were damaged.
    broken: BTreeSet<Id>,
    /// Archives with a byte that is another: plain tools come no further than there.
    flipped: BTreeSet<Id>,
    /// Whether something was damaged since the last backup.
    is_damaged: bool,
    told: Told,
}

/// What happened in histories.
#[derive(Default)]
struct Told {
    nights: u64,
    /// Backups that need older archives.
    increments: u64,
    /// Nights that plain tools brought back.
    by_hand: u64,
    /// Partial archives of runs that commit as they go.
    parts: u64,
    killed: u64,
    /// Of the killed ones, those that are listed.
    committed: u64,
    /// Restores of some members where others are lost, and how many those were.
    partial: u64,
    left_out: u64,
}

impl History {
    fn new(seed: u64, within: &Path) -> History {
        let dir = tempfile::tempdir_in(within).unwrap();
        let mut random = Random::new(seed);
        let tree = Tree::new(dir.path().join("s"), Random::new(seed.wrapping_add(1 << 32)));
        let nights = 2 + random.below(4) + if random.one_in(8) { random.below(NIGHTS - 5) } else { 0 };
        let eager = Rebase { below: 0.8, limit: 1.0 };
        let rebase = if random.one_in(2) { eager } else { Rebase::default() };
        History {
            seed,
            dir,
            tree,
            random,
            nights,
            rebase,
            segment: None,
            listed: BTreeMap::new(),
            broken: BTreeSet::new(),
            flipped: BTreeSet::new(),
            is_damaged: false,
            told: Told::default(),
        }
    }

    fn source(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    fn store(&self) -> String {
        format!("history-{}", self.seed)
    }

    /// Backs up, and looks at what is listed then.
    fn night(&mut self, mishaps: Mishaps) {
        // What is done just before a backup is seen by the next one.
        if self.random.one_in(4) {
            self.tree.change();
        }
        if mishaps == Mishaps::Copies {
            self.tree.copy_anew();
        }
        let is = snapshot(&self.source());
        // A run of many segments makes more requests.
        let requests = if self.random.one_in(2) { 30 } else { 200 };
        self.segment = self.random.one_in(2).then(|| 1 + self.random.below(8_000) as u64);
        let killed_after =
            (mishaps == Mishaps::Kills && self.random.one_in(2)).then(|| self.random.below(requests) as u64);
        self.told.nights += 1;
        let compare = if mishaps == Mishaps::Copies { Compare::Content } else { Compare::Stat };
        let made = self.back_up(compare, killed_after);
        let is_killed = made.is_none();
        if let Some(made) = made {
            let made = made.unwrap_or_else(|error| panic!("history {}: {error:?}", self.seed));
            assert!(made.outcome == Outcome::Done || self.is_damaged, "{}: {:?}", self.seed, made.outcome);
        }
        if self.random.one_in(4) {
            self.tree.change();
        }
        let listed = self.list();
        let new: Vec<_> = listed.iter().filter(|(id, _)| !self.listed.contains_key(id)).collect();
        assert!(new.len() == 1 || is_killed && new.is_empty(), "history {}: {new:?}", self.seed);
        self.told.killed += u64::from(is_killed);
        for (id, needs) in new {
            // A flip that nobody could see is no reason to read anything again.
            let by_hand = needs.iter().all(|id| !self.flipped.contains(id));
            self.told.by_hand += u64::from(by_hand);
            self.told.increments += u64::from(!needs.is_empty());
            self.told.committed += u64::from(is_killed);
            self.listed.insert(id.clone(), is.clone());
            self.comes_back(id, by_hand);
        }
        assert_eq!(listed.len(), self.listed.len(), "history {}", self.seed);
        self.is_damaged = mishaps == Mishaps::Damage && self.random.one_in(2);
        if self.is_damaged {
            self.damage();
        }
    }

    /// One backup; none that is killed after some requests.
    fn back_up(&self, compare: Compare, killed_after: Option<u64>) -> Option<Result<Made>> {
        let (rebase, segment) = (self.rebase, self.segment);
        let increments = Some(Increments { full: false, full_every: None, compare, rebase, segment });
        let mut made = BackupRequest {
            job: Some(JOB.into()),
            increments,
            host: Some("h".into()),
            ..request(&[&format!("memory://{}", self.store())])
        };
        // Members lie over the ends of frames.
        made.budget.frame_len = 4096;
        let source = Source::Path(vec![self.source().to_str().unwrap().into()]);
        let halted = killed_after.map(|after| halt::halt(&self.store(), after));
        let killed = async {
            match halted {
                Some(halted) => halted.notified().await,
                None => std::future::pending().await,
            }
        };
        let (ui, cancel) = (Reporter::silent(), CancellationToken::new());
        let runtime = runtime();
        let made = runtime.block_on(async {
            tokio::select! {
                made = backup(Task::new(source, made), &ui, &cancel) => Some(made),
                () = killed => None,
            }
        });
        runtime.shutdown_background();
        halt::go_on(&self.store());
        made
    }

    /// The backups that are listed, and the older ones that each needs.
    fn list(&self) -> Vec<(Id, Vec<Id>)> {
        let store = StoreUrl::new(format!("memory://{}", self.store())).open(&Reporter::silent()).unwrap();
        let listed = runtime().block_on(store.archives(Some(JOB))).unwrap();
        let is_shown = |listed: &Listed| !listed.is_partial() && !self.broken.contains(&listed.id);
        let listed = listed.into_iter().filter(is_shown);
        listed.filter_map(|listed| Some((listed.id, listed.manifest.ok()?.needs))).collect()
    }

    /// How many partial archives there are.
    fn parts(&self) -> u64 {
        let store = StoreUrl::new(format!("memory://{}", self.store())).open(&Reporter::silent()).unwrap();
        let listed = runtime().block_on(store.archives(Some(JOB))).unwrap();
        listed.iter().filter(|listed| listed.is_partial()).count() as u64
    }

    /// A backup comes back as its source was, by us and by hand.
    fn comes_back(&self, id: &Id, by_hand: bool) {
        let should = &self.listed[id];
        let out = self.dir.path().join("out");
        std::fs::create_dir(&out).unwrap();
        self.restore(id, &out).unwrap_or_else(|error| panic!("history {}: {id}: {error:?}", self.seed));
        self.is(&out, should, id, "restored");
        if !by_hand {
            return;
        }
        let objects = runtime().block_on(halt::objects(&self.store()));
        by_hand::restore(&objects, JOB, id.as_str(), self.dir.path(), &out);
        self.is(&out, &without_folder_times(should), id, "by hand");
    }

    fn restore(&self, id: &Id, out: &Path) -> Result<Outcome> {
        let request = self.restore_request(id, out);
        runtime().block_on(restore(request, &Reporter::silent(), &CancellationToken::new()))
    }

    fn open_request(&self) -> OpenRequest {
        OpenRequest {
            store: StoreUrl::new(format!("memory://{}", self.store())),
            passphrase: Sources::default(),
            no_encrypt: true,
        }
    }

    fn restore_request(&self, id: &Id, out: &Path) -> RestoreRequest {
        let source = RestoreSource::Archive(archive(id));
        RestoreRequest::new(source, RestoreTarget::Path(out.into()), self.open_request())
    }

    /// Where the source's files are in what was restored.
    fn below(&self, out: &Path) -> PathBuf {
        out.join(self.source().strip_prefix("/").unwrap())
    }

    /// What is in `out` is what should be there; then it is removed.
    fn is(&self, out: &Path, should: &Snapshot, id: &Id, how: &str) {
        let mut is = snapshot(&self.below(out));
        if how == "by hand" {
            is = without_folder_times(&is);
        }
        let differ = difference(&is, should);
        assert!(
            differ.is_empty(),
            "history {}, {how}, {id} of {:?}: {differ:#?}",
            self.seed,
            self.listed.keys()
        );
        std::fs::remove_dir_all(out).unwrap();
    }
}

fn archive(id: &Id) -> ArchiveRef {
    ArchiveRef { job: JOB.into(), version: Version::Id(id.clone()) }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Goes through the nights of many histories side by side, so that all wait at once for times to settle.
fn go_through(seeds: std::ops::Range<u64>, mishaps: Mishaps) -> Told {
    let within = tempfile::tempdir().unwrap();
    let histories: Vec<_> = seeds.map(|seed| Mutex::new(History::new(seed, within.path()))).collect();
    for night in 0..NIGHTS {
        let at_hand: Vec<_> =
            histories.iter().filter(|history| history.lock().unwrap().nights > night).collect();
        at_hand.iter().for_each(|history| history.lock().unwrap().tree.change());
        if mishaps != Mishaps::Copies {
            std::thread::sleep(SETTLE);
        }
        let next = Mutex::new(at_hand.iter());
        let workers = std::thread::available_parallelism().map_or(2, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    loop {
                        let Some(history) = next.lock().unwrap().next() else { return };
                        history.lock().unwrap().night(mishaps);
                    }
                });
            }
        });
    }
    let mut all = Told::default();
    for history in histories {
        let history = history.into_inner().unwrap();
        history.listed.keys().for_each(|id| history.comes_back(id, mishaps != Mishaps::Damage));
        let Told { nights, increments, by_hand, parts: _, killed, committed, partial, left_out } =
            history.told;
        all.parts += history.parts();
        all.by_hand += by_hand;
        all.nights += nights;
        all.increments += increments;
        all.killed += killed;
        all.committed += committed;
        all.partial += partial;
        all.left_out += left_out;
    }
    all
}

/// As many histories as are asked for by the environment, or some.
fn count() -> u64 {
    std::env::var("SEALIFT_TEST_HISTORIES").ok().map_or(340, |text| text.parse().unwrap())
}

#[test]
fn every_night_comes_back_as_it_was_by_us_and_by_plain_tools() {
    let told = go_through(0..count(), Mishaps::None);
    let Told { nights, increments, parts, killed, .. } = told;
    assert!(increments > nights / 2 && parts > nights / 2 && killed == 0, "{nights} {increments} {parts}");
}

#[test]
fn what_is_listed_comes_back_whenever_runs_are_killed() {
    let told = go_through(1_000_000..1_000_000 + count(), Mishaps::Kills);
    let Told { nights, increments, parts, killed, committed, .. } = told;
    assert!(parts > nights / 2, "{nights} {parts}");
    assert!(
        // A run that is killed and yet lists its archive is rare: of a few histories there may be none.
        increments > nights / 4 && killed > nights / 8 && (committed > 0 || count() < 100),
        "{nights} {increments} {killed} {committed}"
    );
}

#[test]
fn what_is_damaged_is_named_nothing_else_is_lost_and_the_next_night_heals() {
    let told = go_through(2_000_000..2_000_000 + count(), Mishaps::Damage);
    let Told { nights, increments, by_hand, partial, left_out, .. } = told;
    assert!(
        increments > nights / 4 && by_hand > nights * 3 / 4 && partial > nights / 20 && left_out > partial,
        "{nights} {increments} {by_hand} {partial} {left_out}"
    );
}

#[test]
fn a_source_that_is_copied_anew_each_night_comes_back_as_it_was_and_is_not_stored_anew() {
    let told = go_through(3_000_000..3_000_000 + count(), Mishaps::Copies);
    let Told { nights, increments, by_hand, .. } = told;
    assert!(increments > nights / 2 && by_hand == nights, "{nights} {increments} {by_hand}");
}
