//! HTTP in: the public listener of apps and tills, and the admin listener of operators.
//!
//! Nothing above this room knows a server's types.

pub mod admin;
mod answer;
mod asked;
pub mod auth;
pub mod body;
mod budget;
pub mod by_url;
mod conversions;
mod cors;
pub mod listener;
pub mod peer;
pub mod problem;
pub mod receive;
pub mod served;
pub mod status;
pub mod tls;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, get, on, post};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request};
use tower_http::catch_panic::CatchPanicLayer;

use crate::metrics::Metrics;
use crate::source::by_url::Reader;
use crate::source::{Get, Source, Subject};

use by_url::Events;
use cors::Cors;
use problem::{Code, Problem};
use receive::Door;

/// The document that describes every path and status.
pub const OPENAPI: &str = include_str!("../../openapi.yaml");

/// Route labels of the public listener beside its sources.
pub const ROUTES: &[&str] = &["openapi", "validate", "conversions", "preflight", "unmatched"];

/// Paths of the public listener that no source may take.
pub const ROUTES_TAKEN: &[&str] = &[
    "/openapi.yaml",
    by_url::PATH,
    conversions::PATH,
    "/v1/validate/conversion",
    "/v1/validate/beacon",
];

/// Paths that answer what would become of an item, each with what it is asked about.
const VALIDATE: [(&str, Subject); 2] =
    [("/v1/validate/conversion", Subject::Conversion), ("/v1/validate/beacon", Subject::Beacon)];

/// The public listener's router: a loop over the sources.
pub fn public(sources: &[Arc<Source>], door: Door, metrics: Arc<Metrics>) -> Router {
    let cors = door.guard().cors();
    let door = Arc::new(door);
    let mut router = Router::new();
    for source in sources {
        let (own, door) = (Arc::clone(source), Arc::clone(&door));
        let handler =
            move |request: Request<Body>| async move { door.receive(&own, request).await };
        let methods = match source.settings().get {
            Get::Refused => MethodFilter::POST,
            // HEAD too: else it would be taken for a GET.
            Get::Nothing | Get::Query => MethodFilter::GET
                .or(MethodFilter::HEAD)
                .or(MethodFilter::OPTIONS)
                .or(MethodFilter::POST),
        };
        router = router.route(&source.settings().path, on(methods, handler));
    }
    for (path, subject) in VALIDATE {
        let mut sources = sources.iter();
        // Without a source of such a kind there is no schema to ask about.
        let Some(source) = sources.find(|one| subject.is_of(one.settings().kind)) else { continue };
        let (source, door, metrics) = (Arc::clone(source), Arc::clone(&door), Arc::clone(&metrics));
        let handler = move |request: Request<Body>| async move {
            let response = door.validate(&source, request).await;
            metrics.answered("validate", response.status().as_u16());
            response
        };
        router = router.route(path, post(handler));
    }
    let orders = sources.iter().find(|one| Subject::Conversion.is_of(one.settings().kind));
    if let Some(source) = orders {
        let (source, door, metrics) = (Arc::clone(source), Arc::clone(&door), Arc::clone(&metrics));
        let handler = move |request: Request<Body>| async move {
            let response = conversions::find(&door, &source, request).await;
            metrics.answered("conversions", response.status().as_u16());
            response
        };
        router = router.route(conversions::PATH, get(handler));
    }
    if let Some(reader) = Reader::new(sources, door.depth_max()) {
        let (events, door) = (Arc::new(Events::new(reader)), Arc::clone(&door));
        let handler =
            move |request: Request<Body>| async move { events.receive(&door, request).await };
        router = router.route(by_url::PATH, post(handler));
    }
    let own = Arc::clone(&metrics);
    let openapi = get(move || async move {
        let mut response = OPENAPI.into_response();
        let yaml = HeaderValue::from_static("application/yaml");
        response.headers_mut().insert(CONTENT_TYPE, yaml);
        own.answered("openapi", 200);
        response
    });
    let router = refusing(router.route("/openapi.yaml", openapi), Arc::clone(&metrics));
    if cors.is_empty() {
        return router;
    }
    let cors = Arc::new(Cors { origins: cors, metrics });
    router.layer(middleware::from_fn_with_state(cors, cors::share))
}

/// The admin listener's router.
pub fn admin(admin: admin::Admin) -> Router {
    let metrics = Arc::clone(admin.status.metrics());
    refusing(admin::router(admin), metrics)
}

/// Adds the answers for what no route takes, and for a panic, which is a bug.
fn refusing(router: Router, metrics: Arc<Metrics>) -> Router {
    let counted = move |code, detail| {
        let metrics = Arc::clone(&metrics);
        move || async move {
            let response = Problem::new(code, detail).into_response();
            metrics.answered("unmatched", response.status().as_u16());
            response
        }
    };
    let missing = "no source or page has this path: see /openapi.yaml";
    let method = "the path does not take this method: see the Allow header";
    router
        .fallback(counted.clone()(Code::NotFound, missing))
        .method_not_allowed_fallback(counted(Code::MethodNotAllowed, method))
        .layer(CatchPanicLayer::custom(panicked))
}

fn panicked(_cause: Box<dyn std::any::Any + Send>) -> Response {
    tracing::error!("a handler panicked: this is a bug, please report it with the log around it");
    Problem::new(Code::Internal, "a bug in the relay: its log says more").into_response()
}
