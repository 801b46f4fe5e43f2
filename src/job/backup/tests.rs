//! What a backup is prepared for, before anything is asked of anyone.

use super::super::lease::OneAtATime;
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

/// How a run that wanted the job fared.
#[derive(Debug, PartialEq)]
enum Fared {
    WentOn,
    Refused,
}

/// One of several runs that begin at about the same time; `going` counts those that went on and have not ended.
async fn contend(
    urls: Vec<String>,
    after: u64,
    going: &std::sync::atomic::AtomicU32,
    most: &std::sync::atomic::AtomicU32,
) -> Fared {
    use std::sync::atomic::Ordering::SeqCst;
    tokio::time::sleep(Duration::from_millis(after)).await;
    let urls: Vec<_> = urls.iter().map(String::as_str).collect();
    let mut run = prepared(volume(request(&urls))).unwrap();
    let mut fan = FanOut::new(run.plan.parts.clone(), run.chunks.clone(), &ui());
    let reserved = run.reserve(&mut fan, &ui()).await;
    let fared = match reserved {
        Ok(_) => {
            most.fetch_max(going.fetch_add(1, SeqCst) + 1, SeqCst);
            // Longer than a lease lasts unless it is renewed.
            tokio::time::sleep(Duration::from_secs(1800)).await;
            going.fetch_sub(1, SeqCst);
            Fared::WentOn
        }
        Err(error) => {
            assert_eq!(error.kind(), Kind::Locked, "{error}");
            assert!(error.to_string().contains("is being backed up already: run 2"), "{error}");
            Fared::Refused
        }
    };
    run.lease.take().unwrap().end(&ui()).await;
    fared
}

#[tokio::test(start_paused = true)]
async fn of_runs_that_begin_together_one_goes_on_and_never_two() {
    use std::sync::atomic::AtomicU32;

    use crate::archive::testing::Random;
    use crate::store::faults::{Fault, Op, Rule, halt};
    let mut contended = 0;
    for seed in 0..600 {
        let mut random = Random::new(seed);
        let stores: Vec<_> = (0..1 + random.below(2)).map(|n| format!("contend-{seed}-{n}")).collect();
        for (n, name) in stores.iter().enumerate() {
            let no_delete = Rule::on(
                Op::Delete,
                "",
                Fault::Refuse("Server returned non-2xx status code: 403 Forbidden: no"),
            );
            let rules = if random.one_in(4) { vec![no_delete] } else { Vec::new() };
            halt::slow(name, seed * 10 + n as u64, rules);
        }
        let (going, most) = (AtomicU32::new(0), AtomicU32::new(0));
        let runs: Vec<_> = (0..2 + random.below(2))
            .map(|_| {
                let mut urls: Vec<_> = stores.iter().map(|name| format!("memory://{name}")).collect();
                if random.one_in(2) {
                    urls.reverse();
                }
                contend(urls, random.below(80) as u64, &going, &most)
            })
            .collect();
        let fared = futures_util::future::join_all(runs).await;
        let went_on = fared.iter().filter(|fared| **fared == Fared::WentOn).count();
        assert_eq!((most.into_inner(), went_on), (1, 1), "seed {seed}: {fared:?}");
        contended += fared.len() - went_on;
        for name in &stores {
            halt::go_on(name);
        }
    }
    assert!(contended > 600, "{contended}");
}

#[tokio::test(start_paused = true)]
async fn a_run_waits_for_another_as_long_as_it_is_asked_to() {
    let url = "memory://waits-for-another";
    let store = Store::open(url, &Default::default()).unwrap();
    let mut first = prepared(volume(request(&[url]))).unwrap();
    let mut fan = FanOut::new(first.plan.parts.clone(), first.chunks.clone(), &ui());
    first.reserve(&mut fan, &ui()).await.unwrap();
    for (wait, works, ends) in [(60, 100, false), (600, 100, true)] {
        let one_at_a_time = OneAtATime { off: false, wait: Duration::from_secs(wait) };
        let mut second = prepared(volume(BackupRequest { one_at_a_time, ..request(&[url]) })).unwrap();
        let mut fan = FanOut::new(second.plan.parts.clone(), second.chunks.clone(), &ui());
        let ui = ui();
        let waiting = second.reserve(&mut fan, &ui);
        let mut lease = if ends { first.lease.take() } else { None };
        let ending = async {
            tokio::time::sleep(Duration::from_secs(works)).await;
            if let Some(lease) = lease.take() {
                lease.end(&ui).await;
            }
        };
        let (waited, ()) = tokio::join!(waiting, ending);
        assert_eq!(waited.is_ok(), ends, "{wait} {:?}", waited.err());
        second.lease.take().unwrap().end(&ui).await;
    }
    assert_eq!(store.sizes("db").await.unwrap().len(), 0, "nothing of any lease is left");
}

#[tokio::test]
async fn a_run_of_this_process_that_was_dropped_holds_its_job_no_more_and_no_lease_asks_nobody() {
    let url = "memory://dropped-run";
    let reserve = async |off: bool| {
        let one_at_a_time = OneAtATime { off, wait: Duration::ZERO };
        let mut run = prepared(volume(BackupRequest { one_at_a_time, ..request(&[url]) })).unwrap();
        let mut fan = FanOut::new(run.plan.parts.clone(), run.chunks.clone(), &ui());
        run.reserve(&mut fan, &ui()).await.map(|_| run)
    };
    let first = reserve(false).await.unwrap();
    assert_eq!(reserve(false).await.err().map(|e| e.kind()), Some(Kind::Locked));
    assert!(reserve(true).await.unwrap().lease.is_none());
    drop(first);
    assert!(reserve(false).await.is_ok());
}

/// Backs up a folder of `bytes` bytes, which tar rounds up to whole mebibytes; whether there was something to look at.
async fn back_up_folder(url: &str, bytes: usize, alarm: Option<f64>, strict: bool) -> Result<Outcome> {
    let dir = tempfile::tempdir().unwrap();
    let made = std::process::Command::new("sh")
        .arg("-ec")
        .arg(format!("head -c {bytes} /dev/urandom > f"))
        .current_dir(dir.path())
        .status();
    assert!(made.unwrap().success());
    let request = BackupRequest {
        job: Some("s".into()),
        shrink_alarm: alarm,
        strict,
        warn_ok: vec![WarnOk::Source],
        ..request(&[url])
    };
    let source = Source::Path(vec![dir.path().to_str().unwrap().into()]);
    let made = backup(Task::new(source, request), &ui(), &tokio_util::sync::CancellationToken::new()).await?;
    Ok(made.outcome)
}

#[tokio::test]
async fn a_source_that_has_shrunk_is_backed_up_with_a_warning_or_strictly_not_at_all() {
    let url = "memory://shrinks";
    let store = Store::open(url, &Default::default()).unwrap();
    let half = Some(0.5);
    assert_eq!(back_up_folder(url, 8 << 20, half, true).await.unwrap(), Outcome::Done, "nothing came before");
    assert_eq!(back_up_folder(url, 7_000_000, half, true).await.unwrap(), Outcome::Done);
    let error = back_up_folder(url, 10_000, half, true).await.err().unwrap();
    assert!(error.to_string().starts_with("the source has shrunk: "), "{error}");
    assert_eq!(store.ids("s").await.unwrap().len(), 2);
    let names = store.sizes("s").await.unwrap();
    assert_eq!(names.keys().filter(|name| name.ends_with(".failed.json")).count(), 1, "{names:?}");
    assert_eq!(names.len(), 7, "nothing else of it is left");
    assert_eq!(back_up_folder(url, 10_000, None, false).await.unwrap(), Outcome::Done);
    assert_eq!(back_up_folder(url, 8 << 20, half, false).await.unwrap(), Outcome::Done, "it may grow");
    assert_eq!(back_up_folder(url, 10_000, half, false).await.unwrap(), Outcome::Warned);
    assert_eq!(store.ids("s").await.unwrap().len(), 5, "the night is not lost");
    assert_eq!(back_up_folder(url, 10_000, half, false).await.unwrap(), Outcome::Done, "it is told once");
}
