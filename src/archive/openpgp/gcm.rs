//! AES-256-GCM in chunks, as SEIPD v2 wants it (RFC 9580 §5.13.2): each chunk encrypted alone, in any order, and any
//! range of it decrypted alone.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{self, DecryptingKey, DecryptionContext, UnboundCipherKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::iv::FixedLength;
use sequoia_openpgp::crypto::SessionKey;

use super::cfb::BLOCK;
use crate::error::{Error, Result};

/// Bytes of an authentication tag.
pub const TAG: usize = 16;
/// Bytes of a message's salt.
pub const SALT: usize = 32;
/// Bytes of plaintext in every chunk but the last: 2^(14 + 6).
pub const CHUNK: usize = 1 << 20;
/// What the packet's body says of itself before the salt: version 2, AES-256, GCM, chunk size.
pub const PARAMETERS: [u8; 4] = [2, 9, 3, 14];

// Bytes of key and of IV that are derived; the IV is followed by the number of a chunk.
const KEY: usize = 32;
const IV: usize = 4;

/// What encrypts the chunks of one message.
#[derive(Clone)]
pub struct Gcm {
    sealing: Arc<LessSafeKey>,
    key: SessionKey,
    iv: [u8; IV],
}

/// How much is to be derived.
struct Derived;

impl KeyType for Derived {
    fn len(&self) -> usize {
        KEY + IV
    }
}

fn failed(_: Unspecified) -> Error {
    Error::failed("AES-256-GCM failed")
}

impl Gcm {
    /// Derives key and IV from a message's session key and its salt.
    ///
    /// # Errors
    /// The library refuses the key.
    pub fn new(session: &[u8], salt: &[u8; SALT]) -> Result<Self> {
        let mut derived = SessionKey::from(vec![0; KEY + IV]);
        let prk = Salt::new(HKDF_SHA256, salt).extract(session);
        prk.expand(&[&additional()], Derived).and_then(|okm| okm.fill(&mut derived)).map_err(failed)?;
        let (key, rest) = derived.split_at(KEY);
        let mut iv = [0; IV];
        iv.copy_from_slice(rest);
        let sealing = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).map_err(failed)?);
        Ok(Gcm { sealing: Arc::new(sealing), key: key.into(), iv })
    }

    fn nonce(&self, n: u64) -> [u8; IV + 8] {
        let mut nonce = [0; IV + 8];
        nonce[..IV].copy_from_slice(&self.iv);
        nonce[IV..].copy_from_slice(&n.to_be_bytes());
        nonce
    }

    /// Encrypts chunk `n` in place and appends its tag.
    ///
    /// # Errors
    /// The library refuses to encrypt.
    pub fn seal(&self, n: u64, chunk: &mut Vec<u8>) -> Result<()> {
        let nonce = Nonce::assume_unique_for_key(self.nonce(n));
        let tag = self.sealing.seal_in_place_separate_tag(nonce, Aad::from(additional()), chunk);
        chunk.extend_from_slice(tag.map_err(failed)?.as_ref());
        Ok(())
    }

    /// The tag behind the last of so many chunks, which vouches for the number of bytes in them.
    ///
    /// # Errors
    /// The library refuses to encrypt.
    pub fn last_tag(&self, chunks: u64, bytes: u64) -> Result<[u8; TAG]> {
        let nonce = Nonce::assume_unique_for_key(self.nonce(chunks));
        let additional = [&additional()[..], &bytes.to_be_bytes()].concat();
        let sealed = self.sealing.seal_in_place_separate_tag(nonce, Aad::from(additional), &mut []);
        let (mut tag, sealed) = ([0; TAG], sealed.map_err(failed)?);
        tag.copy_from_slice(sealed.as_ref());
        Ok(tag)
    }

    /// Decrypts a range of chunk `n` in place; it begins at byte `at` of the chunk, a multiple of an AES block.
    ///
    /// The tag is not looked at: whoever calls knows by other means whether the text is what was sealed. Within a chunk,
    /// GCM is the counter mode, whose counter is 2 at the first block (NIST SP 800-38D §7.1).
    ///
    /// # Errors
    /// The library refuses to decrypt.
    pub fn decrypt_range(&self, n: u64, at: usize, text: &mut [u8]) -> Result<()> {
        let mut counter = [0; BLOCK];
        counter[..IV + 8].copy_from_slice(&self.nonce(n));
        counter[IV + 8..].copy_from_slice(&((at / BLOCK) as u32 + 2).to_be_bytes());
        let key = UnboundCipherKey::new(&cipher::AES_256, &self.key).and_then(DecryptingKey::ctr);
        let decrypted = key.and_then(|key| {
            key.decrypt(text, DecryptionContext::Iv128(FixedLength::from(counter))).map(drop)
        });
        decrypted.map_err(failed)
    }
}

/// The additional data of every chunk, and what the key is derived for: the packet's tag and what it says of itself.
fn additional() -> [u8; 5] {
    let mut bytes = [super::TAG_SEIPD; 5];
    bytes[1..].copy_from_slice(&PARAMETERS);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_range_of_a_chunk_is_read_alone_and_chunks_differ() {
        let gcm = Gcm::new(&[7; 32], &[1; SALT]).unwrap();
        let plain: Vec<u8> = (0..=255).cycle().take(1000).collect();
        let mut sealed = plain.clone();
        gcm.seal(5, &mut sealed).unwrap();
        assert_eq!(sealed.len(), plain.len() + TAG);
        for block in [0, 1, 30, 62] {
            let at = block * BLOCK;
            let mut range = sealed[at..plain.len()].to_vec();
            gcm.decrypt_range(5, at, &mut range).unwrap();
            assert!(range == plain[at..], "block {block}");
            gcm.decrypt_range(6, at, &mut range).unwrap();
            assert!(range != sealed[at..plain.len()], "block {block} as if of another chunk");
        }
        assert_ne!(gcm.last_tag(1, 1000).unwrap(), gcm.last_tag(1, 999).unwrap());
    }
}
