//! What becomes of a backup when a store is away for a while, answers late or not at all, or cannot do all that others can.

use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStoreExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::tests::{
    ARCHIVE, BUSY, CATALOG, JOB, MANIFEST, NO, archive, back_up, back_up_until, faulty, id, keys,
    listed_and_whole, manifest, text,
};
use super::{Fault, Faults, Op, Rule};
use crate::error::Kind;
use crate::report::{Recorder, Reporter};
use crate::store::{Store, StoreOptions};

const FORBIDDEN: Fault =
    Fault::Refuse("status code: 403 Forbidden: <Error><Code>AccessDenied</Code></Error>");
const NOT_IMPLEMENTED: Fault =
    Fault::Refuse("status code: 501 Not Implemented: <Error><Code>NotImplemented</Code></Error>");
const CONFLICT: Fault =
    Fault::Refuse("status code: 409 Conflict: <Error><Code>ConditionalRequestConflict</Code></Error>");
const TIMED_OUT: Fault =
    Fault::Refuse("status code: 400 Bad Request: <Error><Code>RequestTimeout</Code></Error>");
const WRITES: [(Op, &str); 5] = [
    (Op::Create, ARCHIVE),
    (Op::Part, ARCHIVE),
    (Op::Complete, ARCHIVE),
    (Op::Head, ARCHIVE),
    (Op::Put, MANIFEST),
];

#[tokio::test(start_paused = true)]
async fn an_outage_of_20_seconds_is_survived_at_every_request() {
    for (i, (op, key)) in WRITES.into_iter().chain([(Op::Get, MANIFEST)]).enumerate() {
        for (j, fault) in
            [BUSY, Fault::Unreachable, Fault::LoseAnswer, CONFLICT, TIMED_OUT].into_iter().enumerate()
        {
            let (store, faults, clean) =
                faulty(&format!("outage-{i}-{j}"), vec![Rule::on(op, key, fault).lasting(20)]);
            let began = Instant::now();
            let (committed, failed) = back_up(&[store], Ok(())).await.unwrap();
            assert_eq!((committed.len(), failed.len()), (1, 0), "{op:?} {fault:?}");
            assert!(faults.fired() > 0 && began.elapsed() < Duration::from_secs(60), "{op:?} {fault:?}");
            assert!(listed_and_whole(clean).await, "{op:?} {fault:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_longer_than_allowed_says_how_long_it_was_tried() {
    let (store, ..) = faulty("too-long", vec![Rule::on(Op::Create, ARCHIVE, BUSY)]);
    let recorder = Recorder::default();
    store.report_to(&Reporter::new(recorder.clone()));
    let began = Instant::now();
    let error = back_up(&[store], Ok(())).await.unwrap_err();
    assert!(error.to_string().contains("(tried for 4:5"), "{error}");
    assert!(text(&error).contains("may have been begun"), "{}", text(&error));
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    assert!((4.5..5.5).contains(&minutes), "{minutes}");
    let told = recorder.texts();
    assert!(told.iter().any(|text| text.contains("retrying 0:1") && text.contains("of 5:00")), "{told:?}");
    assert!((15..=31).contains(&told.len()), "{}", told.len());
}

#[tokio::test(start_paused = true)]
async fn a_short_retry_for_is_kept() {
    let options = StoreOptions { retry_for: Duration::from_secs(3), ..StoreOptions::default() };
    let (store, _) =
        Store::faulty_with("memory://faults-short/nightly", vec![Rule::on(Op::Create, "", BUSY)], &options);
    let began = Instant::now();
    back_up(&[store], Ok(())).await.unwrap_err();
    assert!(began.elapsed() <= Duration::from_secs(4), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_manifest_whose_reset_put_arrives_seconds_later_finds_its_data() {
    for seconds in [1, 5, 400] {
        let late = Fault::Late(Duration::from_secs(seconds));
        let (store, _, clean) =
            faulty(&format!("late-{seconds}"), vec![Rule::on(Op::Put, MANIFEST, late).nth(0)]);
        back_up(&[store], Ok(())).await.unwrap();
        tokio::time::sleep(Duration::from_secs(500)).await;
        assert!(listed_and_whole(clean).await, "{seconds}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_manifest_that_arrives_after_everybody_gave_up_finds_its_data() {
    let late = Fault::Late(Duration::from_secs(900));
    let (store, _, clean) = faulty("given-up", vec![Rule::on(Op::Put, MANIFEST, late)]);
    let error = back_up(&[store], Ok(())).await.unwrap_err();
    assert!(error.to_string().starts_with("commit unknown"), "{error}");
    assert!(text(&error).contains("sealift adopt team/db@"), "{}", text(&error));
    tokio::time::sleep(Duration::from_secs(1000)).await;
    assert!(listed_and_whole(clean).await);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_after_a_lost_put_deletes_nothing() {
    let late = Rule::on(Op::Put, MANIFEST, Fault::Late(Duration::from_secs(60))).nth(0);
    let (store, _, clean) = faulty("refused-later", vec![late, Rule::on(Op::Put, MANIFEST, NO)]);
    let error = back_up(&[store], Ok(())).await.unwrap_err();
    assert!(error.to_string().starts_with("commit unknown"), "{error}");
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(listed_and_whole(clean).await);
}

#[tokio::test(start_paused = true)]
async fn a_complete_that_arrives_late_is_seen() {
    let late = Rule::on(Op::Complete, ARCHIVE, Fault::Late(Duration::from_secs(3))).nth(0);
    let (store, faults, clean) = faulty("complete-late", vec![late]);
    back_up(&[store], Ok(())).await.unwrap();
    assert!(listed_and_whole(clean).await);
    assert_eq!(faults.open_uploads(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_cannot_be_completed_for_long_is_not_deleted_on_a_guess() {
    let (store, faults, clean) = faulty("never-complete", vec![Rule::on(Op::Complete, ARCHIVE, BUSY)]);
    let error = back_up(&[store], Ok(())).await.unwrap_err();
    assert!(error.to_string().starts_with("commit unknown"), "{error}");
    assert_eq!(faults.open_uploads().len(), 1, "it may still be completed");
    assert_eq!(keys(&clean).await.len(), 1, "the catalog is there");
    assert!(faults.open_uploads().iter().all(|key| text(&error).contains(key)), "{}", text(&error));
}

#[tokio::test(start_paused = true)]
async fn a_manifest_that_was_taken_and_is_not_there_is_no_backup() {
    let (store, _, clean) = faulty("swallowed", vec![Rule::on(Op::Put, MANIFEST, Fault::Pretend)]);
    let began = Instant::now();
    let error = back_up(&[store], Ok(())).await.unwrap_err();
    assert!(error.to_string().starts_with("commit unknown") && error.kind() == Kind::Failed, "{error}");
    assert!(began.elapsed() < Duration::from_secs(60));
    assert_eq!(keys(&clean).await.len(), 2, "nothing was deleted");
    // One that is swallowed once is written again.
    let (store, _, clean) =
        faulty("swallowed-once", vec![Rule::on(Op::Put, MANIFEST, Fault::Pretend).nth(0)]);
    back_up(&[store], Ok(())).await.unwrap();
    assert!(listed_and_whole(clean).await);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_seen_late_is_waited_for() {
    let (store, _, clean) =
        faulty("seen-late", vec![Rule::on(Op::Head, ARCHIVE, Fault::NotFound).lasting(10)]);
    back_up(&[store], Ok(())).await.unwrap();
    assert!(listed_and_whole(clean).await);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_may_write_and_list_is_enough() {
    let rules = vec![Rule::on(Op::Head, "", FORBIDDEN), Rule::on(Op::Get, "", FORBIDDEN)];
    let (store, _, clean) = faulty("write-and-list", rules);
    back_up(&[store], Ok(())).await.unwrap();
    assert!(listed_and_whole(clean).await);
    // What is short is seen all the same.
    let rules = vec![Rule::on(Op::Head, "", FORBIDDEN), Rule::on(Op::Part, ARCHIVE, Fault::Pretend).nth(2)];
    let (store, ..) = faulty("write-and-list-short", rules);
    assert!(back_up(&[store], Ok(())).await.unwrap_err().to_string().contains("8500 bytes of"));
}

#[tokio::test(start_paused = true)]
async fn a_store_without_conditional_writes_is_found_out_before_the_first_byte() {
    let (store, _, clean) = faulty("no-create-only", vec![Rule::on(Op::Put, "", NOT_IMPLEMENTED)]);
    let recorder = Recorder::default();
    store.probe_create_only(JOB, &Reporter::new(recorder.clone())).await;
    assert!(recorder.texts().iter().any(|text| text.contains("without replacing")), "{:?}", recorder.texts());
    assert!(keys(&clean).await.is_empty(), "the probe leaves nothing");
    back_up(&[Arc::clone(&store)], Ok(())).await.unwrap();
    // Nothing is overwritten there either.
    let (_, _, other) = faulty("no-create-only", Vec::new());
    let key = store.key(JOB, &id(), MANIFEST);
    other.up.put(&key, "another's".into()).await.unwrap();
    let error = store.put_manifest(&manifest()).await.unwrap_err();
    assert!(error.to_string().contains("another manifest"), "{error}");
    // One that is found out only then is no failure.
    let (store, _, clean) = faulty("no-create-only-late", vec![Rule::on(Op::Put, "", NOT_IMPLEMENTED)]);
    back_up(&[store], Ok(())).await.unwrap();
    assert!(listed_and_whole(clean).await);
}

#[tokio::test(start_paused = true)]
async fn a_probe_says_nothing_where_all_is_well() {
    let (store, _, clean) = faulty("create-only", Vec::new());
    let recorder = Recorder::default();
    store.probe_create_only(JOB, &Reporter::new(recorder.clone())).await;
    assert_eq!((recorder.texts(), keys(&clean).await), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn an_upload_whose_beginning_got_no_answer_is_told() {
    let (store, faults, _) =
        faulty("begun-twice", vec![Rule::on(Op::Create, ARCHIVE, Fault::LoseAnswer).nth(0)]);
    let recorder = Recorder::default();
    let cancel = CancellationToken::new();
    back_up_until(&[store], Ok(()), &cancel, &Reporter::new(recorder.clone())).await.unwrap();
    let told = recorder.texts();
    assert!(faults.open_uploads().iter().all(|key| told.iter().any(|text| text.contains(key))), "{told:?}");
    assert_eq!(faults.open_uploads().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_signal_is_heard_at_once_during_every_request_that_gets_no_answer() {
    let requests =
        WRITES.into_iter().chain([(Op::Part, CATALOG), (Op::Complete, CATALOG), (Op::Get, MANIFEST)]);
    for (i, (op, key)) in requests.enumerate() {
        let (store, faults, clean) = faulty(&format!("signal-{i}"), vec![Rule::on(op, key, Fault::Stall)]);
        let cancel = CancellationToken::new();
        let signal = cancel.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(20)).await;
            signal.cancel();
        });
        let began = Instant::now();
        let error = back_up_until(&[store], Ok(()), &cancel, &Reporter::silent()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Interrupted, "{op:?}: {error}");
        let waited = began.elapsed() - Duration::from_secs(20);
        assert!(waited <= Duration::from_secs(8), "{op:?}: {waited:?}");
        for left in faults.open_uploads().into_iter().chain(keys(&clean).await) {
            if left.ends_with(MANIFEST) {
                // It is whole, and was only not read back.
                continue;
            }
            let said = text(&error);
            assert!(said.contains(&left) || said.contains("upload of team/db@"), "{op:?}: {left}: {said}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_keeps_no_other_from_its_commit() {
    for (i, (op, key)) in
        [(Op::Complete, ARCHIVE), (Op::Head, CATALOG), (Op::Put, MANIFEST)].into_iter().enumerate()
    {
        let (slow, ..) = faulty(&format!("slow-{i}"), vec![Rule::on(op, key, Fault::Stall)]);
        let (sound, _, clean) = faulty(&format!("slow-sound-{i}"), Vec::new());
        let cancel = CancellationToken::new();
        let ui = Reporter::silent();
        let stores = [slow, sound];
        let backup = back_up_until(&stores, Ok(()), &cancel, &ui);
        assert!(tokio::time::timeout(Duration::from_secs(5), backup).await.is_err(), "it still waits");
        assert!(listed_and_whole(clean).await, "{op:?}");
    }
}

/// A store whose uploads are the client library's own, and the same without faults.
fn whole(test: &str, rule: Rule) -> (Arc<Store>, Arc<Faults>, Store) {
    let url = format!("memory://faults-{test}/nightly");
    let (store, faults) = Store::faulty_whole(&url, vec![rule]);
    (store, faults, Store::open(&url, &StoreOptions::default()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_forgets_its_parts_is_completed_once() {
    // A refusal is none either: the library has asked before, and an attempt of those may have been done.
    for (i, (fault, cause)) in [(BUSY, "503"), (FORBIDDEN, "403")].into_iter().enumerate() {
        let (store, faults, clean) = whole(&format!("whole-{i}"), Rule::on(Op::Complete, ARCHIVE, fault));
        let error = back_up(&[store], Ok(())).await.unwrap_err();
        assert!(error.to_string().starts_with("commit unknown: completing the upload"), "{error}");
        assert!(error.to_string().contains(cause), "the first answer is the cause: {error}");
        assert_eq!(error.to_string().matches("tried for").count(), 1, "{error}");
        assert_eq!((faults.fired(), faults.open_uploads().len()), (1, 1));
        assert_eq!(clean.newest(JOB).await.unwrap(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_forgets_its_parts_is_seen_when_its_answer_was_lost_or_is_late() {
    for (i, fault) in [Fault::LoseAnswer, Fault::Late(Duration::from_secs(9))].into_iter().enumerate() {
        let (store, faults, clean) =
            whole(&format!("whole-done-{i}"), Rule::on(Op::Complete, ARCHIVE, fault));
        back_up(&[store], Ok(())).await.unwrap();
        assert_eq!(faults.open_uploads(), [""; 0]);
        assert!(listed_and_whole(clean).await, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_archive_whose_data_is_gone_is_not_listed_as_good() {
    let (store, _, clean) = faulty("lost-data", Vec::new());
    back_up(&[Arc::clone(&store)], Ok(())).await.unwrap();
    assert!(store.archives(Some(JOB)).await.unwrap()[0].manifest.is_ok());
    clean.down.delete(&store.key(JOB, &id(), ARCHIVE)).await.unwrap();
    for job in [Some(JOB), None] {
        let listed = store.archives(job).await.unwrap();
        let error = listed[0].manifest.as_ref().unwrap_err();
        assert!(error.kind() == Kind::Damaged && error.to_string().contains("has lost"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_lies_there_without_a_manifest_is_found() {
    let (store, _, clean) = faulty("unfinished", vec![Rule::on(Op::Put, MANIFEST, Fault::Pretend)]);
    back_up(&[store], Ok(())).await.unwrap_err();
    for job in [None, Some(JOB)] {
        let found = clean.unfinished(job).await.unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].has_both() && found[0].id == id() && found[0].job == JOB, "{found:?}");
    }
    clean.put_manifest(&manifest()).await.unwrap();
    assert_eq!(clean.unfinished(None).await.unwrap(), []);
    assert!(archive().len() > 1 && listed_and_whole(clean).await);
}
