//! Prune and delete, on stores in memory.

use super::super::stored::ArchiveRef;
use super::super::version::Version;
use super::delete::{DeleteRequest, delete};
use super::*;
use crate::error::Kind;
use crate::job::retention::policy::Count;
use crate::store::manifest::{Manifest, example};
use crate::store::set::{Member, SetManifest};
use crate::store::tombstone::STALE;
use crate::store::upload::{Class, Upload};

pub(super) fn id(day: u32) -> Id {
    format!("202611{day:02}T020000Z-000000{day:02}").parse().unwrap()
}

fn open(name: &str) -> Arc<Store> {
    Arc::new(StoreUrl::new(format!("memory://{name}")).open(&Reporter::silent()).unwrap())
}

async fn object(store: &Arc<Store>, job: &str, id: &Id, suffix: &str) {
    let key = store.key(job, id, suffix);
    let mut upload = Upload::begin(store, key, Class::Catalog, 1, &Arc::default()).await.unwrap();
    upload.part("12345".into()).await.unwrap();
    upload.complete().await.unwrap();
}

/// An archive of that day of November, which needs those of other days.
async fn put(store: &Arc<Store>, job: &str, day: u32, needs: &[u32], set: Option<&str>) {
    let id = id(day);
    for suffix in [".raw", ".catalog.zst"] {
        object(store, job, &id, suffix).await;
    }
    let manifest = Manifest {
        needs: needs.iter().map(|&day| self::id(day)).collect(),
        set: set.map(Into::into),
        started: id.time().unwrap(),
        job: job.into(),
        id,
        ..example()
    };
    store.put_manifest(&manifest).await.unwrap();
}

/// The last so many are kept.
fn request(name: &str, jobs: &[&str], last: u32, confirm: bool) -> PruneRequest {
    let mut policy = Policy::default();
    policy.counts[0] = Count::Of(last);
    PruneRequest {
        store: StoreUrl::new(format!("memory://{name}")),
        jobs: jobs.iter().map(ToString::to_string).collect(),
        rules: Rules { given: Some(policy), ..Rules::default() },
        confirm,
        verify_before: false,
        stale: STALE,
    }
}

async fn run(request: &PruneRequest) -> Pruned {
    prune(request, &Reporter::silent(), &CancellationToken::new()).await.unwrap()
}

async fn days(store: &Store, job: &str) -> Vec<String> {
    store.ids(job).await.unwrap().iter().map(|id| id.as_str()[6..8].to_string()).collect()
}

async fn names(store: &Store, job: &str) -> BTreeSet<String> {
    store.sizes(job).await.unwrap().into_keys().collect()
}

#[tokio::test]
async fn nothing_is_changed_without_confirmation_and_then_exactly_what_was_told() {
    let store = open("prune-dry");
    for day in 1..=5 {
        put(&store, "db", day, &[], None).await;
    }
    put(&store, "db/other", 1, &[], None).await;
    let (before, total) = (names(&store, "db").await, store.sizes("db").await.unwrap().values().sum::<u64>());
    let told = run(&request("prune-dry", &["db"], 2, false)).await;
    assert_eq!(names(&store, "db").await, before);
    let would: u64 =
        told.jobs[0].lines.iter().filter(|l| matches!(l.fate, Fate::Dropped)).map(|l| l.bytes).sum();
    let done = run(&request("prune-dry", &["db"], 2, true)).await;
    let freed = |line: &Line| if let Fate::Gone(bytes) = line.fate { bytes } else { 0 };
    assert_eq!(done.jobs[0].lines.iter().map(freed).sum::<u64>(), would);
    assert_eq!(store.sizes("db").await.unwrap().values().sum::<u64>(), total - would);
    assert_eq!(
        (days(&store, "db").await, names(&store, "db").await.len()),
        (vec!["04".into(), "05".into()], 6)
    );
    assert_eq!(days(&store, "db/other").await, ["01"], "another job");
}

#[tokio::test]
async fn without_a_rule_nothing_is_deleted_and_the_error_says_how_one_is_written() {
    let store = open("prune-no-rule");
    put(&store, "db", 1, &[], None).await;
    put(&store, "db", 2, &[], None).await;
    for jobs in [&["db"][..], &[]] {
        let none = PruneRequest { rules: Rules::default(), ..request("prune-no-rule", jobs, 1, true) };
        let zero = request("prune-no-rule", jobs, 0, true);
        for request in [none, zero] {
            let error = prune(&request, &Reporter::silent(), &CancellationToken::new()).await.unwrap_err();
            assert_eq!(
                (error.kind(), error.hint_text().unwrap().contains("--keep-daily 7")),
                (Kind::Usage, true)
            );
        }
    }
    assert_eq!(days(&store, "db").await.len(), 2);
    let unknown = request("prune-no-rule", &["nothing"], 1, true);
    let error = prune(&unknown, &Reporter::silent(), &CancellationToken::new()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
}

#[tokio::test]
async fn rules_of_the_settings_hold_each_for_its_job_and_what_has_none_is_kept() {
    let store = open("prune-settings");
    for job in ["a", "b"] {
        put(&store, job, 1, &[], None).await;
        put(&store, job, 2, &[], None).await;
    }
    let given = request("prune-settings", &[], 1, true);
    let jobs = BTreeMap::from([("a".to_string(), given.rules.given.clone().unwrap())]);
    let request = PruneRequest { rules: Rules { jobs, ..Rules::default() }, ..given };
    let pruned = run(&request).await;
    assert_eq!((days(&store, "a").await.len(), days(&store, "b").await.len()), (1, 2));
    assert!(pruned.jobs[1].lines.iter().all(|line| line.reasons.contains(&Reason::NoRule)));
}

#[tokio::test]
async fn what_is_needed_or_pinned_is_kept() {
    let store = open("prune-needs");
    put(&store, "db", 1, &[], None).await;
    put(&store, "db", 2, &[], None).await;
    put(&store, "db", 3, &[1], None).await;
    put(&store, "db", 4, &[], None).await;
    put(&store, "db", 5, &[], None).await;
    store.put_pin("db", &id(3), None).await.unwrap();
    run(&request("prune-needs", &["db"], 1, true)).await;
    assert_eq!(days(&store, "db").await, ["01", "03", "05"]);
    store.delete_pins("db", &id(3)).await.unwrap();
    run(&request("prune-needs", &["db"], 1, true)).await;
    assert_eq!(days(&store, "db").await, ["05"]);
    assert_eq!(names(&store, "db").await.len(), 3);
}

async fn put_set(store: &Arc<Store>, set: &SetRef, day: u32, jobs: &[&str]) {
    let member = |job: &str| Member { id: Some(id(day)), ..Member::without(job.into(), "made") };
    let now = id(day).time().unwrap();
    let manifest = SetManifest {
        format: 1,
        set: set.name.clone(),
        id: set.id.clone(),
        started: now,
        finished: now,
        complete: true,
        members: jobs.iter().map(|job| member(job)).collect(),
        tool: String::new(),
    };
    store.put_set(&manifest).await.unwrap();
}

#[tokio::test]
async fn sets_are_pruned_whole_with_what_says_how_they_ended() {
    let store = open("prune-sets");
    for day in 1..=4 {
        let set = SetRef { name: "ee".into(), id: id(day) };
        // The last run is broken off.
        for job in if day < 4 { &["ee/a", "ee/b"][..] } else { &["ee/a"] } {
            put(&store, job, day, &[], Some(&set.to_string())).await;
        }
        if day < 4 {
            put_set(&store, &set, day, &["ee/a", "ee/b"]).await;
        }
    }
    let pruned = run(&request("prune-sets", &["ee/a"], 1, true)).await;
    assert_eq!(pruned.jobs.len(), 2, "the jobs of a set are pruned together");
    assert_eq!(
        (days(&store, "ee/a").await, days(&store, "ee/b").await),
        (vec!["03".into(), "04".into()], vec!["03".into()])
    );
    let runs = store.set_runs().await.unwrap();
    assert_eq!(runs.keys().map(|set| set.id.clone()).collect::<Vec<_>>(), [id(3), id(4)]);
    assert!(runs.values().next().unwrap().is_complete());
}

#[tokio::test]
async fn what_says_how_a_set_ended_stays_as_long_as_any_archive_of_it() {
    let store = open("prune-other-sets");
    for (name, jobs) in [("ee", ["ee/a", "ee/b"]), ("web", ["web/a", "web/b"]), ("old", ["ee/a", "away"])] {
        for day in 1..=3 {
            let set = SetRef { name: name.into(), id: id(day + if name == "old" { 10 } else { 0 }) };
            let begun = set.id.as_str()[6..8].parse().unwrap();
            for job in jobs {
                // Of a damaged manifest, nobody can tell which set its archive is of.
                match (job, begun) {
                    ("web/b", 1) => object(&store, job, &set.id, ".manifest.json").await,
                    _ => put(&store, job, begun, &[], Some(&set.to_string())).await,
                }
            }
            put_set(&store, &set, begun, &jobs).await;
        }
    }
    run(&request("prune-other-sets", &["ee/a"], 1, true)).await;
    let left: Vec<_> = store.sets().await.unwrap().into_iter().map(|(set, _)| set.to_string()).collect();
    let expected = |name: &str, days: &[u32]| {
        days.iter().map(|&day| SetRef { name: name.into(), id: id(day) }.to_string()).collect::<Vec<_>>()
    };
    let expected = [expected("ee", &[3]), expected("old", &[13]), expected("web", &[1, 2, 3])].concat();
    assert_eq!(left.into_iter().collect::<BTreeSet<_>>(), expected.into_iter().collect());
}

#[tokio::test]
async fn a_rule_that_was_given_is_not_meant_for_a_job_of_the_same_set_that_has_its_own() {
    let store = open("prune-of-another");
    for day in 1..=4 {
        let set = SetRef { name: "ee".into(), id: id(day) };
        for job in ["ee/a", "ee/b"] {
            // Two of each job are of no set.
            put(&store, job, day, &[], (day > 2).then(|| set.to_string()).as_deref()).await;
        }
    }
    let mut request = request("prune-of-another", &["ee/a"], 1, true);
    let mut three = Policy::default();
    three.counts[0] = Count::Of(3);
    request.rules.jobs.insert("ee/b".into(), three);
    run(&request).await;
    // The third is kept with that of the other job, which is one of its last three.
    assert_eq!(days(&store, "ee/a").await, ["03", "04"]);
    assert_eq!(days(&store, "ee/b").await, ["02", "03", "04"]);
}

#[tokio::test]
async fn what_is_not_deleted_of_one_job_keeps_its_sets_whole() {
    let store = open("prune-failed-job");
    for day in 1..=3 {
        let set = SetRef { name: "ee".into(), id: id(day) };
        for job in ["ee/a", "ee/b"] {
            put(&store, job, day, &[], Some(&set.to_string())).await;
        }
        put_set(&store, &set, day, &["ee/a", "ee/b"]).await;
    }
    // The archives are not what their manifests say.
    let mut request = request("prune-failed-job", &[], 1, true);
    request.verify_before = true;
    let pruned = run(&request).await;
    let failed: BTreeSet<_> = pruned.failed.iter().map(|(job, _)| job.as_str()).collect();
    assert!(failed.contains("ee/a") && failed.contains("ee/b"), "{failed:?}");
    for job in ["ee/a", "ee/b"] {
        assert_eq!(days(&store, job).await, ["01", "02", "03"]);
        assert!(names(&store, job).await.iter().all(|name| !name.contains("tombstone")));
    }
    assert_eq!(store.sets().await.unwrap().len(), 3);
    assert!(pruned.jobs.iter().all(|job| job.lines.len() == 3), "each archive has its line");
}

#[tokio::test]
async fn removals_that_were_broken_off_are_finished_and_tombstones_of_the_dead_taken_back() {
    let store = open("prune-broken-off");
    for day in 1..=3 {
        put(&store, "db", day, &[], None).await;
    }
    // One was killed after the manifest, another one before it, of an archive that is to be kept.
    store.put_tombstone("db", &id(1), "a test").await.unwrap();
    crate::store::faults::halt::replace(
        "prune-broken-off",
        store.key("db", &id(1), ".manifest.json").as_ref(),
        None,
    )
    .await;
    store.put_tombstone("db", &id(3), "a test").await.unwrap();
    let before = names(&store, "db").await;
    let told = run(&request("prune-broken-off", &["db"], 5, true)).await;
    assert!(told.jobs[0].lines.iter().all(|line| matches!(line.fate, Fate::Kept)));
    assert_eq!(names(&store, "db").await, before, "a young tombstone may be somebody's");
    let late = PruneRequest { stale: Duration::ZERO, ..request("prune-broken-off", &["db"], 5, true) };
    run(&late).await;
    assert_eq!(
        (days(&store, "db").await, names(&store, "db").await.len()),
        (vec!["02".into(), "03".into()], 6)
    );
}

#[tokio::test]
async fn before_anything_is_deleted_the_newest_is_read_where_that_is_asked_for() {
    let store = open("prune-verify");
    put(&store, "db", 1, &[], None).await;
    put(&store, "db", 2, &[], None).await;
    // No archive of these has the bytes that its manifest names.
    let request = PruneRequest { verify_before: true, ..request("prune-verify", &["db"], 1, true) };
    let pruned = run(&request).await;
    assert_eq!((pruned.failed.len(), days(&store, "db").await.len()), (1, 2));
}

fn delete_request(name: &str, id: Id, confirm: bool) -> DeleteRequest {
    let archive = ArchiveRef { job: "db".into(), version: Version::Id(id) };
    DeleteRequest { store: StoreUrl::new(format!("memory://{name}")), archive, confirm, stale: STALE }
}

#[tokio::test]
async fn one_archive_is_deleted_by_the_same_floors() {
    let (name, ui) = ("delete-one", Reporter::silent());
    let store = open(name);
    put(&store, "db", 1, &[], None).await;
    put(&store, "db", 2, &[1], None).await;
    put(&store, "db", 3, &[], None).await;
    put(&store, "db", 4, &[], None).await;
    store.put_pin("db", &id(3), None).await.unwrap();
    let refused = async |day: u32| {
        let error = delete(&delete_request(name, id(day), true), &ui).await.unwrap_err();
        assert_eq!((error.kind().exit_code(), error.hint_text().is_some()), (1, true));
        error.to_string()
    };
    assert_eq!(refused(4).await, format!("db@{} is not deleted: newest", id(4)));
    assert_eq!(refused(3).await, format!("db@{} is not deleted: pinned", id(3)));
    assert_eq!(refused(1).await, format!("db@{} is not deleted: needed by {}", id(1), id(2)));
    let told = delete(&delete_request(name, id(2), false), &ui).await.unwrap();
    assert_eq!(days(&store, "db").await.len(), 4);
    assert_eq!(delete(&delete_request(name, id(2), true), &ui).await.unwrap(), told);
    delete(&delete_request(name, id(1), true), &ui).await.unwrap();
    assert_eq!(days(&store, "db").await, ["03", "04"]);
    // What is damaged may go, though it was made last.
    store.put_damage("db", &id(4)).await.unwrap();
    delete(&delete_request(name, id(4), true), &ui).await.unwrap();
    assert_eq!((days(&store, "db").await, names(&store, "db").await.len()), (vec!["03".into()], 4));
}

#[tokio::test]
async fn where_the_clock_is_far_behind_the_newest_stays_all_the_same() {
    let store = open("delete-future");
    let tomorrow = |days: i64| {
        let at = Timestamp::now() + jiff::SignedDuration::from_hours(24 * days);
        format!("{}-00000000", at.strftime("%Y%m%dT%H%M%SZ")).parse::<Id>().unwrap()
    };
    let ids = [tomorrow(1), tomorrow(2)];
    for id in &ids {
        for suffix in [".raw", ".catalog.zst"] {
            object(&store, "db", id, suffix).await;
        }
        let started = id.time().unwrap();
        let manifest = Manifest { started, job: "db".into(), id: id.clone(), ..example() };
        store.put_manifest(&manifest).await.unwrap();
    }
    let refused = delete(&delete_request("delete-future", ids[1].clone(), true), &Reporter::silent()).await;
    assert!(refused.unwrap_err().to_string().contains("newest"));
    assert_eq!(store.ids("db").await.unwrap(), ids);
}

#[tokio::test]
async fn what_the_store_refuses_to_delete_is_said_of_each_and_the_others_go() {
    use crate::store::faults::{Fault, Op, Rule};
    let store = open("prune-locked");
    for day in 1..=4 {
        put(&store, "db", day, &[], None).await;
    }
    let locked =
        "Server returned non-2xx status code: 403 Forbidden: <Error><Code>AccessDenied</Code></Error>";
    let key: &'static str = "20261102T020000Z-00000002.manifest.json";
    let rules = vec![Rule::on(Op::Delete, key, Fault::Refuse(locked))];
    let (faulty, _) = Store::faulty("memory://prune-locked", rules);
    let request = request("prune-locked", &["db"], 1, true);
    let view = View::take(&faulty, &request.jobs, &request.rules, STALE).await.unwrap();
    let reasons = view.decide(Timestamp::now());
    let mut pruned =
        Pruned { store: String::new(), jobs: view.lines(&reasons), failed: Vec::new(), interrupted: None };
    let (ui, cancel) = (Reporter::silent(), CancellationToken::new());
    let acting = Acting { store: &faulty, request: &request, ui: &ui, cancel: &cancel };
    acting.act(&view, &mut pruned).await.unwrap();
    assert_eq!(days(&store, "db").await, ["02", "04"]);
    assert_eq!(names(&store, "db").await.len(), 6, "no tombstone is left");
    assert!(matches!(&pruned.jobs[0].lines[1].fate, Fate::Stays(Kept::Refused(_))), "{:?}", pruned.jobs);
}

#[tokio::test]
async fn a_prune_that_is_interrupted_says_so_and_leaves_no_tombstone() {
    let store = open("prune-interrupted");
    for day in 1..=3 {
        put(&store, "db", day, &[], None).await;
    }
    let before = names(&store, "db").await;
    let cancel = CancellationToken::new();
    cancel.cancel();
    let request = request("prune-interrupted", &["db"], 1, true);
    let pruned = prune(&request, &Reporter::silent(), &cancel).await.unwrap();
    assert_eq!(pruned.interrupted.map(|error| error.kind()), Some(crate::error::Kind::Interrupted));
    assert!(pruned.jobs[0].lines.iter().all(|line| !matches!(line.fate, Fate::Gone(_))));
    assert_eq!(names(&store, "db").await, before);
}
