//! A JSON body, parsed once: borrowed from the received bytes, members in order.
//!
//! Repeated keys and deep nesting are refused on the way, so that what is validated and what is
//! forwarded can never be two documents. Numbers are IEEE doubles, as in the upstream's validator.

pub mod edit;
pub mod items;
pub mod mask;
pub mod members;
pub mod spelling;

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// One JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Node<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// Any number, as the double nearest to its spelling, which [`spelling`] finds again.
    Number(f64),
    /// Text, borrowed unless it holds an escape.
    String(Cow<'a, str>),
    /// Items in order.
    Array(Vec<Node<'a>>),
    /// Members in the order of the text, each key once.
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
}

impl<'a> Node<'a> {
    /// The member called `key`, when this is an object that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node<'a>> {
        match self {
            Node::Object(members) => members.iter().find(|(name, _)| name == key).map(|m| &m.1),
            Node::Null | Node::Bool(_) | Node::Number(_) | Node::String(_) | Node::Array(_) => None,
        }
    }

    /// The value that an RFC 6901 pointer names.
    #[must_use]
    pub fn at(&self, pointer: &str) -> Option<&Node<'a>> {
        if pointer.is_empty() {
            return Some(self);
        }
        pointer.strip_prefix('/')?.split('/').try_fold(self, |node, step| {
            let step = if step.contains('~') {
                Cow::Owned(step.replace("~1", "/").replace("~0", "~"))
            } else {
                Cow::Borrowed(step)
            };
            match node {
                Node::Array(items) => items.get(step.parse::<usize>().ok()?),
                Node::Object(_) => node.get(&step),
                Node::Null | Node::Bool(_) | Node::Number(_) | Node::String(_) => None,
            }
        })
    }

    /// The text of a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Node::String(text) => Some(text),
            Node::Null | Node::Bool(_) | Node::Number(_) | Node::Array(_) | Node::Object(_) => None,
        }
    }
}

/// Why bytes are not a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonFault {
    /// Not JSON, not UTF-8, a number beyond a double, or bytes behind the end.
    #[error("the body is not JSON: line {line}, column {column}")]
    Malformed {
        /// Line of the fault, from 1.
        line: usize,
        /// Column of the fault in bytes, from 1.
        column: usize,
    },
    /// Nested deeper than the limit.
    #[error("the body is nested deeper than {limit} levels")]
    TooDeep {
        /// Levels that are allowed.
        limit: usize,
    },
    /// One object names a key twice.
    #[error("an object in the body names a key twice: line {line}, column {column}")]
    DuplicateKey {
        /// Line of the fault, from 1.
        line: usize,
        /// Column of the fault in bytes, from 1.
        column: usize,
    },
}

/// Parses `text`, which may start with a byte-order mark, to at most `depth_max` levels.
///
/// # Errors
/// [`JsonFault`]: the sender must mend the body.
pub fn parse(text: &[u8], depth_max: usize) -> Result<Node<'_>, JsonFault> {
    let text = without_bom(text);
    let found = Cell::new(Found::Syntax);
    let mut input = serde_json::Deserializer::from_slice(text);
    let seed = Level { left: depth_max, found: &found };
    let parsed = seed.deserialize(&mut input).and_then(|node| input.end().map(|()| node));
    parsed.map_err(|error| {
        let (line, column) = (error.line(), error.column());
        match found.get() {
            Found::Syntax => JsonFault::Malformed { line, column },
            Found::TooDeep => JsonFault::TooDeep { limit: depth_max },
            Found::DuplicateKey => JsonFault::DuplicateKey { line, column },
        }
    })
}

/// The bytes behind a UTF-8 byte-order mark, which some tills put in front.
#[must_use]
pub fn without_bom(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

/// The bytes behind every byte-order mark in front, of which a chain of programs may put one each.
#[must_use]
pub fn without_boms(mut text: &[u8]) -> &[u8] {
    loop {
        let rest = without_bom(text);
        if rest.len() == text.len() {
            return text;
        }
        text = rest;
    }
}

#[derive(Clone, Copy)]
enum Found {
    Syntax,
    TooDeep,
    DuplicateKey,
}

/// Objects of up to this many members are searched for a repeated key one by one.
const SEARCHED_IN_LINE: usize = 24;

#[derive(Clone, Copy)]
struct Level<'f> {
    left: usize,
    found: &'f Cell<Found>,
}

impl Level<'_> {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        match self.left.checked_sub(1) {
            Some(left) => Ok(Self { left, ..self }),
            None => {
                self.found.set(Found::TooDeep);
                Err(E::custom("too deep"))
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for Level<'_> {
    type Value = Node<'de>;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Node<'de>, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level<'_> {
    type Value = Node<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Node<'de>, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node<'de>, E> {
        Ok(Node::Bool(value))
    }

    #[expect(clippy::cast_precision_loss, reason = "the upstream's validator compares doubles")]
    fn visit_u64<E>(self, value: u64) -> Result<Node<'de>, E> {
        Ok(Node::Number(value as f64))
    }

    #[expect(clippy::cast_precision_loss, reason = "the upstream's validator compares doubles")]
    fn visit_i64<E>(self, value: i64) -> Result<Node<'de>, E> {
        Ok(Node::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node<'de>, E> {
        Ok(Node::Number(value))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Node<'de>, E> {
        Ok(Node::String(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node<'de>, E> {
        Ok(Node::String(Cow::Owned(value.to_owned())))
    }

    fn visit_string<E>(self, value: String) -> Result<Node<'de>, E> {
        Ok(Node::String(Cow::Owned(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node<'de>, A::Error> {
        let inner = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Node::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node<'de>, A::Error> {
        let inner = self.deeper()?;
        let mut members: Vec<(Cow<'de, str>, Node<'de>)> = Vec::with_capacity(8);
        let mut seen: HashSet<Cow<'de, str>> = HashSet::new();
        while let Some(Key(key)) = map.next_key()? {
            if members.len() == SEARCHED_IN_LINE {
                seen.extend(members.iter().map(|(name, _)| name.clone()));
            }
            let repeated = if members.len() < SEARCHED_IN_LINE {
                members.iter().any(|(name, _)| *name == key)
            } else {
                !seen.insert(key.clone())
            };
            if repeated {
                self.found.set(Found::DuplicateKey);
                return Err(A::Error::custom("key named twice"));
            }
            members.push((key, map.next_value_seed(inner)?));
        }
        Ok(Node::Object(members))
    }
}

/// A member's name, borrowed where the text has no escape; `Cow`'s own `Deserialize` always copies.
struct Key<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(value)))
            }

            fn visit_str<E>(self, value: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(value.to_owned())))
            }
        }
        input.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_keeps_order_and_borrows() {
        let node = parse(br#"{"b":1,"a":[true,null,"x\n"]}"#, 64).unwrap();
        let Node::Object(members) = &node else { panic!("an object") };
        assert_eq!(members.iter().map(|(key, _)| key.as_ref()).collect::<Vec<_>>(), ["b", "a"]);
        assert!(matches!(members[0].0, Cow::Borrowed(_)));
        assert_eq!(node.at("/a/2").and_then(Node::as_str), Some("x\n"));
        assert_eq!(node.at("/a/3"), None);
    }

    #[test]
    fn what_is_no_single_document_is_refused() {
        let malformed = |line, column| Err(JsonFault::Malformed { line, column });
        assert_eq!(parse(b"", 64), malformed(1, 0));
        assert_eq!(parse(b"{} x", 64), malformed(1, 4));
        assert_eq!(parse(br#"{"a":1e400}"#, 64), malformed(1, 10));
        assert_eq!(parse(br#"{"a":NaN}"#, 64), malformed(1, 6));
        assert!(parse(br#""\ud800""#, 64).is_err());
        assert!(parse(b"\"\xff\"", 64).is_err());
        assert!(parse(b"\xef\xbb\xbf{}", 64).is_ok());
    }

    #[test]
    fn a_repeated_key_is_refused_in_small_and_large_objects() {
        assert_eq!(
            parse(br#"{"a":1,"b":{"c":1,"\u0063":2}}"#, 64),
            Err(JsonFault::DuplicateKey { line: 1, column: 26 })
        );
        for (members, repeat) in [(40, 0), (40, 30), (24, 23), (25, 24), (23, 22)] {
            let mut text: Vec<String> = (0..members).map(|n| format!("\"k{n}\":0")).collect();
            assert!(parse(format!("{{{}}}", text.join(",")).as_bytes(), 64).is_ok());
            text.push(format!("\"k{repeat}\":0"));
            let parsed = parse(format!("{{{}}}", text.join(",")).as_bytes(), 64).map(|_| ());
            assert!(matches!(parsed, Err(JsonFault::DuplicateKey { .. })), "{members} {repeat}");
        }
    }

    #[test]
    fn depth_is_bounded_by_the_limit() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse(nested(64).as_bytes(), 64).is_ok());
        assert_eq!(parse(nested(65).as_bytes(), 64), Err(JsonFault::TooDeep { limit: 64 }));
        assert_eq!(parse(nested(100_000).as_bytes(), 64), Err(JsonFault::TooDeep { limit: 64 }));
    }
}
