//! The grammar, rule by rule, and each floor.

use jiff::tz::TimeZone;

use super::*;

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// An id of that time; `n` tells those of one time apart.
fn id(at: Timestamp, n: u32) -> Id {
    let text = at.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ");
    format!("{text}-{n:08x}").parse().unwrap()
}

fn archive(at: &str) -> Archive {
    let started = time(at);
    Archive {
        id: id(started, 0),
        started,
        needs: Some(Vec::new()),
        set: None,
        is_damaged: false,
        is_partial: false,
        is_pinned: false,
        locked_until: None,
    }
}

/// Rules as on the command line: `last=1 within=2d`.
pub(super) fn policy(words: &str) -> Policy {
    let mut policy = Policy::default();
    for (word, value) in words.split_whitespace().map(|word| word.split_once('=').unwrap()) {
        let place = |word: &str| policy::PERIODS.iter().position(|(_, known)| *known == word).unwrap();
        match word.strip_prefix("within-").or((word == "within").then_some("last")) {
            Some(word) => policy.within[place(word)] = value.parse().unwrap(),
            None if word == "min" => policy.min_keep = value.parse().unwrap(),
            None if word == "zone" => policy.zone = TimeZone::get(value).unwrap(),
            None => policy.counts[place(word)] = value.parse().unwrap(),
        }
    }
    policy
}

fn job(words: &str, archives: Vec<Archive>) -> JobArchives {
    JobArchives { job: "db".into(), policy: Some(policy(words)), archives }
}

const NOW: &str = "2027-06-01T00:00:00Z";

fn reasons(job: &JobArchives) -> Vec<Vec<String>> {
    let kept = decide(std::slice::from_ref(job), &BTreeSet::new(), time(NOW)).remove(0);
    kept.into_iter().map(|reasons| reasons.iter().map(ToString::to_string).collect()).collect()
}

/// The beginnings of the times that are kept, the newest first.
fn kept(words: &str, archives: &[Archive], len: usize) -> Vec<String> {
    let job = job(words, archives.to_vec());
    let found = reasons(&job);
    let kept = job.archives.iter().zip(found).filter(|(_, reasons)| !reasons.is_empty());
    let mut kept: Vec<_> = kept.map(|(archive, _)| archive.started.to_string()[..len].to_string()).collect();
    kept.sort();
    kept.reverse();
    kept
}

fn at(times: &[&str]) -> Vec<Archive> {
    times.iter().map(|at| archive(at)).collect()
}

/// One archive a day at 02:00, for so many days from that day on.
fn nightly(first: &str, days: i64) -> Vec<Archive> {
    let first: jiff::civil::Date = first.parse().unwrap();
    let day = |n| first.checked_add(jiff::Span::new().days(n)).unwrap();
    (0..days).map(|n| archive(&format!("{}T02:00:00Z", day(n)))).collect()
}

/// The example of restic's documentation: backups on Sundays alone; `--keep-daily 4` keeps the last four Sundays.
#[test]
fn a_daily_rule_counts_days_that_have_an_archive() {
    let sundays: Vec<_> = nightly("2026-09-06", 78).into_iter().step_by(7).collect();
    assert_eq!(sundays.len(), 12);
    let last = ["2026-11-22", "2026-11-15", "2026-11-08", "2026-11-01"];
    assert_eq!(kept("daily=4", &sundays, 10), last);
    // On whichever day the rule is applied, and however often.
    let mut left = sundays;
    for _ in 0..3 {
        let found = reasons(&job("daily=4", left.clone()));
        left = left.into_iter().zip(found).filter(|(_, why)| !why.is_empty()).map(|(a, _)| a).collect();
        assert_eq!(left.len(), 4);
    }
}

/// The other one: nightly backups for a hundred years, `--keep-daily 7 --keep-weekly 5 --keep-monthly 12 --keep-yearly 75`.
#[test]
fn all_rules_look_at_all_archives_and_an_archive_may_be_kept_by_several() {
    let words = "daily=7 weekly=5 monthly=12 yearly=75";
    let all = nightly("1926-11-22", 36_525);
    let job = JobArchives { policy: Some(policy(words)), ..job("", all) };
    let found = reasons(&job);
    let count = |word: &str| found.iter().filter(|why| why.iter().any(|reason| reason == word)).count();
    assert_eq!(
        [count("daily"), count("weekly"), count("monthly"), count("yearly")],
        [7, 5, 12, 75],
        "each rule has its number"
    );
    let kept = |word: &str| {
        let days = job.archives.iter().zip(&found).filter(|(_, why)| why.iter().any(|reason| reason == word));
        days.map(|(archive, _)| archive.started.to_string()[..10].to_string()).collect::<Vec<_>>()
    };
    // The last night is that of Sunday, the 22nd of November.
    assert_eq!(job.archives.last().unwrap().started.to_string(), "2026-11-21T02:00:00Z");
    assert_eq!(kept("weekly"), ["2026-10-25", "2026-11-01", "2026-11-08", "2026-11-15", "2026-11-21"]);
    assert_eq!(kept("monthly")[..2], ["2025-12-31", "2026-01-31"]);
    assert_eq!(kept("yearly")[..2], ["1952-12-31", "1953-12-31"]);
    assert_eq!(kept("yearly").last().unwrap(), "2026-11-21");
    assert_eq!(found.last().unwrap(), &["daily", "weekly", "monthly", "yearly", "newest"]);
    // Two of the weeks end on days that are kept, this month does, and so do this year and the last.
    assert_eq!(found.iter().filter(|why| !why.is_empty()).count(), 7 + 3 + 11 + 73);
}

#[test]
fn of_a_period_the_newest_is_kept() {
    let all = at(&[
        "2026-11-20T02:00:00Z",
        "2026-11-20T02:59:59Z",
        "2026-11-20T03:00:00Z",
        "2026-11-21T23:59:59Z",
        "2026-11-22T00:00:00Z",
    ]);
    let kept = |words: &str| kept(words, &all, 16);
    assert_eq!(kept("last=2"), ["2026-11-22T00:00", "2026-11-21T23:59"]);
    assert_eq!(kept("daily=2"), ["2026-11-22T00:00", "2026-11-21T23:59"]);
    assert_eq!(kept("hourly=4")[2..], ["2026-11-20T03:00", "2026-11-20T02:59"]);
    assert_eq!(kept("weekly=1"), ["2026-11-22T00:00"]);
    assert_eq!(kept("hourly=unlimited").len(), 5, "four hours, and the oldest of all");
    // Elsewhere it was the 22nd already.
    assert_eq!(self::kept("daily=2 zone=Europe/Berlin", &all, 16), ["2026-11-22T00:00", "2026-11-20T03:00"]);
}

#[test]
fn as_long_as_a_rule_has_some_left_the_oldest_is_kept() {
    let all = nightly("2026-11-02", 10);
    assert_eq!(kept("weekly=3", &all, 10), ["2026-11-11", "2026-11-08", "2026-11-02"]);
    let found = reasons(&job("weekly=3", all.clone()));
    assert_eq!(found[0], ["oldest weekly"]);
    assert_eq!(kept("weekly=2", &all, 10), ["2026-11-11", "2026-11-08"]);
}

#[test]
fn what_is_new_enough_is_kept_counted_from_the_newest_and_not_from_today() {
    let all = nightly("2026-11-01", 20);
    assert_eq!(kept("within=3d", &all, 10), ["2026-11-20", "2026-11-19", "2026-11-18"]);
    assert_eq!(kept("within=2d1h", &all, 10), ["2026-11-20", "2026-11-19", "2026-11-18"]);
    assert_eq!(kept("within-weekly=15d", &all, 10), ["2026-11-20", "2026-11-15", "2026-11-08"]);
    assert_eq!(reasons(&job("within=1d", all.clone())).last().unwrap(), &["within 1d", "newest"]);
    assert_eq!(kept("within-weekly=1y", &all, 10).last().unwrap(), "2026-11-01", "the oldest of all, too");
}

#[test]
fn the_newest_is_kept_whatever_the_rules_say() {
    let all = nightly("2026-11-01", 5);
    assert_eq!(kept("hourly=0", &all, 10), ["2026-11-05"]);
    assert_eq!(kept("hourly=0 min=3", &all, 10), ["2026-11-05", "2026-11-04", "2026-11-03"]);
    assert_eq!(kept("hourly=0 min=0", &all, 10), ["2026-11-05"]);
    // The one that was made last, where clocks were set back: its id is the latest.
    let mut last = archive("2026-10-01T02:00:00Z");
    last.id = id(time("2026-11-05T02:00:01Z"), 1);
    assert_eq!(kept("hourly=0", &[all, vec![last]].concat(), 10), ["2026-11-05", "2026-10-01"]);
    let without = JobArchives { policy: None, ..job("", nightly("2026-11-01", 5)) };
    assert!(reasons(&without).iter().all(|why| why == &["no rule"]));
}

/// offen/docker-volume-backup #631: by age alone, nights that fail for weeks would take the last good archives.
#[test]
fn nights_that_fail_eat_no_good_archives() {
    let good = nightly("2026-03-01", 7);
    for words in ["daily=7", "last=7", "within=7d", "hourly=7", "daily=7 weekly=4"] {
        // It is June of the year after, and nothing was made since.
        assert_eq!(kept(words, &good, 10).len(), 7, "{words}");
    }
}

#[test]
fn nothing_newer_than_the_clock_is_dropped_or_counted() {
    let all = [nightly("2026-11-01", 5), nightly("2031-01-01", 3)].concat();
    assert_eq!(kept("last=2", &all, 10).len(), 5);
    let found = reasons(&job("last=2 within=2d", all));
    assert_eq!(found[4], ["last", "within 2d", "newest"]);
    assert_eq!(found[5], ["newer than the clock"]);
    assert_eq!(found[7], ["newest", "newer than the clock"]);
    assert!(found[0].is_empty());
}

#[test]
fn a_damaged_archive_takes_no_good_ones_place() {
    let mut all = at(&[
        "2026-11-18T02:00:00Z",
        "2026-11-19T02:00:00Z",
        "2026-11-20T02:00:00Z",
        "2026-11-21T02:00:00Z",
        "2026-11-22T02:00:00Z",
        "2026-11-22T03:00:00Z",
    ]);
    for damaged in [2, 3, 5] {
        all[damaged].is_damaged = true;
    }
    let found = reasons(&job("daily=2", all.clone()));
    assert_eq!(found[4], ["daily", "newest"], "the later one of that day is damaged");
    assert_eq!(
        (&found[3], &found[2]),
        (&vec!["daily (damaged)".to_string()], &vec!["daily (damaged)".into()])
    );
    assert_eq!(found[1], ["daily"], "two whole ones are counted");
    assert!(found[0].is_empty());
    assert_eq!(found[5], ["newest"], "it was made last");
    let found = reasons(&job("last=2", all.clone()));
    assert!(!found[4].is_empty() && !found[1].is_empty() && found[0].is_empty(), "{found:?}");
    // Where all that is new is damaged, it is no reason to let go what is old.
    all.iter_mut().skip(1).for_each(|archive| archive.is_damaged = true);
    for words in ["last=1", "daily=1", "within=1d"] {
        assert!(!reasons(&job(words, all.clone()))[0].is_empty(), "{words}");
    }
}

#[test]
fn what_a_kept_one_needs_is_kept_and_what_that_needs() {
    let mut all = nightly("2026-11-01", 5);
    let ids: Vec<_> = all.iter().map(|archive| archive.id.clone()).collect();
    all[4].needs = Some(vec![ids[2].clone()]);
    all[3].needs = Some(vec![ids[1].clone()]);
    all[2].needs = Some(vec![ids[0].clone()]);
    let found = reasons(&job("last=1", all.clone()));
    assert_eq!(found[2], [format!("needed by {}", ids[4])]);
    assert_eq!(found[0], [format!("needed by {}", ids[2])]);
    assert!(found[1].is_empty() && found[3].is_empty());
    all[3].needs = Some(vec![ids[2].clone(), ids[0].clone()]);
    let found = reasons(&job("last=2", all.clone()));
    assert_eq!(found[2], [format!("needed by {} and 1 more", ids[4])]);
    assert_eq!(found[0], [format!("needed by {} and 1 more", ids[3])]);
    // Of one whose manifest cannot be read nobody knows what it needs.
    all[4].needs = None;
    all[4].is_damaged = true;
    let found = reasons(&job("last=1", all));
    assert!(
        found[1].contains(&format!("may be needed by {}, whose manifest is damaged or missing", ids[4])),
        "{found:?}"
    );
}

#[test]
fn a_pin_keeps_an_archive_and_what_it_needs() {
    let mut all = nightly("2026-11-01", 5);
    all[1].is_pinned = true;
    all[1].needs = Some(vec![all[0].id.clone()]);
    let found = reasons(&job("last=1", all.clone()));
    assert_eq!(
        (&found[1], &found[0]),
        (&vec!["pinned".to_string()], &vec![format!("needed by {}", all[1].id)])
    );
    assert!(found[2].is_empty());
    // It is counted like any other.
    assert_eq!(kept("last=4", &all, 10).len(), 5);
}

#[test]
fn parts_of_a_run_are_kept_for_what_may_still_need_them() {
    let mut all = nightly("2026-11-01", 6);
    for part in [0, 1, 5] {
        all[part].is_partial = true;
    }
    all[2].needs = Some(vec![all[1].id.clone()]);
    let found = reasons(&job("last=3", all.clone()));
    assert_eq!(found[5], ["part of an unfinished run"]);
    assert_eq!(found[1], [format!("needed by {}", all[2].id)]);
    assert!(found[0].is_empty(), "{found:?}");
    assert_eq!(found.iter().filter(|why| why.contains(&"last".into())).count(), 3, "they are not counted");
}

fn run(name: &str, at: &str) -> SetRef {
    SetRef { name: name.into(), id: id(time(at), 7) }
}

#[test]
fn a_run_of_a_set_is_kept_whole_or_not_at_all() {
    let runs: Vec<_> = (1..=5).map(|day| run("ee", &format!("2026-11-0{day}T02:00:00Z"))).collect();
    let member = |n: usize| Archive { set: Some(runs[n].clone()), ..nightly("2026-11-01", 5).remove(n) };
    let members: Vec<_> = (0..5).map(member).collect();
    let one = JobArchives { job: "ee/a".into(), ..job("last=1", members.clone()) };
    let mut other = JobArchives { job: "ee/b".into(), ..job("last=3", members) };
    // The runs of the 3rd and the 5th are not complete.
    let complete = BTreeSet::from([runs[0].clone(), runs[1].clone(), runs[3].clone()]);
    let found = decide(&[one.clone(), other.clone()], &complete, time(NOW));
    let is_kept = |found: &[Reasons], job: usize| -> Vec<bool> {
        found[job].iter().map(|reasons| !reasons.is_empty()).collect()
    };
    assert_eq!(is_kept(&found, 0), [false, false, true, true, true]);
    assert_eq!(is_kept(&found, 0), is_kept(&found, 1));
    let texts: Vec<_> = found[0][2].iter().map(ToString::to_string).collect();
    assert_eq!(texts, [format!("with {}", runs[2])]);
    // The newest complete one stays, though both jobs have newer archives.
    other.policy = Some(policy("last=1"));
    let found = decide(&[one, other], &complete, time(NOW));
    assert_eq!(is_kept(&found, 1), [false, false, false, true, true]);
    assert!(found[0][3].contains(&Reason::NewestRun(runs[3].clone())));
}

#[test]
fn of_a_period_the_archive_whose_run_is_complete_is_kept() {
    let runs = [run("ee", "2026-11-21T02:00:00Z"), run("ee", "2026-11-21T12:00:00Z")];
    let mut all = at(&["2026-11-21T02:00:00Z", "2026-11-21T12:00:00Z", "2026-11-22T02:00:00Z"]);
    (all[0].set, all[1].set) = (Some(runs[0].clone()), Some(runs[1].clone()));
    let complete = BTreeSet::from([runs[0].clone()]);
    let found = decide(&[job("daily=2", all)], &complete, time(NOW)).remove(0);
    assert!(found[0].contains(&Reason::Rule(Period::Day)) && found[1].is_empty(), "{found:?}");
}
