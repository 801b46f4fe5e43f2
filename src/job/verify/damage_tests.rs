//! What is found to be damaged is known from then on, at whatever level it was found.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "sources lie on the disk")]

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::host::passphrase::Sources;
use crate::job::backup::{Increments, Rebase, backup};
use crate::job::request::tests::request;
use crate::job::request::{BackupRequest, Task};
use crate::job::version::Version;
use crate::source::Source;
use crate::store::StoreUrl;
use crate::store::faults::{Fault, Op, Rule, halt};

const JOB: &str = "j";

/// A folder, and a store that it is backed up to.
struct Nights {
    dir: tempfile::TempDir,
    name: String,
}

impl Nights {
    fn new(name: &str) -> Nights {
        let nights = Nights { dir: tempfile::tempdir().unwrap(), name: format!("verify-{name}") };
        std::fs::create_dir(nights.source()).unwrap();
        nights
    }

    fn source(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    fn url(&self) -> String {
        format!("memory://{}", self.name)
    }

    fn store(&self) -> Store {
        StoreUrl::new(self.url()).open(&Reporter::silent()).unwrap()
    }

    async fn back_up(&self) -> Id {
        let increments = Some(Increments {
            full: false,
            full_every: None,
            compare: Default::default(),
            rebase: Rebase::default(),
            segment: None,
        });
        let request = BackupRequest {
            job: Some(JOB.into()),
            increments,
            host: Some("h".into()),
            ..request(&[&self.url()])
        };
        let source = Source::Path(vec![self.source().to_str().unwrap().into()]);
        let (ui, cancel) = (Reporter::silent(), CancellationToken::new());
        backup(Task::new(source, request), &ui, &cancel).await.unwrap().id
    }

    /// A full, and an increment that needs it.
    async fn two(&self) -> [Id; 2] {
        std::fs::write(self.source().join("a"), crate::archive::testing::noise(50_000)).unwrap();
        tokio::time::sleep(Duration::from_millis(3_100)).await;
        let first = self.back_up().await;
        std::fs::write(self.source().join("b"), crate::archive::testing::noise(40_000)).unwrap();
        let second = self.back_up().await;
        let manifest = self.store().manifest(JOB, &second).await.unwrap();
        assert_eq!(manifest.needs, std::slice::from_ref(&first));
        [first, second]
    }

    async fn verify(&self, id: Option<&Id>, depth: Depth) -> (Result<Outcome>, Vec<Finding>) {
        let version = id.map_or(Version::Latest, |id| Version::Id(id.clone()));
        let open = OpenRequest {
            store: StoreUrl::new(self.url()),
            passphrase: Sources::default(),
            no_encrypt: true,
        };
        let request = VerifyRequest {
            which: ArchiveRef { job: JOB.into(), version }.into(),
            open,
            depth,
            since_last: id.is_none(),
            max_duration: None,
            check: Check::default(),
            record: true,
        };
        let mut findings = Vec::new();
        let ended = verify(&request, &Reporter::silent(), &mut |found| findings.push(found.clone())).await;
        (ended, findings)
    }

    /// Changes an archive's object.
    async fn harm(&self, id: &Id, change: impl FnOnce(&mut Vec<u8>)) {
        self.harm_object(id, "tar.zst", change).await;
    }

    async fn harm_object(&self, id: &Id, suffix: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let key = format!("{JOB}/{id}.{suffix}");
        let mut bytes = halt::objects(&self.name).await[&key].to_vec();
        change(&mut bytes);
        halt::replace(&self.name, &key, Some(bytes.into())).await;
    }

    async fn listed(&self) -> Vec<Listed> {
        self.store().archives(Some(JOB)).await.unwrap()
    }
}

#[expect(clippy::ptr_arg, reason = "others of its kind change the length")]
fn flip(bytes: &mut Vec<u8>) {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
}

fn cut(bytes: &mut Vec<u8>) {
    bytes.pop();
}

const ALL: Amount = Amount::Share(1.0);

#[tokio::test(flavor = "multi_thread")]
async fn damage_that_any_level_finds_is_known_from_then_on() {
    type Harm = fn(&mut Vec<u8>);
    let levels = [
        ("manifest", Depth::Manifest, cut as Harm),
        ("stored", Depth::Stored, flip),
        ("sample", Depth::Sample(ALL), flip),
        ("whole", Depth::Whole, flip),
        ("all", Depth::All, flip),
    ];
    let objects = ["tar.zst", "catalog.zst"];
    for (suffix, (level, depth, harm)) in objects.into_iter().flat_map(|it| levels.map(|level| (it, level))) {
        let name = &format!("{level}-{suffix}");
        let nights = Nights::new(name);
        std::fs::write(nights.source().join("a"), crate::archive::testing::noise(50_000)).unwrap();
        let id = nights.back_up().await;
        assert_eq!(nights.verify(Some(&id), Depth::Whole).await.0.unwrap(), Outcome::Done);
        assert!(nights.listed().await[0].verified().is_some());
        nights.harm_object(&id, suffix, harm).await;
        let error = nights.verify(Some(&id), depth).await.0.unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged, "{name}");
        let listed = nights.listed().await.remove(0);
        assert!(listed.damaged.is_some() && listed.verified().is_none(), "{name}");
        let (ended, findings) = nights.verify(None, depth).await;
        let Some(Finding::Job(summary)) = findings.last() else { panic!("{name}: {findings:?}") };
        assert!(summary.before == 0 && summary.failed.len() == 1, "{name}: {summary:?}");
        assert!(ended.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_needed_archive_that_does_not_begin_as_it_did_is_known_to_be_damaged() {
    let nights = Nights::new("heads");
    let [first, second] = nights.two().await;
    nights.harm(&first, cut).await;
    let (ended, _) = nights.verify(Some(&second), Depth::Sample(ALL)).await;
    assert!(ended.unwrap_err().to_string().contains("members that lie in"));
    let listed = nights.listed().await;
    assert!(listed[0].damaged.is_some() && listed[1].damaged.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_fails_a_verification_that_was_had_before() {
    let nights = Nights::new("gone");
    let [first, second] = nights.two().await;
    nights.verify(Some(&second), Depth::All).await.0.unwrap();
    halt::replace(&nights.name, &format!("{JOB}/{first}.tar.zst"), None).await;
    let (ended, findings) = nights.verify(None, Depth::Manifest).await;
    let Some(Finding::Job(summary)) = findings.last() else { panic!("{findings:?}") };
    assert!(summary.before == 0 && summary.failed.len() == 2, "{summary:?}");
    assert_eq!(ended.unwrap_err().kind(), Kind::Damaged);
    let names = halt::objects(&nights.name).await;
    assert!(!names.keys().any(|name| name.contains(".damaged-")), "that it is gone is seen without");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_damaged_on_its_way_only_is_not_recorded() {
    let nights = Nights::new("way");
    std::fs::write(nights.source().join("a"), crate::archive::testing::noise(50_000)).unwrap();
    let id = nights.back_up().await;
    let faults =
        |n| halt::fail(&nights.name, vec![Rule::on(Op::Get, ".tar.zst", Fault::FlippedByte(9_000)).first(n)]);
    faults(2);
    nights.verify(Some(&id), Depth::Whole).await.0.unwrap();
    assert!(nights.listed().await[0].is_whole());
    faults(u64::MAX);
    nights.verify(Some(&id), Depth::Whole).await.0.unwrap_err();
    halt::go_on(&nights.name);
    assert!(nights.listed().await[0].damaged.is_some());
}
