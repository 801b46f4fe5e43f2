//! The steps that bring a set back, in order, as the sealed catalogs of its archives tell them.

use std::sync::Arc;

use serde_json::Value;

use super::stored::{ArchiveRef, OpenRequest, Secrets, StoredArchive};
use super::version::Owner;
use crate::archive::Id;
use crate::error::{Error, Kind, Result};
use crate::preset::steps::{Action, quoted};
use crate::preset::{SealedArchive, Step, restore_steps};
use crate::report::{Reporter, printable};
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
}

/// Finds a set, by `NAME@ID` or the newest run of a name, and how it is brought back.
///
/// # Errors
/// There is no such set; an archive of it does not open, or was not sealed as part of it.
pub async fn plan(name: &str, open: &OpenRequest, ui: &Reporter) -> Result<RestorePlan> {
    let store = Arc::new(open.store.open(ui)?);
    let (set, run) = which(&store, name).await?;
    let archives = sealed_archives(&store, &set, &run, open).await?;
    if archives.is_empty() {
        return Err(Error::new(Kind::NotFound, format!("set {set} has no archive at {}", store.name))
            .hint("see `sealift list --sets`"));
    }
    let incomplete = (!run.is_complete()).then(|| run.state());
    if let Some(state) = &incomplete {
        ui.warn(&format!("set {set} is not whole: {}", printable(state)));
    }
    Ok(RestorePlan { set, incomplete, steps: steps(&archives) })
}

/// What the catalogs of a set's archives say.
async fn sealed_archives(
    store: &Arc<Store>,
    set: &SetRef,
    run: &SetRun,
    open: &OpenRequest,
) -> Result<Vec<SealedArchive>> {
    let mut secrets = Secrets::new(open);
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

/// The presets' own steps, then one for each other archive.
fn steps(archives: &[SealedArchive]) -> Vec<Step> {
    let mut steps = restore_steps(archives);
    let others = archives.iter().filter(|archive| archive.metadata().is_none());
    steps.extend(others.map(|archive| Step {
        title: format!("{}: {}", archive.job, in_words(&archive.source)),
        actions: actions(archive),
    }));
    steps
}

/// What brings an archive of another source back: lines that a shell takes as they are.
fn actions(archive: &SealedArchive) -> Vec<Action> {
    // What a source's record does not hold is none of its names.
    let names = |kind: &str| -> Vec<String> {
        let names = archive.source[kind].as_array().into_iter().flatten();
        names.filter_map(Value::as_str).map(quoted).collect()
    };
    let volumes = names("volume");
    if let [volume] = &volumes[..] {
        return vec![archive.restore(format!("--to-volume {volume}"))];
    }
    if !volumes.is_empty() {
        let create = volumes.iter().map(|volume| Action::Shell(format!("docker volume create {volume}")));
        let unpack =
            "--to-stdout | tar -x --numeric-owner -C \"$(docker info -f '{{.DockerRootDir}}')/volumes\"";
        return create.chain([archive.restore(unpack)]).collect();
    }
    if archive.source["image"].is_array() {
        return vec![archive.restore("--to-image")];
    }
    let place = quoted(&format!("restored/{}", archive.job));
    match archive.source["path"].is_array() {
        true => {
            let look = "# look at what is there, then put it where it belongs";
            vec![
                Action::Shell(format!("mkdir -p {place}")),
                archive.restore(format!("--to-path {place}")),
                Action::Shell(look.into()),
            ]
        }
        false => {
            let file = quoted(&format!("restored/{}", archive.job.replace('/', "-")));
            vec![
                Action::Shell("mkdir -p restored".into()),
                archive.restore(format!("--to-stdout > {file}")),
                Action::Shell("# or in place of > FILE: | COMMAND; or --to-run or --to-exec: see `sealift restore --help`".into()),
            ]
        }
    }
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
            Action::Shell(line) => line,
            Action::Restore { target, .. } => target,
        };
        actions(&sealed("team/db", source)).into_iter().map(of).collect()
    }

    #[test]
    fn an_archive_of_no_preset_goes_back_where_it_came_from() {
        assert_eq!(lines(json!({"volume": ["my db"]})), ["--to-volume 'my db'"]);
        assert_eq!(lines(json!({"image": ["a", "b"]})), ["--to-image"]);
        assert_eq!(
            lines(json!({"path": ["/etc"]}))[..2],
            ["mkdir -p restored/team/db", "--to-path restored/team/db"]
        );
        for source in [json!({"stdin": {}}), json!({"exec": {}}), json!({"volume": []})] {
            assert_eq!(lines(source.clone())[1], "--to-stdout > restored/team-db", "{source}");
        }
    }

    #[test]
    fn volumes_that_lie_in_one_archive_are_made_before_it_is_unpacked() {
        let lines = lines(json!({"volume": ["my db", "$(id)"]}));
        assert_eq!(lines[..2], ["docker volume create 'my db'", "docker volume create '$(id)'"]);
        assert!(lines[2].starts_with("--to-stdout | tar -x "), "{lines:?}");
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
        assert_eq!(steps[1].actions, [db.restore("--to-volume db")]);
    }
}
