//! A tar of our own making out of another: every member has one pax header and one ustar header, so that whoever unpacks
//! it reads what was read here. What is no member, and what may be read in two ways, is not in it.

use bytes::{Bytes, BytesMut};

use super::header::{self, Block};
use super::walker::{Member, Step, Walker};
use super::{BLOCK, EntryType, acl, name, pax};
use crate::error::{Error, Result};

/// Data in pieces of at least this many bytes is handed on as it lies there, not copied.
const LONG: usize = 32 << 10;
/// The most that the size field of a header holds in octal digits.
const LARGEST_OCTAL: u64 = 0o77777777777;

/// Writes members anew as they pass by.
#[derive(Default)]
pub struct Rewriter {
    walker: Walker,
    /// Data of the member at hand is handed on.
    takes_data: bool,
}

impl Rewriter {
    /// At the first byte of a tar, or of the members of one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Of what a walker reads that has seen nothing yet.
    pub fn of(walker: Walker) -> Self {
        Rewriter { walker, takes_data: false }
    }

    /// Takes in the next bytes, and returns what they become. `wanted` says of every member whether it is, and may change
    /// whose it is.
    ///
    /// # Errors
    /// As [`Walker::feed`]; a member that cannot be written; whatever `wanted` fails with.
    pub fn pass(
        &mut self,
        piece: &Bytes,
        mut wanted: impl FnMut(&mut Member) -> Result<bool>,
    ) -> Result<Vec<Bytes>> {
        let (mut done, mut small, mut at) = (Vec::new(), BytesMut::new(), 0);
        while at < piece.len() {
            let (used, step) = self.walker.step(&piece[at..])?;
            match step {
                Step::Header => {}
                Step::Member(mut member) => {
                    let wanted = wanted(&mut member)?;
                    // GNU's dump folders have data, the names in them; after a folder's header it would be headers.
                    self.takes_data = wanted && member.entry.kind == EntryType::File;
                    if wanted {
                        small.extend_from_slice(&headers(*member)?);
                    }
                }
                Step::Data if !self.takes_data => {}
                Step::Data if used < LONG => small.extend_from_slice(&piece[at..at + used]),
                Step::Data => {
                    done.extend((!small.is_empty()).then(|| small.split().freeze()));
                    done.push(piece.slice(at..at + used));
                }
            }
            at += used;
        }
        done.extend((!small.is_empty()).then(|| small.freeze()));
        Ok(done)
    }

    /// Demands that the last member was whole.
    ///
    /// # Errors
    /// The bytes stopped inside of one.
    pub fn between_members(&self) -> Result<()> {
        match self.walker.is_between_members() {
            true => Ok(()),
            false => Err(Error::damaged("the tar stopped inside of a member")),
        }
    }

    /// What was seen.
    pub fn walker(&self) -> &Walker {
        &self.walker
    }
}

/// The headers of a member, and the map of a sparse one.
fn headers(mut member: Member) -> Result<Vec<u8>> {
    let entry = &member.entry;
    let Some(flag) = header::flag(entry.kind) else {
        let shown = name::shown(&member.name);
        return Err(Error::refused(format!("member {shown} is refused: its type is unknown")));
    };
    let path = name::relative(&member.name);
    // Of an absolute name nothing may be left.
    let path = if path.is_empty() { &b"."[..] } else { path };
    let map = member.map.as_ref().map(|map| (map.real_size, map.write()));
    let data = if entry.kind == EntryType::File { member.data } else { 0 };
    let size = data + map.as_ref().map_or(0, |(_, map)| map.len() as u64);
    let mut records = Vec::new();
    let mut record = |key: &str, value: &[u8]| pax::write(&mut records, key.as_bytes(), value);
    record("path", path);
    match entry.kind {
        EntryType::Symlink => record("linkpath", &member.link),
        EntryType::Link => record("linkpath", name::relative(&member.link)),
        _ => {}
    }
    record("uid", entry.uid.to_string().as_bytes());
    record("gid", entry.gid.to_string().as_bytes());
    record("mtime", entry.mtime.as_bytes());
    if size > LARGEST_OCTAL {
        record("size", size.to_string().as_bytes());
    }
    if let Some((real_size, _)) = &map {
        record("GNU.sparse.major", b"1");
        record("GNU.sparse.minor", b"0");
        record("GNU.sparse.name", path);
        record("GNU.sparse.realsize", real_size.to_string().as_bytes());
    }
    acl::by_number(&mut member.attributes);
    member.attributes.iter().for_each(|(key, value)| pax::write(&mut records, key, value));
    let len = records.len();
    records.resize(len.next_multiple_of(BLOCK), 0);
    let plain = |flag, name, mode, size| Block { name, flag, mode, size, device: (0, 0) };
    let extension = plain(b'x', b"PaxHeaders/member", 0o644, len as u64);
    let own =
        Block { device: member.device, ..plain(flag, path, member.entry.mode, size.min(LARGEST_OCTAL)) };
    let map = map.map(|(_, map)| map).unwrap_or_default();
    Ok([&extension.write()[..], &records, &own.write(), &map].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::tar::Entry;
    use crate::tar::testing::{END, member, pax_header, walk};

    /// What becomes of a tar that comes in pieces of so many bytes, with an end.
    fn rewritten(tar: &[u8], step: usize) -> Result<Vec<u8>> {
        let mut rewriter = Rewriter::new();
        let mut out = Vec::new();
        for piece in tar.chunks(step) {
            let pieces = rewriter.pass(&Bytes::copy_from_slice(piece), |_| Ok(true))?;
            out.extend(pieces.concat());
        }
        out.extend(END);
        Ok(out)
    }

    fn entries(tar: &[u8]) -> Vec<Entry> {
        let (found, end) = walk(tar, tar.len());
        end.unwrap();
        found
    }

    #[test]
    fn what_is_written_anew_is_read_as_before() {
        let tar = [
            pax_header(b'g', &[("uid", "7"), ("mtime", "5.25")]),
            member("d/", 0, b""),
            pax_header(b'x', &[("path", "d/x"), ("gid", "9"), ("SCHILY.xattr.user.a", "b")]),
            member("short", b'0', &[7; 70_000]),
            member("/abs", b'7', b"abc"),
            member("l", b'2', b""),
            END.to_vec(),
        ]
        .concat();
        let before = entries(&tar);
        for step in [100, 512, 10_240, tar.len()] {
            let after = rewritten(&tar, step).unwrap();
            let places = |entry: &Entry| Entry {
                at: 0,
                len: 0,
                path: entry.path.replace("/abs", "abs"),
                ..entry.clone()
            };
            let after = entries(&after);
            assert_eq!(
                after.iter().map(places).collect::<Vec<_>>(),
                before.iter().map(places).collect::<Vec<_>>()
            );
            assert_eq!((after[0].kind, after[0].uid, after[1].gid), (EntryType::Dir, 7, 9));
        }
    }

    #[test]
    fn a_type_that_nobody_knows_is_refused() {
        let error = rewritten(&[member("a", b'Z', b""), END.to_vec()].concat(), 512).unwrap_err();
        assert_eq!(error.kind(), Kind::Refused);
    }

    #[test]
    fn what_a_dump_folder_holds_is_never_taken_for_headers() {
        let tar =
            [member("d", b'D', &member("dev", b'3', b"")), member("a", b'0', b"x"), END.to_vec()].concat();
        assert_eq!(
            entries(&tar).iter().map(|e| (e.kind, e.len)).collect::<Vec<_>>(),
            [(EntryType::Dir, 1024), (EntryType::File, 1024)]
        );
        let after = entries(&rewritten(&tar, 300).unwrap());
        assert_eq!(after.iter().map(|e| e.kind).collect::<Vec<_>>(), [EntryType::Dir, EntryType::File]);
    }

    #[test]
    fn bytes_that_stop_inside_of_a_member_are_no_members() {
        let tar = Bytes::from(member("a", b'0', &[1; 600]));
        for (len, whole) in [(0, true), (100, false), (512, false), (1100, false), (1536, true)] {
            let mut rewriter = Rewriter::new();
            rewriter.pass(&tar.slice(..len), |_| Ok(true)).unwrap();
            assert_eq!(rewriter.between_members().is_ok(), whole, "{len}");
        }
    }

    #[test]
    fn what_is_left_out_leaves_nothing_behind() {
        let tar = [member("a", b'0', &[1; 600]), member("b", b'0', &[2; 600]), END.to_vec()].concat();
        let mut rewriter = Rewriter::new();
        let pieces = rewriter.pass(&tar.into(), |member| Ok(member.entry.path == "b")).unwrap();
        let out = [pieces.concat(), END.to_vec()].concat();
        let found = entries(&out);
        assert_eq!((found.len(), found[0].path.as_str()), (1, "b"));
        assert_eq!(out[found[0].data().unwrap().start as usize..][..600], [2; 600]);
    }
}
