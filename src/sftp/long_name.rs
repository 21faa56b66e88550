//! The line of `ls -l` that stands beside a name in a directory. Pure.

use crate::calendar::{MONTHS, Moment};

/// What the line tells.
pub struct Line<'a> {
    /// As st_mode.
    pub mode: u32,
    pub links: u64,
    pub user: u32,
    pub group: u32,
    /// In bytes.
    pub size: u64,
    /// Last change, in seconds since 1970.
    pub changed: i64,
    pub name: &'a [u8],
}

/// Changed within this time, in seconds: the line has the time of day, else the year.
const RECENT: i64 = 365 * 86400 / 2;

impl Line<'_> {
    /// In the form of `ls_file` in OpenSSH's sftp-common.c; users and groups are numbers and times are in UTC, since an
    /// initramfs knows neither accounts nor a time zone. `now` is in seconds since 1970.
    pub fn render(&self, now: i64) -> Vec<u8> {
        let line = format!(
            "{} {:>3} {:<8} {:<8} {:>8} {} ",
            permissions(self.mode),
            self.links,
            self.user,
            self.group,
            self.size,
            date(self.changed, now)
        );
        [line.as_bytes(), self.name].concat()
    }
}

/// `drwxr-xr-x`, as strmode(3) without its last character.
fn permissions(mode: u32) -> String {
    let kind = match mode >> 12 & 0o17 {
        0o01 => 'p',
        0o02 => 'c',
        0o04 => 'd',
        0o06 => 'b',
        0o10 => '-',
        0o12 => 'l',
        0o14 => 's',
        _ => '?',
    };
    let mut text = String::from(kind);
    for (shift, special, letters) in [(6, 0o4000, ['s', 'S']), (3, 0o2000, ['s', 'S']), (0, 0o1000, ['t', 'T'])] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => letters[0],
            (true, false) => letters[1],
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

fn date(time: i64, now: i64) -> String {
    let Moment { year, month, day, hour, minute, .. } = Moment::of(time);
    let name = MONTHS[month];
    match now - RECENT < time && time <= now {
        true => format!("{name} {day:>2} {hour:02}:{minute:02}"),
        false => format!("{name} {day:>2}  {year}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let now = 1_790_000_000; // Sep 21 2026, 14:13:20
        for (mode, size, changed, expected) in [
            (0o100644, 5, now, "-rw-r--r--   1 0        1000            5 Sep 21 14:13 n"),
            (0o40755, 4096, now + 1, "drwxr-xr-x   1 0        1000         4096 Sep 21  2026 n"),
            (0o120777, 0, 951_782_400, "lrwxrwxrwx   1 0        1000            0 Feb 29  2000 n"),
            (0o104755, 0, 0, "-rwsr-xr-x   1 0        1000            0 Jan  1  1970 n"),
            (0o41777, 0, -1, "drwxrwxrwt   1 0        1000            0 Dec 31  1969 n"),
            (0o102644, 1 << 40, 4_102_444_799, "-rw-r-Sr--   1 0        1000     1099511627776 Dec 31  2099 n"),
        ] {
            let line = Line { mode, links: 1, user: 0, group: 1000, size, changed, name: b"n" };
            assert_eq!(String::from_utf8(line.render(now)).unwrap(), expected);
        }
        let far = Line { mode: 0, links: 1, user: 0, group: 0, size: 0, changed: i64::MAX, name: b"" };
        assert!(far.render(i64::MIN / 2).starts_with(b"?---------"));
    }
}
