//! `rekey`: archives that exist are made to open with a new passphrase, too. Their data is not touched, and what the old
//! passphrase opens it goes on to open.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use super::stored::{ArchiveRef, StoredArchive, no_archive};
use crate::archive::Id;
use crate::error::{Error, Kind, Result};
use crate::host::passphrase::Sources;
use crate::report::Reporter;
use crate::store::{StoreUrl, key_object};

/// Which archives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// All of a job.
    Job(String),
    /// One, and those that it needs.
    One(ArchiveRef),
}

/// What to open with another passphrase.
#[derive(Debug, Clone)]
pub struct RekeyRequest {
    /// Where the archives are.
    pub store: StoreUrl,
    /// Which they are.
    pub which: Which,
    /// What opens them now.
    pub old: Sources,
    /// What is to open them, too.
    pub new: Sources,
    /// Write nothing.
    pub dry_run: bool,
}

/// What became of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// This was written beside it, or would be: its name in the job's folder.
    Written(String),
    /// The new passphrase opens it already.
    Opens,
    /// It is not encrypted.
    Clear,
}

/// An archive that opens with the new passphrase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rekeyed {
    /// Its job.
    pub job: String,
    /// Its id.
    pub id: Id,
    /// How that came.
    pub fate: Fate,
}

/// Writes a key object beside each archive, the newest first. Each that opens with the new passphrase then is told to `each`.
/// What is not written is written by the next run.
///
/// # Errors
/// There is no such archive; the passphrases are the same; the store refuses. Where the old passphrase does not open one, or it
/// is damaged, the others are made to open all the same.
pub async fn rekey(request: &RekeyRequest, ui: &Reporter, mut each: impl FnMut(Rekeyed)) -> Result<()> {
    let found = find(request, ui).await?;
    let secrets = match found.iter().any(StoredArchive::encrypted) {
        true => Some(Secrets::read(request)?),
        false => None,
    };
    let mut failed: Vec<Error> = Vec::new();
    let all = found.len();
    for archive in found {
        let fate = match &secrets {
            Some(secrets) if archive.encrypted() => secrets.rekey(&archive, request.dry_run).await,
            _ => Ok(Fate::Clear),
        };
        match fate {
            Ok(fate) => each(Rekeyed { job: archive.job, id: archive.id, fate }),
            // Whoever deletes it needs no passphrase for it.
            Err(error) if error.kind() == Kind::NotFound => {
                ui.note(&error.to_string());
            }
            Err(error) if error.is_of_one_archive() => {
                ui.warn(&format!("{} does not open with the new passphrase: {error}", archive.name()));
                failed.push(error);
            }
            Err(error) => return Err(error),
        }
    }
    let count = failed.len();
    match failed.into_iter().next() {
        None => Ok(()),
        Some(first) => Err(Error::new(
            first.kind(),
            format!("{count} of {all} archives do not open with the new passphrase"),
        )
        .because(first)
        .hint(
            "what was not named does; of these, run it again with the passphrase that opens them, or see what `sealift verify` \
             says of them",
        )),
    }
}

/// The archives, the newest first.
async fn find(request: &RekeyRequest, ui: &Reporter) -> Result<Vec<StoredArchive>> {
    match &request.which {
        Which::One(archive) => {
            let asked = StoredArchive::find(&request.store, archive, ui).await?;
            let mut found = vec![asked.clone()];
            for id in asked.manifest.needs.iter().rev() {
                found.push(asked.sibling(id).await?);
            }
            Ok(found)
        }
        Which::Job(job) => {
            let store = Arc::new(request.store.open(ui)?);
            let mut found = Vec::new();
            for listed in store.archives(Some(job)).await?.into_iter().rev() {
                match listed.manifest {
                    Ok(manifest) => found.push(StoredArchive {
                        store: Arc::clone(&store),
                        job: job.clone(),
                        id: listed.id,
                        manifest,
                    }),
                    Err(error) => ui.warn(&format!("{job}@{} is left out: {error}", listed.id)),
                }
            }
            if found.is_empty() { Err(no_archive(job, &store).await) } else { Ok(found) }
        }
    }
}

/// Both passphrases.
struct Secrets {
    old: SecretString,
    new: SecretString,
}

impl Secrets {
    fn read(request: &RekeyRequest) -> Result<Secrets> {
        let (old, new) = (request.old.read()?, request.new.read()?);
        match old.expose_secret() == new.expose_secret() {
            true => Err(Error::usage("the new passphrase is the old one")
                .hint("give the old one as usual, and the new one by --new-passphrase-file")),
            false => Ok(Secrets { old, new }),
        }
    }

    async fn rekey(&self, archive: &StoredArchive, dry_run: bool) -> Result<Fate> {
        let (object, catalog) = (archive.archive_object().await?, archive.catalog_object().await?);
        match archive.heads(&object, &catalog, &self.new).await {
            Ok(_) => return Ok(Fate::Opens),
            Err(error) if error.is_of_one_archive() => {}
            Err(error) => return Err(error),
        }
        let heads = archive.heads(&object, &catalog, &self.old).await?;
        let (store, job, id) = (&archive.store, &archive.job, &archive.id);
        // It is to be the first of all that are tried.
        let at = Id::after(jiff::Timestamp::now(), &store.key_objects(job, id).await?)?;
        let written = Fate::Written(format!("{id}{}", key_object::suffix(&at)));
        let key = archive.new_key(heads, at, &self.new).await?;
        // What is not opened by it to its end is not written.
        let (_, of_catalog) = key.heads(&object, &catalog).await?;
        archive.contents(&catalog, Some(of_catalog), |_| {}).await?;
        if !dry_run {
            store.put_key_object(job, id, &key.at, key.bytes).await?;
        }
        Ok(written)
    }
}
