//! `list`: every archive that has a manifest, and nothing else.

use crate::support::{Lab, a_second_later};

#[test]
fn archives_are_listed_by_job_and_age_and_a_damaged_manifest_is_named() {
    let lab = Lab::new();
    let store = lab.file_store();
    let backup = |job: &str, input: &[u8]| {
        lab.feed(&["backup", "stdin", "--job", job, "--to", &store], input).expect(0);
    };
    backup("b", b"one");
    backup("a/c", b"three");
    a_second_later();
    backup("b", b"eleven bytes");
    let listed = |words: &[&str]| {
        let lines = lab.run(&[&["list", "--json", "--from", &store], words].concat()).expect(0).text();
        let json = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON lines");
        lines.lines().map(json).collect::<Vec<_>>()
    };
    let bytes = |words: &[&str]| listed(words).iter().map(|line| line["bytes"].as_u64()).collect::<Vec<_>>();
    assert_eq!(bytes(&[]), [Some(5), Some(3), Some(12)], "jobs by name, the oldest archive first");
    assert_eq!(bytes(&["--job", "b"]), [Some(3), Some(12)]);
    assert_eq!(bytes(&["--job", "a"]), [], "a job is named in full");

    let table = lab.run(&["list", "--from", &store]).expect(0).text();
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("JOB") && lines.len() == 4, "{table}");
    assert!(lines[1].starts_with("a/c") && lines[3].contains("12 B"), "{table}");

    // Without a manifest there is no archive; with one that is not what was written, there is a damaged one.
    let id = listed(&["--job", "b"])[1]["id"].as_str().expect("an id").to_string();
    let manifest = lab.path("store/b").join(format!("{id}.manifest.json"));
    let good = std::fs::read_to_string(&manifest).expect("a manifest");
    std::fs::write(&manifest, good.replace("\"bytes\":12", "\"bytes\":13")).expect("a manifest");
    let line = &listed(&["--job", "b"])[1];
    assert_eq!((line["id"].as_str(), line["bytes"].as_u64()), (Some(id.as_str()), None));
    assert!(line["damaged"].as_str().expect("why").contains("damaged"), "{line}");
    std::fs::remove_file(&manifest).expect("a manifest");
    assert_eq!(bytes(&["--job", "b"]), [Some(3)]);
}
