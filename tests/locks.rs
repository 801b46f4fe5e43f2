//! Object lock: a real bucket that has it, and keys that may not do everything.

use crate::support::nights::{id, in_source, is_the_source, sealed, settle};
use crate::support::s3::{self, LockBucket};
use crate::support::{Ended, Lab, missing, until};

/// What a backup's key needs to do.
const BACKUP: [&str; 7] = [
    "s3:ListBucket",
    "s3:GetObject",
    "s3:PutObject",
    "s3:AbortMultipartUpload",
    "s3:ListMultipartUploadParts",
    "s3:GetBucketObjectLockConfiguration",
    "s3:GetObjectRetention",
];

/// What it need not do.
const DELETE: [&str; 2] = ["s3:DeleteObject", "s3:DeleteObjectVersion"];

fn backup(lab: &Lab, bucket: &LockBucket, lock: &str) -> Ended {
    let mut command = lab.sealift();
    s3::guest(&mut command);
    command.args(["backup", "path", "s", "--job", "j", "--json", "--incremental", "--lock", lock]);
    Ended::from(command.args(["--to", &bucket.url()]).output().expect("sealift runs"))
}

#[test]
fn for_thirty_nights_nothing_that_is_needed_is_free_before_the_newest_that_needs_it() {
    if missing("s3") {
        return;
    }
    let (lab, bucket) = (Lab::new(), LockBucket::new());
    bucket.allow_guest(&[&BACKUP[..], &["s3:PutObjectRetention"]].concat(), &DELETE);
    in_source(&lab, "for i in $(seq 40); do head -c 20000 /dev/urandom > f$i; done");
    settle();
    let mut last = String::new();
    for night in 1..=30 {
        in_source(&lab, &format!("echo {night} > changed; head -c 30000 /dev/urandom > n{night}"));
        let sealed = sealed(&backup(&lab, &bucket, "20m").expect(0));
        if night % 10 > 1 {
            continue;
        }
        let locks = bucket.locks("j");
        let own: Vec<_> = locks.iter().filter(|(name, _)| name.starts_with(&id(&sealed))).collect();
        assert_eq!(own.len(), 3, "{locks:?}");
        let until = own.iter().map(|(_, until)| *until).min().expect("three");
        assert!(!until.is_empty() && **until >= *last, "{locks:?}");
        last = until.clone();
        let needs = sealed["kept"]["needs"].as_array().cloned().unwrap_or_default();
        assert_eq!(needs.is_empty(), night == 1);
        for need in needs.iter().filter_map(|need| need.as_str()) {
            let needed: Vec<_> = locks.iter().filter(|(name, _)| name.starts_with(need)).collect();
            assert_eq!(needed.len(), 3);
            // The last of the night's own objects was locked a moment later.
            let is_late = |end: &str| end >= &until[..until.len().min(16)];
            assert!(needed.iter().all(|(_, end)| is_late(end)), "{night}: {until} {needed:?}");
        }
    }
    let mut restore = lab.sealift();
    s3::guest(&mut restore);
    restore.args(["restore", "j", "--to-path", "out", "--from", &bucket.url()]);
    Ended::from(restore.output().expect("sealift runs")).expect(0);
    is_the_source(&lab, "out");
}

#[test]
fn a_key_that_may_not_lock_says_so_and_the_backup_is_there() {
    if missing("s3") {
        return;
    }
    let (lab, bucket) = (Lab::new(), LockBucket::new());
    bucket.allow_guest(&BACKUP, &["s3:PutObjectRetention"]);
    in_source(&lab, "echo one > f");
    let ended = backup(&lab, &bucket, "20m").expect(3);
    let told = ended.stderr.clone() + &ended.text();
    assert!(told.contains("not everything of it is locked at"), "{told}");
    let locks = bucket.locks("j");
    assert!(locks.len() == 3 && locks.values().all(String::is_empty), "{locks:?}");
}

#[test]
fn where_older_locks_cannot_be_made_longer_what_they_guard_is_read_again_in_time() {
    if missing("s3") {
        return;
    }
    let (lab, bucket) = (Lab::new(), LockBucket::new());
    bucket.allow_guest(&[&BACKUP[..], &["s3:PutObjectRetention"]].concat(), &DELETE);
    in_source(&lab, "head -c 200000 /dev/urandom > f");
    settle();
    let first = sealed(&backup(&lab, &bucket, "30s").expect(0));
    // As where only the bucket's own rule locks: nothing may be made longer.
    bucket.allow_guest(&BACKUP, &["s3:PutObjectRetention"]);
    let ended = backup(&lab, &bucket, "5m");
    let second = sealed(&ended);
    let told = ended.stderr.clone() + &ended.text();
    assert!(told.contains(&format!("j@{} is needed no more: its lock", id(&first))), "{told}");
    assert!(second["kept"].is_null() && second["stored"].as_u64() > Some(200_000), "{second}");
}

#[test]
fn what_is_locked_cannot_be_deleted_before_its_time_and_can_be_then() {
    if missing("s3") {
        return;
    }
    let (lab, bucket) = (Lab::new(), LockBucket::new());
    in_source(&lab, "echo one > f");
    let mut command = lab.sealift();
    command.args(["backup", "path", "s", "--job", "j", "--json", "--lock", "8s", "--to", &bucket.url()]);
    let sealed = sealed(&Ended::from(command.output().expect("sealift runs")).expect(0));
    let name = format!("{}.tar.zst.gpg", id(&sealed));
    assert!(!bucket.deletes_version("j", &name));
    until("the lock is over", || bucket.deletes_version("j", &name));
}

#[test]
fn what_is_locked_is_kept_by_prune_with_its_date_and_goes_when_the_lock_is_over_with_all_versions() {
    if missing("s3") {
        return;
    }
    let (lab, bucket) = (Lab::new(), LockBucket::new());
    let run = |words: &[&str]| {
        let mut command = lab.sealift();
        Ended::from(command.args(words).args(["--from", &bucket.url()]).output().expect("sealift runs"))
    };
    for night in 1..=3 {
        in_source(&lab, &format!("echo {night} > f"));
        let mut command = lab.sealift();
        command.args(["backup", "path", "s", "--job", "j", "--lock", "20s", "--to", &bucket.url()]);
        Ended::from(command.output().expect("sealift runs")).expect(0);
    }
    let versions = bucket.versions();
    let pruned = run(&["prune", "--keep-last", "1", "--versions", "--confirm"]).expect(0);
    assert_eq!(pruned.text().matches("locked until 20").count(), 2, "{}", pruned.text());
    assert_eq!(bucket.versions(), versions, "nothing is deleted, not even hidden");
    let oldest = bucket.names("j").into_iter().next().expect("an archive");
    let id = oldest.split('.').next().expect("an id");
    let one = format!("j@{id}");
    run(&["delete", &one, "--confirm"]).expect_error(1, "locked until");
    until("the lock is over", || {
        let dry = run(&["prune", "--keep-last", "1", "--versions"]).expect(0);
        !dry.text().contains("locked until")
    });
    let dry = run(&["prune", "--keep-last", "1"]).expect(0);
    assert!(dry.stderr.contains("keeps older versions of what is deleted"), "{}", dry.stderr);
    run(&["prune", "--keep-last", "1", "--versions", "--confirm"]).expect(0);
    assert_eq!(bucket.names("j").len(), 3, "one archive is left");
    assert!(!bucket.keys_of_versions().iter().any(|key| key.contains(id)), "and no version of the others");
    run(&["verify", "j", "--whole"]).expect(0);
}

#[test]
fn each_work_needs_no_more_rights_than_the_guide_says() {
    if missing("s3") {
        return;
    }
    const READ: [&str; 2] = ["s3:ListBucket", "s3:GetObject"];
    let (lab, bucket) = (Lab::new(), LockBucket::new());
    let run = |words: &[&str], code| {
        let mut command = lab.sealift();
        s3::guest(&mut command);
        Ended::from(command.args(words).args(["--from", &bucket.url()]).output().expect("sealift runs"))
            .expect(code)
    };
    in_source(&lab, "head -c 100000 /dev/urandom > f");
    for _ in 0..2 {
        let mut command = lab.sealift();
        command.args(["backup", "path", "s", "--job", "j", "--no-lease", "--to", &bucket.url()]);
        Ended::from(command.output().expect("sealift runs")).expect(0);
    }
    bucket.allow_guest(&READ, &DELETE);
    run(&["restore", "j", "--to-path", "out"], 0);
    run(&["verify", "j", "--whole"], 0);
    run(&["list"], 0);
    run(&["status"], 0);
    is_the_source(&lab, "out");
    let refused = run(&["prune", "--keep-last", "1", "--confirm"], 3);
    assert!(
        refused.stderr.contains("0 deleted") && refused.stderr.contains("1 could not be deleted"),
        "{refused:?}"
    );
    assert_eq!(bucket.names("j").len(), 6);
    bucket.allow_guest(
        &[&READ[..], &["s3:PutObject", "s3:DeleteObject"]].concat(),
        &["s3:DeleteObjectVersion"],
    );
    run(&["prune", "--keep-last", "1", "--confirm"], 0);
    assert_eq!(bucket.names("j").len(), 3);
}

#[test]
fn a_bucket_without_object_lock_is_told_before_anything_is_read() {
    if missing("s3") {
        return;
    }
    let lab = Lab::new();
    in_source(&lab, "echo x > f");
    let mut command = lab.sealift();
    s3::environment(&mut command);
    let to = format!("s3://{}/{}", s3::bucket(), crate::support::unique("locks"));
    command.args(["backup", "path", "s", "--job", "j", "--lock", "1d", "--to", &to]);
    let ended = Ended::from(command.output().expect("sealift runs"));
    ended.expect_error(1, "without object lock").hint("leave --lock out");
    let mut folder = lab.sealift();
    folder.args(["backup", "path", "s", "--job", "j", "--lock", "1d", "--to", &lab.file_store()]);
    let ended = Ended::from(folder.output().expect("sealift runs"));
    assert!(ended.stderr.contains("--lock has no effect at"), "{}", ended.stderr);
}
