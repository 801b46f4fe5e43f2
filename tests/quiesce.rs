//! What is stopped, paused or scaled down for a backup is so while the source is read, and as it was before afterwards,
//! whatever happens.

use std::process::{Child, Command, Stdio};

use crate::needs;
use crate::support::ee::EeNode;
use crate::support::faulty::FaultyEngine;
use crate::support::{Ended, Lab, docker, sh, unique, until};

/// A container that runs at an engine, and goes away with the test.
struct Running(String, String);

impl Running {
    fn new(more: &[&str]) -> Running {
        Self::named(unique("quiet"), more)
    }

    fn named(name: String, more: &[&str]) -> Running {
        Self::at(std::env::var("DOCKER_HOST").expect("an engine"), name, more)
    }

    fn on(node: &EeNode) -> Running {
        Self::at(node.host(), unique("quiet"), &[])
    }

    fn at(host: String, name: String, more: &[&str]) -> Running {
        let words = ["run", "-d", "--name", &name, "--network", "none", "--stop-signal", "KILL"];
        docker_at(&host, &[&words[..], more, &["bb:1", "sleep", "86400"]].concat());
        Running(name, host)
    }

    fn state(&self) -> String {
        self.inspect("{{.State.Status}}")
    }

    fn inspect(&self, format: &str) -> String {
        docker_at(&self.1, &["inspect", "-f", format, &self.0])
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut command = Command::new("/usr/bin/docker");
        let _ = command.env("DOCKER_HOST", &self.1).args(["rm", "-f", &self.0]).output();
    }
}

/// The distribution's docker command against one of several engines.
#[track_caller]
fn docker_at(host: &str, words: &[&str]) -> String {
    let output = Command::new("/usr/bin/docker").env("DOCKER_HOST", host).args(words).output();
    Ended::from(output.expect("docker runs")).expect(0).text().trim().to_string()
}

/// An engine on which no other test puts anything right.
fn own_engine() -> EeNode {
    let node = EeNode::bare();
    node.load(&["bb:1"]);
    node
}

/// A script that prints how containers stand while it is read.
fn states(of: &[&Running]) -> String {
    let names: Vec<_> = of.iter().map(|container| container.0.as_str()).collect();
    format!("/usr/bin/docker inspect -f '{{{{.State.Status}}}}' {}", names.join(" "))
}

/// The same, which waits until the file `go` is there.
fn waiting(lab: &Lab, name: &str, of: &[&Running]) -> String {
    let (began, go) = (lab.path(&format!("began-{name}")), lab.path(&format!("go-{name}")));
    // Whatever becomes of the test: it does not wait longer than that.
    let (began, go, dir) = (began.display(), go.display(), lab.dir.display());
    let wait = format!("touch {began}; until [ -e {go} ] || [ ! -d {dir} ]; do sleep 0.05; done");
    format!("{wait}; {}", states(of))
}

fn backup(lab: &Lab, job: &str, more: &[&str], script: &str) -> Command {
    let mut command = lab.sealift();
    command.args(["backup", "command", "--job", job, "--to", &lab.file_store()]).args(more);
    command.args(["--", "sh", "-c", script]);
    command
}

fn run(lab: &Lab, job: &str, more: &[&str], script: &str) -> Ended {
    Ended::from(backup(lab, job, more, script).output().expect("sealift runs"))
}

/// A backup in the background that reads until it may go on.
fn start(lab: &Lab, job: &str, more: &[&str], of: &[&Running]) -> Child {
    let mut command = backup(lab, job, more, &waiting(lab, job, of));
    if let Some(container) = of.first() {
        command.env("DOCKER_HOST", &container.1);
    }
    let child = command.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sealift starts");
    until("it reads", || lab.path(&format!("began-{job}")).exists());
    child
}

fn go_on(lab: &Lab, job: &str, child: Child) -> Ended {
    lab.write(&format!("go-{job}"), b"");
    Ended::from(child.wait_with_output().expect("sealift ends"))
}

fn signal(child: Child, name: &str) -> Ended {
    sh(&format!("kill -{name} {}", child.id()));
    Ended::from(child.wait_with_output().expect("sealift ends"))
}

/// What was read.
fn content(lab: &Lab, job: &str) -> String {
    lab.run(&["restore", job, "--to-stdout", "--from", &lab.file_store()]).expect(0).text()
}

/// The notes at the engine that name a container.
fn markers(of: &Running) -> usize {
    let id = of.inspect("{{.Id}}");
    let all = docker_at(&of.1, &["volume", "ls", "-q", "--filter", "label=sealift.quiesced"]);
    // One of another test may be gone by now.
    let labels = |name: &str| {
        let mut inspect = Command::new("/usr/bin/docker");
        inspect.env("DOCKER_HOST", &of.1).args(["volume", "inspect", "-f", "{{json .Labels}}", name]);
        String::from_utf8_lossy(&inspect.output().expect("docker runs").stdout).into_owned()
    };
    all.lines().filter(|name| labels(name).contains(&id)).count()
}

#[test]
fn it_is_stopped_or_paused_while_it_is_read_and_what_did_not_run_stays_so() {
    needs!("docker");
    let lab = Lab::new();
    let [stopped, paused, idle, other] = [(); 4].map(|()| Running::new(&[]));
    docker(&["stop", &idle.0]);
    let words = ["--stop", &stopped.0, "--pause", &paused.0, "--stop", &idle.0];
    let plan = run(&lab, "j", &[&words[..], &["-n"]].concat(), "true").expect(0);
    assert!(plan.stderr.contains(&format!("stop {}, pause {}", stopped.0, paused.0)), "{}", plan.stderr);
    assert_eq!(stopped.state(), "running");

    let ended = run(&lab, "j", &words, &states(&[&stopped, &paused, &idle, &other])).expect(0);
    assert_eq!(content(&lab, "j"), "exited\npaused\nexited\nrunning\n");
    let said = format!("stopped {}; paused {}, for ", stopped.0, paused.0);
    assert!(ended.stderr.contains(&said), "{}", ended.stderr);
    let after = [&stopped, &paused, &idle, &other].map(Running::state);
    assert_eq!(after, ["running", "running", "exited", "running"]);
    assert_eq!(markers(&stopped), 0);

    // The settings say the same.
    let settings = format!(
        "to = \"{}\"\n[jobs.k]\nsource = \"command\"\ncommand = [\"sh\", \"-c\", \"{}\"]\nstop = [\"{}\"]\n\
         stop_timeout = \"5s\"\nquiesce_limit = \"10m\"\n",
        lab.file_store(),
        states(&[&stopped]),
        stopped.0
    );
    lab.write("sealift.toml", settings.as_bytes());
    lab.run(&["backup", "job", "k"]).expect(0);
    assert_eq!((content(&lab, "k").as_str(), stopped.state().as_str()), ("exited\n", "running"));
}

#[test]
fn a_failure_or_a_signal_leaves_nothing_stopped() {
    needs!("docker");
    let lab = Lab::new();
    let [stopped, paused] = [(); 2].map(|()| Running::new(&[]));
    let words = ["--stop", &stopped.0, "--pause", &paused.0];
    run(&lab, "j", &words, "echo x; exit 7").expect_error(1, "exit status: 7");
    assert_eq!([&stopped, &paused].map(Running::state), ["running", "running"]);
    let missing = run(&lab, "j", &["--stop", &stopped.0, "--stop", "no-such"], "touch read; echo x");
    missing.expect_error(1, "there is no container no-such").hint("docker ps -a");
    assert!(!lab.path("read").exists() && stopped.state() == "running");
    // Ctrl-C is the same, but a test run in the background ignores it.
    let child = start(&lab, "j", &words, &[&stopped]);
    assert_eq!([&stopped, &paused].map(Running::state), ["exited", "paused"]);
    signal(child, "TERM").expect(130);
    assert_eq!([&stopped, &paused].map(Running::state), ["running", "running"]);
    std::fs::remove_file(lab.path("began-j")).expect("a file");
    // A time limit: it runs again, while the rest is read.
    let limited = [&words[..], &["--quiesce-limit", "1s"]].concat();
    let child = start(&lab, "j", &limited, &[&stopped]);
    until("it runs again", || stopped.state() == "running");
    let ended = go_on(&lab, "j", child).expect(3);
    assert!(ended.stderr.contains("--quiesce-limit was over"), "{}", ended.stderr);
    assert_eq!(content(&lab, "j"), "running\n");
    assert_eq!(markers(&stopped), 0);
}

#[test]
fn what_a_killed_run_left_stopped_the_next_run_starts() {
    needs!("docker");
    let lab = Lab::new();
    let node = own_engine();
    let sealift =
        |words: &[&str]| Ended::from(node.sealift(&lab).args(words).output().expect("sealift runs"));
    let [stopped, paused, removed] = [(); 3].map(|()| Running::on(&node));
    let words = ["--stop", &stopped.0, "--pause", &paused.0, "--stop", &removed.0];
    let child = start(&lab, "j", &words, &[&stopped]);
    signal(child, "KILL").expect(137);
    assert_eq!([&stopped, &paused].map(Running::state), ["exited", "paused"]);
    assert_eq!(markers(&stopped), 1);
    // One is made anew meanwhile, and does not run.
    node.docker(&["rm", "-f", &removed.0]);
    node.docker(&["create", "--name", &removed.0, "--network", "none", "bb:1", "sleep", "86400"]);

    let listed = sealift(&["clean", "--docker", "--from", &lab.file_store(), "--older-than", "0s"]).expect(0);
    assert!(listed.text().contains(&stopped.0), "{}", listed.text());
    assert_eq!(stopped.state(), "exited");
    // Any backup that meets this engine.
    let other = Running::on(&node);
    let mut command = backup(&lab, "k", &["--stop", &other.0], &states(&[&stopped, &paused]));
    command.env("DOCKER_HOST", node.host());
    let ended = Ended::from(command.output().expect("sealift runs")).expect(0);
    assert!(ended.stderr.contains("a run that was killed has left stopped"), "{}", ended.stderr);
    assert_eq!(content(&lab, "k"), "running\nrunning\n");
    assert_eq!(removed.state(), "running");
    assert_eq!((markers(&stopped), markers(&other)), (0, 0));

    // And so does `clean`.
    std::fs::remove_file(lab.path("began-j")).expect("a file");
    let child = start(&lab, "j", &["--stop", &stopped.0], &[&stopped]);
    signal(child, "KILL").expect(137);
    let clean = ["clean", "--docker", "--confirm", "--older-than", "0s", "--from", &lab.file_store()];
    sealift(&clean).expect(0);
    assert_eq!((stopped.state().as_str(), markers(&stopped)), ("running", 0));
}

#[test]
fn of_two_runs_that_stop_one_container_the_last_one_starts_it() {
    needs!("docker");
    let lab = Lab::new();
    let shared = Running::new(&[]);
    let stop = ["--stop", &shared.0];
    let first = start(&lab, "a", &stop, &[&shared]);
    let second = start(&lab, "b", &stop, &[&shared]);
    let ended = go_on(&lab, "a", first).expect(0);
    assert!(ended.stderr.contains("another run still holds it"), "{}", ended.stderr);
    assert_eq!(shared.state(), "exited");
    go_on(&lab, "b", second).expect(0);
    assert_eq!((content(&lab, "a"), content(&lab, "b")), ("exited\n".into(), "exited\n".into()));
    assert_eq!((shared.state().as_str(), markers(&shared)), ("running", 0));

    // The first one is killed while the second one reads: the second one lets it go.
    ["began-a", "began-b", "go-a", "go-b"].iter().for_each(|name| drop(std::fs::remove_file(lab.path(name))));
    let first = start(&lab, "a", &stop, &[&shared]);
    let second = start(&lab, "b", &stop, &[&shared]);
    signal(first, "KILL").expect(137);
    let third = Running::new(&[]);
    run(&lab, "c", &["--stop", &third.0], &states(&[&shared])).expect(0);
    assert_eq!((content(&lab, "c").as_str(), shared.state().as_str()), ("exited\n", "exited"));
    go_on(&lab, "b", second).expect(0);
    assert_eq!((shared.state().as_str(), markers(&shared)), ("running", 0));
}

#[test]
fn labels_say_what_is_stopped_in_which_order_and_what_is_run_before_and_after() {
    needs!("docker");
    let lab = Lab::new();
    let job = unique("labelled");
    let label = |key: &str, value: &str| format!("{key}={value}");
    let stop = label("sealift.stop-during-backup", &format!("x, {job}"));
    let (database, name) = (Running::new(&["--label", &stop]), unique("quiet.web_1"));
    let offens = label("docker-volume-backup.stop-during-backup", &job);
    let needs = label("sealift.depends-on", &database.0);
    let web = Running::named(name, &["--label", &offens, "--label", &needs]);
    let for_job = label("sealift.exec.job", &job);
    let before = label("docker-volume-backup.archive-pre", "/bin/sh -c 'echo $((6 * 7)) > /tmp/dump'");
    let after = label("sealift.exec.after", "id -u > /tmp/after; rm /tmp/dump");
    let hooked = [&for_job, &before, &after, "sealift.exec.after.user=65534"];
    let hooked: Vec<_> = hooked.iter().flat_map(|label| ["--label", label]).collect();
    let hooked = Running::new(&hooked);
    let unlabelled = Running::new(&["--label", "sealift.stop-during-backup=another"]);
    docker(&["exec", &hooked.0, "chmod", "777", "/tmp"]);

    let script = format!(
        "{}; /usr/bin/docker exec {} cat /tmp/dump",
        states(&[&database, &web, &unlabelled]),
        hooked.0
    );
    run(&lab, &job, &["--quiesce"], &script).expect(0);
    assert_eq!(content(&lab, &job), "exited\nexited\nrunning\n42\n");
    assert_eq!(docker(&["exec", &hooked.0, "sh", "-c", "ls /tmp; cat /tmp/after"]), "after\n65534");
    let times = |of: &Running| of.inspect("{{.State.FinishedAt}} {{.State.StartedAt}}");
    let (web_times, database_times) = (times(&web), times(&database));
    let split =
        |times: &str| times.split_once(' ').map(|(a, b)| (a.to_string(), b.to_string())).expect("two");
    let ((web_end, web_start), (end, start)) = (split(&web_times), split(&database_times));
    assert!(web_end < end && start < web_start, "{web_times} {database_times}");
    assert_eq!([&database, &web].map(Running::state), ["running", "running"]);
}

#[test]
fn a_hook_that_fails_before_is_a_failure_and_after_a_warning() {
    needs!("docker");
    let lab = Lab::new();
    let job = unique("hooks");
    let for_job = format!("sealift.exec.job={job}");
    let failing = "sealift.exec.before=printf 'too %s' early >&2; exit 4";
    let hooked = Running::new(&["--label", &for_job, "--label", failing]);
    let stop = Running::new(&["--label", &format!("sealift.stop-during-backup={job}")]);
    let refused = run(&lab, &job, &["--quiesce"], "touch read; echo x");
    refused.expect_error(1, "exited with code 4: too early").hint("sealift.exec.before");
    assert!(!lab.path("read").exists() && stop.state() == "running");
    drop(hooked);
    let hooked = Running::new(&["--label", &for_job, "--label", "sealift.exec.after=exit 5"]);
    let ended = run(&lab, &job, &["--quiesce"], "echo x").expect(3);
    assert!(ended.stderr.contains("exited with code 5"), "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("docker exec {} sh -c 'exit 5'", hooked.0)), "{}", ended.stderr);
    assert_eq!((stop.state().as_str(), content(&lab, &job).as_str()), ("running", "x\n"));
}

#[test]
fn an_engine_that_fails_to_start_a_container_is_asked_again_and_then_told() {
    needs!("docker");
    let lab = Lab::new();
    let node = own_engine();
    let [first, second] = [(); 2].map(|()| Running::on(&node));
    let stop = ["--stop", &first.0, "--stop", &second.0];
    let engine = |times: u32| {
        FaultyEngine::new(&node.host(), &format!("/containers/{}/start", first.inspect("{{.Id}}")), times)
    };
    let run = |job: &str, engine: &FaultyEngine| {
        let mut command = backup(&lab, job, &stop, "echo x");
        Ended::from(command.env("DOCKER_HOST", engine.host()).output().expect("sealift runs"))
    };
    let twice = engine(2);
    run("a", &twice).expect(0);
    assert_eq!((twice.refused(), first.state().as_str()), (2, "running"));
    let never = engine(u32::MAX);
    let ended = run("b", &never).expect(3);
    assert!(ended.stderr.contains(&format!("container {} does not run again", first.0)), "{}", ended.stderr);
    ended.hint(&format!("docker start {}", first.0));
    assert_eq!([&first, &second].map(Running::state), ["exited", "running"]);
    assert_eq!(content(&lab, "b"), "x\n");
    // The note stays, and the next run puts it right.
    assert_eq!(markers(&first), 1);
    let other = Running::on(&node);
    let mut command = backup(&lab, "c", &["--stop", &other.0], "echo x");
    Ended::from(command.env("DOCKER_HOST", node.host()).output().expect("sealift runs")).expect(0);
    assert_eq!((first.state().as_str(), markers(&first)), ("running", 0));
}

#[test]
fn a_service_comes_back_with_its_replicas() {
    needs!("docker");
    let lab = Lab::new();
    let node = own_engine();
    node.docker(&["swarm", "init", "--advertise-addr", "127.0.0.1"]);
    let service = |name: &str, more: &[&str]| {
        let words =
            ["service", "create", "-q", "-d", "--name", name, "--network", "host", "--no-resolve-image"];
        node.docker(&[&words[..], more, &["--stop-signal", "KILL", "bb:1", "sleep", "86400"]].concat());
    };
    service(
        "web",
        &["--replicas", "3", "--label", "docker-volume-backup.stop-during-backup=true", "--env", "A=b"],
    );
    service("all", &["--mode", "global"]);
    let spec = || node.docker(&["service", "inspect", "-f", "{{json .Spec}}", "web"]);
    let tasks =
        || node.docker(&["ps", "-q", "--filter", "label=com.docker.swarm.service.name=web"]).lines().count();
    until("three run", || tasks() == 3);
    let before = spec();
    let count = "/usr/bin/docker ps -q --filter label=com.docker.swarm.service.name=web | wc -l";
    let run = |job: &str, more: &[&str], script: &str| {
        let mut command = backup(&lab, job, more, script);
        Ended::from(command.env("DOCKER_HOST", node.host()).output().expect("sealift runs"))
    };
    run("a", &["--quiesce"], count).expect(0);
    assert_eq!((content(&lab, "a").trim(), spec() == before), ("0", true), "{before} {}", spec());
    until("three run again", || tasks() == 3);
    run("a", &["--scale-down", "all"], count).expect_error(2, "cannot be scaled");

    let mut command = backup(&lab, "b", &["--scale-down", "web"], &waiting(&lab, "b", &[]));
    let child = command.env("DOCKER_HOST", node.host()).spawn().expect("sealift starts");
    until("it reads", || lab.path("began-b").exists());
    assert_eq!(tasks(), 0);
    signal(child, "KILL").expect(137);
    run("c", &["--scale-down", "web"], count).expect(0);
    assert_eq!((content(&lab, "c").trim(), spec() == before), ("0", true), "{before} {}", spec());
    until("three run again", || tasks() == 3);
}

#[test]
fn what_labels_name_is_backed_up_and_what_nobody_names_is_told() {
    needs!("docker", "databases");
    let lab = Lab::new();
    let node = own_engine();
    node.load(&["redis:1"]);
    let store = lab.file_store();
    let sealift =
        |words: &[&str]| Ended::from(node.sealift(&lab).args(words).output().expect("sealift runs"));
    let discover = ["backup", "discover", "--to", &store];
    sealift(&discover).expect_error(1, "nothing at this engine is labelled").hint("sealift.backup=true");
    let on = "sealift.backup=true";
    node.docker(&["volume", "create", "--label", on, "--label", "sealift.exclude=cache", "Wiki"]);
    node.docker(&["volume", "create", "forgotten"]);
    let detached = ["run", "-d", "--network", "none", "--stop-signal", "KILL"];
    let stop = ["--label", "sealift.stop-during-backup=true"];
    let uses = ["--name", "wiki", "-v", "Wiki:/w", "bb:1", "sleep", "86400"];
    node.docker(&[&detached[..], &stop, &uses].concat());
    let other = ["--name", "other", "bb:1", "sleep", "86400"];
    node.docker(&[&detached[..], &stop, &other].concat());
    node.docker(&["exec", "wiki", "sh", "-c", "mkdir /w/cache; echo x > /w/cache/y; echo page > /w/page"]);
    let labels = ["--label", "sealift.exec=echo dumped", "--label", "sealift.job=team/app"];
    node.docker(&[&detached[..], &labels, &["--name", "app", "bb:1", "sleep", "86400"]].concat());
    node.docker(
        &[&detached[..], &["--label", "sealift.backup=database", "--name", "cache", "redis:1"]].concat(),
    );

    let planned = sealift(&["plan", "discover", "--to", &store]).expect(0);
    for line in ["wiki: volume Wiki", "meanwhile: stop wiki", "team/app: exec app", "cache: "] {
        assert!(planned.text().contains(line), "{line}: {}", planned.text());
    }
    assert!(!planned.text().contains("stop other") && lab.list(&store).is_empty());

    let ended = sealift(&discover).expect(0);
    assert!(ended.stderr.contains("no label covers these volumes: "), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("forgotten") && ended.stderr.contains("stopped wiki, for"),
        "{}",
        ended.stderr
    );
    let mut jobs: Vec<_> = lab.list(&store).into_iter().map(|(job, _)| job).collect();
    jobs.sort();
    assert_eq!(jobs, ["cache", "team/app", "wiki"]);
    assert_eq!(content(&lab, "team/app"), "dumped\n");
    let members = lab.run(&["ls", "wiki", "--from", &store]).expect(0).text();
    assert!(members.contains("Wiki/_data/page") && !members.contains("cache"), "{members}");

    // A new one is there the same night, and what fails keeps nobody else from it; a job of the settings says the same.
    node.docker(&["volume", "create", "--label", on, "new"]);
    node.docker(&["stop", "cache"]);
    let settings = format!("to = \"{store}\"\n[jobs.night]\nsource = \"discover\"\nrequire_all = true\n");
    lab.write("sealift.toml", settings.as_bytes());
    sealift(&["backup", "job", "night"]).expect_error(1, "container cache is not running");
    assert_eq!(lab.list(&store).iter().filter(|(job, _)| job == "new" || job == "wiki").count(), 3);
    node.docker(&["start", "cache"]);
    sealift(&["backup", "job", "night"]).expect(3);
    assert_eq!(node.docker(&["inspect", "-f", "{{.State.Status}}", "wiki", "other"]), "running\nrunning");
}
