//! A lab: a folder of one's own, the command under test, and the real tools beside it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

pub mod azure;
pub mod bridge;
pub mod ee;
pub mod fake_s3;
pub mod faulty;
pub mod lossy;
pub mod nights;
pub mod s3;
pub mod schema;
pub mod tls;
pub mod xml;

pub const PASSPHRASE: &str = "correct horse battery staple";
pub const JOB: &str = "job";

/// Whether a part of the machine is missing; `tests/run` says so loudly, and CI fails where that is not allowed.
pub fn missing(part: &str) -> bool {
    let skipped =
        std::env::var("SEALIFT_TEST_SKIP").expect("run the tests by tests/run: it starts the servers");
    let missing = skipped.split(' ').any(|p| p == part);
    if missing {
        eprintln!("SKIP {part}");
    }
    missing
}

/// Ends the test here when a part is missing.
#[macro_export]
macro_rules! needs {
    ($($part:literal),+) => {
        $(if $crate::support::missing($part) { return; })+
    };
}

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A name that no other test of this run has.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A folder that goes away with the test.
pub struct Lab {
    pub dir: PathBuf,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ended {
    pub fn from(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0));
        check_events(&output.stdout);
        check_events(&output.stderr);
        Ended { code, stdout: output.stdout, stderr: String::from_utf8_lossy(&output.stderr).into_owned() }
    }

    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert!(!self.stderr.contains("panicked"), "a panic: {}", self.stderr);
        assert_eq!(self.code, code, "stderr: {}", self.stderr);
        self
    }

    /// An error with its hint, as people see it.
    #[track_caller]
    pub fn expect_error(self, code: i32, words: &str) -> Self {
        let ended = self.expect(code);
        assert!(ended.stderr.contains("error: "), "{}", ended.stderr);
        assert!(ended.stderr.contains(words), "{words:?} is not in: {}", ended.stderr);
        ended
    }

    #[track_caller]
    pub fn hint(self, words: &str) -> Self {
        let hint = self.stderr.lines().find(|line| line.starts_with("hint: "));
        let hint = hint.unwrap_or_else(|| panic!("no hint in: {}", self.stderr));
        assert!(hint.contains(words), "{words:?} is not in the hint of: {}", self.stderr);
        self
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Every event that any test sees is one that `docs/events.schema.json` knows.
fn check_events(lines: &[u8]) {
    for line in lines.split(|&byte| byte == b'\n').filter(|line| line.starts_with(b"{\"")) {
        let Ok(event) = serde_json::from_slice::<serde_json::Value>(line) else { continue };
        if event.get("event").is_some() {
            let checked = schema::check(&event);
            assert!(checked.is_ok(), "{checked:?}: {event}");
        }
    }
}

impl Lab {
    pub fn new() -> Self {
        let base =
            std::env::var("SEALIFT_TEST_DIR").expect("run the tests by tests/run: it starts the servers");
        let dir = Path::new(&base).join(unique("lab"));
        std::fs::create_dir(&dir).expect("a folder of the test's own");
        // A store's folder is the operator's to make.
        std::fs::create_dir(dir.join("store")).expect("a store's folder");
        std::fs::write(dir.join("passphrase"), format!("{PASSPHRASE}\n")).expect("a passphrase file");
        Lab { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).expect("a file of the test's own");
        path
    }

    /// The URL of a file store of the test's own.
    pub fn file_store(&self) -> String {
        format!("file://{}", self.path("store").display())
    }

    /// The URL of one more, whose folder is made.
    pub fn new_store(&self, name: &str) -> String {
        std::fs::create_dir(self.path(name)).expect("a store's folder");
        format!("file://{}", self.path(name).display())
    }

    /// The command under test, in its folder, with the settings of every store and the passphrase.
    pub fn sealift(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sealift"));
        command
            .current_dir(&self.dir)
            .env("SEALIFT_PASSPHRASE_FILE", self.path("passphrase"))
            .stdin(Stdio::null());
        s3::environment(&mut command);
        azure::environment(&mut command);
        command
    }

    /// Runs `sealift WORDS…`.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> Ended {
        Ended::from(self.sealift().args(words).output().expect("sealift runs"))
    }

    /// Runs `sealift WORDS…` with `input` on stdin.
    #[track_caller]
    pub fn feed(&self, words: &[&str], input: &[u8]) -> Ended {
        feed(self.sealift().args(words), input)
    }

    /// Backs `input` up as [`JOB`].
    #[track_caller]
    pub fn backup_stdin(&self, store: &str, input: &[u8], more: &[&str]) -> Ended {
        self.feed(&[&["backup", "stdin", "--job", JOB, "--to", store], more].concat(), input)
    }

    /// Jobs and ids at a store.
    #[track_caller]
    pub fn list(&self, store: &str) -> Vec<(String, String)> {
        let listed = self.run(&["list", "--json", "--from", store]).expect(0).text();
        let lines =
            listed.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON lines"));
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_string();
        lines.map(|line| (text(&line["job"]), text(&line["id"]))).collect()
    }

    /// `gpg -d` with the passphrase and a home of its own.
    pub fn gpg(&self) -> Command {
        let home = self.path("gnupg");
        if !home.exists() {
            use std::os::unix::fs::DirBuilderExt;
            std::fs::DirBuilder::new().mode(0o700).create(&home).expect("a GNUPGHOME");
        }
        let mut gpg = Command::new("gpg");
        gpg.env("GNUPGHOME", &home).args(["--batch", "--quiet", "--pinentry-mode", "loopback"]);
        gpg.arg("--passphrase-file").arg(self.path("passphrase")).arg("-d");
        gpg
    }

    /// The bytes that `gpg -d OBJECT | zstd -d` gives: no part of ours reads them.
    #[track_caller]
    pub fn by_gpg(&self, object: &[u8], decompress: &[&str]) -> Vec<u8> {
        let mut bytes = feed(&mut self.gpg(), object).expect(0).stdout;
        if let Some((program, arguments)) = decompress.split_first() {
            bytes = feed(Command::new(program).args(arguments), &bytes).expect(0).stdout;
        }
        bytes
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf").env("GNUPGHOME", self.path("gnupg")).args(["--kill", "all"]).output();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Runs a command with `input` on its stdin.
#[track_caller]
pub fn feed(command: &mut Command, input: &[u8]) -> Ended {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let mut stdin = child.stdin.take().expect("a stdin");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A command that stops reading says why by itself.
            let _ = std::io::Write::write_all(&mut stdin, input);
        });
        Ended::from(child.wait_with_output().expect("the command ends"))
    })
}

/// Runs a command of the system and demands its success.
#[track_caller]
pub fn sh(script: &str) -> String {
    Ended::from(Command::new("bash").args(["-euo", "pipefail", "-c", script]).output().expect("bash runs"))
        .expect(0)
        .text()
}

/// Runs the distribution's docker command against the run's own engine.
#[track_caller]
pub fn docker(words: &[&str]) -> String {
    Ended::from(Command::new("/usr/bin/docker").args(words).output().expect("docker runs"))
        .expect(0)
        .text()
        .trim()
        .to_string()
}

/// Containers of ours, running or not, whose image or name holds `text`.
pub fn leftovers(text: &str) -> Vec<String> {
    let all =
        docker(&["ps", "-a", "--filter", "label=sealift", "--format", "{{.Image}} {{.Names}} {{.Command}}"]);
    all.lines().filter(|line| line.contains(text)).map(String::from).collect()
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Bytes that compress, the same for the same length.
pub fn text(len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 64);
    for n in 0u64.. {
        if bytes.len() >= len {
            break;
        }
        bytes.extend_from_slice(
            format!("INSERT INTO t VALUES ({n}, 'row {}');\n", n * 7919 % 1009).as_bytes(),
        );
    }
    bytes.truncate(len);
    bytes
}

/// The most memory that a running process has had so far, in MiB; nothing once it has ended.
pub fn high_water(child: &std::process::Child) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib / 1024)
}

/// Waits for a process's end, and returns the most memory that it was seen to have, in MiB.
pub fn watch(child: &mut std::process::Child) -> u64 {
    let mut most = 0;
    while child.try_wait().expect("the process").is_none() {
        most = most.max(high_water(child).unwrap_or(0));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    most
}

/// A tar's member without data: 512 bytes, whatever its name says.
pub fn bare_member(name: &[u8], flag: u8, link: &str) -> Vec<u8> {
    let mut block = vec![0u8; 512];
    block[..name.len()].copy_from_slice(name);
    block[100..107].copy_from_slice(b"0000644");
    block[124..135].copy_from_slice(b"00000000000");
    block[156] = flag;
    block[157..157 + link.len()].copy_from_slice(link.as_bytes());
    block[257..265].copy_from_slice(b"ustar\x0000");
    changed(block, |_| {})
}

/// A member whose header `change` was made in, with its checksum right again.
pub fn changed(mut member: Vec<u8>, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    change(&mut member);
    member[148..156].fill(b' ');
    let sum: u32 = member[..512].iter().map(|&b| u32::from(b)).sum();
    member[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    member
}

/// A member of a tar with data, in whole blocks.
pub fn with_data(name: &str, flag: u8, data: &[u8]) -> Vec<u8> {
    let size = format!("{:011o}", data.len());
    let mut member = changed(bare_member(name.as_bytes(), flag, ""), |block| {
        block[124..135].copy_from_slice(size.as_bytes())
    });
    member.extend_from_slice(data);
    member.resize(member.len().next_multiple_of(512), 0);
    member
}

/// An extended header of a tar, with its data.
pub fn extended(flag: u8, data: &[u8]) -> Vec<u8> {
    with_data("extended", flag, data)
}

/// A pax record: its length counts itself.
pub fn pax(key: &str, value: &str) -> Vec<u8> {
    let rest = format!(" {key}={value}\n");
    let len = (1..).map(|digits| rest.len() + digits).find(|len| len.to_string().len() + rest.len() == *len);
    format!("{}{rest}", len.expect("a length")).into_bytes()
}

/// A file store with an archive of the folder `t`: a hard link, a sparse file, and a name that a terminal would obey.
#[track_caller]
pub fn odd_archive(lab: &Lab) -> String {
    let dir = lab.dir.display();
    sh(&format!(
        "cd {dir}; mkdir t; seq 1 9 > t/a; ln t/a t/b; printf x > \"$(printf 't/\\033[2Jbad')\"; truncate -s 5M t/sparse; printf end >> t/sparse"
    ));
    let store = lab.file_store();
    lab.run(&["backup", "path", "t", "--to", &store]).expect(0);
    store
}

/// Waits until the next backup is a newer one: ids of one second have no order.
pub fn a_second_later() {
    std::thread::sleep(std::time::Duration::from_millis(1100));
}

/// Waits until `done`, for half a minute at most.
#[track_caller]
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..300 {
        if done() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("waited in vain: {what}");
}

/// The three kinds of store that have a test server, each with a prefix of the test's own.
pub enum AnyStore {
    File(PathBuf),
    S3(String),
    Azure(String),
}

impl AnyStore {
    /// Every store that is here.
    pub fn all(lab: &Lab) -> Vec<AnyStore> {
        let mut all = vec![AnyStore::File(lab.path("store"))];
        if !missing("s3") {
            all.push(AnyStore::S3(unique("p")));
        }
        if !missing("azure") {
            all.push(AnyStore::Azure(unique("p")));
        }
        all
    }

    pub fn url(&self) -> String {
        match self {
            AnyStore::File(dir) => {
                std::fs::create_dir_all(dir).expect("a store's folder");
                format!("file://{}", dir.display())
            }
            AnyStore::S3(prefix) => format!("s3://{}/{prefix}", s3::bucket()),
            AnyStore::Azure(prefix) => format!("az://{}/{prefix}", azure::container()),
        }
    }

    /// Names of all objects, those under way as well, but for what runs note about themselves.
    pub fn names(&self) -> Vec<String> {
        let is_note = |name: &String| name.contains(".failed.json") || name.contains(".running-");
        self.all_names().into_iter().filter(|name| !is_note(name)).collect()
    }

    /// Names of all objects.
    pub fn all_names(&self) -> Vec<String> {
        match self {
            AnyStore::File(dir) => {
                let found = sh(&format!(
                    "cd '{}' 2>/dev/null && find . -type f -printf '%P\\n' | sort || true",
                    dir.display()
                ));
                found.lines().map(String::from).collect()
            }
            AnyStore::S3(prefix) => s3::names(prefix),
            AnyStore::Azure(prefix) => azure::names(prefix, true),
        }
    }

    /// Uploads that were begun and neither completed nor aborted.
    pub fn unfinished(&self) -> Vec<String> {
        match self {
            AnyStore::File(_) => self.names().into_iter().filter(|name| name.contains('#')).collect(),
            AnyStore::S3(prefix) => s3::uploads(prefix),
            AnyStore::Azure(prefix) => {
                let committed = azure::names(prefix, false);
                azure::names(prefix, true).into_iter().filter(|name| !committed.contains(name)).collect()
            }
        }
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        match self {
            AnyStore::File(dir) => std::fs::read(dir.join(name)).expect("the object"),
            AnyStore::S3(prefix) => s3::get(&format!("{prefix}/{name}")),
            AnyStore::Azure(prefix) => azure::get(&format!("{prefix}/{name}")),
        }
    }

    /// Overwrites an object behind everybody's back.
    #[track_caller]
    pub fn write(&self, name: &str, bytes: &[u8]) {
        match self {
            AnyStore::File(dir) => std::fs::write(dir.join(name), bytes).expect("the object"),
            AnyStore::S3(prefix) => s3::put(&format!("{prefix}/{name}"), bytes),
            AnyStore::Azure(prefix) => azure::put(&format!("{prefix}/{name}"), bytes),
        }
    }

    #[track_caller]
    pub fn delete(&self, name: &str) {
        match self {
            AnyStore::File(dir) => std::fs::remove_file(dir.join(name)).expect("the object"),
            AnyStore::S3(prefix) => s3::delete(&format!("{prefix}/{name}")),
            AnyStore::Azure(prefix) => azure::delete(&format!("{prefix}/{name}")),
        }
    }

    /// The newest archive object, whatever its codec.
    #[track_caller]
    pub fn archive(&self) -> (String, Vec<u8>) {
        let names = self.names();
        let kinds = [".catalog.zst", ".catalog.zst.gpg", ".catalog.zst.pgp", ".manifest.json"];
        let beside =
            |name: &str| name.contains(".verified-") || kinds.iter().any(|kind| name.ends_with(kind));
        let name = names.iter().rfind(|name| !beside(name));
        let name = name.unwrap_or_else(|| panic!("no archive among {names:?}")).clone();
        let bytes = self.read(&name);
        (name, bytes)
    }

    /// Nothing is listed, and nothing is left.
    #[track_caller]
    pub fn expect_nothing(&self, lab: &Lab) {
        assert_eq!(lab.list(&self.url()), [], "something is listed");
        assert_eq!(self.unfinished(), [""; 0], "an upload is left at {}", self.url());
        assert_eq!(self.names(), [""; 0], "an object is left");
    }
}
