//! `list`: what a store holds.

use serde_json::json;

use crate::archive::Id;
use crate::cli::List;
use crate::error::Result;
use crate::job;
use crate::job::list::Listing;
use crate::report::{Mode, Reporter, human_bytes, print, printable};
use crate::store::list::Listed;
use crate::store::manifest::Manifest;
use crate::store::record::{Level, VerificationKey, WHOLE};
use crate::store::set::{SetRef, SetRun};

/// Prints the archives of a store, oldest first within a job; or its sets.
///
/// # Errors
/// The store does not answer; nobody reads what is printed.
pub async fn list(options: List, mode: Mode, ui: &Reporter) -> Result<()> {
    let wants_sets = options.sets;
    let request = options.request()?;
    let (store, lines) = match wants_sets {
        true => {
            let Listing { store, items, .. } = said(job::list::sets(&request, ui).await?, ui);
            (store, items.iter().map(|(set, run)| set_line(set, run, mode)).collect())
        }
        false => {
            let Listing { store, items, .. } = said(job::list::archives(&request, ui).await?, ui);
            (store, archive_lines(&items, mode))
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

fn archive_lines(archives: &[Listed], mode: Mode) -> Vec<String> {
    match mode {
        Mode::Json => archives.iter().map(json_line).collect(),
        Mode::Human if archives.is_empty() => Vec::new(),
        _ => table(archives),
    }
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

/// What is to be known of an archive whose manifest is whole: `  (damaged)`.
fn remarks(listed: &Listed, warnings: u64) -> String {
    let ids = |ids: &[Id]| ids.iter().map(Id::as_str).collect::<Vec<_>>().join(", ");
    let missing = format!("  (incomplete: {} is gone)", ids(&listed.missing));
    let damaged = format!("  (needs {}: damaged)", ids(&listed.damaged_needs));
    let remarks = [
        (warnings > 0, "  (warnings)".to_string()),
        (listed.damaged.is_some(), "  (damaged)".into()),
        (!listed.missing.is_empty(), missing),
        (!listed.damaged_needs.is_empty(), damaged),
        (!listed.marks.pins.is_empty(), "  (pinned)".into()),
    ];
    remarks.into_iter().filter(|(is_so, _)| *is_so).map(|(_, text)| text).collect()
}

/// `full`, or `+1.20 GiB of 9.80 TiB`: what it adds, and what is restored from it.
fn share(manifest: &Manifest) -> String {
    match manifest.needs.is_empty() {
        _ if manifest.partial => format!("part: {}", human_bytes(manifest.bytes)),
        true => "full".into(),
        false => {
            let all = manifest.bytes.saturating_add(manifest.kept.bytes);
            format!("+{} of {}", human_bytes(manifest.bytes), human_bytes(all))
        }
    }
}

/// `whole 2026-11-22 02:00Z`: all that it needs; `own`, where older archives that it needs were not read.
fn verified(listed: &Listed) -> String {
    let is_increment = listed.manifest.as_ref().is_ok_and(|manifest| !manifest.needs.is_empty());
    let word = |mark: &VerificationKey| match mark.level {
        Level::Whole if is_increment => "own".into(),
        Level::All => Level::Whole.to_string(),
        _ => mark.to_string(),
    };
    let shown = listed.verified().and_then(|mark| Some((mark, mark.at.time()?)));
    shown.map_or("-".into(), |(mark, at)| format!("{} {}", word(mark), at.strftime("%Y-%m-%d %H:%MZ")))
}

fn table(archives: &[Listed]) -> Vec<String> {
    let widest =
        |texts: &mut dyn Iterator<Item = usize>, head: &str| texts.max().unwrap_or(0).max(head.len());
    let wide = widest(&mut archives.iter().map(|listed| listed.job.len()), "JOB");
    let seen = widest(&mut archives.iter().map(|listed| verified(listed).len()), "VERIFIED");
    let shares = archives.iter().filter_map(|listed| Some(share(listed.manifest.as_ref().ok()?)));
    let holds = widest(&mut shares.map(|share| share.len()), "HOLDS");
    let head = format!(
        "{:wide$}  {:25}  {:20}  {:>12}  {:>holds$}  {:>12}  {:seen$}  KIND",
        "JOB", "ID", "FINISHED", "SIZE", "HOLDS", "STORED", "VERIFIED"
    );
    let line = |listed: &Listed| {
        let (job, id, verified) = (&listed.job, &listed.id, verified(listed));
        match &listed.manifest {
            Ok(m) => {
                let kind = m.kind;
                let remarks = remarks(listed, m.warnings);
                let finished = m.finished.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
                let (size, stored) = (human_bytes(m.bytes), human_bytes(m.archive.size + m.catalog.size));
                let sizes = format!("{size:>12}  {:>holds$}  {stored:>12}", share(m));
                format!("{job:wide$}  {id:25}  {finished:20}  {sizes}  {verified:seen$}  {kind}{remarks}")
            }
            Err(error) => format!("{job:wide$}  {id:25}  {error}"),
        }
    };
    std::iter::once(head).chain(archives.iter().map(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::store::list::Marks;
    use crate::store::record::{Level, VerificationKey};
    use serde_json::Value;

    const ID: &str = "20261122T020000Z-1f2e3d4c";

    fn listed(job: &str, warnings: u64) -> Listed {
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

    fn damaged(job: &str) -> Listed {
        Listed { manifest: Err(Error::damaged("no manifest")), ..listed(job, 0) }
    }

    fn verified_by(level: Level, share: u16) -> Listed {
        let at = "20261123T030405Z-00000000".parse().unwrap();
        let marks = Marks { verified: vec![VerificationKey { level, share, at }], ..Marks::default() };
        Listed { marks, ..listed("db", 0) }
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_value() {
        let lines = table(&[listed("a", 0), listed("team/application", 2)]);
        let at = |line: &String| line.find(ID).unwrap();
        assert_eq!(at(&lines[1]), at(&lines[2]));
        assert_eq!(lines[0].find("ID").unwrap(), at(&lines[1]));
        assert!(lines[1].ends_with("-         tar"), "{}", lines[1]);
        assert!(lines[2].ends_with("tar  (warnings)"), "{}", lines[2]);
    }

    #[test]
    fn an_archive_says_when_it_ended_and_how_large_it_is() {
        let line = table(&[listed("db", 0)]).remove(1);
        let words: Vec<_> = line.split_whitespace().collect();
        let expected = "2026-11-22 02:00:30Z 4.00 KiB full 1.00 KiB - tar";
        assert_eq!(words.join(" "), format!("db {ID} {expected}"));
    }

    #[test]
    fn an_increment_says_what_it_adds_and_to_what() {
        let mut increment = listed("db", 0);
        let manifest = increment.manifest.as_mut().unwrap();
        (manifest.needs, manifest.kept.bytes, manifest.kept.entries) =
            (vec![ID.parse().unwrap()], 1 << 40, 7);
        let line: Value = serde_json::from_str(&json_line(&increment)).unwrap();
        assert_eq!((&line["needs"], &line["kept"]["entries"]), (&json!([ID]), &json!(7)));
        let lines = table(&[increment, listed("db", 0)]);
        assert!(lines[1].contains("  +4.00 KiB of 1.00 TiB  ") && lines[2].contains("  full  "), "{lines:?}");
    }

    #[test]
    fn what_is_pinned_says_so() {
        let mut pinned = listed("db", 0);
        assert!(json_line(&pinned).contains("\"pinned\":false"));
        pinned.marks.pins.push(ID.parse().unwrap());
        assert!(json_line(&pinned).contains("\"pinned\":true"));
        assert!(table(&[pinned])[1].ends_with("tar  (pinned)"));
    }

    #[test]
    fn a_damaged_archive_is_listed_with_the_reason() {
        let lines = table(&[damaged("db")]);
        assert!(lines[1].starts_with("db ") && lines[1].ends_with("no manifest"), "{}", lines[1]);
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
        let lines = table(&[found, incomplete]);
        assert!(lines[1].ends_with("  tar  (damaged)"), "{}", lines[1]);
        let remarks = format!("  (warnings)  (incomplete: {gone} is gone)  (needs {bad}: damaged)");
        assert!(lines[2].ends_with(&remarks), "{}", lines[2]);
    }

    #[test]
    fn the_best_verification_is_shown() {
        assert_eq!(verified(&listed("db", 0)), "-");
        assert_eq!(verified(&verified_by(Level::Whole, WHOLE)), "whole 2026-11-23 03:04Z");
        let mut increment = verified_by(Level::Whole, WHOLE);
        increment.manifest.as_mut().unwrap().needs = vec![ID.parse().unwrap()];
        assert_eq!(verified(&increment), "own 2026-11-23 03:04Z", "of what it needs nothing was read");
        increment.marks.verified[0].level = Level::All;
        assert_eq!(verified(&increment), "whole 2026-11-23 03:04Z");
        assert_eq!(verified(&verified_by(Level::Sample, 512)), "sample 5.12% 2026-11-23 03:04Z");
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
        assert!(archive_lines(&[], Mode::Human).is_empty() && archive_lines(&[], Mode::Json).is_empty());
        assert_eq!(archive_lines(&[], Mode::Quiet).len(), 1);
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
