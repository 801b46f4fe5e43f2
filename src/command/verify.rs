//! `verify`: whether archives can be restored.

use crate::cli::Verify;
use crate::error::Result;
use crate::job;
use crate::job::backup::Outcome;
use crate::job::verify::{Finding, Summary};
use crate::report::{Event, Reporter, event};
use crate::store::record::Level;

/// Verifies one archive, or several, and prints a line for each that is in order.
///
/// # Errors
/// As [`job::verify::verify`].
pub async fn verify(options: Verify, ui: &Reporter) -> Result<Outcome> {
    let mut report = |finding: &Finding| ui.emit(event(finding));
    job::verify::verify(&options.request()?, ui, &mut report).await
}

fn event(finding: &Finding) -> Event {
    match finding {
        Finding::Archive(found) => Event::Verified(event::Verified {
            job: found.job.clone(),
            id: found.id.to_string(),
            level: found.level.to_string(),
            stored: found.level == Level::Stored,
            bytes: found.bytes,
            stored_bytes: found.stored_bytes,
            confirmed: found.confirmed,
            record: found.record.as_ref().map(|suffix| format!("{}{suffix}", found.id)),
            share: found.share,
            text: found.text.clone(),
        }),
        Finding::Job(Summary { job, verified, before, left, failed }) => {
            Event::Verification(event::Verification {
                job: job.clone(),
                verified: *verified,
                before: *before,
                left: left.clone(),
                failed: failed.clone(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::job::verify::Verified;

    fn as_json(finding: &Finding) -> Value {
        serde_json::from_str(&event(finding).to_json()).unwrap()
    }

    fn verified(level: Level, share: Option<f64>) -> Finding {
        Finding::Archive(Verified {
            job: "db".into(),
            id: "20261122T020000Z-1f2e3d4c".parse().unwrap(),
            level,
            bytes: 10,
            stored_bytes: 5,
            confirmed: 10,
            share,
            record: Some(".verified-x.json".into()),
            text: "all of it".into(),
        })
    }

    #[test]
    fn an_archive_has_its_line_and_its_event() {
        let found = verified(Level::Whole, None);
        assert_eq!(event(&found).to_string(), "verified db@20261122T020000Z-1f2e3d4c: all of it");
        let expected = json!({
            "event": "verified", "job": "db", "id": "20261122T020000Z-1f2e3d4c", "level": "whole",
            "stored": false, "bytes": 10, "stored_bytes": 5, "confirmed": 10,
            "record": "20261122T020000Z-1f2e3d4c.verified-x.json",
        });
        assert_eq!(as_json(&found), expected);
    }

    #[test]
    fn a_sample_says_its_share() {
        assert_eq!(as_json(&verified(Level::Sample, Some(0.25)))["share"], 0.25);
        assert_eq!(as_json(&verified(Level::Stored, None))["stored"], true);
    }

    #[test]
    fn what_is_not_recorded_names_no_record() {
        let Finding::Archive(found) = verified(Level::Whole, None) else { panic!("no archive") };
        let event = as_json(&Finding::Archive(Verified { record: None, ..found }));
        assert_eq!(event["record"], Value::Null);
    }

    #[test]
    fn a_job_is_summed_up() {
        let summary = Summary {
            job: "db".into(),
            verified: 2,
            before: 3,
            left: vec!["db@x".into()],
            failed: vec!["db@y".into()],
        };
        let found = Finding::Job(summary);
        assert_eq!(event(&found).to_string(), "archives of db: 2 verified now, 3 before, 1 left");
        let expected = json!({
            "event": "verification", "job": "db", "verified": 2, "before": 3, "left": ["db@x"],
            "failed": ["db@y"],
        });
        assert_eq!(as_json(&found), expected);
    }
}
