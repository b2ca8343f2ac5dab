//! One request of an app or till: bounded in size and time, taken in, answered.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::request::Parts;
use http::{Request, StatusCode};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::answer;
use super::asked::Asked;
use super::auth::Guard;
use super::body;
use super::problem::{Code, Problem, json_answer};
use crate::caller::Caller;
use crate::clock::Clock;
use crate::intake::{self, Intake, Item, Taken};
use crate::metrics::Metrics;
use crate::source::items::Items;
use crate::source::{Received, Source, Takes};

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
    pub async fn receive(&self, source: &Arc<Source>, request: Request<Body>) -> Response {
        let (parts, body) = request.into_parts();
        let came = self.open(source, source.settings().takes, &parts, body).await;
        let since = Instant::now();
        let response = match came {
            Ok((caller, came)) => self.accept(source, &parts, caller, came).await,
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
        let answer = match self.open(source, Takes::One, &parts, body).await {
            Ok((caller, came)) => self.judge(source, &parts, caller, came).await,
            Err(problem) => Err(problem),
        };
        answer.unwrap_or_else(IntoResponse::into_response)
    }

    /// Learns who calls, and reads the body of whoever may.
    async fn open(
        &self,
        source: &Source,
        takes: Takes,
        parts: &Parts,
        body: Body,
    ) -> Result<(Caller, body::Came), Problem> {
        let caller = self.guard.admit(source.settings(), parts)?;
        let came = self.bodies.read(source, takes, parts, body).await?;
        Ok((caller, came))
    }

    async fn judge(
        &self,
        source: &Source,
        parts: &Parts,
        caller: Caller,
        came: body::Came,
    ) -> Result<Response, Problem> {
        let _slot = self.slot()?;
        let raw = self.bodies.inflate(came, source.settings().answer_within).await?;
        let target = Bytes::copy_from_slice(target(parts).as_bytes());
        Ok(match source.validate(&self.received(target, caller), &raw) {
            Ok(warnings) => {
                let warnings = warnings.to_json();
                let verdict = format!(r#"{{"valid":true,"errors":[],"warnings":{warnings}}}"#);
                json_answer(StatusCode::OK, verdict.into())
            }
            Err(reject) => reject.into_response(),
        })
    }

    /// Takes a slot, to be held until the answer is ready.
    fn slot(&self) -> Result<SemaphorePermit<'_>, Problem> {
        self.slots.try_acquire().map_err(|_| {
            let detail = "more requests are under way than the relay takes at once";
            Problem::new(Code::Overloaded, detail)
        })
    }

    fn received(&self, target: Bytes, caller: Caller) -> Received {
        Received { target, at: self.clock.now(), caller }
    }

    async fn accept(
        &self,
        source: &Arc<Source>,
        parts: &Parts,
        caller: Caller,
        came: body::Came,
    ) -> Result<Response, Problem> {
        let _slot = self.slot()?;
        let settings = source.settings();
        let raw = self.bodies.inflate(came, settings.answer_within).await?;
        let (asked, target) = match settings.takes {
            Takes::Many => Asked::take(target(parts)),
            // The event URL is opaque: nothing in it is ours.
            Takes::One => (Asked::NOTHING, Bytes::copy_from_slice(target(parts).as_bytes())),
        };
        let items = self.bodies.split(raw, settings.takes, settings.answer_within).await?;
        let received = Arc::new(self.received(target, caller));
        let item = |raw| {
            let (source, received) = (Arc::clone(source), Arc::clone(&received));
            Item { source, received, raw }
        };
        let (is_one, items) = match items {
            Items::One(raw) => (true, vec![raw.map(item)]),
            Items::Many(raws) => (false, raws.into_iter().map(|raw| raw.map(item)).collect()),
        };
        let taken = self.intake.accept(intake::Request {
            door: &settings.name,
            items,
            lane: asked.lane,
            unity: if is_one { intake::Unity::Each } else { asked.unity },
            answer_within: settings.answer_within,
        });
        match taken.await {
            Ok(Taken::Each(mut results)) if is_one => match results.pop() {
                Some(result) => Ok(answer::one(&settings.answer, result)),
                None => Err(Problem::new(Code::Internal, "an item had no result")),
            },
            Ok(Taken::Each(results)) => Ok(answer::many(results)),
            Ok(Taken::Nothing(refused)) => Ok(answer::nothing(refused)),
            Err(error) => {
                tracing::warn!(source = %settings.name, %error, "not stored");
                Ok(Problem::from(error).into_response())
            }
        }
    }
}

fn target(parts: &Parts) -> &str {
    parts.uri.path_and_query().map_or("/", |target| target.as_str())
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("limits", &self.limits).finish_non_exhaustive()
    }
}
