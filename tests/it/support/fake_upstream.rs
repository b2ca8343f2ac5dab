//! An events API of a test's own, on a free port.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use beacon_relay::clock::Clock;
use beacon_relay::json;
use beacon_relay::sandbox::{Arrival, Judge, Judgement, Limits, Sandbox};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::SOON;

/// A [`Sandbox`] that serves until it is dropped or stopped.
pub(crate) struct FakeUpstream {
    /// The sandbox, for its counts and arrivals.
    pub(crate) sandbox: Sandbox,
    addr: SocketAddr,
    port: KeptPort,
    latest: watch::Receiver<u64>,
    seen: u64,
    serving: JoinHandle<io::Result<()>>,
    stop: DropGuard,
}

/// Takes every JSON object.
pub(crate) fn any_json() -> Judge {
    Arc::new(|_, body| match json::parse(body, 64) {
        Ok(json::Node::Object(_)) => Judgement::Valid,
        Ok(_) | Err(_) => Judgement::Malformed,
    })
}

impl FakeUpstream {
    /// One that takes every JSON object.
    pub(crate) async fn start() -> Self {
        Self::serve(Sandbox::new(any_json(), Clock::system())).await
    }

    /// One that judges by `judge`, lives by `clock` and keeps to `limits`.
    pub(crate) async fn start_with(judge: Judge, clock: Clock, limits: Limits) -> Self {
        Self::serve(Sandbox::with_limits(judge, clock, limits)).await
    }

    async fn serve(sandbox: Sandbox) -> Self {
        Self::serve_at(sandbox, KeptPort::any())
    }

    fn serve_at(sandbox: Sandbox, port: KeptPort) -> Self {
        let (listener, addr) = (port.listen(), port.addr());
        let stop = CancellationToken::new();
        let (served, told) = (sandbox.clone(), stop.clone());
        let serving = TaskTracker::new().spawn(async move { served.serve(listener, told).await });
        let latest = sandbox.latest();
        Self { sandbox, addr, port, latest, seen: 0, serving, stop: stop.drop_guard() }
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The URL of `target`, a path and query.
    pub(crate) fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.addr)
    }

    /// Puts faults in force, as `PUT /_sandbox/faults` takes them; `{}` takes all back.
    pub(crate) fn misbehave(&self, faults: &str) {
        self.sandbox.set_faults(faults.parse().unwrap()).unwrap();
    }

    /// The next arrival in their order; fails the test when none comes in [`SOON`].
    pub(crate) async fn next_event(&mut self) -> Arc<Arrival> {
        let wanted = self.seen + 1;
        let arrived = self.latest.wait_for(|latest| *latest >= wanted);
        let arrived = timeout(SOON, arrived).await;
        assert!(arrived.is_ok(), "no arrival number {wanted} within {SOON:?}");
        // What it borrows keeps the sandbox from telling of the next, and so from answering us.
        drop(arrived);
        self.seen = wanted;
        self.sandbox.event(wanted).unwrap()
    }

    /// The next `count` arrivals.
    pub(crate) async fn next_events(&mut self, count: usize) -> Vec<Arc<Arrival>> {
        let mut events = Vec::with_capacity(count);
        for _ in 0..count {
            events.push(self.next_event().await);
        }
        events
    }

    /// Stops it, to be started again at the same address.
    pub(crate) async fn stopped(self) -> GoneUpstream {
        drop(self.stop);
        timeout(SOON, self.serving).await.expect("stops soon").unwrap().unwrap();
        GoneUpstream { sandbox: self.sandbox, port: self.port }
    }

    /// Stops it and waits until all its connections are closed.
    pub(crate) async fn stop(self) -> Sandbox {
        self.stopped().await.sandbox
    }
}

/// An upstream that went away.
pub(crate) struct GoneUpstream {
    sandbox: Sandbox,
    port: KeptPort,
}

impl GoneUpstream {
    /// Comes back, and knows what arrived before.
    pub(crate) async fn again(self) -> FakeUpstream {
        FakeUpstream::serve_at(self.sandbox, self.port)
    }
}

/// A port of loopback that is a test's own until it is dropped. Connections to it are refused while
/// nothing of the test's listens there, and no other program can be given it meanwhile.
pub(crate) struct KeptPort {
    /// Bound, and never listening.
    socket: TcpSocket,
}

impl KeptPort {
    /// A free one.
    pub(crate) fn any() -> Self {
        Self { socket: bound("127.0.0.1:0".parse().unwrap()) }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    fn listen(&self) -> TcpListener {
        bound(self.addr()).listen(1024).unwrap()
    }
}

/// Sockets that say they share an address may, as long as one of them at most listens.
fn bound(addr: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(addr).unwrap();
    socket
}
