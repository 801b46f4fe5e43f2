//! What GNU tar is told of the folders to back up: each is the one that the operator named, though its name be a link, and
//! what does not belong in a backup of it is left out.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::host::mounts::{self, Mounts};
use crate::tar::exclude::{self, Exclude};

/// Which files of folders and volumes are taken.
#[derive(Debug, Clone, Default)]
pub struct FileFilter {
    /// Files to leave out, by their names in the archive.
    pub exclude: Vec<Exclude>,
    /// Leave out what lies beside a `CACHEDIR.TAG`.
    pub exclude_caches: bool,
    /// Stay on the file system that a folder lies on.
    pub one_file_system: bool,
}

impl FileFilter {
    /// Whether everything is taken.
    pub fn takes_all(&self) -> bool {
        self.exclude.is_empty() && !self.exclude_caches && !self.one_file_system
    }

    /// What the catalog says of it; nothing where everything is taken.
    pub fn describe(&self) -> serde_json::Value {
        if self.takes_all() {
            return serde_json::Value::Null;
        }
        let patterns: Vec<_> = self.exclude.iter().map(Exclude::as_str).collect();
        serde_json::json!({"filter": {
            "exclude": patterns, "exclude_caches": self.exclude_caches, "one_file_system": self.one_file_system,
        }})
    }
}

/// A folder that this very run writes to.
#[derive(Debug, Clone)]
pub struct StoreFolder {
    /// The store, by its one true path.
    pub folder: PathBuf,
    /// The job below it.
    pub job: String,
}

/// How folders are walked.
#[derive(Debug, Clone, Default)]
pub struct Walk {
    /// What the operator leaves out.
    pub filter: FileFilter,
    /// What a backup would otherwise find of itself.
    pub stores: Vec<StoreFolder>,
}

/// Arguments for GNU tar, and what is to be told of them.
#[derive(Debug, Default)]
pub struct Plan {
    /// Options that say what is left out, and under which names the rest is stored.
    pub options: Vec<OsString>,
    /// The folders, as tar walks them.
    pub members: Vec<OsString>,
    /// What the operator should know.
    pub notes: Vec<String>,
    /// What the operator may want to know.
    pub details: Vec<String>,
}

/// Plans the walk of the folders `names`, as seen from `from`.
///
/// # Errors
/// A folder is not there, is left out whole, or is the store itself.
pub fn plan(from: Option<&Path>, names: &[String], walk: &Walk, mounts: &Mounts) -> Result<Plan> {
    let roots = names.iter().enumerate().map(|(number, name)| Root::new(from, name, number));
    let roots: Vec<_> = roots.collect::<Result<_>>()?;
    let (mut plan, mut excluded, mut renames) = (Plan::default(), Vec::new(), Vec::new());
    for root in &roots {
        for pattern in &walk.filter.exclude {
            if pattern.takes(&root.name) {
                return Err(Error::usage(format!("{:?} leaves all of {} out", pattern.as_str(), root.named))
                    .hint("do not name it, or leave out less"));
            }
            excluded.extend(pattern.below(&root.name, root.walked.as_bytes()));
        }
        for store in &walk.stores {
            for path in root.own_store(store, mounts)? {
                plan.notes.push(format!("{} is where this backup is stored: it is left out", path.display()));
                excluded.extend(root.escaped(&path));
            }
        }
        for point in mounts.kernel_below(&root.real) {
            plan.details.push(format!("{} is the kernel's own: what is in it is left out", point.display()));
            // The folder itself is somewhere to mount it on.
            excluded.extend(root.escaped(&point).map(|path| [&path[..], b"/*"].concat()));
        }
        renames.extend(root.rename.clone());
    }
    plan.options.extend(exclude::MATCHING.map(OsString::from));
    plan.options.extend(excluded.into_iter().map(|pattern| option("--exclude=", pattern)));
    plan.options.extend(walk.filter.exclude_caches.then(|| "--exclude-caches".into()));
    plan.options.extend(walk.filter.one_file_system.then(|| "--one-file-system".into()));
    // One after the other is applied: what is cut out of all names comes after what means one as it was walked.
    renames.sort_by_key(|rename| rename == WITHOUT_DOT);
    renames.dedup();
    plan.options.extend(renames);
    plan.members = roots.into_iter().map(|root| root.walked).collect();
    Ok(plan)
}

fn option(name: &str, value: Vec<u8>) -> OsString {
    OsString::from_vec([name.as_bytes(), &value].concat())
}

/// Names lose the `/.` by which tar was led through a link; neither targets of symlinks do, nor names in which it is no
/// whole part.
const WITHOUT_DOT: &str = "--transform=s,/\\.\\(/\\|$\\),\\1,rhS";

/// A folder to be backed up.
#[derive(Debug)]
struct Root {
    /// As the operator names it.
    named: String,
    /// By which path tar goes there.
    walked: OsString,
    /// Its name in the archive, without a slash at its ends; empty where that is the archive's own root.
    name: Vec<u8>,
    /// Its path without any link.
    real: PathBuf,
    /// What gives its members the name by which it was named.
    rename: Option<OsString>,
}

impl Root {
    fn new(from: Option<&Path>, named: &str, number: usize) -> Result<Root> {
        let walked = clean(named);
        let path = from.map_or_else(|| PathBuf::from(&walked), |from| from.join(&walked));
        let looked = std::fs::symlink_metadata(&path)
            .and_then(|own| Ok((own.is_symlink(), std::fs::metadata(&path)?, path.canonicalize()?)));
        let (is_link, data, real) = looked.map_err(|e| {
            Error::failed(format!("cannot read {named}"))
                .because(e)
                .hint("name a folder that exists on this host; for a volume use `backup volume`")
        })?;
        let name = stored_name(&walked);
        let (walked, rename) = match (is_link, data.is_dir()) {
            (false, _) => (walked.into(), None),
            (true, true) => (format!("{walked}/.").into(), Some(WITHOUT_DOT.into())),
            (true, false) => linked_file(&real, &name, number),
        };
        Ok(Root { named: named.into(), walked, name, real, rename })
    }

    /// The pattern for GNU tar that means a path below this folder; none for another.
    fn escaped(&self, path: &Path) -> Option<Vec<u8>> {
        let below = path.strip_prefix(&self.real).ok()?;
        let walked = Path::new(OsStr::from_bytes(self.walked.as_bytes())).join("x");
        // `join` knows whether a slash is missing.
        let folder = &walked.as_os_str().as_bytes()[..walked.as_os_str().len() - 1];
        Some([exclude::escape(folder), exclude::escape(mounts::bytes(below))].concat())
    }

    /// The paths below this folder at which the backup would find itself.
    fn own_store(&self, store: &StoreFolder, mounts: &Mounts) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for folder in mounts.paths_of(&store.folder) {
            let job = folder.join(&store.job);
            if self.real == folder || self.real.starts_with(&job) {
                return Err(Error::usage(format!("{} is where this backup is stored", self.named))
                    .hint("back up to a store elsewhere, or name the folders that are no store"));
            }
            // A store may hold more than archives: only what this run writes is left out then.
            let own = if self.real.starts_with(&folder) { job } else { folder };
            found.extend(own.starts_with(&self.real).then_some(own));
        }
        Ok(found)
    }
}

/// A file behind a link: tar is given the file, by a spelling of its path that no other root and no pattern of one has,
/// and the link's name for it.
fn linked_file(real: &Path, name: &[u8], number: usize) -> (OsString, Option<OsString>) {
    let walked = [&b"/.".repeat(number + 2), mounts::bytes(real)].concat();
    let (mut pattern, mut replacement) = (Vec::new(), Vec::new());
    for &byte in walked.iter().skip_while(|&&byte| byte == b'/') {
        pattern.extend(b".[*^$\\,".contains(&byte).then_some(b'\\'));
        pattern.push(byte);
    }
    for &byte in name {
        replacement.extend(b"&\\,".contains(&byte).then_some(b'\\'));
        replacement.push(byte);
    }
    let rename = [b"s,^/*", &pattern[..], b"$,", &replacement[..], b",rhS"].concat();
    (OsString::from_vec(walked), Some(option("--transform=", rename)))
}

/// A folder's path without parts that mean nothing, so that one place has one spelling.
fn clean(named: &str) -> String {
    let mut parts = named.split('/').filter(|part| !matches!(*part, "" | ".")).collect::<Vec<_>>().join("/");
    if named.starts_with('/') {
        parts.insert(0, '/');
    } else if parts.is_empty() {
        parts.push('.');
    } else if named.starts_with("./") {
        parts.insert_str(0, "./");
    }
    parts
}

/// The name that tar stores: without a leading slash, and without all up to the last `..`.
fn stored_name(walked: &str) -> Vec<u8> {
    let parts = walked.split('/').filter(|part| !matches!(*part, "" | ".")).collect::<Vec<_>>();
    let from = parts.iter().rposition(|part| *part == "..").map_or(0, |at| at + 1);
    parts[from..].join("/").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_has_one_spelling() {
        for (named, cleaned, stored) in [
            ("/etc/", "/etc", "etc"),
            ("//etc//./ssl/.", "/etc/ssl", "etc/ssl"),
            ("./a/", "./a", "a"),
            (".", ".", ""),
            ("./", ".", ""),
            ("/", "/", ""),
            ("../x/../y/z", "../x/../y/z", "y/z"),
            ("a/..b", "a/..b", "a/..b"),
        ] {
            assert_eq!(clean(named), cleaned, "{named}");
            assert_eq!(stored_name(cleaned), stored.as_bytes(), "{named}");
        }
    }

    #[test]
    fn what_is_left_out_stands_in_the_catalog_and_nothing_where_all_is_taken() {
        assert_eq!(FileFilter::default().describe(), serde_json::Value::Null);
        let exclude = vec![Exclude::new("*.log").unwrap()];
        let described = FileFilter { exclude, ..FileFilter::default() }.describe();
        assert_eq!(described["filter"]["exclude"], serde_json::json!(["*.log"]));
    }

    #[test]
    fn a_path_below_a_root_means_itself_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        let store = StoreFolder { folder: real.join("gone"), job: "j".into() };
        let root = Root::new(Some(&real), ".", 0).unwrap();
        assert_eq!(root.own_store(&store, &Mounts::read()).unwrap(), [real.join("gone")]);
        let escaped = root.escaped(&real.join("a*b")).unwrap();
        assert_eq!(String::from_utf8(escaped).unwrap(), "./a\\*b");
    }
}
