//! AES-256 in CFB mode, as SEIPD v1 wants it (RFC 9580 §5.13.1): a stream encrypted in order, and any range of it
//! decrypted alone.

use aes::Aes256;
use cfb_mode::cipher::{AsyncStreamCipher, BlockEncrypt, InnerIvInit, KeyInit, KeyIvInit};

use crate::error::{Context, Result};

/// Octets of an AES block.
pub const BLOCK: usize = 16;

/// Encrypts a stream in pieces of any length, from a zero IV.
///
/// Pieces may end within a block; what lies between is encrypted in one call, because a call for each block takes a
/// third longer.
#[derive(Clone)]
pub struct Cfb {
    aes: Aes256,
    /// The block of ciphertext before the one at hand, and what there is of that one.
    before: [u8; BLOCK],
    begun: [u8; BLOCK],
    /// What the block at hand is combined with, and how much of it is used up.
    stream: [u8; BLOCK],
    used: usize,
}

impl Cfb {
    /// A cipher at the first octet.
    pub fn new(session: &[u8]) -> Result<Self> {
        let aes = Aes256::new_from_slice(session).context(|| "the session key has a wrong length".into())?;
        let [before, begun, stream] = [[0; BLOCK]; 3];
        Ok(Cfb { aes, before, begun, stream, used: 0 })
    }

    /// Encrypts the next octets in place.
    pub fn encrypt(&mut self, text: &mut [u8]) {
        let open = (BLOCK - self.used) % BLOCK;
        let (first, text) = text.split_at_mut(open.min(text.len()));
        self.within(first);
        let (blocks, last) = text.split_at_mut(text.len() / BLOCK * BLOCK);
        if let Some(end) = blocks.len().checked_sub(BLOCK) {
            cfb_mode::Encryptor::inner_iv_init(self.aes.clone(), &self.before.into()).encrypt(blocks);
            self.before.copy_from_slice(&blocks[end..]);
        }
        self.within(last);
    }

    /// Encrypts what does not lead out of the block at hand.
    fn within(&mut self, text: &mut [u8]) {
        if text.is_empty() {
            return;
        }
        if self.used == 0 {
            self.stream = self.before;
            self.aes.encrypt_block((&mut self.stream).into());
        }
        for octet in text {
            *octet ^= self.stream[self.used];
            self.begun[self.used] = *octet;
            self.used += 1;
        }
        if self.used == BLOCK {
            (self.before, self.used) = (self.begun, 0);
        }
    }
}

/// Decrypts any range: each CFB block needs only the ciphertext block before it, `iv`.
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
        for step in [1, 2, 15, 16, 17, 31, 32, 100, 999, 1000] {
            let (mut cipher, mut text) = (Cfb::new(&session).unwrap(), plain.clone());
            text.chunks_mut(step).for_each(|piece| cipher.encrypt(piece));
            for block in [0, 1, 30] {
                let at = block * BLOCK;
                let iv = if block == 0 { [0; BLOCK] } else { text[at - BLOCK..at].try_into().unwrap() };
                let mut range = text[at..].to_vec();
                decrypt_range(&session, iv, &mut range).unwrap();
                assert!(range == plain[at..], "step {step}, block {block}");
            }
        }
        assert!(Cfb::new(&[0; 31]).is_err());
    }
}
