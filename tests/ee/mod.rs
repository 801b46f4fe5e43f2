//! Docker EE as one set: swarm, UCP, DTR, there and back, on a node of the test's own.

use std::process::{Command, Stdio};

use crate::needs;
use crate::support::ee::{ADMIN, EeNode, EeOptions};
use crate::support::{AnyStore, Ended, Lab, feed, sh, unique, until};

const REPLICA: &str = "0123456789ab";

/// The words that DTR's backup needs, with the password in a file.
fn dtr_words(lab: &Lab) -> Vec<String> {
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

fn run(node: &EeNode, lab: &Lab, words: &[&str], more: &[String]) -> Ended {
    Ended::from(node.sealift(lab).args(words).args(more).output().expect("sealift runs"))
}

/// What `list --sets --json` says of the runs of a set: whether each is complete.
fn sets(lab: &Lab, store: &str) -> Vec<(String, String, bool)> {
    let listed = lab.run(&["list", "--sets", "--json", "--from", store]).expect(0).text();
    let lines = listed.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_string();
    lines.map(|set| (text(&set["set"]), text(&set["id"]), set["complete"] == true)).collect()
}

fn jobs(lab: &Lab, store: &str) -> Vec<String> {
    lab.list(store).into_iter().map(|(job, _)| job).collect()
}

/// Pushes an image of its own to the node's registry and returns its digest.
fn push(node: &EeNode, lab: &Lab, content: &str) -> String {
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
    ] {
        assert!(plan.contains(words), "{words:?} is not in {plan}");
    }

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
    let mut to_dtr = fresh.sealift(&lab);
    to_dtr.args(["restore", "dtr/metadata", "--from", &from, "--to-run", "-v", "restored:/restored"]);
    to_dtr.args([
        "-e",
        &format!("UCP_PASSWORD={}", ADMIN.1),
        "docker/dtr:2.7.5",
        "restore",
        "--replica-id",
        REPLICA,
    ]);
    to_dtr.args([
        "--ucp-url",
        "ucp.example.com",
        "--ucp-username",
        ADMIN.0,
        "--ucp-insecure-tls",
        "--dtr-use-default-storage",
    ]);
    Ended::from(to_dtr.output().expect("sealift runs")).expect(0);
    let restored = fresh.docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", "restored"]);
    assert!(
        std::fs::read(format!("{restored}/metadata.tar")).expect("the metadata") == tar,
        "other metadata"
    );

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
fn what_dtr_refuses_is_said_and_its_password_is_nowhere() {
    needs!("docker", "registry", "ee");
    let lab = Lab::new();
    let store = lab.file_store();
    let node = EeNode::with(&EeOptions { dtr_tag: "2.7.5-hang", ..EeOptions::default() });
    let words = dtr_words(&lab);
    let password = lab.write("ucp.pass", b"a-wrong-password\n");
    let backup = ["backup", "dtr", "--only", "metadata", "--to", &store];
    let ended = run(&node, &lab, &backup, &words).expect_error(1, "exited with code 1");
    assert!(!ended.stderr.contains("a-wrong-password"));
    run(&node, &lab, &backup, &[]).expect_error(2, "UCP's certificate");
    run(&node, &lab, &[&backup[..], &["--replica", "ffffffffffff"]].concat(), &words)
        .expect_error(1, "no DTR replica ffffffffffff on this node")
        .hint("docker ps");

    // While it hangs: neither the process list nor the container's command line has the password.
    std::fs::write(password, ADMIN.1).expect("the password");
    let child =
        node.sealift(&lab).args(backup).args(&words).stderr(Stdio::piped()).spawn().expect("sealift runs");
    let container = || node.docker(&["ps", "-q", "--filter", "label=sealift"]);
    until("the backup runs", || !container().is_empty());
    let listed = sh("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' || true");
    assert!(!listed.contains(ADMIN.1), "a command line has the password");
    assert_eq!(node.docker(&["inspect", "-f", "{{.HostConfig.LogConfig.Type}}", &container()]), "none");
    assert!(
        !node
            .docker(&["inspect", "-f", "{{.Config.Cmd}} {{.Config.Labels}}", &container()])
            .contains(ADMIN.1)
    );
    sh(&format!("kill -TERM {}", child.id()));
    let ended = Ended::from(child.wait_with_output().expect("sealift ends")).expect(130);
    assert!(!ended.stderr.contains(ADMIN.1));
    assert_eq!((lab.list(&store), container()), (Vec::new(), String::new()));

    // What was not there when it was to be backed up is a warning, or with --strict no backup.
    let words = dtr_words(&lab);
    let images = ["backup", "dtr", "--only", "images", "--to", &store];
    sh(&format!(
        "rm -rf {}/volumes/dtr-registry-{REPLICA}/_data/docker/registry/v2/blobs",
        node.data_root().display()
    ));
    let _ = push(&node, &lab, "x");
    let blobs = format!(
        "{}/volumes/dtr-registry-{REPLICA}/_data/docker/registry/v2/blobs/sha256",
        node.data_root().display()
    );
    run(&node, &lab, &images, &words).expect(0);
    sh(&format!("find {blobs} -name data | head -n1 | xargs rm"));
    run(&node, &lab, &[&images[..], &["--strict"]].concat(), &words)
        .expect_error(1, "does not hold what is expected");
    let ended = run(&node, &lab, &images, &words).expect(3);
    assert!(ended.stderr.contains("links to blobs that are not in the backup: "), "{}", ended.stderr);
    run(&node, &lab, &[&images[..], &["--warn-ok", "links"]].concat(), &words).expect(0);
    let stored = sh(&format!("cat {}/store/dtr/images/*.json", lab.dir.display()));
    assert!(!stored.contains(ADMIN.1) && !stored.contains("ucp.pass"));
}

#[test]
fn ucp_in_its_versions_and_one_at_a_time() {
    needs!("docker", "registry", "ee");
    let lab = Lab::new();
    let store = lab.file_store();
    for (tag, says) in [("3.2.6", "UCP 3.2.6"), ("3.0.4", "stops its containers on this node")] {
        let node = EeNode::with(&EeOptions { ucp_tag: tag, ..EeOptions::default() });
        let job = format!("ucp-{}", tag.replace('.', "-"));
        let backup = ["backup", "ucp", "--job", &job, "--to", &store];
        let ended = run(&node, &lab, &backup, &[]).expect(0);
        assert!(ended.stderr.contains(says), "{}", ended.stderr);
        lab.run(&[
            "verify",
            &job,
            "--expect",
            "*ucp-node-certs/key.pem",
            "--min-entries",
            "101",
            "--from",
            &store,
        ])
        .expect(0);
        // UCP seals its backup itself: what is stored is that message, and its passphrase is nowhere.
        lab.write("ucp.secret", b"secret12chars");
        let sealed = [&backup[..], &["--ucp-passphrase-file", "ucp.secret"]].concat();
        let ended = run(&node, &lab, &sealed, &[]).expect(0);
        assert!(ended.stderr.contains("docker inspect") && !ended.stderr.contains("secret12chars"));
        let shown = lab.run(&["show", &job, "--json", "--from", &store]).expect(0).text();
        assert!(shown.contains("\"sealed\":true") && !shown.contains("secret12chars"), "{shown}");
        // Another backup runs already.
        node.docker(&[
            "run",
            "-d",
            "--name",
            "ucp",
            "--entrypoint",
            "sleep",
            &format!("docker/ucp:{tag}"),
            "600",
        ]);
        run(&node, &lab, &backup, &[])
            .expect_error(1, "cannot create a container")
            .hint("is a backup still running?");
        assert_eq!(
            node.docker(&["ps", "-q", "--filter", "name=^ucp$"]).lines().count(),
            1,
            "theirs is still there"
        );
    }
}

#[test]
fn a_swarm_is_backed_up_while_it_runs_or_stopped_and_is_running_afterwards() {
    needs!("docker", "registry", "ee");
    let lab = Lab::new();
    let store = lab.file_store();
    let node = EeNode::with(&EeOptions { swarm: true, ..EeOptions::default() });
    node.wait_for_swarm();
    let (stop, start) = (node.stop_command(), node.start_command());
    let online = ["backup", "swarm", "--warn-ok", "changed", "--to", &store];
    let ended = run(&node, &lab, &online, &[]).expect(0);
    assert!(ended.stderr.contains("taken while the engine ran"), "{}", ended.stderr);
    let names = lab.run(&["ls", "swarm", "--from", &store]).expect(0).text();
    assert!(names.contains("swarm/raft/") && names.contains("swarm/certificates/"), "{names}");

    // However it ends, the engine runs again: when the store is full, by a signal, when we are killed outright.
    let stopped = |more: &[&str]| {
        let mut command = node.sealift(&lab);
        command.args([
            "backup",
            "swarm",
            "--stop-engine",
            "--stop-command",
            &stop,
            "--start-command",
            &start,
        ]);
        command.args(["--to", &store]).args(more);
        command
    };
    let ended = Ended::from(stopped(&[]).output().expect("sealift runs")).expect(0);
    assert!(ended.stderr.contains("only manager") && node.runs(), "{}", ended.stderr);
    let failing =
        Ended::from(stopped(&["--expect", "nothing-such", "--strict"]).output().expect("sealift runs"));
    failing.expect_error(1, "does not hold what is expected");
    assert!(node.runs());
    for signal in ["TERM", "KILL"] {
        // The engine is down while tar waits for a file that never ends.
        sh(&format!("mkfifo {}/swarm/waits 2>/dev/null || true", node.data_root().display()));
        let slow = format!("{stop}; sleep 600");
        let mut command = node.sealift(&lab);
        command.args([
            "backup",
            "swarm",
            "--stop-engine",
            "--stop-command",
            &slow,
            "--start-command",
            &start,
            "--to",
            &store,
        ]);
        let mut child = command.stderr(Stdio::null()).spawn().expect("sealift runs");
        until("the engine is stopped", || !node.runs());
        sh(&format!("kill -{signal} {}", child.id()));
        let _ = child.wait();
        until("the engine runs again", || node.runs());
    }
    assert_eq!(jobs(&lab, &store), ["swarm", "swarm"]);

    // The key that unlocks the swarm, sealed beside it.
    node.wait_for_swarm();
    node.docker(&["swarm", "update", "--autolock=true"]);
    let key = node.docker(&["swarm", "unlock-key", "-q"]);
    let ended = run(&node, &lab, &online, &[]).expect(0);
    assert!(ended.stderr.contains("is not in this backup"), "{}", ended.stderr);
    let ended = run(&node, &lab, &[&online[..], &["--with-unlock-key"]].concat(), &[]).expect(0);
    assert!(!ended.stderr.contains(&key));
    let back = lab.run(&["restore", "swarm/unlock-key", "--to-stdout", "--from", &store]).expect(0).text();
    assert_eq!(back.trim(), key);
    node.docker(&["swarm", "update", "--autolock=false"]);
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
    let mut child = node
        .sealift(&lab)
        .args(["backup", "set", "slow"])
        .stderr(Stdio::null())
        .spawn()
        .expect("sealift runs");
    until("the second member runs", || {
        !node.docker(&["ps", "-q", "--filter", "label=sealift", "--filter", "ancestor=bb:1"]).is_empty()
    });
    sh(&format!("kill -KILL {}", child.id()));
    let _ = child.wait();
    assert_eq!(jobs(&lab, &store), ["ucp"]);
    let listed = sets(&lab, &store);
    assert!(listed.len() == 1 && listed[0].0 == "slow" && !listed[0].2, "{listed:?}");

    run(&node, &lab, &["backup", "set", "nightly"], &[]).expect(0);
    let listed = sets(&lab, &store);
    assert!(listed.iter().any(|(set, _, complete)| set == "nightly" && *complete), "{listed:?}");
    // Options for every job; one that a job does not have is refused before anything is made.
    run(&node, &lab, &["backup", "set", "nightly", "--level", "1", "--keep-going"], &[]).expect(0);
    run(&node, &lab, &["backup", "set", "nightly", "--stop-engine"], &[]).expect_error(2, "job");
    run(&node, &lab, &["backup", "set", "nighly"], &[]).expect_error(2, "there is no set nighly");
}
