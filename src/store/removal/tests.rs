//! Removals that meet backups, and that are broken off.

use super::*;
use crate::store::StoreOptions;
use crate::store::manifest::{Manifest, example};

const OLD: &str = "20261121T020000Z-00000001";
const NEW: &str = "20261122T020000Z-00000002";

fn id(text: &str) -> Id {
    text.parse().unwrap()
}

fn open(name: &str) -> Store {
    Store::open(&format!("memory://{name}"), &StoreOptions::default()).unwrap()
}

/// The objects of an archive of 10 bytes that needs others, but for the manifest.
async fn put_data(store: &Store, id: &Id) {
    for suffix in [".raw", ".catalog.zst"] {
        store.up.put(&store.key("db", id, suffix), "12345".into()).await.unwrap();
    }
}

async fn put(store: &Store, own: &str, needs: &[&str]) {
    let needs = needs.iter().map(|text| id(text)).collect();
    put_data(store, &id(own)).await;
    store.put_manifest(&Manifest { id: id(own), needs, ..example() }).await.unwrap();
}

async fn names(store: &Store) -> Vec<String> {
    let mut names: Vec<_> = store.sizes("db").await.unwrap().into_keys().collect();
    names.sort();
    names
}

async fn begin<'a>(store: &'a Store, own: &str) -> Removal<'a> {
    Removal::begin(store, "db", [&id(own)], "a test", tombstone::STALE).await.unwrap()
}

async fn remove(store: &Store, own: &str) -> Removed {
    let mut removal = begin(store, own).await;
    removal.look_again(&Needs::new()).await.unwrap();
    removal.delete(&id(own)).await.unwrap()
}

#[tokio::test]
async fn an_archive_is_gone_with_all_that_lies_beside_it_and_nothing_else() {
    let store = open("removal-all");
    put(&store, NEW, &[]).await;
    let others = names(&store).await;
    put(&store, OLD, &[]).await;
    store.put_damage("db", &id(OLD)).await.unwrap();
    let size: u64 = store
        .sizes("db")
        .await
        .unwrap()
        .iter()
        .filter(|(name, _)| name.starts_with(OLD))
        .map(|(_, size)| size)
        .sum();
    let Removed::Gone(freed) = remove(&store, OLD).await else { panic!() };
    assert_eq!((freed, names(&store).await), (size, others));
}

#[tokio::test]
async fn what_a_backup_needs_that_came_meanwhile_is_kept() {
    let store = open("removal-needed");
    put(&store, OLD, &[]).await;
    let mut removal = begin(&store, OLD).await;
    put(&store, NEW, &[OLD]).await;
    removal.look_again(&Needs::new()).await.unwrap();
    let before = names(&store).await.len();
    assert!(
        matches!(removal.delete(&id(OLD)).await.unwrap(), Removed::Kept(Kept::NeededBy(by)) if by == id(NEW))
    );
    assert_eq!(names(&store).await.len(), before - 1, "the tombstone is taken back");
    // Both at once, the one that needs the other first.
    let mut removal =
        Removal::begin(&store, "db", [&id(OLD), &id(NEW)], "a test", tombstone::STALE).await.unwrap();
    removal.look_again(&Needs::new()).await.unwrap();
    for own in [NEW, OLD] {
        assert!(matches!(removal.delete(&id(own)).await.unwrap(), Removed::Gone(_)));
    }
    assert_eq!(names(&store).await, [""; 0]);
}

#[tokio::test]
async fn what_is_not_committed_yet_may_need_all_that_is_older_as_long_as_it_is_new() {
    let store = open("removal-uncommitted");
    put(&store, OLD, &[]).await;
    put_data(&store, &id(NEW)).await;
    let kept = remove(&store, OLD).await;
    assert!(matches!(kept, Removed::Kept(Kept::MayBeNeededBy(by)) if by == id(NEW)));
    let mut removal = Removal::begin(&store, "db", [&id(OLD)], "a test", Duration::ZERO).await.unwrap();
    removal.look_again(&Needs::new()).await.unwrap();
    assert!(matches!(removal.delete(&id(OLD)).await.unwrap(), Removed::Gone(_)));
}

#[tokio::test]
async fn what_a_damaged_manifest_says_is_not_known() {
    let store = open("removal-damaged");
    put(&store, OLD, &[]).await;
    store.up.put(&store.key("db", &id(NEW), SUFFIX), "x".into()).await.unwrap();
    let kept = remove(&store, OLD).await;
    assert!(matches!(kept, Removed::Kept(Kept::MayBeNeededBy(by)) if by == id(NEW)));
    assert!(matches!(remove(&store, NEW).await, Removed::Gone(_)));
    assert!(matches!(remove(&store, OLD).await, Removed::Gone(_)));
}

#[tokio::test]
async fn a_removal_that_was_broken_off_is_finished_by_the_next_whatever_is_left() {
    let store = open("removal-broken-off");
    for left in [&[".manifest.json", ".catalog.zst", ".raw"][..], &[".catalog.zst", ".raw"], &[".raw"], &[]] {
        begin(&store, OLD).await;
        for suffix in left {
            store.up.put(&store.key("db", &id(OLD), suffix), "x".into()).await.unwrap();
        }
        let found = store.beside(Some("db")).await.unwrap()[&("db".to_string(), id(OLD))];
        assert!(found.tombstone.is_some() && found.has_manifest == left.contains(&SUFFIX), "{left:?}");
        assert!(matches!(remove(&store, OLD).await, Removed::Gone(_)), "{left:?}");
        assert_eq!(names(&store).await, [""; 0], "{left:?}");
    }
}

#[tokio::test]
async fn nothing_is_deleted_without_a_tombstone_of_ones_own() {
    let store = open("removal-unmarked");
    put(&store, OLD, &[]).await;
    let mut removal = begin(&store, OLD).await;
    removal.look_again(&Needs::new()).await.unwrap();
    let at = store.tombstones("db").await.unwrap().remove(&id(OLD)).unwrap().remove(0);
    store.take_back_tombstone("db", &id(OLD), &at).await.unwrap();
    begin(&store, OLD).await;
    assert!(matches!(removal.delete(&id(OLD)).await.unwrap(), Removed::Kept(Kept::Unmarked)));
    assert_eq!(names(&store).await.len(), 4);
}

#[tokio::test]
async fn what_is_unknown_stays_and_keeps_what_has_no_manifest() {
    let store = open("removal-unknown");
    put(&store, OLD, &[]).await;
    put_data(&store, &id(NEW)).await;
    for own in [OLD, NEW] {
        store.up.put(&store.key("db", &id(own), ".index-2.json"), "x".into()).await.unwrap();
    }
    assert!(matches!(remove(&store, NEW).await, Removed::Kept(Kept::Unknown(_))));
    begin(&store, NEW).await;
    let found = store.beside(Some("db")).await.unwrap()[&("db".to_string(), id(NEW))];
    let later = jiff::Timestamp::now() + Duration::from_secs(60);
    assert!(found.tombstone.is_some() && !found.is_broken_off(later, Duration::ZERO));
    let mut removal = Removal::begin(&store, "db", [&id(OLD)], "a test", Duration::ZERO).await.unwrap();
    removal.look_again(&Needs::new()).await.unwrap();
    assert!(matches!(removal.delete(&id(OLD)).await.unwrap(), Removed::Gone(_)));
    let of_old: Vec<_> = names(&store).await.into_iter().filter(|name| name.starts_with(OLD)).collect();
    assert_eq!(of_old, [format!("{OLD}.index-2.json")]);
}

#[tokio::test]
async fn nothing_is_deleted_by_a_list_that_lags_behind() {
    use crate::store::faults::{Fault, Op, Rule};
    let store = open("removal-lags");
    put(&store, OLD, &[]).await;
    let before = names(&store).await;
    let rule = Rule::on(Op::List, "", Fault::Pretend);
    let (lagging, _) = Store::faulty("memory://removal-lags", vec![rule]);
    let mut removal = begin(&lagging, OLD).await;
    let error = removal.look_again(&Needs::new()).await.unwrap_err();
    assert!(error.to_string().contains("does not list what was written"), "{error}");
    removal.give_up(error).await;
    assert_eq!(names(&store).await, before);
}
