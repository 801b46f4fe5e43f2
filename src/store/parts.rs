//! Parts of runs that were not completed: archives that stand in no list of backups, and of which those are left over that
//! nothing builds on any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::Store;
use super::leftover::{Judge, Leftover, Taken, What};
use super::list::Listed;
use super::manifest::{SUFFIX, catalog_suffix};
use super::removal::{Needs, Removal, Removed};
use crate::archive::Id;
use crate::error::Result;

impl Store {
    /// Parts that nothing builds on: a newer archive of their job is whole, and none needs them but other such parts. Those
    /// that need others come before them.
    ///
    /// # Errors
    /// The store does not answer.
    pub(super) async fn left_parts(&self, job: Option<&str>, now: Timestamp) -> Result<Vec<Leftover>> {
        let mut jobs: BTreeMap<String, Vec<Listed>> = BTreeMap::new();
        for listed in self.archives(job).await? {
            jobs.entry(listed.job.clone()).or_default().push(listed);
        }
        Ok(jobs.values().flat_map(|archives| left_of(archives, now)).collect())
    }

    /// Removes such a part, under a tombstone.
    ///
    /// # Errors
    /// As [`Removal::delete`].
    pub(super) async fn remove_part(
        &self,
        left: &Leftover,
        by: &Judge<'_>,
        known: &mut Needs,
    ) -> Result<Taken> {
        let (job, id) = (left.job.as_str(), &left.id);
        let why = "a part that nothing builds on";
        let mut removal = Removal::begin(self, job, [id], why, by.older_than).await?;
        let looked = async {
            removal.look_again(known).await?;
            *known = removal.known();
            self.live(job, &self.runs(job).await?, removal.now(), by).await
        };
        let live = match looked.await {
            Ok(live) => live,
            Err(error) => return Err(removal.give_up(error).await),
        };
        if !live.is_empty() {
            removal.keep(id).await?;
            return Ok(Taken::Kept("a run of its job is under way".into()));
        }
        match removal.delete(id).await? {
            Removed::Gone(_) => Ok(Taken::Back),
            Removed::Kept(why) => Ok(Taken::Kept(why.to_string())),
        }
    }
}

/// The parts of a job, oldest first, that are left over.
fn left_of(archives: &[Listed], now: Timestamp) -> Vec<Leftover> {
    let is_part = |listed: &&Listed| listed.is_partial();
    let Some(newest) = archives.iter().rfind(|listed| !listed.is_partial() && listed.is_whole()) else {
        return Vec::new();
    };
    // What cannot be read may need everything that is older.
    let unknown = archives.iter().rfind(|listed| listed.needs.is_none()).map(|listed| &listed.id);
    let mut kept: BTreeSet<&Id> = BTreeSet::new();
    // What needs something is newer than that.
    for listed in archives.iter().rev() {
        let is_left = listed.is_partial()
            && listed.id < newest.id
            && !kept.contains(&listed.id)
            && listed.marks.pins.is_empty()
            && unknown.is_none_or(|unknown| *unknown < listed.id);
        if !is_left {
            kept.insert(&listed.id);
            kept.extend(listed.needs.iter().flatten());
        }
    }
    let left = archives.iter().rev().filter(is_part).filter(|listed| !kept.contains(&listed.id));
    left.filter_map(|listed| leftover(listed, now)).collect()
}

fn leftover(listed: &Listed, now: Timestamp) -> Option<Leftover> {
    let manifest = listed.manifest.as_ref().ok()?;
    let suffixes = [SUFFIX, catalog_suffix(&manifest.suffix), manifest.suffix.as_str()];
    Some(Leftover {
        job: listed.job.clone(),
        id: listed.id.clone(),
        what: What::Part,
        names: suffixes.iter().map(|suffix| format!("{}{suffix}", listed.id)).collect(),
        bytes: manifest.archive.size.saturating_add(manifest.catalog.size),
        age: Duration::try_from(now.duration_since(manifest.finished)).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::store::list::Marks;
    use crate::store::manifest::{Manifest, example};

    fn id(n: u32) -> Id {
        format!("20261101T0200{n:02}Z-00000000").parse().unwrap()
    }

    fn listed(n: u32, partial: bool, needs: &[u32]) -> Listed {
        let needs: Vec<_> = needs.iter().map(|&n| id(n)).collect();
        Listed {
            job: "db".into(),
            id: id(n),
            manifest: Ok(Manifest { id: id(n), partial, needs: needs.clone(), ..example() }),
            needs: Some(needs),
            marks: Marks::default(),
            damaged: None,
            missing: Vec::new(),
            damaged_needs: Vec::new(),
        }
    }

    fn left(archives: &[Listed]) -> Vec<Id> {
        left_of(archives, Timestamp::now()).into_iter().map(|left| left.id).collect()
    }

    #[test]
    fn parts_that_only_such_parts_need_are_left_over_the_newest_first() {
        let dead = [listed(1, true, &[]), listed(2, true, &[1]), listed(3, true, &[1, 2])];
        assert_eq!(left(&dead), [], "the next run builds on them");
        let with = |more: Listed| -> Vec<Listed> {
            [listed(1, true, &[]), listed(2, true, &[1]), listed(3, true, &[1, 2]), more].into()
        };
        assert_eq!(left(&with(listed(4, false, &[]))), [id(3), id(2), id(1)]);
        assert_eq!(left(&with(listed(4, false, &[2]))), [id(3)], "2 is kept, and restores as long as it is");
    }

    #[test]
    fn what_may_be_needed_is_pinned_or_newer_than_every_whole_archive_is_not() {
        let unreadable =
            Listed { manifest: Err(Error::damaged("a manifest")), needs: None, ..listed(2, false, &[]) };
        assert_eq!(left(&[listed(1, true, &[]), unreadable, listed(3, false, &[])]), []);
        let mut pinned = listed(2, true, &[1]);
        pinned.marks.pins.push(id(9));
        assert_eq!(left(&[listed(1, true, &[]), pinned, listed(3, false, &[])]), []);
        assert_eq!(left(&[listed(1, false, &[]), listed(2, true, &[1])]), []);
        let mut damaged = listed(2, false, &[]);
        damaged.missing.push(id(1));
        assert_eq!(left(&[listed(1, true, &[]), damaged]), [], "nothing newer is whole");
    }
}
