//! One request of an app or till: bounded in size and time, taken in, answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::BodyExt;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::problem::{Code, Problem, json_answer};
use crate::clock::Clock;
use crate::intake::{Accepted, Intake};
use crate::metrics::Metrics;
use crate::schema::lint::Lint;
use crate::source::media::{Media, is_identity};
use crate::source::{Raw, Received, Source};
use crate::spool::Appended;

/// Names a single event in its answer.
const EVENT_ID: HeaderName = HeaderName::from_static("beacon-relay-event-id");
/// Names the lints that fired on a single event.
const WARNINGS: HeaderName = HeaderName::from_static("beacon-relay-warnings");

/// What one request may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a body.
    pub body_bytes_max: usize,
    /// Longest wait for a whole body.
    pub body_within: Duration,
    /// Requests under way at once; one more is answered 503.
    pub requests_max: usize,
}

/// What every source's requests go through.
pub struct Door {
    intake: Intake,
    metrics: Arc<Metrics>,
    clock: Clock,
    limits: Limits,
    slots: Semaphore,
}

impl Door {
    /// A door in front of `intake`.
    #[must_use]
    pub fn new(intake: Intake, metrics: Arc<Metrics>, clock: Clock, limits: Limits) -> Self {
        let slots = Semaphore::new(limits.requests_max);
        Self { intake, metrics, clock, limits, slots }
    }

    /// Takes one request of `source` and answers it.
    pub async fn receive(&self, source: &Source, request: Request<Body>) -> Response {
        let (parts, body) = request.into_parts();
        let (response, since) = match self.read(&parts, body).await {
            Ok(body) => {
                let since = Instant::now();
                (self.accept(source, &parts, body).await, since)
            }
            Err(problem) => {
                tracing::debug!(source = %source.settings().name, %problem, "refused");
                (problem.into_response(), Instant::now())
            }
        };
        let (name, status) = (&source.settings().name, response.status().as_u16());
        self.metrics.source_answered(name, status, since.elapsed().as_secs_f64());
        response
    }

    /// Answers what would become of one item of `source`, and stores nothing.
    pub async fn validate(&self, source: &Source, request: Request<Body>) -> Response {
        let (parts, body) = request.into_parts();
        match self.read(&parts, body).await {
            Ok(body) => self.judge(source, &parts, body),
            Err(problem) => problem.into_response(),
        }
    }

    fn judge(&self, source: &Source, parts: &Parts, body: Bytes) -> Response {
        let _slot = match self.slot() {
            Ok(slot) => slot,
            Err(problem) => return problem.into_response(),
        };
        match source.validate(&self.received(parts), &Raw(body)) {
            Ok(warnings) => {
                let warnings = warnings.to_json();
                let verdict = format!(r#"{{"valid":true,"errors":[],"warnings":{warnings}}}"#);
                json_answer(StatusCode::OK, verdict.into())
            }
            Err(reject) => reject.into_response(),
        }
    }

    fn slot(&self) -> Result<SemaphorePermit<'_>, Problem> {
        self.slots.try_acquire().map_err(|_| {
            let detail = "more requests are under way than the relay takes at once";
            Problem::new(Code::Overloaded, detail)
        })
    }

    fn received(&self, parts: &Parts) -> Received {
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        Received { target: Bytes::copy_from_slice(target.as_bytes()), at: self.clock.now() }
    }

    async fn accept(&self, source: &Source, parts: &Parts, body: Bytes) -> Response {
        let _slot = match self.slot() {
            Ok(slot) => slot,
            Err(problem) => return problem.into_response(),
        };
        let received = self.received(parts);
        match self.intake.accept(source, &received, &[Raw(body)]).await {
            Ok(mut results) => match results.pop() {
                Some(Ok(accepted)) => answer(source, accepted),
                Some(Err(reject)) => reject.into_response(),
                None => Problem::new(Code::Internal, "an item had no result").into_response(),
            },
            Err(error) => {
                tracing::warn!(source = %source.settings().name, %error, "not stored");
                Problem::from(error).into_response()
            }
        }
    }

    /// Reads a body that the source can take, within the limits of size and time.
    async fn read(&self, parts: &Parts, body: Body) -> Result<Bytes, Problem> {
        let header = |name| parts.headers.get(name).map(HeaderValue::as_bytes);
        match Media::of(header(CONTENT_TYPE)) {
            Some(Media::Json) => {}
            None => {
                let detail = "send the body as application/json";
                return Err(Problem::new(Code::UnsupportedMediaType, detail));
            }
        }
        if !is_identity(header(CONTENT_ENCODING)) {
            let detail = "send the body without a content coding";
            return Err(Problem::new(Code::UnsupportedMediaType, detail));
        }
        let within = self.limits.body_within;
        match tokio::time::timeout(within, collect(body, self.limits.body_bytes_max)).await {
            Ok(collected) => collected,
            Err(_elapsed) => {
                let detail = format!("the body did not come within {} s", within.as_secs_f32());
                Err(Problem::new(Code::BodyTimeout, detail))
            }
        }
    }
}

/// Gathers a body of at most `most` bytes. A body of one frame, which most are, is not copied.
async fn collect(mut body: Body, most: usize) -> Result<Bytes, Problem> {
    let too_large = || {
        let detail = format!("the body is over {most} bytes");
        Problem::new(Code::BodyTooLarge, detail)
    };
    let declared = http_body::Body::size_hint(&body).lower();
    if declared > most as u64 {
        return Err(too_large());
    }
    let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Err(Problem::new(Code::MalformedJson, "the body broke off"));
        };
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + rest.len() + data.len() > most {
            return Err(too_large());
        }
        if first.is_empty() {
            first = data;
        } else {
            rest.extend_from_slice(&data);
        }
    }
    if rest.is_empty() {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(first.len() + rest.len());
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&rest);
    Ok(whole.freeze())
}

fn answer(source: &Source, accepted: Accepted) -> Response {
    let Accepted { appended, warnings } = accepted;
    let fixed = &source.settings().answer;
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

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("limits", &self.limits).finish_non_exhaustive()
    }
}
