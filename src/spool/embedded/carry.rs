//! Segments of `retry/` and `dead/` that a few unsettled records keep alive: these are written
//! anew at the end of their log, so that the file comes back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::inbox::Command;
use super::record::{self, Prior, Record, Sources};
use super::segment::{Segment, SegmentId};
use super::upkeep::ask;
use super::walk::{self, Readable};
use super::{LogKind, Shared, lock};
use crate::clock::Timestamp;
use crate::spool::{DeliveryId, StoreFault};

/// A segment is carried when fewer than one in so many of its deliveries is unsettled.
const LIVE_SHARE: u64 = 16;
/// Records carried by one commit.
const RECORDS_MAX: usize = 256;
/// Bytes of them, unless a single one has more.
const BYTES_MAX: usize = 256 << 10;
/// How long a segment is left alone of which not all could be carried: the rest is leased.
const AGAIN: Duration = Duration::from_secs(60);

/// A record on its way to the end of its log.
#[derive(Debug)]
pub(super) struct Carried {
    pub(super) line: usize,
    /// As it will stand there; its prior says where it stood.
    pub(super) record: Record,
    pub(super) from: Prior,
    /// By which a waiting delivery is found.
    pub(super) key: (Timestamp, DeliveryId),
}

/// Carries for one log.
#[derive(Debug)]
pub(super) struct Carrier {
    log: LogKind,
    tried: BTreeMap<SegmentId, Instant>,
}

impl Carrier {
    pub(super) const fn new(log: LogKind) -> Self {
        Self { log, tried: BTreeMap::new() }
    }

    /// Carries what one segment has left, if there is one.
    pub(super) fn step(&mut self, shared: &Shared, now: Instant) -> Result<(), StoreFault> {
        let Some((segment, settled, lines)) = self.next(shared, now) else { return Ok(()) };
        let waiting =
            if self.log == LogKind::Parked { waiting(shared, &segment) } else { BTreeMap::new() };
        self.tried.insert(segment.id, now);
        let first = segment.seqs.start;
        let mut sources = Sources::default();
        let (mut part, mut bytes) = (Vec::new(), 0);
        walk::visit(&segment, |view, _| {
            let seq = view.seq();
            let slot = view.owed().trailing_zeros() as u8;
            let line = lines.get(usize::from(slot)).copied();
            let is_settled = settled.get((seq - first) as usize).copied().unwrap_or(true);
            let (Some(line), false) = (line, is_settled) else { return Ok(()) };
            let Some(record) = view.decode(&mut sources, segment.file.seal()) else {
                return Ok(());
            };
            let id = view.delivery().unwrap_or(DeliveryId::begun_by(seq, slot));
            let from = Prior { log: self.log, seq, slot };
            let record = Record { prior: Some(from), delivery: Some(id), ..record };
            let len = record::aligned(view.len());
            if !part.is_empty() && (part.len() >= RECORDS_MAX || bytes + len > BYTES_MAX) {
                carry(shared, self.log, std::mem::take(&mut part), bytes)?;
                bytes = 0;
            }
            bytes += len;
            // A letter has no such key, and nobody asks for it.
            let key = waiting.get(&(seq, line)).copied().unwrap_or((record.at, id));
            part.push(Carried { line, key, record, from });
            Ok(())
        })?;
        if !part.is_empty() {
            carry(shared, self.log, part, bytes)?;
        }
        Ok(())
    }

    /// The oldest segment that is worth it, with the records that are settled and its lines.
    fn next(&mut self, shared: &Shared, now: Instant) -> Option<(Readable, Vec<bool>, Vec<usize>)> {
        let state = lock(&shared.state);
        let segments = &state.track(self.log).segments;
        self.tried.retain(|id, _| segments.contains_key(id));
        let worth = |of: &Segment| {
            let unset = of.bits.unset();
            of.sealed && unset > 0 && unset * LIVE_SHARE < of.bits.len()
        };
        let rested =
            |id| self.tried.get(id).is_none_or(|tried| now.duration_since(*tried) >= AGAIN);
        let (_, segment) = segments.iter().find(|(id, of)| worth(of) && rested(id))?;
        let slots = segment.head.names.len() as u8;
        let is_settled = |index| (0..slots).all(|slot| segment.bits.is_set(index, slot));
        let settled = (0..segment.bits.len()).map(is_settled).collect();
        Some((Readable::of(segment), settled, segment.lines.clone()))
    }
}

/// By which those are found that wait for their time and have their record in `segment`.
fn waiting(shared: &Shared, segment: &Readable) -> BTreeMap<(u64, usize), (Timestamp, DeliveryId)> {
    let mut found = BTreeMap::new();
    for (index, line) in lock(&shared.state).lines.iter().enumerate() {
        for (key, waiting) in &line.due {
            let place = waiting.place;
            if place.log == LogKind::Parked && segment.seqs.contains(&place.seq) {
                found.insert((place.seq, index), *key);
            }
        }
    }
    found
}

fn carry(
    shared: &Shared,
    log: LogKind,
    records: Vec<Carried>,
    bytes: usize,
) -> Result<usize, StoreFault> {
    // Nobody who looks for a letter is to find it neither here nor there.
    let _looking = (log == LogKind::Dead).then(|| shared.moving.blocking_lock());
    ask(shared, |answer| Command::Carry { log, records, answer }, bytes)
}
