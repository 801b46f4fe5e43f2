//! When a schedule is due: a cron expression in a time zone.
//!
//! croner reads the expression and knows which times of a calendar match. What becomes of a time that a change of the clock
//! leaves out or repeats is settled here: croner does that for an expression with a single time of the day alone, and would
//! leave out `30 1,2 * * *` in spring, and run it twice in autumn.

use std::fmt;
use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Year};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, Timestamp};

use crate::error::{Error, Result};

/// How far back the newest due time is looked for, step by step: an expression of every second must not be followed through
/// a year, one of every February 29th must be found.
const WINDOWS: [i64; 5] = [2, 48, 62 * 24, 400 * 24, 9 * 366 * 24];

/// Of how many due times the longest interval is known: of the working days, a week-end is among them.
const SEEN: usize = 9;

/// A cron expression, of five fields or of six with seconds first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression(Cron);

impl Expression {
    /// Reads it.
    ///
    /// # Errors
    /// It is none.
    pub fn new(text: &str) -> Result<Self> {
        let wrong = || {
            Error::usage(format!("{text:?} is no cron expression"))
                .hint("write \"30 2 * * *\" for every night at 02:30: minute, hour, day, month, weekday")
        };
        let parser = CronParser::builder().year(Year::Disallowed).build();
        let cron = parser.parse(text).map_err(|error| wrong().because(error.to_string()))?;
        let (utc, now) = (TimeZone::UTC, Timestamp::UNIX_EPOCH);
        match (When { expression: Expression(cron.clone()), zone: utc }).next(now) {
            Some(_) => Ok(Expression(cron)),
            None => Err(wrong().because("there is no such day")),
        }
    }

    /// Whether it goes on through all hours: then its interval counts, and not the time of the day.
    fn is_hourly(&self) -> bool {
        (0..24).all(|hour| self.0.pattern.hour_match(hour).unwrap_or(false))
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

/// An expression in a time zone.
///
/// A time of the day that does not exist on a day is due once, at the first moment after the gap; one that exists twice is
/// due once, the first time. An expression for all hours of the day is due as often as the clock shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct When {
    /// The expression.
    pub expression: Expression,
    /// The time zone in which it is meant.
    pub zone: TimeZone,
}

impl When {
    /// The longest time between two due times, of the next ones after this moment.
    pub fn interval(&self, after: Timestamp) -> Option<Duration> {
        let due: Vec<_> = std::iter::successors(self.next(after), |due| self.next(*due)).take(SEEN).collect();
        let gaps = due.windows(2).map(|pair| pair[0].duration_until(pair[1]).unsigned_abs());
        gaps.max()
    }

    /// The first due time after this moment.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let cron = &self.expression.0;
        if self.expression.is_hourly() {
            let next = cron.find_next_occurrence(&after.to_zoned(self.zone.clone()), false).ok()?;
            return Some(next.timestamp()).filter(|next| *next > after);
        }
        let mut civil = self.zone.to_datetime(after);
        loop {
            civil = cron.find_next_occurrence(&civil, false).ok()?;
            if let Some(next) = self.at(civil).filter(|next| *next > after) {
                return Some(next);
            }
        }
    }

    /// The moment at which a clock first shows this time, or would have.
    fn at(&self, civil: DateTime) -> Option<Timestamp> {
        let ambiguous = self.zone.to_ambiguous_zoned(civil);
        match ambiguous.offset() {
            AmbiguousOffset::Gap { .. } => {
                let before = ambiguous.earlier().ok()?.timestamp();
                Some(self.zone.following(before).next()?.timestamp())
            }
            _ => Some(ambiguous.earlier().ok()?.timestamp()),
        }
    }

    /// The newest due time after `after` and up to `until`.
    pub fn newest(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        for hours in WINDOWS {
            let from = until.checked_sub(Span::new().hours(hours)).unwrap_or(Timestamp::MIN).max(after);
            if let Some(newest) = self.between(from, until).last() {
                return Some(newest);
            }
            if from == after {
                break;
            }
        }
        None
    }

    /// The newest due time from `first` on, which is one, and before `until`.
    pub fn before(&self, first: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let before = until.checked_sub(Duration::from_nanos(1)).ok().filter(|before| *before >= first)?;
        Some(self.newest(first, before).unwrap_or(first))
    }

    /// The due times after `after` and up to `until`.
    pub fn between(&self, after: Timestamp, until: Timestamp) -> impl Iterator<Item = Timestamp> {
        std::iter::successors(self.next(after), |due| self.next(*due)).take_while(move |due| *due <= until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_interval_is_that_over_the_week_end() {
        let hours = |text: &str| {
            let when = When { expression: Expression::new(text).unwrap(), zone: TimeZone::UTC };
            when.interval("2026-11-27T12:00:00Z".parse().unwrap()).unwrap().as_secs() / 3600
        };
        assert_eq!((hours("30 2 * * *"), hours("0 2 * * MON-FRI"), hours("0 * * * *")), (24, 72, 1));
    }

    fn when(expression: &str, zone: &str) -> When {
        When { expression: Expression::new(expression).unwrap(), zone: TimeZone::get(zone).unwrap() }
    }

    /// The due times within these, in the zone's own time with its offset.
    fn due(expression: &str, zone: &str, from: &str, until: &str) -> Vec<String> {
        let when = when(expression, zone);
        let at = |civil: &str| civil.parse::<DateTime>().unwrap().to_zoned(when.zone.clone()).unwrap();
        let (from, until) = (at(from).timestamp(), at(until).timestamp());
        let shown = |due: Timestamp| due.to_zoned(when.zone.clone()).strftime("%d %H:%M%:z").to_string();
        when.between(from, until).map(shown).collect()
    }

    #[test]
    fn a_time_that_is_left_out_is_due_at_the_first_moment_after() {
        let spring =
            |expression: &str| due(expression, "Europe/Berlin", "2026-03-28T12:00", "2026-03-29T12:00");
        assert_eq!(spring("30 2 * * *"), ["29 03:00+02:00"]);
        // Two times that are left out are due once together.
        assert_eq!(spring("15,45 2 * * *"), ["29 03:00+02:00"]);
        assert_eq!(spring("*/15 2 * * *"), ["29 03:00+02:00"]);
        // croner by itself leaves out the second.
        assert_eq!(spring("30 1,2 * * *"), ["29 01:30+01:00", "29 03:00+02:00"]);
        assert_eq!(spring("0 2,3 * * *"), ["29 03:00+02:00"]);
        assert_eq!(
            due("30 2 * * *", "America/New_York", "2026-03-07T12:00", "2026-03-09T12:00"),
            ["08 03:00-04:00", "09 02:30-04:00"]
        );
        assert_eq!(
            due("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00", "2026-10-05T12:00"),
            ["04 02:30+11:00", "05 02:15+11:00"]
        );
    }

    #[test]
    fn a_time_that_comes_twice_is_due_once() {
        let autumn =
            |expression: &str| due(expression, "Europe/Berlin", "2026-10-24T12:00", "2026-10-25T12:00");
        assert_eq!(autumn("30 2 * * *"), ["25 02:30+02:00"]);
        assert_eq!(autumn("30 1,2,3 * * *"), ["25 01:30+02:00", "25 02:30+02:00", "25 03:30+01:00"]);
        assert_eq!(autumn("*/30 2 * * *"), ["25 02:00+02:00", "25 02:30+02:00"]);
        assert_eq!(
            due("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T12:00", "2026-04-06T12:00"),
            ["05 01:45+11:00", "06 01:45+10:30"]
        );
        assert_eq!(
            due("30 1 * * *", "America/New_York", "2026-10-31T12:00", "2026-11-02T12:00"),
            ["01 01:30-04:00", "02 01:30-05:00"]
        );
    }

    #[test]
    fn what_goes_on_through_all_hours_keeps_its_interval() {
        let minutes = |expression: &str, zone: &str, from: &str, until: &str| {
            let when = when(expression, zone);
            let at = |civil: &str| civil.parse::<DateTime>().unwrap().to_zoned(when.zone.clone()).unwrap();
            let due: Vec<_> = when.between(at(from).timestamp(), at(until).timestamp()).collect();
            let mut apart: Vec<_> =
                due.windows(2).map(|pair| pair[0].duration_until(pair[1]).as_mins()).collect();
            apart.dedup();
            (due.len(), apart)
        };
        for (from, until, hours) in [
            ("2026-03-28T22:59", "2026-03-29T06:59", 7),
            ("2026-10-24T22:59", "2026-10-25T06:59", 9),
            ("2026-06-01T22:59", "2026-06-02T06:59", 8),
        ] {
            assert_eq!(minutes("*/15 * * * *", "Europe/Berlin", from, until), (hours * 4, vec![15]));
            assert_eq!(minutes("0 * * * *", "Europe/Berlin", from, until), (hours, vec![60]));
        }
        // Half an hour more, or less.
        let lord_howe = |from, until| minutes("*/15 * * * *", "Australia/Lord_Howe", from, until);
        assert_eq!(lord_howe("2026-04-04T23:59", "2026-04-05T05:59"), (26, vec![15]));
        assert_eq!(lord_howe("2026-10-03T23:59", "2026-10-04T05:59"), (22, vec![15]));
        assert_eq!(
            minutes("0 0 * * * *", "Asia/Kolkata", "2026-03-28T23:59", "2026-03-29T23:58"),
            (24, vec![60])
        );
    }

    #[test]
    fn every_night_of_thirty_years_is_due_once_wherever_that_is() {
        for zone in
            ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "America/Sao_Paulo"]
        {
            for expression in ["30 2 * * *", "0 0 * * *", "59 23 * * *", "15 1 * * *"] {
                let when = when(expression, zone);
                let (from, until) =
                    ("2000-01-01T12:00Z".parse().unwrap(), "2030-01-01T12:00Z".parse().unwrap());
                let count = when.between(from, until).count();
                assert_eq!(count, 10_958, "{expression} in {zone}");
            }
        }
    }

    #[test]
    fn the_newest_is_the_last_of_all_however_seldom_or_often() {
        let until: Timestamp = "2027-03-29T01:00:00.5Z".parse().unwrap();
        let newest = |expression: &str, after: &str| {
            when(expression, "Europe/Berlin").newest(after.parse().unwrap(), until).map(|due| due.to_string())
        };
        let long_ago = "2001-01-01T00:00Z";
        assert_eq!(newest("* * * * * *", long_ago).as_deref(), Some("2027-03-29T01:00:00Z"));
        assert_eq!(newest("30 2 * * *", long_ago).as_deref(), Some("2027-03-29T00:30:00Z"));
        assert_eq!(newest("0 12 29 2 *", long_ago).as_deref(), Some("2024-02-29T11:00:00Z"));
        assert_eq!(newest("30 2 * * *", "2027-03-29T00:30:00Z"), None);
        assert_eq!(newest("30 2 * * *", "2028-01-01T00:30:00Z"), None);
    }

    #[test]
    fn what_is_no_expression_is_told() {
        for text in ["", "x", "30 2 * *", "61 2 * * *", "0 0 30 2 *", "0 30 2 * * * 2027", "30 25 * * *"] {
            let error = Expression::new(text).unwrap_err();
            assert_eq!(error.kind().exit_code(), 2, "{text}: {error}");
            assert!(error.hint_text().is_some_and(|hint| hint.contains("30 2 * * *")));
        }
        for text in ["30 2 * * *", "0 30 2 * * *", "@daily", "0 4 * * MON-FRI", "0 4 L * *"] {
            assert!(Expression::new(text).is_ok(), "{text}");
        }
    }
}
