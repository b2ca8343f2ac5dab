//! What became of a request, as its answer.

use std::fmt::Write as _;

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::json;

use super::problem::{Problem, json_answer};
use crate::intake::Accepted;
use crate::schema::lint::Lint;
use crate::source::{self, Reject};
use crate::spool::Appended;

/// Names a single event in its answer.
const EVENT_ID: HeaderName = HeaderName::from_static("beacon-relay-event-id");
/// Names the lints that fired on a single event.
const WARNINGS: HeaderName = HeaderName::from_static("beacon-relay-warnings");

/// The answer to one item alone.
pub(super) fn one(fixed: &source::Answer, accepted: Accepted) -> Response {
    let Accepted { appended, warnings, .. } = accepted;
    let mut response = json_answer(fixed.status, fixed.body.clone());
    let id = match appended {
        Appended::Stored(id) | Appended::Duplicate { of: id, .. } => id,
    };
    if let Ok(id) = HeaderValue::try_from(id.to_string()) {
        response.headers_mut().insert(EVENT_ID, id);
    }
    if !warnings.is_empty() {
        let names: Vec<&str> = warnings.lints().map(Lint::as_str).collect();
        if let Ok(names) = HeaderValue::try_from(names.join(", ")) {
            response.headers_mut().insert(WARNINGS, names);
        }
    }
    response
}

/// The answer to many items: a result for each.
pub(super) fn many(results: Vec<Result<Accepted, Reject>>) -> Response {
    let (mut accepted, mut duplicates, mut rejected) = (0_usize, 0_usize, 0_usize);
    let mut list = String::with_capacity(32 * results.len());
    for (index, result) in results.into_iter().enumerate() {
        if index > 0 {
            list.push(',');
        }
        // A String takes every write.
        let _ = match result {
            Ok(item) => {
                let is_duplicate = matches!(item.appended, Appended::Duplicate { .. });
                *(if is_duplicate { &mut duplicates } else { &mut accepted }) += 1;
                let status = StatusCode::ACCEPTED.as_u16();
                let _ = write!(list, r#"{{"index":{index},"status":{status}"#);
                if is_duplicate {
                    list.push_str(r#","duplicate":true"#);
                }
                if !item.conflict.is_empty() {
                    let _ = write!(list, r#","conflict":{}"#, json!(item.conflict));
                }
                if !item.warnings.is_empty() {
                    let _ = write!(list, r#","warnings":{}"#, item.warnings.to_json());
                }
                write!(list, "}}")
            }
            Err(reject) => {
                rejected += 1;
                match Problem::of(reject) {
                    Ok(problem) => {
                        let code = problem.code();
                        let (status, code) = (code.status().as_u16(), code.as_str());
                        write!(list, r#"{{"index":{index},"status":{status},"code":"{code}"}}"#)
                    }
                    Err(violations) => {
                        let _ = write!(list, r#"{{"index":{index},"status":422,"errors":["#);
                        violations.write(&mut list);
                        write!(list, "]}}")
                    }
                }
            }
        };
    }
    let status = match (accepted + duplicates, rejected) {
        (_, 0) => StatusCode::ACCEPTED,
        (0, _) => StatusCode::UNPROCESSABLE_ENTITY,
        (_, _) => StatusCode::MULTI_STATUS,
    };
    let body = format!(
        r#"{{"accepted":{accepted},"duplicates":{duplicates},"rejected":{rejected},"results":[{list}]}}"#
    );
    json_answer(status, body.into())
}

/// The answer to many items of which none was stored, for these were refused: Ajv's errors of the
/// whole list, unless one of them is refused for something that Ajv knows nothing of.
pub(super) fn nothing(refused: Vec<(usize, Reject)>) -> Response {
    let mut errors = String::from("[");
    for (index, reject) in refused {
        match Problem::of(reject) {
            Err(violations) => violations.write_of_item(&mut errors, index),
            Ok(problem) => return problem.of_item(index).into_response(),
        }
    }
    errors.push(']');
    json_answer(StatusCode::UNPROCESSABLE_ENTITY, errors.into())
}
