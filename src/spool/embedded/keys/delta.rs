//! What the store has not got yet: new keys and end states in memory.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use bytes::Bytes;

use super::tables::Class;
use super::{KeyEntry, Limits};
use crate::event::DedupeKey;

/// An entry, and the class it was taken in, which says how long it is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Taken {
    pub(super) class: Class,
    pub(super) entry: KeyEntry,
}

/// What a request was answered, kept as long as its key is.
#[derive(Clone, Debug)]
pub(super) struct Answers {
    pub(super) taken: Taken,
    pub(super) bytes: Bytes,
}

/// One event, named by its key and its sequence.
pub(super) type EventKey = (DedupeKey, u64);

/// The slots of an event whose deliveries ended without having been delivered, of those owed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct EndState {
    pub(super) ended: u32,
    pub(super) owed: u32,
}

impl EndState {
    /// Whether nothing of the event can arrive any more, so that its key is free.
    pub(super) const fn is_free(self) -> bool {
        self.owed != 0 && self.ended & self.owed == self.owed
    }
}

/// What became of an event's slots since the layer below was written. Applying it twice does
/// nothing, so a layer may be asked while the one below takes it over.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct EndChange {
    ended: u32,
    revived: u32,
    /// Zero while only a replay was heard of, which does not know it.
    owed: u32,
}

impl EndChange {
    pub(super) const fn apply(self, below: EndState) -> EndState {
        EndState {
            ended: below.ended & !self.revived | self.ended,
            owed: if self.owed == 0 { below.owed } else { self.owed },
        }
    }
}

/// New keys and end states up to a position of the log.
#[derive(Debug, Default)]
pub(super) struct Delta {
    pub(super) keys: HashMap<DedupeKey, Taken>,
    /// What requests were answered; each also has a key.
    pub(super) answers: HashMap<EventKey, Answers>,
    answers_bytes: usize,
    pub(super) ends: HashMap<EventKey, EndChange>,
    /// Everything of the log up to here is in this delta or was in one before.
    pub(super) log_seq: u64,
}

impl Delta {
    /// An empty one that goes on from there.
    pub(super) fn from(log_seq: u64) -> Self {
        Self { log_seq, ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len() + self.ends.len() + self.answers.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether so many more would be too many; never when it is empty.
    pub(super) fn is_full_for(&self, count: usize, limits: &Limits) -> bool {
        let over = self.len() + count > limits.delta_max;
        !self.is_empty() && (over || self.answers_bytes >= limits.answers_bytes_max)
    }

    /// Enters a key, unless a later event has it.
    pub(super) fn put(&mut self, key: DedupeKey, new: Taken) {
        match self.keys.entry(key) {
            Entry::Vacant(vacant) => {
                vacant.insert(new);
            }
            Entry::Occupied(mut taken) if taken.get().entry.seq <= new.entry.seq => {
                taken.insert(new);
            }
            Entry::Occupied(_) => {}
        }
    }

    /// Keeps what the request of that event key was answered.
    pub(super) fn answer(&mut self, event: EventKey, answers: Answers) {
        self.answers_bytes += answers.bytes.len();
        if let Some(before) = self.answers.insert(event, answers) {
            self.answers_bytes -= before.bytes.len();
        }
    }

    pub(super) fn end(&mut self, event: EventKey, slot: u32, owed: u32) {
        let change = self.ends.entry(event).or_default();
        change.ended |= slot;
        change.revived &= !slot;
        change.owed = owed;
    }

    pub(super) fn revive(&mut self, event: EventKey, slot: u32) {
        let change = self.ends.entry(event).or_default();
        change.revived |= slot;
        change.ended &= !slot;
    }
}

/// Of two entries of one key, the later event's.
pub(super) fn later(one: Option<Taken>, other: Option<Taken>) -> Option<Taken> {
    one.into_iter().chain(other).max_by_key(|taken| taken.entry.seq)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_applied_twice_is_applied_once() {
        let event = (DedupeKey([1; 16]), 9);
        let mut delta = Delta::default();
        delta.end(event, 0b0010, 0b1011);
        delta.revive(event, 0b0001);
        let change = delta.ends[&event];
        let below = EndState { ended: 0b1001, owed: 0 };
        let above = change.apply(below);
        assert_eq!(above, EndState { ended: 0b1010, owed: 0b1011 });
        assert_eq!(change.apply(above), above);
        assert!(!above.is_free());
        delta.end(event, 0b0001, 0b1011);
        assert!(delta.ends[&event].apply(below).is_free());
    }

    #[test]
    fn of_one_slot_the_last_word_counts() {
        let event = (DedupeKey([1; 16]), 9);
        let full = EndState { ended: 1, owed: 1 };
        let mut delta = Delta::default();
        delta.revive(event, 1);
        let revived = EndState { ended: 0, owed: 1 };
        assert_eq!(delta.ends[&event].apply(full), revived, "what was owed is still known");
        delta.end(event, 1, 1);
        assert_eq!(delta.ends[&event].apply(EndState::default()), full);
        delta.revive(event, 1);
        assert_eq!(delta.ends[&event].apply(full), revived);
    }

    #[test]
    fn an_event_owed_to_nobody_keeps_its_key() {
        assert!(!EndState::default().is_free());
    }
}
