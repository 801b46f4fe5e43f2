//! The documents are a promise: what they show is run.

use std::process::Command;

use crate::needs;
use crate::support::{Ended, Lab, docker, sh};

const README: &str = include_str!("../README.md");
const GUIDE: &str = include_str!("../GUIDE.md");
/// Every document that shows commands.
const SHOWN: [&str; 5] = [
    README,
    GUIDE,
    include_str!("../docs/MANUAL.md"),
    include_str!("../docs/POLICY.md"),
    include_str!("../docs/COMPARISON.md"),
];

/// The blocks of a document that are marked `<!-- test: NAME -->`, without their fences.
fn blocks<'a>(document: &'a str, name: &str) -> Vec<&'a str> {
    let mark = format!("<!-- test: {name} -->\n```");
    let after = |rest: &'a str| rest.split_once('\n').and_then(|(_, text)| text.split("```").next());
    document.split(&mark).skip(1).filter_map(after).collect()
}

/// What a block says, for a home, a store and folders of one's own.
fn here(lab: &Lab, block: &str) -> String {
    let mut block = block.replace("/tmp/", &format!("{}/", lab.dir.display()));
    // The tree of the machine may be large, or not ours to read.
    for (shown, ours) in [("path /etc", "path etc"), ("-r /etc", "-r etc"), ("[\"/etc\"]", "[\"etc\"]")] {
        block = block.replace(shown, ours);
    }
    // The binary under test is installed already.
    block = block.replace("cargo install --path . --locked", "command -v sealift");
    block.replace("/root/", &format!("{}/", lab.dir.display()))
}

/// Runs a block as a new user would, with pipefail.
fn run(lab: &Lab, block: &str) -> Ended {
    let block = here(lab, block);
    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_sealift")).parent().expect("a folder");
    let path = format!("{}:{}:{}", lab.dir.display(), bin.display(), std::env::var("PATH").expect("a PATH"));
    let mut bash = Command::new("bash");
    bash.args(["-eu", "-o", "pipefail", "-c", &block]);
    bash.current_dir(&lab.dir).env("HOME", &lab.dir).env("PATH", path);
    Ended::from(bash.output().expect("bash runs"))
}

/// A new user who has done what comes first in the README.
fn after_the_main_command() -> Lab {
    let lab = Lab::new();
    std::fs::create_dir(lab.path("etc")).expect("a folder");
    std::fs::write(lab.path("etc/hosts"), "127.0.0.1 localhost\n").expect("a file");
    let [main] = blocks(README, "main")[..] else { panic!("one main command") };
    assert_eq!(main.trim().lines().count(), 1, "it is one command");
    run(&lab, main).expect(0);
    lab
}

/// What a task of the guide prints.
fn task(lab: &Lab, name: &str) -> String {
    let steps = blocks(GUIDE, name);
    assert!(!steps.is_empty(), "{name}");
    steps.iter().map(|block| run(lab, block).expect(0).text()).collect()
}

#[test]
fn the_main_command_and_what_follows_it() {
    needs!("gpg");
    let lab = after_the_main_command();
    let after = blocks(README, "after");
    assert_eq!(after.len(), 2);
    let shown: String = after.iter().map(|block| run(&lab, block).expect(0).text()).collect();
    assert_eq!(shown.matches("etc/hosts").count(), 2, "{shown}");
    assert!(shown.contains("JOB"), "{shown}");
}

#[test]
fn a_night_and_the_morning_after_it() {
    let lab = after_the_main_command();
    let [settings] = blocks(README, "settings")[..] else { panic!("one settings file") };
    lab.write("sealift.toml", here(&lab, settings).as_bytes());
    let [night] = blocks(README, "night")[..] else { panic!("one night") };
    assert!(night.trim().lines().count() <= 5, "a night in five lines");
    run(&lab, night).expect(0);
    let [status] = blocks(README, "status")[..] else { panic!("one look at whether all is well") };
    let text = run(&lab, status).expect(0).text();
    assert!(text.lines().nth(1).is_some_and(|line| line.starts_with("etc  ok  ")), "{text}");
}

#[test]
fn the_drill_brings_everything_back_without_sealift() {
    needs!("gpg");
    let lab = after_the_main_command();
    let shown = task(&lab, "drill");
    assert!(shown.contains("sealift-catalog") || shown.starts_with('{'), "{shown}");
    assert_eq!(std::fs::read(lab.path("drill/etc/hosts")).expect("it is back"), b"127.0.0.1 localhost\n");
}

#[test]
fn what_offen_made_is_read() {
    needs!("gpg");
    let lab = after_the_main_command();
    // As docker-volume-backup does with GPG_PASSPHRASE: tar, gzip, gpg.
    let made = "mkdir -p offen backup/app; echo x > backup/app/f; tar -cz backup | gpg --batch --pinentry-mode loopback \
                --passphrase-file .sealift-passphrase -c -o offen/backup-2026-11-20T02-00-00.tar.gz.gpg";
    run(&lab, made).expect(0);
    task(&lab, "offen");
    assert_eq!(std::fs::read(lab.path("old/backup/app/f")).expect("it is back"), b"x\n");
}

#[test]
fn a_snapshot_comes_over_from_restic() {
    let lab = after_the_main_command();
    // Stands in for restic: `dump` writes a tar of a snapshot.
    let stand_in = format!(
        "#!/bin/sh\n[ \"$*\" = 'dump --archive tar latest /srv' ] && tar -c -C '{}' etc\n",
        lab.dir.display()
    );
    lab.write("restic", stand_in.as_bytes());
    sh(&format!("chmod +x '{}'", lab.path("restic").display()));
    assert!(task(&lab, "restic").contains("etc/hosts"));
}

#[test]
fn the_volumes_of_a_compose_stack_come_back() {
    needs!("docker");
    let lab = after_the_main_command();
    let volumes = ["shop_media", "shop_settings", "store_media"];
    let remove = || volumes.iter().for_each(|name| drop(sh(&format!("docker volume rm -f {name} || true"))));
    remove();
    for name in &volumes[..2] {
        let folder = docker(&["volume", "create", name]);
        let folder = docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", &folder]);
        sh(&format!("echo {name} > {folder}/f"));
    }
    assert!(task(&lab, "compose").contains("shop_media/_data/f"));
    remove();
    task(&lab, "compose-back");
    for (name, holds) in
        [("shop_media", "shop_media"), ("shop_settings", "shop_settings"), ("store_media", "shop_media")]
    {
        let folder = docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", name]);
        assert_eq!(sh(&format!("cat {folder}/f")).trim(), holds, "{name}");
    }
    remove();
}

#[test]
fn the_test_command_is_the_one_that_ci_runs() {
    let ci = include_str!("../.ci/run");
    let [tests] = blocks(README, "tests")[..] else { panic!("one test command") };
    assert!(ci.lines().any(|line| line == format!("step 'tests' {}", tests.trim())), "{tests}");
}

#[test]
fn every_other_command_line_is_one_that_sealift_takes() {
    let lab = Lab::new();
    let shown = SHOWN.concat().replace("\\\n", " ");
    let commands = shown.lines().filter_map(|line| line.trim().strip_prefix("sealift "));
    let mut count = 0;
    // Nobody answers there, and that is not to be tried for minutes.
    let settings = lab.write("quick.toml", b"retry_for = \"1s\"\nfrom = \"s3://backups/prod\"\n");
    for line in commands.filter(|line| !line.contains('…')) {
        let words: Vec<_> = line
            .split(" # ")
            .next()
            .unwrap_or_default()
            .split('|')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        // Without an engine, a store and a passphrase nothing is done, but the words are understood.
        let mut command = lab.sealift();
        command
            .args(words)
            .env("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
            .env("DOCKER_HOST", "unix:///nowhere")
            .env("SEALIFT_CONFIG", &settings);
        command
            .env("SEALIFT_PASSPHRASE_COMMAND", "false")
            .env_remove("SEALIFT_PASSPHRASE_FILE")
            .current_dir("/");
        let ended = Ended::from(command.output().expect("sealift runs"));
        assert!(!ended.stderr.contains("Usage:"), "{line}: {}", ended.stderr);
        count += 1;
    }
    assert!(count >= 6, "only {count} commands were found");
}
