//! Date and time as people and programs spell them.

use std::fmt::Write as _;

/// A time as `2023-01-01T09:20:00.250-03:00`, to the second, and how its text is made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment<'t> {
    /// Minutes since the Unix epoch, in UTC.
    minutes: i64,
    second: i64,
    /// `T`, `t` or a space.
    separator: char,
    /// `.250`, as long as it came, or nothing.
    fraction: &'t str,
    /// What it says of its zone.
    pub zone: Zone,
}

/// What a time says of its zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    /// Nothing; it is read as UTC, as the vendor's old page has it.
    Unsaid,
    /// `Z` or `z`.
    Utc,
    /// An offset, be it zero.
    Offset,
}

impl<'t> Moment<'t> {
    /// The moment of a text. What does not exist, as 30 February, is nothing.
    #[must_use]
    pub fn read(text: &'t str) -> Option<Self> {
        let bytes = text.as_bytes();
        let (date, rest) = bytes.split_at_checked(10)?;
        let (year, rest_of_date) = number(date, 4)?;
        let (month, rest_of_date) = number(rest_of_date.strip_prefix(b"-")?, 2)?;
        let (day, _) = number(rest_of_date.strip_prefix(b"-")?, 2)?;
        let [separator @ (b'T' | b't' | b' '), time @ ..] = rest else { return None };
        let (hour, time) = number(time, 2)?;
        let (minute, time) = number(time.strip_prefix(b":")?, 2)?;
        let (second, mut zone) = number(time.strip_prefix(b":")?, 2)?;
        let behind_second = bytes.len() - zone.len();
        if let [b'.', fraction @ ..] = zone {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            zone = fraction.get(digits..).filter(|_| digits > 0)?;
        }
        let fraction = text.get(behind_second..bytes.len() - zone.len())?;
        let (offset, zone) = offset(zone)?;
        let exists = (1..=days_of(year, month)?).contains(&day);
        if !exists || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let minutes = (days(year, month, day) * 24 + hour) * 60 + minute - offset;
        Some(Self { minutes, second, separator: char::from(*separator), fraction, zone })
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn millis(&self) -> i64 {
        let fraction = self.fraction.bytes().skip(1).chain(std::iter::repeat(b'0'));
        let millis = fraction.take(3).fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
        (self.minutes * 60 + self.second) * 1000 + millis
    }

    /// The same moment in UTC, ending with `Z`, as precise as it came; nothing outside of the
    /// years that four digits write.
    #[must_use]
    pub fn in_utc(&self) -> Option<String> {
        let (day, minute) = (self.minutes.div_euclid(24 * 60), self.minutes.rem_euclid(24 * 60));
        let (year, month, day_of_month) = civil(day);
        if !(0..=9999).contains(&year) {
            return None;
        }
        let mut text = String::with_capacity(32);
        let written = write!(
            text,
            "{year:04}-{month:02}-{day_of_month:02}{}{:02}:{:02}:{:02}{}Z",
            self.separator,
            minute / 60,
            minute % 60,
            self.second,
            self.fraction
        );
        debug_assert!(written.is_ok(), "a string takes every write");
        Some(text)
    }
}

/// A number of exactly `digits` digits at the start, and what follows.
fn number(text: &[u8], digits: usize) -> Option<(i64, &[u8])> {
    let (head, rest) = text.split_at_checked(digits)?;
    let fits = head.iter().all(u8::is_ascii_digit);
    fits.then(|| (head.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')), rest))
}

/// Minutes that a zone is ahead of UTC.
fn offset(zone: &[u8]) -> Option<(i64, Zone)> {
    let (sign, rest) = match zone {
        [] => return Some((0, Zone::Unsaid)),
        [b'Z' | b'z'] => return Some((0, Zone::Utc)),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        [..] => return None,
    };
    let (hours, rest) = number(rest, 2)?;
    let (minutes, rest) = match rest {
        [] => (0, rest),
        [..] => number(rest.strip_prefix(b":").unwrap_or(rest), 2)?,
    };
    let fits = rest.is_empty() && hours <= 23 && minutes <= 59;
    fits.then_some((sign * (hours * 60 + minutes), Zone::Offset))
}

fn days_of(year: i64, month: i64) -> Option<i64> {
    const DAYS: [i64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let days = DAYS.get(usize::try_from(month.checked_sub(1)?).ok()?)?;
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    Some(days + i64::from(month == 2 && is_leap))
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years are counted from 1 March, so that a leap day ends its year.
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of days from 1970-01-01; the inverse of [`days`].
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year_of_era + next_year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    fn read(text: &str) -> Option<(i64, Zone)> {
        Moment::read(text).map(|moment| (moment.millis(), moment.zone))
    }

    #[test]
    fn a_time_is_read_to_the_millisecond_in_any_zone() {
        let cases = [
            ("1970-01-01T00:00:00Z", 0, Zone::Utc),
            ("2023-01-01T09:20:00Z", 1_672_564_800_000, Zone::Utc),
            ("2023-01-01t06:20:00.9-03:00", 1_672_564_800_900, Zone::Offset),
            ("2023-01-01T09:20:00.0257Z", 1_672_564_800_025, Zone::Utc),
            ("2023-01-01 12:20:00+03", 1_672_564_800_000, Zone::Offset),
            ("2023-01-01T14:50:00+0530", 1_672_564_800_000, Zone::Offset),
            ("2023-01-01T09:20:00", 1_672_564_800_000, Zone::Unsaid),
            ("2000-02-29T00:00:00Z", 951_782_400_000, Zone::Utc),
            ("2099-12-31T23:59:59Z", 4_102_444_799_000, Zone::Utc),
            ("0001-01-01T00:00:00Z", -62_135_596_800_000, Zone::Utc),
        ];
        for (text, millis, zone) in cases {
            assert_eq!(read(text), Some((millis, zone)), "{text}");
        }
    }

    #[test]
    fn a_time_reads_back_as_the_clock_writes_it() {
        for millis in (0..4_102_444_800_000).step_by(86_399_000 * 37) {
            let whole = millis / 1000 * 1000;
            let text = Timestamp::from_millis(whole).to_string();
            assert_eq!(read(&text), Some((whole.cast_signed(), Zone::Utc)), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_not_read() {
        for text in [
            "",
            "2023-01-01",
            "2023-02-29T00:00:00Z",
            "2023-13-01T00:00:00Z",
            "2023-00-10T00:00:00Z",
            "2023-01-00T00:00:00Z",
            "2023-01-01T24:00:00Z",
            "2023-01-01T09:20Z",
            "2023-01-01T09:20:00.Z",
            "2023-01-01T09:20:00+3",
            "2023-01-01T09:20:00+24:00",
            "2023-01-01T09:20:00Zx",
            "1672564800",
            "2023-01-0é1T09:20:00Z",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_moment_is_the_same_in_utc_and_as_precise() {
        let cases = [
            ("2023-01-01T06:20:00-03:00", "2023-01-01T09:20:00Z"),
            ("2023-01-01T06:20:00.250-03:00", "2023-01-01T09:20:00.250Z"),
            ("2023-01-01 06:20:00.1234567-0300", "2023-01-01 09:20:00.1234567Z"),
            ("2022-12-31t23:59:59-00:01", "2023-01-01t00:00:59Z"),
            ("2024-03-01T00:00:00+14", "2024-02-29T10:00:00Z"),
            ("2023-01-01T09:20:00+00:00", "2023-01-01T09:20:00Z"),
            ("0000-01-01T05:00:00+05:00", "0000-01-01T00:00:00Z"),
        ];
        for (text, utc) in cases {
            let moment = Moment::read(text).unwrap();
            assert_eq!(moment.in_utc().as_deref(), Some(utc));
            assert_eq!(Moment::read(utc).unwrap().millis(), moment.millis());
        }
        for beyond in ["0000-01-01T00:00:00+00:01", "9999-12-31T23:59:00-00:01"] {
            assert_eq!(Moment::read(beyond).unwrap().in_utc(), None, "{beyond}");
        }
    }

    #[test]
    fn days_come_back_as_the_day_that_they_were_counted_from() {
        for day in (-719_528..2_932_897).step_by(97) {
            let (year, month, of_month) = civil(day);
            assert_eq!(days(year, month, of_month), day);
            assert!((1..=days_of(year, month).unwrap()).contains(&of_month), "{day}");
        }
    }
}
