//! The spool: where accepted events are durable until every destination has them.
//!
//! The line is drawn at events and deliveries. Above it: names, keys with windows, leases and
//! settlements. Below it: files, syncs, streams. No type or error of a store crosses.

#[cfg(test)]
mod conformance;
pub mod embedded;
mod fault;
mod known;
mod lane;
mod lease;
mod letters;
pub mod memory;
mod refusal;
mod shelf;
mod stats;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use self::fault::{AppendError, SettleError, StoreFault};
pub use self::known::{EndState, Found, KeyStats, Receipt};
pub use self::lane::{FRESH_FOR, FRESH_MAX, Lane};
pub use self::lease::{DeliveryId, Later, Lease, Settlement, Want};
pub use self::letters::{DeadFilter, DeadLetter, DeadPage, DeadQuery, Replayed};
pub use self::refusal::{Cause, Refusal};
pub use self::shelf::Shelf;
pub use self::stats::{DestinationStats, Flow, SpoolStats};
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
