//! A scan on a thread of its own: it finds files while those before them are looked at.

use std::vec::IntoIter;

use super::second::Second;
use super::{Scan, Scanned};
use crate::error::Result;
use crate::stream::channel::{Receiver, Sender, channel};
use crate::stream::workers::thread;

/// Files that are handed over at once.
const BATCH: usize = 256;
/// Batches that wait at most.
const DEPTH: usize = 4;

/// Files of a scan in its order, and what is to be noted of them. It ends after its first error.
pub struct Ahead {
    batches: Receiver<Batch>,
    files: IntoIter<Scanned>,
    notes: Vec<String>,
    has_ended: bool,
}

/// Files, and the notes of the scan up to the last of them.
struct Batch {
    files: Vec<Scanned>,
    notes: Vec<String>,
}

impl Scan {
    /// Begins it.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn ahead(mut self) -> Result<Ahead> {
        self.second = Some(Second::start()?);
        let (sender, batches) = channel(DEPTH);
        thread("scan", move || find(self, sender))?;
        Ok(Ahead { batches, files: Vec::new().into_iter(), notes: Vec::new(), has_ended: false })
    }
}

/// Finds all files, or as many as anybody takes.
fn find(mut scan: Scan, sender: Sender<Batch>) {
    let found = loop {
        let (mut files, mut failed) = (Vec::with_capacity(BATCH), None);
        for file in scan.by_ref().take(BATCH) {
            match file {
                Ok(file) => files.push(file),
                Err(error) => failed = Some(error),
            }
        }
        let is_last = files.len() < BATCH;
        let sent = sender.send_blocking(Batch { files, notes: scan.notes() });
        match failed {
            Some(error) => break Err(error),
            None if is_last || sent.is_err() => break sent,
            None => {}
        }
    };
    sender.finish_blocking(found);
}

impl Ahead {
    /// What is to be noted of what was found so far.
    pub fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    fn find_next(&mut self) -> Result<Option<Scanned>> {
        while !self.has_ended {
            if let Some(file) = self.files.next() {
                return Ok(Some(file));
            }
            match self.batches.recv_blocking()? {
                Some(batch) => (self.files, self.notes) = (batch.files.into_iter(), batch.notes),
                None => self.has_ended = true,
            }
        }
        Ok(None)
    }
}

impl Iterator for Ahead {
    type Item = Result<Scanned>;

    fn next(&mut self) -> Option<Result<Scanned>> {
        let next = self.find_next();
        self.has_ended |= next.is_err();
        next.transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::super::gnutar::tests::folder_with;
    use super::super::super::{Walk, roots};
    use super::*;
    use crate::host::mounts::Mounts;

    fn scan(top: &Path, names: &[&str]) -> Scan {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        Scan::new(&roots::plan(Some(top), &names, &Walk::default(), &Mounts::read()).unwrap()).unwrap()
    }

    /// What makes a folder `t` of so many files.
    fn files(count: usize) -> String {
        format!("mkdir t; cd t; seq {count} | xargs -r touch")
    }

    #[test]
    fn it_is_the_scan() {
        for count in [0, 1, BATCH - 2, BATCH - 1, BATCH, 3 * BATCH + 7] {
            let folder = folder_with(&files(count));
            std::os::unix::net::UnixListener::bind(folder.path().join("t/socket")).unwrap();
            let mut once = scan(folder.path(), &["t"]);
            let all: Vec<_> = once.by_ref().map(Result::unwrap).collect();
            assert_eq!(all.len(), count + 1);
            let mut ahead = scan(folder.path(), &["t"]).ahead().unwrap();
            assert_eq!(ahead.by_ref().map(Result::unwrap).collect::<Vec<_>>(), all);
            assert!(ahead.next().is_none());
            assert_eq!((ahead.notes(), ahead.notes().len()), (once.notes(), 1));
        }
    }

    #[test]
    fn an_error_comes_behind_what_was_found_before_it_and_ends_it() {
        let folder = folder_with("mkdir a b; touch a/1 a/2 b/1");
        let begun = scan(folder.path(), &["a", "b"]);
        std::fs::remove_dir_all(folder.path().join("b")).unwrap();
        let mut ahead = begun.ahead().unwrap();
        let found: Vec<_> = ahead.by_ref().take(3).map(|file| file.unwrap().name).collect();
        assert_eq!(found, [&b"a"[..], b"a/1", b"a/2"]);
        assert!(ahead.next().unwrap().unwrap_err().to_string().contains("cannot read b"));
        assert!(ahead.next().is_none());
    }

    #[test]
    fn whoever_takes_no_more_ends_it() {
        let folder = folder_with(&files((DEPTH + 3) * BATCH));
        let (sender, batches) = channel(1);
        let finds = scan(folder.path(), &["t"]);
        let thread = std::thread::spawn(move || find(finds, sender));
        drop(batches);
        thread.join().unwrap();
    }
}
