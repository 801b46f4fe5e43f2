//! Docker EE as one set: swarm, UCP, DTR, on a node of the test's own.

use std::process::{Child, Stdio};

use crate::support::ee::{ADMIN, EeNode};
use crate::support::{Ended, Lab, sh};

mod dtr;
mod set;
mod swarm;
mod ucp;

pub const REPLICA: &str = "0123456789ab";

/// The words that DTR's backup needs, with the password in a file.
pub fn dtr_words(lab: &Lab) -> Vec<String> {
    let password = lab.write("ucp.pass", ADMIN.1.as_bytes());
    let words = [
        "--ucp-url",
        "ucp.example.com",
        "--ucp-username",
        ADMIN.0,
        "--ucp-insecure-tls",
        "--ucp-password-file",
    ];
    words.map(String::from).into_iter().chain([password.display().to_string()]).collect()
}

pub fn run(node: &EeNode, lab: &Lab, words: &[&str], more: &[String]) -> Ended {
    Ended::from(node.sealift(lab).args(words).args(more).output().expect("sealift runs"))
}

/// The same in the background.
fn start(node: &EeNode, lab: &Lab, words: &[&str], more: &[String]) -> Child {
    let mut command = node.sealift(lab);
    command.args(words).args(more).stderr(Stdio::piped()).spawn().expect("sealift starts")
}

/// Sends a signal, and waits for the end.
fn signal(child: Child, signal: &str) -> Ended {
    sh(&format!("kill -{signal} {}", child.id()));
    Ended::from(child.wait_with_output().expect("sealift ends"))
}

/// What `list --sets --json` says of the runs of a set: whether each is complete.
pub fn sets(lab: &Lab, store: &str) -> Vec<(String, String, bool)> {
    let listed = lab.run(&["list", "--sets", "--json", "--from", store]).expect(0).text();
    let lines = listed.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_string();
    lines.map(|set| (text(&set["set"]), text(&set["id"]), set["complete"] == true)).collect()
}

/// The members of the newest run of a set, in the set manifest's order.
pub fn members(lab: &Lab, store: &str) -> Vec<String> {
    let listed = lab.run(&["list", "--sets", "--json", "--from", store]).expect(0).text();
    let last: serde_json::Value = serde_json::from_str(listed.lines().last().expect("a set")).expect("JSON");
    let members = last["members"].as_array().expect("members").iter();
    members.map(|member| member["job"].as_str().expect("a job").to_string()).collect()
}

pub fn jobs(lab: &Lab, store: &str) -> Vec<String> {
    lab.list(store).into_iter().map(|(job, _)| job).collect()
}

/// Pushes an image of its own to the node's registry and returns its digest.
pub fn push(node: &EeNode, lab: &Lab, content: &str) -> String {
    let image = "127.0.0.1:5000/team/app:1";
    sh(&format!(
        "mkdir {0}/root; echo {content} > {0}/root/file; \
         tar -C {0}/root -c . | DOCKER_HOST={1} /usr/bin/docker import - {image} >/dev/null",
        lab.dir.display(),
        node.host()
    ));
    node.docker(&["push", "-q", image]);
    let digest = node.docker(&["inspect", "-f", "{{index .RepoDigests 0}}", image]);
    digest.split('@').nth(1).expect("a digest").to_string()
}

/// Everything that a store in a folder says in the clear: manifests, set manifests, names.
fn in_the_clear(lab: &Lab) -> String {
    sh(&format!("cd {}/store && find . && find . -name '*.json' -exec cat {{}} +", lab.dir.display()))
}

/// Restores an archive into a container that keeps what it gets, and returns that.
pub fn restored(node: &EeNode, lab: &Lab, words: &[&str], to_run: &[&str], file: &str) -> Vec<u8> {
    let run_words = [&["--to-run", "-v", "restored:/restored"][..], to_run].concat();
    let mut command = node.sealift(lab);
    command.arg("restore").args(words).args(run_words);
    Ended::from(command.env("UCP_PASSWORD", ADMIN.1).output().expect("sealift runs")).expect(0);
    let folder = node.docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", "restored"]);
    std::fs::read(format!("{folder}/{file}")).expect("what the container got")
}
