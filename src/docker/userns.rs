//! User namespaces: which ids of the engine's host stand for those of its containers.

use std::path::Path;

use bollard::models::SystemInfo;

use super::Engine;
use crate::error::{Context, Error, Result};
use crate::tar::owners::{IdMap, IdRange};

/// Where ranges of ids are given to users, and to groups: `NAME:FIRST:COUNT`.
const RANGES: [&str; 2] = ["/etc/subuid", "/etc/subgid"];

impl Engine {
    /// How the engine maps ids of containers to those that the files of its volumes have on its host (`userns-remap`).
    ///
    /// Its archive API hands out files with the host's ids, and takes them with the containers' (moby#43698): what came
    /// out of it does not fit back in. A rootless engine is in its namespace itself, and does neither.
    ///
    /// # Errors
    /// The engine does not answer, or does not say what it maps to.
    pub async fn id_map(&self) -> Result<IdMap> {
        let info = self.docker.info().await.context(|| "cannot ask the engine about itself".into())?;
        if !has_option(&info, "userns") {
            return Ok(IdMap::default());
        }
        let root = info.docker_root_dir.unwrap_or_default();
        let map = of_root(Path::new(&root)).ok_or_else(|| {
            Error::failed("the engine remaps users (userns-remap), but does not say to which ids")
                .because(format!("its data folder {root} does not end with UID.GID"))
        })?;
        Ok(if self.local {
            with_counts(map, RANGES.map(|path| std::fs::read_to_string(path).ok()))
        } else {
            map
        })
    }
}

/// Whether a security option is on: `name=userns`, or `userns` alone with old engines.
pub(super) fn has_option(info: &SystemInfo, name: &str) -> bool {
    let options = info.security_options.iter().flatten();
    let mut parts = options.flat_map(|option| option.split(','));
    parts.any(|part| part.strip_prefix("name=").unwrap_or(part) == name)
}

/// The engine keeps what belongs to a map in a folder of that name: `/var/lib/docker/300000.300000`.
fn of_root(root: &Path) -> Option<IdMap> {
    let (uid, gid) = root.file_name()?.to_str()?.split_once('.')?;
    let range = |first: &str| Some(IdRange { first: first.parse().ok()?, count: None });
    Some(IdMap { uid: range(uid)?, gid: range(gid)? })
}

/// How long the ranges are, where the host's files say it.
fn with_counts(map: IdMap, [users, groups]: [Option<String>; 2]) -> IdMap {
    let counted = |range: IdRange, ranges: Option<String>| IdRange {
        count: ranges.and_then(|ranges| count(&ranges, range.first)),
        ..range
    };
    IdMap { uid: counted(map.uid, users), gid: counted(map.gid, groups) }
}

/// The length of the one range that begins there. Who has several has them as one in containers, in an order of the
/// engine's own: then it is not known.
fn count(ranges: &str, first: u32) -> Option<u32> {
    let ranges: Vec<(&str, u32, u32)> = ranges
        .lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            Some((fields.next()?, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        })
        .collect();
    let mut found = ranges.iter().filter(|(_, begin, _)| *begin == first);
    let (owner, _, count) = found.next()?;
    let alone = ranges.iter().filter(|(name, ..)| name == owner).count() == 1 && found.next().is_none();
    alone.then_some(*count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(first: u32, counts: [Option<u32>; 2]) -> IdMap {
        let [uid, gid] = counts.map(|count| IdRange { first, count });
        IdMap { uid, gid }
    }

    #[test]
    fn the_engines_data_folder_says_what_it_maps_to() {
        let of = |root: &str| of_root(Path::new(root));
        assert_eq!(of("/var/lib/docker/300000.300000"), Some(map(300_000, [None; 2])));
        let two = of("/var/lib/docker/231072.100000").unwrap();
        assert_eq!((two.uid.first, two.gid.first), (231_072, 100_000));
        for root in ["/var/lib/docker", "/var/lib/docker.old", "/", "", "/var/lib/docker/1.x", "/d/-1.5"] {
            assert_eq!(of(root), None, "{root}");
        }
    }

    #[test]
    fn an_option_is_known_in_the_forms_of_old_and_new_engines() {
        let info = |options: &[&str]| SystemInfo {
            security_options: Some(options.iter().map(|option| option.to_string()).collect()),
            ..SystemInfo::default()
        };
        assert!(has_option(&info(&["name=seccomp,profile=default", "name=userns"]), "userns"));
        assert!(has_option(&info(&["seccomp", "userns"]), "userns"));
        assert!(!has_option(&info(&["name=seccomp,profile=userns-like", "name=rootless"]), "userns"));
        assert!(!has_option(&SystemInfo::default(), "userns"));
    }

    #[test]
    fn a_range_is_as_long_as_the_hosts_files_say() {
        let users = "lisa:100000:65536\ndockremap:300000:65536\n";
        let groups = "dockremap:300000:1000\n";
        let both = [users, groups].map(|text| Some(text.into()));
        assert_eq!(with_counts(map(300_000, [None; 2]), both), map(300_000, [Some(65_536), Some(1000)]));
        let none = [None, Some("x:1:y\n\nnonsense".into())];
        assert_eq!(with_counts(map(300_000, [None; 2]), none), map(300_000, [None; 2]));
    }

    #[test]
    fn of_several_ranges_none_is_believed_to_be_all() {
        assert_eq!(count("d:300000:65536\nd:500000:65536\n", 300_000), None);
        assert_eq!(count("d:300000:65536\ne:300000:10\n", 300_000), None);
    }
}
