//! Which keys are taken, by which event or request, and whether that one still counts.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::event::{Dedupe, DedupeKey, EventId, Fingerprint};
use crate::spool::{AppendError, Appended, Cause, EndState, Found, KeyStats, Receipt};

/// The hold of one event on a key, for each of its deliveries to carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claimed {
    key: DedupeKey,
    seq: u64,
}

#[derive(Debug)]
struct Claim {
    seq: u64,
    id: EventId,
    window: Duration,
    fingerprint: Fingerprint,
    owed: usize,
    /// Deliveries that ended without having been delivered. All of them: the key is free.
    dead: usize,
    expired: usize,
    /// When the last of them did.
    at: Timestamp,
}

impl Claim {
    fn end(&self) -> Timestamp {
        self.id.at().after(self.window)
    }

    const fn is_freed(&self) -> bool {
        self.owed > 0 && self.dead + self.expired == self.owed
    }

    const fn ended_by(&mut self, cause: Cause) -> &mut usize {
        match cause {
            Cause::Expired => &mut self.expired,
            Cause::Refused | Cause::UnknownOutcome | Cause::Unsendable | Cause::Invalid => {
                &mut self.dead
            }
        }
    }
}

/// Every key inside its window.
#[derive(Debug, Default)]
pub(super) struct Claims {
    taken: HashMap<DedupeKey, Claim>,
    ends: BTreeSet<(Timestamp, DedupeKey)>,
    requests: HashMap<DedupeKey, Request>,
    request_ends: BTreeSet<(Timestamp, DedupeKey)>,
    /// Forgotten before their windows were over.
    dropped: u64,
}

/// A request that was answered.
#[derive(Debug)]
struct Request {
    id: EventId,
    window: Duration,
    fingerprint: Fingerprint,
    appended: Vec<Appended>,
}

/// Whether an event accepted then still takes its key; counted from the first, end excluded.
pub(super) fn inside(window: Duration, id: EventId, now: Timestamp) -> bool {
    now.since(id.at()) < window
}

impl Claims {
    /// How many there are, and how many had to go.
    pub(super) fn stats(&self, max: usize) -> KeyStats {
        let kept = (self.taken.len() + self.requests.len()) as u64;
        KeyStats { kept, limit: 2 * max as u64, dropped: self.dropped }
    }

    /// The event that has the key of `dedupe`.
    pub(super) fn get(&self, dedupe: &Dedupe, now: Timestamp) -> Option<(EventId, Fingerprint)> {
        let claim = self.taken.get(&dedupe.key)?;
        (!claim.is_freed() && inside(dedupe.window, claim.id, now))
            .then_some((claim.id, claim.fingerprint))
    }

    /// Gives the key to the event `id`, owed to `owed` destinations.
    pub(super) fn put(&mut self, dedupe: &Dedupe, id: EventId, seq: u64, owed: usize) -> Claimed {
        let Dedupe { key, window, fingerprint } = *dedupe;
        let at = Timestamp::EPOCH;
        let claim = Claim { seq, id, window, fingerprint, owed, dead: 0, expired: 0, at };
        self.ends.insert((claim.end(), key));
        if let Some(before) = self.taken.insert(key, claim)
            && before.end() != id.at().after(window)
        {
            self.ends.remove(&(before.end(), key));
        }
        Claimed { key, seq }
    }

    /// What is to be answered to a request whose key is known.
    pub(super) fn request(
        &self,
        request: &Dedupe,
        now: Timestamp,
    ) -> Option<Result<Receipt, AppendError>> {
        let first = self.requests.get(&request.key)?;
        if !inside(request.window, first.id, now) {
            return None;
        }
        if first.fingerprint != request.fingerprint {
            return Some(Err(AppendError::KeyReused));
        }
        Some(Ok(Receipt { appended: first.appended.clone(), repeated: true }))
    }

    /// Keeps what a request was answered.
    pub(super) fn answered(&mut self, request: &Dedupe, appended: &[Appended], now: Timestamp) {
        let Dedupe { key, window, fingerprint } = *request;
        let (id, appended) = (EventId::new(now), appended.to_vec());
        let end = id.at().after(window);
        let request = Request { id, window, fingerprint, appended };
        if let Some(before) = self.requests.insert(key, request) {
            self.request_ends.remove(&(before.id.at().after(before.window), key));
        }
        self.request_ends.insert((end, key));
    }

    /// Forgets the keys whose window is over, and those that end first beyond `max` of each sort.
    pub(super) fn prune(&mut self, now: Timestamp, max: usize) {
        while let Some(&(end, key)) = self.ends.first() {
            if end > now && self.taken.len() <= max {
                break;
            }
            self.dropped += u64::from(end > now);
            self.ends.pop_first();
            self.taken.remove(&key);
        }
        while let Some(&(end, key)) = self.request_ends.first() {
            if end > now && self.requests.len() <= max {
                break;
            }
            self.dropped += u64::from(end > now);
            self.request_ends.pop_first();
            self.requests.remove(&key);
        }
    }

    /// One of the event's deliveries ended without having been delivered.
    pub(super) fn end(&mut self, claimed: Option<Claimed>, cause: Cause, at: Timestamp) {
        if let Some(claim) = self.of(claimed) {
            *claim.ended_by(cause) += 1;
            claim.at = at;
        }
    }

    /// One that had ended so is in line again.
    pub(super) fn revive(&mut self, claimed: Option<Claimed>, cause: Cause) {
        if let Some(claim) = self.of(claimed) {
            let ended = claim.ended_by(cause);
            *ended = ended.saturating_sub(1);
        }
    }

    /// The event that took `key` last, with its hold; whether it is pending is not known here.
    pub(super) fn find(&self, key: DedupeKey, now: Timestamp) -> Option<(Claimed, Found)> {
        let claim = self.taken.get(&key).filter(|claim| inside(claim.window, claim.id, now))?;
        let state = match (claim.dead, claim.expired) {
            (0, 0) => EndState::Delivered,
            (0, _) => EndState::Expired,
            (_, _) => EndState::Dead,
        };
        let at = (state != EndState::Delivered).then_some(claim.at);
        Some((Claimed { key, seq: claim.seq }, Found { id: claim.id, state, at }))
    }

    /// Whether the key is another event's by now, all of whose deliveries did not end undelivered.
    pub(super) fn is_of_another(&self, claimed: Option<Claimed>, now: Timestamp) -> bool {
        let Some(Claimed { key, seq }) = claimed else { return false };
        self.taken.get(&key).is_some_and(|claim| {
            claim.seq != seq && !claim.is_freed() && inside(claim.window, claim.id, now)
        })
    }

    /// The claim, unless it is forgotten or a later event's.
    fn of(&mut self, claimed: Option<Claimed>) -> Option<&mut Claim> {
        let Claimed { key, seq } = claimed?;
        self.taken.get_mut(&key).filter(|claim| claim.seq == seq)
    }
}
