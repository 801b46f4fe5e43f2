//! The members of a catalog in path order, whichever run they are in.

use std::collections::VecDeque;
use std::vec;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::runtime::Handle;

use crate::archive::catalog::EntryLine;
use crate::archive::catalog::paged::{Near, PagedCatalog};
use crate::error::{Error, Result};
use crate::tar::{Entry, name};

/// Pages of members.
type Pages<T> = BoxStream<'static, Result<Vec<T>>>;

/// What stands for a member.
pub trait Named {
    /// The member's name, plain.
    fn plain_name(&self) -> Vec<u8>;
}

impl Named for Entry {
    fn plain_name(&self) -> Vec<u8> {
        match self.path_hex {
            None => name::plain(self.path.as_bytes()).to_vec(),
            Some(_) => name::plain(&self.name()).to_vec(),
        }
    }
}

impl Named for EntryLine {
    fn plain_name(&self) -> Vec<u8> {
        self.name.clone()
    }
}

/// Members that a thread waits for at once: each wait costs more than a member.
const AT_ONCE: usize = 256;

/// The runs of a catalog as one. Of each, a few pages are in memory.
pub struct Members<T = Entry> {
    runs: Vec<Run<T>>,
    /// The next ones, where a thread takes them.
    ready: VecDeque<T>,
    /// What comes behind those.
    failed: Option<Error>,
}

/// A run, and its member at hand.
struct Run<T> {
    pages: Pages<T>,
    page: vec::IntoIter<T>,
    next: Option<(Vec<u8>, T)>,
    began: bool,
}

impl<T: Named> Run<T> {
    /// Goes to its next member, and gives the one at hand.
    async fn advance(&mut self) -> Result<Option<T>> {
        let before = self.next.take();
        let next = loop {
            if let Some(next) = self.page.next() {
                break next;
            }
            match self.pages.next().await {
                Some(page) => self.page = page?.into_iter(),
                None => return Ok(before.map(|(_, member)| member)),
            }
        };
        let name = next.plain_name();
        if before.as_ref().is_some_and(|(before, _)| name::path_order(before, &name).is_ge()) {
            return Err(Error::damaged("the catalog is damaged: its members are not in order"));
        }
        self.next = Some((name, next));
        Ok(before.map(|(_, member)| member))
    }
}

impl Members {
    /// All members of a catalog; none where they come in any order.
    pub fn of(catalog: &PagedCatalog) -> Option<Members> {
        Members::near(catalog, None)
    }

    /// Members that may be some of those that are looked for, or all; none where they come in any order.
    pub fn near(catalog: &PagedCatalog, names: Option<Near>) -> Option<Members> {
        let runs = catalog.runs()?;
        Some(Members::new((0..runs).map(|run| catalog.run(run, names.clone()).boxed())))
    }
}

impl Members<EntryLine> {
    /// The lines of all members of a catalog; none where they come in any order.
    pub fn lines_of(catalog: &PagedCatalog) -> Option<Members<EntryLine>> {
        let runs = catalog.runs()?;
        Some(Members::new((0..runs).map(|run| catalog.run_lines(run).boxed())))
    }
}

impl<T: Named> Members<T> {
    fn new(runs: impl Iterator<Item = Pages<T>>) -> Members<T> {
        let run = |pages| Run { pages, page: Vec::new().into_iter(), next: None, began: false };
        Members { runs: runs.map(run).collect(), ready: VecDeque::new(), failed: None }
    }

    /// [`Members::next`] from a thread; one takes all of them, or none.
    ///
    /// # Errors
    /// As [`Members::next`].
    pub fn next_blocking(&mut self, runtime: &Handle) -> Result<Option<T>> {
        if self.ready.is_empty() && self.failed.is_none() {
            runtime.block_on(self.get_ready());
        }
        match self.ready.pop_front() {
            Some(member) => Ok(Some(member)),
            None => self.failed.take().map_or(Ok(None), Err),
        }
    }

    async fn get_ready(&mut self) {
        while self.ready.len() < AT_ONCE {
            match self.next().await {
                Ok(Some(member)) => self.ready.push_back(member),
                Ok(None) => return,
                Err(error) => {
                    self.failed = Some(error);
                    return;
                }
            }
        }
    }

    /// The next one; none at the end.
    ///
    /// # Errors
    /// A page cannot be read or is not what was sealed; a run is in no order.
    pub async fn next(&mut self) -> Result<Option<T>> {
        for run in self.runs.iter_mut().filter(|run| !run.began) {
            run.began = true;
            run.advance().await?;
        }
        // There are two or three.
        let with_next = self.runs.iter_mut().filter(|run| run.next.is_some());
        let first = with_next.min_by(|a, b| match (&a.next, &b.next) {
            (Some((a, _)), Some((b, _))) => name::path_order(a, b),
            _ => std::cmp::Ordering::Equal,
        });
        match first {
            Some(run) => run.advance().await,
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn entry(path: &str) -> Entry {
        let json = serde_json::json!({
            "path": path, "type": "file", "mode": 0o644, "uid": 1, "gid": 2, "mtime": "0", "size": 3,
            "at": 0, "len": 1024,
        });
        serde_json::from_value(json).unwrap()
    }

    /// A run of pages; a page's names have blanks between them.
    fn run(pages: &[&str]) -> Pages<Entry> {
        let page = |names: &&str| Ok(names.split_whitespace().map(entry).collect());
        stream::iter(pages.iter().map(page).collect::<Vec<_>>()).boxed()
    }

    async fn merged(runs: Vec<Pages<Entry>>) -> Result<String> {
        let mut members = Members::new(runs.into_iter());
        let mut names = Vec::new();
        while let Some(entry) = members.next().await? {
            names.push(entry.path);
        }
        Ok(names.join(" "))
    }

    #[tokio::test]
    async fn runs_become_one_in_path_order() {
        let runs = vec![run(&["a/ a/b", "", "c z"]), run(&["a-b", "b"]), run(&[]), run(&["a/b/c"])];
        assert_eq!(merged(runs).await.unwrap(), "a/ a/b a/b/c a-b b c z");
        assert_eq!(merged(vec![]).await.unwrap(), "");
    }

    #[tokio::test]
    async fn what_is_in_no_order_or_cannot_be_read_is_an_error() {
        for pages in [["b a", ""], ["a", "a"], ["a-", "a/"]] {
            assert!(merged(vec![run(&["0"]), run(&pages)]).await.is_err(), "{pages:?}");
        }
        let failing = stream::iter([Ok(vec![entry("a")]), Err(Error::damaged("a page"))]).boxed();
        assert!(merged(vec![failing]).await.is_err());
    }

    #[test]
    fn a_thread_gets_all_members_and_those_before_damage_first() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let all: Vec<_> = (1000..1003 + 2 * AT_ONCE).map(|n| n.to_string()).collect();
        for is_damaged in [false, true] {
            let page = Ok(all.iter().map(|name| entry(name)).collect());
            let damage = is_damaged.then(|| Err(Error::damaged("a page")));
            let pages = stream::iter([page].into_iter().chain(damage)).boxed();
            let mut members = Members::new([pages].into_iter());
            let mut next = || members.next_blocking(runtime.handle());
            let found = std::iter::from_fn(|| next().ok().flatten().map(|entry| entry.path));
            // A member is handed out when it is known what comes behind it.
            let known = all.len() - usize::from(is_damaged);
            assert_eq!(found.collect::<Vec<_>>(), all[..known]);
        }
    }
}
