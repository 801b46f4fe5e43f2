//! The sealed message: SKESK v4, then one SEIPD v1 packet with a literal packet and the MDC inside (RFC 9580 §5).
//!
//! Written here in two steps that can run on two threads, [`Packer`] (packets, SHA-1) and [`Cipher`] (AES-256 in CFB
//! mode); Sequoia makes the S2K, the SKESK and the session key, and reads whole messages back ([`decrypt`]). Every
//! partial length is 2^20 octets, so that [`super::layout`] can find any byte.

use std::io::Read;

use aws_lc_rs::digest;
use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use sequoia_openpgp::crypto::{Password, S2K, SessionKey};
use sequoia_openpgp::packet::{Packet, SKESK, skesk::SKESK4};
use sequoia_openpgp::parse::stream::{
    DecryptionHelper, DecryptorBuilder, MessageLayer, MessageStructure, VerificationHelper,
};
use sequoia_openpgp::parse::{PacketParser, PacketParserResult, Parse};
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::serialize::Serialize as _;
use sequoia_openpgp::types::{HashAlgorithm, SymmetricAlgorithm};

use super::cfb::{Cfb, decrypt_range};
use super::layout::{LAST_LENGTH, PARTIAL, PREFIX};
use super::pool::{Lent, Pool};
use crate::error::{Context, Error, Kind, Result};

// Iterated and salted S2K: octets hashed, the largest count that its one octet can say (RFC 9580 §3.7.1.3).
const S2K_COUNT: u32 = 65_011_712;
// New-format packet tags (RFC 9580 §4.2).
const TAG_SKESK: u8 = 0xC3;
const TAG_SEIPD: u8 = 0xD2;
const TAG_LITERAL: u8 = 0xCB;
const TAG_MDC: u8 = 0xD3;
/// 224 + 20: a partial length of 2^20.
const PARTIAL_OCTET: u8 = 0xF4;
/// A length in four more octets.
const LONG_OCTET: u8 = 0xFF;
const SEIPD_VERSION: u8 = 1;

/// The secrets of one message: its session key, and the SKESK packet that hands it to whoever knows the passphrase.
pub struct MessageKey {
    session: SessionKey,
    skesk: Vec<u8>,
}

impl MessageKey {
    /// A random session key, sealed with `passphrase`. Costs a tenth of a second by design.
    pub fn generate(passphrase: &SecretString) -> Result<Self> {
        let sealed = || -> sequoia_openpgp::Result<Self> {
            let algorithm = SymmetricAlgorithm::AES256;
            let session = SessionKey::new(32)?;
            let s2k = S2K::new_iterated(HashAlgorithm::SHA256, S2K_COUNT)?;
            let skesk = SKESK4::with_password(algorithm, algorithm, s2k, &session, &password(passphrase))?;
            let mut packet = Vec::new();
            Packet::from(SKESK::from(skesk)).serialize(&mut packet)?;
            Ok(MessageKey { session, skesk: packet })
        };
        sealed().context(|| "cannot make a session key".into())
    }

    /// The session key, for keys derived from it.
    pub fn session(&self) -> &[u8] {
        &self.session
    }

    /// The first octets of the message: the SKESK packet and the SEIPD packet's tag.
    pub fn head(&self) -> Bytes {
        Bytes::from([&self.skesk[..], &[TAG_SEIPD]].concat())
    }
}

fn password(passphrase: &SecretString) -> Password {
    Password::from(passphrase.expose_secret())
}

/// A chunk of the SEIPD packet: room for its length, then up to 2^20 octets of body.
pub struct Chunk {
    buffer: Lent<Vec<u8>>,
    /// Where the octets that are encrypted begin: the version in the first chunk is not.
    secret_from: usize,
    last: bool,
}

impl Chunk {
    fn new(mut buffer: Lent<Vec<u8>>, first: bool) -> Self {
        buffer.clear();
        buffer.extend_from_slice(&[0; LAST_LENGTH as usize]);
        if first {
            buffer.push(SEIPD_VERSION);
        }
        let secret_from = buffer.len();
        Chunk { buffer, secret_from, last: false }
    }

    fn body_len(&self) -> usize {
        self.buffer.len() - LAST_LENGTH as usize
    }

    /// The octets that are to be encrypted.
    fn secret(&self) -> &[u8] {
        &self.buffer[self.secret_from..]
    }
}

/// Octets that a chunk's buffer must be able to hold.
pub const CHUNK_LEN: usize = (PARTIAL + LAST_LENGTH) as usize;

/// Lays the packets out in chunks and computes the MDC's SHA-1 on the way.
///
/// A literal packet's length stands before its octets. It is written as that of a full one, so that nothing has to wait
/// to be copied; the last, which is shorter, is taken back at the end and written anew.
pub struct Packer<E> {
    buffers: Pool<Vec<u8>>,
    emit: E,
    chunk: Chunk,
    /// The chunk before, where the literal packet's length at hand stands in it and may yet be taken back.
    held: Option<Chunk>,
    sha1: digest::Context,
    literal: Literal,
}

/// The part of the literal packet at hand.
#[derive(Default)]
struct Literal {
    /// Where its length stands: in the held chunk's buffer if there is one, else in the one at hand. None: not begun.
    at: Option<usize>,
    /// Its octets.
    len: usize,
}

impl<E: FnMut(Chunk) -> Result<()>> Packer<E> {
    /// A packer at the beginning of a message; chunks are laid out in `buffers` and handed to `emit`.
    pub fn new(buffers: Pool<Vec<u8>>, emit: E) -> Result<Self> {
        let mut packer = Packer {
            chunk: Chunk::new(buffers.take(), true),
            held: None,
            buffers,
            emit,
            sha1: digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY),
            literal: Literal::default(),
        };
        let mut prefix = [0; PREFIX as usize];
        sequoia_openpgp::crypto::random(&mut prefix[..16]).context(|| "no random bytes".into())?;
        prefix.copy_within(14..16, 16);
        packer.put(&prefix)?;
        packer.put(&[TAG_LITERAL])?;
        // The literal packet's header: binary, no file name, no date.
        packer.push(&[b'b', 0, 0, 0, 0, 0])?;
        Ok(packer)
    }

    /// Appends octets of the compressed stream.
    pub fn push(&mut self, mut data: &[u8]) -> Result<()> {
        while !data.is_empty() {
            if self.literal.at.is_none() {
                self.literal.at = Some(self.chunk.buffer.len());
                self.put(&[PARTIAL_OCTET])?;
            }
            let room = PARTIAL as usize - self.literal.len;
            let (now, later) = data.split_at(room.min(data.len()));
            self.literal.len += now.len();
            if now.len() == room {
                // It is a full one: its length stands.
                self.literal = Literal::default();
                self.held.take().map_or(Ok(()), |held| self.release(held))?;
            }
            self.put(now)?;
            data = later;
        }
        Ok(())
    }

    /// Ends the literal packet, appends the MDC packet and hands out the last chunk.
    ///
    /// A packer that is dropped without this leaves a message that no reader accepts.
    pub fn finish(mut self) -> Result<()> {
        let rest = self.take_back();
        self.put(&long_length(rest.len()))?;
        self.put(&rest)?;
        self.put(&[TAG_MDC, 20])?;
        self.sha1.update(self.chunk.secret());
        let mdc = self.sha1.clone().finish();
        self.put(mdc.as_ref())?;
        self.chunk.last = true;
        (self.emit)(self.chunk)
    }

    /// Takes the literal packet's last part back, its length included; returns its octets.
    fn take_back(&mut self) -> Vec<u8> {
        let Some(at) = std::mem::take(&mut self.literal).at else { return Vec::new() };
        let mut after = Vec::new();
        if let Some(held) = self.held.take() {
            after.extend_from_slice(self.chunk.secret());
            self.chunk = held;
        }
        let mut rest = self.chunk.buffer.split_off(at + 1);
        rest.extend_from_slice(&after);
        self.chunk.buffer.truncate(at);
        rest
    }

    /// Writes octets that will be encrypted.
    fn put(&mut self, mut octets: &[u8]) -> Result<()> {
        while !octets.is_empty() {
            let room = PARTIAL as usize - self.chunk.body_len();
            let (now, later) = octets.split_at(room.min(octets.len()));
            self.chunk.buffer.extend_from_slice(now);
            octets = later;
            if self.chunk.body_len() == PARTIAL as usize {
                let next = Chunk::new(self.buffers.take(), false);
                let full = std::mem::replace(&mut self.chunk, next);
                // A part that began in the chunk before is full before this one is: one is held at most.
                match self.literal.at {
                    Some(_) => self.held = Some(full),
                    None => self.release(full)?,
                }
            }
        }
        Ok(())
    }

    fn release(&mut self, chunk: Chunk) -> Result<()> {
        self.sha1.update(chunk.secret());
        (self.emit)(chunk)
    }
}

fn long_length(len: usize) -> [u8; LAST_LENGTH as usize] {
    let mut octets = [LONG_OCTET; LAST_LENGTH as usize];
    octets[1..].copy_from_slice(&(len as u32).to_be_bytes());
    octets
}

/// Encrypts chunks, in order, into the octets that are stored.
pub struct Cipher(Cfb);

impl Cipher {
    /// A cipher at the beginning of a message.
    pub fn new(key: &MessageKey) -> Result<Self> {
        Cfb::new(&key.session).map(Cipher)
    }

    /// Encrypts a chunk in place and writes its length before it.
    pub fn seal(&mut self, mut chunk: Chunk) -> Bytes {
        let (from, body) = (chunk.secret_from, chunk.body_len());
        self.0.encrypt(&mut chunk.buffer[from..]);
        let room = LAST_LENGTH as usize;
        let start = if chunk.last {
            chunk.buffer[..room].copy_from_slice(&long_length(body));
            0
        } else {
            chunk.buffer[room - 1] = PARTIAL_OCTET;
            room - 1
        };
        // The buffer returns to its pool when the last upload lets go of it.
        Bytes::from_owner(chunk.buffer).slice(start..)
    }
}

/// Octets of a message's beginning that [`open_head`] needs.
pub const HEAD_LEN: u64 = 512;

/// What the beginning of a message gives away to whoever knows the passphrase. Finding it out takes a tenth of a second
/// by design: it is kept.
#[derive(Clone)]
pub struct Head {
    /// The session key.
    pub session: SessionKey,
    /// Octets before the SEIPD packet's first length.
    pub len: u64,
}

/// Opens the beginning of a message.
///
/// # Errors
/// [`Kind::Damaged`] when it is not one of ours; [`Kind::WrongPassphrase`] when the session key does not come out or
/// does not decrypt the prefix (RFC 9580 §5.13.1: its last two octets are repeated). A damaged prefix cannot be told
/// from a wrong passphrase here.
pub fn open_head(octets: &[u8], passphrase: &SecretString) -> Result<Head> {
    let foreign =
        || Error::damaged("this is no sealed archive: its first packets are not what sealift writes");
    let wrong = || Error::new(Kind::WrongPassphrase, "the passphrase does not open this archive");
    let skesk_len = 2 + usize::from(*octets.get(1).ok_or_else(foreign)?);
    if octets[0] != TAG_SKESK || octets.get(skesk_len) != Some(&TAG_SEIPD) {
        return Err(foreign());
    }
    let length = match octets.get(skesk_len + 1) {
        Some(&PARTIAL_OCTET) => 1,
        Some(&LONG_OCTET) => LAST_LENGTH as usize,
        _ => return Err(foreign()),
    };
    // Version 4 and an iterated and salted S2K, as ours are: what others cost in memory is the writer's choice.
    if octets.get(2) != Some(&4) || octets.get(4) != Some(&3) {
        return Err(foreign());
    }
    let body = octets.get(skesk_len + 1 + length..).unwrap_or_default();
    if body.first() != Some(&SEIPD_VERSION) || body.len() < 1 + PREFIX as usize {
        return Err(foreign());
    }
    let parsed = PacketParser::from_bytes(&octets[..skesk_len]).map_err(|_| wrong())?;
    let PacketParserResult::Some(packet) = parsed else { return Err(wrong()) };
    let Packet::SKESK(skesk) = &packet.packet else { return Err(wrong()) };
    let session = match skesk.decrypt(&password(passphrase)) {
        Ok((Some(SymmetricAlgorithm::AES256), session)) if session.len() == 32 => session,
        _ => return Err(wrong()),
    };
    let mut prefix = [0; PREFIX as usize];
    prefix.copy_from_slice(&body[1..1 + PREFIX as usize]);
    decrypt_range(&session, [0; 16], &mut prefix)?;
    if prefix[14..16] != prefix[16..18] {
        return Err(wrong());
    }
    Ok(Head { session, len: skesk_len as u64 + 1 })
}

/// What opens a message.
enum Helper {
    Passphrase(Password),
    Session(SessionKey),
}

impl VerificationHelper for Helper {
    fn get_certs(
        &mut self,
        _: &[sequoia_openpgp::KeyHandle],
    ) -> sequoia_openpgp::Result<Vec<sequoia_openpgp::Cert>> {
        Ok(Vec::new())
    }
    fn check(&mut self, structure: MessageStructure) -> sequoia_openpgp::Result<()> {
        // A bare literal packet is a message too, but nobody vouches for it.
        match structure.into_iter().next() {
            Some(MessageLayer::Encryption { .. }) => Ok(()),
            _ => Err(Error::damaged("the message is not encrypted, as it must be").into()),
        }
    }
}

impl DecryptionHelper for Helper {
    fn decrypt(
        &mut self,
        _: &[sequoia_openpgp::packet::PKESK],
        skesks: &[SKESK],
        _: Option<SymmetricAlgorithm>,
        decrypt: &mut dyn FnMut(Option<SymmetricAlgorithm>, &SessionKey) -> bool,
    ) -> sequoia_openpgp::Result<Option<sequoia_openpgp::Cert>> {
        let secret = match self {
            Helper::Passphrase(secret) => secret,
            Helper::Session(key) => {
                return match decrypt(Some(SymmetricAlgorithm::AES256), key) {
                    true => Ok(None),
                    false => {
                        Err(Error::damaged("the message is not the one whose beginning was read").into())
                    }
                };
            }
        };
        if skesks.is_empty() {
            return Err(Error::damaged("the message is encrypted to a key, not with a passphrase")
                .hint("decrypt it where that key is: gpg -d")
                .into());
        }
        let opened = skesks.iter().filter_map(|s| s.decrypt(secret).ok());
        match opened.into_iter().any(|(algorithm, key)| decrypt(algorithm, &key)) {
            true => Ok(None),
            false => {
                Err(Error::new(Kind::WrongPassphrase, "the passphrase does not open this message").into())
            }
        }
    }
}

/// Reads any passphrase-encrypted OpenPGP message through Sequoia. What is read may be acted on only after the end:
/// SEIPD v1 is authenticated by its MDC, which comes last.
pub fn decrypt<'a, R>(message: R, passphrase: &SecretString) -> Result<impl Read + Send + Sync + use<'a, R>>
where
    R: Read + Send + Sync + 'a,
{
    read(message, Helper::Passphrase(password(passphrase)))
}

/// [`decrypt`] of a message whose beginning was opened already.
pub fn decrypt_from<'a, R>(message: R, head: &Head) -> Result<impl Read + Send + Sync + use<'a, R>>
where
    R: Read + Send + Sync + 'a,
{
    read(message, Helper::Session(head.session.clone()))
}

fn read<'a, R>(message: R, helper: Helper) -> Result<impl Read + Send + Sync + use<'a, R>>
where
    R: Read + Send + Sync + 'a,
{
    static POLICY: StandardPolicy = StandardPolicy::new();
    DecryptorBuilder::from_reader(message)
        .map(|builder| builder.buffer_size(1 << 20))
        .and_then(|builder| builder.with_policy(&POLICY, None, helper))
        .map_err(|e| match e.downcast::<Error>() {
            Ok(ours) => ours,
            Err(other) => Error::damaged("this is no OpenPGP message that a passphrase opens").because(other),
        })
}

#[cfg(test)]
mod tests {
    use super::super::layout::Layout;
    use super::*;

    fn seal(data: &[u8], step: usize, key: &MessageKey) -> Vec<u8> {
        let pool = Pool::new(4, || Vec::with_capacity(CHUNK_LEN));
        let mut stored = key.head().to_vec();
        let mut cipher = Cipher::new(key).unwrap();
        let mut packer = Packer::new(pool, |chunk| {
            stored.extend_from_slice(&cipher.seal(chunk));
            Ok(())
        })
        .unwrap();
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
        let passphrase = SecretString::from("correct horse");
        let key = MessageKey::generate(&passphrase).unwrap();
        let mib = PARTIAL as usize;
        // Around the ends of the literal packet's chunks (6 octets of header) and of the SEIPD packet's (53 in all).
        let mut sizes = vec![0, 1, 2, 15, 16, 17, 512];
        sizes.extend([mib - 60, mib - 7, mib - 6, mib - 5, mib, mib + 1]);
        sizes.extend([2 * mib - 8, 2 * mib - 6, 3 * mib + 5]);
        sizes.extend((mib - 56)..(mib - 48));
        let all = noise(3 * mib + 5);
        for size in sizes {
            let data = &all[..size];
            let stored = seal(data, 700_001, &key);
            let head = open_head(&stored[..stored.len().min(HEAD_LEN as usize)], &passphrase).unwrap();
            let layout = Layout { head: head.len, data: size as u64 };
            assert_eq!(layout.object(), stored.len() as u64, "size {size}");
            let mut plain = Vec::new();
            decrypt(&stored[..], &passphrase).unwrap().read_to_end(&mut plain).unwrap();
            assert!(plain == data, "size {size}");
            for range in ranges(size) {
                let span = layout.span(range.start as u64..range.end as u64);
                let fetched = &stored[span.object.start as usize..span.object.end as usize];
                let mut text = Vec::new();
                let data =
                    span.open(fetched, &mut text, |iv, text| decrypt_range(&head.session, iv, text).unwrap());
                assert!(text[data] == all[range.clone()], "size {size}, range {range:?}");
            }
        }
    }

    fn ranges(size: usize) -> Vec<std::ops::Range<usize>> {
        let mib = PARTIAL as usize;
        let mut edges: Vec<usize> =
            [0, 1, 7, 16, 100, mib - 54, mib - 30, mib - 7, mib - 6, mib, 2 * mib, size / 2].into();
        edges.extend([size.saturating_sub(1), size]);
        edges.retain(|&e| e <= size);
        edges.sort_unstable();
        let pairs = edges.iter().flat_map(|&a| edges.iter().map(move |&b| a..b));
        pairs.filter(|r| r.start < r.end).collect()
    }

    #[test]
    fn a_wrong_passphrase_is_known_from_the_head() {
        let key = MessageKey::generate(&SecretString::from("right")).unwrap();
        let stored = seal(b"data", 4, &key);
        let error = open_head(&stored, &SecretString::from("wrong")).err().unwrap();
        assert_eq!(error.kind(), Kind::WrongPassphrase);
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
        let key = MessageKey::generate(&passphrase).unwrap();
        let stored = seal(&noise(3 << 20), 1 << 20, &key);
        for cut in [stored.len() - 1, stored.len() - 30, 2 << 20, 1 << 20] {
            let read = decrypt(&stored[..cut], &passphrase)
                .and_then(|mut m| m.read_to_end(&mut Vec::new()).context(|| "read".into()));
            assert!(read.is_err(), "cut at {cut}");
        }
    }
}
