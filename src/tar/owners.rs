//! Owners where an engine remaps users (`userns-remap`): what is 999 in its containers is 300999 on its host.

use serde::{Deserialize, Serialize};

use super::walker::Member;
use super::{acl, name};

/// What the kernel shows a container for an owner that it has no id for.
const NOBODY: u64 = 65534;
/// File capabilities, with the id of the root user of the namespace that they count in.
const CAPABILITIES: &[u8] = b"SCHILY.xattr.security.capability";
/// Version 3 of them; version 2 has no such id, and counts everywhere.
const VERSION_3: u32 = 0x0300_0000;
const VERSION_2: u32 = 0x0200_0000;
const VERSION_MASK: u32 = 0xFF00_0000;
/// Bytes of version 2: version 3 has four more, the id.
const CAPABILITIES_LEN: usize = 20;

/// The ids of a host that stand for the ids 0, 1, … of its containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IdRange {
    /// The host's id of what is 0 in a container.
    pub first: u32,
    /// How many there are; none where that is not known, or where they are all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
}

impl IdRange {
    /// The container's id of what is `id` on the host.
    fn inside(self, id: u64) -> Option<u64> {
        id.checked_sub(self.first.into()).filter(|id| self.has(*id))
    }

    /// The host's id of what is `id` in a container.
    fn outside(self, id: u64) -> Option<u64> {
        Some(id + u64::from(self.first)).filter(|outside| self.has(id) && *outside < u64::from(u32::MAX))
    }

    fn has(self, id: u64) -> bool {
        self.count.is_none_or(|count| id < count.into())
    }
}

/// How an engine maps the users and groups of its containers to those of its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IdMap {
    /// Users.
    pub uid: IdRange,
    /// Groups.
    pub gid: IdRange,
}

impl IdMap {
    /// Whether ids are others on the host than in containers.
    pub fn remaps(&self) -> bool {
        self.uid.first != 0 || self.gid.first != 0
    }
}

/// What becomes of owners on their way from one engine's volumes to another's.
#[derive(Debug)]
pub struct Owners {
    from: IdMap,
    to: IdMap,
    /// The engine that takes the files maps ids itself: it is told those of its containers.
    engine_maps: bool,
    /// Members with an owner that the containers of one side do not have.
    strange: u64,
    /// The name of the first.
    first: String,
}

impl Owners {
    /// From the source's map to the target's; none where numbers stay what they are.
    pub fn new(from: IdMap, to: IdMap, engine_maps: bool) -> Option<Self> {
        let stay = !from.remaps() && (!to.remaps() || engine_maps);
        let same = from == to && !engine_maps;
        (!stay && !same).then(|| Owners { from, to, engine_maps, strange: 0, first: String::new() })
    }

    /// Maps a member's owner and group, those in its ACLs, and the one in its capabilities. `is_told`: an owner that the
    /// containers of one side do not have is to be told of.
    pub fn map(&mut self, member: &mut Member, is_told: bool) {
        let mut strange = false;
        let (users, groups) = ((self.from.uid, self.to.uid), (self.from.gid, self.to.gid));
        let mut map = |ranges, id| {
            let (id, known) = mapped(ranges, self.engine_maps, id);
            strange |= !known;
            id
        };
        member.entry.uid = map(users, member.entry.uid);
        member.entry.gid = map(groups, member.entry.gid);
        let named =
            acl::map_ids(&mut member.attributes, |is_user, id| map(if is_user { users } else { groups }, id));
        for (key, value) in &mut member.attributes {
            if key == CAPABILITIES {
                map_root(value, |id| map(users, id));
            }
        }
        if is_told && (strange || named) {
            self.strange += 1;
            if self.strange == 1 {
                self.first = name::shown(member.name());
            }
        }
    }

    /// What is to be said at the end, if anything.
    pub fn warning(&self) -> Option<String> {
        let Owners { strange, first, from, to, .. } = self;
        (*strange > 0).then(|| {
            format!(
                "{strange} members have an owner, or one in their ACLs, that the engine's user namespace does not hold \
                 ({}); it stayed as it was, or became {NOBODY} (nobody) where it would be somebody else: {first}",
                [("in the archive", from), ("in the target", to)]
                    .iter()
                    .filter(|(_, map)| map.remaps())
                    .map(|(of, map)| format!("{of} from {} on", map.uid.first))
                    .collect::<Vec<_>>()
                    .join(", ")
            )
        })
    }
}

/// What a host's id becomes, and whether it has a meaning on both sides. One without keeps its number only where no
/// container of the target's would take it for its own.
fn mapped((from, to): (IdRange, IdRange), engine_maps: bool, id: u64) -> (u64, bool) {
    let write = |inside: u64| if engine_maps { Some(inside) } else { to.outside(inside) };
    let fits = |inside: &u64| to.outside(*inside).is_some();
    match from.inside(id) {
        Some(inside) => match Some(inside).filter(fits).and_then(write) {
            Some(id) => (id, true),
            None => (write(NOBODY).unwrap_or(id), false),
        },
        // Containers of the source that are not remapped (`--userns=host`) own it, or its host does.
        None if to.first == 0 || (!engine_maps && to.inside(id).is_none()) => (id, false),
        None => (write(NOBODY).unwrap_or(id), false),
    }
}

/// Capabilities name the root user of the namespace that they were given in, by the host's id. The engine sets attributes
/// as they are, whichever way they come.
fn map_root(value: &mut Vec<u8>, map: impl FnOnce(u64) -> u64) {
    let word =
        |at: usize| value.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    let (Some(magic), Some(root)) = (word(0), word(CAPABILITIES_LEN)) else { return };
    if magic & VERSION_MASK != VERSION_3 {
        return;
    }
    value.truncate(CAPABILITIES_LEN);
    match u32::try_from(map(root.into())) {
        Ok(root) if root != 0 => value.extend(root.to_le_bytes()),
        _ => value[..4].copy_from_slice(&(magic & !VERSION_MASK | VERSION_2).to_le_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::rewrite::Rewriter;
    use crate::tar::testing::{END, header, pax_header, walk};

    fn map(first: u32, count: Option<u32>) -> IdMap {
        IdMap { uid: IdRange { first, count }, gid: IdRange { first, count } }
    }

    fn id(from: u32, to: u32, engine_maps: bool, id: u64) -> (u64, bool) {
        let range = |first| if first == 0 { IdRange::default() } else { map(first, Some(65536)).uid };
        mapped((range(from), range(to)), engine_maps, id)
    }

    #[test]
    fn an_owner_is_the_same_one_to_the_containers_on_both_sides() {
        assert_eq!(id(300_000, 0, false, 300_999), (999, true));
        assert_eq!(id(0, 300_000, false, 999), (300_999, true));
        assert_eq!(id(300_000, 100_000, false, 300_999), (100_999, true));
        // Through the engine's archive API, which adds its first id by itself.
        assert_eq!(id(300_000, 300_000, true, 300_999), (999, true));
        assert_eq!(id(300_000, 100_000, true, 365_535), (65_535, true));
    }

    #[test]
    fn an_owner_that_no_container_has_is_never_taken_for_one_that_some_has() {
        // Beside the source's range: of the host, or of a container with the host's users.
        assert_eq!(id(300_000, 0, false, 0), (0, false));
        assert_eq!(id(300_000, 100_000, false, 0), (0, false));
        assert_eq!(id(300_000, 100_000, false, 100_999), (165_534, false));
        assert_eq!(id(300_000, 100_000, true, 0), (65_534, false));
        assert_eq!(id(300_000, 0, false, 365_536), (365_536, false));
        // Too large for the target's.
        assert_eq!(id(0, 300_000, false, 70_000), (365_534, false));
        assert_eq!(id(0, 300_000, false, u64::MAX >> 1), (365_534, false));
    }

    #[test]
    fn a_range_of_unknown_length_has_all_that_follow() {
        let open = map(300_000, None).uid;
        assert_eq!(mapped((open, IdRange::default()), false, 400_000), (100_000, true));
        assert_eq!(mapped((open, IdRange::default()), false, 299_999), (299_999, false));
        assert_eq!(open.outside(u64::from(u32::MAX)), None);
    }

    #[test]
    fn where_numbers_stay_nothing_is_mapped() {
        let (plain, remapped) = (IdMap::default(), map(300_000, Some(65_536)));
        assert!(Owners::new(plain, plain, false).is_none());
        assert!(Owners::new(plain, remapped, true).is_none());
        assert!(Owners::new(remapped, remapped, false).is_none());
        for (from, to, engine_maps) in
            [(remapped, plain, false), (plain, remapped, false), (remapped, remapped, true)]
        {
            assert!(Owners::new(from, to, engine_maps).is_some(), "{from:?} {to:?} {engine_maps}");
        }
    }

    /// The headers that a member of this owner and these attributes gets, and what is warned of.
    fn rewritten(owner: &str, records: &[(&str, &str)]) -> (Vec<u8>, Option<String>) {
        let mut owners = Owners::new(map(300_000, Some(65_536)), IdMap::default(), false).unwrap();
        let records = [&[("uid", owner), ("gid", "300000")], records].concat();
        let tar = [pax_header(b'x', &records), header("f", b'0', 0, |_| {}), END.to_vec()].concat();
        let written = Rewriter::new().pass(&tar.into(), |member| {
            owners.map(member, true);
            Ok(true)
        });
        ([written.unwrap().concat(), END.to_vec()].concat(), owners.warning())
    }

    #[test]
    fn a_member_written_anew_has_the_mapped_owners_in_its_acls_too() {
        let acl = "user::rw-,user:x:r--:300007,group::r--,group:y:rwx:300008,mask::rwx,other::---";
        let (tar, warning) = rewritten("300999", &[("SCHILY.acl.access", acl)]);
        let (entries, end) = walk(&tar, tar.len());
        end.unwrap();
        assert_eq!((entries[0].uid, entries[0].gid, warning), (999, 0, None));
        let text = String::from_utf8_lossy(&tar);
        assert!(text.contains("user::rw-,user:7:r--,group::r--,group:8:rwx,mask::rwx,other::---"), "{text}");
    }

    #[test]
    fn an_owner_out_of_place_is_told_once_with_the_first_name() {
        let (tar, warning) = rewritten("5", &[]);
        assert_eq!(walk(&tar, tar.len()).0[0].uid, 5);
        let warning = warning.unwrap();
        assert!(warning.starts_with("1 members have an owner"), "{warning}");
        assert!(warning.contains("in the archive from 300000 on") && warning.ends_with(": f"), "{warning}");
        // A name is nobody's number.
        let (_, warning) = rewritten("300999", &[("SCHILY.acl.access", "user::rw-,user:lisa:r--")]);
        assert!(warning.is_some());
    }

    #[test]
    fn capabilities_count_in_the_namespace_they_come_to() {
        let version_3 =
            |root: u32| [&0x0300_0001u32.to_le_bytes()[..], &[7; 16], &root.to_le_bytes()].concat();
        let mut value = version_3(300_000);
        map_root(&mut value, |id| id - 300_000);
        assert_eq!(value, [&0x0200_0001u32.to_le_bytes()[..], &[7; 16]].concat());
        let mut value = version_3(300_000);
        map_root(&mut value, |id| id - 200_000);
        assert_eq!(value, version_3(100_000));
        for other in [vec![], vec![1, 2], [&0x0200_0001u32.to_le_bytes()[..], &[7; 20]].concat()] {
            let mut value = other.clone();
            map_root(&mut value, |_| 1);
            assert_eq!(value, other);
        }
    }
}
