//! Sources that change at random, night by night: after every night each backup that is listed comes back as its source
//! was, by us and by plain tools; and so it is when runs are killed.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "sources and what is restored lie on the disk"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::Outcome;
use super::backup::{Increments, Made, backup};
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
use tree::{Snapshot, Tree, difference, snapshot, without_folder_times};

mod by_hand;
mod tree;

const JOB: &str = "j";
/// Longer than a file's times must lie before a backup for the next one to trust them.
const SETTLE: Duration = Duration::from_millis(3_100);
/// The most nights that a history has.
const NIGHTS: usize = 12;

/// A source, its store and what it was like when it was backed up.
struct History {
    seed: u64,
    dir: tempfile::TempDir,
    tree: Tree,
    random: Random,
    nights: usize,
    /// What each backup that is listed must bring back.
    listed: BTreeMap<Id, Snapshot>,
    told: Told,
}

/// What happened in histories.
#[derive(Default)]
struct Told {
    nights: u64,
    /// Backups that need older archives.
    increments: u64,
    killed: u64,
    /// Of the killed ones, those that are listed.
    committed: u64,
}

impl History {
    fn new(seed: u64, within: &Path) -> History {
        let dir = tempfile::tempdir_in(within).unwrap();
        let mut random = Random::new(seed);
        let tree = Tree::new(dir.path().join("s"), Random::new(seed.wrapping_add(1 << 32)));
        let nights = 2 + random.below(4) + if random.one_in(8) { random.below(NIGHTS - 5) } else { 0 };
        History { seed, dir, tree, random, nights, listed: BTreeMap::new(), told: Told::default() }
    }

    fn source(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    fn store(&self) -> String {
        format!("history-{}", self.seed)
    }

    /// Backs up, and looks at what is listed then.
    fn night(&mut self, kills: bool) {
        // What is done just before a backup is seen by the next one.
        if self.random.one_in(4) {
            self.tree.change();
        }
        let is = snapshot(&self.source());
        let killed_after = (kills && self.random.one_in(2)).then(|| self.random.below(30) as u64);
        self.told.nights += 1;
        let made = self.back_up(killed_after);
        let is_killed = made.is_none();
        if let Some(made) = made {
            let made = made.unwrap_or_else(|error| panic!("history {}: {error:?}", self.seed));
            assert!(made.outcome == Outcome::Done, "{}: {:?}", self.seed, made.outcome);
        }
        if self.random.one_in(4) {
            self.tree.change();
        }
        let listed = self.list();
        let new: Vec<_> = listed.iter().filter(|(id, _)| !self.listed.contains_key(id)).collect();
        assert!(new.len() == 1 || is_killed && new.is_empty(), "history {}: {new:?}", self.seed);
        self.told.killed += u64::from(is_killed);
        for (id, needs) in new {
            self.told.increments += u64::from(*needs > 0);
            self.told.committed += u64::from(is_killed);
            self.listed.insert(id.clone(), is.clone());
            self.comes_back(id);
        }
        assert_eq!(listed.len(), self.listed.len(), "history {}", self.seed);
    }

    /// One backup; none that is killed after some requests.
    fn back_up(&self, killed_after: Option<u64>) -> Option<Result<Made>> {
        let increments = Some(Increments { full: false, full_every: None });
        let made = BackupRequest {
            job: Some(JOB.into()),
            increments,
            host: Some("h".into()),
            ..request(&[&format!("memory://{}", self.store())])
        };
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

    /// The backups that are listed, and how many older ones each needs.
    fn list(&self) -> Vec<(Id, usize)> {
        let store = StoreUrl::new(format!("memory://{}", self.store())).open(&Reporter::silent()).unwrap();
        let listed = runtime().block_on(store.archives(Some(JOB))).unwrap();
        listed.into_iter().filter_map(|listed| Some((listed.id, listed.manifest.ok()?.needs.len()))).collect()
    }

    /// A backup comes back as its source was, by us and by hand.
    fn comes_back(&self, id: &Id) {
        let should = &self.listed[id];
        let out = self.dir.path().join("out");
        std::fs::create_dir(&out).unwrap();
        self.restore(id, &out).unwrap_or_else(|error| panic!("history {}: {id}: {error:?}", self.seed));
        self.is(&out, should, id, "restored");
        let objects = runtime().block_on(halt::objects(&self.store()));
        by_hand::restore(&objects, JOB, id.as_str(), self.dir.path(), &out);
        self.is(&out, &without_folder_times(should), id, "by hand");
    }

    fn restore(&self, id: &Id, out: &Path) -> Result<Outcome> {
        let open = OpenRequest {
            store: StoreUrl::new(format!("memory://{}", self.store())),
            passphrase: Sources::default(),
            no_encrypt: true,
        };
        let request = RestoreRequest {
            source: RestoreSource::Archive(ArchiveRef { job: JOB.into(), version: Version::Id(id.clone()) }),
            target: RestoreTarget::Path(out.into()),
            open,
            include: Vec::new(),
            exclude: Vec::new(),
            overwrite: false,
            allow_devices: false,
        };
        runtime().block_on(restore(request, &Reporter::silent(), &CancellationToken::new()))
    }

    /// What is in `out` is what should be there; then it is removed.
    fn is(&self, out: &Path, should: &Snapshot, id: &Id, how: &str) {
        let mut is = snapshot(&out.join(self.source().strip_prefix("/").unwrap()));
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

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Goes through the nights of many histories side by side, so that all wait at once for times to settle.
fn go_through(seeds: std::ops::Range<u64>, kills: bool) -> Told {
    let within = tempfile::tempdir().unwrap();
    let histories: Vec<_> = seeds.map(|seed| Mutex::new(History::new(seed, within.path()))).collect();
    for night in 0..NIGHTS {
        let at_hand: Vec<_> =
            histories.iter().filter(|history| history.lock().unwrap().nights > night).collect();
        at_hand.iter().for_each(|history| history.lock().unwrap().tree.change());
        std::thread::sleep(SETTLE);
        let next = Mutex::new(at_hand.iter());
        let workers = std::thread::available_parallelism().map_or(2, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    loop {
                        let Some(history) = next.lock().unwrap().next() else { return };
                        history.lock().unwrap().night(kills);
                    }
                });
            }
        });
    }
    let mut all = Told::default();
    for history in histories {
        let history = history.into_inner().unwrap();
        history.listed.keys().for_each(|id| history.comes_back(id));
        let Told { nights, increments, killed, committed } = history.told;
        all.nights += nights;
        all.increments += increments;
        all.killed += killed;
        all.committed += committed;
    }
    all
}

/// As many histories as are asked for by the environment, or some.
fn count() -> u64 {
    std::env::var("SEALIFT_TEST_HISTORIES").ok().map_or(40, |text| text.parse().unwrap())
}

#[test]
fn every_night_comes_back_as_it_was_by_us_and_by_plain_tools() {
    let told = go_through(0..count(), false);
    assert!(told.increments > told.nights / 2 && told.killed == 0, "{} of {}", told.increments, told.nights);
}

#[test]
fn what_is_listed_comes_back_whenever_runs_are_killed() {
    let told = go_through(1_000_000..1_000_000 + count(), true);
    let Told { nights, increments, killed, committed } = told;
    assert!(
        increments > nights / 4 && killed > nights / 8 && committed > 0,
        "{nights} {increments} {killed} {committed}"
    );
}
