//! Two catalogs that have their members in path order: both pass by once, and only a few pages of each are in memory.

use std::cmp::Ordering;

use super::member::{Member, Name};
use super::{Change, EachChange};
use crate::archive::catalog::paged::PagedCatalog;
use crate::error::Result;
use crate::job::increment::runs::Members;
use crate::tar::select::Patterns;
use crate::tar::{Entry, name};

/// Shows what differs by the catalogs, in path order; none where one of them is in no order.
pub(super) async fn compare(
    (first, second): (&PagedCatalog, &PagedCatalog),
    patterns: &Patterns,
    each: EachChange<'_>,
) -> Result<Option<()>> {
    let Some((mut first, mut second)) = Members::of(first).zip(Members::of(second)) else { return Ok(None) };
    let (mut old, mut new) = (first.next().await?, second.next().await?);
    loop {
        let (step, change) = match (&old, &new) {
            (None, None) => return Ok(Some(())),
            (Some(old), Some(new)) => match order(old, new) {
                Ordering::Less => (Ordering::Less, Some(Change::Removed)),
                Ordering::Greater => (Ordering::Greater, Some(Change::Added)),
                Ordering::Equal => {
                    let fields = Member::of(old).differs(&Member::of(new));
                    (Ordering::Equal, (!fields.is_empty()).then_some(Change::Changed(fields)))
                }
            },
            (Some(_), None) => (Ordering::Less, Some(Change::Removed)),
            (None, Some(_)) => (Ordering::Greater, Some(Change::Added)),
        };
        let entry = if step.is_gt() { &new } else { &old };
        if let Some((entry, change)) = entry.as_ref().zip(change) {
            let name = Name::of(entry);
            if name.matches(patterns) {
                each(&name, &change)?;
            }
        }
        if step.is_le() {
            old = first.next().await?;
        }
        if step.is_ge() {
            new = second.next().await?;
        }
    }
}

fn order(old: &Entry, new: &Entry) -> Ordering {
    name::path_order(name::plain(&old.name()), name::plain(&new.name()))
}
