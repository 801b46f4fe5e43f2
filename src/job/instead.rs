//! What to restore instead of an archive that is damaged.

use std::collections::BTreeSet;

use super::stored::ArchiveRef;
use super::version::Version;
use crate::error::{Error, Kind};
use crate::report::Reporter;
use crate::store::StoreUrl;
use crate::store::list::Listed;

/// Names, where the newest archive of a job is damaged, the newest one that is not, as far as a list shows: the damage may
/// be that of an older archive that it needs, so that others have it, too.
pub(super) async fn or_newest_whole(
    error: Error,
    from: &StoreUrl,
    archive: &ArchiveRef,
    ui: &Reporter,
) -> Error {
    if error.kind() != Kind::Damaged || archive.version != Version::Latest {
        return error;
    }
    let listed = async { from.open(ui)?.archives(Some(&archive.job)).await };
    let Ok(mut listed) = listed.await else { return error };
    listed.retain(|listed| !listed.is_partial());
    let Some((newest, before)) = listed.split_last() else { return error };
    let reads = |listed: &Listed| {
        let needs = listed.manifest.iter().flat_map(|manifest| manifest.needs.iter().cloned());
        needs.chain([listed.id.clone()]).collect::<BTreeSet<_>>()
    };
    let suspects = reads(newest);
    match before.iter().rev().find(|other| other.is_whole() && reads(other).is_disjoint(&suspects)) {
        Some(whole) if newest.manifest.as_ref().is_ok_and(|manifest| !manifest.needs.is_empty()) => error
            .and_hint(format!("the newest one that shares nothing with it is {}@{}", whole.job, whole.id)),
        Some(whole) => error.and_hint(format!("the one before it is {}@{}", whole.job, whole.id)),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::archive::Id;
    use crate::job::stored::StoredArchive;
    use crate::store::manifest::{Manifest, example};

    #[tokio::test]
    async fn the_one_before_a_damaged_newest_is_named() {
        let url = StoreUrl::new("memory://stored-newest-damaged");
        let store = Arc::new(url.open(&Reporter::silent()).unwrap());
        let ids =
            ["20261122T020000Z-1f2e3d4c", "20261123T020000Z-1f2e3d4c"].map(|id| id.parse::<Id>().unwrap());
        for id in &ids {
            let manifest = Manifest { id: id.clone(), ..example() };
            store.put_manifest(&manifest).await.unwrap();
        }
        for suffix in [".raw", ".catalog.zst"] {
            use crate::store::upload::{Class, Upload};
            let key = store.key("db", &ids[0], suffix);
            let mut upload = Upload::begin(&store, key, Class::Catalog, 1, &Arc::default()).await.unwrap();
            upload.complete().await.unwrap();
        }
        let newest = ArchiveRef { job: "db".into(), version: Version::Latest };
        let named = ArchiveRef { version: Version::Id(ids[1].clone()), ..newest.clone() };
        let error = StoredArchive::find(&url, &newest, &Reporter::silent())
            .await
            .unwrap()
            .open(None)
            .await
            .err()
            .unwrap();
        let hinted = or_newest_whole(error.clone(), &url, &newest, &Reporter::silent()).await;
        assert!(
            hinted.hint_text().is_some_and(|hint| hint.contains("db@20261122T020000Z-1f2e3d4c")),
            "{hinted:?}"
        );
        assert_eq!(
            or_newest_whole(error.clone(), &url, &named, &Reporter::silent()).await.hint_text(),
            error.hint_text()
        );
    }

    #[tokio::test]
    async fn what_shares_an_archive_with_a_damaged_newest_is_not_named_as_whole() {
        let url = StoreUrl::new("memory://stored-newest-shares");
        let store = Arc::new(url.open(&Reporter::silent()).unwrap());
        let ids: [Id; 4] =
            std::array::from_fn(|day| format!("202611{:02}T020000Z-1f2e3d4c", day + 1).parse().unwrap());
        let error = Error::damaged("x");
        let job: ArchiveRef = "db".parse().unwrap();
        for (id, needs) in ids.iter().zip([&[][..], &[], &ids[1..2], &ids[1..2]]) {
            for suffix in [".raw", ".catalog.zst"] {
                use crate::store::upload::{Class, Upload};
                let key = store.key("db", id, suffix);
                let mut upload =
                    Upload::begin(&store, key, Class::Catalog, 1, &Arc::default()).await.unwrap();
                upload.part("x".into()).await.unwrap();
                upload.complete().await.unwrap();
            }
            let manifest = Manifest { id: id.clone(), needs: needs.to_vec(), ..example() };
            store.put_manifest(&manifest).await.unwrap();
        }
        let hinted = or_newest_whole(error.clone(), &url, &job, &Reporter::silent()).await;
        let hint = hinted.hint_text().unwrap();
        assert_eq!(hint, format!("the newest one that shares nothing with it is db@{}", ids[0]));
        store.put_damage("db", &ids[0]).await.unwrap();
        let hinted = or_newest_whole(error, &url, &job, &Reporter::silent()).await;
        assert_eq!(hinted.hint_text(), None, "it is damaged, too");
    }
}
