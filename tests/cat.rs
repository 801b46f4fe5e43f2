//! `cat`: one file, for which only the frames that hold it are read.

use std::process::Command;

use crate::support::{Ended, Lab, noise, odd_archive, sh};

#[test]
fn a_file_a_hard_link_and_a_sparse_file_are_printed_whole() {
    let lab = Lab::new();
    let store = odd_archive(&lab);
    for name in ["t/a", "t/b", "./t/a"] {
        assert_eq!(lab.run(&["cat", "t", name, "--from", &store]).expect(0).text(), sh("seq 1 9"), "{name}");
    }
    let sparse = lab.run(&["cat", "t", "t/sparse", "--from", &store]).expect(0).stdout;
    assert!(sparse == std::fs::read(lab.path("t/sparse")).expect("the file"));
    lab.run(&["cat", "t", "t/none", "--from", &store])
        .expect_error(10, "there is no member")
        .hint("sealift ls");
    lab.run(&["cat", "t", "t/", "--from", &store]).expect_error(2, "is no file");
}

#[test]
fn one_file_of_a_large_archive_costs_its_frames_only() {
    let lab = Lab::new();
    sh(&format!(
        "mkdir {0}/t; for i in $(seq 10 39); do head -c 10000000 /dev/urandom > {0}/t/$i; done",
        lab.dir.display()
    ));
    lab.write("t/one", &noise(7, 1 << 20));
    lab.run(&["backup", "path", "t", "--to", &lab.file_store()]).expect(0);
    let catalog = sh(&format!("stat -c %s {}/store/t/*.catalog.zst.gpg", lab.dir.display()));
    let catalog: u64 = catalog.trim().parse().expect("a size");
    // What the process reads of the store's files, as the kernel counts it.
    let trace = lab.path("trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-y", "-e", "trace=read,pread64", "-o"]).arg(&trace);
    strace.arg(env!("CARGO_BIN_EXE_sealift")).args(["cat", "t", "t/one", "--from", &lab.file_store()]);
    strace.env("SEALIFT_PASSPHRASE_FILE", lab.path("passphrase"));
    let ended = Ended::from(strace.output().expect("strace runs")).expect(0);
    assert!(ended.stdout == noise(7, 1 << 20));
    let trace = std::fs::read_to_string(trace).expect("a trace");
    let reads = trace.lines().filter(|line| line.contains("/store/t/"));
    let read: u64 = reads.filter_map(|line| line.rsplit("= ").next()?.trim().parse::<u64>().ok()).sum();
    // 1 MiB lies in two frames of 4 MiB at most.
    let most = catalog + 2 * (4 << 20) + (64 << 10);
    eprintln!("one file of 1 MiB of 301 MB: {read} bytes were read");
    assert!(read > 1 << 20 && read < most, "{read} of at most {most}");
}
