//! A nightly backup gives way to what serves people: `--limit-rate`, `--nice`, `--io-nice`.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::support::{JOB, Lab, noise, sh, until};

#[test]
fn a_rate_is_not_exceeded() {
    let lab = Lab::new();
    let (store, input) = (lab.file_store(), noise(81, 1_500_000));
    let start = Instant::now();
    lab.backup_stdin(&store, &input, &["--limit-rate", "1MB/s"]).expect(0);
    // The other way round would depend on the machine.
    assert!(start.elapsed() >= Duration::from_millis(1500), "{:?}", start.elapsed());
    assert!(lab.run(&["restore", JOB, "--to-stdout", "--from", &store]).expect(0).stdout == input);
    let there = lab.new_store("there");
    let start = Instant::now();
    lab.run(&["copy", JOB, "--from", &store, "--to", &there, "--limit-rate", "1MB"]).expect(0);
    assert!(start.elapsed() >= Duration::from_millis(1500), "{:?}", start.elapsed());
    lab.run(&["verify", JOB, "--from", &there]).expect(0);
    lab.backup_stdin(&store, &input, &["--limit-rate", "0"]).expect_error(2, "nothing would ever pass");
}

#[test]
fn what_is_read_at_a_rate_is_the_same() {
    let lab = Lab::new();
    let (store, input) = (lab.file_store(), noise(83, 3_000_000));
    lab.backup_stdin(&store, &input, &["--limit-rate", "Mon-08:00,100MiB Sat-00:00,off"]).expect(0);
    for rate in ["20MB", "00:00,20MB/s 12:00,20MB/s", "off"] {
        let read = |words: &[&str]| {
            let given = ["--from", &store, "--limit-rate", rate];
            lab.run(&[words, &given].concat()).expect(0)
        };
        assert!(read(&["restore", JOB, "--to-stdout"]).stdout == input, "{rate}");
        read(&["verify", JOB]);
        read(&["ls", JOB]);
    }
}

#[test]
fn a_rate_that_is_none_is_told_with_the_form() {
    let lab = Lab::new();
    let store = lab.file_store();
    lab.backup_stdin(&store, b"x", &[]).expect(0);
    for (rate, told) in [
        ("fast", "\"fast\" is no rate"),
        ("0", "nothing would ever pass"),
        ("08:00", "no rate behind a comma"),
        ("08:00,0", "nothing would ever pass"),
        ("25:00,2MiB", "times are 00:00 to 23:59"),
        ("Day-08:00,2MiB", "days are Mon"),
    ] {
        let words = ["restore", JOB, "--to-stdout", "--from", &store, "--limit-rate", rate];
        lab.run(&words).expect_error(2, told).hint("\"08:00,2MiB 19:00,off\"");
    }
}

/// A backup that takes for ever, with tar as its source.
struct Endless(Child);

impl Endless {
    fn start(lab: &Lab, words: &[&str]) -> Endless {
        lab.write("large", &noise(82, 40_000_000));
        let file = lab.path("large").display().to_string();
        let mut sealift = lab.sealift();
        sealift.args(["backup", "path", &file, "--job", JOB, "--to", &lab.file_store()]);
        sealift.args(["--limit-rate", "1kB"]).args(words).stderr(Stdio::null());
        Endless(sealift.spawn().expect("sealift runs"))
    }

    /// What a command says of every thread of it and of its tar, once tar is there.
    fn all(&self, command: &str) -> Vec<String> {
        let pid = self.0.id();
        until("tar is started", || !sh(&format!("pgrep -P {pid} -x tar || true")).is_empty());
        let script = format!(
            "for task in /proc/{pid}/task/* $(pgrep -P {pid} -x tar); do tid=${{task##*/}}; {command}; done"
        );
        sh(&script).lines().map(str::to_string).collect()
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn every_thread_and_what_it_starts_is_nice() {
    let lab = Lab::new();
    // Field 19, see proc(5); no name of ours has a blank.
    let nice = "cut -d' ' -f19 /proc/$tid/stat";
    let ours: i32 = sh("cut -d' ' -f19 /proc/self/stat").trim().parse().expect("a nice value");
    for (words, expected) in [(&[][..], 10), (&["--nice", "0"], 0), (&["--nice", "19"], 19)] {
        let (found, expected) = (Endless::start(&lab, words).all(nice), expected.max(ours).to_string());
        assert!(found.len() > 4 && found.iter().all(|value| *value == expected), "{words:?}: {found:?}");
    }
    lab.backup_stdin(&lab.file_store(), b"x", &["--nice", "-5"]).expect(2);
}

#[test]
fn reads_and_writes_may_wait_for_all_others() {
    let lab = Lab::new();
    for (level, expected) in [("idle", "idle"), ("6", "best-effort: prio 6")] {
        let found = Endless::start(&lab, &["--io-nice", level]).all("ionice -p $tid");
        assert!(found.len() > 4 && found.iter().all(|value| value == expected), "{level}: {found:?}");
    }
    lab.backup_stdin(&lab.file_store(), b"x", &["--io-nice", "8"]).expect_error(2, "idle, or 0 to 7");
}
