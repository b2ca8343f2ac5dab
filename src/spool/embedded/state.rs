//! What is known of an open store: segments, lines, leases, sums. One lock around it all, held for
//! moments; nothing here touches a file.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;

use super::damage::Damage;
use super::lease::{Delivery, Held, Line, Waiting};
use super::log::Written;
use super::record::{Origin, Prior};
use super::segment::{Segment, SegmentId};
use super::{LogKind, Place};
use crate::clock::Timestamp;
use crate::event::DestinationName;
use crate::spool::{DeliveryId, DestinationStats, Flow, Lane, Lease, SettleError, Want};

/// The segments of one log.
#[derive(Debug, Default)]
pub(super) struct Track {
    pub(super) segments: BTreeMap<SegmentId, Segment>,
    /// Sequence of the next record.
    pub(super) next_seq: u64,
}

impl Track {
    /// The segment that holds a record.
    pub(super) fn holding(&self, seq: u64) -> Option<&Segment> {
        let until = SegmentId { first: seq, number: u64::MAX };
        let segment = self.segments.range(..=until).next_back()?.1;
        segment.has(seq).then_some(segment)
    }

    pub(super) fn holding_mut(&mut self, seq: u64) -> Option<&mut Segment> {
        let until = SegmentId { first: seq, number: u64::MAX };
        let segment = self.segments.range_mut(..=until).next_back()?.1;
        segment.has(seq).then_some(segment)
    }

    /// Settles a delivery; says whether it was not settled before.
    pub(super) fn set(&mut self, seq: u64, slot: u8) -> bool {
        let Some(segment) = self.holding_mut(seq) else { return false };
        let index = seq - segment.head.first;
        segment.bits.set(index, slot)
    }

    /// Whether a delivery is settled; one of a segment that is gone is.
    pub(super) fn is_set(&self, seq: u64, slot: u8) -> bool {
        self.holding(seq).is_none_or(|of| of.bits.is_set(seq - of.head.first, slot))
    }
}

/// Everything known.
#[derive(Debug, Default)]
pub(super) struct State {
    tracks: [Track; 3],
    pub(super) lines: Vec<Line>,
    by_name: HashMap<DestinationName, usize>,
    pub(super) held: HashMap<u64, Held>,
    tokens: u64,
    /// The last sequence that was there when the store was opened: up to it all is backlog.
    pub(super) boundary: u64,
    pub(super) flow: Flow,
    pub(super) damaged: u64,
    pub(super) closed: bool,
    /// Deliveries that may wait for another attempt, of all lines together.
    pub(super) due_max: usize,
    /// Keyed events with deliveries in `retry/`: their sequences, and the slots in a mask. In
    /// `log/` these deliveries are settled.
    away: BTreeMap<u64, u32>,
    /// Sequences of `log/` whose records are lost: their keys are free.
    pub(super) lost: Vec<Range<u64>>,
    /// Damage that was reported: log, number of the segment, offset.
    damages: BTreeSet<(LogKind, u64, u64)>,
}

impl State {
    pub(super) fn track(&self, log: LogKind) -> &Track {
        &self.tracks[log.index()]
    }

    pub(super) fn track_mut(&mut self, log: LogKind) -> &mut Track {
        &mut self.tracks[log.index()]
    }

    /// The line of a destination, made when there is none.
    pub(super) fn line(&mut self, name: &DestinationName) -> usize {
        if let Some(line) = self.by_name.get(name) {
            return *line;
        }
        self.lines.push(Line::new(name.clone()));
        self.by_name.insert(name.clone(), self.lines.len() - 1);
        self.lines.len() - 1
    }

    /// Nothing will be added to a segment, whose file takes `size` bytes from now on.
    pub(super) fn seal(&mut self, log: LogKind, id: SegmentId, size: u64) {
        if let Some(segment) = self.track_mut(log).segments.get_mut(&id) {
            segment.sealed = true;
            segment.size = size;
            segment.note_dirty = true;
        }
    }

    /// A written record is synced: it has bits, and readers may read it.
    pub(super) fn extend(&mut self, log: LogKind, written: &Written) -> Vec<usize> {
        let track = self.track_mut(log);
        track.next_seq = written.seq + 1;
        let Some(segment) = track.segments.get_mut(&written.segment) else { return Vec::new() };
        segment.bits.push(written.owed);
        segment.end = written.offset + u64::from(written.len);
        let slots = segment.lines.iter().enumerate();
        let lines: Vec<usize> = slots
            .filter(|(slot, _)| written.owed >> slot & 1 == 1)
            .map(|(_, line)| *line)
            .collect();
        for line in &lines {
            self.lines[*line].named = true;
        }
        lines
    }

    /// The place of a record's only delivery.
    pub(super) fn only_place(&self, log: LogKind, written: &Written) -> Place {
        let slot = written.owed.trailing_zeros() as u8;
        Place { log, seq: written.seq, slot, offset: written.offset, len: written.len }
    }

    /// What each line may have waiting for another attempt: those that wait at all share alike, so
    /// that a destination that is down leaves the others theirs.
    pub(super) fn due_max_of_each(&self) -> usize {
        let waiting = self.lines.iter().filter(|line| !line.due.is_empty()).count();
        (self.due_max / waiting.max(1)).max(1)
    }

    /// Puts what is held beyond its time back in line.
    pub(super) fn expire(&mut self, line: usize, now: Timestamp) {
        while let Some(token) = self.lines[line].pop_expired(now) {
            if let Some(held) = self.held.remove(&token) {
                self.lines[line].held -= 1;
                self.lines[line].put_back(held.delivery);
            }
        }
    }

    /// Takes what is ready, as many as `want` says, until then.
    pub(super) fn take(&mut self, line: usize, want: Want, until: Timestamp) -> Vec<Lease> {
        let (mut leases, mut others) = (Vec::new(), want.others);
        while leases.len() < want.max {
            let Some(delivery) = self.lines[line].pop(others > 0) else { break };
            others -= usize::from(delivery.lane != Lane::Live);
            self.tokens += 1;
            let token = self.tokens;
            leases.push(Lease {
                id: delivery.id,
                event: delivery.record.event.clone(),
                attempts: delivery.attempts,
                sent_at: delivery.sent_at,
                lane: delivery.lane,
                until,
                interrupted: false,
                replay_of: delivery.record.replay_of,
                token,
            });
            self.lines[line].hold(token, until);
            self.held.insert(token, Held { delivery, line, until, settling: false });
        }
        leases
    }

    /// The hold that `lease` proves.
    pub(super) fn hold_of(
        &mut self,
        lease: &Lease,
        now: Timestamp,
    ) -> Result<&mut Held, SettleError> {
        match self.held.get_mut(&lease.token) {
            Some(held)
                if held.delivery.id == lease.id
                    && held.until > now
                    && !held.settling
                    && !self.closed =>
            {
                Ok(held)
            }
            Some(_) | None => Err(SettleError::LeaseLost),
        }
    }

    /// Ends a hold, whatever becomes of the delivery.
    pub(super) fn release(&mut self, token: u64) -> Option<(Delivery, usize)> {
        let held = self.held.remove(&token)?;
        let line = &mut self.lines[held.line];
        line.held -= 1;
        line.forget_expiry(held.until, token);
        Some((held.delivery, held.line))
    }

    /// Keeps a hold beyond its time, for it is about to be settled on disk.
    pub(super) fn settle_slowly(&mut self, token: u64) {
        if let Some(held) = self.held.get_mut(&token) {
            held.settling = true;
            let (line, until) = (held.line, held.until);
            self.lines[line].forget_expiry(until, token);
        }
    }

    /// The destination has it.
    pub(super) fn delivered(&mut self, token: u64) {
        let Some((delivery, line)) = self.release(token) else { return };
        self.set(delivery.place.as_prior());
        self.came_to_an_end(&delivery);
        let event = &delivery.record.event;
        self.lines[line].forget_age(event.accepted_at, event.kind);
        self.flow.delivered += 1;
    }

    /// Waits in memory for room to be given up in.
    pub(super) fn wait_for_room(&mut self, token: u64, attempts: u32, due: Timestamp) {
        if let Some(held) = self.held.get_mut(&token) {
            (held.delivery.attempts, held.delivery.sooner) = (attempts, false);
        }
        self.retry(token, due);
    }

    /// Waits in memory for another attempt; the record on disk stays as it is.
    pub(super) fn retry(&mut self, token: u64, due: Timestamp) {
        let Some((delivery, line)) = self.release(token) else { return };
        self.lines[line].wait(due, delivery.id, Waiting::again(&delivery));
    }

    /// Keeps those deliveries that are to be made still, just after a recovery.
    pub(super) fn keep_owed(&self, ids: &mut HashSet<DeliveryId>) {
        let waiting = self.lines.iter().flat_map(|line| line.due.keys().map(|(_, id)| *id));
        let waiting: HashSet<DeliveryId> = waiting.collect();
        let log = self.track(LogKind::Accepted);
        ids.retain(|id| !log.is_set(id.seq(), id.slot()) || waiting.contains(id));
    }

    /// A delivery lies in `retry/` from now on.
    pub(super) fn moved_away(&mut self, delivery: &Delivery) {
        if delivery.record.dedupe.is_some() {
            self.is_away(delivery.origin);
        }
    }

    /// A delivery of a keyed event lies in `retry/`.
    pub(super) fn is_away(&mut self, of: Origin) {
        *self.away.entry(of.seq).or_default() |= 1 << of.slot;
    }

    /// A delivery is over, wherever it lay.
    pub(super) fn came_to_an_end(&mut self, delivery: &Delivery) {
        let Origin { seq, slot, .. } = delivery.origin;
        if let Some(slots) = self.away.get_mut(&seq) {
            *slots &= !(1 << slot);
            if *slots == 0 {
                self.away.remove(&seq);
            }
        }
    }

    /// Whether a delivery of the event at `seq` in `log/` is still owed, those put back in line
    /// later at `replays` included.
    pub(super) fn is_pending(&self, seq: u64, mut replays: impl Iterator<Item = u64>) -> bool {
        let log = self.track(LogKind::Accepted);
        let is_owed = |seq: u64| {
            let segment = log.holding(seq);
            segment.is_some_and(|segment| !segment.unsettled(seq..seq + 1).is_empty())
        };
        is_owed(seq) || replays.any(is_owed) || self.away.contains_key(&seq)
    }

    /// Settles the record that another took over from.
    pub(super) fn set(&mut self, prior: Prior) -> bool {
        self.track_mut(prior.log).set(prior.seq, prior.slot)
    }

    /// A letter is not there any more; says whether it was, and whose.
    fn take_letter(&mut self, letter: Prior) -> Option<&mut Line> {
        let slot = usize::from(letter.slot);
        let line = *self.track(letter.log).holding(letter.seq)?.lines.get(slot)?;
        if !self.set(letter) {
            return None;
        }
        let line = &mut self.lines[line];
        line.dead = line.dead.saturating_sub(1);
        Some(line)
    }

    /// Drops a letter for good; says whether it was there.
    pub(super) fn drop_letter(&mut self, letter: Prior) -> bool {
        let Some(line) = self.take_letter(letter) else { return false };
        line.dropped += 1;
        self.flow.dropped += 1;
        true
    }

    /// Drops every letter of a segment; answers how many there were.
    pub(super) fn drop_letters_of(&mut self, id: SegmentId) -> u64 {
        let Some(segment) = self.tracks[LogKind::Dead.index()].segments.get_mut(&id) else {
            return 0;
        };
        let mut dropped = 0;
        for (slot, line) in (0..).zip(&segment.lines) {
            let letters = segment.bits.unset_of(slot);
            let line = &mut self.lines[*line];
            line.dead = line.dead.saturating_sub(letters);
            line.dropped += letters;
            dropped += letters;
        }
        segment.bits.fill();
        self.flow.dropped += dropped;
        dropped
    }

    /// Whether a delivery waits for its time, and its record at `place` says all there is to say.
    pub(super) fn waits_at(&self, line: usize, key: (Timestamp, DeliveryId), place: Prior) -> bool {
        let waiting = self.lines[line].due.get(&key);
        waiting.is_some_and(|of| of.on_disk && of.place.as_prior() == place)
    }

    /// A letter proved damaged.
    pub(super) fn lose_letter(&mut self, letter: Prior) {
        if self.take_letter(letter).is_some() {
            self.flow.letters_lost += 1;
        }
    }

    /// A letter is in line again; says whether it was there.
    pub(super) fn replay_letter(&mut self, letter: Prior) -> bool {
        self.take_letter(letter).is_some()
    }

    /// What is there for each destination that was ever named, by name.
    pub(super) fn destinations(&self) -> Vec<DestinationStats> {
        let named = self.lines.iter().filter(|line| line.named);
        let mut destinations: Vec<_> = named.map(Line::stats).collect();
        destinations.sort_by(|a, b| a.name.cmp(&b.name));
        destinations
    }

    /// Counts a damaged piece in which the records of `lost` were owed; `false` when it was met
    /// before.
    pub(super) fn take_damage(&mut self, damage: &Damage, lost: Vec<Range<u64>>) -> bool {
        let is_new = self.damages.insert((damage.log, damage.segment.number, damage.from));
        if is_new {
            self.damaged += damage.records();
            if damage.log == LogKind::Accepted {
                self.lost.extend(lost);
            }
        }
        is_new
    }

    /// Whether the record of a key's first event is lost.
    pub(super) fn is_lost(&self, seq: u64) -> bool {
        self.lost.iter().any(|range| range.contains(&seq))
    }

    /// Whether a record of those sequences is lost.
    pub(super) fn is_any_lost(&self, seqs: Range<u64>) -> bool {
        self.lost.iter().any(|range| range.start < seqs.end && seqs.start < range.end)
    }
}
