//! `man`: the pages of a package.

use std::process::Command;

use crate::support::{Ended, Lab, sh};

#[test]
fn every_page_is_formatted_without_a_complaint() {
    let lab = Lab::new();
    let dir = lab.path("man/man1");
    lab.run(&["man", &dir.display().to_string()]).expect(0);
    let mut count = 0;
    for page in std::fs::read_dir(&dir).expect("pages") {
        let page = page.expect("a page").path();
        let mut groff = Command::new("groff");
        groff.args(["-k", "-man", "-ww", "-Tutf8", "-P-cbou", "-rLL=78n"]).arg(&page);
        let ended = Ended::from(groff.output().expect("groff (groff-base) is installed")).expect(0);
        assert_eq!(ended.stderr, "", "{}", page.display());
        let name = page.file_stem().expect("a name").to_string_lossy().into_owned();
        let text = ended.text();
        assert!(text.contains("NAME") && text.contains(&name), "{name}: {text}");
        count += 1;
    }
    assert!(count > 30, "only {count} pages");
}

#[test]
fn examples_are_not_run_together() {
    let lab = Lab::new();
    lab.run(&["man", "pages"]).expect(0);
    let page = lab.path("pages/sealift-restore.1");
    let text = sh(&format!("groff -k -man -Tutf8 -P-cbou -rLL=60n '{}'", page.display()));
    let line = "sealift restore registry --to-volume dtr-registry-0123456789ab --from s3://backups/prod";
    assert!(text.lines().any(|shown| shown.trim() == line), "{text}");
}

#[test]
fn a_folder_that_cannot_be_made_is_said() {
    let lab = Lab::new();
    lab.write("file", b"");
    lab.run(&["man", "file/man1"]).expect_error(1, "cannot make file/man1");
}
