//! Rates, as people write them: one, or a timetable in the form of rclone's `--bwlimit`.

use super::size;
use crate::error::{Error, Result};
use crate::store::rate::{Entry, Timetable};

const FORM: &str = "write 10MiB (a second), off, or a timetable: \"08:00,2MiB 19:00,off\", \"Mon-08:00,512KiB Sat-00:00,off\"";

/// `10MiB`, `10MiB/s`, `off`; or a timetable, `08:00,2MiB 19:00,off`.
pub(super) fn rate(text: &str) -> Result<Timetable> {
    let read = || match text.contains([',', ':']) {
        false => bytes(text.trim()).map(Timetable::always),
        true => Timetable::new(&text.split_whitespace().map(entry).collect::<Result<Vec<_>>>()?),
    };
    read().map_err(|error| error.or_hint(FORM))
}

/// Bytes a second; none: no limit.
fn bytes(text: &str) -> Result<Option<u64>> {
    if text == "off" {
        return Ok(None);
    }
    match size(text.strip_suffix("/s").unwrap_or(text)) {
        Ok(0) => Err(Error::usage("at a rate of 0 nothing would ever pass")
            .hint("write off for no limit, as in \"08:00,2MiB 19:00,off\"")),
        Ok(rate) => Ok(Some(rate)),
        Err(_) => Err(Error::usage(format!("{text:?} is no rate"))),
    }
}

/// `08:00,2MiB`, `Mon-08:00,2MiB`.
fn entry(text: &str) -> Result<Entry> {
    let wrong = |what: &str| Error::usage(format!("{text:?} is no entry of a timetable: {what}"));
    let (when, rate) = text.split_once(',').ok_or_else(|| wrong("it has no rate behind a comma"))?;
    let (day, time) = match when.split_once('-') {
        Some((day, time)) => {
            (Some(weekday(day).ok_or_else(|| wrong("days are Mon, Tue, Wed, Thu, Fri, Sat, Sun"))?), time)
        }
        None => (None, when),
    };
    let minute = minute(time).ok_or_else(|| wrong("times are 00:00 to 23:59"))?;
    Ok(Entry { day, minute, rate: bytes(rate)? })
}

fn weekday(text: &str) -> Option<u16> {
    let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    (0..).zip(days).find(|(_, day)| text.eq_ignore_ascii_case(day)).map(|(day, _)| day)
}

/// The minute of the day.
fn minute(text: &str) -> Option<u16> {
    let number = |text: &str, digits: &[usize], below: u16| {
        let is_number = digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|number| is_number && *number < below)
    };
    let (hour, minute) = text.split_once(':')?;
    Some(number(hour, &[1, 2], 24)? * 60 + number(minute, &[2], 60)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_rate_may_say_that_it_is_one() {
        for text in ["5M", "5MiB/s", " 5MiB "] {
            assert_eq!(rate(text).unwrap(), Timetable::always(Some(5 << 20)), "{text}");
        }
        assert_eq!(rate("off").unwrap(), Timetable::always(None));
    }

    #[test]
    fn a_timetable_is_written_as_rclone_has_it() {
        let table = rate("08:00,2MiB  19:30,off").unwrap();
        let (morning, evening) = (480, 19 * 60 + 30);
        let every_day = |minute, rate| Entry { day: None, minute, rate };
        let same = Timetable::new(&[every_day(morning, Some(2 << 20)), every_day(evening, None)]);
        assert_eq!(table, same.unwrap());
        assert_eq!(rate("8:00,2MiB 19:30,off").unwrap(), table);
        let days = rate("Mon-08:00,512KiB/s sat-00:00,off").unwrap();
        let on = |day, minute, rate| Entry { day: Some(day), minute, rate };
        assert_eq!(days, Timetable::new(&[on(0, morning, Some(512 << 10)), on(5, 0, None)]).unwrap());
    }

    #[test]
    fn what_is_no_rate_is_told_with_the_form() {
        for (text, told) in [
            ("", "\"\" is no rate"),
            ("5M/h", "\"5M/h\" is no rate"),
            ("0/s", "at a rate of 0 nothing would ever pass"),
            ("08:00,0", "at a rate of 0 nothing would ever pass"),
            (",", "\",\" is no entry of a timetable: times are 00:00 to 23:59"),
            ("08:00", "\"08:00\" is no entry of a timetable: it has no rate behind a comma"),
            ("08:00, 2MiB", "\"\" is no rate"),
            ("008:00,2MiB", "\"008:00,2MiB\" is no entry of a timetable: times are 00:00 to 23:59"),
            ("24:00,2MiB", "\"24:00,2MiB\" is no entry of a timetable: times are 00:00 to 23:59"),
            ("+1:00,2MiB", "\"+1:00,2MiB\" is no entry of a timetable: times are 00:00 to 23:59"),
            (
                "So-08:00,1",
                "\"So-08:00,1\" is no entry of a timetable: days are Mon, Tue, Wed, Thu, Fri, Sat, Sun",
            ),
            ("08:00,2MiB 08:00,off", "08:00 is given twice"),
        ] {
            let error = rate(text).unwrap_err();
            assert_eq!((error.to_string().as_str(), error.kind().exit_code()), (told, 2), "{text:?}");
            assert!(error.hint_text().unwrap().contains("\"08:00,2MiB 19:00,off\""), "{text:?}");
        }
    }
}
