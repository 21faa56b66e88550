//! `expiry-time=` of a key's line, as `parse_absolute_time()` in OpenSSH's misc.c reads it. Pure.
//!
//! Local time is UTC: an initramfs has no time zone.

const DAY: u64 = 24 * 60 * 60;

/// `YYYYMMDD`, `YYYYMMDDHHMM` or `YYYYMMDDHHMMSS`, each with or without `Z` (or `UTC`) → seconds since 1970.
pub fn parse(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no time; write YYYYMMDD or YYYYMMDDHHMM, with a Z for UTC");
    let lower = text.to_ascii_lowercase();
    let digits = lower.strip_suffix("utc").or_else(|| lower.strip_suffix('z')).unwrap_or(&lower);
    if !matches!(digits.len(), 8 | 12 | 14) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let number = |from: usize, to: usize| digits.get(from..to).map_or(0, |part| part.parse().expect("only digits"));
    let (year, month, day) = (number(0, 4), number(4, 6), number(6, 8));
    let (hour, minute, second) = (number(8, 10), number(10, 12), number(12, 14));
    // 60 is a leap second.
    if year < 1970 || day < 1 || day > days_in(year, month) || hour > 23 || minute > 59 || second > 60 {
        return Err(wrong());
    }
    let seconds = days_before(year, month, day) * DAY + hour * 3600 + minute * 60 + second;
    if seconds == 0 { Err(wrong()) } else { Ok(seconds) }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// 0 for a month that there is not.
fn days_in(year: u64, month: u64) -> u64 {
    match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    }
}

/// Days from 1970-01-01 to this date.
fn days_before(year: u64, month: u64, day: u64) -> u64 {
    let years: u64 = (1970..year).map(|year| 365 + u64::from(is_leap(year))).sum();
    let months: u64 = (1..month).map(|month| days_in(year, month)).sum();
    years + months + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        // `date -u -d … +%s`
        for (text, expected) in [
            ("19700102", 86_400),
            ("20000229Z", 951_782_400),
            ("20260731", 1_785_456_000),
            ("202607311230", 1_785_501_000),
            ("20260731123059z", 1_785_501_059),
            ("20260731UTC", 1_785_456_000),
            ("99991231235959Z", 253_402_300_799),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "Z",
            "2026",
            "20260230",
            "20261301",
            "20260700",
            "20250229",
            "202607312400",
            "202607311260",
            "2026073112",
            "20260731123061",
            "+2026073",
            "19700101",
            "19691231",
            "20260731 ",
            "２０２６０７３１",
            "utc",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
