//! When an order was placed, by its own word.

use super::{Lint, Place, Warnings};
use crate::clock::Timestamp;
use crate::schema::formats::Format;

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

/// How far a shop's clock may be ahead without a word.
const SKEW_MS: i64 = 10 * MINUTE_MS;

/// The longest attribution window that the vendor documents, for a click as for a view.
const WINDOW_MS: i64 = 14 * DAY_MS;

/// Looks at an order's time.
pub(super) fn lint(text: &str, now: Timestamp, warnings: &mut Warnings) {
    let place = || Place::Member("created_at");
    let Some((millis, zone)) = read(text) else {
        // Rare spellings that the schemas' format takes are nothing to warn about.
        if !Format::IsoDateTime.holds(text) {
            warnings.add(Lint::CreatedAtUnreadable, place());
        }
        return;
    };
    if zone == Zone::Unsaid {
        warnings.add(Lint::CreatedAtWithoutZone, place());
    }
    let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    if millis > now.saturating_add(SKEW_MS) {
        warnings.add(Lint::CreatedAtInFuture, place());
    } else if millis < now.saturating_sub(WINDOW_MS) {
        warnings.add(Lint::CreatedAtTooOld, place());
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Zone {
    Said,
    Unsaid,
}

/// Milliseconds since the Unix epoch of a time as `2023-01-01T09:20:00.250-03:00`; without a
/// zone, as the vendor has it, in UTC. What does not exist, as 30 February, is nothing.
fn read(text: &str) -> Option<(i64, Zone)> {
    let bytes = text.as_bytes();
    let (date, rest) = bytes.split_at_checked(10)?;
    let (year, rest_of_date) = number(date, 4)?;
    let (month, rest_of_date) = number(rest_of_date.strip_prefix(b"-")?, 2)?;
    let (day, _) = number(rest_of_date.strip_prefix(b"-")?, 2)?;
    let [b'T' | b't' | b' ', time @ ..] = rest else { return None };
    let (hour, time) = number(time, 2)?;
    let (minute, time) = number(time.strip_prefix(b":")?, 2)?;
    let (second, mut zone) = number(time.strip_prefix(b":")?, 2)?;
    if let [b'.', fraction @ ..] = zone {
        let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        zone = fraction.get(digits..).filter(|_| digits > 0)?;
    }
    let (offset, said) = offset(zone)?;
    let exists = (1..=days_of(year, month)?).contains(&day);
    if !exists || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let minutes = (days(year, month, day) * 24 + hour) * 60 + minute - offset;
    Some((minutes * MINUTE_MS + second * 1000, said))
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
        [b'Z' | b'z'] => return Some((0, Zone::Said)),
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
    fits.then_some((sign * (hours * 60 + minutes), Zone::Said))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_to_the_second_in_any_zone() {
        let cases = [
            ("1970-01-01T00:00:00Z", 0, Zone::Said),
            ("2023-01-01T09:20:00Z", 1_672_564_800_000, Zone::Said),
            ("2023-01-01t06:20:00.999-03:00", 1_672_564_800_000, Zone::Said),
            ("2023-01-01 12:20:00+03", 1_672_564_800_000, Zone::Said),
            ("2023-01-01T14:50:00+0530", 1_672_564_800_000, Zone::Said),
            ("2023-01-01T09:20:00", 1_672_564_800_000, Zone::Unsaid),
            ("2000-02-29T00:00:00Z", 951_782_400_000, Zone::Said),
            ("2099-12-31T23:59:59Z", 4_102_444_799_000, Zone::Said),
            ("0001-01-01T00:00:00Z", -62_135_596_800_000, Zone::Said),
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
            assert_eq!(read(&text), Some((whole.cast_signed(), Zone::Said)), "{text}");
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
}
