//! One TCP connection, and what a client remembers of it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Extensions;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{CaptureConnection, Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::super::verdict::Sent;

/// What a client remembers of a connection for as long as it lives.
#[derive(Debug)]
pub(super) struct Facts {
    /// No request is begun on it after that.
    best_before: Instant,
    /// Whether it has carried an answer.
    used: AtomicBool,
}

impl Facts {
    /// Of a connection opened now that is used for `age_max`, up to a tenth less: what was opened
    /// together is not replaced together.
    pub(super) fn new(age_max: Duration) -> Self {
        let age = age_max.mul_f64(1.0 - fastrand::f64() / 10.0);
        Self { best_before: Instant::now() + age, used: AtomicBool::new(false) }
    }
}

/// The connection that a request went out on.
pub(super) struct Used<'a>(pub(super) &'a CaptureConnection);

impl Used<'_> {
    fn facts(&self) -> Option<Arc<Facts>> {
        let mut extras = Extensions::new();
        self.0.connection_metadata().as_ref()?.get_extras(&mut extras);
        extras.remove::<Arc<Facts>>()
    }

    /// What is known of a request without an answer: without a connection nothing can have left.
    pub(super) fn sent(&self) -> Sent {
        if self.0.connection_metadata().is_some() { Sent::Maybe } else { Sent::No }
    }

    /// Whether it had carried an answer before.
    pub(super) fn was_reused(&self) -> bool {
        self.facts().is_some_and(|facts| facts.used.load(Ordering::Relaxed))
    }

    /// Whether requests pass through it to a proxy that reads them.
    pub(super) fn is_proxied(&self) -> bool {
        self.0.connection_metadata().as_ref().is_some_and(Connected::is_proxied)
    }

    /// It has carried an answer now; past its age it carries no other.
    pub(super) fn answered(&self) {
        let Some(facts) = self.facts() else { return };
        facts.used.store(true, Ordering::Relaxed);
        if Instant::now() >= facts.best_before {
            self.give_up();
        }
    }

    /// No further request is sent on it. What is under way on it goes on.
    pub(super) fn give_up(&self) {
        if let Some(connected) = self.0.connection_metadata().as_ref() {
            connected.poison();
        }
    }
}

/// A connection to a server, or to a proxy on the way.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) stream: TokioIo<TcpStream>,
    /// Whether the other end is a proxy that reads the requests.
    pub(super) proxied: bool,
    pub(super) facts: Arc<Facts>,
}

impl Connection for Line {
    fn connected(&self) -> Connected {
        self.stream.connected().proxy(self.proxied).extra(Arc::clone(&self.facts))
    }
}

impl Read for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl Write for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }
}
