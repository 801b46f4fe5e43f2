//! Backups of very many members and bytes, of which only the catalogs are there: what each verb takes of memory, and what
//! one file takes of requests. Each works in a process of its own, whose peak the kernel tells (`VmHWM`, proc_pid_status(5)).
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "catalogs lie on the disk: in memory they would count as the verbs'"
)]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::archive::Id;
use crate::archive::check::Check;
use crate::error::{Error, Kind, Result};
use crate::host::passphrase::Sources;
use crate::job::Outcome;
use crate::job::cat::{CatRequest, cat};
use crate::job::diff::{DiffRequest, DiffTarget, diff};
use crate::job::ls::{LsRequest, ls};
use crate::job::restore::{RestoreRequest, RestoreSource, restore};
use crate::job::stored::{ArchiveRef, OpenRequest};
use crate::job::verify::{Depth, VerifyRequest, verify};
use crate::job::version::Version;
use crate::report::Reporter;
use crate::sink::target::RestoreTarget;
use crate::store::StoreUrl;
use night::{ARCHIVE, JOB, Night, Source, back_up, target_bytes};

mod night;

/// What a process of its own is to do, in which folder.
const WORK: &str = "SEALIFT_TEST_LARGE";
const MIB: u64 = 1 << 20;
const NIGHTS: [&str; 4] = ["first", "second", "third", "fourth"];

/// What a process found, by name.
type Figures = BTreeMap<String, u64>;

/// What one process works on.
struct Worker<'a> {
    runtime: Runtime,
    folder: &'a Path,
    source: Source,
}

impl Worker<'_> {
    fn work(&self, verb: &str, figures: &mut Figures) {
        let mut found = |name: &str, number: u64| {
            figures.insert(name.into(), number);
        };
        match verb {
            night if NIGHTS.contains(&night) => {
                let number = NIGHTS.iter().position(|&other| other == night).unwrap() as u64 + 1;
                let Night { changed, sent, kept, catalog } =
                    back_up(&self.runtime, &self.source, &self.folder.join("store"), number);
                let numbers = [("changed", changed), ("sent", sent), ("kept", kept), ("catalog", catalog)];
                numbers.into_iter().for_each(|(name, number)| found(name, number));
            }
            "ls" => found("count", self.ls()),
            "diff" => found("count", self.diff()),
            "restore" => self.restore(&[]),
            "restore --exclude" => self.restore(&["*/member-*00.bin"]),
            "restore --skip-damaged" => self.restore_nothing(),
            "verify" => self.verify(),
            "verify --whole" => self.verify_nothing(),
            "cat" => {
                let (before, began) = (proc("io", "rchar:"), Instant::now());
                self.cat();
                found("ms", began.elapsed().as_millis() as u64);
                found("read", proc("io", "rchar:") - before);
            }
            verb => panic!("{verb}"),
        }
    }

    fn open(&self) -> OpenRequest {
        let store = StoreUrl::new(format!("file://{}", self.folder.join("store").display()));
        OpenRequest { store, passphrase: Sources::default(), no_encrypt: true }
    }

    fn ids(&self) -> Vec<Id> {
        let store = self.open().store.open(&Reporter::silent()).unwrap();
        self.runtime.block_on(store.ids(JOB)).unwrap()
    }

    fn ls(&self) -> u64 {
        let request = LsRequest { open: self.open(), archive: latest(), patterns: Vec::new() };
        let mut count = 0;
        let mut each = |_: &_, is_confirmed: bool| {
            count += u64::from(is_confirmed);
            Ok(())
        };
        let all = self.runtime.block_on(ls(&request, &Reporter::silent(), &mut each)).unwrap();
        assert_eq!(all, count);
        count
    }

    /// Compares the last two nights.
    fn diff(&self) -> u64 {
        let ids = self.ids();
        let archive = |id: &Id| ArchiveRef { job: JOB.into(), version: Version::Id(id.clone()) };
        let [.., first, second] = &ids[..] else { panic!("{ids:?}") };
        let request = DiffRequest {
            open: self.open(),
            archive: archive(first),
            target: DiffTarget::Archive(archive(second)),
            patterns: Vec::new(),
            content: false,
        };
        let mut count = 0;
        let mut each = |_: &_, _: &_| {
            count += 1;
            Ok(())
        };
        self.runtime.block_on(diff(&request, &Reporter::silent(), &mut each)).unwrap();
        count
    }

    async fn try_restore(&self, exclude: &[&str], skip_damaged: bool) -> Error {
        let target = RestoreTarget::Path(self.folder.join("out"));
        let request = RestoreRequest {
            exclude: exclude.iter().map(|glob| (*glob).into()).collect(),
            overwrite: true,
            skip_damaged,
            ..RestoreRequest::new(RestoreSource::Archive(latest()), target, self.open())
        };
        restore(request, &Reporter::silent(), &CancellationToken::new()).await.unwrap_err()
    }

    /// Restores everything but for what is excluded, as far as there is anything: the first frame is a hole.
    fn restore(&self, exclude: &[&str]) {
        let error = self.runtime.block_on(self.try_restore(exclude, false));
        assert!(error.kind() == Kind::Damaged && format!("{error:?}").contains("frame 0"), "{error:?}");
    }

    /// Restores what is not lost, where all is.
    fn restore_nothing(&self) {
        let error = self.runtime.block_on(self.try_restore(&[], true));
        assert_eq!(error.kind(), Kind::Damaged, "{error:?}");
    }

    fn verified(&self, max_duration: Option<Duration>) -> Result<Outcome> {
        let request = VerifyRequest {
            which: latest().into(),
            open: self.open(),
            depth: Depth::All,
            since_last: false,
            max_duration,
            check: Check::default(),
            record: false,
        };
        self.runtime.block_on(verify(&request, &Reporter::silent(), &mut |_| {}))
    }

    /// Finds out what is to be read of all archives; then time is over.
    fn verify(&self) {
        assert_eq!(self.verified(Some(Duration::ZERO)).unwrap(), Outcome::Warned);
    }

    /// Finds out which members are lost, where all are.
    fn verify_nothing(&self) {
        let error = self.verified(None).unwrap_err();
        let lost = format!("{} members that lie in", self.source.members);
        assert!(error.kind() == Kind::Damaged && format!("{error:?}").contains(&lost), "{error:?}");
    }

    fn cat(&self) {
        let path = Source::name(self.source.target.unwrap());
        let request = CatRequest { open: self.open(), archive: latest(), path };
        self.runtime.block_on(cat(&request, &Reporter::silent())).unwrap();
    }
}

fn latest() -> ArchiveRef {
    ArchiveRef { job: JOB.into(), version: Version::Latest }
}

/// A number that the kernel tells of this process.
fn proc(file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/self/{file}")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// What a test and the processes that it starts do: the test `name` in a process of its own for each verb. In such a
/// process, it does what it is told to, and gives nothing back.
struct Stage<'a> {
    name: &'a str,
    folder: tempfile::TempDir,
    members: u64,
}

impl Stage<'_> {
    fn set<'a>(name: &'a str, members: u64, source: impl Fn(u64) -> Source) -> Option<Stage<'a>> {
        let Ok(work) = std::env::var(WORK) else {
            return Some(Stage { name, folder: tempfile::tempdir().unwrap(), members });
        };
        let (folder, verb) = work.split_once('\n').unwrap();
        let folder = Path::new(folder);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let (worker, mut figures) = (Worker { runtime, folder, source: source(members) }, Figures::new());
        worker.work(verb, &mut figures);
        figures.insert("peak".into(), proc("status", "VmHWM:") * 1024);
        std::fs::write(folder.join(verb), serde_json::to_vec(&figures).unwrap()).unwrap();
        None
    }

    /// What a verb found in a process of its own, and what that wrote.
    fn run(&self, verb: &str) -> (Figures, Vec<u8>) {
        let folder = self.folder.path();
        let began = Instant::now();
        let ended = Command::new(std::env::current_exe().unwrap())
            .args([self.name, "--exact", "--nocapture", "--test-threads=1"])
            .env(WORK, format!("{}\n{verb}", folder.display()))
            .output()
            .unwrap();
        assert!(ended.status.success(), "{verb}: {}", String::from_utf8_lossy(&ended.stderr));
        let figures: Figures = serde_json::from_slice(&std::fs::read(folder.join(verb)).unwrap()).unwrap();
        Stage::tell(&format!("{verb} of {} members in {:?}: {figures:?}\n", self.members, began.elapsed()));
        (figures, ended.stdout)
    }

    /// What a verb found, within the memory that it may take: the bound, at 5 million members, and less of fewer.
    fn run_in_bounds(&self, verb: &str) -> Figures {
        let (figures, _) = self.run(verb);
        let bound = 256 * MIB;
        assert!(figures["peak"] <= bound.min(100 * MIB + 32 * self.members), "{verb}: {figures:?}");
        figures
    }

    fn run_all_in_bounds(&self, verbs: &[&str]) {
        for verb in verbs {
            self.run_in_bounds(verb);
        }
    }

    /// Removes the archives that the newest one needs.
    fn remove_older_archives(&self) {
        let files = std::fs::read_dir(self.folder.path().join("store").join(JOB)).unwrap();
        let archives = files.map(|file| file.unwrap().path());
        let mut archives: Vec<_> =
            archives.filter(|path| path.to_str().unwrap().ends_with(ARCHIVE)).collect();
        archives.sort();
        archives.pop();
        archives.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    }

    /// Adds figures to the file that the environment names.
    fn tell(figures: &str) {
        let Some(file) = std::env::var_os("SEALIFT_TEST_FIGURES") else { return };
        let file = std::fs::OpenOptions::new().create(true).append(true).open(file);
        file.unwrap().write_all(figures.as_bytes()).unwrap();
    }
}

/// Members without their data that make for some seconds a test.
const MEMBERS: u64 = 200_000;

/// As many members as are asked for by the environment, or some.
fn members(some: u64) -> u64 {
    std::env::var("SEALIFT_TEST_MEMBERS").ok().map_or(some, |text| text.parse().unwrap())
}

#[test]
fn very_many_members_and_bytes_take_little_memory_of_any_verb() {
    let name = "job::increment::large::very_many_members_and_bytes_take_little_memory_of_any_verb";
    // 10 TB in 5 million.
    let source = |members| Source { members, mean: 2_000_000, target: None, linked: false };
    let Some(stage) = Stage::set(name, members(MEMBERS), source) else { return };
    let members = stage.members;
    for verb in NIGHTS {
        let night = stage.run_in_bounds(verb);
        // Half a gigabyte for 5 million.
        assert!(night["catalog"] <= 100 * members, "{night:?}");
        match verb {
            "first" => assert_eq!(night["kept"], 0),
            "second" => assert!(night["kept"] > members * 98 / 100, "{night:?}"),
            "third" => assert_eq!(night["kept"], members / 2, "{night:?}"),
            _ => assert_eq!(night["kept"], members, "{night:?}"),
        }
        match verb {
            "fourth" => assert!(night["changed"] == 0 && night["sent"] < MIB, "{night:?}"),
            _ => assert!(night["sent"] * 100 <= night["changed"] * 101, "{night:?}"),
        }
        if verb == "third" {
            assert_eq!(stage.run_in_bounds("ls")["count"], members);
            assert_eq!(stage.run_in_bounds("diff")["count"], members / 2);
            stage.run_all_in_bounds(&["restore", "restore --exclude", "verify"]);
        }
    }
    stage.remove_older_archives();
    stage.run_all_in_bounds(&["restore --skip-damaged", "verify --whole"]);
}

#[test]
fn very_many_hard_links_take_little_memory() {
    let name = "job::increment::large::very_many_hard_links_take_little_memory";
    let source = |members| Source { members, mean: 2_000_000, target: None, linked: true };
    let Some(stage) = Stage::set(name, members(MEMBERS), source) else { return };
    stage.run_in_bounds("first");
    let night = stage.run_in_bounds("second");
    // Of too many files that have a name elsewhere, some are sent again.
    assert!(night["kept"] > 20_000, "{night:?}");
    stage.run_all_in_bounds(&["ls", "restore", "verify"]);
}

#[test]
fn one_file_of_very_many_takes_few_bytes_of_the_store() {
    let name = "job::increment::large::one_file_of_very_many_takes_few_bytes_of_the_store";
    // 1 TB, 250,000 frames, in 2 million.
    let source = |members| Source { members, mean: 524_288, target: None, linked: false }.with_target();
    let Some(stage) = Stage::set(name, members(MEMBERS), source) else { return };
    let contents = target_bytes(&source(stage.members));
    for night in ["first", "second"] {
        stage.run(night);
        let (figures, written) = stage.run("cat");
        assert!(figures["read"] < 10 * MIB, "{night}: {figures:?}");
        assert!(written.windows(contents.len()).any(|bytes| bytes == contents), "{night}");
    }
}
