//! What `lstat` says of a file: by which the next night tells whether it is still the same.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Serialize};

/// Bits of `st_mode` that say what a file is (`S_IFMT`, inode(7)).
const TYPE: u32 = 0o170_000;

/// A time of a file, as the file system has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileTime {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds beyond them.
    pub nanos: u32,
}

impl FileTime {
    /// Of a tar's text: seconds, with decimals in pax headers.
    pub fn parse(text: &str) -> Option<FileTime> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let seconds: i64 = whole.parse().ok()?;
        let nanos: u32 = format!("{decimals:0<9.9}").parse().ok()?;
        // A time before 1970 counts down.
        Some(match whole.starts_with('-') && nanos > 0 {
            true => FileTime { seconds: seconds.checked_sub(1)?, nanos: 1_000_000_000 - nanos },
            false => FileTime { seconds, nanos },
        })
    }
}

/// A file's fingerprint. In the catalog it is an array of numbers:
/// `[mode, uid, gid, size, inode, mtime, nanoseconds, ctime, nanoseconds]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Numbers", into = "Numbers")]
pub struct Stat {
    /// `st_mode`: type and permission bits.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Inode number.
    pub inode: u64,
    /// When the contents changed last.
    pub mtime: FileTime,
    /// When anything of it changed last.
    pub ctime: FileTime,
}

type Numbers = (u32, u32, u32, u64, u64, i64, u32, i64, u32);

impl From<Numbers> for Stat {
    fn from((mode, uid, gid, size, inode, mtime, mtime_nanos, ctime, ctime_nanos): Numbers) -> Self {
        let time = |seconds, nanos| FileTime { seconds, nanos };
        let (mtime, ctime) = (time(mtime, mtime_nanos), time(ctime, ctime_nanos));
        Stat { mode, uid, gid, size, inode, mtime, ctime }
    }
}

impl From<Stat> for Numbers {
    fn from(stat: Stat) -> Self {
        let Stat { mode, uid, gid, size, inode, mtime, ctime } = stat;
        (mode, uid, gid, size, inode, mtime.seconds, mtime.nanos, ctime.seconds, ctime.nanos)
    }
}

impl From<&Metadata> for Stat {
    fn from(data: &Metadata) -> Self {
        // The kernel counts nanoseconds below a second.
        let time = |seconds, nanos: i64| FileTime { seconds, nanos: u32::try_from(nanos).unwrap_or(0) };
        Stat {
            mode: data.mode(),
            uid: data.uid(),
            gid: data.gid(),
            size: data.size(),
            inode: data.ino(),
            mtime: time(data.mtime(), data.mtime_nsec()),
            ctime: time(data.ctime(), data.ctime_nsec()),
        }
    }
}

#[allow(clippy::unnecessary_cast, reason = "the kernel's types are not the same on every processor")]
impl From<&rustix::fs::Stat> for Stat {
    fn from(data: &rustix::fs::Stat) -> Self {
        Stat {
            mode: data.st_mode as u32,
            uid: data.st_uid as u32,
            gid: data.st_gid as u32,
            size: data.st_size as u64,
            inode: data.st_ino as u64,
            mtime: FileTime { seconds: data.st_mtime as i64, nanos: data.st_mtime_nsec as u32 },
            ctime: FileTime { seconds: data.st_ctime as i64, nanos: data.st_ctime_nsec as u32 },
        }
    }
}

impl Stat {
    /// Whether it is a folder.
    pub fn is_dir(&self) -> bool {
        self.mode & TYPE == 0o040_000
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.mode & TYPE == 0o100_000
    }

    /// Whether it is a symlink.
    pub fn is_symlink(&self) -> bool {
        self.mode & TYPE == 0o120_000
    }

    /// Whether it is a socket: of those nothing is stored.
    pub fn is_socket(&self) -> bool {
        self.mode & TYPE == 0o140_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_what_lstat_says_and_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let stat = Stat::from(&std::fs::symlink_metadata(dir.path()).unwrap());
        assert!(stat.is_dir() && !stat.is_file() && !stat.is_socket());
        assert_eq!(Stat::from(&rustix::fs::lstat(dir.path()).unwrap()), stat);
        let text = serde_json::to_string(&stat).unwrap();
        assert!(text.starts_with(&format!("[{},", stat.mode)), "{text}");
        assert_eq!(serde_json::from_str::<Stat>(&text).unwrap(), stat);
    }
}
