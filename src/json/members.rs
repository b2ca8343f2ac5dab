//! The members of an object as they stand in its text.

use super::items::Scan;

/// `text`, a JSON object, without its member `name`: every other byte between the braces stays.
/// Nothing when it has no such member.
#[must_use]
pub fn without(text: &[u8], name: &str) -> Option<Vec<u8>> {
    let mut scan = Scan::of(text);
    scan.skip_space();
    scan.next();
    // Where the comma in front of the member stands, or else what is behind the brace.
    let mut before = scan.position();
    let mut is_first = true;
    loop {
        scan.skip_space();
        let start = scan.position();
        if scan.next() != Some(b'"') {
            return None;
        }
        scan.pass_text();
        let is_it = serde_json::from_slice::<String>(&text[start..scan.position()])
            .is_ok_and(|found| found == name);
        scan.skip_space();
        scan.next();
        scan.pass_value();
        let end = scan.position();
        if is_it {
            let rest = match (is_first, scan.next()) {
                // The comma goes, and what stands in front of the next member with it.
                (true, Some(b',')) => {
                    scan.skip_space();
                    &text[scan.position()..]
                }
                (true | false, _) => &text[end..],
            };
            return Some([&text[..before], rest].concat());
        }
        if scan.next() != Some(b',') {
            return None;
        }
        (before, is_first) = (end, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse;

    fn rest(text: &str) -> Option<String> {
        assert!(parse(text.as_bytes(), 64).is_ok(), "{text}");
        without(text.as_bytes(), "u").map(|rest| String::from_utf8(rest).unwrap())
    }

    #[test]
    fn one_member_goes_and_every_other_byte_stays() {
        for (text, left) in [
            (r#"{"u":"x"}"#, "{}"),
            (r#" {"u" : [1,{"u":","}] } "#, " {} "),
            (r#"{"u":1, "a": 1.00}"#, r#"{"a": 1.00}"#),
            ("{\"a\":\"}\\\"\",\n\"u\" : null , \"b\":2}", "{\"a\":\"}\\\"\", \"b\":2}"),
            (r#"{"a":{"u":1},"\u0075":"x"}"#, r#"{"a":{"u":1}}"#),
        ] {
            let found = rest(text).unwrap();
            assert_eq!(found, left, "{text}");
            assert!(parse(found.as_bytes(), 64).is_ok(), "{found}");
        }
        for text in ["{}", r#"{"a":"u"}"#, r#"{"a":{"u":1},"U":2}"#] {
            assert_eq!(rest(text), None, "{text}");
        }
    }
}
