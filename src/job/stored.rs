//! An archive that lies in a store: how it is named, found and opened, and with which passphrase.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::Either;
use futures_util::{Stream, TryStreamExt};
use secrecy::SecretString;

use super::version::{Owner, Version};
use crate::archive::Id;
use crate::archive::contents::{self, Contents};
use crate::archive::name::JobName;
use crate::archive::open::Archive;
use crate::archive::openpgp::{Cipher, Head};
use crate::archive::read_at::once_more_if_damaged;
use crate::error::{Error, Kind, Result};
use crate::host::passphrase::Sources;
use crate::report::{Reporter, names_hint};
use crate::store::download::Object;
use crate::store::manifest::{Manifest, catalog_suffix, parts_of_suffix};
use crate::store::{Store, StoreUrl};
use crate::stream::channel::{Reader, channel_from};
use crate::tar::Entry;

/// `JOB`, `JOB@ID`, `JOB@latest`, `JOB@2026-11-22` or `JOB@` and an id's beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveRef {
    /// The job.
    pub job: String,
    /// Which of its archives.
    pub version: Version,
}

impl FromStr for ArchiveRef {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let (job, version) = match text.split_once('@') {
            Some((job, version)) => (job, version.parse()?),
            None => (text, Version::Latest),
        };
        Ok(ArchiveRef { job: job.parse::<JobName>()?.into(), version })
    }
}

impl fmt::Display for ArchiveRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Version::Latest => f.write_str(&self.job),
            version => write!(f, "{}@{version}", self.job),
        }
    }
}

/// Where archives are, and what opens them.
#[derive(Debug, Clone)]
pub struct OpenRequest {
    /// The store to read from.
    pub store: StoreUrl,
    /// Where the passphrase comes from.
    pub passphrase: Sources,
    /// Accept what was stored in the clear, and nothing else.
    pub no_encrypt: bool,
}

/// The passphrase of several archives, asked for once.
pub struct Secrets<'a> {
    request: &'a OpenRequest,
    known: Option<SecretString>,
}

impl<'a> Secrets<'a> {
    /// Nothing is asked for yet.
    pub fn new(request: &'a OpenRequest) -> Self {
        Secrets { request, known: None }
    }

    /// The request, which asks for nothing that is known now.
    pub fn request(self) -> OpenRequest {
        let mut request = self.request.clone();
        request.passphrase.known = self.known.or(request.passphrase.known);
        request
    }

    /// As [`StoredArchive::passphrase`].
    ///
    /// # Errors
    /// As [`StoredArchive::passphrase`].
    pub fn of(&mut self, found: &StoredArchive) -> Result<Option<SecretString>> {
        if found.encrypted() && !self.request.no_encrypt && self.known.is_some() {
            return Ok(self.known.clone());
        }
        let passphrase = found.passphrase(self.request)?;
        self.known = passphrase.clone().or(self.known.take());
        Ok(passphrase)
    }
}

/// No archive of a job, with the name that was probably meant.
pub async fn no_archive(job: &str, store: &Store) -> Error {
    let error = Error::new(Kind::NotFound, format!("there is no archive of job {job} at {}", store.name));
    // Whether there are others is not worth another error.
    let folders = store.job_folders(&[]).await.unwrap_or_default();
    let known = folders.iter().filter(|(_, folder)| !folder.archives().is_empty());
    let known: Vec<&str> = known.map(|(job, _)| job.as_str()).filter(|known| *known != job).collect();
    error.hint(names_hint(job, &known).unwrap_or_else(|| format!("see `sealift list --from {}`", store.name)))
}

/// No archive of a job that has all of its source.
async fn none_complete(store: &Store, job: &str) -> Error {
    match store.ids(job).await {
        Ok(ids) if !ids.is_empty() => no_archive(job, store).await.and_hint(
            "a long run broke off and left parts (`list --partial`): the next backup --incremental builds on them",
        ),
        _ => no_archive(job, store).await,
    }
}

/// The archive of a job that is meant; of a day the last one that is not partial.
async fn pick(store: &Store, job: &str, version: &Version) -> Result<(Id, Manifest)> {
    let at = |error: Error| error.context(format!("looking at {}", store.name));
    let mut ids = store.ids(job).await?;
    loop {
        let id = version.pick(Owner::Job(job), &ids).map_err(at)?;
        let manifest = store.manifest(job, &id).await?;
        if !manifest.partial || !matches!(version, Version::Day(_)) {
            return Ok((id, manifest));
        }
        ids.retain(|other| *other != id);
    }
}

/// Bytes of a catalog that are held in memory at most.
const HELD_CATALOG: u64 = 64 << 20;

/// Members that are handed over at once.
const BATCH: usize = 1024;

/// An archive that was found in a store.
#[derive(Clone)]
pub struct StoredArchive {
    /// Where it lies.
    pub store: Arc<Store>,
    /// Its job.
    pub job: String,
    /// Its id.
    pub id: Id,
    /// What its manifest says.
    pub manifest: Manifest,
}

impl StoredArchive {
    /// Finds an archive; the newest of its job where no id is given.
    ///
    /// # Errors
    /// The store does not answer, or has no such archive.
    pub async fn find(from: &StoreUrl, archive: &ArchiveRef, ui: &Reporter) -> Result<StoredArchive> {
        let store = Arc::new(from.open(ui)?);
        let job = archive.job.clone();
        let (id, manifest) = match &archive.version {
            Version::Id(id) => (id.clone(), store.manifest(&job, id).await?),
            Version::Latest => {
                let Some((id, manifest)) = store.newest_complete(&job).await? else {
                    return Err(none_complete(&store, &job).await);
                };
                (id, manifest?)
            }
            version => pick(&store, &job, version).await?,
        };
        let found = StoredArchive { store, job, id, manifest };
        if found.manifest.partial {
            ui.warn(&format!(
                "{} is partial: it is a part of a run that went on in a later archive, or broke off, and has only what was \
                 read until then",
                found.name()
            ));
        }
        Ok(found)
    }

    /// Another archive of its job, at the same store.
    ///
    /// # Errors
    /// The store does not answer, or has no such archive.
    pub async fn sibling(&self, id: &Id) -> Result<StoredArchive> {
        let manifest = self.store.manifest(&self.job, id).await?;
        Ok(StoredArchive { id: id.clone(), manifest, ..self.clone() })
    }

    /// `JOB@ID`
    pub fn name(&self) -> String {
        format!("{}@{}", self.job, self.id)
    }

    /// Whether its name says that it is encrypted.
    pub fn encrypted(&self) -> bool {
        self.cipher().is_some()
    }

    /// How it is encrypted, as its name has it.
    pub fn cipher(&self) -> Option<Cipher> {
        parts_of_suffix(&self.manifest.suffix).1
    }

    /// Whether it has lost its manifest since it was found: it is no archive any more.
    pub async fn is_deleted(&self) -> bool {
        let manifest = self.store.manifest(&self.job, &self.id).await;
        manifest.is_err_and(|error| error.kind() == Kind::NotFound)
    }

    /// The object that holds its frames.
    ///
    /// # Errors
    /// The store does not answer, or has lost it.
    pub async fn archive_object(&self) -> Result<Object> {
        Object::open(&self.store, self.store.key(&self.job, &self.id, &self.manifest.suffix)).await
    }

    /// The object that holds its catalog.
    ///
    /// # Errors
    /// The store does not answer, or has lost it.
    pub async fn catalog_object(&self) -> Result<Object> {
        let suffix = catalog_suffix(&self.manifest.suffix);
        let catalog = Object::open(&self.store, self.store.key(&self.job, &self.id, suffix)).await;
        catalog.map_err(|e| {
            e.or_hint("`restore --sequential` reads an archive from its front, without the catalog")
        })
    }

    /// The passphrase. Whether there must be one is for the operator to say: the manifest is anybody's.
    ///
    /// # Errors
    /// It cannot be read, or the archive is encrypted where that was not to be, or the other way round.
    pub fn passphrase(&self, request: &OpenRequest) -> Result<Option<SecretString>> {
        match (self.encrypted(), request.no_encrypt) {
            (true, false) => request.passphrase.read().map(Some),
            (false, true) => Ok(None),
            (true, true) => {
                Err(Error::usage(format!("{} is encrypted", self.name())).hint("leave --no-encrypt out"))
            }
            (false, false) => Err(Error::damaged(format!("{} is not encrypted", self.name())).hint(
                "whoever can write to the store can have put it there; if it is yours, say --no-encrypt",
            )),
        }
    }

    /// Reads the sealed catalog to its proved end and opens the archive.
    ///
    /// # Errors
    /// An object is gone or damaged, or the passphrase does not open it.
    pub async fn open(&self, passphrase: Option<SecretString>) -> Result<Arc<Archive>> {
        let (archive, catalog) = (self.archive_object().await?, self.catalog_object().await?);
        let heads = match &passphrase {
            Some(passphrase) => Some(self.heads(&archive, &catalog, passphrase).await?),
            None => None,
        };
        let (of_archive, of_catalog) = heads.unzip();
        let contents = self.contents(&catalog, of_catalog, |_| {}).await?;
        Ok(Arc::new(Archive::open(Arc::new(archive), contents, of_archive)?))
    }

    /// The catalog's stored bytes. Members are acted on as they come, and cannot be taken back: a catalog that fits into
    /// memory is first held against the manifest, and where it is another, read once more. That proves nothing, which is
    /// for the catalog's own end to do, but finds what was damaged on its way.
    async fn catalog_bytes(
        &self,
        catalog: &Object,
    ) -> Result<Either<impl Stream<Item = Result<Bytes>> + use<>, impl Stream<Item = Result<Bytes>> + use<>>>
    {
        if catalog.size > HELD_CATALOG {
            return Ok(Either::Left(catalog.stream()));
        }
        let whole =
            once_more_if_damaged(|| catalog.verified_stream(&self.manifest.catalog).try_collect::<Vec<_>>());
        let pieces = match whole.await {
            // It may be the manifest that is wrong.
            Err(error) if error.kind() == Kind::Damaged => catalog.stream().try_collect().await?,
            pieces => pieces?,
        };
        Ok(Either::Right(futures_util::stream::iter(pieces.into_iter().map(Ok))))
    }

    pub(super) async fn contents(
        &self,
        catalog: &Object,
        head: Option<Head>,
        mut each: impl FnMut(&Entry),
    ) -> Result<Contents> {
        let bytes = channel_from(self.catalog_bytes(catalog).await?, 2);
        let (job, id) = (self.job.clone(), self.id.clone());
        // Sequoia reads from blocking readers. Members come back in batches, so that `each` may borrow what it likes.
        let (batches, mut members) = tokio::sync::mpsc::channel::<Vec<Entry>>(4);
        let read = tokio::task::spawn_blocking(move || {
            let mut batch = Vec::new();
            let contents = contents::read_catalog(Reader::new(bytes), head.as_ref(), &job, &id, |entry| {
                batch.push(entry.clone());
                if batch.len() == BATCH {
                    // Who no longer listens has failed already.
                    let _ = batches.blocking_send(std::mem::take(&mut batch));
                }
            });
            let _ = batches.blocking_send(batch);
            contents
        });
        while let Some(batch) = members.recv().await {
            batch.iter().for_each(&mut each);
        }
        read.await.map_err(|e| Error::failed("a worker died").because(e))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Format;
    use crate::store::manifest;

    const ID: &str = "20261122T020000Z-1f2e3d4c";

    fn stored(suffix: &str) -> StoredArchive {
        let manifest = Manifest {
            id: ID.parse().unwrap(),
            kind: Format::Tar,
            suffix: suffix.into(),
            ..manifest::example()
        };
        let store = Arc::new(StoreUrl::new("memory:///x").open(&Reporter::silent()).unwrap());
        StoredArchive { store, job: "db".into(), id: ID.parse().unwrap(), manifest }
    }

    fn request(no_encrypt: bool, known: Option<&str>) -> OpenRequest {
        let passphrase = Sources { known: known.map(Into::into), ..Sources::default() };
        OpenRequest { store: StoreUrl::new("memory:///x"), passphrase, no_encrypt }
    }

    #[test]
    fn archives_are_named_by_job_and_id() {
        let named: ArchiveRef = "team/db@20261122T020000Z-1f2e3d4c".parse().unwrap();
        assert_eq!((named.job.as_str(), named.version), ("team/db", Version::Id(ID.parse().unwrap())));
        for bad in ["", "../x", "a//b", "UPPER", "job@x", "a/.hidden", "/a"] {
            assert!(bad.parse::<ArchiveRef>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_archive_without_an_id_is_the_newest() {
        assert_eq!(
            "db".parse::<ArchiveRef>().unwrap(),
            ArchiveRef { job: "db".into(), version: Version::Latest }
        );
    }

    #[test]
    fn a_reference_is_shown_as_it_was_written() {
        for text in ["db", "team/db@20261122T020000Z-1f2e3d4c", "db@2026-11-22", "db@2026"] {
            assert_eq!(text.parse::<ArchiveRef>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn an_empty_job_or_id_is_no_reference() {
        for bad in ["@", "@20261122T020000Z-1f2e3d4c", "db@", "db@20261122T020000Z-1f2e3d4c@x"] {
            assert_eq!(bad.parse::<ArchiveRef>().unwrap_err().kind().exit_code(), 2, "{bad}");
        }
    }

    #[test]
    fn a_name_of_a_job_has_at_most_200_characters() {
        assert!(
            "a".repeat(200).parse::<ArchiveRef>().is_ok() && "a".repeat(201).parse::<ArchiveRef>().is_err()
        );
        assert!("a b".parse::<ArchiveRef>().unwrap_err().hint_text().is_some());
    }

    #[test]
    fn the_suffix_says_whether_it_is_encrypted() {
        for (suffix, cipher) in [
            (".tar.zst.gpg", Some(Cipher::Cfb)),
            (".tar.zst.pgp", Some(Cipher::Aead)),
            (".tar.gz", None),
            (".gpg", Some(Cipher::Cfb)),
        ] {
            assert_eq!(stored(suffix).cipher(), cipher, "{suffix}");
            assert_eq!(stored(suffix).encrypted(), cipher.is_some(), "{suffix}");
        }
    }

    #[test]
    fn what_is_encrypted_is_opened_by_the_passphrase_that_was_given() {
        use secrecy::ExposeSecret;
        let passphrase = stored(".zst.gpg").passphrase(&request(false, Some("secret"))).unwrap();
        assert_eq!(passphrase.unwrap().expose_secret(), "secret");
    }

    #[test]
    fn the_operator_says_whether_an_archive_may_be_in_the_clear() {
        assert!(stored(".zst").passphrase(&request(true, None)).unwrap().is_none());
        let refused = |suffix: &str, no_encrypt: bool| {
            stored(suffix).passphrase(&request(no_encrypt, Some("secret"))).unwrap_err().kind().exit_code()
        };
        assert_eq!(refused(".zst", false), 13);
        assert_eq!(refused(".zst.gpg", true), 2);
    }

    #[test]
    fn a_passphrase_is_read_once_for_several_archives() {
        use secrecy::ExposeSecret;
        let (first, second) = (request(false, Some("secret")), request(false, None));
        let mut secrets = Secrets::new(&first);
        assert!(secrets.of(&stored(".zst.gpg")).unwrap().is_some());
        // The second request has none to give: it is remembered.
        secrets.request = &second;
        let again = secrets.of(&stored(".tar.zst.gpg")).unwrap();
        assert_eq!(again.unwrap().expose_secret(), "secret");
        assert_eq!(secrets.of(&stored(".zst")).unwrap_err().kind().exit_code(), 13);
    }

    #[tokio::test]
    async fn a_job_without_archives_is_not_found() {
        let (url, ui) = (StoreUrl::new("memory:///x"), Reporter::silent());
        let found = StoredArchive::find(&url, &"db".parse().unwrap(), &ui).await;
        let error = found.err().unwrap();
        assert_eq!(error.kind(), Kind::NotFound);
        assert!(error.hint_text().unwrap().contains("sealift list --from memory:///x"), "{error}");
    }
}
