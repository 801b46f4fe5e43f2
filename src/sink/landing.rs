//! What may land in a folder: nothing that would leave it, whatever links stand there or come on the way.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::report::Reporter;
use crate::tar::name::{self, PATH_MAX};
use crate::tar::owners::{IdMap, Owners};
use crate::tar::select::unsafe_member;
use crate::tar::{EntryType, Member};

/// A folder into which members are unpacked. It stands here, or only the engine reaches it.
#[derive(Debug, Default)]
pub struct Landing {
    /// Its path, where links may stand in it already.
    dir: Option<PathBuf>,
    /// What is taken off names: `VOLUME/_data`.
    prefix: Vec<u8>,
    allow_devices: bool,
    /// Symlinks that came with the archive.
    links: Names,
    /// Links in whose place a folder of the archive came.
    replaced: Names,
    /// The folder that was found to be one last: neighbours follow each other.
    known: Vec<u8>,
    /// Members that no path can name.
    too_long: TooLong,
    /// Whose ids are to be in a volume; none where numbers are numbers.
    ids: Option<TargetIds>,
    owners: Option<Owners>,
    /// What nobody knows of the owners.
    unknown: Option<String>,
}

/// How the engine of a volume maps ids.
#[derive(Debug, Clone, Copy, Default)]
pub struct TargetIds {
    /// Its map.
    pub map: IdMap,
    /// It maps them itself, as it takes the files; else they come to its host as they are.
    pub engine_maps: bool,
}

/// Names, by their hashes: of millions each takes few bytes, and one taken for another is refused, never let through.
#[derive(Debug, Default)]
struct Names(HashSet<u64>, RandomState);

impl Names {
    fn insert(&mut self, name: &[u8]) {
        self.0.insert(self.1.hash_one(name));
    }

    fn remove(&mut self, name: &[u8]) -> bool {
        self.0.remove(&self.1.hash_one(name))
    }

    fn contains(&self, name: &[u8]) -> bool {
        self.0.contains(&self.1.hash_one(name))
    }
}

/// How many members, and how the name of the first begins.
#[derive(Debug, Default)]
struct TooLong {
    count: u64,
    first: String,
}

impl TooLong {
    fn push(&mut self, name: &[u8]) {
        self.count += 1;
        if self.count == 1 {
            self.first = name::shown(name).chars().take(100).collect();
        }
    }
}

impl Landing {
    /// A folder with nothing in it; below `prefix`, if it is not empty, lies what is for it.
    pub fn new(prefix: &str) -> Self {
        Landing { prefix: name::place(prefix.as_bytes()), ..Landing::default() }
    }

    /// A folder in which something may stand.
    pub fn with_contents(self, dir: PathBuf) -> Self {
        Landing { dir: Some(dir), ..self }
    }

    /// A volume of an engine that maps ids so.
    pub fn with_ids(self, ids: TargetIds) -> Self {
        Landing { ids: Some(ids), ..self }
    }

    /// Of what map the owners in the archive are, where that is known.
    pub fn owners_from(&mut self, source: Option<IdMap>) {
        let Some(TargetIds { map, engine_maps }) = self.ids else { return };
        match source {
            Some(source) => self.owners = Owners::new(source, map, engine_maps),
            None if map.remaps() && !engine_maps => {
                self.unknown = Some(format!(
                    "the engine remaps users (userns-remap, {} and on), but nothing says whether the archive's owners are \
                     of such an engine: they are as they were stored",
                    map.uid.first
                ));
            }
            None => {}
        }
    }

    /// Device nodes, too.
    pub fn allow_devices(&mut self, allow: bool) {
        self.allow_devices = allow;
    }

    /// Whether a member is to be unpacked; its owners become those that they are here.
    ///
    /// # Errors
    /// It may not be.
    pub fn admit(&mut self, member: &mut Member) -> Result<bool> {
        let admitted = self.admit_name(member)?;
        // The folder around the volume is the engine's own, which nothing is put into.
        let in_volume = name::place(member.name()).starts_with(&self.prefix);
        if let Some(owners) = self.owners.as_mut().filter(|_| admitted) {
            owners.map(member, in_volume);
        }
        Ok(admitted)
    }

    fn admit_name(&mut self, member: &Member) -> Result<bool> {
        let entry = &member.entry;
        let full = member.name();
        let refused = |why: &str| {
            let shown = if full.is_empty() { "a member".into() } else { name::shown(full) };
            Error::refused(format!("{shown} may not be unpacked: {why}"))
                .hint("leave it out with --exclude, accept devices with --allow-devices, or restore --to-stdout and look")
        };
        if let Some(why) = unsafe_member(entry, self.allow_devices) {
            return Err(refused(why));
        }
        let target = entry.hard_link();
        if full.len().max(target.as_ref().map_or(0, Vec::len)) >= PATH_MAX {
            self.too_long.push(full);
            return Ok(false);
        }
        let own = self.parts(full);
        let target = target.map(|target| self.parts(&target));
        for name in [Some(&own), target.as_ref()].into_iter().flatten() {
            if let Some(link) = self.link_on_the_way(name) {
                return Err(refused(&format!("it would go through the link {}", name::shown(&link))));
            }
        }
        let leads_to_link = |target: &Vec<u8>| self.links.contains(target) || self.stands_as_link(target);
        if entry.kind == EntryType::Symlink || target.as_ref().is_some_and(leads_to_link) {
            self.replaced.remove(&own);
            self.links.insert(&own);
            self.known.clear();
        } else {
            let was_link = self.links.remove(&own);
            if entry.kind == EntryType::Dir && (self.take_link_away(&own)? || was_link) {
                self.replaced.insert(&own);
            }
        }
        Ok(true)
    }

    /// Says once what was left out, and which owners are not what they were; returns whether anything was.
    pub fn warn(&self, ui: &Reporter) -> bool {
        let TooLong { count, first } = &self.too_long;
        if *count > 0 {
            ui.warn(&format!(
                "{count} members are not restored: their names are longer than a path may be: {first}…"
            ));
        }
        let owners = [self.unknown.clone(), self.owners.as_ref().and_then(Owners::warning)];
        let owners: Vec<_> = owners.into_iter().flatten().collect();
        owners.iter().for_each(|warning| ui.warn(warning));
        *count > 0 || !owners.is_empty()
    }

    /// The name in the folder: its parts, joined.
    fn parts(&self, full: &[u8]) -> Vec<u8> {
        let name = name::place(full);
        match name.strip_prefix(&self.prefix[..]) {
            Some(below) if !self.prefix.is_empty() => below.strip_prefix(b"/").unwrap_or(below).to_vec(),
            _ => name,
        }
    }

    fn link_on_the_way(&mut self, own: &[u8]) -> Option<Vec<u8>> {
        let parent = own.iter().rposition(|&b| b == b'/').map(|slash| own[..slash].to_vec())?;
        if parent == self.known {
            return None;
        }
        for folder in name::folders(own) {
            if self.links.contains(folder) || (self.stands_as_link(folder) && !self.replaced.contains(folder))
            {
                return Some(folder.to_vec());
            }
        }
        self.known = parent;
        None
    }

    fn path(&self, own: &[u8]) -> Option<PathBuf> {
        self.dir.as_ref().filter(|_| !own.is_empty()).map(|dir| dir.join(OsStr::from_bytes(own)))
    }

    fn stands_as_link(&self, own: &[u8]) -> bool {
        let there = self.path(own).and_then(|path| path.symlink_metadata().ok());
        there.is_some_and(|there| there.is_symlink())
    }

    /// Takes away a link where a folder is to be, as GNU tar does; here, so that nothing goes through one that stays.
    fn take_link_away(&self, own: &[u8]) -> Result<bool> {
        let Some(path) = self.path(own).filter(|_| self.stands_as_link(own)) else { return Ok(false) };
        match rustix::fs::unlink(&path) {
            // GNU tar was faster.
            Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => Ok(true),
            Err(e) => {
                let path = path.display();
                Err(Error::failed(format!("cannot remove the link {path}, where a folder is to be"))
                    .because(e))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::owners::IdRange;
    use crate::tar::rewrite::Rewriter;
    use crate::tar::testing::{END, link, member, pax_header};

    /// What a landing says about members, one after the other.
    fn admitted(mut landing: Landing, members: &[Vec<u8>]) -> Result<Vec<bool>> {
        admit_all(&mut landing, members)
    }

    fn admit_all(landing: &mut Landing, members: &[Vec<u8>]) -> Result<Vec<bool>> {
        let mut seen = Vec::new();
        let tar = [members.concat(), END.to_vec()].concat();
        Rewriter::new().pass(&tar.into(), |member| {
            seen.push(landing.admit(member)?);
            Ok(false)
        })?;
        Ok(seen)
    }

    fn refusal(landing: Landing, members: &[Vec<u8>]) -> String {
        let error = admitted(landing, members).unwrap_err();
        assert_eq!(error.kind().exit_code(), 14);
        error.to_string()
    }

    #[test]
    fn nothing_goes_through_a_link_of_the_archive() {
        let through = refusal(Landing::new(""), &[link("a/l", b'2', "/x"), member("./a//l/f", b'0', b"")]);
        assert!(through.contains("through the link a/l"), "{through}");
        // Not a hard link to what lies behind one either, nor through another name of it.
        refusal(Landing::new(""), &[link("l", b'2', "/x"), link("h", b'1', "l/passwd")]);
        refusal(Landing::new(""), &[link("l", b'2', "/x"), link("m", b'1', "l"), member("m/f", b'0', b"")]);
        // A folder that comes in its place is none.
        let members = [link("l", b'2', "/x"), member("l/", b'5', b""), member("l/f", b'0', b"")];
        assert_eq!(admitted(Landing::new(""), &members).unwrap(), [true; 3]);
        // Nor is a link behind that folder forgotten.
        let members = [&members[..], &[link("l", b'2', "/x"), member("l/f", b'0', b"")]].concat();
        refusal(Landing::new(""), &members);
    }

    #[test]
    fn what_no_path_can_name_is_left_out_and_said() {
        let long = "d/".repeat(2048) + "f";
        let records = [pax_header(b'x', &[("path", &long)]), member("f", b'0', b"")].concat();
        let link = [pax_header(b'x', &[("linkpath", &long)]), link("l", b'1', "f")].concat();
        let mut landing = Landing::new("");
        assert_eq!(
            admit_all(&mut landing, &[records, link, member("a", b'0', b"")]).unwrap(),
            [false, false, true]
        );
        let recorder = crate::report::Recorder::default();
        assert!(landing.warn(&Reporter::new(recorder.clone())));
        assert!(
            recorder.texts()[0].starts_with("warning: 2 members are not restored"),
            "{:?}",
            recorder.texts()
        );
    }

    fn remapped(engine_maps: bool) -> TargetIds {
        let range = IdRange { first: 300_000, count: Some(65_536) };
        TargetIds { map: IdMap { uid: range, gid: range }, engine_maps }
    }

    #[test]
    fn only_owners_in_the_volume_are_told_of() {
        // The engine's archive API hands out the folder around it, too, which is the host's.
        let mut landing = Landing::new("v/_data").with_ids(remapped(true));
        landing.owners_from(Some(remapped(true).map));
        let own = [pax_header(b'x', &[("uid", "300999"), ("gid", "300000")]), member("v/_data/f", b'0', b"")];
        admit_all(&mut landing, &[member("v/", b'5', b""), own.concat()]).unwrap();
        assert!(!landing.warn(&Reporter::silent()));
        admit_all(&mut landing, &[member("v/_data/host", b'0', b"")]).unwrap();
        let recorder = crate::report::Recorder::default();
        assert!(landing.warn(&Reporter::new(recorder.clone())));
        assert!(recorder.texts()[0].ends_with(": v/_data/host"), "{:?}", recorder.texts());
    }

    #[test]
    fn owners_of_which_nothing_is_known_are_told_where_it_matters() {
        for (ids, told) in [
            (Some(remapped(false)), true),
            (Some(remapped(true)), false),
            (Some(TargetIds::default()), false),
            (None, false),
        ] {
            let mut landing = Landing { ids, ..Landing::new("v/_data") };
            landing.owners_from(None);
            assert_eq!(landing.warn(&Reporter::silent()), told, "{ids:?}");
        }
    }

    #[test]
    fn nothing_goes_through_a_link_that_stands_in_the_target() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("l")).unwrap();
        let landing = || Landing::new("./v/_data").with_contents(dir.path().into());
        let through = refusal(landing(), &[member("v/_data/l/f", b'0', b"")]);
        assert!(through.contains("through the link l"), "{through}");
        let members = [member("v/_data/l/", b'5', b""), member("v/_data/l/f", b'0', b"")];
        assert_eq!(admitted(landing(), &[member("v/_data/l", b'0', b"")]).unwrap(), [true]);
        assert_eq!(admitted(landing(), &members).unwrap(), [true; 2]);
        assert!(dir.path().join("l").symlink_metadata().is_err(), "the link is still there");
        // A hard link to a link is one.
        std::os::unix::fs::symlink("/", dir.path().join("l")).unwrap();
        refusal(landing(), &[link("v/_data/h", b'1', "v/_data/l"), member("v/_data/h/f", b'0', b"")]);
    }

    #[test]
    fn what_reaches_outside_is_refused() {
        refusal(Landing::new(""), &[member("../a", b'0', b"")]);
        refusal(Landing::new(""), &[member("dev", b'3', b"")]);
        let mut landing = Landing::new("");
        landing.allow_devices(true);
        assert_eq!(
            admitted(landing, &[member("dev", b'3', b""), member("/abs", b'0', b"")]).unwrap(),
            [true; 2]
        );
    }
}
