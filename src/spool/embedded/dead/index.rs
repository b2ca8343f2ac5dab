//! Where the letters of a segment of `dead/` are, by name, so that one is found without reading all.
//!
//! The records alone are truth: a file `N.idx` beside a sealed segment is made from them when it is
//! first asked for, is not synced, and is made again when it does not pass. Of the segment that is
//! still written to, the entries are in memory.

use std::collections::BTreeMap;

use super::super::files::{LogFile, WriteError};
use super::super::record;
use super::super::segment::{DATA_START, Segment, SegmentId};
use super::super::walk::{self, Readable};
use super::super::{LogKind, Place, Shared, lock};
use crate::clock::Timestamp;
use crate::spool::{DeliveryId, StoreFault};

const MAGIC: [u8; 8] = *b"BRINDEX1";
/// Magic, checksum, count, and the nonce of the segment.
const HEAD: usize = 32;
const ENTRY: usize = 32;
/// Entries read at once.
const BLOCK: usize = 128;

/// Where one letter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: DeliveryId,
    /// When it was given up.
    pub(super) at: Timestamp,
    pub(super) place: Place,
}

impl Entry {
    fn encode(&self, first: u64, out: &mut Vec<u8>) {
        let Place { seq, slot, offset, len, .. } = self.place;
        out.extend_from_slice(&self.id.0.to_le_bytes());
        out.extend_from_slice(&self.at.as_millis().to_le_bytes());
        // Both are small: a segment's records are at least a hundred bytes, and 8-aligned.
        out.extend_from_slice(&((seq - first) as u32).to_le_bytes());
        out.extend_from_slice(&((offset / 8) as u32).to_le_bytes());
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&u32::from(slot).to_le_bytes());
    }

    fn decode(bytes: &[u8], first: u64) -> Self {
        let u32_at = |at: usize| bytes[at..at + 4].try_into().map_or(0, u32::from_le_bytes);
        let u64_at = |at: usize| bytes[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
        Self {
            id: DeliveryId(u64_at(0)),
            at: Timestamp::from_millis(u64_at(8)),
            place: Place {
                log: LogKind::Dead,
                seq: first + u64::from(u32_at(16)),
                offset: u64::from(u32_at(20)) * 8,
                len: u32_at(24),
                slot: u32_at(28) as u8,
            },
        }
    }
}

#[derive(Debug)]
enum Kept {
    /// By id.
    Memory(Vec<Entry>),
    File {
        file: LogFile,
        count: usize,
    },
}

/// The letters of one segment, by id. Those that were settled when it was made are not in it.
#[derive(Debug)]
pub(super) struct Index {
    first: u64,
    kept: Kept,
    /// Up to here the records are in it.
    offset: u64,
    seq: u64,
    /// When the oldest letter was given up, of those that were there.
    pub(super) oldest: Option<Timestamp>,
}

/// What it takes to index a segment.
#[derive(Clone, Debug)]
struct Wanted {
    readable: Readable,
    nonce: [u8; 16],
    seed: u32,
    sealed: bool,
    /// Of the records from `from` on, those that are no letters any more.
    settled: Vec<bool>,
}

impl Wanted {
    fn of(segment: &Segment, from: u64) -> Self {
        let slots = segment.head.names.len() as u8;
        let is_settled = |index| (0..slots).all(|slot| segment.bits.is_set(index, slot));
        let indexes = from - segment.head.first..segment.bits.len();
        Self {
            readable: Readable::of(segment),
            nonce: segment.head.nonce,
            seed: segment.seed,
            sealed: segment.sealed,
            settled: indexes.map(is_settled).collect(),
        }
    }
}

/// The indexes that were asked for.
#[derive(Debug, Default)]
pub(in super::super) struct Indexes(BTreeMap<SegmentId, Index>);

impl Indexes {
    /// Brings the index of a segment up to date and answers it; nothing when the segment is gone or
    /// has no letters.
    pub(super) fn of(
        &mut self,
        shared: &Shared,
        id: SegmentId,
    ) -> Result<Option<&Index>, StoreFault> {
        let wanted = {
            let state = lock(&shared.state);
            let segments = &state.track(LogKind::Dead).segments;
            self.0.retain(|known, _| segments.contains_key(known));
            let Some(segment) = segments.get(&id).filter(|of| of.bits.unset() > 0) else {
                return Ok(None);
            };
            let from = self.0.get(&id).map_or(id.first, |index| index.seq);
            Wanted::of(segment, from)
        };
        let index = match self.0.remove(&id) {
            Some(index) => index,
            None => Index::load(shared, &wanted)?.unwrap_or_else(|| Index::empty(id.first)),
        };
        let index = index.complete(shared, &wanted)?;
        Ok(Some(&*self.0.entry(id).or_insert(index)))
    }

    /// The index of a segment as it was last asked for.
    pub(super) fn known(&self, id: SegmentId) -> Option<&Index> {
        self.0.get(&id)
    }

    /// The oldest letter of a segment is another by now.
    pub(super) fn set_oldest(&mut self, id: SegmentId, oldest: Option<Timestamp>) {
        if let Some(index) = self.0.get_mut(&id) {
            index.oldest = oldest;
        }
    }
}

/// The path of the index of a segment.
pub(in super::super) fn path(number: u64) -> String {
    format!("{}/{number}.idx", LogKind::Dead.dir())
}

impl Index {
    const fn empty(first: u64) -> Self {
        let kept = Kept::Memory(Vec::new());
        Self { first, kept, offset: DATA_START, seq: first, oldest: None }
    }

    /// The index that lies beside a sealed segment, if it passes.
    fn load(shared: &Shared, wanted: &Wanted) -> Result<Option<Self>, StoreFault> {
        let path = path(wanted.readable.id.number);
        if !wanted.sealed || !shared.disk.has(&path) {
            return Ok(None);
        }
        let file = shared.disk.open(&path)?;
        let bytes = file.read(0, usize::try_from(file.size()?).unwrap_or(0))?;
        let Some((head, entries)) = bytes.split_at_checked(HEAD) else { return Ok(None) };
        let count = head[12..16].try_into().map_or(0, u32::from_le_bytes) as usize;
        let crc = crc32c::crc32c_append(wanted.seed, entries).to_le_bytes();
        let passes = head[..8] == MAGIC
            && head[8..12] == crc
            && head[16..HEAD] == wanted.nonce
            && entries.len() == count * ENTRY;
        if !passes {
            return Ok(None);
        }
        let first = wanted.readable.seqs.start;
        let ages = entries.chunks_exact(ENTRY).map(|entry| Entry::decode(entry, first).at);
        Ok(Some(Self {
            first,
            oldest: ages.min(),
            kept: Kept::File { file, count },
            offset: wanted.readable.end,
            seq: wanted.readable.seqs.end,
        }))
    }

    /// Reads the records that are not in it yet; once its segment is sealed it goes to a file.
    fn complete(mut self, shared: &Shared, wanted: &Wanted) -> Result<Self, StoreFault> {
        let Kept::Memory(entries) = &mut self.kept else { return Ok(self) };
        let readable = &wanted.readable;
        if self.seq < readable.seqs.end {
            let (from, before) = (self.seq, entries.len());
            let gaps = walk::visit_from(readable, (self.offset, from), |view, offset| {
                let seq = view.seq();
                let settled = wanted.settled.get((seq - from) as usize).copied();
                if let (Some(id), Some(false)) = (view.delivery(), settled) {
                    let slot = view.owed().trailing_zeros() as u8;
                    let len = record::aligned(view.len()) as u32;
                    let place = Place { log: LogKind::Dead, seq, slot, offset, len };
                    entries.push(Entry { id, at: view.at(), place });
                }
                Ok(())
            })?;
            let youngest = entries[before..].iter().map(|entry| entry.at).min();
            self.oldest = self.oldest.into_iter().chain(youngest).min();
            entries.sort_unstable_by_key(|entry| entry.id);
            (self.offset, self.seq) = (readable.end, readable.seqs.end);
            for gap in gaps {
                super::lose(shared, readable.id, &readable.file, gap)?;
            }
        }
        if wanted.sealed
            && let Some(kept) = keep(shared, wanted, self.first, entries)?
        {
            self.kept = kept;
        }
        Ok(self)
    }

    const fn len(&self) -> usize {
        match &self.kept {
            Kept::Memory(entries) => entries.len(),
            Kept::File { count, .. } => *count,
        }
    }
}

/// Writes the entries beside their segment; nothing when there is no room, and they stay in memory.
fn keep(
    shared: &Shared,
    wanted: &Wanted,
    first: u64,
    entries: &[Entry],
) -> Result<Option<Kept>, StoreFault> {
    let mut bytes = vec![0; HEAD];
    entries.iter().for_each(|entry| entry.encode(first, &mut bytes));
    bytes[..8].copy_from_slice(&MAGIC);
    let crc = crc32c::crc32c_append(wanted.seed, &bytes[HEAD..]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    bytes[12..16].copy_from_slice(&(entries.len() as u32).to_le_bytes());
    bytes[16..HEAD].copy_from_slice(&wanted.nonce);
    let path = path(wanted.readable.id.number);
    let written = shared.disk.create(&path, 0).and_then(|file| {
        file.write(&bytes, 0)?;
        Ok(file)
    });
    match written {
        Ok(file) => Ok(Some(Kept::File { file, count: entries.len() })),
        Err(WriteError::Full) => {
            shared.disk.remove(&path)?;
            Ok(None)
        }
        Err(WriteError::Fault(fault)) => Err(fault),
    }
}

/// Goes through an index in the order of ids, which may only rise.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    index: &'a Index,
    at: usize,
    block: Vec<Entry>,
    start: usize,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(index: &'a Index) -> Self {
        Self { index, at: 0, block: Vec::new(), start: 0 }
    }

    fn get(&mut self, at: usize) -> Result<Option<Entry>, StoreFault> {
        let (file, count) = match &self.index.kept {
            Kept::Memory(entries) => return Ok(entries.get(at).copied()),
            Kept::File { file, count } => (file, *count),
        };
        if at >= count {
            return Ok(None);
        }
        if !(self.start..self.start + self.block.len()).contains(&at) {
            let len = BLOCK.min(count - at) * ENTRY;
            let bytes = file.read((HEAD + at * ENTRY) as u64, len)?;
            let entries = bytes.chunks_exact(ENTRY);
            self.block = entries.map(|entry| Entry::decode(entry, self.index.first)).collect();
            self.start = at;
        }
        Ok(self.block.get(at - self.start).copied())
    }

    /// The entry at hand.
    pub(super) fn peek(&mut self) -> Result<Option<Entry>, StoreFault> {
        self.get(self.at)
    }

    /// Goes on by one.
    pub(super) const fn step(&mut self) {
        self.at += 1;
    }

    /// Goes on to the first entry from `id` on: by steps that double, then by halves, so that
    /// neighbours are near and strangers are not far.
    pub(super) fn seek(&mut self, id: DeliveryId) -> Result<(), StoreFault> {
        let (mut low, mut stride) = (self.at, 1);
        while self.get(low + stride - 1)?.is_some_and(|entry| entry.id < id) {
            low += stride;
            stride *= 2;
        }
        let mut high = (low + stride - 1).min(self.index.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.get(middle)? {
                Some(entry) if entry.id < id => low = middle + 1,
                Some(_) | None => high = middle,
            }
        }
        self.at = low;
        Ok(())
    }
}
