//! How much of everything may be in memory, and how large an archive that allows.

use super::frame::{Codec, FRAME_LEN};
use crate::error::{Error, Result};

const MIB: u64 = 1 << 20;
/// Bytes of a chunk of stored bytes, about.
pub const CHUNK: u64 = MIB;

/// The program itself, its connections, the catalog and what the engine's stream holds.
const OVERHEAD: u64 = 56 * MIB;
/// Fewer chunks than this and uploads would wait for each other all the time.
const FEWEST_CHUNKS: u64 = 48;
/// Chunks that may be held between the stages while a part is not full yet.
const CHUNKS_ON_THE_WAY: u64 = 12;
/// Frames that are being filled, or wait for a worker or to be packed.
const FRAMES_WAITING: u64 = 3;
/// The first parts, where the store has a limit on their number or not. Small ones fill a long link: more of them are in
/// flight at once in the same memory, each on a connection with a window of its own.
const FIRST_PART: u64 = 8 * MIB;

/// Parts in flight to a store at most, unless said otherwise; the memory bound allows fewer of larger parts.
pub const PARALLEL: u16 = 16;

/// The memory bound that holds unless said otherwise, in bytes.
pub const DEFAULT_MEMORY: u64 = 256 * MIB;

/// What a store allows in one multipart upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartLimits {
    /// How many parts.
    pub count: u64,
    /// Bytes in the smallest part that is not the last.
    pub smallest: u64,
    /// Bytes in the largest part.
    pub largest: u64,
}

impl PartLimits {
    /// No limit at all: a folder, or memory.
    pub const NONE: PartLimits = PartLimits { count: u64::MAX, smallest: 1, largest: u64::MAX };

    /// What every one of several stores allows.
    pub fn and(self, other: PartLimits) -> PartLimits {
        PartLimits {
            count: self.count.min(other.count),
            smallest: self.smallest.max(other.smallest),
            largest: self.largest.min(other.largest),
        }
    }
}

/// What the operator asked for.
#[derive(Debug, Clone, Copy)]
pub struct BudgetRequest {
    /// The bound, in bytes.
    pub memory: u64,
    /// Frames compressed at once; the number of cores unless said otherwise.
    pub workers: usize,
    /// Bytes of source in a frame.
    pub frame_len: u64,
    /// How frames are compressed.
    pub codec: Codec,
    /// At which level.
    pub level: i32,
    /// Equal parts of this size, for stores that want them.
    pub part_size: Option<u64>,
    /// Fewer parts than the store's own limit.
    pub max_parts: Option<u64>,
}

/// What holds unless the operator says otherwise.
impl Default for BudgetRequest {
    fn default() -> Self {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let (memory, frame_len, codec) = (DEFAULT_MEMORY, FRAME_LEN as u64, Codec::Zstd);
        let level = codec.default_level();
        BudgetRequest { memory, workers, frame_len, codec, level, part_size: None, max_parts: None }
    }
}

/// What may be in memory at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryBudget {
    /// Frames compressed at once.
    pub workers: usize,
    /// Frames in memory at once.
    pub frames: usize,
    /// Chunks of 1 MiB of stored bytes in memory at once.
    pub chunks: usize,
    /// How parts grow.
    pub parts: PartSizes,
    /// The bound, in bytes.
    pub memory: u64,
}

impl MemoryBudget {
    /// Divides the memory among workers, frames and parts.
    ///
    /// # Errors
    /// The memory is not enough for one worker, or for the part size asked for.
    pub fn new(request: &BudgetRequest, limits: PartLimits) -> Result<MemoryBudget> {
        let worker = request.codec.worker_memory(request.level) as u64;
        let frames = |workers: u64| (workers + FRAMES_WAITING) * (2 * request.frame_len + 64 * 1024);
        let needed = |workers: u64| OVERHEAD + frames(workers) + workers * worker;
        let least = needed(1) + FEWEST_CHUNKS * MIB;
        if request.memory < least {
            return Err(Error::usage(format!(
                "--memory {} is too little for these settings",
                mib(request.memory)
            ))
            .hint(format!("give at least --memory {}", mib(least))));
        }
        let fits = |workers: u64| needed(workers) + FEWEST_CHUNKS * MIB <= request.memory;
        let workers = (1..=request.workers.max(1) as u64).rev().find(|&w| fits(w)).unwrap_or(1);
        let chunks = (request.memory - needed(workers)) / MIB;
        let parts = PartSizes::new(chunks, request, limits)?;
        let frames = (workers + FRAMES_WAITING) as usize;
        let (workers, chunks) = (workers as usize, chunks as usize);
        Ok(MemoryBudget { workers, frames, chunks, parts, memory: request.memory })
    }
}

/// Bytes as people write a memory size.
fn mib(bytes: u64) -> String {
    format!("{}MiB", bytes.div_ceil(MIB))
}

/// The sizes of the parts of one upload, by their number from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartSizes {
    fixed: Option<u64>,
    limits: PartLimits,
    /// Bytes of a part when another is in flight beside the one being filled.
    half: u64,
    /// Bytes of the largest part that the memory holds.
    whole: u64,
}

impl PartSizes {
    fn new(chunks: u64, request: &BudgetRequest, limits: PartLimits) -> Result<Self> {
        let limits = PartLimits { count: request.max_parts.unwrap_or(u64::MAX).min(limits.count), ..limits };
        let whole = ((chunks - CHUNKS_ON_THE_WAY) * MIB).min(limits.largest);
        if let Some(size) = request.part_size {
            let (least, most) = (limits.smallest, limits.largest);
            if !(least..=most).contains(&size) {
                return Err(Error::usage(format!("--part-size {size} is not what the store takes"))
                    .hint(format!("it takes parts of {} to {}", mib(least), mib(most))));
            }
            if size > whole {
                return Err(Error::usage(format!("--part-size {} does not fit the memory", mib(size)))
                    .hint(format!("give --memory {} or more", mib(request.memory + size - whole))));
            }
        }
        if limits.count == 0 {
            return Err(Error::usage("--max-parts 0 leaves no room for any byte"));
        }
        Ok(PartSizes {
            fixed: request.part_size,
            limits,
            half: (whole / 2).max(FIRST_PART.min(whole)),
            whole,
        })
    }

    /// Bytes of part `n`; `None` when the store takes no more parts.
    ///
    /// Small parts while the archive may still be small, then as large as two at once can be, then as large as
    /// one can be; the last twentieth doubles without regard to the memory, because losing the night is worse.
    pub fn size(&self, n: u64) -> Option<u64> {
        let count = self.limits.count;
        if n >= count {
            return None;
        }
        if let Some(size) = self.fixed {
            return Some(size);
        }
        if count == u64::MAX {
            return Some(FIRST_PART.min(self.whole));
        }
        let percent = n * 100 / count;
        let size = match percent {
            0..3 => FIRST_PART,
            3..6 => 2 * FIRST_PART,
            6..9 => 4 * FIRST_PART,
            9..40 => self.half,
            40..95 => self.whole,
            _ => self.whole << (2 * (percent - 94)).min(20),
        };
        // Small stores, small memory: whatever the share, parts never shrink.
        let size = if percent < 9 { size.min(self.half.max(FIRST_PART)) } else { size };
        Some(size.clamp(self.limits.smallest, self.limits.largest))
    }

    /// Bytes of the largest part that the memory bound allows.
    pub fn largest_in_memory(&self) -> u64 {
        self.whole
    }

    /// The largest archive that stays within the memory bound, in bytes; `None` where there is no limit.
    pub fn largest_archive(&self) -> Option<u64> {
        let count = self.limits.count;
        match (self.fixed, count) {
            (_, u64::MAX) => None,
            (Some(size), _) => Some(size.saturating_mul(count)),
            _ => Some((0..count).map_while(|n| self.size(n)).filter(|&size| size <= self.whole).sum()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S3: PartLimits = PartLimits { count: 10_000, smallest: 5 * MIB, largest: 5 << 30 };

    fn request() -> BudgetRequest {
        BudgetRequest {
            memory: DEFAULT_MEMORY,
            workers: 2,
            frame_len: 4 * MIB,
            codec: Codec::Zstd,
            level: 3,
            part_size: None,
            max_parts: None,
        }
    }

    #[test]
    fn the_default_bound_allows_nearly_a_tebibyte_on_s3() {
        let plan = MemoryBudget::new(&request(), S3).unwrap();
        let largest = plan.parts.largest_archive().unwrap();
        assert!(largest > 850 << 30, "{} GiB", largest >> 30);
        let parts = plan.parts;
        let sizes: Vec<_> = (0..10_000).map(|n| parts.size(n).unwrap()).collect();
        assert!(sizes.is_sorted(), "parts never shrink");
        assert!(sizes.iter().all(|size| (S3.smallest..=S3.largest).contains(size)));
        assert_eq!(parts.size(10_000), None);
        let all: u64 = sizes.iter().sum();
        assert!(all > 2 << 40, "the last parts take what the memory does not hold: {} GiB", all >> 30);
    }

    #[test]
    fn a_long_link_has_as_many_parts_in_flight_as_the_memory_holds() {
        let plan = MemoryBudget::new(&request(), S3).unwrap();
        let first = plan.parts.size(0).unwrap();
        assert!(plan.chunks as u64 * CHUNK >= (PARALLEL as u64 - 1) * first, "{plan:?}");
        let gibibytes: u64 = (0..300).map(|n| plan.parts.size(n).unwrap()).sum();
        assert!(gibibytes > 2 << 30, "and archives of some size still have small parts");
    }

    /// Memory bounds, numbers of workers, limits of stores and what an operator makes of them.
    fn requests() -> impl Iterator<Item = (BudgetRequest, PartLimits)> {
        let azure = PartLimits { count: 50_000, smallest: 1, largest: 4000 * MIB };
        let ways = [(None, None), (None, Some(1000)), (Some(16 * MIB), None), (Some(24 * MIB), Some(1000))];
        let memory = [160, 200, 256, 300, 512, 1024, 8192].map(|mebibytes| mebibytes * MIB);
        let stores = [S3, azure, PartLimits::NONE, S3.and(azure)];
        let all = memory.into_iter().flat_map(move |memory| stores.map(|limits| (memory, limits)));
        let all = all.flat_map(move |(memory, limits)| ways.map(|way| (memory, limits, way)));
        all.flat_map(|(memory, limits, (part_size, max_parts))| {
            [1, 2, 16]
                .map(|workers| (BudgetRequest { memory, workers, part_size, max_parts, ..request() }, limits))
        })
    }

    #[test]
    fn whatever_the_archive_grows_to_its_parts_fit_the_memory_and_the_store() {
        for (request, limits) in requests() {
            let plan = MemoryBudget::new(&request, limits).unwrap();
            let frames = plan.frames as u64 * (2 * request.frame_len + 64 * 1024);
            let workers = (plan.workers * request.codec.worker_memory(request.level)) as u64;
            let chunks = plan.chunks as u64 * CHUNK;
            assert!(OVERHEAD + frames + workers + chunks <= request.memory, "{request:?} {plan:?}");
            let count = limits.count.min(request.max_parts.unwrap_or(u64::MAX));
            let sizes: Vec<_> = (0..count.min(60_000)).map(|n| plan.parts.size(n).unwrap()).collect();
            assert!(sizes.is_sorted(), "{request:?}");
            let is_taken = |size: &u64| (limits.smallest..=limits.largest).contains(size);
            assert!(sizes.iter().all(is_taken), "{request:?}");
            match request.part_size {
                Some(size) => assert!(sizes.iter().all(|other| *other == size), "{request:?}"),
                // Only the last twentieth may be larger than the memory holds; on average parts are then above 100 MiB.
                None => {
                    let within = &sizes[..sizes.len() * 95 / 100];
                    let most = chunks - CHUNKS_ON_THE_WAY * MIB;
                    assert!(within.iter().all(|&size| size <= most), "{request:?}");
                    let all: u64 = sizes.iter().sum();
                    assert!(count == u64::MAX || all > count * 100 * MIB, "{request:?} {limits:?} {all}");
                }
            }
            assert!(count == u64::MAX || plan.parts.size(count).is_none(), "{request:?}");
        }
    }

    #[test]
    fn a_thousand_parts_and_equal_parts_are_kept_to() {
        let plan = MemoryBudget::new(&BudgetRequest { max_parts: Some(1000), ..request() }, S3).unwrap();
        assert!(plan.parts.size(999).is_some() && plan.parts.size(1000).is_none());
        assert!((0..1000).map(|n| plan.parts.size(n).unwrap()).is_sorted());
        let plan = MemoryBudget::new(&BudgetRequest { part_size: Some(64 * MIB), ..request() }, S3).unwrap();
        assert!((0..10_000).all(|n| plan.parts.size(n) == Some(64 * MIB)));
        assert_eq!(plan.parts.largest_archive(), Some(640_000 * MIB));
    }

    #[test]
    fn more_workers_than_the_memory_holds_are_not_started() {
        let plan = MemoryBudget::new(&BudgetRequest { workers: 64, ..request() }, S3).unwrap();
        assert!((5..=12).contains(&plan.workers), "{plan:?}");
        assert!(MemoryBudget::new(&BudgetRequest { memory: 64 * MIB, ..request() }, S3).is_err());
        assert!(MemoryBudget::new(&BudgetRequest { part_size: Some(1 << 30), ..request() }, S3).is_err());
        assert!(MemoryBudget::new(&BudgetRequest { part_size: Some(MIB), ..request() }, S3).is_err());
    }
}
