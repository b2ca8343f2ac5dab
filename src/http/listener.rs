//! The accept loop: connections bounded in number, headers in time, and each told to finish.
//!
//! Our own rather than `axum::serve`, which has no header time-out and no bound on connections.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use super::peer::Peer;
use super::served::Serving;
use super::tls;

/// What connections may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at once; further ones wait unaccepted.
    pub connections_max: usize,
    /// Longest wait for a request's head, also between two requests of a connection.
    pub head_within: Duration,
}

/// What an HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a request's head, whatever is spoken; event URLs have some hundred. What is longer, or
/// no HTTP, hyper answers barely before anyone here is asked.
const HEAD_BYTES_MAX: u32 = 64 * 1024;
/// Streams of one HTTP/2 connection.
const STREAMS_MAX: u32 = 64;
/// Wait after an accept failed, as when the process is out of file descriptors.
const ACCEPT_WAIT: Duration = Duration::from_millis(50);

/// Serves what lies in `serving` until `stop`, then lets every connection finish its request;
/// connections that have not finished when `cut` comes are closed.
pub async fn serve(
    listener: TcpListener,
    serving: Serving,
    stop: CancellationToken,
    cut: CancellationToken,
) {
    let (mut slots, mut changes) = (Slots::new(), serving.changes());
    let connections = TaskTracker::new();
    loop {
        let slots_max = changes.borrow_and_update().limits.connections_max;
        let next = async {
            let slot = slots.next(slots_max).await?;
            Some((accept(&listener).await, slot))
        };
        let next = tokio::select! {
            // Both are cancel-safe: a slot that was taken is given back, a connection that was not
            // accepted waits.
            next = stop.run_until_cancelled(next) => next,
            Ok(()) = changes.changed() => continue,
        };
        let Some(Some(((stream, peer), slot))) = next else { break };
        let serving = connection(stream, peer, serving.clone(), stop.clone());
        let cut = cut.clone();
        connections.spawn(async move {
            cut.run_until_cancelled(serving).await;
            drop(slot);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Places for connections, of which there may come to be more or fewer.
struct Slots {
    semaphore: Arc<Semaphore>,
    size: usize,
}

impl Slots {
    fn new() -> Self {
        Self { semaphore: Arc::new(Semaphore::new(0)), size: 0 }
    }

    /// Waits for a place when there are `size` of them. Cancel-safe.
    async fn next(&mut self, size: usize) -> Option<OwnedSemaphorePermit> {
        if self.size < size {
            self.semaphore.add_permits(size - self.size);
            self.size = size;
        }
        loop {
            let slot = Arc::clone(&self.semaphore).acquire_owned().await.ok()?;
            if self.size <= size {
                return Some(slot);
            }
            slot.forget();
            self.size -= 1;
        }
    }
}

async fn accept(listener: &TcpListener) -> (TcpStream, Peer) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, Peer(peer)),
            // The caller gave up before it was accepted: no fault of ours.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_WAIT).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, peer: Peer, serving: Serving, stop: CancellationToken) {
    // Not held any longer: what is replaced is to be let go of.
    let (limits, tls) = {
        let served = serving.now();
        (served.limits, served.tls.clone())
    };
    // Answers are small: waiting to fill a segment would only delay them.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    // Which protocol it is must be known in time too: the builder's own look has no limit.
    if let Some(tls) = tls {
        let opening = tokio::time::timeout(limits.head_within, tls.acceptor().accept(stream));
        let Some(Ok(Ok(stream))) = stop.run_until_cancelled(opening).await else { return };
        let speaks = match stream.get_ref().1.alpn_protocol() {
            Some(tls::H2) => Speaks::Http2,
            Some(_) | None => Speaks::Http1,
        };
        serve_one(stream, speaks, peer, limits, serving, stop).await;
        return;
    }
    let speaks =
        stop.run_until_cancelled(tokio::time::timeout(limits.head_within, speaks(&stream)));
    let Some(Ok(Ok(speaks))) = speaks.await else { return };
    serve_one(stream, speaks, peer, limits, serving, stop).await;
}

async fn serve_one(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    speaks: Speaks,
    peer: Peer,
    limits: Limits,
    serving: Serving,
    stop: CancellationToken,
) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_within)
        .max_buf_size(HEAD_BYTES_MAX as usize)
        // A client that has said everything may close its side and still wants the answer.
        .half_close(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX)
        .keep_alive_interval(limits.head_within)
        .keep_alive_timeout(limits.head_within);
    let builder = match speaks {
        Speaks::Http1 => builder.http1_only(),
        Speaks::Http2 => builder.http2_only(),
    };
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        // A router is always ready.
        serving.now().router.clone().call(request)
    });
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        // Cancel-safe: the connection is polled on below.
        ended = serving.as_mut() => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %error, "a connection ended early");
    }
}

enum Speaks {
    Http1,
    Http2,
}

/// Looks at the first bytes without taking them.
async fn speaks(stream: &TcpStream) -> io::Result<Speaks> {
    let mut start = [0; PREFACE.len()];
    let mut seen = 0;
    loop {
        stream.readable().await?;
        let read = stream.peek(&mut start).await?;
        if !PREFACE.starts_with(&start[..read]) || read == 0 {
            return Ok(Speaks::Http1);
        }
        if read == PREFACE.len() {
            return Ok(Speaks::Http2);
        }
        if read == seen {
            // Part of a preface and no more yet: peeking again at once would spin.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        seen = read;
    }
}
