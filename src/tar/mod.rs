//! Follows a tar stream as it passes by: names its members and proves that it ended.
//!
//! Reads ustar (POSIX.1-1988), pax (POSIX.1-2001 `x` and `g` headers) and GNU (`L`, `K`, `S`, base-256 numbers).
//! Bytes may come in pieces of any size; nothing is kept but the header at hand.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

pub mod exclude;
pub mod gnu;
mod header;
pub mod select;

pub use header::is_header;
use header::{Extension, checksum_is_right, number, text, time, ustar_path};

/// The size of a tar block in bytes.
pub const BLOCK: usize = 512;

// A pax header holds names and xattrs; Linux allows 64 KiB a value. More than this is no header that anyone wrote.
const LONGEST_EXTENSION: u64 = 16 << 20;

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
    /// Target of a link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Whether holes are left out of the data: what is stored is not the file's bytes in a row.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sparse: bool,
    /// Offset in the source of the member's first header block, its extended headers included.
    pub at: u64,
    /// Bytes that the member takes in the source: headers, data and padding.
    pub len: u64,
}

impl Entry {
    /// The member's name as its bytes.
    pub fn name(&self) -> Vec<u8> {
        let hex = self.path_hex.as_deref().filter(|hex| hex.is_ascii() && hex.len() % 2 == 0);
        let bytes = hex.and_then(|hex| {
            (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).ok()).collect()
        });
        bytes.unwrap_or_else(|| self.path.clone().into_bytes())
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

enum State {
    /// Gathering a header block.
    Header,
    /// Passing over data and padding.
    Data(u64),
    /// Gathering an extended header of this typeflag: bytes of data still to come, then padding.
    Extension { flag: u8, left: u64, padding: u64 },
    /// Gathering the extension blocks of an old GNU sparse header; data follows the last.
    SparseMap { data: u64 },
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
    global: Extension,
    gathered: Vec<u8>,
    /// An old GNU sparse member waits here for the end of its map.
    pending: Option<Entry>,
    /// Where the end marker began.
    ended_at: u64,
    trailing: bool,
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
            global: Extension::default(),
            gathered: Vec::new(),
            pending: None,
            ended_at: 0,
            trailing: false,
        }
    }

    /// Takes in the next bytes; members that begin in them are added to `found`.
    ///
    /// # Errors
    /// A header that is none: the source is no tar, or lost bytes on the way.
    pub fn feed(&mut self, mut bytes: &[u8], found: &mut Vec<Entry>) -> Result<()> {
        while !bytes.is_empty() {
            let used = match &mut self.state {
                State::Data(left) => {
                    let used = take(left, bytes);
                    if *left == 0 {
                        self.state = State::Header;
                    }
                    used
                }
                State::Extension { flag, left, padding } => {
                    if *left > 0 {
                        let used = take(left, bytes);
                        self.gathered.extend_from_slice(&bytes[..used]);
                        used
                    } else {
                        let (flag, padding) = (*flag, *padding);
                        self.extension(flag)?;
                        self.state = if padding > 0 { State::Data(padding) } else { State::Header };
                        0
                    }
                }
                State::Ended => {
                    self.trailing |= bytes.iter().any(|&b| b != 0);
                    bytes.len()
                }
                State::Header | State::SparseMap { .. } => {
                    let used = bytes.len().min(BLOCK - self.block.len());
                    self.block.extend_from_slice(&bytes[..used]);
                    used
                }
            };
            self.at += used as u64;
            bytes = &bytes[used..];
            if self.block.len() == BLOCK {
                let block = std::mem::take(&mut self.block);
                match self.state {
                    State::SparseMap { data } => self.sparse_map(&block, data, found),
                    _ => self.header(&block, found)?,
                }
                self.block = block;
                self.block.clear();
            }
        }
        Ok(())
    }

    /// Where the end marker began, once it passed by.
    pub fn ended_at(&self) -> Option<u64> {
        matches!(self.state, State::Ended).then_some(self.ended_at)
    }

    /// Whether bytes other than zeros followed the end marker.
    pub fn trailing(&self) -> bool {
        self.trailing
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

    fn header(&mut self, block: &[u8], found: &mut Vec<Entry>) -> Result<()> {
        let here = self.at - BLOCK as u64;
        if block.iter().all(|&b| b == 0) {
            self.zero_blocks += 1;
            if self.zero_blocks == 1 {
                self.ended_at = here;
            } else {
                self.state = State::Ended;
            }
            return Ok(());
        }
        let broken = || {
            Error::failed(format!("the tar stream is broken at byte {here}: no header where one must stand"))
                .hint("a file shrank or the stream lost bytes; if the stream is no tar, say --format raw")
        };
        if self.zero_blocks > 0 || !checksum_is_right(block) {
            return Err(broken());
        }
        let size = number(&block[124..136]).ok_or_else(broken)?;
        let flag = block[156];
        if flag != b'g' {
            self.began.get_or_insert(here);
        }
        match flag {
            b'x' | b'X' | b'g' | b'L' | b'K' => {
                if size > LONGEST_EXTENSION {
                    return Err(broken());
                }
                self.state = State::Extension { flag, left: size, padding: padding(size) };
            }
            _ => self.member(block, flag, size, found),
        }
        Ok(())
    }

    fn extension(&mut self, flag: u8) -> Result<()> {
        let data = std::mem::take(&mut self.gathered);
        let read = match flag {
            b'L' => {
                self.next.long_name = Some(text(&data));
                Some(())
            }
            b'K' => {
                self.next.long_link = Some(text(&data));
                Some(())
            }
            b'g' => self.global.pax(&data),
            _ => self.next.pax(&data),
        };
        read.ok_or_else(|| {
            Error::failed(format!("the tar stream has a broken pax header before byte {}", self.at))
        })
    }

    fn member(&mut self, block: &[u8], flag: u8, size: u64, found: &mut Vec<Entry>) {
        let ext = std::mem::take(&mut self.next);
        let began = self.began.take().unwrap_or(self.at - BLOCK as u64);
        let global = &self.global;
        let kind = match flag {
            b'0' | 0 | b'7' | b'S' => EntryType::File,
            b'1' => EntryType::Link,
            b'2' => EntryType::Symlink,
            b'3' => EntryType::Char,
            b'4' => EntryType::Block,
            b'5' | b'D' => EntryType::Dir,
            b'6' => EntryType::Fifo,
            _ => EntryType::Other,
        };
        // Links, devices, folders and fifos have no data, whatever their size field says; GNU's dump folder has.
        let has_data = flag == b'D' || matches!(kind, EntryType::File | EntryType::Other);
        let data = if has_data { ext.size.or(global.size).unwrap_or(size) } else { 0 };
        let sparse = (flag == b'S').then(|| number(&block[483..495])).flatten();
        let pax_path = ext.sparse_name.or(ext.path).or_else(|| global.path.clone());
        let path = pax_path.or(ext.long_name).unwrap_or_else(|| ustar_path(block));
        let pax_link = ext.link.or_else(|| global.link.clone());
        let link = pax_link.or(ext.long_link).unwrap_or_else(|| text(&block[157..257]));
        let entry = Entry {
            path_hex: std::str::from_utf8(&path).is_err().then(|| crate::report::hex(&path)),
            path: String::from_utf8_lossy(&path).into_owned(),
            kind,
            mode: number(&block[100..108]).unwrap_or(0) as u32 & 0o7777,
            uid: ext.uid.or(global.uid).or_else(|| number(&block[108..116])).unwrap_or(0),
            gid: ext.gid.or(global.gid).or_else(|| number(&block[116..124])).unwrap_or(0),
            mtime: ext.mtime.or_else(|| global.mtime.clone()).unwrap_or_else(|| time(&block[136..148])),
            sparse: flag == b'S' || ext.real_size.is_some(),
            size: ext.real_size.or(sparse).unwrap_or(data),
            link: matches!(kind, EntryType::Link | EntryType::Symlink)
                .then(|| String::from_utf8_lossy(&link).into_owned()),
            at: began,
            len: self.at - began + data + padding(data),
        };
        if flag == b'S' && block[482] != 0 {
            self.pending = Some(entry);
            self.state = State::SparseMap { data };
            return;
        }
        found.push(entry);
        self.pass_over(data);
    }

    fn sparse_map(&mut self, block: &[u8], data: u64, found: &mut Vec<Entry>) {
        if let Some(entry) = &mut self.pending {
            entry.len += BLOCK as u64;
        }
        if block[504] == 0 {
            found.extend(self.pending.take());
            self.pass_over(data);
        }
    }

    fn pass_over(&mut self, data: u64) {
        let stored = data + padding(data);
        self.state = if stored > 0 { State::Data(stored) } else { State::Header };
    }
}

fn padding(size: u64) -> u64 {
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

    fn header(name: &str, flag: u8, size: &[u8]) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[100..107].copy_from_slice(b"0000644");
        block[124..124 + size.len()].copy_from_slice(size);
        block[136..147].copy_from_slice(b"14000000000");
        block[156] = flag;
        block[257..265].copy_from_slice(b"ustar\x0000");
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        block
    }

    fn member(name: &str, flag: u8, data: &[u8]) -> Vec<u8> {
        let mut tar = header(name, flag, format!("{:011o}", data.len()).as_bytes());
        tar.extend_from_slice(data);
        tar.resize(tar.len().next_multiple_of(BLOCK), 0);
        tar
    }

    fn walk(tar: &[u8], step: usize) -> (Vec<Entry>, Result<()>) {
        let (mut walker, mut found) = (Walker::new(), Vec::new());
        for piece in tar.chunks(step) {
            if let Err(error) = walker.feed(piece, &mut found) {
                return (found, Err(error));
            }
        }
        (found, walker.finish())
    }

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
            assert_eq!(
                found.iter().map(|e| (e.at, e.len)).collect::<Vec<_>>(),
                [(0, 1536), (1536, 1536), (3072, 2048)]
            );
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
        tar.extend(header("big", b'0', b"00000000000"));
        tar.resize(tar.len() + 1024, 9);
        let mut binary = [0u8; 12];
        binary[0] = 0x80;
        binary[10..].copy_from_slice(&600u16.to_be_bytes());
        tar.extend(header("binary", b'0', &binary));
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
        let error = walk(&tar, 512).1.unwrap_err();
        assert!(error.to_string().contains("no header"), "{error}");
    }

    #[test]
    fn one_zero_block_and_then_a_member_is_broken() {
        let tar = [vec![0; 512], member("a", b'0', b"")].concat();
        assert!(walk(&tar, 512).1.is_err());
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

    #[test]
    fn an_old_gnu_sparse_map_is_not_taken_for_data() {
        let mut first = header("sparse", b'S', b"00000001000");
        first[482] = 1;
        first[483..494].copy_from_slice(b"00000100000");
        first[148..156].fill(b' ');
        let sum: u32 = first.iter().map(|&b| u32::from(b)).sum();
        first[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let mut map = vec![0u8; BLOCK];
        map[504] = 1;
        let tar =
            [first, map, vec![0; BLOCK], vec![5; 512], member("next", b'0', b""), vec![0; 1024]].concat();
        let (found, end) = walk(&tar, 300);
        end.unwrap();
        assert_eq!(found.iter().map(|e| (e.size, e.len)).collect::<Vec<_>>(), [(32768, 2048), (0, 512)]);
    }
}
