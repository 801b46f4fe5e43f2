//! The steps that bring a set back, in order, as the sealed catalogs of its archives tell them.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde_json::Value;

use super::stored::{ArchiveRef, OpenRequest, Secrets, StoredArchive};
use super::version::Owner;
use crate::archive::Id;
use crate::error::{Error, Kind, Result};
use crate::preset::steps::{Action, quoted};
use crate::preset::{SealedArchive, Step, restore_steps};
use crate::report::{Reporter, counted, printable};
use crate::source::in_words;
use crate::store::Store;
use crate::store::set::{SetRef, SetRun};

/// How a set is brought back.
#[derive(Debug)]
pub struct RestorePlan {
    /// The run of the set.
    pub set: SetRef,
    /// How it ended, where it is not whole.
    pub incomplete: Option<String>,
    /// What to do, in order.
    pub steps: Vec<Step>,
    /// What the archives were opened with: nothing of it need be asked for again.
    pub open: OpenRequest,
}

/// A place in a plan, both from 1: the step, and the action in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The step.
    pub step: usize,
    /// What is done in it.
    pub action: usize,
}

impl Position {
    /// Where a plan begins.
    pub const FIRST: Position = Position { step: 1, action: 1 };
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.action {
            1 => write!(f, "{}", self.step),
            action => write!(f, "{}.{action}", self.step),
        }
    }
}

impl FromStr for Position {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = |text: &str| text.parse().ok().filter(|number| *number > 0);
        let (step, action) = text.split_once('.').unwrap_or((text, "1"));
        let found = number(step).zip(number(action)).map(|(step, action)| Position { step, action });
        found.ok_or_else(|| {
            Error::usage(format!("{text:?} is no step")).hint("N, or N.M for what stands as M in step N")
        })
    }
}

impl RestorePlan {
    /// Demands that there is something to do at a place.
    ///
    /// # Errors
    /// There is not.
    pub fn has(&self, at: Position) -> Result<()> {
        let there = self.steps.get(at.step - 1).is_some_and(|step| at.action <= step.actions.len());
        match there {
            true => Ok(()),
            false => Err(Error::usage(format!("the plan has no step {at}"))
                .hint(format!("it has {}: see --plan", counted(self.steps.len() as u64, "step")))),
        }
    }

    /// Everything from a place on.
    pub fn actions_from(&self, from: Position) -> impl Iterator<Item = (Position, &Action)> {
        let numbered = self.steps.iter().zip(1..).flat_map(|(step, n)| {
            step.actions.iter().zip(1..).map(move |(action, m)| (Position { step: n, action: m }, action))
        });
        numbered.filter(move |(at, _)| *at >= from)
    }
}

/// Finds a set, by `NAME@ID` or the newest run of a name, and how it is brought back.
///
/// # Errors
/// There is no such set; an archive of it does not open, or was not sealed as part of it.
pub async fn plan(name: &str, open: &OpenRequest, ui: &Reporter) -> Result<RestorePlan> {
    let store = Arc::new(open.store.open(ui)?);
    let (set, run) = which(&store, name).await?;
    let mut secrets = Secrets::new(open);
    let archives = sealed_archives(&store, &set, &run, &mut secrets).await?;
    if archives.is_empty() {
        return Err(Error::new(Kind::NotFound, format!("set {set} has no archive at {}", store.name))
            .hint("see `sealift list --sets`"));
    }
    let incomplete = (!run.is_complete()).then(|| run.state());
    if let Some(state) = &incomplete {
        ui.warn(&format!("set {set} is not whole: {}", printable(state)));
    }
    Ok(RestorePlan { set, incomplete, steps: steps(&archives), open: secrets.request() })
}

/// What the catalogs of a set's archives say.
async fn sealed_archives(
    store: &Arc<Store>,
    set: &SetRef,
    run: &SetRun,
    secrets: &mut Secrets<'_>,
) -> Result<Vec<SealedArchive>> {
    let mut archives = Vec::new();
    for (job, id) in in_order(run) {
        let manifest = store.manifest(job, id).await?;
        let found = StoredArchive { store: Arc::clone(store), job: job.clone(), id: id.clone(), manifest };
        let passphrase = secrets.of(&found)?;
        let is_clear = passphrase.is_none();
        let opened = found.open(passphrase).await?;
        let record = &opened.contents().archive;
        // The manifest is anybody's: what belongs to the set is what was sealed so.
        if record.set.as_deref() != Some(set.to_string().as_str()) {
            return Err(Error::damaged(format!("{} was not sealed as part of set {set}", found.name())));
        }
        let (name, source) = (found.name(), record.source.clone());
        archives.push(SealedArchive { name, job: found.job, source, is_clear });
    }
    Ok(archives)
}

/// A run's archives in the order of the set. Of one that was broken off, and of archives that it does not name, in the
/// order in which they were made.
pub(super) fn in_order(run: &SetRun) -> Vec<&(String, Id)> {
    let members = run.ended.iter().flatten().flat_map(|manifest| &manifest.members);
    let places: Vec<_> = members.map(|member| (&member.job, member.id.as_ref())).collect();
    let place = |(job, id): &(String, Id)| {
        let found = places.iter().position(|place| *place == (job, Some(id)));
        (found.unwrap_or(usize::MAX), id.clone())
    };
    let mut archives: Vec<_> = run.archives.iter().collect();
    archives.sort_by_key(|archive| place(archive));
    archives
}

/// The newest run of a name, or the one that is named as archives are behind their job.
pub(super) async fn which(store: &Store, text: &str) -> Result<(SetRef, SetRun)> {
    let ArchiveRef { job: name, version } = text.parse()?;
    let mut runs = store.set_runs().await?;
    runs.retain(|set, _| set.name == name);
    let ids: Vec<_> = runs.keys().map(|set| set.id.clone()).collect();
    let none = || {
        Error::new(Kind::NotFound, format!("there is no set {text} at {}", store.name))
            .hint("see `sealift list --sets`")
    };
    if ids.is_empty() {
        return Err(none());
    }
    let id = version.pick(Owner::Set(&name), &ids)?;
    runs.remove_entry(&SetRef { name, id }).ok_or_else(none)
}

/// The presets' own steps, then one for each other archive: none is passed over.
fn steps(archives: &[SealedArchive]) -> Vec<Step> {
    let mut steps = restore_steps(archives);
    let named: BTreeSet<_> = steps.iter().flat_map(|step| &step.actions).filter_map(restored).collect();
    let others: Vec<_> = archives.iter().filter(|archive| !named.contains(&archive.name)).collect();
    steps.extend(others.into_iter().map(|archive| {
        let title = format!("{}: {}", archive.job, in_words(&archive.source));
        let title =
            if archive.metadata().is_some() { format!("{title}: no step above needs it") } else { title };
        Step { title, on_condition: false, actions: actions(archive) }
    }));
    steps
}

/// The archive that an action brings back.
fn restored(action: &Action) -> Option<String> {
    match action {
        Action::Restore { archive, .. } => Some(archive.clone()),
        _ => None,
    }
}

/// What brings an archive of another source back.
fn actions(archive: &SealedArchive) -> Vec<Action> {
    // What a source's record does not hold is none of its names.
    let names = |kind: &str| -> Vec<&str> {
        archive.source[kind].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    };
    match &names("volume")[..] {
        [] => {}
        [volume] => return vec![archive.restore(&["--to-volume", volume])],
        _ => return vec![archive.restore(&["--to-volumes"])],
    }
    if archive.source["image"].is_array() {
        return vec![archive.restore(&["--to-image"])];
    }
    if archive.source["path"].is_array() {
        let place = printable(&place_of(archive));
        let whose = names("path").into_iter().map(quoted).collect::<Vec<_>>().join(" ");
        return vec![
            Action::Shell(format!("mkdir -p {}", quoted(&place))),
            archive.restore(&["--to-path", &place]),
            Action::Note(format!("# look at what is there, then put it where it belongs: {whose}")),
        ];
    }
    let file = quoted(&place_of(archive));
    vec![
        Action::Shell("mkdir -p restored".into()),
        Action::Note(
            "# or in place of > FILE: | COMMAND; or --to-run or --to-exec: see `sealift restore --help`"
                .into(),
        ),
        archive.restore_by_hand(format!("--to-stdout > {file}")),
    ]
}

/// Where what is of this host goes.
fn place_of(archive: &SealedArchive) -> String {
    format!("restored/{}", archive.file_name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::set::{Member, SetManifest};
    use serde_json::json;

    fn sealed(job: &str, source: Value) -> SealedArchive {
        SealedArchive { name: format!("{job}@id"), job: job.into(), source, is_clear: false }
    }

    /// The lines, each restore by where it leads.
    fn lines(source: Value) -> Vec<String> {
        let of = |action| match action {
            Action::Restore { to, .. } => to.to_string(),
            other => other.line(""),
        };
        actions(&sealed("team/db", source)).into_iter().map(of).collect()
    }

    #[test]
    fn an_archive_of_no_preset_goes_back_where_it_came_from() {
        assert_eq!(lines(json!({"volume": ["my db"]})), ["--to-volume 'my db'"]);
        assert_eq!(lines(json!({"volume": ["my db", "$(id)"]})), ["--to-volumes"]);
        assert_eq!(lines(json!({"image": ["a", "b"]})), ["--to-image"]);
        assert_eq!(
            lines(json!({"path": ["/etc", "my dir\n"]})),
            [
                "mkdir -p restored/team+db",
                "--to-path restored/team+db",
                r"# look at what is there, then put it where it belongs: /etc 'my dir\n'",
            ]
        );
    }

    #[test]
    fn where_a_stream_belongs_only_a_person_knows() {
        for source in
            [json!({"stdin": {}}), json!({"exec": {}}), json!({"volume": []}), json!({"command": ["x"]})]
        {
            assert_eq!(lines(source.clone())[2], "--to-stdout > restored/team+db", "{source}");
            assert!(actions(&sealed("db", source.clone()))[2].is_by_hand(), "{source}");
        }
    }

    #[test]
    fn every_line_is_one_that_a_shell_reads() {
        for source in
            [json!({"volume": ["a b", "c;d"]}), json!({"path": ["x"]}), json!({"run": {"image": "it's"}})]
        {
            for line in lines(source) {
                let checked = crate::host::process::shell(&format!("set -n; : {line}")).output().unwrap();
                assert!(checked.status.success() && checked.stderr.is_empty(), "{line}");
            }
        }
    }

    #[test]
    fn a_sets_archives_come_in_the_sets_order() {
        let id = |n: u32| -> Id { format!("20261122T02000{n}Z-1f2e3d4c").parse().unwrap() };
        let archives =
            vec![("a".to_string(), id(3)), ("b".into(), id(1)), ("c".into(), id(2)), ("d".into(), id(0))];
        let jobs = |run: &SetRun| in_order(run).iter().map(|(job, _)| job.clone()).collect::<String>();
        let member = |job: &str, n| Member { id: Some(id(n)), ..Member::without(job.into(), "done") };
        let manifest = SetManifest {
            format: 1,
            set: "s".into(),
            id: id(0),
            started: "2026-11-22T02:00:00Z".parse().unwrap(),
            finished: "2026-11-22T02:00:09Z".parse().unwrap(),
            complete: true,
            members: vec![member("c", 2), member("a", 3), member("b", 1)],
            tool: "test".into(),
        };
        // `d` is none of the members that the manifest names.
        assert_eq!(jobs(&SetRun { ended: Some(Ok(manifest)), archives: archives.clone() }), "cabd");
        assert_eq!(jobs(&SetRun { ended: None, archives }), "dbca");
    }

    #[test]
    fn every_archive_has_a_step_and_those_of_presets_come_first() {
        let (db, ucp) =
            (sealed("db", json!({"volume": ["db"]})), sealed("ucp", json!({"ucp": {"version": "3"}})));
        let steps = steps(&[db.clone(), ucp]);
        assert_eq!(steps.len(), 2);
        assert!(steps[0].title.starts_with("UCP 3: "), "{steps:?}");
        assert_eq!(steps[1].title, "db: volume db");
        assert_eq!(steps[1].actions, [db.restore(&["--to-volume", "db"])]);
        assert!(steps[0].on_condition && !steps[1].on_condition);
    }

    #[test]
    fn no_archive_is_passed_over() {
        // A key without its swarm, and half of something that a later version may know.
        let key = sealed("key", json!({"unlock_key": {}, "swarm_unlock_key": {"cluster": "c"}}));
        let part = sealed("dtr", json!({"dtr": {"part": "chunks"}}));
        let steps = steps(&[key, part]);
        let named: Vec<_> = steps.iter().flat_map(|step| &step.actions).filter_map(restored).collect();
        assert_eq!(named, ["key@id", "dtr@id"], "{steps:?}");
        assert!(steps[1].title.ends_with(": no step above needs it"), "{steps:?}");
    }

    #[test]
    fn a_place_in_a_plan_is_read_as_it_is_shown() {
        for (text, step, action) in [("1", 1, 1), ("2.3", 2, 3)] {
            let at: Position = text.parse().unwrap();
            assert_eq!((at, at.to_string().as_str()), (Position { step, action }, text));
        }
        for bad in ["", "0", "1.0", "x", "1.", "-1", "1.2.3"] {
            assert_eq!(bad.parse::<Position>().unwrap_err().kind(), Kind::Usage, "{bad}");
        }
    }
}
