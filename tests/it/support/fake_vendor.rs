//! A partner's API with the client credentials grant, that answers as it is told.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderMap, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::counted_upstream::tls;

/// The key that each request must carry, and the client that tokens are for, `client:hush`.
const API_KEY: &str = "api-key";
const BASIC: &str = "Basic Y2xpZW50Omh1c2g=";

#[derive(Default)]
struct Told {
    /// Statuses of the next answers; then 200.
    statuses: VecDeque<u16>,
    /// Bodies of the next answers of 200; the last one stays.
    bodies: VecDeque<String>,
    /// Tokens granted; the last one is in force, unless it was taken back.
    tokens: u32,
    taken_back: bool,
    asked: Vec<String>,
}

type Shared = Arc<Mutex<Told>>;

/// The API of a partner.
pub(crate) struct FakeVendor {
    addr: SocketAddr,
    told: Shared,
    authority_pem: Option<String>,
    _serving: AbortOnDropHandle<()>,
}

impl FakeVendor {
    pub(crate) async fn start() -> Self {
        let told = Shared::default();
        let router = router(&told);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let serving = async move { axum::serve(listener, router).await.unwrap() };
        let serving = TaskTracker::new().spawn(serving);
        Self { addr, told, authority_pem: None, _serving: AbortOnDropHandle::new(serving) }
    }

    /// One behind TLS.
    pub(crate) async fn start_tls() -> Self {
        let told = Shared::default();
        let service = TowerToHyperService::new(router(&told));
        let (acceptor, authority_pem) = tls(&["h2", "http/1.1"]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let tasks = TaskTracker::new();
        let serving = tasks.clone().spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, service) = (acceptor.clone(), service.clone());
                tasks.spawn(async move {
                    // A client that does not believe the certificate ends here.
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let builder = Builder::new(TokioExecutor::new());
                    let serving = builder.serve_connection(TokioIo::new(stream), service);
                    serving.await.unwrap_or_default();
                });
            }
        });
        let authority_pem = Some(authority_pem);
        Self { addr, told, authority_pem, _serving: AbortOnDropHandle::new(serving) }
    }

    /// Its origin, under the name that its certificate has.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.authority_pem.is_some() { "https" } else { "http" };
        format!("{scheme}://localhost:{}", self.addr.port())
    }

    /// The authority that signed its certificate.
    pub(crate) fn authority_pem(&self) -> &str {
        self.authority_pem.as_deref().expect("it has TLS")
    }

    /// What it answers next: these statuses, then 200 with these bodies, the last one for ever.
    /// A 401 takes the token back.
    pub(crate) fn answer(&self, statuses: &[u16], bodies: &[&str]) {
        let mut told = self.told.lock().unwrap();
        told.statuses = statuses.iter().copied().collect();
        told.bodies = bodies.iter().map(|&body| body.to_owned()).collect();
    }

    /// The ids it was asked about, and how many tokens it granted.
    pub(crate) fn asked(&self) -> (Vec<String>, u32) {
        let told = self.told.lock().unwrap();
        (told.asked.clone(), told.tokens)
    }
}

fn router(told: &Shared) -> Router {
    Router::new()
        .route("/oauth/v1/token", post(grant))
        .route("/advert/v1/{id}/meta", get(meta))
        .with_state(Arc::clone(told))
}

fn is(headers: &HeaderMap, name: &str, value: &str) -> bool {
    headers.get(name).is_some_and(|given| given == value)
}

async fn grant(State(told): State<Shared>, headers: HeaderMap, body: String) -> Response {
    let is_client = is(&headers, "authorization", BASIC) && is(&headers, "x-api-key", API_KEY);
    if !is_client || body != "grant_type=client_credentials" {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let mut told = told.lock().unwrap();
    told.tokens += 1;
    told.taken_back = false;
    let token = told.tokens;
    let answer =
        format!(r#"{{"access_token":"t{token}","expires_in":86400,"token_type":"bearer"}}"#);
    answer.into_response()
}

async fn meta(State(told): State<Shared>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let mut told = told.lock().unwrap();
    told.asked.push(id);
    // Whoever takes any coding is answered in one.
    if !is(&headers, "accept-encoding", "identity") {
        return StatusCode::NOT_ACCEPTABLE.into_response();
    }
    let bearer = format!("Bearer t{}", told.tokens);
    let is_known = is(&headers, "authorization", &bearer) && !told.taken_back;
    if !is_known || !is(&headers, "x-api-key", API_KEY) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    match told.statuses.pop_front() {
        Some(401) => {
            told.taken_back = true;
            StatusCode::UNAUTHORIZED.into_response()
        }
        Some(429) => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")]).into_response(),
        Some(status) => StatusCode::from_u16(status).unwrap().into_response(),
        None if told.bodies.len() > 1 => told.bodies.pop_front().unwrap().into_response(),
        None => told.bodies.front().cloned().unwrap_or_default().into_response(),
    }
}
