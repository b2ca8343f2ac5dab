//! The keys on disk: for each class, one by window, a keyspace for each epoch of acceptance, which
//! is dropped whole when its last key is past.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use fjall::config::FilterPolicy;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::KeyEntry;
use super::delta::{Ends, EventKey, Taken, later};
use super::filter::Filter;
use crate::clock::Timestamp;
use crate::event::{DedupeKey, EventId, Fingerprint};

/// Shortest epoch: a table is a few files, and a class has nine of them.
const EPOCH_MS_MIN: u64 = 10 * 60 * 1000;

/// Epochs in a window.
const EPOCHS: u64 = 8;

/// Sequence 8, event id 16, fingerprint.
const ENTRY_BYTES: usize = 24 + Fingerprint::LEN;

/// Smallest filter, some 25 KiB.
const FILTER_KEYS_MIN: usize = 16 << 10;

/// The figures were measured with ten million keys: all of it stays below some 20 MB.
const CACHE_BYTES: u64 = 8 << 20;
const MEMTABLE_BYTES: u64 = 8 << 20;
const JOURNAL_BYTES: u64 = 64 << 20;

/// The keys that were taken with one window, in milliseconds.
pub(super) type Class = u64;

/// The epoch of `at` in the class of `window_ms`.
pub(super) const fn epoch_of(window_ms: Class, at: Timestamp) -> u64 {
    at.as_millis() / epoch_ms(window_ms)
}

const fn epoch_ms(window_ms: u64) -> u64 {
    let part = window_ms / EPOCHS;
    if part > EPOCH_MS_MIN { part } else { EPOCH_MS_MIN }
}

/// When the last key of an epoch is past.
pub(super) const fn end_of(window_ms: u64, epoch: u64) -> Timestamp {
    let end = epoch.saturating_add(1).saturating_mul(epoch_ms(window_ms));
    Timestamp::from_millis(end.saturating_add(window_ms))
}

/// The keys of one class that were accepted in one epoch.
#[derive(Clone)]
pub(super) struct Table {
    pub(super) rows: Keyspace,
    /// Only the last is filled further; another is begun when it is full.
    filters: Vec<Arc<Filter>>,
    /// Whether the filters have every key of the table.
    ready: Arc<AtomicBool>,
}

impl Table {
    /// False only if the key is not in the table.
    pub(super) fn perhaps(&self, key: &DedupeKey) -> bool {
        !self.ready.load(Ordering::Acquire) || self.filters.iter().any(|f| f.perhaps(key))
    }

    /// The filter that takes the keys which the table had when it was opened.
    pub(super) fn filter(&self) -> &Filter {
        &self.filters[0]
    }

    /// Declares the filters complete.
    pub(super) fn complete(&self) {
        self.ready.store(true, Ordering::Release);
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    pub(super) fn len(&self) -> usize {
        self.filters.iter().map(|filter| filter.len()).sum()
    }

    pub(super) fn get(&self, key: &DedupeKey) -> fjall::Result<Option<KeyEntry>> {
        let Some(row) = self.rows.get(key.0)? else { return Ok(None) };
        decode(&row).map(Some)
    }
}

type Classes = BTreeMap<u64, BTreeMap<u64, Table>>;

/// The whole store.
pub(super) struct Tables {
    pub(super) db: Database,
    pub(super) notes: Keyspace,
    pub(super) ended: Keyspace,
    classes: RwLock<Classes>,
    /// Held by who reads the tables into their filters: a key that is added twice counts twice.
    filling: Mutex<()>,
}

impl Tables {
    /// Opens or creates the store in `dir`.
    pub(super) fn open(dir: &Path) -> fjall::Result<Self> {
        let db = Database::builder(dir)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(1)
            .open()?;
        let mut classes = Classes::new();
        for name in db.list_keyspace_names() {
            // What has no such name is one of the two below, or a later program's.
            let Some((window_ms, epoch)) = parse(&name) else { continue };
            let rows = db.keyspace(&name, options)?;
            let filter = Filter::new(rows.approximate_len().max(FILTER_KEYS_MIN));
            let table = Table {
                filters: vec![Arc::new(filter)],
                ready: Arc::new(AtomicBool::new(false)),
                rows,
            };
            classes.entry(window_ms).or_default().insert(epoch, table);
        }
        let notes = db.keyspace("notes", options)?;
        let ended = db.keyspace("ended", options)?;
        Ok(Self { db, notes, ended, classes: RwLock::new(classes), filling: Mutex::default() })
    }

    /// The turn to fill the filters, once nobody else has it.
    pub(super) fn fill(&self) -> MutexGuard<'_, ()> {
        self.filling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A panic while the map was held cannot have left it half changed: each change is one call.
    fn read(&self) -> RwLockReadGuard<'_, Classes> {
        self.classes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Classes> {
        self.classes.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The latest entry of a key in the epochs that are not past, whatever window it was taken
    /// with: a source's may have been changed since.
    pub(super) fn find(&self, key: &DedupeKey, now: Timestamp) -> fjall::Result<Option<Taken>> {
        let classes = self.read();
        let mut found = None;
        for (class, tables) in &*classes {
            for (epoch, table) in tables {
                if end_of(*class, *epoch) > now && table.perhaps(key) {
                    let entry = table.get(key)?;
                    found = later(found, entry.map(|entry| Taken { class: *class, entry }));
                }
            }
        }
        Ok(found)
    }

    /// What the request that took a key was answered.
    pub(super) fn answers(
        &self,
        event: &EventKey,
        taken: &Taken,
    ) -> fjall::Result<Option<fjall::UserValue>> {
        let classes = self.read();
        let epoch = epoch_of(taken.class, taken.entry.id.at());
        match classes.get(&taken.class).and_then(|tables| tables.get(&epoch)) {
            Some(table) => table.rows.get(end_key(event)),
            None => Ok(None),
        }
    }

    /// The table of an epoch, with room in its filter; made when there is none.
    pub(super) fn table(&self, window_ms: u64, epoch: u64) -> fjall::Result<Table> {
        let mut before = None;
        if let Some(tables) = self.read().get(&window_ms) {
            if let Some(table) = tables.get(&epoch)
                && table.filters.last().is_some_and(|filter| !filter.is_full())
            {
                return Ok(table.clone());
            }
            before = tables.values().next_back().map(Table::len);
        }
        let rows = self.db.keyspace(&format!("{window_ms}.{epoch}"), options)?;
        let mut classes = self.write();
        let tables = classes.entry(window_ms).or_default();
        let table = tables.entry(epoch).or_insert_with(|| Table {
            rows,
            filters: Vec::new(),
            ready: Arc::new(AtomicBool::new(true)),
        });
        // An epoch is about as busy as the one before; where it is busier, it grows by quarters:
        // a lookup asks each filter, and what is not filled yet is memory all the same.
        let capacity = if table.filters.is_empty() { before.unwrap_or(0) } else { table.len() / 4 };
        table.filters.push(Arc::new(Filter::new(capacity.max(FILTER_KEYS_MIN))));
        Ok(table.clone())
    }

    /// Adds a key to the newest filter of its table.
    pub(super) fn add(table: &Table, key: &DedupeKey) {
        if let Some(filter) = table.filters.last() {
            filter.add(key);
        }
    }

    /// Every table, by class and epoch.
    pub(super) fn all(&self) -> Vec<(u64, u64, Table)> {
        let classes = self.read();
        let all = classes.iter().flat_map(|(window_ms, tables)| {
            tables.iter().map(|(epoch, table)| (*window_ms, *epoch, table.clone()))
        });
        all.collect()
    }

    /// Keys of every table, as far as filters have them.
    pub(super) fn len(&self) -> u64 {
        self.read().values().flat_map(BTreeMap::values).map(|table| table.len() as u64).sum()
    }

    /// Drops one table with all its keys.
    pub(super) fn drop_table(&self, window_ms: u64, epoch: u64) -> fjall::Result<()> {
        let mut classes = self.write();
        let Some(tables) = classes.get_mut(&window_ms) else { return Ok(()) };
        let Some(table) = tables.remove(&epoch) else { return Ok(()) };
        if tables.is_empty() {
            classes.remove(&window_ms);
        }
        drop(classes);
        self.db.delete_keyspace(table.rows)
    }

    /// The end state of an event, and when it was written.
    pub(super) fn end_state(&self, event: &EventKey) -> fjall::Result<Ends> {
        let Some(row) = self.ended.get(end_key(event))? else { return Ok(Ends::default()) };
        decode_end(&row)
    }

    /// A number noted beside the keys; zero when it never was.
    pub(super) fn note(&self, name: &str) -> fjall::Result<u64> {
        let Some(row) = self.notes.get(name)? else { return Ok(0) };
        Ok(u64::from_le_bytes(row.as_ref().try_into().map_err(|_| undecodable())?))
    }

    pub(super) fn set_note(&self, name: &str, number: u64) -> fjall::Result<()> {
        self.notes.insert(name, number.to_le_bytes())
    }

    pub(super) fn sync(&self) -> fjall::Result<()> {
        self.db.persist(PersistMode::SyncAll)
    }
}

/// Our filters stand in front, so the store's own would be read in vain; they are off.
fn options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .max_memtable_size(MEMTABLE_BYTES)
        .filter_policy(FilterPolicy::disabled())
}

/// Window and epoch of a keyspace's name.
fn parse(name: &str) -> Option<(u64, u64)> {
    let (window_ms, epoch) = name.split_once('.')?;
    Some((window_ms.parse().ok()?, epoch.parse().ok()?))
}

pub(super) fn encode(entry: &KeyEntry) -> [u8; ENTRY_BYTES] {
    let mut row = [0; ENTRY_BYTES];
    row[..8].copy_from_slice(&entry.seq.to_le_bytes());
    row[8..24].copy_from_slice(&entry.id.to_bytes());
    row[24..].copy_from_slice(&entry.fingerprint.to_bytes());
    row
}

pub(super) fn decode(row: &[u8]) -> fjall::Result<KeyEntry> {
    let row: &[u8; ENTRY_BYTES] = row.try_into().map_err(|_| undecodable())?;
    let (head, fingerprint) = row.split_at(24);
    let (seq, id) = head.split_at(8);
    Ok(KeyEntry {
        seq: u64::from_le_bytes(seq.try_into().map_err(|_| undecodable())?),
        id: EventId::from_bytes(id.try_into().map_err(|_| undecodable())?),
        fingerprint: Fingerprint::from_bytes(fingerprint.try_into().map_err(|_| undecodable())?),
    })
}

/// The key of a row; none when the row is what a request was answered.
pub(super) fn decode_key(key: &[u8]) -> fjall::Result<Option<DedupeKey>> {
    if key.len() == END_KEY_BYTES {
        return Ok(None);
    }
    Ok(Some(DedupeKey(key.try_into().map_err(|_| undecodable())?)))
}

/// A key and a sequence.
const END_KEY_BYTES: usize = 24;

/// The row of an end state, and that of what a request was answered.
pub(super) fn end_key(event: &EventKey) -> [u8; END_KEY_BYTES] {
    let mut key = [0; END_KEY_BYTES];
    key[..16].copy_from_slice(&event.0.0);
    key[16..].copy_from_slice(&event.1.to_be_bytes());
    key
}

/// Bytes of an end state before its replays.
const END_BYTES: usize = 28;
/// A slot and a sequence.
const REPLAY_BYTES: usize = 9;

pub(super) fn encode_end(state: &Ends) -> Vec<u8> {
    let mut row = Vec::with_capacity(END_BYTES + state.replays.len() * REPLAY_BYTES);
    row.extend_from_slice(&state.ended.to_le_bytes());
    row.extend_from_slice(&state.owed.to_le_bytes());
    row.extend_from_slice(&state.at.as_millis().to_le_bytes());
    row.extend_from_slice(&state.noted.as_millis().to_le_bytes());
    row.extend_from_slice(&state.expired.to_le_bytes());
    for (slot, seq) in &state.replays {
        row.push(*slot);
        row.extend_from_slice(&seq.to_le_bytes());
    }
    row
}

pub(super) fn decode_end(row: &[u8]) -> fjall::Result<Ends> {
    let (head, replays) = row.split_first_chunk::<END_BYTES>().ok_or_else(undecodable)?;
    let number =
        |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let replays = replays.chunks(REPLAY_BYTES).map(|replay| {
        let (slot, seq) = replay.split_first().ok_or_else(undecodable)?;
        Ok((*slot, u64::from_le_bytes(seq.try_into().map_err(|_| undecodable())?)))
    });
    let time = |at| Timestamp::from_millis(u64::from(number(at)) | u64::from(number(at + 4)) << 32);
    Ok(Ends {
        ended: number(0),
        owed: number(4),
        at: time(8),
        noted: time(16),
        expired: number(24),
        replays: replays.collect::<fjall::Result<_>>()?,
    })
}

/// A row of a length that was never written.
fn undecodable() -> fjall::Error {
    std::io::Error::from(std::io::ErrorKind::InvalidData).into()
}
