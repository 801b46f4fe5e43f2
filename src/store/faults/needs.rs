//! What an increment needs is deleted by somebody while it is committed.

use std::sync::Arc;

use object_store::ObjectStoreExt;
use object_store::path::Path;
use tokio_util::sync::CancellationToken;

use super::tests::{ARCHIVE, CATALOG, JOB, MANIFEST, id, keys, manifest};
use super::{Fault, Op, Rule};
use crate::archive::Id;
use crate::error::{Kind, Result};
use crate::store::commit::Target;
use crate::store::manifest::Manifest;
use crate::store::needs::{Need, Needs};
use crate::store::{Store, StoreOptions};

const OLDER: &str = "20261121T020000Z-1f2e3d4c";
const SIZE: u64 = 7;

fn older() -> Id {
    OLDER.parse().unwrap()
}

fn needs() -> Needs {
    [Need { id: older(), suffix: ARCHIVE.into(), size: SIZE }].into_iter().collect()
}

/// A store with an older archive of so many bytes, whose requests fail as `rules` say.
async fn store(url: &str, size: usize, rules: Vec<Rule>) -> (Arc<Store>, Store) {
    let clean = Store::open(url, &StoreOptions::default()).unwrap();
    for (suffix, bytes) in [(ARCHIVE, vec![0; size]), (CATALOG, vec![0]), (MANIFEST, vec![0])] {
        clean.up.put(&clean.key(JOB, &older(), suffix), bytes.into()).await.unwrap();
    }
    (Store::faulty(url, rules).0, clean)
}

async fn commit(store: &Arc<Store>) -> Result<()> {
    let mut target = Target::begin(store, JOB, &id(), ARCHIVE, 1, &Arc::default()).await?;
    target.archive.part("the archive".into()).await?;
    target.catalog.part("the catalog".into()).await?;
    let manifest = Manifest { needs: vec![older()], ..manifest() };
    target.commit(&manifest, &needs(), &CancellationToken::new()).await.map(drop)
}

/// The objects that are not the older archive's.
async fn new(clean: &Store) -> Vec<String> {
    keys(clean).await.into_iter().filter(|key| !key.contains(OLDER)).collect()
}

#[tokio::test]
async fn an_increment_whose_need_is_there_is_committed() {
    let (store, clean) = store("memory://needs-there", SIZE as usize, Vec::new()).await;
    commit(&store).await.unwrap();
    assert_eq!(clean.newest(JOB).await.unwrap(), Some(id()));
}

#[tokio::test]
async fn an_increment_whose_need_is_gone_or_another_is_not_committed_and_leaves_nothing() {
    for (test, size, gone) in
        [("object", SIZE, ARCHIVE), ("manifest", SIZE, MANIFEST), ("size", SIZE - 1, CATALOG)]
    {
        let (store, clean) = store(&format!("memory://needs-no-{test}"), size as usize, Vec::new()).await;
        clean.down.delete(&clean.key(JOB, &older(), gone)).await.unwrap();
        let error = commit(&store).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Failed, "{error}");
        assert!(error.to_string().contains(&format!("{JOB}@{OLDER}, which it needs, is gone")), "{error}");
        assert!(error.hint_text().unwrap().contains("run it again"), "{error:?}");
        assert_eq!(new(&clean).await, [""; 0], "{test}");
    }
}

#[tokio::test]
async fn a_list_that_lags_behind_is_no_proof_that_a_need_is_gone() {
    let rules = vec![Rule::on(Op::List, JOB, Fault::Pretend)];
    let (store, clean) = store("memory://needs-lag", SIZE as usize, rules).await;
    assert!(store.sizes(JOB).await.unwrap().is_empty());
    commit(&store).await.unwrap();
    assert_eq!(clean.newest(JOB).await.unwrap(), Some(id()));
}

const OLDER_MANIFEST: &str = "team/db/20261121T020000Z-1f2e3d4c.manifest.json";

#[tokio::test]
async fn an_increment_whose_need_goes_as_its_manifest_comes_is_taken_back() {
    let rules = vec![Rule::on(Op::Put, MANIFEST, Fault::ThenDeleted(OLDER_MANIFEST))];
    let (store, clean) = store("memory://needs-goes", SIZE as usize, rules).await;
    assert!(clean.down.head(&Path::from(OLDER_MANIFEST)).await.is_ok());
    let error = commit(&store).await.unwrap_err();
    assert!(error.to_string().contains("which it needs, is gone"), "{error}");
    assert_eq!(new(&clean).await, [""; 0]);
}

#[tokio::test]
async fn a_manifest_that_cannot_be_taken_back_is_named() {
    let rules = vec![
        Rule::on(Op::Put, MANIFEST, Fault::ThenDeleted(OLDER_MANIFEST)),
        Rule::on(Op::Delete, MANIFEST, Fault::Refuse("may not delete")),
    ];
    let (store, clean) = store("memory://needs-stays", SIZE as usize, rules).await;
    let error = commit(&store).await.unwrap_err();
    assert!(error.hint_text().unwrap().contains("is still there"), "{error:?}");
    assert_eq!(new(&clean).await.len(), 3, "nothing of an archive that is listed is deleted");
}
