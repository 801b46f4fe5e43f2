//! The table that `list` prints: as much of it as fits the terminal, or all of it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::archive::Id;
use crate::job::list::Listing;
use crate::report::{Column, Row, counted, human_bytes, printable, short_bytes, short_time, table, wrapped};
use crate::store::list::Listed;
use crate::store::manifest::Manifest;
use crate::store::record::{Level, VerificationKey};

/// What is left of an id where that tells it from the others of its job: its time.
const SHORT_ID: usize = 16;

const COLUMNS: [Column; 7] = [
    Column::left("JOB").shrinks(6),
    Column::left("ID"),
    Column::right("AGE"),
    Column::right("SIZE"),
    Column::right("STORED").left_out(2),
    Column::left("VERIFIED").left_out(1),
    Column::left("HOST").shrinks(6).left_out(3),
];

/// What tells an archive from others at a glance, in `width` characters.
pub fn fitted(archives: &[Listed], now: Timestamp, width: Option<usize>) -> Vec<String> {
    let short = match width {
        Some(_) => short_ids(archives),
        None => BTreeMap::new(),
    };
    let row = |listed: &Listed| {
        let id = short.get(&(listed.job.as_str(), &listed.id)).copied().unwrap_or(listed.id.as_str());
        let age = listed.id.time().map_or("-".into(), |at| age(at, now));
        let [size, stored, host] = match &listed.manifest {
            Ok(m) => [short_bytes(restored(m)), short_bytes(stored(m)), host(m)],
            Err(_) => ["-", "-", "-"].map(String::from),
        };
        let cells = vec![listed.job.clone(), id.into(), age, size, stored, verified(listed, now), host];
        Row { cells, remarks: remarks(listed, damage(listed)) }
    };
    table(&COLUMNS, &archives.iter().map(row).collect::<Vec<_>>(), width)
}

const LONG: [Column; 12] = [
    Column::left("JOB"),
    Column::left("ID"),
    Column::left("FINISHED"),
    Column::right("AGE"),
    Column::right("SIZE"),
    Column::right("HOLDS"),
    Column::right("STORED"),
    Column::left("VERIFIED"),
    Column::left("AT"),
    Column::left("HOST"),
    Column::left("KIND"),
    Column::left("SET"),
];

/// All that the store says of archives without a passphrase.
pub fn long(archives: &[Listed], now: Timestamp) -> Vec<String> {
    let at = |time: Timestamp| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
    let row = |listed: &Listed| {
        let id = || listed.id.to_string();
        let age = listed.id.time().map_or("-".into(), |at| age(at, now));
        let mark = listed.verified();
        let seen = mark.and_then(|mark| mark.at.time()).map_or("-".into(), at);
        let level = mark.map_or("-".into(), |mark| level(listed, mark));
        let cells = match &listed.manifest {
            Ok(m) => vec![
                listed.job.clone(),
                id(),
                at(m.finished),
                age,
                human_bytes(restored(m)),
                share(m),
                human_bytes(stored(m)),
                level,
                seen,
                host(m),
                m.kind.to_string(),
                m.set.as_deref().map_or_else(|| "-".into(), printable),
            ],
            Err(_) => {
                let mut cells = vec!["-".to_string(); LONG.len()];
                (cells[0], cells[1], cells[3]) = (listed.job.clone(), id(), age);
                cells
            }
        };
        let error = listed.manifest.as_ref().err().map(ToString::to_string);
        Row { cells, remarks: remarks(listed, error) }
    };
    table(&LONG, &archives.iter().map(row).collect::<Vec<_>>(), None)
}

/// What there is in all, and what of it is to be looked at.
pub fn summary(listing: &Listing<Listed>, width: Option<usize>) -> Vec<String> {
    let archives = &listing.items;
    let jobs: BTreeSet<&str> = archives.iter().map(|listed| listed.job.as_str()).collect();
    let manifests = || archives.iter().filter_map(|listed| listed.manifest.as_ref().ok());
    let mut text = format!(
        "{} of {}, {} stored at {}",
        counted(archives.len() as u64, "archive"),
        counted(jobs.len() as u64, "job"),
        human_bytes(manifests().map(stored).sum()),
        listing.store,
    );
    let damaged = archives.iter().filter(|listed| !listed.is_whole()).count();
    if damaged > 0 {
        text += &format!("; {damaged} not whole");
    }
    let mut lines = wrapped(&text, width.unwrap_or(usize::MAX), "");
    if listing.uncommitted > 0 {
        let runs = counted(listing.uncommitted as u64, "run");
        let text =
            format!("objects of {runs} without a manifest: under way, or left behind (`sealift clean`)");
        lines.extend(wrapped(&text, width.unwrap_or(usize::MAX), ""));
    }
    lines
}

/// The beginnings of ids that tell them apart, where these are a time.
fn short_ids(archives: &[Listed]) -> BTreeMap<(&str, &Id), &str> {
    let mut alike: BTreeMap<(&str, &str), Vec<&Id>> = BTreeMap::new();
    for listed in archives {
        let short = listed.id.as_str().get(..SHORT_ID).unwrap_or(listed.id.as_str());
        alike.entry((listed.job.as_str(), short)).or_default().push(&listed.id);
    }
    let alone = alike.into_iter().filter(|(_, ids)| ids.len() == 1);
    alone.flat_map(|((job, short), ids)| ids.into_iter().map(move |id| ((job, id), short))).collect()
}

fn age(at: Timestamp, now: Timestamp) -> String {
    short_time(at.duration_until(now).try_into().unwrap_or_default())
}

/// Bytes that are restored from it, also from those that it needs.
fn restored(manifest: &Manifest) -> u64 {
    manifest.bytes.saturating_add(manifest.kept.bytes)
}

fn stored(manifest: &Manifest) -> u64 {
    manifest.archive.size.saturating_add(manifest.catalog.size)
}

fn host(manifest: &Manifest) -> String {
    // Whoever can write to the store can have written it.
    manifest.host.as_deref().map_or_else(|| "-".into(), printable)
}

/// `full`, or `+1.20 GiB`: what it adds itself.
fn share(manifest: &Manifest) -> String {
    match manifest.needs.is_empty() {
        _ if manifest.partial => format!("part: {}", human_bytes(manifest.bytes)),
        true => "full".into(),
        false => format!("+{}", human_bytes(manifest.bytes)),
    }
}

/// `whole`: all that it needs; `own`, where older archives that it needs were not read.
fn level(listed: &Listed, mark: &VerificationKey) -> String {
    let is_increment = listed.manifest.as_ref().is_ok_and(|manifest| !manifest.needs.is_empty());
    match mark.level {
        Level::Whole if is_increment => "own".into(),
        Level::All => Level::Whole.to_string(),
        _ => mark.to_string(),
    }
}

/// `whole 3d`
fn verified(listed: &Listed, now: Timestamp) -> String {
    let shown = listed.verified().and_then(|mark| Some((mark, mark.at.time()?)));
    shown.map_or("-".into(), |(mark, at)| {
        let level = level(listed, mark);
        // Of a sample the table has no room for how much of it.
        let word = level.split(' ').next().unwrap_or_default();
        format!("{word} {}", age(at, now))
    })
}

/// Why nothing is known of an archive, in two words.
fn damage(listed: &Listed) -> Option<String> {
    let error = listed.manifest.as_ref().err()?.to_string();
    let lost = error.rsplit('/').next().unwrap_or_default();
    Some(match &listed.needs {
        // Its manifest was read, but an object that it is of is gone.
        Some(_) if lost.contains(".catalog.") => "catalog missing".into(),
        Some(_) => "archive missing".into(),
        None => "manifest damaged".into(),
    })
}

/// What is wrong with an archive, or to be known of it: `2 warnings, increment`. `error` is why nothing else is known.
fn remarks(listed: &Listed, error: Option<String>) -> String {
    let ids = |ids: &[Id]| ids.iter().map(Id::as_str).collect::<Vec<_>>().join(", ");
    let mut remarks = Vec::from_iter(error);
    if let Ok(manifest) = &listed.manifest {
        if manifest.warnings > 0 {
            remarks.push(counted(manifest.warnings, "warning"));
        }
        if manifest.partial {
            remarks.push("part of a run".into());
        } else if !manifest.stands_alone() {
            remarks.push("increment".into());
        }
    }
    let others = [
        (listed.damaged.is_some() && listed.manifest.is_ok(), "damaged".to_string()),
        (!listed.missing.is_empty(), format!("incomplete: {} is gone", ids(&listed.missing))),
        (!listed.damaged_needs.is_empty(), format!("needs {}: damaged", ids(&listed.damaged_needs))),
        (!listed.marks.pins.is_empty(), "pinned".into()),
        (listed.marks.drills.last().is_some(), drill(listed)),
    ];
    remarks.extend(others.into_iter().filter(|(is_so, _)| *is_so).map(|(_, text)| text));
    remarks.join(", ")
}

/// `drill passed`: how the latest ended.
fn drill(listed: &Listed) -> String {
    listed.marks.drills.last().map(|key| format!("drill {}", key.outcome)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::list::tests::{ID, damaged, listed, verified_by};
    use super::*;
    use crate::error::Error;
    use crate::store::record::WHOLE;

    fn now() -> Timestamp {
        "2026-11-24T02:00:00Z".parse().unwrap()
    }

    fn words(line: &str) -> String {
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn row(listed: Listed) -> String {
        fitted(&[listed], now(), None).remove(1)
    }

    #[test]
    fn an_archive_says_how_old_and_how_large_it_is_and_where_it_was_made() {
        let mut archive = listed("db", 0);
        archive.manifest.as_mut().unwrap().host = Some("web1\n".into());
        assert_eq!(words(&row(archive)), format!("db {ID} 2d 4.0K 1.0K - web1\\n"));
        let archive = listed("db", 0);
        let line = words(&long(&[archive], now())[1]);
        assert_eq!(line, format!("db {ID} 2026-11-22 02:00:30Z 2d 4.00 KiB full 1.00 KiB - - - tar -"));
    }

    #[test]
    fn an_increment_says_what_is_restored_and_what_it_adds() {
        let mut increment = listed("db", 0);
        let manifest = increment.manifest.as_mut().unwrap();
        (manifest.needs, manifest.kept.bytes, manifest.kept.entries) =
            (vec![ID.parse().unwrap()], 1 << 40, 7);
        assert!(long(&[listed("db", 0)], now())[1].contains("  full  "));
        let line = &long(std::slice::from_ref(&increment), now())[1];
        assert!(line.contains("1.00 TiB  +4.00 KiB") && line.ends_with("  increment"), "{line}");
        assert!(words(&row(increment)).ends_with("2d 1.0T 1.0K - - increment"));
    }

    #[test]
    fn what_is_wrong_is_said_behind_the_archive_in_words() {
        let ids = |text: &str| vec![text.parse::<Id>().unwrap()];
        let (gone, bad) = ("20261101T020000Z-00000001", "20261102T020000Z-00000002");
        let found = Listed { damaged: Some(ID.parse().unwrap()), ..listed("db", 1) };
        assert!(row(found).ends_with("  1 warning, damaged"));
        let incomplete = Listed { missing: ids(gone), damaged_needs: ids(bad), ..listed("db", 2) };
        let remarks = format!("  2 warnings, incomplete: {gone} is gone, needs {bad}: damaged");
        assert!(row(incomplete).ends_with(&remarks));
        let mut pinned = listed("db", 0);
        pinned.marks.pins.push(ID.parse().unwrap());
        assert!(row(pinned).ends_with("  pinned"));
        let lost = |object: &str| {
            let error = Error::damaged(format!("s3://b has lost db/{ID}{object}"));
            row(Listed { manifest: Err(error), needs: Some(Vec::new()), ..listed("db", 0) })
        };
        assert!(lost(".tar.zst.gpg").ends_with("  archive missing"));
        assert!(lost(".catalog.zst.gpg").ends_with("  catalog missing"));
        let unread = || Listed { needs: None, ..damaged("db") };
        assert!(row(unread()).ends_with("  manifest damaged"));
        assert!(long(&[unread()], now())[1].ends_with("  no manifest"), "{:?}", long(&[unread()], now()));
    }

    #[test]
    fn the_best_verification_is_shown_with_its_age() {
        let shown = |listed: &Listed| verified(listed, now());
        assert_eq!(shown(&listed("db", 0)), "-");
        assert_eq!(shown(&verified_by(Level::Whole, WHOLE)), "whole 22h");
        let mut increment = verified_by(Level::Whole, WHOLE);
        increment.manifest.as_mut().unwrap().needs = vec![ID.parse().unwrap()];
        assert_eq!(shown(&increment), "own 22h", "of what it needs nothing was read");
        increment.marks.verified[0].level = Level::All;
        assert_eq!(shown(&increment), "whole 22h");
        let sample = verified_by(Level::Sample, 512);
        assert_eq!(shown(&sample), "sample 22h");
        assert!(long(&[sample], now())[1].contains("  sample 5.12%  2026-11-23 03:04:05Z  "));
    }

    #[test]
    fn a_terminal_gets_ids_that_are_no_longer_than_it_takes_to_tell_them_apart() {
        let other = Listed { id: "20261122T020000Z-00000000".parse().unwrap(), ..listed("b", 0) };
        let lines = fitted(&[listed("a", 0), listed("b", 0), other], now(), Some(80));
        assert!(lines[1].starts_with("a    20261122T020000Z  "), "{lines:#?}");
        assert!(lines[2].contains(ID) && lines[3].contains("-00000000"), "{lines:#?}");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let long = "team/application/dtr-registry-0123456789ab";
        let worst = |bytes: usize| {
            let mut worst = verified_by(Level::Manifest, WHOLE);
            (worst.job, worst.missing) = (long.into(), vec![ID.parse().unwrap()]);
            let manifest = worst.manifest.as_mut().unwrap();
            (manifest.host, manifest.bytes) = (Some("a-host-of-a-cluster.example.com".into()), bytes as u64);
            worst
        };
        for width in [40, 60, 80, 120] {
            let listing = Listing {
                store: "s3://backups/prod".into(),
                items: vec![listed("db", 0), damaged("host"), worst(width)],
                uncommitted: 2,
                passed_over: 0,
                unreadable: Vec::new(),
            };
            let mut lines = fitted(&listing.items, now(), Some(width));
            lines.extend(summary(&listing, Some(width)));
            assert!(lines.iter().all(|line| line.chars().count() <= width), "{width}: {lines:#?}");
            assert!(lines.iter().any(|line| line.contains("missing")), "{lines:#?}");
        }
    }

    #[test]
    fn a_summary_counts_archives_jobs_and_what_no_manifest_names() {
        let listing = |items: Vec<Listed>, uncommitted| Listing {
            store: "file:///b".into(),
            items,
            uncommitted,
            passed_over: 0,
            unreadable: Vec::new(),
        };
        let of = |listing: &Listing<Listed>| summary(listing, None).join("\n");
        let one = of(&listing(vec![listed("db", 0)], 0));
        assert_eq!(one, "1 archive of 1 job, 1.00 KiB stored at file:///b");
        let several = of(&listing(vec![listed("a", 0), damaged("b"), listed("b", 0)], 1));
        assert_eq!(
            several,
            "3 archives of 2 jobs, 2.00 KiB stored at file:///b; 1 not whole\n\
             objects of 1 run without a manifest: under way, or left behind (`sealift clean`)"
        );
    }
}
