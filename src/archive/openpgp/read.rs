//! Reading whole messages back, through Sequoia: ours, and any other that a passphrase opens.

use std::io::Read;

use secrecy::SecretString;
use sequoia_openpgp::crypto::{Password, SessionKey};
use sequoia_openpgp::packet::SKESK;
use sequoia_openpgp::parse::Parse;
use sequoia_openpgp::parse::stream::{
    DecryptionHelper, DecryptorBuilder, MessageLayer, MessageStructure, VerificationHelper,
};
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::types::SymmetricAlgorithm;

use super::{Head, password};
use crate::error::{Error, Kind, Result};

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
/// SEIPD v1 is authenticated by its MDC, which comes last, and that v2 was not cut is known by its last tag.
///
/// # Errors
/// It is no message that a passphrase opens, or [`Kind::WrongPassphrase`].
pub fn decrypt<'a, R>(message: R, passphrase: &SecretString) -> Result<impl Read + Send + Sync + use<'a, R>>
where
    R: Read + Send + Sync + 'a,
{
    read(message, Helper::Passphrase(password(passphrase)))
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
