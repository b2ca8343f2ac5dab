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

/// The signals that end the process in order.
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

    /// Waits for SIGTERM or SIGINT and says which came. Cancel-safe.
    ///
    /// SIGHUP ends nothing: a terminal that closes is no reason to stop delivering.
    pub async fn next(&mut self) -> &'static str {
        loop {
            // All are cancel-safe.
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hang_up.recv() => {
                    tracing::warn!("SIGHUP changes nothing: restart to read the configuration again");
                }
            }
        }
    }
}
