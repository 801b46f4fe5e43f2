//! ACLs by number, as owners are. GNU tar writes the names that this host has for its users and groups; the kernel's own
//! form, which it writes beside them, has numbers. Docker's engine takes that form alone, so it is kept.

use std::fmt::Write;

/// The keys of an ACL: as text, and in the kernel's form.
const KINDS: [(&[u8], &[u8]); 2] = [
    (b"SCHILY.acl.access", b"SCHILY.xattr.system.posix_acl_access"),
    (b"SCHILY.acl.default", b"SCHILY.xattr.system.posix_acl_default"),
];

/// The kernel's tags of a user and of a group that have a number.
const USER: u16 = 0x02;
const GROUP: u16 = 0x08;

/// Makes every ACL among a member's records one text of numbers, with the kernel's form of the same before it.
pub(super) fn by_number(records: &mut Vec<(Vec<u8>, Vec<u8>)>) {
    for (text_key, kernel_key) in KINDS {
        let last = |key: &[u8]| records.iter().rfind(|(k, _)| k == key).map(|(_, value)| value.clone());
        let kernel = last(kernel_key).and_then(|value| Some((of_kernel(&value)?, value)));
        let text = last(text_key);
        records.retain(|(key, _)| key != text_key && key != kernel_key);
        let text = match (kernel, text) {
            (Some((text, value)), _) => {
                records.push((kernel_key.to_vec(), value));
                text
            }
            (None, Some(text)) => of_star(&text),
            (None, None) => continue,
        };
        records.push((text_key.to_vec(), text));
    }
}

/// Maps the ids in the ACLs among a member's records: `map` is told whether one is a user's. Returns whether some entry has
/// a name alone, which stays.
pub(super) fn map_ids(records: &mut Vec<(Vec<u8>, Vec<u8>)>, mut map: impl FnMut(bool, u64) -> u64) -> bool {
    by_number(records);
    let mut named = false;
    for (text_key, kernel_key) in KINDS {
        let by_kernel = records.iter().any(|(key, _)| key == kernel_key);
        for (key, value) in records.iter_mut() {
            if key == kernel_key {
                map_kernel(value, &mut map);
            } else if key == text_key && !by_kernel {
                named |= map_text(value, &mut map);
            }
        }
    }
    // The texts of the kernel's forms, again.
    by_number(records);
    named
}

fn map_kernel(value: &mut [u8], map: &mut dyn FnMut(bool, u64) -> u64) {
    for entry in value[4..].chunks_exact_mut(8) {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        if tag == USER || tag == GROUP {
            let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
            let id = u32::try_from(map(tag == USER, id.into())).unwrap_or(id);
            entry[4..].copy_from_slice(&id.to_le_bytes());
        }
    }
}

fn map_text(value: &mut Vec<u8>, map: &mut dyn FnMut(bool, u64) -> u64) -> bool {
    let mut named = false;
    let mut mapped = |entry: &[u8]| {
        let fields: Vec<_> = entry.split(|&b| b == b':').collect();
        let [kind, id, permissions] = fields[..] else { return entry.to_vec() };
        if id.is_empty() {
            return entry.to_vec();
        }
        match std::str::from_utf8(id).ok().and_then(|id| id.parse().ok()) {
            Some(id) => {
                let id = map(kind.starts_with(b"u"), id).to_string();
                [kind, id.as_bytes(), permissions].join(&b':')
            }
            None => {
                named = true;
                entry.to_vec()
            }
        }
    };
    *value = value.split(|&b| b == b',').map(&mut mapped).collect::<Vec<_>>().join(&b',');
    named
}

/// Linux's `posix_acl_xattr`: version 2, then tag, permissions and number of each entry, little-endian.
fn of_kernel(value: &[u8]) -> Option<Vec<u8>> {
    let entries = value.strip_prefix(&2u32.to_le_bytes())?;
    if entries.len() % 8 != 0 {
        return None;
    }
    let mut text = String::new();
    for entry in entries.chunks_exact(8) {
        let short = |at: usize| u16::from_le_bytes([entry[at], entry[at + 1]]);
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let (name, has_id) = match short(0) {
            0x01 => ("user", false),
            USER => ("user", true),
            0x04 => ("group", false),
            GROUP => ("group", true),
            0x10 => ("mask", false),
            0x20 => ("other", false),
            _ => return None,
        };
        let id = if has_id { id.to_string() } else { String::new() };
        let bit = |bit: u16, letter: char| if short(2) & bit != 0 { letter } else { '-' };
        let comma = if text.is_empty() { "" } else { "," };
        write!(text, "{comma}{name}:{id}:{}{}{}", bit(4, 'r'), bit(2, 'w'), bit(1, 'x')).ok()?;
    }
    Some(text.into_bytes())
}

/// star writes the number behind the permissions: `user:NAME:rwx:NUMBER`.
fn of_star(text: &[u8]) -> Vec<u8> {
    let entries = text.split(|&b| b == b',' || b == b'\n').filter(|entry| !entry.is_empty());
    let numbered = entries.map(|entry| {
        let fields: Vec<_> = entry.split(|&b| b == b':').collect();
        match fields[..] {
            [kind, _, permissions, id] if !id.is_empty() && id.iter().all(u8::is_ascii_digit) => {
                [kind, id, permissions].join(&b':')
            }
            _ => entry.to_vec(),
        }
    });
    numbered.collect::<Vec<_>>().join(&b',')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(records: &[(&[u8], &[u8])]) -> Vec<(String, String)> {
        let mut records = records.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        by_number(&mut records);
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        records.into_iter().map(|(key, value)| (text(key), text(value))).collect()
    }

    #[test]
    fn numbers_win_over_the_names_of_another_host() {
        let mut kernel = 2u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in [
            (1u16, 6u16, u32::MAX),
            (2, 4, 1),
            (4, 4, u32::MAX),
            (8, 7, 77),
            (0x10, 7, u32::MAX),
            (0x20, 0, u32::MAX),
        ] {
            kernel.extend(tag.to_le_bytes());
            kernel.extend(permissions.to_le_bytes());
            kernel.extend(id.to_le_bytes());
        }
        let records: [(&[u8], &[u8]); 3] = [
            (b"SCHILY.acl.access", b"user::rw-,user:daemon:r--"),
            (b"SCHILY.xattr.system.posix_acl_access", &kernel),
            (b"SCHILY.xattr.user.a", b"b"),
        ];
        let text = "user::rw-,user:1:r--,group::r--,group:77:rwx,mask::rwx,other::---";
        let form = String::from_utf8_lossy(&kernel).into_owned();
        assert_eq!(
            converted(&records),
            [
                ("SCHILY.xattr.user.a".into(), "b".into()),
                ("SCHILY.xattr.system.posix_acl_access".into(), form),
                ("SCHILY.acl.access".into(), text.into())
            ]
        );
    }

    #[test]
    fn stars_numbers_are_found_and_names_without_one_are_kept() {
        let records: [(&[u8], &[u8]); 1] =
            [(b"SCHILY.acl.default", b"user::rwx,user:lisa:r-x:502,group:x:r--,mask::rwx\n")];
        assert_eq!(converted(&records)[0].1, "user::rwx,user:502:r-x,group:x:r--,mask::rwx");
    }

    #[test]
    fn ids_are_mapped_in_the_kernels_form_and_its_text_follows() {
        let form = |user: u32, group: u32| {
            let entry =
                |tag: u16, id: u32| [&tag.to_le_bytes()[..], &6u16.to_le_bytes(), &id.to_le_bytes()].concat();
            let entries =
                [entry(1, u32::MAX), entry(USER, user), entry(4, u32::MAX), entry(GROUP, group)].concat();
            [&2u32.to_le_bytes()[..], &entries].concat()
        };
        let kernel_key = KINDS[1].1.to_vec();
        let mut records = vec![(kernel_key.clone(), form(300_007, 300_008))];
        assert!(!map_ids(&mut records, |is_user, id| id - 300_000 + u64::from(is_user)));
        let text = b"user::rw-,user:8:rw-,group::rw-,group:8:rw-".to_vec();
        assert_eq!(records, [(kernel_key, form(8, 8)), (KINDS[1].0.to_vec(), text)]);
    }

    #[test]
    fn a_kernels_form_that_is_none_gives_way_to_the_text() {
        let records: [(&[u8], &[u8]); 2] =
            [(b"SCHILY.acl.access", b"user::rw-"), (b"SCHILY.xattr.system.posix_acl_access", b"\x01\0\0\0")];
        assert_eq!(converted(&records), [("SCHILY.acl.access".into(), "user::rw-".into())]);
    }
}
