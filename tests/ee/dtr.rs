//! Docker Trusted Registry by itself: what it refuses, what it is asked for, where its images lie.

use super::{REPLICA, dtr_words, in_the_clear, jobs, push, run, signal, start};
use crate::needs;
use crate::support::ee::{ADMIN, EeNode, EeOptions};
use crate::support::{Ended, Lab, sh, until};

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
    let child = start(&node, &lab, &backup, &words);
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
    let ended = signal(child, "TERM").expect(130);
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
}

#[test]
fn no_manifest_and_no_catalog_has_the_password() {
    needs!("docker", "registry", "ee");
    let lab = Lab::new();
    let store = lab.file_store();
    let node = EeNode::with(&EeOptions::default());
    let _ = push(&node, &lab, "x");
    let words = dtr_words(&lab);
    run(&node, &lab, &["backup", "dtr", "--to", &store], &words).expect(0);
    assert_eq!(jobs(&lab, &store), ["dtr/images", "dtr/metadata"]);
    // Manifests and the set manifest: neither the password, nor who gave it and where.
    let clear = in_the_clear(&lab);
    for part in ["dtr/metadata/", "dtr/images/", ".set.json", "\"replica\":\"0123456789ab\""] {
        assert!(clear.contains(part), "{part} is not in {clear}");
    }
    for secret in [ADMIN.1, "ucp.pass", "ucp.example.com", "\"admin\""] {
        assert!(!clear.contains(secret), "{secret} is in {clear}");
    }
    let shown = lab.run(&["show", "dtr/metadata", "--json", "--from", &store]).expect(0).text();
    assert!(shown.contains("UCP_PASSWORD") && shown.contains("ucp.example.com"), "{shown}");
    assert!(!shown.contains(ADMIN.1) && !shown.contains("ucp.pass"), "{shown}");
}

#[test]
fn two_at_a_time_do_not_meet() {
    needs!("docker", "registry", "ee");
    let lab = Lab::new();
    let store = lab.file_store();
    let node = EeNode::with(&EeOptions { dtr_tag: "2.7.5-large", ..EeOptions::default() });
    let words = dtr_words(&lab);
    let backup = ["backup", "dtr", "--only", "metadata", "--no-lease", "--to", &store];
    let both = [start(&node, &lab, &backup, &words), start(&node, &lab, &backup, &words)];
    for child in both {
        Ended::from(child.wait_with_output().expect("sealift ends")).expect(0);
    }
    let listed = lab.list(&store);
    assert!(listed.len() == 2 && listed[0].1 != listed[1].1, "{listed:?}");
    for (job, id) in listed {
        lab.run(&["verify", &format!("{job}@{id}"), "--from", &store]).expect(0);
    }
}

#[test]
fn what_dtr_is_asked_for_is_what_was_said() {
    needs!("docker", "registry", "ee");
    let lab = Lab::new();
    let store = lab.file_store();
    let node = EeNode::with(&EeOptions { dtr_tag: "2.7.5-wrong-version", ..EeOptions::default() });
    let pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    lab.write("ucp.pem", pem.as_bytes());
    let mut words = dtr_words(&lab);
    words.retain(|word| word != "--ucp-insecure-tls");
    words.extend(["--ucp-ca", "ucp.pem", "--offline-backup"].map(String::from));
    // What it gives is another version's backup.
    let backup = ["backup", "dtr", "--only", "metadata", "--to", &store];
    let ended = run(&node, &lab, &backup, &words).expect(3);
    assert!(ended.stderr.contains("no member matches 'dtr-backup-v2.7.5/rethink/*'"), "{}", ended.stderr);
    assert!(ended.stderr.contains("take it out of the load balancer"), "{}", ended.stderr);
    assert!(ended.stderr.contains("Taking RethinkDB of replica 0123456789ab down"), "{}", ended.stderr);
    run(&node, &lab, &[&backup[..], &["--strict"]].concat(), &words)
        .expect_error(1, "does not hold what is expected");
    assert_eq!(jobs(&lab, &store), ["dtr/metadata"]);
    lab.write("ucp.pem", b"no certificate");
    run(&node, &lab, &backup, &words).expect_error(1, "exited with code 1");
    lab.write("empty.pass", b"\n");
    words.extend(["--ucp-password-file", "empty.pass"].map(String::from));
    words.retain(|word| !word.ends_with("ucp.pass"));
    let at = words.iter().position(|word| word == "--ucp-password-file").expect("the option");
    words.remove(at);
    run(&node, &lab, &backup, &words)
        .expect_error(2, "the UCP password is empty")
        .hint("--ucp-password-file");
}

#[test]
fn the_images_are_where_the_replica_has_them_now() {
    needs!("docker", "registry", "ee");
    let lab = Lab::new();
    let store = lab.file_store();
    let node = EeNode::with(&EeOptions::default());
    let _ = push(&node, &lab, "old");
    let registry = format!("dtr-registry-{REPLICA}");
    let words = dtr_words(&lab);
    let move_to = |mount: &[&str]| {
        node.docker(&["rm", "-f", &registry]);
        let run = ["run", "-d", "--name", &registry, "--network", "host", "-e", "DTR_VERSION=2.7.5"];
        let more = ["-e", "REGISTRY_HTTP_ADDR=127.0.0.1:5000", "docker/dtr-registry:2.7.5"];
        node.docker(&[&run[..], mount, &more].concat());
        until("the registry answers", || {
            let asked = ["exec", &registry, "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:5000/v2/"];
            let asked = std::process::Command::new("/usr/bin/docker")
                .env("DOCKER_HOST", node.host())
                .args(asked)
                .output();
            asked.is_ok_and(|asked| asked.status.success())
        });
    };
    // Moved to another volume, with options as an NFS share has them; the old one is still there, and stale.
    let share = lab.path("share").display().to_string();
    std::fs::create_dir(&share).expect("a folder");
    let volume = format!("dtr-registry-nfs-{REPLICA}");
    let device = format!("device={share}");
    node.docker(&["volume", "create", "--opt", "type=none", "--opt", "o=bind", "--opt", &device, &volume]);
    move_to(&["-v", &format!("{volume}:/storage")]);
    sh(&format!("rm -rf {}/root", lab.dir.display()));
    let digest = push(&node, &lab, "new");
    let ended = run(&node, &lab, &["backup", "dtr", "--to", &store], &words).expect(0);
    assert!(ended.stderr.contains("2 of 2 archives"), "{}", ended.stderr);
    let names = lab.run(&["ls", "dtr/images", "--from", &store]).expect(0).text();
    let hex = digest.trim_start_matches("sha256:");
    assert!(names.contains(&format!("{volume}/_data/docker/registry/v2/blobs/sha256/")), "{names}");
    assert!(names.contains(hex), "the new image is not in {names}");
    let plan = lab.run(&["restore", "set", "dtr", "--plan", "--from", &store]).expect(0).text();
    assert!(plan.contains(&format!("--dtr-storage-volume {volume}")), "{plan}");

    // Moved to an object store: both halves were asked for, and there is one.
    move_to(&["--tmpfs", "/storage"]);
    let ended = run(&node, &lab, &["backup", "dtr", "--to", &store], &words).expect(3);
    assert!(ended.stderr.contains("they are not in this backup"), "{}", ended.stderr);
    run(&node, &lab, &["backup", "dtr", "--only", "metadata", "--to", &store], &words).expect(0);
    run(&node, &lab, &["backup", "dtr", "--only", "images", "--to", &store], &words)
        .expect_error(1, "keeps its images in no volume")
        .hint("bucket");
}

#[test]
fn a_container_with_a_similar_name_is_not_believed() {
    needs!("docker", "registry", "ee");
    let lab = Lab::new();
    let node = EeNode::with(&EeOptions::default());
    for name in ["dtr-registry-evil", "ucp-controller-0"] {
        node.docker(&["run", "-d", "--name", name, "--network", "host", "bb:1", "sleep", "600"]);
    }
    let store = lab.file_store();
    let words = dtr_words(&lab);
    run(&node, &lab, &["backup", "dtr", "--only", "metadata", "--to", &store], &words).expect(0);
    node.docker(&["rm", "-f", "ucp-controller"]);
    run(&node, &lab, &["backup", "ucp", "--to", &store], &[])
        .expect_error(1, "UCP does not run on this node");
    assert_eq!(jobs(&lab, &store), ["dtr/metadata"]);
}
