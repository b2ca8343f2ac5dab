//! The threads behind the index: one writes deltas, syncs and drops what is past; the other reads
//! the keys of the store's tables into their filters once, at the start.

use std::collections::HashSet;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::super::calendar::Calendar;
use super::delta::{Delta, Taken};
use super::layers::{Shared, Stop, Work};
use super::opening::{self, COVERED, NOTED, Refusal};
use super::tables::{self, Class, Tables, end_of, epoch_of};
use super::{DedupeKey, KeyEntry, StoreFault};
use crate::clock::Timestamp;

/// How often a store that was shut is opened again.
const REOPEN_EVERY: Duration = Duration::from_secs(1);

/// End states looked at in one round of sweeping.
const SWEEP_ROWS: usize = 10_000;

/// Memtables of all tables together. fjall bounds each alone, and an epoch that gets no new keys
/// would keep its last in memory until the journal is full.
const MEMTABLES_BYTES_MAX: u64 = 16 << 20;

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
    /// Deltas written since the last sync: what may have to be written again.
    unsynced: Vec<Arc<Delta>>,
    /// The tables of a store that was shut, until nobody asks them any more.
    leaving: Option<Arc<Tables>>,
    /// Said that there are nearly too many keys.
    told: bool,
    /// Where the sweep of end states goes on, while one is under way.
    sweep_after: Option<Vec<u8>>,
}

impl Index {
    pub(super) fn new(shared: Arc<Shared>, noted: Timestamp) -> Self {
        let written = shared.covered.load(Ordering::Acquire);
        let calendar = Calendar::new(noted);
        Self {
            shared,
            calendar,
            written,
            dirty: false,
            unsynced: Vec::new(),
            leaving: None,
            told: false,
            sweep_after: None,
        }
    }

    pub(super) fn run(mut self) -> Result<(), StoreFault> {
        let mut due = Instant::now() + self.shared.limits.sync_every;
        loop {
            if self.shared.is_shut() {
                let stop = self.shared.rest(REOPEN_EVERY);
                if stop == Some(Stop::Now) {
                    return Ok(());
                }
                self.reopen()?;
                if stop.is_some() && self.shared.is_shut() {
                    return Err(StoreFault {
                        doing: "writing the last keys".to_owned(),
                        cause: "the disk takes none; the logs have them".to_owned(),
                    });
                }
                continue;
            }
            let closing = match self.shared.next(due) {
                Work::End => return Ok(()),
                Work::Write(delta) => {
                    let written = self.write(&delta);
                    if !self.passes("writing keys", written)? {
                        continue;
                    }
                    self.unsynced.push(delta);
                    self.shared.written();
                    // Under load there is always another delta, and the sync must not starve.
                    if Instant::now() < due && self.unsynced.len() < self.shared.limits.unsynced_max
                    {
                        continue;
                    }
                    false
                }
                Work::Sync { closing } => closing,
            };
            let synced = self.sync(closing);
            if !self.passes("syncing keys", synced)? {
                continue;
            }
            if closing {
                return Ok(());
            }
            let aged = self.age();
            self.passes("dropping keys that are past", aged)?;
            due = Instant::now() + self.shared.limits.sync_every;
        }
    }

    /// Whether it was done. What the machine refused shuts the store until it is tried again.
    fn passes(&mut self, doing: &str, done: fjall::Result<()>) -> Result<bool, StoreFault> {
        match done {
            Ok(()) => Ok(true),
            Err(error) if opening::is_passing(&error) => {
                tracing::error!(
                    doing,
                    %error,
                    "dedupe keys find no room or a failing disk: events with a key are refused \
                     until they can be written"
                );
                self.leaving = self.shared.shut();
                Ok(false)
            }
            Err(error) => Err(self.shared.fault(doing, &error)),
        }
    }

    /// Opens a store that was shut, and writes again what may not have reached it.
    fn reopen(&mut self) -> Result<(), StoreFault> {
        if let Some(tables) = self.leaving.take() {
            match Arc::try_unwrap(tables) {
                Ok(tables) => drop(tables),
                Err(asked) => {
                    self.leaving = Some(asked);
                    return Ok(());
                }
            }
        }
        let shared = Arc::clone(&self.shared);
        let opened = match opening::attempt(&shared.dir, &shared.marker) {
            Ok(opened) => opened,
            Err(Refusal::Fault(cause)) => {
                tracing::debug!(cause, "dedupe keys cannot be opened yet");
                return Ok(());
            }
            Err(Refusal::Damaged(cause)) => {
                opening::mark_damaged(&shared.marker, &cause);
                return Err(StoreFault { doing: "opening keys again".to_owned(), cause });
            }
        };
        match self.feed(&opened.tables) {
            Ok(()) => {}
            Err(error) if opening::is_passing(&error) => {
                tracing::debug!(%error, "dedupe keys cannot be written yet");
                return Ok(());
            }
            Err(error) => return Err(shared.fault("writing keys again", &error)),
        }
        self.dirty = true;
        shared.reopen(opened.tables);
        tracing::info!("dedupe keys are written again");
        fill_filters(&shared)
    }

    fn feed(&mut self, tables: &Tables) -> fjall::Result<()> {
        for delta in self.unsynced.clone() {
            self.write_to(tables, &delta)?;
        }
        self.shared.meet()?;
        tables.sync()
    }

    fn tables(&self) -> fjall::Result<Arc<Tables>> {
        self.shared.tables().ok_or(fjall::Error::Poisoned)
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.shared.now.load(Ordering::Relaxed))
    }

    /// Writes a delta as one batch, sorted, so that neighbours meet in the memtable.
    fn write(&mut self, delta: &Delta) -> fjall::Result<()> {
        let tables = self.tables()?;
        self.shared.synced.store(false, Ordering::Release);
        self.write_to(&tables, delta)
    }

    fn write_to(&mut self, tables: &Tables, delta: &Delta) -> fjall::Result<()> {
        self.shared.meet()?;
        let believed = self.calendar.believe(self.now());
        let mut keys: Vec<((Class, u64), &DedupeKey, &KeyEntry)> = delta
            .keys
            .iter()
            .map(|(key, taken)| (place_of(taken), key, &taken.entry))
            .filter(|((window_ms, epoch), ..)| end_of(*window_ms, *epoch) > believed)
            .collect();
        keys.sort_unstable_by_key(|(place, key, _)| (*place, key.0));
        let mut batch = tables.db.batch();
        for of_table in keys.chunk_by(|one, other| one.0 == other.0) {
            let ((window_ms, epoch), ..) = of_table[0];
            let table = tables.table(window_ms, epoch)?;
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
                let table = tables.table(window_ms, epoch)?;
                batch.insert(&table.rows, tables::end_key(event), &*answers.bytes);
            }
        }
        for (event, change) in &delta.ends {
            let state = change.apply(tables.end_state(event)?);
            let row = tables::end_key(event);
            if state.is_empty() {
                batch.remove(&tables.ended, row);
            } else {
                batch.insert(&tables.ended, row, tables::encode_end(&state));
            }
        }
        self.dirty |= !batch.is_empty();
        batch.commit()?;
        self.written = delta.log_seq;
        self.bound_keys(tables)
    }

    /// Drops the epochs that end first while there are too many keys, but never the last one.
    fn bound_keys(&mut self, store: &Tables) -> fjall::Result<()> {
        let mut tables = store.all();
        let mut keys: usize = tables.iter().map(|(.., table)| table.len()).sum();
        tables.sort_by_key(|(window_ms, epoch, _)| end_of(*window_ms, *epoch));
        let droppable = tables.len().saturating_sub(1);
        for (window_ms, epoch, table) in tables.into_iter().take(droppable) {
            if keys <= self.shared.limits.keys_max {
                break;
            }
            keys -= table.len();
            self.shared.gauge.dropped.fetch_add(table.len() as u64, Ordering::Relaxed);
            tracing::warn!(
                window_ms,
                keys = table.len(),
                "more dedupe keys than are kept; the oldest are dropped before their window is over"
            );
            store.drop_table(window_ms, epoch)?;
        }
        self.shared.gauge.kept.store(keys as u64, Ordering::Relaxed);
        let is_near = keys > self.shared.limits.keys_max / 10 * 9;
        if is_near && !self.told {
            tracing::warn!(
                keys,
                limit = self.shared.limits.keys_max,
                "nearly as many dedupe keys as are kept; soon the oldest are forgotten early"
            );
        }
        self.told = is_near;
        Ok(())
    }

    /// Makes what was written durable, and only then notes how far it reaches.
    fn sync(&mut self, closing: bool) -> fjall::Result<()> {
        let shared = Arc::clone(&self.shared);
        let tables = self.tables()?;
        shared.meet()?;
        let moved = self.written > shared.covered.load(Ordering::Acquire);
        if self.dirty {
            tables.sync()?;
            self.dirty = false;
        }
        self.unsynced.clear();
        shared.synced.store(true, Ordering::Release);
        if moved {
            tables.set_note(COVERED, self.written)?;
            tables.set_note(NOTED, self.calendar.noted().as_millis())?;
            // The notes themselves become durable with the next sync. Until then a power cut leaves
            // an older position, from which more is fed again than needed.
            shared.cover(self.written);
        }
        if closing {
            tables.sync()?;
        }
        Ok(())
    }

    /// Drops the epochs that are past, sweeps end states, and keeps memtables small.
    fn age(&mut self) -> fjall::Result<()> {
        let tables = self.tables()?;
        let now = self.calendar.believe(self.now());
        for (window_ms, epoch, table) in tables.all() {
            if end_of(window_ms, epoch) <= now {
                tracing::debug!(window_ms, keys = table.len(), "an epoch of keys is past");
                tables.drop_table(window_ms, epoch)?;
                // End states outlive their keys for as long as this has not been done.
                self.sweep_after.get_or_insert_default();
            }
        }
        if tables.db.write_buffer_size() > MEMTABLES_BYTES_MAX {
            for (.., table) in tables.all() {
                table.rows.rotate_memtable()?;
            }
        }
        self.sweep(now)
    }

    /// Removes the end states of which every key is past, some at a time.
    fn sweep(&mut self, now: Timestamp) -> fjall::Result<()> {
        let Some(after) = self.sweep_after.take() else { return Ok(()) };
        let tables = self.tables()?;
        let windows: HashSet<u64> = tables.all().into_iter().map(|(w, ..)| w).collect();
        let window = Duration::from_millis(windows.into_iter().max().unwrap_or(0));
        let mut batch = tables.db.batch();
        let mut last = None;
        let rows = tables.ended.range::<Vec<u8>, _>((Bound::Excluded(after), Bound::Unbounded));
        for (number, row) in (1..=SWEEP_ROWS).zip(rows) {
            let (key, row) = row.into_inner()?;
            // No key is taken after its event ended, so each is past by then.
            if tables::decode_end(&row)?.noted.after(window) <= now {
                batch.remove(&tables.ended, key.clone());
            }
            last = (number == SWEEP_ROWS).then(|| key.to_vec());
        }
        // None when the end was reached: the sweep is over until an epoch is dropped again.
        self.sweep_after = last;
        self.dirty |= !batch.is_empty();
        batch.commit()
    }
}

/// Reads the keys of every table into its filter, and counts them. Until a table's is complete,
/// lookups go to the table; keys that are written meanwhile are added by the writing thread.
pub(super) fn fill_filters(shared: &Shared) -> Result<(), StoreFault> {
    let Some(tables) = shared.tables() else { return Ok(()) };
    let _turn = tables.fill();
    for (.., table) in tables.all() {
        if table.is_ready() {
            continue;
        }
        for (number, row) in table.rows.iter().enumerate() {
            if number % 1024 == 0 && (shared.is_ending() || shared.is_shut()) {
                return Ok(());
            }
            let key = row.key().and_then(|key| tables::decode_key(&key));
            if let Some(key) = key.map_err(|error| shared.fault("reading keys", &error))? {
                table.filter().add(&key);
            }
        }
        table.complete();
        shared.gauge.kept.fetch_max(tables.len(), Ordering::Relaxed);
    }
    Ok(())
}
