//! The dead letters on a shelf.

use std::collections::BTreeSet;
use std::ops::Bound;

use super::super::Settings;
use super::super::claims::Claimed;
use super::{Delivery, Shelf, State, size};
use crate::clock::Timestamp;
use crate::spool::{
    AppendError, DeadLetter, DeadPage, DeadQuery, DeliveryId, Lane, Refusal, Replayed,
};

/// A dead letter and what a replay needs.
#[derive(Debug)]
pub(super) struct Buried {
    pub(super) letter: DeadLetter,
    pub(super) claimed: Option<Claimed>,
    pub(super) bytes: u64,
}

impl Shelf {
    pub(super) fn bury(
        &mut self,
        number: u64,
        mut refusal: Refusal,
        now: Timestamp,
        settings: &Settings,
    ) {
        let Some(delivery) = self.deliveries.remove(&number) else { return };
        refusal.answer.truncate(Refusal::ANSWER_BYTES_MAX);
        let bytes = delivery.bytes + refusal.answer.len() as u64;
        self.used_bytes = self.used_bytes - delivery.bytes + bytes;
        self.dead_bytes += bytes;
        self.flow.dead += 1;
        self.line(&delivery.to).dead += 1;
        self.claims.end(delivery.claimed, refusal.cause, now);
        let letter = DeadLetter {
            id: DeliveryId(number),
            to: delivery.to,
            event: delivery.event,
            attempts: delivery.attempts,
            died_at: now,
            refusal,
        };
        self.dead.insert(number, Buried { letter, claimed: delivery.claimed, bytes });
        while self.dead_bytes > settings.dead_bytes_max
            && let Some(oldest) = self.dead.keys().next().copied()
        {
            tracing::warn!(delivery.id = oldest, "dead letters are over their cap, oldest dropped");
            self.drop_one(oldest);
        }
    }

    fn drop_one(&mut self, number: u64) -> bool {
        let Some(Buried { letter, .. }) = self.unbury(number) else { return false };
        self.line(&letter.to).dropped += 1;
        self.flow.dropped += 1;
        true
    }

    pub(in super::super) fn drop_dead(&mut self, ids: &[DeliveryId]) -> usize {
        ids.iter().filter(|id| !self.closed && self.drop_one(id.0)).count()
    }

    /// Takes a letter off the shelf.
    fn unbury(&mut self, number: u64) -> Option<Buried> {
        let buried = self.dead.remove(&number)?;
        self.used_bytes -= buried.bytes;
        self.full = false;
        self.dead_bytes -= buried.bytes;
        self.line(&buried.letter.to).dead -= 1;
        Some(buried)
    }

    pub(in super::super) fn dead(&self, query: &DeadQuery) -> DeadPage {
        let mut page = DeadPage::default();
        let from = query.after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.0));
        let letters = self.dead.range((from, Bound::Unbounded)).map(|(_, buried)| &buried.letter);
        for letter in letters.filter(|letter| query.filter.takes(letter)) {
            if page.letters.len() >= query.max {
                page.next = page.letters.last().map(|last| last.id).or(query.after);
                break;
            }
            page.letters.push(letter.clone());
        }
        page
    }

    pub(in super::super) fn dead_letter(&self, id: DeliveryId) -> Option<DeadLetter> {
        self.dead.get(&id.0).map(|buried| buried.letter.clone())
    }

    /// What [`Shelf::replay`] would do.
    pub(in super::super) fn foresee(
        &self,
        ids: &[DeliveryId],
        now: Timestamp,
    ) -> Result<Replayed, AppendError> {
        if self.closed {
            return Err(AppendError::Closed);
        }
        let mut replayed = Replayed::default();
        for id in ids.iter().collect::<BTreeSet<_>>() {
            self.is_replayed(*id, now, &mut replayed);
        }
        Ok(replayed)
    }

    /// Counts a letter that is to be put back in line; true of one that may be.
    fn is_replayed(&self, id: DeliveryId, now: Timestamp, replayed: &mut Replayed) -> bool {
        match self.dead.get(&id.0) {
            None => replayed.missing += 1,
            Some(one) if self.claims.is_of_another(one.claimed, now) => replayed.duplicates += 1,
            Some(_) => {
                replayed.replayed += 1;
                return true;
            }
        }
        false
    }

    pub(in super::super) fn replay(
        &mut self,
        ids: &[DeliveryId],
        now: Timestamp,
    ) -> Result<Replayed, AppendError> {
        if self.closed {
            return Err(AppendError::Closed);
        }
        let mut replayed = Replayed::default();
        for id in ids.iter().collect::<BTreeSet<_>>() {
            if !self.is_replayed(*id, now, &mut replayed) {
                continue;
            }
            let Some(Buried { letter, claimed, .. }) = self.unbury(id.0) else { continue };
            self.flow.replayed += 1;
            self.claims.revive(claimed, letter.refusal.cause);
            self.enter(Delivery {
                to: letter.to,
                claimed,
                bytes: size(&letter.event),
                attempts: 0,
                sooner: false,
                sent_at: None,
                lane: Lane::Backlog,
                due: Timestamp::EPOCH,
                replay_of: Some(letter.id),
                state: State::Waiting,
                event: letter.event,
            });
        }
        Ok(replayed)
    }
}
