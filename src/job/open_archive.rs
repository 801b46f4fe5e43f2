//! An archive that is open, with the older ones that members of it lie in, however large its catalog is: where that has an
//! index, it is read page by page.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use futures_util::future::Either;
use futures_util::{Stream, StreamExt, TryStreamExt};
use secrecy::SecretString;

use super::stored::StoredArchive;
use crate::archive::Id;
use crate::archive::catalog::paged::{FramePage, Near, PagedCatalog};
use crate::archive::catalog::{ArchiveRecord, EndRecord, RefRecord};
use crate::archive::contents::Contents;
use crate::archive::open::{Archive, Opened, open_needed_head};
use crate::archive::openpgp::Head;
use crate::archive::read_at::once_more_if_damaged;
use crate::error::{Error, Result};
use crate::store::download::Object;
use crate::tar::{Entry, name};

/// Older archives that are opened at once.
const OPENED_AT_ONCE: usize = 8;
/// Pages of frame records that are fetched ahead.
const PAGES_AHEAD: usize = 2;
/// Members that an error names.
const NAMED: usize = 10;

/// An archive that is open.
pub(super) struct OpenArchive {
    found: StoredArchive,
    own: Arc<Archive>,
    catalog: Catalog,
    older: BTreeMap<u32, Arc<Archive>>,
}

/// How its catalog is read.
enum Catalog {
    Pages(Box<PagedCatalog>),
    /// From its front to its end, each time.
    Stream(Box<Object>, Option<Head>),
}

/// An older archive that is gone, or is not what it was.
pub(super) struct Lost {
    /// By which number the catalog has it.
    pub(super) reference: u32,
    /// What is known of it.
    pub(super) error: Error,
}

impl OpenArchive {
    /// Opens an archive, and looks at none of its members.
    ///
    /// # Errors
    /// As [`StoredArchive::open`].
    pub(super) async fn open(
        found: &StoredArchive,
        passphrase: Option<&SecretString>,
    ) -> Result<OpenArchive> {
        Self::look(found, passphrase, |_| Some(Near::default()), |_| {}).await
    }

    /// Opens an archive, and looks at its members for the first time: at those that `near` says are wanted of this catalog,
    /// or at all of them. Others may be shown to `each`, too. What it was shown is confirmed when this returns.
    ///
    /// # Errors
    /// As [`StoredArchive::open`].
    pub(super) async fn look(
        found: &StoredArchive,
        passphrase: Option<&SecretString>,
        near: impl FnOnce(&PagedCatalog) -> Option<Near>,
        each: impl FnMut(&Entry),
    ) -> Result<OpenArchive> {
        let (archive, catalog) = (found.archive_object().await?, found.catalog_object().await?);
        let heads = match passphrase {
            Some(passphrase) => Some(found.heads(&archive, &catalog, passphrase).await?),
            None => None,
        };
        let (of_archive, of_catalog) = heads.unzip();
        let object = Arc::new(catalog.clone());
        let (contents, catalog) =
            match PagedCatalog::open(object, of_catalog.clone(), &found.job, &found.id).await? {
                Some(pages) => {
                    show(&pages, near(&pages), each).await?;
                    (Contents::of_pages(&pages)?, Catalog::Pages(Box::new(pages)))
                }
                None => {
                    let contents = found.contents(&catalog, of_catalog.clone(), each).await?;
                    (contents, Catalog::Stream(Box::new(catalog), of_catalog))
                }
            };
        let own = Arc::new(Archive::open(Arc::new(archive), contents, of_archive)?);
        Ok(OpenArchive { found: found.clone(), own, catalog, older: BTreeMap::new() })
    }

    /// Looks at its members once more.
    ///
    /// # Errors
    /// As [`OpenArchive::look`].
    pub(super) async fn look_again(
        &self,
        near: impl FnOnce(&PagedCatalog) -> Option<Near>,
        each: impl FnMut(&Entry),
    ) -> Result<()> {
        match &self.catalog {
            Catalog::Pages(pages) => show(pages, near(pages), each).await,
            Catalog::Stream(object, head) => self.found.contents(object, head.clone(), each).await.map(drop),
        }
    }

    /// What archive it is.
    pub(super) fn record(&self) -> &ArchiveRecord {
        &self.own.contents().archive
    }

    /// How it ended.
    pub(super) fn end(&self) -> &EndRecord {
        &self.own.contents().end
    }

    /// The older archives that members of it lie in, oldest first.
    pub(super) fn refs(&self) -> impl Iterator<Item = &RefRecord> {
        self.own.contents().needs.iter().map(|needed| &needed.archive)
    }

    /// Its catalog by pages; none where it has no index.
    pub(super) fn pages(&self) -> Option<&PagedCatalog> {
        match &self.catalog {
            Catalog::Pages(pages) => Some(pages),
            Catalog::Stream(..) => None,
        }
    }

    /// Its own object.
    pub(super) fn own(&self) -> &Arc<Archive> {
        &self.own
    }

    /// Opens older archives, and tells which of them are lost.
    ///
    /// # Errors
    /// The store does not answer; there is none of that number.
    pub(super) async fn open_older(&mut self, references: BTreeSet<u32>) -> Result<Vec<Lost>> {
        let wanted: Vec<_> = references.into_iter().filter(|reference| *reference > 0).collect();
        let opening = wanted.into_iter().map(|reference| {
            let record = self.refs().find(|record| record.n == reference).cloned();
            let (found, own) = (&self.found, Arc::clone(&self.own));
            async move {
                let record = record.ok_or_else(unknown)?;
                match once_more_if_damaged(|| open_older(found, &own, &record)).await {
                    Err(error) if error.is_of_one_archive() => Ok((reference, Err(error))),
                    opened => Ok((reference, Ok(opened?))),
                }
            }
        });
        let opening: Vec<_> = opening.collect();
        let opened = futures_util::stream::iter(opening).buffered(OPENED_AT_ONCE);
        let mut lost = Vec::new();
        for (reference, opened) in opened.try_collect::<Vec<_>>().await? {
            match opened {
                Ok(archive) => drop(self.older.insert(reference, Arc::new(archive))),
                Err(error) => lost.push(Lost { reference, error }),
            }
        }
        Ok(lost)
    }

    /// One of its archives, which was opened.
    ///
    /// # Errors
    /// It was not.
    pub(super) fn archive(&self, reference: u32) -> Result<&Arc<Archive>> {
        match reference {
            0 => Ok(&self.own),
            older => self.older.get(&older).ok_or_else(unknown),
        }
    }

    /// Bytes of source in each frame of one of its archives but the last.
    pub(super) fn frame_len(&self, reference: u32) -> u64 {
        let older = self.refs().find(|record| record.n == reference);
        older.map_or(self.record().frame_len, |record| record.frame_len).max(1)
    }

    /// The name of one of its archives.
    pub(super) fn name_of(&self, reference: u32) -> String {
        match self.refs().find(|record| record.n == reference) {
            Some(record) => format!("{}@{}", self.found.job, record.id),
            None => self.found.name(),
        }
    }

    /// The ids of its archives, by their numbers.
    pub(super) fn ids(&self) -> BTreeMap<u32, Id> {
        let older = self.refs().map(|record| (record.n, record.id.clone()));
        std::iter::once((0, self.found.id.clone())).chain(older).collect()
    }

    /// The frames that hold ranges of one of its archives, `parallel` batches at once.
    ///
    /// # Errors
    /// Each item: as [`Archive::frames`].
    pub(super) fn frames<'a>(
        &'a self,
        reference: u32,
        ranges: &'a [Range<u64>],
        parallel: usize,
    ) -> Result<impl Stream<Item = Result<Opened>> + use<'a>> {
        let archive = self.archive(reference)?;
        let Catalog::Pages(pages) = &self.catalog else {
            return Ok(Either::Left(archive.frames(ranges, parallel)));
        };
        let windows = windows(pages.frame_pages(reference), ranges);
        let loaded = futures_util::stream::iter(windows).map(move |window| async move {
            let (page, ranges) = window?;
            let archive = archive.with_frames(pages.frames_of(&page).await?)?;
            Ok(Arc::new(archive).frames(&ranges, parallel))
        });
        Ok(Either::Right(loaded.buffered(PAGES_AHEAD).try_flatten()))
    }

    /// Which members lie in places that are lost, of those that `wanted` takes: how many, and how the first are called.
    ///
    /// # Errors
    /// As [`OpenArchive::look`].
    pub(super) async fn members_in(&self, lost: impl Fn(&Entry) -> bool) -> Result<Named> {
        let mut named = Named::default();
        self.look_again(
            |_| None,
            |entry| {
                if lost(entry) {
                    named.count += 1;
                    if named.first.len() < NAMED {
                        named.first.push(name::shown(&entry.name()));
                    }
                }
            },
        )
        .await?;
        Ok(named)
    }
}

/// Members that are named in an error.
#[derive(Debug, Default)]
pub(super) struct Named {
    pub(super) count: u64,
    first: Vec<String>,
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.first.join(", "))?;
        match self.count - self.first.len() as u64 {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

fn unknown() -> Error {
    Error::damaged("the catalog is damaged: a member lies in an archive that it does not name")
}

async fn show(pages: &PagedCatalog, near: Option<Near>, mut each: impl FnMut(&Entry)) -> Result<()> {
    let entries = match near {
        Some(names) => Either::Left(pages.near(names)),
        None => Either::Right(pages.entries()),
    };
    let mut entries = std::pin::pin!(entries);
    while let Some(page) = entries.next().await {
        page?.iter().for_each(&mut each);
    }
    Ok(())
}

async fn open_older(found: &StoredArchive, own: &Archive, record: &RefRecord) -> Result<Archive> {
    let object = Object::open(&found.store, found.store.key(&found.job, &record.id, &record.suffix)).await?;
    if object.size != record.stored_bytes {
        let (key, size, sealed) = (object.key(), object.size, record.stored_bytes);
        return Err(Error::damaged(format!("{key} has {size} bytes where {sealed} were sealed")));
    }
    let head = open_needed_head(&object, record).await?;
    own.needed(record.n, Arc::new(object), head)
}

/// What of `ranges` each page has the frames of.
fn windows(
    pages: Vec<FramePage>,
    ranges: &[Range<u64>],
) -> impl Iterator<Item = Result<(FramePage, Vec<Range<u64>>)>> {
    let known = pages.last().map_or(0, |page| page.end);
    let missing = ranges
        .last()
        .filter(|range| range.end > known)
        .map(|_| Err(Error::damaged("the catalog is damaged: it lacks frames of members that it has")));
    let mut from = 0;
    let of_pages = pages.into_iter().filter_map(move |page| {
        let here = clipped(ranges, from..page.end);
        from = page.end;
        (!here.is_empty()).then_some(Ok((page, here)))
    });
    missing.into_iter().chain(of_pages)
}

/// What of `ranges` lies in `window`.
fn clipped(ranges: &[Range<u64>], window: Range<u64>) -> Vec<Range<u64>> {
    let first = ranges.partition_point(|range| range.end <= window.start);
    let here = ranges[first..].iter().take_while(|range| range.start < window.end);
    here.map(|range| range.start.max(window.start)..range.end.min(window.end)).collect()
}
