//! `adopt`: archives that lie complete in a store, but whose manifest never arrived, are committed.
//!
//! The sealed catalog's end says what was sealed; the stored bytes are held against it, and the manifest is written from
//! it.

use std::sync::Arc;

use futures_util::TryStreamExt;

use super::stored::{ArchiveRef, OpenRequest, StoredArchive, no_archive};
use super::version::Version;
use crate::archive::Id;
use crate::archive::contents::Contents;
use crate::archive::digest::Digest;
use crate::error::{Error, Kind, Result};
use crate::report::Reporter;
use crate::store::Store;
use crate::store::download::Object;
use crate::store::manifest::{self, Manifest, archive_suffix};
use crate::store::needs::Need;
use crate::store::unfinished::Unfinished;

/// What to adopt.
#[derive(Debug, Clone)]
pub struct AdoptRequest {
    /// Where it lies, and what opens it.
    pub open: OpenRequest,
    /// One archive, or a job's; otherwise every job's.
    pub archive: Option<ArchiveRef>,
    /// All that is complete; otherwise only what is named by its id.
    pub all: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Adoption {
    /// The store's name.
    pub store: String,
    /// What exists now.
    pub adopted: Vec<Manifest>,
    /// What lies there, and was left as it is.
    pub left: Vec<Unfinished>,
    /// What was to be adopted, and could not be.
    pub failed: Vec<(String, Error)>,
}

/// Looks for archives without a manifest, and commits those that are asked for.
///
/// # Errors
/// The store does not answer; there is no such archive; the one that is named by its id is not whole.
pub async fn adopt(request: &AdoptRequest, ui: &Reporter) -> Result<Adoption> {
    let store = Arc::new(request.open.store.create(ui)?);
    let job = request.archive.as_ref().map(|archive| archive.job.as_str());
    let found = store.unfinished(job).await?;
    let mut adoption =
        Adoption { store: store.name.clone(), adopted: Vec::new(), left: Vec::new(), failed: Vec::new() };
    if let Some(ArchiveRef { job, version: Version::Id(id) }) = &request.archive {
        let one = one(&store, job, id, found).await?;
        adoption.adopted.push(adopt_one(&store, &one, &request.open, ui).await?);
        return Ok(adoption);
    }
    let (complete, rest): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|found| request.all && found.has_both());
    adoption.left = rest;
    for one in complete {
        match adopt_one(&store, &one, &request.open, ui).await {
            Ok(manifest) => adoption.adopted.push(manifest),
            Err(error) => adoption.failed.push((format!("{}@{}", one.job, one.id), error)),
        }
    }
    Ok(adoption)
}

/// The one that is named, or why it cannot be adopted.
async fn one(store: &Store, job: &str, id: &Id, found: Vec<Unfinished>) -> Result<Unfinished> {
    match found.into_iter().find(|found| found.id == *id) {
        Some(one) if one.has_both() => Ok(one),
        Some(one) => {
            let missing = if one.has_catalog { "archive" } else { "catalog" };
            Err(Error::failed(format!("{job}@{id} is not whole: its {missing} is not there")))
        }
        None => match store.manifest(job, id).await {
            Ok(_) => Err(Error::failed(format!("{job}@{id} has its manifest: there is nothing to adopt"))),
            Err(error) if error.kind() == Kind::NotFound => Err(no_archive(job, store)
                .await
                .hint(format!("`sealift adopt --from {}` lists what can be adopted", store.name))),
            Err(error) => Err(error),
        },
    }
}

async fn adopt_one(
    store: &Arc<Store>,
    one: &Unfinished,
    request: &OpenRequest,
    ui: &Reporter,
) -> Result<Manifest> {
    let found = StoredArchive {
        store: Arc::clone(store),
        job: one.job.clone(),
        id: one.id.clone(),
        manifest: unproved(one),
    };
    let opened = found.open(found.passphrase(request)?).await?;
    let said = manifest_of(opened.contents(), one)?;
    ui.detail(&format!("reading {}: {} bytes", found.name(), said.archive.size));
    // Every stored byte is held against what the sealed end says.
    let archive = found.archive_object().await?;
    archive.verified_stream(&said.archive).try_for_each(|_| std::future::ready(Ok(()))).await?;
    let catalog = digest(&found.catalog_object().await?).await?;
    let manifest = Manifest { catalog, ..said };
    let needs = opened.contents().needs.iter().map(|needed| Need::from(&needed.archive)).collect();
    store.adopt_manifest(&manifest, &needs).await?;
    Ok(manifest)
}

/// A manifest for finding the objects; nothing of it but the keys is believed.
fn unproved(one: &Unfinished) -> Manifest {
    let nothing = || manifest::Object { size: 0, blake3: String::new() };
    let suffix = one.suffix.clone().unwrap_or_default();
    let time = jiff::Timestamp::UNIX_EPOCH;
    Manifest {
        format: 0,
        id: one.id.clone(),
        job: one.job.clone(),
        set: None,
        host: None,
        source_id: None,
        kind: crate::archive::Format::Raw,
        suffix,
        started: time,
        finished: time,
        bytes: 0,
        entries: 0,
        kept: Default::default(),
        needs: Vec::new(),
        partial: false,
        full: false,
        archive: nothing(),
        catalog: nothing(),
        warnings: 0,
        tool: String::new(),
    }
}

/// What the backup would have written, as far as the catalog tells.
fn manifest_of(contents: &Contents, one: &Unfinished) -> Result<Manifest> {
    let (archive, end) = (&contents.archive, &contents.end);
    let suffix = archive_suffix(archive.kind, archive.codec, archive.cipher);
    if one.suffix.as_ref() != Some(&suffix) {
        let name = format!("{}@{}", one.job, one.id);
        return Err(Error::damaged(format!("the catalog of {name} is of an object that ends with {suffix}")));
    }
    let needs = contents.needs.iter().map(|needed| needed.archive.id.clone()).collect();
    Ok(Manifest::of(archive, end, needs, manifest::Object { size: 0, blake3: String::new() }))
}

async fn digest(object: &Object) -> Result<manifest::Object> {
    let mut digest = Digest::new();
    object
        .stream()
        .try_for_each(|bytes| {
            digest.update(&bytes);
            std::future::ready(Ok(()))
        })
        .await?;
    Ok((&digest.finish()).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::frame::Codec;
    use crate::archive::testing::{How, JOB, noise};
    use crate::host::passphrase::Sources;
    use crate::report::Recorder;
    use crate::store::StoreUrl;
    use crate::store::upload::{Class, Upload};
    use crate::stream::source::ByteStream;

    /// A sealed archive without its manifest; `change` alters the archive's bytes.
    async fn left(url: &str, change: impl FnOnce(&mut Vec<u8>)) -> (Arc<Store>, Id) {
        let sealed =
            How::new(None, Codec::None, 1000).seal(ByteStream::from_bytes(noise(9_500))).await.unwrap();
        let store = Arc::new(StoreUrl::new(url).open(&Reporter::silent()).unwrap());
        let mut archive = sealed.archive.to_vec();
        change(&mut archive);
        let id: Id = sealed.contents(None).await.unwrap().archive.id;
        for (suffix, bytes) in [(".raw", archive), (".catalog.zst", sealed.catalog.to_vec())] {
            let key = store.key(JOB, &id, suffix);
            let mut upload = Upload::begin(&store, key, Class::Catalog, 1, &Arc::default()).await.unwrap();
            upload.part(bytes.into()).await.unwrap();
            upload.complete().await.unwrap();
        }
        (store, id)
    }

    fn request(url: &str, id: Option<&Id>, all: bool) -> AdoptRequest {
        let open =
            OpenRequest { store: StoreUrl::new(url), passphrase: Sources::default(), no_encrypt: true };
        let archive = id.map(|id| ArchiveRef { job: JOB.into(), version: Version::Id(id.clone()) });
        AdoptRequest { open, archive, all }
    }

    async fn run(request: &AdoptRequest) -> Result<Adoption> {
        adopt(request, &Reporter::new(Recorder::default())).await
    }

    #[tokio::test]
    async fn what_lies_complete_is_committed_as_the_backup_would_have_been() {
        let url = "memory://adopt-one";
        let (store, id) = left(url, |_| {}).await;
        let seen = run(&request(url, None, false)).await.unwrap();
        assert_eq!((seen.adopted.len(), seen.left.len()), (0, 1), "without a name it is only told");
        assert_eq!(store.newest(JOB).await.unwrap(), None);
        let adoption = run(&request(url, Some(&id), false)).await.unwrap();
        let manifest = store.manifest(JOB, &id).await.unwrap();
        assert_eq!(adoption.adopted, std::slice::from_ref(&manifest));
        assert_eq!((manifest.bytes, manifest.suffix.as_str()), (9_500, ".raw"));
        let catalog = Object::open(&store, store.key(JOB, &id, ".catalog.zst")).await.unwrap();
        let stored: Vec<_> = catalog.verified_stream(&manifest.catalog).try_collect().await.unwrap();
        assert!(!stored.is_empty());
        assert!(store.archives(None).await.unwrap()[0].manifest.is_ok());
        let again = run(&request(url, Some(&id), false)).await.unwrap_err();
        assert!(again.to_string().contains("nothing to adopt"), "{again}");
    }

    #[tokio::test]
    async fn what_is_not_what_was_sealed_is_not_adopted() {
        let url = "memory://adopt-damaged";
        let (store, id) = left(url, |bytes| bytes[4_000] ^= 1).await;
        assert_eq!(run(&request(url, Some(&id), false)).await.unwrap_err().kind(), Kind::Damaged);
        let all = run(&request(url, None, true)).await.unwrap();
        assert_eq!((all.adopted.len(), all.failed.len()), (0, 1));
        assert_eq!(store.newest(JOB).await.unwrap(), None);
        let url = "memory://adopt-short";
        let (store, id) = left(url, |bytes| bytes.truncate(9_000)).await;
        assert!(run(&request(url, Some(&id), false)).await.is_err());
        assert_eq!(store.newest(JOB).await.unwrap(), None);
    }

    #[tokio::test]
    async fn all_that_is_complete_is_adopted_at_once() {
        let url = "memory://adopt-all";
        let (store, id) = left(url, |_| {}).await;
        assert_eq!(run(&request(url, None, true)).await.unwrap().adopted.len(), 1);
        assert_eq!(store.newest(JOB).await.unwrap(), Some(id));
        assert!(run(&request(url, None, true)).await.unwrap().adopted.is_empty());
    }

    #[tokio::test]
    async fn an_archive_that_is_not_there_is_not_found() {
        let url = "memory://adopt-none";
        let id: Id = "20261122T020000Z-1f2e3d4c".parse().unwrap();
        assert_eq!(run(&request(url, Some(&id), false)).await.unwrap_err().kind(), Kind::NotFound);
    }
}
