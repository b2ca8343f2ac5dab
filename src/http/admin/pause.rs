//! An operator's pause of a destination, which outlives a restart.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{Request, StatusCode};
use serde_json::{Value, json};

use super::Admin;
use super::access::Operator;
use super::input::{bad, body, members, text, unknown};
use crate::clock::Timestamp;
use crate::forward::Forwarder;
use crate::forward::pause::{FOR_EVER, Until};
use crate::http::problem::{Code, Problem, json_answer};
use crate::spool::{Shelf, Spool, StoreFault};
use crate::units;

/// The longest pause with an end; a longer one is a mistake, or meant without an end.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// `POST /api/destinations/{name}/pause`
pub(super) async fn pause(
    State(admin): State<Admin>,
    Extension(who): Extension<Operator>,
    Path(name): Path<String>,
    request: Request<Body>,
) -> Response {
    set(&admin, who, &name, Action::Pause, request)
        .await
        .unwrap_or_else(IntoResponse::into_response)
}

/// `POST /api/destinations/{name}/resume`
pub(super) async fn resume(
    State(admin): State<Admin>,
    Extension(who): Extension<Operator>,
    Path(name): Path<String>,
    request: Request<Body>,
) -> Response {
    set(&admin, who, &name, Action::Resume, request)
        .await
        .unwrap_or_else(IntoResponse::into_response)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Pause,
    Resume,
}

impl Action {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
        }
    }
}

async fn set(
    admin: &Admin,
    who: Operator,
    name: &str,
    action: Action,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let (parts, sent) = request.into_parts();
    let sent = body(&parts, sent).await?;
    let until = match action {
        Action::Pause => Some(until(&sent, admin.jobs.now())?),
        Action::Resume => {
            if let Some((name, _)) = members(&sent)?.first() {
                return Err(bad(format!("{name:?} is not known here: resuming takes nothing")));
            }
            None
        }
    };
    let forwarders = admin.jobs.forwarders();
    let Some(forwarder) = forwarders.iter().find(|one| one.name().as_str() == name) else {
        let names: Vec<&str> = forwarders.iter().map(|one| one.name().as_str()).collect();
        let detail = format!("no destination has this name: known are {}", names.join(", "));
        return Err(Problem::new(Code::NotFound, detail));
    };
    let audit = admin.jobs.audit();
    let shown = shown(until);
    let what = json!({ "destination": name, "until": shown["until"] });
    let entry = audit.begin(who, action.as_str(), what).await?;
    let value = until.map(|until| Bytes::from(until.as_millis().to_string()));
    let kept = admin.jobs.spool().note(Shelf::Paused, name.to_owned().into(), value).await;
    if let Err(error) = kept {
        audit.end(entry, json!({ "state": "failed", "refused": error.code() })).await;
        return Err(error.into());
    }
    match until {
        Some(until) => forwarder.pause(until),
        None => forwarder.resume(),
    }
    audit.end(entry, json!({ "state": "done" })).await;
    let answer = json!({ "destination": name, "paused": shown });
    Ok(json_answer(StatusCode::OK, answer.to_string().into()))
}

/// Nothing, or until when; as in status.
fn shown(until: Option<Until>) -> Value {
    match until {
        None => Value::Null,
        Some(FOR_EVER) => json!({ "until": null }),
        Some(until) => json!({ "until": until.to_string() }),
    }
}

fn until(body: &[u8], now: Timestamp) -> Result<Until, Problem> {
    let mut until = FOR_EVER;
    for (name, node) in members(body)? {
        if name != "for" {
            return Err(unknown(&name, &["for"]));
        }
        let span = units::span(text("for", &node)?);
        let span = span.map_err(|fault| bad(format!("\"for\" {fault}")))?;
        if span.is_zero() || span > LONGEST {
            let detail = "\"for\" is from 1 ms to 366 d; leave it out to pause until it is resumed";
            return Err(bad(detail));
        }
        until = now.after(span);
    }
    Ok(until)
}

/// Pauses what was paused when the relay last ran.
pub(super) async fn restore(
    spool: &dyn Spool,
    forwarders: &[Arc<Forwarder>],
) -> Result<(), StoreFault> {
    let notes = spool.notes(Shelf::Paused, None, Shelf::Paused.notes_max()).await?;
    for forwarder in forwarders {
        let name = forwarder.name().as_str().as_bytes();
        let Some((_, value)) = notes.iter().find(|(key, _)| key.as_ref() == name) else { continue };
        let millis = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        // A note that cannot be read is a pause all the same: who paused had a reason.
        let until = millis.map_or(FOR_EVER, Timestamp::from_millis);
        tracing::warn!(destination = %forwarder.name(), "was paused by an operator, and is still");
        forwarder.pause(until);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_has_an_end_or_none() {
        let now = Timestamp::from_millis(1_000);
        assert_eq!(until(b"{}", now).unwrap(), FOR_EVER);
        assert_eq!(until(br#"{"for":"10m"}"#, now).unwrap(), Timestamp::from_millis(601_000));
        for wrong in [r#"{"for":"10"}"#, r#"{"for":10}"#, r#"{"for":"0 s"}"#, r#"{"fro":"1 m"}"#] {
            assert!(until(wrong.as_bytes(), now).is_err(), "{wrong}");
        }
    }
}
