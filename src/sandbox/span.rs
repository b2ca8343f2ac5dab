//! Durations as the sandbox's users write them: `700 ms`, `5 s`, `2 m`, `1 h`.

use std::time::Duration;

const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

/// The duration that `text` names: a whole number, perhaps a space, and a unit.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*millis).map(Duration::from_millis)
}

/// The duration in the largest unit that says it exactly, rounded up to the millisecond.
pub(super) fn display(span: Duration) -> String {
    let millis = span.as_nanos().div_ceil(1_000_000);
    let exact = UNITS.iter().rev().find(|(_, unit)| millis.is_multiple_of(u128::from(*unit)));
    match exact {
        Some((name, unit)) if millis > 0 => format!("{} {name}", millis / u128::from(*unit)),
        Some(_) | None => format!("{millis} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_whole_number_with_a_unit() {
        let cases = [
            ("700 ms", Some(700)),
            ("700ms", Some(700)),
            ("0 s", Some(0)),
            ("20 s", Some(20_000)),
            ("2m", Some(120_000)),
            ("1 h", Some(3_600_000)),
            ("", None),
            ("5", None),
            ("s", None),
            ("-1 s", None),
            ("1.5 s", None),
            ("5  s", None),
            ("5 S", None),
            ("5 s ", None),
            ("99999999999999999999 s", None),
            ("18446744073709551615 h", None),
        ];
        for (text, millis) in cases {
            assert_eq!(parse(text), millis.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn a_duration_is_shown_as_it_may_be_written() {
        for text in ["0 ms", "1 ms", "1500 ms", "2 s", "90 s", "2 m", "1 h", "25 h"] {
            assert_eq!(parse(text).map(display).as_deref(), Some(text));
        }
        assert_eq!(display(Duration::from_micros(1)), "1 ms");
    }
}
