//! How every process is made that runs beside us: without our secrets, and where we read what it says, without what else
//! the environment would change about it.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use super::passphrase::VARIABLES;

/// Variables that change what tar and the programs below it do or say.
const BEHAVIOUR: [&str; 12] = [
    "TAR_OPTIONS",
    "TAPE",
    "POSIXLY_CORRECT",
    "QUOTING_STYLE",
    "GZIP",
    "BZIP",
    "BZIP2",
    "XZ_DEFAULTS",
    "XZ_OPT",
    "ZSTD_CLEVEL",
    "ZSTD_NBTHREADS",
    "LANGUAGE",
];

/// A program whose options and messages are known here: it has none of our secrets, nothing in the environment adds to its
/// options, and it speaks as in the C locale.
pub fn command(program: &str) -> Command {
    let mut command = without_secrets(program);
    for name in BEHAVIOUR {
        command.env_remove(name);
    }
    // It wins over LANG and every other LC_….
    command.env("LC_ALL", "C");
    command
}

/// A program of the operator's: it has none of our secrets, and everything else as it was given to us.
pub fn program(program: &str) -> Command {
    without_secrets(program)
}

/// A shell for a command of the operator's: it has none of our secrets, and everything else as it was given to us.
pub fn shell(script: &str) -> Command {
    let mut shell = without_secrets("sh");
    shell.args(["-c", script]);
    shell
}

/// The number of a process that we wait for; of its group, where it leads one. None once it has been waited for.
pub fn pid(child: &tokio::process::Child) -> Option<Pid> {
    child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?))
}

/// Whether this process ignores a signal, as it was told to by whoever started it.
pub fn ignores_signal(number: i32) -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| is_among_ignored(&status, number))
}

/// The line `SigIgn` of `/proc/self/status`, `0000000000001000`: one bit a signal, from 1.
fn is_among_ignored(status: &str, number: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let bit = u32::try_from(number - 1).ok().and_then(|bit| 1u64.checked_shl(bit));
    mask.zip(bit).is_some_and(|(mask, bit)| mask & bit != 0)
}

/// The process ids that the kernel itself begins with, as it names their namespace.
const FIRST_NAMESPACE: &str = "pid:[4026531836]";

/// Those of some files, by device and inode, that processes of this host have open, by whatever path; none where some of the
/// processes cannot be seen from here.
pub fn open_files(files: &[PathBuf]) -> Option<BTreeSet<(u64, u64)>> {
    let sees_all = rustix::process::geteuid().is_root()
        && std::fs::read_link("/proc/self/ns/pid")
            .is_ok_and(|namespace| namespace == Path::new(FIRST_NAMESPACE));
    // A link or a mount gives a file another path, but hardly another name; and the look at what others have open may hang.
    let names: BTreeSet<_> = files.iter().filter_map(|file| file.file_name()).collect();
    sees_all.then(|| {
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbered = processes.filter(|entry| entry.file_name().to_str().is_some_and(is_number));
        // One that has ended since has nothing open.
        let open =
            numbered.flat_map(|entry| std::fs::read_dir(entry.path().join("fd")).into_iter().flatten());
        let open = open.flatten().map(|file| file.path());
        let named = |path: &PathBuf| {
            std::fs::read_link(path).is_ok_and(|file| file.file_name().is_some_and(|it| names.contains(it)))
        };
        open.filter(named).filter_map(|path| identity(&path)).collect()
    })
}

/// Which file a path leads to, whatever it is called: device and inode.
pub fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

/// The container of a Docker Engine that this process runs in: the engine mounts files of its own there, from a folder with
/// the container's id.
pub fn own_container() -> Option<String> {
    container_in(&std::fs::read_to_string("/proc/self/mountinfo").ok()?)
}

/// Of `/proc/self/mountinfo`: the fourth field is where in its file system lies what is mounted, the fifth is where to.
fn container_in(mounts: &str) -> Option<String> {
    let is_id = |part: &&str| part.len() == 64 && part.bytes().all(|c| c.is_ascii_hexdigit());
    let root = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(3);
        let (root, at) = (fields.next()?, fields.next()?);
        matches!(at, "/etc/hostname" | "/etc/resolv.conf" | "/etc/hosts").then_some(root)
    })?;
    root.split('/').rfind(is_id).map(String::from)
}

/// A process among all that ever ran on a machine, so that it can be told later whether it still does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessName {
    /// Its number.
    pub pid: u32,
    /// When it began, in the kernel's ticks since the machine was started.
    begun: u64,
    /// Which start of which machine that was.
    boot: String,
    /// The namespace that its number is of.
    namespace: String,
}

impl ProcessName {
    /// This process.
    pub fn own() -> Self {
        let pid = std::process::id();
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        ProcessName {
            pid,
            begun: stat(pid).map(|(_, begun)| begun).unwrap_or_default(),
            boot: boot.trim().into(),
            namespace: namespace.display().to_string(),
        }
    }

    /// Whether it is this one.
    pub fn is_own(&self) -> bool {
        *self == Self::own()
    }

    /// Whether it ran before the machine was started again, or on another machine.
    pub fn is_of_another_boot(&self) -> bool {
        self.boot != Self::own().boot
    }

    /// Whether it has ended for sure: it ran on this machine, where it would be seen, and is not there.
    pub fn is_gone(&self) -> bool {
        self.lives() == Some(false)
    }

    /// Whether it still runs; none where it would not be seen: on another machine, before this one was started again, in
    /// another namespace.
    pub fn lives(&self) -> Option<bool> {
        let own = Self::own();
        let is_seen = !own.boot.is_empty() && (&self.boot, &self.namespace) == (&own.boot, &own.namespace);
        // With hidepid, what others run is not seen; what is there has a number that can be asked for all the same.
        is_seen.then(|| match stat(self.pid) {
            Some((state, begun)) => begun == self.begun && !matches!(state.as_str(), "Z" | "X"),
            None => answers(self.pid),
        })
    }
}

/// Whether there is a process of this number, also where nothing else is told of it.
fn answers(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    // ESRCH alone says that there is none.
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

/// The state and the time of the start, fields 3 and 22 of `/proc/PID/stat`; the name before them may hold blanks and
/// parentheses.
fn stat(pid: u32) -> Option<(String, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.into(), fields.nth(18)?.parse().ok()?))
}

fn is_number(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_digit())
}

fn without_secrets(program: &str) -> Command {
    let mut command = Command::new(program);
    for secret in VARIABLES {
        command.env_remove(secret);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `env` prints when it is run as `command` would be, by a process that has everything set that must not get
    /// through. A test cannot safely set its own environment: that process's is set here, then changed as `command` says.
    fn seen_by(command: &Command) -> Vec<String> {
        let set = BEHAVIOUR.iter().chain(&VARIABLES).chain(&["LC_MESSAGES", "KEPT"]);
        let mut env = Command::new("env");
        env.envs(set.map(|name| (name, "set")));
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => env.env(name, value),
                None => env.env_remove(name),
            };
        }
        let output = env.output().unwrap();
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        lines.lines().map(String::from).collect()
    }

    fn has(lines: &[String], name: &str) -> bool {
        lines.iter().any(|line| line.split_once('=').is_some_and(|(left, _)| left == name))
    }

    #[test]
    fn no_process_gets_our_secrets() {
        for command in [command("tar"), shell("true")] {
            let seen = seen_by(&command);
            assert!(has(&seen, "KEPT"), "{seen:?}");
            for secret in VARIABLES {
                assert!(!has(&seen, secret), "{secret} in {command:?}");
            }
        }
    }

    #[test]
    fn a_tool_does_what_its_options_say_and_no_more() {
        let seen = seen_by(&command("tar"));
        for name in BEHAVIOUR {
            assert!(!has(&seen, name), "{name} in {seen:?}");
        }
        assert!(seen.contains(&"LC_ALL=C".to_string()), "{seen:?}");
        assert!(!has(&seen_by(&command("env")), "TAR_OPTIONS"));
    }

    #[test]
    fn the_operators_command_keeps_the_operators_environment() {
        let seen = seen_by(&shell("true"));
        for name in ["TAR_OPTIONS", "XZ_OPT", "LANG", "LC_MESSAGES", "PATH"] {
            assert!(has(&seen, name), "{name} in {seen:?}");
        }
    }

    #[test]
    fn a_signal_that_is_ignored_is_known() {
        let status =
            "Name:\tsealift\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\nSigCgt:\t00000000000004\n";
        assert!(is_among_ignored(status, 1) && is_among_ignored(status, 13));
        assert!(
            !is_among_ignored(status, 2) && !is_among_ignored(status, 15) && !is_among_ignored(status, 0)
        );
        assert!(!is_among_ignored("", 1) && !is_among_ignored(status, 65));
        // Rust's own start ignores SIGPIPE.
        assert!(ignores_signal(13) && !ignores_signal(9));
    }

    #[test]
    fn a_process_is_gone_when_it_has_ended_and_only_where_it_would_be_seen() {
        let own = ProcessName::own();
        assert!(own.is_own() && !own.is_gone() && own.begun > 0);
        let mut child = Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        let gone = ProcessName { pid, ..own.clone() };
        assert!(gone.is_gone());
        assert!(ProcessName { begun: own.begun + 1, ..own.clone() }.is_gone(), "its number was given again");
        for elsewhere in [
            ProcessName { boot: "other".into(), ..gone.clone() },
            ProcessName { namespace: "other".into(), ..gone.clone() },
        ] {
            assert!(!elsewhere.is_gone() && elsewhere.lives().is_none(), "{elsewhere:?}");
        }
    }

    #[test]
    fn a_shell_runs_its_script_with_arguments() {
        let mut shell = shell("echo \"$0 $1\"; exit 3");
        let output = shell.args(["sh", "hello"]).output().unwrap();
        assert_eq!((&output.stdout[..], output.status.code()), (&b"sh hello\n"[..], Some(3)));
    }

    #[test]
    fn a_process_in_a_container_knows_which() {
        let id = "0123456789abcdef".repeat(4);
        let root =
            format!("900 899 254:1 /data/containers/{id}/hostname /etc/hostname rw - ext4 /dev/vda1 rw");
        let mounts = format!("899 1 0:50 / / rw - overlay overlay rw\n{root}\n");
        assert_eq!(container_in(&mounts), Some(id));
        assert_eq!(container_in("899 1 254:1 / / rw - ext4 /dev/vda1 rw\n"), None);
        assert_eq!(container_in("9 1 254:1 /etc/hostname /etc/hostname rw - ext4 /dev/vda1 rw\n"), None);
    }
}
