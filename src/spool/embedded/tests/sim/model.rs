//! The reference: what was answered, and what of it a crash may take back.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::event::{DedupeKey, Event, EventId};
use crate::spool::Appended;

/// How far a delivery has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// Never stored.
    Absent,
    /// To be leased, after so many attempts that the disk knows of.
    Line(u32),
    Delivered,
    Dead(u32),
    Dropped,
}

/// What is found of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Nothing,
    InLine(u32),
    Letter(u32),
}

impl At {
    fn looks_like(self, seen: Seen) -> bool {
        match (self, seen) {
            (Self::Absent | Self::Delivered | Self::Dropped, Seen::Nothing) => true,
            (Self::Line(attempts), Seen::InLine(seen))
            | (Self::Dead(attempts), Seen::Letter(seen)) => attempts == seen,
            (_, _) => false,
        }
    }

    const fn is_ended(self) -> bool {
        matches!(self, Self::Dead(_) | Self::Dropped)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Delivery {
    /// What the running store says.
    pub(super) now: At,
    /// Attempts that the running store says; more than the disk's when a retry waits in memory.
    pub(super) attempts: u32,
    /// Where a crash may bring it back to instead.
    pub(super) or: Vec<At>,
}

#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) event: Arc<Event>,
    pub(super) key: Option<(DedupeKey, u64)>,
    pub(super) at: Timestamp,
    pub(super) to: BTreeMap<u8, Delivery>,
}

impl Stored {
    /// Nothing of it can arrive any more.
    fn is_free(&self) -> bool {
        self.to.values().all(|delivery| delivery.now.is_ended())
    }

    fn is_absent(&self) -> bool {
        self.to.values().all(|delivery| delivery.now == At::Absent)
    }
}

/// A request that was answered, or perhaps stored without an answer.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) print: [u8; 8],
    pub(super) at: Timestamp,
    /// Nothing when it is not known whether it was stored.
    pub(super) answers: Option<Vec<Appended>>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) events: BTreeMap<EventId, Stored>,
    /// In the order they were stored.
    pub(super) order: Vec<EventId>,
    pub(super) requests: BTreeMap<u8, Asked>,
}

impl Model {
    /// The event that has a key now.
    pub(super) fn holder(&self, key: DedupeKey, window_ms: u64, now: Timestamp) -> Option<EventId> {
        let of = |id: &&EventId| {
            let stored = &self.events[*id];
            stored.key == Some((key, window_ms)) && !stored.is_absent()
        };
        let id = self.order.iter().rev().find(of)?;
        let stored = &self.events[id];
        let inside = now.as_millis().saturating_sub(stored.at.as_millis()) < window_ms;
        (inside && !stored.is_free()).then_some(*id)
    }

    pub(super) fn delivery(&mut self, id: EventId, to: u8) -> Option<&mut Delivery> {
        self.events.get_mut(&id)?.to.get_mut(&to)
    }

    /// Everything that was said is on the disk.
    pub(super) fn synced(&mut self) {
        for delivery in self.deliveries() {
            delivery.or.clear();
        }
    }

    /// What waited in memory for another attempt is written by an orderly end.
    pub(super) fn closed(&mut self) {
        for delivery in self.deliveries() {
            delivery.or.clear();
            if let At::Line(attempts) = &mut delivery.now {
                *attempts = delivery.attempts;
            }
        }
    }

    fn deliveries(&mut self) -> impl Iterator<Item = &mut Delivery> {
        self.events.values_mut().flat_map(|stored| stored.to.values_mut())
    }

    /// Compares with what is found after a start, and believes it where either may be. A settled
    /// delivery is believed only after a power cut: before it the page cache shows what the disk
    /// may not have.
    pub(super) fn meet(
        &mut self,
        found: &BTreeMap<(EventId, u8), Seen>,
        after_cut: bool,
    ) -> Result<(), String> {
        for (id, to) in found.keys() {
            if self.delivery(*id, *to).is_none() {
                return Err(format!("{id} to {to} was found and never stored"));
            }
        }
        for (id, stored) in &mut self.events {
            for (to, delivery) in &mut stored.to {
                let seen = found.get(&(*id, *to)).copied().unwrap_or(Seen::Nothing);
                let mut may = vec![delivery.now];
                may.extend_from_slice(&delivery.or);
                let Some(at) = may.iter().find(|at| at.looks_like(seen)) else {
                    return Err(format!("{id} to {to} may be {may:?} and is {seen:?}"));
                };
                delivery.now = *at;
                if after_cut || !matches!(at, At::Delivered | At::Dropped) {
                    delivery.or.clear();
                }
                if let At::Line(attempts) = at {
                    delivery.attempts = *attempts;
                }
            }
        }
        self.order.retain(|id| !self.events[id].is_absent());
        let events = &mut self.events;
        events.retain(|_, stored| !stored.is_absent());
        Ok(())
    }
}
