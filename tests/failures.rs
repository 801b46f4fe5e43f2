//! A source that did not prove its end leaves nothing behind: no listed backup, no upload, no container.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;

use crate::needs;
use crate::support::bridge::Bridge;
use crate::support::{AnyStore, Ended, JOB, Lab, docker, leftovers, noise, sh, text, unique, until};

/// A script that writes some MiB, then does `last`.
fn writes_then(last: &str) -> String {
    format!("head -c 20000000 /dev/urandom; {last}")
}

/// Starts a backup of a new container called `name`, which runs `script`.
fn start(lab: &Lab, store: &AnyStore, name: &str, script: &str) -> Child {
    let mut command = lab.sealift();
    command.args(["backup", "run", "--to", &store.url(), "--job", JOB, "--name", name, "--network", "none"]);
    command.args(["bb:1", "sh", "-c", script]).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("sealift runs")
}

#[track_caller]
fn end(child: Child) -> Ended {
    Ended::from(child.wait_with_output().expect("sealift ends"))
}

#[track_caller]
fn wait_running(name: &str) {
    until("the container runs", || {
        let state =
            Command::new("/usr/bin/docker").args(["inspect", "-f", "{{.State.Running}}", name]).output();
        state.is_ok_and(|o| o.stdout.starts_with(b"true"))
    });
}

#[test]
fn a_container_that_exits_with_3() {
    needs!("docker");
    let lab = Lab::new();
    for store in AnyStore::all(&lab) {
        let name = unique("exit3");
        let ended = end(start(&lab, &store, &name, &writes_then("echo disk full >&2; exit 3")));
        ended.expect_error(1, "the container exited with code 3: disk full");
        store.expect_nothing(&lab);
        assert_eq!(leftovers(&name), [""; 0]);
    }
}

#[test]
fn a_container_that_is_killed() {
    needs!("docker");
    let lab = Lab::new();
    for store in AnyStore::all(&lab) {
        let name = unique("killed");
        let child = start(&lab, &store, &name, &writes_then("sleep 600"));
        wait_running(&name);
        std::thread::sleep(std::time::Duration::from_millis(500));
        docker(&["kill", &name]);
        end(child).expect_error(1, "the container exited with code 137");
        store.expect_nothing(&lab);
        assert_eq!(leftovers(&name), [""; 0]);
    }
}

#[test]
fn a_container_that_runs_out_of_memory() {
    needs!("docker");
    let (lab, name) = (Lab::new(), unique("oom"));
    let store = AnyStore::File(lab.path("store"));
    let child = start(&lab, &store, &name, &writes_then("sleep 3; tail /dev/zero"));
    wait_running(&name);
    docker(&["update", "--memory", "32m", "--memory-swap", "32m", &name]);
    end(child).expect_error(1, "ran out of memory").hint("more memory");
    store.expect_nothing(&lab);
    assert_eq!(leftovers(&name), [""; 0]);
}

#[test]
fn a_command_in_a_container_that_fails() {
    needs!("docker");
    let (lab, name) = (Lab::new(), unique("exec"));
    docker(&["run", "-d", "--name", &name, "--network", "none", "bb:1", "sleep", "600"]);
    let store = AnyStore::File(lab.path("store"));
    let script = writes_then("echo no such database >&2; exit 2");
    let words = ["backup", "exec", "--to", &store.url(), "--job", JOB, &name, "sh", "-c", &script];
    lab.run(&words).expect_error(1, "the command exited with code 2: no such database");
    store.expect_nothing(&lab);
    docker(&["rm", "-f", &name]);
}

#[test]
fn an_engine_that_is_killed() {
    needs!("docker");
    let lab = Lab::new();
    let servers = format!("{}/tests/servers", env!("CARGO_MANIFEST_DIR"));
    // Short, for the sockets below it; where tests/run stops it even if this test dies.
    let dir = format!("{}/{}", std::env::var("SEALIFT_TEST_DIR").expect("tests/run"), unique("d"));
    let host = sh(&format!("{servers}/dockerd up {dir}")).trim().replace("DOCKER_HOST=", "");
    sh(&format!("DOCKER_HOST={host} {servers}/images bb"));
    let store = AnyStore::all(&lab).into_iter().find(|store| matches!(store, AnyStore::S3(_)));
    let store = store.unwrap_or(AnyStore::File(lab.path("store")));

    let mut command = lab.sealift();
    command.env("DOCKER_HOST", &host).args([
        "backup",
        "run",
        "--to",
        &store.url(),
        "--job",
        JOB,
        "--network",
        "none",
    ]);
    command
        .args(["bb:1", "sh", "-c", &writes_then("sleep 600")])
        .stderr(Stdio::piped())
        .stdout(Stdio::piped());
    let child = command.spawn().expect("sealift runs");
    let count = |words: &str| {
        sh(&format!("DOCKER_HOST={host} /usr/bin/docker ps {words} | wc -l")).trim().to_string()
    };
    until("the container runs", || count("-q") == "1");
    std::thread::sleep(std::time::Duration::from_millis(500));
    sh(&format!("kill -9 $(cat {dir}/pid)"));
    // As systemd would, so that sealift can clear away its container.
    sh(&format!("{servers}/dockerd up {dir}"));
    // Which of the two is heard first depends on how soon the engine is back: it kills the container then.
    let ended = end(child).expect_error(1, "the ");
    let said = ["the engine", "the container exited with code 137"];
    assert!(said.iter().any(|words| ended.stderr.contains(words)), "{}", ended.stderr);
    store.expect_nothing(&lab);
    assert_eq!(count("-aq"), "0", "a container is left");
    sh(&format!("{servers}/dockerd down {dir}"));
}

/// Backs up volumes of the run's engine, as one that is somewhere else, while a file in the first of them shrinks.
#[track_caller]
fn with_a_file_that_shrinks(volumes: &[String]) {
    let (lab, bridge) = (Lab::new(), Bridge::to_engine());
    let file = docker(&["volume", "inspect", "-f", "{{.Mountpoint}}/file", &volumes[0]]);
    sh(&format!("head -c 400000000 /dev/urandom >{file}"));
    let store = lab.file_store();
    let backup = || {
        let mut command = lab.sealift();
        command.env("DOCKER_HOST", bridge.engine()).args(["backup", "volume"]).args(volumes);
        command.args(["--job", JOB, "--to", &store, "--compress", "none", "--part-size", "1MiB"]);
        // What is read, but not stored yet, takes memory: the engine is held up long before the file's end.
        command.args(["--memory", "160MiB", "--limit-rate", "5MB/s"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sealift runs")
    };
    let running = backup();
    until("the file is read", || bridge.back.load(Ordering::SeqCst) > 1_000_000);
    sh(&format!("truncate -s 1000 {file}"));
    // The engine ends its answer as if all were well.
    end(running).expect_error(1, "without its end marker");
    assert_eq!(lab.list(&store), []);
    let left = sh(&format!("find {} -type f ! -name '*.failed.json'", lab.path("store").display()));
    assert_eq!(left, "", "beside the note that it failed");
    // Nothing but the shrinking was wrong.
    end(backup()).expect(0);
}

#[test]
fn a_file_that_shrinks_while_the_engine_reads_it() {
    needs!("docker");
    let volumes = [unique("shrinks"), unique("after")];
    volumes.iter().for_each(|volume| drop(docker(&["volume", "create", volume])));
    with_a_file_that_shrinks(&volumes[..1]);
    with_a_file_that_shrinks(&volumes);
    volumes.iter().for_each(|volume| drop(docker(&["volume", "rm", volume])));
}

#[test]
fn a_file_that_changes_while_tar_reads_it_is_a_warning() {
    let lab = Lab::new();
    sh(&format!("mkdir {0}/tree; seq 1 9 > {0}/tree/still", lab.dir.display()));
    let grows = lab.path("tree/grows");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                // Rewritten in place all the time: GNU tar sees another time after it has read it. (A file that was made
                // shorter is another warning, which --warn-ok changed does not accept.)
                sh(&format!(
                    "head -c 30000000 /dev/zero | dd of='{}' bs=1M conv=notrunc status=none",
                    grows.display()
                ));
            }
        });
        until("the file is there", || grows.exists());
        let store = lab.file_store();
        let warned = (0..10)
            .map(|_| lab.run(&["backup", "path", "tree", "--to", &store]))
            .find(|ended| ended.code != 0);
        let warned = warned.expect("tar never saw a change: the test shows nothing").expect(3);
        assert!(warned.stderr.contains("warning: ") && warned.stderr.contains("grows"), "{}", warned.stderr);
        lab.run(&["verify", "tree", "--from", &store]).expect(0);
        lab.run(&["backup", "path", "tree", "--to", &store, "--warn-ok", "changed"]).expect(0);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_tar_without_its_end_marker() {
    let lab = Lab::new();
    sh(&format!(
        "cd {}; mkdir tree; head -c 3000000 /dev/urandom > tree/a; tar -cf whole tree",
        lab.dir.display()
    ));
    let whole = std::fs::read(lab.path("whole")).expect("a tar");
    let end = 512 * 2 + 3_000_000_usize.next_multiple_of(512);
    for store in AnyStore::all(&lab) {
        for cut in [512, 2_000_000, end - 512, end, end + 512] {
            lab.backup_stdin(&store.url(), &whole[..cut.min(whole.len())], &[])
                .expect_error(1, "without its end marker");
        }
        store.expect_nothing(&lab);
        lab.backup_stdin(&store.url(), &whole, &[]).expect(0);
        // Whoever says that it is no tar gets the bytes as they are.
        lab.backup_stdin(&store.url(), &whole[..2_000_000], &["--format", "raw"]).expect(0);
        assert_eq!(lab.list(&store.url()).len(), 2);
    }
}

#[test]
fn no_byte_at_all() {
    needs!("docker");
    let lab = Lab::new();
    let store = AnyStore::File(lab.path("store"));
    let words = ["backup", "run", "--to", &store.url(), "--network", "none", "bb:1", "true"];
    lab.run(&words).expect_error(1, "no byte at all").hint("--allow-empty");
    store.expect_nothing(&lab);
}

#[test]
fn a_signal_aborts_cleanly() {
    needs!("docker");
    let lab = Lab::new();
    for (signal, store) in ["INT", "TERM"].into_iter().cycle().zip(AnyStore::all(&lab)) {
        let name = unique("signal");
        let child = start(&lab, &store, &name, "while :; do head -c 20000000 /dev/urandom; sleep 0.2; done");
        wait_running(&name);
        until("an upload is under way", || !store.unfinished().is_empty());
        sh(&format!("kill -{signal} {}", child.id()));
        end(child).expect_error(130, "interrupted");
        store.expect_nothing(&lab);
        assert_eq!(leftovers(&name), [""; 0]);
    }
    // One that waits for standard input, too.
    let mut waiting = lab.sealift();
    waiting.args(["backup", "stdin", "--job", JOB, "--to", &lab.file_store()]);
    let child = waiting
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sealift runs");
    std::thread::sleep(std::time::Duration::from_millis(800));
    sh(&format!("kill -INT {}", child.id()));
    end(child).expect(130);
}

#[test]
fn a_kill_minus_nine_leaves_nothing_that_is_listed() {
    let lab = Lab::new();
    for store in AnyStore::all(&lab) {
        let mut command = lab.sealift();
        command.args(["backup", "stdin", "--job", JOB, "--to", &store.url()]).stdin(Stdio::piped());
        let mut child = command.spawn().expect("sealift runs");
        let mut stdin = child.stdin.take().expect("a stdin");
        std::io::Write::write_all(&mut stdin, &noise(5, 60_000_000)).expect("sealift reads");
        child.kill().expect("a signal");
        child.wait().expect("its end");
        assert_eq!(lab.list(&store.url()), []);
        lab.backup_stdin(&store.url(), &text(1000), &[]).expect(0);
        assert_eq!(lab.list(&store.url()).len(), 1);
    }
}

#[test]
fn a_stream_that_is_cut_while_the_container_goes_on() {
    needs!("docker");
    let lab = Lab::new();
    let store = AnyStore::File(lab.path("store"));
    // Whatever is between us and the engine ends the stream cleanly, as a proxy may.
    let bridge = Bridge::to_engine_cut_after(3_000_000);
    let name = unique("cut");
    let mut command = lab.sealift();
    command.env("DOCKER_HOST", bridge.engine()).args([
        "backup",
        "run",
        "--to",
        &store.url(),
        "--job",
        JOB,
        "--name",
        &name,
    ]);
    command.args([
        "--network",
        "none",
        "bb:1",
        "sh",
        "-c",
        "for i in 1 2 3 4; do head -c 1000000 /dev/zero; sleep 1; done; sleep 30",
    ]);
    let ended = Ended::from(command.output().expect("sealift runs"));
    ended.expect_error(1, "");
    store.expect_nothing(&lab);
    assert_eq!(leftovers(&name), [""; 0]);
}

#[test]
fn a_volume_that_is_not_there_is_not_made_for_a_container() {
    needs!("docker");
    let (lab, volume) = (Lab::new(), unique("typo"));
    let (store, mount) = (lab.file_store(), format!("{volume}:/v"));
    let words = ["backup", "run", "--to", &store, "-v", &mount, "bb:1", "tar", "-c", "/v"];
    lab.run(&words).expect_error(1, "there is no volume").hint("docker volume ls");
    assert_eq!(docker(&["volume", "ls", "-q", "--filter", &format!("name={volume}")]), "");
}
