//! Sizes, rates and times, as people write them.

use std::time::Duration;

use crate::error::{Context, Error, Result};

/// `64MiB`, `64M`, `64m`, `1GiB`, `5000000`: powers of 1024 unless the unit says otherwise (`MB`).
pub(super) fn size(text: &str) -> Result<u64> {
    let wrong =
        || Error::usage(format!("{text:?} is no size")).hint("write 64MiB, 1GiB or a number of bytes");
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(factor).ok_or_else(wrong)
}

/// The size of a segment: `64GiB`; `off` and 0 mean none.
pub(super) fn segment(text: &str) -> Result<u64> {
    match text {
        "off" => Ok(0),
        text => size(text),
    }
}

pub(super) fn duration(text: &str) -> Result<Duration> {
    let parsed: jiff::SignedDuration = text.parse().context(|| format!("{text:?} is no time"))?;
    Duration::try_from(parsed)
        .map_err(|_| Error::usage(format!("{text:?} is no time")).hint("write 30s, 5m or 1h"))
}

/// A share of something: `25%`, 0 to 1.
pub(super) fn share(text: &str) -> Result<f64> {
    let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    let percent = percent.filter(|percent| (0.0..=100.0).contains(percent));
    percent
        .map(|percent| percent / 100.0)
        .ok_or_else(|| Error::usage(format!("{text:?} is no share")).hint("write 25%"))
}

/// A time that may well be days: `30d`, `4w`, `12h`.
pub(super) fn age(text: &str) -> Result<Duration> {
    let wrong = || Error::usage(format!("{text:?} is no time")).hint("write 12h, 30d or 4w");
    let span: jiff::Span = text.parse().map_err(|e| wrong().because(e))?;
    let age = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|e| wrong().because(e))?;
    Duration::try_from(age).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percents() {
        assert_eq!((share("25%").unwrap(), share("0 %").unwrap(), share("100%").unwrap()), (0.25, 0.0, 1.0));
        for text in ["25", "101%", "-1%", "%", "nan%", "x%"] {
            assert!(share(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_and_times_are_read() {
        for (text, bytes) in
            [("64MiB", 64 << 20), ("64m", 64 << 20), ("1GiB", 1 << 30), ("5 MB", 5_000_000), ("7", 7)]
        {
            assert_eq!(size(text).unwrap(), bytes, "{text}");
        }
        assert!(size("much").is_err() && size("1XB").is_err() && size("99999999999T").is_err());
        assert_eq!(duration("5m").unwrap(), Duration::from_secs(300));
        assert!(duration("-5m").is_err());
    }

    #[test]
    fn ages_are_days_and_weeks_too() {
        let day = 86_400;
        for (text, seconds) in [("30d", 30 * day), ("4w", 28 * day), ("12h", day / 2), ("1d12h", day / 2 * 3)]
        {
            assert_eq!(age(text).unwrap(), Duration::from_secs(seconds), "{text}");
        }
        for bad in ["", "30", "-1d", "soon"] {
            assert_eq!(age(bad).unwrap_err().kind().exit_code(), 2, "{bad:?}");
        }
    }

    #[test]
    fn units_are_powers_of_1024_unless_they_say_otherwise() {
        for (text, bytes) in [
            ("1k", 1 << 10),
            ("1KiB", 1 << 10),
            ("1kB", 1000),
            ("2g", 2 << 30),
            ("1GB", 1_000_000_000),
            ("1T", 1 << 40),
            ("7 b", 7),
            ("0", 0),
        ] {
            assert_eq!(size(text).unwrap(), bytes, "{text}");
        }
        for bad in ["", "-1", "1.5G", "0x10", "MiB", "1 M B", "18446744073709551616"] {
            assert_eq!(size(bad).unwrap_err().kind().exit_code(), 2, "{bad:?}");
        }
    }

    #[test]
    fn times_have_units() {
        assert_eq!(duration("30s").unwrap(), Duration::from_secs(30));
        assert_eq!(duration("1h").unwrap(), Duration::from_secs(3600));
        assert_eq!(duration("1h 30m").unwrap(), Duration::from_secs(5400));
        for bad in ["", "5", "soon", "-1s"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }
}
