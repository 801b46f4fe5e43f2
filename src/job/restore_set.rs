//! The steps that bring a set back, in order, as the sealed catalogs of its archives tell them.

use std::sync::Arc;

use serde_json::Value;

use super::stored::OpenRequest;
use super::stored::{Secrets, StoredArchive};
use crate::error::{Error, Kind, Result};
use crate::preset::steps::quoted;
use crate::preset::{SealedArchive, Step, restore_steps};
use crate::report::{Reporter, printable};
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
    let store = Arc::new(open.store.open()?);
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
    for (job, id) in &run.archives {
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

/// `NAME@ID`, or the newest run of that name.
async fn which(store: &Store, text: &str) -> Result<(SetRef, SetRun)> {
    let wanted: Option<SetRef> = if text.contains('@') { Some(text.parse()?) } else { None };
    let runs = store.set_runs().await?.into_iter();
    let mut fitting: Vec<_> =
        runs.filter(|(set, _)| wanted.as_ref().map_or(set.name == text, |wanted| set == wanted)).collect();
    fitting.pop().ok_or_else(|| {
        Error::new(Kind::NotFound, format!("there is no set {text} at {}", store.name))
            .hint("see `sealift list --sets`")
    })
}

/// The presets' own steps, then one for each other archive.
fn steps(archives: &[SealedArchive]) -> Vec<Step> {
    let mut steps = restore_steps(archives);
    let others = archives.iter().filter(|archive| archive.metadata().is_none());
    steps.extend(others.map(|archive| Step {
        title: format!("{}: {}", archive.job, archive.source),
        actions: vec![archive.restore(target(&archive.source))],
    }));
    steps
}

/// Where an archive of another source goes back to.
fn target(source: &Value) -> String {
    match (&source["volume"], &source["image"]) {
        (Value::Array(names), _) if names.len() == 1 => {
            format!("--to-volume {}", quoted(names[0].as_str().unwrap_or_default()))
        }
        (_, Value::Array(_)) => "--to-image".into(),
        _ => "--to-stdout   # or --to-path, --to-run, --to-exec: see `sealift restore --help`".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sealed(job: &str, source: Value) -> SealedArchive {
        SealedArchive { name: format!("{job}@id"), job: job.into(), source, is_clear: false }
    }

    #[test]
    fn an_archive_of_no_preset_goes_back_where_it_came_from() {
        assert_eq!(target(&json!({"volume": ["my db"]})), "--to-volume 'my db'");
        assert_eq!(target(&json!({"image": ["a", "b"]})), "--to-image");
        for source in [json!({"volume": ["a", "b"]}), json!({"stdin": {}}), json!({"exec": {}})] {
            assert!(target(&source).starts_with("--to-stdout   # or --to-path"), "{source}");
        }
    }

    #[test]
    fn every_archive_has_a_step_and_those_of_presets_come_first() {
        let (db, ucp) =
            (sealed("db", json!({"volume": ["db"]})), sealed("ucp", json!({"ucp": {"version": "3"}})));
        let steps = steps(&[db.clone(), ucp]);
        assert_eq!(steps.len(), 2);
        assert!(steps[0].title.starts_with("UCP 3: "), "{steps:?}");
        assert_eq!(steps[1].title, r#"db: {"volume":["db"]}"#);
        assert_eq!(steps[1].actions, [db.restore("--to-volume db")]);
    }
}
