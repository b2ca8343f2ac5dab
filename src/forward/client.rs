//! The pooled keep-alive client of one destination.
//!
//! hyper-util's own client rather than reqwest: it carries a signed path and query unchanged.
//! Attempts are counted by the forwarder. What met a stale connection is sent once more here: by
//! the pool before a byte was written, by the client after.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::RETRY_AFTER;
use http::{Extensions, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::{
    CaptureConnection, Connected, Connection, HttpConnector, HttpInfo, capture_connection,
};
use hyper_util::client::legacy::{Client as Pool, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use metrics::Counter;
use tokio::time::Instant;
use tower::{BoxError, Service};

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

/// What a client counts.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Connections opened.
    pub opened: Counter,
    /// Requests sent again at once, because a reused connection closed on them.
    pub resent: Counter,
}

/// A pooled client.
#[derive(Clone, Debug)]
pub struct Client {
    pool: Pool<Connector, Full<Bytes>>,
    attempt_within: Duration,
    clock: Clock,
    used: Used,
    resent: Counter,
}

type Connector = Watched<HttpsConnector<HttpConnector>>;

/// An answer's body is read no further, for the sake of its connection, than this.
const DRAINED_BYTES_MAX: usize = 64 * 1024;

impl Client {
    /// A client within `limits`.
    #[must_use]
    pub fn new(limits: Limits, counters: Counters, clock: Clock) -> Self {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        let https = HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(http);
        let (Counters { opened, resent }, used) = (counters, Used::default());
        let connector =
            Watched { inner: https, within: limits.connect_within, opened, used: used.clone() };
        let pool = Pool::builder(TokioExecutor::new())
            .pool_idle_timeout(limits.pool_idle_timeout)
            .pool_max_idle_per_host(limits.idle_connections_max)
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .build(connector);
        Self { pool, attempt_within: limits.attempt_within, clock, used, resent }
    }

    /// Sends a request and reads its answer, all within the time of an attempt. A request whose
    /// reused connection closes on it without an answer met the server's idle time-out, most
    /// likely, and is sent once more at once.
    ///
    /// Dropped before its end, the request may have arrived.
    pub async fn attempt(&self, request: Request<Full<Bytes>>) -> Attempt {
        let deadline = Instant::now() + self.attempt_within;
        match self.send(request.clone(), deadline).await {
            Ended::Attempt(attempt) => attempt,
            Ended::Stale => {
                self.resent.increment(1);
                match self.send(request, deadline).await {
                    Ended::Attempt(attempt) => attempt,
                    Ended::Stale => BROKEN,
                }
            }
        }
    }

    async fn send(&self, mut request: Request<Full<Bytes>>, deadline: Instant) -> Ended {
        let connection = capture_connection(&mut request);
        let answered = tokio::time::timeout_at(deadline, self.pool.request(request)).await;
        let local = local_address(&connection);
        let attempt = match answered {
            Ok(Ok(response)) => {
                if let Some(local) = local {
                    self.used.add(local);
                }
                self.read(response, deadline).await
            }
            Ok(Err(error)) => {
                if is_closed(&error) && local.is_some_and(|local| self.used.has(local)) {
                    return Ended::Stale;
                }
                unanswered(&error)
            }
            Err(_elapsed) => {
                // Without a connection nothing can have left.
                let connected = connection.connection_metadata().is_some();
                let sent = if connected { Sent::Maybe } else { Sent::No };
                Attempt::Unanswered { sent, code: "timeout" }
            }
        };
        Ended::Attempt(attempt)
    }

    async fn read(&self, response: Response<Incoming>, deadline: Instant) -> Attempt {
        let status = response.status();
        let hint = response.headers().get(RETRY_AFTER);
        let retry_after = hint.and_then(|value| retry_after(value.as_bytes(), self.clock.now()));
        // The status has decided; a body that breaks off or never ends takes nothing back.
        let answer = first_bytes(response.into_body(), deadline).await;
        Attempt::Answered { status, retry_after, answer }
    }
}

/// How one sending ended.
enum Ended {
    Attempt(Attempt),
    /// A reused connection closed without an answer.
    Stale,
}

/// Local addresses of connections that have carried an answer. As many as there are ports.
#[derive(Clone, Debug, Default)]
struct Used(Arc<Mutex<HashSet<SocketAddr>>>);

impl Used {
    fn add(&self, local: SocketAddr) {
        self.addresses().insert(local);
    }

    fn has(&self, local: SocketAddr) -> bool {
        self.addresses().contains(&local)
    }

    /// A new connection has the address now.
    fn renew(&self, local: SocketAddr) {
        self.addresses().remove(&local);
    }

    fn addresses(&self) -> MutexGuard<'_, HashSet<SocketAddr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn local_address(connection: &CaptureConnection) -> Option<SocketAddr> {
    local_of(connection.connection_metadata().as_ref()?)
}

fn local_of(connected: &Connected) -> Option<SocketAddr> {
    let mut extras = Extensions::new();
    connected.get_extras(&mut extras);
    extras.get::<HttpInfo>().map(HttpInfo::local_addr)
}

/// Reads a body to its end so that its connection can be used again, and keeps the first bytes.
async fn first_bytes(mut body: Incoming, deadline: Instant) -> Bytes {
    if body.is_end_stream() {
        return Bytes::new();
    }
    let (mut kept, mut read) = (BytesMut::new(), 0);
    while let Ok(Some(Ok(frame))) = tokio::time::timeout_at(deadline, body.frame()).await {
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

const BROKEN: Attempt = Attempt::Unanswered { sent: Sent::Maybe, code: "broken" };

fn unanswered(error: &Error) -> Attempt {
    if error.is_connect() {
        return Attempt::Unanswered { sent: Sent::No, code: "connect" };
    }
    BROKEN
}

/// Whether the other side closed or reset the connection before its answer.
fn is_closed(error: &Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message) {
            return true;
        }
        if let Some(io) = error.downcast_ref::<io::Error>() {
            let closed = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
            return closed.contains(&io.kind());
        }
        cause = error.source();
    }
    false
}

/// A connector that bounds the whole way to a connection, name and handshake included, and counts.
#[derive(Clone, Debug)]
struct Watched<C> {
    inner: C,
    within: Duration,
    opened: Counter,
    used: Used,
}

type Opening<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

impl<C> Service<Uri> for Watched<C>
where
    C: Service<Uri>,
    C::Response: Connection,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = Opening<C::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let opening = tokio::time::timeout(self.within, self.inner.call(uri));
        let (opened, used) = (self.opened.clone(), self.used.clone());
        Box::pin(async move {
            let connection = opening.await?.map_err(Into::into)?;
            opened.increment(1);
            if let Some(local) = local_of(&connection.connected()) {
                used.renew(local);
            }
            Ok(connection)
        })
    }
}
