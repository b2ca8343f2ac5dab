//! The spool: where accepted events are durable until every destination has them.
//!
//! The line is drawn at events and deliveries. Above it: names, keys with windows, leases and
//! settlements. Below it: files, syncs, streams. No type or error of a store crosses.

#[cfg(test)]
mod conformance;
pub mod embedded;
mod known;
mod letters;
pub mod memory;
mod shelf;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use self::known::{EndState, Found, KeyStats, Receipt};
pub use self::letters::{DeadFilter, DeadLetter, DeadPage, DeadQuery, Replayed};
pub use self::shelf::Shelf;
use crate::clock::Timestamp;
use crate::event::{Dedupe, DedupeKey, DestinationName, Event, EventId, EventKind, Fingerprint};

/// What every call of a spool returns: one boxed future, so that handlers need no type parameter.
pub type SpoolFuture<'a, T, E = StoreFault> =
    Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;

/// Durable storage of events and their deliveries. The contract C1 to C13 is in
/// `docs/GUARANTEES.md` and, as tests for every implementation, in `conformance`.
pub trait Spool: Send + Sync + 'static {
    /// Stores every event of `batch` and its deliveries durably; one answer per event, in order.
    ///
    /// An event with a fault is a dead letter of every destination from the start, unless there was no
    /// room for its letters: then it is owed like any other. Once polled the write finishes, even if
    /// the caller goes away. A request that is known by its
    /// key is not stored again and gets the answers of the first, inside the key's window.
    ///
    /// # Errors
    /// [`AppendError`]; on an embedded store nothing was stored unless it is
    /// [`AppendError::Unsure`] or [`AppendError::Fault`], and the same batch may be sent again.
    fn append(&self, batch: Batch) -> SpoolFuture<'_, Receipt, AppendError>;

    /// Takes due deliveries owed to `to`, as many as `want` says, waiting at most `wait` for the
    /// first. Fresh events come first, but for every fourth turn.
    ///
    /// Cancel-safe: a call dropped while it waits has taken nothing.
    fn lease<'a>(
        &'a self,
        to: &'a DestinationName,
        want: Want,
        wait: Duration,
    ) -> SpoolFuture<'a, Vec<Lease>>;

    /// How many deliveries owed to `to` were accepted before then, by kind in the order of
    /// [`EventKind::ALL`]. It looks a bounded way into what waits: of very many, so many at least.
    fn aging<'a>(
        &'a self,
        to: &'a DestinationName,
        before: [Timestamp; EventKind::ALL.len()],
    ) -> SpoolFuture<'a, u64>;

    /// Ends every wait of [`Settlement::Later`] that `to` has: what waits so may be leased from now
    /// on, after what is due. It is not counted as due before somebody takes it.
    fn hasten<'a>(&'a self, to: &'a DestinationName) -> SpoolFuture<'a, ()>;

    /// Ends a lease. One that is dropped instead returns by itself when it expires.
    ///
    /// # Errors
    /// [`SettleError::LeaseLost`] when the lease had expired: the delivery is someone else's now.
    fn settle(&self, lease: Lease, settlement: Settlement) -> SpoolFuture<'_, (), SettleError>;

    /// A page of dead letters, those of the oldest deliveries first.
    fn dead(&self, query: DeadQuery) -> SpoolFuture<'_, DeadPage>;

    /// One dead letter; nothing when there is none of that name, or not any more.
    fn dead_letter(&self, id: DeliveryId) -> SpoolFuture<'_, Option<DeadLetter>>;

    /// Puts dead letters back in line as fresh deliveries.
    ///
    /// # Errors
    /// As [`Spool::append`]; the first of `ids` may be in line again then, and asking for all of
    /// them again is right.
    fn replay<'a>(&'a self, ids: &'a [DeliveryId]) -> SpoolFuture<'a, Replayed, AppendError>;

    /// What [`Spool::replay`] would do of them now, each judged by itself. Nothing is changed.
    ///
    /// # Errors
    /// As [`Spool::replay`].
    fn foresee<'a>(&'a self, ids: &'a [DeliveryId]) -> SpoolFuture<'a, Replayed, AppendError>;

    /// Drops dead letters for good; answers how many were there.
    fn drop_dead<'a>(&'a self, ids: &'a [DeliveryId]) -> SpoolFuture<'a, usize>;

    /// The event that took `key` last, if that is inside the window it was taken with, and what
    /// became of it. Told also when the key is free again, until another event takes it; none
    /// when its record was lost.
    fn find(&self, key: DedupeKey) -> SpoolFuture<'_, Option<Found>>;

    /// Puts a note on a shelf, or takes it off when there is no `value`; durable when it returns.
    ///
    /// Once polled it finishes, even if the caller goes away.
    ///
    /// # Errors
    /// [`AppendError::TooLarge`] and [`AppendError::Full`] by the bounds of [`Shelf`], `Full` also
    /// when the disk is: the shelf is then as before. As [`Spool::append`] otherwise.
    fn note(
        &self,
        shelf: Shelf,
        key: Bytes,
        value: Option<Bytes>,
    ) -> SpoolFuture<'_, (), AppendError>;

    /// Up to `max` notes of a shelf with their keys, in key order, after `after`.
    fn notes(
        &self,
        shelf: Shelf,
        after: Option<Bytes>,
        max: usize,
    ) -> SpoolFuture<'_, Vec<(Bytes, Bytes)>>;

    /// What is in hand, per destination and in bytes; cheap enough for every scrape.
    fn stats(&self) -> SpoolFuture<'_, SpoolStats>;

    /// Refuses new work, finishes what was begun, syncs and lets go of the store.
    fn close(&self) -> SpoolFuture<'_, ()>;
}

/// One request's events; stored as a whole.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The events in the request's order.
    pub events: Vec<NewEvent>,
    /// The request's `Idempotency-Key`, when it came with one; its fingerprint is of the whole
    /// body. Its key is durable with the events or not at all, also when all of them are
    /// duplicates. Without events nothing is taken, and the key is only asked for.
    pub request: Option<Dedupe>,
}

/// One event to be stored, and what is owed.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// The event.
    pub event: Arc<Event>,
    /// The destinations it is owed to.
    pub to: Vec<DestinationName>,
    /// How it is told from its repeats; without one it is always new.
    pub dedupe: Option<Dedupe>,
    /// How urgent it is.
    pub lane: Lane,
}

/// How many deliveries a lease may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// All together.
    pub max: usize,
    /// Of them, from lanes other than the live one.
    pub others: usize,
}

impl Want {
    /// Up to `max`, of whichever lane.
    #[must_use]
    pub const fn any(max: usize) -> Self {
        Self { max, others: max }
    }
}

/// How long an event stays in the live lane; what waited longer is backlog. More than an open
/// breaker waits between two probes, so that what comes in meanwhile still goes first.
pub const FRESH_FOR: Duration = Duration::from_secs(8);
/// How many of the newest events stay in the live lane, about: what lies farther behind is backlog.
/// Few enough that the newest is sent in seconds at the begin of a ramp, and as many as may come in
/// before the probe that ends an outage: two seconds and a burst of what leaves 200,000 in an hour.
pub const FRESH_MAX: u64 = 256;

/// The queue of a destination that a delivery waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Fresh events: not older than [`FRESH_FOR`], and among the newest.
    Live,
    /// Imports, what an outage left, and what was there at a start.
    Backlog,
    /// Waiting for another attempt.
    Retry,
}

impl Lane {
    /// Every lane, in the order of their codes.
    pub const ALL: [Self; 3] = [Self::Live, Self::Backlog, Self::Retry];

    /// The stable word for metrics and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Backlog => "backlog",
            Self::Retry => "retry",
        }
    }
}

/// What became of one event of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is durable and will be delivered.
    Stored(EventId),
    /// Its key was taken inside its window.
    Duplicate {
        /// The event that took the key first.
        of: EventId,
        /// What that one looked like.
        fingerprint: Fingerprint,
    },
}

/// Names one event owed to one destination; the order of dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(pub u64);

/// One delivery, held until [`Lease::until`].
#[derive(Debug)]
pub struct Lease {
    /// The delivery.
    pub id: DeliveryId,
    /// What is to be sent.
    pub event: Arc<Event>,
    /// Attempts made before this one.
    pub attempts: u32,
    /// When it was first sent without an answer, if it was: since then it may have arrived.
    pub sent_at: Option<Timestamp>,
    /// The lane it came from.
    pub lane: Lane,
    /// When the hold ends by itself.
    pub until: Timestamp,
    /// It was in somebody's hands when the process before this one was killed: it may have arrived.
    pub interrupted: bool,
    /// The delivery whose dead letter this one replays.
    pub replay_of: Option<DeliveryId>,
    /// Proof of the hold, of meaning to the store alone.
    pub token: u64,
}

/// How a lease ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// The destination has it.
    Delivered,
    /// Not now: due again then and never before, with one attempt more.
    RetryAt(Timestamp),
    /// Not now, by a wait that the relay chose by itself.
    Later(Later),
    /// Back in line without having been attempted.
    PutBack,
    /// Given up after an attempt, kept for an operator.
    DeadLetter(Refusal),
    /// Given up without an attempt, kept for an operator.
    GivenUp(Cause),
}

/// A wait that nobody asked for: it ends early when the destination is known to work again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Later {
    /// When it ends by itself.
    pub due: Timestamp,
    /// Whether an attempt was made, which is then counted.
    pub attempted: bool,
    /// When it was sent without an answer, so that it may have arrived. The first time is kept.
    pub sent_at: Option<Timestamp>,
}

impl Settlement {
    /// The wait that it asks for: until when, whether it may end early, and the attempts made.
    pub(crate) const fn wait(&self) -> Option<(Later, bool)> {
        match self {
            Self::RetryAt(due) => {
                Some((Later { due: *due, attempted: true, sent_at: None }, false))
            }
            Self::Later(later) => Some((*later, true)),
            Self::Delivered | Self::PutBack | Self::DeadLetter(_) | Self::GivenUp(_) => None,
        }
    }
}

/// Why a delivery became a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What ended it.
    pub cause: Cause,
    /// Status of the last answer, when there was one.
    pub status: Option<u16>,
    /// The last answer's first bytes, at most [`Refusal::ANSWER_BYTES_MAX`].
    pub answer: Bytes,
}

impl Refusal {
    /// Bytes of an upstream's answer that are kept.
    pub const ANSWER_BYTES_MAX: usize = 4096;

    /// A refusal for a cause that no answer tells of.
    #[must_use]
    pub const fn unanswered(cause: Cause) -> Self {
        Self { cause, status: None, answer: Bytes::new() }
    }
}

/// What ended a delivery that was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The destination refused these bytes, and would again.
    Refused,
    /// Older than its kind's maximum age.
    Expired,
    /// It may have arrived, and sending it twice would do harm.
    UnknownOutcome,
    /// No request could be made of it, as when its event URL is not allowed any more.
    Unsendable,
    /// It was kept though it is of no use, since its sender could mend nothing.
    Invalid,
}

impl Cause {
    /// Every cause, in the order of their codes.
    pub const ALL: [Self; 5] =
        [Self::Refused, Self::Expired, Self::UnknownOutcome, Self::Unsendable, Self::Invalid];

    /// The stable word for metrics and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::UnknownOutcome => "unknown_outcome",
            Self::Unsendable => "unsendable",
            Self::Invalid => "invalid",
        }
    }

    /// The stable number for a store's records.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The cause of a stored number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

/// What a spool holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpoolStats {
    /// One entry for each destination that was ever named, by name.
    pub destinations: Vec<DestinationStats>,
    /// Bytes used, of `limit_bytes`.
    pub used_bytes: u64,
    /// Bytes allowed.
    pub limit_bytes: u64,
    /// What this process opened, took in and let go, in deliveries.
    pub flow: Flow,
    /// Records found damaged and set aside since the store was opened.
    pub damaged_records: u64,
    /// Whether new events are refused for want of room.
    pub full: bool,
    /// Dedupe keys.
    pub keys: KeyStats,
    /// Bytes that dead letters take, of `dead_limit_bytes`.
    pub dead_bytes: u64,
    /// Bytes that dead letters may take, beyond which the oldest are dropped.
    pub dead_limit_bytes: u64,
}

impl SpoolStats {
    /// Deliveries that are not settled.
    #[must_use]
    pub fn spooled(&self) -> u64 {
        let spooled =
            |one: &DestinationStats| one.live + one.backlog + one.retrying + one.in_flight;
        self.destinations.iter().map(spooled).sum()
    }

    /// What is missing from the sum of dead letters in [`Flow`]; 0 unless there is a bug.
    #[must_use]
    pub fn letters_difference(&self) -> i64 {
        let flow = &self.flow;
        let letters: u64 = self.destinations.iter().map(|one| one.dead).sum();
        let went = flow.replayed + flow.dropped + flow.letters_lost + letters;
        (flow.letters + flow.dead).cast_signed() - went.cast_signed()
    }

    /// What is missing from the sum of deliveries in [`Flow`]; 0 unless there is a bug.
    #[must_use]
    pub fn difference(&self) -> i64 {
        let flow = &self.flow;
        let came = flow.recovered + flow.stored + flow.replayed;
        let went = flow.delivered + flow.dead + flow.removed + self.spooled();
        came.cast_signed() - went.cast_signed()
    }
}

/// What a spool holds for one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationStats {
    /// The destination.
    pub name: DestinationName,
    /// Deliveries never attempted, or put back, in the live lane.
    pub live: u64,
    /// The same in the backlog lane.
    pub backlog: u64,
    /// Waiting for another attempt.
    pub retrying: u64,
    /// Leased.
    pub in_flight: u64,
    /// Dead letters.
    pub dead: u64,
    /// Dead letters that were dropped since the store was opened.
    pub dropped: u64,
    /// When the oldest that is not settled was accepted.
    pub oldest: Option<Timestamp>,
}

/// Deliveries that passed, since the store was opened. On an embedded store
/// `recovered + stored + replayed = delivered + dead + removed + spooled`, where `spooled` is live,
/// backlog, retrying and in flight of every destination together; and
/// `letters + dead = replayed + dropped + letters lost + dead letters` that are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Waiting when the store was opened; dead letters not counted.
    pub recovered: u64,
    /// Stored by `append`.
    pub stored: u64,
    /// Put back by `replay`.
    pub replayed: u64,
    /// Settled as delivered.
    pub delivered: u64,
    /// Settled as dead letters.
    pub dead: u64,
    /// Set aside as damaged.
    pub removed: u64,
    /// Dead letters that were there when the store was opened.
    pub letters: u64,
    /// Dead letters dropped, by hand or for their age or bytes.
    pub dropped: u64,
    /// Dead letters set aside as damaged.
    pub letters_lost: u64,
}

/// Why a batch was not stored.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// No room; it ends when something was delivered.
    #[error(
        "spool has no room: {used_bytes} of {limit_bytes} bytes in use, or the disk itself is full"
    )]
    Full {
        /// Bytes in use.
        used_bytes: u64,
        /// Bytes allowed.
        limit_bytes: u64,
    },
    /// [`Batch::request`] is known, with another fingerprint.
    #[error("idempotency key was used for another request")]
    KeyReused,
    /// The bounded inbox of the store is full.
    #[error("spool has too many writes waiting")]
    Busy,
    /// [`Spool::close`] was called.
    #[error("spool is closing")]
    Closed,
    /// The batch could not fit even in an empty store.
    #[error("batch of {bytes} bytes is over the {limit_bytes} bytes that the spool takes at once")]
    TooLarge {
        /// Bytes of the batch.
        bytes: u64,
        /// Bytes allowed at once.
        limit_bytes: u64,
    },
    /// No answer in time: the batch may be stored.
    #[error("store did not answer in time")]
    Unsure,
    /// The store is broken.
    #[error(transparent)]
    Fault(#[from] StoreFault),
}

impl AppendError {
    /// The stable word for metrics and answers.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Full { .. } => "spool_full",
            Self::KeyReused => "idempotency_key_reused",
            Self::Busy => "overloaded",
            Self::Closed => "draining",
            Self::TooLarge { .. } => "body_too_large",
            Self::Unsure | Self::Fault(_) => "store_unavailable",
        }
    }
}

/// Why a lease was not ended.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// The lease expired before; the delivery may be sent again by its next holder.
    #[error("lease was lost")]
    LeaseLost,
    /// The store is broken.
    #[error(transparent)]
    Fault(#[from] StoreFault),
}

/// A store that cannot be trusted any further: the process ends and recovery decides.
#[derive(Clone, Debug, thiserror::Error)]
#[error("spool fault while {doing}: {cause}")]
pub struct StoreFault {
    /// What was being done, as `syncing log/3.seg`.
    pub doing: String,
    /// The system's words.
    pub cause: String,
}

impl StoreFault {
    /// A fault of an operating system call.
    pub fn io(doing: impl Into<String>, cause: &std::io::Error) -> Self {
        Self { doing: doing.into(), cause: cause.to_string() }
    }
}
