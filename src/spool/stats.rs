//! What a spool tells of itself.

use super::known::KeyStats;
use crate::clock::Timestamp;
use crate::event::DestinationName;

/// What a spool holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpoolStats {
    /// One entry for each destination that was ever named, by name.
    pub destinations: Vec<DestinationStats>,
    /// Bytes used, of `limit_bytes`.
    pub used_bytes: u64,
    /// Bytes allowed.
    pub limit_bytes: u64,
    /// What this process opened, took in and let go, in deliveries.
    pub flow: Flow,
    /// Records found damaged and set aside since the store was opened.
    pub damaged_records: u64,
    /// Whether new events are refused for want of room.
    pub full: bool,
    /// Dedupe keys.
    pub keys: KeyStats,
    /// Bytes that dead letters take, of `dead_limit_bytes`.
    pub dead_bytes: u64,
    /// Bytes that dead letters may take, beyond which the oldest are dropped.
    pub dead_limit_bytes: u64,
}

impl SpoolStats {
    /// Deliveries that are not settled.
    #[must_use]
    pub fn spooled(&self) -> u64 {
        let spooled =
            |one: &DestinationStats| one.live + one.backlog + one.retrying + one.in_flight;
        self.destinations.iter().map(spooled).sum()
    }

    /// What is missing from the sum of dead letters in [`Flow`]; 0 unless there is a bug.
    #[must_use]
    pub fn letters_difference(&self) -> i64 {
        let flow = &self.flow;
        let letters: u64 = self.destinations.iter().map(|one| one.dead).sum();
        let went = flow.replayed + flow.dropped + flow.letters_lost + letters;
        (flow.letters + flow.dead).cast_signed() - went.cast_signed()
    }

    /// What is missing from the sum of deliveries in [`Flow`]; 0 unless there is a bug.
    #[must_use]
    pub fn difference(&self) -> i64 {
        let flow = &self.flow;
        let came = flow.recovered + flow.stored + flow.replayed;
        let went = flow.delivered + flow.dead + flow.removed + self.spooled();
        came.cast_signed() - went.cast_signed()
    }
}

/// What a spool holds for one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationStats {
    /// The destination.
    pub name: DestinationName,
    /// Deliveries never attempted, or put back, in the live lane.
    pub live: u64,
    /// The same in the backlog lane.
    pub backlog: u64,
    /// Waiting for another attempt.
    pub retrying: u64,
    /// Leased.
    pub in_flight: u64,
    /// Dead letters.
    pub dead: u64,
    /// Dead letters that were dropped since the store was opened.
    pub dropped: u64,
    /// When the oldest that is not settled was accepted.
    pub oldest: Option<Timestamp>,
}

/// Deliveries that passed, since the store was opened. On an embedded store
/// `recovered + stored + replayed = delivered + dead + removed + spooled`, where `spooled` is live,
/// backlog, retrying and in flight of every destination together; and
/// `letters + dead = replayed + dropped + letters lost + dead letters` that are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Waiting when the store was opened; dead letters not counted.
    pub recovered: u64,
    /// Stored by `append`.
    pub stored: u64,
    /// Put back by `replay`.
    pub replayed: u64,
    /// Settled as delivered.
    pub delivered: u64,
    /// Settled as dead letters.
    pub dead: u64,
    /// Set aside as damaged.
    pub removed: u64,
    /// Dead letters that were there when the store was opened.
    pub letters: u64,
    /// Dead letters dropped, by hand or for their age or bytes.
    pub dropped: u64,
    /// Dead letters set aside as damaged.
    pub letters_lost: u64,
}
