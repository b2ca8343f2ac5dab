//! What browsers ask before a page of another origin may post, and may read the answer.
//!
//! `navigator.sendBeacon` sends with credentials, so an answer names the page's origin, never `*`
//! (Fetch standard, section 3.3). The admin listener answers none of this.

use std::collections::HashSet;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::metrics::Metrics;
use crate::origin::Origin;

/// Seconds for which a browser may remember an answer; Chromium remembers none for longer.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST");
/// What a page may send beside the headers that need no leave.
const HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, content-encoding, content-type, idempotency-key, x-api-key, x-sent-at",
);
/// What a page may read beside the headers that need no leave.
const EXPOSED: HeaderValue =
    HeaderValue::from_static("Beacon-Relay-Event-Id, Beacon-Relay-Warnings, Retry-After");
/// What an answer depends on, so that a cache in between gives no page another page's answer.
const DEPENDS: HeaderValue = HeaderValue::from_static("origin");

/// The origins whose pages may post and read answers.
pub(super) struct Cors {
    pub(super) origins: HashSet<Origin>,
    pub(super) metrics: Arc<Metrics>,
}

impl Cors {
    /// The origin of a page that may.
    fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let named = headers.get(ORIGIN)?;
        let origin = Origin::parse(named.to_str().ok()?).ok()?;
        // As the browser wrote it: it compares byte for byte.
        self.origins.contains(&origin).then(|| named.clone())
    }
}

/// Answers what a browser asks beforehand, and adds to every other answer what its page needs.
pub(super) async fn share(State(cors): State<Arc<Cors>>, request: Request, next: Next) -> Response {
    let allowed = cors.allowed(request.headers());
    let asks = request.method() == Method::OPTIONS
        && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = match (&allowed, asks) {
        (Some(_), true) => {
            let response = leave();
            cors.metrics.answered("preflight", response.status().as_u16());
            response
        }
        (Some(_) | None, _) => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.append(VARY, DEPENDS);
    if let Some(origin) = allowed {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
    response
}

/// Leave to send: the same whatever the path, for the request itself is answered as it deserves.
fn leave() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    headers.append(VARY, HeaderValue::from_name(ACCESS_CONTROL_REQUEST_METHOD));
    headers.append(VARY, HeaderValue::from_name(ACCESS_CONTROL_REQUEST_HEADERS));
    response
}
