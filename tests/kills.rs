//! Whatever is killed, whenever: what is listed restores, and `clean` leaves nothing but whole archives.

use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::nights::{id, in_source, is_the_source, sealed};
use crate::support::{AnyStore, Lab};

const FILES: u64 = 12;

/// Numbers that look like chance, always the same.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn start(lab: &Lab, words: &[&str]) -> Child {
    let mut command = lab.sealift();
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("sealift runs")
}

/// Kills a run after so many milliseconds; whether it was there to be killed.
fn kill(mut child: Child, after: u64) -> bool {
    std::thread::sleep(Duration::from_millis(after));
    let is_running = child.try_wait().expect("the process").is_none();
    if is_running {
        child.kill().expect("a kill");
    }
    child.wait().expect("its end");
    is_running
}

/// The ids of all archives, parts of runs among them.
fn listed(lab: &Lab, url: &str) -> Vec<String> {
    let text = lab.run(&["list", "--partial", "--json", "--from", url]).expect(0).text();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.map(|line| line["id"].as_str().expect("an id").to_string()).collect()
}

/// Every archive that is listed is whole, with all that it needs.
fn all_come_back(lab: &Lab, url: &str) {
    for id in listed(lab, url) {
        let name = format!("j@{id}");
        lab.run(&["verify", &name, "--whole", "--no-record", "--no-encrypt", "--from", url]).expect(0);
    }
}

/// Kills backups, prunes and cleans until so many were killed, with a backup beside some of them that is not. In the clear: to
/// make keys of passphrases would take most of the time.
fn nights_of_kills(lab: &Lab, url: &str, kills: usize) {
    let backup = [
        "backup",
        "path",
        "s",
        "--job",
        "j",
        "--incremental",
        "--no-encrypt",
        "--quiet",
        "--retry-for",
        "20s",
        "--to",
        url,
    ];
    let prune = ["prune", "j", "--keep-last", "3", "--confirm", "--quiet", "--from", url];
    let clean = ["clean", "j", "--older-than", "0s", "--confirm", "--quiet", "--from", url];
    let (mut chance, mut killed, mut night) = (Chance(13), 0, 0);
    while killed < kills {
        night += 1;
        assert!(night < 20 * kills, "only {killed} were still running");
        in_source(lab, &format!("echo {night} >> f{}", night as u64 % FILES));
        let words: &[&str] = [&backup[..], &prune, &prune, &clean][chance.below(4) as usize];
        let beside = (words[0] != "backup" && chance.below(3) == 0).then(|| start(lab, &backup));
        killed += usize::from(kill(start(lab, words), chance.below(100)));
        if let Some(mut beside) = beside {
            // Where what it builds on is being deleted, it says so.
            beside.wait().expect("its end");
        }
        if chance.below(3) == 0 {
            // There is always something to prune.
            lab.run(&backup).expect(0);
        }
        if night % 20 == 0 {
            all_come_back(lab, url);
        }
    }
}

#[test]
fn what_is_listed_restores_and_clean_leaves_nothing_else_whatever_was_killed() {
    let lab = Lab::new();
    for store in AnyStore::all(&lab) {
        let kills = if matches!(store, AnyStore::S3(_)) { 60 } else { 20 };
        let url = store.url();
        in_source(
            &lab,
            &format!("for i in $(seq 0 {}); do head -c 200000 /dev/urandom > f$i; done", FILES - 1),
        );
        nights_of_kills(&lab, &url, kills);
        let last =
            ["backup", "path", "s", "--job", "j", "--incremental", "--no-encrypt", "--json", "--to", &url];
        let last = id(&sealed(&lab.run(&last).expect(0)));
        lab.run(&["prune", "j", "--keep-last", "3", "--confirm", "--from", &url]).expect(0);
        lab.run(&["clean", "--older-than", "0s", "--confirm", "--from", &url]).expect(0);
        all_come_back(&lab, &url);
        let ids = listed(&lab, &url);
        assert!(ids.contains(&last), "{last} of {ids:?}");
        if !matches!(store, AnyStore::Azure(_)) {
            assert_eq!((store.unfinished(), store.all_names().len()), (Vec::new(), 3 * ids.len()), "{url}");
        }
        let to = lab.path("back");
        lab.run(&["restore", "j", "--to-path", &to.display().to_string(), "--no-encrypt", "--from", &url])
            .expect(0);
        is_the_source(&lab, "back");
        std::fs::remove_dir_all(to).expect("a folder");
    }
}
