//! A spool with nothing on disk: the whole contract, for tests and the simulation.
//!
//! What a real store would have written lies on a [`Disk`], which outlives the [`Memory`] that
//! uses it: dropping a spool without [`Spool::close`] is a kill, and opening its disk again is the
//! recovery. `Delivered` reaches the disk late, as it does on the embedded store, so that a kill
//! forgets the last ones.

mod claims;
mod line;
mod shelf;

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use self::shelf::{Moment, Shelf};
use super::{
    AppendError, Batch, DeadLetter, DeadPage, DeadQuery, DeliveryId, Found, Lease, Receipt,
    Replayed, SettleError, Settlement, Spool, SpoolFuture, SpoolStats, StoreFault, Want,
};
use crate::clock::{Clock, Timestamp};
use crate::event::{DedupeKey, DestinationName, EventKind};

/// Longest nap of a waiting lease while something waits for a time to come and the handed-in clock
/// is held: a test that moves it wakes nobody, so a waiter looks again this often.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Bounds of a [`Memory`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of deliveries and dead letters together, beyond which appends are refused.
    pub limit_bytes: u64,
    /// Bytes of dead letters, beyond which the oldest are dropped.
    pub dead_bytes_max: u64,
    /// Dedupe keys, beyond which those that end first are forgotten.
    pub keys_max: usize,
    /// How long a lease lasts.
    pub lease_for: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limit_bytes: 256 << 20,
            dead_bytes_max: 64 << 20,
            keys_max: 1 << 20,
            lease_for: Duration::from_secs(30),
        }
    }
}

/// What survives a kill; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<Shelf>>);

/// The spool in memory.
#[derive(Debug)]
pub struct Memory {
    disk: Disk,
    /// Which opening of the disk this is; an older one may not touch it any more.
    opening: u64,
    settings: Settings,
    clock: Clock,
    changed: Notify,
}

impl Memory {
    /// A spool on a disk of its own.
    #[must_use]
    pub fn new(settings: Settings, clock: Clock) -> Self {
        Self::open(&Disk::default(), settings, clock)
    }

    /// Opens `disk` as after a kill, or after a close if it was closed. A spool that still has it
    /// open loses it, and answers with a fault from then on.
    #[must_use]
    pub fn open(disk: &Disk, settings: Settings, clock: Clock) -> Self {
        // A panic while the disk was held is a bug of ours, but what lies there is as good as
        // what a kill leaves behind.
        let mut shelf = disk.0.lock().unwrap_or_else(PoisonError::into_inner);
        let opening = shelf.recover();
        drop(shelf);
        Self { disk: disk.clone(), opening, settings, clock, changed: Notify::new() }
    }

    /// The disk, if it is still this spool's.
    fn shelf(&self, doing: &str) -> Result<MutexGuard<'_, Shelf>, StoreFault> {
        let fault = |cause: &str| StoreFault { doing: doing.to_owned(), cause: cause.to_owned() };
        let mut shelf = self.disk.0.lock().map_err(|_poisoned| fault("a writer panicked"))?;
        if shelf.opening() != self.opening {
            return Err(fault("the disk was opened anew"));
        }
        shelf.sync_acks(self.clock.now());
        Ok(shelf)
    }

    fn moment(&self) -> Moment {
        Moment { now: self.clock.now(), steady: self.clock.steady() }
    }

    fn append_now(&self, batch: Batch) -> Result<Receipt, AppendError> {
        let receipt =
            self.shelf("storing events")?.append(batch, &self.settings, self.clock.now())?;
        self.changed.notify_waiters();
        Ok(receipt)
    }

    /// Takes what is due, or says when to look again.
    fn take(&self, to: &DestinationName, want: Want) -> Result<Taken, StoreFault> {
        let moment = self.moment();
        let now = moment.steady;
        let mut shelf = self.shelf("leasing")?;
        if shelf.is_closed() || want.max == 0 {
            return Ok(Taken::Leases(Vec::new()));
        }
        let leases = shelf.lease(to, want, moment, now.after(self.settings.lease_for));
        if leases.is_empty() {
            return Ok(Taken::Nothing(shelf.next_due(to, want).map(|due| due.since(now))));
        }
        Ok(Taken::Leases(leases))
    }

    /// Leases are taken and handed over between two awaits, so a dropped call has taken none.
    async fn lease_within(
        &self,
        to: &DestinationName,
        want: Want,
        wait: Duration,
    ) -> Result<Vec<Lease>, StoreFault> {
        // No deadline when the wait reaches beyond the end of time.
        let deadline = Instant::now().checked_add(wait);
        loop {
            let mut changed = pin!(self.changed.notified());
            // From here on a change wakes us, also one between the look and the wait.
            changed.as_mut().enable();
            let due = match self.take(to, want)? {
                Taken::Leases(leases) => return Ok(leases),
                Taken::Nothing(due) => due,
            };
            let left =
                deadline.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(Vec::new());
            }
            let nap = due.map_or(left, |due| due.clamp(Duration::from_millis(1), self.nap_max()));
            // Elapsed or woken, the next look decides.
            let _woken = timeout(nap.min(left), changed).await;
        }
    }

    const fn nap_max(&self) -> Duration {
        if self.clock.is_held() { LOOK_AGAIN } else { Duration::MAX }
    }

    fn settle_now(&self, lease: &Lease, settlement: Settlement) -> Result<(), SettleError> {
        let moment = self.moment();
        self.shelf("settling")?.settle(lease, settlement, moment, &self.settings)?;
        self.changed.notify_waiters();
        Ok(())
    }

    fn replay_now(&self, ids: &[DeliveryId]) -> Result<Replayed, AppendError> {
        let replayed = self.shelf("replaying")?.replay(ids, self.clock.now())?;
        self.changed.notify_waiters();
        Ok(replayed)
    }
}

enum Taken {
    Leases(Vec<Lease>),
    /// Nothing is due, and what will be by the clock alone is so after this time.
    Nothing(Option<Duration>),
}

impl Spool for Memory {
    fn append(&self, batch: Batch) -> SpoolFuture<'_, Receipt, AppendError> {
        Box::pin(async move { self.append_now(batch) })
    }

    fn lease<'a>(
        &'a self,
        to: &'a DestinationName,
        want: Want,
        wait: Duration,
    ) -> SpoolFuture<'a, Vec<Lease>> {
        Box::pin(self.lease_within(to, want, wait))
    }

    fn aging<'a>(
        &'a self,
        to: &'a DestinationName,
        before: [Timestamp; EventKind::ALL.len()],
    ) -> SpoolFuture<'a, u64> {
        Box::pin(async move { Ok(self.shelf("counting")?.aging(to, &before)) })
    }

    fn hasten<'a>(&'a self, to: &'a DestinationName) -> SpoolFuture<'a, ()> {
        Box::pin(async move {
            self.shelf("hastening")?.hasten(to, self.clock.steady());
            self.changed.notify_waiters();
            Ok(())
        })
    }

    fn settle(&self, lease: Lease, settlement: Settlement) -> SpoolFuture<'_, (), SettleError> {
        Box::pin(async move { self.settle_now(&lease, settlement) })
    }

    fn dead(&self, query: DeadQuery) -> SpoolFuture<'_, DeadPage> {
        Box::pin(async move { Ok(self.shelf("listing dead letters")?.dead(&query)) })
    }

    fn dead_letter(&self, id: DeliveryId) -> SpoolFuture<'_, Option<DeadLetter>> {
        Box::pin(async move { Ok(self.shelf("reading a dead letter")?.dead_letter(id)) })
    }

    fn replay<'a>(&'a self, ids: &'a [DeliveryId]) -> SpoolFuture<'a, Replayed, AppendError> {
        Box::pin(async move { self.replay_now(ids) })
    }

    fn foresee<'a>(&'a self, ids: &'a [DeliveryId]) -> SpoolFuture<'a, Replayed, AppendError> {
        Box::pin(async move { self.shelf("foreseeing")?.foresee(ids, self.clock.now()) })
    }

    fn drop_dead<'a>(&'a self, ids: &'a [DeliveryId]) -> SpoolFuture<'a, usize> {
        Box::pin(async move { Ok(self.shelf("dropping dead letters")?.drop_dead(ids)) })
    }

    fn find(&self, key: DedupeKey) -> SpoolFuture<'_, Option<Found>> {
        Box::pin(async move { Ok(self.shelf("finding an event")?.find(key, self.clock.now())) })
    }

    fn note(
        &self,
        shelf: super::Shelf,
        key: Bytes,
        value: Option<Bytes>,
    ) -> SpoolFuture<'_, (), AppendError> {
        Box::pin(async move { self.shelf("noting")?.note(shelf, key, value) })
    }

    fn notes(
        &self,
        shelf: super::Shelf,
        after: Option<Bytes>,
        max: usize,
    ) -> SpoolFuture<'_, Vec<(Bytes, Bytes)>> {
        Box::pin(async move { Ok(self.shelf("listing notes")?.notes(shelf, after, max)) })
    }

    fn stats(&self) -> SpoolFuture<'_, SpoolStats> {
        Box::pin(async move { Ok(self.shelf("counting")?.stats(&self.settings, self.moment())) })
    }

    fn close(&self) -> SpoolFuture<'_, ()> {
        Box::pin(async move {
            self.shelf("closing")?.close();
            self.changed.notify_waiters();
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests;
