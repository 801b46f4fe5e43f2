//! The swarm: read while the engine runs or is stopped, and whatever happens, it runs again.

use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use super::{jobs, run, signal};
use crate::needs;
use crate::support::ee::{EeNode, EeOptions};
use crate::support::{Ended, Lab, noise, sh, until};

fn node() -> EeNode {
    let node = EeNode::bare();
    node.docker(&["swarm", "init", "--advertise-addr", "127.0.0.1"]);
    node
}

/// A backup for which the engine is stopped by `stop` and started by `start`.
fn stopped(node: &EeNode, lab: &Lab, (stop, start): (&str, &str), more: &[&str]) -> Command {
    let mut command = node.sealift(lab);
    let words = ["backup", "swarm", "--stop-engine", "--stop-command", stop, "--start-command", start];
    command.args(words).args(more);
    command
}

fn end(mut command: Command) -> Ended {
    Ended::from(command.output().expect("sealift runs"))
}

#[test]
fn it_is_backed_up_while_the_engine_runs_or_is_stopped() {
    needs!("docker");
    let lab = Lab::new();
    let store = lab.file_store();
    let node = node();
    let online = ["backup", "swarm", "--warn-ok", "changed", "--to", &store];
    let ended = run(&node, &lab, &online, &[]).expect(0);
    assert!(ended.stderr.contains("taken while the engine ran"), "{}", ended.stderr);
    let names = lab.run(&["ls", "swarm", "--from", &store]).expect(0).text();
    assert!(names.contains("swarm/raft/") && names.contains("swarm/certificates/"), "{names}");

    // The commands may stand in the settings file, for whoever says --stop-engine.
    let (stop, start) = (node.stop_command(), node.start_command());
    // The engine gives way to nobody, though the backup does; and what stopping it leaves running keeps nobody waiting.
    let nice = lab.path("nice").display().to_string();
    let settings = format!(
        "[jobs.swarm]\nsource = \"swarm\"\nnice = 15\nstop_command = \"{stop}; [ ! -e /proc/self/fd/3 ]\"\n\
         start_command = \"{start} && cut -d' ' -f19 /proc/self/stat >{nice}\"\n"
    );
    lab.write("sealift.toml", settings.as_bytes());
    let ended = run(&node, &lab, &["backup", "job", "swarm", "--stop-engine", "--to", &store], &[]).expect(0);
    assert!(ended.stderr.contains("only manager") && node.runs(), "{}", ended.stderr);
    assert_eq!(std::fs::read_to_string(nice).expect("a nice value"), "0\n");

    // It fails, and the engine runs again: what is expected is not there, the store is full.
    let commands = (stop.as_str(), start.as_str());
    end(stopped(&node, &lab, commands, &["--to", &store, "--expect", "nothing-such", "--strict"]))
        .expect_error(1, "does not hold what is expected");
    assert!(node.runs());
    let small = lab.path("small").display().to_string();
    std::fs::write(node.data_root().join("swarm/large"), noise(1, 16_000_000)).expect("a file");
    sh(&format!("mkdir {small}; mount -t tmpfs -o size=8m none {small}; mkdir {small}/store"));
    let full = end(stopped(&node, &lab, commands, &["--to", &format!("file://{small}/store")]));
    sh(&format!("umount {small}"));
    full.expect_error(1, "uploading a part").hint("the file system is full");
    assert!(node.runs());
    end(stopped(&node, &lab, ("false", "true"), &["--to", &store]))
        .expect_error(1, "`false` failed")
        .hint("--stop-command");
    assert_eq!(jobs(&lab, &store), ["swarm", "swarm"]);
}

/// A backup whose tar hangs, as it does on a disk that does not answer: the engine is stopped meanwhile.
fn hanging(node: &EeNode, lab: &Lab, commands: (&str, &str)) -> Child {
    std::fs::create_dir_all(lab.path("bin")).expect("a folder");
    let tar = lab.write(
        "bin/tar",
        b"#!/bin/sh\n[ \"$1\" != --version ] || exec /usr/bin/tar --version\nexec sleep 20\n",
    );
    std::fs::set_permissions(tar, std::fs::Permissions::from_mode(0o755)).expect("a program");
    let mut command = stopped(node, lab, commands, &["--to", &lab.file_store()]);
    let path = format!("{}:{}", lab.path("bin").display(), std::env::var("PATH").expect("a PATH"));
    command.env("PATH", path).stderr(Stdio::piped()).spawn().expect("sealift starts")
}

#[test]
fn a_signal_leaves_no_engine_stopped() {
    needs!("docker");
    let lab = Lab::new();
    let node = node();
    let (stop, start) = (node.stop_command(), node.start_command());
    let log = lab.path("log").display().to_string();
    let commands = (
        format!("{stop}; echo stopped >>{log}; sleep 2; echo done >>{log}"),
        format!("echo start >>{log}; {start}"),
    );
    let commands = (commands.0.as_str(), commands.1.as_str());
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    let until_said = |words: &str| until(words, || said().ends_with(words));
    // While it is read.
    for (name, code) in [("TERM", 130), ("KILL", 137)] {
        let child = hanging(&node, &lab, commands);
        until_said("stopped\ndone\n");
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(!node.runs(), "the engine is stopped");
        signal(child, name).expect(code);
        until("the engine runs again", || node.runs());
        sh(&format!("rm {log}"));
    }
    // While it is stopped: the start waits for the stop's end.
    for name in ["TERM", "KILL"] {
        let child = hanging(&node, &lab, commands);
        until_said("stopped\n");
        signal(child, name);
        until("the engine runs again", || node.runs());
        assert_eq!(said(), "stopped\ndone\nstart\n");
        sh(&format!("rm {log}"));
    }
    assert_eq!(jobs(&lab, &lab.file_store()), [""; 0]);
    run(&node, &lab, &["backup", "swarm", "--warn-ok", "changed", "--to", &lab.file_store()], &[]).expect(0);
}

#[test]
fn an_autolocked_swarm_is_unlocked_again_and_its_key_is_sealed() {
    needs!("docker");
    let lab = Lab::new();
    let store = lab.file_store();
    let node = EeNode::with(&EeOptions { swarm: true, ..EeOptions::default() });
    node.docker(&["swarm", "update", "--autolock=true"]);
    let key = node.docker(&["swarm", "unlock-key", "-q"]);
    let (stop, start) = (node.stop_command(), node.start_command());
    let commands = (stop.as_str(), start.as_str());
    let ended = end(stopped(&node, &lab, commands, &["--to", &store])).expect(0);
    assert!(
        ended.stderr.contains("is not in this backup") && !ended.stderr.contains(&key),
        "{}",
        ended.stderr
    );
    node.docker(&["node", "ls"]);
    let with_key = ["--with-unlock-key", "--to", &store];
    let ended = end(stopped(&node, &lab, commands, &with_key)).expect(0);
    assert!(ended.stderr.contains("the swarm is unlocked again"), "{}", ended.stderr);
    assert!(!ended.stderr.contains(&key));
    node.docker(&["node", "ls"]);
    let back = lab.run(&["restore", "swarm/unlock-key", "--to-stdout", "--from", &store]).expect(0).text();
    assert_eq!(back.trim(), key);
    end(stopped(&node, &lab, commands, &[&with_key[..], &["--no-encrypt"]].concat()))
        .expect_error(2, "in the clear");

    // Back, in the order that the plan gives.
    let plan = lab.run(&["restore", "set", "swarm", "--plan", "--from", &store]).expect(0).text();
    let at = |words: &str| plan.find(words).unwrap_or_else(|| panic!("{words:?} is not in {plan}"));
    assert!(at("docker swarm unlock ") < at("docker swarm update --autolock=false"));
    assert!(at("docker swarm update --autolock=false") < at("docker swarm init --force-new-cluster"));
    let fresh = EeNode::bare();
    fresh.load(&["bb:1"]);
    fresh.stop();
    let root = fresh.data_root().display().to_string();
    sh(&format!("rm -rf {root}/swarm"));
    lab.run(&["restore", "swarm", "--to-path", &root, "--overwrite", "--from", &store]).expect(0);
    fresh.start();
    let unlock = format!("echo {key} | DOCKER_HOST={} /usr/bin/docker swarm unlock", fresh.host());
    until("it is unlocked", || {
        Command::new("sh").args(["-c", &unlock]).output().is_ok_and(|o| o.status.success())
    });
    fresh.wait_for_swarm();
    fresh.docker(&["swarm", "update", "--autolock=false"]);
    fresh.docker(&["swarm", "init", "--force-new-cluster", "--advertise-addr", "127.0.0.1"]);
    fresh.wait_for_swarm();
    assert_eq!(fresh.docker(&["service", "ls", "--format", "{{.Name}}"]), "web");
    assert!(fresh.docker(&["swarm", "update", "--autolock=true"]).contains("SWMKEY-"));
}
