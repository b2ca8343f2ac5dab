//! One request as it arrived, and its JSON.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::clock::Timestamp;
use crate::event::EventKind;

/// A request to the events API whose body was read to its end, whatever was answered.
///
/// Everything is a copy of its own size: a slice would keep the connection's whole read buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Its number, from 1; later ones are higher, also after a `DELETE`.
    pub n: u64,
    /// When its head had been read.
    pub at: Timestamp,
    /// The number of the connection that it came on.
    pub connection: u64,
    /// Its method.
    pub method: Method,
    /// The protocol's version.
    pub version: Version,
    /// Path and query, byte for byte.
    pub target: String,
    /// Its header.
    pub headers: Headers,
    /// The body, byte for byte.
    pub body: Bytes,
    /// What its path says it is.
    pub kind: Option<EventKind>,
    /// The `order_id` of a conversion that has one.
    pub order_id: Option<String>,
    /// What became of it.
    pub outcome: Outcome,
    /// What was, or is about to be, answered; nothing when the connection was reset.
    pub status: Option<StatusCode>,
    /// The faults it met.
    pub faults: Vec<&'static str>,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The events API has taken it.
    Accepted,
    /// Taken before: acknowledged, and ignored.
    Duplicate,
    /// Answered with violations.
    Invalid,
    /// Its body is not JSON.
    Malformed,
    /// The events API has no such path or method.
    Unroutable,
    /// A fault was answered in place of a judgement.
    Faulted,
}

/// Header members in the order of their first arrival, names in lower case.
///
/// Repeats are joined by `, `, which means the same (RFC 9110, 5.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// The value of `name`, given in lower case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Every name with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(super) fn copy(headers: &HeaderMap) -> Self {
        let mut copy: Vec<(String, String)> = Vec::with_capacity(headers.len());
        for name in headers.keys() {
            let values: Vec<String> = headers.get_all(name).iter().map(text).collect();
            copy.push((name.as_str().to_owned(), values.join(", ")));
        }
        Self(copy)
    }
}

/// A value as text; bytes that are no UTF-8 become the characters of the same numbers.
fn text(value: &HeaderValue) -> String {
    let bytes = value.as_bytes();
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    }
}

impl Arrival {
    /// The path without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(self.target.as_str(), |(path, _)| path)
    }

    /// The query without its question mark.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query)
    }

    /// Memory that keeping it takes, counted on the safe side.
    pub(super) fn weight(&self) -> usize {
        let headers: usize =
            self.headers.iter().map(|(name, value)| name.len() + value.len() + 48).sum();
        512 + self.target.len() + headers + self.body.len()
    }

    /// The arrival as one JSON object.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let text = std::str::from_utf8(&self.body).ok();
        let headers = self.headers.iter();
        let shown = Shown {
            n: self.n,
            at: self.at.to_string(),
            connection: self.connection,
            method: self.method.as_str(),
            version: format!("{:?}", self.version),
            target: &self.target,
            path: self.path(),
            query: self.query(),
            headers: headers.map(|(name, value)| (name.to_owned(), value.into())).collect(),
            body: text,
            body_bytes: self.body.len(),
            body_sha256: text.is_none().then(|| hex(&Sha256::digest(&self.body))),
            kind: self.kind.map(EventKind::as_str),
            order_id: self.order_id.as_deref(),
            outcome: self.outcome,
            status: self.status.map(|status| status.as_u16()),
            faults: &self.faults,
        };
        serde_json::to_vec(&shown).unwrap_or_else(|_| b"null".to_vec())
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    n: u64,
    at: String,
    connection: u64,
    method: &'a str,
    version: String,
    target: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    headers: Map<String, Value>,
    body: Option<&'a str>,
    body_bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_sha256: Option<String>,
    kind: Option<&'static str>,
    order_id: Option<&'a str>,
    outcome: Outcome,
    status: Option<u16>,
    faults: &'a [&'static str],
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| DIGITS[usize::from(digit)]).collect()
}

#[cfg(test)]
pub(super) fn sample(target: &str, body: &'static [u8]) -> Arrival {
    Arrival {
        n: 0,
        at: Timestamp::EPOCH,
        connection: 1,
        method: Method::POST,
        version: Version::HTTP_11,
        target: target.to_owned(),
        headers: Headers::default(),
        body: Bytes::from_static(body),
        kind: None,
        order_id: None,
        outcome: Outcome::Unroutable,
        status: Some(StatusCode::NOT_FOUND),
        faults: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(arrival: &Arrival) -> Value {
        serde_json::from_slice(&arrival.to_json()).unwrap()
    }

    #[test]
    fn an_empty_query_differs_from_none() {
        let with = sample("/a?", b"");
        assert_eq!((with.path(), with.query()), ("/a", Some("")));
        let without = sample("/a", b"");
        assert_eq!((without.path(), without.query()), ("/a", None));
        assert_eq!(sample("/a?b?c", b"").query(), Some("b?c"));
    }

    #[test]
    fn a_body_that_is_no_text_is_shown_by_length_and_digest() {
        let shown = shown(&sample("/", b"\xff\x00"));
        assert_eq!(shown["body"], Value::Null);
        assert_eq!(shown["body_bytes"], 2);
        assert_eq!(
            shown["body_sha256"],
            "ea5dbf9596d187e9500f23e9a680109475341cf4e81f7e043f7d97152c10772f"
        );
    }

    #[test]
    fn a_body_of_text_is_shown_as_it_is() {
        let shown = shown(&sample("/", "{\"é\":1.00}\n".as_bytes()));
        assert_eq!(shown["body"], "{\"é\":1.00}\n");
        assert_eq!(shown.get("body_sha256"), None);
    }

    #[test]
    fn repeated_headers_are_joined_and_odd_bytes_shown() {
        let mut headers = HeaderMap::new();
        headers.append("x-a", HeaderValue::from_static("1"));
        headers.append("x-b", HeaderValue::from_bytes(b"\xe9").unwrap());
        headers.append("x-a", HeaderValue::from_static("2"));
        let arrival = Arrival { headers: Headers::copy(&headers), ..sample("/", b"") };
        assert_eq!(shown(&arrival)["headers"], json!({ "x-a": "1, 2", "x-b": "é" }));
        assert_eq!(arrival.headers.get("x-a"), Some("1, 2"));
        assert_eq!(arrival.headers.get("x-c"), None);
    }
}
