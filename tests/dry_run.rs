//! A dry run tells what the run would do, and leaves no trace.

use serde_json::Value;

use crate::support::nights::settle;
use crate::support::{Ended, JOB, Lab, a_second_later, sh};

/// A lab with a folder to back up, and the words that do so.
fn lab() -> (Lab, Vec<String>) {
    let lab = Lab::new();
    for (name, bytes) in [("data/a/one", 1000), ("data/a/two", 2000), ("data/b/three", 3000)] {
        let folder = lab.path(name);
        std::fs::create_dir_all(folder.parent().expect("a folder")).expect("made");
        lab.write(name, &vec![7; bytes]);
    }
    let data = lab.path("data").display().to_string();
    let words = ["backup", "path", &data, "--job", JOB, "--to", &lab.file_store(), "--incremental"];
    let words = words.map(String::from).to_vec();
    (lab, words)
}

fn with<'a>(words: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    words.iter().map(String::as_str).chain(more.iter().copied()).collect()
}

/// The one event of this name.
fn event(text: &str, name: &str) -> Value {
    let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut found: Vec<_> = events.filter(|event| event["event"] == name).collect();
    assert_eq!(found.len(), 1, "{name} in {text}");
    found.remove(0)
}

/// All that lies below a folder of the lab, with its times.
fn all(lab: &Lab, folder: &str) -> String {
    sh(&format!("cd {} && find {folder} -printf '%p %s %T@ %C@\n' | sort", lab.dir.display()))
}

#[test]
fn a_dry_backup_tells_what_it_would_build_on_and_writes_nothing() {
    let (lab, words) = lab();
    let empty = all(&lab, "store");
    let first = lab.run(&with(&words, &["-n"])).expect(0);
    assert!(first.stderr.contains("; all of it, as the first archive → "), "{}", first.stderr);
    assert!(first.stderr.contains(&format!("would back up {JOB}: ")), "{}", first.stderr);
    assert_eq!(all(&lab, "store"), empty);

    lab.run(&with(&words, &[])).expect(0);
    a_second_later();
    let before = all(&lab, "store");
    let next = event(&lab.run(&with(&words, &["--dry-run", "--json"])).expect(0).text(), "planned_backup");
    let (_, id) = lab.list(&lab.file_store()).remove(0);
    assert!(next["base"] == next["last"] && next["base"].as_str().expect("a base").contains(&id), "{next}");
    let bytes = next["bytes"].as_u64().expect("bytes");
    assert!((6000..60_000).contains(&bytes), "{next}");
    let full = lab.run(&with(&words, &["-n", "--full", "--json"])).expect(0).text();
    assert_eq!(event(&full, "planned_backup")["base"], Value::Null);
    assert!(full.contains("--full asks for it"), "{full}");
    assert_eq!(all(&lab, "store"), before);

    let away = format!("file://{}", lab.path("away").display());
    lab.run(&["backup", "path", "data", "--job", JOB, "--to", &away, "-n"]).expect(1);
    lab.run(&with(&words, &["-n", "--make-store"])).expect(2);
    assert!(!lab.path("away").exists());
}

#[test]
fn a_dry_restore_tells_what_the_restore_then_tells() {
    let (lab, words) = lab();
    lab.run(&with(&words, &[])).expect(0);
    let (store, target) = (lab.file_store(), lab.path("out").display().to_string());
    let restore = |more: &[&str]| {
        let words = ["restore", JOB, "--from", &store, "--to-path", &target, "--json"];
        lab.run(&[&words, more].concat())
    };
    for (more, members) in
        [(&["--include", "*/a/*"][..], None), (&["--exclude", "*/b"], None), (&[], Some(6))]
    {
        let planned = event(&restore(&[more, &["-n"]].concat()).expect(0).stderr, "planned_restore");
        assert_eq!(planned["target_is"], "missing");
        assert!(!lab.path("out").exists());
        let restored = event(&restore(more).expect(0).stderr, "restored");
        for field in ["archive", "target", "bytes", "members"] {
            assert_eq!(planned[field], restored[field], "{field}: {planned}, {restored}");
        }
        assert!(members.is_none_or(|members| planned["members"].as_u64() >= Some(members)), "{planned}");
        std::fs::remove_dir_all(lab.path("out")).expect("removed");
    }
    restore(&["--include", "nothing-such", "-n"]).expect_error(10, "no member matches");
    let stdout = lab.run(&["restore", JOB, "--from", &store, "--to-stdout", "-n"]).expect(0);
    assert!(stdout.stdout.is_empty() && stdout.stderr.contains(" → stdout"), "{}", stdout.stderr);
}

#[test]
fn a_dry_restore_is_refused_where_the_restore_would_be() {
    let (lab, words) = lab();
    lab.run(&with(&words, &[])).expect(0);
    let store = lab.file_store();
    let restore = |target: &str, more: &[&str]| {
        let target = lab.path(target).display().to_string();
        lab.run(&[&["restore", JOB, "-n", "--from", &store, "--to-path", &target], more].concat())
    };
    let before = all(&lab, "data");
    let filled = restore("data", &[]).expect_error(1, "is not empty").hint("--overwrite");
    assert!(filled.stderr.contains("which is not empty"), "{}", filled.stderr);
    restore("data", &["--overwrite"]).expect(0);
    assert_eq!(all(&lab, "data"), before);
    restore("not/there", &[]).expect_error(1, "cannot make folder");
    restore("out", &["--sequential"]).expect(2);
}

#[test]
fn a_dry_copy_tells_each_archive_and_copies_none() {
    let (lab, words) = lab();
    settle();
    lab.run(&with(&words, &[])).expect(0);
    a_second_later();
    lab.write("data/a/four", b"new");
    lab.run(&with(&words, &[])).expect(0);
    let (from, to) = (lab.file_store(), lab.new_store("there"));
    let copy = |more: &[&str]| lab.run(&[&["copy", JOB, "--from", &from, "--to", &to], more].concat());
    let empty = all(&lab, "there");
    let told = copy(&["-n"]).expect(0).stderr;
    assert_eq!(told.matches(&format!("would copy {JOB}@")).count(), 2, "{told}");
    assert_eq!(all(&lab, "there"), empty);
    copy(&[]).expect(0);
    let (there, told) = (all(&lab, "there"), copy(&["--dry-run"]).expect(0).stderr);
    assert_eq!(told.matches("already").count(), 2, "{told}");
    assert_eq!(all(&lab, "there"), there);
}

#[test]
fn a_settings_file_makes_no_run_a_dry_one() {
    let lab = Lab::new();
    lab.write("sealift.toml", b"dry_run = true\n");
    let file = lab.path("sealift.toml").display().to_string();
    lab.run(&["list", "--from", &lab.file_store(), "--config", &file])
        .expect_error(2, "dry_run cannot stand in a settings file")
        .hint("--dry-run");
}

#[test]
fn a_dry_set_is_its_plan_and_asks_no_engine_where_no_job_needs_one() {
    let (lab, words) = lab();
    let settings = format!(
        "to = \"{}\"\npassphrase_file = \"passphrase\"\n[jobs.data]\nsource = \"path\"\ndirs = [{:?}]\n\
         [sets.night]\njobs = [\"data\"]\n",
        lab.file_store(),
        words[2]
    );
    lab.write("sealift.toml", settings.as_bytes());
    let before = all(&lab, "store");
    let set = |more: &[&str]| {
        let mut command = lab.sealift();
        command.env("DOCKER_HOST", "unix:///nothing/there.sock").args(["backup", "set", "night"]).args(more);
        Ended::from(command.output().expect("sealift runs"))
    };
    let plan = set(&["-n"]).expect(0).text();
    assert!(plan.contains("Nothing was backed up.") && plan.contains("+ data: "), "{plan}");
    let planned = event(&set(&["--dry-run", "--json"]).expect(0).text(), "planned");
    assert!(planned["archives"][0]["bytes"].as_u64() >= Some(6000), "{planned}");
    assert_eq!(all(&lab, "store"), before);
}
