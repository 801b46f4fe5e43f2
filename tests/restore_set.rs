//! `restore set`: the plan for a set, all of Docker EE there and back by it, and its steps as they are done.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::ee::{REPLICA, dtr_words, jobs, members, push, restored, run, sets};
use crate::needs;
use crate::screens::Terminal;
use crate::support::ee::{ADMIN, EeNode, EeOptions};
use crate::support::{AnyStore, Ended, Lab, docker, feed, sh, unique, until};

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

/// A set of two folders and of what a command printed, at a store of the lab's.
fn with_a_set(lab: &Lab) -> String {
    let store = lab.file_store();
    sh(&format!("cd {}; mkdir one two; echo 1 > one/f; echo 2 > two/f", lab.dir.display()));
    let settings = format!(
        "to = \"{store}\"\n[jobs.a]\nsource = \"path\"\ndirs = [\"one\"]\n[jobs.b]\nsource = \"path\"\n\
         dirs = [\"two\"]\n[jobs.dump]\nsource = \"command\"\ncommand = [\"echo\", \"rows\"]\n[sets.all]\n\
         jobs = [\"a\", \"b\", \"dump\"]\n"
    );
    lab.write("sealift.toml", settings.as_bytes());
    lab.run(&["backup", "set", "all"]).expect(0);
    sh(&format!("cd {}; rm -r one two", lab.dir.display()));
    store
}

/// The line behind "go on with: ".
fn go_on(text: &str) -> &str {
    let line = text.lines().rev().find_map(|line| line.split_once("go on with: "));
    line.unwrap_or_else(|| panic!("nothing to go on with: {text}")).1.split("; ").next().expect("a line")
}

/// Runs a line of a hint as it stands there.
fn by_shell(lab: &Lab, line: &str) -> Ended {
    let bin = lab.path("bin");
    if !bin.exists() {
        std::fs::create_dir(&bin).expect("a folder");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_sealift"), bin.join("sealift")).expect("a link");
    }
    let mut bash = Command::new("bash");
    bash.current_dir(&lab.dir).env("SEALIFT_PASSPHRASE_FILE", lab.path("passphrase"));
    bash.env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").expect("a PATH")));
    Ended::from(bash.args(["-c", line]).stdin(std::process::Stdio::null()).output().expect("bash runs"))
}

#[test]
fn volumes_and_a_folder_are_destroyed_and_brought_back() {
    needs!("docker");
    let (lab, first, second) = (Lab::new(), unique("vol"), unique("vol"));
    let store = lab.file_store();
    let folder = |volume: &str| docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", volume]);
    for volume in [&first, &second] {
        docker(&["volume", "create", volume]);
        sh(&format!("echo {volume} > {}/f; chown 1234 {}/f", folder(volume), folder(volume)));
    }
    sh(&format!("cd {}; mkdir etc; echo x > etc/conf", lab.dir.display()));
    let settings = format!(
        "to = \"{store}\"\n[jobs.data]\nsource = \"volume\"\nvolumes = [\"{first}\", \"{second}\"]\n\
         [jobs.etc]\nsource = \"path\"\ndirs = [\"etc\"]\n[sets.all]\njobs = [\"data\", \"etc\"]\n"
    );
    lab.write("sealift.toml", settings.as_bytes());
    lab.run(&["backup", "set", "all"]).expect(0);
    docker(&["volume", "rm", &first, &second]);
    sh(&format!("rm -r {}", lab.path("etc").display()));

    let restore = |more: &[&str]| lab.run(&[&["restore", "set", "all", "--from", &store], more].concat());
    let plan = restore(&["--plan"]).expect(0).text();
    assert!(plan.contains(" --to-volumes\n") && plan.contains("--to-path restored/etc\n"), "{plan}");
    let ended = restore(&["--yes"]).expect(0);
    assert!(ended.stderr.contains(": 2 steps done"), "{}", ended.stderr);
    for volume in [&first, &second] {
        assert_eq!(sh(&format!("cd {}; cat f; stat -c %u f", folder(volume))), format!("{volume}\n1234\n"));
    }
    assert_eq!(sh(&format!("cat {}", lab.path("restored/etc/etc/conf").display())), "x\n");
    // Again: what is there is not written over, and the step that said so is named.
    let again = restore(&["--yes"]).expect_error(1, "step 1 failed: sealift restore data@");
    let again = again.hint("empty it first, then go on with");
    assert!(go_on(&again.stderr).ends_with("--yes --from-step 1"), "{}", again.stderr);
    docker(&["volume", "rm", &first, &second]);
}

#[test]
fn steps_are_done_skipped_printed_and_left_as_somebody_answers() {
    let lab = Lab::new();
    let store = with_a_set(&lab);
    let restore = format!("restore set all --from {store}");
    let terminal = Terminal::run_in(&lab.dir, &lab, 200, &restore);
    terminal.when("Do step 1? ");
    terminal.keys("y");
    terminal.keys("Enter");
    let screen = terminal.when("Do step 2? ");
    assert!(screen.contains("step 1.1: mkdir -p restored/a\nstep 1.1: done\n"), "{screen}");
    assert!(screen.contains("step 1.2: done\n"), "{screen}");
    terminal.keys("s");
    terminal.keys("Enter");
    terminal.when("Do step 3? ");
    terminal.keys("p");
    terminal.keys("Enter");
    terminal.when("\nmkdir -p restored\n");
    terminal.keys("y");
    terminal.keys("Enter");
    let screen = terminal.when("Is it done, or not needed? ");
    assert!(screen.contains("by hand: sealift restore dump@"), "{screen}");
    terminal.keys("Enter");
    let screen = terminal.end();
    assert!(screen.contains("stopped before step 3.3; go on with: "), "{screen}");
    assert!(screen.ends_with("[exit 3]"), "{screen}");
    assert!(lab.path("restored/a/one/f").exists() && !lab.path("restored/b").exists());

    // As the line says, but the answer is yes.
    let line = go_on(screen.lines().find(|line| line.contains("go on with")).expect("a line"));
    let words = line.strip_prefix("sealift ").expect("our own words");
    let terminal = Terminal::run_in(&lab.dir, &lab, 200, words);
    terminal.when("Do step 3? ");
    terminal.keys("y");
    terminal.keys("Enter");
    terminal.when("Is it done, or not needed? ");
    terminal.keys("y");
    terminal.keys("Enter");
    let screen = terminal.end();
    assert!(screen.contains(": 1 step done\n[exit 0]"), "{screen}");
}

#[test]
fn whoever_answers_nothing_or_interrupts_has_nothing_done() {
    let lab = Lab::new();
    let store = with_a_set(&lab);
    for (key, code) in [("Enter", 3), ("q", 3), ("C-d", 3), ("C-c", 130)] {
        let terminal = Terminal::run_in(&lab.dir, &lab, 200, &format!("restore set all --from {store}"));
        terminal.when("Do step 1? ");
        terminal.keys(key);
        if key == "q" {
            terminal.keys("Enter");
        }
        let screen = terminal.end();
        assert!(screen.ends_with(&format!("[exit {code}]")), "{key}: {screen}");
        assert!(screen.contains("before step 1; go on with: sealift restore set all@"), "{key}: {screen}");
    }
    assert!(!lab.path("restored").exists());
}

#[test]
fn without_a_terminal_nothing_is_done_unless_it_was_said() {
    let lab = Lab::new();
    let store = with_a_set(&lab);
    let restore = |more: &[&str]| lab.run(&[&["restore", "set", "all", "--from", &store], more].concat());
    restore(&[]).expect_error(2, "no terminal to ask at").hint("--yes");
    restore(&["--json"]).expect_error(2, "with --json nobody is asked").hint("--plan");
    restore(&["--yes", "--from-step", "7"]).expect_error(2, "the plan has no step 7").hint("3 steps");
    assert!(!lab.path("restored").exists());

    let states = |lines: &str| {
        let events = lines.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let steps = events.filter(|event| event["event"] == "step");
        steps.map(|step| format!("{}.{} {}", step["step"], step["action"], step["state"])).collect::<Vec<_>>()
    };
    let planned = restore(&["--plan", "--json"]).expect(0).text();
    assert_eq!(planned.lines().count(), 9, "{planned}");
    assert_eq!(states(&planned)[8], "3.3 \"planned\"");
    // What is left to be done by hand keeps nothing from being done.
    let ended = restore(&["--yes", "--json"]).expect(3);
    let expected = [
        "1.1 \"begun\"",
        "1.1 \"done\"",
        "1.2 \"begun\"",
        "1.2 \"done\"",
        "2.1 \"begun\"",
        "2.1 \"done\"",
        "2.2 \"begun\"",
        "2.2 \"done\"",
        "3.1 \"begun\"",
        "3.1 \"done\"",
        "3.3 \"by-hand\"",
    ];
    assert_eq!(states(&ended.stderr), expected, "{}", ended.stderr);
    assert!(ended.stderr.contains("left to be done by hand: sealift restore dump@"), "{}", ended.stderr);
    assert_eq!(sh(&format!("cd {}/restored; cat a/one/f b/two/f", lab.dir.display())), "1\n2\n");
}

#[test]
fn what_a_set_lacks_is_not_back_however_well_the_rest_goes() {
    let lab = Lab::new();
    let store = lab.file_store();
    sh(&format!("cd {}; mkdir one; echo 1 > one/f", lab.dir.display()));
    let settings = format!(
        "to = \"{store}\"\n[jobs.a]\nsource = \"path\"\ndirs = [\"one\"]\n[jobs.dump]\nsource = \"command\"\n\
         command = [\"false\"]\n[sets.all]\njobs = [\"a\", \"dump\"]\n"
    );
    lab.write("sealift.toml", settings.as_bytes());
    assert_ne!(lab.run(&["backup", "set", "all"]).code, 0);
    let ended = lab.run(&["restore", "set", "all", "--yes", "--from", &store]).expect(3);
    assert!(ended.stderr.contains("is not whole") && ended.stderr.contains("dump"), "{}", ended.stderr);
    assert!(lab.path("restored/a/one/f").exists());
}

/// The command under test, which finds another `mkdir` before the system's.
fn with_mkdir(lab: &Lab, script: &str) -> Command {
    let (dir, path) = (lab.path("before"), std::env::var("PATH").expect("a PATH"));
    std::fs::create_dir_all(&dir).expect("a folder");
    std::fs::write(dir.join("mkdir"), format!("#!/bin/sh\n{script}\n")).expect("a script");
    std::fs::set_permissions(dir.join("mkdir"), std::fs::Permissions::from_mode(0o755)).expect("its mode");
    let mut command = lab.sealift();
    command.env("PATH", format!("{}:{path}", dir.display()));
    command
}

#[test]
fn a_step_that_fails_stops_it_and_the_hint_goes_on_with_that_one() {
    let lab = Lab::new();
    let store = with_a_set(&lab);
    // The second step's.
    let mut command = with_mkdir(&lab, "case $2 in *b) exit 7;; esac; exec /bin/mkdir \"$@\"");
    let ended = command.args(["restore", "set", "all", "--yes", "--from", &store]).output();
    let ended = Ended::from(ended.expect("sealift runs"));
    let ended = ended.expect_error(1, "step 2 failed: mkdir -p restored/b: exit status: 7");
    assert!(lab.path("restored/a/one/f").exists(), "the first step was done");
    let line = go_on(&ended.stderr).to_string();
    assert!(line.ends_with(" --yes --from-step 2") && line.contains("set all@"), "{line}");
    // A run that came later changes nothing about that line.
    lab.run(&["backup", "command", "--job", "b", "--to", &store, "--warn-ok", "source", "--", "echo", "x"])
        .expect(0);
    by_shell(&lab, &line).expect(3);
    assert_eq!(sh(&format!("cat {}", lab.path("restored/b/two/f").display())), "2\n");
}

#[test]
fn a_signal_during_a_step_ends_it_and_says_which_it_was() {
    let lab = Lab::new();
    let store = with_a_set(&lab);
    // What a signal to us alone would leave behind.
    let mut command = with_mkdir(
        &lab,
        "set -- $(cat /proc/$$/stat); echo $5 > group.new; mv group.new group; sleep 600; exit 0",
    );
    command.args(["restore", "set", "all", "--yes", "--from", &store]).stderr(std::process::Stdio::piped());
    let child = command.spawn().expect("sealift runs");
    until("the step has begun", || lab.path("group").exists());
    sh(&format!("kill -INT {}", child.id()));
    let ended = Ended::from(child.wait_with_output().expect("sealift ends")).expect(130);
    assert!(ended.stderr.contains("step 1 was under way: mkdir -p restored/a"), "{}", ended.stderr);
    assert!(go_on(&ended.stderr).ends_with("--from-step 1"), "{}", ended.stderr);
    let group = std::fs::read_to_string(lab.path("group")).expect("its number");
    until("its processes are gone", || {
        let left = Command::new("pgrep").args(["-g", group.trim()]).output().expect("pgrep runs");
        left.stdout.is_empty()
    });
}
