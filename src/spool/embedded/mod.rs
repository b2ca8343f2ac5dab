//! The spool on local disk: three segmented logs of one kind, and an index of dedupe keys.
//!
//! `log/` has what was accepted, `retry/` what waits for another attempt, `dead/` what was given
//! up. Only they are truth for events. A delivery is always the unsettled bit of exactly one
//! record; it moves on by an append elsewhere, and only when that is synced is the bit it came
//! from set. One thread commits ([`commit`]), one writes acknowledgements ([`flush`]), and callers
//! read for themselves ([`fetch`]).

mod acks;
mod aging;
mod answers;
mod calendar;
mod carry;
mod commit;
mod crypt;
mod damage;
mod dead;
mod fetch;
mod files;
mod flush;
mod format;
mod further;
mod handed;
mod inbox;
mod keys;
mod lease;
mod log;
mod manifest;
mod noted;
mod open;
mod pool;
mod record;
mod recover;
mod reserve;
mod retention;
mod scan;
mod segment;
mod settings;
mod settle;
mod shelves;
mod state;
#[cfg(test)]
mod tests;
pub mod tools;
mod unread;
mod upkeep;
mod walk;

use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

pub use self::crypt::{KeyMissing, Keyring, KeyringFault, check_keys};
use self::dead::index::Indexes;
use self::files::{Disk, Real};
use self::flush::Rounds;
use self::handed::Handed;
use self::inbox::{Bell, Command, Inbox, Really};
use self::keys::Gauge;
use self::pool::Pool;
use self::record::{Prior, Record};
use self::segment::{DATA_START, NAME_BYTES_MAX, SLOTS_MAX};
pub use self::settings::{Observer, Settings};
use self::shelves::Shelves;
use self::state::State;
use super::{
    AppendError, Batch, DeadLetter, DeadPage, DeadQuery, DeliveryId, Found, Lease, Receipt,
    Refusal, Replayed, SettleError, Settlement, Shelf, Spool, SpoolFuture, SpoolStats, StoreFault,
    Want,
};
use crate::clock::{Clock, Timestamp};
use crate::event::{DedupeKey, DestinationName, EventKind};

/// One of the three logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum LogKind {
    /// What `append` stored, and what was put back in line.
    Accepted,
    /// What waits for another attempt.
    Parked,
    /// What was given up.
    Dead,
}

impl LogKind {
    /// In the order of their codes.
    const ALL: [Self; 3] = [Self::Accepted, Self::Parked, Self::Dead];

    const fn index(self) -> usize {
        self as usize
    }

    const fn code(self) -> u8 {
        self as u8
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    const fn dir(self) -> &'static str {
        match self {
            Self::Accepted => "log",
            Self::Parked => "retry",
            Self::Dead => "dead",
        }
    }
}

impl DeliveryId {
    /// The delivery that begins with that record and slot; sequences stay far below 2^59.
    const fn begun_by(seq: u64, slot: u8) -> Self {
        Self(seq << 5 | slot as u64)
    }

    const fn seq(self) -> u64 {
        self.0 >> 5
    }

    const fn slot(self) -> u8 {
        (self.0 & 31) as u8
    }
}

/// Where a delivery's record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    log: LogKind,
    seq: u64,
    slot: u8,
    offset: u64,
    len: u32,
}

impl Place {
    const fn as_prior(self) -> Prior {
        Prior { log: self.log, seq: self.seq, slot: self.slot }
    }
}

/// Takes a lock. What a panicking holder left behind is as good as a crash would leave it, and
/// nothing of ours panics.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What callers and threads share.
#[derive(Debug)]
struct Shared {
    settings: Settings,
    clock: Clock,
    disk: Disk,
    pool: Arc<Pool>,
    state: Mutex<State>,
    inbox: Inbox,
    shelves: Shelves,
    /// How the dedupe keys are. Their owners are the threads.
    keys_gauge: Arc<Gauge>,
    #[cfg(test)]
    keys_full_disk: Arc<std::sync::atomic::AtomicBool>,
    /// Wakes the thread that writes acknowledgements.
    bell: Bell,
    /// Wakes the thread that keeps the store in its bounds.
    tend: Bell,
    /// Which deliveries are in somebody's hands.
    handed: Handed,
    /// The syncs of acknowledgements, so that one can be waited for.
    rounds: Rounds,
    fault: watch::Sender<Option<StoreFault>>,
    /// How the closing ended, when it did.
    closed: watch::Sender<Option<Result<(), StoreFault>>>,
    /// Where the letters are. Taken before `state`, never while that is held.
    letters: Mutex<Indexes>,
    /// Held while letters are looked for, and while some are carried to another place.
    moving: tokio::sync::Mutex<()>,
    /// Held as long as the directory is ours.
    lock: Mutex<Option<File>>,
}

impl Shared {
    fn fault(&self) -> Option<StoreFault> {
        self.fault.borrow().clone()
    }

    fn check(&self) -> Result<(), StoreFault> {
        self.fault().map_or(Ok(()), Err)
    }

    /// The store cannot be trusted any more: nobody is answered well from here on.
    fn fail(&self, fault: StoreFault) {
        self.fault.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert(fault);
            is_first
        });
        self.inbox.kill();
        self.wake_all();
    }

    fn wake_all(&self) {
        let bells: Vec<_> =
            lock(&self.state).lines.iter().map(|line| Arc::clone(&line.changed)).collect();
        bells.iter().for_each(|bell| bell.notify_waiters());
    }

    fn gone(&self) -> StoreFault {
        self.fault().unwrap_or_else(|| StoreFault {
            doing: "waiting for the committing thread".to_owned(),
            cause: "it is gone".to_owned(),
        })
    }

    /// Bytes that one append may have: a segment's, less what a dead letter adds to an event.
    fn append_bytes_max(&self) -> u64 {
        self.pool.segment_bytes - DATA_START - 2 * Refusal::ANSWER_BYTES_MAX as u64
    }
}

/// A spool on local disk. Dropping it without [`Spool::close`] leaves what a kill would leave.
#[derive(Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Embedded {
    /// Opens or creates the store, and recovers what is there. Blocks for as long as that takes.
    ///
    /// # Errors
    /// [`StoreFault`] when another process has it open, a newer program wrote it, or it cannot be
    /// read or written. Damage is no error: it is set aside and told by [`SpoolStats`].
    pub fn open(settings: Settings, clock: Clock) -> Result<Self, StoreFault> {
        Self::open_on(Arc::new(Real), settings, clock)
    }

    /// The same, reading every record, whatever is noted of what was read before.
    fn open_whole(settings: Settings, clock: Clock) -> Result<Self, StoreFault> {
        let disk =
            Disk::new(Arc::new(Real), settings.path.clone()).with_keys(settings.keys.clone());
        open::open(disk, settings, clock, true)
    }

    fn open_on(
        raw: Arc<dyn files::RawFiles>,
        settings: Settings,
        clock: Clock,
    ) -> Result<Self, StoreFault> {
        let disk = Disk::new(raw, settings.path.clone()).with_keys(settings.keys.clone());
        open::open(disk, settings, clock, false)
    }

    /// Ends when the store is broken, and says how; not by itself before. The process should end
    /// then: nothing is retried after a failed write or sync, for recovery alone can decide what
    /// reached the disk.
    pub fn faulted(&self) -> impl Future<Output = StoreFault> + Send + 'static {
        let mut fault = self.shared.fault.subscribe();
        async move {
            // An error says that the spool is gone without one.
            let fault = fault.wait_for(Option::is_some).await.ok().and_then(|f| f.clone());
            match fault {
                Some(fault) => fault,
                None => std::future::pending().await,
            }
        }
    }

    /// Checks what no room and no time can change, then hands the batch to the committing thread.
    async fn append_one(&self, batch: Batch) -> Result<Receipt, AppendError> {
        self.shared.check()?;
        if batch.events.is_empty() && batch.request.is_none() {
            return Ok(Receipt::default());
        }
        let bytes = self.measure(&batch)?;
        let (answer, answered) = oneshot::channel();
        self.shared.inbox.offer(Command::Append { batch, answer }, bytes)?;
        answered.await.unwrap_or_else(|_gone| Err(self.shared.gone().into()))
    }

    async fn find_one(&self, key: DedupeKey) -> Result<Option<Found>, StoreFault> {
        self.shared.check()?;
        let (answer, answered) = oneshot::channel();
        self.shared.inbox.upkeep(Command::Find { key, answer }, 0)?;
        answered.await.unwrap_or_else(|_gone| Err(self.shared.gone()))
    }

    async fn put_note(
        &self,
        shelf: Shelf,
        key: Bytes,
        value: Option<Bytes>,
    ) -> Result<(), AppendError> {
        self.shared.check()?;
        dead::blocking(&self.shared, "noting", move |shared| {
            let noted = shared.shelves.put(&shared.pool, shelf, key, value);
            if let Err(AppendError::Fault(fault)) = &noted {
                shared.fail(fault.clone());
            }
            Ok(noted)
        })
        .await?
    }

    /// Bytes of the batch in the log.
    fn measure(&self, batch: &Batch) -> Result<usize, AppendError> {
        let too_large = |bytes: u64, limit_bytes: u64| AppendError::TooLarge { bytes, limit_bytes };
        let mut bytes = Record::size_of_request(batch) as u64;
        let mut names: Vec<&DestinationName> = Vec::new();
        for new in &batch.events {
            bytes += Record::size_of(new) as u64;
            for name in &new.to {
                if name.as_str().len() > NAME_BYTES_MAX {
                    return Err(too_large(name.as_str().len() as u64, NAME_BYTES_MAX as u64));
                }
                if !names.contains(&name) {
                    names.push(name);
                }
            }
            if !Record::fits(&new.event) {
                return Err(too_large(bytes, self.shared.append_bytes_max()));
            }
        }
        if names.len() > SLOTS_MAX {
            return Err(too_large(names.len() as u64, SLOTS_MAX as u64));
        }
        if bytes > self.shared.append_bytes_max() {
            return Err(too_large(bytes, self.shared.append_bytes_max()));
        }
        Ok(usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    async fn count(&self) -> Result<SpoolStats, StoreFault> {
        self.shared.check()?;
        settle::look_at_the_oldest(&self.shared).await?;
        let now = self.shared.clock.steady();
        let mut state = lock(&self.shared.state);
        for line in 0..state.lines.len() {
            state.expire(line, now);
        }
        Ok(SpoolStats {
            destinations: state.destinations(),
            used_bytes: self.shared.pool.used(),
            limit_bytes: self.shared.pool.max_bytes,
            flow: state.flow,
            damaged_records: state.damaged,
            keys: self.shared.keys_gauge.stats(),
            full: self.shared.pool.is_full() || self.shared.keys_gauge.is_shut(),
            dead_bytes: retention::bytes_of(&state),
            dead_limit_bytes: self.shared.settings.dead_limit(),
        })
    }

    /// Lets the committing thread finish, and waits for it. Once polled it goes on by itself.
    async fn close_down(&self) -> Result<(), StoreFault> {
        let mut closed = self.shared.closed.subscribe();
        lock(&self.shared.state).closed = true;
        self.shared.inbox.close();
        dead::blocking(&self.shared, "closing the shelves", |shared| {
            shared.shelves.close();
            Ok(())
        })
        .await?;
        self.shared.wake_all();
        let end = closed.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
        end.unwrap_or_else(|| Err(self.shared.gone()))
    }
}

impl Spool for Embedded {
    fn append(&self, batch: Batch) -> SpoolFuture<'_, Receipt, AppendError> {
        Box::pin(self.append_one(batch))
    }

    fn lease<'a>(
        &'a self,
        to: &'a DestinationName,
        want: Want,
        wait: Duration,
    ) -> SpoolFuture<'a, Vec<Lease>> {
        Box::pin(settle::lease(&self.shared, to, want, wait))
    }

    fn aging<'a>(
        &'a self,
        to: &'a DestinationName,
        before: [Timestamp; EventKind::ALL.len()],
    ) -> SpoolFuture<'a, u64> {
        Box::pin(aging::count(&self.shared, to, before))
    }

    fn hasten<'a>(&'a self, to: &'a DestinationName) -> SpoolFuture<'a, ()> {
        Box::pin(async move { settle::hasten(&self.shared, to) })
    }

    fn settle(&self, lease: Lease, settlement: Settlement) -> SpoolFuture<'_, (), SettleError> {
        Box::pin(settle::settle(&self.shared, lease, settlement))
    }

    fn dead(&self, query: DeadQuery) -> SpoolFuture<'_, DeadPage> {
        Box::pin(dead::list(&self.shared, query))
    }

    fn dead_letter(&self, id: DeliveryId) -> SpoolFuture<'_, Option<DeadLetter>> {
        Box::pin(dead::one(&self.shared, id))
    }

    fn replay<'a>(&'a self, ids: &'a [DeliveryId]) -> SpoolFuture<'a, Replayed, AppendError> {
        Box::pin(dead::replay(&self.shared, ids, Really::Yes))
    }

    fn foresee<'a>(&'a self, ids: &'a [DeliveryId]) -> SpoolFuture<'a, Replayed, AppendError> {
        Box::pin(dead::replay(&self.shared, ids, Really::No))
    }

    fn drop_dead<'a>(&'a self, ids: &'a [DeliveryId]) -> SpoolFuture<'a, usize> {
        Box::pin(dead::drop_all(&self.shared, ids))
    }

    fn find(&self, key: DedupeKey) -> SpoolFuture<'_, Option<Found>> {
        Box::pin(self.find_one(key))
    }

    fn note(
        &self,
        shelf: Shelf,
        key: Bytes,
        value: Option<Bytes>,
    ) -> SpoolFuture<'_, (), AppendError> {
        Box::pin(self.put_note(shelf, key, value))
    }

    fn notes(
        &self,
        shelf: Shelf,
        after: Option<Bytes>,
        max: usize,
    ) -> SpoolFuture<'_, Vec<(Bytes, Bytes)>> {
        Box::pin(async move {
            self.shared.check()?;
            dead::blocking(&self.shared, "listing notes", move |shared| {
                Ok(shared.shelves.list(shelf, after, max))
            })
            .await
        })
    }

    fn stats(&self) -> SpoolFuture<'_, SpoolStats> {
        Box::pin(self.count())
    }

    fn close(&self) -> SpoolFuture<'_, ()> {
        Box::pin(self.close_down())
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.shared.inbox.kill();
        self.shared.wake_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has told so through the fault.
            let _ended = thread.join();
        }
        // Nobody writes any more; a call still reading must not keep the directory.
        lock(&self.shared.lock).take();
    }
}
