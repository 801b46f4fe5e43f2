//! The stand-ins for Docker EE behave as the vendor documents the real ones: what is shown with them is worth as much.

use std::io::Read;
use std::process::{Command, Stdio};

use crate::needs;
use crate::support::ee::{ADMIN, EeNode, EeOptions, UCP_INSTANCE};
use crate::support::{Ended, Lab, docker, feed, sh, unique};

const DTR: [&str; 5] = [
    "--ucp-url=https://ucp",
    "--ucp-username",
    ADMIN.0,
    "--ucp-insecure-tls",
    "--existing-replica-id=0123456789ab",
];

/// `docker run -i --rm OPTIONS… IMAGE WORDS…` on the run's own engine.
fn run(options: &[&str], image: &str, words: &[&str], input: &[u8]) -> Ended {
    let mut command = Command::new("/usr/bin/docker");
    command.args(["run", "-i", "--rm", "--log-driver", "none", "--network", "none"]);
    feed(command.args(options).arg(image).args(words), input)
}

/// `docker/dtr:TAG WORDS…` with the right password.
fn dtr(tag: &str, words: &[&str], input: &[u8]) -> Ended {
    let password = format!("UCP_PASSWORD={}", ADMIN.1);
    run(&["-e", &password], &format!("docker/dtr:{tag}"), words, input)
}

/// `docker/ucp:TAG WORDS…` with the engine's socket.
fn ucp(tag: &str, words: &[&str], input: &[u8]) -> Ended {
    let host = std::env::var("DOCKER_HOST").expect("tests/run");
    let socket = format!("{}:/var/run/docker.sock", host.trim_start_matches("unix://"));
    run(&["-v", &socket], &format!("docker/ucp:{tag}"), words, input)
}

/// It failed as a stand-in does: this in its log, and nothing on stdout.
#[track_caller]
fn refused(ended: Ended, words: &str) {
    assert_eq!((ended.code, ended.stdout.len()), (1, 0), "{}", ended.stderr);
    assert!(ended.stderr.contains("FATA[") && ended.stderr.contains(words), "{}", ended.stderr);
}

fn members(lab: &Lab, tar: &[u8]) -> Vec<String> {
    let listed = sh(&format!("tar -t -f {}", lab.write("listed.tar", tar).display()));
    listed.lines().map(String::from).collect()
}

#[test]
fn a_backup_of_the_registry_is_a_whole_tar_of_its_version() {
    needs!("docker", "ee");
    let lab = Lab::new();
    let backup = |tag: &str, more: &[&str]| dtr(tag, &[&["backup"], &DTR[..], more].concat(), b"").expect(0);
    let whole = backup("2.7.5", &["--offline-backup"]);
    assert!(whole.stderr.contains("Beginning Docker Trusted Registry replica backup"), "{}", whole.stderr);
    assert!(whole.stderr.contains("RethinkDB of replica 0123456789ab down"), "{}", whole.stderr);
    let names = members(&lab, &whole.stdout);
    for name in ["", "rethink/", "rethink/layers/", "rethink/properties/", "rethink/properties/0"] {
        let name = format!("dtr-backup-v2.7.5/{name}");
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    assert!(whole.stdout.ends_with(&[0; 1024]), "no end marker");
    assert_eq!(backup("2.7.5", &[]).stdout, whole.stdout, "the same replica, another backup");
    let other = backup("2.7.5", &["--existing-replica-id", "0123456789ac"]).stdout;
    assert_ne!(other, whole.stdout, "another replica, the same backup");
    assert_eq!(members(&lab, &backup("2.6.4", &[]).stdout)[0], "dtr-backup-v2.6.4/");

    // And the faults.
    let cut = backup("2.7.5-truncate", &[]).stdout;
    assert_eq!(cut, whole.stdout[..whole.stdout.len() - 1024]);
    assert!(!cut.ends_with(&[0; 512]), "half an end marker is left");
    let half = dtr("2.7.5-die-half-way", &[&["backup"], &DTR[..]].concat(), b"").expect(1);
    assert_eq!(half.stdout, whole.stdout[..whole.stdout.len() / 2]);
    assert_eq!(members(&lab, &backup("2.7.5-wrong-version", &[]).stdout)[0], "dtr-backup-v2.5.15/");
    assert!(backup("2.7.5-large", &[]).stdout.len() > 12 << 20);
}

#[test]
fn a_backup_that_hangs_gives_its_half_and_waits_until_it_is_stopped() {
    needs!("docker", "ee");
    let whole = dtr("2.7.5", &[&["backup"], &DTR[..]].concat(), b"").expect(0).stdout;
    let (name, password) = (unique("hang"), format!("UCP_PASSWORD={}", ADMIN.1));
    let mut command = Command::new("/usr/bin/docker");
    command.args([
        "run",
        "--rm",
        "--name",
        &name,
        "--log-driver",
        "none",
        "--network",
        "none",
        "-e",
        &password,
    ]);
    command.args(["docker/dtr:2.7.5-hang", "backup"]).args(DTR).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("docker runs");
    let mut half = vec![0; whole.len() / 2];
    child.stdout.as_mut().expect("a stdout").read_exact(&mut half).expect("half a backup");
    assert_eq!(half, whole[..half.len()]);
    docker(&["stop", &name]);
    let rest = Ended::from(child.wait_with_output().expect("docker ends")).expect(143).stdout;
    assert_eq!(rest.len(), 0);
}

#[test]
fn a_backup_of_the_registry_wants_everything_it_is_documented_to_want() {
    needs!("docker", "ee");
    let backup = |left_out: usize, more: &[&str]| {
        let words: Vec<&str> = match left_out {
            // The name and the option before it.
            2 => [&DTR[..1], &DTR[3..]].concat(),
            n => DTR.iter().enumerate().filter(|(at, _)| *at != n).map(|(_, word)| *word).collect(),
        };
        dtr("2.7.5", &[&["backup"], &words[..], more].concat(), b"")
    };
    refused(backup(0, &[]), "ucp-url is required");
    refused(backup(2, &[]), "ucp-username is required");
    refused(backup(3, &[]), "x509: certificate signed by unknown authority");
    refused(backup(3, &["--ucp-ca", "nonsense"]), "no PEM certificate");
    let pem = "-----BEGIN CERTIFICATE-----\nMIIB=\n-----END CERTIFICATE-----";
    backup(3, &["--ucp-ca", pem]).expect(0);
    refused(backup(4, &[]), "existing-replica-id is required");
    refused(backup(4, &["--existing-replica-id", "x"]), "is not a replica ID");
    refused(backup(4, &["--existing-replica-id=000000000000"]), "no DTR replica 000000000000");
    refused(backup(9, &["--ucp-password=wrong"]), "401 Unauthorized");
    refused(backup(9, &["--no-such-option"]), "flag provided but not defined");
    refused(run(&[], "docker/dtr:2.7.5", &[&["backup"], &DTR[..]].concat(), b""), "ucp-password is required");
    let environment =
        ["UCP_URL=u", "UCP_USERNAME=admin", "UCP_PASSWORD=standin-password", "UCP_INSECURE_TLS=true"];
    let mut options: Vec<&str> = environment.iter().flat_map(|variable| ["-e", *variable]).collect();
    options.extend(["-e", "DTR_REPLICA_ID=0123456789ab", "-e", "DTR_OFFLINE_BACKUP=true"]);
    let ended = run(&options, "docker/dtr:2.7.5", &["backup"], b"").expect(0);
    assert!(ended.stderr.contains("down for an offline backup"), "{}", ended.stderr);
}

#[test]
fn the_registry_is_restored_from_a_whole_backup_of_its_own_version_only() {
    needs!("docker", "ee");
    let (lab, volume) = (Lab::new(), unique("restored"));
    let whole = dtr("2.7.5", &[&["backup"], &DTR[..]].concat(), b"").expect(0).stdout;
    let words = [&["restore"], &DTR[..4]].concat();
    let storage = [&words[..], &["--dtr-use-default-storage", "--replica-id", "0123456789ab"]].concat();
    refused(dtr("2.7.5", &words, &whole), "one of dtr-storage-volume");
    refused(dtr("2.6.4", &storage, &whole), "this is 2.6.4");
    for cut in [0, 1000, whole.len() / 2, whole.len() - 1024, whole.len() - 1] {
        refused(dtr("2.7.5", &storage, &whole[..cut]), "unexpected EOF");
    }
    let (mount, password) = (format!("{volume}:/restored"), format!("UCP_PASSWORD={}", ADMIN.1));
    run(&["-v", &mount, "-e", &password], "docker/dtr:2.7.5", &storage, &whole).expect(0);
    let copy = format!(
        "/usr/bin/docker run --rm -v {volume}:/v bb:1 cat /v/metadata.tar >{}",
        lab.path("copy").display()
    );
    sh(&copy);
    assert_eq!(std::fs::read(lab.path("copy")).expect("a copy"), whole);
    docker(&["volume", "rm", &volume]);
}

#[test]
fn a_backup_of_the_control_plane_follows_its_version() {
    needs!("docker", "ee", "gpg");
    let (lab, plain) = (Lab::new(), ["backup", "--no-passphrase"]);
    let whole = ucp("3.2.6", &plain, b"").expect(0).stdout;
    let names = members(&lab, &whole);
    assert!(names.len() > 100, "{}", names.len());
    assert!(names.contains(&"./ucp-node-certs/key.pem".to_string()), "{names:?}");

    refused(run(&[], "docker/ucp:3.2.6", &plain, b""), "unable to connect to the Docker socket");
    refused(ucp("3.2.6", &["backup"], b""), "a passphrase is required");
    refused(ucp("3.2.6", &["backup", "--no-passphrase", "--passphrase", "secret12chars"], b""), "exclude");
    refused(ucp("3.2.6", &["backup", "--no-passphrase", "--id", UCP_INSTANCE], b""), "flag provided but not");
    refused(ucp("3.0.4", &plain, b""), "flag provided but not defined: --no-passphrase");
    refused(ucp("3.0.4", &["backup"], b""), "the ID of the UCP");
    assert_eq!(ucp("3.0.4", &["id"], b"").expect(0).text().trim(), UCP_INSTANCE);
    let old = ucp("3.0.4", &["backup", "--id", UCP_INSTANCE], b"").expect(0);
    assert!(old.stderr.contains("stopping the UCP containers"), "{}", old.stderr);
    assert_eq!(old.stdout, whole);

    let sealed = ucp("3.2.6", &["backup", "--passphrase", crate::support::PASSPHRASE], b"").expect(0).stdout;
    assert_eq!(lab.by_gpg(&sealed, &[]), whole);
    assert_eq!(ucp("3.2.6-truncate", &plain, b"").expect(0).stdout, whole[..whole.len() - 1024]);
    assert_eq!(ucp("3.2.6-die-half-way", &plain, b"").expect(1).stdout, whole[..whole.len() / 2]);

    ucp("3.2.6", &["restore", "--passphrase", crate::support::PASSPHRASE], &sealed).expect(0);
    refused(ucp("3.2.6", &["restore", "--passphrase", "another"], &sealed), "failed to decrypt");
    refused(ucp("3.2.6", &["restore"], &sealed), "not a complete tar");
    refused(ucp("3.2.6", &["restore"], &whole[..whole.len() / 2]), "not a complete tar");
}

#[test]
fn a_node_keeps_its_replica_and_its_swarm_over_a_restart_and_a_new_cluster() {
    needs!("docker", "registry", "ee");
    let options = EeOptions { dtr_tag: "2.7.5-truncate", swarm: true, ..EeOptions::default() };
    let (lab, node) = (Lab::new(), EeNode::with(&options));
    let names = node.docker(&["ps", "--format", "{{.Names}}"]);
    for name in ["dtr-rethinkdb-", "dtr-registry-", "dtr-nginx-"].map(|name| format!("{name}0123456789ab")) {
        assert!(names.contains(&name), "{name} is not in {names}");
    }
    let environment = node.docker(&["inspect", "-f", "{{.Config.Env}}", "dtr-registry-0123456789ab"]);
    assert!(environment.contains("DTR_VERSION=2.7.5 "), "{environment}");
    let image = |name: &str| node.docker(&["image", "inspect", "-f", "{{.Id}}", name]);
    assert_eq!(image("docker/dtr:2.7.5"), image("docker/dtr:2.7.5-truncate"));
    node.docker(&["tag", "bb:1", "127.0.0.1:5000/team/bb:1"]);
    node.docker(&["push", "-q", "127.0.0.1:5000/team/bb:1"]);

    let volume = ["backup", "volume", "dtr-registry-0123456789ab", "--to", &lab.file_store()];
    Ended::from(node.sealift(&lab).args(volume).output().expect("sealift runs")).expect(0);

    node.stop();
    assert!(!node.runs());
    let copy = EeNode::bare();
    copy.stop();
    sh(&format!("cp -a {}/swarm {}", node.data_root().display(), copy.data_root().display()));
    node.start();
    node.wait_for_swarm();
    node.docker(&["exec", "dtr-registry-0123456789ab", "true"]);

    // The documented restore, on a host whose address is the same, as each node here has its own loopback.
    copy.start();
    copy.docker(&["swarm", "init", "--force-new-cluster", "--advertise-addr", "127.0.0.1"]);
    for (kind, name) in [("service", "web"), ("config", "web.conf"), ("secret", "web.key")] {
        assert_eq!(copy.docker(&[kind, "ls", "--format", "{{.Name}}"]), name);
    }
}
