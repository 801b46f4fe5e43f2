//! Volumes of an engine that remaps users: whoever owns a file in its containers owns it in those of another engine.

use std::process::Command;

use crate::needs;
use crate::support::bridge::Bridge;
use crate::support::{Ended, JOB, Lab, docker, sh, unique};

/// An engine with `userns-remap`, which goes away with the test. The host's files have other ranges, so it sees its own.
struct Remapped {
    dir: String,
}

impl Remapped {
    /// What is 0 in its containers is `first` here.
    #[track_caller]
    fn start(first: u32) -> Self {
        // Short, for the sockets below it; where tests/run stops it even if this test dies.
        let base = std::env::var("SEALIFT_TEST_DIR").expect("run the tests by tests/run");
        let engine = Remapped { dir: format!("{base}/{}", unique("un")) };
        let (dir, ranges) = (&engine.dir, format!("{}.ranges", engine.dir));
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/dockerd");
        // The engine looks for ranges of the user's, and for ones of the group's.
        sh(&format!(
            "printf 'nobody:{first}:65536\\nnogroup:{first}:65536\\n' >{ranges}
            unshare --mount --propagation private sh -ec '
                mount --bind {ranges} /etc/subuid; mount --bind {ranges} /etc/subgid
                exec {script} up {dir} --userns-remap=nobody:nogroup'"
        ));
        engine
    }

    fn host(&self) -> String {
        format!("unix://{}/sock", self.dir)
    }

    #[track_caller]
    fn docker(&self, words: &[&str]) -> String {
        let output = Command::new("/usr/bin/docker").env("DOCKER_HOST", self.host()).args(words).output();
        Ended::from(output.expect("docker runs")).expect(0).text().trim().to_string()
    }

    /// The folder of a volume, which is made.
    #[track_caller]
    fn volume(&self, name: &str) -> String {
        self.docker(&["volume", "create", name]);
        self.docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", name])
    }
}

impl Drop for Remapped {
    fn drop(&mut self) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/dockerd");
        let _ = Command::new(script).args(["down", &self.dir]).output();
        let _ = std::fs::remove_file(format!("{}.ranges", self.dir));
    }
}

/// Files as an application with the user 999 leaves them, where a container's ids begin with `first`.
#[track_caller]
fn fill(dir: &str, first: u32) {
    let (user, group, reader) = (first + 999, first + 998, first + 77);
    sh(&format!(
        "cd {dir}; chown {first}:{first} .; mkdir db; echo data >db/f; setfacl -m u:{reader}:r,g:{group}:rw db/f
        chown -R {user}:{group} db; echo own >root; chown {first}:{first} root"
    ));
}

/// Owners, groups and ACLs of all files, by number.
#[track_caller]
fn owners(dir: &str) -> String {
    sh(&format!(
        "cd {dir}; find . -printf '%p %U:%G\\n' | sort; getfacl -n db/f | grep -E '^(user|group):[0-9]'"
    ))
}

/// What [`owners`] says of files that [`fill`] made.
fn expected(first: u32) -> String {
    let (user, group, reader) = (first + 999, first + 998, first + 77);
    format!(
        ". {first}:{first}\n./db {user}:{group}\n./db/f {user}:{group}\n./root {first}:{first}\n\
         user:{reader}:r--\ngroup:{group}:rw-\n"
    )
}

#[track_caller]
fn sealift(lab: &Lab, host: &str, words: &[&str]) -> Ended {
    let output = lab.sealift().env("DOCKER_HOST", host).args(words).output();
    Ended::from(output.expect("sealift runs"))
}

#[test]
fn a_remapped_engines_owners_are_nowhere_300999_but_there() {
    needs!("docker");
    let (lab, store) = (Lab::new(), unique("s"));
    let store = lab.new_store(&store);
    let (here, other) = (Remapped::start(300_000), Remapped::start(500_000));
    fill(&here.volume("db"), 300_000);
    let dir = here.docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", "db"]);
    // What has not changed lies in the older archive, once it is old enough.
    sh("sleep 3");
    let backup = ["backup", "volume", "db", "--job", JOB, "--incremental", "--to", &store];
    sealift(&lab, &here.host(), &backup).expect(0);
    sh(&format!("echo changed >{dir}/root"));
    sealift(&lab, &here.host(), &backup).expect(0);
    let shown = lab.run(&["show", JOB, "--from", &store]).expect(0).text();
    assert!(shown.contains("from 300000 on") && shown.contains("\nneeds "), "{shown}");

    // Into an engine that remaps nothing, to another that remaps elsewhere, and back.
    let plain = unique("un");
    lab.run(&["restore", JOB, "--to-volume", &plain, "--from", &store]).expect(0);
    let plain_dir = docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", &plain]);
    assert_eq!(owners(&plain_dir), expected(0));
    for (engine, first) in [(&other, 500_000), (&here, 300_000)] {
        let dir = engine.volume("back");
        let restored =
            sealift(&lab, &engine.host(), &["restore", JOB, "--to-volume", "back", "--from", &store]);
        restored.expect(0);
        assert_eq!(owners(&dir), expected(first));
    }

    // An archive of one that remaps nothing comes into one that does.
    let unmapped = lab.new_store("unmapped");
    lab.run(&["backup", "volume", &plain, "--job", JOB, "--to", &unmapped]).expect(0);
    let dir = here.volume("new");
    sealift(&lab, &here.host(), &["restore", JOB, "--to-volume", "new", "--from", &unmapped]).expect(0);
    assert_eq!(owners(&dir), expected(300_000));

    // No engine takes what goes into a folder: it is as it was stored, and that is said.
    let folder = lab.run(&["restore", JOB, "--to-path", "out", "--from", &store]).expect(0);
    assert!(folder.stderr.contains("what is 0 in its containers is user 300000"), "{}", folder.stderr);
    assert_eq!(owners(&lab.path("out/db/_data").display().to_string()), expected(300_000));
    docker(&["volume", "rm", &plain]);
}

#[test]
fn what_the_archive_api_hands_out_it_takes_back() {
    needs!("docker");
    let (lab, engine) = (Lab::new(), Remapped::start(300_000));
    let store = lab.file_store();
    let dir = engine.volume("db");
    fill(&dir, 300_000);
    let bridge = Bridge::to(&engine.host());
    sealift(&lab, &bridge.engine(), &["backup", "volume", "db", "--job", JOB, "--to", &store]).expect(0);
    let back = engine.volume("back");
    sealift(&lab, &bridge.engine(), &["restore", JOB, "--to-volume", "back", "--from", &store]).expect(0);
    let files = |dir: &str| sh(&format!("cd {dir}; find . -printf '%p %U:%G\\n' | sort"));
    assert_eq!(files(&back), files(&dir));
}

#[test]
fn an_owner_that_no_container_has_is_told_and_is_nobodys() {
    needs!("docker");
    let (lab, engine) = (Lab::new(), Remapped::start(300_000));
    let store = lab.file_store();
    let dir = engine.volume("db");
    fill(&dir, 300_000);
    sh(&format!("echo host >{dir}/host; chown 5:6 {dir}/host"));
    sealift(&lab, &engine.host(), &["backup", "volume", "db", "--job", JOB, "--to", &store]).expect(0);
    let plain = unique("un");
    let told = lab.run(&["restore", JOB, "--to-volume", &plain, "--from", &store]).expect(3);
    assert!(
        told.stderr.contains("1 members have an owner") && told.stderr.contains("host"),
        "{}",
        told.stderr
    );
    let there = docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", &plain]);
    assert_eq!(sh(&format!("stat -c %u:%g {there}/host {there}/db/f")), "5:6\n999:998\n");
    // Without a catalog nothing is known of the archive's owners.
    let blind = ["restore", JOB, "--sequential", "--to-volume", "blind", "--from", &store];
    let told = sealift(&lab, &engine.host(), &blind).expect(3);
    assert!(told.stderr.contains("nothing says whether the archive's owners"), "{}", told.stderr);
    docker(&["volume", "rm", &plain]);
}
