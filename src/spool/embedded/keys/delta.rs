//! What the store has not got yet: new keys and end states in memory.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use bytes::Bytes;

use super::tables::Class;
use super::{KeyEntry, Limits};
use crate::clock::Timestamp;
use crate::event::DedupeKey;
use crate::spool::Cause;

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

/// What became of the deliveries of an event that were not simply delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Ends {
    /// Slots whose deliveries ended without having been delivered, of those owed.
    pub(super) ended: u32,
    /// Of these, the ones that became too old.
    pub(super) expired: u32,
    pub(super) owed: u32,
    /// When the last of them ended.
    pub(super) at: Timestamp,
    /// When something of this was noted last; it is kept for a window from then.
    pub(super) noted: Timestamp,
    /// Slots that were put back in line, with the sequences that they have in `log/` since.
    pub(super) replays: Vec<(u8, u64)>,
}

impl Ends {
    /// Whether nothing of the event can arrive any more, so that its key is free.
    pub(super) const fn is_free(&self) -> bool {
        self.owed != 0 && self.ended & self.owed == self.owed
    }

    /// Whether there is nothing to be kept.
    pub(super) const fn is_empty(&self) -> bool {
        self.ended == 0 && self.replays.is_empty()
    }

    /// How the worst of the deliveries ended, and when the last did; none when none ended so.
    pub(in super::super) const fn worst(&self) -> Option<(Ending, Timestamp)> {
        match (self.ended, self.ended & !self.expired) {
            (0, _) => None,
            (_, 0) => Some((Ending::Expired, self.at)),
            (_, _) => Some((Ending::Dead, self.at)),
        }
    }

    /// The sequences of the deliveries that were put back in line.
    pub(in super::super) fn replays(&self) -> impl Iterator<Item = u64> + '_ {
        self.replays.iter().map(|(_, seq)| *seq)
    }
}

/// How a delivery ended that was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Ending {
    Dead,
    Expired,
}

impl Ending {
    pub(in super::super) const fn of(cause: Cause) -> Self {
        match cause {
            Cause::Expired => Self::Expired,
            Cause::Refused | Cause::UnknownOutcome | Cause::Unsendable | Cause::Invalid => {
                Self::Dead
            }
        }
    }
}

/// What became of an event's slots since the layer below was written. Applying it twice does
/// nothing, so a layer may be asked while the one below takes it over.
#[derive(Clone, Debug, Default)]
pub(super) struct EndChange {
    ended: u32,
    expired: u32,
    revived: u32,
    /// Zero while only a replay was heard of, which does not know it.
    owed: u32,
    at: Timestamp,
    noted: Timestamp,
    replays: Vec<(u8, u64)>,
}

impl EndChange {
    pub(super) fn apply(&self, below: Ends) -> Ends {
        let touched = self.ended | self.revived;
        let kept = below.replays.iter().filter(|(slot, _)| touched >> slot & 1 == 0);
        Ends {
            ended: below.ended & !self.revived | self.ended,
            expired: below.expired & !touched | self.expired,
            owed: if self.owed == 0 { below.owed } else { self.owed },
            at: self.at.max(below.at),
            noted: self.noted.max(below.noted),
            replays: kept.chain(&self.replays).copied().collect(),
        }
    }

    fn end(&mut self, slot: u8, owed: u32, end: Ending, at: Timestamp) {
        let bit = 1 << slot;
        self.ended |= bit;
        self.revived &= !bit;
        self.expired = match end {
            Ending::Dead => self.expired & !bit,
            Ending::Expired => self.expired | bit,
        };
        (self.owed, self.at, self.noted) = (owed, self.at.max(at), self.noted.max(at));
        self.replays.retain(|(of, _)| *of != slot);
    }

    fn revive(&mut self, slot: u8, seq: u64, now: Timestamp) {
        self.noted = self.noted.max(now);
        let bit = 1 << slot;
        self.revived |= bit;
        self.ended &= !bit;
        self.expired &= !bit;
        self.replays.retain(|(of, _)| *of != slot);
        self.replays.push((slot, seq));
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

    pub(super) fn end(&mut self, event: EventKey, slot: u8, owed: u32, end: Ending, at: Timestamp) {
        self.ends.entry(event).or_default().end(slot, owed, end, at);
    }

    pub(super) fn revive(&mut self, event: EventKey, slot: u8, seq: u64, now: Timestamp) {
        self.ends.entry(event).or_default().revive(slot, seq, now);
    }
}

/// Of two entries of one key, the later event's.
pub(super) fn later(one: Option<Taken>, other: Option<Taken>) -> Option<Taken> {
    one.into_iter().chain(other).max_by_key(|taken| taken.entry.seq)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp::from_millis(1_795_000_000_000);

    fn change(steps: impl FnOnce(&mut EndChange)) -> EndChange {
        let mut change = EndChange::default();
        steps(&mut change);
        change
    }

    #[test]
    fn a_change_applied_twice_is_applied_once() {
        let change = change(|of| {
            of.end(1, 0b1011, Ending::Expired, AT);
            of.revive(0, 77, AT);
        });
        let below = Ends { ended: 0b1001, replays: vec![(1, 5), (2, 6)], ..Ends::default() };
        let above = change.apply(below);
        let expected = Ends {
            ended: 0b1010,
            expired: 0b0010,
            owed: 0b1011,
            at: AT,
            noted: AT,
            replays: vec![(2, 6), (0, 77)],
        };
        assert_eq!(above, expected);
        assert_eq!(change.apply(above.clone()), above);
        assert!(!above.is_free());
        assert_eq!(above.worst(), Some((Ending::Dead, AT)), "slot 3 was refused");
    }

    #[test]
    fn of_one_slot_the_last_word_counts() {
        let full = Ends { ended: 1, owed: 1, at: AT, noted: AT, ..Ends::default() };
        let revived = change(|of| of.revive(0, 9, AT)).apply(full.clone());
        assert_eq!((revived.ended, revived.owed), (0, 1), "what was owed is still known");
        assert_eq!((revived.worst(), revived.is_empty()), (None, false));
        let ended = change(|of| {
            of.revive(0, 9, AT);
            of.end(0, 1, Ending::Dead, AT);
        });
        assert_eq!(ended.apply(Ends::default()), full);
        assert_eq!(ended.apply(revived), full, "the replay is over");
        let expired = change(|of| of.end(0, 1, Ending::Expired, AT)).apply(full.clone());
        assert_eq!((expired.worst(), expired.is_free()), (Some((Ending::Expired, AT)), true));
        let again = change(|of| {
            of.end(0, 1, Ending::Expired, AT);
            of.end(0, 1, Ending::Dead, AT);
        });
        assert_eq!(again.apply(Ends::default()), full);
    }

    #[test]
    fn an_event_owed_to_nobody_keeps_its_key() {
        assert!(!Ends::default().is_free());
    }
}
