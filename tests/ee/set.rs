//! Sets: all of Docker EE there and back, and what is left when a member fails.

use std::process::Command;

use super::{REPLICA, dtr_words, jobs, members, push, restored, run, sets, signal, start};
use crate::needs;
use crate::support::ee::{ADMIN, EeNode, EeOptions};
use crate::support::{AnyStore, Lab, feed, sh, unique, until};

#[test]
fn the_whole_set_to_s3_and_back() {
    needs!("docker", "registry", "ee", "s3", "gpg");
    let lab = Lab::new();
    let node = EeNode::with(&EeOptions { swarm: true, ..EeOptions::default() });
    let content = unique("content");
    let digest = push(&node, &lab, &content);
    let store = AnyStore::S3(unique("set"));
    let (stop, start) = (node.stop_command(), node.start_command());
    let words = [
        "backup",
        "set",
        "docker-ee",
        "--to",
        &store.url(),
        "--stop-engine",
        "--stop-command",
        &stop,
        "--start-command",
        &start,
    ];
    let ended = run(&node, &lab, &words, &dtr_words(&lab)).expect(0);
    assert!(ended.stderr.contains("complete, 4 of 4 archives"), "{}", ended.stderr);
    assert!(node.runs(), "the engine runs again");
    assert_eq!(jobs(&lab, &store.url()), ["dtr/images", "dtr/metadata", "swarm", "ucp"]);
    let listed = sets(&lab, &store.url());
    assert!(listed.len() == 1 && listed[0].0 == "docker-ee" && listed[0].2, "{listed:?}");
    assert_eq!(members(&lab, &store.url()), ["swarm", "ucp", "dtr/metadata", "dtr/images"], "in this order");

    // The documented tools read what the documents show.
    let names = store.names();
    let metadata =
        names.iter().find(|name| name.starts_with("dtr/metadata/") && name.ends_with(".tar.zst.gpg"));
    let tar = lab.by_gpg(&store.read(metadata.expect("the metadata").as_str()), &["zstd", "-d"]);
    let layout = feed(Command::new("tar").arg("-t"), &tar).expect(0).text();
    for member in
        ["dtr-backup-v2.7.5/", "dtr-backup-v2.7.5/rethink/layers/", "dtr-backup-v2.7.5/rethink/properties/0"]
    {
        assert!(layout.lines().any(|line| line == member), "{member} is not in {layout}");
    }

    // The plan: exact words, from the sealed catalogs.
    let plan = lab.run(&["restore", "set", "docker-ee", "--plan", "--from", &store.url()]).expect(0).text();
    for words in [
        "docker swarm init --force-new-cluster",
        "docker/ucp:3.2.6 restore",
        "docker/dtr:2.7.5 restore",
        &format!("--replica-id {REPLICA}"),
        &format!("--to-volume dtr-registry-{REPLICA}"),
        &format!("--to-path {} --overwrite", node.data_root().display()),
        "--ucp-insecure-tls --dtr-use-default-storage",
    ] {
        assert!(plan.contains(words), "{words:?} is not in {plan}");
    }
    assert!(!plan.contains("INCOMPLETE"), "{plan}");

    // Back, on another host: the registry serves the image, DTR gets its metadata to the byte.
    let fresh = EeNode::bare();
    fresh.load(&["bb:1", "dtr-registry:2.8", "docker/dtr:2.7.5"]);
    let from = store.url();
    let restore =
        |words: &[&str]| run(&fresh, &lab, &[&["restore"], words, &["--from", &from]].concat(), &[]);
    let volume = format!("dtr-registry-{REPLICA}");
    restore(&["dtr/images", "--to-volume", &volume]).expect(0);
    fresh.docker(&[
        "run",
        "-d",
        "--name",
        "registry",
        "--network",
        "host",
        "-e",
        "REGISTRY_HTTP_ADDR=127.0.0.1:5000",
        "-v",
        &format!("{volume}:/storage"),
        "dtr-registry:2.8",
    ]);
    let pulled = format!("127.0.0.1:5000/team/app@{digest}");
    until("the registry serves", || {
        let pull = Command::new("/usr/bin/docker")
            .env("DOCKER_HOST", fresh.host())
            .args(["pull", "-q", &pulled])
            .output();
        pull.is_ok_and(|output| output.status.success())
    });
    let words = ["docker/dtr:2.7.5", "restore", "--replica-id", REPLICA, "--ucp-url", "ucp.example.com"];
    let more = ["--ucp-username", ADMIN.0, "--ucp-insecure-tls", "--dtr-use-default-storage"];
    let to_run = [&["-e", "UCP_PASSWORD"][..], &words, &more].concat();
    let got = restored(&fresh, &lab, &["dtr/metadata", "--from", &from], &to_run, "metadata.tar");
    assert!(got == tar, "other metadata");

    // The swarm, in a fresh engine.
    let swarm = EeNode::bare();
    swarm.load(&["bb:1"]);
    swarm.stop();
    sh(&format!("rm -rf {}/swarm", swarm.data_root().display()));
    let root = swarm.data_root().display().to_string();
    lab.run(&["restore", "swarm", "--to-path", &root, "--overwrite", "--from", &from]).expect(0);
    swarm.start();
    swarm.docker(&["swarm", "init", "--force-new-cluster", "--advertise-addr", "127.0.0.1"]);
    swarm.wait_for_swarm();
    for (kind, name) in [("service", "web"), ("config", "web.conf"), ("secret", "web.key")] {
        assert_eq!(swarm.docker(&[kind, "ls", "--format", "{{.Name}}"]), name, "{kind}");
    }
}

#[test]
fn a_component_that_fails_leaves_nothing_false_behind() {
    needs!("docker", "registry", "ee");
    let lab = Lab::new();
    let store = lab.file_store();
    let node = EeNode::with(&EeOptions {
        dtr_tag: "2.7.5-truncate",
        ucp_tag: "3.2.6-die-half-way",
        ..EeOptions::default()
    });
    let dtr = dtr_words(&lab);
    // No manager here: the set ends with its first job. With --keep-going each job is tried.
    let words = ["backup", "set", "docker-ee", "--to", &store];
    let ended = run(&node, &lab, &words, &dtr).expect_error(1, "this node is no manager of a swarm");
    assert!(ended.stderr.contains("INCOMPLETE, 0 of 3 archives"), "{}", ended.stderr);
    let ended =
        run(&node, &lab, &[&words[..], &["--keep-going"]].concat(), &dtr).expect_error(1, "no manager");
    for words in ["ucp failed", "exited with code 1", "dtr/metadata failed", "without its end marker"] {
        assert!(ended.stderr.contains(words), "{words:?} is not in {}", ended.stderr);
    }
    // What is whole is listed, as part of a set that is not.
    assert_eq!(jobs(&lab, &store), ["dtr/images"]);
    let listed = sets(&lab, &store);
    assert!(listed.len() == 2 && listed.iter().all(|(_, _, complete)| !complete), "{listed:?}");
    // A preset by itself: the second half is left out when the first fails.
    let ended = run(&node, &lab, &["backup", "dtr", "--job", "again", "--to", &store], &dtr)
        .expect_error(1, "again/metadata failed");
    assert!(ended.stderr.contains("again/images is left out"), "{}", ended.stderr);
    assert_eq!(jobs(&lab, &store), ["dtr/images"]);
    assert_eq!(node.docker(&["ps", "-aq", "--filter", "label=sealift"]), "");
}

#[test]
fn a_set_that_was_killed_between_two_members_is_incomplete_and_the_next_is_whole() {
    needs!("docker", "registry", "ee");
    let lab = Lab::new();
    let store = lab.file_store();
    let node = EeNode::with(&EeOptions::default());
    lab.write("sealift.toml", format!(
        "to = [\"{store}\"]\n[jobs.ucp]\nsource = \"ucp\"\n[jobs.slow]\nsource = \"run\"\nimage = \"bb:1\"\ncommand = [\"sh\", \"-c\", \"echo begun; sleep 600\"]\nnetwork = \"none\"\n\
         [jobs.images]\nsource = \"dtr\"\nonly = \"images\"\n[sets.slow]\njobs = [\"ucp\", \"slow\"]\n[sets.nightly]\njobs = [\"ucp\", \"images\"]\n"
    ).as_bytes());
    let child = start(&node, &lab, &["backup", "set", "slow"], &[]);
    until("the second member runs", || {
        !node.docker(&["ps", "-q", "--filter", "label=sealift", "--filter", "ancestor=bb:1"]).is_empty()
    });
    signal(child, "KILL");
    assert_eq!(jobs(&lab, &store), ["ucp"]);
    let listed = sets(&lab, &store);
    assert!(listed.len() == 1 && listed[0].0 == "slow" && !listed[0].2, "{listed:?}");

    let _ = push(&node, &lab, "x");
    run(&node, &lab, &["backup", "set", "nightly"], &[]).expect(0);
    let listed = sets(&lab, &store);
    assert!(listed.iter().any(|(set, _, complete)| set == "nightly" && *complete), "{listed:?}");
    // Options for every job; one that a job does not have is refused before anything is made.
    run(&node, &lab, &["backup", "set", "nightly", "--level", "1", "--keep-going"], &[]).expect(0);
    run(&node, &lab, &["backup", "set", "nightly", "--stop-engine"], &[])
        .expect_error(2, "no job of set nightly takes --stop-engine");
    // Wherever they stand, and each for the jobs that have it.
    let other = format!("file://{}", lab.path("other").display());
    run(&node, &lab, &["backup", "--verbose", "set", "nightly", "--to", &other, "--only", "images"], &[])
        .expect(0);
    assert_eq!(jobs(&lab, &other), ["images/images", "ucp"]);
    // Plans name what is missing.
    let plan = lab.run(&["restore", "--from", &store, "set", "slow", "--plan"]).expect(0);
    assert!(plan.text().contains("# INCOMPLETE: broken off"), "{}", plan.text());
    // One bad object says nothing about the other sets.
    sh(&format!("cd {}/store/nightly && printf x >$(ls *.set.json | head -n1)", lab.dir.display()));
    let listed = sets(&lab, &store);
    assert!(listed.len() == 3 && listed.iter().any(|(_, _, complete)| *complete), "{listed:?}");
    run(&node, &lab, &["backup", "set", "nighly"], &[]).expect_error(2, "there is no set nighly");
}
