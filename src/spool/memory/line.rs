//! The deliveries owed to one destination, in the order they are taken.

use std::collections::{BTreeMap, BTreeSet};

use super::shelf::{Delivery, State};
use crate::clock::Timestamp;
use crate::event::DestinationName;
use crate::spool::{DestinationStats, FRESH_FOR, FRESH_MAX, Lane};

/// Numbers of deliveries; [`super::shelf::Shelf`] has the deliveries themselves.
#[derive(Debug, Default)]
pub(super) struct Line {
    live: BTreeSet<u64>,
    backlog: BTreeSet<u64>,
    /// By when they are due.
    retry: BTreeSet<(Timestamp, u64)>,
    /// By when the hold ends.
    held: BTreeSet<(Timestamp, u64)>,
    /// All of the above, by acceptance.
    open: BTreeSet<(Timestamp, u64)>,
    pub(super) dead: u64,
    pub(super) dropped: u64,
    turn: u8,
}

impl Line {
    /// A line without deliveries, as a recovery finds it before it enters them.
    pub(super) fn of_dead(dead: u64) -> Self {
        Self { dead, ..Self::default() }
    }

    /// Enters a delivery where its state and lane say.
    pub(super) fn enter(&mut self, number: u64, delivery: &Delivery) {
        self.open.insert((delivery.event.accepted_at, number));
        match (&delivery.state, delivery.lane) {
            (State::Delivered, _) => {
                self.open.remove(&(delivery.event.accepted_at, number));
            }
            (State::Held { until, .. }, _) => {
                self.held.insert((*until, number));
            }
            (State::Waiting, Lane::Live) => {
                self.live.insert(number);
            }
            (State::Waiting, Lane::Backlog) => {
                self.backlog.insert(number);
            }
            (State::Waiting, Lane::Retry) => {
                self.retry.insert((delivery.due, number));
            }
        }
    }

    /// Ends the hold of a delivery; where it goes from there is the caller's to say.
    pub(super) fn release(&mut self, number: u64, until: Timestamp, accepted_at: Timestamp) {
        self.held.remove(&(until, number));
        self.open.remove(&(accepted_at, number));
    }

    /// What waited too long, or lies too far behind the newest, is backlog from now on.
    pub(super) fn age(&mut self, deliveries: &mut BTreeMap<u64, Delivery>, now: Timestamp) {
        while let Some(oldest) = self.live.first().copied() {
            let Some(delivery) = deliveries.get_mut(&oldest) else { break };
            let waited = now.since(delivery.event.accepted_at);
            if waited < FRESH_FOR && self.live.len() as u64 <= FRESH_MAX {
                break;
            }
            delivery.lane = Lane::Backlog;
            self.live.pop_first();
            self.backlog.insert(oldest);
        }
    }

    /// What waits for another attempt.
    pub(super) fn waiting(&self) -> Vec<u64> {
        self.retry.iter().map(|(_, number)| *number).collect()
    }

    /// A delivery that waits is due at another time.
    pub(super) fn hurry(&mut self, number: u64, due: Timestamp, now: Timestamp) {
        self.retry.remove(&(due, number));
        self.retry.insert((now, number));
    }

    /// The next to be sent, a fresh one unless `others` may be taken: fresh ones first, but for
    /// every fourth turn, at which the other lanes take turns.
    pub(super) fn pop(&mut self, now: Timestamp, others: bool) -> Option<u64> {
        let order: &[Lane] = match self.turn {
            _ if !others => &[Lane::Live],
            3 => &[Lane::Retry, Lane::Backlog, Lane::Live],
            7 => &[Lane::Backlog, Lane::Retry, Lane::Live],
            0..=2 => &[Lane::Live, Lane::Backlog, Lane::Retry],
            _ => &[Lane::Live, Lane::Retry, Lane::Backlog],
        };
        let number = order.iter().find_map(|lane| match lane {
            Lane::Live => self.live.pop_first(),
            Lane::Backlog => self.backlog.pop_first(),
            Lane::Retry if self.retry.first().is_some_and(|(due, _)| *due <= now) => {
                self.retry.pop_first().map(|(_, number)| number)
            }
            Lane::Retry => None,
        })?;
        self.turn = if others { (self.turn + 1) % 8 } else { self.turn };
        Some(number)
    }

    /// A delivery whose hold has ended by itself.
    pub(super) fn pop_expired(&mut self, now: Timestamp) -> Option<u64> {
        let (until, _) = self.held.first()?;
        if *until > now { None } else { self.held.pop_first().map(|(_, number)| number) }
    }

    pub(super) fn stats(&self, name: &DestinationName) -> DestinationStats {
        DestinationStats {
            name: name.clone(),
            live: self.live.len() as u64,
            backlog: self.backlog.len() as u64,
            retrying: self.retry.len() as u64,
            in_flight: self.held.len() as u64,
            dead: self.dead,
            dropped: self.dropped,
            oldest: self.open.first().map(|(accepted_at, _)| *accepted_at),
        }
    }

    /// When the next becomes due by the clock alone, a retry only where `others` may be taken.
    pub(super) fn next_due(&self, others: bool) -> Option<Timestamp> {
        let retry = self.retry.first().map(|(due, _)| *due).filter(|_| others);
        let held = self.held.first().map(|(until, _)| *until);
        retry.into_iter().chain(held).min()
    }
}
