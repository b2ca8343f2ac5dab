//! The admin listener: metrics, health, readiness and the API of operators.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;
use subtle::ConstantTimeEq;
use tokio_util::sync::CancellationToken;

use super::problem::{Code, Problem, json_answer};
use super::status::Status;

/// Who may use the API.
#[derive(Clone)]
pub struct Access {
    /// The operators' token.
    pub token: Option<Token>,
    /// Where the listener listens; on loopback no token is needed.
    pub listen: SocketAddr,
}

/// A bearer token, compared in constant time and never printed.
#[derive(Clone)]
pub struct Token(Arc<[u8]>);

impl Token {
    /// The token of a configured secret.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self(secret.into())
    }

    fn is(&self, offered: &[u8]) -> bool {
        self.0.ct_eq(offered).into()
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What the admin listener answers from.
#[derive(Clone)]
pub struct Admin {
    /// What is known of the relay.
    pub status: Arc<Status>,
    /// Who may use the API.
    pub access: Access,
    /// Cancelled when the relay begins to stop: readiness fails from then on.
    pub draining: CancellationToken,
}

/// The admin listener's router.
pub fn router(admin: Admin) -> Router {
    let api = Router::new()
        .route("/api/status", get(status))
        .route_layer(middleware::from_fn_with_state(admin.clone(), allow));
    let open = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz));
    open.merge(api).with_state(admin)
}

async fn allow(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    match admin.access.check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

impl Access {
    fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(token) = &self.token else {
            if self.listen.ip().is_loopback() {
                return Ok(());
            }
            let detail = "the admin API needs a token on this address: set admin.token_env to the \
                          name of an environment variable that holds one, and start again";
            return Err(Problem::new(Code::TokenNotSet, detail));
        };
        if self.listen.ip().is_loopback() {
            return Ok(());
        }
        let offered = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let offered = offered.and_then(|value| value.strip_prefix(b"Bearer "));
        if offered.is_some_and(|offered| token.is(offered)) {
            return Ok(());
        }
        let detail = "send the admin token as `Authorization: Bearer …`";
        Err(Problem::new(Code::Unauthorized, detail))
    }
}

async fn healthz() -> Response {
    json_answer(StatusCode::OK, Bytes::from_static(br#"{"alive":true}"#))
}

async fn readyz(State(admin): State<Admin>) -> Response {
    let mut reasons = admin.status.unready().await;
    if admin.draining.is_cancelled() {
        reasons.push("draining");
    }
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({ "ready": ready, "reasons": reasons }).to_string();
    json_answer(status, body.into())
}

/// Answers even when the spool cannot be asked: what is known is never more wanted than then.
async fn metrics(State(admin): State<Admin>) -> Response {
    if let Err(problem) = admin.status.refresh().await {
        tracing::warn!(%problem, "gauges are not up to date");
    }
    let mut response = admin.status.metrics().render().into_response();
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, text);
    response
}

async fn status(State(admin): State<Admin>) -> Response {
    match admin.status.report().await {
        Ok(report) => json_answer(StatusCode::OK, report.to_string().into()),
        Err(problem) => problem.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(listen: &str, token: Option<&str>, offered: Option<&str>) -> Option<StatusCode> {
        let token = token.map(|token| Token::new(token.as_bytes()));
        let access = Access { token, listen: listen.parse().unwrap() };
        let mut headers = HeaderMap::new();
        if let Some(offered) = offered {
            headers.insert(AUTHORIZATION, HeaderValue::from_str(offered).unwrap());
        }
        access.check(&headers).err().map(|problem| problem.into_response().status())
    }

    #[test]
    fn the_api_needs_its_token_off_loopback() {
        let (forbidden, unauthorized) =
            (Some(StatusCode::FORBIDDEN), Some(StatusCode::UNAUTHORIZED));
        let outside = "0.0.0.0:9090";
        assert_eq!(check("127.0.0.1:9090", None, None), None);
        assert_eq!(check("[::1]:9090", Some("t"), None), None);
        assert_eq!(check(outside, None, Some("Bearer t")), forbidden);
        assert_eq!(check(outside, Some("t"), None), unauthorized);
        assert_eq!(check(outside, Some("t"), Some("Bearer u")), unauthorized);
        assert_eq!(check(outside, Some("t"), Some("t")), unauthorized);
        assert_eq!(check(outside, Some("t"), Some("Bearer t")), None);
    }

    #[test]
    fn a_token_is_never_printed() {
        assert_eq!(format!("{:?}", Token::new(b"hush")), "Token(…)");
    }
}
