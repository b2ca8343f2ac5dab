//! One request of an app or till: bounded in size and time, taken in, answered.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, StatusCode};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::auth::Guard;
use super::body;
use super::problem::{Code, Problem, json_answer};
use crate::caller::Caller;
use crate::clock::Clock;
use crate::intake::{Accepted, Intake};
use crate::metrics::Metrics;
use crate::schema::lint::Lint;
use crate::source::{Raw, Received, Source};
use crate::spool::Appended;

/// Names a single event in its answer.
const EVENT_ID: HeaderName = HeaderName::from_static("beacon-relay-event-id");
/// Names the lints that fired on a single event.
const WARNINGS: HeaderName = HeaderName::from_static("beacon-relay-warnings");

/// What one request may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Its body.
    pub body: body::Limits,
    /// Requests under way at once; one more is answered 503.
    pub requests_max: usize,
}

/// What every source's requests go through.
pub struct Door {
    intake: Intake,
    metrics: Arc<Metrics>,
    clock: Clock,
    limits: Limits,
    guard: Arc<Guard>,
    bodies: body::Reader,
    slots: Semaphore,
}

impl Door {
    /// A door in front of `intake`.
    #[must_use]
    pub fn new(
        intake: Intake,
        guard: Arc<Guard>,
        metrics: Arc<Metrics>,
        clock: Clock,
        limits: Limits,
    ) -> Self {
        let slots = Semaphore::new(limits.requests_max);
        let bodies = body::Reader::new(limits.body);
        Self { intake, metrics, clock, limits, guard, bodies, slots }
    }

    /// Takes one request of `source` and answers it.
    pub async fn receive(&self, source: &Source, request: Request<Body>) -> Response {
        let (parts, body) = request.into_parts();
        let came = self.open(source, &parts, body).await;
        let since = Instant::now();
        let response = match came {
            Ok((caller, came)) => self.accept(source, self.received(&parts, caller), came).await,
            Err(problem) => Err(problem),
        };
        let response = response.unwrap_or_else(|problem| {
            tracing::debug!(source = %source.settings().name, %problem, "refused");
            problem.into_response()
        });
        let (name, status) = (&source.settings().name, response.status().as_u16());
        self.metrics.source_answered(name, status, since.elapsed().as_secs_f64());
        response
    }

    /// Answers what would become of one item of `source`, and stores nothing.
    pub async fn validate(&self, source: &Source, request: Request<Body>) -> Response {
        let (parts, body) = request.into_parts();
        let answer = match self.open(source, &parts, body).await {
            Ok((caller, came)) => self.judge(source, self.received(&parts, caller), came).await,
            Err(problem) => Err(problem),
        };
        answer.unwrap_or_else(IntoResponse::into_response)
    }

    /// Learns who calls, and reads the body of whoever may.
    async fn open(
        &self,
        source: &Source,
        parts: &Parts,
        body: Body,
    ) -> Result<(Caller, body::Came), Problem> {
        let caller = self.guard.admit(source.settings(), parts)?;
        let came = self.bodies.read(source.settings().decode, parts, body).await?;
        Ok((caller, came))
    }

    async fn judge(
        &self,
        source: &Source,
        received: Received,
        came: body::Came,
    ) -> Result<Response, Problem> {
        let (_slot, raw) = self.begin(source, came).await?;
        Ok(match source.validate(&received, &raw) {
            Ok(warnings) => {
                let warnings = warnings.to_json();
                let verdict = format!(r#"{{"valid":true,"errors":[],"warnings":{warnings}}}"#);
                json_answer(StatusCode::OK, verdict.into())
            }
            Err(reject) => reject.into_response(),
        })
    }

    /// Takes a slot, to be held until the answer is ready, and undoes the body's codings.
    async fn begin(
        &self,
        source: &Source,
        came: body::Came,
    ) -> Result<(SemaphorePermit<'_>, Raw), Problem> {
        let slot = self.slots.try_acquire().map_err(|_| {
            let detail = "more requests are under way than the relay takes at once";
            Problem::new(Code::Overloaded, detail)
        })?;
        let raw = self.bodies.inflate(came, source.settings().answer_within).await?;
        Ok((slot, raw))
    }

    fn received(&self, parts: &Parts, caller: Caller) -> Received {
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        Received { target: Bytes::copy_from_slice(target.as_bytes()), at: self.clock.now(), caller }
    }

    async fn accept(
        &self,
        source: &Source,
        received: Received,
        came: body::Came,
    ) -> Result<Response, Problem> {
        let (_slot, raw) = self.begin(source, came).await?;
        match self.intake.accept(source, &received, &[raw]).await {
            Ok(mut results) => match results.pop() {
                Some(Ok(accepted)) => Ok(answer(source, accepted)),
                Some(Err(reject)) => Ok(reject.into_response()),
                None => Err(Problem::new(Code::Internal, "an item had no result")),
            },
            Err(error) => {
                tracing::warn!(source = %source.settings().name, %error, "not stored");
                Ok(Problem::from(error).into_response())
            }
        }
    }
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
