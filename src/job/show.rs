//! `show`: what an archive is, and how to restore it by hand.

use super::stored::{ArchiveRef, OpenRequest, StoredArchive};
use crate::archive::Format;
use crate::archive::catalog::{ArchiveRecord, EndRecord};
use crate::archive::frame::Codec;
use crate::archive::openpgp::Cipher;
use crate::error::Result;
use crate::report::Reporter;

/// Which archive.
#[derive(Debug, Clone)]
pub struct ShowRequest {
    /// Where the archive is, and what opens it.
    pub open: OpenRequest,
    /// The archive.
    pub archive: ArchiveRef,
}

/// What the sealed catalog says of an archive.
#[derive(Debug)]
pub struct Description {
    /// `JOB@ID`
    pub name: String,
    /// Where its object lies.
    pub object: String,
    /// How it began.
    pub archive: ArchiveRecord,
    /// How it ended.
    pub end: EndRecord,
    /// The commands that restore it without us.
    pub by_hand: String,
}

/// Describes an archive.
///
/// # Errors
/// There is no such archive, or it cannot be opened.
pub async fn show(request: &ShowRequest, ui: &Reporter) -> Result<Description> {
    let found = StoredArchive::find(&request.open.store, &request.archive, ui).await?;
    let opened = found.open(found.passphrase(&request.open)?).await?;
    let contents = opened.contents();
    let (archive, end) = (contents.archive.clone(), contents.end.clone());
    let object = format!("{}{}", found.id, found.manifest.suffix);
    Ok(Description {
        name: found.name(),
        object: found.store.url_of(&found.store.key(&found.job, &found.id, &found.manifest.suffix)),
        by_hand: by_hand(&object, found.cipher(), archive.codec, archive.kind),
        archive,
        end,
    })
}

/// The commands that restore an archive without us, from a copy of its object in this folder.
fn by_hand(object: &str, cipher: Option<Cipher>, codec: Codec, kind: Format) -> String {
    let first = match cipher {
        Some(Cipher::Cfb) => format!("gpg -d {object}"),
        Some(Cipher::Aead) => format!("sq decrypt {object}"),
        None => format!("cat {object}"),
    };
    let unpack = match codec {
        Codec::Zstd => " | zstd -d",
        Codec::Gzip => " | gzip -d",
        Codec::Xz => " | xz -d",
        Codec::None => "",
    };
    let last = if kind == Format::Tar {
        " | tar -x -p --xattrs --xattrs-include='*' --acls --numeric-owner -C TARGET"
    } else {
        " > TARGET"
    };
    format!("{first}{unpack}{last}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_tar_is_restored_by_gpg_zstd_and_tar() {
        let line = by_hand("x.tar.zst.gpg", Some(Cipher::Cfb), Codec::Zstd, Format::Tar);
        let tar = "tar -x -p --xattrs --xattrs-include='*' --acls --numeric-owner -C TARGET";
        assert_eq!(line, format!("gpg -d x.tar.zst.gpg | zstd -d | {tar}"));
    }

    #[test]
    fn what_gnupg_does_not_read_is_left_to_sequoia() {
        let line = by_hand("x.zst.pgp", Some(Cipher::Aead), Codec::Zstd, Format::Raw);
        assert_eq!(line, "sq decrypt x.zst.pgp | zstd -d > TARGET");
    }

    #[test]
    fn every_codec_has_its_tool_and_none_needs_none() {
        for (codec, line) in [
            (Codec::Zstd, "cat x | zstd -d > TARGET"),
            (Codec::Gzip, "cat x | gzip -d > TARGET"),
            (Codec::Xz, "cat x | xz -d > TARGET"),
            (Codec::None, "cat x > TARGET"),
        ] {
            assert_eq!(by_hand("x", None, codec, Format::Raw), line);
        }
    }
}
