//! `restore set`: the plan for a set, and all of Docker EE there and back by it.

use std::process::Command;

use crate::ee::{REPLICA, dtr_words, jobs, members, push, restored, run, sets};
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
fn a_run_of_a_set_is_named_as_archives_are() {
    let lab = Lab::new();
    let store = lab.file_store();
    lab.write("source", b"x");
    let settings = format!(
        "[stores.s]\nurl = \"{store}\"\n[jobs.etc]\nsource = \"path\"\ndirs = [\"source\"]\nto = \"s\"\n\
         no_encrypt = true\n[sets.ee]\njobs = [\"etc\"]\n"
    );
    lab.write("sealift.toml", settings.as_bytes());
    let backup = || lab.run(&["--config", "sealift.toml", "backup", "set", "ee"]).expect(0);
    // A run of a clock that was ahead, of which only the end's object is left.
    backup();
    let first = sets(&lab, &store)[0].1.clone();
    std::fs::create_dir_all(lab.path("store/ee")).expect("a folder");
    lab.write("store/ee/20990101T000000Z-00000000.set.json", b"{}");
    backup();
    let plan = |name: &str| {
        let words = ["restore", "set", name, "--plan", "--no-encrypt", "--from", &store];
        lab.run(&words)
    };
    let runs = sets(&lab, &store);
    let last = runs.iter().map(|run| run.1.clone()).max().expect("runs");
    assert!(last.starts_with("20990101T000001Z-"), "{runs:?}");
    for name in ["ee", "ee@latest", "ee@2099-01-01", &format!("ee@{}", &last[..18])] {
        assert!(plan(name).expect(0).text().contains(&last), "{name}");
    }
    assert!(plan(&format!("ee@{}", &first[..20])).expect(0).text().contains(&first));
    plan("ee@20990101").expect_error(2, "may be any of 2 runs").hint(&last);
    plan("ee@2025-01-01").expect_error(10, "there is no set ee@2025-01-01").hint("the set's last ones");
}
