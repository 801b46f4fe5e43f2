//! What is mounted where on this host, as the kernel says it.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// File systems that hold the kernel's own state, no files of anybody's.
const KERNEL: [&str; 21] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nfsd",
    "nsfs",
    "proc",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "sysfs",
    "tracefs",
];
/// As above, of a security module.
const KERNEL_MODULES: [&str; 2] = ["selinuxfs", "smackfs"];

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    /// The device's numbers: one file system may be mounted more than once.
    device: Vec<u8>,
    /// What of the file system is mounted.
    root: PathBuf,
    /// Where.
    point: PathBuf,
    /// Its type.
    kind: Vec<u8>,
}

/// All that is mounted, in the order in which it was.
#[derive(Debug, Clone, Default)]
pub struct Mounts(Vec<Mount>);

impl Mounts {
    /// What this process sees; nothing where the kernel does not say it.
    pub fn read() -> Mounts {
        std::fs::read("/proc/self/mountinfo").map(|text| Mounts::parse(&text)).unwrap_or_default()
    }

    fn parse(text: &[u8]) -> Mounts {
        Mounts(text.split(|&byte| byte == b'\n').filter_map(Mount::parse).collect())
    }

    /// The type of the file system that a folder lies on.
    pub fn kind_of(&self, folder: &Path) -> Option<String> {
        self.around(folder).map(|mount| String::from_utf8_lossy(&mount.kind).into_owned())
    }

    /// What is mounted where a folder lies; of those in one place, the last hides the others.
    fn around(&self, folder: &Path) -> Option<&Mount> {
        let around = self.0.iter().filter(|mount| folder.starts_with(&mount.point));
        around.max_by_key(|mount| mount.point.components().count())
    }

    /// The kernel's own file systems, by the number of their device, as every file's metadata has it.
    pub fn kernel_devices(&self) -> Vec<u64> {
        self.0.iter().filter(|mount| mount.is_kernel()).filter_map(Mount::number).collect()
    }

    /// Mount points of the kernel's own file systems below a folder, without those that lie in one another.
    pub fn kernel_below(&self, folder: &Path) -> Vec<PathBuf> {
        let below = |mount: &&Mount| mount.point != folder && mount.point.starts_with(folder);
        let kernel = self.0.iter().filter(|mount| mount.is_kernel());
        let mut found: Vec<_> = kernel.filter(below).map(|m| m.point.clone()).collect();
        // Parents come before what lies in them.
        found.sort();
        found.dedup();
        let mut outer: Vec<PathBuf> = Vec::new();
        for point in found {
            if !outer.iter().any(|outer| point.starts_with(outer)) {
                outer.push(point);
            }
        }
        outer
    }

    /// Every path by which a folder is reached, bind mounts included; its own first. `folder` has no links in it.
    pub fn paths_of(&self, folder: &Path) -> Vec<PathBuf> {
        let identity = |path: &Path| std::fs::metadata(path).map(|data| (data.dev(), data.ino())).ok();
        let own = identity(folder);
        let mut paths = vec![folder.to_path_buf()];
        paths.extend(
            self.other_paths(folder).into_iter().filter(|path| own.is_some() && identity(path) == own),
        );
        paths
    }

    /// Where else the folder is, unless something else was mounted over it.
    fn other_paths(&self, folder: &Path) -> Vec<PathBuf> {
        let Some(mount) = self.around(folder) else { return Vec::new() };
        let Ok(within) = folder.strip_prefix(&mount.point) else { return Vec::new() };
        let place = joined(&mount.root, within);
        let same = self.0.iter().filter(|other| other.device == mount.device);
        let paths =
            same.filter_map(|other| Some(joined(&other.point, place.strip_prefix(&other.root).ok()?)));
        let mut paths: Vec<_> = paths.filter(|path| path != folder).collect();
        paths.sort();
        paths.dedup();
        paths
    }
}

/// Without the slash that joining nothing leaves.
fn joined(folder: &Path, name: &Path) -> PathBuf {
    if name.as_os_str().is_empty() { folder.into() } else { folder.join(name) }
}

impl Mount {
    fn is_kernel(&self) -> bool {
        let kind = String::from_utf8_lossy(&self.kind);
        KERNEL.contains(&&*kind) || KERNEL_MODULES.contains(&&*kind)
    }

    /// `0:21` as one number.
    fn number(&self) -> Option<u64> {
        let (major, minor) = std::str::from_utf8(&self.device).ok()?.split_once(':')?;
        Some(rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?))
    }

    /// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw`
    fn parse(line: &[u8]) -> Option<Mount> {
        let mut words = line.split(|&byte| byte == b' ');
        let (device, root, point) = (words.nth(2)?, words.next()?, words.next()?);
        let kind = words.skip_while(|word| *word != b"-").nth(1)?;
        Some(Mount {
            device: device.into(),
            root: unescaped(root),
            point: unescaped(point),
            kind: kind.into(),
        })
    }
}

/// Blanks and backslashes are written as `\040`.
fn unescaped(word: &[u8]) -> PathBuf {
    let (mut bytes, mut rest) = (Vec::with_capacity(word.len()), word);
    while let [first, more @ ..] = rest {
        let octal = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok();
        match more.get(..3).filter(|_| *first == b'\\').and_then(octal) {
            Some(byte) => {
                bytes.push(byte);
                rest = &more[3..];
            }
            None => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

/// The path as bytes, as tar takes it.
pub fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"\
22 27 0:21 / /proc rw,relatime - proc proc rw
23 27 0:22 / /sys rw,relatime shared:7 - sysfs sysfs rw
31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
40 27 8:1 / /mnt/big\\040disk rw - xfs /dev/sda1 rw
41 27 8:1 /backups /srv/data/inner rw - xfs /dev/sda1 rw
42 27 254:0 /srv/data /bind rw - ext4 /dev/vda rw
43 27 0:50 / /srv/data/proc ro - proc proc ro
44 27 0:51 / /srv/data/tmp rw - tmpfs tmpfs rw
broken line
";

    fn paths(found: &[PathBuf]) -> Vec<&str> {
        found.iter().filter_map(|path| path.to_str()).collect()
    }

    #[test]
    fn a_folder_is_known_by_every_path_that_leads_to_it() {
        let mounts = Mounts::parse(TABLE);
        let others = |folder: &str| mounts.other_paths(Path::new(folder));
        assert_eq!(paths(&others("/mnt/big disk/backups/host")), ["/srv/data/inner/host"]);
        assert_eq!(paths(&others("/mnt/big disk/backups")), ["/srv/data/inner"]);
        assert_eq!(paths(&others("/srv/data/inner/host")), ["/mnt/big disk/backups/host"]);
        assert_eq!(paths(&others("/srv/data/store")), ["/bind/store"]);
        assert_eq!(paths(&others("/bind")), ["/srv/data"]);
        assert_eq!(paths(&others("/srv/data/tmp/x")), [""; 0]);
        assert_eq!(paths(&others("/home")), [""; 0]);
    }

    #[test]
    fn only_the_kernels_own_file_systems_are_named_and_the_outermost() {
        let mounts = Mounts::parse(TABLE);
        assert_eq!(paths(&mounts.kernel_below(Path::new("/"))), ["/proc", "/srv/data/proc", "/sys"]);
        assert_eq!(paths(&mounts.kernel_below(Path::new("/srv"))), ["/srv/data/proc"]);
        // Whoever names one means it.
        assert_eq!(paths(&mounts.kernel_below(Path::new("/proc"))), [""; 0]);
        assert_eq!(paths(&mounts.kernel_below(Path::new("/sys"))), ["/sys/fs/cgroup"]);
    }

    #[test]
    fn a_folder_lies_on_what_was_mounted_there_last() {
        let mounts = Mounts::parse(TABLE);
        assert_eq!(mounts.kind_of(Path::new("/srv/data/tmp/x")).as_deref(), Some("tmpfs"));
        assert_eq!(mounts.kind_of(Path::new("/srv/data")).as_deref(), Some("ext4"));
        assert_eq!(Mounts::default().kind_of(Path::new("/")), None);
        let twice = Mounts::parse(b"1 0 8:1 / /m rw - ext4 a rw\n2 0 0:9 / /m rw - nfs4 b rw\n");
        assert_eq!(twice.kind_of(Path::new("/m/x")).as_deref(), Some("nfs4"));
    }

    #[test]
    fn a_kernels_file_system_is_known_by_its_files_device() {
        let proc = std::fs::metadata("/proc/self").unwrap().dev();
        let usr = std::fs::metadata("/usr").unwrap().dev();
        let devices = Mounts::read().kernel_devices();
        assert!(devices.contains(&proc) && !devices.contains(&usr), "{devices:?}");
    }

    #[test]
    fn what_this_host_mounts_is_read() {
        let here = Mounts::read();
        assert!(here.kernel_below(Path::new("/")).contains(&PathBuf::from("/proc")));
        assert_eq!(here.paths_of(Path::new("/usr"))[0], Path::new("/usr"));
    }
}
