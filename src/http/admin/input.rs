//! Queries and bodies of the API, read strictly: what is not known is refused by name.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Body;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http_body_util::{BodyExt, Limited};

use crate::http::problem::{Code, Problem};
use crate::json::{self, Node};
use crate::source::segment;

/// Bytes of a body: a thousand ids and a filter are far less.
const BODY_BYTES_MAX: usize = 64 << 10;
/// Time that a body has to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(3);
/// Levels of nesting in a body.
const DEPTH_MAX: usize = 8;

/// A request that says something that cannot be.
pub(super) fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(Code::BadRequest, detail)
}

/// The members of a query, decoded; each once. A `+` is itself, as in times with a zone.
pub(super) fn query(query: &str) -> Result<Vec<(String, String)>, Problem> {
    let mut members: Vec<(String, String)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (Some(name), Some(value)) = (segment(name), segment(value)) else {
            return Err(bad("the query is not UTF-8 when it is decoded"));
        };
        if members.iter().any(|(known, _)| *known == name) {
            return Err(bad(format!("the query names {name:?} twice")));
        }
        members.push((name, value));
    }
    Ok(members)
}

/// A whole body; nothing sent is an empty object.
///
/// Another type than JSON is refused: a web form can send those without asking first.
pub(super) async fn body(parts: &Parts, body: Body) -> Result<Vec<u8>, Problem> {
    let collected = tokio::time::timeout(BODY_WITHIN, Limited::new(body, BODY_BYTES_MAX).collect());
    let Ok(collected) = collected.await else {
        return Err(Problem::new(Code::BodyTimeout, "the body did not come in time"));
    };
    let Ok(collected) = collected else { return Err(Problem::too_large(BODY_BYTES_MAX)) };
    let bytes = collected.to_bytes();
    if bytes.is_empty() {
        return Ok(b"{}".to_vec());
    }
    let media = parts.headers.get(CONTENT_TYPE).and_then(|media| media.to_str().ok());
    let media = media.and_then(|media| media.split(';').next()).unwrap_or_default();
    if !media.trim().eq_ignore_ascii_case("application/json") {
        let detail = "send the body as Content-Type: application/json";
        return Err(Problem::new(Code::UnsupportedMediaType, detail));
    }
    Ok(bytes.to_vec())
}

/// The members of a body.
pub(super) fn members(body: &[u8]) -> Result<Vec<(Cow<'_, str>, Node<'_>)>, Problem> {
    match json::parse(body, DEPTH_MAX)? {
        Node::Object(members) => Ok(members),
        Node::Null | Node::Bool(_) | Node::Number(_) | Node::String(_) | Node::Array(_) => {
            Err(bad("the body is not a JSON object"))
        }
    }
}

/// The text of a member.
pub(super) fn text<'n>(name: &str, node: &'n Node<'_>) -> Result<&'n str, Problem> {
    node.as_str().ok_or_else(|| bad(format!("{name:?} is not a text")))
}

/// `true` or `false`.
pub(super) fn flag(name: &str, node: &Node<'_>) -> Result<bool, Problem> {
    match node {
        Node::Bool(flag) => Ok(*flag),
        Node::Null | Node::Number(_) | Node::String(_) | Node::Array(_) | Node::Object(_) => {
            Err(bad(format!("{name:?} is neither true nor false")))
        }
    }
}

/// A member that nothing is known of.
pub(super) fn unknown(name: &str, known: &[&str]) -> Problem {
    let near = known.iter().map(|known| (strsim::damerau_levenshtein(name, known), known));
    let detail = match near.filter(|(distance, _)| *distance <= 3).min() {
        Some((_, near)) => format!("{name:?} is not known here: did you mean {near:?}?"),
        None => format!("{name:?} is not known here: known are {}", known.join(", ")),
    };
    bad(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded_and_names_each_member_once() {
        let read = query("since=2026-11-21T09:30:00+00:00&publisher=p%C3%A3o&x").unwrap();
        let text = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let wanted =
            [text("since", "2026-11-21T09:30:00+00:00"), text("publisher", "pão"), text("x", "")];
        assert_eq!(read, wanted);
        assert!(query("a=1&a=2").unwrap_err().to_string().contains("twice"));
        assert!(query("a=%ff").unwrap_err().to_string().contains("UTF-8"));
    }

    #[test]
    fn an_unknown_member_is_told_of_its_neighbour() {
        assert!(unknown("destinaton", &["destination"]).to_string().contains("did you mean"));
        assert!(unknown("zzzzzz", &["kind", "reason"]).to_string().contains("kind, reason"));
    }
}
