//! The rules that say what is kept: restic's words, to the letter.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use crate::error::{Error, Result};

/// How many a rule keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// So many.
    Of(u32),
    /// All there are.
    Unlimited,
}

impl Count {
    /// Whether there is one left to give.
    pub(super) fn is_left(self) -> bool {
        self != Count::Of(0)
    }

    /// One less.
    pub(super) fn less(self) -> Count {
        match self {
            Count::Of(n) => Count::Of(n.saturating_sub(1)),
            Count::Unlimited => Count::Unlimited,
        }
    }
}

impl Default for Count {
    fn default() -> Self {
        Count::Of(0)
    }
}

impl FromStr for Count {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "unlimited" | "-1" => Ok(Count::Unlimited),
            _ => text.parse().map(Count::Of).map_err(|_| {
                Error::usage(format!("{text:?} is no number of archives")).hint("write 7, or unlimited")
            }),
        }
    }
}

/// A time in the words of the calendar, as in `2y5m7d3h`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    years: u16,
    months: u16,
    days: u16,
    hours: u16,
}

impl Span {
    fn is_zero(self) -> bool {
        self == Span::default()
    }

    /// The time that lies so far before another, as clocks and calendars of a zone have it. Where a month has no such day,
    /// the next one's first days follow, as in restic: a month before the 31st of March is the 3rd, or the 2nd.
    pub(super) fn before(self, time: Timestamp, zone: &TimeZone) -> Timestamp {
        let civil = time.to_zoned(zone.clone()).datetime();
        let months = i32::from(civil.year()) * 12 + i32::from(civil.month())
            - 1
            - i32::from(self.years) * 12
            - i32::from(self.months);
        let (year, month) = (months.div_euclid(12), months.rem_euclid(12) + 1);
        let days = i64::from(civil.day()) - 1 - i64::from(self.days);
        let first = i16::try_from(year).ok().and_then(|year| Date::new(year, month as i8, 1).ok());
        let date = first.and_then(|first| first.checked_add(jiff::Span::new().days(days)).ok());
        let then = date.and_then(|date| date.to_datetime(civil.time()).to_zoned(zone.clone()).ok());
        let hours = jiff::SignedDuration::from_hours(self.hours.into());
        // What lies before all calendars is older than all archives.
        then.and_then(|then| then.timestamp().checked_sub(hours).ok()).unwrap_or(Timestamp::MIN)
    }
}

impl FromStr for Span {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::usage(format!("{text:?} is no time of years, months, days and hours"))
                .hint("write 2y5m7d3h, or a part of it: 30d")
        };
        let (mut span, mut digits) = (Span::default(), String::new());
        for c in text.chars() {
            let field = match c {
                '0'..='9' => {
                    digits.push(c);
                    continue;
                }
                'y' => &mut span.years,
                'm' => &mut span.months,
                'd' => &mut span.days,
                'h' => &mut span.hours,
                _ => return Err(wrong()),
            };
            // Of two numbers of days, either may be meant.
            if *field != 0 {
                return Err(wrong());
            }
            *field = std::mem::take(&mut digits).parse().map_err(|_| wrong())?;
        }
        if text.is_empty() || !digits.is_empty() { Err(wrong()) } else { Ok(span) }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [(self.years, 'y'), (self.months, 'm'), (self.days, 'd'), (self.hours, 'h')];
        parts.iter().filter(|(n, _)| *n > 0).try_for_each(|(n, unit)| write!(f, "{n}{unit}"))
    }
}

/// What a rule keeps one of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Period {
    /// Each for itself.
    Each,
    /// `2026-11-22 02`
    Hour,
    /// `2026-11-22`
    Day,
    /// Monday to Sunday.
    Week,
    /// `2026-11`
    Month,
    /// `2026`
    Year,
}

/// All of them, each with the word of its rule.
pub const PERIODS: [(Period, &str); 6] = [
    (Period::Each, "last"),
    (Period::Hour, "hourly"),
    (Period::Day, "daily"),
    (Period::Week, "weekly"),
    (Period::Month, "monthly"),
    (Period::Year, "yearly"),
];

impl Period {
    /// What tells one such period from others of its kind: when it is, by the clocks there, and the archive's place.
    pub(super) fn of(self, civil: DateTime, nth: usize) -> (i64, i64) {
        let date = civil.date();
        let day = || i64::from(date.month()) * 100 + i64::from(date.day());
        match self {
            Period::Each => (0, nth as i64),
            Period::Hour => (date.year().into(), day() * 100 + i64::from(civil.hour())),
            Period::Day => (date.year().into(), day()),
            Period::Week => {
                let week = date.iso_week_date();
                (week.year().into(), week.week().into())
            }
            Period::Month => (date.year().into(), date.month().into()),
            Period::Year => (date.year().into(), 0),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = PERIODS.iter().find(|(period, _)| period == self).map_or("", |(_, word)| word);
        f.write_str(word)
    }
}

/// How many of each period are kept, and for how long: an archive that any of these keeps is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The newest of each of the last so many periods that have an archive, as in [`PERIODS`].
    pub counts: [Count; 6],
    /// The newest of each period that is no older than this before the newest archive; all where it is each.
    pub within: [Span; 6],
    /// So many of the newest are kept whatever the rules say; never less than one.
    pub min_keep: u32,
    /// Whose hours, days and weeks these are.
    pub zone: TimeZone,
}

impl Default for Policy {
    fn default() -> Self {
        Policy { counts: Default::default(), within: Default::default(), min_keep: 1, zone: TimeZone::UTC }
    }
}

impl Policy {
    /// Whether no rule keeps anything.
    pub fn is_empty(&self) -> bool {
        !self.counts.iter().any(|count| count.is_left()) && self.within.iter().all(|span| span.is_zero())
    }

    /// The rules that keep something of the last so many periods.
    pub(super) fn counted(&self) -> impl Iterator<Item = (Period, Count)> {
        let rules = PERIODS.iter().zip(self.counts).map(|((period, _), count)| (*period, count));
        rules.filter(|(_, count)| count.is_left())
    }

    /// The rules that keep what is new enough.
    pub(super) fn timed(&self) -> impl Iterator<Item = (Period, Span)> {
        let rules = PERIODS.iter().zip(self.within).map(|((period, _), span)| (*period, span));
        rules.filter(|(_, span)| !span.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn times_are_read_as_restic_writes_them() {
        for (text, shown) in [("2y5m7d3h", "2y5m7d3h"), ("30d", "30d"), ("3h1y", "1y3h"), ("0d", "")] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), shown);
        }
        for wrong in ["", "7", "d", "1d1d", "7w", "-7d", "7 d", "70000d", "1.5y"] {
            assert_eq!(wrong.parse::<Span>().unwrap_err().kind().exit_code(), 2, "{wrong:?}");
        }
        let counts = ["7", "0", "unlimited", "-1"].map(|text| text.parse::<Count>().unwrap());
        assert_eq!(counts, [Count::Of(7), Count::Of(0), Count::Unlimited, Count::Unlimited]);
        assert!("-2".parse::<Count>().is_err() && "all".parse::<Count>().is_err());
    }

    #[test]
    fn a_time_before_another_is_the_calendars() {
        let before = |span: &str, at: &str| span.parse::<Span>().unwrap().before(time(at), &TimeZone::UTC);
        assert_eq!(before("2y5m7d3h", "2026-11-22T02:00:00Z"), time("2024-06-14T23:00:00Z"));
        assert_eq!(before("1m", "2026-03-31T02:00:00Z"), time("2026-03-03T02:00:00Z"));
        assert_eq!(before("1m", "2024-03-31T02:00:00Z"), time("2024-03-02T02:00:00Z"));
        assert_eq!(before("1y", "2024-02-29T02:00:00Z"), time("2023-03-01T02:00:00Z"));
        assert_eq!(before("65535y", "2024-02-29T02:00:00Z"), Timestamp::MIN);
        // A day before is the same time of day, however long the night was.
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let before = "1d".parse::<Span>().unwrap().before(time("2026-10-25T11:00:00Z"), &berlin);
        assert_eq!(before, time("2026-10-24T10:00:00Z"));
    }

    #[test]
    fn periods_are_those_of_the_zone() {
        let (late, next) = (time("2026-12-31T23:30:00Z"), time("2027-01-01T00:30:00Z"));
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        for (period, _) in &PERIODS[2..] {
            let of = |time: Timestamp, zone: &TimeZone| period.of(time.to_zoned(zone.clone()).datetime(), 0);
            let is_one = |zone: &TimeZone| of(late, zone) == of(next, zone);
            assert_eq!(
                (is_one(&TimeZone::UTC), is_one(&berlin)),
                (*period == Period::Week, true),
                "{period}"
            );
        }
        // The week that a year begins in may be the last one of the year before.
        let week = |day: &str| Period::Week.of(format!("{day}T12:00:00").parse().unwrap(), 0);
        assert_eq!((week("2027-01-03"), week("2027-01-04")), ((2026, 53), (2027, 1)));
        // An hour that comes twice is one hour.
        let hour = |at: &str| Period::Hour.of(time(at).to_zoned(berlin.clone()).datetime(), 0);
        assert_eq!(hour("2026-10-25T00:30:00Z"), hour("2026-10-25T01:30:00Z"));
    }
}
