//! The accept loop, and one task a connection: its own, because faults act on connections.

use std::convert::Infallible;
use std::fmt::Display;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulConnection;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::line::{Line, Wire};
use super::{Payload, Sandbox, control, receive};

/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// How long a head may take. Generous, because hyper counts while an earlier answer trickles out;
/// an idle connection ends earlier, by [`super::Limits::idle_max`].
const HEAD_WITHIN: Duration = Duration::from_secs(600);
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 256;
/// Pause after a failed accept, as when file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Failed accepts in a row after which the listener counts as broken.
const ACCEPT_FAILURES_MAX: u32 = 100;

/// Runs what hyper wants run where stopping waits for it.
#[derive(Clone)]
struct Tracked(TaskTracker);

impl<F> Executor<F> for Tracked
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

pub(super) async fn serve(
    sandbox: &Sandbox,
    listener: TcpListener,
    stop: CancellationToken,
) -> io::Result<()> {
    let tasks = TaskTracker::new();
    // However serving ends, by an error or by being dropped too, the connections are told.
    let stop_connections = stop.child_token();
    let _told = stop_connections.clone().drop_guard();
    let accepting = accept(sandbox, &listener, &tasks, &stop_connections);
    // Both are cancel-safe: a connection that was accepted has been handed to its task.
    let accepted = tokio::select! {
        biased;
        () = stop.cancelled() => Ok(()),
        failed = accepting => failed,
    };
    drop(listener);
    stop_connections.cancel();
    tasks.close();
    tasks.wait().await;
    accepted
}

/// Accepts until the listener is broken.
async fn accept(
    sandbox: &Sandbox,
    listener: &TcpListener,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> io::Result<()> {
    let room = sandbox.0.limits.connections_max.min(Semaphore::MAX_PERMITS);
    let room = Arc::new(Semaphore::new(room));
    let mut failures = 0;
    loop {
        let permit = Arc::clone(&room).acquire_owned().await.map_err(io::Error::other)?;
        let error = match listener.accept().await {
            Ok((stream, _peer)) => {
                failures = 0;
                let (sandbox, stop, executor) =
                    (sandbox.clone(), stop.clone(), Tracked(tasks.clone()));
                tasks.spawn(async move {
                    connection(&sandbox, stream, executor, stop).await;
                    drop(permit);
                });
                continue;
            }
            Err(error) => error,
        };
        failures += 1;
        tracing::warn!(%error, failures, "the sandbox could not accept a connection");
        if failures >= ACCEPT_FAILURES_MAX {
            return Err(error);
        }
        sleep(ACCEPT_PAUSE).await;
    }
}

/// Serves one connection to its end.
async fn connection(
    sandbox: &Sandbox,
    stream: TcpStream,
    executor: Tracked,
    stop: CancellationToken,
) {
    // Without this the single bytes of a trickle would be gathered again.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "the connection was lost before it was served");
        return;
    }
    let line = Arc::new(Line::new(sandbox.next_connection()));
    let service = service_fn(|request: Request<Incoming>| {
        let (sandbox, line) = (sandbox.clone(), Arc::clone(&line));
        async move { Ok::<_, Infallible>(answer(&sandbox, &line, request).await) }
    });
    let wire = TokioIo::new(Wire::new(stream, Arc::clone(&line)));
    let builder = protocol(executor);
    {
        let served = builder.serve_connection(wire, service);
        run(served, &line, &stop, &sandbox.0.limits).await;
    }
    let mut record = sandbox.record();
    if line.end() {
        record.connection_closed();
    }
}

fn protocol(executor: Tracked) -> Builder<Tracked> {
    let mut builder = Builder::new(executor);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32);
    builder
}

/// Drives a connection until it ends, is to be reset, was idle too long, or has to stop.
async fn run<C>(served: C, line: &Line, stop: &CancellationToken, limits: &super::Limits)
where
    C: GracefulConnection,
    C::Error: Display,
{
    let mut served = pin!(served);
    let mut stop_at = None;
    let mut closing = false;
    loop {
        let wake_at = stop_at.unwrap_or_else(|| line.idle_at(limits.idle_max));
        // Every arm is cancel-safe: a connection is polled on, the others only wait.
        tokio::select! {
            biased;
            () = line.reset.cancelled() => return,
            ended = served.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(connection = line.number, %error, "connection failed");
                }
                return;
            }
            () = stop.cancelled(), if stop_at.is_none() => {
                stop_at = Some(Instant::now() + limits.stop_within);
                served.as_mut().graceful_shutdown();
            }
            () = line.closing.cancelled(), if !closing => {
                closing = true;
                served.as_mut().graceful_shutdown();
            }
            () = sleep_until(wake_at) => {
                if stop_at.is_some() || line.idle_at(limits.idle_max) <= Instant::now() {
                    return;
                }
            }
        }
    }
}

/// Answers one request. Dropped with its connection: hyper sees to that for HTTP/2 too, whose
/// requests run in tasks of their own.
async fn answer(
    sandbox: &Sandbox,
    line: &Arc<Line>,
    request: Request<Incoming>,
) -> http::Response<Payload> {
    let _busy = line.busy();
    if control::is_meant(request.uri().path()) {
        line.trickle(None);
        control::answer(sandbox, request).await
    } else {
        receive::answer(sandbox, line, request).await.map(Either::Left)
    }
}
