//! Members that are lost, and left out of a restore.

use std::collections::BTreeSet;

use crate::error::Error;
use crate::report::Reporter;
use crate::tar::name;

/// Lost members that are named.
pub(super) const MOST_TOLD: usize = 1000;
/// Members that an error names.
const NAMED: usize = 5;

/// An archive, and the plain name of a member there.
pub(super) type Place = (u32, Vec<u8>);

/// Members that are lost: how many, and the first of them.
#[derive(Debug, Clone, Default)]
pub(super) struct LeftOut {
    pub(super) count: usize,
    pub(super) first: BTreeSet<Place>,
}

impl LeftOut {
    pub(super) fn add(&mut self, place: Place) {
        self.count += 1;
        self.first.insert(place);
        if self.first.len() > MOST_TOLD {
            self.first.pop_last();
        }
    }

    /// Names them, and says whether there are any.
    pub(super) fn tell(&self, ui: &Reporter) -> bool {
        for (_, name) in &self.first {
            ui.warn(&format!("{} is damaged and was left out", name::shown(name)));
        }
        if self.count > self.first.len() {
            ui.warn(&format!("and {} more members", self.count - self.first.len()));
        }
        self.count > 0
    }

    /// Nothing of what was asked for can be restored.
    pub(super) fn all_lost(&self) -> Error {
        let named: Vec<_> = self.first.iter().take(NAMED).map(|(_, name)| name::shown(name)).collect();
        let more = match self.count - named.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Error::damaged(format!("all that was asked for is lost: {}{more}", named.join(", ")))
            .hint("an older archive may have it: `sealift list` shows them")
    }
}
