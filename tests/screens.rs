//! What people see: screens of a real terminal (tmux), 80 and 40 columns wide, held against `tests/screens/`.
//!
//! Digits are shown as 0, so that a screen is the same in every run. `SEALIFT_TEST_WRITE=1` writes the screens anew: look at
//! them before they are committed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{Ended, Lab, a_second_later, noise, unique};

const WIDTHS: [usize; 2] = [80, 40];
/// What a command's last line on the screen begins with.
const ENDED: &str = "[exit ";

/// A terminal of so many columns, in which one command runs.
pub struct Terminal {
    socket: String,
    width: usize,
}

impl Terminal {
    /// Runs `sealift WORDS…` in a place's folder.
    fn run(at: &Place, width: usize, words: &str) -> Terminal {
        Self::run_in(&at.dir, &at.lab, width, words)
    }

    /// Runs `sealift WORDS…` in a folder, with a lab's passphrase.
    pub fn run_in(dir: &Path, lab: &Lab, width: usize, words: &str) -> Terminal {
        let terminal = Terminal { socket: unique("sealift-screens-"), width };
        let bin = env!("CARGO_BIN_EXE_sealift");
        // What a terminal shows of the end must stay there until it was looked at.
        let script = format!("'{bin}' {words}; echo \"{ENDED}$?]\"; exec sleep 600");
        let (columns, passphrase) = (width.to_string(), lab.path("passphrase"));
        let mut tmux =
            terminal.tmux(&["-u", "-f", "/dev/null", "new-session", "-d", "-x", &columns, "-y", "50"]);
        tmux.arg("-c").arg(dir).arg(script);
        tmux.env("SEALIFT_PASSPHRASE_FILE", passphrase).env("LC_ALL", "C.UTF-8").env_remove("COLUMNS");
        Ended::from(tmux.output().expect("tmux runs")).expect(0);
        terminal
    }

    /// A shell that is typed into, in a lab's folder.
    pub fn shell(lab: &Lab) -> Terminal {
        let terminal = Terminal { socket: unique("sealift-shell-"), width: 200 };
        let mut tmux =
            terminal.tmux(&["-u", "-f", "/dev/null", "new-session", "-d", "-x", "200", "-y", "50"]);
        tmux.arg("-c").arg(&lab.dir).arg("exec bash --norc --noprofile -i");
        tmux.env("LC_ALL", "C.UTF-8").env_remove("COLUMNS");
        Ended::from(tmux.output().expect("tmux runs")).expect(0);
        terminal
    }

    fn tmux(&self, words: &[&str]) -> Command {
        let mut tmux = Command::new("tmux");
        tmux.arg("-L").arg(&self.socket).args(words);
        tmux
    }

    pub fn keys(&self, keys: &str) {
        Ended::from(self.tmux(&["send-keys", "--", keys]).output().expect("tmux runs")).expect(0);
    }

    /// The screen, once it shows `text`.
    #[track_caller]
    pub fn when(&self, text: &str) -> String {
        let began = Instant::now();
        loop {
            // With -J a line that the terminal broke is one line.
            let captured = self.tmux(&["capture-pane", "-p", "-J"]).output().expect("tmux runs");
            let screen = String::from_utf8_lossy(&captured.stdout).trim_end().to_string();
            if screen.contains(text) {
                return screen;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "{text:?} does not come: {screen}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The screen when the command has ended.
    #[track_caller]
    pub fn end(&self) -> String {
        self.when(ENDED)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]).output();
    }
}

/// A folder whose name is as long in every run, since it is shown.
struct Place {
    lab: Lab,
    dir: PathBuf,
}

impl Place {
    fn new() -> Place {
        let (lab, number) = (Lab::new(), unique("").replace('-', ""));
        let number = number.parse::<u64>().expect("a number") % 10_000_000;
        let dir = PathBuf::from(format!("/tmp/sl{number:07}"));
        std::fs::create_dir(&dir).expect("a folder of the test's own");
        std::fs::create_dir(dir.join("store")).expect("a store's folder");
        Place { lab, dir }
    }

    fn store(&self) -> String {
        format!("file://{}/store", self.dir.display())
    }

    /// A folder of two files, `team/web` and `db`, with some nights of each.
    fn with_nights() -> Place {
        let place = Place::new();
        let data = place.dir.join("data");
        std::fs::create_dir(&data).expect("a folder");
        std::fs::write(data.join("index"), noise(1, 40_000)).expect("a file");
        // An increment keeps what did not change for two seconds before the run before began.
        (0..4).for_each(|_| a_second_later());
        for (job, more) in [("db", ""), ("team/web-application", "--incremental")] {
            for _ in 0..2 {
                let words = format!("backup path data --host web1.example.com --job {job} {more}");
                let words: Vec<_> = words.split_whitespace().collect();
                place.run(&words, "--to").expect(0);
                a_second_later();
            }
        }
        place.run(&["verify", "db"], "--from").expect(0);
        place
    }

    fn run(&self, words: &[&str], store: &str) -> Ended {
        let mut command = self.lab.sealift();
        command.current_dir(&self.dir).args(words).args([store, &self.store()]);
        Ended::from(command.output().expect("sealift runs"))
    }

    /// One file of a job that is there.
    fn object(&self, job: &str, part: &str, nth: usize) -> PathBuf {
        let folder = std::fs::read_dir(self.dir.join("store").join(job)).expect("a folder");
        let mut files: Vec<_> = folder.map(|entry| entry.expect("an entry").path()).collect();
        files.retain(|file| file.to_string_lossy().contains(part));
        files.sort();
        files.remove(nth)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Hex digits of ids and figures as zeros; the code with which it ended stays.
fn masked(line: &str) -> String {
    if line.starts_with(ENDED) {
        return line.into();
    }
    let (mut masked, mut rest) = (String::new(), line);
    while let Some(c) = rest.chars().next() {
        // The random part of an id, and hashes.
        let hex = rest.chars().take_while(char::is_ascii_hexdigit).count();
        let (mask, len) = match c {
            _ if hex >= 8 => ("0".repeat(hex), hex),
            '0'..='9' => ("0".into(), 1),
            c => (c.into(), c.len_utf8()),
        };
        masked.push_str(&mask);
        rest = &rest[len..];
    }
    masked.replace("s0://", "s3://").replace("blake0", "blake3").replace("AES-000", "AES-256")
}

/// Lines as a terminal of that width breaks them.
fn broken(lines: &str, width: usize) -> String {
    let mut screen = String::new();
    for line in lines.lines() {
        let line: Vec<char> = masked(line.trim_end()).chars().collect();
        for part in line.chunks(width) {
            screen.extend(part);
            screen.push('\n');
        }
        if line.is_empty() {
            screen.push('\n');
        }
    }
    screen
}

#[track_caller]
fn holds(name: &str, width: usize, screen: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/screens/{name}-{width}.txt"));
    let screen = broken(screen, width);
    if std::env::var_os("SEALIFT_TEST_WRITE").is_some() {
        std::fs::write(&file, &screen).expect("the screen is written");
    }
    let known = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(known == screen, "{} has\n{known}\nand it is\n{screen}", file.display());
}

#[test]
fn what_the_daily_verbs_show() {
    let place = Place::with_nights();
    std::fs::remove_file(place.object("db", ".tar.zst", 0)).expect("an archive");
    for width in WIDTHS {
        let from = format!("--from {}", place.store());
        for (name, words) in [
            ("list", format!("list {from}")),
            ("list-job", format!("list db {from}")),
            ("show", format!("show team/web-application@latest {from} | head -n 14")),
            ("status", format!("status {from}")),
            ("prune", format!("prune team/web-application --keep-last 1 -n {from}")),
            ("verify-all", format!("verify --all {from}")),
            ("restore", format!("restore db --to-path out{width} {from}")),
            ("unknown-job", format!("list team/web {from}")),
        ] {
            holds(name, width, &Terminal::run(&place, width, &words).end());
        }
        let to = format!("--to {}", place.store());
        let words = format!("backup path data --host web1.example.com --job fresh{width} {to}");
        holds("backup", width, &Terminal::run(&place, width, &words).end());
    }
}

#[test]
fn progress_fits_and_is_gone_when_it_ends_and_when_it_is_interrupted() {
    let place = Place::new();
    std::fs::write(place.dir.join("big"), noise(2, 48 << 20)).expect("a file");
    let words = format!("backup path big --limit-rate 1MiB --part-size 5MiB --to {}", place.store());
    for width in WIDTHS {
        let terminal = Terminal::run(&place, width, &words);
        let screen = terminal.when("MiB");
        let lines: Vec<_> = screen.lines().collect();
        assert!(lines[0].starts_with("big  0:") && lines[0].contains(" MiB"), "{screen}");
        assert!(lines.iter().all(|line| line.chars().count() < terminal.width), "{screen}");
        assert!(lines.len() == 2 && lines[1].starts_with("  file:///tmp/"), "{screen}");
        terminal.keys("C-c");
        let end = terminal.end();
        assert_eq!(end, "error: interrupted\nhint: nothing was committed\n[exit 130]");
    }
}

/// Ten words typed wrongly, with their answers.
const MISTYPED: [(&str, &str); 10] = [
    ("forget", "forget db --keep-last 3"),
    ("snapshots", "snapshots"),
    ("mount", "mount /mnt"),
    ("check", "check --from memory:///x"),
    ("verfy", "verfy db --from memory:///x"),
    ("repo", "list --repo s3://backups"),
    ("password", "backup stdin --job db --password secret --to memory:///x"),
    ("postgres", "backup postgresql db --to memory:///x"),
    ("no-target", "restore db --from memory:///x"),
    ("no-store", "list --from backups"),
];

#[test]
fn ten_typed_mistakes_have_answers_that_fit() {
    let place = Place::new();
    for width in WIDTHS {
        for (name, words) in MISTYPED {
            let screen = Terminal::run(&place, width, words).end();
            assert!(screen.contains("error: ") && screen.ends_with("[exit 2]"), "{words}: {screen}");
            assert!(!screen.contains("secret"), "{screen}");
            holds(&format!("mistyped-{name}"), width, &screen);
        }
    }
}
