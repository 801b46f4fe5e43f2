//! The README is a promise: what it shows is run.

use std::process::Command;

use crate::needs;
use crate::support::{Ended, Lab};

const README: &str = include_str!("../README.md");
const GUIDE: &str = include_str!("../GUIDE.md");

/// The commands of the blocks marked `<!-- test: NAME -->`.
fn blocks(name: &str) -> Vec<&'static str> {
    let mark = format!("<!-- test: {name} -->\n```sh\n");
    README.split(&mark).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

/// Runs a block as a new user would: in a home and with a store of one's own.
fn run(lab: &Lab, block: &str) -> Ended {
    let store = lab.path("backups");
    let mut block = block.replace("/tmp/backups", &store.display().to_string());
    // The tree of the machine may be large, or not ours to read.
    block = block.replace("path /etc", "path etc");
    // The binary under test is installed already.
    block = block.replace("cargo install --path . --locked", "command -v sealift");
    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_sealift")).parent().expect("a folder");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").expect("a PATH"));
    let mut bash = Command::new("bash");
    bash.args(["-eu", "-c", &block]).current_dir(&lab.dir).env("HOME", &lab.dir).env("PATH", path);
    Ended::from(bash.output().expect("bash runs"))
}

#[test]
fn the_main_command_and_what_follows_it() {
    needs!("gpg");
    let lab = Lab::new();
    std::fs::create_dir(lab.path("etc")).expect("a folder");
    std::fs::write(lab.path("etc/hosts"), "127.0.0.1 localhost\n").expect("a file");
    let [main] = blocks("main")[..] else { panic!("one main command") };
    assert_eq!(main.trim().lines().count(), 1, "it is one command");
    run(&lab, main).expect(0);
    let after = blocks("after");
    assert_eq!(after.len(), 2);
    let shown: String = after.iter().map(|block| run(&lab, block).expect(0).text()).collect();
    assert_eq!(shown.matches("etc/hosts").count(), 2, "{shown}");
    assert!(shown.contains("JOB"), "{shown}");
    let [status] = blocks("status")[..] else { panic!("one look at whether all is well") };
    let text = run(&lab, status).expect(0).text();
    assert!(text.lines().nth(1).is_some_and(|line| line.starts_with("etc  ok  ")), "{text}");
}

#[test]
fn the_test_command_is_the_one_that_ci_runs() {
    let ci = include_str!("../.ci/run");
    let [tests] = blocks("tests")[..] else { panic!("one test command") };
    assert!(ci.lines().any(|line| line == format!("step 'tests' {}", tests.trim())), "{tests}");
}

#[test]
fn every_other_command_line_is_one_that_sealift_takes() {
    let lab = Lab::new();
    let shown = [README, GUIDE].concat().replace("\\\n", " ");
    let commands = shown.lines().filter_map(|line| line.trim().strip_prefix("sealift "));
    let mut count = 0;
    // Nobody answers there, and that is not to be tried for minutes.
    let settings = lab.write("quick.toml", b"retry_for = \"1s\"\n");
    for line in commands.filter(|line| !line.contains('…')) {
        let words: Vec<_> = line.split('|').next().unwrap_or_default().split_whitespace().collect();
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
