//! Signals, and the order in which things stop.
//!
//! Readiness fails first; then the door closes and accepted requests are answered; then the
//! forwarders get the grace period; then the spool is synced and closed.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Tokens in the order in which they are cancelled.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Readiness fails; everything else goes on.
    pub draining: CancellationToken,
    /// No new connections; connections finish what they do.
    pub door: CancellationToken,
    /// Connections that did not finish are closed.
    pub door_cut: CancellationToken,
    /// No further leases.
    pub leasing: CancellationToken,
    /// Attempts under way are broken off.
    pub attempts: CancellationToken,
    /// The admin listener and everything else ends.
    pub last: CancellationToken,
}

/// What the process was told by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// To end in order; by which signal.
    Stop(&'static str),
    /// To read its configuration again.
    Reload,
}

/// The signals that end the process in order, and the one that makes it read its configuration.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Listens from now on; a signal that comes before [`Signals::next`] waits for it.
    ///
    /// # Errors
    /// When the process cannot listen for signals.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for a signal and says what it tells. Cancel-safe.
    ///
    /// SIGHUP ends nothing: a terminal that closes is no reason to stop delivering.
    pub async fn next(&mut self) -> Told {
        // All are cancel-safe.
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Told::Stop("SIGINT"),
            _ = self.hang_up.recv() => Told::Reload,
        }
    }

    /// Waits for SIGTERM or SIGINT and says which came. Cancel-safe.
    pub async fn stop(&mut self) -> &'static str {
        loop {
            match self.next().await {
                Told::Stop(signal) => return signal,
                Told::Reload => {}
            }
        }
    }
}
