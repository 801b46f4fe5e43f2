//! What a backup is prepared for, before anything is asked of anyone.

use super::super::request::tests::request;
use super::*;
use crate::archive::check::Check;
use crate::archive::openpgp::Cipher;

fn ui() -> Reporter {
    Reporter::silent()
}

fn prepared(task: Task) -> Result<BackupRun> {
    BackupRun::prepare(task, &ui()).map(|(run, _)| run)
}

fn volume(request: BackupRequest) -> Task {
    Task::new(Source::Volume(vec!["DB".into()]), request)
}

#[test]
fn the_job_is_the_one_asked_for_or_the_sources_own() {
    assert_eq!(prepared(volume(request(&["memory:///"]))).unwrap().record.job, "db");
    let named = BackupRequest { job: Some("own".into()), ..request(&["memory:///"]) };
    assert_eq!(prepared(volume(named)).unwrap().record.job, "own");
    let error = prepared(Task::new(Source::Stdin, request(&["memory:///"]))).err().unwrap();
    assert_eq!((error.to_string().as_str(), error.kind()), ("this backup needs a name", Kind::Usage));
}

#[test]
fn at_least_one_store_and_none_twice() {
    let error = prepared(volume(request(&[]))).err().unwrap();
    assert_eq!(error.to_string(), "no store was given");
    let error = prepared(volume(request(&["az://c/a", "az://c/a"]))).err().map(|e| e.to_string());
    // Without credentials the store cannot even be opened; with them it is told that it is there twice.
    assert!(error.is_some_and(|e| e.contains("twice") || e.contains("cannot open store")));
    assert!(prepared(volume(request(&["ftp://x"]))).is_err());
}

#[test]
fn a_budget_that_no_memory_holds_is_refused_before_anything_is_begun() {
    let mut small = request(&["memory:///"]);
    small.budget.memory = 1 << 20;
    let error = prepared(volume(small)).err().unwrap();
    assert!(error.to_string().starts_with("--memory 1MiB is too little"), "{error}");
}

#[test]
fn an_archive_in_the_clear_has_no_cipher_and_asks_for_no_passphrase() {
    let run = prepared(volume(request(&["memory:///"]))).unwrap();
    assert!(run.passphrase.is_none() && run.record.cipher.is_none());
    assert!(!run.suffix().contains("gpg"), "{}", run.suffix());
}

#[test]
fn a_sealed_archive_has_its_cipher_and_passphrase() {
    let passphrase =
        passphrase::Sources { command: Some("echo hidden".into()), ..passphrase::Sources::default() };
    let encryption = Some(Encryption { cipher: Cipher::Aead, passphrase });
    let run = prepared(volume(BackupRequest { encryption, ..request(&["memory:///"]) })).unwrap();
    assert!(run.passphrase.is_some());
    assert_eq!(run.record.cipher, Some(Cipher::Aead));
    assert!(run.suffix().ends_with(".pgp"), "{}", run.suffix());
}

#[test]
fn data_on_standard_input_cannot_be_the_passphrase_too() {
    let passphrase = passphrase::Sources { file: Some("-".into()), ..passphrase::Sources::default() };
    let encryption = Some(Encryption { cipher: Cipher::Cfb, passphrase });
    let named = BackupRequest { job: Some("x".into()), encryption, ..request(&["memory:///"]) };
    let error = prepared(Task::new(Source::Stdin, named)).err().unwrap();
    assert!(error.to_string().starts_with("standard input is the data"), "{error}");
}

#[test]
fn the_format_asked_for_wins_over_the_sources() {
    assert_eq!(volume(request(&[])).format, Some(Format::Tar));
    let raw = BackupRequest { format: Some(Format::Raw), ..request(&[]) };
    assert_eq!(volume(raw).format, Some(Format::Raw));
    assert_eq!(Task::new(Source::Stdin, request(&[])).format, None);
}

#[test]
fn expectations_of_the_task_and_of_the_request_are_both_kept() {
    let asked = BackupRequest {
        check: Check::new(&["a".into()], 0).unwrap(),
        strict: true,
        ..request(&["memory:///"])
    };
    let task = Task { check: Check::new(&["b".into()], 0).unwrap(), ..volume(asked) };
    let run = prepared(task).unwrap();
    assert!(run.expected.strict);
    assert_eq!(
        crate::archive::check::texts(&run.expected.check.unmet()),
        ["no member matches 'b'", "no member matches 'a'"]
    );
}
