//! The settings file while `serve` runs: whether it has changed, and that something is wrong in it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::error::Result;

/// How often it is said again that something is wrong.
const AGAIN: Duration = Duration::from_secs(3600);

/// What changes with a file: a new one in its place, or other bytes in it.
type Stamp = Option<(u64, u64, i64, i64, u64)>;

/// The file that was read last.
#[derive(Debug)]
pub struct SettingsFile {
    path: PathBuf,
    stamp: Stamp,
    /// When it was last said that it is broken.
    said: Option<Instant>,
}

impl SettingsFile {
    /// The file that these settings were read from. When it has changed meanwhile, it has changed.
    pub fn new(config: &Config) -> Self {
        let path = config.path().to_path_buf();
        let before = stamp(&path);
        let is_same = std::fs::read_to_string(&path).is_ok_and(|text| text == config.text());
        SettingsFile { stamp: before.filter(|_| is_same), path, said: None }
    }

    /// Whether it is another one than that which was read last.
    pub fn has_changed(&self) -> bool {
        stamp(&self.path) != self.stamp
    }

    /// Reads it; also whether it was broken before.
    pub fn read(&mut self) -> (Result<Config>, bool) {
        let was_broken = self.said.is_some();
        self.stamp = stamp(&self.path);
        let config = Config::open(self.path.clone());
        self.said = config.is_err().then(Instant::now);
        (config, was_broken)
    }

    /// Whether it is time to say again that it is broken.
    pub fn is_to_be_said_again(&mut self) -> bool {
        let is_time = self.said.is_some_and(|said| said.elapsed() >= AGAIN);
        if is_time {
            self.said = Some(Instant::now());
        }
        is_time
    }
}

fn stamp(path: &Path) -> Stamp {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.size()))
}
