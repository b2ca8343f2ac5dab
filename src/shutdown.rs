//! Signals, and the order in which things stop.
//!
//! Readiness fails first; then the door closes and accepted requests are answered; then the
//! forwarders get the grace period; then the spool is synced and closed.

use std::io;

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

/// Waits for SIGTERM or SIGINT and says which came.
///
/// # Errors
/// When the process cannot listen for signals.
pub async fn signal() -> io::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Both are cancel-safe.
    tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = interrupt.recv() => Ok("SIGINT"),
    }
}
