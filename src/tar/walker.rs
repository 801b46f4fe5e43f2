//! The one reading of a tar: GNU tar's, which unpacks the members.

use super::header::{self, checksum_is_right, number, text, time, ustar_path};
use super::pax::{Extension, Pax};
use super::sparse::{Map, Reading};
use super::{BLOCK, Entry, EntryType, name};
use crate::error::{Error, Result};

mod holes;

// A pax header holds names and xattrs; Linux allows 64 KiB a value. More than this is no header that anyone wrote.
const LONGEST_EXTENSION: u64 = 16 << 20;

/// A member whose headers have passed by.
#[derive(Debug, Clone)]
pub struct Member {
    /// As the catalog lists it.
    pub entry: Entry,
    /// Its name's bytes.
    pub(super) name: Vec<u8>,
    /// Its link's bytes.
    pub(super) link: Vec<u8>,
    pub(super) device: (u64, u64),
    /// Its extended attributes and ACLs.
    pub(super) attributes: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) map: Option<Map>,
    /// Bytes of data that follow, without padding.
    pub(super) data: u64,
}

impl Member {
    /// Its name's bytes.
    pub fn name(&self) -> &[u8] {
        &self.name
    }
}

/// What some bytes were.
pub(super) enum Step {
    /// Headers, or bytes that belong to nothing.
    Header,
    /// The last bytes of a member's headers.
    Member(Box<Member>),
    /// Data of the last member, or the padding behind it.
    Data,
}

enum State {
    /// Gathering a header block.
    Header,
    /// Passing over data and padding of a member.
    Data(u64),
    /// Passing over what belongs to nothing.
    Skip(u64),
    /// Gathering an extended header of this typeflag: bytes of data still to come, then padding.
    Extension { flag: u8, left: u64, padding: u64 },
    /// Gathering the blocks that continue an old sparse header; star counts them as data.
    SparseBlocks { counted: bool },
    /// Gathering the map at the front of a member's data.
    SparseText(Reading),
    /// Two zero blocks passed by; only padding may follow.
    Ended,
}

/// Follows one tar stream.
pub struct Walker {
    state: State,
    /// Bytes seen.
    at: u64,
    /// Where the member at hand began, with its extended headers.
    began: Option<u64>,
    block: Vec<u8>,
    zero_blocks: u8,
    next: Extension,
    global: Pax,
    gathered: Vec<u8>,
    /// A sparse member waits here for the end of its map.
    pending: Option<Box<Member>>,
    /// Where the end marker began.
    ended_at: u64,
    trailing: bool,
    /// One zero block is end enough, as for GNU tar.
    is_foreign: bool,
}

impl Default for Walker {
    fn default() -> Self {
        Self::new()
    }
}

impl Walker {
    /// A walker at the first byte of a tar.
    pub fn new() -> Self {
        Walker {
            state: State::Header,
            at: 0,
            began: None,
            block: Vec::with_capacity(BLOCK),
            zero_blocks: 0,
            next: Extension::default(),
            global: Pax::default(),
            gathered: Vec::new(),
            pending: None,
            ended_at: 0,
            trailing: false,
            is_foreign: false,
        }
    }

    /// Of a tar that somebody else made, who may have ended it with one zero block and what lay behind it.
    pub fn of_foreign() -> Self {
        Walker { is_foreign: true, ..Self::new() }
    }

    /// Takes in the next bytes; members that begin in them are added to `found`.
    ///
    /// # Errors
    /// A header that is none: the source is no tar, or lost bytes on the way.
    /// [`Kind::Refused`](crate::error::Kind::Refused): a member that not every program would read in the same way.
    pub fn feed(&mut self, mut bytes: &[u8], found: &mut Vec<Entry>) -> Result<()> {
        while !bytes.is_empty() {
            let (used, step) = self.step(bytes)?;
            bytes = &bytes[used..];
            if let Step::Member(member) = step {
                found.push(member.entry);
            }
        }
        Ok(())
    }

    /// Takes in some of the next bytes: says how many, and what they were.
    pub(super) fn step(&mut self, bytes: &[u8]) -> Result<(usize, Step)> {
        let (used, mut step) = match &mut self.state {
            State::Data(left) | State::Skip(left) => {
                let used = take(left, bytes);
                let step = if matches!(self.state, State::Data(_)) { Step::Data } else { Step::Header };
                if let State::Data(0) | State::Skip(0) = self.state {
                    self.state = State::Header;
                }
                (used, step)
            }
            State::Extension { flag, left, padding } => {
                let used = take(left, bytes);
                self.gathered.extend_from_slice(&bytes[..used]);
                if *left == 0 {
                    let (flag, padding) = (*flag, *padding);
                    self.extension(flag)?;
                    self.state = if padding > 0 { State::Skip(padding) } else { State::Header };
                }
                (used, Step::Header)
            }
            State::Ended => {
                self.trailing |= bytes.iter().any(|&b| b != 0);
                (bytes.len(), Step::Header)
            }
            State::Header | State::SparseBlocks { .. } | State::SparseText(_) => {
                let used = bytes.len().min(BLOCK - self.block.len());
                self.block.extend_from_slice(&bytes[..used]);
                (used, Step::Header)
            }
        };
        self.at += used as u64;
        if self.block.len() == BLOCK {
            let block = std::mem::take(&mut self.block);
            let member = match self.state {
                State::SparseBlocks { counted } => self.sparse_block(&block, counted)?,
                State::SparseText(_) => self.sparse_text(&block)?,
                _ => self.header(&block)?,
            };
            self.block = block;
            self.block.clear();
            step = member.map_or(step, Step::Member);
        }
        Ok((used, step))
    }

    /// Where the end marker began, once it passed by.
    pub fn ended_at(&self) -> Option<u64> {
        matches!(self.state, State::Ended).then_some(self.ended_at)
    }

    /// Whether bytes other than zeros followed the end marker.
    pub fn trailing(&self) -> bool {
        self.trailing
    }

    /// Whether the stream could end here: no member has begun whose end is still to come.
    pub fn is_between_members(&self) -> bool {
        let between = matches!(self.state, State::Header) && self.block.is_empty() && self.began.is_none();
        between || matches!(self.state, State::Ended)
    }

    /// Demands the proof: two zero blocks where a header would stand (POSIX ustar, end of archive).
    ///
    /// # Errors
    /// The stream stopped before its end marker.
    pub fn finish(&self) -> Result<()> {
        if matches!(self.state, State::Ended) {
            return Ok(());
        }
        Err(Error::failed(format!("the tar stream stopped at byte {} without its end marker", self.at))
            .hint("the source was cut off; if the stream is no tar, say --format raw"))
    }

    fn header(&mut self, block: &[u8]) -> Result<Option<Box<Member>>> {
        let here = self.at - BLOCK as u64;
        if block.iter().all(|&b| b == 0) {
            self.zero_blocks += 1;
            if self.zero_blocks == 1 {
                self.ended_at = here;
            } else {
                self.state = State::Ended;
            }
            return Ok(None);
        }
        let broken = || {
            Error::failed(format!("the tar stream is broken at byte {here}: no header where one must stand"))
                .hint("a file shrank or the stream lost bytes; if the stream is no tar, say --format raw")
        };
        if self.zero_blocks > 0 && self.is_foreign {
            (self.state, self.trailing) = (State::Ended, true);
            return Ok(None);
        }
        if self.zero_blocks > 0 || !checksum_is_right(block) {
            return Err(broken());
        }
        let size = number(&block[124..136]).ok_or_else(broken)?;
        let flag = block[156];
        match flag {
            b'x' | b'X' | b'g' | b'L' | b'K' => {
                if flag != b'g' {
                    self.began.get_or_insert(here);
                }
                if size > LONGEST_EXTENSION {
                    return Err(broken());
                }
                let padding = padding(size);
                self.state = State::Extension { flag, left: size, padding };
                if size == 0 {
                    self.extension(flag)?;
                    self.state = State::Header;
                }
                Ok(None)
            }
            // A volume's label and a Solaris ACL are no members. Headers before them were theirs.
            b'V' | b'A' => {
                (self.next, self.began) = (Extension::default(), None);
                let stored = size.checked_add(padding(size)).ok_or_else(broken)?;
                self.state = if stored > 0 { State::Skip(stored) } else { State::Header };
                Ok(None)
            }
            _ => self.member(block, flag, size),
        }
    }

    fn extension(&mut self, flag: u8) -> Result<()> {
        let data = std::mem::take(&mut self.gathered);
        let read = || {
            Pax::read(&data).ok_or_else(|| {
                Error::failed(format!("the tar stream has a broken pax header before byte {}", self.at))
            })
        };
        match flag {
            b'L' => self.next.long_name(&data),
            b'K' => self.next.long_link(&data),
            b'g' => self.global = read()?,
            _ => self.next.own = read()?,
        }
        Ok(())
    }

    fn member(&mut self, block: &[u8], flag: u8, size: u64) -> Result<Option<Box<Member>>> {
        let Extension { mut own, long_name, long_link } = std::mem::take(&mut self.next);
        let mut sparse = std::mem::take(&mut own.sparse);
        let began = self.began.take().unwrap_or(self.at - BLOCK as u64);
        let global = &self.global;
        let sparse_name = sparse.name.take().or_else(|| global.sparse.name.clone());
        let pax_path = sparse_name.or(own.path).or_else(|| global.path.clone());
        let path = pax_path.or(long_name).unwrap_or_else(|| ustar_path(block));
        let pax_link = own.link.or_else(|| global.link.clone());
        let link = pax_link.or(long_link).unwrap_or_else(|| text(&block[157..257]));
        // The oldest headers know a folder by the slash behind its name.
        let kind = match header::kind(flag) {
            EntryType::File if flag != b'S' && path.ends_with(b"/") => EntryType::Dir,
            kind => kind,
        };
        // Links, devices, folders and fifos have no data, whatever their size field says; GNU's dump folder has.
        let has_data = flag == b'D' || matches!(kind, EntryType::File | EntryType::Other);
        let data = if has_data { own.size.or(global.size).unwrap_or(size) } else { 0 };
        let mut attributes = global.attributes.clone();
        attributes.extend(own.attributes);
        let is_link = matches!(kind, EntryType::Link | EntryType::Symlink);
        let entry = Entry {
            path_hex: name::hex_unless_text(&path),
            path: String::from_utf8_lossy(&path).into_owned(),
            kind,
            mode: number(&block[100..108]).unwrap_or(0) as u32 & 0o7777,
            uid: own.uid.or(global.uid).or_else(|| number(&block[108..116])).unwrap_or(0),
            gid: own.gid.or(global.gid).or_else(|| number(&block[116..124])).unwrap_or(0),
            mtime: own.mtime.or_else(|| global.mtime.clone()).unwrap_or_else(|| time(&block[136..148])),
            sparse: false,
            size: data,
            link: is_link.then(|| String::from_utf8_lossy(&link).into_owned()),
            link_hex: name::hex_unless_text(&link).filter(|_| is_link),
            at: began,
            len: (self.at - began).saturating_add(data).saturating_add(padding(data)),
            reference: 0,
            stat: None,
            content: None,
            ctime: own.ctime,
        };
        let device = header::device(block);
        let member = Member { entry, name: path, link, device, attributes, map: None, data };
        let member = Box::new(member);
        match kind {
            EntryType::File if flag == b'S' => self.old_sparse(block, member),
            EntryType::File => self.pax_sparse(member, sparse),
            _ => Ok(Some(self.begin(member))),
        }
    }

    /// Its data is next.
    fn begin(&mut self, member: Box<Member>) -> Box<Member> {
        let stored = member.data.saturating_add(padding(member.data));
        self.state = if stored > 0 { State::Data(stored) } else { State::Header };
        member
    }
}

/// A member that not every program would read in the same way.
fn refused(member: &Member, why: &str) -> Error {
    Error::refused(format!("member {} is refused: {why}", name::shown(&member.name)))
        .hint("whoever reads it must guess; pack it anew with GNU tar")
}

pub(super) fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

/// Takes as much of `left` as `bytes` holds.
fn take(left: &mut u64, bytes: &[u8]) -> usize {
    let used = (*left).min(bytes.len() as u64);
    *left -= used;
    used as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::testing::{END, header, member, pax_header, walk};

    #[test]
    fn members_are_found_whatever_the_pieces() {
        let long = "d/".repeat(90) + "name";
        let pax = "24 path=a very long one\n";
        let tar = [
            member("plain", b'0', &[7; 700]),
            member("x", b'x', pax.as_bytes()),
            member("short", b'0', b""),
            member("././@LongLink", b'L', format!("{long}\0").as_bytes()),
            member("cut", b'0', &[1; 512]),
            vec![0; 1024],
        ]
        .concat();
        for step in [1, 7, 511, 512, 513, 4096, tar.len()] {
            let (found, end) = walk(&tar, step);
            end.unwrap();
            let names: Vec<_> = found.iter().map(|e| e.path.as_str()).collect();
            assert_eq!(names, ["plain", "a very long one", &long], "step {step}");
            let places: Vec<_> = found.iter().map(|e| (e.at, e.len)).collect();
            assert_eq!(places, [(0, 1536), (1536, 1536), (3072, 2048)]);
            let data: Vec<_> = found.iter().filter_map(Entry::data).collect();
            assert_eq!(data, [512..1212, 3072..3072, 4608..5120]);
        }
    }

    #[test]
    fn a_pax_name_wins_over_a_gnu_long_name_as_it_does_for_tar() {
        let pax = member("x", b'x', b"12 path=pax\n");
        let long = member("././@LongLink", b'L', b"long\0");
        for extended in [[&pax[..], &long].concat(), [&long[..], &pax].concat()] {
            let (found, end) = walk(&[&extended, &member("ustar", b'0', b"")[..], &[0; 1024]].concat(), 512);
            end.unwrap();
            assert_eq!(found[0].path, "pax");
        }
    }

    #[test]
    fn a_pax_size_and_a_base_256_size_are_followed() {
        let mut tar = member("x", b'x', b"12 size=600\n");
        tar.extend(header("big", b'0', 0, |_| {}));
        tar.resize(tar.len() + 1024, 9);
        tar.extend(header("binary", b'0', 0, |block| {
            block[124..136].copy_from_slice(b"\x80\0\0\0\0\0\0\0\0\0\x02\x58");
        }));
        tar.resize(tar.len() + 1024, 9);
        tar.resize(tar.len() + 1024, 0);
        let (found, end) = walk(&tar, 100);
        end.unwrap();
        assert_eq!(found.iter().map(|e| e.size).collect::<Vec<_>>(), [600, 600]);
    }

    #[test]
    fn a_missing_end_marker_is_a_failure_wherever_the_cut_is() {
        let tar = [member("a", b'0', &[7; 1300]), member("b", b'0', &[8; 10]), vec![0; 1024]].concat();
        walk(&tar, 512).1.unwrap();
        for cut in 0..tar.len() {
            assert!(walk(&tar[..cut], 512).1.is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_shrunken_file_shows_as_a_broken_header() {
        let mut tar = [member("a", b'0', &[7; 1300]), member("b", b'0', &[8; 10]), vec![0; 1024]].concat();
        tar.drain(700..800);
        assert!(walk(&tar, 512).1.unwrap_err().to_string().contains("no header"));
    }

    #[test]
    fn one_zero_block_and_then_a_member_is_broken() {
        let tar = [vec![0; 512], member("a", b'0', b"")].concat();
        assert!(walk(&tar, 512).1.is_err());
        // GNU tar ends there.
        let (mut walker, mut found) = (Walker::of_foreign(), Vec::new());
        walker.feed(&[member("b", b'0', b""), tar].concat(), &mut found).unwrap();
        assert_eq!((found.len(), walker.ended_at(), walker.trailing()), (1, Some(512), true));
    }

    #[test]
    fn a_name_that_is_not_utf8_is_kept_in_hex() {
        let mut tar = member("x", b'x', b"10 path=\xff\n");
        tar.extend(member("y", b'0', b""));
        tar.resize(tar.len() + 1024, 0);
        let (found, end) = walk(&tar, 512);
        end.unwrap();
        assert_eq!(found[0].path_hex.as_deref(), Some("ff"));
        assert_eq!(found[0].name(), [0xff]);
    }

    fn only(tar: &[Vec<u8>]) -> Vec<Entry> {
        let (found, end) = walk(&[&tar.concat()[..], &END].concat(), 700);
        end.unwrap();
        found
    }

    #[test]
    fn of_two_headers_in_a_row_the_later_holds_as_a_whole() {
        let two = |flag| {
            [pax_header(flag, &[("uid", "7"), ("path", "A")]), pax_header(flag, &[("gid", "9")])].concat()
        };
        for flag in [b'x', b'X', b'g'] {
            let found = only(&[two(flag), member("c", b'0', b"")]);
            assert_eq!((found[0].path.as_str(), found[0].uid, found[0].gid), ("c", 0, 9), "{flag}");
        }
        let headers = [pax_header(b'x', &[("uid", "9")]), pax_header(b'g', &[("uid", "7")])].concat();
        let own = only(&[headers, member("c", b'0', b""), member("d", b'0', b"")]);
        assert_eq!(own.iter().map(|e| e.uid).collect::<Vec<_>>(), [9, 7]);
    }

    #[test]
    fn a_size_hidden_behind_a_second_header_smuggles_nothing() {
        // Read with the first header's size, the device would be data.
        let found = only(&[
            pax_header(b'x', &[("size", "512")]),
            pax_header(b'x', &[("mtime", "1")]),
            member("a", b'0', b""),
            member("dev", b'3', b""),
        ]);
        assert_eq!(found.iter().map(|e| e.kind).collect::<Vec<_>>(), [EntryType::File, EntryType::Char]);
    }

    #[test]
    fn the_oldest_headers_know_folders_by_a_slash() {
        for flag in [0, b'0', b'7'] {
            let folder = header("d/", flag, 600, |block| block[257..265].fill(0));
            let found = only(&[folder, member("d/f", flag, b"x")]);
            let kinds = (found[0].kind, found[0].len, found[1].kind);
            assert_eq!(kinds, (EntryType::Dir, 512, EntryType::File), "{flag}");
        }
    }

    #[test]
    fn labels_and_solaris_acls_are_no_members() {
        let found = only(&[
            pax_header(b'x', &[("path", "not this")]),
            member("label", b'V', b""),
            member("acl", b'A', b"user::rwx"),
            member("a", b'0', b"x"),
        ]);
        assert_eq!(found.iter().map(|e| (e.path.as_str(), e.at)).collect::<Vec<_>>(), [("a", 2560)]);
    }

    #[test]
    fn a_links_target_that_is_not_utf8_is_kept() {
        let block = header("l", b'1', 0, |block| block[157] = 0xff);
        assert_eq!(only(&[block])[0].hard_link(), Some(vec![0xff]));
    }
}
