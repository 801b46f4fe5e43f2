//! What a backup leaves in its stores when they fail: a whole archive, or nothing that the error does not name.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio_util::sync::CancellationToken;

use super::{Fault, Faults, Op, Rule};
use crate::archive::budget::{BudgetRequest, MemoryBudget};
use crate::archive::digest::Digest;
use crate::archive::openpgp::block_pool;
use crate::archive::read_at::ReadAt;
use crate::archive::testing::noise;
use crate::archive::{Format, Id};
use crate::error::{Error, Kind, Result};
use crate::report::Reporter;
use crate::store::download::Object;
use crate::store::fan::{Failed, FanOut, ObjectName};
use crate::store::manifest::{self, Manifest};
use crate::store::needs::Needs;
use crate::store::rate::RateLimiter;
use crate::store::removal::{Kept, Removal};
use crate::store::{Store, StoreOptions};
use crate::stream::channel::{Receiver, channel};
use crate::stream::counters::Counters;

pub(super) const ARCHIVE: &str = ".raw";
pub(super) const CATALOG: &str = ".catalog.zst";
pub(super) const MANIFEST: &str = ".manifest.json";
pub(super) const JOB: &str = "team/db";
const ID: &str = "20261122T020000Z-1f2e3d4c";
/// Bytes of a part: the archive has ten, the catalog one.
const PART: u64 = 1000;

pub(super) fn archive() -> Bytes {
    noise(9_500).into()
}

fn catalog() -> Bytes {
    noise(700).into()
}

pub(super) fn id() -> Id {
    ID.parse().unwrap()
}

pub(super) fn manifest() -> Manifest {
    let object = |bytes: &Bytes| {
        let mut digest = Digest::new();
        digest.update(bytes);
        manifest::Object::from(&digest.finish())
    };
    let now = "2026-11-22T02:00:00Z".parse().unwrap();
    Manifest {
        format: 1,
        id: id(),
        job: JOB.into(),
        set: None,
        host: None,
        source_id: None,
        kind: Format::Raw,
        suffix: ARCHIVE.into(),
        started: now,
        finished: now,
        bytes: archive().len() as u64,
        entries: 0,
        kept: Default::default(),
        needs: Vec::new(),
        partial: false,
        full: false,
        archive: object(&archive()),
        catalog: object(&catalog()),
        warnings: 0,
        tool: "sealift 0".into(),
    }
}

/// `bytes` in pieces, then `outcome`.
fn sending(bytes: Bytes, outcome: Result<()>) -> Receiver<Bytes> {
    let (sender, receiver) = channel(2);
    tokio::spawn(async move {
        for piece in bytes.chunks(333) {
            if sender.send(Bytes::copy_from_slice(piece)).await.is_err() {
                return;
            }
        }
        sender.finish(outcome).await;
    });
    receiver
}

/// Backs up as a job does: whatever fails before the commit aborts every upload.
pub(super) async fn back_up(
    stores: &[Arc<Store>],
    outcome: Result<()>,
) -> Result<(Vec<String>, Vec<Failed>)> {
    back_up_until(stores, outcome, &CancellationToken::new(), &Reporter::silent()).await
}

/// [`back_up`], until it is cancelled.
pub(super) async fn back_up_until(
    stores: &[Arc<Store>],
    outcome: Result<()>,
    cancel: &CancellationToken,
    ui: &Reporter,
) -> Result<(Vec<String>, Vec<Failed>)> {
    let request = BudgetRequest { part_size: Some(PART), ..BudgetRequest::default() };
    let limits = stores.iter().map(|store| store.kind.limits()).reduce(|a, b| a.and(b)).unwrap();
    let parts = MemoryBudget::new(&request, limits).unwrap().parts;
    let mut fan = FanOut::new(parts, block_pool(4), ui);
    let (id, counters) = (id(), Counters::default());
    let name = ObjectName { job: JOB, id: &id, suffix: ARCHIVE };
    let work = async {
        fan.begin(stores, &name, 2, &counters).await?;
        let (archive, catalog) = (sending(archive(), outcome), sending(catalog(), Ok(())));
        fan.pump(archive, catalog, RateLimiter::new(None)).await
    };
    let worked = tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Error::interrupted()),
        worked = work => worked,
    };
    if let Err(error) = worked {
        return Err(fan.abort_because(error).await);
    }
    let committed = fan.commit(&manifest(), &Needs::default(), cancel).await?;
    Ok((committed.stores, committed.failed))
}

/// A store of its own for each test, and the same without faults.
pub(super) fn faulty(test: &str, rules: Vec<Rule>) -> (Arc<Store>, Arc<Faults>, Store) {
    let url = format!("memory://faults-{test}/nightly");
    let (store, faults) = Store::faulty(&url, rules);
    (store, faults, Store::open(&url, &StoreOptions::default()).unwrap())
}

pub(super) async fn keys(store: &Store) -> Vec<String> {
    let metas: Vec<_> = store.down.list(None).try_collect().await.unwrap();
    metas.into_iter().map(|meta| meta.location.to_string()).collect()
}

/// What is listed is whole: every byte of both objects is the one that was sent.
pub(super) async fn listed_and_whole(store: Store) -> bool {
    let store = Arc::new(store);
    let listed = store.archives(None).await.unwrap();
    for archive in &listed {
        let manifest = archive.manifest.as_ref().unwrap();
        let suffixes = [(ARCHIVE, &manifest.archive), (CATALOG, &manifest.catalog)];
        for (suffix, said) in suffixes {
            let object = Object::open(&store, store.key(&archive.job, &archive.id, suffix)).await.unwrap();
            object.verified_stream(said).try_collect::<Vec<_>>().await.unwrap();
        }
    }
    listed.len() == 1
}

/// Everything that is said of a failure.
pub(super) fn text(error: &Error) -> String {
    format!("{error}; {}", error.hint_text().unwrap_or_default())
}

/// Nothing is listed; of objects and uploads only those are left that the error names.
async fn nothing_unnamed(error: &Error, faults: &Faults, clean: Store) {
    let text = text(error);
    let left = keys(&clean).await.into_iter().chain(faults.open_uploads());
    for key in left {
        assert!(text.contains(&key), "{key} is left, but the error does not say so: {text}");
    }
    assert!(!listed_and_whole(clean).await, "listed though it failed: {text}");
}

/// How a backup ends.
enum End {
    Committed,
    /// With an error that holds these words.
    Failed(&'static str),
}

/// With one store the backup ends as said; with a sound one beside it, that one has it either way.
async fn check(test: &str, rules: fn() -> Vec<Rule>, end: End) {
    let (store, faults, clean) = faulty(&format!("{test}-alone"), rules());
    let outcome = back_up(&[Arc::clone(&store)], Ok(())).await;
    assert!(faults.fired() > 0, "no rule was met");
    match (&end, outcome) {
        (End::Committed, Ok((committed, failed))) => {
            assert_eq!((committed, failed.len()), (vec![store.name.clone()], 0));
            assert_eq!(faults.open_uploads(), [""; 0]);
            assert!(listed_and_whole(clean).await);
        }
        (End::Failed(words), Err(error)) => {
            assert!(text(&error).contains(words), "{}", text(&error));
            nothing_unnamed(&error, &faults, clean).await;
        }
        (_, outcome) => panic!("{outcome:?}"),
    }

    let (store, faults, clean) = faulty(&format!("{test}-beside"), rules());
    let (sound, no_faults, sound_clean) = faulty(&format!("{test}-sound"), Vec::new());
    let (committed, failed) = back_up(&[Arc::clone(&store), Arc::clone(&sound)], Ok(())).await.unwrap();
    assert!(committed.contains(&sound.name), "{committed:?}");
    assert!(listed_and_whole(sound_clean).await, "the other store goes on");
    assert_eq!(no_faults.open_uploads(), [""; 0]);
    match end {
        End::Committed => assert!(failed.is_empty() && listed_and_whole(clean).await),
        End::Failed(words) => {
            assert_eq!((failed.len(), &failed[0].store), (1, &store.name));
            assert!(text(&failed[0].error).contains(words), "{}", text(&failed[0].error));
            nothing_unnamed(&failed[0].error, &faults, clean).await;
        }
    }
}

/// A definite refusal.
pub(super) const NO: Fault = Fault::Refuse("status code: 422 Unprocessable: no thanks");
/// An outage, as servers say it.
pub(super) const BUSY: Fault =
    Fault::Refuse("status code: 503 Slow Down: <Error><Code>SlowDown</Code></Error>");

macro_rules! faults {
    ($($name:ident: [$($rule:expr),+] => $end:expr;)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            check(stringify!($name), || vec![$($rule),+], $end).await;
        }
    )*};
}

use End::{Committed, Failed as Fails};

faults! {
    no_upload_of_the_archive_begins: [Rule::on(Op::Create, ARCHIVE, NO)] => Fails("beginning the upload");
    no_upload_of_the_catalog_begins: [Rule::on(Op::Create, CATALOG, NO)] => Fails("beginning the upload");
    beginning_is_slow: [Rule::on(Op::Create, "", Fault::Delay(Duration::from_millis(50)))] => Committed;
    the_first_part_is_refused: [Rule::on(Op::Part, ARCHIVE, NO).nth(0)] => Fails("no thanks");
    a_part_in_the_middle_is_refused: [Rule::on(Op::Part, ARCHIVE, NO).nth(5)] => Fails("no thanks");
    the_last_part_is_refused: [Rule::on(Op::Part, ARCHIVE, NO).nth(9)] => Fails("no thanks");
    the_catalogs_part_is_refused: [Rule::on(Op::Part, CATALOG, NO)] => Fails("no thanks");
    every_part_is_refused: [Rule::on(Op::Part, "", NO)] => Fails("no thanks");
    the_answer_to_a_part_is_lost: [Rule::on(Op::Part, ARCHIVE, Fault::LoseAnswer).nth(3)] => Committed;
    a_part_is_slow: [Rule::on(Op::Part, ARCHIVE, Fault::Delay(Duration::from_millis(100))).nth(4)] => Committed;
    every_part_is_slow: [Rule::on(Op::Part, "", Fault::Delay(Duration::from_millis(10)))] => Committed;
    a_part_is_dropped_in_silence: [Rule::on(Op::Part, ARCHIVE, Fault::Pretend).nth(2)] => Fails("8500 bytes of");
    the_catalogs_part_is_dropped_in_silence: [Rule::on(Op::Part, CATALOG, Fault::Pretend)] => Fails("0 bytes of");
    completing_the_archive_is_refused: [Rule::on(Op::Complete, ARCHIVE, NO)] => Fails("completing the upload");
    completing_the_catalog_is_refused: [Rule::on(Op::Complete, CATALOG, NO)] => Fails("completing the upload");
    the_answer_to_completing_the_archive_is_lost: [Rule::on(Op::Complete, ARCHIVE, Fault::LoseAnswer)] => Committed;
    the_answer_to_completing_the_catalog_is_lost: [Rule::on(Op::Complete, CATALOG, Fault::LoseAnswer)] => Committed;
    the_archive_is_said_to_be_complete_and_is_not: [Rule::on(Op::Complete, ARCHIVE, Fault::Pretend)] => Fails("lost");
    the_catalog_is_said_to_be_complete_and_is_not: [Rule::on(Op::Complete, CATALOG, Fault::Pretend)] => Fails("lost");
    the_archive_cannot_be_asked_for: [Rule::on(Op::Head, ARCHIVE, NO)] => Fails("asking for the object's size");
    the_catalog_cannot_be_asked_for: [Rule::on(Op::Head, CATALOG, NO)] => Fails("asking for the object's size");
    the_archive_has_another_size: [Rule::on(Op::Head, ARCHIVE, Fault::Size(9_499))] => Fails("9499 bytes of");
    the_catalog_has_another_size: [Rule::on(Op::Head, CATALOG, Fault::Size(1 << 40))] => Fails("where 700 were sent");
    the_archive_is_gone_after_it_was_written: [Rule::on(Op::Head, ARCHIVE, Fault::NotFound)] => Fails("lost");
    neither_completed_nor_seen: [Rule::on(Op::Complete, ARCHIVE, NO), Rule::on(Op::Head, ARCHIVE, NO)]
        => Fails("completing the upload");
    the_manifest_is_refused: [Rule::on(Op::Put, MANIFEST, NO)] => Fails("writing the manifest");
    the_answer_to_the_manifest_is_lost: [Rule::on(Op::Put, MANIFEST, Fault::LoseAnswer)] => Committed;
    the_manifest_is_slow: [Rule::on(Op::Put, MANIFEST, Fault::Delay(Duration::from_millis(50)))] => Committed;
    what_was_begun_cannot_be_aborted: [Rule::on(Op::Part, ARCHIVE, NO).nth(1), Rule::on(Op::Abort, ARCHIVE, NO)]
        => Fails("parts of nightly/team/db/20261122T020000Z-1f2e3d4c.raw may be left");
    the_answer_to_an_abort_is_lost: [Rule::on(Op::Part, CATALOG, NO), Rule::on(Op::Abort, CATALOG, Fault::LoseAnswer)]
        => Fails("no thanks");
    a_wrong_size_that_cannot_be_deleted: [Rule::on(Op::Head, ARCHIVE, Fault::Size(1)), Rule::on(Op::Delete, ARCHIVE, NO)]
        => Fails("without a manifest");
}

#[tokio::test(start_paused = true)]
async fn a_manifest_that_may_have_arrived_deletes_nothing() {
    let rules = vec![
        Rule::on(Op::Put, MANIFEST, Fault::LoseAnswer),
        Rule::on(Op::Get, MANIFEST, BUSY),
        Rule::on(Op::Head, MANIFEST, BUSY),
    ];
    let (store, _, clean) = faulty("unknown-commit", rules);
    let error = back_up(&[store], Ok(())).await.unwrap_err();
    assert!(error.to_string().starts_with("commit unknown"), "{error}");
    assert!(listed_and_whole(clean).await, "it had arrived");
}

#[tokio::test(start_paused = true)]
async fn another_manifest_under_the_same_key_is_not_overwritten() {
    let (store, _, clean) = faulty("another-manifest", Vec::new());
    let key = store.key(JOB, &id(), MANIFEST);
    clean.up.put(&key, "another's".into()).await.unwrap();
    let error = back_up(&[store], Ok(())).await.unwrap_err();
    assert!(error.to_string().contains("another manifest"), "{error}");
    assert_eq!(clean.down.get(&key).await.unwrap().bytes().await.unwrap(), "another's");
}

#[tokio::test(start_paused = true)]
async fn the_first_of_two_stores_that_fail_is_the_one_reported() {
    let (early, early_faults, early_clean) = faulty(
        "first-early",
        vec![Rule::on(Op::Part, ARCHIVE, Fault::Refuse("status code: 422 early")).nth(1)],
    );
    let (late, late_faults, late_clean) =
        faulty("first-late", vec![Rule::on(Op::Complete, ARCHIVE, Fault::Refuse("status code: 422 late"))]);
    let error = back_up(&[late, early], Ok(())).await.unwrap_err();
    assert!(text(&error).contains("early"), "{}", text(&error));
    assert_eq!((keys(&early_clean).await.len(), keys(&late_clean).await.len()), (0, 0));
    assert_eq!((early_faults.open_uploads().len(), late_faults.open_uploads().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_aborts_everywhere_and_stays_the_cause() {
    let (store, faults, clean) = faulty("source-fails", vec![Rule::on(Op::Abort, CATALOG, NO)]);
    let (sound, sound_faults, sound_clean) = faulty("source-fails-sound", Vec::new());
    let error = back_up(&[store, sound], Err(Error::failed("tar exited 2"))).await.unwrap_err();
    assert_eq!(error.to_string(), "tar exited 2", "a failed abort never hides the cause");
    nothing_unnamed(&error, &faults, clean).await;
    assert_eq!((sound_faults.open_uploads(), keys(&sound_clean).await), (vec![], vec![]));
}

/// A store with one archive, seen through faults.
async fn stored(test: &str, rules: Vec<Rule>) -> (Arc<Store>, Store) {
    let (store, _, clean) = faulty(test, Vec::new());
    back_up(&[store], Ok(())).await.unwrap();
    let (store, ..) = faulty(test, rules);
    (store, clean)
}

async fn object(store: &Arc<Store>) -> Result<Object> {
    Object::open(store, store.key(JOB, &id(), ARCHIVE)).await
}

async fn whole(object: &Object) -> Result<Vec<Bytes>> {
    object.verified_stream(&manifest().archive).try_collect().await
}

#[tokio::test(start_paused = true)]
async fn a_list_that_breaks_off_is_an_error_not_a_short_list() {
    let (store, _) = stored("list", vec![Rule::on(Op::List, "", Fault::LoseAnswer).nth(0)]).await;
    assert_eq!(store.archives(None).await.unwrap().len(), 1);
    let (store, _) = stored("list-of-a-job", vec![Rule::on(Op::List, "team/db", NO)]).await;
    assert!(store.newest(JOB).await.unwrap_err().to_string().contains("no thanks"));
    assert_eq!(store.newest("other").await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_manifest_that_is_damaged_on_the_way_is_listed_as_that() {
    for (i, fault) in
        [Fault::FlippedByte(30), Fault::ShortRead(100), Fault::Size(1 << 40)].into_iter().enumerate()
    {
        let (store, _) = stored(&format!("bad-manifest-{i}"), vec![Rule::on(Op::Get, MANIFEST, fault)]).await;
        let listed = store.archives(None).await.unwrap();
        assert_eq!(listed[0].manifest.as_ref().unwrap_err().kind(), Kind::Damaged, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_manifest_that_cannot_be_read_fails_the_list() {
    let (store, _) = stored("unread-manifest", vec![Rule::on(Op::Get, MANIFEST, NO)]).await;
    assert!(store.archives(None).await.is_err());
    // One that went between the list and the read is no archive any more.
    let (store, _) = stored("gone-manifest", vec![Rule::on(Op::Get, MANIFEST, Fault::NotFound)]).await;
    assert!(store.archives(None).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_manifest_that_is_listed_and_not_found_may_need_everything_older() {
    let rule = || Rule::on(Op::Get, MANIFEST, Fault::NotFound);
    let (store, _) = stored("listed-not-found", vec![rule()]).await;
    let older = "20261101T020000Z-1f2e3d4c".parse().unwrap();
    let stale = crate::store::tombstone::STALE;
    let mut removal = Removal::begin(&store, JOB, [&older], "a test", stale).await.unwrap();
    removal.look_again(&Default::default()).await.unwrap();
    assert!(matches!(removal.obstacle(&older), Some(Kept::MayBeNeededBy(by)) if by == id()));
}

#[tokio::test(start_paused = true)]
async fn a_flipped_byte_is_seen_at_the_end_of_the_stream() {
    let (store, _) = stored("flip", vec![Rule::on(Op::Get, ARCHIVE, Fault::FlippedByte(4_000))]).await;
    let error = whole(&object(&store).await.unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged);
}

#[tokio::test(start_paused = true)]
async fn a_short_read_is_damage_and_never_fewer_bytes() {
    let (store, _) = stored("short", vec![Rule::on(Op::Get, ARCHIVE, Fault::ShortRead(10))]).await;
    let error = object(&store).await.unwrap().read_at(0..100).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged);
    assert!(error.to_string().contains("ends early"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_read_that_fails_once_is_tried_again() {
    let (store, _) = stored("retry", vec![Rule::on(Op::Get, ARCHIVE, BUSY).nth(0)]).await;
    let pieces = whole(&object(&store).await.unwrap()).await.unwrap();
    assert_eq!(pieces.concat(), archive());
}

#[tokio::test(start_paused = true)]
async fn a_read_that_fails_for_ever_is_the_stores_failure_not_damage() {
    let (store, _) = stored("for-ever", vec![Rule::on(Op::Get, ARCHIVE, NO)]).await;
    let error = object(&store).await.unwrap().read_at(0..100).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Failed);
    assert!(error.to_string().contains("no thanks"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_object_that_changes_or_vanishes_while_it_is_read_is_damage() {
    let (store, clean) = stored("changes", Vec::new()).await;
    let (object, key) = (object(&store).await.unwrap(), store.key(JOB, &id(), ARCHIVE));
    clean.up.put(&key, archive().into()).await.unwrap();
    let error = object.read_at(0..100).await.unwrap_err();
    assert!(error.kind() == Kind::Damaged && error.to_string().contains("changed"), "{error}");
    clean.down.delete(&key).await.unwrap();
    let error = object.read_at(0..100).await.unwrap_err();
    assert!(error.kind() == Kind::Damaged && error.to_string().contains("vanished"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_gone_is_damage_and_one_that_cannot_be_asked_for_is_not() {
    let (store, _) = stored("gone", vec![Rule::on(Op::Head, ARCHIVE, Fault::NotFound)]).await;
    assert_eq!(object(&store).await.unwrap_err().kind(), Kind::Damaged);
    let error = Object::open_foreign(&store, "team/db/nothing").await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    let (store, _) = stored("unasked", vec![Rule::on(Op::Head, ARCHIVE, NO)]).await;
    assert_eq!(object(&store).await.unwrap_err().kind(), Kind::Failed);
}

#[tokio::test(start_paused = true)]
async fn an_abort_leaves_what_another_run_has_committed() {
    let (store, clean) = stored("committed", Vec::new()).await;
    let before = keys(&clean).await;
    // A copy has the key of its original: it fails at once, and must not take that away.
    let (again, _) = Store::faulty(&store.name, vec![Rule::on(Op::Part, ARCHIVE, NO).nth(2)]);
    back_up(&[again], Ok(())).await.unwrap_err();
    assert_eq!(keys(&clean).await, before);
    assert!(listed_and_whole(clean).await);
}

#[tokio::test(start_paused = true)]
async fn a_path_below_the_url_is_where_everything_lies() {
    let (_, clean) = stored("prefix", Vec::new()).await;
    let names = [ARCHIVE, CATALOG, MANIFEST].map(|suffix| format!("nightly/team/db/{ID}{suffix}"));
    let mut found = keys(&clean).await;
    found.sort();
    let mut names = names.to_vec();
    names.sort();
    assert_eq!(found, names);
    assert_eq!(clean.shown(&Path::from(found[0].as_str())), &found[0]["nightly/".len()..]);
}
