//! The pooled keep-alive client of one destination.
//!
//! hyper-util's own client rather than reqwest: it carries a signed path and query unchanged.
//! Attempts are counted by the forwarder. What met a stale connection is sent once more here: by
//! the pool before a byte was written, by the client after.

mod dial;
mod line;
mod lookup;
mod proxy;
mod trust;
mod web;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::PROXY_AUTHORIZATION;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::client::legacy::{Client as Pool, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use metrics::Counter;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::transport::Again;
use super::verdict::{Attempt, Sent, asked_wait};
use crate::clock::Clock;
use crate::origin::Origin;
use crate::spool::Refusal;

use dial::{Dial, Watched};
use line::Used;

pub use lookup::{Private, Resolve, Resolving, System};
pub use proxy::{Proxy, ProxyFault};
pub use trust::{Trust, TrustFault};
pub use web::Web;

/// What a client may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections kept idle.
    pub idle_connections_max: usize,
    /// How long an idle one is kept; under the server's own limit, or requests meet closed ones.
    pub pool_idle_timeout: Duration,
    /// How long one is used at all, so that a name's new address is found.
    pub connection_max_age: Duration,
    /// Longest wait for a connection, within the attempt's time.
    pub connect_within: Duration,
    /// Longest wait for the end of an answer, from the start of the attempt.
    pub attempt_within: Duration,
}

/// What lies between a client and those it speaks to.
#[derive(Clone, Debug)]
pub struct Network {
    /// The operator's own origin: where it leads is not questioned.
    pub base: Origin,
    /// Whether other origins may lead to this machine and into private networks.
    pub allow_private: bool,
    /// What every request goes through. It resolves names itself, so it must guard itself too.
    pub proxy: Option<Proxy>,
    /// Whose certificates are believed.
    pub trust: Trust,
    /// Who knows the addresses of names.
    pub resolver: Arc<dyn Resolve>,
}

impl Network {
    /// The open internet, and `base` wherever it is.
    #[must_use]
    pub fn open(base: Origin) -> Self {
        let (proxy, trust, resolver) = (None, Trust::default(), Arc::new(System));
        Self { base, allow_private: false, proxy, trust, resolver }
    }
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
    pool: Pool<Watched<HttpsConnector<Dial>>, Full<Bytes>>,
    attempt_within: Duration,
    clock: Clock,
    resent: Counter,
    proxy_authorization: Option<HeaderValue>,
}

/// A shared connection of HTTP/2 on which something is under way is asked for a sign of life each
/// such part of an attempt's time, and given up after another one: a half-open one is found out
/// while there is time, and not by all that is sent on it, one after the other.
const PINGS: u32 = 4;

/// An answer's body is read no further, for the sake of its connection, than this.
const DRAINED_BYTES_MAX: usize = 64 * 1024;

impl Client {
    /// A client within `limits` on `network`.
    #[must_use]
    pub fn new(limits: Limits, network: &Network, counters: Counters, clock: Clock) -> Self {
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(network.trust.config())
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(Dial::new(network, limits.connection_max_age));
        let Counters { opened, resent } = counters;
        let connector = Watched { inner: https, within: limits.connect_within, opened };
        let pool = Pool::builder(TokioExecutor::new())
            .pool_idle_timeout(limits.pool_idle_timeout)
            .pool_max_idle_per_host(limits.idle_connections_max)
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .http2_keep_alive_interval(limits.attempt_within / PINGS)
            .http2_keep_alive_timeout(limits.attempt_within / PINGS)
            .build(connector);
        let proxy_authorization = network.proxy.as_ref().and_then(Proxy::authorization).cloned();
        let attempt_within = limits.attempt_within;
        Self { pool, attempt_within, clock, resent, proxy_authorization }
    }

    /// Sends a request and reads its answer, all within the time of an attempt. A request whose
    /// reused connection closes on it without an answer met the server's idle time-out, most
    /// likely, and is sent once more at once, or waits if it may not go `again` now. What has no
    /// answer yet at the `stop` is cut.
    ///
    /// Dropped before its end, the request may have arrived.
    pub async fn attempt(
        &self,
        mut request: Request<Full<Bytes>>,
        stop: &CancellationToken,
        again: Again<'_>,
    ) -> Attempt {
        // Inside a tunnel it would reach the server instead.
        if request.uri().scheme() == Some(&http::uri::Scheme::HTTP)
            && let Some(value) = &self.proxy_authorization
        {
            request.headers_mut().insert(PROXY_AUTHORIZATION, value.clone());
        }
        let deadline = Instant::now() + self.attempt_within;
        match self.send(request.clone(), deadline, stop).await {
            Ended::Attempt(attempt) => attempt,
            Ended::Stale => {
                self.resent.increment(1);
                if !again() {
                    return STALE;
                }
                match self.send(request, deadline, stop).await {
                    Ended::Attempt(attempt) => attempt,
                    Ended::Stale => BROKEN,
                }
            }
        }
    }

    async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
        deadline: Instant,
        stop: &CancellationToken,
    ) -> Ended {
        let connection = capture_connection(&mut request);
        let used = Used(&connection);
        let answered = tokio::time::timeout_at(deadline, self.pool.request(request));
        let Some(answered) = stop.run_until_cancelled(answered).await else {
            return Ended::Attempt(Attempt::Cut(used.sent()));
        };
        let attempt = match answered {
            Ok(Ok(response)) => {
                used.answered();
                let status = response.status();
                if used.is_proxied() && status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
                    // The proxy's word, not the destination's.
                    return Ended::Attempt(Attempt::Unanswered { sent: Sent::No, code: "connect" });
                }
                self.read(response, deadline, stop).await
            }
            Ok(Err(error)) => {
                if is_closed(&error) && used.was_reused() {
                    return Ended::Stale;
                }
                unanswered(&error)
            }
            Err(_elapsed) => {
                // Others share the connection under HTTP/2, and it may be dead.
                used.give_up();
                Attempt::Unanswered { sent: used.sent(), code: "timeout" }
            }
        };
        Ended::Attempt(attempt)
    }

    async fn read(
        &self,
        response: Response<Incoming>,
        deadline: Instant,
        stop: &CancellationToken,
    ) -> Attempt {
        let status = response.status();
        let retry_after = asked_wait(response.headers(), self.clock.now());
        // The status has decided; a body that breaks off or never ends takes nothing back.
        let answer = stop.run_until_cancelled(first_bytes(response.into_body(), deadline)).await;
        let answer = answer.unwrap_or_default();
        Attempt::Answered { status, retry_after, answer }
    }
}

/// How one sending ended.
enum Ended {
    Attempt(Attempt),
    /// A reused connection closed without an answer.
    Stale,
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

/// It counts as not sent, for it may be sent again whatever its kind.
const STALE: Attempt = Attempt::Unanswered { sent: Sent::No, code: "broken" };

const BROKEN: Attempt = Attempt::Unanswered { sent: Sent::Maybe, code: "broken" };

fn unanswered(error: &Error) -> Attempt {
    if error.is_connect() {
        let private = causes(error).any(|cause| {
            let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            cause.is::<Private>() || inner.is_some_and(|inner| inner.is::<Private>())
        });
        let code = if private { "private_address" } else { "connect" };
        return Attempt::Unanswered { sent: Sent::No, code };
    }
    BROKEN
}

/// What the system says of a connection that the other side closed; the last is TLS that was left
/// without a word of farewell, as many servers do with idle connections.
const CLOSED: [io::ErrorKind; 4] = [
    io::ErrorKind::ConnectionReset,
    io::ErrorKind::ConnectionAborted,
    io::ErrorKind::BrokenPipe,
    io::ErrorKind::UnexpectedEof,
];

/// Whether the other side closed or reset the connection before its answer.
fn is_closed(error: &Error) -> bool {
    for cause in causes(error) {
        if cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message) {
            return true;
        }
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return CLOSED.contains(&io.kind());
        }
        if let Some(h2) = cause.downcast_ref::<h2::Error>() {
            // A stream that was refused was not looked at (RFC 9113, section 8.7).
            return h2.is_io()
                || h2.is_remote() && h2.is_go_away()
                || h2.reason() == Some(h2::Reason::REFUSED_STREAM);
        }
    }
    false
}

fn causes(error: &Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(error), |cause| cause.source())
}

#[cfg(test)]
mod tests;
