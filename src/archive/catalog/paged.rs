//! A catalog of format 2 by its pages: each is fetched alone, and confirmed by its keyed hash before it is looked at.

use std::ops::Range;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};

use super::line::parse_entry_lines;
use super::pages::{Holds, Index, LARGEST_INDEX, PageKey, PageRecord, TAIL_LEN, open_page, parse_lines};
use super::{ArchiveRecord, EndRecord, EntryLine, FrameRecord, Record, RefRecord, known_format};
use crate::archive::Id;
use crate::archive::openpgp::layout::{Layout, Span};
use crate::archive::openpgp::{Head, Opener};
use crate::archive::read_at::ReadAt;
use crate::error::{Error, Result};
use crate::tar::{Entry, name};

/// Bytes at the object's end that are fetched first: mostly the index is in them.
const FIRST_READ: u64 = 64 << 10;

/// A catalog whose index was read.
pub struct PagedCatalog {
    stored: Stored,
    archive: ArchiveRecord,
    refs: Vec<RefRecord>,
    end: EndRecord,
    pages: Vec<PageRecord>,
}

/// Where its bytes come from.
#[derive(Clone)]
struct Stored {
    object: Arc<dyn ReadAt>,
    layout: Option<Layout>,
    opener: Option<Opener>,
    key: PageKey,
}

impl Stored {
    /// A range of the compressed stream.
    async fn read(&self, data: Range<u64>) -> Result<Vec<u8>> {
        let span = match &self.layout {
            Some(layout) => layout.span(data),
            None => Span::clear(data),
        };
        let fetched = self.object.read_at(span.object.clone()).await?;
        let mut text = Vec::new();
        let data = span.open(&fetched, &mut text, self.opener.as_ref())?;
        text.truncate(data.end);
        Ok(text.split_off(data.start))
    }

    /// Bytes of the compressed stream.
    fn data_len(&self) -> u64 {
        self.layout.map_or(self.object.size(), |layout| layout.data)
    }

    /// What `parse` makes of the lines of a page; what was damaged on its way is whole the next time.
    ///
    /// To decompress and to parse takes longer than to fetch, so that has threads of its own.
    async fn opened<T: Send + 'static>(&self, page: PageRecord, parse: Parse<T>) -> Result<Vec<T>> {
        let end = page.at.checked_add(page.len).filter(|&end| end <= self.data_len());
        let range = page.at..end.ok_or_else(|| damaged("a page lies beyond its end"))?;
        let page = Arc::new(page);
        let mut is_last = false;
        loop {
            let stored = self.read(range.clone()).await?;
            let (own, page) = (self.clone(), Arc::clone(&page));
            let open = move || open_page(&own.key, page.at, &page.blake3, page.lines_len, &stored).map(parse);
            let opened = tokio::task::spawn_blocking(open).await;
            match opened.map_err(|e| Error::failed("a worker died").because(e))? {
                Ok(parsed) => return parsed,
                Err(error) if is_last => return Err(error),
                Err(_) => is_last = true,
            }
        }
    }
}

/// Makes records of the lines of a page.
type Parse<T> = fn(Vec<u8>) -> Result<Vec<T>>;

fn of_lines(lines: Vec<u8>) -> Result<Vec<Record>> {
    parse_lines(&lines)
}

fn damaged(what: &str) -> Error {
    Error::damaged(format!("the catalog is damaged: {what}"))
}

impl PagedCatalog {
    /// Reads the index and the first and last records of a catalog, which is none of another archive; none where it has no
    /// index, which is so with format 1.
    ///
    /// `head` is what opens it, none where nothing is encrypted.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::error::Kind::Damaged) where it is not what was sealed; whatever keeps it from being read.
    pub async fn open(
        object: Arc<dyn ReadAt>,
        head: Option<Head>,
        job: &str,
        id: &Id,
    ) -> Result<Option<PagedCatalog>> {
        let layout = match &head {
            Some(head) => match Layout::of_object(head.opener.cipher(), head.len, object.size()) {
                Some(layout) => Some(layout),
                None => return Ok(None),
            },
            None => None,
        };
        let key = PageKey::new(head.as_ref().map_or(&[][..], |head| &head.session), id.as_str());
        let stored = Stored { object, layout, opener: head.map(|head| head.opener), key };
        let Some(pages) = index(&stored).await? else { return Ok(None) };
        let (mut archive, mut refs, mut end) = (None, Vec::new(), None);
        for page in pages.iter().filter(|page| page.holds == Holds::Records) {
            for record in stored.opened(page.clone(), of_lines).await? {
                match record {
                    Record::Archive(record) => archive = Some(known_format(record)?),
                    Record::Ref(record) => refs.push(record),
                    Record::End(record) => end = Some(record),
                    _ => return Err(damaged("a page holds what it should not")),
                }
            }
        }
        let (archive, end) = archive.zip(end).ok_or_else(|| damaged("its index lacks its end"))?;
        if archive.id != *id || archive.job != job {
            return Err(Error::damaged(format!("this is the catalog of {}@{}", archive.job, archive.id)));
        }
        Ok(Some(PagedCatalog { stored, archive, refs, end, pages }))
    }

    /// What archive it is of.
    pub fn archive(&self) -> &ArchiveRecord {
        &self.archive
    }

    /// The older archives that hold bytes of its members.
    pub fn refs(&self) -> &[RefRecord] {
        &self.refs
    }

    /// How it ended.
    pub fn end(&self) -> &EndRecord {
        &self.end
    }

    /// The number of runs in path order that its members come in; none where they come in any order.
    pub fn runs(&self) -> Option<u32> {
        let mut runs = 0;
        for page in &self.pages {
            if let Holds::Entries { run, .. } = &page.holds {
                runs = runs.max((*run)? + 1);
            }
        }
        Some(runs)
    }

    /// Every member, in the order of the pages: of an increment first the new ones.
    ///
    /// # Errors
    /// Each item: as [`PagedCatalog::open`].
    pub fn entries(&self) -> impl Stream<Item = Result<Vec<Entry>>> + Send + use<> {
        self.entries_of(self.pages_that(|holds| matches!(holds, Holds::Entries { .. })))
    }

    /// The members of one run, in path order: all, or those of pages that may hold some that are looked for.
    ///
    /// # Errors
    /// Each item: as [`PagedCatalog::open`].
    pub fn run(&self, run: u32, near: Option<Near>) -> impl Stream<Item = Result<Vec<Entry>>> + Send + use<> {
        self.entries_of(self.entry_pages(near, |own| own == Some(run)))
    }

    /// The lines of the members of one run, in path order.
    ///
    /// # Errors
    /// Each item: as [`PagedCatalog::open`].
    pub fn run_lines(&self, run: u32) -> impl Stream<Item = Result<Vec<EntryLine>>> + Send + use<> {
        let pages = self.entry_pages(None, |own| own == Some(run));
        parsed(self.stored.clone(), pages, parse_entry_lines)
    }

    /// The members of pages that may hold some of those that are looked for.
    ///
    /// # Errors
    /// Each item: as [`PagedCatalog::open`].
    pub fn near(&self, names: Near) -> impl Stream<Item = Result<Vec<Entry>>> + Send + use<> {
        self.entries_of(self.entry_pages(Some(names), |_| true))
    }

    fn entry_pages(&self, near: Option<Near>, wanted: impl Fn(Option<u32>) -> bool) -> Vec<PageRecord> {
        let near = near.map(Near::in_order);
        let may_be_in = |first: &str, last: &str| {
            near.as_ref().is_none_or(|near| near.may_be_in(&name::parse(first), &name::parse(last)))
        };
        self.pages_that(|holds| match holds {
            Holds::Entries { run, first, last, .. } => wanted(*run) && may_be_in(first, last),
            _ => false,
        })
    }

    /// Frames of the archive `reference` that hold bytes of `ranges` of its source, and of others that lie beside them.
    ///
    /// # Errors
    /// As [`PagedCatalog::open`].
    pub async fn frames(&self, reference: u32, ranges: &[Range<u64>]) -> Result<Vec<FrameRecord>> {
        let pages = self.pages_that(|holds| match holds {
            Holds::Frames { reference: own, from, to } if *own == reference => {
                let first = ranges.partition_point(|range| range.end <= *from);
                ranges.get(first).is_some_and(|range| range.start < *to)
            }
            _ => false,
        });
        let mut frames = Vec::new();
        let mut read = std::pin::pin!(records(self.stored.clone(), pages));
        while let Some(page) = read.next().await {
            for record in page? {
                match record {
                    Record::Frame(frame) if frame.reference == reference => frames.push(frame),
                    _ => return Err(damaged("a page holds what it should not")),
                }
            }
        }
        Ok(frames)
    }

    /// The pages with records of frames of the archive `reference`, in the order of its source.
    pub fn frame_pages(&self, reference: u32) -> Vec<FramePage> {
        let pages = self.pages.iter().filter_map(|page| match page.holds {
            Holds::Frames { reference: own, to, .. } if own == reference => {
                Some(FramePage { page: page.clone(), end: to })
            }
            _ => None,
        });
        pages.collect()
    }

    /// The frames of a page.
    ///
    /// # Errors
    /// As [`PagedCatalog::open`].
    pub async fn frames_of(&self, page: &FramePage) -> Result<Vec<FrameRecord>> {
        let records = self.stored.opened(page.page.clone(), of_lines).await?;
        let frame = |record| match record {
            Record::Frame(frame) => Ok(frame),
            _ => Err(damaged("a page holds what it should not")),
        };
        records.into_iter().map(frame).collect()
    }

    fn pages_that(&self, wanted: impl Fn(&Holds) -> bool) -> Vec<PageRecord> {
        self.pages.iter().filter(|page| wanted(&page.holds)).cloned().collect()
    }

    fn entries_of(&self, pages: Vec<PageRecord>) -> impl Stream<Item = Result<Vec<Entry>>> + Send + use<> {
        records(self.stored.clone(), pages).map(|records| {
            let entry = |record| match record {
                Record::Entry(entry) => Ok(entry),
                _ => Err(damaged("a page holds what it should not")),
            };
            records?.into_iter().map(entry).collect()
        })
    }
}

/// A page with records of frames.
#[derive(Debug, Clone)]
pub struct FramePage {
    page: PageRecord,
    /// Where the last of them ends in the source.
    pub end: u64,
}

/// Names that are looked for; all are plain.
#[derive(Debug, Clone, Default)]
pub struct Near {
    /// These, and what is below them.
    pub below: Vec<Vec<u8>>,
    /// These alone.
    pub exact: Vec<Vec<u8>>,
}

impl Near {
    fn in_order(mut self) -> Near {
        self.exact.sort_by(|a, b| name::path_order(a, b));
        self
    }

    /// Whether a page of names from `first` to `last` in path order may hold one of them.
    fn may_be_in(&self, first: &[u8], last: &[u8]) -> bool {
        let next = self.exact.partition_point(|name| name::path_order(name, first).is_lt());
        self.exact.get(next).is_some_and(|name| name::path_order(name, last).is_le())
            || self.below.iter().any(|name| may_hold(first, last, name))
    }
}

/// Whether a page of names from `first` to `last` in path order may hold `name` or what is below it.
fn may_hold(first: &[u8], last: &[u8], name: &[u8]) -> bool {
    let below = |other: &[u8]| other.strip_prefix(name).is_some_and(|rest| rest.first() == Some(&b'/'));
    name.is_empty()
        || below(first)
        || (name::path_order(first, name).is_le() && name::path_order(name, last).is_le())
}

/// Pages on their way at once: fetched, confirmed, parsed.
const PARALLEL: usize = 3;

/// The records of pages, page by page.
fn records(stored: Stored, pages: Vec<PageRecord>) -> impl Stream<Item = Result<Vec<Record>>> + Send + use<> {
    parsed(stored, pages, of_lines)
}

/// What `parse` makes of the lines of pages, page by page.
fn parsed<T: Send + 'static>(
    stored: Stored,
    pages: Vec<PageRecord>,
    parse: Parse<T>,
) -> impl Stream<Item = Result<Vec<T>>> + Send + use<T> {
    futures_util::stream::iter(pages)
        .map(move |page| {
            let stored = stored.clone();
            async move { stored.opened(page, parse).await }
        })
        .buffered(PARALLEL)
}

/// The pages that the index names; none where there is no index.
async fn index(stored: &Stored) -> Result<Option<Vec<PageRecord>>> {
    let end = stored.data_len();
    if end < TAIL_LEN {
        return Ok(None);
    }
    let from = end.saturating_sub(FIRST_READ);
    for again in [false, true] {
        let last = stored.read(from..end).await?;
        let Some(index) = Index::from_tail(&last[last.len() - TAIL_LEN as usize..]) else { return Ok(None) };
        let index_end = index.at.checked_add(index.len).filter(|&at| at <= end && index.len <= LARGEST_INDEX);
        let range = index.at..index_end.ok_or_else(|| damaged("its index lies beyond its end"))?;
        let bytes = match index.at.checked_sub(from) {
            Some(at) => last[at as usize..][..index.len as usize].to_vec(),
            None => stored.read(range).await?,
        };
        if stored.key.hash(index.at, &bytes) != index.blake3 {
            match again {
                // What was damaged on its way is whole the next time.
                false => continue,
                true => return Err(damaged("its index is not what was sealed")),
            }
        }
        let lines = zstd::bulk::decompress(&bytes, LARGEST_INDEX as usize);
        let lines = lines.map_err(|e| damaged("its index is no zstd").because(e))?;
        let page = |record| match record {
            Record::Page(page) => Ok(page),
            _ => Err(damaged("its index holds what it should not")),
        };
        return parse_lines(&lines)?.into_iter().map(page).collect::<Result<Vec<_>>>().map(Some);
    }
    Ok(None)
}
