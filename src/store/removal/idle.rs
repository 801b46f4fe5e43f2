//! For how long nothing of an archive was written, by the store's own clock.

use std::time::{Duration, SystemTime};

use super::super::{failed, mark, tombstone};
use super::Removal;
use crate::archive::Id;

impl Removal<'_> {
    /// The store's own time of the latest list, as our tombstones tell it; otherwise this host's.
    pub(in super::super) fn now(&self) -> jiff::Timestamp {
        let own = self.marked.iter().map(|(id, at)| format!("{id}{}", mark::suffix(tombstone::WORD, at)));
        let now = own.filter_map(|name| self.objects.get(&name)).map(|object| object.modified).max();
        now.and_then(|now| now.try_into().ok()).unwrap_or_else(jiff::Timestamp::now)
    }

    /// For how long nothing of an archive was written but tombstones and failure records, by the store's clock.
    pub(in super::super) fn idle(&self, id: &Id) -> Option<Duration> {
        let (prefix, now) = (format!("{id}."), SystemTime::from(self.now()));
        let of_it = self.objects.iter().filter(|(name, _)| {
            name.starts_with(&prefix) && !name.contains(".tombstone-") && !name.ends_with(failed::SUFFIX)
        });
        of_it.map(|(_, object)| now.duration_since(object.modified).unwrap_or_default()).min()
    }
}
