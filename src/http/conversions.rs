//! `GET /v1/conversions/{publisher_id}/{order_id}`: what became of an order.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{Request, StatusCode};
use serde_json::json;

use super::problem::{Code, Problem, json_answer};
use super::receive::Door;
use crate::source::{Source, segment};
use crate::spool::Found;

/// The path, which no source may take.
pub(super) const PATH: &str = "/v1/conversions/{publisher_id}/{order_id}";

/// Answers one request about an order that came in by `source`.
pub(super) async fn find(door: &Door, source: &Arc<Source>, request: Request<Body>) -> Response {
    let (parts, _body) = request.into_parts();
    match found(door, source, &parts).await {
        Ok(found) => answer(&found),
        Err(problem) => problem.into_response(),
    }
}

async fn found(door: &Door, source: &Arc<Source>, parts: &Parts) -> Result<Found, Problem> {
    let now = door.clock.now();
    let caller = door.guard.admit(source.settings(), parts, now)?;
    // Order numbers can be counted through: whoever has no key must not learn of a shop's sales by
    // claiming its page's origin, and a stranger, where there are any, pays for each question.
    if caller.is_page() {
        let detail = "a web page may not ask about orders: anyone can claim its origin";
        return Err(Problem::new(Code::SourceNotAllowed, detail));
    }
    if caller.client.is_none() {
        door.guard.count(&caller, 1, now)?;
    }
    let unknown = || Problem::new(Code::NotFound, "no such order was accepted, or too long ago");
    let mut steps = parts.uri.path().split('/').skip(3).map(segment);
    // An id that is not UTF-8 cannot have been in any body.
    let (Some(Some(publisher)), Some(Some(order)), None) =
        (steps.next(), steps.next(), steps.next())
    else {
        return Err(unknown());
    };
    if !caller.publishers.covers(publisher.as_str()) {
        return Err(Problem::publisher());
    }
    let key = source.key_of_order(&publisher, &order).ok_or_else(unknown)?;
    let found = door.intake.find(key).await.map_err(|fault| {
        tracing::error!(%fault, "the spool cannot be asked");
        Problem::new(Code::StoreUnavailable, "the store cannot be asked: try again")
    })?;
    found.ok_or_else(unknown)
}

fn answer(found: &Found) -> Response {
    let mut body = json!({
        "status": found.state.as_str(),
        "accepted_at": found.id.at().to_string(),
        "event_id": found.id.to_string(),
    });
    if let Some(at) = found.at {
        body["given_up_at"] = json!(at.to_string());
    }
    json_answer(StatusCode::OK, body.to_string().into())
}
