//! The members of a catalog in path order, whichever run they are in.

use std::vec;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use crate::archive::catalog::paged::{Near, PagedCatalog};
use crate::error::{Error, Result};
use crate::tar::{Entry, name};

/// Pages of members.
type Pages = BoxStream<'static, Result<Vec<Entry>>>;

/// The runs of a catalog as one. Of each, a few pages are in memory.
pub struct Members {
    runs: Vec<Run>,
}

/// A run, and its member at hand.
struct Run {
    pages: Pages,
    page: vec::IntoIter<Entry>,
    next: Option<(Vec<u8>, Entry)>,
    began: bool,
}

impl Run {
    /// Goes to its next member.
    async fn advance(&mut self) -> Result<()> {
        let before = self.next.take();
        let entry = loop {
            if let Some(entry) = self.page.next() {
                break entry;
            }
            match self.pages.next().await {
                Some(page) => self.page = page?.into_iter(),
                None => return Ok(()),
            }
        };
        let name = name::plain(&entry.name()).to_vec();
        if before.is_some_and(|(before, _)| name::path_order(&before, &name).is_ge()) {
            return Err(Error::damaged("the catalog is damaged: its members are not in order"));
        }
        self.next = Some((name, entry));
        Ok(())
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

    fn new(runs: impl Iterator<Item = Pages>) -> Members {
        let run = |pages| Run { pages, page: Vec::new().into_iter(), next: None, began: false };
        Members { runs: runs.map(run).collect() }
    }

    /// The next one; none at the end.
    ///
    /// # Errors
    /// A page cannot be read or is not what was sealed; a run is in no order.
    pub async fn next(&mut self) -> Result<Option<Entry>> {
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
        let Some(run) = first else { return Ok(None) };
        let entry = run.next.as_ref().map(|(_, entry)| entry.clone());
        run.advance().await?;
        Ok(entry)
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
    fn run(pages: &[&str]) -> Pages {
        let page = |names: &&str| Ok(names.split_whitespace().map(entry).collect());
        stream::iter(pages.iter().map(page).collect::<Vec<_>>()).boxed()
    }

    async fn merged(runs: Vec<Pages>) -> Result<String> {
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
}
