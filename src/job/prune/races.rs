//! An increment and a prune at once, at a store where they take turns request by request, and where either may be killed
//! between any two of them: whatever is listed comes back.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "the source lies on the disk")]

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::super::backup::{Compare, Increments, Made, Rebase, backup};
use super::super::request::tests::request as backup_request;
use super::super::request::{BackupRequest, Task};
use super::super::stored::{ArchiveRef, OpenRequest};
use super::super::verify::{Depth, VerifyRequest, verify};
use super::super::version::Version;
use super::*;
use crate::archive::check::Check;
use crate::archive::testing::Random;
use crate::host::passphrase::Sources;
use crate::job::retention::policy::Count;
use crate::source::Source;
use crate::store::faults::halt;
use crate::store::faults::turns::Turns;
use crate::store::tombstone::STALE;
use crate::store::{StoreOptions, manifest};

const JOB: &str = "j";
/// Longer than a file's times must lie before a backup for the next one to trust them.
const SETTLE: Duration = Duration::from_millis(3_100);

/// What happened in races.
#[derive(Default)]
struct Told {
    races: AtomicU64,
    /// Increments that were committed.
    committed: AtomicU64,
    /// And those that a tombstone kept from it.
    refused: AtomicU64,
    /// Those whose catalog to build on was deleted on the way.
    overtaken: AtomicU64,
    killed: AtomicU64,
    /// Archives that prune deleted, and those that it left for what came meanwhile.
    deleted: AtomicU64,
    spared: AtomicU64,
}

fn store_url(name: &str) -> StoreUrl {
    let options = StoreOptions { retry_for: Duration::from_millis(200), ..StoreOptions::default() };
    StoreUrl { options, ..StoreUrl::new(format!("memory://{name}")) }
}

fn task(store: &str, source: &Path, incremental: bool) -> Task {
    let rebase = Rebase { below: 0.0, limit: 0.0 };
    let increments =
        Increments { full: false, full_every: None, compare: Compare::Stat, rebase, segment: None };
    let made = BackupRequest {
        job: Some(JOB.into()),
        stores: vec![store_url(store)],
        increments: incremental.then_some(increments),
        host: Some("h".into()),
        ..backup_request(&[])
    };
    Task::new(Source::Path(vec![source.to_str().unwrap().into()]), made)
}

async fn back_up(store: &str, source: &Path, incremental: bool) -> Result<Made> {
    backup(task(store, source, incremental), &Reporter::silent(), &CancellationToken::new()).await
}

/// A full, three increments, and a full that nothing can be built on: no rule keeps what the next increment needs.
fn template(source: &Path) -> (BTreeMap<String, Bytes>, u64) {
    let name = "race-template";
    for file in 0..4 {
        std::fs::write(source.join(format!("f{file}")), format!("{file} ").repeat(500)).unwrap();
    }
    for night in 0..4 {
        std::fs::write(source.join(format!("f{night}")), format!("night {night} ").repeat(300)).unwrap();
        std::thread::sleep(SETTLE);
        runtime().block_on(back_up(name, source, true)).unwrap();
    }
    runtime().block_on(back_up(name, source, false)).unwrap();
    std::fs::write(source.join("f4"), "what is new").unwrap();
    std::thread::sleep(SETTLE);
    let objects = runtime().block_on(halt::objects(name));
    let alone = (Arc::new(Turns::new(0, 1)), 0);
    halt::alias("race-alone", name, alone, Some(u64::MAX));
    runtime().block_on(back_up("race-alone", source, true)).unwrap();
    (objects, halt::go_on("race-alone"))
}

/// One thread: a request is over before anybody else has a turn.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

struct Race<'a> {
    seed: u64,
    store: String,
    source: &'a Path,
    /// How many requests an increment makes when nobody is in its way.
    requests: u64,
    random: Random,
    told: &'a Told,
}

impl Race<'_> {
    async fn run(mut self, template: &BTreeMap<String, Bytes>) {
        for (key, bytes) in template {
            halt::replace(&self.store, key, Some(bytes.clone())).await;
        }
        // A second run that prunes, now and then.
        let count = if self.random.one_in(4) { 3 } else { 2 };
        let turns = Arc::new(Turns::new(self.seed, count));
        let mut kill = |one_in: usize, within: usize| {
            self.random.one_in(one_in).then(|| self.random.below(within) as u64)
        };
        let mut kills = [kill(4, 40), kill(3, 60), kill(3, 60)];
        // Around its manifest it matters most.
        if self.random.one_in(4) {
            kills[0] = Some(self.requests.saturating_sub(self.random.below(6) as u64));
        }
        let names: Vec<_> = (0..count).map(|who| format!("{}-{who}", self.store)).collect();
        let halted: Vec<_> = (0..count)
            .map(|who| halt::alias(&names[who], &self.store, (Arc::clone(&turns), who), kills[who]))
            .collect();
        let last = [1 + self.random.below(2) as u32, 1 + self.random.below(3) as u32];
        let until_killed = async |who: usize, work: &mut (dyn Future<Output = ()> + Unpin)| {
            tokio::select! {
                biased;
                () = halted[who].notified() => self.add(&self.told.killed, 1),
                () = work => {}
            }
            turns.leave(who);
        };
        let backup = async {
            let mut work = Box::pin(self.backup(&names[0]));
            until_killed(0, &mut work).await;
        };
        let prune = async |who: usize| {
            if who < count {
                let mut work = Box::pin(self.prune(&names[who], last[who - 1], STALE));
                until_killed(who, &mut work).await;
            }
        };
        tokio::join!(backup, prune(1), prune(2));
        for name in &names {
            halt::go_on(name);
        }
        self.all_comes_back().await;
        // Whatever was killed is dead by now; the next one leaves nothing but whole archives.
        self.prune(&self.store, 2, Duration::ZERO).await;
        self.all_comes_back().await;
        self.holds_only_archives().await;
    }

    fn add(&self, counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    async fn backup(&self, store: &str) {
        match back_up(store, self.source, true).await {
            Ok(_) => self.add(&self.told.committed, 1),
            Err(error) => {
                // A catalog that is read for the whole run, or what is needed of an older archive.
                let text = format!("{error:?}");
                let is_gone = text.contains("vanished while it was read");
                assert!(is_gone || text.contains("cannot be committed"), "race {}: {text}", self.seed);
                self.add(if is_gone { &self.told.overtaken } else { &self.told.refused }, 1);
            }
        }
    }

    async fn prune(&self, store: &str, last: u32, stale: Duration) {
        let mut policy = Policy::default();
        policy.counts[0] = Count::Of(last);
        let request = PruneRequest {
            store: store_url(store),
            jobs: vec![JOB.into()],
            rules: Rules { given: Some(policy), ..Rules::default() },
            confirm: true,
            verify_before: false,
            stale,
        };
        let pruned = prune(&request, &Reporter::silent(), &CancellationToken::new()).await;
        let pruned = pruned.unwrap_or_else(|error| panic!("race {}: {error:?}", self.seed));
        assert!(pruned.failed.is_empty(), "race {}: {pruned:?}", self.seed);
        for line in pruned.jobs.iter().flat_map(|job| &job.lines) {
            match &line.fate {
                Fate::Gone(_) => self.add(&self.told.deleted, 1),
                Fate::Failed(error) => panic!("race {}: {error:?}", self.seed),
                Fate::Stays(_) => self.add(&self.told.spared, 1),
                Fate::Kept if line.reasons.iter().any(|r| matches!(r, Reason::MayBeNeededBy(_))) => {
                    self.add(&self.told.spared, 1);
                }
                _ => {}
            }
        }
    }

    async fn all_comes_back(&self) {
        let store = store_url(&self.store).open(&Reporter::silent()).unwrap();
        let listed = store.archives(Some(JOB)).await.unwrap();
        assert!(!listed.is_empty(), "race {}", self.seed);
        for listed in listed {
            let open = OpenRequest {
                store: store_url(&self.store),
                passphrase: Sources::default(),
                no_encrypt: true,
            };
            let request = VerifyRequest {
                which: ArchiveRef { job: JOB.into(), version: Version::Id(listed.id.clone()) }.into(),
                open,
                depth: Depth::All,
                since_last: false,
                max_duration: None,
                check: Check::new(&[], 0).unwrap(),
                record: false,
            };
            let verified = verify(&request, &Reporter::silent(), &mut |_| {}).await;
            assert!(verified.is_ok(), "race {}: {} of {verified:?}", self.seed, listed.id);
        }
    }

    /// Each id has its three objects; a backup that was killed may have left some of them, but nothing else is there.
    async fn holds_only_archives(&self) {
        let objects = halt::objects(&self.store).await;
        let suffix = |key: &String| key.split_once('.').map(|(_, suffix)| suffix.to_string());
        let left: Vec<_> =
            objects.keys().filter(|key| suffix(key).is_some_and(|s| s.contains("tombstone"))).collect();
        assert!(left.is_empty(), "race {}: {left:?}", self.seed);
        // What a killed run notes about itself is for `clean`.
        let is_note = |suffix: &str| suffix.starts_with("running-") || suffix == "failed.json";
        let ids = objects.keys().filter_map(|key| key.strip_prefix("j/")?.split_once('.'));
        let ids = ids.filter(|(id, suffix)| !is_note(suffix) && id.parse::<Id>().is_ok());
        let ids: BTreeSet<_> = ids.map(|(id, _)| id).collect();
        let without = |id: &&&str| !objects.contains_key(&format!("j/{id}{}", manifest::SUFFIX));
        assert!(ids.iter().filter(without).count() <= 1, "race {}: {:?}", self.seed, objects.keys());
    }
}

/// As many races as are asked for by the environment, or a thousand.
fn count() -> u64 {
    std::env::var("SEALIFT_TEST_RACES").ok().map_or(1_000, |text| text.parse().unwrap())
}

#[test]
fn what_is_listed_comes_back_however_an_increment_and_a_prune_meet_and_whatever_is_killed() {
    let (dir, told, next, all) = (tempfile::tempdir().unwrap(), Told::default(), Mutex::new(0), count());
    let source = dir.path().join("s");
    std::fs::create_dir(&source).unwrap();
    let (template, requests) = template(&source);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = {
                        let mut next = next.lock().unwrap();
                        *next += 1;
                        *next - 1
                    };
                    if seed >= all {
                        return;
                    }
                    let race = Race {
                        seed,
                        store: format!("race-{seed}"),
                        source: &source,
                        requests,
                        random: Random::new(seed + (1 << 40)),
                        told: &told,
                    };
                    race.told.races.fetch_add(1, Ordering::Relaxed);
                    let runtime = runtime();
                    runtime.block_on(race.run(&template));
                    runtime.shutdown_background();
                }
            });
        }
    });
    let Told { races, committed, refused, overtaken, killed, deleted, spared } = told;
    let counted = [races, committed, refused, overtaken, killed, deleted, spared].map(AtomicU64::into_inner);
    // Each kind of thing did happen, and often.
    let least = [all, all / 4, all / 100, all / 100, all / 4, all, all / 100];
    assert!(counted.iter().zip(least).all(|(counted, least)| *counted >= least), "{counted:?} of {all}");
}
