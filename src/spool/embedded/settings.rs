//! What an [`Embedded`] store may use, and whom it tells of its commits.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

#[cfg(doc)]
use super::{AppendError, Embedded};
use super::{Keyring, LogKind};

/// Bounds and paces of an [`Embedded`].
#[derive(Clone, Debug)]
pub struct Settings {
    /// The directory, made when it is not there. It is this store's alone.
    pub path: PathBuf,
    /// Bytes that the logs may take, with what was set aside as damaged; at least
    /// [`Settings::MAX_BYTES_MIN`]. A sixteenth (16 to 256 MiB, at most a quarter) is kept for
    /// retries and dead letters. The key index has a bound of its own.
    pub max_bytes: u64,
    /// Bytes of one file of a log; never more than an eighth of `max_bytes`.
    pub segment_bytes: u64,
    /// Bytes that dead letters may take, beyond which the oldest are dropped; never more than a
    /// quarter of `max_bytes`, so that they do not fill the store.
    pub dead_max_bytes: u64,
    /// How long a dead letter is kept.
    pub dead_max_age: Duration,
    /// What bodies and answers are encrypted with on disk; plain without keys.
    pub keys: Keyring,
    /// Events that wait to be committed, beyond which appends are [`AppendError::Busy`].
    pub inbox_events: usize,
    /// Bytes of them, likewise.
    pub inbox_bytes: usize,
    /// How long a lease lasts. Longer than any attempt.
    pub lease_for: Duration,
    /// Deliveries that may wait for another attempt, shared by the destinations that have any; at
    /// about 128 bytes of memory each. Beyond it nothing new is handed out until some are due.
    pub due_max: usize,
    /// Longest that a delivery may wait for another attempt: what a clock that was ahead wrote is
    /// due no later after a start.
    pub due_within: Duration,
    /// A retry further off than this is written to `retry/`. A nearer one waits in memory and is
    /// due at once after a crash.
    pub park_beyond: Duration,
    /// Told of every commit.
    pub observer: Observer,
}

/// Told how long a commit took, from its first write to the end of its last sync, and of how many
/// records it was. Called on the committing thread, so it must not wait.
#[derive(Clone)]
pub struct Observer(pub(super) Arc<dyn Fn(Duration, usize) + Send + Sync>);

impl Observer {
    /// An observer that calls `told`.
    pub fn new(told: impl Fn(Duration, usize) + Send + Sync + 'static) -> Self {
        Self(Arc::new(told))
    }

    /// One that looks away.
    #[must_use]
    pub fn none() -> Self {
        Self::new(|_, _| {})
    }
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observer(…)")
    }
}

impl Settings {
    /// The least that `max_bytes` may be.
    pub const MAX_BYTES_MIN: u64 = 1 << 20;

    /// The defaults: 20 GiB in files of 64 MiB.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            max_bytes: 20 << 30,
            segment_bytes: 64 << 20,
            dead_max_bytes: 2 << 30,
            dead_max_age: Duration::from_secs(30 * 86_400),
            keys: Keyring::default(),
            inbox_events: 16_384,
            inbox_bytes: 32 << 20,
            lease_for: Duration::from_secs(30),
            due_max: 131_072,
            due_within: Duration::from_secs(86_400),
            park_beyond: Duration::from_secs(5),
            observer: Observer::none(),
        }
    }

    /// Bytes that dead letters may really take.
    #[must_use]
    pub fn dead_limit(&self) -> u64 {
        self.dead_max_bytes.min(self.max_bytes / 4)
    }

    /// Where a segment of `log` ends though it has room: letters are dropped a segment at a time,
    /// and that should be a small part of them.
    pub(super) fn roll_at(&self, log: LogKind) -> u64 {
        match log {
            LogKind::Accepted | LogKind::Parked => u64::MAX,
            LogKind::Dead => self.dead_limit() / 8,
        }
    }

    /// What a segment really is: bounded by the store, and whole pages.
    pub(super) fn segment_size(&self) -> u64 {
        self.segment_bytes.min(self.max_bytes / 8).max(64 << 10) / 4096 * 4096
    }
}
