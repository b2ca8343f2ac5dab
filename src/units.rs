//! Durations and sizes with their units, as they are written in the configuration.

use std::time::Duration;

/// Why a quantity cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitFault {
    /// No unit.
    #[error("has no unit: write it as {0}")]
    Missing(&'static str),
    /// Not a number with a known unit.
    #[error("is not a quantity: write it as {0}")]
    Unknown(&'static str),
    /// More than can be counted.
    #[error("is too large")]
    TooLarge,
}

const SPANS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SPAN_HINT: &str = r#""250 ms", "10 s", "15 m", "1 h" or "30 d""#;

const SIZES: [(&str, u64); 9] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];
const SIZE_HINT: &str = r#""4096 B", "256 KiB" or "20 GiB""#;

/// Reads a duration, as `15 m`; whole numbers only.
///
/// # Errors
/// [`UnitFault`], with the remedy.
pub fn span(text: &str) -> Result<Duration, UnitFault> {
    quantity(text, &SPANS, SPAN_HINT).map(Duration::from_millis)
}

/// Reads a size in bytes, as `20 GiB`; whole numbers only.
///
/// # Errors
/// [`UnitFault`], with the remedy.
pub fn bytes(text: &str) -> Result<u64, UnitFault> {
    quantity(text, &SIZES, SIZE_HINT)
}

fn quantity(text: &str, units: &[(&str, u64)], hint: &'static str) -> Result<u64, UnitFault> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(UnitFault::Unknown(hint));
    }
    let unit = unit.trim_start();
    if unit.is_empty() {
        return Err(UnitFault::Missing(hint));
    }
    let (_, scale) =
        units.iter().find(|(known, _)| *known == unit).ok_or(UnitFault::Unknown(hint))?;
    let number: u64 = number.parse().map_err(|_| UnitFault::TooLarge)?;
    number.checked_mul(*scale).ok_or(UnitFault::TooLarge)
}

/// Writes a duration with the largest unit that divides it.
#[must_use]
pub fn show_span(span: Duration) -> String {
    let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    show(millis, &[SPANS[4], SPANS[3], SPANS[2], SPANS[1], SPANS[0]])
}

/// Writes a size with the largest binary unit that divides it.
#[must_use]
pub fn show_bytes(bytes: u64) -> String {
    show(bytes, &[SIZES[4], SIZES[3], SIZES[2], SIZES[1], SIZES[0]])
}

fn show(count: u64, units: &[(&str, u64); 5]) -> String {
    let fits = |(_, scale): &&(&str, u64)| count > 0 && count.is_multiple_of(*scale);
    let (unit, scale) = units.iter().find(fits).copied().unwrap_or(units[4]);
    format!("{} {unit}", count / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_with_their_units() {
        let spans =
            [("250 ms", 250), ("10s", 10_000), (" 15 m ", 900_000), ("30 d", 2_592_000_000)];
        for (text, millis) in spans {
            assert_eq!(span(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(bytes("20 GiB"), Ok(20 << 30));
        assert_eq!(bytes("1 MB"), Ok(1_000_000));
    }

    #[test]
    fn what_has_no_unit_or_an_unknown_one_is_refused() {
        assert_eq!(span("10"), Err(UnitFault::Missing(SPAN_HINT)));
        for text in ["", "s", "1.5 s", "-1 s", "10 years", "10 S"] {
            assert_eq!(span(text), Err(UnitFault::Unknown(SPAN_HINT)), "{text}");
        }
        assert_eq!(bytes("99999999999 TiB"), Err(UnitFault::TooLarge));
        assert_eq!(bytes("999999999999999999999999 B"), Err(UnitFault::TooLarge));
    }

    #[test]
    fn what_is_shown_reads_back() {
        for text in ["250 ms", "10 s", "15 m", "25 h", "30 d", "90 m"] {
            assert_eq!(show_span(span(text).unwrap()), text);
        }
        assert_eq!(show_span(Duration::ZERO), "0 ms");
        assert_eq!(show_bytes(bytes("1536 KiB").unwrap()), "1536 KiB");
    }
}
