//! The pin: small plain JSON beside an archive that is to be kept whatever the rules say.
//!
//! `ID.pin-TIME-RANDOM.json`

use std::collections::BTreeMap;

use super::mark;
use crate::archive::Id;

pub(super) const WORD: &str = "pin";

/// The pins in a job's folder, by archive, by the names of all objects that lie there.
pub fn known<'a>(names: impl Iterator<Item = &'a String>) -> BTreeMap<Id, Vec<Id>> {
    let mut known: BTreeMap<Id, Vec<Id>> = BTreeMap::new();
    for (id, at) in names.filter_map(|name| mark::parse(name, WORD)) {
        known.entry(id).or_default().push(at);
    }
    known
}
