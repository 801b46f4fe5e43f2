//! The whole pipeline, from memory into memory: `cargo bench --bench pipeline [-- MEGABYTES]`. What is sealed is counted
//! and dropped. Says what more workers gain, where that stops, and how near it comes to what the cores allow; then how
//! fast the whole command is that is fed by a pipe, into a folder in memory and into an S3 server that drops what it gets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench may fail and write"
)]

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use sealift::archive::budget::{BudgetRequest, DEFAULT_MEMORY, MemoryBudget, PartLimits};
use sealift::archive::catalog::{ArchiveRecord, FORMAT};
use sealift::archive::frame::{Codec, FRAME_LEN};
use sealift::archive::openpgp::{Cipher, block_pool};
use sealift::archive::seal::{SealOptions, seal};
use sealift::archive::tap::SourceChecks;
use sealift::archive::{Format, Id};
use sealift::stream::channel::Receiver;
use sealift::stream::counters::Counters;

mod data;
#[allow(dead_code, reason = "a bench counts nothing")]
#[path = "../tests/support/fake_s3.rs"]
mod fake_s3;
mod work;
#[path = "../tests/support/xml.rs"]
mod xml;

const LEVEL: i32 = 3;
/// Bytes of source, unless said otherwise.
const MEGABYTES: u64 = 512;
/// A row that gains less than this over the one before gains nothing.
const GAIN: f64 = 1.05;
/// As many workers as there are cores must fit, whatever a backup's own bound is.
const MEMORY_OF_A_WORKER: u64 = 16 << 20;

fn main() {
    let megabytes = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(MEGABYTES);
    for cipher in [Cipher::Cfb, Cipher::Aead] {
        table("registry", &Bytes::from(data::registry_tar(megabytes * 1_000_000)), cipher);
        table("database", &Bytes::from(data::database_tar(megabytes * 1_000_000)), cipher);
    }
}

fn table(kind: &str, tar: &Bytes, cipher: Cipher) {
    let cores = std::thread::available_parallelism().unwrap().get();
    let allowed = 1000.0 / work::allowed(&work::costs(tar, LEVEL, cipher).unwrap(), cores);
    println!("\n{kind}, {cipher:?}, {} MB, {cores} cores allow {allowed:.0} MB/s", tar.len() / 1_000_000);
    println!("| workers | MB/s | speed-up | of what the cores allow | stored |\n|--:|--:|--:|--:|--:|");
    let mut rows: Vec<(usize, f64)> = Vec::new();
    for workers in worker_counts(cores) {
        let (stored, speed) =
            (0..3).map(|_| sealed(tar, workers, cipher)).max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        rows.push((workers, speed));
        let (gain, share) = (speed / rows[0].1, speed / allowed);
        println!("| {workers} | {speed:.0} | {gain:.2} | {share:.2} | {:.1} MB |", stored as f64 / 1e6);
    }
    match rows.windows(2).find(|pair| pair[1].1 < pair[0].1 * GAIN) {
        Some(pair) => println!("more than {} workers gain nothing", pair[0].0),
        None => println!("every worker up to {cores} gained"),
    }
    let server = fake_s3::FakeS3::start(fake_s3::Fault::None);
    let folder = format!("/dev/shm/sealift-pipeline.{}", std::process::id());
    for (what, store) in [("a folder in memory", format!("file://{folder}")), ("S3", "s3://bucket".into())] {
        let speed = (0..3).map(|_| command(tar, cipher, &store, &server.endpoint)).max_by(f64::total_cmp);
        println!("the command, from a pipe into {what}: {:.0} MB/s", speed.unwrap());
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// MB/s of `backup stdin`.
fn command(tar: &Bytes, cipher: Cipher, store: &str, s3: &str) -> f64 {
    let cipher = format!("{cipher:?}").to_lowercase();
    let mut sealift = Command::new(env!("CARGO_BIN_EXE_sealift"));
    sealift.args(["backup", "stdin", "--quiet", "--job", "bench", "--to", store, "--cipher", &cipher]);
    sealift.env("SEALIFT_PASSPHRASE", "bench").env("AWS_ENDPOINT_URL", s3).env("AWS_REGION", "us-east-1");
    sealift.env("AWS_ACCESS_KEY_ID", "bench").env("AWS_SECRET_ACCESS_KEY", "bench").stdin(Stdio::piped());
    let start = Instant::now();
    let mut child = sealift.spawn().unwrap();
    child.stdin.take().unwrap().write_all(tar).unwrap();
    assert!(child.wait().unwrap().success());
    tar.len() as f64 / 1e6 / start.elapsed().as_secs_f64()
}

/// 1, 2, 4, … and the number of cores.
fn worker_counts(cores: usize) -> Vec<usize> {
    let mut counts: Vec<_> =
        std::iter::successors(Some(1), |n| Some(n * 2)).take_while(|&n| n < cores).collect();
    counts.push(cores);
    counts
}

/// Bytes stored and MB/s of one run.
fn sealed(tar: &Bytes, workers: usize, cipher: Cipher) -> (u64, f64) {
    let options = options(workers, cipher);
    let (source, start) = (work::source(tar), Instant::now());
    let sealing = seal(source, options, Arc::new(Counters::default())).unwrap();
    let catalog = std::thread::spawn(move || count(sealing.catalog));
    let stored = count(sealing.archive);
    catalog.join().unwrap();
    assert_eq!(sealing.sealed.blocking_recv().unwrap().archive.size, stored);
    (stored, tar.len() as f64 / 1e6 / start.elapsed().as_secs_f64())
}

fn count(mut bytes: Receiver<Bytes>) -> u64 {
    let mut size = 0;
    while let Some(bytes) = bytes.recv_blocking().unwrap() {
        size += bytes.len() as u64;
    }
    size
}

fn options(workers: usize, cipher: Cipher) -> SealOptions {
    let memory = DEFAULT_MEMORY + workers as u64 * MEMORY_OF_A_WORKER;
    let (codec, frame_len) = (Codec::Zstd, FRAME_LEN as u64);
    let request =
        BudgetRequest { memory, workers, frame_len, codec, level: LEVEL, part_size: None, max_parts: None };
    let limits = PartLimits { count: u64::MAX, smallest: 1, largest: u64::MAX };
    let plan = MemoryBudget::new(&request, limits).unwrap();
    assert_eq!(plan.workers, workers);
    let started = jiff::Timestamp::now();
    let archive = ArchiveRecord {
        format: FORMAT,
        id: Id::new(started).unwrap(),
        job: "bench".into(),
        set: None,
        host: None,
        source_id: None,
        id_map: None,
        source: serde_json::Value::Null,
        kind: Format::Tar,
        codec,
        cipher: Some(cipher),
        frame_len,
        head_len: 0,
        started,
        full: false,
    };
    SealOptions {
        archive,
        level: LEVEL,
        passphrase: Some("bench".to_string().into()),
        expected: SourceChecks { format: Format::Tar, ..SourceChecks::default() },
        chunks: block_pool(plan.chunks),
        plan,
        scanned: None,
    }
}
