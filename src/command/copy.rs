//! `copy`: an archive to another store.

use tokio_util::sync::CancellationToken;

use crate::cli::Copy;
use crate::error::Result;
use crate::job;
use crate::job::copy::Copied;
use crate::report::{Event, Reporter, event};

/// Copies an archive and those that it needs, and says where they are.
///
/// # Errors
/// As [`job::copy::copy`].
pub async fn copy(options: Copy, ui: &Reporter, cancel: &CancellationToken) -> Result<()> {
    job::copy::copy(options.request()?, ui, cancel, |copied| ui.emit(event(copied))).await
}

fn event(copied: Copied) -> Event {
    let Copied { job, id, to, bytes, was_there } = copied;
    match was_there {
        true => Event::Note { message: format!("{job}@{id} is at {to} already") },
        false => Event::Copied(event::Copied { job, id: id.to_string(), to, stored: bytes }),
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
            event(copied.clone()).to_string(),
            "copied db@20261122T020000Z-1f2e3d4c: 2.00 KiB → s3://b"
        );
        let there = Copied { was_there: true, ..copied };
        assert_eq!(event(there).to_string(), "note: db@20261122T020000Z-1f2e3d4c is at s3://b already");
    }
}
