//! Which keys are taken, by which event, and whether that one still counts.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::event::{Dedupe, DedupeKey, EventId, Fingerprint};

/// A key and the window it was taken with; another window is another key.
type Class = (DedupeKey, Duration);

/// The hold of one event on a key, for each of its deliveries to carry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claimed {
    class: Class,
    seq: u64,
}

#[derive(Debug)]
struct Claim {
    seq: u64,
    id: EventId,
    fingerprint: Fingerprint,
    owed: usize,
    /// Deliveries that ended without having been delivered. All of them: the key is free.
    ended: usize,
}

/// Every key inside its window.
#[derive(Debug, Default)]
pub(super) struct Claims {
    taken: HashMap<Class, Claim>,
    ends: BTreeSet<(Timestamp, Class)>,
}

/// Whether an event accepted then still takes its key; counted from the first, end excluded.
pub(super) fn inside(window: Duration, id: EventId, now: Timestamp) -> bool {
    now.since(id.at()) < window
}

impl Claims {
    /// The event that has the key of `dedupe`.
    pub(super) fn get(&self, dedupe: &Dedupe, now: Timestamp) -> Option<(EventId, Fingerprint)> {
        let claim = self.taken.get(&(dedupe.key, dedupe.window))?;
        let freed = claim.owed > 0 && claim.ended == claim.owed;
        (!freed && inside(dedupe.window, claim.id, now)).then_some((claim.id, claim.fingerprint))
    }

    /// Gives the key to the event `id`, owed to `owed` destinations.
    pub(super) fn put(&mut self, dedupe: &Dedupe, id: EventId, seq: u64, owed: usize) -> Claimed {
        let class = (dedupe.key, dedupe.window);
        let claim = Claim { seq, id, fingerprint: dedupe.fingerprint, owed, ended: 0 };
        if let Some(before) = self.taken.insert(class, claim) {
            self.ends.remove(&(before.id.at().after(dedupe.window), class));
        }
        self.ends.insert((id.at().after(dedupe.window), class));
        Claimed { class, seq }
    }

    /// Forgets the keys whose window is over, and those that end first beyond `max`.
    pub(super) fn prune(&mut self, now: Timestamp, max: usize) {
        while let Some(&(end, class)) = self.ends.first() {
            if end > now && self.taken.len() <= max {
                break;
            }
            self.ends.pop_first();
            self.taken.remove(&class);
        }
    }

    /// One of the event's deliveries ended without having been delivered.
    pub(super) fn end(&mut self, claimed: Option<Claimed>) {
        if let Some(claim) = self.of(claimed) {
            claim.ended += 1;
        }
    }

    /// One that had ended so is in line again.
    pub(super) fn revive(&mut self, claimed: Option<Claimed>) {
        if let Some(claim) = self.of(claimed) {
            claim.ended = claim.ended.saturating_sub(1);
        }
    }

    /// Whether the key is another event's by now, all of whose deliveries did not end undelivered.
    pub(super) fn is_of_another(&self, claimed: Option<Claimed>, now: Timestamp) -> bool {
        let Some(Claimed { class, seq }) = claimed else { return false };
        self.taken.get(&class).is_some_and(|claim| {
            let freed = claim.owed > 0 && claim.ended == claim.owed;
            claim.seq != seq && !freed && inside(class.1, claim.id, now)
        })
    }

    /// The claim, unless it is forgotten or a later event's.
    fn of(&mut self, claimed: Option<Claimed>) -> Option<&mut Claim> {
        let Claimed { class, seq } = claimed?;
        self.taken.get_mut(&class).filter(|claim| claim.seq == seq)
    }
}
