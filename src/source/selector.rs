//! One part of an event that its dedupe key is made of.

use std::fmt;

use sha2::{Digest, Sha256};

use super::decode;
use crate::json::Node;

/// One part of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// The value at a JSON pointer: `body:/order_id`.
    Body(String),
    /// The value of a member of the query, decoded: `query:/event_id`.
    QueryMember(String),
    /// The path, byte for byte.
    Path,
    /// The whole query, byte for byte.
    Query,
    /// The whole body, whatever the order of its members and the spelling of its numbers.
    Payload,
}

/// Why a selector cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a selector is `body:/order_id` (a JSON pointer), `query:/event_id`, `path`, `query` or `payload`"
)]
pub struct SelectorFault;

impl std::str::FromStr for Selector {
    type Err = SelectorFault;

    fn from_str(text: &str) -> Result<Self, SelectorFault> {
        match text.split_once(':') {
            Some(("body", pointer)) if pointer.starts_with('/') => {
                Ok(Self::Body(pointer.to_owned()))
            }
            Some(("query", pointer)) => match pointer.strip_prefix('/') {
                Some(name) if !name.is_empty() && !name.contains('/') => {
                    Ok(Self::QueryMember(name.to_owned()))
                }
                Some(_) | None => Err(SelectorFault),
            },
            Some(_) => Err(SelectorFault),
            None => match text {
                "path" => Ok(Self::Path),
                "query" => Ok(Self::Query),
                "payload" => Ok(Self::Payload),
                _ => Err(SelectorFault),
            },
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body(pointer) => write!(f, "body:{pointer}"),
            Self::QueryMember(name) => write!(f, "query:/{name}"),
            Self::Path => f.write_str("path"),
            Self::Query => f.write_str("query"),
            Self::Payload => f.write_str("payload"),
        }
    }
}

impl Selector {
    /// Adds the part of an event to `hash`; nothing when the event has no such part.
    #[must_use]
    pub(super) fn add(&self, hash: &mut Sha256, target: &[u8], body: &Node<'_>) -> Option<()> {
        match self {
            Self::Body(pointer) => match body.at(pointer)? {
                // An id that says nothing tells nothing apart.
                Node::String(text) if text.is_empty() => return None,
                Node::String(text) => part(hash, text.as_bytes()),
                other @ (Node::Null
                | Node::Bool(_)
                | Node::Number(_)
                | Node::Array(_)
                | Node::Object(_)) => add_value(hash, other),
            },
            Self::QueryMember(name) => part(hash, &decode::query_value(target, name)?),
            Self::Path => part(hash, path_and_query(target).0),
            Self::Query => part(hash, path_and_query(target).1),
            Self::Payload => add_value(hash, body),
        }
        Some(())
    }
}

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

/// Adds a value, the same for any order of an object's members.
fn add_value(hash: &mut Sha256, value: &Node<'_>) {
    match value {
        Node::Null => hash.update(b"n"),
        Node::Bool(value) => hash.update(if *value { b"t" } else { b"f" }),
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
            items.iter().for_each(|item| add_value(hash, item));
            hash.update(b"]");
        }
        Node::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by(|one, other| one.0.cmp(&other.0));
            hash.update(b"{");
            for (name, value) in members {
                part(hash, name.as_bytes());
                add_value(hash, value);
            }
            hash.update(b"}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse;

    fn sum(selector: &str, target: &str, body: &str) -> Option<Vec<u8>> {
        let selector: Selector = selector.parse().unwrap();
        let body = parse(body.as_bytes(), 64).unwrap();
        let mut hash = Sha256::new();
        selector.add(&mut hash, target.as_bytes(), &body)?;
        Some(hash.finalize().to_vec())
    }

    #[test]
    fn a_selector_is_what_it_is_written_as() {
        for text in ["body:/order_id", "body:/a/0", "query:/event_id", "path", "query", "payload"] {
            assert_eq!(text.parse::<Selector>().unwrap().to_string(), text);
        }
        for text in ["body:order_id", "order_id", "query:", "query:/", "query:/a/b", "path:/", ""] {
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
            ("body:/event_id", "/a?event_id=1"),
        ] {
            assert_eq!(sum(selector, target, r#"{"event_id2":1}"#), None, "{selector} {target}");
        }
        assert_eq!(sum("body:/event_id", "/a", r#"{"event_id":""}"#), None);
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
