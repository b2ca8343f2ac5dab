//! The pooled keep-alive client of one destination.
//!
//! hyper-util's own client rather than reqwest: it carries a signed path and query unchanged.
//! Attempts are counted by the forwarder; the pool alone re-sends what met a stale connection
//! before a byte was written.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::RETRY_AFTER;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client as Pool, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use metrics::Counter;
use tower::Service;

use super::verdict::{Attempt, Sent, retry_after};
use crate::clock::Clock;
use crate::spool::Refusal;

/// What a client may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections kept idle.
    pub idle_connections_max: usize,
    /// How long an idle one is kept; under the server's own limit, or requests meet closed ones.
    pub pool_idle_timeout: Duration,
    /// Longest wait for a connection, within the attempt's time.
    pub connect_within: Duration,
    /// Longest wait for the end of an answer, from the start of the attempt.
    pub attempt_within: Duration,
}

/// A pooled client.
#[derive(Clone, Debug)]
pub struct Client {
    pool: Pool<Counted<HttpsConnector<HttpConnector>>, Full<Bytes>>,
    attempt_within: Duration,
    clock: Clock,
}

/// An answer's body is read no further, for the sake of its connection, than this.
const DRAINED_BYTES_MAX: usize = 64 * 1024;

impl Client {
    /// A client that counts the connections it opens.
    #[must_use]
    pub fn new(limits: Limits, opened: Counter, clock: Clock) -> Self {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(limits.connect_within));
        let https = HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(http);
        let pool = Pool::builder(TokioExecutor::new())
            .pool_idle_timeout(limits.pool_idle_timeout)
            .pool_max_idle_per_host(limits.idle_connections_max)
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .build(Counted { inner: https, opened });
        Self { pool, attempt_within: limits.attempt_within, clock }
    }

    /// Sends a request and reads its answer, all within the time of an attempt.
    ///
    /// Dropped before its end, the request may have arrived.
    pub async fn attempt(&self, request: Request<Full<Bytes>>) -> Attempt {
        match tokio::time::timeout(self.attempt_within, self.exchange(request)).await {
            Ok(attempt) => attempt,
            // Connecting has a shorter limit of its own, so the request had left by now.
            Err(_elapsed) => Attempt::Unanswered { sent: Sent::Maybe, code: "timeout" },
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Attempt {
        match self.pool.request(request).await {
            Ok(response) => self.read(response).await,
            Err(error) => unanswered(&error),
        }
    }

    async fn read(&self, response: Response<Incoming>) -> Attempt {
        let status = response.status();
        let hint = response.headers().get(RETRY_AFTER);
        let retry_after = hint.and_then(|value| retry_after(value.as_bytes(), self.clock.now()));
        // The status has decided; a body that breaks off takes nothing back.
        let answer = first_bytes(response.into_body()).await;
        Attempt::Answered { status, retry_after, answer }
    }
}

/// Reads a body to its end so that its connection can be used again, and keeps the first bytes.
async fn first_bytes(mut body: Incoming) -> Bytes {
    if body.is_end_stream() {
        return Bytes::new();
    }
    let (mut kept, mut read) = (BytesMut::new(), 0);
    while let Some(Ok(frame)) = body.frame().await {
        let Some(data) = frame.data_ref() else { continue };
        read += data.len();
        let room = Refusal::ANSWER_BYTES_MAX - kept.len();
        kept.extend_from_slice(&data[..data.len().min(room)]);
        if read > DRAINED_BYTES_MAX {
            break;
        }
    }
    kept.freeze()
}

fn unanswered(error: &Error) -> Attempt {
    if error.is_connect() {
        return Attempt::Unanswered { sent: Sent::No, code: "connect" };
    }
    Attempt::Unanswered { sent: Sent::Maybe, code: "broken" }
}

/// A connector that counts what it opened.
#[derive(Clone, Debug)]
struct Counted<C> {
    inner: C,
    opened: Counter,
}

type Opening<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl<C> Service<Uri> for Counted<C>
where
    C: Service<Uri>,
    C::Future: Send + 'static,
{
    type Response = C::Response;
    type Error = C::Error;
    type Future = Opening<C::Response, C::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (opening, opened) = (self.inner.call(uri), self.opened.clone());
        Box::pin(async move {
            let connection = opening.await?;
            opened.increment(1);
            Ok(connection)
        })
    }
}
