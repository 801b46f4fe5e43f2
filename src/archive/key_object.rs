//! What opens an archive with another passphrase: new heads for its two objects, in a small object beside them. The data is
//! not touched.
//!
//! Head of the archive object, head of the catalog, and a hash that is keyed by both session keys: who does not know them
//! cannot make one, and one of another archive, or a damaged one, is none.

use bytes::Bytes;
use secrecy::SecretString;
use sequoia_openpgp::crypto::SessionKey;

use super::Id;
use super::openpgp::{Cipher, another_head, session_of_head};
use crate::error::{Error, Result};

const CONTEXT: &str = "sealift 2026-11-27 key object";
/// Bytes of the hash.
const PROOF: usize = blake3::OUT_LEN;

/// The session keys of an archive's two objects.
#[derive(Clone)]
pub struct Sessions {
    /// Of the object that holds its frames.
    pub archive: SessionKey,
    /// Of its catalog.
    pub catalog: SessionKey,
}

impl Sessions {
    /// A key object: its passphrase opens both objects of the archive.
    ///
    /// # Errors
    /// A session key cannot be sealed.
    pub fn seal(&self, cipher: Cipher, id: &Id, passphrase: &SecretString) -> Result<Bytes> {
        let heads = [
            another_head(&self.archive, cipher, passphrase)?,
            another_head(&self.catalog, cipher, passphrase)?,
        ]
        .concat();
        let proof = self.proof(id, &heads);
        Ok([&heads[..], proof.as_bytes()].concat().into())
    }

    /// Opens a key object of this archive.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::error::Kind::Damaged) when it is none, or of another archive;
    /// [`Kind::WrongPassphrase`](crate::error::Kind::WrongPassphrase).
    pub fn open(object: &[u8], cipher: Cipher, id: &Id, passphrase: &SecretString) -> Result<Sessions> {
        let damaged = || Error::damaged("this is no key object of this archive, or it is damaged");
        if object.len() as u64 != len(cipher) {
            return Err(damaged());
        }
        let (heads, proof) = object.split_last_chunk::<PROOF>().ok_or_else(damaged)?;
        let (archive, catalog) = heads.split_at(heads.len() / 2);
        let sessions = Sessions {
            archive: session_of_head(archive, cipher, passphrase)?,
            catalog: session_of_head(catalog, cipher, passphrase)?,
        };
        // Compared in constant time.
        match sessions.proof(id, heads) == blake3::Hash::from_bytes(*proof) {
            true => Ok(sessions),
            false => Err(damaged()),
        }
    }

    fn proof(&self, id: &Id, heads: &[u8]) -> blake3::Hash {
        let key = blake3::derive_key(CONTEXT, &[&self.archive[..], &self.catalog[..]].concat());
        let mut hasher = blake3::Hasher::new_keyed(&key);
        let id = id.as_str().as_bytes();
        hasher.update(&(id.len() as u64).to_le_bytes()).update(id).update(heads);
        hasher.finalize()
    }
}

/// Bytes of a key object.
pub fn len(cipher: Cipher) -> u64 {
    2 * cipher.head_len() + PROOF as u64
}

/// The head of the archive object in one that was opened.
pub fn archive_head(object: &Bytes, cipher: Cipher) -> Bytes {
    object.slice(..object.len().min(cipher.head_len() as usize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::contents::read_catalog;
    use crate::archive::frame::Codec;
    use crate::archive::openpgp::Head;
    use crate::archive::testing::{How, JOB, PASSPHRASE, Stored};
    use crate::error::Kind;
    use crate::stream::source::ByteStream;

    const CIPHERS: [Cipher; 2] = [Cipher::Cfb, Cipher::Aead];
    const NEW: &str = "battery staple";

    async fn stored(cipher: Cipher) -> (Stored, Sessions) {
        let how = How::new(Some(cipher), Codec::None, 1000);
        let stored = how.seal(ByteStream::from_bytes(vec![7; 2_500])).await.unwrap();
        let session = |bytes: &[u8]| Head::open(bytes, &PASSPHRASE.into()).unwrap().session;
        let sessions = Sessions { archive: session(&stored.archive), catalog: session(&stored.catalog) };
        (stored, sessions)
    }

    /// An object with another head in the place of its own.
    fn with_head(head: &[u8], object: &[u8]) -> Vec<u8> {
        [head, &object[head.len()..]].concat()
    }

    #[tokio::test]
    async fn each_new_head_takes_the_place_of_the_objects_own() {
        for cipher in CIPHERS {
            let (mut stored, sessions) = stored(cipher).await;
            let key = sessions.seal(cipher, &stored.id, &NEW.into()).unwrap();
            assert_eq!(key.len() as u64, len(cipher));
            let opened = Sessions::open(&key, cipher, &stored.id, &NEW.into()).unwrap();
            assert!(opened.archive == sessions.archive && opened.catalog == sessions.catalog, "{cipher:?}");
            let wrong = Sessions::open(&key, cipher, &stored.id, &PASSPHRASE.into()).err().unwrap();
            assert!(matches!(wrong.kind(), Kind::WrongPassphrase | Kind::Damaged), "{wrong}");
            let at = cipher.head_len() as usize;
            stored.archive = with_head(&archive_head(&key, cipher), &stored.archive).into();
            stored.catalog = with_head(&key[at..2 * at], &stored.catalog).into();
            let head = Head::open(&stored.catalog, &NEW.into()).unwrap();
            assert!(read_catalog(&stored.catalog[..], Some(&head), JOB, &stored.id, |_| {}).is_ok());
            assert_eq!(stored.restore(Some(NEW)).await.unwrap(), vec![7; 2_500], "{cipher:?}");
        }
    }

    #[tokio::test]
    async fn no_cut_nor_flip_opens_and_none_of_another_archive() {
        for cipher in CIPHERS {
            let (first, sessions) = stored(cipher).await;
            let key = sessions.seal(cipher, &first.id, &NEW.into()).unwrap();
            for cut in [0, 1, 48, 49, key.len() - 32, key.len() - 1] {
                assert!(Sessions::open(&key[..cut], cipher, &first.id, &NEW.into()).is_err(), "{cut}");
            }
            let longer = [&key[..], b"x"].concat();
            assert!(Sessions::open(&longer, cipher, &first.id, &NEW.into()).is_err());
            // The passphrase's own cost makes every byte too slow; each field has one of these.
            for at in [0, 1, 2, 3, 4, 5, 7, 10, 20, 47, 48, 52, 60, 77, 90, key.len() - 32, key.len() - 1] {
                let mut flipped = key.to_vec();
                flipped[at] ^= 1;
                assert!(Sessions::open(&flipped, cipher, &first.id, &NEW.into()).is_err(), "{at}");
            }
            let other = "20261122T020000Z-1f2e3d4c".parse().unwrap();
            let error = Sessions::open(&key, cipher, &other, &NEW.into()).err().unwrap();
            assert_eq!(error.kind(), Kind::Damaged);
            // Nor do two halves of different ones make one.
            let again = sessions.seal(cipher, &first.id, &NEW.into()).unwrap();
            let at = cipher.head_len() as usize;
            let mixed = [&key[..at], &again[at..]].concat();
            assert!(Sessions::open(&mixed, cipher, &first.id, &NEW.into()).is_err());
        }
    }
}
