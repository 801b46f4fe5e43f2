//! What a release has: the Debian package, and the container's image. Both hold the command under test.

use std::path::{Path, PathBuf};

use crate::needs;
use crate::support::{Ended, Lab, PASSPHRASE, docker, sh, unique};

/// A Debian system that systemd has booted in a container.
struct System {
    name: String,
}

impl System {
    /// With the folder `packages` at /packages, and the folder of a file store at /var/backups/store.
    fn boot(lab: &Lab, packages: &Path) -> System {
        let system = System { name: unique("system") };
        let mount = |from: &Path, to: &str| format!("{}:{to}", from.display());
        docker(&[
            "run",
            "-d",
            "--name",
            &system.name,
            "--hostname",
            "host",
            "--network",
            "none",
            // What systemd needs for itself, and to make a service's sandbox.
            "--cap-add",
            "SYS_ADMIN",
            "--security-opt",
            "seccomp=unconfined",
            "--security-opt",
            "apparmor=unconfined",
            "--cgroupns",
            "host",
            "-v",
            "/sys/fs/cgroup:/sys/fs/cgroup",
            "--tmpfs",
            "/run",
            "--tmpfs",
            "/tmp",
            "-v",
            &mount(packages, "/packages:ro"),
            "-v",
            &mount(&lab.path("store"), "/var/backups/store"),
            "-v",
            &mount(&engine_socket(), "/run/docker.sock"),
            "debian-base:1",
            "/lib/systemd/systemd",
        ]);
        crate::support::until("systemd answers", || {
            system.tries("systemctl is-system-running --wait | grep -E 'running|degraded'").code == 0
        });
        system
    }

    fn tries(&self, script: &str) -> Ended {
        let mut docker = std::process::Command::new("/usr/bin/docker");
        docker.args(["exec", &self.name, "sh", "-ec", script]);
        Ended::from(docker.output().expect("docker runs"))
    }

    /// Runs a script in it as root, and demands its success.
    #[track_caller]
    fn sh(&self, script: &str) -> String {
        self.tries(script).expect(0).text().trim().to_string()
    }

    /// Every file and folder but what is the kernel's, a mount, or the package manager's own.
    fn files(&self) -> Vec<String> {
        let found = self.sh(
            "find / -xdev \\( -path /var/lib/dpkg -o -path /var/log -o -path /var/cache \\) -prune -o -print | sort",
        );
        found.lines().map(String::from).collect()
    }

    /// Starts a unit that ends by itself, and demands its success.
    #[track_caller]
    fn start(&self, unit: &str) {
        let ended = self.tries(&format!("systemctl start '{unit}'"));
        assert_eq!(ended.code, 0, "{}", self.journal(unit));
    }

    fn journal(&self, unit: &str) -> String {
        self.tries(&format!("journalctl --no-pager -u '{unit}'")).text()
    }
}

impl Drop for System {
    fn drop(&mut self) {
        docker(&["rm", "-f", &self.name]);
    }
}

fn engine_socket() -> PathBuf {
    let host = std::env::var("DOCKER_HOST").expect("an engine of the run's own");
    host.strip_prefix("unix://").expect("a socket").into()
}

/// Makes the package, in a folder of the lab's.
fn build_package(lab: &Lab) -> PathBuf {
    let out = lab.path("out");
    let (root, binary) = (env!("CARGO_MANIFEST_DIR"), env!("CARGO_BIN_EXE_sealift"));
    sh(&format!("cd '{root}'; packaging/build-deb '{binary}' '{}' --fast", out.display()));
    out
}

const SETTINGS: &str = r#"
passphrase_file = "/etc/sealift.pass"
to = ["file:///var/backups/store"]
from = "file:///var/backups/store"

[jobs.etc]
source = "path"
dirs = ["/etc"]

[jobs.data]
source = "volume"
volumes = ["VOLUME"]

[jobs.outside]
source = "path"
dirs = ["/etc"]
to = ["file:///srv/store"]

[sets.nightly]
jobs = ["etc", "data"]
"#;

#[test]
fn the_package_is_installed_run_by_systemd_and_purged() {
    needs!("docker", "debian", "cargo-deb");
    let lab = Lab::new();
    let system = System::boot(&lab, &build_package(&lab));
    let before = system.files();
    system.sh("dpkg -i /packages/sealift_*.deb");
    its_files_are_there(&system);
    its_settings_are_right_as_they_stand(&system);

    let volume = unique("packaged");
    docker(&[
        "run",
        "--rm",
        "--network",
        "none",
        "-v",
        &format!("{volume}:/v"),
        "bb:1",
        "touch",
        "/v/in-the-volume",
    ]);
    let settings = SETTINGS.replace("VOLUME", &volume);
    system.sh(&format!(
        "printf '%s\\n' '{PASSPHRASE}' | install -m 600 /dev/stdin /etc/sealift.pass
         cat > /etc/sealift/sealift.toml <<'END'{settings}END"
    ));
    its_units_run(&system);
    docker(&["volume", "rm", &volume]);
    assert_eq!(
        lab.list(&lab.file_store()).into_iter().map(|(job, _)| job).collect::<Vec<_>>(),
        ["data", "etc", "etc"]
    );

    system.sh(
        "systemctl enable --now sealift-backup@etc.timer && systemctl is-active sealift-backup@etc.timer",
    );
    system.sh("dpkg -r sealift && test -e /etc/sealift/sealift.toml");
    assert_ne!(system.tries("systemctl is-active sealift-backup@etc.timer").code, 0, "its timer goes on");
    system.sh("dpkg -P sealift");
    let left = system.files().into_iter().filter(|file| !before.contains(file)).collect::<Vec<_>>();
    // What the administrator has put there. The passphrase opens the backups.
    assert_eq!(left, ["/etc/sealift.pass"]);
    assert_eq!(lab.list(&lab.file_store()).len(), 3, "the backups stay");
}

fn its_files_are_there(system: &System) {
    let files = system.sh("dpkg -L sealift");
    for file in [
        "/usr/bin/sealift",
        "/usr/share/man/man1/sealift.1.gz",
        "/usr/share/man/man1/sealift-backup-volume.1.gz",
        "/usr/share/man/man1/sealift-restore-set.1.gz",
        "/usr/share/bash-completion/completions/sealift",
        "/usr/share/zsh/vendor-completions/_sealift",
        "/usr/share/fish/vendor_completions.d/sealift.fish",
        "/usr/share/doc/sealift/copyright",
    ] {
        assert!(files.lines().any(|line| line == file), "{file} is not among {files}");
    }
    system.sh("bash -n /usr/share/bash-completion/completions/sealift");
    assert_eq!(system.sh("stat -c '%a %U' /etc/sealift/sealift.toml /etc/sealift"), "640 root\n750 root");
}

/// As it comes nothing is set, and what stands there behind a # is right, too.
fn its_settings_are_right_as_they_stand(system: &System) {
    system.sh("sealift config check");
    let jobs = system.sh(
        "sed 's/^#\\([^ ]\\)/\\1/' /etc/sealift/sealift.toml > /tmp/all.toml; touch /etc/sealift.pass
         sealift config check --config /tmp/all.toml; rm /etc/sealift.pass; grep -c '^\\[jobs' /tmp/all.toml",
    );
    assert!(jobs.ends_with('1'), "{jobs}");
    // Users who may not read them have none.
    system.sh("install -d /srv/empty && runuser -u nobody -- sealift list --from file:///srv/empty; rmdir /srv/empty");
}

/// The units do what they say, and no more.
fn its_units_run(system: &System) {
    let units = "sealift.service sealift-backup@etc.service sealift-backup@etc.timer sealift-set@nightly.service sealift-set@nightly.timer";
    assert_eq!(system.sh(&format!("systemd-analyze verify --man=no {units} 2>&1")), "");
    for unit in ["sealift.service", "sealift-backup@etc.service"] {
        system.sh(&format!("systemd-analyze security --no-pager --threshold=35 {unit}"));
    }
    // It is there when it says so, and reads its settings anew.
    system.start("sealift.service");
    system.sh("systemctl reload sealift.service && systemctl stop sealift.service");
    let journal = system.journal("sealift.service");
    assert!(journal.contains("was read on SIGHUP") && journal.contains("stopped: nothing runs"), "{journal}");
    system.start("sealift-backup@etc.service");
    // The volume is the engine's, behind its socket.
    system.start("sealift-set@nightly.service");
    let members = system.sh("sealift ls data && sealift verify --all");
    assert!(members.contains("_data/in-the-volume"), "{members}");

    system.sh("install -d /srv/store");
    assert_ne!(system.tries("systemctl start sealift-backup@outside.service").code, 0);
    let journal = system.journal("sealift-backup@outside.service");
    assert!(journal.contains("Read-only file system"), "{journal}");
    system.sh("systemctl reset-failed; rm -r /srv/store");
}

#[test]
fn the_image_backs_up_a_folder_and_through_the_socket_a_volume() {
    needs!("docker", "debian");
    let lab = Lab::new();
    let image = unique("sealift-image");
    let context = lab.path("context");
    let root = env!("CARGO_MANIFEST_DIR");
    sh(&format!(
        "mkdir '{0}'; strip -o '{0}/sealift' '{1}'; chown 65532 '{2}' '{3}'
         DOCKER_BUILDKIT=0 /usr/bin/docker build --network none -f '{root}/packaging/Containerfile' \
             --build-arg BASE=debian-base:1 -t '{image}' '{0}'",
        context.display(),
        env!("CARGO_BIN_EXE_sealift"),
        lab.path("store").display(),
        lab.path("passphrase").display(),
    ));
    let volume = unique("imaged");
    docker(&["run", "--rm", "--network", "none", "-v", &format!("{volume}:/v"), "bb:1", "touch", "/v/kept"]);
    let sealift = |words: &[&str]| {
        let socket = engine_socket();
        let group = sh(&format!("stat -c %g '{}'", socket.display()));
        let (store, passphrase) = (lab.path("store"), lab.path("passphrase"));
        let mounts = [
            format!("{}:/var/run/docker.sock", socket.display()),
            format!("{}:/store", store.display()),
            format!("{}:/passphrase:ro", passphrase.display()),
        ];
        let [socket, store, passphrase] = &mounts;
        let mut all =
            vec!["run", "--rm", "--network", "none", "--hostname", "backup", "--group-add", group.trim()];
        all.extend([
            "-v",
            socket,
            "-v",
            store,
            "-v",
            passphrase,
            "-e",
            "SEALIFT_PASSPHRASE_FILE=/passphrase",
        ]);
        all.push(&image);
        docker(&[&all, words].concat())
    };
    let store = "file:///store";
    // Twice: the second one is of the same host.
    for _ in 0..2 {
        sealift(&["backup", "path", "/etc/apt", "--job", "apt", "--to", store]);
        crate::support::a_second_later();
    }
    sealift(&["backup", "volume", &volume, "--job", "data", "--to", store]);
    let listed = sealift(&["list", "--from", store]);
    assert!(listed.contains("apt") && listed.contains("data"), "{listed}");
    let restored = unique("restored");
    sealift(&["restore", "data", "--to-volume", &restored, "--from", store]);
    let found =
        docker(&["run", "--rm", "--network", "none", "-v", &format!("{restored}:/v"), "bb:1", "ls", "/v"]);
    assert_eq!(found, "kept");
    docker(&["volume", "rm", &volume, &restored]);
    docker(&["rmi", &image]);
}

#[test]
fn what_a_release_calls_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workflow = std::fs::read_to_string(root.join(".github/workflows/release.yml")).expect("a workflow");
    let words = workflow.split_whitespace().filter(|word| word.starts_with("packaging/"));
    let called = words.collect::<Vec<_>>();
    assert!(
        called.contains(&"packaging/build-deb") && called.contains(&"packaging/Containerfile"),
        "{called:?}"
    );
    for path in called {
        assert!(root.join(path).is_file(), "{path} is not there");
    }
}
