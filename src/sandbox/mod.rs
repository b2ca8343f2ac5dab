//! A stand-in for the ad platform's events API that misbehaves on demand.
//!
//! It takes what the events API takes, at the same paths and with the same answers:
//!
//! | request | answer |
//! |---|---|
//! | `POST /{version}/beacon/{impression,view,click}/{ad_id}` | 202, empty |
//! | `POST /{version}/beacon/conversion` | 202 `{"messages":["conversion will be processed soon"]}` |
//! | the same with an invalid body | 422 and the violations |
//! | the same with a body that is not JSON | 400 |
//! | a conversion whose `order_id` came before | 202, counted as a duplicate |
//! | anything else | 404, or 405 with `Allow: POST` |
//!
//! An empty body is an ad event when `user_id` or `session_id` is in the query.
//!
//! It remembers what arrived and is steered under `/_sandbox`, which no fault ever touches and no
//! count includes:
//!
//! | request | does |
//! |---|---|
//! | `GET /_sandbox/events?path=&order_id=&after=&limit=` | lists what arrived, the oldest first |
//! | `GET /_sandbox/events/{n}/body` | one body, byte for byte |
//! | `GET /_sandbox/stats` | counts ([`Stats`]) |
//! | `DELETE /_sandbox/events` | forgets arrivals, order ids and counts; numbers go on |
//! | `GET /_sandbox/faults` | the faults in force |
//! | `PUT /_sandbox/faults` | replaces them ([`Faults`]); `{}` takes all back |
//!
//! Every request to the events API whose body was read is listed, also one that was answered with
//! a fault: its `outcome` says what became of it. [`Stats::accepted`] counts only what was taken.
//!
//! HTTP/1.1 and HTTP/2 without TLS are served on one port. Memory is bounded by [`Limits`]. There
//! is no authentication: it is for tests and demonstrations. `docs/SANDBOX.md` has examples.

mod answer;
mod arrival;
mod control;
mod faults;
mod injector;
mod line;
mod listing;
mod receive;
mod record;
mod serve;
mod span;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Either, Full};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

pub use self::arrival::{Arrival, Headers, Outcome};
pub use self::faults::{Faults, FaultsError, Reset, RetryAfter};
pub use self::record::{Filter, KindStats, Stats};

use self::injector::Injector;
use self::listing::Listing;
use self::record::Record;
use crate::clock::Clock;
use crate::event::EventKind;

/// Judges a body as the events API would.
pub type Judge = Arc<dyn Fn(EventKind, &[u8]) -> Judgement + Send + Sync>;

/// What a [`Judge`] says of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// The events API takes it.
    Valid,
    /// It is answered with 422 and this JSON array of violations.
    Invalid(Bytes),
    /// It is not JSON, and answered with 400.
    Malformed,
}

/// How much a sandbox keeps, reads and waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Arrivals that are kept; the oldest make room.
    pub events_max: usize,
    /// Bytes of arrivals that are kept; the oldest make room.
    pub bytes_max: usize,
    /// Order ids, and digests of ad events, among which a repeat is known.
    pub identities_max: usize,
    /// Bytes of one body; more is answered with 413.
    pub body_bytes_max: usize,
    /// Bytes of all bodies being read; more is answered with 503.
    pub body_bytes_in_hand_max: usize,
    /// Connections at once; further ones wait to be accepted.
    pub connections_max: usize,
    /// How long a body may take; then 408.
    pub body_within: Duration,
    /// How long a connection may be quiet.
    pub idle_max: Duration,
    /// How long answers in hand may take once the sandbox is told to stop.
    pub stop_within: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            events_max: 100_000,
            bytes_max: 256 << 20,
            identities_max: 1_000_000,
            body_bytes_max: 4 << 20,
            body_bytes_in_hand_max: 64 << 20,
            connections_max: 4096,
            body_within: Duration::from_secs(30),
            idle_max: Duration::from_secs(75),
            stop_within: Duration::from_millis(500),
        }
    }
}

/// The fake events API. Clones are the same one.
#[derive(Clone)]
pub struct Sandbox(Arc<Inner>);

struct Inner {
    judge: Judge,
    clock: Clock,
    limits: Limits,
    injector: Mutex<Injector>,
    record: Mutex<Record>,
    last: watch::Sender<u64>,
    body_room: Arc<Semaphore>,
    connections: AtomicU64,
}

/// What every answer of the sandbox is made of.
type Payload = Either<Full<Bytes>, Listing>;

impl Sandbox {
    /// A sandbox that remembers nothing yet and does nothing wrong.
    #[must_use]
    pub fn new(judge: Judge, clock: Clock) -> Self {
        Self::with_limits(judge, clock, Limits::default())
    }

    /// The same with other limits.
    #[must_use]
    pub fn with_limits(judge: Judge, clock: Clock, limits: Limits) -> Self {
        let room = limits.body_bytes_in_hand_max.min(Semaphore::MAX_PERMITS);
        Self(Arc::new(Inner {
            judge,
            clock,
            injector: Mutex::default(),
            record: Mutex::new(Record::new(limits.clone())),
            last: watch::Sender::new(0),
            body_room: Arc::new(Semaphore::new(room)),
            connections: AtomicU64::new(0),
            limits,
        }))
    }

    /// Serves until `stop` is cancelled, then closes every connection and returns.
    ///
    /// # Errors
    /// The listener's, when it cannot accept any more.
    pub async fn serve(&self, listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
        serve::serve(self, listener, stop).await
    }

    /// What passed so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.record().stats()
    }

    /// The kept arrivals that pass `filter`, the oldest first.
    #[must_use]
    pub fn events(&self, filter: &Filter) -> Vec<Arc<Arrival>> {
        self.record().arrivals(filter)
    }

    /// The arrival of that number, unless it was forgotten.
    #[must_use]
    pub fn event(&self, n: u64) -> Option<Arc<Arrival>> {
        self.record().arrival(n)
    }

    /// Tells the number of the latest arrival, 0 before the first, whenever it changes.
    #[must_use]
    pub fn latest(&self) -> watch::Receiver<u64> {
        self.0.last.subscribe()
    }

    /// Forgets arrivals, order ids and counts, as `DELETE /_sandbox/events` does.
    pub fn forget(&self) {
        self.record().forget();
    }

    /// Puts `faults` in force in place of all before; [`Faults::default`] takes all back.
    ///
    /// # Errors
    /// [`FaultsError::Invalid`]; the faults before stay in force.
    pub fn set_faults(&self, faults: Faults) -> Result<(), FaultsError> {
        faults.check()?;
        self.injector().replace(faults, self.0.clock.now());
        Ok(())
    }

    /// Keeps `arrival` and tells whoever waits for it.
    fn keep(&self, arrival: Arrival) -> Arc<Arrival> {
        let mut record = self.record();
        let kept = record.keep(arrival);
        // Under the lock, so that the number never goes back.
        self.0.last.send_replace(kept.n);
        kept
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.0.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn injector(&self) -> MutexGuard<'_, Injector> {
        self.0.injector.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_connection(&self) -> u64 {
        self.0.connections.fetch_add(1, Ordering::Relaxed) + 1
    }
}
