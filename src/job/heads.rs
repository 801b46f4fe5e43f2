//! Opens the beginning of an archive's sealed objects with a passphrase: by their own heads, or by the key objects beside
//! them, which `rekey` writes. Everything that opens an archive does it here.

use bytes::Bytes;
use secrecy::SecretString;

use super::stored::StoredArchive;
use crate::archive::Id;
use crate::archive::key_object::{self, Sessions};
use crate::archive::open::open_head;
use crate::archive::openpgp::{Cipher, HEAD_LEN, Head};
use crate::archive::read_at::{ReadAt, once_more_if_damaged};
use crate::error::{Error, Kind, Result};
use crate::store::download::Object;

/// A key object that a passphrase opens.
pub(super) struct Key {
    /// When it was made, which names it.
    pub(super) at: Id,
    /// Its bytes.
    pub(super) bytes: Bytes,
    /// What is in it.
    sessions: Sessions,
    cipher: Cipher,
}

/// One of an archive's two sealed objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The one that holds its frames.
    Archive,
    /// The catalog.
    Catalog,
}

impl Key {
    /// What takes the place of the archive object's own head.
    pub(super) fn archive_head(&self) -> Bytes {
        key_object::archive_head(&self.bytes, self.cipher)
    }

    /// Opens the beginning of an object with it.
    async fn head(&self, part: Part, object: &Object) -> Result<Head> {
        let session = match part {
            Part::Archive => &self.sessions.archive,
            Part::Catalog => &self.sessions.catalog,
        };
        let bytes = object.read_at(0..HEAD_LEN.min(object.size)).await?;
        Head::open_by_session(&bytes, session)
    }

    /// Opens the beginning of both objects with it.
    ///
    /// # Errors
    /// It is of other objects.
    pub(super) async fn heads(&self, archive: &Object, catalog: &Object) -> Result<(Head, Head)> {
        tokio::try_join!(self.head(Part::Archive, archive), self.head(Part::Catalog, catalog))
    }
}

fn is_wrong(head: &Result<Head>) -> bool {
    matches!(head, Err(error) if error.kind() == Kind::WrongPassphrase)
}

impl StoredArchive {
    /// Opens the beginning of both objects. A wrong passphrase is told from damage by what else it opens: both must open.
    pub(super) async fn heads(
        &self,
        archive: &Object,
        catalog: &Object,
        passphrase: &SecretString,
    ) -> Result<(Head, Head)> {
        once_more_if_damaged(|| self.try_heads(archive, catalog, passphrase)).await
    }

    async fn try_heads(
        &self,
        archive: &Object,
        catalog: &Object,
        passphrase: &SecretString,
    ) -> Result<(Head, Head)> {
        // Each S2K takes a while by design: both at once.
        let (first, second) = tokio::join!(open_head(archive, passphrase), open_head(catalog, passphrase));
        if is_wrong(&first) || is_wrong(&second) {
            for key in self.keys(passphrase).await? {
                match key.heads(archive, catalog).await {
                    Err(error) if error.is_of_one_archive() => {}
                    heads => return heads,
                }
            }
        }
        match (first, second) {
            (Ok(first), Ok(second)) => Ok((first, second)),
            (first, second) if is_wrong(&first) && is_wrong(&second) => Err(self.wrong_passphrase()),
            (first, second) => {
                let damaged = [(archive, first), (catalog, second)].into_iter().find_map(|(object, head)| {
                    let error = head.err().filter(|error| error.kind() != Kind::WrongPassphrase)?;
                    Some(error.context(format!("{} cannot be opened", object.key())))
                });
                Err(damaged.unwrap_or_else(|| {
                    let name = self.name();
                    Error::damaged(format!("the passphrase opens only one of the two objects of {name}"))
                }))
            }
        }
    }

    /// Opens the beginning of one of the objects.
    ///
    /// # Errors
    /// The store does not answer; the object is damaged, or the passphrase opens neither it nor a key object.
    pub(super) async fn head(&self, part: Part, object: &Object, passphrase: &SecretString) -> Result<Head> {
        let own = open_head(object, passphrase).await;
        if !is_wrong(&own) {
            return own;
        }
        for key in self.keys(passphrase).await? {
            match key.head(part, object).await {
                Err(error) if error.is_of_one_archive() => {}
                head => return head,
            }
        }
        Err(self.wrong_passphrase())
    }

    /// The key object that takes the place of the archive object's own head; none where that opens by itself, or nothing
    /// opens it.
    ///
    /// # Errors
    /// The store does not answer, or has lost the archive object.
    pub(super) async fn key_in_use(&self, object: &Object, passphrase: &SecretString) -> Result<Option<Key>> {
        if !is_wrong(&open_head(object, passphrase).await) {
            return Ok(None);
        }
        for key in self.keys(passphrase).await? {
            match key.head(Part::Archive, object).await {
                Err(error) if error.is_of_one_archive() => {}
                head => return head.map(|_| Some(key)),
            }
        }
        Ok(None)
    }

    /// The key objects that a passphrase opens, the newest first. What is damaged, or of another archive, is passed over.
    async fn keys(&self, passphrase: &SecretString) -> Result<Vec<Key>> {
        let Some(cipher) = self.cipher() else { return Ok(Vec::new()) };
        let (mut keys, mut unread) = (Vec::new(), None);
        for at in self.store.key_objects(&self.job, &self.id).await? {
            let bytes = match self.store.key_object(&self.job, &self.id, &at).await {
                Ok(Some(bytes)) => bytes,
                Ok(None) => continue,
                // Another may open it.
                Err(error) => {
                    unread = Some(error);
                    continue;
                }
            };
            if let Ok(sessions) = self.open_key(bytes.clone(), passphrase).await {
                keys.push(Key { at, bytes, sessions, cipher });
            }
        }
        match unread.filter(|_| keys.is_empty()) {
            Some(error) => Err(error),
            None => Ok(keys),
        }
    }

    async fn open_key(&self, bytes: Bytes, passphrase: &SecretString) -> Result<Sessions> {
        let cipher =
            self.cipher().ok_or_else(|| Error::usage(format!("{} is not encrypted", self.name())))?;
        let (id, passphrase) = (self.id.clone(), passphrase.clone());
        // Its S2Ks take a while by design.
        let opened =
            tokio::task::spawn_blocking(move || Sessions::open(&bytes, cipher, &id, &passphrase)).await;
        opened.map_err(|e| Error::failed("a worker died").because(e))?
    }

    /// Makes a key object for another passphrase, of the heads of both objects, and opens it again.
    ///
    /// # Errors
    /// It cannot be sealed.
    pub(super) async fn new_key(
        &self,
        (archive, catalog): (Head, Head),
        at: Id,
        passphrase: &SecretString,
    ) -> Result<Key> {
        let cipher = archive.opener.cipher();
        let sessions = Sessions { archive: archive.session, catalog: catalog.session };
        let (id, with) = (self.id.clone(), passphrase.clone());
        let sealed = tokio::task::spawn_blocking(move || sessions.seal(cipher, &id, &with)).await;
        let bytes = sealed.map_err(|e| Error::failed("a worker died").because(e))??;
        let sessions = self.open_key(bytes.clone(), passphrase).await?;
        Ok(Key { at, bytes, sessions, cipher })
    }

    fn wrong_passphrase(&self) -> Error {
        Error::new(Kind::WrongPassphrase, format!("the passphrase does not open {}", self.name())).hint(
            "was it changed since this backup? give the one of that day, with which `sealift rekey` lets a new one open it, too",
        )
    }
}
