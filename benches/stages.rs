//! Every stage alone: `cargo bench --bench stages [-- FILTER]`. At the end what all of them together cost on one core,
//! which is what the cores allow a whole backup: sum ÷ cores.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench may fail and write")]

use std::hint::black_box;
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::Bytes;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput, measurement::WallTime};
use sealift::archive::Format;
use sealift::archive::openpgp::Cipher;

mod data;
mod work;

/// Bytes of source that a stage is given: far more than any cache holds, yet a run takes minutes only.
const SIZE: usize = 64 << 20;
/// Bytes of source for the closing sums.
const SUM_SIZE: u64 = 256 << 20;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .without_plots()
        .configure_from_args();
    tap(&mut criterion);
    frames(&mut criterion);
    seipd(&mut criterion);
    hashes(&mut criterion);
    opening(&mut criterion);
    criterion.final_summary();
    for cipher in [Cipher::Cfb, Cipher::Aead] {
        sums("registry", &Bytes::from(data::registry_tar(SUM_SIZE)), cipher);
        sums("database", &Bytes::from(data::database_tar(SUM_SIZE)), cipher);
    }
}

fn group<'a>(criterion: &'a mut Criterion, name: &str, bytes: usize) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Bytes(bytes as u64)).sampling_mode(SamplingMode::Flat);
    group
}

fn tap(criterion: &mut Criterion) {
    let tar = Bytes::from(data::database_tar(SIZE as u64));
    let small = Bytes::from(data::small_tar(SIZE as u64 / 4608));
    let mut group = group(criterion, "tap", tar.len());
    group.bench_function("raw", |b| b.iter(|| work::cut(&tar, Format::Raw).unwrap()));
    group.bench_function("tar", |b| b.iter(|| work::cut(&tar, Format::Tar).unwrap()));
    group.throughput(Throughput::Bytes(small.len() as u64));
    group.bench_function("tar of 4 KiB files", |b| b.iter(|| work::cut(&small, Format::Tar).unwrap()));
    group.bench_function("walk of 4 KiB files", |b| b.iter(|| work::walk(&small).unwrap()));
}

fn frames(criterion: &mut Criterion) {
    let kinds = [
        ("text", data::database_tar(SIZE as u64)),
        ("binary", data::binary(SIZE)),
        ("random", data::noise(SIZE)),
    ];
    for (kind, data) in kinds {
        let mut group = group(criterion, &format!("frames/{kind}"), data.len());
        for level in [1, 3, 9] {
            let compress = || work::compress(&data, level, |pieces| _ = black_box(pieces.count())).unwrap();
            group.bench_function(format!("level {level}"), |b| b.iter(compress));
        }
    }
}

/// Frames as an incompressible source gives them: nothing but bytes to be packed.
fn stored_frames() -> Vec<Vec<u8>> {
    work::frames(&data::noise(SIZE), 3).unwrap()
}

fn seipd(criterion: &mut Criterion) {
    let (frames, cores) = (stored_frames(), std::thread::available_parallelism().unwrap().get());
    for (cipher, name, sealers) in [(Cipher::Cfb, "SEIPD v1", 1), (Cipher::Aead, "SEIPD v2", cores)] {
        let key = work::key(cipher).unwrap();
        let mut group = group(criterion, name, SIZE);
        group.bench_function("packer alone", |b| b.iter(|| work::pack(cipher, &frames, |_| Ok(())).unwrap()));
        group.bench_function("one thread", |b| {
            b.iter(|| work::seal_on_one(&key, &frames, |bytes| drop(black_box(bytes))).unwrap());
        });
        group.bench_function(format!("packer and {sealers} to encrypt"), |b| {
            b.iter(|| work::seal_on_many(&key, &frames, sealers).unwrap());
        });
    }
}

fn hashes(criterion: &mut Criterion) {
    let data = data::noise(SIZE);
    let mut group = group(criterion, "hashes", SIZE);
    group.bench_function("SHA-1", |b| b.iter(|| work::sha(&digest::SHA1_FOR_LEGACY_USE_ONLY, &data)));
    group.bench_function("SHA-256", |b| b.iter(|| work::sha(&digest::SHA256, &data)));
    group.bench_function("BLAKE3, by frame", |b| b.iter(|| work::hash_frames(data.chunks(4 << 20))));
}

fn opening(criterion: &mut Criterion) {
    let frames = stored_frames();
    let mut group = group(criterion, "opening", SIZE);
    for cipher in [Cipher::Cfb, Cipher::Aead] {
        let sealed = work::SealedMessage::new(cipher, &frames).unwrap();
        group.bench_function(format!("decrypt ranges, {cipher:?}"), |b| b.iter(|| sealed.decrypt().unwrap()));
    }
    group.bench_function("frame hashes", |b| b.iter(|| work::hash_frames(frames.iter().map(Vec::as_slice))));
    group.bench_function("decompress, random", |b| b.iter(|| work::expand(&frames, SIZE).unwrap()));
    let text = data::database_tar(SIZE as u64);
    let frames = work::frames(&text, 3).unwrap();
    group.bench_function("decompress, text", |b| b.iter(|| work::expand(&frames, text.len()).unwrap()));
}

fn sums(kind: &str, tar: &Bytes, cipher: Cipher) {
    let costs = work::costs(tar, 3, cipher).unwrap();
    let sum: f64 = costs.iter().map(|cost| cost.seconds).sum();
    println!("\n{kind}, {cipher:?}: seconds of one core for a GB of source, level 3");
    costs.iter().for_each(|cost| println!("  {:28} {:.3}", cost.stage, cost.seconds));
    println!("  {:28} {sum:.3}", "sum");
    let cores = std::thread::available_parallelism().unwrap().get();
    println!("  {cores} cores allow {:.0} MB/s", 1000.0 / work::allowed(&costs, cores));
}
