//! `/_sandbox`: what arrived, the counts, and the faults. No fault acts here.

use std::fmt::Display;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::listing::Listing;
use super::record::Filter;
use super::{Faults, Payload, Sandbox};

/// Bytes of the JSON that sets faults.
const FAULTS_BYTES_MAX: usize = 16 * 1024;

/// Whether a request of this path is for the sandbox itself, not for the events API.
pub(super) fn is_meant(path: &str) -> bool {
    path.strip_prefix("/_sandbox").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Answers a request that [`is_meant`] for the sandbox.
pub(super) async fn answer(sandbox: &Sandbox, request: Request<Incoming>) -> Response<Payload> {
    let (head, body) = request.into_parts();
    let method = head.method;
    match head.uri.path() {
        "/_sandbox/events" if method == Method::GET => list(sandbox, head.uri.query()),
        "/_sandbox/events" if method == Method::DELETE => {
            sandbox.forget();
            respond(StatusCode::NO_CONTENT, "application/json", Bytes::new())
        }
        "/_sandbox/events" => only("GET, DELETE"),
        "/_sandbox/stats" if method == Method::GET => show(&json!(sandbox.stats())),
        "/_sandbox/stats" => only("GET"),
        "/_sandbox/faults" if method == Method::GET => show(&faults(sandbox)),
        "/_sandbox/faults" if method == Method::PUT => set_faults(sandbox, body).await,
        "/_sandbox/faults" => only("GET, PUT"),
        path => match body_of(path) {
            Some(n) if method == Method::GET => one_body(sandbox, n),
            Some(_) => only("GET"),
            None => refuse(
                StatusCode::NOT_FOUND,
                "there are /_sandbox/events, /_sandbox/events/{n}/body, /_sandbox/stats and \
                 /_sandbox/faults",
            ),
        },
    }
}

/// The number in `/_sandbox/events/{n}/body`.
fn body_of(path: &str) -> Option<u64> {
    path.strip_prefix("/_sandbox/events/")?.strip_suffix("/body")?.parse().ok()
}

fn list(sandbox: &Sandbox, query: Option<&str>) -> Response<Payload> {
    match filter(query.unwrap_or_default()) {
        Ok(filter) => {
            let mut response = Response::new(Either::Right(Listing::new(sandbox.events(&filter))));
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(CONTENT_TYPE, json);
            response
        }
        Err(reason) => refuse(StatusCode::BAD_REQUEST, reason),
    }
}

/// Reads a query; the error is for the user.
fn filter(query: &str) -> Result<Filter, String> {
    let mut filter = Filter::default();
    for member in query.split('&').filter(|member| !member.is_empty()) {
        let (name, value) = member.split_once('=').unwrap_or((member, ""));
        let value = decode(value).ok_or_else(|| format!("{name} is not UTF-8"))?;
        let number = || value.parse().map_err(|_| format!("{name} is a whole number"));
        match name {
            "path" => filter.path = Some(value),
            "order_id" => filter.order_id = Some(value),
            "after" => filter.after = number()?,
            "limit" => filter.limit = Some(usize::try_from(number()?).unwrap_or(usize::MAX)),
            _ => {
                return Err(format!(
                    "unknown query member {name:?}: there are path, order_id, after and limit"
                ));
            }
        }
    }
    Ok(filter)
}

/// Undoes percent encoding; a `%` without two digits stands for itself, as event URLs have them.
fn decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        let digits = (byte == b'%').then(|| behind.get(..2)).flatten();
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                rest = &behind[2..];
            }
            None => {
                decoded.push(if byte == b'+' { b' ' } else { byte });
                rest = behind;
            }
        }
    }
    String::from_utf8(decoded).ok()
}

fn one_body(sandbox: &Sandbox, n: u64) -> Response<Payload> {
    match sandbox.event(n) {
        Some(arrival) => respond(StatusCode::OK, "application/octet-stream", arrival.body.clone()),
        None => refuse(StatusCode::NOT_FOUND, "no such event, or it was forgotten"),
    }
}

async fn set_faults(sandbox: &Sandbox, body: Incoming) -> Response<Payload> {
    let read = Limited::new(body, FAULTS_BYTES_MAX).collect();
    let Ok(Ok(read)) = timeout(sandbox.0.limits.body_within, read).await else {
        return refuse(StatusCode::BAD_REQUEST, "the body is too long, too slow, or broken");
    };
    let set = std::str::from_utf8(&read.to_bytes())
        .map_err(|_| "the body is not UTF-8".to_owned())
        .and_then(|text| text.parse::<Faults>().map_err(|error| error.to_string()))
        .and_then(|faults| sandbox.set_faults(faults).map_err(|error| error.to_string()));
    match set {
        Ok(()) => {
            let faults = faults(sandbox);
            tracing::info!(%faults, "the sandbox's faults were set");
            show(&faults)
        }
        Err(reason) => refuse(StatusCode::BAD_REQUEST, reason),
    }
}

fn faults(sandbox: &Sandbox) -> Value {
    let now = sandbox.0.clock.now();
    sandbox.injector().to_json(now)
}

fn show(value: &Value) -> Response<Payload> {
    respond(StatusCode::OK, "application/json", format!("{value:#}\n").into())
}

fn refuse(status: StatusCode, reason: impl Display) -> Response<Payload> {
    let error = json!({ "error": reason.to_string() });
    respond(status, "application/json", format!("{error}\n").into())
}

fn only(methods: &'static str) -> Response<Payload> {
    let mut response = refuse(StatusCode::METHOD_NOT_ALLOWED, format!("the methods are {methods}"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response
}

fn respond(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Payload> {
    let mut response = Response::new(Either::Left(Full::new(body)));
    *response.status_mut() = status;
    if status != StatusCode::NO_CONTENT {
        let content_type = HeaderValue::from_static(content_type);
        response.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_paths_are_meant_for_the_sandbox() {
        for path in ["/_sandbox", "/_sandbox/", "/_sandbox/events", "/_sandbox/nothing"] {
            assert!(is_meant(path), "{path}");
        }
        for path in ["/", "/_sandboxes", "/v1/_sandbox/events", "//_sandbox/events"] {
            assert!(!is_meant(path), "{path}");
        }
    }

    #[test]
    fn a_query_is_read_decoded() {
        let expected = Filter {
            path: Some("/v1/beacon/click/a?x=%zz&y='".to_owned()),
            order_id: Some("o 1+é".to_owned()),
            after: 7,
            limit: Some(2),
        };
        let query = "path=/v1/beacon/click/a%3fx=%zz%26y='&order_id=o+1%2B%C3%A9&after=7&limit=2&";
        assert_eq!(filter(query), Ok(expected));
        assert_eq!(filter(""), Ok(Filter::default()));
        assert_eq!(decode("%"), Some("%".to_owned()));
        assert_eq!(decode("%+1%4"), Some("% 1%4".to_owned()));
    }

    #[test]
    fn what_is_wrong_in_a_query_is_named() {
        let cases = [
            ("pth=/", "unknown query member \"pth\""),
            ("after=x", "after is a whole number"),
            ("limit=", "limit is a whole number"),
            ("order_id=%ff", "order_id is not UTF-8"),
        ];
        for (query, start) in cases {
            assert!(filter(query).is_err_and(|reason| reason.starts_with(start)), "{query}");
        }
    }
}
