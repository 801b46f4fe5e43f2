//! `restore`: catalog → frames, each confirmed → the sink.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::backup::Outcome;
use super::deliver::{PARALLEL, write_members, write_ranges};
use super::sequential;
use super::stored::{ArchiveRef, OpenRequest, StoredArchive, or_newest_whole};
use crate::archive::Format;
use crate::archive::open::Archive;
use crate::error::{Error, Kind, Result};
use crate::preset::steps::quoted;
use crate::report::{Reporter, human_bytes, printable};
use crate::sink::WARNED;
use crate::sink::landing::Landing;
use crate::sink::target::{self, RestoreTarget};
use crate::stream::counters::Counters;
use crate::stream::sink::Sink;
use crate::tar::select::{Patterns, Selection, unsafe_member};
use crate::tar::{EntryType, Member, name};

/// Bytes of memory that a restore takes at most: batches, each fetched, decrypted and decompressed, and the pieces that
/// wait for the sink. A catalog of a million frames adds some.
const MEMORY: u64 = 256 << 20;
/// Refused members that an error names.
const NAMED: usize = 5;

/// What to restore from.
#[derive(Debug, Clone)]
pub enum RestoreSource {
    /// An archive, by its catalog.
    Archive(ArchiveRef),
    /// An archive from its front, its catalog being lost.
    Front(ArchiveRef),
    /// An object by its key, whoever made it.
    Object(String),
    /// What another program writes to our standard input.
    Stdin,
}

/// What to restore, and where to.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// What to restore from.
    pub source: RestoreSource,
    /// Where the bytes go.
    pub target: RestoreTarget,
    /// Where the archive is, and what opens it.
    pub open: OpenRequest,
    /// Members to restore, and what is below them; all where there is none.
    pub include: Vec<String>,
    /// Members to leave out.
    pub exclude: Vec<String>,
    /// Unpack although the folder or volume is not empty.
    pub overwrite: bool,
    /// Unpack device nodes too.
    pub allow_devices: bool,
}

/// Restores an archive, or some of its members.
///
/// # Errors
/// There is no such archive, it cannot be opened, a member may not be unpacked, or the target fails. Where bytes were
/// handed on before, the hint says how many.
pub async fn restore(request: RestoreRequest, ui: &Reporter, cancel: &CancellationToken) -> Result<Outcome> {
    let RestoreSource::Archive(archive) = &request.source else {
        return sequential::restore(request, ui, cancel).await;
    };
    let (from, archive) = (request.open.store.clone(), archive.clone());
    let restored = restore_archive(&archive, request, ui, cancel).await;
    match restored {
        Err(error) => Err(tokio::select! {
            biased;
            () = cancel.cancelled() => error.clone(),
            hinted = or_newest_whole(error.clone(), &from, &archive, ui) => hinted,
        }),
        done => done,
    }
}

async fn restore_archive(
    archive: &ArchiveRef,
    request: RestoreRequest,
    ui: &Reporter,
    cancel: &CancellationToken,
) -> Result<Outcome> {
    let plan = tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(Error::interrupted()),
        plan = Plan::make(archive, &request, ui) => plan?,
    };
    ui.detail(&format!("up to {} of memory, {PARALLEL} batches of frames at once", human_bytes(MEMORY)));
    let original = |volume: &str| plan.original_volume(volume);
    let (sink, mut landing) = target::open(request.target, original, request.overwrite, ui).await?;
    landing.iter_mut().for_each(|landing| landing.allow_devices(request.allow_devices));
    let counters = Arc::new(Counters::default());
    let tracking = ui.track("restored", Arc::clone(&counters));
    let admit = |member: &Member| landing.as_mut().map_or(Ok(true), |landing| landing.admit(member));
    let write = async |sink: &Sink| plan.deliver(sink, &counters, admit).await;
    let filled = target::fill(sink, cancel, write).await;
    drop(tracking);
    let code = filled.map_err(|error| incomplete(error, &counters))?;
    let end = &plan.archive.contents().end;
    end.warnings.iter().for_each(|warning| ui.warn(&format!("at backup time: {warning}")));
    let amount = human_bytes(counters.source.get());
    ui.detail(&format!("restored {amount} of {} in {} frames", plan.name, end.frames));
    Ok(outcome(code, landing.as_ref(), ui))
}

/// How a restore ended that did not fail; what was left out is said.
pub(super) fn outcome(code: i64, landing: Option<&Landing>, ui: &Reporter) -> Outcome {
    let Some(landing) = landing else {
        return if code == 0 { Outcome::Done } else { Outcome::Exited(code) };
    };
    match landing.warn(ui) || code == WARNED {
        true => Outcome::Warned,
        false => Outcome::Done,
    }
}

/// What is to be restored, confirmed before anything is touched.
struct Plan {
    roots: BTreeSet<String>,
    name: String,
    archive: Arc<Archive>,
    handing: Handing,
}

/// What is handed on, and how.
#[derive(Debug, PartialEq)]
enum Handing {
    /// All bytes as they are.
    AsIs,
    /// The members of these lists of ranges, written anew; all of them where there is none.
    Members(Option<Vec<Vec<Range<u64>>>>),
}

impl Plan {
    async fn make(archive: &ArchiveRef, request: &RestoreRequest, ui: &Reporter) -> Result<Plan> {
        let patterns = Patterns::new(&request.include, &request.exclude)?;
        let found = StoredArchive::find(&request.open.store, archive, ui).await?;
        let passphrase = found.passphrase(&request.open)?;

        let mut members = Members::new(patterns, request.target.unpacks(), request.allow_devices);
        // Hard links and folders lead to members that were not asked for: further looks find them.
        let archive = loop {
            let archive = found.open_with(passphrase.clone(), |entry| members.look(entry)).await?;
            if !members.again() {
                break archive;
            }
        };
        let roots = members.roots.clone();
        let is_tar = archive.contents().archive.kind == Format::Tar;
        let handing = members.handing(is_tar, request.target.needs_tar())?;
        Ok(Plan { roots, name: found.name(), archive, handing })
    }

    async fn deliver(
        &self,
        sink: &Sink,
        counters: &Counters,
        admit: impl FnMut(&Member) -> Result<bool>,
    ) -> Result<()> {
        let whole = self.archive.whole();
        match &self.handing {
            Handing::AsIs => write_ranges(&self.archive, &whole, sink, counters).await,
            Handing::Members(None) => write_members(&self.archive, &[whole], sink, counters, admit).await,
            Handing::Members(Some(lists)) => write_members(&self.archive, lists, sink, counters, admit).await,
        }
    }

    /// Under which name the volume lies in the archive, and alone: other volumes lie beside the one restored to, and no
    /// member may reach them.
    fn original_volume(&self, name: &str) -> Result<String> {
        let original = original_volume(name, &self.archive.contents().archive.source)?;
        alone(&original, &self.roots).map(|()| original)
    }
}

/// Which members are wanted, and whether they may be unpacked.
struct Members {
    patterns: Patterns,
    selection: Selection,
    unpacks: bool,
    allow_devices: bool,
    refused: Vec<String>,
    /// The first two parts of names and of hard links' targets: of a volume's archive, `VOLUME/_data` alone.
    roots: BTreeSet<String>,
}

impl Members {
    fn new(patterns: Patterns, unpacks: bool, allow_devices: bool) -> Self {
        let selection = Selection::new(unpacks);
        Members { patterns, selection, unpacks, allow_devices, refused: Vec::new(), roots: BTreeSet::new() }
    }

    fn look(&mut self, entry: &crate::tar::Entry) {
        let taken = match self.patterns.take_all() {
            true => true,
            false => self.selection.look(entry, &self.patterns),
        };
        if !taken || !self.unpacks {
            return;
        }
        if self.roots.len() < NAMED {
            self.roots.insert(root(&entry.path));
            let target = entry.link.as_deref().filter(|_| entry.kind == EntryType::Link);
            self.roots.extend(target.map(root));
        }
        let refused = unsafe_member(entry, self.allow_devices);
        self.refused.extend(refused.map(|why| format!("{}: {why}", name::shown(&entry.name()))));
    }

    /// Ends a look, and says whether another is needed.
    fn again(&mut self) -> bool {
        let again = self.selection.again();
        if again {
            self.refused.clear();
        }
        again
    }

    /// What to hand on.
    fn handing(self, is_tar: bool, wants_tar: bool) -> Result<Handing> {
        if !is_tar && (wants_tar || !self.patterns.take_all()) {
            return Err(
                Error::usage("this archive is no tar: it has no members").hint("restore it --to-stdout")
            );
        }
        if !self.refused.is_empty() {
            let named = self.refused.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
            return Err(Error::refused(format!("{} members may not be unpacked", self.refused.len())).because(named)
                .hint("leave them out with --exclude, accept devices with --allow-devices, or restore --to-stdout"));
        }
        match (self.patterns.take_all(), self.unpacks) {
            (true, false) => Ok(Handing::AsIs),
            (true, true) => Ok(Handing::Members(None)),
            (false, _) if self.selection.count() == 0 => {
                Err(Error::new(Kind::NotFound, "no member matches").hint("`sealift ls` shows their names"))
            }
            (false, _) => Ok(Handing::Members(Some(self.selection.lists()))),
        }
    }
}

/// No member lies beside the volume.
fn alone(volume: &str, roots: &BTreeSet<String>) -> Result<()> {
    let own = format!("{volume}/_data");
    match roots.iter().find(|root| **root != own && *root != volume) {
        Some(other) => Err(outside(&own, other)),
        None => Ok(()),
    }
}

/// The first two parts of a name, to the letter: tar renames by the letter, too.
fn root(name: &str) -> String {
    let name = name.strip_suffix('/').unwrap_or(name).trim_start_matches('/');
    name.split('/').take(2).collect::<Vec<_>>().join("/")
}

/// Of a volume's archive, a member that belongs to something else.
pub(super) fn outside(own: &str, other: &str) -> Error {
    Error::refused(format!("the archive has members outside of {own}: {}", printable(other)))
        .hint("leave them out with --exclude, or restore --to-path and look")
}

fn incomplete(error: Error, counters: &Counters) -> Error {
    let written = counters.source.get();
    error.and_hint(format!(
        "the {written} bytes that were handed on are right, but not all: the target is incomplete"
    ))
}

/// Under which name the volume lies in the archive, of which this is the source.
fn original_volume(name: &str, source: &serde_json::Value) -> Result<String> {
    let volumes = source["volume"].as_array();
    let volumes: Vec<_> = volumes.into_iter().flatten().filter_map(|v| v.as_str()).collect();
    match volumes[..] {
        [] => Err(Error::usage("this is no archive of a volume").hint("unpack it --to-path DIR")),
        [only] => Ok(only.into()),
        _ => {
            let one = volumes.iter().find(|volume| **volume == name).unwrap_or(&volumes[0]);
            Err(Error::usage(format!("this archive holds the volumes {}", volumes.join(", "))).hint(format!(
                "restore --to-path, or one at a time: --to-stdout --include {} | tar -x --strip-components=2 …",
                quoted(one)
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(path: &str, kind: EntryType, link: Option<&str>) -> crate::tar::Entry {
        let mut entry: crate::tar::Entry = serde_json::from_value(json!({
            "path": path, "at": 0, "len": 1024, "type": "file", "mode": 0o644, "uid": 0, "gid": 0, "size": 1,
            "mtime": "0",
        }))
        .unwrap();
        (entry.kind, entry.link) = (kind, link.map(Into::into));
        entry
    }

    fn members(include: &[&str], unpacks: bool, entries: &[crate::tar::Entry]) -> Members {
        let include: Vec<String> = include.iter().map(|glob| (*glob).into()).collect();
        let mut members = Members::new(Patterns::new(&include, &[]).unwrap(), unpacks, false);
        let mut at = 0;
        loop {
            for entry in entries {
                members.look(&crate::tar::Entry { at, ..entry.clone() });
                at += entry.len;
            }
            at = 0;
            if !members.again() {
                return members;
            }
        }
    }

    #[test]
    fn everything_is_the_whole_archive() {
        let entries = [entry("a", EntryType::File, None), entry("b", EntryType::File, None)];
        assert_eq!(members(&[], true, &entries).handing(true, true).unwrap(), Handing::Members(None));
        // Bytes that are not unpacked here are handed on as they are.
        assert_eq!(members(&[], false, &entries).handing(true, true).unwrap(), Handing::AsIs);
    }

    fn one(start: u64, end: u64) -> Vec<Range<u64>> {
        std::iter::once(start..end).collect()
    }

    fn lists(members: Members) -> Vec<Vec<Range<u64>>> {
        match members.handing(true, true).unwrap() {
            Handing::Members(Some(lists)) => lists,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn members_are_ranges_of_the_source() {
        let entries = ["a", "b", "c", "a"].map(|path| entry(path, EntryType::File, None));
        assert_eq!(lists(members(&["b", "c"], true, &entries)), [one(1024, 3072)]);
        assert_eq!(lists(members(&["a"], true, &entries)), [vec![0..1024, 3072..4096]]);
    }

    #[test]
    fn no_member_is_not_found() {
        let entries = [entry("a", EntryType::File, None)];
        let error = members(&["b"], false, &entries).handing(true, false).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
    }

    #[test]
    fn what_is_no_tar_has_no_members() {
        for (include, wants_tar) in [(&["a"][..], false), (&[], true)] {
            let error = members(include, false, &[]).handing(false, wants_tar).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{include:?}");
        }
        assert_eq!(members(&[], false, &[]).handing(false, false).unwrap(), Handing::AsIs);
    }

    #[test]
    fn members_that_may_not_be_unpacked_are_named_before_anything_is() {
        let entries: Vec<_> = (0..9).map(|n| entry(&format!("../x{n}\n"), EntryType::File, None)).collect();
        let error = members(&[], true, &entries).handing(true, true).unwrap_err();
        assert_eq!(error.kind(), Kind::Refused);
        let text = error.to_string();
        assert!(text.contains("9 members may not be unpacked") && text.contains("../x4\\n"), "{text}");
        assert!(!text.contains("../x5") && !text.contains('\n'), "{text}");
        // Bytes that go to a pipe are nobody's names.
        assert_eq!(members(&[], false, &entries).handing(true, false).unwrap(), Handing::AsIs);
    }

    #[test]
    fn devices_are_unpacked_only_where_that_is_allowed() {
        let device = entry("dev/x", EntryType::Block, None);
        let with = |allow: bool| {
            let mut members = Members::new(Patterns::new(&[], &[]).unwrap(), true, allow);
            members.look(&device);
            members.handing(true, true)
        };
        assert!(with(true).is_ok());
        assert_eq!(with(false).unwrap_err().kind(), Kind::Refused);
    }

    #[test]
    fn a_wanted_hard_link_brings_its_file() {
        let entries = [
            entry("a", EntryType::File, None),
            entry("b", EntryType::Link, Some("a")),
            entry("c", EntryType::File, None),
        ];
        assert_eq!(lists(members(&["b"], true, &entries)), [one(0, 2048)]);
        // What it brings must be fit to be unpacked, too.
        let device = [entry("a", EntryType::Char, None), entry("b", EntryType::Link, Some("a"))];
        assert_eq!(members(&["b"], true, &device).handing(true, true).unwrap_err().kind(), Kind::Refused);
    }

    #[test]
    fn the_first_two_parts_of_a_name_are_its_root() {
        for (name, of) in [
            ("vol/_data/a/b", "vol/_data"),
            ("vol/_data/", "vol/_data"),
            ("vol", "vol"),
            ("./vol/_data", "./vol"),
            ("/a/b", "a/b"),
            ("", ""),
        ] {
            assert_eq!(root(name), of, "{name}");
        }
    }

    #[test]
    fn a_volume_is_restored_alone() {
        let roots = |names: &[&str]| names.iter().map(|name| root(name)).collect();
        assert!(alone("vol", &roots(&["vol", "vol/_data/a", "vol/_data/"])).is_ok());
        for other in ["other/_data/a", "vol/_datax", "vol/opts.json", "./vol/_data/a"] {
            let error = alone("vol", &roots(&["vol/_data/a", other])).unwrap_err();
            assert_eq!(error.kind(), Kind::Refused, "{other}");
        }
    }

    #[test]
    fn a_link_out_of_the_volume_counts_as_a_member_beside_it() {
        let link = entry("vol/_data/x", EntryType::Link, Some("other/_data/y"));
        let members = members(&[], true, &[link]);
        assert!(alone("vol", &members.roots).is_err());
    }

    #[test]
    fn an_archive_of_one_volume_says_its_name() {
        assert_eq!(original_volume("v", &json!({"volume": ["w"]})).unwrap(), "w");
        for source in
            [json!({}), json!({"path": ["/etc"]}), json!({"volume": []}), json!({"volume": ["a", "b"]})]
        {
            assert_eq!(original_volume("v", &source).unwrap_err().kind(), Kind::Usage, "{source}");
        }
    }

    #[test]
    fn of_an_archive_of_volumes_the_hint_names_one_of_its_own() {
        let source = json!({"volume": ["my data", "logs"]});
        let hint = |target| original_volume(target, &source).unwrap_err().hint_text().unwrap().to_string();
        assert!(hint("new").contains("--include 'my data'"), "{}", hint("new"));
        assert!(hint("logs").contains("--include logs "), "{}", hint("logs"));
    }

    #[test]
    fn what_was_handed_on_before_a_failure_is_said() {
        let counters = Counters::default();
        counters.source.add(7);
        let error = incomplete(Error::failed("x"), &counters);
        assert!(error.hint_text().unwrap().contains("the 7 bytes"), "{error}");
    }
}
