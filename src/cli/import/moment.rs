//! Moments as tills write them, as RFC 3339 has them.

/// How a file writes moments: `DD/MM/YYYY hh:mm:ss`.
#[derive(Clone, Debug)]
pub(super) struct Pattern(Vec<Part>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Number(Unit),
    Sign(char),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
}

impl Unit {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Year, "YYYY"),
        (Self::Month, "MM"),
        (Self::Day, "DD"),
        (Self::Hour, "hh"),
        (Self::Minute, "mm"),
        (Self::Second, "ss"),
    ];
}

/// A zone's distance from UTC, as it is written behind a moment.
#[derive(Clone, Debug)]
pub(super) struct Offset(String);

impl Offset {
    /// Reads `-03:00` or `Z`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_written = match text.as_bytes() {
            b"Z" => true,
            [b'+' | b'-', h1, h2, b':', m1, m2] => {
                [h1, h2, m1, m2].iter().all(|byte| byte.is_ascii_digit())
                    && (*h1, *h2) <= (b'1', b'4')
                    && *m1 <= b'5'
            }
            _ => false,
        };
        is_written.then(|| Self(text.to_owned()))
    }
}

impl Pattern {
    /// Reads a pattern: the units, and signs between them.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let (mut parts, mut rest) = (Vec::new(), text);
        'parts: while let Some(sign) = rest.chars().next() {
            for (unit, name) in Unit::ALL {
                if let Some(behind) = rest.strip_prefix(name) {
                    parts.push(Part::Number(unit));
                    rest = behind;
                    continue 'parts;
                }
            }
            parts.push(Part::Sign(sign));
            rest = &rest[sign.len_utf8()..];
        }
        let count = |unit| parts.iter().filter(|part| **part == Part::Number(unit)).count();
        if [Unit::Year, Unit::Month, Unit::Day].into_iter().any(|unit| count(unit) != 1) {
            return Err(match (count(Unit::Year), count(Unit::Month)) {
                (0, _) => "lacks YYYY: it needs YYYY, MM, DD, and may have hh, mm, ss",
                (_, 0) => "lacks MM: it needs YYYY, MM, DD, and may have hh, mm, ss",
                _ => "needs each of YYYY, MM, DD once, and may have hh, mm, ss",
            });
        }
        Ok(Self(parts))
    }

    /// The moment that `text` writes, if it is written so. Whether there is such a day is for the
    /// schema to say.
    pub(super) fn read(&self, text: &str, offset: Option<&Offset>) -> Option<String> {
        let (mut numbers, mut rest) = ([0_u16; 6], text.trim());
        for part in &self.0 {
            rest = match *part {
                Part::Sign(sign) => rest.strip_prefix(sign)?,
                Part::Number(unit) => {
                    let most = if unit == Unit::Year { 4 } else { 2 };
                    let digits = rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
                    if digits == 0 || unit == Unit::Year && digits != 4 {
                        return None;
                    }
                    numbers[unit as usize] = rest[..digits].parse().ok()?;
                    &rest[digits..]
                }
            };
        }
        let [year, month, day, hour, minute, second] = numbers;
        let zone = offset.map_or("", |offset| offset.0.as_str());
        rest.is_empty().then(|| {
            format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{zone}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_till_s_moment_becomes_one_with_a_zone() {
        let offset = Offset::parse("-03:00").unwrap();
        for (pattern, text, read) in [
            ("DD/MM/YYYY hh:mm:ss", "21/11/2026 14:05:09", Some("2026-11-21T14:05:09-03:00")),
            ("DD/MM/YYYY hh:mm:ss", " 1/2/2026 4:05:09 ", Some("2026-02-01T04:05:09-03:00")),
            ("DD/MM/YYYY", "21/11/2026", Some("2026-11-21T00:00:00-03:00")),
            ("YYYYMMDDhhmmss", "20261121140509", Some("2026-11-21T14:05:09-03:00")),
            ("DD/MM/YYYY", "21/11/26", None),
            ("DD/MM/YYYY", "21-11-2026", None),
            ("DD/MM/YYYY", "21/11/2026 14:05", None),
            ("DD/MM/YYYY", "", None),
        ] {
            let found = Pattern::parse(pattern).unwrap().read(text, Some(&offset));
            assert_eq!(found.as_deref(), read, "{pattern} {text}");
        }
        assert!(Offset::parse("-3").is_none() && Offset::parse("+15:00").is_none());
        assert!(Offset::parse("+05:30").is_some() && Offset::parse("Z").is_some());
    }
}
