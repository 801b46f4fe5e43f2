//! What is young stays: by the store's clock, and by the latest that was written.

use std::sync::Arc;

use super::tests::{JOB, OLD, open, request};
use super::*;
use crate::archive::Id;
use crate::store::commit::Target;
use crate::store::faults::{Fault, Faults, Op, Rule, halt};
use crate::store::lease::Lease;

const DAY: Duration = Duration::from_secs(86_400);

fn old_enough(name: &str) -> CleanRequest {
    CleanRequest { jobs: vec![JOB.parse().unwrap()], older_than: DAY, ..request(name, true) }
}

/// An upload of a run that has sent a part; the faults of its store.
async fn under_way(name: &str) -> (Arc<Faults>, Target) {
    let watched = halt::watch(name, Vec::new());
    let id: Id = OLD.parse().unwrap();
    let mut target = Target::begin(&open(name), JOB, &id, ".raw", 2, &Default::default()).await.unwrap();
    target.archive.part("a part".into()).await.unwrap();
    target.archive.drain().await.unwrap();
    (watched, target)
}

fn has_archive(watched: &Faults) -> bool {
    watched.open_uploads().iter().any(|key| key.ends_with(".raw"))
}

#[tokio::test]
async fn an_upload_is_as_old_as_its_latest_part() {
    let name = "clean-latest-part";
    let (watched, _target) = under_way(name).await;
    watched.begun_earlier(2 * DAY);
    clean(&old_enough(name), &Reporter::silent()).await.unwrap();
    assert!(has_archive(&watched), "it has no lease, and is written to");
    let now = CleanRequest { older_than: Duration::ZERO, ..old_enough(name) };
    clean(&now, &Reporter::silent()).await.unwrap();
    halt::go_on(name);
    assert!(!has_archive(&watched));
}

#[tokio::test]
async fn a_part_that_came_since_it_was_listed_keeps_an_upload() {
    let name = "clean-part-since";
    let (watched, mut target) = under_way(name).await;
    watched.begun_earlier(2 * DAY);
    let store = open(name);
    let judge = |older_than| Judge { older_than, is_gone: &is_gone, ahead: SignedDuration::ZERO };
    let (found, _) = store.leftovers(Some(JOB), &judge(Duration::ZERO)).await.unwrap();
    let upload = found.iter().find(|left| left.names.iter().any(|name| name.ends_with(".raw"))).unwrap();
    target.archive.part("another".into()).await.unwrap();
    target.archive.drain().await.unwrap();
    let taken = store.take_back(upload, &judge(DAY), &mut Needs::new()).await.unwrap();
    halt::go_on(name);
    assert!(matches!(taken, Taken::Kept(why) if why.contains("written to")));
    assert!(has_archive(&watched));
}

#[tokio::test]
async fn leases_are_judged_by_the_stores_clock_and_not_by_this_hosts() {
    let name = "clean-clock";
    let (watched, _target) = under_way(name).await;
    let elsewhere = r#"{"pid":1,"begun":1,"boot":"another","namespace":"another"}"#;
    let lease =
        Lease { process: serde_json::from_str(elsewhere).unwrap(), ..Lease::new(jiff::Timestamp::now()) };
    open(name).put_lease(JOB, &OLD.parse().unwrap(), 0, &lease).await.unwrap();
    let behind = [Op::List, Op::Head].map(|op| Rule::on(op, "", Fault::Behind(2 * DAY)));
    halt::watch(name, behind.into());
    let cleaned = clean(&old_enough(name), &Reporter::silent()).await.unwrap();
    halt::go_on(name);
    assert!(cleaned.left.is_empty(), "{:?}", cleaned.left);
    assert!(has_archive(&watched), "its run is under way");
    assert_eq!(open(name).runs(JOB).await.unwrap().with_lease().count(), 1);
}

#[tokio::test]
async fn what_a_store_was_tried_out_with_is_found_when_it_stayed() {
    let name = "clean-probes";
    let refused = Fault::Refuse("Server returned non-2xx status code: 403 Forbidden: no");
    let faults = halt::watch(name, vec![Rule::on(Op::Delete, ".probe", refused)]);
    open(name).probe(false).await.unwrap();
    halt::go_on(name);
    assert!(faults.fired() > 0);
    let all = CleanRequest { older_than: Duration::ZERO, ..request(name, true) };
    let cleaned = clean(&all, &Reporter::silent()).await.unwrap();
    assert_eq!(cleaned.left.iter().map(|it| it.left.what.name()).collect::<Vec<_>>(), ["probe"]);
    assert!(halt::objects(name).await.is_empty());
}
