//! `POST /v1/events`: ad events that name the URL that the ad server gave.

use std::time::Instant;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::Request;
use http::request::Parts;
use std::sync::Arc;

use super::asked::Asked;
use super::body::Accepts;
use super::problem::{Code, Problem};
use super::receive::{Door, Posted, Way, target};
use crate::caller::Caller;
use crate::event::SourceName;
use crate::intake::Item;
use crate::source::auth::Auth;
use crate::source::by_url::{ByUrl, Reader};
use crate::source::items::Items;
use crate::source::{Decode, Raw, Reject, Takes};

/// The path, which no source may take.
pub const PATH: &str = "/v1/events";
/// What items are counted under that name no source; no source may be called so.
pub const NAME: &str = "events";

/// Bytes that are read in one go: more holds up other connections of the thread.
const READ_AT_ONCE: usize = 64 << 10;

/// The way in of events by URL.
#[derive(Debug)]
pub struct Events {
    reader: Reader,
    name: SourceName,
}

/// Who calls, and whether it may post to each source.
struct Admitted {
    caller: Caller,
    may: Vec<bool>,
}

impl Events {
    /// A way in for what `reader` reads.
    #[must_use]
    pub fn new(reader: Reader) -> Self {
        Self { reader, name: SourceName::new(NAME) }
    }

    /// Takes one request and answers it.
    pub async fn receive(&self, door: &Door, request: Request<Body>) -> Response {
        let (parts, body) = request.into_parts();
        let since = Instant::now();
        let response = self.accept(door, &parts, body).await.unwrap_or_else(|problem| {
            tracing::debug!(source = NAME, %problem, "refused");
            problem.into_response()
        });
        let (status, seconds) = (response.status().as_u16(), since.elapsed().as_secs_f64());
        door.metrics.source_answered(&self.name, status, seconds);
        response
    }

    async fn accept(&self, door: &Door, parts: &Parts, body: Body) -> Result<Response, Problem> {
        let admitted = self.admit(door, parts)?;
        let accepts = Accepts { decode: Decode::Json, anything: false, takes: Takes::Many };
        let _slot = door.slot()?;
        let head = tokio::time::Instant::now();
        let came = door.bodies.read(accepts, parts, body, None).await?;
        let read = tokio::time::Instant::now();
        let by = self.reader.sources().iter().map(|one| one.settings().answer_by(head, read));
        let way = Way {
            name: &self.name,
            auth: &Auth::Clients,
            asked: Asked::take(target(parts)).0,
            answer_by: by.min().unwrap_or(read),
        };
        let found = door.items(&way, Takes::Many, parts, target(parts), &admitted.caller, came);
        let found = found.await?;
        let (items, key, _held) = found;
        let posted = match items {
            Items::One(raw) => {
                Posted::One(raw.and_then(|raw| self.item(door, &admitted, parts, &raw)))
            }
            Items::Many(raws) => {
                let (mut items, mut bytes) = (Vec::with_capacity(raws.len()), 0);
                for raw in raws {
                    if bytes > READ_AT_ONCE {
                        bytes = 0;
                        tokio::task::yield_now().await;
                    }
                    bytes += raw.as_ref().map_or(0, |raw| raw.body.len());
                    items.push(raw.and_then(|raw| self.item(door, &admitted, parts, &raw)));
                }
                Posted::Many(items)
            }
        };
        door.store(&way, key, posted).await
    }

    /// Whoever may post to one of the sources may come in.
    fn admit(&self, door: &Door, parts: &Parts) -> Result<Admitted, Problem> {
        let (sources, now) = (self.reader.sources().iter(), door.clock.now());
        let judged: Vec<Result<Caller, Problem>> =
            sources.map(|source| door.guard.admit(source.settings(), parts, now)).collect();
        let may = judged.iter().map(Result::is_ok).collect();
        let mut refused = None;
        for one in judged {
            match one {
                Ok(caller) => return Ok(Admitted { caller, may }),
                // It may post, and has posted enough.
                Err(problem) if problem.code() == Code::RateLimited => return Err(problem),
                Err(problem) => refused = Some(problem),
            }
        }
        Err(refused.unwrap_or_else(Problem::source))
    }

    fn item(
        &self,
        door: &Door,
        admitted: &Admitted,
        parts: &Parts,
        raw: &Raw,
    ) -> Result<Item, Reject> {
        let ByUrl { source, target, raw } = self.reader.read(raw)?;
        if !admitted.may[source] {
            return Err(Reject::SourceNotAllowed);
        }
        let received = Arc::new(door.received(target, admitted.caller.clone(), parts));
        Ok(Item { source: Arc::clone(&self.reader.sources()[source]), received, raw })
    }
}
