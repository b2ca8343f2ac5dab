//! `utc` in a source: an order's time in the zone that the vendor asks for.
//!
//! Only a time with an offset is changed. One without a zone stays, and a lint tells: nobody knows
//! here where the till stood.

use bytes::Bytes;

use crate::json::Node;
use crate::json::edit::{Edits, spans};
use crate::schema::moment::{Moment, Zone};

/// The member that says when an order was placed.
const MEMBER: &str = "created_at";

/// `text`, of which `document` was read, with its time in UTC; nothing when there is nothing to
/// change.
pub(super) fn in_utc(text: &Bytes, document: &Node<'_>) -> Option<Bytes> {
    let Node::Object(members) = document else { return None };
    let at = members.iter().position(|(name, _)| name == MEMBER)?;
    let moment = Moment::read(members.get(at)?.1.as_str()?)?;
    match moment.zone {
        Zone::Offset => {}
        Zone::Unsaid | Zone::Utc => return None,
    }
    let utc = moment.in_utc()?;
    let spans = spans(text, 0);
    let mut edits = Edits::of(text);
    edits.replace(spans.get(at)?.value.clone(), format!("\"{utc}\""));
    Some(edits.apply())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<String> {
        let text = Bytes::from(text.to_owned());
        let document = crate::json::parse(&text, 64).unwrap();
        in_utc(&text, &document).map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn an_offset_becomes_utc_and_every_other_byte_stays() {
        assert_eq!(
            of(r#"{ "n":1.00,"created_at" : "2023-01-01T06:20:00.50\u002d03:00" ,"z":[{"created_at":"2023-01-01T06:20:00-03:00"}]}"#)
                .as_deref(),
            Some(r#"{ "n":1.00,"created_at" : "2023-01-01T09:20:00.50Z" ,"z":[{"created_at":"2023-01-01T06:20:00-03:00"}]}"#)
        );
    }

    #[test]
    fn what_has_no_offset_or_is_no_time_stays() {
        for time in [
            r#""2023-01-01T09:20:00""#,
            r#""2023-01-01T09:20:00Z""#,
            r#""2023-01-01T09:20:00z""#,
            r#""2023-02-30T09:20:00-03:00""#,
            r#""yesterday""#,
            "1672564800",
            "null",
        ] {
            assert_eq!(of(&format!(r#"{{"created_at":{time}}}"#)), None, "{time}");
        }
        assert_eq!(of("{}"), None);
        assert_eq!(of("[]"), None);
    }
}
