//! One part of a request: dedupe keys are made of such, and what partners sign.

use std::borrow::Cow;
use std::fmt;

use http::HeaderName;
use sha2::{Digest, Sha256};

use super::decode;
use crate::event::ClientHeaders;
use crate::json::Node;
use crate::json::spelling::{self, Spellings, Written};

/// One part of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// The value at a JSON pointer: `body:/order_id`.
    Body(String),
    /// The value of a member of the query, decoded: `query:/event_id`.
    QueryMember(String),
    /// The segment of the path that the source calls so, byte for byte: `path:/ad_id`.
    Segment(String),
    /// The value of a header: `header:/x-event-id`.
    Header(HeaderName),
    /// The path, byte for byte.
    Path,
    /// The whole query, byte for byte.
    Query,
    /// The whole body: in a dedupe key whatever the order of its members and the spelling of its
    /// numbers, in a signature byte for byte.
    Payload,
}

/// What selectors choose from.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The source's path, with `{name}` for a segment of any content.
    pub pattern: &'a str,
    /// Path and query as received.
    pub target: &'a [u8],
    /// Headers that were kept because a selector names them.
    pub headers: &'a ClientHeaders,
    /// The body as it was read; nothing when it is no document, or was not read yet.
    pub document: Option<Written<'a>>,
    /// The body as received.
    pub bytes: &'a [u8],
}

/// Why a selector cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a selector is `body:/order_id` (a JSON pointer), `query:/event_id`, `path:/ad_id` (a segment \
     that the source's path names), `header:/x-event-id`, `path`, `query` or `payload`"
)]
pub struct SelectorFault;

impl std::str::FromStr for Selector {
    type Err = SelectorFault;

    fn from_str(text: &str) -> Result<Self, SelectorFault> {
        let Some((place, pointer)) = text.split_once(':') else {
            return match text {
                "path" => Ok(Self::Path),
                "query" => Ok(Self::Query),
                "payload" => Ok(Self::Payload),
                _ => Err(SelectorFault),
            };
        };
        if place == "body" {
            let is_pointer = pointer.starts_with('/');
            return if is_pointer {
                Ok(Self::Body(pointer.to_owned()))
            } else {
                Err(SelectorFault)
            };
        }
        // One name, with or without the slash of a pointer.
        let name = pointer.strip_prefix('/').unwrap_or(pointer);
        if name.is_empty() || name.contains('/') {
            return Err(SelectorFault);
        }
        match place {
            "query" => Ok(Self::QueryMember(name.to_owned())),
            "path" => Ok(Self::Segment(name.to_owned())),
            "header" => HeaderName::try_from(name).map(Self::Header).map_err(|_| SelectorFault),
            _ => Err(SelectorFault),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body(pointer) => write!(f, "body:{pointer}"),
            Self::QueryMember(name) => write!(f, "query:/{name}"),
            Self::Segment(name) => write!(f, "path:/{name}"),
            Self::Header(name) => write!(f, "header:/{name}"),
            Self::Path => f.write_str("path"),
            Self::Query => f.write_str("query"),
            Self::Payload => f.write_str("payload"),
        }
    }
}

impl Selector {
    /// The header that it chooses.
    #[must_use]
    pub const fn header(&self) -> Option<&HeaderName> {
        match self {
            Self::Header(name) => Some(name),
            Self::Body(_) | Self::QueryMember(_) | Self::Segment(_) => None,
            Self::Path | Self::Query | Self::Payload => None,
        }
    }

    /// Whether it chooses of the body as a document.
    #[must_use]
    pub const fn is_of_document(&self) -> bool {
        match self {
            Self::Body(_) => true,
            Self::QueryMember(_) | Self::Segment(_) | Self::Header(_) => false,
            Self::Path | Self::Query | Self::Payload => false,
        }
    }

    /// Adds a part of a request to `hash`; nothing when the request has no such part.
    #[must_use]
    pub(super) fn add(&self, hash: &mut Sha256, parts: &Parts<'_>) -> Option<()> {
        match self {
            Self::Body(pointer) => match parts.document?.root.at(pointer)? {
                // An id that says nothing tells nothing apart.
                Node::Null => return None,
                Node::String(text) if text.is_empty() => return None,
                Node::String(text) => part(hash, text.as_bytes()),
                other @ (Node::Bool(_) | Node::Number(_) | Node::Array(_) | Node::Object(_)) => {
                    add_value(hash, other, &parts.document?.spellings())?
                }
            },
            Self::QueryMember(_) | Self::Segment(_) | Self::Header(_) => {
                part(hash, &self.text(parts)?);
            }
            Self::Path => part(hash, path_and_query(parts.target).0),
            Self::Query => part(hash, path_and_query(parts.target).1),
            Self::Payload => {
                let document = parts.document?;
                add_value(hash, document.root, &document.spellings())?;
            }
        }
        Some(())
    }

    /// A part of a request as the text that was signed, a number as it was written; nothing when the
    /// request has no such part, or one that is neither.
    #[must_use]
    pub(super) fn text<'p>(&self, parts: &Parts<'p>) -> Option<Cow<'p, [u8]>> {
        match self {
            Self::Body(pointer) => {
                let document = parts.document?;
                match document.root.at(pointer)? {
                    Node::String(text) => Some(Cow::Borrowed(text.as_bytes())),
                    // Who signs a number most likely signs the text that it sends.
                    number @ Node::Number(_) => document.spellings().of(number).map(Cow::Borrowed),
                    Node::Null | Node::Bool(_) | Node::Array(_) | Node::Object(_) => None,
                }
            }
            Self::QueryMember(name) => decode::query_value(parts.target, name).map(Cow::Owned),
            Self::Segment(name) => {
                let named = |one: &str| {
                    one.strip_prefix('{').and_then(|it| it.strip_suffix('}')) == Some(name)
                };
                let at = parts.pattern.split('/').position(named)?;
                let (path, _) = path_and_query(parts.target);
                path.split(|byte| *byte == b'/').nth(at).map(Cow::Borrowed)
            }
            Self::Header(wanted) => {
                let mut headers = parts.headers.iter();
                headers.find(|(name, _)| wanted == name).map(|(_, value)| Cow::Borrowed(value))
            }
            Self::Path => Some(Cow::Borrowed(path_and_query(parts.target).0)),
            Self::Query => Some(Cow::Borrowed(path_and_query(parts.target).1)),
            Self::Payload => Some(Cow::Borrowed(parts.bytes)),
        }
    }
}

/// From here on a double may stand for several whole numbers.
pub(super) const EXACT: f64 = 9_007_199_254_740_992.0;

/// Path and query of a target; one that came by URL is told by them alone, as one that came to its
/// own path is.
fn path_and_query(target: &[u8]) -> (&[u8], &[u8]) {
    let origin = match target.windows(3).position(|three| three == b"://") {
        Some(at) if !target.starts_with(b"/") => {
            let host = &target[at + 3..];
            at + 3 + host.iter().position(|byte| *byte == b'/').unwrap_or(host.len())
        }
        Some(_) | None => 0,
    };
    let target = &target[origin..];
    match target.iter().position(|byte| *byte == b'?') {
        Some(at) => (&target[..at], &target[at + 1..]),
        None => (target, &[]),
    }
}

/// Adds a part behind its length, so that `ab`, `c` and `a`, `bc` are two keys.
pub(super) fn part(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}

/// Adds a value, the same for any order of an object's members and any spelling of a number.
///
/// Of numbers that a double cannot tell from their neighbours the spelling is asked: two ids of 64
/// bits would otherwise be one key, and the second event a repeat of the first.
#[must_use]
fn add_value<'a>(hash: &mut Sha256, value: &Node<'a>, spellings: &Spellings<'a>) -> Option<()> {
    match value {
        Node::Null => hash.update(b"n"),
        Node::Bool(value) => hash.update(if *value { b"t" } else { b"f" }),
        Node::Number(double) if double.abs() >= EXACT => {
            hash.update(b"D");
            part(hash, spelling::exactly(spellings.of(value)?)?.as_bytes());
        }
        Node::Number(value) => {
            // 0 and -0 are one number.
            let bits = if *value == 0.0 { 0 } else { value.to_bits() };
            hash.update(b"d");
            hash.update(bits.to_be_bytes());
        }
        Node::String(text) => {
            hash.update(b"s");
            part(hash, text.as_bytes());
        }
        Node::Array(items) => {
            hash.update(b"[");
            items.iter().try_for_each(|item| add_value(hash, item, spellings))?;
            hash.update(b"]");
        }
        Node::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by(|one, other| one.0.cmp(&other.0));
            hash.update(b"{");
            for (name, value) in members {
                part(hash, name.as_bytes());
                add_value(hash, value, spellings)?;
            }
            hash.update(b"}");
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse;

    fn sum(selector: &str, target: &str, body: &str) -> Option<Vec<u8>> {
        let selector: Selector = selector.parse().unwrap();
        let root = parse(body.as_bytes(), 64).unwrap();
        let document = Written { root: &root, text: body.as_bytes() };
        let mut hash = Sha256::new();
        selector.add(&mut hash, &parts(target, &headers(), Some(document), body))?;
        Some(hash.finalize().to_vec())
    }

    fn headers() -> ClientHeaders {
        ClientHeaders::collect(None, [("x-event-id", &b"e1"[..])])
    }

    fn parts<'a>(
        target: &'a str,
        headers: &'a ClientHeaders,
        document: Option<Written<'a>>,
        body: &'a str,
    ) -> Parts<'a> {
        let (target, bytes) = (target.as_bytes(), body.as_bytes());
        Parts { pattern: "/{version}/hook/{ad_id}", target, headers, document, bytes }
    }

    #[test]
    fn a_selector_is_what_it_is_written_as() {
        for text in [
            "body:/order_id",
            "body:/a/0",
            "query:/event_id",
            "path:/ad_id",
            "header:/x-event-id",
            "path",
            "query",
            "payload",
        ] {
            assert_eq!(text.parse::<Selector>().unwrap().to_string(), text);
        }
        for (text, same) in
            [("query:a", "query:/a"), ("path:a", "path:/a"), ("header:X-A", "header:/x-a")]
        {
            assert_eq!(text.parse::<Selector>().unwrap().to_string(), same);
        }
        for text in [
            "body:order_id",
            "order_id",
            "query:",
            "query:/",
            "query:/a/b",
            "path:/",
            "header:/a b",
            "payload:/a",
            "",
        ] {
            assert_eq!(text.parse::<Selector>(), Err(SelectorFault), "{text}");
        }
    }

    #[test]
    fn a_target_is_told_by_path_and_query_wherever_it_came_in() {
        let here = "/v1/beacon/click/a?event_id=%41&x=1";
        let there = "https://events.example:8443/v1/beacon/click/a?event_id=A&y=//2";
        assert_eq!(sum("path", here, "{}"), sum("path", there, "{}"));
        assert_ne!(sum("query", here, "{}"), sum("query", there, "{}"));
        assert_eq!(sum("query:/event_id", here, "{}"), sum("query:/event_id", there, "{}"));
        assert_eq!(sum("query", "/a", "{}"), sum("query", "/a?", "{}"));
        assert_ne!(sum("path", "/a", "{}"), sum("path", "/A", "{}"));
        assert_eq!(sum("path", "/x://y/z?", "{}"), sum("path", "/x://y/z", "{}"));
    }

    #[test]
    fn a_part_that_is_not_there_makes_no_key() {
        for (selector, target) in [
            ("query:/event_id", "/a"),
            ("query:/event_id", "/a?event_id="),
            ("query:/event_id", "/a?event_id"),
            ("query:/event_id", "/a?Event_id=1"),
            ("query:/event_id", "/a?event_id=1&x&event_id=2"),
            ("body:/event_id", "/a?event_id=1"),
        ] {
            assert_eq!(sum(selector, target, r#"{"event_id2":1}"#), None, "{selector} {target}");
        }
        let sum_of = |target| sum("query:/event_id", target, "{}");
        assert_eq!(sum_of("/a?event_id=1&event_id=%31&event_id="), sum_of("/a?event_id=1"));
        for body in [r#"{"event_id":""}"#, r#"{"event_id":null}"#] {
            assert_eq!(sum("body:/event_id", "/a", body), None, "{body}");
        }
    }

    #[test]
    fn numbers_that_a_double_cannot_tell_are_told_by_their_spelling() {
        let of = |selector: &str, id: &str| {
            let body = format!(r#"{{"other":1e300,"id":{id},"list":[7,{{"id":{id}}}],"n":1}}"#);
            sum(selector, "/", &body).unwrap()
        };
        for selector in ["body:/id", "body:/list", "payload"] {
            for (one, next) in [
                ("9007199254740992", "9007199254740993"),
                ("12345678901234567890", "12345678901234567891"),
                ("-1234567890123456789", "-1234567890123456788"),
                ("123456789012345678901234567890", "123456789012345678901234567891"),
                ("9007199254740991", "9007199254740992"),
                ("9007199254740990", "9007199254740991"),
            ] {
                assert_ne!(of(selector, one), of(selector, next), "{selector} {one}");
            }
            for (one, same) in [
                ("12345678901234567890", "1234567890123456789e1"),
                ("9007199254740993", "9007199254740993.0"),
                ("1e300", "10E+299"),
                ("7", "7.0"),
            ] {
                assert_eq!(of(selector, one), of(selector, same), "{selector} {one}");
            }
        }
    }

    #[test]
    fn segments_and_headers_tell_events_apart_too() {
        let ad = |target| sum("path:/ad_id", target, "{}");
        assert_eq!(ad("/v1/hook/a?x=1"), ad("/v2/hook/a"));
        assert_ne!(ad("/v1/hook/a"), ad("/v1/hook/b"));
        assert_eq!(sum("path:/none", "/v1/hook/a", "{}"), None);
        assert!(sum("header:/x-event-id", "/", "{}").is_some());
        assert_eq!(sum("header:/x-other", "/", "{}"), None);
    }

    #[test]
    fn what_was_signed_is_a_text_of_one_spelling() {
        let body = r#"{"id":"a\u0062","n":1572969379247,"f":1.50,"x":null, "e":"",
            "big":[12345678901234567890],"z":-0,"k":1e3,"t":true}"#;
        let (root, headers) = (parse(body.as_bytes(), 64).unwrap(), headers());
        let document = Written { root: &root, text: body.as_bytes() };
        let parts = parts("/v1/hook/a%20b?q=%41+c", &headers, Some(document), body);
        for (selector, text) in [
            ("body:/id", Some("ab")),
            ("body:/n", Some("1572969379247")),
            ("body:/f", Some("1.50")),
            ("body:/big/0", Some("12345678901234567890")),
            ("body:/z", Some("-0")),
            ("body:/k", Some("1e3")),
            ("body:/t", None),
            ("body:/big", None),
            ("body:/x", None),
            ("body:/none", None),
            ("body:/e", Some("")),
            ("query:/q", Some("A c")),
            ("path:/ad_id", Some("a%20b")),
            ("header:/x-event-id", Some("e1")),
            ("path", Some("/v1/hook/a%20b")),
            ("query", Some("q=%41+c")),
            ("payload", Some(body)),
        ] {
            let found = selector.parse::<Selector>().unwrap().text(&parts);
            let found = found.map(|text| String::from_utf8(text.into_owned()).unwrap());
            assert_eq!(found.as_deref(), text, "{selector}");
        }
        let unread = Parts { document: None, ..parts };
        assert_eq!("body:/id".parse::<Selector>().unwrap().text(&unread), None);
    }

    #[test]
    fn a_payload_is_a_document_not_its_spelling() {
        let payload = |body| sum("payload", "", body).unwrap();
        let first = payload(r#"{"a":1.0,"b":[{"c":"x","d":null}],"e":-0.0}"#);
        assert_eq!(first, payload(r#" {"e":0,"b":[{"d":null,"c":"\u0078"}],"a":1e0}"#));
        for other in [
            r#"{"a":1.0,"b":[{"c":"x"},{"d":null}],"e":0}"#,
            r#"{"a":1.0,"b":[{"c":"x","d":false}],"e":0}"#,
            r#"{"a":"1","b":[{"c":"x","d":null}],"e":0}"#,
            r#"{"a":1.0,"b":[{"c":"x","d":null}]}"#,
        ] {
            assert_ne!(first, payload(other), "{other}");
        }
    }
}
