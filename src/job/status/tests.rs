//! What is said of jobs by what is known of them, and of stores in memory.

use jiff::{SignedDuration, ToSpan};

use super::judge::judge;
use super::*;
use crate::store::StoreOptions;
use crate::store::manifest::{self, Object};

const HOUR: Duration = Duration::from_secs(3600);
const NOW: &str = "2026-11-26T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// The id of the night that was so many days ago, at two.
fn night(days: i64) -> Id {
    let at = "2026-11-26T02:00:00Z".parse::<Timestamp>().unwrap() - SignedDuration::from_hours(24 * days);
    format!("{}-00000000", at.strftime("%Y%m%dT%H%M%SZ")).parse().unwrap()
}

/// An archive of `bytes` that took half an hour.
fn archive(id: &Id, bytes: u64) -> Manifest {
    let started = id.time().unwrap();
    let object = Object { size: 1, blake3: String::new() };
    Manifest {
        id: id.clone(),
        started,
        finished: started + 30.minutes(),
        bytes,
        archive: object.clone(),
        catalog: object,
        ..manifest::example()
    }
}

/// A job with these archives, each whole, and other objects.
fn known(manifests: &[Manifest], others: &[String]) -> Known {
    let mut names: Vec<String> = others.to_vec();
    for id in manifests.iter().map(|manifest| &manifest.id) {
        names.extend([".manifest.json", ".raw", ".catalog.zst"].map(|suffix| format!("{id}{suffix}")));
    }
    let mut newest: Vec<_> = manifests.iter().map(|one| (one.id.clone(), Ok(one.clone()))).collect();
    newest.sort_by(|a, b| b.0.cmp(&a.0));
    Known { folder: names.iter().map(|name| (name.as_str(), 1)).collect(), manifests: newest, failed: None }
}

fn nights(sizes: &[u64]) -> Vec<Manifest> {
    sizes.iter().zip(0..).map(|(bytes, days)| archive(&night(days), *bytes)).collect()
}

fn judged(known: &Known, limits: Limits) -> JobStatus {
    judge(known, &Expected { job: "db".into(), limits, ..Expected::default() }, true, now())
}

fn problems(status: &JobStatus) -> Vec<String> {
    status.problems.iter().map(|problem| format!("{}: {}", problem.state, problem.text)).collect()
}

const ALL: Limits = Limits {
    max_age: Some(Duration::from_secs(26 * 3600)),
    verified_within: Some(Duration::from_secs(30 * 86_400)),
    drilled_within: None,
    shrink: Some(0.5),
};

#[test]
fn a_job_that_was_made_last_night_is_well() {
    let status = judged(&known(&nights(&[100, 100, 90]), &[]), ALL);
    assert_eq!((status.state(), status.archives), (State::Ok, 3));
    let last = status.last.unwrap();
    assert_eq!((last.id, last.age, last.bytes, last.stored), (night(0), 9 * HOUR + HOUR / 2, 100, 2));
    assert_eq!(
        (status.interval, status.next),
        (Some(24 * HOUR), Some("2026-11-27T02:00:00Z".parse().unwrap()))
    );
}

#[test]
fn a_job_is_late_from_the_limit_on_and_only_where_there_is_one() {
    let status = |hours| {
        let limits = Limits { max_age: Some(hours * HOUR), ..Limits::default() };
        judged(&known(&nights(&[1])[..], &[]), limits)
    };
    assert_eq!(problems(&status(9)), ["late: its last archive is 9h old, and --max-age is 9h"]);
    assert_eq!(status(10).state(), State::Ok);
    assert_eq!(judged(&known(&nights(&[1]), &[]), Limits::default()).state(), State::Ok);
}

#[test]
fn a_size_is_held_against_the_median_of_those_before() {
    let trend = |sizes: &[u64]| judged(&known(&nights(sizes), &[]), Limits::default()).trend;
    assert_eq!(trend(&[100]), None);
    assert_eq!(trend(&[150, 100]), Some(0.5));
    assert_eq!(trend(&[50, 100, 1_000_000, 100]), Some(-0.5), "one large night is no trend");
    assert_eq!(trend(&[0, 0, 0]), None, "nothing is no share of nothing");
    assert_eq!(trend(&[150, 80, 120]), Some(0.5));
    let shrunk = |last| judged(&known(&nights(&[last, 100, 100]), &[]), ALL);
    assert_eq!(shrunk(51).state(), State::Ok);
    let text = "shrunk: its last archive has 50B, 50% less than those before it, and --shrink is 50%";
    assert_eq!(problems(&shrunk(50)), [text]);
}

#[test]
fn an_increment_is_as_large_as_what_is_restored_from_it() {
    let mut nights = nights(&[10, 100]);
    nights[0].kept.bytes = 90;
    let status = judged(&known(&nights, &[]), ALL);
    assert_eq!((status.trend, status.last.unwrap().bytes), (Some(0.0), 100));
}

#[test]
fn a_verification_of_names_alone_does_not_count_nor_one_that_is_yet_to_come() {
    let old = nights(&[1; 40]);
    let with = |marks: &[(&str, i64)]| {
        let mark =
            |(level, days): &(&str, i64)| format!("{}.verified-{level}-{}.json", night(39), night(*days));
        judged(&known(&old[..], &marks.iter().map(mark).collect::<Vec<_>>()), ALL)
    };
    let never = "unverified: it was never verified in 39d, and --verified-within is 30d";
    assert_eq!(problems(&with(&[])), [never]);
    assert_eq!(problems(&with(&[("manifest", 1)])), [never]);
    assert_eq!(problems(&with(&[("whole", -3)])), [never]);
    let text = "unverified: it was verified 31d ago, and --verified-within is 30d";
    assert_eq!(problems(&with(&[("whole", 31), ("manifest", 1)])), [text]);
    let status = with(&[("stored", 2), ("whole", 31), ("manifest", 1)]);
    assert_eq!((status.state(), status.verified.unwrap().at), (State::Ok, night(2).time().unwrap()));
    // What is new had no time to be verified.
    assert_eq!(judged(&known(&nights(&[1; 29]), &[]), ALL).state(), State::Ok);
}

#[test]
fn what_an_increment_needs_and_is_gone_is_told_once() {
    let mut nights = nights(&[1, 1, 1]);
    nights[0].needs = vec![night(2), night(9)];
    nights[1].needs = vec![night(9)];
    let status = judged(&known(&nights, &[]), ALL);
    assert_eq!(problems(&status), [format!("damaged: {} needs {}, which is gone", night(0), night(9))]);
    assert_eq!(status.last.unwrap().id, night(0), "it was made all the same");
}

#[test]
fn a_need_without_its_catalog_is_gone() {
    let mut nights = nights(&[1]);
    nights[0].needs = vec![night(5)];
    let half = [".manifest.json", ".raw"].map(|suffix| format!("{}{suffix}", night(5)));
    let status = judged(&known(&nights, &half), ALL);
    assert_eq!(problems(&status), [format!("damaged: {} needs {}, which is gone", night(0), night(5))]);
}

#[test]
fn damage_that_was_found_counts_until_all_was_in_order_again() {
    let damaged = format!("{}.damaged-{}.json", night(1), night(0));
    let mut nights = nights(&[1, 1]);
    nights[0].needs = vec![night(1)];
    let status = judged(&known(&nights, std::slice::from_ref(&damaged)), ALL);
    let (found, needs) = (
        format!("damaged: {} was found to be damaged", night(1)),
        format!("damaged: {} needs {}, which is damaged", night(0), night(1)),
    );
    assert_eq!(problems(&status), [found, needs]);
    let later = format!("{}.verified-whole-{}.json", night(1), night(-1));
    assert_eq!(judged(&known(&nights, &[damaged, later]), Limits::default()).state(), State::Ok);
}

#[test]
fn the_last_success_is_the_newest_archive_that_is_whole() {
    let nights = nights(&[1, 1, 7]);
    let mut known = known(&nights, &[]);
    known.manifests[0].1 = Err(Error::damaged("the manifest is damaged"));
    known.folder = {
        let names = nights
            .iter()
            .flat_map(|one| {
                [".manifest.json", ".raw", ".catalog.zst"].map(|suffix| format!("{}{suffix}", one.id))
            })
            .collect::<Vec<_>>();
        let cut = format!("{}.raw", night(1));
        names.iter().map(|name| (name.as_str(), u64::from(*name != cut))).collect()
    };
    let status = judged(&known, ALL);
    let last = status.last.as_ref().unwrap();
    assert_eq!((&last.id, last.bytes), (&night(2), 7));
    assert_eq!(
        problems(&status),
        [
            format!("damaged: {}: the manifest is damaged", night(0)),
            format!("damaged: {}.raw has 0 bytes and not 1", night(1)),
            "late: its last archive is 2d old, and --max-age is 26h".into(),
        ]
    );
}

fn with_failure(known: Known, id: &Id, record: Result<Option<Failure>>) -> Known {
    Known { failed: Some((id.clone(), record)), ..known }
}

fn failure(at: Timestamp) -> Result<Option<Failure>> {
    let cause = Some("the store\nis full".into());
    Ok(Some(Failure {
        format: 1,
        at,
        code: Some(1),
        cause,
        left: Vec::new(),
        host: None,
        tool: String::new(),
    }))
}

#[test]
fn a_failure_counts_until_a_run_succeeds() {
    let (id, at) = (night(0), night(0).time().unwrap());
    let never = with_failure(Known::default(), &id, failure(at));
    assert_eq!(
        problems(&judged(&never, ALL)),
        [
            "failed: the run of 2026-11-26 02:00Z failed with exit code 1, and none before succeeded: the store is full"
        ]
    );
    let before = known(&[archive(&night(1), 1)], &[]);
    let status = judged(&with_failure(before, &id, failure(at)), Limits::default());
    assert_eq!(
        problems(&status),
        ["failed: the run of 2026-11-26 02:00Z failed with exit code 1: the store is full"]
    );
    let after = known(&[archive(&night(0), 1)], &[]);
    let status = judged(&with_failure(after, &night(1), failure(night(1).time().unwrap())), ALL);
    assert_eq!((status.state(), status.failed), (State::Ok, None));
}

#[test]
fn a_run_whose_archive_was_adopted_since_has_not_failed() {
    let at = night(0).time().unwrap() + jiff::SignedDuration::from_hours(1);
    let whole = archive(&night(0), 1);
    assert!(whole.finished < at);
    let state =
        |manifest| judged(&with_failure(known(&[manifest], &[]), &night(0), failure(at)), ALL).state();
    assert_eq!(state(whole.clone()), State::Ok);
    assert_eq!(state(Manifest { partial: true, ..whole.clone() }), State::Failed);
    assert_eq!(state(Manifest { id: night(1), ..whole }), State::Failed);
}

#[test]
fn a_failure_whose_record_is_gone_or_damaged_is_one_all_the_same() {
    let status = |record| judged(&with_failure(Known::default(), &night(0), record), ALL);
    let begin = "failed: the run of 2026-11-26 02:00Z failed, and none before succeeded";
    assert_eq!(problems(&status(Ok(None))), [begin]);
    let damaged = status(Err(Error::damaged("the failure record is damaged")));
    assert_eq!(
        problems(&damaged),
        [format!("{begin}: its record cannot be read: the failure record is damaged")]
    );
}

#[test]
fn a_failure_is_later_than_a_success_by_its_time_where_ids_were_stepped() {
    // A clock was ahead once, and all later ids are later than that.
    let mut ahead = archive(&night(-30), 1);
    ahead.finished = night(1).time().unwrap();
    let status =
        judged(&with_failure(known(&[ahead], &[]), &night(0), failure(night(0).time().unwrap())), ALL);
    assert_eq!(status.state(), State::Failed);
}

#[test]
fn an_archive_of_a_time_to_come_is_no_success_of_today() {
    let nights = [archive(&night(-300), 1), archive(&night(3), 1)];
    let status = judged(&known(&nights, &[]), ALL);
    assert_eq!(status.last.as_ref().map(|last| &last.id), Some(&night(3)));
    let texts = problems(&status);
    assert_eq!(texts[0], "late: its last archive is 3d old, and --max-age is 26h");
    assert!(texts[1].starts_with("clock: ") && texts[1].contains("is yet to come"), "{texts:?}");
    let alone = judged(&known(&nights[..1], &[]), ALL);
    assert_eq!((alone.state(), alone.last), (State::Clock, None));
}

#[test]
fn an_interval_is_told_by_three_archives_and_one_odd_night_does_not_change_it() {
    let next = |days: &[i64]| {
        let nights: Vec<_> = days.iter().map(|days| archive(&night(*days), 1)).collect();
        judged(&known(&nights, &[]), Limits::default()).interval
    };
    assert_eq!((next(&[0]), next(&[0, 1])), (None, None));
    assert_eq!(next(&[0, 7, 14]), Some(168 * HOUR));
    assert_eq!(next(&[0, 1, 2, 9, 10, 11]), Some(24 * HOUR));
}

async fn put(store: &Store, key: &str, text: &str) {
    store.put_for_tests(key, text).await;
}

async fn put_archive(store: &Store, job: &str, id: &Id) {
    put_manifest(store, Manifest { job: job.into(), ..archive(id, 1) }).await;
}

async fn put_manifest(store: &Store, manifest: Manifest) {
    let (job, id) = (&manifest.job, &manifest.id);
    put(store, &format!("{job}/{id}.manifest.json"), &manifest.to_text().unwrap()).await;
    for suffix in [".raw", ".catalog.zst"] {
        put(store, &format!("{job}/{id}{suffix}"), "x").await;
    }
}

fn request(url: &str, jobs: &[&str], expected: &[&str]) -> StatusRequest {
    let expected = expected.iter().map(|job| Expected {
        job: job.to_string(),
        stores: vec![format!("{url}/")],
        ..Expected::default()
    });
    StatusRequest {
        stores: vec![StoreUrl::new(url)],
        jobs: jobs.iter().map(|job| job.to_string()).collect(),
        expected: expected.collect(),
        limits: Limits::default(),
        now: now(),
    }
}

async fn states(request: &StatusRequest) -> Vec<String> {
    let stores = status(request, &Reporter::silent()).await;
    let jobs = stores.iter().flat_map(|store| &store.jobs);
    jobs.map(|job| format!("{} {} {}", job.job, job.state(), job.expected)).collect()
}

#[tokio::test]
async fn jobs_of_the_store_and_jobs_that_there_should_be_are_told_by_name() {
    let url = "memory://status-jobs";
    let store = Store::open(url, &StoreOptions::default()).unwrap();
    put_archive(&store, "db", &night(0)).await;
    put_archive(&store, "a/b", &night(0)).await;
    put(&store, &format!("set/{}.set.json", night(0)), "x").await;
    put(&store, &format!("broken/{}.failed.json", night(0)), "x").await;
    assert_eq!(
        states(&request(url, &[], &["db", "new"])).await,
        ["a/b ok false", "broken failed false", "db ok true", "new never true"]
    );
    assert_eq!(
        states(&request(url, &["db", "gone"], &["db", "new"])).await,
        ["db ok true", "gone never false"]
    );
    let optional = StatusRequest {
        expected: vec![Expected { optional: true, ..request(url, &[], &["x"]).expected.remove(0) }],
        ..request(url, &["db"], &[])
    };
    assert_eq!(states(&optional).await, ["db ok false"]);
}

#[tokio::test]
async fn the_parts_of_a_long_run_are_no_archives() {
    let url = "memory://status-parts";
    let store = Store::open(url, &StoreOptions::default()).unwrap();
    for days in 0..4 {
        put_archive(&store, "db", &night(days)).await;
    }
    for minute in 1..=3 * NEWEST as i64 {
        let at = night(0).time().unwrap() - SignedDuration::from_mins(minute);
        let id = format!("{}-00000000", at.strftime("%Y%m%dT%H%M%SZ")).parse().unwrap();
        put_manifest(&store, Manifest { job: "db".into(), partial: true, ..archive(&id, 1) }).await;
    }
    let found = status(&request(url, &[], &[]), &Reporter::silent()).await.remove(0).jobs.remove(0);
    assert_eq!((found.archives, found.interval), (4, Some(24 * HOUR)));
}

#[tokio::test]
async fn older_manifests_are_read_until_one_is_whole() {
    let url = "memory://status-older";
    let store = Store::open(url, &StoreOptions::default()).unwrap();
    for days in 0..2 * NEWEST as i64 {
        put(&store, &format!("db/{}.manifest.json", night(days)), "damaged").await;
    }
    put_archive(&store, "db", &night(2 * NEWEST as i64)).await;
    let found = status(&request(url, &[], &[]), &Reporter::silent()).await.remove(0).jobs.remove(0);
    assert_eq!(found.last.map(|last| last.id), Some(night(2 * NEWEST as i64)));
    assert_eq!((found.archives, found.problems.len()), (2 * NEWEST + 1, 2 * NEWEST));
}

#[tokio::test]
async fn a_store_that_cannot_be_opened_says_nothing_of_the_others() {
    let url = "memory://status-two";
    put_archive(&Store::open(url, &StoreOptions::default()).unwrap(), "db", &night(0)).await;
    let mut both = request(url, &[], &[]);
    both.stores.insert(0, StoreUrl::new("file:///no/such/folder"));
    let found = status(&both, &Reporter::silent()).await;
    assert!(found[0].error.is_some() && found[0].jobs.is_empty());
    assert_eq!((found[1].jobs.len(), found[1].error.is_none()), (1, true));
}
