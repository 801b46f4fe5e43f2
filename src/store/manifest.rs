//! The manifest: small plain JSON beside the archive. It is the commit record: no manifest, no backup.
//!
//! It is not authenticated, so it steers nothing but lists and checks without the passphrase.

use serde::{Deserialize, Serialize};

use super::json;
use crate::archive::catalog::{ArchiveRecord, EndRecord, Kept};
use crate::archive::digest::ObjectDigest;
use crate::archive::frame::Codec;
use crate::archive::openpgp::Cipher;
use crate::archive::{Format, Id};
use crate::error::{Error, Result};

/// What the manifest's name ends with.
pub const SUFFIX: &str = ".manifest.json";

/// Size and digest of an object, and what its name ends with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Bytes.
    pub size: u64,
    /// BLAKE3, hex.
    pub blake3: String,
}

impl From<&ObjectDigest> for Object {
    fn from(stored: &ObjectDigest) -> Self {
        Object { size: stored.size, blake3: stored.blake3.clone() }
    }
}

/// The fields of a manifest; `self`, a SHA-256 of the text before it, is added when it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the on-store format.
    pub format: u32,
    /// The archive's id.
    pub id: Id,
    /// Its job.
    pub job: String,
    /// The set it belongs to, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<String>,
    /// The host it was made on, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// A digest that tells its source from others, without saying what it is: see [`crate::source::Source::identity`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_id: Option<String>,
    /// Whether its source is a tar.
    pub kind: Format,
    /// What the archive object's name ends with.
    pub suffix: String,
    /// RFC 3339.
    pub started: jiff::Timestamp,
    /// RFC 3339.
    pub finished: jiff::Timestamp,
    /// Bytes of source.
    pub bytes: u64,
    /// Members of its tar.
    #[serde(default)]
    pub entries: u64,
    /// What older archives hold of it; nothing of a full.
    #[serde(default, skip_serializing_if = "Kept::is_nothing")]
    pub kept: Kept,
    /// Those archives, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<Id>,
    /// It is a part of a run that goes on in another archive: no restore point, though others may need it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// Whether what it needs are partial archives that go back to one that needs nothing: together they are a full.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub full: bool,
    /// The archive object.
    pub archive: Object,
    /// The catalog object.
    pub catalog: Object,
    /// Number of warnings; their texts may hold file names and are in the catalog only.
    pub warnings: u64,
    /// What wrote it.
    pub tool: String,
}

/// What an archive object's name ends with.
pub fn archive_suffix(format: Format, codec: Codec, cipher: Option<Cipher>) -> String {
    let encrypted = cipher.map_or("", Cipher::suffix);
    let suffix = format!("{}{}{encrypted}", format.suffix(), codec.suffix());
    if suffix.is_empty() { ".raw".into() } else { suffix }
}

/// Every codec, with every cipher and without.
fn all_parts() -> impl Iterator<Item = (Codec, Option<Cipher>)> {
    let codecs = [Codec::Zstd, Codec::Gzip, Codec::Xz, Codec::None];
    let ciphers = [Some(Cipher::Cfb), Some(Cipher::Aead), None];
    codecs.into_iter().flat_map(move |codec| ciphers.map(|cipher| (codec, cipher)))
}

/// Codec and encryption that a suffix stands for; a suffix that is none stands for neither.
pub fn parts_of_suffix(suffix: &str) -> (Codec, Option<Cipher>) {
    let is = |&(codec, cipher): &(Codec, Option<Cipher>)| {
        [Format::Tar, Format::Raw].iter().any(|&format| archive_suffix(format, codec, cipher) == suffix)
    };
    all_parts().find(is).unwrap_or((Codec::None, None))
}

pub(super) fn is_archive_suffix(suffix: &str) -> bool {
    parts_of_suffix(suffix) != (Codec::None, None) || matches!(suffix, ".tar" | ".raw")
}

impl Manifest {
    /// What is to be said of an archive that ended so, and needs those archives.
    pub fn of(archive: &ArchiveRecord, end: &EndRecord, needs: Vec<Id>, catalog: Object) -> Self {
        Manifest {
            format: archive.format,
            id: archive.id.clone(),
            job: archive.job.clone(),
            set: archive.set.clone(),
            host: archive.host.clone(),
            source_id: archive.source_id.clone(),
            kind: archive.kind,
            suffix: archive_suffix(archive.kind, archive.codec, archive.cipher),
            started: archive.started,
            finished: end.finished,
            bytes: end.bytes,
            entries: end.entries,
            kept: end.kept,
            needs,
            partial: end.partial,
            full: archive.full,
            archive: Object { size: end.stored_bytes, blake3: end.blake3.clone() },
            catalog,
            warnings: end.warnings.len() as u64,
            tool: concat!("sealift ", env!("CARGO_PKG_VERSION")).into(),
        }
    }

    /// Whether it needs nothing that was there before the run that it ends, or is a part of.
    pub fn stands_alone(&self) -> bool {
        self.needs.is_empty() || self.full
    }

    /// The text that is stored.
    ///
    /// # Errors
    /// It does not serialise.
    pub fn to_text(&self) -> Result<String> {
        json::to_text(self, "manifest")
    }

    /// Reads a stored text back.
    ///
    /// # Errors
    /// The text is damaged, or of a newer format.
    pub fn from_text(text: &str) -> Result<Self> {
        let manifest: Manifest = json::from_text(text, "manifest")?;
        if !is_archive_suffix(&manifest.suffix) {
            return Err(Error::damaged("the manifest is damaged"));
        }
        Ok(manifest)
    }
}

/// What the catalog's name ends with.
pub fn catalog_suffix(archive_suffix: &str) -> &'static str {
    match parts_of_suffix(archive_suffix).1 {
        Some(Cipher::Cfb) => ".catalog.zst.gpg",
        Some(Cipher::Aead) => ".catalog.zst.pgp",
        None => ".catalog.zst",
    }
}

/// A manifest for tests, of an archive that is nowhere.
#[cfg(test)]
pub(crate) fn example() -> Manifest {
    let object = Object { size: 1, blake3: String::new() };
    Manifest {
        format: 1,
        id: Id::new(jiff::Timestamp::UNIX_EPOCH).unwrap(),
        job: "db".into(),
        set: None,
        host: None,
        source_id: None,
        kind: Format::Raw,
        suffix: ".raw".into(),
        started: jiff::Timestamp::UNIX_EPOCH,
        finished: jiff::Timestamp::UNIX_EPOCH,
        bytes: 1,
        entries: 0,
        kept: Default::default(),
        needs: Vec::new(),
        partial: false,
        full: false,
        archive: object.clone(),
        catalog: object,
        warnings: 0,
        tool: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suffix_tells_the_cipher() {
        for cipher in [Some(Cipher::Cfb), Some(Cipher::Aead), None] {
            let suffix = archive_suffix(Format::Raw, Codec::Zstd, cipher);
            assert_eq!(parts_of_suffix(&suffix), (Codec::Zstd, cipher), "{suffix}");
        }
    }

    #[test]
    fn a_manifest_reads_back_and_any_flip_is_seen() {
        let now = jiff::Timestamp::now();
        let object = Object { size: 7, blake3: "00".into() };
        let manifest = Manifest {
            format: 1,
            id: Id::new(now).unwrap(),
            job: "db".into(),
            set: None,
            host: None,
            source_id: None,
            kind: Format::Tar,
            suffix: ".tar.zst.gpg".into(),
            started: now,
            finished: now,
            bytes: 9,
            entries: 2,
            kept: Kept { entries: 1, bytes: 5 },
            needs: vec![Id::new(now).unwrap()],
            partial: true,
            full: true,
            archive: object.clone(),
            catalog: object,
            warnings: 0,
            tool: "sealift 0".into(),
        };
        let text = manifest.to_text().unwrap();
        assert_eq!(Manifest::from_text(&text).unwrap(), manifest);
        for i in 0..text.len() {
            let mut flipped = text.clone().into_bytes();
            flipped[i] ^= 1;
            let read = String::from_utf8(flipped).ok().and_then(|text| Manifest::from_text(&text).ok());
            assert_eq!(read, None, "byte {i}");
        }
        for cut in 0..text.len() {
            assert!(Manifest::from_text(&text[..cut]).is_err());
        }
    }

    #[test]
    fn every_suffix_tells_codec_and_cipher_and_nothing_else_is_one() {
        for (codec, cipher) in all_parts() {
            for format in [Format::Tar, Format::Raw] {
                let suffix = archive_suffix(format, codec, cipher);
                assert_eq!(parts_of_suffix(&suffix), (codec, cipher), "{suffix}");
                assert!(is_archive_suffix(&suffix), "{suffix}");
            }
        }
        for bad in ["", ".", ".zip", ".tar.gpg.zst", ".manifest.json", "/../x.tar.zst.gpg", ".tar.zst.gpg "] {
            assert!(!is_archive_suffix(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_catalog_is_named_after_the_cipher_of_its_archive() {
        for (archive, catalog) in [
            (".tar.zst.gpg", ".catalog.zst.gpg"),
            (".gz.gpg", ".catalog.zst.gpg"),
            (".tar.xz.pgp", ".catalog.zst.pgp"),
            (".raw", ".catalog.zst"),
            (".tar", ".catalog.zst"),
        ] {
            assert_eq!(catalog_suffix(archive), catalog, "{archive}");
        }
    }
}
