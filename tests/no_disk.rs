//! Seen from outside: nothing of the stream touches the local disk, and memory stays inside the bound.

use std::io::Write;
use std::process::Stdio;

use crate::needs;
use crate::support::fake_s3::{FakeS3, Fault};
use crate::support::{AnyStore, JOB, Lab, docker, high_water, noise, unique, watch};

#[test]
fn a_backup_from_a_container_to_s3_opens_no_file_for_writing() {
    needs!("docker", "s3");
    let lab = Lab::new();
    let store = AnyStore::S3(unique("strace"));
    let trace = lab.path("trace");
    let sealift = env!("CARGO_BIN_EXE_sealift");
    let mut command = lab.sealift();
    let words = [
        "backup",
        "run",
        "--to",
        &store.url(),
        "--job",
        JOB,
        "--network",
        "none",
        "bb:1",
        "seq",
        "1",
        "2000000",
    ];
    let program = std::mem::replace(&mut command, std::process::Command::new("strace"));
    command.args([
        "-f",
        "-qq",
        "-e",
        "trace=open,openat,openat2,creat,memfd_create,mknod,mknodat,rename,renameat,renameat2,link,linkat",
    ]);
    command.arg("-o").arg(&trace).arg(sealift).args(words);
    command.current_dir(&lab.dir).stdin(Stdio::null());
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    crate::support::Ended::from(command.output().expect("strace runs")).expect(0);
    let trace = std::fs::read_to_string(&trace).expect("a trace");
    assert!(trace.contains("openat("), "strace saw nothing");
    let writes =
        ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TMPFILE", "creat(", "memfd_create(", "mknod", "rename", "link("];
    let allowed = |line: &str| line.contains("/dev/null") || line.contains("/dev/tty");
    let found: Vec<_> =
        trace.lines().filter(|line| writes.iter().any(|w| line.contains(w)) && !allowed(line)).collect();
    assert!(found.is_empty(), "{found:#?}");
    assert!(!store.names().is_empty(), "nothing was backed up");
}

#[test]
fn the_container_writes_no_log() {
    needs!("docker");
    let (lab, name) = (Lab::new(), unique("nolog"));
    let store = lab.file_store();
    let mut words = vec!["backup", "run", "--to", &store, "--name", &name, "--network", "none", "bb:1"];
    words.extend(["sh", "-c", "seq 1 9; sleep 3"]);
    let child = lab.sealift().args(&words).stderr(Stdio::null()).spawn().expect("sealift runs");
    crate::support::until("the container runs", || {
        !docker(&["ps", "-q", "--filter", &format!("name={name}")]).is_empty()
    });
    assert_eq!(
        docker(&["inspect", "-f", "{{.HostConfig.LogConfig.Type}} {{.Config.Tty}}", &name]),
        "none false"
    );
    assert!(child.wait_with_output().expect("sealift ends").status.success());
    assert_eq!(docker(&["ps", "-aq", "--filter", &format!("name={name}")]), "");
}

/// Streams `gib` GiB that do not compress; returns the memory's high-water mark in MiB.
fn stream(lab: &Lab, store: &str, endpoint: Option<&str>, gib: u64) -> u64 {
    let mut command = lab.sealift();
    command.args(["backup", "stdin", "--job", JOB, "--format", "raw", "--to", store, "--quiet"]);
    endpoint.map(|endpoint| command.env("AWS_ENDPOINT_URL", endpoint));
    let mut child = command.stdin(Stdio::piped()).spawn().expect("sealift runs");
    let mut stdin = child.stdin.take().expect("a stdin");
    let block = noise(9, 64 << 20);
    for _ in 0..gib * 16 {
        stdin.write_all(&block).expect("sealift reads");
    }
    let before_end = high_water(&child).expect("the process runs");
    // The end is small work: what the process ever needs it has had by now, but for what a last look shows.
    drop(stdin);
    let most = watch(&mut child).max(before_end);
    assert!(child.wait().expect("the process").success());
    most
}

#[test]
fn eight_gib_stay_inside_the_bound_on_a_file_store() {
    let lab = Lab::new();
    let most = stream(&lab, &lab.file_store(), None, 8);
    eprintln!("VmHWM of 8 GiB to a file store: {most} MiB");
    assert!(most <= 256, "{most} MiB");
}

#[test]
fn eight_gib_stay_inside_the_bound_on_s3() {
    let lab = Lab::new();
    let sink = FakeS3::start(Fault::None);
    let most = stream(&lab, "s3://bucket/prefix", Some(&sink.endpoint), 8);
    eprintln!("VmHWM of 8 GiB to S3: {most} MiB");
    assert!(most <= 256, "{most} MiB");
    assert!(sink.dropped.load(std::sync::atomic::Ordering::Relaxed) > 8 << 30, "not all arrived");
    assert_eq!(sink.uploads(), 0);
}

#[test]
fn the_bound_and_the_largest_archive_are_shown_before_the_run() {
    let lab = Lab::new();
    let shown = lab.backup_stdin(&lab.file_store(), b"x", &["--verbose"]).expect(0).stderr;
    assert!(shown.contains("up to 256.00 MiB of memory") && shown.contains("no limit"), "{shown}");
    let sink = FakeS3::start(Fault::None);
    let mut command = lab.sealift();
    command.env("AWS_ENDPOINT_URL", &sink.endpoint);
    command.args(["backup", "stdin", "--job", JOB, "--to", "s3://bucket/p", "--verbose"]);
    let shown = crate::support::feed(&mut command, b"x").expect(0).stderr;
    assert!(shown.contains("the largest archive within that bound"), "{shown}");
}
