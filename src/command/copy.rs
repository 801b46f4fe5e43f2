//! `copy`: an archive to another store.

use tokio_util::sync::CancellationToken;

use crate::cli::Copy;
use crate::error::Result;
use crate::job;
use crate::job::copy::Copied;
use crate::report::{Event, Reporter, event};

/// Copies an archive and those that it needs, and says where they are, or would be.
///
/// # Errors
/// As [`job::copy::copy`].
pub async fn copy(options: Copy, ui: &Reporter, cancel: &CancellationToken) -> Result<()> {
    let request = options.request()?;
    let dry_run = request.dry_run;
    job::copy::copy(request, ui, cancel, |copied| ui.emit(event(copied, dry_run))).await
}

fn event(copied: Copied, dry_run: bool) -> Event {
    let Copied { job, id, to, bytes, was_there } = copied;
    if was_there {
        return Event::Note { message: format!("{job}@{id} is at {to} already") };
    }
    let id = id.to_string();
    match dry_run {
        true => Event::PlannedCopy(event::PlannedCopy { job, id, to, stored: bytes }),
        false => Event::Copied(event::Copied { job, id, to, stored: bytes }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_copied_is_told_from_what_was_there() {
        let id = "20261122T020000Z-1f2e3d4c".parse().unwrap();
        let copied = Copied { job: "db".into(), id, to: "s3://b".into(), bytes: 2048, was_there: false };
        assert_eq!(
            event(copied.clone(), false).to_string(),
            "copied db@20261122T020000Z-1f2e3d4c: 2.00 KiB → s3://b"
        );
        assert_eq!(
            event(copied.clone(), true).to_string(),
            "would copy db@20261122T020000Z-1f2e3d4c: 2.00 KiB → s3://b"
        );
        let there = Copied { was_there: true, ..copied };
        for dry_run in [false, true] {
            let told = event(there.clone(), dry_run).to_string();
            assert_eq!(told, "note: db@20261122T020000Z-1f2e3d4c is at s3://b already");
        }
    }
}
