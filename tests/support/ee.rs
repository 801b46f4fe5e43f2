//! A manager of a Docker EE cluster: an engine of the test's own, on a host of its own, where UCP and a replica of
//! Docker Trusted Registry seem to run. The parts `docker`, `registry` and `ee` have what it needs.

use std::path::PathBuf;
use std::process::Command;

use super::{Ended, Lab, sh, unique, until};

/// The UCP that the stand-in knows.
pub const UCP_INSTANCE: &str = "standin0ucp0instance0id00";
/// The only administrator whom the stand-ins know, and the password.
pub const ADMIN: (&str, &str) = ("admin", "standin-password");

/// What runs on the node. The tags are those of `tests/servers/images`; one with a fault, such as `2.7.5-truncate`,
/// makes `docker/dtr:2.7.5` on this node fail so.
pub struct EeOptions<'a> {
    pub replica: &'a str,
    pub dtr_tag: &'a str,
    pub ucp_tag: &'a str,
    /// A swarm of this one node, with the service `web`, its config `web.conf` and its secret `web.key`.
    pub swarm: bool,
}

impl Default for EeOptions<'_> {
    fn default() -> Self {
        EeOptions { replica: "0123456789ab", dtr_tag: "2.7.5", ucp_tag: "3.2.6", swarm: false }
    }
}

/// An engine, which goes away with the test.
pub struct EeNode {
    dir: String,
}

impl EeNode {
    /// An engine without images, containers or swarm, as on a new host. About half a second.
    #[track_caller]
    pub fn bare() -> Self {
        // Short, for the sockets below it; where tests/run stops it even if this test dies.
        let base = std::env::var("SEALIFT_TEST_DIR").expect("run the tests by tests/run");
        let node = EeNode { dir: format!("{base}/{}", unique("ee")) };
        node.start();
        node
    }

    /// A node with UCP and a replica. Four seconds, one more with a swarm.
    #[track_caller]
    pub fn with(options: &EeOptions) -> Self {
        let node = EeNode::bare();
        let EeOptions { replica, dtr_tag, ucp_tag, swarm } = options;
        node.load(&[
            "bb:1",
            "dtr-registry:2.8",
            &format!("docker/dtr:{dtr_tag}"),
            &format!("docker/ucp:{ucp_tag}"),
        ]);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/ee-node");
        sh(&format!("DOCKER_HOST={} {script} up {replica} {dtr_tag} {ucp_tag}", node.host()));
        if *swarm {
            node.init_swarm();
        }
        node
    }

    /// Takes these images over from the run's own engine.
    #[track_caller]
    pub fn load(&self, images: &[&str]) {
        let images = images.join(" ");
        sh(&format!("/usr/bin/docker save {images} | DOCKER_HOST={} /usr/bin/docker load -q", self.host()));
    }

    #[track_caller]
    fn init_swarm(&self) {
        self.docker(&["swarm", "init", "--advertise-addr", "127.0.0.1"]);
        for (kind, name) in [("config", "web.conf"), ("secret", "web.key")] {
            sh(&format!("echo {name} | DOCKER_HOST={} /usr/bin/docker {kind} create {name} -", self.host()));
        }
        // Its task runs once more after each start of the engine, some seconds later.
        self.docker(&[
            "service",
            "create",
            "-q",
            "--name",
            "web",
            "--network",
            "host",
            "--config",
            "web.conf",
            "--secret",
            "web.key",
            "--no-resolve-image",
            "--stop-signal",
            "KILL",
            "bb:1",
            "sleep",
            "86400",
        ]);
    }

    /// The engine's `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}/sock", self.dir)
    }

    /// The engine's data root, which is /var/lib/docker elsewhere.
    pub fn data_root(&self) -> PathBuf {
        PathBuf::from(format!("{}/data", self.dir))
    }

    /// A command line that stops the engine and its containers, as `systemctl stop docker` would.
    pub fn stop_command(&self) -> String {
        format!("{}/tests/servers/dockerd stop {}", env!("CARGO_MANIFEST_DIR"), self.dir)
    }

    /// A command line that starts the engine again, and waits until it answers.
    pub fn start_command(&self) -> String {
        format!("{}/tests/servers/dockerd alone {}", env!("CARGO_MANIFEST_DIR"), self.dir)
    }

    #[track_caller]
    pub fn stop(&self) {
        sh(&self.stop_command());
    }

    #[track_caller]
    pub fn start(&self) {
        sh(&self.start_command());
    }

    /// Whether the engine answers.
    pub fn runs(&self) -> bool {
        let ping = Command::new("/usr/bin/docker").env("DOCKER_HOST", self.host()).arg("version").output();
        ping.is_ok_and(|output| output.status.success())
    }

    /// Runs the distribution's docker command against this engine and demands its success.
    #[track_caller]
    pub fn docker(&self, words: &[&str]) -> String {
        let output = Command::new("/usr/bin/docker").env("DOCKER_HOST", self.host()).args(words).output();
        Ended::from(output.expect("docker runs")).expect(0).text().trim().to_string()
    }

    /// The command under test, with this engine.
    pub fn sealift(&self, lab: &Lab) -> Command {
        let mut command = lab.sealift();
        command.env("DOCKER_HOST", self.host());
        command
    }

    /// Waits until the swarm's manager answers: a little later than the engine.
    #[track_caller]
    pub fn wait_for_swarm(&self) {
        until("the swarm answers", || {
            let list =
                Command::new("/usr/bin/docker").env("DOCKER_HOST", self.host()).args(["node", "ls"]).output();
            list.is_ok_and(|output| output.status.success())
        });
    }
}

impl Drop for EeNode {
    fn drop(&mut self) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/dockerd");
        let _ = Command::new(script).args(["down", &self.dir]).output();
    }
}
