//! The `ref` record: an older archive that holds members of a catalog.

use serde::{Deserialize, Serialize};

use super::{ArchiveRecord, EndRecord};
use crate::archive::Id;
use crate::archive::frame::Codec;
use crate::archive::openpgp::layout::Layout;
use crate::archive::openpgp::{Cipher, Head};
use crate::error::{Error, Result};

/// An older archive of the job that holds bytes of members.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefRecord {
    /// The number by which frames and entries name it, from 1.
    pub n: u32,
    /// Its id.
    pub id: Id,
    /// What its object's name ends with.
    pub suffix: String,
    /// Bytes of its object.
    pub stored_bytes: u64,
    /// Bytes of the compressed stream in it.
    pub data_len: u64,
    /// Bytes of the object before the SEIPD packet's first length.
    pub head_len: u64,
    /// How its frames are compressed.
    pub codec: Codec,
    /// How it is encrypted.
    pub cipher: Option<Cipher>,
    /// Bytes of source in every frame but the last.
    pub frame_len: u64,
    /// Bytes of all members in it; 0: not known.
    #[serde(default)]
    pub bytes: u64,
    /// Bytes of those that are needed.
    #[serde(default)]
    pub live: u64,
    /// Its session key, hex: what opens it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub session: String,
}

impl RefRecord {
    /// What a later catalog says of this archive, whose number it gives; `head` is of the archive's object, none where that
    /// is in the clear.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::error::Kind::Damaged) where the object cannot be as long as it is said to be.
    pub fn of(archive: &ArchiveRecord, end: &EndRecord, suffix: &str, head: Option<&Head>) -> Result<Self> {
        let stored_bytes = end.stored_bytes;
        let data_len = match head {
            Some(head) => Layout::of_object(head.opener.cipher(), head.len, stored_bytes).map(|it| it.data),
            None => Some(stored_bytes),
        };
        let wrong = || Error::damaged("the archive's length is none that it can have");
        let session = head.map_or(&[][..], |head| &head.session);
        Ok(RefRecord {
            n: 0,
            id: archive.id.clone(),
            suffix: suffix.into(),
            stored_bytes,
            data_len: data_len.ok_or_else(wrong)?,
            head_len: head.map_or(0, |head| head.len),
            codec: archive.codec,
            cipher: archive.cipher,
            frame_len: archive.frame_len,
            bytes: 0,
            live: 0,
            session: session.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }

    /// Its session key; none where that is no hex.
    pub fn session(&self) -> Option<Vec<u8>> {
        let digits = self.session.as_bytes().chunks(2);
        digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
    }
}

impl std::fmt::Debug for RefRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RefRecord({} {})", self.n, self.id)
    }
}
