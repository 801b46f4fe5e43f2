//! A second thread that looks at files: of those of one folder, each of two threads takes half.

use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};

use super::{Seen, look};
use crate::error::{Error, Result};
use crate::stream::workers::thread;

/// From how many files on it is worth it to wake another thread.
const WORTH_IT: usize = if cfg!(test) { 2 } else { 32 };

/// Names of files, and the folder that they are in.
type Asked = (Arc<OwnedFd>, Vec<Vec<u8>>);

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Second {
    ask: mpsc::Sender<Asked>,
    /// One asks, and waits for what it is told.
    seen: mpsc::Receiver<Vec<Seen>>,
}

impl Second {
    /// Starts it.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start() -> Result<Second> {
        let (ask, asked) = mpsc::channel::<Asked>();
        let (tell, seen) = mpsc::channel();
        let answer = move || {
            for (folder, names) in asked {
                if tell.send(look(&folder, &names)).is_err() {
                    return;
                }
            }
        };
        thread("lstat", answer)?;
        Ok(Second { ask, seen })
    }

    /// What `lstat` says of files of a folder, in the order of their names.
    ///
    /// # Errors
    /// The thread is gone.
    pub(super) fn look(&self, folder: &Arc<OwnedFd>, mut names: Vec<Vec<u8>>) -> Result<Vec<Seen>> {
        if names.len() < WORTH_IT {
            return Ok(look(folder, &names));
        }
        let died = || Error::failed("a worker died");
        let others = names.split_off(names.len() / 2);
        self.ask.send((Arc::clone(folder), others)).map_err(|_| died())?;
        let mut seen = look(folder, &names);
        seen.extend(self.seen.recv().map_err(|_| died())?);
        Ok(seen)
    }
}
