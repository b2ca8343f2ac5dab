//! Which dedupe keys are taken, by which event, and which of those events ended undelivered.
//!
//! New keys go to a delta in memory; a thread of its own writes each delta to fjall as one batch,
//! syncs about each second, and only then says how far it has come ([`Keys::covered`]): that is
//! never ahead of the keys. What a crash takes from memory is fed again from the log. Only the logs
//! are truth for events, so a damaged store is set aside and begun anew, at the price of repeats
//! that are not noticed. The committing thread never waits for fjall to write here, unless two
//! deltas are full.

mod delta;
mod filter;
mod index;
mod layers;
mod opening;
mod tables;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;

use self::delta::{Answers, EventKey, Taken, later};
pub(super) use self::delta::{Ending, Ends};
pub(super) use self::layers::Gauge;
use self::layers::{Shared, Stop};
use self::tables::{Class, Tables};
use super::record::Origin;
use super::segment::SLOTS_MAX;
use crate::clock::Timestamp;
use crate::event::{Dedupe, DedupeKey, EventId, Fingerprint};
use crate::spool::StoreFault;

/// Entries put at once under one hold of the lock; the committing thread's largest batch.
const PUT_MAX: usize = 1024;

/// The event that has a key. The first 48 bits of its id are when it was accepted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct KeyEntry {
    pub(super) seq: u64,
    pub(super) id: EventId,
    pub(super) fingerprint: Fingerprint,
}

/// Bounds and paces.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Entries of one delta. 28,672 fill a hash table of 32,768 places to the brim: 4 MB.
    delta_max: usize,
    /// Bytes of what requests were answered in one delta, beyond which it is written early.
    answers_bytes_max: usize,
    /// Deltas written before they are synced, due or not: until then they stay in memory.
    unsynced_max: usize,
    /// How often what was written is synced and `covered` moves.
    sync_every: Duration,
    /// Keys of all classes, beyond which the epoch that ends first is dropped: 3 GB of disk and
    /// 54 MB of filters.
    keys_max: usize,
    /// Longest wait for room in a delta; a disk that stalls for longer is as good as broken.
    stall_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            delta_max: 28_672,
            answers_bytes_max: 4 << 20,
            unsynced_max: 1,
            sync_every: Duration::from_secs(1),
            keys_max: 32 << 20,
            stall_max: Duration::from_secs(60),
        }
    }
}

/// The key index. Dropping it without [`Keys::close`] loses what is in memory, as a crash does.
pub(super) struct Keys {
    shared: Arc<Shared>,
    /// The last time that was believed before this opening.
    noted: Timestamp,
    threads: Vec<JoinHandle<()>>,
    begun_anew: bool,
}

impl Keys {
    /// Opens or creates the store in `dir`, which takes time for its tables, not for its keys.
    ///
    /// A store that cannot be read is moved below `quarantine`, loudly, and begun anew.
    ///
    /// # Errors
    /// Of the file system, and when another process has the store open.
    pub(super) fn open(dir: &Path, quarantine: &Path, now: Timestamp) -> Result<Self, StoreFault> {
        Self::open_with(dir, quarantine, now, Limits::default())
    }

    fn open_with(
        dir: &Path,
        quarantine: &Path,
        now: Timestamp,
        limits: Limits,
    ) -> Result<Self, StoreFault> {
        let opened = opening::open(dir, quarantine, now)?;
        let noted = opened.noted.unwrap_or(now);
        let begun_anew = opened.begun_anew;
        let shared = Arc::new(Shared::new(opened, limits, now));
        // Whoever returns early from here on stops the threads that run already.
        let threads = Vec::with_capacity(2);
        let mut keys = Self { shared: Arc::clone(&shared), noted, threads, begun_anew };
        let index = index::Index::new(Arc::clone(&shared), noted);
        keys.spawn("keys-index", move || index.run())?;
        keys.spawn("keys-filters", move || index::fill_filters(&shared))?;
        Ok(keys)
    }

    /// A thread whose error or panic is the store's fault.
    fn spawn(
        &mut self,
        name: &str,
        work: impl FnOnce() -> Result<(), StoreFault> + Send + 'static,
    ) -> Result<(), StoreFault> {
        let shared = Arc::clone(&self.shared);
        let doing = format!("running thread {name}");
        let cause = doing.clone();
        let run = move || {
            let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            let panicked = |_| Err(StoreFault { doing, cause: "it panicked".to_owned() });
            if let Err(fault) = end.unwrap_or_else(panicked) {
                shared.fail(fault);
            }
        };
        let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(run);
        self.threads.push(spawned.map_err(|error| StoreFault::io(cause, &error))?);
        Ok(())
    }

    /// Whether the store was damaged, and set aside by the opening.
    pub(super) const fn is_begun_anew(&self) -> bool {
        self.begun_anew
    }

    /// The last time that was believed when the store was last open; now if it is new.
    pub(super) const fn noted(&self) -> Timestamp {
        self.noted
    }

    /// Whether every key and end state that was told before this call is on disk.
    pub(super) fn is_durable(&self) -> bool {
        self.shared.is_durable()
    }

    /// The position of the log up to which every key, and every end state told before, is on disk.
    /// After an open, what lies above must be fed again by [`Keys::put`] and [`Keys::end`].
    pub(super) fn covered(&self) -> u64 {
        self.shared.covered.load(Ordering::Acquire)
    }

    /// The store, to be asked; none while it is shut.
    pub(super) fn lookup(&self) -> Option<Lookup<'_>> {
        Some(Lookup { shared: &self.shared, tables: self.shared.tables()? })
    }

    /// Tells how the store is, to whoever does not hold it.
    pub(super) fn gauge(&self) -> Arc<Gauge> {
        Arc::clone(&self.shared.gauge)
    }

    /// Whether the disk is full for the keys, which a test decides.
    #[cfg(test)]
    pub(super) fn full_disk(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.shared.full_disk)
    }

    #[cfg(test)]
    fn get(
        &self,
        key: &DedupeKey,
        window: Duration,
        now: Timestamp,
    ) -> Result<Option<KeyEntry>, StoreFault> {
        self.lookup().expect("not shut").get(key, window, now)
    }

    /// Adds keys; with this call, everything of the log up to `log_seq` has been told. Waits only
    /// when two deltas are full.
    pub(super) fn put(
        &self,
        entries: &[(DedupeKey, Duration, KeyEntry)],
        log_seq: u64,
    ) -> Result<(), StoreFault> {
        for part in entries.chunks(PUT_MAX) {
            let mut layers = self.shared.room(part.len())?;
            for (key, window, entry) in part {
                layers.active.put(*key, Taken { class: millis(*window), entry: *entry });
            }
        }
        let mut layers = self.shared.layers()?;
        layers.active.log_seq = layers.active.log_seq.max(log_seq);
        Ok(())
    }

    /// Keeps what a request was answered. To be called before its key is put, which says that the
    /// answers are there.
    pub(super) fn put_answers(
        &self,
        request: &Dedupe,
        entry: &KeyEntry,
        answers: &[u8],
    ) -> Result<(), StoreFault> {
        let taken = Taken { class: millis(request.window), entry: *entry };
        let answers = Answers { taken, bytes: Bytes::copy_from_slice(answers) };
        self.shared.room(1)?.active.answer((request.key, entry.seq), answers);
        Ok(())
    }

    /// Notes that a delivery of an event ended undelivered at `at`. When all slots of the mask
    /// that was owed have, the key is free.
    pub(super) fn end(
        &self,
        key: &DedupeKey,
        of: Origin,
        end: Ending,
        at: Timestamp,
    ) -> Result<(), StoreFault> {
        check_slot(of.slot)?;
        self.shared.room(1)?.active.end((*key, of.seq), of.slot, of.owed, end, at);
        Ok(())
    }

    /// Notes that a replay put a delivery of an event back in line, where it has `seq` in `log/`.
    pub(super) fn revive(&self, key: &DedupeKey, of: Origin, seq: u64) -> Result<(), StoreFault> {
        check_slot(of.slot)?;
        let now = Timestamp::from_millis(self.shared.now.load(Ordering::Relaxed));
        self.shared.room(1)?.active.revive((*key, of.seq), of.slot, seq, now);
        Ok(())
    }

    /// Writes what is in memory, syncs, and lets go of the store.
    ///
    /// # Errors
    /// When it could not be written; the log still has it.
    pub(super) fn close(mut self) -> Result<(), StoreFault> {
        self.stop(Stop::Written);
        self.shared.layers().map(drop)
    }

    fn stop(&mut self, stop: Stop) {
        self.shared.stop(stop);
        for thread in self.threads.drain(..) {
            // A panic was caught and noted inside.
            let _caught = thread.join();
        }
    }
}

/// The store, held open by whoever asks it.
pub(super) struct Lookup<'a> {
    shared: &'a Shared,
    tables: Arc<Tables>,
}

impl Lookup<'_> {
    /// The event that has `key` inside `window` at `now`; none when every delivery of it ended
    /// undelivered. It may have been taken with another window, which was the source's then.
    pub(super) fn get(
        &self,
        key: &DedupeKey,
        window: Duration,
        now: Timestamp,
    ) -> Result<Option<KeyEntry>, StoreFault> {
        match self.taken(key, now)? {
            Some(Taken { entry, .. }) if now.since(entry.id.at()) < window => {
                let free = self.is_free(&(*key, entry.seq))?;
                Ok((!free).then_some(entry))
            }
            Some(_) | None => Ok(None),
        }
    }

    /// The latest entry of a key, its window aside.
    fn taken(&self, key: &DedupeKey, now: Timestamp) -> Result<Option<Taken>, StoreFault> {
        self.shared.now.store(now.as_millis(), Ordering::Relaxed);
        // Memory before disk: what the thread moves in between is then seen twice, not never.
        let in_memory = self.shared.layers()?.key(key);
        let on_disk = self.tables.find(key, now);
        let on_disk = on_disk.map_err(|error| self.shared.fault("looking a key up", &error))?;
        Ok(later(in_memory, on_disk))
    }

    /// The request that has `key` inside `window` at `now`, and what it was answered.
    pub(super) fn answers(
        &self,
        key: &DedupeKey,
        window: Duration,
        now: Timestamp,
    ) -> Result<Option<(KeyEntry, Bytes)>, StoreFault> {
        let Some(taken) = self.taken(key, now)? else { return Ok(None) };
        if now.since(taken.entry.id.at()) >= window {
            return Ok(None);
        }
        let event = (*key, taken.entry.seq);
        let in_memory = self.shared.layers()?.answers(&event);
        let answers = match in_memory {
            Some(bytes) => Some(bytes),
            None => {
                let row = self.tables.answers(&event, &taken);
                let row = row.map_err(|e| self.shared.fault("looking answers up", &e))?;
                row.map(|row| Bytes::copy_from_slice(&row))
            }
        };
        Ok(answers.map(|answers| (taken.entry, answers)))
    }

    /// Whether nothing of an event can arrive any more.
    fn is_free(&self, event: &EventKey) -> Result<bool, StoreFault> {
        Ok(self.end_state(event)?.is_free())
    }

    fn end_state(&self, event: &EventKey) -> Result<Ends, StoreFault> {
        let changes = self.shared.layers()?.changes(event);
        let state = self.tables.end_state(event);
        let state = state.map_err(|error| self.shared.fault("looking an end state up", &error))?;
        Ok(changes.iter().flatten().fold(state, |state, change| change.apply(state)))
    }

    /// The event that took `key` last, inside the window it was taken with, and what became of it
    /// besides having been delivered. Told also when the key is free again.
    pub(super) fn fate(
        &self,
        key: &DedupeKey,
        now: Timestamp,
    ) -> Result<Option<(KeyEntry, Ends)>, StoreFault> {
        match self.taken(key, now)? {
            Some(Taken { class, entry }) if now < entry.id.at().after(span(class)) => {
                Ok(Some((entry, self.end_state(&(*key, entry.seq))?)))
            }
            Some(_) | None => Ok(None),
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.stop(Stop::Now);
    }
}

/// Opens the store in `dir`, reads every key and end state of it, and counts them.
///
/// # Errors
/// Says what is wrong.
pub(super) fn count_rows(dir: &Path) -> Result<u64, String> {
    let count = || {
        let tables = tables::Tables::open(dir)?;
        let mut rows = 0;
        for (_, _, table) in tables.all() {
            for row in table.rows.iter() {
                let (key, row) = row.into_inner()?;
                // Any other row is what a request was answered.
                if tables::decode_key(&key)?.is_some() {
                    tables::decode(&row)?;
                }
                rows += 1;
            }
        }
        for row in tables.ended.iter() {
            let (_, state) = row.into_inner()?;
            tables::decode_end(&state)?;
            rows += 1;
        }
        fjall::Result::Ok(rows)
    };
    count().map_err(|error: fjall::Error| error.to_string())
}

/// The window that names a class; parts of a millisecond count as one.
fn millis(window: Duration) -> u64 {
    Timestamp::EPOCH.after(window).as_millis()
}

/// The window that a class is named by.
const fn span(class: Class) -> Duration {
    Duration::from_millis(class)
}

/// Masks have a bit for each slot of an event.
fn check_slot(slot: u8) -> Result<(), StoreFault> {
    if usize::from(slot) < SLOTS_MAX {
        return Ok(());
    }
    Err(StoreFault {
        doing: "noting an end state".to_owned(),
        cause: format!("slot {slot} is beyond the {SLOTS_MAX} of an event"),
    })
}
