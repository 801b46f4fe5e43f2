//! Figures and names for columns: as short as they can be and still be read.

use std::time::Duration;

/// A time in minutes, hours, days or years: `45m`, `26h`, `30d`, `3y`.
pub fn short_time(time: Duration) -> String {
    let minutes = time.as_secs() / 60;
    let (hours, days) = (minutes / 60, minutes / 60 / 24);
    match (minutes, hours, days) {
        (..100, ..) => format!("{minutes}m"),
        (_, ..48, _) => format!("{hours}h"),
        (.., ..1000) => format!("{days}d"),
        _ => format!("{}y", days / 365),
    }
}

/// Bytes as `du -h` shows them, in powers of 1024: `512B`, `9.8T`, `120G`.
pub fn short_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["K", "M", "G", "T", "P", "E"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let (mut value, mut unit) = (bytes as f64 / 1024.0, 0);
    // What would be rounded to four digits is shown in the next unit.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match value < 9.95 {
        true => format!("{value:.1}{}", UNITS[unit]),
        false => format!("{value:.0}{}", UNITS[unit]),
    }
}

/// `1 archive`, `2 archives`, `3 copies`: a count of what `one` is called.
pub fn counted(count: u64, one: &str) -> String {
    let plural = |stem: &str, ending: &str| format!("{count} {stem}{ending}");
    let is_vowel = |c: char| "aeiou".contains(c);
    match one.strip_suffix('y') {
        _ if count == 1 => plural(one, ""),
        Some(stem) if !stem.ends_with(is_vowel) => plural(stem, "ies"),
        _ => plural(one, "s"),
    }
}

/// A name in `width` characters: what is too much is left out in its middle, since both ends tell names apart.
pub fn shortened(name: &str, width: usize) -> String {
    let count = name.chars().count();
    if count <= width {
        return name.into();
    }
    let left = width.saturating_sub(1);
    let (head, tail) = (left.div_ceil(2), left / 2);
    let start: String = name.chars().take(head).collect();
    let end: String = name.chars().skip(count - tail).collect();
    format!("{start}…{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_four_characters_at_most() {
        let minute = 60;
        for (seconds, shown) in [
            (0, "0m"),
            (59, "0m"),
            (45 * minute, "45m"),
            (99 * minute + 59, "99m"),
            (100 * minute, "1h"),
            (26 * 3600, "26h"),
            (48 * 3600, "2d"),
            (999 * 86_400, "999d"),
            (1000 * 86_400, "2y"),
            (u64::from(u32::MAX), "136y"),
        ] {
            assert_eq!(short_time(Duration::from_secs(seconds)), shown, "{seconds}");
        }
    }

    #[test]
    fn sizes_have_five_characters_at_most() {
        let kib = 1024;
        for (bytes, shown) in [
            (0, "0B"),
            (1023, "1023B"),
            (kib, "1.0K"),
            (10 * kib, "10K"),
            (999 * kib, "999K"),
            (1023 * kib, "1.0M"),
            (10_775_731_116_441, "9.8T"),
            (u64::MAX, "16E"),
        ] {
            assert_eq!(short_bytes(bytes), shown, "{bytes}");
        }
        for shift in 0..64 {
            let (low, high) = (1 << shift, (1_u64 << shift) + ((1_u64 << shift) - 1));
            assert!(short_bytes(low).len() <= 5 && short_bytes(high).len() <= 5, "{shift}");
        }
    }

    #[test]
    fn one_thing_is_singular() {
        let shown = [counted(1, "archive"), counted(0, "archive"), counted(2, "copy"), counted(2, "key")];
        assert_eq!(shown, ["1 archive", "0 archives", "2 copies", "2 keys"]);
    }

    #[test]
    fn a_long_name_keeps_both_its_ends() {
        assert_eq!(shortened("db", 5), "db");
        assert_eq!(shortened("dtr-registry-0123456789ab", 12), "dtr-re…789ab");
        assert_eq!(shortened("grüße-an-alle", 13), "grüße-an-alle");
        for width in 1..30 {
            let short = shortened("dtr-registry-0123456789ab", width);
            assert_eq!(short.chars().count(), width.min(25), "{short}");
        }
    }
}
