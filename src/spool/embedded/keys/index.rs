//! The threads behind the index: one writes deltas, syncs and drops what is past; the other reads
//! the keys of the store's tables into their filters once, at the start.

use std::collections::HashSet;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::delta::{Delta, Taken};
use super::layers::{Shared, Work};
use super::opening::{COVERED, NOTED};
use super::tables::{self, Class, Tables, end_of, epoch_of};
use super::{DedupeKey, KeyEntry, StoreFault};
use crate::clock::Timestamp;

/// A clock that is this far ahead of the last note has leapt, or the relay was off for long.
const LEAP: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long a clock must go on from where it leapt to before keys are dropped by it.
const TRUST_AFTER: Duration = Duration::from_secs(24 * 3600);

/// End states looked at in one round of sweeping.
const SWEEP_ROWS: usize = 10_000;

/// Memtables of all tables together. fjall bounds each alone, and an epoch that gets no new keys
/// would keep its last in memory until the journal is full.
const MEMTABLES_BYTES_MAX: u64 = 16 << 20;

/// Which time is believed when keys are dropped for good.
#[derive(Debug)]
struct Calendar {
    noted: Timestamp,
    leapt_to: Option<Timestamp>,
}

impl Calendar {
    fn believe(&mut self, now: Timestamp) -> Timestamp {
        if now.since(self.noted) > LEAP {
            let first = match self.leapt_to {
                Some(first) if first <= now => first,
                Some(_) | None => {
                    tracing::warn!(%now, noted = %self.noted, "the clock leapt; no key is dropped");
                    now
                }
            };
            self.leapt_to = Some(first);
            if now.since(first) < TRUST_AFTER {
                return self.noted;
            }
        }
        self.leapt_to = None;
        self.noted = self.noted.max(now);
        self.noted
    }
}

/// The class and epoch whose table takes an entry.
fn place_of(taken: &Taken) -> (Class, u64) {
    (taken.class, epoch_of(taken.class, taken.entry.id.at()))
}

/// What the writing thread owns.
pub(super) struct Index {
    shared: Arc<Shared>,
    calendar: Calendar,
    /// The position of the log of the last delta written.
    written: u64,
    /// Whether something was written since the last sync.
    dirty: bool,
    /// Where the sweep of end states goes on, while one is under way.
    sweep_after: Option<Vec<u8>>,
}

impl Index {
    pub(super) fn new(shared: Arc<Shared>, noted: Timestamp) -> Self {
        let written = shared.covered.load(Ordering::Acquire);
        let calendar = Calendar { noted, leapt_to: None };
        Self { shared, calendar, written, dirty: false, sweep_after: None }
    }

    pub(super) fn run(mut self) -> Result<(), StoreFault> {
        let mut due = Instant::now() + self.shared.limits.sync_every;
        loop {
            let closing = match self.shared.next(due) {
                Work::End => return Ok(()),
                Work::Write(delta) => {
                    let shared = Arc::clone(&self.shared);
                    self.write(&delta).map_err(|e| shared.fault("writing keys", &e))?;
                    self.shared.written();
                    // Under load there is always another delta, and the sync must not starve.
                    if Instant::now() < due {
                        continue;
                    }
                    false
                }
                Work::Sync { closing } => closing,
            };
            let shared = Arc::clone(&self.shared);
            self.sync(closing).map_err(|e| shared.fault("syncing keys", &e))?;
            if closing {
                return Ok(());
            }
            self.age().map_err(|e| shared.fault("dropping keys that are past", &e))?;
            due = Instant::now() + self.shared.limits.sync_every;
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.shared.now.load(Ordering::Relaxed))
    }

    /// Writes a delta as one batch, sorted, so that neighbours meet in the memtable.
    fn write(&mut self, delta: &Delta) -> fjall::Result<()> {
        let shared = Arc::clone(&self.shared);
        let believed = self.calendar.believe(self.now());
        let mut keys: Vec<((Class, u64), &DedupeKey, &KeyEntry)> = delta
            .keys
            .iter()
            .map(|(key, taken)| (place_of(taken), key, &taken.entry))
            .filter(|((window_ms, epoch), ..)| end_of(*window_ms, *epoch) > believed)
            .collect();
        keys.sort_unstable_by_key(|(place, key, _)| (*place, key.0));
        let mut batch = shared.tables.db.batch();
        for of_table in keys.chunk_by(|one, other| one.0 == other.0) {
            let ((window_ms, epoch), ..) = of_table[0];
            let table = shared.tables.table(window_ms, epoch)?;
            for (_, key, entry) in of_table {
                // A repeat of the log's feed may be older than what is here.
                let here = if table.perhaps(key) { table.get(key)? } else { None };
                if here.is_none_or(|here| here.seq < entry.seq) {
                    // Before the batch, so that no key is ever in the table and not in the filter.
                    Tables::add(&table, key);
                    batch.insert(&table.rows, key.0, tables::encode(entry));
                }
            }
        }
        for (event, answers) in &delta.answers {
            let (window_ms, epoch) = place_of(&answers.taken);
            if end_of(window_ms, epoch) > believed {
                let table = shared.tables.table(window_ms, epoch)?;
                batch.insert(&table.rows, tables::end_key(event), &*answers.bytes);
            }
        }
        for (event, change) in &delta.ends {
            let state = change.apply(shared.tables.end_state(event)?);
            let row = tables::end_key(event);
            if state.is_empty() {
                batch.remove(&shared.tables.ended, row);
            } else {
                batch.insert(&shared.tables.ended, row, tables::encode_end(&state));
            }
        }
        self.dirty |= !batch.is_empty();
        batch.commit()?;
        self.written = delta.log_seq;
        self.bound_keys()
    }

    /// Drops the epochs that end first while there are too many keys, but never the last one.
    fn bound_keys(&self) -> fjall::Result<()> {
        let mut tables = self.shared.tables.all();
        let mut keys: usize = tables.iter().map(|(.., table)| table.len()).sum();
        tables.sort_by_key(|(window_ms, epoch, _)| end_of(*window_ms, *epoch));
        let droppable = tables.len().saturating_sub(1);
        for (window_ms, epoch, table) in tables.into_iter().take(droppable) {
            if keys <= self.shared.limits.keys_max {
                break;
            }
            keys -= table.len();
            tracing::warn!(
                window_ms,
                keys = table.len(),
                "more dedupe keys than are kept; the oldest are dropped before their window is over"
            );
            self.shared.tables.drop_table(window_ms, epoch)?;
        }
        Ok(())
    }

    /// Makes what was written durable, and only then notes how far it reaches.
    fn sync(&mut self, closing: bool) -> fjall::Result<()> {
        let shared = Arc::clone(&self.shared);
        let moved = self.written > shared.covered.load(Ordering::Acquire);
        if self.dirty {
            shared.tables.sync()?;
            self.dirty = false;
        }
        if moved {
            shared.tables.set_note(COVERED, self.written)?;
            shared.tables.set_note(NOTED, self.calendar.noted.as_millis())?;
            // The notes themselves become durable with the next sync. Until then a power cut leaves
            // an older position, from which more is fed again than needed.
            shared.cover(self.written);
        }
        if closing {
            shared.tables.sync()?;
        }
        Ok(())
    }

    /// Drops the epochs that are past, sweeps end states, and keeps memtables small.
    fn age(&mut self) -> fjall::Result<()> {
        let shared = Arc::clone(&self.shared);
        let now = self.calendar.believe(self.now());
        for (window_ms, epoch, table) in shared.tables.all() {
            if end_of(window_ms, epoch) <= now {
                tracing::debug!(window_ms, keys = table.len(), "an epoch of keys is past");
                shared.tables.drop_table(window_ms, epoch)?;
                // End states outlive their keys for as long as this has not been done.
                self.sweep_after.get_or_insert_default();
            }
        }
        if shared.tables.db.write_buffer_size() > MEMTABLES_BYTES_MAX {
            for (.., table) in shared.tables.all() {
                table.rows.rotate_memtable()?;
            }
        }
        self.sweep(now)
    }

    /// Removes the end states of which every key is past, some at a time.
    fn sweep(&mut self, now: Timestamp) -> fjall::Result<()> {
        let shared = Arc::clone(&self.shared);
        let Some(after) = self.sweep_after.take() else { return Ok(()) };
        let windows: HashSet<u64> = shared.tables.all().into_iter().map(|(w, ..)| w).collect();
        let window = Duration::from_millis(windows.into_iter().max().unwrap_or(0));
        let mut batch = shared.tables.db.batch();
        let mut last = None;
        let rows =
            shared.tables.ended.range::<Vec<u8>, _>((Bound::Excluded(after), Bound::Unbounded));
        for (number, row) in (1..=SWEEP_ROWS).zip(rows) {
            let (key, row) = row.into_inner()?;
            // No key is taken after its event ended, so each is past by then.
            if tables::decode_end(&row)?.noted.after(window) <= now {
                batch.remove(&shared.tables.ended, key.clone());
            }
            last = (number == SWEEP_ROWS).then(|| key.to_vec());
        }
        // None when the end was reached: the sweep is over until an epoch is dropped again.
        self.sweep_after = last;
        self.dirty |= !batch.is_empty();
        batch.commit()
    }
}

/// Reads the keys of every table into its filter. Until a table's is complete, lookups go to the
/// table; keys that are written meanwhile are added by the writing thread.
pub(super) fn fill_filters(shared: &Shared) -> Result<(), StoreFault> {
    for (.., table) in shared.tables.all() {
        if table.is_ready() {
            continue;
        }
        for (number, row) in table.rows.iter().enumerate() {
            if number % 1024 == 0 && shared.is_ending() {
                return Ok(());
            }
            let key = row.key().and_then(|key| tables::decode_key(&key));
            if let Some(key) = key.map_err(|error| shared.fault("reading keys", &error))? {
                table.filter().add(&key);
            }
        }
        table.complete();
    }
    Ok(())
}
