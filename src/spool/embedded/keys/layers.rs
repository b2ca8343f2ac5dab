//! What the callers and the index thread share: the deltas, the tables below them, and the signals
//! between the two sides.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::delta::{Delta, EndChange, EventKey, Taken, later};
use super::opening::{Opened, is_damage, mark_damaged};
use super::tables::Tables;
use super::{Bytes, Limits};
use crate::clock::Timestamp;
use crate::event::DedupeKey;
use crate::spool::{KeyStats, StoreFault};

/// Deltas' worth of entries that may wait while the store is shut. Only ends of deliveries come then.
const SHUT_DELTAS_MAX: usize = 16;

/// How the threads end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// As a crash ends them: what is in memory is lost.
    Now,
    /// When everything is written and synced.
    Written,
}

/// The deltas; the tables lie below.
#[derive(Debug)]
pub(super) struct Layers {
    /// Takes what is new.
    pub(super) active: Delta,
    /// Is being written; stays here until the tables answer for it.
    sealed: Option<Arc<Delta>>,
    /// The position of the log that was sealed last.
    sealed_seq: u64,
    stop: Option<Stop>,
    fault: Option<StoreFault>,
}

impl Layers {
    pub(super) fn key(&self, key: &DedupeKey) -> Option<Taken> {
        let sealed = self.sealed.as_ref().and_then(|delta| delta.keys.get(key).copied());
        later(self.active.keys.get(key).copied(), sealed)
    }

    /// What a request was answered.
    pub(super) fn answers(&self, event: &EventKey) -> Option<Bytes> {
        let sealed = self.sealed.as_ref().and_then(|delta| delta.answers.get(event));
        self.active.answers.get(event).or(sealed).map(|answers| answers.bytes.clone())
    }

    /// The changes of an event, in the order they are to be applied.
    pub(super) fn changes(&self, event: &EventKey) -> [Option<EndChange>; 2] {
        let sealed = self.sealed.as_ref().and_then(|delta| delta.ends.get(event).cloned());
        [sealed, self.active.ends.get(event).cloned()]
    }

    fn seal(&mut self) {
        let log_seq = self.active.log_seq;
        let next = Delta::from(log_seq);
        self.sealed = Some(Arc::new(std::mem::replace(&mut self.active, next)));
        self.sealed_seq = log_seq;
    }
}

/// What the index thread is to do next.
#[derive(Debug)]
pub(super) enum Work {
    Write(Arc<Delta>),
    /// Sync what was written; the last thing to do when the store is closing.
    Sync {
        closing: bool,
    },
    End,
}

/// How the store is, for whoever does not hold it.
#[derive(Debug, Default)]
pub(in super::super) struct Gauge {
    /// Whether it cannot be written, or opened, at the moment.
    shut: AtomicBool,
    pub(super) kept: AtomicU64,
    limit: u64,
    pub(super) dropped: AtomicU64,
}

impl Gauge {
    /// Whether what has a key is refused.
    pub(in super::super) fn is_shut(&self) -> bool {
        self.shut.load(Ordering::Acquire)
    }

    pub(in super::super) fn stats(&self) -> KeyStats {
        let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
        KeyStats { kept: of(&self.kept), limit: self.limit, dropped: of(&self.dropped) }
    }
}

pub(super) struct Shared {
    layers: Mutex<Layers>,
    /// Tells the index thread that there is work.
    work: Condvar,
    /// Tells callers that a delta was written, `covered` moved, or a fault came.
    progress: Condvar,
    pub(super) covered: AtomicU64,
    /// Nothing was written since the last sync.
    pub(super) synced: AtomicBool,
    /// The time that a caller told last; the threads have no clock.
    pub(super) now: AtomicU64,
    ending: AtomicBool,
    /// Taken out while the store is shut.
    tables: RwLock<Option<Arc<Tables>>>,
    pub(super) gauge: Arc<Gauge>,
    pub(super) limits: Limits,
    pub(super) dir: PathBuf,
    /// Left behind when the store turns out damaged, for the next open.
    pub(super) marker: PathBuf,
    /// Makes every write fail as a full disk does.
    #[cfg(test)]
    pub(super) full_disk: Arc<AtomicBool>,
}

impl Shared {
    pub(super) fn new(opened: Opened, limits: Limits, now: Timestamp) -> Self {
        let covered = opened.covered;
        Self {
            layers: Mutex::new(Layers {
                active: Delta::from(covered),
                sealed: None,
                sealed_seq: covered,
                stop: None,
                fault: None,
            }),
            work: Condvar::new(),
            progress: Condvar::new(),
            covered: AtomicU64::new(covered),
            synced: AtomicBool::new(true),
            now: AtomicU64::new(now.as_millis()),
            ending: AtomicBool::new(false),
            tables: RwLock::new(Some(Arc::new(opened.tables))),
            gauge: Arc::new(Gauge { limit: limits.keys_max as u64, ..Gauge::default() }),
            limits,
            dir: opened.dir,
            marker: opened.marker,
            #[cfg(test)]
            full_disk: Arc::default(),
        }
    }

    /// The tables, unless the store is shut.
    pub(super) fn tables(&self) -> Option<Arc<Tables>> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn is_shut(&self) -> bool {
        self.gauge.is_shut()
    }

    /// Takes the tables from whoever asks next.
    pub(super) fn shut(&self) -> Option<Arc<Tables>> {
        self.gauge.shut.store(true, Ordering::Release);
        let tables = self.tables.write().unwrap_or_else(PoisonError::into_inner).take();
        // Whoever waits for room in a delta waits in vain.
        self.progress.notify_all();
        tables
    }

    /// Hands tables out again.
    pub(super) fn reopen(&self, tables: Tables) {
        let tables = Some(Arc::new(tables));
        *self.tables.write().unwrap_or_else(PoisonError::into_inner) = tables;
        self.gauge.shut.store(false, Ordering::Release);
    }

    /// Lets time pass while the store is shut; says whether it is to be closed.
    pub(super) fn rest(&self, at_most: Duration) -> Option<Stop> {
        let layers = self.lock();
        let waited = self.work.wait_timeout_while(layers, at_most, |layers| layers.stop.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.stop
    }

    /// Whatever panicked while it held the layers has made a fault of it, which is looked for.
    fn lock(&self) -> MutexGuard<'_, Layers> {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The layers, unless the store is broken.
    pub(super) fn layers(&self) -> Result<MutexGuard<'_, Layers>, StoreFault> {
        let layers = self.lock();
        match &layers.fault {
            None => Ok(layers),
            Some(fault) => Err(fault.clone()),
        }
    }

    /// The layers, with room for `count` more in the active delta.
    pub(super) fn room(&self, count: usize) -> Result<MutexGuard<'_, Layers>, StoreFault> {
        let patience = Instant::now() + self.limits.stall_max;
        let mut layers = self.layers()?;
        while layers.active.is_full_for(count, &self.limits) {
            if layers.sealed.is_none() {
                layers.seal();
                self.work.notify_one();
                continue;
            }
            if self.is_shut() && layers.active.len() < SHUT_DELTAS_MAX * self.limits.delta_max {
                break;
            }
            let left = patience.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(StoreFault {
                    doing: "waiting for the key index".to_owned(),
                    cause: format!("it wrote nothing for {:?}", self.limits.stall_max),
                });
            }
            let (woken, _elapsed) =
                self.progress.wait_timeout(layers, left).unwrap_or_else(PoisonError::into_inner);
            layers = woken;
            if let Some(fault) = &layers.fault {
                return Err(fault.clone());
            }
        }
        Ok(layers)
    }

    /// Waits for work, until the next sync is due.
    pub(super) fn next(&self, due: Instant) -> Work {
        let mut layers = self.lock();
        loop {
            if layers.stop == Some(Stop::Now) || layers.fault.is_some() {
                return Work::End;
            }
            if let Some(delta) = &layers.sealed {
                return Work::Write(Arc::clone(delta));
            }
            let closing = layers.stop == Some(Stop::Written);
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() || closing {
                // A position without keys is news too: without it the log would never be freed.
                if !layers.active.is_empty() || layers.active.log_seq > layers.sealed_seq {
                    layers.seal();
                    continue;
                }
                return Work::Sync { closing };
            }
            let (woken, _elapsed) =
                self.work.wait_timeout(layers, left).unwrap_or_else(PoisonError::into_inner);
            layers = woken;
        }
    }

    /// The tables answer for the sealed delta now.
    pub(super) fn written(&self) {
        self.lock().sealed = None;
        self.progress.notify_all();
    }

    /// Whether everything that was told before this call is on disk.
    pub(super) fn is_durable(&self) -> bool {
        let layers = self.lock();
        let is_written = layers.active.is_empty() && layers.sealed.is_none();
        drop(layers);
        // After the layers: what is written between the two says no, never yes.
        is_written && self.synced.load(Ordering::Acquire)
    }

    /// The tables are synced up to here.
    pub(super) fn cover(&self, log_seq: u64) {
        // Under the lock, so that nobody looks before this and waits after it.
        let layers = self.lock();
        self.covered.store(log_seq, Ordering::Release);
        drop(layers);
        self.progress.notify_all();
    }

    /// Tells the threads to end.
    pub(super) fn stop(&self, stop: Stop) {
        self.ending.store(true, Ordering::Relaxed);
        self.lock().stop.get_or_insert(stop);
        self.work.notify_all();
    }

    /// Where a test lets the disk be full.
    #[cfg(test)]
    pub(super) fn meet(&self) -> fjall::Result<()> {
        if self.full_disk.load(Ordering::Relaxed) {
            return Err(std::io::Error::from(std::io::ErrorKind::StorageFull).into());
        }
        Ok(())
    }

    #[cfg(not(test))]
    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "tests make it fail")]
    pub(super) const fn meet(&self) -> fjall::Result<()> {
        Ok(())
    }

    /// Whether the threads are to end.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// Makes every call from now on answer with this fault, or an earlier one.
    pub(super) fn fail(&self, fault: StoreFault) {
        tracing::error!(error = %fault, "the key index failed");
        self.lock().fault.get_or_insert(fault);
        self.work.notify_all();
        self.progress.notify_all();
    }

    /// The fault of an error of the tables. Damage is noted, so that the next open sets the store
    /// aside; without the note it would open, since tables are read only when asked, and fail again.
    pub(super) fn fault(&self, doing: &str, error: &fjall::Error) -> StoreFault {
        if is_damage(error) {
            mark_damaged(&self.marker, &error.to_string());
        }
        StoreFault { doing: doing.to_owned(), cause: error.to_string() }
    }

    /// Waits until everything told so far is on disk.
    #[cfg(test)]
    pub(super) fn wait_covered(&self, log_seq: u64) {
        let mut layers = self.layers().unwrap();
        while self.covered.load(Ordering::Acquire) < log_seq {
            layers = self.progress.wait(layers).unwrap();
            assert!(layers.fault.is_none(), "{:?}", layers.fault);
        }
    }
}
