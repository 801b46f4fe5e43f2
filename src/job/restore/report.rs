//! What is said of a restore that succeeded.

use std::time::Instant;

use super::RestoreSource;
use crate::job::Outcome;
use crate::report::{Event, Reporter, event};
use crate::sink::target::RestoreTarget;
use crate::stream::counters::Counters;
use crate::tar::owners::IdMap;

impl RestoreSource {
    /// What it is called where no archive is known yet.
    pub(in crate::job) fn label(&self) -> &str {
        match self {
            RestoreSource::Archive(archive) | RestoreSource::Front(archive) => &archive.job,
            RestoreSource::Object(key) => key,
            RestoreSource::Stdin => "stdin",
        }
    }
}

/// A restore under way: where it leads, and since when.
pub(in crate::job) struct Begun {
    target: String,
    since: Instant,
}

impl Begun {
    pub(in crate::job) fn now(target: &RestoreTarget) -> Self {
        Begun { target: target.to_string(), since: Instant::now() }
    }

    /// Says what was restored, unless the process that took it failed.
    pub(in crate::job) fn tell(
        self,
        archive: &str,
        counters: &Counters,
        members: Option<u64>,
        outcome: Outcome,
        ui: &Reporter,
    ) {
        if matches!(outcome, Outcome::Exited(_)) {
            return;
        }
        ui.emit(Event::Restored(event::Restored {
            archive: archive.into(),
            target: self.target,
            bytes: counters.source.get(),
            members,
            seconds: self.since.elapsed().as_secs_f64(),
        }));
    }
}

/// What is said of an archive of an engine that remaps users, where no engine takes it.
pub(super) fn owners_kept(IdMap { uid, gid }: IdMap) -> String {
    format!(
        "the owners are those of the host of an engine with userns-remap: what is 0 in its containers is user {} and \
         group {} here; only a restore --to-volume maps them",
        uid.first, gid.first
    )
}
