//! What tests of more than one module need: archives that are sealed and opened in memory.

use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use secrecy::SecretString;

use super::budget::{BudgetRequest, MemoryBudget, PartLimits};
use super::catalog::{ArchiveRecord, FORMAT};
use super::contents::{Contents, read_catalog};
use super::frame::Codec;
use super::open::{Archive, open_head};
use super::openpgp::{Cipher, block_pool};
use super::read_at::InMemory;
use super::seal::{SealOptions, Sealed, Sealing, seal_cheaply};
use super::tap::SourceChecks;
use super::{Format, Id};
use crate::error::Result;
use crate::stream::channel::Receiver;
use crate::stream::counters::Counters;
use crate::stream::source::{ByteStream, Proof};
use crate::tar::testing::{header, with_data};
use crate::tar::{BLOCK, Entry};

pub(crate) const PASSPHRASE: &str = "correct horse";
pub(crate) const JOB: &str = "team/db";

/// How an archive is to be sealed.
#[derive(Debug, Clone)]
pub(crate) struct How {
    pub(crate) cipher: Option<Cipher>,
    pub(crate) codec: Codec,
    pub(crate) frame_len: usize,
    pub(crate) checks: SourceChecks,
}

impl How {
    pub(crate) fn new(cipher: Option<Cipher>, codec: Codec, frame_len: usize) -> Self {
        How { cipher, codec, frame_len, checks: SourceChecks::default() }
    }

    pub(crate) fn options(&self) -> SealOptions {
        // The quickest level: what is tested is not the compression.
        let level = *self.codec.levels().start();
        let (workers, frame_len, codec) = (2, self.frame_len as u64, self.codec);
        let request = BudgetRequest { workers, frame_len, codec, level, ..BudgetRequest::default() };
        let plan = MemoryBudget::new(&request, PartLimits::NONE).unwrap();
        let started = jiff::Timestamp::now();
        let archive = ArchiveRecord {
            format: FORMAT,
            id: Id::new(started).unwrap(),
            job: JOB.into(),
            set: None,
            host: None,
            source_id: None,
            id_map: None,
            source: serde_json::json!({"path": "/srv/db"}),
            kind: self.checks.format,
            codec: self.codec,
            cipher: self.cipher,
            frame_len,
            head_len: 0,
            started,
            full: false,
        };
        let passphrase = self.cipher.map(|_| SecretString::from(PASSPHRASE));
        let (expected, chunks) = (self.checks.clone(), block_pool(plan.chunks));
        SealOptions { archive, level, passphrase, expected, plan, chunks, scanned: None }
    }

    /// Seals a source into memory.
    pub(crate) async fn seal(&self, source: ByteStream) -> Result<Stored> {
        let (options, counters) = (self.options(), Arc::new(Counters::default()));
        let id = options.archive.id.clone();
        Stored::collect(id, seal_cheaply(source, options, counters)?).await
    }
}

/// A sealed archive in memory.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) id: Id,
    pub(crate) archive: Bytes,
    pub(crate) catalog: Bytes,
    pub(crate) sealed: Arc<Sealed>,
}

impl Stored {
    /// Takes what a sealing gives to its end.
    pub(crate) async fn collect(id: Id, sealing: Sealing) -> Result<Stored> {
        let (archive, catalog) = tokio::join!(drain(sealing.archive), drain(sealing.catalog));
        let (archive, catalog) = (archive?, catalog?);
        Ok(Stored { id, archive, catalog, sealed: Arc::new(sealing.sealed.await.unwrap()) })
    }

    pub(crate) async fn contents(&self, passphrase: Option<&str>) -> Result<Contents> {
        self.contents_with(passphrase, |_| {}).await
    }

    pub(crate) async fn contents_with(
        &self,
        passphrase: Option<&str>,
        each: impl FnMut(&Entry),
    ) -> Result<Contents> {
        let object = InMemory::new("catalog", self.catalog.clone());
        let head = match passphrase {
            Some(passphrase) => Some(open_head(&object, &passphrase.into()).await?),
            None => None,
        };
        read_catalog(&self.catalog[..], head.as_ref(), JOB, &self.id, each)
    }

    /// Opens the archive by its catalog.
    pub(crate) async fn open(&self, passphrase: Option<&str>) -> Result<Arc<Archive>> {
        let contents = self.contents(passphrase).await?;
        let object = InMemory::new("archive", self.archive.clone());
        let head = match passphrase {
            Some(passphrase) => Some(open_head(&object, &passphrase.into()).await?),
            None => None,
        };
        Archive::open(Arc::new(object), contents, head).map(Arc::new)
    }

    /// The source's bytes, all of them.
    pub(crate) async fn restore(&self, passphrase: Option<&str>) -> Result<Vec<u8>> {
        let archive = self.open(passphrase).await?;
        read(&archive, &archive.whole()).await
    }
}

/// What `ranges` of an archive's source hold, one after the other.
pub(crate) async fn read(archive: &Arc<Archive>, ranges: &[Range<u64>]) -> Result<Vec<u8>> {
    let pieces = archive.frames(ranges, 2).map_ok(|opened| opened.pieces(ranges));
    Ok(pieces.try_collect::<Vec<_>>().await?.into_iter().flatten().collect::<Vec<_>>().concat())
}

/// All that a channel gives up to its proved end.
pub(crate) async fn drain(mut from: Receiver<Bytes>) -> Result<Bytes> {
    let mut all = Vec::new();
    while let Some(bytes) = from.recv().await? {
        all.extend_from_slice(&bytes);
    }
    Ok(all.into())
}

/// A source that gives `bytes` in pieces of `step`, and then ends with `outcome`.
pub(crate) fn source(bytes: impl Into<Bytes>, step: usize, outcome: Result<Proof>) -> ByteStream {
    struct InPieces(Bytes, usize);
    impl Read for InPieces {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let piece = self.0.split_to(self.1.min(buffer.len()).min(self.0.len()));
            buffer[..piece.len()].copy_from_slice(&piece);
            Ok(piece.len())
        }
    }
    let (prove, proof) = tokio::sync::oneshot::channel();
    prove.send(outcome).unwrap();
    ByteStream::from_reader(InPieces(bytes.into(), step), proof)
}

/// Bytes that no codec makes shorter, the same every time.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut bytes);
    bytes
}

/// Bytes that every codec makes shorter.
pub(crate) fn text(len: usize) -> Vec<u8> {
    b"INSERT INTO night VALUES (2026, 'a line of a dump');\n".iter().copied().cycle().take(len).collect()
}

/// A member of a tar: ustar, with its data and padding.
pub(crate) fn member(name: &str, flag: u8, data: &[u8]) -> Vec<u8> {
    let owned = |block: &mut [u8]| block[108..115].copy_from_slice(b"0001750");
    with_data(header(name, flag, data.len(), owned), data)
}

/// A whole tar of some members.
pub(crate) fn tar() -> Vec<u8> {
    let (long, pax) = (noise(9000), b"24 path=a very long one\n");
    let members = [
        member("etc/", b'5', b""),
        member("etc/hosts", b'0', b"127.0.0.1 localhost\n"),
        member("empty", b'0', b""),
        member("x", b'x', pax),
        member("short", b'0', &long),
        member("last", b'0', &text(1500)),
        vec![0; 2 * BLOCK],
    ];
    members.concat()
}

/// What must be of a source that is a tar.
pub(crate) fn tar_checks() -> SourceChecks {
    SourceChecks { format: Format::Tar, ..SourceChecks::default() }
}

/// Numbers that look random and are the same in every run.
#[derive(Debug, Clone)]
pub(crate) struct Random(blake3::OutputReader);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof())
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        (u64::from_le_bytes(bytes) % end as u64) as usize
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn choose<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}
