//! One connection: what its task, its bytes and its requests tell each other.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::CancellationToken;

/// State of one connection, shared by its parts.
#[derive(Debug)]
pub(super) struct Line {
    /// Its number, from 1.
    pub(super) number: u64,
    /// Told to reset the connection now.
    pub(super) reset: CancellationToken,
    /// Told to end it after the answers in hand.
    pub(super) closing: CancellationToken,
    started: Instant,
    active_ms: AtomicU64,
    in_hand: AtomicU32,
    requests: AtomicU32,
    ended: AtomicBool,
    pause_ms: AtomicU64,
}

impl Line {
    pub(super) fn new(number: u64) -> Self {
        Self {
            number,
            reset: CancellationToken::new(),
            closing: CancellationToken::new(),
            started: Instant::now(),
            active_ms: AtomicU64::new(0),
            in_hand: AtomicU32::new(0),
            requests: AtomicU32::new(0),
            ended: AtomicBool::new(false),
            pause_ms: AtomicU64::new(0),
        }
    }

    /// Counts a request to the events API; the first is 1. Called under the record's lock.
    pub(super) fn count_request(&self) -> u32 {
        self.requests.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// Marks the connection as ended, and tells whether it brought a request. Called under the
    /// record's lock.
    pub(super) fn end(&self) -> bool {
        self.ended.store(true, Ordering::Relaxed);
        self.requests.load(Ordering::Relaxed) > 0
    }

    /// Whether it has ended. Over HTTP/2 a last request may begin after that.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Holds the connection as busy until the guard is dropped.
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        self.in_hand.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// Sets the pause after each byte that is written from now on; over HTTP/2 for every stream.
    pub(super) fn trickle(&self, pause: Option<Duration>) {
        let millis = pause.map_or(0, |pause| pause.as_nanos().div_ceil(1_000_000));
        self.pause_ms.store(u64::try_from(millis).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// When the connection has been quiet for `idle_max`; now or earlier when it has been.
    ///
    /// With a request in hand it is not quiet: whoever holds that request bounds it.
    pub(super) fn idle_at(&self, idle_max: Duration) -> Instant {
        let active = match self.in_hand.load(Ordering::Relaxed) {
            0 => self.started + Duration::from_millis(self.active_ms.load(Ordering::Relaxed)),
            _ => Instant::now(),
        };
        active + idle_max
    }

    fn mark_active(&self) {
        let millis = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.active_ms.store(millis, Ordering::Relaxed);
    }
}

/// A request in hand on a [`Line`].
pub(super) struct Busy(Arc<Line>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.mark_active();
        self.0.in_hand.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The connection's bytes: trickled, and reset at the end, when the [`Line`] says so.
pub(super) struct Wire {
    stream: TcpStream,
    line: Arc<Line>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Wire {
    pub(super) fn new(stream: TcpStream, line: Arc<Line>) -> Self {
        Self { stream, line, pause: None }
    }

    /// Waits until the next byte of a trickle may be written.
    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        Poll::Ready(())
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        self.line.mark_active();
        Poll::Ready(read)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_pause(cx));
        let pause = self.line.pause_ms.load(Ordering::Relaxed);
        let buf = if pause > 0 { &buf[..buf.len().min(1)] } else { buf };
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf));
        self.line.mark_active();
        if pause > 0 {
            self.pause = Some(Box::pin(sleep(Duration::from_millis(pause))));
        }
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A socket closed without lingering answers with RST in place of FIN.
impl Drop for Wire {
    fn drop(&mut self) {
        if self.line.reset.is_cancelled()
            && let Err(error) = self.stream.set_zero_linger()
        {
            tracing::warn!(%error, "a connection could not be reset and is closed instead");
        }
    }
}
