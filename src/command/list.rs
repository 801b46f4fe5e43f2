//! `list`: what a store holds.

use jiff::Timestamp;
use serde_json::json;

use super::list_table::{self as table, summary};
use crate::cli::List;
use crate::error::Result;
use crate::job;
use crate::job::list::Listing;
use crate::report::{Mode, Reporter, print, printable, stdout_width};
use crate::store::list::Listed;
use crate::store::record::WHOLE;
use crate::store::set::{SetRef, SetRun};

/// Prints the archives of a store, oldest first within a job; or its sets.
///
/// # Errors
/// The store does not answer; nobody reads what is printed.
pub async fn list(options: List, mode: Mode, ui: &Reporter) -> Result<()> {
    let (wants_sets, is_long) = (options.sets, options.long);
    let request = options.request()?;
    let (store, lines) = match wants_sets {
        true => {
            let Listing { store, items, .. } = said(job::list::sets(&request, ui).await?, ui);
            (store, items.iter().map(|(set, run)| set_line(set, run, mode)).collect())
        }
        false => {
            let listing = said(job::list::archives(&request, ui).await?, ui);
            let lines = archive_lines(&listing, is_long, mode);
            (listing.store, lines)
        }
    };
    if lines.is_empty() && mode == Mode::Human {
        let what = if wants_sets { "set" } else { "archive" };
        ui.note(&format!("no {what} at {store}"));
    }
    lines.iter().try_for_each(|line| print(line))
}

/// Tells what was passed over.
fn said<T>(listing: Listing<T>, ui: &Reporter) -> Listing<T> {
    for folder in &listing.unreadable {
        ui.warn(&format!("{} cannot be read: archives in it are not listed", printable(folder)));
    }
    match listing.passed_over {
        0 => {}
        1 => ui.detail(&format!("1 object at {} is not sealift's: passed over", listing.store)),
        n => ui.detail(&format!("{n} objects at {} are not sealift's: passed over", listing.store)),
    }
    listing
}

fn archive_lines(listing: &Listing<Listed>, is_long: bool, mode: Mode) -> Vec<String> {
    let (archives, now) = (&listing.items, Timestamp::now());
    let mut lines = match (mode, is_long) {
        (Mode::Json, _) => return archives.iter().map(json_line).collect(),
        (Mode::Human, _) if archives.is_empty() && listing.uncommitted == 0 => return Vec::new(),
        (_, true) => table::long(archives, now),
        (_, false) => table::fitted(archives, now, stdout_width()),
    };
    if mode == Mode::Human {
        lines.extend(summary(listing, stdout_width()));
    }
    lines
}

fn set_line(set: &SetRef, run: &SetRun, mode: Mode) -> String {
    let names = run.archives.iter().map(|(job, id)| format!("{job}@{id}"));
    let members = run.ended.iter().flatten().map(|manifest| &manifest.members).next();
    match mode {
        Mode::Json => json!({
            "set": set.name, "id": set.id, "complete": run.is_complete(), "state": run.state(),
            "archives": names.collect::<Vec<_>>(), "members": members,
        })
        .to_string(),
        // Whoever can write to the store can have named them.
        _ => {
            let archives = names.map(|name| format!("\n    {}", printable(&name)));
            let head = format!("{set}  {}", run.state());
            format!("{}{}", printable(&head), archives.collect::<String>())
        }
    }
}

fn json_line(listed: &Listed) -> String {
    let mut line = match &listed.manifest {
        Ok(m) => json!({
            "job": listed.job, "id": listed.id, "set": m.set, "kind": m.kind, "started": m.started,
            "finished": m.finished, "bytes": m.bytes, "stored": m.archive.size + m.catalog.size,
            "object": format!("{}/{}{}", listed.job, listed.id, m.suffix), "warnings": m.warnings,
            "pinned": !listed.marks.pins.is_empty(),
            "members": (m.format > 1).then_some(m.entries + m.kept.entries), "kept": m.kept, "needs": m.needs, "partial": m.partial,
            "drilled": listed.marks.drills.last().map(|key| json!({
                "outcome": key.outcome, "level": key.level, "at": key.at.time(),
            })),
            "verified": listed.verified().map(|mark| json!({
                "level": mark.level, "at": mark.at.time(), "share": f64::from(mark.share) / f64::from(WHOLE),
            })),
        }),
        Err(error) => json!({"job": listed.job, "id": listed.id, "damaged": error.to_string()}),
    };
    // What is in order has none of these.
    let found = listed.damaged.as_ref().and_then(|at| at.time()).filter(|_| listed.manifest.is_ok());
    if let Some(at) = found {
        line["damaged"] = json!(format!("found to be damaged at {at}"));
    }
    for (field, ids) in [("missing", &listed.missing), ("damaged_needs", &listed.damaged_needs)] {
        if !ids.is_empty() {
            line[field] = json!(ids);
        }
    }
    line.to_string()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::archive::Id;
    use crate::error::Error;
    use crate::store::list::Marks;
    use crate::store::record::{Level, VerificationKey};
    use serde_json::Value;

    pub const ID: &str = "20261122T020000Z-1f2e3d4c";

    pub fn listed(job: &str, warnings: u64) -> Listed {
        let object = |size: u64| json!({"size": size, "blake3": "ab"});
        let manifest = serde_json::from_value(json!({
            "format": 1, "id": ID, "job": job, "kind": "tar", "suffix": ".tar.zst.gpg",
            "started": "2026-11-22T02:00:00Z", "finished": "2026-11-22T02:00:30Z", "bytes": 4096,
            "archive": object(1000), "catalog": object(24), "warnings": warnings, "tool": "test",
        }));
        Listed {
            job: job.into(),
            id: ID.parse().unwrap(),
            manifest: Ok(manifest.unwrap()),
            needs: Some(Vec::new()),
            marks: Marks::default(),
            damaged: None,
            missing: Vec::new(),
            damaged_needs: Vec::new(),
        }
    }

    pub fn damaged(job: &str) -> Listed {
        Listed { manifest: Err(Error::damaged("no manifest")), ..listed(job, 0) }
    }

    pub fn verified_by(level: Level, share: u16) -> Listed {
        let at = "20261123T030405Z-00000000".parse().unwrap();
        let marks = Marks { verified: vec![VerificationKey { level, share, at }], ..Marks::default() };
        Listed { marks, ..listed("db", 0) }
    }

    #[test]
    fn programs_get_what_an_increment_needs_and_what_is_pinned() {
        let mut increment = listed("db", 0);
        assert!(json_line(&increment).contains("\"pinned\":false"));
        increment.marks.pins.push(ID.parse().unwrap());
        assert!(json_line(&increment).contains("\"pinned\":true"));
        let manifest = increment.manifest.as_mut().unwrap();
        (manifest.needs, manifest.kept.bytes, manifest.kept.entries) =
            (vec![ID.parse().unwrap()], 1 << 40, 7);
        let line: Value = serde_json::from_str(&json_line(&increment)).unwrap();
        assert_eq!((&line["needs"], &line["kept"]["entries"]), (&json!([ID]), &json!(7)));
    }

    #[test]
    fn a_damaged_archive_is_listed_with_the_reason() {
        let line: Value = serde_json::from_str(&json_line(&damaged("db"))).unwrap();
        assert_eq!(line, json!({"job": "db", "id": ID, "damaged": "no manifest"}));
    }

    #[test]
    fn an_archive_that_does_not_come_back_whole_says_so() {
        let id = |text: &str| text.parse::<Id>().unwrap();
        let (gone, bad) = ("20261101T020000Z-00000001", "20261102T020000Z-00000002");
        let at = Some(id("20261123T030405Z-00000000"));
        let found = Listed { damaged: at, ..listed("db", 0) };
        let incomplete = Listed { missing: vec![id(gone)], damaged_needs: vec![id(bad)], ..listed("db", 2) };
        assert!(!found.is_whole() && !incomplete.is_whole() && listed("db", 0).is_whole());
        let line: Value = serde_json::from_str(&json_line(&found)).unwrap();
        assert_eq!(line["damaged"], "found to be damaged at 2026-11-23T03:04:05Z");
        let line: Value = serde_json::from_str(&json_line(&incomplete)).unwrap();
        assert_eq!((&line["missing"], &line["damaged_needs"]), (&json!([gone]), &json!([bad])));
        let sound: Value = serde_json::from_str(&json_line(&listed("db", 0))).unwrap();
        assert!(["damaged", "missing", "damaged_needs"].iter().all(|field| sound.get(field).is_none()));
    }

    #[test]
    fn programs_get_an_object_for_each_archive() {
        let line: Value = serde_json::from_str(&json_line(&verified_by(Level::Sample, 5000))).unwrap();
        assert_eq!(line["object"], format!("db/{ID}.tar.zst.gpg"));
        assert_eq!((line["bytes"].as_u64(), line["stored"].as_u64()), (Some(4096), Some(1024)));
        assert_eq!(line["verified"]["share"], 0.5);
        let line: Value = serde_json::from_str(&json_line(&listed("db", 3))).unwrap();
        assert_eq!((&line["verified"], &line["warnings"]), (&Value::Null, &json!(3)));
    }

    #[test]
    fn an_empty_store_has_a_table_only_for_scripts_that_want_quiet() {
        let listing = |items, uncommitted| Listing {
            store: "file:///b".into(),
            items,
            uncommitted,
            passed_over: 0,
            unreadable: Vec::new(),
        };
        let lines = |mode| archive_lines(&listing(Vec::new(), 0), false, mode).len();
        assert_eq!([lines(Mode::Human), lines(Mode::Json), lines(Mode::Quiet)], [0, 0, 1]);
        assert_eq!(archive_lines(&listing(Vec::new(), 1), false, Mode::Human).len(), 3);
        let one = listing(vec![listed("db", 0)], 0);
        assert_eq!(archive_lines(&one, false, Mode::Quiet).len(), 2, "no summary");
    }

    #[test]
    fn a_set_that_was_broken_off_lists_what_there_is() {
        let set: SetRef = format!("night@{ID}").parse().unwrap();
        let run = SetRun { ended: None, archives: vec![("db".into(), ID.parse().unwrap())] };
        let text = set_line(&set, &run, Mode::Human);
        assert_eq!(text, format!("night@{ID}  INCOMPLETE: broken off\n    db@{ID}"));
        let line: Value = serde_json::from_str(&set_line(&set, &run, Mode::Json)).unwrap();
        assert_eq!((&line["complete"], &line["members"]), (&json!(false), &Value::Null));
        assert_eq!(line["archives"], json!([format!("db@{ID}")]));
    }
}
