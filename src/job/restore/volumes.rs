//! Of an archive of volumes, those that are restored: one, under its own name or another, or all of them.

use std::collections::BTreeSet;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{Plan, RestoreRequest, RestoreTarget, dry_run, outside};
use crate::error::{Error, Result};
use crate::job::open_archive::OpenArchive;
use crate::job::stored::{ArchiveRef, StoredArchive};
use crate::job::{Outcome, until};
use crate::report::{Reporter, printable, quoted};
use crate::sink::target;
use crate::tar::gnu::is_volume_path;

/// A volume as it lies in an archive.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Original {
    name: String,
    /// Whether other volumes lie beside it.
    pub(super) has_others: bool,
}

impl Original {
    /// Which volume of an archive, of which this is the source, goes into the one that is restored to; none where none is.
    pub(super) fn of(request: &RestoreRequest, source: &Value) -> Result<Option<Original>> {
        let RestoreTarget::Volume(target) = &request.target else { return Ok(None) };
        let volumes = names(source)?;
        let name = match (&request.from_volume, &volumes[..]) {
            (Some(wanted), _) => volumes.iter().find(|volume| *volume == wanted).ok_or_else(|| {
                Error::usage(format!("this archive holds no volume {}", printable(wanted)))
                    .hint(format!("it holds {}", listed(&volumes)))
            })?,
            (None, [only]) => only,
            (None, _) => volumes.iter().find(|volume| *volume == target).ok_or_else(|| {
                Error::usage(format!("this archive holds the volumes {}", listed(&volumes))).hint(format!(
                    "say which of them: --to-volume {} --from-volume {}; all under their own names: --to-volumes",
                    quoted(target),
                    quoted(&volumes[0])
                ))
            })?,
        };
        Ok(Some(Original { name: name.clone(), has_others: volumes.len() > 1 }))
    }

    /// Its name.
    pub(super) fn name(&self) -> String {
        self.name.clone()
    }

    /// Below what name its files lie.
    pub(super) fn folder(&self) -> String {
        format!("{}/_data", self.name)
    }

    /// Demands that members, of whose names these are the first two parts, are its own: other volumes lie beside the one
    /// restored to, and no member may reach them.
    pub(super) fn alone(&self, roots: &BTreeSet<String>) -> Result<()> {
        let own = self.folder();
        match roots.iter().find(|root| **root != own && **root != self.name) {
            Some(other) => Err(outside(&own, other)),
            None => Ok(()),
        }
    }
}

/// The volumes of an archive of which this is the source.
fn names(source: &Value) -> Result<Vec<String>> {
    let names = source["volume"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut volumes: Vec<String> = Vec::new();
    names.for_each(|name| volumes.extend((!volumes.iter().any(|known| known == name)).then(|| name.into())));
    if volumes.is_empty() { Err(of_none()) } else { Ok(volumes) }
}

/// It is of something else.
pub(super) fn of_none() -> Error {
    Error::usage("this is no archive of a volume").hint("unpack it --to-path DIR")
}

fn listed(volumes: &[String]) -> String {
    printable(&volumes.join(", "))
}

/// Restores every volume of an archive under its own name, one after the other, once all of them were looked at: what the
/// archive has for them, and that they are empty.
pub(super) async fn restore_all(
    archive: &ArchiveRef,
    request: &RestoreRequest,
    ui: &Reporter,
    cancel: &CancellationToken,
) -> Result<Outcome> {
    let looked_at = async {
        let plans = plans(archive, request, ui).await?;
        let volumes: Vec<_> = plans.iter().map(|(volume, _)| volume.clone()).collect();
        if !request.overwrite && !request.dry_run {
            target::are_empty(&volumes, ui).await?;
        }
        Ok((volumes, plans))
    };
    let (volumes, plans) = until(cancel, looked_at).await?;
    let mut outcome = Outcome::Done;
    for (at, (volume, plan)) in plans.into_iter().enumerate() {
        let of_one = RestoreRequest { target: RestoreTarget::Volume(volume), ..request.clone() };
        let ended = match request.dry_run {
            true => dry_run::tell(&plan, &of_one, ui).await,
            false => plan.carry_out(of_one, ui, cancel).await,
        };
        match ended {
            Ok(Outcome::Done) => {}
            Ok(warned) => outcome = warned,
            Err(error) if request.dry_run => return Err(error),
            Err(error) => return Err(error.and_hint(how_far(&volumes, at))),
        }
    }
    Ok(outcome)
}

/// What is to be done for each volume.
async fn plans(archive: &ArchiveRef, request: &RestoreRequest, ui: &Reporter) -> Result<Vec<(String, Plan)>> {
    let found = StoredArchive::find(&request.open.store, archive, ui).await?;
    let passphrase = found.passphrase(&request.open)?;
    let opened = OpenArchive::open(&found, passphrase.as_ref()).await?;
    let mut plans = Vec::new();
    for volume in names(&opened.record().source)? {
        if !is_volume_name(&volume) {
            return Err(Error::refused(format!("{} is no name of a volume", printable(&volume)))
                .hint("restore --to-path and look at what the archive holds"));
        }
        let of_one = RestoreRequest { target: RestoreTarget::Volume(volume.clone()), ..request.clone() };
        let plan = Plan::of(&found, passphrase.as_ref(), &of_one, ui).await;
        plans.push((volume.clone(), plan.map_err(|error| error.context(format!("volume {volume}")))?));
    }
    Ok(plans)
}

/// As the engine wants it: nothing that could be taken for another path.
fn is_volume_name(name: &str) -> bool {
    is_volume_path(name) && !name.contains('/') && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// What became of volumes when the one at `at` failed, and how to go on.
fn how_far(volumes: &[String], at: usize) -> String {
    let (done, rest) = volumes.split_at(at);
    let (failed, left) = rest.split_first().map_or(("", rest), |(failed, left)| (failed, left));
    let mut parts =
        vec![format!("volume {failed} is not complete: restore it again --to-volume {failed} --overwrite")];
    if !done.is_empty() {
        parts.insert(0, format!("restored: {}", done.join(", ")));
    }
    if !left.is_empty() {
        parts.push(format!("not begun: {}; restore each --to-volume", left.join(", ")));
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::host::passphrase::Sources;
    use crate::job::restore::RestoreSource;
    use crate::job::stored::OpenRequest;
    use crate::store::StoreUrl;
    use serde_json::json;

    fn original(target: &str, from: Option<&str>, source: Value) -> Result<Option<Original>> {
        let store = StoreUrl::new("memory:///x");
        let open = OpenRequest { store, passphrase: Sources::default(), no_encrypt: false };
        let archive = RestoreSource::Archive("db".parse().unwrap());
        let request = RestoreRequest {
            from_volume: from.map(String::from),
            ..RestoreRequest::new(archive, RestoreTarget::Volume(target.into()), open)
        };
        Original::of(&request, &source)
    }

    fn named(target: &str, from: Option<&str>, source: Value) -> (String, bool) {
        let original = original(target, from, source).unwrap().unwrap();
        (original.name, original.has_others)
    }

    #[test]
    fn an_archive_of_one_volume_says_its_name() {
        assert_eq!(named("v", None, json!({"volume": ["w"]})), ("w".into(), false));
        assert_eq!(named("v", Some("w"), json!({"volume": ["w", "w"]})), ("w".into(), false));
        for source in [json!({}), json!({"path": ["/etc"]}), json!({"volume": []})] {
            assert_eq!(original("v", None, source.clone()).unwrap_err().kind(), Kind::Usage, "{source}");
        }
    }

    #[test]
    fn of_several_volumes_the_one_of_that_name_is_meant_unless_another_is_said() {
        let source = || json!({"volume": ["a", "b", "a.b"]});
        assert_eq!(named("b", None, source()), ("b".into(), true));
        assert_eq!(named("b", Some("a.b"), source()), ("a.b".into(), true));
        assert_eq!(named("new", Some("a"), source()), ("a".into(), true));
    }

    #[test]
    fn which_of_several_volumes_is_meant_must_be_said() {
        let source = || json!({"volume": ["my data", "logs"]});
        let error = original("new", None, source()).unwrap_err();
        assert!(error.to_string().contains("holds the volumes my data, logs"), "{error}");
        let hint = error.hint_text().unwrap();
        assert!(hint.contains("--to-volume new --from-volume 'my data'"), "{hint}");
        let error = original("new", Some("other"), source()).unwrap_err();
        assert!(error.to_string().contains("no volume other"), "{error}");
        assert!(error.hint_text().unwrap().contains("my data, logs"), "{error}");
    }

    #[test]
    fn a_volume_is_restored_alone() {
        let roots = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        let volume = Original { name: "vol".into(), has_others: false };
        assert!(volume.alone(&roots(&["vol", "vol/_data"])).is_ok());
        for other in ["other/_data", "vol/_datax", "vol/opts.json", "./vol"] {
            let error = volume.alone(&roots(&["vol/_data", other])).unwrap_err();
            assert_eq!(error.kind(), Kind::Refused, "{other}");
        }
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_no_volumes() {
        assert!(["a", "0", "my.vol_1-x"].into_iter().all(is_volume_name));
        assert!(!["", ".", "..", "../a", "a/b", "-a", "a b", "a\n"].into_iter().any(is_volume_name));
    }

    #[test]
    fn how_far_it_came_is_said() {
        let volumes = ["a", "b", "c"].map(String::from);
        let again = |volume: &str| {
            format!("volume {volume} is not complete: restore it again --to-volume {volume} --overwrite")
        };
        assert_eq!(
            how_far(&volumes, 0),
            format!("{}; not begun: b, c; restore each --to-volume", again("a"))
        );
        let second = format!("restored: a; {}; not begun: c; restore each --to-volume", again("b"));
        assert_eq!(how_far(&volumes, 1), second);
        assert_eq!(how_far(&volumes, 2), format!("restored: a, b; {}", again("c")));
    }
}
