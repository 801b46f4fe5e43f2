//! Of which source and host an archive is, and whether the job's newest is of the same.

use crate::archive::Id;
use crate::docker::Engine;
use crate::error::{Error, Result};
use crate::host::name::host_name;
use crate::report::Reporter;
use crate::source::Source;
use crate::store::manifest::Manifest;
use crate::tar::owners::IdMap;

/// Clocks of two hosts that share a job may differ by this much, in seconds.
const SLACK: i64 = 2;

/// Where an archive comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Origin {
    /// The host.
    pub host: Option<String>,
    /// What tells the source from others; none where it is not compared.
    pub source_id: Option<String>,
    /// How the engine of volumes maps the owners of their files.
    pub id_map: Option<IdMap>,
}

impl Origin {
    /// Where a source lies: on the host that the operator named, else on the engine's, else on this one.
    pub(super) async fn of(source: &Source, named: Option<&str>, engine: Option<&Engine>) -> Result<Origin> {
        let host = match (named, engine) {
            (Some(named), _) => Some(named.into()),
            (None, Some(engine)) => engine.host_name().await,
            (None, None) => host_name(),
        };
        let source_id = source.identity(host.as_deref());
        let id_map = match (source, engine) {
            (Source::Volume(_), Some(engine)) => Some(engine.id_map().await?),
            _ => None,
        };
        Ok(Origin { host, source_id, id_map })
    }

    /// Whether a manifest says that its archive is of another source. One without a digest is an older version's, or of
    /// a source that is not compared.
    fn is_another(&self, newest: &Manifest) -> bool {
        self.source_id.is_some() && newest.source_id.is_some() && self.source_id != newest.source_id
    }

    /// Refuses a job whose newest archive is of another source, unless that is accepted.
    pub(super) fn compare(
        &self,
        archive: (&str, &Id),
        store: &str,
        newest: &Manifest,
        is_accepted: bool,
        ui: &Reporter,
    ) -> Result<()> {
        if !self.is_another(newest) {
            return Ok(());
        }
        let error = another_source(archive, store, newest);
        if is_accepted {
            ui.note(&error.to_string());
            return Ok(());
        }
        Err(error)
    }
}

/// The refusal to mix two sources in one job.
fn another_source((job, id): (&str, &Id), store: &str, newest: &Manifest) -> Error {
    let host = newest.host.as_ref().map(|host| format!(" (made on {host:?})")).unwrap_or_default();
    Error::usage(format!("the newest archive of job {job}, {job}@{id} at {store}, is of another source{host}"))
        .hint(
            "give this source a job of its own: --job NAME; if it is the same one at another place, say --warn-ok \
             source, or --host NAME where only the host has another name",
        )
}

/// What is said of a clock that is behind the newest archive's.
pub(super) fn clock_behind(
    started: jiff::Timestamp,
    (job, id): (&str, &Id),
    newest: &Manifest,
) -> Option<String> {
    (newest.started.as_second() > started.as_second() + SLACK).then(|| {
        format!(
            "this host's clock is behind: the newest archive, {job}@{id}, was begun at {}; the new one's id is stepped \
             past it",
            newest.started.strftime("%Y-%m-%d %H:%M:%SZ")
        )
    })
}

/// Reads what the operator calls a host.
///
/// # Errors
/// It is empty, or has characters that a list could not show.
pub fn named_host(name: &str) -> Result<String> {
    let good = !name.is_empty() && name.len() <= 253 && !name.contains(|c: char| c.is_control() || c == ' ');
    match good {
        true => Ok(name.into()),
        false => Err(Error::usage(format!("{name:?} is no host's name")).hint("a name without spaces")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(host: Option<&str>, source_id: Option<&str>) -> Manifest {
        serde_json::from_value(serde_json::json!({
            "format": 1, "id": "20261122T020000Z-1f2e3d4c", "job": "data", "kind": "tar", "suffix": ".tar.zst",
            "started": "2026-11-22T02:00:00Z", "finished": "2026-11-22T02:00:30Z", "bytes": 1, "host": host,
            "archive": {"size": 1, "blake3": "00"}, "catalog": {"size": 1, "blake3": "00"}, "warnings": 0,
            "tool": "test", "source_id": source_id,
        }))
        .unwrap()
    }

    async fn path(dir: &str, host: &str) -> Origin {
        Origin::of(&Source::Path(vec![dir.into()]), Some(host), None).await.unwrap()
    }

    #[tokio::test]
    async fn folders_of_one_name_and_of_two_hosts_are_different_sources() {
        let etc = path("/etc", "a").await;
        let newest = manifest(Some("a"), etc.source_id.as_deref());
        assert!(!etc.is_another(&newest) && !path("/etc/../etc/", "a").await.is_another(&newest));
        assert!(
            path("/etc", "b").await.is_another(&newest) && path("/usr/etc", "a").await.is_another(&newest)
        );
        let id: Id = "20261122T020000Z-1f2e3d4c".parse().unwrap();
        let error = another_source(("data", &id), "memory://x", &newest);
        assert_eq!(error.kind().exit_code(), 2);
        let hint = error.hint_text().unwrap();
        assert!(hint.contains("--job") && hint.contains("--warn-ok source"), "{hint}");
    }

    #[tokio::test]
    async fn what_does_not_say_its_source_is_not_compared() {
        assert!(!path("/etc", "a").await.is_another(&manifest(None, None)));
        let stdin = Origin::of(&Source::Stdin, Some("a"), None).await.unwrap();
        assert_eq!(stdin, Origin { host: Some("a".into()), ..Origin::default() });
        assert!(!stdin.is_another(&manifest(Some("b"), Some("00"))));
    }

    #[test]
    fn a_clock_that_was_set_back_is_told() {
        let id: Id = "20261122T020000Z-1f2e3d4c".parse().unwrap();
        let behind = |now: &str| clock_behind(now.parse().unwrap(), ("data", &id), &manifest(None, None));
        assert!(behind("2026-11-22T01:00:00Z").is_some_and(|text| text.contains("2026-11-22 02:00:00Z")));
        assert_eq!([behind("2026-11-22T02:00:00Z"), behind("2026-11-22T01:59:59Z")], [None, None]);
    }

    #[test]
    fn a_hosts_name_has_no_spaces() {
        assert_eq!(named_host("db1.example").unwrap(), "db1.example");
        for bad in ["", "a b", "a\n"] {
            assert!(named_host(bad).is_err(), "{bad:?}");
        }
    }
}
