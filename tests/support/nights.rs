//! Backups of one source, night after night.

use serde_json::Value;

use super::{Ended, Lab, sh};

/// Longer than a file's times must lie before a backup for the next one to trust them.
pub fn settle() {
    std::thread::sleep(std::time::Duration::from_millis(3_100));
}

/// Changes the folder `s`, which is made where it is missing.
#[track_caller]
pub fn in_source(lab: &Lab, script: &str) {
    sh(&format!("mkdir -p {0}/s && cd {0}/s && {script}", lab.dir.display()));
}

/// The `sealed` event of a backup with `--json`.
#[track_caller]
pub fn sealed(ended: &Ended) -> Value {
    let (stdout, stderr) = (ended.text(), &ended.stderr);
    let mut events =
        stdout.lines().chain(stderr.lines()).filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.find(|event| event["event"] == "sealed").unwrap_or_else(|| panic!("no event: {ended:?}"))
}

/// The id of a `sealed` event.
#[track_caller]
pub fn id(sealed: &Value) -> String {
    sealed["id"].as_str().expect("an id").into()
}

/// Everything of the folder `s` below `dir` that a restore brings back.
#[track_caller]
pub fn listing(lab: &Lab, dir: &str) -> String {
    sh(&format!(
        r"cd {}/{dir}; find s -printf '%p %y %m %n %s %T@ %l\0' | LC_ALL=C sort -z | tr '\n\0' '?\n'; find s -type f -print0 |
          LC_ALL=C sort -z | xargs -0r sha256sum",
        lab.dir.display()
    ))
}

/// Holds a restored folder against the source.
#[track_caller]
pub fn is_the_source(lab: &Lab, dir: &str) {
    let (restored, source) = (listing(lab, dir), listing(lab, "."));
    let differ: Vec<_> = restored.lines().zip(source.lines()).filter(|(a, b)| a != b).collect();
    assert!(restored == source, "{differ:?}");
}
