//! The shrinking alarm: a source that has much less than in the job's newest archive may be an empty mount, or a dump that
//! went wrong.

use crate::archive::Id;
use crate::report::human_bytes;

/// What an archive is of, in bytes, wherever they are stored.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Before {
    /// The archive.
    pub id: Id,
    /// Bytes of its source, with what older archives hold of it.
    pub bytes: u64,
}

/// What is to be said where `bytes` are less than this share of those before.
pub(super) fn alarm(job: &str, share: f64, before: Option<&Before>, bytes: u64) -> Option<String> {
    let before = before.filter(|before| (bytes as f64) < before.bytes as f64 * share)?;
    let percent = bytes as f64 / before.bytes as f64 * 100.0;
    Some(format!(
        "the source has shrunk: {} where {job}@{} has {} ({percent:.0}%; --shrink-alarm {:.0}%)",
        human_bytes(bytes),
        before.id,
        human_bytes(before.bytes),
        share * 100.0
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_than_the_share_is_told_and_as_much_is_not() {
        let before = Before { id: "20261122T020000Z-1f2e3d4c".parse().unwrap(), bytes: 1000 };
        let told = |bytes| alarm("db", 0.5, Some(&before), bytes);
        assert_eq!((told(500), told(5000)), (None, None));
        let text = told(499).unwrap();
        assert!(
            text.contains("499 B where db@20261122T020000Z-1f2e3d4c has 1000 B (50%; --shrink-alarm 50%)"),
            "{text}"
        );
        assert!(told(0).is_some());
    }

    #[test]
    fn the_first_backup_and_one_after_an_empty_one_are_no_reason() {
        let empty = Before { id: "20261122T020000Z-1f2e3d4c".parse().unwrap(), bytes: 0 };
        assert_eq!((alarm("db", 0.5, None, 0), alarm("db", 1.0, Some(&empty), 0)), (None, None));
    }
}
