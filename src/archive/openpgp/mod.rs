//! The sealed message: a session key sealed with the passphrase (SKESK), then one SEIPD packet with a literal packet
//! inside (RFC 9580 §5).
//!
//! compressed bytes → [`Packer`] (packets) → [`Sealer`] (encryption) → [`Body`] (partial lengths) → stored bytes
//!
//! Sequoia makes the S2K, the SKESK and the session key, and reads whole messages back ([`decrypt`]). Every partial
//! length is 2^20 bytes, so that [`layout`] can find any byte.

use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use sequoia_openpgp::crypto::{self, Password, S2K, SessionKey};
use sequoia_openpgp::packet::skesk::{SKESK4, SKESK6};
use sequoia_openpgp::packet::{Packet, SKESK};
use sequoia_openpgp::parse::{PacketParser, PacketParserResult, Parse};
use sequoia_openpgp::serialize::Serialize as _;
use sequoia_openpgp::types::{AEADAlgorithm, HashAlgorithm, SymmetricAlgorithm};
use serde::{Deserialize, Serialize};

use self::gcm::{Gcm, SALT};
use self::layout::{LAST_LENGTH, PREFIX};
use crate::error::{Context, Error, Kind, Result};
use crate::host::panics;

pub mod cfb;
pub mod gcm;
pub mod layout;
pub mod message;
mod packer;
mod read;
mod seipd;

pub use packer::{Block, Packer, block_pool};
pub use read::{decrypt, decrypt_from};
pub use seipd::{Body, SealedBlock, Sealer};

// Iterated and salted S2K: bytes hashed, the largest count that its one byte can say (RFC 9580 §3.7.1.3).
const S2K_COUNT: u32 = 65_011_712;
const S2K_ITERATED: u8 = 3;
// New-format packet tags (RFC 9580 §4.2).
const TAG_SKESK: u8 = 0xC3;
const TAG_SEIPD: u8 = 0xD2;
/// 224 + 20: a partial length of 2^20.
const PARTIAL_LENGTH: u8 = 0xF4;
/// A length in four more bytes.
const FIVE_BYTE_LENGTH: u8 = 0xFF;
/// What the SEIPD v1 packet's body begins with.
const VERSION_1: u8 = 1;

/// How a message is encrypted, always with AES-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cipher {
    /// SEIPD v1, CFB mode: every OpenPGP tool reads it
    #[serde(alias = "openpgp")]
    Cfb,
    /// SEIPD v2 of RFC 9580, GCM in chunks of 1 MiB: faster, but gpg does not read it, and not every other tool
    Aead,
}

impl Cipher {
    /// What the object's name carries for it: what GnuPG does not read is not named after it.
    pub fn suffix(self) -> &'static str {
        match self {
            Cipher::Cfb => ".gpg",
            Cipher::Aead => ".pgp",
        }
    }

    /// Bytes of [`MessageKey::head`], known before the passphrase has been made a key.
    pub fn head_len(self) -> u64 {
        match self {
            Cipher::Cfb => 49,
            Cipher::Aead => 79,
        }
    }
}

/// The secret of one message.
pub struct MessageKey {
    session: SessionKey,
    /// Of SEIPD v2: the salt, which is not secret, and what is derived by it.
    aead: Option<([u8; SALT], Gcm)>,
    /// What the passphrase costs whoever tries one; always [`S2K_COUNT`] but in tests.
    s2k_count: u32,
}

impl MessageKey {
    /// A random session key.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new(cipher: Cipher) -> Result<Self> {
        let session = SessionKey::new(32).context(|| "no random bytes".into())?;
        let aead = match cipher {
            Cipher::Cfb => None,
            Cipher::Aead => {
                let mut salt = [0; SALT];
                crypto::random(&mut salt).context(|| "no random bytes".into())?;
                Some((salt, Gcm::new(&session, &salt)?))
            }
        };
        Ok(MessageKey { session, aead, s2k_count: S2K_COUNT })
    }

    /// A key whose passphrase is tried in no time, so that tests can seal and open by the hundred.
    #[cfg(test)]
    pub(crate) fn with_cheap_passphrase(cipher: Cipher) -> Result<Self> {
        Ok(MessageKey { s2k_count: 1024, ..MessageKey::new(cipher)? })
    }

    /// How the message is encrypted.
    pub fn cipher(&self) -> Cipher {
        if self.aead.is_some() { Cipher::Aead } else { Cipher::Cfb }
    }

    /// The session key, for keys derived from it.
    pub fn session(&self) -> &[u8] {
        &self.session
    }

    /// The first bytes of the message: the SKESK packet, which hands the session key to whoever knows the passphrase, and
    /// the SEIPD packet's tag. Costs a tenth of a second by design.
    ///
    /// # Errors
    /// The packet cannot be made, or has not the length that [`Cipher::head_len`] promised.
    pub fn head(&self, passphrase: &SecretString) -> Result<Bytes> {
        seal_session(&self.session, self.cipher(), self.s2k_count, passphrase)
    }
}

/// A head as [`MessageKey::head`] makes it, for a message whose session key is known: it takes the place of that message's
/// own.
///
/// # Errors
/// As [`MessageKey::head`].
pub fn another_head(session: &SessionKey, cipher: Cipher, passphrase: &SecretString) -> Result<Bytes> {
    seal_session(session, cipher, S2K_COUNT, passphrase)
}

fn seal_session(
    session: &SessionKey,
    cipher: Cipher,
    s2k_count: u32,
    passphrase: &SecretString,
) -> Result<Bytes> {
    let sealed = || -> sequoia_openpgp::Result<Bytes> {
        let (aes, gcm) = (SymmetricAlgorithm::AES256, AEADAlgorithm::GCM);
        let password = password(passphrase);
        let s2k = S2K::new_iterated(HashAlgorithm::SHA256, s2k_count)?;
        let skesk = match cipher {
            Cipher::Cfb => SKESK::from(SKESK4::with_password(aes, aes, s2k, session, &password)?),
            Cipher::Aead => SKESK6::with_password(aes, aes, gcm, s2k, session, &password)?.into(),
        };
        let mut head = Vec::new();
        Packet::from(skesk).serialize(&mut head)?;
        head.push(TAG_SEIPD);
        Ok(head.into())
    };
    let head = sealed().context(|| "cannot seal the session key".into())?;
    // The catalog has said already how long it is.
    match head.len() as u64 == cipher.head_len() {
        true => Ok(head),
        false => Err(Error::failed(format!("the sealed session key has {} bytes", head.len()))),
    }
}

/// The session key that a head of [`another_head`] hands over, which does not stand before its message.
///
/// # Errors
/// [`Kind::Damaged`] when it is not one of ours; [`Kind::WrongPassphrase`].
pub fn session_of_head(head: &[u8], cipher: Cipher, passphrase: &SecretString) -> Result<SessionKey> {
    let foreign = || Error::damaged("this is no head of a sealed archive");
    let (&tag, skesk) = head.split_last().ok_or_else(foreign)?;
    let is_ours = matches!(
        (cipher, skesk),
        (Cipher::Cfb, [TAG_SKESK, _, 4, _, S2K_ITERATED, ..])
            | (Cipher::Aead, [TAG_SKESK, _, 6, _, _, _, _, S2K_ITERATED, ..])
    );
    if !is_ours || tag != TAG_SEIPD || head.len() as u64 != cipher.head_len() {
        return Err(foreign());
    }
    open_skesk(skesk, passphrase)
}

fn password(passphrase: &SecretString) -> Password {
    Password::from(passphrase.expose_secret())
}

fn long_length(len: usize) -> [u8; LAST_LENGTH as usize] {
    let mut bytes = [FIVE_BYTE_LENGTH; LAST_LENGTH as usize];
    bytes[1..].copy_from_slice(&(len as u32).to_be_bytes());
    bytes
}

/// Bytes of a message's beginning that [`Head::open`] needs.
pub const HEAD_LEN: u64 = 512;

/// What the beginning of a message gives away to whoever knows the passphrase. Finding it out takes a tenth of a second
/// by design: it is kept.
#[derive(Clone)]
pub struct Head {
    /// The session key.
    pub session: SessionKey,
    /// Bytes before the SEIPD packet's first length.
    pub len: u64,
    /// What decrypts any range of its body.
    pub opener: Opener,
}

/// What decrypts any range of a message's body.
#[derive(Clone)]
pub enum Opener {
    /// SEIPD v1, by the session key itself.
    Cfb(SessionKey),
    /// SEIPD v2, by a key derived from it.
    Gcm(Gcm),
}

impl Opener {
    /// How the body is encrypted.
    pub fn cipher(&self) -> Cipher {
        match self {
            Opener::Cfb(_) => Cipher::Cfb,
            Opener::Gcm(_) => Cipher::Aead,
        }
    }
}

impl Head {
    /// Opens the beginning of a message.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when it is not one of ours; [`Kind::WrongPassphrase`] when the session key does not come out, or
    /// does not decrypt SEIPD v1's prefix (RFC 9580 §5.13.1: its last two bytes are repeated). A damaged prefix cannot be
    /// told from a wrong passphrase here.
    pub fn open(bytes: &[u8], passphrase: &SecretString) -> Result<Head> {
        Self::open_by(bytes, |skesk| open_skesk(skesk, passphrase))
    }

    /// Opens the beginning of a message by its session key, which the catalog of a later archive has.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when it is not one of ours, or has another session key.
    pub fn open_by_session(bytes: &[u8], session: &[u8]) -> Result<Head> {
        Self::open_by(bytes, |_| Ok(session.into())).map_err(|error| match error.kind() {
            Kind::WrongPassphrase => Error::damaged("this is not the archive whose session key is known"),
            _ => error,
        })
    }

    fn open_by(bytes: &[u8], session: impl FnOnce(&[u8]) -> Result<SessionKey>) -> Result<Head> {
        let foreign =
            || Error::damaged("this is no sealed archive: its first packets are not what sealift writes");
        let len = 2 + usize::from(*bytes.get(1).ok_or_else(foreign)?);
        let (skesk, seipd) = bytes.split_at_checked(len).ok_or_else(foreign)?;
        let length = match (skesk[0], seipd) {
            (TAG_SKESK, [TAG_SEIPD, PARTIAL_LENGTH, ..]) => 1,
            (TAG_SKESK, [TAG_SEIPD, FIVE_BYTE_LENGTH, ..]) => LAST_LENGTH as usize,
            _ => return Err(foreign()),
        };
        let body = seipd.get(1 + length..).unwrap_or_default();
        // Our versions, and an iterated and salted S2K, as ours are: what others cost in memory is the writer's choice.
        let (session, opener) = match &skesk[2..] {
            [4, _, S2K_ITERATED, ..] => {
                let prefix =
                    body.strip_prefix(&[VERSION_1]).and_then(<[u8]>::first_chunk).ok_or_else(foreign)?;
                let session = session(skesk)?;
                prove(&session, *prefix)?;
                (session.clone(), Opener::Cfb(session))
            }
            [6, _, _, _, _, S2K_ITERATED, ..] => {
                let salt =
                    body.strip_prefix(&gcm::PARAMETERS).and_then(<[u8]>::first_chunk).ok_or_else(foreign)?;
                let session = session(skesk)?;
                let gcm = Gcm::new(&session, salt)?;
                (session, Opener::Gcm(gcm))
            }
            _ => return Err(foreign()),
        };
        Ok(Head { session, len: len as u64 + 1, opener })
    }
}

fn wrong() -> Error {
    Error::new(Kind::WrongPassphrase, "the passphrase does not open this archive")
}

fn open_skesk(skesk: &[u8], passphrase: &SecretString) -> Result<SessionKey> {
    // The packet's bytes are the store's, and Sequoia panics on some.
    panics::catch(|| open_packet(skesk, passphrase)).unwrap_or_else(|text| {
        Err(Error::damaged("the packet with the session key is damaged").because(text))
    })
}

fn open_packet(skesk: &[u8], passphrase: &SecretString) -> Result<SessionKey> {
    let parsed = PacketParser::from_bytes(skesk).map_err(|_| wrong())?;
    let PacketParserResult::Some(packet) = parsed else { return Err(wrong()) };
    let Packet::SKESK(skesk) = &packet.packet else { return Err(wrong()) };
    match skesk.decrypt(&password(passphrase)) {
        // Version 6 leaves the algorithm to the SEIPD packet.
        Ok((None | Some(SymmetricAlgorithm::AES256), session)) if session.len() == 32 => Ok(session),
        _ => Err(wrong()),
    }
}

/// Decrypts SEIPD v1's prefix to see whether the session key is the right one.
fn prove(session: &SessionKey, mut prefix: [u8; PREFIX as usize]) -> Result<()> {
    cfb::decrypt_range(session, [0; 16], &mut prefix)?;
    if prefix[14..16] == prefix[16..18] { Ok(()) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::layout::{Layout, PARTIAL};
    use super::*;

    const CIPHERS: [Cipher; 2] = [Cipher::Cfb, Cipher::Aead];

    fn seal(data: &[u8], step: usize, key: &MessageKey, passphrase: &str) -> Vec<u8> {
        let head = key.head(&passphrase.into()).unwrap();
        assert_eq!(head.len() as u64, key.cipher().head_len());
        let pool = block_pool(4);
        let mut stored = Vec::new();
        let mut sealer = Sealer::new(Some(key)).unwrap();
        let mut body = Body::new(Some((key, head)), |bytes: Bytes| {
            stored.extend_from_slice(&bytes);
            Ok(())
        })
        .unwrap();
        let mut packer =
            Packer::new(Some(key.cipher()), pool, |block| body.push(sealer.seal(block)?)).unwrap();
        data.chunks(step).for_each(|piece| packer.push(piece).unwrap());
        packer.finish().unwrap();
        stored
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn sequoia_reads_every_size_and_the_layout_finds_every_byte() {
        for cipher in CIPHERS {
            every_size(cipher);
        }
    }

    #[test]
    fn a_key_costs_the_largest_count_and_only_its_passphrase_opens_it() {
        let key = MessageKey::new(Cipher::Cfb).unwrap();
        let stored = seal(b"data", 4, &key, "right");
        // Tag, length, version, AES-256, S2K type, SHA-256, eight bytes of salt, then the count in one byte.
        assert_eq!((&stored[2..6], stored[14]), (&[4, 9, S2K_ITERATED, 8][..], 0xff));
        let head = Head::open(&stored, &SecretString::from("right")).unwrap();
        assert_eq!((&head.session[..], head.len), (key.session(), Cipher::Cfb.head_len()));
    }

    #[test]
    fn another_kind_of_s2k_is_refused_before_it_costs_anything() {
        for (cipher, at) in [(Cipher::Cfb, 4), (Cipher::Aead, 7)] {
            let mut stored = seal(b"data", 4, &MessageKey::with_cheap_passphrase(cipher).unwrap(), "right");
            assert_eq!(stored[at], S2K_ITERATED, "{cipher:?}");
            // Simple, salted, and Argon2, whose memory the writer chooses.
            for other in [0, 1, 4] {
                stored[at] = other;
                let error = Head::open(&stored, &SecretString::from("right")).err().unwrap();
                assert_eq!(error.kind(), Kind::Damaged, "{cipher:?}, S2K {other}");
            }
        }
    }

    fn every_size(cipher: Cipher) {
        let passphrase = SecretString::from("correct horse");
        let key = MessageKey::with_cheap_passphrase(cipher).unwrap();
        let mib = PARTIAL as usize;
        // Around the ends of the literal packet's chunks (6 bytes of header), of the SEIPD packet's (53 bytes before and
        // behind the data with version 1, 80 with version 2), and of the AEAD's (12).
        let mut sizes = vec![0, 1, 2, 15, 16, 17, 512, mib + 1, 2 * mib - 6, 3 * mib + 5];
        for seam in [6, 12, 53, 80] {
            sizes.extend((mib - seam - 2)..(mib - seam + 3));
        }
        let all = noise(3 * mib + 5);
        for (i, size) in sizes.into_iter().enumerate() {
            let data = &all[..size];
            let stored = seal(data, 700_001, &key, "correct horse");
            let head = Head::open(&stored[..stored.len().min(HEAD_LEN as usize)], &passphrase).unwrap();
            let layout = Layout { cipher, head: head.len, data: size as u64 };
            assert_eq!(layout.object(), stored.len() as u64, "{cipher:?}, size {size}");
            // Sequoia's own cipher is slow where nothing is optimised.
            if i % 4 == 2 || size < 1000 {
                let mut plain = Vec::new();
                match i % 2 {
                    0 => decrypt(&stored[..], &passphrase).unwrap().read_to_end(&mut plain).unwrap(),
                    _ => decrypt_from(&stored[..], &head).unwrap().read_to_end(&mut plain).unwrap(),
                };
                assert!(plain == data, "{cipher:?}, size {size}");
            }
            for range in ranges(size) {
                let span = layout.span(range.start as u64..range.end as u64);
                let fetched = &stored[span.object.start as usize..span.object.end as usize];
                let mut text = Vec::new();
                let data = span.open(fetched, &mut text, Some(&head.opener)).unwrap();
                assert!(text[data] == all[range.clone()], "{cipher:?}, size {size}, range {range:?}");
            }
        }
    }

    /// Short ranges on both sides of every seam, and one that is nearly everything.
    fn ranges(size: usize) -> Vec<std::ops::Range<usize>> {
        let mib = PARTIAL as usize;
        let edges = [0, 1, 7, 16, 100, mib - 100, mib - 54, mib - 30, mib - 7, mib - 6, mib, 2 * mib - 60];
        let edges = edges.into_iter().chain([size / 2, size.saturating_sub(1)]);
        let short = edges.flat_map(|from| [1, 17, 100].map(|len| from..size.min(from + len)));
        short.chain(std::iter::once(size.min(3)..size)).filter(|range| range.start < range.end).collect()
    }

    #[test]
    fn a_wrong_passphrase_is_known_from_the_head() {
        for cipher in CIPHERS {
            let stored = seal(b"data", 4, &MessageKey::with_cheap_passphrase(cipher).unwrap(), "right");
            let error = Head::open(&stored, &SecretString::from("wrong")).err().unwrap();
            assert_eq!(error.kind(), Kind::WrongPassphrase);
            for cut in 0..cipher.head_len() as usize + 5 {
                let error = Head::open(&stored[..cut], &SecretString::from("right")).err().unwrap();
                assert_eq!(error.kind(), Kind::Damaged, "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_message_that_is_not_encrypted_is_refused() {
        // A literal packet: binary, no name, no date, "evil".
        let bare = [&[0xCB, 10, b'b', 0, 0, 0, 0, 0][..], b"evil"].concat();
        let read = decrypt(&bare[..], &SecretString::from("p"))
            .and_then(|mut m| m.read_to_end(&mut Vec::new()).context(|| "read".into()));
        assert!(read.is_err());
    }

    #[test]
    fn a_message_that_was_not_finished_is_refused() {
        let passphrase = SecretString::from("p");
        for cipher in CIPHERS {
            let key = MessageKey::with_cheap_passphrase(cipher).unwrap();
            let stored = seal(&noise((1 << 20) + 500), 1 << 20, &key, "p");
            for cut in [stored.len() - 1, stored.len() - 30, 1 << 20] {
                let read = decrypt(&stored[..cut], &passphrase)
                    .and_then(|mut m| m.read_to_end(&mut Vec::new()).context(|| "read".into()));
                assert!(read.is_err(), "{cipher:?}, cut at {cut}");
            }
        }
    }
}
