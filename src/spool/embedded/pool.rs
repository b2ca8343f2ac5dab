//! Room: how much of it the store may take, and the files kept for the next segments.
//!
//! A file that held a segment before is overwritten far faster than a new one is filled, so freed
//! ones are kept as spares, and one is prepared before it is asked for.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::files::{Disk, WriteError};
use super::manifest::Manifest;
use super::reserve::Reserve;
use super::{LogKind, lock};
use crate::spool::StoreFault;

/// Freed files that are kept.
const SPARES_MAX: usize = 2;

/// What room is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// New events: the reserve is not for them.
    Events,
    /// Retries and dead letters, which end what was begun.
    Upkeep,
}

impl Purpose {
    pub(super) const fn of(log: LogKind) -> Self {
        match log {
            LogKind::Accepted => Self::Events,
            LogKind::Parked | LogKind::Dead => Self::Upkeep,
        }
    }
}

/// Room and spares of a store.
#[derive(Debug)]
pub(super) struct Pool {
    disk: Disk,
    pub(super) segment_bytes: u64,
    pub(super) max_bytes: u64,
    reserve_bytes: u64,
    used: AtomicU64,
    /// The next number for a file, whichever log it is for.
    number: AtomicU64,
    spares: Mutex<Vec<String>>,
    /// Which segments there are.
    pub(super) manifest: Manifest,
    /// Of `reserve_bytes`, what is really taken.
    reserve: Reserve,
    /// Events were refused for want of room, and none was made since.
    full: AtomicBool,
    /// The file system has too little room, and that was said.
    told: AtomicBool,
}

impl Pool {
    pub(super) fn new(disk: Disk, segment_bytes: u64, max_bytes: u64) -> Self {
        Self {
            manifest: Manifest::new(disk.clone()),
            // One small segment for retries, and one for dead letters.
            reserve: Reserve::new(disk.clone(), 2 * small(segment_bytes) + beside(segment_bytes)),
            disk,
            segment_bytes,
            max_bytes,
            reserve_bytes: reserve_of(max_bytes),
            used: AtomicU64::new(0),
            number: AtomicU64::new(1),
            spares: Mutex::default(),
            full: AtomicBool::new(false),
            told: AtomicBool::new(false),
        }
    }

    /// Takes over the reserve that lies there, and gives it up at once if nothing else is free, for
    /// an opening writes too.
    pub(super) fn find_reserve(&self) -> Result<(), StoreFault> {
        self.reserve.find()?;
        if self.disk.free_bytes()? < self.segment_bytes {
            self.reserve.release()?;
        }
        Ok(())
    }

    /// Makes the reserve again when there is room for it and for a segment beside.
    pub(super) fn keep_reserve(&self) -> Result<(), StoreFault> {
        let bytes = self.reserve.bytes;
        if self.reserve.held_bytes() > 0 || self.used() + bytes > self.max_bytes {
            return Ok(());
        }
        if self.disk.free_bytes()? >= 2 * bytes {
            self.reserve.make()?;
        }
        Ok(())
    }

    /// Counts a file that recovery found.
    pub(super) fn found(&self, number: u64, size: u64) {
        self.number.fetch_max(number + 1, Ordering::Relaxed);
        self.used.fetch_add(size, Ordering::Relaxed);
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Gives back the bytes of a file that was removed or cut.
    pub(super) fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        self.full.store(false, Ordering::Relaxed);
    }

    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Answers what it was before.
    pub(super) fn set_full(&self, full: bool) -> bool {
        self.full.swap(full, Ordering::Relaxed)
    }

    pub(super) fn next_number(&self) -> u64 {
        self.number.fetch_add(1, Ordering::Relaxed)
    }

    /// A file of `segment_bytes`, kept or new; a smaller one when nothing else is left. The caller
    /// renames it.
    pub(super) fn take(&self, purpose: Purpose) -> Result<String, WriteError> {
        if let Some(spare) = lock(&self.spares).pop() {
            return Ok(spare);
        }
        self.create(purpose)
    }

    fn create(&self, purpose: Purpose) -> Result<String, WriteError> {
        let created = self.create_of(purpose, self.segment_bytes);
        match (&created, purpose) {
            // What ends is what the reserve is for; when that is little, a small file does.
            (Err(WriteError::Full), Purpose::Upkeep) => {
                if self.reserve.release()?
                    && let Ok(created) = self.create_of(purpose, self.segment_bytes)
                {
                    return Ok(created);
                }
                self.create_of(purpose, small(self.segment_bytes))
            }
            (Ok(_) | Err(_), Purpose::Events | Purpose::Upkeep) => created,
        }
    }

    fn create_of(&self, purpose: Purpose, bytes: u64) -> Result<String, WriteError> {
        let limit = match purpose {
            Purpose::Events => self.max_bytes - self.reserve_bytes,
            Purpose::Upkeep => self.max_bytes - self.reserve.held_bytes(),
        };
        let room = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            (used + bytes <= limit).then_some(used + bytes)
        });
        if room.is_err() {
            return Err(WriteError::Full);
        }
        let created = self.create_counted(purpose, bytes);
        if created.is_err() {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        }
        created
    }

    fn create_counted(&self, purpose: Purpose, bytes: u64) -> Result<String, WriteError> {
        if purpose == Purpose::Events && !self.has_disk()? {
            return Err(WriteError::Full);
        }
        let name = spare_name(self.next_number());
        let created = self.disk.create(&name, bytes);
        match &created {
            // A quota counts otherwise than the file system does.
            Err(WriteError::Full) => self.tell(self.disk.free_bytes()?),
            Ok(_) if purpose == Purpose::Events => self.told.store(false, Ordering::Relaxed),
            Ok(_) | Err(WriteError::Fault(_)) => {}
        }
        created.map(|_file| name)
    }

    /// Whether the file system has room for another segment of events, and says so once when it has
    /// not: the bytes that the spool uses do not show that.
    pub(super) fn has_disk(&self) -> Result<bool, StoreFault> {
        let free = self.disk.free_bytes()?;
        if free < self.needed() {
            self.tell(free);
            return Ok(false);
        }
        Ok(true)
    }

    /// What others put on the file system must not take the room that deliveries need.
    fn needed(&self) -> u64 {
        2 * self.reserve_bytes + self.segment_bytes - self.reserve.held_bytes()
    }

    fn tell(&self, free_bytes: u64) {
        if self.told.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::warn!(
            path = %self.disk.root().display(),
            free_bytes,
            needed_bytes = self.needed(),
            "the file system of the spool has too little room for new events: free some there, \
             move the spool, or give it fewer max_bytes, of which the need follows"
        );
    }

    /// Makes a spare when there is none; no room for one is no fault. Room that came back is seen
    /// here, for while events are refused nobody may be sending any that would find it.
    pub(super) fn prepare(&self) -> Result<(), StoreFault> {
        if !lock(&self.spares).is_empty() {
            // Some file systems copy what is overwritten, so a spare alone is no room there.
            if self.is_full() && self.disk.free_bytes()? >= self.segment_bytes {
                self.set_full(false);
            }
            return Ok(());
        }
        match self.create(Purpose::Events) {
            Ok(spare) => self.keep(spare),
            Err(WriteError::Full) => {}
            Err(WriteError::Fault(fault)) => return Err(fault),
        }
        Ok(())
    }

    /// Renames a file that is counted into a spare, or removes it. The caller syncs the directories
    /// before it hands the spare to [`Pool::keep`], for from then on it is overwritten; `pending`
    /// says how many it has in hand.
    pub(super) fn put(
        &self,
        file: &str,
        size: u64,
        pending: usize,
    ) -> Result<Option<String>, StoreFault> {
        if size == self.segment_bytes && lock(&self.spares).len() + pending < SPARES_MAX {
            let spare = spare_name(self.next_number());
            self.disk.rename(file, &spare)?;
            return Ok(Some(spare));
        }
        self.disk.remove(file)?;
        self.give_back(size);
        Ok(None)
    }

    /// Makes a spare available.
    pub(super) fn keep(&self, spare: String) {
        lock(&self.spares).push(spare);
        self.full.store(false, Ordering::Relaxed);
    }

    /// Gives a spare back to the file system, or the reserve; says whether there was one.
    pub(super) fn shrink(&self) -> Result<bool, StoreFault> {
        let Some(spare) = lock(&self.spares).pop() else { return self.reserve.release() };
        self.disk.remove(&spare)?;
        self.give_back(self.segment_bytes);
        Ok(true)
    }
}

fn spare_name(number: u64) -> String {
    format!("{}/{number}.spare", LogKind::Accepted.dir())
}

/// Bytes of a segment on a full disk. Room for the largest event that is taken by default.
pub(super) fn small(segment_bytes: u64) -> u64 {
    (segment_bytes / 8).max(64 << 10).min(segment_bytes)
}

/// Room in the reserve for what is written beside the two segments of retries and dead letters, and
/// may come first: their acknowledgements, notes, what is in hand, and dedupe keys, of which a store
/// of large segments has more.
fn beside(segment_bytes: u64) -> u64 {
    small(segment_bytes).max(256 << 10)
}

/// A sixteenth, from 16 to 256 MiB; of a small store a quarter, which two segments fill.
fn reserve_of(max_bytes: u64) -> u64 {
    (max_bytes / 16).clamp(16 << 20, 256 << 20).min(max_bytes / 4)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::files::Real;
    use super::*;

    #[test]
    fn the_reserve_is_for_upkeep_alone() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::new(Arc::new(Real), dir.path().to_owned());
        disk.make_dir(LogKind::Accepted.dir()).unwrap();
        let pool = Pool::new(disk, 1 << 17, 1 << 20);
        let taken: Vec<_> = (0..6).map(|_| pool.take(Purpose::Events).unwrap()).collect();
        assert!(matches!(pool.take(Purpose::Events), Err(WriteError::Full)));
        assert!(pool.take(Purpose::Upkeep).is_ok());
        assert!(pool.take(Purpose::Upkeep).is_ok());
        assert!(matches!(pool.take(Purpose::Upkeep), Err(WriteError::Full)));
        assert_eq!(pool.used(), 1 << 20);
        let spare = pool.put(&taken[0], 1 << 17, 0).unwrap();
        pool.keep(spare.expect("there was none"));
        assert_eq!(pool.used(), 1 << 20, "a spare is room taken");
        assert!(pool.take(Purpose::Events).is_ok());
    }

    #[test]
    fn reserves_follow_the_size() {
        assert_eq!(reserve_of(20 << 30), 256 << 20);
        assert_eq!(reserve_of(1 << 30), 64 << 20);
        assert_eq!(reserve_of(100 << 20), 16 << 20);
        assert_eq!(reserve_of(16 << 20), 4 << 20);
    }
}
