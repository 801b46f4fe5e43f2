//! What is in a member, by hashes: by which a later backup tells that a file is the same though its times of change and its
//! inode number are others.

use serde::{Deserialize, Serialize};

use super::Entry;
use super::walker::{Member, Step, Walker};
use crate::error::Result;

/// What is in a member, where that was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// BLAKE3 of a file's bytes, 32 bytes in hex; none of what is no file, and none of a file whose holes are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
    /// [`attributes_hash`] of its extended attributes and ACLs; none where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<String>,
}

/// The prefix of the pax records of extended attributes.
const XATTR: &[u8] = b"SCHILY.xattr.";

/// A hash of extended attributes by their names as the kernel has them, in any order; none where there are none.
pub fn attributes_hash(mut attributes: Vec<(Vec<u8>, Vec<u8>)>) -> Option<String> {
    let keyed = attributes.iter_mut().map(|(name, value)| ([XATTR, name].concat(), std::mem::take(value)));
    records_hash(keyed.collect())
}

/// The same of pax records, and of ACLs, which are no extended attributes there.
fn records_hash(mut records: Vec<(Vec<u8>, Vec<u8>)>) -> Option<String> {
    records.sort();
    let mut hasher = blake3::Hasher::new();
    for part in records.iter().flat_map(|(key, value)| [key, value]) {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    (!records.is_empty()).then(|| hasher.finalize().to_hex().to_string())
}

impl Walker {
    /// [`Walker::feed`]; members come with a [`Content`] that says all but what their bytes are.
    ///
    /// # Errors
    /// As [`Walker::feed`].
    pub fn feed_with_content(&mut self, mut bytes: &[u8], found: &mut Vec<Entry>) -> Result<()> {
        while !bytes.is_empty() {
            let (used, step) = self.step(bytes)?;
            bytes = &bytes[used..];
            if let Step::Member(member) = step {
                let Member { entry, attributes, .. } = *member;
                let content = Content { blake3: None, attributes: records_hash(attributes) };
                found.push(Entry { content: Some(content), ..entry });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::testing::{END, member, pax_header};

    fn attributes_of(records: &[(&str, &str)]) -> Option<String> {
        let tar = [pax_header(b'x', records), member("a", b'0', b"x"), END.to_vec()].concat();
        let (mut walker, mut found) = (Walker::new(), Vec::new());
        walker.feed_with_content(&tar, &mut found).unwrap();
        walker.finish().unwrap();
        found.remove(0).content.unwrap().attributes
    }

    #[test]
    fn attributes_of_a_member_and_of_a_file_have_one_hash() {
        let kernel = |list: &[(&str, &str)]| {
            attributes_hash(list.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
        };
        let both =
            attributes_of(&[("SCHILY.xattr.user.b", "2"), ("SCHILY.xattr.user.a", "1"), ("mtime", "7")]);
        assert!(both.is_some());
        assert_eq!(both, kernel(&[("user.a", "1"), ("user.b", "2")]));
        for other in
            [&[("user.a", "1")][..], &[("user.a", "12"), ("user.b", "")], &[("user.a1", ""), ("user.b", "2")]]
        {
            assert_ne!(both, kernel(other), "{other:?}");
        }
        assert_eq!((attributes_of(&[("mtime", "7")]), kernel(&[])), (None, None));
        let acl = attributes_of(&[("SCHILY.acl.access", "user::rwx")]);
        assert!(acl.is_some() && acl != kernel(&[("acl.access", "user::rwx")]));
    }
}
