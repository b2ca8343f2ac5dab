//! Numbers as shops write them, as JSON has them. Their digits are kept: 1.899,00 is 1899.00.

use super::map::Decimal;

/// What one number tells of the file's decimal sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hint {
    /// Nothing: no sign at all, or no number.
    None,
    /// It can only be this one.
    Only(Decimal),
    /// One sign and three digits: thousands, or a fraction.
    Either,
}

/// What `text` tells of the file's decimal sign.
pub(super) fn hint(text: &str) -> Hint {
    let text = text.trim();
    let (comma, point) = (text.rfind(','), text.rfind('.'));
    let one = |at: usize, sign: char, own: Decimal, other: Decimal| {
        if text.matches(sign).count() > 1 {
            return Hint::Only(other);
        }
        let (before, behind) = (text[..at].trim_start_matches('-'), text.len() - at - 1);
        let is_grouped = behind == 3 && (1..=3).contains(&before.len()) && before != "0";
        if is_grouped { Hint::Either } else { Hint::Only(own) }
    };
    match (comma, point) {
        (None, None) => Hint::None,
        (Some(comma), Some(point)) if comma > point => Hint::Only(Decimal::Comma),
        (Some(_), Some(_)) => Hint::Only(Decimal::Point),
        (Some(at), None) => one(at, ',', Decimal::Comma, Decimal::Point),
        (None, Some(at)) => one(at, '.', Decimal::Point, Decimal::Comma),
    }
}

/// The JSON number that `text` writes.
pub(super) fn read(text: &str, decimal: Decimal) -> Option<String> {
    let (sign, group) = match decimal {
        Decimal::Comma => (',', '.'),
        Decimal::Point => ('.', ','),
    };
    let text = text.trim();
    let (minus, digits) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (whole, fraction) =
        digits.split_once(sign).map_or((digits, None), |(whole, fraction)| (whole, Some(fraction)));
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let mut groups = whole.split(group);
    let first = groups.next()?;
    let mut whole = first.to_owned();
    let mut is_grouped = false;
    for one in groups {
        is_grouped = true;
        if one.len() != 3 {
            return None;
        }
        whole.push_str(one);
    }
    if !is_digits(&whole) || is_grouped && !(1..=3).contains(&first.len()) {
        return None;
    }
    if fraction.is_some_and(|fraction| !is_digits(fraction)) {
        return None;
    }
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        rest => rest,
    };
    let fraction = fraction.map_or_else(String::new, |fraction| format!(".{fraction}"));
    Some(format!("{minus}{whole}{fraction}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_kept_and_signs_become_those_of_json() {
        use Decimal::{Comma, Point};
        for (text, decimal, read_as) in [
            ("1.899,00", Comma, Some("1899.00")),
            ("1,899.00", Point, Some("1899.00")),
            ("1.234.567", Comma, Some("1234567")),
            ("12,5", Comma, Some("12.5")),
            ("12,5", Point, None),
            (" 007 ", Comma, Some("7")),
            ("0,10", Comma, Some("0.10")),
            ("-3", Comma, Some("-3")),
            ("1.23,4", Comma, None),
            (".234,4", Comma, None),
            ("12,", Comma, None),
            (",5", Comma, None),
            ("R$ 12,00", Comma, None),
            ("1e3", Point, None),
            ("", Point, None),
        ] {
            assert_eq!(read(text, decimal).as_deref(), read_as, "{text} {decimal:?}");
        }
    }

    #[test]
    fn a_number_tells_its_sign_only_where_it_can_be_read_one_way() {
        use Decimal::{Comma, Point};
        for (text, told) in [
            ("12", Hint::None),
            ("", Hint::None),
            ("12,5", Hint::Only(Comma)),
            ("12.50", Hint::Only(Point)),
            ("1.234,5", Hint::Only(Comma)),
            ("1,234.5", Hint::Only(Point)),
            ("1.234.567", Hint::Only(Comma)),
            ("1,234", Hint::Either),
            ("1.250", Hint::Either),
            ("0.250", Hint::Only(Point)),
            ("1234,567", Hint::Only(Comma)),
        ] {
            assert_eq!(hint(text), told, "{text}");
        }
    }
}
