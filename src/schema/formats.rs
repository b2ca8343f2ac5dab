//! Formats as ajv-formats 3 has them in its full mode.

use std::sync::LazyLock;

use super::pattern::PATTERN_TEXT_MAX;

/// A format of the closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Date,
    Time,
    DateTime,
    IsoDateTime,
    Uuid,
    Email,
    Uri,
}

impl Format {
    /// Every format with its name.
    pub(super) const ALL: [(Self, &'static str); 7] = [
        (Self::Date, "date"),
        (Self::Time, "time"),
        (Self::DateTime, "date-time"),
        (Self::IsoDateTime, "iso-date-time"),
        (Self::Uuid, "uuid"),
        (Self::Email, "email"),
        (Self::Uri, "uri"),
    ];

    pub(super) fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == word).map(|(format, _)| *format)
    }

    pub(super) fn holds(self, text: &str) -> bool {
        match self {
            Self::Date => is_date(text),
            Self::Time => is_time(text, Zone::Required),
            Self::DateTime => is_date_time(text, Zone::Required),
            Self::IsoDateTime => is_date_time(text, Zone::Optional),
            Self::Uuid => is_uuid(text),
            Self::Email => is_email(text),
            Self::Uri => is_uri(text),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Zone {
    Required,
    Optional,
}

/// White space of JavaScript's `\s`.
fn is_js_space(c: char) -> bool {
    matches!(
        c,
        '\t'..='\r'
            | ' '
            | '\u{a0}'
            | '\u{1680}'
            | '\u{2000}'..='\u{200a}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{202f}'
            | '\u{205f}'
            | '\u{3000}'
            | '\u{feff}'
    )
}

fn is_date_time(text: &str, zone: Zone) -> bool {
    // ajv-formats splits at every separator; neither a date nor a time holds one, and a date is
    // of one length, so that it must be the character behind that.
    text.split_at_checked(10).is_some_and(|(date, rest)| {
        let time = rest.strip_prefix(|c: char| matches!(c, 't' | 'T') || is_js_space(c));
        time.is_some_and(|time| is_date(date) && is_time(time, zone))
    })
}

/// Two digits at the start, and what follows.
fn two_digits(text: &[u8]) -> Option<(i32, &[u8])> {
    match text {
        [a @ b'0'..=b'9', b @ b'0'..=b'9', rest @ ..] => {
            Some((i32::from(a - b'0') * 10 + i32::from(b - b'0'), rest))
        }
        _ => None,
    }
}

fn is_date(text: &str) -> bool {
    const DAYS: [i32; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let parsed = (|| {
        let (century, rest) = two_digits(text.as_bytes())?;
        let (year, rest) = two_digits(rest)?;
        let (month, rest) = two_digits(rest.strip_prefix(b"-")?)?;
        let (day, rest) = two_digits(rest.strip_prefix(b"-")?)?;
        rest.is_empty().then_some((century * 100 + year, month, day))
    })();
    parsed.is_some_and(|(year, month, day)| {
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = usize::try_from(month - 1).ok().and_then(|month| DAYS.get(month));
        days.is_some_and(|days| (1..=days + i32::from(month == 2 && is_leap)).contains(&day))
    })
}

fn is_time(text: &str, zone: Zone) -> bool {
    clock(text, zone).unwrap_or(false)
}

/// ajv-formats' `getTime`, its leap second that also lets an hour 24 pass included.
fn clock(text: &str, zone: Zone) -> Option<bool> {
    let (hour, rest) = two_digits(text.as_bytes())?;
    let (minute, rest) = two_digits(rest.strip_prefix(b":")?)?;
    let from = text.len() - rest.strip_prefix(b":")?.len();
    let (second, mut rest) = two_digits(rest.strip_prefix(b":")?)?;
    let mut second = f64::from(second);
    if let [b'.', fraction @ ..] = rest {
        let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        rest = fraction.get(digits..).filter(|_| digits > 0)?;
        // As a double, so that 59.99999999999999999 is 60, as it is in JavaScript.
        second = text.get(from..text.len() - rest.len())?.parse().ok()?;
    }
    let (sign, zone_hour, zone_minute) = match rest {
        [] if zone == Zone::Required => return Some(false),
        [] | [b'z' | b'Z'] => (1, 0, 0),
        [sign @ (b'+' | b'-'), offset @ ..] => {
            let (hour, rest) = two_digits(offset)?;
            let minute = match rest {
                [] => 0,
                _ => match two_digits(rest.strip_prefix(b":").unwrap_or(rest))? {
                    (minute, []) => minute,
                    (_, [..]) => return None,
                },
            };
            (if *sign == b'-' { -1 } else { 1 }, hour, minute)
        }
        [..] => return None,
    };
    if zone_hour > 23 || zone_minute > 59 {
        return Some(false);
    }
    if hour <= 23 && minute <= 59 && second < 60.0 {
        return Some(true);
    }
    let utc_minute = minute - zone_minute * sign;
    let utc_hour = hour - zone_hour * sign - i32::from(utc_minute < 0);
    Some(matches!(utc_hour, 23 | -1) && matches!(utc_minute, 59 | -1) && second < 61.0)
}

fn is_uuid(text: &str) -> bool {
    let text = text.as_bytes();
    let text = match text.split_at_checked(9) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case(b"urn:uuid:") => rest,
        _ => text,
    };
    text.len() == 36
        && text.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

fn is_email(text: &str) -> bool {
    let is_atom = |atom: &str| {
        let is_of_atom = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~-".contains(&c);
        !atom.is_empty() && atom.bytes().all(is_of_atom)
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.split_once('@').is_some_and(|(local, domain)| {
        local.split('.').all(is_atom) && domain.contains('.') && domain.split('.').all(is_label)
    })
}

fn is_uri(text: &str) -> bool {
    text.len() <= PATTERN_TEXT_MAX
        && text.is_ascii()
        && text.contains(['/', ':'])
        && URI.as_ref().is_some_and(|uri| uri.find_ascii(text).is_some())
}

/// RFC 3986's `URI`, put together from its parts; the same language as ajv-formats' one line.
static URI: LazyLock<Option<regress::Regex>> = LazyLock::new(|| {
    let h16 = "[0-9a-f]{1,4}";
    let octet = r"(?:25[0-5]|2[0-4]\d|[01]?\d\d?)";
    let ipv4 = format!(r"(?:{octet}\.){{3}}{octet}");
    let ls32 = format!("(?:{h16}:{h16}|{ipv4})");
    let up_to = |n: u8| format!("(?:(?:{h16}:){{0,{n}}}{h16})?");
    let ipv6 = format!(
        "(?:(?:{h16}:){{6}}|::(?:{h16}:){{5}}|(?:{h16})?::(?:{h16}:){{4}}|{}::(?:{h16}:){{3}}\
         |{}::(?:{h16}:){{2}}|{}::{h16}:|{}::){ls32}|{}::{h16}|{}::",
        up_to(1),
        up_to(2),
        up_to(3),
        up_to(4),
        up_to(5),
        up_to(6)
    );
    let future = r"[Vv][0-9a-f]+\.[a-z0-9\-._~!$&'()*+,;=:]+";
    let name = r"(?:[a-z0-9\-._~!$&'()*+,;=]|%[0-9a-f]{2})*";
    let user = r"(?:(?:[a-z0-9\-._~!$&'()*+,;=:]|%[0-9a-f]{2})*@)?";
    let pchar = r"(?:[a-z0-9\-._~!$&'()*+,;=:@]|%[0-9a-f]{2})";
    let tail = r"(?:[a-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9a-f]{2})*";
    let authority =
        format!(r"\/?\/{user}(?:\[(?:{ipv6}|{future})\]|{ipv4}|{name})(?::\d*)?(?:\/{pchar}*)*");
    let path = format!(r"\/(?:{pchar}+(?:\/{pchar}*)*)?|{pchar}+(?:\/{pchar}*)*");
    let uri = format!(r"^(?:[a-z][a-z0-9+\-.]*:)(?:{authority}|{path})(?:\?{tail})?(?:#{tail})?$");
    let flags = regress::Flags { icase: true, ..regress::Flags::default() };
    regress::Regex::with_flags(&uri, flags).ok()
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_as_by_ajv_formats() {
        let both = [
            "2023-01-01T09:20:00Z",
            "2023-01-01t09:20:00.123z",
            "2023-01-01 09:20:00Z",
            "2023-01-01\u{3000}09:20:00+03",
            "2024-02-29T09:20:00+0300",
            "0000-01-01T09:20:00-00:00",
            "2016-12-31T23:59:60Z",
            "2016-12-31T20:59:60-03:00",
            "2016-12-31T24:59:60+01:00",
        ];
        let neither = [
            "",
            "2023-01-01",
            "2023-02-30T09:20:00Z",
            "2023-13-01T09:20:00Z",
            "2023-00-01T09:20:00Z",
            "2023-01-00T09:20:00Z",
            "2023-01-01T24:00:00Z",
            "2023-01-01T09:20Z",
            "2023-01-01T09:20:00.Z",
            "2023-01-01T09:20:00Z\n",
            "2023-01-01T09:20:60Z",
            "2023-01-01T09:20:00+24:00",
            "2023-01-01T09:20:00+03:60",
            "2023-01-01T09:20:00+3",
            "2023-01-01T09:20:00+03:0",
            "2023-01-01T09:20:00+03:000",
            "2023-01-01  09:20:00Z",
            "1672564800",
        ];
        for (text, expected) in
            both.map(|t| (t, true)).into_iter().chain(neither.map(|t| (t, false)))
        {
            assert_eq!(Format::DateTime.holds(text), expected, "{text}");
            assert_eq!(Format::IsoDateTime.holds(text), expected, "{text}");
        }
        assert!(Format::IsoDateTime.holds("2023-01-01T09:20:00"));
        assert!(!Format::DateTime.holds("2023-01-01T09:20:00"));
        assert!(!Format::Time.holds("09:20:59.99999999999999999Z"), "a double makes it 60");
        assert!(Format::Time.holds("09:20:59.99999999Z"));
    }

    #[test]
    fn names_and_places_are_told_as_by_ajv_formats() {
        let cases = [
            (Format::Uuid, "urn:uuid:6f92d1e9-00b6-4f8b-9645-faeab321e1cc", true),
            (Format::Uuid, "6F92D1E9-00b6-4f8b-9645-faeab321e1cc", true),
            (Format::Uuid, "6f92d1e9-00b6-4f8b-9645-faeab321e1c", false),
            (Format::Uuid, "6f92d1e900b6-4f8b-9645-faeab321e1ccc-", false),
            (Format::Email, "a.b+c@d.example", true),
            (Format::Email, "a..b@d.example", false),
            (Format::Email, "a@d", false),
            (Format::Email, "a@-d.example", false),
            (Format::Email, "a@b@d.example", false),
            (Format::Uri, "https://a:b@[::1]:80/p//q?x=/#f", true),
            (Format::Uri, "HTTP://A%20b/", true),
            (Format::Uri, "urn:x", true),
            (Format::Uri, "//a/b", false),
            (Format::Uri, "http://a b", false),
            (Format::Uri, "http://[::1", false),
            (Format::Uri, "x", false),
        ];
        for (format, text, expected) in cases {
            assert_eq!(format.holds(text), expected, "{text}");
        }
    }
}
