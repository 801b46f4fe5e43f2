//! What an object in a job's folder is, by its name, whether its archive is there or not.

use super::manifest::{SUFFIX, is_archive_suffix};
use super::probe::is_probe;
use super::record::VerificationKey;
use super::record::drill::DrillKey;
use super::{damage, failed, key_object, lease, mark, pin, set, tombstone};
use crate::archive::Id;
use crate::archive::openpgp::Cipher;

/// What an object is, by its name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    Manifest,
    Data,
    Failure,
    Lease,
    Tombstone(Id),
    /// A verification, a drill, a damage record, a pin, a key object.
    Record,
    Probe,
}

/// The archive and the part of it that a name names; none where it is not exactly one of ours.
pub(super) fn part_of(name: &str) -> Option<(Id, Part)> {
    let (id, suffix) = id_and_suffix(name)?;
    let is_catalog = |cipher: Option<Cipher>| {
        let ending = match cipher {
            None => "",
            Some(Cipher::Cfb) => ".gpg",
            Some(Cipher::Aead) => ".pgp",
        };
        suffix.strip_prefix(".catalog.zst").is_some_and(|rest| rest == ending)
    };
    let part = if suffix == SUFFIX {
        Part::Manifest
    } else if is_archive_suffix(suffix)
        || [None, Some(Cipher::Cfb), Some(Cipher::Aead)].into_iter().any(is_catalog)
    {
        Part::Data
    } else if suffix == failed::SUFFIX {
        Part::Failure
    } else if lease::parse(name).is_some() {
        Part::Lease
    } else if let Some((_, at)) = mark::parse(name, tombstone::WORD) {
        Part::Tombstone(at)
    } else if is_probe(suffix) {
        Part::Probe
    } else if VerificationKey::parse(name).is_some()
        || DrillKey::parse(name).is_some()
        || damage::parse(name).is_some()
        || mark::parse(name, pin::WORD).is_some()
        || key_object::parse(name).is_some()
    {
        Part::Record
    } else {
        return None;
    };
    Some((id, part))
}

/// The archive that an object is named after though nothing of this version is called so. A newer version may have put it
/// there, or somebody else: nobody knows here what it is for.
pub(super) fn unknown_beside(name: &str) -> Option<Id> {
    let (id, suffix) = id_and_suffix(name)?;
    (suffix != set::SUFFIX && part_of(name).is_none()).then_some(id)
}

/// The id that a name begins with, and what is behind it.
fn id_and_suffix(name: &str) -> Option<(Id, &str)> {
    let (id, suffix) = name.split_at_checked(name.find('.')?)?;
    let id: Id = id.parse().ok()?;
    id.time().map(|_| (id, suffix))
}
