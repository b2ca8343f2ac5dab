//! What a [`Disk`](super::Disk) holds, and the sums over it. Knows no clock: `now` is handed in.

mod letters;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use self::letters::Buried;
use super::Settings;
use super::claims::{Claimed, Claims, inside};
use super::line::Line;
use crate::clock::Timestamp;
use crate::event::{DedupeKey, DestinationName, Event, EventId, Fingerprint};
use crate::spool::shelf::Notes;
use crate::spool::{
    self, AppendError, Appended, Batch, Cause, DeliveryId, EndState, Flow, Found, Lane, Lease,
    NewEvent, Receipt, Refusal, SettleError, Settlement, SpoolStats, Want,
};

/// Counted for a delivery besides its bytes; about what its entries here take.
const OVERHEAD_BYTES: u64 = 256;

/// How late an acknowledgement reaches the disk, as on the embedded store.
const ACK_WITHIN: Duration = Duration::from_secs(1);

/// Acknowledgements that wait to be noted.
const ACKS_MAX: usize = 4096;

/// Now, by the clock that may be set and by the one that only goes on: holds and waits are
/// measured by the latter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now: Timestamp,
    pub(super) steady: Timestamp,
}

impl Moment {
    fn steady_at(self, due: Timestamp) -> Timestamp {
        self.steady.after(due.since(self.now))
    }
}

/// One event owed to one destination.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) to: DestinationName,
    pub(super) event: Arc<Event>,
    claimed: Option<Claimed>,
    bytes: u64,
    attempts: u32,
    /// It waits without having been told to.
    sooner: bool,
    sent_at: Option<Timestamp>,
    pub(super) lane: Lane,
    pub(super) due: Timestamp,
    replay_of: Option<DeliveryId>,
    pub(super) state: State,
}

#[derive(Debug)]
pub(super) enum State {
    Waiting,
    Held {
        until: Timestamp,
        token: u64,
    },
    /// Settled, which the disk does not know yet.
    Delivered,
}

#[derive(Debug, Default)]
pub(super) struct Shelf {
    opening: u64,
    closed: bool,
    sequence: u64,
    deliveries: BTreeMap<u64, Delivery>,
    dead: BTreeMap<u64, Buried>,
    claims: Claims,
    notes: Notes,
    lines: BTreeMap<DestinationName, Line>,
    unsynced: VecDeque<(Timestamp, u64)>,
    used_bytes: u64,
    dead_bytes: u64,
    /// A batch was refused for want of room, and none was made since.
    full: bool,
    flow: Flow,
}

impl Shelf {
    /// Which opening the disk is in.
    pub(super) const fn opening(&self) -> u64 {
        self.opening
    }

    pub(super) const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Begins a new opening: holds are gone, and so is what the disk had not been told.
    pub(super) fn recover(&mut self) -> u64 {
        self.opening += 1;
        (self.closed, self.full) = (false, false);
        self.unsynced.clear();
        let dead: Vec<(DestinationName, u64)> =
            self.lines.iter().map(|(name, line)| (name.clone(), line.dead)).collect();
        self.lines = dead.into_iter().map(|(name, dead)| (name, Line::of_dead(dead))).collect();
        self.used_bytes = self.dead_bytes;
        let (recovered, letters) = (self.deliveries.len() as u64, self.dead.len() as u64);
        self.flow = Flow { recovered, letters, ..Flow::default() };
        for (number, delivery) in &mut self.deliveries {
            delivery.state = State::Waiting;
            delivery.lane = match delivery.lane {
                Lane::Retry => Lane::Retry,
                Lane::Live | Lane::Backlog => Lane::Backlog,
            };
            self.used_bytes += delivery.bytes;
            self.lines.entry(delivery.to.clone()).or_default().enter(*number, delivery);
        }
        self.opening
    }

    /// Notes the acknowledgements that are old enough.
    pub(super) fn sync_acks(&mut self, now: Timestamp) {
        while let Some((at, number)) = self.unsynced.front() {
            if !self.closed && now.since(*at) < ACK_WITHIN && self.unsynced.len() <= ACKS_MAX {
                break;
            }
            self.deliveries.remove(number);
            self.unsynced.pop_front();
        }
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
        self.sync_acks(Timestamp::EPOCH);
    }

    pub(super) fn append(
        &mut self,
        batch: Batch,
        settings: &Settings,
        now: Timestamp,
    ) -> Result<Receipt, AppendError> {
        if self.closed {
            return Err(AppendError::Closed);
        }
        if let Some(known) = batch.request.as_ref().and_then(|of| self.claims.request(of, now)) {
            return known;
        }
        if batch.events.is_empty() {
            return Ok(Receipt::default());
        }
        let answers = self.judge(&batch, now);
        let events: Vec<(NewEvent, Appended)> = batch.events.into_iter().zip(answers).collect();
        let bytes = events
            .iter()
            .filter(|(_, answer)| matches!(answer, Appended::Stored(_)))
            .map(|(new, _)| size(&new.event) * new.to.len() as u64)
            .sum();
        let limit_bytes = settings.limit_bytes;
        if bytes > limit_bytes {
            return Err(AppendError::TooLarge { bytes, limit_bytes });
        }
        if bytes > 0 && self.used_bytes + bytes > limit_bytes {
            self.full = true;
            return Err(AppendError::Full { used_bytes: self.used_bytes, limit_bytes });
        }
        // Nothing was changed until here, and from here on nothing fails.
        let mut appended = Vec::with_capacity(events.len());
        for (new, answer) in events {
            if let Appended::Stored(_) = answer {
                self.store(new, settings, now);
            }
            appended.push(answer);
        }
        if let Some(request) = &batch.request {
            self.claims.answered(request, &appended, now);
        }
        self.claims.prune(now, settings.keys_max);
        Ok(Receipt { appended, repeated: false })
    }

    /// What becomes of each event, those before it in the batch considered.
    fn judge(&self, batch: &Batch, now: Timestamp) -> Vec<Appended> {
        let mut fresh: HashMap<_, (EventId, Fingerprint)> = HashMap::new();
        let mut answers = Vec::with_capacity(batch.events.len());
        for NewEvent { event, dedupe, .. } in &batch.events {
            let first = dedupe.as_ref().and_then(|dedupe| {
                let inside_batch =
                    fresh.get(&dedupe.key).filter(|(id, _)| inside(dedupe.window, *id, now));
                inside_batch.copied().or_else(|| self.claims.get(dedupe, now))
            });
            answers.push(match first {
                Some((of, fingerprint)) => Appended::Duplicate { of, fingerprint },
                None => Appended::Stored(event.id),
            });
            if let (None, Some(dedupe)) = (first, dedupe) {
                fresh.insert(dedupe.key, (event.id, dedupe.fingerprint));
            }
        }
        answers
    }

    fn store(&mut self, new: NewEvent, settings: &Settings, now: Timestamp) {
        let seq = self.next();
        let claimed = new
            .dedupe
            .as_ref()
            .map(|dedupe| self.claims.put(dedupe, new.event.id, seq, new.to.len()));
        for to in new.to {
            self.flow.stored += 1;
            let delivery = Delivery {
                to,
                claimed,
                bytes: size(&new.event),
                attempts: 0,
                sooner: false,
                sent_at: None,
                lane: new.lane,
                due: Timestamp::EPOCH,
                replay_of: None,
                state: State::Waiting,
                event: new.event.clone(),
            };
            if new.event.fault.is_some() {
                // Nobody can use it: it ends here.
                let number = self.next();
                self.used_bytes += delivery.bytes;
                self.deliveries.insert(number, delivery);
                self.bury(number, Refusal::unanswered(Cause::Invalid), now, settings);
            } else {
                self.enter(delivery);
            }
        }
    }

    fn enter(&mut self, delivery: Delivery) {
        let number = self.next();
        self.used_bytes += delivery.bytes;
        self.lines.entry(delivery.to.clone()).or_default().enter(number, &delivery);
        self.deliveries.insert(number, delivery);
    }

    const fn next(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// Takes what is due, as many as `want` says, until then.
    pub(super) fn lease(
        &mut self,
        to: &DestinationName,
        want: Want,
        moment: Moment,
        until: Timestamp,
    ) -> Vec<Lease> {
        let mut leases = Vec::new();
        let Some(line) = self.lines.get_mut(to) else { return leases };
        expire(line, &mut self.deliveries, moment.steady);
        line.age(&mut self.deliveries, moment.now);
        let mut others = want.others;
        while leases.len() < want.max
            && let Some(number) = line.pop(moment.steady, others > 0)
        {
            let Some(delivery) = self.deliveries.get_mut(&number) else { continue };
            others -= usize::from(delivery.lane != Lane::Live);
            self.sequence += 1;
            delivery.state = State::Held { until, token: self.sequence };
            line.enter(number, delivery);
            leases.push(Lease {
                id: DeliveryId(number),
                event: delivery.event.clone(),
                attempts: delivery.attempts,
                sent_at: delivery.sent_at,
                lane: delivery.lane,
                until,
                interrupted: false,
                replay_of: delivery.replay_of,
                token: self.sequence,
            });
        }
        leases
    }

    /// When the next delivery to `to` becomes due by the clock alone.
    pub(super) fn next_due(&self, to: &DestinationName, want: Want) -> Option<Timestamp> {
        self.lines.get(to)?.next_due(want.others > 0)
    }

    /// Deliveries that were accepted before then, by kind.
    pub(super) fn aging(&self, to: &DestinationName, before: &[Timestamp]) -> u64 {
        let owed = self.deliveries.values().filter(|one| match one.state {
            State::Waiting | State::Held { .. } => one.to == *to,
            State::Delivered => false,
        });
        let old =
            |one: &&Delivery| one.event.accepted_at < before[usize::from(one.event.kind.code())];
        owed.filter(old).count() as u64
    }

    /// Makes due what waits without having been told to.
    pub(super) fn hasten(&mut self, to: &DestinationName, now: Timestamp) {
        let Some(line) = self.lines.get_mut(to) else { return };
        for number in line.waiting() {
            let Some(delivery) = self.deliveries.get_mut(&number) else { continue };
            if delivery.sooner && delivery.due > now {
                line.hurry(number, delivery.due, now);
                delivery.due = now;
            }
        }
    }

    pub(super) fn settle(
        &mut self,
        lease: &Lease,
        settlement: Settlement,
        moment: Moment,
        settings: &Settings,
    ) -> Result<(), SettleError> {
        let Moment { now, steady } = moment;
        let number = lease.id.0;
        let delivery = self.deliveries.get_mut(&number).ok_or(SettleError::LeaseLost)?;
        let line = self.lines.get_mut(&delivery.to).ok_or(SettleError::LeaseLost)?;
        match delivery.state {
            State::Held { until, token }
                if token == lease.token && steady < until && !self.closed =>
            {
                line.release(number, until, delivery.event.accepted_at);
            }
            State::Held { .. } | State::Waiting | State::Delivered => {
                return Err(SettleError::LeaseLost);
            }
        }
        match settlement {
            Settlement::Delivered => {
                delivery.state = State::Delivered;
                self.used_bytes -= delivery.bytes;
                self.full = false;
                self.flow.delivered += 1;
                self.unsynced.push_back((now, number));
            }
            Settlement::RetryAt(_) | Settlement::Later(_) => {
                let Some((later, sooner)) = settlement.wait() else { return Ok(()) };
                delivery.state = State::Waiting;
                delivery.attempts = delivery.attempts.saturating_add(u32::from(later.attempted));
                (delivery.lane, delivery.due) = (Lane::Retry, moment.steady_at(later.due));
                delivery.sooner = sooner;
                delivery.sent_at = delivery.sent_at.or(later.sent_at);
                line.enter(number, delivery);
            }
            Settlement::PutBack => {
                delivery.state = State::Waiting;
                line.enter(number, delivery);
            }
            Settlement::DeadLetter(refusal) => {
                delivery.attempts = delivery.attempts.saturating_add(1);
                self.bury(number, refusal, now, settings);
            }
            Settlement::GivenUp(cause) => {
                self.bury(number, Refusal::unanswered(cause), now, settings);
            }
        }
        Ok(())
    }

    pub(super) fn note(
        &mut self,
        shelf: spool::Shelf,
        key: Bytes,
        value: Option<Bytes>,
    ) -> Result<(), AppendError> {
        if self.closed {
            return Err(AppendError::Closed);
        }
        if let Some(value) = &value {
            for gone in self.notes.make_way(shelf, &key, value)? {
                self.notes.put(shelf, gone, None);
            }
        }
        self.notes.put(shelf, key, value);
        Ok(())
    }

    pub(super) fn notes(
        &self,
        shelf: spool::Shelf,
        after: Option<Bytes>,
        max: usize,
    ) -> Vec<(Bytes, Bytes)> {
        self.notes.list(shelf, after, max)
    }

    /// What became of the event that took `key` last.
    pub(super) fn find(&self, key: DedupeKey, now: Timestamp) -> Option<Found> {
        let (claimed, found) = self.claims.find(key, now)?;
        let is_owed = |of: &Delivery| match of.state {
            State::Waiting | State::Held { .. } => of.claimed == Some(claimed),
            State::Delivered => false,
        };
        let pending = self.deliveries.values().any(is_owed);
        let state = if pending { found.state.max(EndState::Pending) } else { found.state };
        Some(Found { state, ..found })
    }

    fn line(&mut self, to: &DestinationName) -> &mut Line {
        self.lines.entry(to.clone()).or_default()
    }

    pub(super) fn stats(&mut self, settings: &Settings, moment: Moment) -> SpoolStats {
        let mut destinations = Vec::with_capacity(self.lines.len());
        for (name, line) in &mut self.lines {
            expire(line, &mut self.deliveries, moment.steady);
            line.age(&mut self.deliveries, moment.now);
            destinations.push(line.stats(name));
        }
        SpoolStats {
            destinations,
            used_bytes: self.used_bytes,
            limit_bytes: settings.limit_bytes,
            flow: self.flow,
            damaged_records: 0,
            keys: self.claims.stats(settings.keys_max),
            full: self.full,
            dead_bytes: self.dead_bytes,
            dead_limit_bytes: settings.dead_bytes_max,
        }
    }
}

/// Puts back in line what is held beyond its time.
fn expire(line: &mut Line, deliveries: &mut BTreeMap<u64, Delivery>, now: Timestamp) {
    while let Some(number) = line.pop_expired(now) {
        if let Some(delivery) = deliveries.get_mut(&number) {
            delivery.state = State::Waiting;
            line.enter(number, delivery);
        }
    }
}

/// What one delivery of an event counts.
fn size(event: &Event) -> u64 {
    OVERHEAD_BYTES + (event.body.bytes().len() + event.target.len()) as u64
}
