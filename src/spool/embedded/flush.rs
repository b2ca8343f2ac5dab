//! The thread that writes acknowledgements, notes how far everything is durable, and frees what is
//! settled.
//!
//! Blocks are written ten times a second and synced each second. A segment goes only after a sync
//! by which everything that follows from its records is durable, keys included.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::acks::{self, BLOCK, Note, Sealed};
use super::dead::index;
use super::files::{LogFile, WriteError};
use super::inbox::Bell;
use super::keys::Keys;
use super::noted::{self, Noted, Positions};
use super::segment::{Segment, SegmentId};
use super::state::State;
use super::{LogKind, Shared, lock};
use crate::spool::StoreFault;

/// How often changed blocks are written.
const WRITE_EVERY: Duration = Duration::from_millis(100);
/// How often they are synced: what a crash takes is delivered once more.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Blocks taken at once under the lock.
const BLOCKS_MAX: usize = 512;
/// Rounds of that before a sync is due anyway.
const ROUNDS_MAX: usize = 256;
/// Snapshots that wait for the keys to come as far. A snapshot a second.
const WAITING_MAX: usize = 60;

/// Longest wait for a sync that was asked for. Beyond it there is no room for acknowledgements, and
/// what was settled may come back after a crash.
const ROUND_WITHIN: Duration = Duration::from_secs(10);

/// The syncs of acknowledgements, counted as they begin and as they end.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    begun: AtomicU64,
    done: watch::Sender<u64>,
}

impl Rounds {
    fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn end(&self, round: u64) {
        self.done.send_replace(round);
    }

    /// Waits until what is settled by now is on disk, without asking for it.
    #[cfg(test)]
    pub(super) async fn next(&self) {
        let wanted = self.begun.load(Ordering::SeqCst) + 1;
        let ended = self.done.subscribe().wait_for(|done| *done >= wanted).await.map(drop);
        ended.expect("the store holds the sender");
    }

    /// Waits until what is settled by now is on disk; says whether it is. `fault` ends the wait, for
    /// a broken store has no further round.
    pub(super) async fn pass(
        &self,
        bell: &Bell,
        mut fault: watch::Receiver<Option<StoreFault>>,
    ) -> bool {
        // One that began before may have written the blocks already.
        let wanted = self.begun.load(Ordering::SeqCst) + 1;
        let mut done = self.done.subscribe();
        bell.sync();
        let passed = async {
            // Both are cancel-safe.
            tokio::select! {
                passed = done.wait_for(|done| *done >= wanted) => passed.is_ok(),
                _broken = fault.wait_for(Option::is_some) => false,
            }
        };
        tokio::time::timeout(ROUND_WITHIN, passed).await.unwrap_or(false)
    }
}

/// One block on its way to a `.ack`.
#[derive(Debug)]
struct Write {
    log: LogKind,
    segment: SegmentId,
    /// Nothing for the note.
    block: Option<usize>,
    bytes: [u8; BLOCK],
}

/// The thread's own.
pub(super) struct Flusher {
    pub(super) shared: Arc<Shared>,
    keys: Arc<Keys>,
    noted: Noted,
    /// Files written since the last sync.
    unsynced: Vec<Arc<LogFile>>,
    /// Directories likewise.
    dirs: BTreeSet<LogKind>,
    /// Positions whose bits are synced, and whose keys may not be yet.
    waiting: VecDeque<Positions>,
    settled: Positions,
    /// Said once that acknowledgements find no room.
    told: bool,
}

impl Flusher {
    pub(super) fn new(shared: Arc<Shared>, keys: Arc<Keys>, noted: Noted) -> Self {
        let settled = noted.last().settled;
        Self {
            shared,
            keys,
            noted,
            unsynced: Vec::new(),
            dirs: BTreeSet::new(),
            waiting: VecDeque::new(),
            settled,
            told: false,
        }
    }

    /// Runs until it is told to stop, and hands itself back for the last round.
    pub(super) fn run(mut self) -> Self {
        let shared = Arc::clone(&self.shared);
        let mut synced_at = Instant::now();
        if let Err(fault) = shared.pool.prepare() {
            shared.fail(fault);
        }
        loop {
            let rung = shared.bell.wait(WRITE_EVERY);
            if rung.stop || shared.fault().is_some() {
                return self;
            }
            // Whoever waits for room is not to wait for the second to end.
            let due = rung.sync || synced_at.elapsed() >= SYNC_EVERY || shared.pool.is_full();
            let done = if due { self.sync() } else { self.write() };
            if let Err(fault) = done {
                shared.fail(fault);
                return self;
            }
            if due {
                synced_at = Instant::now();
            }
        }
    }

    /// Writes every block that changed.
    fn write(&mut self) -> Result<(), StoreFault> {
        for _ in 0..ROUNDS_MAX {
            let writes = collect(&mut lock(&self.shared.state));
            if writes.is_empty() {
                break;
            }
            let mut writes = writes.into_iter();
            for write in writes.by_ref() {
                if !self.write_one(&write)? {
                    give_back(&mut lock(&self.shared.state), [write].into_iter().chain(writes));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Writes one block; `false` when there is no room for it now.
    fn write_one(&mut self, write: &Write) -> Result<bool, StoreFault> {
        let Some(file) = self.file_of(write)? else { return Ok(false) };
        let offset = write.block.map_or(0, acks::block_offset);
        loop {
            match file.write(&write.bytes, offset) {
                Ok(()) => break,
                Err(WriteError::Full) if self.shared.pool.shrink()? => {}
                Err(WriteError::Full) => return Ok(self.no_room()),
                Err(WriteError::Fault(fault)) => return Err(fault),
            }
        }
        if !self.unsynced.iter().any(|of| Arc::ptr_eq(of, &file)) {
            self.unsynced.push(file);
        }
        self.told = false;
        Ok(true)
    }

    /// Acknowledgements wait in memory: after a crash they are deliveries made twice.
    fn no_room(&mut self) -> bool {
        if !self.told {
            self.told = true;
            tracing::error!("no room on the disk to note what was delivered");
        }
        false
    }

    /// The `.ack` of a segment, made when there is none; nothing when there is no room for it.
    fn file_of(&mut self, write: &Write) -> Result<Option<Arc<LogFile>>, StoreFault> {
        let path = {
            let state = lock(&self.shared.state);
            match state.track(write.log).segments.get(&write.segment) {
                Some(Segment { ack: Some(ack), .. }) => return Ok(Some(Arc::clone(ack))),
                Some(segment) => segment.head.ack_path(),
                // Only this thread frees segments.
                None => return Ok(None),
            }
        };
        let file = loop {
            match self.shared.disk.create(&path, 0) {
                Ok(file) => break Arc::new(file),
                Err(WriteError::Full) if self.shared.pool.shrink()? => {}
                Err(WriteError::Full) => {
                    self.no_room();
                    return Ok(None);
                }
                Err(WriteError::Fault(fault)) => return Err(fault),
            }
        };
        self.dirs.insert(write.log);
        let mut state = lock(&self.shared.state);
        if let Some(segment) = state.track_mut(write.log).segments.get_mut(&write.segment) {
            segment.ack = Some(Arc::clone(&file));
        }
        Ok(Some(file))
    }

    /// Writes and syncs every block, notes how far that goes, and frees what is done.
    pub(super) fn sync(&mut self) -> Result<(), StoreFault> {
        let round = self.shared.rounds.begin();
        if !self.told {
            // Whatever was settled before the turn before this one is written.
            self.shared.handed.turn_over();
        }
        // Taken before the blocks: a bit that is set later is not part of what is noted.
        let positions = positions(&lock(&self.shared.state));
        self.write()?;
        let complete = !self.told;
        for file in std::mem::take(&mut self.unsynced) {
            file.sync()?;
        }
        for log in std::mem::take(&mut self.dirs) {
            self.shared.disk.sync_dir(log.dir())?;
        }
        if complete {
            self.shared.rounds.end(round);
            self.note(positions)?;
            self.free()?;
        }
        self.shared.pool.prepare()
    }

    fn note(&mut self, positions: Positions) -> Result<(), StoreFault> {
        if self.waiting.back() != Some(&positions) && self.settled != positions {
            self.waiting.push_back(positions);
        }
        // An end that was told before a later record is durable once the keys have that record, or
        // when nothing of theirs waits to be written.
        let durable = self.keys.is_durable();
        let covered = self.keys.covered();
        let log = LogKind::Accepted.index();
        while let Some(first) = self.waiting.front() {
            let is_settled = first[log] < covered || (durable && first[log] <= covered);
            if is_settled {
                self.settled = *first;
            } else if self.waiting.len() <= WAITING_MAX {
                break;
            }
            self.waiting.pop_front();
        }
        let note = noted::Note { synced: positions, settled: self.settled };
        match self.noted.write(note) {
            // It is only how much a recovery need not read.
            Ok(()) | Err(WriteError::Full) => Ok(()),
            Err(WriteError::Fault(fault)) => Err(fault),
        }
    }

    /// Frees the segments of which everything is settled, and synced by now.
    fn free(&mut self) -> Result<(), StoreFault> {
        let (covered, ended) = (self.keys.covered(), self.settled[LogKind::Dead.index()]);
        for log in LogKind::ALL {
            let freed = {
                let mut state = lock(&self.shared.state);
                let segments = &mut state.track_mut(log).segments;
                let is_free = |_: &SegmentId, segment: &mut Segment| {
                    let synced = !segment.bits.has_dirty() && !segment.note_dirty;
                    // What the keys were told of its records is on disk, or a crash would forget it.
                    let known = match log {
                        LogKind::Accepted => segment.next_seq() <= covered + 1,
                        LogKind::Parked => true,
                        LogKind::Dead => segment.next_seq() <= ended + 1,
                    };
                    segment.is_done() && synced && known
                };
                segments.extract_if(.., is_free).map(|(_, segment)| segment).collect::<Vec<_>>()
            };
            if freed.is_empty() {
                continue;
            }
            let numbers = freed.iter().map(|segment| segment.head.number);
            self.shared.pool.manifest.remove(log, numbers)?;
            let mut spares: Vec<String> = Vec::new();
            for segment in &freed {
                let pending = spares.len();
                let (path, size) = (segment.head.path(), segment.size);
                if segment.head.key.is_none() && self.shared.disk.keys().is_active() {
                    // What it held from before there was a key is not to lie about in a spare.
                    self.shared.disk.remove(&path)?;
                    self.shared.pool.give_back(size);
                    continue;
                }
                spares.extend(self.shared.pool.put(&path, size, pending)?);
            }
            // An acknowledgement that outlives its segment is harmless, the reverse is not.
            self.shared.disk.sync_dir(log.dir())?;
            self.shared.disk.sync_dir(LogKind::Accepted.dir())?;
            for segment in &freed {
                self.shared.disk.remove(&segment.head.ack_path())?;
                if log == LogKind::Dead {
                    self.shared.disk.remove(&index::path(segment.head.number))?;
                }
            }
            spares.into_iter().for_each(|spare| self.shared.pool.keep(spare));
        }
        Ok(())
    }

    /// Gives up everything but what is noted last, when the keys are closed.
    pub(super) fn into_noted(self) -> LastNote {
        let positions = positions(&lock(&self.shared.state));
        LastNote { noted: self.noted, positions }
    }
}

/// The note of an orderly end: everything is settled.
#[derive(Debug)]
pub(super) struct LastNote {
    noted: Noted,
    positions: Positions,
}

impl LastNote {
    pub(super) fn write(mut self) -> Result<(), StoreFault> {
        let note = noted::Note { synced: self.positions, settled: self.positions };
        match self.noted.write(note) {
            Ok(()) | Err(WriteError::Full) => Ok(()),
            Err(WriteError::Fault(fault)) => Err(fault),
        }
    }
}

fn positions(state: &State) -> Positions {
    LogKind::ALL.map(|log| state.track(log).next_seq - 1)
}

/// Takes some of the blocks that changed.
fn collect(state: &mut State) -> Vec<Write> {
    let mut writes = Vec::new();
    for log in LogKind::ALL {
        for (id, segment) in &mut state.track_mut(log).segments {
            if writes.len() >= BLOCKS_MAX {
                return writes;
            }
            let mut push = |block, bytes| writes.push(Write { log, segment: *id, block, bytes });
            if std::mem::take(&mut segment.note_dirty) {
                let records = segment.bits.len();
                let sealed = segment.sealed.then_some(Sealed { end: segment.end, records });
                push(None, Note::of(&segment.head, sealed).encode());
            }
            while let Some((index, bytes)) = segment.bits.pop_dirty(segment.seed) {
                push(Some(index), bytes);
            }
        }
    }
    writes
}

/// Puts back what did not reach the disk.
fn give_back(state: &mut State, writes: impl Iterator<Item = Write>) {
    for write in writes {
        let track = state.track_mut(write.log);
        if let Some(segment) = track.segments.get_mut(&write.segment) {
            match write.block {
                Some(index) => segment.bits.mark_dirty(index),
                None => segment.note_dirty = true,
            }
        }
    }
}
