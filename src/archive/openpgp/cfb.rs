//! AES-256 in CFB mode with the MDC's SHA-1, as SEIPD v1 wants them (RFC 9580 §5.13.1): a stream encrypted and hashed in
//! order, and any range of it decrypted alone.

use aes::Aes256;
use aws_lc_rs::digest;
use cfb_mode::cipher::consts::U16;
use cfb_mode::cipher::generic_array::GenericArray;
use cfb_mode::cipher::{AsyncStreamCipher, BlockBackend, BlockClosure, BlockEncrypt, BlockSizeUser};
use cfb_mode::cipher::{KeyInit, KeyIvInit};

use crate::error::{Context, Result};

/// Bytes of an AES block.
pub const BLOCK: usize = 16;
/// Bytes that are hashed and encrypted in turn: a block of SHA-1.
const SHA1_BLOCK: usize = 64;

/// Hashes and encrypts a stream in pieces of any length, from a zero IV.
///
/// Both wait for themselves only: each AES block needs the one before, and so does each of SHA-1's. A processor that looks
/// some hundred instructions ahead does one while it waits for the other, if they take turns often enough: every 64
/// bytes, hashing costs nothing; every 1024, as much as it would alone.
pub struct Cfb {
    aes: Aes256,
    sha1: digest::Context,
    /// The block of ciphertext before the one at hand; or as much as there is of that one, and the rest of the one before.
    chain: [u8; BLOCK],
    /// What the block at hand is combined with.
    stream: [u8; BLOCK],
    /// Bytes since the last whole block of SHA-1.
    used: usize,
}

impl Cfb {
    /// A cipher at the first byte.
    ///
    /// # Errors
    /// The session key has not 32 bytes.
    pub fn new(session: &[u8]) -> Result<Self> {
        let aes = Aes256::new_from_slice(session).context(|| "the session key has a wrong length".into())?;
        let sha1 = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
        Ok(Cfb { aes, sha1, chain: [0; BLOCK], stream: [0; BLOCK], used: 0 })
    }

    /// Hashes and encrypts the next bytes in place.
    pub fn encrypt(&mut self, text: &mut [u8]) {
        let open = (SHA1_BLOCK - self.used) % SHA1_BLOCK;
        let (first, text) = text.split_at_mut(open.min(text.len()));
        self.within(first);
        let (blocks, last) = text.split_at_mut(text.len() / SHA1_BLOCK * SHA1_BLOCK);
        let Cfb { aes, sha1, chain, .. } = self;
        aes.encrypt_with_backend(Sha1Blocks { blocks, sha1, chain });
        self.within(last);
    }

    /// Appends the SHA-1 of all that was encrypted, encrypted itself.
    pub fn append_sha1(&mut self, text: &mut Vec<u8>) {
        let end = text.len();
        text.extend_from_slice(self.sha1.clone().finish().as_ref());
        self.encrypt(&mut text[end..]);
    }

    /// Hashes and encrypts what does not lead out of SHA-1's block at hand.
    fn within(&mut self, text: &mut [u8]) {
        self.sha1.update(text);
        for byte in text {
            let at = self.used % BLOCK;
            if at == 0 {
                self.stream = self.chain;
                self.aes.encrypt_block((&mut self.stream).into());
            }
            *byte ^= self.stream[at];
            self.chain[at] = *byte;
            self.used = (self.used + 1) % SHA1_BLOCK;
        }
    }
}

/// Whole blocks of SHA-1: one call for all of them keeps the key in registers.
struct Sha1Blocks<'a> {
    blocks: &'a mut [u8],
    sha1: &'a mut digest::Context,
    chain: &'a mut [u8; BLOCK],
}

impl BlockSizeUser for Sha1Blocks<'_> {
    type BlockSize = U16;
}

impl BlockClosure for Sha1Blocks<'_> {
    #[inline(always)]
    fn call<B: BlockBackend<BlockSize = U16>>(self, aes: &mut B) {
        let mut chain = GenericArray::from(*self.chain);
        for sha1_block in self.blocks.chunks_exact_mut(SHA1_BLOCK) {
            self.sha1.update(sha1_block);
            for block in sha1_block.chunks_exact_mut(BLOCK) {
                aes.proc_block((&mut chain).into());
                chain.iter_mut().zip(block.iter()).for_each(|(stream, plain)| *stream ^= plain);
                block.copy_from_slice(&chain);
            }
        }
        *self.chain = chain.into();
    }
}

/// Decrypts any range: each CFB block needs only the ciphertext block before it, `iv`.
///
/// # Errors
/// The session key has not 32 bytes.
pub fn decrypt_range(session: &[u8], iv: [u8; BLOCK], text: &mut [u8]) -> Result<()> {
    let cipher = cfb_mode::Decryptor::<Aes256>::new_from_slices(session, &iv);
    cipher.context(|| "the session key has a wrong length".into())?.decrypt(text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_length_are_one_stream_and_every_block_is_read_alone() {
        let (session, plain) = ([7; 32], (0..=255).cycle().take(1000).collect::<Vec<u8>>());
        for step in [1, 2, 15, 16, 17, 31, 32, 63, 64, 65, 100, 130, 999, 1000] {
            let (mut cipher, mut text) = (Cfb::new(&session).unwrap(), plain.clone());
            text.chunks_mut(step).for_each(|piece| cipher.encrypt(piece));
            cipher.append_sha1(&mut text);
            for block in [0, 1, 30] {
                let at = block * BLOCK;
                let iv = if block == 0 { [0; BLOCK] } else { text[at - BLOCK..at].try_into().unwrap() };
                let mut range = text[at..].to_vec();
                decrypt_range(&session, iv, &mut range).unwrap();
                let (body, sha1) = range.split_at(plain.len() - at);
                assert!(body == &plain[at..], "step {step}, block {block}");
                let expected = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &plain);
                assert!(sha1 == expected.as_ref(), "step {step}");
            }
        }
        assert!(Cfb::new(&[0; 31]).is_err());
    }
}
