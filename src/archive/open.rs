//! Opening: from the stored bytes of catalog and archive back to the source's bytes. Nothing is handed on that the
//! sealed catalog does not confirm.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use secrecy::SecretString;

use super::Id;
use super::catalog::{FrameRecord, RefRecord};
use super::contents::{Contents, check_frames, wrong};
use super::frame::{Codec, FrameKey, decompress};
use super::openpgp::layout::{Layout, Span};
use super::openpgp::{HEAD_LEN, Head, Opener};
use super::read_at::{ReadAt, once_more_if_damaged};
use crate::error::{Error, Result};
use crate::stream::pool::Pool;

/// Bytes of stored frames fetched in one request, about.
const SPAN_STORED: u64 = 8 << 20;
/// Bytes of source in one span, at most, unless a single frame has more.
const SPAN_PLAIN: u64 = 16 << 20;

/// An archive whose frames can be read.
pub struct Archive {
    object: Arc<dyn ReadAt>,
    contents: Arc<Contents>,
    /// Which of the archives that the contents name it is.
    reference: u32,
    /// Its frames, where the contents have none.
    window: Option<Vec<FrameRecord>>,
    codec: Codec,
    head_len: u64,
    /// Bytes of the compressed stream.
    data_len: u64,
    key: FrameKey,
    /// What decrypts it; none without encryption.
    opener: Option<Opener>,
    /// Buffers that were used before: fresh memory costs as much as reading into it. As many as are in flight, no limit
    /// of their own.
    plains: Pool<Vec<u8>>,
    texts: Pool<Vec<u8>>,
}

/// Consecutive frames that are fetched together.
struct Batch {
    frames: Range<usize>,
    span: Span,
}

/// What one batch gave.
pub struct Opened {
    /// The range of the object that was fetched.
    pub object: Range<u64>,
    /// Those bytes.
    pub fetched: Bytes,
    /// Its frames, in order: where each begins in the source, and its bytes.
    pub frames: Vec<(u64, Bytes)>,
}

impl Archive {
    /// Opens the archive object with what the catalog says of it.
    ///
    /// `contents` come from [`read_catalog`](super::contents::read_catalog), which has confirmed them; `head` comes from [`open_head`] of the same object,
    /// and is none where nothing is encrypted. Nothing is read here. Later, [`Archive::frames`] gives only frames whose
    /// keyed hash the catalog confirms, so that any range may be acted on before the rest has been read.
    ///
    /// # Errors
    /// [`Kind::Usage`](crate::error::Kind::Usage) when it is encrypted and `head` is none.
    /// [`Kind::Damaged`](crate::error::Kind::Damaged) when it is not the object that was sealed: the passphrase is known to
    /// be right by now.
    ///
    /// # Examples
    /// ```
    /// use std::sync::Arc;
    ///
    /// use futures_util::TryStreamExt;
    /// use sealift::archive::Id;
    /// use sealift::archive::contents::read_catalog;
    /// use sealift::archive::open::{Archive, open_head};
    /// use sealift::archive::read_at::InMemory;
    ///
    /// /// The last 100 bytes of what was sealed.
    /// async fn tail(
    ///     archive: Vec<u8>,
    ///     catalog: Vec<u8>,
    ///     job: &str,
    ///     id: &Id,
    ///     passphrase: &secrecy::SecretString,
    /// ) -> sealift::error::Result<Vec<u8>> {
    ///     let (archive, catalog) = (InMemory::new("archive", archive), InMemory::new("catalog", catalog));
    ///     let (of_archive, of_catalog) =
    ///         tokio::try_join!(open_head(&archive, passphrase), open_head(&catalog, passphrase))?;
    ///     let contents = read_catalog(catalog.bytes(), Some(&of_catalog), job, id, |_| {})?;
    ///     let end = contents.end.bytes;
    ///     let archive = Arc::new(Archive::open(Arc::new(archive), contents, Some(of_archive))?);
    ///     let ranges = [end.saturating_sub(100)..end];
    ///     let opened: Vec<_> = archive.frames(&ranges, 2).try_collect().await?;
    ///     Ok(opened.iter().flat_map(|opened| opened.pieces(&ranges)).collect::<Vec<_>>().concat())
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let id: Id = "20261122T020000Z-1f2e3d4c".parse().unwrap();
    /// let foreign = tail(b"no archive".to_vec(), Vec::new(), "db", &id, &"secret".to_string().into()).await;
    /// assert_eq!(foreign.unwrap_err().kind(), sealift::error::Kind::Damaged);
    /// # }
    /// ```
    pub fn open(object: Arc<dyn ReadAt>, contents: Contents, head: Option<Head>) -> Result<Self> {
        let head = match (contents.archive.cipher, head) {
            (None, None) => None,
            (None, Some(_)) => {
                return Err(Error::damaged("the catalog is sealed, but says that the archive is not"));
            }
            (Some(_), None) => return Err(Error::usage("this archive needs its passphrase")),
            (Some(cipher), Some(head)) => {
                if head.len != contents.archive.head_len || head.opener.cipher() != cipher {
                    return Err(Error::damaged("the archive's first packet is not the one that was sealed"));
                }
                Some(head)
            }
        };
        let (own, stored_bytes) = (&contents.archive, contents.end.stored_bytes);
        let data_len = match (contents.frames.last(), &head) {
            (Some(frame), _) => frame.stored_at + frame.stored_len,
            // The catalog is read by its pages: what the object's length says is held against them later.
            (None, Some(head)) => Layout::of_object(head.opener.cipher(), head.len, stored_bytes)
                .map_or(0, |layout| layout.data),
            (None, None) => stored_bytes,
        };
        let parts = (own.id.clone(), own.codec, own.head_len, data_len, stored_bytes);
        Self::with(object, Arc::new(contents), 0, head, parts)
    }

    /// Opens the object of an older archive that this one needs; `head` comes from [`open_needed_head`] of that object.
    ///
    /// # Errors
    /// As [`Archive::open`]; there is none of that number.
    pub fn needed(&self, reference: u32, object: Arc<dyn ReadAt>, head: Option<Head>) -> Result<Self> {
        let needed = reference.checked_sub(1).and_then(|at| self.contents.needs.get(at as usize));
        let older = &needed.ok_or_else(|| wrong("a member lies in no archive"))?.archive;
        let known = head.as_ref().map(|head| (head.opener.cipher(), head.len));
        if known != older.cipher.map(|cipher| (cipher, older.head_len)) {
            return Err(Error::damaged("the archive's first packet is not the one that was sealed"));
        }
        let parts = (older.id.clone(), older.codec, older.head_len, older.data_len, older.stored_bytes);
        Self::with(object, Arc::clone(&self.contents), reference, head, parts)
    }

    fn with(
        object: Arc<dyn ReadAt>,
        contents: Arc<Contents>,
        reference: u32,
        head: Option<Head>,
        (id, codec, head_len, data_len, stored_bytes): (Id, Codec, u64, u64, u64),
    ) -> Result<Self> {
        let session = head.as_ref().map_or(&[][..], |head| &head.session);
        let key = FrameKey::new(session, id.as_str());
        let opener = head.map(|head| head.opener);
        let [plains, texts] = std::array::from_fn(|_| Pool::new(usize::MAX, Vec::new));
        let window = None;
        let archive = Archive {
            object,
            contents,
            reference,
            window,
            codec,
            head_len,
            data_len,
            key,
            opener,
            plains,
            texts,
        };
        let expected = archive.layout().map_or(data_len, |layout| layout.object());
        let size = archive.object.size();
        if size != stored_bytes || size != expected {
            return Err(Error::damaged(format!(
                "{} has {size} bytes where {stored_bytes} were sealed",
                archive.object.name()
            )));
        }
        Ok(archive)
    }

    /// Its frames, as far as they are known.
    fn table(&self) -> &[FrameRecord] {
        self.window.as_deref().unwrap_or_else(|| self.contents.frames_of(self.reference))
    }

    /// The same archive, of which these frames are known.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::error::Kind::Damaged) where they cannot be its frames.
    pub fn with_frames(&self, frames: Vec<FrameRecord>) -> Result<Archive> {
        check_frames(&frames, self.data_len)?;
        let [plains, texts] = std::array::from_fn(|_| Pool::new(usize::MAX, Vec::new));
        Ok(Archive {
            object: Arc::clone(&self.object),
            contents: Arc::clone(&self.contents),
            window: Some(frames),
            key: self.key.clone(),
            opener: self.opener.clone(),
            plains,
            texts,
            ..*self
        })
    }

    /// What the catalog says.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// What its frames are read from.
    pub fn object(&self) -> &dyn ReadAt {
        self.object.as_ref()
    }

    fn layout(&self) -> Option<Layout> {
        let (head, data) = (self.head_len, self.data_len);
        self.opener.as_ref().map(|opener| Layout { cipher: opener.cipher(), head, data })
    }

    /// The frames that hold `ranges` of the source, in order, `parallel` batches at once on as many cores.
    ///
    /// # Errors
    /// Each item: what keeps the object from being read; [`Kind::Damaged`](crate::error::Kind::Damaged) where a frame is not
    /// the one that was sealed. Nothing of such a batch is given.
    pub fn frames(
        self: &Arc<Self>,
        ranges: &[Range<u64>],
        parallel: usize,
    ) -> impl Stream<Item = Result<Opened>> + use<> {
        let archive = Arc::clone(self);
        let missing = ranges.iter().find(|range| !self.covers(range)).map(|range| {
            let (from, to) = (range.start, range.end);
            Err(wrong(&format!("it lacks frames of {} (source bytes {from}..{to})", self.object.name())))
        });
        let runs = if missing.is_some() { VecDeque::new() } else { self.runs(ranges).into() };
        let batches = Batches { archive: Arc::clone(self), runs };
        let opened = futures_util::stream::iter(batches)
            .map(move |batch| {
                let archive = Arc::clone(&archive);
                async move {
                    let batch = Arc::new(batch);
                    once_more_if_damaged(|| archive.fetch(&batch)).await
                }
            })
            .buffered(parallel);
        futures_util::stream::iter(missing).chain(opened)
    }

    /// Whether all bytes of a range lie in known frames.
    fn covers(&self, range: &Range<u64>) -> bool {
        let frames = self.table();
        let first = frames.partition_point(|frame| frame.at + frame.len <= range.start);
        let mut at = range.start;
        for frame in frames[first..].iter().take_while(|frame| frame.at < range.end) {
            if frame.at > at {
                return false;
            }
            at = frame.at + frame.len;
        }
        at >= range.end
    }

    async fn fetch(self: &Arc<Self>, batch: &Arc<Batch>) -> Result<Opened> {
        let fetched = self.object.read_at(batch.span.object.clone()).await?;
        let (archive, batch) = (Arc::clone(self), Arc::clone(batch));
        let open = tokio::task::spawn_blocking(move || archive.open_batch(&batch, fetched));
        open.await.map_err(|e| Error::failed("a worker died").because(e))?
    }

    /// The whole source as a range.
    pub fn whole(&self) -> Vec<Range<u64>> {
        std::iter::once(0..self.contents.end.bytes).collect()
    }

    /// Runs of consecutive frames that hold `ranges`, which are in order.
    fn runs(&self, ranges: &[Range<u64>]) -> Vec<Range<usize>> {
        let frames = self.table();
        let mut runs: Vec<Range<usize>> = Vec::new();
        for range in ranges {
            let first = frames.partition_point(|frame| frame.at + frame.len <= range.start);
            let end = frames.partition_point(|frame| frame.at < range.end);
            match runs.last_mut() {
                Some(last) if first <= last.end => last.end = last.end.max(end),
                _ if first < end => runs.push(first..end),
                _ => {}
            }
        }
        runs
    }

    fn open_batch(&self, batch: &Batch, fetched: Bytes) -> Result<Opened> {
        let mut text = self.texts.get();
        let data = batch.span.open(&fetched, &mut text, self.opener.as_ref())?;
        let data = &text[data];
        let frames = &self.table()[batch.frames.clone()];
        let first = frames.first().map_or(0, |frame| frame.stored_at);
        let opened = frames.iter().map(|frame| {
            let start = (frame.stored_at - first) as usize;
            let stored = data.get(start..start + frame.stored_len as usize).unwrap_or_default();
            self.open_frame(frame, stored).map(|plain| (frame.at, plain))
        });
        Ok(Opened { frames: opened.collect::<Result<_>>()?, object: batch.span.object.clone(), fetched })
    }

    /// One frame: first its keyed hash, then what is in it.
    fn open_frame(&self, frame: &FrameRecord, stored: &[u8]) -> Result<Bytes> {
        if self.key.hash(frame.n, frame.at, frame.len, [stored]) != frame.blake3 {
            return Err(Error::damaged(format!(
                "frame {} of {} is not what was sealed (source bytes {}..{})",
                frame.n,
                self.object.name(),
                frame.at,
                frame.at + frame.len
            )));
        }
        let mut plain = self.plains.get();
        decompress(self.codec, stored, frame.len as usize, &mut plain)?;
        Ok(Bytes::from_owner(plain))
    }
}

impl Opened {
    /// What of its frames lies in `ranges`, in order.
    pub fn pieces(&self, ranges: &[Range<u64>]) -> Vec<Bytes> {
        let mut pieces = Vec::new();
        for (at, plain) in &self.frames {
            let end = at + plain.len() as u64;
            let first = ranges.partition_point(|range| range.end <= *at);
            for range in ranges[first..].iter().take_while(|range| range.start < end) {
                let (from, to) = (range.start.max(*at) - at, range.end.min(end) - at);
                pieces.push(plain.slice(from as usize..to as usize));
            }
        }
        pieces
    }
}

/// Cuts runs of frames into batches worth a request.
struct Batches {
    archive: Arc<Archive>,
    runs: VecDeque<Range<usize>>,
}

impl Iterator for Batches {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        let run = self.runs.front_mut()?;
        let frames = &self.archive.table()[..run.end];
        let first = &frames[run.start];
        let (mut stored, mut plain) = (0, 0);
        let fitting = frames[run.start..].iter().take_while(|frame| {
            // Of an older archive not all frames are known.
            let follows = frame.stored_at == first.stored_at + stored;
            stored += frame.stored_len;
            plain += frame.len;
            follows && stored <= SPAN_STORED && plain <= SPAN_PLAIN
        });
        let range = run.start..run.start + fitting.count().max(1);
        let last = &frames[range.end - 1];
        let data = first.stored_at..last.stored_at + last.stored_len;
        run.start = range.end;
        if run.start == run.end {
            self.runs.pop_front();
        }
        let span = match self.archive.layout() {
            Some(layout) => layout.span(data),
            None => Span::clear(data),
        };
        Some(Batch { frames: range, span })
    }
}

/// Opens the beginning of an object.
///
/// # Errors
/// As [`Head::open`], and whatever keeps the object from being read.
pub async fn open_head(object: &dyn ReadAt, passphrase: &SecretString) -> Result<Head> {
    let head = object.read_at(0..HEAD_LEN.min(object.size())).await?;
    let passphrase = passphrase.clone();
    // The S2K takes a tenth of a second of one core.
    let opened = tokio::task::spawn_blocking(move || Head::open(&head, &passphrase)).await;
    opened.map_err(|e| Error::failed("a worker died").because(e))?
}

/// Opens the beginning of the object of an older archive, by what the catalog has for it; none where it is in the clear.
///
/// # Errors
/// [`Kind::Damaged`](crate::error::Kind::Damaged) when it is not that archive; whatever keeps the object from being read.
pub async fn open_needed_head(object: &dyn ReadAt, needed: &RefRecord) -> Result<Option<Head>> {
    if needed.cipher.is_none() {
        return Ok(None);
    }
    let bytes = object.read_at(0..HEAD_LEN.min(object.size())).await?;
    let session = needed.session().ok_or_else(|| wrong("a session key is none"))?;
    Head::open_by_session(&bytes, &session).map(Some)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::single_range_in_vec_init, reason = "one range is a list of ranges, too")]

    use super::*;
    use crate::archive::contents::{EntryDigest, read_catalog};
    use crate::archive::frame::Codec;
    use crate::archive::openpgp::Cipher;
    use crate::archive::read_at::InMemory;
    use crate::archive::testing::{How, JOB, PASSPHRASE, Stored, noise};
    use crate::error::Kind;
    use crate::stream::source::ByteStream;
    use crate::tar::Entry;

    async fn stored(cipher: Option<Cipher>) -> Stored {
        How::new(cipher, Codec::None, 1000).seal(ByteStream::from_bytes(noise(9_500))).await.unwrap()
    }

    async fn head(bytes: &Bytes) -> Head {
        open_head(&InMemory::new("x", bytes.clone()), &PASSPHRASE.into()).await.unwrap()
    }

    fn kind<T>(result: Result<T>) -> Kind {
        result.err().unwrap().kind()
    }

    #[tokio::test]
    async fn a_catalog_is_only_that_of_the_archive_asked_for() {
        let stored = stored(None).await;
        assert!(read_catalog(&stored.catalog[..], None, JOB, &stored.id, |_| {}).is_ok());
        assert_eq!(kind(read_catalog(&stored.catalog[..], None, "other", &stored.id, |_| {})), Kind::Damaged);
        let other = "20261122T020000Z-1f2e3d4c".parse().unwrap();
        assert_eq!(kind(read_catalog(&stored.catalog[..], None, JOB, &other, |_| {})), Kind::Damaged);
    }

    #[tokio::test]
    async fn an_encrypted_archive_is_not_opened_without_its_head_nor_a_clear_one_with_one() {
        let (sealed, clear) = (stored(Some(Cipher::Cfb)).await, stored(None).await);
        let object = |stored: &Stored| Arc::new(InMemory::new("x", stored.archive.clone()));
        let contents = sealed.contents(Some(PASSPHRASE)).await.unwrap();
        assert_eq!(kind(Archive::open(object(&sealed), contents, None)), Kind::Usage);
        let contents = clear.contents(None).await.unwrap();
        let foreign = head(&sealed.archive).await;
        assert_eq!(kind(Archive::open(object(&clear), contents, Some(foreign))), Kind::Damaged);
    }

    #[tokio::test]
    async fn the_head_must_be_of_the_cipher_that_was_sealed() {
        let (cfb, aead) = (stored(Some(Cipher::Cfb)).await, stored(Some(Cipher::Aead)).await);
        let contents = cfb.contents(Some(PASSPHRASE)).await.unwrap();
        let object = Arc::new(InMemory::new("x", cfb.archive.clone()));
        let foreign = head(&aead.archive).await;
        assert_eq!(kind(Archive::open(object, contents, Some(foreign))), Kind::Damaged);
    }

    #[tokio::test]
    async fn frames_that_change_places_are_refused() {
        let mut stored = stored(None).await;
        let mut bytes = stored.archive.to_vec();
        bytes[..2000].rotate_left(1000);
        stored.archive = bytes.into();
        let error = stored.restore(None).await.unwrap_err();
        assert!(error.kind() == Kind::Damaged && error.to_string().contains("frame 0 of archive"), "{error}");
    }

    #[tokio::test]
    async fn runs_hold_each_frame_once() {
        let archive = stored(None).await.open(None).await.unwrap();
        let runs = |ranges: &[Range<u64>]| archive.runs(ranges);
        assert_eq!(runs(&[0..1, 1..2, 999..1000]), [0..1]);
        assert_eq!(runs(&[0..1, 1000..1001]), [0..2], "neighbours are one run");
        assert_eq!(runs(&[0..1, 2000..2001]), [0..1, 2..3]);
        assert_eq!(runs(&[500..2500, 2600..9500]), [0..10]);
        assert_eq!(runs(&[9499..9500]), [9..10]);
        assert!(runs(&[]).is_empty() && runs(&[9500..9600]).is_empty());
    }

    #[test]
    fn a_digest_of_members_depends_on_their_order_and_number() {
        let entry = |path: &str| -> Entry {
            serde_json::from_value(serde_json::json!({
                "path": path, "type": "file", "mode": 420, "uid": 0, "gid": 0, "mtime": "0", "size": 0,
                "at": 0, "len": 512,
            }))
            .unwrap()
        };
        let of = |paths: &[&str]| {
            let mut digest = EntryDigest::default();
            paths.iter().for_each(|path| digest.add(&entry(path)));
            digest
        };
        assert!(of(&["a", "b"]) == of(&["a", "b"]));
        assert!(of(&["a", "b"]) != of(&["b", "a"]) && of(&["a"]) != of(&["a", "a"]) && of(&[]) != of(&["a"]));
    }
}
