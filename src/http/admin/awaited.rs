//! Notifications that a partner owes: registered by programs, listed and forgotten by operators.
//!
//! A registration is no entry of the record: a shop makes thousands a day, and they would push out
//! what operators did.

use axum::Extension;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{Request, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

use super::Admin;
use super::access::Operator;
use super::audit::limit;
use super::input::{bad, body, members, query, text, unknown};
use crate::clock::Timestamp;
use crate::event::SourceName;
use crate::http::problem::{Code, Problem, json_answer};
use crate::lookup::{RegisterError, Registered, is_id};
use crate::schema::moment::Moment;
use crate::units;

/// The farthest deadline; a later one is a mistake.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
/// Entries of one page.
const PAGE: usize = 100;
/// Most entries of one page.
const PAGE_MAX: usize = 1_000;

/// `POST /api/awaited`
pub(super) async fn register(State(admin): State<Admin>, request: Request<Body>) -> Response {
    take(&admin, request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn take(admin: &Admin, request: Request<Body>) -> Result<Response, Problem> {
    let (parts, sent) = request.into_parts();
    let sent = body(&parts, sent).await?;
    let (mut source, mut id, mut deadline) = (None, None, None);
    for (name, node) in members(&sent)? {
        match &*name {
            "source" => source = Some(text("source", &node)?.to_owned()),
            "id" => id = Some(text("id", &node)?.to_owned()),
            "deadline" => deadline = Some(moment(text("deadline", &node)?, admin.jobs.now())?),
            _ => return Err(unknown(&name, &["source", "id", "deadline"])),
        }
    }
    let (Some(source), Some(id), Some(deadline)) = (source, id, deadline) else {
        return Err(bad("\"source\", \"id\" and \"deadline\" must be there"));
    };
    if !is_id(&id) {
        return Err(bad("\"id\" has 1 to 200 bytes, none of them a control character"));
    }
    let registered = admin.lookups.register(&SourceName::new(&source), &id, deadline).await;
    let registered = registered.ok_or_else(|| no_source(admin))?;
    let status = match registered {
        Ok(Registered::New) => StatusCode::CREATED,
        Ok(Registered::Again) => StatusCode::OK,
        Err(error @ RegisterError::TooMany) => {
            return Err(Problem::new(Code::Overloaded, error.to_string()));
        }
        Err(RegisterError::Store(error)) => return Err(error.into()),
    };
    let answer = json!({ "source": source, "id": id, "deadline": deadline.to_string() });
    Ok(json_answer(status, answer.to_string().into()))
}

/// `GET /api/awaited?source=&after=&limit=`
pub(super) async fn list(State(admin): State<Admin>, RawQuery(asked): RawQuery) -> Response {
    match page(&admin, asked.as_deref().unwrap_or_default()) {
        Ok(page) => json_answer(StatusCode::OK, page.to_string().into()),
        Err(problem) => problem.into_response(),
    }
}

fn page(admin: &Admin, asked: &str) -> Result<Value, Problem> {
    let (mut source, mut after, mut most) = (None, None, PAGE);
    for (name, value) in query(asked)? {
        match name.as_str() {
            "source" => source = Some(SourceName::new(&value)),
            "after" => after = Some(value),
            "limit" => most = limit(&value, PAGE_MAX)?,
            _ => return Err(unknown(&name, &["source", "after", "limit"])),
        }
    }
    let Some(source) = source else {
        let found = admin.lookups.sources();
        let names: Vec<&str> = found.map(SourceName::as_str).collect();
        return Err(bad(format!("name a \"source\" that is looked up: {}", names.join(", "))));
    };
    let found = admin.lookups.list(&source, after.as_deref(), most + 1);
    let mut awaited = found.ok_or_else(|| no_source(admin))?;
    let has_more = awaited.len() > most;
    awaited.truncate(most);
    let next = awaited.last().filter(|_| has_more).map(|last| last["id"].clone());
    Ok(json!({ "awaited": awaited, "next": next }))
}

/// `DELETE /api/awaited?source=&id=`
pub(super) async fn forget(
    State(admin): State<Admin>,
    Extension(who): Extension<Operator>,
    RawQuery(asked): RawQuery,
) -> Response {
    let forgotten = drop_one(&admin, who, asked.as_deref().unwrap_or_default()).await;
    forgotten.unwrap_or_else(IntoResponse::into_response)
}

async fn drop_one(admin: &Admin, who: Operator, asked: &str) -> Result<Response, Problem> {
    let (mut source, mut id) = (None, None);
    for (name, value) in query(asked)? {
        match name.as_str() {
            "source" => source = Some(SourceName::new(&value)),
            "id" => id = Some(value),
            _ => return Err(unknown(&name, &["source", "id"])),
        }
    }
    let (Some(source), Some(id)) = (source, id.filter(|id| is_id(id))) else {
        return Err(bad("name the \"source\" and the \"id\""));
    };
    if !admin.lookups.sources().any(|known| *known == source) {
        return Err(no_source(admin));
    }
    let what = json!({ "source": source.as_str(), "id": id });
    let audit = admin.jobs.audit();
    let entry = audit.begin(who, "forget_awaited", what.clone()).await?;
    match admin.lookups.forget(&source, &id).await {
        Some(Ok(true)) => {
            audit.end(entry, json!({ "state": "done" })).await;
            Ok(json_answer(StatusCode::OK, what.to_string().into()))
        }
        Some(Ok(false)) | None => {
            audit.end(entry, json!({ "state": "failed", "refused": "not_found" })).await;
            Err(Problem::new(Code::NotFound, "no such notification is awaited"))
        }
        Some(Err(error)) => {
            audit.end(entry, json!({ "state": "failed", "refused": error.code() })).await;
            Err(error.into())
        }
    }
}

fn no_source(admin: &Admin) -> Problem {
    let names: Vec<&str> = admin.lookups.sources().map(SourceName::as_str).collect();
    let detail = if names.is_empty() {
        "no source can be looked up: none has a [source.lookup] table".to_owned()
    } else {
        format!("no source of this name can be looked up: known are {}", names.join(", "))
    };
    Problem::new(Code::NotFound, detail)
}

/// A time, or how long from now.
fn moment(text: &str, now: Timestamp) -> Result<Timestamp, Problem> {
    let read = Moment::read(text).and_then(|moment| u64::try_from(moment.millis()).ok());
    let at = match read {
        Some(millis) => Timestamp::from_millis(millis),
        None => now.after(units::span(text).map_err(|_| {
            bad("\"deadline\" is a time as 2026-11-21T09:30:00Z, or how long from now as \"10 m\"")
        })?),
    };
    if at.since(now) > LONGEST {
        return Err(bad("\"deadline\" is more than 366 days ahead"));
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_a_time_or_a_span() {
        let now = Timestamp::from_millis(1_795_253_400_000);
        let read = |text: &str| moment(text, now).ok().map(Timestamp::as_millis);
        assert_eq!(read("10 m"), Some(1_795_254_000_000));
        assert_eq!(read("0 s"), Some(1_795_253_400_000));
        assert_eq!(read("2026-11-21T09:30:00Z"), Some(1_795_253_400_000));
        assert_eq!(read("2026-11-21T06:31:00-03:00"), Some(1_795_253_460_000));
        for wrong in ["", "soon", "10", "400 d", "3000-01-01T00:00:00Z"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
