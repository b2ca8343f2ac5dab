//! The line of one destination: what of it was read and is ready, what is held, what is due when.
//!
//! A delivery that was not read yet is only counted, in [`Unread`]. Everything else of an unsettled
//! delivery is in exactly one of the queues.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use tokio::sync::{Mutex, Notify};

use super::Place;
use super::aging::Before;
use super::record::{Origin, Record, Sources};
use super::unread::{Reader, Unread};
use crate::clock::Timestamp;
use crate::event::{DestinationName, EventKind};
use crate::spool::{DeliveryId, DestinationStats, FRESH_FOR, FRESH_MAX, Lane, Later};

/// Leases that one destination may hold. Far more than any sensible concurrency.
const HELD_MAX: usize = 65_536;

/// Deliveries looked at for one that may be taken early.
const HASTENED_LOOK: usize = 1024;

/// When a delivery is due, and which it is.
pub(super) type Key = (Timestamp, DeliveryId);

/// A delivery that was read.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) id: DeliveryId,
    pub(super) place: Place,
    pub(super) record: Arc<Record>,
    pub(super) origin: Origin,
    pub(super) attempts: u32,
    pub(super) lane: Lane,
    /// It waits, or waited last, without having been told to.
    pub(super) sooner: bool,
    /// When it was first sent without an answer.
    pub(super) sent_at: Option<Timestamp>,
}

impl Delivery {
    /// Notes what a settlement says besides the time.
    pub(super) fn wait(&mut self, later: Later, sooner: bool) {
        self.attempts = self.attempts.saturating_add(u32::from(later.attempted));
        self.sooner = sooner;
        self.sent_at = self.sent_at.or(later.sent_at);
    }
}

/// A delivery that waits for another attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) place: Place,
    pub(super) attempts: u32,
    pub(super) accepted_at: Timestamp,
    pub(super) kind: EventKind,
    /// Its record says the same, so that a reopen changes nothing.
    pub(super) on_disk: bool,
    pub(super) sooner: bool,
    pub(super) sent_at: Option<Timestamp>,
    /// How often the line had been hastened when the wait began.
    pub(super) round: u32,
}

impl Waiting {
    /// What waits in memory alone.
    pub(super) fn again(delivery: &Delivery) -> Self {
        Self {
            place: delivery.place,
            attempts: delivery.attempts,
            accepted_at: delivery.record.event.accepted_at,
            kind: delivery.record.event.kind,
            on_disk: false,
            sooner: delivery.sooner,
            sent_at: delivery.sent_at,
            round: 0,
        }
    }
}

/// A delivery somebody has.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) delivery: Delivery,
    pub(super) line: usize,
    pub(super) until: Timestamp,
    /// Its settlement is on its way to the disk: it does not expire any more.
    pub(super) settling: bool,
}

/// The line of one destination.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) name: DestinationName,
    /// A record was owed to it at some time.
    pub(super) named: bool,
    pub(super) changed: Arc<Notify>,
    /// Held while reading for this line, so that no two calls read the same.
    pub(super) reading: Arc<Mutex<Sources>>,
    pub(super) unread: Unread,
    ready: [VecDeque<Delivery>; 3],
    pub(super) due: BTreeMap<(Timestamp, DeliveryId), Waiting>,
    expiries: BTreeSet<(Timestamp, u64)>,
    pub(super) held: usize,
    /// When what is in memory was accepted and what it is, with how many there are of each.
    ages: BTreeMap<(Timestamp, EventKind), u32>,
    pub(super) dead: u64,
    /// Letters dropped since the store was opened.
    pub(super) dropped: u64,
    turn: u8,
    /// How often it was hastened.
    round: u32,
    /// Something may still wait from before it was hastened last.
    hastening: bool,
}

impl Line {
    pub(super) fn new(name: DestinationName) -> Self {
        Self {
            name,
            named: false,
            changed: Arc::default(),
            reading: Arc::default(),
            unread: Unread::default(),
            ready: Default::default(),
            due: BTreeMap::new(),
            expiries: BTreeSet::new(),
            held: 0,
            ages: BTreeMap::new(),
            dead: 0,
            dropped: 0,
            turn: 0,
            round: 0,
            hastening: false,
        }
    }

    /// Whether more may be handed out than what is due, if so many may wait for another attempt.
    pub(super) fn takes_new(&self, due_max: usize) -> bool {
        self.due.len() < due_max && self.held < HELD_MAX
    }

    pub(super) fn ready(&self, lane: Lane) -> usize {
        self.ready[lane as usize].len()
    }

    fn live(&self) -> u64 {
        self.unread.count(Reader::Live) + self.ready(Lane::Live) as u64
    }

    /// What is ready, and what is not read yet, is backlog once it waited too long. `tail` is the
    /// sequence that the next record of `log/` gets.
    pub(super) fn age(&mut self, now: Timestamp, tail: u64) {
        self.unread.cut_off(now, tail);
        while let Some(oldest) = self.ready[Lane::Live as usize].front()
            && (now.since(oldest.record.event.accepted_at) >= FRESH_FOR || self.live() > FRESH_MAX)
            && let Some(delivery) = self.ready[Lane::Live as usize].pop_front()
        {
            self.stage(Delivery { lane: Lane::Backlog, ..delivery });
        }
    }

    /// What was tried more often than its record says, or may have arrived without its saying so,
    /// and was read since, waits again: a close then writes that down.
    pub(super) fn wait_again(&mut self, now: Timestamp) {
        for lane in Lane::ALL {
            let ready = std::mem::take(&mut self.ready[lane as usize]);
            for delivery in ready {
                let record = &delivery.record;
                if delivery.attempts > record.attempts || delivery.sent_at != record.sent_at {
                    self.wait(now, delivery.id, Waiting::again(&delivery));
                } else {
                    self.stage(delivery);
                }
            }
        }
    }

    /// A delivery was read and waits to be taken.
    pub(super) fn stage(&mut self, delivery: Delivery) {
        self.ready[delivery.lane as usize].push_back(delivery);
    }

    /// A delivery waits until then.
    pub(super) fn wait(&mut self, due: Timestamp, id: DeliveryId, waiting: Waiting) {
        self.due.insert((due, id), Waiting { round: self.round, ..waiting });
    }

    /// Whatever waits without having been told to may be taken from now on.
    pub(super) const fn hasten(&mut self) {
        self.round = self.round.wrapping_add(1);
        self.hastening = true;
    }

    /// What may be taken though it is not due, the soonest first. Few of many that must wait are
    /// looked at: the rest come when they are due.
    pub(super) fn hastened(&mut self, now: Timestamp, max: usize) -> Vec<(Key, Waiting)> {
        if !self.hastening {
            return Vec::new();
        }
        let later =
            self.due.range((Bound::Excluded((now, DeliveryId(u64::MAX))), Bound::Unbounded));
        let early = |one: &Waiting| one.sooner && one.round != self.round;
        let found = later.take(HASTENED_LOOK).filter(|(_, one)| early(one));
        let found: Vec<_> = found.take(max).map(|(key, one)| (*key, *one)).collect();
        self.hastening = !found.is_empty();
        found
    }

    /// A delivery comes back that was held.
    pub(super) fn put_back(&mut self, delivery: Delivery) {
        self.ready[delivery.lane as usize].push_front(delivery);
    }

    /// The next to be taken, a fresh one unless `others` may be taken.
    ///
    /// Fresh events go first, but for every fourth turn, at which the other lanes take turns: else
    /// a stream of fresh ones that fills the concurrency would keep the rest waiting for ever.
    pub(super) fn pop(&mut self, others: bool) -> Option<Delivery> {
        if self.held >= HELD_MAX {
            return None;
        }
        let order: &[Lane] = match self.turn {
            _ if !others => &[Lane::Live],
            3 => &[Lane::Retry, Lane::Backlog, Lane::Live],
            7 => &[Lane::Backlog, Lane::Retry, Lane::Live],
            0..=2 => &[Lane::Live, Lane::Backlog, Lane::Retry],
            _ => &[Lane::Live, Lane::Retry, Lane::Backlog],
        };
        let ready = &mut self.ready;
        let delivery = order.iter().find_map(|lane| ready[*lane as usize].pop_front())?;
        // Without others no turn is lost to them.
        self.turn = if others { (self.turn + 1) % 8 } else { self.turn };
        Some(delivery)
    }

    pub(super) fn hold(&mut self, token: u64, until: Timestamp) {
        self.held += 1;
        self.expiries.insert((until, token));
    }

    pub(super) fn forget_expiry(&mut self, until: Timestamp, token: u64) {
        self.expiries.remove(&(until, token));
    }

    pub(super) fn pop_expired(&mut self, now: Timestamp) -> Option<u64> {
        let (until, token) = *self.expiries.first()?;
        if until > now {
            return None;
        }
        self.expiries.pop_first();
        Some(token)
    }

    pub(super) fn note_age(&mut self, accepted_at: Timestamp, kind: EventKind) {
        *self.ages.entry((accepted_at, kind)).or_default() += 1;
    }

    pub(super) fn forget_age(&mut self, accepted_at: Timestamp, kind: EventKind) {
        if let Some(count) = self.ages.get_mut(&(accepted_at, kind)) {
            *count -= 1;
            if *count == 0 {
                self.ages.remove(&(accepted_at, kind));
            }
        }
    }

    /// What of it in memory was accepted before then, by kind.
    pub(super) fn aging(&self, before: &Before) -> u64 {
        let latest = before.iter().max().copied().unwrap_or(Timestamp::EPOCH);
        let old = self.ages.iter().take_while(|((at, _), _)| *at < latest);
        let old = old.filter(|((at, kind), _)| *at < before[usize::from(kind.code())]);
        old.map(|(_, count)| u64::from(*count)).sum()
    }

    /// When something becomes takeable by the clock alone, a retry only where `others` may be
    /// taken.
    pub(super) fn next_moment(&self, others: bool) -> Option<Timestamp> {
        let due = self.due.first_key_value().map(|((due, _), _)| *due).filter(|_| others);
        let expiry = self.expiries.first().map(|(until, _)| *until);
        due.into_iter().chain(expiry).min()
    }

    /// The sequences of one log, in `seqs`, that are in memory for this line.
    pub(super) fn in_memory(&self, has: impl Fn(Place) -> bool) -> BTreeSet<u64> {
        let ready = self.ready.iter().flatten().map(|delivery| delivery.place);
        let due = self.due.values().map(|waiting| waiting.place);
        ready.chain(due).filter(|place| has(*place)).map(|place| place.seq).collect()
    }

    pub(super) fn stats(&self) -> DestinationStats {
        DestinationStats {
            name: self.name.clone(),
            live: self.live(),
            backlog: self.unread.count(Reader::Stale)
                + self.unread.count(Reader::Backlog)
                + self.ready(Lane::Backlog) as u64,
            retrying: (self.due.len() + self.ready(Lane::Retry)) as u64,
            in_flight: self.held as u64,
            dead: self.dead,
            dropped: self.dropped,
            oldest: self.ages.first_key_value().map(|((at, _), _)| *at),
        }
    }
}
