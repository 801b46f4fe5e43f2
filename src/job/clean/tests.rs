//! Clean beside backups and after them, with kills of both between any two requests: what is listed is whole, what is not is
//! gone in the end, and nothing else is touched.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::super::lease::RunLease;
use super::*;
use crate::archive::Id;
use crate::archive::digest::Digest;
use crate::archive::testing::Random;
use crate::store::commit::Target;
use crate::store::download::Object;
use crate::store::failed::Failure;
use crate::store::faults::{Fault, Op, Rule, halt};
use crate::store::leftover::What;
use crate::store::manifest::{self, Manifest};
use crate::store::{Store, StoreOptions};

pub(super) const JOB: &str = "db";

pub(super) fn open(name: &str) -> Arc<Store> {
    let options = StoreOptions { retry_for: Duration::from_secs(20), ..StoreOptions::default() };
    Arc::new(Store::open(&format!("memory://{name}"), &options).unwrap())
}

pub(super) fn request(name: &str, confirm: bool) -> CleanRequest {
    let store = StoreUrl::new(format!("memory://{name}"));
    CleanRequest { store, jobs: Vec::new(), older_than: Duration::ZERO, confirm, docker: false }
}

fn digest(bytes: &[u8]) -> manifest::Object {
    let mut digest = Digest::new();
    digest.update(bytes);
    (&digest.finish()).into()
}

/// As much of a backup as the store sees: the lease, archive and catalog in parts, the manifest, the end of the lease.
async fn back_up(store: Arc<Store>, leased: bool, fails: bool) -> Result<Id> {
    let (ui, started) = (Reporter::silent(), jiff::Timestamp::now());
    let runs = store.runs(JOB).await?;
    let seen: Vec<_> = runs.newest.iter().chain(runs.with_lease()).cloned().collect();
    let id = Id::after(started, &seen)?;
    let mut lease = RunLease::new(JOB, &id, started);
    if leased && let Err(error) = lease.take(&[Arc::clone(&store)], &ui).await {
        lease.end(&ui).await;
        return Err(error);
    }
    let uploaded = async {
        let mut target = Target::begin(&store, JOB, &id, ".raw", 2, &Default::default()).await?;
        for part in 0..2 {
            target.archive.part(format!("{id} {part}").into()).await?;
        }
        target.catalog.part(format!("catalog of {id}").into()).await?;
        if fails {
            return Err(target.abort_because(Error::failed("the source failed")).await);
        }
        let archive = digest(format!("{id} 0{id} 1").as_bytes());
        let catalog = digest(format!("catalog of {id}").as_bytes());
        let manifest = Manifest {
            id: id.clone(),
            job: JOB.into(),
            suffix: ".raw".into(),
            archive,
            catalog,
            ..manifest::example()
        };
        target.commit(&manifest, &Default::default(), &CancellationToken::new()).await
    };
    let ended = uploaded.await;
    lease.end(&ui).await;
    if let Err(error) = &ended {
        store.put_failure(JOB, &id, &Failure::of(error, str::to_string)).await?;
    }
    ended.map(|_| id)
}

/// Does work of which the store answers no more after so many requests, as if its process were killed there.
async fn killed<T>(name: &str, seed: u64, after: Option<u64>, work: impl AsyncFnOnce() -> T) -> Option<T> {
    let Some(after) = after else {
        halt::slow(name, seed, Vec::new());
        return Some(work().await);
    };
    let halted = halt::halt_slowly(name, after, seed);
    tokio::select! {
        done = work() => Some(done),
        () = halted.notified() => None,
    }
}

/// What is listed is whole.
async fn listed_is_whole(name: &str, seed: u64) -> BTreeSet<Id> {
    let store = open(name);
    let mut ids = BTreeSet::new();
    for listed in store.archives(Some(JOB)).await.unwrap() {
        let id = listed.id;
        let manifest = listed.manifest.unwrap_or_else(|error| panic!("seed {seed}: {id}: {error}"));
        for (suffix, should) in [(".raw", &manifest.archive), (".catalog.zst", &manifest.catalog)] {
            let object = Object::open(&store, store.key(JOB, &id, suffix)).await;
            let object = object.unwrap_or_else(|error| panic!("seed {seed}: {id}{suffix}: {error}"));
            assert_eq!(object.size, should.size, "seed {seed}: {id}{suffix}");
        }
        ids.insert(id);
    }
    ids
}

/// What is there is what the manifests name, and failures that nothing has come after.
async fn nothing_else_is_left(name: &str, ids: &BTreeSet<Id>, seed: u64) {
    let objects = halt::objects(name).await;
    let is_failure = |key: &&String| key.ends_with(".failed.json");
    let rest: BTreeSet<_> = objects.keys().filter(|key| !is_failure(key)).cloned().collect();
    let should = ids.iter().flat_map(|id| {
        [".raw", ".catalog.zst", ".manifest.json"].map(|suffix| format!("{JOB}/{id}{suffix}"))
    });
    assert_eq!(rest, should.collect(), "seed {seed}");
    for failure in objects.keys().filter(is_failure) {
        assert!(
            ids.last().is_none_or(|newest| failure > &format!("{JOB}/{newest}")),
            "seed {seed}: {failure}"
        );
    }
}

/// A dry run changes nothing, and asks for nothing that would.
async fn dry_run(name: &str, seed: u64) {
    let watched = halt::watch(name, Vec::new());
    let before = halt::objects(name).await;
    clean(&request(name, false), &Reporter::silent()).await.unwrap();
    assert_eq!((watched.writes(), halt::objects(name).await), (0, before), "seed {seed}");
}

/// One history: backups one after the other or at once, some of which fail or are killed, and cleaning between and beside
/// them, which may be killed too. Returns what happened: backups killed, cleanings killed, things taken back.
async fn history(seed: u64) -> (u64, u64, u64) {
    let name = format!("clean-races-{seed}");
    let mut random = Random::new(seed);
    let (mut runs_killed, mut cleans_killed, mut taken_back) = (0, 0, 0);
    for _ in 0..2 + random.below(3) {
        let run_dies = random.one_in(2).then(|| random.below(24) as u64);
        let clean_dies = random.one_in(3).then(|| random.below(12) as u64);
        let fails = random.one_in(5);
        let running = killed(&name, random.below(1 << 30) as u64, run_dies, async || {
            back_up(open(&name), true, fails).await
        });
        let (cleans, begins) = (request(&name, true), random.below(150) as u64);
        let slowly = random.below(1 << 30) as u64;
        let cleaning = async {
            tokio::time::sleep(Duration::from_millis(begins)).await;
            killed(&name, slowly, clean_dies, async || clean(&cleans, &Reporter::silent()).await).await
        };
        // A store is told how it behaves when it is opened, at the first poll of each.
        let (run, cleaned) = tokio::join!(running, cleaning);
        halt::go_on(&name);
        match run {
            Some(made) => assert_eq!(made.is_err(), fails, "seed {seed}: {:?}", made.err()),
            None => runs_killed += 1,
        }
        match cleaned {
            Some(cleaned) => {
                let cleaned = cleaned.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
                let back = |cleaned: &&Cleaned<Leftover>| matches!(cleaned.taken, Some(Ok(Taken::Back)));
                taken_back += cleaned.left.iter().filter(back).count() as u64;
            }
            None => cleans_killed += 1,
        }
        listed_is_whole(&name, seed).await;
    }
    dry_run(&name, seed).await;
    let watched = halt::watch(&name, Vec::new());
    clean(&request(&name, true), &Reporter::silent()).await.unwrap();
    let ids = listed_is_whole(&name, seed).await;
    nothing_else_is_left(&name, &ids, seed).await;
    assert_eq!(watched.open_uploads(), [""; 0], "seed {seed}");
    halt::go_on(&name);
    (runs_killed, cleans_killed, taken_back)
}

#[tokio::test(start_paused = true)]
async fn what_is_listed_is_whole_and_the_rest_goes_whatever_is_killed_and_whenever_it_is_cleaned() {
    let (mut runs, mut cleans, mut back) = (0, 0, 0);
    for seed in 0..1_200 {
        let (run, clean, taken) = history(seed).await;
        (runs, cleans, back) = (runs + run, cleans + clean, back + taken);
    }
    assert!(runs > 800 && cleans > 300 && back > 300, "{runs} {cleans} {back}");
}

#[tokio::test(start_paused = true)]
async fn a_backup_without_a_lease_that_clean_comes_before_fails_and_is_not_listed() {
    let (mut made, mut failed) = (0, 0);
    for seed in 0..300 {
        let name = format!("clean-no-lease-{seed}");
        halt::slow(&name, seed, Vec::new());
        let mut random = Random::new(seed);
        let (store, again) = (open(&name), random.below(200) as u64);
        let cleaning = async {
            tokio::time::sleep(Duration::from_millis(again)).await;
            clean(&request(&name, true), &Reporter::silent()).await
        };
        let running = async {
            // It takes cleaning about as long to ask for the store's time.
            tokio::time::sleep(Duration::from_millis(45)).await;
            back_up(store, false, false).await
        };
        let (run, cleaned) = tokio::join!(running, cleaning);
        cleaned.unwrap();
        match run {
            Ok(id) => {
                made += 1;
                assert_eq!(listed_is_whole(&name, seed).await, BTreeSet::from([id]), "seed {seed}");
            }
            Err(_) => {
                failed += 1;
                assert!(listed_is_whole(&name, seed).await.is_empty(), "seed {seed}");
            }
        }
        halt::go_on(&name);
    }
    assert!(made > 30 && failed > 30, "{made} {failed}");
}

async fn put(name: &str, keys: &[String]) {
    for key in keys {
        halt::replace(name, key, Some(Bytes::from_static(b"x"))).await;
    }
}

pub(super) const OLD: &str = "20261121T020000Z-00000001";
const NEW: &str = "20261122T020000Z-00000002";
/// Has something beside it that nobody knows.
const ODD: &str = "20261120T020000Z-00000003";

/// Beside an archive, and without one, everything that can be left, and what only looks like it.
async fn one_of_each(name: &str) -> Vec<String> {
    let store = open(name);
    let new: Id = NEW.parse().unwrap();
    store.put_manifest(&Manifest { id: new, job: JOB.into(), ..manifest::example() }).await.unwrap();
    let suffix = manifest::example().suffix;
    let stays = [
        format!("{JOB}/{NEW}{suffix}"),
        format!("{JOB}/{NEW}.catalog.zst"),
        format!("{JOB}/{NEW}.verified-whole-{NEW}.json"),
        format!("{JOB}/{NEW}.pin-{NEW}.json"),
        format!("{JOB}/{ODD}.tar.zst.bak"),
        format!("{JOB}/{OLD}x.tar.zst"),
        format!("{JOB}/{ODD}.running-01.json"),
        format!("{JOB}/{ODD}.verified-whole-{NEW}.json"),
        format!("{JOB}/{ODD}.pin-{NEW}.json"),
        format!("{JOB}/20269921T020000Z-00000001.tar.zst"),
        format!("{JOB}/{OLD}.set.json"),
        "db/notes.tar.zst".to_string(),
    ];
    let goes = [
        format!("{JOB}/{NEW}.tombstone-{NEW}.json"),
        format!("{JOB}/{NEW}.running-3.json"),
        format!("{JOB}/{OLD}.failed.json"),
        format!("{JOB}/{OLD}.verified-whole-{NEW}.json"),
        format!("{JOB}/{OLD}.damaged-{NEW}.json"),
        format!("a/b/{OLD}.tar.zst.gpg"),
        format!("a/b/{NEW}.catalog.zst.pgp"),
        format!("gone/{OLD}.raw"),
        format!("gone/{OLD}.tombstone-{NEW}.json"),
    ];
    put(name, &stays).await;
    put(name, &goes).await;
    goes.into()
}

#[tokio::test]
async fn one_of_each_is_found_with_its_reason_and_nothing_that_only_looks_like_it() {
    let name = "clean-one-of-each";
    let goes = one_of_each(name).await;
    let dry = clean(&request(name, false), &Reporter::silent()).await.unwrap();
    let kinds: BTreeSet<_> = dry.left.iter().map(|cleaned| cleaned.left.what.name()).collect();
    let all = ["failure", "half-removed", "lease", "records", "tombstone", "uncommitted"];
    assert_eq!(kinds, BTreeSet::from(all));
    let found = dry
        .left
        .iter()
        .flat_map(|cleaned| cleaned.left.names.iter().map(|name| format!("{}/{name}", cleaned.left.job)));
    assert_eq!(found.collect::<BTreeSet<_>>(), goes.iter().cloned().collect());
    let before: BTreeSet<_> = halt::objects(name).await.into_keys().collect();
    clean(&request(name, true), &Reporter::silent()).await.unwrap();
    let after: BTreeSet<_> = halt::objects(name).await.into_keys().collect();
    assert_eq!(before.difference(&after).cloned().collect::<BTreeSet<_>>(), goes.into_iter().collect());
    assert!(after.is_subset(&before));
}

#[tokio::test]
async fn what_may_be_an_archive_of_a_newer_version_stays() {
    let name = "clean-unknown";
    let suffixes = [
        &[".raw", ".catalog.zst", ".manifest-2.json"][..],
        &[".raw", ".tombstone-20261122T020000Z-00000002.json", ".index.json"],
        &[".pin-20261122T020000Z-00000002.json", ".tar.zst.next"],
    ];
    for (job, suffixes) in ["a", "b", "c"].iter().zip(suffixes) {
        put(name, &suffixes.iter().map(|suffix| format!("{job}/{OLD}{suffix}")).collect::<Vec<_>>()).await;
    }
    let before = halt::objects(name).await;
    let cleaned = clean(&request(name, true), &Reporter::silent()).await.unwrap();
    let kept =
        |it: &Cleaned<_>| matches!(&it.taken, Some(Ok(Taken::Kept(why))) if why.contains("unknown to this"));
    assert!(cleaned.left.len() == 2 && cleaned.left.iter().all(kept), "{:?}", cleaned.left);
    assert_eq!(halt::objects(name).await, before);
}

#[tokio::test]
async fn each_manifest_is_read_once_however_many_parts_are_taken_back() {
    let name = "clean-many-parts";
    let id = |n: u32| format!("20261101T0200{n:02}Z-00000000").parse::<Id>().unwrap();
    for n in 0..20 {
        let manifest = Manifest { id: id(n), job: JOB.into(), partial: n < 19, ..manifest::example() };
        put(name, &[".catalog.zst", ".raw"].map(|suffix| format!("{JOB}/{}{suffix}", id(n)))).await;
        let (archive, catalog, suffix) = (digest(b"x"), digest(b"x"), ".raw".into());
        open(name).put_manifest(&Manifest { archive, catalog, suffix, ..manifest }).await.unwrap();
    }
    let read = Rule::on(Op::Get, ".manifest.json", Fault::Delay(Duration::ZERO));
    let watched = halt::watch(name, vec![read]);
    let cleaned = clean(&request(name, true), &Reporter::silent()).await.unwrap();
    halt::go_on(name);
    assert_eq!(cleaned.left.len(), 19);
    assert!(cleaned.left.iter().all(|it| matches!(it.taken, Some(Ok(Taken::Back)))), "{:?}", cleaned.left);
    // To list them, and to take them back.
    assert_eq!(watched.fired(), 40);
}

#[tokio::test]
async fn what_is_young_stays_and_jobs_that_are_not_named_do() {
    let name = "clean-young";
    one_of_each(name).await;
    let before = halt::objects(name).await;
    let day = CleanRequest { older_than: Duration::from_secs(86_400), ..request(name, true) };
    assert!(clean(&day, &Reporter::silent()).await.unwrap().left.is_empty());
    let other =
        CleanRequest { jobs: vec!["dbx".parse().unwrap(), "a".parse().unwrap()], ..request(name, true) };
    assert!(clean(&other, &Reporter::silent()).await.unwrap().left.is_empty());
    assert_eq!(halt::objects(name).await, before);
    let named = CleanRequest { jobs: vec!["a/b".parse().unwrap()], ..request(name, true) };
    assert_eq!(clean(&named, &Reporter::silent()).await.unwrap().left.len(), 2);
}

#[tokio::test]
async fn a_failure_that_nothing_has_come_after_is_remembered() {
    let name = "clean-remembers";
    put(name, &[format!("{JOB}/{OLD}.failed.json")]).await;
    assert!(clean(&request(name, true), &Reporter::silent()).await.unwrap().left.is_empty());
    let new: Id = NEW.parse().unwrap();
    open(name).put_manifest(&Manifest { id: new, job: JOB.into(), ..manifest::example() }).await.unwrap();
    assert_eq!(clean(&request(name, true), &Reporter::silent()).await.unwrap().left.len(), 1);
}

#[tokio::test]
async fn what_a_run_under_way_has_a_lease_for_stays_however_old() {
    let name = "clean-live";
    let (store, id) = (open(name), OLD.parse::<Id>().unwrap());
    put(name, &[format!("{JOB}/{OLD}.raw"), format!("{JOB}/{OLD}.catalog.zst")]).await;
    let mut lease = RunLease::new(JOB, &id, jiff::Timestamp::now());
    lease.take(&[Arc::clone(&store)], &Reporter::silent()).await.unwrap();
    assert!(clean(&request(name, true), &Reporter::silent()).await.unwrap().left.is_empty());
    drop(lease);
    let cleaned = clean(&request(name, true), &Reporter::silent()).await.unwrap();
    assert_eq!(cleaned.left[0].left.what, What::Uncommitted);
    assert!(halt::objects(name).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_deleted_is_told_of_and_the_rest_goes_on() {
    let name = "clean-no-delete";
    put(name, &["a", "b"].map(|job| format!("{job}/{OLD}.raw"))).await;
    let refused = Fault::Refuse("Server returned non-2xx status code: 403 Forbidden: no");
    halt::watch(name, vec![Rule::on(Op::Delete, "a/20261121T020000Z-00000001.raw", refused)]);
    let cleaned = clean(&request(name, true), &Reporter::silent()).await.unwrap();
    halt::go_on(name);
    assert_eq!((cleaned.left.len(), cleaned.failures().count()), (2, 1));
    let left: Vec<_> = halt::objects(name).await.into_keys().collect();
    assert!(left.contains(&format!("a/{OLD}.raw")) && !left.contains(&format!("b/{OLD}.raw")), "{left:?}");
    // What was begun is finished by the next one.
    clean(&request(name, true), &Reporter::silent()).await.unwrap();
    assert!(halt::objects(name).await.is_empty());
}

#[test]
fn files_of_uploads_in_a_folder_are_found_in_every_job() {
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        "mkdir -p a/b notes.d; touch 'a/b/{OLD}.tar.zst#1' 'a/{NEW}.catalog.zst#2' 'a/b/{OLD}.tar.zst' 'a/x#1'"
    );
    let made = std::process::Command::new("sh").args(["-ec", &script]).current_dir(dir.path()).status();
    assert!(made.unwrap().success());
    let store = StoreUrl::new(format!("file://{}", dir.path().display()));
    let request = CleanRequest { store, ..request("", true) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cleaned = runtime.block_on(clean(&request, &Reporter::silent())).unwrap();
    let found: Vec<_> = cleaned.left.iter().map(|cleaned| cleaned.left.what.name()).collect();
    assert_eq!(found, ["staged", "uncommitted", "staged"], "{cleaned:?}");
    let left = std::process::Command::new("find").args([".", "-type", "f"]).current_dir(dir.path()).output();
    assert_eq!(String::from_utf8(left.unwrap().stdout).unwrap(), "./a/x#1\n");
}
