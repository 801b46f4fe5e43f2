//! Universal Control Plane by itself: its versions, its own sealing, one backup at a time, and back.

use super::{jobs, restored, run, signal, start};
use crate::needs;
use crate::support::ee::{EeNode, EeOptions};
use crate::support::{Lab, a_second_later, until};

const SECRET: &str = "secret12chars";

#[test]
fn its_versions_and_its_own_sealing() {
    needs!("docker", "registry", "ee");
    let lab = Lab::new();
    let store = lab.file_store();
    lab.write("ucp.secret", SECRET.as_bytes());
    for (tag, says) in [("3.2.6", "UCP 3.2.6"), ("3.0.4", "stops its containers on this node")] {
        let node = EeNode::with(&EeOptions { ucp_tag: tag, ..EeOptions::default() });
        let job = format!("ucp-{}", tag.replace('.', "-"));
        let backup = ["backup", "ucp", "--job", &job, "--to", &store];
        let ended = run(&node, &lab, &backup, &[]).expect(0);
        assert!(ended.stderr.contains(says), "{}", ended.stderr);
        let expects = ["--expect", "*ucp-node-certs/key.pem", "--min-entries", "101", "--from", &store];
        lab.run(&[&["verify", &job][..], &expects].concat()).expect(0);
        // Back, into the same version's restore: the bytes that UCP wrote.
        let socket = format!("{}:/var/run/docker.sock", node.host().trim_start_matches("unix://"));
        let image = format!("docker/ucp:{tag}");
        let to_run = ["--name", "ucp", "-v", &socket, &image, "restore"];
        let got = restored(&node, &lab, &[&job, "--from", &store], &to_run, "ucp.tar");
        let written = lab.run(&["restore", &job, "--to-stdout", "--from", &store]).expect(0).stdout;
        assert!(!got.is_empty() && got == written, "{} bytes, not {}", got.len(), written.len());

        // UCP seals its backup itself: what is stored is that message, and its passphrase is nowhere.
        a_second_later();
        let sealed = [&backup[..], &["--ucp-passphrase-file", "ucp.secret"]].concat();
        let ended = run(&node, &lab, &sealed, &[]).expect(0);
        assert!(ended.stderr.contains("docker inspect") && !ended.stderr.contains(SECRET));
        let shown = lab.run(&["show", &job, "--json", "--from", &store]).expect(0).text();
        assert!(shown.contains("\"sealed\":true") && !shown.contains(SECRET), "{shown}");
        let to_run = [&to_run[..], &["--passphrase", SECRET]].concat();
        let unsealed = restored(&node, &lab, &[&job, "--from", &store], &to_run, "ucp.tar");
        assert!(unsealed == got, "what UCP sealed is what it wrote without");
    }
}

#[test]
fn a_backup_that_breaks_off_is_none_sealed_or_not() {
    needs!("docker", "registry", "ee");
    let lab = Lab::new();
    let store = lab.file_store();
    lab.write("ucp.secret", SECRET.as_bytes());
    let node = EeNode::with(&EeOptions { ucp_tag: "3.2.6-truncate", ..EeOptions::default() });
    let backup = ["backup", "ucp", "--to", &store];
    run(&node, &lab, &backup, &[]).expect_error(1, "without its end marker");
    let sealed = [&backup[..], &["--ucp-passphrase-file", "ucp.secret"]].concat();
    run(&node, &lab, &sealed, &[])
        .expect_error(1, "the OpenPGP message breaks off before its end")
        .hint("again");
    assert_eq!(jobs(&lab, &store), [""; 0]);
    assert_eq!(node.docker(&["ps", "-aq", "--filter", "label=sealift"]), "");
}

#[test]
fn one_at_a_time_and_what_a_killed_one_leaves_is_in_nobodys_way() {
    needs!("docker", "registry", "ee");
    let lab = Lab::new();
    let store = lab.file_store();
    let node = EeNode::with(&EeOptions { ucp_tag: "3.2.6-hang", ..EeOptions::default() });
    let backup = ["backup", "ucp", "--to", &store];
    let runs = || node.docker(&["ps", "-q", "--filter", "name=^ucp$"]).lines().count() == 1;
    let first = start(&node, &lab, &backup, &[]);
    until("the first backup runs", runs);
    run(&node, &lab, &backup, &[]).expect_error(11, "is being backed up already");
    let alone = [&backup[..], &["--no-lease"]].concat();
    run(&node, &lab, &alone, &[])
        .expect_error(1, "cannot create a container")
        .hint("is a backup still running?");
    assert!(runs(), "the first is still there");
    // Killed outright it clears nothing away; its container ends, and has its name still.
    signal(first, "KILL");
    node.docker(&["kill", "ucp"]);
    let all = ["ps", "-aq", "--filter", "name=^ucp$"];
    assert_eq!(node.docker(&all).lines().count(), 1, "the leftover");
    node.load(&["docker/ucp:3.2.6"]);
    run(&node, &lab, &backup, &[]).expect(0);
    assert_eq!((jobs(&lab, &store), node.docker(&all)), (vec!["ucp".into()], String::new()));
    // Somebody else's container of that name is let alone, running or not.
    node.docker(&["create", "--name", "ucp", "bb:1", "true"]);
    run(&node, &lab, &backup, &[]).expect_error(1, "cannot create a container");
    assert_eq!(node.docker(&all).lines().count(), 1, "theirs is still there");
}
