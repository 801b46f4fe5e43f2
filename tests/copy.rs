//! `copy`: the same bytes at another store, without the passphrase.

use crate::needs;
use crate::support::{AnyStore, Ended, JOB, Lab, noise, sh, unique};

#[test]
fn a_copy_is_the_same_and_needs_no_passphrase() {
    needs!("s3", "azure");
    let lab = Lab::new();
    let input = noise(9, 30_000_000);
    let (s3, azure) = (AnyStore::S3(unique("p")), AnyStore::Azure(unique("p")));
    lab.backup_stdin(&s3.url(), &input, &[]).expect(0);
    let file = lab.file_store();
    let copy = |from: &str, to: &str| {
        let mut command = lab.sealift();
        command.env_remove("SEALIFT_PASSPHRASE_FILE").args(["copy", JOB, "--from", from, "--to", to]);
        Ended::from(command.output().expect("sealift runs"))
    };
    copy(&s3.url(), &azure.url()).expect(0);
    copy(&azure.url(), &file).expect(0);
    assert!(copy(&azure.url(), &file).expect(0).stderr.contains("already"));
    assert_eq!(lab.list(&s3.url()), lab.list(&file));
    for name in s3.names() {
        assert!(s3.read(&name) == AnyStore::File(lab.path("store")).read(&name), "{name}");
    }
    lab.run(&["verify", JOB, "--from", &azure.url()]).expect(0);
    assert!(lab.run(&["restore", JOB, "--to-stdout", "--from", &file]).expect(0).stdout == input);

    // Stored bytes that are not what the manifest says go nowhere.
    sh(&format!(
        "f=$(ls {}/store/{JOB}/*.zst.gpg | grep -v catalog); printf x | dd of=$f bs=1 seek=9000000 conv=notrunc status=none",
        lab.dir.display()
    ));
    let target = AnyStore::S3(unique("p"));
    copy(&file, &target.url()).expect_error(13, "its BLAKE3 differs");
    target.expect_nothing(&lab);
}
