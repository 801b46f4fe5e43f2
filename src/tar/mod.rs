//! Follows a tar stream as it passes by: names its members and proves that it ended.
//!
//! Reads ustar (POSIX.1-1988), pax (POSIX.1-2001 `x` and `g` headers) and GNU (`L`, `K`, `S`, base-256 numbers).
//! Bytes may come in pieces of any size; nothing is kept but the header at hand.

use serde::{Deserialize, Serialize};

mod acl;
pub mod content;
pub mod exclude;
pub mod gnu;
mod header;
pub mod name;
pub mod owners;
mod pax;
pub mod rewrite;
pub mod select;
mod sparse;
pub mod stat;
#[cfg(test)]
pub(crate) mod testing;
mod walker;

pub use header::is_header;
pub use walker::{Member, Walker};

/// The size of a tar block in bytes.
pub const BLOCK: usize = 512;

/// What a member is, by its typeflag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryType {
    /// `0`, NUL, `7`, `S`: data follows.
    File,
    /// `1`: another name of an earlier member.
    Link,
    /// `2`
    Symlink,
    /// `3`
    Char,
    /// `4`
    Block,
    /// `5`, `D`
    Dir,
    /// `6`
    Fifo,
    /// Anything else, kept as it is.
    Other,
}

/// One member of a tar, as the catalog lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The member's name; U+FFFD stands for bytes that are not UTF-8.
    pub path: String,
    /// The name's bytes in hex, where they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_hex: Option<String>,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: EntryType,
    /// Permission bits, with set-user-ID, set-group-ID and sticky.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u64,
    /// Numeric group.
    pub gid: u64,
    /// Seconds since 1970, with up to nine decimals as pax writes them.
    pub mtime: String,
    /// Bytes of the file when restored; a sparse file's holes count.
    pub size: u64,
    /// Target of a link; U+FFFD stands for bytes that are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// The target's bytes in hex, where they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_hex: Option<String>,
    /// Whether holes are left out of the data: what is stored is not the file's bytes in a row.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sparse: bool,
    /// Offset in the source of the member's first header block, its extended headers included.
    pub at: u64,
    /// Bytes that the member takes in the source: headers, data and padding.
    pub len: u64,
    /// Which archive's source that is, where the catalog names others; 0 is its own.
    #[serde(default, rename = "ref", skip_serializing_if = "is_own")]
    pub reference: u32,
    /// What `lstat` said of the file before it was read, where a scan did that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stat: Option<stat::Stat>,
    /// What is in it, where a scan asked for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<content::Content>,
    /// When the file that was read had changed last, in seconds since 1970, where the tar says so; no catalog has it.
    #[serde(skip)]
    pub ctime: Option<i64>,
}

fn is_own(reference: &u32) -> bool {
    *reference == 0
}

impl Entry {
    /// The member's name as its bytes.
    pub fn name(&self) -> Vec<u8> {
        name::bytes(&self.path, self.path_hex.as_deref())
    }

    /// Bytes of the member's name.
    pub fn name_len(&self) -> usize {
        match self.path_hex {
            None => self.path.len(),
            Some(_) => self.name().len(),
        }
    }

    /// A link's target as its bytes.
    pub fn link_name(&self) -> Option<Vec<u8>> {
        self.link.as_ref().map(|link| name::bytes(link, self.link_hex.as_deref()))
    }

    /// The name of the member that a hard link is another name of.
    pub fn hard_link(&self) -> Option<Vec<u8>> {
        self.link_name().filter(|_| self.kind == EntryType::Link)
    }

    /// Where a file's bytes lie in the source; none where they do not lie there in a row.
    pub fn data(&self) -> Option<std::ops::Range<u64>> {
        if self.kind != EntryType::File || self.sparse {
            return None;
        }
        // Headers, data, padding: the data is what is not header and not padding.
        let padded = self.size.checked_next_multiple_of(BLOCK as u64)?;
        let start = self.at.checked_add(self.len)?.checked_sub(padded)?;
        Some(start..start + self.size)
    }
}
