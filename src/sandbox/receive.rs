//! The events API itself: takes a request, judges it, and answers it or lets a fault do so.

use std::future::pending;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use super::answer::Answer;
use super::arrival::{Arrival, Headers, Outcome};
use super::faults::Reset;
use super::injector::Strike;
use super::line::Line;
use super::{Judgement, Limits, Sandbox};
use crate::clock::Timestamp;
use crate::event::EventKind;
use crate::json::parse;

/// Levels that a conversion may be nested when its `order_id` is looked for.
const DEPTH_MAX: usize = 64;

const WILL_BE_PROCESSED: &str = r#"{"messages":["conversion will be processed soon"]}"#;
const INJECTED: &str = r#"{"error":"fault injected by the sandbox"}"#;
/// What drifted schemas would answer.
const INJECTED_VIOLATION: &str = r##"[{"instancePath":"","keyword":"required","message":"must have required property 'injected_by_the_sandbox'","params":{"missingProperty":"injected_by_the_sandbox"},"schemaPath":"#/required"}]"##;

/// Answers `request`, which came on `line`.
///
/// Once the body is read the arrival is listed, even if the client leaves before the answer.
pub(super) async fn answer(
    sandbox: &Sandbox,
    line: &Line,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let at = sandbox.0.clock.now();
    let in_hand = InHand::begin(sandbox, line);
    let mut strike = sandbox.injector().strike(at);
    let closes = strike.close_after.is_some_and(|max| in_hand.nth_of_line >= max.get());
    if closes {
        strike.names.push("close_after");
    }
    sandbox.record().struck(&strike.names);
    line.trickle(strike.trickle);
    if strike.reset == Some(Reset::Before) {
        hold_back(&strike).await;
        return reset(line).await;
    }
    let (head, body) = request.into_parts();
    let version = head.version;
    let answer = match read(sandbox, body).await {
        Ok((body, room)) => {
            let route = route(&head.method, head.uri.path());
            let received = Received { at, connection: line.number, head, route, body };
            let (answer, outcome) = answer_to(sandbox, &received, &strike);
            let status = strike.reset.is_none().then_some(answer.status);
            keep(sandbox, received, outcome, status, &strike);
            // From here on the record bounds what the body takes.
            drop(room);
            hold_back(&strike).await;
            answer
        }
        Err(refused) => Answer::empty(refused),
    };
    if strike.reset == Some(Reset::After) {
        return reset(line).await;
    }
    in_hand.end(answer.status);
    answer.respond(&strike, version, closes.then_some(line))
}

/// Counts a request as in hand, and as unanswered when it is dropped before [`InHand::end`].
struct InHand<'a> {
    sandbox: &'a Sandbox,
    nth_of_line: u32,
    answer: Option<StatusCode>,
}

impl<'a> InHand<'a> {
    fn begin(sandbox: &'a Sandbox, line: &Line) -> Self {
        let mut record = sandbox.record();
        let nth_of_line = line.count_request();
        if nth_of_line == 1 && !line.has_ended() {
            record.connection_opened();
        }
        record.begin();
        Self { sandbox, nth_of_line, answer: None }
    }

    fn end(mut self, answer: StatusCode) {
        self.answer = Some(answer);
    }
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.sandbox.record().end(self.answer);
    }
}

async fn hold_back(strike: &Strike) {
    if let Some(delay) = strike.delay {
        sleep(delay).await;
    }
}

/// Has the connection's task reset it; this future is dropped then.
async fn reset(line: &Line) -> Response<Full<Bytes>> {
    line.reset.cancel();
    pending().await
}

/// Reads a body into memory of its own size, or says with which status it is refused.
async fn read(
    sandbox: &Sandbox,
    body: Incoming,
) -> Result<(Bytes, OwnedSemaphorePermit), StatusCode> {
    let Limits { body_within, body_bytes_max, .. } = sandbox.0.limits;
    let read = read_bounded(body, body_bytes_max, &sandbox.0.body_room);
    timeout(body_within, read).await.unwrap_or(Err(StatusCode::REQUEST_TIMEOUT))
}

async fn read_bounded(
    mut body: Incoming,
    max: usize,
    room: &Arc<Semaphore>,
) -> Result<(Bytes, OwnedSemaphorePermit), StatusCode> {
    const FULL: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
    let take = |bytes: usize| {
        let bytes = u32::try_from(bytes).map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?;
        Arc::clone(room).try_acquire_many_owned(bytes).map_err(|_| FULL)
    };
    let mut taken = take(0)?;
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        // A broken body is a broken connection, so that hardly anybody reads this answer.
        let frame = frame.map_err(|_| StatusCode::BAD_REQUEST)?;
        let Ok(data) = frame.into_data() else { continue };
        if read.len() + data.len() > max {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        taken.merge(take(data.len())?);
        read.extend_from_slice(&data);
    }
    // A boxed slice has no spare capacity, which the record would keep without counting it.
    Ok((Bytes::from(read.into_boxed_slice()), taken))
}

/// A request whose body was read.
struct Received {
    at: Timestamp,
    connection: u64,
    head: Parts,
    route: Route,
    body: Bytes,
}

/// What a path and method lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Event(EventKind),
    WrongMethod(EventKind),
    Nowhere,
}

fn route(method: &Method, path: &str) -> Route {
    let steps: Vec<&str> = path.split('/').collect();
    let kind = match steps[..] {
        ["", version, "beacon", "conversion"] if !version.is_empty() => EventKind::Conversion,
        ["", version, "beacon", kind, ad_id] if !version.is_empty() && !ad_id.is_empty() => {
            match kind {
                "impression" => EventKind::Impression,
                "view" => EventKind::View,
                "click" => EventKind::Click,
                _ => return Route::Nowhere,
            }
        }
        _ => return Route::Nowhere,
    };
    if method == Method::POST { Route::Event(kind) } else { Route::WrongMethod(kind) }
}

fn json(status: StatusCode, body: &'static str) -> Answer {
    Answer::json(status, Bytes::from_static(body.as_bytes()))
}

/// What is answered, and what thereby becomes of the request.
fn answer_to(sandbox: &Sandbox, received: &Received, strike: &Strike) -> (Answer, Outcome) {
    let fault = strike.status.filter(|status| !status.is_success());
    if let Some(status) = fault {
        let body =
            if status == StatusCode::UNPROCESSABLE_ENTITY { INJECTED_VIOLATION } else { INJECTED };
        return (json(status, body).disguised(strike), Outcome::Faulted);
    }
    let (answer, outcome) = match received.route {
        Route::Event(kind) => judged(sandbox, kind, received),
        Route::WrongMethod(_) => {
            let answer = json(StatusCode::METHOD_NOT_ALLOWED, r#"{"error":"not a POST"}"#);
            (answer, Outcome::Unroutable)
        }
        Route::Nowhere => {
            let answer = json(StatusCode::NOT_FOUND, r#"{"error":"no such path"}"#);
            (answer, Outcome::Unroutable)
        }
    };
    match strike.status {
        Some(status) if outcome == Outcome::Accepted => {
            (answer.with_status(status).disguised(strike), outcome)
        }
        Some(_) | None => (answer, outcome),
    }
}

fn judged(sandbox: &Sandbox, kind: EventKind, received: &Received) -> (Answer, Outcome) {
    let body = &received.body;
    let judgement = if body.is_empty() && tells_who(kind, received.head.uri.query()) {
        Judgement::Valid
    } else {
        (sandbox.0.judge)(kind, body)
    };
    match judgement {
        Judgement::Valid if kind == EventKind::Conversion => {
            (json(StatusCode::ACCEPTED, WILL_BE_PROCESSED), Outcome::Accepted)
        }
        Judgement::Valid => (Answer::empty(StatusCode::ACCEPTED), Outcome::Accepted),
        Judgement::Invalid(violations) => {
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            let answer = Answer::json(status, violations);
            (answer, Outcome::Invalid)
        }
        Judgement::Malformed => {
            let answer = json(StatusCode::BAD_REQUEST, r#"{"error":"malformed JSON"}"#);
            (answer, Outcome::Malformed)
        }
    }
}

/// Whether an ad event's query names a user or a session, as pixels send it without a body.
fn tells_who(kind: EventKind, query: Option<&str>) -> bool {
    let mut members = query.unwrap_or_default().split('&').filter_map(|it| it.split_once('='));
    kind != EventKind::Conversion
        && members
            .any(|(name, value)| ["user_id", "session_id"].contains(&name) && !value.is_empty())
}

/// Lists the request, answered with `status`, as an arrival.
fn keep(
    sandbox: &Sandbox,
    received: Received,
    outcome: Outcome,
    status: Option<StatusCode>,
    strike: &Strike,
) {
    let Received { at, connection, head, route, body } = received;
    let (kind, order_id) = match route {
        Route::Event(EventKind::Conversion) => (Some(EventKind::Conversion), order_id(&body)),
        Route::Event(kind) | Route::WrongMethod(kind) => (Some(kind), None),
        Route::Nowhere => (None, None),
    };
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let arrival = Arrival {
        n: 0,
        at,
        connection,
        target: target.to_owned(),
        headers: Headers::copy(&head.headers),
        method: head.method,
        version: head.version,
        body,
        kind,
        order_id,
        outcome,
        status,
        faults: strike.names.clone(),
    };
    let kept = sandbox.keep(arrival);
    tracing::debug!(
        n = kept.n,
        kind = kept.kind.map(EventKind::as_str),
        outcome = ?kept.outcome,
        status = kept.status.map(|status| status.as_u16()),
        bytes = kept.body.len(),
        connection = kept.connection,
        "the sandbox received a request"
    );
}

fn order_id(body: &[u8]) -> Option<String> {
    let order = parse(body, DEPTH_MAX).ok()?;
    Some(order.get("order_id")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_an_events_or_leads_nowhere() {
        let cases = [
            ("/v1/beacon/conversion", Some(EventKind::Conversion)),
            ("/v134-beta/beacon/conversion", Some(EventKind::Conversion)),
            ("/v1/beacon/impression/a1", Some(EventKind::Impression)),
            ("/v1/beacon/view/%2e%2e", Some(EventKind::View)),
            ("/v2.1/beacon/click/{a}|'", Some(EventKind::Click)),
            ("/v1/beacon/click/", None),
            ("/v1/beacon/click", None),
            ("/v1/beacon/click/a/b", None),
            ("/v1/beacon/click//a", None),
            ("/v1/beacon/conversion/", None),
            ("/v1/beacon/conversion/a", None),
            ("/v1/beacon/notification/a", None),
            ("/v1/beacon/foo/a", None),
            ("//beacon/conversion", None),
            ("/", None),
        ];
        for (path, kind) in cases {
            let expected = kind.map_or(Route::Nowhere, Route::Event);
            assert_eq!(route(&Method::POST, path), expected, "{path}");
            let expected = kind.map_or(Route::Nowhere, Route::WrongMethod);
            assert_eq!(route(&Method::GET, path), expected, "{path}");
        }
    }

    #[test]
    fn an_ad_event_may_say_who_in_its_query() {
        let click = EventKind::Click;
        for query in ["user_id=u", "pos=1&session_id=s&x"] {
            assert!(tells_who(click, Some(query)));
            assert!(!tells_who(EventKind::Conversion, Some(query)));
        }
        for query in [None, Some(""), Some("user_id="), Some("xuser_id=u"), Some("user_id")] {
            assert!(!tells_who(click, query));
        }
    }
}
