//! `serve`: what is due is run, and whatever becomes of it is said.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::run_once::{job, lab, write};
use crate::support::{Ended, Lab, sh, until};

/// A supervisor under test.
struct Serving {
    child: Child,
    log: std::path::PathBuf,
}

impl Serving {
    #[allow(clippy::disallowed_types, reason = "a test reads what was said from a file")]
    fn start(lab: &Lab, words: &[&str], change: impl FnOnce(&mut Command)) -> Serving {
        let log = lab.path("log");
        let mut command = lab.sealift();
        command.args(["--verbose", "serve"]).args(words);
        command.stderr(std::fs::File::options().append(true).create(true).open(&log).expect("a log"));
        command.stdout(Stdio::null());
        change(&mut command);
        Serving { child: command.spawn().expect("sealift runs"), log }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("a log")
    }

    #[track_caller]
    fn says(&self, words: &str) {
        let what = format!("{words:?} is said");
        let found = std::panic::catch_unwind(|| until(&what, || self.log().contains(words)));
        assert!(found.is_ok(), "{words:?} is not said:\n{}", self.log());
    }

    fn signal(&self, signal: &str) {
        sh(&format!("kill -{signal} {}", self.child.id()));
    }

    /// The numbers of the processes of its runs.
    fn runs(&self) -> Vec<String> {
        let pid = self.child.id();
        let all = sh(&format!("cat /proc/{pid}/task/*/children"));
        let mut all: Vec<_> = all.split_whitespace().map(String::from).collect();
        all.sort();
        all.dedup();
        all
    }

    #[track_caller]
    fn ends(mut self) -> String {
        until("it ends", || self.child.try_wait().expect("a process").is_some());
        let code = self.child.wait().expect("its end").code();
        assert_eq!(code, Some(0), "{}", self.log());
        self.log()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many archives there are: looked at from outside, since the settings may be broken.
fn count(lab: &Lab) -> usize {
    let found = format!("find '{}' -name '*.manifest.json' | wc -l", lab.path("store").display());
    sh(&found).trim().parse().expect("a number")
}

const EVERY_SECOND: &str = "schedule = \"* * * * * *\"";
/// Due long ago: it is caught up where it never ran, and not due again while a test runs.
const YEARLY: &str = "schedule = \"0 0 1 1 *\"";

#[test]
fn what_is_due_is_run_one_at_a_time_and_a_store_that_hangs_holds_up_nobody() {
    // It takes connections and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", silent.local_addr().expect("its address"));
    let far = job("far", "echo x", &format!("to = [\"s3://none/x\"]\n{YEARLY}"));
    let lab = lab(&format!("{}{far}", job("team/a-1", "sleep 3; echo x", EVERY_SECOND)));
    let serving = Serving::start(&lab, &[], |command| {
        command
            .env("AWS_ENDPOINT_URL", endpoint)
            .env("AWS_REGION", "x")
            .env("AWS_ACCESS_KEY_ID", "x")
            .env("AWS_SECRET_ACCESS_KEY", "x");
    });
    until("there are two archives", || count(&lab) >= 2);
    serving.says("and is not run: the run before it still goes on");
    serving.says("team/a-1: sealed team/a-1@");
    serving.says("run team/a-1: backup succeeded");
    assert!(!serving.log().contains("run far"), "{}", serving.log());
    serving.signal("TERM");
    let log = serving.ends();
    assert!(log.contains("stopped: nothing runs any more"), "{log}");
}

#[test]
fn settings_are_read_again_and_a_broken_file_changes_nothing_but_is_said() {
    let lab = lab("");
    let serving = Serving::start(&lab, &[], |_| ());
    serving.says("has a schedule: nothing will be run");
    write(&lab, &job("a", "echo x", EVERY_SECOND));
    serving.says("was read because it has changed; 1 schedule");
    serving.says("run a: backup succeeded");
    write(&lab, &job("a", "echo x", "schedule = \"every night\""));
    serving.says("the settings from before hold: ");
    serving.says("[jobs.a] schedule: \"every night\" is no cron expression");
    // They hold for whatever is run, too.
    let before = count(&lab);
    until("runs go on", || count(&lab) > before + 1);
    assert!(!serving.log().contains("FAILED"), "{}", serving.log());
    write(&lab, &job("b", "echo x", YEARLY));
    serving.says("it is right again; 1 schedule");
    serving.signal("HUP");
    serving.says("was read on SIGHUP; 1 schedule");
    serving.signal("INT");
    serving.ends();
}

#[test]
fn at_the_end_a_short_run_is_finished_and_a_long_one_leaves_nothing() {
    let wait = "touch begun; while [ ! -e go ]; do sleep 0.1; done; echo x";
    let settings = lab(&job("a", wait, YEARLY));
    let serving = Serving::start(&settings, &[], |_| ());
    until("it runs", || settings.path("begun").exists());
    serving.signal("TERM");
    serving.says("a may go on for 300s");
    settings.write("go", b"");
    serving.ends();
    assert_eq!(count(&settings), 1);

    let lab = lab(&job("a", "touch begun; echo x; sleep 3600", YEARLY));
    let serving = Serving::start(&lab, &["--grace", "1s"], |_| ());
    until("it runs", || lab.path("begun").exists());
    serving.signal("TERM");
    let log = serving.ends();
    for words in
        ["a did not end in time, and is stopped", "a: interrupted", "run a: backup FAILED with exit code 130"]
    {
        assert!(log.contains(words), "{words}: {log}");
    }
    assert_eq!(count(&lab), 0);
    let left = sh(&format!("find '{}' -type f ! -name '*.failed.json'", lab.path("store").display()));
    assert_eq!(left, "");
}

#[test]
fn killed_its_runs_go_on_and_the_next_life_catches_up_what_has_nothing_to_show() {
    let wait = "touch begun; while [ ! -e go ]; do sleep 0.1; done; echo x";
    let lab = lab(&job("a", wait, YEARLY));
    let mut serving = Serving::start(&lab, &[], |_| ());
    serving.says("no run of a is known");
    until("it runs", || lab.path("begun").exists());
    serving.child.kill().expect("a kill");
    serving.child.wait().expect("its end");
    lab.write("go", b"");
    until("the run has ended", || count(&lab) == 1);
    let serving = Serving::start(&lab, &[], |_| ());
    serving.says("the newest run of a began at");
    serving.signal("TERM");
    serving.ends();
    assert_eq!(count(&lab), 1);

    // Another job, of which not even the run survives.
    let _ = std::fs::remove_file(lab.path("begun"));
    let _ = std::fs::remove_file(lab.path("go"));
    write(&lab, &job("b", wait, YEARLY));
    let serving = Serving::start(&lab, &[], |_| ());
    until("it runs", || lab.path("begun").exists());
    let runs = serving.runs();
    assert_eq!(runs.len(), 1, "{runs:?}");
    sh(&format!("kill -9 -{}", runs[0]));
    serving.says("b: its process was killed by signal 9");
    serving.says("run b: backup FAILED with exit code 137");
    drop(serving);
    lab.write("go", b"");
    let serving = Serving::start(&lab, &[], |_| ());
    until("it is caught up", || count(&lab) == 2);
    serving.signal("TERM");
    serving.ends();
}

#[test]
fn systemd_is_told_how_it_goes() {
    let lab = lab(&job("a", "echo x", YEARLY));
    let socket = lab.path("notify");
    let listens = UnixDatagram::bind(&socket).expect("a socket");
    let told = |path: &Path| {
        let path = path.to_path_buf();
        move |command: &mut Command| {
            command.env("NOTIFY_SOCKET", path).env("WATCHDOG_USEC", "400000");
        }
    };
    let serving = Serving::start(&lab, &[], told(&socket));
    let hears = |words: &str| {
        let mut bytes = [0; 4096];
        // Signs of life come for ever: the time is limited by their number.
        let is_heard = (0..500).any(|_| {
            let count = listens.recv(&mut bytes).expect("a message");
            String::from_utf8_lossy(&bytes[..count]).contains(words)
        });
        assert!(is_heard, "{words:?} is not told");
    };
    listens.set_read_timeout(Some(std::time::Duration::from_secs(30))).expect("a limit");
    hears("READY=1");
    hears("STATUS=running: a; next: a at ");
    hears("STATUS=next: a at ");
    hears("WATCHDOG=1");
    serving.signal("HUP");
    hears("RELOADING=1\nMONOTONIC_USEC=");
    hears("READY=1");
    hears("WATCHDOG=1");
    serving.signal("TERM");
    hears("STOPPING=1");
    serving.ends();
}

#[test]
fn runs_of_other_names_wait_for_their_turn_or_go_on_beside() {
    let both = |script: &str| format!("{}{}", job("a", script, YEARLY), job("b", script, YEARLY));
    // Each waits until the other has begun: that works beside each other only.
    let script = "touch $$.begun; while [ $(ls *.begun | wc -l) -lt 2 ]; do sleep 0.1; done; echo x";
    let lab = lab(&both(script));
    let serving = Serving::start(&lab, &["--parallel-runs", "2"], |_| ());
    until("both have ended", || count(&lab) == 2);
    serving.signal("TERM");
    serving.ends();
    // One after the other: neither sees another.
    sh(&format!("rm -r '{0}'/store/* '{0}'/*.begun", lab.path(".").display()));
    write(&lab, &both("mkdir alone && sleep 1 && rmdir alone && echo x"));
    let serving = Serving::start(&lab, &[], |_| ());
    until("both have ended", || count(&lab) == 2);
    serving.signal("TERM");
    serving.ends();
}

#[test]
fn a_page_shows_the_nights_before_and_what_is_next() {
    let lab = lab(&job("a", "echo x", YEARLY));
    Ended::from(lab.sealift().args(["run", "a"]).output().expect("sealift runs")).expect(0);
    let serving = Serving::start(&lab, &["--listen", "127.0.0.1:0"], |_| ());
    serving.says("the page is at http://127.0.0.1:");
    let log = serving.log();
    let (_, address) = log.split_once("the page is at ").expect("said");
    let address = address.lines().next().expect("a line").trim();
    let page = || sh(&format!("curl -sf {address}"));
    until("the night before is shown", || page().contains("ok"));
    assert!(page().contains("<!DOCTYPE html>") && page().contains(">a<"), "{}", page());
    let metrics = sh(&format!("curl -sf {address}metrics"));
    assert!(metrics.contains("sealift_schedule_expected_interval_seconds{"), "{metrics}");
    assert!(!sh(&format!("curl -s -o /dev/null -w '%{{http_code}}' -X POST {address}")).starts_with('2'));
    serving.signal("TERM");
    serving.ends();
}

#[test]
fn a_page_that_others_can_reach_needs_a_token() {
    let lab = lab(&job("a", "echo x", YEARLY));
    let ended =
        Ended::from(lab.sealift().args(["serve", "--listen", "0.0.0.0:0"]).output().expect("sealift runs"));
    ended.expect_error(2, "can be reached from elsewhere").hint("token_file");
}

/// The settings in the examples for several hosts, which stand in comments and in manifests.
#[test]
fn the_examples_for_several_hosts_have_right_settings() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
    for (file, lead) in [
        ("swarm/stack.yml", "#   "),
        ("kubernetes/cronjob.yaml", "    "),
        ("kubernetes/daemonset.yaml", "    "),
    ] {
        let text = std::fs::read_to_string(root.join(file)).expect("the example");
        let lines = text.lines().skip_while(|line| !line.starts_with(&format!("{lead}to = ")));
        let settings: Vec<_> = lines.map_while(|line| line.strip_prefix(lead)).collect();
        assert!(settings.len() > 8, "{file}: {settings:?}");
        let lab = Lab::new();
        let passphrase = lab.path("passphrase").display().to_string();
        let settings = settings.join("\n").replace("/run/secrets/sealift_passphrase", &passphrase);
        let settings = settings.replace("/run/secrets/sealift/passphrase", &passphrase);
        let settings = settings.replace("\"/data\"", "\"/etc\"").replace("\"/node/etc\"", "\"/etc\"");
        lab.write("sealift.toml", settings.as_bytes());
        Ended::from(lab.sealift().args(["config", "check"]).output().expect("sealift runs")).expect(0);
    }
}
