//! `copy`: an archive to another store.

use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::cli::Copy;
use crate::error::Result;
use crate::job;
use crate::job::copy::Copied;
use crate::report::{Reporter, human_bytes};

/// Copies an archive, and says where it is.
///
/// # Errors
/// As [`job::copy::copy`].
pub async fn copy(options: Copy, ui: &Reporter, cancel: &CancellationToken) -> Result<()> {
    let copied = job::copy::copy(options.request()?, ui, cancel).await?;
    match copied.was_there {
        true => ui.note(&line(&copied)),
        false => {
            let event = json!({"event": "copied", "job": copied.job, "id": copied.id, "to": copied.to});
            ui.summary(&line(&copied), event);
        }
    }
    Ok(())
}

fn line(copied: &Copied) -> String {
    let Copied { job, id, to, bytes, was_there } = copied;
    match was_there {
        true => format!("{job}@{id} is at {to} already"),
        false => format!("copied {job}@{id}: {} → {to}", human_bytes(*bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_copied_is_told_from_what_was_there() {
        let id = "20261122T020000Z-1f2e3d4c".parse().unwrap();
        let copied = Copied { job: "db".into(), id, to: "s3://b".into(), bytes: 2048, was_there: false };
        assert_eq!(line(&copied), "copied db@20261122T020000Z-1f2e3d4c: 2.00 KiB → s3://b");
        let there = Copied { was_there: true, ..copied };
        assert_eq!(line(&there), "db@20261122T020000Z-1f2e3d4c is at s3://b already");
    }
}
