//! The admin listener: metrics, health, readiness and the API of operators.

mod access;
mod audit;
mod awaited;
mod dead;
mod input;
mod jobs;
mod letter;
mod pause;
mod selection;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde_json::json;
use tokio_util::sync::CancellationToken;

pub use self::access::{Access, Token};
pub use self::jobs::Jobs;
use super::problem::json_answer;
use super::status::Status;
use crate::lookup::Lookups;

/// What the admin listener answers from.
#[derive(Clone)]
pub struct Admin {
    /// What is known of the relay.
    pub status: Arc<Status>,
    /// What goes on in the background for operators.
    pub jobs: Arc<Jobs>,
    /// What partners owe.
    pub lookups: Arc<Lookups>,
    /// Who may use the API.
    pub access: Access,
    /// Cancelled when the relay begins to stop: readiness fails from then on.
    pub draining: CancellationToken,
}

/// The admin listener's router.
pub fn router(admin: Admin) -> Router {
    let api = Router::new()
        .route("/api/status", get(status))
        .route("/api/dead", get(dead::list))
        .route("/api/dead/{id}", get(dead::show))
        .route("/api/dead/replay", post(dead::replay))
        .route("/api/dead/drop", post(dead::drop_letters))
        .route("/api/jobs/{id}", delete(dead::stop_job))
        .route("/api/destinations/{name}/pause", post(pause::pause))
        .route("/api/destinations/{name}/resume", post(pause::resume))
        .route("/api/awaited", get(awaited::list).post(awaited::register).delete(awaited::forget))
        .route("/api/audit", get(audit::list))
        .route_layer(middleware::from_fn_with_state(admin.clone(), access::allow));
    let open = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz));
    open.merge(api).with_state(admin)
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
        Ok(mut report) => {
            report["jobs"] = admin.jobs.report();
            report["awaited"] = admin.lookups.report();
            json_answer(StatusCode::OK, report.to_string().into())
        }
        Err(problem) => problem.into_response(),
    }
}
