//! Reading whole messages back, through Sequoia: ours, and any other that a passphrase opens.

use std::io::{self, Read};
use std::sync::LazyLock;

use secrecy::{ExposeSecret, SecretString};
use sequoia_openpgp::Packet;
use sequoia_openpgp::crypto::{Password, S2K, SessionKey};
use sequoia_openpgp::packet::{SKESK, Tag};
use sequoia_openpgp::parse::stream::{
    DecryptionHelper, DecryptorBuilder, MessageLayer, MessageStructure, VerificationHelper,
};
use sequoia_openpgp::parse::{PacketParser, Parse};
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::types::SymmetricAlgorithm;

use super::{Head, password};
use crate::error::{Error, Kind, Result};
use crate::host::panics;

/// What opens a message.
enum Helper {
    /// One passphrase, in each encoding that it may have been given in.
    Passphrase(Vec<Password>),
    Session(SessionKey),
}

impl VerificationHelper for Helper {
    fn inspect(&mut self, packet: &PacketParser<'_>) -> sequoia_openpgp::Result<()> {
        let Packet::CompressedData(data) = &packet.packet else { return Ok(()) };
        match self {
            _ if data.algo().is_supported() => Ok(()),
            Helper::Passphrase(_) => {
                Err(too_old(&format!("it is compressed with {}, which is not read here", data.algo())).into())
            }
            // Nothing of ours is in such a packet: a changed byte makes it look so.
            Helper::Session(_) => Err(Error::damaged("the message holds what was never sealed in it").into()),
        }
    }

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
        if let Some(unknown) = skesks.iter().find_map(unknown_algorithm) {
            return Err(too_old(&format!("it is encrypted with {unknown}, which is not read here")).into());
        }
        skesks.iter().try_for_each(within_memory)?;
        let opened = secret.iter().flat_map(|secret| skesks.iter().filter_map(|s| s.decrypt(secret).ok()));
        match opened.into_iter().any(|(algorithm, key)| decrypt(algorithm, &key)) {
            true => Ok(None),
            false => {
                Err(Error::new(Kind::WrongPassphrase, "the passphrase does not open this message").into())
            }
        }
    }
}

/// The cipher of a session key's packet, where this build has none of it.
fn unknown_algorithm(skesk: &SKESK) -> Option<SymmetricAlgorithm> {
    let algorithm = match skesk {
        SKESK::V4(skesk) => skesk.symmetric_algo(),
        SKESK::V6(skesk) => skesk.symmetric_algo(),
        _ => return None,
    };
    // What Sequoia's own backend decrypts with Blowfish is not what GnuPG encrypted.
    let is_read = algorithm.is_supported() && algorithm != SymmetricAlgorithm::Blowfish;
    (!is_read).then_some(algorithm)
}

/// The most memory that making a passphrase a key may take, as a power of two of KiB: 2 GiB, as RFC 9580 recommends for
/// Argon2 where memory is not scarce. Whoever wrote the message says how much, up to 2 TiB.
const MOST_MEMORY: u8 = 21;

fn within_memory(skesk: &SKESK) -> Result<()> {
    let s2k = match skesk {
        SKESK::V4(skesk) => skesk.s2k(),
        SKESK::V6(skesk) => skesk.s2k(),
        _ => return Ok(()),
    };
    match s2k {
        S2K::Argon2 { m, .. } if *m > MOST_MEMORY => {
            Err(Error::failed(format!("making the passphrase a key would take 2^{m} KiB of memory (Argon2)"))
                .hint("the message is damaged, or made to do harm"))
        }
        _ => Ok(()),
    }
}

/// A message that GnuPG reads, and this program does not.
fn too_old(why: &str) -> Error {
    Error::failed(format!("this OpenPGP message is of an old kind: {why}"))
        .hint("have gpg decrypt it: gpg -d FILE | sealift restore --object - …")
}

/// Reads any passphrase-encrypted OpenPGP message through Sequoia. What is read may be acted on only after the end:
/// SEIPD v1 is authenticated by its MDC, which comes last, and that v2 was not cut is known by its last tag.
///
/// # Errors
/// [`Kind::WrongPassphrase`]; it is no such message, or one that is too old to be authenticated.
pub fn decrypt<'a, R>(message: R, passphrase: &SecretString) -> Result<impl Read + Send + Sync + use<'a, R>>
where
    R: Read + Send + Sync + 'a,
{
    let encodings = [Some(password(passphrase)), latin1(passphrase)];
    read(message, Helper::Passphrase(encodings.into_iter().flatten().collect()))
}

/// The passphrase as it was typed into gpg on a terminal of ISO 8859-1, where that is not the same.
fn latin1(passphrase: &SecretString) -> Option<Password> {
    let text = passphrase.expose_secret();
    let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
    bytes.filter(|_| !text.is_ascii()).map(Password::from)
}

/// [`decrypt`] of a message whose beginning was opened already.
///
/// # Errors
/// It is not the message whose beginning was opened.
pub fn decrypt_from<'a, R>(message: R, head: &Head) -> Result<impl Read + Send + Sync + use<'a, R>>
where
    R: Read + Send + Sync + 'a,
{
    read(message, Helper::Session(head.session.clone()))
}

/// IDEA, 3DES and CAST5 (RFC 9580 §9.3).
const OLD_CIPHERS: [u8; 3] = [1, 2, 3];

/// Today's ciphers, and those of old archives: with the MDC behind it, what an old cipher decrypts is as it was
/// encrypted.
static POLICY: LazyLock<StandardPolicy<'static>> = LazyLock::new(|| {
    let mut policy = StandardPolicy::new();
    for old in OLD_CIPHERS {
        policy.accept_symmetric_algo(SymmetricAlgorithm::from(old));
    }
    policy
});

fn read<'a, R>(message: R, helper: Helper) -> Result<impl Read + Send + Sync + use<'a, R>>
where
    R: Read + Send + Sync + 'a,
{
    // Sequoia looks at the message's front here, and panics on some that are cut.
    let opened = panics::catch(|| {
        DecryptorBuilder::from_reader(message)
            .map(|builder| builder.buffer_size(1 << 20))
            .and_then(|builder| builder.with_policy(&*POLICY, None, helper))
    });
    let opened = opened.map_err(panicked)?.map_err(|e| match e.downcast::<Error>() {
        Ok(ours) => ours,
        Err(other) => not_read(&other).unwrap_or_else(|| {
            Error::damaged("this is no OpenPGP message that a passphrase opens").because(other)
        }),
    })?;
    Ok(Caught { reader: Some(opened) })
}

/// What Sequoia refuses by its policy, or has no code for.
fn not_read(error: &sequoia_openpgp::anyhow::Error) -> Option<Error> {
    use sequoia_openpgp::Error as E;
    let found = error.chain().find_map(|cause| cause.downcast_ref::<E>())?;
    match found {
        E::UnsupportedSymmetricAlgorithm(algorithm) => {
            Some(too_old(&format!("it is encrypted with {algorithm}, which is not read here")))
        }
        // The policy names the packet by its type's text.
        E::PolicyViolation(what, _) if what.starts_with(&Tag::SED.to_string()) => {
            Some(too_old("it has no integrity protection (MDC)"))
        }
        _ => None,
    }
}

/// A reader whose panics are errors.
struct Caught<R> {
    /// None after a panic: what it would give then is anybody's guess.
    reader: Option<R>,
}

impl<R: Read> Read for Caught<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(reader) = &mut self.reader else {
            return Err(io::Error::other(panicked("it was read on after a failure".into())));
        };
        panics::catch(|| reader.read(buffer)).unwrap_or_else(|text| {
            let broken = self.reader.take();
            let _ = panics::catch(|| drop(broken));
            Err(io::Error::other(panicked(text)))
        })
    }
}

/// Nothing but a message that is not as it was made makes Sequoia panic.
fn panicked(text: String) -> Error {
    Error::damaged("the OpenPGP message is damaged: the library that reads it gave up").because(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::openpgp::layout::{LAST_LENGTH, PREFIX};
    use crate::archive::openpgp::{Body, Cipher, MessageKey, Packer, Sealer, block_pool};
    use bytes::Bytes;

    // What `echo hello | gpg --symmetric` made with the passphrase "secret", by GnuPG 2.2.40 with `--s2k-mode 1`.
    const AES: &str = "8c0c04090102d868c99288d76236d23b014914285cf8bed4e41a16613bfbe36980122de083f9c093eaea7e1ca4\
                       52db73c381c650bd5e2a8c6ee24be9dfa038905a42f6eb44ed86bbcacee9";
    const CAST5: &str = "8c0c04030102d3e2b04dc447072cd23301fa5b8121315f6dc3b2ba4f3d806302f63f2fb368f354080c6276eb77\
                         a40337f951f262f85402695de06b552d9ab02c3b278d";
    const TRIPLE_DES: &str = "8c0c04020102ad1b11af43d188d8d23301f1aaaa515f0fc3b499ee082e15af5960699cd47c4ac3173e20658\
                              27604648fe26ed8335e951938d82413b6b62761235cc347";
    const IDEA: &str = "8c0c04010102d719c17add602c79d233013f3695cad78a0d32f1cf4350a8459b97feb6fb1826afc46a80ef64ff87\
                        3cde4ce89358f4ad3be91141ed7316cf05d764d631";
    const BLOWFISH: &str = "8c0c04040102081fd6a7c961ef3bd23301c1066225a0b3a5599b532e3da5dd00a99d5297b623d58bbb3f5512\
                            3a8faf146a16887e2b853cf3100a19076a95d42f64b842";
    /// `--compress-algo bzip2`
    const BZIP2: &str = "8c0c04090102fe781d7d690acd2fd26301c1a1fddd4d3fd0c807ab3cccad35a17807ba5ce1f7687499084f50551\
                         277744a27ac53b31607c52897fc10017d71eab96e42880aa2c5014522ed3666487d13f5233c590d538f2f16c4c0\
                         bd1a3a615ddb1f976f00a159663b648e38680b12bb19c4fc";
    /// `--rfc2440`
    const NO_MDC: &str =
        "8c0c04030102fb33b5fc82e490c3c91cb72ac95b842114a8c305635cb7990cc2943210659efe4d9d6d47c88a";
    /// The passphrase is "grün" in ISO 8859-1.
    const LATIN1: &str = "8c0c040901023bc463fafe0349f3d23b01fc3104719af7154662bfb3e621f7146421436427e5286564a0d378aa\
                          b49402f2f75d1f931f679df8d2d01ab73e8123068006d76a460ef7322a13";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
        digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
    }

    fn opened(message: &[u8], passphrase: &str) -> Result<Vec<u8>> {
        let mut plain = Vec::new();
        decrypt(message, &SecretString::from(passphrase))?
            .read_to_end(&mut plain)
            .map_err(|e| e.downcast::<Error>().unwrap_or_else(|e| Error::damaged("read").because(e)))?;
        Ok(plain)
    }

    /// A small message of ours.
    fn sealed(cipher: Cipher) -> Vec<u8> {
        let key = MessageKey::with_cheap_passphrase(cipher).unwrap();
        let (mut stored, head) = (Vec::new(), key.head(&"secret".to_string().into()).unwrap());
        let mut sealer = Sealer::new(Some(&key)).unwrap();
        let mut body = Body::new(Some((&key, head)), |bytes: Bytes| {
            stored.extend_from_slice(&bytes);
            Ok(())
        })
        .unwrap();
        let mut packer =
            Packer::new(Some(cipher), block_pool(4), |block| body.push(sealer.seal(block)?)).unwrap();
        packer.push(b"hello").unwrap();
        packer.finish().unwrap();
        stored
    }

    /// No cut, and no changed byte, may be read to its end, or panic.
    fn every_cut_is_damage(whole: &[u8]) {
        assert!(opened(whole, "secret").is_ok());
        for cut in 0..whole.len() {
            let error = opened(&whole[..cut], "secret").err().unwrap_or_else(|| panic!("cut at {cut}"));
            assert_ne!(error.kind().exit_code(), 0, "cut at {cut}: {error}");
            // Behind the head, where the passphrase is known to be right.
            assert!(cut < 36 || error.kind() == Kind::Damaged, "cut at {cut}: {error:?}");
        }
    }

    #[test]
    fn a_message_that_was_cut_anywhere_is_damaged_and_nothing_panics() {
        every_cut_is_damage(&bytes(AES));
        every_cut_is_damage(&bytes(CAST5));
    }

    #[test]
    fn messages_of_ours_that_were_cut_anywhere_are_damaged_and_nothing_panics() {
        for cipher in [Cipher::Cfb, Cipher::Aead] {
            let whole = sealed(cipher);
            assert_eq!(opened(&whole, "secret").unwrap(), b"hello");
            for cut in 0..whole.len() {
                assert!(opened(&whole[..cut], "secret").is_err(), "{cipher:?}, cut at {cut}");
            }
        }
    }

    #[test]
    fn a_message_with_a_changed_byte_is_never_read_to_its_end() {
        for whole in [bytes(AES), bytes(CAST5), sealed(Cipher::Cfb), sealed(Cipher::Aead)] {
            let plain = opened(&whole, "secret").unwrap();
            for at in 0..whole.len() {
                for flip in [0x01, 0x80, 0xff] {
                    // A byte of the S2K's count or of a length may ask for gigabytes; that is another test's.
                    let mut changed = whole.clone();
                    changed[at] ^= flip;
                    let read = opened(&changed, "secret");
                    assert!(read.is_err() || read.is_ok_and(|read| read == plain), "{flip:#x} at {at}");
                }
            }
        }
    }

    #[test]
    fn a_changed_byte_of_ours_that_looks_like_an_old_compression_is_damage() {
        let (whole, tag_compressed) = (sealed(Cipher::Cfb), 0xC8);
        let head = Head::open(&whole, &"secret".to_string().into()).unwrap();
        // Behind the length, the version and the prefix: the literal packet's tag, its length, its format.
        let tag = head.len as usize + LAST_LENGTH as usize + 1 + PREFIX as usize;
        let format = tag + 1 + LAST_LENGTH as usize;
        for algorithm in [3, 137] {
            let mut changed = whole.clone();
            // In one block of CFB what is flipped there is flipped in what comes out.
            changed[tag] ^= 0xCB ^ tag_compressed;
            changed[format] ^= b'b' ^ algorithm;
            let read = decrypt_from(&changed[..], &head).and_then(|mut reader| {
                let read = reader.read_to_end(&mut Vec::new());
                read.map_err(|e| e.downcast::<Error>().unwrap_or_else(|e| Error::damaged("read").because(e)))
            });
            assert_eq!(read.unwrap_err().kind(), Kind::Damaged, "{algorithm}");
        }
    }

    #[test]
    fn old_ciphers_are_read_where_an_mdc_vouches_for_them() {
        for (name, hex) in [("CAST5", CAST5), ("3DES", TRIPLE_DES), ("IDEA", IDEA)] {
            assert_eq!(opened(&bytes(hex), "secret").unwrap_or_else(|e| panic!("{name}: {e:?}")), b"hello\n");
            assert_eq!(opened(&bytes(hex), "other").unwrap_err().kind(), Kind::WrongPassphrase, "{name}");
        }
    }

    #[test]
    fn what_is_too_old_is_named_and_never_a_wrong_passphrase() {
        for (hex, words) in [(BZIP2, "BZip2"), (NO_MDC, "MDC"), (BLOWFISH, "Blowfish")] {
            let error = opened(&bytes(hex), "secret").unwrap_err();
            assert_eq!(error.kind(), Kind::Failed, "{error}");
            assert!(error.to_string().contains(words), "{error}");
            assert!(error.hint_text().unwrap().contains("gpg -d FILE | sealift restore --object - "));
        }
    }

    #[test]
    fn a_passphrase_that_was_typed_on_a_latin1_terminal_opens_its_message() {
        assert_eq!(opened(&bytes(LATIN1), "grün").unwrap(), b"hello\n");
        assert_eq!(opened(&bytes(LATIN1), "grun").unwrap_err().kind(), Kind::WrongPassphrase);
    }
}
