//! The writing end of one log: frames records, rolls to the next segment, writes and syncs.
//!
//! Used by the committing thread alone. What it wrote becomes visible to readers only when the
//! caller, after the sync, tells the [`State`].

use std::sync::{Arc, Mutex};

use super::crypt::KeyId;
use super::files::{Disk, LogFile, WriteError};
use super::pool::{Pool, Purpose};
use super::record::{Record, Stamp};
use super::segment::{Head, SLOTS_MAX, Segment, SegmentId};
use super::state::State;
use super::{LogKind, lock};
use crate::spool::StoreFault;

/// A record to be written, and the lines it is owed to.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) record: Record,
    pub(super) lines: Vec<usize>,
}

/// Where a draft went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) segment: SegmentId,
    pub(super) seq: u64,
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) owed: u32,
}

#[derive(Debug)]
struct Active {
    id: SegmentId,
    seed: u32,
    key: Option<KeyId>,
    file: Arc<LogFile>,
    lines: Vec<usize>,
    end: u64,
    size: u64,
}

/// The writing end of one log.
#[derive(Debug)]
pub(super) struct Writer {
    log: LogKind,
    disk: Disk,
    pool: Arc<Pool>,
    active: Option<Active>,
    next_seq: u64,
    /// Where a segment ends before it is full.
    roll_at: u64,
    buffer: Vec<u8>,
}

impl Writer {
    /// Goes on where recovery ended: in the last segment of `state` unless that is sealed.
    pub(super) fn new(
        log: LogKind,
        disk: Disk,
        pool: Arc<Pool>,
        roll_at: u64,
        state: &State,
    ) -> Self {
        let track = state.track(log);
        let last = track.segments.values().next_back().filter(|segment| !segment.sealed);
        let active = last.map(|segment| Active {
            id: segment.head.id(),
            seed: segment.seed,
            key: segment.head.key,
            file: Arc::clone(&segment.file),
            lines: segment.lines.clone(),
            end: segment.end,
            size: segment.size,
        });
        Self { log, disk, pool, active, next_seq: track.next_seq, roll_at, buffer: Vec::new() }
    }

    /// Writes `drafts` as one commit, which is durable after [`Writer::sync`].
    ///
    /// # Errors
    /// [`WriteError::Full`] when nothing of it was or will be stored.
    pub(super) fn append(
        &mut self,
        drafts: &[Draft],
        state: &Mutex<State>,
    ) -> Result<Vec<Written>, WriteError> {
        let bytes: usize = drafts.iter().map(|draft| draft.record.encoded_len()).sum();
        let fits = |active: &Active| {
            active.end + bytes as u64 <= active.size
                && active.end < self.roll_at
                && active.key == self.disk.keys().active()
                && drafts.iter().flat_map(|d| &d.lines).all(|line| active.lines.contains(line))
        };
        if !self.active.as_ref().is_some_and(fits) {
            self.roll(drafts, state)?;
        }
        let Some(active) = &mut self.active else { return Err(WriteError::Full) };
        if active.end + bytes as u64 > active.size {
            return Err(WriteError::Full);
        }
        self.buffer.clear();
        let mut written = Vec::with_capacity(drafts.len());
        for (place, draft) in (0..).zip(drafts) {
            let seq = self.next_seq + u64::from(place);
            let owed = mask(&draft.lines, &active.lines);
            let start = self.buffer.len();
            let stamp = Stamp { seq, owed, place, last: place as usize + 1 == drafts.len() };
            draft.record.encode(stamp, active.seed, active.file.seal(), &mut self.buffer);
            written.push(Written {
                segment: active.id,
                seq,
                offset: active.end + start as u64,
                len: (self.buffer.len() - start) as u32,
                owed,
            });
        }
        loop {
            match active.file.write(&self.buffer, active.end) {
                Ok(()) => break,
                // Some file systems need room to overwrite; what ends is what the reserve is for.
                Err(WriteError::Full)
                    if Purpose::of(self.log) == Purpose::Upkeep && self.pool.shrink()? => {}
                Err(WriteError::Full) => {
                    self.cut(state)?;
                    return Err(WriteError::Full);
                }
                Err(WriteError::Fault(fault)) => return Err(fault.into()),
            }
        }
        active.end += self.buffer.len() as u64;
        self.next_seq += drafts.len() as u64;
        Ok(written)
    }

    /// Makes what was appended durable.
    pub(super) fn sync(&self) -> Result<(), StoreFault> {
        self.active.as_ref().map_or(Ok(()), |active| active.file.sync())
    }

    /// Begins a segment that knows every line of `drafts`.
    fn roll(&mut self, drafts: &[Draft], state: &Mutex<State>) -> Result<(), WriteError> {
        let mut lines: Vec<usize> = drafts.iter().flat_map(|draft| draft.lines.clone()).collect();
        lines.sort_unstable();
        lines.dedup();
        let names = {
            let state = lock(state);
            // The others come along, so that the next to be named needs no roll.
            let others = (0..state.lines.len()).filter(|line| state.lines[*line].named);
            for line in others {
                if lines.len() < SLOTS_MAX && !lines.contains(&line) {
                    lines.push(line);
                }
            }
            lines.iter().map(|line| state.lines[*line].name.clone()).collect()
        };
        let head = Head::new(self.log, self.pool.next_number(), self.next_seq, names);
        let mut head = head.encrypted(self.disk.keys().active());
        let spare = self.pool.take(Purpose::of(self.log))?;
        let (file, size) = match self.begin(&mut head, &spare) {
            Ok(begun) => begun,
            Err(WriteError::Full) => {
                let size = self.disk.open(&spare)?.size()?;
                self.disk.remove(&spare)?;
                self.pool.give_back(size);
                return Err(WriteError::Full);
            }
            Err(WriteError::Fault(fault)) => return Err(fault.into()),
        };
        let segment = Segment::new(head, lines, file, size);
        let active = Active {
            id: segment.head.id(),
            seed: segment.seed,
            key: segment.head.key,
            file: Arc::clone(&segment.file),
            lines: segment.lines.clone(),
            end: segment.end,
            size,
        };
        let mut state = lock(state);
        state.track_mut(self.log).segments.insert(segment.head.id(), segment);
        if let Some(old) = self.active.replace(active) {
            let size = if old.size - old.end > old.size / 4 { old.end } else { old.size };
            state.seal(self.log, old.id, size);
            drop(state);
            // What a segment does not need that ends long before it is full.
            if size < old.size {
                old.file.truncate(size)?;
                self.pool.give_back(old.size - size);
            }
        }
        Ok(())
    }

    fn begin(&self, head: &mut Head, spare: &str) -> Result<(Arc<LogFile>, u64), WriteError> {
        let file = self.disk.open_as(spare, &head.path())?;
        head.fresh = Head::is_fresh(&file)?;
        head.write(&file)?;
        file.sync()?;
        self.disk.rename(spare, &head.path())?;
        self.disk.sync_dir(self.log.dir())?;
        if self.log != LogKind::Accepted {
            // The spare lay there; one that comes back after a crash would be the segment twice.
            self.disk.sync_dir(LogKind::Accepted.dir())?;
        }
        self.pool.manifest.add(self.log, head.number, head.first)?;
        let size = file.size()?;
        let seal = self.disk.keys().seal_of(head);
        let seal = seal.map_err(|missing| missing.fault(&head.path(), self.disk.keys()))?;
        Ok((Arc::new(file.sealed(seal)), size))
    }

    /// Ends the active segment before what a failed write may have left in it. Its sequences will
    /// be used again, under another nonce.
    fn cut(&mut self, state: &Mutex<State>) -> Result<(), StoreFault> {
        let Some(active) = self.active.take() else { return Ok(()) };
        active.file.truncate(active.end)?;
        active.file.sync()?;
        lock(state).seal(self.log, active.id, active.end);
        self.pool.give_back(active.size - active.end);
        Ok(())
    }
}

/// The slots of `lines` among `slots`.
fn mask(lines: &[usize], slots: &[usize]) -> u32 {
    slots.iter().enumerate().fold(
        0,
        |mask, (slot, line)| {
            if lines.contains(line) { mask | 1 << slot } else { mask }
        },
    )
}
