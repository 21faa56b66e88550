//! Dates and times of day, in UTC: neither an initramfs nor a rescue medium knows a time zone. Pure.

const DAY: i64 = 86400;
/// As in `ls -l` and in syslog.
pub const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A second of a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub year: i64,
    /// From 0.
    pub month: usize,
    /// Of the month, from 1.
    pub day: i64,
    pub hour: i64,
    pub minute: i64,
    pub second: i64,
}

impl Moment {
    /// Of a time in seconds since 1970.
    pub fn of(time: i64) -> Self {
        let (year, month, day) = civil(time.div_euclid(DAY));
        let second = time.rem_euclid(DAY);
        Self { year, month, day, hour: second / 3600, minute: second / 60 % 60, second: second % 60 }
    }
}

/// Year, month from 0, and day of the month, of a day counted from 1970: Howard Hinnant's `civil_from_days`.
fn civil(days: i64) -> (i64, usize, i64) {
    let days = days.saturating_add(719_468); // from the first of March of the year 0
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153; // from March
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let year = year + era * 400 + i64::from(month >= 10);
    (year, ((month + 2) % 12) as usize, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        for (time, expected) in [
            (0, (1970, 0, 1, 0, 0, 0)),
            (-1, (1969, 11, 31, 23, 59, 59)),
            (951_782_400, (2000, 1, 29, 0, 0, 0)),
            (1_790_000_000, (2026, 8, 21, 14, 13, 20)),
            (4_102_444_799, (2099, 11, 31, 23, 59, 59)),
        ] {
            let Moment { year, month, day, hour, minute, second } = Moment::of(time);
            assert_eq!((year, month, day, hour, minute, second), expected, "{time}");
        }
    }
}
