//! One request of an app or till: bounded in size and time, taken in, answered.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::ALLOW;
use http::request::Parts;
use http::{HeaderValue, Method, Request, StatusCode};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::answer;
use super::asked::{self, Asked};
use super::auth::Guard;
use super::body;
use super::budget::Held;
use super::problem::{Code, Problem, json_answer};
use crate::caller::Caller;
use crate::clock::Clock;
use crate::event::{Dedupe, EventKind, SourceName};
use crate::intake::{self, Intake, Item, Taken, Unity};
use crate::metrics::Metrics;
use crate::source::auth::Auth;
use crate::source::idempotency::{self, Holder};
use crate::source::items::Items;
use crate::source::keep::Keep;
use crate::source::sent_at::{self, SentAt};
use crate::source::{Get, OnInvalid, Received, Reject, Settings, Source, Takes};
use crate::spool::AppendError;

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
    pub(super) intake: Intake,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
    limits: Limits,
    keep: Keep,
    pub(super) guard: Arc<Guard>,
    pub(super) bodies: body::Reader,
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
        let keep = Keep::default();
        Self { intake, metrics, clock, limits, keep, guard, bodies, slots }
    }

    /// Notes of each request what `keep` says; each source keeps of that what it wants.
    #[must_use]
    pub fn keeping(self, keep: Keep) -> Self {
        Self { keep, ..self }
    }

    /// Levels of nesting in an item.
    pub(super) const fn depth_max(&self) -> usize {
        self.limits.body.depth_max
    }

    /// Who stands in front of it.
    pub(super) fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Takes one request of `source` and answers it.
    pub async fn receive(&self, source: &Arc<Source>, request: Request<Body>) -> Response {
        let (parts, body) = request.into_parts();
        let Settings { name, takes, .. } = source.settings();
        if let Some(answer) = looked_at(source, &parts.method) {
            self.metrics.source_answered(name, answer.status().as_u16(), 0.0);
            return answer;
        }
        let accepts = accepts(source.settings(), *takes);
        let came = self.open(source, accepts, &parts, body).await;
        let since = Instant::now();
        let response = match came {
            Ok(opened) => self.accept(source, &parts, opened).await,
            Err(problem) => Err(problem),
        };
        let response = response.unwrap_or_else(|problem| {
            tracing::debug!(source = %name, %problem, "refused");
            problem.into_response()
        });
        self.metrics.source_answered(
            name,
            response.status().as_u16(),
            since.elapsed().as_secs_f64(),
        );
        response
    }

    /// Answers what would become of one item of `source`, and stores nothing.
    pub async fn validate(&self, source: &Source, request: Request<Body>) -> Response {
        let (parts, body) = request.into_parts();
        let accepts = accepts(source.settings(), Takes::One);
        let answer = match self.open(source, accepts, &parts, body).await {
            Ok(opened) => self.judge(source, &parts, opened).await,
            Err(problem) => Err(problem),
        };
        answer.unwrap_or_else(IntoResponse::into_response)
    }

    /// Learns who calls, and reads the body of whoever may when there is a slot for it.
    async fn open(
        &self,
        source: &Source,
        accepts: body::Accepts,
        parts: &Parts,
        body: Body,
    ) -> Result<Opened<'_>, Problem> {
        let (head, settings) = (Instant::now(), source.settings());
        let caller = self.guard.admit(settings, parts, self.clock.now())?;
        let slot = self.slot()?;
        let came = if parts.method == Method::GET {
            let target = settings.auth.without_secrets(target(parts));
            let query = target.split_once('?').map_or("", |(_, query)| query);
            self.bodies.query(Bytes::copy_from_slice(query.as_bytes()), accepts.takes)
        } else {
            let by = match settings.kind {
                EventKind::Notification => Some(settings.answer_by(head, head)),
                EventKind::Conversion => None,
                EventKind::Impression | EventKind::View | EventKind::Click => None,
            };
            self.bodies.read(accepts, parts, body, by).await?
        };
        let answer_by = settings.answer_by(head, Instant::now());
        Ok(Opened { caller, came, answer_by, slot })
    }

    async fn judge(
        &self,
        source: &Source,
        parts: &Parts,
        Opened { caller, came, answer_by, slot: _slot }: Opened<'_>,
    ) -> Result<Response, Problem> {
        let (raw, _held) = self.bodies.inflate(came, answer_by).await?;
        let bare = source.settings().auth.without_secrets(target(parts));
        let received = self.received(Bytes::copy_from_slice(bare.as_bytes()), caller, parts);
        self.guard.count(&received.caller, 1, received.at)?;
        Ok(match source.validate(&received, &raw) {
            Ok(warnings) => {
                let warnings = warnings.to_json();
                let verdict = format!(r#"{{"valid":true,"errors":[],"warnings":{warnings}}}"#);
                json_answer(StatusCode::OK, verdict.into())
            }
            Err(reject) => reject.into_response(),
        })
    }

    /// Takes a slot, to be held until the answer is ready.
    pub(super) fn slot(&self) -> Result<SemaphorePermit<'_>, Problem> {
        self.slots.try_acquire().map_err(|_| {
            let detail = "more requests are under way than the relay takes at once";
            Problem::new(Code::Overloaded, detail)
        })
    }

    pub(super) fn received(&self, target: Bytes, caller: Caller, parts: &Parts) -> Received {
        let said = parts.headers.get(sent_at::HEADER);
        let sent_at = said.map_or(SentAt::Unsaid, |value| SentAt::read(value.as_bytes()));
        let headers = self.keep.of(&parts.headers, caller.address);
        Received { target, at: self.clock.now(), caller, sent_at, headers }
    }

    async fn accept(
        &self,
        source: &Arc<Source>,
        parts: &Parts,
        Opened { caller, came, answer_by, slot: _slot }: Opened<'_>,
    ) -> Result<Response, Problem> {
        let Settings { name, takes, .. } = source.settings();
        let bare = source.settings().auth.without_secrets(target(parts));
        let (asked, target) = match takes {
            Takes::Many => Asked::take(&bare),
            // The event URL is opaque: nothing in it is ours.
            Takes::One => (Asked::NOTHING, Bytes::copy_from_slice(bare.as_bytes())),
        };
        let way = Way { name, auth: &source.settings().auth, asked, answer_by };
        let (items, key, _held) = self.items(&way, *takes, parts, &bare, &caller, came).await?;
        let received = Arc::new(self.received(target, caller, parts));
        let item = |raw| {
            let (source, received) = (Arc::clone(source), Arc::clone(&received));
            Item { source, received, raw }
        };
        let items = match items {
            Items::One(raw) => Posted::One(raw.map(item)),
            Items::Many(raws) => Posted::Many(raws.into_iter().map(|raw| raw.map(item)).collect()),
        };
        self.store(&way, key, items).await
    }

    /// Undoes the codings of a body and finds its items, and the key of the request; with what is held
    /// for the body, to be dropped when the request is answered.
    pub(super) async fn items(
        &self,
        way: &Way<'_>,
        takes: Takes,
        parts: &Parts,
        target: &str,
        caller: &Caller,
        came: body::Came,
    ) -> Result<(Items, Option<Dedupe>, Held), Problem> {
        let key = asked::key(&parts.headers)?;
        let (raw, held) = self.bodies.inflate(came, way.answer_by).await?;
        let (holder, name) = (Holder::of(caller, way.auth), way.name.clone());
        let target = key.as_ref().map(|_| target.to_owned()).unwrap_or_default();
        let request = move |body: &[u8]| {
            let key = key?;
            Some(idempotency::request(&holder, &name, &key, target.as_bytes(), body))
        };
        let (items, key) = self.bodies.split(raw, takes, request, way.answer_by).await?;
        let count = match &items {
            Items::One(_) => 1,
            Items::Many(many) => many.len(),
        };
        self.guard.count(caller, count, self.clock.now())?;
        Ok((items, key, held))
    }

    /// Stores what was posted, and answers.
    pub(super) async fn store(
        &self,
        way: &Way<'_>,
        key: Option<Dedupe>,
        posted: Posted,
    ) -> Result<Response, Problem> {
        let (items, alone, unity) = match posted {
            Posted::One(item) => {
                let alone = item.as_ref().ok().map(|item| Arc::clone(&item.source));
                (vec![item], Some(alone), Unity::Each)
            }
            Posted::Many(items) => (items, None, way.asked.unity),
        };
        let taken = self.intake.accept(intake::Request {
            door: way.name,
            items,
            lane: way.asked.lane,
            unity,
            key,
            answer_by: way.answer_by,
        });
        match (taken.await, alone) {
            (Ok(Taken::Each(mut results)), Some(source)) => match (results.pop(), source) {
                (Some(Ok(accepted)), Some(source)) => {
                    Ok(answer::one(&source.settings().answer, accepted))
                }
                (Some(Err(reject)), _) => Ok(reject.into_response()),
                (_, _) => Err(Problem::new(Code::Internal, "an item had no result")),
            },
            (Ok(Taken::Each(results)), None) => Ok(answer::many(results)),
            (Ok(Taken::Nothing(refused)), _) => Ok(answer::nothing(refused)),
            (Err(error), _) => {
                // A client's slip is no fault of the store, and would fill the log.
                match error {
                    AppendError::KeyReused => {
                        tracing::debug!(source = %way.name, %error, "refused");
                    }
                    AppendError::Full { .. }
                    | AppendError::Busy
                    | AppendError::Closed
                    | AppendError::TooLarge { .. }
                    | AppendError::Unsure
                    | AppendError::Fault(_) => {
                        tracing::warn!(source = %way.name, %error, "not stored");
                    }
                }
                Ok(Problem::from(error).into_response())
            }
        }
    }
}

/// A request whose body came.
struct Opened<'a> {
    caller: Caller,
    came: body::Came,
    answer_by: Instant,
    /// Held until it is answered.
    slot: SemaphorePermit<'a>,
}

/// The way that a request takes in.
#[derive(Debug)]
pub(super) struct Way<'a> {
    /// What it is called in the ledger, and what a request's key belongs to.
    pub(super) name: &'a SourceName,
    /// How it knows its senders, to whom their requests' keys belong.
    pub(super) auth: &'a Auth,
    /// What was asked for.
    pub(super) asked: Asked,
    /// When it must be answered.
    pub(super) answer_by: Instant,
}

/// Items, or why they are none.
pub(super) enum Posted {
    /// One, answered alone.
    One(Result<Item, Reject>),
    /// Each with a result of its own.
    Many(Vec<Result<Item, Reject>>),
}

fn accepts(source: &Settings, takes: Takes) -> body::Accepts {
    let anything = source.on_invalid == OnInvalid::DeadLetter;
    body::Accepts { decode: source.decode, anything, takes }
}

/// The answer to who only looks whether the path is there; nothing when it is more than that.
fn looked_at(source: &Source, method: &Method) -> Option<Response> {
    let only_looks = match (source.settings().get, method) {
        (Get::Refused, _) => false,
        (Get::Nothing, &Method::GET) => true,
        (Get::Nothing | Get::Query, &Method::HEAD | &Method::OPTIONS) => true,
        (Get::Nothing | Get::Query, _) => false,
    };
    only_looks.then(|| {
        let mut answer = StatusCode::OK.into_response();
        if *method == Method::OPTIONS {
            let allow = HeaderValue::from_static("GET, HEAD, OPTIONS, POST");
            answer.headers_mut().insert(ALLOW, allow);
        }
        answer
    })
}

pub(super) fn target(parts: &Parts) -> &str {
    parts.uri.path_and_query().map_or("/", |target| target.as_str())
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("limits", &self.limits).finish_non_exhaustive()
    }
}
