//! `list`: every archive that has a manifest, and nothing else.

use std::process::{Child, Stdio};

use crate::support::fake_s3::{FakeS3, Fault};
use crate::support::{Ended, Lab, a_second_later, feed, watch};

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
    assert_eq!(bytes(&["b"]), [Some(3), Some(12)]);
    assert_eq!(bytes(&["b", "a/c"]), [Some(3), Some(12), Some(5)]);
    assert_eq!(bytes(&["--job", "b"]), [Some(3), Some(12)]);
    // A job is named in full.
    lab.run(&["list", "a", "--from", &store])
        .expect_error(10, "there is no archive of job a at ")
        .hint("known are: a/c, b");
    lab.run(&["list", "a/d", "--from", &store]).expect_error(10, "no archive of job a/d").hint("mean a/c?");

    let table = lab.run(&["list", "--from", &store]).expect(0).text();
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("JOB") && lines.len() == 5, "{table}");
    assert!(lines[1].starts_with("a/c") && lines[3].contains("   12B  "), "{table}");
    assert!(lines[4].starts_with("3 archives of 2 jobs, "), "{table}");
    let long = lab.run(&["list", "b", "--long", "--from", &store]).expect(0).text();
    assert!(long.lines().nth(2).is_some_and(|line| line.contains("  12 B   full  ")), "{long}");

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
    let said = lab.run(&["list", "--from", &store]).expect(0).text();
    assert!(said.contains("\nobjects of 1 run without a manifest: "), "{said}");
    let object = lab.path("store/a/c").read_dir().expect("a folder").filter_map(Result::ok);
    let data = object.map(|entry| entry.path()).find(|path| {
        path.to_string_lossy().contains("Z-")
            && !path.to_string_lossy().contains("catalog")
            && !path.to_string_lossy().contains("manifest")
    });
    std::fs::remove_file(data.expect("an archive")).expect("an archive");
    let said = lab.run(&["list", "a/c", "--from", &store]).expect(0).text();
    assert!(said.contains("  archive missing\n") && said.contains("; 1 not whole\n"), "{said}");
}

#[test]
fn what_else_lies_in_a_bucket_costs_no_memory() {
    let (lab, server) = (Lab::new(), FakeS3::start(Fault::None));
    let command = |words: &[&str]| {
        let mut command = lab.sealift();
        command.env("AWS_ENDPOINT_URL", &server.endpoint).args(words);
        command
    };
    let words = ["backup", "stdin", "--job", "ee/db", "--to", "s3://b"];
    feed(&mut command(&words), b"a dump").expect(0);
    // The most memory in MiB, and what was said.
    let list = |words: &[&str]| {
        let mut command = command(&[&["list", "--verbose", "--from", "s3://b"], words].concat());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child: Child = command.spawn().expect("sealift runs");
        let most = watch(&mut child);
        let ended = Ended::from(child.wait_with_output().expect("sealift ends")).expect(0);
        assert!(ended.text().contains("ee/db"), "{words:?}: {}", ended.text());
        (most, ended.stderr)
    };
    let (alone, _) = list(&[]);
    for n in 0..200_000 {
        server.plant(&format!("/b/photos/2026/holiday/day-{}/raw-picture-{n}.jpg", n % 30));
        // And in the job's own folder.
        server.plant(&format!("/b/ee/db/thumbnails-of-the-holiday-{n}.jpg"));
    }
    for (words, foreign) in [(&[][..], 400_000), (&["--job", "ee/db"], 200_000)] {
        let (most, said) = list(words);
        assert!(
            said.contains(&format!("{foreign} objects at s3://b are not sealift's")),
            "{words:?}: {said}"
        );
        assert!(most < alone + 16, "{words:?}: {most} MiB, and {alone} MiB without them");
    }
}
