//! How readily a backup gives way to whatever else the machine does.

use std::process::Stdio;
use std::str::FromStr;

use rustix::io::Errno;
use rustix::process::{Pid, getpriority_process, setpriority_process};

use crate::error::{Context, Error, Result};

/// The nice value of a backup unless another is asked for: what serves people comes first, an idle machine is used whole.
pub const DEFAULT_NICE: i32 = 10;

/// How a process's reads and writes are ranked, see `ionice(1)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoNice {
    /// Only where nobody else wants the disk.
    Idle,
    /// From 0, first, to 7, last.
    BestEffort(u8),
}

impl FromStr for IoNice {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match (text, text.parse()) {
            ("idle", _) => Ok(IoNice::Idle),
            (_, Ok(level @ 0..=7)) => Ok(IoNice::BestEffort(level)),
            _ => Err(Error::usage(format!("{text:?} is no I/O priority")).hint("write idle, or 0 to 7")),
        }
    }
}

/// Gives every thread of this process, and whatever they start from now on, at least this nice value: what it was started
/// with is never lowered.
///
/// # Errors
/// The kernel does not allow it.
pub fn nice(value: i32) -> Result<()> {
    for thread in threads()? {
        let now = getpriority_process(Some(thread));
        let given =
            now.and_then(|now| if now < value { setpriority_process(Some(thread), value) } else { Ok(()) });
        match given {
            // It has ended meanwhile.
            Err(Errno::SRCH) => {}
            given => given.context(|| format!("cannot set nice value {value}"))?,
        }
    }
    Ok(())
}

/// Ranks the reads and writes of every thread of this process, and of whatever they start from now on.
///
/// By `ionice` of util-linux, because the system call for it has no safe wrapper.
///
/// # Errors
/// It is not installed, or fails.
pub async fn io_nice(level: IoNice) -> Result<()> {
    let mut stderr = String::new();
    // A thread may end before it is its turn.
    for _ in 0..TRIES {
        let mut ionice = tokio::process::Command::from(super::process::command("ionice"));
        match level {
            IoNice::Idle => ionice.args(["-c", "3"]),
            IoNice::BestEffort(level) => ionice.args(["-c", "2", "-n", &level.to_string()]),
        };
        ionice.arg("-p").args(threads()?.iter().map(|thread| thread.as_raw_nonzero().to_string()));
        let run = ionice.stdin(Stdio::null()).stdout(Stdio::null()).output().await;
        let ended = run.context(|| "cannot run ionice, which --io-nice needs".into())?;
        if ended.status.success() {
            return Ok(());
        }
        stderr = String::from_utf8_lossy(&ended.stderr).trim().to_string();
    }
    Err(Error::failed("ionice failed").because(stderr))
}

const TRIES: usize = 3;

fn threads() -> Result<Vec<Pid>> {
    let failed = || "cannot read /proc/self/task".to_string();
    let mut threads = Vec::new();
    for entry in std::fs::read_dir("/proc/self/task").context(failed)? {
        let name = entry.context(failed)?.file_name();
        threads.extend(name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw));
    }
    Ok(threads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_priorities_are_read() {
        assert_eq!("idle".parse::<IoNice>().unwrap(), IoNice::Idle);
        assert_eq!("7".parse::<IoNice>().unwrap(), IoNice::BestEffort(7));
        assert!("8".parse::<IoNice>().is_err() && "".parse::<IoNice>().is_err());
    }
}
