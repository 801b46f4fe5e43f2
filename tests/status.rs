//! `status`: what is wrong with a job is told in words and by the exit code, and nothing else is needed than a look.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::nights::settle;
use crate::support::{Ended, Lab, a_second_later, noise};

/// A lab with the jobs `db` and `host` in its settings, both made once.
fn lab() -> Lab {
    let lab = Lab::new();
    std::fs::create_dir(lab.path("data")).expect("a folder");
    lab.write("data/file", &noise(1, 100_000));
    settings(&lab, "");
    run(&lab, "backup job host").expect(0);
    lab.feed(&["backup", "job", "db"], b"a dump of some length").expect(0);
    lab
}

/// Writes the settings, with `more` in the table of `db`.
fn settings(lab: &Lab, more: &str) {
    let store = lab.file_store();
    let text = format!(
        "to = \"near\"\n[stores.near]\nurl = \"{store}\"\n[jobs.db]\nsource = \"stdin\"\n{more}\n\
         [jobs.host]\nsource = \"path\"\ndirs = [\"data\"]\nincremental = true\nkeep = {{ daily = 7 }}\n"
    );
    lab.write("sealift.toml", text.as_bytes());
}

/// Runs it without what would open an archive.
#[track_caller]
fn run(lab: &Lab, line: &str) -> Ended {
    let mut command = lab.sealift();
    if line.starts_with("status") {
        command.env_remove("SEALIFT_PASSPHRASE_FILE");
    }
    Ended::from(command.args(line.split_whitespace()).output().expect("sealift runs"))
}

/// The line below the table that tells of a problem.
#[track_caller]
fn told(ended: &Ended) -> String {
    let text = ended.text();
    assert!(text.lines().all(|line| !line.starts_with("JOB") || line.chars().count() <= 80), "{text}");
    text.lines().last().unwrap_or_default().to_string()
}

fn json_of(lab: &Lab, line: &str, code: i32) -> Vec<Value> {
    let text = run(lab, &format!("status --json {line}")).expect(code).text();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect()
}

/// The objects of a job, oldest archive first, whose names end so.
fn objects(lab: &Lab, job: &str, suffix: &str) -> Vec<PathBuf> {
    let found = std::fs::read_dir(lab.path("store").join(job)).expect("a job's folder");
    let found = found.map(|entry| entry.expect("an entry").path());
    let mut found: Vec<_> = found.filter(|path| path.to_string_lossy().ends_with(suffix)).collect();
    found.sort();
    found
}

#[test]
fn jobs_that_are_well_are_a_line_each_and_exit_code_0() {
    let lab = lab();
    let text = run(&lab, "status --max-age 26h --verified-within 30d --shrink 50%").expect(0).text();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].starts_with("JOB   STATE  LAST (UTC)   AGE  SIZE"), "{text}");
    assert!(lines[1].starts_with("db    ok     ") && lines[1].contains("   0m   21B      -  -"), "{text}");
    assert!(lines[2].ends_with("daily 7"), "{text}");
    let [db, host] = &json_of(&lab, "", 0)[..] else { panic!("two jobs") };
    assert_eq!((&db["job"], &db["state"], &db["in_settings"]), (&json!("db"), &json!("ok"), &json!(true)));
    assert_eq!((&db["last_success"]["bytes"], &host["keep"]), (&json!(21), &json!("daily 7")));
    // A store that is named is looked at as it is, with the jobs that it has.
    let text = run(&lab, &format!("status host --from {}", lab.file_store())).expect(0).text();
    assert_eq!(text.lines().count(), 2, "{text}");
}

#[test]
fn a_job_that_never_ran_is_told_from_one_that_was_not_asked_for() {
    let lab = lab();
    std::fs::remove_dir_all(lab.path("store/db")).expect("the job's folder");
    let ended = run(&lab, "status").expect(1);
    assert_eq!(told(&ended), "never db: there is no archive of it");
    run(&lab, "status host").expect(0);
    let gone = run(&lab, "status hots").expect(1);
    assert_eq!(told(&gone), "never hots: there is no archive of it");
}

#[test]
fn a_job_that_failed_says_when_and_why() {
    let lab = lab();
    let id = "20991122T020000Z-1f2e3d4c";
    let text = record(&format!(
        "{{\"format\":1,\"at\":\"{}\",\"code\":1,\"cause\":\"the container ended with exit code 2\"",
        "2026-11-26T02:00:00Z"
    ));
    lab.write(&format!("store/db/{id}.failed.json"), text.as_bytes());
    let ended = run(&lab, "status db").expect(1);
    let expected = "failed db: the run of 2026-11-26 02:00Z failed with exit code 1: the container ended with exit code 2";
    assert_eq!(told(&ended), expected);
    let line = &json_of(&lab, "db", 1)[0];
    assert_eq!((&line["state"], &line["failed"]["code"]), (&json!("failed"), &json!(1)));
    // A record that was changed still says that there was a run that failed.
    lab.write(&format!("store/db/{id}.failed.json"), b"{}");
    assert!(told(&run(&lab, "status db").expect(1)).contains("its record cannot be read"));
}

/// A small object with its own digest, as the store's records are.
fn record(open: &str) -> String {
    let ended = crate::support::feed(&mut std::process::Command::new("sha256sum"), open.as_bytes()).expect(0);
    let digest = ended.text();
    format!("{open},\"self\":\"{}\"}}\n", digest.split(' ').next().unwrap_or_default())
}

#[test]
fn a_late_job_is_told_with_its_age_and_its_own_limit_wins_over_the_top() {
    let lab = lab();
    let ended = run(&lab, "status --max-age 0s").expect(1);
    let text = ended.text();
    assert!(text.contains("late db: its last archive is 0m old, and --max-age is 0m"), "{text}");
    assert!(text.contains("late host: "), "{text}");
    a_second_later();
    settings(&lab, "max_age = \"1s\"");
    let ended = run(&lab, "status").expect(1);
    assert!(told(&ended).starts_with("late db: ") && !ended.text().contains("late host"), "{}", ended.text());
    run(&lab, "status --max-age 1h").expect(0);
}

#[test]
fn damage_that_verify_found_is_told_without_a_passphrase() {
    let lab = lab();
    let archive = &objects(&lab, "host", ".tar.zst.gpg")[0];
    let mut bytes = std::fs::read(archive).expect("an archive");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(archive, bytes).expect("an archive");
    run(&lab, "status host").expect(0);
    run(&lab, "verify host --whole --from near").expect(13);
    let ended = run(&lab, "status host").expect(1);
    assert!(told(&ended).starts_with("damaged host: ") && told(&ended).contains("was found to be damaged"));
}

#[test]
fn an_object_that_is_gone_or_cut_is_damage_and_the_archive_before_is_the_last_success() {
    let lab = lab();
    a_second_later();
    lab.feed(&["backup", "job", "db"], b"another one").expect(0);
    let mut newest = objects(&lab, "db", ".zst.gpg")
        .into_iter()
        .filter(|path| !path.to_string_lossy().contains("catalog"));
    let newest = newest.next_back().expect("an archive");
    std::fs::write(&newest, b"cut").expect("an archive");
    let line = &json_of(&lab, "db", 1)[0];
    assert_eq!((&line["state"], &line["last_success"]["bytes"]), (&json!("damaged"), &json!(21)));
    assert!(line["problems"][0]["message"].as_str().is_some_and(|text| text.contains("has 3 bytes and not")));
    std::fs::remove_file(&newest).expect("an archive");
    assert!(told(&run(&lab, "status db").expect(1)).ends_with(".zst.gpg is gone"));
}

#[test]
fn a_manifest_that_was_changed_is_damage() {
    let lab = lab();
    let manifest = &objects(&lab, "db", ".manifest.json")[0];
    std::fs::write(manifest, b"{}").expect("a manifest");
    let ended = run(&lab, "status db").expect(1);
    assert!(told(&ended).starts_with("damaged db: ") && told(&ended).ends_with("the manifest is damaged"));
}

#[test]
fn an_increment_whose_need_is_gone_is_damage() {
    let lab = lab();
    // Younger times are not trusted.
    settle();
    run(&lab, "backup job host").expect(0);
    settle();
    run(&lab, "backup job host").expect(0);
    let line = &json_of(&lab, "host", 0)[0];
    assert_eq!(line["archives"], json!(3));
    let listed = run(&lab, "list --json --job host --from near").expect(0).text();
    let newest: Value = serde_json::from_str(listed.lines().last().unwrap_or_default()).expect("JSON lines");
    let needed = newest["needs"][0].as_str().expect("a need");
    std::fs::remove_file(lab.path("store/host").join(format!("{needed}.tar.zst.gpg")))
        .expect("what is needed");
    let text = run(&lab, "status host").expect(1).text();
    assert!(text.contains(&format!(" needs {needed}, which is gone")), "{text}");
}

#[test]
fn an_archive_that_has_shrunk_is_told_with_its_share() {
    let lab = lab();
    a_second_later();
    lab.feed(&["backup", "job", "db"], b"short").expect(0);
    run(&lab, "status").expect(0);
    run(&lab, "status --shrink 90%").expect(0);
    let ended = run(&lab, "status --shrink 50%").expect(1);
    let expected = "shrunk db: its last archive has 5B, 76% less than those before it, and --shrink is 50%";
    assert_eq!(told(&ended), expected);
}

#[test]
fn a_job_that_was_not_verified_is_told_until_it_is() {
    let lab = lab();
    a_second_later();
    let ended = run(&lab, "status db --verified-within 1s").expect(1);
    assert!(told(&ended).starts_with("unverified db: it was never verified in 0m"), "{}", told(&ended));
    run(&lab, "verify db --manifest --from near").expect(0);
    run(&lab, "status db --verified-within 1s").expect(1);
    run(&lab, "verify db --stored --from near").expect(0);
    let text = run(&lab, "status db --verified-within 1h").expect(0).text();
    assert!(text.contains("  stored 0m  "), "{text}");
}

#[test]
fn a_store_that_is_not_there_is_an_error_and_says_nothing_of_another() {
    let lab = lab();
    run(&lab, "status --from file:///no/such/folder").expect_error(1, "there is no folder /no/such/folder");
    let ended = run(&lab, "status --from near --from file:///no/such/folder").expect(1);
    assert!(ended.text().contains("\ndb    ok  ") && ended.stderr.contains("error: "), "{}", ended.stderr);
    std::fs::rename(lab.path("sealift.toml"), lab.path("elsewhere.toml")).expect("the settings");
    run(&lab, "status").expect_error(2, "no store is named").hint("--from STORE");
}

#[test]
fn a_store_that_was_emptied_is_not_well() {
    let lab = Lab::new();
    let ended = run(&lab, &format!("status --from {}", lab.file_store())).expect(1);
    assert!(ended.stderr.contains("there is no job at "), "{}", ended.stderr);
}

#[test]
fn a_job_of_the_settings_that_could_not_run_is_told_beside_the_others() {
    let lab = lab();
    let text = std::fs::read_to_string(lab.path("sealift.toml")).expect("the settings");
    let more = "[jobs.odd]\nsource = \"path\"\ndirs = [\"data\"]\nexclude_from = \"none\"\n";
    lab.write("sealift.toml", format!("{text}{more}").as_bytes());
    let ended = run(&lab, "status").expect(1);
    assert!(ended.stderr.contains("nothing is known of job odd: "), "{}", ended.stderr);
    assert_eq!(ended.text().lines().count(), 3, "{}", ended.text());
    run(&lab, "status db host").expect(0);
}

#[test]
fn in_a_pipe_nothing_is_left_out() {
    let lab = Lab::new();
    let (store, job) = (lab.file_store(), format!("team/{}", "application-".repeat(8)));
    lab.feed(&["backup", "stdin", "--job", &job, "--to", &store], b"x").expect(0);
    let text = run(&lab, &format!("status --max-age 0s --from {store}")).expect(1).text();
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[1].starts_with(&format!("{job}  late")) && !text.contains('…'), "{text}");
    assert!(lines[2].starts_with(&format!("late {job}: ")), "{text}");
}
