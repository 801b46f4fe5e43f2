//! What GNU tar is told of the folders to back up: each is the one that the operator named, though its name be a link, and
//! what does not belong in a backup of it is left out.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::host::mounts::{self, Mounts};
use crate::report::Reporter;
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

/// What is walked and what of it is left out: GNU tar is told as options, or a scanner keeps to it.
#[derive(Debug)]
pub struct Plan {
    /// The folder from which the roots are seen.
    pub from: Option<PathBuf>,
    /// The folders and files, in the order in which they were named.
    pub roots: Vec<Root>,
    /// What the operator leaves out.
    pub filter: FileFilter,
    /// What is left out because of what it is.
    places: Vec<Place>,
    /// What the operator should know.
    notes: Vec<String>,
    /// What the operator may want to know.
    pub details: Vec<String>,
}

/// A place below a root that does not belong in a backup of it.
#[derive(Debug)]
struct Place {
    /// The root, by its number.
    root: usize,
    /// Its path below the root.
    below: PathBuf,
    /// The folder itself does belong there: it is somewhere to mount on.
    is_kept: bool,
}

/// Plans the walk of the folders `names`, as seen from `from`.
///
/// # Errors
/// A folder is not there, is left out whole, or is the store itself.
pub fn plan(from: Option<&Path>, names: &[String], walk: &Walk, mounts: &Mounts) -> Result<Plan> {
    let roots = names.iter().enumerate().map(|(i, name)| Root::new(from, name, i));
    let roots: Vec<_> = roots.collect::<Result<_>>()?;
    let (mut places, mut notes, mut details) = (Vec::new(), Vec::new(), Vec::new());
    for (i, root) in roots.iter().enumerate() {
        if let Some(pattern) = walk.filter.exclude.iter().find(|pattern| pattern.takes(&root.name)) {
            return Err(Error::usage(format!("{:?} leaves all of {} out", pattern.as_str(), root.named))
                .hint("do not name it, or leave out less"));
        }
        let place = |path: &Path, is_kept| {
            let below = path.strip_prefix(&root.real).ok()?.to_path_buf();
            Some(Place { root: i, below, is_kept })
        };
        for store in &walk.stores {
            for path in root.own_store(store, mounts)? {
                notes.push(format!("{} is where this backup is stored: it is left out", path.display()));
                places.extend(place(&path, false));
            }
        }
        for point in mounts.kernel_below(&root.real) {
            details.push(format!("{} is the kernel's own: what is in it is left out", point.display()));
            places.extend(place(&point, true));
        }
    }
    let (from, filter) = (from.map(PathBuf::from), walk.filter.clone());
    Ok(Plan { from, roots, filter, places, notes, details })
}

impl Plan {
    /// Tells what the operator should know, or may want to.
    pub fn tell(&self, ui: &Reporter) {
        self.notes.iter().for_each(|text| ui.note(text));
        self.details.iter().for_each(|text| ui.detail(text));
    }

    /// The options that say to GNU tar what is left out, and under which names the rest is stored.
    pub fn options(&self) -> Vec<OsString> {
        let mut excluded = Vec::new();
        for (i, root) in self.roots.iter().enumerate() {
            for pattern in &self.filter.exclude {
                excluded.extend(pattern.below(&root.name, root.walked.as_bytes()));
            }
            for place in self.places.iter().filter(|place| place.root == i) {
                let path = exclude::escape(&joined(root.walked.as_bytes(), mounts::bytes(&place.below)));
                excluded.push(if place.is_kept { [&path[..], b"/*"].concat() } else { path });
            }
        }
        let mut options: Vec<_> = exclude::MATCHING.map(OsString::from).into();
        options.extend(excluded.into_iter().map(|pattern| option("--exclude=", pattern)));
        options.extend(self.filter.exclude_caches.then(|| "--exclude-caches".into()));
        options.extend(self.filter.one_file_system.then(|| "--one-file-system".into()));
        options.extend(self.renames());
        options
    }

    /// The options that give members the names by which their roots were named.
    pub fn renames(&self) -> Vec<OsString> {
        let mut renames: Vec<_> = self.roots.iter().filter_map(|root| root.rename.clone()).collect();
        // One after the other is applied: what is cut out of all names comes after what means one as it was walked.
        renames.sort_by_key(|rename| rename == WITHOUT_DOT);
        renames.dedup();
        renames
    }

    /// The roots, as GNU tar walks them.
    pub fn members(&self) -> Vec<OsString> {
        self.roots.iter().map(|root| root.walked.clone()).collect()
    }

    /// The places that are left out, by their names in the archive: those of which nothing is taken, and those of which
    /// only the folder is.
    pub fn left_out(&self) -> (HashSet<Vec<u8>>, HashSet<Vec<u8>>) {
        let name = |place: &Place| joined(&self.roots[place.root].name, mounts::bytes(&place.below));
        let named = |is_kept| self.places.iter().filter(move |place| place.is_kept == is_kept).map(name);
        (named(false).collect(), named(true).collect())
    }

    /// Two roots of which one gives a name to a file that the other gives to another file.
    pub fn clash(&self) -> Option<(&str, &str)> {
        let pairs = self.roots.iter().flat_map(|outer| self.roots.iter().map(move |inner| (outer, inner)));
        let clashing = |(outer, inner): &(&Root, &Root)| {
            let Some(rest) = below(&outer.name, &inner.name) else { return false };
            let there = joined(mounts::bytes(&outer.real), rest);
            there != mounts::bytes(&inner.real) && there != mounts::bytes(&inner.place)
        };
        pairs.into_iter().find(clashing).map(|(outer, inner)| (&*outer.named, &*inner.named))
    }
}

/// What of a name lies below the folder `folder`; nothing of the folder's own name.
fn below<'a>(folder: &[u8], name: &'a [u8]) -> Option<&'a [u8]> {
    match (name.strip_prefix(folder)?, folder) {
        (rest, []) => Some(rest),
        ([], _) => Some(&[]),
        ([b'/', rest @ ..], _) => Some(rest),
        _ => None,
    }
}

/// The path of what lies in a folder; where either is empty, the other.
pub fn joined(folder: &[u8], name: &[u8]) -> Vec<u8> {
    let slash = !(folder.is_empty() || folder.ends_with(b"/") || name.is_empty());
    let mut path = Vec::with_capacity(folder.len() + 1 + name.len());
    path.extend_from_slice(folder);
    path.extend(slash.then_some(b'/'));
    path.extend_from_slice(name);
    path
}

fn option(name: &str, value: Vec<u8>) -> OsString {
    OsString::from_vec([name.as_bytes(), &value].concat())
}

/// Names lose the `/.` by which tar was led through a link; neither targets of symlinks do, nor names in which it is no
/// whole part.
const WITHOUT_DOT: &str = "--transform=s,/\\.\\(/\\|$\\),\\1,rhS";

/// A folder, or a file, to be backed up.
#[derive(Debug)]
pub struct Root {
    /// As the operator names it.
    pub named: String,
    /// By which path tar goes there.
    pub walked: OsString,
    /// Its name in the archive, without a slash at its ends; empty where that is the archive's own root.
    pub name: Vec<u8>,
    /// Its path without any link.
    real: PathBuf,
    /// Where it lies itself, without any link on the way there, though it be one.
    place: PathBuf,
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
        let folder = path.parent().and_then(|folder| match folder.as_os_str().is_empty() {
            true => Path::new(".").canonicalize().ok(),
            false => folder.canonicalize().ok(),
        });
        let place = folder.zip(path.file_name()).map_or_else(|| real.clone(), |(at, last)| at.join(last));
        Ok(Root { named: named.into(), walked, name, real, place, rename })
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

    /// A plan for a folder of this test, without what is mounted.
    fn planned(from: &Path, names: &[&str], walk: &Walk) -> Plan {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        plan(Some(from), &names, walk, &Mounts::default()).unwrap()
    }

    #[test]
    fn a_path_below_a_root_means_itself_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        let stores = vec![StoreFolder { folder: real.join("a*b"), job: "j".into() }];
        let plan = planned(&real, &["."], &Walk { stores, ..Walk::default() });
        assert_eq!(plan.options().last().unwrap(), "--exclude=./a\\*b");
        assert_eq!(plan.left_out(), (HashSet::from([b"a*b".to_vec()]), HashSet::new()));
    }

    #[test]
    fn a_name_is_joined_with_one_slash() {
        for (folder, name, path) in
            [("", "a", "a"), ("/", "a", "/a"), ("a", "", "a"), ("a", "b", "a/b"), (".", "b", "./b")]
        {
            assert_eq!(joined(folder.as_bytes(), name.as_bytes()), path.as_bytes());
        }
        assert_eq!(below(b"a", b"a/b"), Some(&b"b"[..]));
        assert_eq!(
            (below(b"a", b"a-b"), below(b"a/b", b"a"), below(b"a", b"a")),
            (None, None, Some(&b""[..]))
        );
    }

    #[test]
    fn roots_that_give_one_name_to_two_files_are_found() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["x/srv/data", "srv/data", "far/sub"] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        let link =
            |target: &str, name: &str| std::os::unix::fs::symlink(target, dir.path().join(name)).unwrap();
        link("../far", "srv/link");
        let clash = |names: &[&str]| {
            let plan = planned(dir.path(), names, &Walk::default());
            plan.clash().map(|(one, other)| (one.to_string(), other.to_string()))
        };
        for fine in [
            &["srv", "srv/data"][..],
            &["srv", "srv/link"],
            &[".", "srv/link"],
            &["srv", "./srv/"],
            &["far", "x"],
        ] {
            assert_eq!(clash(fine), None, "{fine:?}");
        }
        let up = format!("x/../{}", "srv");
        assert_eq!(clash(&["srv", &up]), None, "it is the same place");
        let from_x = planned(&dir.path().join("x"), &["srv", "../srv"], &Walk::default());
        assert_eq!(from_x.clash(), Some(("srv", "../srv")));
        // The link's own name is the outer root's, but what is below it is not.
        assert_eq!(clash(&["srv", "srv/link/sub"]), Some(("srv".into(), "srv/link/sub".into())));
    }
}
