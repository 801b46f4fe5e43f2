//! Several volumes in one archive: one comes back, under its own name or another, or all do.

use crate::needs;
use crate::restore::{full_volume, listing};
use crate::support::bridge::Bridge;
use crate::support::{Ended, JOB, Lab, docker, sh, unique};

/// Volumes whose names begin alike, and one of them is a pattern's match of another.
struct Volumes {
    names: [String; 3],
    listings: Vec<String>,
}

impl Volumes {
    fn backed_up(lab: &Lab, store: &str) -> Volumes {
        let name = unique("vol");
        let names = [format!("{name}.a_1"), format!("{name}.a_1-x"), format!("{name}-a_1")];
        full_volume(&names[0], 20, 5_000_000);
        full_volume(&names[1], 3, 5_000_000);
        docker(&["volume", "create", &names[2]]);
        let dirs: Vec<_> = names.iter().map(|name| folder(name)).collect();
        // One that is as good as empty, and a folder called as those that volumes lie in.
        sh(&format!("cd {}; mkdir -p {}/_data; echo x > {}/_data/f", dirs[2], names[0], names[0]));
        let listings = dirs.iter().map(|dir| listing(dir)).collect();
        let words = ["backup", "volume", &names[0], &names[1], &names[2], "--job", JOB, "--to", store];
        lab.run(&words).expect(0);
        Volumes { names, listings }
    }

    /// Destroys them.
    fn remove(&self) {
        self.names.iter().for_each(|name| drop(docker(&["volume", "rm", "-f", name])));
    }

    fn are_back(&self) {
        for (name, before) in self.names.iter().zip(&self.listings) {
            assert!(listing(&folder(name)) == *before, "{name} differs");
        }
    }
}

impl Drop for Volumes {
    fn drop(&mut self) {
        self.remove();
    }
}

fn folder(volume: &str) -> String {
    docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", volume])
}

fn is_there(volume: &str) -> bool {
    docker(&["volume", "ls", "-q"]).lines().any(|name| name == volume)
}

fn restore(lab: &Lab, store: &str, more: &[&str]) -> Ended {
    lab.run(&[&["restore", JOB, "--from", store], more].concat())
}

#[test]
fn one_of_several_comes_back_under_its_own_name_or_another() {
    needs!("docker");
    let (lab, new) = (Lab::new(), unique("new"));
    let store = lab.file_store();
    let volumes = Volumes::backed_up(&lab, &store);
    let [first, second, third] = &volumes.names;
    volumes.remove();
    restore(&lab, &store, &["--to-volume", second]).expect(0);
    assert!(listing(&folder(second)) == volumes.listings[1], "{second} differs");
    assert!(!is_there(first) && !is_there(third), "another volume was made");

    restore(&lab, &store, &["--to-volume", &new, "--from-volume", first]).expect(0);
    assert!(listing(&folder(&new)) == volumes.listings[0], "{new} differs");
    let again = restore(&lab, &store, &["--to-volume", &new, "--from-volume", third]);
    again.expect_error(1, "is not empty").hint("--overwrite");
    docker(&["volume", "rm", &new]);

    // Some members of one; the names are those that `ls` shows.
    let some = ["--to-volume", &new, "--from-volume", first, "--include", "*/_data/small/a/[12]"];
    restore(&lab, &store, &some).expect(0);
    let files = sh(&format!("cd {}; find . -type f | sort", folder(&new)));
    assert_eq!(files, "./small/a/1\n./small/a/2\n");
    docker(&["volume", "rm", &new]);
    let other = format!("{second}/_data/small");
    let none = restore(&lab, &store, &["--to-volume", first, "--include", &other]);
    none.expect_error(10, "no member matches");
    assert!(!is_there(first), "a volume was made for nothing");
}

#[test]
fn which_of_several_is_meant_must_be_said() {
    needs!("docker");
    let (lab, new) = (Lab::new(), unique("new"));
    let store = lab.file_store();
    let volumes = Volumes::backed_up(&lab, &store);
    let [first, second, third] = &volumes.names;
    let asked = restore(&lab, &store, &["--to-volume", &new]);
    let asked = asked.expect_error(2, &format!("holds the volumes {first}, {second}, {third}"));
    let asked = asked.hint(&format!("--to-volume {new} --from-volume {first}"));
    asked.hint("--to-volumes");
    let unknown = restore(&lab, &store, &["--to-volume", &new, "--from-volume", "other"]);
    unknown.expect_error(2, "holds no volume other").hint(third);
    assert!(!is_there(&new));
    sh(&format!("mkdir {}; echo x > {}/f", lab.path("some").display(), lab.path("some").display()));
    lab.run(&["backup", "path", "some", "--job", "path", "--to", &store]).expect(0);
    let path = ["restore", "path", "--to-volumes", "--from", &store];
    lab.run(&path).expect_error(2, "no archive of a volume").hint("--to-path");
}

#[test]
fn all_of_them_come_back_or_none_is_begun() {
    needs!("docker");
    let lab = Lab::new();
    let store = lab.file_store();
    let volumes = Volumes::backed_up(&lab, &store);
    volumes.remove();
    // The last one has something in it.
    docker(&["volume", "create", &volumes.names[2]]);
    sh(&format!("echo x > {}/own", folder(&volumes.names[2])));
    let refused = restore(&lab, &store, &["--to-volumes"]);
    refused.expect_error(1, &format!("volume {} is not empty", volumes.names[2])).hint("--overwrite");
    assert!(!is_there(&volumes.names[0]) && !is_there(&volumes.names[1]), "one was begun");

    let ended = restore(&lab, &store, &["--to-volumes", "--overwrite"]).expect(0);
    let told = ended.stderr.lines().filter(|line| line.starts_with("restored ")).count();
    assert_eq!(told, 3, "{}", ended.stderr);
    assert_eq!(sh(&format!("cat {}/own", folder(&volumes.names[2]))), "x\n");
    sh(&format!("rm {}/own", folder(&volumes.names[2])));
    assert!(listing(&folder(&volumes.names[0])) == volumes.listings[0]);
    volumes.remove();
    restore(&lab, &store, &["--to-volumes"]).expect(0);
    volumes.are_back();
}

#[test]
fn what_came_back_before_a_failure_is_told() {
    needs!("docker");
    let lab = Lab::new();
    let store = lab.file_store();
    let volumes = Volumes::backed_up(&lab, &store);
    let [first, second, third] = &volumes.names;
    volumes.remove();
    let archive = sh(&format!("ls {}/{JOB}/*.tar.zst.gpg", lab.path("store").display()));
    let mut bytes = std::fs::read(archive.trim()).expect("the archive");
    let at = bytes.len() * 9 / 10;
    bytes[at] ^= 1;
    std::fs::write(archive.trim(), bytes).expect("a damaged archive");
    let ended = restore(&lab, &store, &["--to-volumes"]).expect(13);
    let ended = ended.hint(&format!("restored: {first}; volume {second} is not complete"));
    ended.hint(&format!("not begun: {third}"));
    assert!(listing(&folder(first)) == volumes.listings[0], "{first} differs");
    assert!(!is_there(third), "it went on");
}

#[test]
fn an_engine_that_is_somewhere_else_gets_its_volumes_too() {
    needs!("docker");
    let (lab, new) = (Lab::new(), unique("new"));
    let store = lab.file_store();
    let volumes = Volumes::backed_up(&lab, &store);
    let contents = |volume: &str| {
        sh(&format!("cd {}; find . -type f -links 1 ! -name sparse | sort | xargs sha256sum", folder(volume)))
    };
    let before: Vec<_> = volumes.names.iter().map(|name| contents(name)).collect();
    volumes.remove();
    let bridge = Bridge::to_engine();
    let restore = |more: &[&str]| {
        let mut command = lab.sealift();
        command.env("DOCKER_HOST", bridge.engine()).args(["restore", JOB, "--from", &store]).args(more);
        Ended::from(command.output().expect("sealift runs"))
    };
    restore(&["--to-volumes"]).expect(0);
    restore(&["--to-volume", &new, "--from-volume", &volumes.names[1]]).expect(0);
    let after: Vec<_> = volumes.names.iter().map(|name| contents(name)).collect();
    assert_eq!(after, before);
    assert_eq!(contents(&new), before[1]);
    restore(&["--to-volumes"]).expect_error(1, "is not empty");
    docker(&["volume", "rm", &new]);
}
